// SPDX-License-Identifier: GPL-2.0

//! The parameter lists of POPULATE TOKEN and WRITE USING TOKEN, read as SBC-3, 5.7 and 5.49 lay them out or refused; and where the
//! bytes of a ROD are, found one by one.
// fuzz: -max_len=1700

#![no_main]

use libfuzzer_sys::fuzz_target;
use lio_fuzz::{
    field::{be16, be32, be64},
    Input,
};
use lio_scsi::{
    copy::token::{
        locate, span, Kind, Populate, WriteUsing, ACCESS_UPON_REFERENCE, BLOCK_ZERO,
        DEFAULT_TIMEOUT, MAX_BYTES, MAX_RANGES, MAX_TIMEOUT,
    },
    lba::{BlockSize, Blocks, Extent},
    sense::{Asc, Key, Sense, Specific},
};

/// The ranges behind the length at `at`; `None`: they are not to be accepted.
fn ranges(list: &[u8], at: usize, size: u64, capacity: u64) -> Option<Vec<(u64, u32)>> {
    let length = be16(list, at);
    if length == 0 || length % 16 != 0 || length / 16 > MAX_RANGES {
        return None;
    }
    let bytes = list.get(at + 2..at + 2 + length)?;
    let all: Vec<_> = bytes.chunks(16).map(|d| (be64(d, 0), be32(d, 8))).collect();
    let end = |(lba, n): (u64, u32)| u128::from(lba) + u128::from(n);
    let fit = all.iter().all(|r| end(*r) <= capacity.into());
    let apart = all.iter().enumerate().all(|(i, a)| {
        let apart =
            |b: &(u64, u32)| a.1 == 0 || b.1 == 0 || end(*a) <= b.0.into() || end(*b) <= a.0.into();
        all[..i].iter().all(apart)
    });
    let total: u128 = all.iter().map(|r| u128::from(r.1) * u128::from(size)).sum();
    (fit && apart && total <= MAX_BYTES.into()).then_some(all)
}

fn has(list: &[u8], least: usize) -> bool {
    list.len() >= least && be16(list, 0) + 2 >= least && list.len() >= be16(list, 0) + 2
}

fn same(got: impl Iterator<Item = Extent>, expected: &[(u64, u32)]) {
    let expected = expected
        .iter()
        .map(|(lba, n)| Extent::new(*lba, (*n).into()));
    assert!(got.eq(expected));
}

fn refused(sense: Sense, list: &[u8]) {
    assert_eq!(sense.key, Key::IllegalRequest);
    match sense.specific {
        Specific::Field(at) => {
            assert_eq!(sense.asc, Asc::INVALID_FIELD_IN_PARAMETER_LIST);
            assert!(!at.in_cdb && usize::from(at.byte) < list.len());
        }
        Specific::None => assert_ne!(sense.asc, Asc::INVALID_FIELD_IN_PARAMETER_LIST),
        other => panic!("{other:?}"),
    }
}

fn populate(list: &[u8], size: BlockSize, capacity: Blocks) {
    let model = || {
        if !has(list, 32) || list[2] & 2 != 0 && be32(list, 8) != ACCESS_UPON_REFERENCE {
            return None;
        }
        let timeout = match be32(list, 4) {
            0 => DEFAULT_TIMEOUT,
            timeout if timeout <= MAX_TIMEOUT => timeout,
            _ => return None,
        };
        Some((timeout, ranges(list, 14, size.bytes().into(), capacity.0)?))
    };
    match (Populate::parse(list, size, capacity), model()) {
        (Ok(got), Some((timeout, ranges))) => {
            assert_eq!(got.timeout, timeout);
            same(got.ranges.extents(), &ranges);
        }
        (Err(sense), None) => refused(sense, list),
        (got, model) => panic!("{got:?}, expected {model:?}"),
    }
}

fn write_using(list: &[u8], size: BlockSize, capacity: Blocks) {
    let model = || {
        if !has(list, 552) {
            return None;
        }
        let offset = be64(list, 8).checked_mul(size.bytes().into())?;
        let ranges = ranges(list, 534, size.bytes().into(), capacity.0)?;
        Some((offset, ranges))
    };
    match (WriteUsing::parse(list, size, capacity), model()) {
        (Ok(got), Some((offset, ranges))) => {
            assert_eq!((got.offset, got.delete), (offset, list[2] & 2 != 0));
            assert_eq!(got.token[..], list[16..528]);
            same(got.ranges.extents(), &ranges);
            assert_eq!(
                got.ranges.blocks(),
                ranges.iter().map(|r| u64::from(r.1)).sum::<u64>()
            );
            let kind = Kind::of(got.token);
            match (be32(list, 16), be16(list, 22)) {
                (BLOCK_ZERO, 0x1f8) => assert_eq!(kind, Ok(Kind::Zero)),
                (ACCESS_UPON_REFERENCE, 0x1f8) => {
                    assert_eq!(kind, Ok(Kind::Own(be64(list, 24))))
                }
                _ => refused(kind.unwrap_err(), list),
            }
        }
        (Err(sense), None) => refused(sense, list),
        (got, model) => panic!("{got:?}, expected {model:?}"),
    }
}

/// Spans put together are the ROD, byte by byte.
fn places(input: &mut Input<'_>) {
    let size = BlockSize::B512;
    let extents: Vec<_> = (0..input.below(6))
        .map(|_| Extent::new(input.below(1000) as u64, input.below(4) as u64))
        .collect();
    let rod: Vec<u64> = extents
        .iter()
        .flat_map(|e| e.lba.0 * 512..(e.lba.0 + e.blocks.0) * 512)
        .collect();
    let from = input.below(rod.len() + 1);
    let to = (1 << 20, input.below(rod.len() - from + 1) as u64);
    let mut done = 0;
    while done < to.1 {
        let at = locate(extents.iter().copied(), size, from as u64 + done).unwrap();
        let span = span(at, to, done).unwrap();
        assert!(span.len > 0 && span.to == to.0 + done && done + span.len <= to.1);
        let start = from + done as usize;
        let bytes = rod[start..start + span.len as usize].iter().copied();
        assert!(bytes.eq(span.from..span.from + span.len));
        done += span.len;
    }
    assert_eq!(locate(extents, size, rod.len() as u64), None);
}

fuzz_target!(|input: &[u8]| {
    let mut input = Input::new(input);
    let size = BlockSize::new([512, 1024, 2048, 4096][input.below(4)]).unwrap();
    let capacity = Blocks(input.number());
    match input.below(3) {
        0 => populate(input.rest(), size, capacity),
        1 => write_using(input.rest(), size, capacity),
        _ => places(&mut input),
    }
});
