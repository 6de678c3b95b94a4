// SPDX-License-Identifier: GPL-2.0

//! The order of a device's commands (SAM-5 8.6): ORDERED ones, and those that wait for them.
//!
//! The device is one task set for all I_T nexuses. A command takes its [`Place`] when it is admitted, or when the limit is over for which it
//! had to wait ([`Outside`](crate::command::Outside)), and is held here if it may not begin yet when it is to be executed. A worker waits for what was there before an ORDERED command: it looks through the
//! commands of all sessions, as task management does. So commands count nothing while no ORDERED one is there.

use crate::{
    command::{Command, Shared},
    device::Device,
    lun::Nexus,
    tmf,
};
use kernel::{
    impl_has_work, new_spinlock,
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full, Relaxed, Release},
        Arc, SpinLock,
    },
    workqueue::WorkItem,
};
use lio_glue::{
    noio,
    slot::{Erased, List},
};
use lio_policy::order::{Ordered, Place};
use lio_scsi::task::Attribute;

/// A command that waits.
type Held = Erased<Command, Shared>;

struct State {
    ordered: Ordered,
    // In the order in which they were to be executed.
    held: List<Command, Shared>,
    // The nexus, by its number, of the ORDERED command whose turn it is, and which waits for what was there before it.
    turn: Option<u64>,
}

/// Where the commands of a device stand.
#[pin_data]
pub(crate) struct Order {
    // Copies of the state's: written with its lock, read without.
    admitted: Atomic<u64>,
    done: Atomic<u64>,
    #[pin]
    state: SpinLock<State>,
}

impl Order {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Order {
            admitted: Atomic::new(0),
            done: Atomic::new(0),
            state <- new_spinlock!(
                State { ordered: Ordered::new(), held: List::new(), turn: None },
                "Order::state"
            ),
        })
    }

    /// Whether there ever was an ORDERED command.
    pub(crate) fn is_used(&self) -> bool {
        self.admitted.load(Relaxed) != 0
    }

    /// Whether an ORDERED command is there; a snapshot.
    pub(crate) fn is_active(&self) -> bool {
        self.admitted.load(Acquire) != self.done.load(Acquire)
    }

    /// A command with this attribute has been admitted: its place. `None`: there are too many. Process context.
    pub(crate) fn arrive(&self, attribute: Attribute, shared: &Shared) -> Option<Place> {
        let place = match attribute {
            Attribute::HeadOfQueue => return Some(Place::Free),
            Attribute::Ordered => {
                let mut state = self.state.lock();
                let number = state.ordered.admit()?;
                shared.set_after(number.saturating_add(1));
                // A full barrier: a command that does not see this is seen by whoever looks for those that were here before.
                self.admitted.xchg(state.ordered.admitted(), Full);
                Place::Ordered(number)
            }
            // The command was made alive with a full barrier.
            Attribute::Simple | Attribute::Aca => match self.admitted.load(Acquire) {
                0 => return Some(Place::Free),
                n => {
                    shared.set_after(n);
                    Place::After(n)
                }
            },
        };
        if self.is_active() {
            // It may have been taken for one that was here before the ORDERED one.
            shared.look_again();
        }
        Some(place)
    }

    /// Whether a command in this place may not begin yet. What is ORDERED is to be held in any case.
    pub(crate) fn holds(&self, place: Place) -> bool {
        match place {
            Place::Free => false,
            Place::After(n) => n > self.done.load(Acquire),
            Place::Ordered(_) => true,
        }
    }

    /// Whether commands of other I_T_L nexuses than `nexus` wait here. Process context.
    pub(crate) fn holds_others(&self, nexus: &Nexus) -> bool {
        if !self.is_active() {
            return false;
        }
        let is_other = |serial: u64| serial != nexus.serial();
        let state = self.state.lock();
        let is_others = |c: &Held| c.nexus.as_ref().is_some_and(|n| is_other(n.serial()));
        state.turn.is_some_and(is_other) || state.held.any(is_others)
    }

    /// Has `cmd` go on with its step when its turn comes. Process context.
    pub(crate) fn hold(&self, cmd: Held, device: &Arc<Device>) {
        let ordered = cmd.place.is_ordered();
        let mut state = self.state.lock();
        // One that was aborted before this is looked for by nobody any more.
        let aborted = cmd.shared().is_aborted();
        if aborted || !ordered && state.ordered.lets(cmd.place) {
            drop(state);
            return cmd.finish();
        }
        state.held.push(cmd);
        drop(state);
        if ordered {
            kick(device);
        }
    }

    /// An ORDERED command is over, whether it had its turn or not. Process context.
    pub(crate) fn end(&self, number: u64, device: &Arc<Device>) {
        let mut state = self.state.lock();
        state.ordered.end(number);
        self.done.store(state.ordered.done(), Release);
        let waiting = !state.held.is_empty();
        drop(state);
        if waiting {
            kick(device);
        }
    }

    // Has those go on that may, and those that were aborted, to be answered as such; gives the ORDERED command whose turn it is.
    fn release(&self) -> Option<Held> {
        let (mut ready, mut turn) = {
            let mut state = self.state.lock();
            let State {
                ordered,
                held,
                turn: whose,
            } = &mut *state;
            let ready = held.take(|c| {
                c.shared().is_aborted() || !c.place.is_ordered() && ordered.lets(c.place)
            });
            let turn = held.take(|c| {
                let lets = ordered.lets(c.place);
                if lets {
                    *whose = c.nexus.as_ref().map(|n| n.serial());
                }
                lets
            });
            (ready, turn)
        };
        while let Some(cmd) = ready.pop() {
            cmd.finish();
        }
        turn.pop()
    }
}

/// The task attribute that `cmd` is processed with. Under restricted reordering, SIMPLE commands that write are processed as ORDERED
/// ones: what is on the medium in the end is to be the same (SPC-4 7.5.8), and a read shows what was written before it.
#[inline]
pub(crate) fn attribute(device: &Device, cmd: &Command) -> Attribute {
    match cmd.attribute {
        Attribute::Simple if device.attrib().emulate_rest_reord() => {
            let writes = cmd.decoded.is_some_and(|d| d.command.writes());
            if writes {
                Attribute::Ordered
            } else {
                Attribute::Simple
            }
        }
        given => given,
    }
}

/// What is held is looked at again. Any context.
pub(crate) fn kick(device: &Arc<Device>) {
    if let Ok(engine) = crate::engine() {
        // One that is enqueued already has everything before it.
        let _ = engine.ordering().enqueue::<Arc<Device>, 0>(device.clone());
    }
    // The worker may be waiting.
    tmf::wake();
}

impl_has_work! {
    impl HasWork<Self> for Device { self.order_work }
}

impl WorkItem for Device {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        noio::scope(|| advance(&this));
    }
}

// Has the ORDERED command whose turn it is go on, once all that was there before it is gone. When it is over, this is called again.
fn advance(device: &Arc<Device>) {
    let order = device.order();
    let Some(mut cmd) = order.release() else {
        return;
    };
    let Place::Ordered(number) = cmd.place else {
        return;
    };
    match tmf::Before::find(device, tmf::WaitsFor::Ordered(number)) {
        Ok(mut before) => tmf::wait_for(
            || {
                // Others may be aborted meanwhile. Nobody else's turn it can be.
                drop(order.release());
                before.are_gone() || cmd.shared().is_aborted()
            },
            || {
                pr_warn!(
                    "{}: an ORDERED command is waiting for the back end\n",
                    device.path()
                )
            },
        ),
        Err(_) => {
            // Without memory to look for them: BUSY.
            cmd.step = crate::emulate::Step::None;
            cmd.io_result = Err(crate::backend::IoError::Resources);
        }
    }
    order.state.lock().turn = None;
    cmd.finish();
}

impl Shared {
    // What came before the command is known from now on.
    fn set_after(&self, after: u64) {
        self.after.store(after, Relaxed);
    }
}
