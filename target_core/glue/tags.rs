// SPDX-License-Identifier: GPL-2.0

//! Tags: small numbers, each given out once until it is put back. On the kernel's sbitmap.

use crate::sys;
use kernel::{bindings, error::to_result, prelude::*, types::Opaque};

/// The tags `0..depth`.
pub struct Tags {
    // Behind a pointer, since an allocator's per-CPU words are large and the owner should stay small.
    map: KBox<Opaque<bindings::sbitmap>>,
    depth: u32,
}

// SAFETY: An sbitmap may be used from any thread.
unsafe impl Send for Tags {}
// SAFETY: As above; its operations are atomic.
unsafe impl Sync for Tags {}

impl Tags {
    /// `depth` tags, all free. May sleep.
    ///
    /// # Errors
    /// `EINVAL` for no tags or more than `i32::MAX`, `ENOMEM`.
    pub fn new(depth: u32) -> Result<Self> {
        if depth == 0 || depth > i32::MAX as u32 {
            return Err(EINVAL);
        }
        let map = KBox::new(Opaque::zeroed(), GFP_KERNEL)?;
        // SAFETY: `map` is memory for it; an sbitmap may be moved, and does not move here.
        to_result(unsafe { sys::lio_tags_init(map.get(), depth) })?;
        Ok(Tags { map, depth })
    }

    /// How many there are.
    pub fn depth(&self) -> u32 {
        self.depth
    }

    /// A free tag. Any context.
    #[inline]
    pub fn get(&self) -> Option<u32> {
        // SAFETY: `map` is initialised.
        u32::try_from(unsafe { bindings::sbitmap_get(self.map.get()) }).ok()
    }

    /// Puts back a tag that [`get`](Self::get) gave out. A number that is no tag is ignored. A full barrier on both sides of that. Any
    /// context.
    #[inline]
    pub fn put(&self, tag: u32) {
        if tag < self.depth {
            // SAFETY: `map` is initialised and has the bit `tag`.
            unsafe { sys::lio_tags_put(self.map.get(), tag) }
        }
    }

    /// How many are given out. Any context; not exact while others get and put.
    pub fn busy(&self) -> u32 {
        // SAFETY: `map` is initialised.
        unsafe { bindings::sbitmap_weight(self.map.get()) }
    }
}

impl Drop for Tags {
    fn drop(&mut self) {
        // SAFETY: `map` is initialised, and not used after this.
        unsafe { sys::lio_tags_free(self.map.get()) }
    }
}
