// SPDX-License-Identifier: GPL-2.0

//! One block device: bios that carry the command's own memory, completed where the device completes them.

use crate::{config::Config, later::Later, Queues};
use core::fmt::{Result as FmtResult, Write};
use kernel::{
    error::{code::*, Error},
    new_mutex,
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Relaxed, Release},
        Arc, Mutex,
    },
};
use lio_configfs::Value;
use lio_glue::{
    bdev::{BlockDevice, Slot},
    bio::{self, Wait},
    buffer::Buffer,
    noio,
    transfer::Transfer,
    wait::WaitQueue, //
};
use target_core::{
    backend::{Backend, Geometry, Io, IoError, Op, Wipe},
    crew::Crew,
    device,
};

/// A back end. Its device is open from `enable` to `disable`.
#[pin_data]
pub(crate) struct Device {
    #[pin]
    config: Mutex<Config>,
    open: Slot,
    can_unmap: Atomic<bool>,
    // Bytes; of a device that is gone, what it had.
    size: Atomic<u64>,
    // Whether an operation need not wait before it begins.
    nowait: Atomic<bool>,
    // For what has to: it goes on once it has begun. And for what takes a worker until it is done.
    crew: Arc<Crew>,
    zeroing: Arc<Crew>,
    queues: Arc<Queues>,
}

/// Workers of a device, for each of both. There are 2,048 for all.
const WORKERS: u32 = 16;
/// Operations that wait before there is another worker: who waits for the same requests need not do so in many places, and they begin in
/// order meanwhile; but an array's members, say, may have some for others.
const PATIENCE: usize = 4;

impl Device {
    pub(crate) fn new(queues: Arc<Queues>) -> Result<Arc<Self>> {
        let crew = Crew::new(&queues.slow, WORKERS, PATIENCE)?;
        let zeroing = Crew::new(&queues.slow, WORKERS, 0)?;
        Arc::pin_init(
            pin_init!(Device {
                config <- new_mutex!(Config::default(), "iblock::Device::config"),
                open: Slot::new(),
                can_unmap: Atomic::new(false),
                size: Atomic::new(0),
                nowait: Atomic::new(false),
                crew,
                zeroing,
                queues,
            }),
            GFP_KERNEL,
        )
    }
}

impl Backend for Device {
    fn control(&self, value: &Value<'_>) -> Result {
        let mut config = self.config.lock();
        if self.open.with(|_| ()).is_some() {
            return Err(value.reject(EBUSY, fmt!("the device is enabled")));
        }
        config.parse(value)
    }

    fn info(&self, out: &mut dyn Write) -> FmtResult {
        let config = self.config.lock();
        let open = self.open.get();
        if let Some(dev) = &open {
            out.write_fmt(fmt!("iBlock device: {}", dev))?;
        }
        if let Some(path) = &config.path {
            write!(out, "  UDEV PATH: {}", path.to_str().unwrap_or("?"))?;
        }
        writeln!(out, "  readonly: {}", u8::from(config.readonly))?;
        writeln!(out, "  exclusive: {}", u8::from(config.exclusive))?;
        match open.map(|d| d.limits()) {
            Some(l) => writeln!(
                out,
                "        Major: {} Minor: {}  CLAIMED: IBLOCK",
                l.major, l.minor
            ),
            None => writeln!(out, "        Major: 0 Minor: 0"),
        }
    }

    fn enable(&self, dev: &Arc<device::Device>) -> Result<Geometry> {
        let config = self.config.lock();
        let Some(path) = &config.path else {
            pr_err!("{}: udev_path was not written to control\n", dev.path());
            return Err(EINVAL);
        };
        let open =
            BlockDevice::open(path, !config.readonly, config.exclusive).inspect_err(|e| {
                let why = match *e {
                    EBUSY => "it is in use, and exclusive=0 was not written to control",
                    EACCES | EROFS => {
                        "it cannot be written, and readonly=1 was not written to control"
                    }
                    ENOTBLK => "it is no block device",
                    _ => "it cannot be opened",
                };
                pr_err!(
                    "{}: {}: {} (errno {})\n",
                    dev.path(),
                    &**path,
                    why,
                    -e.to_errno()
                );
            })?;
        let geometry = geometry(&open, config.readonly);
        self.can_unmap
            .store(geometry.max_unmap_lba_count > 0, Relaxed);
        self.nowait.store(open.knows_nowait(), Relaxed);
        if let Some(before) = self.open.replace(Some(open)) {
            before.close();
        }
        Ok(geometry)
    }

    fn disable(&self) {
        if let Some(dev) = self.open.replace(None) {
            dev.close();
        }
    }

    fn submit(&self, io: Io) {
        match io.op() {
            _ if io.may_wait() => self.begin(io),
            Op::WriteZeroes { .. } => self.zeroing.push(io),
            // It may become many bios, of which it would not be told which one had to wait.
            Op::Unmap { .. } => self.crew.push(io),
            Op::None | Op::Status { .. } => self.start(io, Wait::Again),
            _ if !self.nowait.load(Relaxed) || self.crew.is_behind() => self.crew.push(io),
            _ => self.start(io, Wait::Again),
        }
    }

    fn begin(&self, io: Io) {
        // A stacked device may have become another one.
        if let Some(nowait) = self.open.with(|dev| dev.knows_nowait()) {
            self.nowait.store(nowait, Relaxed);
        }
        self.start(io, Wait::Sleep)
    }

    fn crew(&self) -> Option<&Arc<Crew>> {
        Some(&self.crew)
    }

    fn let_aborted_go(&self) {
        self.crew.let_aborted_go();
        self.zeroing.let_aborted_go();
    }

    fn bytes(&self) -> u64 {
        let known = self.size.load(Relaxed);
        match self.open.with(|dev| (!dev.is_gone()).then(|| dev.bytes())) {
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

    fn is_gone(&self) -> bool {
        self.open.with(|dev| dev.is_gone()).unwrap_or(true)
    }

    fn write_cache(&self) -> bool {
        self.open.with(|dev| dev.write_cache()).unwrap_or(false)
    }

    fn emulates_write_cache(&self) -> bool {
        false
    }

    fn wipe(&self, pos: u64, what: Wipe) -> Result<(), IoError> {
        let dev = self.open.get().ok_or(IoError::Gone)?;
        let written = match what {
            Wipe::Zeroes(len) => dev.zero(pos, len, true).and_then(|()| flush(dev)),
            Wipe::Data(data) => wait(|done| {
                let data = Written { data, done };
                bio::write(dev, pos, true, Wait::Sleep, data)
            }),
        };
        written.or_else(|e| outcome(Op::Write { pos, fua: true }, e))
    }

    fn flush(&self) -> Result<(), IoError> {
        let dev = self.open.get().ok_or(IoError::Gone)?;
        let op = Op::Flush {
            pos: 0,
            len: u64::MAX,
        };
        flush(dev).or_else(|e| outcome(op, e))
    }

    fn can_unmap(&self) -> bool {
        self.can_unmap.load(Relaxed)
    }
}

impl Device {
    // Hands the operation to the device, or has it come back by `Io::wait`.
    fn start(&self, mut io: Io, wait: Wait) {
        let Some(dev) = self.open.get() else {
            return io.complete(Err(IoError::Gone));
        };
        match io.op() {
            Op::Read { pos, .. } => match noio::scope(|| io.allocate()) {
                Ok(()) => bio::read(dev, pos, wait, Bio(io)),
                Err(_) => io.complete(Err(IoError::Resources)),
            },
            // In two steps, as the block layer does it: so it is known which one failed.
            Op::Write { pos, fua: true } if dev.lacks_fua() => {
                if let Some(later) = Later::flushing(&self.queues, io, dev.clone(), wait) {
                    bio::write(dev, pos, false, wait, later);
                }
            }
            Op::WriteAtomic { pos, fua: true } if dev.lacks_fua() => {
                if let Some(later) = Later::flushing(&self.queues, io, dev.clone(), wait) {
                    bio::write_atomic(dev, pos, false, wait, later);
                }
            }
            Op::Write { pos, fua: true } if dev.flushes_for_fua() => {
                if let Some(later) = Later::new(&self.queues, io) {
                    bio::write(dev, pos, true, wait, later);
                }
            }
            Op::Write { pos, fua } => bio::write(dev, pos, fua, wait, Bio(io)),
            Op::WriteAtomic { pos, fua: true } if dev.flushes_for_fua() => {
                if let Some(later) = Later::new(&self.queues, io) {
                    bio::write_atomic(dev, pos, true, wait, later);
                }
            }
            Op::WriteAtomic { pos, fua } => bio::write_atomic(dev, pos, fua, wait, Bio(io)),
            // A device has no way to flush a range. Without a cache there is nothing to flush.
            Op::Flush { .. } if !dev.write_cache() => bio::flush(dev, wait, Bio(io)),
            Op::Flush { .. } => {
                if let Some(later) = Later::new(&self.queues, io) {
                    bio::flush(dev, wait, later);
                }
            }
            Op::Unmap { pos, len } => bio::discard(dev, pos, len, Bio(io)),
            // Sleeps until it is done: it may turn out at the end that the device can't, and then zeroes are written.
            Op::WriteZeroes { pos, len, unmap } => {
                let result = match noio::scope(|| dev.zero(pos, len, unmap)) {
                    Err(e) if e == EIO && dev.is_gone() => Err(IoError::Gone),
                    r => r.or_else(|e| outcome(io.op(), e)),
                };
                // The device may be closed by whoever hears of the end.
                drop(dev);
                io.complete(result);
            }
            Op::None => io.complete(Err(IoError::Unsupported)),
            // A block device does not tell what it stores.
            Op::Status { len, .. } => {
                io.tell(true, len);
                io.complete(Ok(()))
            }
        }
    }
}

// The numbers are those that the stock module shows for the same device.
fn geometry(dev: &BlockDevice, readonly: bool) -> Geometry {
    let l = dev.limits();
    let block = l.logical_block.max(512);
    let blocks = |sectors: u32| sectors / (block / 512);
    let can_unmap = l.max_discard_sectors > 0;
    let unmap = |n: u32| if can_unmap { n } else { 0 };
    Geometry {
        block_size: block,
        hw_block_size: block,
        hw_max_sectors: blocks(l.max_hw_sectors),
        // The block layer splits what is longer. Tuples in one piece would have to lie in one piece of memory.
        longest: match dev.protection() {
            0 => u32::MAX,
            _ => blocks(l.max_hw_sectors),
        },
        io_min: l.io_min,
        io_opt: l.io_opt,
        hw_queue_depth: l.nr_requests,
        physical_block_exponent: (l.physical_block / block).checked_ilog2().unwrap_or(0) as u8,
        lowest_aligned: u32::try_from(l.alignment_offset)
            .ok()
            .and_then(|a| u16::try_from(a / block).ok())
            .unwrap_or(0),
        max_unmap_lba_count: blocks(l.max_discard_sectors),
        max_unmap_block_desc_count: unmap(1),
        unmap_granularity: unmap(l.discard_granularity / block),
        unmap_granularity_alignment: unmap(l.discard_alignment / block),
        max_write_same_len: match blocks(l.write_zeroes_sectors) {
            0 => 0xffff,
            n => n,
        },
        atomic_max: l.atomic_max,
        atomic_unit: l.atomic_unit,
        unmap_zeroes_data: false,
        rotational: l.rotational,
        read_only: readonly,
        protection: dev.protection(),
    }
}

/// A command's operation on its way through the block layer.
struct Bio(Io);

impl Transfer for Bio {
    fn buffer(&self) -> &Buffer {
        self.0.data()
    }

    fn protection(&self) -> Option<&Buffer> {
        self.0.protection()
    }

    fn done(self, result: Result<usize>) {
        let result = self::result(self.0.op(), result);
        self.0.complete(result);
    }

    fn again(self, in_part: bool) {
        self.0.wait(in_part);
    }
}

/// What a block device's answer to `op` means.
pub(crate) fn result(op: Op, result: Result<usize>) -> Result<(), IoError> {
    result.map(|_| ()).or_else(|e| outcome(op, e))
}

/// What a block device's error means for `op`.
fn outcome(op: Op, e: Error) -> Result<(), IoError> {
    match e {
        // To discard is a hint: a device that doesn't care has done its part.
        EOPNOTSUPP if matches!(op, Op::Unmap { .. }) => Ok(()),
        EILSEQ => Err(IoError::Protection),
        // Memory that the device can't take, not a wrong position: that was checked.
        EINVAL => Err(IoError::Medium),
        e => Err(e.into()),
    }
}

/// The end of an operation that somebody waits for.
#[pin_data]
struct End {
    // An errno, or `PENDING`.
    result: Atomic<i32>,
    #[pin]
    wait: WaitQueue,
}

const PENDING: i32 = 1;

/// An operation with data of nobody's command.
struct Written {
    data: Arc<Buffer>,
    done: Arc<End>,
}

impl Transfer for Written {
    fn buffer(&self) -> &Buffer {
        &self.data
    }

    fn done(self, result: Result<usize>) {
        let errno = result.err().map_or(0, |e| e.to_errno());
        self.done.result.store(errno, Release);
        self.done.wait.wake_all();
    }
}

// Begins an operation, and waits for its end.
fn wait(begin: impl FnOnce(Arc<End>)) -> Result {
    let end = Arc::pin_init(
        pin_init!(End {
            result: Atomic::new(PENDING),
            wait <- WaitQueue::new(),
        }),
        GFP_KERNEL,
    )?;
    begin(end.clone());
    end.wait
        .wait_forever(|| end.result.load(Acquire) != PENDING);
    match end.result.load(Acquire) {
        0 => Ok(()),
        errno => Err(Error::from_errno(errno)),
    }
}

fn flush(dev: BlockDevice) -> Result {
    let data = Arc::new(Buffer::new(), GFP_KERNEL)?;
    wait(|done| bio::flush(dev, Wait::Sleep, Written { data, done }))
}
