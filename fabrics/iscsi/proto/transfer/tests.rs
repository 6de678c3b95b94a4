// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::pdu::{CommandFlags, TextFlags};
use crate::sn::{CmdSn, StatSn};
use crate::test_util::Random;
use crate::wire::{DataLen, Itt};
use std::vec::Vec;

pub(super) const INDEX: u16 = 9;

pub(super) fn parameters() -> Parameters {
    Parameters {
        initial_r2t: false,
        immediate_data: true,
        max_recv: 4_096,
        max_xmit: 4_096,
        max_burst: 16_384,
        first_burst: 8_192,
        max_outstanding_r2t: 2,
        ..Parameters::default()
    }
}

pub(super) fn command(last: bool, immediate: u32, expected: u32) -> ScsiCommand {
    ScsiCommand {
        flags: CommandFlags(0x21).with_last(last),
        data_len: DataLen::new(immediate).unwrap(),
        lun: Lun([0, 1, 0, 0, 0, 0, 0, 0]),
        itt: Itt(5),
        expected_len: expected,
        cmd_sn: CmdSn(1),
        exp_stat_sn: StatSn(1),
        cdb: [0; 16],
    }
}

pub(super) fn data(ttt: Ttt, sn: u32, offset: u32, len: u32, last: bool) -> DataOut {
    DataOut {
        flags: TextFlags::default().with_last(last),
        data_len: DataLen::new(len).unwrap(),
        lun: Lun([0, 1, 0, 0, 0, 0, 0, 0]),
        itt: Itt(5),
        ttt,
        exp_stat_sn: StatSn(1),
        data_sn: DataSn(sn),
        offset,
    }
}

pub(super) fn place(offset: u32, keep: u32) -> Result<Place, Error> {
    Ok(Place { offset, keep })
}

#[test]
fn immediate_unsolicited_and_solicited() {
    let mut write = Write::new(&command(false, 4_096, 40_960), &parameters(), INDEX, 40_960);
    assert_eq!(
        write.immediate(),
        Place {
            offset: 0,
            keep: 4_096
        }
    );
    assert_eq!(write.next_r2t(), None, "not while unsolicited data comes");
    assert_eq!(
        write.data_out(&data(Ttt::NONE, 0, 4_096, 2_048, false)),
        place(4_096, 2_048)
    );
    assert_eq!(
        write.data_out(&data(Ttt::NONE, 1, 6_144, 2_048, true)),
        place(6_144, 2_048)
    );
    let first = write.next_r2t().unwrap();
    assert_eq!(
        first,
        Wanted {
            ttt: Ttt::new(INDEX, 0),
            r2t_sn: R2tSn(0),
            offset: 8_192,
            length: 16_384
        }
    );
    let second = write.next_r2t().unwrap();
    assert_eq!(
        second,
        Wanted {
            ttt: Ttt::new(INDEX, 1),
            r2t_sn: R2tSn(1),
            offset: 24_576,
            length: 16_384
        }
    );
    assert_eq!(write.next_r2t(), None);
    for (round, r2t) in [first, second].iter().enumerate() {
        for sn in 0..4 {
            assert!(!write.complete());
            let at = r2t.offset + sn * 4_096;
            assert_eq!(
                write.data_out(&data(r2t.ttt, sn, at, 4_096, sn == 3)),
                place(at, 4_096),
                "{round} {sn}"
            );
        }
    }
    assert!(write.complete());
    assert_eq!(write.fault(), None);
    assert_eq!(write.received(), 40_960);
    assert_eq!(write.r2ts(), DataSn(2));
    assert_eq!(write.next_r2t(), None);
}

#[test]
fn all_data_is_immediate() {
    let write = Write::new(&command(true, 512, 512), &parameters(), INDEX, 512);
    assert!(write.complete());
    assert_eq!(write.fault(), None);
}

#[test]
fn less_unsolicited_data_than_might_be() {
    // All of the data would fit into the first burst: what is left out is asked for.
    let mut write = Write::new(&command(false, 0, 8_192), &parameters(), INDEX, 8_192);
    assert_eq!(
        write.data_out(&data(Ttt::NONE, 0, 0, 4_096, true)),
        place(0, 4_096)
    );
    assert_eq!(
        write.next_r2t().map(|r| (r.offset, r.length)),
        Some((4_096, 4_096))
    );
    // There is more data than the first burst: it must be full.
    let mut write = Write::new(&command(false, 0, 8_704), &parameters(), INDEX, 8_704);
    assert_eq!(
        write.data_out(&data(Ttt::NONE, 0, 0, 4_096, true)),
        place(0, 4_096)
    );
    assert_eq!(write.fault(), Some(Fault::IncorrectAmount));
    assert!(write.complete());
}

#[test]
fn what_was_not_agreed_on() {
    let strict = Parameters {
        initial_r2t: true,
        immediate_data: false,
        ..parameters()
    };
    let write = Write::new(&command(true, 512, 1_024), &strict, INDEX, 1_024);
    assert_eq!(write.fault(), Some(Fault::UnexpectedUnsolicited));
    assert_eq!(write.immediate().keep, 0);
    assert!(write.complete());
    // What follows is waited for and thrown away, in whatever state it is.
    let mut write = Write::new(&command(false, 0, 1_024), &strict, INDEX, 1_024);
    assert_eq!(write.fault(), Some(Fault::UnexpectedUnsolicited));
    assert!(!write.complete());
    assert_eq!(
        write.data_out(&data(Ttt::NONE, 3, 77, 512, false)),
        place(0, 0)
    );
    assert_eq!(
        write.data_out(&data(Ttt::NONE, 3, 77, 512, true)),
        place(0, 0)
    );
    assert!(write.complete());
    assert_eq!(write.fault().unwrap().sense(), (0x0c, 0x0c));
    // More immediate data than the first burst.
    let write = Write::new(&command(true, 8_193, 16_384), &parameters(), INDEX, 16_384);
    assert_eq!(write.fault(), Some(Fault::IncorrectAmount));
    // F is 0, but nothing can follow.
    let write = Write::new(&command(false, 8_192, 16_384), &parameters(), INDEX, 16_384);
    assert_eq!(write.fault(), Some(Fault::IncorrectAmount));
}

#[test]
fn too_much_data() {
    let mut write = Write::new(&command(false, 0, 16_384), &parameters(), INDEX, 16_384);
    assert_eq!(
        write.data_out(&data(Ttt::NONE, 0, 0, 8_193, false)),
        place(0, 0)
    );
    assert_eq!(write.fault(), Some(Fault::IncorrectAmount));
    assert!(!write.complete(), "the sequence is still coming");
    let mut write = Write::new(&command(true, 0, 16_384), &parameters(), INDEX, 16_384);
    let r2t = write.next_r2t().unwrap();
    assert_eq!(
        write.data_out(&data(r2t.ttt, 0, 0, 16_385, true)),
        place(0, 0)
    );
    assert_eq!(write.fault(), Some(Fault::IncorrectAmount));
    assert!(write.complete());
    // Too little in answer to an R2T.
    let mut write = Write::new(&command(true, 0, 16_384), &parameters(), INDEX, 16_384);
    let r2t = write.next_r2t().unwrap();
    assert_eq!(
        write.data_out(&data(r2t.ttt, 0, 0, 512, true)),
        place(0, 512)
    );
    assert_eq!(write.fault().unwrap().sense(), (0x0c, 0x0d));
    assert!(write.complete());
}

#[test]
fn wrong_pdus() {
    let fresh = || {
        let mut write = Write::new(&command(true, 0, 65_536), &parameters(), INDEX, 65_536);
        (write.next_r2t().unwrap(), write.next_r2t().unwrap(), write)
    };
    let judge = |pdu: DataOut| {
        let (_, _, mut write) = fresh();
        let error = write.data_out(&pdu).unwrap_err();
        assert_eq!(write.received(), 0);
        (error.reason, error.close)
    };
    use RejectReason::{InvalidPduField, ProtocolError};
    let (first, second, _) = fresh();
    assert_eq!(
        judge(data(Ttt::NONE, 0, 0, 512, true)),
        (ProtocolError, false)
    );
    assert_eq!(
        judge(data(Ttt::new(INDEX + 1, 0), 0, 0, 512, true)),
        (InvalidPduField, false)
    );
    assert_eq!(
        judge(data(second.ttt, 0, 16_384, 512, true)),
        (ProtocolError, true)
    );
    assert_eq!(
        judge(data(first.ttt, 1, 0, 512, true)),
        (ProtocolError, true)
    );
    assert_eq!(
        judge(data(first.ttt, 0, 512, 512, true)),
        (ProtocolError, true)
    );
    let mut other = data(first.ttt, 0, 0, 512, true);
    other.lun = Lun([0; 8]);
    assert_eq!(judge(other), (InvalidPduField, false));
    // Unsolicited data with a tag; data when none is awaited.
    let mut write = Write::new(&command(false, 0, 65_536), &parameters(), INDEX, 65_536);
    assert!(write.data_out(&data(first.ttt, 0, 0, 512, true)).is_err());
    let mut write = Write::new(&command(true, 512, 512), &parameters(), INDEX, 512);
    assert!(write.data_out(&data(first.ttt, 0, 512, 0, true)).is_err());
}

#[test]
fn scsi_needs_less_than_was_expected() {
    let mut write = Write::new(&command(false, 512, 8_192), &parameters(), INDEX, 1_024);
    assert_eq!(
        write.data_out(&data(Ttt::NONE, 0, 512, 1_024, false)),
        place(512, 512)
    );
    assert_eq!(
        write.data_out(&data(Ttt::NONE, 1, 1_536, 512, true)),
        place(1_536, 0)
    );
    assert!(write.complete());
    assert_eq!(write.fault(), None);
    assert_eq!(write.received(), 1_024);
    // And asks for no more than that.
    let mut write = Write::new(&command(true, 0, 8_192), &parameters(), INDEX, 1_024);
    assert_eq!(write.next_r2t().map(|r| r.length), Some(1_024));
    assert_eq!(write.next_r2t(), None);
}

#[test]
fn giving_up_drains() {
    let mut write = Write::new(&command(true, 0, 65_536), &parameters(), INDEX, 65_536);
    let first = write.next_r2t().unwrap();
    let second = write.next_r2t().unwrap();
    write.give_up();
    assert_eq!(write.next_r2t(), None);
    assert_eq!(
        write.data_out(&data(first.ttt, 0, 0, 16_384, true)),
        place(0, 0)
    );
    assert!(!write.complete());
    assert_eq!(
        write.data_out(&data(second.ttt, 0, 16_384, 16_384, true)),
        place(0, 0)
    );
    assert!(write.complete());
}

/// A right initiator, with whatever was agreed on and however it cuts its data: all of it arrives, once, in order.
#[test]
fn random_writes_arrive() {
    let mut random = Random::new(17);
    for _ in 0..5_000 {
        let p = Parameters {
            initial_r2t: random.below(2) == 0,
            immediate_data: random.below(2) == 0,
            max_burst: 512 + random.below(5_000) as u32,
            first_burst: 512,
            max_outstanding_r2t: 1 + random.below(4) as u16,
            ..Parameters::default()
        };
        let p = Parameters {
            first_burst: 512 + random.below(p.max_burst as usize - 511) as u32,
            ..p
        };
        let expected = 1 + random.below(20_000) as u32;
        let wanted = 1 + random.below(20_000) as u32;
        let first_end = p.first_burst.min(expected);
        let immediate = if p.immediate_data {
            random.below(first_end as usize + 1) as u32
        } else {
            0
        };
        let last = p.initial_r2t || immediate == first_end || random.below(2) == 0;
        let mut write = Write::new(&command(last, immediate, expected), &p, INDEX, wanted);
        let mut arrived = write.immediate().keep;
        let mut sequences: Vec<(Ttt, u32, u32)> = Vec::new();
        if !last {
            sequences.push((Ttt::NONE, immediate, first_end));
        }
        loop {
            while let Some(r2t) = write.next_r2t() {
                assert!(r2t.length > 0 && r2t.length <= p.max_burst);
                sequences.push((r2t.ttt, r2t.offset, r2t.offset + r2t.length));
            }
            assert!(sequences.len() <= usize::from(p.max_outstanding_r2t));
            if sequences.is_empty() {
                break;
            }
            let (ttt, mut at, end) = sequences.remove(0);
            let mut sn = 0;
            loop {
                assert!(!write.complete());
                let len = (1 + random.below(2_000) as u32).min(end - at);
                let place = write
                    .data_out(&data(ttt, sn, at, len, at + len == end))
                    .unwrap();
                assert_eq!(place.offset, at);
                arrived += place.keep;
                (at, sn) = (at + len, sn + 1);
                if at == end {
                    break;
                }
            }
        }
        assert!(write.complete());
        assert_eq!(write.fault(), None);
        assert_eq!(arrived, wanted.min(expected));
        assert_eq!(write.received(), wanted.min(expected));
    }
}

/// Any PDUs at all: nothing overflows, and nothing is kept beyond what is wanted.
#[test]
fn random_data_out_never_panics() {
    let mut random = Random::new(19);
    for _ in 0..20_000 {
        let expected = random.next() as u32;
        let immediate = (random.next() as u32 & 0xffff).min(expected);
        let wanted = random.next() as u32;
        let p = Parameters {
            max_burst: DataLen::MAX,
            max_outstanding_r2t: u16::MAX,
            ..parameters()
        };
        let mut write = Write::new(
            &command(random.below(2) == 0, immediate, expected),
            &p,
            INDEX,
            wanted,
        );
        let (mut r2ts, mut at) = (0, immediate);
        for _ in 0..8 {
            r2ts += u32::from(write.next_r2t().is_some());
            let mut pdu = data(
                Ttt::new(INDEX, random.below(3) as u32),
                0,
                at,
                random.next() as u32 & 0xff_ffff,
                random.below(2) == 0,
            );
            if random.below(2) == 0 {
                pdu.ttt = Ttt::NONE;
            }
            if random.below(4) == 0 {
                pdu.offset = random.next() as u32;
                pdu.data_sn = DataSn(random.below(3) as u32);
            }
            if let Ok(place) = write.data_out(&pdu) {
                assert!(place.keep <= pdu.data_len.bytes());
                assert!(place.keep == 0 || place.offset + place.keep <= wanted.min(expected));
                at = write.received;
            }
        }
        assert_eq!(write.r2ts(), DataSn(r2ts));
    }
}

#[test]
fn reads_are_cut() {
    let p = Parameters {
        max_xmit: 4_096,
        max_burst: 10_000,
        ..parameters()
    };
    let chunks: Vec<_> = Read::new(20_100, &p, true)
        .map(|c| (c.offset, c.length, c.data_sn.0, c.flags.0))
        .collect();
    assert_eq!(
        chunks,
        [
            (0, 4_096, 0, 0),
            (4_096, 4_096, 1, 0),
            (8_192, 1_808, 2, 0x80),
            (10_000, 4_096, 3, 0),
            (14_096, 4_096, 4, 0),
            (18_192, 1_808, 5, 0x80),
            (20_000, 100, 6, 0x81),
        ]
    );
    assert_eq!(Read::new(0, &p, true).next(), None);
    let mut read = Read::new(512, &p, false);
    assert_eq!(read.next().map(|c| c.flags.0), Some(0x80));
    assert_eq!(read.next(), None);
    assert_eq!(read.pdus(), DataSn(1));
}

#[test]
fn random_reads_are_whole() {
    let mut random = Random::new(23);
    for _ in 0..2_000 {
        let p = Parameters {
            max_xmit: 512 + random.below(9_000) as u32,
            max_burst: 512 + random.below(20_000) as u32,
            ..parameters()
        };
        let total = random.below(100_000) as u32;
        let (mut at, mut burst, mut sn) = (0, 0, 0);
        for chunk in Read::new(total, &p, true) {
            assert_eq!((chunk.offset, chunk.data_sn), (at, DataSn(sn)));
            assert!(chunk.length > 0 && chunk.length <= p.max_xmit);
            at += chunk.length;
            burst += chunk.length;
            sn += 1;
            assert!(burst <= p.max_burst);
            assert_eq!(chunk.flags.status(), at == total);
            assert_eq!(chunk.flags.last(), burst == p.max_burst || at == total);
            if chunk.flags.last() {
                burst = 0;
            }
        }
        assert_eq!(at, total);
    }
    // To the end of what 32 bits can count.
    let p = Parameters {
        max_xmit: DataLen::MAX,
        max_burst: DataLen::MAX,
        ..parameters()
    };
    let sum: u64 = Read::new(u32::MAX, &p, false)
        .map(|c| u64::from(c.length))
        .sum();
    assert_eq!(sum, u64::from(u32::MAX));
}

#[test]
fn residuals() {
    for (expected, actual, want) in [
        (512, 512, Residual::None),
        (0, 0, Residual::None),
        (512, 0, Residual::Underflow(512)),
        (1_024, 512, Residual::Underflow(512)),
        (512, 1_024, Residual::Overflow(512)),
        (0, u64::MAX, Residual::Overflow(u32::MAX)),
        (u32::MAX, 0, Residual::Underflow(u32::MAX)),
    ] {
        assert_eq!(Residual::of(expected, actual), want);
    }
    let over = Residual::Overflow(3);
    assert_eq!((over.count(), over.response_flags().0), (3, 4));
    let flags = DataInFlags::default().with_last(true).with_status(true);
    assert_eq!(Residual::Underflow(1).data_in_flags(flags).0, 0x83);
    assert_eq!(Residual::None.data_in_flags(flags).0, 0x81);
}

#[test]
fn reads_again() {
    let mut random = Random::new(77);
    for _ in 0..300 {
        let mut p = parameters();
        p.max_burst = 512 + (random.next() % 9_000) as u32;
        p.max_xmit = 512 + (random.next() % 9_000) as u32;
        let read = Read::new((random.next() % 60_000) as u32, &p, false);
        let all: Vec<_> = read.collect();
        assert_eq!(read.pdus_in_all() as usize, all.len());
        let first = random.below(all.len() + 1);
        let count = random.below(all.len() + 2);
        let again: Vec<_> = read.again(first as u32, count as u32).collect();
        assert_eq!(
            again,
            all[first..all.len().min(first + count)],
            "exact replicas"
        );
        let mut other = p;
        other.max_xmit = 512 + (random.next() % 9_000) as u32;
        let segments: Vec<_> = read.resegmented(other.max_xmit).collect();
        let fresh: Vec<_> = Read::new(read.total, &other, false).collect();
        assert_eq!(segments, fresh);
    }
}

#[test]
fn reads_on_another_connection() {
    let mut random = Random::new(78);
    for _ in 0..300 {
        let mut p = parameters();
        p.max_burst = 512 + (random.next() % 9_000) as u32;
        p.max_xmit = 512 + (random.next() % 9_000) as u32;
        let mut read = Read::new((random.next() % 60_000) as u32, &p, false);
        for _ in 0..3 {
            let all: Vec<_> = read.collect();
            let first = read.first() + random.below(all.len() + 1) as u32;
            let at = (first - read.first()) as usize;
            let begin = all.get(at).map_or(read.total, |c| c.offset);
            let max = 512 + (random.next() % 9_000) as u32;
            let resumed = read.resumed(first, max);
            let rest: Vec<_> = resumed.collect();
            // All that was not acknowledged, with numbers that go on; bursts end where they did.
            let mut next = (begin, first);
            for chunk in &rest {
                assert_eq!((chunk.offset, chunk.data_sn), (next.0, DataSn(next.1)));
                assert!(chunk.length <= max);
                let end = chunk.offset + chunk.length;
                let burst_over = end % p.max_burst == 0 || end == read.total;
                assert_eq!(chunk.flags.last(), burst_over);
                assert!(chunk.length == max || burst_over);
                next = (end, next.1 + 1);
            }
            assert_eq!(next, (read.total, resumed.pdus_in_all()));
            if max == read.max_pdu() {
                assert_eq!(rest, all[at..]);
            }
            // And each of them may be asked for again.
            let skip = random.below(rest.len() + 1);
            let again: Vec<_> = resumed.again(first + skip as u32, u32::MAX).collect();
            assert_eq!(again, rest[skip..]);
            read = resumed;
        }
    }
}
