// SPDX-License-Identifier: GPL-2.0

//! Protocol data units: RFC 7143, 11.
//!
//! [`Head::of`] reads from any 48 bytes how much follows them; [`parse`] then says what the PDU asks for.
//! Responses are structs in [`response`], written by their `emit`.

use crate::error::{Error, RejectReason};
use crate::sn::CmdSn;
use crate::wire::{Bhs, DataLen, Field, Itt};

pub mod request;
pub mod response;
#[cfg(test)]
mod tests;

pub use request::*;
pub use response::*;

/// What each PDU from an initiator begins with: 11.2.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Six bits.
    pub opcode: u8,
    /// Marked for immediate delivery: it takes no command number.
    pub immediate: bool,
    /// Bytes of additional header segments that follow the header: a multiple of four, up to 1,020.
    pub ahs_len: u16,
    /// Bytes of data that follow those.
    pub data_len: DataLen,
    /// The initiator's tag; it is at the same place in every PDU.
    pub itt: Itt,
}

impl Head {
    /// Reads it. Any 48 bytes have one.
    #[must_use]
    pub fn of(bhs: &Bhs) -> Head {
        let first = u8::get(bhs, 0);
        Head {
            opcode: first & 0x3f,
            immediate: first & 0x40 != 0,
            ahs_len: u16::from(u8::get(bhs, 4)).saturating_mul(4),
            data_len: DataLen::get(bhs, 5),
            itt: Itt::get(bhs, 16),
        }
    }

    /// Checks the lengths before anything is received into memory: `max_data` is the MaxRecvDataSegmentLength that
    /// this target declared, or 8192 before it did so.
    ///
    /// # Errors
    /// A data segment that is too long, or header segments where none may be: the connection is closed, since
    /// skipping what was never agreed on would cost unbounded time.
    pub fn check_lengths(&self, max_data: u32) -> Result<(), Error> {
        if self.data_len.bytes() > max_data {
            return Err(Error::fatal(
                "13.12: data segment longer than MaxRecvDataSegmentLength",
            ));
        }
        if self.ahs_len != 0 && self.opcode != ScsiCommand::OPCODE {
            return Err(Error::format(
                "11.2.2: additional header segments with a PDU that has none",
            ));
        }
        Ok(())
    }
}

/// A request of an initiator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// 11.18
    NopOut(NopOut),
    /// 11.3
    ScsiCommand(ScsiCommand),
    /// 11.5
    Tmf(TmfRequest),
    /// 11.12
    Login(LoginRequest),
    /// 11.10
    Text(TextRequest),
    /// 11.7
    DataOut(DataOut),
    /// 11.14
    Logout(LogoutRequest),
    /// 11.16
    Snack(Snack),
}

impl Request {
    /// The command number that it carries, if it is of a kind that has one.
    #[must_use]
    pub const fn cmd_sn(&self) -> Option<CmdSn> {
        Some(match self {
            Request::NopOut(r) => r.cmd_sn,
            Request::ScsiCommand(r) => r.cmd_sn,
            Request::Tmf(r) => r.cmd_sn,
            Request::Text(r) => r.cmd_sn,
            Request::Logout(r) => r.cmd_sn,
            Request::Login(_) | Request::DataOut(_) | Request::Snack(_) => return None,
        })
    }
}

/// Writes the present window into a response that is sent once more: with that, it is the same (11.16).
pub fn renew(bhs: &mut Bhs, window: Numbers) {
    let stat_sn = Numbers::get(bhs, 24).stat_sn;
    Numbers { stat_sn, ..window }.put(bhs, 24);
}

/// Reads a request and checks what its header alone can tell.
///
/// # Errors
/// What is to be answered. The header's lengths are those of [`Head::of`] all the same, so that a driver that goes
/// on after a Reject can skip the rest of the PDU.
pub fn parse(bhs: &Bhs) -> Result<(Head, Request), Error> {
    let head = Head::of(bhs);
    let request = match head.opcode {
        NopOut::OPCODE => NopOut::parse(&head, bhs).map(Request::NopOut),
        ScsiCommand::OPCODE => ScsiCommand::parse(&head, bhs).map(Request::ScsiCommand),
        TmfRequest::OPCODE => TmfRequest::parse(&head, bhs).map(Request::Tmf),
        LoginRequest::OPCODE => LoginRequest::parse(&head, bhs).map(Request::Login),
        TextRequest::OPCODE => TextRequest::parse(&head, bhs).map(Request::Text),
        DataOut::OPCODE => DataOut::parse(&head, bhs).map(Request::DataOut),
        LogoutRequest::OPCODE => LogoutRequest::parse(&head, bhs).map(Request::Logout),
        Snack::OPCODE => Snack::parse(&head, bhs).map(Request::Snack),
        0x20..=0x3f => Err(Error::fatal(
            "11.2.1.2: a target's opcode from an initiator",
        )),
        _ => Err(Error::reject(
            RejectReason::CommandNotSupported,
            "11.2.1.2: unknown opcode",
        )),
    }?;
    Ok((head, request))
}
