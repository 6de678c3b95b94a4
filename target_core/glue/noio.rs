// SPDX-License-Identifier: GPL-2.0

//! Allocating on the I/O path: `GFP_KERNEL` that may sleep, but must not wait for I/O, since that I/O may be ours.

use crate::sys;

/// Runs `f`; what it allocates with `GFP_KERNEL` is allocated with `GFP_NOIO`. Process context.
pub fn scope<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: Changes a flag of the current task.
    let was = unsafe { sys::lio_noio_enter() };
    let r = f();
    // SAFETY: Gives the flag back as it was, in the same task.
    unsafe { sys::lio_noio_leave(was) };
    r
}
