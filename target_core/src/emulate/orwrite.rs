// SPDX-License-Identifier: GPL-2.0

//! ORWRITE (SBC-4 4.27, 5.10, 5.11): reading, changing bits and writing, without another such command in between.

use super::{block, blocks};
use crate::{
    backend::Op,
    command::{Command, Turn},
};
use kernel::prelude::*;
use lio_glue::buffer::Buffer;
use lio_scsi::{
    block::{
        orwrite::{Operation, OrWrite, Verdict},
        Block,
    },
    sense::Sense,
};

/// What is left to do. Positions and lengths are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It is this command's turn.
    Read { pos: u64, len: u64, fua: bool },
    /// What was read is in the scratch buffer.
    Write { pos: u64, fua: bool },
    /// It is written. The answer comes from process context, as it gives its turn to the next.
    Written,
}

pub(super) fn begin(cmd: &mut Command, what: &OrWrite) -> Result<(), Sense> {
    let dev = blocks::device(cmd)?;
    let (pos, len) = blocks::bytes(&dev, what.transfer.extent)?;
    if (cmd.data.len() as u64) < len {
        return Err(Sense::INVALID_FIELD_IN_COMMAND_IU);
    }
    // As COMPARE AND WRITE, another of which may not come between (SBC-4 4.27.1).
    cmd.turn = Turn::Wanted;
    let fua = what.transfer.fua && dev.attrib().emulate_fua_write();
    go_on(cmd, Step::Read { pos, len, fua });
    Ok(())
}

fn go_on(cmd: &mut Command, step: Step) {
    cmd.step = blocks::Step::Block(block::Step::OrWrite(step));
}

pub(super) fn command(cmd: &Command) -> Result<OrWrite, Sense> {
    match cmd.decoded.as_ref().map(|d| d.command) {
        Some(lio_scsi::cdb::Command::Block(Block::OrWrite(what))) => Ok(what),
        _ => Err(Sense::INTERNAL_TARGET_FAILURE),
    }
}

/// Takes the command on; the operation that is none is still to be set.
pub(super) fn step(cmd: &mut Command, step: Step) -> Result<(), Sense> {
    let dev = blocks::device(cmd)?;
    let what = command(cmd)?;
    match step {
        Step::Read { pos, len, fua } => {
            // The codes change in somebody's turn only.
            let verdict = dev.generations().lock().decide(&what)?;
            if verdict == Verdict::Discard {
                return Ok(());
            }
            if len == 0 {
                dev.generations().lock().performed(&what);
                return Ok(());
            }
            blocks::fill_scratch(cmd, len as usize)?;
            go_on(cmd, Step::Write { pos, fua });
            cmd.op = Op::Read {
                pos,
                len: len as u32,
            };
        }
        Step::Write { pos, fua } => {
            if let Some(scratch) = &cmd.scratch {
                combine(scratch, &cmd.data, what.operation)?;
            }
            go_on(cmd, Step::Written);
            cmd.op = Op::Write { pos, fua };
        }
        Step::Written => dev.generations().lock().performed(&what),
    }
    Ok(())
}

// Changes `to`, for its length, by `from`.
fn combine(to: &Buffer, from: &Buffer, operation: Operation) -> Result<(), Sense> {
    const PIECE: usize = 4096;
    let piece =
        || KVec::from_elem(0u8, PIECE, GFP_KERNEL).map_err(|_| Sense::INSUFFICIENT_RESOURCES);
    let (mut old, mut new) = (piece()?, piece()?);
    let mut at = 0usize;
    loop {
        let n = to.read_at(at, &mut old);
        if n == 0 {
            return Ok(());
        }
        from.read_at(at, &mut new);
        for (old, new) in old.iter_mut().zip(new.iter()) {
            *old = operation.apply(*old, *new);
        }
        to.write_at(at, old.get(..n).unwrap_or(&old));
        at = at.saturating_add(n);
    }
}
