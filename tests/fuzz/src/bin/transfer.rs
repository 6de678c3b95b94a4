// SPDX-License-Identifier: GPL-2.0

//! The data of commands (RFC 7143, 4.2.5, 11.4.5, 11.7, 11.8) as a sequence of PDUs: an initiator that answers each R2T
//! gets its command executed, with each byte in its place and asked for once; from any other no byte is taken that was
//! not agreed on, nor one twice, and the command ends.
// fuzz: -max_len=200

#![no_main]

use iscsi_proto::{
    negotiate::Parameters,
    pdu::{CommandFlags, DataOut, ScsiCommand, TextFlags},
    sn::{CmdSn, DataSn, StatSn},
    transfer::{Fault, Place, Read, Residual, Wanted, Write},
    wire::{DataLen, Itt, Lun, Ttt},
};
use libfuzzer_sys::fuzz_target;
use lio_fuzz::Input;
use std::collections::VecDeque;

const LUN: Lun = Lun([0, 1, 0, 0, 0, 0, 0, 0]);
const INDEX: u16 = 7;
/// Data PDUs in one run: R2Ts of few bytes for many would go on for long.
const MOST_PDUS: usize = 48;

fn parameters(input: &mut Input<'_>) -> Parameters {
    let bits = input.u8();
    let max_burst = (input.number32() & 0xff_ffff).max(512);
    Parameters {
        initial_r2t: bits & 1 != 0,
        immediate_data: bits & 2 != 0,
        max_recv: (input.number32() & 0xff_ffff).max(512),
        max_xmit: (input.number32() & 0xff_ffff).max(512),
        max_burst,
        first_burst: (input.number32() & 0xff_ffff).clamp(512, max_burst),
        max_outstanding_r2t: 1 + input.u16() % 40,
        ..Parameters::default()
    }
}

fn command(expected: u32, immediate: u32, last: bool) -> ScsiCommand {
    ScsiCommand {
        flags: CommandFlags(0).with_write(true).with_last(last),
        data_len: DataLen::new(immediate).unwrap(),
        lun: LUN,
        itt: Itt(1),
        expected_len: expected,
        cmd_sn: CmdSn(1),
        exp_stat_sn: StatSn(1),
        cdb: [0; 16],
    }
}

fn data_out(last: bool, ttt: Ttt, data_sn: u32, offset: u32, len: u32) -> DataOut {
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

/// What both kinds of initiators watch: which bytes were taken, and which asked for.
struct Watched {
    write: Write,
    wanted: u32,
    expected: u32,
    parameters: Parameters,
    /// All bytes before this one were taken.
    taken: u32,
    r2ts: VecDeque<Wanted>,
    asked: u32,
    sent: u32,
}

impl Watched {
    fn new(command: &ScsiCommand, parameters: Parameters, wanted: u32) -> Self {
        let write = Write::new(command, &parameters, INDEX, wanted);
        let wanted = wanted.min(command.expected_len);
        let immediate = write.immediate();
        assert_eq!(immediate.offset, 0);
        assert!(immediate.keep <= command.data_len.bytes() && immediate.keep <= wanted);
        Watched {
            write,
            wanted,
            expected: command.expected_len,
            parameters,
            taken: immediate.keep,
            r2ts: VecDeque::new(),
            asked: command.data_len.bytes(),
            sent: 0,
        }
    }

    fn take(&mut self, pdu: &DataOut, place: Place) {
        assert!(place.keep <= pdu.data_len.bytes());
        if place.keep > 0 {
            // In order, none twice, none left out, none that the command does not have.
            assert_eq!((place.offset, pdu.offset), (self.taken, self.taken));
            self.taken += place.keep;
            assert!(self.taken <= self.wanted && self.taken <= self.expected);
        }
    }

    /// Takes all R2Ts that are to be had.
    fn ask(&mut self) {
        while let Some(r2t) = self.write.next_r2t() {
            assert_eq!(
                (r2t.r2t_sn.0, r2t.ttt),
                (self.sent, Ttt::new(INDEX, self.sent))
            );
            assert_ne!(r2t.ttt, Ttt::NONE);
            self.sent += 1;
            // 11.8: in order, none of it twice, at most a burst, and not behind the end.
            assert!(r2t.length > 0 && r2t.length <= self.parameters.max_burst);
            assert!(r2t.offset >= self.taken);
            assert!(self.sent == 1 || r2t.offset == self.asked);
            self.asked = r2t.offset + r2t.length;
            assert!(self.asked <= self.wanted);
            self.r2ts.push_back(r2t);
            assert!(self.r2ts.len() <= usize::from(self.parameters.max_outstanding_r2t));
        }
        assert!(!self.write.wants_r2t());
    }
}

/// Sends what was agreed on, and answers each R2T.
fn honest(input: &mut Input<'_>) {
    let parameters = parameters(input);
    let expected = input.number32() & 0x3f_ffff;
    let wanted = if input.bool() {
        expected
    } else {
        input.number32()
    };
    let burst = parameters.first_burst.min(expected);
    let immediate = match parameters.immediate_data {
        true => (input.number32() % (burst + 1)).min(parameters.max_recv),
        false => 0,
    };
    // Unsolicited data goes up to the first burst, or is not announced.
    let unsolicited = !parameters.initial_r2t && immediate < burst && input.bool();
    let mut w = Watched::new(
        &command(expected, immediate, !unsolicited),
        parameters,
        wanted,
    );
    let piece = (input.number32() & 0xff_ffff).clamp(1, parameters.max_recv);
    let mut pdus = 0;
    let mut send = |w: &mut Watched, ttt, from: u32, to: u32| {
        let (mut at, mut data_sn) = (from, 0);
        while at < to && pdus < MOST_PDUS {
            let len = piece.min(to - at);
            let pdu = data_out(at + len == to, ttt, data_sn, at, len);
            let place = w.write.data_out(&pdu).expect("data in order was refused");
            w.take(&pdu, place);
            assert_eq!(w.write.fault(), None);
            at += len;
            data_sn += 1;
            pdus += 1;
        }
        at >= to
    };
    if unsolicited && !send(&mut w, Ttt::NONE, immediate, burst) {
        return;
    }
    loop {
        w.ask();
        let Some(r2t) = w.r2ts.pop_front() else { break };
        if !send(&mut w, r2t.ttt, r2t.offset, r2t.offset + r2t.length) {
            return;
        }
    }
    assert!(
        w.write.complete() && w.write.fault().is_none(),
        "an honest command hangs"
    );
    assert_eq!((w.taken, w.write.received()), (w.wanted, w.wanted));
    assert_eq!(w.write.r2ts(), DataSn(w.sent));
}

/// Sends whatever it likes.
fn any(input: &mut Input<'_>) {
    let parameters = parameters(input);
    let (expected, wanted) = (input.number32(), input.number32());
    let immediate = (input.number32() & 0xff_ffff).min(expected);
    let mut w = Watched::new(
        &command(expected, immediate, input.bool()),
        parameters,
        wanted,
    );
    if !parameters.immediate_data {
        assert_eq!(w.taken, 0);
    }
    let (mut data_sn, mut faulty) = (0, w.write.fault().is_some());
    while !input.is_empty() {
        let kind = input.u8();
        match kind & 7 {
            0 => w.ask(),
            1 if kind & 0xf8 == 0 => w.write.give_up(),
            1 if kind & 0xf8 == 8 => {
                w.write.fail(Fault::Digest);
                // The first fault is the one that is answered.
                assert!(faulty || w.write.fault() == Some(Fault::Digest));
            }
            _ => {
                let next = w.r2ts.front().copied();
                let end = next.map_or(w.parameters.first_burst.min(expected), |r2t| {
                    r2t.offset + r2t.length
                });
                let left = end.saturating_sub(w.taken).min(0xff_ffff);
                let mut pdu = data_out(
                    kind & 8 != 0,
                    next.map_or(Ttt::NONE, |r2t| r2t.ttt),
                    data_sn,
                    w.taken,
                    left,
                );
                if kind & 0x10 != 0 {
                    pdu.data_len = DataLen::new(input.number32() & 0xff_ffff).unwrap();
                }
                match kind >> 5 {
                    0 => pdu.ttt = Ttt::NONE,
                    1 => pdu.ttt = Ttt(input.u32()),
                    2 => pdu.offset = input.number32(),
                    3 => pdu.data_sn = DataSn(input.number32()),
                    4 => pdu.lun = Lun([0; 8]),
                    _ => {}
                }
                let before = w.write;
                match w.write.data_out(&pdu) {
                    Ok(place) => {
                        assert!(
                            !faulty || place.keep == 0,
                            "data of a command with a fault is used"
                        );
                        // `end` is where the sequence ends that was agreed on.
                        let past = u64::from(pdu.offset) + u64::from(pdu.data_len.bytes());
                        assert!(
                            place.keep == 0 || past <= u64::from(end),
                            "more than was asked for"
                        );
                        w.take(&pdu, place);
                        data_sn = if pdu.flags.last() {
                            0
                        } else {
                            data_sn.wrapping_add(1)
                        };
                        if pdu.flags.last() && pdu.ttt != Ttt::NONE {
                            w.r2ts
                                .pop_front()
                                .expect("data for an R2T that there was not");
                        }
                    }
                    Err(error) => {
                        assert_eq!(before, w.write, "what is refused changes something");
                        if error.close {
                            return;
                        }
                    }
                }
            }
        }
        let fault = w.write.fault().is_some();
        assert!(fault || !faulty, "a fault is forgotten");
        faulty = fault;
        assert_eq!(w.write.received().min(w.taken), w.taken);
        if w.write.complete() {
            assert!(w.r2ts.is_empty(), "answered while data is on its way");
            assert!(faulty || w.taken == w.wanted, "executed without its data");
            return;
        }
    }
}

/// Data-In PDUs (11.7): all of the data, in order, none above the limits.
fn read(input: &mut Input<'_>) {
    let parameters = parameters(input);
    let total = input.number32();
    let status = input.bool();
    let mut read = Read::new(total, &parameters, status);
    let (mut at, mut burst, mut count) = (0u64, 0u64, 0u32);
    let mut done = total == 0;
    for chunk in read.by_ref().take(MOST_PDUS) {
        assert!(!done);
        assert_eq!(
            (u64::from(chunk.offset), chunk.data_sn),
            (at, DataSn(count))
        );
        assert!(chunk.length > 0 && chunk.length <= parameters.max_xmit);
        at += u64::from(chunk.length);
        burst += u64::from(chunk.length);
        count += 1;
        assert!(burst <= u64::from(parameters.max_burst));
        done = at == u64::from(total);
        assert_eq!(
            chunk.flags.last(),
            done || burst == u64::from(parameters.max_burst)
        );
        assert_eq!(chunk.flags.status(), done && status);
        if chunk.flags.last() {
            burst = 0;
        }
    }
    assert!(done || count as usize == MOST_PDUS);
    assert_eq!(read.pdus(), DataSn(count));

    let (expected, actual) = (input.number32(), input.number());
    let difference = i128::from(actual) - i128::from(expected);
    let count = difference.unsigned_abs().min(0xffff_ffff) as u32;
    let model = match difference {
        0 => Residual::None,
        1.. => Residual::Overflow(count),
        _ => Residual::Underflow(count),
    };
    let residual = Residual::of(expected, actual);
    assert_eq!((residual, residual.count()), (model, count));
    let flags = residual.response_flags();
    assert_eq!(
        (flags.overflow(), flags.underflow()),
        (difference > 0, difference < 0)
    );
}

fuzz_target!(|input: &[u8]| {
    let mut input = Input::new(input);
    match input.below(3) {
        0 => honest(&mut input),
        1 => any(&mut input),
        _ => read(&mut input),
    }
});
