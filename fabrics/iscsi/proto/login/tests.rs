// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::test_util::Random;
use crate::wire::{Field, Itt, BHS_LEN};
use std::string::String;
use std::vec::Vec;

mod chap;
mod keys;

const SECURITY: u8 = 0;
const OPERATIONAL: u8 = 1;
const FULL: u8 = 3;
const T: u8 = 0x80;
const C: u8 = 0x40;
/// Byte 1 of a request whose text goes on in the operational stage.
const GO_ON: u8 = C | (OPERATIONAL << 2);

/// Byte 1 of a request that leaves stage `from` for `to`.
fn leave(from: u8, to: u8) -> u8 {
    T | (from << 2) | to
}

fn request(flags: u8, text: &[u8]) -> Bhs {
    let mut bhs = [0; BHS_LEN];
    LoginRequest {
        flags: LoginFlags(flags),
        version_max: 0,
        version_min: 0,
        data_len: DataLen::at_most(text.len()),
        isid: Isid([0x40, 0, 1, 0x37, 0, 0]),
        tsih: Tsih(0),
        itt: Itt(0x5000),
        cid: Cid(0),
        cmd_sn: CmdSn(1),
        exp_stat_sn: StatSn(0),
    }
    .emit(&mut bhs);
    bhs[0] |= 0x40;
    bhs
}

fn config() -> Config {
    Config {
        max_recv: 65_536,
        immediate_data: true,
        initial_r2t: false,
        ..Config::default()
    }
}

fn grant() -> Grant<'static> {
    Grant {
        config: config(),
        auth: Auth::None,
        algorithms: Algorithms::default(),
        challenge: Challenge::default(),
        portal_group_tag: 1,
        alias: b"",
        depth: 64,
        joins: None,
    }
}

/// A driver around a login: it keeps the text, and looks up what it is given.
struct Driver {
    login: Login,
    answer: Answer<'static>,
    buffer: Vec<u8>,
    out: Vec<u8>,
    /// What it makes of a proof.
    judge: fn(Proof<'_>) -> Verdict<'static>,
    tsih: u8,
}

impl Driver {
    fn new(answer: Answer<'static>) -> Self {
        Driver {
            login: Login::new(StatSn(100)),
            answer,
            buffer: Vec::new(),
            out: Vec::from([0; REPLY_MAX]),
            judge: |_| panic!("nothing was to be proven"),
            tsih: 0,
        }
    }

    fn send(&mut self, bhs: &Bhs, text: &[u8]) -> Step {
        self.buffer.truncate(self.login.held());
        self.buffer.extend_from_slice(text);
        let mut step = self.login.request(bhs, &self.buffer, &mut self.out);
        if step == Step::LookUp {
            step = self.login.answer(self.answer, &self.buffer, &mut self.out);
        }
        if step == Step::Prove {
            let verdict = (self.judge)(self.login.proof().unwrap());
            step = self.login.proven(verdict, &self.buffer, &mut self.out);
        }
        step
    }

    fn step(&mut self, flags: u8, text: &str) -> Step {
        let text = text.replace(' ', "\0");
        let mut bhs = request(flags, text.as_bytes());
        bhs[15] = self.tsih;
        self.send(&bhs, text.as_bytes())
    }

    fn text(&self, pdu: &LoginResponse) -> String {
        let len = pdu.data_len.bytes() as usize;
        String::from_utf8(self.out[..len].to_vec())
            .unwrap()
            .replace('\0', " ")
    }

    fn respond(&mut self, flags: u8, text: &str) -> (u8, String) {
        match self.step(flags, text) {
            Step::Respond(pdu) => {
                assert_eq!(pdu.status, 0);
                (pdu.flags.0, self.text(&pdu))
            }
            other => panic!("{other:?}"),
        }
    }

    fn done(&mut self, flags: u8, text: &str) -> (Outcome, String) {
        match self.step(flags, text) {
            Step::Done(pdu, outcome) => {
                assert_eq!(pdu.status, 0);
                assert_eq!(pdu.flags.0, flags);
                assert_eq!(pdu.sn.stat_sn.next(), outcome.next_stat_sn);
                (outcome, self.text(&pdu))
            }
            other => panic!("{other:?}"),
        }
    }
}

fn refusal(step: Step) -> u16 {
    match step {
        Step::Refuse(pdu, clause) => {
            assert!(!clause.is_empty());
            pdu.status
        }
        other => panic!("{other:?}"),
    }
}

const NAMES: &str = "InitiatorName=iqn.1993-08.org.debian:01:abc TargetName=iqn.2003-01.org.x:t1 ";

/// What open-iscsi sends, with its defaults.
const OPEN_ISCSI: &str = "HeaderDigest=None DataDigest=None DefaultTime2Wait=2 DefaultTime2Retain=0 \
    IFMarker=No OFMarker=No ErrorRecoveryLevel=0 InitialR2T=No ImmediateData=Yes MaxBurstLength=16776192 \
    FirstBurstLength=262144 MaxOutstandingR2T=1 MaxConnections=1 DataPDUInOrder=Yes DataSequenceInOrder=Yes \
    MaxRecvDataSegmentLength=262144 ";

#[test]
fn open_iscsi_logs_in() {
    let mut driver = Driver::new(Answer::Allowed(grant()));
    let (flags, text) = driver.respond(
        leave(SECURITY, OPERATIONAL),
        "InitiatorName=iqn.1993-08.org.debian:01:abc InitiatorAlias=debian TargetName=iqn.2003-01.org.x:t1 \
         SessionType=Normal AuthMethod=None ",
    );
    assert_eq!(flags, leave(SECURITY, OPERATIONAL));
    assert_eq!(text, "TargetPortalGroupTag=1 AuthMethod=None ");
    let query = driver.login.query();
    assert_eq!(query.initiator_name, b"iqn.1993-08.org.debian:01:abc");
    assert_eq!(query.initiator_alias, b"debian");
    assert_eq!(query.target_name, Some(&b"iqn.2003-01.org.x:t1"[..]));
    assert_eq!(query.session_type, SessionType::Normal);

    let (outcome, text) = driver.done(leave(OPERATIONAL, FULL), OPEN_ISCSI);
    assert_eq!(
        text,
        "HeaderDigest=None DataDigest=None DefaultTime2Wait=2 DefaultTime2Retain=0 IFMarker=No OFMarker=No \
         ErrorRecoveryLevel=0 InitialR2T=No ImmediateData=Yes MaxBurstLength=262144 FirstBurstLength=65536 \
         MaxOutstandingR2T=1 MaxConnections=1 DataPDUInOrder=Yes DataSequenceInOrder=Yes \
         MaxRecvDataSegmentLength=65536 "
    );
    assert_eq!(
        outcome,
        Outcome {
            session_type: SessionType::Normal,
            parameters: Parameters {
                initial_r2t: false,
                immediate_data: true,
                max_recv: 65_536,
                max_xmit: 262_144,
                max_burst: 262_144,
                first_burst: 65_536,
                time2wait: 2,
                time2retain: 0,
                max_outstanding_r2t: 1,
                max_connections: 1,
                protocol_level: 1,
                recovery_level: 0,
                header_digest: false,
                data_digest: false,
            },
            first_cmd_sn: CmdSn(1),
            depth: 64,
            next_stat_sn: StatSn(102),
        }
    );
}

#[test]
fn open_iscsi_discovers() {
    let mut driver = Driver::new(Answer::Allowed(grant()));
    let first =
        "InitiatorName=iqn.1993-08.org.debian:01:abc SessionType=Discovery AuthMethod=None ";
    let (_, text) = driver.respond(leave(SECURITY, OPERATIONAL), first);
    assert_eq!(text, "TargetPortalGroupTag=1 AuthMethod=None ");
    assert_eq!(driver.login.query().target_name, None);
    let (outcome, text) = driver.done(
        leave(OPERATIONAL, FULL),
        "HeaderDigest=None DataDigest=None DefaultTime2Wait=2 DefaultTime2Retain=0 IFMarker=No OFMarker=No \
         ErrorRecoveryLevel=0 MaxRecvDataSegmentLength=32768 ",
    );
    assert_eq!(
        text,
        "HeaderDigest=None DataDigest=None DefaultTime2Wait=2 DefaultTime2Retain=0 IFMarker=No OFMarker=No \
         ErrorRecoveryLevel=0 MaxRecvDataSegmentLength=65536 "
    );
    assert_eq!(outcome.session_type, SessionType::Discovery);
    assert_eq!(outcome.parameters.max_xmit, 32_768);

    // Straight from security to full feature phase: the defaults hold, in both directions.
    let mut driver = Driver::new(Answer::Allowed(grant()));
    let (outcome, text) = driver.done(leave(SECURITY, FULL), first);
    assert_eq!(text, "TargetPortalGroupTag=1 AuthMethod=None ");
    assert_eq!(outcome.parameters, Parameters::default());
}

/// libiscsi sends all keys in one request, also for discovery.
const LIBISCSI: &str = "HeaderDigest=None,CRC32C DataDigest=None InitialR2T=No ImmediateData=Yes \
    MaxBurstLength=262144 FirstBurstLength=262144 DefaultTime2Wait=2 DefaultTime2Retain=0 MaxOutstandingR2T=1 \
    ErrorRecoveryLevel=0 IFMarker=No OFMarker=No MaxConnections=1 MaxRecvDataSegmentLength=262144 \
    DataPDUInOrder=Yes DataSequenceInOrder=Yes ";

#[test]
fn libiscsi_logs_in() {
    let mut driver = Driver::new(Answer::Allowed(grant()));
    let text = std::format!("{NAMES}SessionType=Normal {LIBISCSI}");
    let (outcome, text) = driver.done(leave(OPERATIONAL, FULL), &text);
    assert!(
        text.starts_with("TargetPortalGroupTag=1 HeaderDigest=None "),
        "{text}"
    );
    assert!(text.ends_with("MaxRecvDataSegmentLength=65536 "), "{text}");
    assert!(!outcome.parameters.initial_r2t);

    let mut driver = Driver::new(Answer::Allowed(grant()));
    let text = std::format!("InitiatorName=iqn.x SessionType=Discovery {LIBISCSI}");
    let (_, text) = driver.done(leave(OPERATIONAL, FULL), &text);
    for key in [
        "InitialR2T",
        "ImmediateData",
        "MaxBurstLength",
        "FirstBurstLength",
        "MaxOutstandingR2T",
        "MaxConnections",
        "DataPDUInOrder",
        "DataSequenceInOrder",
    ] {
        assert!(
            text.contains(&std::format!("{key}=Irrelevant ")),
            "{key}: {text}"
        );
    }
}

/// With a CHAP user set, libiscsi offers CHAP,None, and says who it is once more in the next stage.
#[test]
fn libiscsi_offers_chap_and_gets_none() {
    let mut driver = Driver::new(Answer::Allowed(grant()));
    let first = std::format!("{NAMES}SessionType=Normal AuthMethod=CHAP,None ");
    let (flags, text) = driver.respond(leave(SECURITY, OPERATIONAL), &first);
    assert_eq!(flags, leave(SECURITY, OPERATIONAL));
    assert!(text.ends_with("AuthMethod=None "), "{text}");
    let second = std::format!("{NAMES}SessionType=Normal {LIBISCSI}");
    driver.done(leave(OPERATIONAL, FULL), &second);
}

/// One more connection of a session (6.3.1): what is the session's is not negotiated again.
#[test]
fn a_connection_joins() {
    let session = Parameters {
        max_burst: 4_096,
        first_burst: 512,
        max_connections: 4,
        initial_r2t: false,
        // The first connection's alone.
        header_digest: true,
        data_digest: true,
        ..Parameters::default()
    };
    let mut grant = grant();
    grant.joins = Some(session);
    let mut driver = Driver::new(Answer::Allowed(grant));
    driver.tsih = 7;
    let text = std::format!("{NAMES}{OPEN_ISCSI}");
    let (outcome, text) = driver.done(leave(OPERATIONAL, FULL), &text);
    for key in [
        "InitialR2T",
        "MaxBurstLength",
        "MaxConnections",
        "ErrorRecoveryLevel",
    ] {
        assert!(
            text.contains(&std::format!("{key}=Irrelevant ")),
            "{key}: {text}"
        );
    }
    assert!(text.contains("HeaderDigest=None "), "{text}");
    let want = Parameters {
        max_recv: 65_536,
        max_xmit: 262_144,
        header_digest: false,
        data_digest: false,
        ..session
    };
    assert_eq!(outcome.parameters, want);

    // A new session does not care about another one.
    let mut driver = Driver::new(Answer::Allowed(grant));
    let (outcome, _) = driver.done(
        leave(OPERATIONAL, FULL),
        &std::format!("{NAMES}{OPEN_ISCSI}"),
    );
    assert_eq!(outcome.parameters.max_burst, 262_144);
    assert_eq!(outcome.parameters.max_connections, 1);
}

#[test]
fn text_over_several_requests() {
    let mut driver = Driver::new(Answer::Allowed(grant()));
    let all = std::format!("{NAMES}{OPEN_ISCSI}");
    let (first, rest) = all.split_at(17);
    let (second, third) = rest.split_at(200);
    for part in [first, second] {
        assert_eq!(
            driver.respond(GO_ON, part),
            (OPERATIONAL << 2, String::new())
        );
    }
    let (outcome, _) = driver.done(leave(OPERATIONAL, FULL), third);
    assert_eq!(
        driver.login.query().target_name,
        Some(&b"iqn.2003-01.org.x:t1"[..])
    );
    assert_eq!(outcome.next_stat_sn, StatSn(103));
}

#[test]
fn the_target_offers_what_the_initiator_left_unsaid() {
    let mut strict = grant();
    strict.config.keys_workaround = false;
    strict.config.immediate_data = false;
    strict.config.max_burst = 65_536;
    strict.config.first_burst = 65_536;
    strict.config.time2wait = 5;
    strict.config.time2retain = 0;
    let mut driver = Driver::new(Answer::Allowed(strict));
    let (flags, text) = driver.respond(leave(OPERATIONAL, FULL), NAMES);
    assert_eq!(
        flags,
        OPERATIONAL << 2,
        "no transition while offers are open"
    );
    assert_eq!(
        text,
        "TargetPortalGroupTag=1 MaxRecvDataSegmentLength=65536 ImmediateData=No MaxBurstLength=65536 \
         DefaultTime2Wait=5 DefaultTime2Retain=0 "
    );
    // Three of four are answered.
    let (flags, text) = driver.respond(
        leave(OPERATIONAL, FULL),
        "MaxBurstLength=4096 DefaultTime2Wait=6 ImmediateData=No ",
    );
    assert_eq!((flags, text.as_str()), (OPERATIONAL << 2, ""));
    let (outcome, text) = driver.done(leave(OPERATIONAL, FULL), "DefaultTime2Retain=0 ");
    assert_eq!(text, "");
    let parameters = outcome.parameters;
    assert!(!parameters.immediate_data);
    assert_eq!(parameters.max_burst, 4_096);
    assert_eq!(parameters.first_burst, 4_096);
    assert_eq!(parameters.time2wait, 6);
    assert_eq!(parameters.time2retain, 0);
    assert_eq!(parameters.max_xmit, 8_192);
}

#[test]
fn answers_out_of_what_was_offered() {
    for answer in [
        "ImmediateData=Yes ",
        "ImmediateData=Irrelevant ",
        "MaxBurstLength=131072 ",
        "MaxBurstLength=Reject ",
    ] {
        let mut strict = grant();
        strict.config.immediate_data = false;
        strict.config.max_burst = 65_536;
        let mut driver = Driver::new(Answer::Allowed(strict));
        driver.respond(leave(OPERATIONAL, FULL), NAMES);
        assert_eq!(
            refusal(driver.step(leave(OPERATIONAL, FULL), answer)),
            0x0200,
            "{answer}"
        );
    }
}

/// Logins that fail at the first request: stage and text, and the status.
#[test]
fn refused_at_once() {
    let security = leave(SECURITY, OPERATIONAL);
    let operational = leave(OPERATIONAL, FULL);
    let named = |rest: &str| std::format!("{NAMES}{rest}");
    let cases: Vec<(u8, String, u16)> = std::vec![
        (security, "AuthMethod=None ".into(), 0x0207),
        (security, "InitiatorName=iqn.x ".into(), 0x0207),
        (security, "TargetName=iqn.x ".into(), 0x0207),
        (security, "InitiatorName= TargetName=iqn.x ".into(), 0x0200),
        (
            security,
            "InitiatorName=a/b TargetName=iqn.x ".into(),
            0x0200
        ),
        (
            security,
            std::format!("InitiatorName={} TargetName=iqn.x ", "a".repeat(224)),
            0x0200
        ),
        (security, named("SessionType=Other "), 0x0209),
        (security, named("InitiatorName=iqn.y "), 0x0200),
        (security, named("TargetName=iqn.2003-01.org.x:t1 "), 0x0200),
        (security, named("AuthMethod=CHAP "), 0x0201),
        (security, named("AuthMethod=SRP,KRB5 "), 0x0201),
        (security, named("AuthMethod=None AuthMethod=None "), 0x0200),
        (security, named("InitialR2T=Yes "), 0x0200),
        (security, named("nonsense "), 0x0200),
        (security, named("=x "), 0x0200),
        (operational, named("AuthMethod=None "), 0x0200),
        (operational, named("HeaderDigest=crc32c "), 0x0200),
        (operational, named("DataDigest= "), 0x0200),
        (operational, named("InitialR2T=Yes InitialR2T=Yes "), 0x0200),
        (operational, named("MaxRecvDataSegmentLength=0 "), 0x0200),
        (operational, named("MaxBurstLength=NotUnderstood "), 0x0200),
        (operational, named("InitialR2T=Reject "), 0x0200),
        (operational, named("HeaderDigest=Irrelevant "), 0x0200),
        (
            operational,
            named("MaxBurstLength=0 MaxBurstLength=512 "),
            0x0200
        ),
        (
            operational,
            named("InitiatorAlias=a InitiatorAlias=a "),
            0x0200
        ),
        (operational, named("X#NodeArchitecture=a;b "), 0x0200),
        (
            operational,
            named("TaggedBufferForSolicitedDataOnly=No "),
            0x0200
        ),
        (operational, named("SendTargets=All "), 0x0200),
        (operational, named("TargetAlias=x "), 0x0200),
        (operational, named("TargetAddress=x "), 0x0200),
        (operational, named("TargetPortalGroupTag=1 "), 0x0200),
        (operational, named("InitiatorAlias=a\nb "), 0x0200),
        (leave(SECURITY, SECURITY), named(""), 0x0200),
        (leave(SECURITY, 2), named(""), 0x0200),
        (leave(OPERATIONAL, SECURITY), named(""), 0x0200),
        (leave(OPERATIONAL, OPERATIONAL), named(""), 0x0200),
        (leave(2, FULL), named(""), 0x0200),
        (leave(FULL, FULL), named(""), 0x0200),
        (C | leave(OPERATIONAL, FULL), named(""), 0x0200),
    ];
    for (flags, text, status) in cases {
        let mut driver = Driver::new(Answer::Allowed(grant()));
        assert_eq!(
            refusal(driver.step(flags, &text)),
            status,
            "{flags:#x} {text}"
        );
    }
}

#[test]
fn the_driver_refuses() {
    for status in [
        Status::NotFound,
        Status::AuthorizationFailure,
        Status::OutOfResources,
    ] {
        let mut driver = Driver::new(Answer::Refused(status));
        assert_eq!(
            refusal(driver.step(leave(OPERATIONAL, FULL), NAMES)),
            status.code()
        );
    }
    let mut authenticated = grant();
    authenticated.auth = Auth::Required;
    let mut driver = Driver::new(Answer::Allowed(authenticated));
    assert_eq!(
        refusal(driver.step(leave(OPERATIONAL, FULL), NAMES)),
        0x0201
    );

    let mut driver = Driver::new(Answer::Moved {
        address: b"10.0.0.2:3260",
        permanent: true,
    });
    let Step::Refuse(pdu, _) = driver.step(leave(OPERATIONAL, FULL), NAMES) else {
        panic!();
    };
    assert_eq!(pdu.status, 0x0102);
    assert_eq!(driver.text(&pdu), "TargetAddress=10.0.0.2:3260 ");
}

#[test]
fn alias_and_tag_come_first() {
    let mut named = grant();
    named.alias = b"disk";
    let mut driver = Driver::new(Answer::Allowed(named));
    let (_, text) = driver.respond(leave(SECURITY, OPERATIONAL), NAMES);
    assert_eq!(text, "TargetPortalGroupTag=1 TargetAlias=disk ");
}

#[test]
fn headers_that_do_not_fit() {
    let names = NAMES.replace(' ', "\0");
    let text = names.as_bytes();
    let start = |change: &dyn Fn(&mut Bhs)| {
        let mut driver = Driver::new(Answer::Allowed(grant()));
        let mut bhs = request(leave(OPERATIONAL, FULL), text);
        change(&mut bhs);
        driver.send(&bhs, text)
    };
    assert!(matches!(start(&|_| ()), Step::Done(..)));
    assert_eq!(refusal(start(&|bhs| bhs[3] = 1)), 0x0205, "version");
    assert_eq!(refusal(start(&|bhs| bhs[0] = 3)), 0x0200, "not immediate");
    assert_eq!(refusal(start(&|bhs| bhs[15] = 7)), 0x020a, "a TSIH");
    assert!(
        matches!(start(&|bhs| bhs[0] = 0x41), Step::Close(_)),
        "not a login"
    );
    assert!(
        matches!(start(&|bhs| bhs[4] = 1), Step::Close(_)),
        "a header segment"
    );
    assert!(
        matches!(
            start(&|bhs| DataLen::at_most(8193).put(bhs, 5)),
            Step::Close(_)
        ),
        "too long"
    );

    // Later requests must be like the first one.
    for (at, status) in [
        (8, 0x0200),
        (15, 0x0200),
        (19, 0x0200),
        (21, 0x0200),
        (0, 0x020b),
    ] {
        let mut driver = Driver::new(Answer::Allowed(grant()));
        let first = request(leave(SECURITY, OPERATIONAL), text);
        assert!(matches!(driver.send(&first, text), Step::Respond(_)));
        let mut second = request(leave(OPERATIONAL, FULL), &[]);
        second[at] ^= 1;
        assert_eq!(refusal(driver.send(&second, &[])), status, "byte {at}");
    }
    let mut driver = Driver::new(Answer::Allowed(grant()));
    driver.respond(leave(SECURITY, OPERATIONAL), NAMES);
    assert_eq!(
        refusal(driver.step(leave(SECURITY, OPERATIONAL), "")),
        0x0200,
        "a stage twice"
    );
}

#[test]
fn names_may_come_again_but_not_change() {
    let mut driver = Driver::new(Answer::Allowed(grant()));
    driver.respond(leave(SECURITY, OPERATIONAL), NAMES);
    assert_eq!(
        refusal(driver.step(leave(OPERATIONAL, FULL), "InitiatorName=iqn.other ")),
        0x0200
    );
    let mut driver = Driver::new(Answer::Allowed(grant()));
    driver.respond(leave(SECURITY, OPERATIONAL), NAMES);
    assert_eq!(
        refusal(driver.step(leave(OPERATIONAL, FULL), "SessionType=Discovery ")),
        0x0200
    );
}

#[test]
fn a_login_has_an_end() {
    let mut driver = Driver::new(Answer::Allowed(grant()));
    for _ in 0..REQUESTS_MAX {
        driver.respond(GO_ON, "a");
    }
    assert_eq!(refusal(driver.step(GO_ON, "a")), 0x0200);

    let mut driver = Driver::new(Answer::Allowed(grant()));
    let piece = "a".repeat(TEXT_MAX);
    driver.respond(GO_ON, &piece);
    assert_eq!(refusal(driver.step(GO_ON, "a")), 0x020b);

    // Answers longer than two responses.
    let mut driver = Driver::new(Answer::Allowed(grant()));
    let many = std::format!("{NAMES}{}", "a=1 ".repeat(1500));
    assert_eq!(refusal(driver.step(OPERATIONAL << 2, &many)), 0x0200);
}

/// Valid logins with bytes changed, cut and repeated: each comes to an end, and no response is longer than it may be.
#[test]
fn mutated_logins_end() {
    let mut random = Random::new(13);
    let mut ends = [0u32; 3];
    for _ in 0..20_000 {
        let mut strict = grant();
        strict.config.immediate_data = random.below(2) == 0;
        strict.config.max_burst = 512 << random.below(12);
        let mut driver = Driver::new(Answer::Allowed(strict));
        let scripts = [
            std::format!("{NAMES}SessionType=Normal AuthMethod=None "),
            OPEN_ISCSI.into(),
            std::format!("{NAMES}SessionType=Normal {LIBISCSI}"),
            "ImmediateData=No MaxBurstLength=512 ".into(),
        ];
        let mut at = random.below(2) * 2;
        for _ in 0..REQUESTS_MAX + 2 {
            let script: &String = &scripts[at % 4];
            let mut text = script.replace(' ', "\0").into_bytes();
            for _ in 0..random.below(3) {
                let place = random.below(text.len());
                match random.below(4) {
                    0 => text[place] = random.next() as u8,
                    1 => text.truncate(place.max(1)),
                    2 => text.extend_from_within(place..),
                    _ => text[place] = b"=,\0~0"[random.below(5)],
                }
            }
            let flags = match random.below(8) {
                0 => random.next() as u8,
                1 => {
                    if at == 0 {
                        C
                    } else {
                        GO_ON
                    }
                }
                _ if at == 0 => leave(SECURITY, OPERATIONAL),
                _ => leave(OPERATIONAL, FULL),
            };
            let room = TEXT_MAX - driver.login.held();
            text.truncate(room);
            let mut bhs = request(flags, &text);
            if random.below(50) == 0 {
                bhs[random.below(48)] = random.next() as u8;
            }
            if driver.login.check(&bhs).is_err() {
                ends[0] += 1;
                break;
            }
            let step = driver.send(&bhs, &text);
            at += 1;
            match step {
                Step::Respond(pdu) => assert!(pdu.data_len.bytes() as usize <= TEXT_MAX),
                Step::Done(_, outcome) => {
                    let p = outcome.parameters;
                    assert!(
                        p.first_burst <= p.max_burst
                            && p.max_burst <= 262_144.max(strict.config.max_burst)
                    );
                    assert!(p.max_xmit >= 512 && p.max_recv >= 512);
                    ends[1] += 1;
                    break;
                }
                Step::Refuse(..) => {
                    ends[2] += 1;
                    break;
                }
                Step::Close(_) => break,
                Step::LookUp | Step::Prove => panic!(),
            }
            assert!(driver.login.requests <= REQUESTS_MAX);
        }
    }
    assert!(ends[1] > 1_000 && ends[2] > 1_000, "{ends:?}");
}

#[test]
fn as_much_is_taken_as_is_sent_unless_said_otherwise() {
    let mut config = Config::default();
    assert_eq!(config.declared(), 262_144);
    config.max_xmit = 32_768;
    assert_eq!(config.declared(), 32_768);
    config.max_xmit = 512;
    assert_eq!(config.declared(), 8_192);
    config.max_recv = 16_384;
    assert_eq!(config.declared(), 16_384);
    config.max_recv = 1;
    assert_eq!(config.declared(), 512);
}

#[test]
fn error_recovery_level() {
    for (own, offer) in [(0, 2), (1, 0), (1, 1), (1, 2), (2, 1), (2, 2), (9, 2)] {
        let agreed = offer.min(own);
        let mut grant = grant();
        grant.config.recovery_level = own;
        let mut driver = Driver::new(Answer::Allowed(grant));
        let text = std::format!("{NAMES}ErrorRecoveryLevel={offer} ");
        let (outcome, text) = driver.done(leave(OPERATIONAL, FULL), &text);
        assert!(
            text.contains(&std::format!("ErrorRecoveryLevel={agreed} ")),
            "{text}"
        );
        assert_eq!(outcome.parameters.recovery_level, agreed);
    }
}

#[test]
fn r2ts_above_level_0_wait_one_by_one() {
    for (own, text, agreed) in [
        (0, "ErrorRecoveryLevel=1 MaxOutstandingR2T=8 ", 4),
        (1, "ErrorRecoveryLevel=0 MaxOutstandingR2T=8 ", 4),
        (1, "ErrorRecoveryLevel=0 MaxOutstandingR2T=3 ", 3),
        (1, "ErrorRecoveryLevel=1 MaxOutstandingR2T=8 ", 1),
        (1, "MaxOutstandingR2T=8 ErrorRecoveryLevel=2 ", 1),
        // It may still be asked for.
        (1, "MaxOutstandingR2T=8 ErrorRecoveryLevel=0 ", 1),
    ] {
        let mut grant = grant();
        grant.config.recovery_level = own;
        grant.config.max_outstanding_r2t = 4;
        let mut driver = Driver::new(Answer::Allowed(grant));
        let (outcome, _) = driver.done(leave(OPERATIONAL, FULL), &std::format!("{NAMES}{text}"));
        assert_eq!(outcome.parameters.max_outstanding_r2t, agreed, "{text}");
    }
}

#[test]
fn digests() {
    use crate::digest::Digests;
    let named = |text: &str| std::format!("{NAMES}{text}");
    for (own, offer, agreed) in [
        (Digests::Crc32cNone, "None,CRC32C", Some("None")),
        (Digests::NoneCrc32c, "CRC32C,None", Some("CRC32C")),
        (Digests::Crc32c, "None,CRC32C", Some("CRC32C")),
        (Digests::None, "x,CRC32C,None", Some("None")),
        (Digests::Crc32c, "None", None),
        (Digests::None, "CRC32C", None),
    ] {
        let mut grant = grant();
        grant.config.data_digest = own;
        let mut driver = Driver::new(Answer::Allowed(grant));
        let text = named(&std::format!("DataDigest={offer} "));
        let flags = leave(OPERATIONAL, FULL);
        let Some(agreed) = agreed else {
            assert_eq!(refusal(driver.step(flags, &text)), 0x0200);
            continue;
        };
        let (outcome, text) = driver.done(flags, &text);
        assert!(
            text.contains(&std::format!("DataDigest={agreed} ")),
            "{text}"
        );
        assert_eq!(outcome.parameters.data_digest, agreed == "CRC32C");
        assert!(!outcome.parameters.header_digest);
    }
    // Who says nothing is asked; who leaves the stage out has not been.
    let mut grant = grant();
    grant.config.header_digest = Digests::Crc32c;
    let mut driver = Driver::new(Answer::Allowed(grant));
    let (flags, text) = driver.respond(leave(OPERATIONAL, FULL), NAMES);
    assert!(
        flags & T == 0 && text.contains("HeaderDigest=CRC32C "),
        "{text}"
    );
    let (outcome, _) = driver.done(leave(OPERATIONAL, FULL), "HeaderDigest=CRC32C ");
    assert!(outcome.parameters.header_digest && !outcome.parameters.data_digest);
    let mut driver = Driver::new(Answer::Allowed(grant));
    driver.respond(leave(OPERATIONAL, FULL), NAMES);
    let step = driver.step(leave(OPERATIONAL, FULL), "HeaderDigest=None ");
    assert_eq!(refusal(step), 0x0200);
    let mut driver = Driver::new(Answer::Allowed(grant));
    assert_eq!(refusal(driver.step(leave(SECURITY, FULL), NAMES)), 0x0200);
}
