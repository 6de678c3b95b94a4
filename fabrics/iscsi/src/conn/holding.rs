// SPDX-License-Identifier: GPL-2.0

//! How long a write whose data comes in keeps others' commands waiting, and how long it may.
//!
//! An ORDERED command waits for all that came before it, whoever sent that, and all that comes after it waits for it (SAM-5 8.6). So data
//! may not come at a trickle, however often some does: it has the time that a command may wait for it in the worst case, and what all of
//! it takes at [`AT_LEAST`] that is to come before: what the connection was asked for, and what the initiator has to take before
//! it finds the R2T.

use crate::memory::SESSION;

/// Bytes for each of which in a millisecond a write that keeps others waiting has more time: 1 MiB in a second, about.
const AT_LEAST: u64 = 1 << 10;

/// What a connection has moved.
#[derive(Clone, Copy)]
pub(super) struct Moved {
    /// When that was, in milliseconds.
    pub(super) now: u64,
    /// Bytes of write data that came.
    pub(super) came: u64,
    /// Bytes that the initiator has of what was sent.
    pub(super) got: u64,
}

/// For how long others have been waiting, and what was moved meanwhile.
#[derive(Default)]
pub(super) struct Holding {
    // As it was looked at last, if it counts since.
    last: Option<Moved>,
    ms: u64,
    came: u64,
    got: u64,
}

impl Holding {
    /// Others have been waiting since this was called last; while the initiator had not found the R2T, if it is `late`.
    pub(super) fn go_on(&mut self, moved: &Moved, late: bool) {
        if let Some(last) = self.last.replace(*moved) {
            self.ms = self.ms.saturating_add(moved.now.saturating_sub(last.now));
            self.came = self.came.saturating_add(moved.came.wrapping_sub(last.came));
            if late {
                self.got = self.got.saturating_add(moved.got.saturating_sub(last.got));
            }
        }
    }

    /// From now on time does not count. What was used up stays so.
    pub(super) fn pause(&mut self) {
        self.last = None;
    }

    /// How many milliseconds are left, of `span` and what was moved: up to `most` bytes of data, and what reads may have queued.
    pub(super) fn left(&self, span: u64, most: u64) -> u64 {
        let bytes = self.came.min(most).saturating_add(self.got.min(SESSION));
        span.saturating_add(bytes / AT_LEAST)
            .saturating_sub(self.ms)
    }
}
