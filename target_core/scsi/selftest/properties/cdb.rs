// SPDX-License-Identifier: GPL-2.0

//! CDBs as an initiator writes them: each is decoded to what was meant, and would be written the same again.

use super::super::{hostile::Random, ALL};
use super::ROUNDS;
use crate::{
    cdb::{decode, Command, Compare, Transfer},
    inquiry::Page,
    lba::{Extent, Lba},
    luns::Select,
    mode::{self, PageControl},
    opcode::{self, Reporting},
};
use std::{vec, vec::Vec};

/// Writes the CDB of a command with an address, in the form with `length` bytes (SBC-3, clause 5).
fn emit(command: &Command, length: usize) -> Vec<u8> {
    let mut cdb = vec![0; length];
    // Those of 32 bytes have a service action and their flags elsewhere.
    let opcode = |by_length: [u8; 4]| {
        by_length[[6, 10, 12, 16]
            .iter()
            .position(|l| *l == length)
            .unwrap_or(0)]
    };
    let flags = |t: &Transfer| (u8::from(t.dpo) << 4) | (u8::from(t.fua) << 3);
    let extent = match command {
        Command::Read(t) => {
            (cdb[0], cdb[1]) = (opcode([0x08, 0x28, 0xa8, 0x88]), flags(t));
            t.extent
        }
        Command::Write(t) => {
            (cdb[0], cdb[1]) = (opcode([0x0a, 0x2a, 0xaa, 0x8a]), flags(t));
            t.extent
        }
        Command::CompareAndWrite(t) => {
            (cdb[0], cdb[1]) = (0x89, flags(t));
            cdb[2..10].copy_from_slice(&t.extent.lba.0.to_be_bytes());
            cdb[13] = t.extent.blocks.0 as u8;
            return cdb;
        }
        Command::Verify {
            extent,
            compare,
            dpo,
        } => {
            let compare = match compare {
                Compare::Nothing => 0,
                Compare::Data => 0x02,
                Compare::OneBlock => 0x06,
            };
            (cdb[0], cdb[1]) = (opcode([0, 0x2f, 0, 0x8f]), (u8::from(*dpo) << 4) | compare);
            *extent
        }
        Command::SynchronizeCache { extent, immediate } => {
            (cdb[0], cdb[1]) = (opcode([0, 0x35, 0, 0x91]), u8::from(*immediate) << 1);
            *extent
        }
        Command::WriteSame {
            extent,
            unmap,
            no_data,
        } => {
            (cdb[0], cdb[1]) = (
                opcode([0, 0x41, 0, 0x93]),
                (u8::from(*unmap) << 3) | u8::from(*no_data),
            );
            *extent
        }
        other => panic!("{other:?}"),
    };
    let (lba, blocks) = (extent.lba.0.to_be_bytes(), extent.blocks.0.to_be_bytes());
    if length == 32 {
        let action = match command {
            Command::Read(_) => 0x09,
            Command::Write(_) => 0x0b,
            other => panic!("{other:?}"),
        };
        cdb[10] = cdb[1];
        (cdb[0], cdb[1], cdb[7], cdb[9]) = (0x7f, 0, 0x18, action);
        cdb[12..20].copy_from_slice(&lba);
        cdb[28..].copy_from_slice(&blocks[4..]);
        return cdb;
    }
    match length {
        6 => {
            cdb[1..4].copy_from_slice(&lba[5..]);
            cdb[4] = blocks[7];
        }
        10 => {
            cdb[2..6].copy_from_slice(&lba[4..]);
            cdb[7..9].copy_from_slice(&blocks[6..]);
        }
        12 => {
            cdb[2..6].copy_from_slice(&lba[4..]);
            cdb[6..10].copy_from_slice(&blocks[4..]);
        }
        _ => {
            cdb[2..10].copy_from_slice(&lba);
            cdb[10..14].copy_from_slice(&blocks[4..]);
        }
    }
    cdb
}

#[test]
fn cdbs() {
    let mut random = Random(11);
    for _ in 0..ROUNDS {
        let kind = random.below(6);
        // Which forms there are, and how large their fields.
        let length = match kind {
            0 | 1 => [6, 10, 12, 16, 32][random.below(5) as usize],
            5 => 16,
            _ => [10, 16][random.below(2) as usize],
        };
        let (lba_bits, block_bits) = match length {
            6 => (21, 8),
            10 => (32, 16),
            12 => (32, 32),
            _ => (64, if kind == 5 { 8 } else { 32 }),
        };
        let lba = random.number() >> (64 - lba_bits);
        let mut blocks = random.next() >> (64 - block_bits) >> random.below(block_bits);
        if length == 6 && blocks == 0 {
            // What 0 means there.
            blocks = 256;
        }
        let extent = Extent::new(lba, blocks);
        let flags = length > 6;
        let transfer = Transfer {
            extent,
            dpo: flags && random.bool(),
            fua: flags && random.bool(),
        };
        let command = match kind {
            0 => Command::Read(transfer),
            1 => Command::Write(transfer),
            2 => Command::Verify {
                extent,
                compare: [Compare::Nothing, Compare::Data, Compare::OneBlock]
                    [random.below(3) as usize],
                dpo: random.bool(),
            },
            3 => Command::SynchronizeCache {
                extent,
                immediate: random.bool(),
            },
            4 if blocks == 0 => continue,
            4 => Command::WriteSame {
                extent,
                unmap: random.bool(),
                no_data: length == 16 && random.bool(),
            },
            _ => Command::CompareAndWrite(transfer),
        };
        let cdb = emit(&command, length);
        let decoded = decode(&cdb, &ALL).unwrap();
        assert_eq!(decoded.command, command);
        assert_eq!(
            emit(&decoded.command, usize::from(decoded.descriptor.length)),
            cdb
        );
    }
}

/// Writes the CDB of any other command (SPC-4, clause 6; SBC-3, clause 5).
fn emit_parameters(command: &Command) -> Vec<u8> {
    fn cdb(length: usize, parts: &[(usize, &[u8])]) -> Vec<u8> {
        let mut cdb = vec![0; length];
        for (at, bytes) in parts {
            cdb[*at..*at + bytes.len()].copy_from_slice(bytes);
        }
        cdb
    }
    let short = |length: u32| (length as u16).to_be_bytes();
    match *command {
        Command::TestUnitReady => cdb(6, &[]),
        Command::RequestSense {
            descriptor,
            allocation,
        } => cdb(
            6,
            &[(0, &[0x03, descriptor.into()]), (4, &[allocation as u8])],
        ),
        Command::Inquiry { page, allocation } => {
            let page = match page {
                Page::Standard => [0, 0],
                Page::Vpd(code) => [1, code],
            };
            cdb(6, &[(0, &[0x12]), (1, &page), (3, &short(allocation))])
        }
        Command::ModeSense {
            request: r,
            allocation,
        } => {
            let flags = (u8::from(r.long_lba) << 4) | (u8::from(r.no_block_descriptors) << 3);
            let page = ((r.control as u8) << 6) | r.page;
            match r.ten {
                true => cdb(
                    10,
                    &[
                        (0, &[0x5a, flags, page, r.subpage]),
                        (7, &short(allocation)),
                    ],
                ),
                false => cdb(6, &[(0, &[0x1a, flags, page, r.subpage, allocation as u8])]),
            }
        }
        Command::ReadCapacity10 => cdb(10, &[(0, &[0x25])]),
        Command::ReadCapacity16 { allocation } => {
            cdb(16, &[(0, &[0x9e, 0x10]), (10, &allocation.to_be_bytes())])
        }
        Command::ReportLuns { select, allocation } => cdb(
            12,
            &[
                (0, &[0xa0]),
                (2, &[select as u8]),
                (6, &allocation.to_be_bytes()),
            ],
        ),
        Command::ReportTargetPortGroups {
            extended,
            allocation,
        } => {
            let format = if extended { 0x20 } else { 0 };
            cdb(
                12,
                &[(0, &[0xa3, 0x0a | format]), (6, &allocation.to_be_bytes())],
            )
        }
        Command::SetTargetPortGroups { list_length } => {
            cdb(12, &[(0, &[0xa4, 0x0a]), (6, &list_length.to_be_bytes())])
        }
        Command::ReportReferrals {
            lba,
            one_segment,
            allocation,
        } => cdb(
            16,
            &[
                (0, &[0x9e, 0x13]),
                (2, &lba.0.to_be_bytes()),
                (10, &allocation.to_be_bytes()),
                (14, &[u8::from(one_segment)]),
            ],
        ),
        Command::ReportSupportedOperationCodes {
            request,
            allocation,
        } => {
            let (option, opcode, action) = match request.reporting {
                Reporting::All => (0, 0, 0),
                Reporting::Opcode(opcode) => (1, opcode, 0),
                Reporting::ServiceAction(opcode, action) => (2, opcode, action),
                Reporting::Either(opcode, action) => (3, opcode, action),
            };
            let options = (u8::from(request.timeouts) << 7) | option;
            cdb(
                12,
                &[
                    (0, &[0xa3, 0x0c, options, opcode]),
                    (4, &short(action.into())),
                    (6, &allocation.to_be_bytes()),
                ],
            )
        }
        Command::Unmap { list_length } => cdb(10, &[(0, &[0x42]), (7, &list_length.to_be_bytes())]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn other_cdbs() {
    let mut random = Random(16);
    for _ in 0..ROUNDS {
        let ten = random.bool();
        let most = |bits: u32, random: &mut Random| (random.next() >> (64 - bits)) as u32;
        let (opcode, action) = (random.next() as u8, random.next() as u16);
        let command = match random.below(12) {
            0 => Command::TestUnitReady,
            1 => Command::RequestSense {
                descriptor: random.bool(),
                allocation: most(8, &mut random),
            },
            2 => Command::Inquiry {
                page: [Page::Standard, Page::Vpd(opcode)][usize::from(ten)],
                allocation: most(16, &mut random),
            },
            3 => Command::ModeSense {
                request: mode::Request {
                    ten,
                    long_lba: ten && random.bool(),
                    no_block_descriptors: random.bool(),
                    control: PageControl::new(opcode),
                    page: opcode & 0x3f,
                    subpage: action as u8,
                },
                allocation: most(if ten { 16 } else { 8 }, &mut random),
            },
            4 => Command::ReadCapacity10,
            5 => Command::ReadCapacity16 {
                allocation: most(32, &mut random),
            },
            6 => Command::ReportLuns {
                select: [Select::Units, Select::WellKnown, Select::All][random.below(3) as usize],
                allocation: most(32, &mut random),
            },
            7 => Command::ReportTargetPortGroups {
                extended: ten,
                allocation: most(32, &mut random),
            },
            8 => Command::ReportSupportedOperationCodes {
                request: opcode::Request {
                    reporting: match random.below(4) {
                        0 => Reporting::All,
                        1 => Reporting::Opcode(opcode),
                        2 => Reporting::ServiceAction(opcode, action),
                        _ => Reporting::Either(opcode, action),
                    },
                    timeouts: ten,
                },
                allocation: most(32, &mut random),
            },
            9 => Command::SetTargetPortGroups {
                list_length: random.below(u64::from(crate::alua::MAX_LIST) + 1) as u32,
            },
            10 => Command::ReportReferrals {
                lba: Lba(random.next()),
                one_segment: ten,
                allocation: most(32, &mut random),
            },
            _ => Command::Unmap {
                list_length: action,
            },
        };
        let cdb = emit_parameters(&command);
        let decoded = decode(&cdb, &ALL).unwrap();
        assert_eq!(decoded.command, command);
        assert_eq!(emit_parameters(&decoded.command), cdb);
    }
}
