// SPDX-License-Identifier: GPL-2.0

//! Logical block provisioning thresholds (SBC-3, 4.7.3.7): what is left and what is used of that which logical blocks are
//! mapped to, counted in threshold sets; the log page (SBC-3, 6.4.4) and the mode page (SBC-3, 6.5.9) about it.

use crate::{
    bytes::{be32, Writer},
    lba::{BlockSize, Blocks},
};

/// Logical blocks are mapped to so many bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// That can still be had. Others may take of it.
    pub available: u64,
    /// That this unit has.
    pub used: u64,
}

/// The same in threshold sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Whole sets that can still be had.
    pub available: u32,
    /// Sets that this unit has, a part of one counted as one.
    pub used: u32,
}

/// One threshold (SBC-3, table 193).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Threshold {
    /// ENABLED
    pub enabled: bool,
    /// THRESHOLD COUNT, in threshold sets.
    pub count: u32,
}

/// What is to be told, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thresholds {
    /// Anything is (LBPERE in the read-write error recovery page).
    pub report: bool,
    /// When no more than this is available.
    pub available: Threshold,
    /// When at least this is used.
    pub used: Threshold,
}

/// The thresholds that were reached at the last look, so that each is told once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    available: Option<u32>,
    used: Option<u32>,
}

/// PARAMETER CODE of the available and the used resources in the log page.
const AVAILABLE: u16 = 0x0001;
const USED: u16 = 0x0002;

/// The last parameter of the log page.
pub(crate) const LAST: u16 = USED;

/// SCOPE: others may use the resources, too; or only this unit (SBC-3, table 157).
const SHARED: u8 = 0b10;
const DEDICATED: u8 = 0b01;

/// THRESHOLD EXPONENT for a unit with so many blocks: a set is of 2 to this power. It is of 1 MiB, or more where the
/// blocks are too many for a count of 32 bits.
pub fn exponent(blocks: Blocks, size: BlockSize) -> u8 {
    let mebibyte = 20u32.saturating_sub(size.shift());
    let bits = 64u32.saturating_sub(blocks.0.leading_zeros());
    u8::try_from(mebibyte.max(bits.saturating_sub(32))).unwrap_or(u8::MAX)
}

impl Space {
    /// In sets of 2 to the power of `exponent` blocks of `size`. More than can be counted is the most that can.
    pub fn resources(&self, exponent: u8, size: BlockSize) -> Resources {
        let shift = u32::from(exponent).saturating_add(size.shift());
        let set = 1u64.checked_shl(shift).unwrap_or(u64::MAX);
        let count = |sets: u64| u32::try_from(sets).unwrap_or(u32::MAX);
        Resources {
            available: count(self.available.checked_div(set).unwrap_or(0)),
            used: count(self.used.div_ceil(set)),
        }
    }
}

impl Thresholds {
    /// Nothing is told.
    pub const OFF: Self = Self {
        report: false,
        available: Threshold {
            enabled: false,
            count: 0,
        },
        used: Threshold {
            enabled: false,
            count: 0,
        },
    };

    /// Something is to be told at some time.
    pub fn any(&self) -> bool {
        self.report && (self.available.enabled || self.used.enabled)
    }
}

impl Watch {
    /// Looks at the resources; returns whether a threshold was reached since the last look, or is another one that is reached
    /// (SBC-3, 4.7.3.7.5).
    pub fn look(&mut self, thresholds: &Thresholds, resources: &Resources) -> bool {
        let Thresholds {
            report,
            available,
            used,
        } = *thresholds;
        let of = |threshold: Threshold, reached| {
            (report && threshold.enabled && reached).then_some(threshold.count)
        };
        let now = Self {
            available: of(available, resources.available <= available.count),
            used: of(used, resources.used >= used.count),
        };
        let is_new = |now: Option<u32>, before| now.is_some() && now != before;
        let new = is_new(now.available, self.available) || is_new(now.used, self.used);
        *self = now;
        new
    }
}

/// Writes the log parameters from `from` on (SBC-3, tables 154 to 157).
pub(crate) fn write_log(resources: &Resources, from: u16, out: &mut Writer<'_>) {
    for (code, count, scope) in [
        (AVAILABLE, resources.available, SHARED),
        (USED, resources.used, DEDICATED),
    ] {
        if code >= from {
            out.be16(code);
            // A binary list; eight bytes of it.
            out.put(&[0x03, 8]);
            out.be32(count);
            out.put(&[scope, 0, 0, 0]);
        }
    }
}

/// PAGE LENGTH of the mode page: two threshold descriptors.
pub(crate) const MODE_LENGTH: u8 = 12 + 2 * 8;

/// ENABLED; THRESHOLD TYPE 000b is a soft threshold. THRESHOLD ARMING: when it is decreasing, or increasing.
const ENABLED: u8 = 0x80;
const DECREASING: u8 = 0b000;
const INCREASING: u8 = 0b001;

/// Writes the mode page's body.
pub(crate) fn write_mode(thresholds: &Thresholds, out: &mut Writer<'_>) {
    // SITUA is zero: all initiators are told.
    out.fill(0, 12);
    for (threshold, arming, resource) in [
        (thresholds.available, DECREASING, AVAILABLE),
        (thresholds.used, INCREASING, USED),
    ] {
        out.u8(if threshold.enabled { ENABLED } else { 0 } | arming);
        // THRESHOLD RESOURCE is the log parameter's code.
        out.u8(u8::try_from(resource).unwrap_or(0));
        out.be16(0);
        out.be32(threshold.count);
    }
}

/// Writes ones where MODE SELECT can change the mode page.
pub(crate) fn write_mode_mask(out: &mut Writer<'_>) {
    out.fill(0, 12);
    for _ in 0..2 {
        out.put(&[ENABLED, 0, 0, 0]);
        out.be32(u32::MAX);
    }
}

/// Takes the thresholds of the mode page's body.
pub(crate) fn take_mode(body: &[u8], thresholds: &mut Thresholds) {
    for (at, threshold) in [
        (12usize, &mut thresholds.available),
        (20, &mut thresholds.used),
    ] {
        let flags = body.get(at).copied().unwrap_or(0);
        *threshold = Threshold {
            enabled: flags & ENABLED != 0,
            count: be32(body, at.saturating_add(4)).unwrap_or(0),
        };
    }
}
