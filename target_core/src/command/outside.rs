// SPDX-License-Identifier: GPL-2.0

//! Commands that wait for limits, or for what their fabric lacks, outside their task set.
//!
//! A device is one task set for all initiators, and the limits of one of them are not to hold the others, nor is one that does not take
//! its answers: a command that has to wait for a limit, or for memory, takes its place when that is over, as if it had come then. What one
//! I_T nexus sends keeps the order that the task attributes ask for (SAM-5 8.6): an ORDERED command takes its place behind all that came
//! before it through its nexus, others do behind the ORDERED ones, so that these are outside, too, while one of those is, and hold nobody
//! else meanwhile. They are numbered as they come; who goes in or ends has those go on that were waiting for it.

use super::{
    begin::{in_turn, put_off},
    reply, reply_aborted, Command, Shared,
};
use crate::{fabric::Fabric, order, session::Session};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full, Relaxed},
        SpinLock,
    },
};
use lio_glue::{
    clock, one_class,
    slot::{Host, List, Token},
};
use lio_policy::order::Place;
use lio_scsi::{lun::Lun as LunNumber, status::Status, task::Attribute};

/// What a session has of it.
#[pin_data]
pub(crate) struct Outside {
    // The next one's.
    number: Atomic<u64>,
    // How many are outside, and how many of them are ORDERED.
    all: Atomic<u32>,
    ordered: Atomic<u32>,
    // Those whose limit is over, if they had one, and that others have to go in before. With the lock, each is outside or in its place.
    #[pin]
    behind: SpinLock<List<Command, Shared>>,
}

impl Outside {
    pub(crate) fn new() -> impl PinInit<Self> {
        // It is a generic function that makes it.
        let (name, class) = one_class!("Outside::behind");
        pin_init!(Outside {
            number: Atomic::new(0),
            all: Atomic::new(0),
            ordered: Atomic::new(0),
            behind <- SpinLock::new(List::new(), name, class),
        })
    }

    // Whether some may have to go in before one with this attribute that comes now. What came before through the same nexus is counted.
    #[inline]
    fn may_hold(&self, attribute: Attribute) -> bool {
        let count = match attribute {
            Attribute::HeadOfQueue => return false,
            Attribute::Ordered => &self.all,
            Attribute::Simple | Attribute::Aca => &self.ordered,
        };
        count.load(Acquire) != 0
    }

    // One more, and its number.
    fn begin(&self, ordered: bool) -> u64 {
        self.all.fetch_add(1, Full);
        if ordered {
            self.ordered.fetch_add(1, Full);
        }
        self.number.fetch_add(1, Relaxed)
    }

    fn end(&self, ordered: bool) {
        self.all.fetch_sub(1, Full);
        if ordered {
            self.ordered.fetch_sub(1, Full);
        }
    }

    /// Commands were aborted: those that wait here go on, to be answered as such. Process context.
    pub(crate) fn let_aborted_go(&self) {
        if self.all.load(Acquire) != 0 {
            let aborted = self.behind.lock().take(|c| c.shared().is_aborted());
            finish(aborted);
        }
    }
}

/// The command takes its place behind those that are there, or will when its limit is over; whether there is one for it.
pub(super) fn arrive<F: Fabric>(token: &mut Token<Session<F>>) -> bool {
    let Some(nexus) = &token.nexus else {
        return true;
    };
    let device = nexus.lun().device();
    let attribute = order::attribute(device, token);
    let outside = token.host().core().outside();
    let has_to_wait = || {
        let _behind = outside.behind.lock();
        is_held(token, attribute, u64::MAX)
    };
    if token.due != 0 || outside.may_hold(attribute) && has_to_wait() {
        let ordered = attribute == Attribute::Ordered;
        token.shared().stay_outside(outside.begin(ordered), ordered);
        token.out = Some(token.taken.map_or_else(clock::now_ns, |taken| taken.at));
        return true;
    }
    match device.order().arrive(attribute, token.shared()) {
        Some(place) => {
            token.place = place;
            true
        }
        None => false,
    }
}

/// The command has to wait for what its fabric lacks, and leaves its place meanwhile; whether it may. It may not where its data took its
/// time and there are ORDERED commands: those that came behind it hold what it waits for, perhaps, or are not to go before it.
pub(super) fn stand_aside<F: Fabric>(token: &mut Token<Session<F>>) -> bool {
    let Some(nexus) = token.nexus.clone() else {
        return true;
    };
    let order = nexus.lun().device().order();
    let outside = token.host().clone();
    let outside = outside.core().outside();
    // Also outside the task set: where this one is ordered, or what is behind it.
    let in_order = || order.is_active() || outside.ordered.load(Acquire) != 0;
    let may = |token: &Token<Session<F>>| token.wanted == 0 || !in_order();
    if !may(token) {
        return false;
    }
    token.shared().wait();
    if token.out.is_some() {
        return true;
    }
    let place = core::mem::replace(&mut token.place, Place::Free);
    token.out = Some(clock::now_ns());
    let number = outside.begin(place.is_ordered());
    token.shared().stay_outside(number, place.is_ordered());
    if let Place::Ordered(number) = place {
        order.end(number, nexus.lun().device());
    }
    // One that came meanwhile is behind it, or has waited for it.
    may(token)
}

/// The command's limit is over, if it had one: it takes its place, and is executed when it is its turn. Process context.
pub(super) fn enter<F: Fabric>(mut token: Token<Session<F>>) {
    let Some(nexus) = token.nexus.clone() else {
        return reply_aborted(token);
    };
    let device = nexus.lun().device();
    let attribute = order::attribute(device, &token);
    let session = token.host().clone();
    let outside = session.core().outside();
    let mut behind = outside.behind.lock();
    let number = token.shared().outside().map_or(0, |(number, _)| number);
    if outside.may_hold(attribute) && is_held(&token, attribute, number) {
        put_off(&mut token);
        // One that was aborted before this is looked for by nobody any more.
        if token.shared().is_aborted() {
            drop(behind);
            return reply_aborted(token);
        }
        return behind.push(token.erase());
    }
    token.out = None;
    let ordered = token.shared().go_in();
    let place = device.order().arrive(attribute, token.shared());
    // What comes and finds nobody outside finds this in its place.
    outside.end(ordered);
    let free = take_free(&mut behind, &session, token.lun);
    drop(behind);
    finish(free);
    match place {
        Some(place) => {
            token.place = place;
            in_turn(token)
        }
        None => {
            token.set_status(Status::TaskSetFull);
            reply(token)
        }
    }
}

/// The command is answered.
#[inline]
pub(super) fn leave<F: Fabric>(token: &mut Token<Session<F>>) {
    if token.out.take().is_some() {
        let session = token.host();
        let outside = session.core().outside();
        outside.end(token.shared().is_ordered_outside());
        let free = take_free(&mut outside.behind.lock(), session, token.lun);
        finish(free);
    }
}

// Whether others have to go in before one with this attribute and number. With the lock.
fn is_held<F: Fabric>(token: &Token<Session<F>>, attribute: Attribute, number: u64) -> bool {
    let (all, ordered) = first(token.host(), token.lun);
    match attribute {
        Attribute::HeadOfQueue => false,
        Attribute::Ordered => all < number,
        Attribute::Simple | Attribute::Aca => ordered < number,
    }
}

// The least numbers of those through a nexus: of all that are outside, and of the ORDERED ones. With the lock.
fn first<F: Fabric>(session: &Session<F>, lun: [u8; 8]) -> (u64, u64) {
    let lun = LunNumber::parse(lun);
    let mut first = (u64::MAX, u64::MAX);
    for shared in session.slots().shared() {
        let Some((number, ordered)) = shared.outside() else {
            continue;
        };
        if !shared.is_live(&|_, unit| unit.number() == lun) {
            continue;
        }
        first.0 = first.0.min(number);
        if ordered {
            first.1 = first.1.min(number);
        }
    }
    first
}

// Takes those out that nobody has to go in before any more.
fn take_free<F: Fabric>(
    behind: &mut List<Command, Shared>,
    session: &Session<F>,
    lun: [u8; 8],
) -> List<Command, Shared> {
    if behind.is_empty() {
        return List::new();
    }
    let (all, ordered) = first(session, lun);
    let lun = LunNumber::parse(lun);
    behind.take(|c| {
        let is_free =
            |(number, is_ordered): (u64, bool)| number <= if is_ordered { all } else { ordered };
        LunNumber::parse(c.lun) == lun && c.shared().outside().is_none_or(is_free)
    })
}

fn finish(mut list: List<Command, Shared>) {
    while let Some(cmd) = list.pop() {
        cmd.finish();
    }
}
