// SPDX-License-Identifier: GPL-2.0

//! What other modules register: kinds of back ends, and fabrics.
//!
//! A registration pins nothing by itself. Whoever uses what is registered takes a [`Pin`] of its module, under the lock
//! that unregistering takes too.

use crate::{backend::Kind, engine, fabric::FabricKind, tmf};
use kernel::{error::code::*, prelude::*, str::CString};
use lio_glue::module::{self, Pin};

struct Entry<T: ?Sized + 'static> {
    what: &'static T,
    module: &'static ThisModule,
}

/// What is registered now.
pub(crate) struct Registry {
    backends: KVec<Entry<dyn Kind>>,
    fabrics: KVec<Entry<dyn FabricKind>>,
}

impl Registry {
    pub(crate) const fn new() -> Self {
        Registry {
            backends: KVec::new(),
            fabrics: KVec::new(),
        }
    }
}

/// A back end's registration; dropping it ends it. Part of the back end's module, which cannot be unloaded while a directory of its
/// kind exists.
pub struct BackendRegistration(&'static str);

/// A fabric's registration; dropping it ends it, and waits for what the engine still does for the fabric.
pub struct FabricRegistration(&'static str);

/// Registers a kind of back end.
///
/// # Errors
/// `EEXIST` for a name that is registered, `ENOMEM`.
pub fn register_backend(
    what: &'static dyn Kind,
    module: &'static ThisModule,
) -> Result<BackendRegistration> {
    let engine = engine()?;
    let mut registry = engine.registry().lock();
    if registry
        .backends
        .iter()
        .any(|e| e.what.name() == what.name())
    {
        return Err(EEXIST);
    }
    registry.backends.push(Entry { what, module }, GFP_KERNEL)?;
    Ok(BackendRegistration(what.name()))
}

impl Drop for BackendRegistration {
    fn drop(&mut self) {
        if let Ok(engine) = engine() {
            engine
                .registry()
                .lock()
                .backends
                .retain(|e| e.what.name() != self.0);
        }
        lio_glue::defer::flush();
        // Whoever completed the last operation may not have returned from the back end's code yet.
        module::settle();
    }
}

/// Registers a fabric.
///
/// # Errors
/// `EEXIST` for a name that is registered, `ENOMEM`.
pub fn register_fabric(
    what: &'static dyn FabricKind,
    module: &'static ThisModule,
) -> Result<FabricRegistration> {
    let engine = engine()?;
    let mut registry = engine.registry().lock();
    if registry
        .fabrics
        .iter()
        .any(|e| e.what.name() == what.name())
    {
        return Err(EEXIST);
    }
    registry.fabrics.push(Entry { what, module }, GFP_KERNEL)?;
    Ok(FabricRegistration(what.name()))
}

impl Drop for FabricRegistration {
    fn drop(&mut self) {
        if let Ok(engine) = engine() {
            engine
                .registry()
                .lock()
                .fabrics
                .retain(|e| e.what.name() != self.0);
            // Sessions are closed by now; their work items and task management may be about to return.
            engine.queue().flush();
            engine.management().flush();
            // Other fabrics' task management may have found our sessions when they were not closed yet.
            tmf::wait_for_all(&engine);
        }
        lio_glue::defer::flush();
        // A back end that answered the last command may not have returned from the fabric's code yet.
        module::settle();
        if let Ok(engine) = engine() {
            // Whoever it was may have left work for a session that has ended.
            engine.queue().flush();
            lio_glue::defer::flush();
        }
    }
}

/// The kind of back end with this name, loading its module if it is not there.
///
/// # Errors
/// `ENOENT`.
pub(crate) fn backend(name: &str) -> Result<(&'static dyn Kind, &'static ThisModule, Pin)> {
    let find = || {
        let engine = engine()?;
        let registry = engine.registry().lock();
        registry
            .backends
            .iter()
            .find(|e| e.what.name() == name)
            .and_then(|e| Some((e.what, e.module, Pin::get(e.module)?)))
            .ok_or(ENOENT)
    };
    find().or_else(|_| {
        let module = match name {
            "fileio" => "target_core_file",
            "iblock" => "target_core_iblock",
            "pscsi" => "target_core_pscsi",
            "user" => "target_core_user",
            _ => return Err(ENOENT),
        };
        load(module);
        find()
    })
}

/// The fabric with this name, loading its module if it is not there.
///
/// # Errors
/// `ENOENT`.
pub(crate) fn fabric(name: &str) -> Result<(&'static dyn FabricKind, &'static ThisModule, Pin)> {
    let find = || {
        let engine = engine()?;
        let registry = engine.registry().lock();
        registry
            .fabrics
            .iter()
            .find(|e| e.what.name() == name)
            .and_then(|e| Some((e.what, e.module, Pin::get(e.module)?)))
            .ok_or(ENOENT)
    };
    find().or_else(|_| {
        let module = match name {
            "iscsi" => "iscsi_target_mod",
            "loopback" => "tcm_loop",
            "vhost" => "vhost_scsi",
            "srpt" => "ib_srpt",
            "fc" => "tcm_fc",
            "qla2xxx" => "tcm_qla2xxx",
            "sbp" => "sbp_target",
            "usb_gadget" => "usb_f_tcm",
            _ => return Err(ENOENT),
        };
        load(module);
        find()
    })
}

fn load(name: &str) {
    let loaded = CString::try_from_fmt(fmt!("{name}"));
    if let Err(e) = loaded.and_then(|name| module::request(&name)) {
        pr_err!("module {name} could not be loaded: {e:?}\n");
    }
}
