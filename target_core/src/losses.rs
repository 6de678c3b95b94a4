// SPDX-License-Identifier: GPL-2.0

//! How often a device's storage has told of writes that were acknowledged and are lost. It tells so once; each initiator hears of it by
//! its next flush, also one that demo mode has let in, and that comes back when all that was known of it has gone with its session.

use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc, Mutex,
    },
};

/// Initiators that a device remembers: one can log in under any number of names.
const MOST: usize = 256;

/// An initiator that is not there, and how much it was told of.
struct Absent {
    who: u64,
    told: u32,
}

#[derive(Default)]
struct Gone {
    /// The oldest first.
    known: KVec<Absent>,
    /// The least that one was told of for whom there was no room any more. Who is not known may be that one.
    forgotten: Option<u32>,
}

/// What a device has of it.
#[pin_data]
pub(crate) struct Losses {
    count: Atomic<u32>,
    // Taken inside the groups' locks.
    #[pin]
    gone: Mutex<Gone>,
}

impl Losses {
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Losses {
                count: Atomic::new(0),
                gone <- new_mutex!(Gone::default(), "Losses::gone"),
            }),
            GFP_KERNEL,
        )
    }

    /// How often.
    pub(crate) fn count(&self) -> u32 {
        self.count.load(Relaxed)
    }

    /// Once more. Any context.
    pub(crate) fn add(&self) {
        self.count.add(1, Relaxed);
    }

    /// How often the initiator `who`, which comes now, has been told of it.
    pub(crate) fn told(&self, who: u64) -> u32 {
        let gone = self.gone.lock();
        let known = gone.known.iter().find(|a| a.who == who).map(|a| a.told);
        known.or(gone.forgotten).unwrap_or_else(|| self.count())
    }

    /// The initiator `who` goes, and has been `told` so often. `cached`: it may have written what is not durable yet.
    pub(crate) fn leave(&self, who: u64, told: u32, cached: bool) {
        let mut gone = self.gone.lock();
        // Who comes and goes is the newest again; for one that was there, there is room.
        let before = gone.known.iter().position(|a| a.who == who);
        let was_known = before.is_some_and(|at| gone.known.remove(at).is_ok());
        let as_unknown = gone.forgotten.is_none_or(|least| least == told);
        if told == self.count() && !cached && !was_known && as_unknown {
            return;
        }
        let oldest = match gone.known.len() < MOST {
            true => None,
            false => gone.known.remove(0).ok(),
        };
        let kept = gone.known.push(Absent { who, told }, GFP_KERNEL);
        let unkept = kept.err().map(|_| told);
        let least = [oldest.map(|a| a.told), unkept, gone.forgotten];
        gone.forgotten = least.into_iter().flatten().min();
    }
}
