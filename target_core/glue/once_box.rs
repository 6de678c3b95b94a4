// SPDX-License-Identifier: GPL-2.0

//! Something that is made when it is first wanted, and then stays: for what few of many objects have.

use core::ptr;
use kernel::{
    prelude::*,
    sync::atomic::{Acquire, Atomic, Full},
};

/// A `T`, or none yet, in the room of one pointer. Read without a lock.
///
/// # Invariants
/// The pointer is null, or from a pinned `KBox<T>` that the box owns; it changes once, from null.
pub struct OnceBox<T: Send + Sync>(Atomic<*mut T>);

// SAFETY: It owns a `T`, and hands out references to it only.
unsafe impl<T: Send + Sync> Send for OnceBox<T> {}
// SAFETY: As above; all accesses to the pointer are atomic.
unsafe impl<T: Send + Sync> Sync for OnceBox<T> {}

impl<T: Send + Sync> OnceBox<T> {
    /// An empty box.
    pub const fn new() -> Self {
        // INVARIANT: null.
        OnceBox(Atomic::new(ptr::null_mut()))
    }

    /// What is in it. Any context.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        // SAFETY: By the invariant it is null or points to what lives as long as the box, and nobody has it mutably.
        unsafe { self.0.load(Acquire).as_ref() }
    }

    /// What is in it, made by `init` if there is nothing yet. Of two who do so at the same time, both get what one of them made.
    /// May sleep.
    ///
    /// # Errors
    /// `ENOMEM`, and what `init` fails with; nothing is changed then.
    pub fn get_or_init<E>(&self, init: impl PinInit<T, E>) -> Result<&T>
    where
        Error: From<E>,
    {
        if let Some(value) = self.get() {
            return Ok(value);
        }
        let new = KBox::pin_init(init, GFP_KERNEL)?;
        // SAFETY: It is never moved: it stays where it is until it is dropped in its box.
        let new = KBox::into_raw(unsafe { Pin::into_inner_unchecked(new) });
        // INVARIANT: from a pinned box, which is the `OnceBox`'s if it is stored.
        let value = match self.0.cmpxchg(ptr::null_mut(), new, Full) {
            Ok(_) => new,
            Err(other) => {
                // SAFETY: Nobody else has seen it.
                drop(unsafe { Pin::new_unchecked(KBox::from_raw(new)) });
                other
            }
        };
        // SAFETY: As in `get`; it is not null.
        Ok(unsafe { &*value })
    }
}

impl<T: Send + Sync> Default for OnceBox<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Send + Sync> Drop for OnceBox<T> {
    fn drop(&mut self) {
        let ptr = self.0.load(Acquire);
        if !ptr.is_null() {
            // SAFETY: By the invariant, and nobody borrows the box any more.
            drop(unsafe { Pin::new_unchecked(KBox::from_raw(ptr)) });
        }
    }
}
