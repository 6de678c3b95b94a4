// SPDX-License-Identifier: GPL-2.0

//! Initiators that a portal group knows by name, and the sessions that it takes in.
//!
//! An ACL is configured (`acls/NAME`) or generated: demo mode makes one for an initiator that has none, with all of the
//! group's LUNs. A generated ACL goes with the initiator's last session, unless the group keeps them
//! (`cache_dynamic_acls`); its depth, its indices and its counters are the initiator's again then. Making `acls/NAME` turns
//! it into a configured one and leaves the sessions alone.

use super::{luns_changed, show, tell_luns, Lists, Tpg};
use crate::{
    device::Device,
    lun::{Lun, MappedLun},
    session::{AnySession, Core},
};
use kernel::{
    error::code::*,
    new_mutex,
    prelude::*,
    str::CString,
    sync::{
        atomic::{Acquire, Atomic, Relaxed, Release},
        Arc, Mutex,
    },
};
use lio_scsi::lun::Lun as LunNumber;

/// Generated ACLs that a group keeps for initiators which are not logged in: one can log in under any number of names.
const MAX_IDLE: usize = 256;

/// What a session sees of its portal group.
pub enum Access {
    /// All LUNs, writable: for a fabric without ACLs.
    All,
    /// What the ACL maps.
    Acl(Arc<NodeAcl>),
    /// All LUNs, by an ACL that is generated, or was before. If one was configured by now, what that maps.
    Demo {
        /// Commands in flight that a new ACL allows.
        depth: u32,
        /// Whether the LUNs can only be read.
        read_only: bool,
    },
}

/// An initiator that is known by name: `acls/NAME`, or one that demo mode let in.
#[pin_data]
pub struct NodeAcl {
    tpg: Arc<Tpg>,
    name: CString,
    // Of the name: a group may have thousands, which mostly differ at their ends.
    digest: u64,
    index: u32,
    depth: Atomic<u32>,
    // Written with the group's lock held, as the next two.
    generated: Atomic<bool>,
    read_only: Atomic<bool>,
    // How many have it.
    sessions: Atomic<u32>,
    #[pin]
    tag: Mutex<KVec<u8>>,
    // Taken inside the group's lock.
    #[pin]
    pub(super) mapped: Mutex<KVec<Arc<MappedLun>>>,
}

impl Tpg {
    /// The ACL of an initiator for its directory, which is being made: a new one that allows `depth` commands, or the one
    /// that demo mode made. Also whether it is the latter.
    ///
    /// # Errors
    /// `EEXIST` for one that is configured, `ENOENT` for a group that is being removed, `ENOMEM`.
    pub(crate) fn configure_acl(
        self: &Arc<Self>,
        name: CString,
        depth: u32,
    ) -> Result<(Arc<NodeAcl>, bool)> {
        let new = NodeAcl::new(self, name, depth, false)?;
        self.with_lists(|lists| {
            if lists.closed {
                return Err(ENOENT);
            }
            if let Some(old) = lists.acl(new.name().to_bytes()) {
                if !old.generated.load(Relaxed) {
                    return Err(EEXIST);
                }
                old.generated.store(false, Relaxed);
                if old.sessions.load(Relaxed) == 0 {
                    old.forget_generated();
                }
                return Ok((old, true));
            }
            lists.acls.push(new.clone(), GFP_KERNEL)?;
            Ok((new, false))
        })
    }

    /// Undoes [`Self::configure_acl`], whose answer it gets.
    pub(crate) fn unconfigure_acl(&self, acl: &Arc<NodeAcl>, was_generated: bool) {
        if was_generated {
            self.with_lists(|lists| {
                acl.generated.store(true, Relaxed);
                if acl.is_idle() {
                    // What demo mode had mapped is forgotten: it makes another one.
                    lists.forget(acl);
                }
            });
        } else {
            self.remove_acl(acl);
        }
    }

    /// Under which number an initiator's ACL maps the device, and the LUN that it maps.
    pub(crate) fn mapping_of(
        &self,
        initiator: &[u8],
        device: &Device,
    ) -> Option<(LunNumber, LunNumber)> {
        self.with_lists(|lists| {
            let acl = lists.acl(initiator)?;
            let mapped = acl.mapped.lock();
            let one = mapped
                .iter()
                .find(|m| core::ptr::eq(&**m.lun().device(), device))?;
            Some((one.number(), one.lun().number()))
        })
    }

    /// Whether an initiator has an ACL which does not map the device. It needs no memory, and locks the group's lists alone.
    pub(crate) fn withholds(&self, initiator: &[u8], device: &Arc<Device>) -> bool {
        self.with_lists(|lists| lists.acl(initiator).is_some_and(|acl| !acl.maps(device)))
    }

    /// Forgets an ACL; sessions that have it keep it until they end.
    pub(crate) fn remove_acl(&self, acl: &Arc<NodeAcl>) {
        self.with_lists(|lists| lists.acls.retain(|a| !Arc::ptr_eq(a, acl)));
    }

    /// The ACL that demo mode made for an initiator, if it is there (still) and may be used again: the group keeps such
    /// ACLs.
    pub fn kept_acl(&self, initiator: &CStr) -> Option<Arc<NodeAcl>> {
        let acl = self.with_lists(|lists| lists.acl(initiator.to_bytes()))?;
        (self.keeps_generated.load(Relaxed) && acl.is_generated()).then_some(acl)
    }

    /// Whether ACLs that demo mode made stay when their initiators log out. Those that are not in use go when they shall not.
    pub fn keep_generated(&self, on: bool) {
        self.with_lists(|lists| {
            let on = on && !lists.closed;
            self.keeps_generated.store(on, Relaxed);
            if !on {
                lists.forget_idle();
            }
        })
    }

    /// Takes a session in: it sees its logical units from now on.
    ///
    /// # Errors
    /// `ESHUTDOWN` for a group that is being removed, `ENOMEM`.
    pub(crate) fn add_session(
        self: &Arc<Self>,
        session: Arc<dyn AnySession>,
        access: Access,
    ) -> Result {
        let core = session.core();
        let new = match access {
            Access::Demo { depth, .. } => {
                let name = CString::try_from_fmt(fmt!("{}", core.initiator()))?;
                Some(NodeAcl::new(self, name, depth, true)?)
            }
            _ => None,
        };
        self.with_lists(|lists| {
            let taken = lists.take_in(&session, access, new);
            if taken.is_err() && !self.keeps_generated.load(Relaxed) {
                // The ACL that was just generated for it.
                lists.forget_idle();
            }
            taken
        })
    }

    /// A session has ended: it sees nothing new. Until [`Self::forget_session`] it is found by who waits for its commands.
    pub(crate) fn remove_session(&self, core: &Core) {
        // What is taken out is dropped without the lock.
        let _unused = self.with_lists(|lists| {
            let place = lists.sessions.iter().position(|s| is_of(s, core))?;
            let session = lists.sessions.remove(place).ok()?;
            let no_room = lists.leaving.push_within_capacity(session).err();
            if core.acl().is_none() {
                let who = digest(core.initiator().to_bytes());
                core.nexuses().for_each(|(_, n)| n.mapped().leave(who));
            }
            if let Some(acl) = core.acl() {
                if acl.sessions.fetch_sub(1, Relaxed) != 1 {
                    // Others of the same initiator are there.
                } else if !acl.is_generated() {
                    // What its directory does not show ends with the sessions that it was generated for.
                    acl.forget_generated();
                } else if !self.keeps_generated.load(Relaxed) {
                    lists.forget(acl);
                }
            }
            no_room
        });
    }

    /// The commands of a session that has ended are gone.
    pub(crate) fn forget_session(&self, core: &Core) {
        let _session = self.with_lists(|lists| {
            let place = lists.leaving.iter().position(|s| is_of(s, core))?;
            lists.leaving.remove(place).ok()
        });
    }
}

fn is_of(session: &Arc<dyn AnySession>, core: &Core) -> bool {
    core::ptr::eq(session.core(), core)
}

impl Lists {
    // Takes a session in; `new` is an ACL for an initiator of demo mode.
    fn take_in(
        &mut self,
        session: &Arc<dyn AnySession>,
        access: Access,
        new: Option<Arc<NodeAcl>>,
    ) -> Result {
        if self.closed {
            return Err(ESHUTDOWN);
        }
        self.sessions.reserve(1, GFP_KERNEL)?;
        let all = self.sessions.len().saturating_add(1);
        self.leaving.reserve(all, GFP_KERNEL)?;
        let core = session.core();
        let acl = match (access, new) {
            (Access::Acl(acl), _) => Some(acl),
            (Access::Demo { read_only, .. }, Some(new)) => Some(self.demo_acl(new, read_only)?),
            _ => None,
        };
        match acl {
            Some(acl) => {
                for mapped in acl.mapped.lock().iter() {
                    core.map(mapped)?;
                }
                // Nothing can fail any more.
                acl.sessions.fetch_add(1, Relaxed);
                core.set_acl(acl);
            }
            None => {
                let who = digest(core.initiator().to_bytes());
                for lun in self.luns.iter() {
                    core.map(&MappedLun::generate(lun, false, who)?)?;
                }
            }
        }
        self.sessions.push(session.clone(), GFP_KERNEL)?;
        Ok(())
    }

    // Names of initiators are compared without regard to capital letters (RFC 7143, 4.2.7.1; those of other fabrics are digits).
    fn acl(&self, name: &[u8]) -> Option<Arc<NodeAcl>> {
        let digest = digest(name);
        let is_its =
            |a: &&Arc<NodeAcl>| a.digest == digest && a.name.to_bytes().eq_ignore_ascii_case(name);
        self.acls.iter().find(is_its).cloned()
    }

    // The ACL for an initiator of demo mode: `new` if there is none.
    fn demo_acl(&mut self, new: Arc<NodeAcl>, read_only: bool) -> Result<Arc<NodeAcl>> {
        if let Some(old) = self.acl(new.name().to_bytes()) {
            if old.is_idle() {
                // What the group's attribute says now.
                old.set_read_only(read_only);
            }
            return Ok(old);
        }
        new.set_read_only(read_only);
        {
            let mut mapped = new.mapped.lock();
            for lun in self.luns.iter() {
                let new = MappedLun::generate(lun, read_only, new.digest)?;
                mapped.push(new, GFP_KERNEL)?;
            }
        }
        self.acls.reserve(1, GFP_KERNEL)?;
        self.forget_oldest();
        self.acls.push(new.clone(), GFP_KERNEL)?;
        Ok(new)
    }

    // Makes sure that no more than MAX_IDLE generated ACLs are there for nobody: the oldest goes.
    fn forget_oldest(&mut self) {
        let generated = self.acls.iter().filter(|a| a.is_generated()).count();
        if generated < MAX_IDLE {
            return;
        }
        if let Some(oldest) = self.acls.iter().find(|a| a.is_idle()).cloned() {
            self.forget(&oldest);
        }
    }

    // Forgets a generated ACL.
    fn forget(&mut self, acl: &Arc<NodeAcl>) {
        acl.leave();
        self.acls.retain(|a| !Arc::ptr_eq(a, acl));
    }

    // Forgets the generated ACLs of initiators that are not there.
    pub(super) fn forget_idle(&mut self) {
        let idle = self.acls.iter().filter(|a| a.is_idle());
        idle.for_each(|acl| acl.leave());
        self.acls.retain(|acl| !acl.is_idle());
    }
}

// Takes `mapped` away from a session; whether it saw it.
fn unmap_this(session: &Arc<dyn AnySession>, mapped: &Arc<MappedLun>) -> bool {
    let nexus = session.core().nexus(mapped.number());
    nexus.is_some_and(|n| Arc::ptr_eq(n.mapped(), mapped) && session.take_away(&n))
}

// FNV-1a of a name in small letters.
pub(crate) fn digest(name: &[u8]) -> u64 {
    name.iter()
        .fold(0xcbf2_9ce4_8422_2325, |digest: u64, byte| {
            (digest ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0000_01b3)
        })
}

impl NodeAcl {
    fn new(tpg: &Arc<Tpg>, name: CString, depth: u32, generated: bool) -> Result<Arc<Self>> {
        static NEXT: Atomic<u32> = Atomic::new(1);
        Arc::pin_init(
            pin_init!(NodeAcl {
                tpg: tpg.clone(),
                digest: digest(name.to_bytes()),
                name,
                index: NEXT.fetch_add(1, Relaxed),
                depth: Atomic::new(depth),
                generated: Atomic::new(generated),
                read_only: Atomic::new(false),
                sessions: Atomic::new(0),
                tag <- new_mutex!(KVec::new(), "NodeAcl::tag"),
                mapped <- new_mutex!(KVec::new(), "NodeAcl::mapped"),
            }),
            GFP_KERNEL,
        )
    }

    /// The portal group.
    pub fn tpg(&self) -> &Arc<Tpg> {
        &self.tpg
    }

    /// The initiator's name.
    pub fn name(&self) -> &CStr {
        &self.name
    }

    /// The initiator's index in the SCSI MIB (scsiAuthIntrIndex).
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Commands that a session of the initiator may have in flight.
    pub fn depth(&self) -> u32 {
        self.depth.load(Acquire)
    }

    /// Sets that, for sessions from now on.
    pub fn set_depth(&self, depth: u32) {
        self.depth.store(depth, Release);
    }

    /// The `tag` file.
    pub fn tag(&self) -> &Mutex<KVec<u8>> {
        &self.tag
    }

    /// Whether demo mode made it, and no directory stands for it.
    pub fn is_generated(&self) -> bool {
        self.generated.load(Relaxed)
    }

    // Whether demo mode made it, for an initiator that is not there. The caller holds the group's lock.
    pub(super) fn is_idle(&self) -> bool {
        self.is_generated() && self.sessions.load(Relaxed) == 0
    }

    fn set_read_only(&self, on: bool) {
        self.read_only.store(on, Relaxed);
        for mapped in self.mapped.lock().iter() {
            mapped.set_write_protect(on);
        }
    }

    // Shows the initiator one more LUN of the group, whose lists the caller holds, as demo mode does.
    pub(super) fn generate_lun(self: &Arc<Self>, lists: &Lists, lun: &Arc<Lun>) -> Result {
        let read_only = self.read_only.load(Relaxed);
        let mapped = MappedLun::generate(lun, read_only, self.digest)?;
        self.mapped.lock().push(mapped.clone(), GFP_KERNEL)?;
        self.show(lists, &mapped)
    }

    // Takes away what demo mode mapped. No session has the ACL.
    fn forget_generated(&self) {
        self.take_away(|m| m.is_generated());
    }

    // It is about to be forgotten.
    fn leave(&self) {
        let mapped = self.mapped.lock();
        mapped.iter().for_each(|m| m.leave(self.digest));
    }

    // What `which` chooses is mapped no longer. Sessions that have it keep it.
    pub(super) fn take_away(&self, which: impl Fn(&MappedLun) -> bool) {
        self.mapped.lock().retain(|m| {
            let goes = which(m);
            if goes {
                m.leave(self.digest);
            }
            !goes
        });
    }

    fn show(self: &Arc<Self>, lists: &Lists, mapped: &Arc<MappedLun>) -> Result {
        for session in lists.sessions.iter() {
            let core = session.core();
            if core.acl().is_some_and(|a| Arc::ptr_eq(a, self)) {
                show(session, mapped)?;
            }
        }
        Ok(())
    }

    /// Shows `lun` to the initiator as number `number`. What demo mode has mapped there already becomes what is configured,
    /// and keeps its write protection; sessions do not notice.
    ///
    /// # Errors
    /// `EEXIST`, `ENOMEM`; `EINVAL` if a session still sees another LUN there by demo mode; `ENOENT` if the LUN is not the
    /// group's (any more).
    pub(crate) fn map(
        self: &Arc<Self>,
        number: LunNumber,
        lun: &Arc<Lun>,
        write_protect: bool,
    ) -> Result<Arc<MappedLun>> {
        let mapped = MappedLun::new(number, lun, write_protect, self.digest)?;
        self.tpg.with_lists(|lists| {
            if !lists.luns.iter().any(|l| Arc::ptr_eq(l, lun)) {
                return Err(ENOENT);
            }
            let mut list = self.mapped.lock();
            if let Some(old) = list.iter().find(|m| m.number() == number) {
                if !old.is_generated() {
                    return Err(EEXIST);
                }
                if !Arc::ptr_eq(old.lun(), lun) {
                    return Err(EINVAL);
                }
                old.configure();
                return Ok(old.clone());
            }
            list.push(mapped.clone(), GFP_KERNEL)?;
            if let Err(error) = self.show(lists, &mapped) {
                // For no session then: the caller hears that nothing was mapped.
                list.retain(|m| !Arc::ptr_eq(m, &mapped));
                for session in lists.sessions.iter() {
                    if unmap_this(session, &mapped) {
                        session.let_aborted_go();
                    }
                }
                lun.device().let_aborted_go();
                return Err(error);
            }
            Ok(mapped)
        })
    }

    /// What the initiator sees as number `number`.
    pub fn mapped(&self, number: LunNumber) -> Option<Arc<MappedLun>> {
        let list = self.mapped.lock();
        list.iter().find(|m| m.number() == number).cloned()
    }

    /// Whether the initiator sees the device, by whatever number.
    pub(crate) fn maps(&self, device: &Arc<Device>) -> bool {
        let of_device = |m: &Arc<MappedLun>| Arc::ptr_eq(m.lun().device(), device);
        self.mapped.lock().iter().any(of_device)
    }

    /// Takes a logical unit away from the initiator. Its commands are aborted, but not waited for.
    pub(crate) fn unmap(self: &Arc<Self>, mapped: &Arc<MappedLun>) {
        let mut affected = KVVec::new();
        self.tpg.with_lists(|lists| {
            self.take_away(|m| core::ptr::eq(m, &**mapped));
            for session in lists.sessions.iter() {
                if unmap_this(session, mapped) {
                    luns_changed(session.core(), None);
                    tell_luns(session);
                    if affected.push(session.clone(), GFP_KERNEL).is_err() {
                        session.let_aborted_go();
                    }
                }
            }
        });
        affected.iter().for_each(|s| s.let_aborted_go());
        if let Ok(engine) = crate::engine() {
            engine.tokens().revoke_mapped(mapped);
        }
        let device = mapped.lun().device();
        // The sessions do not see it any more.
        device.let_aborted_go();
        // An I_T nexus has its registration and its reservation for all numbers that it knows the unit by.
        if self.maps(device) {
            return;
        }
        let reservations = device.reservations();
        for session in affected.iter() {
            reservations.nexus_lost(session.core().id());
        }
        reservations.acl_unmapped(device, &self.tpg, &self.name);
    }
}
