// SPDX-License-Identifier: GPL-2.0

//! Commands of a session that come in by several connections, in any order, some of them twice, some lost with their
//! connection, some aborted before they came (RFC 7143, 4.2.2.1, 11.5.1): against a model that keeps lists of numbers that do
//! not wrap.
// fuzz: -max_len=256

#![no_main]

use iscsi_proto::{
    order::{Order, Turn},
    sn::CmdSn,
};
use libfuzzer_sys::fuzz_target;
use lio_fuzz::Input;
use std::collections::{BTreeMap, BTreeSet};

/// Commands that the model has seen, by their numbers.
struct Model {
    /// The next one to be delivered.
    next: u64,
    /// The first one that is not taken.
    end: u64,
    /// Delivery of `next` has begun.
    busy: bool,
    waiting: BTreeMap<u64, u16>,
    aborted: BTreeSet<u64>,
    delivered: Vec<u64>,
    unanswered: u64,
    depth: u64,
}

impl Model {
    fn takes(&self, n: u64) -> bool {
        (self.next..self.end).contains(&n)
    }

    fn arrive(&mut self, n: u64, connection: u16) -> Turn {
        let known = self.waiting.contains_key(&n) || self.aborted.contains(&n);
        if !self.takes(n) || known || (self.busy && n == self.next) {
            Turn::Ignore
        } else if n == self.next {
            self.begin()
        } else {
            self.waiting.insert(n, connection);
            Turn::Wait
        }
    }

    fn begin(&mut self) -> Turn {
        self.busy = true;
        self.unanswered += 1;
        self.delivered.push(self.next);
        Turn::Deliver
    }

    fn turn(&mut self, n: u64, connection: u16) -> Turn {
        if self.waiting.get(&n) != Some(&connection) {
            Turn::Ignore
        } else if n != self.next {
            Turn::Wait
        } else {
            self.waiting.remove(&n);
            self.begin()
        }
    }

    fn go_on(&mut self) {
        while !self.busy && self.aborted.remove(&self.next) {
            self.next += 1;
            self.end += 1;
        }
    }

    fn abort(&mut self, n: u64) -> bool {
        let may = self.takes(n) && !(self.busy && n == self.next);
        if may {
            self.waiting.remove(&n);
            self.aborted.insert(n);
            self.go_on();
        }
        may
    }
}

fuzz_target!(|input: &[u8]| {
    let mut input = Input::new(input);
    let (first, depth) = (input.u32(), 1 + input.below(20) as u32);
    let places = vec![0u16; (depth as usize).next_power_of_two()];
    let mut order = Order::new(CmdSn(first), depth, places);
    let base = (1u64 << 40) + u64::from(first);
    let mut model = Model {
        next: base,
        end: base + u64::from(depth),
        busy: false,
        waiting: BTreeMap::new(),
        aborted: BTreeSet::new(),
        delivered: Vec::new(),
        unanswered: 0,
        depth: u64::from(depth),
    };
    while !input.is_empty() {
        let near = model
            .next
            .wrapping_add(i64::from(input.u8() as i8 >> 2) as u64);
        let connection = u16::from(input.u8() & 3);
        let sn = CmdSn(near as u32);
        match input.below(10) {
            0..=2 => assert_eq!(order.arrive(sn, connection), model.arrive(near, connection)),
            3 => assert_eq!(
                order.arrive(CmdSn(model.next as u32), connection),
                model.arrive(model.next, connection)
            ),
            4 => assert_eq!(order.turn(sn, connection), model.turn(near, connection)),
            5 => {
                // Whoever is told that it is his turn gets it.
                if let Some(who) = order.next() {
                    let sn = order.expected();
                    assert_eq!(order.turn(sn, who), Turn::Deliver);
                    assert_eq!(model.turn(model.next, who), Turn::Deliver);
                }
            }
            6 => {
                order.delivered();
                if model.busy {
                    model.busy = false;
                    model.next += 1;
                    model.go_on();
                }
            }
            7 => assert_eq!(order.plug(sn), model.abort(near)),
            8 if model.unanswered > 0 => {
                order.release();
                model.unanswered -= 1;
                model.end += 1;
            }
            8 => {
                order.plug_before(sn);
                let end = model.end;
                for n in model.next..near.min(end) {
                    model.abort(n);
                }
            }
            _ => {
                order.leave(connection);
                model.waiting.retain(|_, with| *with != connection);
            }
        }
        assert_eq!(order.expected().0, model.next as u32);
        assert_eq!(order.max().next().0, model.end as u32);
        assert_eq!(u64::from(order.open()), model.end - model.next);
        // One that is delivered may be answered already.
        assert!(model.end - model.next <= model.depth + u64::from(model.busy));
        let next = (!model.busy).then(|| model.waiting.get(&model.next).copied());
        assert_eq!(order.next(), next.flatten());
        assert_eq!(order.reached(sn), model.next >= near);
    }
    assert!(
        model.delivered.is_sorted_by(|a, b| a < b),
        "in order, once each"
    );
});
