// SPDX-License-Identifier: GPL-2.0

//! Full feature phase (RFC 7143, 4.3): the loop of a connection's thread.

use super::{
    ask::Asked,
    end::give_up,
    flow::Flow,
    gap::Gap,
    link::Link,
    login::{LoggedIn, IMMEDIATE},
    parking::Parking,
    receive::Input,
    retained::Retained,
    task::Tasks,
    text::Texts,
    timers::Timers,
    window::Window,
    work::Works,
    writes::Writes,
};
use crate::{
    connection::Connection,
    digest::Digests,
    discovery::Discovery,
    memory::Floor,
    name::Name,
    session::{event, Stop},
    stats::SessionFailure,
    Session,
};
use iscsi_proto::{
    error::{Error as Wrong, RejectReason},
    ffp::Logout,
    login::SessionType,
    negotiate::Parameters,
    pdu,
    seq::StatSeq,
    wire::{Bhs, Cid, Itt, BHS_LEN},
};
use kernel::{
    prelude::*,
    sync::{atomic::Relaxed, Arc},
};
use lio_glue::thread::now_ms;

/// PDUs that are received before replies are looked for.
const BATCH: usize = 64;

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
    /// What others know of it; `None` in a discovery session.
    pub(super) own: Option<Arc<Connection>>,
    /// The place of such a one.
    pub(super) discovery: Option<Discovery>,
    pub(super) window: Window,
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
    pub(super) asked: Asked,
    pub(super) tasks: Tasks,
    /// The window of commands has opened, and no response has told of it yet.
    pub(super) opened: bool,
    /// Immediate commands that are not answered, at error recovery level 2: as many as the session may have at most.
    pub(super) immediate: KVec<u32>,
    /// Commands at work that began on other connections, and go on here.
    pub(super) borrowed: KVec<u32>,
    /// What waits for commands of other connections; and that it may be the turn of the first.
    pub(super) parking: Parking,
    pub(super) turn_came: bool,
    /// A logout request that is not answered yet, or by which the connection closes.
    pub(super) leaving: Option<(Itt, Logout)>,
    /// The last PDU had data.
    pub(super) streaming: bool,
    /// What is queued is sent, then the connection is closed.
    pub(super) closing: bool,
    // The first turn is still to come.
    fresh: bool,
}

/// Runs full feature phase to its end.
///
/// Commands are executed on this thread's stack, and a back end may need much of it: what is only there in the beginning and at
/// the end must not take any.
pub(super) fn run(link: KBox<Link>, logged_in: LoggedIn) {
    let Some(mut ffp) = begin(link, logged_in) else {
        return;
    };
    let own = ffp.own.clone();
    let end = loop {
        match ffp.turn(own.as_deref()) {
            Ok(true) => {}
            Ok(false) => break None,
            Err(end) => break Some(end),
        }
    };
    if let Some(own) = own {
        if own.rest() {
            own.waker.wake(event::REPLY);
        }
    }
    end_of(ffp, end);
}

#[inline(never)]
fn end_of(ffp: KBox<Ffp>, why: Option<End>) {
    KBox::into_inner(ffp).end(why);
}

#[inline(never)]
fn begin(link: KBox<Link>, logged_in: LoggedIn) -> Option<KBox<Ffp>> {
    let LoggedIn {
        outcome,
        initiator,
        session,
        own,
        discovery,
    } = logged_in;
    let shared = own.as_ref().map(|own| &own.session);
    let (written, read) = shared.and_then(|s| s.pools.clone()).unzip();
    let budget = &link.global.memory;
    let floor = own.as_ref().map_or(Floor::LEAST, |own| own.floor());
    let flow = Flow::new(budget, floor, written, outcome.parameters.max_connections);
    let slots = match &session {
        Some(_) => outcome.depth.saturating_add(IMMEDIATE),
        None => 0,
    };
    let retain = || match outcome.parameters.recovery_level {
        0 => Ok(None),
        _ => KBox::new(
            Retained::new(&link.global.memory, outcome.next_stat_sn),
            GFP_KERNEL,
        )
        .map(Some),
    };
    let made = Writes::new(slots, flow)
        .and_then(|w| Ok((w, retain()?, KBox::<Ffp>::new_uninit(GFP_KERNEL)?)));
    let (writes, retained, place) = match made {
        Ok(made) => made,
        Err(e) => {
            pr_err!("iscsi: a session of {}: {:?}\n", initiator, e);
            if let (Some(session), Some(own)) = (session, own) {
                give_up(&session, &own);
            }
            return None;
        }
    };
    let mut ffp = Ffp {
        works: Works::new(budget, floor, read),
        kind: outcome.session_type,
        initiator,
        cid: Cid(own.as_ref().map_or(0, |own| own.cid)),
        window: Window::new(outcome.first_cmd_sn, outcome.depth, shared.map(|s| &**s)),
        link,
        session,
        own: own.clone(),
        discovery,
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
        asked: Asked::new(shared.map_or(0, |s| s.asks.negotiations().0)),
        tasks: Tasks::new(),
        opened: false,
        immediate: KVec::new(),
        borrowed: KVec::new(),
        parking: Parking::new(),
        turn_came: false,
        leaving: None,
        streaming: false,
        closing: false,
        fresh: true,
    };
    ffp.link.tx.set_digests(ffp.digests);
    if let Some(own) = &own {
        ffp.publish(own);
    }
    Some(KBox::write(place, ffp))
}

impl Ffp {
    // One turn: what has happened, what has come, what is to go. False: the connection has ended in good order.
    fn turn(&mut self, own: Option<&Connection>) -> Result<bool, End> {
        let mut events = self.link.wait(self.timers.sleep_ms());
        if let Some(own) = own {
            own.attend();
        }
        if core::mem::take(&mut self.fresh) {
            // Each may have come, and gone, while the login's last response was sent.
            events |= event::ALL;
        }
        self.timers.tick();
        // A part of a PDU may have come, which is no event; but it shows that the initiator was there then.
        if self.timers.is_due() && !self.link.readable {
            self.link.readable = true;
            self.timers.came_before(self.link.sock.idle_ms());
        }
        if let Some(own) = own {
            self.look_for_end(own)?;
            self.heed_asks(own)?;
        }
        if let Some(discovery) = &self.discovery {
            if discovery.is_replaced() {
                return Err(End::Stopped(Stop::Reinstated.reason()));
            }
            if discovery.is_wanted() {
                return Err(End::Stopped("others need its place"));
            }
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
        if let Some(own) = own {
            if own.session.order.is_some() {
                self.attend(own, events)?;
            }
            self.answer_all(own)?;
            self.ask_waiting()?;
        }
        self.link.flush()?;
        if self.retained.is_some() {
            self.take_kept()?;
            // It answers SNACKs, which may be all that there is to send.
            self.link.flush()?;
        }
        if let Some(own) = own {
            self.publish(own);
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
            self.check_timers()?;
            self.link.flush()?;
            self.go_on_with_works();
        }
        if own.is_some_and(|own| own.rest()) && !self.tasks.is_fenced() {
            self.timers.busy = true;
        }
        Ok(true)
    }

    // Whether somebody wants the connection, or its session, to end.
    fn look_for_end(&self, own: &Connection) -> Result<(), End> {
        match own.session.stopped() {
            // This connection answers a logout, and goes then.
            Some(Stop::LoggedOut)
                if matches!(self.leaving, Some((_, Logout::Session | Logout::Own(_)))) => {}
            Some(why) => return Err(End::Stopped(why.reason())),
            None => {}
        }
        match own.closed() {
            Some(why) => Err(End::Stopped(why.reason())),
            None => Ok(()),
        }
    }

    // What goes on between the connections of a session.
    fn attend(&mut self, own: &Connection, events: u32) -> Result<(), End> {
        if events & event::TURN != 0 {
            self.turn_came = true;
            self.begin_waiting(own)?;
        }
        if self.turn_came {
            self.unpark()?;
        }
        if events & event::LEFT != 0 {
            self.heed_departures(own)?;
        }
        self.adopt_all(own)?;
        // Before they are noted, the answers that are there are sent.
        self.answer_all(own)?;
        self.pass_fences(own)?;
        self.serve_fences(own, events)?;
        // What came while the fence was there, which may just have been lifted.
        Ok(self.adopt_all(own)?)
    }

    fn publish(&self, own: &Connection) {
        let (expected, max) = self.window.bounds();
        own.session.exp_cmd_sn.store(expected.0, Relaxed);
        own.session.max_cmd_sn.store(max.0, Relaxed);
        own.stat_sn.store(self.stat.next().0, Relaxed);
        own.tx_octets.set(self.link.tx.data_octets);
        own.rx_octets.set(self.writes.octets);
        own.rsp_pdus.set(self.link.tx.pdus_made);
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
}
