// SPDX-License-Identifier: GPL-2.0

//! Persistent reservations as SPC-4 has them in 5.12 and 6.16, and RESERVE and RELEASE as SPC-2 and SPC-4, 5.12.3 have them: sets
//! of I_T nexuses, and a rule for each service action. Slow, and without a bound.

use std::collections::{BTreeMap, BTreeSet};

/// An I_T nexus: initiator port, target port.
pub type Nexus = (u8, u8);
/// ADDITIONAL SENSE CODE and its qualifier.
pub type Code = (u8, u8);

pub const RESERVATIONS_PREEMPTED: Code = (0x2a, 0x03);
pub const RESERVATIONS_RELEASED: Code = (0x2a, 0x04);
pub const REGISTRATIONS_PREEMPTED: Code = (0x2a, 0x05);
pub const INVALID_FIELD_IN_CDB: Code = (0x24, 0x00);
pub const INVALID_FIELD_IN_PARAMETER_LIST: Code = (0x26, 0x00);
pub const RESERVATION_INFORMATION_LOST: Code = (0x44, 0x01);
pub const INVALID_RELEASE: Code = (0x26, 0x04);

/// The types that there are (SPC-4, table 165).
pub const TYPES: [u8; 6] = [1, 3, 5, 6, 7, 8];

fn registrants_only(kind: u8) -> bool {
    kind == 5 || kind == 6
}

fn all_registrants(kind: u8) -> bool {
    kind == 7 || kind == 8
}

/// A service action of PERSISTENT RESERVE OUT. A type may be any number: the CDB's decoder lets those through that may not matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Register,
    RegisterAndIgnore,
    Reserve(u8),
    Release(u8),
    Clear,
    Preempt { kind: u8, abort: bool },
    Move { unregister: bool },
    ReplaceLost(u8),
}

/// What comes with it.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    pub key: u64,
    pub action_key: u64,
    pub aptpl: bool,
    pub all_ports: bool,
    /// SPEC_I_PT with these initiator ports.
    pub listed: Option<Vec<u8>>,
    /// Where REGISTER AND MOVE moves to; no target port has the identifier where there is none.
    pub to: (u8, Option<u8>),
}

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Good,
    Conflict,
    /// CHECK CONDITION, ILLEGAL REQUEST
    Illegal(Code),
    /// CHECK CONDITION, DATA PROTECT
    Protected(Code),
}

/// What it does to others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Others {
    pub told: BTreeSet<(Nexus, Code)>,
    pub aborted: BTreeSet<Nexus>,
}

/// A registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registration {
    pub key: u64,
    pub all_ports: bool,
}

/// The logical unit.
#[derive(Clone, Debug, Default)]
pub struct Unit {
    pub registered: BTreeMap<Nexus, Registration>,
    /// The type, and who holds it alone.
    pub reserved: Option<(u8, Option<Nexus>)>,
    pub generation: u32,
    pub aptpl: bool,
    /// Who has it by RESERVE.
    pub legacy: Option<Nexus>,
    /// What was to persist is lost.
    pub lost: bool,
}

impl Unit {
    /// The I_T nexus is a persistent reservation holder (SPC-4, 5.12.10).
    pub fn holds(&self, nexus: Nexus) -> bool {
        match self.reserved {
            Some((kind, _)) if all_registrants(kind) => self.registered.contains_key(&nexus),
            Some((_, holder)) => holder == Some(nexus),
            None => false,
        }
    }

    fn tell(&self, others: &mut Others, but: Nexus, code: Code) {
        for nexus in self.registered.keys().filter(|n| **n != but) {
            others.told.insert((*nexus, code));
        }
    }

    fn unregister(&mut self, nexus: Nexus, by: Nexus, others: &mut Others) {
        let held = self.holds(nexus);
        if self.registered.remove(&nexus).is_none() || !held {
            return;
        }
        match self.reserved {
            // The reservation is there as long as somebody is registered.
            Some((kind, _)) if all_registrants(kind) => {
                if self.registered.is_empty() {
                    self.reserved = None;
                }
            }
            Some((kind, _)) => {
                self.reserved = None;
                if registrants_only(kind) {
                    self.tell(others, by, RESERVATIONS_RELEASED);
                }
            }
            None => (),
        }
    }

    fn reserve(&mut self, kind: u8, nexus: Nexus) {
        self.reserved = Some((kind, (!all_registrants(kind)).then_some(nexus)));
    }

    /// PERSISTENT RESERVE OUT on a unit with target ports `ports`.
    pub fn out(
        &mut self,
        by: Nexus,
        action: Action,
        p: &Parameters,
        ports: &[u8],
    ) -> (Status, Others) {
        let mut others = Others::default();
        let mut next = self.clone();
        let status = next.try_out(by, action, p, ports, &mut others);
        if status == Status::Good {
            *self = next;
            (status, others)
        } else {
            // What is refused changes nothing and tells nobody.
            (status, Others::default())
        }
    }

    fn try_out(
        &mut self,
        by: Nexus,
        action: Action,
        p: &Parameters,
        ports: &[u8],
        others: &mut Others,
    ) -> Status {
        // No service action for any initiator while the unit is reserved by RESERVE (SPC-2, 5.5.1).
        if self.legacy.is_some() {
            return Status::Conflict;
        }
        if let Action::ReplaceLost(kind) = action {
            return self.replace_lost(by, kind, p);
        }
        if self.lost {
            return Status::Protected(RESERVATION_INFORMATION_LOST);
        }
        let own = self.registered.get(&by).map(|r| r.key);
        match action {
            Action::ReplaceLost(_) => unreachable!(),
            Action::Register | Action::RegisterAndIgnore => {
                self.register(by, own, action, p, ports, others)
            }
            _ if own != Some(p.key) => Status::Conflict,
            Action::Reserve(kind) => match self.reserved {
                None => {
                    self.reserve(kind, by);
                    Status::Good
                }
                Some((held, _)) if self.holds(by) && held == kind => Status::Good,
                Some(_) => Status::Conflict,
            },
            Action::Release(kind) => match self.reserved {
                Some((held, _)) if self.holds(by) => {
                    if held != kind {
                        return Status::Illegal(INVALID_RELEASE);
                    }
                    self.reserved = None;
                    if registrants_only(held) || all_registrants(held) {
                        self.tell(others, by, RESERVATIONS_RELEASED);
                    }
                    Status::Good
                }
                _ => Status::Good,
            },
            Action::Clear => {
                self.tell(others, by, RESERVATIONS_PREEMPTED);
                self.registered.clear();
                self.reserved = None;
                self.count();
                Status::Good
            }
            Action::Preempt { kind, abort } => self.preempt(by, kind, abort, p.action_key, others),
            Action::Move { unregister } => self.register_and_move(by, unregister, p),
        }
    }

    fn count(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    // SPC-4, tables 61 (REGISTER) and 62 (REGISTER AND IGNORE EXISTING KEY).
    fn register(
        &mut self,
        by: Nexus,
        own: Option<u64>,
        action: Action,
        p: &Parameters,
        ports: &[u8],
        others: &mut Others,
    ) -> Status {
        if action == Action::Register && p.key != own.unwrap_or(0) {
            return Status::Conflict;
        }
        if own.is_some() && p.listed.is_some() {
            return Status::Illegal(INVALID_FIELD_IN_CDB);
        }
        let before = self.registered.len();
        // ALL_TG_PT: as if it had come through each target port by itself, where it may be refused.
        let elsewhere = ports.iter().filter(|port| p.all_ports && **port != by.1);
        for nexus in elsewhere.map(|port| (by.0, *port)) {
            let key = self.registered.get(&nexus).map_or(0, |r| r.key);
            if action == Action::RegisterAndIgnore || key == p.key {
                self.set(nexus, by, p, others);
            }
        }
        self.set(by, by, p, others);
        // SPEC_I_PT: each I_T nexus that is not registered yet, of each of the initiator ports with the target port; with ALL_TG_PT as
        // well, with each target port (SPC-4, 6.16.3: it makes the registration one for all target ports of the SCSI target device).
        for initiator in p.listed.iter().flatten() {
            for port in ports.iter().filter(|t| **t == by.1 || p.all_ports) {
                let nexus = (*initiator, *port);
                if p.action_key != 0 && !self.registered.contains_key(&nexus) {
                    self.set(nexus, by, p, others);
                }
            }
        }
        // Who was not registered, and does not ask to be: nothing is done.
        if p.action_key != 0 || self.registered.len() != before {
            self.aptpl = p.aptpl;
            self.count();
        }
        Status::Good
    }

    fn set(&mut self, nexus: Nexus, by: Nexus, p: &Parameters, others: &mut Others) {
        if p.action_key == 0 {
            return self.unregister(nexus, by, others);
        }
        let new = Registration {
            key: p.action_key,
            all_ports: p.all_ports,
        };
        self.registered.insert(nexus, new);
    }

    // SPC-4, 5.12.11.2.4 to 5.12.11.2.6 and table 69.
    fn preempt(
        &mut self,
        by: Nexus,
        kind: u8,
        abort: bool,
        key: u64,
        others: &mut Others,
    ) -> Status {
        let with_key: BTreeSet<Nexus> = self
            .registered
            .iter()
            .filter(|(_, r)| r.key == key)
            .map(|(nexus, _)| *nexus)
            .collect();
        // Who goes, and whether the reservation is preempted.
        let (gone, reservation) = match self.reserved {
            Some((held, _)) if all_registrants(held) && key == 0 => {
                (self.registered.keys().copied().collect(), true)
            }
            _ if key == 0 => return Status::Illegal(INVALID_FIELD_IN_PARAMETER_LIST),
            _ if with_key.is_empty() => return Status::Conflict,
            Some((_, Some(holder))) if with_key.contains(&holder) => (with_key, true),
            _ => (with_key, false),
        };
        if reservation && !TYPES.contains(&kind) {
            return Status::Illegal(INVALID_FIELD_IN_CDB);
        }
        for nexus in &gone {
            if *nexus == by {
                // It keeps its registration if it becomes the holder.
                if !reservation {
                    self.registered.remove(nexus);
                }
                continue;
            }
            self.registered.remove(nexus);
            others.told.insert((*nexus, REGISTRATIONS_PREEMPTED));
            if abort {
                others.aborted.insert(*nexus);
            }
        }
        if reservation {
            let old = self.reserved.map(|(held, _)| held);
            self.reserve(kind, by);
            if old != Some(kind) {
                self.tell(others, by, RESERVATIONS_RELEASED);
            }
        } else if self.registered.is_empty() {
            // All registrants held it, and there are none.
            self.reserved = None;
        }
        self.count();
        Status::Good
    }

    // SPC-4, 5.12.8.
    fn register_and_move(&mut self, by: Nexus, unregister: bool, p: &Parameters) -> Status {
        let kind = match self.reserved {
            Some((kind, Some(holder))) if holder == by => kind,
            _ => return Status::Conflict,
        };
        let (initiator, Some(target)) = p.to else {
            return Status::Illegal(INVALID_FIELD_IN_PARAMETER_LIST);
        };
        let to = (initiator, target);
        if p.action_key == 0 || to == by {
            return Status::Illegal(INVALID_FIELD_IN_PARAMETER_LIST);
        }
        let new = Registration {
            key: p.action_key,
            all_ports: false,
        };
        self.registered.insert(to, new);
        if unregister {
            self.registered.remove(&by);
        }
        self.reserve(kind, to);
        self.aptpl = p.aptpl;
        self.count();
        Status::Good
    }

    // SPC-4, 5.13.11.3: a new beginning, with one registration and its reservation.
    fn replace_lost(&mut self, by: Nexus, kind: u8, p: &Parameters) -> Status {
        if !self.lost {
            return Status::Illegal(INVALID_RELEASE);
        }
        if p.key != 0 || p.action_key == 0 {
            return Status::Illegal(INVALID_FIELD_IN_PARAMETER_LIST);
        }
        if !TYPES.contains(&kind) {
            return Status::Illegal(INVALID_FIELD_IN_CDB);
        }
        let new = Registration {
            key: p.action_key,
            all_ports: false,
        };
        *self = Self {
            registered: BTreeMap::from([(by, new)]),
            aptpl: p.aptpl,
            ..Self::default()
        };
        self.reserve(kind, by);
        Status::Good
    }

    /// RESERVE, or RELEASE: whether there is a conflict.
    pub fn legacy(&mut self, by: Nexus, release: bool) -> Status {
        if !self.registered.is_empty() {
            // The exceptions of SPC-4, 5.12.3; all else is as with SPC-2, where registrations conflict with RESERVE and RELEASE.
            let registered = self.registered.contains_key(&by);
            let without_effect = self.holds(by)
                || registered
                    && self
                        .reserved
                        .is_some_and(|(kind, _)| registrants_only(kind));
            return if without_effect {
                Status::Good
            } else {
                Status::Conflict
            };
        }
        match (self.legacy, release) {
            (Some(holder), false) if holder != by => Status::Conflict,
            (_, false) => {
                self.legacy = Some(by);
                Status::Good
            }
            (holder, true) => {
                if holder == Some(by) {
                    self.legacy = None;
                }
                Status::Good
            }
        }
    }

    /// The I_T nexus is lost: of reservations only that by RESERVE goes (SPC-2, 5.5.1; SPC-4, 5.12.1).
    pub fn nexus_lost(&mut self, nexus: Nexus) {
        if self.legacy == Some(nexus) {
            self.legacy = None;
        }
    }

    /// LOGICAL UNIT RESET
    pub fn reset(&mut self) {
        self.legacy = None;
    }

    /// `command` is not for the I_T nexus; `None` where the standards do not say.
    pub fn forbids(&self, nexus: Nexus, command: &Rule) -> Option<bool> {
        if let Some(holder) = self.legacy {
            return command.legacy.map(|allowed| holder != nexus && !allowed);
        }
        Some(self.forbids_persistently(nexus, command))
    }

    fn forbids_persistently(&self, nexus: Nexus, command: &Rule) -> bool {
        let Some((kind, _)) = self.reserved else {
            return false;
        };
        if self.holds(nexus) || registrants_only(kind) && self.registered.contains_key(&nexus) {
            return false;
        }
        match kind {
            1 | 5 | 7 => !command.write_exclusive,
            _ => !command.exclusive_access,
        }
    }
}

/// What is allowed for those who have no access (SPC-4, table 66; SBC-3, table 13; SPC-2, 5.5.1).
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// How the command's name begins.
    pub name: &'static str,
    /// Beside a reservation by RESERVE; `None` where the standards of that time do not know the command, or differ.
    pub legacy: Option<bool>,
    /// Beside Write Exclusive types.
    pub write_exclusive: bool,
    /// Beside Exclusive Access types.
    pub exclusive_access: bool,
}

macro_rules! rules {
    ($($name:literal $legacy:literal $we:literal $ea:literal;)*) => {
        /// The commands. 1: allowed, 0: conflict, 2: not said.
        pub const RULES: &[Rule] = &[$(Rule {
            name: $name,
            legacy: if $legacy == 2 { None } else { Some($legacy == 1) },
            write_exclusive: $we == 1,
            exclusive_access: $ea == 1,
        },)*];
    };
}

rules! {
    "TEST UNIT READY" 0 1 1;
    "REQUEST SENSE" 1 1 1;
    "INQUIRY" 1 1 1;
    "REPORT LUNS" 1 1 1;
    "READ CAPACITY" 2 1 1;
    "MODE SENSE" 0 1 0;
    "MODE SELECT" 0 0 0;
    "LOG SENSE" 2 1 1;
    "LOG SELECT" 0 0 0;
    "SEND DIAGNOSTIC" 0 0 0;
    "RECEIVE DIAGNOSTIC" 0 1 0;
    "READ BUFFER" 0 1 0;
    "WRITE BUFFER" 0 0 0;
    "REPORT TARGET PORT GROUPS" 2 1 1;
    "SET TARGET PORT GROUPS" 2 0 0;
    "REPORT REFERRALS" 2 1 1;
    "REPORT SUPPORTED OPERATION CODES" 2 1 0;
    "REPORT SUPPORTED TASK MANAGEMENT" 2 1 0;
    "REPORT IDENTIFYING INFORMATION" 2 1 1;
    "SET IDENTIFYING INFORMATION" 2 0 0;
    "REPORT PRIORITY" 2 1 1;
    "SET PRIORITY" 2 0 0;
    "REPORT TIMESTAMP" 2 1 1;
    "SET TIMESTAMP" 2 0 0;
    "EXTENDED COPY" 0 0 0;
    "RECEIVE COPY" 0 0 0;
    "COPY OPERATION ABORT" 2 0 0;
    "RECEIVE ROD TOKEN INFORMATION" 2 0 0;
    "REPORT ALL ROD TOKENS" 2 0 0;
    "POPULATE TOKEN" 2 1 0;
    "WRITE USING TOKEN" 2 0 0;
    // With START and without POWER CONDITION; without PREVENT.
    "START STOP UNIT, START" 2 1 1;
    "START STOP UNIT" 2 0 0;
    "PREVENT ALLOW MEDIUM REMOVAL, ALLOW" 1 1 1;
    "PREVENT ALLOW MEDIUM REMOVAL" 0 0 0;
    "READ DEFECT DATA" 2 1 0;
    "READ (" 0 1 0;
    "READ LONG" 0 1 0;
    "PRE-FETCH" 0 1 0;
    "VERIFY" 0 1 0;
    "GET LBA STATUS" 2 1 0;
    "WRITE (" 0 0 0;
    "WRITE AND VERIFY" 0 0 0;
    "WRITE ATOMIC" 2 0 0;
    "WRITE LONG" 0 0 0;
    "WRITE SAME" 0 0 0;
    "WRITE SCATTERED" 2 0 0;
    "COMPARE AND WRITE" 2 0 0;
    "ORWRITE" 2 0 0;
    "UNMAP" 2 0 0;
    "SYNCHRONIZE CACHE" 0 0 0;
    "FORMAT UNIT" 0 0 0;
    "SANITIZE" 2 0 0;
}
