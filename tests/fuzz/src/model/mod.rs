// SPDX-License-Identifier: GPL-2.0

//! Models that more than one target uses, written from the standards.

pub mod alua;
pub mod login;
pub mod negotiation;
pub mod pr;
pub mod protection;
pub mod reservations;

/// A numerical value of iSCSI text (RFC 7143, 6.1): decimal, or hexadecimal after `0x`.
pub fn number(text: &[u8]) -> Option<u64> {
    let digits = |text: &[u8], base| {
        let text = core::str::from_utf8(text).ok()?;
        if text.starts_with('+') {
            return None;
        }
        u64::from_str_radix(text, base).ok()
    };
    match text.strip_prefix(b"0x").or(text.strip_prefix(b"0X")) {
        Some(text) => digits(text, 16),
        None => digits(text, 10),
    }
}

/// The pairs of a well-formed text, split at the first `=`.
pub fn pairs(text: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    text.split(|byte| *byte == 0)
        .filter(|item| !item.is_empty())
        .map(|item| {
            let at = item
                .iter()
                .position(|byte| *byte == b'=')
                .expect("text without =");
            (&item[..at], &item[at + 1..])
        })
}
