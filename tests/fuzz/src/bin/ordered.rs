// SPDX-License-Identifier: GPL-2.0

//! ORDERED commands of a task set (SAM-5, 8.6), against a list of all commands in the order in which they came: none begins before
//! what it has to wait for is over, and none waits for anything else.
// fuzz: -max_len=300

#![no_main]

use libfuzzer_sys::fuzz_target;
use lio_fuzz::Input;
use lio_policy::order::{Ordered, Place, MOST};

/// A command, in the order of arrival. An ORDERED one waits for the SIMPLE ones before it, too: its caller sees to those.
struct Task {
    place: Place,
    over: bool,
}

impl Task {
    fn pends(&self) -> bool {
        self.place.is_ordered() && !self.over
    }
}

fuzz_target!(|input: &[u8]| {
    let mut input = Input::new(input);
    let mut set = Ordered::new();
    let mut tasks: Vec<Task> = vec![];
    while !input.is_empty() {
        let which = input.u8();
        match which >> 6 {
            0 => {
                let pending = tasks.iter().filter(|t| t.place.is_ordered());
                // Numbers are given out in turn, and the oldest that is not over holds up those behind it.
                let behind = pending.skip_while(|t| t.over).count() as u64;
                match set.admit() {
                    Some(number) => {
                        assert!(behind < MOST);
                        let place = Place::Ordered(number);
                        assert!(tasks.iter().all(|t| t.place != place), "a number twice");
                        tasks.push(Task { place, over: false });
                    }
                    None => assert!(behind >= MOST),
                }
            }
            1 => tasks.push(Task {
                place: Place::After(set.admitted()),
                over: false,
            }),
            _ => {
                // One that is there ends: mostly it has begun, or it was aborted.
                let n = tasks.iter().filter(|t| !t.over).count();
                if n > 0 {
                    let which = usize::from(which & 0x7f) % n;
                    let task = tasks.iter_mut().filter(|t| !t.over).nth(which).unwrap();
                    task.over = true;
                    if let Place::Ordered(number) = task.place {
                        set.end(number);
                    }
                }
            }
        }
        let mut free = true;
        for task in tasks.iter().filter(|t| !t.over) {
            assert_eq!(set.lets(task.place), free, "{:?}", task.place);
            free &= !task.pends();
        }
        assert!(set.lets(Place::Free));
        // Nothing is known any more of those that nobody waits for.
        let first = tasks.iter().position(|t| !t.over);
        let first_ordered = tasks.iter().position(Task::pends);
        if first_ordered.is_none_or(|o| first.is_some_and(|f| f < o)) {
            tasks.drain(..first.unwrap_or(tasks.len()));
        }
    }
});
