// SPDX-License-Identifier: GPL-2.0

//! What a logical unit takes at once, how its blocks lie on the storage's, and what they are mapped to.

use crate::device::{Device, MAX_TRANSFER};
use lio_scsi::{
    provisioning::{self, Resources},
    vpd::{BlockLimits, Provisioning},
};

impl Device {
    /// The limits that VPD page B0 reports and the engine enforces.
    pub fn limits(&self) -> BlockLimits {
        let a = self.attrib();
        let most = MAX_TRANSFER >> self.block_size().shift();
        let thin = self.provisioning().is_thin();
        let if_thin = |value: u32| if thin { value } else { 0 };
        let unmap = self.provisioning().unmap;
        let if_unmap = |value: u32| if unmap { value } else { 0 };
        let (longest, io_min, io_opt) = self
            .geometry()
            .map_or((0, 0, 0), |g| (g.longest, g.io_min, g.io_opt));
        let max_transfer = longest.max(a.hw_max_sectors()).min(most);
        let block = self.block_size().bytes();
        let blocks = |bytes: u32| bytes.checked_div(block).filter(|blocks| *blocks != 0);
        let unit = self.atomic_unit();
        let whole = |blocks: u32| blocks.saturating_sub(blocks.checked_rem(unit).unwrap_or(0));
        BlockLimits {
            max_compare_and_write: u8::from(a.emulate_caw()),
            optimal_granularity: blocks(io_min)
                .and_then(|blocks| u16::try_from(blocks).ok())
                .unwrap_or(1),
            max_transfer,
            optimal_transfer: match a.optimal_sectors() {
                own if own != a.hw_max_sectors() => own,
                // What is cut off would be no multiple of it.
                any => blocks(io_opt).filter(|n| *n <= max_transfer).unwrap_or(any),
            }
            .min(max_transfer),
            // Zero is that there is no UNMAP (SBC-4 6.6.4).
            max_unmap_blocks: if_unmap(a.max_unmap_lba_count()),
            max_unmap_descriptors: if_unmap(a.max_unmap_block_desc_count()),
            unmap_granularity: if_thin(a.unmap_granularity()),
            unmap_alignment: if_thin(a.unmap_granularity_alignment()),
            max_write_same: a.max_write_same_len().into(),
            write_same_all: a.emulate_write_same_all(),
            max_atomic: whole(self.max_atomic().min(max_transfer)),
            atomic_alignment: unit,
            atomic_granularity: unit,
        }
    }

    /// Binary logarithm of logical blocks in a physical one, and the first that is aligned to one.
    pub(crate) fn physical(&self) -> (u8, u16) {
        let Some(g) = self.geometry() else {
            return (0, 0);
        };
        // The storage's are of its own logical blocks, of which one here may be several.
        let own = g.block_size.checked_ilog2().unwrap_or(0);
        let larger = self.block_size().shift().saturating_sub(own);
        let exponent = u32::from(g.physical_block_exponent).saturating_sub(larger);
        let lowest = u32::from(g.lowest_aligned);
        let several = 1u32.checked_shl(larger).unwrap_or(0);
        let aligned = match lowest.checked_rem(several) {
            Some(0) if exponent != 0 => lowest.wrapping_shr(larger),
            _ => 0,
        };
        (
            u8::try_from(exponent).unwrap_or(0),
            u16::try_from(aligned).unwrap_or(0),
        )
    }

    /// Blocks of one atomic write; 0: there are none.
    pub(crate) fn max_atomic(&self) -> u32 {
        // Protection information that is kept beside the storage is not one with what the storage writes at once.
        let apart = self.protection().is_some() && self.attrib().hw_pi_prot_type() == 0;
        let most = self.geometry().map_or(0, |g| g.atomic_max);
        let bytes = if apart { 0 } else { most };
        bytes
            .min(MAX_TRANSFER)
            .wrapping_shr(self.block_size().shift())
    }

    /// Blocks, of which the address and the length of an atomic write are multiples.
    fn atomic_unit(&self) -> u32 {
        let bytes = self.geometry().map_or(0, |g| g.atomic_unit);
        bytes.div_ceil(self.block_size().bytes())
    }

    /// What UNMAP and WRITE SAME give back.
    pub fn provisioning(&self) -> Provisioning {
        let features = self.features();
        Provisioning {
            unmap: features.unmap,
            write_same: features.write_same_unmap,
            zeroes: self.attrib().unmap_zeroes_data(),
            threshold_exponent: 0,
        }
    }

    /// The exponent of a threshold set of a thin unit.
    pub(crate) fn threshold_exponent(&self) -> u8 {
        let size = self.block_size();
        provisioning::exponent(size.blocks_in(self.backend().bytes()), size)
    }

    /// What blocks are mapped to, in threshold sets, if the unit is thin and the back end knows. Process context.
    pub(crate) fn resources(&self) -> Option<Resources> {
        let space = self
            .provisioning()
            .is_thin()
            .then(|| self.backend().space())??;
        Some(space.resources(self.threshold_exponent(), self.block_size()))
    }
}
