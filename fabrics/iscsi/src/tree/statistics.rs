// SPDX-License-Identifier: GPL-2.0

//! `fabric_statistics/` of targets and of ACLs: the iSCSI MIB (RFC 4544).

use super::root::VERSION;
use crate::{acl::Acl, session::Shared, target::Target};
use kernel::prelude::*;
use lio_configfs::{attributes, Page};

/// The index of a target's one node.
const NODE: u32 = 1;

fn or_none(name: &crate::name::Name) -> &str {
    if name.is_empty() {
        "None"
    } else {
        name.str()
    }
}

macro_rules! count {
    ($field:ident) => {
        |t, page| writeln!(page, "{}", t.stats.$field.get())
    };
}

attributes! {
    /// Files of `iscsi_instance/`.
    pub(super) static INSTANCE: Target = {
        ro "inst" => |t, page| writeln!(page, "{}", t.index);
        ro "min_ver" => |_, page| writeln!(page, "0");
        ro "max_ver" => |_, page| writeln!(page, "0");
        ro "portals" => |t, page| writeln!(page, "{}", t.portal_count());
        ro "nodes" => |_, page| writeln!(page, "1");
        ro "sessions" => |t, page| writeln!(page, "{}", t.session_count());
        ro "fail_sess" => |t, page| writeln!(page, "{}", t.stats.failed_sessions());
        ro "fail_type" => |t, page| writeln!(page, "{}", t.stats.last_session.lock().kind);
        ro "fail_rem_name" => |t, page| writeln!(page, "{}", or_none(&t.stats.last_session.lock().initiator));
        ro "disc_time" => |_, page| writeln!(page, "0");
        ro "description" => |_, page| writeln!(page, "Storage Engine Target");
        ro "vendor" => |_, page| writeln!(page, "Datera, Inc. iSCSI-Target");
        ro "version" => |_, page| writeln!(page, "{VERSION}");
    }

    /// Files of `iscsi_sess_err/`.
    pub(super) static SESSION_ERRORS: Target = {
        ro "inst" => |t, page| writeln!(page, "{}", t.index);
        ro "digest_errors" => count!(digest_errors);
        ro "cxn_errors" => count!(timeout_errors);
        ro "format_errors" => count!(format_errors);
    }

    /// Files of `iscsi_tgt_attr/`.
    pub(super) static TARGET: Target = {
        ro "inst" => |t, page| writeln!(page, "{}", t.index);
        ro "indx" => |_, page| writeln!(page, "{NODE}");
        ro "login_fails" => |t, page| writeln!(page, "{}", t.stats.failed_logins());
        ro "last_fail_time" => |t, page| writeln!(page, "{}", t.stats.last_login.lock().time);
        ro "last_fail_type" => |t, page| writeln!(page, "{}", t.stats.last_login.lock().kind);
        ro "fail_intr_name" => |t, page| writeln!(page, "{}", or_none(&t.stats.last_login.lock().initiator));
        ro "fail_intr_addr_type" => show_address_type;
        ro "fail_intr_addr" => show_address;
    }

    /// Files of `iscsi_login_stats/`.
    pub(super) static LOGIN: Target = {
        ro "inst" => |t, page| writeln!(page, "{}", t.index);
        ro "indx" => |_, page| writeln!(page, "{NODE}");
        ro "accepts" => count!(accepts);
        ro "other_fails" => count!(other_fails);
        ro "redirects" => count!(redirects);
        ro "authorize_fails" => count!(authorize_fails);
        ro "authenticate_fails" => count!(authenticate_fails);
        ro "negotiate_fails" => count!(negotiate_fails);
    }

    /// Files of `iscsi_logout_stats/`.
    pub(super) static LOGOUT: Target = {
        ro "inst" => |t, page| writeln!(page, "{}", t.index);
        ro "indx" => |_, page| writeln!(page, "{NODE}");
        ro "normal_logouts" => count!(normal_logouts);
        ro "abnormal_logouts" => count!(abnormal_logouts);
    }

    /// Files of an ACL's `iscsi_sess_stats/`; without a session they are empty but for the first.
    pub(super) static SESSION: Acl = {
        ro "inst" => |acl, page| writeln!(page, "{}", acl.group.target.index);
        ro "node" => |acl, page| of_session(acl, page, |_| NODE.into());
        ro "indx" => |acl, page| of_session(acl, page, |s| s.number.into());
        ro "cmd_pdus" => |acl, page| of_session(acl, page, |s| s.cmd_pdus.get());
        ro "rsp_pdus" => |acl, page| of_session(acl, page, |s| s.totals().rsp_pdus);
        ro "txdata_octs" => |acl, page| of_session(acl, page, |s| s.totals().tx_octets);
        ro "rxdata_octs" => |acl, page| of_session(acl, page, |s| s.totals().rx_octets);
        ro "conn_digest_errors" => |acl, page| of_session(acl, page, |s| s.digest_errors.get());
        ro "conn_timeout_errors" => |acl, page| of_session(acl, page, |s| s.timeouts.get());
    }
}

fn of_session(acl: &Acl, page: &mut Page<'_>, value: fn(&Shared) -> u64) -> Result {
    match acl.session() {
        Some(session) => writeln!(page, "{}", value(&session)),
        None => Ok(()),
    }
}

fn show_address_type(target: &Target, page: &mut Page<'_>) -> Result {
    let six = target
        .stats
        .last_login
        .lock()
        .address
        .is_some_and(|a| a.is_v6());
    writeln!(page, "{}", if six { "ipv6" } else { "ipv4" })
}

fn show_address(target: &Target, page: &mut Page<'_>) -> Result {
    let mut text = [0; 64];
    let n = match &target.stats.last_login.lock().address {
        Some(a) => a.print(false, &mut text),
        None => 0,
    };
    page.put(text.get(..n).unwrap_or_default());
    page.put(b"\n");
    Ok(())
}
