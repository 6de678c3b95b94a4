// SPDX-License-Identifier: GPL-2.0

//! Commands of block devices beyond reading and writing (SBC-4 5).

use super::{blocks, long, orwrite, parameters::respond, writes};
use crate::{
    alua,
    backend::{Op, ReadCache},
    behind,
    command::{Command, Turn},
    device::{Device, MAX_TRANSFER},
    erase,
};
use kernel::prelude::*;
use lio_scsi::{
    block::{
        self,
        erase::{Format, How, Overwrite, Sanitize},
        Block, Completion, Erasing, LbaStatus, Provisioned, StartStop,
    },
    cdb::Transfer,
    lba::{BlockSize, Blocks, Extent, Lba},
    sense::{Asc, Key, Sense},
    status::Status,
};

/// What is left to do for a command when its current operation is done. Positions and lengths are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// WRITE AND VERIFY: it is written, and may still be in a cache.
    Settle { pos: u64, len: u64, compare: bool },
    /// WRITE AND VERIFY: it is on the medium, and is read back now.
    ReadBack { pos: u64, len: u64, compare: bool },
    /// ORWRITE
    OrWrite(orwrite::Step),
    /// PRE-FETCH: what is before `pos` was read; `status` is the answer when nothing is left.
    PreFetch { pos: u64, left: u64, status: Status },
    /// GET LBA STATUS: the back end says how what begins at the run's end is provisioned.
    Status(Run),
    /// START STOP UNIT: the cache is written.
    Stop { eject: bool },
    /// FORMAT UNIT or SANITIZE has ended.
    Erased { failed: bool },
    /// Nothing is left; this is the answer.
    End(Status),
}

/// GET LBA STATUS at work: the current run, in bytes, and what was found before, which is in the scratch buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    start: u64,
    end: u64,
    mapped: bool,
    /// Where the scan ends, and why there.
    last: u64,
    at_last: Completion,
    /// Descriptors in the scratch buffer, and how many there may be.
    count: usize,
    most: usize,
}

/// Descriptors of one GET LBA STATUS: a page of them.
const MOST_DESCRIPTORS: usize = (4096 - block::LBA_STATUS_HEADER) / block::LBA_STATUS;
/// Bytes that PRE-FETCH reads at most.
const MAX_PRE_FETCH: u64 = MAX_TRANSFER as u64;

/// Executes `command`.
pub(super) fn execute(cmd: &mut Command, command: &Block) -> Result<(), Sense> {
    match *command {
        Block::WriteAndVerify {
            extent, compare, ..
        } => write_and_verify(cmd, extent, compare),
        Block::OrWrite(what) => orwrite::begin(cmd, &what),
        Block::WriteLong(_) => long::write(cmd),
        Block::ReadLong(what) => long::read(cmd, &what),
        Block::WriteAtomic(t) => writes::atomic(cmd, t),
        Block::WriteScattered(what) => writes::scatter(cmd, what),
        Block::PreFetch { extent, immediate } => pre_fetch(cmd, extent, immediate),
        Block::GetLbaStatus {
            lba,
            scan,
            allocation,
        } => get_lba_status(cmd, lba, scan, allocation),
        Block::StartStop { what, immediate } => start_stop(cmd, what, immediate),
        Block::PreventRemoval { prevent } => {
            let nexus = cmd.nexus.as_ref().ok_or(Sense::LUN_NOT_SUPPORTED)?;
            nexus.set_prevents_removal(prevent);
            Ok(())
        }
        Block::Format(format) => format_unit(cmd, &format),
        Block::Sanitize(what) => sanitize(cmd, what),
        Block::ReadDefectData {
            request,
            allocation,
        } => respond(cmd, allocation, |out| {
            block::write_defects(&request, out);
            Ok(())
        }),
    }
}

/// Bytes of memory that executing `command` takes, beside its write data.
pub(super) fn memory(command: &Block, size: BlockSize) -> u64 {
    let bytes = |extent: Extent| extent.bytes(size).unwrap_or(u64::MAX);
    match *command {
        Block::WriteAndVerify { extent, .. } => blocks::chunk(bytes(extent)),
        Block::OrWrite(what) => bytes(what.transfer.extent),
        Block::WriteAtomic(_) | Block::WriteLong(_) => 0,
        Block::ReadLong(what) => what.length.into(),
        // A piece of the data, and the descriptors.
        Block::WriteScattered(what) => {
            blocks::chunk(Blocks(what.blocks.into()).bytes(size).unwrap_or(u64::MAX))
                .saturating_add(what.list() as u64)
        }
        Block::PreFetch { .. } => blocks::chunk(u64::MAX),
        // The descriptors, and what is made of them.
        Block::GetLbaStatus { .. } => 8192,
        Block::StartStop { .. } | Block::PreventRemoval { .. } => 0,
        Block::ReadDefectData { .. } => 4096,
        // The parameter list, once more.
        Block::Format(_) | Block::Sanitize(_) => 8192,
    }
}

/// The status of a command that has nothing left to do.
pub(super) fn ending(cmd: &mut Command) -> Status {
    match core::mem::replace(&mut cmd.step, blocks::Step::None) {
        blocks::Step::Block(Step::End(status)) => status,
        _ => Status::Good,
    }
}

/// Takes a command on after an operation that succeeded.
pub(super) fn step(cmd: &mut Command, step: Step) -> Result<(), Sense> {
    cmd.op = Op::None;
    match step {
        Step::Settle { pos, len, compare } => {
            go_on(cmd, Step::ReadBack { pos, len, compare });
            cmd.op = Op::Flush { pos, len };
            Ok(())
        }
        Step::ReadBack { pos, len, compare } => {
            blocks::verify_from(cmd, pos, 0, len, compare, false)
        }
        Step::OrWrite(step) => orwrite::step(cmd, step),
        Step::PreFetch {
            status, left: 0, ..
        } => {
            go_on(cmd, Step::End(status));
            Ok(())
        }
        Step::PreFetch { pos, left, status } => {
            let n = blocks::chunk(left);
            blocks::fill_scratch(cmd, n as usize)?;
            go_on(
                cmd,
                Step::PreFetch {
                    pos: pos.saturating_add(n),
                    left: left.saturating_sub(n),
                    status,
                },
            );
            cmd.op = Op::Read { pos, len: n as u32 };
            Ok(())
        }
        Step::Status(run) => status_of(cmd, run),
        Step::Stop { eject } => {
            let dev = blocks::device(cmd)?;
            dev.set_condition(|condition| {
                if eject {
                    condition.ejected = true;
                } else {
                    condition.stopped = true;
                }
            });
            Ok(())
        }
        Step::Erased { failed: false } => Ok(()),
        Step::Erased { failed: true } => {
            let condition = blocks::device(cmd)?.condition();
            // If another initiator has ended the failure already, it was one nevertheless.
            let sense = condition.and_then(|condition| condition.sense());
            Err(sense.unwrap_or(Sense::WRITE_ERROR))
        }
        Step::End(_) => Ok(()),
    }
}

fn go_on(cmd: &mut Command, step: Step) {
    cmd.step = blocks::Step::Block(step);
}

fn write_and_verify(cmd: &mut Command, extent: Extent, compare: bool) -> Result<(), Sense> {
    // What is verified is on the medium by then.
    let t = Transfer {
        extent,
        dpo: false,
        fua: true,
    };
    blocks::write(cmd, t)?;
    let Op::Write { pos, .. } = cmd.op else {
        return Ok(());
    };
    let len = cmd.data.len() as u64;
    let fua = blocks::device(cmd)?.backend().fua();
    go_on(
        cmd,
        if fua {
            Step::ReadBack { pos, len, compare }
        } else {
            Step::Settle { pos, len, compare }
        },
    );
    cmd.op = Op::Write { pos, fua };
    Ok(())
}

fn pre_fetch(cmd: &mut Command, extent: Extent, immediate: bool) -> Result<(), Sense> {
    let dev = blocks::device(cmd)?;
    let (pos, len) = blocks::bytes(&dev, extent)?;
    let wanted = match len {
        0 => dev.backend().bytes().saturating_sub(pos),
        len => len,
    };
    match dev.backend().read_cache() {
        // What is asked for finds no room in the cache: GOOD (SBC-4 5.10).
        ReadCache::None => Ok(()),
        ReadCache::All => {
            go_on(cmd, Step::End(Status::ConditionMet));
            Ok(())
        }
        ReadCache::Fills => {
            let left = wanted.min(MAX_PRE_FETCH);
            let status = if left == wanted {
                Status::ConditionMet
            } else {
                Status::Good
            };
            if immediate && behind::fetch(&dev, pos, left) {
                go_on(cmd, Step::End(status));
                return Ok(());
            }
            step(cmd, Step::PreFetch { pos, left, status })
        }
    }
}

fn get_lba_status(cmd: &mut Command, lba: Lba, scan: u32, allocation: u32) -> Result<(), Sense> {
    let dev = blocks::device(cmd)?;
    let size = dev.block_size();
    let blocks = dev.capacity().0.saturating_sub(lba.0);
    let (blocks, at_last) = match u64::from(scan) {
        0 => (blocks, Completion::Capacity),
        scan if scan < blocks => (scan, Completion::Scan),
        _ => (blocks, Completion::Capacity),
    };
    let (start, len) = blocks::bytes(
        &dev,
        Extent {
            lba,
            blocks: Blocks(blocks),
        },
    )?;
    let fit = (allocation as usize).saturating_sub(block::LBA_STATUS_HEADER) / block::LBA_STATUS;
    let mut run = Run {
        start,
        end: start,
        mapped: true,
        last: start.saturating_add(len),
        at_last,
        count: 0,
        most: fit.clamp(1, MOST_DESCRIPTORS),
    };
    blocks::fill_scratch(cmd, run.most.saturating_mul(block::LBA_STATUS))?;
    if !dev.provisioning().is_thin() {
        // All blocks of a fully provisioned unit are mapped (SBC-4 4.7.2).
        while run.end < run.last {
            let most = u64::from(u32::MAX).wrapping_shl(size.shift());
            run.end = run.last.min(run.end.saturating_add(most));
            if !append(cmd, &mut run) {
                return answer_status(cmd, &run, Completion::Allocation);
            }
        }
        return answer_status(cmd, &run, at_last);
    }
    ask(cmd, run);
    Ok(())
}

// Asks the back end about what follows the run.
fn ask(cmd: &mut Command, run: Run) {
    cmd.op = Op::Status {
        pos: run.end,
        len: run.last.saturating_sub(run.end),
    };
    go_on(cmd, Step::Status(run));
}

// The back end has said how what follows the run is provisioned.
fn status_of(cmd: &mut Command, mut run: Run) -> Result<(), Sense> {
    let size = blocks::device(cmd)?.block_size();
    let (mapped, len) = cmd.found;
    let left = run.last.saturating_sub(run.end);
    let (mapped, len) = block::whole_blocks(mapped, len, left, size);
    let longest = u64::from(u32::MAX).wrapping_shl(size.shift());
    let joined = run.end.saturating_sub(run.start).saturating_add(len);
    if run.end > run.start && (mapped != run.mapped || joined > longest) && !append(cmd, &mut run) {
        return answer_status(cmd, &run, Completion::Allocation);
    }
    run.mapped = mapped;
    run.end = run.end.saturating_add(len.min(longest)).min(run.last);
    if run.end < run.last {
        ask(cmd, run);
        return Ok(());
    }
    append(cmd, &mut run);
    let completion = run.at_last;
    answer_status(cmd, &run, completion)
}

// Makes a descriptor of the run, and begins another; whether one more has room.
fn append(cmd: &mut Command, run: &mut Run) -> bool {
    let mut kept = [0; block::LBA_STATUS];
    let (start, rest) = kept.split_at_mut(8);
    start.copy_from_slice(&run.start.to_be_bytes());
    let len = run.end.saturating_sub(run.start);
    // A run has 2^32 blocks of 2^12 bytes at most, so that the top byte is free.
    rest.copy_from_slice(&(len | if run.mapped { 1 << 63 } else { 0 }).to_be_bytes());
    if let Some(scratch) = &cmd.scratch {
        scratch.write_at(run.count.saturating_mul(block::LBA_STATUS), &kept);
    }
    run.count = run.count.saturating_add(1);
    run.start = run.end;
    run.count < run.most
}

fn answer_status(cmd: &mut Command, run: &Run, completion: Completion) -> Result<(), Sense> {
    let shift = blocks::device(cmd)?.block_size().shift();
    let Some(decoded) = cmd.decoded else {
        return Err(Sense::INTERNAL_TARGET_FAILURE);
    };
    let lio_scsi::cdb::Command::Block(Block::GetLbaStatus { allocation, .. }) = decoded.command
    else {
        return Err(Sense::INTERNAL_TARGET_FAILURE);
    };
    let scratch = cmd.scratch.take().ok_or(Sense::INTERNAL_TARGET_FAILURE)?;
    respond(cmd, allocation, |out| {
        let mut list = LbaStatus::begin(out);
        for index in 0..run.count {
            let mut kept = [0u8; block::LBA_STATUS];
            scratch.read_at(index.saturating_mul(block::LBA_STATUS), &mut kept);
            let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = kept;
            let start = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
            let len = u64::from_be_bytes([i & 0x7f, j, k, l, m, n, o, p]);
            let status = if i & 0x80 != 0 {
                Provisioned::Mapped
            } else {
                Provisioned::Deallocated
            };
            list.descriptor(Extent::new(start >> shift, len >> shift), status);
        }
        list.finish(completion);
        Ok(())
    })
}

fn start_stop(cmd: &mut Command, what: StartStop, immediate: bool) -> Result<(), Sense> {
    let dev = blocks::device(cmd)?;
    let nexus = cmd.nexus.clone().ok_or(Sense::LUN_NOT_SUPPORTED)?;
    let stop = |cmd: &mut Command, eject: bool, no_flush: bool| {
        // Who may only read does not take the unit from those who may write.
        if nexus.mapped().write_protect() {
            return Err(Sense::WRITE_PROTECTED);
        }
        if no_flush {
            return step(cmd, Step::Stop { eject });
        }
        if immediate {
            behind::stop(&dev, &nexus, eject);
            return Ok(());
        }
        go_on(cmd, Step::Stop { eject });
        cmd.op = Op::Flush {
            pos: 0,
            len: u64::MAX,
        };
        Ok(())
    };
    match what {
        StartStop::PowerCondition => Ok(()),
        StartStop::Power { start: true, .. } => {
            let start = || dev.set_condition(|condition| condition.stopped = false);
            let before = dev.behind().start(start);
            if before.stopped {
                dev.kept().count_cycle();
            }
            Ok(())
        }
        StartStop::Power { no_flush, .. } => stop(cmd, false, no_flush),
        StartStop::Medium { .. } if !dev.attrib().removable() => {
            // LOEJ is for those that can (SBC-4 5.31).
            Err(Sense::invalid_cdb_bit(4, 1))
        }
        StartStop::Medium { load: true, .. } => {
            let before = dev.behind().start(|| {
                dev.set_condition(|condition| {
                    condition.ejected = false;
                    condition.stopped = false;
                })
            });
            if before.stopped {
                dev.kept().count_cycle();
            }
            if before.ejected {
                dev.attend(Asc::MEDIUM_MAY_HAVE_CHANGED);
                nexus.forget(Asc::MEDIUM_MAY_HAVE_CHANGED);
            }
            Ok(())
        }
        StartStop::Medium { no_flush, .. } => {
            if removal_prevented(&dev) {
                return Err(Sense::new(
                    Key::IllegalRequest,
                    Asc::MEDIUM_REMOVAL_PREVENTED,
                ));
            }
            stop(cmd, true, no_flush)
        }
    }
}

// Any I_T nexus keeps the medium in (SBC-4 5.17).
fn removal_prevented(dev: &Device) -> bool {
    let mut prevented = false;
    dev.each_nexus(|_, nexus| prevented |= nexus.prevents_removal());
    prevented
}

// The parameter list, of which an initiator may have sent less than the CDB says.
fn list(cmd: &Command, most: usize) -> Result<KVec<u8>, Sense> {
    let len = cmd.data.len().min(most);
    let mut list =
        KVec::from_elem(0u8, len, GFP_KERNEL).map_err(|_| Sense::INSUFFICIENT_RESOURCES)?;
    cmd.data.read_at(0, &mut list);
    Ok(list)
}

fn format_unit(cmd: &mut Command, format: &Format) -> Result<(), Sense> {
    let list = list(cmd, format.list_length() as usize)?;
    let formatting = format.parse(&list)?;
    if blocks::device(cmd)?.attrib().hw_pi_prot_type() != 0 {
        // How the storage is formatted is its own business.
        return Err(Sense::invalid_cdb_bit(1, 7));
    }
    let immediate = formatting.immediate;
    let job = erase::Job {
        sanitize: None,
        protection: formatting.protection,
        list: KVec::new(),
        by: by(cmd),
    };
    begin(cmd, job, Erasing::Format(0), immediate)
}

fn sanitize(cmd: &mut Command, what: Sanitize) -> Result<(), Sense> {
    let dev = blocks::device(cmd)?;
    let list = match what.how {
        How::Overwrite(length) => {
            let size = dev.block_size();
            Overwrite::check_length(length, size)?;
            let list = list(cmd, length.into())?;
            Overwrite::parse(&list, size)?;
            list
        }
        How::BlockErase => KVec::new(),
        How::ExitFailureMode => {
            let before = dev.set_condition(|condition| {
                if condition.erasing == Erasing::SanitizeFailed(true) {
                    condition.erasing = Erasing::No;
                }
            });
            // What failed without AUSE is only ended by a SANITIZE that succeeds (SBC-4 4.11.4).
            return match before.erasing {
                Erasing::SanitizeFailed(false) => Err(Sense::invalid_cdb_bit(1, 4)),
                _ => Ok(()),
            };
        }
    };
    let job = erase::Job {
        sanitize: Some(what),
        protection: None,
        list,
        by: by(cmd),
    };
    begin(cmd, job, Erasing::Sanitize(0), what.immediate)
}

// Which command this is, among those of all initiators.
fn by(cmd: &Command) -> (u64, u64) {
    (cmd.nexus.as_ref().map_or(0, |n| n.serial()), cmd.tag)
}

// Begins `job`, for which the command waits unless it is to be answered at once.
fn begin(cmd: &mut Command, job: erase::Job, state: Erasing, immediate: bool) -> Result<(), Sense> {
    let dev = blocks::device(cmd)?;
    if let Some(nexus) = &cmd.nexus {
        // All blocks are addressed.
        let all = Extent {
            lba: Lba(0),
            blocks: dev.capacity(),
        };
        alua::by_segment(nexus.lun(), nexus.lun().port(), all)?;
    }
    let unrestricted = job.sanitize.is_some_and(|sanitize| sanitize.unrestricted);
    let begins = |erasing: Erasing| match erasing {
        Erasing::Format(_) | Erasing::Sanitize(_) => false,
        Erasing::SanitizeFailed(may_exit) => may_exit || !unrestricted,
        Erasing::No | Erasing::FormatFailed => true,
    };
    let before = dev.set_condition(|condition| {
        if begins(condition.erasing) {
            condition.erasing = state;
        }
    });
    if !begins(before.erasing) {
        return Err(match before.erasing {
            // What failed without AUSE is not made up for by what might be given up (SBC-4 4.11.4).
            Erasing::SanitizeFailed(_) => Sense::invalid_cdb_bit(1, 5),
            // Another initiator's has begun meanwhile.
            _ => before.sense().unwrap_or(Sense::INTERNAL_TARGET_FAILURE),
        });
    }
    let job = erase::begin(&dev, job, before.erasing).map_err(|_| Sense::INSUFFICIENT_RESOURCES)?;
    if !immediate {
        cmd.turn = Turn::Erasing(job);
    }
    Ok(())
}
