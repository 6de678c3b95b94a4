// SPDX-License-Identifier: GPL-2.0

//! WRITE ATOMIC and WRITE SCATTERED.

use super::{bit, byte, hex, ALL};
use crate::{
    block::{scattered::Scattered, Block},
    cdb::{decode, Command, Features, Transfer},
    lba::{BlockSize, Blocks, Extent},
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
    let scattered = |offset, ranges, blocks, dpo, fua, at| {
        Ok(Command::Block(Block::WriteScattered(Scattered {
            offset,
            ranges,
            blocks,
            dpo,
            fua,
            at,
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
    let room = |ranges, size| Scattered { ranges, ..what }.check_room(size);
    assert_eq!(room(15, BlockSize::B512), Ok(()));
    assert_eq!(room(16, BlockSize::B512), Err(byte(8)));
    assert_eq!(room(127, BlockSize::B4096), Ok(()));
    assert_eq!(room(128, BlockSize::B4096), Err(byte(8)));
}
