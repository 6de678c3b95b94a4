// SPDX-License-Identifier: GPL-2.0

//! SEND DIAGNOSTIC's parameter list and RECEIVE DIAGNOSTIC RESULTS (SPC-4, 7.2): the page of the supported pages is the only one.

use crate::{
    bytes::{be16, Writer},
    sense::Sense,
};

/// PAGE CODE of the supported diagnostic pages.
pub const SUPPORTED: u8 = 0x00;

/// The longest parameter list that is accepted: a diagnostic page with much behind it.
pub const MAX_LIST: usize = 4096;

/// Writes the page of supported pages (SPC-4, 7.2.3).
pub fn write(out: &mut Writer<'_>) {
    out.put(&[SUPPORTED, 0, 0, 1, SUPPORTED]);
}

/// Checks SEND DIAGNOSTIC's parameter list, which is empty, or the page of supported pages without a list.
///
/// # Errors
/// PARAMETER LIST LENGTH ERROR; INVALID FIELD IN PARAMETER LIST, with a pointer.
pub fn check(list: &[u8]) -> Result<(), Sense> {
    if list.is_empty() {
        return Ok(());
    }
    let [code, specific, ..] = *list else {
        return Err(Sense::PARAMETER_LIST_LENGTH);
    };
    if code != SUPPORTED {
        return Err(Sense::invalid_parameter_byte(0));
    }
    let length = be16(list, 2).ok_or(Sense::PARAMETER_LIST_LENGTH)?;
    if specific != 0 {
        return Err(Sense::invalid_parameter_byte(1));
    }
    if length != 0 {
        return Err(Sense::invalid_parameter_byte(2));
    }
    Ok(())
}
