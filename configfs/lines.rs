// SPDX-License-Identifier: GPL-2.0

//! Files that are longer than a page: any number of lines.
//!
//! configfs asks for the length of such a file before it asks for the file, once for each time that it is opened and read. What
//! the lines tell may have changed meanwhile. So each is padded with spaces to a multiple of [`WIDTH`], since a number that got
//! another digit is no other length then; if there are less lines, empty ones follow, and if there are more, the last ones are
//! left out. Readers get whole lines in any case.

use core::fmt::{self, Write};
use kernel::prelude::*;

/// Lines with their newlines are multiples of it, in bytes.
const WIDTH: usize = 64;

/// The lines of a file, written or only counted.
pub struct Lines<'a> {
    out: Option<&'a mut [u8]>,
    len: usize,
    full: bool,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(out: Option<&'a mut [u8]>) -> Self {
        Lines {
            out,
            len: 0,
            full: false,
        }
    }

    /// Bytes until now.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no room for more.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Appends a line, which has no newline in it, if there is room for all of it.
    ///
    /// # Errors
    /// EIO if a value's own formatting fails.
    pub fn line(&mut self, write: impl FnOnce(&mut dyn Write) -> fmt::Result) -> Result {
        if self.full {
            return Ok(());
        }
        let start = self.len;
        let written = write(self);
        if !self.full {
            written.map_err(|_| EIO)?;
            let end = self.len.saturating_add(1).next_multiple_of(WIDTH);
            self.put(None, end.saturating_sub(self.len).saturating_sub(1));
            self.put(Some(b"\n"), 1);
        }
        if self.full {
            if let Some(out) = self.out.as_deref_mut().and_then(|o| o.get_mut(start..)) {
                out.fill(b'\n');
            }
            self.len = start;
        }
        Ok(())
    }

    // Appends bytes, or so many spaces.
    fn put(&mut self, bytes: Option<&[u8]>, n: usize) {
        let end = self.len.saturating_add(n);
        if let Some(out) = self.out.as_deref_mut() {
            let Some(to) = out.get_mut(self.len..end) else {
                self.full = true;
                return;
            };
            match bytes {
                Some(bytes) => to.copy_from_slice(bytes),
                None => to.fill(b' '),
            }
        }
        self.len = end;
    }
}

impl Write for Lines<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.put(Some(s.as_bytes()), s.len());
        if self.full {
            return Err(fmt::Error);
        }
        Ok(())
    }
}
