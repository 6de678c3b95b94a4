// SPDX-License-Identifier: GPL-2.0

//! PDUs as they come in: the header, then its data into where it belongs.

use super::{
    checked::Whole,
    ffp::{End, Ffp},
    parking::Parked,
};
use crate::rx::{Filled, STAGE};
use iscsi_proto::{
    ffp::admits,
    pdu::{self, DataOut, Head, Request, TextRequest},
    wire::{Bhs, Itt, BHS_LEN},
};
use kernel::prelude::*;
use lio_glue::buffer::Buffer;

/// What is being received.
pub(super) enum Input {
    /// A header, with its additional segments.
    Header,
    /// The data segment of a PDU.
    Data(Data),
}

/// A data segment that is coming in.
pub(super) struct Data {
    pub(super) to: To,
    /// Where the next byte goes, and how many bytes do.
    pub(super) off: usize,
    pub(super) keep: usize,
    /// Bytes that follow and go nowhere: excess and padding.
    pub(super) skip: usize,
    /// A digest follows that is checked.
    pub(super) check: bool,
}

/// Where data goes, and what follows when it is there. It is moved with each PDU: what is seldom and large has a box.
pub(super) enum To {
    /// Nowhere.
    Nothing,
    /// Into the buffer of the write command with this index.
    Write(u16),
    /// Into a buffer that is sent back, with the request's tag.
    Ping(KBox<(Itt, Buffer)>),
    /// Into the text of the connection.
    Text(KBox<(TextRequest, Bhs)>),
    /// Into what waits for commands of other connections.
    Park(KBox<Parked>),
    /// Into memory of its own, until its digest has been checked.
    Whole(KBox<Whole>),
}

// What is longer than 128 bytes is moved by a call.
const _: () = assert!(size_of::<Input>() <= 64);

impl Input {
    /// The index of the write command for which a PDU is coming in: whatever it says, not all of its data is there.
    pub(super) fn of_write(&self) -> Option<u16> {
        match self {
            Input::Data(Data {
                to: To::Write(index),
                ..
            }) => Some(*index),
            _ => None,
        }
    }
}

impl Data {
    /// What still comes of it is thrown away.
    pub(super) fn discard(&mut self) {
        self.to = To::Nothing;
        self.skip = self.skip.saturating_add(self.keep);
        self.keep = 0;
    }

    /// A whole data segment that is thrown away.
    pub(super) fn nothing(head: &Head) -> Self {
        Data {
            to: To::Nothing,
            off: 0,
            keep: 0,
            skip: head.data_len.padded() as usize,
            check: false,
        }
    }

    /// The data segment of `head`, of which `keep` bytes go to `off`.
    pub(super) fn new(to: To, head: &Head, off: usize, keep: usize) -> Self {
        Data {
            to,
            off,
            keep,
            skip: (head.data_len.padded() as usize).saturating_sub(keep),
            check: false,
        }
    }
}

impl Ffp {
    /// Receives the next PDU, or as much of it as is there; false if more must come first.
    pub(super) fn receive(&mut self) -> Result<bool, End> {
        match core::mem::replace(&mut self.input, Input::Header) {
            Input::Header => self.receive_header(),
            Input::Data(data) => {
                let r = self.receive_data(data);
                // A long PDU is on its way, whatever it is for: what comes behind it has to wait.
                self.writes.heard = self.writes.heard.max(self.timers.last_heard());
                r
            }
        }
    }

    // Has at least `n` bytes in the stage; false if they are not there yet.
    pub(super) fn want(&mut self, n: usize) -> Result<bool, End> {
        while self.link.rx.available() < n {
            // While data comes with each PDU, what follows the header is not for the stage.
            let limit = if self.streaming { n } else { STAGE };
            let need = n.saturating_sub(self.link.rx.available());
            match self.link.fill(None, limit, need)? {
                Filled::Got(..) => {}
                Filled::Nothing => return Ok(false),
                Filled::End => return Err(End::Lost),
            }
        }
        Ok(true)
    }

    fn receive_header(&mut self) -> Result<bool, End> {
        let digest_len = self.digests.header_len();
        if !self.want(BHS_LEN.saturating_add(digest_len))? {
            return Ok(false);
        }
        let mut bhs = [0; BHS_LEN];
        self.link.rx.peek(0, &mut bhs);
        let head = Head::of(&bhs);
        if self.digests.header && !self.check_header(&head)? {
            return Ok(false);
        }
        if let Err(wrong) = head.check_lengths(self.parameters.max_recv) {
            self.reject(&bhs, &wrong)?;
            return Ok(true);
        }
        let ahs_len = usize::from(head.ahs_len);
        if !self.want(BHS_LEN.saturating_add(ahs_len))? {
            return Ok(false);
        }
        self.link.rx.skip(BHS_LEN);
        self.streaming = head.data_len.bytes() > 0;
        let mut room;
        let ahs = match ahs_len {
            0 => &[][..],
            n => {
                room = [0; 1020];
                let ahs = room.get_mut(..n).unwrap_or_default();
                self.link.rx.take(ahs);
                ahs
            }
        };
        self.link.rx.skip(digest_len);
        self.timers.heard();
        let parsed = pdu::parse(&bhs).and_then(|(_, request)| {
            admits(self.kind, self.parameters.recovery_level, &request)?;
            Ok(request)
        });
        let checked = self.digests.data && self.streaming;
        let mut data = match parsed {
            Ok(request)
                if head.opcode == DataOut::OPCODE
                    || !checked && self.early(&head, &request).is_none() =>
            {
                self.arrange(&bhs, &head, ahs, &request)?
            }
            Ok(_) => self.whole(&head, ahs)?,
            Err(wrong) => {
                self.reject(&bhs, &wrong)?;
                let mut data = Data::nothing(&head);
                if checked {
                    data.skip = data.skip.saturating_add(self.digests.data_len());
                }
                return self.receive_data(data);
            }
        };
        if checked {
            self.link.rx.begin_crc();
            data.check = true;
        }
        if checked || matches!(data.to, To::Whole(_)) {
            self.header = bhs;
        }
        self.receive_data(data)
    }

    /// Executes a request; returns where its data goes.
    pub(super) fn request(
        &mut self,
        bhs: &Bhs,
        head: &Head,
        ahs: &[u8],
        request: &Request,
    ) -> Result<Data, End> {
        let data = match request {
            Request::ScsiCommand(r) => self.scsi_command(bhs, head, ahs, r),
            Request::DataOut(r) => self.data_out(bhs, head, r),
            Request::NopOut(r) => self.nop_out(bhs, head, r),
            Request::Tmf(r) => self.manage(bhs, head, r),
            Request::Text(r) => self.text_request(bhs, head, r),
            Request::Logout(r) => self.logout(bhs, head, r),
            Request::Snack(r) => self.snack(bhs, head, r),
            // `admits` refuses it.
            Request::Login(_) => Ok(Data::nothing(head)),
        };
        Ok(data?)
    }

    fn receive_data(&mut self, mut data: Data) -> Result<bool, End> {
        while data.keep > 0 || data.skip > 0 {
            if self.closing {
                return Ok(true);
            }
            let buffer = match &data.to {
                To::Write(i) => self.writes.buffer(*i),
                To::Ping(ping) => Some(&ping.1),
                To::Park(parked) => parked.buffer(),
                To::Whole(whole) => Some(&whole.buffer),
                To::Text(..) | To::Nothing => None,
            };
            let staged;
            if data.keep > 0 {
                staged = match (&data.to, buffer) {
                    (To::Text(..), _) => self.texts.take(&mut self.link.rx, data.off, data.keep),
                    (_, Some(buffer)) => self.link.rx.copy(buffer, data.off, data.keep),
                    // The command has gone: its data goes nowhere.
                    (_, None) => {
                        data.skip = data.skip.saturating_add(data.keep);
                        data.keep = 0;
                        continue;
                    }
                };
                data.off = data.off.saturating_add(staged);
                data.keep = data.keep.saturating_sub(staged);
            } else {
                staged = self.link.rx.skip(data.skip);
                data.skip = data.skip.saturating_sub(staged);
            }
            if staged > 0 {
                continue;
            }
            let direct = buffer
                .filter(|_| data.keep > 0)
                .map(|b| (b, data.off, data.keep));
            // What has no buffer goes through the stage, as much of it at once as finds room there.
            let staged = match direct {
                Some(_) => data.skip,
                None => data.keep.saturating_add(data.skip),
            };
            let digest = match data.check {
                true => self.digests.data_len(),
                false => 0,
            };
            let next = BHS_LEN.saturating_add(self.digests.header_len());
            let limit = staged.saturating_add(digest).saturating_add(next);
            // Nothing else can come before the rest of this PDU has.
            let need = data.keep.saturating_add(data.skip).saturating_add(digest);
            match self.link.fill(direct, limit, need)? {
                Filled::Got(n, _) => {
                    self.timers.heard();
                    data.off = data.off.saturating_add(n);
                    data.keep = data.keep.saturating_sub(n);
                }
                Filled::Nothing => {
                    self.input = Input::Data(data);
                    return Ok(false);
                }
                Filled::End => return Err(End::Lost),
            }
        }
        if data.check {
            if !self.want(self.digests.data_len())? {
                self.input = Input::Data(data);
                return Ok(false);
            }
            if !self.check_data() {
                self.wrong_data(data.to)?;
                return Ok(true);
            }
        }
        if let To::Whole(whole) = data.to {
            return self.unpack(whole);
        }
        self.arrived(data.to)?;
        Ok(true)
    }

    /// The data of a PDU is there.
    pub(super) fn arrived(&mut self, to: To) -> Result {
        match to {
            To::Nothing | To::Whole(_) => Ok(()),
            To::Write(index) => self.go_on(index),
            To::Ping(ping) => self.answer_ping(ping),
            To::Text(text) => self.text_complete(&text.1, &text.0),
            To::Park(parked) => self.park(parked),
        }
    }
}
