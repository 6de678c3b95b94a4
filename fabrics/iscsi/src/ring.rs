// SPDX-License-Identifier: GPL-2.0

//! A first-in, first-out queue that keeps its memory.

use kernel::{alloc::KVVec, prelude::*};

/// A queue that grows by doubling.
pub(crate) struct Ring<T> {
    // Its length is 0 or a power of two.
    // Not in one piece: large reads by an initiator that takes little at a time are many.
    slots: KVVec<Option<T>>,
    first: usize,
    len: usize,
}

impl<T> Ring<T> {
    /// An empty queue; allocates nothing.
    pub(crate) const fn new() -> Self {
        Ring {
            slots: KVVec::new(),
            first: 0,
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn at(&self, i: usize) -> usize {
        self.first.wrapping_add(i) & self.slots.len().wrapping_sub(1)
    }

    /// The element `i` places after the oldest one.
    pub(crate) fn get(&self, i: usize) -> Option<&T> {
        if i >= self.len {
            return None;
        }
        self.slots.get(self.at(i))?.as_ref()
    }

    /// As [`Self::get`].
    pub(crate) fn get_mut(&mut self, i: usize) -> Option<&mut T> {
        if i >= self.len {
            return None;
        }
        let at = self.at(i);
        self.slots.get_mut(at)?.as_mut()
    }

    /// The newest element.
    pub(crate) fn back(&self) -> Option<&T> {
        self.get(self.len.checked_sub(1)?)
    }

    /// Makes room for one more.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn reserve(&mut self) -> Result {
        if self.len < self.slots.len() {
            return Ok(());
        }
        let size = self.slots.len().saturating_mul(2).max(16);
        let mut bigger = KVVec::with_capacity(size, GFP_KERNEL)?;
        while let Some(x) = self.pop() {
            bigger.push(Some(x), GFP_KERNEL)?;
        }
        self.len = bigger.len();
        while bigger.len() < size {
            bigger.push(None, GFP_KERNEL)?;
        }
        self.slots = bigger;
        self.first = 0;
        Ok(())
    }

    /// Appends an element.
    ///
    /// # Errors
    /// The element comes back where there is no memory for it.
    pub(crate) fn push(&mut self, x: T) -> Result<(), T> {
        if self.reserve().is_err() {
            return Err(x);
        }
        let at = self.at(self.len);
        match self.slots.get_mut(at) {
            Some(slot) => *slot = Some(x),
            None => return Err(x),
        }
        self.len = self.len.saturating_add(1);
        Ok(())
    }

    /// Takes the oldest element.
    pub(crate) fn pop(&mut self) -> Option<T> {
        if self.len == 0 {
            return None;
        }
        let at = self.first;
        self.first = self.at(1);
        self.len = self.len.saturating_sub(1);
        self.slots.get_mut(at)?.take()
    }
}
