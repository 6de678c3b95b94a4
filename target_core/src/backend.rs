// SPDX-License-Identifier: GPL-2.0

//! Back ends: what stores the blocks of a device.
//!
//! A back end's module registers a [`Kind`]; each directory `core/NAME_N/DEVICE` is a [`Backend`] of that kind. It
//! is configured by text, enabled once, and then takes typed operations ([`Io`]) by value. It never sees a CDB.

use crate::{command::Command, crew::Crew, device::Device, lun::Nexus};
use core::fmt;
use kernel::{
    error::{code, Error},
    prelude::*,
    sync::Arc,
};
use lio_configfs::Value;
use lio_glue::{
    buffer::Buffer,
    file::File,
    slot::{Erased, List, Why}, //
};
pub use lio_scsi::provisioning::Space;
use lio_scsi::{
    sense::{Asc, Key, Sense},
    status::Status,
};

/// A kind of back end, registered by its module: see [`crate::registry::register_backend`].
pub trait Kind: Send + Sync + 'static {
    /// The name before the underscore in `core/NAME_N`: `fileio`, `iblock`, `rd_mcp`.
    fn name(&self) -> &'static str;

    /// The product identification of INQUIRY, at most 16 bytes: `FILEIO`, `IBLOCK`, `RAMDISK-MCP`.
    fn product(&self) -> &'static str;

    /// A back end for one more device, not configured yet.
    ///
    /// # Errors
    /// `ENOMEM`.
    fn create(&self) -> Result<Arc<dyn Backend>>;
}

/// What a device is and can do, as its back end finds when it is enabled.
#[derive(Clone, Copy)]
pub struct Geometry {
    /// Bytes of a logical block that the back end prefers; the `block_size` attribute starts with it.
    pub block_size: u32,
    /// The `hw_block_size` attribute: bytes.
    pub hw_block_size: u32,
    /// The `hw_max_sectors` attribute: logical blocks of one transfer.
    pub hw_max_sectors: u32,
    /// Logical blocks of one operation that the back end takes; as many, or more, where the storage gets it in pieces.
    pub longest: u32,
    /// Bytes of which transfers are best multiples, and of which they are best; 0: not known.
    pub io_min: u32,
    /// See `io_min`.
    pub io_opt: u32,
    /// The `hw_queue_depth` attribute: commands.
    pub hw_queue_depth: u32,
    /// Binary logarithm of logical blocks in a physical one.
    pub physical_block_exponent: u8,
    /// First logical block that is aligned to a physical one.
    pub lowest_aligned: u16,
    /// Blocks of one UNMAP, 0 if the device cannot unmap: `max_unmap_lba_count`.
    pub max_unmap_lba_count: u32,
    /// Descriptors of one UNMAP: `max_unmap_block_desc_count`.
    pub max_unmap_block_desc_count: u32,
    /// Blocks: `unmap_granularity`.
    pub unmap_granularity: u32,
    /// Blocks: `unmap_granularity_alignment`.
    pub unmap_granularity_alignment: u32,
    /// Blocks of one WRITE SAME: `max_write_same_len`.
    pub max_write_same_len: u32,
    /// Bytes of one [`Op::WriteAtomic`], 0 where there is none, and what its position and length are multiples of.
    pub atomic_max: u32,
    /// See `atomic_max`.
    pub atomic_unit: u32,
    /// Whether unmapped blocks read as zeroes: `unmap_zeroes_data`.
    pub unmap_zeroes_data: bool,
    /// Whether the medium rotates; the stock modules' `is_nonrot` attribute is its opposite.
    pub rotational: bool,
    /// Whether nothing can be written.
    pub read_only: bool,
    /// The type of protection information that the storage has of its own for each block, 1 or 3; 0: none. It is read and written as
    /// [`Backend::set_protection`] says; what makes it FFh there leaves it to the storage here.
    pub protection: u32,
}

/// The storage behind one device. Its methods run concurrently where nothing else is said.
pub trait Backend: Send + Sync + 'static {
    /// A write to the `control` file: `key=value` pairs. What cannot be changed any more once the device is enabled is
    /// refused then.
    ///
    /// # Errors
    /// `EINVAL`, `EBUSY` and the like; the reason goes to the log by [`Value::reject`].
    fn control(&self, value: &Value<'_>) -> Result;

    /// The back end's own lines of the `info` file; the first one's indentation is there already.
    ///
    /// # Errors
    /// The writer's.
    fn info(&self, out: &mut dyn fmt::Write) -> fmt::Result;

    /// Opens the storage. Called once until [`Self::disable`].
    ///
    /// # Errors
    /// The errno that the write to `enable` gets.
    fn enable(&self, dev: &Arc<Device>) -> Result<Geometry>;

    /// Closes the storage, after the last operation has completed. Also called if nothing was ever enabled.
    fn disable(&self);

    /// Does `io`, and completes it exactly once: from any context, before this returns or later. Called in
    /// process context and may sleep, but not for long: what would wait for a disk goes to a work queue.
    fn submit(&self, io: Io);

    /// Begins `io`, for which [`Io::wait`] was asked and which a worker of a [`Crew`](crate::crew::Crew) has come to, or a worker of the back
    /// end's own ([`Io::go_on`]): the storage may be waited for. A back end that has neither gets none.
    fn begin(&self, io: Io) {
        io.complete(Err(IoError::Aborted));
    }

    /// Who does what waits for the storage before it can begin, if the back end has somebody.
    fn crew(&self) -> Option<&Arc<Crew>> {
        None
    }

    /// Commands were aborted: operations that wait to begin are to end, where a [`Crew`](crate::crew::Crew) or the back end itself has them.
    /// Process context.
    fn let_aborted_go(&self) {
        if let Some(crew) = self.crew() {
            crew.let_aborted_go();
        }
    }

    /// The device's size in bytes now. Read for each READ CAPACITY and range check: cheap and without a lock.
    fn bytes(&self) -> u64;

    /// Whether the storage was taken away, which TEST UNIT READY tells: initiators choose their paths by that.
    fn is_gone(&self) -> bool {
        false
    }

    /// Whether acknowledged writes may be lost with the power until they are flushed. The truth: WCE.
    fn write_cache(&self) -> bool;

    /// Whether the `emulate_write_cache` attribute is the write cache: it shows [`Self::write_cache`] and sets it. Where the
    /// storage has a cache of its own that cannot be switched, it is 0 and stays 0, as with the stock modules.
    fn emulates_write_cache(&self) -> bool {
        true
    }

    /// Has the write cache follow the `emulate_write_cache` attribute.
    ///
    /// # Errors
    /// `EINVAL` where the back end can't do as asked.
    fn set_write_cache(&self, on: bool) -> Result {
        if on == self.write_cache() {
            Ok(())
        } else {
            Err(code::EINVAL)
        }
    }

    /// Whether [`Self::set_write_cache`] does as asked.
    fn switches_write_cache(&self) -> bool {
        false
    }

    /// Whether one write can be made durable by itself ([`Op::Write`]'s `fua`).
    fn fua(&self) -> bool {
        true
    }

    /// Writes over what begins at `pos`, past no cache: what was there is gone when this returns. Sleeps until then; called from a
    /// worker that may wait.
    ///
    /// # Errors
    /// As an operation's.
    fn wipe(&self, pos: u64, what: Wipe) -> Result<(), IoError>;

    /// All writes that were completed before become durable, as by [`Op::Flush`]. Sleeps until then; called from a worker that may wait.
    ///
    /// # Errors
    /// As an operation's.
    fn flush(&self) -> Result<(), IoError>;

    /// Reads `len` bytes from `pos` on into the cache, where [`Self::read_cache`] says that this helps. Sleeps until then; called from a
    /// worker that may wait.
    ///
    /// # Errors
    /// As an operation's.
    fn fetch(&self, pos: u64, len: u64) -> Result<(), IoError> {
        let _ = (pos, len);
        Ok(())
    }

    /// The file that the bytes are in, at the same positions, if they are in one that others may copy from.
    fn file(&self) -> Option<File> {
        None
    }

    /// Copies `len` bytes at `pos` of another back end's file to `at`, without taking them into its own hands; as durable as a write
    /// without FUA. Sleeps until it is done; called from a worker that may wait.
    ///
    /// # Errors
    /// Whatever it is, the bytes are to be read and written instead: some of them may be copied.
    fn copy_range(&self, from: &File, pos: u64, at: u64, len: u64) -> Result<(), IoError> {
        let _ = (from, pos, at, len);
        Err(IoError::Unsupported)
    }

    /// Bytes that blocks are mapped to, and bytes that are left for more; `None` where the storage does not say. Asked at
    /// times, not for each command; does not wait for a disk.
    fn space(&self) -> Option<Space> {
        None
    }

    /// What becomes of blocks that are read.
    fn read_cache(&self) -> ReadCache {
        ReadCache::None
    }

    /// Whether [`Self::set_protection`] can switch protection information on.
    fn can_protect(&self) -> bool {
        false
    }

    /// Keeps 8 bytes of protection information for each block of `block` bytes from now on: those that were kept when it was last
    /// switched off, or FFh. Or keeps none any more. Nobody uses the device meanwhile. What is kept of a block is then read and
    /// written with it ([`Io::protection`]). Writes that bring none, [`Op::Unmap`], [`Op::WriteZeroes`] and [`Self::wipe`] make it
    /// FFh: nothing is checked then.
    ///
    /// # Errors
    /// `ENOSYS` where the storage cannot; its own. Nothing has changed then.
    fn set_protection(&self, block: Option<u32>) -> Result {
        match block {
            None => Ok(()),
            Some(_) => Err(code::ENOSYS),
        }
    }

    /// Makes all protection information that is kept FFh.
    ///
    /// # Errors
    /// `ENOSYS` where the storage cannot; its own.
    fn format_protection(&self) -> Result {
        Err(code::ENOSYS)
    }

    /// Whether [`Op::Unmap`] works.
    fn can_unmap(&self) -> bool {
        false
    }

    /// Whether all that is unmapped reads as zeroes.
    fn unmapped_is_zero(&self) -> bool {
        false
    }
}

/// One operation. Positions and lengths are bytes, whole logical blocks, inside the device's size when it was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Fill the data from `pos` on; its length is that of [`Io::data`], unless the back end lends pages.
    Read {
        /// First byte.
        pos: u64,
        /// Bytes to read.
        len: u32,
    },
    /// Write the data at `pos`.
    Write {
        /// First byte.
        pos: u64,
        /// Durable before it is completed.
        fua: bool,
    },
    /// As [`Op::Write`], all of it or nothing, whatever happens meanwhile, and no read sees a part of it. Only what is within
    /// [`Geometry::atomic_max`].
    WriteAtomic {
        /// First byte.
        pos: u64,
        /// Durable before it is completed.
        fua: bool,
    },
    /// All writes that were completed before become durable, or those of a range.
    Flush {
        /// First byte.
        pos: u64,
        /// Bytes; `u64::MAX` for the rest of the device.
        len: u64,
    },
    /// The range's contents are not needed any more.
    Unmap {
        /// First byte.
        pos: u64,
        /// Bytes.
        len: u64,
    },
    /// The range reads as zeroes from now on.
    WriteZeroes {
        /// First byte.
        pos: u64,
        /// Bytes.
        len: u64,
        /// Storage may be given back.
        unmap: bool,
    },
    /// Tell how the first byte is provisioned, and how far it goes on like that: by [`Io::tell`].
    Status {
        /// First byte.
        pos: u64,
        /// Bytes of interest.
        len: u64,
    },
    /// Nothing: the operation is still being decided.
    None,
}

/// With what blocks are written over for good.
pub enum Wipe {
    /// So many bytes are to read as zeroes; storage may be given back.
    Zeroes(u64),
    /// This data.
    Data(Arc<Buffer>),
}

/// What becomes of blocks that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadCache {
    /// They are read from the medium each time.
    None,
    /// They are kept, so that they are read faster the next time.
    Fills,
    /// All blocks are in memory in any case.
    All,
}

/// Why an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoError {
    /// The medium is at fault.
    Medium,
    /// No space is left.
    NoSpace,
    /// Nothing can be written to.
    ReadOnly,
    /// Beyond the end of the storage.
    OutOfRange,
    /// The storage is gone.
    Gone,
    /// Memory or another resource is short for now.
    Resources,
    /// The path to the storage failed.
    Transport,
    /// It took too long.
    Timeout,
    /// The storage cannot do this operation.
    Unsupported,
    /// A reservation of somebody else's on the storage.
    Reserved,
    /// The storage found the data not to go with its protection information.
    Protection,
    /// The operation was dropped unfinished.
    Aborted,
}

impl From<Error> for IoError {
    fn from(e: Error) -> Self {
        match e {
            e if e == code::ENOSPC || e.to_errno() == -122 => IoError::NoSpace, // EDQUOT
            e if e == code::EROFS || e == code::EPERM => IoError::ReadOnly,
            e if e == code::ENOMEM || e == code::EAGAIN || e == code::EBUSY => IoError::Resources,
            e if e == code::ENODEV || e == code::ENXIO => IoError::Gone,
            e if e == code::EINVAL || e == code::EFBIG => IoError::OutOfRange,
            // That is what the block layer calls it.
            e if e == code::EBADE => IoError::Reserved,
            e if e.to_errno() == -95 => IoError::Unsupported, // EOPNOTSUPP
            e if e.to_errno() == -110 => IoError::Timeout,    // ETIMEDOUT
            e if e.to_errno() == -67 => IoError::Transport,   // ENOLINK
            _ => IoError::Medium,
        }
    }
}

/// One operation of a command, owned by the back end until it is completed. Dropping it fails it.
pub struct Io {
    cmd: Erased<Command, crate::command::Shared>,
}

impl Io {
    pub(crate) fn new(cmd: Erased<Command, crate::command::Shared>) -> Self {
        Io { cmd }
    }

    /// What to do.
    pub fn op(&self) -> Op {
        self.cmd.op
    }

    /// The data to write, or the memory to read into.
    pub fn data(&self) -> &lio_glue::buffer::Buffer {
        self.cmd.io_buffer()
    }

    /// The data. A back end that lends its pages for reading replaces it with a list of them of the same length,
    /// if [`Self::may_lend`].
    pub fn data_mut(&mut self) -> &mut lio_glue::buffer::Buffer {
        self.cmd.io_buffer_mut()
    }

    /// Memory for the protection information of the blocks that are read, or what is to be written with them, 8 bytes for each; the
    /// data is never lent pages then. `None`: none is wanted.
    pub fn protection(&self) -> Option<&lio_glue::buffer::Buffer> {
        let protected = self.cmd.protection.as_deref();
        protected.filter(|p| p.kept).map(|p| &p.tuples)
    }

    /// Whether a read's data is empty and may be lent pages. Otherwise it is [`Self::allocate`]d.
    pub fn may_lend(&self) -> bool {
        // A lent page shows what is written to it until it is sent. Where somebody uses ORDERED commands, a read shall not
        // show what one behind it wrote (SAM-5 8.6).
        let ordered = |n: &Arc<Nexus>| n.lun().device().order().is_used();
        self.data().is_empty()
            && matches!(self.cmd.op, Op::Read { .. })
            && !self.cmd.nexus.as_ref().is_some_and(ordered)
    }

    /// Gives a read that may lend memory of its own to be filled. Does nothing where there is memory already.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn allocate(&mut self) -> Result {
        if let Op::Read { len, .. } = self.cmd.op {
            if self.data().is_empty() {
                self.data_mut().refill(len as usize, false)?;
            }
        }
        Ok(())
    }

    /// Whether nobody else is kept waiting by who waits in [`Backend::submit`] until the storage takes the operation: it is no
    /// initiator's.
    pub fn may_wait(&self) -> bool {
        self.cmd.nexus.is_none()
    }

    /// Whether the operation's command was aborted: what has not begun need not begin.
    pub fn is_aborted(&self) -> bool {
        self.cmd.shared().is_aborted()
    }

    /// The storage would have to be waited for before the operation can begin, which was tried: it goes to the back end's
    /// [`Backend::crew`]. `in_part`: some of it may be done. Any context.
    pub fn wait(mut self, in_part: bool) {
        self.cmd.begun |= in_part;
        self.cmd.hand_back(Why::Waits);
    }

    /// A worker has come to the operation, which has waited for it and has not begun: it goes to [`Backend::begin`], if the command still may
    /// (a reservation, say, could have been made by others while it waited). Not where it [may wait](Self::may_wait). Process context.
    pub fn go_on(self) {
        self.cmd.hand_back(Why::Waited);
    }

    /// The answer to [`Op::Status`]: whether storage is used for the first byte, or it may be, and for how many bytes, not
    /// zero, that goes on.
    pub fn tell(&mut self, mapped: bool, bytes: u64) {
        self.cmd.found = (mapped, bytes);
    }

    /// The storage has told, of a write that was to be durable, of a flush that failed: it forgets then what of others' data is lost.
    /// Each initiator hears of it by its next flush.
    pub fn flush_failed(&self) {
        if let Some(nexus) = &self.cmd.nexus {
            nexus.lun().device().lost();
        }
    }

    /// Ends the operation. The engine goes on with the command, in this context.
    pub fn complete(mut self, result: Result<(), IoError>) {
        self.cmd.io_result = result;
        self.cmd.finish();
    }
}

/// Operations that wait, the oldest first. It needs no memory. Those that are left when it is dropped fail.
pub(crate) struct Line(List<Command, crate::command::Shared>);

impl Line {
    pub(crate) const fn new() -> Self {
        Line(List::new())
    }

    pub(crate) fn push(&mut self, io: Io) {
        self.0.push(io.cmd);
    }

    pub(crate) fn pop(&mut self) -> Option<Io> {
        self.0.pop().map(|cmd| Io { cmd })
    }

    /// Those whose commands were aborted; `count` grows by their number.
    pub(crate) fn take_aborted(&mut self, count: &mut usize) -> Self {
        Line(self.0.take(|cmd| {
            let aborted = cmd.shared().is_aborted();
            *count = count.saturating_add(aborted.into());
            aborted
        }))
    }
}

impl IoError {
    /// The status that says this of itself, where there is no [sense](Self::sense).
    pub(crate) fn status(self) -> Status {
        match self {
            // As the storage says: that it is BUSY would have initiators ask again for as long as the reservation lasts.
            IoError::Reserved => Status::ReservationConflict,
            _ => Status::Busy,
        }
    }

    /// The sense that says this of `op` to the initiator (SBC-4 4.18), or `None` where a [status](Self::status) does.
    pub(crate) fn sense(self, op: Op) -> Option<Sense> {
        Some(match self {
            // What was read to be compared with data of the initiator's was read nevertheless.
            IoError::Medium if matches!(op, Op::Read { .. }) => Sense::READ_ERROR,
            IoError::Medium => Sense::WRITE_ERROR,
            IoError::NoSpace => Sense::SPACE_ALLOCATION_FAILED,
            IoError::ReadOnly => Sense::WRITE_PROTECTED,
            IoError::OutOfRange => Sense::LBA_OUT_OF_RANGE,
            IoError::Gone => Sense::OFFLINE,
            IoError::Transport | IoError::Timeout => Sense::COMMUNICATION_FAILURE,
            IoError::Unsupported => Sense::INVALID_OPERATION_CODE,
            IoError::Protection => Sense::new(Key::AbortedCommand, Asc::GUARD_CHECK_FAILED),
            IoError::Aborted => Sense::new(Key::AbortedCommand, Asc::NONE),
            IoError::Resources | IoError::Reserved => return None,
        })
    }
}
