// SPDX-License-Identifier: GPL-2.0

//! A login as somebody sees it who reads along: what the target may say next, and what full feature phase must begin with
//! (RFC 7143, 6.3, 11.12, 11.13).

use super::{negotiation::Transcript, pairs};
use crate::Input;
use iscsi_proto::{
    digest::Digests,
    login::{
        chap::{Algorithm, Algorithms, Auth, Challenge, Verdict},
        Answer, Grant, Login, Outcome, SessionType, Status, Step, REPLY_MAX, REQUESTS_MAX,
    },
    name,
    negotiate::Config,
    pdu::{Head, LoginRequest, LoginResponse},
    sn::StatSn,
    text::TEXT_MAX,
    wire::{Bhs, Tsih},
};

const FIRST_STAT_SN: u32 = u32::MAX - 1;
const FULL: u8 = 3;

fn config(input: &mut Input<'_>) -> Config {
    if input.bool() {
        return Config::default();
    }
    let bits = input.u8();
    Config {
        initial_r2t: bits & 1 != 0,
        immediate_data: bits & 2 != 0,
        max_recv: input.number32(),
        max_xmit: input.number32(),
        max_burst: input.number32(),
        first_burst: input.number32(),
        time2wait: input.u16(),
        time2retain: input.u16(),
        max_outstanding_r2t: input.u16(),
        max_connections: input.u16(),
        recovery_level: bits >> 6 & 1,
        header_digest: Digests::ALL[usize::from(bits >> 2 & 3)],
        data_digest: Digests::ALL[usize::from(bits >> 4 & 3)],
        keys_workaround: bits & 0x80 != 0,
    }
}

/// Whether the text of the configuration has the value.
fn allows(own: Digests, value: &[u8]) -> bool {
    own.text().split(',').any(|known| known.as_bytes() == value)
}

/// The target's side, and what is known of the login from outside.
pub struct Target<'a> {
    /// The state machine.
    pub login: Login,
    /// What it gets to its query.
    pub answer: Answer<'a>,
    config: Config,
    buffer: Vec<u8>,
    out: Vec<u8>,
    /// The text that is being answered.
    asked: Vec<u8>,
    /// That of the request before, in the operational stage.
    last_asked: Option<Vec<u8>>,
    /// Answers of which the rest is still to be asked for.
    answers: Option<Vec<u8>>,
    /// What was said.
    pub transcript: Transcript,
    stat_sn: StatSn,
    /// The stage that the login is in, on the wire.
    pub stage: u8,
    /// Requests that came.
    pub requests: u32,
    looked_up: bool,
    first: Option<LoginRequest>,
    /// Stages in which there was a request.
    stages_seen: u8,
    /// Full feature phase has begun.
    pub done: bool,
    /// What is asked of an initiator that chooses CHAP.
    pub challenge: Challenge,
    /// The initiator has shown that it knows the secret.
    proven: bool,
    /// The target has said who it is.
    pub said_own: bool,
}

/// Who may come in, and the target.
pub const NAME: &[u8] = b"joe";
pub const OWN_NAME: &[u8] = b"target";
pub const SECRET: u8 = 0x5a;
pub const OWN_SECRET: u8 = 0xa5;

/// What stands for a digest here: one that a wrong secret, identifier or challenge does not have.
pub fn digest(identifier: u8, secret: u8, challenge: &[u8], len: usize) -> Vec<u8> {
    let all = [identifier, secret]
        .into_iter()
        .chain(challenge.iter().copied());
    let sum = all.fold(7u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
    (0..len)
        .map(|at| sum.wrapping_add(at as u8) ^ secret)
        .collect()
}

/// 6.1
pub fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold("0x".into(), |text, byte| format!("{text}{byte:02x}"))
}

impl<'a> Target<'a> {
    /// A target with any configuration, that lets everybody in.
    pub fn new(input: &mut Input<'a>) -> Self {
        let config = config(input);
        let bits = input.u8();
        let challenge = Challenge {
            identifier: input.u8(),
            bytes: core::array::from_fn(|at| input.u8() ^ at as u8),
        };
        let grant = Grant {
            config,
            auth: [Auth::None, Auth::Optional, Auth::Required][usize::from(bits) % 3],
            algorithms: Algorithm::ALL
                .into_iter()
                .enumerate()
                .filter(|(i, _)| bits >> 4 & 1 << i == 0)
                .fold(Algorithms::NONE, |all, (_, one)| all.with(one)),
            challenge,
            portal_group_tag: input.u16(),
            alias: b"",
            depth: input.number32(),
            joins: None,
        };
        Target {
            login: Login::new(StatSn(FIRST_STAT_SN)),
            answer: Answer::Allowed(grant),
            config,
            buffer: Vec::with_capacity(TEXT_MAX),
            out: vec![0; REPLY_MAX],
            asked: vec![],
            last_asked: None,
            answers: None,
            transcript: Transcript::default(),
            stat_sn: StatSn(FIRST_STAT_SN),
            stage: 0,
            requests: 0,
            looked_up: false,
            first: None,
            stages_seen: 0,
            done: false,
            challenge,
            proven: false,
            said_own: false,
        }
    }

    /// Whether the portal group takes one of the values that the initiator offers for a digest.
    pub fn takes(&self, name: &str, offer: &str) -> bool {
        let own = match name {
            "HeaderDigest" => self.config.header_digest,
            "DataDigest" => self.config.data_digest,
            _ => return true,
        };
        offer.split(',').any(|value| allows(own, value.as_bytes()))
    }

    /// What the driver does with a proof.
    fn prove(&mut self) -> Step {
        let Answer::Allowed(grant) = self.answer else {
            panic!("a proof of one who may not come in");
        };
        let proof = self.login.proof().expect("no proof");
        let len = proof.algorithm.digest_len();
        assert!(grant.auth != Auth::None && grant.algorithms.has(proof.algorithm));
        assert_eq!(proof.identifier, self.challenge.identifier);
        assert_eq!(proof.challenge, &self.challenge.bytes[..len]);
        assert_eq!(proof.response.len(), len);
        let right = digest(proof.identifier, SECRET, proof.challenge, len);
        self.proven = proof.name == NAME && proof.response == right;
        let own = proof.theirs.map(|(identifier, challenge)| {
            assert!(!challenge.is_empty() && challenge.len() <= 1024);
            assert_ne!(challenge, proof.challenge, "it answers itself");
            digest(identifier, OWN_SECRET, challenge, len)
        });
        let verdict = if self.proven {
            Verdict::Accepted {
                own: own.as_deref().map(|own| (OWN_NAME, own)),
            }
        } else {
            Verdict::Refused
        };
        let step = self.login.proven(verdict, &self.buffer, &mut self.out);
        if let Step::Respond(pdu) | Step::Done(pdu, _) = step {
            assert!(self.proven, "one who is not known gets on");
            let text = &self.out[..pdu.data_len.bytes() as usize];
            let said = pairs(text).any(|(key, value)| {
                key == b"CHAP_R"
                    && own
                        .as_deref()
                        .is_some_and(|own| value == hex(own).as_bytes())
            });
            assert_eq!(said, own.is_some());
            self.said_own = said;
        } else {
            assert!(pairs(&self.buffer).count() > 0);
        }
        step
    }

    /// Whether the initiator has to ask for the rest of the answers.
    pub fn has_more(&self) -> bool {
        self.answers.is_some()
    }

    /// The request with its text; whether the login goes on.
    pub fn receive(&mut self, bhs: &Bhs, text: &[u8]) -> bool {
        self.requests += 1;
        assert!(
            self.requests <= u32::from(REQUESTS_MAX) + 1,
            "a login without an end"
        );
        let held = self.login.held();
        assert!(held <= TEXT_MAX);
        self.buffer.truncate(held);
        assert_eq!(self.buffer.len(), held, "text is held that did not come");
        if self.login.check(bhs).is_ok() {
            assert!(held + text.len() <= TEXT_MAX);
            assert_eq!(Head::of(bhs).data_len.bytes() as usize, text.len());
            self.buffer.extend_from_slice(text);
        }
        let request = LoginRequest::read(bhs);
        let step = match self.login.request(bhs, &self.buffer, &mut self.out) {
            Step::LookUp => {
                assert!(!self.looked_up, "looked up twice");
                self.looked_up = true;
                let query = self.login.query();
                assert!(name::acceptable(query.initiator_name));
                assert!(query.target_name.is_none_or(name::acceptable));
                assert!(
                    query.target_name.is_some() || query.session_type == SessionType::Discovery
                );
                assert!(core::str::from_utf8(query.initiator_alias).is_ok());
                self.login.answer(self.answer, &self.buffer, &mut self.out)
            }
            step => step,
        };
        let step = match step {
            Step::Prove => self.prove(),
            step => step,
        };
        match step {
            Step::LookUp | Step::Prove => panic!("asked twice"),
            Step::Respond(pdu) => {
                self.respond(&request, &pdu);
                true
            }
            Step::Done(pdu, outcome) => {
                self.respond(&request, &pdu);
                self.check_outcome(&request, &pdu, &outcome);
                false
            }
            Step::Refuse(pdu, clause) => {
                assert!(pdu.status != 0 && !clause.is_empty());
                let moved = self.looked_up && matches!(self.answer, Answer::Moved { .. });
                assert!(moved || pdu.data_len.bytes() == 0);
                assert!(!pdu.flags.transit());
                false
            }
            Step::Close(clause) => {
                assert!(self.first.is_none() && !clause.is_empty());
                false
            }
        }
    }

    fn respond(&mut self, request: &LoginRequest, pdu: &LoginResponse) {
        assert_eq!(pdu.status, Status::Success.code());
        let first = *self.first.get_or_insert(*request);
        assert_eq!(
            (pdu.itt, pdu.isid, pdu.tsih),
            (first.itt, first.isid, first.tsih)
        );
        // 11.13.3: each takes a number. The window is the one that full feature phase begins with.
        assert_eq!(pdu.sn.stat_sn, self.stat_sn);
        self.stat_sn = self.stat_sn.next();
        assert_eq!(pdu.sn.exp_cmd_sn, first.cmd_sn);
        let len = pdu.data_len.bytes() as usize;
        assert!(len <= TEXT_MAX);
        let (asked, now, next) = (pdu.flags.transit(), pdu.flags.0 >> 2 & 3, pdu.flags.0 & 3);
        let (wish, from, to) = (
            request.flags.transit(),
            request.flags.0 >> 2 & 3,
            request.flags.0 & 3,
        );
        assert_eq!(now, from);
        self.stages_seen |= 1 << from;
        if self.requests > 1 {
            assert_eq!(from, self.stage, "a request of another stage was served");
        }
        if self.answers.is_some() {
            assert!(
                !request.flags.more() && self.buffer.is_empty(),
                "6.2: text was taken while the answers go on"
            );
        }
        if request.flags.more() {
            // 11.12.2: the text goes on, there is nothing to answer.
            assert!(len == 0 && !asked && !wish);
            self.stage = from;
            return;
        }
        assert!(
            self.looked_up,
            "an answer before it is known who asks for what"
        );
        // What the answers are to: the text of the request that they began with.
        let asks = self.answers.is_none();
        let mut answers = self.answers.take().unwrap_or_default();
        if asks {
            self.asked = self.buffer.clone();
        }
        answers.extend(&self.out[..len]);
        assert!(answers.len() <= REPLY_MAX);
        if pdu.flags.more() {
            // 11.13.7
            assert!(!asked && len == TEXT_MAX);
            self.answers = Some(answers);
            self.stage = now;
            return;
        }
        // Boot firmware may say again what it said in the request before.
        let again = self.config.keys_workaround && self.last_asked.as_ref() == Some(&self.asked);
        let open: Vec<_> = self.transcript.unanswered().map(|(name, _)| name).collect();
        self.transcript.exchange(&self.asked, &answers, again);
        self.last_asked = (now == 1).then(|| self.asked.clone());
        if asked {
            assert!(wish && next == to && next > now);
            // 6.3.3; and boot firmware must have had the time to answer.
            assert!(
                self.transcript
                    .unanswered()
                    .all(|(name, _)| self.config.keys_workaround && open.contains(&name)),
                "an offer was left unanswered"
            );
        }
        self.stage = if asked { next } else { now };
    }

    /// 13.14, on the wire.
    fn check_bursts(&self, outcome: &Outcome) {
        let said = &self.transcript;
        let of = |name| said.by_initiator(name);
        let (first, most) = (of("FirstBurstLength"), of("MaxBurstLength"));
        let (first, most) = match (first, most) {
            // Where the initiator says nothing, the target has to.
            (None, _) if self.stages_seen & 2 == 0 || self.config.keys_workaround => return,
            (None, _) if outcome.session_type == SessionType::Discovery => return,
            // There is no first burst.
            (None, _) if outcome.parameters.initial_r2t && !outcome.parameters.immediate_data => {
                return
            }
            (None, most) => (0, most.unwrap_or(u64::MAX)),
            // A default is what it lets be.
            (Some(first), most) => (first, most.unwrap_or(262_144)),
        };
        if first <= most {
            assert!(said.number("FirstBurstLength") <= said.number("MaxBurstLength"));
        }
    }

    fn check_outcome(&mut self, request: &LoginRequest, pdu: &LoginResponse, outcome: &Outcome) {
        assert!(self.looked_up);
        let Answer::Allowed(grant) = self.answer else {
            panic!("logged in, but not allowed to");
        };
        assert!(
            grant.auth != Auth::Required || self.proven,
            "one who is not known got in"
        );
        assert!(request.tsih == Tsih(0));
        assert!(request.flags.transit() && request.flags.0 & 3 == FULL && self.stage == FULL);
        assert_eq!(
            pdu.sn.max_cmd_sn,
            outcome.first_cmd_sn.plus(outcome.depth - 1)
        );
        assert_eq!(
            (outcome.first_cmd_sn, outcome.next_stat_sn),
            (pdu.sn.exp_cmd_sn, self.stat_sn)
        );
        assert!((1..=0x7fff_ffff).contains(&outcome.depth));
        assert_eq!(outcome.session_type, self.login.query().session_type);
        let (said, is) = (&self.transcript, &outcome.parameters);
        assert_eq!(is.initial_r2t, said.yes("InitialR2T"));
        assert_eq!(is.immediate_data, said.yes("ImmediateData"));
        assert_eq!(
            u64::from(is.max_recv),
            said.declared("MaxRecvDataSegmentLength", true)
        );
        let theirs = said.declared("MaxRecvDataSegmentLength", false);
        assert_eq!(
            u64::from(is.max_xmit),
            theirs.min(self.config.max_xmit.max(512).into())
        );
        assert_eq!(u64::from(is.max_burst), said.number("MaxBurstLength"));
        // 13.14: never above the other. Nor is what was said of it, where the initiator keeps to that.
        self.check_bursts(outcome);
        let first = said
            .number("FirstBurstLength")
            .min(said.number("MaxBurstLength"));
        assert_eq!(u64::from(is.first_burst), first);
        assert_eq!(u64::from(is.time2wait), said.number("DefaultTime2Wait"));
        assert_eq!(u64::from(is.time2retain), said.number("DefaultTime2Retain"));
        assert_eq!(
            u64::from(is.max_outstanding_r2t),
            said.number("MaxOutstandingR2T")
        );
        assert_eq!(
            u64::from(is.protocol_level),
            said.number("iSCSIProtocolLevel")
        );
        for (name, is, own) in [
            ("HeaderDigest", is.header_digest, self.config.header_digest),
            ("DataDigest", is.data_digest, self.config.data_digest),
        ] {
            let value = said.value(name);
            assert_eq!(is, value == b"CRC32C");
            assert!(is || value == b"None");
            assert!(allows(own, &value), "{name} against the configuration");
        }
        let level = said.number("ErrorRecoveryLevel");
        assert_eq!(u64::from(is.recovery_level), level);
        assert!(level <= self.config.recovery_level.into());
        // 13.19: with sequences in order.
        assert!(level == 0 || is.max_outstanding_r2t == 1);
        // What this target does not have it must not have agreed to.
        assert_eq!(u64::from(is.max_connections), said.number("MaxConnections"));
        let own = u64::from(self.config.max_connections).max(1);
        assert!(u64::from(is.max_connections) <= own);
        assert!(said.yes("DataPDUInOrder") && said.yes("DataSequenceInOrder"));
        assert!(!said.yes("RDMAExtensions"));
        // 7.12: a default that holds because a value was rejected is one that the target wants, as far as it has a say.
        let wants = &self.config;
        if outcome.session_type == SessionType::Normal
            && self.stages_seen & 2 != 0
            && !wants.keys_workaround
        {
            assert!(wants.immediate_data || !is.immediate_data);
            assert!(is.max_burst <= wants.max_burst.clamp(512, 0xff_ffff));
            assert!(is.time2wait >= wants.time2wait.min(3_600));
            assert!(is.time2retain <= wants.time2retain);
        }
        self.done = true;
    }
}
