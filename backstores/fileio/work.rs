// SPDX-License-Identifier: GPL-2.0

//! Operations on an open file: done at once where nothing waits for a disk, else by a worker.

use crate::{crew::Crew, protection::Protection, turn::Turn, QUEUE};
use kernel::{
    error::{code::*, Error},
    impl_has_work, new_work,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc,
    },
    workqueue::{Work, WorkItem},
};
use lio_glue::{
    buffer::Buffer,
    file::{self, Durability, File},
    module,
    noio,
    transfer::Transfer,
    workqueue::Workqueue, //
};
use target_core::backend::{Io, IoError, Op, Wipe};

/// Bytes that are read into the page cache at once.
const FETCH: u64 = 1 << 20;

/// What is known of an open file.
#[derive(Clone, Copy)]
pub(crate) struct Facts {
    /// Bytes of a logical block of the block device that the file is; 0 for a regular file.
    pub(crate) block: u32,
    /// The file lies in memory: nothing waits for a disk, nothing is more durable than it is.
    pub(crate) memory: bool,
    /// Pages of the page cache may be lent to readers.
    pub(crate) lends: bool,
    /// The file can be asked for what is in memory.
    pub(crate) nowait: bool,
    /// Past the page cache.
    pub(crate) direct: bool,
    /// Writes may stay in the page cache.
    pub(crate) buffered: bool,
    /// Space can be given back.
    pub(crate) can_unmap: bool,
}

/// An open file.
pub(crate) struct Open {
    pub(crate) file: File,
    pub(crate) facts: Facts,
    /// Where the blocks' protection information is, if there is any.
    pub(crate) protection: Option<Arc<Protection>>,
}

impl Open {
    /// Whether operations can be done in the caller's context.
    pub(crate) fn here(&self) -> bool {
        self.facts.memory && file::may_work_here()
    }

    // Does what is left of `io`, of which `done` bytes are done. Waits.
    fn perform(&self, io: &Io, done: &mut usize, durable: bool, crew: &Crew) -> Result {
        let marks = self.failures();
        let result = match &self.protection {
            None => self.attempt(io, done, crew),
            Some(protection) => {
                let _whole = protection.whole.lock();
                self.attempt(io, done, crew)
                    .and_then(|()| protection.follow(io))
            }
        };
        let (pos, len) = match io.op() {
            Op::Write { pos, .. } => (pos, io.data().len() as u64),
            Op::Unmap { pos, len } | Op::WriteZeroes { pos, len, .. } => (pos, len),
            Op::Flush { .. } => return self.flushed(result, &crew.flushed),
            _ => return result,
        };
        result?;
        match durable || self.is_late(crew) {
            true => self.settle(io, pos, len, marks),
            false => Ok(()),
        }
    }

    // Marks of the file's and its protection information's failures.
    fn failures(&self) -> (u32, u32) {
        let protection = self.protection.as_ref().map_or(0, |p| p.failures());
        (self.file.failures(), protection)
    }

    // Whether anything of either could not be written back since then.
    fn failed_since(&self, (file, protection): (u32, u32)) -> Result {
        self.file.failed_since(file)?;
        match &self.protection {
            None => Ok(()),
            Some(p) => p.failed_since(protection),
        }
    }

    // Makes durable what `io` has done, a step of its own: so it is known what failed. `marks`: what had before. Waits.
    fn settle(&self, io: &Io, pos: u64, len: u64, marks: (u32, u32)) -> Result {
        let synced = self.file.sync(pos, len);
        let synced = synced.and_then(|()| match &self.protection {
            None => Ok(()),
            Some(protection) => protection.sync(pos, len),
        });
        // What another operation has been told of failed for this one too, if it was under way meanwhile.
        let failed = self.failed_since(marks);
        if let (Err(e), Ok(()), true) = (synced, failed, self.facts.buffered) {
            // No page was at fault, so a flush was, or the file system's journal: that was about others' data, too.
            let lost = self.outcome(Op::Flush { pos, len }, e);
            if matches!(lost, IoError::Medium | IoError::NoSpace | IoError::ReadOnly) {
                io.flush_failed();
            }
        }
        synced.and(failed)
    }

    // Whether what has been written, and was not to be durable, has to be after all: the write cache was switched off meanwhile, and the
    // flush that came with that may have been too early for it.
    fn is_late(&self, crew: &Crew) -> bool {
        !self.facts.memory && !crew.still_caches()
    }

    // A flush that ended with `result` is about all that was written since the flush before, if that may still have been on its way
    // then.
    fn flushed(&self, result: Result, flushed: &Atomic<u32>) -> Result {
        if !self.facts.buffered {
            return result;
        }
        let since = flushed.load(Relaxed);
        let now = self.file.failures();
        let failed = self.file.failed_since(since);
        if failed.is_err() {
            flushed.store(now, Relaxed);
        }
        result.and(failed)
    }

    /// All that was written is made durable. `flushed`: the failures that the last flush told of. Waits.
    pub(crate) fn flush(&self, flushed: &Atomic<u32>) -> Result {
        let result = match &self.protection {
            None => self.file.sync(0, u64::MAX),
            Some(protection) => {
                let _whole = protection.whole.lock();
                let synced = self.file.sync(0, u64::MAX);
                synced.and_then(|()| protection.flush())
            }
        };
        self.flushed(result, flushed)
    }

    /// Reads `len` bytes from `pos` on into the page cache. Waits.
    pub(crate) fn fetch(&self, pos: u64, len: u64) -> Result {
        let data = Buffer::alloc(len.min(FETCH) as usize, false)?;
        let mut done = 0u64;
        while done < len {
            match self.file.read(pos.saturating_add(done), &data, 0)? {
                0 => break,
                n => done = done.saturating_add(n as u64),
            }
        }
        Ok(())
    }

    fn attempt(&self, io: &Io, done: &mut usize, crew: &Crew) -> Result {
        let len = io.data().len();
        match io.op() {
            Op::Read { pos, .. } => {
                while *done < len {
                    match self.file.read(pos, io.data(), *done)? {
                        0 => return self.at_end(io.data(), *done),
                        n => *done = done.saturating_add(n),
                    }
                }
                Ok(())
            }
            Op::Write { pos, .. } => {
                while *done < len {
                    let how = Durability::Cached;
                    match self.file.write(pos, io.data(), *done, how)? {
                        0 => return Err(EIO),
                        n => *done = done.saturating_add(n),
                    }
                }
                Ok(())
            }
            Op::WriteAtomic { .. } => Err(EOPNOTSUPP),
            Op::Flush { pos, len } => self.file.sync(pos, len),
            Op::Unmap { pos, len } => self.unmap(pos, len),
            Op::WriteZeroes { pos, len, unmap } => self.zero(pos, len, unmap, crew),
            // See `status`.
            Op::Status { .. } | Op::None => Err(EOPNOTSUPP),
        }
    }

    // Has a range read as zeroes. The file system sees to what is on its way past the page cache, but for what has to be written.
    fn zero(&self, pos: u64, len: u64, unmap: bool, crew: &Crew) -> Result {
        let cannot = |r: &Result| matches!(r, Err(e) if *e == EOPNOTSUPP || *e == EINVAL);
        // A hole reads as zeroes, and gives the space back.
        let mut zeroed = match unmap {
            true => self.file.punch(pos, len),
            false => Err(EOPNOTSUPP),
        };
        if cannot(&zeroed) {
            zeroed = self.file.zero(pos, len);
        }
        if !cannot(&zeroed) {
            return zeroed;
        }
        let write = || self.file.write_zeroes(pos, len);
        // With protection information nobody goes past it.
        let is_plain = self.protection.is_none() && !self.facts.memory;
        match self.facts.direct && is_plain {
            true => crew.apart.through(write),
            false => write(),
        }
    }

    fn tell(&self, io: &mut Io) -> Result {
        if let Op::Status { pos, len } = io.op() {
            let (mapped, bytes) = noio::scope(|| self.status(pos, len))?;
            io.tell(mapped, bytes);
        }
        Ok(())
    }

    // How what begins at `pos` is provisioned, and for how many of `len` bytes.
    fn status(&self, pos: u64, len: u64) -> Result<(bool, u64)> {
        match self.file.run(pos) {
            Ok((data, next)) if next > pos => Ok((data, next.saturating_sub(pos).min(len))),
            // Behind the end of a file that is shorter than its disk.
            Ok(_) if self.facts.block == 0 => Ok((false, len)),
            Ok(_) => Ok((true, len)),
            // A file system that does not know holes.
            Err(e) if e == EINVAL || e == EOPNOTSUPP => Ok((true, len)),
            Err(e) => Err(e),
        }
    }

    // What a sparse or shortened file does not have reads as zeroes; a block device has no more.
    fn at_end(&self, data: &Buffer, done: usize) -> Result {
        if self.facts.block > 0 {
            return Err(if self.file.is_gone() { ENXIO } else { EFBIG });
        }
        data.zero(done, data.len().saturating_sub(done));
        Ok(())
    }

    /// Writes over what begins at `pos`, durably.
    pub(crate) fn wipe(&self, pos: u64, what: &Wipe, crew: &Crew) -> Result {
        let data = match what {
            Wipe::Zeroes(len) => {
                self.zero(pos, *len, true, crew)?;
                self.file.sync(pos, *len)?;
                return self.wipe_protection(pos, *len);
            }
            Wipe::Data(data) => data,
        };
        let mut done = 0;
        while done < data.len() {
            match self.file.write(pos, data, done, Durability::Durable)? {
                0 => return Err(EIO),
                n => done = done.saturating_add(n),
            }
        }
        self.wipe_protection(pos, data.len() as u64)
    }

    fn wipe_protection(&self, pos: u64, len: u64) -> Result {
        match &self.protection {
            None => Ok(()),
            Some(protection) => protection.wipe(pos, len),
        }
    }

    fn unmap(&self, pos: u64, len: u64) -> Result {
        if self.facts.block == 0 {
            return self.file.punch(pos, len);
        }
        // Parts of the device's blocks stay as they are.
        let block = u64::from(self.facts.block);
        let end = pos.saturating_add(len) / block * block;
        let pos = pos.div_ceil(block).saturating_mul(block);
        if end <= pos {
            return Ok(());
        }
        let len = end.saturating_sub(pos);
        match self.file.punch(pos, len) {
            Err(e) if e == EOPNOTSUPP => self.file.discard(pos, len),
            r => r,
        }
    }

    // Whether what is left of `op` changes or fills the page cache: what is behind the end of a file does not.
    fn goes_through(&self, op: Op, done: usize) -> bool {
        match op {
            Op::Read { pos, .. } => {
                self.facts.block > 0 || pos.saturating_add(done as u64) < self.file.size()
            }
            Op::Write { .. } => true,
            _ => false,
        }
    }

    /// What the file's error means for `op`.
    pub(crate) fn outcome(&self, op: Op, e: Error) -> IoError {
        let start = match op {
            Op::Write { pos, .. } | Op::Read { pos, .. } => pos,
            Op::Unmap { pos, .. } | Op::WriteZeroes { pos, .. } => pos,
            _ => 0,
        };
        match e {
            // Whatever it says: it has no blocks any more.
            _ if self.file.is_gone() => IoError::Gone,
            // That is how a block device says that it has no such block.
            ENOSPC if self.facts.block > 0 && start >= self.file.size() => IoError::OutOfRange,
            // A file system without space for the file to grow.
            EFBIG if self.facts.block == 0 => IoError::NoSpace,
            // Positions were checked: it is something else.
            EINVAL => IoError::Medium,
            e => match (op, e.into()) {
                // What could not be written back, for whatever reason, will not be tried again: it is lost. An initiator must
                // not take the flush for one that is to be tried again, for that would succeed.
                (Op::Flush { .. }, IoError::Resources | IoError::Transport | IoError::Timeout) => {
                    IoError::Medium
                }
                (_, e) => e,
            },
        }
    }
}

/// An operation that waits for a disk.
#[pin_data]
pub(crate) struct Later {
    #[pin]
    work: Work<Self>,
    // Present until it is completed.
    io: Option<Io>,
    open: Open,
    done: usize,
    durable: bool,
    direct: bool,
    // Past the page cache with memory of our own, as the initiator's is not aligned for that.
    bounces: bool,
    bounce: Option<Buffer>,
    // What had failed of the file before.
    mark: u32,
    crew: Arc<Crew>,
    // It has not begun: it need not, if its command is aborted, and others may have seen to it that it must not.
    fresh: bool,
    // A worker of the crew does it, or will.
    counted: bool,
    // It has waited for one.
    waited: bool,
    // It has the turn, or stands in line for it.
    turn: Option<Arc<Turn>>,
    // Who has the turn, or a worker, after this.
    next: Option<Pin<KBox<Later>>>,
}

impl_has_work! {
    impl HasWork<Self> for Later { self.work }
}

impl Later {
    /// Does `io`, of which `done` bytes are done: here and now if that waits for no disk, else in a worker.
    pub(crate) fn start(
        queue: &Workqueue,
        crew: &Arc<Crew>,
        open: Open,
        io: Io,
        mut done: usize,
        durable: bool,
    ) {
        let mut fresh = true;
        if open.here() && !matches!(io.op(), Op::Status { .. }) {
            fresh = false;
            match noio::scope(|| open.perform(&io, &mut done, durable, crew)) {
                // The task whose context this is has been killed. That is not the initiator's business.
                Err(e) if e == EINTR || e == ERESTARTSYS => {}
                r => {
                    let op = io.op();
                    return io.complete(r.map_err(|e| open.outcome(op, e)));
                }
            }
        }
        let later = Self::make(crew, open, io, done, durable, fresh, None);
        if let Some(first) = later.and_then(|later| crew.take_or_wait(later)) {
            queue.enqueue(first);
        }
    }

    /// Does `io`, which has waited for the worker that calls this. Waits.
    pub(crate) fn begin(crew: &Arc<Crew>, open: Open, io: Io, durable: bool) {
        if let Some(later) = Self::make(crew, open, io, 0, durable, true, None) {
            later.work();
        }
    }

    /// Does `io`, which changes a file in memory, here and now if nobody else changes it.
    pub(crate) fn in_turn(
        queue: &Workqueue,
        turn: &Arc<Turn>,
        crew: &Arc<Crew>,
        open: Open,
        io: Io,
    ) {
        let (mut done, mut fresh) = (0, true);
        if open.here() && turn.take() {
            fresh = false;
            let r = noio::scope(|| open.perform(&io, &mut done, false, crew));
            if let Some(line) = turn.pass() {
                queue.enqueue(line);
            }
            match r {
                // As above.
                Err(e) if e == EINTR || e == ERESTARTSYS => {}
                r => {
                    let op = io.op();
                    return io.complete(r.map_err(|e| open.outcome(op, e)));
                }
            }
        }
        let later = Self::make(crew, open, io, done, false, fresh, Some(turn.clone()));
        if let Some(first) = later.and_then(|later| turn.take_or_stand_in_line(later)) {
            queue.enqueue(first);
        }
    }

    // What a worker needs to know; without memory for it, `io` fails.
    fn make(
        crew: &Arc<Crew>,
        open: Open,
        io: Io,
        done: usize,
        durable: bool,
        fresh: bool,
        turn: Option<Arc<Turn>>,
    ) -> Option<Pin<KBox<Self>>> {
        let plain = open.protection.is_none();
        let direct = open.facts.direct && plain && done == 0 && turn.is_none();
        let later = noio::scope(|| {
            KBox::pin_init(
                pin_init!(Later {
                    work <- new_work!("fileio::Later"),
                    io: None,
                    open,
                    done,
                    durable,
                    direct,
                    bounces: false,
                    bounce: None,
                    mark: 0,
                    crew: crew.clone(),
                    fresh,
                    counted: turn.is_none(),
                    waited: false,
                    turn,
                    next: None,
                }),
                GFP_KERNEL,
            )
        });
        match later {
            Ok(mut later) => {
                *later.as_mut().project().io = Some(io);
                Some(later)
            }
            Err(_) => {
                io.complete(Err(IoError::Resources));
                None
            }
        }
    }

    /// Who has the turn, or a worker, after this.
    pub(crate) fn next(self: Pin<&mut Self>) -> &mut Option<Pin<KBox<Later>>> {
        self.project().next
    }

    /// It is to wait for a worker of the crew.
    pub(crate) fn wait(self: Pin<&mut Self>) {
        *self.project().waited = true;
    }

    // Whether it has not begun, and is an initiator's: others' operations are waited for by who has them done.
    fn is_fresh(&self) -> bool {
        self.fresh && matches!(&self.io, Some(io) if !io.may_wait())
    }

    /// Whether it need not begin any more, since its command was aborted.
    pub(crate) fn is_over(&self) -> bool {
        self.is_fresh() && matches!(&self.io, Some(io) if io.is_aborted())
    }

    /// It does not begin.
    pub(crate) fn give_up(mut self: Pin<KBox<Self>>) {
        if let Some(io) = self.as_mut().project().io.take() {
            // As in `complete`.
            drop(self);
            io.complete(Err(IoError::Aborted));
        }
    }

    // Does it, or has it begin past the page cache. Waits.
    fn work(mut self: Pin<KBox<Self>>) {
        if self.is_over() {
            return self.give_up();
        }
        // What let it pass may be otherwise by now: it comes back by `begin`, if it still may.
        if self.waited && self.is_fresh() {
            if let Some(io) = self.as_mut().project().io.take() {
                drop(self);
                return noio::scope(|| io.go_on());
            }
        }
        if self.direct && self.prepare().is_err() {
            *self.as_mut().project().direct = false;
        }
        let op = self.io.as_ref().map(|io| io.op());
        let how = if self.durable && !self.open.facts.buffered {
            Durability::Durable
        } else {
            Durability::Cached
        };
        match op {
            Some(Op::Read { pos, .. }) if self.direct => {
                let file = self.open.file.clone();
                self.crew.apart.enter();
                file.read_direct(pos, Direct(self))
            }
            Some(Op::Write { pos, .. }) if self.direct => {
                let file = self.open.file.clone();
                self.crew.apart.enter();
                file.write_direct(pos, how, Direct(self))
            }
            _ => self.finish(),
        }
    }

    // What is needed past the page cache.
    fn prepare(self: &mut Pin<KBox<Self>>) -> Result {
        let me = self.as_mut().project();
        *me.mark = me.open.file.failures();
        let Some(io) = me.io.as_ref().filter(|_| *me.bounces) else {
            return Ok(());
        };
        let data = io.data();
        let bounce = noio::scope(|| Buffer::alloc(data.len(), false))?;
        if let Op::Write { .. } = io.op() {
            bounce.copy_from(0, data, 0, data.len());
        }
        *me.bounce = Some(bounce);
        Ok(())
    }

    // Does it in the page cache, and tells.
    fn finish(mut self: Pin<KBox<Self>>) {
        let me = self.as_mut().project();
        let result = match me.io {
            Some(io) if matches!(io.op(), Op::Status { .. }) => me.open.tell(io),
            Some(io) => {
                let apart = me.open.facts.direct && *me.done < io.data().len();
                let apart = apart && me.open.goes_through(io.op(), *me.done);
                let mut f = || me.open.perform(io, me.done, *me.durable, me.crew);
                match apart {
                    true => me.crew.apart.through(f),
                    false => f(),
                }
            }
            None => Ok(()),
        };
        self.complete(result)
    }

    // Does it in a worker after all; `direct`: past the page cache. Any context.
    fn again(mut self: Pin<KBox<Self>>, direct: bool) {
        let me = self.as_mut().project();
        (*me.direct, *me.counted, *me.fresh) = (direct, false, false);
        match QUEUE.get() {
            Some(queue) => queue.enqueue(self),
            None => self.complete(Err(ENODEV)),
        }
    }

    // Whether what it has written past the page cache is yet to be made durable: where that may fail for what others have written, it is
    // a step of its own. Or as `Open::is_late`. Any context.
    fn is_to_settle(&self) -> bool {
        let writes = matches!(&self.io, Some(io) if matches!(io.op(), Op::Write { .. }));
        writes
            && match self.durable {
                true => self.open.facts.buffered,
                false => self.open.is_late(&self.crew),
            }
    }

    fn complete(mut self: Pin<KBox<Self>>, result: Result) {
        if let Some(io) = self.as_mut().project().io.take() {
            let result = result.map_err(|e| self.open.outcome(io.op(), e));
            // The file may be closed by whoever hears of the end.
            drop(self);
            io.complete(result);
        }
    }
}

impl WorkItem for Later {
    type Pointer = Pin<KBox<Self>>;

    fn run(mut this: Pin<KBox<Self>>) {
        // Whoever hears of the end of an operation may close the device.
        let (turn, crew) = (this.turn.clone(), this.crew.clone());
        let counted = core::mem::replace(this.as_mut().project().counted, true);
        let mut first = match counted || turn.is_some() {
            true => Some(this),
            false => crew.take_or_wait(this),
        };
        while let Some(mut later) = first {
            first = later.as_mut().next().take();
            later.work();
            // The workqueue, and not that, keeps this module until here.
            module::left();
            first = first.or_else(|| match &turn {
                Some(turn) => turn.pass(),
                None => crew.next(),
            });
        }
    }
}

/// An operation past the page cache, which ends in another context.
struct Direct(Pin<KBox<Later>>);

impl Transfer for Direct {
    fn buffer(&self) -> &Buffer {
        static EMPTY: Buffer = Buffer::new();
        match (&self.0.bounce, &self.0.io) {
            (Some(bounce), _) => bounce,
            (None, Some(io)) => io.data(),
            (None, None) => &EMPTY,
        }
    }

    fn done(self, result: Result<usize>) {
        let len = self.buffer().len();
        let mut later = self.0;
        later.crew.apart.leave();
        let me = later.as_mut().project();
        let (read, borrowed) = match me.io {
            Some(io) => (
                matches!(io.op(), Op::Read { .. }),
                io.data().is_borrowed() && !*me.bounces,
            ),
            None => (false, false),
        };
        if let (Some(bounce), Some(io), Ok(n)) = (me.bounce.take(), &me.io, result) {
            if read {
                io.data().copy_from(0, &bounce, 0, n);
            }
        }
        match result {
            Ok(n) if n >= len && !later.is_to_settle() => {
                // What was written back for several at a time, and failed, only one is told of.
                let r = match !read && later.durable {
                    true => later.open.file.failed_since(later.mark),
                    false => Ok(()),
                };
                later.complete(r)
            }
            Ok(n) => {
                // The end of the file, or the file system stopped short: the worker finds out which. Or it is to be made durable.
                *later.as_mut().project().done = n;
                later.again(false);
            }
            Err(e) if e == EINVAL && borrowed => {
                *later.as_mut().project().bounces = true;
                later.again(true);
            }
            // Not aligned for it, or not to be done so at this place of the file.
            Err(e) if e == EINVAL || e == EAGAIN || e == EOPNOTSUPP || e == ENOTBLK => {
                later.again(false);
            }
            Err(e) => later.complete(Err(e)),
        }
    }
}
