// SPDX-License-Identifier: GPL-2.0

//! Bytes from an initiator that wishes us ill: nothing may panic, and no answer may be longer than it says.

use super::ALL;
use crate::{
    bytes::Writer,
    cdb::{decode, Command, Features},
    lba::{BlockSize, Blocks},
    lun::Lun,
    opcode,
    sense::{Format, Key, Specific},
    unmap::List,
    vpd::BlockLimits,
};

/// A small generator (xorshift), so that a failure comes again.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(super) fn fill(&mut self, bytes: &mut [u8]) {
        // Zeros are frequent, as otherwise each CDB fails at its first reserved bit.
        let dense = self.next() % 4;
        for byte in bytes {
            *byte = if self.next() % 4 < dense {
                self.next() as u8
            } else {
                0
            };
        }
    }
}

const ROUNDS: u32 = if cfg!(miri) { 2_000 } else { 300_000 };

#[test]
fn cdbs() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let limits = BlockLimits {
        max_transfer: 1,
        ..BlockLimits::default()
    };
    let mut understood = 0;
    for _ in 0..ROUNDS {
        let mut cdb = [0; 40];
        random.fill(&mut cdb);
        if random.next() % 2 == 0 {
            let row = &opcode::TABLE[random.next() as usize % opcode::TABLE.len()];
            cdb[0] = row.opcode;
            match row.service_action {
                Some(action) if row.opcode == opcode::VARIABLE => {
                    cdb[7] = row.length - 8;
                    cdb[8..10].copy_from_slice(&action.to_be_bytes());
                }
                Some(action) => cdb[1] = action as u8,
                None => {}
            }
        }
        let length = random.next() as usize % (cdb.len() + 1);
        let features = if random.next() % 2 == 0 {
            ALL
        } else {
            Features::default()
        };
        match decode(&cdb[..length], &features) {
            Ok(decoded) => {
                understood += 1;
                decoded.command.data(BlockSize::B4096);
                for capacity in [0, 1, u64::from(u32::MAX), u64::MAX] {
                    let _ = decoded.check(Blocks(capacity), &limits);
                }
                if let Command::ReportSupportedOperationCodes { request, .. } = decoded.command {
                    let mut buf = [0; 600];
                    let _ = opcode::report(&request, &features, &mut Writer::new(&mut buf));
                }
            }
            Err(sense) => {
                assert_eq!(sense.key, Key::IllegalRequest);
                if let Specific::Field(field) = sense.specific {
                    assert!(field.in_cdb && field.byte <= 32);
                }
                assert_eq!(sense.encode(Format::Fixed).as_slice().len(), 18);
            }
        }
    }
    assert!(understood > ROUNDS / 100, "{understood}");
}

#[test]
fn parameter_lists() {
    let mut random = Random(1);
    let limits = BlockLimits {
        max_unmap_blocks: u32::MAX,
        max_unmap_descriptors: 2,
        ..BlockLimits::default()
    };
    for _ in 0..ROUNDS / 10 {
        let mut list = [0; 70];
        random.fill(&mut list);
        list[2] = 0;
        let length = random.next() as usize % (list.len() + 1);
        if let Ok(list) = List::parse(&list[..length], Blocks(1 << 40), &limits) {
            assert!(list.extents().count() <= 2);
            assert!(list
                .extents()
                .all(|extent| extent.check(Blocks(1 << 40)).is_ok()));
        }
    }
}

#[test]
fn luns() {
    let mut random = Random(2);
    for _ in 0..ROUNDS {
        let mut wire = [0; 8];
        random.fill(&mut wire);
        if let Some(lun) = Lun::parse(wire) {
            assert_eq!(Lun::parse(lun.to_bytes()), Some(lun));
        }
    }
}
