// SPDX-License-Identifier: GPL-2.0

//! The directories under `/sys/kernel/config/target`, which are the ABI of targetcli and rtslib.
//!
//! | module | directory |
//! | --- | --- |
//! | this one | the root, with a directory for each fabric |
//! | [`core_dir`] | `core/`, `core/KIND_N/` |
//! | [`device`], [`attrib`], [`wwn`], [`pr`], [`alua`], [`device_stats`] | `core/KIND_N/NAME/` |
//! | [`fabric`], [`tpg`] | `FABRIC/WWN/`, `FABRIC/WWN/tpgt_N/` |
//! | [`lun`], [`acl`], [`port_stats`], [`acl_stats`], [`limits`] | `…/lun/lun_N/`, `…/acls/NAME/` |
//!
//! A file behind which nothing is implemented reads as the stock modules' default, takes that value back, and refuses
//! all others: see [`fixed`].

mod acl;
mod acl_stats;
mod alua;
mod attrib;
mod core_dir;
mod device;
mod device_stats;
mod fabric;
mod limits;
mod lun;
mod port_stats;
mod pr;
mod tpg;
mod wwn;

use crate::{device::Device, engine, registry, TargetCore};
use kernel::{
    error::code::*,
    new_mutex,
    prelude::*,
    str::CString,
    sync::{Arc, Mutex},
    ModuleMetadata, ThisModule,
};
use lio_configfs::{attributes, Builder, Dir, Node, Page, Subsystem, Tree, Value};
use lio_glue::system;

/// The version whose files and behaviour these are; tools show it.
const VERSION: &str = "v5.0";

/// The longest `dbroot`, in bytes.
const DBROOT_MAX: usize = 254;

static MODULE: ThisModule = <TargetCore as ModuleMetadata>::THIS_MODULE;

attributes! {
    static ROOT: Root = {
        ro "version" => show_version;
        rw "dbroot" => Root::show_dbroot, Root::store_dbroot;
    }
}

/// Shows the tree. Dropping what this returns waits until all of it is gone but its own directories.
pub(crate) fn register() -> Result<Subsystem> {
    let root = Root::new()?;
    Builder::new(&MODULE, "target")
        .attrs(ROOT, root.clone())
        .group(core_dir::builder(&root))
        .dir(root)
        .register()
}

/// What the tree has one of.
#[pin_data]
struct Root {
    #[pin]
    state: Mutex<State>,
}

struct State {
    // In the order in which they were made.
    devices: KVec<Arc<Device>>,
}

fn show_version(_: &Root, page: &mut Page<'_>) -> Result {
    page.write_fmt(fmt!(
        "Target Engine Core ConfigFS Infrastructure {VERSION} on Linux/{} on {}\n",
        system::machine(),
        system::release()
    ))
}

impl Root {
    fn new() -> Result<Arc<Self>> {
        // What the stock modules prefer if it is there.
        let etc = c"/etc/target";
        let path: &[u8] = match system::check_dir(etc) {
            Ok(()) => etc.to_bytes(),
            Err(_) => b"/var/target",
        };
        let mut dbroot = KVec::new();
        dbroot.extend_from_slice(path, GFP_KERNEL)?;
        *engine()?.dbroot().lock() = dbroot;
        Arc::pin_init(
            pin_init!(Root {
                state <- new_mutex!(State { devices: KVec::new() }, "tree::Root::state"),
            }),
            GFP_KERNEL,
        )
    }

    fn show_dbroot(&self, page: &mut Page<'_>) -> Result {
        page.put(&engine()?.dbroot().lock());
        page.put(b"\n");
        Ok(())
    }

    fn store_dbroot(&self, value: &Value<'_>) -> Result {
        let path = value.str()?;
        if path.is_empty() || path.len() > DBROOT_MAX {
            return Err(value.reject(EINVAL, fmt!("a path of 1 to {DBROOT_MAX} bytes is wanted")));
        }
        let name = CString::try_from_fmt(fmt!("{path}"))?;
        let mut dbroot = KVec::new();
        dbroot.extend_from_slice(path.as_bytes(), GFP_KERNEL)?;
        system::check_dir(&name)
            .map_err(|e| value.reject(e, fmt!("the path cannot be opened as a directory")))?;
        let state = self.state.lock();
        if !state.devices.is_empty() {
            return Err(value.reject(EINVAL, fmt!("there are devices already")));
        }
        // The old one is dropped with the lock held, which does no harm.
        *engine()?.dbroot().lock() = dbroot;
        Ok(())
    }

    fn add(&self, device: &Arc<Device>) -> Result {
        Ok(self.state.lock().devices.push(device.clone(), GFP_KERNEL)?)
    }

    fn remove(&self, device: &Arc<Device>) {
        let mut state = self.state.lock();
        // The caller has a reference, so that none is the last one.
        state.devices.retain(|d| !Arc::ptr_eq(d, device));
    }

    // Calls `f` for each device that is enabled.
    fn each_enabled(&self, mut f: impl FnMut(&Device) -> Result) -> Result {
        for device in self.state.lock().devices.iter() {
            if device.geometry().is_some() {
                f(device)?;
            }
        }
        Ok(())
    }
}

impl Dir for Root {
    fn mkdir(&self, dir: &Node, name: &str) -> Result<Tree> {
        let (kind, module, pin) = registry::fabric(name)
            .map_err(|_| dir.reject(EINVAL, fmt!("no module brings a fabric called '{name}'")))?;
        fabric::build(kind, module, pin, name)
    }
}

/// The reason why a value cannot be changed.
const NOT_YET: &str = "is not implemented: only the value that is shown can be written";

/// Takes the number `now`, which is in force, and refuses all others: what they would ask for is not implemented.
fn fixed(value: &Value<'_>, now: u32) -> Result {
    if value.u32()? != now {
        return Err(refuse(value));
    }
    Ok(())
}

/// As [`fixed`] for a truth value.
fn fixed_flag(value: &Value<'_>, now: bool) -> Result {
    if value.bool()? != now {
        return Err(refuse(value));
    }
    Ok(())
}

/// Refuses a value because what it asks for is not implemented.
fn refuse(value: &Value<'_>) -> Error {
    value.reject(EOPNOTSUPP, fmt!("a change {NOT_YET}"))
}

/// The number in a directory's name after `prefix`, in decimal without leading zeros: it has one name only.
fn numbered(name: &str, prefix: &str) -> Option<u32> {
    let digits = name.strip_prefix(prefix)?;
    let plain = digits.bytes().all(|c| c.is_ascii_digit());
    let leading = digits.len() > 1 && digits.starts_with('0');
    if !plain || leading {
        return None;
    }
    digits.parse().ok()
}
