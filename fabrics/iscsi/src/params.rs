// SPDX-License-Identifier: GPL-2.0

//! The files of a portal group's `param/`: what is offered in login negotiation (RFC 7143, 13).

use iscsi_proto::negotiate::Config;
use kernel::{prelude::*, str::CString};

/// A portal group's parameters.
pub(crate) struct Params {
    pub(crate) config: Config,
    /// TargetAlias.
    pub(crate) alias: CString,
}

impl Params {
    /// The stock modules' defaults.
    pub(crate) fn new() -> Result<Self> {
        Ok(Params {
            config: Config::default(),
            alias: CString::try_from_fmt(fmt!("LIO Target"))?,
        })
    }
}
