// SPDX-License-Identifier: GPL-2.0

//! SCSI commands as they come in, and write data (RFC 7143, 4.2.5, 11.3, 11.7, 11.8).

use super::{
    ffp::Ffp,
    flow::{Flow, Load},
    incoming::Incoming,
    reach::{R2tWay, Reach},
    receive::{Data, Input, To},
};
use crate::{Iscsi, Reply, Request};
use iscsi_proto::{
    ahs,
    error::{Error as Wrong, RejectReason},
    pdu::{DataOut, Direction as Way, Head, ScsiCommand, TaskAttribute},
    seq::Admission,
    transfer::{recover::Recovering, Place, Wanted, Write},
    wire::{Bhs, Itt, Ttt},
};
use kernel::prelude::*;
use lio_glue::buffer::Buffer;
use lio_scsi::{
    sense::{Asc, Key, Sense},
    status::Status,
    task::Attribute,
};
use target_core::command::{Admitted, Cmd, Direction, Start, WantsData};

/// The longest CDB of SPC.
const MAX_CDB: usize = 260;
/// Bytes for which memory is provided at once as data comes in: several times what an initiator sends in a PDU by default.
const PROVIDED: usize = 64 << 10;
/// A deadline of a command that waits for nothing.
const NEVER: u64 = u64::MAX;

/// A command whose data is coming in.
pub(super) struct Waiting {
    itt: Itt,
    lun: iscsi_proto::wire::Lun,
    // `None`: the command is decided; what comes is thrown away.
    cmd: Option<Cmd<Iscsi, WantsData>>,
    write: Incoming,
    // Its place among those that wait until the session may be asked for more, if it does.
    turn: Option<u64>,
    // R2Ts may be sent.
    asked: bool,
    // Where the newest one is; and that the initiator did not have it when that was looked at last.
    r2t: R2tWay,
    late: bool,
    // When data must have come, in milliseconds.
    deadline: u64,
    // How often the deadline was put off since data came last.
    put_off: u32,
    // The answer of a decided command, until all has come.
    held: Option<Reply>,
}

/// The commands whose data is coming in, by index.
pub(super) struct Writes {
    slots: KVec<Option<Waiting>>,
    free: KVec<u16>,
    active: usize,
    flow: Flow,
    // Commands that wait for their turn, and the next turn.
    turns: usize,
    next_turn: u64,
    /// When data came last, in milliseconds, for which others may have to wait.
    pub(super) heard: u64,
    /// Bytes of data that commands and Data-Outs brought.
    pub(super) octets: u64,
}

impl Writes {
    pub(super) fn new(slots: u32, flow: Flow) -> Result<Self> {
        let n = usize::try_from(slots.min(0xfff0)).unwrap_or(0);
        let mut w = Writes {
            slots: KVec::with_capacity(n, GFP_KERNEL)?,
            free: KVec::with_capacity(n, GFP_KERNEL)?,
            active: 0,
            flow,
            turns: 0,
            next_turn: 0,
            heard: 0,
            octets: 0,
        };
        for i in (0..n).rev() {
            w.slots.push(None, GFP_KERNEL)?;
            w.free.push(u16::try_from(i).unwrap_or(0), GFP_KERNEL)?;
        }
        Ok(w)
    }

    fn get(&mut self, index: u16) -> Option<&mut Waiting> {
        self.slots.get_mut(usize::from(index))?.as_mut()
    }

    /// See [`Incoming::spoil`].
    pub(super) fn spoil(&mut self, index: u16) {
        if let Some(w) = self.get(index) {
            w.write.spoil();
        }
    }

    /// See [`Incoming::interrupt`].
    pub(super) fn interrupt(&mut self, index: u16) {
        if let Some(w) = self.get(index) {
            w.write.interrupt();
        }
    }

    /// See [`Incoming::expire`].
    pub(super) fn expire(&mut self, index: u16) {
        if let Some(w) = self.get(index) {
            w.write.expire();
        }
    }

    /// How many places there are.
    pub(super) fn slots(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }

    /// The command with this tag whose data comes in, and how many R2Ts were sent for it.
    pub(super) fn asked(&mut self, itt: Itt) -> Option<(u16, u32)> {
        let index = self.find(|w| w.itt == itt)?;
        Some((index, self.get(index)?.write.r2ts().0))
    }

    /// See [`Incoming::again`].
    pub(super) fn r2t_again(
        &mut self,
        index: u16,
        r2t_sn: u32,
    ) -> Option<(iscsi_proto::wire::Lun, Wanted)> {
        let w = self.get(index)?;
        Some((w.lun, w.write.again(r2t_sn)?))
    }

    /// A command whose data has not come in time, and is asked for again now: no more than `times` times one after the other. Not
    /// the one for which a PDU is `coming` in: that counts as taken, and nothing else comes before the rest of it.
    pub(super) fn take_overdue(
        &mut self,
        now: u64,
        timeout: u64,
        times: u32,
        coming: Option<u16>,
    ) -> Option<u16> {
        let overdue = |w: &Waiting| now >= w.deadline && w.put_off < times;
        let mut slots = (0u16..)
            .zip(&self.slots)
            .filter_map(|(i, w)| Some((i, w.as_ref()?)));
        let (index, _) = slots.find(|&(i, w)| Some(i) != coming && overdue(w))?;
        let w = self.get(index)?;
        if !w.write.expire() {
            return None;
        }
        w.put_off = w.put_off.saturating_add(1);
        w.deadline = now.saturating_add(timeout);
        Some(index)
    }

    /// Where the data of a command goes.
    pub(super) fn buffer(&self, index: u16) -> Option<&Buffer> {
        let w = self.slots.get(usize::from(index))?.as_ref()?;
        w.cmd.as_ref().map(|c| c.data())
    }

    // Whether there is a command with this index.
    fn is_taken(&self, index: u16) -> bool {
        let slot = self.slots.get(usize::from(index));
        slot.is_some_and(|w| w.is_some())
    }

    fn insert(&mut self, w: impl FnOnce(u16) -> Waiting) -> Option<u16> {
        let index = self.free.pop()?;
        let slot = self.slots.get_mut(usize::from(index))?;
        *slot = Some(w(index));
        self.active = self.active.saturating_add(1);
        Some(index)
    }

    fn remove(&mut self, index: u16) -> Option<Waiting> {
        let w = self.slots.get_mut(usize::from(index))?.take()?;
        self.active = self.active.saturating_sub(1);
        if w.turn.is_some() {
            self.turns = self.turns.saturating_sub(1);
        }
        // It came from there, so there is room.
        let _ = self.free.push_within_capacity(index);
        Some(w)
    }

    fn find(&self, which: impl Fn(&Waiting) -> bool) -> Option<u16> {
        if self.active == 0 {
            return None;
        }
        let i = self
            .slots
            .iter()
            .position(|w| w.as_ref().is_some_and(&which))?;
        u16::try_from(i).ok()
    }

    /// Nobody sends what he does not know to be asked for: an R2T goes behind all that the initiator has still to take. While it
    /// does, data has time, `until` the initiator has taken nothing for too long; and `timeout` milliseconds when it has the R2T.
    /// Whether there are such.
    pub(super) fn wait_for_r2ts(
        &mut self,
        now: u64,
        (until, timeout): (u64, u64),
        reach: &Reach,
    ) -> bool {
        let mut some = false;
        if self.active == 0 {
            return some;
        }
        for w in self.slots.iter_mut().flatten() {
            if w.r2t.is_open(reach) {
                w.late = true;
                w.deadline = w.deadline.max(until);
                some = true;
            } else if core::mem::take(&mut w.late) {
                w.deadline = now.saturating_add(timeout);
            }
        }
        some
    }

    /// The first time at which data must have come; `Err` if a command's has not. A command that others' data keeps
    /// waiting is given `timeout` milliseconds more, so many times.
    pub(super) fn earliest_deadline(
        &mut self,
        now: u64,
        timeout: u64,
        times: u32,
    ) -> Result<u64, ()> {
        if self.active == 0 {
            return Ok(NEVER);
        }
        let others = self.heard.saturating_add(timeout);
        let mut earliest = NEVER;
        for w in self.slots.iter_mut().flatten() {
            if now >= w.deadline {
                if now >= others || w.put_off >= times {
                    return Err(());
                }
                w.put_off = w.put_off.saturating_add(1);
                w.deadline = others;
            }
            earliest = earliest.min(w.deadline);
        }
        Ok(earliest)
    }

    // Provides memory for a command's data up to `end`; whether there is enough.
    fn provide(&mut self, index: u16, end: usize) -> bool {
        let slot = self.slots.get_mut(usize::from(index));
        let Some(cmd) = slot.and_then(|w| w.as_mut()?.cmd.as_mut()) else {
            return true;
        };
        let have = cmd.data().len();
        if end <= have {
            return true;
        }
        let to = end.next_multiple_of(PROVIDED).min(cmd.wanted());
        let more = to.saturating_sub(have) as u64;
        let flow = &mut self.flow;
        cmd.request_mut()
            .is_some_and(|r| flow.take(&mut r.load, more))
            && cmd.provide(to).is_ok()
    }

    /// Takes memory for a PDU that waits for those of other connections; whether there is so much.
    pub(super) fn take_parked(&mut self, load: &mut Load, bytes: u64) -> bool {
        self.flow.take(load, bytes)
    }

    /// A command has been answered that counted for `load`.
    pub(super) fn settle(&mut self, load: &Load) {
        self.flow.settle(load);
    }

    // Whether R2Ts may be sent for a command: now, or when its turn comes.
    fn may_ask(&mut self, index: u16) -> bool {
        let (turns, next) = (self.turns, self.next_turn);
        let slot = self.slots.get_mut(usize::from(index));
        let Some(w) = slot.and_then(|w| w.as_mut()) else {
            return false;
        };
        if w.asked {
            return true;
        }
        let Some(cmd) = &mut w.cmd else {
            return false;
        };
        let wanted = cmd.wanted() as u64;
        let Some(request) = cmd.request_mut() else {
            return false;
        };
        if turns > 0 || !self.flow.has_room(&request.load, wanted) {
            w.turn = Some(next);
            w.deadline = NEVER;
            self.next_turn = next.saturating_add(1);
            self.turns = turns.saturating_add(1);
            return false;
        }
        self.flow.ask(&mut request.load, wanted);
        w.asked = true;
        true
    }

    // The command does not wait for a turn any more.
    fn leave_queue(&mut self, index: u16) {
        if self.get(index).is_some_and(|w| w.turn.take().is_some()) {
            self.turns = self.turns.saturating_sub(1);
        }
    }

    // The command whose turn it is, if there is room for its data. R2Ts may be sent for it then.
    fn take_turn(&mut self) -> Option<u16> {
        let waiting = self.slots.iter().enumerate();
        let (i, _) = waiting
            .filter_map(|(i, w)| Some((i, w.as_ref()?.turn?)))
            .min_by_key(|(_, turn)| *turn)?;
        let w = self.slots.get_mut(i)?.as_mut()?;
        let cmd = w.cmd.as_mut()?;
        let wanted = cmd.wanted() as u64;
        let request = cmd.request_mut()?;
        if !self.flow.has_room(&request.load, wanted) {
            return None;
        }
        self.flow.ask(&mut request.load, wanted);
        w.asked = true;
        w.turn = None;
        self.turns = self.turns.saturating_sub(1);
        u16::try_from(i).ok()
    }

    /// Gives up the commands that task management has aborted.
    pub(super) fn clear_aborted(&mut self) {
        while let Some(index) = self.find(|w| w.cmd.as_ref().is_some_and(|c| c.is_aborted())) {
            if let Some(w) = self.remove(index) {
                w.give_up();
            }
        }
    }

    /// Takes out an answer that is held, and that somebody waits for who aborts its command: it is not held any longer.
    pub(super) fn take_awaited(&mut self) -> Option<Reply> {
        let index = self.find(|w| w.held.as_ref().is_some_and(|r| r.is_awaited()))?;
        self.remove(index)?.held
    }

    // The command with this tag that is decided, and whose answer has not come yet.
    fn draining(&self, itt: Itt) -> Option<u16> {
        self.find(|w| w.itt == itt && w.cmd.is_none() && w.held.is_none())
    }

    /// The answer of a command with this tag has come, and does not wait for its data.
    pub(super) fn stop_draining(&mut self, itt: Itt) {
        if let Some(index) = self.draining(itt) {
            self.remove(index);
        }
    }

    /// Whether there is any.
    pub(super) fn is_empty(&self) -> bool {
        self.active == 0
    }

    /// Takes out what is known of the command with this tag.
    pub(super) fn take(&mut self, itt: Itt) -> Option<Waiting> {
        let index = self.find(|w| w.itt == itt)?;
        self.remove(index)
    }

    /// A command goes on here whose data came in elsewhere: where. What had been asked for is asked for again.
    pub(super) fn adopt(&mut self, mut w: Waiting, deadline: u64) -> Option<u16> {
        let place = self.free.last().copied();
        if !place.is_some_and(|index| w.write.reassign(index)) {
            // There is a place for each command that the session can have.
            if let Some(cmd) = w.cmd {
                cmd.refuse(Status::Busy);
            }
            return None;
        }
        if let Some(request) = w.cmd.as_mut().and_then(|c| c.request_mut()) {
            request.load = self.flow.receive(&request.load);
        }
        (w.turn, w.asked, w.deadline, w.put_off) = (None, false, deadline, 0);
        (w.r2t, w.late) = (R2tWay::Arrived, false);
        self.insert(|_| w)
    }

    /// A command goes on here whose data has come elsewhere.
    pub(super) fn receive(&mut self, load: &Load) -> Load {
        self.flow.receive(load)
    }

    /// Gives all commands up.
    pub(super) fn clear(&mut self) {
        for slot in self.slots.iter_mut() {
            if let Some(w) = slot.take() {
                w.give_up();
            }
        }
        self.active = 0;
        self.turns = 0;
    }
}

impl Waiting {
    pub(super) fn request_mut(&mut self) -> Option<&mut Request> {
        self.cmd.as_mut()?.request_mut()
    }

    /// Its answer, if it was decided already.
    pub(super) fn into_held(self) -> Option<Reply> {
        self.held
    }

    fn give_up(self) {
        if let Some(cmd) = self.cmd {
            cmd.abort();
        }
        if let Some(reply) = self.held {
            reply.sent();
        }
    }
}

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
        w.deadline = deadline;
        w.put_off = 0;
        match w.write.data_out(pdu) {
            Ok(place) => Ok(self.data_for(index, head, place)),
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
