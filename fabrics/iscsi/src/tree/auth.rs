// SPDX-License-Identifier: GPL-2.0

//! `auth/`: there is no authentication yet, so that nothing but "unset" can be written here.

use crate::{acl::Acl, group::Group};
use kernel::prelude::*;
use lio_configfs::{attributes, Page, Value};

pub(super) const REASON: &str = "CHAP is not implemented yet";

/// What is not set reads as an empty line.
pub(super) fn show(page: &mut Page<'_>) -> Result {
    writeln!(page)
}

/// Only "NULL" and nothing, which unset, are taken.
pub(super) fn store(value: &Value<'_>) -> Result {
    match value.str()? {
        "" | "NULL" => Ok(()),
        _ => Err(value.reject(EOPNOTSUPP, fmt!("{REASON}"))),
    }
}

attributes! {
    /// Files of a portal group's `auth/`.
    pub(super) static GROUP: Group = {
        rw "userid" => |_, page| show(page), |_, value| store(value);
        rw "password" => |_, page| show(page), |_, value| store(value);
        rw "userid_mutual" => |_, page| show(page), |_, value| store(value);
        rw "password_mutual" => |_, page| show(page), |_, value| store(value);
        ro "authenticate_target" => |_, page| writeln!(page, "0");
    }

    /// Files of an ACL's `auth/`.
    pub(super) static ACL: Acl = {
        rw "userid" => |_, page| show(page), |_, value| store(value);
        rw "password" => |_, page| show(page), |_, value| store(value);
        rw "userid_mutual" => |_, page| show(page), |_, value| store(value);
        rw "password_mutual" => |_, page| show(page), |_, value| store(value);
        ro "authenticate_target" => |_, page| writeln!(page, "0");
    }
}
