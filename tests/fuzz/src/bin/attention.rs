// SPDX-License-Identifier: GPL-2.0

//! Unit attentions of an I_T_L nexus as a sequence of operations, against a model (SAM-5, 5.14 and table 35; SPC-4,
//! 4.5.2.4.6 and 7.5.8 for UA_INTLCK_CTRL).
// fuzz: -max_len=64

#![no_main]

use libfuzzer_sys::fuzz_target;
use lio_fuzz::Input;
use lio_policy::attention::{Admission, Queue, CAPACITY};
use lio_scsi::{
    cdb::Command,
    inquiry::Page,
    luns::Select,
    mode::Interlock,
    sense::{Asc, Key, Sense, Specific},
};

/// Table 35 of SAM-5, first what has the highest precedence; what is not in it comes last.
const PRECEDENCE: [&[(u8, u8)]; 6] = [
    &[(0x29, 0x00)],
    &[(0x29, 0x01), (0x29, 0x04)],
    &[(0x29, 0x02), (0x3f, 0x01)],
    &[(0x29, 0x03)],
    &[(0x29, 0x07)],
    &[(0x2f, 0x01)],
];

fn precedence(code: (u8, u8)) -> usize {
    PRECEDENCE
        .iter()
        .position(|row| row.contains(&code))
        .unwrap_or(PRECEDENCE.len())
}

/// Conditions in the order in which they are to be reported.
#[derive(Default)]
struct Model {
    conditions: Vec<(u8, u8)>,
    overflowed: bool,
    /// The error of an earlier command, by its qualifier: SPC-4, 4.5.
    deferred: Option<u8>,
}

impl Model {
    fn establish(&mut self, code: (u8, u8)) {
        if self.conditions.contains(&code) {
            return;
        }
        // Those of one precedence stay in the order in which they came.
        let behind = |held: &(u8, u8)| precedence(*held) <= precedence(code);
        let at = self
            .conditions
            .iter()
            .take_while(|held| behind(held))
            .count();
        self.conditions.insert(at, code);
        if self.conditions.len() > CAPACITY {
            self.conditions.pop();
            self.overflowed = true;
        }
    }

    fn clear(&mut self, code: (u8, u8)) {
        self.conditions.retain(|held| *held != code);
    }

    /// What is reported; and cleared, if it is not kept. An error is never kept.
    fn report(&mut self, keep: bool) -> Option<((u8, u8), bool)> {
        let Some(first) = self.conditions.first() else {
            return self.deferred.take().map(|q| ((0x0c, q), false));
        };
        let report = (*first, self.overflowed);
        if !keep {
            self.conditions.remove(0);
            self.overflowed = false;
        }
        Some(report)
    }
}

fn seen(sense: Sense) -> ((u8, u8), bool) {
    assert_eq!(sense.information, None);
    if sense.specific == Specific::Deferred {
        assert_eq!(sense.key, Key::MediumError);
        return ((sense.asc.code, sense.asc.qualifier), false);
    }
    assert_eq!(sense.key, Key::UnitAttention);
    let overflow = match sense.specific {
        Specific::None => false,
        Specific::UnitAttentionOverflow => true,
        other => panic!("{other:?}"),
    };
    ((sense.asc.code, sense.asc.qualifier), overflow)
}

/// Codes of the table and some that are not in it, more than the queue holds.
fn code(input: &mut Input<'_>) -> Asc {
    let (code, qualifier) = match input.below(16) {
        n @ 0..=7 => (0x29, n as u8),
        8 => (0x2f, 0x01),
        9 => (0x3f, 0x01),
        10 => (0x3f, 0x0e),
        n => (0x2a, n as u8),
    };
    Asc { code, qualifier }
}

fuzz_target!(|input: &[u8]| {
    let mut input = Input::new(input);
    let mut queue = Queue::new();
    let mut model = Model::default();
    let pair = |asc: Asc| (asc.code, asc.qualifier);
    while !input.is_empty() {
        let interlock = [Interlock::Clear, Interlock::Keep, Interlock::Establish][input.below(3)];
        let keep = interlock != Interlock::Clear;
        match input.below(10) {
            0..=3 => {
                let asc = code(&mut input);
                queue.establish(asc);
                model.establish(pair(asc));
            }
            4 => {
                let asc = code(&mut input);
                queue.clear(asc);
                model.clear(pair(asc));
            }
            5 => {
                let admission = if input.bool() {
                    queue.admit(&Command::TestUnitReady, interlock)
                } else {
                    queue.admit_undecoded(interlock)
                };
                let reported = match admission {
                    Admission::Process => None,
                    Admission::Report(sense) => Some(seen(sense)),
                };
                assert_eq!(reported, model.report(keep));
            }
            6 => {
                let command = match input.below(3) {
                    0 => Command::Inquiry {
                        page: Page::Standard,
                        allocation: 96,
                    },
                    1 => Command::RequestSense {
                        descriptor: false,
                        allocation: 18,
                    },
                    _ => {
                        model.clear((0x3f, 0x0e));
                        Command::ReportLuns {
                            select: Select::Units,
                            allocation: 16,
                        }
                    }
                };
                assert_eq!(queue.admit(&command, interlock), Admission::Process);
            }
            8 => {
                let qualifier = input.u8();
                let asc = Asc {
                    code: 0x0c,
                    qualifier,
                };
                queue.defer(Sense::new(Key::MediumError, asc));
                model.deferred.get_or_insert(qualifier);
            }
            7 => assert_eq!(queue.take().map(seen), model.report(false)),
            _ => {
                queue.clear_all();
                model = Model::default();
            }
        }
        assert!(
            queue
                .pending()
                .map(pair)
                .eq(model.conditions.iter().copied()),
            "{queue:?} {:?}",
            model.conditions
        );
        assert_eq!(
            queue.is_empty(),
            model.conditions.is_empty() && model.deferred.is_none()
        );
    }
});
