// SPDX-License-Identifier: GPL-2.0

//! key=value text: RFC 7143, 6.1.

use core::fmt;

/// The longest name of a key.
pub const KEY_MAX: usize = 63;

/// The longest simple value; a list may have several of them.
pub const VALUE_MAX: usize = 255;

/// The most text that a negotiation may have in all, in either direction: what every initiator takes in one login
/// PDU (13.12).
pub const TEXT_MAX: usize = 8192;

/// What is wrong with a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextError {
    /// A pair without `=`.
    NoSeparator,
    /// A key that is empty, too long, or has characters that keys do not have.
    BadKey,
    /// A simple value that is too long.
    LongValue,
}

impl TextError {
    /// For the log.
    #[must_use]
    pub const fn clause(self) -> &'static str {
        match self {
            TextError::NoSeparator => "6.1: text without '='",
            TextError::BadKey => "6.1: the name of a key is malformed",
            TextError::LongValue => "6.1: a value of more than 255 bytes",
        }
    }
}

/// One pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair<'a> {
    /// Name of the key: 1 to 63 printable characters of ASCII.
    pub key: &'a [u8],
    /// Value: simple values of at most 255 bytes (a challenge's: 2,050) with commas between them, without NUL.
    pub value: &'a [u8],
}

/// The pairs of a text. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Pairs<'a> {
    rest: &'a [u8],
}

/// The pairs of `text`, each ended by a NUL byte. More NUL bytes than one are passed over, and the last one may be
/// missing: initiators in use do both.
#[must_use]
pub const fn pairs(text: &[u8]) -> Pairs<'_> {
    Pairs { rest: text }
}

fn pair(item: &[u8]) -> Result<Pair<'_>, TextError> {
    let at = item
        .iter()
        .position(|&b| b == b'=')
        .ok_or(TextError::NoSeparator)?;
    let (key, value) = item.split_at_checked(at).ok_or(TextError::NoSeparator)?;
    let value = value.get(1..).unwrap_or_default();
    if key.is_empty() || key.len() > KEY_MAX || !key.iter().all(u8::is_ascii_graphic) {
        return Err(TextError::BadKey);
    }
    // 12.1.3: the one value that may be of 1,024 bytes, in hexadecimal at most.
    let longest = match key {
        b"CHAP_C" => 2 + 2 * 1024,
        _ => VALUE_MAX,
    };
    if value.split(|&b| b == b',').any(|v| v.len() > longest) {
        return Err(TextError::LongValue);
    }
    Ok(Pair { key, value })
}

impl<'a> Iterator for Pairs<'a> {
    type Item = Result<Pair<'a>, TextError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.rest.is_empty() {
                return None;
            }
            let end = self
                .rest
                .iter()
                .position(|&b| b == 0)
                .unwrap_or(self.rest.len());
            let item = self.rest.get(..end).unwrap_or_default();
            self.rest = self.rest.get(end.saturating_add(1)..).unwrap_or_default();
            if item.is_empty() {
                continue;
            }
            let pair = pair(item);
            if pair.is_err() {
                self.rest = &[];
            }
            return Some(pair);
        }
    }
}

/// A short text that is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept<const N: usize> {
    pub(crate) bytes: [u8; N],
    pub(crate) len: usize,
}

impl<const N: usize> Kept<N> {
    pub(crate) const EMPTY: Self = Kept {
        bytes: [0; N],
        len: 0,
    };

    pub(crate) fn get(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// False if it is too long; then nothing changes.
    pub(crate) fn set(&mut self, text: &[u8]) -> bool {
        let Some(place) = self.bytes.get_mut(..text.len()) else {
            return false;
        };
        for (to, from) in place.iter_mut().zip(text) {
            *to = *from;
        }
        self.len = text.len();
        true
    }
}

/// There is no room for the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Writes text into a buffer.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl<'a> Writer<'a> {
    /// Writes from the beginning of `out`.
    pub fn new(out: &'a mut [u8]) -> Self {
        Writer { out, len: 0 }
    }

    /// Bytes written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What is written.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        self.out.get(..self.len).unwrap_or_default()
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let end = self.len.checked_add(bytes.len()).ok_or(Full)?;
        let place = self.out.get_mut(self.len..end).ok_or(Full)?;
        for (to, from) in place.iter_mut().zip(bytes) {
            *to = *from;
        }
        self.len = end;
        Ok(())
    }

    /// Runs `write`, and takes everything back if it found no room.
    fn whole(&mut self, write: impl FnOnce(&mut Self) -> Result<(), Full>) -> Result<(), Full> {
        let before = self.len;
        let done = write(self);
        if done.is_err() {
            self.len = before;
        }
        done
    }

    /// Writes `key=value` and its NUL byte.
    ///
    /// # Errors
    /// No room; then nothing of it is written.
    pub fn pair(&mut self, key: &str, value: &[u8]) -> Result<(), Full> {
        self.pair_bytes(key.as_bytes(), value)
    }

    /// As [`Writer::pair`], for a key that came from the other side.
    ///
    /// # Errors
    /// No room; then nothing of it is written.
    pub fn pair_bytes(&mut self, key: &[u8], value: &[u8]) -> Result<(), Full> {
        self.whole(|w| {
            w.put(key)?;
            w.put(b"=")?;
            w.put(value)?;
            w.put(&[0])
        })
    }

    /// Writes `key=value` with a value that is formatted, and its NUL byte.
    ///
    /// # Errors
    /// No room; then nothing of it is written.
    pub fn pair_fmt(&mut self, key: &str, value: fmt::Arguments<'_>) -> Result<(), Full> {
        self.whole(|w| {
            w.put(key.as_bytes())?;
            w.put(b"=")?;
            fmt::write(w, value).map_err(|_| Full)?;
            w.put(&[0])
        })
    }

    /// Writes `key=number`.
    ///
    /// # Errors
    /// No room; then nothing of it is written.
    pub fn number(&mut self, key: &str, value: u32) -> Result<(), Full> {
        self.pair_fmt(key, format_args!("{value}"))
    }

    /// Writes `key=Yes` or `key=No`.
    ///
    /// # Errors
    /// No room; then nothing of it is written.
    pub fn boolean(&mut self, key: &str, value: bool) -> Result<(), Full> {
        self.pair(key, if value { b"Yes" } else { b"No" })
    }
}

impl fmt::Write for Writer<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.put(s.as_bytes()).map_err(|_| fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_util::Random;
    use std::vec::Vec;

    type Read<'a> = Result<(&'a [u8], &'a [u8]), TextError>;

    fn read(text: &[u8]) -> Vec<Read<'_>> {
        pairs(text).map(|p| p.map(|p| (p.key, p.value))).collect()
    }

    #[test]
    fn pairs_are_split() {
        assert_eq!(
            read(b"A=1\0B=x=y,z\0\0\0C=\0D=last"),
            [
                Ok((&b"A"[..], &b"1"[..])),
                Ok((b"B", b"x=y,z")),
                Ok((b"C", b"")),
                Ok((b"D", b"last")),
            ]
        );
        assert!(read(b"").is_empty());
        assert!(read(b"\0\0").is_empty());
    }

    #[test]
    fn malformed() {
        assert_eq!(
            read(b"A=1\0nothing\0B=2\0")[1..],
            [Err(TextError::NoSeparator)]
        );
        assert_eq!(read(b"=1\0"), [Err(TextError::BadKey)]);
        assert_eq!(read(b"A b=1\0"), [Err(TextError::BadKey)]);
        assert_eq!(read(b"\xffA=1\0"), [Err(TextError::BadKey)]);
        let mut text = [b'K'; 66];
        text[63] = b'=';
        assert!(read(&text)[0].is_ok());
        text[63] = b'K';
        text[64] = b'=';
        assert_eq!(read(&text), [Err(TextError::BadKey)]);
    }

    #[test]
    fn long_values() {
        let mut text = Vec::from(&b"K="[..]);
        text.extend([b'v'; 255]);
        assert!(read(&text)[0].is_ok());
        text.extend(b",w");
        assert!(read(&text)[0].is_ok());
        text.extend([b'v'; 255]);
        assert_eq!(read(&text), [Err(TextError::LongValue)]);
    }

    #[test]
    fn writing() {
        let mut out = [0xee; 16];
        let mut writer = Writer::new(&mut out);
        writer.boolean("A", true).unwrap();
        writer.number("B", 4096).unwrap();
        assert_eq!(writer.text(), b"A=Yes\0B=4096\0");
        assert_eq!(writer.number("B", 10), Err(Full));
        assert_eq!(writer.pair("", b"x"), Ok(()));
        assert_eq!(writer.text(), b"A=Yes\0B=4096\0=x\0");
        assert_eq!(writer.pair("", b""), Err(Full));
        assert_eq!(writer.len(), 16);
    }

    #[test]
    fn random_text_ends() {
        let mut random = Random::new(5);
        for _ in 0..20_000 {
            let mut bytes = [0u8; 96];
            random.fill(&mut bytes);
            for byte in &mut bytes {
                *byte = b"\0\0=,Ka1\xff"[usize::from(*byte & 7)];
            }
            assert!(pairs(&bytes).count() <= 96);
        }
    }
}
