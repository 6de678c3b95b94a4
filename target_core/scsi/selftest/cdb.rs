// SPDX-License-Identifier: GPL-2.0

//! Decoding, data transfer and limits, as tables of CDBs.

use super::{bit, byte, hex, ALL};
use crate::{
    cdb::{decode, Command, Compare, Data, Direction, Features, Transfer},
    inquiry::Page,
    lba::{BlockSize, Blocks, Extent},
    luns::Select,
    mode::{PageControl, Request},
    opcode::{self, Reporting},
    sense::Sense,
    vpd::BlockLimits,
};

fn command(cdb: &str) -> Command {
    decode(&hex(cdb), &ALL)
        .unwrap_or_else(|sense| panic!("{cdb}: {sense:?}"))
        .command
}

fn refused(cdb: &str, features: &Features) -> Sense {
    match decode(&hex(cdb), features) {
        Ok(decoded) => panic!("{cdb}: {decoded:?}"),
        Err(sense) => sense,
    }
}

fn transfer(lba: u64, blocks: u64) -> Transfer {
    Transfer {
        extent: Extent::new(lba, blocks),
        dpo: false,
        fua: false,
    }
}

#[test]
fn fields() {
    let mode = Request {
        ten: false,
        long_lba: false,
        no_block_descriptors: true,
        control: PageControl::Default,
        page: 0x3f,
        subpage: 0xff,
    };
    let rsoc = |reporting, timeouts| Command::ReportSupportedOperationCodes {
        request: opcode::Request {
            reporting,
            timeouts,
        },
        allocation: 0x1000,
    };
    let verify = |lba, blocks, compare, dpo| Command::Verify {
        extent: Extent::new(lba, blocks),
        compare,
        dpo,
    };
    let same = |lba, blocks, unmap, no_data| Command::WriteSame {
        extent: Extent::new(lba, blocks),
        unmap,
        no_data,
    };
    let dpo = Transfer {
        dpo: true,
        ..transfer(0x0102_0304, 0x0506)
    };
    let fua = Transfer {
        fua: true,
        ..transfer(0x0102_0304, 0x0506)
    };
    let table = [
        ("00 00 00 00 00 00", Command::TestUnitReady),
        (
            "03 00 00 00 12 00",
            Command::RequestSense {
                descriptor: false,
                allocation: 18,
            },
        ),
        (
            "03 01 00 00 fc 00",
            Command::RequestSense {
                descriptor: true,
                allocation: 252,
            },
        ),
        (
            "12 00 00 00 60 00",
            Command::Inquiry {
                page: Page::Standard,
                allocation: 96,
            },
        ),
        (
            "12 01 83 10 00 00",
            Command::Inquiry {
                page: Page::Vpd(0x83),
                allocation: 4096,
            },
        ),
        (
            "12 01 00 00 00 00",
            Command::Inquiry {
                page: Page::Vpd(0),
                allocation: 0,
            },
        ),
        (
            "1a 08 bf ff c0 00",
            Command::ModeSense {
                request: mode,
                allocation: 192,
            },
        ),
        (
            "5a 18 0a 00 00 00 00 01 02 00",
            Command::ModeSense {
                request: Request {
                    ten: true,
                    long_lba: true,
                    control: PageControl::Current,
                    page: 0x0a,
                    subpage: 0,
                    ..mode
                },
                allocation: 0x102,
            },
        ),
        ("25 00 00 00 00 00 00 00 00 00", Command::ReadCapacity10),
        ("25 00 00 00 00 01 00 00 01 00", Command::ReadCapacity10),
        (
            "9e 10 00 00 00 00 00 00 00 00 00 00 00 20 00 00",
            Command::ReadCapacity16 { allocation: 32 },
        ),
        (
            "a0 00 02 00 00 00 00 00 10 00 00 00",
            Command::ReportLuns {
                select: Select::All,
                allocation: 4096,
            },
        ),
        (
            "a3 0a 00 00 00 00 00 00 00 ff 00 00",
            Command::ReportTargetPortGroups {
                extended: false,
                allocation: 255,
            },
        ),
        (
            "a3 2a 00 00 00 00 00 00 00 ff 00 00",
            Command::ReportTargetPortGroups {
                extended: true,
                allocation: 255,
            },
        ),
        (
            "a3 0c 00 00 00 00 00 00 10 00 00 00",
            rsoc(Reporting::All, false),
        ),
        (
            "a3 0c 81 28 00 00 00 00 10 00 00 00",
            rsoc(Reporting::Opcode(0x28), true),
        ),
        (
            "a3 0c 02 9e 00 10 00 00 10 00 00 00",
            rsoc(Reporting::ServiceAction(0x9e, 0x10), false),
        ),
        (
            "a3 0c 03 9e 00 10 00 00 10 00 00 00",
            rsoc(Reporting::Either(0x9e, 0x10), false),
        ),
        ("08 1f ff fe 01 00", Command::Read(transfer(0x1f_fffe, 1))),
        ("08 00 00 00 00 00", Command::Read(transfer(0, 256))),
        ("0a 00 00 01 ff 00", Command::Write(transfer(1, 255))),
        (
            "28 00 01 02 03 04 00 05 06 00",
            Command::Read(transfer(0x0102_0304, 0x0506)),
        ),
        ("28 10 01 02 03 04 00 05 06 00", Command::Read(dpo)),
        ("2a 08 01 02 03 04 00 05 06 00", Command::Write(fua)),
        (
            "a8 00 01 02 03 04 05 06 07 08 00 00",
            Command::Read(transfer(0x0102_0304, 0x0506_0708)),
        ),
        (
            "aa 00 01 02 03 04 05 06 07 08 00 00",
            Command::Write(transfer(0x0102_0304, 0x0506_0708)),
        ),
        (
            "88 00 01 02 03 04 05 06 07 08 09 0a 0b 0c 00 00",
            Command::Read(transfer(0x0102_0304_0506_0708, 0x090a_0b0c)),
        ),
        (
            "8a 18 ff ff ff ff ff ff ff ff ff ff ff ff 00 00",
            Command::Write(Transfer {
                extent: Extent::new(u64::MAX, 0xffff_ffff),
                dpo: true,
                fua: true,
            }),
        ),
        (
            "7f 00 00 00 00 00 00 18 00 09 00 00 01 02 03 04 05 06 07 08 ff ff ff ff ff ff ff ff 09 0a 0b 0c",
            Command::Read(transfer(0x0102_0304_0506_0708, 0x090a_0b0c)),
        ),
        (
            "7f 00 00 00 00 00 3f 18 00 0b 18 00 ff ff ff ff ff ff ff ff 00 00 00 00 00 00 00 00 ff ff ff ff",
            Command::Write(Transfer {
                extent: Extent::new(u64::MAX, 0xffff_ffff),
                dpo: true,
                fua: true,
            }),
        ),
        (
            "2f 00 00 00 00 01 00 00 02 00",
            verify(1, 2, Compare::Nothing, false),
        ),
        (
            "2f 12 00 00 00 01 00 00 02 00",
            verify(1, 2, Compare::Data, true),
        ),
        (
            "8f 06 00 00 00 00 00 00 00 01 00 00 00 02 00 00",
            verify(1, 2, Compare::OneBlock, false),
        ),
        (
            "35 02 00 00 00 01 00 00 02 00",
            Command::SynchronizeCache {
                extent: Extent::new(1, 2),
                immediate: true,
            },
        ),
        (
            "91 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00",
            Command::SynchronizeCache {
                extent: Extent::new(0, 0),
                immediate: false,
            },
        ),
        (
            "42 00 00 00 00 00 00 00 18 00",
            Command::Unmap { list_length: 24 },
        ),
        ("41 08 00 00 00 01 00 00 02 00", same(1, 2, true, false)),
        (
            "93 01 00 00 00 00 00 00 00 01 00 00 00 02 00 00",
            same(1, 2, false, true),
        ),
        (
            "89 00 00 00 00 00 00 00 00 01 00 00 00 01 00 00",
            Command::CompareAndWrite(transfer(1, 1)),
        ),
    ];
    for (cdb, expected) in table {
        assert_eq!(command(cdb), expected, "{cdb}");
    }
}

#[test]
fn what_initiators_set_and_we_ignore() {
    let table = [
        // SCSI-2 LUN field
        "00 e0 00 00 00 00",
        "08 e0 00 00 01 00",
        "12 e0 00 00 24 00",
        "1a e0 3f 00 c0 00",
        // GROUP NUMBER
        "28 00 00 00 00 00 3f 00 01 00",
        "a8 00 00 00 00 00 00 00 00 01 3f 00",
        "8a 00 00 00 00 00 00 00 00 00 00 00 00 01 3f 00",
        "35 00 00 00 00 00 1f 00 00 00",
        // RELADR, FUA_NV, SYNC_NV, RARC
        "28 01 00 00 00 00 00 00 01 00",
        "28 06 00 00 00 00 00 00 01 00",
        "2a 02 00 00 00 00 00 00 01 00",
        "35 05 00 00 00 00 00 00 00 00",
        // Vendor specific bits of the control byte
        "00 00 00 00 00 c0",
        // PMI with an address
        "9e 10 00 00 00 00 00 00 00 01 00 00 00 20 01 00",
        // Bytes behind the CDB's end
        "00 00 00 00 00 00 ff ff ff ff ff ff ff ff ff ff ff ff ff ff",
    ];
    for cdb in table {
        command(cdb);
    }
    // DPO, where it is not accepted.
    let none = Features::default();
    for verify in [
        "2f 10 00 00 00 00 00 00 01 00",
        "8f 10 00 00 00 00 00 00 00 00 00 00 00 01 00 00",
    ] {
        assert_eq!(decode(&hex(verify), &none).err(), Some(bit(1, 4)));
    }
}

#[test]
fn refusals() {
    let table = [
        // Operation codes and service actions
        ("", Sense::INVALID_OPERATION_CODE),
        ("ff 00 00 00 00 00", Sense::INVALID_OPERATION_CODE),
        (
            "82 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00",
            Sense::INVALID_OPERATION_CODE,
        ),
        ("5e 04 00 00 00 00 00 00 ff 00", bit(1, 4)),
        ("5f 09 00 00 00 00 00 00 18 00", bit(1, 4)),
        (
            "5f 00 00 00 00 00 01 00 01 00",
            Sense::PARAMETER_LIST_LENGTH,
        ),
        // Third-party and extent reservations
        ("16 10 00 00 00 00", bit(1, 4)),
        ("56 01 00 00 00 00 00 00 00 00", bit(1, 0)),
        ("9e 17 00 00 00 00 00 00 00 00 00 00 00 20 00 00", bit(1, 4)),
        ("a3 1e 00 00 00 00 00 00 00 20 00 00", bit(1, 4)),
        // Cut off
        ("00 00 00 00 00", byte(5)),
        ("28 00 00 00 00 00", byte(6)),
        ("88", byte(1)),
        ("9e", bit(1, 4)),
        ("7f", byte(1)),
        ("7f 00 00 00 00 00 00 18 00", byte(9)),
        ("7f 00 00 00 00 00 00 18 00 09 00 00", byte(12)),
        // ADDITIONAL CDB LENGTH and SERVICE ACTION of a CDB of variable length
        (
            "7f 00 00 00 00 00 00 17 00 09 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 01",
            byte(7),
        ),
        (
            "7f 00 00 00 00 00 00 18 01 09 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 01",
            byte(8),
        ),
        // Its CONTROL, reserved bytes, RDPROTECT
        (
            "7f 04 00 00 00 00 00 18 00 09 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 01",
            bit(1, 2),
        ),
        (
            "7f 00 00 00 00 01 00 18 00 09 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 01",
            bit(5, 0),
        ),
        (
            "7f 00 00 00 00 00 00 18 00 09 00 10 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 01",
            bit(11, 4),
        ),
        (
            "7f 00 00 00 00 00 00 18 00 09 40 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 01",
            bit(10, 7),
        ),
        // NACA, LINK, reserved bits of the control byte
        ("00 00 00 00 00 04", bit(5, 2)),
        ("00 00 00 00 00 01", bit(5, 0)),
        ("00 00 00 00 00 20", bit(5, 5)),
        ("28 00 00 00 00 00 00 00 01 04", bit(9, 2)),
        (
            "88 00 00 00 00 00 00 00 00 00 00 00 00 01 00 04",
            bit(15, 2),
        ),
        ("a0 00 00 00 00 00 00 00 10 00 00 04", bit(11, 2)),
        // Reserved bits
        ("00 01 00 00 00 00", bit(1, 0)),
        ("00 00 00 01 00 00", bit(3, 0)),
        ("03 02 00 00 12 00", bit(1, 1)),
        ("12 02 00 00 60 00", bit(1, 1)),
        ("12 00 80 00 60 00", byte(2)),
        ("1a 10 3f 00 c0 00", bit(1, 4)),
        ("a0 00 00 00 00 80 00 00 10 00 00 00", bit(5, 7)),
        ("a8 00 00 00 00 00 00 00 00 01 80 00", bit(10, 7)),
        // RDPROTECT, WRPROTECT, VRPROTECT: the field, whatever its value
        ("28 20 00 00 00 00 00 00 01 00", bit(1, 7)),
        ("28 e0 00 00 00 00 00 00 01 00", bit(1, 7)),
        ("2a 40 00 00 00 00 00 00 01 00", bit(1, 7)),
        ("2f 60 00 00 00 00 00 00 01 00", bit(1, 7)),
        ("a8 20 00 00 00 00 00 00 00 01 00 00", bit(1, 7)),
        ("88 20 00 00 00 00 00 00 00 00 00 00 00 01 00 00", bit(1, 7)),
        ("93 20 00 00 00 00 00 00 00 00 00 00 00 01 00 00", bit(1, 7)),
        // Values
        ("25 00 00 00 00 01 00 00 00 00", byte(2)),
        ("a0 00 03 00 00 00 00 00 10 00 00 00", byte(2)),
        ("a0 00 10 00 00 00 00 00 10 00 00 00", byte(2)),
        ("a3 4a 00 00 00 00 00 00 00 ff 00 00", bit(1, 7)),
        ("a3 0c 04 00 00 00 00 00 10 00 00 00", bit(2, 2)),
        ("a3 0c 08 00 00 00 00 00 10 00 00 00", bit(2, 3)),
        ("2f 04 00 00 00 00 00 00 01 00", bit(1, 2)),
        // ANCHOR, LBDATA, NDOB of the short WRITE SAME; none of its blocks
        ("41 18 00 00 00 00 00 00 01 00", bit(1, 4)),
        ("41 02 00 00 00 00 00 00 01 00", bit(1, 1)),
        ("41 04 00 00 00 00 00 00 01 00", bit(1, 2)),
        ("41 01 00 00 00 00 00 00 01 00", bit(1, 0)),
        ("41 00 00 00 00 00 00 00 00 00", byte(7)),
        ("93 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00", byte(10)),
        ("42 01 00 00 00 00 00 00 18 00", bit(1, 0)),
        (
            "89 00 00 00 00 00 00 00 00 01 00 00 01 01 00 00",
            bit(12, 0),
        ),
    ];
    for (cdb, expected) in table {
        assert_eq!(refused(cdb, &ALL), expected, "{cdb}");
    }
}

#[test]
fn refusals_for_want_of_a_feature() {
    let none = Features::default();
    let table = [
        ("28 10 00 00 00 00 00 00 01 00", bit(1, 4)),
        ("28 08 00 00 00 00 00 00 01 00", bit(1, 3)),
        ("8a 08 00 00 00 00 00 00 00 00 00 00 00 01 00 00", bit(1, 3)),
        (
            "42 00 00 00 00 00 00 00 18 00",
            Sense::INVALID_OPERATION_CODE,
        ),
        (
            "41 00 00 00 00 00 00 00 01 00",
            Sense::INVALID_OPERATION_CODE,
        ),
        (
            "89 00 00 00 00 00 00 00 00 01 00 00 00 01 00 00",
            Sense::INVALID_OPERATION_CODE,
        ),
        (
            // Of that operation code there are others.
            "a3 0c 00 00 00 00 00 00 10 00 00 00",
            bit(1, 4),
        ),
        ("a3 0a 00 00 00 00 00 00 10 00 00 00", bit(1, 4)),
    ];
    for (cdb, expected) in table {
        assert_eq!(refused(cdb, &none), expected, "{cdb}");
    }
    let same = Features {
        write_same: true,
        ..none
    };
    assert_eq!(refused("41 08 00 00 00 00 00 00 01 00", &same), bit(1, 3));
    let unmaps = Features {
        write_same_unmap: true,
        ..none
    };
    assert!(decode(&hex("41 08 00 00 00 00 00 00 01 00"), &unmaps).is_ok());
    // Another service action of the operation code is there.
    let groups = Features {
        target_port_groups: true,
        reservations: true,
        ..none
    };
    assert_eq!(
        refused("a3 0c 00 00 00 00 00 00 10 00 00 00", &groups),
        bit(1, 4)
    );
}

#[test]
fn data_transfer() {
    let out = |length| Data {
        direction: Direction::Out,
        length,
    };
    let input = |length| Data {
        direction: Direction::In,
        length,
    };
    let none = Data {
        direction: Direction::None,
        length: 0,
    };
    let table = [
        ("00 00 00 00 00 00", none),
        ("03 00 00 00 12 00", input(18)),
        ("12 00 00 00 00 00", none),
        ("12 00 00 00 60 00", input(96)),
        ("25 00 00 00 00 00 00 00 00 00", input(8)),
        (
            "9e 10 00 00 00 00 00 00 00 00 ff ff ff ff 00 00",
            input(0xffff_ffff),
        ),
        ("08 00 00 00 00 00", input(256 * 4096)),
        ("28 00 00 00 00 00 00 00 00 00", none),
        ("2a 00 00 00 00 00 00 00 03 00", out(3 * 4096)),
        (
            "8a 00 00 00 00 00 00 00 00 00 ff ff ff ff 00 00",
            out(0xffff_ffff * 4096),
        ),
        ("2f 00 00 00 00 00 00 00 03 00", none),
        ("2f 02 00 00 00 00 00 00 03 00", out(3 * 4096)),
        ("2f 06 00 00 00 00 00 00 03 00", out(4096)),
        ("2f 06 00 00 00 00 00 00 00 00", none),
        ("35 00 00 00 00 00 00 00 03 00", none),
        ("42 00 00 00 00 00 00 00 18 00", out(24)),
        ("41 00 00 00 00 00 00 00 03 00", out(4096)),
        ("93 09 00 00 00 00 00 00 00 00 00 00 00 03 00 00", none),
        (
            "89 00 00 00 00 00 00 00 00 01 00 00 00 01 00 00",
            out(2 * 4096),
        ),
    ];
    for (cdb, expected) in table {
        assert_eq!(command(cdb).data(BlockSize::B4096), expected, "{cdb}");
    }
}

#[test]
fn capacity_and_limits() {
    let limits = BlockLimits {
        max_compare_and_write: 1,
        max_transfer: 16,
        max_write_same: 32,
        ..BlockLimits::default()
    };
    let check = |cdb: &str| decode(&hex(cdb), &ALL).unwrap().check(Blocks(100), &limits);
    let beyond = |lba| Err(Sense::lba_out_of_range(lba));
    let table = [
        ("28 00 00 00 00 00 00 00 10 00", Ok(())),
        ("28 00 00 00 00 00 00 00 11 00", Err(byte(7))),
        ("08 00 00 00 11 00", Err(byte(4))),
        ("a8 00 00 00 00 00 00 00 00 11 00 00", Err(byte(6))),
        (
            "88 00 00 00 00 00 00 00 00 00 00 00 00 11 00 00",
            Err(byte(10)),
        ),
        ("2a 00 00 00 00 63 00 00 01 00", Ok(())),
        ("2a 00 00 00 00 63 00 00 02 00", beyond(100)),
        ("2a 00 00 00 00 64 00 00 00 00", Ok(())),
        ("2a 00 00 00 00 65 00 00 00 00", beyond(101)),
        (
            "8a 00 ff ff ff ff ff ff ff ff 00 00 00 02 00 00",
            beyond(u64::MAX),
        ),
        (
            "8a 00 ff ff ff ff ff ff ff ff 00 00 00 00 00 00",
            beyond(u64::MAX),
        ),
        // A range goes before a limit.
        ("28 00 00 00 00 00 00 ff ff 00", beyond(100)),
        ("2f 00 00 00 00 00 00 00 64 00", Ok(())),
        ("2f 02 00 00 00 00 00 00 11 00", Err(byte(7))),
        ("2f 06 00 00 00 00 00 00 64 00", Ok(())),
        ("35 00 00 00 00 00 00 00 65 00", beyond(100)),
        ("35 00 00 00 00 00 00 00 00 00", Ok(())),
        ("41 00 00 00 00 00 00 00 20 00", Ok(())),
        ("41 00 00 00 00 00 00 00 21 00", Err(byte(7))),
        (
            "93 00 00 00 00 00 00 00 00 00 00 00 00 21 00 00",
            Err(byte(10)),
        ),
        ("89 00 00 00 00 00 00 00 00 01 00 00 00 01 00 00", Ok(())),
        (
            "89 00 00 00 00 00 00 00 00 01 00 00 00 02 00 00",
            Err(byte(13)),
        ),
        ("00 00 00 00 00 00", Ok(())),
    ];
    for (cdb, expected) in table {
        assert_eq!(check(cdb), expected, "{cdb}");
    }
    // Without limits, only the capacity counts.
    let decoded = decode(&hex("28 00 00 00 00 00 00 ff ff 00"), &ALL).unwrap();
    assert_eq!(
        decoded.check(Blocks(0x1_0000), &BlockLimits::default()),
        Ok(())
    );
}

#[test]
fn classes() {
    for cdb in [
        "0a 00 00 00 01 00",
        "42 00 00 00 00 00 00 00 18 00",
        "41 00 00 00 00 00 00 00 01 00",
    ] {
        assert!(command(cdb).writes());
    }
    for cdb in [
        "08 00 00 00 01 00",
        "2f 02 00 00 00 00 00 00 01 00",
        "35 00 00 00 00 00 00 00 00 00",
    ] {
        assert!(!command(cdb).writes());
    }
    for cdb in [
        "12 00 00 00 60 00",
        "a0 00 00 00 00 00 00 00 10 00 00 00",
        "03 00 00 00 12 00",
    ] {
        assert!(command(cdb).is_for_absent_unit());
    }
    assert!(!command("00 00 00 00 00 00").is_for_absent_unit());
}
