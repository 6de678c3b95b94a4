// SPDX-License-Identifier: GPL-2.0

//! WRITE LONG and READ LONG: a block that cannot be read, and what is in it.

use super::blocks;
use crate::{command::Command, device::Device};
use lio_scsi::{
    block::{long::ReadLong, Block},
    cdb::{Command as Cdb, Transfer},
    lba::Extent,
    sense::Sense,
};

// Marks the block as unreadable (SBC-4 5.50).
pub(super) fn write(cmd: &mut Command) -> Result<(), Sense> {
    let dev = blocks::device(cmd)?;
    let decoded = cmd.decoded.ok_or(Sense::INTERNAL_TARGET_FAILURE)?;
    let extent = decoded.command.extent().ok_or(Sense::LBA_OUT_OF_RANGE)?;
    dev.flaws().mark(blocks::bytes(&dev, extent)?.0)
}

/// The blocks that it reads.
pub(super) fn extent(dev: &Device, what: &ReadLong) -> Extent {
    let (exponent, lowest) = dev.physical();
    what.extent(exponent, lowest, dev.capacity())
}

// On a unit without protection information: its data is all that a block has.
pub(super) fn read(cmd: &mut Command, what: &ReadLong) -> Result<(), Sense> {
    let dev = blocks::device(cmd)?;
    let extent = extent(&dev, what);
    if !what.transfers(blocks::bytes(&dev, extent)?.1)? {
        return Ok(());
    }
    let t = Transfer {
        extent,
        dpo: false,
        fua: false,
    };
    blocks::read(cmd, t)
}

/// Whether `cmd` reads what is there, readable or not.
pub(crate) fn reads_all(cmd: &Command) -> bool {
    let command = cmd.decoded.map(|decoded| decoded.command);
    matches!(command, Some(Cdb::Block(Block::ReadLong(what))) if !what.correct)
}
