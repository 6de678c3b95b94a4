// SPDX-License-Identifier: GPL-2.0

//! `FABRIC/WWN/tpgt_N/acls/NAME`: an initiator, with the LUNs `lun_N` that it sees.

use super::{
    acl_stats, limits,
    lun::{self, LunDir},
    tpg,
};
use crate::{
    fabric::{AclDir, FabricAcl},
    lun::MappedLun,
    tpg::NodeAcl,
};
use kernel::{
    error::code::*,
    prelude::*,
    str::CString,
    sync::{
        atomic::{Atomic, Full, Relaxed},
        Arc,
    },
};
use lio_configfs::{attributes, Builder, Dir, Node, Page, Tree, Value};
use lio_scsi::lun::Lun as LunNumber;

/// The longest tag, in bytes.
const TAG_MAX: usize = 63;

attributes! {
    static ACL: Handle = {
        rw "tag" => show_tag, store_tag;
    }

    static MAPPED: MappedDir = {
        rw "latency" => limits::show_latency, limits::store_latency;
        rw "limits" => limits::show, limits::store;
        rw "write_protect" => |dir, page| match dir.linked() {
            Ok(mapped) => writeln!(page, "{}", u32::from(mapped.write_protect())),
            // Nothing, as the tools expect.
            Err(_) => Ok(()),
        }, |dir, value| {
            let on = value.u32_in(0..=1)? == 1;
            let mapped = dir.linked().map_err(|e| value.reject(e, fmt!("no LUN is linked here")))?;
            mapped.set_write_protect(on);
            Ok(())
        };
    }
}

/// The directory `acls`.
pub(super) struct Acls(pub(super) Arc<tpg::Handle>);

/// An initiator with its fabric's side.
pub(super) struct Handle {
    pub(super) fabric: Arc<dyn FabricAcl>,
    pub(super) node: Arc<NodeAcl>,
    pub(super) tpg: Arc<tpg::Handle>,
    ended: Atomic<bool>,
}

impl Handle {
    fn end(&self) {
        if !self.ended.xchg(true, Full) {
            // No login finds it any more, and then those that did are ended.
            self.node.tpg().remove_acl(&self.node);
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

impl Dir for Acls {
    fn mkdir(&self, dir: &Node, name: &str) -> Result<Tree> {
        let tpg = &self.0.tpg;
        let module = self.0.module();
        let path = CString::try_from_fmt(fmt!("{name}"))?;
        // Logins find it when the fabric knows it.
        let (node, was_generated) = tpg
            .configure_acl(path, self.0.fabric.depth())
            .map_err(|e| dir.reject(e, fmt!("'{name}' cannot be made")))?;
        let fabric = self.0.fabric.make_acl(&node).map_err(|e| {
            tpg.unconfigure_acl(&node, was_generated);
            dir.reject(e, fmt!("'{name}' cannot be made"))
        })?;
        // From here on the handle takes it back.
        let handle = Arc::new(
            Handle {
                fabric,
                node,
                tpg: self.0.clone(),
                ended: Atomic::new(false),
            },
            GFP_KERNEL,
        )?;
        let own = |which, name| {
            let dir = Builder::new(module, name);
            handle.fabric.files(which, dir)
        };
        let base = Builder::new(module, name)
            .dir(handle.clone())
            .attrs(ACL, handle.clone());
        handle
            .fabric
            .files(AclDir::Base, base)
            .group(own(AclDir::Attrib, "attrib"))
            .group(own(AclDir::Auth, "auth"))
            .group(own(AclDir::Statistics, "fabric_statistics"))
            .group(own(AclDir::Param, "param"))
            .build()
    }
}

impl Dir for Handle {
    fn mkdir(&self, dir: &Node, name: &str) -> Result<Tree> {
        let module = self.tpg.module();
        let Some(acl) = dir.data::<Handle>() else {
            return Err(EINVAL);
        };
        let mapped = Arc::new(
            MappedDir {
                acl,
                number: lun::number(dir, name)?,
                has_link: Atomic::new(false),
            },
            GFP_KERNEL,
        )?;
        Builder::new(module, name)
            .object(MAPPED, mapped.clone())
            .group(acl_stats::builder(&mapped, module))
            .build()
    }

    fn removed(&self, _dir: &Node) {
        self.end();
    }
}

fn show_tag(acl: &Handle, page: &mut Page<'_>) -> Result {
    let tag = acl.node.tag().lock();
    if !tag.is_empty() {
        page.put(&tag);
        page.put(b"\n");
    }
    Ok(())
}

fn store_tag(acl: &Handle, value: &Value<'_>) -> Result {
    let text = match value.str()? {
        "NULL" => "",
        text => text,
    };
    if text.len() > TAG_MAX || text.contains('\n') {
        return Err(value.reject(
            EINVAL,
            fmt!("one line of at most {TAG_MAX} bytes is wanted"),
        ));
    }
    let mut tag = KVec::new();
    tag.extend_from_slice(text.as_bytes(), GFP_KERNEL)?;
    *acl.node.tag().lock() = tag;
    Ok(())
}

/// `lun_N` of an initiator, and the directories below it.
pub(super) struct MappedDir {
    acl: Arc<Handle>,
    number: LunNumber,
    // Whether there is a link. One may have lost its meaning, with the LUN's own; a second one would end with it.
    has_link: Atomic<bool>,
}

impl MappedDir {
    pub(super) fn acl(&self) -> &Handle {
        &self.acl
    }

    /// What the initiator sees under this number.
    ///
    /// # Errors
    /// `ENODEV` if it is nothing.
    pub(super) fn linked(&self) -> Result<Arc<MappedLun>> {
        self.acl.node.mapped(self.number).ok_or(ENODEV)
    }
}

impl Dir for MappedDir {
    fn link(&self, dir: &Node, target: &Node) -> Result {
        let Some(lun) = target.object::<LunDir>() else {
            return Err(dir.reject(EINVAL, fmt!("'{}' is not a LUN", target.path())));
        };
        // The directory is locked here, and in `unlink`.
        if self.has_link.load(Relaxed) {
            return Err(dir.reject(EEXIST, fmt!("there is a link already")));
        }
        let tpg = &self.acl.tpg;
        if !Arc::ptr_eq(lun.tpg(), tpg) {
            return Err(dir.reject(
                EINVAL,
                fmt!("'{}' is another portal group's", target.path()),
            ));
        }
        let lun = lun
            .linked()
            .map_err(|_| dir.reject(EINVAL, fmt!("'{}' has no device", target.path())))?;
        self.acl
            .node
            .map(self.number, &lun, tpg.fabric.write_protect())
            .map_err(|e| dir.reject(e, fmt!("'{}' cannot be linked here", target.path())))?;
        self.has_link.store(true, Relaxed);
        Ok(())
    }

    fn unlink(&self, _dir: &Node, _target: &Node) {
        self.has_link.store(false, Relaxed);
        // It may have lost its meaning already, with the LUN's own link.
        if let Ok(mapped) = self.linked() {
            self.acl.node.unmap(&mapped);
        }
    }
}
