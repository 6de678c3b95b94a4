// SPDX-License-Identifier: GPL-2.0

//! What moves the bytes of a copy: operations of the back ends that no initiator has sent.

use super::MOST;
use crate::{
    backend::{Io, IoError, Op},
    command::{Command, Shared},
    device::Device,
    emulate::Protected,
    flaws,
};
use kernel::{prelude::*, sync::Arc};
use lio_glue::{
    buffer::Buffer,
    slot::{Host, Queue, Slots, Token},
    wait::WaitQueue,
};
use lio_policy::regions::Regions;
use lio_scsi::{
    copy::plan::{Fault, Piece, Whole},
    sense::{Sense, Side},
};

/// The slots of these operations: each copy that there may be has one at a time, and one for its turn. It is there as long as the
/// engine, so that a back end may end an operation in any context.
pub(crate) struct Copier {
    slots: Slots<Copier>,
}

impl Copier {
    pub(crate) fn new() -> Result<Arc<Self>> {
        let slots = Slots::new(2 * MOST)?;
        Ok(Arc::new(Copier { slots }, GFP_KERNEL)?)
    }
}

/// Where an operation comes back to its copy.
#[pin_data]
pub(crate) struct Mailbox {
    done: Queue<Copier>,
    #[pin]
    wait: WaitQueue,
}

impl Host for Copier {
    type Own = Command;
    type Shared = Shared;
    type Request = Option<Arc<Mailbox>>;

    fn slots(&self) -> &Slots<Self> {
        &self.slots
    }

    fn finished(token: Token<Self>) {
        if let Some(mailbox) = token.request().clone() {
            mailbox.done.push(token);
            mailbox.wait.wake_all();
        }
    }

    fn freeing(token: &mut Token<Self>) -> bool {
        let (cmd, mailbox) = token.split_mut();
        cmd.data.clear();
        cmd.op = Op::None;
        cmd.protection = None;
        *mailbox = None;
        false
    }

    fn freed(_: &Arc<Self>) {}
}

/// A piece has its turn until this is dropped. Process context.
pub(super) struct Turn(Arc<Device>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.turns().next(&self.0);
    }
}

/// The memory of a copy, and where its operations end.
pub(super) struct Pump {
    copier: Arc<Copier>,
    mailbox: Arc<Mailbox>,
    read: Buffer,
    write: Buffer,
    // The back ends may be able to copy by themselves: they were not asked yet, or could.
    direct: bool,
}

impl Pump {
    pub(super) fn new() -> Result<Self> {
        Ok(Pump {
            copier: crate::engine()?.copier().clone(),
            mailbox: Arc::pin_init(
                pin_init!(Mailbox {
                    done: Queue::new(),
                    wait <- WaitQueue::new(),
                }),
                GFP_KERNEL,
            )?,
            read: Buffer::new(),
            write: Buffer::new(),
            direct: true,
        })
    }

    /// Copies a piece. Sleeps until it is done.
    pub(super) fn copy(&mut self, from: &Device, to: &Device, piece: &Piece) -> Result<(), Fault> {
        let (source, destination) = (Side::Source, Side::Destination);
        // What a back end copies by itself passes marks by, and makes no protection information.
        let plain = |device: &Device| !device.flaws().are_there() && device.protection().is_none();
        if piece.is_whole() && self.direct && plain(from) && plain(to) {
            if let Some(file) = from.backend().file() {
                let (pos, at) = (piece.read.pos, piece.write.pos);
                if to.backend().copy_range(&file, pos, at, piece.len).is_ok() {
                    return Ok(());
                }
            }
            // What is wrong, if anything is, shows when it is read and written.
            self.direct = false;
        }
        let mut data = core::mem::take(&mut self.read);
        fill(&mut data, piece.read.len, source)?;
        data = self.perform(from, read(piece.read), data, source)?;
        let write = Op::Write {
            pos: piece.write.pos,
            fua: false,
        };
        if piece.is_whole() {
            self.read = self.perform(to, write, data, destination)?;
            return Ok(());
        }
        let mut new = core::mem::take(&mut self.write);
        fill(&mut new, piece.write.len, destination)?;
        if piece.merges() {
            new = self.perform(to, read(piece.write), new, destination)?;
        }
        let (at, skip, len) = (
            piece.offset as usize,
            piece.skip as usize,
            piece.len as usize,
        );
        new.copy_from(at, &data, skip, len);
        self.read = data;
        self.write = self.perform(to, write, new, destination)?;
        Ok(())
    }

    /// Has blocks read as zeroes. Sleeps until they do.
    pub(super) fn zero(&mut self, to: &Device, blocks: Whole) -> Result<(), Fault> {
        let provisioning = to.provisioning();
        let op = Op::WriteZeroes {
            pos: blocks.pos,
            len: blocks.len,
            unmap: provisioning.is_thin(),
        };
        self.perform(to, op, Buffer::new(), Side::Destination)
            .map(|_| ())
    }

    /// Waits for the turn of a piece that changes blocks in part, which no other write may come between. It ends with what this returns. Who
    /// is before it is with the back end, so that it is not asked meanwhile whether the copy is to stop.
    pub(super) fn turn(&self, device: &Arc<Device>, writes: Regions) -> Option<Turn> {
        let mut token = Slots::take(&self.copier)?;
        let (cmd, mailbox) = token.split_mut();
        cmd.io_result = Ok(());
        *mailbox = Some(self.mailbox.clone());
        token.shared().write(writes);
        device.turns().wait(token.erase(), device);
        // It is given back where there is no memory to look for the writes before it, too.
        let turn = Turn(device.clone());
        let granted = self.returned()?;
        granted.io_result.is_ok().then_some(turn)
    }

    // The operation that is under way, when it has ended.
    fn returned(&self) -> Option<Token<Copier>> {
        let done = &self.mailbox.done;
        self.mailbox.wait.wait_forever(|| !done.is_empty());
        done.drain().next()
    }

    // Has the back end do `op` with `data`, and waits.
    fn perform(&self, device: &Device, op: Op, data: Buffer, side: Side) -> Result<Buffer, Fault> {
        let short = || Fault::of_end(side, Sense::INSUFFICIENT_RESOURCES);
        let failed = |sense| Fault::of_end(side, sense);
        let protection = Protected::of_copy(device, op, &data).map_err(failed)?;
        let mut token = Slots::take(&self.copier).ok_or_else(short)?;
        let (cmd, mailbox) = token.split_mut();
        cmd.data = data;
        cmd.protection = protection;
        cmd.op = op;
        cmd.io_result = Err(IoError::Aborted);
        if flaws::look(device, cmd).is_break() {
            let sense = cmd.sense.unwrap_or(Sense::INTERNAL_TARGET_FAILURE);
            return Err(Fault::of_end(side, sense));
        }
        *mailbox = Some(self.mailbox.clone());
        device.backend().submit(Io::new(token.erase()));
        let mut token = self.returned().ok_or_else(short)?;
        if token.clears_flaws {
            flaws::written(device, &mut token);
        }
        match token.io_result {
            Ok(()) => {
                if let (Op::Read { .. }, Some(protected)) = (op, &token.protection) {
                    protected
                        .check_copied(device, &token.data)
                        .map_err(failed)?;
                }
                Ok(core::mem::take(&mut token.data))
            }
            Err(e) => {
                // What would be BUSY or a reservation conflict is no sense of its own.
                let sense = e.sense(op).unwrap_or(Sense::INSUFFICIENT_RESOURCES);
                Err(Fault::of_end(side, sense))
            }
        }
    }
}

// A piece is far shorter than 32 bits can tell.
fn read(blocks: Whole) -> Op {
    Op::Read {
        pos: blocks.pos,
        len: blocks.len as u32,
    }
}

fn fill(data: &mut Buffer, len: u64, side: Side) -> Result<(), Fault> {
    if data.len() as u64 == len {
        return Ok(());
    }
    data.refill(len as usize, false)
        .map_err(|_| Fault::of_end(side, Sense::INSUFFICIENT_RESOURCES))
}
