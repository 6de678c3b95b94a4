// SPDX-License-Identifier: GPL-2.0

//! RAM disks: `core/rd_mcp_N/NAME`.
//!
//! Sparse: a page is made when it is first written to. Reads are answered with the pages themselves, where the fabric
//! can send them; where it brings memory of its own they are copied into that. With `rd_nullio` nothing is kept: writes are
//! forgotten, and reads give zeroes, or leave memory that the fabric brought as it was (as null_blk does).

use crate::{
    backend::{Backend, Geometry, Io, IoError, Kind, Op, ReadCache, Space, Wipe},
    device::Device,
};
use core::fmt;
use kernel::{
    error::code::*,
    new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc, Mutex,
    },
};
use lio_configfs::Value;
use lio_glue::{noio, page_store::PageStore};
use lio_scsi::pi::TUPLE;

/// The kind of back end, for [`crate::registry::register_backend`].
pub(crate) static KIND: Ramdisks = Ramdisks;

/// See [`KIND`].
pub(crate) struct Ramdisks;

impl Kind for Ramdisks {
    fn name(&self) -> &'static str {
        "rd_mcp"
    }

    fn product(&self) -> &'static str {
        "RAMDISK-MCP"
    }

    fn create(&self) -> Result<Arc<dyn Backend>> {
        Ok(Arc::pin_init(
            try_pin_init!(Ramdisk {
                settings <- new_mutex!(Settings::default(), "Ramdisk::settings"),
                bytes: Atomic::new(0),
                nullio: Atomic::new(0),
                store <- PageStore::new(),
                protected: Atomic::new(0),
                protection <- PageStore::new(),
                whole <- new_mutex!((), "Ramdisk::whole"),
            }? Error),
            GFP_KERNEL,
        )?)
    }
}

/// What `control` sets.
#[derive(Clone, Copy, Default)]
struct Settings {
    pages: Option<u32>,
    nullio: bool,
    /// The number of tables that the stock module would have made when the disk was enabled, for `info`.
    tables: u32,
    /// The number in `rd_mcp_N`, known when the disk is enabled.
    id: u32,
}

/// One RAM disk.
#[pin_data]
struct Ramdisk {
    #[pin]
    settings: Mutex<Settings>,
    bytes: Atomic<u64>,
    // Whether `rd_nullio` was set when the disk was enabled.
    nullio: Atomic<u32>,
    #[pin]
    store: PageStore,
    // Bytes of a block that has protection information; 0: none has.
    protected: Atomic<u32>,
    // The protection information, inverted: what is not there is FFh.
    #[pin]
    protection: PageStore,
    // Held while blocks are read or written with their protection information, so that the two belong together.
    #[pin]
    whole: Mutex<()>,
}

/// Scatterlist entries in one of the stock module's tables.
const TABLE_PAGES: u32 = 2048;

impl Settings {
    // `item` is a part of `control`, which refuses it.
    fn set(&mut self, item: &str, control: &Value<'_>) -> Result {
        let Some((key, value)) = item.split_once('=') else {
            return Err(control.reject(EINVAL, fmt!("'{item}' is not key=value")));
        };
        let number = |most: u32| -> Result<u32> {
            let n = value.trim().parse().ok().filter(|n| *n <= most);
            n.ok_or_else(|| {
                control.reject(EINVAL, fmt!("{item}: a number from 0 to {most} is wanted"))
            })
        };
        match key.trim() {
            "rd_pages" => self.pages = Some(number(i32::MAX.unsigned_abs())?),
            "rd_nullio" => self.nullio = number(1)? == 1,
            "rd_dummy" => {
                if number(1)? == 1 {
                    return Err(control.reject(EOPNOTSUPP, fmt!("rd_dummy is not implemented")));
                }
            }
            _ => {
                return Err(control.reject(
                    EINVAL,
                    fmt!("'{key}' is none of rd_pages, rd_nullio, rd_dummy"),
                ))
            }
        }
        Ok(())
    }

    fn count_tables(&mut self, pages: u32) {
        if !self.nullio {
            self.tables = (pages / TABLE_PAGES).saturating_add(1);
        }
    }
}

impl Ramdisk {
    fn is_null(&self) -> bool {
        self.nullio.load(Relaxed) != 0
    }

    fn read(&self, io: &mut Io, pos: u64, len: u32) -> Result {
        let lend = io.may_lend();
        if !lend {
            noio::scope(|| io.allocate())?;
        }
        match (lend, self.is_null()) {
            (true, false) => self.store.lend(pos, len as usize, io.data_mut()),
            // Nothing was ever written: all of it is the page of zeroes.
            (true, true) => self.store.lend(0, len as usize, io.data_mut()),
            (false, false) => self.store.read(pos, io.data()),
            (false, true) => {
                if !io.data().is_borrowed() {
                    io.data().zero(0, io.data().len());
                }
                Ok(())
            }
        }
    }

    // Gives an enabled disk its new size. What initiators see of it changes at once.
    fn resize(&self, old: &Settings, new: &mut Settings, control: &Value<'_>) -> Result {
        if new.nullio != old.nullio {
            return Err(control.reject(
                EBUSY,
                fmt!("rd_nullio cannot change while the disk is enabled"),
            ));
        }
        let Some(pages) = new.pages.filter(|pages| *pages != 0) else {
            return Err(control.reject(EINVAL, fmt!("an enabled disk has one page at least")));
        };
        new.count_tables(pages);
        let bytes = u64::from(pages).saturating_mul(PAGE_SIZE as u64);
        let before = self.bytes();
        if bytes < before {
            self.bytes.store(bytes, Relaxed);
        }
        // Of a write that was under way when the disk shrank something may have stayed: what is new is empty.
        let end = bytes.min(before);
        self.store.discard(end, u64::MAX.saturating_sub(end))?;
        self.forget_protection(end, u64::MAX.saturating_sub(end))?;
        self.bytes.store(bytes, Relaxed);
        Ok(())
    }

    // What is kept beside the `len` bytes from `pos` on becomes FFh.
    fn forget_protection(&self, pos: u64, len: u64) -> Result {
        match self.protected.load(Relaxed) {
            0 => Ok(()),
            block => self
                .protection
                .discard(protection_of(pos, block), protection_of(len, block)),
        }
    }

    // Does `io` on blocks that have protection information.
    fn run_protected(&self, io: &mut Io, block: u32) -> Result<(), IoError> {
        let _whole = self.whole.lock();
        self.run_plain(io)?;
        let (pos, len) = match io.op() {
            Op::Read { pos, .. } => {
                if let Some(tuples) = io.protection() {
                    self.protection.read(protection_of(pos, block), tuples)?;
                    tuples.invert();
                }
                return Ok(());
            }
            Op::Write { pos, .. } | Op::WriteAtomic { pos, .. } => (pos, io.data().len() as u64),
            Op::Unmap { pos, len } | Op::WriteZeroes { pos, len, .. } => (pos, len),
            Op::Flush { .. } | Op::Status { .. } | Op::None => return Ok(()),
        };
        if self.is_null() {
            return Ok(());
        }
        match (io.op(), io.protection()) {
            (Op::Write { .. }, Some(tuples)) => {
                tuples.invert();
                let written = self.protection.write(protection_of(pos, block), tuples);
                tuples.invert();
                written?
            }
            _ => self.forget_protection(pos, len)?,
        }
        Ok(())
    }

    fn run(&self, io: &mut Io) -> Result<(), IoError> {
        match self.protected.load(Relaxed) {
            0 => self.run_plain(io),
            block => noio::scope(|| self.run_protected(io, block)),
        }
    }

    fn run_plain(&self, io: &mut Io) -> Result<(), IoError> {
        match io.op() {
            Op::Read { pos, len } => self.read(io, pos, len)?,
            Op::Flush { .. } | Op::None => (),
            Op::Status { len, .. } if self.is_null() => io.tell(false, len),
            Op::Status { pos, len } => {
                let (mapped, bytes) = self.store.run(pos, len);
                io.tell(mapped, bytes)
            }
            _ if self.is_null() => (),
            Op::Write { pos, .. } => self.store.write(pos, io.data())?,
            Op::WriteAtomic { .. } => return Err(IoError::Unsupported),
            Op::Unmap { pos, len } | Op::WriteZeroes { pos, len, .. } => {
                self.store.discard(pos, len)?
            }
        }
        Ok(())
    }
}

/// Bytes of protection information for `bytes` bytes in blocks of `block`; a block's begins at that of its first byte.
fn protection_of(bytes: u64, block: u32) -> u64 {
    (bytes / u64::from(block.max(1))).saturating_mul(TUPLE as u64)
}

impl Backend for Ramdisk {
    fn control(&self, value: &Value<'_>) -> Result {
        let text = value.str()?;
        let mut settings = self.settings.lock();
        // All of it or nothing.
        let mut new = *settings;
        for item in text.split([',', '\n']).map(str::trim) {
            if !item.is_empty() {
                new.set(item, value)?;
            }
        }
        if self.bytes() != 0 {
            self.resize(&settings, &mut new, value)?;
        }
        *settings = new;
        Ok(())
    }

    fn info(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let settings = *self.settings.lock();
        writeln!(
            out,
            "TCM RamDisk ID: {}  RamDisk Makeup: rd_mcp",
            settings.id
        )?;
        writeln!(
            out,
            "        PAGES/PAGE_SIZE: {}*{PAGE_SIZE}  SG_table_count: {}  nullio: {} dummy: 0",
            settings.pages.unwrap_or(0),
            settings.tables,
            u8::from(settings.nullio),
        )
    }

    fn enable(&self, dev: &Arc<Device>) -> Result<Geometry> {
        let mut settings = self.settings.lock();
        let Some(pages) = settings.pages.filter(|pages| *pages != 0) else {
            pr_err!("{}: rd_pages is not set\n", dev.path());
            return Err(EINVAL);
        };
        settings.count_tables(pages);
        let hba = dev.hba().name().to_str().unwrap_or_default();
        settings.id = hba
            .rsplit('_')
            .next()
            .and_then(|id| id.parse().ok())
            .unwrap_or(0);
        self.nullio.store(settings.nullio.into(), Relaxed);
        self.bytes
            .store(u64::from(pages).saturating_mul(PAGE_SIZE as u64), Relaxed);
        Ok(Geometry {
            block_size: 512,
            hw_block_size: 512,
            hw_max_sectors: u32::MAX & !7,
            longest: u32::MAX,
            io_min: 0,
            io_opt: 0,
            hw_queue_depth: 128,
            physical_block_exponent: 0,
            lowest_aligned: 0,
            max_unmap_lba_count: 0,
            max_unmap_block_desc_count: 0,
            unmap_granularity: 0,
            unmap_granularity_alignment: 0,
            max_write_same_len: 0,
            atomic_max: 0,
            atomic_unit: 0,
            unmap_zeroes_data: false,
            rotational: false,
            read_only: false,
            protection: 0,
        })
    }

    fn disable(&self) {
        self.bytes.store(0, Relaxed);
        // The position of a disk's last byte is a valid one, so this cannot fail.
        let _ = self.store.discard(0, u64::MAX);
        let _ = self.protection.discard(0, u64::MAX);
    }

    fn submit(&self, mut io: Io) {
        let result = self.run(&mut io);
        io.complete(result);
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    fn write_cache(&self) -> bool {
        false
    }

    fn wipe(&self, pos: u64, what: Wipe) -> Result<(), IoError> {
        if self.is_null() {
            return Ok(());
        }
        let len = match what {
            Wipe::Zeroes(len) => {
                self.store.discard(pos, len)?;
                len
            }
            Wipe::Data(data) => {
                self.store.write(pos, &data)?;
                data.len() as u64
            }
        };
        Ok(self.forget_protection(pos, len)?)
    }

    fn can_protect(&self) -> bool {
        true
    }

    fn set_protection(&self, block: Option<u32>) -> Result {
        self.protected.store(block.unwrap_or(0), Relaxed);
        self.format_protection()
    }

    fn format_protection(&self) -> Result {
        self.protection.discard(0, u64::MAX)
    }

    fn space(&self) -> Option<Space> {
        if self.is_null() {
            return None;
        }
        let bytes = |pages: usize| (pages as u64).saturating_mul(PAGE_SIZE as u64);
        let used = bytes(self.store.pages());
        Some(Space {
            // No more than it can ever need.
            available: bytes(PageStore::room()).min(self.bytes().saturating_sub(used)),
            used,
        })
    }

    // It is as durable as it gets.
    fn flush(&self) -> Result<(), IoError> {
        Ok(())
    }

    fn read_cache(&self) -> ReadCache {
        ReadCache::All
    }

    fn can_unmap(&self) -> bool {
        true
    }

    fn unmapped_is_zero(&self) -> bool {
        true
    }
}
