// SPDX-License-Identifier: GPL-2.0

//! Persistent reservations (SPC-4, 5.12), and those by RESERVE (SPC-2, 5.5) beside them.
//!
//! A [`State`] is a logical unit's registrations and reservation, in memory of the caller's. [`State::perform`] does a service
//! action of PERSISTENT RESERVE OUT, and tells what others are to hear of it; the caller has it work on a copy, and throws
//! that away if it cannot keep the outcome. [`Access`] is what an I_T nexus may do meanwhile.

mod kept;

pub use kept::{is_whole, Kept, NONE};

use lio_scsi::{
    pr::{Action, Out, Reserved, Type},
    sense::{Asc, Sense},
};

/// Registrations that a logical unit has at most: 64 initiators by 16 paths.
pub const MAX_REGISTRATIONS: usize = 1024;

/// An I_T nexus, by a number of the caller's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct NexusId(pub u32);

/// A registration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registration {
    /// Who is registered.
    pub nexus: NexusId,
    /// Its reservation key; never 0.
    pub key: u64,
    /// It came with ALL_TG_PT.
    pub all_ports: bool,
    /// PRGENERATION after it was made or changed.
    pub generation: u32,
}

/// A reservation of the logical unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Who made it, and holds it, alone or with all others that are registered.
    pub holder: NexusId,
    /// Its type.
    pub kind: Type,
}

/// Why a service action is not performed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// RESERVATION CONFLICT status.
    Conflict,
    /// CHECK CONDITION status.
    Sense(Sense),
}

impl From<Sense> for Refusal {
    fn from(sense: Sense) -> Self {
        Self::Sense(sense)
    }
}

/// What is to be done about others than the I_T nexus that sent the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A unit attention is to be established for one that is or was registered.
    Attention(NexusId, Asc),
    /// The commands of one that was preempted are to be aborted.
    Abort(NexusId),
}

/// A PERSISTENT RESERVE OUT command.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Service action, scope and type.
    pub out: Out,
    /// The I_T nexus that sent it.
    pub nexus: NexusId,
    /// RESERVATION KEY
    pub key: u64,
    /// SERVICE ACTION RESERVATION KEY
    pub action_key: u64,
    /// ALL_TG_PT
    pub all_ports: bool,
    /// UNREG
    pub unregister: bool,
    /// The sending initiator's I_T nexuses with the other target ports, if ALL_TG_PT is set.
    pub ports: &'a [NexusId],
    /// The I_T nexuses that SPEC_I_PT asks to be registered too, and whether it is set.
    pub specified: Option<&'a [NexusId]>,
    /// Where REGISTER AND MOVE moves to.
    pub destination: Option<NexusId>,
}

/// Registrations and reservation of a logical unit.
#[derive(Debug)]
pub struct State<'a> {
    slots: &'a mut [Registration],
    len: usize,
    reservation: Option<Reservation>,
    generation: u32,
    lost: bool,
}

type Outcome = Result<(), Refusal>;

impl<'a> State<'a> {
    /// The state with the registrations that are the first `len` of `slots`. It has room for as many as there are slots.
    pub fn new(
        slots: &'a mut [Registration],
        len: usize,
        reservation: Option<Reservation>,
        generation: u32,
    ) -> Self {
        let len = len.min(slots.len());
        Self {
            slots,
            len,
            reservation,
            generation,
            lost: false,
        }
    }

    /// The same, where the device server has found (`lost`) that what was to persist is lost (SPC-4, 5.13.5.3.2).
    pub fn with_loss(self, lost: bool) -> Self {
        Self { lost, ..self }
    }

    /// Whether it is lost still.
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// The registrations, in the order in which they were made.
    pub fn registrations(&self) -> &[Registration] {
        self.slots.get(..self.len).unwrap_or(&[])
    }

    /// The reservation.
    pub fn reservation(&self) -> Option<Reservation> {
        self.reservation
    }

    /// PRGENERATION
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// The registration of `nexus`.
    pub fn find(&self, nexus: NexusId) -> Option<&Registration> {
        self.registrations().iter().find(|r| r.nexus == nexus)
    }

    fn is_registered(&self, nexus: NexusId) -> bool {
        self.find(nexus).is_some()
    }

    /// Whether `nexus` holds the reservation.
    pub fn holds(&self, nexus: NexusId) -> bool {
        self.reservation.is_some_and(|r| {
            r.holder == nexus || r.kind.is_all_registrants() && self.is_registered(nexus)
        })
    }

    /// Takes over a registration that was kept, as it is; whether there was room.
    pub fn restore(&mut self, registration: Registration) -> bool {
        self.forget(|r| r.nexus == registration.nexus);
        let Some(slot) = self.slots.get_mut(self.len) else {
            return false;
        };
        *slot = registration;
        self.len = self.len.saturating_add(1);
        true
    }

    /// Takes over a reservation that was kept; its holder is registered.
    pub fn restore_reservation(&mut self, reservation: Reservation) {
        self.reservation = Some(reservation);
    }

    /// Performs `request`, and calls `tell` for each [`Event`] that comes of it.
    ///
    /// # Errors
    /// The refusal; the state is as it was then.
    pub fn perform(&mut self, request: &Request<'_>, tell: &mut dyn FnMut(Event)) -> Outcome {
        let counts = match request.out.action {
            Action::ReplaceLost => {
                self.replace_lost(request)?;
                true
            }
            _ if self.lost => return Err(Sense::RESERVATION_INFORMATION_LOST.into()),
            Action::Register => {
                self.may_register(request)?;
                self.register(request, tell)?
            }
            Action::RegisterAndIgnore => self.register(request, tell)?,
            // All others are for the registered, by their key.
            _ if self.find(request.nexus).map(|r| r.key) != Some(request.key) => {
                return Err(Refusal::Conflict);
            }
            Action::Reserve => {
                self.reserve(request)?;
                false
            }
            Action::Release => {
                self.release(request, tell)?;
                false
            }
            Action::Clear => {
                self.clear(request.nexus, tell);
                true
            }
            Action::Preempt | Action::PreemptAndAbort => {
                self.preempt(request, tell)?;
                true
            }
            Action::RegisterAndMove => {
                self.register_and_move(request)?;
                true
            }
        };
        if counts {
            self.generation = self.generation.wrapping_add(1);
        }
        Ok(())
    }

    // REGISTER wants the key that the I_T nexus has, which is 0 for one that has none (SPC-4, table 71).
    fn may_register(&self, request: &Request<'_>) -> Outcome {
        let key = self.find(request.nexus).map_or(0, |r| r.key);
        if key != request.key {
            return Err(Refusal::Conflict);
        }
        // SPEC_I_PT is for those that are not registered (SPC-4, table 71).
        if key != 0 && request.specified.is_some() {
            return Err(Sense::invalid_cdb_bit(1, 4).into());
        }
        Ok(())
    }

    // Whether anything was done: an I_T nexus that is not registered may ask not to be (SPC-4, table 71).
    fn register(
        &mut self,
        request: &Request<'_>,
        tell: &mut dyn FnMut(Event),
    ) -> Result<bool, Refusal> {
        let expected = self.find(request.nexus).map(|r| r.key);
        let ignore = request.out.action == Action::RegisterAndIgnore;
        let ports = if request.all_ports {
            request.ports
        } else {
            &[]
        };
        if request.action_key == 0 {
            // As if it had come through each port (SPC-4, 6.16.3): where it would have been refused, nothing is done.
            // The reservation goes with its holder's registration (5.12.11.2.3).
            let goes =
                |r: &Registration| ports.contains(&r.nexus) && (ignore || Some(r.key) == expected);
            let before = self.len;
            self.forget(|r| r.nexus == request.nexus || goes(r));
            if self.settle_holder().is_some_and(Type::admits_registrants) {
                self.tell_others(request.nexus, Asc::RESERVATIONS_RELEASED, tell);
            }
            return Ok(self.len != before);
        }
        let specified = request.specified.unwrap_or(&[]);
        let all = || {
            let ports = ports.iter().filter(|n| **n != request.nexus);
            core::iter::once(&request.nexus)
                .chain(ports)
                .chain(specified)
        };
        let takes = |state: &Self, nexus| ignore || state.find(nexus).map(|r| r.key) == expected;
        // Room for all, before any is made.
        // Of those that SPEC_I_PT names, each that is not registered yet.
        let wants = |state: &Self, nexus| {
            nexus == request.nexus
                || if specified.contains(&nexus) {
                    !state.is_registered(nexus)
                } else {
                    takes(state, nexus)
                }
        };
        let new = all()
            .filter(|n| wants(self, **n) && !self.is_registered(**n))
            .count();
        if self.slots.len().saturating_sub(self.len) < new {
            return Err(Sense::INSUFFICIENT_REGISTRATION_RESOURCES.into());
        }
        for nexus in all() {
            if wants(self, *nexus) {
                self.set(*nexus, request.action_key, request.all_ports);
            }
        }
        Ok(true)
    }

    // Registers `nexus`, or changes its key. There is room.
    fn set(&mut self, nexus: NexusId, key: u64, all_ports: bool) {
        let registration = Registration {
            nexus,
            key,
            all_ports,
            // Each action that registers counts.
            generation: self.generation.wrapping_add(1),
        };
        let len = self.len;
        let mut present = self.slots.iter_mut().take(len);
        if let Some(slot) = present.find(|r| r.nexus == nexus) {
            *slot = registration;
        } else if let Some(slot) = self.slots.get_mut(len) {
            *slot = registration;
            self.len = len.saturating_add(1);
        }
    }

    // Takes out the registrations of which `which` holds, in order.
    fn forget(&mut self, which: impl Fn(&Registration) -> bool) {
        let mut kept = 0usize;
        for at in 0..self.len {
            let Some(registration) = self.slots.get(at).copied() else {
                break;
            };
            if which(&registration) {
                continue;
            }
            if let Some(slot) = self.slots.get_mut(kept) {
                *slot = registration;
            }
            kept = kept.saturating_add(1);
        }
        self.len = kept;
    }

    /// Takes out what is registered for I_T nexuses that are no more, and their reservation: nobody hears of it. The
    /// administrator took away what they had access to.
    pub fn drop_nexuses(&mut self, which: impl Fn(NexusId) -> bool) {
        self.forget(|r| which(r.nexus));
        self.settle_holder();
    }

    // A reservation whose holder is not registered any more goes; one of all that are registered stays for the others.
    fn settle_holder(&mut self) -> Option<Type> {
        let Reservation { holder, kind } = self.reservation?;
        if self.is_registered(holder) {
            return None;
        }
        self.reservation = self
            .registrations()
            .first()
            .filter(|_| kind.is_all_registrants())
            .map(|r| Reservation {
                holder: r.nexus,
                kind,
            });
        self.reservation.is_none().then_some(kind)
    }

    fn tell_others(&self, by: NexusId, what: Asc, tell: &mut dyn FnMut(Event)) {
        for other in self.registrations().iter().filter(|r| r.nexus != by) {
            tell(Event::Attention(other.nexus, what));
        }
    }

    // SPC-4, 5.12.9
    fn reserve(&mut self, request: &Request<'_>) -> Outcome {
        let kind = request.out.reservation()?;
        match self.reservation {
            None => {
                self.reservation = Some(Reservation {
                    holder: request.nexus,
                    kind,
                });
                Ok(())
            }
            Some(held) if self.holds(request.nexus) && held.kind == kind => Ok(()),
            Some(_) => Err(Refusal::Conflict),
        }
    }

    // SPC-4, 5.12.11.2.2
    fn release(&mut self, request: &Request<'_>, tell: &mut dyn FnMut(Event)) -> Outcome {
        let kind = request.out.reservation()?;
        let Some(held) = self.reservation.filter(|_| self.holds(request.nexus)) else {
            return Ok(());
        };
        if held.kind != kind {
            return Err(Sense::INVALID_RELEASE.into());
        }
        self.reservation = None;
        if kind.admits_registrants() {
            self.tell_others(request.nexus, Asc::RESERVATIONS_RELEASED, tell);
        }
        Ok(())
    }

    // SPC-4, 5.12.11.5
    fn clear(&mut self, by: NexusId, tell: &mut dyn FnMut(Event)) {
        self.tell_others(by, Asc::RESERVATIONS_PREEMPTED, tell);
        self.reservation = None;
        self.len = 0;
    }

    // SPC-4, 5.12.11.4
    fn preempt(&mut self, request: &Request<'_>, tell: &mut dyn FnMut(Event)) -> Outcome {
        let (by, key) = (request.nexus, request.action_key);
        let aborts = request.out.action == Action::PreemptAndAbort;
        let is_victim = |r: &Registration| key == 0 || r.key == key;
        let takes_over = match self.reservation {
            Some(held) if held.kind.is_all_registrants() => key == 0,
            Some(held) => self.find(held.holder).is_some_and(|r| r.key == key),
            None => false,
        };
        if !takes_over {
            if key == 0 {
                return Err(Sense::invalid_parameter_byte(8).into());
            }
            if !self.registrations().iter().any(is_victim) {
                return Err(Refusal::Conflict);
            }
        }
        let kind = if takes_over {
            Some(request.out.reservation()?)
        } else {
            None
        };
        for victim in self.registrations().iter().filter(|r| is_victim(r)) {
            if victim.nexus != by {
                tell(Event::Attention(victim.nexus, Asc::REGISTRATIONS_PREEMPTED));
                if aborts {
                    tell(Event::Abort(victim.nexus));
                }
            }
        }
        let Some(kind) = kind else {
            // Its own registration too, if it has that key.
            self.forget(is_victim);
            self.settle_holder();
            return Ok(());
        };
        self.forget(|r| is_victim(r) && r.nexus != by);
        let before = self.reservation.replace(Reservation { holder: by, kind });
        if before.is_some_and(|held| held.kind != kind) {
            self.tell_others(by, Asc::RESERVATIONS_RELEASED, tell);
        }
        Ok(())
    }

    // SPC-4, 5.12.8
    fn register_and_move(&mut self, request: &Request<'_>) -> Outcome {
        let held = self.reservation.ok_or(Refusal::Conflict)?;
        if held.holder != request.nexus || held.kind.is_all_registrants() {
            return Err(Refusal::Conflict);
        }
        if request.action_key == 0 {
            return Err(Sense::invalid_parameter_byte(8).into());
        }
        let to = request
            .destination
            .filter(|to| *to != request.nexus)
            .ok_or(Sense::invalid_parameter_byte(24))?;
        // With UNREG the sender makes room.
        if !self.is_registered(to) && !request.unregister && self.len >= self.slots.len() {
            return Err(Sense::INSUFFICIENT_REGISTRATION_RESOURCES.into());
        }
        if request.unregister {
            self.forget(|r| r.nexus == request.nexus);
        }
        self.set(to, request.action_key, false);
        self.reservation = Some(Reservation {
            holder: to,
            kind: held.kind,
        });
        Ok(())
    }

    // SPC-4, 5.13.11.3: never a conflict. Nobody hears of it.
    fn replace_lost(&mut self, request: &Request<'_>) -> Outcome {
        if !self.lost {
            return Err(Sense::INVALID_RELEASE.into());
        }
        if request.key != 0 {
            return Err(Sense::invalid_parameter_byte(0).into());
        }
        if request.action_key == 0 {
            return Err(Sense::invalid_parameter_byte(8).into());
        }
        let kind = request.out.reservation()?;
        if self.slots.is_empty() {
            return Err(Sense::INSUFFICIENT_REGISTRATION_RESOURCES.into());
        }
        self.len = 0;
        // PRGENERATION is 0 when it has counted this.
        self.generation = u32::MAX;
        self.set(request.nexus, request.action_key, false);
        self.reservation = Some(Reservation {
            holder: request.nexus,
            kind,
        });
        self.lost = false;
        Ok(())
    }

    /// What RESERVE and RELEASE do beside registrations (SPC-4, 5.12.3).
    pub fn legacy(&self, nexus: Option<NexusId>) -> Legacy {
        if self.len == 0 {
            return Legacy::Process;
        }
        let Some(held) = self.reservation else {
            return Legacy::Conflict;
        };
        match nexus.filter(|nexus| self.is_registered(*nexus)) {
            Some(nexus) if held.kind.admits_registrants() || held.holder == nexus => Legacy::Ignore,
            _ => Legacy::Conflict,
        }
    }

    /// What `nexus` may do, which is `None` if it is not known at all.
    pub fn access(&self, nexus: Option<NexusId>) -> Access {
        let Some(held) = self.reservation else {
            return Access::ALL;
        };
        let nexus = nexus.filter(|nexus| self.is_registered(*nexus));
        let admitted =
            nexus.is_some_and(|nexus| held.holder == nexus || held.kind.admits_registrants());
        if admitted {
            Access::ALL
        } else if held.kind.is_write_exclusive() {
            Access::READ
        } else {
            Access::NEITHER
        }
    }
}

/// What becomes of RESERVE and RELEASE where persistent reservations are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Legacy {
    /// As SPC-2 says.
    Process,
    /// GOOD status, and nothing is done.
    Ignore,
    /// RESERVATION CONFLICT status.
    Conflict,
}

/// What an I_T nexus may do with a reserved logical unit: commands by their [`Reserved`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access(u8);

impl Access {
    const PERSISTENTLY: u8 = 1;
    const READS: u8 = 2;
    const WRITES: u8 = 4;
    const MANAGES: u8 = 8;

    /// Everything.
    pub const ALL: Self = Self(0x0f);
    /// Not what conflicts with a write exclusive reservation.
    pub const READ: Self = Self(Self::PERSISTENTLY | Self::READS | Self::MANAGES);
    /// Not what conflicts with an exclusive access reservation.
    pub const NEITHER: Self = Self(Self::PERSISTENTLY | Self::MANAGES);
    /// Its own reservation by RESERVE: not persistent ones beside it.
    pub const RESERVED: Self = Self(Self::PERSISTENTLY | Self::READS | Self::WRITES);
    /// Another's reservation by RESERVE.
    pub const EXCLUDED: Self = Self(0);

    /// Whether a command of that kind may be processed.
    pub const fn allows(self, what: Reserved) -> bool {
        let bit = match what {
            Reserved::Allowed | Reserved::Reserves => return true,
            Reserved::Persistently => Self::PERSISTENTLY,
            Reserved::Reads => Self::READS,
            Reserved::Writes => Self::WRITES,
            Reserved::Manages => Self::MANAGES,
        };
        self.0 & bit != 0
    }

    /// As a number, which an atomic can hold.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// From [`Self::bits`].
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }
}

#[cfg(test)]
mod tests;
