// SPDX-License-Identifier: GPL-2.0

//! Write data on a bad link at error recovery level 1 (RFC 7143, 7.1.4, 7.8, 7.9): PDUs are lost, come with wrong digests, come
//! twice, and sequences in any order. A map of the bytes that are here says what may be asked for: nothing that is here, nothing
//! twice at a time; and when the link is good again the command is executed with all of its data. SNACK runs, against lists.
// fuzz: -max_len=300

#![no_main]

use iscsi_proto::{
    negotiate::Parameters,
    pdu::{CommandFlags, DataOut, ScsiCommand, Snack, TextFlags},
    recovery::{self, Asked},
    sn::{CmdSn, DataSn, StatSn},
    transfer::{
        recover::{Recovering, OUTSTANDING},
        Wanted,
    },
    wire::{DataLen, Itt, Lun, Ttt},
};
use libfuzzer_sys::fuzz_target;
use lio_fuzz::Input;

const LUN: Lun = Lun([0, 1, 0, 0, 0, 0, 0, 0]);
const INDEX: u16 = 7;

fn data_out(ttt: Ttt, data_sn: u32, offset: u32, len: u32, last: bool) -> DataOut {
    DataOut {
        flags: TextFlags(0).with_last(last),
        data_len: DataLen::new(len).unwrap(),
        lun: LUN,
        itt: Itt(1),
        ttt,
        exp_stat_sn: StatSn(1),
        data_sn: DataSn(data_sn),
        offset,
    }
}

/// A sequence as the initiator sends it.
struct Sequence {
    ttt: Ttt,
    at: u32,
    end: u32,
    data_sn: u32,
}

struct Link {
    write: Recovering,
    /// 1: this byte is here.
    here: Vec<u8>,
    sequences: Vec<Sequence>,
    /// What the target has asked for and not seen the end of: with the number of each R2T.
    asked: Vec<Wanted>,
    most: usize,
    max_burst: u32,
    sent: u32,
}

impl Link {
    fn ask(&mut self) {
        while let Some(r2t) = self.write.next_r2t() {
            assert_eq!(r2t.r2t_sn.0, self.sent);
            self.sent += 1;
            let range = r2t.offset..r2t.offset + r2t.length;
            assert!(r2t.length > 0 && r2t.length <= self.max_burst);
            assert!(range.end as usize <= self.here.len());
            let bytes = &self.here[range.start as usize..range.end as usize];
            assert!(!bytes.contains(&1), "asked for what is here");
            for other in &self.asked {
                assert!(range.end <= other.offset || range.start >= other.offset + other.length);
            }
            self.asked.push(r2t);
            assert!(self.asked.len() <= self.most);
            assert_eq!(self.write.again(r2t.r2t_sn.0), Some(r2t));
            self.sequences.push(Sequence {
                ttt: r2t.ttt,
                at: range.start,
                end: range.end,
                data_sn: 0,
            });
        }
    }

    /// A PDU comes; `good`: with a right digest.
    fn deliver(&mut self, pdu: &DataOut, good: bool) {
        let place = self.write.data_out(pdu).expect("an honest PDU");
        if place.keep > 0 {
            assert_eq!(place.offset, pdu.offset);
            assert!(place.keep <= pdu.data_len.bytes());
        }
        if good {
            let (at, keep) = (place.offset as usize, place.keep as usize);
            let bytes = self.here.get_mut(at..at + keep);
            assert!(bytes.is_some() || keep == 0);
            let bytes = bytes.unwrap_or_default();
            assert!(!bytes.contains(&1), "taken twice");
            bytes.fill(1);
        } else {
            self.write.spoil();
        }
        assert_eq!(self.write.fault(), None);
        if pdu.flags.last() {
            self.asked.retain(|r2t| r2t.ttt != pdu.ttt);
        }
    }

    /// Nothing more is on its way.
    fn expire(&mut self) {
        self.write.expire();
        self.asked.clear();
        self.sequences.clear();
    }
}

fn transfer(input: &mut Input<'_>) {
    let bits = input.u8();
    let max_burst = 512 + u32::from(input.u16()) % 3_000;
    let parameters = Parameters {
        initial_r2t: bits & 1 != 0,
        immediate_data: bits & 2 != 0,
        max_burst,
        first_burst: 512 + u32::from(input.u16()) % (max_burst - 511),
        max_outstanding_r2t: 1 + u16::from(bits >> 4 & 7),
        ..Parameters::default()
    };
    let expected = u32::from(input.u16()) % 9_000;
    let wanted = match bits & 4 {
        0 => expected,
        _ => u32::from(input.u16()) % 9_000,
    };
    let burst = parameters.first_burst.min(expected);
    let immediate = match parameters.immediate_data {
        true => u32::from(input.u16()) % (burst + 1),
        false => 0,
    };
    let unsolicited = !parameters.initial_r2t && immediate < burst && bits & 8 != 0;
    let command = ScsiCommand {
        flags: CommandFlags(0).with_write(true).with_last(!unsolicited),
        data_len: DataLen::new(immediate).unwrap(),
        lun: LUN,
        itt: Itt(1),
        expected_len: expected,
        cmd_sn: CmdSn(1),
        exp_stat_sn: StatSn(1),
        cdb: [0; 16],
    };
    let write = Recovering::new(&command, &parameters, INDEX, wanted);
    let mut here = vec![0; wanted.min(expected) as usize];
    let place = write.immediate();
    assert_eq!(
        (place.offset, place.keep),
        (0, immediate.min(here.len() as u32))
    );
    here[..place.keep as usize].fill(1);
    let mut link = Link {
        write,
        here,
        sequences: vec![],
        asked: vec![],
        most: usize::from(parameters.max_outstanding_r2t).min(OUTSTANDING),
        max_burst,
        sent: 0,
    };
    if unsolicited {
        link.sequences.push(Sequence {
            ttt: Ttt::NONE,
            at: immediate,
            end: burst,
            data_sn: 0,
        });
    }
    let piece = 1 + u32::from(input.u16()) % max_burst;
    let piece = piece.max(expected / 24 + 1);
    let mut last = None;
    for step in 0.. {
        assert!(step < 2_000, "the command does not end");
        link.ask();
        if link.write.complete() {
            break;
        }
        let fate = input.u8();
        if link.sequences.is_empty() {
            // Something was lost at the end of a sequence: its time runs out.
            link.expire();
            continue;
        }
        let i = usize::from(fate >> 4) % link.sequences.len();
        let s = &mut link.sequences[i];
        let len = piece.min(s.end - s.at);
        let pdu = data_out(s.ttt, s.data_sn, s.at, len, s.at + len == s.end);
        s.at += len;
        s.data_sn += 1;
        if s.at == s.end {
            link.sequences.remove(i);
        }
        // Zeroes, which follow the input, are a good link.
        match fate & 0x0f {
            1..=3 => {}
            4..=6 => link.deliver(&pdu, false),
            7 => {
                link.deliver(&pdu, true);
                link.deliver(&pdu, true);
            }
            8 => {
                if let Some(old) = last.replace(pdu) {
                    link.deliver(&old, true);
                }
                continue;
            }
            9 => {
                link.deliver(&pdu, true);
                link.expire();
            }
            _ => link.deliver(&pdu, true),
        }
    }
    assert!(!link.here.contains(&0), "executed without its data");
    assert_eq!(link.write.r2ts(), DataSn(link.sent));
}

/// 11.16: what a run means, by a list of all numbers that there are.
fn snack(input: &mut Input<'_>) {
    let (oldest, count) = (input.u32(), u32::from(input.u8()));
    let kept: Vec<_> = (0..count).map(|n| oldest.wrapping_add(n)).collect();
    let near = |input: &mut Input<'_>| match input.u8() {
        0 => 0,
        1 => input.u32(),
        n => oldest.wrapping_add(u32::from(n)).wrapping_sub(8),
    };
    let pdu = Snack {
        kind: 0x80 | input.u8() & 0x0f,
        data_len: DataLen::new(0).unwrap(),
        lun: LUN,
        itt: Itt(if input.bool() { u32::MAX } else { input.u32() }),
        ttt: Ttt(if input.bool() { u32::MAX } else { input.u32() }),
        exp_stat_sn: StatSn(0),
        begin: near(input),
        length: if input.bool() { 0 } else { near(input) },
    };
    let (tag, none) = (pdu.itt.0 != u32::MAX, pdu.ttt.0 == u32::MAX);
    let all = pdu.begin == 0 && pdu.length == 0;
    let right = match pdu.kind & 0x0f {
        0 => tag && none,
        1 => !tag && none,
        2 => !tag && !none && pdu.length == 0,
        3 => tag && all,
        _ => false,
    };
    let asked = recovery::read(&pdu);
    assert_eq!(asked.is_ok(), right);
    let Ok(Asked::Data { run, .. } | Asked::Status(run)) = asked else {
        return;
    };
    let from = kept.iter().position(|sn| *sn == pdu.begin);
    let want: Option<&[u32]> = match (all, from, pdu.length) {
        (true, ..) => Some(&kept),
        (_, Some(from), 0) => Some(&kept[from..]),
        (_, Some(from), n) => kept[from..].get(..n as usize),
        _ => None,
    };
    let got = run.within(oldest, oldest.wrapping_add(count)).ok();
    assert_eq!(
        got.map(|(skip, n)| &kept[skip as usize..(skip + n) as usize]),
        want
    );
}

fuzz_target!(|input: &[u8]| {
    let mut input = Input::new(input);
    match input.below(4) {
        0 => snack(&mut input),
        _ => transfer(&mut input),
    }
});
