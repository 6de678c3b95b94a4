// SPDX-License-Identifier: GPL-2.0

//! The end of a connection: what it has ends with it, or is kept for others of its session (RFC 7143, 7.14, 11.14).

use super::{
    estate::{self, Estate},
    ffp::{End, Ffp},
    link::Link,
    receive::{Data, Input, To},
};
use crate::{
    connection::{Close, Connection},
    discovery::Discovery,
    session::Stop,
    stats::SessionFailure,
    tx::Tx,
    Session,
};
use iscsi_proto::{
    custody::{Custody, Ended},
    ffp::Logout,
    pdu::AsyncEvent,
};
use kernel::{prelude::*, sync::Arc};
use lio_glue::thread::now_ms;
use lio_scsi::sense::Asc;

/// How often a session that ends looks whether its commands are done, in milliseconds.
const DRAIN_MS: u32 = 20;
/// How long the initiator may take to hear that its session ends, in milliseconds.
const FAREWELL_MS: u64 = 200;
/// How long it does so before the log tells of it, in milliseconds.
const PATIENCE_MS: u64 = 30_000;

/// A connection that was let in does not come to full feature phase after all.
pub(super) fn give_up(session: &Arc<Session>, own: &Connection) {
    let last = own.session.begin_leave(own);
    if last {
        session.close();
    }
    own.session.leave(own);
    if last {
        own.session.group.leave(&own.session);
    }
}

impl Ffp {
    // The connection has ended, in good order if there is no reason: all its commands come back before the thread goes, and
    // with the last connection the session ends.
    pub(super) fn end(mut self, why: Option<End>) {
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
        let (Some(session), Some(own)) = (self.session.take(), self.own.take()) else {
            // Its place is free after this.
            let discovery = self.discovery.take();
            let is_needed = |d: &Discovery| d.is_replaced() || d.is_wanted();
            self.link
                .linger(|| discovery.as_ref().is_some_and(is_needed));
            return;
        };
        let shared = own.session.clone();
        if let Some(End::Timeout(_)) = &why {
            let stats = &shared.group.target.stats;
            stats.session_failed(SessionFailure::Timeout, &self.initiator);
            shared.timeouts.inc();
        }
        let reset = own.closed() == Some(Close::Reset);
        if reset || shared.stopped().is_some_and(Stop::is_ours) {
            self.say_farewell();
        }
        self.parking.clear(&self.input, &mut self.writes);
        if let Input::Data(Data {
            to: To::Write(index),
            keep,
            check,
            ..
        }) = &self.input
        {
            if *keep > 0 || *check {
                self.writes.interrupt(*index);
            }
        }
        if let Some(order) = &shared.order {
            order.with(|o| o.leave(own.index()));
        }
        let logged_out = self.leaving.is_some() || own.closed().is_some();
        let mut rest = Rest {
            managing: self.tasks.clear(&own),
            session,
            orderly: why.is_none(),
            tell: !logged_out && shared.stopped().is_none(),
            own,
        };
        let how = self.how(&why, &rest.own);
        let custody = Custody::begin(&self.parameters, how, now_ms());
        let place = custody.and_then(|_| KBox::<Estate>::new_uninit(GFP_KERNEL).ok());
        let last = match (custody, self.retained.take(), place) {
            (Some(custody), Some(retained), Some(place)) => {
                let (immediate, borrowed) = (self.immediate, self.borrowed);
                // 7.14: immediate commands are not recovered.
                let of = |tag: u64| rest.own.owns(tag) && immediate.contains(&(tag as u32));
                if !immediate.is_empty() {
                    rest.session.abort_tags(Asc::CLEARED_BY_ISCSI_EVENT, &of);
                }
                let (mut writes, works) = (self.writes, self.works);
                // Of Time2Wait the greater value holds, whichever side's it is (13.15): no task is kept so long for which others wait.
                writes.keep(u64::from(self.parameters.time2retain).saturating_mul(1000));
                let left = |tx: &mut _| {
                    let mut left = Estate::new(custody, retained, writes, works, tx);
                    (left.immediate, left.borrowed) = (immediate, borrowed);
                    left
                };
                rest.leave_behind(self.link, |tx| KBox::write(place, left(tx)))
            }
            _ => {
                let last = rest.begin_leave();
                self.writes.clear();
                self.works.clear();
                if rest.tell && !last {
                    shared.tell_lost(&rest.own);
                }
                rest.close(self.link);
                last
            }
        };
        rest.leave(last);
    }

    // What becomes of what the connection has.
    fn how(&self, why: &Option<End>, own: &Connection) -> Ended {
        match (why, own.closed(), self.leaving) {
            _ if own.session.stopped().is_some() => Ended::ForGood,
            (_, Some(close), _) if close.is_for_good() => Ended::ForGood,
            (_, Some(_), _) => Ended::ForRecovery,
            (_, None, Some((_, Logout::Own(how)))) => how,
            // 7.7: what was malformed ends it.
            (None, None, _) => Ended::ForGood,
            (Some(_), None, _) => Ended::Lost,
        }
    }

    // Tells the initiator that the session ends (11.9), if it takes that soon.
    fn say_farewell(&mut self) {
        let (wait, retain) = (self.parameters.time2wait, 0);
        if self
            .tell(AsyncEvent::SessionDrop, (0, wait, retain))
            .is_ok()
        {
            self.link.deliver(FAREWELL_MS);
        }
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

/// What is left to be done for a connection that has ended.
struct Rest {
    session: Arc<Session>,
    own: Arc<Connection>,
    // Functions that are at work.
    managing: usize,
    // It has ended in good order.
    orderly: bool,
    // The initiator is to be told, if it does not know.
    tell: bool,
}

impl Rest {
    // Closes the connection. What was not sent is not sent any more: the replies go back. Pages that TCP has it drops with the reset.
    fn close(&self, mut link: KBox<Link>) {
        if self.orderly {
            // Somebody may wait for the session to go: its initiator port's next one does.
            let shared = &self.own.session;
            link.linger(|| shared.is_hurried() || self.own.closed().is_some());
            drop(link);
        } else {
            KBox::into_inner(link).abort();
        }
    }

    // Others may go on with what the connection has, until its time is over. Returns whether it was the last one then.
    fn leave_behind(
        &mut self,
        mut link: KBox<Link>,
        left: impl FnOnce(&mut Tx) -> KBox<Estate>,
    ) -> bool {
        let shared = &self.own.session;
        self.own.leave_behind(left(&mut link.tx));
        if self.tell {
            shared.tell_lost(&self.own);
        }
        shared.tell_retained();
        self.close(link);
        estate::keep(&self.session, &self.own, &mut self.managing);
        let last = self.begin_leave();
        estate::clear(&self.own);
        last
    }

    // No more is done for the connection's commands; all of the session, with its last connection.
    fn begin_leave(&self) -> bool {
        let own = &self.own;
        let last = own.session.begin_leave(own);
        match last {
            true => self.session.begin_close(),
            false => {
                // 11.14.5
                let told = Asc::CLEARED_BY_ISCSI_EVENT;
                self.session.abort_tags(told, &|tag| own.owns(tag));
            }
        }
        last
    }

    // Takes them back, and what functions are at work; then the connection has gone.
    fn leave(mut self, last: bool) {
        let shared = self.own.session.clone();
        if last && !self.orderly {
            shared.group.target.stats.abnormal_logouts.inc();
        }
        self.drain(last);
        if last {
            self.session.close();
        }
        drop(self.session);
        shared.leave(&self.own);
        // Nobody hands anything on to it any more; what just was goes on.
        estate::collect(&self.own);
        let left = self.own.estate.lock().take();
        drop(left);
        if last {
            shared.group.leave(&shared);
        }
    }

    fn drain(&mut self, last: bool) {
        let (session, own) = (&self.session, &*self.own);
        let shared = &own.session;
        let mut told = now_ms();
        loop {
            end_functions(own, &mut self.managing);
            estate::collect(own);
            let done = match last {
                true => session.is_drained(),
                false => {
                    self.managing == 0
                        && !session.has_tag(&|tag| own.owns(tag))
                        && !estate::has_away(own)
                }
            };
            if done {
                return;
            }
            if now_ms().saturating_sub(told) > PATIENCE_MS {
                told = now_ms();
                pr_warn!(
                    "{}: the session of {} at {} cannot end yet: {} commands are still with the back end\n",
                    shared.group.core.path(),
                    shared.initiator,
                    own.peer,
                    session.in_flight()
                );
            }
            own.waker.wait(Some(DRAIN_MS));
        }
    }
}

/// Takes back the functions that have ended, of those at work on a connection that has gone.
pub(super) fn end_functions(own: &Connection, managing: &mut usize) {
    while let Some(done) = own.take_managed() {
        *managing = managing.saturating_sub(1);
        if let (true, Some(order)) = (done.numbered, &own.session.order) {
            order.with(|o| o.release());
        }
    }
}
