// SPDX-License-Identifier: GPL-2.0

//! Counters of the SCSI MIB (RFC 4455), per CPU: counting a command writes nothing that other CPUs write.

use crate::command::Direction;
use kernel::prelude::*;
use lio_glue::{clock, percpu::LateCounters};

const COMMANDS: usize = 0;
const READ: usize = 1;
const WRITTEN: usize = 2;

// Of a device or a LUN, commands are counted by their direction, which is the same work.
const OTHERS: usize = 0;
const FULL: usize = 3;
const READS: usize = 4;
const WRITES: usize = 5;
// Nanoseconds.
const READ_TIME: usize = 6;
const WRITE_TIME: usize = 7;

/// Counters of a device or of a LUN.
pub struct LunStats(LateCounters<8>);

impl LunStats {
    /// Nothing is counted, and no memory taken, before [`LunStats::begin`].
    pub(crate) const fn new() -> Self {
        LunStats(LateCounters::new())
    }

    /// There may be commands from now on.
    ///
    /// # Errors
    /// `ENOMEM`
    pub(crate) fn begin(&self) -> Result {
        self.0.begin()
    }

    pub(crate) fn count(&self, direction: Direction, read: u64, written: u64, full: bool) {
        let commands = match direction {
            Direction::Read => READS,
            Direction::Write => WRITES,
            Direction::None => OTHERS,
        };
        self.0.add_to(commands, 1);
        if read != 0 {
            self.0.add_to(READ, read);
        }
        if written != 0 {
            self.0.add_to(WRITTEN, written);
        }
        if full {
            self.0.add_to(FULL, 1);
        }
    }

    /// A command took `ns` nanoseconds.
    pub(crate) fn count_time(&self, direction: Direction, ns: u64) {
        match direction {
            Direction::Read => self.0.add_to(READ_TIME, ns),
            Direction::Write => self.0.add_to(WRITE_TIME, ns),
            Direction::None => (),
        }
    }

    /// Commands that were answered.
    pub fn commands(&self) -> u64 {
        let (reads, writes) = self.transfers();
        self.0
            .sum_of(OTHERS)
            .wrapping_add(reads)
            .wrapping_add(writes)
    }

    /// Commands with data for the initiator, and with data from it.
    pub(crate) fn transfers(&self) -> (u64, u64) {
        (self.0.sum_of(READS), self.0.sum_of(WRITES))
    }

    /// How long those took that were measured, in nanoseconds.
    pub(crate) fn times(&self) -> (u64, u64) {
        (self.0.sum_of(READ_TIME), self.0.sum_of(WRITE_TIME))
    }

    /// Bytes that were read.
    pub fn read_bytes(&self) -> u64 {
        self.0.sum_of(READ)
    }

    /// Bytes that were written.
    pub fn written_bytes(&self) -> u64 {
        self.0.sum_of(WRITTEN)
    }

    /// Commands that were answered BUSY or TASK SET FULL.
    pub fn full(&self) -> u64 {
        self.0.sum_of(FULL)
    }
}

/// Counters of a LUN as one initiator sees it.
pub struct MappedStats {
    counters: LateCounters<3>,
    created: usize,
}

impl MappedStats {
    /// As [`LunStats::new`].
    pub(crate) fn new() -> Self {
        MappedStats {
            counters: LateCounters::new(),
            created: clock::jiffies(),
        }
    }

    /// As [`LunStats::begin`].
    ///
    /// # Errors
    /// `ENOMEM`
    pub(crate) fn begin(&self) -> Result {
        self.counters.begin()
    }

    pub(crate) fn count(&self, read: u64, written: u64) {
        self.counters.add_to(COMMANDS, 1);
        if read != 0 {
            self.counters.add_to(READ, read);
        }
        if written != 0 {
            self.counters.add_to(WRITTEN, written);
        }
    }

    /// Commands that were answered.
    pub fn commands(&self) -> u64 {
        self.counters.sum_of(COMMANDS)
    }

    /// Bytes that were read.
    pub fn read_bytes(&self) -> u64 {
        self.counters.sum_of(READ)
    }

    /// Bytes that were written.
    pub fn written_bytes(&self) -> u64 {
        self.counters.sum_of(WRITTEN)
    }

    /// When the mapping was made, in jiffies.
    pub fn created(&self) -> usize {
        self.created
    }
}
