// SPDX-License-Identifier: GPL-2.0

//! Commands of PERSISTENT RESERVE OUT by several I_T nexuses: the model of the fuzz target `reservations`.
//!
//! A line: initiator, port, service action, type, the two keys, ALL_TG_PT, UNREG, initiators of SPEC_I_PT (- if it is not set),
//! initiator and port to move to; then status, sense, who is told what, the registrations, the type of the reservation and the
//! key with which it is reported, PRGENERATION, and for each nexus whether it may read and write.

#[allow(dead_code)]
#[path = "../fuzz/src/model/reservations.rs"]
mod reservations;

use crate::{list, Random};

use reservations::{Action, Parameters, Status, Unit, TYPES};

const INITIATORS: u8 = 3;
const PORTS: [u8; 2] = [0, 1];

pub fn sequence(lines: u64, mut random: Random) {
    let mut unit = Unit::default();
    for _ in 0..lines {
        let by = (
            random.below(INITIATORS.into()) as u8,
            PORTS[random.below(2) as usize],
        );
        let own = unit.registered.get(&by).map_or(0, |r| r.key);
        // Mostly what is right, so that most commands do something.
        let right = if random.below(8) == 0 {
            random.below(4)
        } else {
            own
        };
        let other = random.below(5);
        let holder = unit
            .reserved
            .and_then(|(_, n)| n)
            .map(|n| unit.registered[&n].key);
        let kind = TYPES[random.below(6) as usize];
        let held = unit.reserved.map_or(kind, |(kind, _)| kind);
        let mut p = Parameters {
            key: right,
            action_key: other,
            to: (random.below(3) as u8, Some(random.below(2) as u8)),
            ..Default::default()
        };
        let (action, code, kind) = match random.below(if own == 0 { 7 } else { 16 }) {
            0..=5 => (Action::Register, 0, 0),
            6 => (Action::RegisterAndIgnore, 6, 0),
            7..=9 => (Action::Reserve(kind), 1, kind),
            10 => (Action::Release(held), 2, held),
            11 => (Action::Clear, 3, 0),
            n @ 12..=14 => {
                if n != 12 {
                    p.action_key = holder.unwrap_or(other);
                }
                let abort = n == 13;
                (Action::Preempt { kind, abort }, 4 + u8::from(abort), kind)
            }
            _ => (
                Action::Move {
                    unregister: random.below(2) == 1,
                },
                7,
                0,
            ),
        };
        p.all_ports = matches!(code, 0 | 6) && random.below(4) == 0;
        if code == 0 && random.below(4) == 0 {
            let mask = random.below(8);
            p.listed = Some(
                (0..INITIATORS)
                    .filter(|i| mask >> i & 1 == 1 && *i != by.0)
                    .collect(),
            );
        }
        let unregister = action == Action::Move { unregister: true };
        let (status, others) = unit.out(by, action, &p, &PORTS);
        let (number, sense) = match status {
            Status::Good => (0, "-".into()),
            Status::Conflict => (0x18, "-".into()),
            Status::Illegal((code, qualifier)) => (2, format!("5/{code:02x}{qualifier:02x}")),
        };
        // Those that are unregistered with the holder hear nothing of it.
        let told = others
            .told
            .iter()
            .filter(|(n, code)| {
                *code != reservations::RESERVATIONS_RELEASED || unit.registered.contains_key(n)
            })
            .map(|((i, t), (c, q))| format!("{i}.{t}:6/{c:02x}{q:02x}"));
        let registered = unit
            .registered
            .iter()
            .map(|((i, t), r)| format!("{i}.{t}:{}", r.key));
        let (kind_held, key_held) = unit.reserved.map_or((0, 0), |(kind, n)| {
            (kind, n.map_or(0, |n| unit.registered[&n].key))
        });
        let rule = |name: &str| {
            *reservations::RULES
                .iter()
                .find(|rule| rule.name == name)
                .unwrap()
        };
        let may = |name: &str, n| u8::from(unit.forbids(n, &rule(name)) == Some(false));
        let access = (0..INITIATORS)
            .flat_map(|i| PORTS.map(|t| (i, t)))
            .map(|n| format!("{}{}", may("READ (", n), may("WRITE (", n)));
        let listed = p
            .listed
            .as_ref()
            .map_or("-".into(), |l| format!("[{}]", list(l.iter())));
        println!(
            "{} {} {code} {kind} {} {} {} {} {listed} {} {} | {number} {sense} {} {} {kind_held} {key_held} {} {}",
            by.0,
            by.1,
            p.key,
            p.action_key,
            u8::from(p.all_ports),
            u8::from(unregister),
            p.to.0,
            p.to.1.unwrap_or(9),
            list(told),
            list(registered),
            unit.generation,
            list(access),
        );
    }
}
