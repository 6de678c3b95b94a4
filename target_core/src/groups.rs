// SPDX-License-Identifier: GPL-2.0

//! What is collected of commands by their GROUP NUMBER (SBC-4 4.22), where the IO advice hints grouping mode page wants it. It takes
//! no memory before a group is wanted for the first time.

use crate::command::Direction;
use kernel::{new_mutex, prelude::*, sync::Mutex};
use lio_glue::{once_box::OnceBox, percpu::PercpuCounters};
use lio_scsi::{groups::COLLECTED, log::Statistics};

const READS: usize = 0;
const WRITES: usize = 1;
const RECEIVED: usize = 2;
const TRANSMITTED: usize = 3;
// Nanoseconds.
const READ_TIME: usize = 4;
const WRITE_TIME: usize = 5;
const OF_GROUP: usize = 6;

#[pin_data]
struct Kept {
    // Those of a group are side by side.
    counters: PercpuCounters<{ COLLECTED * OF_GROUP }>,
    // What was counted when LOG SELECT reset a group. Nothing under it allocates.
    #[pin]
    base: Mutex<KVec<Statistics>>,
}

/// Counters of groups, perhaps.
pub(crate) struct Groups(OnceBox<Kept>);

impl Groups {
    pub(crate) const fn new() -> Self {
        Groups(OnceBox::new())
    }

    /// There may be something to count from now on. May sleep.
    ///
    /// # Errors
    /// `ENOMEM`
    pub(crate) fn begin(&self) -> Result {
        if self.0.get().is_some() {
            return Ok(());
        }
        let counters = PercpuCounters::new()?;
        let base = KVec::from_elem(Statistics::default(), COLLECTED, GFP_KERNEL)?;
        self.0.get_or_init(pin_init!(Kept {
            counters,
            base <- new_mutex!(base, "Groups::base"),
        }))?;
        Ok(())
    }

    /// Counts a command of `group` that transferred `blocks`, and took `ns` nanoseconds, or 0 where that is not measured. Any context.
    pub(crate) fn count(&self, group: u8, direction: Direction, blocks: u64, ns: u64) {
        let (commands, transferred, time) = match direction {
            Direction::Read => (READS, TRANSMITTED, READ_TIME),
            Direction::Write => (WRITES, RECEIVED, WRITE_TIME),
            Direction::None => return,
        };
        if let Some(kept) = self.0.get() {
            let add = |which, value| kept.counters.add_to(index(group, which), value);
            add(commands, 1);
            add(transferred, blocks);
            add(time, ns);
        }
    }

    /// What LOG SENSE shows of `group`.
    pub(crate) fn log(&self, group: u8) -> Statistics {
        let Some(kept) = self.0.get() else {
            return Statistics::default();
        };
        let base = kept.base.lock().get(usize::from(group)).copied();
        kept.counted(group).since(&base.unwrap_or_default())
    }

    /// LOG SELECT: `group` is counted from zero, or all are.
    pub(crate) fn reset(&self, group: Option<u8>) {
        let Some(kept) = self.0.get() else {
            return;
        };
        let mut base = kept.base.lock();
        for (number, base) in (0u8..).zip(base.iter_mut()) {
            if group.is_none_or(|group| group == number) {
                *base = kept.counted(number);
            }
        }
    }
}

impl Kept {
    fn counted(&self, group: u8) -> Statistics {
        let sum = |which| self.counters.sum_of(index(group, which));
        Statistics {
            reads: sum(READS),
            writes: sum(WRITES),
            received: sum(RECEIVED),
            transmitted: sum(TRANSMITTED),
            read_time: sum(READ_TIME) / 1000,
            write_time: sum(WRITE_TIME) / 1000,
            idle_time: 0,
        }
    }
}

fn index(group: u8, which: usize) -> usize {
    usize::from(group)
        .saturating_mul(OF_GROUP)
        .saturating_add(which)
}
