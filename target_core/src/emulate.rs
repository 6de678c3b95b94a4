// SPDX-License-Identifier: GPL-2.0

//! Executes commands: those about blocks become operations of the back end, the others are answered here.
//!
//! A command that needs several operations keeps the rest of its work as a [`Step`]; each operation that completes
//! takes it one step on.

mod alua;
mod block;
mod blocks;
mod copy;
mod long;
mod orwrite;
mod parameters;
mod pr;
mod primary;
mod protect;
mod writes;

use crate::{
    backend::Op,
    command::{Command, Direction, Turn},
    device::MAX_TRANSFER,
    session::Core,
};
use kernel::page::PAGE_SIZE;
use lio_scsi::{
    cdb::{Command as Cdb, Compare},
    lba::{BlockSize, Extent},
    lun::Lun as LunNumber,
    sense::Sense,
    status::Status,
};

pub(crate) use blocks::{keep_losses, Step};
pub(crate) use long::reads_all;
pub(crate) use protect::Protected;

/// Executes an admitted command, whose data has arrived. Leaves an operation in `cmd.op`, or the answer.
pub(crate) fn execute(session: &Core, cmd: &mut Command) {
    let Some(decoded) = cmd.decoded else {
        return cmd.set_sense(Sense::INTERNAL_TARGET_FAILURE);
    };
    cmd.op = Op::None;
    cmd.step = Step::None;
    if pr::answer(session, cmd, &decoded.command) {
        return;
    }
    if let Cdb::Read(t) = decoded.command {
        let done = if t.fua && blocks::flush_first(cmd, t.extent) {
            Ok(())
        } else {
            read(cmd)
        };
        return begun(cmd, done);
    }
    if let Some(done) = decoded
        .protection
        .and_then(|of| protect::execute(cmd, of, &decoded))
    {
        return begun(cmd, done);
    }
    let done = match decoded.command {
        Cdb::TestUnitReady => blocks::ready(cmd),
        Cdb::Write(t) => blocks::write(cmd, t),
        Cdb::SynchronizeCache { extent, immediate } => blocks::flush(cmd, extent, immediate),
        Cdb::Verify {
            compare: Compare::Nothing,
            extent,
            ..
        } => blocks::verify(cmd, extent, false, false),
        Cdb::Verify {
            compare, extent, ..
        } => blocks::verify(cmd, extent, true, compare == Compare::OneBlock),
        Cdb::Unmap { .. } => blocks::unmap(cmd),
        Cdb::WriteSame {
            extent,
            unmap,
            no_data,
        } => blocks::write_same(cmd, extent, unmap, no_data),
        Cdb::CompareAndWrite(t) => blocks::compare_and_write(cmd, t),
        Cdb::Block(command) => block::execute(cmd, &command),
        Cdb::Primary(primary) => primary::execute(session, cmd, &primary),
        Cdb::ThirdParty(command) => copy::execute(cmd, &command),
        _ => parameters::answer(session, cmd, &decoded.command),
    };
    begun(cmd, done)
}

// READ. What is in a volatile cache has been written to the medium, if that was asked for.
fn read(cmd: &mut Command) -> Result<(), Sense> {
    let decoded = cmd.decoded.ok_or(Sense::INTERNAL_TARGET_FAILURE)?;
    let Cdb::Read(t) = decoded.command else {
        return Err(Sense::INTERNAL_TARGET_FAILURE);
    };
    let of = decoded.protection;
    match of.and_then(|of| protect::execute(cmd, of, &decoded)) {
        Some(done) => done,
        None => blocks::read(cmd, t),
    }
}

// What the command has come to.
fn begun(cmd: &mut Command, done: Result<(), Sense>) {
    match done {
        Err(sense) => {
            cmd.op = Op::None;
            cmd.set_sense(sense);
        }
        Ok(()) if matches!(cmd.op, Op::None) => {
            let status = if cmd.turn != Turn::No {
                Status::Good
            } else {
                block::ending(cmd)
            };
            cmd.set_status(status);
        }
        Ok(()) => (),
    }
}

/// Bytes of memory that executing an admitted command takes, beside its write data.
pub(crate) fn memory(cmd: &Command) -> u64 {
    let Some(decoded) = &cmd.decoded else {
        return 0;
    };
    let size = match &cmd.nexus {
        Some(nexus) => nexus.lun().device().block_size(),
        None => BlockSize::B512,
    };
    // Read even where the initiator says that it sends: see `admit`.
    let sent = |most: u64| most.min(cmd.expected.into());
    let bytes = |extent: Extent| extent.bytes(size).unwrap_or(u64::MAX);
    if let Some(bytes) = protect::memory(decoded, size, cmd.expected) {
        return bytes.next_multiple_of(PAGE_SIZE as u64);
    }
    let total = match decoded.command {
        Cdb::Write(_) | Cdb::TestUnitReady | Cdb::SynchronizeCache { .. } => 0,
        Cdb::SetTargetPortGroups { list_length } => u64::from(list_length),
        Cdb::Read(t) => sent(bytes(t.extent)),
        Cdb::CompareAndWrite(t) => bytes(t.extent),
        Cdb::Verify { extent, .. } | Cdb::WriteSame { extent, .. } => blocks::chunk(bytes(extent)),
        Cdb::Block(command) => block::memory(&command, size),
        // The list, twice.
        Cdb::Unmap { list_length } => u64::from(list_length).saturating_mul(2),
        Cdb::Primary(primary) => primary::memory(&primary),
        Cdb::PersistentReserveIn { allocation, .. } => {
            u64::from(allocation).min(pr::MOST as u64).saturating_mul(2)
        }
        // The list, and a copy.
        Cdb::PersistentReserveOut { list_length, .. } => u64::from(list_length).saturating_mul(2),
        Cdb::ThirdParty(command) => copy::memory(&command),
        command => sent(command.data(size).length.min(parameters::most(&command))),
    };
    // No command that passed is longer.
    total
        .min(MAX_TRANSFER.into())
        .next_multiple_of(PAGE_SIZE as u64)
}

/// The next step of a command, after one of its operations. Process context.
pub(crate) fn step(cmd: &mut Command) {
    if cmd.io_result.is_err() {
        let step = core::mem::replace(&mut cmd.step, Step::None);
        finish(cmd);
        if let Step::Scatter(at) = step {
            writes::failed(cmd, &at);
        }
        return;
    }
    match blocks::step(cmd) {
        Ok(()) if matches!(cmd.op, Op::None) && cmd.turn != Turn::Wanted => {
            let status = block::ending(cmd);
            cmd.set_status(status)
        }
        Ok(()) => (),
        Err(sense) => {
            cmd.op = Op::None;
            cmd.step = Step::None;
            cmd.set_sense(sense);
        }
    }
}

/// The last operation of a command is done: its result is the command's. Any context.
pub(crate) fn finish(cmd: &mut Command) {
    let op = core::mem::replace(&mut cmd.op, Op::None);
    let result = match op {
        Op::Flush { .. } => blocks::flushed(cmd),
        _ => cmd.io_result,
    };
    match result {
        Ok(()) => {
            // A read whose initiator gave less memory than its CDB asks for went elsewhere first.
            if cmd.direction == Direction::Read {
                if let Some(scratch) = cmd.scratch.take() {
                    cmd.data.copy_from(0, &scratch, 0, cmd.data.len());
                }
            }
            cmd.set_status(Status::Good);
        }
        Err(e) => match e.sense(op) {
            Some(sense) => {
                let sense = primary::failed(cmd, op, blocks::locate(cmd, op, sense));
                cmd.set_sense(sense);
            }
            None => cmd.set_status(e.status()),
        },
    }
}

/// Whether REPORT LUNS is answered at this LUN without a logical unit there: at LUN 0 and at the REPORT LUNS well known
/// logical unit (SPC-5 6.33, SAM-5 4.7.7).
pub(crate) fn reports_luns(lun: [u8; 8]) -> bool {
    lun == REPORT_LUNS_WLUN || LunNumber::parse(lun) == Some(LunNumber::ZERO)
}

const REPORT_LUNS_WLUN: [u8; 8] = [0xc1, 0x01, 0, 0, 0, 0, 0, 0];
