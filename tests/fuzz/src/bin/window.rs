// SPDX-License-Identifier: GPL-2.0

//! Command and status numbers of a session as a sequence of operations, against a model whose numbers do not wrap
//! (RFC 7143, 4.2.2.1 and 4.2.2.2).
// fuzz: -max_len=256

#![no_main]

use iscsi_proto::{
    ffp::{missing_task, TmfAnswer},
    pdu::TmfRequest,
    seq::{Admission, CmdWindow, StatSeq},
    sn::{CmdSn, StatSn},
};
use libfuzzer_sys::fuzz_target;
use lio_fuzz::Input;

/// Half of the numbers: what is that far apart has no order.
const HALF: i128 = 1 << 31;

/// The number nearest to `near` that is `wire` modulo 2^32; of two that are as near the later one.
fn unwrap(wire: u32, near: i128) -> i128 {
    let ahead = (i128::from(wire) - near).rem_euclid(1 << 32);
    if ahead > HALF {
        near + ahead - (1 << 32)
    } else {
        near + ahead
    }
}

struct Model {
    expected: i128,
    max: i128,
    stat: i128,
    acknowledged: i128,
}

fuzz_target!(|input: &[u8]| {
    let mut input = Input::new(input);
    let (first, depth, stat) = (input.u32(), input.number32(), input.u32());
    let mut window = CmdWindow::new(CmdSn(first), depth);
    let mut numbers = StatSeq::new(StatSn(stat));
    // Far from zero, so that what is behind is no special case.
    let base = 1i128 << 40;
    let first = base + i128::from(first);
    let depth = i128::from(depth.clamp(1, 0x7fff_ffff));
    let mut model = Model {
        expected: first,
        max: first + depth - 1,
        stat: base + i128::from(stat),
        acknowledged: base + i128::from(stat),
    };
    let mut taken = 0u32;
    while !input.is_empty() {
        match input.below(8) {
            // The number that is due, or one near it.
            kind @ 0..=3 => {
                let off = match kind {
                    0 | 1 => 0,
                    2 => i128::from(input.u8() as i8),
                    _ => i128::from(input.number32() as i32),
                };
                let sent = model.expected + off;
                let immediate = input.u8() & 7 == 7;
                let result = window.admit(CmdSn(sent as u32), immediate);
                if immediate {
                    assert_eq!(result, Ok(Admission::Execute));
                } else if sent == model.expected && sent <= model.max {
                    assert_eq!(result, Ok(Admission::Execute));
                    model.expected += 1;
                    taken += 1;
                } else if sent > model.expected && sent <= model.max && off != HALF {
                    // Those between were lost.
                    assert!(result.is_err_and(|error| error.close));
                } else {
                    assert_eq!(result, Ok(Admission::Ignore), "{off}");
                }
            }
            4 if taken > 0 => {
                window.release();
                taken -= 1;
                model.max += i128::from(model.max - model.expected + 1 < HALF - 1);
            }
            5 => {
                let sn = window.numbers(&mut numbers);
                assert_eq!(sn.stat_sn.0, model.stat as u32);
                assert_eq!(
                    (sn.exp_cmd_sn.0, sn.max_cmd_sn.0),
                    (model.expected as u32, model.max as u32)
                );
                model.stat += 1;
            }
            6 => {
                let said = match input.below(3) {
                    0 => model.stat,
                    1 => model.acknowledged + i128::from(input.u8() as i8),
                    _ => unwrap(input.u32(), model.acknowledged),
                };
                let fits = said >= model.acknowledged && said <= model.stat;
                assert_eq!(numbers.acknowledge(StatSn(said as u32)), fits);
                if fits {
                    model.acknowledged = said;
                }
            }
            _ => {
                // ABORT TASK of a command that is not there (11.6.1).
                let mut bhs = [0; 48];
                bhs[1] = 0x81;
                let mut request = TmfRequest::read(&bhs);
                let referenced = model.expected + i128::from(input.u8() as i8);
                let own = model.expected + i128::from(input.u8() as i8);
                request.ref_cmd_sn = CmdSn(referenced as u32);
                request.cmd_sn = CmdSn(own as u32);
                let lost =
                    referenced >= model.expected && referenced <= model.max && referenced < own;
                let answer = if lost {
                    TmfAnswer::Complete
                } else {
                    TmfAnswer::NoTask
                };
                assert_eq!(
                    missing_task(&request, window.expected(), window.max()),
                    answer
                );
            }
        }
        assert_eq!(
            (window.expected().0, window.max().0),
            (model.expected as u32, model.max as u32)
        );
        assert_eq!(i128::from(window.open()), model.max - model.expected + 1);
        assert!(i128::from(window.open()) < HALF);
        assert_eq!(numbers.next().0, model.stat as u32);
        assert_eq!(
            i128::from(numbers.unacknowledged()),
            model.stat - model.acknowledged
        );
    }
});
