// SPDX-License-Identifier: GPL-2.0

//! One file or block device: what is in memory is answered at once, what waits for a disk goes to a work queue.

use crate::{
    config::Config,
    crew::Crew,
    protection::Protection,
    turn::Turn,
    work::{Facts, Later, Open}, //
};
use core::fmt::{Result as FmtResult, Write};
use kernel::{
    error::code::*,
    new_mutex,
    prelude::*,
    str::CString,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc, Mutex, SetOnce,
    },
};
use lio_configfs::Value;
use lio_glue::{
    bdev::Limits,
    file::{File, Slot},
    noio,
    workqueue::Workqueue, //
};
use target_core::{
    backend::{Backend, Geometry, Io, IoError, Op, ReadCache, Space, Wipe},
    device,
};

/// Bytes of one command, and commands at once, as the stock module says.
const MAX_BYTES: u32 = 8 << 20;
const QUEUE_DEPTH: u32 = 128;

/// A back end. Its file is open from `enable` to `disable`.
#[pin_data]
pub(crate) struct Device {
    // Held while the size changes and protection information with it, which may wait for a disk.
    #[pin]
    sizing: Mutex<()>,
    // After `sizing`.
    #[pin]
    config: Mutex<Config>,
    file: Slot,
    // Set before the file is.
    facts: SetOnce<Facts>,
    // Of a regular file: what initiators see of it.
    size: Atomic<u64>,
    crew: Arc<Crew>,
    turn: Arc<Turn>,
    // Whether there is what follows, for those who need no more.
    is_protected: Atomic<bool>,
    #[pin]
    protection: Mutex<Option<Arc<Protection>>>,
    id: Atomic<u32>,
    queue: Arc<Workqueue>,
}

impl Device {
    pub(crate) fn new(queue: Arc<Workqueue>) -> Result<Arc<Self>> {
        let crew = Arc::pin_init(Crew::new(), GFP_KERNEL)?;
        let turn = Arc::pin_init(Turn::new(), GFP_KERNEL)?;
        Arc::pin_init(
            pin_init!(Device {
                sizing <- new_mutex!((), "fileio::Device::sizing"),
                config <- new_mutex!(Config::default(), "fileio::Device::config"),
                file: Slot::new(),
                facts: SetOnce::new(),
                size: Atomic::new(0),
                crew,
                turn,
                is_protected: Atomic::new(false),
                protection <- new_mutex!(None, "fileio::Device::protection"),
                id: Atomic::new(0),
                queue,
            }),
            GFP_KERNEL,
        )
    }

    fn open(&self) -> Option<Open> {
        Some(Open {
            file: self.file.get()?,
            facts: self.facts.copy()?,
            protection: match self.is_protected.load(Relaxed) {
                true => noio::scope(|| self.protection.lock().clone()),
                false => None,
            },
        })
    }

    // Opens the file, for reading alone where nothing can be written.
    fn open_file(config: &Config, dev: &device::Device) -> Result<(File, bool)> {
        let Some(path) = &config.path else {
            pr_err!("{}: fd_dev_name was not written to control\n", dev.path());
            return Err(EINVAL);
        };
        match File::open(path, true) {
            Ok(f) => Ok((f, true)),
            Err(e) if e == EROFS || e == EACCES => {
                let f = File::open(path, false).map_err(|_| e);
                if f.is_ok() {
                    pr_info!("{}: {}: is read-only\n", dev.path(), &**path);
                }
                f.map(|f| (f, false))
            }
            Err(e) => Err(e),
        }
        .inspect_err(|e| {
            pr_err!(
                "{}: {}: cannot be opened (errno {})\n",
                dev.path(),
                &**path,
                -e.to_errno()
            );
        })
    }

    // Whether `op`, which changes something, is durable when it is done.
    fn is_durable(&self, open: &Open, op: Op) -> bool {
        let fua = matches!(op, Op::Write { fua: true, .. });
        let cached = open.facts.buffered && self.write_cache() && !fua;
        !cached && !open.facts.memory
    }

    fn read(&self, open: Open, mut io: Io, pos: u64, len: u32) {
        if open.protection.is_some() {
            return match noio::scope(|| io.allocate()) {
                Ok(()) => Later::start(&self.queue, &self.crew, open, io, 0, false),
                Err(_) => io.complete(Err(IoError::Resources)),
            };
        }
        if io.may_lend() && open.facts.lends {
            if let Ok(true) = open.file.lend(pos, len as usize, io.data_mut()) {
                return io.complete(Ok(()));
            }
        }
        if noio::scope(|| io.allocate()).is_err() {
            return io.complete(Err(IoError::Resources));
        }
        let mut done = 0;
        if !open.here() && open.facts.nowait && !open.facts.direct {
            done = open.file.read_cached(pos, io.data()).unwrap_or(0);
            if done == io.data().len() {
                return io.complete(Ok(()));
            }
        }
        Later::start(&self.queue, &self.crew, open, io, done, false)
    }
}

impl Backend for Device {
    fn control(&self, value: &Value<'_>) -> Result {
        let _sizing = self.sizing.lock();
        let (before, size) = {
            let mut config = self.config.lock();
            let before = config.size;
            config.parse(value, self.file.with(|_| ()).is_some())?;
            (before, config.size)
        };
        match (size, self.facts.as_ref()) {
            (Some(_), Some(facts)) if facts.block > 0 => {
                let config = self.config.lock();
                pr_info!("{}: a block device has a size of its own\n", config.path());
            }
            (Some(size), _) => {
                let protection = self.protection.lock().clone();
                if let Some(Err(e)) = protection.map(|p| p.grow(size)) {
                    self.config.lock().size = before;
                    let errno = -e.to_errno();
                    return Err(value.reject(
                        e,
                        fmt!("protection information cannot grow (errno {errno})"),
                    ));
                }
                self.size.store(size, Relaxed);
            }
            (None, _) => (),
        }
        Ok(())
    }

    fn info(&self, out: &mut dyn Write) -> FmtResult {
        let config = self.config.lock();
        let size = self.bytes();
        writeln!(
            out,
            "TCM FILEIO ID: {}        File: {}  Size: {}  Mode: {} Async: {}",
            self.id.load(Relaxed),
            config.path().to_str().unwrap_or("?"),
            size,
            if config.buffered {
                "Buffered-WCE"
            } else {
                "O_DSYNC"
            },
            u8::from(config.direct),
        )
    }

    fn enable(&self, dev: &Arc<device::Device>) -> Result<Geometry> {
        static NEXT_ID: Atomic<u32> = Atomic::new(0);
        let config = self.config.lock();
        let (file, writable) = Self::open_file(&config, dev)?;
        let limits = file.block_limits();
        if limits.is_none() && config.size.is_none() {
            pr_err!(
                "{}: {}: fd_dev_size was not written to control\n",
                dev.path(),
                config.path()
            );
            return Err(EINVAL);
        }
        let facts = Facts {
            block: limits.as_ref().map_or(0, |l| l.logical_block),
            memory: file.in_memory(),
            lends: file.can_lend() && !config.direct,
            nowait: file.knows_nowait(),
            direct: config.direct,
            buffered: config.buffered,
            can_unmap: limits.as_ref().is_none_or(|l| l.max_discard_sectors > 0),
        };
        if !self.facts.populate(facts) {
            return Err(EEXIST);
        }
        if config.buffered {
            self.crew.set_caches(true);
        }
        self.id.store(NEXT_ID.fetch_add(1, Relaxed), Relaxed);
        self.crew.flushed.store(file.failures(), Relaxed);
        self.file.replace(Some(file));
        Ok(geometry(limits.as_ref(), !writable))
    }

    fn disable(&self) {
        self.file.replace(None);
        *self.protection.lock() = None;
    }

    fn submit(&self, io: Io) {
        let Some(open) = self.open() else {
            return io.complete(Err(IoError::Gone));
        };
        match io.op() {
            Op::Read { pos, len } => self.read(open, io, pos, len),
            // A file in memory is as durable as it gets.
            Op::Flush { .. } if open.facts.memory => io.complete(Ok(())),
            Op::None => io.complete(Err(IoError::Unsupported)),
            Op::Status { .. } => Later::start(&self.queue, &self.crew, open, io, 0, false),
            op => {
                let durable = self.is_durable(&open, op);
                if open.facts.memory && open.protection.is_none() {
                    return Later::in_turn(&self.queue, &self.turn, &self.crew, open, io);
                }
                Later::start(&self.queue, &self.crew, open, io, 0, durable)
            }
        }
    }

    fn begin(&self, io: Io) {
        let Some(open) = self.open() else {
            return io.complete(Err(IoError::Gone));
        };
        let durable = self.is_durable(&open, io.op());
        Later::begin(&self.crew, open, io, durable)
    }

    fn let_aborted_go(&self) {
        self.crew.let_aborted_go(&self.queue);
    }

    fn bytes(&self) -> u64 {
        // The size of a block device is its own.
        match self.facts.as_ref() {
            Some(facts) if facts.block > 0 => {
                let known = self.size.load(Relaxed);
                match self
                    .file
                    .with(|file| (!file.is_gone()).then(|| file.size()))
                {
                    // The kernel lets a removed device shrink to nothing; initiators shall hear that it is gone.
                    Some(Some(now)) => {
                        if now != known {
                            self.size.store(now, Relaxed);
                        }
                        now
                    }
                    _ => known,
                }
            }
            _ => self.size.load(Relaxed),
        }
    }

    fn is_gone(&self) -> bool {
        self.file.with(|file| file.is_gone()).unwrap_or(true)
    }

    fn write_cache(&self) -> bool {
        self.crew.caches()
    }

    // Without fd_buffered_io a write is durable in any case. Initiators may be told to flush nevertheless.
    fn set_write_cache(&self, on: bool) -> Result {
        self.crew.set_caches(on);
        Ok(())
    }

    fn wipe(&self, pos: u64, what: Wipe) -> Result<(), IoError> {
        let open = self.open().ok_or(IoError::Gone)?;
        open.wipe(pos, &what, &self.crew).map_err(|e| {
            let fua = true;
            open.outcome(Op::Write { pos, fua }, e)
        })
    }

    fn flush(&self) -> Result<(), IoError> {
        let open = self.open().ok_or(IoError::Gone)?;
        if open.facts.memory {
            return Ok(());
        }
        let op = Op::Flush {
            pos: 0,
            len: u64::MAX,
        };
        open.flush(&self.crew.flushed)
            .map_err(|e| open.outcome(op, e))
    }

    fn fetch(&self, pos: u64, len: u64) -> Result<(), IoError> {
        let open = self.open().ok_or(IoError::Gone)?;
        let op = Op::Read { pos, len: 0 };
        open.fetch(pos, len).map_err(|e| open.outcome(op, e))
    }

    // A block device is none whose file system could share blocks; a file in memory takes its changes in turn, and what
    // goes past the page cache does not come into it here.
    fn file(&self) -> Option<File> {
        let open = self.open()?;
        let f = &open.facts;
        (f.block == 0 && !f.memory && !f.direct).then_some(open.file)
    }

    fn copy_range(&self, from: &File, pos: u64, at: u64, len: u64) -> Result<(), IoError> {
        let open = self.open().ok_or(IoError::Gone)?;
        let to = self.file().ok_or(IoError::Unsupported)?;
        let mark = to.failures();
        let copied = noio::scope(|| {
            if to.copy_range(at, from, pos, len)? < len {
                // The source ends here: what is behind reads as zeroes.
                return Err(EINVAL);
            }
            // Asked for at its end, as it is for writes.
            if !(open.facts.buffered && self.crew.still_caches()) {
                to.sync(at, len)?;
                to.failed_since(mark)?;
            }
            Ok(())
        });
        let fua = true;
        copied.map_err(|e| open.outcome(Op::Write { pos: at, fua }, e))
    }

    fn space(&self) -> Option<Space> {
        let (available, used) = self.file.get()?.space()?;
        Some(Space { available, used })
    }

    fn read_cache(&self) -> ReadCache {
        match self.facts.as_ref() {
            Some(facts) if facts.memory => ReadCache::All,
            Some(facts) if !facts.direct => ReadCache::Fills,
            _ => ReadCache::None,
        }
    }

    fn switches_write_cache(&self) -> bool {
        true
    }

    // Of a block device, protection information has no place.
    fn can_protect(&self) -> bool {
        self.facts.as_ref().is_none_or(|facts| facts.block == 0)
    }

    fn set_protection(&self, block: Option<u32>) -> Result {
        // Until it is in its place: the size may change as soon as it can grow with that.
        let _sizing = self.sizing.lock();
        let protection = match block {
            None => None,
            Some(_) if !self.can_protect() => return Err(ENOSYS),
            Some(block) => {
                let path = CString::try_from_fmt(fmt!("{}", self.config.lock().path()))?;
                Some(Protection::open(&path, self.bytes(), block)?)
            }
        };
        let is = protection.is_some();
        let before = core::mem::replace(&mut *self.protection.lock(), protection);
        self.is_protected.store(is, Relaxed);
        drop(before);
        Ok(())
    }

    fn format_protection(&self) -> Result {
        let protection = self.protection.lock().clone().ok_or(ENODEV)?;
        protection.wipe(0, self.bytes())
    }

    fn can_unmap(&self) -> bool {
        self.facts.as_ref().is_some_and(|facts| facts.can_unmap)
    }

    // A hole in a file. A block device keeps parts of its own blocks, and may say what it likes of the rest.
    fn unmapped_is_zero(&self) -> bool {
        self.facts.as_ref().is_some_and(|facts| facts.block == 0)
    }
}

// The numbers are those that the stock module shows for the same file.
fn geometry(limits: Option<&Limits>, read_only: bool) -> Geometry {
    let file = Geometry {
        block_size: 512,
        hw_block_size: 512,
        hw_max_sectors: MAX_BYTES / 512,
        longest: MAX_BYTES / 512,
        io_min: 0,
        io_opt: 0,
        hw_queue_depth: QUEUE_DEPTH,
        physical_block_exponent: 0,
        lowest_aligned: 0,
        max_unmap_lba_count: 0x2000,
        max_unmap_block_desc_count: 1,
        unmap_granularity: 1,
        unmap_granularity_alignment: 0,
        max_write_same_len: 0x1000,
        atomic_max: 0,
        atomic_unit: 0,
        unmap_zeroes_data: false,
        rotational: true,
        read_only,
        protection: 0,
    };
    let Some(l) = limits else {
        return file;
    };
    let block = l.logical_block.max(512);
    let can_unmap = l.max_discard_sectors > 0;
    let unmap = |n: u32| if can_unmap { n } else { 0 };
    Geometry {
        block_size: block,
        hw_block_size: block,
        hw_max_sectors: MAX_BYTES / block,
        longest: MAX_BYTES / block,
        max_unmap_lba_count: l.max_discard_sectors / (block / 512),
        max_unmap_block_desc_count: unmap(1),
        unmap_granularity: unmap(l.discard_granularity / block),
        unmap_granularity_alignment: unmap(l.discard_alignment / block),
        max_write_same_len: 0xffff,
        rotational: l.rotational,
        ..file
    }
}
