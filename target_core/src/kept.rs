// SPDX-License-Identifier: GPL-2.0

//! What initiators leave in a device, for as long as it lives: its timestamp, its buffers, what its log counts from.

use crate::{command::Direction, device::Device, groups::Groups, idle::Idle};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Mutex,
    },
};
use lio_glue::clock;
use lio_scsi::{
    buffer,
    log::{Base, Counters, Reset, Statistics},
    mode::Extension,
    sense::Sense,
    timestamp::{Origin, Timestamp},
};

#[derive(Default)]
struct State {
    // What SET TIMESTAMP set, and the milliseconds since boot then.
    timestamp: Option<(Timestamp, u64)>,
    log_base: Base,
    statistics_base: Statistics,
    // The data buffer: nothing, which reads as zeros, until it is written to.
    data: KVVec<u8>,
    echo: Option<KVVec<u8>>,
}

/// A kind of operation that fails at the medium.
#[derive(Clone, Copy)]
pub(crate) enum Failed {
    Read,
    Write,
    Verify,
}

/// What a device has of it.
#[pin_data]
pub(crate) struct Kept {
    read_errors: Atomic<u64>,
    write_errors: Atomic<u64>,
    verify_errors: Atomic<u64>,
    // Bytes that were transferred and have nothing to do with the medium: the device's statistics count them, too.
    others_read: Atomic<u64>,
    others_written: Atomic<u64>,
    verified: Atomic<u64>,
    // Commands with such data.
    other_reads: Atomic<u64>,
    other_writes: Atomic<u64>,
    // How often it was started after it had been stopped.
    cycles: Atomic<u32>,
    // Milliseconds since boot.
    made: u64,
    idle: Idle,
    groups: Groups,
    // Commands take it; nothing under it allocates.
    #[pin]
    state: Mutex<State>,
}

fn boot_ms() -> u64 {
    clock::now_ns() / 1_000_000
}

impl Kept {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Kept {
            read_errors: Atomic::new(0),
            write_errors: Atomic::new(0),
            verify_errors: Atomic::new(0),
            others_read: Atomic::new(0),
            others_written: Atomic::new(0),
            verified: Atomic::new(0),
            other_reads: Atomic::new(0),
            other_writes: Atomic::new(0),
            cycles: Atomic::new(0),
            made: boot_ms(),
            idle: Idle::new(),
            groups: Groups::new(),
            state <- new_mutex!(State::default(), "Kept::state"),
        })
    }

    /// How long there was nothing to do.
    pub(crate) fn idle(&self) -> &Idle {
        &self.idle
    }

    /// What is collected of commands by group.
    pub(crate) fn groups(&self) -> &Groups {
        &self.groups
    }

    /// The timestamp now, as the control extension mode page has it.
    pub(crate) fn timestamp(&self, extension: &Extension) -> (Timestamp, Origin) {
        let set = self.state.lock().timestamp;
        let since = |then| boot_ms().saturating_sub(then);
        match set.filter(|_| !extension.refuses_timestamps()) {
            Some((Timestamp(at), then)) => (Timestamp(at.saturating_add(since(then))), Origin::Set),
            None if extension.clock => (Timestamp(clock::wall_ms()), Origin::Clock),
            None => (Timestamp(since(self.made)), Origin::Zero),
        }
    }

    pub(crate) fn set_timestamp(&self, timestamp: Timestamp) {
        self.state.lock().timestamp = Some((timestamp, boot_ms()));
    }

    /// Start-stop cycles.
    pub(crate) fn cycles(&self) -> u32 {
        self.cycles.load(Relaxed)
    }

    /// The unit was stopped, and is started.
    pub(crate) fn count_cycle(&self) {
        self.cycles.fetch_add(1, Relaxed);
    }

    /// Counts an operation that failed at the medium.
    pub(crate) fn count_error(&self, what: Failed) {
        let counter = match what {
            Failed::Read => &self.read_errors,
            Failed::Write => &self.write_errors,
            Failed::Verify => &self.verify_errors,
        };
        counter.fetch_add(1, Relaxed);
    }

    /// Counts a command whose data is none of the medium's, and the bytes that it verified.
    pub(crate) fn count_others(&self, direction: Direction, verified: u64) {
        self.verified.fetch_add(verified, Relaxed);
        match direction {
            Direction::Read => self.other_reads.fetch_add(1, Relaxed),
            Direction::Write => self.other_writes.fetch_add(1, Relaxed),
            Direction::None => 0,
        };
    }

    /// Counts bytes that are none of the medium's blocks.
    pub(crate) fn count_bytes(&self, read: u64, written: u64) {
        self.others_read.fetch_add(read, Relaxed);
        self.others_written.fetch_add(written, Relaxed);
    }

    /// Copies what the data buffer has from `offset` on to `to`.
    pub(crate) fn read_data(&self, offset: usize, to: &mut [u8]) {
        to.fill(0);
        let state = self.state.lock();
        let Some(from) = state.data.get(offset..) else {
            return;
        };
        for (to, from) in to.iter_mut().zip(from) {
            *to = *from;
        }
    }

    /// Writes to the data buffer; what does not fit into it is left out.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn write_data(&self, offset: usize, from: &[u8]) -> Result {
        // Made outside of the lock, and seldom for nothing.
        let empty = self.state.lock().data.is_empty();
        let mut fresh = KVVec::new();
        if empty {
            fresh = KVVec::from_elem(0u8, buffer::DATA as usize, GFP_KERNEL)?;
        }
        let mut state = self.state.lock();
        if state.data.is_empty() {
            core::mem::swap(&mut state.data, &mut fresh);
        }
        if let Some(to) = state.data.get_mut(offset..) {
            for (to, from) in to.iter_mut().zip(from) {
                *to = *from;
            }
        }
        Ok(())
    }

    /// What was last written to the echo buffer, copied to `to`: how many bytes; `None` before.
    pub(crate) fn read_echo(&self, to: &mut [u8]) -> Option<usize> {
        let state = self.state.lock();
        let echo = state.echo.as_ref()?;
        for (to, from) in to.iter_mut().zip(echo.iter()) {
            *to = *from;
        }
        Some(echo.len().min(to.len()))
    }

    pub(crate) fn write_echo(&self, data: KVVec<u8>) {
        let old = self.state.lock().echo.replace(data);
        // Outside of the lock.
        drop(old);
    }
}

impl Device {
    fn counted(&self) -> Counters {
        let kept = self.kept();
        Counters {
            written: self
                .stats()
                .written_bytes()
                .saturating_sub(kept.others_written.load(Relaxed)),
            write_errors: kept.write_errors.load(Relaxed),
            read: self
                .stats()
                .read_bytes()
                .saturating_sub(kept.others_read.load(Relaxed)),
            read_errors: kept.read_errors.load(Relaxed),
            verified: kept.verified.load(Relaxed),
            verify_errors: kept.verify_errors.load(Relaxed),
        }
    }

    /// What LOG SENSE shows.
    pub(crate) fn log_counters(&self) -> Counters {
        let counted = self.counted();
        self.kept().state.lock().log_base.shown(&counted)
    }

    /// LOG SELECT without a list.
    pub(crate) fn reset_log(&self, reset: Reset) {
        match reset {
            Reset::All => self.kept().groups().reset(None),
            Reset::Group(number) => return self.kept().groups().reset(Some(number)),
            _ => (),
        }
        let (counted, statistics) = (self.counted(), self.counted_statistics());
        let mut state = self.kept().state.lock();
        state.log_base.reset(&counted, reset);
        if matches!(reset, Reset::All | Reset::Statistics) {
            state.statistics_base = statistics;
        }
    }

    fn counted_statistics(&self) -> Statistics {
        let (kept, stats, counted) = (self.kept(), self.stats(), self.counted());
        let (reads, writes) = stats.transfers();
        let (read_time, write_time) = stats.times();
        let size = self.block_size();
        Statistics {
            reads: reads.saturating_sub(kept.other_reads.load(Relaxed)),
            writes: writes.saturating_sub(kept.other_writes.load(Relaxed)),
            received: size.blocks_in(counted.written).0,
            transmitted: size.blocks_in(counted.read).0,
            read_time: read_time / 1000,
            write_time: write_time / 1000,
            idle_time: kept.idle().total() / 1000,
        }
    }

    /// General statistics, as LOG SENSE shows them.
    pub(crate) fn log_statistics(&self) -> Statistics {
        let counted = self.counted_statistics();
        counted.since(&self.kept().state.lock().statistics_base)
    }

    /// LOG SELECT with a list: has `f` make the new counters of those that are shown. Whether they are others then.
    ///
    /// # Errors
    /// Those of `f`.
    pub(crate) fn select_log(
        &self,
        f: impl FnOnce(&Counters) -> Result<Counters, Sense>,
    ) -> Result<bool, Sense> {
        let counted = self.counted();
        let mut state = self.kept().state.lock();
        let shown = state.log_base.shown(&counted);
        let new = f(&shown)?;
        state.log_base.set(&counted, &new);
        Ok(new != shown)
    }
}
