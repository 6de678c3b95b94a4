// SPDX-License-Identifier: GPL-2.0

//! Counters of the SCSI MIB (RFC 4455), per CPU: counting a command writes nothing that other CPUs write.

use kernel::prelude::*;
use lio_glue::{clock, percpu::PercpuCounters};

const COMMANDS: usize = 0;
const READ: usize = 1;
const WRITTEN: usize = 2;
const FULL: usize = 3;

/// Counters of a device or of a LUN.
pub struct LunStats(PercpuCounters<4>);

impl LunStats {
    pub(crate) fn new() -> Result<Self> {
        Ok(LunStats(PercpuCounters::new()?))
    }

    pub(crate) fn count(&self, read: u64, written: u64, full: bool) {
        self.0.add_to(COMMANDS, 1);
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

    /// Commands that were answered.
    pub fn commands(&self) -> u64 {
        self.0.sum_of(COMMANDS)
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
    counters: PercpuCounters<3>,
    created: usize,
}

impl MappedStats {
    pub(crate) fn new() -> Result<Self> {
        Ok(MappedStats {
            counters: PercpuCounters::new()?,
            created: clock::jiffies(),
        })
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
