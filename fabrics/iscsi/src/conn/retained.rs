// SPDX-License-Identifier: GPL-2.0

//! What was sent on a connection at error recovery level 1 and not acknowledged: responses, and the data of reads, for when the
//! initiator asks for them again (RFC 7143, 4.2.2.2, 11.16).

use crate::{
    memory::{Account, Budget, Kind},
    ring::Ring,
    tx::pages,
};
use iscsi_proto::{
    pdu::{Head, ScsiResponse},
    sn::StatSn,
    transfer::Read,
    wire::{Bhs, Itt, Lun, Ttt, BHS_LEN},
};
use kernel::{prelude::*, sync::Arc};
use lio_glue::buffer::Buffer;

/// Responses that are kept. The oldest is forgotten for a new one.
const MAX_KEPT: usize = 1024;
/// Bytes of their data, and of reads', that are kept. What finds no room is not kept, nor in what all sessions have for reads.
const MAX_BYTES: u64 = 4 << 20;

/// The data of a response.
pub(super) enum Held {
    /// In its PDU: there may be none.
    Text(KVec<u8>),
    Buffer(Arc<Buffer>),
    /// Of the read that it ends.
    Read(Sent),
    /// There was no room.
    Gone,
}

/// The Data-In PDUs of a read.
pub(super) struct Sent {
    pub(super) read: Read,
    /// The last one asks to be acknowledged.
    pub(super) acknowledge: Option<(Lun, Ttt)>,
    pub(super) data: Kept,
}

/// What there is of it.
pub(super) enum Kept {
    /// TCP does not have all of it yet.
    Coming,
    There(Arc<Buffer>),
    /// It is acknowledged.
    Acknowledged,
    /// There was no room.
    Gone,
}

/// A response.
pub(super) struct Entry {
    pub(super) bhs: Bhs,
    pub(super) held: Held,
}

impl Entry {
    // Bytes that it counts for.
    fn bytes(&self) -> u64 {
        let n = match &self.held {
            Held::Text(text) => text.len(),
            Held::Buffer(buffer) => pages(buffer.len()),
            Held::Gone => 0,
            Held::Read(sent) => match &sent.data {
                Kept::There(data) => pages(data.len()),
                _ => 0,
            },
        };
        n as u64
    }
}

/// The responses of a connection, without a gap in their numbers.
pub(super) struct Retained {
    entries: Ring<Entry>,
    oldest: StatSn,
    account: Account,
    bytes: u64,
}

impl Retained {
    pub(super) fn new(budget: &Arc<Budget>, next: StatSn) -> Self {
        Retained {
            entries: Ring::new(),
            oldest: next,
            account: Account::without_floor(budget, Kind::Read),
            bytes: 0,
        }
    }

    /// The number of the oldest response that is kept; of the next one, if none is.
    pub(super) fn oldest(&self) -> StatSn {
        self.oldest
    }

    pub(super) fn get(&mut self, sn: StatSn) -> Option<&mut Entry> {
        self.entries.get_mut(sn.since(self.oldest) as usize)
    }

    /// The read with this tag, the newest one; and the number of its status.
    pub(super) fn find(&mut self, itt: Itt) -> Option<(StatSn, &mut Entry)> {
        let is = |e: &Entry| matches!(e.held, Held::Read(_)) && itt_of(&e.bhs) == itt;
        let n = self.entries.len();
        let i = (0..n)
            .rev()
            .find(|&i| self.entries.get(i).is_some_and(is))?;
        let sn = self.oldest.plus(u32::try_from(i).ok()?);
        Some((sn, self.entries.get_mut(i)?))
    }

    /// The response to the SCSI command with this tag, the newest one; whether all of it is there.
    pub(super) fn has_response(&self, itt: Itt) -> Option<bool> {
        let entry = self.entries.get(self.place_of(itt)?)?;
        Some(match &entry.held {
            Held::Gone => false,
            Held::Read(sent) => matches!(sent.data, Kept::There(_) | Kept::Acknowledged),
            Held::Text(_) | Held::Buffer(_) => true,
        })
    }

    fn place_of(&self, itt: Itt) -> Option<usize> {
        let is = |e: &Entry| {
            let head = Head::of(&e.bhs);
            head.opcode == ScsiResponse::OPCODE && head.itt == itt
        };
        let mut places = (0..self.entries.len()).rev();
        places.find(|&i| self.entries.get(i).is_some_and(is))
    }

    /// Whether there are such responses.
    pub(super) fn has_responses(&self) -> bool {
        let is = |e: &Entry| Head::of(&e.bhs).opcode == ScsiResponse::OPCODE;
        (0..self.entries.len()).any(|i| self.entries.get(i).is_some_and(is))
    }

    /// Takes it out.
    pub(super) fn take_response(&mut self, itt: Itt) -> Option<Entry> {
        let place = self.place_of(itt)?;
        let entry = self.entries.get_mut(place)?;
        // Its number stays taken.
        let gone = Entry {
            bhs: [0; BHS_LEN],
            held: Held::Gone,
        };
        let entry = core::mem::replace(entry, gone);
        self.give_room(entry.bytes());
        Some(entry)
    }

    fn take_room(&mut self, bytes: u64) -> bool {
        let all = self.bytes.saturating_add(bytes);
        if bytes > 0 && (all > MAX_BYTES || !self.account.take(bytes)) {
            return false;
        }
        self.bytes = all;
        true
    }

    fn give_room(&mut self, bytes: u64) {
        if bytes > 0 {
            self.bytes = self.bytes.saturating_sub(bytes);
            self.account.give(bytes);
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(entry) = self.entries.pop() {
            self.give_room(entry.bytes());
            self.oldest = self.oldest.next();
        }
    }

    /// Keeps the response with the number `sn`, if there is room for its data.
    pub(super) fn keep(&mut self, sn: StatSn, mut entry: Entry) {
        if self.entries.len() >= MAX_KEPT {
            self.forget_oldest();
        }
        let next = u32::try_from(self.entries.len()).unwrap_or(0);
        if self.oldest.plus(next) != sn {
            self.clear(sn);
        }
        let mut bytes = entry.bytes();
        if !self.take_room(bytes) {
            entry.held = Held::Gone;
            bytes = 0;
        }
        if self.entries.push(entry).is_err() {
            self.give_room(bytes);
            // What follows must not seem to be it.
            self.clear(sn.next());
        }
    }

    fn clear(&mut self, next: StatSn) {
        while !self.entries.is_empty() {
            self.forget_oldest();
        }
        self.oldest = next;
    }

    /// The data of the read whose status has this number has been sent.
    pub(super) fn attach(&mut self, sn: StatSn, data: Buffer) {
        let bytes = pages(data.len()) as u64;
        if !matches!(
            self.get(sn),
            Some(Entry {
                held: Held::Read(_),
                ..
            })
        ) {
            return;
        }
        let room = self.take_room(bytes);
        let data = match room.then(|| Arc::new(data, GFP_KERNEL)) {
            Some(Ok(data)) => Kept::There(data),
            Some(Err(_)) => {
                self.give_room(bytes);
                Kept::Gone
            }
            None => Kept::Gone,
        };
        if let Some(Entry {
            held: Held::Read(sent),
            ..
        }) = self.get(sn)
        {
            sent.data = data;
        }
    }

    /// The initiator has all data of the read whose status has this number.
    pub(super) fn data_acknowledged(&mut self, sn: StatSn) {
        let bytes = self.get(sn).map_or(0, |e| e.bytes());
        self.give_room(bytes);
        if let Some(Entry {
            held: Held::Read(sent),
            ..
        }) = self.get(sn)
        {
            sent.data = Kept::Acknowledged;
        }
    }

    /// The initiator has all responses before `next`.
    pub(super) fn acknowledge(&mut self, next: StatSn) {
        while !self.entries.is_empty() && self.oldest.before(next) {
            self.forget_oldest();
        }
    }
}

fn itt_of(bhs: &Bhs) -> Itt {
    iscsi_proto::pdu::Head::of(bhs).itt
}
