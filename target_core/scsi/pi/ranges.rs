// SPDX-License-Identifier: GPL-2.0

//! Application tags by ranges of blocks: the application tag mode page (SBC-4, 6.5.3).

use crate::{
    bytes::{be16, be64, Writer},
    lba::Blocks,
};

/// Ranges that there may be: as many as MODE SENSE (6) has room for.
pub const MOST: usize = 4;
/// PAGE LENGTH of the mode page.
pub const LENGTH: u8 = 12 + MOST as u8 * 24;

/// Bytes before the application tag descriptors, without the page's header; and of one of them.
const FIRST: usize = 12;
const DESCRIPTOR: usize = 24;
/// LAST, in byte 0 of a descriptor.
const LAST: u8 = 0x80;
/// Where fields are in a descriptor.
const TAG: usize = 6;
const LBA: usize = 8;
const COUNT: usize = 16;

/// The application tags of all blocks: they are the same from a range's first block on, up to the next one. The last range goes on to
/// the end of the medium, wherever that may come to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranges {
    // Ascending; the first is 0, and those that are not in use are `NONE`.
    starts: [u64; MOST],
    // 0 where not in use.
    tags: [u16; MOST],
}

/// No block has this address: there are fewer blocks.
const NONE: u64 = u64::MAX;

/// A descriptor that does not go with the others, by its number, and the byte of it that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Counted from 0.
    pub descriptor: usize,
    /// In the descriptor.
    pub byte: usize,
}

impl Wrong {
    /// Where the byte is behind the page's header.
    pub fn at(self) -> usize {
        place(self.descriptor).saturating_add(self.byte)
    }
}

/// Where a descriptor begins.
fn place(index: usize) -> usize {
    index.saturating_mul(DESCRIPTOR).saturating_add(FIRST)
}

impl Ranges {
    /// Zero for each block.
    pub const ZERO: Self = Self {
        starts: [0, NONE, NONE, NONE],
        tags: [0; MOST],
    };

    /// The application tag of the block `lba`.
    pub fn tag(&self, lba: u64) -> u16 {
        let ranges = self.starts.iter().zip(self.tags);
        let mut before = ranges.filter(|(start, _)| **start <= lba && **start != NONE);
        before.next_back().map_or(0, |(_, tag)| tag)
    }

    /// Writes the mode page of a medium of `blocks` blocks, behind its header. A range behind the end is none.
    pub fn write(&self, blocks: Blocks, out: &mut Writer<'_>) {
        out.fill(0, FIRST);
        for (index, (start, tag)) in self.starts.iter().zip(self.tags).enumerate() {
            if index != 0 && *start >= blocks.0 {
                out.fill(0, DESCRIPTOR);
                continue;
            }
            let next = self.starts.get(index.saturating_add(1));
            let next = next.copied().filter(|next| *next < blocks.0);
            out.u8(if next.is_none() { LAST } else { 0 });
            out.fill(0, TAG - 1);
            out.be16(tag);
            out.be64(*start);
            out.be64(next.unwrap_or(blocks.0).saturating_sub(*start));
        }
    }

    /// Writes ones where the mode page can be changed, behind its header.
    pub fn write_mask(out: &mut Writer<'_>) {
        out.fill(0, FIRST);
        for _ in 0..MOST {
            out.u8(LAST);
            out.fill(0, TAG - 1);
            out.fill(0xff, DESCRIPTOR - TAG);
        }
    }

    /// What the mode page `page` says, without its header. What is behind the last descriptor says nothing.
    ///
    /// # Errors
    /// The ranges leave blocks out, overlap, are in another order, or have no blocks; none of them is the last one. How far that goes
    /// is for [`check_end`].
    pub fn read(page: &[u8]) -> Result<Self, Wrong> {
        let mut ranges = Self {
            starts: [NONE; MOST],
            tags: [0; MOST],
        };
        let mut expected = 0u64;
        let places = ranges.starts.iter_mut().zip(&mut ranges.tags);
        for (index, (to_start, to_tag)) in places.enumerate() {
            let wrong = |byte| Wrong {
                descriptor: index,
                byte,
            };
            let (last, tag, start, count) = descriptor(page, index).ok_or(wrong(0))?;
            if start != expected || start == NONE {
                return Err(wrong(LBA));
            }
            (*to_start, *to_tag) = (start, tag);
            if last {
                return Ok(ranges);
            }
            expected = start.checked_add(count).ok_or(wrong(COUNT))?;
            if count == 0 {
                return Err(wrong(COUNT));
            }
        }
        Err(Wrong {
            descriptor: MOST - 1,
            byte: 0,
        })
    }
}

impl Default for Ranges {
    fn default() -> Self {
        Self::ZERO
    }
}

/// LAST, the tag, the first block and how many they are.
fn descriptor(page: &[u8], index: usize) -> Option<(bool, u16, u64, u64)> {
    let bytes = page.get(place(index)..)?;
    Some((
        bytes.first()? & LAST != 0,
        be16(bytes, TAG)?,
        be64(bytes, LBA)?,
        be64(bytes, COUNT)?,
    ))
}

/// The last range of `page` ends with a medium of `blocks` blocks. SBC-4 has its end compared with the RETURNED LOGICAL BLOCK ADDRESS
/// of READ CAPACITY (16), which is the last block's: who takes that to the letter leaves out one block, and means no other ranges.
///
/// # Errors
/// It does not.
pub fn check_end(page: &[u8], blocks: Blocks) -> Result<(), Wrong> {
    for index in 0..MOST {
        if let Some((true, _, start, count)) = descriptor(page, index) {
            let fits = start
                .checked_add(count)
                .is_some_and(|end| end == blocks.0 || end == blocks.0.saturating_sub(1));
            let empty = count == 0 && start != 0;
            return if fits && !empty {
                Ok(())
            } else {
                Err(Wrong {
                    descriptor: index,
                    byte: COUNT,
                })
            };
        }
    }
    Ok(())
}
