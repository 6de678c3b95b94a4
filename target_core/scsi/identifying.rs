// SPDX-License-Identifier: GPL-2.0

//! REPORT IDENTIFYING INFORMATION and SET IDENTIFYING INFORMATION (SPC-4, 6.32 and 6.43).

use crate::{bytes::Writer, sense::Sense};

/// What can be kept (INFORMATION TYPE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Peripheral device identifying information: any bytes.
    Device,
    /// Peripheral device text identifying information: UTF-8, with a terminator on the wire.
    Text,
}

/// What REPORT IDENTIFYING INFORMATION asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// What is kept.
    Kept(Kind),
    /// Which types there are, and how long they may be.
    Supported,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Device, Self::Text];

    /// Of the field's seven bits.
    pub const fn new(code: u8) -> Option<Self> {
        match code {
            0b000_0000 => Some(Self::Device),
            0b000_0010 => Some(Self::Text),
            _ => None,
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::Device => 0b000_0000,
            Self::Text => 0b000_0010,
        }
    }

    /// Bytes of it at most, a text's terminator counted (SPC-4, table 201).
    pub const fn most(self) -> u16 {
        match self {
            Self::Device => 64,
            Self::Text => 256,
        }
    }
}

impl Asked {
    /// Of the field's seven bits.
    pub fn new(code: u8) -> Option<Self> {
        match code {
            0b111_1111 => Some(Self::Supported),
            _ => Kind::new(code).map(Self::Kept),
        }
    }
}

/// Writes what is kept of a type; `kept` is without a terminator.
pub fn write(kind: Kind, kept: &[u8], out: &mut Writer<'_>) {
    let terminated = kind == Kind::Text && !kept.is_empty();
    let length = kept.len().saturating_add(usize::from(terminated));
    out.be16(0);
    out.be16(u16::try_from(length).unwrap_or(u16::MAX));
    out.put(kept);
    if terminated {
        out.u8(0);
    }
}

/// Writes which types there are.
pub fn write_supported(out: &mut Writer<'_>) {
    out.be16(0);
    out.be16(u16::try_from(Kind::ALL.len().saturating_mul(4)).unwrap_or(u16::MAX));
    for kind in Kind::ALL {
        out.u8(kind.code() << 1);
        out.u8(0);
        out.be16(kind.most());
    }
}

/// What SET IDENTIFYING INFORMATION's parameter list has to be kept, without a terminator.
///
/// # Errors
/// INVALID FIELD IN PARAMETER LIST for a text that is none: not UTF-8, or without a terminator, or with something behind it.
pub fn parse(kind: Kind, list: &[u8]) -> Result<&[u8], Sense> {
    if kind == Kind::Device || list.is_empty() {
        return Ok(list);
    }
    let wrong = |at| Sense::invalid_parameter_byte(u16::try_from(at).unwrap_or(u16::MAX));
    let end = list.iter().position(|byte| *byte == 0);
    let end = end.ok_or(wrong(list.len().saturating_sub(1)))?;
    if end.saturating_add(1) != list.len() {
        return Err(wrong(end));
    }
    let text = list.get(..end).unwrap_or(&[]);
    core::str::from_utf8(text).map_err(|e| wrong(e.valid_up_to()))?;
    // A file shows it in one line.
    match text.iter().position(u8::is_ascii_control) {
        Some(at) => Err(wrong(at)),
        None => Ok(text),
    }
}
