// SPDX-License-Identifier: GPL-2.0

//! Values in text: RFC 7143, 6.1.

/// An unsigned number below 2^64, decimal or, after `0x`, hexadecimal.
#[must_use]
pub fn number(text: &[u8]) -> Option<u64> {
    let (digits, base) = match text {
        [b'0', b'x' | b'X', digits @ ..] => (digits, 16u64),
        _ => (text, 10),
    };
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, &digit| {
        let digit = (digit as char).to_digit(base as u32)?;
        value.checked_mul(base)?.checked_add(u64::from(digit))
    })
}

/// A number that is at least `min` and at most `max`.
#[must_use]
pub fn number_in(text: &[u8], min: u32, max: u32) -> Option<u32> {
    let value = u32::try_from(number(text)?).ok()?;
    (min..=max).contains(&value).then_some(value)
}

/// Two numbers with a tilde between them, the first not above the second.
#[must_use]
pub fn range(text: &[u8]) -> Option<(u64, u64)> {
    let at = text.iter().position(|&b| b == b'~')?;
    let low = number(text.get(..at)?)?;
    let high = number(text.get(at.checked_add(1)?..)?)?;
    (low <= high).then_some((low, high))
}

/// `Yes` or `No`.
#[must_use]
pub fn boolean(text: &[u8]) -> Option<bool> {
    match text {
        b"Yes" => Some(true),
        b"No" => Some(false),
        _ => None,
    }
}

/// The values of a list in the order of preference.
pub fn list(text: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    text.split(|&b| b == b',')
}

/// A binary value, written as `0x` and hexadecimal digits or `0b` and base64, decoded into `out`: its length in
/// bytes. `None` if it is malformed or longer than `out`.
pub fn binary(text: &[u8], out: &mut [u8]) -> Option<usize> {
    match text {
        [b'0', b'x' | b'X', digits @ ..] if !digits.is_empty() => hexadecimal(digits, out),
        [b'0', b'b' | b'B', digits @ ..] if !digits.is_empty() => base64(digits, out),
        _ => None,
    }
}

fn hexadecimal(digits: &[u8], out: &mut [u8]) -> Option<usize> {
    let nibble = |digit: u8| {
        (digit as char)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    let mut out = out.iter_mut();
    let mut len = 0usize;
    // An odd number of digits has its leading zero left out.
    let (first, rest) = digits.split_at_checked(digits.len() & 1)?;
    if let &[digit] = first {
        *out.next()? = nibble(digit)?;
        len = 1;
    }
    for pair in rest.chunks_exact(2) {
        let &[high, low] = pair else { return None };
        *out.next()? = (nibble(high)? << 4) | nibble(low)?;
        len = len.checked_add(1)?;
    }
    Some(len)
}

fn base64(digits: &[u8], out: &mut [u8]) -> Option<usize> {
    if digits.len() & 3 != 0 {
        return None;
    }
    let equals = digits.iter().rev().take_while(|&&d| d == b'=').count();
    if equals > 2 {
        return None;
    }
    let mut out = out.iter_mut();
    let (mut len, mut bits, mut held) = (0usize, 0u32, 0u32);
    for &digit in digits.get(..digits.len().checked_sub(equals)?)? {
        let sextet = match digit {
            b'A'..=b'Z' => digit.wrapping_sub(b'A'),
            b'a'..=b'z' => digit.wrapping_sub(b'a').wrapping_add(26),
            b'0'..=b'9' => digit.wrapping_sub(b'0').wrapping_add(52),
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = ((bits & 0xff) << 6) | u32::from(sextet);
        held = held.wrapping_add(6);
        if held >= 8 {
            held = held.wrapping_sub(8);
            *out.next()? = bits.checked_shr(held)? as u8;
            len = len.checked_add(1)?;
        }
    }
    Some(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (text, want) in [
            (&b"0"[..], Some(0)),
            (b"262144", Some(262_144)),
            (b"0x1F", Some(31)),
            (b"0X1f", Some(31)),
            (b"007", Some(7)),
            (b"18446744073709551615", Some(u64::MAX)),
            (b"18446744073709551616", None),
            (b"0xffffffffffffffff", Some(u64::MAX)),
            (b"0x10000000000000000", None),
            (b"", None),
            (b"0x", None),
            (b"-1", None),
            (b"+1", None),
            (b" 1", None),
            (b"1 ", None),
            (b"Yes", None),
        ] {
            assert_eq!(number(text), want, "{text:?}");
        }
        assert_eq!(number_in(b"512", 512, 600), Some(512));
        assert_eq!(number_in(b"511", 512, 600), None);
        assert_eq!(number_in(b"4294967808", 512, 600), None);
    }

    #[test]
    fn ranges() {
        assert_eq!(range(b"1~0x10"), Some((1, 16)));
        assert_eq!(range(b"2~1"), None);
        assert_eq!(range(b"2"), None);
        assert_eq!(range(b"~"), None);
    }

    #[test]
    fn binaries() {
        let mut out = [0; 8];
        for (text, want) in [
            (&b"0x1"[..], Some(&[1u8][..])),
            (b"0x123", Some(&[1, 0x23])),
            (b"0xaAfF", Some(&[0xaa, 0xff])),
            (b"0x", None),
            (b"0xg0", None),
            (b"0bZm9vYg==", Some(b"foob")),
            (b"0bZm9vYmE=", Some(b"fooba")),
            (b"0bZm9vYmFy", Some(b"foobar")),
            (b"0bZm9", None),
            (b"0b====", None),
            (b"0bZ=9v", None),
            (b"0xffffffffffffffffff", None),
            (b"0bZm9vYmFyZm9v", None),
            (b"12", None),
        ] {
            assert_eq!(
                binary(text, &mut out)
                    .map(|len| out[..len].to_vec())
                    .as_deref(),
                want,
                "{text:?}"
            );
        }
    }

    #[test]
    fn lists_and_booleans() {
        assert!(list(b"CRC32C,None").eq([&b"CRC32C"[..], b"None"]));
        assert!(list(b"None").eq([&b"None"[..]]));
        assert_eq!(boolean(b"Yes"), Some(true));
        assert_eq!(boolean(b"No"), Some(false));
        assert_eq!(boolean(b"yes"), None);
    }
}
