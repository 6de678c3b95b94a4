// SPDX-License-Identifier: GPL-2.0

//! Protection information of a file's blocks, in a file beside it: as the stock module keeps it, in `NAME.protection`, eight bytes for
//! each block in the order of the blocks.

use kernel::{
    error::code::*,
    new_mutex,
    prelude::*,
    str::CString,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc, Mutex,
    },
};
use lio_glue::{
    buffer::Buffer,
    file::{Durability, File},
    noio,
};
use target_core::backend::{Io, Op};

/// Bytes of protection information of one block.
const TUPLE: u64 = 8;
/// Bytes that are filled at once.
const FILL: u64 = 1 << 20;
/// Bytes of the file system that are left to others by a file that does not fit.
const SPARE: u64 = 16 << 20;

/// An open file of protection information.
#[pin_data]
pub(crate) struct Protection {
    file: File,
    /// Bytes of a block.
    block: u64,
    // The failures that the last flush told of.
    flushed: Atomic<u32>,
    /// Held while blocks are read or written with their protection information, so that the two belong together.
    #[pin]
    pub(crate) whole: Mutex<()>,
}

impl Protection {
    /// Opens, or makes, what belongs to the file at `path`, which has `bytes` bytes in blocks of `block`. What is not there
    /// yet becomes FFh.
    pub(crate) fn open(path: &CStr, bytes: u64, block: u32) -> Result<Arc<Self>> {
        let path = CString::try_from_fmt(fmt!("{}.protection", path))?;
        let file = File::open(&path, true)?;
        if file.block_limits().is_some() {
            return Err(EINVAL);
        }
        let protection = Arc::pin_init(
            pin_init!(Protection {
                flushed: Atomic::new(file.failures()),
                file,
                block: u64::from(block.max(1)),
                whole <- new_mutex!((), "fileio::Protection::whole"),
            }),
            GFP_KERNEL,
        )?;
        protection.grow(bytes)?;
        Ok(protection)
    }

    /// Makes FFh, durably, what is not there yet of `bytes` bytes: a hole would read as zeroes, which is wrong protection information of
    /// any block but the first. Blocks that are in use are not kept waiting for all of it. Nobody else lets it grow; where it cannot, it
    /// is as it was, and other files find room meanwhile.
    pub(crate) fn grow(&self, bytes: u64) -> Result {
        let (before, end) = (self.there(), self.of(bytes));
        self.grow_to(end).inspect_err(|_| {
            let _whole = self.whole.lock();
            if self.there() > before {
                // If that fails as well, it is a longer file than it need be.
                let _ = self.file.truncate(before);
            }
        })
    }

    fn grow_to(&self, end: u64) -> Result {
        loop {
            let _whole = self.whole.lock();
            let there = self.there();
            if there >= end {
                break;
            }
            let rest = end.saturating_sub(there);
            let n = rest.min(FILL);
            // Not before that: a file system that compresses may have room for all of it.
            if matches!(self.file.space(), Some((free, _)) if free < rest && free < SPARE.saturating_add(n))
            {
                return Err(ENOSPC);
            }
            self.fill(there, n, Durability::Cached)?;
        }
        // Initiators hear of what failed before by their flush.
        self.file.sync(0, u64::MAX)
    }

    // Bytes of it for `bytes` bytes in whole blocks; a block's begins at that of its first byte.
    fn of(&self, bytes: u64) -> u64 {
        (bytes / self.block.max(1)).saturating_mul(TUPLE)
    }

    // Bytes that there are, of whole blocks.
    fn there(&self) -> u64 {
        let size = self.file.size();
        size.saturating_sub(size % TUPLE)
    }

    // Before something is written at `at`: what is not there before it, since somebody has shortened the file, becomes FFh. Durably: the
    // file may be longer than that after a loss of power.
    fn reach(&self, at: u64) -> Result {
        let there = self.there();
        self.fill(there, at.saturating_sub(there), Durability::Durable)
    }

    // Makes `len` bytes from `at` on FFh.
    fn fill(&self, at: u64, len: u64, how: Durability) -> Result {
        if len == 0 {
            return Ok(());
        }
        // Who makes memory free may wait for `whole`.
        let mut ones = noio::scope(|| Buffer::alloc(len.min(FILL) as usize, true))?;
        ones.invert();
        let mut done = 0u64;
        while done < len {
            ones.truncate(len.saturating_sub(done).min(FILL) as usize);
            self.write(at.saturating_add(done), &ones, how)?;
            done = done.saturating_add(ones.len() as u64);
        }
        Ok(())
    }

    fn write(&self, at: u64, data: &Buffer, how: Durability) -> Result {
        let mut done = 0usize;
        while done < data.len() {
            match self.file.write(at, data, done, how)? {
                0 => return Err(EIO),
                n => done = done.saturating_add(n),
            }
        }
        Ok(())
    }

    // What the file does not have is FFh: somebody has shortened it.
    fn read(&self, at: u64, into: &Buffer) -> Result {
        let mut done = 0usize;
        while done < into.len() {
            match self.file.read(at, into, done)? {
                0 => break,
                n => done = done.saturating_add(n),
            }
        }
        while done < into.len() {
            let n = into.write_at(done, &[0xff; TUPLE as usize]);
            done = done.saturating_add(n.max(1));
        }
        Ok(())
    }

    /// Does with the protection information what `io` has done with the blocks; [`Self::whole`] is held. [`Self::sync`] is to follow where
    /// that is to be durable.
    pub(crate) fn follow(&self, io: &Io) -> Result {
        let how = Durability::Cached;
        if let Op::Write { pos, .. }
        | Op::WriteAtomic { pos, .. }
        | Op::Unmap { pos, .. }
        | Op::WriteZeroes { pos, .. } = io.op()
        {
            self.reach(self.of(pos))?;
        }
        match (io.op(), io.protection()) {
            (Op::Read { pos, .. }, Some(tuples)) => self.read(self.of(pos), tuples),
            (Op::Write { pos, .. }, Some(tuples)) => self.write(self.of(pos), tuples, how),
            (Op::Write { pos, .. }, None) | (Op::WriteAtomic { pos, .. }, _) => {
                self.fill(self.of(pos), self.of(io.data().len() as u64), how)
            }
            (Op::Unmap { pos, len } | Op::WriteZeroes { pos, len, .. }, _) => {
                self.fill(self.of(pos), self.of(len), how)
            }
            (Op::Flush { .. }, _) => self.flush(),
            (Op::Read { .. } | Op::Status { .. } | Op::None, _) => Ok(()),
        }
    }

    /// All of it is made durable. What could not be since the last time is told of, also where somebody else was told already.
    pub(crate) fn flush(&self) -> Result {
        let result = self.file.sync(0, u64::MAX);
        let now = self.file.failures();
        let failed = self.file.failed_since(self.flushed.load(Relaxed));
        if failed.is_err() {
            self.flushed.store(now, Relaxed);
        }
        result.and(failed)
    }

    /// As [`File::failures`].
    pub(crate) fn failures(&self) -> u32 {
        self.file.failures()
    }

    /// As [`File::failed_since`].
    pub(crate) fn failed_since(&self, mark: u32) -> Result {
        self.file.failed_since(mark)
    }

    /// That of the `len` bytes from `pos` on is made durable. It tells only one of those that wait at the same time of what failed:
    /// [`Self::failed_since`] tells each.
    pub(crate) fn sync(&self, pos: u64, len: u64) -> Result {
        self.file.sync(self.of(pos), self.of(len))
    }

    /// The `len` bytes from `pos` on were written over for good.
    pub(crate) fn wipe(&self, pos: u64, len: u64) -> Result {
        let _whole = self.whole.lock();
        let mark = self.failures();
        self.reach(self.of(pos))?;
        self.fill(self.of(pos), self.of(len), Durability::Durable)?;
        // What has been written before may be made durable meanwhile.
        self.failed_since(mark)
    }
}
