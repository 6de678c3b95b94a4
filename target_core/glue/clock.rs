// SPDX-License-Identifier: GPL-2.0

//! Time.

use kernel::bindings;

/// Nanoseconds since boot, monotonic. Any context.
#[inline]
pub fn now_ns() -> u64 {
    // SAFETY: The call has no requirements.
    u64::try_from(unsafe { bindings::ktime_get() }).unwrap_or(0)
}

/// The jiffies counter, which wraps. Any context; cheaper than [`now_ns`], and as coarse as a tick.
#[inline]
pub fn jiffies() -> usize {
    // SAFETY: The kernel writes it with single stores, and a volatile read takes one of the values.
    unsafe { core::ptr::addr_of!(bindings::jiffies).read_volatile() }
}

/// Milliseconds since 1970, UTC, as the system's clock has it, which may be set. Process context.
pub fn wall_ms() -> u64 {
    // SAFETY: The call has no requirements outside of NMI context.
    let ns = unsafe { bindings::ktime_get_real() };
    u64::try_from(ns).unwrap_or(0) / 1_000_000
}
