// SPDX-License-Identifier: GPL-2.0

//! Commands of block devices beyond reading and writing.

use super::{bit, hex, written, ALL};
use crate::{
    block::{
        erase::{progress, Format, How, Overwrite, Sanitize},
        orwrite::{Operation, OrWrite},
        whole_blocks, write_defects, Block, Completion, Condition, DefectRequest, Erasing,
        LbaStatus, Provisioned, StartStop,
    },
    cdb::{decode, Command, Compare, Data, Direction, Features, Transfer},
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
            Command::Block(Block::OrWrite(OrWrite {
                transfer: Transfer {
                    extent: EXTENT,
                    dpo: true,
                    fua: true,
                },
                expected: 0,
                operation: Operation::Set,
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
                let immediate = (bits ^ modifier) & 1;
                let cdb = [0x1b, immediate, 0, modifier, (condition << 4) | bits, 0];
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
                let expected = Block::StartStop {
                    what: expected,
                    immediate: immediate != 0,
                };
                assert_eq!(got, Ok(Command::Block(expected)));
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
        Err(Sense::lba_out_of_range(16))
    );
    assert_eq!(fits("34 00 00 00 00 00 00 00 10 00"), Ok(()));
    let status = |lba: u8| {
        fits(&format!(
            "9e 12 00 00 00 00 00 00 00 {lba:02x} 00 00 00 18 00 00"
        ))
    };
    assert_eq!(status(15), Ok(()));
    assert_eq!(status(16), Err(Sense::lba_out_of_range(16)));
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
        "9f 12 00 00 00 01 00 00 00 01 00 00 00 02 00 00",
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

#[test]
fn erasing_cdbs() {
    let sanitize = |how, immediate, unrestricted| {
        Command::Block(Block::Sanitize(Sanitize {
            how,
            immediate,
            unrestricted,
        }))
    };
    let format = |list| {
        Command::Block(Block::Format(Format {
            list,
            protection: 0,
        }))
    };
    let table = [
        ("04 00 00 00 00 00", format(None)),
        ("04 1d 00 00 00 00", format(Some(false))),
        ("04 38 00 00 00 00", format(Some(true))),
        (
            "48 81 00 00 00 00 00 01 04 00",
            sanitize(How::Overwrite(0x104), true, false),
        ),
        (
            "48 22 00 00 00 00 00 00 00 00",
            sanitize(How::BlockErase, false, true),
        ),
        (
            "48 1f 00 00 00 00 00 00 00 00",
            sanitize(How::ExitFailureMode, false, false),
        ),
    ];
    for (cdb, expected) in table {
        assert_eq!(command(cdb), expected, "{cdb}");
        let writes = !matches!(
            expected,
            Command::Block(Block::Sanitize(Sanitize {
                how: How::ExitFailureMode,
                ..
            }))
        );
        assert_eq!(expected.writes(), writes);
    }
    let refused = [
        // Protection information, a long list of nothing, a form of defects.
        ("04 80 00 00 00 00", bit(1, 7)),
        ("04 20 00 00 00 00", bit(1, 5)),
        ("04 11 00 00 00 00", bit(1, 2)),
        // Zones; a parameter list; cryptographic erase.
        ("48 41 00 00 00 00 00 00 05 00", bit(1, 6)),
        ("48 02 00 00 00 00 00 00 08 00", bit(8, 3)),
        ("48 03 00 00 00 00 00 00 00 00", bit(1, 4)),
    ];
    for (cdb, sense) in refused {
        assert_eq!(decode(&hex(cdb), &ALL).err(), Some(sense), "{cdb}");
    }
    // Nothing of it where it is off; no block erase where nothing is deallocated.
    let off = crate::cdb::Features {
        sanitize: false,
        ..ALL
    };
    let thick = crate::cdb::Features {
        unmap: false,
        write_same_unmap: false,
        ..ALL
    };
    let erase = hex("48 02 00 00 00 00 00 00 00 00");
    assert_eq!(
        decode(&erase, &off).err(),
        Some(Sense::INVALID_OPERATION_CODE)
    );
    assert_eq!(decode(&erase, &thick).err(), Some(bit(1, 4)));
}

#[test]
fn format_parameter_lists() {
    let parse = |list: Option<bool>, bytes: &str| {
        let protection = 0;
        let parsed = Format { list, protection }.parse(&hex(bytes))?;
        assert_eq!(parsed.protection, None);
        Ok(parsed.immediate)
    };
    let wrong = |byte| Err(Sense::invalid_parameter_byte(byte));
    assert_eq!(parse(None, ""), Ok(false));
    assert_eq!(parse(Some(false), "00 00 00 00"), Ok(false));
    assert_eq!(parse(Some(false), "00 82 00 00"), Ok(true));
    assert_eq!(parse(Some(false), "00 f0 00 00"), Ok(false));
    assert_eq!(parse(Some(true), "00 02 00 00 00 00 00 00"), Ok(true));
    for (list, bytes, at) in [
        (false, "08 00 00 00", 0),
        (false, "00 01 00 00", 1),
        (false, "00 88 00 00", 1),
        (false, "00 20 00 00", 1),
        (false, "00 00 00 08", 2),
        (true, "00 00 00 10 00 00 00 00", 3),
        (true, "00 00 00 00 00 00 00 08", 4),
    ] {
        assert_eq!(parse(Some(list), bytes), wrong(at), "{bytes}");
    }
    assert_eq!(
        parse(Some(false), "00 00 00"),
        Err(Sense::PARAMETER_LIST_LENGTH)
    );
    assert_eq!(
        parse(Some(true), "00 00 00 00"),
        Err(Sense::PARAMETER_LIST_LENGTH)
    );
}

#[test]
fn overwrite_parameter_lists() {
    let size = BlockSize::B512;
    let list = hex("83 00 00 03 aa bb cc");
    let overwrite = Overwrite::parse(&list, size).unwrap();
    assert_eq!(
        overwrite,
        Overwrite {
            passes: 3,
            invert: true,
            pattern: &[0xaa, 0xbb, 0xcc],
        }
    );
    let mut block = [0; 8];
    overwrite.fill(0, &mut block);
    assert_eq!(block.as_slice(), hex("aa bb cc aa bb cc aa bb"));
    overwrite.fill(1, &mut block);
    assert_eq!(block.as_slice(), hex("55 44 33 55 44 33 55 44"));
    overwrite.fill(2, &mut block);
    assert_eq!(block.as_slice(), hex("aa bb cc aa bb cc aa bb"));
    for (list, sense) in [
        ("00 00 00 03 aa bb cc", Sense::invalid_parameter_byte(0)),
        ("21 00 00 03 aa bb cc", Sense::invalid_parameter_byte(0)),
        ("01 01 00 03 aa bb cc", Sense::invalid_parameter_byte(1)),
        ("01 00 00 00 aa bb cc", Sense::invalid_parameter_byte(2)),
        ("01 00 02 01 aa bb cc", Sense::invalid_parameter_byte(2)),
        ("01 00 00 04 aa bb cc", Sense::PARAMETER_LIST_LENGTH),
        ("01 00 00", Sense::PARAMETER_LIST_LENGTH),
    ] {
        assert_eq!(Overwrite::parse(&hex(list), size), Err(sense), "{list}");
    }
    for length in 0..520 {
        let fits = Overwrite::check_length(length, size);
        assert_eq!(fits.is_ok(), (5..=516).contains(&length));
    }
}

#[test]
fn conditions() {
    let all = [
        Erasing::No,
        Erasing::Format(0),
        Erasing::Format(0xffff),
        Erasing::FormatFailed,
        Erasing::Sanitize(0x1234),
        Erasing::SanitizeFailed(false),
        Erasing::SanitizeFailed(true),
    ];
    for erasing in all {
        for (stopped, ejected) in [(false, false), (true, false), (false, true), (true, true)] {
            let condition = Condition {
                stopped,
                ejected,
                erasing,
                lost: false,
            };
            assert_eq!(Condition::unpack(condition.pack()), condition);
            assert_eq!(condition.pack() == 0, condition == Condition::default());
            assert_eq!(condition.sense().is_none(), condition.pack() == 0);
            let lost = Condition {
                lost: true,
                ..condition
            };
            assert_eq!(Condition::unpack(lost.pack()), lost);
        }
    }
    let at = |erasing, cdb: &str| {
        let condition = Condition {
            erasing,
            ..Condition::default()
        };
        condition.admit(&command(cdb)).err()
    };
    let (read, inquiry, start) = (
        "08 00 00 00 01 00",
        "12 00 00 00 24 00",
        "1b 00 00 00 01 00",
    );
    let (format, sanitize) = ("04 00 00 00 00 00", "48 02 00 00 00 00 00 00 00 00");
    let busy = Sense {
        specific: crate::sense::Specific::Progress(7),
        ..Sense::new(Key::NotReady, Asc::SANITIZE_IN_PROGRESS)
    };
    for cdb in [read, start, format, sanitize, "00 00 00 00 00 00"] {
        assert_eq!(at(Erasing::Sanitize(7), cdb), Some(busy), "{cdb}");
        assert_eq!(
            at(Erasing::Format(7), cdb).map(|s| s.asc),
            Some(Asc::FORMAT_IN_PROGRESS),
            "{cdb}"
        );
    }
    assert_eq!(at(Erasing::Sanitize(7), inquiry), None);
    for exit in [false, true] {
        let failed = Erasing::SanitizeFailed(exit);
        let sense = Some(Sense::new(Key::MediumError, Asc::SANITIZE_FAILED));
        assert_eq!(at(failed, read), sense);
        assert_eq!(at(failed, format), sense);
        assert_eq!(at(failed, sanitize), None);
    }
    assert_eq!(at(Erasing::FormatFailed, format), None);
    assert_eq!(
        at(Erasing::FormatFailed, read),
        Some(Sense::new(Key::MediumError, Asc::FORMAT_FAILED))
    );
}

#[test]
fn while_reservations_are_lost() {
    let lost = Condition {
        lost: true,
        ..Condition::default()
    };
    // SPC-4, 5.13.5.2
    for cdb in [
        "12 00 00 00 24 00",
        "4d 00 40 00 00 00 00 00 10 00",
        "3c 02 00 00 00 00 00 00 10 00",
        "a0 00 00 00 00 00 00 00 00 10 00 00",
        "a3 0a 00 00 00 00 00 00 00 10 00 00",
        "03 00 00 00 12 00",
        "1b 00 00 00 01 00",
        "3b 02 00 00 00 00 00 00 10 00",
        "5f 08 01 00 00 00 00 00 18 00",
    ] {
        assert_eq!(lost.admit(&command(cdb)), Ok(()), "{cdb}");
    }
    for cdb in [
        "00 00 00 00 00 00",
        "08 00 00 00 01 00",
        "2a 00 00 00 00 00 00 00 01 00",
        "1a 00 3f 00 10 00",
        "25 00 00 00 00 00 00 00 00 00",
        "1b 00 00 00 00 00",
        "5e 00 00 00 00 00 00 00 10 00",
        "5f 06 01 00 00 00 00 00 18 00",
        "16 00 00 00 00 00",
        "4c 02 00 00 00 00 00 00 00 00",
        "04 00 00 00 00 00",
    ] {
        assert_eq!(
            lost.admit(&command(cdb)),
            Err(Sense::RESERVATION_INFORMATION_LOST),
            "{cdb}"
        );
    }
}

#[test]
fn progress_goes_up() {
    for all in [1, 3, 512, 1 << 20, 1 << 47, u64::MAX / 3, u64::MAX] {
        let mut last = 0;
        for part in 0..=64u64 {
            let done = (u128::from(all) * u128::from(part) / 64) as u64;
            let now = progress(done, all);
            assert!(now >= last);
            let exact = (u128::from(done) << 16) / u128::from(all);
            assert!(u128::from(now).abs_diff(exact) <= 1, "{done} of {all}");
            last = now;
        }
        assert_eq!(last, u16::MAX);
    }
    assert_eq!(progress(0, 0), 0);
}

#[test]
fn write_same_to_the_end() {
    let features = Features {
        write_same_all: true,
        ..ALL
    };
    let limits = BlockLimits {
        max_write_same: 100,
        ..BlockLimits::default()
    };
    for (cdb, length_at) in [
        ("41 00 00 00 00 32 00 00 00 00", 7),
        ("93 00 00 00 00 00 00 00 00 32 00 00 00 00 00 00", 10),
        (
            "7f 00 00 00 00 00 00 18 00 0d 00 00 00 00 00 00 00 00 00 32 ff ff ff ff 00 00 00 00 00 00 00 00",
            28,
        ),
    ] {
        let bytes = hex(cdb);
        let refused = Sense::invalid_cdb_byte(length_at);
        assert_eq!(decode(&bytes, &ALL).err(), Some(refused), "{cdb}");
        let decoded = decode(&bytes, &features).unwrap();
        let lba = decoded.command.extent().unwrap().lba.0;
        for (capacity, fits) in [
            (lba + 1, Ok(())),
            (lba + 100, Ok(())),
            (lba + 101, Err(refused)),
            (lba, Err(Sense::lba_out_of_range(lba))),
        ] {
            let mut decoded = decoded;
            decoded.resolve(Blocks(capacity));
            assert_eq!(decoded.check(Blocks(capacity), &limits), fits, "{cdb}");
        }
    }
    // Others are as they are.
    let mut some = decode(&hex("41 00 00 00 00 32 00 00 02 00"), &features).unwrap();
    some.resolve(Blocks(1000));
    assert_eq!(some.command.extent(), Some(Extent::new(0x32, 2)));
}
