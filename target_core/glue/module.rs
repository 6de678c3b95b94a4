// SPDX-License-Identifier: GPL-2.0

//! Kernel modules.

use crate::sys;
use kernel::{bindings, error::to_result, prelude::*, str::CStr};

/// Has user space's modprobe load the module `name`, and waits for it.
///
/// # Errors
/// modprobe's failure, as the kernel reports it.
pub fn request(name: &CStr) -> Result {
    // SAFETY: `name` is a valid C string for the duration of the call.
    to_result(unsafe { sys::lio_request_module(name.as_char_ptr()) })
}

/// Waits until all threads have left the code that they are in now, unless they sleep in it. The last thing that a module
/// does which others called for something that is over, and whose return they may be in the middle of. Sleeps, for tenths
/// of a second.
pub fn settle() {
    // SAFETY: The call has no requirements.
    unsafe { sys::lio_module_settle() }
}

/// Says to [`settle`] that this thread, which may never sleep, is in no code now that anybody waits for it to leave. Process context.
pub fn left() {
    // SAFETY: The call has no requirements but process context; in another it would be told of.
    unsafe { sys::lio_module_left() }
}

/// Keeps a module from being unloaded.
pub struct Pin(*mut bindings::module);

// SAFETY: A module's reference count may be used from any thread.
unsafe impl Send for Pin {}
// SAFETY: As above; a shared reference does nothing.
unsafe impl Sync for Pin {}

impl Pin {
    /// Pins `module`; `None` if it is being unloaded.
    pub fn get(module: &'static ThisModule) -> Option<Self> {
        // SAFETY: A `ThisModule` is a module, or null for what is built in.
        unsafe { sys::lio_module_get(module.as_ptr()) }.then(|| Pin(module.as_ptr()))
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        // SAFETY: `get` took the reference that goes here.
        unsafe { sys::lio_module_put(self.0) }
    }
}
