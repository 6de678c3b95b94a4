// SPDX-License-Identifier: GPL-2.0

//! `FABRIC/WWN/tpgt_N/lun/lun_N`: a LUN, which a link to a device's directory fills.

use super::{alua, device, numbered, port_stats, tpg};
use crate::{
    background::{self, Job},
    lun::Lun,
};
use kernel::{error::code::*, prelude::*, str::CString, sync::Arc};
use lio_configfs::{Builder, Dir, Node, Tree};
use lio_scsi::lun::Lun as LunNumber;

/// The directory `lun`.
pub(super) struct Luns(pub(super) Arc<tpg::Handle>);

/// A LUN's directory, which mapped LUNs can be linked to, and those below it.
pub(super) struct LunDir {
    tpg: Arc<tpg::Handle>,
    number: LunNumber,
}

/// The number in `lun_N`.
pub(super) fn number(dir: &Node, name: &str) -> Result<LunNumber> {
    numbered(name, "lun_")
        .and_then(|n| u16::try_from(n).ok())
        .map(LunNumber)
        .ok_or_else(|| {
            dir.reject(
                EINVAL,
                fmt!("'{name}' is not lun_ with a number from 0 to 65535"),
            )
        })
}

impl LunDir {
    pub(super) fn tpg(&self) -> &Arc<tpg::Handle> {
        &self.tpg
    }

    /// The LUN, if it is linked to a device.
    ///
    /// # Errors
    /// `ENODEV` if it is not.
    pub(super) fn linked(&self) -> Result<Arc<Lun>> {
        self.tpg.tpg.lun(self.number).ok_or(ENODEV)
    }
}

impl LunDir {
    // Takes a LUN away. `known`: the fabric knows of it.
    fn end(&self, lun: &Arc<Lun>, known: bool) {
        let end = || End {
            tpg: self.tpg.clone(),
            lun: lun.clone(),
            known,
        };
        let path = self.tpg.tpg.path();
        let what = CString::try_from_fmt(fmt!("{}/lun_{}", path, lun.number().0));
        match Arc::new(end(), GFP_KERNEL) {
            Ok(job) => background::run(self.tpg.module(), what.as_deref().unwrap_or(path), job),
            Err(_) => end().run(),
        }
    }
}

/// The end of a LUN, which waits for its commands.
struct End {
    tpg: Arc<tpg::Handle>,
    lun: Arc<Lun>,
    known: bool,
}

impl Job for End {
    fn run(&self) {
        if self.known {
            self.tpg.fabric.unlinking(&self.lun);
        }
        self.tpg.tpg.unlink(&self.lun);
    }
}

impl Dir for Luns {
    fn mkdir(&self, dir: &Node, name: &str) -> Result<Tree> {
        let module = self.0.module();
        let lun = Arc::new(
            LunDir {
                tpg: self.0.clone(),
                number: number(dir, name)?,
            },
            GFP_KERNEL,
        )?;
        Builder::new(module, name)
            .object(alua::LUN, lun.clone())
            .group(port_stats::builder(&lun, module))
            .build()
    }
}

impl Dir for LunDir {
    fn link(&self, dir: &Node, target: &Node) -> Result {
        let Some(handle) = target.data::<device::Handle>() else {
            return Err(dir.reject(EINVAL, fmt!("'{}' is not a device", target.path())));
        };
        let tpg = &self.tpg.tpg;
        let lun = tpg
            .link(self.number, handle.device())
            .map_err(|e| dir.reject(e, fmt!("'{}' cannot be linked here", target.path())))?;
        self.tpg.fabric.linked(&lun).map_err(|e| {
            self.end(&lun, false);
            dir.reject(e, fmt!("the fabric refuses '{}'", target.path()))
        })
    }

    fn unlink(&self, _dir: &Node, _target: &Node) {
        // There is one link only.
        if let Ok(lun) = self.linked() {
            self.end(&lun, true);
        }
    }
}
