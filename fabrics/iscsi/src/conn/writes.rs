// SPDX-License-Identifier: GPL-2.0

//! The commands of a connection whose write data is coming in.

use super::{
    flow::{Flow, Load},
    holding::{Holding, Moved},
    incoming::Incoming,
    reach::{R2tWay, Reach},
};
use crate::{Iscsi, Reply, Request};
use iscsi_proto::{transfer::Wanted, wire::Itt};
use kernel::prelude::*;
use lio_glue::buffer::Buffer;
use lio_scsi::status::Status;
use target_core::command::{Cmd, WantsData};

/// Bytes for which memory is provided at once as data comes in: several times what an initiator sends in a PDU by default.
const PROVIDED: usize = 64 << 10;
/// A deadline of a command that waits for nothing.
pub(super) const NEVER: u64 = u64::MAX;

/// A command whose data is coming in.
pub(super) struct Waiting {
    pub(super) itt: Itt,
    pub(super) lun: iscsi_proto::wire::Lun,
    // `None`: the command is decided; what comes is thrown away.
    pub(super) cmd: Option<Cmd<Iscsi, WantsData>>,
    pub(super) write: Incoming,
    // Its place among those that wait until the session may be asked for more, if it does.
    pub(super) turn: Option<u64>,
    // R2Ts may be sent.
    pub(super) asked: bool,
    // Where the newest one is; and that the initiator did not have it when that was looked at last.
    pub(super) r2t: R2tWay,
    pub(super) late: bool,
    // When data must have come, in milliseconds.
    pub(super) deadline: u64,
    // How often the deadline was put off since data came last.
    pub(super) put_off: u32,
    // How long others have waited for it; and how long it was kept beyond its time because its connection had gone.
    pub(super) holding: Holding,
    pub(super) grace: u64,
    // The answer of a decided command, until all has come.
    pub(super) held: Option<Reply>,
}

/// The commands whose data is coming in, by index.
pub(super) struct Writes {
    pub(super) slots: KVec<Option<Waiting>>,
    pub(super) free: KVec<u16>,
    pub(super) active: usize,
    pub(super) flow: Flow,
    // Commands that wait for their turn, and the next turn.
    pub(super) turns: usize,
    pub(super) next_turn: u64,
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

    pub(super) fn get(&mut self, index: u16) -> Option<&mut Waiting> {
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
    pub(super) fn is_taken(&self, index: u16) -> bool {
        let slot = self.slots.get(usize::from(index));
        slot.is_some_and(|w| w.is_some())
    }

    pub(super) fn insert(&mut self, w: impl FnOnce(u16) -> Waiting) -> Option<u16> {
        let index = self.free.pop()?;
        let slot = self.slots.get_mut(usize::from(index))?;
        *slot = Some(w(index));
        self.active = self.active.saturating_add(1);
        Some(index)
    }

    pub(super) fn remove(&mut self, index: u16) -> Option<Waiting> {
        let w = self.slots.get_mut(usize::from(index))?.take()?;
        self.active = self.active.saturating_sub(1);
        if w.turn.is_some() {
            self.turns = self.turns.saturating_sub(1);
        }
        // It came from there, so there is room.
        let _ = self.free.push_within_capacity(index);
        Some(w)
    }

    pub(super) fn find(&self, which: impl Fn(&Waiting) -> bool) -> Option<u16> {
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

    /// The first time at which all data of a command must have come that others wait for, see [`super::holding`]; `Err` if a
    /// command's has not. `got`: bytes that the initiator has of what was sent.
    ///
    /// A command that waits for its turn does so for those that were asked for theirs: their time counts where others wait for it, whatever
    /// device they are for, and its own when it is asked.
    pub(super) fn earliest_end(
        &mut self,
        now: u64,
        (timeout, times): (u64, u32),
        got: u64,
    ) -> Result<u64, u16> {
        let mut earliest = NEVER;
        if self.active == 0 {
            return Ok(earliest);
        }
        let holds = |w: &Waiting| w.cmd.as_ref().is_some_and(|c| c.holds_others());
        let some = self.slots.iter().flatten().any(holds);
        let span = timeout.saturating_mul(u64::from(times).saturating_add(1));
        let moved = Moved {
            now,
            came: self.octets,
            got,
        };
        for (i, w) in (0u16..).zip(self.slots.iter_mut()) {
            let Some(w) = w else {
                continue;
            };
            let Some(cmd) = w.cmd.as_ref().filter(|_| some) else {
                w.holding = Holding::default();
                continue;
            };
            if w.turn.is_some() {
                w.holding.pause();
                continue;
            }
            w.holding.go_on(&moved, w.late);
            let most = self.flow.limit().max(cmd.wanted() as u64);
            match w.holding.left(span.saturating_add(w.grace), most) {
                0 => return Err(i),
                left => earliest = earliest.min(now.saturating_add(left)),
            }
        }
        Ok(earliest)
    }

    /// The connection has gone, and the commands are kept: nobody is asked for anything, and they have `ms` milliseconds more, once.
    pub(super) fn keep(&mut self, ms: u64) {
        for w in self.slots.iter_mut().flatten() {
            w.turn = None;
            w.grace = ms;
        }
        self.turns = 0;
    }

    // Provides memory for a command's data up to `end`; whether there is enough.
    pub(super) fn provide(&mut self, index: u16, end: usize) -> bool {
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
    pub(super) fn may_ask(&mut self, index: u16) -> bool {
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
    pub(super) fn leave_queue(&mut self, index: u16) {
        if self.get(index).is_some_and(|w| w.turn.take().is_some()) {
            self.turns = self.turns.saturating_sub(1);
        }
    }

    // The command whose turn it is, if there is room for its data. R2Ts may be sent for it then.
    pub(super) fn take_turn(&mut self) -> Option<u16> {
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
    pub(super) fn draining(&self, itt: Itt) -> Option<u16> {
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
        w.holding.pause();
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

    pub(super) fn give_up(self) {
        if let Some(cmd) = self.cmd {
            cmd.abort();
        }
        if let Some(reply) = self.held {
            reply.sent();
        }
    }
}
