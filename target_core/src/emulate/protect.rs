// SPDX-License-Identifier: GPL-2.0

//! Commands about blocks on a unit with protection information (SBC-4 4.21).
//!
//! Blocks are read and written with their protection information: the blocks are in the scratch buffer, or in the data where
//! the initiator sent nothing else, their protection information beside them. Data with protection information comes and goes
//! block by block, each with eight bytes behind it. It is checked once the blocks are where nobody else changes them.

mod copied;
mod scattered;
mod tuples;
mod update;
mod verify;
mod write;

use super::{
    blocks::{self, bytes, chunk, device},
    long, writes,
};
use crate::{
    backend::Op,
    command::{Command, Direction},
    device::Device,
};
use kernel::prelude::*;
use lio_glue::buffer::Buffer;
use lio_scsi::{
    block::{long::ReadLong, Block},
    cdb::{Command as Cdb, Compare, Decoded},
    lba::{BlockSize, Blocks, Extent},
    pi::{Fields, Protection, Sent, Type, TUPLE},
    sense::Sense,
};
pub(super) use scattered::{check_run, prepare_run};
use tuples::{check_read, make_room, room_beside, tuple_at, Layout};
use update::{change, update, Update};
use verify::{read_to_verify, verified, verify, Verify};
use write::{same, write, write_atomic, write_same, Same};

/// What a command has to do with protection information.
pub(crate) struct Protected {
    rules: Protection,
    /// It is kept beside the blocks; otherwise it is between the port and the initiator alone.
    pub(crate) kept: bool,
    /// The protection information of the blocks of the current operation.
    pub(crate) tuples: Buffer,
}

/// What is left to do when the current operation is done. Positions are bytes, the others blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// READ: all is read.
    Read,
    /// VERIFY: `done` blocks are verified, those from `pos` on are read; `left` with them are not.
    Verify(Verify),
    /// WRITE AND VERIFY: it is written, and may still be in a cache.
    Settle(Verify),
    /// WRITE AND VERIFY: it is on the medium, and is read back now.
    ReadBack(Verify),
    /// WRITE SAME: `left` blocks from `pos` on are not written yet; `done` are.
    Same(Same),
    /// COMPARE AND WRITE, ORWRITE: it is this command's turn to read.
    Take(Update),
    /// What was read is to be changed, and written.
    Change(Update),
    /// It is written. The answer comes from process context, as it gives its turn to the next.
    Written,
}

/// Begins `decoded` on a unit with protection information of type `of`; `None` for a command that has nothing to do with it.
pub(super) fn execute(cmd: &mut Command, of: Type, decoded: &Decoded) -> Option<Result<(), Sense>> {
    let device = cmd.nexus.as_ref().map(|nexus| nexus.lun().device());
    let kept = device.is_some_and(|device| device.protection().is_some());
    let extent = match decoded.command {
        Cdb::Block(Block::ReadLong(what)) if kept => return Some(read_long(cmd, of, &what)),
        Cdb::Read(t) | Cdb::Write(t) | Cdb::CompareAndWrite(t) => t.extent,
        Cdb::Verify { extent, .. } | Cdb::WriteSame { extent, .. } => extent,
        Cdb::Block(Block::WriteAndVerify { extent, .. }) => extent,
        Cdb::Block(Block::OrWrite(or)) => or.transfer.extent,
        Cdb::Block(Block::WriteAtomic(t)) => t.extent,
        // Each range is one of its own.
        Cdb::Block(Block::WriteScattered(_)) => Extent::new(0, 0),
        _ => return None,
    };
    if !kept && !decoded.protect.transfers() {
        return None;
    }
    Some(begin(cmd, (of, kept), decoded, extent))
}

/// Bytes of memory that executing `decoded` takes, beside its write data; `None` for a command that has nothing to do with
/// protection information.
pub(super) fn memory(decoded: &Decoded, size: BlockSize, expected: u32) -> Option<u64> {
    decoded.protection?;
    let all = |extent: Extent| extent.bytes(size).unwrap_or(u64::MAX);
    let with = |bytes: u64| bytes.saturating_add(bytes >> 6);
    Some(match decoded.command {
        Cdb::Read(t) => {
            let sent = all(t.extent).min(expected.into());
            // Where they are read, and what is sent.
            with(sent).saturating_mul(2)
        }
        Cdb::Block(Block::ReadLong(what)) => with(what.length.into()).saturating_mul(2),
        Cdb::Block(Block::OrWrite(or)) => with(all(or.transfer.extent)),
        Cdb::Write(t) | Cdb::CompareAndWrite(t) | Cdb::Block(Block::WriteAtomic(t)) => {
            with(all(t.extent))
        }
        Cdb::Block(Block::WriteScattered(what)) => {
            let data = Blocks(what.blocks.into()).bytes(size).unwrap_or(u64::MAX);
            with(chunk(data)).saturating_add(what.list() as u64)
        }
        Cdb::Block(Block::WriteAndVerify { extent, .. }) => with(all(extent)),
        Cdb::Verify { extent, .. } | Cdb::WriteSame { extent, .. } => with(chunk(all(extent))),
        _ => return None,
    })
}

fn begin(
    cmd: &mut Command,
    (of, kept): (Type, bool),
    decoded: &Decoded,
    extent: Extent,
) -> Result<(), Sense> {
    let dev = device(cmd)?;
    if decoded.protect.beside()
        && !room_beside(cmd, u64::from(cmd.expected) >> dev.block_size().shift())
    {
        return Err(Sense::INVALID_FIELD_IN_COMMAND_IU);
    }
    let protected = Protected {
        rules: dev.protection_rules(of, decoded.protect, extent.lba.0),
        kept,
        tuples: Buffer::new(),
    };
    cmd.protection =
        Some(KBox::new(protected, GFP_KERNEL).map_err(|_| Sense::INSUFFICIENT_RESOURCES)?);
    let fua = |fua: bool| fua && dev.attrib().emulate_fua_write();
    match decoded.command {
        Cdb::Read(_) => read(cmd, &dev, extent),
        Cdb::Write(t) => {
            let fua = fua(t.fua);
            let written = write(cmd, &dev, extent, fua && dev.backend().fua())?;
            if let (Some((pos, _, len)), true) = (written, fua && !dev.backend().fua()) {
                cmd.step = blocks::Step::Flush { pos, len };
            }
            Ok(())
        }
        Cdb::Block(Block::WriteAndVerify { compare, .. }) => {
            // What is verified is on the medium by then.
            let fua = dev.backend().fua();
            if let Some((pos, left, _)) = write(cmd, &dev, extent, fua)? {
                let verify = Verify {
                    pos,
                    done: 0,
                    left,
                    compare: if compare {
                        Compare::Data
                    } else {
                        Compare::Nothing
                    },
                };
                go_on(
                    cmd,
                    if fua {
                        Step::ReadBack(verify)
                    } else {
                        Step::Settle(verify)
                    },
                );
            }
            Ok(())
        }
        Cdb::Block(Block::WriteAtomic(t)) => write_atomic(cmd, &dev, extent, fua(t.fua)),
        Cdb::Block(Block::WriteScattered(what)) => writes::scatter(cmd, what),
        Cdb::Verify { compare, .. } => verify(cmd, &dev, extent, compare),
        Cdb::WriteSame { unmap, no_data, .. } => write_same(cmd, &dev, extent, unmap, no_data),
        Cdb::CompareAndWrite(t) => update(cmd, &dev, extent, t.fua, false),
        Cdb::Block(Block::OrWrite(or)) => update(cmd, &dev, extent, fua(or.transfer.fua), true),
        _ => Err(Sense::INTERNAL_TARGET_FAILURE),
    }
}

fn go_on(cmd: &mut Command, step: Step) {
    cmd.step = blocks::Step::Protected(step);
}

fn rules(cmd: &Command) -> Result<Protection, Sense> {
    let protected = cmd.protection.as_ref();
    protected
        .map(|p| p.rules)
        .ok_or(Sense::INTERNAL_TARGET_FAILURE)
}

fn read(cmd: &mut Command, dev: &Device, extent: Extent) -> Result<(), Sense> {
    let layout = Layout::new(dev, &rules(cmd)?);
    let (pos, _) = bytes(dev, extent)?;
    // Only the blocks of which something goes to the initiator.
    let wanted = (cmd.expected as usize).div_ceil(layout.unit.max(1)) as u64;
    let blocks = extent.blocks.0.min(wanted);
    if blocks == 0 || cmd.direction == Direction::None {
        return Ok(());
    }
    make_room(cmd, layout, blocks)?;
    go_on(cmd, Step::Read);
    let len = u32::try_from(layout.block(blocks)).map_err(|_| Sense::LBA_OUT_OF_RANGE)?;
    cmd.op = Op::Read { pos, len };
    Ok(())
}

// A block with its protection information, of which nothing is checked, as with RDPROTECT 011b.
fn read_long(cmd: &mut Command, of: Type, what: &ReadLong) -> Result<(), Sense> {
    let dev = device(cmd)?;
    let extent = long::extent(&dev, what);
    let fields = Fields {
        code: 0b011,
        tags: None,
        sent: Sent::Behind,
    };
    let block = u64::from(fields.block(dev.block_size()));
    if !what.transfers(extent.blocks.0.saturating_mul(block))? {
        return Ok(());
    }
    let protected = Protected {
        rules: dev.protection_rules(of, fields, extent.lba.0),
        kept: true,
        tuples: Buffer::new(),
    };
    cmd.protection =
        Some(KBox::new(protected, GFP_KERNEL).map_err(|_| Sense::INSUFFICIENT_RESOURCES)?);
    read(cmd, &dev, extent)
}

// All blocks are read: what goes to the initiator.
fn deliver(cmd: &mut Command, layout: Layout) -> Result<(), Sense> {
    let rules = rules(cmd)?;
    let blocks = cmd
        .scratch
        .as_ref()
        .map_or(0, |s| s.len() / layout.size.max(1)) as u64;
    check_read(cmd, layout, rules.read(), 0, blocks)?;
    if cmd.direction != Direction::Read {
        return Ok(());
    }
    let borrowed = cmd.data.is_borrowed();
    let (Some(scratch), Some(protected)) = (cmd.scratch.as_mut(), &cmd.protection) else {
        return Err(Sense::INTERNAL_TARGET_FAILURE);
    };
    if layout.unit == layout.size {
        if borrowed {
            cmd.data.copy_from(0, scratch, 0, scratch.len());
        } else {
            core::mem::swap(&mut cmd.data, &mut **scratch);
        }
        if let (true, Some(beside)) = (layout.beside, &cmd.beside) {
            beside.copy_from(0, &protected.tuples, 0, protected.tuples.len());
        }
        return Ok(());
    }
    if !borrowed {
        cmd.data
            .refill(layout.sent(blocks), false)
            .map_err(|_| Sense::INSUFFICIENT_RESOURCES)?;
    }
    for index in 0..blocks {
        let at = layout.sent(index);
        cmd.data
            .copy_from(at, scratch, layout.block(index), layout.size);
        let tuple = tuple_at(&protected.tuples, (index as usize).saturating_mul(TUPLE));
        cmd.data
            .write_at(at.saturating_add(layout.size), &tuple.bytes());
    }
    Ok(())
}

/// Takes a command on after an operation that succeeded. Process context.
pub(super) fn step(cmd: &mut Command, step: Step) -> Result<(), Sense> {
    cmd.op = Op::None;
    let dev = device(cmd)?;
    let layout = Layout::new(&dev, &rules(cmd)?);
    match step {
        Step::Read => deliver(cmd, layout),
        Step::Verify(verify) => verified(cmd, layout, verify),
        Step::Settle(verify) => {
            go_on(cmd, Step::ReadBack(verify));
            cmd.op = Op::Flush {
                pos: verify.pos,
                len: layout.block(verify.left) as u64,
            };
            Ok(())
        }
        Step::ReadBack(verify) => read_to_verify(cmd, layout, verify),
        Step::Same(next) => same(cmd, layout, next),
        Step::Take(update) => {
            if !update::take(cmd, &dev, update)? {
                return Ok(());
            }
            make_room(cmd, layout, update.blocks)?;
            go_on(cmd, Step::Change(update));
            cmd.op = Op::Read {
                pos: update.pos,
                len: layout.block(update.blocks) as u32,
            };
            Ok(())
        }
        Step::Change(update) => change(cmd, layout, update),
        Step::Written => update::written(cmd, &dev),
    }
}
