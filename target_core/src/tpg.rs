// SPDX-License-Identifier: GPL-2.0

//! Targets, their portal groups, LUNs and ACLs: what sessions are made of.

mod acl;

pub(crate) use acl::digest;
pub use acl::{Access, NodeAcl};

use crate::{
    device::Device,
    engine,
    fabric::{FabricKind, Protocol},
    lun::{Lun, MappedLun, Nexus},
    session::{AnySession, Core},
};
use kernel::{
    error::code::*,
    new_mutex,
    prelude::*,
    str::CString,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc, Mutex,
    },
};
use lio_glue::{noio, wait::wait_for_readers};
use lio_scsi::{lun::Lun as LunNumber, sense::Asc};

/// How long the removal of a LUN waits before the log tells of it.
const PATIENCE_MS: u32 = 30_000;

/// A directory `target/FABRIC/WWN`.
pub struct Target {
    kind: &'static dyn FabricKind,
    name: CString,
}

impl Target {
    pub(crate) fn new(kind: &'static dyn FabricKind, name: CString) -> Result<Arc<Self>> {
        Ok(Arc::new(Target { kind, name }, GFP_KERNEL)?)
    }

    /// The fabric.
    pub fn kind(&self) -> &'static dyn FabricKind {
        self.kind
    }

    /// The target's name.
    pub fn name(&self) -> &CStr {
        &self.name
    }
}

/// Relative target port identifiers in use, 1 to 65,535, in order.
#[derive(Default)]
pub(crate) struct Rtpis(KVec<u16>);

impl Rtpis {
    fn lowest_free(&self) -> Option<u16> {
        // The list has no gap before the first identifier that is greater than its place says.
        let (mut low, mut high) = (0, self.0.len());
        while low < high {
            let middle = low.midpoint(high);
            if self
                .0
                .get(middle)
                .is_some_and(|r| usize::from(*r) == middle.wrapping_add(1))
            {
                low = middle.wrapping_add(1);
            } else {
                high = middle;
            }
        }
        u16::try_from(low.checked_add(1)?).ok()
    }

    // Whether it was free.
    fn insert(&mut self, rtpi: u16) -> Result<bool> {
        match self.0.binary_search(&rtpi) {
            Ok(_) => Ok(false),
            Err(place) => {
                self.0.reserve(1, GFP_KERNEL)?;
                // There is room for it, and the place is one of the list or its end.
                Ok(self.0.insert_within_capacity(place, rtpi).is_ok())
            }
        }
    }

    fn remove(&mut self, rtpi: u16) {
        if let Ok(place) = self.0.binary_search(&rtpi) {
            let _ = self.0.remove(place);
        }
    }
}

#[derive(Default)]
struct Lists {
    luns: KVec<Arc<Lun>>,
    acls: KVec<Arc<NodeAcl>>,
    sessions: KVec<Arc<dyn AnySession>>,
    // Those that have ended, and whose commands may still be with a back end. There is room for all that have not.
    leaving: KVec<Arc<dyn AnySession>>,
    closed: bool,
}

/// A target portal group: the target port that initiators log in to.
#[pin_data]
pub struct Tpg {
    target: Arc<Target>,
    tag: u16,
    // 0 before the group was first enabled, if no other was written.
    rtpi: Atomic<u32>,
    // Whether `rtpi` was written, and whether the group is enabled. Like `rtpi`, set with `Engine::rtpis` held.
    rtpi_set: Atomic<bool>,
    enabled: Atomic<bool>,
    protocol: Atomic<u32>,
    // Whether the ACLs of demo mode outlive their initiators' sessions.
    keeps_generated: Atomic<bool>,
    path: CString,
    #[pin]
    lists: Mutex<Lists>,
}

impl Tpg {
    pub(crate) fn new(target: &Arc<Target>, tag: u16) -> Result<Arc<Self>> {
        let path = CString::try_from_fmt(fmt!(
            "{}/{}/tpgt_{}",
            target.kind().name(),
            target.name(),
            tag
        ))?;
        Arc::pin_init(
            pin_init!(Tpg {
                target: target.clone(),
                tag,
                rtpi: Atomic::new(0),
                rtpi_set: Atomic::new(false),
                enabled: Atomic::new(false),
                protocol: Atomic::new(Protocol::Iscsi as u32),
                keeps_generated: Atomic::new(false),
                path,
                lists <- new_mutex!(Lists::default(), "Tpg::lists"),
            }),
            GFP_KERNEL,
        )
    }

    /// The target.
    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// The number in `tpgt_N`.
    pub fn tag(&self) -> u16 {
        self.tag
    }

    /// `FABRIC/WWN/tpgt_N`, for log messages.
    pub fn path(&self) -> &CStr {
        &self.path
    }

    /// The relative target port identifier.
    pub fn rtpi(&self) -> u16 {
        self.rtpi.load(Relaxed) as u16
    }

    /// Sets the relative target port identifier that the group takes when it is enabled.
    ///
    /// # Errors
    /// `EINVAL` while it is enabled.
    pub(crate) fn set_rtpi(&self, rtpi: u16) -> Result {
        let engine = engine()?;
        let _rtpis = engine.rtpis().lock();
        if self.enabled.load(Relaxed) {
            return Err(EINVAL);
        }
        self.rtpi.store(rtpi.into(), Relaxed);
        self.rtpi_set.store(true, Relaxed);
        Ok(())
    }

    /// Gives the group its relative target port identifier: the one that was written, or the lowest that is free. A fabric
    /// with an `enable` file calls it before the first session. Does nothing for a group that is enabled.
    ///
    /// # Errors
    /// `EINVAL` if another group has the identifier, `ENOSPC` if all are taken, `ENOMEM`.
    pub fn enable(&self) -> Result {
        let engine = engine()?;
        let mut rtpis = engine.rtpis().lock();
        if self.enabled.load(Relaxed) {
            return Ok(());
        }
        let rtpi = if self.rtpi_set.load(Relaxed) {
            self.rtpi()
        } else {
            rtpis.lowest_free().ok_or(ENOSPC)?
        };
        rtpis.insert(rtpi)?.then_some(()).ok_or_else(|| {
            pr_err!(
                "{}: rtpi {:#x} is another enabled group's\n",
                self.path(),
                rtpi
            );
            EINVAL
        })?;
        self.rtpi.store(rtpi.into(), Relaxed);
        self.enabled.store(true, Relaxed);
        Ok(())
    }

    /// Takes the identifier back. Does nothing for a group that is not enabled.
    pub fn disable(&self) {
        let Ok(engine) = engine() else { return };
        let mut rtpis = engine.rtpis().lock();
        if self.enabled.load(Relaxed) {
            rtpis.remove(self.rtpi());
            self.enabled.store(false, Relaxed);
        }
    }

    /// Whether the group is enabled, for fabrics that have an `enable` file.
    pub fn is_enabled(&self) -> bool {
        self.enabled.load(Relaxed)
    }

    /// The port's protocol.
    pub fn protocol(&self) -> Protocol {
        match self.protocol.load(Relaxed) {
            0 => Protocol::Fcp,
            3 => Protocol::Sbp,
            4 => Protocol::Srp,
            6 => Protocol::Sas,
            9 => Protocol::Usb,
            _ => Protocol::Iscsi,
        }
    }

    pub(crate) fn set_protocol(&self, protocol: Protocol) {
        self.protocol.store(protocol as u32, Relaxed);
    }

    /// Links LUN `number` to `device`, and shows it to the sessions of demo mode.
    ///
    /// # Errors
    /// `EEXIST`, `ENODEV` if the device is not enabled, `ENOMEM`.
    pub(crate) fn link(
        self: &Arc<Self>,
        number: LunNumber,
        device: &Arc<Device>,
    ) -> Result<Arc<Lun>> {
        let lun = Lun::new(self, number, device)?;
        // Before the group's lock: whoever holds the device's takes the groups' after it.
        device.add_lun(&lun)?;
        match self.with_lists(|lists| self.publish(lists, &lun)) {
            Ok(Ok(())) => Ok(lun),
            Ok(Err(e)) => {
                self.unlink(&lun);
                Err(e)
            }
            Err(e) => {
                device.remove_lun(&lun);
                device.lun_left(&lun);
                Err(e)
            }
        }
    }

    // Commands take this lock too, if a device's size has changed: nothing that is done with it may wait for one to get memory.
    fn with_lists<R>(&self, f: impl FnOnce(&mut Lists) -> R) -> R {
        noio::scope(|| f(&mut self.lists.lock()))
    }

    // Without memory for all that shall see it, `Ok(Err(ENOMEM))`: some do.
    fn publish(&self, lists: &mut Lists, lun: &Arc<Lun>) -> Result<Result> {
        let number = lun.number();
        if lists.closed {
            return Err(ENOENT);
        }
        if lists.luns.iter().any(|l| l.number() == number) {
            pr_err!("{}/lun_{}: linked already\n", self.path(), number.0);
            return Err(EEXIST);
        }
        lists.luns.push(lun.clone(), GFP_KERNEL)?;
        let mut shown = Ok(());
        let mut complain = |initiator: &CStr, e: Error| {
            if e == ENOMEM {
                shown = Err(e);
            }
            pr_err!(
                "{}/lun_{}: {} does not see it: {:?}\n",
                self.path(),
                number.0,
                initiator,
                e
            )
        };
        for acl in lists.acls.iter().filter(|a| a.is_generated()) {
            if let Err(e) = acl.generate_lun(lists, lun) {
                complain(acl.name(), e);
            }
        }
        for session in lists.sessions.iter() {
            let core = session.core();
            if core.acl().is_none() {
                let who = digest(core.initiator().to_bytes());
                let mapped = MappedLun::generate(lun, false, who);
                if let Err(e) = mapped.and_then(|m| show(session, &m)) {
                    complain(core.initiator(), e);
                }
            }
        }
        Ok(shown)
    }

    /// Takes a LUN away: from all sessions, whose commands to it are aborted and waited for.
    pub(crate) fn unlink(self: &Arc<Self>, lun: &Arc<Lun>) {
        // What the sessions saw is kept until no command is at work any more.
        let mut seen = KVVec::new();
        let mut affected = KVVec::new();
        self.with_lists(|lists| {
            lun.close();
            lists.luns.retain(|l| !Arc::ptr_eq(l, lun));
            for acl in lists.acls.iter() {
                acl.take_away(|m| Arc::ptr_eq(m.lun(), lun));
            }
            for session in lists.sessions.iter() {
                let core = session.core();
                for (_, nexus) in core.nexuses() {
                    if !Arc::ptr_eq(nexus.lun(), lun) || !session.take_away(&nexus) {
                        continue;
                    }
                    if core.acl().is_none() {
                        nexus.mapped().leave(digest(core.initiator().to_bytes()));
                    }
                    // Without memory for the list the wait below is a little less exact, and still waits.
                    let _ = seen.push(nexus, GFP_KERNEL);
                    if affected.push(session.clone(), GFP_KERNEL).is_err() {
                        // Now: the LUN is closed, and no more come.
                        session.let_aborted_go();
                    }
                    luns_changed(core, None);
                    tell_luns(session);
                }
            }
        });
        let device = lun.device();
        device.remove_lun(lun);
        affected.iter().for_each(|session| session.let_aborted_go());
        // The sessions do not see it any more.
        device.let_aborted_go();
        drop(affected);
        let mut late = false;
        while !lun.wait_closed(PATIENCE_MS) {
            late = true;
            pr_warn!(
                "{}/lun_{}: removed, but the back end of {} still has commands\n",
                self.path(),
                lun.number().0,
                device.path()
            );
        }
        device.reservations().unlinked(lun);
        device.reservations().acls_unmapped(device, self);
        // The last command may be about to drop what it held, in an interrupt.
        if lun.is_had() {
            wait_for_readers();
        }
        drop(seen);
        // Also what the sessions have kept of it: no command holds any of that.
        while let Some(nexus) = self.forget_taken(lun) {
            drop(nexus);
        }
        // A command that was at work may have made one more token of it.
        if let Ok(engine) = crate::engine() {
            engine.tokens().revoke(lun);
        }
        device.lun_left(lun);
        if late {
            pr_info!(
                "{}/lun_{}: its commands are done\n",
                self.path(),
                lun.number().0
            );
        }
    }

    // Has a session forget what it saw of the LUN, which it gives.
    fn forget_taken(&self, lun: &Arc<Lun>) -> Option<Arc<Nexus>> {
        let is_its = |nexus: &Arc<Nexus>| Arc::ptr_eq(nexus.lun(), lun);
        self.with_lists(|lists| {
            let mut sessions = Iterator::chain(lists.sessions.iter(), lists.leaving.iter());
            sessions.find_map(|session| session.core().forget_taken(is_its))
        })
    }

    /// The LUN with this number, if it is linked.
    pub fn lun(&self, number: LunNumber) -> Option<Arc<Lun>> {
        self.with_lists(|lists| lists.luns.iter().find(|l| l.number() == number).cloned())
    }

    /// How many LUNs are linked.
    pub fn luns(&self) -> usize {
        self.with_lists(|lists| lists.luns.len())
    }

    /// Calls `f` for each session of the group.
    pub(crate) fn each_session(&self, mut f: impl FnMut(&Arc<dyn AnySession>) -> Result) -> Result {
        self.with_lists(|lists| lists.sessions.iter().try_for_each(&mut f))
    }

    /// The same, and for those that have ended and whose commands are not gone yet: who is to know that nothing is at work any
    /// more has to know of these.
    pub(crate) fn each_session_at_work(
        &self,
        mut f: impl FnMut(&Arc<dyn AnySession>) -> Result,
    ) -> Result {
        self.with_lists(|lists| {
            lists.sessions.iter().try_for_each(&mut f)?;
            lists.leaving.iter().try_for_each(&mut f)
        })
    }

    /// How many sessions there are.
    pub fn sessions(&self) -> usize {
        self.with_lists(|lists| lists.sessions.len())
    }

    /// No session and no LUN can be added any more: the directory goes.
    pub(crate) fn close(&self) {
        self.with_lists(|lists| {
            lists.closed = true;
            // A generated ACL that stayed would keep the group alive, which keeps it.
            self.keeps_generated.store(false, Relaxed);
            lists.forget_idle();
        });
    }
}

// Shows a session one more logical unit.
fn show(session: &Arc<dyn AnySession>, mapped: &Arc<MappedLun>) -> Result {
    let core = session.core();
    core.map(mapped)?;
    // When it is there: who asks what has changed has to see it. It has no news of itself.
    luns_changed(core, Some(mapped.number()));
    tell_luns(session);
    Ok(())
}

// REPORTED LUNS DATA HAS CHANGED on all logical units of a session (SPC-5 6.33), but for one that is new.
fn luns_changed(core: &Core, new: Option<LunNumber>) {
    for (_, nexus) in core.nexuses() {
        if Some(nexus.mapped().number()) != new {
            nexus.attend(Asc::REPORTED_LUNS_CHANGED);
        }
    }
}

// The initiator may hear of it at once, also where it sees no logical unit: LUN 0 answers REPORT LUNS.
fn tell_luns(session: &Arc<dyn AnySession>) {
    session.tell(LunNumber::ZERO, Asc::REPORTED_LUNS_CHANGED);
}
