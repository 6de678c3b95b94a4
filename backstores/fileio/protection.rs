// SPDX-License-Identifier: GPL-2.0

//! Protection information of a file's blocks, in a file beside it: as the stock module keeps it, in `NAME.protection`, eight bytes for
//! each block in the order of the blocks.

use kernel::{error::code::*, new_mutex, prelude::*, str::CString, sync::Arc, sync::Mutex};
use lio_glue::{
    buffer::Buffer,
    file::{Durability, File},
};
use target_core::backend::{Io, Op};

/// Bytes of protection information of one block.
const TUPLE: u64 = 8;
/// Bytes that are filled at once.
const FILL: u64 = 1 << 20;

/// An open file of protection information.
#[pin_data]
pub(crate) struct Protection {
    file: File,
    /// Bytes of a block.
    block: u64,
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
                file,
                block: u64::from(block.max(1)),
                whole <- new_mutex!((), "fileio::Protection::whole"),
            }),
            GFP_KERNEL,
        )?;
        let there = protection.file.size();
        let end = protection.of(bytes);
        if there < end {
            protection.fill(there, end.saturating_sub(there), Durability::Cached)?;
        }
        protection.file.sync(0, u64::MAX)?;
        Ok(protection)
    }

    // Bytes of it for `bytes` bytes in whole blocks; a block's begins at that of its first byte.
    fn of(&self, bytes: u64) -> u64 {
        (bytes / self.block.max(1)).saturating_mul(TUPLE)
    }

    // Makes `len` bytes from `at` on FFh.
    fn fill(&self, at: u64, len: u64, how: Durability) -> Result {
        let ones = Buffer::alloc(len.min(FILL) as usize, true)?;
        ones.invert();
        let mut ones = ones;
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

    // What the file does not have is FFh: the disk has grown.
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

    /// Does with the protection information what `io` has done with the blocks; [`Self::whole`] is held.
    pub(crate) fn follow(&self, io: &Io, durable: bool) -> Result {
        let how = if durable {
            Durability::Durable
        } else {
            Durability::Cached
        };
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

    /// All of it is made durable.
    pub(crate) fn flush(&self) -> Result {
        self.file.sync(0, u64::MAX)
    }

    /// The `len` bytes from `pos` on were written over for good.
    pub(crate) fn wipe(&self, pos: u64, len: u64) -> Result {
        let _whole = self.whole.lock();
        self.fill(self.of(pos), self.of(len), Durability::Durable)
    }
}
