// SPDX-License-Identifier: GPL-2.0

//! Counters that each CPU keeps for itself, so that counting writes nothing that is shared.

use crate::sys;
use core::{
    mem::ManuallyDrop,
    ptr::{self, NonNull},
};
use kernel::{
    ffi::c_void,
    prelude::*,
    sync::atomic::{Acquire, Atomic, Full},
};

/// `N` counters of 64 bits, which wrap.
///
/// # Invariants
/// The pointer is the per-CPU address of `N` counters from `lio_percpu_alloc`.
pub struct PercpuCounters<const N: usize>(NonNull<c_void>);

/// One counter.
pub type PercpuCounter = PercpuCounters<1>;

// SAFETY: The counters may be used and freed from any thread.
unsafe impl<const N: usize> Send for PercpuCounters<N> {}
// SAFETY: As above; adding is atomic with regard to its own CPU, and each CPU has its own counters.
unsafe impl<const N: usize> Sync for PercpuCounters<N> {}

impl<const N: usize> PercpuCounters<N> {
    /// Counters that are all zero. May sleep.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        // SAFETY: The call has no requirements.
        let ptr = unsafe { sys::lio_percpu_alloc(N) };
        // INVARIANT: just allocated.
        Ok(PercpuCounters(NonNull::new(ptr).ok_or(ENOMEM)?))
    }

    fn at(&self, index: usize) -> Option<*mut c_void> {
        (index < N).then(|| self.0.as_ptr().cast::<u64>().wrapping_add(index).cast())
    }

    /// Adds `value` to the counter `index`; none if there is no such counter. Any context.
    #[inline]
    pub fn add_to(&self, index: usize, value: u64) {
        if let Some(counter) = self.at(index) {
            // SAFETY: It is one of our counters.
            unsafe { sys::lio_percpu_add(counter, value) }
        }
    }

    /// The sum over all CPUs of the counter `index`, 0 if there is no such counter. Not a snapshot. Any context.
    pub fn sum_of(&self, index: usize) -> u64 {
        match self.at(index) {
            // SAFETY: It is one of our counters.
            Some(counter) => unsafe { sys::lio_percpu_sum(counter) },
            None => 0,
        }
    }
}

impl PercpuCounter {
    /// Adds `value`. Any context.
    #[inline]
    pub fn add(&self, value: u64) {
        self.add_to(0, value)
    }

    /// The sum over all CPUs. Any context.
    pub fn sum(&self) -> u64 {
        self.sum_of(0)
    }
}

impl<const N: usize> Drop for PercpuCounters<N> {
    fn drop(&mut self) {
        // SAFETY: By the invariant, and nobody uses it any more.
        unsafe { sys::lio_percpu_free(self.0.as_ptr()) }
    }
}

/// [`PercpuCounters`] that take no memory until there is something to count; what is counted before that is lost.
///
/// # Invariants
/// The pointer is null, or that of `PercpuCounters<N>` which these own; it changes once, from null.
pub struct LateCounters<const N: usize>(Atomic<*mut c_void>);

// SAFETY: As of `PercpuCounters`.
unsafe impl<const N: usize> Send for LateCounters<N> {}
// SAFETY: As above; all accesses to the pointer are atomic.
unsafe impl<const N: usize> Sync for LateCounters<N> {}

impl<const N: usize> LateCounters<N> {
    /// Without memory.
    pub const fn new() -> Self {
        // INVARIANT: null.
        LateCounters(Atomic::new(ptr::null_mut()))
    }

    /// Counts from now on. May sleep.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn begin(&self) -> Result {
        if self.counters().is_some() {
            return Ok(());
        }
        let new = PercpuCounters::<N>::new()?;
        // INVARIANT: If they are stored they are ours, and not dropped here.
        if self
            .0
            .cmpxchg(ptr::null_mut(), new.0.as_ptr(), Full)
            .is_ok()
        {
            core::mem::forget(new);
        }
        Ok(())
    }

    #[inline]
    fn counters(&self) -> Option<ManuallyDrop<PercpuCounters<N>>> {
        // INVARIANT: That of `self`, whose counters are not dropped by this.
        NonNull::new(self.0.load(Acquire)).map(|p| ManuallyDrop::new(PercpuCounters(p)))
    }

    /// As [`PercpuCounters::add_to`].
    #[inline]
    pub fn add_to(&self, index: usize, value: u64) {
        if let Some(counters) = self.counters() {
            counters.add_to(index, value);
        }
    }

    /// As [`PercpuCounters::sum_of`]; 0 before anything is counted.
    pub fn sum_of(&self, index: usize) -> u64 {
        self.counters().map_or(0, |c| c.sum_of(index))
    }
}

impl<const N: usize> Default for LateCounters<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Drop for LateCounters<N> {
    fn drop(&mut self) {
        drop(self.counters().map(ManuallyDrop::into_inner));
    }
}
