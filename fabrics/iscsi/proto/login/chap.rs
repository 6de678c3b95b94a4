// SPDX-License-Identifier: GPL-2.0

//! CHAP in the security stage: RFC 7143, 12.1.3, and RFC 1994. What is random, what is secret and the digests are the
//! driver's; here is who says what, and when.

use super::{wrong, Refusal, Status};
use crate::{
    text::{self, Kept, Writer, VALUE_MAX},
    value,
};
use core::fmt;

/// The longest challenge, in bytes: 12.1.3.
pub const CHALLENGE_MAX: usize = 1024;
/// The longest response of the algorithms here, in bytes.
pub const RESPONSE_MAX: usize = 32;

/// A hash function: 12.1.3, and IANA's registry of PPP authentication algorithms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)] // The names are the functions'.
pub enum Algorithm {
    Md5 = 5,
    Sha1 = 6,
    Sha256 = 7,
    Sha3_256 = 8,
}

impl Algorithm {
    /// The strongest first.
    pub const ALL: [Algorithm; 4] = [
        Algorithm::Sha3_256,
        Algorithm::Sha256,
        Algorithm::Sha1,
        Algorithm::Md5,
    ];

    /// How long a response is, in bytes; this target's challenges are as long.
    #[must_use]
    pub const fn digest_len(self) -> usize {
        match self {
            Algorithm::Md5 => 16,
            Algorithm::Sha1 => 20,
            Algorithm::Sha256 | Algorithm::Sha3_256 => 32,
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Algorithm::Md5 => 1,
            Algorithm::Sha1 => 2,
            Algorithm::Sha256 => 4,
            Algorithm::Sha3_256 => 8,
        }
    }
}

/// A set of hash functions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Algorithms(u8);

impl Algorithms {
    /// None of them.
    pub const NONE: Self = Algorithms(0);

    /// This one too.
    #[must_use]
    pub const fn with(self, algorithm: Algorithm) -> Self {
        Algorithms(self.0 | algorithm.bit())
    }

    /// Whether it is one of them.
    #[must_use]
    pub const fn has(self, algorithm: Algorithm) -> bool {
        self.0 & algorithm.bit() != 0
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Whether an initiator has to say who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// It cannot: AuthMethod is None.
    #[default]
    None,
    /// As it likes: of the methods that it names, the first.
    Optional,
    /// It has to.
    Required,
}

/// What the target asks of an initiator: its own for each login, of good random numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Challenge {
    /// CHAP_I
    pub identifier: u8,
    /// CHAP_C is its first [`Algorithm::digest_len`] bytes.
    pub bytes: [u8; RESPONSE_MAX],
}

/// What an initiator proves itself by: for [`super::Step::Prove`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof<'a> {
    /// The hash function of both responses.
    pub algorithm: Algorithm,
    /// The target's CHAP_I.
    pub identifier: u8,
    /// The target's CHAP_C.
    pub challenge: &'a [u8],
    /// CHAP_N
    pub name: &'a [u8],
    /// CHAP_R: the digest of identifier, secret and challenge is wanted; it is as long as that.
    pub response: &'a [u8],
    /// The initiator's CHAP_I and CHAP_C, if the target has to prove itself as well.
    pub theirs: Option<(u8, &'a [u8])>,
}

/// What the driver makes of a [`Proof`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// Name or response are wrong, or there is no name and secret for this initiator.
    Refused,
    /// The initiator is who it says.
    Accepted {
        /// The target's CHAP_N and CHAP_R, if it has a name and a secret for that.
        own: Option<(&'a [u8], &'a [u8])>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// CHAP is not what was agreed on, up to now.
    Off,
    /// AuthMethod=CHAP was answered.
    Agreed,
    /// CHAP_A, CHAP_I and CHAP_C were sent.
    Challenged(Algorithm),
    /// The initiator's proof is right; the rest of its request is being read.
    Proven,
    /// That is answered, too.
    Done,
}

/// The keys of one request, by their places in this table.
const KEYS: [&[u8]; 5] = [b"CHAP_A", b"CHAP_N", b"CHAP_R", b"CHAP_I", b"CHAP_C"];

fn key(name: &[u8]) -> Option<usize> {
    KEYS.iter().position(|key| *key == name)
}

/// CHAP in one login.
#[derive(Clone, Debug)]
pub(super) struct Chap {
    state: State,
    auth: Auth,
    algorithms: Algorithms,
    challenge: Challenge,
    name: Kept<VALUE_MAX>,
    response: Kept<RESPONSE_MAX>,
    their_identifier: Option<u8>,
    their_challenge: Kept<CHALLENGE_MAX>,
}

const fn failure(clause: &'static str) -> Refusal {
    (Status::AuthenticationFailure, clause)
}

impl Chap {
    pub(super) const fn new() -> Self {
        Chap {
            state: State::Off,
            auth: Auth::Required,
            algorithms: Algorithms::NONE,
            challenge: Challenge {
                identifier: 0,
                bytes: [0; RESPONSE_MAX],
            },
            name: Kept::EMPTY,
            response: Kept::EMPTY,
            their_identifier: None,
            their_challenge: Kept::EMPTY,
        }
    }

    pub(super) fn allow(&mut self, auth: Auth, algorithms: Algorithms, challenge: Challenge) {
        self.auth = if algorithms.is_empty() && auth == Auth::Optional {
            Auth::None
        } else {
            auth
        };
        self.algorithms = algorithms;
        self.challenge = challenge;
    }

    /// Answers AuthMethod: the first method of the initiator's list that may be (6.2.1).
    pub(super) fn method(&mut self, list: &[u8]) -> Result<&'static [u8], Refusal> {
        let mut method = value::list(list).filter_map(|method| match (method, self.auth) {
            (b"CHAP", Auth::Optional | Auth::Required) => Some(&b"CHAP"[..]),
            (b"None", Auth::None | Auth::Optional) => Some(&b"None"[..]),
            _ => None,
        });
        match method.next() {
            Some(b"CHAP") => {
                self.state = State::Agreed;
                Ok(b"CHAP")
            }
            Some(none) => Ok(none),
            None => Err(failure("12: no method of authentication that may be used")),
        }
    }

    /// Whether `name` is one of the keys that [`Chap::request`] or [`Chap::proof`] reads, so that none else has to.
    pub(super) fn owns(&self, name: &[u8]) -> bool {
        self.state != State::Off && key(name).is_some()
    }

    /// The next request is the initiator's proof.
    pub(super) fn is_challenged(&self) -> bool {
        matches!(self.state, State::Challenged(_))
    }

    /// Whether the stage may end. Without an exchange it may if none is demanded.
    ///
    /// # Errors
    /// Nothing that comes could make it end any more.
    pub(super) fn may_leave(&self) -> Result<bool, Refusal> {
        match (self.state, self.auth) {
            (State::Off, Auth::Required) => Err(failure(
                "12: the initiator has to say who it is, and wants to go on without",
            )),
            (State::Off | State::Proven | State::Done, _) => Ok(true),
            (State::Agreed | State::Challenged(_), _) => Ok(false),
        }
    }

    /// Takes the keys of a request of the security stage: answers CHAP_A by a challenge.
    pub(super) fn request(&mut self, text: &[u8], out: &mut Writer<'_>) -> Result<(), Refusal> {
        match (self.state, values(text)?) {
            (State::Proven, _) => {
                self.state = State::Done;
                Ok(())
            }
            (State::Off, _) | (_, [None, None, None, None, None]) => Ok(()),
            (State::Agreed, [Some(list), None, None, None, None]) => {
                let offered = value::list(list).filter_map(value::number);
                let offers = |a: Algorithm| offered.clone().any(|n| n == u64::from(a as u8));
                let algorithm = Algorithm::ALL
                    .into_iter()
                    .find(|&a| self.algorithms.has(a) && offers(a))
                    .ok_or(failure(
                        "12.1.3: no algorithm in CHAP_A that the target has",
                    ))?;
                out.number("CHAP_A", (algorithm as u8).into())
                    .and_then(|()| out.number("CHAP_I", self.challenge.identifier.into()))
                    .and_then(|()| {
                        let challenge = self.challenge.bytes.get(..algorithm.digest_len());
                        out.pair_fmt(
                            "CHAP_C",
                            format_args!("{}", Hex(challenge.unwrap_or_default())),
                        )
                    })
                    .map_err(super::Failure::from)?;
                self.state = State::Challenged(algorithm);
                Ok(())
            }
            _ => Err(failure("12.1.3: not what comes next in CHAP")),
        }
    }

    /// Reads the initiator's proof, which [`Chap::shown`] shows then.
    pub(super) fn proof(&mut self, text: &[u8]) -> Result<(), Refusal> {
        let State::Challenged(algorithm) = self.state else {
            return Err((Status::TargetError, "12.1.3: nothing is to be proven"));
        };
        let [None, Some(name), Some(response), identifier, challenge] = values(text)? else {
            return Err(failure("12.1.3: CHAP_N and CHAP_R are wanted"));
        };
        if !self.name.set(name) {
            return Err(failure("12.1.3: CHAP_N is too long"));
        }
        let mut bytes = [0; RESPONSE_MAX];
        match value::binary(response, &mut bytes) {
            Some(len) if len == algorithm.digest_len() => {
                self.response.set(bytes.get(..len).unwrap_or_default());
            }
            _ => return Err(failure("12.1.3: CHAP_R is not as long as it has to be")),
        }
        match (identifier, challenge) {
            (None, None) => Ok(()),
            (Some(identifier), Some(challenge)) => {
                let identifier = value::number_in(identifier, 0, 255)
                    .and_then(|n| u8::try_from(n).ok())
                    .ok_or(failure("12.1.3: CHAP_I is no byte"))?;
                let len = value::binary(challenge, &mut self.their_challenge.bytes)
                    .filter(|&len| len > 0)
                    .ok_or(failure("12.1.3: CHAP_C is malformed or too long"))?;
                self.their_challenge.len = len;
                // 12.1.3: whoever sends back what it was asked wants to have it answered by the one who asked.
                let own = self.challenge.bytes.get(..algorithm.digest_len());
                if own == Some(self.their_challenge.get()) {
                    return Err(failure("12.1.3: the target's own challenge comes back"));
                }
                self.their_identifier = Some(identifier);
                Ok(())
            }
            _ => Err(failure("12.1.3: CHAP_I and CHAP_C go together")),
        }
    }

    /// What [`Chap::proof`] read.
    pub(super) fn shown(&self) -> Option<Proof<'_>> {
        let State::Challenged(algorithm) = self.state else {
            return None;
        };
        Some(Proof {
            algorithm,
            identifier: self.challenge.identifier,
            challenge: self.challenge.bytes.get(..algorithm.digest_len())?,
            name: self.name.get(),
            response: self.response.get(),
            theirs: self
                .their_identifier
                .map(|identifier| (identifier, self.their_challenge.get())),
        })
    }

    /// Takes the driver's verdict, and writes the target's own proof if that is wanted.
    pub(super) fn verdict(
        &mut self,
        verdict: Verdict<'_>,
        out: &mut Writer<'_>,
    ) -> Result<(), Refusal> {
        let Verdict::Accepted { own } = verdict else {
            return Err(failure("12.1.3: wrong name or wrong secret"));
        };
        if self.shown().is_none() {
            return Err((Status::TargetError, "12.1.3: nothing was to be proven"));
        }
        if self.their_identifier.is_some() {
            let (name, response) = own.ok_or(failure(
                "12.1.3: the target is to say who it is, and has no name and secret for that",
            ))?;
            out.pair("CHAP_N", name)
                .and_then(|()| out.pair_fmt("CHAP_R", format_args!("{}", Hex(response))))
                .map_err(super::Failure::from)?;
        }
        self.state = State::Proven;
        Ok(())
    }
}

/// The values of the keys of CHAP in `text`.
fn values(text: &[u8]) -> Result<[Option<&[u8]>; KEYS.len()], Refusal> {
    let mut values = [None; KEYS.len()];
    for pair in text::pairs(text) {
        let pair = pair.map_err(super::Failure::from)?;
        let Some(place) = key(pair.key).and_then(|at| values.get_mut(at)) else {
            continue;
        };
        if place.replace(pair.value).is_some() {
            return Err(wrong("6.1: a key of CHAP comes twice"));
        }
    }
    Ok(values)
}

/// Bytes as text has them: 6.1.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
