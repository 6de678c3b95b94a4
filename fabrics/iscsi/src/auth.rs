// SPDX-License-Identifier: GPL-2.0

//! Names and secrets for CHAP (RFC 7143, 12.1.3): `auth/` and `discovery_auth/`.

use iscsi_proto::login::chap::{Algorithm, Algorithms, Challenge, Proof, RESPONSE_MAX};
use kernel::{
    prelude::*,
    str::CStr,
    sync::{new_mutex, Mutex},
};
use lio_glue::crypto::{equal, has_hash, hash, random, Secret};

/// Bytes of the longest name or secret, as with the stock modules.
pub(crate) const TEXT_MAX: usize = 254;
/// Bytes that a secret has at least: RFC 7143, 9.2.1. The stock modules take shorter ones.
pub(crate) const SECRET_MIN: usize = 12;

/// Which text of [`Credentials`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// The initiator's name.
    UserId,
    /// Its secret.
    Password,
    /// The target's own name.
    UserIdMutual,
    /// The target's own secret.
    PasswordMutual,
}

#[derive(Default)]
struct Texts {
    initiator: Pair,
    target: Pair,
}

#[derive(Default)]
struct Pair {
    name: Secret,
    secret: Secret,
}

impl Pair {
    fn is_set(&self) -> bool {
        !self.name.get().is_empty() && !self.secret.get().is_empty()
    }
}

/// What initiators prove themselves by, and the target to them.
#[pin_data]
pub(crate) struct Credentials {
    #[pin]
    texts: Mutex<Texts>,
}

/// The target's own proof.
pub(crate) struct Own {
    pub(crate) name: Secret,
    pub(crate) response: [u8; RESPONSE_MAX],
    pub(crate) len: usize,
}

const fn name_of(algorithm: Algorithm) -> &'static CStr {
    match algorithm {
        Algorithm::Md5 => c"md5",
        Algorithm::Sha1 => c"sha1",
        Algorithm::Sha256 => c"sha256",
        Algorithm::Sha3_256 => c"sha3-256",
    }
}

/// What this kernel has of them.
pub(crate) fn algorithms() -> Algorithms {
    Algorithm::ALL
        .into_iter()
        .filter(|&algorithm| has_hash(name_of(algorithm)))
        .fold(Algorithms::NONE, Algorithms::with)
}

/// A new one.
pub(crate) fn challenge() -> Challenge {
    let mut challenge = Challenge::default();
    random(core::slice::from_mut(&mut challenge.identifier));
    random(&mut challenge.bytes);
    challenge
}

fn response<'a>(
    algorithm: Algorithm,
    identifier: u8,
    secret: &Secret,
    challenge: &[u8],
    out: &'a mut [u8; RESPONSE_MAX],
) -> Result<&'a [u8]> {
    let out = out.get_mut(..algorithm.digest_len()).ok_or(EINVAL)?;
    // RFC 1994, 4.1.
    hash(
        name_of(algorithm),
        [&[identifier], secret.get(), challenge],
        out,
    )?;
    Ok(out)
}

impl Credentials {
    /// None.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Credentials {
            texts <- new_mutex!(Texts::default(), "iscsi::Credentials::texts"),
        })
    }

    /// Shows a text to `f`.
    pub(crate) fn with<R>(&self, which: Which, f: impl FnOnce(&[u8]) -> R) -> R {
        f(Self::of(&mut self.texts.lock(), which).get())
    }

    /// Sets a text, of at most [`TEXT_MAX`] bytes; an empty one is none.
    pub(crate) fn set(&self, which: Which, text: Secret) {
        let old = core::mem::replace(Self::of(&mut self.texts.lock(), which), text);
        drop(old);
    }

    fn of(texts: &mut Texts, which: Which) -> &mut Secret {
        match which {
            Which::UserId => &mut texts.initiator.name,
            Which::Password => &mut texts.initiator.secret,
            Which::UserIdMutual => &mut texts.target.name,
            Which::PasswordMutual => &mut texts.target.secret,
        }
    }

    /// Whether an initiator can prove itself.
    pub(crate) fn know_initiator(&self) -> bool {
        self.texts.lock().initiator.is_set()
    }

    /// Whether the target can.
    pub(crate) fn know_target(&self) -> bool {
        self.texts.lock().target.is_set()
    }

    /// Whether both sides have the same secret, so that one's answers are good for the other (RFC 7143, 9.2.1).
    pub(crate) fn are_the_same(&self) -> bool {
        let texts = self.texts.lock();
        texts.target.is_set() && equal(texts.initiator.secret.get(), texts.target.secret.get())
    }

    /// Whether the proof is right; `Some(None)`: it is, and the target has none to give. It is wrong where both sides
    /// are to prove themselves by the same secret.
    ///
    /// # Errors
    /// `ENOMEM`, `ENOENT`.
    pub(crate) fn check(&self, proof: &Proof<'_>) -> Result<Option<Option<Own>>> {
        let texts = self.texts.lock();
        let Pair { name, secret } = &texts.initiator;
        let mut right = [0; RESPONSE_MAX];
        let wanted = response(
            proof.algorithm,
            proof.identifier,
            secret,
            proof.challenge,
            &mut right,
        )?;
        // All of it in each case: a wrong name takes as long as a wrong secret.
        let same = equal(wanted, proof.response);
        if !(equal(name.get(), proof.name) & same & texts.initiator.is_set()) {
            return Ok(None);
        }
        let Some((identifier, challenge)) = proof.theirs.filter(|_| texts.target.is_set()) else {
            return Ok(Some(None));
        };
        // 9.2.1: what it has shown is what this target would have said itself.
        if equal(secret.get(), texts.target.secret.get()) {
            return Ok(None);
        }
        let mut own = Own {
            name: Secret::copy(texts.target.name.get())?,
            response: [0; RESPONSE_MAX],
            len: proof.algorithm.digest_len(),
        };
        response(
            proof.algorithm,
            identifier,
            &texts.target.secret,
            challenge,
            &mut own.response,
        )?;
        Ok(Some(Some(own)))
    }
}
