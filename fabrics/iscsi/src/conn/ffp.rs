// SPDX-License-Identifier: GPL-2.0

//! Full feature phase (RFC 7143, 4.3): the loop of a connection's thread.

use super::{
    gap::Gap,
    link::Link,
    login::{LoggedIn, IMMEDIATE},
    receive::Input,
    retained::Retained,
    text::Texts,
    timers::Timers,
    work::Works,
    write::Writes,
};
use crate::{
    digest::Digests,
    memory::Floor,
    name::Name,
    session::{event, Shared},
    stats::SessionFailure,
    Session,
};
use iscsi_proto::{
    error::{Error as Wrong, RejectReason},
    ffp::Managing,
    login::SessionType,
    negotiate::Parameters,
    pdu,
    seq::{CmdWindow, StatSeq},
    wire::{Bhs, Cid, BHS_LEN},
};
use kernel::{
    prelude::*,
    sync::{atomic::Relaxed, Arc},
};
use lio_glue::thread::now_ms;

/// PDUs that are received before replies are looked for.
const BATCH: usize = 64;
/// How often a session that ends looks whether its commands are done, in milliseconds.
const DRAIN_MS: u32 = 20;
/// How long it does so before the log tells of it, in milliseconds.
const PATIENCE_MS: u64 = 30_000;

/// Why a connection ends.
pub(super) enum End {
    /// The other side has closed, or TCP has given up.
    Lost,
    /// The initiator does not answer in time.
    Timeout(&'static str),
    /// Something ran out.
    Broken(Error),
    /// Somebody here wants it so.
    Stopped(&'static str),
}

impl From<Error> for End {
    fn from(e: Error) -> Self {
        if e == ECONNRESET || e == EPIPE || e == ETIMEDOUT {
            End::Lost
        } else {
            End::Broken(e)
        }
    }
}

/// A connection in full feature phase.
pub(super) struct Ffp {
    pub(super) link: KBox<Link>,
    pub(super) kind: SessionType,
    pub(super) initiator: Name,
    pub(super) cid: Cid,
    /// `None` in a discovery session.
    pub(super) session: Option<Arc<Session>>,
    pub(super) window: CmdWindow,
    pub(super) stat: StatSeq,
    pub(super) parameters: Parameters,
    pub(super) digests: Digests,
    /// At error recovery level 1.
    pub(super) retained: Option<KBox<Retained>>,
    /// SNACKs that wait.
    pub(super) snacks: KVec<Bhs>,
    pub(super) gap: Gap,
    pub(super) input: Input,
    /// Of the PDU whose data comes in, where that is looked at when the data is there.
    pub(super) header: Bhs,
    pub(super) writes: Writes,
    pub(super) works: Works,
    pub(super) texts: Texts,
    pub(super) timers: Timers,
    /// Task management functions at work.
    pub(super) managing: Managing,
    /// The window of commands has opened, and no response has told of it yet.
    pub(super) opened: bool,
    /// The last PDU had data.
    pub(super) streaming: bool,
    /// What is queued is sent, then the connection is closed.
    pub(super) closing: bool,
}

/// Runs full feature phase to its end.
pub(super) fn run(link: KBox<Link>, logged_in: LoggedIn) {
    let LoggedIn {
        outcome,
        initiator,
        session,
        ..
    } = logged_in;
    let shared = session.as_ref().map(|s| s.private().clone());
    let slots = match &session {
        Some(_) => outcome.depth.saturating_add(IMMEDIATE),
        None => 0,
    };
    let floor = shared.as_ref().map_or(Floor::LEAST, |s| s.floor());
    let retain = || match outcome.parameters.recovery_level {
        0 => Ok(None),
        _ => KBox::new(
            Retained::new(&link.global.memory, outcome.next_stat_sn),
            GFP_KERNEL,
        )
        .map(Some),
    };
    let made = Writes::new(slots, &link.global.memory, floor).and_then(|w| Ok((w, retain()?)));
    let (writes, retained) = match made {
        Ok(made) => made,
        Err(e) => {
            pr_err!("iscsi: a session of {}: {:?}\n", initiator, e);
            if let (Some(session), Some(shared)) = (session, shared) {
                session.close();
                shared.group.leave(&shared);
            }
            return;
        }
    };
    let mut ffp = Ffp {
        works: Works::new(&link.global.memory, floor),
        link,
        kind: outcome.session_type,
        initiator,
        cid: Cid(shared.as_ref().map_or(0, |s| s.cid)),
        session,
        window: CmdWindow::new(outcome.first_cmd_sn, outcome.depth),
        stat: StatSeq::new(outcome.next_stat_sn),
        parameters: outcome.parameters,
        digests: Digests::of(&outcome.parameters),
        retained,
        snacks: KVec::new(),
        gap: Gap::new(),
        input: Input::Header,
        header: [0; BHS_LEN],
        writes,
        texts: Texts::new(),
        timers: Timers::new(now_ms()),
        managing: Managing::default(),
        opened: false,
        streaming: false,
        closing: false,
    };
    ffp.link.tx.set_digests(ffp.digests);
    let shared = shared.as_deref();
    if let Some(shared) = shared {
        ffp.publish(shared);
    }
    let end = loop {
        match ffp.turn(shared) {
            Ok(true) => {}
            Ok(false) => break None,
            Err(end) => break Some(end),
        }
    };
    ffp.end(shared, end);
}

impl Ffp {
    // One turn: what has happened, what has come, what is to go. False: the connection has ended in good order.
    fn turn(&mut self, shared: Option<&Shared>) -> Result<bool, End> {
        let events = self.link.wait(self.timers.sleep_ms());
        self.timers.tick();
        // A part of a PDU may have come, which is no event; but it shows that the initiator is there.
        if self.timers.is_due() {
            self.link.readable = true;
        }
        // The event may have come, and gone, while the login's last response was sent.
        if let Some(why) = shared.and_then(|s| s.stopped()) {
            return Err(End::Stopped(why.reason()));
        }
        if events & event::KICK != 0 {
            self.give_up_aborted();
        }
        // Whether there may be something that was not looked at.
        let mut more = !self.closing;
        for _ in 0..BATCH {
            if self.closing || self.link.tx.is_full() {
                break;
            }
            if !self.receive()? {
                more = false;
                break;
            }
            if !self.gap.is_empty() {
                self.close_gap()?;
            }
        }
        if let Some(shared) = shared {
            self.answer_all(shared)?;
            self.ask_waiting()?;
        }
        self.link.flush()?;
        if self.retained.is_some() {
            self.take_kept()?;
        }
        if let Some(shared) = shared {
            self.publish(shared);
            self.go_on_with_works();
        }
        if self.closing && self.link.tx.is_empty() {
            return Ok(false);
        }
        // What is full now is not so when TCP has room again, which is an event; what has become empty is none.
        self.timers.busy = more && !self.closing && !self.link.tx.is_full();
        if self.closing {
            self.timers.close_soon();
        }
        if self.timers.is_due() {
            self.check_timers(shared)?;
            self.link.flush()?;
            self.go_on_with_works();
        }
        Ok(true)
    }

    fn publish(&self, shared: &Shared) {
        shared.exp_cmd_sn.store(self.window.expected().0, Relaxed);
        shared.max_cmd_sn.store(self.window.max().0, Relaxed);
        shared.stat_sn.store(self.stat.next().0, Relaxed);
        shared.tx_octets.set(self.link.tx.data_octets);
        shared.rx_octets.set(self.writes.octets);
        shared.rsp_pdus.set(self.link.tx.pdus_made);
    }

    /// Rejects a PDU (RFC 7143, 11.17), and closes the connection if the error is of that kind.
    pub(super) fn reject(&mut self, bhs: &Bhs, wrong: &Wrong) -> Result {
        if self.link.portal.throttle.allow() {
            pr_warn!(
                "iscsi: {} at {}: PDU {:#04x} rejected{}: {}\n",
                self.initiator,
                self.link.peer,
                bhs.first().map_or(0, |b| b & 0x3f),
                if wrong.close {
                    ", connection closed"
                } else {
                    ""
                },
                wrong.clause
            );
        }
        if wrong.close {
            self.count_failure(match wrong.reason {
                RejectReason::DataDigest => SessionFailure::Digest,
                _ => SessionFailure::Format,
            });
            self.closing = true;
        }
        let sn = self.window.numbers(&mut self.stat);
        let mut head = [0; 48];
        pdu::Reject::new(wrong.reason, sn).emit(&mut head);
        self.respond(&head, bhs)
    }

    pub(super) fn count_failure(&self, why: SessionFailure) {
        if let Some(session) = &self.session {
            let stats = &session.private().group.target.stats;
            stats.session_failed(why, &self.initiator);
        }
    }

    // The connection has ended, in good order if there is no reason: all commands come back before the thread goes.
    fn end(self, shared: Option<&Shared>, why: Option<End>) {
        match &why {
            None | Some(End::Lost) => {}
            Some(End::Timeout(what)) => self.complain(what),
            Some(End::Stopped(what)) => {
                if self.link.portal.throttle.allow() {
                    pr_info!("iscsi: session of {}: {}\n", self.initiator, what);
                }
            }
            Some(End::Broken(e)) => {
                if self.link.portal.throttle.allow() {
                    pr_warn!("iscsi: session of {} ended: {:?}\n", self.initiator, e);
                }
            }
        }
        if let Some(End::Timeout(_)) = &why {
            self.count_failure(SessionFailure::Timeout);
            if let Some(shared) = shared {
                shared.timeouts.inc();
            }
        }
        let Ffp {
            mut link,
            session,
            mut writes,
            mut works,
            retained,
            gap,
            ..
        } = self;
        drop((retained, gap));
        let Some(session) = session else {
            link.linger(|| false);
            return;
        };
        let shared = session.private().clone();
        shared.set_ending();
        session.begin_close();
        writes.clear();
        works.clear();
        if why.is_none() {
            // Somebody may wait for the session to go: its initiator port's next one does.
            link.linger(|| shared.stopped().is_some());
        } else {
            shared.group.target.stats.abnormal_logouts.inc();
        }
        // What was not sent is not sent any more: the replies go back. Pages that TCP has it drops with the reset.
        let waker = link.waker.clone();
        let link = KBox::into_inner(link);
        if why.is_some() {
            link.abort();
        } else {
            drop(link);
        }
        let mut told = now_ms();
        loop {
            shared.replies.drain().for_each(|reply| reply.sent());
            if session.is_drained() {
                break;
            }
            if now_ms().saturating_sub(told) > PATIENCE_MS {
                told = now_ms();
                pr_warn!(
                    "{}: the session of {} at {} cannot end yet: {} commands are still with the back end\n",
                    shared.group.core.path(),
                    shared.initiator,
                    shared.peer,
                    session.in_flight()
                );
            }
            waker.wait(Some(DRAIN_MS));
        }
        session.close();
        drop(session);
        shared.group.leave(&shared);
    }

    fn complain(&self, what: &str) {
        if self.link.portal.throttle.allow() {
            pr_warn!(
                "iscsi: session of {} at {} ended: {}\n",
                self.initiator,
                self.link.peer,
                what
            );
        }
    }
}
