// SPDX-License-Identifier: GPL-2.0

//! Shares: two flows that always have something waiting, among others that come and go, against the bound of start-time fair
//! queueing: what each has been given, by its weight, differs by no more than one command of each. Who takes back what has not begun is
//! where it would be without.
// fuzz: -max_len=600

#![no_main]

use libfuzzer_sys::fuzz_target;
use lio_fuzz::Input;
use lio_policy::shares::{weight, Clock, Flow, AT_ONCE, MOST};

struct Client {
    weight: u64,
    flow: Flow,
    waiting: usize,
    /// What its commands that began cost, by its weight, and how many they were.
    given: f64,
    begun: u32,
    /// When the last one that began is over.
    end: u64,
}

/// What a command costs of a weight of 1: 4096 bytes are 1, and none is free or more than 16 MiB.
fn cost(bytes: u64) -> f64 {
    bytes.div_ceil(4096).clamp(1, 4096) as f64
}

fuzz_target!(|input: &[u8]| {
    let mut input = Input::new(input);
    let mut clients: Vec<Client> = (0..2 + input.below(5))
        .map(|_| {
            let (lun, own) = (input.u16(), input.u16());
            let (lun, own) = (u32::from(lun) % (MOST + 1), u32::from(own) % (MOST + 1));
            let or = |w| if w == 0 { 100 } else { u64::from(w) };
            assert_eq!(weight(lun, own), or(lun) * or(own));
            Client {
                weight: weight(lun, own),
                flow: Flow::default(),
                waiting: 0,
                given: 0.0,
                begun: 0,
                end: 0,
            }
        })
        .collect();
    let largest = 1 + u64::from(input.u32()) % (20 << 20);
    let mut clock = Clock::default();
    let mut waiting: Vec<(u64, usize, usize, u64, u64)> = vec![];
    let (mut number, mut working, mut now) = (0, 0, 0);
    while !input.is_empty() {
        for (who, client) in clients.iter_mut().enumerate() {
            if who >= 2 && input.below(8) == 0 {
                waiting.retain(|(_, _, of, _, time)| {
                    if *of == who {
                        clock.give_back(&mut client.flow, *time);
                    }
                    *of != who
                });
                client.waiting = 0;
                assert!(client.flow.tag <= client.end.max(now));
            }
            let more = if who < 2 {
                2usize.saturating_sub(client.waiting)
            } else {
                // As many as a session has, in proportion.
                input.below(3).min(8usize.saturating_sub(client.waiting))
            };
            for _ in 0..more {
                let bytes = u64::from(input.u32()) % largest;
                let (start, time) = clock.arrive(&mut client.flow, bytes, client.weight);
                waiting.push((start, number, who, bytes, time));
                number += 1;
                client.waiting += 1;
            }
        }
        waiting.sort_unstable();
        working -= input.below(working + 1);
        while working < AT_ONCE as usize && !waiting.is_empty() {
            // Those two never run out.
            if clients.iter().take(2).any(|c| c.waiting == 0) {
                break;
            }
            let (start, _, who, bytes, time) = waiting.remove(0);
            clock.begin(start);
            now = now.max(start);
            working += 1;
            let client = &mut clients[who];
            client.end = start + time;
            client.waiting -= 1;
            client.given += cost(bytes) / client.weight as f64;
            client.begun += 1;
            let [a, b, ..] = &clients[..] else {
                unreachable!()
            };
            let most = cost(largest);
            // Each command's time is rounded.
            let rounding = f64::from(a.begun + b.begun) / f64::from(1 << 24);
            let bound = most / a.weight as f64 + most / b.weight as f64 + rounding + 1e-6;
            let unfair = (a.given - b.given).abs();
            assert!(unfair <= bound, "{unfair} {bound}");
        }
    }
});
