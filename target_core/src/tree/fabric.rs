// SPDX-License-Identifier: GPL-2.0

//! `FABRIC/` and `FABRIC/WWN/`.

use super::{numbered, tpg};
use crate::{
    fabric::{FabricKind, FabricTarget},
    tpg::Target,
};
use kernel::{
    error::code::*,
    prelude::*,
    str::CString,
    sync::{
        atomic::{Atomic, Full},
        Arc,
    },
    ThisModule,
};
use lio_configfs::{attributes, Builder, Dir, Node, Tree};
use lio_glue::module::Pin as ModulePin;

attributes! {
    static PARAM: Handle = {
        rw "cmd_completion_affinity" => |_, page| writeln!(page, "-1"), |_, value| match value.i32()? {
            -1 => Ok(()),
            _ => Err(super::refuse(value)),
        };
        ro "default_complete_type" => |h, page| writeln!(page, "{}", h.target.kind().contexts().complete);
        ro "default_submit_type" => |h, page| writeln!(page, "{}", h.target.kind().contexts().submit);
        ro "direct_complete_supported" => |h, page| {
            writeln!(page, "{}", u32::from(h.target.kind().contexts().direct_complete))
        };
        ro "direct_submit_supported" => |h, page| {
            writeln!(page, "{}", u32::from(h.target.kind().contexts().direct_submit))
        };
    }
}

/// Makes `FABRIC`.
pub(super) fn build(
    kind: &'static dyn FabricKind,
    module: &'static ThisModule,
    pin: ModulePin,
    name: &str,
) -> Result<Tree> {
    let dir = Builder::new(module, name).dir(FabricDir {
        kind,
        module,
        _pin: pin,
    });
    kind.root(dir)
        .group(kind.discovery_auth(Builder::new(module, "discovery_auth")))
        .build()
}

struct FabricDir {
    kind: &'static dyn FabricKind,
    module: &'static ThisModule,
    // configfs pins the module too, but not before mkdir has returned.
    _pin: ModulePin,
}

impl Dir for FabricDir {
    fn mkdir(&self, dir: &Node, name: &str) -> Result<Tree> {
        let target = Target::new(self.kind, CString::try_from_fmt(fmt!("{name}"))?)?;
        let fabric = self
            .kind
            .make_target(&target)
            .map_err(|e| dir.reject(e, fmt!("'{name}' cannot be made")))?;
        let handle = Arc::new(
            Handle {
                fabric,
                target,
                module: self.module,
                ended: Atomic::new(false),
            },
            GFP_KERNEL,
        )?;
        let statistics = Builder::new(self.module, "fabric_statistics");
        Builder::new(self.module, name)
            .dir(TargetDir(handle.clone()))
            .group(handle.fabric.statistics(statistics))
            .group(Builder::new(self.module, "param").attrs(PARAM, handle.clone()))
            .build()
    }
}

/// A target with its fabric's side.
pub(super) struct Handle {
    pub(super) fabric: Arc<dyn FabricTarget>,
    pub(super) target: Arc<Target>,
    pub(super) module: &'static ThisModule,
    ended: Atomic<bool>,
}

impl Handle {
    fn end(&self) {
        if !self.ended.xchg(true, Full) {
            self.fabric.removed();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // For a directory that could not be made after all.
        self.end();
    }
}

struct TargetDir(Arc<Handle>);

impl Dir for TargetDir {
    fn mkdir(&self, dir: &Node, name: &str) -> Result<Tree> {
        let tag = numbered(name, "tpgt_").and_then(|n| u16::try_from(n).ok());
        let Some(tag) = tag else {
            return Err(dir.reject(
                EINVAL,
                fmt!("'{name}' is not tpgt_ with a number from 0 to 65535"),
            ));
        };
        tpg::build(&self.0, dir, tag, name)
    }

    fn removed(&self, _dir: &Node) {
        self.0.end();
    }
}
