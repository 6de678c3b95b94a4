// SPDX-License-Identifier: GPL-2.0

//! Changes of a file in memory are done one at a time: the file system takes the file's lock for each, and whoever comes
//! meanwhile would spin on it. What comes while another is done stands in line, and a worker does the whole line.

use crate::work::Later;
use kernel::{new_spinlock, prelude::*, sync::SpinLock};

/// The turn to change a file. Whoever has taken it must pass it on.
#[pin_data]
pub(crate) struct Turn {
    #[pin]
    line: SpinLock<Line>,
}

struct Line {
    taken: bool,
    // Linked by `Later::next`, the newest first.
    newest: Option<Pin<KBox<Later>>>,
}

impl Turn {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Turn {
            line <- new_spinlock!(Line { taken: false, newest: None }, "fileio::Turn::line"),
        })
    }

    /// Takes the turn, if nobody has it.
    pub(crate) fn take(&self) -> bool {
        let mut line = self.line.lock();
        !core::mem::replace(&mut line.taken, true)
    }

    /// Takes the turn for `later` and gives it back, or keeps it in line.
    pub(crate) fn take_or_stand_in_line(
        &self,
        mut later: Pin<KBox<Later>>,
    ) -> Option<Pin<KBox<Later>>> {
        let mut line = self.line.lock();
        if !line.taken {
            line.taken = true;
            return Some(later);
        }
        *later.as_mut().next() = line.newest.take();
        line.newest = Some(later);
        None
    }

    /// Passes the turn on to the line, which is returned, linked with the oldest first; without one, nobody has the turn.
    #[must_use]
    pub(crate) fn pass(&self) -> Option<Pin<KBox<Later>>> {
        let mut newest = {
            let mut line = self.line.lock();
            if line.newest.is_none() {
                line.taken = false;
            }
            line.newest.take()
        };
        let mut oldest = None;
        while let Some(mut later) = newest {
            newest = core::mem::replace(later.as_mut().next(), oldest);
            oldest = Some(later);
        }
        oldest
    }
}
