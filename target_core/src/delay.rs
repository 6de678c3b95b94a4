// SPDX-License-Identifier: GPL-2.0

//! What is to be done a little later: commands that are delayed, access states at the end of their transitions, the next look
//! at a threshold.
//!
//! One worker sleeps until the next is due, while there are any. What waits here is found by those that want it sooner: an
//! aborted command goes on at once, to be answered as aborted; a transition of a group that goes is forgotten. As many may wait as all
//! sessions have commands: [`Room`] for each is taken before, without the lock.

use crate::{
    alua::Group,
    command::{Command, Shared},
    device::Device,
    limits::Taken,
    lun::{Lun, Nexus},
    Engine,
};
use kernel::{
    impl_has_work, new_spinlock,
    prelude::*,
    rbtree::{RBTree, RBTreeNodeReservation},
    sync::{
        atomic::{Acquire, Atomic, Full, Release},
        Arc, SpinLock,
    },
    workqueue::{Work, WorkItem},
};
use lio_glue::{
    clock, noio, one_class,
    slot::{Erased, List},
    wait::WaitQueue,
};

/// What is done when its time has come.
pub(crate) enum Late {
    /// The command goes on with its step.
    Command(Erased<Command, Shared>),
    /// The group is in its new state.
    Transition {
        device: Arc<Device>,
        group: Arc<Group>,
        asks: crate::alua::Asks,
    },
    /// What is left for logical blocks is looked at.
    Thresholds(Arc<Device>),
}

impl Late {
    pub(crate) fn run(self) {
        match self {
            Late::Command(cmd) => cmd.finish(),
            Late::Transition {
                device,
                group,
                asks,
            } => device.complete_state(&group, asks),
            Late::Thresholds(device) => device.look_at_thresholds(),
        }
    }

    // It is a command whose LUN has other limits by now: it gives back what it has taken, to ask them again.
    fn is_released(&mut self) -> bool {
        let Late::Command(cmd) = self else {
            return false;
        };
        let released = match (&cmd.taken, &cmd.nexus) {
            (Some(taken), Some(nexus)) => nexus.lun().has_released(taken.at),
            _ => false,
        };
        if released {
            ask_again(cmd);
        }
        released
    }
}

// Before any of those that are let go takes something again, all have given theirs back.
fn ask_again(cmd: &mut Erased<Command, Shared>) {
    if let (Some(taken), Some(nexus)) = (cmd.taken, &cmd.nexus) {
        nexus.give_back(taken);
        cmd.taken = Some(Taken {
            is_back: true,
            ..taken
        });
    }
}

struct State {
    // By the times at which they are due, in nanoseconds, and in the order in which they came.
    waiting: RBTree<(u64, u64), Late>,
    number: u64,
    // Commands that wait no longer.
    ready: List<Command, Shared>,
    // The worker is at work, or enqueued.
    working: bool,
}

impl State {
    // Has the commands that `which` chooses wait no longer, and does `f` with them; how many there were.
    fn let_go(
        &mut self,
        which: impl Fn(&Erased<Command, Shared>) -> bool,
        f: impl Fn(&mut Erased<Command, Shared>),
    ) -> usize {
        let mut gone: usize = 0;
        let State { waiting, ready, .. } = self;
        let mut at = waiting.cursor_front_mut();
        while let Some(cursor) = at {
            at = if matches!(cursor.current().1, Late::Command(cmd) if which(cmd)) {
                let (next, node) = cursor.remove_current();
                if let Late::Command(mut cmd) = node.to_key_value().1 {
                    f(&mut cmd);
                    ready.push(cmd);
                }
                gone = gone.saturating_add(1);
                next
            } else {
                cursor.move_next()
            };
        }
        gone
    }

    // The first that `which` chooses, which waits no longer.
    fn take(&mut self, which: impl Fn(&Late) -> bool) -> Option<Late> {
        let mut at = self.waiting.cursor_front_mut();
        while let Some(cursor) = at {
            if which(cursor.current().1) {
                let (_, node) = cursor.remove_current();
                return Some(node.to_key_value().1);
            }
            at = cursor.move_next();
        }
        None
    }
}

/// The queue, and its worker.
#[pin_data]
pub(crate) struct Delays {
    #[pin]
    state: SpinLock<State>,
    #[pin]
    wake: WaitQueue,
    // Something has changed since the worker last looked.
    changed: Atomic<bool>,
    // How many wait.
    count: Atomic<usize>,
    // Some of them were aborted.
    aborted: Atomic<bool>,
    #[pin]
    work: Work<Delays>,
}

impl_has_work! {
    impl HasWork<Self> for Delays { self.work }
}

impl Delays {
    pub(crate) fn new() -> Result<Arc<Self>> {
        let (name, class) = one_class!("Delays::work");
        Arc::pin_init(
            pin_init!(Delays {
                state <- new_spinlock!(
                    State {
                        waiting: RBTree::new(),
                        number: 0,
                        ready: List::new(),
                        working: false,
                    },
                    "Delays::state"
                ),
                wake <- WaitQueue::new(),
                changed: Atomic::new(false),
                count: Atomic::new(0),
                aborted: Atomic::new(false),
                work <- Work::new(name, class),
            }),
            GFP_KERNEL,
        )
    }

    fn look(&self) {
        self.changed.store(true, Release);
        self.wake.wake_all();
    }

    // Takes the first of those that are due; says how long the others have time.
    fn next(&self) -> Next {
        let now = clock::now_ns();
        let aborted = self.aborted.xchg(false, Full);
        let mut state = self.state.lock();
        if aborted {
            self.let_go(&mut state, |cmd| cmd.shared().is_aborted(), |_| ());
        }
        if let Some(cmd) = state.ready.pop() {
            return Next::Run(Late::Command(cmd));
        }
        let Some(cursor) = state.waiting.cursor_front_mut() else {
            state.working = false;
            return Next::End;
        };
        let (due, _) = *cursor.current().0;
        if due > now {
            return Next::Wait(due.saturating_sub(now).div_ceil(1_000_000));
        }
        let (_, node) = cursor.remove_current();
        self.count.fetch_sub(1, Full);
        Next::Run(node.to_key_value().1)
    }

    fn let_go(
        &self,
        state: &mut State,
        which: impl Fn(&Erased<Command, Shared>) -> bool,
        f: impl Fn(&mut Erased<Command, Shared>),
    ) {
        let gone = state.let_go(which, f);
        self.count.fetch_sub(gone, Full);
    }
}

enum Next {
    Run(Late),
    // Milliseconds.
    Wait(u64),
    End,
}

impl WorkItem for Delays {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        loop {
            this.changed.store(false, Release);
            match this.next() {
                Next::Run(late) => noio::scope(|| late.run()),
                Next::Wait(ms) => {
                    let ms = u32::try_from(ms).unwrap_or(u32::MAX).min(60_000);
                    this.wake.wait_until(ms, || this.changed.load(Acquire));
                }
                Next::End => return,
            }
        }
    }
}

/// Room for one that waits.
pub(crate) struct Room {
    node: RBTreeNodeReservation<(u64, u64), Late>,
    engine: Arc<Engine>,
}

impl Room {
    /// Process context.
    ///
    /// # Errors
    /// `ENOMEM`
    pub(crate) fn new() -> Result<Self> {
        Ok(Room {
            // Who frees memory may be waiting for what the command writes.
            node: noio::scope(|| RBTreeNodeReservation::new(GFP_KERNEL))?,
            engine: crate::engine()?,
        })
    }

    /// Has `late` done at the time `at`, in nanoseconds.
    pub(crate) fn put(self, at: u64, mut late: Late) {
        let delays = self.engine.delays();
        // A full barrier: who aborts the command and does not see it counted is seen below.
        delays.count.fetch_add(1, Full);
        let mut state = delays.state.lock();
        // With the lock: who releases it hereafter finds it.
        let at = if late.is_released() { 0 } else { at };
        if matches!(&late, Late::Command(cmd) if cmd.shared().is_aborted()) {
            delays.aborted.xchg(true, Full);
        }
        let key = (at, state.number);
        state.number = state.number.wrapping_add(1);
        state.waiting.insert(self.node.into_node(key, late));
        let start = !core::mem::replace(&mut state.working, true);
        drop(state);
        if start {
            let _ = self.engine.late().enqueue(delays.clone());
        } else {
            delays.look();
        }
    }
}

/// Has `late` done after `ms` milliseconds. Process context.
///
/// # Errors
/// Without memory it comes back.
pub(crate) fn after(ms: u64, late: Late) -> Result<(), Late> {
    let Ok(room) = Room::new() else {
        return Err(late);
    };
    let ns = ms.saturating_mul(1_000_000);
    room.put(clock::now_ns().saturating_add(ns), late);
    Ok(())
}

/// Commands were aborted: those that wait here go on. Any context.
pub(crate) fn kick() {
    if let Ok(engine) = crate::engine() {
        let delays = engine.delays();
        if delays.count.load(Acquire) != 0 {
            delays.aborted.xchg(true, Full);
            delays.look();
        }
    }
}

/// The commands of a LUN that wait here for limits ask again: some are others now.
pub(crate) fn release(lun: &Lun) {
    let Ok(engine) = crate::engine() else { return };
    let delays = engine.delays();
    let is_its = |nexus: &Arc<Nexus>| core::ptr::eq(&**nexus.lun(), lun);
    let mut state = delays.state.lock();
    let its = |cmd: &Erased<Command, Shared>| {
        cmd.taken.is_some() && cmd.nexus.as_ref().is_some_and(is_its)
    };
    delays.let_go(&mut state, its, ask_again);
    drop(state);
    delays.look();
}

/// Forgets the transition of a group.
pub(crate) fn forget_transition(of: &Arc<Group>) {
    forget(|late| matches!(late, Late::Transition { group, .. } if Arc::ptr_eq(group, of)));
}

/// Forgets what `which` chooses, of what is no command.
pub(crate) fn forget(which: impl Fn(&Late) -> bool) {
    let Ok(engine) = crate::engine() else { return };
    let delays = engine.delays();
    let its = |late: &Late| !matches!(late, Late::Command(_)) && which(late);
    loop {
        let gone = delays.state.lock().take(its);
        // It is dropped without the lock.
        if gone.is_none() {
            return;
        }
        delays.count.fetch_sub(1, Full);
    }
}
