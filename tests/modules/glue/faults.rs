// SPDX-License-Identifier: GPL-2.0

//! Faults in Rust, which lio_faults.c calls: see there.

use core::{cell::UnsafeCell, hint::black_box};
use kernel::{new_mutex, new_spinlock, prelude::*, sync::Refcount};

/// The allocation of the fault itself, which is small; where there is no memory, nothing is committed.
fn bytes() -> Option<KBox<[u8; 200]>> {
    KBox::new([1; 200], GFP_KERNEL).ok()
}

/// Reads what has been freed.
#[no_mangle]
pub extern "C" fn lio_fault_use_after_free() {
    if let Some(b) = bytes() {
        let p = KBox::into_raw(b);
        // SAFETY: `p` is what `into_raw` gave.
        drop(unsafe { KBox::from_raw(p) });
        // SAFETY: None, this is the fault.
        black_box(unsafe { p.cast::<u8>().add(8).read_volatile() });
    }
}

/// Reads past the end of an allocation.
#[no_mangle]
pub extern "C" fn lio_fault_out_of_bounds() {
    if let Some(b) = bytes() {
        // SAFETY: None, this is the fault.
        black_box(unsafe { b.as_ptr().add(200).read_volatile() });
    }
}

/// Allocates, as who may sleep, under a spin lock.
#[no_mangle]
pub extern "C" fn lio_fault_sleep_in_atomic() {
    if let Ok(lock) = KBox::pin_init(new_spinlock!(()), GFP_KERNEL) {
        let _guard = lock.lock();
        black_box(bytes());
    }
}

/// Takes two locks in both orders.
#[no_mangle]
pub extern "C" fn lio_fault_lock_inversion() {
    let a = KBox::pin_init(new_mutex!(()), GFP_KERNEL);
    let b = KBox::pin_init(new_mutex!(()), GFP_KERNEL);
    if let (Ok(a), Ok(b)) = (a, b) {
        for (first, second) in [(&a, &b), (&b, &a)] {
            let _first = first.lock();
            let _second = second.lock();
        }
    }
}

/// Loses allocations.
#[no_mangle]
pub extern "C" fn lio_fault_leak() {
    for _ in 0..10 {
        if let Some(b) = bytes() {
            KBox::leak(b);
        }
    }
}

/// Takes a reference where there is none left.
#[no_mangle]
pub extern "C" fn lio_fault_refcount() {
    Refcount::new(0).inc();
}

/// Warns.
#[no_mangle]
pub extern "C" fn lio_fault_warn() {
    kernel::warn_on!(black_box(true));
}

/// Overflows an integer.
#[no_mangle]
pub extern "C" fn lio_fault_overflow() {
    black_box(black_box(u32::MAX) + 1);
}

/// Breaks an assertion that only debug kernels check.
#[no_mangle]
pub extern "C" fn lio_fault_assertion() {
    debug_assert!(black_box(false));
}

struct Racy(UnsafeCell<u64>);
// SAFETY: None, this is the fault.
unsafe impl Sync for Racy {}
static RACY: Racy = Racy(UnsafeCell::new(0));

/// Counts, as who is alone.
#[no_mangle]
pub extern "C" fn lio_fault_racy_add() {
    // SAFETY: None, this is the fault: two threads call it.
    let count = unsafe { &mut *RACY.0.get() };
    *count = count.wrapping_add(1);
}
