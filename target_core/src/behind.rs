// SPDX-License-Identifier: GPL-2.0

//! What goes on behind the answer to a command with IMMED (SBC-4 5.13, 5.31, 5.33): the cache is written, the unit stops, blocks are
//! read into a cache.
//!
//! A device has one worker for all of it. What fails is told to those I_T nexuses whose commands it was for, as a deferred error
//! (SPC-4 4.5). Where there is no room for more, a command is answered when it is done, as without IMMED.

use crate::{
    backend::{IoError, Op},
    device::Device,
    kept::Failed,
    lun::Nexus,
};
use kernel::{
    impl_has_work, new_spinlock, prelude::*, sync::Arc, sync::SpinLock, workqueue::WorkItem,
};
use lio_glue::noio;
use lio_scsi::sense::{Key, Sense};

/// Ranges that wait to be read.
const MOST: usize = 16;
/// Bytes that are read at once.
const PIECE: u64 = 1 << 20;
/// What a flush does, as far as its errors are concerned.
const FLUSH: Op = Op::Flush {
    pos: 0,
    len: u64::MAX,
};

#[derive(Default)]
struct State {
    flush: bool,
    /// It is to stop when the cache is written: whether the medium is ejected then.
    stop: Option<bool>,
    /// The same, and the cache is being written.
    stopping: Option<bool>,
    /// Positions and lengths.
    fetch: [Option<(u64, u64)>; MOST],
}

/// What a device has of it.
#[pin_data]
pub(crate) struct Behind {
    #[pin]
    state: SpinLock<State>,
}

impl Behind {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Behind {
            state <- new_spinlock!(State::default(), "Behind::state"),
        })
    }

    /// START STOP UNIT with START: nothing stops the unit any more. Has `f` start it.
    pub(crate) fn start<R>(&self, f: impl FnOnce() -> R) -> R {
        let mut state = self.state.lock();
        (state.stop, state.stopping) = (None, None);
        f()
    }
}

/// All that was written is written to the medium, for `nexus`.
pub(crate) fn flush(device: &Arc<Device>, nexus: &Nexus) {
    nexus.await_flush();
    device.behind().state.lock().flush = true;
    enqueue(device);
}

/// The unit stops when all is written; with `eject` the medium is gone then.
pub(crate) fn stop(device: &Arc<Device>, nexus: &Nexus, eject: bool) {
    nexus.await_flush();
    {
        let mut state = device.behind().state.lock();
        // Another's medium is to be ejected all the same.
        state.stop = Some(eject || state.stop == Some(true));
    }
    enqueue(device);
}

/// `len` bytes from `pos` on are read into the cache; whether there was room for that.
pub(crate) fn fetch(device: &Arc<Device>, pos: u64, len: u64) -> bool {
    let taken = {
        let mut state = device.behind().state.lock();
        let free = state.fetch.iter_mut().find(|slot| slot.is_none());
        free.map(|slot| *slot = Some((pos, len))).is_some()
    };
    if taken {
        enqueue(device);
    }
    taken
}

fn enqueue(device: &Arc<Device>) {
    // The back end stays open for it.
    device.hold();
    let queued = match crate::engine() {
        Ok(engine) => engine
            .background()
            .enqueue::<Arc<Device>, 1>(device.clone())
            .is_ok(),
        Err(_) => false,
    };
    if !queued {
        // It is in the queue already, and held by that.
        device.let_go();
    }
}

impl_has_work! {
    impl HasWork<Self, 1> for Device { self.behind_work }
}

impl WorkItem<1> for Device {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        // What it makes dirty may have to be written for memory's sake.
        noio::scope(|| run(&this));
        this.let_go();
    }
}

// What was asked for meanwhile does not wait for all that is to be read.
fn run(device: &Device) {
    while write_back(device) || fetch_piece(device) {}
}

// Writes the cache, if somebody wants that, and stops the unit; whether somebody did.
fn write_back(device: &Device) -> bool {
    {
        let mut state = device.behind().state.lock();
        let stops = state.stop.take();
        state.stopping = stops;
        if !core::mem::take(&mut state.flush) && stops.is_none() {
            return false;
        }
    }
    device.each_nexus(|_, nexus| nexus.begin_flush());
    let done = if device.is_deleted() {
        Err(IoError::Gone)
    } else {
        device.backend().flush()
    };
    tell(device, done);
    let mut state = device.behind().state.lock();
    if let (Some(eject), Ok(())) = (state.stopping.take(), done) {
        device.set_condition(|condition| {
            if eject {
                condition.ejected = true;
            } else {
                condition.stopped = true;
            }
        });
    }
    true
}

// Reads a piece of what is to be read, while there is anybody who may want it; whether there was any.
fn fetch_piece(device: &Device) -> bool {
    let unwanted = device.exports() == 0;
    let wanted = {
        let mut state = device.behind().state.lock();
        if unwanted {
            state.fetch = [None; MOST];
        }
        state.fetch.iter_mut().find_map(|slot| {
            let (pos, len) = slot.take()?;
            let n = PIECE.min(len);
            let rest = (pos.saturating_add(n), len.saturating_sub(n));
            *slot = Some(rest).filter(|(_, left)| *left != 0);
            Some((pos, n, rest))
        })
    };
    let Some((pos, len, rest)) = wanted else {
        return false;
    };
    if device.backend().fetch(pos, len).is_err() {
        // What cannot be read is told to who reads it.
        let mut state = device.behind().state.lock();
        let left = state.fetch.iter_mut().find(|slot| **slot == Some(rest));
        left.map(Option::take);
    }
    true
}

// How writing the cache ended: to those who have asked for it. All others hear of lost data by their own next flush.
fn tell(device: &Device, done: Result<(), IoError>) {
    let lost = matches!(
        done,
        Err(IoError::Medium | IoError::NoSpace | IoError::ReadOnly)
    );
    let sense = done.err().map(|e| {
        let sense = e.sense(FLUSH).unwrap_or(Sense::INSUFFICIENT_RESOURCES);
        if sense.key == Key::MediumError {
            device.kept().count_error(Failed::Write);
        }
        sense
    });
    if lost {
        device.lost();
    }
    device.each_nexus(|_, nexus| {
        if !nexus.end_flush() {
            return;
        }
        // It counts as told when an answer says so.
        match sense {
            Some(sense) => nexus.defer(sense),
            None if nexus.mapped().untold().is_some() => nexus.defer(Sense::WRITE_ERROR),
            None => (),
        }
    });
}
