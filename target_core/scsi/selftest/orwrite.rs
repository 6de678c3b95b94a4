// SPDX-License-Identifier: GPL-2.0

//! ORWRITE (32), its generations, and WRITE LONG.

use super::{bit, hex, ALL};
use crate::{
    block::{
        orwrite::{Generations, Operation, OrWrite, Policy, Verdict},
        Block,
    },
    cdb::{decode, Command, Data, Features, Transfer},
    lba::{BlockSize, Blocks, Extent, Lba},
    sense::{Asc, Key, Sense},
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
