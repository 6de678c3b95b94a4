// SPDX-License-Identifier: GPL-2.0

//! `auth/` of portal groups and ACLs, and `discovery_auth/`.

use crate::{
    acl::Acl,
    auth::{Credentials, Which, SECRET_MIN, TEXT_MAX},
    group::Group,
    target::Global,
};
use kernel::prelude::*;
use lio_configfs::{attributes, Page, Value};
use lio_glue::crypto::Secret;

/// What has names and secrets.
trait Holder {
    fn credentials(&self) -> &Credentials;
}

impl Holder for Group {
    fn credentials(&self) -> &Credentials {
        &self.credentials
    }
}

impl Holder for Acl {
    fn credentials(&self) -> &Credentials {
        &self.credentials
    }
}

impl Holder for Global {
    fn credentials(&self) -> &Credentials {
        &self.discovery
    }
}

fn show(holder: &impl Holder, which: Which, page: &mut Page<'_>) -> Result {
    holder.credentials().with(which, |text| page.put(text));
    writeln!(page)
}

// "NULL" and nothing unset, as with the stock modules, which keep a newline as a part of the text. What a secret is no
// message says.
fn store(holder: &impl Holder, which: Which, value: &Value<'_>) -> Result {
    let text = match value.line()? {
        "NULL" => "",
        text => text,
    };
    let blank = !text.is_empty() && text.trim().is_empty();
    if blank || text.len() > TEXT_MAX || text.chars().any(char::is_control) {
        return Err(value.reject(
            EINVAL,
            fmt!("a name or secret has at most {TEXT_MAX} bytes, more than white space, and no control characters"),
        ));
    }
    let secret = matches!(which, Which::Password | Which::PasswordMutual);
    let credentials = holder.credentials();
    credentials.set(which, Secret::copy(text.as_bytes())?);
    if secret && (1..SECRET_MIN).contains(&text.len()) {
        value.warn(fmt!(
            "the secret has less than {SECRET_MIN} bytes (RFC 7143, 9.2.1), which is too easily found out"
        ));
    }
    if secret && credentials.are_the_same() {
        value.warn(fmt!(
            "initiator and target have the same secret, which RFC 7143, 9.2.1, forbids"
        ));
    }
    Ok(())
}

fn show_authenticate_target(holder: &impl Holder, page: &mut Page<'_>) -> Result {
    writeln!(page, "{}", u32::from(holder.credentials().know_target()))
}

macro_rules! text {
    (show $which:ident) => {
        |x, page| show(x, Which::$which, page)
    };
    (store $which:ident) => {
        |x, value| store(x, Which::$which, value)
    };
}

// The same files of each holder, and what else one has.
macro_rules! files {
    ($(#[$doc:meta])* $name:ident: $holder:ty { $($more:tt)* }) => {
        attributes! {
            $(#[$doc])*
            pub(super) static $name: $holder = {
                rw "userid" => text!(show UserId), text!(store UserId);
                rw "password" => text!(show Password), text!(store Password);
                rw "userid_mutual" => text!(show UserIdMutual), text!(store UserIdMutual);
                rw "password_mutual" => text!(show PasswordMutual), text!(store PasswordMutual);
                ro "authenticate_target" => show_authenticate_target;
                $($more)*
            }
        }
    };
}

files! {
    /// Files of a portal group's `auth/`: for initiators without an ACL.
    GROUP: Group {}
}
files! {
    /// Files of an ACL's `auth/`.
    ACL: Acl {}
}
files! {
    /// Files of `discovery_auth/`.
    DISCOVERY: Global {
        rw "enforce_discovery_auth" => |global, page| writeln!(page, "{}", global.enforce_discovery_auth.get()),
            |global, value| {
                global.enforce_discovery_auth.set(value.u32_in(0..=1)?);
                Ok(())
            };
    }
}
