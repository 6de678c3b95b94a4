// SPDX-License-Identifier: GPL-2.0

//! What a segment of a copy does to bytes, and how that is done in pieces of whole blocks (SPC-4, 6.4.6.3 and 6.4.6.11).

use super::{
    list::{Amount, Segment},
    MAX_SEGMENT_BYTES,
};
use crate::{
    lba::{BlockSize, Blocks},
    sense::{Asc, CopyFailure, Key, Sense, Side, Specific},
};

/// Bytes that are copied at once.
pub const PIECE: u64 = 1 << 20;

/// One end of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Medium {
    /// Bytes of a block.
    pub size: BlockSize,
    /// How many blocks.
    pub capacity: Blocks,
}

/// Bytes that are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Where they begin on the source.
    pub from: u64,
    /// Where they go on the destination.
    pub to: u64,
    /// How many.
    pub len: u64,
}

/// Whole blocks, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whole {
    /// The first byte.
    pub pos: u64,
    /// How many.
    pub len: u64,
}

/// What is copied at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The blocks of the source in which the bytes are.
    pub read: Whole,
    /// Bytes of these before the first one.
    pub skip: u64,
    /// The blocks of the destination that change.
    pub write: Whole,
    /// Bytes of these before the first one.
    pub offset: u64,
    /// How many bytes.
    pub len: u64,
}

impl Piece {
    /// The blocks that are read are those that are written.
    pub const fn is_whole(&self) -> bool {
        self.skip == 0 && self.read.len == self.len && !self.merges()
    }

    /// What the blocks of the destination hold is kept in part.
    pub const fn merges(&self) -> bool {
        self.offset != 0 || self.write.len != self.len
    }
}

/// Why a segment is not copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong.
    pub asc: Asc,
    /// The field of the segment descriptor, if it is one.
    pub field: Option<u16>,
    /// What an end has to say.
    pub cause: Option<(Side, Key, Asc)>,
}

impl Fault {
    /// A field of the segment.
    pub const fn of_field(asc: Asc, field: u16) -> Self {
        Self {
            asc,
            field: Some(field),
            cause: None,
        }
    }

    /// An end does not do as it is told.
    pub const fn of_end(side: Side, sense: Sense) -> Self {
        Self {
            asc: Asc::THIRD_PARTY_DEVICE_FAILURE,
            field: None,
            cause: Some((side, sense.key, sense.asc)),
        }
    }

    // The blocks at `field` are not there. That is found out before the end is asked.
    const fn beyond(side: Side, field: u16) -> Self {
        Self {
            asc: Asc::NONE,
            field: Some(field),
            cause: Some((side, Key::IllegalRequest, Asc::LBA_OUT_OF_RANGE)),
        }
    }

    /// The sense data, where segment `segment` failed with `residue` of its units not copied.
    pub const fn sense(&self, segment: u16, residue: u64) -> Sense {
        Sense {
            specific: Specific::Copy(CopyFailure {
                segment,
                field: self.field,
                cause: self.cause,
            }),
            information: Some(residue),
            ..Sense::new(Key::CopyAborted, self.asc)
        }
    }
}

const SOURCE_LBA: u16 = 12;
const DESTINATION_LBA: u16 = 20;
const SOURCE_OFFSET: u16 = 28;
const DESTINATION_OFFSET: u16 = 30;

impl Segment {
    /// The field that says how much.
    const fn amount_field(&self) -> u16 {
        match self.amount {
            Amount::Bytes { .. } => 8,
            _ => 10,
        }
    }

    /// What is copied between these two.
    ///
    /// # Errors
    /// What is wrong with the segment for them. UNEXPECTED INEXACT SEGMENT, where blocks of the one do not fill those of the other.
    pub fn plan(&self, source: Medium, destination: Medium) -> Result<Range, Fault> {
        let (len, from, to) = match self.amount {
            Amount::SourceBlocks(n) => (bytes(n, source.size), 0, 0),
            Amount::DestinationBlocks(n) => (bytes(n, destination.size), 0, 0),
            Amount::Bytes { count, from, to } => {
                let invalid = Asc::INVALID_FIELD_IN_PARAMETER_LIST;
                if u32::from(from) >= source.size.bytes() {
                    return Err(Fault::of_field(invalid, SOURCE_OFFSET));
                }
                if u32::from(to) >= destination.size.bytes() {
                    return Err(Fault::of_field(invalid, DESTINATION_OFFSET));
                }
                (u64::from(count), u64::from(from), u64::from(to))
            }
        };
        if len > u64::from(MAX_SEGMENT_BYTES) {
            let asc = Asc::INVALID_FIELD_IN_PARAMETER_LIST;
            return Err(Fault::of_field(asc, self.amount_field()));
        }
        if !matches!(self.amount, Amount::Bytes { .. })
            && (down(len, source.size) != len || down(len, destination.size) != len)
        {
            let asc = Asc::UNEXPECTED_INEXACT_SEGMENT;
            return Err(Fault::of_field(asc, self.amount_field()));
        }
        let place = |medium: Medium, lba: u64, offset: u64| {
            let end = medium.capacity.bytes(medium.size)?;
            let first = Blocks(lba).bytes(medium.size)?.checked_add(offset)?;
            (first.checked_add(len)? <= end).then_some(first)
        };
        Ok(Range {
            from: place(source, self.from, from).ok_or(Fault::beyond(Side::Source, SOURCE_LBA))?,
            to: place(destination, self.to, to)
                .ok_or(Fault::beyond(Side::Destination, DESTINATION_LBA))?,
            len,
        })
    }

    /// In what a residue is counted: how many bytes one is.
    pub const fn unit(&self, source: BlockSize, destination: BlockSize) -> u32 {
        match self.amount {
            Amount::SourceBlocks(_) => source.bytes(),
            Amount::DestinationBlocks(_) => destination.bytes(),
            Amount::Bytes { .. } => 1,
        }
    }

    /// All of it, in these units.
    pub fn units(&self) -> u64 {
        match self.amount {
            Amount::SourceBlocks(n) | Amount::DestinationBlocks(n) => n.into(),
            Amount::Bytes { count, .. } => count.into(),
        }
    }
}

fn bytes(blocks: u16, size: BlockSize) -> u64 {
    u64::from(blocks).wrapping_shl(size.shift())
}

// The start of the block that `pos` is in.
const fn down(pos: u64, size: BlockSize) -> u64 {
    pos & !(size.bytes() as u64).wrapping_sub(1)
}

// The end of the block whose last byte is before `pos`; `pos` lies on a medium, so that this fits.
const fn up(pos: u64, size: BlockSize) -> u64 {
    let last = (size.bytes() as u64).wrapping_sub(1);
    down(pos.saturating_add(last), size)
}

impl Range {
    /// What is copied next, when `done` bytes are; `None` when all are. Pieces end where blocks of the destination do, so that
    /// only the first and the last one keep a part of a block.
    pub fn piece(&self, done: u64, source: BlockSize, destination: BlockSize) -> Option<Piece> {
        let left = self.len.checked_sub(done).filter(|left| *left != 0)?;
        let to = self.to.checked_add(done)?;
        let from = self.from.checked_add(done)?;
        let write = down(to, destination);
        let offset = to.checked_sub(write)?;
        let len = left.min(PIECE.checked_sub(offset)?);
        let end = to.checked_add(len)?;
        let read = down(from, source);
        Some(Piece {
            read: Whole {
                pos: read,
                len: up(from.checked_add(len)?, source).checked_sub(read)?,
            },
            skip: from.checked_sub(read)?,
            write: Whole {
                pos: write,
                len: up(end, destination).checked_sub(write)?,
            },
            offset,
            len,
        })
    }
}
