// SPDX-License-Identifier: GPL-2.0

//! READ CAPACITY (SBC-3, 5.15 and 5.16).

use crate::{
    bytes::Writer,
    lba::{BlockSize, Blocks},
    pi,
    vpd::Provisioning,
};

/// The size and shape of a medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Its blocks.
    pub blocks: Blocks,
    /// The length of one.
    pub block_size: BlockSize,
    /// Logical blocks in a physical one, as a power of two: 0 to 15.
    pub physical_exponent: u8,
    /// The first logical block that begins a physical one: 14 bits.
    pub lowest_aligned: u16,
    /// What is unmapped, and how.
    pub provisioning: Provisioning,
    /// The protection information that there is.
    pub protection: Option<pi::Type>,
}

impl Capacity {
    /// The address of the last block; 0 for a medium without any, which these commands cannot say.
    fn last(&self) -> u64 {
        self.blocks.0.saturating_sub(1)
    }

    /// READ CAPACITY (10): eight bytes. A medium beyond its reach says FFFFFFFFh.
    pub fn write_10(&self, out: &mut Writer<'_>) {
        out.be32(u32::try_from(self.last()).unwrap_or(u32::MAX));
        out.be32(self.block_size.bytes());
    }

    /// READ CAPACITY (16): 32 bytes.
    pub fn write_16(&self, out: &mut Writer<'_>) {
        out.be64(self.last());
        out.be32(self.block_size.bytes());
        // P_TYPE, PROT_EN
        out.u8(self.protection.map_or(0, pi::Type::capacity_byte));
        // P_I_EXPONENT: one protection information interval in a logical block.
        out.u8(self.physical_exponent & 0x0f);
        // LBPME, LBPRZ
        let thin = if self.provisioning.is_thin() {
            0x8000
        } else {
            0
        };
        let zeros = if self.provisioning.reads_zeros() {
            0x4000
        } else {
            0
        };
        out.be16(thin | zeros | (self.lowest_aligned & 0x3fff));
        out.zeros_to(32);
    }
}
