// SPDX-License-Identifier: GPL-2.0

//! Task management (RFC 7143, 11.5, 11.6), and its order with what goes over other connections of the session (4.2.3.3).

use super::{ffp::Ffp, receive::Data, window::Window};
use crate::{
    connection::{Connection, Managed},
    order::{Raised, Ticket},
    session::event,
};
use iscsi_proto::{
    ffp::{missing_task, Function, Managing, TmfAnswer},
    pdu::{Head, TmfRequest, TmfResponse},
    sn::StatSn,
    wire::{Bhs, Itt},
};
use kernel::prelude::*;
use lio_scsi::task::{self, Response, Tag};

/// How often the acknowledgement of responses is asked for, for each function that waits for it.
const SOLICITED: u8 = 2;

/// The functions of a connection, and what it is asked for by those of others.
pub(super) struct Tasks {
    // At work, or waiting.
    managing: Managing,
    // They wait for commands before them.
    waiting: KVec<(TmfRequest, bool)>,
    // They wait for what was answered before them on other connections.
    fenced: KVec<(Managed, Raised)>,
    // They were answered, and others wait until all before a number is acknowledged.
    answered: KVec<(StatSn, Raised)>,
    // What others wait for: that the initiator has all responses before a number. Nothing is answered meanwhile.
    tickets: KVec<(StatSn, Ticket)>,
    solicit: u8,
}

enum Begun {
    AtWork,
    Waits,
}

impl Tasks {
    pub(super) fn new() -> Self {
        Tasks {
            managing: Managing::default(),
            waiting: KVec::new(),
            fenced: KVec::new(),
            answered: KVec::new(),
            tickets: KVec::new(),
            solicit: 0,
        }
    }

    /// Whether a function with this tag is at work.
    pub(super) fn has(&self, itt: Itt) -> bool {
        self.managing.has(itt)
    }

    /// Whether a function's end is to be looked for.
    pub(super) fn is_busy(&self) -> bool {
        !self.managing.is_empty()
    }

    /// Whether answers wait for that of another connection.
    pub(super) fn is_fenced(&self) -> bool {
        !self.tickets.is_empty()
    }

    /// The connection ends. Returns how many functions are at work still.
    pub(super) fn clear(&mut self, own: &Connection) -> usize {
        if let Some(order) = &own.session.order {
            let waiting = self.waiting.iter().filter(|(_, numbered)| *numbered);
            let fenced = self.fenced.iter().filter(|(done, _)| done.numbered);
            let numbered = waiting.count().saturating_add(fenced.count());
            order.with(|o| (0..numbered).for_each(|_| o.release()));
        }
        let at_rest = self.waiting.len().saturating_add(self.fenced.len());
        let at_work = self.managing.count().saturating_sub(at_rest);
        self.fenced.clear();
        self.answered.clear();
        self.tickets.clear();
        drop(own.take_fences());
        if let Some(order) = &own.session.order {
            self.waiting.iter().for_each(|_| order.unwatch());
        }
        self.waiting.clear();
        at_work
    }
}

fn function(f: Function, pdu: &TmfRequest, own: &Connection) -> Option<task::Function> {
    let tag = || Tag(own.session.tag(pdu.referenced_itt.0, own));
    Some(match f {
        Function::AbortTask => task::Function::AbortTask(tag()),
        Function::AbortTaskSet => task::Function::AbortTaskSet,
        Function::ClearTaskSet => task::Function::ClearTaskSet,
        Function::LogicalUnitReset => task::Function::LogicalUnitReset,
        Function::TargetWarmReset => task::Function::TargetWarmReset,
        Function::TargetColdReset => task::Function::TargetColdReset,
        Function::ClearAca | Function::TaskReassign => return None,
    })
}

impl Ffp {
    pub(super) fn manage(&mut self, bhs: &Bhs, head: &Head, pdu: &TmfRequest) -> Result<Data> {
        let nothing = Data::nothing(head);
        if !self.numbered(bhs, head, pdu.cmd_sn, pdu.exp_stat_sn)? {
            return Ok(nothing);
        }
        let f = Function::of(pdu);
        if f == Some(Function::TaskReassign) && self.own.is_some() {
            self.reassign(pdu, head.immediate)?;
            return Ok(nothing);
        }
        if let (Some(f), 1.., Window::Own(_)) = (f, self.parameters.recovery_level, &self.window) {
            self.plug(f, pdu)?;
        }
        // 11.5.1: functions are not aborted.
        let of_function = f == Some(Function::AbortTask)
            && (pdu.referenced_itt == pdu.itt || self.tasks.managing.has(pdu.referenced_itt));
        if of_function || !self.tasks.managing.begin(pdu.itt) {
            self.refuse_managing(pdu, !head.immediate, TmfAnswer::Rejected)?;
        } else {
            self.start_managing(pdu, !head.immediate)?;
        }
        Ok(nothing)
    }

    fn start_managing(&mut self, pdu: &TmfRequest, numbered: bool) -> Result {
        let room = self.tasks.waiting.reserve(1, GFP_KERNEL);
        let begun = room
            .map_err(|_| TmfAnswer::Rejected)
            .and_then(|()| self.begin_managing(pdu, numbered));
        match begun {
            Ok(Begun::AtWork) => {}
            // There is room.
            Ok(Begun::Waits) => self.tasks.waiting.push((*pdu, numbered), GFP_KERNEL)?,
            Err(answer) => {
                self.tasks.managing.end(pdu.itt);
                self.refuse_managing(pdu, numbered, answer)?;
            }
        }
        Ok(())
    }

    pub(super) fn refuse_managing(
        &mut self,
        pdu: &TmfRequest,
        numbered: bool,
        answer: TmfAnswer,
    ) -> Result {
        if numbered {
            self.window.release();
        }
        self.answer_management(pdu.itt, answer as u8)
    }

    // Begins a function, which ends in the background; or says at once what it is answered with.
    fn begin_managing(&mut self, pdu: &TmfRequest, numbered: bool) -> Result<Begun, TmfAnswer> {
        let Some(f) = Function::of(pdu) else {
            return Err(TmfAnswer::NotSupported);
        };
        let (Some(session), Some(own)) = (self.session.clone(), self.own.clone()) else {
            return Err(TmfAnswer::Rejected);
        };
        let Some(wanted) = function(f, pdu, &own) else {
            return Err(TmfAnswer::NotSupported);
        };
        let (expected, max) = self.window.bounds();
        let missing = missing_task(pdu, expected, max);
        if let (Function::AbortTask, TmfAnswer::Complete, 0, Window::Own(window)) =
            (f, missing, self.parameters.recovery_level, &mut self.window)
        {
            // 7.11: the command never came, and counts as received. Above level 0, `Ffp::plug` has seen to that.
            window.plug(pdu.ref_cmd_sn);
            return Err(missing);
        }
        if let Some(order) = &own.session.order {
            let itt = pdu.referenced_itt.0;
            if f == Function::AbortTask && !session.has_tag(&|t| t as u32 == itt) {
                // It may be on its way by another connection, or wait there: it counts as received (11.5.1).
                if missing == TmfAnswer::Complete {
                    let next = order.with(|o| {
                        o.plug(pdu.ref_cmd_sn);
                        o.next()
                    });
                    self.go_on_with(next, &own);
                    self.drop_plugged(&own);
                }
            } else if f.is_of_target() && !numbered {
                let next = order.with(|o| {
                    o.plug_before(pdu.cmd_sn);
                    o.next()
                });
                self.go_on_with(next, &own);
                self.drop_plugged(&own);
            } else if f.is_multi_task() && !numbered {
                order.watch();
                if !order.with(|o| o.reached(pdu.cmd_sn)) {
                    return Ok(Begun::Waits);
                }
                order.unwatch();
            }
        }
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
                own.managed(Managed {
                    itt,
                    answer: answer as u8,
                    numbered,
                    multi_task: f.is_multi_task(),
                    ends_sessions: f == Function::TargetColdReset && answer == TmfAnswer::Complete,
                });
            })
            .map_err(|_| TmfAnswer::Rejected)?;
        Ok(Begun::AtWork)
    }

    // What waits and is not to be delivered any more goes, with its data, on whichever connection that is.
    fn drop_plugged(&mut self, own: &Connection) {
        self.turn_came = true;
        own.session.wake(event::TURN);
    }

    /// Begins the functions that waited for commands before them, if those have come.
    pub(super) fn begin_waiting(&mut self, own: &Connection) -> Result {
        let Some(order) = own.session.order.as_ref() else {
            return Ok(());
        };
        // Those that go on waiting come last.
        for _ in 0..self.tasks.waiting.len() {
            if let Ok((pdu, numbered)) = self.tasks.waiting.remove(0) {
                order.unwatch();
                self.start_managing(&pdu, numbered)?;
            }
        }
        Ok(())
    }

    /// A function is done, and cannot be answered: the connection ends, and waits for those that are not.
    pub(super) fn forget_managing(&mut self, done: &Managed) {
        self.tasks.managing.end(Itt(done.itt));
        if done.numbered {
            self.window.release();
        }
    }

    /// A function is done. It is answered, when the initiator has what was answered before it on other connections.
    pub(super) fn finish_managing(&mut self, done: Managed, own: &Connection) -> Result {
        if done.multi_task && own.session.order.is_some() {
            match self.raise_fence(own) {
                Ok(fence) if fence.is_passed() => {}
                // There is room.
                Ok(fence) => return Ok(self.tasks.fenced.push((done, fence), GFP_KERNEL)?),
                Err(e) => {
                    self.forget_managing(&done);
                    return Err(e);
                }
            }
        }
        self.answer_managed(&done, own)
    }

    // A fence for all other connections, and room to keep it.
    fn raise_fence(&mut self, own: &Connection) -> Result<Raised> {
        self.tasks.fenced.reserve(1, GFP_KERNEL)?;
        let fence = Raised::new(&own.session, &own.waker)?;
        let mut r = Ok(());
        own.session.each(|c| {
            if !core::ptr::eq(&**c, own) && c.is_here() {
                r = r.and_then(|()| c.fence(fence.ticket()));
            }
        });
        r.map(|()| fence)
    }

    /// Answers the functions whose fences are passed.
    pub(super) fn pass_fences(&mut self, own: &Connection) -> Result {
        while let Some(i) = self.tasks.fenced.iter().position(|(_, f)| f.is_passed()) {
            if let Ok((done, fence)) = self.tasks.fenced.remove(i) {
                self.answer_managed(&done, own)?;
                let sn = self.stat.next();
                self.tasks.answered.push((sn, fence), GFP_KERNEL)?;
                self.tasks.solicit = SOLICITED;
            }
        }
        Ok(())
    }

    fn answer_managed(&mut self, done: &Managed, own: &Connection) -> Result {
        self.tasks.managing.end(Itt(done.itt));
        if done.numbered {
            self.window.release();
        }
        self.answer_management(Itt(done.itt), done.answer)?;
        if done.ends_sessions {
            self.end_sessions(own);
        }
        Ok(())
    }

    /// What others wait for: notes what was answered up to now, asks for its acknowledgement, and lets them go on with that; and
    /// lifts the fences whose responses are acknowledged.
    pub(super) fn serve_fences(&mut self, own: &Connection, events: u32) -> Result {
        if events & event::FENCE != 0 {
            for ticket in own.take_fences() {
                self.tasks
                    .tickets
                    .push((self.stat.next(), ticket), GFP_KERNEL)?;
            }
            self.tasks.solicit = SOLICITED;
        }
        if self.tasks.tickets.is_empty() && self.tasks.answered.is_empty() {
            return Ok(());
        }
        let stat = &self.stat;
        let mut asks = false;
        self.tasks.tickets.retain(|(sn, ticket)| {
            match stat.has_acknowledged(*sn) {
                true => ticket.pass(),
                false => asks = true,
            }
            !ticket.is_lifted()
        });
        self.tasks.answered.retain(|(sn, _)| {
            asks |= !stat.has_acknowledged(*sn);
            !stat.has_acknowledged(*sn)
        });
        if asks && self.tasks.solicit > 0 && !self.timers.is_pinging() {
            self.tasks.solicit = self.tasks.solicit.saturating_sub(1);
            self.ping()?;
        }
        Ok(())
    }

    pub(super) fn answer_management(&mut self, itt: Itt, answer: u8) -> Result {
        let mut bhs = [0; 48];
        TmfResponse {
            response: answer,
            itt,
            sn: self.window.numbers(&mut self.stat),
        }
        .emit(&mut bhs);
        self.respond(&bhs, &[])
    }
}
