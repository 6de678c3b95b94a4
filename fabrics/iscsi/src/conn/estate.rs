// SPDX-License-Identifier: GPL-2.0

//! What a connection leaves behind at error recovery level 2, for others of the session to go on with (RFC 7143, 7.2.2).
//!
//! The connection's thread keeps it until its time is over. What it may take is what the connection could have had: its seat, its
//! commands, which are the session's, and what it has not been told to be acknowledged.

use super::{
    retained::{Entry, Retained},
    work::Works,
    writes::{Waiting, Writes},
};
use crate::{
    connection::{Close, Connection},
    session::Shared,
    tx::Tx,
    Iscsi, Reply, Request, Session,
};
use iscsi_proto::{
    custody::{Custody, Fate, Place},
    wire::Itt,
};
use kernel::{prelude::*, sync::Arc};
use lio_glue::thread::now_ms;
use lio_scsi::sense::{Asc, Key, Sense};
use target_core::command::{Cmd, Ready};

/// What is left of a connection.
pub(crate) struct Estate {
    pub(super) custody: Custody,
    pub(super) retained: KBox<Retained>,
    pub(super) writes: Writes,
    pub(super) works: Works,
    // Commands that have been answered since.
    replies: KVec<Reply>,
    /// Those that end with the connection.
    pub(super) immediate: KVec<u32>,
    /// Commands at work that began on other connections: their answers come from there.
    pub(super) borrowed: KVec<u32>,
}

/// A task that goes on.
pub(super) enum Task {
    /// Its response was sent, and is not acknowledged.
    Answered(Entry),
    /// It is to be answered.
    Finished(Reply),
    /// Its data is to come.
    Writing(Waiting),
    /// It is to be executed.
    Ready(Cmd<Iscsi, Ready>),
    /// Its answer will come.
    AtWork,
}

impl Estate {
    /// What was to be sent by `tx` counts as sent, and as not acknowledged.
    pub(super) fn new(
        custody: Custody,
        retained: KBox<Retained>,
        writes: Writes,
        works: Works,
        tx: &mut Tx,
    ) -> Self {
        let mut estate = Estate {
            custody,
            retained,
            writes,
            works,
            replies: KVec::new(),
            immediate: KVec::new(),
            borrowed: KVec::new(),
        };
        while let Some((sn, data)) = tx.take_kept() {
            estate.retained.attach(sn, data);
        }
        while let Some((mut reply, keep)) = tx.take_unsent() {
            let held = reply.request().memory;
            if let Some(sn) = keep {
                estate.retained.attach(sn, reply.take_data());
            }
            reply.sent();
            estate.works.settle(usize::from(held > 0), held);
        }
        let (commands, bytes) = tx.take_sent();
        estate.works.settle(commands, bytes);
        estate
    }

    /// See [`Custody::log_out`].
    pub(crate) fn log_out(&mut self, now: u64) {
        self.custody.log_out(now);
    }

    /// Where a task is. `live`: there is a command with this tag whose response was not sent. That goes before one whose response
    /// was sent, and not acknowledged: where one before that was lost, the initiator may have used the tag again.
    pub(crate) fn place(&mut self, itt: Itt, live: bool) -> Option<Place> {
        if self.immediate.contains(&itt.0) {
            return Some(Place::Nowhere);
        }
        let logged_out = self.custody.is_logged_out();
        if live {
            return Some(Place::Kept(logged_out));
        }
        Some(match self.retained.has_response(itt)? {
            true => Place::Kept(logged_out),
            false => Place::Incomplete(logged_out),
        })
    }

    fn has_tasks(&self) -> bool {
        !self.replies.is_empty()
            || !self.writes.is_empty()
            || self.works.has_waiting(|_| true)
            || self.retained.has_responses()
    }

    fn take(&mut self, itt: Itt) -> Option<Task> {
        let of = |r: &Reply| r.request().itt == itt.0;
        if let Some(i) = self.replies.iter().position(of) {
            let mut reply = self.replies.remove(i).ok()?;
            self.settle(reply.request_mut());
            return Some(Task::Finished(reply));
        }
        if let Some(mut waiting) = self.writes.take(itt) {
            if let Some(request) = waiting.request_mut() {
                self.writes.settle(&request.load);
                return Some(Task::Writing(waiting));
            }
            if let Some(mut reply) = waiting.into_held() {
                self.settle(reply.request_mut());
                return Some(Task::Finished(reply));
            }
            return None;
        }
        if let Some(mut cmd) = self.works.take_waiting(itt.0) {
            if let Some(request) = cmd.request_mut() {
                self.writes.settle(&request.load);
            }
            return Some(Task::Ready(cmd));
        }
        None
    }

    // The command does not count here any more. What it counts for stays with it, for who goes on with it.
    fn settle(&mut self, request: &mut Request) {
        self.writes.settle(&request.load);
        self.works
            .settle(usize::from(request.memory > 0), request.memory);
        request.drains = false;
    }

    /// Ends what is here.
    fn clear(&mut self, shared: &Shared) {
        self.writes.clear();
        self.works.clear();
        for reply in core::mem::take(&mut self.replies) {
            shared.forget(reply);
        }
    }
}

/// Takes a task out of what `keeper` has left, for `own`.
pub(super) fn take(
    keeper: &Connection,
    itt: Itt,
    session: &Session,
    own: &Connection,
) -> Option<Task> {
    let mut estate = keeper.estate.lock();
    let estate = estate.as_deref_mut()?;
    let task = estate.take(itt);
    let is_live = session.retag(keeper.tag(itt.0), own.tag(itt.0));
    match task {
        None if is_live => {
            if !estate.gives_back(itt.0) {
                estate.custody.sent_away();
            }
            Some(Task::AtWork)
        }
        None => estate.retained.take_response(itt).map(Task::Answered),
        task => task,
    }
}

/// What comes back for a connection that has gone is kept, or goes to the one that goes on with it.
pub(super) fn collect(own: &Connection) {
    let shared = &*own.session;
    let direct = own.replies.drain().map(|r| (r, false));
    let adopted = own.adopted.drain().map(|r| (r, true));
    for (mut reply, adopted) in Iterator::chain(direct, adopted) {
        let mut guard = own.estate.lock();
        // Within the lock, see [`take`].
        let tag = reply.tag_now();
        let Some(estate) = guard.as_deref_mut() else {
            drop(guard);
            match own.owns(tag) {
                true => shared.forget(reply),
                false => shared.hand_on(reply),
            }
            continue;
        };
        if adopted {
            // It counts nowhere.
            estate.gives_back(reply.request().itt);
            reply.request_mut().load = estate.writes.receive(&reply.request().load);
            estate.works.receive(reply.request().memory);
        }
        if reply.request().drains {
            // Nobody waits for data any more.
            estate.writes.stop_draining(Itt(reply.request().itt));
        }
        if !own.owns(tag) {
            estate.settle(reply.request_mut());
            if !adopted {
                estate.custody.came_back();
            }
            drop(guard);
            shared.hand_on(reply);
        } else if reply.is_aborted() || own.is_leaving() {
            estate.settle(reply.request_mut());
            drop(guard);
            shared.forget(reply);
        } else if let Some(reply) = estate.keep(reply) {
            drop(guard);
            shared.forget(reply);
        }
    }
}

impl Estate {
    // A command that began elsewhere is not waited for any more; false if it began here.
    fn gives_back(&mut self, itt: u32) -> bool {
        let before = self.borrowed.len();
        self.borrowed.retain(|b| *b != itt);
        self.borrowed.len() != before
    }

    // Ends a command that others have waited for too long; gives the time until which none has to, or until which that may be otherwise:
    // it is so as soon as an ORDERED command comes, from whomever.
    fn spare_others(&mut self, now: u64, timeouts: (u64, u32)) -> Option<u64> {
        loop {
            match self.writes.earliest_end(now, timeouts, 0) {
                Ok(_) if self.writes.is_empty() => return None,
                Ok(until) => return Some(until.min(now.saturating_add(timeouts.0))),
                Err(index) => {
                    let waiting = self.writes.remove(index);
                    if let Some(cmd) = waiting.and_then(|w| w.cmd) {
                        let told = Asc::CLEARED_BY_ISCSI_EVENT;
                        cmd.fail(Sense::new(Key::AbortedCommand, told));
                    }
                }
            }
        }
    }

    // An answer that nobody is to have any more. Who has aborted its command waits until it is gone.
    fn take_aborted(&mut self) -> Option<Reply> {
        let mut reply = match self.replies.iter().position(|r| r.is_awaited()) {
            Some(i) => self.replies.remove(i).ok()?,
            None => self.writes.take_awaited()?,
        };
        self.settle(reply.request_mut());
        Some(reply)
    }

    // Without memory, it comes back.
    fn keep(&mut self, mut reply: Reply) -> Option<Reply> {
        if self.replies.reserve(1, GFP_KERNEL).is_err() {
            self.settle(reply.request_mut());
            return Some(reply);
        }
        self.replies.push_within_capacity(reply).err().map(|e| e.0)
    }
}

/// Keeps what a connection has left until others have taken it, its time is over, or somebody wants it to end.
pub(super) fn keep(session: &Arc<Session>, own: &Connection, managing: &mut usize) {
    let shared = &own.session;
    loop {
        collect(own);
        super::end::end_functions(own, managing);
        let ends = own.closed().is_some_and(Close::is_for_good);
        if ends || shared.stopped().is_some() {
            return;
        }
        let others = shared.has(Connection::is_here);
        let at_work = *managing > 0 || session.has_tag(&|tag| own.owns(tag));
        let (fate, aborted, look) = {
            let mut estate = own.estate.lock();
            let Some(estate) = estate.as_deref_mut() else {
                return;
            };
            estate.writes.clear_aborted();
            estate.works.clear_aborted();
            let aborted = estate.take_aborted();
            let now = now_ms();
            let look = estate.spare_others(now, shared.data_timeout());
            let tasks = at_work || estate.has_tasks();
            (estate.custody.fate(now, tasks, others), aborted, look)
        };
        if let Some(reply) = aborted {
            shared.forget(reply);
            continue;
        }
        let Fate::Stays(until) = fate else {
            return;
        };
        if !own.replies.is_empty() {
            continue;
        }
        let until = look.map_or(until, |look| look.min(until));
        let ms = until.saturating_sub(now_ms()).max(1);
        own.waker.wait(Some(u32::try_from(ms).unwrap_or(u32::MAX)));
    }
}

/// The time is over: what others have not taken ends.
pub(super) fn clear(own: &Connection) {
    if let Some(estate) = own.estate.lock().as_deref_mut() {
        estate.clear(&own.session);
    }
}

/// Whether commands that others go on with have still to come back here.
pub(super) fn has_away(own: &Connection) -> bool {
    let estate = own.estate.lock();
    estate.as_ref().is_some_and(|e| e.custody.has_away())
}
