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
mod later;

module! {
    type: Module,
    name: "target_core_iblock",
    authors: ["The lio-rs authors"],
    description: "SCSI target back end: block devices",
    license: "GPL",
}

/// Where operations go on that cannot where they are.
pub(crate) struct Queues {
    /// For what blocks: the crews'.
    pub(crate) slow: Arc<Workqueue>,
    /// For what is done, and is answered. What blocks may wait for it, so it has a queue of its own.
    pub(crate) done: Arc<Workqueue>,
}

static QUEUES: Global<Queues> = Global::new();

struct Module {
    // In this order: what comes later is used by what comes before.
    _registration: registry::BackendRegistration,
    _queues: Holder<Queues>,
}

impl kernel::Module for Module {
    fn init(module: &'static ThisModule) -> Result<Self> {
        let queues = Queues {
            slow: Arc::new(Workqueue::unbound(c_str!("lio_iblock"), 2048)?, GFP_KERNEL)?,
            done: Arc::new(Workqueue::percpu(c_str!("lio_iblock_done"), 0)?, GFP_KERNEL)?,
        };
        let queues = QUEUES.hold(Arc::new(queues, GFP_KERNEL)?)?;
        Ok(Module {
            _registration: registry::register_backend(&Iblock, module)?,
            _queues: queues,
        })
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // No device is left, but the workers that did the last operations may still hold their queue: they must not be those
        // that drop it.
        if let Some(queues) = QUEUES.get() {
            queues.slow.flush();
            queues.done.flush();
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
        Ok(device::Device::new(QUEUES.get().ok_or(ENODEV)?)?)
    }
}
