// SPDX-License-Identifier: GPL-2.0

//! Transfers past the page cache, and those that go through it after all, are kept apart: what is not aligned for the one is read into a
//! page, changed there and written as a whole, with what was beside it before a transfer that is still on its way; and such a page would
//! be read later instead of what that has written.

use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full},
        Mutex,
    },
};
use lio_glue::wait::WaitQueue;

/// Of one file.
#[pin_data]
pub(crate) struct Apart {
    past: Atomic<u32>,
    // Somebody goes through the page cache, or waits for that.
    through: Atomic<bool>,
    #[pin]
    one: Mutex<()>,
    #[pin]
    wait: WaitQueue,
}

impl Apart {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Apart {
            past: Atomic::new(0),
            through: Atomic::new(false),
            one <- new_mutex!((), "fileio::Apart::one"),
            wait <- WaitQueue::new(),
        })
    }

    /// A transfer past the page cache begins, when nobody goes through it; [`Self::leave`] is to follow. Sleeps.
    pub(crate) fn enter(&self) {
        loop {
            // A full barrier, as below: one of both sees the other.
            self.past.fetch_add(1, Full);
            if !self.through.load(Acquire) {
                return;
            }
            self.leave();
            self.wait.wait_forever(|| !self.through.load(Acquire));
        }
    }

    /// It has ended. Any context.
    pub(crate) fn leave(&self) {
        if self.past.fetch_sub(1, Full) == 1 && self.through.load(Acquire) {
            self.wait.wake_all();
        }
    }

    /// Does `f`, which goes through the page cache, while nobody goes past it. Sleeps.
    pub(crate) fn through<R>(&self, f: impl FnOnce() -> R) -> R {
        let one = self.one.lock();
        self.through.xchg(true, Full);
        self.wait.wait_forever(|| self.past.load(Acquire) == 0);
        let r = f();
        self.through.xchg(false, Full);
        drop(one);
        self.wait.wake_all();
        r
    }
}
