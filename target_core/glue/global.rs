// SPDX-License-Identifier: GPL-2.0

//! One value of the whole module, there from its start to its end.

use core::ptr;
use kernel::{
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full},
        rcu, Arc, ArcBorrow,
    },
};

/// A place for an [`Arc`] that a module sets when it starts. Read without a lock.
pub struct Global<T: Send + Sync + 'static> {
    // From `Arc::into_raw`, or null. The pointer's provenance is exposed.
    ptr: Atomic<usize>,
    _holds: core::marker::PhantomData<Arc<T>>,
}

// SAFETY: It hands out references to `T` only, which may go to any thread; all accesses are atomic.
unsafe impl<T: Send + Sync> Sync for Global<T> {}

/// Empties its [`Global`] when it is dropped.
pub struct Holder<T: Send + Sync + 'static>(&'static Global<T>);

impl<T: Send + Sync + 'static> Default for Global<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Send + Sync + 'static> Global<T> {
    /// An empty place.
    pub const fn new() -> Self {
        Global {
            ptr: Atomic::new(0),
            _holds: core::marker::PhantomData,
        }
    }

    /// Puts `value` in, until the holder that this returns is dropped.
    ///
    /// # Errors
    /// `EBUSY` if there is something already.
    pub fn hold(&'static self, value: Arc<T>) -> Result<Holder<T>> {
        let raw = Arc::into_raw(value).expose_provenance();
        match self.ptr.cmpxchg(0, raw, Full) {
            Ok(_) => Ok(Holder(self)),
            Err(_) => {
                // SAFETY: It was not stored, so the reference is still ours.
                drop(unsafe { Arc::<T>::from_raw(ptr::with_exposed_provenance(raw)) });
                Err(EBUSY)
            }
        }
    }

    /// What is there now. Any context.
    pub fn get(&self) -> Option<Arc<T>> {
        let _guard = rcu::read_lock();
        let raw = self.ptr.load(Acquire);
        if raw == 0 {
            return None;
        }
        // SAFETY: It is from `Arc::into_raw`, and the holder drops that reference only after a grace period that cannot
        // end before the read lock is given back.
        Some(unsafe { ArcBorrow::<T>::from_raw(ptr::with_exposed_provenance(raw)) }.into())
    }
}

impl<T: Send + Sync + 'static> Drop for Holder<T> {
    fn drop(&mut self) {
        let raw = self.0.ptr.xchg(0, Full);
        rcu::synchronize_rcu();
        if raw != 0 {
            // SAFETY: `hold` put this reference in, and nobody can find it any more.
            drop(unsafe { Arc::<T>::from_raw(ptr::with_exposed_provenance(raw)) });
        }
    }
}
