// SPDX-License-Identifier: GPL-2.0

//! Reservations of a device: persistent ones (SPC-4, 5.12), and those by RESERVE (SPC-2, 5.5).
//!
//! `lio_policy` decides; here are the memory, the locks, the names of I_T nexuses and the file that APTPL keeps. A change is made
//! to a copy, which is kept in the file if it is to be, and only then becomes what is in force.
//!
//! Commands look at [`Reservations::epoch`], which is 0 while nobody is excluded from anything. Otherwise their nexus remembers
//! what it may do in which epoch ([`Nexus::access`]), and finds it out once in each.

mod aptpl;
mod change;
mod identity;
mod show;

pub(crate) use change::{Change, Performed};
pub(crate) use identity::Identity;

use crate::{
    device::Device,
    lun::{Lun, Nexus},
    session::Core,
    tpg::Tpg,
};
use identity::Identities;
use kernel::{
    new_mutex,
    prelude::*,
    str::CString,
    sync::{
        atomic::{Atomic, Full, Relaxed},
        barrier::smp_mb,
        Arc, Mutex,
    },
};
use lio_glue::noio;
use lio_policy::pr::{Access, Legacy, Registration, Reservation, State};
use lio_scsi::{pr::TransportId, sense::Sense};

/// Who has reserved the device by RESERVE.
struct Legacies {
    session: u64,
    fabric: &'static str,
    initiator: CString,
    tpg: Arc<Tpg>,
}

/// What is in force.
#[derive(Default)]
struct Held {
    registrations: KVVec<Registration>,
    // Of all that are registered, and no others.
    identities: Identities,
    reservation: Option<Reservation>,
    generation: u32,
    aptpl: bool,
    // What was to persist is lost: nothing of it excludes anybody, the device's condition everybody.
    lost: bool,
    // The file says nothing that another set-up left there.
    filed: bool,
    legacy: Option<Legacies>,
    // Changes so far: what epochs are made of.
    changes: u64,
}

impl Held {
    fn state(&mut self) -> State<'_> {
        let len = self.registrations.len();
        State::new(
            &mut self.registrations,
            len,
            self.reservation,
            self.generation,
        )
        .with_loss(self.lost)
    }
}

/// The reservations of a device.
#[pin_data]
pub(crate) struct Reservations {
    epoch: Atomic<u64>,
    // Held by who changes something, also while a file is written.
    #[pin]
    changing: Mutex<()>,
    // After `changing`, and never for long: commands wait for it.
    #[pin]
    held: Mutex<Held>,
}

/// Why a command that manages reservations is refused.
pub(crate) use lio_policy::pr::Refusal;

impl Reservations {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Reservations {
            epoch: Atomic::new(0),
            changing <- new_mutex!((), "Reservations::changing"),
            held <- new_mutex!(Held::default(), "Reservations::held"),
        })
    }

    /// 0 while no reservation excludes anybody; any other number for as long as nothing changes.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Relaxed)
    }

    // Has all commands from now on see what is in force.
    fn publish(&self, held: &mut Held, enabled: bool) {
        held.changes = held.changes.wrapping_add(1).max(1) & (u64::MAX >> 8);
        let reserved = held.reservation.is_some() || held.legacy.is_some();
        let epoch = if reserved && enabled && !held.lost {
            held.changes
        } else {
            0
        };
        self.epoch.store(epoch, Relaxed);
    }

    /// Has a change of `emulate_pr` count.
    pub(crate) fn refresh(&self, device: &Device) {
        self.publish(&mut self.held.lock(), device.attrib().emulate_pr());
    }

    /// What a session may do with the device now, and the epoch in which it may. Process context.
    pub(crate) fn access(&self, session: &Core, nexus: &Nexus) -> (u64, Access) {
        let device = nexus.lun().device();
        let mut held = self.held.lock();
        let access = match &held.legacy {
            Some(legacy) if legacy.session == session.id() => Access::RESERVED,
            Some(_) => Access::EXCLUDED,
            None => {
                let id = held
                    .identities
                    .of_session(session, nexus.lun().tpg(), device);
                held.state().access(id)
            }
        };
        (self.epoch(), access)
    }

    /// The first LUN is about to be linked: whether what was to persist is lost (SPC-4, 5.13.5.3). Then that is the device's condition
    /// until REPLACE LOST RESERVATION.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn look_for_loss(&self, device: &Device) -> Result {
        let lost = device.attrib().emulate_pr() && scope(|| aptpl::is_lost(device))?;
        let _changing = self.changing.lock();
        let mut held = self.held.lock();
        held.aptpl |= lost;
        held.lost = lost;
        // While none was linked, the serial number may have become another, and the file with it.
        held.filed = false;
        self.publish(&mut held, device.attrib().emulate_pr());
        drop(held);
        device.set_condition(|condition| condition.lost = lost);
        Ok(())
    }

    /// RESERVE: whether there is no conflict.
    pub(crate) fn reserve(&self, session: &Core, nexus: &Nexus) -> Result<bool, Sense> {
        let reserved = self.reserve_now(session, nexus)?;
        self.let_go_unmapped(session, nexus);
        Ok(reserved)
    }

    fn reserve_now(&self, session: &Core, nexus: &Nexus) -> Result<bool, Sense> {
        let device = nexus.lun().device();
        let tpg = nexus.lun().tpg();
        let initiator = CString::try_from_fmt(fmt!("{}", session.initiator()))
            .map_err(|_| Sense::INSUFFICIENT_RESOURCES)?;
        let _changing = self.changing.lock();
        let mut held = self.held.lock();
        let id = held.identities.of_session(session, tpg, device);
        match held.state().legacy(id) {
            Legacy::Ignore => return Ok(true),
            Legacy::Conflict => return Ok(false),
            Legacy::Process => (),
        }
        if let Some(legacy) = &held.legacy {
            return Ok(legacy.session == session.id());
        }
        held.legacy = Some(Legacies {
            session: session.id(),
            fabric: tpg.target().kind().display_name(),
            initiator,
            tpg: tpg.clone(),
        });
        self.publish(&mut held, true);
        Ok(true)
    }

    /// RELEASE: whether there is no conflict. Not the holder's is no error.
    pub(crate) fn release(&self, session: &Core, nexus: &Nexus) -> bool {
        {
            let mut held = self.held.lock();
            let device = nexus.lun().device();
            let tpg = nexus.lun().tpg();
            let id = held.identities.of_session(session, tpg, device);
            match held.state().legacy(id) {
                Legacy::Ignore => return true,
                Legacy::Conflict => return false,
                Legacy::Process => (),
            }
        }
        self.end_legacy(|legacy| legacy.session == session.id());
        true
    }

    // Ends a reservation by RESERVE, if there is one of which `which` holds.
    fn end_legacy(&self, which: impl FnOnce(&Legacies) -> bool) {
        let _changing = self.changing.lock();
        let mut held = self.held.lock();
        if !held.legacy.as_ref().is_some_and(which) {
            return;
        }
        let gone = held.legacy.take();
        self.publish(&mut held, true);
        drop(held);
        // It may be the last to know its portal group.
        drop(gone);
    }

    /// A session is gone, or sees the device no more: its reservation by RESERVE goes with it (SPC-2, 5.5.2).
    pub(crate) fn nexus_lost(&self, session: u64) {
        // Most have none.
        if self.epoch() != 0 {
            self.end_legacy(|legacy| legacy.session == session);
        }
    }

    /// The logical unit is reset, which persistent reservations survive (SPC-4, 5.12.1).
    pub(crate) fn reset(&self) {
        if self.epoch() != 0 {
            self.end_legacy(|_| true);
        }
    }

    // Takes out the registrations of which `which` holds, as the administrator took away what they had access to. What APTPL has
    // kept is left alone: it is for when it is set up again.
    fn drop_identities(&self, device: &Device, which: impl Fn(&Identity) -> bool) {
        let _changing = self.changing.lock();
        let mut held = self.held.lock();
        let held = &mut *held;
        if !held.identities.iter().any(&which) {
            return;
        }
        let len = held.registrations.len();
        let mut state = State::new(
            &mut held.registrations,
            len,
            held.reservation,
            held.generation,
        );
        state.drop_nexuses(|id| held.identities.get(id).is_none_or(&which));
        let (len, reservation) = (state.registrations().len(), state.reservation());
        held.registrations.truncate(len);
        held.reservation = reservation;
        held.identities.retain(|i| !which(i));
        self.publish(held, device.attrib().emulate_pr());
    }

    /// An ACL does not map the device any more.
    pub(crate) fn acl_unmapped(&self, device: &Device, tpg: &Tpg, initiator: &CStr) {
        self.drop_identities(device, |i| i.is_initiator(initiator) && i.is_port(tpg));
    }

    /// A LUN is unlinked, and with it the ACLs map it no more: what an initiator has whose ACL maps no other LUN of the device goes, though
    /// the port may have one.
    pub(crate) fn acls_unmapped(&self, device: &Arc<Device>, tpg: &Arc<Tpg>) {
        let is_of = |name: &[u8]| tpg.withholds(name, device);
        self.drop_identities(device, |i| i.is_port(tpg) && is_of(i.name().as_bytes()));
        if self.epoch() != 0 {
            self.end_legacy(|l| Arc::ptr_eq(&l.tpg, tpg) && is_of(l.initiator.to_bytes()));
        }
    }

    // What a command by `nexus` has changed is in force. If that was taken away meanwhile, whoever did so may have found nothing yet.
    fn let_go_unmapped(&self, session: &Core, nexus: &Nexus) {
        // Either that is seen here, or it sees what is in force.
        smp_mb(Full);
        let now = session.nexus(nexus.mapped().number());
        if now.is_some_and(|now| now.serial() == nexus.serial()) {
            return;
        }
        let device = nexus.lun().device();
        // A session without an ACL loses a logical unit with the port's LUN, which waits for this command.
        if session.acl().is_some_and(|acl| !acl.maps(device)) {
            self.nexus_lost(session.id());
            self.acl_unmapped(device, nexus.lun().tpg(), session.initiator());
        }
    }

    /// A LUN is unlinked, and its commands are done: if the port has no other of the device, what is registered with it goes.
    pub(crate) fn unlinked(&self, lun: &Lun) {
        let (device, port) = (lun.device(), lun.tpg());
        // That may be long after: what is registered is that one's then that was made again under its name.
        if !identity::has_port(device, |tpg| identity::is_same_port(tpg, port)) {
            self.drop_identities(device, |i| i.is_port(port));
        }
        // A session's, which is of this one.
        if !identity::has_port(device, |tpg| Arc::ptr_eq(tpg, port)) {
            self.end_legacy(|legacy| Arc::ptr_eq(&legacy.tpg, port));
        }
    }

    /// Calls `f` with PRGENERATION and the keys, in the order of their registration.
    pub(crate) fn with_keys<R>(
        &self,
        f: impl FnOnce(u32, &mut dyn Iterator<Item = u64>) -> R,
    ) -> R {
        let held = self.held.lock();
        f(
            held.generation,
            &mut held.registrations.iter().map(|r| r.key),
        )
    }

    /// PRGENERATION, and the reservation with its holder's key, as READ RESERVATION tells it.
    pub(crate) fn reservation(&self) -> (u32, Option<(lio_scsi::pr::Type, u64)>) {
        let mut held = self.held.lock();
        let state = held.state();
        let key = |r: Reservation| state.find(r.holder).map_or(0, |r| r.key);
        let told = state.reservation().map(|r| {
            let all = r.kind.is_all_registrants();
            (r.kind, if all { 0 } else { key(r) })
        });
        (state.generation(), told)
    }

    /// Whether APTPL is in force.
    pub(crate) fn aptpl(&self) -> bool {
        self.held.lock().aptpl
    }

    /// Has `f` write PRGENERATION and then each registration, as READ FULL STATUS tells it.
    pub(crate) fn full_status(
        &self,
        device: &Device,
        out: &mut lio_scsi::bytes::Writer<'_>,
    ) -> Result {
        let ports = identity::ports(device)?;
        let mut held = self.held.lock();
        let held = &mut *held;
        let len = held.registrations.len();
        let state = State::new(
            &mut held.registrations,
            len,
            held.reservation,
            held.generation,
        );
        let mut writer = lio_scsi::pr::FullStatusWriter::begin(out, state.generation());
        for registration in state.registrations() {
            let Some(identity) = held.identities.get(registration.nexus) else {
                continue;
            };
            let kind = state.reservation().map(|r| r.kind);
            let id: TransportId = identity.transport_id();
            writer.registration(&lio_scsi::pr::FullStatus {
                key: registration.key,
                all_ports: registration.all_ports,
                holds: kind.filter(|_| state.holds(registration.nexus)),
                port: identity.rtpi(&ports),
                id: &id,
            });
        }
        writer.finish();
        Ok(())
    }
}

/// Runs `f`, which changes reservations: commands wait for what it does, so it must not wait for one to get memory.
fn scope<R>(f: impl FnOnce() -> R) -> R {
    noio::scope(f)
}
