// SPDX-License-Identifier: GPL-2.0

use super::super::tests::{command, data, parameters, place, INDEX};
use super::*;

fn nothing() -> Result<Place, Error> {
    place(0, 0)
}

fn keep(write: &mut Recovering, ttt: Ttt, sn: u32, offset: u32, len: u32, last: bool) -> u32 {
    let place = write.data_out(&data(ttt, sn, offset, len, last)).unwrap();
    assert!(place.keep == 0 || place.offset == offset);
    place.keep
}

/// The R2T: number, offset, length.
fn asked(write: &mut Recovering) -> Option<(u32, u32, u32)> {
    let r2t = write.next_r2t()?;
    assert_eq!(r2t.ttt, Ttt::new(INDEX, r2t.r2t_sn.0));
    Some((r2t.r2t_sn.0, r2t.offset, r2t.length))
}

fn begun() -> Recovering {
    let mut write = Recovering::new(&command(true, 4_096, 40_960), &parameters(), INDEX, 40_960);
    assert_eq!(
        write.immediate(),
        Place {
            offset: 0,
            keep: 4_096
        }
    );
    assert_eq!(asked(&mut write), Some((0, 4_096, 16_384)));
    assert_eq!(asked(&mut write), Some((1, 20_480, 16_384)));
    assert_eq!(asked(&mut write), None, "MaxOutstandingR2T");
    write
}

const FIRST: Ttt = Ttt::new(INDEX, 0);
const SECOND: Ttt = Ttt::new(INDEX, 1);
const THIRD: Ttt = Ttt::new(INDEX, 2);
const FOURTH: Ttt = Ttt::new(INDEX, 3);

#[test]
fn nothing_is_lost() {
    let mut write = begun();
    // R2Ts may be answered in any order.
    assert_eq!(keep(&mut write, SECOND, 0, 20_480, 16_384, true), 16_384);
    assert_eq!(asked(&mut write), Some((2, 36_864, 4_096)));
    for i in 0..4 {
        assert_eq!(
            keep(&mut write, FIRST, i, 4_096 + i * 4_096, 4_096, i == 3),
            4_096
        );
    }
    assert!(!write.complete());
    assert_eq!(keep(&mut write, THIRD, 0, 36_864, 4_096, true), 4_096);
    assert!(write.complete() && write.fault().is_none());
    assert_eq!(write.r2ts(), DataSn(3));
}

#[test]
fn a_pdu_is_missing() {
    let mut write = begun();
    assert_eq!(keep(&mut write, FIRST, 0, 4_096, 4_096, false), 4_096);
    assert_eq!(keep(&mut write, FIRST, 2, 12_288, 4_096, false), 0, "7.9");
    // What comes again of what is here changes nothing.
    assert_eq!(keep(&mut write, FIRST, 0, 4_096, 4_096, false), 0);
    // Late: the rest is asked for again.
    assert_eq!(keep(&mut write, FIRST, 1, 8_192, 4_096, false), 0);
    assert_eq!(asked(&mut write), None, "not while the sequence goes on");
    assert_eq!(keep(&mut write, FIRST, 3, 16_384, 4_096, true), 0);
    assert_eq!(
        asked(&mut write),
        Some((2, 8_192, 12_288)),
        "a recovery R2T"
    );
    assert_eq!(
        keep(&mut write, FIRST, 3, 16_384, 4_096, true),
        0,
        "after its sequence"
    );
    assert_eq!(keep(&mut write, SECOND, 0, 20_480, 16_384, true), 16_384);
    assert_eq!(keep(&mut write, THIRD, 0, 8_192, 12_288, true), 12_288);
    assert_eq!(asked(&mut write), Some((3, 36_864, 4_096)));
    assert_eq!(keep(&mut write, FOURTH, 0, 36_864, 4_096, true), 4_096);
    assert!(write.complete() && write.fault().is_none());
}

#[test]
fn a_digest_is_wrong() {
    // The last PDU of a sequence, its first, and the whole of one.
    let mut write = begun();
    assert_eq!(keep(&mut write, FIRST, 0, 4_096, 12_288, false), 12_288);
    assert_eq!(keep(&mut write, FIRST, 1, 16_384, 4_096, true), 4_096);
    write.spoil();
    write.spoil();
    assert_eq!(asked(&mut write), Some((2, 16_384, 4_096)));
    assert_eq!(keep(&mut write, SECOND, 0, 20_480, 4_096, false), 4_096);
    write.spoil();
    assert_eq!(keep(&mut write, SECOND, 1, 24_576, 12_288, true), 0);
    write.spoil();
    assert_eq!(asked(&mut write), Some((3, 20_480, 16_384)));
    assert_eq!(keep(&mut write, THIRD, 0, 16_384, 4_096, true), 4_096);
    assert_eq!(keep(&mut write, FOURTH, 0, 20_480, 16_384, true), 16_384);
    write.spoil();
    assert_eq!(asked(&mut write), Some((4, 20_480, 16_384)));
    assert!(!write.complete());
}

#[test]
fn unsolicited_data_is_lost() {
    let mut write = Recovering::new(&command(false, 1_024, 9_000), &parameters(), INDEX, 9_000);
    assert_eq!(keep(&mut write, Ttt::NONE, 0, 1_024, 1_024, false), 1_024);
    assert_eq!(keep(&mut write, Ttt::NONE, 2, 3_072, 1_024, false), 0);
    assert_eq!(asked(&mut write), None);
    assert_eq!(keep(&mut write, Ttt::NONE, 6, 7_168, 1_024, true), 0);
    assert_eq!(asked(&mut write), Some((0, 2_048, 6_952)));
    assert_eq!(
        write.data_out(&data(Ttt::NONE, 1, 2_048, 1_024, false)),
        nothing()
    );
    assert_eq!(keep(&mut write, FIRST, 0, 2_048, 6_952, true), 6_952);
    assert!(write.complete());

    let mut write = Recovering::new(&command(false, 0, 4_096), &parameters(), INDEX, 4_096);
    assert_eq!(keep(&mut write, Ttt::NONE, 0, 0, 4_096, true), 4_096);
    write.spoil();
    assert_eq!(asked(&mut write), Some((0, 0, 4_096)));

    let mut write = Recovering::new(&command(false, 0, 4_096), &parameters(), INDEX, 4_096);
    write.expire();
    assert_eq!(asked(&mut write), Some((0, 0, 4_096)));
}

#[test]
fn time_runs_out() {
    let mut write = begun();
    assert_eq!(keep(&mut write, SECOND, 0, 20_480, 4_096, false), 4_096);
    write.expire();
    assert_eq!(asked(&mut write), Some((2, 4_096, 16_384)));
    assert_eq!(asked(&mut write), Some((3, 24_576, 12_288)));
    assert_eq!(asked(&mut write), None);
    // Late answers to the first R2Ts.
    assert_eq!(
        write.data_out(&data(FIRST, 0, 4_096, 16_384, true)),
        nothing()
    );
    write.expire();
    assert_eq!(asked(&mut write), Some((4, 4_096, 16_384)));
    write.give_up();
    assert!(!write.complete(), "data is on its way");
    write.expire();
    assert!(write.complete());
    assert_eq!(asked(&mut write), None);
}

#[test]
fn r2ts_again() {
    let mut write = begun();
    let wanted = |write: &Recovering, sn| write.again(sn).map(|r2t| (r2t.offset, r2t.length));
    assert_eq!(wanted(&write, 0), Some((4_096, 16_384)));
    assert_eq!(wanted(&write, 1), Some((20_480, 16_384)));
    assert_eq!(wanted(&write, 2), None);
    assert_eq!(keep(&mut write, FIRST, 0, 4_096, 4_096, false), 4_096);
    assert_eq!(wanted(&write, 0), None, "acknowledged by its data");
}

#[test]
fn what_no_recovery_helps() {
    for (ttt, sn, offset, len, reason) in [
        (THIRD, 0, 4_096, 1, RejectReason::InvalidPduField),
        (
            Ttt::new(INDEX + 1, 0),
            0,
            4_096,
            1,
            RejectReason::InvalidPduField,
        ),
        (Ttt::NONE, 0, 4_096, 1, RejectReason::ProtocolError),
        (FIRST, 0, 4_097, 1, RejectReason::InvalidPduField),
    ] {
        let mut write = begun();
        let before = write;
        let wrong = write
            .data_out(&data(ttt, sn, offset, len, true))
            .unwrap_err();
        assert_eq!((wrong.reason, wrong.close), (reason, false));
        assert_eq!(write, before);
    }
    let mut write = begun();
    assert_eq!(keep(&mut write, FIRST, 0, 4_096, 16_385, true), 0);
    assert_eq!(write.fault(), Some(Fault::IncorrectAmount));
    assert_eq!(keep(&mut write, SECOND, 0, 20_480, 16_384, true), 0);
    assert!(write.complete());
    let mut write = begun();
    assert_eq!(keep(&mut write, FIRST, 0, 4_096, 16_383, true), 16_383);
    assert_eq!(write.fault(), Some(Fault::IncorrectAmount));
}

#[test]
fn another_connection_goes_on() {
    let mut write = begun();
    assert_eq!(keep(&mut write, FIRST, 0, 4_096, 4_096, false), 4_096);
    write.reassign(INDEX + 1);
    // What was asked for before is not taken any more.
    assert!(write
        .data_out(&data(SECOND, 0, 20_480, 16_384, true))
        .is_err());
    let r2t = write.next_r2t().unwrap();
    assert_eq!(r2t.ttt, Ttt::new(INDEX + 1, 2));
    assert_eq!((r2t.offset, r2t.length), (8_192, 12_288));
    let r2t = write.next_r2t().unwrap();
    assert_eq!((r2t.offset, r2t.length), (20_480, 16_384));
    assert_eq!(write.next_r2t(), None);

    // A PDU was on its way.
    let mut write = begun();
    assert_eq!(keep(&mut write, FIRST, 0, 4_096, 4_096, false), 4_096);
    assert_eq!(keep(&mut write, FIRST, 1, 8_192, 4_096, false), 4_096);
    write.interrupt();
    write.reassign(INDEX);
    assert_eq!(asked(&mut write), Some((2, 8_192, 12_288)));
    let mut write = Recovering::new(&command(true, 4_096, 40_960), &parameters(), INDEX, 40_960);
    write.interrupt();
    write.reassign(INDEX);
    assert_eq!(asked(&mut write), Some((0, 0, 16_384)));

    // Unsolicited data that was announced does not come here.
    let mut write = Recovering::new(&command(false, 0, 40_960), &parameters(), INDEX, 40_960);
    write.reassign(3);
    assert!(write
        .data_out(&data(Ttt::NONE, 0, 0, 4_096, false))
        .is_err());
    assert_eq!(write.next_r2t().map(|r| r.offset), Some(0));
}
