// SPDX-License-Identifier: GPL-2.0

//! `tpgt_N/sessions`: all sessions of a portal group, those too that have no ACL. Each line is a JSON object, a connection:
//! what is the session's (`session` to `initiator`, `exp_cmd_sn`, `cmd_pdus`, `timeouts`, `digest_errors`...) is the same in all of its lines.
//!
//! A configfs file of its own kind, a binary attribute, since others end after 4096 bytes; it is here, and not in debugfs, as
//! tools look for a group's sessions where the group is, and may rely on what they find. Keys may be added, and none is taken
//! away.

use crate::{connection::Connection, group::Group, session::State};
use core::fmt::{self, Write};
use iscsi_proto::json::Quoted;
use kernel::{prelude::*, sync::atomic::Relaxed};
use lio_configfs::{attributes, Lines};
use lio_glue::{socket::Address, thread::now_ms};

attributes! {
    pub(super) static GROUP: Group = {
        list "sessions" => list;
    }
}

fn list(group: &Group, lines: &mut Lines<'_>) -> Result {
    let mut done = Ok(());
    group.each_session(|s| {
        s.each(|c| {
            if done.is_ok() && !lines.is_full() {
                done = lines.line(|out| connection(group, c, out));
            }
        });
    });
    done
}

fn address(out: &mut dyn Write, key: &str, address: &Address) -> fmt::Result {
    let mut text = [0; 64];
    let n = address.print(true, &mut text);
    let text = core::str::from_utf8(text.get(..n).unwrap_or_default()).unwrap_or("?");
    write!(out, ",\"{key}\":{}", Quoted(text))
}

fn connection(group: &Group, c: &Connection, out: &mut dyn Write) -> fmt::Result {
    let s = &c.session;
    let state = match s.state() {
        State::LoggedIn if c.is_here() => "logged_in",
        State::LoggedIn if c.is_retained() => "lost",
        State::LoggedIn | State::Ending => "ending",
    };
    write!(
        out,
        "{{\"session\":{},\"target\":{}",
        s.number,
        Quoted(group.target.name.str())
    )?;
    write!(
        out,
        ",\"tpgt\":{},\"initiator\":{}",
        group.tag,
        Quoted(s.initiator.str())
    )?;
    write!(
        out,
        ",\"alias\":{},\"isid\":\"",
        Quoted(s.alias.lock().str())
    )?;
    for byte in s.isid {
        write!(out, "{byte:02x}")?;
    }
    write!(
        out,
        "\",\"tsih\":{},\"cid\":{},\"state\":\"{state}\"",
        s.tsih, c.cid
    )?;
    write!(out, ",\"dynamic\":{}", s.acl().is_none())?;
    address(out, "peer", &c.peer)?;
    address(out, "local", &c.local)?;
    let seconds = now_ms().saturating_sub(c.since) / 1000;
    write!(out, ",\"seconds\":{seconds},\"depth\":{}", s.depth)?;
    write!(
        out,
        ",\"exp_cmd_sn\":{},\"max_cmd_sn\":{},\"stat_sn\":{}",
        s.exp_cmd_sn.load(Relaxed),
        s.max_cmd_sn.load(Relaxed),
        c.stat_sn.load(Relaxed)
    )?;
    write!(
        out,
        ",\"cmd_pdus\":{},\"rsp_pdus\":{},\"tx_octets\":{},\"rx_octets\":{},\"timeouts\":{},\"digest_errors\":{}",
        s.cmd_pdus.get(),
        c.rsp_pdus.get(),
        c.tx_octets.get(),
        c.rx_octets.get(),
        s.timeouts.get(),
        s.digest_errors.get()
    )?;
    let p = &c.parameters;
    write!(
        out,
        ",\"InitialR2T\":{},\"ImmediateData\":{},\"MaxRecvDataSegmentLength\":{},\"MaxXmitDataSegmentLength\":{}",
        p.initial_r2t,
        p.immediate_data,
        c.max_recv.load(Relaxed),
        c.max_xmit.load(Relaxed)
    )?;
    write!(
        out,
        ",\"MaxBurstLength\":{},\"FirstBurstLength\":{},\"MaxOutstandingR2T\":{}",
        p.max_burst, p.first_burst, p.max_outstanding_r2t
    )?;
    write!(
        out,
        ",\"DefaultTime2Wait\":{},\"DefaultTime2Retain\":{},\"ErrorRecoveryLevel\":{},\"MaxConnections\":{}",
        p.time2wait, p.time2retain, p.recovery_level, p.max_connections
    )?;
    write!(
        out,
        ",\"HeaderDigest\":{},\"DataDigest\":{}}}",
        p.header_digest, p.data_digest
    )
}
