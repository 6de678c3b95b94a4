// SPDX-License-Identifier: GPL-2.0

//! GROUP NUMBER in CDBs, the IO advice hints grouping mode page, and the log pages of groups.

use super::{bit, byte, hex, mode::DISK, written, ALL};
use crate::{
    cdb::{decode, Command},
    groups::Groups,
    log::{self, Known, Request, Reset, Statistics},
    mode::{self, saved, select, PageControl, Values},
    opcode,
    primary::Primary,
    sense::Sense,
};
use std::{format, vec::Vec};

fn group(cdb: &str) -> u8 {
    decode(&hex(cdb), &ALL).unwrap().group
}

#[test]
fn numbers() {
    for (cdb, number) in [
        ("28 00 00 00 00 00 3f 00 01 00", 63),
        ("2a 00 00 00 00 00 05 00 01 00", 5),
        ("2f 00 00 00 00 00 01 00 01 00", 1),
        ("35 00 00 00 00 00 1f 00 00 00", 31),
        ("42 00 00 00 00 00 02 00 18 00", 2),
        ("a8 00 00 00 00 00 00 00 00 01 03 00", 3),
        ("8a 00 00 00 00 00 00 00 00 00 00 00 00 01 20 00", 32),
        ("89 00 00 00 00 00 00 00 00 00 00 00 00 01 04 00", 4),
        ("9c 00 00 00 00 00 00 00 00 00 00 00 00 01 06 00", 6),
        ("83 10 00 00 00 00 00 00 00 00 00 00 00 20 07 00", 7),
        // Those that have none where others have it.
        ("08 00 00 00 01 00", 0),
        ("4d 00 59 00 00 00 01 00 ff 00", 0),
        ("5f 00 00 00 00 00 00 00 18 00", 0),
    ] {
        assert_eq!(group(cdb), number, "{cdb}");
    }
    let mut read = hex("7f 00 00 00 00 00 11 18 00 09 00 00 00 00 00 00 00 00 00 00");
    read.extend(hex("00 00 00 00 00 00 00 00 00 00 00 01"));
    assert_eq!(decode(&read, &ALL).unwrap().group, 0x11);
    // What the usage maps say of it is what is taken.
    for row in &opcode::TABLE {
        let usage = row.usage(&ALL);
        let at = match row.length {
            10 | 32 => 6,
            12 => 10,
            16 => 14,
            _ => continue,
        };
        let mut raw = [0; opcode::MAX_CDB];
        raw[at] = 0xff;
        let taken = row.group(&raw);
        assert_eq!(
            taken,
            if usage[at] == 0x3f { 0x3f } else { 0 },
            "{}",
            row.name
        );
    }
    // The two bits before it are none of it.
    assert!(decode(&hex("28 00 00 00 00 00 40 00 01 00"), &ALL).is_err());
}

fn page(control: PageControl, unit: &mode::Unit) -> Vec<u8> {
    let request = mode::Request {
        ten: true,
        long_lba: false,
        no_block_descriptors: true,
        control,
        page: 0x0a,
        subpage: 0x05,
    };
    written(|out| mode::write(unit, &request, out).unwrap())
}

/// A page, with its header, of which these groups are enabled.
fn with(first: &str, mode: u8, groups: &[usize]) -> Vec<u8> {
    let mut page = hex(first);
    page.resize(4 + 12 + 64 * 16, 0);
    for group in 0..64 {
        page[16 + 16 * group] = mode | u8::from(groups.contains(&group));
    }
    page
}

const SOME: Values = Values {
    groups: Groups::new((1 << 1) | (1 << 31)),
    ..DISK.current
};

#[test]
fn the_page() {
    let unit = mode::Unit {
        current: SOME,
        saved: Some(Values {
            groups: Groups::new(1 << 7),
            ..SOME
        }),
        ..DISK
    };
    let all = (1..32).collect::<Vec<_>>();
    for (control, mode, groups) in [
        (PageControl::Current, 0x40, &[1, 31][..]),
        (PageControl::Changeable, 0, &all),
        (PageControl::Default, 0x40, &[]),
        (PageControl::Saved, 0x40, &[7]),
    ] {
        let data = page(control, &unit);
        assert_eq!(data[..2], 1046u16.to_be_bytes());
        assert_eq!(data[8..], with("ca 05 04 0c", mode, groups), "{control:?}");
    }
    // Who may only read, and where nothing is saved.
    let reads = mode::Unit {
        may_change: false,
        ..DISK
    };
    let mask = page(PageControl::Changeable, &reads);
    assert_eq!(mask[8..], with("4a 05 04 0c", 0, &[]));
    // It has more bytes than MODE SENSE (6) can tell: that does not have it, by name or among all.
    let six = |page, subpage| {
        let request = mode::Request {
            ten: false,
            long_lba: false,
            no_block_descriptors: true,
            control: PageControl::Current,
            page,
            subpage,
        };
        let mut result = Ok(());
        let data = written(|out| result = mode::write(&unit, &request, out));
        result.map(|()| data)
    };
    assert_eq!(six(0x0a, 0x05), Err(byte(3)));
    for page in [0x0a, 0x3f] {
        let data = six(page, 0xff).unwrap();
        assert_eq!(usize::from(data[0]) + 1, data.len());
    }
}

#[test]
fn changes() {
    let taken = |list: &[u8]| select(&DISK, true, &[&[0; 8], list].concat());
    assert_eq!(taken(&with("4a 05 04 0c", 0x40, &[1, 31])), Ok(SOME));
    assert_eq!(taken(&with("ca 05 04 0c", 0x40, &[])), Ok(DISK.current));
    // What MODE SENSE answers.
    let unit = mode::Unit {
        current: SOME,
        ..DISK
    };
    let shown = page(PageControl::Current, &unit);
    assert_eq!(select(&unit, true, &shown), Ok(SOME));
    // Group 0, one that has no log page, hints that would be valid, cache segments, streams, the markup descriptor, a reserved byte.
    let good = with("4a 05 04 0c", 0x40, &[]);
    let wrong = |at: u16, bit| Err(Sense::invalid_parameter_bit(8 + at, bit));
    for (at, flip, bit) in [
        (16, 0x01, 0),
        (16 + 16 * 32, 0x01, 0),
        (16 + 16 * 63, 0x01, 0),
        (32, 0x40, 6),
        (32, 0x02, 1),
        (32, 0x04, 2),
        (32 + 4, 0x80, 7),
        (32 + 5, 0x40, 6),
        (32 + 15, 0x01, 0),
        (4, 0x10, 4),
    ] {
        let mut list = good.clone();
        list[usize::from(at)] ^= flip;
        assert_eq!(taken(&list), wrong(at, bit), "{at}");
    }
    // Its length, and a list that is cut off.
    let mut list = good.clone();
    list[2] = 0;
    assert_eq!(taken(&list), Err(Sense::invalid_parameter_byte(8 + 2)));
    for length in [3, 4, 16, good.len() - 1] {
        let cut = taken(&good[..length]);
        assert_eq!(cut, Err(Sense::PARAMETER_LIST_LENGTH), "{length}");
    }
    // Who may only read.
    let reads = mode::Unit {
        may_change: false,
        ..DISK
    };
    let list = [&[0; 8][..], &with("4a 05 04 0c", 0x40, &[9])].concat();
    let sense = Sense::invalid_parameter_bit(8 + 16 + 16 * 9, 0);
    assert_eq!(select(&reads, true, &list), Err(sense));
}

#[test]
fn saved_groups() {
    let text = written(|out| saved::write(&DISK, &SOME, out));
    assert_eq!(saved::read(&text, &DISK.current), Ok(SOME));
    // Groups of which nothing can be collected are left out.
    let line = format!(
        "page_0a_05={}{}\n",
        "00".repeat(12),
        format!("41{}", "00".repeat(15)).repeat(64)
    );
    let all = Values {
        groups: Groups::ALL,
        ..DISK.current
    };
    assert_eq!(saved::read(line.as_bytes(), &DISK.current), Ok(all));
    assert!(!Groups::ALL.has(0) && !Groups::ALL.has(32) && !Groups::ALL.has(255));
    assert_eq!(Groups::new(u32::MAX).bits(), 0xffff_fffe);
}

#[test]
fn statistics() {
    let command = |cdb: &str| match decode(&hex(cdb), &ALL)?.command {
        Command::Primary(command) => Ok::<_, Sense>(command),
        other => panic!("{other:?}"),
    };
    let known = Known {
        statistics: Statistics {
            reads: 99,
            ..Statistics::default()
        },
        group: Statistics {
            reads: 1,
            writes: 2,
            received: 3,
            transmitted: 4,
            read_time: 5,
            write_time: 6,
            idle_time: 0,
        },
        ..Known::default()
    };
    let page = |cdb: &str| match command(cdb) {
        Ok(Primary::LogSense { request, .. }) => (
            request,
            written(|out| log::write(&request, &known, out).unwrap()),
        ),
        other => panic!("{other:?}"),
    };
    let counters = |of: [u8; 6]| {
        of.map(|n| format!(" 00 00 00 00 00 00 00 {n:02x}"))
            .concat()
    };
    for (cdb, number, head, values) in [
        (
            "4d 00 59 01 00 00 00 00 ff 00",
            1,
            "d9 01",
            [1, 2, 3, 4, 5, 6],
        ),
        (
            "4d 00 59 1f 00 00 01 00 ff 00",
            31,
            "d9 1f",
            [1, 2, 3, 4, 5, 6],
        ),
        ("4d 00 d9 09 00 00 00 00 ff 00", 9, "d9 09", [0; 6]),
    ] {
        let (request, data) = page(cdb);
        let default = values == [0; 6];
        assert_eq!(request, Request::Group { number, default });
        let values = counters(values);
        assert_eq!(data, hex(&format!("{head} 00 34 00 01 02 30 {values}")));
    }
    for (cdb, wrong) in [
        ("4d 00 59 20 00 00 00 00 ff 00", byte(3)),
        ("4d 00 42 01 00 00 00 00 ff 00", byte(3)),
        ("4d 00 59 01 00 00 02 00 ff 00", byte(5)),
        ("4d 00 19 01 00 00 00 00 ff 00", bit(2, 7)),
        ("4c 02 d9 20 00 00 00 00 00 00", byte(3)),
        ("4c 02 c2 01 00 00 00 00 00 00", byte(3)),
        ("4c 00 19 05 00 00 00 00 00 00", bit(2, 7)),
    ] {
        assert_eq!(command(cdb), Err(wrong), "{cdb}");
    }
    for (cdb, reset) in [
        ("4c 02 59 05 00 00 00 00 00 00", Reset::Group(5)),
        ("4c 00 d9 1f 00 00 00 00 00 00", Reset::Group(31)),
        ("4c 00 59 05 00 00 00 00 00 00", Reset::Nothing),
        ("4c 02 d9 00 00 00 00 00 00 00", Reset::Statistics),
    ] {
        assert_eq!(command(cdb), Ok(Primary::LogSelect { reset }), "{cdb}");
    }
    let (_, list) = page("4d 00 59 ff 00 00 00 00 ff 00");
    assert_eq!(list[..4], hex("59 ff 00 42"));
    let subpages = list[4..].chunks(2).map(|page| page[1]);
    assert_eq!(
        subpages.collect::<Vec<_>>(),
        (0..32).chain([255]).collect::<Vec<_>>()
    );
}
