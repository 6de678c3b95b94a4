// SPDX-License-Identifier: GPL-2.0

//! Persistent reservations of a logical unit as a sequence of commands of several I_T nexuses, against the model of the standard's
//! tables; and parameter lists of any bytes.
// fuzz: -max_len=512

#![no_main]

use libfuzzer_sys::fuzz_target;
use lio_fuzz::{
    model::pr::{self as model, Answer, Unit},
    written, Input,
};
use lio_policy::pr::{
    is_whole, Access, Event, Kept, Legacy, NexusId, Refusal, Registration, Request, Reservation,
    State,
};
use lio_scsi::{
    opcode::TABLE,
    pr::{Action, Out, Parameters, Reserved, TransportId, Type},
};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

const ACTIONS: [Action; 9] = [
    Action::Register,
    Action::Reserve,
    Action::Release,
    Action::Clear,
    Action::Preempt,
    Action::PreemptAndAbort,
    Action::RegisterAndIgnore,
    Action::RegisterAndMove,
    Action::ReplaceLost,
];

/// Four initiators with two ports each.
const NEXUSES: usize = 8;

fn command(input: &mut Input<'_>, unit: &Unit) -> model::Out {
    let from = input.below(NEXUSES) as u32;
    let own = unit.keys.get(&from).copied().unwrap_or(0);
    let choice = input.u8();
    let key = match choice & 3 {
        0 => u64::from(choice >> 6),
        _ => own,
    };
    let action_key = u64::from(input.u8() % 4);
    let kind = input.u8();
    let flags = input.u8();
    let specified = (flags & 0xc0 == 0xc0).then(|| {
        let mut list = Vec::new();
        for _ in 0..input.below(4) {
            let nexus = input.below(NEXUSES) as u32;
            // As the engine looks them up: each once, not the sender's.
            if nexus != from && (flags & 1 == 0 || nexus != from ^ 1) && !list.contains(&nexus) {
                list.push(nexus);
            }
        }
        list
    });
    let action = match input.u8() {
        248.. => 8,
        n => n % 8,
    };
    model::Out {
        action,
        scope: u8::from(kind >= 0xf8),
        kind: [1, 3, 5, 6, 7, 8, 1, 5, 7, 0, 2, 4, 9, 15][usize::from(kind) % 14],
        from,
        key,
        action_key,
        all_ports: flags & 1 != 0,
        unregister: flags & 2 != 0,
        ports: vec![from ^ 1],
        // The parser takes it with REGISTER only.
        specified: specified.filter(|_| action == 0),
        destination: (flags & 4 == 0).then(|| input.below(NEXUSES) as u32),
    }
}

fn perform(state: &mut State<'_>, out: &model::Out) -> (Answer, Vec<Event>) {
    let ids = |list: &[u32]| list.iter().map(|n| NexusId(*n)).collect::<Vec<_>>();
    let (ports, specified) = (ids(&out.ports), out.specified.as_deref().map(ids));
    let request = Request {
        out: Out {
            action: ACTIONS[usize::from(out.action)],
            scope: out.scope,
            kind: out.kind,
        },
        nexus: NexusId(out.from),
        key: out.key,
        action_key: out.action_key,
        all_ports: out.all_ports,
        unregister: out.unregister,
        ports: &ports,
        specified: specified.as_deref(),
        destination: out.destination.map(NexusId),
    };
    let mut events = Vec::new();
    let answer = match state.perform(&request, &mut |event| events.push(event)) {
        Ok(()) => Answer::Good,
        Err(Refusal::Conflict) => Answer::Conflict,
        Err(Refusal::Sense(sense)) => Answer::Check(sense.asc.code, sense.asc.qualifier),
    };
    (answer, events)
}

/// What the table says of each command of the model: looked up once.
static ROWS: LazyLock<Vec<Reserved>> = LazyLock::new(|| {
    let row = |(opcode, action, ..): &(u8, _, _, _)| {
        let mut rows = TABLE.iter();
        let row = rows.find(|r| r.opcode == *opcode && r.service_action == *action);
        row.expect("a command that is not there").reservations
    };
    model::COMMANDS.iter().map(row).collect()
});

/// All on which it depends what an I_T nexus may do: what the code says of it, and what the model has.
type Case = (u8, Option<u8>, bool, bool);

thread_local! {
    /// The cases that were compared already, command by command.
    static KNOWN: RefCell<BTreeSet<Case>> = RefCell::default();
}

fn compare(state: &State<'_>, unit: &Unit) {
    let keys: BTreeMap<u32, u64> = state
        .registrations()
        .iter()
        .map(|r| (r.nexus.0, r.key))
        .collect();
    assert_eq!(keys.len(), state.registrations().len(), "registered twice");
    assert_eq!(keys, unit.keys);
    assert_eq!(state.generation(), unit.generation);
    assert_eq!(
        state.reservation().map(|r| r.kind as u8),
        unit.reservation.map(|(kind, _)| kind)
    );
    let holders: BTreeSet<u32> = (0..NEXUSES as u32)
        .filter(|n| state.holds(NexusId(*n)))
        .collect();
    assert_eq!(holders, unit.holders());
    assert_eq!(state.is_lost(), unit.lost);
    if let Some(held) = state.reservation() {
        assert!(keys.contains_key(&held.holder.0), "held by nobody");
    }
    for nexus in 0..NEXUSES as u32 {
        let access = state.access(Some(NexusId(nexus)));
        assert_eq!(Access::from_bits(access.bits()), access);
        let case = (
            access.bits(),
            unit.reservation.map(|(kind, _)| kind),
            holders.contains(&nexus),
            keys.contains_key(&nexus),
        );
        if KNOWN.with_borrow_mut(|known| known.insert(case)) {
            for (what, (opcode, _, cells, passes)) in ROWS.iter().zip(model::COMMANDS) {
                assert_eq!(
                    access.allows(*what),
                    unit.allows(nexus, *cells),
                    "{opcode:02x}"
                );
                assert_eq!(Access::EXCLUDED.allows(*what), *passes, "{opcode:02x}");
            }
        }
        let legacy = match state.legacy(Some(NexusId(nexus))) {
            Legacy::Process => None,
            Legacy::Ignore => Some(true),
            Legacy::Conflict => Some(false),
        };
        assert_eq!(legacy, unit.legacy(nexus));
    }
    let stranger = NEXUSES as u32;
    let (known, unknown) = (state.access(Some(NexusId(stranger))), state.access(None));
    assert_eq!(known, unknown);
}

/// Unit attentions, by nexus, and whose commands are aborted.
type Told = (BTreeSet<(u32, (u8, u8))>, BTreeSet<u32>);

fn told(events: &[Event]) -> Told {
    let mut attentions = BTreeSet::new();
    let mut aborted = BTreeSet::new();
    for event in events {
        match event {
            Event::Attention(nexus, asc) => {
                assert!(attentions.insert((nexus.0, (asc.code, asc.qualifier))));
            }
            Event::Abort(nexus) => assert!(aborted.insert(nexus.0)),
        }
    }
    (attentions, aborted)
}

fn sequence(input: &mut Input<'_>) {
    let room = 1 + input.below(NEXUSES);
    let mut slots = vec![Registration::default(); room];
    let mut held: Option<Reservation> = None;
    let (mut len, mut generation) = (0, 0);
    let mut unit = Unit::new(room);
    while !input.is_empty() {
        if input.below(64) == 63 {
            unit.lost = true;
        }
        let mut state = State::new(&mut slots, len, held, generation).with_loss(unit.lost);
        if input.below(32) == 31 {
            let gone = NexusId(input.below(NEXUSES) as u32);
            state.drop_nexuses(|nexus| nexus == gone);
            unit.vanish(gone.0);
        } else {
            let out = command(input, &unit);
            let before = state.registrations().len();
            let (answer, events) = perform(&mut state, &out);
            assert_eq!(answer, unit.out(&out), "{out:?}");
            assert!(events.len() <= 2 * before, "{out:?}");
            let told = told(&events);
            if answer == Answer::Good {
                assert_eq!(
                    told,
                    (unit.attentions.clone(), unit.aborted.clone()),
                    "{out:?}"
                );
            } else {
                assert!(events.is_empty(), "{out:?}");
            }
        }
        compare(&state, &unit);
        // As the engine keeps it between commands.
        len = state.registrations().len();
        (held, generation) = (state.reservation(), state.generation());
    }
}

/// Who may log in may be registered by others, and nobody else: the fabric and the engine have the same rule.
fn names(bytes: &[u8]) {
    let name = &bytes[..bytes.len().min(iscsi_proto::name::NAME_MAX)];
    if name.contains(&0) {
        return;
    }
    let text = (name.len() + 1).next_multiple_of(4).max(20);
    let mut wire = vec![5, 0, 0, u8::try_from(text).unwrap()];
    wire.extend(name);
    wire.resize(4 + text, 0);
    let is_known = TransportId::parse(&wire, 0).is_ok();
    assert_eq!(is_known, iscsi_proto::name::acceptable(name), "{name:?}");
}

/// What is read of any bytes is written as it was meant, in the parameter data and in the file.
fn lists(input: &mut Input<'_>) {
    let action = ACTIONS[input.below(9)];
    let bytes = input.rest();
    if let Ok(parameters) = Parameters::parse(action, bytes) {
        assert_eq!(parameters.key.to_be_bytes(), bytes[..8]);
        assert_eq!(parameters.action_key.to_be_bytes(), bytes[8..16]);
        let mut count = 0;
        let ids = parameters.initiators().chain([parameters.destination()]);
        for id in ids.flatten() {
            count += 1;
            let wire = written(300, 0, |out| id.write(out));
            assert!(wire.len() >= 24 && wire.len() % 4 == 0);
            assert_eq!(TransportId::parse(&wire, 0), Ok((id, wire.len())));
            // In the file it is a name, and no more.
            let kept = Kept {
                fabric: "iSCSI",
                initiator: std::str::from_utf8(id.name.as_bytes()).unwrap(),
                isid: id.isid,
                key: 1,
                holds: None,
                all_ports: false,
                mapped_lun: 0,
                target: "iqn.t",
                tag: 1,
                rtpi: 1,
                target_lun: 0,
            };
            let mut file = String::new();
            kept.write(0, &mut file).unwrap();
            let handed = file.split_whitespace().collect::<Vec<_>>().join(",");
            assert_eq!(Kept::parse(&handed), Ok(kept));
        }
        assert!(count <= bytes.len() / 24 + 1);
        assert!(count == 0 || matches!(action, Action::Register | Action::RegisterAndMove));
    }
    names(bytes);
    // Of a file that is whole, each registration can be handed back.
    if is_whole(bytes) {
        let text = std::str::from_utf8(bytes).unwrap();
        for one in text.split("PR_REG_START: ").skip(1) {
            assert!(Kept::parse(one).is_ok(), "{one}");
        }
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(kept) = Kept::parse(text) {
            let mut file = String::new();
            kept.write(0, &mut file).unwrap();
            // As rtslib hands it back.
            let handed = file.split_whitespace().collect::<Vec<_>>().join(",");
            let plain = |name: &str| !name.contains(char::is_whitespace) && !name.contains('=');
            if plain(kept.fabric) && plain(kept.initiator) && plain(kept.target) {
                assert_eq!(Kept::parse(&handed), Ok(kept));
                // A file of two of them is whole, until it is cut off.
                kept.write(1, &mut file).unwrap();
                file.push('\0');
                assert!(is_whole(file.as_bytes()), "{file}");
                assert!(!is_whole(&file.as_bytes()[..file.len() / 2]));
            }
        }
    }
    for code in 0..=u8::MAX {
        assert!(Type::new(code).is_none_or(|kind| kind as u8 == code));
    }
}

fuzz_target!(|input: &[u8]| {
    let mut input = Input::new(input);
    match input.u8() % 4 {
        0 => lists(&mut input),
        _ => sequence(&mut input),
    }
});
