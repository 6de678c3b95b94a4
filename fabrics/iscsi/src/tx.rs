// SPDX-License-Identifier: GPL-2.0

//! The sending half of a connection: PDUs in order, from the pages where their data lies.
//!
//! A PDU is a head (its header, with short data behind it) and, for longer data, a range of a buffer that an owner
//! keeps: a SCSI reply, or a buffer of the connection's own. TCP takes references on all of these pages, so a head
//! is written once and its page is never used again. An owner is let go as soon as TCP has taken its last byte.
//!
//! What waits is a queue of items. The PDUs that TCP gets next are made of them, a bounded number ahead: those of a read
//! are not there before it is their turn.

use crate::{
    data_in::{DataIns, Part},
    digest::{self, Digests},
    ring::Ring,
    Reply,
};
use iscsi_proto::{
    sn::StatSn,
    wire::{Bhs, BHS_LEN},
};
use kernel::{page::PAGE_SIZE, prelude::*, sync::Arc};
use lio_glue::{
    buffer::{Buffer, Crc32c, PageRef},
    socket::{IovSpace, Socket},
};

/// Data that goes into the head itself, in bytes: longer data is an owner's.
pub(crate) const MAX_INLINE: usize = PAGE_SIZE - BHS_LEN - 4 - TAIL;
/// Bytes behind the data: padding and digest.
const TAIL: usize = 8;
/// Data that is copied into its head, in bytes. TCP counts bytes, and holds whole pages: an initiator that reads nothing would
/// have it hold a page for each answer of some bytes.
pub(crate) const SHORT: usize = 512;

/// Answers that wait to be sent, and bytes of them beside what commands read, beyond which nothing is received: the initiator
/// does not read what it asked for.
const MAX_QUEUED: usize = 1024;
const MAX_BUFFERED: usize = 256 << 10;

/// Segments of one call of the socket: some fifteen reads of 64 KiB.
const SEGMENTS: usize = 256;

/// PDUs that are made before TCP takes them.
const AHEAD: usize = 64;
/// Bytes of them that are copied, beyond which no more are made: see [`digest::of_data`].
const MAX_COPIED: usize = 256 << 10;

/// Who keeps the data of PDUs until TCP has it.
enum Owner {
    /// A command's; with the number of its status, if it is kept for when the initiator asks for it again.
    Reply(Reply, Option<StatSn>),
    /// Ours.
    Buffer(KBox<Buffer>),
    /// What was kept, or is.
    Shared(Arc<Buffer>),
}

impl Owner {
    fn data(&self) -> &Buffer {
        match self {
            Owner::Reply(r, _) => r.data(),
            Owner::Buffer(b) => b,
            Owner::Shared(b) => b,
        }
    }
}

struct Pdu {
    // The head's page, and where the head begins in it.
    page: PageRef,
    at: usize,
    // Bytes of the head.
    head: usize,
    // The range of the owner's buffer that follows it.
    off: usize,
    len: usize,
    // In the place of that range: what it was when its digest was taken.
    copy: Option<KBox<Buffer>>,
    // Bytes of padding and digest that follow the data; they lie behind the head.
    tail: usize,
    // Whether it is its owner's last PDU.
    last: bool,
    is_r2t: bool,
    // Bytes that it counts for in `Tx::buffered`.
    counted: usize,
    // Bytes of a read's data in the head.
    short: usize,
}

impl Pdu {
    fn total(&self) -> usize {
        self.head.saturating_add(self.len).saturating_add(self.tail)
    }
}

/// The memory that a buffer of `len` bytes takes: whole pages.
pub(crate) const fn pages(len: usize) -> usize {
    len.next_multiple_of(PAGE_SIZE)
}

/// What waits to be sent.
enum Item {
    /// A PDU with what data it has in its head.
    Pdu(Pdu),
    /// A PDU with a buffer.
    Buffer(Pdu, KBox<Buffer>),
    /// A PDU with a buffer that is kept.
    Shared(Pdu, Arc<Buffer>),
    /// A read.
    Read(Reply, DataIns, Option<StatSn>),
    /// PDUs of a read once more.
    Again(Arc<Buffer>, DataIns),
}

// Each is moved some times, and what is longer than 128 bytes by a call.
const _: () = assert!(size_of::<Option<Item>>() <= 128 && size_of::<Option<Owner>>() <= 32);

/// What is to be sent.
pub(crate) struct Tx {
    page: Option<PageRef>,
    used: usize,
    items: Ring<Item>,
    // The read that PDUs are being made of: it is the newest owner.
    reading: Option<DataIns>,
    // What TCP gets next.
    pdus: Ring<Pdu>,
    // Each owner's PDUs are together, in the order of the owners.
    owners: Ring<Owner>,
    // Bytes of queued PDUs and of their buffers, without reads.
    buffered: usize,
    // Bytes of copies.
    copied: usize,
    // Replies that held memory and were sent since this was asked, and how much that was.
    freed: (usize, u64),
    // What was sent and is kept, with the numbers of the statuses.
    kept: Ring<(StatSn, Buffer)>,
    // Bytes of the first PDU that TCP has.
    sent: usize,
    space: IovSpace,
    digests: Digests,
    /// Bytes of data that were sent, without heads and padding.
    pub(crate) data_octets: u64,
    /// PDUs that were made.
    pub(crate) pdus_made: u64,
    /// R2Ts that were appended, and those that TCP has taken.
    pub(crate) r2ts: u64,
    pub(crate) r2ts_taken: u64,
    /// Bytes that TCP has taken.
    pub(crate) taken: u64,
}

impl Tx {
    pub(crate) fn new() -> Result<Self> {
        Ok(Tx {
            page: None,
            used: 0,
            items: Ring::new(),
            reading: None,
            pdus: Ring::new(),
            owners: Ring::new(),
            buffered: 0,
            copied: 0,
            freed: (0, 0),
            kept: Ring::new(),
            sent: 0,
            space: IovSpace::new(SEGMENTS)?,
            digests: Digests::default(),
            data_octets: 0,
            pdus_made: 0,
            r2ts: 0,
            r2ts_taken: 0,
            taken: 0,
        })
    }

    /// PDUs that are pushed from here on have these digests.
    pub(crate) fn set_digests(&mut self, digests: Digests) {
        self.digests = digests;
    }

    /// Whether all is sent.
    pub(crate) fn is_empty(&self) -> bool {
        self.pdus.is_empty() && !self.more_to_make()
    }

    fn more_to_make(&self) -> bool {
        self.reading.is_some() || !self.items.is_empty()
    }

    /// Whether so much waits to be sent that no more is to be caused.
    pub(crate) fn is_full(&self) -> bool {
        self.items.len() >= MAX_QUEUED || self.buffered >= MAX_BUFFERED
    }

    // A page with room for `len` bytes, and where they begin.
    fn room(&mut self, len: usize) -> Result<(PageRef, usize)> {
        // Each head begins where no cache line is shared with TCP's view of the one before: that costs nothing.
        let used = self.used.next_multiple_of(4);
        if let (Some(page), true) = (&self.page, used.saturating_add(len) <= PAGE_SIZE) {
            self.used = used.saturating_add(len);
            return Ok((page.clone(), used));
        }
        let page = PageRef::alloc(0, false)?;
        self.page = Some(page.clone());
        self.used = len;
        Ok((page, 0))
    }

    // A PDU whose head is `bhs` and `inline`, and whose data are `len` bytes at `off` of an owner's, if there is one; `crc`
    // is theirs.
    fn make(
        &mut self,
        bhs: &Bhs,
        inline: &[&[u8]],
        (off, len, last): (usize, usize, bool),
        mut crc: Crc32c,
    ) -> Result<Pdu> {
        let begin = BHS_LEN.saturating_add(self.digests.header_len());
        let mut head = begin;
        for part in inline {
            head = head.saturating_add(part.len());
        }
        if head > PAGE_SIZE.saturating_sub(TAIL) {
            return Err(EINVAL);
        }
        let (page, at) = self.room(head.saturating_add(TAIL))?;
        page.write_at(at, bhs)?;
        if self.digests.header {
            let digest = digest::bytes(Crc32c::new().over(bhs));
            page.write_at(at.saturating_add(BHS_LEN), &digest)?;
        }
        let mut to = at.saturating_add(begin);
        for part in inline {
            page.write_at(to, part)?;
            if self.digests.data {
                crc = crc.over(part);
            }
            to = to.saturating_add(part.len());
        }
        // A header is a multiple of four.
        let pad = head.saturating_add(len).wrapping_neg() & 3;
        if pad > 0 {
            page.write_at(to, &[0; 4])?;
        }
        let mut tail = pad;
        if self.digests.data && (len > 0 || head > begin) {
            crc = crc.over([0; 4].get(..pad).unwrap_or_default());
            page.write_at(to.saturating_add(pad), &digest::bytes(crc))?;
            tail = tail.saturating_add(self.digests.data_len());
        }
        self.pdus_made = self.pdus_made.wrapping_add(1);
        Ok(Pdu {
            page,
            at,
            head,
            off,
            len,
            copy: None,
            tail,
            last,
            is_r2t: false,
            counted: 0,
            short: 0,
        })
    }

    /// How many replies that held memory were sent since the last call, and how much they held.
    pub(crate) fn take_sent(&mut self) -> (usize, u64) {
        core::mem::take(&mut self.freed)
    }

    /// Appends a PDU with the data `inline`, at most [`MAX_INLINE`] bytes in all.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn push(&mut self, bhs: &Bhs, inline: &[&[u8]]) -> Result {
        self.push_inline(bhs, inline, false)
    }

    /// Appends an R2T.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn push_r2t(&mut self, bhs: &Bhs) -> Result {
        self.push_inline(bhs, &[], true)?;
        self.r2ts = self.r2ts.wrapping_add(1);
        Ok(())
    }

    fn push_inline(&mut self, bhs: &Bhs, inline: &[&[u8]], is_r2t: bool) -> Result {
        self.items.reserve()?;
        let mut pdu = self.make(bhs, inline, (0, 0, false), Crc32c::new())?;
        pdu.is_r2t = is_r2t;
        pdu.counted = pdu.head;
        self.buffered = self.buffered.saturating_add(pdu.counted);
        self.items.push(Item::Pdu(pdu)).map_err(|_| ENOMEM)
    }

    /// Appends a PDU with the first `len` bytes of `buffer`.
    ///
    /// # Errors
    /// `ENOMEM`; `EINVAL`: there are fewer bytes.
    pub(crate) fn push_buffer(&mut self, bhs: &Bhs, buffer: Buffer, len: usize) -> Result {
        if len > buffer.len() {
            return Err(EINVAL);
        }
        let buffer = KBox::new(buffer, GFP_KERNEL)?;
        self.items.reserve()?;
        let crc = match self.digests.data {
            true => buffer.crc32c(Crc32c::new(), 0, len),
            false => Crc32c::new(),
        };
        let mut pdu = self.make(bhs, &[], (0, len, true), crc)?;
        pdu.counted = pdu.head.saturating_add(pages(buffer.len()));
        self.buffered = self.buffered.saturating_add(pdu.counted);
        self.items
            .push(Item::Buffer(pdu, buffer))
            .map_err(|_| ENOMEM)
    }

    /// As [`Self::push_buffer`], of a buffer that is kept.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn push_shared(&mut self, bhs: &Bhs, buffer: Arc<Buffer>) -> Result {
        let len = buffer.len();
        self.items.reserve()?;
        let crc = match self.digests.data {
            true => buffer.crc32c(Crc32c::new(), 0, len),
            false => Crc32c::new(),
        };
        let mut pdu = self.make(bhs, &[], (0, len, true), crc)?;
        pdu.counted = pdu.head.saturating_add(pages(len));
        self.buffered = self.buffered.saturating_add(pdu.counted);
        self.items
            .push(Item::Shared(pdu, buffer))
            .map_err(|_| ENOMEM)
    }

    /// Appends the Data-In PDUs of `reply`, of which there is one at least. With `keep`, its data is there for
    /// [`Self::take_kept`] when it is sent.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn push_read(
        &mut self,
        reply: Reply,
        parts: DataIns,
        keep: Option<StatSn>,
    ) -> Result {
        self.items
            .push(Item::Read(reply, parts, keep))
            .map_err(|_| ENOMEM)
    }

    /// Appends Data-In PDUs of data that was kept, of which there is one at least.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn push_again(&mut self, data: Arc<Buffer>, parts: DataIns) -> Result {
        self.items
            .push(Item::Again(data, parts))
            .map_err(|_| ENOMEM)
    }

    /// The data of a read that was sent, with the number of its status.
    pub(crate) fn take_kept(&mut self) -> Option<(StatSn, Buffer)> {
        self.kept.pop()
    }

    /// A reply that was to be sent, and will not be: nothing is any more. With the number of its status.
    pub(crate) fn take_unsent(&mut self) -> Option<(Reply, Option<StatSn>)> {
        self.pdus = Ring::new();
        self.reading = None;
        while let Some(owner) = self.owners.pop() {
            if let Owner::Reply(reply, keep) = owner {
                return Some((reply, keep));
            }
        }
        while let Some(item) = self.items.pop() {
            if let Item::Read(reply, _, keep) = item {
                return Some((reply, keep));
            }
        }
        None
    }

    // The next PDU of a read, the newest owner's. Without memory, nothing has changed.
    fn make_part(&mut self, parts: DataIns) -> Result<Pdu> {
        let mut rest = parts.clone();
        let part = rest.next().ok_or(EINVAL)?;
        let place = (part.off, part.len, part.last);
        let have = self.owners.back().map_or(0, |o| o.data().len());
        if part.off.checked_add(part.len).is_none_or(|end| end > have) {
            return Err(EINVAL);
        }
        let pdu = match (self.digests.data, self.owners.back()) {
            _ if part.len <= SHORT => self.make_short(&part),
            (true, Some(owner)) => {
                digest::of_data(owner.data(), part.off, part.len).and_then(|(crc, copy)| {
                    let mut pdu = self.make(&part.bhs, &[], place, crc)?;
                    self.copied = self
                        .copied
                        .saturating_add(copy.as_ref().map_or(0, |c| c.len()));
                    pdu.copy = copy;
                    Ok(pdu)
                })
            }
            _ => self.make(&part.bhs, &[], place, Crc32c::new()),
        };
        self.reading = match &pdu {
            Ok(_) if part.last => None,
            Ok(_) => Some(rest),
            Err(_) => Some(parts),
        };
        pdu
    }

    // One with its data in its head. Not on the stack on which commands are executed.
    #[inline(never)]
    fn make_short(&mut self, part: &Part) -> Result<Pdu> {
        let mut room = [0; SHORT];
        let short = room.get_mut(..part.len).ok_or(EINVAL)?;
        if let Some(owner) = self.owners.back() {
            owner.data().read_at(part.off, short);
        }
        let mut pdu = self.make(&part.bhs, &[short], (0, 0, part.last), Crc32c::new())?;
        pdu.short = part.len;
        Ok(pdu)
    }

    // Makes the PDUs that TCP gets next.
    fn make_ahead(&mut self) -> Result {
        while self.pdus.len() < AHEAD && self.copied < MAX_COPIED && self.more_to_make() {
            self.pdus.reserve()?;
            self.owners.reserve()?;
            let pdu = match self.reading.take() {
                Some(parts) => self.make_part(parts)?,
                None => match self.items.pop() {
                    Some(Item::Pdu(pdu)) => pdu,
                    Some(Item::Buffer(pdu, buffer)) => {
                        self.owners
                            .push(Owner::Buffer(buffer))
                            .map_err(|_| ENOMEM)?;
                        pdu
                    }
                    Some(Item::Shared(pdu, buffer)) => {
                        self.owners
                            .push(Owner::Shared(buffer))
                            .map_err(|_| ENOMEM)?;
                        pdu
                    }
                    Some(Item::Again(data, parts)) => {
                        self.owners.push(Owner::Shared(data)).map_err(|_| ENOMEM)?;
                        self.reading = Some(parts);
                        continue;
                    }
                    Some(Item::Read(reply, parts, keep)) => {
                        let owner = Owner::Reply(reply, keep);
                        self.owners.push(owner).map_err(|_| ENOMEM)?;
                        self.reading = Some(parts);
                        continue;
                    }
                    None => break,
                },
            };
            self.pdus.push(pdu).map_err(|_| ENOMEM)?;
        }
        Ok(())
    }

    /// Hands TCP as much as it takes; returns whether that was all.
    ///
    /// # Errors
    /// The connection is broken.
    pub(crate) fn flush(&mut self, sock: &Socket) -> Result<bool> {
        loop {
            match self.make_ahead() {
                // There is no memory for more: what there is goes first, and gives memory back.
                Err(e) if e != ENOMEM || self.pdus.is_empty() => return Err(e),
                _ if self.pdus.is_empty() => return Ok(true),
                _ => {}
            }
            let more = self.more_to_make();
            let mut iov = self.space.begin();
            let mut skip = self.sent;
            let mut owner = 0;
            let mut i = 0;
            let mut full = false;
            while let Some(pdu) = self.pdus.get(i) {
                // The head, the data and what follows it, each less what is sent already.
                let n = skip.min(pdu.head);
                let at = pdu.at.saturating_add(n);
                skip = skip.saturating_sub(n);
                if !iov.page(&pdu.page, at, pdu.head.saturating_sub(n)) {
                    full = true;
                    break;
                }
                let n = skip.min(pdu.len);
                skip = skip.saturating_sub(n);
                let want = pdu.len.saturating_sub(n);
                if want > 0 {
                    let got = match &pdu.copy {
                        Some(copy) => iov.buffer(copy, n, want),
                        None => self
                            .owners
                            .get(owner)
                            .map_or(0, |o| iov.buffer(o.data(), pdu.off.saturating_add(n), want)),
                    };
                    if got < want {
                        full = true;
                        break;
                    }
                }
                let n = skip.min(pdu.tail);
                skip = 0;
                let at = pdu.at.saturating_add(pdu.head).saturating_add(n);
                if !iov.page(&pdu.page, at, pdu.tail.saturating_sub(n)) {
                    full = true;
                    break;
                }
                if pdu.last {
                    owner = owner.saturating_add(1);
                }
                i = i.saturating_add(1);
            }
            if iov.is_empty() {
                return Err(EIO);
            }
            let want = iov.len();
            let got = match sock.send(&iov, full || more) {
                Ok(n) => n,
                Err(e) if e == EAGAIN => return Ok(false),
                Err(e) => return Err(e),
            };
            self.advance(got);
            if got < want {
                return Ok(false);
            }
        }
    }

    fn advance(&mut self, n: usize) {
        self.taken = self.taken.wrapping_add(n as u64);
        let mut left = self.sent.saturating_add(n);
        while let Some(pdu) = self.pdus.get(0) {
            let total = pdu.total();
            if left < total {
                break;
            }
            left = left.saturating_sub(total);
            let (len, last) = (pdu.len.saturating_add(pdu.short), pdu.last);
            self.r2ts_taken = self.r2ts_taken.wrapping_add(pdu.is_r2t.into());
            if let Some(copy) = &pdu.copy {
                self.copied = self.copied.saturating_sub(copy.len());
            }
            self.buffered = self.buffered.saturating_sub(pdu.counted);
            self.data_octets = self.data_octets.wrapping_add(len as u64);
            self.pdus.pop();
            if last {
                match self.owners.pop() {
                    Some(Owner::Reply(mut r, keep)) => {
                        let held = r.request().memory;
                        if let Some(sn) = keep {
                            // Without memory, it is not kept.
                            let _ = self.kept.push((sn, r.take_data()));
                        }
                        r.sent();
                        if held > 0 {
                            self.freed.0 = self.freed.0.saturating_add(1);
                            self.freed.1 = self.freed.1.saturating_add(held);
                        }
                    }
                    Some(Owner::Buffer(_) | Owner::Shared(_)) | None => {}
                }
            }
        }
        self.sent = left;
    }
}
