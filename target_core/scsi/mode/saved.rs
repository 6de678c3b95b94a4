// SPDX-License-Identifier: GPL-2.0

//! Saved mode parameters (SPC-4, 5.10) as text: a line `page_CODE_SUBPAGE=BYTES` for each page, in hexadecimal digits, with the bytes
//! that follow the page's header.

use super::pages::{Page, LONGEST, PAGES};
use super::{Unit, Values};
use crate::{bytes::Writer, lba::Blocks, pi};
use core::str::Lines;

/// The longest text. All pages take 2,592 bytes.
pub const MAX: usize = 4096;

/// The text is none that [`write`] wrote: the line, counted from 1, where that shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub usize);

/// Writes `values` of `unit`.
pub fn write(unit: &Unit, values: &Values, out: &mut Writer<'_>) {
    // What is kept is not what the unit makes of it, which may be formatted otherwise, and grow or shrink until it is read.
    let unit = &Unit {
        blocks: Blocks(u64::MAX),
        protection: Some(pi::Type::One),
        ..*unit
    };
    for page in &PAGES {
        let mut bytes = [0; LONGEST];
        let mut body = Writer::new(&mut bytes);
        (page.values)(unit, values, &mut body);
        out.put(b"page_");
        hex(page.code, out);
        out.u8(b'_');
        hex(page.subpage, out);
        out.u8(b'=');
        body.as_slice().iter().for_each(|byte| hex(*byte, out));
        out.u8(b'\n');
    }
}

/// What `default` becomes by the text: a page that is not there is as by default, and so is what cannot be changed.
///
/// # Errors
/// For all that [`write`] does not write: an unknown page, one that is there twice, a wrong length, a reserved value.
pub fn read(text: &[u8], default: &Values) -> Result<Values, Malformed> {
    if text.len() > MAX || !matches!(text.last(), None | Some(b'\n')) {
        return Err(Malformed(0));
    }
    let text = core::str::from_utf8(text).map_err(|_| Malformed(0))?;
    let mut values = *default;
    for (index, line) in text.lines().enumerate() {
        let wrong = Malformed(index.saturating_add(1));
        let (page, digits) = parse(line).ok_or(wrong)?;
        if earlier(text.lines(), index).any(|before| before == (page.code, page.subpage)) {
            return Err(wrong);
        }
        let mut bytes = [0; LONGEST];
        let body = bytes.get_mut(..page.length.into()).ok_or(wrong)?;
        unhex(digits, body).ok_or(wrong)?;
        (page.take)(body, &mut values).map_err(|_| wrong)?;
    }
    Ok(values)
}

// The pages of the first `count` lines.
fn earlier(lines: Lines<'_>, count: usize) -> impl Iterator<Item = (u8, u8)> + '_ {
    let pages = lines.take(count).filter_map(parse);
    pages.map(|(page, _)| (page.code, page.subpage))
}

fn parse(line: &str) -> Option<(&'static Page, &str)> {
    let (name, digits) = line.strip_prefix("page_")?.split_once('=')?;
    let (code, subpage) = name.split_once('_')?;
    let (mut of_code, mut of_subpage) = ([0], [0]);
    unhex(code, &mut of_code)?;
    unhex(subpage, &mut of_subpage)?;
    let page = PAGES
        .iter()
        .find(|page| [page.code] == of_code && [page.subpage] == of_subpage)?;
    Some((page, digits))
}

fn hex(byte: u8, out: &mut Writer<'_>) {
    for nibble in [byte >> 4, byte & 0x0f] {
        let digit = char::from_digit(nibble.into(), 16).unwrap_or('0');
        out.u8(u8::try_from(digit).unwrap_or(b'0'));
    }
}

// The bytes that `digits` are, which are as many as there is room for. Lower case only: as they were written.
fn unhex(digits: &str, to: &mut [u8]) -> Option<()> {
    let digits = digits.as_bytes();
    if digits.len() != to.len().saturating_mul(2) || digits.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    for (to, pair) in to.iter_mut().zip(digits.chunks_exact(2)) {
        let mut byte = 0;
        for digit in pair {
            let nibble = char::from(*digit).to_digit(16)?;
            byte = (byte << 4) | u8::try_from(nibble).ok()?;
        }
        *to = byte;
    }
    Some(())
}
