// SPDX-License-Identifier: GPL-2.0

//! The data of a command: a list of memory segments.
//!
//! A segment is a `bio_vec`, so that sockets, files and block devices take the list as it is. Each segment
//! either holds a reference on its page (allocated by the engine, or lent by a back end), or it points into
//! memory that the fabric guarantees for as long as the command is not answered.
//!
//! Other parties (an initiator in the same machine, DMA, the page cache) may write the same memory at any time:
//! it is only ever copied from and to, and no reference to it exists.

use crate::sys;
use core::ptr::NonNull;
use kernel::{
    bindings,
    error::{code::*, to_result},
    page::PAGE_SIZE,
    prelude::*,
};

/// The largest order of pages that [`Buffer::alloc`] tries.
const MAX_ORDER: u32 = sys::LIO_PAGE_MAX_ORDER;
/// Segments that a buffer holds without an allocation of their own: 256 KiB of engine pages.
const INLINE: usize = 8;

/// A reference on a page, which may be a compound one.
#[repr(transparent)]
pub struct PageRef(NonNull<bindings::page>);

// SAFETY: A page reference may be taken and dropped on any CPU, and gives no access to the memory by itself.
unsafe impl Send for PageRef {}
// SAFETY: As above.
unsafe impl Sync for PageRef {}

impl PageRef {
    /// Allocates `2^order` contiguous pages, zeroed if `zero` is set.
    ///
    /// # Errors
    /// `ENOMEM`; orders above zero are not tried hard.
    pub fn alloc(order: u32, zero: bool) -> Result<Self> {
        // SAFETY: An allocation in process context without further conditions.
        NonNull::new(unsafe { sys::lio_page_alloc(order, zero, false) })
            .map(Self)
            .ok_or(ENOMEM)
    }

    // As `alloc` without zeroing, and tried hard. May sleep.
    fn contiguous(order: u32) -> Result<Self> {
        // SAFETY: An allocation in process context without further conditions.
        NonNull::new(unsafe { sys::lio_page_contiguous(order) })
            .map(Self)
            .ok_or(ENOMEM)
    }

    // As `alloc` without zeroing; perhaps a page that an earlier command had, with what it left there.
    fn reuse(order: u32) -> Result<Self> {
        // SAFETY: Looks into the pool of this CPU; no conditions.
        match NonNull::new(unsafe { sys::lio_page_reuse(order) }) {
            Some(page) => Ok(Self(page)),
            None => Self::alloc(order, false),
        }
    }

    /// Takes over a reference from C.
    ///
    /// # Safety
    /// The caller owns a reference on `page`, which holds memory with a kernel address, and gives it up.
    pub unsafe fn from_raw(page: NonNull<bindings::page>) -> Self {
        Self(page)
    }

    /// The page, for glue that hands it to C.
    pub fn as_ptr(&self) -> *mut bindings::page {
        self.0.as_ptr()
    }

    /// Copies from the page into `out`, as far as `off + out.len()` bytes lie in a page of 4096 bytes.
    pub fn read_at(&self, off: usize, out: &mut [u8]) -> Result {
        in_page(off, out.len())?;
        // SAFETY: The page is alive and has `PAGE_SIZE` bytes at least, which hold the range.
        unsafe {
            let src = sys::lio_page_address(self.as_ptr()).cast::<u8>().add(off);
            src.copy_to_nonoverlapping(out.as_mut_ptr(), out.len());
        }
        Ok(())
    }

    /// Copies `data` into the page at `off`, under the same bound as [`Self::read_at`].
    pub fn write_at(&self, off: usize, data: &[u8]) -> Result {
        in_page(off, data.len())?;
        // SAFETY: As in `read_at`; no reference to the memory exists.
        unsafe {
            let dst = sys::lio_page_address(self.as_ptr()).cast::<u8>().add(off);
            dst.copy_from_nonoverlapping(data.as_ptr(), data.len());
        }
        Ok(())
    }
}

fn in_page(off: usize, len: usize) -> Result {
    match off.checked_add(len) {
        Some(end) if end <= PAGE_SIZE => Ok(()),
        _ => Err(EINVAL),
    }
}

impl Clone for PageRef {
    fn clone(&self) -> Self {
        // SAFETY: `self` holds a reference, so the page is alive.
        unsafe { sys::lio_page_get(self.as_ptr()) };
        Self(self.0)
    }
}

impl Drop for PageRef {
    fn drop(&mut self) {
        // SAFETY: `self` owns the reference that is dropped here.
        unsafe { sys::lio_page_put(self.as_ptr()) };
    }
}

/// A CRC32C of bytes that come in pieces.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Crc32c(u32);

impl Crc32c {
    /// That of nothing.
    pub const fn new() -> Self {
        Crc32c(!0)
    }

    /// Goes on over `data`.
    #[must_use]
    pub fn over(self, data: &[u8]) -> Self {
        // SAFETY: A slice's memory and length.
        Crc32c(unsafe { sys::lio_crc32c(self.0, data.as_ptr().cast(), data.len()) })
    }

    /// The CRC.
    pub const fn value(self) -> u32 {
        !self.0
    }
}

impl Default for Crc32c {
    fn default() -> Self {
        Self::new()
    }
}

/// One run of memory: a page (or the first of several contiguous ones), an offset and a length.
///
/// # Invariants
/// `bv_page` has a kernel address, and the bytes from `bv_offset` on, `bv_len` of them, are valid memory for
/// as long as the buffer that holds the segment is.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Seg(bindings::bio_vec);

impl Seg {
    const EMPTY: Seg = Seg(bindings::bio_vec {
        bv_page: core::ptr::null_mut(),
        bv_len: 0,
        bv_offset: 0,
    });

    /// Bytes in this segment.
    pub fn len(&self) -> usize {
        self.0.bv_len as usize
    }

    /// Whether the segment has no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.bv_len == 0
    }

    /// The `bio_vec`, for glue that hands it to C. The array of a buffer's segments is an array of these.
    pub fn as_bvec(&self) -> &bindings::bio_vec {
        &self.0
    }

    /// The address of byte `off`, which is less than or equal to the length.
    fn addr(&self, off: usize) -> *mut u8 {
        debug_assert!(off <= self.len());
        // SAFETY: By the type's invariant the page has an address and the range is in its memory.
        unsafe {
            sys::lio_page_address(self.0.bv_page)
                .cast::<u8>()
                .add(self.0.bv_offset as usize)
                .add(off)
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// Each segment owns a page reference, and its page is one of the engine's own.
    Own,
    /// Each segment owns a page reference.
    Refs,
    /// The memory is somebody else's, who guarantees it.
    Nothing,
}

impl Holds {
    /// Drops the reference that a segment has, if it has one.
    ///
    /// # Safety
    /// `seg` is of a buffer that holds `self`, and is not used after this.
    unsafe fn release(self, seg: Seg) {
        match self {
            // SAFETY: The segment owns the reference; the page came from one of the functions that allocate.
            Holds::Own => unsafe { sys::lio_page_retire(seg.0.bv_page) },
            // SAFETY: The segment owns the reference.
            Holds::Refs => unsafe { sys::lio_page_put(seg.0.bv_page) },
            Holds::Nothing => {}
        }
    }
}

/// The pages that are kept for reuse, which go back when memory is short and when this is dropped. Until then, buffers may be used;
/// after that, none may be.
pub struct Pool(());

impl Pool {
    /// For the module that this crate is part of, once.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        // SAFETY: The module's first and only call.
        to_result(unsafe { sys::lio_pages_prepare() })?;
        Ok(Pool(()))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: After `lio_pages_prepare`, once. The pools' pages are theirs. Buffers that are dropped later would leak pages, no more.
        unsafe { sys::lio_pages_release() }
    }
}

/// What keeps borrowed memory valid: ends when the buffer is cleared or dropped, in any context.
pub struct Lease {
    owner: *mut (),
    end: unsafe fn(*mut ()),
}

// SAFETY: `Lease::new` asks for an `end` that may be called from any thread.
unsafe impl Send for Lease {}
// SAFETY: A shared reference gives access to nothing.
unsafe impl Sync for Lease {}

impl Lease {
    /// A lease at whose end `end(owner)` is called.
    ///
    /// # Safety
    /// `end(owner)` is sound to call once, at any later time and from any context.
    pub unsafe fn new(owner: *mut (), end: unsafe fn(*mut ())) -> Self {
        Lease { owner, end }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // SAFETY: As `new` was promised; this is the one call.
        unsafe { (self.end)(self.owner) }
    }
}

/// The data of a command. Empty by default.
pub struct Buffer {
    inline: [Seg; INLINE],
    // Used once `count` passes `INLINE`; keeps its capacity when the buffer is cleared, so that a command
    // that has once carried a large transfer does not allocate for the next one.
    spilled: KVec<Seg>,
    count: usize,
    len: usize,
    holds: Holds,
    lease: Option<Lease>,
}

// SAFETY: The segments are page references or memory that the constructor's caller guarantees from any context.
unsafe impl Send for Buffer {}
// SAFETY: `&self` methods only copy from and to memory that others may write as well.
unsafe impl Sync for Buffer {}

impl Default for Buffer {
    fn default() -> Self {
        Self::new()
    }
}

impl Buffer {
    /// An empty buffer; allocates nothing.
    pub const fn new() -> Self {
        Buffer {
            inline: [Seg::EMPTY; INLINE],
            spilled: KVec::new(),
            count: 0,
            len: 0,
            holds: Holds::Refs,
            lease: None,
        }
    }

    /// A buffer of `len` bytes of the engine's own pages, zeroed on request.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn alloc(len: usize, zero: bool) -> Result<Self> {
        let mut b = Self::new();
        b.grow(len, zero)?;
        Ok(b)
    }

    /// A buffer of `len` bytes, not zero, in one segment, whose contents are whatever the memory held before. May sleep.
    ///
    /// # Errors
    /// `ENOMEM`: of much there may be none in one piece, and some in several.
    pub fn contiguous(len: usize) -> Result<Self> {
        let bytes = u32::try_from(len).map_err(|_| ENOMEM)?;
        let pages = len.div_ceil(PAGE_SIZE).max(1);
        let order = pages.checked_next_power_of_two().ok_or(ENOMEM)?.ilog2();
        let mut b = Self::new();
        b.holds = Holds::Own;
        b.push_raw(PageRef::contiguous(order)?, 0, bytes)?;
        Ok(b)
    }

    /// As [`Self::alloc`] without zeroing, in a box.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn alloc_boxed(len: usize) -> Result<KBox<Self>> {
        let place = KBox::<Self>::new_uninit(GFP_KERNEL)?;
        let mut b = KBox::write(place, Self::new());
        b.grow(len, false)?;
        Ok(b)
    }

    /// Makes a buffer of the engine's own pages `len` bytes long, where it is shorter; what it holds stays. The new bytes
    /// are whatever the memory held before.
    ///
    /// # Errors
    /// `ENOMEM`, with some of the bytes added perhaps; `EINVAL` if the memory is the fabric's own.
    pub fn extend_to(&mut self, len: usize) -> Result {
        if self.holds == Holds::Nothing {
            return Err(EINVAL);
        }
        self.grow(len.saturating_sub(self.len), false)
    }

    /// Empties the buffer, then makes it `len` bytes of the engine's own pages.
    ///
    /// # Errors
    /// `ENOMEM`; the buffer is empty then.
    pub fn refill(&mut self, len: usize, zero: bool) -> Result {
        self.clear();
        let r = self.grow(len, zero);
        if r.is_err() {
            self.clear();
        }
        r
    }

    fn grow(&mut self, len: usize, zero: bool) -> Result {
        if self.count == 0 {
            self.holds = Holds::Own;
        }
        let mut left = len;
        while left > 0 {
            let pages = left.div_ceil(PAGE_SIZE);
            // The largest order that does not exceed what is left; `pages` is not zero.
            let mut order = (usize::BITS - 1)
                .saturating_sub(pages.leading_zeros())
                .min(MAX_ORDER);
            let page = loop {
                let page = if zero {
                    PageRef::alloc(order, true)
                } else {
                    PageRef::reuse(order)
                };
                match page {
                    Ok(p) => break p,
                    Err(e) if order == 0 => return Err(e),
                    Err(_) => order = order.saturating_sub(1),
                }
            };
            let n = left.min(PAGE_SIZE.wrapping_shl(order));
            self.push_raw(page, 0, n as u32)?;
            left -= n;
        }
        Ok(())
    }

    /// Appends `len` bytes at `off` of a page that is lent: the reference goes back when the buffer is cleared.
    ///
    /// # Errors
    /// `EINVAL` if the range is not inside one page of 4096 bytes, or if the buffer holds foreign memory;
    /// `ENOMEM`.
    pub fn push(&mut self, page: PageRef, off: usize, len: usize) -> Result {
        in_page(off, len)?;
        if self.holds == Holds::Nothing {
            return Err(EINVAL);
        }
        self.holds = Holds::Refs;
        self.push_raw(page, off as u32, len as u32)
    }

    // `off + len` lies in the page's memory, and the buffer holds references.
    fn push_raw(&mut self, page: PageRef, off: u32, len: u32) -> Result {
        self.push_seg(Seg(bindings::bio_vec {
            bv_page: page.as_ptr(),
            bv_len: len,
            bv_offset: off,
        }))?;
        // The segment holds the reference from here on.
        core::mem::forget(page);
        Ok(())
    }

    fn push_seg(&mut self, seg: Seg) -> Result {
        let len = self.len.checked_add(seg.len()).ok_or(EINVAL)?;
        if self.count < INLINE {
            self.inline[self.count] = seg;
        } else {
            if self.count == INLINE {
                self.spilled.clear();
                self.spilled.reserve(INLINE * 2, GFP_NOWAIT)?;
                self.spilled.extend_from_slice(&self.inline, GFP_NOWAIT)?;
            }
            self.spilled.push(seg, GFP_NOWAIT)?;
        }
        self.count += 1;
        self.len = len;
        Ok(())
    }

    /// Appends a run of memory that stays its owner's: no reference is held.
    ///
    /// # Errors
    /// `EINVAL` if the buffer holds references; `ENOMEM`.
    ///
    /// # Safety
    /// From `page` on, `len` bytes at `off` are memory with a kernel address, valid until the buffer is cleared
    /// or dropped.
    pub unsafe fn push_borrowed(
        &mut self,
        page: *mut bindings::page,
        off: u32,
        len: u32,
    ) -> Result {
        if self.count == 0 {
            self.holds = Holds::Nothing;
        } else if self.holds != Holds::Nothing {
            return Err(EINVAL);
        }
        self.push_seg(Seg(bindings::bio_vec {
            bv_page: page,
            bv_len: len,
            bv_offset: off,
        }))
    }

    /// Shortens the buffer to `len` bytes; a longer or equal length changes nothing.
    pub fn truncate(&mut self, len: usize) {
        while self.len > len {
            let over = self.len - len;
            let last = self.count - 1;
            let holds = self.holds;
            let spilled = self.count > INLINE;
            let Some(seg) = (if spilled {
                self.spilled.last_mut()
            } else {
                self.inline.get_mut(last)
            }) else {
                return;
            };
            if seg.len() > over {
                seg.0.bv_len -= over as u32;
                self.len = len;
                return;
            }
            let gone = *seg;
            if spilled {
                self.spilled.pop();
                if last == INLINE {
                    for (to, from) in self.inline.iter_mut().zip(self.spilled.iter()) {
                        *to = *from;
                    }
                    self.spilled.clear();
                }
            }
            self.count = last;
            self.len -= gone.len();
            // SAFETY: The segment is out of the list now.
            unsafe { holds.release(gone) };
        }
    }

    /// Says what keeps the memory valid that [`Self::push_borrowed`] is given. A lease that was set before ends.
    pub fn set_lease(&mut self, lease: Lease) {
        self.lease = Some(lease);
    }

    /// Gives all memory back; keeps what it needs to be filled again.
    pub fn clear(&mut self) {
        for seg in self.segs() {
            // SAFETY: Once for each segment: the count is zeroed below.
            unsafe { self.holds.release(*seg) };
        }
        self.count = 0;
        self.len = 0;
        self.holds = Holds::Refs;
        // After the memory, which it keeps.
        self.lease = None;
        self.spilled.clear();
        if self.spilled.capacity() > 1024 {
            self.spilled = KVec::new();
        }
    }

    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the memory is the fabric's own, so that a back end has to fill it and can't lend its pages.
    pub fn is_borrowed(&self) -> bool {
        self.holds == Holds::Nothing
    }

    /// Whether the segments hold page references, so that a socket may keep the pages after the buffer is gone.
    pub fn is_refcounted(&self) -> bool {
        self.holds != Holds::Nothing
    }

    /// The segments in order.
    pub fn segs(&self) -> &[Seg] {
        if self.count <= INLINE {
            &self.inline[..self.count]
        } else {
            &self.spilled
        }
    }

    /// Copies the bytes from `off` on into `out`; returns how many there were.
    pub fn read_at(&self, off: usize, out: &mut [u8]) -> usize {
        let mut done = 0;
        self.each(off, out.len(), |src, n| {
            // SAFETY: `each` gives valid memory of `n` bytes, and `done + n <= out.len()`; `out` is a Rust
            // slice, which no segment overlaps.
            unsafe { src.copy_to_nonoverlapping(out.as_mut_ptr().add(done), n) };
            done += n;
        });
        done
    }

    /// Copies `data` to `off`; returns how many bytes found room.
    pub fn write_at(&self, off: usize, data: &[u8]) -> usize {
        let mut done = 0;
        self.each(off, data.len(), |dst, n| {
            // SAFETY: As in `read_at`, the other way round.
            unsafe { dst.copy_from_nonoverlapping(data.as_ptr().add(done), n) };
            done += n;
        });
        done
    }

    /// Zeroes `len` bytes from `off` on, as far as there are so many.
    pub fn zero(&self, off: usize, len: usize) {
        // SAFETY: `each` gives valid memory of `n` bytes.
        self.each(off, len, |dst, n| unsafe { dst.write_bytes(0, n) });
    }

    /// Copies `len` bytes at `off` of `from` to `at` of this buffer; returns how many were copied. The two may be
    /// backed by the same memory.
    pub fn copy_from(&self, at: usize, from: &Buffer, off: usize, len: usize) -> usize {
        let mut done = 0;
        from.each(off, len, |src, n| {
            let mut part = 0;
            self.each(at.saturating_add(done), n, |dst, m| {
                // SAFETY: Both sides are valid for `m` bytes: `part + m <= n`.
                unsafe { sys::lio_move(dst.cast(), src.add(part).cast(), m) };
                part += m;
            });
            done += part;
        });
        done
    }

    /// Whether `len` bytes at `off` of this buffer and at `other_off` of `other` are equal: the offset of the
    /// first difference, relative to `off`, or `None`.
    pub fn differs(
        &self,
        off: usize,
        other: &Buffer,
        other_off: usize,
        len: usize,
    ) -> Option<usize> {
        let mut a = [0u8; 256];
        let mut b = [0u8; 256];
        let mut done = 0;
        while done < len {
            let n = (len - done).min(a.len());
            let x = self.read_at(off.saturating_add(done), &mut a[..n]);
            let y = other.read_at(other_off.saturating_add(done), &mut b[..n]);
            if let Some(i) = (0..n).find(|&i| i >= x || i >= y || a[i] != b[i]) {
                return Some(done + i);
            }
            done += n;
        }
        None
    }

    /// The CRC-16/T10-DIF of `len` bytes at `off`, as far as there are so many.
    pub fn crc_t10dif(&self, off: usize, len: usize) -> u16 {
        let mut crc = 0;
        self.each(off, len, |data, n| {
            // SAFETY: `each` gives valid memory of `n` bytes.
            crc = unsafe { sys::lio_crc_t10dif(crc, data.cast_const().cast(), n) };
        });
        crc
    }

    /// Has `crc` go on over `len` bytes at `off`, as far as there are so many.
    pub fn crc32c(&self, crc: Crc32c, off: usize, len: usize) -> Crc32c {
        let mut crc = crc.0;
        self.each(off, len, |data, n| {
            // SAFETY: `each` gives valid memory of `n` bytes.
            crc = unsafe { sys::lio_crc32c(crc, data.cast_const().cast(), n) };
        });
        Crc32c(crc)
    }

    /// Whether all pages are the engine's own, which nobody else writes: not those that a back end lends.
    pub fn is_own(&self) -> bool {
        self.holds == Holds::Own || self.count == 0
    }

    /// Inverts all bits.
    pub fn invert(&self) {
        self.each(0, self.len, |data, n| {
            for at in 0..n {
                // SAFETY: `each` gives valid memory of `n` bytes.
                unsafe { *data.add(at) = !*data.add(at) };
            }
        });
    }

    // Calls `f` with the address and length of each run of the range's memory, as far as the buffer goes.
    pub(crate) fn each(&self, off: usize, len: usize, mut f: impl FnMut(*mut u8, usize)) {
        let mut skip = off;
        let mut left = len;
        for seg in self.segs() {
            if left == 0 {
                break;
            }
            if skip >= seg.len() {
                skip -= seg.len();
                continue;
            }
            let n = (seg.len() - skip).min(left);
            f(seg.addr(skip), n);
            skip = 0;
            left -= n;
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.clear();
    }
}
