// SPDX-License-Identifier: GPL-2.0

//! Persistent reservations as the tables of SPC-4 have them: 5.12 in prose, table 71 (registering), table 74 (releasing),
//! table 76 (preempting), table 66 (commands). Written apart from the code; slow and simple.

use std::collections::{BTreeMap, BTreeSet};

/// An I_T nexus.
pub type Nexus = u32;

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Good,
    Conflict,
    /// CHECK CONDITION: additional sense code and qualifier.
    Check(u8, u8),
}

const INVALID_FIELD_IN_CDB: Answer = Answer::Check(0x24, 0x00);
const INVALID_FIELD_IN_LIST: Answer = Answer::Check(0x26, 0x00);
const INVALID_RELEASE: Answer = Answer::Check(0x26, 0x04);
const LOST: Answer = Answer::Check(0x44, 0x01);
const NO_REGISTRATION_RESOURCES: Answer = Answer::Check(0x55, 0x04);

pub const RESERVATIONS_PREEMPTED: (u8, u8) = (0x2a, 0x03);
pub const RESERVATIONS_RELEASED: (u8, u8) = (0x2a, 0x04);
pub const REGISTRATIONS_PREEMPTED: (u8, u8) = (0x2a, 0x05);

/// A PERSISTENT RESERVE OUT command: numbers as they are on the wire.
#[derive(Clone, Debug)]
pub struct Out {
    pub action: u8,
    pub scope: u8,
    pub kind: u8,
    pub from: Nexus,
    pub key: u64,
    pub action_key: u64,
    pub all_ports: bool,
    pub unregister: bool,
    /// The initiator's nexuses with other ports.
    pub ports: Vec<Nexus>,
    pub specified: Option<Vec<Nexus>>,
    pub destination: Option<Nexus>,
}

#[derive(Clone, Debug)]
pub struct Unit {
    /// Keys of the registered.
    pub keys: BTreeMap<Nexus, u64>,
    /// Type; and the holder, for types that have one.
    pub reservation: Option<(u8, Nexus)>,
    pub generation: u32,
    pub room: usize,
    /// 5.13.5.3.2: a recoverable lost persistent reservation condition.
    pub lost: bool,
    /// Unit attentions of the last command.
    pub attentions: BTreeSet<(Nexus, (u8, u8))>,
    /// Whose commands the last command aborts.
    pub aborted: BTreeSet<Nexus>,
}

fn all_registrants(kind: u8) -> bool {
    kind == 7 || kind == 8
}

fn registrants_only(kind: u8) -> bool {
    kind == 5 || kind == 6
}

impl Unit {
    pub fn new(room: usize) -> Self {
        Self {
            keys: BTreeMap::new(),
            reservation: None,
            generation: 0,
            room,
            lost: false,
            attentions: BTreeSet::new(),
            aborted: BTreeSet::new(),
        }
    }

    fn key(&self, nexus: Nexus) -> u64 {
        self.keys.get(&nexus).copied().unwrap_or(0)
    }

    /// 5.12.10: who holds the reservation.
    pub fn holders(&self) -> BTreeSet<Nexus> {
        match self.reservation {
            None => BTreeSet::new(),
            Some((kind, _)) if all_registrants(kind) => self.keys.keys().copied().collect(),
            Some((_, holder)) => BTreeSet::from([holder]),
        }
    }

    fn attend_all_but(&mut self, but: Nexus, what: (u8, u8)) {
        for nexus in self.keys.keys() {
            if *nexus != but {
                self.attentions.insert((*nexus, what));
            }
        }
    }

    /// The administrator took a nexus away, which nobody hears of.
    pub fn vanish(&mut self, nexus: Nexus) {
        self.attentions.clear();
        self.aborted.clear();
        let held = self.holders().contains(&nexus);
        self.keys.remove(&nexus);
        let Some((kind, _)) = self.reservation else {
            return;
        };
        if all_registrants(kind) {
            if self.keys.is_empty() {
                self.reservation = None;
            }
        } else if held {
            self.reservation = None;
        }
    }

    pub fn out(&mut self, out: &Out) -> Answer {
        let mut after = self.clone();
        after.attentions.clear();
        after.aborted.clear();
        let answer = after.perform(out);
        if answer == Answer::Good {
            // Not to be registered, which it was not: nothing is done.
            let nothing =
                [0, 6].contains(&out.action) && out.action_key == 0 && after.keys == self.keys;
            if out.action == 8 {
                after.generation = 0;
            } else if ![1, 2].contains(&out.action) && !nothing {
                after.generation = after.generation.wrapping_add(1);
            }
            *self = after;
        } else {
            self.attentions.clear();
            self.aborted.clear();
        }
        answer
    }

    fn perform(&mut self, out: &Out) -> Answer {
        match out.action {
            8 => self.replace(out),
            _ if self.lost => LOST,
            0 | 6 => self.register(out),
            _ if self.key(out.from) == 0 || self.key(out.from) != out.key => Answer::Conflict,
            1 => self.reserve(out),
            2 => self.release(out),
            3 => {
                self.attend_all_but(out.from, RESERVATIONS_PREEMPTED);
                self.keys.clear();
                self.reservation = None;
                Answer::Good
            }
            4 | 5 => self.preempt(out),
            _ => self.transfer(out),
        }
    }

    fn register(&mut self, out: &Out) -> Answer {
        let before = self.key(out.from);
        if out.action == 0 && before != out.key {
            return Answer::Conflict;
        }
        let mut wanted = BTreeSet::from([out.from]);
        if out.all_ports {
            for port in &out.ports {
                // Through its own port, REGISTER with this key would be refused.
                if out.action == 6 || self.key(*port) == before {
                    wanted.insert(*port);
                }
            }
        }
        if let Some(others) = &out.specified {
            if out.action == 0 && before != 0 {
                return INVALID_FIELD_IN_CDB;
            }
            if out.action_key != 0 {
                wanted.extend(others.iter().filter(|nexus| self.key(**nexus) == 0));
            }
        }
        if out.action_key == 0 {
            // All at once: only those that stay registered can hear of it.
            let held = !self.holders().is_disjoint(&wanted);
            self.keys.retain(|nexus, _| !wanted.contains(nexus));
            if let Some((kind, _)) = self.reservation {
                let ends = if all_registrants(kind) {
                    self.keys.is_empty()
                } else {
                    held
                };
                if ends {
                    self.reservation = None;
                    if registrants_only(kind) {
                        self.attend_all_but(out.from, RESERVATIONS_RELEASED);
                    }
                }
            }
            return Answer::Good;
        }
        for nexus in wanted {
            self.keys.insert(nexus, out.action_key);
        }
        if self.keys.len() > self.room {
            return NO_REGISTRATION_RESOURCES;
        }
        Answer::Good
    }

    fn reserve(&mut self, out: &Out) -> Answer {
        if out.scope != 0 || ![1, 3, 5, 6, 7, 8].contains(&out.kind) {
            return INVALID_FIELD_IN_CDB;
        }
        match self.reservation {
            None => self.reservation = Some((out.kind, out.from)),
            Some((kind, _)) if kind != out.kind || !self.holders().contains(&out.from) => {
                return Answer::Conflict;
            }
            Some(_) => {}
        }
        Answer::Good
    }

    fn release(&mut self, out: &Out) -> Answer {
        if out.scope != 0 || ![1, 3, 5, 6, 7, 8].contains(&out.kind) {
            return INVALID_FIELD_IN_CDB;
        }
        if !self.holders().contains(&out.from) {
            return Answer::Good;
        }
        if self.reservation.map(|(kind, _)| kind) != Some(out.kind) {
            return INVALID_RELEASE;
        }
        self.reservation = None;
        if registrants_only(out.kind) || all_registrants(out.kind) {
            self.attend_all_but(out.from, RESERVATIONS_RELEASED);
        }
        Answer::Good
    }

    /// Table 76.
    fn preempt(&mut self, out: &Out) -> Answer {
        let with_key: BTreeSet<Nexus> = self
            .keys
            .iter()
            .filter(|(_, key)| **key == out.action_key)
            .map(|(nexus, _)| *nexus)
            .collect();
        let preempts = match self.reservation {
            None => false,
            Some((kind, _)) if all_registrants(kind) => out.action_key == 0,
            Some((_, holder)) => self.key(holder) == out.action_key,
        };
        if preempts {
            if out.scope != 0 || ![1, 3, 5, 6, 7, 8].contains(&out.kind) {
                return INVALID_FIELD_IN_CDB;
            }
        } else if out.action_key == 0 {
            return INVALID_FIELD_IN_LIST;
        } else if with_key.is_empty() {
            return Answer::Conflict;
        }
        let mut lose: BTreeSet<Nexus> = if out.action_key == 0 {
            self.keys.keys().copied().collect()
        } else {
            with_key
        };
        if preempts {
            lose.remove(&out.from);
        }
        let old = self.reservation;
        for nexus in &lose {
            self.keys.remove(nexus);
            if *nexus != out.from {
                self.attentions.insert((*nexus, REGISTRATIONS_PREEMPTED));
                if out.action == 5 {
                    self.aborted.insert(*nexus);
                }
            }
        }
        if preempts {
            self.reservation = Some((out.kind, out.from));
            if old.map(|(kind, _)| kind) != Some(out.kind) {
                self.attend_all_but(out.from, RESERVATIONS_RELEASED);
            }
        } else if self.keys.is_empty() && old.is_some_and(|(kind, _)| all_registrants(kind)) {
            self.reservation = None;
        }
        Answer::Good
    }

    /// REPLACE LOST RESERVATION: 5.13.11.3.
    fn replace(&mut self, out: &Out) -> Answer {
        if !self.lost {
            return INVALID_RELEASE;
        }
        if out.key != 0 || out.action_key == 0 {
            return INVALID_FIELD_IN_LIST;
        }
        if out.scope != 0 || ![1, 3, 5, 6, 7, 8].contains(&out.kind) {
            return INVALID_FIELD_IN_CDB;
        }
        self.keys = BTreeMap::from([(out.from, out.action_key)]);
        self.reservation = Some((out.kind, out.from));
        self.lost = false;
        Answer::Good
    }

    /// REGISTER AND MOVE: 5.12.8.
    fn transfer(&mut self, out: &Out) -> Answer {
        match self.reservation {
            Some((kind, holder)) if holder == out.from && !all_registrants(kind) => {}
            _ => return Answer::Conflict,
        }
        if out.action_key == 0 {
            return INVALID_FIELD_IN_LIST;
        }
        let Some(to) = out.destination.filter(|to| *to != out.from) else {
            return INVALID_FIELD_IN_LIST;
        };
        self.keys.insert(to, out.action_key);
        if out.unregister {
            self.keys.remove(&out.from);
        }
        if self.keys.len() > self.room {
            return NO_REGISTRATION_RESOURCES;
        }
        self.reservation = self.reservation.map(|(kind, _)| (kind, to));
        Answer::Good
    }

    /// The columns of table 66 and its like: whether a command with these cells is processed for `nexus`.
    pub fn allows(&self, nexus: Nexus, cells: Cells) -> bool {
        let Some((kind, _)) = self.reservation else {
            return true;
        };
        if self.holders().contains(&nexus) {
            return true;
        }
        let registered = self.keys.contains_key(&nexus);
        match kind {
            1 => cells.any[0],
            3 => cells.any[1],
            _ if registered => cells.registered,
            5 | 7 => cells.unregistered[0],
            _ => cells.unregistered[1],
        }
    }

    /// RESERVE and RELEASE (5.12.3): `None` as SPC-2 has it; otherwise whether they end with GOOD, doing nothing.
    pub fn legacy(&self, nexus: Nexus) -> Option<bool> {
        if self.keys.is_empty() {
            return None;
        }
        let registered = self.keys.contains_key(&nexus);
        let ignored = self.reservation.is_some_and(|(kind, _)| {
            registered && (registrants_only(kind) || all_registrants(kind))
        });
        Some(ignored || self.holders().contains(&nexus))
    }
}

/// A row of table 66 of SPC-4 or table 13 of SBC-3: whether the command is allowed. Each pair is for write exclusive and
/// exclusive access.
#[derive(Clone, Copy, Debug)]
pub struct Cells {
    /// WE and EA, from any nexus.
    pub any: [bool; 2],
    /// All other types, from a registered nexus.
    pub registered: bool,
    /// Registrants only and all registrants, from others.
    pub unregistered: [bool; 2],
}

const ALLOWED: Cells = Cells {
    any: [true, true],
    registered: true,
    unregistered: [true, true],
};
const READS: Cells = Cells {
    any: [true, false],
    registered: true,
    unregistered: [true, false],
};
const CONFLICT: Cells = Cells {
    any: [false, false],
    registered: true,
    unregistered: [false, false],
};

/// The rows by operation code and service action, with whether a reservation by RESERVE of another initiator lets the command
/// through (SPC-2, table 10; SBC, table 4).
pub const COMMANDS: &[(u8, Option<u16>, Cells, bool)] = &[
    (0x00, None, ALLOWED, false),
    (0x03, None, ALLOWED, true),
    (0x08, None, READS, false),
    (0x0a, None, CONFLICT, false),
    (0x12, None, ALLOWED, true),
    (0x1a, None, READS, false),
    (0x25, None, ALLOWED, false),
    (0x28, None, READS, false),
    (0x2a, None, CONFLICT, false),
    (0x2f, None, READS, false),
    (0x35, None, CONFLICT, false),
    (0x41, None, CONFLICT, false),
    (0x42, None, CONFLICT, false),
    (0x5a, None, READS, false),
    (0x5e, Some(0), ALLOWED, false),
    (0x5e, Some(1), ALLOWED, false),
    (0x5e, Some(2), ALLOWED, false),
    (0x5e, Some(3), ALLOWED, false),
    (0x88, None, READS, false),
    (0x89, None, CONFLICT, false),
    (0x8a, None, CONFLICT, false),
    (0x8f, None, READS, false),
    (0x91, None, CONFLICT, false),
    (0x93, None, CONFLICT, false),
    (0x9e, Some(0x10), ALLOWED, false),
    (0xa0, None, ALLOWED, true),
    (0xa3, Some(0x0a), ALLOWED, false),
    (0xa3, Some(0x0c), READS, false),
    (0xa8, None, READS, false),
    (0xaa, None, CONFLICT, false),
];
