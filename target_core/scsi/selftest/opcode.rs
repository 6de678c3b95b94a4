// SPDX-License-Identifier: GPL-2.0

//! The table of commands, and REPORT SUPPORTED OPERATION CODES.

use super::{bit, hex, written, ALL};
use crate::{
    bytes::Writer,
    cdb::{decode, Features},
    opcode::{report, Reporting, Request, TABLE, VARIABLE},
    sense::Sense,
};
use std::vec::Vec;

fn answer(reporting: Reporting, timeouts: bool, features: &Features) -> Vec<u8> {
    written(|out| {
        report(
            &Request {
                reporting,
                timeouts,
            },
            features,
            out,
        )
        .unwrap()
    })
}

fn refusal(reporting: Reporting) -> Option<Sense> {
    let mut buf = [0; 64];
    report(
        &Request {
            reporting,
            timeouts: false,
        },
        &ALL,
        &mut Writer::new(&mut buf),
    )
    .err()
}

/// A CDB of the row with nothing in it but what selects the row.
fn plain(row: &crate::opcode::Descriptor) -> Vec<u8> {
    let mut cdb = std::vec![0; usize::from(row.length)];
    cdb[0] = row.opcode;
    let action = row.service_action.unwrap_or(0);
    if row.opcode == VARIABLE {
        cdb[7] = row.length - 8;
        cdb[8..10].copy_from_slice(&action.to_be_bytes());
    } else {
        cdb[1] = action as u8;
    }
    needed(row.opcode, &mut cdb);
    cdb
}

/// Sets what the command with this operation code cannot do without.
fn needed(opcode: u8, cdb: &mut [u8]) {
    match opcode {
        // MODE: data
        0x3b | 0x3c => cdb[1] = 0x02,
        // PC: cumulative values
        0x4c | 0x4d => cdb[2] = 0x42,
        // WRITE SAME wants a block at least.
        0x41 => cdb[8] = 1,
        0x93 => cdb[13] = 1,
        // WRITE SAME (32), too.
        VARIABLE if cdb[8..10] == [0, 0x0d] => cdb[31] = 1,
        // WR_UNCOR
        0x3f => cdb[1] = 0x40,
        0x9f if cdb[1] == 0x11 => cdb[1] = 0x51,
        _ => {}
    }
}

#[test]
fn the_table_is_in_order_and_finds_each_row() {
    let keys: Vec<_> = TABLE
        .iter()
        .map(|row| (row.opcode, row.service_action))
        .collect();
    assert!(keys.windows(2).all(|pair| pair[0] < pair[1]));
    for row in &TABLE {
        // The group code says how long a CDB is (SPC-4, 4.2.5.1).
        let by_group = [6, 10, 10, 32, 16, 12, 0, 0][usize::from(row.opcode >> 5)];
        assert_eq!(row.length, by_group, "{}", row.name);
        let usage = row.usage(&ALL);
        assert_eq!(usage[0], row.opcode);
        let control = match row.opcode {
            VARIABLE => 1..2,
            _ => usize::from(row.length) - 1..usage.len(),
        };
        assert!(usage[control].iter().all(|b| *b == 0), "{}", row.name);
        match row.service_action {
            Some(action) if row.opcode == VARIABLE => {
                assert_eq!(usage[7..10], [&[0xff], &action.to_be_bytes()[..]].concat());
            }
            Some(action) => assert_eq!(u16::from(usage[1] & 0x1f), action),
            None => {}
        }
        let decoded = decode(&plain(row), &ALL).unwrap();
        assert!(core::ptr::eq(decoded.descriptor, row));
    }
}

#[test]
fn each_bit_is_either_reported_or_refused_or_known_to_be_ignored() {
    // (operation code, byte, bits) of what is ignored with all features there.
    let ignored = |opcode: u8, byte: usize| match (opcode, byte) {
        (
            0x00 | 0x03 | 0x08 | 0x0a | 0x12 | 0x15 | 0x16 | 0x17 | 0x1a | 0x1b | 0x1e | 0x37
            | 0x55 | 0x5a,
            1,
        ) => 0xe0,
        (0x25, 1) => 0xe1,
        (0x28 | 0x2a | 0x88 | 0x8a | 0xa8 | 0xaa, 1) => 0x07,
        (0x2e | 0x2f | 0x34 | 0x8f | 0xae | 0xaf, 1) => 0x01,
        (0x35 | 0x91, 1) => 0x05,
        (0x89 | 0x8b, 1) => 0x02,
        _ => 0,
    };
    // (service action, byte, bits) of the same in CDBs of variable length: RARC and what is obsolete, tags.
    let ignored_32 = |action: u16, byte: usize| match (action, byte) {
        (0x09 | 0x0b, 10) => 0x06,
        (0x09..=0x0d | 0x0f, 20..=27) => 0xff,
        _ => 0,
    };
    for row in &TABLE {
        let usage = row.usage(&ALL);
        let variable = row.opcode == VARIABLE;
        let bytes = match variable {
            // Not CONTROL, nor ADDITIONAL CDB LENGTH and SERVICE ACTION.
            true => (2..7).chain(10..32),
            false => (1..usize::from(row.length) - 1).chain(0..0),
        };
        for byte in bytes {
            for bit in 0..8 {
                let mask = 1u8 << bit;
                if !variable && row.service_action.is_some() && byte == 1 && bit < 5 {
                    continue;
                }
                let mut cdb = plain(row);
                cdb[byte] |= mask;
                let refused = match decode(&cdb, &ALL) {
                    Ok(_) => false,
                    // A value, not a bit, that is refused: these fields are evaluated.
                    Err(_) if usage[byte] & mask != 0 => continue,
                    Err(_) => true,
                };
                let ignored = match row.service_action {
                    Some(action) if variable => ignored_32(action, byte),
                    _ => ignored(row.opcode, byte),
                };
                let known = (usage[byte] | ignored) & mask != 0;
                assert_eq!(refused, !known, "{} {byte}.{bit}", row.name);
            }
        }
    }
}

#[test]
fn all_commands() {
    let list = answer(Reporting::All, false, &ALL);
    assert_eq!(list[..4], ((TABLE.len() * 8) as u32).to_be_bytes());
    assert_eq!(list.len(), 4 + TABLE.len() * 8);
    assert_eq!(list[4..12], hex("00 00 00 00 00 00 00 06"));
    let read_capacity_16 = hex("9e 00 00 10 00 01 00 10");
    assert!(list[4..].chunks(8).any(|row| row == read_capacity_16));

    let with = answer(Reporting::All, true, &ALL);
    assert_eq!(with.len(), 4 + TABLE.len() * 20);
    for (row, with) in list[4..].chunks(8).zip(with[4..].chunks(20)) {
        let mut expected = row.to_vec();
        expected[5] |= 0x02;
        let recommended = match row[0] {
            0x35 | 0x91 => 60u32,
            0x04 | 0x48 => 86_400,
            0x83 => 600,
            _ => 0,
        };
        expected.extend([0, 10, 0, 0, 0, 0, 0, 0]);
        expected.extend(recommended.to_be_bytes());
        assert_eq!(with, expected);
    }

    // Nothing is in the list that is not decoded.
    let none = Features::default();
    let list = answer(Reporting::All, false, &none);
    for row in list[4..].chunks(8) {
        let mut cdb = [0; 32];
        cdb[0] = row[0];
        match row[0] {
            VARIABLE => cdb[7..10].copy_from_slice(&[0x18, row[2], row[3]]),
            _ => cdb[1] = row[3],
        }
        needed(row[0], &mut cdb);
        assert!(decode(&cdb, &none).is_ok(), "{row:02x?}");
    }
    for opcode in [
        0x16, 0x17, 0x41, 0x42, 0x56, 0x57, 0x5e, 0x5f, 0x83, 0x84, 0x89, 0x93,
    ] {
        assert!(!list[4..].chunks(8).any(|row| row[0] == opcode));
    }
    for action in [0x0a, 0x0c] {
        assert!(!list[4..]
            .chunks(8)
            .any(|row| row[0] == 0xa3 && row[3] == action));
    }
}

#[test]
fn one_command() {
    let read_10 = "00 03 00 0a  28 18 ff ff ff ff 3f ff ff 00";
    assert_eq!(answer(Reporting::Opcode(0x28), false, &ALL), hex(read_10));
    assert_eq!(
        answer(Reporting::Either(0x28, 0), false, &ALL),
        hex(read_10)
    );
    // Without DPO and FUA, their bits are not evaluated.
    assert_eq!(
        answer(Reporting::Opcode(0x28), false, &Features::default()),
        hex("00 03 00 0a  28 00 ff ff ff ff 3f ff ff 00")
    );
    assert_eq!(
        answer(Reporting::Opcode(0x2f), false, &Features::default()),
        hex("00 03 00 0a  2f 06 ff ff ff ff 3f ff ff 00")
    );
    assert_eq!(
        answer(Reporting::Opcode(0x00), true, &ALL),
        hex("00 83 00 06  00 00 00 00 00 00  00 0a 00 00 00 00 00 00 00 00 00 00")
    );
    let read_32 = "00 03 00 20  7f 00 00 00 00 00 3f ff 00 09 18 00 ff ff ff ff ff ff ff ff \
                   00 00 00 00 00 00 00 00 ff ff ff ff";
    assert_eq!(
        answer(Reporting::ServiceAction(0x7f, 0x09), false, &ALL),
        hex(read_32)
    );
    let rsoc = "00 03 00 0c  a3 0c 87 ff ff ff ff ff ff ff 00 00";
    assert_eq!(
        answer(Reporting::ServiceAction(0xa3, 0x0c), false, &ALL),
        hex(rsoc)
    );
    assert_eq!(
        answer(Reporting::Either(0xa3, 0x0c), false, &ALL),
        hex(rsoc)
    );
}

#[test]
fn commands_that_there_are_not() {
    let not_supported = [0, 1, 0, 0];
    let none = Features::default();
    assert_eq!(answer(Reporting::Opcode(0xff), true, &ALL), not_supported);
    assert_eq!(answer(Reporting::Opcode(0x42), false, &none), not_supported);
    assert_eq!(
        answer(Reporting::ServiceAction(0x9e, 0x17), false, &ALL),
        not_supported
    );
    assert_eq!(
        answer(Reporting::Either(0x28, 1), false, &ALL),
        not_supported
    );
    assert_eq!(
        answer(Reporting::ServiceAction(0x7f, 0x0109), false, &ALL),
        not_supported
    );
    assert_eq!(
        answer(Reporting::Either(0xa3, 0x0c), false, &none),
        not_supported
    );
}

#[test]
fn reporting_options_that_do_not_fit() {
    assert_eq!(refusal(Reporting::Opcode(0x9e)), Some(bit(2, 2)));
    assert_eq!(refusal(Reporting::Opcode(0xa3)), Some(bit(2, 2)));
    assert_eq!(refusal(Reporting::Opcode(0x7f)), Some(bit(2, 2)));
    assert_eq!(refusal(Reporting::ServiceAction(0x28, 0)), Some(bit(2, 2)));
    assert_eq!(refusal(Reporting::ServiceAction(0xff, 0)), None);
}
