// SPDX-License-Identifier: GPL-2.0

//! Text in full feature phase as a sequence of requests (RFC 7143, 11.10, 11.11): what is held is bounded, a reply arrives
//! whole and in order, tags lead to the sequence that they were given for and to no other.
// fuzz: -max_len=300

#![no_main]

use iscsi_proto::{
    error::Error,
    ffp::text::{target_address, target_name, Exchange, SendTargets, Step},
    login::SessionType,
    pdu::{Numbers, TextFlags, TextRequest, TextResponse},
    sn::{CmdSn, StatSn},
    text::{Writer, TEXT_MAX},
    wire::{DataLen, Itt, Lun, Ttt},
};
use libfuzzer_sys::fuzz_target;
use lio_fuzz::{
    model::{negotiation, number, pairs},
    Input,
};
use std::net::{IpAddr, SocketAddr};

/// The initiator's side: what it knows of the sequence.
struct Initiator {
    exchange: Exchange,
    itt: u32,
    /// The tag of the last response, if the sequence goes on.
    ttt: Option<Ttt>,
    /// What the target is to have of this text.
    sent: usize,
    /// What has arrived of the reply, while there is one.
    reply: Option<usize>,
    total: usize,
    max: u32,
    numbered: u32,
}

impl Initiator {
    fn request(&self, input: &mut Input<'_>, flags: u8, ttt: Ttt) -> TextRequest {
        let len = match input.below(4) {
            0 | 1 => 0,
            2 => u32::from(input.u8()),
            _ => u32::from(input.u16()),
        };
        TextRequest {
            flags: TextFlags(flags),
            data_len: DataLen::new(len).unwrap(),
            lun: Lun::default(),
            itt: Itt(self.itt),
            ttt,
            cmd_sn: CmdSn(0),
            exp_stat_sn: StatSn(0),
        }
    }

    fn response(&mut self, request: &TextRequest, pdu: &TextResponse) {
        assert_eq!(pdu.itt, request.itt);
        assert!(!(pdu.flags.last() && pdu.flags.more()));
        // 11.11.4: a tag as long as the sequence goes on, none when it is over.
        assert_eq!(pdu.flags.last(), pdu.ttt == Ttt::NONE);
        assert!(
            !pdu.flags.last() || request.flags.last(),
            "11.11.1: F in answer to F alone"
        );
        self.ttt = (!pdu.flags.last()).then_some(pdu.ttt);
    }

    fn piece(&mut self, request: &TextRequest, pdu: &TextResponse, offset: usize) {
        self.response(request, pdu);
        let len = pdu.data_len.bytes() as usize;
        assert!(len <= self.max.max(1) as usize);
        assert_eq!(Some(offset), self.reply);
        let end = offset + len;
        assert!(end <= self.total);
        assert_eq!(pdu.flags.more(), end < self.total);
        assert!(len > 0 || self.total == offset, "no progress");
        self.reply = (end < self.total).then_some(end);
        if self.reply.is_none() {
            self.sent = 0;
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let kind = input.u8();
        let ttt = match (kind & 3, self.ttt) {
            (0, _) => Ttt::NONE,
            (1, _) => Ttt(input.u32()),
            (_, ttt) => ttt.unwrap_or(Ttt::NONE),
        };
        if kind & 0x0c == 0x0c {
            self.itt = input.u8().into();
        }
        let mut request = self.request(
            input,
            [0, 0x80, 0x40, 0x80][usize::from(kind >> 4 & 3)],
            ttt,
        );
        if self.reply.is_some() && kind & 0x40 != 0 {
            request.data_len = DataLen::default();
            request.flags = request.flags.with_more(false);
        }
        let begins = ttt == Ttt::NONE;
        if begins {
            self.sent = 0;
            self.reply = None;
        }
        let held = self.exchange.held(&request);
        let len = request.data_len.bytes() as usize;
        let mut taken = false;
        let numbered = &mut self.numbered;
        let result = self.exchange.request(&request, self.max, || {
            assert!(
                !std::mem::replace(&mut taken, true),
                "two numbers for one response"
            );
            *numbered += 1;
            Numbers::default()
        });
        let Ok(held) = held else {
            assert!(result.is_err() && len > 0);
            // It is rejected, and forgotten.
            self.exchange.reset();
            (self.ttt, self.reply, self.sent) = (None, None, 0);
            return;
        };
        assert!(held + len <= TEXT_MAX);
        match result {
            Ok(Step::More(pdu)) => {
                assert!(taken && request.flags.more() && held == self.sent);
                assert_eq!(pdu.data_len.bytes(), 0);
                self.sent = held + len;
                self.response(&request, &pdu);
                assert!(!pdu.flags.last());
            }
            Ok(Step::Complete) => {
                assert!(
                    !taken && !request.flags.more() && held == self.sent && self.reply.is_none()
                );
                self.total = usize::from(input.u16()) >> input.below(16);
                self.reply = Some(0);
                let Step::Send { pdu, offset } =
                    self.exchange
                        .reply(self.total, self.max, Numbers::default())
                else {
                    panic!("no reply");
                };
                self.piece(&request, &pdu, offset);
            }
            Ok(Step::Send { pdu, offset }) => {
                assert!(taken && self.reply.is_some() && len == 0);
                assert_eq!(Some(request.ttt), self.ttt, "a tag that was not given");
                self.piece(&request, &pdu, offset);
            }
            Err(Error { close, .. }) => {
                assert!(!taken, "a number for no response");
                assert!(!close && !begins, "a new sequence is always served");
                // As the connection does it.
                self.exchange.reset();
                (self.ttt, self.reply, self.sent) = (None, None, 0);
            }
        }
    }

    fn new(input: &mut Input<'_>) -> Self {
        Initiator {
            exchange: Exchange::default(),
            itt: 1,
            ttt: None,
            sent: 0,
            reply: None,
            total: 0,
            max: u32::from(input.u16()) >> input.below(16),
            numbered: 0,
        }
    }
}

fn answers(input: &mut Input<'_>) {
    let kind = if input.bool() {
        SessionType::Normal
    } else {
        SessionType::Discovery
    };
    let room = usize::from(input.u16()) % TEXT_MAX;
    let text = input.rest();
    let mut out = vec![0xa5; room + 4];
    let mut writer = Writer::new(&mut out[..room]);
    let mut exchange = Exchange::default();
    if let Ok(send_targets) = exchange.answer(kind, text, &mut writer) {
        // Only what is not understood is answered, so that the reply to a text of 8 KiB fits.
        for (key, value) in pairs(writer.text()) {
            assert_eq!(value, b"NotUnderstood");
            assert!(pairs(text).any(|(asked, _)| asked == key));
        }
        let find = |name: &[u8]| {
            pairs(text)
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value)
        };
        let wanted = find(b"SendTargets");
        match send_targets {
            None => assert_eq!(wanted, None),
            Some(SendTargets::All) => {
                assert_eq!((wanted, kind), (Some(&b"All"[..]), SessionType::Discovery))
            }
            Some(SendTargets::Own) => assert_eq!(kind, SessionType::Normal),
            Some(SendTargets::Named(name)) => assert_eq!(wanted, Some(name)),
        }
        // 13: what may be said in full feature phase, once each.
        for name in [
            &b"MaxRecvDataSegmentLength"[..],
            b"InitiatorAlias",
            b"SendTargets",
        ] {
            assert!(pairs(text).filter(|(key, _)| *key == name).count() <= 1);
        }
        assert!(pairs(text).all(|(key, _)| {
            negotiation::row(key).is_none() || key == b"MaxRecvDataSegmentLength"
        }));
    }
    let written = writer.len();
    assert!(written <= room);
    assert_eq!(out[room..], [0xa5; 4]);
}

/// What the initiator declares in a sequence holds at its end, and nothing of one that fails (6.4, 7.12).
fn declarations(input: &mut Input<'_>) {
    let mut exchange = Exchange::default();
    let mut ttt = Ttt::NONE;
    let mut said: Vec<(&[u8], Vec<u8>)> = vec![];
    while !input.is_empty() {
        let kind = input.u8();
        if kind & 3 == 0 {
            ttt = Ttt::NONE;
        }
        if ttt == Ttt::NONE {
            said.clear();
        }
        let mut text = vec![];
        let mut wrong = false;
        for bit in [4, 8] {
            if kind & bit == 0 {
                continue;
            }
            let (key, value): (&[u8], _) = if bit == 4 {
                let length = input.number() % 0x1ff_ffff;
                (b"MaxRecvDataSegmentLength", length.to_string().into_bytes())
            } else {
                let byte = input.u8();
                (b"InitiatorAlias", vec![byte.max(1); usize::from(byte & 3)])
            };
            wrong |= match bit {
                4 => number(&value).is_none_or(|n| !(512..=0xff_ffff).contains(&n)),
                _ => core::str::from_utf8(&value).map_or(true, |s| s.contains(char::is_control)),
            };
            wrong |= said.iter().any(|(known, _)| *known == key);
            text.extend([key, b"=", &value, b"\0"].concat());
            said.push((key, value));
        }
        let last = kind & 16 != 0;
        let request = TextRequest {
            flags: TextFlags(if last { 0x80 } else { 0 }),
            data_len: DataLen::new(text.len() as u32).unwrap(),
            lun: Lun::default(),
            itt: Itt(1),
            ttt,
            cmd_sn: CmdSn(0),
            exp_stat_sn: StatSn(0),
        };
        assert_eq!(
            exchange.request(&request, 8192, Numbers::default),
            Ok(Step::Complete)
        );
        let mut out = [0; 64];
        let answered = exchange.answer(SessionType::Normal, &text, &mut Writer::new(&mut out));
        assert_eq!(answered.is_err(), wrong);
        if wrong {
            exchange.reset();
            assert!(exchange.agreed().is_none());
            ttt = Ttt::NONE;
            continue;
        }
        let Step::Send { pdu, .. } = exchange.reply(0, 8192, Numbers::default()) else {
            panic!("no reply");
        };
        ttt = pdu.ttt;
        assert_eq!(ttt == Ttt::NONE, last);
        let agreed = exchange.agreed();
        assert_eq!(agreed.is_some(), last);
        if let Some(agreed) = agreed {
            let find = |name: &[u8]| {
                said.iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, v)| &v[..])
            };
            assert_eq!(
                agreed.peer_recv.map(u64::from),
                find(b"MaxRecvDataSegmentLength").and_then(number)
            );
            assert_eq!(agreed.initiator_alias(), find(b"InitiatorAlias"));
        }
    }
}

fn records(input: &mut Input<'_>) {
    let room = usize::from(input.u8());
    let mut out = vec![0xa5; room + 4];
    let mut writer = Writer::new(&mut out[..room]);
    let mut expected = vec![];
    while !input.is_empty() {
        let ip: IpAddr = if input.bool() {
            input.array::<4>().into()
        } else {
            input.array::<16>().into()
        };
        let (portal, tag) = (SocketAddr::new(ip, input.u16()), input.u16());
        if target_name(&mut writer, b"iqn.2003-01.org.x:t").is_err()
            || target_address(&mut writer, portal, tag).is_err()
        {
            break;
        }
        expected.push((portal, tag));
    }
    // As an initiator reads it: address, port and tag, and the address of IPv6 in brackets (13.8).
    let read: Vec<_> = pairs(writer.text())
        .filter(|(key, _)| *key == b"TargetAddress")
        .map(|(_, value)| {
            let value = std::str::from_utf8(value).unwrap();
            let (portal, tag) = value.rsplit_once(',').unwrap();
            (
                portal.parse::<SocketAddr>().unwrap(),
                tag.parse::<u16>().unwrap(),
            )
        })
        .collect();
    assert_eq!(read, expected);
    assert_eq!(out[room..], [0xa5; 4]);
}

fuzz_target!(|input: &[u8]| {
    let mut input = Input::new(input);
    match input.below(5) {
        0 => answers(&mut input),
        1 => records(&mut input),
        2 => declarations(&mut input),
        _ => {
            let mut initiator = Initiator::new(&mut input);
            while !input.is_empty() {
                initiator.step(&mut input);
            }
        }
    }
});
