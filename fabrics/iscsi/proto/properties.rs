// SPDX-License-Identifier: GPL-2.0

//! What holds for all values: what is written reads as it was, what is canonical is written as it was read, and nothing
//! is written beyond its bound. Where the product has one direction only, the other one is here. Requests are in
//! `pdu/tests.rs`; `tests/fuzz` goes on where this ends.

use crate::ahs::{self, Segments};
use crate::ffp::text::{target_address, target_name, Exchange};
use crate::keys;
use crate::login::chap::{Algorithms, Auth, Challenge};
use crate::login::{Answer, Grant, Login, SessionType, Step};
use crate::negotiate::Config;
use crate::pdu::{self, LoginFlags, LoginRequest, Stage};
use crate::sn::{CmdSn, StatSn};
use crate::test_util::Random;
use crate::text::{pairs, Full, Writer, KEY_MAX, TEXT_MAX, VALUE_MAX};
use crate::value;
use crate::wire::{Cid, DataLen, Isid, Itt, Tsih, BHS_LEN};
use std::format;
use std::net::{IpAddr, SocketAddr};
use std::vec;
use std::vec::Vec;

const ROUNDS: usize = if cfg!(miri) { 100 } else { 20_000 };

/// A response is written the same again when it was read, and reads the same again.
#[test]
fn responses() {
    macro_rules! agree {
        ($bytes:expr, $($pdu:ident),+) => { $({
            let mut first = [0xee; BHS_LEN];
            pdu::$pdu::read($bytes).emit(&mut first);
            let read = pdu::$pdu::read(&first);
            let mut second = [0x11; BHS_LEN];
            read.emit(&mut second);
            assert_eq!(first, second);
            assert_eq!(pdu::$pdu::read(&second), read);
        })+ };
    }
    let mut random = Random::new(21);
    for _ in 0..ROUNDS {
        let mut bytes = [0; BHS_LEN];
        random.fill(&mut bytes);
        agree!(
            &bytes,
            NopIn,
            ScsiResponse,
            TmfResponse,
            LoginResponse,
            TextResponse,
            DataIn,
            LogoutResponse,
            R2t,
            Async,
            Reject
        );
    }
}

/// Writes header segments as an initiator does.
fn emit_ahs(segments: &Segments<'_>, read_first: bool) -> Vec<u8> {
    let cdb = segments.extended_cdb.map(|cdb| {
        let mut out = Vec::from((cdb.len() as u16 + 1).to_be_bytes());
        out.extend([1, 0]);
        out.extend(cdb);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    });
    let read = segments.bidirectional_read.map(|len| {
        let mut out = vec![0, 5, 2, 0];
        out.extend(len.to_be_bytes());
        out
    });
    let order = if read_first { [read, cdb] } else { [cdb, read] };
    order.into_iter().flatten().flatten().collect()
}

#[test]
fn header_segments() {
    let bytes: Vec<u8> = (0..=255).collect();
    let reads = [None, Some(0), Some(0x0102_0304)];
    for len in 0..=244 {
        for (read, read_first) in reads.iter().flat_map(|r| [(*r, false), (*r, true)]) {
            let segments = Segments {
                extended_cdb: bytes.get(..len).filter(|cdb| !cdb.is_empty()),
                bidirectional_read: read,
            };
            let emitted = emit_ahs(&segments, read_first);
            let parsed = ahs::parse(&emitted).unwrap();
            assert_eq!(parsed, segments);
            assert_eq!(emit_ahs(&parsed, read_first), emitted);
        }
    }
    let long = Segments {
        extended_cdb: Some(&bytes[..245]),
        bidirectional_read: None,
    };
    assert!(ahs::parse(&emit_ahs(&long, false)).is_err());
}

/// Pairs that a text may have.
fn any_pairs(random: &mut Random) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    for _ in 0..random.below(6) {
        let key = (0..1 + random.below(KEY_MAX))
            .map(|_| match 0x21 + random.below(0x5e) as u8 {
                b'=' => b'K',
                graphic => graphic,
            })
            .collect();
        let value = (0..random.below(VALUE_MAX + 1))
            .map(|_| 1 + random.below(255) as u8)
            .collect();
        all.push((key, value));
    }
    all
}

#[test]
fn text() {
    let mut random = Random::new(22);
    for round in 0..ROUNDS / 10 {
        let expected = any_pairs(&mut random);
        let mut out = vec![0; TEXT_MAX];
        let mut writer = Writer::new(&mut out);
        for (key, value) in &expected {
            writer.pair_bytes(key, value).unwrap();
        }
        let text = Vec::from(writer.text());
        let read: Vec<_> = pairs(&text)
            .map(|pair| pair.map(|p| (Vec::from(p.key), Vec::from(p.value))))
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(read, expected);

        // In any less room there are as many whole pairs as fit, and nothing behind the room.
        let room = if round < 20 { 0..text.len() } else { 0..1 };
        for room in room.chain([random.below(text.len() + 1)]) {
            let mut out = vec![0xa5; room + 8];
            let mut writer = Writer::new(&mut out[..room]);
            for (key, value) in &expected {
                let len = writer.len();
                if writer.pair_bytes(key, value) == Err(Full) {
                    assert_eq!(writer.len(), len);
                    assert!(len + key.len() + value.len() + 2 > room);
                    break;
                }
            }
            let len = writer.len();
            assert!(len <= room && out[..len] == text[..len]);
            assert_eq!(out[room..], [0xa5; 8]);
        }
    }
}

#[test]
fn values() {
    const BASE64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut random = Random::new(23);
    for _ in 0..ROUNDS {
        let number = random.next() >> random.below(64);
        let other = random.next() >> random.below(64);
        for text in [format!("{number}"), format!("{number:#x}")] {
            assert_eq!(value::number(text.as_bytes()), Some(number));
        }
        let range = value::range(
            format!("{number}~{other:#X}")
                .replace("0X", "0x")
                .as_bytes(),
        );
        assert_eq!(range, (number <= other).then_some((number, other)));

        let mut bytes = vec![0; random.below(40)];
        random.fill(&mut bytes);
        let hex: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut base64 = Vec::from(&b"0b"[..]);
        for three in bytes.chunks(3) {
            let bits = three
                .iter()
                .chain([0, 0].iter())
                .take(3)
                .fold(0, |bits, byte| (bits << 8) | usize::from(*byte));
            for i in 0..4 {
                base64.push(if i <= three.len() {
                    BASE64[(bits >> (18 - 6 * i)) & 63]
                } else {
                    b'='
                });
            }
        }
        for text in [format!("0x{}", hex.concat()).as_bytes(), &base64] {
            for room in [bytes.len(), bytes.len().saturating_sub(1), 64] {
                let mut out = vec![0xa5; room + 1];
                let len = value::binary(text, &mut out[..room]);
                let fits = !bytes.is_empty() && bytes.len() <= room;
                assert_eq!(len, fits.then_some(bytes.len()));
                assert!(len.is_none_or(|len| out[..len] == bytes));
                assert_eq!(out[room], 0xa5);
            }
        }
    }
}

#[test]
fn target_addresses() {
    let mut random = Random::new(24);
    for _ in 0..ROUNDS {
        let mut bytes = [0; 16];
        random.fill(&mut bytes);
        let ip: IpAddr = match random.below(3) {
            0 => bytes[..4].try_into().map(|b: [u8; 4]| b.into()).unwrap(),
            1 => bytes.into(),
            _ => {
                bytes[..random.below(17)].fill(0);
                bytes.into()
            }
        };
        let portal = SocketAddr::new(ip, random.next() as u16);
        let tag = random.next() as u16;
        let mut out = [0; 80];
        let mut writer = Writer::new(&mut out);
        // The longest has 54 bytes and its name: it fits.
        target_address(&mut writer, portal, tag).unwrap();
        let pair = pairs(writer.text()).next().unwrap().unwrap();
        assert_eq!(pair.key, b"TargetAddress");
        let value = std::str::from_utf8(pair.value).unwrap();
        let (address, number) = value.rsplit_once(',').unwrap();
        assert_eq!(address.parse(), Ok(portal));
        assert_eq!(number.parse(), Ok(tag));
    }
}

/// Text of real keys, with right and wrong values, and others.
fn any_text(random: &mut Random) -> Vec<u8> {
    let mut text = Vec::new();
    for _ in 0..random.below(40) {
        match random.below(4) {
            0 => text.extend(b"k="),
            1 => text.extend(b"InitiatorName=iqn.a\0TargetName=iqn.b"),
            _ => {
                text.extend(keys::KEYS[random.below(keys::KEYS.len())].name.as_bytes());
                let values = ["Yes", "None", "512", "16777215", "", "Normal", "All", "2"];
                text.push(b'=');
                text.extend(values[random.below(values.len())].as_bytes());
            }
        }
        text.push(0);
    }
    text
}

/// A login's answer fits the room that it has, whatever is asked: less of it fails the login.
#[test]
fn login_responses_are_bounded() {
    let mut random = Random::new(25);
    let (mut answered, mut refused) = (0, 0);
    for _ in 0..ROUNDS / 4 {
        let mut text = Vec::from(&b"InitiatorName=iqn.a\0TargetName=iqn.b\0"[..]);
        match random.below(3) {
            0 => text.extend(any_text(&mut random)),
            1 => text.extend(b"HeaderDigest=None\0InitialR2T=No\0MaxBurstLength=512\0a=\0"),
            // Each of these is answered with five times as much.
            _ => text.extend(b"a=\0".repeat(random.below(2_700))),
        }
        let mut bhs = [0; BHS_LEN];
        LoginRequest {
            flags: LoginFlags(0x80).with_stages(Stage::Operational, Stage::FullFeature),
            version_max: 0,
            version_min: 0,
            data_len: DataLen::at_most(text.len()),
            isid: Isid::default(),
            tsih: Tsih(0),
            itt: Itt(1),
            cid: Cid(0),
            cmd_sn: CmdSn(1),
            exp_stat_sn: StatSn(0),
        }
        .emit(&mut bhs);
        bhs[0] |= 0x40;
        let room = random.below(600);
        let mut out = vec![0xa5; room + 8];
        let mut login = Login::new(StatSn(1));
        let mut step = login.request(&bhs, &text, &mut out[..room]);
        if step == Step::LookUp {
            let grant = Grant {
                config: Config::default(),
                auth: Auth::None,
                algorithms: Algorithms::default(),
                challenge: Challenge::default(),
                portal_group_tag: 1,
                alias: b"",
                depth: 1,
                joins: None,
            };
            step = login.answer(Answer::Allowed(grant), &text, &mut out[..room]);
        }
        let pdu = match step {
            Step::Respond(pdu) | Step::Done(pdu, _) => {
                answered += 1;
                pdu
            }
            Step::Refuse(pdu, _) => {
                refused += 1;
                assert_eq!(pdu.data_len.bytes(), 0);
                pdu
            }
            other => panic!("{other:?}"),
        };
        assert!(pdu.data_len.bytes() as usize <= room);
        assert_eq!(out[room..], [0xa5; 8]);
    }
    assert!(
        answered > ROUNDS / 100 && refused > ROUNDS / 100,
        "{answered} {refused}"
    );
}

#[test]
fn text_responses_are_bounded() {
    let mut random = Random::new(26);
    let mut full = 0;
    for _ in 0..ROUNDS / 4 {
        let text = match random.below(2) {
            0 => any_text(&mut random),
            _ => b"X-a=\0".repeat(random.below(1_600)),
        };
        let room = random.below(TEXT_MAX);
        let mut out = vec![0xa5; room + 8];
        let mut writer = Writer::new(&mut out[..room]);
        let kind = [SessionType::Normal, SessionType::Discovery][random.below(2)];
        if Exchange::default().answer(kind, &text, &mut writer).is_ok() {
            while target_name(&mut writer, b"iqn.2003-01.org.example:disk").is_ok() {}
            full += 1;
        }
        assert!(writer.len() <= room);
        assert_eq!(out[room..], [0xa5; 8]);
    }
    assert!(full > ROUNDS / 100, "{full}");
}
