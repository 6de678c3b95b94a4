// SPDX-License-Identifier: GPL-2.0

//! What targets and sessions count: the iSCSI MIB, RFC 4544.

use crate::name::Name;
use kernel::{
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        new_mutex, Mutex,
    },
};
use lio_glue::socket::Address;

/// A counter.
pub(crate) struct Count(Atomic<u64>);

impl Count {
    pub(crate) const fn new() -> Self {
        Count(Atomic::new(0))
    }

    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub(crate) fn inc(&self) {
        self.add(1);
    }

    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Why a session failed: the numbers that `iscsi_instance/fail_type` shows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionFailure {
    /// A digest was wrong.
    Digest = 1,
    /// The connection timed out.
    Timeout = 2,
    /// A PDU's format was wrong.
    Format = 3,
}

/// Why a login failed: the numbers that `iscsi_tgt_attr/last_fail_type` shows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoginFailure {
    Other = 2,
    Redirect = 3,
    Authorize = 4,
    Authenticate = 5,
    Negotiate = 6,
}

/// The last session that failed.
pub(crate) struct LastSession {
    pub(crate) kind: u32,
    pub(crate) initiator: Name,
}

/// The last login that failed.
pub(crate) struct LastLogin {
    pub(crate) kind: u32,
    /// Hundredths of a second since boot, as SNMP counts.
    pub(crate) time: u32,
    pub(crate) initiator: Name,
    pub(crate) address: Option<Address>,
}

/// What a target counts.
#[pin_data]
pub(crate) struct TargetStats {
    pub(crate) digest_errors: Count,
    pub(crate) timeout_errors: Count,
    pub(crate) format_errors: Count,
    #[pin]
    pub(crate) last_session: Mutex<LastSession>,
    pub(crate) accepts: Count,
    pub(crate) other_fails: Count,
    pub(crate) redirects: Count,
    pub(crate) authorize_fails: Count,
    pub(crate) authenticate_fails: Count,
    pub(crate) negotiate_fails: Count,
    #[pin]
    pub(crate) last_login: Mutex<LastLogin>,
    pub(crate) normal_logouts: Count,
    pub(crate) abnormal_logouts: Count,
}

impl TargetStats {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(TargetStats {
            digest_errors: Count::new(),
            timeout_errors: Count::new(),
            format_errors: Count::new(),
            last_session <- new_mutex!(
                LastSession { kind: 0, initiator: Name::EMPTY },
                "iscsi::last_session"
            ),
            accepts: Count::new(),
            other_fails: Count::new(),
            redirects: Count::new(),
            authorize_fails: Count::new(),
            authenticate_fails: Count::new(),
            negotiate_fails: Count::new(),
            last_login <- new_mutex!(
                LastLogin { kind: 0, time: 0, initiator: Name::EMPTY, address: None },
                "iscsi::last_login"
            ),
            normal_logouts: Count::new(),
            abnormal_logouts: Count::new(),
        })
    }

    /// A session of `initiator` failed.
    pub(crate) fn session_failed(&self, why: SessionFailure, initiator: &Name) {
        match why {
            SessionFailure::Digest => self.digest_errors.inc(),
            SessionFailure::Timeout => self.timeout_errors.inc(),
            SessionFailure::Format => self.format_errors.inc(),
        }
        let mut last = self.last_session.lock();
        last.kind = why as u32;
        last.initiator = *initiator;
    }

    /// Sessions that failed.
    pub(crate) fn failed_sessions(&self) -> u64 {
        self.digest_errors
            .get()
            .wrapping_add(self.timeout_errors.get())
            .wrapping_add(self.format_errors.get())
    }

    /// A login of `initiator` from `address` failed.
    pub(crate) fn login_failed(
        &self,
        why: LoginFailure,
        initiator: &Name,
        address: Option<Address>,
    ) {
        match why {
            LoginFailure::Other => self.other_fails.inc(),
            LoginFailure::Authorize => self.authorize_fails.inc(),
            LoginFailure::Authenticate => self.authenticate_fails.inc(),
            LoginFailure::Negotiate => self.negotiate_fails.inc(),
            LoginFailure::Redirect => self.redirects.inc(),
        }
        let mut last = self.last_login.lock();
        last.kind = why as u32;
        last.time = (lio_glue::thread::now_ms() / 10) as u32;
        last.initiator = *initiator;
        last.address = address;
    }

    /// Logins that failed.
    pub(crate) fn failed_logins(&self) -> u64 {
        self.other_fails
            .get()
            .wrapping_add(self.redirects.get())
            .wrapping_add(self.authorize_fails.get())
            .wrapping_add(self.authenticate_fails.get())
            .wrapping_add(self.negotiate_fails.get())
    }
}
