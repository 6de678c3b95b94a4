// SPDX-License-Identifier: GPL-2.0

//! What a target sends: RFC 7143, 11.4, 11.6, 11.7, 11.8, 11.9, 11.11, 11.13, 11.15, 11.17, 11.19.

use super::{LoginFlags, TextFlags};
use crate::error::RejectReason;
use crate::sn::{CmdSn, DataSn, R2tSn, StatSn};
use crate::wire::{flags, pdu, Bhs, DataLen, Field, Isid, Itt, Lun, Tsih, Ttt};

/// The three numbers that go with each response: 11.4.8 to 11.4.10.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Number of this response. R2T and unasked NOP-In carry the next one without using it up; Data-In without
    /// status carries 0.
    pub stat_sn: StatSn,
    /// The next command number that the target expects.
    pub exp_cmd_sn: CmdSn,
    /// The last command number that the target takes.
    pub max_cmd_sn: CmdSn,
}

impl Field for Numbers {
    fn get(bhs: &Bhs, at: usize) -> Self {
        Numbers {
            stat_sn: Field::get(bhs, at),
            exp_cmd_sn: Field::get(bhs, at.saturating_add(4)),
            max_cmd_sn: Field::get(bhs, at.saturating_add(8)),
        }
    }

    fn put(self, bhs: &mut Bhs, at: usize) {
        self.stat_sn.put(bhs, at);
        self.exp_cmd_sn.put(bhs, at.saturating_add(4));
        self.max_cmd_sn.put(bhs, at.saturating_add(8));
    }
}

pdu! {
    /// NOP-In: 11.19. The answer to a ping, or the target's own.
    NopIn = 0x20, 0x80, {
        /// Bytes of ping data: as many as came.
        data_len: DataLen = 5,
        /// For the target's own ping: a unit.
        lun: Lun = 8,
        /// The ping's tag, or [`Itt::NONE`].
        itt: Itt = 16,
        /// [`Ttt::NONE`] unless an answer is wanted.
        ttt: Ttt = 20,
        /// Numbers.
        sn: Numbers = 24,
    }
}

flags! {
    /// Byte 1 of a SCSI response: 11.4.1.
    ResponseFlags {
        /// o: residual overflow of the read part of a bidirectional command.
        bidi_overflow, with_bidi_overflow = 0x10,
        /// u: residual underflow of the read part of a bidirectional command.
        bidi_underflow, with_bidi_underflow = 0x08,
        /// O: residual overflow.
        overflow, with_overflow = 0x04,
        /// U: residual underflow.
        underflow, with_underflow = 0x02,
    }
}

pdu! {
    /// SCSI response: 11.4. Its data is two bytes of sense length and the sense, see [`sense_len`].
    ScsiResponse = 0x21, 0x80, {
        /// Flags.
        flags: ResponseFlags = 1,
        /// 0: the command was completed at the target; 1: target failure.
        response: u8 = 2,
        /// SCSI status.
        status: u8 = 3,
        /// Bytes of data.
        data_len: DataLen = 5,
        /// The command's tag.
        itt: Itt = 16,
        /// 0 without SNACK.
        snack_tag: u32 = 20,
        /// Numbers.
        sn: Numbers = 24,
        /// How many Data-In PDUs (for reads) or R2Ts (for writes) were sent.
        exp_data_sn: DataSn = 36,
        /// Residual of the read part of a bidirectional command, in bytes.
        bidi_residual: u32 = 40,
        /// Residual in bytes.
        residual: u32 = 44,
    }
}

/// The two bytes that come before the sense data in the data segment of a SCSI response: 11.4.7.
#[must_use]
pub const fn sense_len(len: u16) -> [u8; 2] {
    len.to_be_bytes()
}

pdu! {
    /// Task management function response: 11.6.
    TmfResponse = 0x22, 0x80, {
        /// See [`crate::ffp::TmfAnswer`].
        response: u8 = 2,
        /// The request's tag.
        itt: Itt = 16,
        /// Numbers.
        sn: Numbers = 24,
    }
}

pdu! {
    /// Login response: 11.13.
    LoginResponse = 0x23, 0, {
        /// Flags and stages.
        flags: LoginFlags = 1,
        /// Highest version that the target speaks: 0.
        version_max: u8 = 2,
        /// The version that is spoken: 0.
        version_active: u8 = 3,
        /// Bytes of text.
        data_len: DataLen = 5,
        /// The request's.
        isid: Isid = 8,
        /// The request's, but for the last response of a new session: what the target gives it.
        tsih: Tsih = 14,
        /// The request's.
        itt: Itt = 16,
        /// Numbers; the status number counts only with status class 0.
        sn: Numbers = 24,
        /// Status class (high byte) and detail (low byte): 11.13.5, see [`crate::login::Status`].
        status: u16 = 36,
    }
}

pdu! {
    /// Text response: 11.11.
    TextResponse = 0x24, 0, {
        /// Flags.
        flags: TextFlags = 1,
        /// Bytes of text.
        data_len: DataLen = 5,
        /// Belongs to the transfer tag.
        lun: Lun = 8,
        /// The request's.
        itt: Itt = 16,
        /// [`Ttt::NONE`] with F, else what the next request repeats.
        ttt: Ttt = 20,
        /// Numbers.
        sn: Numbers = 24,
    }
}

flags! {
    /// Byte 1 of a Data-In PDU: 11.7.1, 11.7.2, 11.7.4.
    DataInFlags {
        /// F: the last of its sequence.
        last, with_last = 0x80,
        /// A: an acknowledgement is wanted; never at error recovery level 0.
        acknowledge, with_acknowledge = 0x40,
        /// O: residual overflow.
        overflow, with_overflow = 0x04,
        /// U: residual underflow.
        underflow, with_underflow = 0x02,
        /// S: the status is in here; no SCSI response follows.
        status, with_status = 0x01,
    }
}

pdu! {
    /// SCSI Data-In: 11.7.
    DataIn = 0x25, 0, {
        /// Flags.
        flags: DataInFlags = 1,
        /// SCSI status, with S.
        status: u8 = 3,
        /// Bytes of data.
        data_len: DataLen = 5,
        /// Only with A.
        lun: Lun = 8,
        /// The command's tag.
        itt: Itt = 16,
        /// [`Ttt::NONE`] without A.
        ttt: Ttt = 20,
        /// Numbers; the status number counts only with S.
        sn: Numbers = 24,
        /// Number in the command, from 0.
        data_sn: DataSn = 36,
        /// Where in the command's data it belongs, in bytes.
        offset: u32 = 40,
        /// Residual in bytes, with S.
        residual: u32 = 44,
    }
}

pdu! {
    /// Logout response: 11.15.
    LogoutResponse = 0x26, 0x80, {
        /// 0 closed, 1 connection not found, 2 recovery not supported, 3 cleanup failed.
        response: u8 = 2,
        /// The request's tag.
        itt: Itt = 16,
        /// Numbers.
        sn: Numbers = 24,
        /// Seconds before a new login.
        time2wait: u16 = 40,
        /// Seconds that tasks are kept.
        time2retain: u16 = 42,
    }
}

pdu! {
    /// Ready to transfer: 11.8.
    R2t = 0x31, 0x80, {
        /// The command's.
        lun: Lun = 8,
        /// The command's tag.
        itt: Itt = 16,
        /// What the data PDUs repeat.
        ttt: Ttt = 20,
        /// Numbers; the status number is the next one and is not used up.
        sn: Numbers = 24,
        /// Number in the command, from 0.
        r2t_sn: R2tSn = 36,
        /// Where in the command's data the wanted part begins, in bytes.
        offset: u32 = 40,
        /// Bytes that are wanted, not 0.
        length: u32 = 44,
    }
}

/// What an asynchronous message is about: 11.9.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum AsyncEvent {
    /// A SCSI event; the data segment is as in a SCSI response.
    Scsi = 0,
    /// The target asks for a logout within `parameter3` seconds.
    LogoutRequest = 1,
    /// The target drops connection `parameter1`.
    ConnectionDrop = 2,
    /// The target drops all connections of the session.
    SessionDrop = 3,
    /// The target asks for a negotiation within `parameter3` seconds.
    Negotiate = 4,
}

impl Field for AsyncEvent {
    fn get(bhs: &Bhs, at: usize) -> Self {
        match u8::get(bhs, at) {
            0 => AsyncEvent::Scsi,
            1 => AsyncEvent::LogoutRequest,
            2 => AsyncEvent::ConnectionDrop,
            3 => AsyncEvent::SessionDrop,
            _ => AsyncEvent::Negotiate,
        }
    }

    fn put(self, bhs: &mut Bhs, at: usize) {
        (self as u8).put(bhs, at);
    }
}

pdu! {
    /// Asynchronous message: 11.9.
    Async = 0x32, 0x80, {
        /// Bytes of sense data with their length.
        data_len: DataLen = 5,
        /// Logical unit of a SCSI event.
        lun: Lun = 8,
        /// Always [`Itt::NONE`].
        itt: Itt = 16,
        /// Numbers.
        sn: Numbers = 24,
        /// What it is about.
        event: AsyncEvent = 36,
        /// Vendor's code.
        vendor: u8 = 37,
        /// Meaning by event.
        parameter1: u16 = 38,
        /// Meaning by event.
        parameter2: u16 = 40,
        /// Meaning by event.
        parameter3: u16 = 42,
    }
}

impl Field for RejectReason {
    fn get(bhs: &Bhs, at: usize) -> Self {
        use RejectReason::*;
        match u8::get(bhs, at) {
            0x02 => DataDigest,
            0x03 => Snack,
            0x05 => CommandNotSupported,
            0x06 => TooManyImmediate,
            0x07 => TaskInProgress,
            0x08 => InvalidDataAck,
            0x09 => InvalidPduField,
            0x0a => LongOperation,
            0x0c => WaitingForLogout,
            _ => ProtocolError,
        }
    }

    fn put(self, bhs: &mut Bhs, at: usize) {
        (self as u8).put(bhs, at);
    }
}

pdu! {
    /// Reject: 11.17. Its data is the 48 bytes of the header that is rejected.
    Reject = 0x3f, 0x80, {
        /// Why.
        reason: RejectReason = 2,
        /// 48.
        data_len: DataLen = 5,
        /// Always [`Itt::NONE`].
        itt: Itt = 16,
        /// Numbers.
        sn: Numbers = 24,
        /// For a rejected Data-Out: the next number that was expected.
        data_sn: DataSn = 36,
    }
}

impl Reject {
    /// The Reject of the PDU whose header, 48 bytes, the driver sends as its data.
    #[must_use]
    pub fn new(reason: RejectReason, sn: Numbers) -> Self {
        Reject {
            reason,
            data_len: DataLen::at_most(crate::wire::BHS_LEN),
            itt: Itt::NONE,
            sn,
            data_sn: DataSn(0),
        }
    }
}
