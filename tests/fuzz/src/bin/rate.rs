// SPDX-License-Identifier: GPL-2.0

//! Rates, against a bucket into which units flow: a command begins as soon as there are as many as it takes, or the bucket is full,
//! and not before; to within a nanosecond for each command.
// fuzz: -max_len=500

#![no_main]

use libfuzzer_sys::fuzz_target;
use lio_fuzz::Input;
use lio_policy::rate::{Rate, MAX_UNITS};

const SECOND: i128 = 1_000_000_000;

/// Units are in parts of a thousand millions, which is what a nanosecond brings of one a second. Less than none: a command took
/// more than there was room for.
struct Bucket {
    per_ns: i128,
    size: i128,
    level: i128,
    at: i128,
}

impl Bucket {
    fn flow(&mut self, to: i128) {
        if to > self.at {
            self.level = self.size.min(self.level + (to - self.at) * self.per_ns);
            self.at = to;
        }
    }

    /// When a command that comes at `now` begins.
    fn take(&mut self, now: i128, units: i128) -> i128 {
        self.flow(now);
        let lack = units.min(self.size) - self.level;
        let start = if lack > 0 {
            self.at + (lack + self.per_ns - 1) / self.per_ns
        } else {
            now
        };
        self.level -= units;
        start
    }
}

fuzz_target!(|input: &[u8]| {
    let mut input = Input::new(input);
    let rate = Rate {
        per_second: input.number(),
        burst: input.number(),
    };
    let size = match rate.burst {
        0 => rate.per_second.div_ceil(10),
        burst => burst,
    };
    let size = i128::from(size.clamp(1, MAX_UNITS)) * SECOND;
    let mut bucket = Bucket {
        per_ns: rate.per_second.into(),
        size,
        level: size,
        at: 0,
    };
    // Whoever keeps 0 has a full bucket.
    let (mut now, mut full, mut commands) = (0u64, 0, 0);
    while !input.is_empty() && now < 1 << 60 {
        now = now.saturating_add(input.number() >> 4);
        let units = input.number();
        let turn = rate.take(full, now, units);
        assert!(turn.start >= now);
        if rate.per_second == 0 {
            assert_eq!(turn.start, now);
        } else {
            commands += 1;
            let want = bucket.take(now.into(), i128::from(units.min(MAX_UNITS)) * SECOND);
            // When it is full again: nobody waits until the clock ends.
            let again = bucket.at + (size - bucket.level) / bucket.per_ns;
            if again > 1 << 62 || size / bucket.per_ns > 1 << 62 {
                return;
            }
            let off = (i128::from(turn.start) - want).abs();
            assert!(off <= commands + 2, "{off} after {commands}: {rate:?}");
        }
        full = turn.full;
    }
});
