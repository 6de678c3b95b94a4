// SPDX-License-Identifier: GPL-2.0

//! WRITE SCATTERED's list: what it says is written where SBC-4 says, from where the data is, or the whole list is refused.
// fuzz: -max_len=300

#![no_main]

use libfuzzer_sys::fuzz_target;
use lio_fuzz::{
    field::{be16, be32, be64},
    Input,
};
use lio_scsi::{
    block::scattered::{descriptors, extent, extents, tags, Scattered, DESCRIPTOR, HEADER},
    lba::Blocks,
    sense::{Asc, Key, Sense, Specific},
};

/// ABORTED COMMAND, PARAMETER LIST LENGTH ERROR, pointing to BUFFER TRANSFER LENGTH.
fn length_error(result: Result<(), Sense>) {
    let sense = result.unwrap_err();
    assert_eq!(
        (sense.key, sense.asc),
        (Key::AbortedCommand, Asc::PARAMETER_LIST_LENGTH)
    );
    let Specific::Field(field) = sense.specific else {
        panic!("no field pointer: {sense:?}");
    };
    assert!(field.in_cdb && field.byte == 10 && field.bit.is_none());
}

fuzz_target!(|input: &[u8]| {
    let mut input = Input::new(input);
    let what = Scattered {
        offset: input.u16() % 40,
        ranges: input.u16() % 9,
        blocks: input.number32(),
        dpo: false,
        fua: false,
        at: [4, 8, 10],
        tags: false,
    };
    let capacity = input.number();
    let list = input.rest();

    // SBC-4, 5.55.2: a header and descriptors of 32 bytes each.
    let (header, one) = (32, 32);
    assert_eq!((HEADER, DESCRIPTOR), (header, one));
    let whole = header + one * usize::from(what.ranges);
    assert_eq!(what.list(), whole);
    // With and without protection information behind each block.
    for block in [512, 520, 4096, 4104] {
        let room = usize::from(what.offset) * block as usize;
        assert_eq!(what.check_room(block).is_ok(), whole <= room);
    }

    let result = what.check_list(list, Blocks(capacity));
    // The first thing that is wrong is what is told.
    let mut left = i128::from(what.blocks.saturating_sub(what.offset.into()));
    for index in 0..usize::from(what.ranges) {
        let at = header + one * index;
        if list.len() < at + one {
            assert_eq!(result, Err(Sense::PARAMETER_LIST_LENGTH));
            return;
        }
        let (lba, blocks) = (be64(list, at), be32(list, at + 8));
        let got = extent(&list[at..at + one]).unwrap();
        assert_eq!((got.lba.0, got.blocks.0), (lba, u64::from(blocks)));
        let got = tags(&list[at..at + one]).unwrap();
        assert_eq!(got.reference, be32(list, at + 12));
        assert_eq!(usize::from(got.application), be16(list, at + 16));
        assert_eq!(usize::from(got.mask), be16(list, at + 18));
        assert_eq!(descriptors(list).nth(index), Some(&list[at..at + one]));
        if u128::from(lba) + u128::from(blocks) > u128::from(capacity) {
            assert_eq!(result, Err(Sense::lba_out_of_range(lba.max(capacity))));
            return;
        }
        left -= i128::from(blocks);
        if left < 0 {
            return length_error(result);
        }
    }
    if left != 0 {
        return length_error(result);
    }
    assert_eq!(result, Ok(()));
    assert!(extents(list).count() >= usize::from(what.ranges));
});
