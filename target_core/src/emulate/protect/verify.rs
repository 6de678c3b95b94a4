// SPDX-License-Identifier: GPL-2.0

//! VERIFY, and the second half of WRITE AND VERIFY.

use super::{
    go_on, rules,
    tuples::{check_read, check_sent, make_room, piece, sent_tuple, tuple_at, Layout},
    Step,
};
use crate::{backend::Op, command::Command, device::Device, emulate::blocks::bytes};
use lio_scsi::{
    cdb::Compare,
    lba::Extent,
    pi::TUPLE,
    sense::{Key, Sense},
};

/// See [`Step::Verify`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verify {
    pub(super) pos: u64,
    pub(super) done: u64,
    pub(super) left: u64,
    pub(super) compare: Compare,
}

pub(super) fn verify(
    cmd: &mut Command,
    dev: &Device,
    extent: Extent,
    compare: Compare,
) -> Result<(), Sense> {
    let layout = Layout::new(dev, &rules(cmd)?);
    let (pos, _) = bytes(dev, extent)?;
    let left = extent.blocks.0;
    if left == 0 {
        return Ok(());
    }
    let sent = match compare {
        Compare::Nothing => 0,
        Compare::OneBlock => 1,
        Compare::Data => left,
    };
    if cmd.data.len() < layout.sent(sent) {
        // Less data than the CDB says cannot be compared with all the blocks.
        return Err(Sense::INVALID_FIELD_IN_COMMAND_IU);
    }
    check_sent(cmd, layout, 0, sent)?;
    read_to_verify(
        cmd,
        layout,
        Verify {
            pos,
            done: 0,
            left,
            compare,
        },
    )
}

// Reads the next blocks of what is to be verified.
pub(super) fn read_to_verify(
    cmd: &mut Command,
    layout: Layout,
    verify: Verify,
) -> Result<(), Sense> {
    let blocks = piece(layout, verify.left);
    make_room(cmd, layout, blocks)?;
    go_on(cmd, Step::Verify(verify));
    cmd.op = Op::Read {
        pos: verify.pos,
        len: layout.block(blocks) as u32,
    };
    Ok(())
}

pub(super) fn verified(cmd: &mut Command, layout: Layout, verify: Verify) -> Result<(), Sense> {
    let rules = rules(cmd)?;
    let blocks = piece(layout, verify.left);
    let checks = match verify.compare {
        Compare::Nothing => rules.read(),
        Compare::Data | Compare::OneBlock => rules.read_to_compare(),
    };
    check_read(cmd, layout, checks, verify.done, blocks)?;
    if verify.compare != Compare::Nothing {
        let one = verify.compare == Compare::OneBlock;
        compare(cmd, layout, verify.done, blocks, one)?;
    }
    let left = verify.left.saturating_sub(blocks);
    if left == 0 {
        return Ok(());
    }
    let next = Verify {
        pos: verify.pos.saturating_add(layout.block(blocks) as u64),
        done: verify.done.saturating_add(blocks),
        left,
        ..verify
    };
    read_to_verify(cmd, layout, next)
}

// Compares blocks that were read with the data, or with its one block: MISCOMPARE with the offset of the first difference, or
// with the LBA whose protection information differs.
pub(super) fn compare(
    cmd: &Command,
    layout: Layout,
    done: u64,
    blocks: u64,
    one: bool,
) -> Result<(), Sense> {
    let (Some(protected), Some(medium)) = (&cmd.protection, &cmd.scratch) else {
        return Err(Sense::INTERNAL_TARGET_FAILURE);
    };
    for index in 0..blocks {
        let behind = done.saturating_add(index);
        let from = if one { 0 } else { behind };
        let at = layout.sent(from);
        if let Some(offset) = cmd
            .data
            .differs(at, medium, layout.block(index), layout.size)
        {
            let start = layout.sent(behind) as u64;
            return Err(Sense::MISCOMPARE.with_information(start.saturating_add(offset as u64)));
        }
        if !protected.rules.fields.transfers() {
            continue;
        }
        let read = tuple_at(&protected.tuples, (index as usize).saturating_mul(TUPLE));
        let sent = sent_tuple(cmd, layout, from);
        protected
            .rules
            .compare(if one { behind } else { 0 }, read, sent)
            .map_err(|failed| {
                failed.sense(
                    Key::Miscompare,
                    protected.rules.first.saturating_add(behind),
                )
            })?;
    }
    Ok(())
}
