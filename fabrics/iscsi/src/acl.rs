// SPDX-License-Identifier: GPL-2.0

//! Access control lists: what holds for one initiator of a portal group.

use crate::{
    auth::Credentials,
    group::{Group, Setting},
    name::Name,
    redirect::Redirect,
    session::Shared,
};
use iscsi_proto::{login::chap::Auth, networks::Networks};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        new_mutex, Arc, Mutex,
    },
};
use target_core::tpg::NodeAcl;

/// What holds where authentication is not demanded: who cannot be known need not say who it is.
pub(crate) fn optional(credentials: &Credentials) -> Auth {
    if credentials.know_initiator() {
        Auth::Optional
    } else {
        Auth::None
    }
}

/// The timers of an initiator's sessions, in seconds, and what they begin with: the files of an ACL's `attrib/`.
pub(crate) struct Attrib {
    /// -1: as the group's.
    authentication: Atomic<i32>,
    /// Offered as ErrorRecoveryLevel, if it is above the group's parameter.
    pub(crate) default_erl: Setting,
    pub(crate) dataout_timeout: Setting,
    pub(crate) dataout_timeout_retries: Setting,
    /// 0: the target sends no pings of its own.
    pub(crate) nopin_timeout: Setting,
    pub(crate) nopin_response_timeout: Setting,
}

impl Attrib {
    pub(crate) const fn new(erl: u32) -> Self {
        Attrib {
            authentication: Atomic::new(-1),
            default_erl: Setting::new(erl),
            dataout_timeout: Setting::new(3),
            dataout_timeout_retries: Setting::new(5),
            nopin_timeout: Setting::new(15),
            nopin_response_timeout: Setting::new(30),
        }
    }

    pub(crate) fn authentication(&self) -> i32 {
        self.authentication.load(Relaxed)
    }

    pub(crate) fn set_authentication(&self, v: i32) {
        self.authentication.store(v, Relaxed);
    }
}

/// An initiator's ACL.
#[pin_data]
pub(crate) struct Acl {
    pub(crate) name: Name,
    pub(crate) group: Arc<Group>,
    pub(crate) core: Arc<NodeAcl>,
    pub(crate) attrib: Attrib,
    /// Where the initiator may come from.
    #[pin]
    pub(crate) networks: Mutex<Networks>,
    #[pin]
    pub(crate) credentials: Credentials,
    /// Before the group's.
    #[pin]
    pub(crate) redirect: Redirect,
}

impl Acl {
    pub(crate) fn new(name: Name, group: &Arc<Group>, core: &Arc<NodeAcl>) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Acl {
                name,
                group: group.clone(),
                core: core.clone(),
                attrib: Attrib::new(group.attrib.default_erl.get()),
                networks <- new_mutex!(Networks::ANY, "iscsi::Acl::networks"),
                credentials <- Credentials::new(),
                redirect <- Redirect::new(),
            }),
            GFP_KERNEL,
        )
    }

    /// The initiator's session, the oldest if it has several (with several ISIDs).
    pub(crate) fn session(&self) -> Option<Arc<Shared>> {
        let mut found = None;
        self.group.each_session(|s| {
            let own = s.acl().is_some_and(|a| core::ptr::eq(&**a, self));
            if own && found.is_none() {
                found = Some(s.clone());
            }
        });
        found
    }

    /// Whether logins of this initiator have to authenticate themselves.
    pub(crate) fn auth(&self) -> Auth {
        match self.attrib.authentication() {
            0 => optional(&self.credentials),
            1 => Auth::Required,
            _ => self.group.auth(&self.credentials),
        }
    }
}
