// SPDX-License-Identifier: GPL-2.0

//! Rates that commands are held to: a token bucket, in which time is an argument and the storage is one number of the caller's.
//!
//! A bucket holds `burst` units, and gains `per_second` of them each second. The number kept is the time at which it is full again.

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;
/// The most units that a bucket holds, and that one command takes; so that no product of them with a second is too large.
pub const MAX_UNITS: u64 = 1 << 34;

/// A rate. Rates of 0 are no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Units that the bucket gains in a second.
    pub per_second: u64,
    /// Units that it holds; 0: those of a tenth of a second.
    pub burst: u64,
}

/// When a command starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// When it may start, in nanoseconds; never before now.
    pub start: u64,
    /// What is to be kept until the next one.
    pub full: u64,
}

impl Rate {
    /// Units that the bucket holds.
    fn size(self) -> u64 {
        let size = match self.burst {
            0 => self.per_second.div_ceil(10),
            burst => burst,
        };
        size.clamp(1, MAX_UNITS)
    }

    /// How long the bucket gains `units`, in nanoseconds.
    fn time(self, units: u64) -> u64 {
        units
            .min(MAX_UNITS)
            .saturating_mul(SECOND)
            .checked_div(self.per_second)
            .unwrap_or(0)
    }

    /// A command that takes `units` has come at the time `now`; `full` is what was kept. It starts when the bucket holds as many
    /// units, or is full for one that takes more; those behind it wait for what it takes beyond that.
    pub fn take(self, full: u64, now: u64, units: u64) -> Turn {
        if self.per_second == 0 {
            return Turn {
                start: now,
                full: now,
            };
        }
        let size = self.size();
        let from = full.max(now);
        let start = from
            .saturating_add(self.time(units.min(size)))
            .saturating_sub(self.time(size))
            .max(now);
        Turn {
            start,
            full: from.saturating_add(self.time(units)),
        }
    }

    /// What is to be kept, instead of `full`, where `units` that were taken are not used: nobody waits for them.
    pub fn give_back(self, full: u64, units: u64) -> u64 {
        full.saturating_sub(self.time(units))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = SECOND / 1000;

    fn run(rate: Rate, arrivals: impl IntoIterator<Item = (u64, u64)>) -> std::vec::Vec<u64> {
        let mut full = 0;
        arrivals
            .into_iter()
            .map(|(now, units)| {
                let turn = rate.take(full, now, units);
                full = turn.full;
                turn.start
            })
            .collect()
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let rate = Rate {
            per_second: 100,
            burst: 3,
        };
        let starts = run(rate, (0..6).map(|_| (SECOND, 1)));
        assert_eq!(starts, [0, 0, 0, 10, 20, 30].map(|ms| SECOND + ms * MS));
        // After a pause there is a burst again, and no more than one.
        let starts = run(
            rate,
            (0..3)
                .map(|_| (SECOND, 1))
                .chain((0..4).map(|_| (9 * SECOND, 1))),
        );
        assert_eq!(starts[3..], [0, 0, 0, 10].map(|ms| 9 * SECOND + ms * MS));
    }

    #[test]
    fn what_is_given_back_is_there_again() {
        let rate = Rate {
            per_second: 1000,
            burst: 10,
        };
        let before = rate.take(0, SECOND, 5).full;
        let all = rate.take(before, SECOND, 1 << 20).full;
        assert_eq!(rate.give_back(all, 1 << 20), before);
        // Whatever came between waits no longer than it would have without that; nothing is won by it.
        let between = rate.take(all, SECOND, 7).full;
        let left = rate.give_back(between, 1 << 20);
        assert_eq!(left, rate.take(before, SECOND, 7).full);
        assert_eq!(rate.give_back(left, 7), before);
        assert_eq!(rate.give_back(0, u64::MAX), 0);
        let none = Rate {
            per_second: 0,
            ..rate
        };
        assert_eq!(none.give_back(SECOND, 1), SECOND);
    }

    #[test]
    fn larger_than_the_bucket() {
        let rate = Rate {
            per_second: 1000,
            burst: 10,
        };
        // It starts at once, and the next waits for what it took.
        assert_eq!(
            run(rate, [(SECOND, 1000), (SECOND, 10)]),
            [SECOND, 2 * SECOND]
        );
    }

    #[test]
    fn no_limit() {
        let none = Rate {
            per_second: 0,
            burst: 5,
        };
        assert_eq!(run(none, [(7, u64::MAX), (7, 1)]), [7, 7]);
    }

    #[test]
    fn never_more_than_the_rate() {
        let mut seed = 1u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1);
            (seed >> 33) % below
        };
        for _ in 0..200 {
            let rate = Rate {
                per_second: 1 + random(5000),
                burst: random(50),
            };
            let mut now = SECOND;
            let arrivals: std::vec::Vec<_> = (0..300)
                .map(|_| {
                    now += random(20 * MS);
                    (now, 1)
                })
                .collect();
            let mut starts = run(rate, arrivals.iter().copied());
            assert!(starts.iter().zip(&arrivals).all(|(s, (a, _))| s >= a));
            starts.sort_unstable();
            for (i, first) in starts.iter().enumerate() {
                for (j, last) in starts.iter().enumerate().skip(i) {
                    let most = rate.size() + (last - first) * rate.per_second / SECOND + 2;
                    assert!((j - i + 1) as u64 <= most, "{rate:?} {i} {j}");
                }
            }
        }
    }
}
