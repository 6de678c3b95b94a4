// SPDX-License-Identifier: GPL-2.0

//! Writing what the initiator sent, once and many times.

use super::{
    go_on, rules,
    tuples::{check, check_sent, make_tuples, piece, sent_tuple, set_tuple, Layout},
    Step,
};
use crate::{
    backend::Op,
    command::{Command, Direction},
    device::Device,
    emulate::blocks::{bytes, fill_scratch, is_zero, zeroes},
};
use lio_scsi::{lba::Extent, pi::Tuple, sense::Sense};

/// See [`Step::Same`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Same {
    pub(super) pos: u64,
    pub(super) done: u64,
    pub(super) left: u64,
    /// No data was sent: zeroes, with protection information of FFh.
    pub(super) no_data: bool,
}

// Has the blocks written that the initiator sent; gives the position, how many they are, and their bytes.
pub(super) fn write(
    cmd: &mut Command,
    dev: &Device,
    extent: Extent,
    fua: bool,
) -> Result<Option<(u64, u64, u64)>, Sense> {
    let layout = Layout::new(dev, &rules(cmd)?);
    let (pos, _) = bytes(dev, extent)?;
    // An initiator may send less than its CDB says; whole blocks of that are written (SAM-5 5.4.3).
    let blocks = extent
        .blocks
        .0
        .min((cmd.data.len() / layout.unit.max(1)) as u64);
    if blocks == 0 || cmd.direction == Direction::None {
        cmd.protection = None;
        return Ok(None);
    }
    cmd.data.truncate(layout.sent(blocks));
    prepare(cmd, layout, 0, blocks)?;
    cmd.op = Op::Write { pos, fua };
    Ok(Some((pos, blocks, layout.block(blocks) as u64)))
}

// The same, all of it or nothing.
pub(super) fn write_atomic(
    cmd: &mut Command,
    dev: &Device,
    extent: Extent,
    fua: bool,
) -> Result<(), Sense> {
    let layout = Layout::new(dev, &rules(cmd)?);
    let sent = layout.sent(extent.blocks.0);
    if sent != 0 && (cmd.data.len() < sent || cmd.direction != Direction::Write) {
        return Err(Sense::INVALID_FIELD_IN_COMMAND_IU);
    }
    if let Some((pos, ..)) = write(cmd, dev, extent, fua)? {
        cmd.op = Op::WriteAtomic { pos, fua };
    }
    Ok(())
}

// Makes ready to be written what came as `blocks` blocks from block `from` of the data on.
pub(super) fn prepare(
    cmd: &mut Command,
    layout: Layout,
    from: u64,
    blocks: u64,
) -> Result<(), Sense> {
    let rules = rules(cmd)?;
    make_tuples(cmd, blocks)?;
    // What others can change is copied first.
    let alone = !rules.fields.transfers() && !cmd.data.is_borrowed() && from == 0;
    if alone {
        cmd.scratch = None;
    } else {
        fill_scratch(cmd, layout.block(blocks))?;
    }
    for index in 0..blocks {
        let at = from.saturating_add(index);
        if let Some(scratch) = &cmd.scratch {
            scratch.copy_from(layout.block(index), &cmd.data, layout.sent(at), layout.size);
        }
        let guard = || cmd.io_buffer().crc_t10dif(layout.block(index), layout.size);
        let tuple = if rules.fields.transfers() {
            let tuple = sent_tuple(cmd, layout, at);
            check(&rules, rules.received(), index, tuple, guard)?;
            tuple
        } else {
            rules.generate(index, guard())
        };
        set_tuple(cmd, index, tuple);
    }
    Ok(())
}

pub(super) fn write_same(
    cmd: &mut Command,
    dev: &Device,
    extent: Extent,
    unmap: bool,
    no_data: bool,
) -> Result<(), Sense> {
    let rules = rules(cmd)?;
    let layout = Layout::new(dev, &rules);
    let (pos, len) = bytes(dev, extent)?;
    if !no_data {
        if cmd.data.len() < layout.unit {
            return Err(Sense::INVALID_FIELD_IN_COMMAND_IU);
        }
        check_sent(cmd, layout, 0, 1)?;
    }
    // Without data: zeroes, with protection information of FFh (SBC-4 5.53). What is unmapped reads so too: not if other protection
    // information was sent.
    let default =
        |cmd: &Command| !rules.fields.transfers() || sent_tuple(cmd, layout, 0) == Tuple::DEFAULT;
    let zero = no_data || unmap && default(cmd) && is_zero(&cmd.data, layout.size);
    // What storage makes of its own protection information then is not known.
    if zero && dev.attrib().hw_pi_prot_type() == 0 {
        zeroes(cmd, pos, len, unmap);
        return Ok(());
    }
    // Its one block, as often as it fits into a chunk.
    let n = piece(layout, extent.blocks.0);
    fill_scratch(cmd, layout.block(n))?;
    if let Some(scratch) = &cmd.scratch {
        if no_data {
            scratch.zero(0, scratch.len());
        } else {
            for index in 0..n {
                scratch.copy_from(layout.block(index), &cmd.data, 0, layout.size);
            }
        }
    }
    same(
        cmd,
        layout,
        Same {
            pos,
            done: 0,
            left: extent.blocks.0,
            no_data,
        },
    )
}

// Writes the next blocks, all of which are in the scratch buffer, or more.
pub(super) fn same(cmd: &mut Command, layout: Layout, now: Same) -> Result<(), Sense> {
    let rules = rules(cmd)?;
    let n = piece(layout, now.left);
    make_tuples(cmd, n)?;
    let Some(scratch) = cmd.scratch.as_mut() else {
        return Err(Sense::INTERNAL_TARGET_FAILURE);
    };
    scratch.truncate(layout.block(n));
    let guard = scratch.crc_t10dif(0, layout.size);
    let sent = sent_tuple(cmd, layout, 0);
    for index in 0..n {
        let behind = now.done.saturating_add(index);
        let tuple = if now.no_data {
            Tuple::DEFAULT
        } else if rules.fields.transfers() {
            rules.repeated(sent, behind)
        } else {
            rules.generate(behind, guard)
        };
        set_tuple(cmd, index, tuple);
    }
    let left = now.left.saturating_sub(n);
    if left != 0 {
        let next = Same {
            pos: now.pos.saturating_add(layout.block(n) as u64),
            done: now.done.saturating_add(n),
            left,
            ..now
        };
        go_on(cmd, Step::Same(next));
    }
    cmd.op = Op::Write {
        pos: now.pos,
        fua: false,
    };
    Ok(())
}
