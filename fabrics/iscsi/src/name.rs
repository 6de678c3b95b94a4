// SPDX-License-Identifier: GPL-2.0

//! iSCSI names and short texts that are copied around (RFC 7143, 4.2.7).

use kernel::fmt;

/// Bytes of the longest one.
pub(crate) const NAME_MAX: usize = iscsi_proto::name::NAME_MAX;

/// A text of up to 223 bytes, by value.
#[derive(Clone, Copy)]
pub(crate) struct Name {
    bytes: [u8; NAME_MAX],
    len: usize,
}

impl Name {
    pub(crate) const EMPTY: Name = Name {
        bytes: [0; NAME_MAX],
        len: 0,
    };

    /// `None` if it is too long.
    pub(crate) fn new(text: &[u8]) -> Option<Self> {
        let mut n = Self::EMPTY;
        n.bytes.get_mut(..text.len())?.copy_from_slice(text);
        n.len = text.len();
        Some(n)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The text; what is not UTF-8 was never taken for a name.
    pub(crate) fn str(&self) -> &str {
        core::str::from_utf8(self.bytes()).unwrap_or("?")
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.str())
    }
}
