// SPDX-License-Identifier: GPL-2.0

//! What sense data says of a copy that was aborted (SPC-4, 5.17.7.4).

use super::{Asc, Key};
use crate::{bytes::Writer, status::Status};

/// One end of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Where the data comes from.
    Source,
    /// Where it goes.
    Destination,
}

/// Which segment of an EXTENDED COPY failed, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyFailure {
    /// The segment, counted from 0.
    pub segment: u16,
    /// The field that is wrong: its first byte, counted from the segment descriptor's.
    pub field: Option<u16>,
    /// The end that failed, and what it would have said to an initiator's own command.
    pub cause: Option<(Side, Key, Asc)>,
}

/// Bytes of a forwarded status, and of sense data in fixed format behind it.
const STATUS: usize = 1;
const FIXED: usize = 18;

impl CopyFailure {
    /// The segment pointer: SKSV, SD, FIELD POINTER.
    pub(super) fn pointer(&self) -> Option<[u8; 3]> {
        let [hi, lo] = self.field?.to_be_bytes();
        Some([0xa0, hi, lo])
    }

    /// The COMMAND-SPECIFIC INFORMATION field of the fixed format: where the source's and the destination's status begin,
    /// and the segment.
    pub(super) fn command_specific(&self) -> [u8; 4] {
        let [hi, lo] = self.segment.to_be_bytes();
        let at = u8::try_from(FIXED).unwrap_or(0);
        match self.cause {
            None => [0, 0, hi, lo],
            Some((Side::Source, ..)) => [at, 0, hi, lo],
            Some((Side::Destination, ..)) => [0, at, hi, lo],
        }
    }

    /// Bytes that [`Self::write_fixed`] appends.
    pub(super) fn fixed_length(&self) -> u8 {
        match self.cause {
            Some(_) => u8::try_from(STATUS.saturating_add(FIXED)).unwrap_or(0),
            None => 0,
        }
    }

    /// Appends the failed end's status and sense data to sense data in fixed format.
    pub(super) fn write_fixed(&self, out: &mut Writer<'_>) {
        let Some((_, key, asc)) = self.cause else {
            return;
        };
        let start = out.len();
        out.u8(Status::CheckCondition as u8);
        out.put(&[0x70, 0, key as u8, 0, 0, 0, 0, 10, 0, 0, 0, 0]);
        out.put(&[asc.code, asc.qualifier]);
        out.zeros_to(start.saturating_add(STATUS).saturating_add(FIXED));
    }

    /// Bytes that [`Self::write_descriptors`] appends.
    pub(super) fn descriptors_length(&self) -> u8 {
        match self.cause {
            Some(_) => 24,
            None => 12,
        }
    }

    /// Appends the command specific information and the forwarded sense data descriptor.
    pub(super) fn write_descriptors(&self, out: &mut Writer<'_>) {
        // Type 01h, additional length 0Ah.
        out.put(&[0x01, 0x0a, 0, 0]);
        out.be64(self.segment.into());
        let Some((side, key, asc)) = self.cause else {
            return;
        };
        let source = match side {
            Side::Source => 0x01,
            Side::Destination => 0x02,
        };
        // Type 0Ch, additional length 0Ah, SENSE DATA SOURCE, FORWARDED STATUS; sense data without descriptors.
        out.put(&[0x0c, 0x0a, source, Status::CheckCondition as u8]);
        out.put(&[0x72, key as u8, asc.code, asc.qualifier, 0, 0, 0, 0]);
    }
}
