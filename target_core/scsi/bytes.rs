// SPDX-License-Identifier: GPL-2.0

//! Big-endian fields in and out of byte strings (SPC-4, 3.5 and 4.2.5.6).

/// Writes parameter data into a buffer of the caller's, and goes on counting where the buffer is full.
///
/// That is the allocation length semantic (SPC-4, 4.2.5.6): length fields in the data say how long the data is,
/// not how much of it was asked for, and what does not fit is left out without an error.
#[derive(Debug)]
pub struct Writer<'a> {
    buf: &'a mut [u8],
    len: usize,
}

impl<'a> Writer<'a> {
    /// Writes into `buf`, from its start.
    pub fn new(buf: &'a mut [u8]) -> Self {
        Self { buf, len: 0 }
    }

    /// Bytes put so far, with those that did not fit.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Nothing was put yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that are in the buffer.
    pub fn written(&self) -> usize {
        self.len.min(self.buf.len())
    }

    /// The bytes that are in the buffer.
    pub fn as_slice(&self) -> &[u8] {
        self.buf.get(..self.written()).unwrap_or(&[])
    }

    /// Appends `bytes`.
    pub fn put(&mut self, bytes: &[u8]) {
        self.overwrite(self.len, bytes);
        self.len = self.len.saturating_add(bytes.len());
    }

    /// Appends one byte.
    pub fn u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    /// Appends two bytes, big-endian.
    pub fn be16(&mut self, value: u16) {
        self.put(&value.to_be_bytes());
    }

    /// Appends four bytes, big-endian.
    pub fn be32(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }

    /// Appends eight bytes, big-endian.
    pub fn be64(&mut self, value: u64) {
        self.put(&value.to_be_bytes());
    }

    /// Appends `count` bytes of `value`.
    pub fn fill(&mut self, value: u8, count: usize) {
        let end = self.len.saturating_add(count);
        let fits = end.min(self.buf.len());
        if let Some(hole) = self.buf.get_mut(self.len..fits) {
            hole.fill(value);
        }
        self.len = end;
    }

    /// Appends zeros up to `offset` (counted from the start); none where that is behind.
    pub fn zeros_to(&mut self, offset: usize) {
        self.fill(0, offset.saturating_sub(self.len));
    }

    /// Appends the first `width` bytes of `text`, padded with spaces: a left-aligned ASCII field (SPC-4, 4.4.1).
    pub fn padded(&mut self, text: &[u8], width: usize) {
        let text = text.get(..width).unwrap_or(text);
        self.put(text);
        self.fill(b' ', width.saturating_sub(text.len()));
    }

    /// Writes `bytes` over what is at `offset`; what lies outside of the buffer is left out.
    ///
    /// For length fields that are known only after the data they count.
    pub fn overwrite(&mut self, offset: usize, bytes: &[u8]) {
        if let Some(room) = self.buf.get_mut(offset..) {
            let n = room.len().min(bytes.len());
            if let (Some(to), Some(from)) = (room.get_mut(..n), bytes.get(..n)) {
                to.copy_from_slice(from);
            }
        }
    }
}

/// `N` bytes of `bytes` from `offset`, if all of them are there.
pub fn array<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk::<N>().copied()
}

/// The big-endian 16-bit field at `offset`.
pub fn be16(bytes: &[u8], offset: usize) -> Option<u16> {
    array(bytes, offset).map(u16::from_be_bytes)
}

/// The big-endian 32-bit field at `offset`.
pub fn be32(bytes: &[u8], offset: usize) -> Option<u32> {
    array(bytes, offset).map(u32::from_be_bytes)
}

/// The big-endian 64-bit field at `offset`.
pub fn be64(bytes: &[u8], offset: usize) -> Option<u64> {
    array(bytes, offset).map(u64::from_be_bytes)
}
