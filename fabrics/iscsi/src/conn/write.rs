// SPDX-License-Identifier: GPL-2.0

//! SCSI commands as they come in, and write data (RFC 7143, 4.2.5, 11.3, 11.7, 11.8).

use super::{
    ffp::Ffp,
    flow::Load,
    holding::Holding,
    incoming::Incoming,
    reach::R2tWay,
    receive::{Data, Input, To},
    writes::Waiting,
};
use crate::{Iscsi, Reply};
use iscsi_proto::{
    ahs,
    error::{Error as Wrong, RejectReason},
    pdu::{DataOut, Direction as Way, Head, ScsiCommand, TaskAttribute},
    seq::Admission,
    transfer::{recover::Recovering, Place, Write},
    wire::{Bhs, Itt, Ttt},
};
use kernel::prelude::*;
use lio_scsi::{
    sense::{Asc, Key, Sense},
    status::Status,
    task::Attribute,
};
use target_core::command::{Admitted, Cmd, Direction, Start, WantsData};

/// The longest CDB of SPC.
const MAX_CDB: usize = 260;

fn attribute(a: Option<TaskAttribute>) -> Attribute {
    match a {
        Some(TaskAttribute::Ordered) => Attribute::Ordered,
        Some(TaskAttribute::HeadOfQueue) => Attribute::HeadOfQueue,
        Some(TaskAttribute::Aca) => Attribute::Aca,
        Some(TaskAttribute::Untagged | TaskAttribute::Simple) | None => Attribute::Simple,
    }
}

impl Ffp {
    /// Takes note of the command number and the acknowledgement of a request; false if it is to be ignored, with its
    /// data.
    pub(super) fn numbered(
        &mut self,
        bhs: &Bhs,
        head: &Head,
        cmd_sn: iscsi_proto::sn::CmdSn,
        exp_stat_sn: iscsi_proto::sn::StatSn,
    ) -> Result<bool> {
        self.acknowledge(exp_stat_sn);
        match self.window.admit(cmd_sn, head.immediate) {
            Ok(Admission::Execute) => Ok(true),
            Ok(Admission::Ignore) => Ok(false),
            Err(wrong) => {
                self.reject(bhs, &wrong)?;
                Ok(false)
            }
        }
    }

    pub(super) fn scsi_command(
        &mut self,
        bhs: &Bhs,
        head: &Head,
        ahs: &[u8],
        pdu: &ScsiCommand,
    ) -> Result<Data> {
        let nothing = Data::nothing(head);
        let segments = match ahs::parse(ahs) {
            Ok(segments) => segments,
            Err(wrong) => {
                self.reject(bhs, &wrong)?;
                return Ok(nothing);
            }
        };
        if !self.numbered(bhs, head, pdu.cmd_sn, pdu.exp_stat_sn)? {
            return Ok(nothing);
        }
        let numbered = !head.immediate;
        let (Some(session), Some(own)) = (&self.session, self.own.clone()) else {
            return Ok(nothing);
        };
        let session = session.clone();
        own.session.cmd_pdus.inc();
        let direction = match pdu.direction() {
            Way::None => Direction::None,
            Way::Read => Direction::Read,
            Way::Write => Direction::Write,
            Way::Bidirectional => {
                let sense = Sense::INVALID_OPERATION_CODE;
                self.answer_directly(pdu.itt, numbered, Status::CheckCondition, Some(&sense))?;
                return Ok(nothing);
            }
        };
        let mut room;
        let cdb = match segments.extended_cdb {
            None => &pdu.cdb[..],
            Some(more) => {
                room = [0; MAX_CDB];
                let bytes = Iterator::chain(pdu.cdb.iter(), more.iter());
                room.iter_mut()
                    .zip(bytes)
                    .for_each(|(to, from)| *to = *from);
                let n = pdu.cdb.len().saturating_add(more.len()).min(MAX_CDB);
                room.get(..n).unwrap_or_default()
            }
        };
        let start = Start {
            tag: own.tag(pdu.itt.0),
            lun: pdu.lun.0,
            cdb,
            attribute: attribute(pdu.flags.attribute()),
            direction,
            expected: pdu.expected_len,
        };
        let Some(mut cmd) = session.start(&start) else {
            if numbered {
                self.answer_directly(pdu.itt, numbered, Status::TaskSetFull, None)?;
            } else {
                let wrong = Wrong::reject(
                    RejectReason::TooManyImmediate,
                    "4.2.2.1: too many immediate commands",
                );
                self.reject(bhs, &wrong)?;
            }
            return Ok(nothing);
        };
        if !numbered && self.parameters.recovery_level >= 2 {
            self.immediate.push(pdu.itt.0, GFP_KERNEL)?;
        }
        let unsolicited = pdu.flags.write() && !pdu.flags.last();
        if let Some(request) = cmd.request_mut() {
            request.connection = Some(own);
            request.itt = pdu.itt.0;
            request.lun = pdu.lun.0;
            request.numbered = numbered;
            request.drains = unsolicited;
            request.load = Load::default();
            request.memory = 0;
        }
        match cmd.admit() {
            Admitted::WantsData(mut cmd) => {
                if let Some(request) = cmd.request_mut() {
                    request.drains = false;
                }
                let wanted = u32::try_from(cmd.wanted()).unwrap_or(u32::MAX);
                self.begin_write(head, pdu, Some(cmd), wanted)
            }
            Admitted::Ready(cmd) => {
                let data = match unsolicited {
                    true => self.begin_write(head, pdu, None, 0)?,
                    false => nothing,
                };
                self.execute(cmd);
                Ok(data)
            }
            Admitted::Refused if unsolicited => self.begin_write(head, pdu, None, 0),
            Admitted::Refused => Ok(nothing),
        }
    }

    // The command's data comes in now; without `cmd` it is thrown away.
    fn begin_write(
        &mut self,
        head: &Head,
        pdu: &ScsiCommand,
        cmd: Option<Cmd<Iscsi, WantsData>>,
        wanted: u32,
    ) -> Result<Data> {
        let deadline = self.data_deadline();
        let parameters = self.parameters;
        let mut cmd = cmd;
        let flow = &mut self.writes.flow;
        if let Some(request) = cmd.as_mut().and_then(|c| c.request_mut()) {
            let unasked = match pdu.flags.last() {
                true => pdu.data_len.bytes(),
                false => parameters.first_burst,
            };
            request.load = flow.begin(unasked.min(wanted).into());
        }
        let recovering = match parameters.recovery_level {
            0 => None,
            _ => match KBox::<Recovering>::new_uninit(GFP_KERNEL) {
                Ok(place) => Some(place),
                Err(_) => {
                    if let Some(cmd) = cmd {
                        cmd.fail(Sense::INSUFFICIENT_RESOURCES);
                    }
                    return Ok(Data::nothing(head));
                }
            },
        };
        let index = self.writes.insert(|index| {
            let mut write = match recovering {
                None => Incoming::Plain(Write::new(pdu, &parameters, index, wanted)),
                Some(place) => Incoming::Recovering(KBox::write(
                    place,
                    Recovering::new(pdu, &parameters, index, wanted),
                )),
            };
            if cmd.is_none() {
                write.give_up();
            }
            Waiting {
                itt: pdu.itt,
                lun: pdu.lun,
                cmd: cmd.take(),
                write,
                turn: None,
                asked: false,
                r2t: R2tWay::Arrived,
                late: false,
                deadline,
                put_off: 0,
                holding: Holding::default(),
                grace: 0,
                held: None,
            }
        });
        let Some(index) = index else {
            // There is a place for each command that the session can have.
            if let Some(cmd) = cmd {
                cmd.fail(Sense::INSUFFICIENT_RESOURCES);
            }
            return Ok(Data::nothing(head));
        };
        self.timers.watch(deadline);
        let place = match self.writes.get(index) {
            Some(w) => w.write.immediate(),
            None => return Ok(Data::nothing(head)),
        };
        Ok(self.data_for(index, head, place))
    }

    // What is done with a PDU's data, whose place is known. Where there is no memory for it, the command fails.
    fn data_for(&mut self, index: u16, head: &Head, place: Place) -> Data {
        let (offset, keep) = (place.offset as usize, place.keep as usize);
        let provided = keep == 0 || self.writes.provide(index, offset.saturating_add(keep));
        if !provided {
            self.refuse_write(index);
        }
        let octets = u64::from(head.data_len.bytes());
        self.writes.octets = self.writes.octets.wrapping_add(octets);
        if keep > 0 {
            self.writes.heard = self.timers.now();
        }
        Data::new(
            To::Write(index),
            head,
            offset,
            if provided { keep } else { 0 },
        )
    }

    // Answers a command with BUSY, once the data that is on its way has come; it is thrown away.
    pub(super) fn refuse_write(&mut self, index: u16) {
        self.writes.leave_queue(index);
        let Some(w) = self.writes.get(index) else {
            return;
        };
        w.write.give_up();
        if let Some(mut cmd) = w.cmd.take() {
            if let Some(request) = cmd.request_mut() {
                request.drains = true;
            }
            if self.link.portal.throttle.allow() {
                pr_warn!(
                    "iscsi: session of {} at {}: no memory for its write data, answered with BUSY\n",
                    self.initiator,
                    self.link.peer
                );
            }
            cmd.refuse(Status::Busy);
        }
    }

    pub(super) fn data_deadline(&self) -> u64 {
        let ms = match &self.session {
            Some(s) => s.private().data_timeout().0,
            None => 0,
        };
        self.timers.now().saturating_add(ms)
    }

    pub(super) fn data_out(&mut self, bhs: &Bhs, head: &Head, pdu: &DataOut) -> Result<Data> {
        self.acknowledge(pdu.exp_stat_sn);
        let index = if pdu.ttt == Ttt::NONE {
            self.writes.find(|w| w.itt == pdu.itt)
        } else {
            let index = pdu.ttt.index();
            self.writes
                .get(index)
                .is_some_and(|w| w.itt == pdu.itt)
                .then_some(index)
        };
        let deadline = self.data_deadline();
        let Some((index, w)) = index.and_then(|i| Some((i, self.writes.get(i)?))) else {
            // Of a command that was aborted, or has failed.
            return Ok(Data::nothing(head));
        };
        match w.write.data_out(pdu) {
            Ok(place) => {
                if w.write.gets_on(pdu, &place) {
                    w.deadline = deadline;
                    w.put_off = 0;
                }
                Ok(self.data_for(index, head, place))
            }
            Err(wrong) => {
                self.reject(bhs, &wrong)?;
                Ok(Data::nothing(head))
            }
        }
    }

    /// A PDU's data is there: asks for more, or executes the command.
    pub(super) fn go_on(&mut self, index: u16) -> Result {
        let Some(w) = self.writes.get(index) else {
            return Ok(());
        };
        if !w.write.complete() {
            return self.ask(index);
        }
        if self.input.of_write() == Some(index) {
            // What is coming in counts as received, and is not there.
            return Ok(());
        }
        let Some(w) = self.writes.remove(index) else {
            return Ok(());
        };
        if let Some(cmd) = w.cmd {
            match w.write.fault() {
                None => self.execute(cmd.data_arrived()),
                Some(fault) => {
                    let (code, qualifier) = fault.sense();
                    cmd.fail(Sense::new(Key::AbortedCommand, Asc { code, qualifier }));
                }
            }
        }
        if let Some(reply) = w.held {
            self.send_reply(reply)?;
        }
        Ok(())
    }

    // Sends the R2Ts of a command that there may be now.
    fn ask(&mut self, index: u16) -> Result {
        while let Some(w) = self.writes.get(index) {
            if !w.write.wants_r2t() || !self.writes.may_ask(index) {
                break;
            }
            let Some(w) = self.writes.get(index) else {
                break;
            };
            let (itt, lun) = (w.itt, w.lun);
            let Some(wanted) = w.write.next_r2t() else {
                break;
            };
            self.send_r2t(lun, itt, &wanted)?;
            let n = self.link.tx.r2ts;
            if let Some(w) = self.writes.get(index) {
                w.r2t = R2tWay::Queued(n);
            }
            self.timers.look_soon();
        }
        Ok(())
    }

    /// Asks for the data of commands whose turn has come.
    pub(super) fn ask_waiting(&mut self) -> Result {
        while self.writes.turns > 0 {
            let Some(index) = self.writes.take_turn() else {
                break;
            };
            let deadline = self.data_deadline();
            if let Some(w) = self.writes.get(index) {
                w.deadline = deadline;
            }
            self.timers.watch(deadline);
            self.ask(index)?;
        }
        Ok(())
    }

    /// Keeps an answer whose command has unsolicited data on its way still; gives it back if it has none, or if the command was
    /// aborted meanwhile.
    pub(super) fn hold(&mut self, reply: Reply) -> Option<Reply> {
        let itt = Itt(reply.request().itt);
        if reply.is_awaited() {
            // There will be no other kick.
            self.stop_draining(itt);
            return Some(reply);
        }
        let index = self.writes.draining(itt);
        match index.and_then(|i| self.writes.get(i)) {
            Some(w) => {
                w.held = Some(reply);
                None
            }
            None => Some(reply),
        }
    }

    /// The answer of a command does not wait for its data. What is on its way goes nowhere.
    pub(super) fn stop_draining(&mut self, itt: Itt) {
        self.writes.stop_draining(itt);
        self.discard_ownerless();
    }

    /// Gives up the commands that task management has aborted. What is on its way to them goes nowhere.
    pub(super) fn give_up_aborted(&mut self) {
        self.writes.clear_aborted();
        self.works.clear_aborted();
        while let Some(reply) = self.writes.take_awaited() {
            // 11.5.1: an initiator that aborts a command sends no more data for it; and where another one does, this one has still
            // to hear how it ended. Among the other answers, before that of the function, which waits for it.
            if let Some(own) = &self.own {
                own.replies.push(reply);
            }
        }
        self.discard_ownerless();
    }

    // Throws away what is coming in for a command that is gone.
    fn discard_ownerless(&mut self) {
        if let (Some(index), Input::Data(data)) = (self.input.of_write(), &mut self.input) {
            // Its place may be another's before the rest of the PDU is here.
            if !self.writes.is_taken(index) {
                data.discard();
            }
        }
    }
}
