// SPDX-License-Identifier: GPL-2.0

//! The forms of values that are declared: RFC 7143, 6.1.

use crate::{name, text::VALUE_MAX, value};

/// What a text may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An iSCSI name, as far as [`name::acceptable`] wants it.
    Name,
    /// UTF-8 that people read: 255 bytes without control characters.
    Local,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// Texts with commas between them, of 255 bytes in all.
    Words,
    /// `address[:port][,tag]`, see [`address`].
    Address,
    /// A number of 16 bits.
    Tag,
    /// `All`, nothing, or a target's name (appendix C).
    Targets,
}

impl Form {
    /// Whether `text` has this form.
    #[must_use]
    pub fn admits(self, text: &[u8]) -> bool {
        match self {
            Form::Name => name::acceptable(text),
            Form::Local => {
                text.len() <= VALUE_MAX
                    && core::str::from_utf8(text)
                        .is_ok_and(|text| !text.chars().any(char::is_control))
            }
            Form::OneOf(words) => words.iter().any(|word| word.as_bytes() == text),
            Form::Words => text.len() <= VALUE_MAX && text.iter().all(|&b| b == b',' || is_text(b)),
            Form::Address => {
                let (place, tag) = match text.iter().position(|&b| b == b',') {
                    Some(at) => text.split_at(at),
                    None => (text, &b""[..]),
                };
                address(place) && (tag.is_empty() || tag.get(1..).is_some_and(is_tag))
            }
            Form::Tag => is_tag(text),
            // Names are not all of the form that 4.2.7 wants, but they begin as it says.
            Form::Targets => {
                matches!(text, b"" | b"All")
                    || matches!(text.first_chunk(), Some(b"iqn." | b"eui." | b"naa."))
                        && name::acceptable(text)
            }
        }
    }
}

/// A character of a text-value.
const fn is_text(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'.' | b'-' | b'+' | b'@' | b'_' | b'/' | b'[' | b']' | b':'
        )
}

fn is_tag(text: &[u8]) -> bool {
    value::number_in(text, 0, 0xffff).is_some()
}

/// Whether `text` is `host`, `host:port`, or the same with an address of IPv6 in brackets, without a portal group's tag:
/// what TargetAddress says where a login is redirected (13.8). 255 bytes at most.
#[must_use]
pub fn address(text: &[u8]) -> bool {
    let (host, rest) = match text.strip_prefix(b"[") {
        Some(inner) => {
            let Some(at) = inner.iter().position(|&b| b == b']') else {
                return false;
            };
            let (ip, rest) = inner.split_at(at);
            let is_ip =
                core::str::from_utf8(ip).is_ok_and(|ip| ip.parse::<core::net::Ipv6Addr>().is_ok());
            (is_ip, rest.get(1..).unwrap_or_default())
        }
        None => {
            let at = text.iter().position(|&b| b == b':').unwrap_or(text.len());
            let (host, rest) = text.split_at(at);
            (is_host(host), rest)
        }
    };
    let port = match rest.strip_prefix(b":") {
        Some(port) => {
            port.iter().all(u8::is_ascii_digit) && value::number_in(port, 1, 0xffff).is_some()
        }
        None => rest.is_empty(),
    };
    text.len() <= VALUE_MAX && host && port
}

/// A DNS name, or an address of IPv4: what looks like one has to be one.
fn is_host(host: &[u8]) -> bool {
    let text = core::str::from_utf8(host).unwrap_or_default();
    let labels = !host.is_empty()
        && host.split(|&b| b == b'.').all(|label| {
            matches!(label.len(), 1..=63)
                && label
                    .iter()
                    .all(|&b| b.is_ascii_alphanumeric() || b == b'-')
                && label.first() != Some(&b'-')
                && label.last() != Some(&b'-')
        });
    let numeric = host.iter().all(|&b| b.is_ascii_digit() || b == b'.');
    labels && (!numeric || text.parse::<core::net::Ipv4Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for right in [
            "10.0.0.1",
            "10.0.0.1:3260",
            "[fe80::1]",
            "[1080::8:800:200C:417A]:5003",
            "storage-2.example.com",
            "storage:860",
            "1and1.example",
        ] {
            assert!(address(right.as_bytes()), "{right}");
        }
        for wrong in [
            "",
            ":3260",
            "10.0.0.1:",
            "10.0.0.1:0",
            "10.0.0.1:65536",
            "10.0.0.1:+1",
            "10.0.0.256",
            "10.0.0",
            "10.0.0.1,1",
            "fe80::1",
            "[fe80::1",
            "[fe80::1%eth0]",
            "[fe80::1]x",
            "[fe80::1]:",
            "[]",
            "a..b",
            "-a",
            "a-",
            "a b",
            "a\n",
            "\u{e9}",
            "10.0.0.1:0x10",
        ] {
            assert!(!address(wrong.as_bytes()), "{wrong}");
        }
        assert!(!address(&[b'a'; 256]));
    }

    #[test]
    fn forms() {
        for (form, right, wrong) in [
            (Form::Name, &["iqn.x", "eui.1"][..], &["", "a b"][..]),
            (Form::Local, &["", "Bob's disk, 2", "é"], &["a\tb"]),
            (Form::OneOf(&["Normal"]), &["Normal"], &["", "normal"]),
            (
                Form::Words,
                &["", "None", "a,b", "OS/v1,[x]:+@_-."],
                &["a b", "é", "a;b"],
            ),
            (
                Form::Address,
                &["10.0.0.1:3260,1", "h", "[::1],65535"],
                &["h,", "h,65536", "h,1,2", ",1"],
            ),
            (Form::Tag, &["0", "0xffff"], &["", "65536", "x"]),
            (
                Form::Targets,
                &["", "All", "iqn.2003-01.org.x:t"],
                &["all", "Banana", "iqn.a/b"],
            ),
        ] {
            for text in right {
                assert!(form.admits(text.as_bytes()), "{form:?} {text}");
            }
            for text in wrong {
                assert!(!form.admits(text.as_bytes()), "{form:?} {text}");
            }
        }
        assert!(Form::Words.admits(&[b'a'; 255]) && !Form::Words.admits(&[b'a'; 256]));
        assert!(Form::Local.admits(&[b'a'; 255]) && !Form::Local.admits(&[b'a'; 256]));
    }
}
