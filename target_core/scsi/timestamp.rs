// SPDX-License-Identifier: GPL-2.0

//! REPORT TIMESTAMP and SET TIMESTAMP (SPC-4, 5.2, 6.39 and 6.46).

use crate::{
    bytes::{array, Writer},
    sense::Sense,
};

/// Milliseconds since 1970, UTC, as far as they fit into six bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp(pub u64);

/// Where a timestamp comes from (TIMESTAMP ORIGIN). The discriminant is the one on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Origin {
    /// Zero, when the unit was powered on.
    Zero = 0b000,
    /// SET TIMESTAMP.
    Set = 0b010,
    /// The target's own clock.
    Clock = 0b011,
}

/// The length of SET TIMESTAMP's parameter list.
pub const LIST: usize = 12;

/// The longest list that is accepted; what follows the timestamp is not looked at.
pub const MAX_LIST: usize = 256;

/// Writes REPORT TIMESTAMP's parameter data.
pub fn write(timestamp: Timestamp, origin: Origin, out: &mut Writer<'_>) {
    out.be16(10);
    out.u8(origin as u8);
    out.u8(0);
    let [_, _, bytes @ ..] = timestamp.0.to_be_bytes();
    out.put(&bytes);
    out.be16(0);
}

/// What SET TIMESTAMP's parameter list sets; `None` for one of no bytes.
///
/// # Errors
/// PARAMETER LIST LENGTH ERROR; INVALID FIELD IN PARAMETER LIST for a reserved byte that is not zero.
pub fn parse(list: &[u8]) -> Result<Option<Timestamp>, Sense> {
    if list.is_empty() {
        return Ok(None);
    }
    let [r0, r1, r2, r3, _, _, _, _, _, _, r10, r11] =
        array::<LIST>(list, 0).ok_or(Sense::PARAMETER_LIST_LENGTH)?;
    let reserved = [(0, r0), (1, r1), (2, r2), (3, r3), (10, r10), (11, r11)];
    if let Some((at, _)) = reserved.iter().find(|(_, byte)| *byte != 0) {
        return Err(Sense::invalid_parameter_byte(*at));
    }
    let [a, b, c, d, e, f] = array::<6>(list, 4).ok_or(Sense::PARAMETER_LIST_LENGTH)?;
    let timestamp = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
    Ok(Some(Timestamp(timestamp)))
}
