// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::sn::{CmdSn, DataSn, R2tSn, StatSn};
use crate::test_util::Random;
use crate::wire::{Cid, Isid, Lun, Tsih, Ttt, BHS_LEN};

fn bhs(parts: &[(usize, &[u8])]) -> Bhs {
    let mut bhs = [0; BHS_LEN];
    for (at, bytes) in parts {
        bhs[*at..*at + bytes.len()].copy_from_slice(bytes);
    }
    bhs
}

#[test]
fn scsi_command_from_bytes() {
    // WRITE(10) of 8 blocks to LBA 0x1000 with 4 KiB of immediate data, simple, from LUN 1.
    let bhs = bhs(&[
        (0, &[0x01, 0xa1, 0, 0, 0, 0, 0x10, 0x00]),
        (8, &[0, 1, 0, 0, 0, 0, 0, 0]),
        (
            16,
            &[0x10, 0, 0, 0x07, 0, 0, 0x10, 0, 0, 0, 0, 9, 0, 0, 0, 5],
        ),
        (32, &[0x2a, 0, 0, 0, 0x10, 0, 0, 0, 8, 0]),
    ]);
    let (head, request) = parse(&bhs).unwrap();
    assert_eq!(head.opcode, 1);
    assert!(!head.immediate);
    assert_eq!(head.data_len.bytes(), 4096);
    let Request::ScsiCommand(command) = request else {
        panic!("{request:?}");
    };
    assert_eq!(command.direction(), Direction::Write);
    assert_eq!(command.flags.attribute(), Some(TaskAttribute::Simple));
    assert_eq!(command.lun, Lun([0, 1, 0, 0, 0, 0, 0, 0]));
    assert_eq!(command.itt, Itt(0x1000_0007));
    assert_eq!(command.expected_len, 4096);
    assert_eq!(command.cmd_sn, CmdSn(9));
    assert_eq!(command.exp_stat_sn, StatSn(5));
    assert_eq!(&command.cdb[..10], &[0x2a, 0, 0, 0, 0x10, 0, 0, 0, 8, 0]);
}

#[test]
fn r2t_to_bytes() {
    let mut out = [0xff; BHS_LEN];
    let r2t = R2t {
        lun: Lun([0, 1, 0, 0, 0, 0, 0, 0]),
        itt: Itt(7),
        ttt: Ttt::new(3, 1),
        sn: Numbers {
            stat_sn: StatSn(5),
            exp_cmd_sn: CmdSn(10),
            max_cmd_sn: CmdSn(40),
        },
        r2t_sn: R2tSn(1),
        offset: 0x4_0000,
        length: 0x2_0000,
    };
    r2t.emit(&mut out);
    let want = bhs(&[
        (0, &[0x31, 0x80]),
        (8, &[0, 1]),
        (
            16,
            &[0, 0, 0, 7, 0, 3, 0, 1, 0, 0, 0, 5, 0, 0, 0, 10, 0, 0, 0, 40],
        ),
        (36, &[0, 0, 0, 1, 0, 4, 0, 0, 0, 2, 0, 0]),
    ]);
    assert_eq!(out, want);
}

#[test]
fn responses_to_bytes() {
    let sn = Numbers {
        stat_sn: StatSn(1),
        exp_cmd_sn: CmdSn(2),
        max_cmd_sn: CmdSn(3),
    };
    let numbers: &[u8] = &[0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
    let mut out = [0; BHS_LEN];

    Reject::new(RejectReason::ProtocolError, sn).emit(&mut out);
    assert_eq!(
        out,
        bhs(&[
            (0, &[0x3f, 0x80, 4, 0, 0, 0, 0, 48]),
            (16, &[0xff; 4]),
            (24, numbers)
        ])
    );

    LogoutResponse {
        response: 0,
        itt: Itt(9),
        sn,
        time2wait: 2,
        time2retain: 20,
    }
    .emit(&mut out);
    assert_eq!(
        out,
        bhs(&[
            (0, &[0x26, 0x80]),
            (16, &[0, 0, 0, 9]),
            (24, numbers),
            (40, &[0, 2, 0, 20])
        ])
    );

    DataIn {
        flags: DataInFlags::default()
            .with_last(true)
            .with_status(true)
            .with_underflow(true),
        status: 0,
        data_len: DataLen::at_most(512),
        lun: Lun::default(),
        itt: Itt(9),
        ttt: Ttt::NONE,
        sn,
        data_sn: DataSn(4),
        offset: 0x100,
        residual: 7,
    }
    .emit(&mut out);
    assert_eq!(
        out,
        bhs(&[
            (0, &[0x25, 0x83, 0, 0, 0, 0, 2, 0]),
            (16, &[0, 0, 0, 9, 0xff, 0xff, 0xff, 0xff]),
            (24, numbers),
            (36, &[0, 0, 0, 4, 0, 0, 1, 0, 0, 0, 0, 7])
        ])
    );

    LoginResponse {
        flags: LoginFlags::default()
            .with_transit(true)
            .with_stages(Stage::Operational, Stage::FullFeature),
        version_max: 0,
        version_active: 0,
        data_len: DataLen::at_most(0),
        isid: Isid([1, 2, 3, 4, 5, 6]),
        tsih: Tsih(0x0102),
        itt: Itt(9),
        sn,
        status: 0x0203,
    }
    .emit(&mut out);
    assert_eq!(
        out,
        bhs(&[
            (0, &[0x23, 0x87]),
            (8, &[1, 2, 3, 4, 5, 6, 1, 2]),
            (16, &[0, 0, 0, 9]),
            (24, numbers),
            (36, &[2, 3])
        ])
    );

    Async {
        data_len: DataLen::at_most(0),
        lun: Lun::default(),
        itt: Itt::NONE,
        sn,
        event: AsyncEvent::LogoutRequest,
        vendor: 0,
        parameter1: 0,
        parameter2: 0,
        parameter3: 30,
    }
    .emit(&mut out);
    assert_eq!(
        out,
        bhs(&[
            (0, &[0x32, 0x80]),
            (16, &[0xff; 4]),
            (24, numbers),
            (36, &[1, 0, 0, 0, 0, 0, 0, 30])
        ])
    );
}

/// Requests that must not pass, each with what is answered.
#[test]
fn malformed_requests() {
    use RejectReason::*;
    type Case = (
        &'static str,
        &'static [(usize, &'static [u8])],
        RejectReason,
        bool,
    );
    let cases: &[Case] = &[
        (
            "unknown opcode",
            &[(0, &[0x07])],
            CommandNotSupported,
            false,
        ),
        (
            "vendor's opcode",
            &[(0, &[0x1c])],
            CommandNotSupported,
            false,
        ),
        ("target's opcode", &[(0, &[0x21])], ProtocolError, true),
        (
            "reserved target's opcode",
            &[(0, &[0x3f])],
            ProtocolError,
            true,
        ),
        (
            "NOP-Out without F",
            &[(0, &[0x40, 0]), (20, &[0xff; 4])],
            InvalidPduField,
            true,
        ),
        (
            "NOP-Out without tag, not immediate",
            &[(0, &[0, 0x80]), (16, &[0xff; 8])],
            InvalidPduField,
            true,
        ),
        (
            "command, neither W nor F",
            &[(0, &[1, 0x40])],
            InvalidPduField,
            true,
        ),
        (
            "command, reserved attribute",
            &[(0, &[1, 0x85])],
            InvalidPduField,
            true,
        ),
        (
            "command, data without W",
            &[(0, &[1, 0xc0, 0, 0, 0, 0, 0, 4]), (20, &[0, 0, 0, 8])],
            InvalidPduField,
            true,
        ),
        (
            "command, more data than expected",
            &[(0, &[1, 0xa0, 0, 0, 0, 0, 0, 9]), (20, &[0, 0, 0, 8])],
            InvalidPduField,
            true,
        ),
        (
            "command, length without direction",
            &[(0, &[1, 0x80]), (20, &[0, 0, 0, 8])],
            ProtocolError,
            false,
        ),
        (
            "command, reserved tag",
            &[(0, &[1, 0x80]), (16, &[0xff; 4])],
            InvalidPduField,
            true,
        ),
        ("TMF without F", &[(0, &[2, 1])], InvalidPduField, true),
        (
            "TMF with data",
            &[(0, &[2, 0x81, 0, 0, 0, 0, 0, 1])],
            InvalidPduField,
            true,
        ),
        (
            "TMF, reserved tag",
            &[(0, &[2, 0x81]), (16, &[0xff; 4])],
            InvalidPduField,
            true,
        ),
        ("text, F and C", &[(0, &[4, 0xc0])], InvalidPduField, true),
        (
            "text, reserved tag",
            &[(0, &[4, 0x80]), (16, &[0xff; 4])],
            InvalidPduField,
            true,
        ),
        (
            "Data-Out, reserved tag",
            &[(0, &[5, 0x80]), (16, &[0xff; 4])],
            InvalidPduField,
            true,
        ),
        ("logout without F", &[(0, &[6, 0])], InvalidPduField, true),
        (
            "logout, reserved reason",
            &[(0, &[6, 0x83])],
            InvalidPduField,
            true,
        ),
        (
            "logout with data",
            &[(0, &[6, 0x80, 0, 0, 0, 1])],
            InvalidPduField,
            true,
        ),
        (
            "SNACK with data",
            &[(0, &[0x10, 0x80, 0, 0, 0, 1])],
            InvalidPduField,
            true,
        ),
    ];
    for (what, parts, reason, close) in cases {
        let error = parse(&bhs(parts)).expect_err(what);
        assert_eq!((error.reason, error.close), (*reason, *close), "{what}");
    }
}

#[test]
fn lengths() {
    let head = Head::of(&bhs(&[(0, &[0x41, 0, 0, 0, 0xff, 0x12, 0x34, 0x56])]));
    assert!(head.immediate);
    assert_eq!(head.ahs_len, 1020);
    assert_eq!(head.data_len.bytes(), 0x12_3456);
    assert!(head.check_lengths(0x12_3456).is_ok());
    assert!(head.check_lengths(0x12_3455).unwrap_err().close);
    let head = Head::of(&bhs(&[(0, &[0x05, 0x80, 0, 0, 1])]));
    assert!(head.check_lengths(8192).unwrap_err().close);
}

#[test]
fn directions() {
    for (flags, len, want) in [
        (0x80, 0, Direction::None),
        (0xc0, 0, Direction::None),
        (0xa0, 0, Direction::None),
        (0xc0, 1, Direction::Read),
        (0xa0, 1, Direction::Write),
        (0xe0, 1, Direction::Bidirectional),
    ] {
        let bhs = bhs(&[(0, &[1, flags]), (23, &[len])]);
        let Ok((_, Request::ScsiCommand(command))) = parse(&bhs) else {
            panic!();
        };
        assert_eq!(command.direction(), want);
    }
}

/// Whatever a request says is written back as it was read.
#[test]
fn emit_and_parse_agree() {
    let mut random = Random::new(7);
    let mut passed = [0u32; 0x40];
    for _ in 0..200_000 {
        let mut bytes = [0u8; BHS_LEN];
        random.fill(&mut bytes);
        bytes[0] = [0, 1, 2, 3, 4, 5, 6, 0x10][random.below(8)] | (bytes[0] & 0x40);
        // Values that let more of them pass.
        bytes[4] = 0;
        match random.below(3) {
            0 => bytes[5..8].fill(0),
            1 => bytes[5] = 0,
            _ => (),
        }
        let Ok((head, request)) = parse(&bytes) else {
            continue;
        };
        passed[usize::from(head.opcode)] += 1;
        let mut out = [0xee; BHS_LEN];
        match request {
            Request::NopOut(pdu) => pdu.emit(&mut out),
            Request::ScsiCommand(pdu) => pdu.emit(&mut out),
            Request::Tmf(pdu) => pdu.emit(&mut out),
            Request::Login(pdu) => pdu.emit(&mut out),
            Request::Text(pdu) => pdu.emit(&mut out),
            Request::DataOut(pdu) => pdu.emit(&mut out),
            Request::Logout(pdu) => pdu.emit(&mut out),
            Request::Snack(pdu) => pdu.emit(&mut out),
        }
        out[0] |= bytes[0] & 0x40;
        assert_eq!(parse(&out), Ok((head, request)));
    }
    for opcode in [0, 1, 2, 3, 4, 5, 6, 0x10] {
        assert!(passed[opcode] > 100, "{opcode:#x}: {}", passed[opcode]);
    }
}

#[test]
fn random_bytes_never_panic() {
    let mut random = Random::new(11);
    for _ in 0..200_000 {
        let mut bytes = [0u8; BHS_LEN];
        random.fill(&mut bytes);
        let _ = parse(&bytes);
        let _ = Head::of(&bytes).check_lengths(8192);
    }
}

#[test]
fn logins_have_stages() {
    let bhs = bhs(&[
        (0, &[0x43, 0x87, 0, 0, 0, 0, 1, 0]),
        (8, &[0x80, 1, 2, 3, 4, 5, 0, 0]),
        (16, &[0, 0, 0, 1, 0, 2]),
    ]);
    let Ok((_, Request::Login(pdu))) = parse(&bhs) else {
        panic!();
    };
    assert!(pdu.flags.transit() && !pdu.flags.more());
    assert_eq!(pdu.flags.current(), Some(Stage::Operational));
    assert_eq!(pdu.flags.next(), Some(Stage::FullFeature));
    assert_eq!(pdu.cid, Cid(2));
    assert_eq!(pdu.isid, Isid([0x80, 1, 2, 3, 4, 5]));
    assert_eq!(LoginFlags(0x0a).current(), None);
    assert_eq!(LoginFlags(0x0a).next(), None);
}

#[test]
fn once_more() {
    let mut bhs = [0; 48];
    let sn = Numbers {
        stat_sn: StatSn(7),
        exp_cmd_sn: CmdSn(8),
        max_cmd_sn: CmdSn(9),
    };
    let mut pdu = TmfResponse {
        response: 1,
        itt: Itt(2),
        sn,
    };
    pdu.emit(&mut bhs);
    pdu.sn = Numbers {
        stat_sn: StatSn(77),
        exp_cmd_sn: CmdSn(u32::MAX),
        max_cmd_sn: CmdSn(3),
    };
    renew(&mut bhs, pdu.sn);
    pdu.sn.stat_sn = StatSn(7);
    assert_eq!(TmfResponse::read(&bhs), pdu);
}

#[test]
fn command_numbers() {
    let bhs = bhs(&[(24, &[1, 2, 3, 4])]);
    for request in [
        Request::NopOut(NopOut::read(&bhs)),
        Request::ScsiCommand(ScsiCommand::read(&bhs)),
        Request::Tmf(TmfRequest::read(&bhs)),
        Request::Text(TextRequest::read(&bhs)),
        Request::Logout(LogoutRequest::read(&bhs)),
    ] {
        assert_eq!(request.cmd_sn(), Some(CmdSn(0x0102_0304)));
    }
    assert_eq!(Request::DataOut(DataOut::read(&bhs)).cmd_sn(), None);
    assert_eq!(Request::Snack(Snack::read(&bhs)).cmd_sn(), None);
}
