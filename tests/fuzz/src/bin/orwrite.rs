// SPDX-License-Identifier: GPL-2.0

//! ORWRITE: several initiators with the generations that they know, against table 29 of SBC-4.
// fuzz: -max_len=400

#![no_main]

use libfuzzer_sys::fuzz_target;
use lio_fuzz::Input;
use lio_scsi::{
    block::{
        orwrite::{Generations, Operation, OrWrite, Verdict},
        Block,
    },
    cdb::{decode, Command, Features},
    sense::{Asc, Key},
};

/// A CDB of ORWRITE (16) or (32): SBC-4, tables 66 and 69.
fn cdb(wide: bool, bmop: u8, policy: u8, expected: u32, new: u32) -> Vec<u8> {
    if !wide {
        let mut cdb = vec![0; 16];
        (cdb[0], cdb[13]) = (0x8b, 1);
        return cdb;
    }
    let mut cdb = vec![0; 32];
    (cdb[0], cdb[2], cdb[3], cdb[7], cdb[9], cdb[31]) = (0x7f, bmop, policy, 0x18, 0x0e, 1);
    cdb[20..24].copy_from_slice(&expected.to_be_bytes());
    cdb[24..28].copy_from_slice(&new.to_be_bytes());
    cdb
}

fuzz_target!(|input: &[u8]| {
    let mut input = Input::new(input);
    let mut unit = Generations::new();
    // Current, previous, policy.
    let mut model = (0, 0, 7);
    while !input.is_empty() {
        let bits = input.u8();
        if bits & 0xf0 == 0xf0 {
            // A hard reset.
            (unit, model) = (Generations::new(), (0, 0, 7));
            continue;
        }
        let (wide, bmop, policy) = (bits & 1 != 0, bits >> 1 & 7, input.u8() & 0x0f);
        let (expected, new) = (u32::from(input.u8() % 4), u32::from(input.u8() % 4));
        let raw = cdb(wide, bmop, policy, expected, new);
        let (bmop, expected) = if wide { (bmop, expected) } else { (0, 0) };
        let reserved = bmop > 1 || bmop == 1 && !matches!(policy, 0 | 2 | 3 | 5 | 7);
        let command = match decode(&raw, &Features::default()) {
            Ok(decoded) => decoded.command,
            Err(sense) => {
                assert!(reserved && sense.asc == Asc::INVALID_FIELD_IN_CDB);
                continue;
            }
        };
        assert!(!reserved);
        let Command::Block(Block::OrWrite(what)) = command else {
            panic!("{command:?}");
        };
        check(&unit, &what, model, bmop, expected);
        for (old, new) in [(0x5a, 0x33), (0xff, 0), (0, 0xff)] {
            let both = if bmop == 0 { old | new } else { old & new };
            assert_eq!(what.operation.apply(old, new), both);
        }
        // Perhaps it fails at the medium.
        if unit.decide(&what) == Ok(Verdict::Perform) && bits & 0x40 == 0 {
            unit.performed(&what);
            if bmop == 1 {
                assert!(matches!(what.operation, Operation::Clear { .. }));
                model = (new, model.0, policy);
            }
        }
    }
});

/// Table 29, and 4.27.3 for the change of generations.
fn check(unit: &Generations, what: &OrWrite, model: (u32, u32, u8), bmop: u8, expected: u32) {
    let (current, previous, policy) = model;
    // Columns: the current one, the previous one, any other. P: perform, D: discard, C: refuse.
    let row = match policy {
        _ if bmop == 1 => "PCC",
        0 => "PPC",
        2 => "PDC",
        3 => "PPP",
        5 => "PDD",
        _ => "PCC",
    };
    let column = if expected == current {
        0
    } else if expected == previous {
        1
    } else {
        2
    };
    let got = match unit.decide(what) {
        Ok(Verdict::Perform) => "P",
        Ok(Verdict::Discard) => "D",
        Err(sense) => {
            assert_eq!(
                (sense.key, sense.asc.code, sense.asc.qualifier),
                (Key::IllegalRequest, 0x2c, 0x0c)
            );
            "C"
        }
    };
    assert_eq!(got, &row[column..=column], "{model:?} {what:?}");
}
