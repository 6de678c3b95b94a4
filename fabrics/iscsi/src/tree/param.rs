// SPDX-License-Identifier: GPL-2.0

//! `param/`: what a portal group offers (RFC 7143, 13), and what an ACL's session has agreed on.

use super::attrib::recovery_level;
use crate::{
    acl::Acl,
    group::Group,
    params::{Methods, MAX_CONNECTIONS},
};
use iscsi_proto::{digest::Digests, negotiate::Parameters};
use kernel::{prelude::*, str::CString};
use lio_configfs::{attributes, Page, Value};

fn yes_no(on: bool) -> &'static str {
    if on {
        "Yes"
    } else {
        "No"
    }
}

fn parse_yes_no(value: &Value<'_>) -> Result<bool> {
    match value.str()? {
        "Yes" => Ok(true),
        "No" => Ok(false),
        _ => Err(value.reject(EINVAL, fmt!("Yes or No is wanted"))),
    }
}

fn parse_digests(value: &Value<'_>) -> Result<Digests> {
    let text = value.str()?;
    let known = Digests::ALL.into_iter().find(|d| d.text() == text);
    known.ok_or_else(|| {
        value.reject(
            EINVAL,
            fmt!("CRC32C, None, or both with a comma are wanted"),
        )
    })
}

// A key that has one value until what it chooses is implemented: those of `same` mean this value, or leave the
// choice to us.
fn fixed(value: &Value<'_>, same: &[&str], why: &str) -> Result {
    let text = value.str()?;
    if same.contains(&text) {
        return Ok(());
    }
    Err(value.reject(EOPNOTSUPP, fmt!("{why}")))
}

const MARKERS: &str = "markers are obsolete (RFC 7143, 13.25)";
const IN_ORDER: &str = "data is always transferred in order";

macro_rules! boolean {
    (show $field:ident) => {
        |g, page| writeln!(page, "{}", yes_no(g.params.lock().config.$field))
    };
    (store $field:ident) => {
        |g, value| {
            let on = parse_yes_no(value)?;
            g.params.lock().config.$field = on;
            Ok(())
        }
    };
}

macro_rules! number {
    (show $field:ident) => {
        |g, page| writeln!(page, "{}", g.params.lock().config.$field)
    };
    (store $field:ident, $type:ty, $range:expr) => {
        |g, value| {
            let n = <$type>::try_from(value.u32_in($range)?).map_err(|_| ERANGE)?;
            g.params.lock().config.$field = n;
            Ok(())
        }
    };
}

macro_rules! digest {
    (show $field:ident) => {
        |g, page| writeln!(page, "{}", g.params.lock().config.$field.text())
    };
    (store $field:ident) => {
        |g, value| {
            let digests = parse_digests(value)?;
            g.params.lock().config.$field = digests;
            Ok(())
        }
    };
}

/// The length of a data segment or burst.
const LENGTH: core::ops::RangeInclusive<u32> = 512..=16_777_215;

attributes! {
    /// Files of a portal group's `param/`.
    pub(super) static GROUP: Group = {
        rw "AuthMethod" => |g, page| writeln!(page, "{}", g.params.lock().methods.text), store_auth;
        rw "HeaderDigest" => digest!(show header_digest), digest!(store header_digest);
        rw "DataDigest" => digest!(show data_digest), digest!(store data_digest);
        rw "MaxConnections" => number!(show max_connections), number!(store max_connections, u16, 1..=MAX_CONNECTIONS);
        rw "TargetAlias" => show_alias, |g, value| renegotiated(g, || store_alias(g, value));
        rw "InitialR2T" => boolean!(show initial_r2t), boolean!(store initial_r2t);
        rw "ImmediateData" => boolean!(show immediate_data), boolean!(store immediate_data);
        rw "MaxRecvDataSegmentLength" => number!(show max_recv), |g, value| renegotiated(g, || store_max_recv(g, value));
        rw "MaxXmitDataSegmentLength" => number!(show max_xmit), number!(store max_xmit, u32, LENGTH);
        rw "MaxBurstLength" => number!(show max_burst), number!(store max_burst, u32, LENGTH);
        rw "FirstBurstLength" => number!(show first_burst), number!(store first_burst, u32, LENGTH);
        rw "DefaultTime2Wait" => number!(show time2wait), number!(store time2wait, u16, 0..=3600);
        rw "DefaultTime2Retain" => number!(show time2retain), number!(store time2retain, u16, 0..=3600);
        rw "MaxOutstandingR2T" => number!(show max_outstanding_r2t), number!(store max_outstanding_r2t, u16, 1..=65535);
        rw "DataPDUInOrder" => |_, page| writeln!(page, "Yes"), |_, value| fixed(value, &["Yes"], IN_ORDER);
        rw "DataSequenceInOrder" => |_, page| writeln!(page, "Yes"), |_, value| fixed(value, &["Yes"], IN_ORDER);
        rw "ErrorRecoveryLevel" => number!(show recovery_level), store_level;
        rw "IFMarker" => |_, page| writeln!(page, "No"), |_, value| fixed(value, &["No"], MARKERS);
        rw "OFMarker" => |_, page| writeln!(page, "No"), |_, value| fixed(value, &["No"], MARKERS);
        rw "IFMarkInt" => |_, page| writeln!(page, "Reject"), |_, value| fixed(value, &["Reject"], MARKERS);
        rw "OFMarkInt" => |_, page| writeln!(page, "Reject"), |_, value| fixed(value, &["Reject"], MARKERS);
    }

    /// Files of an ACL's `param/`: those of its session.
    pub(super) static ACL: Acl = {
        ro "MaxConnections" => |acl, page| agreed(acl, page, |p| p.max_connections.into());
        ro "InitialR2T" => |acl, page| agreed(acl, page, |p| p.initial_r2t.into());
        ro "ImmediateData" => |acl, page| agreed(acl, page, |p| p.immediate_data.into());
        ro "MaxBurstLength" => |acl, page| agreed(acl, page, |p| p.max_burst);
        ro "FirstBurstLength" => |acl, page| agreed(acl, page, |p| p.first_burst);
        ro "DefaultTime2Wait" => |acl, page| agreed(acl, page, |p| p.time2wait.into());
        ro "DefaultTime2Retain" => |acl, page| agreed(acl, page, |p| p.time2retain.into());
        ro "MaxOutstandingR2T" => |acl, page| agreed(acl, page, |p| p.max_outstanding_r2t.into());
        ro "DataPDUInOrder" => |acl, page| agreed(acl, page, |_| 1);
        ro "DataSequenceInOrder" => |acl, page| agreed(acl, page, |_| 1);
        ro "ErrorRecoveryLevel" => |acl, page| agreed(acl, page, |p| p.recovery_level.into());
    }
}

fn agreed(acl: &Acl, page: &mut Page<'_>, value: fn(&Parameters) -> u32) -> Result {
    match acl.session() {
        Some(session) => writeln!(page, "{}", value(&session.parameters)),
        None => writeln!(page, "No Active iSCSI Session"),
    }
}

// What may be negotiated at any time (13.7, 13.12): sessions are asked to, if it has changed.
fn renegotiated(group: &Group, store: impl FnOnce() -> Result<bool>) -> Result {
    if store()? {
        group.renegotiate();
    }
    Ok(())
}

fn store_max_recv(group: &Group, value: &Value<'_>) -> Result<bool> {
    let length = value.u32_in(LENGTH)?;
    let mut params = group.params.lock();
    let before = params.config.declared();
    params.config.max_recv = length;
    Ok(params.config.declared() != before)
}

fn store_level(group: &Group, value: &Value<'_>) -> Result {
    let level = recovery_level(value)?;
    group.params.lock().config.recovery_level = level;
    Ok(())
}

fn store_auth(group: &Group, value: &Value<'_>) -> Result {
    let text = value.str()?;
    let methods = Methods::ALL.into_iter().find(|m| m.text == text);
    let Some(methods) = methods else {
        return Err(value.reject(EINVAL, fmt!("CHAP, None, or both with a comma are wanted")));
    };
    group.params.lock().methods = methods;
    Ok(())
}

fn show_alias(group: &Group, page: &mut Page<'_>) -> Result {
    page.put(group.params.lock().alias.to_bytes());
    page.put(b"\n");
    Ok(())
}

fn store_alias(group: &Group, value: &Value<'_>) -> Result<bool> {
    let text = value.str()?;
    if text.len() > 255 || text.chars().any(char::is_control) {
        return Err(value.reject(
            EINVAL,
            fmt!("an alias has at most 255 bytes and no control characters"),
        ));
    }
    let alias = CString::try_from_fmt(fmt!("{text}"))?;
    let mut params = group.params.lock();
    let changes = params.alias.to_bytes() != alias.to_bytes();
    params.alias = alias;
    Ok(changes)
}
