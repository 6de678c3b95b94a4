// SPDX-License-Identifier: GPL-2.0

//! Additional header segments against RFC 7143, 11.2.2, read byte by byte.
// fuzz: -max_len=1020

#![no_main]

use iscsi_proto::ahs;
use libfuzzer_sys::fuzz_target;

/// The rest of the CDB, and the length of the read part, if all segments are right.
fn model(mut bytes: &[u8]) -> Option<(Option<&[u8]>, Option<u32>)> {
    let (mut cdb, mut read) = (None, None);
    while !bytes.is_empty() {
        let length = usize::from(*bytes.first()?) << 8 | usize::from(*bytes.get(1)?);
        let kind = *bytes.get(2)? & 0x3f;
        // AHSLength counts neither itself, nor the type, nor the padding; the first byte after the type is reserved.
        let whole = (3 + length).div_ceil(4) * 4;
        if whole > bytes.len() || length == 0 {
            return None;
        }
        let body = &bytes[4..3 + length];
        match kind {
            // A CDB has 260 bytes at most, 16 of them in the header.
            1 if cdb.is_none() && (1..=244).contains(&body.len()) => cdb = Some(body),
            2 if read.is_none() && body.len() == 4 => {
                read = Some(u32::from_be_bytes(body.try_into().unwrap()))
            }
            _ => return None,
        }
        bytes = &bytes[whole..];
    }
    Some((cdb, read))
}

fuzz_target!(|input: &[u8]| {
    match ahs::parse(input) {
        Ok(segments) => {
            assert_eq!(
                model(input),
                Some((segments.extended_cdb, segments.bidirectional_read))
            );
        }
        Err(error) => {
            assert_eq!(model(input), None);
            assert!(error.close);
        }
    }
});
