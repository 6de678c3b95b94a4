// SPDX-License-Identifier: GPL-2.0

//! The part of a command that others than its owner look at: whether it is alive, aborted, answered, waited for.

use crate::lun::Nexus;
use kernel::sync::atomic::{Acquire, Atomic, Full, Relaxed};
use lio_policy::regions::Regions;
use lio_scsi::lun::Lun as LunNumber;

// The state word of a command's shared part: flags, and a generation that changes with each use of the slot.
const LIVE: u32 = 1;
const ABORTED: u32 = 2;
// The abort wants a TASK ABORTED status to be sent.
const TELL: u32 = 4;
// The reply is decided: an abort comes too late.
const REPLIED: u32 = 8;
// An ORDERED command waits for it, or one that has its turn.
const WATCHED: u32 = 16;
// It is ready, and may not begin yet.
const WAITS: u32 = 32;
// The reply is decided, and the fabric does not have it yet.
const HANDING: u32 = 64;
// Its logical unit was taken away from the session.
const TAKEN: u32 = 128;
const GENERATION: u32 = 256;

/// What a command is for.
#[derive(Clone, Copy)]
pub(crate) enum Unit {
    /// What its initiator knows by this LUN.
    Lun([u8; 8]),
    /// What was taken away from its session: the nexus with this [serial](Nexus::serial) number. Its LUN may be another's by now.
    Taken(u64),
}

impl Unit {
    /// The number that the LUN is, unless that is of the past.
    pub(crate) fn number(self) -> Option<LunNumber> {
        match self {
            Unit::Lun(lun) => LunNumber::parse(lun),
            Unit::Taken(_) => None,
        }
    }

    /// Whether it is what the session saw by this nexus with this number, or saw.
    pub(crate) fn is(self, number: Option<LunNumber>, serial: u64) -> bool {
        match self {
            Unit::Lun(_) => number.is_some() && self.number() == number,
            Unit::Taken(taken) => taken == serial,
        }
    }
}

// In the place of what came before it: the command is outside its task set, and has a number there, above the bit that says whether it is
// ORDERED. No number of an ORDERED command is as large.
const OUTSIDE: u64 = 1 << 63;

/// The part of a command that others than its owner may look at.
pub struct Shared {
    state: Atomic<u32>,
    // What `Start` said; valid while the state is live and its generation has not changed.
    tag: Atomic<u64>,
    lun: Atomic<u64>,
    // The nexus of what was taken away; valid while the state says so.
    taken: Atomic<u64>,
    // How many ORDERED commands were there before it, and itself if it is one; 0 while that is not known. Or OUTSIDE.
    pub(crate) after: Atomic<u64>,
    // Where it writes, once it does.
    regions: Atomic<u64>,
}

impl Default for Shared {
    fn default() -> Self {
        Shared {
            state: Atomic::new(0),
            tag: Atomic::new(0),
            lun: Atomic::new(0),
            taken: Atomic::new(0),
            after: Atomic::new(0),
            regions: Atomic::new(Regions::NONE.word()),
        }
    }
}

impl Shared {
    /// Marks the command aborted if it is alive and `select(tag, unit)` says so; returns whether it did. `tell`: it
    /// shall be answered with TASK ABORTED. A command whose reply is decided already is marked too, so that whoever
    /// waits for the marked ones to be gone waits until its answer is sent.
    pub(crate) fn abort(&self, tell: bool, select: &dyn Fn(u64, Unit) -> bool) -> bool {
        let mut state = self.state.load(Acquire);
        loop {
            if state & LIVE == 0 || !self.selected(state, select) {
                return false;
            }
            let mark = aborted(state, tell);
            // Also where nothing changes: it shows that tag and LUN were this generation's.
            match self.state.cmpxchg(state, mark, Full) {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
    }

    /// Marks the command aborted, to be answered with TASK ABORTED, if it is alive and for the logical unit that is taken away from its
    /// session, `nexus`; returns whether it did. From now on it is known by that. One at a time of a session.
    pub(crate) fn take_away(&self, nexus: &Nexus) -> bool {
        let number = Some(nexus.mapped().number());
        let mut state = self.state.load(Acquire);
        loop {
            let is_its = || self.selected(state, &|_, unit| unit.number() == number);
            if state & (LIVE | TAKEN) != LIVE || !is_its() {
                return false;
            }
            self.taken.store(nexus.serial(), Relaxed);
            match self
                .state
                .cmpxchg(state, aborted(state, true) | TAKEN, Full)
            {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
    }

    /// The command whose tag is `old`, if it is alive, has `new` from now on; whether it is. No other command of the session has
    /// either.
    pub(crate) fn retag(&self, old: u64, new: u64) -> bool {
        // A slot that is used anew meanwhile has another tag, which is not changed.
        self.state.load(Acquire) & LIVE != 0 && self.tag.cmpxchg(old, new, Full).is_ok()
    }

    /// The tag by which task management finds the command.
    pub(super) fn tag(&self) -> u64 {
        self.tag.load(Relaxed)
    }

    // Of a state that was read before.
    fn selected(&self, state: u32, select: &dyn Fn(u64, Unit) -> bool) -> bool {
        let unit = if state & TAKEN == 0 {
            Unit::Lun(self.lun.load(Relaxed).to_be_bytes())
        } else {
            Unit::Taken(self.taken.load(Relaxed))
        };
        select(self.tag.load(Relaxed), unit)
    }

    /// Whether the command is alive, and `select(tag, unit)` says so.
    pub(crate) fn is_live(&self, select: &dyn Fn(u64, Unit) -> bool) -> bool {
        let state = self.state.load(Acquire);
        state & LIVE != 0 && self.selected(state, select)
    }

    /// Whether the command is alive and marked, and `select(tag, unit)` says so. Not `unsent`: without those whose reply is
    /// decided, which only the initiator can keep from being sent.
    pub(crate) fn is_marked(&self, unsent: bool, select: &dyn Fn(u64, Unit) -> bool) -> bool {
        const MARKED: u32 = LIVE | ABORTED;
        let state = self.state.load(Acquire);
        state & MARKED == MARKED && (unsent || state & REPLIED == 0) && self.selected(state, select)
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.state.load(Acquire) & ABORTED != 0
    }

    // Sets or takes back a flag. A full barrier.
    fn flag(&self, flag: u32, on: bool) -> u32 {
        let mut state = self.state.load(Acquire);
        loop {
            let new = if on { state | flag } else { state & !flag };
            match self.state.cmpxchg(state, new, Full) {
                Ok(_) => return state,
                Err(now) => state = now,
            }
        }
    }

    /// The command is ready, and may not begin yet.
    pub(crate) fn wait(&self) {
        self.flag(WAITS, true);
    }

    /// It may begin now. A full barrier: who has changed the device's condition and does not find the command at work is seen
    /// by its look at the condition.
    pub(super) fn go_on(&self) {
        self.flag(WAITS, false);
    }

    /// This use of the slot, if it is of a command that is at work: not answered yet, and not waiting to begin, and `select(tag,
    /// unit)` chooses it.
    pub(crate) fn at_work(&self, select: &dyn Fn(u64, Unit) -> bool) -> Option<u32> {
        let state = self.state.load(Acquire);
        let at_work = state & (LIVE | REPLIED | WAITS) == LIVE && self.selected(state, select);
        at_work.then_some(state & !(GENERATION - 1))
    }

    pub(super) fn begin(&self, tag: u64, lun: [u8; 8]) {
        self.tag.store(tag, Relaxed);
        self.lun.store(u64::from_be_bytes(lun), Relaxed);
        self.after.store(0, Relaxed);
        self.regions.store(Regions::NONE.word(), Relaxed);
        let generation = self.state.load(Relaxed) & !(GENERATION - 1);
        // A full barrier: either the looks at the session and at the LUN's gate that follow find them closed, or whoever
        // closed them finds this command when it marks those that are alive.
        self.state.xchg(generation | LIVE, Full);
    }

    /// Whether the command is alive, not answered yet, and `select(tag, unit)` says so, and the ORDERED command with this number
    /// waits for it. It is marked, so that there is a [`wake`](crate::tmf::wake) when that changes.
    pub(crate) fn is_before(&self, number: u64, select: &dyn Fn(u64, Unit) -> bool) -> bool {
        let mut state = self.state.load(Acquire);
        loop {
            let answered = state & (REPLIED | HANDING) == REPLIED;
            if state & LIVE == 0 || answered || !self.selected(state, select) {
                return false;
            }
            match self.state.cmpxchg(state, state | WATCHED, Full) {
                Ok(_) => return self.after.load(Relaxed) <= number,
                Err(now) => state = now,
            }
        }
    }

    /// The command is at work, and writes there. A full barrier: who has said that it has its turn and does not find this is seen by
    /// the look for such that follows.
    pub(crate) fn write(&self, regions: Regions) {
        self.regions.xchg(regions.word(), Full);
    }

    /// Where it writes, as far as it has said so.
    pub(crate) fn regions(&self) -> Regions {
        Regions::from_word(self.regions.load(Acquire))
    }

    /// Whether the command is alive, not answered yet, and `select(tag, unit)` says so, and writes there. It is marked, so that there is a
    /// [`wake`](crate::tmf::wake) when that changes.
    pub(crate) fn is_writing(&self, regions: Regions, select: &dyn Fn(u64, Unit) -> bool) -> bool {
        let meets = || Regions::from_word(self.regions.load(Acquire)).meets(regions);
        let mut state = self.state.load(Acquire);
        loop {
            if state & (LIVE | REPLIED) != LIVE || !meets() || !self.selected(state, select) {
                return false;
            }
            match self.state.cmpxchg(state, state | WATCHED, Full) {
                Ok(_) => return meets(),
                Err(now) => state = now,
            }
        }
    }

    /// What came before the command is known now: whoever waits for it finds out whether it has to. A full barrier.
    pub(crate) fn look_again(&self) {
        // With this exchange either the mark is seen here, or who makes it sees what is known.
        if self.flag(WATCHED, false) & WATCHED != 0 {
            crate::tmf::wake();
        }
    }

    /// The command is outside its task set, with this number. Whoever waits for it finds out that it does not have to.
    pub(super) fn stay_outside(&self, number: u64, ordered: bool) {
        let word = OUTSIDE | (number << 1) | u64::from(ordered);
        self.after.store(word, Relaxed);
        self.look_again();
    }

    /// The command goes into its task set; whether it was an ORDERED one outside. A full barrier, as when it was made alive.
    pub(super) fn go_in(&self) -> bool {
        self.after.xchg(0, Full) & 1 != 0
    }

    /// Its number outside the task set, unless it is in there or answered, and whether it is ORDERED.
    pub(super) fn outside(&self) -> Option<(u64, bool)> {
        let after = self.after.load(Relaxed);
        if after & OUTSIDE == 0 || self.state.load(Acquire) & (LIVE | REPLIED) != LIVE {
            return None;
        }
        Some(((after & !OUTSIDE) >> 1, after & 1 != 0))
    }

    /// Whether it was ORDERED, of a command that stayed outside.
    pub(super) fn is_ordered_outside(&self) -> bool {
        self.after.load(Relaxed) & 1 != 0
    }

    // The reply is decided now. `handing`: there will be a `handed`, for which ORDERED commands wait.
    pub(super) fn decide(&self, handing: bool) -> Decided {
        let state = self.flag(if handing { REPLIED | HANDING } else { REPLIED }, true);
        Decided {
            generation: state & !(GENERATION - 1),
            aborted: state & ABORTED != 0,
            tell: state & TELL != 0,
            watched: state & WATCHED != 0,
        }
    }

    // The fabric has the reply, and may be done with it; returns whether somebody may be waiting for this.
    pub(super) fn handed(&self, generation: u32) -> bool {
        let mut state = self.state.load(Acquire);
        while state & !(GENERATION - 1) == generation {
            match self.state.cmpxchg(state, state & !HANDING, Full) {
                Ok(_) => return state & WATCHED != 0,
                Err(now) => state = now,
            }
        }
        // The slot was given back, and whoever waited was woken.
        false
    }

    // Ends this use of the slot; returns whether somebody may be waiting for that.
    pub(super) fn end(&self) -> bool {
        let state = self.state.load(Relaxed);
        let next = (state & !(GENERATION - 1)).wrapping_add(GENERATION);
        self.state.xchg(next, Full) & (ABORTED | WATCHED) != 0
    }
}

// The state of a command that is marked aborted.
fn aborted(state: u32, tell: bool) -> u32 {
    let tell = tell && state & (ABORTED | REPLIED) == 0;
    state | ABORTED | if tell { TELL } else { 0 }
}

// What there is to know of a command when its reply is decided.
pub(super) struct Decided {
    // The use of the slot.
    pub(super) generation: u32,
    // It was aborted before.
    pub(super) aborted: bool,
    // And shall be told so.
    pub(super) tell: bool,
    // An ORDERED command waits for it.
    pub(super) watched: bool,
}
