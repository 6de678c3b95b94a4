// SPDX-License-Identifier: GPL-2.0

//! Additional header segments: RFC 7143, 11.2.2.

use crate::error::Error;

/// One header segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ahs<'a> {
    /// The part of the CDB that follows its first 16 bytes: 1 to 244 bytes.
    ExtendedCdb(&'a [u8]),
    /// Expected length of the read part of a bidirectional command, in bytes.
    BidirectionalRead(u32),
}

/// The header segments of a SCSI command, at most one of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segments<'a> {
    /// See [`Ahs::ExtendedCdb`].
    pub extended_cdb: Option<&'a [u8]>,
    /// See [`Ahs::BidirectionalRead`].
    pub bidirectional_read: Option<u32>,
}

/// The longest rest of a CDB: SPC limits a CDB to 260 bytes.
const EXTENDED_MAX: usize = 244;

/// Takes one segment off the front of `bytes`: it and what follows it with its padding.
fn split(bytes: &[u8]) -> Result<(Ahs<'_>, &[u8]), Error> {
    const SHORT: Error = Error::format("11.2.2.1: a header segment longer than TotalAHSLength");
    // Length of what follows the type, then the type.
    let (&[high, low, kind], rest) = bytes.split_first_chunk::<3>().ok_or(SHORT)?;
    let len = usize::from(u16::from_be_bytes([high, low]));
    let whole = len.checked_add(3).ok_or(SHORT)?.next_multiple_of(4);
    let body = rest.get(..len).ok_or(SHORT)?;
    let after = bytes.get(whole..).ok_or(SHORT)?;
    // Both kinds begin with a reserved byte.
    let body = body.get(1..).unwrap_or_default();
    let ahs = match kind & 0x3f {
        1 if !body.is_empty() && body.len() <= EXTENDED_MAX => Ahs::ExtendedCdb(body),
        1 => return Err(Error::format("11.2.2.3: length of an extended CDB")),
        2 => match body {
            &[a, b, c, d] => Ahs::BidirectionalRead(u32::from_be_bytes([a, b, c, d])),
            _ => return Err(Error::format("11.2.2.4: length of a read length segment")),
        },
        _ => return Err(Error::format("11.2.2.1: reserved type of header segment")),
    };
    Ok((ahs, after))
}

/// Reads the header segments that came with a SCSI command: all TotalAHSLength bytes of them.
///
/// # Errors
/// A length that does not fit, a reserved type, or a type that comes twice.
pub fn parse(bytes: &[u8]) -> Result<Segments<'_>, Error> {
    const TWICE: Error = Error::format("11.2.2: a type of header segment twice");
    let mut segments = Segments::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (ahs, after) = split(rest)?;
        match ahs {
            Ahs::ExtendedCdb(cdb) => {
                if segments.extended_cdb.replace(cdb).is_some() {
                    return Err(TWICE);
                }
            }
            Ahs::BidirectionalRead(len) => {
                if segments.bidirectional_read.replace(len).is_some() {
                    return Err(TWICE);
                }
            }
        }
        rest = after;
    }
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_util::Random;

    #[test]
    fn both_kinds() {
        let bytes = [
            0, 17, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, // 32 byte CDB
            0, 5, 2, 0, 0, 0, 2, 0,
        ];
        let segments = parse(&bytes).unwrap();
        assert_eq!(segments.extended_cdb, Some(&bytes[4..20]));
        assert_eq!(segments.bidirectional_read, Some(512));
    }

    #[test]
    fn padding_is_skipped() {
        let bytes = [0, 2, 1, 0, 0xaa, 0, 0, 0, 0, 5, 2, 0, 0, 0, 0, 1];
        let segments = parse(&bytes).unwrap();
        assert_eq!(segments.extended_cdb, Some(&[0xaa][..]));
        assert_eq!(segments.bidirectional_read, Some(1));
    }

    #[test]
    fn wrong_ones() {
        let cases: [&[u8]; 8] = [
            &[0],
            &[0, 1, 1, 0],                                     // no byte of CDB
            &[0, 6, 1, 0, 1, 2, 3, 4],                         // longer than the total
            &[0xff, 0xff, 1, 0],                               //
            &[0, 1, 0, 0],                                     // reserved type
            &[0, 4, 2, 0, 0, 0, 0, 0],                         // short read length
            &[0, 0, 2, 0],                                     //
            &[0, 5, 2, 0, 0, 0, 0, 1, 0, 5, 2, 0, 0, 0, 0, 1], // twice
        ];
        for case in cases {
            assert!(parse(case).unwrap_err().close, "{case:?}");
        }
    }

    #[test]
    fn random_bytes_end() {
        let mut random = Random::new(3);
        for _ in 0..20_000 {
            let mut bytes = [0u8; 64];
            let len = random.below(65);
            random.fill(&mut bytes[..len]);
            // Small lengths and known types, so that the walk gets further than its first step.
            if random.below(2) == 0 && len > 3 {
                bytes[0] = 0;
                bytes[1] &= 0x1f;
                bytes[2] &= 3;
            }
            let _ = parse(&bytes[..len]);
        }
    }
}
