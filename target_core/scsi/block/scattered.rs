// SPDX-License-Identifier: GPL-2.0

//! WRITE SCATTERED: several runs of blocks in one command (SBC-4, 5.55 and 5.56).

use crate::{
    bytes::{be16, be32, be64},
    lba::{Blocks, Extent},
    pi::Tags,
    sense::{Asc, Key, Sense},
    vpd::BlockLimits,
};

/// Bytes before the LBA range descriptors.
pub const HEADER: usize = 32;
/// Bytes of an LBA range descriptor.
pub const DESCRIPTOR: usize = 32;

/// WRITE SCATTERED (16), (32).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scattered {
    /// LOGICAL BLOCK DATA OFFSET: where the data begins in what is sent, in blocks.
    pub offset: u16,
    /// NUMBER OF LBA RANGE DESCRIPTORS
    pub ranges: u16,
    /// BUFFER TRANSFER LENGTH: all that is sent, in blocks.
    pub blocks: u32,
    /// Disable page out.
    pub dpo: bool,
    /// Force unit access.
    pub fua: bool,
    /// Where the fields are in the CDB: LOGICAL BLOCK DATA OFFSET, NUMBER OF LBA RANGE DESCRIPTORS, BUFFER TRANSFER LENGTH.
    pub at: [u8; 3],
    /// The CDB of 32 bytes: the descriptors have expected tags.
    pub tags: bool,
}

impl Scattered {
    /// Nothing is to be transferred and written, which is no error.
    pub const fn is_empty(&self) -> bool {
        self.ranges == 0 || self.blocks == 0
    }

    /// Bytes of the header and the descriptors.
    pub fn list(&self) -> usize {
        usize::from(self.ranges)
            .saturating_mul(DESCRIPTOR)
            .saturating_add(HEADER)
    }

    /// What the CDB says fits `limits`, and is in order.
    ///
    /// # Errors
    /// INVALID FIELD IN CDB, with a pointer.
    pub fn check(&self, limits: &BlockLimits) -> Result<(), Sense> {
        let [offset, _, blocks] = self.at;
        if limits.max_transfer != 0 && self.blocks > limits.max_transfer {
            return Err(Sense::invalid_cdb_byte(blocks.into()));
        }
        // The data is behind the descriptors, and in what is sent.
        if !self.is_empty() && (self.offset == 0 || u32::from(self.offset) > self.blocks) {
            return Err(Sense::invalid_cdb_byte(offset.into()));
        }
        Ok(())
    }

    /// The descriptors fit the blocks before the data, each of which is `block` bytes: with protection information where that is sent.
    ///
    /// # Errors
    /// INVALID FIELD IN CDB, pointing to their number.
    pub fn check_room(&self, block: u32) -> Result<(), Sense> {
        let room = u64::from(self.offset).saturating_mul(block.into());
        if (self.list() as u64) > room {
            let [_, ranges, _] = self.at;
            return Err(Sense::invalid_cdb_byte(ranges.into()));
        }
        Ok(())
    }

    /// The extents that `list` names, which is as long as [`Self::list`] says, all of them right for a medium of `capacity` blocks.
    ///
    /// # Errors
    /// PARAMETER LIST LENGTH ERROR for a list that is cut off; LOGICAL BLOCK ADDRESS OUT OF RANGE; ABORTED COMMAND, pointing to BUFFER
    /// TRANSFER LENGTH, for more or fewer blocks than there is data for (SBC-4, 5.55.2).
    pub fn check_list(&self, list: &[u8], capacity: Blocks) -> Result<(), Sense> {
        let [_, _, blocks] = self.at;
        let length = Sense {
            key: Key::AbortedCommand,
            asc: Asc::PARAMETER_LIST_LENGTH,
            ..Sense::invalid_cdb_byte(blocks.into())
        };
        let mut left = u64::from(self.blocks).saturating_sub(self.offset.into());
        for index in 0..self.ranges {
            let at = usize::from(index)
                .saturating_mul(DESCRIPTOR)
                .saturating_add(HEADER);
            let descriptor = list
                .get(at..)
                .and_then(|rest| rest.get(..DESCRIPTOR))
                .ok_or(Sense::PARAMETER_LIST_LENGTH)?;
            let extent = extent(descriptor).ok_or(Sense::PARAMETER_LIST_LENGTH)?;
            extent.check(capacity)?;
            left = left.checked_sub(extent.blocks.0).ok_or(length)?;
        }
        if left == 0 {
            Ok(())
        } else {
            Err(length)
        }
    }
}

/// The LBA range descriptors of a list that was checked.
pub fn descriptors(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.get(HEADER..).unwrap_or(&[]).chunks_exact(DESCRIPTOR)
}

/// The extents of a list that was checked, in order.
pub fn extents(list: &[u8]) -> impl Iterator<Item = Extent> + '_ {
    descriptors(list).filter_map(extent)
}

/// Where an LBA range descriptor wants its data written.
pub fn extent(descriptor: &[u8]) -> Option<Extent> {
    Some(Extent::new(
        be64(descriptor, 0)?,
        be32(descriptor, 8)?.into(),
    ))
}

/// The tags that an LBA range descriptor expects: of the CDB of 32 bytes, on a unit with protection information of type 2.
pub fn tags(descriptor: &[u8]) -> Option<Tags> {
    Some(Tags {
        reference: be32(descriptor, 12)?,
        application: be16(descriptor, 16)?,
        mask: be16(descriptor, 18)?,
    })
}
