// SPDX-License-Identifier: GPL-2.0

//! iSCSI names and short texts that are copied around (RFC 7143, 4.2.7).

use kernel::fmt;

/// Bytes of the longest one.
pub(crate) const NAME_MAX: usize = iscsi_proto::name::NAME_MAX;

/// A name.
pub(crate) type Name = Text<NAME_MAX>;
/// An alias (RFC 7143, 13.7).
pub(crate) type Alias = Text<{ iscsi_proto::text::VALUE_MAX }>;

/// A text of up to `N` bytes, by value.
#[derive(Clone, Copy)]
pub(crate) struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Text<N> {
    pub(crate) const EMPTY: Self = Text {
        bytes: [0; N],
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

    /// In small letters, as names are compared (RFC 7143, 4.2.7.1). Of what is not ASCII the initiator has to see to that itself (RFC
    /// 3722).
    pub(crate) fn folded(mut self) -> Self {
        self.bytes.make_ascii_lowercase();
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The text; what is not UTF-8 was never taken for a name.
    pub(crate) fn str(&self) -> &str {
        core::str::from_utf8(self.bytes()).unwrap_or("?")
    }
}

impl<const N: usize> PartialEq for Text<N> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.str())
    }
}
