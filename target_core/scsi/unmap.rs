// SPDX-License-Identifier: GPL-2.0

//! The UNMAP parameter list (SBC-3, 5.28).

use crate::{
    bytes::{array, be16},
    lba::{Blocks, Extent},
    sense::Sense,
    vpd::BlockLimits,
};

/// Bytes before the block descriptors.
pub const HEADER: usize = 8;
/// Bytes in a block descriptor.
pub const DESCRIPTOR: usize = 16;

/// A parameter list that was checked as a whole: nothing is unmapped for a list with an error in it.
#[derive(Clone, Copy, Debug)]
pub struct List<'a> {
    descriptors: &'a [u8],
}

impl<'a> List<'a> {
    /// Checks the parameter list `list`, which the initiator sent for a CDB with that PARAMETER LIST LENGTH, against a medium of
    /// `capacity` blocks and the unit's `limits`.
    ///
    /// A list of no bytes, and one without descriptors, ask for nothing. A descriptor that is cut off by the end of the list is
    /// not evaluated, as SBC-3 has it; nor are bytes behind the descriptors.
    ///
    /// # Errors
    /// PARAMETER LIST LENGTH ERROR for a list that ends inside of its header; INVALID FIELD IN PARAMETER LIST, with a pointer,
    /// for too many descriptors or too many blocks; LOGICAL BLOCK ADDRESS OUT OF RANGE.
    pub fn parse(list: &'a [u8], capacity: Blocks, limits: &BlockLimits) -> Result<Self, Sense> {
        if list.is_empty() {
            return Ok(Self { descriptors: &[] });
        }
        let body = list.get(HEADER..).ok_or(Sense::PARAMETER_LIST_LENGTH)?;
        // UNMAP BLOCK DESCRIPTOR DATA LENGTH; UNMAP DATA LENGTH before it says no more than that.
        let length = usize::from(be16(list, 2).ok_or(Sense::PARAMETER_LIST_LENGTH)?);
        let descriptors = body.get(..length).unwrap_or(body);
        let count = descriptors.chunks_exact(DESCRIPTOR).len();
        if count > usize::try_from(limits.max_unmap_descriptors).unwrap_or(usize::MAX) {
            return Err(Sense::invalid_parameter_byte(2));
        }
        let list = Self { descriptors };
        let mut offset = HEADER;
        let mut total = 0u64;
        for extent in list.extents() {
            total = total.saturating_add(extent.blocks.0);
            if total > u64::from(limits.max_unmap_blocks) {
                // NUMBER OF LOGICAL BLOCKS of the descriptor that is too much.
                let field = u16::try_from(offset.saturating_add(8)).unwrap_or(u16::MAX);
                return Err(Sense::invalid_parameter_byte(field));
            }
            extent.check(capacity)?;
            offset = offset.saturating_add(DESCRIPTOR);
        }
        Ok(list)
    }

    /// What is to be unmapped, in the order of the list. Extents may be empty, and may overlap.
    pub fn extents(&self) -> impl Iterator<Item = Extent> + 'a {
        self.descriptors
            .chunks_exact(DESCRIPTOR)
            .filter_map(|descriptor| Some(extent(&array(descriptor, 0)?)))
    }
}

/// What one block descriptor says. Only one of a list that was checked is to be believed.
pub fn extent(descriptor: &[u8; DESCRIPTOR]) -> Extent {
    let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = *descriptor;
    let lba = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    let blocks = u32::from_be_bytes([i, j, k, l]);
    Extent::new(lba, blocks.into())
}
