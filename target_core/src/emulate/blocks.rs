// SPDX-License-Identifier: GPL-2.0

//! Commands about blocks (SBC-4 5).

use crate::{
    alua,
    backend::{IoError, Op},
    behind,
    command::{Command, Direction, Turn},
    device::{Device, MAX_TRANSFER},
    lun::Nexus,
};
use core::ops::Deref;
use kernel::{prelude::*, sync::Arc};
use lio_glue::buffer::Buffer;
use lio_scsi::{
    cdb::Transfer,
    lba::Extent,
    sense::{Key, Sense},
    unmap, //
};

/// What is left to do for a command when its current operation is done. Positions and lengths are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing.
    None,
    /// The command is executed now, after a delay.
    Begin,
    /// The command has ended with CHECK CONDITION: others are aborted before it is answered (QERR).
    Condition,
    /// READ with FUA: what was in the cache is on the medium.
    Read,
    /// WRITE SAME: write the scratch buffer at `pos` on, for `left` more bytes.
    WriteSame { pos: u64, left: u64 },
    /// WRITE SAME: have `left` more bytes from `pos` on read as zeroes.
    Zeroes { pos: u64, left: u64, unmap: bool },
    /// VERIFY: what was read from `pos` on is in the scratch buffer; `done` bytes before it are verified, `left` bytes with it
    /// are not. With `compare` it is to be equal to the data, with `one` to its one block.
    Verify {
        pos: u64,
        done: u64,
        left: u64,
        compare: bool,
        one: bool,
    },
    /// UNMAP: the parameter list is in the scratch buffer; the descriptors from the `next`th up to the `end`th are left, and
    /// `done` bytes of the first of these are done.
    Unmap { next: u32, done: u64, end: u32 },
    /// COMPARE AND WRITE: it is this command's turn to read.
    Compare { pos: u64, len: u64, fua: bool },
    /// COMPARE AND WRITE: what was read is in the scratch buffer.
    CompareAndWrite { pos: u64, len: u64, fua: bool },
    /// COMPARE AND WRITE: it is written. Its answer, too, comes from process context, as it gives its turn to the next.
    Written,
    /// WRITE SCATTERED: what follows of it.
    Scatter(super::writes::Scatter),
    /// Flush what was written, and be done.
    Flush { pos: u64, len: u64 },
    /// EXTENDED COPY: the copy has ended.
    Copied(Result<(), Sense>),
    /// Of a command beyond reading and writing.
    Block(super::block::Step),
    /// Of a command on a unit with protection information.
    Protected(super::protect::Step),
}

impl Step {
    /// FORMAT UNIT or SANITIZE has ended.
    pub(crate) fn erased(failed: bool) -> Self {
        Step::Block(super::block::Step::Erased { failed })
    }
}

/// Bytes that VERIFY reads and WRITE SAME writes at once.
const CHUNK: u64 = 1 << 20;
/// Bytes that are zeroed at once: storage that has no means of its own for that writes them, and nobody can abort it meanwhile.
const ZEROES: u64 = 64 << 20;
/// Bytes of an UNMAP parameter list that are looked at: what its limits allow is far less than what 16 bits do.
const MAX_UNMAP_LIST: usize = 65_536;

/// Bytes that VERIFY and WRITE SAME of `len` bytes hold at once.
pub(super) fn chunk(len: u64) -> u64 {
    len.min(CHUNK)
}

/// The device of a command. The reference is to the nexus, which is one session's: that of the device would be written by all.
pub(super) struct Its(Arc<Nexus>);

impl Deref for Its {
    type Target = Arc<Device>;
    fn deref(&self) -> &Arc<Device> {
        self.0.lun().device()
    }
}

pub(super) fn device(cmd: &Command) -> Result<Its, Sense> {
    let nexus = cmd.nexus.clone();
    nexus.map(Its).ok_or(Sense::INTERNAL_TARGET_FAILURE)
}

// The range in bytes. It was checked against the capacity, so that neither can overflow.
pub(super) fn bytes(dev: &Device, extent: Extent) -> Result<(u64, u64), Sense> {
    let size = dev.block_size();
    extent
        .offset(size)
        .zip(extent.bytes(size))
        .ok_or(Sense::LBA_OUT_OF_RANGE)
}

pub(super) fn ready(cmd: &Command) -> Result<(), Sense> {
    if device(cmd)?.backend().is_gone() {
        return Err(Sense::OFFLINE);
    }
    Ok(())
}

pub(super) fn read(cmd: &mut Command, t: Transfer) -> Result<(), Sense> {
    let dev = device(cmd)?;
    let (pos, len) = bytes(&dev, t.extent)?;
    // Only the blocks of which something goes to the initiator: one that expects a byte has no megabytes read for it.
    let wanted = u64::from(cmd.expected).next_multiple_of(dev.block_size().bytes().into());
    let len = u32::try_from(len.min(wanted)).map_err(|_| Sense::LBA_OUT_OF_RANGE)?;
    // Without a transfer there is nothing to do; the range is checked.
    if len == 0 || cmd.direction == Direction::None {
        return Ok(());
    }
    if cmd.data.is_borrowed() && cmd.data.len() < len as usize {
        let scratch =
            Buffer::alloc(len as usize, false).map_err(|_| Sense::INSUFFICIENT_RESOURCES)?;
        cmd.scratch =
            Some(KBox::new(scratch, GFP_KERNEL).map_err(|_| Sense::INSUFFICIENT_RESOURCES)?);
    } else if cmd.data.is_borrowed() {
        cmd.data.truncate(len as usize);
    }
    cmd.op = Op::Read { pos, len };
    Ok(())
}

/// Has what a volatile cache holds of `extent` written to the medium before it is read, as FUA asks for (SBC-4 4.15): what was read so is
/// there after a power loss, too. Whether there is such a cache.
pub(super) fn flush_first(cmd: &mut Command, extent: Extent) -> bool {
    let Ok(dev) = device(cmd) else { return false };
    let range = bytes(&dev, extent).ok().filter(|(_, len)| *len != 0);
    let Some((pos, len)) = range.filter(|_| dev.backend().write_cache()) else {
        return false;
    };
    cmd.step = Step::Read;
    cmd.op = Op::Flush { pos, len };
    true
}

pub(super) fn write(cmd: &mut Command, t: Transfer) -> Result<(), Sense> {
    let dev = device(cmd)?;
    let (pos, len) = bytes(&dev, t.extent)?;
    // An initiator may send less than its CDB says; whole blocks of that are written (SAM-5 5.4.3).
    let block = u64::from(dev.block_size().bytes());
    let have = (cmd.data.len() as u64).min(len);
    let have = have.saturating_sub(have.checked_rem(block).unwrap_or(0));
    if have == 0 || cmd.direction == Direction::None {
        return Ok(());
    }
    cmd.data.truncate(have as usize);
    let fua = t.fua && dev.attrib().emulate_fua_write();
    if fua && !dev.backend().fua() {
        cmd.step = Step::Flush { pos, len: have };
    }
    cmd.op = Op::Write { pos, fua };
    Ok(())
}

pub(super) fn compare_and_write(cmd: &mut Command, t: Transfer) -> Result<(), Sense> {
    let dev = device(cmd)?;
    let (pos, len) = bytes(&dev, t.extent)?;
    if len == 0 {
        return Ok(());
    }
    if (cmd.data.len() as u64) < len.saturating_mul(2) {
        return Err(Sense::INVALID_FIELD_IN_COMMAND_IU);
    }
    cmd.turn = Turn::Wanted;
    cmd.step = Step::Compare {
        pos,
        len,
        fua: t.fua,
    };
    Ok(())
}

pub(super) fn flush(cmd: &mut Command, extent: Extent, immediate: bool) -> Result<(), Sense> {
    let dev = device(cmd)?;
    let (pos, len) = bytes(&dev, extent)?;
    if let (true, Some(nexus)) = (immediate, &cmd.nexus) {
        behind::flush(&dev, nexus);
        return Ok(());
    }
    cmd.op = Op::Flush {
        pos,
        len: if len == 0 { u64::MAX } else { len },
    };
    Ok(())
}

pub(super) fn verify(
    cmd: &mut Command,
    extent: Extent,
    compare: bool,
    one: bool,
) -> Result<(), Sense> {
    let dev = device(cmd)?;
    let (pos, len) = bytes(&dev, extent)?;
    if len == 0 {
        return Ok(());
    }
    let wanted = if one {
        dev.block_size().bytes().into()
    } else {
        len
    };
    if compare && (cmd.data.len() as u64) < wanted {
        // Less data than the CDB says cannot be compared with all the blocks.
        return Err(Sense::INVALID_FIELD_IN_COMMAND_IU);
    }
    verify_from(cmd, pos, 0, len, compare, one)
}

// Reads the next piece of what is to be verified.
pub(super) fn verify_from(
    cmd: &mut Command,
    pos: u64,
    done: u64,
    left: u64,
    compare: bool,
    one: bool,
) -> Result<(), Sense> {
    let n = left.min(CHUNK) as usize;
    fill_scratch(cmd, n)?;
    cmd.step = Step::Verify {
        pos,
        done,
        left,
        compare,
        one,
    };
    cmd.op = Op::Read { pos, len: n as u32 };
    Ok(())
}

// Makes the scratch buffer `len` bytes long.
pub(super) fn fill_scratch(cmd: &mut Command, len: usize) -> Result<(), Sense> {
    let no_memory = |_| Sense::INSUFFICIENT_RESOURCES;
    if cmd.scratch.is_none() {
        let empty =
            KBox::new(Buffer::new(), GFP_KERNEL).map_err(|_| Sense::INSUFFICIENT_RESOURCES)?;
        cmd.scratch = Some(empty);
    }
    match cmd.scratch.as_mut() {
        Some(scratch) if scratch.len() == len => Ok(()),
        Some(scratch) => scratch.refill(len, false).map_err(no_memory),
        None => Err(Sense::INTERNAL_TARGET_FAILURE),
    }
}

pub(super) fn unmap(cmd: &mut Command) -> Result<(), Sense> {
    let dev = device(cmd)?;
    let len = cmd.data.len().min(MAX_UNMAP_LIST);
    let mut list =
        KVVec::from_elem(0u8, len, GFP_KERNEL).map_err(|_| Sense::INSUFFICIENT_RESOURCES)?;
    cmd.data.read_at(0, &mut list);
    let parsed = unmap::List::parse(&list, dev.capacity(), &dev.limits())?;
    let end = u32::try_from(parsed.extents().count()).unwrap_or(u32::MAX);
    if end == 0 {
        return Ok(());
    }
    if let Some(nexus) = &cmd.nexus {
        let lun = nexus.lun();
        parsed
            .extents()
            .try_for_each(|extent| alua::by_segment(lun, lun.port(), extent))?;
    }
    // What was checked is kept: the data may be memory that the initiator can change.
    fill_scratch(cmd, len)?;
    if let Some(scratch) = &cmd.scratch {
        scratch.write_at(0, &list);
    }
    unmap_from(cmd, 0, 0, end)
}

// Unmaps what the descriptors from the `next`th on say, of which `done` bytes are done.
fn unmap_from(cmd: &mut Command, next: u32, mut done: u64, end: u32) -> Result<(), Sense> {
    let dev = device(cmd)?;
    for index in next..end {
        let mut descriptor = [0; unmap::DESCRIPTOR];
        let at = (index as usize)
            .saturating_mul(unmap::DESCRIPTOR)
            .saturating_add(unmap::HEADER);
        let kept = cmd.scratch.as_ref();
        if kept.is_none_or(|s| s.read_at(at, &mut descriptor) != descriptor.len()) {
            return Err(Sense::INTERNAL_TARGET_FAILURE);
        }
        let (pos, len) = bytes(&dev, unmap::extent(&descriptor))?;
        let (pos, left) = (pos.saturating_add(done), len.saturating_sub(done));
        if left != 0 {
            // LBPRZ is kept (SBC-4 4.7.4.4). That may take long: in pieces, as in `zeroes`.
            let zeroes = dev.attrib().unmap_zeroes_data() && !dev.backend().unmapped_is_zero();
            let len = if zeroes { piece(pos, left) } else { left };
            cmd.step = if len == left {
                let next = index.saturating_add(1);
                Step::Unmap { next, done: 0, end }
            } else {
                let done = done.saturating_add(len);
                Step::Unmap {
                    next: index,
                    done,
                    end,
                }
            };
            cmd.op = if zeroes {
                let unmap = true;
                Op::WriteZeroes { pos, len, unmap }
            } else {
                Op::Unmap { pos, len }
            };
            return Ok(());
        }
        done = 0;
    }
    cmd.step = Step::None;
    cmd.op = Op::None;
    Ok(())
}

pub(super) fn write_same(
    cmd: &mut Command,
    extent: Extent,
    unmap: bool,
    no_data: bool,
) -> Result<(), Sense> {
    let dev = device(cmd)?;
    let (pos, len) = bytes(&dev, extent)?;
    let block = dev.block_size().bytes() as usize;
    if !no_data && cmd.data.len() < block {
        return Err(Sense::INVALID_FIELD_IN_COMMAND_IU);
    }
    let zero = no_data || is_zero(&cmd.data, block);
    if zero {
        zeroes(cmd, pos, len, unmap);
        return Ok(());
    }
    // A pattern, as often as it fits into a chunk.
    let n = len.min(CHUNK);
    fill_scratch(cmd, n as usize)?;
    if let Some(scratch) = &cmd.scratch {
        let mut at = 0usize;
        while at < n as usize {
            scratch.copy_from(at, &cmd.data, 0, block);
            at = at.saturating_add(block);
        }
    }
    cmd.step = Step::WriteSame {
        pos: pos.saturating_add(n),
        left: len.saturating_sub(n),
    };
    cmd.op = Op::Write { pos, fua: false };
    Ok(())
}

// How many of `left` bytes from `pos` on are made zeroes at once: pieces begin where storage may be given back.
fn piece(pos: u64, left: u64) -> u64 {
    let behind = pos.checked_rem(ZEROES).unwrap_or(0);
    left.min(ZEROES.saturating_sub(behind))
}

// Has the first of `left` bytes from `pos` on read as zeroes.
pub(super) fn zeroes(cmd: &mut Command, pos: u64, left: u64, unmap: bool) {
    let len = piece(pos, left);
    cmd.step = match left.saturating_sub(len) {
        0 => Step::None,
        left => Step::Zeroes {
            pos: pos.saturating_add(len),
            left,
            unmap,
        },
    };
    cmd.op = Op::WriteZeroes { pos, len, unmap };
}

pub(super) fn is_zero(data: &Buffer, len: usize) -> bool {
    let mut buf = [0u8; 256];
    let mut at = 0usize;
    while at < len {
        let n = len.saturating_sub(at).min(buf.len());
        let Some(part) = buf.get_mut(..n) else {
            return false;
        };
        if data.read_at(at, part) != n || part.iter().any(|b| *b != 0) {
            return false;
        }
        at = at.saturating_add(n);
    }
    true
}

/// Takes a command on after an operation that succeeded.
pub(super) fn step(cmd: &mut Command) -> Result<(), Sense> {
    match core::mem::replace(&mut cmd.step, Step::None) {
        Step::None | Step::Begin | Step::Condition => {
            cmd.op = Op::None;
            Ok(())
        }
        Step::Read => {
            cmd.op = Op::None;
            super::read(cmd)
        }
        Step::WriteSame { left: 0, .. } => {
            cmd.op = Op::None;
            Ok(())
        }
        Step::WriteSame { pos, left } => {
            let n = left.min(CHUNK);
            if let Some(scratch) = cmd.scratch.as_mut() {
                scratch.truncate(n as usize);
            }
            cmd.step = Step::WriteSame {
                pos: pos.saturating_add(n),
                left: left.saturating_sub(n),
            };
            cmd.op = Op::Write { pos, fua: false };
            Ok(())
        }
        Step::Zeroes { pos, left, unmap } => {
            zeroes(cmd, pos, left, unmap);
            Ok(())
        }
        Step::Verify {
            pos,
            done,
            left,
            compare,
            one,
        } => {
            let n = left.min(CHUNK);
            if compare {
                check(cmd, done, n, one)?;
            }
            let left = left.saturating_sub(n);
            if left == 0 {
                cmd.op = Op::None;
                return Ok(());
            }
            verify_from(
                cmd,
                pos.saturating_add(n),
                done.saturating_add(n),
                left,
                compare,
                one,
            )
        }
        Step::Unmap { next, done, end } => unmap_from(cmd, next, done, end),
        Step::Compare { pos, len, fua } => {
            fill_scratch(cmd, len as usize)?;
            cmd.step = Step::CompareAndWrite { pos, len, fua };
            cmd.op = Op::Read {
                pos,
                len: len as u32,
            };
            Ok(())
        }
        Step::CompareAndWrite { pos, len, fua } => {
            check(cmd, 0, len, false)?;
            // The second half of the data is what is to be written.
            let len = len as usize;
            if let Some(scratch) = &cmd.scratch {
                scratch.copy_from(0, &cmd.data, len, len);
            }
            cmd.step = Step::Written;
            cmd.op = Op::Write { pos, fua };
            Ok(())
        }
        Step::Written => {
            cmd.op = Op::None;
            Ok(())
        }
        Step::Scatter(at) => super::writes::go_on(cmd, at),
        Step::Flush { pos, len } => {
            cmd.op = Op::Flush { pos, len };
            Ok(())
        }
        Step::Copied(ended) => {
            cmd.op = Op::None;
            ended
        }
        Step::Block(step) => super::block::step(cmd, step),
        Step::Protected(step) => super::protect::step(cmd, step),
    }
}

// Compares `n` bytes that were read with the data: MISCOMPARE with the offset of the first difference (SBC-4 5.36).
fn check(cmd: &Command, done: u64, n: u64, one: bool) -> Result<(), Sense> {
    let dev = device(cmd)?;
    let Some(medium) = &cmd.scratch else {
        return Err(Sense::INTERNAL_TARGET_FAILURE);
    };
    let block = u64::from(dev.block_size().bytes());
    let piece = if one { block } else { n };
    let mut at = 0u64;
    while at < n {
        let data_at = if one { 0 } else { done.saturating_add(at) };
        if let Some(i) = cmd
            .data
            .differs(data_at as usize, medium, at as usize, piece as usize)
        {
            let offset = done.saturating_add(at).saturating_add(i as u64);
            return Err(Sense::MISCOMPARE.with_information(offset));
        }
        at = at.saturating_add(piece.max(1));
    }
    Ok(())
}

// A flush that ended so has told of writes that are lost. Otherwise the data may still be on its way.
fn tells_of_losses(result: Result<(), IoError>) -> bool {
    matches!(
        result,
        Err(IoError::Medium | IoError::NoSpace | IoError::ReadOnly)
    )
}

/// Storage tells one flush alone of writes that it lost, and forgets it; they may have been anybody's. So the device keeps in mind that
/// it did, also where nobody hears of this flush: its command may be aborted. Any context.
#[cold]
pub(crate) fn keep_losses(cmd: &Command) {
    if let (Op::Flush { .. }, Some(nexus)) = (cmd.op, &cmd.nexus) {
        if tells_of_losses(cmd.io_result) {
            nexus.lun().device().lost();
        }
    }
}

/// What a flush says to its initiator that the back end has ended: each hears of what is lost, by its own next flush.
pub(super) fn flushed(cmd: &mut Command) -> Result<(), IoError> {
    let result = cmd.io_result;
    let reads_or_writes = cmd.decoded.is_some_and(|d| d.command.transfers());
    let Some(nexus) = cmd.nexus.as_ref().filter(|_| !reads_or_writes) else {
        // With FUA it says what became of its own blocks, and nothing of what was written before.
        return result;
    };
    cmd.told = match result {
        Ok(()) => nexus.mapped().untold(),
        Err(_) if tells_of_losses(result) => Some(nexus.lun().device().losses().count()),
        Err(_) => None,
    };
    match cmd.told {
        Some(_) => result.and(Err(IoError::Medium)),
        None => result,
    }
}

/// A medium error's sense with the LBA of the block at fault, where it is known (SBC-4 4.18.1): where `op`, which failed, was
/// about one block. An initiator may take all blocks before that LBA for transferred.
pub(super) fn locate(cmd: &Command, op: Op, sense: Sense) -> Sense {
    let (pos, len) = match op {
        Op::Read { pos, len } => (pos, u64::from(len)),
        Op::Write { pos, .. } => (pos, cmd.io_buffer().len() as u64),
        _ => return sense,
    };
    let Ok(dev) = device(cmd) else { return sense };
    let size = dev.block_size();
    if sense.key != Key::MediumError || len != u64::from(size.bytes()) {
        return sense;
    }
    sense.with_information(pos >> size.shift())
}

const _: () = assert!(CHUNK <= MAX_TRANSFER as u64);
