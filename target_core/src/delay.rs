// SPDX-License-Identifier: GPL-2.0

//! What is to be done a little later: commands that are delayed, access states at the end of their transitions, the next look
//! at a threshold.
//!
//! One worker sleeps until the next is due, while there are any. What waits here is found by those that want it sooner: an
//! aborted command goes on at once, to be answered as aborted; a transition of a group that goes is forgotten.

use crate::{
    alua::Group,
    command::{Command, Shared},
    device::Device,
    lun::{Lun, Nexus},
};
use kernel::{
    impl_has_work, new_spinlock,
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Relaxed, Release},
        Arc, SpinLock,
    },
    workqueue::{Work, WorkItem},
};
use lio_glue::{clock, one_class, slot::Erased, wait::WaitQueue};

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

    // It need not wait any longer.
    fn is_void(&self) -> bool {
        match self {
            Late::Command(cmd) => cmd.shared().is_aborted(),
            Late::Transition { .. } | Late::Thresholds(_) => false,
        }
    }
}

#[derive(Default)]
struct State {
    // In the order in which they came, with the times at which they are due, in nanoseconds.
    waiting: KVec<(u64, Late)>,
    // The worker is at work, or enqueued.
    working: bool,
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
    // How many wait; a hint.
    count: Atomic<usize>,
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
                state <- new_spinlock!(State::default(), "Delays::state"),
                wake <- WaitQueue::new(),
                changed: Atomic::new(false),
                count: Atomic::new(0),
                work <- Work::new(name, class),
            }),
            GFP_KERNEL,
        )
    }

    fn look(&self) {
        self.changed.store(true, Release);
        self.wake.wake_all();
    }

    // Takes the first of those that are due or void; says how long the others have time.
    fn next(&self) -> Next {
        let now = clock::now_ns();
        let mut state = self.state.lock();
        let due = |(at, late): &(u64, Late)| *at <= now || late.is_void();
        if let Some(index) = state.waiting.iter().position(due) {
            self.count
                .store(state.waiting.len().wrapping_sub(1), Relaxed);
            return match state.waiting.remove(index) {
                Ok((_, late)) => Next::Run(late),
                Err(_) => Next::Wait(1),
            };
        }
        match state.waiting.iter().map(|(at, _)| *at).min() {
            Some(at) => Next::Wait(at.saturating_sub(now).div_ceil(1_000_000)),
            None => {
                state.working = false;
                Next::End
            }
        }
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
                Next::Run(late) => lio_glue::noio::scope(|| late.run()),
                Next::Wait(ms) => {
                    let ms = u32::try_from(ms).unwrap_or(u32::MAX).min(60_000);
                    this.wake.wait_until(ms, || this.changed.load(Acquire));
                }
                Next::End => return,
            }
        }
    }
}

/// Has `late` done after `ms` milliseconds, as [`at`].
///
/// # Errors
/// Without memory it comes back.
pub(crate) fn after(ms: u64, late: Late) -> Result<(), Late> {
    at(
        clock::now_ns().saturating_add(ms.saturating_mul(1_000_000)),
        late,
    )
}

/// Has `late` done at the time `at`, in nanoseconds. Any context but hard interrupts.
///
/// # Errors
/// Without memory it comes back.
pub(crate) fn at(at: u64, late: Late) -> Result<(), Late> {
    let Ok(engine) = crate::engine() else {
        return Err(late);
    };
    let delays = engine.delays();
    let mut state = delays.state.lock();
    if state.waiting.reserve(1, GFP_ATOMIC).is_err() {
        drop(state);
        return Err(late);
    }
    // There is room for it.
    let _ = state.waiting.push((at, late), GFP_ATOMIC);
    delays.count.store(state.waiting.len(), Release);
    let start = !core::mem::replace(&mut state.working, true);
    drop(state);
    if start {
        let _ = engine.late().enqueue(delays.clone());
    } else {
        delays.look();
    }
    Ok(())
}

/// Commands were aborted: those that wait here go on. Any context.
pub(crate) fn kick() {
    if let Ok(engine) = crate::engine() {
        if engine.delays().count.load(Acquire) != 0 {
            engine.delays().look();
        }
    }
}

/// The commands of a LUN that wait here go on: its limits are others now.
pub(crate) fn release(lun: &Lun) {
    let Ok(engine) = crate::engine() else { return };
    let mut state = engine.delays().state.lock();
    for (at, late) in state.waiting.iter_mut() {
        if let Late::Command(cmd) = late {
            let its = |nexus: &Arc<Nexus>| core::ptr::eq(&**nexus.lun(), lun);
            if cmd.nexus.as_ref().is_some_and(its) {
                *at = 0;
            }
        }
    }
    drop(state);
    engine.delays().look();
}

/// Forgets the transition of a group.
pub(crate) fn forget_transition(of: &Arc<Group>) {
    forget(|late| matches!(late, Late::Transition { group, .. } if Arc::ptr_eq(group, of)));
}

/// Forgets what `which` chooses, of what is no command.
pub(crate) fn forget(which: impl Fn(&Late) -> bool) {
    let Ok(engine) = crate::engine() else { return };
    loop {
        let mut state = engine.delays().state.lock();
        let found = state
            .waiting
            .iter()
            .position(|(_, late)| !matches!(late, Late::Command(_)) && which(late));
        let gone = found.and_then(|index| state.waiting.remove(index).ok());
        drop(state);
        // It is dropped without the lock.
        if gone.is_none() {
            return;
        }
    }
}
