// SPDX-License-Identifier: GPL-2.0

//! ROD tokens (SPC-4, 5.17.6) and the parameter lists that make and use them (SBC-3, 5.7 and 5.49).
//!
//! A token stands for blocks as they are when they are referred to: type "access upon reference" is all that can be
//! told truly without a copy being kept.

use super::plan::Range;
use crate::{
    bytes::{be16, be32, be64, Writer},
    capacity::Capacity,
    inquiry::Protocol,
    lba::{BlockSize, Blocks, Extent},
    sense::{Asc, Key, Sense},
};

/// Bytes of a token.
pub const TOKEN: usize = 512;
/// A token's bytes.
pub type Token = [u8; TOKEN];
/// Its header and its body: a ROD management token.
pub const BODY: usize = 96;
/// Bytes of a token that nobody can guess, at its end.
pub const SECRET: usize = 64;
/// Range descriptors of one command: MAXIMUM RANGE DESCRIPTORS.
pub const MAX_RANGES: usize = 64;
/// Bytes that one command is about, as MAXIMUM TOKEN TRANSFER SIZE says in blocks.
pub const MAX_BYTES: u64 = 256 << 20;
/// Bytes that one command is best about: OPTIMAL TRANSFER COUNT.
pub const OPTIMAL_BYTES: u64 = 64 << 20;
/// Seconds for which a token that is not used lives, where its maker does not say.
pub const DEFAULT_TIMEOUT: u32 = 60;
/// The same at most.
pub const MAX_TIMEOUT: u32 = 600;

/// Access upon reference
pub const ACCESS_UPON_REFERENCE: u32 = 0x0001_0000;
/// Block device zero ROD token
pub const BLOCK_ZERO: u32 = 0xffff_0001;

/// Bytes before the range descriptors.
const POPULATE_HEADER: usize = 16;
const WRITE_HEADER: usize = 536;
const RANGE: usize = 16;
/// The longest lists.
pub const MAX_POPULATE_LIST: u32 = (POPULATE_HEADER + MAX_RANGES * RANGE) as u32;
/// See [`MAX_POPULATE_LIST`].
pub const MAX_WRITE_LIST: u32 = (WRITE_HEADER + MAX_RANGES * RANGE) as u32;
/// ROD TOKEN LENGTH: what follows it.
const TOKEN_LENGTH: u16 = 0x01f8;

/// Block device range descriptors, all of which lie on the medium.
#[derive(Clone, Copy, Debug)]
pub struct Ranges<'a> {
    descriptors: &'a [u8],
}

/// The list of POPULATE TOKEN.
#[derive(Clone, Copy, Debug)]
pub struct Populate<'a> {
    /// INACTIVITY TIMEOUT, in seconds.
    pub timeout: u32,
    /// What the token is to stand for. It is done at once, so that IMMED changes nothing.
    pub ranges: Ranges<'a>,
}

/// The list of WRITE USING TOKEN. With IMMED the answer may come before all is written; it may come later as well, and says then how
/// it went.
#[derive(Clone, Copy, Debug)]
pub struct WriteUsing<'a> {
    /// The token is not needed any more (DEL_TKN).
    pub delete: bool,
    /// OFFSET INTO ROD, in bytes.
    pub offset: u64,
    /// The token.
    pub token: &'a Token,
    /// Where to.
    pub ranges: Ranges<'a>,
}

/// What a token says by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Blocks of zeroes, as many as are wanted.
    Zero,
    /// One of this copy manager's, with this COPY MANAGER ROD TOKEN IDENTIFIER, if it is known.
    Own(u64),
}

/// What a token is made of.
#[derive(Clone, Copy, Debug)]
pub struct Made<'a> {
    /// COPY MANAGER ROD TOKEN IDENTIFIER
    pub id: u64,
    /// The NAA designator of the logical unit; without a serial number it has none.
    pub creator: Option<[u8; 16]>,
    /// NUMBER OF BYTES REPRESENTED
    pub bytes: u64,
    /// Of the logical unit.
    pub capacity: Capacity,
    /// The protocol of the target port, and the name of the target.
    pub target: (Protocol, &'a [u8]),
    /// Random.
    pub secret: &'a [u8; SECRET],
}

fn wrong(at: usize) -> Sense {
    Sense::invalid_parameter_byte(u16::try_from(at).unwrap_or(u16::MAX))
}

/// INVALID TOKEN OPERATION, for the reason of this qualifier (SPC-4, annex D.2).
pub const fn invalid_token(qualifier: u8) -> Sense {
    Sense::new(
        Key::IllegalRequest,
        Asc {
            code: 0x23,
            qualifier,
        },
    )
}

/// UNSUPPORTED TOKEN TYPE
pub const UNSUPPORTED_TYPE: Sense = invalid_token(0x01);
/// TOKEN UNKNOWN
pub const UNKNOWN: Sense = invalid_token(0x04);
/// TOKEN CORRUPT
pub const CORRUPT: Sense = invalid_token(0x05);
/// TOKEN REVOKED
pub const REVOKED: Sense = invalid_token(0x06);
/// TOKEN EXPIRED
pub const EXPIRED: Sense = invalid_token(0x07);
/// TOKEN CANCELLED
pub const CANCELLED: Sense = invalid_token(0x08);
/// TOKEN DELETED
pub const DELETED: Sense = invalid_token(0x09);
/// INVALID TOKEN LENGTH
pub const INVALID_LENGTH: Sense = invalid_token(0x0a);

impl<'a> Ranges<'a> {
    // Those whose length is at `at`, right before them, on a medium of `capacity` blocks of `size`.
    fn parse(list: &'a [u8], at: usize, size: BlockSize, capacity: Blocks) -> Result<Self, Sense> {
        let cut_off = Sense::PARAMETER_LIST_LENGTH;
        let length = usize::from(be16(list, at).ok_or(cut_off)?);
        if length < RANGE || length & RANGE.wrapping_sub(1) != 0 {
            return Err(wrong(at));
        }
        if length > MAX_RANGES.saturating_mul(RANGE) {
            let asc = Asc::TOO_MANY_SEGMENT_DESCRIPTORS;
            return Err(Sense::new(Key::IllegalRequest, asc));
        }
        let first = at.saturating_add(2);
        let descriptors = list.get(first..).and_then(|rest| rest.get(..length));
        let ranges = Self {
            descriptors: descriptors.ok_or(cut_off)?,
        };
        let mut total = 0u64;
        for (index, extent) in ranges.extents().enumerate() {
            extent.check(capacity)?;
            let at = first.saturating_add(index.saturating_mul(RANGE));
            if ranges.extents().take(index).any(|e| e.overlaps(extent)) {
                return Err(wrong(at));
            }
            total = total.saturating_add(extent.bytes(size).unwrap_or(u64::MAX));
            if total > MAX_BYTES {
                return Err(wrong(at.saturating_add(8)));
            }
        }
        Ok(ranges)
    }

    /// The ranges, in order.
    pub fn extents(&self) -> impl Iterator<Item = Extent> + 'a {
        let descriptors = self.descriptors.chunks_exact(RANGE);
        descriptors.filter_map(|d| Some(Extent::new(be64(d, 0)?, be32(d, 8)?.into())))
    }

    /// All blocks of theirs.
    pub fn blocks(&self) -> u64 {
        self.extents()
            .fold(0, |sum, extent| sum.saturating_add(extent.blocks.0))
    }
}

// The list has what its data length says, `least` bytes behind that field at least.
fn check_length(list: &[u8], least: u16) -> Result<(), Sense> {
    let cut_off = Sense::PARAMETER_LIST_LENGTH;
    let whole = usize::from(least).saturating_add(2);
    let length = be16(list, 0).filter(|_| list.len() >= whole);
    let length = length.ok_or(cut_off)?;
    if length < least {
        return Err(wrong(0));
    }
    if list.len() < usize::from(length).saturating_add(2) {
        return Err(cut_off);
    }
    Ok(())
}

impl<'a> Populate<'a> {
    /// Reads the list, which is not empty.
    ///
    /// # Errors
    /// PARAMETER LIST LENGTH ERROR; INVALID FIELD IN PARAMETER LIST with a pointer, where a type is asked for that there is not, too
    /// long a time, too many blocks, or blocks twice; TOO MANY SEGMENT DESCRIPTORS; LOGICAL BLOCK ADDRESS OUT OF RANGE.
    pub fn parse(list: &'a [u8], size: BlockSize, capacity: Blocks) -> Result<Self, Sense> {
        check_length(list, 0x001e)?;
        let cut_off = Sense::PARAMETER_LIST_LENGTH;
        let flags = list.get(2).copied().ok_or(cut_off)?;
        // RTV
        if flags & 0x02 != 0 && be32(list, 8) != Some(ACCESS_UPON_REFERENCE) {
            return Err(wrong(8));
        }
        let timeout = match be32(list, 4).ok_or(cut_off)? {
            0 => DEFAULT_TIMEOUT,
            timeout if timeout > MAX_TIMEOUT => return Err(wrong(4)),
            timeout => timeout,
        };
        Ok(Self {
            timeout,
            ranges: Ranges::parse(list, 14, size, capacity)?,
        })
    }
}

impl<'a> WriteUsing<'a> {
    /// Reads the list, which is not empty.
    ///
    /// # Errors
    /// As [`Populate::parse`].
    pub fn parse(list: &'a [u8], size: BlockSize, capacity: Blocks) -> Result<Self, Sense> {
        check_length(list, 0x0226)?;
        let cut_off = Sense::PARAMETER_LIST_LENGTH;
        let flags = list.get(2).copied().ok_or(cut_off)?;
        let offset = Blocks(be64(list, 8).ok_or(cut_off)?);
        Ok(Self {
            delete: flags & 0x02 != 0,
            offset: offset.bytes(size).ok_or(wrong(8))?,
            token: list
                .get(16..)
                .and_then(<[u8]>::first_chunk)
                .ok_or(cut_off)?,
            ranges: Ranges::parse(list, 534, size, capacity)?,
        })
    }
}

/// Where the field of WRITE USING TOKEN's list is that says how far into the ROD.
pub const OFFSET_AT: u16 = 8;

impl Kind {
    /// What `token` is.
    ///
    /// # Errors
    /// UNSUPPORTED TOKEN TYPE, INVALID TOKEN LENGTH.
    pub fn of(token: &Token) -> Result<Self, Sense> {
        let kind = match be32(token, 0) {
            Some(BLOCK_ZERO) => Self::Zero,
            Some(ACCESS_UPON_REFERENCE) => Self::Own(be64(token, 8).unwrap_or(0)),
            _ => return Err(UNSUPPORTED_TYPE),
        };
        if be16(token, 6) != Some(TOKEN_LENGTH) {
            return Err(INVALID_LENGTH);
        }
        Ok(kind)
    }
}

/// The tokens are the same: in a time that does not tell where they differ.
pub fn same(a: &Token, b: &Token) -> bool {
    a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

/// Makes a token.
pub fn make(made: &Made<'_>) -> Token {
    let mut token = [0; TOKEN];
    let mut out = Writer::new(&mut token);
    out.be32(ACCESS_UPON_REFERENCE);
    out.be16(0);
    out.be16(TOKEN_LENGTH);
    out.be64(made.id);
    // CREATOR LOGICAL UNIT DESCRIPTOR
    if let Some(name) = made.creator {
        out.put(&[0xe4, 0, 0, 0, 0x01, 0x03, 0, 16]);
        out.put(&name);
    } else {
        // A null device.
        out.put(&[0xe4, 0x20, 0, 0, 0, 0, 0, 0]);
    }
    out.zeros_to(44);
    out.be32(made.capacity.block_size.bytes());
    out.be64(0);
    out.be64(made.bytes);
    // DEVICE TYPE SPECIFIC DATA (SBC-3, 4.28.5): what READ CAPACITY (16) says of a logical block.
    out.zeros_to(BODY);
    let mut capacity = [0; 32];
    made.capacity.write_16(&mut Writer::new(&mut capacity));
    out.put(capacity.get(8..).unwrap_or(&[]));
    out.zeros_to(128);
    target(made.target, &mut out);
    out.zeros_to(TOKEN.saturating_sub(SECRET));
    out.put(made.secret);
    token
}

/// TARGET DEVICE DESCRIPTOR: a SCSI name string. A name that does not fit, with its terminator, is left out.
fn target((protocol, name): (Protocol, &[u8]), out: &mut Writer<'_>) {
    const ROOM: usize = 128 - 4;
    let length = name.len().saturating_add(1).next_multiple_of(4);
    let Some(length) = u8::try_from(length)
        .ok()
        .filter(|n| usize::from(*n) <= ROOM)
    else {
        return;
    };
    // UTF-8; PIV, of a target device.
    out.put(&[((protocol as u8) << 4) | 0x03, 0xa8, 0, length]);
    out.put(name);
}

/// Writes REPORT ALL ROD TOKENS parameter data (SPC-4, 6.31): of each token its ROD management token, which is what comes before
/// what nobody can guess.
pub fn write_all<'a>(tokens: impl Iterator<Item = &'a Token>, out: &mut Writer<'_>) {
    out.be64(0);
    for token in tokens {
        out.put(token.get(..BODY).unwrap_or(&[]));
    }
    let available = u32::try_from(out.len().saturating_sub(4)).unwrap_or(u32::MAX);
    out.overwrite(0, &available.to_be_bytes());
}

/// Bytes `from` on of a ROD whose data is in `ranges`: where they are, and how many follow there. `None` beyond its end.
pub fn locate(
    ranges: impl IntoIterator<Item = Extent>,
    size: BlockSize,
    from: u64,
) -> Option<(u64, u64)> {
    let mut before = 0u64;
    for extent in ranges {
        let len = extent.bytes(size)?;
        let inside = from.checked_sub(before)?;
        if inside < len {
            let pos = extent.offset(size)?.checked_add(inside)?;
            return Some((pos, len.checked_sub(inside)?));
        }
        before = before.checked_add(len)?;
    }
    None
}

/// What is copied at once to `to`, a range of the destination in bytes of which `done` are, when the byte of the ROD is at
/// `source`, as [`locate`] has it.
pub fn span(source: (u64, u64), to: (u64, u64), done: u64) -> Option<Range> {
    let left = to.1.checked_sub(done)?;
    Some(Range {
        from: source.0,
        to: to.0.checked_add(done)?,
        len: left.min(source.1),
    })
}
