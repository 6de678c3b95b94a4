// SPDX-License-Identifier: GPL-2.0

//! The login phase of a target as a state machine: RFC 7143, 6.3, 11.12 and 11.13.
//!
//! The driver receives login requests and sends what it is told to; it looks up the target when it is asked to; and
//! it bounds the time, by closing the connection when the login takes too long. Text is not copied: the driver
//! receives the data segment of each request at [`Login::held`] of one buffer of [`TEXT_MAX`] bytes, and gives the
//! whole of it to [`Login::request`], so that a text that goes over several requests lies there in one piece. Answers that are
//! longer than a response are kept at the beginning of the driver's buffer of [`REPLY_MAX`] bytes, which it leaves alone
//! between the requests.
//!
//! ```text
//! loop {
//!     receive the header; login.check(&bhs)?; receive the data segment to buffer[login.held()..];
//!     step = login.request(&bhs, &buffer[..login.held() + data_len], &mut out);
//!     if step is LookUp { step = login.answer(look_up(login.query()), &buffer[..same], &mut out) }
//!     if step is Prove { step = login.proven(check(login.proof()), &buffer[..same], &mut out) }
//!     match step {
//!         Respond(pdu) => send pdu with out[..pdu.data_len],
//!         Done(pdu, outcome) => pdu.tsih = the new session's; send it; full feature phase,
//!         Refuse(pdu, why) => send pdu with out[..pdu.data_len]; close,
//!         Close(why) => close,
//!     }
//! }
//! ```
//!
//! Not offered: methods of authentication but CHAP.

use crate::error::Error;
use crate::keys::{self, Id, In, Key, Kind, Often, Phase};
use crate::name::NAME_MAX;
use crate::negotiate::{self, Config, Failure, Negotiation, Parameters};
use crate::pdu::{Head, LoginFlags, LoginRequest, LoginResponse, Numbers, Stage};
use crate::sn::{CmdSn, StatSn};
use crate::text::{self, Kept, Pair, Writer, TEXT_MAX, VALUE_MAX};
use crate::wire::{Bhs, Cid, DataLen, Isid, Tsih};

pub mod chap;
mod status;
#[cfg(test)]
mod tests;

use chap::{Algorithms, Auth, Challenge, Chap, Proof, Verdict};
pub use status::Status;

/// How many login requests one login may take. Real ones take one to four; a text of 8 KiB in pieces a few more.
pub const REQUESTS_MAX: u8 = 32;

/// The longest text of answers, in bytes. One response has [`TEXT_MAX`] of it, which each initiator takes (13.12: what it declares
/// holds in full feature phase); only an initiator that asks for much that is not understood gets more.
pub const REPLY_MAX: usize = 2 * TEXT_MAX;

/// Discovery or Normal: 13.21.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionType {
    /// For SCSI.
    #[default]
    Normal,
    /// For SendTargets alone.
    Discovery,
}

/// Who wants to log in, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query<'a> {
    /// InitiatorName, see [`crate::name::acceptable`].
    pub initiator_name: &'a [u8],
    /// InitiatorAlias: UTF-8 without control characters, or empty.
    pub initiator_alias: &'a [u8],
    /// X#NodeArchitecture, which is for a log and nothing else (13.26): text-values with commas, or empty.
    pub node_architecture: &'a [u8],
    /// TargetName; `None` only in a discovery session.
    pub target_name: Option<&'a [u8]>,
    /// Which kind of session.
    pub session_type: SessionType,
    /// The initiator's part of the session identifier. A session with the same name, ISID and portal group is
    /// reinstated by this one (6.3.5): the driver ends the old one at [`Step::Done`].
    pub isid: Isid,
    /// Not 0: the initiator wants to add a connection to this session, or to reinstate one.
    pub tsih: Tsih,
    /// The connection.
    pub cid: Cid,
}

/// The driver's answer to a [`Query`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// It may log in; with a TSIH that is not 0, if the grant has the session.
    Allowed(Grant<'a>),
    /// The target has moved: the address as in TargetAddress (13.8), and whether it has moved for good.
    Moved {
        /// `address[:port][,tag]`
        address: &'a [u8],
        /// For good.
        permanent: bool,
    },
    /// It may not: most fitting are [`Status::AuthorizationFailure`], [`Status::NotFound`],
    /// [`Status::TargetRemoved`], [`Status::TooManyConnections`], [`Status::SessionDoesNotExist`],
    /// [`Status::ServiceUnavailable`] and [`Status::OutOfResources`].
    Refused(Status),
}

/// What a login that is allowed gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant<'a> {
    /// What the target wants.
    pub config: Config,
    /// Whether the initiator has to authenticate itself.
    pub auth: Auth,
    /// What CHAP may be done with.
    pub algorithms: Algorithms,
    /// What CHAP asks; never the same twice.
    pub challenge: Challenge,
    /// TargetPortalGroupTag; in a discovery session, that of a group on the portal.
    pub portal_group_tag: u16,
    /// TargetAlias; not sent if it is empty.
    pub alias: &'a [u8],
    /// How many commands the session may have in flight.
    pub depth: u32,
    /// What holds in the session that the connection is added to, if [`Query::tsih`] names one.
    pub joins: Option<Parameters>,
}

/// What full feature phase begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Which kind of session.
    pub session_type: SessionType,
    /// What was agreed on.
    pub parameters: Parameters,
    /// The first command's number.
    pub first_cmd_sn: CmdSn,
    /// How many commands the initiator was told that it may send: what [`crate::seq::CmdWindow::new`] takes.
    pub depth: u32,
    /// The number of the first response after the login.
    pub next_stat_sn: StatSn,
}

/// What the driver does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Step {
    /// Answer [`Login::query`] with [`Login::answer`].
    LookUp,
    /// Check [`Login::proof`] and go on with [`Login::proven`].
    Prove,
    /// Send this, with its `data_len` bytes of text; the login goes on.
    Respond(LoginResponse),
    /// Put the session's TSIH into this and send it, with its text; the login is over. If the session cannot be made
    /// after all, send what [`Login::refuse`] gives instead.
    Done(LoginResponse, Outcome),
    /// Send this, with its text (only a moved target's has any), and close. The clause is for the log.
    Refuse(LoginResponse, &'static str),
    /// Close.
    Close(&'static str),
}

/// A login that fails: status and clause.
type Refusal = (Status, &'static str);

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        (Status::InitiatorError, failure.clause())
    }
}

const fn wrong(clause: &'static str) -> Refusal {
    (Status::InitiatorError, clause)
}

/// A login. About 2 KiB: it belongs on the heap.
#[derive(Clone, Debug)]
pub struct Login {
    stage: Stage,
    /// The first request of this login; all later ones must be like it.
    first: Option<LoginRequest>,
    /// The request that is being answered.
    current: Option<LoginRequest>,
    requests: u8,
    held: usize,
    /// Bytes of the answers that the initiator has to ask for (11.13.7). They are behind [`TEXT_MAX`] bytes in the driver's
    /// buffer.
    rest: usize,
    stat_sn: StatSn,
    negotiation: Option<Negotiation>,
    depth: u32,
    /// The keys of identification and security that came, in any stage and in this one.
    seen: u64,
    seen_here: u64,
    initiator_name: Kept<NAME_MAX>,
    target_name: Kept<NAME_MAX>,
    alias: Kept<VALUE_MAX>,
    architecture: Kept<VALUE_MAX>,
    session_type: SessionType,
    chap: Chap,
}

impl Login {
    /// A login on a new connection, whose first response has this number.
    #[must_use]
    pub const fn new(stat_sn: StatSn) -> Self {
        Login {
            stage: Stage::Security,
            first: None,
            current: None,
            requests: 0,
            held: 0,
            rest: 0,
            stat_sn,
            negotiation: None,
            depth: 1,
            seen: 0,
            seen_here: 0,
            initiator_name: Kept::EMPTY,
            target_name: Kept::EMPTY,
            alias: Kept::EMPTY,
            architecture: Kept::EMPTY,
            session_type: SessionType::Normal,
            chap: Chap::new(),
        }
    }

    /// Where in the driver's buffer the text of the next request goes, in bytes; at most [`TEXT_MAX`].
    #[must_use]
    pub const fn held(&self) -> usize {
        self.held
    }

    /// Checks a header before its data segment is received: that it is a login request, and that its text fits into
    /// the [`TEXT_MAX`] bytes behind [`Login::held`].
    ///
    /// # Errors
    /// The connection is to be closed; in place of a Reject, which the login phase does not have, the driver may
    /// send what [`Login::refuse`] gives.
    pub fn check(&self, bhs: &Bhs) -> Result<Head, Error> {
        let head = Head::of(bhs);
        if head.opcode != LoginRequest::OPCODE {
            return Err(Error::fatal("6.3: not a login request in the login phase"));
        }
        let room = TEXT_MAX.saturating_sub(self.held);
        head.check_lengths(u32::try_from(room).unwrap_or(0))?;
        Ok(head)
    }

    /// Who wants to log in: for [`Step::LookUp`] and afterwards.
    #[must_use]
    pub fn query(&self) -> Query<'_> {
        let first = self.first.as_ref();
        Query {
            initiator_name: self.initiator_name.get(),
            initiator_alias: self.alias.get(),
            node_architecture: self.architecture.get(),
            target_name: (self.seen & Id::TargetName.bit() != 0).then(|| self.target_name.get()),
            session_type: self.session_type,
            isid: first.map_or(Isid::default(), |r| r.isid),
            tsih: first.map_or(Tsih::default(), |r| r.tsih),
            cid: first.map_or(Cid::default(), |r| r.cid),
        }
    }

    /// Takes a login request. `text` is all that the driver's buffer holds up to the end of this request's data
    /// segment; `out`, of [`REPLY_MAX`] bytes, is where the text of the response is written.
    pub fn request(&mut self, bhs: &Bhs, text: &[u8], out: &mut [u8]) -> Step {
        if let Err(error) = self.check(bhs) {
            return match self.first {
                // 6.3.1: the first PDU of a connection is a login request or nothing.
                None => Step::Close(error.clause),
                Some(_) => self.refused((Status::InvalidDuringLogin, error.clause)),
            };
        }
        let request = LoginRequest::read(bhs);
        self.requests = self.requests.saturating_add(1);
        self.current = Some(request);
        match self.begin(&request, Head::of(bhs).immediate, text) {
            Err(refusal) => self.refused(refusal),
            Ok(Next::More) => {
                self.held = text.len();
                let flags = LoginFlags::default().with_stages(self.stage, Stage::Security);
                Step::Respond(self.respond(flags, 0))
            }
            Ok(Next::Rest) => {
                if let Some((sent, rest)) = out.split_at_mut_checked(TEXT_MAX) {
                    for (to, from) in sent.iter_mut().zip(rest) {
                        *to = *from;
                    }
                }
                let len = self.rest;
                self.piece(len)
            }
            Ok(Next::LookUp) => Step::LookUp,
            Ok(Next::Prove) => Step::Prove,
            Ok(Next::Go) => self.go(text, Writer::new(out)),
        }
    }

    /// Goes on with the request that led to [`Step::LookUp`], with the same `text`.
    pub fn answer(&mut self, answer: Answer<'_>, text: &[u8], out: &mut [u8]) -> Step {
        let mut out = Writer::new(out);
        let grant = match answer {
            Answer::Allowed(grant) => grant,
            Answer::Refused(status) => {
                return self.refused((status, "11.13.5: refused by the target"))
            }
            Answer::Moved { address, permanent } => {
                let status = if permanent {
                    Status::MovedPermanently
                } else {
                    Status::MovedTemporarily
                };
                if out.pair(Id::TargetAddress.name(), address).is_err() {
                    return self.refused((Status::TargetError, "13.8: no room for the address"));
                }
                let pdu = self.failed(status, out.len());
                return Step::Refuse(pdu, "11.13.5: the target has moved");
            }
        };
        match self.grant(&grant, &mut out) {
            Err(refusal) => self.refused(refusal),
            Ok(()) => self.go(text, out),
        }
    }

    /// What the initiator proves itself by: for [`Step::Prove`].
    #[must_use]
    pub fn proof(&self) -> Option<Proof<'_>> {
        self.chap.shown()
    }

    /// Goes on with the request that led to [`Step::Prove`], with the same `text`.
    pub fn proven(&mut self, verdict: Verdict<'_>, text: &[u8], out: &mut [u8]) -> Step {
        let mut out = Writer::new(out);
        match self.chap.verdict(verdict, &mut out) {
            Err(refusal) => self.refused(refusal),
            Ok(()) => self.go(text, out),
        }
    }

    /// The response that ends the login with `status`, without text. For what the driver finds out: at
    /// [`Step::Done`] that the session cannot be made, or that time is up.
    #[must_use]
    pub fn refuse(&self, status: Status) -> LoginResponse {
        self.failed(status, 0)
    }

    fn refused(&self, (status, clause): Refusal) -> Step {
        Step::Refuse(self.failed(status, 0), clause)
    }

    fn failed(&self, status: Status, text_len: usize) -> LoginResponse {
        let mut pdu = self.response(LoginFlags::default(), text_len);
        pdu.status = status.code();
        pdu
    }

    fn response(&self, flags: LoginFlags, text_len: usize) -> LoginResponse {
        let zero = LoginRequest::read(&[0; 48]);
        let request = self.current.as_ref().unwrap_or(&zero);
        let first = self.first.as_ref().unwrap_or(request);
        LoginResponse {
            flags,
            version_max: 0,
            version_active: 0,
            data_len: DataLen::at_most(text_len),
            isid: request.isid,
            tsih: request.tsih,
            itt: request.itt,
            sn: Numbers {
                stat_sn: self.stat_sn,
                exp_cmd_sn: first.cmd_sn,
                max_cmd_sn: first.cmd_sn.plus(self.depth.saturating_sub(1)),
            },
            status: Status::Success.code(),
        }
    }

    fn respond(&mut self, flags: LoginFlags, text_len: usize) -> LoginResponse {
        let pdu = self.response(flags, text_len);
        self.stat_sn = self.stat_sn.next();
        pdu
    }

    /// Checks the header against the state of the login, and finds out whether the target is known yet.
    fn begin(
        &mut self,
        request: &LoginRequest,
        immediate: bool,
        text: &[u8],
    ) -> Result<Next, Refusal> {
        if self.requests > REQUESTS_MAX {
            return Err(wrong("6.3: the login does not come to an end"));
        }
        if request.version_min > 0 {
            return Err((
                Status::UnsupportedVersion,
                "11.12.4: no version that this target speaks",
            ));
        }
        if !immediate {
            return Err(wrong("11.12: a login request that is not immediate"));
        }
        let stage = match request.flags.current() {
            Some(stage @ (Stage::Security | Stage::Operational)) => stage,
            _ => return Err(wrong("11.12.3: no stage of a login")),
        };
        if request.flags.transit() {
            if request.flags.more() {
                return Err(wrong("11.12.2: T and C both 1"));
            }
            match request.flags.next() {
                Some(next) if next as u8 > stage as u8 => (),
                _ => return Err(wrong("11.12.3: no way to the next stage")),
            }
        }
        match self.first {
            None => {
                self.first = Some(*request);
                self.stage = stage;
            }
            Some(first) => {
                let same = (first.itt, first.isid, first.tsih, first.cid)
                    == (request.itt, request.isid, request.tsih, request.cid);
                if !same {
                    return Err(wrong("11.12: the tag, session or connection has changed"));
                }
                if stage != self.stage {
                    return Err(wrong("11.12.3: not the stage that the login is in"));
                }
            }
        }
        if self.rest > 0 {
            // 6.2: an initiator says nothing while it asks for the rest.
            if request.flags.more() || !text.is_empty() {
                return Err(wrong("11.13.7: text while the answers go on"));
            }
            return Ok(Next::Rest);
        }
        if request.flags.more() {
            return Ok(Next::More);
        }
        self.held = 0;
        if self.negotiation.is_some() {
            if self.stage == Stage::Security && self.chap.is_challenged() {
                self.chap.proof(text)?;
                return Ok(Next::Prove);
            }
            return Ok(Next::Go);
        }
        self.identify(text)?;
        Ok(Next::LookUp)
    }

    /// Reads who wants to log in and where out of the first text: 6.3.1.
    fn identify(&mut self, text: &[u8]) -> Result<(), Refusal> {
        for pair in text::pairs(text) {
            let pair = pair.map_err(Failure::from)?;
            if let Some(key) = keys::find(pair.key) {
                self.identity(key, pair.value)?;
            }
        }
        if self.seen & Id::InitiatorName.bit() == 0 {
            return Err((Status::MissingParameter, "6.3.1: no InitiatorName"));
        }
        if self.session_type == SessionType::Normal && self.seen & Id::TargetName.bit() == 0 {
            return Err((Status::MissingParameter, "6.3.1: no TargetName"));
        }
        Ok(())
    }

    /// Takes a key that says who wants to log in. The same one may come again with the same value in a later stage:
    /// 6.3 forbids that, but libiscsi does it, and it means nothing.
    fn identity(&mut self, key: &Key, value: &[u8]) -> Result<(), Refusal> {
        let id = key.id;
        let Kind::Text(form) = key.kind else {
            return Ok(());
        };
        if !form.admits(value) {
            return Err(match id {
                Id::SessionType => (
                    Status::SessionTypeNotSupported,
                    "13.21: unknown type of session",
                ),
                _ => Failure::Value(id).into(),
            });
        }
        let again = self.seen & id.bit() != 0;
        let (same, kept) = match id {
            Id::InitiatorName => keep(&mut self.initiator_name, value),
            Id::TargetName => keep(&mut self.target_name, value),
            Id::InitiatorAlias => keep(&mut self.alias, value),
            Id::NodeArchitecture => keep(&mut self.architecture, value),
            Id::SessionType => {
                let before = self.session_type;
                self.session_type = match value {
                    b"Discovery" => SessionType::Discovery,
                    _ => SessionType::Normal,
                };
                (before == self.session_type, true)
            }
            _ => return Ok(()),
        };
        if again && !same && key.often == Often::Login {
            return Err(Failure::Twice(id).into());
        }
        if !kept {
            return Err(Failure::Value(id).into());
        }
        self.seen |= id.bit();
        Ok(())
    }

    fn grant(&mut self, grant: &Grant<'_>, out: &mut Writer<'_>) -> Result<(), Refusal> {
        let new = self.first.is_none_or(|first| first.tsih == Tsih(0));
        if !new && grant.joins.is_none() {
            return Err((
                Status::SessionDoesNotExist,
                "11.13.5: no session of this handle",
            ));
        }
        self.chap
            .allow(grant.auth, grant.algorithms, grant.challenge);
        if self.stage == Stage::Operational {
            self.chap.may_leave()?;
        }
        let discovery = self.session_type == SessionType::Discovery;
        self.depth = grant.depth.clamp(1, 0x7fff_ffff);
        self.negotiation = Some(match grant.joins {
            Some(session) if !new => Negotiation::joining(grant.config, session),
            _ => Negotiation::new(grant.config, discovery),
        });
        // 6.3.1: in the first response, for all types of session.
        out.number(
            Id::TargetPortalGroupTag.name(),
            grant.portal_group_tag.into(),
        )
        .map_err(Failure::from)?;
        if !discovery && !grant.alias.is_empty() {
            out.pair(Id::TargetAlias.name(), grant.alias)
                .map_err(Failure::from)?;
        }
        Ok(())
    }

    /// Answers the text of the current request.
    fn go(&mut self, text: &[u8], mut out: Writer<'_>) -> Step {
        match self.negotiate(text, &mut out) {
            Err(refusal) => self.refused(refusal),
            Ok(()) => self.piece(out.len()),
        }
    }

    /// Sends the answers, of which `len` bytes are left, or as much of them as a response has.
    fn piece(&mut self, len: usize) -> Step {
        self.rest = len.saturating_sub(TEXT_MAX);
        if self.rest > 0 {
            // 11.13.6, 11.13.7: the stage does not end meanwhile.
            let flags = LoginFlags::default()
                .with_more(true)
                .with_stages(self.stage, Stage::Security);
            return Step::Respond(self.respond(flags, TEXT_MAX));
        }
        match self.transit() {
            Err(refusal) => self.refused(refusal),
            Ok((flags, None)) => Step::Respond(self.respond(flags, len)),
            Ok((flags, Some(parameters))) => {
                let pdu = self.respond(flags, len);
                let outcome = Outcome {
                    session_type: self.session_type,
                    parameters,
                    first_cmd_sn: pdu.sn.exp_cmd_sn,
                    depth: self.depth,
                    next_stat_sn: self.stat_sn,
                };
                Step::Done(pdu, outcome)
            }
        }
    }

    /// The stage to which the initiator wants.
    fn wish(&self) -> Option<Stage> {
        self.current.and_then(|request| {
            let flags = request.flags;
            flags.next().filter(|_| flags.transit())
        })
    }

    /// Takes the keys and writes the answers.
    fn negotiate(&mut self, text: &[u8], out: &mut Writer<'_>) -> Result<(), Refusal> {
        if let (Stage::Operational, Some(negotiation)) = (self.stage, &mut self.negotiation) {
            if negotiation.begin(text) {
                self.seen_here = 0;
            }
        }
        for pair in text::pairs(text) {
            let pair = pair.map_err(Failure::from)?;
            self.take(&pair, out)?;
        }
        if self.stage != Stage::Operational {
            return self.chap.request(text, out);
        }
        let leaving = self.wish().is_some();
        let negotiation = self
            .negotiation
            .as_mut()
            .ok_or((Status::TargetError, "6.3: no target"))?;
        Ok(negotiation.volunteer(leaving, out)?)
    }

    /// Decides about the stage: the response's flags, and the parameters if full feature phase begins.
    fn transit(&mut self) -> Result<(LoginFlags, Option<Parameters>), Refusal> {
        let (stage, wish) = (self.stage, self.wish());
        let negotiation = self
            .negotiation
            .as_ref()
            .ok_or((Status::TargetError, "6.3: no target"))?;
        let settled = match (stage, wish) {
            (Stage::Security, Some(_)) => self.chap.may_leave()?,
            _ => true,
        };
        let flags = LoginFlags::default();
        match wish {
            // 6.3.3: while offers are unanswered the stage cannot end.
            Some(next) if settled && !negotiation.awaits_answers() => {
                if next == Stage::FullFeature {
                    negotiation.check().map_err(Refusal::from)?;
                }
                let result = negotiation.result();
                self.stage = next;
                self.seen_here = 0;
                let flags = flags.with_transit(true).with_stages(stage, next);
                Ok((flags, (next == Stage::FullFeature).then_some(result)))
            }
            _ => Ok((flags.with_stages(stage, Stage::Security), None)),
        }
    }

    fn take(&mut self, pair: &Pair<'_>, out: &mut Writer<'_>) -> Result<(), Refusal> {
        if self.stage == Stage::Security && self.chap.owns(pair.key) {
            return Ok(());
        }
        let Some(key) = keys::find(pair.key) else {
            return Ok(negotiate::not_understood(pair, out)?);
        };
        // A session has one connection.
        if !key.may_come(Phase::LeadingLogin) {
            return Err(Failure::Misplaced(key.id).into());
        }
        if key.stage != In::Operational {
            return self.take_common(key, pair.value, out);
        }
        if self.stage != Stage::Operational {
            return Err(Failure::Misplaced(key.id).into());
        }
        let negotiation = self
            .negotiation
            .as_mut()
            .ok_or((Status::TargetError, "6.3: no target"))?;
        Ok(negotiation.take(key, pair.value, out)?)
    }

    /// Takes a key that is no operational parameter.
    fn take_common(
        &mut self,
        key: &Key,
        value: &[u8],
        out: &mut Writer<'_>,
    ) -> Result<(), Refusal> {
        let id = key.id;
        if self.seen_here & id.bit() != 0 {
            return Err(Failure::Twice(id).into());
        }
        self.seen_here |= id.bit();
        match id {
            Id::AuthMethod => {
                if self.stage != Stage::Security {
                    return Err(Failure::Misplaced(id).into());
                }
                if self.seen & id.bit() != 0 {
                    return Err(Failure::Twice(id).into());
                }
                self.seen |= id.bit();
                let method = self.chap.method(value)?;
                out.pair(key.name, method).map_err(Failure::from)?;
                Ok(())
            }
            // The text of the first request has been read by `identify`; later ones must not say otherwise.
            Id::TargetName | Id::SessionType | Id::InitiatorName if self.seen & id.bit() == 0 => {
                Err(Failure::Misplaced(id).into())
            }
            _ => self.identity(key, value),
        }
    }
}

/// Where a request leads.
enum Next {
    /// Its text goes on in the next one.
    More,
    /// It asks for the rest of the answers.
    Rest,
    /// The target must be looked up.
    LookUp,
    /// It holds what the initiator proves itself by.
    Prove,
    /// Its text is complete and the target is known.
    Go,
}

/// Keeps `text` in place of what was there: whether that was the same, and whether there is room.
fn keep<const N: usize>(place: &mut Kept<N>, text: &[u8]) -> (bool, bool) {
    let same = place.get() == text;
    (same, place.set(text))
}
