// SPDX-License-Identifier: GPL-2.0

//! REPORT LUNS (SPC-4, 6.33).

use crate::{bytes::Writer, lun::Lun};

/// Which LUNs are to be reported: SELECT REPORT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Select {
    /// Those that address logical units, well known ones aside.
    Units,
    /// Well known logical units only. There are none.
    WellKnown,
    /// All.
    All,
}

impl Select {
    /// The field's value on the wire; `None` for what is reserved, and for conglomerates.
    pub const fn new(code: u8) -> Option<Self> {
        match code {
            0x00 => Some(Self::Units),
            0x01 => Some(Self::WellKnown),
            0x02 => Some(Self::All),
            _ => None,
        }
    }
}

/// The length of the answer with `count` LUNs, in bytes: what a buffer for [`write`] needs at most.
pub const fn length(count: usize) -> usize {
    count.saturating_mul(8).saturating_add(8)
}

/// Writes the list of `luns`, which are to be in ascending order.
///
/// An initiator that sees none is told of LUN 0: it is where it may ask.
pub fn write(select: Select, luns: impl IntoIterator<Item = Lun>, out: &mut Writer<'_>) {
    // LUN LIST LENGTH, filled in at the end.
    out.be32(0);
    out.be32(0);
    if select != Select::WellKnown {
        for lun in luns {
            out.put(&lun.to_bytes());
        }
        if out.len() == 8 {
            out.put(&Lun::ZERO.to_bytes());
        }
    }
    let length = u32::try_from(out.len().saturating_sub(8)).unwrap_or(u32::MAX);
    out.overwrite(0, &length.to_be_bytes());
}
