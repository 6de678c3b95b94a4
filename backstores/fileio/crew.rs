// SPDX-License-Identifier: GPL-2.0

//! A device's operations that wait for a disk are done by so many workers at once: storage that does not answer keeps no more of
//! them from the operations of other devices, however many initiators, again and again, ask for what is on it.

use crate::{apart::Apart, work::Later};
use kernel::{
    impl_has_work, new_spinlock, new_work,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        barrier::{smp_mb, Full},
        Arc, SpinLock,
    },
    workqueue::{Work, WorkItem},
};
use lio_glue::workqueue::Workqueue;

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
    #[pin]
    sweep: Work<Crew>,
}

impl_has_work! {
    impl HasWork<Self> for Crew { self.sweep }
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
            sweep <- new_work!("fileio::Crew::sweep"),
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

    /// One more worker is to begin with `later`, which is given back; or it waits for one of those that there are. It is over if its command
    /// was aborted.
    #[must_use]
    pub(crate) fn take_or_wait(&self, mut later: Pin<KBox<Later>>) -> Option<Pin<KBox<Later>>> {
        let mut state = self.state.lock();
        if state.busy < MOST {
            state.busy = state.busy.saturating_add(1);
            return Some(later);
        }
        // Whoever has marked it looks at the lists afterwards, or has done so.
        if later.is_over() {
            drop(state);
            later.give_up();
            return None;
        }
        later.as_mut().wait();
        *later.as_mut().next() = state.newest.take();
        state.newest = Some(later);
        None
    }

    /// What a worker does next, the oldest first. Without anything it works no more.
    pub(crate) fn next(&self) -> Option<Pin<KBox<Later>>> {
        let mut state = self.state.lock();
        if state.oldest.is_none() {
            // Once for each in all.
            state.oldest = turn_round(state.newest.take());
        }
        let mut first = state.oldest.take();
        match first.as_mut() {
            Some(later) => state.oldest = later.as_mut().next().take(),
            None => state.busy = state.busy.saturating_sub(1),
        }
        first
    }

    /// Operations that wait for a worker end if their commands were aborted. Process context.
    pub(crate) fn let_aborted_go(self: &Arc<Self>, queue: &Workqueue) {
        let waits = {
            let state = self.state.lock();
            state.newest.is_some() || state.oldest.is_some()
        };
        // Whoever is between this look and the lists finds the mark.
        if waits {
            // One that is enqueued already has everything before it.
            let _ = queue.enqueue(self.clone());
        }
    }

    fn sweep(&self) {
        let mut over = None;
        {
            let mut state = self.state.lock();
            // The newest first, so that both lists that are made of them begin with the oldest.
            let (newest, older) = (state.newest.take(), turn_round(state.oldest.take()));
            for mut list in [newest, older] {
                while let Some(mut later) = list {
                    list = later.as_mut().next().take();
                    let to = match later.is_over() {
                        true => &mut over,
                        false => &mut state.oldest,
                    };
                    *later.as_mut().next() = to.take();
                    *to = Some(later);
                }
            }
        }
        while let Some(mut later) = over {
            over = later.as_mut().next().take();
            later.give_up();
        }
    }
}

impl WorkItem for Crew {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.sweep();
    }
}

// The same list from its other end.
fn turn_round(mut list: Option<Pin<KBox<Later>>>) -> Option<Pin<KBox<Later>>> {
    let mut round = None;
    while let Some(mut later) = list {
        list = core::mem::replace(later.as_mut().next(), round);
        round = Some(later);
    }
    round
}
