// SPDX-License-Identifier: GPL-2.0

//! How long a device has had nothing to do, as far as its commands are measured (`latency`): from the answer of the last
//! one at work to the next one.

use kernel::sync::atomic::{Atomic, Full, Relaxed};

/// See above.
pub(crate) struct Idle {
    busy: Atomic<u32>,
    // Nanoseconds: when the last command was answered, or measuring began; and what was idle in all.
    since: Atomic<u64>,
    total: Atomic<u64>,
}

impl Idle {
    pub(crate) const fn new() -> Self {
        Idle {
            busy: Atomic::new(0),
            since: Atomic::new(0),
            total: Atomic::new(0),
        }
    }

    /// Measuring begins.
    pub(crate) fn begin(&self, now: u64) {
        self.since.store(now, Relaxed);
    }

    /// A command that is measured has come. Any context.
    pub(crate) fn enter(&self, now: u64) {
        if self.busy.fetch_add(1, Full) == 0 {
            let idle = now.saturating_sub(self.since.load(Relaxed));
            self.total.fetch_add(idle, Relaxed);
        }
    }

    /// It is over. Any context.
    pub(crate) fn leave(&self, now: u64) {
        // Before: whoever finds nothing at work finds this.
        self.since.store(now, Relaxed);
        self.busy.fetch_sub(1, Full);
    }

    /// Nanoseconds.
    pub(crate) fn total(&self) -> u64 {
        self.total.load(Relaxed)
    }
}
