// SPDX-License-Identifier: GPL-2.0

//! Logical block addresses, and arithmetic on them that cannot overflow (SBC-3, 4.4 and 4.5).

use crate::sense::Sense;

/// A logical block address: the number of a block, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lba(pub u64);

/// A number of logical blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Blocks(pub u64);

/// The length of a logical block in bytes: 512, 1024, 2048 or 4096.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSize {
    shift: u8,
}

impl BlockSize {
    /// 512 bytes.
    pub const B512: Self = Self { shift: 9 };
    /// 4096 bytes.
    pub const B4096: Self = Self { shift: 12 };

    /// The block size of `bytes` bytes, if it is one that is supported.
    pub const fn new(bytes: u32) -> Option<Self> {
        match bytes {
            512 => Some(Self { shift: 9 }),
            1024 => Some(Self { shift: 10 }),
            2048 => Some(Self { shift: 11 }),
            4096 => Some(Self { shift: 12 }),
            _ => None,
        }
    }

    /// In bytes.
    pub const fn bytes(self) -> u32 {
        match self.shift {
            9 => 512,
            10 => 1024,
            11 => 2048,
            _ => 4096,
        }
    }

    /// Its binary logarithm: 9 to 12.
    pub const fn shift(self) -> u32 {
        self.shift as u32
    }

    /// The whole blocks that `bytes` bytes hold.
    pub const fn blocks_in(self, bytes: u64) -> Blocks {
        Blocks(bytes.wrapping_shr(self.shift()))
    }
}

impl Blocks {
    /// Their length in bytes; `None` where it does not fit 64 bits.
    pub const fn bytes(self, size: BlockSize) -> Option<u64> {
        self.0.checked_mul(size.bytes() as u64)
    }

    /// None at all.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl Lba {
    /// Its offset in bytes from the start of the medium; `None` where it does not fit 64 bits.
    pub const fn offset(self, size: BlockSize) -> Option<u64> {
        self.0.checked_mul(size.bytes() as u64)
    }
}

/// A run of blocks. It may be empty, and until [`Extent::check`] it may lie anywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// The first block.
    pub lba: Lba,
    /// How many.
    pub blocks: Blocks,
}

impl Extent {
    /// `blocks` blocks from `lba`.
    pub const fn new(lba: u64, blocks: u64) -> Self {
        Self {
            lba: Lba(lba),
            blocks: Blocks(blocks),
        }
    }

    /// The address after the last block; `None` where it does not fit 64 bits.
    pub const fn end(self) -> Option<Lba> {
        match self.lba.0.checked_add(self.blocks.0) {
            Some(end) => Some(Lba(end)),
            None => None,
        }
    }

    /// The extent lies within a medium of `capacity` blocks.
    ///
    /// An empty extent may begin right after the last block, as the stock modules have it.
    ///
    /// # Errors
    /// LOGICAL BLOCK ADDRESS OUT OF RANGE.
    pub const fn check(self, capacity: Blocks) -> Result<(), Sense> {
        match self.end() {
            Some(end) if end.0 <= capacity.0 => Ok(()),
            // The first that is.
            _ if self.lba.0 > capacity.0 => Err(Sense::lba_out_of_range(self.lba.0)),
            _ => Err(Sense::lba_out_of_range(capacity.0)),
        }
    }

    /// The offset of the first byte; `None` where it does not fit 64 bits.
    pub const fn offset(self, size: BlockSize) -> Option<u64> {
        self.lba.offset(size)
    }

    /// The length in bytes; `None` where it does not fit 64 bits.
    pub const fn bytes(self, size: BlockSize) -> Option<u64> {
        self.blocks.bytes(size)
    }

    /// The extents have a block in common.
    pub const fn overlaps(self, other: Self) -> bool {
        // An end that overflows lies beyond every address.
        let a_end = self.lba.0.saturating_add(self.blocks.0);
        let b_end = other.lba.0.saturating_add(other.blocks.0);
        !self.blocks.is_zero()
            && !other.blocks.is_zero()
            && self.lba.0 < b_end
            && other.lba.0 < a_end
    }
}
