// SPDX-License-Identifier: GPL-2.0

//! Text in full feature phase: RFC 7143, 11.10, 11.11 and Appendix C (SendTargets).
//!
//! A connection has one [`Exchange`]. The driver keeps a buffer of [`TEXT_MAX`] bytes for the request (as in a login,
//! text that goes on is received behind what is there), and the whole reply until it is sent, which may be long:
//! [`Exchange::reply`] cuts it into pieces that the initiator takes.

use core::net::SocketAddr;

use crate::error::{Error, RejectReason};
use crate::keys::{self, Id, Kind, Often, Phase};
use crate::login::SessionType;
use crate::negotiate;
use crate::pdu::{Numbers, TextFlags, TextRequest, TextResponse};
use crate::text::{self, Full, Kept, Writer, TEXT_MAX, VALUE_MAX};
use crate::value;
use crate::wire::{DataLen, Itt, Lun, Ttt};

/// The index in the transfer tags of text: no command may have it.
pub const TEXT_INDEX: u16 = 0xfffe;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No sequence.
    Idle,
    /// The initiator sends the rest of its text, or more text.
    Taking { held: usize },
    /// The text is with the driver, which calls [`Exchange::reply`].
    Thinking,
    /// The initiator asks for the rest of the reply: what is sent of how much.
    Replying { sent: usize, total: usize },
}

/// What the driver does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Step {
    /// The text is complete: work it off with [`answer`], write the reply, call [`Exchange::reply`].
    Complete,
    /// Send this without text; the initiator goes on.
    More(TextResponse),
    /// Send this with the `data_len` bytes of the reply that begin at `offset`.
    Send {
        /// What is sent.
        pdu: TextResponse,
        /// Where in the reply.
        offset: usize,
    },
}

/// What the initiator has declared. In a sequence it is gathered, and holds when that ends well (6.2, 6.4, 7.12).
#[derive(Clone, Copy, Debug)]
pub struct Declared {
    /// Keys that it said.
    seen: u64,
    /// MaxRecvDataSegmentLength: what it takes in one PDU, in bytes.
    pub peer_recv: Option<u32>,
    alias: Option<Kept<VALUE_MAX>>,
}

impl Declared {
    const NOTHING: Self = Declared {
        seen: 0,
        peer_recv: None,
        alias: None,
    };

    /// InitiatorAlias: UTF-8 without control characters, or empty.
    #[must_use]
    pub fn initiator_alias(&self) -> Option<&[u8]> {
        self.alias.as_ref().map(Kept::get)
    }
}

/// The text negotiation of a connection; one sequence at a time.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    declared: Declared,
    /// The same with what the text says that is being answered.
    next: Declared,
    /// The sequence has ended well.
    agreed: bool,
    state: State,
    request: Option<TextRequest>,
    round: u32,
    ttt: Ttt,
}

impl Default for Exchange {
    fn default() -> Self {
        Exchange {
            declared: Declared::NOTHING,
            next: Declared::NOTHING,
            agreed: false,
            state: State::Idle,
            request: None,
            round: 0,
            ttt: Ttt::NONE,
        }
    }
}

impl Exchange {
    /// Where in the driver's buffer the text of this request goes: what is there of its sequence, or 0 if it begins
    /// a new one.
    ///
    /// # Errors
    /// The text is longer than [`TEXT_MAX`] in all.
    pub fn held(&self, request: &TextRequest) -> Result<usize, Error> {
        let held = match self.state {
            State::Taking { held } if request.ttt != Ttt::NONE => held,
            _ => 0,
        };
        let len = usize::try_from(request.data_len.bytes()).unwrap_or(usize::MAX);
        if held.saturating_add(len) > TEXT_MAX {
            return Err(Error::reject(
                RejectReason::ProtocolError,
                "6.1: more text than the target takes",
            ));
        }
        Ok(held)
    }

    /// Takes a request whose text has been received at [`Exchange::held`]. `max` is what the initiator takes in one
    /// PDU; `sn` gives the numbers of the response, and is called only if there is one.
    ///
    /// # Errors
    /// The Reject.
    pub fn request(
        &mut self,
        request: &TextRequest,
        max: u32,
        sn: impl FnOnce() -> Numbers,
    ) -> Result<Step, Error> {
        let held = self.held(request)?;
        if request.ttt == Ttt::NONE {
            // 11.10.4: a request without a tag begins anew, whatever was before.
            self.state = State::Taking { held: 0 };
            self.declared = Declared::NOTHING;
        } else {
            let same = self.request.is_some_and(|r| r.itt == request.itt);
            if self.state == State::Idle || request.ttt != self.ttt || !same {
                return Err(Error::reject(
                    RejectReason::InvalidPduField,
                    "11.10.4: not the transfer tag of the sequence",
                ));
            }
        }
        let len = usize::try_from(request.data_len.bytes()).unwrap_or(TEXT_MAX);
        self.request = Some(*request);
        match self.state {
            State::Replying { .. } if len == 0 && !request.flags.more() => {
                Ok(self.piece(max, sn()))
            }
            State::Taking { .. } if request.flags.more() => {
                let held = held.saturating_add(len);
                self.state = State::Taking { held };
                Ok(Step::More(self.response(TextFlags::default(), 0, sn())))
            }
            State::Taking { .. } => {
                self.state = State::Thinking;
                Ok(Step::Complete)
            }
            _ => {
                self.reset();
                Err(Error::reject(
                    RejectReason::ProtocolError,
                    "11.10: text while the reply goes out",
                ))
            }
        }
    }

    /// Answers a complete text: works off the keys, of which none may have been said before in the sequence, and writes what can be
    /// answered here to `out`. The driver appends what SendTargets asks for, see [`target_name`] and [`target_address`]. It may
    /// call this again for the same text, with more room.
    ///
    /// # Errors
    /// The negotiation fails: the Reject.
    pub fn answer<'a>(
        &mut self,
        session_type: SessionType,
        text: &'a [u8],
        out: &mut Writer<'_>,
    ) -> Result<Option<SendTargets<'a>>, Error> {
        let mut next = self.declared;
        let asked = answer(session_type, &mut next, text, out)?;
        self.next = next;
        Ok(asked)
    }

    /// What was declared in a sequence that has ended, once: after each [`Step::Send`].
    pub fn agreed(&mut self) -> Option<Declared> {
        let declared = core::mem::replace(&mut self.declared, Declared::NOTHING);
        if core::mem::take(&mut self.agreed) {
            return Some(declared);
        }
        self.declared = declared;
        None
    }

    /// Begins to send the reply, `total` bytes, after [`Step::Complete`], in pieces of at most `max` bytes, which is
    /// what the initiator takes in one PDU.
    pub fn reply(&mut self, total: usize, max: u32, sn: Numbers) -> Step {
        self.state = State::Replying { sent: 0, total };
        self.declared = core::mem::replace(&mut self.next, Declared::NOTHING);
        self.piece(max, sn)
    }

    fn piece(&mut self, max: u32, sn: Numbers) -> Step {
        let (sent, total) = match self.state {
            State::Replying { sent, total } => (sent, total),
            _ => (0, 0),
        };
        let max = usize::try_from(max).unwrap_or(usize::MAX).max(1);
        let len = total.saturating_sub(sent).min(max);
        let end = sent.saturating_add(len);
        let more = end < total;
        // 11.11.1: F only in answer to F.
        let last = !more && self.request.is_some_and(|r| r.flags.last());
        let flags = TextFlags::default().with_more(more).with_last(last);
        let pdu = self.response(flags, len, sn);
        self.state = if more {
            State::Replying { sent: end, total }
        } else if last {
            self.agreed = true;
            State::Idle
        } else {
            State::Taking { held: 0 }
        };
        Step::Send { pdu, offset: sent }
    }

    fn response(&mut self, flags: TextFlags, len: usize, sn: Numbers) -> TextResponse {
        self.ttt = if flags.last() {
            Ttt::NONE
        } else {
            self.round = self.round.wrapping_add(1);
            Ttt::new(TEXT_INDEX, self.round)
        };
        TextResponse {
            flags,
            data_len: DataLen::at_most(len),
            lun: Lun::default(),
            itt: self.request.map_or(Itt::NONE, |r| r.itt),
            ttt: self.ttt,
            sn,
        }
    }

    /// Forgets the sequence: after a Reject.
    pub fn reset(&mut self) {
        self.state = State::Idle;
        self.ttt = Ttt::NONE;
        self.declared = Declared::NOTHING;
    }
}

/// Which targets SendTargets asks for: Appendix C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendTargets<'a> {
    /// All that the initiator may see; only in a discovery session.
    All,
    /// The target of this session; only in a normal session.
    Own,
    /// The one with this name; in a normal session only the session's own.
    Named(&'a [u8]),
}

fn answer<'a>(
    session_type: SessionType,
    declared: &mut Declared,
    text: &'a [u8],
    out: &mut Writer<'_>,
) -> Result<Option<SendTargets<'a>>, Error> {
    const fn failed(clause: &'static str) -> Error {
        Error::reject(RejectReason::ProtocolError, clause)
    }
    let mut asked = None;
    for pair in text::pairs(text) {
        let pair = pair.map_err(|error| failed(error.clause()))?;
        let Some(key) = keys::find(pair.key) else {
            if !is_extension(pair.key) && !keys::is_answer(pair.value) {
                return Err(failed("13: neither a key of the standard nor an extension"));
            }
            negotiate::not_understood(&pair, out).map_err(|error| failed(error.clause()))?;
            continue;
        };
        if !key.may_come(Phase::FullFeature) {
            return Err(failed("13: a key by the wrong side or at the wrong time"));
        }
        if declared.seen & key.id.bit() != 0 && key.often != Often::Any {
            return Err(failed("6.4: a key twice"));
        }
        declared.seen |= key.id.bit();
        match key.kind {
            Kind::Text(form) if !form.admits(pair.value) => {
                return Err(failed("6.2: a value that the key cannot have"));
            }
            Kind::Declared(range) => {
                let value = value::number_in(pair.value, range.min, range.max);
                declared.peer_recv = Some(value.ok_or(failed("13.12: out of range"))?);
            }
            _ => (),
        }
        match key.id {
            Id::SendTargets => {
                asked = Some(match (pair.value, session_type) {
                    (b"All", SessionType::Discovery) => SendTargets::All,
                    // The RFC has no All here; libiscsi asks for it, and the stock target answers.
                    (b"" | b"All", SessionType::Normal) => SendTargets::Own,
                    (b"", SessionType::Discovery) => {
                        return Err(failed("appendix C: neither All nor a name"));
                    }
                    (name, _) => SendTargets::Named(name),
                });
            }
            Id::InitiatorAlias => {
                let mut alias = Kept::EMPTY;
                // It has room: its form is one of 255 bytes.
                alias.set(pair.value);
                declared.alias = Some(alias);
            }
            _ => (),
        }
    }
    Ok(asked)
}

// Extensions are told by their names, which others than the standard may choose: 13.26. What is neither is a slip of
// the initiator's; the stock target rejects it too, and libiscsi tests that.
fn is_extension(key: &[u8]) -> bool {
    matches!(key, [b'X' | b'Y' | b'Z', b'-' | b'#', ..])
}

/// Writes what the target declares in a negotiation that it has asked for: what it takes in one PDU (13.12), and its alias
/// (13.7), which may be empty.
///
/// # Errors
/// No room.
pub fn declare(out: &mut Writer<'_>, max_recv: u32, alias: &[u8]) -> Result<(), Full> {
    out.number(Id::MaxRecvDataSegmentLength.name(), max_recv)?;
    out.pair(Id::TargetAlias.name(), alias)
}

/// Writes the record of a target: its name.
///
/// # Errors
/// No room; then nothing of it is written.
pub fn target_name(out: &mut Writer<'_>, name: &[u8]) -> Result<(), Full> {
    out.pair(Id::TargetName.name(), name)
}

/// The address under which an initiator finds `portal` that has come to `local`: `None` if there is none that this target knows.
///
/// A portal on all addresses is found where the initiator has been found; one of all addresses of IPv4 is found at none of IPv6. An
/// address of one link means nothing on others (RFC 4007, 6), and one of this machine alone nothing elsewhere.
#[must_use]
pub fn seen_from(portal: SocketAddr, local: SocketAddr) -> Option<SocketAddr> {
    let ip = portal.ip();
    if ip.is_unspecified() {
        return (ip.is_ipv6() || local.is_ipv4())
            .then(|| SocketAddr::new(local.ip(), portal.port()));
    }
    let reached = match (portal, local) {
        (SocketAddr::V6(own), SocketAddr::V6(local)) if own.ip().is_unicast_link_local() => {
            local.ip().is_unicast_link_local() && own.scope_id() == local.scope_id()
        }
        (SocketAddr::V6(own), _) if own.ip().is_unicast_link_local() => false,
        _ => !ip.is_loopback() || local.ip().is_loopback(),
    };
    reached.then_some(portal)
}

/// Writes one address of the target whose name was written last: `address:port,tag`, the address of IPv6 in brackets.
///
/// # Errors
/// No room; then nothing of it is written.
pub fn target_address(out: &mut Writer<'_>, portal: SocketAddr, tag: u16) -> Result<(), Full> {
    let (ip, port) = (portal.ip(), portal.port());
    // Without the scope of a link-local address, which means nothing to others.
    if ip.is_ipv6() {
        out.pair_fmt(
            Id::TargetAddress.name(),
            format_args!("[{ip}]:{port},{tag}"),
        )
    } else {
        out.pair_fmt(Id::TargetAddress.name(), format_args!("{ip}:{port},{tag}"))
    }
}
