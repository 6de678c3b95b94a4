// SPDX-License-Identifier: GPL-2.0

//! WRITE ATOMIC and WRITE SCATTERED.

use super::{bit, byte, hex, ALL};
use crate::{
    block::{
        scattered::{self, Scattered},
        Block,
    },
    cdb::{decode, Command, Features, Transfer},
    lba::{BlockSize, Blocks, Extent},
    pi::{Failed, Fields, Protection, Tags, Tuple, Type},
    sense::{Asc, Key, Sense},
    vpd::BlockLimits,
};
use std::vec;

#[test]
fn atomic_writes() {
    let write = |lba, blocks, dpo, fua| {
        Command::Block(Block::WriteAtomic(Transfer {
            extent: Extent::new(lba, blocks),
            dpo,
            fua,
        }))
    };
    let decoded = |cdb: &[u8]| decode(cdb, &ALL).map(|d| d.command);
    let sixteen = hex("9c 08 00 00 00 00 00 00 00 10 00 00 00 08 00 00");
    assert_eq!(decoded(&sixteen), Ok(write(0x10, 8, false, true)));
    let mut long = hex("7f 00 00 00 00 00 00 18 00 0f 10 00");
    long.extend(0x0102_0304_0506_0708u64.to_be_bytes());
    // The tags, which are ignored, and the length.
    long.extend([0xff; 8]);
    long.extend([0, 0, 1, 2]);
    assert_eq!(
        decoded(&long),
        Ok(write(0x0102_0304_0506_0708, 0x102, true, false))
    );
    // ATOMIC BOUNDARY, of either form, and WRPROTECT.
    assert_eq!(
        decoded(&hex("9c 00 00 00 00 00 00 00 00 10 00 08 00 08 00 00")),
        Err(bit(11, 3))
    );
    assert_eq!(
        decoded(&hex("9c 20 00 00 00 00 00 00 00 10 00 00 00 08 00 00")),
        Err(bit(1, 7))
    );
    let mut boundary = long.clone();
    boundary[5] = 2;
    assert_eq!(decoded(&boundary), Err(bit(5, 1)));
    let without = Features {
        write_atomic: false,
        ..ALL
    };
    assert_eq!(
        decode(&sixteen, &without).unwrap_err(),
        Sense::INVALID_OPERATION_CODE
    );

    let limits = BlockLimits {
        max_transfer: 64,
        max_atomic: 16,
        atomic_alignment: 4,
        atomic_granularity: 2,
        ..BlockLimits::default()
    };
    let check = |lba: u8, blocks: u8| {
        let mut cdb = sixteen.clone();
        (cdb[9], cdb[13]) = (lba, blocks);
        decode(&cdb, &ALL).unwrap().check(Blocks(100), &limits)
    };
    assert_eq!(check(16, 16), Ok(()));
    assert_eq!(check(16, 0), Ok(()));
    assert_eq!(check(16, 18), Err(byte(12)));
    assert_eq!(check(16, 3), Err(byte(12)));
    assert_eq!(check(18, 2), Err(byte(2)));
    assert_eq!(check(96, 16), Err(Sense::lba_out_of_range(100)));
    // What is not there need not be aligned.
    assert_eq!(check(101, 0), Err(Sense::lba_out_of_range(101)));
}

#[test]
fn scattered_writes() {
    let scattered = |offset, ranges, blocks, dpo, fua, at: [u8; 3]| {
        Ok(Command::Block(Block::WriteScattered(Scattered {
            offset,
            ranges,
            blocks,
            dpo,
            fua,
            at,
            tags: at[0] == 12,
        })))
    };
    let decoded = |cdb: &[u8]| decode(cdb, &ALL).map(|d| d.command);
    let sixteen = hex("9f 12 18 00 00 01 00 00 00 02 00 00 00 08 3f 00");
    assert_eq!(
        decoded(&sixteen),
        scattered(1, 2, 8, true, true, [4, 8, 10])
    );
    let mut long = hex("7f 00 00 00 00 00 00 18 00 11 08 00 00 01 00 00 00 02");
    long.resize(28, 0);
    long.extend([0, 0, 0, 8]);
    assert_eq!(
        decoded(&long),
        scattered(1, 2, 8, false, true, [12, 16, 28])
    );
    // WRPROTECT and a reserved bit of each form; the flags are not in byte 1.
    assert_eq!(
        decoded(&hex("9f 12 20 00 00 01 00 00 00 02 00 00 00 08 00 00")),
        Err(bit(2, 7))
    );
    assert_eq!(
        decoded(&hex("9f 12 00 01 00 01 00 00 00 02 00 00 00 08 00 00")),
        Err(bit(3, 0))
    );
    assert_eq!(
        decoded(&hex("9f 32 00 00 00 01 00 00 00 02 00 00 00 08 00 00")),
        Err(bit(1, 5))
    );
    assert_eq!(
        decoded(&hex("9f 13 00 00 00 01 00 00 00 02 00 00 00 08 00 00")),
        Err(bit(1, 4))
    );
    long[20] = 1;
    assert_eq!(decoded(&long), Err(bit(20, 0)));
    let without = Features {
        dpo_fua: false,
        ..ALL
    };
    assert_eq!(decode(&sixteen, &without).unwrap_err(), bit(2, 4));

    let command = decoded(&sixteen).unwrap();
    assert!(command.writes() && command.is_checked() && command.extent().is_none());
    assert_eq!(command.data(BlockSize::B4096).length, 8 * 4096);

    let limits = BlockLimits {
        max_transfer: 8,
        ..BlockLimits::default()
    };
    let check = |offset: u8, ranges: u8, blocks: u8| {
        let mut cdb = sixteen.clone();
        (cdb[5], cdb[9], cdb[13]) = (offset, ranges, blocks);
        decode(&cdb, &ALL).unwrap().check(Blocks(100), &limits)
    };
    assert_eq!(check(1, 2, 8), Ok(()));
    assert_eq!(check(8, 2, 8), Ok(()));
    assert_eq!(check(1, 2, 9), Err(byte(10)));
    assert_eq!(check(0, 2, 8), Err(byte(4)));
    assert_eq!(check(9, 2, 8), Err(byte(4)));
    // Nothing to do is no error.
    assert_eq!((check(0, 0, 8), check(0, 2, 0)), (Ok(()), Ok(())));
}

#[test]
fn scattered_lists() {
    let what = Scattered {
        offset: 1,
        ranges: 3,
        blocks: 8,
        dpo: false,
        fua: false,
        at: [4, 8, 10],
        tags: false,
    };
    let list = |runs: &[(u64, u32)]| {
        let mut list = vec![0; 32];
        for (lba, blocks) in runs {
            list.extend(lba.to_be_bytes());
            list.extend(blocks.to_be_bytes());
            list.resize(list.len() + 20, 0xff);
        }
        list
    };
    let check = |runs: &[(u64, u32)]| what.check_list(&list(runs), Blocks(100));
    assert_eq!(what.list(), 32 + 3 * 32);
    assert_eq!(check(&[(0, 4), (96, 3), (100, 0)]), Ok(()));
    // The same blocks twice are no error.
    assert_eq!(check(&[(5, 3), (5, 3), (5, 1)]), Ok(()));
    // More or fewer than there is data for.
    let length = Sense {
        key: Key::AbortedCommand,
        asc: Asc::PARAMETER_LIST_LENGTH,
        ..byte(10)
    };
    assert_eq!(check(&[(0, 4), (96, 3), (50, 1)]), Err(length));
    assert_eq!(check(&[(0, 8), (0, 0), (0, 0)]), Err(length));
    assert_eq!(check(&[(0, 4), (96, 2), (0, 0)]), Err(length));
    assert_eq!(
        check(&[(0, 1), (98, 3), (0, 0)]),
        Err(Sense::lba_out_of_range(100))
    );
    assert_eq!(
        check(&[(u64::MAX, 1), (0, 1), (0, 0)]),
        Err(Sense::lba_out_of_range(u64::MAX))
    );
    // Cut off.
    let whole = list(&[(0, 1), (1, 1), (2, 1)]);
    for short in 0..whole.len() {
        assert_eq!(
            what.check_list(&whole[..short], Blocks(100)),
            Err(Sense::PARAMETER_LIST_LENGTH)
        );
    }
    // 16 descriptors and the header would take 544 bytes.
    let room = |ranges, block| Scattered { ranges, ..what }.check_room(block);
    assert_eq!(room(15, 512), Ok(()));
    assert_eq!(room(16, 512), Err(byte(8)));
    assert_eq!(room(127, 4096), Ok(()));
    assert_eq!(room(128, 4096), Err(byte(8)));
    // Blocks that have protection information behind them.
    let room = |offset, ranges| {
        Scattered {
            offset,
            ranges,
            ..what
        }
        .check_room(520)
    };
    assert_eq!((room(1, 15), room(4, 64)), (Ok(()), Ok(())));
    assert_eq!((room(1, 16), room(4, 65)), (Err(byte(8)), Err(byte(8))));
}

/// With protection information, whose tags CDBs of 32 bytes expect: those of WRITE SCATTERED in its list.
#[test]
fn protected_writes() {
    let with = |of| Features {
        protection: Type::new(of),
        ..ALL
    };
    let atomic = hex("9c a0 00 00 00 00 00 00 00 10 00 00 00 08 00 00");
    let mut atomic_32 = hex("7f 00 00 00 00 00 00 18 00 0f a0 00");
    atomic_32.extend(hex(
        "00 00 00 00 00 00 00 10 01 02 03 04 05 06 07 08 00 00 00 08",
    ));
    let runs = hex("9f 12 a0 00 00 01 00 00 00 02 00 00 00 08 00 00");
    let mut runs_32 = hex("7f 00 00 00 00 00 00 18 00 11 a0 00 00 01 00 00 00 02");
    runs_32.resize(28, 0);
    runs_32.extend([0, 0, 0, 8]);
    let tags = Tags {
        reference: 0x0102_0304,
        application: 0x0506,
        mask: 0x0708,
    };
    for (of, short) in [(1, true), (2, false), (3, true)] {
        let fields = |cdb: &[u8]| decode(cdb, &with(of)).map(|d| (d.protect.code, d.protect.tags));
        let length = |cdb: &[u8]| decode(cdb, &with(of)).unwrap().data(BlockSize::B512).length;
        let refused = Err(Sense::INVALID_OPERATION_CODE);
        let (here, there) = if short {
            ([&atomic, &runs], [&atomic_32, &runs_32])
        } else {
            ([&atomic_32, &runs_32], [&atomic, &runs])
        };
        let expected = (!short).then_some(tags);
        assert_eq!(fields(here[0]), Ok((0b101, expected)));
        assert_eq!(fields(here[1]), Ok((0b101, None)));
        assert_eq!((length(here[0]), length(here[1])), (8 * 520, 8 * 520));
        for cdb in there {
            assert_eq!(fields(cdb), refused.clone());
        }
        // Nothing is transferred: the shorter ones are for all types.
        for (cdb, at) in [(&atomic, 1), (&runs, 2)] {
            let mut cdb = cdb.clone();
            cdb[at] = 0;
            assert_eq!(fields(&cdb), Ok((0, None)));
            assert_eq!(length(&cdb), 8 * 512);
        }
        // Reserved values, where the field is.
        for (cdb, at) in [(&atomic, 1), (&runs, 2)].into_iter().filter(|_| short) {
            let mut cdb = cdb.clone();
            cdb[at] = 0xc0;
            assert_eq!(fields(&cdb), Err(bit(at as u16, 7)));
        }
        for cdb in [&atomic_32, &runs_32].into_iter().filter(|_| !short) {
            let mut cdb = cdb.clone();
            cdb[10] = 0xe0;
            assert_eq!(fields(&cdb), Err(bit(10, 7)));
        }
    }
    // Without atomic writes there is none of either form, whatever the type.
    for of in 0..4 {
        let features = Features {
            write_atomic: false,
            ..with(of)
        };
        assert!(decode(&atomic, &features).is_err() && decode(&atomic_32, &features).is_err());
    }
    let mut descriptor = hex("00 00 00 00 00 00 00 64 00 00 00 03 01 02 03 04 05 06 07 08");
    descriptor.resize(32, 0);
    assert_eq!(scattered::extent(&descriptor), Some(Extent::new(100, 3)));
    assert_eq!(scattered::tags(&descriptor), Some(tags));
}

/// A run has tags of its own, which go on with its blocks.
#[test]
fn protection_of_runs() {
    let rules = |of| Protection {
        of: Type::new(of).unwrap(),
        fields: Fields {
            code: 1,
            ..Fields::default()
        },
        first: 0,
        checks_medium: true,
        unless_zero: false,
        owned: of == 2,
        ranges: None,
    };
    let tags = Some(Tags {
        reference: 0xffff_fffe,
        application: 0x1200,
        mask: 0xff00,
    });
    let tuple = |reference| Tuple {
        guard: 9,
        application: 0x12ab,
        reference,
    };
    let one = rules(1).of_run(0x1_0000_0005, tags, 3);
    assert_eq!((one.first, one.fields.tags), (0x1_0000_0008, None));
    assert_eq!(one.check(one.received(), 1, tuple(9), 9), Ok(()));
    assert_eq!(one.generate(0, 7).reference, 8);
    let two = rules(2).of_run(5, tags, 3);
    assert_eq!(two.check(two.received(), 1, tuple(2), 9), Ok(()));
    assert_eq!(
        two.check(two.received(), 0, tuple(2), 9),
        Err(Failed::Reference)
    );
    let other = Tuple {
        application: 0x1300,
        ..tuple(1)
    };
    assert_eq!(
        two.check(two.received(), 0, other, 9),
        Err(Failed::Application)
    );
    // The next run has nothing of it.
    let next = two.of_run(50, None, 0);
    assert_eq!((next.first, next.fields.tags), (50, None));
}
