// SPDX-License-Identifier: GPL-2.0

//! Reading and writing block devices: bios whose vectors are a buffer's own segments.

use crate::{bdev::BlockDevice, buffer::Buffer, noio, sys, transfer::Transfer};
use core::mem::ManuallyDrop;
use kernel::{
    bindings,
    error::{code, to_result, Error},
    page::PAGE_SIZE,
    prelude::*,
    types::Opaque,
};

/// A bio, and whom it is for. The bio comes first: its address is the request's.
#[repr(C)]
struct Request<T> {
    bio: Opaque<bindings::bio>,
    dev: BlockDevice,
    transfer: ManuallyDrop<T>,
    // Memory that the device can take, where the buffer's is not so.
    bounce: Option<KBox<Buffer>>,
    // As much for the protection information, in one piece: the device does not take the buffer's pieces.
    bounce_protection: Option<KBox<Buffer>>,
    read: bool,
    // It is not to wait for a free request.
    nowait: bool,
    // It must not be split, which much memory in small pieces might need.
    whole: bool,
    // Behind the last byte.
    end: u64,
}

/// What an operation does when the device has no room for it: no request is free, it is being reconfigured, it is to be split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It sleeps until there is, which a device that does not answer may never end.
    Sleep,
    /// It ends with [`Transfer::again`], on a device that [knows](BlockDevice::knows_nowait) how to; also on one that does not.
    Again,
}

impl Wait {
    fn of(self, op: u32) -> u32 {
        match self {
            Wait::Sleep => op,
            Wait::Again => op | sys::LIO_BIO_NOWAIT,
        }
    }
}

/// Reads from `pos` on into all of the transfer's buffer; `EFBIG` beyond the device's end, `ENODEV` if it is gone, else
/// its own error. May sleep for memory, or as `wait` says, not for the data.
pub fn read<T: Transfer>(dev: BlockDevice, pos: u64, wait: Wait, transfer: T) {
    data(dev, wait.of(sys::LIO_BIO_READ), pos, transfer)
}

/// Writes all of the transfer's buffer from `pos` on, as [`read`] reads. With `fua` the data is durable when the transfer is done.
pub fn write<T: Transfer>(dev: BlockDevice, pos: u64, fua: bool, wait: Wait, transfer: T) {
    let op = if fua {
        sys::LIO_BIO_WRITE_FUA
    } else {
        sys::LIO_BIO_WRITE
    };
    data(dev, wait.of(op), pos, transfer)
}

/// As [`write`], all of it or nothing, within what the device's [`Limits`](crate::bdev::Limits) say of atomic writes.
pub fn write_atomic<T: Transfer>(dev: BlockDevice, pos: u64, fua: bool, wait: Wait, transfer: T) {
    let op = if fua {
        sys::LIO_BIO_WRITE_ATOMIC_FUA
    } else {
        sys::LIO_BIO_WRITE_ATOMIC
    };
    data(dev, wait.of(op), pos, transfer)
}

/// Makes all writes durable that were done before. The transfer's buffer is not used. May sleep as [`read`].
pub fn flush<T: Transfer>(dev: BlockDevice, wait: Wait, transfer: T) {
    if let Some(r) = Request::new(dev, wait.of(sys::LIO_BIO_FLUSH), 0, transfer) {
        Request::submit(r);
    }
}

/// Tells the device that `len` bytes from `pos` on are not needed any more, as far as it cares: `EOPNOTSUPP` if it
/// does not. The transfer's buffer is not used. May sleep for free requests.
pub fn discard<T: Transfer>(dev: BlockDevice, pos: u64, len: u64, transfer: T) {
    if (pos | len) & 511 != 0 {
        return transfer.done(Err(code::EINVAL));
    }
    if let Some(r) = Request::new(dev, sys::LIO_BIO_ANCHOR, 0, transfer) {
        let dev = r.dev.as_ptr();
        let bio = Request::into_bio(r);
        // SAFETY: `bio` is an anchor. It owns its request, which keeps the device open, until it ends, and that is the
        // last thing that the function does.
        unsafe { sys::lio_bio_discard(bio, dev, pos >> 9, len >> 9) }
    }
}

fn data<T: Transfer>(dev: BlockDevice, op: u32, pos: u64, transfer: T) {
    if pos & 511 != 0 {
        return transfer.done(Err(code::EINVAL));
    }
    let Some(mut r) = Request::new(dev, op, pos >> 9, transfer) else {
        return;
    };
    let what = op & !sys::LIO_BIO_NOWAIT;
    r.read = what == sys::LIO_BIO_READ;
    r.whole = matches!(
        what,
        sys::LIO_BIO_WRITE_ATOMIC | sys::LIO_BIO_WRITE_ATOMIC_FUA
    );
    match r.set_memory() {
        Ok(0) => Request::end(r, Ok(0)),
        Ok(n) => {
            r.end = pos.saturating_add(n as u64);
            Request::submit(r)
        }
        Err(e) => Request::end(r, Err(e)),
    }
}

// Whether the device cannot use the memory itself: its addresses aren't aligned as it asks, it has gaps inside a block, or the
// initiator may still write to it while the device computes a checksum.
fn needs_bounce(dev: &BlockDevice, buffer: &Buffer, read: bool) -> bool {
    // SAFETY: The device is open.
    let mask = unsafe { sys::lio_bdev_dma_alignment(dev.as_ptr()) };
    // SAFETY: As above.
    if !read && buffer.is_borrowed() && unsafe { sys::lio_bdev_stable_writes(dev.as_ptr()) } {
        return true;
    }
    // SAFETY: As above.
    if buffer.is_borrowed() && has_gaps(buffer, unsafe { sys::lio_bdev_block(dev.as_ptr()) }) {
        return true;
    }
    buffer.segs().iter().any(|s| {
        let bv = s.as_bvec();
        (bv.bv_offset | bv.bv_len) & mask != 0
    })
}

// Whether one piece of the memory ends inside a block, and the next is not the page behind it. Where a device takes no gaps (an NVMe SSD
// without SGLs), or not so many pieces, the block layer would have to split the block, and fails.
fn has_gaps(buffer: &Buffer, block: u32) -> bool {
    let (inside, page) = (block.wrapping_sub(1), PAGE_SIZE as u32 - 1);
    let (mut at, mut end) = (0u32, 0u32);
    buffer.segs().iter().any(|s| {
        let bv = s.as_bvec();
        let gap = at & inside != 0 && (end | bv.bv_offset) & page != 0;
        at = at.wrapping_add(bv.bv_len);
        end = bv.bv_offset.wrapping_add(bv.bv_len);
        gap
    })
}

impl<T: Transfer> Request<T> {
    // Ends the transfer where there is no memory.
    fn new(dev: BlockDevice, op: u32, sector: u64, transfer: T) -> Option<KBox<Self>> {
        let Ok(r) = noio::scope(|| KBox::<Self>::new_uninit(GFP_KERNEL)) else {
            transfer.done(Err(code::ENOMEM));
            return None;
        };
        let r = KBox::write(
            r,
            Request {
                bio: Opaque::uninit(),
                dev,
                transfer: ManuallyDrop::new(transfer),
                bounce: None,
                bounce_protection: None,
                read: false,
                nowait: op & sys::LIO_BIO_NOWAIT != 0,
                whole: false,
                end: 0,
            },
        );
        // SAFETY: The bio is memory of ours that is not in use; the request keeps the device open.
        unsafe { sys::lio_bio_init(r.bio.get(), r.dev.as_ptr(), op, sector, Some(ended::<T>)) };
        Some(r)
    }

    // Has the bio use the buffer's memory, or other memory that stands for it. Returns the length.
    fn set_memory(&mut self) -> Result<usize> {
        // Asked for once: nothing holds the implementation to give the same buffer twice.
        let buffer = self.transfer.buffer();
        let len = buffer.len();
        let bytes = u32::try_from(len).map_err(|_| code::EINVAL)?;
        if bytes & 511 != 0 {
            return Err(code::EINVAL);
        }
        let mut segs = buffer.segs();
        if self.whole && buffer.is_borrowed() || needs_bounce(&self.dev, buffer, self.read) {
            let bounce = noio::scope(|| Buffer::alloc_boxed(len))?;
            if !self.read {
                bounce.copy_from(0, buffer, 0, len);
            }
            segs = self.bounce.insert(bounce).segs();
        }
        // SAFETY: `Seg` is a transparent `bio_vec`, and the segments are `len` bytes. The array stays where it is
        // until the request ends: it belongs to the transfer or the bounce buffer, which the request owns, at a
        // fixed address, and nobody touches.
        unsafe {
            sys::lio_bio_set_bvecs(
                self.bio.get(),
                segs.as_ptr().cast(),
                segs.len() as u32,
                bytes,
            )
        };
        if let Some(protection) = self.transfer.protection() {
            match self.set_protection(protection) {
                Err(e) if e == code::E2BIG && !protection.is_empty() => {
                    let bounce = noio::scope(|| {
                        let bounce = Buffer::contiguous(protection.len())?;
                        Ok::<_, Error>(KBox::new(bounce, GFP_KERNEL)?)
                    })?;
                    if !self.read {
                        bounce.copy_from(0, protection, 0, protection.len());
                    }
                    self.set_protection(&bounce)?;
                    self.bounce_protection = Some(bounce);
                }
                r => r?,
            }
        }
        Ok(len)
    }

    // Has the bio use this memory for protection information. It must stay as it is until the request ends.
    fn set_protection(&self, memory: &Buffer) -> Result {
        let segs = memory.segs();
        // SAFETY: The bio is initialised, has its length, and is not in flight; `Seg` is a transparent `bio_vec`, of which the bio keeps
        // copies. The memory belongs to the transfer, or becomes the request's, which owns both, and nobody touches it until that ends.
        to_result(unsafe {
            sys::lio_bio_set_protection(self.bio.get(), segs.as_ptr().cast(), segs.len() as u32)
        })
    }

    // The bio owns the request from here on: it is found again by its address.
    fn into_bio(this: KBox<Self>) -> *mut bindings::bio {
        KBox::into_raw(this).cast()
    }

    fn submit(this: KBox<Self>) {
        // The block layer goes on using the device's queue when the bio has ended already, perhaps on another CPU, and the
        // request with its reference is gone.
        let _dev = this.dev.clone();
        // SAFETY: The bio is initialised, and owns what it needs until `ended`.
        unsafe { bindings::submit_bio(Self::into_bio(this)) }
    }

    /// # Safety
    /// The bio is not in flight, and neither it nor the transfer is used after this.
    unsafe fn take_transfer(&mut self) -> T {
        // SAFETY: The bio is initialised, and not in flight as the caller guarantees.
        unsafe { bindings::bio_uninit(self.bio.get()) };
        // SAFETY: As the caller guarantees.
        unsafe { ManuallyDrop::take(&mut self.transfer) }
    }

    // All of it is done again: of a bio that a stacked device has split, some may be done. Nobody was told so, and the blocks may be
    // either the old or the new ones until somebody is.
    fn again(mut this: KBox<Self>) {
        // SAFETY: The bio has ended, and the request is freed here.
        let transfer = unsafe { this.take_transfer() };
        let in_part = this.dev.is_stacked();
        drop(this);
        transfer.again(in_part);
    }

    fn end(mut this: KBox<Self>, result: Result<usize>) {
        // SAFETY: The bio is not in flight, and the request is freed here.
        let transfer = unsafe { this.take_transfer() };
        let result = result.map(|n| match &this.bounce {
            Some(b) if this.read => transfer.buffer().copy_from(0, b, 0, b.len()),
            _ => n,
        });
        if let (Ok(_), true, Some(b)) = (&result, this.read, &this.bounce_protection) {
            if let Some(protection) = transfer.protection() {
                protection.copy_from(0, b, 0, b.len());
            }
        }
        // The device may be closed by whoever hears that the transfer is done.
        drop(this);
        transfer.done(result);
    }
}

/// # Safety
/// `bio` is the first field of a `Request<T>` that was given to [`Request::into_bio`], and has ended.
unsafe extern "C" fn ended<T: Transfer>(bio: *mut bindings::bio) {
    // SAFETY: As the caller guarantees; the bio owned the request.
    let r = unsafe { KBox::from_raw(bio.cast::<Request<T>>()) };
    // SAFETY: The bio is alive.
    let result = to_result(unsafe { sys::lio_bio_errno(bio) });
    let len = r.transfer.buffer().len();
    match result {
        // Or the device does not know such bios, any more: its table may have been changed.
        Err(e) if r.nowait && (e == code::EAGAIN || e == code::EOPNOTSUPP) => {
            return Request::again(r);
        }
        _ => (),
    }
    // The block layer calls these a plain I/O error too: a device that was pulled out, and one that has shrunk.
    let result = match result {
        Err(e) if e == code::EIO && r.dev.is_gone() => Err(code::ENODEV),
        Err(e) if e == code::EIO && r.end > r.dev.bytes() => Err(code::EFBIG),
        r => r,
    };
    Request::end(r, result.map(|()| len))
}
