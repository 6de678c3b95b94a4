// SPDX-License-Identifier: GPL-2.0

//! Files that are replaced as a whole: what was in them is there until what is to be in them is durable.

use crate::sys;
use kernel::{error::to_result, prelude::*, str::CStr};

/// Replaces the file `name` of the directory `dir` by one with `bytes`, for its owner alone, by way of the file `temp` in it. The
/// directory is seen from the first process's root. May sleep for long.
///
/// # Errors
/// The file system's; after all but those of the very last step the old file is there still, and `temp` is not.
pub fn replace(dir: &CStr, temp: &CStr, name: &CStr, bytes: &[u8]) -> Result {
    // SAFETY: The names are C strings, and `bytes` is as long as is said.
    to_result(unsafe {
        sys::lio_file_replace(
            dir.as_char_ptr(),
            temp.as_char_ptr(),
            name.as_char_ptr(),
            bytes.as_ptr().cast(),
            bytes.len(),
        )
    })
}

/// Makes the directory `path`, for its owner alone, durably; its parent is there. It is seen from the first process's root. May sleep
/// for long.
///
/// # Errors
/// The file system's.
pub fn make_dir(path: &CStr) -> Result {
    // SAFETY: `path` is a C string.
    to_result(unsafe { sys::lio_dir_make(path.as_char_ptr()) })
}

/// Reads the regular file at `path`, seen from the first process's root, into `to`: how many bytes it has. May sleep for long.
///
/// # Errors
/// `EFBIG` if there is not room for all of it, `EINVAL` if it is no regular file; the file system's.
pub fn read(path: &CStr, to: &mut [u8]) -> Result<usize> {
    // SAFETY: `path` is a C string, and `to` as long as is said.
    let n =
        unsafe { sys::lio_file_read_whole(path.as_char_ptr(), to.as_mut_ptr().cast(), to.len()) };
    usize::try_from(n).map_err(|_| Error::from_errno(i32::try_from(n).unwrap_or(-5)))
}
