// SPDX-License-Identifier: GPL-2.0

//! CDBs: what is decoded is what SBC-3 and SPC-4 say that the bytes mean, what is refused is refused with sense data
//! that an initiator can use, and REPORT SUPPORTED OPERATION CODES knows exactly the commands that are decoded.
// fuzz: -max_len=64

#![no_main]

use libfuzzer_sys::fuzz_target;
use lio_fuzz::{
    field::{be16, be24, be32, be64},
    written, Input,
};
use lio_scsi::{
    cdb::{decode, Command, Compare, Data, Decoded, Direction, Features},
    lba::{BlockSize, Blocks},
    opcode::{self, Reporting, Request},
    pi,
    sense::{Asc, Key, Sense, Specific},
    vpd::BlockLimits,
};

/// A command as the standards lay it out: where its address, its number of blocks and its length field are, in bytes.
struct Layout {
    length: usize,
    lba: u64,
    blocks: u64,
}

/// The fields of the commands that address blocks (SBC-3, clause 5); `None` for others.
fn layout(cdb: &[u8]) -> Option<Layout> {
    let of = |length, lba, blocks| {
        Some(Layout {
            length,
            lba,
            blocks,
        })
    };
    match cdb[0] {
        0x08 | 0x0a => {
            let blocks = if cdb[4] == 0 { 256 } else { u64::from(cdb[4]) };
            of(6, u64::from(be24(cdb, 1) & 0x1f_ffff), blocks)
        }
        0x28 | 0x2a | 0x2e | 0x2f | 0x34 | 0x35 | 0x41 => {
            of(10, be32(cdb, 2).into(), be16(cdb, 7) as u64)
        }
        0xa8 | 0xaa | 0xae | 0xaf => of(12, be32(cdb, 2).into(), be32(cdb, 6).into()),
        0x88 | 0x8a | 0x8b | 0x8e | 0x8f | 0x90 | 0x91 | 0x93 => {
            of(16, be64(cdb, 2), be32(cdb, 10).into())
        }
        0x89 => of(16, be64(cdb, 2), cdb[13].into()),
        0x9c => of(16, be64(cdb, 2), be16(cdb, 12) as u64),
        // READ LONG and WRITE LONG are about one block.
        0x3e | 0x3f => of(10, be32(cdb, 2).into(), 1),
        0x9e if cdb[1] & 0x1f == 0x11 => of(16, be64(cdb, 2), 1),
        0x9f if cdb[1] & 0x1f == 0x11 => of(16, be64(cdb, 2), 1),
        // WRITE SCATTERED has its addresses in the data.
        0x7f if be16(cdb, 8) == 0x11 => None,
        // GET LBA STATUS: the first block at least is to be there.
        0x9e if cdb[1] & 0x1f == 0x12 => of(16, be64(cdb, 2), 1),
        0x7f if be16(cdb, 8) == 0x12 => of(32, be64(cdb, 12), 1),
        0x7f => of(32, be64(cdb, 12), be32(cdb, 28).into()),
        _ => None,
    }
}

/// The operation code, or that of the form of 16 bytes of a command of 32; and the byte with its flags.
fn kind(cdb: &[u8]) -> (u8, u8) {
    if cdb[0] != 0x7f {
        return (cdb[0], cdb[1]);
    }
    let like = match be16(cdb, 8) {
        0x09 => 0x88,
        0x0a => 0x8f,
        0x0b => 0x8a,
        0x0c => 0x8e,
        0x0d => 0x93,
        0x0e => 0x8b,
        0x0f => 0x9c,
        0x11 => 0x9f,
        0x12 => 0x9e,
        _ => 0xff,
    };
    (like, cdb[10])
}

/// What a decoded command transfers (SPC-4 and SBC-3, the clause of each).
fn data(cdb: &[u8], block: u64) -> (Direction, u64) {
    let blocks = layout(cdb).map_or(0, |l| l.blocks);
    let (opcode, flags) = kind(cdb);
    let (direction, length) = match opcode {
        0x08 | 0x28 | 0xa8 | 0x88 => (Direction::In, blocks * block),
        0x0a | 0x2a | 0xaa | 0x8a => (Direction::Out, blocks * block),
        0x2e | 0xae | 0x8e | 0x8b => (Direction::Out, blocks * block),
        0x9c => (Direction::Out, blocks * block),
        0x9f if cdb[0] == 0x9f && cdb[1] & 0x1f == 0x11 => (Direction::None, 0),
        // NUMBER OF LBA RANGE DESCRIPTORS, BUFFER TRANSFER LENGTH
        0x9f if be16(cdb, if cdb[0] == 0x7f { 16 } else { 8 }) == 0 => (Direction::None, 0),
        0x9f if cdb[0] == 0x7f => (Direction::Out, u64::from(be32(cdb, 28)) * block),
        0x9f => (Direction::Out, u64::from(be32(cdb, 10)) * block),
        0x89 => (Direction::Out, 2 * blocks * block),
        // BYTCHK
        0x2f | 0xaf | 0x8f => match flags >> 1 & 3 {
            0 => (Direction::None, 0),
            1 => (Direction::Out, blocks * block),
            _ => (Direction::Out, if blocks == 0 { 0 } else { block }),
        },
        // NDOB
        0x41 => (Direction::Out, block),
        0x93 => (Direction::Out, if flags & 1 == 0 { block } else { 0 }),
        0x42 => (Direction::Out, be16(cdb, 7) as u64),
        0x03 | 0x1a => (Direction::In, cdb[4].into()),
        0x15 => (Direction::Out, cdb[4].into()),
        0x1c => (Direction::In, be16(cdb, 3) as u64),
        0x1d => (Direction::Out, be16(cdb, 3) as u64),
        0x3b => (Direction::Out, be24(cdb, 6).into()),
        0x3c => (Direction::In, be24(cdb, 6).into()),
        0x4c => (Direction::Out, be16(cdb, 7) as u64),
        0x4d => (Direction::In, be16(cdb, 7) as u64),
        0x55 => (Direction::Out, be16(cdb, 7) as u64),
        0x5e => (Direction::In, be16(cdb, 7) as u64),
        0x5f => (Direction::Out, be32(cdb, 5).into()),
        0xa4 => (Direction::Out, be32(cdb, 6).into()),
        0x12 => (Direction::In, be16(cdb, 3) as u64),
        0x5a => (Direction::In, be16(cdb, 7) as u64),
        0x25 => (Direction::In, 8),
        0x9e if cdb[0] == 0x7f => (Direction::In, be32(cdb, 28).into()),
        0x3e => (Direction::In, be16(cdb, 7) as u64),
        0x9e if cdb[1] & 0x1f == 0x11 => (Direction::In, be16(cdb, 12) as u64),
        0x9e => (Direction::In, be32(cdb, 10).into()),
        0x37 => (Direction::In, be16(cdb, 7) as u64),
        0xb7 => (Direction::In, be32(cdb, 6).into()),
        // FMTDATA, LONGLIST: the header of the parameter list
        0x04 => (
            Direction::Out,
            match flags >> 4 & 3 {
                1 => 4,
                3 => 8,
                _ => 0,
            },
        ),
        // Third-party copy: lists out, what is known of copies in.
        0x83 if flags & 0x1f == 0x1c => (Direction::None, 0),
        0x83 => (Direction::Out, be32(cdb, 10).into()),
        0x84 => (Direction::In, be32(cdb, 10).into()),
        // OVERWRITE
        0x48 if flags & 0x1f == 1 => (Direction::Out, be16(cdb, 7) as u64),
        0xa0 | 0xa3 => (Direction::In, be32(cdb, 6).into()),
        _ => (Direction::None, 0),
    };
    if length == 0 {
        (Direction::None, 0)
    } else {
        (direction, length)
    }
}

fn changes_medium(cdb: &[u8]) -> bool {
    matches!(
        kind(cdb).0,
        0x0a | 0x2a
            | 0xaa
            | 0x8a
            | 0x89
            | 0x41
            | 0x93
            | 0x42
            | 0x2e
            | 0xae
            | 0x8e
            | 0x8b
            | 0x04
            | 0x3f
            | 0x9c
            | 0x9f
    ) || cdb[0] == 0x48 && cdb[1] & 0x1f != 0x1f
        // WRITE USING TOKEN
        || cdb[0] == 0x83 && cdb[1] & 0x1f == 0x11
}

/// The CDB USAGE DATA of this command, if the unit says that it supports it (SPC-4, 6.35.3).
fn usage(cdb: &[u8], features: &Features) -> Option<Vec<u8>> {
    // Operation codes of this device type that have service actions.
    let reporting = match cdb[0] {
        0x48 | 0x5e | 0x5f | 0x83 | 0x84 | 0x9e | 0x9f | 0xa3 | 0xa4 => {
            Reporting::ServiceAction(cdb[0], u16::from(cdb[1] & 0x1f))
        }
        0x7f => Reporting::ServiceAction(0x7f, be16(cdb, 8) as u16),
        opcode => Reporting::Opcode(opcode),
    };
    let request = Request {
        reporting,
        timeouts: false,
    };
    let mut failed = false;
    let answer = written(64, 7, |out| {
        failed = opcode::report(&request, features, out).is_err()
    });
    if failed {
        return None;
    }
    let support = answer[1] & 7;
    assert!(support == 1 || support == 3, "{answer:x?}");
    let length = be16(&answer, 2);
    assert_eq!(answer.len(), 4 + length);
    (support == 3).then(|| answer[4..].to_vec())
}

fn refused(cdb: &[u8], sense: &Sense) {
    assert_eq!(sense.key, Key::IllegalRequest);
    assert_eq!(sense.information, None);
    match sense.asc {
        Asc::INVALID_OPERATION_CODE => assert_eq!(sense.specific, Specific::None),
        Asc::INVALID_FIELD_IN_CDB => {
            let Specific::Field(at) = sense.specific else {
                panic!("no field pointer: {sense:?}");
            };
            assert!(at.in_cdb && at.byte <= 32 && at.bit.unwrap_or(0) < 8);
            if let (Some(bit), Some(byte)) = (at.bit, cdb.get(usize::from(at.byte))) {
                // Either a bit that is set and must not be, or the leftmost one of a field that is wrong as a whole.
                let whole = matches!(at.byte, 0..=4 | 10);
                assert!(byte & (1 << bit) != 0 || whole, "{cdb:x?} {sense:?}");
            }
        }
        // PERSISTENT RESERVE OUT, whose list has a length of its own, and the lists of copies, which have a longest one.
        Asc::PARAMETER_LIST_LENGTH => assert!(cdb[0] == 0x5f || cdb[0] == 0x83),
        _ => panic!("{sense:?}"),
    }
}

/// WRITE SCATTERED: SBC-4, 5.55 and 5.56.
fn scattered(cdb: &[u8], limits: &BlockLimits, fits: Result<(), Sense>) {
    let (offset, ranges, blocks) = match cdb[0] {
        0x7f => (be16(cdb, 12), be16(cdb, 16), be32(cdb, 28)),
        _ => (be16(cdb, 4), be16(cdb, 8), be32(cdb, 10)),
    };
    let too_long = limits.max_transfer != 0 && blocks > limits.max_transfer;
    let empty = ranges == 0 || blocks == 0;
    let no_data = !empty && (offset == 0 || offset as u64 > blocks.into());
    match fits {
        Ok(()) => assert!(!too_long && !no_data),
        Err(sense) => {
            assert!(too_long || no_data);
            refused(cdb, &sense);
        }
    }
}

/// SBC-4, 4.21.2: what a CDB says of protection information, and where it may say that.
fn protection(cdb: &[u8], decoded: &Decoded, features: &Features) {
    let (opcode, flags) = kind(cdb);
    let scattered = opcode == 0x9f && (cdb[0] == 0x7f || cdb[1] & 0x1f == 0x12);
    let flags = if cdb[0] == 0x9f { cdb[2] } else { flags };
    let transfers = scattered
        || matches!(
            opcode,
            0x28 | 0x2a | 0x2e | 0x2f | 0x41 | 0x88
                ..=0x8b | 0x8e | 0x8f | 0x93 | 0x9c | 0xa8 | 0xaa | 0xae | 0xaf
        );
    let code = if transfers { flags >> 5 } else { 0 };
    // ORWRITE (32) has generations where others have tags.
    let long = transfers && cdb[0] == 0x7f && be16(cdb, 8) != 0x0e;
    assert_eq!(decoded.protect.code, code);
    assert!(code < 6);
    match features.protection {
        None => assert_eq!(code, 0),
        Some(pi::Type::Two) => assert!(long || code == 0),
        Some(_) => assert!(!long),
    }
    // WRITE SCATTERED has them in its list.
    let tags = (long && !scattered && features.protection.is_some()).then(|| pi::Tags {
        reference: be32(cdb, 20),
        application: be16(cdb, 24) as u16,
        mask: be16(cdb, 26) as u16,
    });
    assert_eq!(decoded.protect.tags, tags);
}

fuzz_target!(|input: &[u8]| {
    let mut input = Input::new(input);
    let bits = input.u8();
    let features = Features {
        dpo_fua: bits & 1 != 0,
        unmap: bits & 2 != 0,
        write_same: bits & 4 != 0,
        write_same_unmap: bits & 8 != 0,
        compare_and_write: bits & 16 != 0,
        report_opcodes: bits & 32 != 0,
        target_port_groups: bits & 64 != 0,
        set_target_port_groups: bits & 128 != 0,
        referrals: bits & 128 != 0,
        removable: bits & 128 != 0,
        sanitize: bits & 1 != 0,
        reservations: bits & 128 != 0,
        write_atomic: bits & 2 != 0,
        write_long: bits & 4 != 0,
        protection: pi::Type::new(u32::from(input.u8()) & 3),
        protectable: bits & 2 != 0,
        third_party_copy: bits & 2 != 0,
        write_same_all: bits & 4 != 0,
        saves_mode: bits & 4 != 0,
    };
    let size = [512, 1024, 2048, 4096][input.below(4)];
    let size = BlockSize::new(size).unwrap();
    let capacity = input.number();
    let limits = BlockLimits {
        max_compare_and_write: input.u8(),
        max_transfer: input.number32(),
        max_write_same: input.number(),
        max_atomic: 24,
        atomic_alignment: 4,
        atomic_granularity: 2,
        ..BlockLimits::default()
    };
    let cdb = input.rest();

    let decoded = match decode(cdb, &features) {
        Ok(decoded) => decoded,
        Err(sense) => return refused(cdb, &sense),
    };
    let command = decoded.command;
    let length = usize::from(decoded.descriptor.length);
    assert!(cdb.len() >= length);
    // What comes behind the command's own bytes means nothing.
    assert_eq!(decode(&cdb[..length], &features).unwrap().command, command);
    assert!(decode(&cdb[..length - 1], &features).is_err());

    // It is reported, and each bit that makes a difference is in its usage data: flip those that are not.
    let usage = usage(cdb, &features).expect("decoded, but not reported");
    assert_eq!(usage.len(), length);
    assert_eq!(usage[0], cdb[0]);
    for (at, used) in usage.iter().enumerate().skip(1) {
        let mut other = [0; 32];
        other[..length].copy_from_slice(&cdb[..length]);
        other[at] ^= !used;
        if let Ok(other) = decode(&other[..length], &features) {
            assert_eq!(other.command, command, "byte {at} is not in the usage data");
            assert_eq!(other.protect, decoded.protect, "byte {at}");
        }
    }

    let (direction, bytes) = data(cdb, size.bytes().into());
    assert_eq!(
        command.data(size),
        Data {
            direction,
            length: bytes
        }
    );
    let (opcode, flags) = kind(cdb);
    protection(cdb, &decoded, &features);
    let with = if decoded.protect.code == 0 { 0 } else { 8 };
    let (direction, bytes) = data(cdb, u64::from(size.bytes()) + with);
    assert_eq!(
        decoded.data(size),
        Data {
            direction,
            length: bytes
        }
    );
    assert_eq!(command.writes(), changes_medium(cdb));

    // DPO and FUA, where the CDB has them.
    let (dpo, fua) = (flags & 0x10 != 0, flags & 0x08 != 0);
    match command {
        Command::Read(t) | Command::Write(t) | Command::CompareAndWrite(t) if length > 6 => {
            assert_eq!((t.dpo, t.fua), (dpo, fua));
            assert!(features.dpo_fua || !(dpo || fua));
        }
        Command::Read(t) | Command::Write(t) => assert!(!t.dpo && !t.fua),
        Command::Verify { dpo: said, .. } => assert_eq!(said, dpo),
        Command::WriteSame { unmap, no_data, .. } => {
            assert_eq!((unmap, no_data), (fua, opcode == 0x93 && flags & 1 != 0));
            assert!(!unmap || features.write_same_unmap);
        }
        _ => {}
    }

    let fits = decoded.check(Blocks(capacity), &limits);
    if opcode == 0x9f && (cdb[0] == 0x7f || cdb[1] & 0x1f == 0x12) {
        return scattered(cdb, &limits, fits);
    }
    // WRITE SAME of no blocks is of all that follow, where it may be said (SBC-4, 5.52).
    if let (0x41 | 0x93, Some(layout)) = (opcode, layout(cdb)) {
        let mut resolved = decoded;
        resolved.resolve(Blocks(capacity));
        let after = resolved.command.extent().unwrap();
        assert_eq!(after.lba.0, layout.lba);
        if layout.blocks == 0 {
            assert!(features.write_same_all);
            assert_eq!(after.blocks.0, capacity.saturating_sub(layout.lba).max(1));
        } else {
            assert_eq!(after.blocks.0, layout.blocks);
        }
    }
    let Some(expected) = layout(cdb) else {
        assert_eq!(command.extent(), None);
        assert_eq!(fits, Ok(()));
        return;
    };
    assert_eq!(expected.length, length);
    let extent = command.extent().expect("a command with an address");
    assert_eq!(
        (extent.lba.0, extent.blocks.0),
        (expected.lba, expected.blocks)
    );
    let inside = u128::from(expected.lba) + u128::from(expected.blocks) <= u128::from(capacity);
    let most = match (opcode, command) {
        (0x89, _) => limits.max_compare_and_write.into(),
        (0x9c, _) => limits.max_atomic.into(),
        (0x41 | 0x93, _) if limits.max_write_same != 0 => limits.max_write_same,
        (0x41 | 0x93 | 0x35 | 0x91, _) => u64::MAX,
        (_, Command::Verify { compare, .. }) if compare != Compare::Data => u64::MAX,
        (0x34 | 0x90 | 0x9e | 0x3e | 0x3f | 0x9f, _) => u64::MAX,
        _ if limits.max_transfer != 0 => limits.max_transfer.into(),
        _ => u64::MAX,
    };
    // ATOMIC ALIGNMENT and GRANULARITY
    let odd = opcode == 0x9c && (expected.lba % 4 != 0 || expected.blocks % 2 != 0);
    match fits {
        Ok(()) => {
            assert!(inside && expected.blocks <= most && !odd);
            // What is in the medium has an offset and an end in bytes, or a medium of that size cannot be.
            if u128::from(capacity) * u128::from(size.bytes()) <= u128::from(u64::MAX) {
                extent
                    .offset(size)
                    .unwrap()
                    .checked_add(extent.bytes(size).unwrap())
                    .unwrap();
            }
        }
        Err(sense) if sense.asc == Asc::LBA_OUT_OF_RANGE => {
            assert!(!inside);
            let first = expected.lba.max(capacity);
            assert_eq!(sense, Sense::lba_out_of_range(first));
        }
        Err(sense) => {
            assert!(inside && (odd || expected.blocks > most));
            refused(cdb, &sense);
        }
    }
});
