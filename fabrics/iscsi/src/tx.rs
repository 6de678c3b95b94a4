// SPDX-License-Identifier: GPL-2.0

//! The sending half of a connection: PDUs in order, from the pages where their data lies.
//!
//! A PDU is a head (its header, with short data behind it) and, for longer data, a range of a buffer that an owner
//! keeps: a SCSI reply, or a buffer of the connection's own. TCP takes references on all of these pages, so a head
//! is written once and its page is never used again. An owner is let go as soon as TCP has taken its last byte.

use crate::{ring::Ring, Reply};
use iscsi_proto::wire::{Bhs, BHS_LEN};
use kernel::{page::PAGE_SIZE, prelude::*};
use lio_glue::{
    buffer::{Buffer, PageRef},
    socket::{IovSpace, Socket},
};

/// Data that goes into the head itself, in bytes: longer data is an owner's.
pub(crate) const MAX_INLINE: usize = PAGE_SIZE - BHS_LEN - 4;

/// PDUs, and bytes of the connection's own buffers, that wait to be sent, beyond which nothing is received: the initiator
/// does not read what it asked for.
const MAX_QUEUED: usize = 4096;
const MAX_BUFFERED: usize = 1 << 20;

/// Segments of one call of the socket: some fifteen reads of 64 KiB.
const SEGMENTS: usize = 256;

/// Who keeps the data of PDUs until TCP has it.
pub(crate) enum Owner {
    /// A command's.
    Reply(Reply),
    /// Ours.
    Buffer(Buffer),
}

impl Owner {
    fn data(&self) -> &Buffer {
        match self {
            Owner::Reply(r) => r.data(),
            Owner::Buffer(b) => b,
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
    // Bytes of zeroes that follow the data; they lie behind the head.
    pad: usize,
    // Whether it is its owner's last PDU.
    last: bool,
}

impl Pdu {
    fn total(&self) -> usize {
        self.head.saturating_add(self.len).saturating_add(self.pad)
    }
}

/// What is to be sent.
pub(crate) struct Tx {
    page: Option<PageRef>,
    used: usize,
    pdus: Ring<Pdu>,
    // Each owner's PDUs are together, in the order of the owners.
    owners: Ring<Owner>,
    // Bytes that the owners that are ours have.
    buffered: usize,
    // Bytes of the first PDU that TCP has.
    sent: usize,
    space: IovSpace,
    /// Bytes of data that were sent, without heads and padding.
    pub(crate) data_octets: u64,
    /// PDUs that were queued.
    pub(crate) pdus_queued: u64,
}

impl Tx {
    pub(crate) fn new() -> Result<Self> {
        Ok(Tx {
            page: None,
            used: 0,
            pdus: Ring::new(),
            owners: Ring::new(),
            buffered: 0,
            sent: 0,
            space: IovSpace::new(SEGMENTS)?,
            data_octets: 0,
            pdus_queued: 0,
        })
    }

    /// Whether all is sent.
    pub(crate) fn is_empty(&self) -> bool {
        self.pdus.is_empty()
    }

    /// Whether so much waits to be sent that no more is to be caused.
    pub(crate) fn is_full(&self) -> bool {
        self.pdus.len() >= MAX_QUEUED || self.buffered >= MAX_BUFFERED
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

    fn add(
        &mut self,
        bhs: &Bhs,
        inline: &[&[u8]],
        pdu: impl FnOnce(PageRef, usize, usize) -> Pdu,
    ) -> Result {
        let mut head = BHS_LEN;
        for part in inline {
            head = head.saturating_add(part.len());
        }
        if head > PAGE_SIZE.saturating_sub(4) {
            return Err(EINVAL);
        }
        let (page, at) = self.room(head.saturating_add(4))?;
        page.write_at(at, bhs)?;
        let mut to = at.saturating_add(BHS_LEN);
        for part in inline {
            page.write_at(to, part)?;
            to = to.saturating_add(part.len());
        }
        let pdu = pdu(page, at, head);
        if pdu.pad > 0 {
            pdu.page.write_at(to, &[0; 4])?;
        }
        self.pdus.push(pdu).map_err(|_| ENOMEM)?;
        self.pdus_queued = self.pdus_queued.wrapping_add(1);
        Ok(())
    }

    /// Appends a PDU with the data `inline`, at most [`MAX_INLINE`] bytes in all.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn push(&mut self, bhs: &Bhs, inline: &[&[u8]]) -> Result {
        self.add(bhs, inline, |page, at, head| Pdu {
            page,
            at,
            head,
            off: 0,
            len: 0,
            pad: head.wrapping_neg() & 3,
            last: false,
        })
    }

    /// Appends the owner of the data of the PDUs that [`Self::push_data`] appends next, at least one of them.
    ///
    /// # Errors
    /// The owner comes back where there is no memory.
    pub(crate) fn own(&mut self, owner: Owner) -> Result<(), Owner> {
        let bytes = match &owner {
            Owner::Reply(_) => 0,
            Owner::Buffer(b) => b.len(),
        };
        self.owners.push(owner)?;
        self.buffered = self.buffered.saturating_add(bytes);
        Ok(())
    }

    /// Appends a PDU whose data are `len` bytes at `off` of the newest owner's. `last`: the owner has no further ones.
    ///
    /// # Errors
    /// `ENOMEM`: the connection can only be closed, since an owner's PDUs are missing. `EINVAL`: the owner has less data.
    pub(crate) fn push_data(&mut self, bhs: &Bhs, off: usize, len: usize, last: bool) -> Result {
        let have = self.owners.back().map_or(0, |o| o.data().len());
        if off.checked_add(len).is_none_or(|end| end > have) {
            return Err(EINVAL);
        }
        self.add(bhs, &[], |page, at, head| Pdu {
            page,
            at,
            head,
            off,
            len,
            pad: len.wrapping_neg() & 3,
            last,
        })
    }

    /// Hands TCP as much as it takes; returns whether that was all.
    ///
    /// # Errors
    /// The connection is broken.
    pub(crate) fn flush(&mut self, sock: &Socket) -> Result<bool> {
        while !self.pdus.is_empty() {
            let mut iov = self.space.begin();
            let mut skip = self.sent;
            let mut owner = 0;
            let mut i = 0;
            let mut full = false;
            while let Some(pdu) = self.pdus.get(i) {
                // The head, the data and the padding, each less what is sent already.
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
                    let got = self
                        .owners
                        .get(owner)
                        .map_or(0, |o| iov.buffer(o.data(), pdu.off.saturating_add(n), want));
                    if got < want {
                        full = true;
                        break;
                    }
                }
                let n = skip.min(pdu.pad);
                skip = 0;
                let at = pdu.at.saturating_add(pdu.head).saturating_add(n);
                if !iov.page(&pdu.page, at, pdu.pad.saturating_sub(n)) {
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
            let got = match sock.send(&iov, full) {
                Ok(n) => n,
                Err(e) if e == EAGAIN => return Ok(false),
                Err(e) => return Err(e),
            };
            self.advance(got);
            if got < want {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn advance(&mut self, n: usize) {
        let mut left = self.sent.saturating_add(n);
        while let Some(pdu) = self.pdus.get(0) {
            let total = pdu.total();
            if left < total {
                break;
            }
            left = left.saturating_sub(total);
            let (len, last) = (pdu.len, pdu.last);
            self.data_octets = self.data_octets.wrapping_add(len as u64);
            self.pdus.pop();
            if last {
                match self.owners.pop() {
                    Some(Owner::Reply(r)) => r.sent(),
                    Some(Owner::Buffer(b)) => self.buffered = self.buffered.saturating_sub(b.len()),
                    None => {}
                }
            }
        }
        self.sent = left;
    }
}
