// SPDX-License-Identifier: GPL-2.0

//! Files, as storage: regular files and block devices through the page cache or past it.

use crate::{
    bdev::{self, Limits},
    buffer::{Buffer, PageRef},
    noio, sys,
    transfer::Transfer,
};
use core::{cell::UnsafeCell, mem::ManuallyDrop, ptr::NonNull};
use kernel::{
    bindings,
    error::{code, to_result, Error},
    page::PAGE_SIZE,
    prelude::*,
    str::CStr,
    sync::{rcu, Refcount},
    types::Opaque,
};

/// Pages that are looked up at once.
const BATCH: usize = 16;

/// An open file: a regular one or a block device.
///
/// # Invariants
/// The pointer is an open file, whose reference this owns.
pub struct File(NonNull<bindings::file>);

// SAFETY: A file may be used from any thread; its position is never used.
unsafe impl Send for File {}
// SAFETY: As above.
unsafe impl Sync for File {}

/// How a write ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// In the page cache, or in the device's own cache.
    Cached,
    /// Durable.
    Durable,
}

impl Durability {
    fn flags(self) -> u32 {
        match self {
            Durability::Cached => 0,
            Durability::Durable => sys::LIO_RW_DSYNC,
        }
    }
}

impl File {
    /// Opens the file or block device at `path`, seen from the calling process's root; one that is opened for
    /// writing and is not there is made, for its owner alone. May sleep.
    ///
    /// # Errors
    /// `EISDIR`, `EINVAL` where it is something else; `EROFS`, `EACCES` and the like.
    pub fn open(path: &CStr, write: bool) -> Result<Self> {
        let mut file = core::ptr::null_mut();
        // SAFETY: `path` is a C string; `file` is written before success is returned.
        to_result(unsafe { sys::lio_file_open(path.as_char_ptr(), write, &mut file) })?;
        // INVARIANT: `lio_file_open` gave the reference to us.
        Ok(File(NonNull::new(file).ok_or(code::ENOENT)?))
    }

    /// Takes over a reference.
    ///
    /// # Safety
    /// The caller owns a reference on the open file, and gives it up.
    pub(crate) unsafe fn from_raw(file: NonNull<bindings::file>) -> Self {
        // INVARIANT: As the caller guarantees.
        File(file)
    }

    pub(crate) fn as_ptr(&self) -> *mut bindings::file {
        self.0.as_ptr()
    }

    fn traits(&self) -> u32 {
        // SAFETY: By the invariant the file is open.
        unsafe { sys::lio_file_traits(self.as_ptr()) }
    }

    /// Whether the file lies in memory (tmpfs): operations on it do not wait for a disk.
    pub fn in_memory(&self) -> bool {
        self.traits() & sys::LIO_FILE_MEMORY != 0
    }

    /// Whether [`Self::lend`] can work.
    pub fn can_lend(&self) -> bool {
        self.traits() & sys::LIO_FILE_CACHED != 0
    }

    /// Whether [`Self::read_cached`] can work.
    pub fn knows_nowait(&self) -> bool {
        self.traits() & sys::LIO_FILE_NOWAIT != 0
    }

    /// Whether the file can be read and written past the page cache.
    pub fn knows_direct(&self) -> bool {
        self.traits() & sys::LIO_FILE_DIRECT != 0
    }

    /// The size in bytes now.
    pub fn size(&self) -> u64 {
        // SAFETY: By the invariant the file is open.
        unsafe { sys::lio_file_size(self.as_ptr()) }
    }

    /// Bytes that the file system has left, for this file and all others, and bytes that this file uses; `None` where that
    /// is not known.
    pub fn space(&self) -> Option<(u64, u64)> {
        let (mut available, mut used) = (0, 0);
        // SAFETY: By the invariant the file is open; both numbers are written.
        let known = unsafe { sys::lio_file_space(self.as_ptr(), &mut available, &mut used) };
        known.then_some((available, used))
    }

    /// The limits of the block device that the file is, or `None` for a regular file.
    pub fn block_limits(&self) -> Option<Limits> {
        // SAFETY: By the invariant the file is open.
        let bdev = NonNull::new(unsafe { sys::lio_file_bdev(self.as_ptr()) })?;
        // The file keeps the device open.
        Some(bdev::limits(bdev))
    }

    /// Whether the block device that the file is was removed from the system.
    pub fn is_gone(&self) -> bool {
        // SAFETY: By the invariant the file is open, and it keeps the device open.
        unsafe {
            let bdev = sys::lio_file_bdev(self.as_ptr());
            !bdev.is_null() && sys::lio_bdev_gone(bdev)
        }
    }

    // `skip` bytes of `data` are done already. Returns what was done in this call.
    fn rw(&self, pos: u64, data: &Buffer, skip: usize, flags: u32) -> Result<usize> {
        let pos = i64::try_from(pos).map_err(|_| code::EFBIG)?;
        let len = data.len();
        if skip > len || pos.checked_add_unsigned(len as u64).is_none() {
            return Err(code::EINVAL);
        }
        let segs = data.segs();
        // SAFETY: The file is open; `Seg` is a transparent `bio_vec`, and the segments are `len` bytes of valid memory.
        let n = unsafe {
            sys::lio_file_rw(
                self.as_ptr(),
                pos,
                segs.as_ptr().cast(),
                segs.len(),
                len,
                skip,
                flags,
            )
        };
        count(n)
    }

    /// Reads into `data` what the file has from `pos` on, but for its first `skip` bytes. Returns how many bytes it
    /// read: fewer at the file's end, or if an error follows. May wait for the disk.
    ///
    /// # Errors
    /// The file system's.
    pub fn read(&self, pos: u64, data: &Buffer, skip: usize) -> Result<usize> {
        self.rw(pos, data, skip, 0)
    }

    /// As [`Self::read`], only what is in memory, without I/O and without waiting for a lock.
    ///
    /// # Errors
    /// `EAGAIN` if that is nothing.
    pub fn read_cached(&self, pos: u64, data: &Buffer) -> Result<usize> {
        self.rw(pos, data, 0, sys::LIO_RW_CACHED)
    }

    /// Writes `data` at `pos`, but for its first `skip` bytes. Returns how many bytes it wrote: fewer if an error
    /// follows. May wait for the disk.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, pos: u64, data: &Buffer, skip: usize, sync: Durability) -> Result<usize> {
        self.rw(pos, data, skip, sys::LIO_RW_WRITE | sync.flags())
    }

    /// Appends to `data` the pages of the page cache that hold `len` bytes of the file from `pos` on. `false` if not all
    /// of them are there and up to date; `data` is then as it was before, which is empty.
    ///
    /// The pages' contents follow later writes to the file.
    ///
    /// # Errors
    /// `ENOMEM`; `data` is empty.
    pub fn lend(&self, pos: u64, len: usize, data: &mut Buffer) -> Result<bool> {
        let r = self.lend_all(pos, len, data);
        if !matches!(r, Ok(true)) {
            data.clear();
        }
        r
    }

    fn lend_all(&self, pos: u64, len: usize, data: &mut Buffer) -> Result<bool> {
        if len == 0 || !data.is_empty() || !self.can_lend() {
            return Ok(false);
        }
        let Some(end) = pos.checked_add(len as u64) else {
            return Ok(false);
        };
        let page = PAGE_SIZE as u64;
        let mut at = pos;
        while at < end {
            let want = (end.div_ceil(page) - at / page).min(BATCH as u64) as usize;
            let mut pages = [core::ptr::null_mut(); BATCH];
            // SAFETY: The file is open, and `want` pages find room in `pages`.
            let got = unsafe {
                sys::lio_file_lend(
                    self.as_ptr(),
                    (at / page) as usize,
                    want as u32,
                    pages.as_mut_ptr(),
                )
            } as usize;
            let refs = pages.iter().take(got).filter_map(|p| NonNull::new(*p));
            // All references are taken over before anything can fail.
            let mut lent: [Option<PageRef>; BATCH] = [const { None }; BATCH];
            for (slot, p) in lent.iter_mut().zip(refs) {
                // SAFETY: `lio_file_lend` gave a reference to us with each page.
                *slot = Some(unsafe { PageRef::from_raw(p) });
            }
            for p in lent.into_iter().flatten() {
                let off = (at % page) as usize;
                let n = (PAGE_SIZE - off).min((end - at) as usize);
                data.push(p, off, n)?;
                at += n as u64;
            }
            if got < want {
                return Ok(false);
            }
        }
        // The size counts once the pages are known to be up to date: what is behind the end of the file isn't its data.
        Ok(end <= self.size())
    }

    /// Copies `len` bytes at `pos` of `from` to `at` of this file, within the file system. Returns how many were copied: fewer at the
    /// end of `from`, or if an error follows. May wait for the disk.
    ///
    /// # Errors
    /// The file system's; `EXDEV`, `EOPNOTSUPP` or `EINVAL` where it cannot, or not for these bytes.
    pub fn copy_range(&self, at: u64, from: &File, pos: u64, len: u64) -> Result<u64> {
        let signed = |n| i64::try_from(n).map_err(|_| code::EFBIG);
        let (pos, at) = (signed(pos)?, signed(at)?);
        // SAFETY: By the invariant both files are open.
        let n = unsafe { sys::lio_file_copy(from.as_ptr(), pos, self.as_ptr(), at, len as usize) };
        Ok(count(n)? as u64)
    }

    /// Makes what was written to `len` bytes from `pos` on durable, or from `pos` to the end if `len` is `u64::MAX`.
    ///
    /// # Errors
    /// The file system's, also for data that it failed to write since it was last asked.
    pub fn sync(&self, pos: u64, len: u64) -> Result {
        let end = i64::try_from(pos.saturating_add(len).saturating_sub(1)).unwrap_or(i64::MAX);
        let start = i64::try_from(pos).unwrap_or(i64::MAX);
        // SAFETY: By the invariant the file is open.
        to_result(unsafe { sys::lio_file_sync(self.as_ptr(), start, end) })
    }

    /// How many times the file's data could not be written back, as a mark for [`Self::failed_since`].
    pub fn failures(&self) -> u32 {
        // SAFETY: By the invariant the file is open.
        unsafe { sys::lio_file_errors(self.as_ptr()) }
    }

    /// Whether any of the file's data could not be written back since the mark was taken. [`Self::sync`] and durable
    /// writes tell only one of those that wait at the same time.
    ///
    /// # Errors
    /// Why it could not.
    pub fn failed_since(&self, mark: u32) -> Result {
        // SAFETY: By the invariant the file is open.
        to_result(unsafe { sys::lio_file_error_since(self.as_ptr(), mark) })
    }

    /// Whether the file system keeps data at `pos`, and where that changes: the end of the file at most, where nothing follows.
    ///
    /// # Errors
    /// The file system's.
    pub fn run(&self, pos: u64) -> Result<(bool, u64)> {
        let pos = i64::try_from(pos).map_err(|_| code::EFBIG)?;
        let mut data = false;
        // SAFETY: By the invariant the file is open; `data` is written.
        let next = unsafe { sys::lio_file_run(self.as_ptr(), pos, &mut data) };
        match u64::try_from(next) {
            Ok(next) => Ok((data, next)),
            Err(_) => Err(Error::from_errno(i32::try_from(next).unwrap_or(-5))),
        }
    }

    /// Has a range read as zeroes, and gives its space back.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where the file system or device can't.
    pub fn punch(&self, pos: u64, len: u64) -> Result {
        let (pos, len) = range(pos, len)?;
        // SAFETY: By the invariant the file is open.
        to_result(unsafe { sys::lio_file_punch(self.as_ptr(), pos, len) })
    }

    /// Makes a regular file `len` bytes long. May wait for the disk.
    ///
    /// # Errors
    /// The file system's; those of a process that may not.
    pub fn truncate(&self, len: u64) -> Result {
        let (_, len) = range(0, len)?;
        // SAFETY: By the invariant the file is open.
        to_result(unsafe { sys::lio_file_truncate(self.as_ptr(), len) })
    }

    /// Tells the block device that the file is that a range is not needed any more. It may read as anything.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for a regular file.
    pub fn discard(&self, pos: u64, len: u64) -> Result {
        let (pos, len) = range(pos, len)?;
        if len == 0 || (pos | len) & 511 != 0 {
            return Err(code::EINVAL);
        }
        // SAFETY: By the invariant the file is open; the range is not empty.
        to_result(unsafe { sys::lio_file_discard(self.as_ptr(), pos, len) })
    }

    /// Has a range read as zeroes, and keeps its space.
    ///
    /// # Errors
    /// `EOPNOTSUPP` or `EINVAL` where the file system or device can't: [`Self::write_zeroes`] can.
    pub fn zero(&self, pos: u64, len: u64) -> Result {
        let (pos, len) = range(pos, len)?;
        // SAFETY: By the invariant the file is open.
        to_result(unsafe { sys::lio_file_zero(self.as_ptr(), pos, len) })
    }

    /// Writes zeroes, through the page cache. May wait for the disk.
    ///
    /// # Errors
    /// The file system's.
    pub fn write_zeroes(&self, pos: u64, len: u64) -> Result {
        let (pos, len) = range(pos, len)?;
        // SAFETY: By the invariant the file is open.
        to_result(unsafe { sys::lio_file_write_zeroes(self.as_ptr(), pos, len) })
    }

    /// Reads into the transfer's buffer past the page cache, where file system and device can. May wait for locks, not
    /// for the data. It reads fewer bytes at the file's end; `EINVAL` if memory or position are not aligned for it.
    pub fn read_direct<T: Transfer>(&self, pos: u64, transfer: T) {
        self.aio(pos, 0, transfer)
    }

    /// Writes the transfer's buffer past the page cache, as [`Self::read_direct`] reads.
    pub fn write_direct<T: Transfer>(&self, pos: u64, sync: Durability, transfer: T) {
        self.aio(pos, sys::LIO_RW_WRITE | sync.flags(), transfer)
    }

    fn aio<T: Transfer>(&self, pos: u64, flags: u32, transfer: T) {
        let Ok(pos) = i64::try_from(pos) else {
            return transfer.done(Err(code::EFBIG));
        };
        let Ok(a) = noio::scope(|| KBox::<Aio<T>>::new_uninit(GFP_KERNEL)) else {
            return transfer.done(Err(code::ENOMEM));
        };
        let a = KBox::write(
            a,
            Aio {
                iocb: Opaque::uninit(),
                users: Refcount::new(2),
                _file: self.clone(),
                transfer: ManuallyDrop::new(transfer),
            },
        );
        let direct = if self.knows_direct() {
            sys::LIO_RW_DIRECT
        } else {
            0
        };
        let raw = KBox::into_raw(a);
        // The buffer is asked for once: nothing holds the implementation to give the same one twice.
        // SAFETY: `raw` is alive until the end of this function, and nobody else uses it before the call.
        let (segs, len) = unsafe {
            let b = (*raw).transfer.buffer();
            (b.segs(), b.len())
        };
        let iocb = raw.cast::<bindings::kiocb>();
        // SAFETY: The file is open; `Seg` is a transparent `bio_vec`; the segments are the transfer's, which stays where it
        // is, untouched, until it ends, and `iocb` is the request's, which also outlives the call.
        let n = unsafe {
            sys::lio_file_aio(
                iocb,
                self.as_ptr(),
                pos,
                segs.as_ptr().cast(),
                segs.len(),
                len,
                flags | direct,
                Some(ended::<T>),
            )
        };
        if n != -(bindings::EIOCBQUEUED as isize) {
            // SAFETY: It was not queued, so that `ended` is not called.
            unsafe { Aio::end(raw, n) }
        }
        // SAFETY: The second user is this function.
        unsafe { Aio::put(raw) }
    }
}

impl Clone for File {
    fn clone(&self) -> Self {
        // SAFETY: By the invariant the file is open.
        unsafe { bindings::get_file(self.as_ptr()) };
        // INVARIANT: A reference was just taken.
        File(self.0)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: By the invariant the reference is ours; this may come from any context.
        unsafe { bindings::fput(self.as_ptr()) }
    }
}

/// Where an open file is kept for all to use, until it is taken out to be closed. Users take a reference of their own,
/// without a lock, or look at it without one.
///
/// # Invariants
/// The pointer is null or an open file, whose reference the slot owns. It goes no sooner than a grace period of RCU after the pointer.
pub struct Slot(UnsafeCell<*mut bindings::file>);

// SAFETY: The pointer is only read and written by atomic operations; files may be used from any thread.
unsafe impl Send for Slot {}
// SAFETY: As above.
unsafe impl Sync for Slot {}

impl Slot {
    /// An empty slot.
    pub const fn new() -> Self {
        Slot(UnsafeCell::new(core::ptr::null_mut()))
    }

    /// The file, if there is one. Any context.
    #[inline]
    pub fn get(&self) -> Option<File> {
        // SAFETY: By the invariant; files are memory of that type until an RCU grace period has passed, and the
        // function makes sure that it took the reference on the file that the slot holds.
        NonNull::new(unsafe { sys::lio_file_slot_get(self.0.get()) }).map(File)
    }

    /// Looks at the file, if there is one, without writing to what all share. `f` must not sleep. Any context.
    #[inline]
    pub fn with<R>(&self, f: impl FnOnce(&File) -> R) -> Option<R> {
        let _guard = rcu::read_lock();
        // SAFETY: The pointer is only written by atomic operations.
        let file = NonNull::new(unsafe { sys::lio_file_slot_peek(self.0.get()) })?;
        // By the invariant it is open until the guard goes; the reference is not ours.
        Some(f(&ManuallyDrop::new(File(file))))
    }

    /// Puts a file in, and gives back what was there. Whoever drops that closes it, once its users are done. Sleeps.
    pub fn replace(&self, file: Option<File>) -> Option<File> {
        let new = file.map_or(core::ptr::null_mut(), |f| ManuallyDrop::new(f).as_ptr());
        // SAFETY: The reference of `new` goes to the slot, that of the result comes from it.
        let old = NonNull::new(unsafe { sys::lio_file_slot_replace(self.0.get(), new) })?;
        // Whoever looks at it has no reference.
        rcu::synchronize_rcu();
        Some(File(old))
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        drop(self.replace(None));
    }
}

fn range(pos: u64, len: u64) -> Result<(i64, i64)> {
    match (i64::try_from(pos), i64::try_from(len)) {
        (Ok(p), Ok(l)) if p.checked_add(l).is_some() => Ok((p, l)),
        _ => Err(code::EFBIG),
    }
}

fn count(n: isize) -> Result<usize> {
    usize::try_from(n).map_err(|_| Error::from_errno(i32::try_from(n).unwrap_or(-5)))
}

/// Whether the current task may do work on a file system now: it isn't in the middle of another one's or of
/// another block device's. [`File::read_cached`] and [`File::lend`] are harmless in any case.
pub fn may_work_here() -> bool {
    // SAFETY: Looks at the current task only.
    unsafe { sys::lio_file_may_inline() }
}

/// An operation that ends later. The kiocb comes first: its address is the request's.
///
/// It has two users: the operation, until it has ended, and who began it, until the file system's function has returned: that
/// may look at the kiocb when the operation has ended already (`file_accessed()` in ext4 and xfs).
#[repr(C)]
struct Aio<T> {
    iocb: Opaque<bindings::kiocb>,
    users: Refcount,
    // Keeps it open.
    _file: File,
    // Gone when the operation has ended.
    transfer: ManuallyDrop<T>,
}

impl<T: Transfer> Aio<T> {
    /// # Safety
    /// `this` is alive, with the operation as one of its users, which has ended. Called once.
    unsafe fn end(this: *mut Self, n: isize) {
        // SAFETY: Taken once: nobody looks at it again.
        let transfer = unsafe { ManuallyDrop::take(&mut (*this).transfer) };
        // SAFETY: As the caller guarantees.
        unsafe { Self::put(this) };
        transfer.done(count(n))
    }

    /// # Safety
    /// `this` is alive, the caller is one of its users, and has no more to do with it.
    unsafe fn put(this: *mut Self) {
        // SAFETY: As the caller guarantees.
        if unsafe { (*this).users.dec_and_test() } {
            // SAFETY: It came from `KBox::into_raw`, and nobody else uses it any more.
            drop(unsafe { KBox::from_raw(this) })
        }
    }
}

/// # Safety
/// `iocb` is the first field of an `Aio<T>` that `File::aio` queued, and has ended.
unsafe extern "C" fn ended<T: Transfer>(iocb: *mut bindings::kiocb, n: kernel::ffi::c_long) {
    // SAFETY: As the caller guarantees.
    unsafe { sys::lio_file_aio_done(iocb) };
    // SAFETY: As the caller guarantees; the operation is a user until here.
    unsafe { Aio::end(iocb.cast::<Aio<T>>(), n) }
}
