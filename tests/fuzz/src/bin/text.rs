// SPDX-License-Identifier: GPL-2.0

//! key=value text and the values in it, against RFC 7143, 6.1: split, read and written back.
// fuzz: -max_len=400

#![no_main]

use iscsi_proto::{
    keys, name,
    text::{pairs, Full, Writer},
    value,
};
use libfuzzer_sys::fuzz_target;
use lio_fuzz::{model::number, Input};

type Read<'a> = Vec<(&'a [u8], &'a [u8])>;

/// The pairs up to the first that is malformed, and whether there is one.
fn model(text: &[u8]) -> (Read<'_>, bool) {
    let mut all = vec![];
    for item in text
        .split(|byte| *byte == 0)
        .filter(|item| !item.is_empty())
    {
        let mut parts = item.splitn(2, |byte| *byte == b'=');
        let (Some(key), Some(value)) = (parts.next(), parts.next()) else {
            return (all, true);
        };
        let printable = key.iter().all(|byte| (0x21..=0x7e).contains(byte));
        if !(1..=63).contains(&key.len())
            || !printable
            || value.split(|byte| *byte == b',').any(|v| v.len() > 255)
        {
            return (all, true);
        }
        all.push((key, value));
    }
    (all, false)
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Bits of the digits, cut into whole bytes: from the right in hexadecimal, from the left in base64.
fn binary(text: &[u8]) -> Option<Vec<u8>> {
    let (kind, digits) = (text.get(..2)?.to_ascii_lowercase(), text.get(2..)?);
    if digits.is_empty() {
        return None;
    }
    if kind == b"0x" {
        let mut nibbles = vec![0; digits.len() % 2];
        for digit in digits {
            nibbles.push((*digit as char).to_digit(16)? as u8);
        }
        return Some(nibbles.chunks(2).map(|two| two[0] << 4 | two[1]).collect());
    }
    if kind != b"0b" || digits.len() % 4 != 0 {
        return None;
    }
    let padding = digits
        .iter()
        .rev()
        .take_while(|digit| **digit == b'=')
        .count();
    if padding > 2 {
        return None;
    }
    // Four digits are three bytes; of the last four, what the padding leaves.
    let mut bytes = vec![];
    for four in digits[..digits.len() - padding].chunks(4) {
        let mut group = 0usize;
        for at in 0..4 {
            let digit = four.get(at).unwrap_or(&b'A');
            group = group * 64 + BASE64.iter().position(|known| known == digit)?;
        }
        let whole = [(group >> 16) as u8, (group >> 8) as u8, group as u8];
        bytes.extend(&whole[..four.len() * 6 / 8]);
    }
    Some(bytes)
}

fn values(text: &[u8], room: usize) {
    assert_eq!(value::number(text), number(text));
    let (min, max) = (512, 0xff_ffff);
    let inside = number(text).filter(|n| (min..=max).contains(n));
    assert_eq!(
        value::number_in(text, min as u32, max as u32).map(u64::from),
        inside
    );
    let mut parts = text.splitn(2, |byte| *byte == b'~');
    let range = match (parts.next().and_then(number), parts.next().and_then(number)) {
        (Some(low), Some(high)) if low <= high => Some((low, high)),
        _ => None,
    };
    assert_eq!(value::range(text), range);
    assert_eq!(
        value::boolean(text).is_some(),
        text == b"Yes" || text == b"No"
    );
    let mut out = vec![0xa5; room + 4];
    let len = value::binary(text, &mut out[..room]);
    assert_eq!(
        len.map(|len| &out[..len]),
        binary(text).filter(|bytes| bytes.len() <= room).as_deref()
    );
    assert_eq!(out[room..], [0xa5; 4]);
}

fn names(text: &[u8]) {
    let kind = name::kind(text);
    if kind.is_some() {
        assert!(name::acceptable(text) && text.is_ascii() || text.starts_with(b"iqn."));
    }
    if name::acceptable(text) {
        let text = core::str::from_utf8(text).unwrap();
        assert!(
            (1..=223).contains(&text.len())
                && !text.contains(['\0', '=', ',', '/', ' ', '\n', '"', '\\'])
        );
    }
}

fuzz_target!(|input: &[u8]| {
    let mut input = Input::new(input);
    let room = usize::from(input.u8()) * 3;
    let text = input.rest();
    let (expected, malformed) = model(text);
    let mut seen = vec![];
    let mut error = false;
    for pair in pairs(text) {
        assert!(!error, "it goes on after an error");
        match pair {
            Ok(pair) => seen.push((pair.key, pair.value)),
            Err(_) => error = true,
        }
    }
    assert_eq!((&seen, error), (&expected, malformed));

    let mut out = vec![0xa5; room + 4];
    let mut writer = Writer::new(&mut out[..room]);
    let mut written = vec![];
    for (key, value) in seen {
        let (len, more) = (writer.len(), key.len() + value.len() + 2);
        match writer.pair_bytes(key, value) {
            Ok(()) => {
                written.push((key, value));
                assert_eq!(writer.len(), len + more);
            }
            // All or nothing.
            Err(Full) => assert!(len + more > room && writer.len() == len),
        }
        if let Some(known) = keys::find(key) {
            assert_eq!((known.name.as_bytes(), known.id.name()), (key, known.name));
        }
        values(value, room % 80);
        names(value);
    }
    let (read, malformed) = model(writer.text());
    assert_eq!((read, malformed), (written, false));
    assert_eq!(out[room..], [0xa5; 4]);
});
