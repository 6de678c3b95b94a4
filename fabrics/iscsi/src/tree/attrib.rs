// SPDX-License-Identifier: GPL-2.0

//! `attrib/` of portal groups and of ACLs.

use crate::{acl::Acl, group::Group, params::Methods, redirect::Redirect};
use iscsi_proto::networks::Networks;
use kernel::{prelude::*, sync::Mutex};
use lio_configfs::{attributes, Page, Value};

// A file that has one value until what it chooses is implemented; that value can be written.
fn fixed(value: &Value<'_>, is: u32, allowed: core::ops::RangeInclusive<u32>, why: &str) -> Result {
    if value.u32_in(allowed)? == is {
        return Ok(());
    }
    Err(value.reject(EOPNOTSUPP, fmt!("{why}")))
}

const PI: &str = "protection information is the logical unit's, and not made by the fabric";
const ORDER: &str = "data is always transferred in order";

macro_rules! show {
    ($field:ident) => {
        |x, page| writeln!(page, "{}", x.attrib.$field.get())
    };
}

macro_rules! flag {
    ($field:ident) => {
        |x, value| {
            x.attrib.$field.set(value.u32_in(0..=1)?);
            Ok(())
        }
    };
}

macro_rules! number {
    ($field:ident, $range:expr) => {
        |x, value| {
            x.attrib.$field.set(value.u32_in($range)?);
            Ok(())
        }
    };
}

macro_rules! level {
    () => {
        |x, value| {
            x.attrib.default_erl.set(recovery_level(value)?.into());
            Ok(())
        }
    };
}

attributes! {
    /// Files of a portal group's `attrib/`.
    pub(super) static GROUP: Group = {
        rw "authentication" => show!(authentication), store_group_authentication;
        rw "login_timeout" => show!(login_timeout), number!(login_timeout, 5..=30);
        rw "generate_node_acls" => show!(generate_node_acls), store_generate;
        rw "default_cmdsn_depth" => show!(default_cmdsn_depth), number!(default_cmdsn_depth, 1..=512);
        rw "cache_dynamic_acls" => show!(cache_dynamic_acls), store_cache;
        rw "demo_mode_write_protect" => show!(demo_mode_write_protect), flag!(demo_mode_write_protect);
        rw "prod_mode_write_protect" => show!(prod_mode_write_protect), flag!(prod_mode_write_protect);
        rw "demo_mode_discovery" => show!(demo_mode_discovery), flag!(demo_mode_discovery);
        rw "default_erl" => show!(default_erl), level!();
        rw "t10_pi" => show!(t10_pi), store_t10_pi;
        rw "fabric_prot_type" => |_, page| writeln!(page, "0"), |_, value| fixed(value, 0, 0..=3, PI);
        rw "tpg_enabled_sendtargets" => show!(tpg_enabled_sendtargets), flag!(tpg_enabled_sendtargets);
        rw "login_keys_workaround" => show!(login_keys_workaround), flag!(login_keys_workaround);
        rw "login_redirect" => |g, page| show_redirect(&g.redirect, page), store_group_redirect;
    }

    /// Files that only ours have: how TCP treats sessions that begin from now on, how many there may be, and from where.
    pub(super) static GROUP_OWN: Group = {
        rw "dscp" => show!(dscp), number!(dscp, 0..=63);
        rw "tcp_keepalive_time" => show!(tcp_keepalive_time), number!(tcp_keepalive_time, 0..=32767);
        rw "tcp_keepalive_intvl" => show!(tcp_keepalive_intvl), number!(tcp_keepalive_intvl, 0..=32767);
        rw "tcp_keepalive_probes" => show!(tcp_keepalive_probes), number!(tcp_keepalive_probes, 0..=127);
        rw "tcp_user_timeout" => show!(tcp_user_timeout), number!(tcp_user_timeout, 0..=86_400_000);
        rw "max_sessions" => show!(max_sessions), number!(max_sessions, 0..=1_000_000);
        rw "max_sessions_per_initiator" => show!(max_sessions_per_initiator), number!(max_sessions_per_initiator, 1..=4096);
        rw "allowed_addresses" => |g, page| show_networks(&g.networks, page), |g, value| store_networks(&g.networks, value);
    }

    /// The same of asynchronous messages. configfs waits for sessions that are asked to log out, so that their time has a bound.
    pub(super) static GROUP_ASYNC: Group = {
        rw "async_logout" => show!(async_logout), number!(async_logout, 0..=60);
        rw "async_negotiation" => show!(async_negotiation), number!(async_negotiation, 0..=3600);
        rw "async_scsi" => show!(async_scsi), flag!(async_scsi);
    }

    /// A file of an ACL's `attrib/` that only ours have.
    pub(super) static ACL_OWN: Acl = {
        rw "allowed_addresses" => |a, page| show_networks(&a.networks, page), |a, value| store_networks(&a.networks, value);
    }

    /// Files of an ACL's `attrib/`.
    pub(super) static ACL: Acl = {
        rw "dataout_timeout" => show!(dataout_timeout), number!(dataout_timeout, 2..=60);
        rw "dataout_timeout_retries" => show!(dataout_timeout_retries), number!(dataout_timeout_retries, 1..=15);
        rw "default_erl" => show!(default_erl), level!();
        rw "nopin_timeout" => show!(nopin_timeout), store_nopin_timeout;
        rw "nopin_response_timeout" => show!(nopin_response_timeout), number!(nopin_response_timeout, 3..=60);
        rw "random_datain_pdu_offsets" => |_, page| writeln!(page, "0"), |_, value| fixed(value, 0, 0..=1, ORDER);
        rw "random_datain_seq_offsets" => |_, page| writeln!(page, "0"), |_, value| fixed(value, 0, 0..=1, ORDER);
        rw "random_r2t_offsets" => |_, page| writeln!(page, "0"), |_, value| fixed(value, 0, 0..=1, ORDER);
        rw "authentication" => show_authentication, store_authentication;
        rw "login_redirect" => |a, page| show_redirect(&a.redirect, page), store_acl_redirect;
    }
}

/// An ErrorRecoveryLevel that is written.
pub(super) fn recovery_level(value: &Value<'_>) -> Result<u8> {
    Ok(u8::try_from(value.u32_in(0..=2)?).unwrap_or(0))
}

fn show_networks(networks: &Mutex<Networks>, page: &mut Page<'_>) -> Result {
    writeln!(page, "{}", *networks.lock())
}

// For logins from now on: sessions that are there stay.
fn store_networks(networks: &Mutex<Networks>, value: &Value<'_>) -> Result {
    let new = Networks::parse(value.str()?)
        .map_err(|wrong| value.reject(EINVAL, fmt!("{}", wrong.why())))?;
    *networks.lock() = new;
    Ok(())
}

// AuthMethod follows, as with the stock module.
fn store_group_authentication(group: &Group, value: &Value<'_>) -> Result {
    let on = value.u32_in(0..=1)?;
    let mut params = group.params.lock();
    group.attrib.authentication.set(on);
    params.methods = if on == 1 { Methods::CHAP } else { Methods::ANY };
    Ok(())
}

// Demo mode implies that what it made is kept, as in the stock module.
fn store_generate(group: &Group, value: &Value<'_>) -> Result {
    let on = value.u32_in(0..=1)?;
    group.attrib.generate_node_acls.set(on);
    if on == 1 {
        set_cache(group, 1);
    }
    Ok(())
}

fn store_cache(group: &Group, value: &Value<'_>) -> Result {
    let on = value.u32_in(0..=1)?;
    if on == 0 && group.attrib.generate_node_acls.is_on() {
        // The stock module takes it, and saved configurations have it.
        pr_warn!(
            "{}/attrib: generate_node_acls=1 implies cache_dynamic_acls=1: 0 has no effect\n",
            group.core.path()
        );
        return Ok(());
    }
    set_cache(group, on);
    Ok(())
}

// Of the stock modules, only iSER has protection information, where this is set. Over TCP it is in the data (SBC-4 4.21).
fn store_t10_pi(group: &Group, value: &Value<'_>) -> Result {
    let on = value.u32_in(0..=1)?;
    if on == 1 {
        pr_info!(
            "{}/attrib: over TCP, protection information is transferred as each command asks: t10_pi has no effect\n",
            group.core.path()
        );
    }
    group.attrib.t10_pi.set(on);
    Ok(())
}

fn set_cache(group: &Group, on: u32) {
    group.attrib.cache_dynamic_acls.set(on);
    group.core.keep_generated(on == 1);
}

fn store_nopin_timeout(acl: &Acl, value: &Value<'_>) -> Result {
    let n = value.u32_in(0..=60)?;
    if matches!(n, 1..=2) {
        return Err(value.reject(EINVAL, fmt!("0 or a number from 3 to 60 is wanted")));
    }
    acl.attrib.nopin_timeout.set(n);
    Ok(())
}

fn show_authentication(acl: &Acl, page: &mut Page<'_>) -> Result {
    writeln!(page, "{}", acl.attrib.authentication())
}

fn store_authentication(acl: &Acl, value: &Value<'_>) -> Result {
    let n = value.i32()?;
    if !(-1..=1).contains(&n) {
        return Err(value.reject(EINVAL, fmt!("-1, 0 or 1 is wanted")));
    }
    acl.attrib.set_authentication(n);
    Ok(())
}

fn show_redirect(redirect: &Redirect, page: &mut Page<'_>) -> Result {
    redirect.show(|address, how| {
        page.put(address);
        page.put(how.as_bytes());
        page.put(b"\n");
    });
    Ok(())
}

fn store_group_redirect(group: &Group, value: &Value<'_>) -> Result {
    if store_redirect(&group.redirect, value)? {
        group.moved(|_| true);
    }
    Ok(())
}

fn store_acl_redirect(acl: &Acl, value: &Value<'_>) -> Result {
    if store_redirect(&acl.redirect, value)? {
        acl.group
            .moved(|s| s.acl().is_some_and(|a| core::ptr::eq(&**a, acl)));
    }
    Ok(())
}

// Whether logins are sent elsewhere now.
fn store_redirect(redirect: &Redirect, value: &Value<'_>) -> Result<bool> {
    let text = value.str()?;
    let text = if text == "NULL" { "" } else { text };
    redirect.set(text).map_err(|e| {
        value.reject(
            e,
            fmt!("HOST[:PORT] or HOST[:PORT],permanent is wanted, or NULL"),
        )
    })?;
    Ok(!text.is_empty())
}
