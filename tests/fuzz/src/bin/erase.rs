// SPDX-License-Identifier: GPL-2.0

//! Parameter lists of FORMAT UNIT and SANITIZE: they are read as SBC-4 lays them out, or refused with a pointer into them; what a
//! block is overwritten with is the pattern. And what a back end says of its blocks becomes whole blocks, none of them lost.
// fuzz: -max_len=64

#![no_main]

use libfuzzer_sys::fuzz_target;
use lio_fuzz::{field::be16, Input};
use lio_scsi::{
    block::{
        erase::{progress, Format, Overwrite},
        whole_blocks, Condition,
    },
    lba::BlockSize,
    sense::{Asc, Key, Sense, Specific},
};

fn refused(sense: Sense, list: &[u8]) {
    assert_eq!(sense.key, Key::IllegalRequest);
    match sense.asc {
        Asc::PARAMETER_LIST_LENGTH => {}
        Asc::INVALID_FIELD_IN_PARAMETER_LIST => {
            let Specific::Field(at) = sense.specific else {
                panic!("no field pointer: {sense:?}");
            };
            assert!(!at.in_cdb && usize::from(at.byte) < list.len());
        }
        _ => panic!("{sense:?}"),
    }
}

/// SBC-4, 5.5.2: FMTDATA is one, and the header has all that there may be.
fn format(list: &[u8], long: bool, protection: u8) {
    let header = if long { 8 } else { 4 };
    let got = Format {
        list: Some(long),
        protection,
    }
    .parse(list);
    let Some(head) = list.get(..header) else {
        assert_eq!(got, Err(Sense::PARAMETER_LIST_LENGTH));
        return;
    };
    let (fov, options, immed) = (head[1] & 0x80 != 0, head[1] & 0x70, head[1] & 2 != 0);
    // FMTPINFO and PROTECTION FIELD USAGE (SBC-4, table 44)
    let of = match (protection, head[0]) {
        (0, 0) => Some(0),
        (2, 0) => Some(1),
        (3, n @ (0 | 1)) => Some(2 + u32::from(n)),
        _ => None,
    };
    let plain = of.is_some() && head[1] & 0x0d == 0 && head[2..].iter().all(|b| *b == 0);
    match got {
        Ok(got) => {
            assert!(plain && (fov || options == 0));
            assert_eq!(got.immediate, immed);
            assert_eq!(got.protection.map_or(0, |of| of as u32), of.unwrap());
        }
        Err(sense) => {
            assert!(!plain || !fov && options != 0);
            refused(sense, list);
        }
    }
}

/// SBC-4, 5.27.2.2
fn overwrite(list: &[u8], size: BlockSize) {
    let block = size.bytes() as usize;
    match Overwrite::parse(list, size) {
        Ok(got) => {
            let length = be16(list, 2);
            assert_eq!(got.pattern, &list[4..4 + length]);
            assert!((1..=block).contains(&length));
            assert_eq!((got.passes, got.invert), (list[0] & 31, list[0] & 128 != 0));
            assert!(got.passes > 0 && list[0] & 0x60 == 0 && list[1] == 0);
            let mut filled = vec![0; block];
            for pass in 0..2 {
                got.fill(pass, &mut filled);
                let mask = if got.invert && pass == 1 { 255 } else { 0 };
                for (at, byte) in filled.iter().enumerate() {
                    assert_eq!(*byte, list[4 + at % length] ^ mask);
                }
            }
        }
        Err(sense) => refused(sense, list),
    }
}

fuzz_target!(|input: &[u8]| {
    let mut input = Input::new(input);
    let size = BlockSize::new([512, 1024, 2048, 4096][input.below(4)]).unwrap();
    let block = u64::from(size.bytes());

    let (mapped, bytes) = (input.u8() & 1 != 0, input.number().max(1));
    let left = (input.number() / block).max(1) * block;
    let (is_mapped, whole) = whole_blocks(mapped, bytes, left, size);
    assert!(whole > 0 && whole <= left && whole % block == 0);
    if is_mapped {
        // Nothing mapped is left out; a part of a block makes the block mapped.
        assert!(if mapped {
            whole >= bytes.min(left)
        } else {
            bytes < block && whole == block
        });
    } else {
        assert!(!mapped && whole <= bytes);
    }

    let (done, all) = (input.number(), input.number());
    let now = progress(done, all);
    if all != 0 {
        let exact = (u128::from(done.min(all)) << 16) / u128::from(all);
        assert!(u128::from(now).abs_diff(exact) <= 1);
    }

    let bits = input.number32();
    let condition = Condition::unpack(bits);
    assert_eq!(Condition::unpack(condition.pack()), condition);

    let protection = [0, 2, 3][input.below(3)];
    let list = input.rest();
    format(list, false, protection);
    format(list, true, protection);
    overwrite(list, size);
});
