// SPDX-License-Identifier: GPL-2.0

//! NOP-Out, task management and logout (RFC 7143, 11.5, 11.14, 11.18).

use super::{
    ffp::Ffp,
    receive::{Data, To},
};
use crate::session::Managed;
use iscsi_proto::{
    ffp::{self, missing_task, Function, TmfAnswer},
    pdu::{Head, LogoutRequest, LogoutResponse, NopIn, NopOut, TmfRequest},
    wire::{Bhs, DataLen, Itt, Lun, Ttt},
};
use kernel::prelude::*;
use lio_glue::buffer::Buffer;
use lio_scsi::task::{self, Response, Tag};

/// The longest ping data that is sent back, whatever the initiator takes.
pub(super) const MAX_PING: u32 = 65_536;

fn function(f: Function, pdu: &TmfRequest) -> Option<task::Function> {
    Some(match f {
        Function::AbortTask => task::Function::AbortTask(Tag(pdu.referenced_itt.0.into())),
        Function::AbortTaskSet => task::Function::AbortTaskSet,
        Function::ClearTaskSet => task::Function::ClearTaskSet,
        Function::LogicalUnitReset => task::Function::LogicalUnitReset,
        Function::TargetWarmReset => task::Function::TargetWarmReset,
        Function::TargetColdReset => task::Function::TargetColdReset,
        Function::ClearAca | Function::TaskReassign => return None,
    })
}

impl Ffp {
    pub(super) fn nop_out(&mut self, bhs: &Bhs, head: &Head, pdu: &NopOut) -> Result<Data> {
        let nop = ffp::nop_out(pdu);
        if let Some(ttt) = nop.pong {
            self.timers.answered(ttt);
        }
        if !self.numbered(bhs, head, pdu.cmd_sn, pdu.exp_stat_sn)? || nop.ping.is_none() {
            return Ok(Data::nothing(head));
        }
        let keep = pdu
            .data_len
            .bytes()
            .min(self.parameters.max_xmit)
            .min(MAX_PING) as usize;
        let buffer = Buffer::alloc(keep, false)?;
        Ok(Data::new(
            To::Ping(pdu.itt, !head.immediate, buffer),
            head,
            0,
            keep,
        ))
    }

    /// The data of a ping is there: it goes back.
    pub(super) fn answer_ping(&mut self, itt: Itt, numbered: bool, data: Buffer) -> Result {
        if numbered {
            self.window.release();
        }
        let mut bhs = [0; 48];
        NopIn {
            data_len: DataLen::at_most(data.len()),
            lun: Lun::default(),
            itt,
            ttt: Ttt::NONE,
            sn: self.window.numbers(&mut self.stat),
        }
        .emit(&mut bhs);
        if data.is_empty() {
            return self.respond(&bhs, &[]);
        }
        self.respond_buffer(&bhs, data)
    }

    pub(super) fn manage(&mut self, bhs: &Bhs, head: &Head, pdu: &TmfRequest) -> Result<Data> {
        let nothing = Data::nothing(head);
        if !self.numbered(bhs, head, pdu.cmd_sn, pdu.exp_stat_sn)? {
            return Ok(nothing);
        }
        let numbered = !head.immediate;
        if let (Some(f), 1..) = (Function::of(pdu), self.parameters.recovery_level) {
            self.plug(f, pdu)?;
        }
        match self.begin_managing(pdu, numbered) {
            Ok(()) => {}
            Err(answer) => {
                if numbered {
                    self.window.release();
                }
                self.answer_management(pdu.itt, answer as u8)?;
            }
        }
        Ok(nothing)
    }

    // Begins a function, which ends in the background; or says at once what it is answered with.
    fn begin_managing(&mut self, pdu: &TmfRequest, numbered: bool) -> Result<(), TmfAnswer> {
        let Some(f) = Function::of(pdu) else {
            return Err(TmfAnswer::NotSupported);
        };
        let Some(wanted) = function(f, pdu) else {
            return Err(match f {
                Function::TaskReassign => TmfAnswer::ReassignNotSupported,
                _ => TmfAnswer::NotSupported,
            });
        };
        let Some(session) = &self.session else {
            return Err(TmfAnswer::Rejected);
        };
        // 11.5.1: functions are not aborted.
        if f == Function::AbortTask
            && (pdu.referenced_itt == pdu.itt || self.managing.has(pdu.referenced_itt))
        {
            return Err(TmfAnswer::Rejected);
        }
        let missing = missing_task(pdu, &self.window);
        if f == Function::AbortTask
            && missing == TmfAnswer::Complete
            && self.parameters.recovery_level == 0
        {
            // 7.11: the command never came, and counts as received. Above level 0, `Ffp::plug` has seen to that.
            self.window.plug(pdu.ref_cmd_sn);
            return Err(missing);
        }
        if !self.managing.begin(pdu.itt) {
            return Err(TmfAnswer::Rejected);
        }
        let shared = session.private().clone();
        let Itt(itt) = pdu.itt;
        session
            .spawn_manage(wanted, pdu.lun.0, move |response| {
                let answer = match response {
                    Response::Complete | Response::Succeeded => TmfAnswer::Complete,
                    Response::NoSuchTask => missing,
                    Response::NoSuchLun => TmfAnswer::NoLun,
                    Response::NotSupported => TmfAnswer::NotSupported,
                    Response::Rejected => TmfAnswer::Rejected,
                };
                shared.managed(Managed {
                    itt,
                    answer: answer as u8,
                    numbered,
                    ends_sessions: f == Function::TargetColdReset && answer == TmfAnswer::Complete,
                });
            })
            .map_err(|_| {
                self.managing.end(pdu.itt);
                TmfAnswer::Rejected
            })
    }

    pub(super) fn logout(&mut self, bhs: &Bhs, head: &Head, pdu: &LogoutRequest) -> Result<Data> {
        let nothing = Data::nothing(head);
        if !self.numbered(bhs, head, pdu.cmd_sn, pdu.exp_stat_sn)? {
            return Ok(nothing);
        }
        if !head.immediate {
            self.window.release();
        }
        let logout = ffp::logout(pdu, self.cid);
        let mut bhs = [0; 48];
        LogoutResponse {
            response: logout.response,
            itt: pdu.itt,
            sn: self.window.numbers(&mut self.stat),
            time2wait: self.parameters.time2wait,
            time2retain: 0,
        }
        .emit(&mut bhs);
        self.respond(&bhs, &[])?;
        if logout.close {
            if let Some(session) = &self.session {
                session.private().group.target.stats.normal_logouts.inc();
            }
            self.closing = true;
        }
        Ok(nothing)
    }
}
