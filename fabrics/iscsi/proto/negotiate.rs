// SPDX-License-Identifier: GPL-2.0

//! Negotiation of operational parameters by the target: RFC 7143, 6.2 and 13.

use crate::digest::{self, Digests};
use crate::keys::{self, Id, Key, Kind, Range, Scope, Sender};
use crate::text::{Full, Pair, TextError, Writer};
use crate::value;

/// What the target wants: the values of a portal group's `param/`.
///
/// There is no DataPDUInOrder and DataSequenceInOrder: this target always says Yes, which is a legal answer to
/// either offer (13.18, 13.19), and data out of order is nowhere taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// InitialR2T
    pub initial_r2t: bool,
    /// ImmediateData
    pub immediate_data: bool,
    /// MaxRecvDataSegmentLength: what this target takes in one PDU, in bytes. 8192, the default, stands for as much as
    /// it sends: see [`Config::declared`].
    pub max_recv: u32,
    /// MaxXmitDataSegmentLength: what this target sends in one PDU at most, whatever the initiator takes, in bytes.
    pub max_xmit: u32,
    /// MaxBurstLength, in bytes.
    pub max_burst: u32,
    /// FirstBurstLength, in bytes.
    pub first_burst: u32,
    /// DefaultTime2Wait, in seconds.
    pub time2wait: u16,
    /// DefaultTime2Retain, in seconds.
    pub time2retain: u16,
    /// MaxOutstandingR2T
    pub max_outstanding_r2t: u16,
    /// MaxConnections
    pub max_connections: u16,
    /// ErrorRecoveryLevel: 0 or 1.
    pub recovery_level: u8,
    /// HeaderDigest
    pub header_digest: Digests,
    /// DataDigest
    pub data_digest: Digests,
    /// What boot firmware does, and 6.2 forbids, is let through: it leaves offers of this target unanswered, which are void then,
    /// and says again what it said when its wish to end the stage is not granted at once.
    pub keys_workaround: bool,
}

/// What a connection begins with, and `param/MaxRecvDataSegmentLength` too: 13.12.
const DEFAULT_SEGMENT: u32 = 8_192;

impl Config {
    /// What this target declares as its MaxRecvDataSegmentLength, in bytes.
    ///
    /// The stock modules always declare their MaxXmitDataSegmentLength. Where nobody has said otherwise, initiators get to
    /// hear the same here: in pieces of 8 KiB, writes would be slower by a third.
    #[must_use]
    pub fn declared(&self) -> u32 {
        let length = match self.max_recv {
            DEFAULT_SEGMENT => self.max_xmit.max(DEFAULT_SEGMENT),
            set => set,
        };
        length.clamp(512, 0x00ff_ffff)
    }
}

impl Default for Config {
    /// What the stock modules' `param/` reads before anyone writes to it.
    fn default() -> Self {
        Config {
            initial_r2t: true,
            immediate_data: true,
            max_recv: DEFAULT_SEGMENT,
            max_xmit: 262_144,
            max_burst: 262_144,
            first_burst: 65_536,
            time2wait: 2,
            time2retain: 20,
            max_outstanding_r2t: 1,
            max_connections: 1,
            recovery_level: 0,
            header_digest: Digests::default(),
            data_digest: Digests::default(),
            keys_workaround: true,
        }
    }
}

/// What holds in full feature phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// InitialR2T: unsolicited Data-Out PDUs are forbidden.
    pub initial_r2t: bool,
    /// ImmediateData: data may come with the command.
    pub immediate_data: bool,
    /// What this target said that it takes in one PDU, in bytes.
    pub max_recv: u32,
    /// What may be sent in one PDU, in bytes: what the initiator takes, and not above the target's own limit.
    pub max_xmit: u32,
    /// MaxBurstLength, in bytes.
    pub max_burst: u32,
    /// FirstBurstLength, in bytes, not above `max_burst`.
    pub first_burst: u32,
    /// DefaultTime2Wait, in seconds.
    pub time2wait: u16,
    /// DefaultTime2Retain, in seconds.
    pub time2retain: u16,
    /// MaxOutstandingR2T
    pub max_outstanding_r2t: u16,
    /// MaxConnections: so many connections the session may have.
    pub max_connections: u16,
    /// iSCSIProtocolLevel: 0 or 1.
    pub protocol_level: u8,
    /// ErrorRecoveryLevel
    pub recovery_level: u8,
    /// Headers have a digest, CRC32C.
    pub header_digest: bool,
    /// Data segments have a digest, CRC32C.
    pub data_digest: bool,
}

impl Default for Parameters {
    /// What holds if nobody says anything: 13.
    fn default() -> Self {
        Parameters {
            initial_r2t: true,
            immediate_data: true,
            max_recv: DEFAULT_SEGMENT,
            max_xmit: DEFAULT_SEGMENT,
            max_burst: 262_144,
            first_burst: 65_536,
            time2wait: 2,
            time2retain: 20,
            max_outstanding_r2t: 1,
            max_connections: 1,
            protocol_level: 1,
            recovery_level: 0,
            header_digest: false,
            data_digest: false,
        }
    }
}

/// Why a negotiation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The text is malformed.
    Text(TextError),
    /// The answers find no room.
    Full,
    /// A key that this side may not send, or not now.
    Misplaced(Id),
    /// A key for the second time.
    Twice(Id),
    /// A value that the key cannot have, or a list without anything that this target knows.
    Value(Id),
}

impl Failure {
    /// For the log.
    #[must_use]
    pub const fn clause(self) -> &'static str {
        match self {
            Failure::Text(error) => error.clause(),
            Failure::Full => "6.1: the answers are longer than a login response",
            Failure::Misplaced(_) => "13: a key by the wrong side or at the wrong time",
            Failure::Twice(_) => "6.3: a key twice",
            Failure::Value(_) => "7.10: a value that cannot be agreed on",
        }
    }

    /// The key that it is about, if it is about one.
    #[must_use]
    pub const fn key(self) -> Option<Id> {
        match self {
            Failure::Misplaced(id) | Failure::Twice(id) | Failure::Value(id) => Some(id),
            Failure::Text(_) | Failure::Full => None,
        }
    }
}

impl From<Full> for Failure {
    fn from(_: Full) -> Self {
        Failure::Full
    }
}

impl From<TextError> for Failure {
    fn from(error: TextError) -> Self {
        Failure::Text(error)
    }
}

/// The negotiation of the operational parameters in one login.
#[derive(Clone, Debug)]
pub struct Negotiation {
    config: Config,
    discovery: bool,
    /// The connection is added to a session, whose parameters are fixed.
    joins: bool,
    result: Parameters,
    /// What the initiator takes in one PDU.
    peer_recv: u32,
    /// Keys that the initiator sent of its own.
    seen: u64,
    /// Keys that this target offered of its own.
    offered: u64,
    /// Those of them that the initiator answered.
    answered: u64,
    /// What it offered for FirstBurstLength: what it wants depends on what comes of MaxBurstLength, which may come later.
    offered_first: u32,
    /// Some of them go out with the next answers.
    fresh: bool,
    declared: bool,
    /// The text that was worked off last, as [`checksum`] tells them apart, and the keys that had been sent before it.
    last: Option<(u64, u64)>,
}

impl Negotiation {
    /// Nothing is agreed on yet.
    #[must_use]
    pub fn new(config: Config, discovery: bool) -> Self {
        Negotiation {
            config,
            discovery,
            joins: false,
            result: Parameters::default(),
            peer_recv: DEFAULT_SEGMENT,
            seen: 0,
            offered: 0,
            answered: 0,
            offered_first: 0,
            fresh: false,
            declared: false,
            last: None,
        }
    }

    /// For one more connection of a session in which these hold: only what is of the connection is agreed on.
    #[must_use]
    pub fn joining(config: Config, session: Parameters) -> Self {
        let new = Parameters::default();
        Negotiation {
            joins: true,
            result: Parameters {
                max_recv: new.max_recv,
                max_xmit: new.max_xmit,
                header_digest: new.header_digest,
                data_digest: new.data_digest,
                ..session
            },
            ..Negotiation::new(config, false)
        }
    }

    /// Whether a key has no meaning in this login.
    fn is_irrelevant(&self, key: &Key) -> bool {
        (self.discovery && !key.discovery) || (self.joins && key.scope == Scope::Session)
    }

    /// What this target wants of a key that takes the smaller or the larger number.
    fn own_number(&self, id: Id, range: Range) -> u32 {
        let own = match id {
            Id::MaxBurstLength => self.config.max_burst,
            // 13.14: not above the other.
            Id::FirstBurstLength => self.config.first_burst.min(self.max_burst()),
            Id::DefaultTime2Wait => self.config.time2wait.into(),
            Id::DefaultTime2Retain => self.config.time2retain.into(),
            Id::MaxOutstandingR2T if self.may_recover() => 1,
            Id::MaxOutstandingR2T => self.config.max_outstanding_r2t.into(),
            Id::MaxConnections => self.config.max_connections.into(),
            // 7.4.1: whatever the portal groups offer.
            Id::ErrorRecoveryLevel if self.discovery => 0,
            Id::ErrorRecoveryLevel => self.config.recovery_level.min(2).into(),
            // iSCSIProtocolLevel
            _ => range.default,
        };
        own.max(range.min).min(range.max)
    }

    /// What MaxBurstLength has come to, or this target wants it to.
    fn max_burst(&self) -> u32 {
        match (self.seen | self.answered) & Id::MaxBurstLength.bit() {
            0 => self.config.max_burst,
            _ => self.result.max_burst,
        }
    }

    /// Whether the error recovery level is above 0, or may come to be: one R2T of a command waits then, since sequences are in
    /// order (13.19).
    fn may_recover(&self) -> bool {
        match self.seen & Id::ErrorRecoveryLevel.bit() {
            0 => !self.discovery && self.config.recovery_level > 0,
            _ => self.result.recovery_level > 0,
        }
    }

    /// What this target wants of a boolean key.
    const fn own_boolean(&self, id: Id) -> bool {
        match id {
            Id::InitialR2T => self.config.initial_r2t,
            Id::ImmediateData => self.config.immediate_data,
            Id::RDMAExtensions => false,
            // DataPDUInOrder, DataSequenceInOrder
            _ => true,
        }
    }

    /// What this target lets be agreed on for a digest.
    const fn own_digests(&self, id: Id) -> Digests {
        match id {
            Id::HeaderDigest => self.config.header_digest,
            _ => self.config.data_digest,
        }
    }

    fn agree_digest(&mut self, id: Id, on: bool) {
        match id {
            Id::HeaderDigest => self.result.header_digest = on,
            _ => self.result.data_digest = on,
        }
    }

    fn agree_number(&mut self, id: Id, value: u32) {
        let short = u16::try_from(value).unwrap_or(u16::MAX);
        match id {
            Id::MaxBurstLength => self.result.max_burst = value,
            Id::FirstBurstLength => self.result.first_burst = value,
            Id::DefaultTime2Wait => self.result.time2wait = short,
            Id::DefaultTime2Retain => self.result.time2retain = short,
            Id::MaxOutstandingR2T => self.result.max_outstanding_r2t = short,
            Id::MaxConnections => self.result.max_connections = short,
            Id::ErrorRecoveryLevel => self.result.recovery_level = u8::try_from(value).unwrap_or(0),
            Id::ISCSIProtocolLevel => {
                self.result.protocol_level = u8::try_from(value).unwrap_or(1);
            }
            _ => (),
        }
    }

    fn agree_boolean(&mut self, id: Id, value: bool) {
        match id {
            Id::InitialR2T => self.result.initial_r2t = value,
            Id::ImmediateData => self.result.immediate_data = value,
            _ => (),
        }
    }

    /// Begins with a text of the operational stage; whether it is the one before once more, as may be.
    pub fn begin(&mut self, text: &[u8]) -> bool {
        self.fresh = false;
        let sum = checksum(text);
        match self.last {
            // The same again comes to the same, and is answered in the same way.
            Some((last, seen)) if last == sum && self.config.keys_workaround => {
                self.seen = seen;
                true
            }
            _ => {
                self.last = Some((sum, self.seen));
                false
            }
        }
    }

    /// Takes a pair with an operational key that the initiator sent in the operational stage, and writes the answer,
    /// if there is one.
    ///
    /// # Errors
    /// Why the login fails.
    pub fn take(&mut self, key: &Key, value: &[u8], out: &mut Writer<'_>) -> Result<(), Failure> {
        let id = key.id;
        if key.sender == Sender::Target {
            return Err(Failure::Misplaced(id));
        }
        if self.offered & id.bit() != 0 && self.answered & id.bit() == 0 {
            self.answered |= id.bit();
            return self.answer(key, value);
        }
        if (self.seen | self.offered) & id.bit() != 0 {
            return Err(Failure::Twice(id));
        }
        self.seen |= id.bit();
        // Only an answer may have one of these values, and nothing was asked.
        if keys::is_answer(value) {
            return Err(Failure::Value(id));
        }
        if self.is_irrelevant(key) {
            return Ok(out.pair(key.name, b"Irrelevant")?);
        }
        match self.respond(key, value, out) {
            // 6.2.2: what is not admissible may be answered so, and leaves what holds by default.
            Err(Failure::Value(_)) if self.wants_default(key) => Ok(out.pair(key.name, b"Reject")?),
            done => done,
        }
    }

    /// Whether this target can live with what holds when nothing is agreed on.
    fn wants_default(&self, key: &Key) -> bool {
        let id = key.id;
        match key.kind {
            Kind::Min(range) => range.default <= self.own_number(id, range),
            Kind::Max(range) => range.default >= self.own_number(id, range),
            Kind::Or(default) => default || !self.own_boolean(id),
            Kind::And(default) => !default || self.own_boolean(id),
            Kind::List(_) => true,
            // 6.2.1: who names digests without None wants one of them.
            Kind::Digest => false,
            // 7.12: a declaration has no answer.
            Kind::Text(_) | Kind::Declared(_) | Kind::Unused(_) | Kind::Unheard => false,
        }
    }

    fn respond(&mut self, key: &Key, text: &[u8], out: &mut Writer<'_>) -> Result<(), Failure> {
        let id = key.id;
        let wrong = Failure::Value(id);
        match key.kind {
            Kind::Text(form) if form.admits(text) => (),
            Kind::Text(_) => return Err(wrong),
            Kind::Unheard => (),
            Kind::Declared(range) => {
                self.peer_recv = value::number_in(text, range.min, range.max).ok_or(wrong)?;
            }
            Kind::Min(range) => {
                let offer = value::number_in(text, range.min, range.max).ok_or(wrong)?;
                let agreed = offer.min(self.own_number(id, range));
                self.agree_number(id, agreed);
                out.number(key.name, agreed)?;
            }
            Kind::Max(range) => {
                let offer = value::number_in(text, range.min, range.max).ok_or(wrong)?;
                let agreed = offer.max(self.own_number(id, range));
                self.agree_number(id, agreed);
                out.number(key.name, agreed)?;
            }
            Kind::Or(_) => {
                let agreed = value::boolean(text).ok_or(wrong)? | self.own_boolean(id);
                self.agree_boolean(id, agreed);
                out.boolean(key.name, agreed)?;
            }
            Kind::And(_) => {
                let agreed = value::boolean(text).ok_or(wrong)? & self.own_boolean(id);
                self.agree_boolean(id, agreed);
                out.boolean(key.name, agreed)?;
            }
            Kind::List(known) => {
                if !value::list(text).any(|v| v == known.as_bytes()) {
                    return Err(wrong);
                }
                out.pair(key.name, known.as_bytes())?;
            }
            Kind::Digest => {
                let own = self.own_digests(id);
                let agreed = value::list(text).find_map(|v| own.choose(v)).ok_or(wrong)?;
                self.agree_digest(id, agreed);
                out.pair(key.name, digest::name(agreed).as_bytes())?;
            }
            Kind::Unused(answer) => out.pair(key.name, answer.as_bytes())?,
        }
        Ok(())
    }

    /// Takes the initiator's answer to what this target offered.
    fn answer(&mut self, key: &Key, text: &[u8]) -> Result<(), Failure> {
        let id = key.id;
        let wrong = Failure::Value(id);
        match key.kind {
            Kind::Min(range) => {
                let own = match id {
                    Id::FirstBurstLength => self.offered_first,
                    _ => self.own_number(id, range),
                };
                let agreed = value::number_in(text, range.min, own).ok_or(wrong)?;
                self.agree_number(id, agreed);
            }
            Kind::Max(range) => {
                let own = self.own_number(id, range);
                let agreed = value::number_in(text, own, range.max).ok_or(wrong)?;
                self.agree_number(id, agreed);
            }
            Kind::And(_) => {
                // Only No is ever offered, and then No it is.
                let agreed = value::boolean(text).ok_or(wrong)?;
                if agreed {
                    return Err(wrong);
                }
                self.agree_boolean(id, agreed);
            }
            Kind::Digest => {
                let agreed = self.own_digests(id).choose(text).ok_or(wrong)?;
                self.agree_digest(id, agreed);
            }
            _ => return Err(wrong),
        }
        Ok(())
    }

    /// Writes what this target has to say of its own in the operational stage: what it takes in one PDU, once; and,
    /// if the initiator wants to leave the stage (`leaving`), offers of what it wants otherwise than by default and
    /// the initiator left unsaid.
    ///
    /// # Errors
    /// [`Failure::Full`]
    pub fn volunteer(&mut self, leaving: bool, out: &mut Writer<'_>) -> Result<(), Failure> {
        if !self.declared {
            self.result.max_recv = self.config.declared();
            out.number(Id::MaxRecvDataSegmentLength.name(), self.result.max_recv)?;
            self.declared = true;
        }
        if !leaving {
            return Ok(());
        }
        for key in keys::KEYS {
            let id = key.id;
            if (self.seen | self.offered) & id.bit() != 0 || self.is_irrelevant(key) {
                continue;
            }
            // 13.14: irrelevant.
            let unsolicited = self.result.immediate_data || !self.result.initial_r2t;
            if id == Id::FirstBurstLength && !unsolicited {
                continue;
            }
            match key.kind {
                Kind::Min(range) if self.own_number(id, range) < range.default => {
                    let own = self.own_number(id, range);
                    out.number(key.name, own)?;
                    if id == Id::FirstBurstLength {
                        self.offered_first = own;
                    }
                }
                Kind::Max(range) if self.own_number(id, range) > range.default => {
                    out.number(key.name, self.own_number(id, range))?;
                }
                // The defaults are Yes: with Or, nothing that this target says would change that.
                Kind::And(true) if !self.own_boolean(id) => out.boolean(key.name, false)?,
                // None holds if nobody says anything.
                Kind::Digest if self.own_digests(id) == Digests::Crc32c => {
                    out.pair(key.name, Digests::Crc32c.text().as_bytes())?;
                }
                _ => continue,
            }
            self.offered |= id.bit();
            self.fresh = true;
        }
        Ok(())
    }

    /// Whether the initiator still has to answer an offer.
    #[must_use]
    pub const fn awaits_answers(&self) -> bool {
        let open = self.offered & !self.answered != 0;
        open && (self.fresh || !self.config.keys_workaround)
    }

    /// Whether full feature phase may begin: not without a digest that the portal group insists on, which an initiator
    /// that leaves the operational stage out has not heard of.
    ///
    /// # Errors
    /// Why the login fails.
    pub fn check(&self) -> Result<(), Failure> {
        for (id, on) in [
            (Id::HeaderDigest, self.result.header_digest),
            (Id::DataDigest, self.result.data_digest),
        ] {
            if self
                .own_digests(id)
                .choose(digest::name(on).as_bytes())
                .is_none()
            {
                return Err(Failure::Value(id));
            }
        }
        Ok(())
    }

    /// What is agreed on.
    #[must_use]
    pub fn result(&self) -> Parameters {
        let mut result = self.result;
        result.max_xmit = self.peer_recv.min(self.config.max_xmit.max(512));
        // 13.14: it must not be above; an initiator that lets it be, or does not answer, is held to the smaller one.
        result.first_burst = result.first_burst.min(result.max_burst);
        result
    }
}

/// The answer to a key that is not in the table: 6.2.
///
/// # Errors
/// [`Failure::Full`]
pub fn not_understood(pair: &Pair<'_>, out: &mut Writer<'_>) -> Result<(), Failure> {
    // An answer is not answered, lest two sides that do not understand each other go on forever.
    if keys::is_answer(pair.value) {
        return Ok(());
    }
    Ok(out.pair_bytes(pair.key, b"NotUnderstood")?)
}

/// Tells texts apart, FNV-1a: whoever makes two with the same sum repeats a text that is not the same, and gains nothing by it.
fn checksum(text: &[u8]) -> u64 {
    text.iter().fold(0xcbf2_9ce4_8422_2325, |sum: u64, &byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
