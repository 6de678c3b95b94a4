// SPDX-License-Identifier: GPL-2.0

use super::*;

fn agreed(level: u8, retain: u16) -> Parameters {
    Parameters {
        recovery_level: level,
        time2wait: 2,
        time2retain: retain,
        ..Parameters::default()
    }
}

#[test]
fn only_level_2_keeps_tasks_and_not_for_no_time() {
    for (level, retain, how) in [
        (0, 20, Ended::Lost),
        (1, 20, Ended::ForRecovery),
        (2, 0, Ended::Lost),
        (2, 20, Ended::ForGood),
    ] {
        assert_eq!(Custody::begin(&agreed(level, retain), how, 0), None);
    }
    let lost = Custody::begin(&agreed(2, 20), Ended::Lost, 1000).unwrap();
    assert!(!lost.is_logged_out());
    assert_eq!(lost.fate(1000, true, true), Fate::Stays(23_000));
    assert_eq!(lost.fate(22_999, true, false), Fate::Stays(23_000));
    assert_eq!(lost.fate(23_000, true, true), Fate::Expires);
}

#[test]
fn a_logout_begins_the_time_anew_once() {
    let mut c = Custody::begin(&agreed(2, 20), Ended::Lost, 0).unwrap();
    // The initiator may want to log it out; and then nothing is there to be kept.
    assert_eq!(c.fate(5_000, false, true), Fate::Stays(22_000));
    c.log_out(5_000);
    c.log_out(6_000);
    assert_eq!(c.fate(6_000, true, true), Fate::Stays(27_000));
    assert_eq!(c.fate(6_000, false, true), Fate::Over);
    assert_eq!(
        c.fate(6_000, false, false),
        Fate::Stays(27_000),
        "the session"
    );
}

#[test]
fn commands_at_work_come_back_first() {
    let mut c = Custody::begin(&agreed(2, 20), Ended::ForRecovery, 0).unwrap();
    c.sent_away();
    assert!(c.has_away());
    assert_eq!(c.fate(1, false, true), Fate::Stays(22_000));
    c.came_back();
    assert_eq!(c.fate(1, false, true), Fate::Over);
}

#[test]
fn answers() {
    let all = [
        Place::Nowhere,
        Place::Allegiant,
        Place::Kept(false),
        Place::Kept(true),
        Place::Incomplete(true),
        Place::Incomplete(false),
    ];
    for place in all {
        for level in [0, 1] {
            let answer = reassign(level, true, place);
            assert_eq!(answer, TmfAnswer::ReassignNotSupported);
        }
        assert_eq!(reassign(2, false, place), TmfAnswer::Rejected);
    }
    assert_eq!(
        all.map(|place| reassign(2, true, place)),
        [
            TmfAnswer::NoTask,
            TmfAnswer::TaskAllegiant,
            TmfAnswer::TaskAllegiant,
            TmfAnswer::Complete,
            TmfAnswer::Rejected,
            TmfAnswer::TaskAllegiant,
        ]
    );
}

#[test]
fn where_data_goes_on() {
    for (exp, acknowledged, sent, want) in [
        (0, 0, 0, 0),
        (0, 0, 9, 0),
        (5, 0, 9, 5),
        (9, 0, 9, 9),
        (10, 0, 9, 0),
        (u32::MAX, 0, 9, 0),
        (0, 9, 9, 9),
        (3, 9, 9, 9),
    ] {
        assert_eq!(first_unacknowledged(exp, acknowledged, sent), want);
    }
}
