// SPDX-License-Identifier: GPL-2.0

//! The kernel's random numbers and hash functions, and texts that are secret.

use crate::sys;
use kernel::{error::to_result, prelude::*, str::CStr};

/// Fills `to` with random bytes that nobody can foretell.
pub fn random(to: &mut [u8]) {
    // SAFETY: `to` may be written for its length.
    unsafe { sys::lio_random(to.as_mut_ptr().cast(), to.len()) }
}

/// Whether two texts are the same. How long that takes tells their lengths and nothing else.
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    // SAFETY: Both may be read for the length of `a`, which is that of `b`, too.
    a.len() == b.len() && unsafe { sys::lio_equal(a.as_ptr().cast(), b.as_ptr().cast(), a.len()) }
}

/// Whether there is a hash function of this name, which may be in a module that is loaded then. May sleep.
pub fn has_hash(name: &CStr) -> bool {
    // SAFETY: `name` is a valid C string for the duration of the call.
    unsafe { sys::lio_has_hash(name.as_char_ptr()) }
}

/// Writes the digest of `parts`, one after the other, to `out`, which has to be as long as it. May sleep.
///
/// # Errors
/// `ENOENT` if there is no such hash function, `EINVAL` if its digests have another length, `ENOMEM`.
pub fn hash<const N: usize>(name: &CStr, parts: [&[u8]; N], out: &mut [u8]) -> Result {
    let parts = parts.map(|part| sys::lio_part {
        data: part.as_ptr(),
        len: part.len(),
    });
    // SAFETY: `name` is a valid C string, each of the `N` parts may be read for its length, and `out` be written for its
    // own, for the duration of the call.
    to_result(unsafe {
        sys::lio_hash(
            name.as_char_ptr(),
            parts.as_ptr(),
            N,
            out.as_mut_ptr(),
            out.len(),
        )
    })
}

/// A text that is overwritten before its memory is given back, and that no log shows.
pub struct Secret(KVec<u8>);

impl Secret {
    /// The empty text.
    pub const fn new() -> Self {
        Secret(KVec::new())
    }

    /// A copy of `text`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn copy(text: &[u8]) -> Result<Self> {
        // With all room that it needs at once: nothing is moved, so that no second copy stays.
        let mut copy = KVec::with_capacity(text.len(), GFP_KERNEL)?;
        copy.extend_from_slice(text, GFP_KERNEL)?;
        Ok(Secret(copy))
    }

    /// The text.
    pub fn get(&self) -> &[u8] {
        &self.0
    }
}

impl Default for Secret {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        // SAFETY: The bytes are this vector's own.
        unsafe { sys::lio_wipe(self.0.as_mut_ptr().cast(), self.0.len()) }
    }
}
