// SPDX-License-Identifier: GPL-2.0

//! The directories of `target/iscsi`: what the engine's own tree has this fabric fill in.

mod acl;
mod attrib;
mod auth;
mod base;
mod param;
mod portal;
mod root;
mod sessions;
mod statistics;

use crate::{acl::Acl, group::Group, name::Name, target::Target, GLOBAL};
use core::fmt;
use iscsi_proto::name::acceptable;
use kernel::{prelude::*, sync::Arc};
use lio_configfs::Builder;
use target_core::{
    fabric::{AclDir, FabricAcl, FabricKind, FabricTarget, FabricTpg, Protocol, TpgDir},
    tpg::{self, NodeAcl, Tpg},
};

/// The fabric, as its module registers it.
pub(crate) static KIND: Kind = Kind;

/// See [`KIND`].
pub(crate) struct Kind;

// A name of the right form, which RFC 7143, 4.2.7.1, wants in lower case.
fn checked_name(what: &str, text: &CStr) -> Result<Name> {
    let bytes = text.to_bytes();
    if !acceptable(bytes) {
        pr_err!(
            "iscsi/{}: {}: a name has 1 to 223 letters, digits, '-', '.' and ':'\n",
            text,
            what
        );
        return Err(EINVAL);
    }
    Name::new(bytes).ok_or(EINVAL)
}

impl FabricKind for Kind {
    fn name(&self) -> &'static str {
        "iscsi"
    }

    fn display_name(&self) -> &'static str {
        "iSCSI"
    }

    fn root<'a>(&self, dir: Builder<'a>) -> Builder<'a> {
        let Some(global) = GLOBAL.get() else {
            return dir;
        };
        dir.attrs(root::ROOT, global)
    }

    fn discovery_auth<'a>(&self, dir: Builder<'a>) -> Builder<'a> {
        let Some(global) = GLOBAL.get() else {
            return dir;
        };
        dir.attrs(auth::DISCOVERY, global)
    }

    fn make_target(&self, target: &Arc<tpg::Target>) -> Result<Arc<dyn FabricTarget>> {
        let name = checked_name("no name of a target", target.name())?;
        let global = GLOBAL.get().ok_or(ENODEV)?;
        let target = global.new_target(name)?;
        let made = Arc::new(Wwn(target.clone()), GFP_KERNEL)?;
        // Last: what fails after this is undone by `removed`.
        global.add_target(&target)?;
        Ok(made)
    }
}

/// `target/iscsi/IQN`
struct Wwn(Arc<Target>);

impl FabricTarget for Wwn {
    fn statistics<'a>(&self, dir: Builder<'a>) -> Builder<'a> {
        let target = &self.0;
        let group =
            |name, table| Builder::new(target.global.module, name).attrs(table, target.clone());
        dir.group(group("iscsi_instance", statistics::INSTANCE))
            .group(group("iscsi_sess_err", statistics::SESSION_ERRORS))
            .group(group("iscsi_tgt_attr", statistics::TARGET))
            .group(group("iscsi_login_stats", statistics::LOGIN))
            .group(group("iscsi_logout_stats", statistics::LOGOUT))
    }

    fn make_tpg(&self, tpg: &Arc<Tpg>) -> Result<Arc<dyn FabricTpg>> {
        let group = Group::new(&self.0, tpg.tag(), tpg)?;
        let made = Arc::new(TpgNode(group.clone()), GFP_KERNEL)?;
        self.0.add_group(&group)?;
        Ok(made)
    }

    fn index(&self) -> u32 {
        self.0.index
    }

    fn removed(&self) {
        self.0.global.remove_target(&self.0);
    }
}

/// `tpgt_N`
struct TpgNode(Arc<Group>);

impl FabricTpg for TpgNode {
    fn protocol(&self) -> Protocol {
        Protocol::Iscsi
    }

    fn files<'a>(&self, which: TpgDir, dir: Builder<'a>) -> Builder<'a> {
        let table = match which {
            TpgDir::Base => base::GROUP,
            TpgDir::Attrib => attrib::GROUP,
            TpgDir::Auth => auth::GROUP,
            TpgDir::Param => param::GROUP,
        };
        let dir = dir.attrs(table, self.0.clone());
        match which {
            TpgDir::Base => dir.attrs(sessions::GROUP, self.0.clone()),
            TpgDir::Attrib => dir
                .attrs(attrib::GROUP_OWN, self.0.clone())
                .attrs(attrib::GROUP_ASYNC, self.0.clone()),
            TpgDir::Auth | TpgDir::Param => dir,
        }
    }

    fn make_portal<'a>(&self, name: &str, dir: Builder<'a>) -> Result<Builder<'a>> {
        portal::make(&self.0, name, dir)
    }

    fn make_acl(&self, acl: &Arc<NodeAcl>) -> Result<Arc<dyn FabricAcl>> {
        let name = checked_name("no name of an initiator", acl.name())?.folded();
        let acl = Acl::new(name, &self.0, acl)?;
        let made = Arc::new(AclNode(acl.clone()), GFP_KERNEL)?;
        self.0.add_acl(&acl)?;
        Ok(made)
    }

    fn depth(&self) -> u32 {
        self.0.attrib.default_cmdsn_depth.get()
    }

    fn write_protect(&self) -> bool {
        self.0.attrib.prod_mode_write_protect.is_on()
    }

    fn removed(&self) {
        self.0.removed();
    }
}

/// `acls/IQN`
struct AclNode(Arc<Acl>);

impl FabricAcl for AclNode {
    fn files<'a>(&self, which: AclDir, dir: Builder<'a>) -> Builder<'a> {
        let acl = self.0.clone();
        let table = match which {
            AclDir::Base => acl::BASE,
            AclDir::Attrib => {
                return dir
                    .attrs(attrib::ACL, acl.clone())
                    .attrs(attrib::ACL_OWN, acl)
            }
            AclDir::Auth => auth::ACL,
            AclDir::Param => param::ACL,
            AclDir::Statistics => {
                let module = acl.group.target.global.module;
                return dir.group(
                    Builder::new(module, "iscsi_sess_stats").attrs(statistics::SESSION, acl),
                );
            }
        };
        dir.attrs(table, acl)
    }

    fn attached(&self, sid: &mut dyn fmt::Write) -> Option<u32> {
        let session = self.0.session()?;
        for byte in session.isid {
            write!(sid, "{byte:02x}").ok()?;
        }
        Some(session.number)
    }

    fn removed(&self) {
        self.0.group.remove_acl(&self.0);
    }
}
