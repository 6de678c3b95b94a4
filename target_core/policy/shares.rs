// SPDX-License-Identifier: GPL-2.0

//! Shares of a device that has more to do than it does at once: start-time fair queueing, where several commands are served at a
//! time. Time is virtual: it goes on as commands begin. Each flow has a tag, the virtual time at which all that it has asked for is
//! done; the command that began to wait with the lowest tag begins first. A flow that asked for nothing gains nothing by it.

use lio_scsi::priority::Priority;

/// The weight of what has none set.
pub const DEFAULT: u32 = 100;
/// The largest weight.
pub const MOST: u32 = 1000;
/// Commands that are served at a time.
pub const AT_ONCE: u32 = 16;

/// A command costs as many units as it has bytes of this many, and one at least.
const UNIT: u64 = 4096;
/// The most units of one command.
const LARGEST: u64 = 1 << 12;
/// The virtual time of a unit for a weight of 1. Of the lowest weight, 4 PiB can be asked for before time ends; then all flows are
/// the same, until the device is idle.
const SCALE: u64 = 1 << 24;

/// The weight of a flow: that of the LUN times that of the initiator. 0 is none, and counts as [`DEFAULT`].
pub fn weight(lun: u32, initiator: u32) -> u64 {
    let one = |weight: u32| match weight {
        0 => u64::from(DEFAULT),
        set => u64::from(set.min(MOST)),
    };
    one(lun).saturating_mul(one(initiator))
}

/// The weight where commands have a priority (SAM-5, 8.7): that of the highest is 15 times that of the lowest. None is between them.
pub fn prioritized(weight: u64, priority: Priority) -> u64 {
    let priority = if priority.is_none() {
        7
    } else {
        priority.get()
    };
    weight.saturating_mul(16u64.saturating_sub(priority.into()))
}

/// Virtual time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    now: u64,
    // How often it was set back, so that tags of before count for nothing.
    round: u32,
}

/// What is kept of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Its tag.
    pub tag: u64,
    /// The clock's round in which that was given.
    pub round: u32,
}

impl Clock {
    /// A command of `bytes` has come, of a flow with this weight: its place, and the time that it takes. The one with the lowest
    /// place begins first.
    pub fn arrive(&self, flow: &mut Flow, bytes: u64, weight: u64) -> (u64, u64) {
        let before = if flow.round == self.round {
            flow.tag
        } else {
            0
        };
        let start = before.max(self.now);
        let units = bytes.div_ceil(UNIT).clamp(1, LARGEST);
        let time = units
            .saturating_mul(SCALE)
            .checked_div(weight)
            .unwrap_or(SCALE);
        *flow = Flow {
            tag: start.saturating_add(time),
            round: self.round,
        };
        (start, time)
    }

    /// A command that takes `time` does not begin: those that come after it need not wait for it.
    pub fn give_back(&self, flow: &mut Flow, time: u64) {
        if flow.round == self.round {
            flow.tag = flow.tag.saturating_sub(time).max(self.now);
        }
    }

    /// The command with this tag begins.
    pub fn begin(&mut self, start: u64) {
        self.now = self.now.max(start);
    }

    /// Nothing is served, and nothing waits.
    pub fn rest(&mut self) {
        self.now = 0;
        self.round = self.round.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{vec, vec::Vec};

    struct Client {
        weight: u64,
        bytes: u64,
        // Commands that it keeps there, from one time until another.
        depth: usize,
        from: u64,
        until: u64,
        flow: Flow,
        there: usize,
        served: u64,
    }

    fn client(weight: u64, bytes: u64, depth: usize) -> Client {
        Client {
            weight,
            bytes,
            depth,
            from: 0,
            until: u64::MAX,
            flow: Flow::default(),
            there: 0,
            served: 0,
        }
    }

    // Serves `rounds` times one command of those that began, the oldest; returns the bytes of each client.
    fn serve(clients: &mut [Client], rounds: u64) -> Vec<u64> {
        let mut clock = Clock::default();
        let (mut waiting, mut working, mut number) = (Vec::new(), Vec::new(), 0);
        for round in 0..rounds {
            for (who, c) in clients.iter_mut().enumerate() {
                while c.there < c.depth && (c.from..c.until).contains(&round) {
                    let (start, _) = clock.arrive(&mut c.flow, c.bytes, c.weight);
                    number += 1;
                    c.there += 1;
                    waiting.push((start, number, who));
                }
            }
            waiting.sort_unstable();
            while working.len() < AT_ONCE as usize && !waiting.is_empty() {
                let (start, _, who) = waiting.remove(0);
                clock.begin(start);
                working.push(who);
            }
            if working.is_empty() {
                clock.rest();
                continue;
            }
            let who = working.remove(0);
            clients[who].there -= 1;
            clients[who].served += clients[who].bytes;
        }
        clients.iter().map(|c| c.served).collect()
    }

    fn about(got: u64, expected: u64) -> bool {
        got.abs_diff(expected) * 20 <= expected
    }

    #[test]
    fn in_proportion_to_weights() {
        for (weights, bytes) in [
            ([1, 1], [4096, 4096]),
            ([1, 3], [4096, 4096]),
            ([10_000, 40_000], [4096, 4096]),
            // By bytes, not by commands.
            ([100, 100], [4096, 65536]),
            ([100, 300], [65536, 4096]),
        ] {
            let mut clients = [
                client(weights[0], bytes[0], 64),
                client(weights[1], bytes[1], 64),
            ];
            let served = serve(&mut clients, 20_000);
            let all = served[0] + served[1];
            let share = all * weights[0] / (weights[0] + weights[1]);
            assert!(about(served[0], share), "{weights:?} {bytes:?} {served:?}");
        }
    }

    #[test]
    fn nobody_starves_and_nobody_saves_up() {
        // The lowest weight against many of the highest.
        let mut clients: Vec<_> = (0..5).map(|_| client(1_000_000, 4096, 8)).collect();
        clients.push(client(weight(0, 0), 4096, 1));
        let served = serve(&mut clients, 20_000);
        assert!(served[5] > 0);
        // One that comes late takes its share from then on, and no more.
        let mut late = client(1, 4096, 32);
        late.from = 10_000;
        let mut clients = vec![client(1, 4096, 32), late];
        let served = serve(&mut clients, 20_000);
        assert!(about(served[1] / 4096, 5000), "{served:?}");
        // What one leaves is the others'.
        let mut gone = client(100, 4096, 32);
        gone.until = 10_000;
        let mut clients = vec![client(1, 4096, 32), gone];
        let served = serve(&mut clients, 20_000);
        assert!(served[0] / 4096 > 9_900, "{served:?}");
    }

    #[test]
    fn weights_multiply() {
        assert_eq!(weight(0, 0), weight(DEFAULT, DEFAULT));
        assert_eq!(weight(0, 200), 2 * weight(0, 0));
        assert_eq!(weight(u32::MAX, 1), u64::from(MOST));
    }

    #[test]
    fn priorities() {
        let of = |priority| prioritized(100, Priority::new(priority));
        assert_eq!((of(0), of(1), of(8), of(15)), (900, 1500, 800, 100));
        // In proportion, as all else.
        let mut clients = [client(of(1), 4096, 64), client(of(12), 4096, 64)];
        let served = serve(&mut clients, 20_000);
        assert!(
            about(served[1], (served[0] + served[1]) * 4 / 19),
            "{served:?}"
        );
    }

    #[test]
    fn the_end_of_time() {
        let mut clock = Clock {
            now: u64::MAX - 1,
            round: 0,
        };
        let mut flow = Flow {
            tag: u64::MAX,
            round: 0,
        };
        assert_eq!(clock.arrive(&mut flow, u64::MAX, 1).0, u64::MAX);
        clock.begin(u64::MAX);
        assert_eq!(clock.arrive(&mut flow, 0, 0).0, u64::MAX);
        clock.rest();
        assert_eq!(clock.arrive(&mut flow, 1, 1).0, 0);
        assert_eq!((flow.tag, flow.round), (SCALE, 1));
    }

    #[test]
    fn what_does_not_begin_takes_nothing() {
        let mut clock = Clock::default();
        let mut flow = Flow::default();
        let taken: Vec<_> = (0..64).map(|_| clock.arrive(&mut flow, 8192, 1)).collect();
        assert_eq!(flow.tag, 128 * SCALE);
        // The first has begun.
        clock.begin(0);
        for (_, time) in &taken[1..] {
            clock.give_back(&mut flow, *time);
        }
        assert_eq!(clock.arrive(&mut flow, 4096, 1), (2 * SCALE, SCALE));
        // Time does not go back, and what a round before had is gone.
        clock.begin(2 * SCALE);
        clock.give_back(&mut flow, u64::MAX);
        assert_eq!(flow.tag, 2 * SCALE);
        clock.rest();
        clock.give_back(&mut flow, SCALE);
        assert_eq!(flow.tag, 2 * SCALE);
    }
}
