// SPDX-License-Identifier: GPL-2.0

use super::text::{seen_from, target_address, target_name, Exchange, SendTargets, Step};
use super::*;
use crate::pdu::{self, Numbers, TextFlags, TextRequest};
use crate::seq::{CmdWindow, StatSeq};
use crate::sn::{CmdSn, StatSn};
use crate::test_util::Random;
use crate::text::Writer;
use crate::wire::{DataLen, Lun};
use std::string::String;
use std::vec::Vec;

fn tmf(function: u8, ref_cmd_sn: u32, cmd_sn: u32) -> TmfRequest {
    let mut request = TmfRequest::read(&[0; 48]);
    request.function = 0x80 | function;
    request.ref_cmd_sn = CmdSn(ref_cmd_sn);
    request.cmd_sn = CmdSn(cmd_sn);
    request
}

#[test]
fn functions() {
    for code in 1..=8 {
        assert_eq!(Function::of(&tmf(code, 0, 0)).map(|f| f as u8), Some(code));
    }
    for code in [0, 9, 14, 0x7f] {
        assert_eq!(Function::of(&tmf(code, 0, 0)), None);
    }
    assert!(Function::AbortTask.has_lun() && !Function::TargetColdReset.has_lun());
}

#[test]
fn functions_at_work() {
    let mut at_work = Managing::default();
    assert!(at_work.is_empty() && !at_work.has(Itt(1)));
    for tag in 0..16 {
        assert!(at_work.begin(Itt(tag)));
    }
    assert!(!at_work.begin(Itt(16)) && at_work.has(Itt(15)));
    assert_eq!(at_work.count(), 16);
    at_work.end(Itt(7));
    at_work.end(Itt(7));
    assert_eq!(at_work.count(), 15);
    assert!(!at_work.has(Itt(7)) && at_work.begin(Itt(16)));
    for tag in 0..17 {
        at_work.end(Itt(tag));
    }
    assert!(at_work.is_empty());
}

#[test]
fn a_task_that_is_not_there() {
    for (reference, number, want) in [
        (9, 10, TmfAnswer::NoTask),
        (10, 10, TmfAnswer::NoTask),
        (10, 11, TmfAnswer::Complete),
        (17, 18, TmfAnswer::Complete),
        (18, 19, TmfAnswer::NoTask),
    ] {
        assert_eq!(
            missing_task(&tmf(1, reference, number), CmdSn(10), CmdSn(17)),
            want,
            "{reference}"
        );
    }
}

#[test]
fn nops() {
    let mut pdu = NopOut::read(&[0; 48]);
    (pdu.itt, pdu.ttt) = (Itt(4), Ttt::NONE);
    assert_eq!(
        nop_out(&pdu),
        Nop {
            ping: Some(Itt(4)),
            pong: None
        }
    );
    (pdu.itt, pdu.ttt) = (Itt::NONE, Ttt(8));
    assert_eq!(
        nop_out(&pdu),
        Nop {
            ping: None,
            pong: Some(Ttt(8))
        }
    );
    pdu.ttt = Ttt::NONE;
    assert_eq!(
        nop_out(&pdu),
        Nop {
            ping: None,
            pong: None
        }
    );
}

#[test]
fn logouts() {
    let mut request = LogoutRequest::read(&[0; 48]);
    let recovery = Ended::ForRecovery;
    for (reason, cid, level, want) in [
        (0x80, 7, 0, Logout::Session),
        (0x81, 1, 0, Logout::Own(Ended::ForGood)),
        (0x81, 2, 2, Logout::Other(Cid(2), Ended::ForGood)),
        (0x81, 3, 0, Logout::Refused(1)),
        (0x82, 1, 1, Logout::Refused(2)),
        (0x82, 2, 0, Logout::Refused(2)),
        (0x82, 1, 2, Logout::Own(recovery)),
        (0x82, 2, 2, Logout::Other(Cid(2), recovery)),
        (0x82, 3, 2, Logout::Refused(1)),
        (0x83, 1, 2, Logout::Refused(2)),
    ] {
        (request.reason, request.cid) = (reason, Cid(cid));
        let is_there = |cid| cid == Cid(2);
        assert_eq!(logout(&request, Cid(1), level, is_there), want);
    }
}

#[test]
fn what_a_session_admits() {
    let parse = |opcode: u8| {
        let mut bhs = [0; 48];
        (bhs[0], bhs[1]) = (opcode, 0x80);
        pdu::parse(&bhs).unwrap().1
    };
    for opcode in [0x40, 1, 2, 4, 5, 6] {
        assert_eq!(admits(SessionType::Normal, 0, &parse(opcode)), Ok(()));
        let discovery = admits(SessionType::Discovery, 0, &parse(opcode));
        assert_eq!(
            discovery.is_ok(),
            matches!(opcode, 0x40 | 4 | 6),
            "{opcode:#x}"
        );
    }
    let error = admits(SessionType::Normal, 0, &parse(0x10)).unwrap_err();
    assert_eq!((error.reason, error.close), (RejectReason::Snack, false));
    assert!(
        admits(SessionType::Normal, 0, &parse(0x43))
            .unwrap_err()
            .close
    );
}

fn request(flags: u8, ttt: Ttt, len: usize) -> TextRequest {
    TextRequest {
        flags: TextFlags(flags),
        data_len: DataLen::at_most(len),
        lun: Lun::default(),
        itt: Itt(3),
        ttt,
        cmd_sn: CmdSn(1),
        exp_stat_sn: StatSn(1),
    }
}

const F: u8 = 0x80;
const C: u8 = 0x40;

fn numbers() -> Numbers {
    CmdWindow::new(CmdSn(1), 4).numbers(&mut StatSeq::new(StatSn(1)))
}

#[test]
fn a_long_reply_goes_out_in_pieces() {
    let mut exchange = Exchange::default();
    assert_eq!(
        exchange.request(&request(F, Ttt::NONE, 16), 100, numbers),
        Ok(Step::Complete)
    );
    let mut step = exchange.reply(250, 100, numbers());
    let mut pieces = Vec::new();
    loop {
        let Step::Send { pdu, offset } = step else {
            panic!("{step:?}");
        };
        pieces.push((offset, pdu.data_len.bytes(), pdu.flags.0));
        assert_eq!(pdu.itt, Itt(3));
        assert_eq!(pdu.flags.last(), pdu.ttt == Ttt::NONE);
        if pdu.flags.last() {
            break;
        }
        // Any other tag is rejected, and changes nothing.
        assert!(exchange
            .request(&request(F, Ttt(1), 0), 100, numbers)
            .is_err());
        step = exchange
            .request(&request(F, pdu.ttt, 0), 100, numbers)
            .unwrap();
    }
    assert_eq!(pieces, [(0, 100, C), (100, 100, C), (200, 50, F)]);
    assert!(exchange
        .request(&request(F, Ttt::new(0xfffe, 2), 0), 100, numbers)
        .is_err());
}

#[test]
fn a_long_request_comes_in_pieces() {
    let mut exchange = Exchange::default();
    let first = request(C, Ttt::NONE, 5);
    assert_eq!(exchange.held(&first), Ok(0));
    let Ok(Step::More(pdu)) = exchange.request(&first, 100, numbers) else {
        panic!();
    };
    assert_eq!((pdu.flags.0, pdu.data_len.bytes()), (0, 0));
    let second = request(F, pdu.ttt, 7);
    assert_eq!(exchange.held(&second), Ok(5));
    assert_eq!(exchange.request(&second, 100, numbers), Ok(Step::Complete));
    let Step::Send { pdu, offset: 0 } = exchange.reply(0, 100, numbers()) else {
        panic!();
    };
    assert_eq!((pdu.flags.0, pdu.ttt), (F, Ttt::NONE));
    // Too long in all.
    let _ = exchange.request(&request(C, Ttt::NONE, 8_192), 100, numbers);
    let again = request(F, exchange_ttt(&mut exchange), 1);
    assert!(!exchange.held(&again).unwrap_err().close);
    // A new sequence begins anew.
    assert_eq!(exchange.held(&request(F, Ttt::NONE, 8_192)), Ok(0));
}

fn exchange_ttt(exchange: &mut Exchange) -> Ttt {
    match exchange.request(&request(C, Ttt::NONE, 8_192), 100, numbers) {
        Ok(Step::More(pdu)) => pdu.ttt,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_unfinished_negotiation_stays_open() {
    let mut exchange = Exchange::default();
    assert_eq!(
        exchange.request(&request(0, Ttt::NONE, 5), 100, numbers),
        Ok(Step::Complete)
    );
    let Step::Send { pdu, .. } = exchange.reply(10, 100, numbers()) else {
        panic!();
    };
    assert_eq!(pdu.flags.0, 0, "F only in answer to F");
    assert_ne!(pdu.ttt, Ttt::NONE);
    assert_eq!(
        exchange.request(&request(F, pdu.ttt, 5), 100, numbers),
        Ok(Step::Complete)
    );
    let Step::Send { pdu, .. } = exchange.reply(10, 100, numbers()) else {
        panic!();
    };
    assert_eq!((pdu.flags.0, pdu.ttt), (F, Ttt::NONE));
}

#[test]
fn texts_are_answered() {
    use SessionType::{Discovery, Normal};
    let named: &[u8] = b"iqn.2003-01.org.x:t1";
    for (session, text, want, reply) in [
        (Discovery, "SendTargets=All ", Some(SendTargets::All), ""),
        (
            Discovery,
            "SendTargets=iqn.2003-01.org.x:t1 ",
            Some(SendTargets::Named(named)),
            "",
        ),
        (Normal, "SendTargets= ", Some(SendTargets::Own), ""),
        (
            Normal,
            "SendTargets=iqn.2003-01.org.x:t1 ",
            Some(SendTargets::Named(named)),
            "",
        ),
        (Normal, "SendTargets=All ", Some(SendTargets::Own), ""),
        (
            Normal,
            "X-foo=1 InitiatorAlias=x ",
            None,
            "X-foo=NotUnderstood ",
        ),
    ] {
        let text = text.replace(' ', "\0");
        let mut out = [0; 128];
        let mut writer = Writer::new(&mut out);
        let asked = Exchange::default().answer(session, text.as_bytes(), &mut writer);
        assert_eq!(asked, Ok(want), "{text}");
        let written = String::from_utf8(writer.text().to_vec()).unwrap();
        assert_eq!(written.replace('\0', " "), reply, "{text}");
    }
    for (session, text) in [
        (Discovery, "SendTargets="),
        (Discovery, "SendTargets=a/b"),
        (Discovery, "SendTargets=Banana"),
        (Normal, "SendTargets=Alle"),
        (Normal, "SendTargetsPlease=All"),
        (Normal, "sENDtARGETS=aLL"),
    ] {
        let mut out = [0; 128];
        let wrong = Exchange::default()
            .answer(session, text.as_bytes(), &mut Writer::new(&mut out))
            .unwrap_err();
        assert!(!wrong.close, "{text}");
    }
    let mut out = [0; 128];
    for text in [
        &b"MaxRecvDataSegmentLength=1\0"[..],
        b"MaxRecvDataSegmentLength=512\0MaxRecvDataSegmentLength=512\0",
        b"InitialR2T=Yes\0",
        b"TargetName=iqn.x\0",
        b"TargetAlias=x\0",
        b"IFMarker=No\0",
        b"RDMAExtensions=No\0",
        b"MaxRecvDataSegmentLength=Reject\0",
        b"InitiatorAlias=a\x07\0",
        b"nothing\0",
    ] {
        let error = Exchange::default()
            .answer(Normal, text, &mut Writer::new(&mut out))
            .unwrap_err();
        assert_eq!(
            (error.reason, error.close),
            (RejectReason::ProtocolError, false)
        );
    }
}

/// 6.4: what is declared holds when the sequence ends, not if it fails, and nothing may be declared twice in one.
#[test]
fn declarations_hold_when_the_sequence_ends() {
    const LENGTH: &[u8] = b"MaxRecvDataSegmentLength=4096\0";
    const ALIAS: &[u8] = b"InitiatorAlias=new\0";
    /// One request and its answer; the tag to go on with.
    fn say(
        exchange: &mut Exchange,
        flags: u8,
        ttt: Ttt,
        text: &[u8],
    ) -> Result<Ttt, crate::error::Error> {
        assert!(exchange.agreed().is_none());
        let request = request(flags, ttt, text.len());
        let mut step = exchange.request(&request, 100, numbers)?;
        if step == Step::Complete {
            let mut out = [0; 64];
            for _ in 0..2 {
                exchange.answer(SessionType::Normal, text, &mut Writer::new(&mut out))?;
            }
            step = exchange.reply(0, 100, numbers());
        }
        match step {
            Step::Send { pdu, .. } | Step::More(pdu) => Ok(pdu.ttt),
            Step::Complete => panic!(),
        }
    }
    let mut exchange = Exchange::default();
    let ttt = say(&mut exchange, 0, Ttt::NONE, LENGTH).unwrap();
    let ttt = say(&mut exchange, 0, ttt, ALIAS).unwrap();
    assert_eq!(say(&mut exchange, F, ttt, b""), Ok(Ttt::NONE));
    let declared = exchange.agreed().unwrap();
    assert_eq!(declared.peer_recv, Some(4096));
    assert_eq!(declared.initiator_alias(), Some(&b"new"[..]));
    assert!(exchange.agreed().is_none());

    // Another sequence may say so again; it says nothing of what it does not name.
    assert_eq!(say(&mut exchange, F, Ttt::NONE, LENGTH), Ok(Ttt::NONE));
    assert_eq!(exchange.agreed().unwrap().initiator_alias(), None);

    // Twice in a sequence.
    let ttt = say(&mut exchange, 0, Ttt::NONE, LENGTH).unwrap();
    assert!(say(&mut exchange, F, ttt, LENGTH).is_err());
    exchange.reset();
    assert_eq!(say(&mut exchange, F, Ttt::NONE, b""), Ok(Ttt::NONE));
    assert_eq!(exchange.agreed().unwrap().peer_recv, None);

    // 11.10.4: a sequence that is begun anew has said nothing.
    say(&mut exchange, 0, Ttt::NONE, LENGTH).unwrap();
    assert_eq!(say(&mut exchange, F, Ttt::NONE, ALIAS), Ok(Ttt::NONE));
    assert_eq!(exchange.agreed().unwrap().peer_recv, None);
}

#[test]
fn portals_are_seen_from_where_the_initiator_came() {
    for (portal, local, seen) in [
        ("0.0.0.0:3260", "10.0.0.1:860", Some("10.0.0.1:3260")),
        ("0.0.0.0:3260", "[2001:db8::1]:860", None),
        ("[::]:3261", "[2001:db8::1]:860", Some("[2001:db8::1]:3261")),
        ("[::]:3260", "10.0.0.1:860", Some("10.0.0.1:3260")),
        ("10.0.0.1:3260", "[2001:db8::1]:3260", Some("10.0.0.1:3260")),
        ("10.0.0.2:3260", "10.0.0.1:860", Some("10.0.0.2:3260")),
        (
            "[fe80::1%2]:3260",
            "[fe80::2%2]:3260",
            Some("[fe80::1%2]:3260"),
        ),
        ("[fe80::1%2]:3260", "[fe80::2%3]:3260", None),
        ("[fe80::1%2]:3260", "[2001:db8::1]:3260", None),
        ("[fe80::1%2]:3260", "10.0.0.1:3260", None),
        ("127.0.0.1:3260", "10.0.0.1:3260", None),
        ("[::1]:3260", "127.0.0.1:3260", Some("[::1]:3260")),
    ] {
        let read = |text: &str| text.parse().unwrap();
        assert_eq!(
            seen_from(read(portal), read(local)),
            seen.map(read),
            "{portal} from {local}"
        );
    }
}

#[test]
fn records() {
    let mut out = [0; 256];
    let mut writer = Writer::new(&mut out);
    target_name(&mut writer, b"iqn.x").unwrap();
    target_address(&mut writer, "10.0.0.1:3260".parse().unwrap(), 1).unwrap();
    target_address(&mut writer, "[fe80::1]:3261".parse().unwrap(), 65_535).unwrap();
    assert_eq!(
        writer.text(),
        b"TargetName=iqn.x\0TargetAddress=10.0.0.1:3260,1\0TargetAddress=[fe80::1]:3261,65535\0"
    );
    let mut short = [0; 20];
    let mut writer = Writer::new(&mut short);
    assert!(target_address(&mut writer, "10.0.0.1:3260".parse().unwrap(), 1).is_err());
    assert!(writer.is_empty());
}

#[test]
fn random_exchanges_stay_in_bounds() {
    let mut random = Random::new(29);
    for _ in 0..5_000 {
        let mut exchange = Exchange::default();
        let (mut ttt, mut total) = (Ttt::NONE, 0usize);
        for _ in 0..16 {
            let given = if random.below(3) == 0 { Ttt::NONE } else { ttt };
            let request = request(
                [0, F, C][random.below(3)],
                given,
                random.below(3_000) * random.below(2),
            );
            let Ok(held) = exchange.held(&request) else {
                continue;
            };
            assert!(held + request.data_len.bytes() as usize <= crate::text::TEXT_MAX);
            let max = random.below(600) as u32;
            let step = match exchange.request(&request, max, numbers) {
                Ok(Step::Complete) => {
                    total = random.below(2_000);
                    exchange.reply(total, max, numbers())
                }
                Ok(step) => step,
                Err(_) => continue,
            };
            match step {
                Step::More(pdu) => ttt = pdu.ttt,
                Step::Send { pdu, offset } => {
                    let len = pdu.data_len.bytes() as usize;
                    assert!(len <= max.max(1) as usize && offset + len <= total);
                    ttt = pdu.ttt;
                }
                Step::Complete => panic!(),
            }
        }
    }
}
