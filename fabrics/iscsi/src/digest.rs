// SPDX-License-Identifier: GPL-2.0

//! The digests of a connection in full feature phase (RFC 7143, 13.1).

use iscsi_proto::{digest, negotiate::Parameters};
use kernel::prelude::*;
use lio_glue::buffer::{Buffer, Crc32c};

/// Which digests there are.
#[derive(Clone, Copy, Default)]
pub(crate) struct Digests {
    pub(crate) header: bool,
    pub(crate) data: bool,
}

impl Digests {
    pub(crate) const fn of(parameters: &Parameters) -> Self {
        Digests {
            header: parameters.header_digest,
            data: parameters.data_digest,
        }
    }

    /// Bytes of a header's digest.
    pub(crate) const fn header_len(self) -> usize {
        if self.header {
            digest::LEN
        } else {
            0
        }
    }

    /// Bytes of the digest of a data segment that is not empty.
    pub(crate) const fn data_len(self) -> usize {
        if self.data {
            digest::LEN
        } else {
            0
        }
    }
}

/// The digest of all that went into `crc`, as it is sent.
pub(crate) const fn bytes(crc: Crc32c) -> [u8; digest::LEN] {
    digest::bytes(crc.value())
}

/// `len` bytes at `off` of `data` and, where others may write its pages while they are sent, a copy that nobody does: the
/// digest is of what is sent.
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn of_data(
    data: &Buffer,
    off: usize,
    len: usize,
) -> Result<(Crc32c, Option<KBox<Buffer>>)> {
    if data.is_own() {
        return Ok((data.crc32c(Crc32c::new(), off, len), None));
    }
    let copy = Buffer::alloc_boxed(len)?;
    if copy.copy_from(0, data, off, len) != len {
        return Err(EINVAL);
    }
    Ok((copy.crc32c(Crc32c::new(), 0, len), Some(copy)))
}
