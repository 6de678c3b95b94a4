// SPDX-License-Identifier: GPL-2.0

//! Persistent reservations as a sequence of commands by several I_T nexuses, against a model (SPC-4, 5.12); and what each row of the
//! table of commands says of them (SPC-4, table 66; SBC-3, table 13; SPC-2, 5.5.1).
// fuzz: -max_len=512

#![no_main]

use libfuzzer_sys::fuzz_target;
use lio_fuzz::{
    model::reservations::{self as model, Others, Rule, Status, Unit},
    Input,
};
use lio_policy::pr::{Access, Event, Legacy, NexusId, Refusal, Registration, Request, State};
use lio_scsi::{
    cdb::{decode, Features},
    opcode::TABLE,
    pr::{Action, Out, Reserved},
    sense::{Key, Sense},
};
use std::{
    cell::RefCell,
    collections::{BTreeSet, HashSet},
    sync::LazyLock,
};

const INITIATORS: u8 = 4;
const PORTS: [u8; 3] = [0, 1, 2];
/// More than there are I_T nexuses, and fewer.
const ROOM: [usize; 4] = [16, 12, 5, 2];

fn id(nexus: model::Nexus) -> NexusId {
    NexusId(u32::from(nexus.0) * 8 + u32::from(nexus.1))
}

fn nexus(id: NexusId) -> model::Nexus {
    ((id.0 / 8) as u8, (id.0 % 8) as u8)
}

fn everybody() -> impl Iterator<Item = model::Nexus> {
    (0..INITIATORS).flat_map(|i| PORTS.map(|t| (i, t)))
}

const NO_ROOM: model::Code = (0x55, 0x04);

fn status(outcome: Result<(), Refusal>) -> Status {
    let illegal = |sense: Sense| {
        let code = (sense.asc.code, sense.asc.qualifier);
        match sense.key {
            Key::IllegalRequest => Status::Illegal(code),
            Key::DataProtect => Status::Protected(code),
            key => panic!("{key:?}"),
        }
    };
    match outcome {
        Ok(()) => Status::Good,
        Err(Refusal::Conflict) => Status::Conflict,
        Err(Refusal::Sense(sense)) => illegal(sense),
    }
}

/// A key: one that somebody has, as often as not.
fn key(input: &mut Input<'_>, unit: &Unit, by: model::Nexus) -> u64 {
    match input.below(8) {
        0 => 0,
        n @ 1..=3 => n as u64,
        4 => unit
            .reserved
            .and_then(|(_, holder)| holder)
            .map_or(0, |n| unit.registered[&n].key),
        _ => unit.registered.get(&by).map_or(0, |r| r.key),
    }
}

fn kind(input: &mut Input<'_>) -> u8 {
    model::TYPES[input.below(6)]
}

fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut slots = [Registration::default(); 16];
    let room = ROOM[input.below(4)];
    let mut state = State::new(&mut slots[..room], 0, None, 0);
    let mut unit = Unit::default();
    while !input.is_empty() {
        let by = (input.below(INITIATORS.into()) as u8, PORTS[input.below(3)]);
        let mut p = model::Parameters {
            key: key(&mut input, &unit, by),
            action_key: key(&mut input, &unit, by),
            ..Default::default()
        };
        // What was to persist is found lost, now and then.
        unit.lost |= input.below(64) == 63;
        state = state.with_loss(unit.lost);
        let (action, code, held) = match input.below(13) {
            0..=2 => (model::Action::Register, Action::Register, 0),
            3 => (
                model::Action::RegisterAndIgnore,
                Action::RegisterAndIgnore,
                0,
            ),
            4 | 5 => {
                let kind = kind(&mut input);
                (model::Action::Reserve(kind), Action::Reserve, kind)
            }
            6 => {
                let kind = match unit.reserved {
                    Some((kind, _)) if input.bool() => kind,
                    _ => kind(&mut input),
                };
                (model::Action::Release(kind), Action::Release, kind)
            }
            7 => (model::Action::Clear, Action::Clear, 0),
            n @ 8..=10 => {
                let abort = n == 10;
                let code = if abort {
                    Action::PreemptAndAbort
                } else {
                    Action::Preempt
                };
                let kind = if input.below(8) == 0 {
                    2
                } else {
                    kind(&mut input)
                };
                (model::Action::Preempt { kind, abort }, code, kind)
            }
            12 => {
                let kind = if input.below(8) == 0 {
                    2
                } else {
                    kind(&mut input)
                };
                (model::Action::ReplaceLost(kind), Action::ReplaceLost, kind)
            }
            _ => {
                let unregister = input.bool();
                (
                    model::Action::Move { unregister },
                    Action::RegisterAndMove,
                    0,
                )
            }
        };
        let flags = input.u8();
        let registers = matches!(code, Action::Register | Action::RegisterAndIgnore);
        p.all_ports = registers && flags & 3 == 3;
        p.to = (
            input.below(INITIATORS.into()) as u8,
            (flags & 0x30 != 0).then_some(PORTS[input.below(3)]),
        );
        if code == Action::Register && flags & 0x0c == 0x0c {
            // Each once, and never the sender itself: the caller sees to that.
            let listed = (0..INITIATORS).filter(|i| flags >> 4 & 1 << i != 0 && *i != by.0);
            p.listed = Some(listed.collect());
        }
        let ports: Vec<NexusId> = PORTS
            .iter()
            .filter(|port| **port != by.1)
            .map(|port| id((by.0, *port)))
            .collect();
        let specified: Option<Vec<NexusId>> = p.listed.as_ref().map(|listed| {
            let ports = PORTS.iter().filter(|t| **t == by.1 || p.all_ports);
            ports
                .flat_map(|t| listed.iter().map(|i| id((*i, *t))))
                .collect()
        });
        let request = Request {
            out: Out {
                action: code,
                scope: 0,
                kind: held,
            },
            nexus: id(by),
            key: p.key,
            action_key: p.action_key,
            all_ports: p.all_ports,
            unregister: action == model::Action::Move { unregister: true },
            ports: &ports,
            specified: specified.as_deref(),
            destination: p.to.1.map(|port| id((p.to.0, port))),
        };
        let mut others = Others::default();
        let before = (
            state.registrations().to_vec(),
            state.reservation(),
            state.generation(),
        );
        let outcome = status(state.perform(&request, &mut |event| match event {
            Event::Attention(to, what) => {
                others.told.insert((nexus(to), (what.code, what.qualifier)));
            }
            Event::Abort(of) => {
                others.aborted.insert(nexus(of));
            }
        }));
        if outcome == Status::Illegal(NO_ROOM) {
            // Only where the model does not get by with the room; and nothing has happened.
            let mut more = unit.clone();
            assert_eq!(more.out(by, action, &p, &PORTS).0, Status::Good);
            assert!(more.registered.len() > room, "{p:?} {more:?}");
        } else {
            let (expected, mut told) = unit.out(by, action, &p, &PORTS);
            assert_eq!(outcome, expected, "{by:?} {action:?} {p:?} {unit:?}");
            // While several registrations go one after the other, those to go later may hear of it.
            let here = |(n, code): &(model::Nexus, model::Code)| {
                *code != model::RESERVATIONS_RELEASED || unit.registered.contains_key(n)
            };
            told.told.retain(here);
            others.told.retain(here);
            assert_eq!(others, told, "{by:?} {action:?} {p:?} {unit:?}");
            assert!(unit.registered.len() <= room);
        }
        if outcome != Status::Good {
            let after = (
                state.registrations().to_vec(),
                state.reservation(),
                state.generation(),
            );
            assert_eq!(before, after, "refused, and changed");
            assert_eq!(others, Others::default());
        }
        compare(&state, &unit);
    }
}

fn compare(state: &State<'_>, unit: &Unit) {
    let registered: BTreeSet<_> = state
        .registrations()
        .iter()
        .map(|r| (nexus(r.nexus), r.key, r.all_ports))
        .collect();
    assert_eq!(registered.len(), state.registrations().len());
    let expected = unit.registered.iter();
    assert!(
        registered
            .iter()
            .copied()
            .eq(expected.map(|(n, r)| (*n, r.key, r.all_ports))),
        "{registered:?} {unit:?}"
    );
    assert_eq!(state.generation(), unit.generation);
    assert_eq!(state.is_lost(), unit.lost);
    assert_eq!(
        state.reservation().map(|r| r.kind as u8),
        unit.reserved.map(|(kind, _)| kind)
    );
    let mut of_model = unit.clone();
    for who in everybody() {
        assert_eq!(state.holds(id(who)), unit.holds(who), "{who:?} {unit:?}");
        let legacy = match state.legacy(Some(id(who))) {
            Legacy::Process => {
                assert!(unit.registered.is_empty());
                continue;
            }
            Legacy::Ignore => Status::Good,
            Legacy::Conflict => Status::Conflict,
        };
        // With registrations, neither changes anything.
        assert_eq!(of_model.legacy(who, false), legacy, "{who:?} {unit:?}");
        assert_eq!(of_model.legacy(who, true), legacy, "{who:?} {unit:?}");
    }
    commands(|who| state.access(Some(id(who))), unit);
    // The same beside a reservation by RESERVE, of which the policy keeps no state.
    if unit.registered.is_empty() {
        let holder = (0, 0);
        let mut reserved = unit.clone();
        assert_eq!(reserved.legacy(holder, false), Status::Good);
        let access = |who| {
            if who == holder {
                Access::RESERVED
            } else {
                Access::EXCLUDED
            }
        };
        commands(access, &reserved);
    }
}

/// A command, what the code says that reservations do to it, and the model's rule; `None` where the model has another way.
struct Row {
    name: &'static str,
    reserved: Reserved,
    rule: Option<&'static Rule>,
}

/// Each row of the table, and commands of which a field counts: looked up once.
static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| {
    let rule = |name: &str| model::RULES.iter().find(|rule| name.starts_with(rule.name));
    let mut rows: Vec<Row> = TABLE
        .iter()
        .map(|row| Row {
            name: row.name,
            reserved: row.reservations,
            rule: rule(row.name),
        })
        .collect();
    for row in &rows {
        let name = row.name;
        if name.starts_with("PERSISTENT RESERVE") {
            assert_eq!(row.reserved, Reserved::Manages);
        } else if name.starts_with("RESERVE (") || name.starts_with("RELEASE (") {
            assert_eq!(row.reserved, Reserved::Reserves);
        } else {
            assert!(row.rule.is_some(), "the model does not know {name}");
        }
    }
    let removable = Features {
        removable: true,
        ..Default::default()
    };
    for (cdb, name) in [
        ([0x1b, 0, 0, 0, 0x01, 0], "START STOP UNIT, START"),
        ([0x1b, 0, 0, 0, 0x03, 0], "START STOP UNIT, START"),
        ([0x1b, 0, 0, 0, 0x00, 0], "START STOP UNIT"),
        ([0x1b, 0, 0, 0, 0x02, 0], "START STOP UNIT"),
        ([0x1b, 0, 0, 0, 0x11, 0], "START STOP UNIT"),
        ([0x1e, 0, 0, 0, 0, 0], "PREVENT ALLOW MEDIUM REMOVAL, ALLOW"),
        ([0x1e, 0, 0, 0, 1, 0], "PREVENT ALLOW MEDIUM REMOVAL"),
    ] {
        let decoded = decode(&cdb, &removable).unwrap();
        rows.push(Row {
            name,
            reserved: decoded.command.reserved(decoded.descriptor.reservations),
            rule: model::RULES.iter().find(|rule| rule.name == name),
        });
    }
    rows
});

/// All on which it depends what an I_T nexus may do: what the code says of it, and what the model has.
type Case = (u8, Option<bool>, Option<u8>, bool, bool);

thread_local! {
    /// The cases that were compared already, row by row.
    static KNOWN: RefCell<HashSet<Case>> = RefCell::default();
}

/// Each row of the table is what the standard's tables say.
fn commands(access: impl Fn(model::Nexus) -> Access, unit: &Unit) {
    for who in everybody() {
        let access = access(who);
        let case = (
            access.bits(),
            unit.legacy.map(|holder| holder == who),
            unit.reserved.map(|(kind, _)| kind),
            unit.holds(who),
            unit.registered.contains_key(&who),
        );
        if !KNOWN.with_borrow_mut(|known| known.insert(case)) {
            continue;
        }
        for Row {
            name,
            reserved,
            rule,
        } in ROWS.iter()
        {
            let forbidden = !access.allows(*reserved);
            match (reserved, rule) {
                (Reserved::Manages, _) => assert_eq!(forbidden, unit.legacy.is_some(), "{name}"),
                (_, Some(rule)) => {
                    if let Some(expected) = unit.forbids(who, rule) {
                        assert_eq!(forbidden, expected, "{who:?} {name} {unit:?}");
                    }
                }
                _ => (),
            }
        }
    }
}

fuzz_target!(|input: &[u8]| run(input));
