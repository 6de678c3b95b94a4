// SPDX-License-Identifier: GPL-2.0

//! Persistent reservations, case by case. The fuzz target `pr` holds sequences against a model of the standard's tables.

use super::*;
use std::{string::String, vec, vec::Vec};

const A: NexusId = NexusId(1);
const B: NexusId = NexusId(2);
const C: NexusId = NexusId(3);

struct Unit {
    slots: Vec<Registration>,
    len: usize,
    held: Option<Reservation>,
    generation: u32,
    lost: bool,
    events: Vec<Event>,
}

fn request(action: Action, nexus: NexusId, key: u64, action_key: u64) -> Request<'static> {
    Request {
        out: Out {
            action,
            scope: 0,
            kind: Type::WriteExclusive as u8,
        },
        nexus,
        key,
        action_key,
        all_ports: false,
        unregister: false,
        ports: &[],
        specified: None,
        destination: None,
    }
}

impl Unit {
    fn new(room: usize) -> Self {
        Unit {
            slots: vec![Registration::default(); room],
            len: 0,
            held: None,
            generation: 0,
            lost: false,
            events: Vec::new(),
        }
    }

    /// With A, B and C registered with keys 1, 2 and 3.
    fn registered() -> Self {
        let mut unit = Self::new(4);
        for nexus in [A, B, C] {
            unit.go(request(Action::Register, nexus, 0, nexus.0.into()))
                .unwrap();
        }
        unit
    }

    fn state(&mut self) -> State<'_> {
        State::new(&mut self.slots, self.len, self.held, self.generation)
    }

    fn go(&mut self, request: Request<'_>) -> Outcome {
        let mut events = Vec::new();
        let mut state =
            State::new(&mut self.slots, self.len, self.held, self.generation).with_loss(self.lost);
        let outcome = state.perform(&request, &mut |event| events.push(event));
        (self.len, self.held, self.generation) = (
            state.registrations().len(),
            state.reservation(),
            state.generation(),
        );
        self.lost = state.is_lost();
        self.events = events;
        outcome
    }

    fn typed(&mut self, action: Action, nexus: NexusId, kind: Type, action_key: u64) -> Outcome {
        let mut request = request(action, nexus, nexus.0.into(), action_key);
        request.out.kind = kind as u8;
        self.go(request)
    }

    fn keys(&mut self) -> Vec<(u32, u64)> {
        let state = self.state();
        let registrations = state.registrations().iter();
        registrations.map(|r| (r.nexus.0, r.key)).collect()
    }

    fn told(&self) -> Vec<(NexusId, Asc)> {
        let attention = |event: &Event| match event {
            Event::Attention(nexus, asc) => Some((*nexus, *asc)),
            Event::Abort(_) => None,
        };
        self.events.iter().filter_map(attention).collect()
    }
}

#[test]
fn registering() {
    let mut unit = Unit::new(2);
    // Table 71 of SPC-4
    assert_eq!(
        unit.go(request(Action::Register, A, 1, 2)),
        Err(Refusal::Conflict)
    );
    unit.go(request(Action::Register, A, 0, 0)).unwrap();
    unit.go(request(Action::RegisterAndIgnore, A, 7, 0))
        .unwrap();
    assert_eq!((unit.keys(), unit.generation), (vec![], 0));
    unit.go(request(Action::Register, A, 0, 1)).unwrap();
    assert_eq!(
        unit.go(request(Action::Register, A, 0, 5)),
        Err(Refusal::Conflict)
    );
    unit.go(request(Action::Register, A, 1, 5)).unwrap();
    unit.go(request(Action::RegisterAndIgnore, B, 99, 6))
        .unwrap();
    assert_eq!((unit.keys(), unit.generation), (vec![(1, 5), (2, 6)], 3));
    assert_eq!(
        unit.go(request(Action::Register, C, 0, 7)),
        Err(Sense::INSUFFICIENT_REGISTRATION_RESOURCES.into())
    );
    // A change takes no room.
    unit.go(request(Action::RegisterAndIgnore, B, 0, 8))
        .unwrap();
    unit.go(request(Action::Register, A, 5, 0)).unwrap();
    assert_eq!(unit.keys(), [(2, 8)]);
}

#[test]
fn specified_initiators_are_registered_all_or_none() {
    let mut unit = Unit::new(3);
    let all = Request {
        specified: Some(&[B, C]),
        ..request(Action::Register, A, 0, 9)
    };
    unit.go(all).unwrap();
    assert_eq!(unit.keys(), [(1, 9), (2, 9), (3, 9)]);
    // Not by one that is registered itself; those that are registered already keep their keys.
    let again = Request { key: 9, ..all };
    assert_eq!(unit.go(again), Err(Sense::invalid_cdb_bit(1, 4).into()));
    unit.go(request(Action::Register, A, 9, 0)).unwrap();
    let other = Request {
        action_key: 4,
        ..all
    };
    unit.go(other).unwrap();
    assert_eq!(unit.keys(), [(2, 9), (3, 9), (1, 4)]);
    let mut small = Unit::new(2);
    assert_eq!(
        small.go(all),
        Err(Sense::INSUFFICIENT_REGISTRATION_RESOURCES.into())
    );
    assert_eq!(small.keys(), []);
}

#[test]
fn reserving_and_releasing() {
    for kind in Type::ALL {
        let mut unit = Unit::registered();
        unit.typed(Action::Reserve, A, kind, 0).unwrap();
        unit.typed(Action::Reserve, A, kind, 0).unwrap();
        let again = unit.typed(Action::Reserve, B, kind, 0);
        assert_eq!(again.is_ok(), kind.is_all_registrants());
        for other in Type::ALL.into_iter().filter(|other| *other != kind) {
            assert_eq!(
                unit.typed(Action::Reserve, A, other, 0),
                Err(Refusal::Conflict)
            );
            assert_eq!(
                unit.typed(Action::Release, A, other, 0),
                Err(Sense::INVALID_RELEASE.into())
            );
        }
        if !kind.is_all_registrants() {
            unit.typed(Action::Release, B, kind, 0).unwrap();
            assert!(unit.held.is_some());
        }
        unit.typed(Action::Release, A, kind, 0).unwrap();
        assert_eq!(unit.held, None);
        let told: &[_] = if kind.admits_registrants() {
            &[
                (B, Asc::RESERVATIONS_RELEASED),
                (C, Asc::RESERVATIONS_RELEASED),
            ]
        } else {
            &[]
        };
        assert_eq!(unit.told(), told, "{kind:?}");
        // Neither of them counts.
        assert_eq!(unit.generation, 3);
    }
}

#[test]
fn the_reservation_goes_with_its_holder() {
    for kind in Type::ALL {
        let mut unit = Unit::registered();
        unit.typed(Action::Reserve, A, kind, 0).unwrap();
        unit.go(request(Action::Register, A, 1, 0)).unwrap();
        assert_eq!(unit.held.is_some(), kind.is_all_registrants());
        assert_eq!(
            unit.told().len(),
            if kind.admits_registrants() && !kind.is_all_registrants() {
                2
            } else {
                0
            }
        );
        unit.go(request(Action::Register, B, 2, 0)).unwrap();
        unit.go(request(Action::Register, C, 3, 0)).unwrap();
        assert_eq!(unit.held, None);
    }
}

#[test]
fn preempting() {
    let mut unit = Unit::registered();
    assert_eq!(
        unit.typed(Action::Preempt, A, Type::WriteExclusive, 77),
        Err(Refusal::Conflict)
    );
    assert_eq!(
        unit.typed(Action::Preempt, A, Type::WriteExclusive, 0),
        Err(Sense::invalid_parameter_byte(8).into())
    );
    unit.typed(Action::Reserve, B, Type::WriteExclusive, 0)
        .unwrap();
    // Another's registration, then the reservation.
    unit.typed(Action::Preempt, A, Type::WriteExclusive, 3)
        .unwrap();
    assert_eq!(unit.told(), [(C, Asc::REGISTRATIONS_PREEMPTED)]);
    unit.typed(Action::PreemptAndAbort, A, Type::ExclusiveAccess, 2)
        .unwrap();
    assert_eq!(
        unit.events,
        [
            Event::Attention(B, Asc::REGISTRATIONS_PREEMPTED),
            Event::Abort(B)
        ]
    );
    assert_eq!(unit.keys(), [(1, 1)]);
    assert_eq!(
        unit.held,
        Some(Reservation {
            holder: A,
            kind: Type::ExclusiveAccess
        })
    );
}

#[test]
fn preempting_all_registrants() {
    let mut unit = Unit::registered();
    let kind = Type::ExclusiveAccessAllRegistrants;
    unit.typed(Action::Reserve, A, kind, 0).unwrap();
    unit.typed(Action::Preempt, B, Type::WriteExclusive, 1)
        .unwrap();
    assert_eq!(unit.keys(), [(2, 2), (3, 3)]);
    assert_eq!(unit.held.map(|held| held.kind), Some(kind));
    unit.typed(Action::Preempt, B, Type::WriteExclusive, 0)
        .unwrap();
    assert_eq!(unit.keys(), [(2, 2)]);
    assert_eq!(
        unit.held,
        Some(Reservation {
            holder: B,
            kind: Type::WriteExclusive
        })
    );
}

#[test]
fn moving() {
    let mut unit = Unit::registered();
    let to = |nexus: NexusId, key, unregister| Request {
        destination: Some(nexus),
        unregister,
        ..request(Action::RegisterAndMove, A, 1, key)
    };
    assert_eq!(unit.go(to(B, 9, false)), Err(Refusal::Conflict));
    unit.typed(Action::Reserve, A, Type::WriteExclusive, 0)
        .unwrap();
    let list = |byte| Err(Sense::invalid_parameter_byte(byte).into());
    assert_eq!(unit.go(to(B, 0, false)), list(8));
    assert_eq!(unit.go(to(A, 9, false)), list(24));
    unit.go(to(NexusId(7), 9, true)).unwrap();
    assert_eq!(unit.keys(), [(2, 2), (3, 3), (7, 9)]);
    assert_eq!(unit.held.map(|held| held.holder), Some(NexusId(7)));
    assert_eq!(unit.events, []);
}

#[test]
fn access() {
    for kind in Type::ALL {
        let mut unit = Unit::registered();
        assert_eq!(unit.state().access(None), Access::ALL);
        unit.typed(Action::Reserve, A, kind, 0).unwrap();
        let others = if kind.is_write_exclusive() {
            Access::READ
        } else {
            Access::NEITHER
        };
        let state = unit.state();
        assert_eq!(state.access(Some(A)), Access::ALL);
        let registered = if kind.admits_registrants() {
            Access::ALL
        } else {
            others
        };
        assert_eq!(state.access(Some(B)), registered);
        assert_eq!(state.access(None), others);
        assert_eq!(state.access(Some(NexusId(9))), others);
    }
}

#[test]
fn reserve_and_release_of_spc_2() {
    let mut unit = Unit::new(4);
    assert_eq!(unit.state().legacy(None), Legacy::Process);
    let mut unit = Unit::registered();
    for nexus in [Some(A), None] {
        assert_eq!(unit.state().legacy(nexus), Legacy::Conflict);
    }
    for kind in Type::ALL {
        let mut unit = Unit::registered();
        unit.typed(Action::Reserve, A, kind, 0).unwrap();
        assert_eq!(unit.state().legacy(Some(A)), Legacy::Ignore);
        let ignored = unit.state().legacy(Some(B)) == Legacy::Ignore;
        assert_eq!(ignored, kind.admits_registrants());
        assert_eq!(unit.state().legacy(None), Legacy::Conflict);
    }
}

const STOCK: &str = "PR_REG_START: 0
initiator_fabric=iSCSI
initiator_node=iqn.1993-08.org.debian:01:client
initiator_sid=00023d000001
sa_res_key=43981
res_holder=1
res_type=05
res_scope=00
res_all_tg_pt=0
mapped_lun=3
target_fabric=iSCSI
target_node=iqn.2003-01.org.example:t1
tpgt=1
port_rtpi=2
target_lun=4
PR_REG_END: 0
";

#[test]
fn replacing_what_is_lost() {
    let mut unit = Unit::registered();
    unit.typed(Action::Reserve, A, Type::ExclusiveAccess, 0)
        .unwrap();
    let replace = |key, new, kind| {
        let mut request = request(Action::ReplaceLost, B, key, new);
        request.out.kind = kind;
        request
    };
    let before = (unit.keys(), unit.generation);
    // Nothing is lost (SPC-4, 5.13.11.3).
    assert_eq!(
        unit.go(replace(0, 9, 7)),
        Err(Sense::INVALID_RELEASE.into())
    );
    unit.lost = true;
    // Nothing else is processed, and what is wrong replaces nothing.
    let lost = Sense::RESERVATION_INFORMATION_LOST;
    for action in [Action::Register, Action::RegisterAndIgnore, Action::Clear] {
        assert_eq!(unit.go(request(action, A, 1, 2)), Err(lost.into()));
    }
    for (wrong, sense) in [
        (replace(2, 9, 7), Sense::invalid_parameter_byte(0)),
        (replace(0, 0, 7), Sense::invalid_parameter_byte(8)),
        (replace(0, 9, 2), Sense::invalid_cdb_bit(2, 3)),
    ] {
        assert_eq!(unit.go(wrong), Err(sense.into()));
        assert!(unit.lost);
    }
    assert_eq!((unit.keys(), unit.generation), before);
    unit.go(replace(0, 9, 7)).unwrap();
    assert_eq!((unit.keys(), unit.generation), (vec![(B.0, 9)], 0));
    assert_eq!(unit.state().registrations()[0].generation, 0);
    let held = Reservation {
        holder: B,
        kind: Type::WriteExclusiveAllRegistrants,
    };
    assert_eq!((unit.held, unit.lost), (Some(held), false));
    assert!(unit.events.is_empty());
    assert_eq!(
        unit.go(replace(0, 9, 7)),
        Err(Sense::INVALID_RELEASE.into())
    );
}

#[test]
fn a_file_that_is_cut_off_is_known() {
    let second = STOCK.replace(": 0", ": 12").replace("43981", "1");
    let file = std::format!("{STOCK}{second}\0");
    assert!(is_whole(file.as_bytes()));
    assert!(is_whole(std::format!("{NONE}\0").as_bytes()));
    for length in 0..file.len() {
        assert!(!is_whole(&file.as_bytes()[..length]), "{length}");
    }
    // As a whole it is there, but not as it was.
    for (from, to) in [
        ("PR_REG_END: 12", "PR_REG_END: 1"),
        ("sa_res_key=1\n", "sa_res_key=\n"),
        ("PR_REG_START: 12\n", ""),
        ("res_holder=1", "res_holder=\u{fffd}"),
    ] {
        assert!(file.contains(from));
        assert!(!is_whole(file.replace(from, to).as_bytes()), "{to}");
    }
    assert!(!is_whole(b"\0") && !is_whole(&[0xff, 0]) && !is_whole(&[0; 4096]));
}

#[test]
fn what_is_kept_is_the_stock_modules_text() {
    // As rtslib hands it over: split at white space, without the first token and the last two.
    let tokens: Vec<&str> = STOCK.split_whitespace().collect();
    let handed = tokens[1..tokens.len() - 2].join(",");
    for text in [STOCK, &handed] {
        let kept = Kept::parse(text).unwrap();
        assert_eq!(kept.initiator, "iqn.1993-08.org.debian:01:client");
        assert_eq!(kept.isid, Some([0, 2, 0x3d, 0, 0, 1]));
        assert_eq!((kept.key, kept.mapped_lun, kept.target_lun), (0xabcd, 3, 4));
        assert_eq!(kept.holds, Some(Type::WriteExclusiveRegistrantsOnly));
        assert_eq!((kept.tag, kept.rtpi, kept.all_ports), (1, 2, false));
        let mut written = String::new();
        kept.write(0, &mut written).unwrap();
        assert_eq!(written, STOCK);
    }
    // Type 8 is written so that the stock modules read it, and read as they write it.
    let other = STOCK.replace("res_type=05", "res_type=08");
    let kept = Kept::parse(&other).unwrap();
    assert_eq!(kept.holds, Some(Type::ExclusiveAccessAllRegistrants));
    let mut written = String::new();
    kept.write(0, &mut written).unwrap();
    assert_eq!(written, STOCK.replace("res_type=05", "res_type=8"));
}

#[test]
fn what_was_not_kept_is_refused() {
    for (from, to) in [
        ("sa_res_key=43981", "sa_res_key=0"),
        ("sa_res_key=43981", "sa_res_key=key"),
        ("sa_res_key=43981", ""),
        ("initiator_node=iqn.1993-08.org.debian:01:client", ""),
        ("target_node=iqn.2003-01.org.example:t1", "target_node="),
        ("res_type=05", "res_type=02"),
        ("res_type=05", ""),
        ("tpgt=1", "tpgt=65536"),
        ("initiator_sid=00023d000001", "initiator_sid=00023d00000g"),
        ("initiator_sid=00023d000001", "initiator_sid=1234567890123"),
    ] {
        assert!(Kept::parse(&STOCK.replace(from, to)).is_err(), "{to}");
    }
    assert!(Kept::parse(NONE).is_err());
}
