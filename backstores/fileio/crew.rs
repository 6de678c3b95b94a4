// SPDX-License-Identifier: GPL-2.0

//! A device's operations that wait for a disk are done by so many workers at once: storage that does not answer keeps no more of
//! them from the operations of other devices, however many initiators, again and again, ask for what is on it.

use crate::{apart::Apart, work::Later};
use kernel::{
    new_spinlock,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        barrier::{smp_mb, Full},
        SpinLock,
    },
};

/// Workers of a device. There are 2,048 for all.
const MOST: u32 = 64;

/// Who works for a device, and what they share.
#[pin_data]
pub(crate) struct Crew {
    /// The failures of writing back that flushes have told of.
    pub(crate) flushed: Atomic<u32>,
    // Whether writes may stay in the page cache, where the file is open for that.
    caches: Atomic<bool>,
    #[pin]
    pub(crate) apart: Apart,
    #[pin]
    state: SpinLock<State>,
}

struct State {
    busy: u32,
    // What waits for a worker, linked by `Later::next`: the last to come, the newest first; and what was there before, the oldest first.
    newest: Option<Pin<KBox<Later>>>,
    oldest: Option<Pin<KBox<Later>>>,
}

impl Crew {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Crew {
            flushed: Atomic::new(0),
            caches: Atomic::new(false),
            apart <- Apart::new(),
            state <- new_spinlock!(State { busy: 0, newest: None, oldest: None }, "fileio::Crew::state"),
        })
    }

    /// Whether there is a write cache.
    pub(crate) fn caches(&self) -> bool {
        self.caches.load(Relaxed)
    }

    /// The same, of a write whose data is in the page cache: [`Self::set_caches`] says why.
    pub(crate) fn still_caches(&self) -> bool {
        smp_mb(Full);
        self.caches.load(Relaxed)
    }

    /// Switches the write cache. Whoever switches it off flushes it then: what is in the page cache by now is made durable by that, and
    /// who puts something there later finds out that nobody else does it.
    pub(crate) fn set_caches(&self, on: bool) {
        self.caches.store(on, Relaxed);
        smp_mb(Full);
    }

    /// One more worker is to begin with `later`, which is given back; or it waits for one of those that there are.
    #[must_use]
    pub(crate) fn take_or_wait(&self, mut later: Pin<KBox<Later>>) -> Option<Pin<KBox<Later>>> {
        let mut state = self.state.lock();
        if state.busy < MOST {
            state.busy = state.busy.saturating_add(1);
            return Some(later);
        }
        *later.as_mut().next() = state.newest.take();
        state.newest = Some(later);
        None
    }

    /// What a worker does next, the oldest first. Without anything it works no more.
    pub(crate) fn next(&self) -> Option<Pin<KBox<Later>>> {
        let mut state = self.state.lock();
        if state.oldest.is_none() {
            // Once for each in all.
            let mut newest = state.newest.take();
            while let Some(mut later) = newest {
                newest = core::mem::replace(later.as_mut().next(), state.oldest.take());
                state.oldest = Some(later);
            }
        }
        let mut first = state.oldest.take();
        match first.as_mut() {
            Some(later) => state.oldest = later.as_mut().next().take(),
            None => state.busy = state.busy.saturating_sub(1),
        }
        first
    }
}
