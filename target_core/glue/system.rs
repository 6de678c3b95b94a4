// SPDX-License-Identifier: GPL-2.0

//! What the configfs trees show of the system and look up in it, and what bounds are made of.

use crate::sys;
use kernel::{error::to_result, prelude::*, str::CStr};

/// The release of the kernel that this was built for.
pub fn release() -> &'static CStr {
    // SAFETY: The result is a string literal's address.
    unsafe { CStr::from_char_ptr(sys::lio_system_release()) }
}

/// The machine's name, such as `x86_64`.
pub fn machine() -> &'static CStr {
    // SAFETY: The initial namespace's names are always there and terminated; this one is never written.
    unsafe { CStr::from_char_ptr(sys::lio_system_machine()) }
}

/// The time `when` of [`crate::clock::jiffies`] as the SCSI MIB's TimeStamp: hundredths of a second since boot, which wraps.
pub fn centiseconds(when: usize) -> u32 {
    // SAFETY: The call has no requirements.
    unsafe { sys::lio_system_centiseconds(when) }
}

/// Whether the directory `path` can be looked up. In the context of a process: its root and working directory count.
///
/// # Errors
/// `ENOENT`, `ENOTDIR` and what else the look-up ends with.
pub fn check_dir(path: &CStr) -> Result {
    // SAFETY: `path` is a valid C string for the duration of the call.
    to_result(unsafe { sys::lio_system_check_dir(path.as_char_ptr()) })
}

/// The machine's memory in bytes, less what the kernel keeps for itself.
pub fn memory_bytes() -> u64 {
    // SAFETY: The call has no requirements.
    unsafe { sys::lio_system_memory() }
}
