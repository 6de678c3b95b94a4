// SPDX-License-Identifier: GPL-2.0

//! The login phase as a sequence of requests, from initiators that keep to RFC 7143 and from others. Whoever reads along
//! comes to the same parameters; full feature phase is reached by the way that 6.3 describes and by no other; an honest
//! initiator always gets there; each other one is refused after a bounded number of requests.
// fuzz: -max_len=600

#![no_main]

use iscsi_proto::{
    login::{
        chap::{Algorithm, Auth},
        Answer, Status,
    },
    pdu::{LoginFlags, LoginRequest},
    sn::{CmdSn, StatSn},
    text::TEXT_MAX,
    wire::{Bhs, Cid, DataLen, Isid, Itt, Tsih},
};
use libfuzzer_sys::fuzz_target;
use lio_fuzz::{
    model::{
        login::{digest, hex, Target, SECRET},
        negotiation::{Rule, KEYS},
    },
    Input,
};

const NAMES: &[u8] =
    b"InitiatorName=iqn.1993-08.org.debian:01:abc\0TargetName=iqn.2003-01.org.x:t1\0";
const SECURITY: u8 = 0;
const OPERATIONAL: u8 = 1;
const FULL: u8 = 3;

fn request(flags: u8, len: usize) -> LoginRequest {
    LoginRequest {
        flags: LoginFlags(flags),
        version_max: 0,
        version_min: 0,
        data_len: DataLen::new(len as u32).unwrap(),
        isid: Isid([0x40, 0, 1, 0x37, 0, 0]),
        tsih: Tsih(0),
        itt: Itt(0x5000),
        cid: Cid(0),
        cmd_sn: CmdSn(0xffff_fff0),
        exp_stat_sn: StatSn(0),
    }
}

fn emit(request: &LoginRequest) -> Bhs {
    let mut bhs = [0; 48];
    request.emit(&mut bhs);
    bhs[0] |= 0x40;
    bhs
}

/// A value that the key may have.
fn right_value(rule: Rule, input: &mut Input<'_>) -> String {
    let number = |min: u64, max: u64, input: &mut Input<'_>| min + input.number() % (max - min + 1);
    match rule {
        Rule::Min(min, max) | Rule::Max(min, max) | Rule::Declared(min, max) => {
            let value = number(min, max, input);
            if input.bool() {
                format!("{value}")
            } else {
                format!("{value:#x}")
            }
        }
        Rule::Or | Rule::And => if input.bool() { "Yes" } else { "No" }.into(),
        Rule::List => ["None,CRC32C", "CRC32C,None", "None", "CRC32C"][input.below(4)].into(),
    }
}

/// CHAP up to the proof, which is left in `text`; whether there is an algorithm that both have.
fn chap(target: &mut Target<'_>, input: &mut Input<'_>, text: &mut Vec<u8>) -> bool {
    let Answer::Allowed(grant) = target.answer else {
        panic!();
    };
    let offer = input.u8();
    let offered: Vec<_> = Algorithm::ALL
        .into_iter()
        .enumerate()
        .filter(|(i, _)| offer & 1 << i != 0)
        .map(|(_, one)| one)
        .collect();
    let mut list: Vec<_> = offered.iter().map(|one| (*one as u8).to_string()).collect();
    list.insert(usize::from(offer >> 4) % (list.len() + 1), "1".into());
    *text = format!("CHAP_A={}\0", list.join(",")).into();
    let best = offered.into_iter().find(|one| grant.algorithms.has(*one));
    let went_on = target.receive(&emit(&request(0, text.len())), text);
    assert_eq!(went_on, best.is_some());
    let Some(best) = best else {
        return false;
    };
    let (identifier, len) = (target.challenge.identifier, best.digest_len());
    let right = digest(identifier, SECRET, &target.challenge.bytes[..len], len);
    *text = format!("CHAP_N=joe\0CHAP_R={}\0", hex(&right)).into();
    if input.bool() {
        text.extend(format!("CHAP_I={}\0CHAP_C=0x{:02x}77\0", input.u8(), input.u8()).bytes());
    }
    true
}

/// An initiator that keeps to the rules: any keys in any order, once each, with right values; any way through the stages;
/// text in any number of pieces. It must get in.
fn honest(input: &mut Input<'_>) {
    let mut target = Target::new(input);
    let bits = input.u8();
    let mut text = NAMES.to_vec();
    if bits & 1 != 0 {
        text.extend(b"SessionType=Discovery\0");
    }
    if bits & 2 != 0 {
        // So many that the answers may be longer than a response.
        let many = 1 + input.below(2) * usize::from(input.u16() % 600);
        for i in 0..many {
            text.extend(format!("X-{i}=\0").bytes());
        }
    }
    let demanded = matches!(target.answer, Answer::Allowed(grant) if grant.auth == Auth::Required);
    let mut stage = if demanded || bits & 4 != 0 {
        SECURITY
    } else {
        OPERATIONAL
    };
    let skips = bits & 8 != 0;
    if stage == SECURITY {
        let to = if skips { FULL } else { OPERATIONAL };
        let methods = ["CHAP,None", "None,CHAP", "None", "CHAP"][input.below(4)];
        let Answer::Allowed(grant) = target.answer else {
            panic!();
        };
        text.extend(format!("AuthMethod={methods}\0").bytes());
        let first = methods.split(',').find(|&method| match method {
            "None" => grant.auth != Auth::Required,
            _ => {
                grant.auth == Auth::Required
                    || grant.auth == Auth::Optional && !grant.algorithms.is_empty()
            }
        });
        if first.is_none() {
            assert!(!target.receive(&emit(&request(0x80 | to, text.len())), &text));
            assert!(!target.done, "by no method");
            return;
        }
        if first == Some("CHAP") {
            assert!(target.receive(&emit(&request(0x80 | to, text.len())), &text));
            while target.has_more() {
                assert!(target.receive(&emit(&request(to, 0)), &[]));
            }
            if !chap(&mut target, input, &mut text) {
                return;
            }
        }
        let mut goes_on = target.receive(&emit(&request(0x80 | to, text.len())), &text);
        while goes_on && target.has_more() {
            goes_on = target.receive(&emit(&request(0x80 | to, 0)), &[]);
        }
        if !goes_on {
            let none = target.takes("HeaderDigest", "None") && target.takes("DataDigest", "None");
            assert!(
                skips && target.done == none,
                "refused in the security stage"
            );
            return;
        }
        assert_eq!(target.stage, to);
        stage = to;
        text.clear();
    }
    let mut acceptable = true;
    let mut rows: Vec<_> = KEYS.iter().collect();
    for _ in 0..input.below(KEYS.len() + 1) {
        let (name, rule, _) = rows.remove(input.below(rows.len()));
        let value = match *name {
            "TaskReporting" => "RFC3720,ResponseFence".into(),
            _ => right_value(*rule, input),
        };
        acceptable &= target.takes(name, &value);
        text.extend(format!("{name}={value}\0").bytes());
    }
    for round in 0.. {
        assert!(round < 4, "an honest login does not come to an end");
        // 11.12.2: in pieces, to each of which an empty response comes.
        while text.len() > 1 && input.bool() && target.requests < 20 {
            let piece = text.split_off(1 + input.below(text.len().min(255)));
            let sent = std::mem::replace(&mut text, piece);
            assert!(target.receive(&emit(&request(0x40 | stage << 2, sent.len())), &sent));
        }
        let flags = 0x80 | stage << 2 | FULL;
        let mut goes_on = target.receive(&emit(&request(flags, text.len())), &text);
        while goes_on && target.has_more() {
            goes_on = target.receive(&emit(&request(flags, 0)), &[]);
        }
        if !goes_on {
            break;
        }
        text.clear();
        for (name, value) in target.transcript.unanswered() {
            text.extend(
                name.bytes()
                    .chain([b'='])
                    .chain(value.iter().copied())
                    .chain([0]),
            );
        }
    }
    assert_eq!(target.done, acceptable, "an honest initiator was refused");
}

const WORDS: [&[u8]; 18] = [
    b"Yes",
    b"No",
    b"None",
    b"0",
    b"1",
    b"512",
    b"16777215",
    b"NotUnderstood",
    b"Irrelevant",
    b"Reject",
    b"Normal",
    b"Discovery",
    b"CHAP",
    b"iqn.a",
    b"joe",
    b"5,6,7,8",
    b"0x00112233445566778899aabbccddeeff",
    b"CHAP,None",
];
const OTHER_KEYS: [&[u8]; 21] = [
    b"AuthMethod",
    b"SendTargets",
    b"TargetName",
    b"InitiatorName",
    b"TargetAlias",
    b"InitiatorAlias",
    b"TargetAddress",
    b"TargetPortalGroupTag",
    b"SessionType",
    b"X#NodeArchitecture",
    b"IFMarker",
    b"OFMarkInt",
    b"X-new",
    b"CHAP_R",
    b"CHAP_A",
    b"CHAP_N",
    b"CHAP_I",
    b"CHAP_C",
    b"TargetRecvDataSegmentLength",
    b"MaxAHSLength",
    b"TaggedBufferForSolicitedDataOnly",
];

/// Text that makes some sense.
fn any_text(input: &mut Input<'_>) -> Vec<u8> {
    let mut text = vec![];
    let n = input.below(8);
    for _ in 0..n {
        match input.below(8) {
            0 => text.extend(NAMES),
            1 => text.extend(input.text()),
            2 => {
                let (byte, many) = match (input.u8(), input.u8()) {
                    (byte, 0xff) => (byte, usize::from(input.u16()) % TEXT_MAX),
                    (byte, few) => (byte, few.into()),
                };
                text.extend(std::iter::repeat_n(byte, many));
            }
            kind => {
                let key = usize::from(input.u8());
                let (name, rule) = match KEYS.get(key % (KEYS.len() + OTHER_KEYS.len())) {
                    Some((name, rule, _)) => (name.as_bytes(), *rule),
                    None => (OTHER_KEYS[key % OTHER_KEYS.len()], Rule::List),
                };
                text.extend(name);
                text.push(b'=');
                match kind {
                    3 | 4 => text.extend(right_value(rule, input).bytes()),
                    5 | 6 => text.extend(WORDS[input.below(WORDS.len())]),
                    _ => text.extend(input.text()),
                }
                text.push(0);
            }
        }
    }
    text
}

/// An initiator that does as it likes.
fn any(input: &mut Input<'_>) {
    let mut target = Target::new(input);
    let address = b"192.0.2.1:3260,1";
    match input.below(16) {
        0 => {
            target.answer = Answer::Moved {
                address,
                permanent: input.bool(),
            }
        }
        1 => target.answer = Answer::Refused(Status::NotFound),
        _ => {
            if let Answer::Allowed(grant) = &mut target.answer {
                grant.alias = input.text();
                // The tree's attribute takes no NUL.
                if grant.alias.contains(&0) {
                    grant.alias = b"alias";
                }
            }
        }
    }
    let mut first = true;
    loop {
        let kind = input.u8();
        let mut text = any_text(input);
        if first && kind & 1 != 0 {
            text.splice(..0, NAMES.iter().copied());
        }
        first = false;
        text.truncate(TEXT_MAX - target.login.held());
        let flags = match kind >> 1 & 7 {
            0 => 0x80 | target.stage << 2 | FULL,
            1 => 0x80 | target.stage << 2 | OPERATIONAL,
            2 => target.stage << 2,
            3 => 0x40 | target.stage << 2,
            4 => 0x80 | OPERATIONAL << 2 | FULL,
            _ => input.u8(),
        };
        let mut bhs = emit(&request(flags, text.len()));
        for _ in 0..kind >> 6 {
            let at = input.below(48);
            // What is received is as long as the header says.
            if !(4..8).contains(&at) {
                bhs[at] ^= 1 << input.below(8);
            }
        }
        if !target.receive(&bhs, &text) {
            break;
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let mut input = Input::new(input);
    if input.bool() {
        honest(&mut input);
    } else {
        any(&mut input);
    }
});
