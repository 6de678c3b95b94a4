// SPDX-License-Identifier: GPL-2.0

use super::*;

fn order(first: u32, depth: u32) -> Order<Vec<u16>> {
    Order::new(CmdSn(first), depth, vec![7; 8])
}

#[test]
fn one_connection_is_delivered_at_once() {
    let mut o = order(u32::MAX, 8);
    for sn in [u32::MAX, 0, 1] {
        assert_eq!(o.arrive(CmdSn(sn), 0), Turn::Deliver);
        o.delivered();
        assert_eq!(o.next(), None);
    }
    assert_eq!(o.expected(), CmdSn(2));
    assert_eq!(o.max(), CmdSn(6));
}

#[test]
fn what_overtakes_waits_for_what_it_overtook() {
    let mut o = order(5, 8);
    assert_eq!(o.arrive(CmdSn(7), 1), Turn::Wait);
    assert_eq!(o.arrive(CmdSn(6), 1), Turn::Wait);
    assert_eq!(o.turn(CmdSn(6), 1), Turn::Wait);
    assert_eq!(o.arrive(CmdSn(5), 0), Turn::Deliver);
    // While it is delivered, no other is.
    assert_eq!(o.turn(CmdSn(6), 1), Turn::Wait);
    assert_eq!(o.next(), None);
    o.delivered();
    assert_eq!(o.next(), Some(1));
    assert_eq!(o.turn(CmdSn(7), 1), Turn::Wait);
    assert_eq!(o.turn(CmdSn(6), 0), Turn::Ignore, "it is not with that one");
    assert_eq!(o.turn(CmdSn(6), 1), Turn::Deliver);
    o.delivered();
    assert_eq!(o.turn(CmdSn(7), 1), Turn::Deliver);
    o.delivered();
    assert_eq!(o.expected(), CmdSn(8));
}

#[test]
fn twice_and_out_of_the_window() {
    let mut o = order(5, 4);
    assert_eq!(o.arrive(CmdSn(9), 0), Turn::Ignore);
    assert_eq!(o.arrive(CmdSn(4), 0), Turn::Ignore);
    assert_eq!(o.arrive(CmdSn(8), 0), Turn::Wait);
    assert_eq!(o.arrive(CmdSn(8), 1), Turn::Ignore);
    assert_eq!(o.arrive(CmdSn(5), 0), Turn::Deliver);
    assert_eq!(o.arrive(CmdSn(5), 1), Turn::Ignore);
    o.delivered();
    assert_eq!(o.arrive(CmdSn(9), 0), Turn::Ignore, "nothing was answered");
    o.release();
    assert_eq!(o.arrive(CmdSn(9), 0), Turn::Wait);
}

#[test]
fn a_full_window_takes_nothing() {
    let mut o = order(0, 1);
    assert_eq!(o.arrive(CmdSn(0), 0), Turn::Deliver);
    o.delivered();
    assert_eq!((o.open(), o.next()), (0, None));
    assert_eq!(o.arrive(CmdSn(1), 0), Turn::Ignore);
    assert!(!o.plug(CmdSn(1)));
    o.release();
    assert_eq!(o.arrive(CmdSn(1), 0), Turn::Deliver);
}

#[test]
fn what_is_answered_while_it_is_delivered_leaves_the_window() {
    for places in [4, 8] {
        let mut o = Order::new(CmdSn(0), 4, vec![0; places]);
        assert_eq!(o.arrive(CmdSn(0), 0), Turn::Deliver);
        o.release();
        assert_eq!(o.max(), CmdSn(4));
        // The last one of the window has the place of the one that is delivered, and does not take its turn.
        assert_eq!(o.arrive(CmdSn(4), 1), Turn::Wait);
        assert_eq!(o.turn(CmdSn(0), 1), Turn::Ignore);
        assert_eq!(o.arrive(CmdSn(0), 1), Turn::Ignore);
        assert!(!o.plug(CmdSn(0)));
        o.delivered();
        assert_eq!((o.open(), o.next()), (4, None));
        for sn in 1..4 {
            assert_eq!(o.arrive(CmdSn(sn), 0), Turn::Deliver);
            o.delivered();
        }
        assert_eq!(o.next(), Some(1));
        assert_eq!(o.turn(CmdSn(4), 1), Turn::Deliver);
    }
}

#[test]
fn who_leaves_takes_what_waits_along() {
    let mut o = order(5, 8);
    assert_eq!(o.arrive(CmdSn(6), 1), Turn::Wait);
    assert_eq!(o.arrive(CmdSn(7), 2), Turn::Wait);
    o.leave(1);
    assert_eq!(o.arrive(CmdSn(5), 0), Turn::Deliver);
    o.delivered();
    assert_eq!((o.expected(), o.next()), (CmdSn(6), None));
    // Sent again by another connection.
    assert_eq!(o.arrive(CmdSn(6), 0), Turn::Deliver);
    o.delivered();
    assert_eq!(o.next(), Some(2));
}

#[test]
fn aborted_ones_are_skipped() {
    let mut o = order(5, 8);
    assert_eq!(o.arrive(CmdSn(6), 1), Turn::Wait);
    assert_eq!(o.arrive(CmdSn(7), 1), Turn::Wait);
    assert!(o.plug(CmdSn(6)));
    assert_eq!(o.turn(CmdSn(6), 1), Turn::Ignore);
    assert!(o.plug(CmdSn(5)));
    assert_eq!((o.expected(), o.next()), (CmdSn(7), Some(1)));
    // They take no room.
    assert_eq!(o.max(), CmdSn(14));
    assert_eq!(o.turn(CmdSn(7), 1), Turn::Deliver);
    assert!(!o.plug(CmdSn(7)), "it is being delivered");
    assert!(o.plug(CmdSn(8)));
    o.delivered();
    assert_eq!(o.expected(), CmdSn(9));
    assert!(!o.plug(CmdSn(8)));
}

#[test]
fn a_reset_fills_all_gaps_before_it() {
    let mut o = order(5, 8);
    assert_eq!(o.arrive(CmdSn(6), 1), Turn::Wait);
    assert_eq!(o.arrive(CmdSn(9), 1), Turn::Wait);
    assert!(!o.reached(CmdSn(8)));
    o.plug_before(CmdSn(8));
    assert!(o.reached(CmdSn(8)));
    assert_eq!((o.expected(), o.next()), (CmdSn(8), None));
    assert_eq!(o.turn(CmdSn(9), 1), Turn::Wait);
    o.plug_before(CmdSn(1000));
    assert_eq!(o.expected(), CmdSn(16));
    assert_eq!(o.open(), 8);
}

#[test]
fn as_deep_as_there_are_places() {
    assert_eq!(Order::new(CmdSn(0), 100, vec![0; 100]).open(), 64);
    assert_eq!(Order::new(CmdSn(0), 0, vec![0; 4]).open(), 1);
    let mut none = Order::new(CmdSn(0), 3, vec![]);
    assert_eq!(none.open(), 1);
    none.release();
    assert_eq!(none.open(), 1);
    assert_eq!(none.arrive(CmdSn(0), 0), Turn::Deliver);
}
