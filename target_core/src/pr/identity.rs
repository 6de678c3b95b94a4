// SPDX-License-Identifier: GPL-2.0

//! Who I_T nexuses are, whether they are there or not: names, which outlive sessions, ACLs and the target.

use crate::{device::Device, session::Core, tpg::Tpg};
use kernel::{prelude::*, str::CString, sync::Arc};
use lio_policy::pr::{Kept, NexusId};
use lio_scsi::{
    inquiry::Protocol,
    pr::{Name, TransportId},
};

/// An I_T nexus that is registered.
pub(crate) struct Identity {
    /// The initiator port. Without an ISID all ports of an iSCSI initiator are meant.
    initiator: TransportId,
    fabric: CString,
    target: CString,
    tag: u16,
    /// The port's identifier when it was registered.
    rtpi: u16,
    /// The initiator's and the port's numbers of the logical unit.
    pub(super) mapped_lun: u64,
    pub(super) target_lun: u64,
}

// The protocol of a name that comes from a file: by its form.
fn guess(fabric: &str, name: &str) -> Protocol {
    if fabric == "iSCSI" || name.starts_with("iqn.") || name.starts_with("eui.") {
        Protocol::Iscsi
    } else if name.starts_with("naa.") {
        Protocol::Sas
    } else if name.starts_with("0x") {
        Protocol::Srp
    } else if name.contains(':') {
        Protocol::Fcp
    } else {
        Protocol::Sbp
    }
}

fn text(of: &CStr) -> Result<CString> {
    CString::try_from_fmt(fmt!("{of}"))
}

impl Identity {
    /// `initiator` through the port `tpg`.
    pub(super) fn new(
        initiator: TransportId,
        tpg: &Tpg,
        mapped_lun: u64,
        target_lun: u64,
    ) -> Result<Arc<Self>> {
        let target = tpg.target();
        Ok(Arc::new(
            Identity {
                initiator,
                fabric: CString::try_from_fmt(fmt!("{}", target.kind().display_name()))?,
                target: text(target.name())?,
                tag: tpg.tag(),
                rtpi: tpg.rtpi(),
                mapped_lun,
                target_lun,
            },
            GFP_KERNEL,
        )?)
    }

    /// The one that was kept in a file.
    pub(super) fn kept(kept: &Kept<'_>) -> Result<Arc<Self>> {
        let initiator = TransportId {
            protocol: guess(kept.fabric, kept.initiator),
            name: Name::new(kept.initiator.as_bytes()).ok_or(EINVAL)?,
            isid: kept.isid,
        };
        Ok(Arc::new(
            Identity {
                initiator,
                fabric: CString::try_from_fmt(fmt!("{}", kept.fabric))?,
                target: CString::try_from_fmt(fmt!("{}", kept.target))?,
                tag: kept.tag,
                rtpi: kept.rtpi,
                mapped_lun: kept.mapped_lun,
                target_lun: kept.target_lun,
            },
            GFP_KERNEL,
        )?)
    }

    pub(super) fn transport_id(&self) -> TransportId {
        self.initiator
    }

    pub(super) fn name(&self) -> &str {
        core::str::from_utf8(self.initiator.name.as_bytes()).unwrap_or("")
    }

    pub(super) fn isid(&self) -> Option<[u8; 6]> {
        self.initiator.isid
    }

    pub(super) fn fabric(&self) -> &str {
        self.fabric.to_str().unwrap_or("")
    }

    pub(super) fn target(&self) -> &str {
        self.target.to_str().unwrap_or("")
    }

    pub(super) fn tag(&self) -> u16 {
        self.tag
    }

    pub(super) fn is_initiator(&self, name: &CStr) -> bool {
        self.initiator
            .name
            .as_bytes()
            .eq_ignore_ascii_case(name.to_bytes())
    }

    /// Whether it is one of the port `tpg`.
    pub(super) fn is_port(&self, tpg: &Tpg) -> bool {
        self.tag == tpg.tag()
            && *self.target == *tpg.target().name()
            && self.fabric.to_bytes() == tpg.target().kind().display_name().as_bytes()
    }

    /// The relative target port identifier of now, or of when the port was last there.
    pub(super) fn rtpi(&self, ports: &[Arc<Tpg>]) -> u16 {
        ports
            .iter()
            .find(|tpg| self.is_port(tpg))
            .map_or(self.rtpi, |tpg| tpg.rtpi())
    }

    fn is_same(&self, other: &Self) -> bool {
        self.initiator.name == other.initiator.name
            && self.initiator.isid == other.initiator.isid
            && self.tag == other.tag
            && *self.target == *other.target
            && *self.fabric == *other.fabric
    }
}

/// The portal groups that a device is reached through.
pub(super) fn ports(device: &Device) -> Result<KVec<Arc<Tpg>>> {
    let mut ports: KVec<Arc<Tpg>> = KVec::new();
    device.each_lun(|lun| {
        if !ports.iter().any(|tpg| Arc::ptr_eq(tpg, lun.tpg())) {
            ports.push(lun.tpg().clone(), GFP_KERNEL)?;
        }
        Ok(())
    })?;
    Ok(ports)
}

/// Whether the device is reached through a port of which `which` holds.
pub(super) fn has_port(device: &Device, which: impl Fn(&Arc<Tpg>) -> bool) -> bool {
    let mut found = false;
    // The closure does not fail.
    let _ = device.each_lun(|lun| {
        found |= which(lun.tpg());
        Ok(())
    });
    found
}

/// Whether `one` has the name of `other`: it may have been made again. To what is registered it is the same port then
/// ([`Identity::is_port`]).
pub(super) fn is_same_port(one: &Tpg, other: &Tpg) -> bool {
    let (target, others) = (one.target(), other.target());
    one.tag() == other.tag()
        && *target.name() == *others.name()
        && target.kind().display_name() == others.kind().display_name()
}

/// The initiator port that a session is of. Where ISIDs do not count, the whole initiator.
pub(super) fn initiator(session: &Core, tpg: &Tpg, device: &Device) -> Option<TransportId> {
    Some(TransportId {
        protocol: tpg.protocol().identifier(),
        name: Name::new(session.initiator().to_bytes())?,
        isid: session
            .isid()
            .filter(|_| device.attrib().enforce_pr_isids()),
    })
}

/// I_T nexuses by number.
#[derive(Default)]
pub(super) struct Identities {
    list: KVVec<(NexusId, Arc<Identity>)>,
    // Numbers begin with 1 and are not used again before 4 billion others were.
    last: u32,
}

impl Identities {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Identity> {
        self.list.iter().map(|(_, identity)| &**identity)
    }

    pub(super) fn get(&self, id: NexusId) -> Option<&Identity> {
        let mut list = self.list.iter();
        list.find(|(i, _)| *i == id)
            .map(|(_, identity)| &**identity)
    }

    /// A copy with room for `more`.
    pub(super) fn copy(&self, more: usize) -> Result<Self> {
        let mut list = KVVec::with_capacity(self.list.len().saturating_add(more), GFP_KERNEL)?;
        for (id, identity) in self.list.iter() {
            list.push((*id, identity.clone()), GFP_KERNEL)?;
        }
        Ok(Identities {
            list,
            last: self.last,
        })
    }

    pub(super) fn retain(&mut self, mut which: impl FnMut(&Identity) -> bool) {
        self.list.retain(|(_, identity)| which(identity));
    }

    pub(super) fn retain_ids(&mut self, mut which: impl FnMut(NexusId) -> bool) {
        self.list.retain(|(id, _)| which(*id));
    }

    /// The number of `identity`: the one that it has, or a new one.
    pub(super) fn number(&mut self, identity: Arc<Identity>) -> Result<NexusId> {
        if let Some((id, _)) = self.list.iter().find(|(_, i)| i.is_same(&identity)) {
            return Ok(*id);
        }
        let mut id = self.last;
        loop {
            id = id.wrapping_add(1);
            if id != 0 && !self.list.iter().any(|(i, _)| i.0 == id) {
                break;
            }
        }
        self.list.push((NexusId(id), identity), GFP_KERNEL)?;
        self.last = id;
        Ok(NexusId(id))
    }

    /// The one that a session belongs to: its own port's, or one of the whole initiator.
    pub(super) fn of_session(&self, session: &Core, tpg: &Tpg, device: &Device) -> Option<NexusId> {
        if self.list.is_empty() {
            return None;
        }
        let isid = session
            .isid()
            .filter(|_| device.attrib().enforce_pr_isids());
        let mut whole = None;
        for (id, identity) in self.list.iter() {
            if !identity.is_initiator(session.initiator()) || !identity.is_port(tpg) {
                continue;
            }
            if identity.isid() == isid {
                return Some(*id);
            }
            if identity.isid().is_none() {
                whole = Some(*id);
            }
        }
        whole
    }
}
