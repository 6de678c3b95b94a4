// SPDX-License-Identifier: GPL-2.0

//! PERSISTENT RESERVE OUT: what it names is looked up, the change is decided on a copy, kept, put in force, and told of.

use super::{aptpl, identity, identity::Identities, scope, Held, Identity, Refusal, Reservations};
use crate::{
    lun::Nexus,
    session::{AnySession, Core},
    tmf::Preempted,
    tpg::Tpg,
};
use kernel::{prelude::*, sync::Arc};
use lio_policy::pr::{
    Event, NexusId, Registration, Request, Reservation, State, MAX_REGISTRATIONS,
};
use lio_scsi::{
    pr::{Action, Out, Parameters, TransportId},
    sense::{Asc, Sense},
};

/// Initiator ports, each with each target port, that one command looks for.
const MOST_TRIED: usize = 4 * MAX_REGISTRATIONS;

/// A PERSISTENT RESERVE OUT command.
pub(crate) struct Change<'a> {
    pub(crate) session: &'a Core,
    pub(crate) nexus: &'a Arc<Nexus>,
    pub(crate) out: Out,
    pub(crate) parameters: Parameters<'a>,
}

/// What was done; those whose commands are to be aborted, and were told so, are still to be waited for.
pub(crate) struct Performed(pub(crate) Option<Preempted>);

fn no_memory(_: Error) -> Refusal {
    Refusal::Sense(Sense::INSUFFICIENT_RESOURCES)
}

/// The I_T nexuses that a command names, with all that were there.
struct Named {
    identities: Identities,
    sender: NexusId,
    ports: KVVec<NexusId>,
    specified: KVVec<NexusId>,
    destination: Option<NexusId>,
}

/// A change that is not in force yet.
struct Decided {
    registrations: KVVec<Registration>,
    identities: Identities,
    reservation: Option<Reservation>,
    generation: u32,
    aptpl: bool,
    lost: bool,
    /// The file is to say so, and the command fails if it cannot.
    keep: bool,
    /// What the file may still say of another time is to go.
    tidy: bool,
    events: KVVec<Event>,
}

impl Change<'_> {
    fn tpg(&self) -> &Arc<Tpg> {
        self.nexus.lun().tpg()
    }

    // `initiator` through the port `tpg`, by the numbers that it has the logical unit under there.
    fn identify(&self, initiator: TransportId, tpg: &Arc<Tpg>) -> Result<Option<Arc<Identity>>> {
        let lun = self.nexus.lun();
        if Arc::ptr_eq(tpg, self.tpg()) {
            let known = tpg.mapping_of(initiator.name.as_bytes(), lun.device());
            let (mapped, target) = known.unwrap_or((lun.number(), lun.number()));
            return Identity::new(initiator, tpg, mapped.0.into(), target.0.into()).map(Some);
        }
        // Through other ports, where it has access to the logical unit.
        match tpg.mapping_of(initiator.name.as_bytes(), lun.device()) {
            Some((mapped, target)) => {
                Identity::new(initiator, tpg, mapped.0.into(), target.0.into()).map(Some)
            }
            None => Ok(None),
        }
    }

    // The initiator port that a TransportID names.
    fn accept(&self, mut id: TransportId, at: u16) -> Result<TransportId, Sense> {
        if id.protocol != self.tpg().protocol().identifier() {
            return Err(Sense::invalid_parameter_byte(at));
        }
        if !self.nexus.lun().device().attrib().enforce_pr_isids() {
            id.isid = None;
        }
        Ok(id)
    }

    fn look_up(&self, held: &Held, ports: &[Arc<Tpg>]) -> Result<Named, Refusal> {
        let device = self.nexus.lun().device();
        let mut identities = held.identities.copy(8).map_err(no_memory)?;
        let own = identity::initiator(self.session, self.tpg(), device)
            .ok_or(Sense::INTERNAL_TARGET_FAILURE)?;
        let sender = match identities.of_session(self.session, self.tpg(), device) {
            Some(id) => id,
            None => {
                let (mapped, lun) = (self.nexus.mapped().number(), self.nexus.lun().number());
                let new = Identity::new(own, self.tpg(), mapped.0.into(), lun.0.into());
                new.and_then(|new| identities.number(new))
                    .map_err(no_memory)?
            }
        };
        let mut named = Named {
            identities,
            sender,
            ports: KVVec::new(),
            specified: KVVec::new(),
            destination: None,
        };
        let others = || {
            let fabric = self.tpg().target().kind().name();
            ports.iter().filter(move |tpg| {
                self.parameters.all_ports
                    && !Arc::ptr_eq(tpg, self.tpg())
                    && tpg.target().kind().name() == fabric
            })
        };
        for tpg in others() {
            if let Some(new) = self.identify(own, tpg).map_err(no_memory)? {
                let id = named.identities.number(new).map_err(no_memory)?;
                named
                    .ports
                    .push(id, GFP_KERNEL)
                    .map_err(|e| no_memory(e.into()))?;
            }
        }
        let (mut asked, mut tried) = (0usize, 0usize);
        for id in self.parameters.initiators() {
            let id = self.accept(id?, 28)?;
            for tpg in Iterator::chain(core::iter::once(self.tpg()), others()) {
                // Of those without access as well: others wait meanwhile.
                tried = tried.saturating_add(1);
                if tried > MOST_TRIED {
                    return Err(Sense::INSUFFICIENT_REGISTRATION_RESOURCES.into());
                }
                let Some(new) = self.identify(id, tpg).map_err(no_memory)? else {
                    continue;
                };
                asked = asked.saturating_add(1);
                if asked > MAX_REGISTRATIONS {
                    return Err(Sense::INSUFFICIENT_REGISTRATION_RESOURCES.into());
                }
                let id = named.identities.number(new).map_err(no_memory)?;
                if id != named.sender
                    && !named.ports.contains(&id)
                    && !named.specified.contains(&id)
                {
                    named
                        .specified
                        .push(id, GFP_KERNEL)
                        .map_err(|e| no_memory(e.into()))?;
                }
            }
        }
        if self.out.action == Action::RegisterAndMove {
            let port = ports
                .iter()
                .find(|tpg| tpg.rtpi() == self.parameters.port)
                .ok_or(Sense::invalid_parameter_byte(18))?;
            let id = self.accept(self.parameters.destination()?, 24)?;
            let lun = self.nexus.lun();
            let known = port.mapping_of(id.name.as_bytes(), lun.device());
            let (mapped, target) = known.unwrap_or((lun.number(), lun.number()));
            let new = Identity::new(id, port, mapped.0.into(), target.0.into());
            let id = new.and_then(|new| named.identities.number(new));
            named.destination = Some(id.map_err(no_memory)?);
        }
        Ok(named)
    }

    fn decide(&self, held: &Held, ports: &[Arc<Tpg>]) -> Result<Decided, Refusal> {
        let named = self.look_up(held, ports)?;
        let parameters = &self.parameters;
        let len = held.registrations.len();
        let more = named.ports.len().saturating_add(named.specified.len());
        let room = len.saturating_add(more).saturating_add(1);
        let mut slots = KVVec::from_elem(
            Registration::default(),
            room.min(MAX_REGISTRATIONS),
            GFP_KERNEL,
        )
        .map_err(|e| no_memory(e.into()))?;
        for (slot, registration) in slots.iter_mut().zip(held.registrations.iter()) {
            *slot = *registration;
        }
        // Two for each that is registered now, at most.
        let mut events = KVVec::with_capacity(len.saturating_mul(2), GFP_KERNEL)
            .map_err(|e| no_memory(e.into()))?;
        let mut state =
            State::new(&mut slots, len, held.reservation, held.generation).with_loss(held.lost);
        let was_registered = state.find(named.sender).is_some();
        let request = Request {
            out: self.out,
            nexus: named.sender,
            key: parameters.key,
            action_key: parameters.action_key,
            all_ports: parameters.all_ports,
            unregister: parameters.unregister,
            ports: &named.ports,
            specified: parameters.specified.then_some(&*named.specified),
            destination: named.destination,
        };
        state.perform(&request, &mut |event| {
            // There is room for it.
            let _ = events.push(event, GFP_KERNEL);
        })?;
        let registers = match self.out.action {
            Action::Register | Action::RegisterAndIgnore => {
                was_registered || state.find(named.sender).is_some()
            }
            Action::RegisterAndMove | Action::ReplaceLost => true,
            _ => false,
        };
        let forced = self.nexus.lun().device().attrib().force_pr_aptpl();
        let aptpl = if registers {
            parameters.aptpl || forced
        } else {
            held.aptpl
        };
        let lost = state.is_lost();
        let (reservation, generation) = (state.reservation(), state.generation());
        let len = state.registrations().len();
        slots.truncate(len);
        let mut identities = named.identities;
        identities.retain_ids(|id| slots.iter().any(|r| r.nexus == id));
        Ok(Decided {
            registrations: slots,
            identities,
            reservation,
            generation,
            aptpl,
            lost,
            keep: aptpl || held.aptpl,
            tidy: registers && !held.filed,
            events,
        })
    }
}

impl Reservations {
    /// Performs a PERSISTENT RESERVE OUT command. Process context; may wait for the file system.
    ///
    /// # Errors
    /// The refusal; nothing is changed then.
    pub(crate) fn perform(&self, change: &Change<'_>) -> Result<Performed, Refusal> {
        scope(|| {
            let device = change.nexus.lun().device();
            let ports = identity::ports(device).map_err(no_memory)?;
            let performed = self.perform_now(change, &ports)?;
            // A port that went meanwhile may have found nothing to take out yet.
            if change.parameters.all_ports || change.out.action == Action::RegisterAndMove {
                for port in ports.iter() {
                    if !identity::has_port(device, |tpg| identity::is_same_port(tpg, port)) {
                        self.drop_identities(device, |i| i.is_port(port));
                    }
                }
            }
            self.let_go_unmapped(change.session, change.nexus);
            Ok(performed)
        })
    }

    fn perform_now(&self, change: &Change<'_>, ports: &[Arc<Tpg>]) -> Result<Performed, Refusal> {
        let device = change.nexus.lun().device();
        let _changing = self.changing.lock();
        let mut decided = {
            let held = self.held.lock();
            if held.legacy.is_some() {
                return Err(Refusal::Conflict);
            }
            change.decide(&held, ports)?
        };
        let mut filed = false;
        if decided.keep || decided.tidy {
            let kept = if decided.aptpl {
                aptpl::text(
                    &decided.registrations,
                    &decided.identities,
                    decided.reservation,
                    ports,
                )
            } else {
                aptpl::none()
            };
            let stored = kept.and_then(|text| aptpl::store(device, &text));
            filed = stored.is_ok();
            if let (true, Err(e)) = (decided.keep, stored) {
                pr_err!(
                    "{}: registrations cannot be kept in {}: {:?}\n",
                    device.path(),
                    aptpl::PLACE,
                    e
                );
                return Err(Sense::INTERNAL_TARGET_FAILURE.into());
            }
        }
        let mut held = self.held.lock();
        let held_now = &mut *held;
        held_now.registrations = core::mem::take(&mut decided.registrations);
        core::mem::swap(&mut held_now.identities, &mut decided.identities);
        held_now.reservation = decided.reservation;
        held_now.generation = decided.generation;
        held_now.aptpl = decided.aptpl;
        held_now.filed |= filed;
        let replaced = core::mem::replace(&mut held_now.lost, decided.lost) && !decided.lost;
        self.publish(held_now, true);
        drop(held);
        if replaced {
            // After what is in force now: see `admit`.
            device.set_condition(|condition| condition.lost = false);
        }
        // By the numbers of before, which those have that are told.
        Ok(Performed(tell(
            change,
            &decided.identities,
            &decided.events,
        )))
    }
}

// Tells the sessions of what happened to their registrations. Returns those whose commands were aborted.
fn tell(change: &Change<'_>, before: &Identities, events: &[Event]) -> Option<Preempted> {
    if events.is_empty() {
        return None;
    }
    let device = change.nexus.lun().device();
    let mut preempted = None;
    // Neither closure fails.
    let _ = device.each_lun_at_work(|lun| {
        lun.tpg().each_session_at_work(|session| {
            let core = session.core();
            if core::ptr::eq(core, change.session) {
                return Ok(());
            }
            let Some(id) = before.of_session(core, lun.tpg(), device) else {
                return Ok(());
            };
            for (_, nexus) in core.nexuses().filter(|(_, n)| Arc::ptr_eq(n.lun(), lun)) {
                tell_one(session, &nexus, id, events, &mut preempted);
            }
            // Nobody sees it there to hear of anything, but its commands may still be at work.
            core.each_taken(|nexus| {
                let is_aborted = |event: &Event| matches!(event, Event::Abort(of) if *of == id);
                if Arc::ptr_eq(nexus.lun(), lun) && events.iter().any(is_aborted) {
                    preempted
                        .get_or_insert_with(|| Preempted::new(device))
                        .find_aborted(session, nexus);
                }
                Ok(())
            })
        })
    });
    preempted
}

fn tell_one(
    session: &Arc<dyn AnySession>,
    nexus: &Arc<Nexus>,
    id: NexusId,
    events: &[Event],
    preempted: &mut Option<Preempted>,
) {
    for event in events {
        match event {
            Event::Attention(to, what) if *to == id => {
                nexus.attend(*what);
                session.tell(nexus.mapped().number(), *what);
            }
            Event::Abort(of) if *of == id => {
                let told =
                    nexus.lun().device().attrib().emulate_tas() && !session.core().is_closed();
                if !told {
                    nexus.attend(Asc::COMMANDS_CLEARED);
                }
                let device = nexus.lun().device();
                preempted
                    .get_or_insert_with(|| Preempted::new(device))
                    .abort(session, nexus, told);
            }
            _ => (),
        }
    }
}
