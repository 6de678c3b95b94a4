// SPDX-License-Identifier: GPL-2.0

//! The files of a portal group's `param/`: what is offered in login negotiation (RFC 7143, 13).

use iscsi_proto::negotiate::Config;
use kernel::{prelude::*, str::CString};

/// AuthMethod: what may be agreed on where an ACL says nothing else.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Methods {
    pub(crate) chap: bool,
    pub(crate) none: bool,
    /// As it was written.
    pub(crate) text: &'static str,
}

impl Methods {
    pub(crate) const CHAP: Self = Self::new("CHAP", true, false);
    pub(crate) const ANY: Self = Self::new("CHAP,None", true, true);
    pub(crate) const ALL: [Self; 4] = [
        Self::CHAP,
        Self::ANY,
        Self::new("None,CHAP", true, true),
        Self::new("None", false, true),
    ];

    const fn new(text: &'static str, chap: bool, none: bool) -> Self {
        Methods { chap, none, text }
    }
}

/// Connections that a session may have, whatever is agreed on.
pub(crate) const MAX_CONNECTIONS: u32 = 32;

/// A portal group's parameters.
pub(crate) struct Params {
    pub(crate) config: Config,
    /// TargetAlias.
    pub(crate) alias: CString,
    pub(crate) methods: Methods,
}

impl Params {
    /// The stock modules' defaults.
    pub(crate) fn new() -> Result<Self> {
        Ok(Params {
            config: Config::default(),
            methods: Methods::CHAP,
            alias: CString::try_from_fmt(fmt!("LIO Target"))?,
        })
    }
}
