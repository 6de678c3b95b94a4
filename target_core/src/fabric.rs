// SPDX-License-Identifier: GPL-2.0

//! Fabrics: what carries commands between an initiator and the engine.
//!
//! [`Fabric`] is the data path: how finished commands leave. The configuration side, [`FabricKind`] and its
//! companions, has one object for each directory below `target/NAME`; the engine owns the directories.

use crate::{
    command::Reply,
    lun::Lun,
    session::Session,
    tpg::{NodeAcl, Target, Tpg},
};
use core::fmt;
use kernel::{error::code::ENOSYS, prelude::*, sync::Arc};
use lio_configfs::Builder;
use lio_scsi::{inquiry, lun::Lun as LunNumber, pi, sense::Asc};

/// The data path of a fabric.
pub trait Fabric: Sized + Send + Sync + 'static {
    /// The name of the fabric's directory below `target/`, for log messages.
    const NAME: &'static str;

    /// The fabric's data of one command. Made when the session starts, and reused: the fabric sets it for each command.
    type Request: Default + Send + 'static;

    /// The fabric's data of one session.
    type Session: Send + Sync + 'static;

    /// What tells the initiator's ports apart, beside its name: the ISID of iSCSI. With the name and the port's protocol it makes
    /// the TransportID by which reservations know the initiator port.
    fn isid(_session: &Self::Session) -> Option<[u8; 6]> {
        None
    }

    /// The protection information that there is between the port and the initiator where a logical unit keeps none: the engine checks and
    /// drops what comes, and makes what goes (SBC-4 4.21 for such a unit). Type 1 or 3.
    fn protection(_session: &Self::Session) -> Option<pi::Type> {
        None
    }

    /// A command is finished, and its answer is to be sent. Any context, hard interrupts among them: must not sleep.
    fn reply(reply: Reply<Self>);

    /// Commands of `session` that the fabric holds were aborted: it looks for [`Cmd::is_aborted`] ones soon and gives
    /// them up. Process context; must not sleep for long.
    ///
    /// [`Cmd::is_aborted`]: crate::command::Cmd::is_aborted
    fn kick(session: &Session<Self>);

    /// A unit attention condition was established for the session's initiator on `lun`, by what was not its own doing: fabrics that carry
    /// asynchronous events tell of it at once (RFC 7143, 11.9), others wait for the next command. Process context; must not sleep
    /// for long.
    fn attention(_session: &Session<Self>, _lun: LunNumber, _what: Asc) {}
}

/// SCSI's protocol identifiers (SPC-5 7.6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Protocol {
    /// Fibre Channel.
    Fcp = 0,
    /// SBP-2 (IEEE 1394).
    Sbp = 3,
    /// RDMA (SRP).
    Srp = 4,
    /// iSCSI.
    Iscsi = 5,
    /// SAS.
    Sas = 6,
    /// USB.
    Usb = 9,
}

impl Protocol {
    /// PROTOCOL IDENTIFIER, as commands answer with it.
    pub(crate) fn identifier(self) -> inquiry::Protocol {
        match self {
            Protocol::Fcp => inquiry::Protocol::Fcp,
            Protocol::Sbp => inquiry::Protocol::Sbp,
            Protocol::Srp => inquiry::Protocol::Srp,
            Protocol::Iscsi => inquiry::Protocol::Iscsi,
            Protocol::Sas => inquiry::Protocol::Sas,
            Protocol::Usb => inquiry::Protocol::Uas,
        }
    }
}

/// A fabric's configuration side, registered by its module: see [`crate::registry::register_fabric`].
pub trait FabricKind: Send + Sync + 'static {
    /// The name of the directory below `target/`.
    fn name(&self) -> &'static str;

    /// The name by which `members` files call the fabric: `iSCSI`, `loopback`.
    fn display_name(&self) -> &'static str {
        self.name()
    }

    /// Adds the fabric's own files and directories to `target/NAME`.
    fn root<'a>(&self, dir: Builder<'a>) -> Builder<'a> {
        dir
    }

    /// Adds the fabric's files to `target/NAME/discovery_auth`.
    fn discovery_auth<'a>(&self, dir: Builder<'a>) -> Builder<'a> {
        dir
    }

    /// What a target's `param` says of the contexts that commands are submitted and completed in.
    fn contexts(&self) -> Contexts {
        Contexts::default()
    }

    /// Makes `target/NAME/WWN`.
    ///
    /// # Errors
    /// `EINVAL` for a name that is not one of this fabric's.
    fn make_target(&self, target: &Arc<Target>) -> Result<Arc<dyn FabricTarget>>;
}

/// The read-only files of a target's `param`, with the stock modules' numbers: 1 direct, 2 queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contexts {
    /// `default_submit_type`
    pub submit: u32,
    /// `direct_submit_supported`
    pub direct_submit: bool,
    /// `default_complete_type`
    pub complete: u32,
    /// `direct_complete_supported`
    pub direct_complete: bool,
}

impl Default for Contexts {
    fn default() -> Self {
        Contexts {
            submit: 1,
            direct_submit: true,
            complete: 2,
            direct_complete: false,
        }
    }
}

/// A target's configuration.
pub trait FabricTarget: Send + Sync + 'static {
    /// Adds files and directories to the target's `fabric_statistics`.
    fn statistics<'a>(&self, dir: Builder<'a>) -> Builder<'a> {
        dir
    }

    /// Makes `tpgt_N`. The fabric keeps `tpg` for its sessions.
    ///
    /// # Errors
    /// `EINVAL` for a tag that the fabric does not allow.
    fn make_tpg(&self, tpg: &Arc<Tpg>) -> Result<Arc<dyn FabricTpg>>;

    /// The target's index in the SCSI MIB (scsiInstIndex).
    fn index(&self) -> u32 {
        1
    }

    /// The directory was removed.
    fn removed(&self) {}
}

/// A directory of a portal group that the fabric fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TpgDir {
    /// `tpgt_N` itself.
    Base,
    /// `attrib`
    Attrib,
    /// `auth`
    Auth,
    /// `param`
    Param,
}

/// A target portal group's configuration.
pub trait FabricTpg: Send + Sync + 'static {
    /// The protocol of the group's port.
    fn protocol(&self) -> Protocol;

    /// Adds the fabric's files to one of the group's directories. An `enable` file calls [`Tpg::enable`] and
    /// [`Tpg::disable`].
    fn files<'a>(&self, which: TpgDir, dir: Builder<'a>) -> Builder<'a>;

    /// Makes `np/NAME`.
    ///
    /// # Errors
    /// `ENOSYS` where the fabric has no portals, `EINVAL` for a name that is none.
    fn make_portal<'a>(&self, _name: &str, _dir: Builder<'a>) -> Result<Builder<'a>> {
        Err(ENOSYS)
    }

    /// Makes `acls/NAME`. The ACL may be one that demo mode made: the initiator's sessions go on, with the new directory's
    /// settings.
    ///
    /// # Errors
    /// `ENOSYS` where the fabric has no ACLs, `EINVAL` for a name that is none.
    fn make_acl(&self, _acl: &Arc<NodeAcl>) -> Result<Arc<dyn FabricAcl>> {
        Err(ENOSYS)
    }

    /// Commands in flight that a new ACL allows its initiator's sessions.
    fn depth(&self) -> u32 {
        1
    }

    /// Whether what an ACL maps begins write protected: `prod_mode_write_protect`.
    fn write_protect(&self) -> bool {
        false
    }

    /// A LUN was linked to a device. Process context.
    ///
    /// # Errors
    /// Those with which the link fails; the LUN is taken away again.
    fn linked(&self, _lun: &Arc<Lun>) -> Result {
        Ok(())
    }

    /// A LUN is about to be unlinked; no new command can reach it any more when this returns, and the engine waits for
    /// the others then. Process context.
    fn unlinking(&self, _lun: &Arc<Lun>) {}

    /// The directory is being removed, or could not be made after all: sessions end, however long that takes. No call but the
    /// dropping follows.
    fn removed(&self) {}
}

/// An ACL's directory that the fabric fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AclDir {
    /// `acls/NAME` itself.
    Base,
    /// `attrib`
    Attrib,
    /// `auth`
    Auth,
    /// `param`
    Param,
    /// `fabric_statistics`
    Statistics,
}

/// An ACL's configuration.
pub trait FabricAcl: Send + Sync + 'static {
    /// Adds the fabric's files to one of the ACL's directories.
    fn files<'a>(&self, which: AclDir, dir: Builder<'a>) -> Builder<'a>;

    /// The session of the initiator that the SCSI MIB shows, if there is one: its index, and what tells the initiator's
    /// ports apart (the ISID as text), which may be empty.
    fn attached(&self, _sid: &mut dyn fmt::Write) -> Option<u32> {
        None
    }

    /// The directory is being removed, or could not be made after all: the initiator's sessions
    /// end. When they begin again, it is as the group's demo mode says.
    fn removed(&self) {}
}
