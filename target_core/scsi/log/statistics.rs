// SPDX-License-Identifier: GPL-2.0

//! General statistics and performance (SPC-4, 7.3.6), and those of a group (7.3.7): commands, blocks, and the time that commands take
//! where that is measured.
//!
//! Nobody counts commands with FUA by themselves. Commands have no priority of their own, so that the weighted sums are zero.

use crate::{bytes::Writer, groups::Groups};

/// PAGE CODE
pub(super) const CODE: u8 = 0x19;

/// General access statistics and performance; a group's only parameter.
pub(super) const ACCESS: u16 = 0x0001;
/// Idle time.
const IDLE: u16 = 0x0002;
/// Time interval: the last parameter.
pub(super) const INTERVAL: u16 = 0x0003;

/// What is counted, since the device was made or since LOG SELECT reset it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Commands that read from the medium.
    pub reads: u64,
    /// Commands that write to it.
    pub writes: u64,
    /// Blocks that initiators sent.
    pub received: u64,
    /// Blocks that they got.
    pub transmitted: u64,
    /// Microseconds that reads took, as far as they are measured.
    pub read_time: u64,
    /// The same of writes.
    pub write_time: u64,
    /// Microseconds in which there was nothing to do, as far as that is measured. Not of a group.
    pub idle_time: u64,
}

/// The groups that have a page, in ascending order.
pub(super) fn groups() -> impl Iterator<Item = u8> {
    (0..=u8::MAX).filter(|number| Groups::ALL.has(*number))
}

/// The group whose page this is.
pub(super) fn group(code: u8, subpage: u8) -> Option<u8> {
    (code == CODE && Groups::ALL.has(subpage)).then_some(subpage)
}

impl Statistics {
    /// What was counted since `base` was.
    pub fn since(&self, base: &Self) -> Self {
        Self {
            reads: self.reads.saturating_sub(base.reads),
            writes: self.writes.saturating_sub(base.writes),
            received: self.received.saturating_sub(base.received),
            transmitted: self.transmitted.saturating_sub(base.transmitted),
            read_time: self.read_time.saturating_sub(base.read_time),
            write_time: self.write_time.saturating_sub(base.write_time),
            idle_time: self.idle_time.saturating_sub(base.idle_time),
        }
    }

    /// Writes the parameter of a group.
    pub(super) fn write_group(&self, out: &mut Writer<'_>) {
        out.be16(ACCESS);
        // An unbounded data counter.
        out.put(&[0x02, 48]);
        self.write_access(out);
    }

    fn write_access(&self, out: &mut Writer<'_>) {
        out.be64(self.reads);
        out.be64(self.writes);
        out.be64(self.received);
        out.be64(self.transmitted);
        out.be64(self.read_time);
        out.be64(self.write_time);
    }

    /// Writes the parameters from `from` on.
    pub(super) fn write(&self, from: u16, out: &mut Writer<'_>) {
        if from <= ACCESS {
            out.be16(ACCESS);
            // An unbounded data counter.
            out.put(&[0x02, 64]);
            self.write_access(out);
            out.fill(0, 16);
        }
        if from <= IDLE {
            out.be16(IDLE);
            out.put(&[0x02, 8]);
            out.be64(self.idle_time);
        }
        out.be16(INTERVAL);
        // A binary list: an interval is 1 times 10 to the power of -6, in seconds.
        out.put(&[0x03, 8]);
        out.be32(6);
        out.be32(1);
    }
}
