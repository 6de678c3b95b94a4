// SPDX-License-Identifier: GPL-2.0

//! Log pages with parameters that are lists, and are not reset: temperature and environment (SPC-5, 7.3.22 and 7.3.6), which nobody
//! measures, and start-stop cycles (SPC-5, 7.3.20).

use super::Known;
use crate::{bytes::Writer, sense::Sense};

/// Such a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// Temperature, 0Dh: it is not known (FFh).
    Temperature,
    /// Environmental reporting, 0Dh/01h: nothing of it is known (80h).
    Environment,
    /// Start-stop cycle counter, 0Eh: cycles since the device was made.
    Cycles,
}

/// A parameter's control byte: a binary list (FORMAT AND LINKING 11b).
const BINARY: u8 = 0x03;
/// ACCUMULATED START-STOP CYCLES
const ACCUMULATED: u16 = 0x0004;
const NO_TEMPERATURE: u8 = 0xff;
const NO_SIGNED_TEMPERATURE: u8 = 0x80;

impl List {
    /// All of them, in ascending order.
    pub(super) const ALL: [Self; 3] = [Self::Temperature, Self::Environment, Self::Cycles];

    /// PAGE CODE and SUBPAGE CODE.
    pub(super) const fn code(self) -> (u8, u8) {
        match self {
            Self::Temperature => (0x0d, 0x00),
            Self::Environment => (0x0d, 0x01),
            Self::Cycles => (0x0e, 0x00),
        }
    }

    /// The page with these.
    pub(super) fn new(code: u8, subpage: u8) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|list| list.code() == (code, subpage))
    }

    /// Its one parameter.
    const fn parameter(self) -> u16 {
        match self {
            Self::Temperature | Self::Environment => 0,
            Self::Cycles => ACCUMULATED,
        }
    }

    /// The PARAMETER POINTER is not beyond the page's parameters.
    ///
    /// # Errors
    /// INVALID FIELD IN CDB.
    pub(super) const fn check(self, from: u16) -> Result<(), Sense> {
        if from > self.parameter() {
            return Err(Sense::invalid_cdb_byte(5));
        }
        Ok(())
    }

    /// Writes the parameter.
    pub(super) fn write(self, known: &Known, out: &mut Writer<'_>) {
        out.be16(self.parameter());
        out.u8(BINARY);
        match self {
            Self::Temperature => out.put(&[2, 0, NO_TEMPERATURE]),
            Self::Environment => {
                // Now; in the lifetime, the most and the least; since power on, the same.
                out.put(&[8, 0]);
                out.fill(NO_SIGNED_TEMPERATURE, 5);
                out.fill(0, 2);
            }
            Self::Cycles => {
                out.u8(4);
                out.be32(known.cycles);
            }
        }
    }
}
