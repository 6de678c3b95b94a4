// SPDX-License-Identifier: GPL-2.0

//! Additional header segments against RFC 7143, 11.2.2, read byte by byte.
// fuzz: -max_len=300

#![no_main]

use iscsi_proto::ahs;
use libfuzzer_sys::fuzz_target;
use lio_fuzz::Input;

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

/// Segments of any length, some of them cut off or too long by a few bytes, so that long ones are not found by luck.
fn made(input: &mut Input<'_>) -> Vec<u8> {
    let cut = usize::from(input.u8()).saturating_sub(0xe0);
    let mut bytes = vec![];
    while !input.is_empty() && bytes.len() < 1020 {
        let kind = input.u8();
        let len = match kind >> 6 {
            0 => usize::from(input.u8()),
            1 => 244 + input.below(4),
            2 => 5,
            _ => usize::from(input.u16()),
        };
        bytes.extend((len as u16).to_be_bytes());
        bytes.push(kind & 0x3f);
        bytes.resize(bytes.len() + len.min(1020), kind);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes.truncate(1020.min(bytes.len().saturating_sub(cut)));
    bytes
}

fn check(bytes: &[u8]) {
    match ahs::parse(bytes) {
        Ok(segments) => {
            let seen = (segments.extended_cdb, segments.bidirectional_read);
            assert_eq!(model(bytes), Some(seen));
        }
        Err(error) => {
            assert_eq!(model(bytes), None);
            assert!(error.close);
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let mut input = Input::new(input);
    if input.bool() {
        check(&made(&mut input));
    } else {
        check(input.rest());
    }
});
