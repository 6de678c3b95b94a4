// SPDX-License-Identifier: GPL-2.0

//! The MODE SELECT parameter list (SPC-4, 6.11 and 7.5; SBC-3, 6.5.2).

use super::{
    pages::{Page, LONGEST, PAGES},
    Unit, Values, DPOFUA, WP,
};
use crate::{
    bytes::{be16, be32, be64, Writer},
    sense::Sense,
};

/// The longest parameter list that is accepted: each page, more than once.
pub const MAX_LIST: usize = 4096;

/// What the unit's values become by the parameter list `list`, which came with a CDB of ten bytes (`ten`), or of six.
///
/// A list of no bytes changes nothing. All of the list is checked before anything is to be changed; a field that cannot be changed
/// has to have the value that it has (SPC-4, 6.11).
///
/// # Errors
/// PARAMETER LIST LENGTH ERROR for a list that ends inside of a header, a block descriptor or a page; INVALID FIELD IN PARAMETER
/// LIST, with a pointer to the field.
pub fn select(unit: &Unit, ten: bool, list: &[u8]) -> Result<Values, Sense> {
    let mut values = unit.current;
    if list.is_empty() {
        return Ok(values);
    }
    let mut at = header(unit, ten, list)?;
    while let Some(rest) = list.get(at..).filter(|rest| !rest.is_empty()) {
        let page = find(unit, rest, at)?;
        let start = at.saturating_add(page.header_length());
        let end = start.saturating_add(usize::from(page.length));
        let body = list.get(start..end).ok_or(Sense::PARAMETER_LIST_LENGTH)?;
        unchanged(unit, page, body, start)?;
        (page.take)(body, &mut values)
            .and_then(|()| page.settle(unit, body, &mut values))
            .map_err(|wrong| invalid_bit(start.saturating_add(wrong.byte), wrong.bit))?;
        at = end;
    }
    Ok(values)
}

/// INVALID FIELD IN PARAMETER LIST at byte `at`.
fn invalid(at: usize) -> Sense {
    Sense::invalid_parameter_byte(u16::try_from(at).unwrap_or(u16::MAX))
}

/// INVALID FIELD IN PARAMETER LIST at bit `bit` of byte `at`.
fn invalid_bit(at: usize, bit: u8) -> Sense {
    Sense::invalid_parameter_bit(u16::try_from(at).unwrap_or(u16::MAX), bit)
}

/// The leftmost bit of `wrong` that is set, 7 to 0.
fn leading_bit(wrong: u8) -> u8 {
    u8::try_from(wrong.leading_zeros()).unwrap_or(0).min(7) ^ 7
}

/// Checks the header and the block descriptor; where the pages begin.
///
/// MODE DATA LENGTH is reserved, and so are WP and DPOFUA: initiators send what they got from MODE SENSE, and they are ignored.
fn header(unit: &Unit, ten: bool, list: &[u8]) -> Result<usize, Sense> {
    let short = || Sense::PARAMETER_LIST_LENGTH;
    let (medium, length, length_at, long) = if ten {
        let header = list.first_chunk::<8>().ok_or_else(short)?;
        let [_, _, medium, _, flags, reserved, ..] = *header;
        // LONGLBA is all that there is.
        if flags & !0x01 != 0 {
            return Err(invalid_bit(4, leading_bit(flags & !0x01)));
        }
        if reserved != 0 {
            return Err(invalid(5));
        }
        let length = be16(header, 6).unwrap_or(0);
        (medium, usize::from(length), 6, flags & 0x01 != 0)
    } else {
        let [_, medium, _, length] = *list.first_chunk::<4>().ok_or_else(short)?;
        (medium, usize::from(length), 3, false)
    };
    let (medium_at, start) = if ten { (2usize, 8usize) } else { (1, 4) };
    if medium != 0 {
        return Err(invalid(medium_at));
    }
    let specific_at = medium_at.saturating_add(1);
    let specific = list.get(specific_at).copied().unwrap_or(0) & !(WP | DPOFUA);
    if specific != 0 {
        return Err(invalid_bit(specific_at, leading_bit(specific)));
    }
    let one = if long { 16 } else { 8 };
    if length != 0 {
        if length != one {
            return Err(invalid(length_at));
        }
        let end = start.saturating_add(length);
        let descriptor = list.get(start..end).ok_or_else(short)?;
        descriptor_fits(unit, descriptor, long, start)?;
    }
    Ok(start.saturating_add(length))
}

/// Checks a block descriptor: neither the number of blocks nor their length can be changed.
///
/// As the number, zero is what it is, and the highest value is the most that there can be (SBC-3, 6.5.2.2): the same.
fn descriptor_fits(unit: &Unit, descriptor: &[u8], long: bool, start: usize) -> Result<(), Sense> {
    let blocks = unit.blocks.0;
    let (same, length_at, length) = if long {
        let said = be64(descriptor, 0).unwrap_or(0);
        (
            said == 0 || said == blocks || said == u64::MAX,
            12,
            be32(descriptor, 12),
        )
    } else {
        let said = be32(descriptor, 0).unwrap_or(0);
        let shown = u32::try_from(blocks).unwrap_or(u32::MAX);
        // Of four bytes, the first is reserved.
        (
            said == 0 || said == shown || said == u32::MAX,
            5,
            be32(descriptor, 4),
        )
    };
    if !same {
        return Err(invalid(start));
    }
    if length != Some(unit.block_size.bytes()) {
        return Err(invalid(start.saturating_add(length_at)));
    }
    Ok(())
}

/// The page that begins at `at` of the list, with `rest`.
fn find(unit: &Unit, rest: &[u8], at: usize) -> Result<&'static Page, Sense> {
    let short = Sense::PARAMETER_LIST_LENGTH;
    let [first, second, ..] = *rest else {
        return Err(short);
    };
    // PS is reserved here, and set in what MODE SENSE of others answers. SPF tells which format the page has.
    let code = first & 0x3f;
    let sub = first & 0x40 != 0;
    let there = PAGES.iter().filter(|page| page.is_there(unit));
    let mut known = there.filter(|page| page.code == code).peekable();
    if known.peek().is_none() {
        return Err(invalid_bit(at, 5));
    }
    if !sub {
        let page = known
            .find(|page| page.subpage == 0)
            .ok_or(invalid_bit(at, 6))?;
        if u16::from(second) != page.length {
            return Err(invalid(at.saturating_add(1)));
        }
        return Ok(page);
    }
    let page = known
        .find(|page| page.subpage != 0 && page.subpage == second)
        .ok_or(invalid(at.saturating_add(1)))?;
    if be16(rest, 2).ok_or(short)? != page.length {
        return Err(invalid(at.saturating_add(2)));
    }
    Ok(page)
}

/// No bit differs from the current values that cannot be changed. `start` is where `body` is in the list.
fn unchanged(unit: &Unit, page: &Page, body: &[u8], start: usize) -> Result<(), Sense> {
    let (mut current, mut mask) = ([0; LONGEST], [0; LONGEST]);
    (page.values)(unit, &unit.current, &mut Writer::new(&mut current));
    page.mask(unit, &mut Writer::new(&mut mask));
    let bytes = body.iter().zip(current.iter().zip(&mask));
    for (offset, (new, (old, mask))) in bytes.enumerate() {
        let wrong = (new ^ old) & !mask;
        if wrong != 0 {
            return Err(invalid_bit(
                start.saturating_add(offset),
                leading_bit(wrong),
            ));
        }
    }
    Ok(())
}
