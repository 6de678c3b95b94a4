// SPDX-License-Identifier: GPL-2.0

//! Commands that wait for those of other connections (RFC 7143, 4.2.2.1), with their data.
//!
//! What waits is as many commands as the window has room for, each with its immediate data, and the unsolicited data that
//! follows it. All of it counts as write data of the session, see [`crate::memory`]; a command for whose data there is no
//! room is answered with BUSY when its turn comes, and a connection for whose unsolicited data there is none ends; so does, at error
//! recovery level 0, one that sends what cannot be such data. Above that it may belong to a command that is sent again.

use super::{
    ffp::{End, Ffp},
    flow::Load,
    parking::{tag, Parked, ENTRY},
    receive::{Data, To},
    window::Window,
};
use crate::connection::Connection;
use iscsi_proto::{
    ahs,
    error::Error as Wrong,
    order::Turn,
    pdu::{Head, Request},
    sn::{CmdSn, StatSn},
    wire::{Bhs, Itt, Ttt},
};
use kernel::prelude::*;
use lio_glue::buffer::Buffer;

// The number of a request, and the acknowledgement with it; `None` for those that have no number.
fn numbers(request: &Request) -> Option<(CmdSn, StatSn)> {
    match request {
        Request::ScsiCommand(r) => Some((r.cmd_sn, r.exp_stat_sn)),
        Request::NopOut(r) => Some((r.cmd_sn, r.exp_stat_sn)),
        Request::Tmf(r) => Some((r.cmd_sn, r.exp_stat_sn)),
        Request::Text(r) => Some((r.cmd_sn, r.exp_stat_sn)),
        Request::Logout(r) => Some((r.cmd_sn, r.exp_stat_sn)),
        Request::DataOut(_) | Request::Login(_) | Request::Snack(_) => None,
    }
}

impl Ffp {
    /// Executes a request, or keeps it until its turn comes. Returns where its data goes.
    pub(super) fn arrange(
        &mut self,
        bhs: &Bhs,
        head: &Head,
        ahs: &[u8],
        request: &Request,
    ) -> Result<Data, End> {
        let (Window::Shared(order), Some(own)) = (&self.window, &self.own) else {
            return self.request(bhs, head, ahs, request);
        };
        if let (Request::ScsiCommand(_), Err(wrong)) = (request, ahs::parse(ahs)) {
            // 11.17: the number of a PDU that is rejected is not considered received.
            self.reject(bhs, &wrong)?;
            return Ok(Data::nothing(head));
        }
        let (order, own) = (order.clone(), own.clone());
        let cmd_sn = match request {
            // R2Ts are sent for commands that have had their turn.
            Request::DataOut(r) if r.ttt == Ttt::NONE && self.parking.has(r.itt) => {
                if !self.parking.admits(r, self.parameters.first_burst) {
                    // 7.2.1: a command may be sent again that is not acknowledged, with its data; it is ignored, and so is that.
                    if self.parameters.recovery_level == 0 {
                        let wrong = Wrong::fatal("13.14: not the data of a command that waits");
                        self.reject(bhs, &wrong)?;
                    }
                    return Ok(Data::nothing(head));
                }
                None
            }
            _ => match numbers(request).filter(|_| !head.immediate) {
                None => return self.request(bhs, head, ahs, request),
                Some((sn, exp_stat_sn)) => {
                    self.acknowledge(exp_stat_sn);
                    match order.with(|o| o.arrive(sn, own.index())) {
                        Turn::Deliver => {
                            if let Some(itt) = tag(request).filter(|itt| self.parking.has(*itt)) {
                                self.forget_parked(itt, &own)?;
                            }
                            let r = self.request(bhs, head, ahs, request);
                            self.delivered(&own);
                            return r;
                        }
                        Turn::Ignore => return Ok(Data::nothing(head)),
                        Turn::Wait => Some(sn),
                    }
                }
            },
        };
        self.keep_waiting(bhs, head, ahs, request, cmd_sn)
    }

    // Commands are executed by who calls this: it must not take their stack.
    #[inline(never)]
    fn keep_waiting(
        &mut self,
        bhs: &Bhs,
        head: &Head,
        ahs: &[u8],
        request: &Request,
        cmd_sn: Option<CmdSn>,
    ) -> Result<Data, End> {
        let mut kept = KVec::new();
        kept.extend_from_slice(ahs, GFP_KERNEL)
            .map_err(Error::from)?;
        let mut parked = Parked {
            bhs: *bhs,
            ahs: kept,
            request: *request,
            cmd_sn,
            load: Load::default(),
            data: None,
            refused: false,
            spoiled: false,
        };
        let len = head.data_len.bytes() as usize;
        let wanted = ENTRY.saturating_add(len as u64);
        let taken = self.writes.take_parked(&mut parked.load, wanted);
        if taken && len > 0 {
            parked.data = Buffer::alloc(len, false).ok();
        }
        parked.refused = len > 0 && parked.data.is_none();
        if cmd_sn.is_none() && (!taken || parked.refused) {
            // Of commands there are as many as the window has room for; of data PDUs as many as the initiator likes.
            return Err(ENOMEM.into());
        }
        let keep = if parked.refused { 0 } else { len };
        Ok(Data::new(
            To::Park(KBox::new(parked, GFP_KERNEL).map_err(Error::from)?),
            head,
            0,
            keep,
        ))
    }

    // The command whose turn it was is with the engine, or decided otherwise.
    fn delivered(&mut self, own: &Connection) {
        if let Some(order) = &own.session.order {
            let next = order.with(|o| {
                o.delivered();
                o.next()
            });
            self.go_on_with(next, own);
        }
    }

    /// Tells the connection whose turn it is; and those that wait until so many commands were delivered.
    pub(super) fn go_on_with(&mut self, next: Option<u16>, own: &Connection) {
        match next {
            Some(index) if index == own.index() => self.turn_came = true,
            next => own.session.wake_next(next),
        }
        own.session.tell_watchers();
    }

    // A command is delivered whose tag others have that wait: those were aborted, which nobody has been told yet. Neither they nor their
    // data are the new one's.
    #[inline(never)]
    fn forget_parked(&mut self, itt: Itt, own: &Connection) -> Result {
        let Some(order) = &own.session.order else {
            return Ok(());
        };
        let is_over = |sn| order.with(|o| o.turn(sn, own.index())) == Turn::Ignore;
        let writes = &mut self.writes;
        self.parking
            .forget(itt, is_over, |parked| writes.settle(&parked.load))
    }

    /// The data of a PDU that waits is there.
    pub(super) fn park(&mut self, parked: KBox<Parked>) -> Result {
        // Data whose command has had its turn while it came in does not wait for that of others.
        let late = match parked.cmd_sn {
            None => tag(&parked.request).filter(|itt| !self.parking.has_command(*itt)),
            Some(_) => None,
        };
        if let Err(parked) = self.parking.push(parked) {
            self.writes.settle(&parked.load);
            return Err(ENOMEM);
        }
        self.turn_came = true;
        match late {
            Some(itt) => self.parking.bring_data_forward(itt),
            None => Ok(()),
        }
    }

    /// Executes what waited and whose turn has come.
    pub(super) fn unpark(&mut self) -> Result<(), End> {
        let Some(own) = self.own.clone() else {
            return Ok(());
        };
        let Some(order) = own.session.order.clone() else {
            return Ok(());
        };
        while self.turn_came && !self.closing {
            let Some(first) = self.parking.first() else {
                break;
            };
            let turn = match first.cmd_sn {
                // Its command went before.
                None => Turn::Deliver,
                Some(sn) => order.with(|o| o.turn(sn, own.index())),
            };
            if turn == Turn::Wait {
                match self.parking.bring_forward(order.with(|o| o.expected()))? {
                    true if order.with(|o| o.next()) == Some(own.index()) => continue,
                    _ => break,
                }
            }
            let Some(parked) = self.parking.pop() else {
                break;
            };
            self.writes.settle(&parked.load);
            let r = match turn {
                Turn::Ignore => Ok(()),
                _ => self.execute_parked(&parked),
            };
            if parked.cmd_sn.is_some() {
                if turn == Turn::Deliver {
                    self.delivered(&own);
                    self.turn_came = true;
                }
                if let Some(itt) = tag(&parked.request) {
                    self.parking.bring_data_forward(itt)?;
                }
            }
            r?;
        }
        self.turn_came = false;
        Ok(())
    }

    fn execute_parked(&mut self, parked: &Parked) -> Result<(), End> {
        let head = Head::of(&parked.bhs);
        let data = self.request(&parked.bhs, &head, &parked.ahs, &parked.request)?;
        if let (true, To::Write(index)) = (parked.refused, &data.to) {
            self.refuse_write(*index);
        }
        if let (true, To::Write(index)) = (parked.spoiled, &data.to) {
            self.writes.spoil(*index);
        }
        if let Some(from) = &parked.data {
            self.take_parked(from, &data);
        }
        if parked.refused && !matches!(data.to, To::Write(_) | To::Nothing) {
            return Err(ENOMEM.into());
        }
        Ok(self.arrived(data.to)?)
    }

    // Copies what waited to where it belongs.
    #[inline(never)]
    fn take_parked(&mut self, from: &Buffer, data: &Data) {
        let mut piece = [0; 512];
        let mut done = 0usize;
        while done < data.keep {
            let n = data.keep.saturating_sub(done).min(piece.len());
            let piece = piece.get_mut(..n).unwrap_or_default();
            from.read_at(done, piece);
            let at = data.off.saturating_add(done);
            match &data.to {
                To::Write(i) => match self.writes.buffer(*i) {
                    Some(to) => {
                        to.write_at(at, piece);
                    }
                    None => break,
                },
                To::Ping(ping) => {
                    ping.1.write_at(at, piece);
                }
                To::Text(..) => self.texts.put(at, piece),
                To::Park(_) | To::Whole(_) | To::Nothing => break,
            }
            done = done.saturating_add(n);
        }
    }
}
