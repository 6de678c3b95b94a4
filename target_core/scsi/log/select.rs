// SPDX-License-Identifier: GPL-2.0

//! LOG SELECT's parameter list (SPC-4, 6.6 and 7.3): cumulative values that counters are set to.

use super::{Counters, Page};
use crate::{
    bytes::{array, be16, be64},
    sense::Sense,
};

/// The longest list that is accepted.
pub const MAX_LIST: usize = 4096;

/// Bytes of a counter.
const LENGTH: u8 = 8;

/// What `counters` become by `list`. Pages, and the parameters of each, are in ascending order. All of it is checked before
/// anything is to be changed.
///
/// # Errors
/// PARAMETER LIST LENGTH ERROR for a list that is cut off; INVALID FIELD IN PARAMETER LIST, with a pointer.
pub fn select(counters: &Counters, list: &[u8]) -> Result<Counters, Sense> {
    let mut new = *counters;
    let (mut at, mut last) = (0usize, None);
    while let Some(rest) = list.get(at..).filter(|rest| !rest.is_empty()) {
        let short = Sense::PARAMETER_LIST_LENGTH;
        let [first, subpage, ..] = array::<4>(rest, 0).ok_or(short)?;
        // DS tells nothing of what is not saved. SPF, and a subpage: no page with counters has any.
        if first & 0x40 != 0 {
            return Err(bit(at, 6));
        }
        let page = Page::new(first & 0x3f).ok_or(bit(at, 5))?;
        if last.is_some_and(|last| page.code() <= last) {
            return Err(bit(at, 5));
        }
        if subpage != 0 {
            return Err(byte(at.saturating_add(1)));
        }
        last = Some(page.code());
        let start = at.saturating_add(4);
        let end = start.saturating_add(be16(rest, 2).ok_or(short)?.into());
        let body = list.get(start..end).ok_or(short)?;
        parameters(page, body, start, &mut new)?;
        at = end;
    }
    Ok(new)
}

// The parameters of one page, which begin at `start` of the list.
fn parameters(page: Page, body: &[u8], start: usize, new: &mut Counters) -> Result<(), Sense> {
    let (mut at, mut last) = (0usize, None);
    while let Some(rest) = body.get(at..).filter(|rest| !rest.is_empty()) {
        let short = Sense::PARAMETER_LIST_LENGTH;
        let here = start.saturating_add(at);
        let [_, _, control, length] = array::<4>(rest, 0).ok_or(short)?;
        let code = be16(rest, 0).ok_or(short)?;
        let counter = page.counter(code, new).ok_or(byte(here))?;
        if last.is_some_and(|last| code <= last) {
            return Err(byte(here));
        }
        last = Some(code);
        // A bounded data counter that is updated, without a threshold: as LOG SENSE shows it.
        if control != 0 {
            let leading = u8::try_from(control.leading_zeros()).unwrap_or(0).min(7);
            return Err(bit(here.saturating_add(2), leading ^ 7));
        }
        if length != LENGTH {
            return Err(byte(here.saturating_add(3)));
        }
        *counter = be64(rest, 4).ok_or(short)?;
        at = at.saturating_add(4).saturating_add(LENGTH.into());
    }
    Ok(())
}

fn byte(at: usize) -> Sense {
    Sense::invalid_parameter_byte(u16::try_from(at).unwrap_or(u16::MAX))
}

fn bit(at: usize, bit: u8) -> Sense {
    Sense::invalid_parameter_bit(u16::try_from(at).unwrap_or(u16::MAX), bit)
}
