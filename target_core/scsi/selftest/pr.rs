// SPDX-License-Identifier: GPL-2.0

//! Reservations on the wire.

use super::{hex, written};
use crate::{
    bytes::Writer,
    inquiry::Protocol,
    pr::{
        write_capabilities, write_keys, write_reservation, Action, FullStatus, FullStatusWriter,
        Name, Out, Parameters, TransportId, Type,
    },
    sense::Sense,
};
use std::vec::Vec;

fn id(bytes: &[u8]) -> Result<(TransportId, usize), Sense> {
    TransportId::parse(bytes, 28)
}

fn wrong(byte: u16) -> Sense {
    Sense::invalid_parameter_byte(byte)
}

fn iscsi(format: u8, text: &[u8]) -> Vec<u8> {
    let mut bytes = std::vec![(format << 6) | 5, 0, 0, 0];
    bytes.extend(text);
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(4).max(24), 0);
    let length = (bytes.len() - 4) as u16;
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
    bytes
}

#[test]
fn transport_ids_are_read_and_written_the_same() {
    let table: [(&str, Protocol, &str); 4] = [
        (
            "06 00 00 00 60 01 40 5a bc de f0 12 00 00 00 00 00 00 00 00 00 00 00 00",
            Protocol::Sas,
            "naa.6001405abcdef012",
        ),
        (
            "00 00 00 00 00 00 00 00 21 00 00 24 ff 45 67 89 00 00 00 00 00 00 00 00",
            Protocol::Fcp,
            "21:00:00:24:ff:45:67:89",
        ),
        (
            "04 00 00 00 00 00 00 00 fe 80 00 00 00 00 00 00 00 02 c9 03 00 0a bc de",
            Protocol::Srp,
            "0xfe800000000000000002c903000abcde",
        ),
        (
            "03 00 00 00 00 00 00 00 00 11 22 33 44 55 66 77 00 00 00 00 00 00 00 00",
            Protocol::Sbp,
            "0011223344556677",
        ),
    ];
    for (bytes, protocol, name) in table {
        let bytes = hex(bytes);
        let (read, length) = id(&bytes).unwrap();
        assert_eq!((read.protocol, read.isid, length), (protocol, None, 24));
        assert_eq!(read.name.as_bytes(), name.as_bytes());
        assert_eq!(written(|out| read.write(out)), bytes);
        for short in 0..24 {
            assert_eq!(id(&bytes[..short]), Err(Sense::PARAMETER_LIST_LENGTH));
        }
        let mut formatted = bytes.clone();
        formatted[0] |= 0x40;
        assert_eq!(id(&formatted), Err(wrong(28)));
    }
    for (format, text, name, isid) in [
        (
            0,
            "iqn.2003-01.org.example:a",
            "iqn.2003-01.org.example:a",
            None,
        ),
        (
            1,
            "iqn.2003-01.org.example:a,i,0x00023d000001",
            "iqn.2003-01.org.example:a",
            Some([0, 2, 0x3d, 0, 0, 1]),
        ),
        (0, "iqn.a", "iqn.a", None),
    ] {
        let bytes = iscsi(format, text.as_bytes());
        let (read, length) = id(&bytes).unwrap();
        assert_eq!((read.protocol, read.isid), (Protocol::Iscsi, isid));
        assert_eq!(
            (read.name.as_bytes(), length),
            (name.as_bytes(), bytes.len())
        );
        assert_eq!(written(|out| read.write(out)), bytes);
    }
}

#[test]
fn names_have_small_letters_and_end_with_nul() {
    let (read, _) = id(&iscsi(1, b"IQN.X,I,0xABC")).unwrap();
    assert_eq!(read.name.as_bytes(), b"iqn.x");
    assert_eq!(read.isid, Some([0, 0, 0, 0, 0x0a, 0xbc]));
    // Without a NUL at the end, and with more than NULs behind it.
    for (format, text) in [
        (0, &b"iqn.2003-01.org.exam"[..]),
        (1, b"iqn.x,i,0x0123456789"),
        (0, b"iqn.x\0iqn.y\0\0\0\0\0\0\0\0\0"),
        (1, b"iqn.x,i,0x1\0\0\0\0\0\0\0\0a"),
    ] {
        let bytes = [&[(format << 6) | 5, 0, 0, 20][..], text].concat();
        assert_eq!(id(&bytes), Err(wrong(32)), "{text:?}");
    }
    let longest = [b'a'; Name::MAX];
    assert_eq!(id(&iscsi(0, &longest)).unwrap().0.name.as_bytes(), longest);
    assert_eq!(id(&iscsi(0, &[b'a'; Name::MAX + 1])), Err(wrong(32)));
}

#[test]
fn transport_ids_that_are_none() {
    for text in [
        &b"iqn.a"[..],
        b"iqn.a,i,0x",
        b",i,0x00023d000001",
        b"iqn.a,i,0x0123456789abc",
        b"iqn.a,i,0x12g4",
    ] {
        assert_eq!(id(&iscsi(1, text)), Err(wrong(32)), "{text:?}");
    }
    // What no login has as a name: in APTPL's file it would be a line of its own, or none at all.
    for name in [
        &b"iqn.a\nres_holder=1"[..],
        b"iqn.a,res_holder=1",
        b"iqn.a b",
        b"iqn.a\x7f",
        b"iqn.a\xff",
        "iqn.a\u{85}".as_bytes(),
        "iqn.a\u{3000}".as_bytes(),
    ] {
        assert_eq!(id(&iscsi(0, name)), Err(wrong(32)), "{name:?}");
        let port = [name, b",i,0x00023d000001"].concat();
        assert_eq!(id(&iscsi(1, &port)), Err(wrong(32)), "{name:?}");
    }
    for name in ["iqn.a_b-c:d.0", "iqn.2001-04.com.x:\u{fc}"] {
        assert!(id(&iscsi(0, name.as_bytes())).is_ok(), "{name}");
    }
    assert_eq!(id(&iscsi(0, b"")), Err(wrong(32)));
    assert_eq!(id(&iscsi(2, b"iqn.a")), Err(wrong(28)));
    assert_eq!(id(&iscsi(3, b"iqn.a")), Err(wrong(28)));
    for length in [0u16, 16, 19, 21, 22, 23] {
        let mut bytes = iscsi(0, b"iqn.a");
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
        assert_eq!(id(&bytes), Err(wrong(30)), "{length}");
    }
    let mut long = iscsi(0, b"iqn.a");
    long[3] = 24;
    assert_eq!(id(&long), Err(Sense::PARAMETER_LIST_LENGTH));
    for code in [1, 2, 7, 8, 9, 10, 15] {
        let mut bytes = [0; 24];
        bytes[0] = code;
        assert_eq!(id(&bytes), Err(wrong(28)));
    }
}

fn list(flags: u8) -> Vec<u8> {
    let mut list = hex("00 01 02 03 04 05 06 07 11 12 13 14 15 16 17 18");
    list.extend([0, 0, 0, 0, flags, 0, 0, 0]);
    list
}

#[test]
fn parameter_lists() {
    let read = |action, list: &[u8]| {
        Parameters::parse(action, list).map(|p| {
            assert_eq!(p.key, 0x0001_0203_0405_0607);
            assert_eq!(p.action_key, 0x1112_1314_1516_1718);
            (p.aptpl, p.all_ports, p.specified)
        })
    };
    assert_eq!(read(Action::Register, &list(0x05)), Ok((true, true, false)));
    assert_eq!(
        read(Action::RegisterAndIgnore, &list(0x01)),
        Ok((true, false, false))
    );
    assert_eq!(
        read(Action::ReplaceLost, &list(0x01)),
        Ok((true, false, false))
    );
    assert_eq!(read(Action::ReplaceLost, &list(0x04)), Err(wrong(20)));
    // Valid for registering only.
    assert_eq!(
        read(Action::Reserve, &list(0x05)),
        Ok((false, false, false))
    );
    for action in [
        Action::RegisterAndIgnore,
        Action::Reserve,
        Action::Clear,
        Action::ReplaceLost,
    ] {
        assert_eq!(read(action, &list(0x08)), Err(wrong(20)));
    }
    for action in [Action::Register, Action::Release, Action::Preempt] {
        for length in [0, 1, 23, 25, 28] {
            let mut list = list(0);
            list.resize(length, 0);
            assert_eq!(read(action, &list), Err(Sense::PARAMETER_LIST_LENGTH));
        }
    }
}

#[test]
fn lists_of_initiators() {
    let (a, b) = (iscsi(0, b"iqn.a"), iscsi(1, b"iqn.bb,i,0x1"));
    let mut all = list(0x08);
    all.extend(((a.len() + b.len()) as u32).to_be_bytes());
    all.extend(&a);
    let second = all.len() as u16;
    all.extend(&b);
    let parameters = Parameters::parse(Action::Register, &all).unwrap();
    let names: Vec<_> = parameters
        .initiators()
        .map(|id| id.unwrap().name.as_bytes().to_vec())
        .collect();
    assert_eq!(names, [b"iqn.a".to_vec(), b"iqn.bb".to_vec()]);
    // An error ends it.
    let at = usize::from(second);
    all[at] = 0xc5;
    let parameters = Parameters::parse(Action::Register, &all).unwrap();
    let last = parameters.initiators().last().unwrap();
    assert_eq!(last, Err(wrong(second)));
    // Lengths that lie
    for length in [0, 1, a.len(), 0xffff_fff0] {
        all[24..28].copy_from_slice(&(length as u32).to_be_bytes());
        let read = Parameters::parse(Action::Register, &all);
        assert_eq!(read, Err(Sense::PARAMETER_LIST_LENGTH), "{length}");
    }
    // No initiators are none.
    let mut none = list(0x08);
    none.extend([0; 4]);
    let parameters = Parameters::parse(Action::Register, &none).unwrap();
    assert!(parameters.specified && parameters.initiators().next().is_none());
}

#[test]
fn register_and_move() {
    let to = iscsi(1, b"iqn.a,i,0x1");
    let mut list = list(0);
    list[17] = 0x03;
    list[18..20].copy_from_slice(&[0x12, 0x34]);
    list[20..24].copy_from_slice(&(to.len() as u32).to_be_bytes());
    list.extend(&to);
    let read = Parameters::parse(Action::RegisterAndMove, &list).unwrap();
    assert!(read.aptpl && read.unregister && !read.specified && !read.all_ports);
    assert_eq!(read.port, 0x1234);
    assert_eq!(read.destination().unwrap().name.as_bytes(), b"iqn.a");
    assert!(read.initiators().next().is_none());
    // Two are not one, and neither is none.
    list.extend(&to);
    list[20..24].copy_from_slice(&((2 * to.len()) as u32).to_be_bytes());
    let read = Parameters::parse(Action::RegisterAndMove, &list).unwrap();
    assert_eq!(read.destination(), Err(wrong(20)));
    list.truncate(24);
    list[20..24].fill(0);
    let read = Parameters::parse(Action::RegisterAndMove, &list).unwrap();
    assert_eq!(read.destination(), Err(Sense::PARAMETER_LIST_LENGTH));
}

#[test]
fn scopes_and_types() {
    for code in 0..16 {
        let out = |scope| Out {
            action: Action::Reserve,
            scope,
            kind: code,
        };
        let valid = [1, 3, 5, 6, 7, 8].contains(&code);
        assert_eq!(out(0).reservation().is_ok(), valid);
        assert_eq!(out(1).reservation(), Err(Sense::invalid_cdb_bit(2, 7)));
        assert_eq!(
            Type::new(code).map(|kind| kind as u8 == code),
            valid.then_some(true)
        );
    }
}

#[test]
fn what_is_told() {
    let keys = |out: &mut Writer<'_>| write_keys(out, 7, [1, 0x0102].into_iter());
    assert_eq!(
        written(keys),
        hex("00 00 00 07 00 00 00 10 00 00 00 00 00 00 00 01 00 00 00 00 00 00 01 02")
    );
    assert_eq!(
        written(|out| write_reservation(out, 1, None)),
        hex("00 00 00 01 00 00 00 00")
    );
    assert_eq!(
        written(|out| write_reservation(out, 1, Some((Type::ExclusiveAccess, 0xabc)))),
        hex("00 00 00 01 00 00 00 10 00 00 00 00 00 00 0a bc 00 00 00 00 00 03 00 00")
    );
    // WR_EX 1, EX_AC 3, WR_EX_RO 5, EX_AC_RO 6, WR_EX_AR 7; EX_AC_AR is bit 0 of the next byte.
    assert_eq!(
        written(|out| write_capabilities(out, true)),
        hex("00 08 9d b1 ea 01 00 00")
    );
    let name = hex("06 00 00 00 60 01 40 5a bc de f0 12 00 00 00 00 00 00 00 00 00 00 00 00");
    let (id, _) = TransportId::parse(&name, 0).unwrap();
    let status = FullStatus {
        key: 5,
        all_ports: true,
        holds: Some(Type::WriteExclusiveAllRegistrants),
        port: 0x0102,
        id: &id,
    };
    let mut expected = hex(
        "00 00 00 02 00 00 00 30 00 00 00 00 00 00 00 05 00 00 00 00 03 07 00 00 00 00 01 02 00 00 00 18",
    );
    expected.extend(&name);
    assert_eq!(
        written(|out| {
            let mut writer = FullStatusWriter::begin(out, 2);
            writer.registration(&status);
            writer.finish();
        }),
        expected
    );
}
