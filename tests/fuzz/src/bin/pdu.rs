// SPDX-License-Identifier: GPL-2.0

//! PDUs: RFC 7143, 11. Which requests are accepted, judged by the clauses; what is read is written back the same; any
//! header that this target writes is one that it would write again (it is canonical).
// fuzz: -max_len=52

#![no_main]

use iscsi_proto::{
    digest::wrong_data,
    error::RejectReason,
    pdu::{self, Head, Request, TaskAttribute},
    sn::{CmdSn, StatSn},
    wire::{Bhs, Itt, Ttt},
};
use libfuzzer_sys::fuzz_target;
use lio_fuzz::{
    field::{be24, be32},
    Input,
};

/// What 11 says of a request's header; that it is well-formed, that is.
fn is_right(bhs: &Bhs) -> bool {
    let opcode = bhs[0] & 0x3f;
    let immediate = bhs[0] & 0x40 != 0;
    let (last, more) = (bhs[1] & 0x80 != 0, bhs[1] & 0x40 != 0);
    let data = be24(bhs, 5);
    let tag = be32(bhs, 16) != 0xffff_ffff;
    match opcode {
        // 11.18: without a task tag it is immediate.
        0x00 => last && (tag || immediate),
        0x01 => {
            let (read, write) = (bhs[1] & 0x40 != 0, bhs[1] & 0x20 != 0);
            let expected = be32(bhs, 20);
            let lengths = if write {
                data <= expected
            } else {
                last && data == 0
            };
            tag && bhs[1] & 7 <= 4 && lengths && (read || write || expected == 0)
        }
        0x02 => last && tag && data == 0,
        0x03 => true,
        0x04 => tag && !(last && more),
        0x05 => tag,
        0x06 => last && tag && data == 0 && bhs[1] & 0x7f <= 2,
        0x10 => last && data == 0,
        _ => false,
    }
}

/// Writes the request; what has no field in it is zero.
fn emit(request: &Request) -> Bhs {
    let mut bhs = [0xa5; 48];
    match request {
        Request::NopOut(pdu) => pdu.emit(&mut bhs),
        Request::ScsiCommand(pdu) => pdu.emit(&mut bhs),
        Request::Tmf(pdu) => pdu.emit(&mut bhs),
        Request::Login(pdu) => pdu.emit(&mut bhs),
        Request::Text(pdu) => pdu.emit(&mut bhs),
        Request::DataOut(pdu) => pdu.emit(&mut bhs),
        Request::Logout(pdu) => pdu.emit(&mut bhs),
        Request::Snack(pdu) => pdu.emit(&mut bhs),
    }
    bhs
}

/// Where each request has its numbers: those that all have at the same place.
fn numbers(request: &Request) -> (u8, Itt, Option<Ttt>, Option<CmdSn>, Option<StatSn>) {
    match request {
        Request::NopOut(p) => (
            0x00,
            p.itt,
            Some(p.ttt),
            Some(p.cmd_sn),
            Some(p.exp_stat_sn),
        ),
        Request::ScsiCommand(p) => (0x01, p.itt, None, Some(p.cmd_sn), Some(p.exp_stat_sn)),
        Request::Tmf(p) => (0x02, p.itt, None, Some(p.cmd_sn), Some(p.exp_stat_sn)),
        Request::Login(p) => (0x03, p.itt, None, Some(p.cmd_sn), Some(p.exp_stat_sn)),
        Request::Text(p) => (
            0x04,
            p.itt,
            Some(p.ttt),
            Some(p.cmd_sn),
            Some(p.exp_stat_sn),
        ),
        Request::DataOut(p) => (0x05, p.itt, Some(p.ttt), None, Some(p.exp_stat_sn)),
        Request::Logout(p) => (0x06, p.itt, None, Some(p.cmd_sn), Some(p.exp_stat_sn)),
        Request::Snack(p) => (0x10, p.itt, Some(p.ttt), None, Some(p.exp_stat_sn)),
    }
}

fn request(bhs: &Bhs, max_data: u32) {
    let head = Head::of(bhs);
    assert_eq!(
        (head.opcode, head.immediate),
        (bhs[0] & 0x3f, bhs[0] & 0x40 != 0)
    );
    assert_eq!(usize::from(head.ahs_len), usize::from(bhs[4]) * 4);
    assert_eq!(head.data_len.bytes(), be24(bhs, 5));
    let fits = be24(bhs, 5) <= max_data && (bhs[4] == 0 || head.opcode == 0x01);
    match head.check_lengths(max_data) {
        Ok(()) => assert!(fits),
        // There is no skipping what was not agreed on.
        Err(error) => assert!(!fits && error.close),
    }
    let (head, request) = match pdu::parse(bhs) {
        Ok(parsed) => parsed,
        Err(_) => return assert!(!is_right(bhs)),
    };
    assert!(is_right(bhs));
    let (opcode, itt, ttt, cmd_sn, exp_stat_sn) = numbers(&request);
    assert_eq!((opcode, itt.0), (head.opcode, be32(bhs, 16)));
    assert!(ttt.is_none_or(|ttt| ttt.0 == be32(bhs, 20)));
    assert!(cmd_sn.is_none_or(|sn| sn.0 == be32(bhs, 24)));
    assert!(exp_stat_sn.is_none_or(|sn| sn.0 == be32(bhs, 28)));
    if let Request::ScsiCommand(command) = &request {
        let attribute = command.flags.attribute().map(|a| match a {
            TaskAttribute::Untagged => 0,
            TaskAttribute::Simple => 1,
            TaskAttribute::Ordered => 2,
            TaskAttribute::HeadOfQueue => 3,
            TaskAttribute::Aca => 4,
        });
        assert_eq!(attribute, Some(bhs[1] & 7));
        assert_eq!(
            (command.expected_len, &command.cdb[..]),
            (be32(bhs, 20), &bhs[32..])
        );
    }

    // Written and read again it is the same, and written once more the same bytes: those that were read, less what is
    // reserved.
    let mut again = emit(&request);
    for (kept, from) in again.iter().zip(bhs).skip(1) {
        assert_eq!(kept & !from, 0, "a bit that was not there");
    }
    again[0] |= bhs[0] & 0x40;
    assert_eq!(pdu::parse(&again).unwrap().1, request);
    let mut third = emit(&pdu::parse(&again).unwrap().1);
    third[0] |= bhs[0] & 0x40;
    assert_eq!(third, again);
}

/// Reads a response and writes it: what has a field in RFC 7143, at these bytes, comes back, and nothing else. `$always`
/// is what is always set in byte 1.
macro_rules! response {
    ($bhs:expr, $pdu:ident = $opcode:expr, $always:expr, $($fields:expr),+) => {{
        let read = pdu::$pdu::read($bhs);
        assert_eq!(read.itt.0, be32($bhs, 16));
        let numbers = [read.sn.stat_sn.0, read.sn.exp_cmd_sn.0, read.sn.max_cmd_sn.0];
        assert_eq!(numbers, [24, 28, 32].map(|at| be32($bhs, at)));
        let mut expected = [0; 48];
        expected[16..20].copy_from_slice(&$bhs[16..20]);
        expected[24..36].copy_from_slice(&$bhs[24..36]);
        $(expected[$fields].copy_from_slice(&$bhs[$fields]);)+
        expected[0] = $opcode;
        expected[1] |= $always;
        let mut out = [0xa5; 48];
        read.emit(&mut out);
        assert_eq!(out, expected, stringify!($pdu));
        assert_eq!(pdu::$pdu::read(&out).itt, read.itt);
    }};
}

const DATA_LEN: std::ops::Range<usize> = 5..8;

fn responses(bhs: &Bhs) {
    // Codes of the two that have an enumeration in them.
    let mut valid = *bhs;
    valid[36] %= 5;
    response!(bhs, NopIn = 0x20, 0x80, DATA_LEN, 8..16, 20..24);
    response!(
        bhs,
        ScsiResponse = 0x21,
        0x80,
        1..4,
        DATA_LEN,
        20..24,
        36..48
    );
    response!(bhs, TmfResponse = 0x22, 0x80, 2..3);
    response!(bhs, LoginResponse = 0x23, 0, 1..4, DATA_LEN, 8..16, 36..38);
    response!(bhs, TextResponse = 0x24, 0, 1..2, DATA_LEN, 8..16, 20..24);
    response!(
        bhs,
        DataIn = 0x25,
        0,
        1..2,
        3..4,
        DATA_LEN,
        8..16,
        20..24,
        36..48
    );
    response!(bhs, LogoutResponse = 0x26, 0x80, 2..3, 40..44);
    response!(bhs, R2t = 0x31, 0x80, 8..16, 20..24, 36..48);
    response!(&valid, Async = 0x32, 0x80, DATA_LEN, 8..16, 36..44);
    valid[2] = [2, 3, 4, 5, 6, 7, 8, 9, 0x0a, 0x0c][usize::from(bhs[2] % 10)];
    response!(&valid, Reject = 0x3f, 0x80, 2..3, DATA_LEN, 36..40);
}

fuzz_target!(|input: &[u8]| {
    let mut input = Input::new(input);
    let bhs: Bhs = input.array();
    request(&bhs, input.u32());
    responses(&bhs);
    // 7.8: the PDU is discarded; what took a command number leaves a gap.
    let wrong = wrong_data(&Head::of(&bhs), 0);
    assert_eq!(wrong.reason, RejectReason::DataDigest);
    let takes_none = bhs[0] & 0x40 != 0 || bhs[0] & 0x3f == 0x05;
    assert_eq!(wrong.close, !takes_none);
});
