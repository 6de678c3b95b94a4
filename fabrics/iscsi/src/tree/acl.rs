// SPDX-License-Identifier: GPL-2.0

//! Files of `acls/IQN` itself.

use crate::{
    acl::Acl,
    connection::Connection,
    session::{Shared, State, Stop},
};
use kernel::{prelude::*, sync::atomic::Relaxed};
use lio_configfs::{attributes, Page, Value};

attributes! {
    pub(super) static BASE: Acl = {
        ro "info" => show_info;
        rw "cmdsn_depth" => |acl, page| writeln!(page, "{}", acl.core.depth()), store_depth;
    }
}

fn show_info(acl: &Acl, page: &mut Page<'_>) -> Result {
    match acl.session() {
        Some(session) => session_info(&session, page),
        None => writeln!(
            page,
            "No active iSCSI Session for Initiator Endpoint: {}",
            acl.name.str()
        ),
    }
}

// Tools parse these lines: they are those of the stock module.
fn session_info(s: &Shared, page: &mut Page<'_>) -> Result {
    let state = match s.state() {
        State::LoggedIn => "TARG_SESS_STATE_LOGGED_IN",
        State::Ending => "TARG_SESS_STATE_FAILED",
    };
    writeln!(page, "InitiatorName: {}", s.initiator.str())?;
    writeln!(page, "InitiatorAlias: {}", s.alias.lock().str())?;
    write!(page, "LIO Session ID: {}   ISID: 0x", s.number)?;
    for (i, byte) in s.isid.iter().enumerate() {
        let space = if i == 0 { "" } else { " " };
        write!(page, "{space}{byte:02x}")?;
    }
    writeln!(page, "  TSIH: {}  SessionType: Normal", s.tsih)?;
    writeln!(page, "Session State: {state}")?;
    writeln!(
        page,
        "---------------------[iSCSI Session Values]-----------------------"
    )?;
    writeln!(
        page,
        "  CmdSN/WR  :  CmdSN/WC  :  ExpCmdSN  :  MaxCmdSN  :     ITT    :     TTT"
    )?;
    let (exp, max) = (s.exp_cmd_sn.load(Relaxed), s.max_cmd_sn.load(Relaxed));
    let open = max.wrapping_sub(exp).wrapping_add(1);
    writeln!(
        page,
        " 0x{:08x}   0x{:08x}   0x{:08x}   0x{:08x}   0x{:08x}   0x{:08x}",
        s.depth, open, exp, max, 0, 0
    )?;
    writeln!(
        page,
        "----------------------[iSCSI Connections]-------------------------"
    )?;
    let mut r = Ok(());
    s.each(|c| r = r.and_then(|()| connection_info(c, page)));
    r
}

fn connection_info(c: &Connection, page: &mut Page<'_>) -> Result {
    let state = match c.is_here() {
        true => "TARG_CONN_STATE_LOGGED_IN",
        false => "TARG_CONN_STATE_CLEANUP_WAIT",
    };
    writeln!(page, "CID: {}  Connection State: {state}", c.cid)?;
    let mut text = [0; 64];
    let n = c.peer.print(false, &mut text);
    write!(page, "   Address ")?;
    page.put(text.get(..n).unwrap_or_default());
    writeln!(page, " TCP  StatSN: 0x{:08x}", c.stat_sn.load(Relaxed))
}

// Sessions take it when they begin: those that are there begin again.
fn store_depth(acl: &Acl, value: &Value<'_>) -> Result {
    let depth = value.u32_in(1..=512)?;
    if depth != acl.core.depth() {
        acl.core.set_depth(depth);
        acl.group.tell_sessions(Stop::AclChanged, |s| {
            s.acl().is_some_and(|a| core::ptr::eq(&**a, acl))
        });
    }
    Ok(())
}
