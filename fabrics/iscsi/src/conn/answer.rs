// SPDX-License-Identifier: GPL-2.0

//! Answers to SCSI commands (RFC 7143, 11.4, 11.7).

use super::{
    ffp::{End, Ffp},
    flow::Load,
    retained::{Entry, Held, Kept, Sent},
    snack::ACKNOWLEDGED,
};
use crate::{
    connection::{Close, Connection},
    data_in::DataIns,
    session::Stop,
    Reply,
};
use iscsi_proto::{
    pdu::{sense_len, NopIn, ScsiResponse},
    recovery::acknowledgement,
    sn::{DataSn, StatSn},
    transfer::{Read, Residual},
    wire::{Bhs, DataLen, Itt, Lun, Ttt},
};
use kernel::prelude::*;
use lio_scsi::{
    sense::{Format, Sense},
    status::Status,
};
use target_core::command;

fn residual(r: command::Residual) -> Residual {
    match r {
        command::Residual::None => Residual::None,
        command::Residual::Under(n) => Residual::Underflow(n),
        command::Residual::Over(n) => Residual::Overflow(n),
    }
}

impl Ffp {
    /// Sends what the engine has finished.
    pub(super) fn answer_all(&mut self, own: &Connection) -> Result<(), End> {
        if self.tasks.is_fenced() {
            return Ok(());
        }
        let before = self.link.tx.pdus_made;
        self.answer_replies(own)?;
        while self.tasks.is_busy() {
            let Some(done) = own.take_managed() else {
                break;
            };
            // The commands that the function ended may have come back since.
            if let Err(e) = self.answer_replies(own) {
                self.forget_managing(&done);
                return Err(e.into());
            }
            self.finish_managing(done, own)?;
        }
        // 11.4.11: the window has opened, and nothing that is on its way tells the initiator, which may wait for just that.
        if core::mem::take(&mut self.opened) && !self.tasks.is_busy() && !self.closing {
            if self.link.tx.pdus_made == before {
                self.tell_window()?;
            }
        }
        Ok(())
    }

    /// Sends the answers that there are. The session may go on without this connection: what it does not answer any more has left the
    /// window, too.
    pub(super) fn answer_replies(&mut self, own: &Connection) -> Result {
        let mut r = Ok(());
        for reply in own.replies.drain() {
            if r.is_ok() {
                r = self.answer(reply);
                continue;
            }
            if reply.request().numbered {
                self.window.release();
            }
            self.sent(reply);
        }
        r
    }

    fn tell_window(&mut self) -> Result {
        let mut bhs = [0; 48];
        NopIn {
            data_len: DataLen::at_most(0),
            lun: Lun::default(),
            itt: Itt::NONE,
            ttt: Ttt::NONE,
            sn: self.window.with_stat_sn(self.stat.next()),
        }
        .emit(&mut bhs);
        self.link.send(&bhs, &[])
    }

    /// The target was reset: all of its sessions end, this one in good order.
    pub(super) fn end_sessions(&mut self, own: &Connection) {
        let shared = &*own.session;
        shared
            .group
            .target
            .each_group(|g| g.tell_sessions(Stop::Reset, |s| !core::ptr::eq(s, shared)));
        shared.each(|c| {
            if !core::ptr::eq(&**c, own) {
                c.close(Close::Reset);
            }
        });
        self.closing = true;
    }

    pub(super) fn answer(&mut self, mut reply: Reply) -> Result {
        if reply.request().numbered {
            self.window.release();
        } else if !self.immediate.is_empty() {
            self.immediate.retain(|itt| *itt != reply.request().itt);
        }
        self.writes.settle(&reply.request().load);
        if reply.is_aborted() {
            self.opened |= reply.request().numbered;
            if reply.request().drains {
                self.stop_draining(Itt(reply.request().itt));
            }
            self.sent(reply);
            return Ok(());
        }
        if reply.request().drains {
            // While it is held, another connection may come to answer it (7.2.2): it has left the window, and counts for nothing.
            let request = reply.request_mut();
            (request.numbered, request.load) = (false, Load::default());
            return match self.hold(reply) {
                Some(reply) => self.send_reply(reply),
                None => Ok(()),
            };
        }
        self.send_reply(reply)
    }

    pub(super) fn send_reply(&mut self, reply: Reply) -> Result {
        let total = reply.read_len();
        if total == 0 {
            return self.send_status(reply);
        }
        let status = reply.status();
        let itt = Itt(reply.request().itt);
        let residual = residual(reply.residual());
        let total = u32::try_from(total).map_err(|_| EINVAL)?;
        if self.retained.is_some() {
            return self.send_and_keep(reply, total, residual);
        }
        let others = self.window.with_stat_sn(StatSn(0));
        let last = self.window.numbers(&mut self.stat);
        let read = Read::new(total, &self.parameters, true);
        let parts = DataIns::new(read, itt, (last, others), status.code(), residual);
        self.link.tx.push_read(reply, parts, None)
    }

    // Data is kept until the status that follows it is acknowledged, each for itself to be asked for again (11.16).
    fn send_and_keep(&mut self, reply: Reply, total: u32, residual: Residual) -> Result {
        let (itt, lun) = (Itt(reply.request().itt), Lun(reply.request().lun));
        let status = reply.status();
        let read = Read::new(total, &self.parameters, false);
        let sn = self.stat.next();
        let acknowledge = (total >= ACKNOWLEDGED).then(|| (lun, acknowledgement(sn)));
        let others = self.window.with_stat_sn(StatSn(0));
        let parts = DataIns::without_status(read, itt, others, acknowledge);
        self.link.tx.push_read(reply, parts, Some(sn))?;
        let bhs = self.response(itt, status, residual, DataSn(read.pdus_in_all()), 0);
        if let Some(retained) = self.retained.as_deref_mut() {
            let data = Kept::Coming;
            let held = Held::Read(Sent {
                read,
                acknowledge,
                data,
            });
            retained.keep(sn, Entry { bhs, held });
        }
        self.link.tx.push(&bhs, &[])
    }

    fn send_status(&mut self, reply: Reply) -> Result {
        let residual = residual(reply.residual());
        let sense = reply.sense();
        let request = reply.request();
        let sense = sense.as_ref().map_or(&[][..], |s| s.as_slice());
        self.send_response(Itt(request.itt), reply.status(), residual, sense)?;
        // Nothing of it is sent from its own memory.
        self.sent(reply);
        Ok(())
    }

    // The reply's own memory is not needed any more.
    fn sent(&mut self, reply: Reply) {
        let held = reply.request().memory;
        reply.sent();
        self.works.settle(usize::from(held > 0), held);
    }

    fn send_response(
        &mut self,
        itt: Itt,
        status: Status,
        residual: Residual,
        sense: &[u8],
    ) -> Result {
        let len = sense_len(u16::try_from(sense.len()).unwrap_or(0));
        let prefix = if sense.is_empty() { &[][..] } else { &len[..] };
        let n = prefix.len().saturating_add(sense.len());
        // 11.4.8: how many Data-In PDUs there were.
        let bhs = self.response(itt, status, residual, DataSn(0), n);
        if self.retained.is_none() {
            return self.link.tx.push(&bhs, &[prefix, sense]);
        }
        let mut room = [0; 260];
        room.iter_mut()
            .zip(Iterator::chain(prefix.iter(), sense))
            .for_each(|(to, from)| *to = *from);
        self.respond(&bhs, room.get(..n).unwrap_or_default())
    }

    // A SCSI response with `data_len` bytes of data; it takes a number.
    fn response(
        &mut self,
        itt: Itt,
        status: Status,
        residual: Residual,
        exp_data_sn: DataSn,
        data_len: usize,
    ) -> Bhs {
        let mut bhs = [0; 48];
        ScsiResponse {
            flags: residual.response_flags(),
            response: 0,
            status: status.code(),
            data_len: DataLen::at_most(data_len),
            itt,
            snack_tag: 0,
            sn: self.window.numbers(&mut self.stat),
            exp_data_sn,
            bidi_residual: 0,
            residual: residual.count(),
        }
        .emit(&mut bhs);
        bhs
    }

    /// Answers a command that never reached the engine.
    pub(super) fn answer_directly(
        &mut self,
        itt: Itt,
        numbered: bool,
        status: Status,
        sense: Option<&Sense>,
    ) -> Result {
        if numbered {
            self.window.release();
        }
        let sense = sense.map(|s| s.encode(Format::Fixed));
        let sense = sense.as_ref().map_or(&[][..], |s| s.as_slice());
        self.send_response(itt, status, Residual::None, sense)
    }
}
