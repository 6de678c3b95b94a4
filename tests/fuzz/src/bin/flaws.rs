// SPDX-License-Identifier: GPL-2.0

//! Blocks that are marked as unreadable, against a set that has room for all.
// fuzz: -max_len=300

#![no_main]

use libfuzzer_sys::fuzz_target;
use lio_fuzz::Input;
use lio_policy::flaws::{Flaws, MOST};
use std::collections::BTreeSet;

fuzz_target!(|input: &[u8]| {
    let mut input = Input::new(input);
    let mut flaws = Flaws::new();
    let mut model = BTreeSet::new();
    // So many fill it, more than once.
    let mut many = 2;
    while !input.is_empty() {
        match input.below(8) {
            0..=4 => {
                let pos = input.number();
                let fits = model.contains(&pos) || model.len() < MOST;
                assert_eq!(flaws.mark(pos), fits);
                if fits {
                    model.insert(pos);
                }
            }
            5 if many > 0 => {
                many -= 1;
                let pos = input.u32();
                for n in 0..input.u8() {
                    let pos = u64::from(pos) + u64::from(n) * 512;
                    if flaws.mark(pos) {
                        model.insert(pos);
                    } else {
                        assert!(model.len() == MOST && !model.contains(&pos));
                    }
                }
            }
            5 | 6 => {
                let (pos, len) = (input.number(), input.number());
                let first = model.range(pos..).next().copied();
                let first = first.filter(|at| at - pos < len);
                assert_eq!(flaws.first(pos, len), first);
            }
            _ => {
                let (pos, len) = (input.number(), input.number());
                flaws.clear(pos, len);
                model.retain(|at| !(*at >= pos && at - pos < len));
            }
        }
        assert_eq!(
            (flaws.len(), flaws.is_empty()),
            (model.len(), model.is_empty())
        );
    }
    assert_eq!(
        flaws.first(0, u64::MAX),
        model.first().copied().filter(|at| *at < u64::MAX)
    );
});
