// SPDX-License-Identifier: GPL-2.0

//! iSCSI names: RFC 7143, 4.2.7.

/// The longest name, in bytes.
pub const NAME_MAX: usize = 223;

/// How a name is formed: 4.2.7.3 to 4.2.7.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `iqn.yyyy-mm.reversed.domain[:anything]`
    Iqn,
    /// `eui.` and 16 hexadecimal digits.
    Eui,
    /// `naa.` and 16 or 32 hexadecimal digits.
    Naa,
}

/// Whether `name` has only what a name may have: 1 to 223 bytes of UTF-8, of ASCII only letters, digits, `-`, `.` and
/// `:` (4.2.7.2). Upper case and `_` are let through. This is what a login asks for: initiators in use have names whose form is not
/// that of [`kind`].
#[must_use]
pub fn acceptable(name: &[u8]) -> bool {
    let Ok(text) = core::str::from_utf8(name) else {
        return false;
    };
    !name.is_empty()
        && name.len() <= NAME_MAX
        && text.chars().all(|c| {
            c.is_ascii_alphanumeric()
                || matches!(c, '-' | '.' | ':' | '_')
                || (!c.is_ascii() && !c.is_control() && !c.is_whitespace())
        })
}

/// The form of a name; `None` if it has none of the three.
#[must_use]
pub fn kind(name: &[u8]) -> Option<Kind> {
    if !acceptable(name) || name.contains(&b'_') {
        return None;
    }
    let (prefix, rest) = name.split_first_chunk::<4>()?;
    let hexadecimal = rest.iter().all(u8::is_ascii_hexdigit);
    match prefix {
        b"iqn." => is_iqn(rest).then_some(Kind::Iqn),
        b"eui." => (hexadecimal && rest.len() == 16).then_some(Kind::Eui),
        b"naa." => (hexadecimal && matches!(rest.len(), 16 | 32)).then_some(Kind::Naa),
        _ => None,
    }
}

fn is_iqn(rest: &[u8]) -> bool {
    let Some((&[y1, y2, y3, y4, b'-', m1, m2, b'.'], rest)) = rest.split_first_chunk::<8>() else {
        return false;
    };
    let month = matches!((m1, m2), (b'0', b'1'..=b'9') | (b'1', b'0'..=b'2'));
    let authority = rest.split(|&b| b == b':').next().unwrap_or_default();
    month
        && [y1, y2, y3, y4].iter().all(u8::is_ascii_digit)
        && authority
            .split(|&b| b == b'.')
            .all(|label| !label.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        for (name, want) in [
            ("iqn.2003-01.org.linux-iscsi.x8664:sn.6a1a", Some(Kind::Iqn)),
            (
                "iqn.2007-10.com.github:sahlberg:libiscsi:iscsi-test",
                Some(Kind::Iqn),
            ),
            ("iqn.1993-08.org.debian:01:1c2f", Some(Kind::Iqn)),
            ("iqn.2001-04.com", Some(Kind::Iqn)),
            ("iqn.2001-13.com", None),
            ("iqn.2001-04.com.x:a_b", None),
            ("iqn.2001-04.", None),
            ("iqn.2001-04.com..x", None),
            ("iqn.2001-4.com.x", None),
            ("iqn.i1", None),
            ("eui.02004567A425678D", Some(Kind::Eui)),
            ("eui.02004567A425678", None),
            ("naa.52004567BA64678D", Some(Kind::Naa)),
            ("naa.62004567BA64678D0123456789ABCDEF", Some(Kind::Naa)),
            ("naa.62004567BA64678D01", None),
            ("", None),
            ("foo", None),
        ] {
            assert_eq!(kind(name.as_bytes()), want, "{name}");
        }
    }

    #[test]
    fn characters() {
        for name in ["iqn.i1", "a", "a_b", "iqn.2001-04.com.x:\u{fc}\u{df}"] {
            assert!(acceptable(name.as_bytes()), "{name}");
        }
        for name in ["a b", "a/b", "a,b", "a\0", "a\n", "\u{85}", "\u{3000}"] {
            assert!(!acceptable(name.as_bytes()), "{name:?}");
        }
        assert!(!acceptable(b"\xff"));
        assert!(acceptable(&[b'a'; 223]));
        assert!(!acceptable(&[b'a'; 224]));
    }
}
