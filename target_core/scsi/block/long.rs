// SPDX-License-Identifier: GPL-2.0

//! READ LONG (SBC-3, 5.19 and 5.20; obsolete in SBC-4): a block as it is on the medium, which has no check data of its own beside
//! protection information. So it shows what is in a block that WRITE LONG has marked as unreadable.

use crate::{
    lba::{Blocks, Extent, Lba},
    sense::{Asc, FieldPointer, Key, Sense, Specific},
};

/// READ LONG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLong {
    /// LOGICAL BLOCK ADDRESS
    pub lba: Lba,
    /// The whole physical block that has it (PBLOCK).
    pub physical: bool,
    /// Errors are to be corrected, and told of where they cannot be (CORRCT).
    pub correct: bool,
    /// BYTE TRANSFER LENGTH
    pub length: u16,
    /// Where that is in the CDB.
    pub length_at: u16,
}

impl ReadLong {
    /// The blocks that are read, on a medium of `capacity` blocks with 2^`exponent` of them in a physical block, the first of which
    /// begins with the block `lowest`.
    pub fn extent(&self, exponent: u8, lowest: u16, capacity: Blocks) -> Extent {
        let blocks = 1u64.wrapping_shl(exponent.min(15).into());
        if !self.physical || blocks == 1 {
            return Extent {
                lba: self.lba,
                blocks: Blocks(1),
            };
        }
        // Behind the beginning of its physical block; what is before `lowest` is the end of one.
        let behind = self.lba.0.wrapping_sub(lowest.into()) & blocks.saturating_sub(1);
        let end = self.lba.0.saturating_sub(behind).saturating_add(blocks);
        let (begin, end) = match self.lba.0.checked_sub(behind) {
            Some(begin) => (begin, end),
            None => (0, u64::from(lowest) & blocks.saturating_sub(1)),
        };
        Extent {
            lba: Lba(begin),
            blocks: Blocks(end.min(capacity.0).saturating_sub(begin)),
        }
    }

    /// Whether anything is transferred, where `available` bytes can be.
    ///
    /// # Errors
    /// INVALID FIELD IN CDB with ILI and the difference, if BYTE TRANSFER LENGTH is neither zero nor that many.
    pub fn transfers(&self, available: u64) -> Result<bool, Sense> {
        let length = u64::from(self.length);
        if length == 0 || length == available {
            return Ok(length != 0);
        }
        let difference = i64::from(self.length).saturating_sub_unsigned(available);
        let difference = i32::try_from(difference).unwrap_or(i32::MIN);
        let field = FieldPointer {
            in_cdb: true,
            byte: self.length_at,
            bit: None,
        };
        Err(Sense {
            specific: Specific::Length(field, difference),
            ..Sense::new(Key::IllegalRequest, Asc::INVALID_FIELD_IN_CDB)
        })
    }
}
