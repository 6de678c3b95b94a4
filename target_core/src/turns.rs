// SPDX-License-Identifier: GPL-2.0

//! Commands of which a device runs one after the other: COMPARE AND WRITE, whose comparison and write nothing of its kind
//! may come between (SBC-4 5.3).

use crate::command::{Command, Shared};
use kernel::{new_spinlock, prelude::*, sync::SpinLock};
use lio_glue::slot::Erased;

/// A command that waits.
type Waiting = Erased<Command, Shared>;

#[derive(Default)]
struct State {
    // Whether a command has its turn.
    taken: bool,
    // Oldest first.
    waiting: KVec<Waiting>,
    // Those that have waited longest, oldest last.
    next: KVec<Waiting>,
}

/// Whose turn it is.
#[pin_data]
pub(crate) struct Turns {
    #[pin]
    state: SpinLock<State>,
}

impl Turns {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Turns {
            state <- new_spinlock!(State::default(), "Turns::state"),
        })
    }

    /// Has `cmd` go on when its turn comes, which may be at once. Process context.
    pub(crate) fn wait(&self, mut cmd: Waiting) {
        let mut state = self.state.lock();
        if !state.taken {
            state.taken = true;
        } else {
            match state.waiting.reserve(1, GFP_ATOMIC) {
                Ok(()) => {
                    // There is room for it.
                    let _ = state.waiting.push(cmd, GFP_ATOMIC);
                    return;
                }
                Err(_) => {
                    // It never had its turn, so it must not give one up.
                    cmd.turn = crate::command::Turn::No;
                    cmd.step = crate::emulate::Step::None;
                    cmd.io_result = Err(crate::backend::IoError::Resources);
                }
            }
        }
        drop(state);
        cmd.finish();
    }

    /// A command that had its turn is done. Any context but hard interrupts: the commands that have turns are answered from
    /// process context.
    pub(crate) fn next(&self) {
        let next = {
            let mut state = self.state.lock();
            if state.next.is_empty() {
                // Once for each command in all.
                let State { waiting, next, .. } = &mut *state;
                core::mem::swap(waiting, next);
                next.reverse();
            }
            let next = state.next.pop();
            state.taken = next.is_some();
            next
        };
        if let Some(cmd) = next {
            cmd.finish();
        }
    }
}
