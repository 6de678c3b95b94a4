// SPDX-License-Identifier: GPL-2.0

use super::{bit, hex, ALL};
use crate::{
    block::{
        erase::{Format, Formatting},
        Block,
    },
    cdb::{decode, Command, Data, Direction, Features},
    lba::BlockSize,
    opcode::{self, Reporting},
    pi::{Checks, Failed, Fields, Protection, Sent, Tags, Tuple, Type},
    sense::{Asc, Key, Sense},
};
use std::{format, vec::Vec};

const TYPES: [Type; 3] = [Type::One, Type::Two, Type::Three];
const CODES: [u8; 6] = [0, 1, 2, 3, 4, 5];
const NO: (bool, bool) = (false, false);
const GUARD: (bool, bool) = (true, false);
const TAGS: (bool, bool) = (false, true);
const ALL_CHECKS: (bool, bool) = (true, true);

fn on(of: Option<Type>) -> Features {
    Features {
        protection: of,
        protectable: true,
        ..ALL
    }
}

fn protection(of: Type, code: u8, first: u64, tags: Option<Tags>) -> Protection {
    Protection {
        of,
        fields: Fields {
            code,
            tags,
            ..Fields::default()
        },
        first,
        checks_medium: true,
        unless_zero: false,
        owned: of.owns_application_tags(),
        ranges: None,
    }
}

/// CRC-16/T10-DIF, bit by bit (SBC-4, 4.21.4.2).
fn crc(data: &[u8]) -> u16 {
    data.iter().fold(0, |crc, byte| {
        (0..8).rev().fold(crc, |crc: u16, n| {
            let top = (crc >> 15) ^ u16::from((byte >> n) & 1);
            (crc << 1) ^ if top != 0 { 0x8bb7 } else { 0 }
        })
    })
}

#[test]
fn crcs_of_the_standard() {
    // SBC-4, table 27.
    let counting: Vec<u8> = (0..32).collect();
    let down: Vec<u8> = (0..32).map(|n| 0xff - n).collect();
    let mut ones = [0; 32];
    ones[..2].fill(0xff);
    assert_eq!(crc(&[0; 32]), 0x0000);
    assert_eq!(crc(&[0xff; 32]), 0xa293);
    assert_eq!(crc(&counting), 0x0224);
    assert_eq!(crc(&ones), 0x21b8);
    assert_eq!(crc(&down), 0xa0b7);
}

#[test]
fn tuples() {
    let bytes = [0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0];
    let tuple = Tuple::new(bytes);
    let expected = Tuple {
        guard: 0x1234,
        application: 0x5678,
        reference: 0x9abc_def0,
    };
    assert_eq!((tuple, tuple.bytes()), (expected, bytes));
    assert_eq!(Tuple::DEFAULT.bytes(), [0xff; 8]);
    for of in TYPES {
        assert_eq!(Type::new(of as u32), Some(of));
    }
    assert_eq!((Type::new(0), Type::new(4)), (None, None));
    let bytes = TYPES.map(Type::capacity_byte);
    assert_eq!(bytes, [0x01, 0x03, 0x05]);
}

#[test]
fn what_is_checked() {
    let plain = |checks: Checks| {
        assert_eq!(checks.application, checks.reference);
        assert_eq!(checks.any(), checks.guard || checks.reference);
        (checks.guard, checks.reference)
    };
    for of in TYPES {
        let all = CODES.map(|code| protection(of, code, 0, None));
        let read = all.map(|p| plain(p.read()));
        assert_eq!(read, [ALL_CHECKS, ALL_CHECKS, TAGS, NO, GUARD, ALL_CHECKS]);
        let compare = all.map(|p| plain(p.read_to_compare()));
        assert_eq!(compare, [ALL_CHECKS, NO, NO, NO, NO, NO]);
        let received = all.map(|p| plain(p.received()));
        assert_eq!(received, [NO, ALL_CHECKS, TAGS, NO, GUARD, ALL_CHECKS]);
        // DPICZ; pi_prot_verify.
        let unless = Protection {
            unless_zero: true,
            ..all[0]
        };
        assert_eq!(plain(unless.read()), NO);
        for p in all {
            let off = Protection {
                checks_medium: false,
                ..p
            };
            assert_eq!(plain(off.read()), NO);
            assert_eq!(off.received(), p.received());
        }
    }
}

#[test]
fn what_is_compared() {
    for (of, application, reference) in [
        (Type::One, false, true),
        (Type::Two, true, true),
        (Type::Three, false, false),
    ] {
        for (code, guard, tags, last) in [
            (0, false, false, false),
            (1, true, true, true),
            (2, false, true, true),
            (3, true, true, true),
            (4, true, true, true),
            (5, true, true, false),
        ] {
            let expected = Checks {
                guard,
                application: tags && application,
                reference: last && reference,
            };
            assert_eq!(protection(of, code, 0, None).compared(), expected);
        }
    }
}

#[test]
fn checks_and_their_order() {
    let tags = Tags {
        reference: 0xffff_fffe,
        application: 0x1230,
        mask: 0xfff0,
    };
    let right = |index: u32| Tuple {
        guard: 7,
        application: 0x123f,
        reference: 0xffff_fffeu32.wrapping_add(index),
    };
    let two = protection(Type::Two, 1, 5, Some(tags));
    let every = two.read();
    // The reference tag begins again at zero.
    for index in 0..4u32 {
        assert_eq!(two.check(every, index.into(), right(index), 7), Ok(()));
        assert_eq!(
            two.check(every, u64::from(index) + 1, right(index), 7),
            Err(Failed::Reference)
        );
    }
    let wrong = Tuple {
        application: 0x133f,
        ..right(1)
    };
    assert_eq!(two.check(every, 0, wrong, 8), Err(Failed::Guard));
    assert_eq!(two.check(every, 0, wrong, 7), Err(Failed::Application));
    // A CDB without tags expects none.
    let short = protection(Type::Two, 0, 5, None);
    assert_eq!(short.check(short.read(), 0, wrong, 7), Ok(()));
    assert_eq!(short.check(short.read(), 0, wrong, 8), Err(Failed::Guard));
    // Type 1 counts from the LBA's last four bytes, type 3 does not count.
    let one = protection(Type::One, 0, 0x1_0000_0003, None);
    let third = |reference| Tuple {
        guard: 7,
        application: 0,
        reference,
    };
    assert_eq!(one.check(every, 2, third(5), 7), Ok(()));
    assert_eq!(one.check(every, 2, third(6), 7), Err(Failed::Reference));
    let three = protection(Type::Three, 0, 3, None);
    assert_eq!(three.check(every, 2, third(6), 7), Ok(()));
    assert_eq!(three.check(every, 2, third(6), 8), Err(Failed::Guard));
}

#[test]
fn what_is_not_checked_at_all() {
    let tuple = |application, reference| Tuple {
        guard: 1,
        application,
        reference,
    };
    for of in TYPES {
        let p = protection(of, 1, 0, None);
        let ffff = of != Type::Three;
        assert_eq!(
            p.check(p.read(), 0, tuple(0xffff, 1), 2).is_ok(),
            ffff,
            "{of:?}"
        );
        assert_eq!(p.check(p.read(), 0, tuple(0xffff, u32::MAX), 2), Ok(()));
        assert_eq!(
            p.check(p.read(), 0, tuple(0xfffe, u32::MAX), 2),
            Err(Failed::Guard)
        );
        assert_eq!(p.check(p.read(), 0, Tuple::DEFAULT, 2), Ok(()));
        assert_eq!(p.compare(0, Tuple::DEFAULT, tuple(1, 1)), Ok(()));
    }
}

#[test]
fn generated_and_repeated() {
    for (of, application, references) in [
        (Type::One, 0, [u32::MAX, 0]),
        (Type::Two, 0xffff, [u32::MAX, u32::MAX]),
        (Type::Three, 0, [u32::MAX, u32::MAX]),
    ] {
        let p = protection(of, 0, 0x7_ffff_ffff, None);
        for (index, reference) in references.into_iter().enumerate() {
            let tuple = p.generate(index as u64, 9);
            let expected = Tuple {
                guard: 9,
                application,
                reference,
            };
            assert_eq!(tuple, expected);
            // What was generated passes.
            assert_eq!(p.check(p.read(), index as u64, tuple, 9), Ok(()));
        }
        let sent = p.generate(0, 9);
        let step = u32::from(of != Type::Three);
        assert_eq!(
            p.repeated(sent, 3).reference,
            sent.reference.wrapping_add(3 * step)
        );
    }
    let p = protection(Type::One, 1, 8, None);
    let sent = p.generate(0, 9);
    let other = |guard, reference| Tuple {
        guard,
        application: 5,
        reference,
    };
    assert_eq!(p.compare(2, other(9, 10), sent), Ok(()));
    assert_eq!(p.compare(2, other(9, 8), sent), Err(Failed::Reference));
    assert_eq!(p.compare(2, other(8, 8), sent), Err(Failed::Guard));
}

#[test]
fn senses() {
    for (failed, asc) in [
        (Failed::Guard, Asc::GUARD_CHECK_FAILED),
        (Failed::Application, Asc::APPLICATION_TAG_CHECK_FAILED),
        (Failed::Reference, Asc::REFERENCE_TAG_CHECK_FAILED),
    ] {
        let sense = failed.sense(Key::AbortedCommand, 77);
        assert_eq!((sense.key, sense.asc), (Key::AbortedCommand, asc));
        assert_eq!(sense.information, Some(77));
    }
}

#[test]
fn cdbs() {
    let read = hex("28 20 00 00 00 07 00 00 02 00");
    let long = hex(
        "7f 00 00 00 00 00 00 18 00 09 20 00 00 00 00 00 00 00 00 07 01 02 03 04 05 06 07 08 00 00 00 02",
    );
    let invalid = Some(Sense::INVALID_OPERATION_CODE);
    for (of, short, tagged) in [
        (None, Some(bit(1, 7)), Some(bit(10, 7))),
        (Some(Type::One), None, invalid),
        (Some(Type::Two), invalid, None),
        (Some(Type::Three), None, invalid),
    ] {
        assert_eq!(decode(&read, &on(of)).err(), short, "{of:?}");
        assert_eq!(decode(&long, &on(of)).err(), tagged, "{of:?}");
    }
    let got = decode(&read, &on(Some(Type::One))).unwrap();
    assert_eq!(
        got.protect,
        Fields {
            code: 1,
            ..Fields::default()
        }
    );
    let both = |direction, length| Data { direction, length };
    assert_eq!(got.data(BlockSize::B512), both(Direction::In, 2 * 520));
    let got = decode(&long, &on(Some(Type::Two))).unwrap();
    let tags = Tags {
        reference: 0x0102_0304,
        application: 0x0506,
        mask: 0x0708,
    };
    assert_eq!(
        got.protect,
        Fields {
            code: 1,
            tags: Some(tags),
            ..Fields::default()
        }
    );
    assert_eq!(got.data(BlockSize::B4096), both(Direction::In, 2 * 4104));
    // Reserved values; a command that says nothing of it.
    for flags in [0xc0, 0xe0] {
        let mut cdb = read.clone();
        cdb[1] = flags;
        assert_eq!(decode(&cdb, &on(Some(Type::Three))).err(), Some(bit(1, 7)));
    }
    let six = decode(&hex("08 00 00 07 02 00"), &on(Some(Type::One))).unwrap();
    assert_eq!(six.data(BlockSize::B512), both(Direction::In, 1024));
    // VERIFY transfers nothing, or one block; COMPARE AND WRITE each block twice.
    for (cdb, length) in [
        ("2f 20 00 00 00 07 00 00 02 00", 0),
        ("2f 26 00 00 00 07 00 00 02 00", 520),
        ("89 20 00 00 00 00 00 00 00 07 00 00 00 01 00 00", 2 * 520),
        ("41 20 00 00 00 07 00 00 09 00", 520),
        ("93 21 00 00 00 00 00 00 00 07 00 00 00 01 00 00", 0),
    ] {
        let got = decode(&hex(cdb), &on(Some(Type::One))).unwrap();
        assert_eq!(got.data(BlockSize::B512).length, length, "{cdb}");
    }
}

#[test]
fn usage_data() {
    let usage = |of, opcode, action: u16| {
        let request = opcode::Request {
            reporting: Reporting::Either(opcode, action),
            timeouts: false,
        };
        super::written(|out| opcode::report(&request, &on(of), out).unwrap())
    };
    for (of, short, long) in [
        (None, 0x18, Some(0x18)),
        (Some(Type::One), 0xf8, None),
        (Some(Type::Two), 0x18, Some(0xf8)),
        (Some(Type::Three), 0xf8, None),
    ] {
        assert_eq!(usage(of, 0x28, 0)[5], short);
        let data = usage(of, 0x7f, 9);
        let tags = data.get(24..32).map(<[u8]>::to_vec);
        match long {
            Some(flags) => {
                assert_eq!(data[14], flags);
                let used = of.is_some();
                assert_eq!(tags.unwrap(), [if used { 0xff } else { 0 }; 8]);
            }
            // Not supported.
            None => assert_eq!(data[1] & 7, 1),
        }
    }
}

#[test]
fn orwrite_32_has_no_tags() {
    let cdb = |flags: &str| {
        hex(&format!(
            "7f 00 00 00 00 00 00 18 00 0e {flags} 00 00 00 00 00 00 00 00 05 00 00 00 07 00 00 00 00 00 00 00 02"
        ))
    };
    for of in [Type::One, Type::Three] {
        let got = decode(&cdb("20"), &on(Some(of))).unwrap();
        assert_eq!((got.protect.code, got.protect.tags), (1, None));
        assert_eq!(got.data(BlockSize::B512).length, 2 * 520);
    }
    assert!(decode(&cdb("00"), &on(Some(Type::Two))).is_ok());
    let refused = |of| decode(&cdb("20"), &on(of)).unwrap_err();
    assert_eq!(refused(Some(Type::Two)), Sense::INVALID_OPERATION_CODE);
    assert_eq!(refused(None), Sense::invalid_cdb_bit(10, 7));
}

#[test]
fn format_unit() {
    let parsed = |cdb: &str, list: &str| {
        let got = decode(&hex(cdb), &on(None))?;
        let Command::Block(Block::Format(format)) = got.command else {
            panic!("{got:?}")
        };
        format.parse(&hex(list))
    };
    let wrong = Err(Sense::invalid_parameter_bit(0, 2));
    for (cdb, list, expected) in [
        ("04 90 00 00 00 00", "00 02 00 00", Ok(Some(Type::One))),
        ("04 d0 00 00 00 00", "00 02 00 00", Ok(Some(Type::Two))),
        ("04 d0 00 00 00 00", "01 02 00 00", Ok(Some(Type::Three))),
        ("04 10 00 00 00 00", "00 02 00 00", Ok(None)),
        ("04 10 00 00 00 00", "01 02 00 00", wrong),
        ("04 90 00 00 00 00", "01 02 00 00", wrong),
        ("04 d0 00 00 00 00", "02 02 00 00", wrong),
        ("04 50 00 00 00 00", "00 02 00 00", Err(bit(1, 7))),
        ("04 80 00 00 00 00", "", Err(bit(1, 7))),
    ] {
        let expected = expected.map(|protection| Formatting {
            immediate: true,
            protection,
        });
        assert_eq!(parsed(cdb, list), expected, "{cdb}: {list}");
    }
    // Smaller intervals.
    let long = Format {
        list: Some(true),
        protection: 2,
    };
    assert_eq!(
        long.parse(&hex("00 00 00 01 00 00 00 00")),
        Err(Sense::invalid_parameter_byte(3))
    );
}

/// Protection information that is beside the data, or that a port makes of it.
#[test]
fn where_it_is() {
    let with = |of, code, sent, tags| {
        let rules = protection(of, code, 40, tags);
        Protection {
            fields: Fields {
                sent,
                ..rules.fields
            },
            ..rules
        }
    };
    for of in TYPES {
        for code in CODES {
            let behind = with(of, code, Sent::Behind, None);
            let beside = with(of, code, Sent::Beside, None);
            let made = with(of, code, Sent::Made, None);
            // The same rules, and shorter blocks.
            assert_eq!(beside.read(), behind.read());
            assert_eq!(beside.received(), behind.received());
            assert_eq!(beside.compared(), behind.compared());
            assert_eq!(beside.read_to_compare(), behind.read_to_compare());
            let sizes = [behind, beside, made].map(|r| r.fields.block(BlockSize::B512));
            assert_eq!(sizes, [if code == 0 { 512 } else { 520 }, 512, 512]);
            let there = [behind, beside, made].map(|r| (r.fields.transfers(), r.fields.beside()));
            assert_eq!(
                there,
                [(code != 0, false), (code != 0, code != 0), (false, false)]
            );
            // What is read is checked for the port; nothing came to be checked, or compared.
            assert_eq!(made.read(), behind.read());
            assert_eq!(made.read_to_compare(), behind.read());
            assert!(!made.received().any() && !made.compared().any());
        }
    }
    // What a port makes has the tags that the CDB expects, on a unit of type 2.
    let tags = Tags {
        reference: u32::MAX,
        application: 0x1234,
        mask: 0xff00,
    };
    let two = with(Type::Two, 1, Sent::Made, Some(tags));
    let tuple = two.generate(1, 7);
    assert_eq!(tuple.bytes(), [0, 7, 0x12, 0, 0, 0, 0, 0]);
    assert_eq!(two.check(two.read(), 1, tuple, 7), Ok(()));
    // Where the CDB asks for none, it is the target that makes it.
    let none = with(Type::Two, 0, Sent::Made, Some(tags));
    assert_eq!(none.generate(1, 7).reference, u32::MAX);
    let one = with(Type::One, 1, Sent::Made, None);
    assert_eq!(one.generate(1, 7).bytes(), [0, 7, 0, 0, 0, 0, 0, 41]);
}
