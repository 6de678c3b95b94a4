// SPDX-License-Identifier: GPL-2.0

//! TransportIDs: initiator ports by their transport's own names (SPC-4, 7.6.4).

use crate::{
    bytes::{self, Writer},
    inquiry::Protocol,
    sense::Sense,
};

/// Bytes of all TransportIDs but those of iSCSI.
const FIXED: usize = 24;
/// What an iSCSI initiator port's name has between the node's name and the ISID.
const SEPARATOR: &[u8] = b",i,0x";

/// An initiator's name as ACLs have it, at most [`Name::MAX`] bytes: an iSCSI name; `naa.` and 16 digits for SAS; eight
/// pairs of digits with colons for Fibre Channel; `0x` and 32 digits for SRP; 16 digits for SBP. Letters are small.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name {
    bytes: [u8; Self::MAX],
    len: u8,
}

impl Name {
    /// The longest: that of iSCSI (RFC 7143, 4.2.7.1).
    pub const MAX: usize = 223;

    const EMPTY: Self = Self {
        bytes: [0; Self::MAX],
        len: 0,
    };

    /// `text` in small letters, if it is not too long.
    pub fn new(text: &[u8]) -> Option<Self> {
        let mut name = Self::EMPTY;
        name.put(text).then_some(name)
    }

    fn put(&mut self, text: &[u8]) -> bool {
        let at = usize::from(self.len);
        let end = at.saturating_add(text.len());
        let (Some(to), Ok(len)) = (self.bytes.get_mut(at..end), u8::try_from(end)) else {
            return false;
        };
        for (to, from) in to.iter_mut().zip(text) {
            *to = from.to_ascii_lowercase();
        }
        self.len = len;
        true
    }

    fn hex(mut self, bytes: &[u8], separator: &[u8]) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |value: u8| {
            DIGITS
                .get(usize::from(value & 0xf))
                .copied()
                .unwrap_or(b'0')
        };
        for (i, byte) in bytes.iter().enumerate() {
            if i != 0 {
                self.put(separator);
            }
            self.put(&[digit(byte >> 4), digit(*byte)]);
        }
        self
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }
}

impl core::fmt::Debug for Name {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?}", core::str::from_utf8(self.as_bytes()))
    }
}

/// An initiator port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransportId {
    /// PROTOCOL IDENTIFIER
    pub protocol: Protocol,
    /// Its name.
    pub name: Name,
    /// Of iSCSI, the initiator port's part of the name (format 01b); without it, the whole initiator is meant (00b).
    pub isid: Option<[u8; 6]>,
}

impl TransportId {
    /// Reads the TransportID that `bytes`, at `at` of the parameter list, begin with. Also its length.
    ///
    /// # Errors
    /// INVALID FIELD IN PARAMETER LIST; PARAMETER LIST LENGTH ERROR for one that is cut off.
    pub fn parse(bytes: &[u8], at: u16) -> Result<(Self, usize), Sense> {
        let short = Sense::PARAMETER_LIST_LENGTH;
        let wrong = |byte: u16| Sense::invalid_parameter_byte(at.saturating_add(byte));
        let [first, ..] = bytes::array::<1>(bytes, 0).ok_or(short)?;
        let (format, code) = (first >> 6, first & 0x0f);
        if code == Protocol::Iscsi as u8 {
            let length = bytes::be16(bytes, 2).ok_or(short)?;
            // At least 20, and a multiple of four (SPC-4, 7.6.4.6).
            if length < 20 || length & 3 != 0 {
                return Err(wrong(2));
            }
            let length = usize::from(length);
            let text = bytes.get(4..).and_then(|b| b.get(..length)).ok_or(short)?;
            // Null-terminated and null-padded, which sg_persist and mpathpersist see to.
            let end = text.iter().position(|c| *c == 0).ok_or(wrong(4))?;
            let (text, padding) = text.split_at_checked(end).ok_or(short)?;
            if padding.iter().any(|c| *c != 0) {
                return Err(wrong(4));
            }
            let id = Self::iscsi(format, text).ok_or(wrong(if format > 1 { 0 } else { 4 }))?;
            return Ok((id, length.saturating_add(4)));
        }
        if format != 0 {
            return Err(wrong(0));
        }
        let fixed: [u8; FIXED] = bytes::array(bytes, 0).ok_or(short)?;
        let [_, _, _, _, sas @ .., _, _, _, _, _, _, _, _, _, _, _, _] = fixed;
        let [_, _, _, _, _, _, _, _, port @ ..] = fixed;
        let [p0, p1, p2, p3, p4, p5, p6, p7, ..] = port;
        let short_port = [p0, p1, p2, p3, p4, p5, p6, p7];
        let start = |prefix: &[u8]| Name::new(prefix).unwrap_or(Name::EMPTY);
        let (protocol, name) = match code {
            0x0 => (Protocol::Fcp, start(b"").hex(&short_port, b":")),
            0x3 => (Protocol::Sbp, start(b"").hex(&short_port, b"")),
            0x4 => (Protocol::Srp, start(b"0x").hex(&port, b"")),
            0x6 => (Protocol::Sas, start(b"naa.").hex(&sas, b"")),
            _ => return Err(wrong(0)),
        };
        let id = Self {
            protocol,
            name,
            isid: None,
        };
        Ok((id, FIXED))
    }

    // The name of the initiator, or of its port.
    fn iscsi(format: u8, text: &[u8]) -> Option<Self> {
        let (name, isid) = match format {
            0b00 => (text, None),
            0b01 => {
                let split = text
                    .windows(SEPARATOR.len())
                    .position(|w| w.eq_ignore_ascii_case(SEPARATOR))?;
                let (name, rest) = text.split_at_checked(split)?;
                (name, Some(isid(rest.get(SEPARATOR.len()..)?)?))
            }
            _ => return None,
        };
        if !is_iscsi_name(name) {
            return None;
        }
        Some(Self {
            protocol: Protocol::Iscsi,
            name: Name::new(name)?,
            isid,
        })
    }

    /// Writes it. A name that is none of its transport's has zeros in place of what is missing.
    pub fn write(&self, out: &mut Writer<'_>) {
        let start = out.len();
        let name = self.name.as_bytes();
        if self.protocol == Protocol::Iscsi {
            out.u8((u8::from(self.isid.is_some()) << 6) | Protocol::Iscsi as u8);
            out.u8(0);
            out.be16(0);
            out.put(name);
            if let Some(isid) = self.isid {
                out.put(SEPARATOR);
                out.put(Name::EMPTY.hex(&isid, b"").as_bytes());
            }
            // A NUL at least, and all of it a multiple of four.
            out.u8(0);
            let length = out.len().saturating_sub(start).saturating_sub(4);
            let length = length.max(20).next_multiple_of(4);
            out.zeros_to(start.saturating_add(4).saturating_add(length));
            let length = u16::try_from(length).unwrap_or(u16::MAX);
            out.overwrite(start.saturating_add(2), &length.to_be_bytes());
            return;
        }
        out.u8(self.protocol as u8);
        let digits = match self.protocol {
            Protocol::Sas => name.strip_prefix(b"naa.").unwrap_or(name),
            Protocol::Srp => name.strip_prefix(b"0x").unwrap_or(name),
            _ => name,
        };
        match self.protocol {
            Protocol::Sas => {
                out.fill(0, 3);
                out.put(&number::<8>(digits));
            }
            Protocol::Srp => {
                out.fill(0, 7);
                out.put(&number::<16>(digits));
            }
            _ => {
                out.fill(0, 7);
                out.put(&number::<8>(digits));
            }
        }
        out.zeros_to(start.saturating_add(FIXED));
    }
}

// What an iSCSI name may have, as logins are held to it: of ASCII, letters, digits and `-.:` (RFC 7143, 4.2.7.2), and `_`, which
// is in use. The name is kept in APTPL's file, in lines that tools join by commas: with those in it, it would be more than a name there.
fn is_iscsi_name(name: &[u8]) -> bool {
    let may_be = |c: char| {
        if c.is_ascii() {
            c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':' | '_')
        } else {
            !c.is_control() && !c.is_whitespace()
        }
    };
    let text = core::str::from_utf8(name);
    text.is_ok_and(|text| !text.is_empty() && text.chars().all(may_be))
}

// The number that the hexadecimal digits of `text` make, whatever is between them; the last ones, if they are too many.
fn number<const N: usize>(text: &[u8]) -> [u8; N] {
    let mut value = 0u128;
    for digit in text.iter().filter_map(|c| char::from(*c).to_digit(16)) {
        value = (value << 4) | u128::from(digit);
    }
    let mut number = [0; N];
    let all = value.to_be_bytes();
    for (to, from) in number.iter_mut().rev().zip(all.iter().rev()) {
        *to = *from;
    }
    number
}

// An ISID in up to 12 hexadecimal digits.
fn isid(text: &[u8]) -> Option<[u8; 6]> {
    let valid = matches!(text.len(), 1..=12) && text.iter().all(u8::is_ascii_hexdigit);
    valid.then(|| number(text))
}
