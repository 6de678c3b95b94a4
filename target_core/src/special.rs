// SPDX-License-Identifier: GPL-2.0

//! What few LUNs have, a portal group's or as one initiator sees them: limits and a histogram. It takes no memory before the first
//! of them is set; commands look at it where a LUN's word says that there is something.

use crate::{
    command::Direction,
    latency::Latency,
    limits::{Limits, Taken},
};
use kernel::prelude::*;
use lio_glue::once_box::OnceBox;

#[pin_data]
struct Kept {
    limits: Limits,
    #[pin]
    latency: Latency,
}

/// Limits and a histogram, perhaps.
pub(crate) struct Special(OnceBox<Kept>);

impl Special {
    pub(crate) const fn new() -> Self {
        Special(OnceBox::new())
    }

    fn make(&self) -> Result<&Kept> {
        self.0.get_or_init(pin_init!(Kept {
            limits: Limits::new(),
            latency <- Latency::new(),
        }))
    }

    /// The limits, if some were ever set.
    pub(crate) fn limits(&self) -> Option<&Limits> {
        Some(&self.0.get()?.limits)
    }

    /// The histogram, if there ever was one.
    pub(crate) fn latency(&self) -> Option<&Latency> {
        Some(&self.0.get()?.latency)
    }

    /// The limits, to be set.
    ///
    /// # Errors
    /// `ENOMEM`
    pub(crate) fn make_limits(&self) -> Result<&Limits> {
        Ok(&self.make()?.limits)
    }

    /// The histogram, to be begun.
    ///
    /// # Errors
    /// `ENOMEM`
    pub(crate) fn make_latency(&self) -> Result<&Latency> {
        Ok(&self.make()?.latency)
    }

    /// Whether there are limits.
    pub(crate) fn is_limited(&self) -> bool {
        self.limits().is_some_and(Limits::is_set)
    }

    /// Whether a histogram is kept.
    pub(crate) fn is_measured(&self) -> bool {
        self.latency().is_some_and(Latency::is_on)
    }

    /// When a command of `bytes` starts, that has come at the time `now`.
    pub(crate) fn take(&self, now: u64, bytes: u64) -> u64 {
        self.limits().map_or(now, |l| l.take(now, bytes))
    }

    /// A command that took its turn does not begin.
    pub(crate) fn give_back(&self, taken: Taken) {
        if let Some(limits) = self.limits() {
            limits.give_back(taken);
        }
    }

    /// A command took `ns` nanoseconds. Any context.
    pub(crate) fn count(&self, direction: Direction, ns: u64) {
        if let Some(latency) = self.latency() {
            latency.count(direction, ns);
        }
    }
}
