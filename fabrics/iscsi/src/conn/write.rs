// SPDX-License-Identifier: GPL-2.0

//! SCSI commands as they come in, and write data (RFC 7143, 4.2.5, 11.3, 11.7, 11.8).

use super::{
    ffp::Ffp,
    receive::{Data, To},
};
use crate::{Iscsi, Reply};
use iscsi_proto::{
    ahs,
    error::{Error as Wrong, RejectReason},
    pdu::{DataOut, Direction as Way, Head, R2t, ScsiCommand, TaskAttribute},
    seq::Admission,
    transfer::Write,
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

/// A command whose data is coming in.
pub(super) struct Waiting {
    itt: Itt,
    lun: iscsi_proto::wire::Lun,
    // `None`: the command is decided; what comes is thrown away.
    cmd: Option<Cmd<Iscsi, WantsData>>,
    write: Write,
    // When data must have come, in milliseconds.
    deadline: u64,
    // The answer of a decided command, until all has come.
    held: Option<Reply>,
}

/// The commands whose data is coming in, by index.
pub(super) struct Writes {
    slots: KVec<Option<Waiting>>,
    free: KVec<u16>,
    active: usize,
}

impl Writes {
    pub(super) fn new(slots: u32) -> Result<Self> {
        let n = usize::try_from(slots.min(0xfff0)).unwrap_or(0);
        let mut w = Writes {
            slots: KVec::with_capacity(n, GFP_KERNEL)?,
            free: KVec::with_capacity(n, GFP_KERNEL)?,
            active: 0,
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

    /// Where the data of a command goes.
    pub(super) fn buffer(&self, index: u16) -> Option<&Buffer> {
        let w = self.slots.get(usize::from(index))?.as_ref()?;
        w.cmd.as_ref().map(|c| c.data())
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

    /// The first time at which data must have come.
    pub(super) fn earliest_deadline(&self) -> Option<u64> {
        if self.active == 0 {
            return None;
        }
        self.slots.iter().flatten().map(|w| w.deadline).min()
    }

    /// Gives all commands up.
    pub(super) fn clear(&mut self) {
        for slot in self.slots.iter_mut() {
            if let Some(w) = slot.take() {
                w.give_up();
            }
        }
        self.active = 0;
    }
}

impl Waiting {
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
        self.stat.acknowledge(exp_stat_sn);
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
        let Some(session) = self.session.clone() else {
            return Ok(nothing);
        };
        session.private().cmd_pdus.inc();
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
            tag: pdu.itt.0.into(),
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
        let unsolicited = pdu.flags.write() && !pdu.flags.last();
        if let Some(request) = cmd.request_mut() {
            request.itt = pdu.itt.0;
            request.numbered = numbered;
            request.r2ts = 0;
            request.drains = unsolicited;
        }
        match cmd.admit() {
            Admitted::WantsData(mut cmd) => {
                if let Some(request) = cmd.request_mut() {
                    request.drains = false;
                }
                let wanted = u32::try_from(cmd.data().len()).unwrap_or(u32::MAX);
                self.begin_write(head, pdu, Some(cmd), wanted)
            }
            Admitted::Ready(cmd) => {
                let data = match unsolicited {
                    true => self.begin_write(head, pdu, None, 0)?,
                    false => nothing,
                };
                cmd.execute();
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
        let index = self.writes.insert(|index| {
            let mut write = Write::new(pdu, &parameters, index, wanted);
            if cmd.is_none() {
                write.give_up();
            }
            Waiting {
                itt: pdu.itt,
                lun: pdu.lun,
                cmd: cmd.take(),
                write,
                deadline,
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
        let keep = place.keep as usize;
        Ok(Data::new(
            To::Write(index),
            head,
            place.offset as usize,
            keep,
        ))
    }

    fn data_deadline(&self) -> u64 {
        let ms = match &self.session {
            Some(s) => s.private().data_timeout_ms(),
            None => 0,
        };
        self.timers.now().saturating_add(ms)
    }

    pub(super) fn data_out(&mut self, bhs: &Bhs, head: &Head, pdu: &DataOut) -> Result<Data> {
        self.stat.acknowledge(pdu.exp_stat_sn);
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
        match w.write.data_out(pdu) {
            Ok(place) => Ok(Data::new(
                To::Write(index),
                head,
                place.offset as usize,
                place.keep as usize,
            )),
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
            while let Some(w) = self.writes.get(index) {
                let (itt, lun) = (w.itt, w.lun);
                let Some(wanted) = w.write.next_r2t() else {
                    break;
                };
                let mut bhs = [0; 48];
                R2t {
                    lun,
                    itt,
                    ttt: wanted.ttt,
                    sn: self.window.with_stat_sn(self.stat.next()),
                    r2t_sn: wanted.r2t_sn,
                    offset: wanted.offset,
                    length: wanted.length,
                }
                .emit(&mut bhs);
                self.link.send(&bhs, &[])?;
            }
            return Ok(());
        }
        let Some(w) = self.writes.remove(index) else {
            return Ok(());
        };
        if let Some(mut cmd) = w.cmd {
            if let Some(request) = cmd.request_mut() {
                request.r2ts = w.write.r2ts().0;
            }
            match w.write.fault() {
                None => cmd.data_arrived().execute(),
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

    /// Keeps an answer whose command has unsolicited data on its way still; gives it back if it has none.
    pub(super) fn hold(&mut self, reply: Reply) -> Option<Reply> {
        let itt = Itt(reply.request().itt);
        let index = self
            .writes
            .find(|w| w.itt == itt && w.cmd.is_none() && w.held.is_none());
        match index.and_then(|i| self.writes.get(i)) {
            Some(w) => {
                w.held = Some(reply);
                None
            }
            None => Some(reply),
        }
    }

    /// Gives up the commands that task management has aborted. What is on its way to them goes nowhere.
    pub(super) fn give_up_aborted(&mut self) {
        while let Some(index) = self
            .writes
            .find(|w| w.cmd.as_ref().is_some_and(|c| c.is_aborted()))
        {
            if let Some(w) = self.writes.remove(index) {
                w.give_up();
            }
        }
    }
}
