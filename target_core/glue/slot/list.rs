// SPDX-License-Identifier: GPL-2.0

//! Erased tokens in a list that needs no memory, for one user at a time: it is kept under a lock.

use super::{Erased, Head};
use core::{
    mem::ManuallyDrop,
    ptr::{self, NonNull},
};
use kernel::sync::atomic::Relaxed;

/// Tokens, oldest first. Those that are left are dropped with it, which finishes them.
///
/// # Invariants
/// From `first` on, each head's `next` is the address of the following one, or 0 in `last`. Each is an [`Erased`]'s that was
/// given up to the list.
pub struct List<O: 'static, S: 'static> {
    first: Option<NonNull<Head<O, S>>>,
    last: Option<NonNull<Head<O, S>>>,
}

// SAFETY: A list owns erased tokens, which are `Send` for these.
unsafe impl<O: Send, S: Send + Sync> Send for List<O, S> {}
// SAFETY: A shared reference to a list gives no access to them.
unsafe impl<O: Sync, S: Send + Sync> Sync for List<O, S> {}

impl<O, S> Default for List<O, S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<O, S> List<O, S> {
    /// An empty list.
    pub const fn new() -> Self {
        List {
            first: None,
            last: None,
        }
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Appends a token.
    pub fn push(&mut self, token: Erased<O, S>) {
        let head = ManuallyDrop::new(token).head;
        // SAFETY: The slot is alive, and was the token's; nobody else uses `next` of a slot that has an owner.
        unsafe { head.as_ref().next.store(0, Relaxed) };
        match self.last.replace(head) {
            // SAFETY: By the invariant the list owns it.
            Some(last) => unsafe {
                last.as_ref()
                    .next
                    .store(head.as_ptr().expose_provenance(), Relaxed)
            },
            None => self.first = Some(head),
        }
    }

    /// Takes the oldest token.
    pub fn pop(&mut self) -> Option<Erased<O, S>> {
        let head = self.first?;
        // SAFETY: By the invariant the list owns it.
        let next = unsafe { head.as_ref().next.load(Relaxed) };
        self.first = NonNull::new(ptr::with_exposed_provenance_mut(next));
        if self.first.is_none() {
            self.last = None;
        }
        // INVARIANT: It was a token's, and leaves the list here.
        Some(Erased { head })
    }

    /// Whether `which` holds of any token.
    pub fn any(&self, mut which: impl FnMut(&Erased<O, S>) -> bool) -> bool {
        let mut next = self.first;
        while let Some(head) = next {
            // The list's still: it is not dropped here.
            let token = ManuallyDrop::new(Erased { head });
            if which(&token) {
                return true;
            }
            // SAFETY: By the invariant the list owns it.
            let address = unsafe { head.as_ref().next.load(Relaxed) };
            next = NonNull::new(ptr::with_exposed_provenance_mut(address));
        }
        false
    }

    /// Takes those tokens out of which `which` holds, in their order.
    pub fn take(&mut self, mut which: impl FnMut(&Erased<O, S>) -> bool) -> Self {
        let (mut taken, mut left) = (List::new(), List::new());
        while let Some(token) = self.pop() {
            if which(&token) {
                taken.push(token);
            } else {
                left.push(token);
            }
        }
        core::mem::swap(self, &mut left);
        taken
    }
}

impl<O: 'static, S: 'static> Drop for List<O, S> {
    fn drop(&mut self) {
        while let Some(token) = self.pop() {
            drop(token);
        }
    }
}
