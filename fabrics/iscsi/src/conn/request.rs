// SPDX-License-Identifier: GPL-2.0

//! NOP-Out, logout and asynchronous messages (RFC 7143, 11.9, 11.14, 11.18).

use super::{
    ffp::Ffp,
    receive::{Data, To},
};
use crate::{
    connection::{Close, Connection},
    session::{event, Stop},
    tx::SHORT,
};
use iscsi_proto::{
    custody::Ended,
    ffp::{self, Logout},
    pdu::{Async, AsyncEvent, Head, LogoutRequest, LogoutResponse, NopIn, NopOut},
    wire::{Bhs, Cid, DataLen, Itt, Lun, Ttt},
};
use kernel::prelude::*;
use lio_glue::buffer::Buffer;

/// The longest ping data that is sent back, whatever the initiator takes.
pub(super) const MAX_PING: u32 = 65_536;

impl Ffp {
    pub(super) fn nop_out(&mut self, bhs: &Bhs, head: &Head, pdu: &NopOut) -> Result<Data> {
        let nop = ffp::nop_out(pdu);
        if let Some(ttt) = nop.pong {
            self.timers.answered(ttt);
        }
        if !self.numbered(bhs, head, pdu.cmd_sn, pdu.exp_stat_sn)? || nop.ping.is_none() {
            return Ok(Data::nothing(head));
        }
        if !head.immediate {
            // One at a time: the window opens again at once, and not with data that may never come.
            self.window.release();
        }
        let keep = pdu
            .data_len
            .bytes()
            .min(self.parameters.max_xmit)
            .min(MAX_PING) as usize;
        let ping = KBox::new((pdu.itt, Buffer::alloc(keep, false)?), GFP_KERNEL)?;
        Ok(Data::new(To::Ping(ping), head, 0, keep))
    }

    /// The data of a ping is there: it goes back.
    #[inline(never)]
    pub(super) fn answer_ping(&mut self, ping: KBox<(Itt, Buffer)>) -> Result {
        let (itt, data) = KBox::into_inner(ping);
        let mut bhs = [0; 48];
        NopIn {
            data_len: DataLen::at_most(data.len()),
            lun: Lun::default(),
            itt,
            ttt: Ttt::NONE,
            sn: self.window.numbers(&mut self.stat),
        }
        .emit(&mut bhs);
        let mut room = [0; SHORT];
        match room.get_mut(..data.len()) {
            Some(short) => {
                data.read_at(0, short);
                self.respond(&bhs, short)
            }
            None => self.respond_buffer(&bhs, data),
        }
    }

    pub(super) fn logout(&mut self, bhs: &Bhs, head: &Head, pdu: &LogoutRequest) -> Result<Data> {
        let nothing = Data::nothing(head);
        if !self.numbered(bhs, head, pdu.cmd_sn, pdu.exp_stat_sn)? {
            return Ok(nothing);
        }
        if !head.immediate {
            self.window.release();
        }
        let own = self.own.clone();
        let another = |cid: Cid| {
            let there = |c: &Connection| c.cid == cid.0 && !c.is_leaving();
            own.as_ref().is_some_and(|own| own.session.has(there))
        };
        let level = self.parameters.recovery_level;
        let mut what = ffp::logout(pdu, self.cid, level, another);
        if self.leaving.is_some() {
            // One is at work: cleanup failed for various reasons (11.15.1).
            what = Logout::Refused(3);
        }
        match (what, &own) {
            (Logout::Refused(code), _) => self.answer_logout(pdu.itt, code, Ended::ForGood)?,
            (what, Some(own)) => {
                match what {
                    // Another connection answers a logout of the session, and this one goes before.
                    Logout::Session if !own.session.stop(Stop::LoggedOut) => return Ok(nothing),
                    Logout::Session => {}
                    Logout::Other(cid, how) => own.session.each(|c| match how {
                        _ if c.cid != cid.0 => {}
                        Ended::ForRecovery => c.close(Close::ForRecovery),
                        Ended::ForGood | Ended::Lost => c.close(Close::LoggedOut),
                    }),
                    Logout::Own(_) | Logout::Refused(_) => {}
                }
                self.leaving = Some((pdu.itt, what));
                self.finish_logout()?;
            }
            (_, None) => {
                self.answer_logout(pdu.itt, 0, Ended::ForGood)?;
                self.closing = true;
            }
        }
        Ok(nothing)
    }

    /// Answers a logout request, if the connections that it is about have gone.
    pub(super) fn finish_logout(&mut self) -> Result {
        let (Some((itt, what)), Some(own)) = (self.leaving, self.own.clone()) else {
            return Ok(());
        };
        let waits = match what {
            Logout::Session => own.session.has(|c| !core::ptr::eq(c, &*own)),
            // What it has left is there when it has gone.
            Logout::Other(cid, Ended::ForRecovery) => {
                own.session.has(|c| c.cid == cid.0 && !c.is_retained())
            }
            Logout::Other(cid, _) => own.session.has(|c| c.cid == cid.0),
            Logout::Own(_) | Logout::Refused(_) => false,
        };
        if waits || self.closing {
            return Ok(());
        }
        let how = match what {
            Logout::Own(how) | Logout::Other(_, how) => how,
            Logout::Session | Logout::Refused(_) => Ended::ForGood,
        };
        self.answer_logout(itt, 0, how)?;
        own.session.group.target.stats.normal_logouts.inc();
        match what {
            Logout::Session | Logout::Own(_) => self.closing = true,
            Logout::Other(..) | Logout::Refused(_) => {
                self.leaving = None;
                // For what was asked meanwhile.
                own.waker.wake(event::ASK);
            }
        }
        Ok(())
    }

    fn answer_logout(&mut self, itt: Itt, response: u8, how: Ended) -> Result {
        let time2retain = match how {
            Ended::ForRecovery => self.parameters.time2retain,
            Ended::ForGood | Ended::Lost => 0,
        };
        let mut bhs = [0; 48];
        LogoutResponse {
            response,
            itt,
            sn: self.window.numbers(&mut self.stat),
            time2wait: self.parameters.time2wait,
            time2retain,
        }
        .emit(&mut bhs);
        self.respond(&bhs, &[])
    }

    /// Tells the initiator what happens to it without its doing (11.9).
    pub(super) fn tell(&mut self, event: AsyncEvent, parameters: (u16, u16, u16)) -> Result {
        self.tell_with(event, Lun::default(), parameters, &[])
    }

    /// The same of a logical unit, with `data`.
    pub(super) fn tell_with(
        &mut self,
        event: AsyncEvent,
        lun: Lun,
        parameters: (u16, u16, u16),
        data: &[u8],
    ) -> Result {
        let mut bhs = [0; 48];
        Async {
            data_len: DataLen::at_most(data.len()),
            lun,
            itt: Itt::NONE,
            sn: self.window.numbers(&mut self.stat),
            event,
            vendor: 0,
            parameter1: parameters.0,
            parameter2: parameters.1,
            parameter3: parameters.2,
        }
        .emit(&mut bhs);
        self.respond(&bhs, data)
    }

    /// Another connection has gone: what waited for that goes on, and the initiator is told.
    pub(super) fn heed_departures(&mut self, own: &Connection) -> Result {
        let time2wait = self.parameters.time2wait;
        let time2retain = match self.parameters.recovery_level {
            0 | 1 => 0,
            _ => self.parameters.time2retain,
        };
        let before = self.link.tx.pdus_made;
        for cid in own.take_lost() {
            self.tell(AsyncEvent::ConnectionDrop, (cid, time2wait, time2retain))?;
        }
        self.finish_logout()?;
        // What the connection had has left the window, mostly after the initiator was told of its loss.
        self.opened |= self.link.tx.pdus_made == before;
        Ok(())
    }
}
