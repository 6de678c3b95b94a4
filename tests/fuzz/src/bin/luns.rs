// SPDX-License-Identifier: GPL-2.0

//! LUNs and REPORT LUNS: SAM-5, 4.7.7 and SPC-4, 6.33.
// fuzz: -max_len=128

#![no_main]

use libfuzzer_sys::fuzz_target;
use lio_fuzz::{field::be32, written, Input};
use lio_scsi::{
    lun::Lun,
    luns::{self, Select},
};

/// SAM-5, 4.7.7.1: the number that one level of a LUN addresses, by ADDRESS METHOD; the rest must be zero.
fn model(wire: [u8; 8]) -> Option<u16> {
    let number = u64::from_be_bytes(wire);
    let first = (number >> 48) as u16;
    match number >> 62 {
        // Peripheral device: the bus identifier counts as part of the number. Flat space.
        0 | 1 if number << 16 == 0 => Some(first & 0x3fff),
        // Extended flat space, LENGTH 01b, EXTENDED ADDRESS METHOD 2h: three bytes, of which two are enough here.
        3 if number >> 56 == 0xd2 && number << 32 == 0 && first & 0xff == 0 => {
            Some((number >> 32) as u16)
        }
        _ => None,
    }
}

fuzz_target!(|input: &[u8]| {
    let mut input = Input::new(input);
    let wire: [u8; 8] = input.array();
    let parsed = Lun::parse(wire);
    assert_eq!(parsed.map(|lun| lun.0), model(wire));
    if let Some(lun) = parsed {
        assert_eq!(Lun::parse(lun.to_bytes()), Some(lun));
    }

    let short = usize::from(input.u8());
    let Some(select) = Select::new(input.u8()) else {
        return;
    };
    let mut list = vec![];
    while !input.is_empty() {
        list.push(Lun(input.u16()));
    }
    let bytes = written(luns::length(list.len().max(1)), short, |out| {
        luns::write(select, list.iter().copied(), out);
    });
    assert_eq!(be32(&bytes, 0) as usize + 8, bytes.len());
    let mut reported: Vec<_> = bytes[8..]
        .chunks_exact(8)
        .map(|wire| Lun::parse(wire.try_into().unwrap()).unwrap())
        .collect();
    match select {
        Select::WellKnown => assert!(reported.is_empty()),
        _ if list.is_empty() => assert_eq!(reported, [Lun(0)]),
        _ => {
            assert_eq!(reported, list);
            reported.sort();
        }
    }
});
