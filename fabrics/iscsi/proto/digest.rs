// SPDX-License-Identifier: GPL-2.0

//! Digests: RFC 7143, 7.8, 11.2.3 and 13.1. What CRC32C makes of bytes is the driver's to compute.

use crate::error::{Error, RejectReason};
use crate::pdu::{DataOut, Head};

/// Bytes of a digest.
pub const LEN: usize = 4;

/// What a portal group lets be agreed on for the one or the other digest, in the order of its preference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Digests {
    /// `CRC32C,None`
    #[default]
    Crc32cNone,
    /// `None,CRC32C`
    NoneCrc32c,
    /// `CRC32C` alone: who wants none does not get in.
    Crc32c,
    /// `None` alone.
    None,
}

impl Digests {
    /// All there are.
    pub const ALL: [Digests; 4] = [
        Digests::Crc32cNone,
        Digests::NoneCrc32c,
        Digests::Crc32c,
        Digests::None,
    ];

    /// As the key's value.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Digests::Crc32cNone => "CRC32C,None",
            Digests::NoneCrc32c => "None,CRC32C",
            Digests::Crc32c => "CRC32C",
            Digests::None => "None",
        }
    }

    /// What the offered value means, if it is one of these: whether CRC32C is used.
    #[must_use]
    pub fn choose(self, value: &[u8]) -> Option<bool> {
        match (value, self) {
            (b"CRC32C", Digests::None) | (b"None", Digests::Crc32c) => None,
            (b"CRC32C", _) => Some(true),
            (b"None", _) => Some(false),
            _ => None,
        }
    }
}

/// What a choice is called.
#[must_use]
pub const fn name(on: bool) -> &'static str {
    if on {
        "CRC32C"
    } else {
        "None"
    }
}

/// How a CRC32C goes over the wire: 13.1, with the examples of RFC 7143's ancestors (RFC 3720, B.4).
#[must_use]
pub const fn bytes(crc: u32) -> [u8; LEN] {
    crc.to_le_bytes()
}

/// The answer to a PDU whose data has a wrong digest: 7.8. The PDU is discarded, in each case.
///
/// At error recovery level 0, a Data-Out PDU costs its command (7.8 b), as there is no recovery R2T. Of the others, one with a
/// command number leaves a gap, which the initiator knows no way to close there: its session ends with the connection.
#[must_use]
pub const fn wrong_data(head: &Head, level: u8) -> Error {
    let mut error = Error::reject(
        RejectReason::DataDigest,
        "7.8: the data digest does not fit",
    );
    error.close = level == 0 && head.opcode != DataOut::OPCODE && !head.immediate;
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices() {
        use Digests::*;
        for (own, crc, none) in [
            (Crc32cNone, Some(true), Some(false)),
            (NoneCrc32c, Some(true), Some(false)),
            (Crc32c, Some(true), Option::None),
            (None, Option::None, Some(false)),
        ] {
            assert_eq!(own.choose(b"CRC32C"), crc);
            assert_eq!(own.choose(b"None"), none);
            assert_eq!(own.choose(b"crc32c"), Option::None);
            assert_eq!(own.choose(b""), Option::None);
        }
        for one in Digests::ALL {
            assert!(one.text().split(',').all(|v| own_name(one, v)));
        }
    }

    fn own_name(one: Digests, value: &str) -> bool {
        one.choose(value.as_bytes()).map(name) == Some(value)
    }

    #[test]
    fn on_the_wire() {
        // 32 bytes of zeroes.
        assert_eq!(bytes(0x8a91_36aa), [0xaa, 0x36, 0x91, 0x8a]);
    }

    #[test]
    fn what_a_wrong_data_digest_ends() {
        let head = |first: u8| {
            let mut bhs = [0; 48];
            bhs[0] = first;
            assert!(!wrong_data(&Head::of(&bhs), 1).close);
            wrong_data(&Head::of(&bhs), 0)
        };
        // Data-Out; an immediate ping; a numbered one; a command; a text.
        for (first, close) in [
            (0x05, false),
            (0x40, false),
            (0x00, true),
            (0x01, true),
            (0x04, true),
        ] {
            let error = head(first);
            assert_eq!(
                (error.reason, error.close),
                (RejectReason::DataDigest, close)
            );
        }
    }
}
