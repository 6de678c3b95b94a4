// SPDX-License-Identifier: GPL-2.0

//! The grouping function (SBC-4, 4.22): commands say by GROUP NUMBER to which of 64 groups they belong, and the IO advice hints
//! grouping mode page (SBC-4, 6.5.7) says what that means.
//!
//! For groups 1 to 31 it can have information collected (IC_ENABLE), which log pages 19h/01h to 19h/1Fh tell (SPC-4, 7.3.7). Group 0
//! has no such page, as 19h/00h is that of all commands; for the others the standard has none. No hint does anything, so that no
//! descriptor has valid ones (IO ADVICE HINTS MODE is 01b); there are neither cache segments (CS_ENBLE) nor streams (ST_ENBLE).

use crate::bytes::Writer;

/// There are this many groups of which information can be collected, with group 0, of which it cannot.
pub const COLLECTED: usize = 32;

/// PAGE LENGTH of the mode page: 12 reserved bytes, and 64 descriptors of 16 bytes.
pub const LENGTH: u16 = 12 + 64 * 16;

/// GROUP NUMBER has six bits.
pub const NUMBER: u8 = 0x3f;

/// In byte 0 of a descriptor: the hints are invalid, and information is collected.
const INVALID: u8 = 0x40;
const IC_ENABLE: u8 = 0x01;

/// The groups of which information is collected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Groups(u32);

impl Groups {
    /// None.
    pub const NONE: Self = Self(0);
    /// All that there can be.
    pub const ALL: Self = Self(!1);

    /// Bit n of `bits` stands for group n; those that there cannot be are left out.
    pub const fn new(bits: u32) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// See [`Groups::new`].
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// `group` is one of them.
    pub const fn has(self, group: u8) -> bool {
        match 1u32.checked_shl(group as u32) {
            Some(bit) => self.0 & bit != 0,
            None => false,
        }
    }

    /// Writes the page, without its header.
    pub(crate) fn write(self, out: &mut Writer<'_>) {
        self.descriptors(INVALID, out);
    }

    /// Writes ones where the page can be changed.
    pub(crate) fn write_mask(out: &mut Writer<'_>) {
        Self::ALL.descriptors(0, out);
    }

    fn descriptors(self, mode: u8, out: &mut Writer<'_>) {
        out.fill(0, 12);
        for group in 0..=NUMBER {
            out.u8(mode | if self.has(group) { IC_ENABLE } else { 0 });
            out.fill(0, 15);
        }
    }

    /// What `page`, without its header, says.
    pub(crate) fn read(page: &[u8]) -> Self {
        let descriptors = page.get(12..).unwrap_or(&[]).chunks_exact(16);
        let enabled = descriptors
            .take(COLLECTED)
            .enumerate()
            .filter(|(_, of)| of.first().is_some_and(|flags| flags & IC_ENABLE != 0));
        Self::new(enabled.fold(0, |bits, (group, _)| {
            bits | u32::try_from(group)
                .ok()
                .and_then(|n| 1u32.checked_shl(n))
                .unwrap_or(0)
        }))
    }
}
