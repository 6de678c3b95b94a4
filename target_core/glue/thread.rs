// SPDX-License-Identifier: GPL-2.0

//! Kernel threads, the events that they sleep for, and a coarse clock.

use crate::sys;
use core::{ffi::c_void, ptr::NonNull};
use kernel::{
    bindings,
    error::{code::*, to_result},
    prelude::*,
    str::CStr,
    sync::Arc,
    types::Opaque,
};

/// Milliseconds since boot, as exact as the timer tick. Cheap enough to be read for each command.
pub fn now_ms() -> u64 {
    // SAFETY: Reads the clock; no conditions.
    unsafe { sys::lio_now_ms() }
}

/// Runs `f` on a new kernel thread named `name` (cut to 15 bytes).
///
/// `module` is pinned until the thread has ended: the module whose code `f` is.
///
/// # Errors
/// `ENOMEM`; `ENODEV` when `module` is being unloaded; `EINTR` when the caller has been killed. `f` is dropped.
pub fn spawn<F: FnOnce() + Send + 'static>(
    module: &'static ThisModule,
    name: &CStr,
    f: F,
) -> Result {
    /// # Safety
    /// `arg` comes from `KBox::into_raw` and is given up.
    unsafe extern "C" fn run<F: FnOnce()>(arg: *mut c_void) {
        // SAFETY: See the function's condition.
        let f = unsafe { KBox::from_raw(arg.cast::<F>()) };
        KBox::into_inner(f)();
    }

    let arg = KBox::into_raw(KBox::new(f, GFP_KERNEL)?);
    // SAFETY: `run` gets `arg` exactly once, on the thread, if and only if this succeeds; `module` holds its code
    // for so long. `name` is valid for the call.
    let r = to_result(unsafe {
        sys::lio_thread_spawn(
            module.as_ptr(),
            name.as_char_ptr(),
            Some(run::<F>),
            arg.cast(),
        )
    });
    if r.is_err() {
        // SAFETY: The thread was not made, so the box is still ours.
        drop(unsafe { KBox::from_raw(arg) });
    }
    r
}

// How long to sleep, as the shims have it.
fn limit(ms: Option<u32>) -> u32 {
    ms.map_or(sys::LIO_WAIT_FOREVER, |ms| {
        ms.min(sys::LIO_WAIT_FOREVER - 1)
    })
}

/// Events that one thread sleeps for, and that anybody sets, in any context.
#[pin_data]
pub struct Waker {
    #[pin]
    inner: Opaque<sys::lio_waker>,
}

// SAFETY: A wait queue and an atomic, made for this.
unsafe impl Send for Waker {}
// SAFETY: As above.
unsafe impl Sync for Waker {}

impl Waker {
    /// The socket has bytes, or has been closed.
    pub const RX: u32 = sys::LIO_EVENT_RX;
    /// The socket has room for more bytes.
    pub const TX: u32 = sys::LIO_EVENT_TX;
    /// The first bit that the user of a waker may define himself, with all above it.
    pub const FIRST_FREE: u32 = 4;

    /// No events.
    pub fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            inner <- Opaque::ffi_init(|slot: *mut sys::lio_waker| {
                // SAFETY: `slot` is memory for a waker, which is pinned from here on.
                unsafe { sys::lio_waker_init(slot) }
            }),
        })
    }

    pub(crate) fn as_ptr(&self) -> *mut sys::lio_waker {
        self.inner.get()
    }

    /// Sets `events` and wakes the sleeper unless it has been woken for them. From any context, also hard interrupts.
    pub fn wake(&self, events: u32) {
        // SAFETY: The waker is initialised.
        unsafe { sys::lio_waker_wake(self.as_ptr(), events) }
    }

    /// Sleeps until there are events, for `ms` milliseconds at most (`None`: for ever), and takes them all. Zero
    /// milliseconds look only.
    pub fn wait(&self, ms: Option<u32>) -> u32 {
        // SAFETY: The waker is initialised.
        unsafe { sys::lio_waker_wait(self.as_ptr(), limit(ms)) }
    }
}

/// A timer for all the sleeps of a waker's one sleeper: to set one for each costs more than the rest of a short sleep.
///
/// # Invariants
/// `inner` was initialised with `waker`.
#[pin_data(PinnedDrop)]
pub struct Alarm {
    #[pin]
    inner: Opaque<sys::lio_alarm>,
    _waker: Arc<Waker>,
}

// SAFETY: A timer may be used from any thread.
unsafe impl Send for Alarm {}

impl Alarm {
    /// That of the one which sleeps for the events of `waker`.
    pub fn new(waker: Arc<Waker>) -> impl PinInit<Self> {
        let w = waker.as_ptr();
        // INVARIANT: As it says.
        pin_init!(Self {
            inner <- Opaque::ffi_init(move |slot: *mut sys::lio_alarm| {
                // SAFETY: `slot` is memory for an alarm, which is pinned from here on; it keeps the waker until it is dropped,
                // and has the timer ended by then.
                unsafe { sys::lio_alarm_init(slot, w) }
            }),
            _waker: waker,
        })
    }

    /// As [`Waker::wait`].
    pub fn wait(self: Pin<&mut Self>, ms: Option<u32>) -> u32 {
        // SAFETY: By the invariant it is initialised, and its waker is there. Nobody else uses it.
        unsafe { sys::lio_alarm_wait(self.inner.get(), limit(ms)) }
    }
}

#[pinned_drop]
impl PinnedDrop for Alarm {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: It is initialised, and not used after this.
        unsafe { sys::lio_alarm_end(self.inner.get()) }
    }
}

/// A set of CPUs, with the text form of `cpulist` ("0-3,7").
pub struct CpuList(NonNull<bindings::cpumask>);

// SAFETY: A mask of bits that is written only through `&mut self`.
unsafe impl Send for CpuList {}
// SAFETY: As above.
unsafe impl Sync for CpuList {}

impl CpuList {
    /// All CPUs that there may be.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn all() -> Result<Self> {
        // SAFETY: An allocation.
        NonNull::new(unsafe { sys::lio_cpus_alloc() }.cast())
            .map(Self)
            .ok_or(ENOMEM)
    }

    /// Parses a list.
    ///
    /// # Errors
    /// `EINVAL` or `ERANGE` for what is not a list of CPUs; `ENOMEM`.
    pub fn parse(list: &CStr) -> Result<Self> {
        let c = Self::all()?;
        // SAFETY: The mask is ours, and the string valid for the call.
        to_result(unsafe { sys::lio_cpus_parse(c.0.as_ptr(), list.as_char_ptr()) })?;
        Ok(c)
    }

    /// Whether one of them runs.
    pub fn any_online(&self) -> bool {
        // SAFETY: The mask is valid.
        unsafe { sys::lio_cpus_any_online(self.0.as_ptr()) }
    }

    /// The calling kernel thread runs on these CPUs only, from here on.
    ///
    /// # Errors
    /// `EINVAL`: none of them is online.
    pub fn run_on(&self) -> Result {
        // SAFETY: The mask is valid, and a thread may change where it runs itself.
        to_result(unsafe { sys::lio_cpus_run_on(self.0.as_ptr()) })
    }

    /// Writes the list into `out`, cut where it does not fit; returns its length.
    pub fn print(&self, out: &mut [u8]) -> usize {
        // SAFETY: The mask is valid, and `out` has its length; a NUL is counted in.
        let n = unsafe { sys::lio_cpus_print(self.0.as_ptr(), out.as_mut_ptr().cast(), out.len()) };
        usize::try_from(n).unwrap_or(0)
    }
}

impl Drop for CpuList {
    fn drop(&mut self) {
        // SAFETY: The mask is ours and not used after this.
        unsafe { sys::lio_cpus_free(self.0.as_ptr()) }
    }
}
