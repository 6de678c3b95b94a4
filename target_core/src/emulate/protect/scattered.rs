// SPDX-License-Identifier: GPL-2.0

//! The runs of WRITE SCATTERED: each is checked, and has its protection information made, as a WRITE of its own.

use super::{
    rules,
    tuples::{check_sent, Layout},
    write::prepare,
};
use crate::{command::Command, device::Device};
use lio_scsi::{
    lba::Extent,
    pi::Tags,
    sense::Sense, //
};

// The rules are those of the blocks of `run` from its block `done` on, whose first has the tags `tags`.
fn enter(cmd: &mut Command, run: Extent, tags: Option<Tags>, done: u64) -> Result<(), Sense> {
    let protected = cmd.protection.as_mut();
    let protected = protected.ok_or(Sense::INTERNAL_TARGET_FAILURE)?;
    protected.rules = protected.rules.of_run(run.lba.0, tags, done);
    Ok(())
}

/// Checks the protection information that came with `run`, whose data begins at the block `from` of what was sent: nothing is
/// written of a list with an error in it.
pub(in super::super) fn check_run(
    cmd: &mut Command,
    dev: &Device,
    run: Extent,
    tags: Option<Tags>,
    from: u64,
) -> Result<(), Sense> {
    enter(cmd, run, tags, 0)?;
    let layout = Layout::new(dev, &rules(cmd)?);
    check_sent(cmd, layout, from, run.blocks.0)
}

/// Makes ready to be written the `blocks` blocks of `run` from its block `done` on, which are from the block `from` on in what was
/// sent. They are checked once more: what was sent may be memory that the initiator can change.
pub(in super::super) fn prepare_run(
    cmd: &mut Command,
    dev: &Device,
    (run, done, blocks): (Extent, u64, u64),
    tags: Option<Tags>,
    from: u64,
) -> Result<(), Sense> {
    enter(cmd, run, tags, done)?;
    let layout = Layout::new(dev, &rules(cmd)?);
    prepare(cmd, layout, from, blocks)
}
