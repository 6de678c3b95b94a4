// SPDX-License-Identifier: GPL-2.0

//! ORWRITE (32), its generations, WRITE LONG and READ LONG.

use super::{bit, hex, ALL};
use crate::{
    block::{
        long::ReadLong,
        orwrite::{Generations, Operation, OrWrite, Policy, Verdict},
        Block,
    },
    cdb::{decode, Command, Data, Direction, Features, Transfer},
    lba::{BlockSize, Blocks, Extent, Lba},
    sense::{Asc, Format, Key, Sense},
    vpd::BlockLimits,
};
use std::format;

fn command(expected: u32, operation: Operation) -> OrWrite {
    OrWrite {
        transfer: Transfer {
            extent: Extent::new(0x0102_0304_0506_0708, 9),
            dpo: false,
            fua: true,
        },
        expected,
        operation,
    }
}

#[test]
fn orwrite_32() {
    let decoded = |bmop: u8, policy: u8| {
        decode(
            &hex(&format!(
                "7f 00 {bmop:02x} {policy:02x} 00 00 3f 18 00 0e 08 00 01 02 03 04 05 06 07 08 \
                 0a 0b 0c 0d 11 12 13 14 00 00 00 09"
            )),
            &ALL,
        )
        .map(|d| d.command)
    };
    let wanted = |operation| {
        Ok(Command::Block(Block::OrWrite(command(
            0x0a0b_0c0d,
            operation,
        ))))
    };
    // The set operation establishes nothing.
    for policy in 0..16 {
        assert_eq!(decoded(0, policy), wanted(Operation::Set));
    }
    let policies = [
        (0, Policy::PerformPrevious),
        (2, Policy::DiscardPrevious),
        (3, Policy::Perform),
        (5, Policy::Discard),
        (7, Policy::Refuse),
    ];
    for (value, policy) in policies {
        let operation = Operation::Clear {
            generation: 0x1112_1314,
            policy,
        };
        assert_eq!(decoded(1, value), wanted(operation));
    }
    for reserved in [1, 4, 6, 8, 15] {
        assert_eq!(decoded(1, reserved), Err(bit(3, 3)));
    }
    assert_eq!(
        (decoded(2, 0), decoded(7, 0)),
        (Err(bit(2, 2)), Err(bit(2, 2)))
    );
    assert_eq!(
        (decoded(8, 0), decoded(0, 16)),
        (Err(bit(2, 3)), Err(bit(3, 4)))
    );
    assert_eq!(Operation::Set.apply(0b0101, 0b0011), 0b0111);
    let Ok(Command::Block(Block::OrWrite(clear))) = decoded(1, 7) else {
        panic!("not decoded");
    };
    assert_eq!(clear.operation.apply(0b0101, 0b0011), 0b0001);
}

#[test]
fn generations() {
    let clear =
        |expected, generation, policy| command(expected, Operation::Clear { generation, policy });
    let mut unit = Generations::new();
    let sets = |unit: &Generations, expected| unit.decide(&command(expected, Operation::Set));
    let refused = Err(Sense::new(Key::IllegalRequest, Asc::ORWRITE_GENERATION));
    let (performed, discarded) = (Ok(Verdict::Perform), Ok(Verdict::Discard));
    assert_eq!((sets(&unit, 0), sets(&unit, 1)), (performed, refused));
    // What each policy says of the current, the previous and any other generation.
    let table = [
        (Policy::PerformPrevious, performed, refused),
        (Policy::DiscardPrevious, discarded, refused),
        (Policy::Perform, performed, performed),
        (Policy::Discard, discarded, discarded),
        (Policy::Refuse, refused, refused),
    ];
    for (at, (policy, previous, other)) in table.into_iter().enumerate() {
        let at = at as u32;
        let step = clear(at, at + 1, policy);
        assert_eq!(unit.decide(&step), performed);
        unit.performed(&step);
        assert_eq!(sets(&unit, at + 1), performed, "{policy:?}");
        assert_eq!(sets(&unit, at), previous, "{policy:?}");
        assert_eq!(sets(&unit, at + 2), other, "{policy:?}");
        // Nobody begins a generation who does not know this one.
        assert_eq!(unit.decide(&clear(at, 9, Policy::Perform)), refused);
        let before = unit;
        unit.performed(&command(at + 1, Operation::Set));
        assert_eq!(unit, before);
    }
}

#[test]
fn read_long() {
    let read = |cdb: &str| match decode(&hex(cdb), &ALL).map(|d| d.command) {
        Ok(Command::Block(Block::ReadLong(what))) => what,
        other => panic!("{other:?}"),
    };
    let ten = read("3e 06 00 01 02 03 00 02 08 00");
    let sixteen = read("9e 11 01 02 03 04 05 06 07 08 00 00 02 08 03 00");
    assert_eq!(
        (ten.lba.0, sixteen.lba.0),
        (0x1_0203, 0x0102_0304_0506_0708)
    );
    for (what, at) in [(ten, 7), (sixteen, 12)] {
        assert!(what.physical && what.correct);
        assert_eq!((what.length, what.length_at), (520, at));
    }
    let plain = read("3e 00 00 00 00 05 00 02 08 00");
    assert!(!plain.physical && !plain.correct);
    assert!(!read("9e 11 00 00 00 00 00 00 00 05 00 00 00 00 01 00").physical);
    assert!(!read("9e 11 00 00 00 00 00 00 00 05 00 00 00 00 02 00").correct);
    for (wrong, at) in [
        ("3e 08 00 00 00 00 00 00 00 00", bit(1, 3)),
        ("3e 00 00 00 00 00 01 00 00 00", bit(6, 0)),
        (
            "9e 11 00 00 00 00 00 00 00 00 00 00 00 00 04 00",
            bit(14, 2),
        ),
    ] {
        assert_eq!(decode(&hex(wrong), &ALL).err(), Some(at), "{wrong}");
    }
    // The block, and the physical block, which is cut off by either end of the medium.
    let extent = |lba, physical, exponent, lowest| {
        let what = ReadLong {
            lba: Lba(lba),
            physical,
            ..plain
        };
        what.extent(exponent, lowest, Blocks(100))
    };
    assert_eq!(extent(5, false, 3, 0), Extent::new(5, 1));
    assert_eq!(extent(5, true, 0, 0), Extent::new(5, 1));
    assert_eq!(extent(5, true, 3, 0), Extent::new(0, 8));
    assert_eq!(extent(99, true, 3, 0), Extent::new(96, 4));
    assert_eq!(extent(0, true, 3, 7), Extent::new(0, 7));
    assert_eq!(extent(6, true, 3, 7), Extent::new(0, 7));
    assert_eq!(extent(7, true, 3, 7), Extent::new(7, 8));
    assert_eq!(extent(98, true, 3, 7), Extent::new(95, 5));
    // Each block of a physical one is in it.
    for lba in 0..100 {
        for (exponent, lowest) in [(1, 1), (2, 0), (3, 5), (3, 15), (15, 3)] {
            let e = extent(lba, true, exponent, lowest);
            assert!(e.lba.0 <= lba && lba < e.end().unwrap().0, "{lba} {e:?}");
            assert!(e.check(Blocks(100)).is_ok());
            for other in e.lba.0..e.end().unwrap().0 {
                assert_eq!(extent(other, true, exponent, lowest), e);
            }
        }
    }
    // None, the right one, and others.
    assert_eq!(
        read("3e 00 00 00 00 05 00 00 00 00").transfers(512),
        Ok(false)
    );
    assert_eq!(plain.transfers(520), Ok(true));
    let fixed = |available| {
        let sense = plain.transfers(available).unwrap_err();
        sense.encode(Format::Fixed).as_slice().to_vec()
    };
    assert_eq!(
        fixed(512),
        hex("f0 00 25 00 00 00 08 0a 00 00 00 00 24 00 00 c0 00 07")
    );
    assert_eq!(fixed(4096)[2..7], hex("25 ff ff f2 08"));
    let sense = plain.transfers(4096).unwrap_err();
    assert_eq!(
        sense.encode(Format::Descriptor).as_slice(),
        hex("72 05 24 00 00 00 00 18 00 0a 80 00 ff ff ff ff ff ff f2 08 02 06 00 00 c0 00 07 00 05 02 00 20")
    );
    let decoded = decode(&hex("3e 00 00 00 00 05 00 02 08 00"), &ALL).unwrap();
    assert!(!decoded.command.writes() && decoded.command.is_checked());
    assert_eq!(
        decoded.command.data(BlockSize::B4096),
        Data {
            direction: Direction::In,
            length: 520
        }
    );
    let without = Features {
        write_long: false,
        ..ALL
    };
    assert_eq!(
        decode(&[0x3e, 0, 0, 0, 0, 0, 0, 0, 0, 0], &without).err(),
        Some(Sense::INVALID_OPERATION_CODE)
    );
}

#[test]
fn write_long() {
    let decoded = |cdb: &str| decode(&hex(cdb), &ALL).map(|d| d.command);
    let mark = |lba| Ok(Command::Block(Block::WriteLong(Lba(lba))));
    assert_eq!(decoded("3f 40 00 01 02 03 00 00 00 00"), mark(0x1_0203));
    // COR_DIS
    assert_eq!(decoded("3f c0 00 01 02 03 00 00 00 00"), mark(0x1_0203));
    let long = "9f 51 01 02 03 04 05 06 07 08 00 00 00 00 00 00";
    assert_eq!(decoded(long), mark(0x0102_0304_0506_0708));
    // Without WR_UNCOR, with PBLOCK, and with data.
    for wrong in [
        ("3f 00 00 01 02 03 00 00 00 00", bit(1, 6)),
        ("3f 80 00 01 02 03 00 00 00 00", bit(1, 6)),
        ("3f 60 00 01 02 03 00 00 00 00", bit(1, 5)),
        ("3f 40 00 01 02 03 00 02 00 00", bit(7, 1)),
        ("9f 11 00 00 00 00 00 00 00 08 00 00 00 00 00 00", bit(1, 6)),
        (
            "9f 51 00 00 00 00 00 00 00 08 00 00 00 01 00 00",
            bit(13, 0),
        ),
    ] {
        assert_eq!(decoded(wrong.0), Err(wrong.1), "{}", wrong.0);
    }
    let decoded = decode(&hex(long), &ALL).unwrap();
    assert!(decoded.command.writes() && decoded.command.is_checked());
    assert_eq!(decoded.command.data(BlockSize::B512), Data::NONE);
    let limits = BlockLimits::default();
    let fits = |capacity| decoded.check(Blocks(capacity), &limits);
    assert_eq!(fits(0x0102_0304_0506_0709), Ok(()));
    assert_eq!(
        fits(0x0102_0304_0506_0708),
        Err(Sense::lba_out_of_range(0x0102_0304_0506_0708))
    );
    let without = Features {
        write_long: false,
        ..ALL
    };
    assert_eq!(
        decode(&hex("3f 40 00 01 02 03 00 00 00 00"), &without).err(),
        Some(Sense::INVALID_OPERATION_CODE)
    );
}
