// SPDX-License-Identifier: GPL-2.0

//! The parameter list of EXTENDED COPY (SPC-4, 6.4.2 to 6.4.6).

use super::{MAX_CSCDS, MAX_DESCRIPTORS, MAX_SEGMENTS};
use crate::{
    bytes::{be16, be32, be64},
    sense::{Asc, Key, Sense},
};

/// Bytes before the descriptors, with a list identifier of one byte, and of four.
pub const HEADER: usize = 16;
/// See [`HEADER`].
pub const HEADER_LID4: usize = 48;
/// Bytes of a CSCD descriptor.
pub const CSCD: usize = 32;
/// Bytes of the longest segment descriptor.
pub const LONGEST_SEGMENT: usize = 32;
/// The longest list.
pub const MAX_LIST: u32 = (HEADER + MAX_DESCRIPTORS) as u32;
/// The longest list with a list identifier of four bytes.
pub const MAX_LIST_LID4: u32 = (HEADER_LID4 + MAX_DESCRIPTORS) as u32;

/// Identification descriptor CSCD descriptor
pub(super) const IDENTIFICATION: u8 = 0xe4;
/// Copy from block device to block device
pub(super) const BLOCK_TO_BLOCK: u8 = 0x02;
/// Copy from block device with offset to block device with offset
pub(super) const BYTES_TO_BYTES: u8 = 0x0a;

/// A list whose descriptors are all of known types and as long as they ought to be.
#[derive(Clone, Copy, Debug)]
pub struct List<'a> {
    /// LIST IDENTIFIER, by which others than the copy's own command name it; `None`: by nothing.
    pub identifier: Option<u32>,
    /// Where the descriptors begin, and which fields have the lengths of their lists.
    header: usize,
    lengths: (usize, usize),
    cscds: &'a [u8],
    segments: &'a [u8],
}

/// A designator, as the device identification page has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Designator<'a> {
    /// CODE SET
    pub code_set: u8,
    /// ASSOCIATION
    pub association: u8,
    /// DESIGNATOR TYPE
    pub kind: u8,
    /// DESIGNATOR
    pub bytes: &'a [u8],
}

/// A copy source or copy destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cscd<'a> {
    /// No device: nothing can be read from or written to it (NUL).
    pub null: bool,
    /// PERIPHERAL DEVICE TYPE
    pub device_type: u8,
    /// Which logical unit it is.
    pub designator: Designator<'a>,
    /// DISK BLOCK LENGTH
    pub block_length: u32,
}

/// How much a segment copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// Blocks of the source (DC is zero).
    SourceBlocks(u16),
    /// Blocks of the destination.
    DestinationBlocks(u16),
    /// Bytes, which begin so far inside of the two first blocks.
    Bytes {
        /// NUMBER OF BYTES
        count: u32,
        /// SOURCE BLOCK DEVICE BYTE OFFSET
        from: u16,
        /// DESTINATION BLOCK DEVICE BYTE OFFSET
        to: u16,
    },
}

/// A segment descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// SOURCE CSCD DESCRIPTOR ID
    pub source: u16,
    /// DESTINATION CSCD DESCRIPTOR ID
    pub destination: u16,
    /// How much.
    pub amount: Amount,
    /// SOURCE BLOCK DEVICE LOGICAL BLOCK ADDRESS
    pub from: u64,
    /// DESTINATION BLOCK DEVICE LOGICAL BLOCK ADDRESS
    pub to: u64,
}

fn illegal(asc: Asc) -> Sense {
    Sense::new(Key::IllegalRequest, asc)
}

// A field pointer to byte `at` of the list: no list that is parsed is longer.
fn wrong(at: usize) -> Sense {
    Sense::invalid_parameter_byte(u16::try_from(at).unwrap_or(u16::MAX))
}

fn wrong_bit(at: usize, bit: u8) -> Sense {
    Sense::invalid_parameter_bit(u16::try_from(at).unwrap_or(u16::MAX), bit)
}

// LIST ID USAGE, and the identifier at `at`.
fn identifier(flags: u8, id: u32, at: usize) -> Result<Option<u32>, Sense> {
    match (flags >> 3) & 0b11 {
        0b00 | 0b10 => Ok(Some(id)),
        0b11 if id == 0 => Ok(None),
        // Without an identifier there is none to be given.
        0b11 => Err(wrong(at)),
        _ => Err(wrong_bit(1, 4)),
    }
}

impl<'a> List<'a> {
    /// Reads the list of EXTENDED COPY(LID1), which is not empty.
    ///
    /// STR and PRIORITY ask for no more than is done anyhow: segments are copied one after the other, as any other command is.
    ///
    /// # Errors
    /// PARAMETER LIST LENGTH ERROR for a list that is cut off, and for more bytes of descriptors than there may be; TOO MANY TARGET or
    /// SEGMENT DESCRIPTORS; UNSUPPORTED TARGET or SEGMENT DESCRIPTOR TYPE CODE; INLINE DATA LENGTH EXCEEDED; INVALID FIELD IN
    /// PARAMETER LIST with a pointer.
    pub fn parse(list: &'a [u8]) -> Result<Self, Sense> {
        let cut_off = Sense::PARAMETER_LIST_LENGTH;
        let header = list.get(..HEADER).ok_or(cut_off)?;
        let &[id, flags, ..] = header else {
            return Err(cut_off);
        };
        let identifier = identifier(flags, id.into(), 0)?;
        let cscds = be16(header, 2).ok_or(cut_off)?.into();
        let segments = be32(header, 8).ok_or(cut_off)?;
        // MAXIMUM INLINE DATA LENGTH is zero.
        let inline = be32(header, 12).ok_or(cut_off)?;
        Self::with(list, identifier, HEADER, (2, 8), (cscds, segments, inline))
    }

    /// Reads the list of EXTENDED COPY(LID4), which is not empty. With IMMED the answer may come before all is copied; it may come
    /// later as well, and says then how it went.
    ///
    /// # Errors
    /// As [`List::parse`]; sense data with GOOD status (G_SENSE) cannot be had.
    pub fn parse_lid4(list: &'a [u8]) -> Result<Self, Sense> {
        let cut_off = Sense::PARAMETER_LIST_LENGTH;
        let header = list.get(..HEADER_LID4).ok_or(cut_off)?;
        let &[format, flags, ..] = header else {
            return Err(cut_off);
        };
        // PARAMETER LIST FORMAT
        if format != 0x01 {
            return Err(wrong(0));
        }
        // HEADER CSCD DESCRIPTOR LIST LENGTH, HEADER CSCD DESCRIPTOR TYPE CODE
        if be16(header, 2) != Some(0x0020) {
            return Err(wrong(2));
        }
        if header.get(16) != Some(&0xff) {
            return Err(wrong(16));
        }
        if header.get(15).is_some_and(|flags| flags & 0x02 != 0) {
            return Err(wrong_bit(15, 1));
        }
        let id = be32(header, 20).ok_or(cut_off)?;
        let identifier = identifier(flags, id, 20)?;
        let field = |at| be16(header, at).map(u32::from).ok_or(cut_off);
        let lengths = (field(42)?, field(44)?, field(46)?);
        Self::with(list, identifier, HEADER_LID4, (42, 44), lengths)
    }

    // Reads the descriptors behind a header that says how long their lists and the inline data are.
    fn with(
        list: &'a [u8],
        identifier: Option<u32>,
        header: usize,
        fields: (usize, usize),
        (cscds, segments, inline): (u32, u32, u32),
    ) -> Result<Self, Sense> {
        let cut_off = Sense::PARAMETER_LIST_LENGTH;
        let length = |length| usize::try_from(length).unwrap_or(usize::MAX);
        let (cscds, segments) = (length(cscds), length(segments));
        if cscds.saturating_add(segments) > MAX_DESCRIPTORS {
            return Err(cut_off);
        }
        if inline != 0 {
            return Err(illegal(Asc::INLINE_DATA_LENGTH));
        }
        let body = list.get(header..).ok_or(cut_off)?;
        let (cscds, rest) = body.split_at_checked(cscds).ok_or(cut_off)?;
        let segments = rest.get(..segments).ok_or(cut_off)?;
        let list = Self {
            identifier,
            header,
            lengths: fields,
            cscds,
            segments,
        };
        list.check_cscds()?;
        list.check_segments()?;
        Ok(list)
    }

    fn check_cscds(&self) -> Result<(), Sense> {
        const PAD: u8 = 0x04;
        if self.cscds.len() > MAX_CSCDS.saturating_mul(CSCD) {
            return Err(illegal(Asc::TOO_MANY_TARGET_DESCRIPTORS));
        }
        let mut at = self.header;
        let whole = wrong(self.lengths.0);
        for descriptor in self.cscds.chunks(CSCD) {
            // LU ID TYPE, in byte 1, is obsolete in SPC-4.
            let &[kind, _, _, _, _, _, _, length, ..] = descriptor else {
                return Err(whole);
            };
            if kind != IDENTIFICATION {
                return Err(illegal(Asc::UNSUPPORTED_TARGET_DESCRIPTOR));
            }
            if descriptor.len() != CSCD {
                return Err(whole);
            }
            if usize::from(length) > MAX_DESIGNATOR {
                return Err(wrong(at.saturating_add(7)));
            }
            // What does not fill a block is neither padded nor left away.
            if descriptor.get(28).is_some_and(|flags| flags & PAD != 0) {
                return Err(wrong_bit(at.saturating_add(28), 2));
            }
            at = at.saturating_add(CSCD);
        }
        Ok(())
    }

    fn check_segments(&self) -> Result<(), Sense> {
        let mut rest = self.segments;
        let mut count = 0usize;
        while !rest.is_empty() {
            count = count.saturating_add(1);
            if count > MAX_SEGMENTS {
                return Err(illegal(Asc::TOO_MANY_SEGMENT_DESCRIPTORS));
            }
            let at = self
                .header
                .saturating_add(self.cscds.len())
                .saturating_add(self.segments.len().saturating_sub(rest.len()));
            let kind = rest.first().copied().unwrap_or(0);
            let length = length_of(kind).ok_or(illegal(Asc::UNSUPPORTED_SEGMENT_DESCRIPTOR))?;
            // SEGMENT DESCRIPTOR LIST LENGTH ends inside of it.
            let next = rest.get(length..).ok_or(wrong(self.lengths.1))?;
            // DESCRIPTOR LENGTH counts what follows it.
            if be16(rest, 2).map(usize::from) != length.checked_sub(4) {
                return Err(wrong(at.saturating_add(2)));
            }
            rest = next;
        }
        Ok(())
    }

    /// The CSCD with this descriptor ID; `None` if there is none.
    pub fn cscd(&self, id: u16) -> Option<Cscd<'a>> {
        let at = usize::from(id).checked_mul(CSCD)?;
        let descriptor = self.cscds.get(at..at.checked_add(CSCD)?)?;
        let &[_, flags, _, _, code_set, kind, _, length, ..] = descriptor else {
            return None;
        };
        let designator = descriptor.get(8..)?.get(..usize::from(length))?;
        Some(Cscd {
            null: flags & 0x20 != 0,
            device_type: flags & 0x1f,
            designator: Designator {
                code_set: code_set & 0x0f,
                association: (kind >> 4) & 0b11,
                kind: kind & 0x0f,
                bytes: designator,
            },
            // Three bytes, behind the one that PAD is in.
            block_length: be32(descriptor, 28)? & 0x00ff_ffff,
        })
    }

    /// The segments, in order.
    pub fn segments(&self) -> impl Iterator<Item = Segment> + 'a {
        let mut rest = self.segments;
        core::iter::from_fn(move || {
            let segment = Segment::read(rest)?;
            rest = rest.get(length_of(*rest.first()?)?..)?;
            Some(segment)
        })
    }
}

/// Bytes that a designator may have.
const MAX_DESIGNATOR: usize = 20;

/// Bytes of a segment descriptor of this type.
const fn length_of(kind: u8) -> Option<usize> {
    match kind {
        BLOCK_TO_BLOCK => Some(28),
        BYTES_TO_BYTES => Some(LONGEST_SEGMENT),
        _ => None,
    }
}

impl Segment {
    fn read(bytes: &[u8]) -> Option<Self> {
        let &[kind, flags, ..] = bytes else {
            return None;
        };
        let (amount, first) = match kind {
            BLOCK_TO_BLOCK => {
                let count = be16(bytes, 10)?;
                let amount = if flags & 0x02 != 0 {
                    Amount::DestinationBlocks(count)
                } else {
                    Amount::SourceBlocks(count)
                };
                (amount, 12)
            }
            BYTES_TO_BYTES => (
                Amount::Bytes {
                    count: be32(bytes, 8)?,
                    from: be16(bytes, 28)?,
                    to: be16(bytes, 30)?,
                },
                12,
            ),
            _ => return None,
        };
        Some(Self {
            source: be16(bytes, 4)?,
            destination: be16(bytes, 6)?,
            amount,
            from: be64(bytes, first)?,
            to: be64(bytes, first.checked_add(8)?)?,
        })
    }
}
