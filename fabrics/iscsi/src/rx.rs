// SPDX-License-Identifier: GPL-2.0

//! The receiving half of a connection.
//!
//! Bytes come into a small stage, several PDUs with one call where they have no data. Data goes straight into its
//! buffer, and with the same call the next header into the stage; what follows a header is left in the socket then, so
//! that data which comes in a stream is copied once.

use kernel::prelude::*;
use lio_glue::{
    buffer::{Buffer, Crc32c},
    socket::{IovSpace, Socket},
};

/// Bytes of the stage: what is copied once more at most per call.
pub(crate) const STAGE: usize = 8192;
/// Segments of one call: 512 KiB of single pages.
const SEGMENTS: usize = 130;

/// What a call of [`Rx::fill`] came to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filled {
    /// So many bytes went into the data, perhaps others into the stage; and whether more may be there.
    Got(usize, bool),
    /// Nothing is there now.
    Nothing,
    /// The other side has closed.
    End,
}

/// What was received and not looked at yet.
pub(crate) struct Rx {
    stage: Buffer,
    start: usize,
    end: usize,
    space: IovSpace,
    // The CRC of what was taken, while it is wanted.
    crc: Option<Crc32c>,
}

impl Rx {
    pub(crate) fn new() -> Result<Self> {
        Ok(Rx {
            stage: Buffer::alloc(STAGE, false)?,
            start: 0,
            end: 0,
            space: IovSpace::new(SEGMENTS)?,
            crc: None,
        })
    }

    /// Bytes in the stage.
    pub(crate) fn available(&self) -> usize {
        self.end.saturating_sub(self.start)
    }

    /// Takes `out.len()` bytes from the stage, if there are so many.
    pub(crate) fn take(&mut self, out: &mut [u8]) -> bool {
        if self.available() < out.len() {
            return false;
        }
        self.stage.read_at(self.start, out);
        self.skip(out.len());
        true
    }

    /// Copies `out.len()` bytes at `off` of the stage, which has so many.
    pub(crate) fn peek(&self, off: usize, out: &mut [u8]) {
        self.stage.read_at(self.start.saturating_add(off), out);
    }

    /// The CRC of the first `len` bytes of the stage.
    pub(crate) fn crc(&self, len: usize) -> Crc32c {
        self.stage.crc32c(Crc32c::new(), self.start, len)
    }

    /// From here on, the CRC of what is taken is wanted.
    pub(crate) fn begin_crc(&mut self) {
        self.crc = Some(Crc32c::new());
    }

    /// The CRC of what was taken since [`Self::begin_crc`].
    pub(crate) fn end_crc(&mut self) -> Crc32c {
        self.crc.take().unwrap_or_default()
    }

    /// Drops up to `n` bytes of the stage; returns how many.
    pub(crate) fn skip(&mut self, n: usize) -> usize {
        let n = n.min(self.available());
        if let Some(crc) = self.crc {
            self.crc = Some(self.stage.crc32c(crc, self.start, n));
        }
        self.start = self.start.saturating_add(n);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
        n
    }

    /// Moves up to `len` bytes from the stage to `at` of `to`; returns how many.
    pub(crate) fn copy(&mut self, to: &Buffer, at: usize, len: usize) -> usize {
        let len = len.min(self.available());
        let n = to.copy_from(at, &self.stage, self.start, len);
        self.skip(n)
    }

    /// Receives what is there: first `len` bytes into `data` at `off`, if the stage is empty, then into the stage,
    /// which gets no more than `limit` bytes in all. Without `need` bytes, those in the stage not counted, the caller
    /// cannot go on: the socket's event follows when they are there.
    ///
    /// # Errors
    /// The connection is broken.
    pub(crate) fn fill(
        &mut self,
        sock: &Socket,
        data: Option<(&Buffer, usize, usize)>,
        limit: usize,
        need: usize,
    ) -> Result<Filled> {
        if self.start > 0 && STAGE.saturating_sub(self.end) < STAGE / 2 {
            // Only a part of a header and its additional segments is ever left here when more is wanted.
            let mut left = [0; 48 + 1020 + 4];
            let n = self.available().min(left.len());
            if n == self.available() {
                if let Some(left) = left.get_mut(..n) {
                    self.stage.read_at(self.start, left);
                    self.stage.write_at(0, left);
                    self.start = 0;
                    self.end = n;
                }
            }
        }
        let mut iov = self.space.begin();
        let mut direct = 0;
        let mut whole = true;
        if let (Some((buffer, off, len)), true) = (data, self.start == self.end) {
            direct = iov.buffer(buffer, off, len);
            whole = direct == len;
        }
        if whole {
            let room = STAGE.saturating_sub(self.end);
            let left = limit.saturating_sub(self.end.saturating_sub(self.start));
            iov.buffer(&self.stage, self.end, room.min(left));
        }
        if iov.is_empty() {
            return Err(EIO);
        }
        match sock.recv(&iov, need) {
            Ok((0, _)) => Ok(Filled::End),
            Ok((n, more)) => {
                let into_data = n.min(direct);
                if let (Some(crc), Some((buffer, off, _))) = (self.crc, data) {
                    self.crc = Some(buffer.crc32c(crc, off, into_data));
                }
                self.end = self
                    .end
                    .saturating_add(n.saturating_sub(into_data))
                    .min(STAGE);
                Ok(Filled::Got(into_data, more))
            }
            Err(e) if e == EAGAIN => Ok(Filled::Nothing),
            Err(e) => Err(e),
        }
    }
}
