// SPDX-License-Identifier: GPL-2.0

//! Block devices as a back end: `core/iblock_N`.

#![deny(unsafe_code)]

use kernel::{c_str, error::code::ENODEV, prelude::*, sync::Arc};
use lio_glue::{
    global::{Global, Holder},
    workqueue::Workqueue,
};
use target_core::{
    backend::{Backend, Kind},
    registry,
};

mod config;
mod device;

module! {
    type: Module,
    name: "target_core_iblock",
    authors: ["The lio-rs authors"],
    description: "SCSI target back end: block devices",
    license: "GPL",
}

/// For what blocks until it is done.
static QUEUE: Global<Workqueue> = Global::new();

struct Module {
    // In this order: what comes later is used by what comes before.
    _registration: registry::BackendRegistration,
    _queue: Holder<Workqueue>,
}

impl kernel::Module for Module {
    fn init(module: &'static ThisModule) -> Result<Self> {
        let queue = Workqueue::unbound(c_str!("lio_iblock"), 0)?;
        let queue = QUEUE.hold(Arc::new(queue, GFP_KERNEL)?)?;
        Ok(Module {
            _registration: registry::register_backend(&Iblock, module)?,
            _queue: queue,
        })
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // No device is left, but the worker that did the last operation may still hold the queue: it must not be the one
        // that drops it.
        if let Some(queue) = QUEUE.get() {
            queue.flush();
        }
    }
}

struct Iblock;

impl Kind for Iblock {
    fn name(&self) -> &'static str {
        "iblock"
    }

    fn product(&self) -> &'static str {
        "IBLOCK"
    }

    fn create(&self) -> Result<Arc<dyn Backend>> {
        Ok(device::Device::new(QUEUE.get().ok_or(ENODEV)?)?)
    }
}
