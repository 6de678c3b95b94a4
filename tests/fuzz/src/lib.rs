// SPDX-License-Identifier: GPL-2.0

//! What the fuzz targets share. A target is a file in `src/bin`; it makes values, or a sequence of operations, of the bytes
//! that libFuzzer gives it, runs the code of the pure crates on them, and asserts what has to hold.
//!
//! Where the answer is known from the standard, a target has a model of its own, written from the standard and not from
//! the code that it judges; it may be slow and simple.

pub mod model;

/// The bytes of one run, as a source of values. Behind their end all values are zero.
pub struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    /// Begins at the first byte.
    pub fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }

    /// Nothing is left: a sequence of operations ends here.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What is left.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `len` bytes, or what is left.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.rest.split_at(len.min(self.rest.len()));
        self.rest = rest;
        bytes
    }

    /// `N` bytes, filled up with zeros.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let bytes = self.bytes(N);
        array[..bytes.len()].copy_from_slice(bytes);
        array
    }

    /// One byte.
    pub fn u8(&mut self) -> u8 {
        u8::from_be_bytes(self.array())
    }

    /// Two bytes.
    pub fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.array())
    }

    /// Four bytes.
    pub fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.array())
    }

    /// The lowest bit of a byte.
    pub fn bool(&mut self) -> bool {
        self.u8() & 1 != 0
    }

    /// Below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::from(self.u8()) % end
    }

    /// A number that is small, or near a power of two, more often than not: that is where the limits are.
    pub fn number(&mut self) -> u64 {
        let kind = self.u8();
        match kind >> 6 {
            0 => u64::from(kind & 0x3f),
            1 => (1u64 << (kind & 0x3f)).wrapping_add(u64::from(self.u8())),
            2 => (1u64 << (kind & 0x3f)).wrapping_sub(u64::from(self.u8())),
            _ => self.u64(),
        }
    }

    /// The same in 32 bits, cut off.
    pub fn number32(&mut self) -> u32 {
        self.number() as u32
    }

    /// A short length, then as many bytes.
    pub fn text(&mut self) -> &'a [u8] {
        let len = usize::from(self.u8());
        self.bytes(len)
    }
}

/// What `write` writes into room for `most` bytes, which must suffice; into less room, `short`, it must write the
/// beginning of the same and count the same (SPC-4, 4.2.5.6).
pub fn written(
    most: usize,
    short: usize,
    mut write: impl FnMut(&mut lio_scsi::bytes::Writer<'_>),
) -> Vec<u8> {
    let mut all = vec![0xa5; most + 16];
    let mut out = lio_scsi::bytes::Writer::new(&mut all);
    write(&mut out);
    let len = out.len();
    assert!(len <= most, "{len} bytes where {most} are the most");
    assert!(
        all[len..].iter().all(|byte| *byte == 0xa5),
        "written behind the end"
    );
    all.truncate(len);
    let room = short % (len + 1);
    let mut part = vec![0x5a; room];
    let mut out = lio_scsi::bytes::Writer::new(&mut part);
    write(&mut out);
    assert_eq!((out.len(), out.written()), (len, room));
    assert_eq!(part, all[..room]);
    all
}

/// Big-endian fields of what was written; a field that is not there fails the run.
pub mod field {
    /// Two bytes.
    pub fn be16(bytes: &[u8], at: usize) -> usize {
        usize::from(u16::from_be_bytes(bytes[at..at + 2].try_into().unwrap()))
    }

    /// Three bytes.
    pub fn be24(bytes: &[u8], at: usize) -> u32 {
        u32::from_be_bytes([0, bytes[at], bytes[at + 1], bytes[at + 2]])
    }

    /// Four bytes.
    pub fn be32(bytes: &[u8], at: usize) -> u32 {
        u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    /// Eight bytes.
    pub fn be64(bytes: &[u8], at: usize) -> u64 {
        u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap())
    }
}
