// SPDX-License-Identifier: GPL-2.0

//! How long commands take, from their admission to their answer: `latency`, off unless asked for. Each CPU counts for
//! itself; reading disturbs nobody.

use crate::command::Direction;
use kernel::{
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc,
    },
};
use lio_configfs::Page;
use lio_glue::{percpu::PercpuCounters, rcu_box::RcuBox};
use lio_policy::latency::{bucket, end, BUCKETS};

const KINDS: usize = 3;

/// Counters of all buckets, for what reads, what writes and what does neither.
struct Histogram(PercpuCounters<{ KINDS * BUCKETS }>);

/// The histogram of a LUN, where it has one.
#[pin_data]
pub(crate) struct Latency {
    #[pin]
    histogram: RcuBox<Histogram>,
    on: Atomic<bool>,
}

impl Latency {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Latency {
            histogram <- RcuBox::new(),
            on: Atomic::new(false),
        })
    }

    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Relaxed)
    }

    /// Begins to measure, from nothing, or ends it; returns whether it was measured before. Not called twice at the same time.
    ///
    /// # Errors
    /// `ENOMEM`
    pub(crate) fn set(&self, on: bool) -> Result<bool> {
        if on {
            let new = Histogram(PercpuCounters::new()?);
            self.histogram.publish(Arc::new(new, GFP_KERNEL)?)?;
        } else {
            self.histogram.clear();
        }
        let before = self.is_on();
        self.on.store(on, Relaxed);
        Ok(before)
    }

    /// Counts a command that took `ns` nanoseconds. Any context.
    pub(crate) fn count(&self, direction: Direction, ns: u64) {
        let kind = match direction {
            Direction::Read => 0,
            Direction::Write => 1,
            Direction::None => 2,
        };
        self.histogram
            .with(|h| h.0.add_to(kind * BUCKETS + bucket(ns), 1));
    }

    /// A line for each bucket that has something: the microsecond at which it ends, reads, writes, others.
    pub(crate) fn show(&self, page: &mut Page<'_>) -> Result {
        let Some(histogram) = self.histogram.get() else {
            return Ok(());
        };
        for at in 0..BUCKETS {
            let count = |kind: usize| histogram.0.sum_of(kind * BUCKETS + at);
            let (reads, writes, others) = (count(0), count(1), count(2));
            if reads | writes | others == 0 {
                continue;
            }
            match end(at) {
                Some(end) => writeln!(page, "<{end} {reads} {writes} {others}")?,
                None => writeln!(page, "more {reads} {writes} {others}")?,
            }
        }
        Ok(())
    }
}
