// SPDX-License-Identifier: GPL-2.0

//! Waiting for a condition that others make true.

use crate::sys;
use kernel::{
    bindings, ffi::c_int, ffi::c_long, prelude::*, time::msecs_to_jiffies, types::Opaque,
};

/// A wait queue.
#[pin_data]
pub struct WaitQueue {
    #[pin]
    head: Opaque<bindings::wait_queue_head>,
}

// SAFETY: A wait queue may be used from any thread.
unsafe impl Send for WaitQueue {}
// SAFETY: As above; it has its own lock.
unsafe impl Sync for WaitQueue {}

/// How a wait ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// The condition holds.
    Done,
    /// It did not hold in time.
    TimedOut,
    /// The task is to die.
    Killed,
}

impl WaitQueue {
    /// An empty queue.
    pub fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            // SAFETY: `head` is memory for it that stays where it is.
            head <- Opaque::ffi_init(|head| unsafe { sys::lio_wait_init(head) }),
        })
    }

    /// Sleeps until `cond` holds, `timeout_ms` at most; whether it holds. No signal ends it, and it counts as idle
    /// (no load, no hung task). `cond` is called before each sleep and must not sleep itself.
    pub fn wait_until(&self, timeout_ms: u32, cond: impl FnMut() -> bool) -> bool {
        let timeout = c_long::try_from(msecs_to_jiffies(timeout_ms)).unwrap_or(c_long::MAX);
        self.wait(bindings::TASK_IDLE, timeout, cond) == Wait::Done
    }

    /// As [`wait_until`](Self::wait_until), without a limit.
    pub fn wait_forever(&self, cond: impl FnMut() -> bool) {
        self.wait(bindings::TASK_IDLE, c_long::MAX, cond);
    }

    /// As [`wait_until`](Self::wait_until); a fatal signal ends it. For what a user's own system call waits for.
    pub fn wait_killable(&self, timeout_ms: u32, cond: impl FnMut() -> bool) -> Wait {
        let timeout = c_long::try_from(msecs_to_jiffies(timeout_ms)).unwrap_or(c_long::MAX);
        self.wait(bindings::TASK_KILLABLE, timeout, cond)
    }

    fn wait(&self, state: u32, mut left: c_long, mut cond: impl FnMut() -> bool) -> Wait {
        if cond() {
            return Wait::Done;
        }
        let entry = Opaque::<bindings::wait_queue_entry>::uninit();
        // SAFETY: `entry` is ours, and stays here until `finish_wait` has taken it off the queue.
        unsafe { bindings::init_wait_entry(entry.get(), 0) };
        let end = loop {
            // SAFETY: Both are initialised. `entry` goes on the queue, and `finish_wait` takes it off.
            let killed = unsafe {
                bindings::prepare_to_wait_event(self.head.get(), entry.get(), state as c_int)
            };
            if cond() {
                break Wait::Done;
            }
            if killed != 0 {
                break Wait::Killed;
            }
            if left == 0 {
                break Wait::TimedOut;
            }
            // SAFETY: We are on the queue, so that a wake-up is not lost. `c_long::MAX` means no limit, and stays.
            left = unsafe { bindings::schedule_timeout(left) };
        };
        // SAFETY: Both are initialised; this is the one that takes `entry` off.
        unsafe { bindings::finish_wait(self.head.get(), entry.get()) };
        end
    }

    /// Has all waiters look at their conditions again. Any context, hard interrupts too.
    #[inline]
    pub fn wake_all(&self) {
        // SAFETY: `head` is initialised.
        unsafe {
            if sys::lio_wait_active(self.head.get()) {
                bindings::__wake_up(
                    self.head.get(),
                    bindings::TASK_NORMAL,
                    0,
                    core::ptr::null_mut(),
                );
            }
        };
    }
}

/// Waits until whoever reads under RCU at this moment is done, and interrupts the processors for it: an administrator, or an
/// initiator that logs out, waits. Sleeps.
pub fn wait_for_readers() {
    // SAFETY: It may be called from process context.
    unsafe { bindings::synchronize_rcu_expedited() }
}
