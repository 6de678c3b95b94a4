// SPDX-License-Identifier: GPL-2.0

//! The device identification page, 83h: the designators by which initiators know a disk (SPC-4, 7.8.6).

use super::serial;
use crate::{
    bytes::{array, Writer},
    copy::list::Designator,
    inquiry::{Identity, Port, Unit},
};

/// What a designator names (ASSOCIATION).
#[derive(Clone, Copy)]
#[repr(u8)]
enum Association {
    LogicalUnit = 0x00,
    TargetPort = 0x10,
    TargetDevice = 0x20,
}

const BINARY: u8 = 0x1;
const ASCII: u8 = 0x2;
const UTF8: u8 = 0x3;

/// Writes the page's designators.
pub(super) fn write(unit: &Unit<'_>, out: &mut Writer<'_>) {
    naa(&unit.identity, out);
    t10_vendor(&unit.identity, out);

    let port = &unit.port;
    let protocol = (port.protocol as u8) << 4;
    // Relative target port identifier
    header(out, protocol | BINARY, Association::TargetPort, 0x4, 4);
    out.be16(0);
    out.be16(port.relative_id);
    if let Some(group) = port.group {
        // Target port group
        header(out, protocol | BINARY, Association::TargetPort, 0x5, 4);
        out.be16(0);
        out.be16(group);
    }
    if let Some(group) = unit.identity.lu_group {
        // Logical unit group
        header(out, BINARY, Association::LogicalUnit, 0x6, 4);
        out.be16(0);
        out.be16(group);
    }
    port_name(port, out);
    name(out, protocol, Association::TargetDevice, port.target, &[]);
}

/// The port's name: the target's, the letter t for target, the portal group tag.
fn port_name(port: &Port<'_>, out: &mut Writer<'_>) {
    let protocol = (port.protocol as u8) << 4;
    let [hi, lo] = port.tag.to_be_bytes();
    let [d0, d1, d2, d3] = [hi >> 4, hi & 0xf, lo >> 4, lo & 0xf].map(hex_digit);
    let tag = [b',', b't', b',', b'0', b'x', d0, d1, d2, d3];
    name(out, protocol, Association::TargetPort, port.target, &tag);
}

/// Writes the descriptors of the SCSI ports page, 88h (SPC-4, 7.8.13): all ports, each with its name.
pub(super) fn ports(unit: &Unit<'_>, out: &mut Writer<'_>) {
    for port in unit.ports {
        out.be16(0);
        out.be16(port.relative_id);
        // No initiator port is one, so there is no INITIATOR PORT TRANSPORTID.
        out.be32(0);
        out.be16(0);
        let length = out.len();
        out.be16(0);
        port_name(port, out);
        let written = out.len().saturating_sub(length).saturating_sub(2);
        let written = u16::try_from(written).unwrap_or(u16::MAX);
        out.overwrite(length, &written.to_be_bytes());
    }
}

/// The designator is one of the logical unit's own, and of no other's: one that its serial number is in.
pub fn is_named(identity: &Identity<'_>, designator: &Designator<'_>) -> bool {
    if identity.serial.is_none() || designator.association != 0 {
        return false;
    }
    let mut own = [0; 320];
    let mut out = Writer::new(&mut own);
    naa(identity, &mut out);
    t10_vendor(identity, &mut out);
    let mut rest = out.as_slice();
    while let [code_set, kind, _, length, after @ ..] = rest {
        let Some((bytes, next)) = after.split_at_checked(usize::from(*length)) else {
            return false;
        };
        if (*code_set, *kind, bytes) == (designator.code_set, designator.kind, designator.bytes) {
            return true;
        }
        rest = next;
    }
    false
}

/// The NAA designator of a logical unit that has a serial number.
pub fn naa_designator(identity: &Identity<'_>) -> Option<[u8; 16]> {
    let mut own = [0; 20];
    let mut out = Writer::new(&mut own);
    naa(identity, &mut out);
    array(out.as_slice(), 4)
}

/// The four bytes before each designator. PIV goes with a protocol, which ports and devices have and units do not.
fn header(out: &mut Writer<'_>, code_set: u8, association: Association, kind: u8, length: u8) {
    let piv = match association {
        Association::LogicalUnit => 0,
        _ => 0x80,
    };
    out.put(&[code_set, piv | association as u8 | kind, 0, length]);
}

/// NAA IEEE Registered Extended: 6h, the company's identifier, then the serial number's hexadecimal digits as far as they go.
///
/// What is no digit in the serial number is skipped: `11111111-2222-…` gives 6001405 1111 1111 2222 ….
fn naa(identity: &Identity<'_>, out: &mut Writer<'_>) {
    let Some(serial) = identity.serial else {
        return;
    };
    header(out, BINARY, Association::LogicalUnit, 0x3, 16);
    let [_, c0, c1, c2] = identity.company_id.to_be_bytes();
    let mut digits = serial.iter().filter_map(|c| hex_value(*c));
    let mut digit = || digits.next().unwrap_or(0);
    out.put(&[
        0x60 | (c0 >> 4),
        (c0 << 4) | (c1 >> 4),
        (c1 << 4) | (c2 >> 4),
        (c2 << 4) | digit(),
    ]);
    for _ in 0..12 {
        let high = digit() << 4;
        out.u8(high | digit());
    }
}

/// T10 vendor identification: the vendor, and PRODUCT:SERIAL with a terminator.
fn t10_vendor(identity: &Identity<'_>, out: &mut Writer<'_>) {
    const VENDOR: usize = 8;
    // DESIGNATOR LENGTH is one byte: of a long product and serial number together, the end is cut off.
    const MAX_TEXT: usize = 255 - VENDOR - 1;
    let product = identity.product;
    let product = product.get(..16).unwrap_or(product);
    let (product, colon, serial) = match serial(identity) {
        Some(serial) => (product, &b":"[..], serial),
        None => (&[][..], &[][..], &[][..]),
    };
    let room = MAX_TEXT
        .saturating_sub(product.len())
        .saturating_sub(colon.len());
    let serial = serial.get(..room).unwrap_or(serial);

    let start = out.len();
    header(out, ASCII, Association::LogicalUnit, 0x1, 0);
    out.padded(identity.vendor, VENDOR);
    out.put(product);
    out.put(colon);
    out.put(serial);
    out.u8(0);
    set_length(out, start);
}

/// SCSI name string: UTF-8, terminated, padded with zeros to a multiple of four.
fn name(out: &mut Writer<'_>, protocol: u8, association: Association, text: &[u8], tail: &[u8]) {
    // DESIGNATOR LENGTH is one byte: the longest multiple of four that fits, less the terminator.
    const MAX_TEXT: usize = 252 - 1;
    let room = MAX_TEXT.saturating_sub(tail.len());
    let text = text.get(..room).unwrap_or(text);

    let start = out.len();
    header(out, protocol | UTF8, association, 0x8, 0);
    let body = out.len();
    out.put(text);
    out.put(tail);
    out.u8(0);
    let used = out.len().saturating_sub(body);
    out.fill(0, used.wrapping_neg() & 3);
    set_length(out, start);
}

/// Sets the DESIGNATOR LENGTH of the designator that begins at `start` and was just written.
fn set_length(out: &mut Writer<'_>, start: usize) {
    let length = out.len().saturating_sub(start).saturating_sub(4);
    out.overwrite(
        start.saturating_add(3),
        &[u8::try_from(length).unwrap_or(u8::MAX)],
    );
}

fn hex_value(c: u8) -> Option<u8> {
    char::from(c)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

fn hex_digit(value: u8) -> u8 {
    // `from_digit` has no digit for values above 15, which a nibble cannot have.
    char::from_digit(u32::from(value), 16).map_or(b'0', |c| u8::try_from(c).unwrap_or(b'0'))
}
