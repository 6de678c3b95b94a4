// SPDX-License-Identifier: GPL-2.0

//! Files, and block devices through the page cache, as a back end: `core/fileio_N`.

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

mod apart;
mod config;
mod crew;
mod device;
mod protection;
mod turn;
mod work;

module! {
    type: Module,
    name: "target_core_file",
    authors: ["The lio-rs authors"],
    description: "SCSI target back end: files",
    license: "GPL",
}

/// For what blocks until it is done: each item may wait for a disk, and a slow one must not hold up others.
static QUEUE: Global<Workqueue> = Global::new();

struct Module {
    // In this order: what comes later is used by what comes before.
    _registration: registry::BackendRegistration,
    _queue: Holder<Workqueue>,
}

impl kernel::Module for Module {
    fn init(module: &'static ThisModule) -> Result<Self> {
        let queue = Workqueue::unbound(c_str!("lio_fileio"), 2048)?;
        let queue = QUEUE.hold(Arc::new(queue, GFP_KERNEL)?)?;
        Ok(Module {
            _registration: registry::register_backend(&Fileio, module)?,
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

struct Fileio;

impl Kind for Fileio {
    fn name(&self) -> &'static str {
        "fileio"
    }

    fn product(&self) -> &'static str {
        "FILEIO"
    }

    fn create(&self) -> Result<Arc<dyn Backend>> {
        Ok(device::Device::new(QUEUE.get().ok_or(ENODEV)?)?)
    }
}
