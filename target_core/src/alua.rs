// SPDX-License-Identifier: GPL-2.0

//! Asymmetric logical unit access (SPC-5 5.17): target port groups of devices, groups of logical units, user data segments.
//!
//! What a command has to know of its port's group is one word of the LUN, a [`Port`], which is zero but for what INQUIRY tells where
//! nothing is special. Whoever changes a group has its LUNs' words follow, with [`Alua::groups`] locked.

mod group;
mod lu_group;
pub(crate) mod metadata;
mod port;
mod segments;

pub(crate) use group::{alone, Asked, Asks, Group, Settings, DEFAULT, MAX_GROUPS};
pub(crate) use lu_group::{LuGroup, LuGroups, DEFAULT_LU_GROUP};
pub(crate) use port::{Port, Secondary, SecondaryState, LIMITED, MEASURED, SEGMENTED};
pub(crate) use segments::Segments;

use crate::{
    command::Command,
    lun::{Lun, Nexus},
};
use kernel::{
    new_mutex,
    prelude::*,
    str::CString,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc, Mutex,
    },
};
use lio_glue::{clock, rcu_box::RcuBox};
use lio_policy::alua::{self as policy, Admission};
use lio_scsi::{alua::State, cdb::Decoded, sense::Sense};

/// What a device has of it.
#[pin_data]
pub(crate) struct Alua {
    // The groups that have a directory, the default one first. Commands take this lock, and nothing under it waits for any.
    #[pin]
    groups: Mutex<KVec<Arc<Group>>>,
    default: Arc<Group>,
    // The group of logical units; `None`: the default one.
    #[pin]
    lu_group: Mutex<Option<Arc<LuGroup>>>,
    #[pin]
    segments: RcuBox<Segments>,
    segmented: Atomic<bool>,
}

impl Alua {
    pub(crate) fn new() -> Result<impl PinInit<Self, Error>> {
        let default = Group::new(CString::try_from_fmt(fmt!("{DEFAULT}"))?, Some(0))?;
        let mut groups = KVec::new();
        groups.push(default.clone(), GFP_KERNEL)?;
        Ok(try_pin_init!(Alua {
            groups <- new_mutex!(groups, "Alua::groups"),
            default,
            lu_group <- new_mutex!(None, "Alua::lu_group"),
            segments <- RcuBox::new(),
            segmented: Atomic::new(false),
        }? Error))
    }

    /// The group of LUNs that are in no other.
    pub(crate) fn default_group(&self) -> &Arc<Group> {
        &self.default
    }

    /// Whether there are user data segments.
    pub(crate) fn is_segmented(&self) -> bool {
        self.segmented.load(Relaxed)
    }

    /// The user data segments.
    pub(crate) fn segments(&self) -> Option<Arc<Segments>> {
        self.segments.get()
    }
}

/// Decides on a command through a port about which something is special. `Ok`: it is processed, perhaps after a while.
pub(crate) fn admit(
    nexus: &Nexus,
    port: Port,
    cmd: &mut Command,
    decoded: &Decoded,
) -> Result<(), Sense> {
    allows(nexus, port, decoded)?;
    let medium = decoded.command.extent().is_some() || decoded.command.writes();
    if port.state() == Some(State::NonOptimized) && medium && port.delay() != 0 {
        let delay = u64::from(port.delay()).saturating_mul(1_000_000);
        cmd.due = clock::now_ns().saturating_add(delay);
    }
    Ok(())
}

/// Whether the access state of the port lets the command be processed.
pub(crate) fn allows(nexus: &Nexus, port: Port, decoded: &Decoded) -> Result<(), Sense> {
    let Some(state) = port.state() else {
        return Ok(());
    };
    match (
        policy::admit(state, decoded.descriptor.access),
        decoded.command.extent(),
    ) {
        (Admission::Refuse(sense), _) => Err(sense),
        (Admission::BySegment, Some(extent)) => by_segment(nexus.lun(), port, extent),
        (Admission::Process | Admission::BySegment, _) => Ok(()),
    }
}

/// Decides on blocks that a command addresses, in its CDB or in its parameter list. The port's state is looked at again.
pub(crate) fn by_segment(
    lun: &Lun,
    port: Port,
    extent: lio_scsi::lba::Extent,
) -> Result<(), Sense> {
    if port.state() != Some(State::BlockDependent) {
        return Ok(());
    }
    let group = port.group();
    let alua = lun.device().alua();
    let admission = alua
        .segments
        .with(|segments| segments.map().check(group, extent));
    match admission {
        Some(Admission::Refuse(sense)) => Err(sense),
        Some(_) => Ok(()),
        // Without a map, no segment says that the blocks can be accessed.
        None => Err(Sense::ALUA_UNAVAILABLE),
    }
}
