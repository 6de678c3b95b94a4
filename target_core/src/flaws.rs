// SPDX-License-Identifier: GPL-2.0

//! A device's blocks with pseudo unrecovered errors (SBC-4 4.18.2), which WRITE LONG makes.
//!
//! They are kept in memory, while the device's directory is there: they are for those who test what becomes of unreadable blocks.
//! Where there are none, an operation costs one load.

use crate::{
    backend::Op,
    command::{Command, Direction},
    device::Device,
    emulate,
};
use core::ops::ControlFlow;
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Mutex,
    },
};
use lio_policy::flaws::Flaws as Marked;
use lio_scsi::sense::{Asc, Key, Sense};

/// Those of a device.
#[pin_data]
pub(crate) struct Flaws {
    count: Atomic<usize>,
    // Made by the first one. Process context.
    #[pin]
    marked: Mutex<Option<KBox<Marked>>>,
}

impl Flaws {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Flaws {
            count: Atomic::new(0),
            marked <- new_mutex!(None, "Flaws::marked"),
        })
    }

    /// Whether there are any.
    pub(crate) fn are_there(&self) -> bool {
        self.count.load(Relaxed) != 0
    }

    /// Marks the block at `pos`.
    ///
    /// # Errors
    /// INSUFFICIENT RESOURCES: there are too many.
    pub(crate) fn mark(&self, pos: u64) -> Result<(), Sense> {
        let mut guard = self.marked.lock();
        if guard.is_none() {
            *guard = Some(
                KBox::new(Marked::new(), GFP_KERNEL).map_err(|_| Sense::INSUFFICIENT_RESOURCES)?,
            );
        }
        let Some(marked) = &mut *guard else {
            return Err(Sense::INSUFFICIENT_RESOURCES);
        };
        if !marked.mark(pos) {
            return Err(Sense::new(Key::IllegalRequest, Asc::INSUFFICIENT_RESOURCES));
        }
        self.count.store(marked.len(), Relaxed);
        Ok(())
    }

    fn first(&self, pos: u64, len: u64) -> Option<u64> {
        self.marked.lock().as_ref()?.first(pos, len)
    }

    /// `len` bytes from `pos` on have been written.
    pub(crate) fn clear(&self, pos: u64, len: u64) {
        if !self.are_there() {
            return;
        }
        if let Some(marked) = &mut *self.marked.lock() {
            marked.clear(pos, len);
            self.count.store(marked.len(), Relaxed);
        }
    }
}

impl Op {
    // What it writes anew, given the length of its data.
    fn written(self, data: usize) -> Option<(u64, u64)> {
        match self {
            Op::Write { pos, .. } | Op::WriteAtomic { pos, .. } => Some((pos, data as u64)),
            // What is unmapped reads as something else as well (4.18.2: "may clear").
            Op::WriteZeroes { pos, len, .. } | Op::Unmap { pos, len } => Some((pos, len)),
            _ => None,
        }
    }
}

/// Looks at `cmd`'s operation before the back end does: one that reads what cannot be read is answered, and goes no further; one that
/// writes over it is [looked at again](written) when it is done. Process context.
pub(crate) fn look(device: &Device, cmd: &mut Command) -> ControlFlow<()> {
    let flaws = device.flaws();
    if !flaws.are_there() {
        return ControlFlow::Continue(());
    }
    if let Op::Read { pos, len } = cmd.op {
        if emulate::reads_all(cmd) {
            return ControlFlow::Continue(());
        }
        let Some(at) = flaws.first(pos, len.into()) else {
            return ControlFlow::Continue(());
        };
        let lba = at >> device.block_size().shift();
        cmd.set_sense(Sense::new(Key::MediumError, Asc::LBA_MARKED_BAD).with_information(lba));
        if cmd.direction == Direction::Read {
            // An initiator might take what is before that block for transferred.
            cmd.set_residual(0);
        }
        return ControlFlow::Break(());
    }
    if let Some((pos, len)) = cmd.op.written(cmd.io_buffer().len()) {
        cmd.clears_flaws = flaws.first(pos, len).is_some();
    }
    ControlFlow::Continue(())
}

/// The operation of a command that [`look`] found to clear flaws is done. Process context.
pub(crate) fn written(device: &Device, cmd: &mut Command) {
    cmd.clears_flaws = false;
    if cmd.io_result.is_ok() {
        if let Some((pos, len)) = cmd.op.written(cmd.io_buffer().len()) {
            device.flaws().clear(pos, len);
        }
    }
}
