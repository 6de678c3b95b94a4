// SPDX-License-Identifier: GPL-2.0

//! Limits that an administrator sets to a LUN, or to one initiator's commands to it: `limits`. Commands that touch the medium wait
//! for their turn; none is refused.

use kernel::sync::atomic::{Atomic, Full, Relaxed};
use lio_glue::clock;
use lio_policy::rate::Rate;

/// What a command has taken that has not begun: when, and for how many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) at: u64,
    pub(crate) bytes: u64,
    /// It was given back, as limits have changed: the command has to ask them again.
    pub(crate) is_back: bool,
}

/// One rate, and its bucket.
pub(crate) struct Limit {
    per_second: Atomic<u64>,
    burst: Atomic<u64>,
    // When the bucket is full again.
    full: Atomic<u64>,
    // When it was set.
    since: Atomic<u64>,
}

impl Limit {
    const fn new() -> Self {
        Limit {
            per_second: Atomic::new(0),
            burst: Atomic::new(0),
            full: Atomic::new(0),
            since: Atomic::new(0),
        }
    }

    pub(crate) fn rate(&self) -> Rate {
        Rate {
            per_second: self.per_second.load(Relaxed),
            burst: self.burst.load(Relaxed),
        }
    }

    fn is_set(&self) -> bool {
        self.per_second.load(Relaxed) != 0
    }

    // Sets it; the bucket is full.
    fn set(&self, rate: Rate) {
        self.burst.store(rate.burst, Relaxed);
        self.per_second.store(rate.per_second, Relaxed);
        self.full.store(0, Relaxed);
        self.since.store(clock::now_ns(), Relaxed);
    }

    // When a command that takes `units` starts.
    fn take(&self, now: u64, units: u64) -> u64 {
        let rate = self.rate();
        let mut full = self.full.load(Relaxed);
        loop {
            let turn = rate.take(full, now, units);
            match self.full.cmpxchg(full, turn.full, Full) {
                Ok(_) => return turn.start,
                Err(other) => full = other,
            }
        }
    }

    // A command that took `units` at the time `at` does not begin.
    fn give_back(&self, at: u64, units: u64) {
        if !self.is_set() || at < self.since.load(Relaxed) {
            return;
        }
        let rate = self.rate();
        let mut full = self.full.load(Relaxed);
        loop {
            match self.full.cmpxchg(full, rate.give_back(full, units), Full) {
                Ok(_) => return,
                Err(other) => full = other,
            }
        }
    }
}

/// Which rate.
#[derive(Clone, Copy)]
pub(crate) enum Which {
    /// Commands.
    Commands,
    /// Bytes.
    Bytes,
}

/// The limits of one LUN.
pub(crate) struct Limits {
    commands: Limit,
    bytes: Limit,
}

impl Limits {
    pub(crate) const fn new() -> Self {
        Limits {
            commands: Limit::new(),
            bytes: Limit::new(),
        }
    }

    pub(crate) fn limit(&self, which: Which) -> &Limit {
        match which {
            Which::Commands => &self.commands,
            Which::Bytes => &self.bytes,
        }
    }

    /// Whether there is any.
    pub(crate) fn is_set(&self) -> bool {
        self.commands.is_set() || self.bytes.is_set()
    }

    /// Sets one; one that is the same stays as it is. Not called twice at the same time.
    pub(crate) fn set(&self, which: Which, rate: Rate) {
        let limit = self.limit(which);
        if limit.rate() != rate {
            limit.set(rate);
        }
    }

    /// When a command of `bytes` starts, that has come at the time `now`.
    pub(crate) fn take(&self, now: u64, bytes: u64) -> u64 {
        let mut start = now;
        if self.commands.is_set() {
            start = start.max(self.commands.take(now, 1));
        }
        if self.bytes.is_set() && bytes != 0 {
            start = start.max(self.bytes.take(now, bytes));
        }
        start
    }

    /// A command that took its turn does not begin: others need not wait for what it would have done.
    pub(crate) fn give_back(&self, taken: Taken) {
        self.commands.give_back(taken.at, 1);
        self.bytes.give_back(taken.at, taken.bytes);
    }
}
