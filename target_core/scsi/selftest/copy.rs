// SPDX-License-Identifier: GPL-2.0

//! Third-party copy.

use super::{bit, byte, hex, written, ALL};
use crate::{
    cdb::{self, Command, Data, Direction, Features},
    copy::{
        list::{Amount, Designator, List, Segment, MAX_LIST},
        plan::{Fault, Medium, Piece, Range, Whole, PIECE},
        results::{failure_details, operating_parameters, status_lid1, Outcome, Progress},
        ThirdParty, MAX_CSCDS, MAX_DESCRIPTORS, MAX_SEGMENTS, MAX_SEGMENT_BYTES,
    },
    inquiry::Identity,
    lba::{BlockSize, Blocks},
    sense::{Asc, Format, Key, Sense, Side, Specific},
    vpd::is_named,
};
use std::{vec, vec::Vec};

const NAA: &str = "e4 00 00 00 01 03 00 10 60 01 40 51 11 11 11 12 22 23 33 34 44 45 55 55 00 00 00 00 00 00 02 00";
const B2B: &str =
    "02 02 00 18 00 00 00 01 00 00 00 10 00 00 00 00 00 00 00 20 00 00 00 00 00 00 00 30";
const BYTES: &str = "0a 00 00 1c 00 01 00 00 00 00 30 00 00 00 00 00 00 00 00 07 00 00 00 00 00 00 00 09 00 05 01 ff";

/// A list with these descriptors, and these bytes at its beginning.
fn list(start: &[u8; 2], cscds: &[&str], segments: &[&str]) -> Vec<u8> {
    let cscds = hex(&cscds.join(" "));
    let segments = hex(&segments.join(" "));
    let mut list = vec![0; 16];
    list[..2].copy_from_slice(start);
    list[2..4].copy_from_slice(&(cscds.len() as u16).to_be_bytes());
    list[8..12].copy_from_slice(&(segments.len() as u32).to_be_bytes());
    list.extend(cscds);
    list.extend(segments);
    list
}

fn refusal(list: &[u8]) -> Sense {
    List::parse(list).unwrap_err()
}

#[test]
fn cdbs() {
    let table = [
        (
            "83 00 00 00 00 00 00 00 00 00 00 00 01 02 00 00",
            ThirdParty::ExtendedCopyLid1 { list_length: 0x102 },
            Data::new(Direction::Out, 0x102),
        ),
        (
            "83 01 00 00 00 00 00 00 00 00 00 00 01 02 00 00",
            ThirdParty::ExtendedCopyLid4 { list_length: 0x102 },
            Data::new(Direction::Out, 0x102),
        ),
        (
            "83 1c 01 02 03 04 00 00 00 00 00 00 00 00 00 00",
            ThirdParty::Abort { list: 0x0102_0304 },
            Data::NONE,
        ),
        (
            "84 01 07 00 00 00 00 00 00 00 00 00 01 02 00 00",
            ThirdParty::ReceiveDataLid1 {
                list: 7,
                allocation: 0x102,
            },
            Data::new(Direction::In, 0x102),
        ),
        (
            "84 06 01 02 03 04 00 00 00 00 00 00 01 02 00 00",
            ThirdParty::ReceiveDataLid4 {
                list: 0x0102_0304,
                allocation: 0x102,
            },
            Data::new(Direction::In, 0x102),
        ),
        (
            "84 08 00 00 00 00 00 00 00 00 00 00 01 02 00 00",
            ThirdParty::ReportAllTokens { allocation: 0x102 },
            Data::new(Direction::In, 0x102),
        ),
        (
            "84 00 07 00 00 00 00 00 00 00 01 02 03 04 00 00",
            ThirdParty::ReceiveStatusLid1 {
                list: 7,
                allocation: 0x0102_0304,
            },
            Data::new(Direction::In, 0x0102_0304),
        ),
        (
            "84 03 00 00 00 00 00 00 00 00 00 00 00 2f 00 00",
            ThirdParty::ReceiveOperatingParameters { allocation: 0x2f },
            Data::new(Direction::In, 0x2f),
        ),
        (
            "84 04 ff 00 00 00 00 00 00 00 00 00 01 00 00 00",
            ThirdParty::ReceiveFailureDetails {
                list: 0xff,
                allocation: 0x100,
            },
            Data::new(Direction::In, 0x100),
        ),
    ];
    for (cdb, command, data) in table {
        let decoded = cdb::decode(&hex(cdb), &ALL).unwrap();
        assert_eq!(decoded.command, Command::ThirdParty(command));
        assert_eq!(decoded.command.data(BlockSize::B512), data);
        // Where it goes its own way, so that the destination alone has to be writable.
        assert!(!decoded.command.writes() && decoded.command.extent().is_none());
        let off = Features {
            third_party_copy: false,
            ..ALL
        };
        assert_eq!(
            cdb::decode(&hex(cdb), &off).err(),
            Some(Sense::INVALID_OPERATION_CODE)
        );
    }
    let refused = [
        ("83 1f 00 00 00 00 00 00 00 00 00 00 00 00 00 00", bit(1, 4)),
        ("84 02 00 00 00 00 00 00 00 00 00 00 00 00 00 00", bit(1, 4)),
        ("83 1c 00 00 00 00 01 00 00 00 00 00 00 00 00 00", bit(6, 0)),
        ("84 08 01 00 00 00 00 00 00 00 00 00 00 00 00 00", bit(2, 0)),
        ("83 00 01 00 00 00 00 00 00 00 00 00 00 00 00 00", bit(2, 0)),
        ("84 03 01 00 00 00 00 00 00 00 00 00 00 00 00 00", bit(2, 0)),
        (
            "83 00 00 00 00 00 00 00 00 00 00 00 ff ff 00 00",
            Sense::PARAMETER_LIST_LENGTH,
        ),
    ];
    for (cdb, sense) in refused {
        assert_eq!(cdb::decode(&hex(cdb), &ALL).err(), Some(sense), "{cdb}");
    }
    assert_eq!(byte(0).key, Key::IllegalRequest);
}

#[test]
fn lists() {
    let bytes = list(&[5, 0x10], &[NAA, NAA], &[B2B, BYTES]);
    let parsed = List::parse(&bytes).unwrap();
    assert_eq!(parsed.identifier, Some(5));
    let cscd = parsed.cscd(1).unwrap();
    assert!(!cscd.null);
    assert_eq!((cscd.device_type, cscd.block_length), (0, 512));
    assert_eq!(
        cscd.designator,
        Designator {
            code_set: 1,
            association: 0,
            kind: 3,
            bytes: &bytes[16 + 32 + 8..][..16],
        }
    );
    assert!(parsed.cscd(2).is_none() && parsed.cscd(0xffff).is_none());
    let segments: Vec<_> = parsed.segments().collect();
    assert_eq!(
        segments,
        [
            Segment {
                source: 0,
                destination: 1,
                amount: Amount::DestinationBlocks(0x10),
                from: 0x20,
                to: 0x30,
            },
            Segment {
                source: 1,
                destination: 0,
                amount: Amount::Bytes {
                    count: 0x3000,
                    from: 5,
                    to: 0x1ff,
                },
                from: 7,
                to: 9,
            },
        ]
    );
    // No descriptors at all are none too few.
    assert_eq!(
        List::parse(&list(&[0, 0x18], &[], &[])).unwrap().identifier,
        None
    );
    // A null device, of another type, of no length.
    let null = NAA.replacen("e4 00", "e4 25", 1);
    let bytes = list(&[0, 0], &[&null], &[]);
    let cscd = List::parse(&bytes).unwrap().cscd(0).unwrap();
    assert_eq!((cscd.null, cscd.device_type), (true, 5));
}

#[test]
fn wrong_lists() {
    let illegal = |asc| Sense::new(Key::IllegalRequest, asc);
    let at = Sense::invalid_parameter_byte;
    let good = list(&[1, 0], &[NAA], &[B2B]);
    for end in 0..good.len() {
        assert_eq!(refusal(&good[..end]), Sense::PARAMETER_LIST_LENGTH, "{end}");
    }
    // What follows the descriptors is nobody's.
    assert!(List::parse(&[&good[..], &[0xff; 5]].concat()).is_ok());
    let with = |at: usize, byte: u8| {
        let mut list = good.clone();
        list[at] = byte;
        refusal(&list)
    };
    let bit = Sense::invalid_parameter_bit;
    let table = [
        (1, 0x08, bit(1, 4)),
        (1, 0x18, at(0)),
        (15, 1, illegal(Asc::INLINE_DATA_LENGTH)),
        (16, 0xe0, illegal(Asc::UNSUPPORTED_TARGET_DESCRIPTOR)),
        (23, 21, at(23)),
        (44, 0x04, bit(44, 2)),
        (48, 0x03, illegal(Asc::UNSUPPORTED_SEGMENT_DESCRIPTOR)),
        (51, 0x17, at(50)),
        (50, 0x01, at(50)),
        // The lists end inside of a descriptor.
        (3, 31, at(2)),
        (11, 27, at(8)),
    ];
    for (place, value, sense) in table {
        assert_eq!(with(place, value), sense, "{value:#x} at {place}");
    }
    let many = |n| vec![NAA; n];
    assert_eq!(
        refusal(&list(&[0, 0], &many(MAX_CSCDS + 1), &[B2B])),
        illegal(Asc::TOO_MANY_TARGET_DESCRIPTORS)
    );
    assert_eq!(
        refusal(&list(&[0, 0], &[NAA], &vec![B2B; MAX_SEGMENTS + 1])),
        illegal(Asc::TOO_MANY_SEGMENT_DESCRIPTORS)
    );
    let longest = list(&[0, 0], &many(MAX_CSCDS), &vec![BYTES; MAX_SEGMENTS]);
    assert_eq!(longest.len(), MAX_LIST as usize);
    assert_eq!(
        List::parse(&longest).unwrap().segments().count(),
        MAX_SEGMENTS
    );
    let longer = list(&[0, 0], &many(MAX_CSCDS), &vec![BYTES; MAX_SEGMENTS + 1]);
    assert!(longer.len() > 16 + MAX_DESCRIPTORS);
    assert_eq!(refusal(&longer), Sense::PARAMETER_LIST_LENGTH);
}

/// The same list with a list identifier of four bytes.
fn lid4(start: &[u8; 2], id: u32, cscds: &[&str], segments: &[&str]) -> Vec<u8> {
    let short = list(start, cscds, segments);
    let mut list = vec![0; 48];
    list[..4].copy_from_slice(&[1, start[1], 0, 0x20]);
    list[16] = 0xff;
    list[20..24].copy_from_slice(&id.to_be_bytes());
    list[42..44].copy_from_slice(&short[2..4]);
    list[44..46].copy_from_slice(&short[10..12]);
    list.extend(&short[16..]);
    list
}

#[test]
fn longer_list_identifiers() {
    let at = Sense::invalid_parameter_byte;
    let bit = Sense::invalid_parameter_bit;
    let good = lid4(&[0, 0x10], 0x0102_0304, &[NAA, NAA], &[B2B, BYTES]);
    let parsed = List::parse_lid4(&good).unwrap();
    assert_eq!(parsed.identifier, Some(0x0102_0304));
    let bytes = list(&[5, 0x10], &[NAA, NAA], &[B2B, BYTES]);
    let short = List::parse(&bytes).unwrap();
    assert!(parsed.segments().eq(short.segments()));
    assert_eq!(parsed.cscd(1), short.cscd(1));
    let refusal = |list: &[u8]| List::parse_lid4(list).unwrap_err();
    for end in 0..good.len() {
        assert_eq!(refusal(&good[..end]), Sense::PARAMETER_LIST_LENGTH, "{end}");
    }
    let with = |at: usize, byte: u8| {
        let mut list = good.clone();
        list[at] = byte;
        refusal(&list)
    };
    let illegal = |asc| Sense::new(Key::IllegalRequest, asc);
    let table = [
        (0, 0, at(0)),
        (1, 0x08, bit(1, 4)),
        (1, 0x18, at(20)),
        (3, 0x40, at(2)),
        (15, 2, bit(15, 1)),
        (16, 0xe4, at(16)),
        (43, 63, at(42)),
        (45, 59, at(44)),
        (47, 1, illegal(Asc::INLINE_DATA_LENGTH)),
        (48, 0xe0, illegal(Asc::UNSUPPORTED_TARGET_DESCRIPTOR)),
        (80 + 7, 21, at(80 + 7)),
        (112 + 3, 0x17, at(112 + 2)),
    ];
    for (place, value, sense) in table {
        assert_eq!(with(place, value), sense, "{value:#x} at {place}");
    }
    let none = lid4(&[0, 0x18], 0, &[], &[]);
    assert_eq!(List::parse_lid4(&none).unwrap().identifier, None);
}

#[test]
fn names() {
    let identity = Identity {
        vendor: b"LIO-ORG",
        product: b"P",
        revision: b"4.0",
        serial: Some(b"11111111-2222-3333-4444-555555555555"),
        company_id: 0x00_1405,
        lu_group: None,
    };
    let naa = hex("60 01 40 51 11 11 11 12 22 23 33 34 44 45 55 55");
    let named = |identity: &Identity<'_>, code_set, association, kind, bytes: &[u8]| {
        let designator = Designator {
            code_set,
            association,
            kind,
            bytes,
        };
        is_named(identity, &designator)
    };
    assert!(named(&identity, 1, 0, 3, &naa));
    assert!(!named(&identity, 2, 0, 3, &naa));
    assert!(!named(&identity, 1, 1, 3, &naa));
    assert!(!named(&identity, 1, 0, 2, &naa));
    assert!(!named(&identity, 1, 0, 3, &naa[..15]));
    assert!(!named(&identity, 1, 0, 3, &[]));
    let short = Identity {
        serial: Some(b"abc"),
        ..identity
    };
    assert!(named(&short, 2, 0, 1, b"LIO-ORG P:abc\0"));
    assert!(!named(&short, 2, 0, 1, b"LIO-ORG P:abd\0"));
    // Without a serial number its names are those of others, too.
    let none = Identity {
        serial: None,
        ..identity
    };
    assert!(!named(&none, 2, 0, 1, b"LIO-ORG \0"));
}

const SMALL: Medium = Medium {
    size: BlockSize::B512,
    capacity: Blocks(1000),
};
const LARGE: Medium = Medium {
    size: BlockSize::B4096,
    capacity: Blocks(1000),
};

fn segment(amount: Amount, from: u64, to: u64) -> Segment {
    Segment {
        source: 0,
        destination: 0,
        amount,
        from,
        to,
    }
}

#[test]
fn plans() {
    let range = |from, to, len| Ok(Range { from, to, len });
    let bytes = |count, from, to| Amount::Bytes { count, from, to };
    let beyond = |side, field| {
        Err(Fault {
            asc: Asc::NONE,
            field: Some(field),
            cause: Some((side, Key::IllegalRequest, Asc::LBA_OUT_OF_RANGE)),
        })
    };
    let field = |asc, field| Err(Fault::of_field(asc, field));
    let (invalid, inexact) = (
        Asc::INVALID_FIELD_IN_PARAMETER_LIST,
        Asc::UNEXPECTED_INEXACT_SEGMENT,
    );
    let table = [
        (
            Amount::SourceBlocks(8),
            8,
            2,
            SMALL,
            LARGE,
            range(4096, 8192, 4096),
        ),
        (
            Amount::DestinationBlocks(1),
            8,
            2,
            SMALL,
            LARGE,
            range(4096, 8192, 4096),
        ),
        (
            Amount::SourceBlocks(1),
            2,
            8,
            LARGE,
            SMALL,
            range(8192, 4096, 4096),
        ),
        (
            Amount::SourceBlocks(7),
            8,
            2,
            SMALL,
            LARGE,
            field(inexact, 10),
        ),
        (
            Amount::DestinationBlocks(7),
            2,
            8,
            LARGE,
            SMALL,
            field(inexact, 10),
        ),
        (
            Amount::SourceBlocks(0),
            1000,
            1000,
            SMALL,
            SMALL,
            range(512_000, 512_000, 0),
        ),
        (
            Amount::SourceBlocks(1000),
            0,
            0,
            SMALL,
            SMALL,
            range(0, 0, 512_000),
        ),
        (
            Amount::SourceBlocks(1000),
            1,
            0,
            SMALL,
            SMALL,
            beyond(Side::Source, 12),
        ),
        (
            Amount::SourceBlocks(1),
            0,
            1000,
            SMALL,
            SMALL,
            beyond(Side::Destination, 20),
        ),
        (
            Amount::SourceBlocks(1),
            u64::MAX,
            0,
            SMALL,
            SMALL,
            beyond(Side::Source, 12),
        ),
        (
            Amount::SourceBlocks(1),
            0,
            u64::MAX / 512,
            SMALL,
            SMALL,
            beyond(Side::Destination, 20),
        ),
        (
            bytes(100, 511, 4095),
            1,
            1,
            SMALL,
            LARGE,
            range(1023, 8191, 100),
        ),
        (bytes(100, 512, 0), 1, 1, SMALL, LARGE, field(invalid, 28)),
        (bytes(100, 0, 4096), 1, 1, SMALL, LARGE, field(invalid, 30)),
        (
            bytes(2, 511, 0),
            999,
            0,
            SMALL,
            LARGE,
            beyond(Side::Source, 12),
        ),
        (
            bytes(MAX_SEGMENT_BYTES + 1, 0, 0),
            0,
            0,
            SMALL,
            LARGE,
            field(invalid, 8),
        ),
        (
            Amount::SourceBlocks(0xffff),
            0,
            0,
            LARGE,
            LARGE,
            field(invalid, 10),
        ),
    ];
    for (amount, from, to, source, destination, expected) in table {
        let segment = segment(amount, from, to);
        assert_eq!(segment.plan(source, destination), expected, "{segment:?}");
    }
    let one = segment(Amount::DestinationBlocks(9), 0, 0);
    assert_eq!(
        (one.unit(BlockSize::B512, BlockSize::B4096), one.units()),
        (4096, 9)
    );
}

#[test]
fn pieces() {
    // Blocks of the same size: what is read is written.
    let range = Range {
        from: 512,
        to: 1024,
        len: PIECE + 512,
    };
    let whole = |pos, len| Whole { pos, len };
    let first = range.piece(0, BlockSize::B512, BlockSize::B512).unwrap();
    assert!(first.is_whole() && first.len == PIECE);
    let last = range
        .piece(PIECE, BlockSize::B512, BlockSize::B512)
        .unwrap();
    assert_eq!(
        last,
        Piece {
            read: whole(PIECE + 512, 512),
            skip: 0,
            write: whole(PIECE + 1024, 512),
            offset: 0,
            len: 512,
        }
    );
    assert_eq!(
        range.piece(PIECE + 512, BlockSize::B512, BlockSize::B512),
        None
    );
    // Bytes: parts of the first and the last block stay.
    let range = Range {
        from: 1023,
        to: 8191,
        len: 4100,
    };
    let piece = range.piece(0, BlockSize::B512, BlockSize::B4096).unwrap();
    assert_eq!(
        piece,
        Piece {
            read: whole(512, 5123 - 512 + 509),
            skip: 511,
            write: whole(4096, 12288),
            offset: 4095,
            len: 4100,
        }
    );
    assert!(piece.merges() && !piece.is_whole());
    assert_eq!(range.piece(4100, BlockSize::B512, BlockSize::B4096), None);
}

#[test]
fn failures() {
    let fault = Fault::of_end(Side::Destination, Sense::WRITE_PROTECTED);
    let sense = fault.sense(3, 17);
    assert_eq!(
        (sense.key, sense.asc),
        (Key::CopyAborted, Asc::THIRD_PARTY_DEVICE_FAILURE)
    );
    assert_eq!(sense.information, Some(17));
    let Specific::Copy(copy) = sense.specific else {
        panic!("{sense:?}");
    };
    assert_eq!((copy.segment, copy.field), (3, None));
    assert_eq!(
        copy.cause,
        Some((Side::Destination, Key::DataProtect, Asc::WRITE_PROTECTED))
    );
    let details = written(|out| failure_details(Some(&sense), Format::Fixed, out));
    assert_eq!(details[..4], 93u32.to_be_bytes());
    assert_eq!(details.len(), 60 + 37);
    assert_eq!(details[4..56], [0; 52]);
    assert_eq!(details[56..60], [2, 0, 0, 37]);
    assert_eq!(&details[60..], sense.encode(Format::Fixed).as_slice());
    assert_eq!(
        written(|out| failure_details(None, Format::Fixed, out)),
        [0; 4]
    );
}

#[test]
fn states() {
    let status = |outcome, segments, bytes| {
        let progress = Progress {
            outcome,
            segments,
            bytes,
        };
        written(|out| status_lid1(&progress, out))
    };
    assert_eq!(
        status(Outcome::InProgress, 0x102, 0x0304_0506),
        hex("00 00 00 08 00 01 02 00 03 04 05 06")
    );
    assert_eq!(
        status(Outcome::Good, 1, 0x1_0000_0000),
        hex("00 00 00 08 01 00 01 01 00 40 00 00")
    );
    assert_eq!(
        status(Outcome::Failed(None), 0, 0),
        hex("00 00 00 08 02 00 00 00 00 00 00 00")
    );
    let parameters = written(operating_parameters);
    assert_eq!(
        parameters,
        hex("00 00 00 2b 01 00 00 00  00 10 00 40 00 00 0a 00
             02 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
             00 00 00 10 10 00 00 00  00 00 00 03 02 0a e4")
    );
}
