// SPDX-License-Identifier: GPL-2.0

//! Commands of block devices beyond reading and writing.

use super::{bit, hex, written, ALL};
use crate::{
    block::{
        whole_blocks, write_defects, Block, Completion, Condition, DefectRequest, LbaStatus,
        Provisioned, StartStop,
    },
    cdb::{decode, Command, Compare, Data, Direction, Transfer},
    lba::{BlockSize, Blocks, Extent, Lba},
    sense::{Asc, Key, Sense},
    vpd::BlockLimits,
};
use std::{format, vec::Vec};

fn command(cdb: &str) -> Command {
    decode(&hex(cdb), &ALL)
        .unwrap_or_else(|sense| panic!("{cdb}: {sense:?}"))
        .command
}

/// A CDB of 32 bytes with this service action, flags, and its address and last four bytes counting up from 1.
fn long(action: u8, flags: u8, tags: &str) -> std::string::String {
    format!("7f 00 00 00 00 00 00 18 00 {action:02x} {flags:02x} 00 01 02 03 04 05 06 07 08 {tags} 09 0a 0b 0c")
}

const TAGS: &str = "ff ff ff ff ff ff ff ff";
const EXTENT: Extent = Extent::new(0x0102_0304_0506_0708, 0x090a_0b0c);

#[test]
fn fields() {
    let verify = |extent, compare, dpo| Command::Verify {
        extent,
        compare,
        dpo,
    };
    let both = |extent, compare, dpo| {
        Command::Block(Block::WriteAndVerify {
            extent,
            compare,
            dpo,
        })
    };
    let short = Extent::new(0x0102_0304, 0x0506_0708);
    let table = [
        (
            "af 16 01 02 03 04 05 06 07 08 00 00".into(),
            verify(short, Compare::OneBlock, true),
        ),
        (long(0x0a, 0x02, TAGS), verify(EXTENT, Compare::Data, false)),
        (
            "2e 02 01 02 03 04 00 05 06 00".into(),
            both(Extent::new(0x0102_0304, 0x0506), true, false),
        ),
        (
            "ae 10 01 02 03 04 05 06 07 08 00 00".into(),
            both(short, false, true),
        ),
        (
            "8e 12 01 02 03 04 05 06 07 08 09 0a 0b 0c 00 00".into(),
            both(EXTENT, true, true),
        ),
        (long(0x0c, 0x02, TAGS), both(EXTENT, true, false)),
        (
            long(0x0d, 0x09, TAGS),
            Command::WriteSame {
                extent: EXTENT,
                unmap: true,
                no_data: true,
            },
        ),
        (
            "8b 18 01 02 03 04 05 06 07 08 09 0a 0b 0c 00 00".into(),
            Command::Block(Block::OrWrite(Transfer {
                extent: EXTENT,
                dpo: true,
                fua: true,
            })),
        ),
        (
            "34 02 01 02 03 04 00 05 06 00".into(),
            Command::Block(Block::PreFetch {
                extent: Extent::new(0x0102_0304, 0x0506),
                immediate: true,
            }),
        ),
        (
            "90 00 01 02 03 04 05 06 07 08 09 0a 0b 0c 00 00".into(),
            Command::Block(Block::PreFetch {
                extent: EXTENT,
                immediate: false,
            }),
        ),
        (
            "9e 12 01 02 03 04 05 06 07 08 00 00 00 18 00 00".into(),
            Command::Block(Block::GetLbaStatus {
                lba: EXTENT.lba,
                scan: 0,
                allocation: 24,
            }),
        ),
        (
            long(0x12, 0, "00 00 01 00 00 00 00 00"),
            Command::Block(Block::GetLbaStatus {
                lba: EXTENT.lba,
                scan: 256,
                allocation: 0x090a_0b0c,
            }),
        ),
        (
            "37 00 1d 00 00 00 00 01 02 00".into(),
            Command::Block(Block::ReadDefectData {
                request: DefectRequest {
                    ten: true,
                    lists: 0x1d,
                },
                allocation: 0x102,
            }),
        ),
        (
            "b7 0b 00 00 00 07 00 00 01 02 00 00".into(),
            Command::Block(Block::ReadDefectData {
                request: DefectRequest {
                    ten: false,
                    lists: 0x0b,
                },
                allocation: 0x102,
            }),
        ),
        (
            "1e 00 00 00 01 00".into(),
            Command::Block(Block::PreventRemoval { prevent: true }),
        ),
    ];
    for (cdb, expected) in table {
        let cdb: std::string::String = cdb;
        assert_eq!(command(&cdb), expected, "{cdb}");
    }
}

#[test]
fn refused_values() {
    let table: [(&str, Sense); 10] = [
        ("2e 04 00 00 00 00 00 00 01 00", bit(1, 2)),
        ("2e 06 00 00 00 00 00 00 01 00", bit(1, 2)),
        (&long(0x0a, 0x04, TAGS), bit(10, 2)),
        (&long(0x0c, 0x06, TAGS), bit(10, 2)),
        ("1e 00 00 00 02 00", bit(4, 1)),
        ("37 00 01 00 00 00 00 01 02 00", bit(2, 2)),
        ("b7 07 00 00 00 00 00 00 01 02 00 00", bit(1, 2)),
        (
            "9e 12 00 00 00 00 00 00 00 00 00 00 00 18 01 00",
            bit(14, 0),
        ),
        // ANCHOR
        (&long(0x0d, 0x18, TAGS), bit(10, 4)),
        // VRPROTECT
        (&long(0x0a, 0x40, TAGS), bit(10, 7)),
    ];
    for (cdb, sense) in table {
        assert_eq!(decode(&hex(cdb), &ALL).err(), Some(sense), "{cdb}");
    }
}

/// SBC-4, table 137: each POWER CONDITION with each modifier.
#[test]
fn power_conditions() {
    for condition in 0..16u8 {
        for modifier in 0..16u8 {
            for bits in 0..8u8 {
                let cdb = [0x1b, 1, 0, modifier, condition << 4 | bits, 0];
                let got = decode(&cdb, &ALL).map(|d| d.command);
                let known = match condition {
                    0x0 | 0x1 | 0x7 => modifier == 0,
                    0x2 | 0xa => modifier <= 2,
                    0x3 | 0xb => modifier <= 1,
                    _ => {
                        assert_eq!(got, Err(bit(4, 7)));
                        continue;
                    }
                };
                if !known {
                    assert_eq!(got, Err(bit(3, 3)));
                    continue;
                }
                let (start, loej, no_flush) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
                let expected = match (condition, loej) {
                    (0, true) => StartStop::Medium {
                        load: start,
                        no_flush,
                    },
                    (0, false) => StartStop::Power { start, no_flush },
                    _ => StartStop::PowerCondition,
                };
                assert_eq!(got, Ok(Command::Block(Block::StartStop(expected))));
            }
        }
    }
}

#[test]
fn data_and_limits() {
    let size = BlockSize::B4096;
    let out = |length| Data {
        direction: Direction::Out,
        length,
    };
    assert_eq!(
        command("2e 00 00 00 00 00 00 00 03 00").data(size),
        out(3 * 4096)
    );
    assert_eq!(
        command("8b 00 00 00 00 00 00 00 00 00 00 00 00 02 00 00").data(size),
        out(8192)
    );
    assert_eq!(
        command("34 00 00 00 00 00 00 00 03 00").data(size),
        Data::NONE
    );
    assert_eq!(command("1b 00 00 00 01 00").data(size), Data::NONE);
    let limits = BlockLimits {
        max_transfer: 4,
        ..BlockLimits::default()
    };
    let fits = |cdb: &str| decode(&hex(cdb), &ALL).unwrap().check(Blocks(16), &limits);
    assert_eq!(fits("2e 00 00 00 00 00 00 00 04 00"), Ok(()));
    assert_eq!(
        fits("2e 00 00 00 00 00 00 00 05 00"),
        Err(Sense::invalid_cdb_byte(7))
    );
    assert_eq!(
        fits("2e 00 00 00 00 0f 00 00 02 00"),
        Err(Sense::LBA_OUT_OF_RANGE)
    );
    assert_eq!(fits("34 00 00 00 00 00 00 00 10 00"), Ok(()));
    let status = |lba: u8| {
        fits(&format!(
            "9e 12 00 00 00 00 00 00 00 {lba:02x} 00 00 00 18 00 00"
        ))
    };
    assert_eq!(status(15), Ok(()));
    assert_eq!(status(16), Err(Sense::LBA_OUT_OF_RANGE));
}

#[test]
fn parameter_data() {
    let ten = DefectRequest {
        ten: true,
        lists: 0x1d,
    };
    assert_eq!(written(|out| write_defects(&ten, out)), hex("00 1d 00 00"));
    let twelve = DefectRequest { ten: false, ..ten };
    assert_eq!(
        written(|out| write_defects(&twelve, out)),
        hex("00 1d 00 00 00 00 00 00")
    );
    let status = written(|out| {
        let mut list = LbaStatus::begin(out);
        list.descriptor(Extent::new(8, 8), Provisioned::Mapped);
        list.descriptor(Extent::new(16, 0x1_0000_0000), Provisioned::Deallocated);
        list.finish(Completion::Capacity);
    });
    assert_eq!(
        status,
        hex(
            "00 00 00 24 00 00 00 06  00 00 00 00 00 00 00 08 00 00 00 08 00 00 00 00 \
             00 00 00 00 00 00 00 10 ff ff ff ff 01 00 00 00"
        )
    );
}

#[test]
fn what_a_stopped_unit_does() {
    let refusal = |condition: Condition, cdb: &str| {
        condition.admit(&command(cdb)).err().map(|s| (s.key, s.asc))
    };
    let ready = Condition::default();
    let stopped = Condition {
        stopped: true,
        ..ready
    };
    let ejected = Condition {
        ejected: true,
        ..ready
    };
    let medium: Vec<&str> = std::vec![
        "00 00 00 00 00 00",
        "08 00 00 00 01 00",
        "2a 00 00 00 00 00 00 00 01 00",
        "42 00 00 00 00 00 00 00 18 00",
        "8b 00 00 00 00 00 00 00 00 00 00 00 00 02 00 00",
        "9e 12 00 00 00 00 00 00 00 00 00 00 00 18 00 00",
        "34 00 00 00 00 00 00 00 03 00",
        "35 00 00 00 00 00 00 00 00 00",
    ];
    for cdb in medium {
        assert_eq!(refusal(ready, cdb), None);
        assert_eq!(
            refusal(stopped, cdb),
            Some((Key::NotReady, Asc::INITIALIZING_COMMAND_REQUIRED)),
            "{cdb}"
        );
        assert_eq!(
            refusal(ejected, cdb),
            Some((Key::NotReady, Asc::MEDIUM_NOT_PRESENT)),
            "{cdb}"
        );
    }
    for cdb in [
        "1b 00 00 00 01 00",
        "12 00 00 00 24 00",
        "03 00 00 00 12 00",
    ] {
        assert_eq!(refusal(stopped, cdb), None);
        assert_eq!(refusal(ejected, cdb), None);
    }
    let capacity = "25 00 00 00 00 00 00 00 00 00";
    assert_eq!(refusal(stopped, capacity), None);
    assert_eq!(
        refusal(ejected, capacity),
        Some((Key::NotReady, Asc::MEDIUM_NOT_PRESENT))
    );
    assert_eq!(EXTENT.lba, Lba(0x0102_0304_0506_0708));
}

/// Against each block looked at by itself.
#[test]
fn whole_blocks_of_what_a_back_end_says() {
    for size in [BlockSize::B512, BlockSize::B4096] {
        let block = u64::from(size.bytes());
        for bytes in (1..3 * block).step_by(128) {
            for left in [block, 2 * block, 5 * block] {
                let bytes = bytes.min(left);
                let (mapped, len) = whole_blocks(false, bytes, left, size);
                assert!(len > 0 && len <= left && len % block == 0);
                // A hole has only blocks in it that are unmapped whole.
                assert!(mapped || len <= bytes);
                assert_eq!(mapped, bytes < block && bytes != left);
                let (mapped, len) = whole_blocks(true, bytes, left, size);
                assert!(mapped && len <= left && len % block == 0 && len >= bytes);
            }
        }
    }
}
