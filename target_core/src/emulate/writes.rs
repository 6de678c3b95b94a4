// SPDX-License-Identifier: GPL-2.0

//! Writes that are one as a whole, and writes to several places (SBC-4 5.48, 5.55).

use super::{
    blocks::{self, Step},
    protect,
};
use crate::{
    alua,
    backend::Op,
    command::{Command, Direction},
    device::Device,
};
use kernel::prelude::*;
use lio_scsi::{
    block::scattered::{self, Scattered},
    cdb::Transfer,
    lba::Extent,
    pi::Tags,
    sense::{Key, Sense},
};

/// WRITE SCATTERED at work: the run that is written, and what of it is. Lengths are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scatter {
    what: Scattered,
    /// The current run, by its number.
    run: u16,
    /// Of it, what is written.
    done: u64,
    /// Where what is written next is in the data: there, a block has its protection information behind it.
    data: u64,
}

pub(super) fn atomic(cmd: &mut Command, t: Transfer) -> Result<(), Sense> {
    let dev = blocks::device(cmd)?;
    let (pos, len) = blocks::bytes(&dev, t.extent)?;
    if len == 0 {
        return Ok(());
    }
    // All or nothing.
    if (cmd.data.len() as u64) < len || cmd.direction != Direction::Write {
        return Err(Sense::INVALID_FIELD_IN_COMMAND_IU);
    }
    cmd.data.truncate(len as usize);
    let fua = t.fua && dev.attrib().emulate_fua_write();
    cmd.op = Op::WriteAtomic { pos, fua };
    Ok(())
}

pub(super) fn scatter(cmd: &mut Command, what: Scattered) -> Result<(), Sense> {
    let dev = blocks::device(cmd)?;
    if what.is_empty() {
        return Ok(());
    }
    let block = sent_block(cmd, &dev)?;
    what.check_room(block)?;
    let bytes = |blocks: u32| u64::from(blocks).saturating_mul(block.into());
    let (whole, data) = (bytes(what.blocks), bytes(what.offset.into()));
    if (cmd.data.len() as u64) < whole {
        return Err(Sense::INVALID_FIELD_IN_COMMAND_IU);
    }
    let mut list = KVVec::from_elem(0u8, what.list(), GFP_KERNEL)
        .map_err(|_| Sense::INSUFFICIENT_RESOURCES)?;
    cmd.data.read_at(0, &mut list);
    // Nothing is written for a list with an error in it.
    what.check_list(&list, dev.capacity())?;
    if let Some(nexus) = &cmd.nexus {
        let lun = nexus.lun();
        scattered::extents(&list)
            .try_for_each(|extent| alua::by_segment(lun, lun.port(), extent))?;
    }
    if cmd.protection.is_some() {
        let mut from = what.offset.into();
        for descriptor in scattered::descriptors(&list) {
            let (run, tags) = range(what, descriptor)?;
            protect::check_run(cmd, &dev, run, tags, from)?;
            from = from.saturating_add(run.blocks.0);
        }
    }
    let first = Scatter {
        what,
        run: 0,
        done: 0,
        data,
    };
    go_on(cmd, first)
}

// Bytes of a block in what is sent.
fn sent_block(cmd: &Command, dev: &Device) -> Result<u32, Sense> {
    let decoded = cmd.decoded.ok_or(Sense::INTERNAL_TARGET_FAILURE)?;
    Ok(decoded.protect.block(dev.block_size()))
}

// What a descriptor says.
fn range(what: Scattered, descriptor: &[u8]) -> Result<(Extent, Option<Tags>), Sense> {
    let extent = scattered::extent(descriptor).ok_or(Sense::INTERNAL_TARGET_FAILURE)?;
    let tags = what.tags.then(|| scattered::tags(descriptor)).flatten();
    Ok((extent, tags))
}

/// Says of which run writing failed: the first of those that are not written (SBC-4 4.35.3).
pub(super) fn failed(cmd: &mut Command, at: &Scatter) {
    cmd.sense = cmd.sense.map(|sense| match sense.key {
        Key::MediumError => sense.with_information(u64::from(at.run).saturating_add(1)),
        _ => sense,
    });
}

/// Writes the next piece.
pub(super) fn go_on(cmd: &mut Command, mut at: Scatter) -> Result<(), Sense> {
    let dev = blocks::device(cmd)?;
    let fua = at.what.fua && dev.attrib().emulate_fua_write();
    let own = dev.backend().fua();
    while at.run < at.what.ranges {
        let mut descriptor = [0; scattered::DESCRIPTOR];
        let from = usize::from(at.run)
            .saturating_mul(scattered::DESCRIPTOR)
            .saturating_add(scattered::HEADER);
        cmd.data.read_at(from, &mut descriptor);
        let (extent, tags) = range(at.what, &descriptor)?;
        // Once more: the list may be memory that the initiator can change.
        extent.check(dev.capacity())?;
        let (pos, len) = blocks::bytes(&dev, extent)?;
        let left = len.saturating_sub(at.done);
        let n = blocks::chunk(left);
        if n == 0 {
            at.run = at.run.saturating_add(1);
            at.done = 0;
            continue;
        }
        let shift = dev.block_size().shift();
        let (count, block) = (n >> shift, u64::from(sent_block(cmd, &dev)?));
        let sent = count.saturating_mul(block);
        if at.data.saturating_add(sent) > cmd.data.len() as u64 {
            return Err(Sense::INVALID_FIELD_IN_COMMAND_IU);
        }
        if cmd.protection.is_some() {
            let piece = (extent, at.done >> shift, count);
            let from = at.data.checked_div(block).unwrap_or(0);
            protect::prepare_run(cmd, &dev, piece, tags, from)?;
        } else {
            blocks::fill_scratch(cmd, n as usize)?;
            if let Some(scratch) = &cmd.scratch {
                scratch.copy_from(0, &cmd.data, at.data as usize, n as usize);
            }
        }
        let pos = pos.saturating_add(at.done);
        at.done = at.done.saturating_add(n);
        at.data = at.data.saturating_add(sent);
        cmd.step = Step::Scatter(at);
        cmd.op = Op::Write {
            pos,
            fua: fua && own,
        };
        return Ok(());
    }
    cmd.step = Step::None;
    cmd.op = if fua && !own {
        Op::Flush {
            pos: 0,
            len: u64::MAX,
        }
    } else {
        Op::None
    };
    Ok(())
}
