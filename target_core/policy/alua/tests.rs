// SPDX-License-Identifier: GPL-2.0

use super::*;
use lio_scsi::{
    alua::Member,
    lba::{Extent, Lba},
};

const NONE: Member = Member {
    group: 0,
    state: State::Optimized,
};

fn storage() -> ([Segment; MAX_SEGMENTS], [Member; MAX_MEMBERS]) {
    ([Segment::default(); MAX_SEGMENTS], [NONE; MAX_MEMBERS])
}

fn wrong(text: &str) -> MapError {
    let (mut segments, mut members) = storage();
    Map::parse(text, &mut segments, &mut members).unwrap_err()
}

#[test]
fn states_refuse_commands() {
    use Access::*;
    let refused = |state, access| match admit(state, access) {
        Admission::Refuse(sense) => Some((sense.asc.code, sense.asc.qualifier)),
        _ => None,
    };
    for access in [Active, Standby, Unavailable, Always] {
        assert_eq!(refused(State::Optimized, access), None);
        assert_eq!(refused(State::NonOptimized, access), None);
    }
    assert_eq!(refused(State::Standby, Active), Some((4, 0x0b)));
    assert_eq!(refused(State::Standby, Standby), None);
    assert_eq!(refused(State::Unavailable, Standby), Some((4, 0x0c)));
    assert_eq!(refused(State::Unavailable, Unavailable), None);
    assert_eq!(refused(State::Transition, Unavailable), Some((4, 0x0a)));
    assert_eq!(refused(State::Transition, Always), None);
    assert_eq!(refused(State::Offline, Unavailable), Some((4, 0x12)));
    assert_eq!(admit(State::BlockDependent, Active), Admission::BySegment);
}

#[test]
fn a_change_at_once() {
    let mut g = Group::default();
    assert_eq!(
        g.change(State::Standby, By::Implicit, false),
        Ok(Change::Done)
    );
    assert_eq!((g.state(), g.status), (State::Standby, Status::Implicit));
    assert_eq!(
        g.change(State::Standby, By::Explicit, false),
        Ok(Change::None)
    );
    assert_eq!(g.status, Status::Implicit);
    assert_eq!(
        g.change(State::Optimized, By::Explicit, false),
        Ok(Change::Done)
    );
    assert_eq!(g.status, Status::Explicit);
}

#[test]
fn a_change_that_takes_its_time() {
    let mut g = Group::default();
    assert_eq!(
        g.change(State::Standby, By::Explicit, true),
        Ok(Change::Begun)
    );
    assert_eq!(g.state(), State::Transition);
    for by in [By::Implicit, By::Explicit] {
        assert_eq!(
            g.change(State::Optimized, by, false),
            Err(Refusal::Changing)
        );
    }
    assert_eq!(g.complete(), Change::Done);
    assert_eq!(g.state(), State::Standby);
    assert_eq!(g.complete(), Change::None);
}

#[test]
fn a_transition_that_is_held() {
    let mut g = Group::default();
    assert_eq!(
        g.change(State::Transition, By::Implicit, true),
        Ok(Change::Held)
    );
    assert_eq!(
        g.change(State::Standby, By::Explicit, false),
        Err(Refusal::Changing)
    );
    // Back to where it came from: it failed.
    assert_eq!(
        g.change(State::Optimized, By::Implicit, false),
        Ok(Change::Failed)
    );
    g.change(State::Transition, By::Implicit, false).unwrap();
    assert_eq!(
        g.change(State::Standby, By::Implicit, true),
        Ok(Change::Begun)
    );
    assert_eq!(g.complete(), Change::Done);
}

#[test]
fn who_may_change_it() {
    let mut g = Group::default();
    assert_eq!(
        g.may(State::BlockDependent, By::Implicit),
        Err(Refusal::NotSupported)
    );
    g.supported = g.supported.with(State::BlockDependent, true);
    assert_eq!(
        g.may(State::BlockDependent, By::Implicit),
        Err(Refusal::NotAllowed)
    );
    g.access.explicit = false;
    assert_eq!(g.may(State::BlockDependent, By::Implicit), Ok(()));
    assert_eq!(
        g.may(State::Standby, By::Explicit),
        Err(Refusal::NotAllowed)
    );
    g.access = AccessType {
        implicit: false,
        explicit: true,
    };
    assert_eq!(
        g.may(State::Standby, By::Implicit),
        Err(Refusal::NotAllowed)
    );
    assert_eq!(
        g.may(State::Transition, By::Explicit),
        Err(Refusal::NotSupported)
    );
    g.supported = g.supported.with(State::Standby, false);
    assert_eq!(
        g.may(State::Standby, By::Explicit),
        Err(Refusal::NotSupported)
    );
}

#[test]
fn maps() {
    let (mut segments, mut members) = storage();
    let text = "0 0\n0 99 0:O 1:S\n200 299 0:U 1:A\n";
    let map = Map::parse(text, &mut segments, &mut members)
        .unwrap()
        .unwrap();
    let check = |group, lba, blocks| map.check(group, Extent::new(lba, blocks));
    let standby = Admission::Refuse(Sense::ALUA_STANDBY);
    let unavailable = Admission::Refuse(Sense::ALUA_UNAVAILABLE);
    assert_eq!(check(0, 0, 100), Admission::Process);
    assert_eq!(check(1, 99, 1), standby);
    assert_eq!(check(0, 99, 2), unavailable);
    assert_eq!(check(1, 200, 100), Admission::Process);
    assert_eq!(check(0, 299, 1), unavailable);
    assert_eq!(check(7, 0, 1), Admission::Process);
    assert_eq!(check(1, 5000, 0), Admission::Process);
    let from = |lba, one| {
        map.from(Lba(lba), one)
            .map(|(s, _)| s.first.0)
            .collect::<std::vec::Vec<_>>()
    };
    assert_eq!(from(0, false), [0, 200]);
    assert_eq!(from(50, true), [0]);
    assert_eq!(from(150, false), [200]);
    assert_eq!(from(300, false), []);
}

#[test]
fn maps_that_come_again() {
    let (mut segments, mut members) = storage();
    let map = Map::parse("64 2\n0 63 1:O\n64 127 1:S", &mut segments, &mut members)
        .unwrap()
        .unwrap();
    let check = |lba, blocks| map.check(1, Extent::new(lba, blocks));
    assert_eq!(check(128, 64), Admission::Process);
    assert_eq!(check(128, 65), Admission::Refuse(Sense::ALUA_STANDBY));
    assert_eq!(check(1 << 40, 64), Admission::Process);
    assert_eq!(check(u64::MAX, 1), Admission::Refuse(Sense::ALUA_STANDBY));
}

#[test]
fn nothing_goes_on_beyond_the_last_address() {
    let (mut segments, mut members) = storage();
    for text in [
        "0 0\n0 18446744073709551615 1:O",
        "2147483648 2\n0 1 1:O\n2147483648 2147483649 1:O",
    ] {
        let map = Map::parse(text, &mut segments, &mut members)
            .unwrap()
            .unwrap();
        let check = |lba, blocks| map.check(1, Extent::new(lba, blocks));
        assert_eq!(check(u64::MAX, 1), Admission::Process, "{text}");
        // Not block by block.
        let unavailable = Admission::Refuse(Sense::ALUA_UNAVAILABLE);
        assert_eq!(check(u64::MAX, u64::MAX), unavailable, "{text}");
        assert_eq!(check(0, u64::MAX), Admission::Process, "{text}");
    }
}

#[test]
fn wrong_maps() {
    let (mut segments, mut members) = storage();
    assert!(Map::parse(" \n\n", &mut segments, &mut members)
        .unwrap()
        .is_none());
    for (text, line) in [
        ("1", 1),
        ("0 1\n0 1 0:O", 1),
        ("1 2", 1),
        ("x 2\n", 1),
        ("4294967296 1\n0 1 0:O", 1),
        ("0 0\n0 1", 2),
        ("0 0\n2 1 0:O", 2),
        ("0 0\n0 1 0:X", 2),
        ("0 0\n0 1 65536:O", 2),
        ("0 0\n0 1 0:O 0:A", 2),
        ("0 0\n\n0 1 0:O\n2 3 0:O 1:A", 4),
        ("0 0\n0 5 0:O\n5 9 0:O", 3),
        ("4 2\n8 11 0:O", 2),
    ] {
        assert_eq!(wrong(text), MapError::Line(line), "{text:?}");
    }
    let lines: std::vec::Vec<_> = (0..600).map(|n| std::format!("{n} {n} 0:O")).collect();
    let long = std::format!("0 0\n{}", lines.join("\n"));
    assert_eq!(wrong(&long), MapError::TooLong);
}
