// SPDX-License-Identifier: GPL-2.0

//! Makes sequences of operations by several I_T nexuses, with what the models of tests/fuzz say comes of each, for
//! test_pr_sequence.py and test_alua_sequence.py, which play them over iSCSI.
//!
//!     rustc -O --edition=2021 -o /tmp/sequences tests/sequences/main.rs
//!     /tmp/sequences pr 240 > tests/sequences/pr.txt; /tmp/sequences alua 400 > tests/sequences/alua.txt
//!
//! A second number is a seed: long sequences, of which `make check-sequences` makes new ones.

mod alua;
mod pr;

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % end
    }
}

fn list<T: ToString>(items: impl Iterator<Item = T>) -> String {
    let items: Vec<String> = items.map(|item| item.to_string()).collect();
    if items.is_empty() {
        "-".into()
    } else {
        items.join(",")
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let what = args.next();
    let number = |text: Option<String>| text.map(|n| n.parse::<u64>().expect("a number"));
    let lines = number(args.next()).unwrap_or(240);
    let seed = number(args.next())
        .unwrap_or(0)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let random = Random(0x2545_f491_4f6c_dd1d ^ seed);
    match what.as_deref() {
        Some("pr") => pr::sequence(lines, random),
        Some("alua") => alua::sequence(lines, random),
        _ => panic!("usage: sequences pr|alua [LINES [SEED]]"),
    }
}
