// SPDX-License-Identifier: GPL-2.0

//! Something that is used while its gate is open, and goes when the last user has left.
//!
//! Entering and leaving touch this CPU's own counter only (a `percpu_ref`). [`Gated<T>`] is the owner's handle,
//! [`Ticket<T>`] a user's: it keeps the gate from being closed and `T` from being dropped. A plain gate is `Gated<()>`.

use crate::sys;
use core::{marker::PhantomData, ops::Deref, ptr::NonNull};
use kernel::{
    alloc::KBox,
    error::to_result,
    prelude::*,
    types::Opaque, //
};

#[repr(C)]
#[pin_data]
struct Inner<T> {
    // First, so that the C side's pointer is also a pointer to all.
    #[pin]
    gate: Opaque<sys::lio_gate>,
    #[pin]
    data: T,
}

/// The owner of `T` and of its gate. Dropping it closes the gate without waiting; `T` is dropped, in process context,
/// when the last ticket is back.
///
/// # Invariants
/// The pointer is to a live pinned `Inner` whose gate counts this handle as a party.
pub struct Gated<T: Send + Sync> {
    ptr: NonNull<Inner<T>>,
    _owns: PhantomData<Inner<T>>,
}

/// An entry through the gate. Dropping it leaves; that is possible in any context.
///
/// # Invariants
/// The pointer is to a live `Inner`, on whose gate this holds one reference.
pub struct Ticket<T: Send + Sync> {
    ptr: NonNull<Inner<T>>,
    _uses: PhantomData<Inner<T>>,
}

/// A gate that guards nothing but what its users agree on.
pub type Gate = Gated<()>;

// SAFETY: `T` is `Send` and `Sync`, and the C side's gate may be used from any thread.
unsafe impl<T: Send + Sync> Send for Gated<T> {}
// SAFETY: As above.
unsafe impl<T: Send + Sync> Sync for Gated<T> {}
// SAFETY: As above; giving a reference back is possible from any thread.
unsafe impl<T: Send + Sync> Send for Ticket<T> {}
// SAFETY: As above.
unsafe impl<T: Send + Sync> Sync for Ticket<T> {}

/// # Safety
/// `gate` is that of an `Inner<T>` that nobody uses any more, and that this takes over.
unsafe extern "C" fn free<T>(gate: *mut sys::lio_gate) {
    // SAFETY: The C side calls this once, when neither owner nor tickets are left; `gate` is the first field of the
    // `Inner<T>` that `Gated::new` leaked.
    unsafe {
        sys::lio_gate_exit(gate);
        drop(KBox::from_raw(gate.cast::<Inner<T>>()));
    }
}

// What is guarded may outlive the handle: it is dropped when the last ticket is back.
impl<T: Send + Sync + 'static> Gated<T> {
    /// Puts `data` behind a gate that is open. May sleep.
    ///
    /// # Errors
    /// `ENOMEM`, `ENODEV` without a [`Deferral`](crate::defer::Deferral).
    pub fn new(data: T) -> Result<Self> {
        Self::from_init(try_pin_init!(Inner {
            data,
            gate <- Self::gate_init(),
        }? Error))
    }

    /// As [`new`](Self::new), for data that is made in place.
    ///
    /// # Errors
    /// Those of [`new`](Self::new), and what `data` fails with.
    pub fn pin_init<E>(data: impl PinInit<T, E>) -> Result<Self>
    where
        Error: From<E>,
    {
        Self::from_init(try_pin_init!(Inner {
            data <- data,
            gate <- Self::gate_init(),
        }? Error))
    }

    // The gate is made last: what is made before it is undone when it fails.
    fn gate_init() -> impl PinInit<Opaque<sys::lio_gate>, Error> {
        // SAFETY: `gate` is memory for it that stays where it is, and `free` fits the `Inner` around it.
        Opaque::try_ffi_init(|gate| unsafe { to_result(sys::lio_gate_init(gate, Some(free::<T>))) })
    }

    fn from_init(inner: impl PinInit<Inner<T>, Error>) -> Result<Self> {
        let inner = KBox::try_pin_init(inner, GFP_KERNEL)?;
        // SAFETY: It is never moved: `free` drops it in place, in its box.
        let ptr = KBox::into_raw(unsafe { Pin::into_inner_unchecked(inner) });
        // INVARIANT: `lio_gate_init` counted us.
        Ok(Gated {
            ptr: NonNull::new(ptr).ok_or(ENOMEM)?,
            _owns: PhantomData,
        })
    }

    fn gate(&self) -> *mut sys::lio_gate {
        self.ptr.as_ptr().cast()
    }

    /// Enters, unless the gate is closed or closing. Any context.
    #[inline]
    pub fn try_enter(&self) -> Option<Ticket<T>> {
        // SAFETY: The gate is live by the invariant.
        let entered = unsafe { sys::lio_gate_tryget(self.gate()) };
        // INVARIANT: `lio_gate_tryget` took a reference, which the ticket now holds.
        entered.then(|| Ticket {
            ptr: self.ptr,
            _uses: PhantomData,
        })
    }

    /// Lets nobody in any more; those inside may stay. May sleep. Closing twice is harmless.
    pub fn close(&self) {
        // SAFETY: The gate is live by the invariant.
        unsafe { sys::lio_gate_close(self.gate()) }
    }

    /// Whether [`close`](Self::close) was called.
    pub fn is_closing(&self) -> bool {
        // SAFETY: The gate is live by the invariant.
        unsafe { sys::lio_gate_is_closing(self.gate()) }
    }

    /// Waits until a gate that was closed is empty, for `timeout_ms` at most; whether it is. Sleeps.
    pub fn wait_closed(&self, timeout_ms: u32) -> bool {
        // SAFETY: The gate is live by the invariant.
        unsafe { sys::lio_gate_wait(self.gate(), timeout_ms) }
    }
}

impl<T: Send + Sync> Deref for Gated<T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: Live by the invariant, and nobody has it mutably.
        unsafe { &self.ptr.as_ref().data }
    }
}

impl<T: Send + Sync> Drop for Gated<T> {
    fn drop(&mut self) {
        // SAFETY: The gate is live, and nobody else can close or reopen it now.
        unsafe { sys::lio_gate_release(self.ptr.as_ptr().cast()) }
    }
}

impl<T: Send + Sync> Deref for Ticket<T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: Live by the invariant, and nobody has it mutably.
        unsafe { &self.ptr.as_ref().data }
    }
}

impl<T: Send + Sync> Clone for Ticket<T> {
    #[inline]
    fn clone(&self) -> Self {
        // SAFETY: The gate is live, and our own reference keeps the count from being zero.
        unsafe { sys::lio_gate_get(self.ptr.as_ptr().cast()) };
        // INVARIANT: a reference was just taken.
        Ticket {
            ptr: self.ptr,
            _uses: PhantomData,
        }
    }
}

impl<T: Send + Sync> Drop for Ticket<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the invariant we hold a reference, which goes here.
        unsafe { sys::lio_gate_put(self.ptr.as_ptr().cast()) }
    }
}
