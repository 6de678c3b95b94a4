// SPDX-License-Identifier: GPL-2.0

//! A sparse array of pages: the memory of a RAM disk.
//!
//! Pages are made when they are first written to, and read as zeroes until then. They are found without a lock. A page
//! lives as long as somebody holds a reference on it: one that was lent for reading, or that is just being copied to,
//! outlives its removal. Reads, writes and removals of the same bytes at the same time do what they would on a disk,
//! each part of them either before or after the other.

use crate::{
    buffer::{Buffer, PageRef},
    sys,
};
use kernel::{
    bindings,
    error::to_result,
    page::PAGE_SIZE,
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
    types::Opaque,
};

/// Pages that are looked up at once.
const BATCH: usize = 16;

/// The pages.
///
/// # Invariants
/// Each entry of `xa` is a page of order 0 on which the store holds a reference.
#[pin_data(PinnedDrop)]
pub struct PageStore {
    #[pin]
    xa: Opaque<bindings::xarray>,
    // What holes read as. The store's own, since a lent page could be written to through the buffer by mistake.
    zero: PageRef,
    // How many pages there are.
    count: Atomic<isize>,
}

// SAFETY: The xarray has its own lock, and pages may be used from any thread.
unsafe impl Send for PageStore {}
// SAFETY: As above; the pages' memory is only copied from and to.
unsafe impl Sync for PageStore {}

/// Pages from one index on, looked up in batches.
struct Pages<'a> {
    store: &'a PageStore,
    found: [Option<PageRef>; BATCH],
    /// The index of `found[0]`.
    first: usize,
    /// How many of `found` were looked up.
    valid: usize,
    /// The last index that is wanted.
    last: usize,
    /// There was memory to spare when a page was last made.
    spare: bool,
}

impl<'a> Pages<'a> {
    /// `pos + len` does not overflow.
    fn new(store: &'a PageStore, pos: u64, len: u64) -> Self {
        Pages {
            store,
            found: [const { None }; BATCH],
            first: 0,
            valid: 0,
            last: index(pos.saturating_add(len.saturating_sub(1))),
            spare: false,
        }
    }

    /// The page at `at`; `None` is a hole.
    fn get(&mut self, at: usize) -> Option<&PageRef> {
        self.slot(at)?.as_ref()
    }

    /// As [`Self::get`], for who asks for each page once.
    fn take(&mut self, at: usize) -> Option<PageRef> {
        self.slot(at)?.take()
    }

    fn slot(&mut self, at: usize) -> Option<&mut Option<PageRef>> {
        let slot = at.wrapping_sub(self.first);
        if slot >= self.valid {
            let n = self.last.saturating_sub(at).saturating_add(1).min(BATCH);
            self.store.find(at, &mut self.found[..n]);
            (self.first, self.valid) = (at, n);
        }
        self.found.get_mut(at.wrapping_sub(self.first))
    }

    /// A new page. `ENOSPC` where what is left of the memory is left to others.
    fn alloc(&mut self, zero: bool) -> Result<PageRef> {
        // SAFETY: The call has no requirements.
        if !self.spare && !unsafe { sys::lio_pages_spare() } {
            return Err(ENOSPC);
        }
        self.spare = true;
        PageRef::alloc(0, zero)
    }

    /// The page at `at`, made if there is none.
    fn make(&mut self, at: usize) -> Result<&PageRef> {
        while self.get(at).is_none() {
            let page = self.alloc(true)?;
            self.add(at, &page)?;
        }
        self.get(at).ok_or(ENOMEM)
    }

    /// Makes `page`, of order 0, the one at `at`, which was a hole, unless there is one now; whether it is.
    fn add(&mut self, at: usize, page: &PageRef) -> Result<bool> {
        // SAFETY: `xa` is initialised, and `page` is alive; the store gets a reference of its own.
        let added = unsafe { sys::lio_pages_add(self.store.xa.get(), at, page.as_ptr()) };
        match to_result(added) {
            Ok(()) => {
                self.store.count.add(1, Relaxed);
                let slot = self.found.get_mut(at.wrapping_sub(self.first));
                if let Some(slot) = slot {
                    *slot = Some(page.clone());
                }
                Ok(true)
            }
            Err(error) if error == EEXIST => {
                // Somebody else was faster: look again.
                self.valid = 0;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

/// The page that byte `pos` is in.
fn index(pos: u64) -> usize {
    // A 64-bit machine: nothing is lost.
    (pos / PAGE_SIZE as u64) as usize
}

/// Where in its page byte `pos` is.
fn offset(pos: u64) -> usize {
    (pos % PAGE_SIZE as u64) as usize
}

impl PageStore {
    /// An empty store. May sleep.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            // SAFETY: `xa` is memory for it that stays where it is.
            xa <- Opaque::ffi_init(|xa| unsafe { bindings::xa_init_flags(xa, 0) }),
            zero: PageRef::alloc(0, true)?,
            count: Atomic::new(0),
        }? Error)
    }

    /// Puts the pages from `first` on into `out`.
    fn find(&self, first: usize, out: &mut [Option<PageRef>]) {
        out.fill(None);
        // SAFETY: `xa` is initialised and has pages of order 0 only; `out` has room for its length, and a `PageRef` is a page on
        // which there is a reference, as `lio_pages_find` takes it, `None` being null. What is overwritten is `None`.
        unsafe {
            sys::lio_pages_find(
                self.xa.get(),
                first,
                out.len() as u32,
                out.as_mut_ptr().cast(),
            )
        };
    }

    /// Appends the pages with the `len` bytes from `pos` on to `into`, a page of zeroes for each hole. Any context.
    ///
    /// # Errors
    /// `ENOMEM`; `EINVAL` for a buffer of borrowed memory, or past the largest position.
    pub fn lend(&self, pos: u64, len: usize, into: &mut Buffer) -> Result {
        pos.checked_add(len as u64).ok_or(EINVAL)?;
        if len > 0 && len <= PAGE_SIZE.saturating_sub(offset(pos)) {
            let mut page = [None];
            self.find(index(pos), &mut page);
            let [page] = page;
            return into.push(page.unwrap_or_else(|| self.zero.clone()), offset(pos), len);
        }
        let mut pages = Pages::new(self, pos, len as u64);
        let (mut pos, mut left) = (pos, len);
        while left > 0 {
            let n = left.min(PAGE_SIZE.saturating_sub(offset(pos)));
            let page = pages.take(index(pos));
            let page = page.unwrap_or_else(|| self.zero.clone());
            into.push(page, offset(pos), n)?;
            pos = pos.saturating_add(n as u64);
            left = left.saturating_sub(n);
        }
        Ok(())
    }

    /// Copies from `pos` on into all of `into`. Any context.
    ///
    /// # Errors
    /// `EINVAL` past the largest position.
    pub fn read(&self, pos: u64, into: &Buffer) -> Result {
        pos.checked_add(into.len() as u64).ok_or(EINVAL)?;
        let mut pages = Pages::new(self, pos, into.len() as u64);
        let mut pos = pos;
        into.each(0, into.len(), |to, n| {
            let mut done = 0;
            while done < n {
                let m = (n - done).min(PAGE_SIZE.saturating_sub(offset(pos)));
                let page = pages.get(index(pos)).unwrap_or(&self.zero);
                // SAFETY: `to` is valid for `n` bytes, and `done + m <= n`; a page is valid for `PAGE_SIZE` bytes, and
                // `offset(pos) + m <= PAGE_SIZE`. The buffer's memory is not the store's own, but if it were, bytes
                // would be copied in some order.
                unsafe { sys::lio_copy(to.add(done).cast(), address(page, pos), m) };
                pos = pos.saturating_add(m as u64);
                done += m;
            }
        });
        Ok(())
    }

    /// Copies all of `from` to `pos` on. May sleep, but starts no I/O.
    ///
    /// # Errors
    /// `ENOSPC` where memory is left for nothing but the rest of the machine, `ENOMEM` (part may be written then); `EINVAL` past
    /// the largest position.
    pub fn write(&self, pos: u64, from: &Buffer) -> Result {
        pos.checked_add(from.len() as u64).ok_or(EINVAL)?;
        let mut pages = Pages::new(self, pos, from.len() as u64);
        let mut pos = pos;
        let mut result = Ok(());
        from.each(0, from.len(), |data, n| {
            let mut done = 0;
            while done < n && result.is_ok() {
                let m = (n - done).min(PAGE_SIZE.saturating_sub(offset(pos)));
                // SAFETY: `done + m <= n`, and `data` is valid for `n` bytes.
                result = unsafe { Self::put(&mut pages, pos, data.add(done), m) };
                pos = pos.saturating_add(m as u64);
                done += m;
            }
        });
        result
    }

    /// Copies `len` bytes of `data` to `pos`, all in one page.
    ///
    /// # Safety
    /// `data` is valid for `len` bytes, and `offset(pos) + len <= PAGE_SIZE`.
    unsafe fn put(pages: &mut Pages<'_>, pos: u64, data: *const u8, len: usize) -> Result {
        let at = index(pos);
        // A new page that is written to as a whole need not be zeroed before.
        let whole = len == PAGE_SIZE && pages.get(at).is_none();
        if whole {
            let page = pages.alloc(false)?;
            // SAFETY: As below; nobody else has the page yet.
            unsafe { sys::lio_copy(address(&page, pos), data.cast(), len) };
            if pages.add(at, &page)? {
                return Ok(());
            }
        }
        let page = pages.make(at)?;
        // SAFETY: The page is valid for `PAGE_SIZE` bytes, and `data` as the caller says. The two are not the same, but
        // if they were, bytes would be copied in some order.
        unsafe { sys::lio_copy(address(page, pos), data.cast(), len) };
        Ok(())
    }

    /// Makes the `len` bytes from `pos` on read as zeroes, and gives whole pages back. May sleep.
    ///
    /// # Errors
    /// `EINVAL` past the largest position.
    pub fn discard(&self, pos: u64, len: u64) -> Result {
        let end = pos.checked_add(len).ok_or(EINVAL)?;
        // The whole pages are first..last.
        let first = index(pos).saturating_add(usize::from(offset(pos) != 0));
        let last = index(end);
        if first > last {
            // Inside one page.
            self.zero(pos, offset(end).saturating_sub(offset(pos)));
            return Ok(());
        }
        if offset(pos) != 0 {
            self.zero(pos, PAGE_SIZE.saturating_sub(offset(pos)));
        }
        if first < last {
            // SAFETY: `xa` is initialised and has pages of order 0 only.
            let gone = unsafe { sys::lio_pages_drop(self.xa.get(), first, last.saturating_sub(1)) };
            self.count.fetch_sub(gone as isize, Relaxed);
        }
        self.zero(end.saturating_sub(offset(end) as u64), offset(end));
        Ok(())
    }

    /// How many pages there are.
    pub fn pages(&self) -> usize {
        // One that was just added may be dropped before it is counted.
        usize::try_from(self.count.load(Relaxed)).unwrap_or(0)
    }

    /// How many more there is memory for, in all stores together.
    pub fn room() -> usize {
        // SAFETY: The call has no requirements.
        unsafe { sys::lio_pages_room() as usize }
    }

    /// Whether there is a page for byte `pos`, and for how many of the `len` bytes from there on, not zero, that goes on. Of a very
    /// long run of pages it may say less. Any context.
    pub fn run(&self, pos: u64, len: u64) -> (bool, u64) {
        let first = index(pos);
        let last = index(pos.saturating_add(len.saturating_sub(1)));
        let mut there = false;
        // SAFETY: `xa` is initialised; `there` is written.
        let next = unsafe { sys::lio_pages_run(self.xa.get(), first, last, &mut there) } as u64;
        let end = next.saturating_mul(PAGE_SIZE as u64);
        (there, end.saturating_sub(pos).min(len))
    }

    /// Zeroes `len` bytes at `pos`, which are inside one page.
    fn zero(&self, pos: u64, len: usize) {
        if len == 0 {
            return;
        }
        if let Some(page) = Pages::new(self, pos, len as u64).get(index(pos)) {
            let len = len.min(PAGE_SIZE.saturating_sub(offset(pos)));
            // SAFETY: The page is alive and valid for `PAGE_SIZE` bytes.
            unsafe { address(page, pos).cast::<u8>().write_bytes(0, len) };
        }
    }
}

/// The address of byte `pos` in the page that it is in.
fn address(page: &PageRef, pos: u64) -> *mut kernel::ffi::c_void {
    // SAFETY: The page is alive and has a kernel address.
    unsafe { sys::lio_page_address(page.as_ptr()) }.wrapping_byte_add(offset(pos))
}

#[pinned_drop]
impl PinnedDrop for PageStore {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: `xa` is initialised and has pages of order 0 only; it is not used after this.
        unsafe {
            sys::lio_pages_drop(self.xa.get(), 0, usize::MAX);
            bindings::xa_destroy(self.xa.get());
        }
    }
}
