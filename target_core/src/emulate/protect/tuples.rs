// SPDX-License-Identifier: GPL-2.0

//! Blocks and their protection information: where they are in the data, and whether they go together.

use super::rules;
use crate::{
    command::Command,
    device::Device,
    emulate::blocks::{chunk, fill_scratch}, //
};
use lio_glue::buffer::Buffer;
use lio_scsi::{
    pi::{Checks, Protection, Tuple, TUPLE},
    sense::{Key, Sense},
};

/// A block's place in the initiator's data, and in the blocks; sizes are bytes.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub(super) size: usize,
    pub(super) unit: usize,
    /// Protection information is not behind the blocks, but in memory of its own.
    pub(super) beside: bool,
}

impl Layout {
    pub(super) fn new(dev: &Device, rules: &Protection) -> Self {
        let size = dev.block_size();
        Layout {
            size: size.bytes() as usize,
            unit: rules.fields.block(size) as usize,
            beside: rules.fields.beside(),
        }
    }

    pub(super) fn sent(self, index: u64) -> usize {
        (index as usize).saturating_mul(self.unit)
    }

    pub(super) fn block(self, index: u64) -> usize {
        (index as usize).saturating_mul(self.size)
    }
}

// Blocks of a chunk.
pub(super) fn piece(layout: Layout, left: u64) -> u64 {
    let most = (chunk(u64::MAX) as usize) / layout.size.max(1);
    left.min(most as u64)
}

pub(super) fn tuple_at(buffer: &Buffer, at: usize) -> Tuple {
    let mut bytes = [0; TUPLE];
    buffer.read_at(at, &mut bytes);
    Tuple::new(bytes)
}

// The memory for protection information beside the data is enough for `blocks` blocks.
pub(super) fn room_beside(cmd: &Command, blocks: u64) -> bool {
    let room = cmd.beside.as_ref().map_or(0, |beside| beside.len());
    (room / TUPLE) as u64 >= blocks
}

// The protection information that came with the block `index` of the data.
pub(super) fn sent_tuple(cmd: &Command, layout: Layout, index: u64) -> Tuple {
    if let (true, Some(beside)) = (layout.beside, &cmd.beside) {
        return tuple_at(beside, (index as usize).saturating_mul(TUPLE));
    }
    tuple_at(&cmd.data, layout.sent(index).saturating_add(layout.size))
}

// Makes the scratch buffer and the protection information as large as `blocks` are.
pub(super) fn make_room(cmd: &mut Command, layout: Layout, blocks: u64) -> Result<(), Sense> {
    fill_scratch(cmd, layout.block(blocks))?;
    make_tuples(cmd, blocks)
}

pub(super) fn make_tuples(cmd: &mut Command, blocks: u64) -> Result<(), Sense> {
    let Some(protected) = cmd.protection.as_mut() else {
        return Err(Sense::INTERNAL_TARGET_FAILURE);
    };
    let len = (blocks as usize).saturating_mul(TUPLE);
    if protected.tuples.len() == len {
        return Ok(());
    }
    protected
        .tuples
        .refill(len, false)
        .map_err(|_| Sense::INSUFFICIENT_RESOURCES)
}

pub(super) fn set_tuple(cmd: &Command, index: u64, tuple: Tuple) {
    if let Some(protected) = &cmd.protection {
        let at = (index as usize).saturating_mul(TUPLE);
        protected.tuples.write_at(at, &tuple.bytes());
    }
}

// Checks `blocks` blocks that were read, the first of which is `done` blocks behind the command's first. What no protection
// information is kept for has it after this.
pub(super) fn check_read(
    cmd: &Command,
    layout: Layout,
    checks: Checks,
    done: u64,
    blocks: u64,
) -> Result<(), Sense> {
    let (Some(protected), Some(medium)) = (&cmd.protection, &cmd.scratch) else {
        return Err(Sense::INTERNAL_TARGET_FAILURE);
    };
    if !protected.kept {
        // There is nothing to check: it is made here.
        for index in 0..blocks {
            let guard = medium.crc_t10dif(layout.block(index), layout.size);
            let tuple = protected.rules.generate(done.saturating_add(index), guard);
            set_tuple(cmd, index, tuple);
        }
        return Ok(());
    }
    if !checks.any() {
        return Ok(());
    }
    for index in 0..blocks {
        let tuple = tuple_at(&protected.tuples, (index as usize).saturating_mul(TUPLE));
        let guard = || medium.crc_t10dif(layout.block(index), layout.size);
        check(
            &protected.rules,
            checks,
            done.saturating_add(index),
            tuple,
            guard,
        )?;
    }
    Ok(())
}

pub(super) fn check(
    rules: &Protection,
    checks: Checks,
    index: u64,
    tuple: Tuple,
    guard: impl FnOnce() -> u16,
) -> Result<(), Sense> {
    let guard = if checks.guard { guard() } else { 0 };
    rules
        .check(checks, index, tuple, guard)
        .map_err(|failed| failed.sense(Key::AbortedCommand, rules.first.saturating_add(index)))
}

// Checks the protection information that came with `blocks` blocks, from block `from` of the data on.
pub(super) fn check_sent(
    cmd: &Command,
    layout: Layout,
    from: u64,
    blocks: u64,
) -> Result<(), Sense> {
    let rules = rules(cmd)?;
    let checks = rules.received();
    if !checks.any() {
        return Ok(());
    }
    for index in 0..blocks {
        let at = from.saturating_add(index);
        let tuple = sent_tuple(cmd, layout, at);
        let guard = || cmd.data.crc_t10dif(layout.sent(at), layout.size);
        check(&rules, checks, index, tuple, guard)?;
    }
    Ok(())
}
