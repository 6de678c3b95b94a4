// SPDX-License-Identifier: GPL-2.0

//! The UNMAP parameter list against SBC-3, 5.28, read with unlimited numbers.
// fuzz: -max_len=1024

#![no_main]

use libfuzzer_sys::fuzz_target;
use lio_fuzz::{
    field::{be16, be32, be64},
    Input,
};
use lio_scsi::{
    lba::Blocks,
    sense::{Asc, FieldPointer, Sense, Specific},
    unmap::List,
    vpd::BlockLimits,
};

#[derive(Debug, PartialEq)]
enum Verdict {
    Unmap(Vec<(u64, u32)>),
    ListLength,
    /// INVALID FIELD IN PARAMETER LIST, at this byte.
    Field(usize),
    Lba,
}

fn model(list: &[u8], capacity: u64, most_blocks: u32, most_descriptors: u32) -> Verdict {
    if list.is_empty() {
        return Verdict::Unmap(vec![]);
    }
    if list.len() < 8 {
        return Verdict::ListLength;
    }
    // Only whole descriptors, that the list has and that its header announces.
    let count = (be16(list, 2) / 16).min((list.len() - 8) / 16);
    if count as u64 > u64::from(most_descriptors) {
        return Verdict::Field(2);
    }
    let mut extents = vec![];
    let mut total = 0u128;
    for at in (0..count).map(|i| 8 + i * 16) {
        let (lba, blocks) = (be64(list, at), be32(list, at + 8));
        total += u128::from(blocks);
        if total > u128::from(most_blocks) {
            return Verdict::Field(at + 8);
        }
        if u128::from(lba) + u128::from(blocks) > u128::from(capacity) {
            return Verdict::Lba;
        }
        extents.push((lba, blocks));
    }
    Verdict::Unmap(extents)
}

fuzz_target!(|input: &[u8]| {
    let mut input = Input::new(input);
    let capacity = input.number();
    let limits = BlockLimits {
        max_unmap_blocks: input.number32(),
        max_unmap_descriptors: input.number32(),
        ..BlockLimits::default()
    };
    let list = input.rest();
    let expected = model(
        list,
        capacity,
        limits.max_unmap_blocks,
        limits.max_unmap_descriptors,
    );
    let verdict = match List::parse(list, Blocks(capacity), &limits) {
        Ok(list) => Verdict::Unmap(
            list.extents()
                .map(|extent| (extent.lba.0, u32::try_from(extent.blocks.0).unwrap()))
                .collect(),
        ),
        Err(Sense::PARAMETER_LIST_LENGTH) => Verdict::ListLength,
        Err(sense) if sense.asc == Asc::LBA_OUT_OF_RANGE => Verdict::Lba,
        Err(Sense {
            specific:
                Specific::Field(FieldPointer {
                    in_cdb: false,
                    byte,
                    bit: None,
                }),
            ..
        }) => Verdict::Field(byte.into()),
        Err(sense) => panic!("{sense:?}"),
    };
    assert_eq!(verdict, expected);
});
