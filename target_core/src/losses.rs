// SPDX-License-Identifier: GPL-2.0

//! How often a device's storage has told of writes that were acknowledged and are lost. It tells so once; each initiator hears of it.

use kernel::{
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc,
    },
};

/// What a device has of it.
pub(crate) struct Losses {
    count: Atomic<u32>,
}

impl Losses {
    pub(crate) fn new() -> Result<Arc<Self>> {
        let losses = Losses {
            count: Atomic::new(0),
        };
        Ok(Arc::new(losses, GFP_KERNEL)?)
    }

    /// How often.
    pub(crate) fn count(&self) -> u32 {
        self.count.load(Relaxed)
    }

    /// Once more. Any context.
    pub(crate) fn add(&self) {
        self.count.add(1, Relaxed);
    }
}
