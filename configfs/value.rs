// SPDX-License-Identifier: GPL-2.0

//! What is written to attributes.

use core::ops::RangeInclusive;
use kernel::{fmt, prelude::*};
use lio_glue::configfs::{Node, OneLine};

/// The value of one write, 1 to 4094 bytes exactly as they were written.
///
/// The parsers say in the kernel log what they would have wanted. They take what the kernel's `kstrto*()` take.
pub struct Value<'a> {
    bytes: &'a [u8],
    node: &'a Node,
    name: &'static CStr,
}

impl<'a> Value<'a> {
    pub(crate) fn new(bytes: &'a [u8], node: &'a Node, name: &'static CStr) -> Self {
        Self { bytes, node, name }
    }

    /// The bytes, with newlines and NULs in them.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The directory that the file is in.
    pub fn node(&self) -> &'a Node {
        self.node
    }

    /// Logs one line with the path and the reason, and returns `error`.
    pub fn reject(&self, error: Error, reason: fmt::Arguments<'_>) -> Error {
        let path = self.node.path();
        pr_err!(
            "{}: {}\n",
            OneLine::object(fmt!("{}/{}", path, self.name)),
            OneLine::reason(reason)
        );
        error
    }

    /// The text without white space around it, and without NULs at its end.
    ///
    /// # Errors
    /// EINVAL if it has a NUL inside, or is not UTF-8.
    pub fn str(&self) -> Result<&'a str> {
        match text(self.bytes) {
            Some(s) => Ok(s.trim_matches(|c: char| c.is_ascii_whitespace())),
            None => Err(self.reject(EINVAL, fmt!("a text in UTF-8 is wanted"))),
        }
    }

    /// The text as it is, but for a newline at its end.
    ///
    /// # Errors
    /// EINVAL if it has a NUL inside, or is not UTF-8.
    pub fn line(&self) -> Result<&'a str> {
        match text(self.bytes) {
            Some(s) => Ok(s.strip_suffix('\n').unwrap_or(s)),
            None => Err(self.reject(EINVAL, fmt!("a text in UTF-8 is wanted"))),
        }
    }

    /// Logs one line with the path and what is wrong with a value that is taken all the same.
    pub fn warn(&self, what: fmt::Arguments<'_>) {
        let path = self.node.path();
        pr_warn!(
            "{}: {}\n",
            OneLine::object(fmt!("{}/{}", path, self.name)),
            OneLine::reason(what)
        );
    }

    /// A truth value: what `kstrtobool()` takes, that is 1, 0, y, n, t, f, on, off, of which only the first (after `o`
    /// the second) letter counts, small or large.
    ///
    /// # Errors
    /// EINVAL for anything else.
    pub fn bool(&self) -> Result<bool> {
        parse_bool(self.bytes).ok_or_else(|| self.reject(EINVAL, fmt!("0 or 1 is wanted")))
    }

    /// A number in decimal, in hexadecimal with 0x, or in octal with 0.
    ///
    /// # Errors
    /// EINVAL if it is none; ERANGE if it is too large.
    pub fn u64(&self) -> Result<u64> {
        parse_u64(self.bytes)
            .map_err(|e| self.reject(e, fmt!("a number from 0 to {} is wanted", u64::MAX)))
    }

    /// As [`Value::u64`].
    ///
    /// # Errors
    /// As [`Value::u64`].
    pub fn u32(&self) -> Result<u32> {
        self.u32_in(0..=u32::MAX)
    }

    /// As [`Value::u64`].
    ///
    /// # Errors
    /// As [`Value::u64`].
    pub fn u16(&self) -> Result<u16> {
        let n = self.u32_in(0..=u16::MAX.into())?;
        u16::try_from(n).map_err(|_| ERANGE)
    }

    /// As [`Value::u64`], but only within `range`.
    ///
    /// # Errors
    /// EINVAL if it is none; ERANGE if it is out of range.
    pub fn u32_in(&self, range: RangeInclusive<u32>) -> Result<u32> {
        parse_u64(self.bytes)
            .and_then(|n| u32::try_from(n).map_err(|_| ERANGE))
            .and_then(|n| {
                if range.contains(&n) {
                    Ok(n)
                } else {
                    Err(ERANGE)
                }
            })
            .map_err(|e| {
                self.reject(
                    e,
                    fmt!(
                        "a number from {} to {} is wanted",
                        *range.start(),
                        *range.end()
                    ),
                )
            })
    }

    /// As [`Value::u64`], with a sign perhaps.
    ///
    /// # Errors
    /// As [`Value::u64`].
    pub fn i32(&self) -> Result<i32> {
        parse_i32(self.bytes).map_err(|e| {
            self.reject(
                e,
                fmt!("a number from {} to {} is wanted", i32::MIN, i32::MAX),
            )
        })
    }
}

/// The value up to the NULs at its end, if it has no others.
fn text(bytes: &[u8]) -> Option<&str> {
    let end = bytes.iter().position(|c| *c == 0).unwrap_or(bytes.len());
    let (text, nuls) = bytes.split_at_checked(end)?;
    if nuls.iter().any(|c| *c != 0) {
        return None;
    }
    core::str::from_utf8(text).ok()
}

fn parse_bool(bytes: &[u8]) -> Option<bool> {
    match text(bytes)?.as_bytes() {
        [b'1' | b'y' | b'Y' | b't' | b'T', ..] => Some(true),
        [b'0' | b'n' | b'N' | b'f' | b'F', ..] => Some(false),
        [b'o' | b'O', b'n' | b'N', ..] => Some(true),
        [b'o' | b'O', b'f' | b'F', ..] => Some(false),
        _ => None,
    }
}

/// One newline may follow a number, and nothing else (lib/kstrtox.c).
fn number(bytes: &[u8]) -> Result<&str> {
    let s = text(bytes).ok_or(EINVAL)?;
    Ok(s.strip_suffix('\n').unwrap_or(s))
}

fn parse_digits(s: &str) -> Result<u64> {
    let (digits, radix) = match s.as_bytes() {
        [b'0', b'x' | b'X', c, ..] if c.is_ascii_hexdigit() => (s.get(2..).unwrap_or_default(), 16),
        [b'0', ..] => (s, 8),
        _ => (s, 10),
    };
    // `from_str_radix` would take a second sign.
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(EINVAL);
    }
    u64::from_str_radix(digits, radix).map_err(|_| ERANGE)
}

fn parse_u64(bytes: &[u8]) -> Result<u64> {
    let s = number(bytes)?;
    parse_digits(s.strip_prefix('+').unwrap_or(s))
}

fn parse_i32(bytes: &[u8]) -> Result<i32> {
    let s = number(bytes)?;
    let value = match s.strip_prefix('-') {
        Some(digits) => 0i64.checked_sub_unsigned(parse_digits(digits)?),
        None => i64::try_from(parse_digits(s.strip_prefix('+').unwrap_or(s))?).ok(),
    };
    value.and_then(|n| i32::try_from(n).ok()).ok_or(ERANGE)
}
