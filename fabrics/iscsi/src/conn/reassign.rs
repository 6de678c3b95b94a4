// SPDX-License-Identifier: GPL-2.0

//! TASK REASSIGN (RFC 7143, 7.2.2, 11.5): tasks of a connection that has gone, which go on here.

use super::{
    estate::{self, Task},
    ffp::Ffp,
    retained::{Entry, Held, Kept, Sent},
    snack::ACKNOWLEDGED,
};
use crate::{connection::Connection, data_in::DataIns, Reply};
use iscsi_proto::{
    custody::{self, Place},
    ffp::TmfAnswer,
    pdu::{ScsiResponse, TmfRequest},
    recovery::acknowledgement,
    sn::{DataSn, StatSn},
    wire::Lun,
};
use kernel::{prelude::*, sync::Arc};

impl Ffp {
    /// Answers the request, and goes on with the task then. Commands are executed by who calls this: it must not take their stack.
    #[inline(never)]
    pub(super) fn reassign(&mut self, pdu: &TmfRequest, immediate: bool) -> Result {
        let (Some(session), Some(own)) = (self.session.clone(), self.own.clone()) else {
            return Ok(());
        };
        let itt = pdu.referenced_itt;
        let (place, keeper) = match own.session.whereabouts(itt, &session) {
            // 11.5.1: functions are not reassigned.
            _ if self.tasks.has(itt) => (Place::Nowhere, None),
            found => found,
        };
        let level = self.parameters.recovery_level;
        let mut answer = custody::reassign(level, immediate, place);
        let mut task = None;
        if let (TmfAnswer::Complete, Some(keeper)) = (answer, &keeper) {
            task = estate::take(keeper, itt, &session, &own);
            if task.is_none() {
                answer = TmfAnswer::NoTask;
            }
        }
        self.refuse_managing(pdu, !immediate, answer)?;
        if let Some(keeper) = keeper {
            // It may have been the last one.
            keeper.waker.wake(crate::session::event::LEFT);
        }
        match task {
            Some(task) => self.resume(task, pdu, &own),
            None => Ok(()),
        }
    }

    fn resume(&mut self, task: Task, pdu: &TmfRequest, own: &Arc<Connection>) -> Result {
        match task {
            Task::Answered(entry) => self.answer_again(entry, pdu)?,
            Task::Finished(reply) => self.adopt(reply)?,
            Task::Writing(mut waiting) => {
                if let Some(request) = waiting.request_mut() {
                    request.connection = Some(own.clone());
                }
                let deadline = self.data_deadline();
                if let Some(index) = self.writes.adopt(waiting, deadline) {
                    self.timers.watch(deadline);
                    self.go_on(index)?;
                }
            }
            Task::Ready(mut cmd) => {
                if let Some(request) = cmd.request_mut() {
                    request.connection = Some(own.clone());
                    request.load = self.writes.receive(&request.load);
                }
                self.execute_late(cmd);
            }
            Task::AtWork => self.borrowed.push(pdu.referenced_itt.0, GFP_KERNEL)?,
        }
        // It may have been aborted meanwhile, and nobody was told.
        self.give_up_aborted();
        Ok(())
    }

    /// Answers commands that other connections had executed, unless there is a fence.
    pub(super) fn adopt_all(&mut self, own: &Connection) -> Result {
        if self.tasks.is_fenced() {
            return Ok(());
        }
        let adopted = own.adopted.drain();
        // They may have waited for commands of this connection (SAM-5 8.6), whose answers go first.
        let mut r = self.answer_replies(own);
        for reply in adopted {
            if r.is_ok() {
                r = self.adopt(reply);
                continue;
            }
            // The session may go on without this connection: what is not answered any more leaves its window.
            let itt = reply.request().itt;
            self.borrowed.retain(|b| *b != itt);
            own.session.forget(reply);
        }
        r
    }

    fn adopt(&mut self, mut reply: Reply) -> Result {
        let itt = reply.request().itt;
        self.borrowed.retain(|b| *b != itt);
        let load = self.writes.receive(&reply.request().load);
        self.works.receive(reply.request().memory);
        reply.request_mut().load = load;
        self.answer(reply)
    }

    // The initiator may not have the response, nor all of its data. It has another number here, and no SNACK tag.
    fn answer_again(&mut self, entry: Entry, pdu: &TmfRequest) -> Result {
        let mut bhs = entry.bhs;
        let mut response = ScsiResponse::read(&bhs);
        response.snack_tag = 0;
        match entry.held {
            Held::Text(text) => {
                response.sn = self.window.numbers(&mut self.stat);
                response.emit(&mut bhs);
                self.respond(&bhs, &text)
            }
            Held::Read(sent) => self.read_again(response, sent, pdu),
            // SCSI responses have no such, and what is gone was not reassigned.
            Held::Buffer(_) | Held::Gone => Ok(()),
        }
    }

    fn read_again(&mut self, mut response: ScsiResponse, sent: Sent, pdu: &TmfRequest) -> Result {
        let all = sent.read.pdus_in_all();
        let acknowledged = match sent.data {
            Kept::Acknowledged => all,
            _ => sent.read.first(),
        };
        let first = custody::first_unacknowledged(pdu.exp_data_sn.0, acknowledged, all);
        let read = sent.read.resumed(first, self.parameters.max_xmit);
        let sn = self.stat.next();
        let lun = sent.acknowledge.map_or(pdu.lun, |(lun, _)| lun);
        let long = read.rest() >= ACKNOWLEDGED && lun != Lun::default();
        let acknowledge = long.then(|| (lun, acknowledgement(sn)));
        let data = match sent.data {
            Kept::There(data) if first < all => {
                let others = self.window.with_stat_sn(StatSn(0));
                let parts = DataIns::without_status(read, response.itt, others, acknowledge);
                self.link.tx.push_again(data.clone(), parts)?;
                Kept::There(data)
            }
            _ => Kept::Acknowledged,
        };
        response.exp_data_sn = DataSn(read.pdus_in_all());
        response.sn = self.window.numbers(&mut self.stat);
        let mut bhs = [0; 48];
        response.emit(&mut bhs);
        let held = Held::Read(Sent {
            read,
            acknowledge,
            data,
        });
        if let Some(retained) = self.retained.as_deref_mut() {
            retained.keep(sn, Entry { bhs, held });
        }
        self.link.tx.push(&bhs, &[])
    }
}
