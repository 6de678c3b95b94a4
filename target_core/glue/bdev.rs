// SPDX-License-Identifier: GPL-2.0

//! Block devices, opened by path.

use crate::{
    file::{self, File},
    sys, //
};
use core::{
    mem::{ManuallyDrop, MaybeUninit},
    ptr::NonNull,
};
use kernel::{
    bindings,
    error::{code, to_result},
    fmt,
    prelude::*,
    str::CStr,
    sync::atomic::{Atomic, Relaxed},
};

/// An open block device. Reads and writes are [`crate::bio`]'s.
///
/// # Invariants
/// `file` is a block device's file, and `bdev` is its device.
#[derive(Clone)]
pub struct BlockDevice {
    file: File,
    bdev: NonNull<bindings::block_device>,
}

// SAFETY: A file's reference and the device under it may be used from any thread.
unsafe impl Send for BlockDevice {}
// SAFETY: As above.
unsafe impl Sync for BlockDevice {}

/// Limits of a block device, as stacked by the layers below it. Sectors are of 512 bytes here, as in all of the
/// kernel's block layer.
pub type Limits = sys::lio_bdev_limits;

impl BlockDevice {
    /// Opens the device at `path`, seen from the calling process's root. An `exclusive` claim keeps out file
    /// systems, other claims, and what else wants the device for itself. May sleep.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTBLK`, `ENXIO` where there is no such device; `EBUSY` if it is claimed already; `EACCES` if it
    /// cannot be written.
    pub fn open(path: &CStr, write: bool, exclusive: bool) -> Result<Self> {
        // A claim's identity is compared and never dereferenced. One identity may claim a device twice, so each
        // claim has its own, which is never used again: the claim may outlive this value by a moment. Odd, so
        // that it is no object's address.
        static NEXT: Atomic<u64> = Atomic::new(1);
        let holder = if exclusive {
            core::ptr::without_provenance_mut(NEXT.fetch_add(2, Relaxed) as usize)
        } else {
            core::ptr::null_mut()
        };
        let mut file = core::ptr::null_mut();
        // SAFETY: `path` is a C string; `file` is written before success is returned.
        to_result(unsafe { sys::lio_bdev_open(path.as_char_ptr(), write, holder, &mut file) })?;
        let file = NonNull::new(file).ok_or(code::ENODEV)?;
        // SAFETY: `lio_bdev_open` gave the reference to us.
        let file = unsafe { File::from_raw(file) };
        // SAFETY: It is a block device's.
        unsafe { Self::from_file(file) }.ok_or(code::ENODEV)
    }

    /// # Safety
    /// `file` was opened as a block device's.
    unsafe fn from_file(file: File) -> Option<Self> {
        // SAFETY: As the caller guarantees.
        let bdev = NonNull::new(unsafe { bindings::file_bdev(file.as_ptr()) })?;
        // INVARIANT: As the caller guarantees.
        Some(BlockDevice { file, bdev })
    }

    /// Gives up the claim, and closes the device once its users are done. May sleep.
    pub fn close(self) {
        // SAFETY: By the invariant it is a block device's open file.
        unsafe { sys::lio_bdev_yield(self.file.as_ptr()) }
    }

    /// The device, for glue that hands it to C.
    pub(crate) fn as_ptr(&self) -> *mut bindings::block_device {
        self.bdev.as_ptr()
    }

    /// Its limits now.
    pub fn limits(&self) -> Limits {
        limits(self.bdev)
    }

    /// Its size in bytes now.
    pub fn bytes(&self) -> u64 {
        // SAFETY: By the invariant the device is open.
        unsafe { sys::lio_bdev_bytes(self.as_ptr()) }
    }

    /// Whether it may lose acknowledged writes with the power until it is flushed.
    pub fn write_cache(&self) -> bool {
        // SAFETY: By the invariant the device is open.
        unsafe { sys::lio_bdev_write_cache(self.as_ptr()) }
    }

    /// Whether a write that is to be durable is a write and a flush.
    pub fn lacks_fua(&self) -> bool {
        // SAFETY: By the invariant the device is open.
        unsafe { sys::lio_bdev_lacks_fua(self.as_ptr()) }
    }

    /// Whether a write that is to be durable may end in a flush.
    pub fn flushes_for_fua(&self) -> bool {
        // SAFETY: By the invariant the device is open.
        unsafe { sys::lio_bdev_flushes_for_fua(self.as_ptr()) }
    }

    /// The type of the protection information that it has for each logical block, 1 or 3; 0: none.
    pub fn protection(&self) -> u32 {
        // SAFETY: By the invariant the device is open.
        unsafe { sys::lio_bdev_protection(self.as_ptr()) }
    }

    /// Whether an operation may be done in part when it is answered that it has to wait: the device hands pieces of it to others.
    pub(crate) fn is_stacked(&self) -> bool {
        // SAFETY: By the invariant the device is open.
        unsafe { sys::lio_bdev_stacked(self.as_ptr()) }
    }

    /// Whether an operation that is not to [wait](crate::bio::Wait) before it begins does not, now.
    pub fn knows_nowait(&self) -> bool {
        // SAFETY: By the invariant the device is open.
        unsafe { sys::lio_bdev_nowait(self.as_ptr()) }
    }

    /// Whether the device was removed from the system.
    pub fn is_gone(&self) -> bool {
        // SAFETY: By the invariant the device is open.
        unsafe { sys::lio_bdev_gone(self.as_ptr()) }
    }

    /// Has `len` bytes from `pos` on read as zeroes: by the device's own means, else by writing them. With `unmap`
    /// the device may give the space back. Sleeps until it is done.
    ///
    /// # Errors
    /// `EINVAL` where the range isn't whole logical blocks; the device's error.
    pub fn zero(&self, pos: u64, len: u64, unmap: bool) -> Result {
        if (pos | len) & 511 != 0 {
            return Err(code::EINVAL);
        }
        // SAFETY: By the invariant the device is open.
        to_result(unsafe { sys::lio_bdev_zero(self.as_ptr(), pos >> 9, len >> 9, unmap) })
    }
}

impl fmt::Display for BlockDevice {
    /// The kernel's name of it: `sda1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut buf = [0u8; 64];
        // SAFETY: `buf` has as many bytes as said, and the device is open by the invariant.
        let n = unsafe { sys::lio_bdev_name(self.as_ptr(), buf.as_mut_ptr().cast(), buf.len()) };
        let name = usize::try_from(n)
            .ok()
            .and_then(|n| buf.get(..n))
            .unwrap_or(b"");
        f.write_str(core::str::from_utf8(name).unwrap_or("?"))
    }
}

/// Where an open device is kept for all to use, as a [`file::Slot`].
///
/// # Invariants
/// The file in it is a block device's.
#[derive(Default)]
pub struct Slot(file::Slot);

impl Slot {
    /// An empty slot.
    pub const fn new() -> Self {
        Slot(file::Slot::new())
    }

    /// The device, if there is one. Any context.
    #[inline]
    pub fn get(&self) -> Option<BlockDevice> {
        // SAFETY: By the invariant.
        unsafe { BlockDevice::from_file(self.0.get()?) }
    }

    /// Looks at the device, if there is one: see [`file::Slot::with`].
    #[inline]
    pub fn with<R>(&self, f: impl FnOnce(&BlockDevice) -> R) -> Option<R> {
        self.0.with(|file| {
            // SAFETY: By the invariant it is a block device's.
            let bdev = NonNull::new(unsafe { bindings::file_bdev(file.as_ptr()) })?;
            let dev = BlockDevice {
                // SAFETY: It is valid as long as `file`; the reference is the slot's, and is not dropped here.
                file: unsafe { core::ptr::read(file) },
                bdev,
            };
            Some(f(&ManuallyDrop::new(dev)))
        })?
    }

    /// Puts a device in, and gives back what was there. Sleeps.
    pub fn replace(&self, dev: Option<BlockDevice>) -> Option<BlockDevice> {
        let old = self.0.replace(dev.map(|d| d.file))?;
        // SAFETY: By the invariant.
        unsafe { BlockDevice::from_file(old) }
    }
}

/// The limits of an open device.
pub(crate) fn limits(bdev: NonNull<bindings::block_device>) -> Limits {
    let mut out = MaybeUninit::uninit();
    // SAFETY: All callers hold the device open; `out` is written whole.
    unsafe {
        sys::lio_bdev_limits(bdev.as_ptr(), out.as_mut_ptr());
        out.assume_init()
    }
}
