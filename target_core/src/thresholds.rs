// SPDX-License-Identifier: GPL-2.0

//! Thresholds of logical block provisioning (SBC-3, 4.7.3.7): while an initiator wants to be told of any, the back end is asked
//! once a second what is left. No command asks.

use crate::{
    delay::{self, Late},
    device::Device,
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{Atomic, Full},
        Arc, Mutex,
    },
};
use lio_scsi::{provisioning, sense::Asc};

/// How often.
const PERIOD_MS: u64 = 1000;

/// What a device has of it.
#[pin_data]
pub(crate) struct Watch {
    // It waits for its next look, or is at it.
    on: Atomic<bool>,
    #[pin]
    seen: Mutex<provisioning::Watch>,
}

impl Watch {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Watch {
            on: Atomic::new(false),
            seen <- new_mutex!(provisioning::Watch::default(), "thresholds::Watch::seen"),
        })
    }
}

impl Device {
    /// The thresholds may be others now: looks after them, if there are any.
    pub(crate) fn watch_thresholds(self: &Arc<Self>) {
        if self.mode().thresholds().any() && !self.mode().watch().on.xchg(true, Full) {
            self.look_later();
        }
    }

    fn look_later(self: &Arc<Self>) {
        if delay::after(PERIOD_MS, Late::Thresholds(self.clone())).is_err() {
            // Without memory for it, the next MODE SELECT tries again.
            self.mode().watch().on.xchg(false, Full);
        }
        if self.is_deleted() {
            forget(self);
        }
    }

    /// Looks at what is left. Process context.
    pub(crate) fn look_at_thresholds(self: &Arc<Self>) {
        let thresholds = self.mode().thresholds();
        let reached = self.resources().is_some_and(|resources| {
            let mut seen = self.mode().watch().seen.lock();
            seen.look(&thresholds, &resources)
        });
        if reached {
            self.attend(Asc::SOFT_THRESHOLD_REACHED);
        }
        if thresholds.any() && !self.is_deleted() {
            return self.look_later();
        }
        self.mode().watch().on.xchg(false, Full);
        // They may have been set just before that.
        if !self.is_deleted() {
            self.watch_thresholds();
        }
    }
}

/// The device goes: nothing looks after it any more.
pub(crate) fn forget(device: &Device) {
    delay::forget(|late| matches!(late, Late::Thresholds(d) if core::ptr::eq(&**d, device)));
}
