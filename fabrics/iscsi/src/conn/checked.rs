// SPDX-License-Identifier: GPL-2.0

//! Digests of what comes in (RFC 7143, 7.8, 13.1).
//!
//! A PDU whose data has a wrong digest is discarded, as if it had not come. Data-Out goes where it belongs all the same: the
//! command that it is for is not executed with it. What is a request of its own is kept apart until it is known to be right.

use super::{
    ffp::{End, Ffp},
    receive::{Data, To},
};
use crate::{digest, stats::SessionFailure};
use iscsi_proto::{
    digest::LEN,
    pdu::{self, DataOut, Head},
    text::TEXT_MAX,
    wire::{Bhs, BHS_LEN},
};
use kernel::prelude::*;
use lio_glue::buffer::Buffer;

/// A request with data, while that comes in. One at a time, with as much of its data as any request takes.
pub(super) struct Whole {
    ahs: KVec<u8>,
    pub(super) buffer: Buffer,
}

impl Ffp {
    /// Whether the header in the stage, of which the basic segment is there, has all come. It is not looked at before its
    /// digest has been: as to its lengths that cannot be helped, but they are no more than 1,020 bytes.
    ///
    /// # Errors
    /// With a wrong digest the lengths may be wrong, and nothing else says where the next PDU begins: the connection ends.
    pub(super) fn check_header(&mut self, head: &Head) -> Result<bool, End> {
        let len = BHS_LEN.saturating_add(head.ahs_len.into());
        if !self.want(len.saturating_add(LEN))? {
            return Ok(false);
        }
        let mut said = [0; LEN];
        self.link.rx.peek(len, &mut said);
        if digest::bytes(self.link.rx.crc(len)) == said {
            return Ok(true);
        }
        self.count_digest_error();
        self.count_failure(SessionFailure::Digest);
        Err(End::Stopped("7.8: the header digest of a PDU does not fit"))
    }

    /// Whether the digest in the stage is that of the data that was taken; takes it.
    pub(super) fn check_data(&mut self) -> bool {
        let is = digest::bytes(self.link.rx.end_crc());
        let mut said = [0; LEN];
        self.link.rx.take(&mut said) && said == is
    }

    /// Discards a PDU whose data, which is there, has a wrong digest.
    pub(super) fn wrong_data(&mut self, to: To) -> Result {
        self.count_digest_error();
        let bhs = self.header;
        let head = Head::of(&bhs);
        let level = self.parameters.recovery_level;
        self.reject(&bhs, &iscsi_proto::digest::wrong_data(&head, level))?;
        match to {
            To::Write(index) if head.opcode == DataOut::OPCODE => {
                self.writes.spoil(index);
                self.go_on(index)
            }
            To::Park(mut parked) => {
                parked.spoil();
                self.park(parked)
            }
            _ => Ok(()),
        }
    }

    fn count_digest_error(&self) {
        if let Some(session) = &self.session {
            session.private().digest_errors.inc();
        }
    }

    /// The data of a request comes first, then the request is looked at.
    pub(super) fn whole(&mut self, head: &Head, ahs: &[u8]) -> Result<Data> {
        let most = self.parameters.first_burst.max(super::request::MAX_PING);
        let keep = head.data_len.bytes().min(most.max(TEXT_MAX as u32)) as usize;
        let mut more = KVec::with_capacity(ahs.len(), GFP_KERNEL)?;
        more.extend_from_slice(ahs, GFP_KERNEL)?;
        let buffer = match Buffer::alloc(keep, false) {
            Ok(buffer) => buffer,
            // The request fails when its digest is known to be right.
            Err(_) => Buffer::new(),
        };
        let keep = buffer.len();
        let whole = KBox::new(Whole { ahs: more, buffer }, GFP_KERNEL)?;
        Ok(Data::new(To::Whole(whole), head, 0, keep))
    }

    /// A request is there with all of its data.
    pub(super) fn unpack(&mut self, whole: KBox<Whole>) -> Result<bool, End> {
        let bhs = self.header;
        if let Ok((head, request)) = pdu::parse(&bhs) {
            if let Some(cmd_sn) = self.early(&head, &request) {
                self.wait_for_turn(cmd_sn, &bhs, whole)?;
                return Ok(true);
            }
        }
        let to = self.deliver(&bhs, &whole)?;
        self.arrived(to)?;
        Ok(true)
    }

    /// Looks at a request and copies its data to where it belongs.
    pub(super) fn deliver(&mut self, bhs: &Bhs, whole: &Whole) -> Result<To, End> {
        // It was parsed when its header came.
        let Ok((head, request)) = pdu::parse(bhs) else {
            return Ok(To::Nothing);
        };
        let data = self.arrange(bhs, &head, &whole.ahs, &request)?;
        let keep = data.keep;
        match &data.to {
            To::Write(index) if keep > whole.buffer.len() => self.refuse_write(*index),
            _ if keep > whole.buffer.len() => return Err(End::Broken(ENOMEM)),
            To::Write(index) => {
                if let Some(buffer) = self.writes.buffer(*index) {
                    buffer.copy_from(data.off, &whole.buffer, 0, keep);
                }
            }
            To::Ping(ping) => {
                ping.1.copy_from(data.off, &whole.buffer, 0, keep);
            }
            To::Text(..) => self.texts.put_buffer(&whole.buffer, data.off, keep),
            To::Park(parked) => {
                if let Some(buffer) = parked.buffer() {
                    buffer.copy_from(data.off, &whole.buffer, 0, keep);
                }
            }
            To::Nothing | To::Whole(_) => {}
        }
        Ok(data.to)
    }
}
