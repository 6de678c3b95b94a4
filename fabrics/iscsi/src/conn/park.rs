// SPDX-License-Identifier: GPL-2.0

//! Commands that wait for those of other connections (RFC 7143, 4.2.2.1), with their data.
//!
//! What waits is as many commands as the window has room for, each with its immediate data, and the unsolicited data that
//! follows it. All of it counts as write data of the session, see [`crate::memory`]; a command for whose data there is no
//! room is answered with BUSY when its turn comes, and a connection for whose unsolicited data there is none ends.

use super::{
    ffp::{End, Ffp},
    flow::Load,
    receive::{Data, Input, To},
    window::Window,
    writes::Writes,
};
use crate::{connection::Connection, ring::Ring};
use iscsi_proto::{
    ahs,
    order::Turn,
    pdu::{Head, Request},
    sn::{CmdSn, StatSn},
    wire::{Bhs, Itt},
};
use kernel::prelude::*;
use lio_glue::buffer::Buffer;

/// Bytes that a PDU takes while it waits, beside its data.
const ENTRY: u64 = 512;

/// A PDU that waits.
pub(super) struct Parked {
    bhs: Bhs,
    ahs: KVec<u8>,
    request: Request,
    // Its number; `None` for data, which goes after its command.
    cmd_sn: Option<CmdSn>,
    load: Load,
    data: Option<Buffer>,
    // There was no memory for its data.
    refused: bool,
    // Its data is not what was sent.
    spoiled: bool,
}

impl Parked {
    pub(super) fn buffer(&self) -> Option<&Buffer> {
        self.data.as_ref()
    }

    /// The data, which came for a command that waits, is not what was sent: that is told to the command when its turn comes.
    pub(super) fn spoil(&mut self) {
        self.data = None;
        self.spoiled = true;
    }
}

/// What waits on a connection, in the order in which it came: commands come in the order of their numbers, but for those that
/// are sent again at error recovery level 1.
pub(super) struct Parking {
    queue: Ring<KBox<Parked>>,
    // The number that was looked for and is not there.
    missing: Option<CmdSn>,
}

impl Parking {
    pub(super) const fn new() -> Self {
        Parking {
            queue: Ring::new(),
            missing: None,
        }
    }

    /// Nothing that waits was ever received.
    pub(super) fn clear(&mut self, input: &Input, writes: &mut Writes) {
        if let Input::Data(Data {
            to: To::Park(parked),
            ..
        }) = input
        {
            writes.settle(&parked.load);
        }
        while let Some(parked) = self.queue.pop() {
            writes.settle(&parked.load);
        }
    }

    // Puts the command with this number first, with its data; false if it is not there.
    fn bring_forward(&mut self, sn: CmdSn) -> Result<bool> {
        if self.missing == Some(sn) {
            return Ok(false);
        }
        let mut waiting = (0..self.queue.len()).filter_map(|i| self.queue.get(i));
        let Some(found) = waiting.find(|p| p.cmd_sn == Some(sn)) else {
            self.missing = Some(sn);
            return Ok(false);
        };
        let itt = tag(&found.request);
        self.sort(|p| match p.cmd_sn {
            Some(n) => n == sn,
            None => tag(&p.request) == itt,
        })?;
        Ok(true)
    }

    // The command with this tag waits no more: what waits of its data goes before all else.
    fn bring_data_forward(&mut self, itt: Itt) -> Result {
        if !self.has(itt) {
            return Ok(());
        }
        // What comes behind another command with the tag, which is free again once the first was aborted, is that one's.
        let mut other = false;
        self.sort(|p| {
            let of_it = tag(&p.request) == Some(itt);
            other |= of_it && p.cmd_sn.is_some();
            of_it && !other
        })
    }

    // Puts those first that `goes_first` chooses.
    #[inline(never)]
    fn sort(&mut self, mut goes_first: impl FnMut(&Parked) -> bool) -> Result {
        let mut sorted = Ring::new();
        let mut others = Ring::new();
        while let Some(p) = self.queue.pop() {
            let to = match goes_first(&p) {
                true => &mut sorted,
                false => &mut others,
            };
            to.push(p).map_err(|_| ENOMEM)?;
        }
        while let Some(p) = others.pop() {
            sorted.push(p).map_err(|_| ENOMEM)?;
        }
        self.queue = sorted;
        Ok(())
    }

    fn any(&self, which: impl Fn(&Parked) -> bool) -> bool {
        let mut waiting = (0..self.queue.len()).filter_map(|i| self.queue.get(i));
        waiting.any(|p| which(p))
    }

    // Whether a command with this tag waits, or some of its data: what comes for it goes behind that.
    fn has(&self, itt: Itt) -> bool {
        self.any(|p| tag(&p.request) == Some(itt))
    }

    // Whether a command with this tag waits.
    fn has_command(&self, itt: Itt) -> bool {
        self.any(|p| p.cmd_sn.is_some() && tag(&p.request) == Some(itt))
    }
}

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

fn tag(request: &Request) -> Option<Itt> {
    match request {
        Request::ScsiCommand(r) => Some(r.itt),
        Request::DataOut(r) => Some(r.itt),
        _ => None,
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
            Request::DataOut(r) if self.parking.has(r.itt) => None,
            _ => match numbers(request).filter(|_| !head.immediate) {
                None => return self.request(bhs, head, ahs, request),
                Some((sn, exp_stat_sn)) => {
                    self.acknowledge(exp_stat_sn);
                    match order.with(|o| o.arrive(sn, own.index())) {
                        Turn::Deliver => {
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

    /// The data of a PDU that waits is there.
    pub(super) fn park(&mut self, parked: KBox<Parked>) -> Result {
        // Data whose command has had its turn while it came in does not wait for that of others.
        let late = match parked.cmd_sn {
            None => tag(&parked.request).filter(|itt| !self.parking.has_command(*itt)),
            Some(_) => {
                self.parking.missing = None;
                None
            }
        };
        if let Err(parked) = self.parking.queue.push(parked) {
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
            let Some(first) = self.parking.queue.get(0) else {
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
            let Some(parked) = self.parking.queue.pop() else {
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
