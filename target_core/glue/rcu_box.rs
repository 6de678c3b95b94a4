// SPDX-License-Identifier: GPL-2.0

//! One published [`Arc`], read without a lock.

use crate::{defer::Node, lock_class::one_class};
use core::ptr;
use kernel::{
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full},
        rcu, Arc, ArcBorrow, Mutex,
    }, //
};

/// An RCU-protected `Option<Arc<T>>`.
///
/// # Invariants
/// `ptr` is null or from `Arc::into_raw`; the box owns that reference until a grace period after it was replaced.
/// `node` is there when `ptr` is not null.
#[pin_data(PinnedDrop)]
pub struct RcuBox<T: Send + Sync + 'static> {
    ptr: Atomic<*mut T>,
    // Serialises writers.
    #[pin]
    node: Mutex<Option<Node>>,
}

// SAFETY: It hands out references to `T` only, which may go to and be dropped on any thread.
unsafe impl<T: Send + Sync + 'static> Send for RcuBox<T> {}
// SAFETY: As above; readers are protected by RCU and writers by a mutex.
unsafe impl<T: Send + Sync + 'static> Sync for RcuBox<T> {}

impl<T: Send + Sync + 'static> RcuBox<T> {
    /// An empty box.
    pub fn new() -> impl PinInit<Self> {
        let (name, class) = one_class!("RcuBox::node");
        pin_init!(Self {
            ptr: Atomic::new(ptr::null_mut()),
            node <- Mutex::new(None, name, class),
        })
    }

    /// Calls `f` on the value, if there is one. Any context; `f` must not sleep.
    #[inline]
    pub fn with<R>(&self, f: impl FnOnce(ArcBorrow<'_, T>) -> R) -> Option<R> {
        let _guard = rcu::read_lock();
        let ptr = self.ptr.load(Acquire);
        if ptr.is_null() {
            return None;
        }
        // SAFETY: By the invariant it is from `Arc::into_raw`, and the box's reference lasts at least as long as the
        // read lock that we hold.
        Some(f(unsafe { ArcBorrow::from_raw(ptr.cast_const()) }))
    }

    /// The value, if there is one. Any context.
    #[inline]
    pub fn get(&self) -> Option<Arc<T>> {
        self.with(|value| value.into())
    }

    /// Publishes `value`, and returns what was there. May sleep.
    ///
    /// # Errors
    /// `ENOMEM`; nothing is changed then.
    pub fn publish(&self, value: Arc<T>) -> Result<Option<Arc<T>>> {
        let new = Node::new()?;
        let mut node = self.node.lock();
        let old_node = node.replace(new);
        Ok(self.swap(Arc::into_raw(value).cast_mut(), old_node))
    }

    /// Takes the value out. May sleep.
    pub fn clear(&self) -> Option<Arc<T>> {
        let mut node = self.node.lock();
        let old_node = node.take();
        self.swap(ptr::null_mut(), old_node)
    }

    /// The caller holds the lock; `new` is null or from `Arc::into_raw`, whose reference goes to the box.
    fn swap(&self, new: *mut T, node: Option<Node>) -> Option<Arc<T>> {
        let old = self.ptr.xchg(new, Full);
        if old.is_null() {
            return None;
        }
        // SAFETY: By the invariant; it is no longer in the box, so its reference is ours.
        let old = unsafe { Arc::from_raw(old.cast_const()) };
        match node {
            Some(node) => node.drop_later(old.clone()),
            // By the invariant there is one; without, it costs a wait, and no safety.
            None => {
                rcu::synchronize_rcu();
            }
        }
        Some(old)
    }
}

#[pinned_drop]
impl<T: Send + Sync + 'static> PinnedDrop for RcuBox<T> {
    fn drop(self: Pin<&mut Self>) {
        let ptr = self.ptr.load(Acquire);
        if !ptr.is_null() {
            // SAFETY: By the invariant. Readers borrow the box, so there is none.
            drop(unsafe { Arc::from_raw(ptr.cast_const()) });
        }
    }
}
