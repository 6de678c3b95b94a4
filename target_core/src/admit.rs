// SPDX-License-Identifier: GPL-2.0

//! What a command must pass before it is executed: LUN, unit attention, CDB, access, range, memory.

use crate::{
    alua,
    command::{Command, Direction, MAX_CDB},
    device::MAX_TRANSFER,
    emulate,
    lun::Nexus,
    mode,
    session::Core,
    shares::Share,
};
use kernel::prelude::*;
use lio_glue::clock;
use lio_scsi::{
    block::Block,
    cdb::{self, Data, Decoded, Features},
    lba::{BlockSize, Extent},
    lun::Lun as LunNumber,
    sense::Sense,
    status::Status,
    task::Attribute,
};

/// What the fabric does next.
pub(crate) enum Next {
    /// Fetch the write data.
    Data,
    /// Execute the command.
    Execute,
}

/// Why a command is not admitted.
pub(crate) enum Refused {
    Sense(Sense),
    /// RESERVATION CONFLICT status.
    Conflict,
}

impl Refused {
    pub(crate) fn answer(self, cmd: &mut Command) {
        match self {
            Refused::Sense(sense) => {
                cmd.told = tells_of(cmd.nexus.as_deref(), &sense);
                cmd.set_sense(sense);
            }
            Refused::Conflict => cmd.set_status(Status::ReservationConflict),
        }
    }
}

/// The device's losses that an answer with `sense` tells of: it may be that of a flush that went on behind its own.
pub(crate) fn tells_of(nexus: Option<&Nexus>, sense: &Sense) -> Option<u32> {
    let is_flush = sense.is_deferred() && sense.asc == Sense::WRITE_ERROR.asc;
    nexus.filter(|_| is_flush)?.mapped().untold()
}

impl From<Sense> for Refused {
    fn from(sense: Sense) -> Self {
        Refused::Sense(sense)
    }
}

/// Admits a command. Process context.
pub(crate) fn admit(session: &Core, cmd: &mut Command) -> Result<Next, Refused> {
    // A target that sets no NORMACA has no ACA tasks (SAM-5 8.6.5).
    if cmd.attribute == Attribute::Aca {
        return Err(Sense::INVALID_FIELD_IN_COMMAND_IU.into());
    }
    let nexus = LunNumber::parse(cmd.lun).and_then(|number| session.nexus(number));
    // A gate that is closed is a LUN that is being removed: it is not there any more.
    let Some((nexus, ticket)) = nexus.and_then(|n| n.lun().enter().map(|t| (n, t))) else {
        return Ok(absent(cmd)?);
    };
    cmd.ticket = Some(ticket);
    let nexus = cmd.nexus.insert(nexus).clone();
    let device = nexus.lun().device();
    let port = nexus.lun().port();
    let interlock = mode::interlock(device.attrib().emulate_ua_intlck_ctrl());
    let cdb = cmd.cdb.get(..cmd.cdb_len.min(MAX_CDB)).unwrap_or(&[]);
    let mut decoded = match cdb::decode(cdb, &nexus.features(port)) {
        Ok(mut decoded) => {
            decoded.protect.sent = cmd.sent;
            decoded
        }
        Err(sense) => {
            // Unit attentions come before anything that is wrong with a command (SAM-5 5.14.4).
            return Err(nexus
                .attention_before(None, interlock)
                .unwrap_or(sense)
                .into());
        }
    };
    // Before the reservations: by the time that lost ones are replaced, the new one is in force.
    let condition = device.condition();
    let reserved = decoded.command.reserved(decoded.descriptor.reservations);
    let conflicts = !nexus.access(session).allows(reserved);
    if conflicts && !nexus.outranks_conflict() {
        return Err(Refused::Conflict);
    }
    if let Some(sense) = nexus.attention_before(Some(&decoded.command), interlock) {
        return Err(sense.into());
    }
    // What outranked the conflict may have been reported to another command meanwhile.
    if conflicts {
        return Err(Refused::Conflict);
    }
    if port.is_special() {
        if port.is_measured() {
            cmd.started = clock::now_ns();
            device.kept().idle().enter(cmd.started);
        }
        alua::admit(&nexus, port, cmd, &decoded)?;
    }
    if let Some(condition) = condition {
        condition.admit(&decoded.command)?;
    }
    if is_protected(&nexus, &decoded) {
        return Err(Sense::WRITE_PROTECTED.into());
    }
    if decoded.command.is_checked() {
        let capacity = device.capacity();
        decoded.resolve(capacity);
        decoded.check(capacity, &device.limits())?;
    }
    cmd.decoded = Some(decoded);
    let block = device.block_size();
    let data = decoded.data(block);
    // Blocks are written as a whole or not at all: an initiator that sends a part of one is told so (as by the stock
    // modules), not that its data is written. WRITE SAME takes one block, whatever it writes: who sends more takes its blocks to be larger than
    // they are, and would have other blocks written, or unmapped, than it means.
    if decoded.command.extent().is_some()
        && data.direction == cdb::Direction::Out
        && cmd.direction == Direction::Write
    {
        let sent = u64::from(cmd.expected);
        let fits = match decoded.command {
            cdb::Command::WriteSame { .. } => sent == data.length,
            _ => data.length.min(sent) % u64::from(decoded.protect.block(block)).max(1) == 0,
        };
        if !fits {
            cmd.set_residual(data.length);
            return Err(Sense::INVALID_FIELD_IN_COMMAND_IU.into());
        }
    }
    let next = transfer(cmd, data)?;
    if port.is_limited() && (decoded.command.extent().is_some() || decoded.command.writes()) {
        // No more than what the initiator has room for, or sends.
        let unit = u64::from(decoded.protect.block(block)).max(1);
        let transferred = data
            .length
            .min(u64::from(cmd.expected).next_multiple_of(unit));
        let bytes = transferred.max(touched(&decoded.command, block));
        let (taken, start) = nexus.take(bytes);
        cmd.taken = Some(taken);
        if start > taken.at {
            cmd.due = cmd.due.max(start);
        }
        if device.shares().is_on() && cmd.attribute != Attribute::HeadOfQueue {
            cmd.share = Share::Wanted(bytes);
        }
    }
    Ok(next)
}

// Bytes that the back end reads or writes though nobody transfers them: no more than a command may transfer, as those who share a limit
// with its initiator would have to wait for hours, even if it was aborted.
fn touched(command: &cdb::Command, block: BlockSize) -> u64 {
    let most = u64::from(MAX_TRANSFER);
    let bytes = |extent: &Extent| extent.bytes(block).unwrap_or(u64::MAX).min(most);
    match command {
        cdb::Command::Verify { extent, .. } => bytes(extent),
        cdb::Command::WriteSame { extent, unmap, .. } if !unmap => bytes(extent),
        // 0 blocks: all that follow (SBC-4 5.10).
        cdb::Command::Block(Block::PreFetch { extent, .. }) if extent.blocks.is_zero() => most,
        cdb::Command::Block(Block::PreFetch { extent, .. }) => bytes(extent),
        _ => 0,
    }
}

/// The unit, or what the initiator may, is in the way of what the command changes.
fn is_protected(nexus: &Nexus, decoded: &Decoded) -> bool {
    let reads_only = nexus.mapped().write_protect();
    if decoded.command.writes() {
        reads_only || nexus.lun().device().write_protected()
    } else {
        reads_only && decoded.command.claims()
    }
}

/// Whether a command that had to wait, be it for its data, may begin: what let it pass may be otherwise by now. A reservation may apply to commands that were
/// there before it (SPC-4 5.12.1), and who made it, or changed an access state, expects no write of others after that. Process context.
pub(crate) fn again(session: &Core, cmd: &Command) -> Result<(), Refused> {
    let (Some(nexus), Some(decoded)) = (&cmd.nexus, &cmd.decoded) else {
        return Ok(());
    };
    let device = nexus.lun().device();
    // Before the reservations, as above.
    let condition = device.condition();
    let reserved = decoded.command.reserved(decoded.descriptor.reservations);
    if !nexus.access(session).allows(reserved) {
        return Err(Refused::Conflict);
    }
    let port = nexus.lun().port();
    if port.is_special() {
        alua::allows(nexus, port, decoded)?;
    }
    if let Some(condition) = condition {
        condition.admit(&decoded.command)?;
    }
    if is_protected(nexus, decoded) {
        return Err(Sense::WRITE_PROTECTED.into());
    }
    if let Some(extent) = decoded.command.extent() {
        extent.check(device.capacity())?;
    }
    Ok(())
}

// Settles what is transferred: the lesser of what the CDB and the initiator say (SAM-5 5.4.3).
fn transfer(cmd: &mut Command, data: Data) -> Result<Next, Sense> {
    cmd.set_residual(data.length);
    let length = data.length.min(cmd.expected.into()) as usize;
    match (data.direction, cmd.direction) {
        (cdb::Direction::None, _) | (_, Direction::None) => Ok(Next::Execute),
        (cdb::Direction::In, Direction::Read) => Ok(Next::Execute),
        (cdb::Direction::Out, Direction::Write) => {
            if !cmd.data.is_borrowed() {
                // The fabric asks for the memory as the data comes. The engine's own limits keep this bounded: MAX_TRANSFER,
                // or a CDB's 16-bit length.
                cmd.wanted = length;
            }
            Ok(Next::Data)
        }
        // Nothing goes to an initiator that sends, and what it sends goes nowhere: the stock modules call that a success.
        (cdb::Direction::In, Direction::Write) if !cmd.data.is_borrowed() => Ok(Next::Execute),
        // The data goes the other way than the initiator thinks: none of it can be transferred.
        _ => Err(Sense::INVALID_FIELD_IN_COMMAND_IU),
    }
}

// There is no logical unit: a few commands are processed all the same (SPC-5 6.7, 6.33; SAM-5 4.6.4).
fn absent(cmd: &mut Command) -> Result<Next, Sense> {
    let cdb = cmd.cdb.get(..cmd.cdb_len.min(MAX_CDB)).unwrap_or(&[]);
    let decoded = cdb::decode(cdb, &Features::default())
        .ok()
        .filter(|d| d.command.is_for_absent_unit())
        .ok_or(Sense::LUN_NOT_SUPPORTED)?;
    // REPORT LUNS answers for a target without a LUN 0 at that number only.
    if matches!(decoded.command, cdb::Command::ReportLuns { .. }) && !emulate::reports_luns(cmd.lun)
    {
        return Err(Sense::LUN_NOT_SUPPORTED);
    }
    cmd.decoded = Some(decoded);
    cmd.set_residual(decoded.command.data(BlockSize::B512).length);
    Ok(Next::Execute)
}
