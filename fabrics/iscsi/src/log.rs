// SPDX-License-Identifier: GPL-2.0

//! Lines that an initiator can cause are written at a bounded rate.

use kernel::sync::atomic::{Atomic, Relaxed};
use lio_glue::thread::now_ms;

/// Lets one line through in a second.
pub(crate) struct Throttle(Atomic<u64>);

impl Throttle {
    pub(crate) const fn new() -> Self {
        Throttle(Atomic::new(0))
    }

    /// Whether a line may be written now.
    pub(crate) fn allow(&self) -> bool {
        let now = now_ms();
        let last = self.0.load(Relaxed);
        now.wrapping_sub(last) >= 1000 && self.0.cmpxchg(last, now, Relaxed).is_ok()
    }
}
