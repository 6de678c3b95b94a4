// SPDX-License-Identifier: GPL-2.0

//! COMPARE AND WRITE, ORWRITE.

use super::{
    go_on, rules,
    tuples::{check_read, check_sent, sent_tuple, set_tuple, Layout},
    write::prepare,
    Step,
};
use crate::{
    backend::Op,
    command::{Command, Turn},
    device::Device,
    emulate::{blocks::bytes, orwrite},
};
use kernel::prelude::*;
use lio_scsi::{block::orwrite::Verdict, lba::Extent, pi::Tuple, sense::Sense};

/// A command that reads, changes and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Update {
    pub(super) pos: u64,
    pub(super) blocks: u64,
    pub(super) fua: bool,
    /// ORWRITE; otherwise COMPARE AND WRITE.
    pub(super) or: bool,
}

// COMPARE AND WRITE, ORWRITE: another of which may not come between (SBC-4 4.27, 5.3).
pub(super) fn update(
    cmd: &mut Command,
    dev: &Device,
    extent: Extent,
    fua: bool,
    or: bool,
) -> Result<(), Sense> {
    let layout = Layout::new(dev, &rules(cmd)?);
    let (pos, _) = bytes(dev, extent)?;
    let blocks = extent.blocks.0;
    // ORWRITE without blocks may still begin a generation.
    if blocks == 0 && !or {
        return Ok(());
    }
    let sent = if or { blocks } else { blocks.saturating_mul(2) };
    if cmd.data.len() < layout.sent(sent) {
        return Err(Sense::INVALID_FIELD_IN_COMMAND_IU);
    }
    check_sent(cmd, layout, 0, blocks)?;
    if !or {
        // The blocks to write are for the same addresses as those to compare.
        check_sent(cmd, layout, blocks, blocks)?;
    }
    cmd.turn = Turn::Wanted;
    go_on(
        cmd,
        Step::Take(Update {
            pos,
            blocks,
            fua,
            or,
        }),
    );
    Ok(())
}

/// It is the command's turn; whether there is anything to read.
pub(super) fn take(cmd: &Command, dev: &Device, update: Update) -> Result<bool, Sense> {
    if !update.or {
        return Ok(true);
    }
    let what = orwrite::command(cmd)?;
    // The codes change in somebody's turn only.
    let mut generations = dev.generations().lock();
    if generations.decide(&what)? == Verdict::Discard {
        return Ok(false);
    }
    if update.blocks == 0 {
        generations.performed(&what);
    }
    Ok(update.blocks != 0)
}

/// It is written.
pub(super) fn written(cmd: &Command, dev: &Device) -> Result<(), Sense> {
    if let Ok(what) = orwrite::command(cmd) {
        dev.generations().lock().performed(&what);
    }
    Ok(())
}

pub(super) fn change(cmd: &mut Command, layout: Layout, update: Update) -> Result<(), Sense> {
    let rules = rules(cmd)?;
    check_read(cmd, layout, rules.read(), 0, update.blocks)?;
    if update.or {
        or(cmd, layout, update.blocks)?;
    } else {
        for index in 0..update.blocks {
            let medium = cmd.scratch.as_ref().ok_or(Sense::INTERNAL_TARGET_FAILURE)?;
            let at = layout.sent(index);
            if let Some(offset) = cmd
                .data
                .differs(at, medium, layout.block(index), layout.size)
            {
                let offset = at.saturating_add(offset) as u64;
                return Err(Sense::MISCOMPARE.with_information(offset));
            }
        }
        prepare(cmd, layout, update.blocks, update.blocks)?;
    }
    go_on(cmd, Step::Written);
    cmd.op = Op::Write {
        pos: update.pos,
        fua: update.fua,
    };
    Ok(())
}

// Changes the bits of what was read by those of the data. The guard is generated, the tags are those that were sent, if any
// were (SBC-4 5.10).
pub(super) fn or(cmd: &Command, layout: Layout, blocks: u64) -> Result<(), Sense> {
    let rules = rules(cmd)?;
    let operation = orwrite::command(cmd)?.operation;
    let block =
        || KVec::from_elem(0u8, layout.size, GFP_KERNEL).map_err(|_| Sense::INSUFFICIENT_RESOURCES);
    let (mut old, mut new) = (block()?, block()?);
    let scratch = cmd.scratch.as_ref().ok_or(Sense::INTERNAL_TARGET_FAILURE)?;
    for index in 0..blocks {
        scratch.read_at(layout.block(index), &mut old);
        cmd.data.read_at(layout.sent(index), &mut new);
        for (old, new) in old.iter_mut().zip(new.iter()) {
            *old = operation.apply(*old, *new);
        }
        scratch.write_at(layout.block(index), &old);
        let guard = scratch.crc_t10dif(layout.block(index), layout.size);
        let tuple = if rules.fields.transfers() {
            Tuple {
                guard,
                ..sent_tuple(cmd, layout, index)
            }
        } else {
            rules.generate(index, guard)
        };
        set_tuple(cmd, index, tuple);
    }
    Ok(())
}
