// SPDX-License-Identifier: GPL-2.0

//! A map from an index to an [`Arc`], read without a lock.
//!
//! On the kernel's xarray. A removed value is dropped after a grace period, in process context, without anybody
//! waiting for it; see [`defer`](crate::defer).

use crate::{defer::Node, lock_class::one_class, noio};
use core::marker::PhantomData;
use kernel::{
    bindings,
    error::to_result,
    prelude::*,
    sync::{rcu, Arc, ArcBorrow, Mutex},
    types::Opaque, //
};

/// An RCU-protected map `usize -> Arc<T>`.
///
/// # Invariants
/// Each entry of `xa` is a pointer from `Arc::into_raw`, whose reference the map owns until a grace period after the
/// entry was taken out. `nodes` has one node for each entry.
#[pin_data(PinnedDrop)]
pub struct RcuMap<T: Send + Sync + 'static> {
    #[pin]
    xa: Opaque<bindings::xarray>,
    // Serialises writers. Commands may wait for who has it, so what is allocated under it must not wait for I/O.
    #[pin]
    nodes: Mutex<KVec<Node>>,
    _owns: PhantomData<Arc<T>>,
}

// SAFETY: It hands out references to `T` only, which may go to and be dropped on any thread.
unsafe impl<T: Send + Sync + 'static> Send for RcuMap<T> {}
// SAFETY: As above; readers are protected by RCU and writers by a mutex.
unsafe impl<T: Send + Sync + 'static> Sync for RcuMap<T> {}

impl<T: Send + Sync + 'static> RcuMap<T> {
    /// An empty map.
    pub fn new() -> impl PinInit<Self> {
        let (name, class) = one_class!("RcuMap::nodes");
        pin_init!(Self {
            // SAFETY: `xa` is memory for it that stays where it is.
            xa <- Opaque::ffi_init(|xa| unsafe { bindings::xa_init_flags(xa, bindings::XA_FLAGS_ALLOC) }),
            nodes <- Mutex::new(KVec::new(), name, class),
            _owns: PhantomData,
        })
    }

    /// Calls `f` on the entry at `index`, if there is one. Any context; `f` must not sleep.
    #[inline]
    pub fn with<R>(&self, index: usize, f: impl FnOnce(ArcBorrow<'_, T>) -> R) -> Option<R> {
        let _guard = rcu::read_lock();
        // SAFETY: `xa` is initialised.
        let ptr = unsafe { bindings::xa_load(self.xa.get(), index) }
            .cast_const()
            .cast::<T>();
        if ptr.is_null() {
            return None;
        }
        // SAFETY: By the invariant it is from `Arc::into_raw`, and the map's reference lasts at least as long as the
        // read lock that we hold.
        Some(f(unsafe { ArcBorrow::from_raw(ptr) }))
    }

    /// The entry at `index`, if there is one. Any context.
    #[inline]
    pub fn get(&self, index: usize) -> Option<Arc<T>> {
        self.with(index, |value| value.into())
    }

    /// Whether there is no entry. Any context.
    pub fn is_empty(&self) -> bool {
        self.next(0).is_none()
    }

    /// The first entry at or above `index`. Any context.
    pub fn next(&self, index: usize) -> Option<(usize, Arc<T>)> {
        let mut at = index;
        let _guard = rcu::read_lock();
        // SAFETY: `xa` is initialised, and `at` is ours.
        let ptr =
            unsafe { bindings::xa_find(self.xa.get(), &mut at, usize::MAX, bindings::XA_PRESENT) };
        if ptr.is_null() {
            return None;
        }
        // SAFETY: As in `with`.
        let entry = unsafe { ArcBorrow::from_raw(ptr.cast_const().cast::<T>()) };
        Some((at, entry.into()))
    }

    /// The entries in the order of their indices. What is inserted or removed meanwhile is seen or not. The loop's
    /// body may sleep.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter {
            map: self,
            next: Some(0),
        }
    }

    /// Puts `value` at `index`, which must be free. May sleep.
    ///
    /// # Errors
    /// `EEXIST`, `ENOMEM`.
    pub fn insert(&self, index: usize, value: Arc<T>) -> Result {
        let node = Node::new()?;
        let mut nodes = self.nodes.lock();
        // SAFETY: `xa` is initialised.
        if !unsafe { bindings::xa_load(self.xa.get(), index) }.is_null() {
            return Err(EEXIST);
        }
        push(&mut nodes, node)?;
        let stored = self.store(index, value).map(|_| ());
        if stored.is_err() {
            nodes.pop();
        }
        stored
    }

    /// Puts `value` at `index`, and returns what was there. May sleep.
    ///
    /// # Errors
    /// `ENOMEM`; the map is unchanged then.
    pub fn replace(&self, index: usize, value: Arc<T>) -> Result<Option<Arc<T>>> {
        let node = Node::new()?;
        let mut nodes = self.nodes.lock();
        push(&mut nodes, node)?;
        match self.store(index, value) {
            Ok(None) => Ok(None),
            Ok(Some(old)) => {
                drop_later(&mut nodes, old.clone());
                Ok(Some(old))
            }
            Err(error) => {
                nodes.pop();
                Err(error)
            }
        }
    }

    /// Takes the entry at `index` out of the map. Readers may go on using it; the map's own reference is dropped after
    /// a grace period. May sleep.
    pub fn remove(&self, index: usize) -> Option<Arc<T>> {
        let mut nodes = self.nodes.lock();
        // SAFETY: `xa` is initialised.
        let ptr = unsafe { bindings::xa_erase(self.xa.get(), index) }
            .cast_const()
            .cast::<T>();
        if ptr.is_null() {
            return None;
        }
        // SAFETY: By the invariant; it is no longer in the map, so its reference is ours.
        let old = unsafe { Arc::from_raw(ptr) };
        drop_later(&mut nodes, old.clone());
        Some(old)
    }

    /// Takes the entry at `index` out of the map if it is `value`; whether it was. May sleep.
    pub fn remove_this(&self, index: usize, value: &Arc<T>) -> bool {
        let mut nodes = self.nodes.lock();
        // SAFETY: `xa` is initialised.
        let ptr = unsafe { bindings::xa_load(self.xa.get(), index) }
            .cast_const()
            .cast::<T>();
        if !core::ptr::eq(ptr, Arc::as_ptr(value)) {
            return false;
        }
        // SAFETY: `xa` is initialised. The entry is still `ptr`, since the mutex keeps other writers away; by the
        // invariant its reference is ours once it is out of the map.
        let old = unsafe {
            bindings::xa_erase(self.xa.get(), index);
            Arc::from_raw(ptr)
        };
        drop_later(&mut nodes, old);
        true
    }

    /// Stores without looking at `nodes`; the caller holds that lock.
    fn store(&self, index: usize, value: Arc<T>) -> Result<Option<Arc<T>>> {
        let new = Arc::into_raw(value);
        // SAFETY: `xa` is initialised, and an `Arc`'s value is at least 4-byte aligned, behind its reference count.
        let old = noio::scope(|| unsafe {
            bindings::xa_store(
                self.xa.get(),
                index,
                new.cast_mut().cast(),
                bindings::GFP_KERNEL,
            )
        });
        // SAFETY: `old` is what `xa_store` returned.
        if let Err(error) = to_result(unsafe { bindings::xa_err(old) }) {
            // SAFETY: It was not stored, so the reference is still ours.
            drop(unsafe { Arc::from_raw(new) });
            return Err(error);
        }
        if old.is_null() {
            return Ok(None);
        }
        // SAFETY: By the invariant; it is no longer in the map, so its reference is ours.
        Ok(Some(unsafe { Arc::from_raw(old.cast_const().cast::<T>()) }))
    }
}

fn push(nodes: &mut KVec<Node>, node: Node) -> Result {
    Ok(noio::scope(|| nodes.push(node, GFP_KERNEL))?)
}

/// Drops what was taken out of the map.
fn drop_later<T: Send + Sync>(nodes: &mut KVec<Node>, old: Arc<T>) {
    match nodes.pop() {
        Some(node) => node.drop_later(old),
        // By the invariant there is a node; without one it costs a wait, and no safety.
        None => {
            rcu::synchronize_rcu();
            drop(old)
        }
    }
}

#[pinned_drop]
impl<T: Send + Sync + 'static> PinnedDrop for RcuMap<T> {
    fn drop(self: Pin<&mut Self>) {
        let mut at = 0;
        loop {
            // SAFETY: `xa` is initialised, and `at` is ours.
            let ptr = unsafe {
                bindings::xa_find(self.xa.get(), &mut at, usize::MAX, bindings::XA_PRESENT)
            };
            if ptr.is_null() {
                break;
            }
            // SAFETY: By the invariant. Readers borrow the map, so there is none.
            unsafe {
                bindings::xa_erase(self.xa.get(), at);
                drop(Arc::from_raw(ptr.cast_const().cast::<T>()));
            }
        }
        // SAFETY: `xa` is initialised, and not used after this.
        unsafe { bindings::xa_destroy(self.xa.get()) };
    }
}

/// See [`RcuMap::iter`].
pub struct Iter<'a, T: Send + Sync + 'static> {
    map: &'a RcuMap<T>,
    next: Option<usize>,
}

impl<T: Send + Sync + 'static> Iterator for Iter<'_, T> {
    type Item = (usize, Arc<T>);

    fn next(&mut self) -> Option<Self::Item> {
        let found = self.map.next(self.next?)?;
        self.next = found.0.checked_add(1);
        Some(found)
    }
}
