// SPDX-License-Identifier: GPL-2.0

//! Shares that LUNs and initiators have of a device, as an administrator weighs them: `shares` in `limits`.
//!
//! While any is set, commands that touch the medium are at the back end [`AT_ONCE`] at a time, and the others wait here, to go on in
//! the order that [`lio_policy::shares`] gives them. Without any, commands do not come here.

use crate::{
    command::{Command, Shared},
    lun::Nexus,
};
use kernel::{
    impl_has_work, new_spinlock,
    prelude::*,
    rbtree::{RBTree, RBTreeNodeReservation},
    sync::{
        atomic::{Atomic, Full, Relaxed},
        Arc, SpinLock,
    },
    workqueue::{Work, WorkItem},
};
use lio_glue::{
    noio, one_class,
    slot::{Erased, List},
};
use lio_policy::shares::{self as policy, Clock, AT_ONCE};

/// A command that waits.
type Held = Erased<Command, Shared>;

/// What a command has of its device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Share {
    /// It needs none.
    #[default]
    None,
    /// It is to wait for one: it transfers so many bytes.
    Wanted(u64),
    /// It waits, and has so much of its flow's virtual time.
    Waits(u64),
    /// It is one of those at the back end.
    Has,
}

/// The weight of a LUN, or of an initiator's view of it.
pub(crate) struct Weight(Atomic<u32>);

impl Weight {
    pub(crate) const fn new() -> Self {
        Weight(Atomic::new(0))
    }

    /// The weight; 0 is none.
    pub(crate) fn get(&self) -> u32 {
        self.0.load(Relaxed)
    }

    /// Sets it; returns the one before.
    pub(crate) fn set(&self, weight: u32) -> u32 {
        self.0.xchg(weight, Relaxed)
    }
}

/// The same with what an initiator's commands to a LUN have asked for.
pub(crate) struct Flow {
    weight: Weight,
    // The policy's flow. With the device's state locked.
    round: Atomic<u32>,
    tag: Atomic<u64>,
}

impl Flow {
    pub(crate) const fn new() -> Self {
        Flow {
            weight: Weight::new(),
            round: Atomic::new(0),
            tag: Atomic::new(0),
        }
    }

    fn with<R>(&self, f: impl FnOnce(&mut policy::Flow) -> R) -> R {
        let mut flow = policy::Flow {
            tag: self.tag.load(Relaxed),
            round: self.round.load(Relaxed),
        };
        let r = f(&mut flow);
        self.tag.store(flow.tag, Relaxed);
        self.round.store(flow.round, Relaxed);
        r
    }

    /// The weight.
    pub(crate) fn weight(&self) -> &Weight {
        &self.weight
    }
}

/// The place of a command among those that wait, and the virtual time that it takes.
pub(crate) struct Start(u64, u64);

struct State {
    clock: Clock,
    // So that commands with the same tag go on in the order in which they came.
    number: u64,
    waiting: RBTree<(u64, u64), Held>,
    count: usize,
}

/// The shares of one device.
#[pin_data]
pub(crate) struct Shares {
    // Weights that are set.
    set: Atomic<usize>,
    at_work: Atomic<u32>,
    // A copy of the state's count.
    waiting: Atomic<usize>,
    // Some of those that wait were aborted.
    aborted: Atomic<bool>,
    // Taken in process context only.
    #[pin]
    state: SpinLock<State>,
    #[pin]
    work: Work<Shares>,
}

impl_has_work! {
    impl HasWork<Self> for Shares { self.work }
}

impl Shares {
    pub(crate) fn new() -> Result<Arc<Self>> {
        let (name, class) = one_class!("Shares::work");
        Arc::pin_init(
            pin_init!(Shares {
                set: Atomic::new(0),
                at_work: Atomic::new(0),
                waiting: Atomic::new(0),
                aborted: Atomic::new(false),
                state <- new_spinlock!(
                    State {
                        clock: Clock::default(),
                        number: 0,
                        waiting: RBTree::new(),
                        count: 0,
                    },
                    "Shares::state"
                ),
                work <- Work::new(name, class),
            }),
            GFP_KERNEL,
        )
    }

    /// Whether any is set.
    pub(crate) fn is_on(&self) -> bool {
        self.set.load(Relaxed) != 0
    }

    /// A weight was there before, and is now. What waits is looked at again.
    pub(crate) fn count(self: &Arc<Self>, before: bool, now: bool) {
        match (before, now) {
            (false, true) => {
                self.set.fetch_add(1, Full);
            }
            (true, false) => {
                self.set.fetch_sub(1, Full);
            }
            _ => return,
        }
        self.kick();
    }

    /// A command of `nexus` that transfers `bytes` has come. It has its share at once, or a place among those that [`wait`](Self::wait).
    /// Process context.
    pub(crate) fn enter(&self, nexus: &Nexus, bytes: u64) -> Option<Start> {
        let (lun, flow) = (nexus.lun().weight(), nexus.mapped().flow());
        let weight = policy::weight(lun.get(), flow.weight().get());
        let priority = nexus.priority().or(nexus.lun().device().initial_priority());
        let weight = policy::prioritized(weight, priority);
        let mut state = self.state.lock();
        let (start, time) = flow.with(|flow| state.clock.arrive(flow, bytes, weight));
        if state.count != 0 || self.at_work.load(Relaxed) >= AT_ONCE {
            return Some(Start(start, time));
        }
        self.at_work.fetch_add(1, Full);
        state.clock.begin(start);
        None
    }

    /// Has `cmd` go on with its step when its turn comes. Process context.
    pub(crate) fn wait(self: &Arc<Self>, Start(start, time): Start, mut cmd: Held) {
        let Ok(node) = RBTreeNodeReservation::new(GFP_KERNEL) else {
            // Without memory for it there is no wait.
            self.at_work.fetch_add(1, Full);
            cmd.share = Share::Has;
            return cmd.finish();
        };
        cmd.share = Share::Waits(time);
        let mut state = self.state.lock();
        let key = (start, state.number);
        state.number = state.number.wrapping_add(1);
        state.waiting.insert(node.into_node(key, cmd));
        state.count = state.count.saturating_add(1);
        // A full barrier: whoever leaves, or aborts it, and does not see this is seen below, or has been seen.
        self.waiting.xchg(state.count, Full);
        let aborted = state
            .waiting
            .get(&key)
            .is_some_and(|c| c.shared().is_aborted());
        drop(state);
        if aborted {
            self.abort();
        } else if self.at_work.load(Relaxed) < AT_ONCE || !self.is_on() {
            self.kick();
        }
    }

    /// A command that had its share is done. Any context.
    pub(crate) fn leave(self: &Arc<Self>) {
        self.at_work.fetch_sub(1, Full);
        if self.waiting.load(Relaxed) != 0 {
            self.kick();
        }
    }

    /// Commands were aborted: those that wait here go on, to be answered as such. Any context.
    pub(crate) fn abort(self: &Arc<Self>) {
        if self.waiting.load(Relaxed) != 0 {
            self.aborted.xchg(true, Full);
            self.kick();
        }
    }

    fn kick(self: &Arc<Self>) {
        if let Ok(engine) = crate::engine() {
            // One that is enqueued already has everything before it.
            let _ = engine.queue().enqueue(self.clone());
        }
    }

    // Those that were aborted; what they have taken is their flow's again.
    fn take_aborted(&self) -> List<Command, Shared> {
        let mut taken = List::new();
        let mut state = self.state.lock();
        let State {
            clock,
            waiting,
            count,
            ..
        } = &mut *state;
        let mut at = waiting.cursor_front_mut();
        while let Some(cursor) = at {
            at = if cursor.current().1.shared().is_aborted() {
                let (next, node) = cursor.remove_current();
                let (_, mut cmd) = node.to_key_value();
                if let (Share::Waits(time), Some(nexus)) = (cmd.share, &cmd.nexus) {
                    let flow = nexus.mapped().flow();
                    flow.with(|flow| clock.give_back(flow, time));
                }
                cmd.share = Share::None;
                taken.push(cmd);
                *count = count.saturating_sub(1);
                next
            } else {
                cursor.move_next()
            };
        }
        self.waiting.xchg(state.count, Full);
        taken
    }

    // The next one whose turn it is.
    fn next(&self) -> Option<Held> {
        let mut state = self.state.lock();
        // Those that remain when the last weight is gone wait no longer.
        if self.is_on() && self.at_work.load(Relaxed) >= AT_ONCE {
            return None;
        }
        let Some(cursor) = state.waiting.cursor_front_mut() else {
            if self.at_work.load(Relaxed) == 0 {
                state.clock.rest();
            }
            return None;
        };
        let (_, node) = cursor.remove_current();
        let ((start, _), mut cmd) = node.to_key_value();
        state.clock.begin(start);
        state.count = state.count.saturating_sub(1);
        self.waiting.xchg(state.count, Full);
        self.at_work.fetch_add(1, Full);
        cmd.share = Share::Has;
        Some(cmd)
    }
}

impl WorkItem for Shares {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        noio::scope(|| {
            if this.aborted.xchg(false, Full) {
                let mut aborted = this.take_aborted();
                while let Some(cmd) = aborted.pop() {
                    cmd.finish();
                }
            }
            while let Some(cmd) = this.next() {
                cmd.finish();
            }
        });
    }
}
