// SPDX-License-Identifier: GPL-2.0

//! `FABRIC/WWN/tpgt_N`: a target portal group.

use super::{acl, fabric, lun};
use crate::{
    background::{self, Job},
    fabric::{FabricTpg, TpgDir},
    tpg::Tpg,
};
use kernel::{
    error::code::*,
    prelude::*,
    sync::{
        atomic::{Atomic, Full},
        Arc,
    },
    ThisModule,
};
use lio_configfs::{attributes, Builder, Dir, Node, Tree, Value};

attributes! {
    static TPG: Handle = {
        rw "rtpi" => |h, page| writeln!(page, "{:#x}", h.tpg.rtpi()), store_rtpi;
    }
}

/// A portal group with its fabric's side.
pub(super) struct Handle {
    pub(super) fabric: Arc<dyn FabricTpg>,
    pub(super) tpg: Arc<Tpg>,
    /// The target above.
    pub(super) target: Arc<fabric::Handle>,
    ended: Atomic<bool>,
}

impl Handle {
    pub(super) fn module(&self) -> &'static ThisModule {
        self.target.module
    }

    fn end(&self) {
        if !self.ended.xchg(true, Full) {
            self.tpg.close();
            let end = || End {
                fabric: self.fabric.clone(),
                tpg: self.tpg.clone(),
            };
            match Arc::new(end(), GFP_KERNEL) {
                Ok(job) => background::run(self.module(), self.tpg.path(), job),
                Err(_) => end().run(),
            }
        }
    }
}

/// The end of a group, which waits for its sessions.
struct End {
    fabric: Arc<dyn FabricTpg>,
    tpg: Arc<Tpg>,
}

impl Job for End {
    fn run(&self) {
        self.fabric.removed();
        self.tpg.disable();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // For a directory that could not be made after all.
        self.end();
    }
}

pub(super) fn build(
    target: &Arc<fabric::Handle>,
    dir: &Node,
    tag: u16,
    name: &str,
) -> Result<Tree> {
    let tpg = Tpg::new(&target.target, tag)?;
    let fabric = target
        .fabric
        .make_tpg(&tpg)
        .map_err(|e| dir.reject(e, fmt!("'{name}' cannot be made")))?;
    tpg.set_protocol(fabric.protocol());
    let handle = Arc::new(
        Handle {
            fabric,
            tpg,
            target: target.clone(),
            ended: Atomic::new(false),
        },
        GFP_KERNEL,
    )?;
    let group = |name| Builder::new(target.module, name);
    let own = |which, name| handle.fabric.files(which, group(name));
    let base = Builder::new(target.module, name)
        .dir(TpgEntry(handle.clone()))
        .attrs(TPG, handle.clone());
    handle
        .fabric
        .files(TpgDir::Base, base)
        .group(group("acls").dir(acl::Acls(handle.clone())))
        .group(own(TpgDir::Attrib, "attrib"))
        .group(own(TpgDir::Auth, "auth"))
        .group(group("lun").dir(lun::Luns(handle.clone())))
        .group(group("np").dir(Portals(handle.clone())))
        .group(own(TpgDir::Param, "param"))
        .build()
}

struct TpgEntry(Arc<Handle>);

impl Dir for TpgEntry {
    fn removed(&self, _dir: &Node) {
        self.0.end();
    }
}

struct Portals(Arc<Handle>);

impl Dir for Portals {
    fn mkdir(&self, dir: &Node, name: &str) -> Result<Tree> {
        let portal = Builder::new(self.0.module(), name);
        self.0
            .fabric
            .make_portal(name, portal)
            .map_err(|e| dir.reject(e, fmt!("'{name}' cannot be made")))?
            .build()
    }
}

fn store_rtpi(handle: &Handle, value: &Value<'_>) -> Result {
    let rtpi = value.u16()?;
    if rtpi == handle.tpg.rtpi() && rtpi != 0 {
        return Ok(());
    }
    if rtpi == 0 {
        return Err(value.reject(EINVAL, fmt!("a number from 1 to 65535 is wanted")));
    }
    handle
        .tpg
        .set_rtpi(rtpi)
        .map_err(|e| value.reject(e, fmt!("cannot be changed while the group is enabled")))
}
