// SPDX-License-Identifier: GPL-2.0

//! What RECEIVE COPY RESULTS and its like tell of a copy (SPC-4, 6.24 to 6.27).

use super::{
    DESCRIPTORS, MAX_COPIES, MAX_CSCDS, MAX_DESCRIPTORS, MAX_IDENTIFIED, MAX_SEGMENTS,
    MAX_SEGMENT_BYTES,
};
use crate::{
    bytes::Writer,
    copy::token::Token,
    lba::BlockSize,
    sense::{Format, Sense},
    status::Status,
};

/// Copies are made of whole bytes: DATA SEGMENT GRANULARITY, its binary logarithm.
pub(crate) const GRANULARITY: u8 = 0;

/// How a copy ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has not.
    InProgress,
    /// Without errors.
    Good,
    /// With this, or by an abort.
    Failed(Option<Sense>),
}

/// How far a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// How it ended.
    pub outcome: Outcome,
    /// Segments that are processed.
    pub segments: u16,
    /// Bytes that are written.
    pub bytes: u64,
}

impl Progress {
    /// A copy that begins.
    pub const BEGUN: Self = Self {
        outcome: Outcome::InProgress,
        segments: 0,
        bytes: 0,
    };

    /// COPY OPERATION STATUS
    fn status(&self) -> u8 {
        match self.outcome {
            Outcome::InProgress => 0x00,
            Outcome::Good => 0x01,
            Outcome::Failed(_) => 0x02,
        }
    }

    /// TRANSFER COUNT UNITS, and TRANSFER COUNT: in the smallest units in which it fits 32 bits.
    fn transferred(&self) -> (u8, u32) {
        // Bytes, kibibytes, mebibytes, …
        for units in 0..=5u8 {
            let shift = u32::from(units).saturating_mul(10);
            if let Ok(count) = u32::try_from(self.bytes.wrapping_shr(shift)) {
                return (units, count);
            }
        }
        (5, u32::MAX)
    }
}

/// RECEIVE COPY STATUS(LID1) parameter data (SPC-4, 6.27).
pub fn status_lid1(progress: &Progress, out: &mut Writer<'_>) {
    let (units, count) = progress.transferred();
    // AVAILABLE DATA; no data is held (HDD is zero).
    out.be32(8);
    out.u8(progress.status());
    out.be16(progress.segments);
    out.u8(units);
    out.be32(count);
}

/// The command that RECEIVE COPY STATUS(LID4) and RECEIVE ROD TOKEN INFORMATION tell of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Its SERVICE ACTION.
    pub action: u8,
    /// In blocks of which size its data is counted; `None`: in bytes.
    pub size: Option<BlockSize>,
}

impl Origin {
    /// EXTENDED COPY(LID1).
    pub const EXTENDED_COPY_LID1: Self = Self {
        action: 0x00,
        size: None,
    };
    /// EXTENDED COPY(LID4).
    pub const EXTENDED_COPY_LID4: Self = Self {
        action: 0x01,
        size: None,
    };

    /// POPULATE TOKEN, in blocks of this size.
    pub const fn populate_token(size: BlockSize) -> Self {
        Self {
            action: 0x10,
            size: Some(size),
        }
    }

    /// WRITE USING TOKEN, in blocks of this size.
    pub const fn write_using_token(size: BlockSize) -> Self {
        Self {
            action: 0x11,
            size: Some(size),
        }
    }
}

/// RECEIVE COPY STATUS(LID4) parameter data (SPC-4, 6.28).
pub fn status_lid4(origin: &Origin, progress: &Progress, format: Format, out: &mut Writer<'_>) {
    // Of a copy that goes on, milliseconds until there is more to be told; of another, that there never will be.
    const SOON: u32 = 100;
    const NEVER: u32 = 0xffff_fffe;
    let sense = match progress.outcome {
        Outcome::Failed(Some(sense)) => Some(sense.encode(format)),
        _ => None,
    };
    let sense = sense.as_ref().map_or(&[][..], |sense| sense.as_slice());
    let length = u8::try_from(sense.len()).unwrap_or(0);
    let (status, delay) = match progress.outcome {
        // In the foreground: the command is not answered yet.
        Outcome::InProgress => (0x10, SOON),
        Outcome::Good => (0x01, NEVER),
        Outcome::Failed(Some(_)) => (0x02, NEVER),
        // Terminated
        Outcome::Failed(None) => (0x60, NEVER),
    };
    out.be32(0);
    out.u8(origin.action);
    out.u8(status);
    // OPERATION COUNTER: it wraps.
    let [.., hi, lo] = progress.bytes.wrapping_shr(20).to_be_bytes();
    out.put(&[hi, lo]);
    out.be32(delay);
    out.u8(match progress.outcome {
        Outcome::Failed(Some(_)) => Status::CheckCondition as u8,
        Outcome::Failed(None) => Status::TaskAborted as u8,
        _ => Status::Good as u8,
    });
    out.put(&[length, length]);
    match origin.size {
        // Logical blocks
        Some(size) => {
            out.u8(0xf1);
            out.be64(size.blocks_in(progress.bytes).0);
        }
        None => {
            out.u8(0);
            out.be64(progress.bytes);
        }
    }
    out.be16(progress.segments);
    out.zeros_to(32);
    out.put(sense);
    set_available(out);
}

/// RECEIVE COPY DATA(LID1) parameter data (SPC-4, 6.21): no segment has data held for the initiator (HELD DATA LIMIT is zero).
pub fn data_lid1(out: &mut Writer<'_>) {
    out.be32(0);
}

/// RECEIVE COPY DATA(LID4) parameter data (SPC-4, 6.20): the same, and how far the copy is.
pub fn data_lid4(origin: &Origin, progress: &Progress, format: Format, out: &mut Writer<'_>) {
    status_lid4(origin, progress, format, out);
    // HELD DATA LENGTH
    out.be32(0);
    set_available(out);
}

/// RECEIVE ROD TOKEN INFORMATION parameter data (SPC-4, 6.29): the same, and the token that was made.
pub fn token_information(
    origin: &Origin,
    progress: &Progress,
    token: Option<&Token>,
    format: Format,
    out: &mut Writer<'_>,
) {
    status_lid4(origin, progress, format, out);
    match token {
        Some(token) => {
            out.be32(bound32(token.len().saturating_add(2)));
            out.be16(0);
            out.put(token);
        }
        None => out.be32(0),
    }
    set_available(out);
}

// AVAILABLE DATA: what follows it.
fn set_available(out: &mut Writer<'_>) {
    let available = bound32(out.len().saturating_sub(4));
    out.overwrite(0, &available.to_be_bytes());
}

/// RECEIVE COPY FAILURE DETAILS(LID1) parameter data (SPC-4, 6.25): of a copy that failed, with the sense data that its command
/// ended with. Without such a copy there is nothing but the header.
pub fn failure_details(sense: Option<&Sense>, format: Format, out: &mut Writer<'_>) {
    const HEADER: usize = 56;
    let Some(sense) = sense else {
        out.be32(0);
        return;
    };
    let sense = sense.encode(format);
    let sense = sense.as_slice();
    out.be32(0);
    out.zeros_to(HEADER);
    out.u8(Status::CheckCondition as u8);
    out.u8(0);
    out.be16(u16::try_from(sense.len()).unwrap_or(0));
    out.put(sense);
    set_available(out);
}

/// A bound as the wire has it.
pub(crate) fn bound16(value: usize) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

/// See [`bound16`].
pub(crate) fn bound32(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// RECEIVE COPY OPERATING PARAMETERS parameter data (SPC-4, 6.26).
pub fn operating_parameters(out: &mut Writer<'_>) {
    out.be32(0);
    // SNLID: a copy may go without a list identifier.
    out.put(&[0x01, 0, 0, 0]);
    out.be16(bound16(MAX_CSCDS));
    out.be16(bound16(MAX_SEGMENTS));
    out.be32(bound32(MAX_DESCRIPTORS));
    out.be32(MAX_SEGMENT_BYTES);
    // MAXIMUM INLINE DATA LENGTH, HELD DATA LIMIT, MAXIMUM STREAM DEVICE TRANSFER SIZE
    out.zeros_to(34);
    out.be16(bound16(usize::try_from(MAX_COPIES).unwrap_or(0)));
    // MAXIMUM CONCURRENT COPIES
    out.u8(u8::try_from(MAX_IDENTIFIED).unwrap_or(u8::MAX));
    out.u8(GRANULARITY);
    // INLINE DATA GRANULARITY, HELD DATA GRANULARITY
    out.zeros_to(43);
    out.u8(u8::try_from(DESCRIPTORS.len()).unwrap_or(0));
    out.put(&DESCRIPTORS);
    set_available(out);
}
