// SPDX-License-Identifier: GPL-2.0

//! ROD tokens.

use super::{hex, written, ALL};
use crate::{
    capacity::Capacity,
    cdb::{self, Command, Data, Direction},
    copy::{
        plan::Range,
        results::{
            data_lid1, data_lid4, status_lid4, token_information, Origin, Outcome, Progress,
        },
        token::{self, Kind, Made, Populate, Token, WriteUsing, MAX_RANGES, MAX_TIMEOUT, TOKEN},
        ThirdParty,
    },
    inquiry::Protocol,
    lba::{BlockSize, Blocks, Extent},
    pi,
    sense::{Asc, Format, Key, Sense},
    vpd::Provisioning,
};
use std::{vec, vec::Vec};

const SIZE: BlockSize = BlockSize::B512;
const CAPACITY: Blocks = Blocks(1 << 20);

/// A list: its header, whose first two bytes are made here, and ranges.
fn list(header: &[u8], ranges: &[(u64, u32)]) -> Vec<u8> {
    let mut list = header.to_vec();
    list.extend((ranges.len() as u16 * 16).to_be_bytes());
    for (lba, blocks) in ranges {
        list.extend(lba.to_be_bytes());
        list.extend(blocks.to_be_bytes());
        list.extend([0; 4]);
    }
    let length = list.len() as u16 - 2;
    list[..2].copy_from_slice(&length.to_be_bytes());
    list
}

fn populate(bytes: &[u8]) -> Result<(u32, Vec<Extent>), Sense> {
    let list = Populate::parse(bytes, SIZE, CAPACITY)?;
    Ok((list.timeout, list.ranges.extents().collect()))
}

#[test]
fn cdbs() {
    let table = [
        (
            "83 10 00 00 00 00 01 02 03 04 00 00 00 20 00 00",
            ThirdParty::PopulateToken {
                list: 0x0102_0304,
                list_length: 0x20,
            },
            Data::new(Direction::Out, 0x20),
        ),
        (
            "83 11 00 00 00 00 00 00 00 04 00 00 02 28 00 00",
            ThirdParty::WriteUsingToken {
                list: 4,
                list_length: 0x228,
            },
            Data::new(Direction::Out, 0x228),
        ),
        (
            "84 05 01 02 03 04 00 00 00 00 00 00 00 20 00 00",
            ThirdParty::ReceiveStatusLid4 {
                list: 0x0102_0304,
                allocation: 0x20,
            },
            Data::new(Direction::In, 0x20),
        ),
        (
            "84 07 00 00 00 04 00 00 00 00 00 00 02 26 00 00",
            ThirdParty::ReceiveTokenInformation {
                list: 4,
                allocation: 0x226,
            },
            Data::new(Direction::In, 0x226),
        ),
    ];
    for (cdb, command, data) in table {
        let decoded = cdb::decode(&hex(cdb), &ALL).unwrap();
        assert_eq!(decoded.command, Command::ThirdParty(command));
        assert_eq!(decoded.command.data(SIZE), data);
        let writes = matches!(command, ThirdParty::WriteUsingToken { .. });
        assert_eq!(decoded.command.writes(), writes);
    }
    for long in [
        "83 10 00 00 00 00 00 00 00 00 00 00 04 11 00 00",
        "83 11 00 00 00 00 00 00 00 00 00 00 06 19 00 00",
    ] {
        assert_eq!(
            cdb::decode(&hex(long), &ALL).err(),
            Some(Sense::PARAMETER_LIST_LENGTH)
        );
    }
}

#[test]
fn populate_lists() {
    let at = Sense::invalid_parameter_byte;
    let good = list(&[0; 14], &[(7, 8), (100, 0), (20, 4)]);
    let extents = vec![Extent::new(7, 8), Extent::new(100, 0), Extent::new(20, 4)];
    assert_eq!(populate(&good), Ok((token::DEFAULT_TIMEOUT, extents)));
    for end in 0..good.len() {
        assert_eq!(populate(&good[..end]), Err(Sense::PARAMETER_LIST_LENGTH));
    }
    let with = |place: usize, bytes: &[u8]| {
        let mut list = good.clone();
        list[place..place + bytes.len()].copy_from_slice(bytes);
        populate(&list)
    };
    // IMMED and RTV, with the type that there is.
    assert!(with(2, &[1]).is_ok() && with(8, &[0xff]).is_ok());
    assert!(with(2, &[2, 0, 0, 0, 0, 5, 0, 1, 0, 0]).is_ok_and(|(timeout, _)| timeout == 5));
    assert_eq!(with(2, &[2, 0, 0, 0, 0, 5, 0x80, 0, 0, 0]), Err(at(8)));
    assert_eq!(with(4, &(MAX_TIMEOUT + 1).to_be_bytes()), Err(at(4)));
    assert_eq!(with(0, &[0, 0x1d]), Err(at(0)));
    assert_eq!(with(14, &[0, 0]), Err(at(14)));
    assert_eq!(with(14, &[0, 33]), Err(at(14)));
    assert_eq!(
        with(14, &[0, 64]),
        Err(Sense::PARAMETER_LIST_LENGTH),
        "more than there is"
    );
    let ranges = |ranges: &[(u64, u32)]| populate(&list(&[0; 14], ranges));
    assert_eq!(
        ranges(&[(CAPACITY.0, 1)]),
        Err(Sense::lba_out_of_range(CAPACITY.0))
    );
    assert_eq!(ranges(&[(7, 8), (30, 1), (14, 2)]), Err(at(16 + 32)));
    let most = (token::MAX_BYTES / 512) as u32;
    assert!(ranges(&[(0, most)]).is_ok());
    assert_eq!(ranges(&[(0, most), (1 << 19, 1)]), Err(at(16 + 16 + 8)));
    assert!(ranges(&vec![(5, 0); MAX_RANGES]).is_ok());
    assert_eq!(
        ranges(&vec![(5, 0); MAX_RANGES + 1]),
        Err(Sense::new(
            Key::IllegalRequest,
            Asc::TOO_MANY_SEGMENT_DESCRIPTORS
        ))
    );
}

#[test]
fn write_lists() {
    let mut header = vec![0; 534];
    header[2] = 0x03;
    header[15] = 9;
    header[16..16 + TOKEN].fill(0x5a);
    let good = list(&header, &[(7, 8)]);
    let read = WriteUsing::parse(&good, SIZE, CAPACITY).unwrap();
    assert!(read.delete && read.offset == 9 * 512 && *read.token == [0x5a; TOKEN]);
    assert_eq!(read.ranges.blocks(), 8);
    for end in 0..good.len() {
        let cut = WriteUsing::parse(&good[..end], SIZE, CAPACITY);
        assert_eq!(cut.err(), Some(Sense::PARAMETER_LIST_LENGTH));
    }
    header[8] = 0xff;
    let far = WriteUsing::parse(&list(&header, &[(7, 8)]), SIZE, CAPACITY).err();
    assert_eq!(far, Some(Sense::invalid_parameter_byte(8)));
}

fn made_of(target: (Protocol, &[u8])) -> Made<'_> {
    Made {
        id: 0x0102_0304_0506_0708,
        creator: Some([0x61; 16]),
        bytes: 0x1000,
        capacity: Capacity {
            blocks: CAPACITY,
            block_size: SIZE,
            physical_exponent: 3,
            lowest_aligned: 0,
            provisioning: Provisioning {
                unmap: true,
                zeroes: true,
                ..Provisioning::default()
            },
            protection: Some(pi::Type::One),
        },
        target,
        secret: &[0xee; token::SECRET],
    }
}

#[test]
fn tokens() {
    let made = token::make(&made_of((Protocol::Iscsi, b"iqn.x:y")));
    assert_eq!(
        made[..48],
        hex("00 01 00 00 00 00 01 f8  01 02 03 04 05 06 07 08
             e4 00 00 00 01 03 00 10  61 61 61 61 61 61 61 61
             61 61 61 61 61 61 61 61  00 00 00 00 00 00 02 00")
    );
    assert_eq!(made[48..64], 0x1000u128.to_be_bytes());
    assert_eq!(
        made[96..144],
        hex("00 00 02 00 01 03 c0 00  00 00 00 00 00 00 00 00
             00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
             53 a8 00 08 69 71 6e 2e  78 3a 79 00 00 00 00 00")
    );
    assert_eq!(made[TOKEN - token::SECRET..], [0xee; token::SECRET]);
    // A name that does not fit is left out.
    let long = [b'x'; 124];
    let target = |length: usize| {
        let name = (Protocol::Iscsi, long.get(..length).unwrap());
        token::make(&made_of(name))
    };
    assert_eq!(
        target(124)[128..],
        [&[0; 320][..], &[0xee; token::SECRET][..]].concat()
    );
    assert_eq!(
        target(123)[128..252],
        [&[0x53, 0xa8, 0, 124][..], &long[..120]].concat()
    );
    let all = written(|out| token::write_all([&made, &made].into_iter(), out));
    assert_eq!(all[..8], hex("00 00 00 c4 00 00 00 00"));
    assert_eq!(all[8..], [&made[..96], &made[..96]].concat());
    assert_eq!(
        written(|out| token::write_all([].into_iter(), out)),
        hex("00 00 00 04 00 00 00 00")
    );
    assert_eq!(Kind::of(&made), Ok(Kind::Own(0x0102_0304_0506_0708)));
    let mut zero: Token = [0; TOKEN];
    zero[..8].copy_from_slice(&[0xff, 0xff, 0, 1, 0, 0, 1, 0xf8]);
    assert_eq!(Kind::of(&zero), Ok(Kind::Zero));
    zero[7] = 0xf7;
    assert_eq!(Kind::of(&zero), Err(token::INVALID_LENGTH));
    zero[0] = 0;
    assert_eq!(Kind::of(&zero), Err(token::UNSUPPORTED_TYPE));
    assert!(token::same(&made, &made) && !token::same(&made, &zero));
}

#[test]
fn places_in_a_rod() {
    let ranges = [Extent::new(7, 8), Extent::new(0, 0), Extent::new(100, 1)];
    let locate = |from| token::locate(ranges, SIZE, from);
    assert_eq!(locate(0), Some((7 * 512, 8 * 512)));
    assert_eq!(locate(4095), Some((15 * 512 - 1, 1)));
    assert_eq!(locate(4096), Some((100 * 512, 512)));
    assert_eq!(locate(4608), None);
    let range = |from, to, len| Some(Range { from, to, len });
    assert_eq!(token::span((50, 10), (1000, 100), 30), range(50, 1030, 10));
    assert_eq!(token::span((50, 10), (1000, 100), 95), range(50, 1095, 5));
}

#[test]
fn information() {
    let origin = Origin {
        action: 0x11,
        size: Some(SIZE),
    };
    let progress = Progress {
        outcome: Outcome::InProgress,
        segments: 3,
        bytes: 0x30_0400,
    };
    let told = written(|out| status_lid4(&origin, &progress, Format::Fixed, out));
    let held = written(|out| data_lid4(&origin, &progress, Format::Fixed, out));
    assert_eq!(held[..4], hex("00 00 00 20"));
    assert_eq!(held[4..], [&told[4..], &[0; 4][..]].concat());
    assert_eq!(written(data_lid1), [0; 4]);
    assert_eq!(
        told,
        hex("00 00 00 1c 11 10 00 03  00 00 00 64 00 00 00 f1
             00 00 00 00 00 00 18 02  00 03 00 00 00 00 00 00")
    );
    let origin = Origin {
        action: 0x10,
        size: None,
    };
    let good = Progress {
        outcome: Outcome::Good,
        ..progress
    };
    let token = [0x77; TOKEN];
    let told = written(|out| token_information(&origin, &good, Some(&token), Format::Fixed, out));
    assert_eq!(
        told[..38],
        hex("00 00 02 22 10 01 00 03  ff ff ff fe 00 00 00 00
             00 00 00 00 00 30 04 00  00 03 00 00 00 00 00 00
             00 00 02 02 00 00")
    );
    assert_eq!(told[38..], token);
    let failed = Progress {
        outcome: Outcome::Failed(Some(Sense::WRITE_PROTECTED)),
        ..progress
    };
    let told = written(|out| token_information(&origin, &failed, None, Format::Fixed, out));
    assert_eq!(told[..4], 50u32.to_be_bytes());
    assert_eq!((told[5], told[12], told[13], told[14]), (2, 2, 18, 18));
    let sense = Sense::WRITE_PROTECTED.encode(Format::Fixed);
    assert_eq!(&told[32..50], sense.as_slice());
    assert_eq!(told[50..], [0; 4]);
    let aborted = Progress {
        outcome: Outcome::Failed(None),
        ..progress
    };
    let told = written(|out| status_lid4(&origin, &aborted, Format::Fixed, out));
    assert_eq!((told[5], told[12]), (0x60, 0x40));
}
