// SPDX-License-Identifier: GPL-2.0

use super::*;
use lio_scsi::{inquiry::Page, luns::Select};
use std::vec::Vec;

fn queue(conditions: &[Asc]) -> Queue {
    let mut queue = Queue::new();
    for asc in conditions {
        queue.establish(*asc);
    }
    queue
}

fn order(queue: &Queue) -> Vec<Asc> {
    queue.pending().collect()
}

#[test]
fn precedence_is_sam_5_table_35() {
    let expected = [
        Asc::RESET,
        Asc::POWER_ON,
        Asc::DEVICE_INTERNAL_RESET,
        Asc::BUS_RESET,
        Asc::BUS_DEVICE_RESET,
        Asc::NEXUS_LOSS,
        Asc::COMMANDS_CLEARED_BY_POWER_LOSS,
        Asc::CAPACITY_CHANGED,
    ];
    assert_eq!(order(&queue(&expected)), expected);
    let mut backwards = expected;
    backwards.reverse();
    // Two of the same precedence stay in the order in which they came.
    let mut swapped = expected;
    swapped.swap(1, 2);
    assert_eq!(order(&queue(&backwards)), swapped);
}

#[test]
fn the_same_condition_is_there_once() {
    let queue = queue(&[
        Asc::CAPACITY_CHANGED,
        Asc::RESET,
        Asc::CAPACITY_CHANGED,
        Asc::RESET,
    ]);
    assert_eq!(order(&queue), [Asc::RESET, Asc::CAPACITY_CHANGED]);
}

#[test]
fn each_is_reported_once_in_order() {
    let mut queue = queue(&[
        Asc::CAPACITY_CHANGED,
        Asc::MODE_PARAMETERS_CHANGED,
        Asc::RESET,
    ]);
    for asc in [
        Asc::RESET,
        Asc::CAPACITY_CHANGED,
        Asc::MODE_PARAMETERS_CHANGED,
    ] {
        let expected = Admission::Report(Sense::unit_attention(asc));
        assert_eq!(
            queue.admit(&Command::TestUnitReady, Interlock::Clear),
            expected
        );
    }
    assert!(queue.is_empty());
    assert_eq!(
        queue.admit(&Command::TestUnitReady, Interlock::Clear),
        Admission::Process
    );
}

#[test]
fn interlock_keeps_until_request_sense() {
    for interlock in [Interlock::Keep, Interlock::Establish] {
        let mut queue = queue(&[Asc::RESET]);
        let expected = Admission::Report(Sense::unit_attention(Asc::RESET));
        for _ in 0..3 {
            assert_eq!(queue.admit(&Command::TestUnitReady, interlock), expected);
        }
        assert_eq!(queue.take(), Some(Sense::unit_attention(Asc::RESET)));
        assert_eq!(
            queue.admit(&Command::TestUnitReady, interlock),
            Admission::Process
        );
    }
}

#[test]
fn inquiry_and_request_sense_are_processed() {
    let mut queue = queue(&[Asc::RESET, Asc::REPORTED_LUNS_CHANGED]);
    let inquiry = Command::Inquiry {
        page: Page::Standard,
        allocation: 96,
    };
    assert_eq!(queue.admit(&inquiry, Interlock::Clear), Admission::Process);
    let request_sense = Command::RequestSense {
        descriptor: false,
        allocation: 18,
    };
    assert_eq!(
        queue.admit(&request_sense, Interlock::Clear),
        Admission::Process
    );
    assert_eq!(order(&queue), [Asc::RESET, Asc::REPORTED_LUNS_CHANGED]);
    assert_eq!(queue.take(), Some(Sense::unit_attention(Asc::RESET)));
    assert_eq!(order(&queue), [Asc::REPORTED_LUNS_CHANGED]);
}

#[test]
fn report_luns_clears_what_asks_for_it() {
    let mut queue = queue(&[
        Asc::CAPACITY_CHANGED,
        Asc::REPORTED_LUNS_CHANGED,
        Asc::NEXUS_LOSS,
    ]);
    let report_luns = Command::ReportLuns {
        select: Select::Units,
        allocation: 16,
    };
    assert_eq!(
        queue.admit(&report_luns, Interlock::Clear),
        Admission::Process
    );
    assert_eq!(order(&queue), [Asc::NEXUS_LOSS, Asc::CAPACITY_CHANGED]);
}

#[test]
fn overflow_loses_the_least_and_says_so() {
    let mut queue = Queue::new();
    let filler = |n| Asc {
        code: 0x3e,
        qualifier: n,
    };
    for n in 0..8 {
        queue.establish(filler(n));
    }
    queue.establish(Asc::RESET);
    assert_eq!(order(&queue).len(), CAPACITY);
    let first = queue.take().unwrap();
    assert_eq!(first.asc, Asc::RESET);
    assert_eq!(first.specific, Specific::UnitAttentionOverflow);
    let second = queue.take().unwrap();
    assert_eq!((second.asc, second.specific), (filler(0), Specific::None));
    assert_eq!(order(&queue), (1..7).map(filler).collect::<Vec<_>>());
}

#[test]
fn what_is_there_already_does_not_overflow() {
    let mut queue = Queue::new();
    for n in 0..8 {
        queue.establish(Asc {
            code: 0x3e,
            qualifier: n,
        });
    }
    queue.establish(Asc {
        code: 0x3e,
        qualifier: 7,
    });
    assert_eq!(queue.take().unwrap().specific, Specific::None);
}

#[test]
fn a_lost_nexus_forgets() {
    let mut queue = queue(&[Asc::RESET, Asc::CAPACITY_CHANGED]);
    queue.clear_all();
    assert!(queue.is_empty());
    assert_eq!(queue.take(), None);
}

#[test]
fn deferred_errors() {
    let test = Command::TestUnitReady;
    let told = Admission::Report(Sense {
        specific: Specific::Deferred,
        ..Sense::WRITE_ERROR
    });
    for interlock in [Interlock::Clear, Interlock::Keep] {
        let mut queue = queue(&[Asc::RESET]);
        queue.defer(Sense::WRITE_ERROR.with_information(7));
        // The first one is told, once, after unit attentions; not to those that report none.
        queue.defer(Sense::OFFLINE);
        let inquiry = Command::Inquiry {
            page: Page::Standard,
            allocation: 36,
        };
        let luns = Command::ReportLuns {
            select: Select::Units,
            allocation: 16,
        };
        for other in [inquiry, luns] {
            assert_eq!(queue.admit(&other, interlock), Admission::Process);
        }
        let reset = Admission::Report(Sense::unit_attention(Asc::RESET));
        assert_eq!(queue.admit(&test, interlock), reset);
        queue.clear(Asc::RESET);
        assert!(!queue.is_empty() && !queue.outranks_conflict());
        assert_eq!(queue.admit(&test, interlock), told);
        assert!(queue.is_empty());
        assert_eq!(queue.admit(&test, interlock), Admission::Process);
        queue.defer(Sense::WRITE_ERROR);
        assert_eq!(queue.admit_undecoded(interlock), told);
        queue.defer(Sense::WRITE_ERROR);
        assert_eq!(queue.take().map(Admission::Report), Some(told));
        queue.defer(Sense::WRITE_ERROR);
        queue.clear_all();
        assert!(queue.is_empty());
    }
}
