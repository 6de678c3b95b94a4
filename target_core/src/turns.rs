// SPDX-License-Identifier: GPL-2.0

//! What reads and writes without another write of the same blocks in between: COMPARE AND WRITE (SBC-4 5.3), ORWRITE (4.27.1), and pieces
//! of copies that change blocks in part.
//!
//! A device runs one after the other. That whose turn it is waits for the writes that are at work on its blocks, or near them; those that come
//! later wait for it, and go before the next one. Each write says where it writes in its shared part and then looks whether somebody has
//! a turn; who gets one says so and then looks at the writes of all sessions, as ORDERED commands do ([`order`](crate::order)). So
//! writes change nothing that they have in common. Pieces of copies and turns are numbered, and the later one waits for the earlier one.

use crate::{
    command::{Command, Shared, Turn},
    copy::Earlier,
    device::Device,
    tmf,
};
use kernel::{
    impl_has_work, new_spinlock,
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full},
        Arc, SpinLock,
    },
    workqueue::WorkItem,
};
use lio_glue::{
    noio,
    slot::{Erased, List},
};
use lio_policy::regions::Regions;
use lio_scsi::{block::Block, cdb, unmap};

/// A command that waits.
type Waiting = Erased<Command, Shared>;

struct State {
    // Where the command that has its turn writes.
    regions: Regions,
    // The pieces of copies before it. It was said before that the turn is taken.
    pieces: Option<Earlier>,
    // It, until the writes before it are gone.
    granted: Option<Waiting>,
    // Those that want a turn, oldest first.
    waiting: List<Command, Shared>,
    // Writes that wait for it.
    held: List<Command, Shared>,
}

/// Whose turn it is.
#[pin_data]
pub(crate) struct Turns {
    // Whether a command has its turn: written with the state's lock, read without.
    taken: Atomic<u32>,
    #[pin]
    state: SpinLock<State>,
}

/// Where a command writes that others must not come between with. Those that have turns do not, by that.
#[inline]
pub(crate) fn writes(cmd: &Command) -> Regions {
    let Some(decoded) = &cmd.decoded else {
        return Regions::NONE;
    };
    match &decoded.command {
        cdb::Command::Write(t) => Regions::of(t.extent.lba.0, t.extent.blocks.0),
        cdb::Command::Read(_) => Regions::NONE,
        cdb::Command::Unmap { .. } => unmapped(cmd),
        command => writes_otherwise(command),
    }
}

fn writes_otherwise(command: &cdb::Command) -> Regions {
    match command {
        cdb::Command::CompareAndWrite(_) | cdb::Command::Block(Block::OrWrite(_)) => Regions::NONE,
        // The medium's condition keeps others away (FORMAT UNIT, SANITIZE). Copies wait for limits, and may take hours: each of their
        // pieces waits for turns.
        cdb::Command::Block(Block::Format(_) | Block::Sanitize(_))
        | cdb::Command::ThirdParty(_) => Regions::NONE,
        command if command.writes() => all_of(command),
        _ => Regions::NONE,
    }
}

// The blocks in its CDB; where they are in its data, any.
fn all_of(command: &cdb::Command) -> Regions {
    command
        .extent()
        .map_or(Regions::ALL, |e| Regions::of(e.lba.0, e.blocks.0))
}

// What lies between the first and the last block that the descriptors of an UNMAP name, which has its data. They are not checked yet; so
// many are looked at.
fn unmapped(cmd: &Command) -> Regions {
    const FEW: usize = 64;
    let data = &cmd.data;
    let count = data.len().saturating_sub(unmap::HEADER) / unmap::DESCRIPTOR;
    // What the initiator may still change says nothing.
    if data.is_borrowed() || count > FEW {
        return Regions::ALL;
    }
    let (mut first, mut end) = (u64::MAX, 0u64);
    for i in 0..count {
        let mut descriptor = [0; unmap::DESCRIPTOR];
        let at = i
            .saturating_mul(unmap::DESCRIPTOR)
            .saturating_add(unmap::HEADER);
        if data.read_at(at, &mut descriptor) != descriptor.len() {
            return Regions::ALL;
        }
        let extent = unmap::extent(&descriptor);
        if extent.blocks.0 > 0 {
            first = first.min(extent.lba.0);
            end = end.max(extent.lba.0.saturating_add(extent.blocks.0));
        }
    }
    Regions::of(first, end.saturating_sub(first))
}

impl Turns {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Turns {
            taken: Atomic::new(0),
            state <- new_spinlock!(
                State {
                    regions: Regions::NONE,
                    pieces: None,
                    granted: None,
                    waiting: List::new(),
                    held: List::new(),
                },
                "Turns::state"
            ),
        })
    }

    /// Has `cmd` go on when its turn comes. Any context.
    pub(crate) fn wait(&self, mut cmd: Waiting, device: &Arc<Device>) {
        let mut state = self.state.lock();
        // One that was aborted before this is looked for by nobody any more.
        if cmd.shared().is_aborted() {
            drop(state);
            cmd.turn = Turn::No;
            return cmd.finish();
        }
        state.waiting.push(cmd);
        if self.taken.load(Acquire) != 0 {
            return;
        }
        self.grant(&mut state, device);
        drop(state);
        kick(device);
    }

    // It is the turn of the next one, if there is one.
    fn grant(&self, state: &mut State, device: &Device) {
        state.granted = state.waiting.pop();
        state.regions = state.granted.as_ref().map_or(Regions::NONE, |c| {
            // What is no initiator's has said it.
            c.decoded
                .as_ref()
                .map_or(c.shared().regions(), |d| all_of(&d.command))
        });
        // A full barrier: a write that does not see this is seen by whoever looks for those that are at work.
        self.taken.xchg(u32::from(state.granted.is_some()), Full);
        state.pieces = state.granted.is_some().then(|| Earlier::new(device));
    }

    /// A command that had its turn is done. Any context but hard interrupts: the commands that have turns are answered from
    /// process context.
    pub(crate) fn next(&self, device: &Arc<Device>) {
        let mut ready = {
            let mut state = self.state.lock();
            self.grant(&mut state, device);
            // They do not wait again: the next one waits for them.
            state.held.take(|c| {
                c.shared().write(writes(c));
                true
            })
        };
        while let Some(mut cmd) = ready.pop() {
            cmd.passes = true;
            cmd.finish();
        }
        if self.taken.load(Acquire) != 0 {
            kick(device);
        }
    }

    /// Whether a write may have to wait for who has its turn. It has said where it writes.
    #[inline]
    pub(crate) fn holds(&self, regions: Regions) -> bool {
        self.taken.load(Acquire) != 0 && self.state.lock().regions.meets(regions)
    }

    /// Whether a piece of a copy, which has said where it writes and has this number, has to wait for who has its turn.
    pub(crate) fn holds_piece(&self, regions: Regions, number: u64) -> bool {
        if self.taken.load(Acquire) == 0 {
            return false;
        }
        let state = self.state.lock();
        let is_later = |turn: Earlier| !turn.has(number);
        state.pieces.is_some_and(is_later) && state.regions.meets(regions)
    }

    /// Has a write, which does not say any more where it writes, begin when the turn is over for which it waits. Any context.
    pub(crate) fn hold(&self, cmd: Waiting) {
        let mut state = self.state.lock();
        // One that was aborted before this is looked for by nobody any more.
        if cmd.shared().is_aborted() || !state.regions.meets(writes(&cmd)) {
            drop(state);
            return cmd.finish();
        }
        state.held.push(cmd);
    }

    /// Commands were aborted: those that wait here go on, to be answered as such. Any context.
    pub(crate) fn let_aborted_go(&self) {
        if self.taken.load(Acquire) == 0 {
            return;
        }
        let (mut wanted, mut held) = {
            let mut state = self.state.lock();
            let wanted = state.waiting.take(|c| c.shared().is_aborted());
            (wanted, state.held.take(|c| c.shared().is_aborted()))
        };
        while let Some(mut cmd) = wanted.pop() {
            // It never had its turn, so it must not give one up.
            cmd.turn = Turn::No;
            cmd.finish();
        }
        while let Some(cmd) = held.pop() {
            cmd.finish();
        }
        // The worker may be waiting.
        tmf::wake();
    }
}

// It is another command's turn.
fn kick(device: &Arc<Device>) {
    if let Ok(engine) = crate::engine() {
        // One that is enqueued already has everything before it.
        let _ = engine.turns().enqueue::<Arc<Device>, 2>(device.clone());
    }
}

impl_has_work! {
    impl HasWork<Self, 2> for Device { self.turns_work }
}

impl WorkItem<2> for Device {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        noio::scope(|| advance(&this));
    }
}

// Has the command whose turn it is go on, once the writes that were at work are done.
fn advance(device: &Arc<Device>) {
    let granted = {
        let mut state = device.turns().state.lock();
        let (regions, pieces) = (state.regions, state.pieces);
        state.granted.take().map(|cmd| (cmd, regions, pieces))
    };
    let Some((mut cmd, regions, pieces)) = granted else {
        return;
    };
    match tmf::Before::find(device, tmf::WaitsFor::Writes(regions)) {
        Ok(mut before) => tmf::wait_for(
            || {
                let gone = before.are_gone() && pieces.is_none_or(|p| p.write_elsewhere(regions));
                gone || cmd.shared().is_aborted()
            },
            || {
                pr_warn!(
                    "{}: COMPARE AND WRITE, ORWRITE or a copy is waiting for the back end to write\n",
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
    cmd.finish();
}
