// SPDX-License-Identifier: GPL-2.0

//! What is dropped later: after an RCU grace period, or in process context.
//!
//! The module that holds the engine starts this with [`Deferral::start`] before anything else. A module whose types
//! are kept in an [`RcuMap`](crate::rcu_map::RcuMap), an [`RcuBox`](crate::rcu_box::RcuBox) or a
//! [`Gated`](crate::gate::Gated) calls [`flush`] as the last thing it does, so that none of its `drop`s runs after it
//! is gone.

use crate::sys;
use core::ptr::NonNull;
use kernel::{error::to_result, ffi::c_void, prelude::*, sync::Arc};

/// Deferral works while this exists; dropping it waits for all that is on its way. May sleep.
pub struct Deferral(());

impl Deferral {
    /// Makes the queue on which things are dropped. Only the engine's module does this, once.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn start() -> Result<Self> {
        // SAFETY: The call has no requirements.
        to_result(unsafe { sys::lio_defer_start() })?;
        Ok(Deferral(()))
    }
}

impl Drop for Deferral {
    fn drop(&mut self) {
        // SAFETY: It was started, or there would be no `Deferral`.
        unsafe { sys::lio_defer_stop() }
    }
}

/// Waits until all that was removed before this call is dropped. May sleep.
pub fn flush() {
    // SAFETY: The call has no requirements; it does nothing where deferral is not started.
    unsafe { sys::lio_defer_flush() }
}

/// Memory for one deferral, allocated ahead so that removing something cannot fail.
///
/// # Invariants
/// The pointer comes from `lio_deferred_alloc` and is not queued.
pub(crate) struct Node(NonNull<sys::lio_deferred>);

// SAFETY: It is plain memory that has one owner.
unsafe impl Send for Node {}

impl Node {
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: The call has no requirements.
        let ptr = unsafe { sys::lio_deferred_alloc() };
        // INVARIANT: it was just allocated.
        Ok(Node(NonNull::new(ptr).ok_or(ENOMEM)?))
    }

    /// Calls `f(arg)` in process context after a grace period.
    ///
    /// # Safety
    /// `f(arg)` must be sound to call then, from another thread.
    unsafe fn queue(self, f: unsafe extern "C" fn(*mut c_void), arg: *mut c_void) {
        let ptr = self.0.as_ptr();
        core::mem::forget(self);
        // SAFETY: By the invariant `ptr` is ours and not queued; it belongs to the queue from now on. The caller
        // vouches for `f(arg)`.
        unsafe { sys::lio_deferred_queue(ptr, Some(f), arg) }
    }

    /// Drops `arc` in process context after a grace period.
    pub(crate) fn drop_later<T: Send + Sync>(self, arc: Arc<T>) {
        /// # Safety
        /// `arg` is an `Arc<T>`'s reference, which this takes over.
        unsafe extern "C" fn release<T>(arg: *mut c_void) {
            // SAFETY: `arg` comes from `Arc::into_raw` below, whose reference this takes over.
            drop(unsafe { Arc::<T>::from_raw(arg.cast_const().cast()) })
        }
        let arg = Arc::into_raw(arc).cast_mut().cast();
        // SAFETY: `release` takes the one reference that `arg` stands for, and `T` may be dropped on any thread.
        unsafe { self.queue(release::<T>, arg) }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // SAFETY: By the invariant it is ours and not queued.
        unsafe { sys::lio_deferred_free(self.0.as_ptr()) }
    }
}
