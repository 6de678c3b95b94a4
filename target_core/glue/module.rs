// SPDX-License-Identifier: GPL-2.0

//! Kernel modules by name.

use crate::sys;
use kernel::{error::to_result, prelude::*, str::CStr};

/// Has user space's modprobe load the module `name`, and waits for it.
///
/// # Errors
/// modprobe's failure, as the kernel reports it.
pub fn request(name: &CStr) -> Result {
    // SAFETY: `name` is a valid C string for the duration of the call.
    to_result(unsafe { sys::lio_request_module(name.as_char_ptr()) })
}
