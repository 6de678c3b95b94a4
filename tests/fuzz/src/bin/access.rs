// SPDX-License-Identifier: GPL-2.0

//! Asymmetric access: what an initiator and an administrator do to a logical unit with several ports and nexuses, as a sequence of
//! operations, against the model of `model/alua.rs` (SPC-4, 5.15.2; SBC-3, 4.25). The pure parts are put together here as the engine
//! puts them together.
// fuzz: -max_len=256

#![no_main]

use libfuzzer_sys::fuzz_target;
use lio_fuzz::{
    model::alua::{self as model, No, Segments, Unit, STATES},
    Input,
};
use lio_policy::{
    alua::{
        admit, letter, Admission, By, Change, Group, Map, Refusal, Segment, MAX_MEMBERS,
        MAX_SEGMENTS,
    },
    attention::{self, Queue},
};
use lio_scsi::{
    alua::{self, Changes, Member, State},
    cdb::{decode, Command, Features},
    lba::{Extent, Lba},
    mode::Interlock,
    opcode::TABLE,
    sense::{Asc, Key, Sense},
};
use std::sync::Once;

const ALL: Features = Features {
    dpo_fua: true,
    unmap: true,
    write_same: true,
    write_same_unmap: true,
    compare_and_write: true,
    report_opcodes: true,
    target_port_groups: true,
    set_target_port_groups: true,
    referrals: true,
    removable: true,
    sanitize: true,
    reservations: true,
    write_atomic: true,
    write_long: true,
    protection: None,
    protectable: false,
    third_party_copy: true,
    write_same_all: true,
    saves_mode: true,
};

fn no(refusal: Refusal) -> No {
    match refusal {
        Refusal::NotSupported => No::State,
        Refusal::NotAllowed => No::Who,
        Refusal::Changing => No::Now,
    }
}

fn pair(asc: Asc) -> (u8, u8) {
    (asc.code, asc.qualifier)
}

/// The unit under test.
struct Real {
    groups: Vec<(u16, Group, Option<usize>)>,
    ports: Vec<(usize, bool)>,
    nexuses: Vec<(usize, Queue)>,
}

impl Real {
    fn tell(&mut self, change: Change, but: Option<usize>) {
        let what = match change {
            Change::None => return,
            Change::Failed => Asc::ALUA_TRANSITION_FAILED,
            _ => Asc::ALUA_STATE_CHANGED,
        };
        for (n, (_, queue)) in self.nexuses.iter_mut().enumerate() {
            if Some(n) != but {
                queue.establish(what);
            }
        }
    }

    fn change(&mut self, group: usize, to: State, by: Option<usize>, slow: bool) -> Result<(), No> {
        let who = if by.is_some() {
            By::Explicit
        } else {
            By::Implicit
        };
        let g = &mut self.groups[group];
        let change = g.1.change(to, who, slow).map_err(no)?;
        if change == Change::Begun {
            g.2 = by;
        }
        self.tell(change, by);
        Ok(())
    }

    /// As admission does it: `Err` is the answer.
    fn admit(&mut self, nexus: usize, cdb: &[u8]) -> Result<Command, Sense> {
        let decoded = decode(cdb, &ALL)?;
        let (port, queue) = &mut self.nexuses[nexus];
        if let attention::Admission::Report(sense) = queue.admit(&decoded.command, Interlock::Clear)
        {
            return Err(sense);
        }
        let (group, offline) = self.ports[*port];
        let state = match offline {
            true => State::Offline,
            false => self.groups[group].1.state(),
        };
        match admit(state, decoded.descriptor.access) {
            Admission::Refuse(sense) => Err(sense),
            _ => Ok(decoded.command),
        }
    }
}

/// Any list of changes, more often one that makes sense.
fn list(input: &mut Input<'_>, groups: usize) -> Vec<u8> {
    let mut list = vec![0; 4];
    for _ in 0..input.below(4) {
        let state = match input.u8() {
            s @ 0xf0.. => s,
            s => STATES[usize::from(s) % STATES.len()],
        };
        let id = input.below(groups + 2) as u16 + 1;
        list.extend([state, 0]);
        list.extend(id.to_be_bytes());
    }
    if input.u8() > 0xf0 {
        list.pop();
    }
    list
}

/// SET TARGET PORT GROUPS in the unit under test: all or nothing.
fn set(real: &mut Real, nexus: usize, list: &[u8], slow: &[bool]) -> Result<(), Sense> {
    let changes = Changes::parse(list)?;
    for (index, change) in changes.iter().enumerate() {
        match change {
            alua::Change::Group { id, state } => {
                let found = real.groups.iter().find(|g| g.0 == id);
                let group = found.ok_or(alua::wrong_target(index))?;
                group.1.may(state, By::Explicit).map_err(|e| match e {
                    Refusal::NotSupported => alua::wrong_state(index),
                    Refusal::NotAllowed => alua::wrong_target(index),
                    Refusal::Changing => Sense::ALUA_TRANSITION,
                })?;
            }
            alua::Change::Offline { port } => {
                if usize::from(port) > real.ports.len() || port == 0 {
                    return Err(alua::wrong_target(index));
                }
            }
        }
    }
    for change in changes.iter() {
        match change {
            alua::Change::Group { id, state } => {
                let at = real.groups.iter().position(|g| g.0 == id).unwrap();
                // A list may say a thing twice: the group is changing then.
                let _ = real.change(at, state, Some(nexus), slow[at]);
            }
            alua::Change::Offline { port } => {
                real.ports[usize::from(port) - 1].1 = true;
                real.tell(Change::Done, Some(nexus));
            }
        }
    }
    Ok(())
}

/// Any text is a map or none; one that is a map reads the same again from what it shows.
fn text(input: &mut Input<'_>) {
    const WORDS: [&str; 16] = [
        "0",
        "1",
        "2",
        "64",
        "127",
        "\n",
        "\n",
        " ",
        "1:O",
        "2:S",
        "3:U",
        "1:A",
        "65536:O",
        "-1",
        "18446744073709551615",
        ":",
    ];
    let mut text = String::new();
    for _ in 0..input.below(40) {
        match input.u8() {
            n @ 0xf8.. => text.push(char::from(n & 0x7f)),
            n => {
                text += WORDS[usize::from(n) % WORDS.len()];
                text.push(' ');
            }
        }
    }
    let none = Member {
        group: 0,
        state: State::Optimized,
    };
    let (mut segments, mut members) = ([Segment::default(); MAX_SEGMENTS], [none; MAX_MEMBERS]);
    let Ok(Some(map)) = Map::parse(&text, &mut segments, &mut members) else {
        return;
    };
    let mut shown = format!("{} {}\n", map.size, map.multiplier);
    for (segment, members) in map.segments() {
        shown += &format!("{} {}", segment.first.0, segment.last.0);
        for member in members {
            shown += &format!(" {}:{}", member.group, letter(member.state));
        }
        shown += "\n";
    }
    let (mut again, mut of) = ([Segment::default(); MAX_SEGMENTS], [none; MAX_MEMBERS]);
    let second = Map::parse(&shown, &mut again, &mut of).unwrap().unwrap();
    assert_eq!(map.parts(), second.parts(), "{text:?}");
    let _ = map.check(1, Extent::new(input.number(), input.number()));
}

fn map(input: &mut Input<'_>) {
    let multiplier = [0, 0, 1, 2, 3][input.below(5)];
    let size = if multiplier == 0 {
        0
    } else {
        1 + input.below(16) as u64
    };
    let mut text = format!("{size} {multiplier}\n");
    let mut model = Segments {
        size,
        multiplier,
        list: vec![],
    };
    let mut next = 0;
    for _ in 0..1 + input.below(4) {
        let first = next + input.below(4) as u64;
        let length = 1 + input.below(20) as u64;
        let last = first + length - 1;
        next = first + if multiplier == 0 { length } else { size };
        if multiplier != 0 && next > size * multiplier {
            break;
        }
        text += &format!("{first} {last}");
        let mut members = vec![];
        for group in 1..=2u16 {
            let state = input.below(4);
            text += &format!(" {group}:{}", ['O', 'A', 'S', 'U'][state]);
            members.push((group, STATES[state]));
        }
        text += "\n";
        model.list.push((first, last, members));
    }
    let none = Member {
        group: 0,
        state: State::Optimized,
    };
    let (mut segments, mut members) = ([Segment::default(); MAX_SEGMENTS], [none; MAX_MEMBERS]);
    let parsed = Map::parse(&text, &mut segments, &mut members);
    if model.list.is_empty() {
        assert!(parsed.is_err(), "{text}");
        return;
    }
    let map = parsed.unwrap().unwrap();
    for _ in 0..4 {
        let (lba, blocks) = (input.u8().into(), input.u8().into());
        let group = input.below(4) as u16;
        let refused = match map.check(group, Extent::new(lba, blocks)) {
            Admission::Refuse(sense) => {
                assert_eq!((sense.key, sense.asc.code), (Key::NotReady, 0x04));
                Some(sense.asc.qualifier)
            }
            _ => None,
        };
        assert_eq!(
            refused,
            model.refusal(group, lba, blocks),
            "{text} {lba} {blocks}"
        );
        // Of what is reported, the first segment has the block, or is the next one.
        if let Some((segment, _)) = map.from(Lba(lba), true).next() {
            assert!(multiplier != 0 || segment.last.0 >= lba);
        }
    }
}

/// Whatever the sequence: each row of the table in each state.
fn table() {
    for row in &TABLE {
        for code in STATES {
            let refused = match admit(State::new(code).unwrap(), row.access) {
                Admission::Refuse(sense) => Some(sense.asc.qualifier),
                _ => None,
            };
            let action = row.service_action.map(|a| a as u8);
            assert_eq!(
                refused,
                model::refusal(code, row.opcode, action),
                "{} in {code:x}",
                row.name
            );
        }
    }
}

static TABLE_IS_RIGHT: Once = Once::new();

fuzz_target!(|bytes: &[u8]| {
    TABLE_IS_RIGHT.call_once(table);
    let mut input = Input::new(bytes);
    let count = 1 + input.below(4);
    let mut unit = Unit::default();
    let mut real = Real {
        groups: vec![],
        ports: vec![],
        nexuses: vec![],
    };
    for n in 0..count {
        unit.groups.push(model::Group::new(n as u16 + 1));
        real.groups.push((n as u16 + 1, Group::default(), None));
        for _ in 0..2 {
            unit.ports.push((n, false));
            real.ports.push((n, false));
        }
    }
    for n in 0..count + 2 {
        unit.nexuses.push((n % (2 * count), vec![]));
        real.nexuses.push((n % (2 * count), Queue::new()));
    }
    while !input.is_empty() {
        let group = input.below(count);
        let nexus = input.below(count + 2);
        match input.below(16) {
            0 | 1 => {
                let code = STATES[input.below(STATES.len())];
                let slow = unit.groups[group].slow;
                let to = State::new(code).unwrap();
                assert_eq!(
                    real.change(group, to, None, slow),
                    unit.change(group, code, None)
                );
            }
            2 => {
                let by = real.groups[group].2.take();
                let change = real.groups[group].1.complete();
                real.tell(change, by);
                unit.complete(group, by);
            }
            3 => unit.groups[group].slow = input.bool(),
            4 => {
                let (implicit, explicit) = (input.bool(), input.bool());
                let g = &mut unit.groups[group];
                (g.implicit, g.explicit) = (implicit, explicit);
                let access = &mut real.groups[group].1.access;
                (access.implicit, access.explicit) = (implicit, explicit);
            }
            5 => {
                let code = STATES[input.below(STATES.len())];
                let on = input.bool();
                let g = &mut unit.groups[group];
                g.supported.retain(|s| *s != code);
                if on {
                    g.supported.push(code);
                }
                let supported = &mut real.groups[group].1.supported;
                *supported = supported.with(State::new(code).unwrap(), on);
            }
            6 => {
                let (port, on) = (input.below(2 * count), input.bool());
                unit.offline(port, on, None);
                real.ports[port].1 = on;
                real.tell(Change::Done, None);
            }
            7 => {
                // A port changes its group.
                let port = input.below(2 * count);
                unit.ports[port].0 = group;
                real.ports[port].0 = group;
            }
            8 if input.bool() => text(&mut input),
            8 => map(&mut input),
            9 => {
                // Cut the nexus, and make it again.
                unit.nexuses[nexus].1.clear();
                real.nexuses[nexus].1.clear_all();
            }
            kind => {
                let list = list(&mut input, count);
                let set_cdb = [0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, list.len() as u8, 0, 0];
                let cdb: &[u8] = match kind {
                    10 => &[0; 6],
                    11 => &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0],
                    12 => &[0x12, 0, 0, 0, 96, 0],
                    13 => &[0x1a, 0, 0x3f, 0, 255, 0],
                    _ => &set_cdb,
                };
                let action = (cdb[0] == 0xa4).then_some(0x0a);
                if kind == 15 {
                    // REQUEST SENSE took what waited.
                    while let Some(sense) = real.nexuses[nexus].1.take() {
                        assert_eq!(pair(sense.asc), unit.nexuses[nexus].1.remove(0));
                    }
                    assert!(unit.nexuses[nexus].1.is_empty());
                }
                let waiting = &mut unit.nexuses[nexus].1;
                let expected = if cdb[0] != 0x12 && !waiting.is_empty() {
                    let (code, qualifier) = waiting.remove(0);
                    Err((6, code, qualifier))
                } else if let Some(q) = model::refusal(unit.seen(nexus), cdb[0], action) {
                    Err((2, 0x04, q))
                } else if action.is_some() {
                    unit.set(nexus, &list)
                } else {
                    Ok(())
                };
                let slow: Vec<bool> = unit.groups.iter().map(|g| g.slow).collect();
                let got = real.admit(nexus, cdb).and_then(|command| match command {
                    Command::SetTargetPortGroups { list_length } => {
                        assert_eq!(list_length as usize, list.len());
                        set(&mut real, nexus, &list, &slow)
                    }
                    _ => Ok(()),
                });
                let got = got.map_err(|s| (s.key as u8, s.asc.code, s.asc.qualifier));
                assert_eq!(got, expected, "{cdb:02x?} {list:02x?} {unit:?}");
            }
        }
        for (g, (id, real, _)) in unit.groups.iter().zip(&real.groups) {
            assert_eq!((g.id, g.state), (*id, real.state() as u8));
            assert_eq!(g.status, real.status as u8);
            assert_eq!(g.whither.is_some(), real.is_changing());
        }
        for ((_, waiting), (_, queue)) in unit.nexuses.iter().zip(&real.nexuses) {
            assert!(queue.pending().map(pair).eq(waiting.iter().copied()));
        }
    }
});
