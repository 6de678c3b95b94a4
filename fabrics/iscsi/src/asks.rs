// SPDX-License-Identifier: GPL-2.0

//! What a session's initiator is asked for, or told of, by asynchronous messages (RFC 7143, 11.9): by a portal group's `attrib/async_*`.

use crate::session::Stop;
use kernel::{
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Relaxed, Release},
        new_mutex, Mutex,
    },
};
use lio_glue::thread::now_ms;
use lio_scsi::{lun::Lun, sense::Asc};

/// SCSI events that wait. What finds no room the initiator hears of by the unit attention condition alone.
const MAX_EVENTS: usize = 16;

/// Those of a session, for the threads of its connections.
#[pin_data]
pub(crate) struct Asks {
    // Changes with each.
    count: Atomic<u32>,
    // When those who were asked to log out have to have gone, in milliseconds since boot. 0: nobody was asked.
    logout_by: Atomic<u64>,
    // Why they were, as a number.
    why: Atomic<u32>,
    // How many negotiations were asked for; and how many seconds there are for the last one.
    negotiations: Atomic<u32>,
    seconds: Atomic<u32>,
    #[pin]
    events: Mutex<KVec<(Lun, Asc)>>,
}

impl Asks {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Asks {
            count: Atomic::new(0),
            logout_by: Atomic::new(0),
            why: Atomic::new(0),
            negotiations: Atomic::new(0),
            seconds: Atomic::new(0),
            events <- new_mutex!(KVec::new(), "iscsi::Asks::events"),
        })
    }

    /// Changes with each thing that is asked for.
    pub(crate) fn count(&self) -> u32 {
        self.count.load(Acquire)
    }

    /// Has all connections be logged out within `seconds`. The first one counts.
    pub(crate) fn logout(&self, seconds: u32, why: Stop) {
        let by = now_ms().saturating_add(u64::from(seconds).saturating_mul(1000));
        let _ = self.why.cmpxchg(0, why as u32, Relaxed);
        let _ = self.logout_by.cmpxchg(0, by, Release);
        self.count.fetch_add(1, Release);
    }

    /// When what was asked to log out ends, and why, if it was.
    pub(crate) fn logout_by(&self) -> Option<(u64, Stop)> {
        match self.logout_by.load(Acquire) {
            0 => None,
            by => Some((by, Stop::of(self.why.load(Relaxed))?)),
        }
    }

    /// Has each connection begin a negotiation within `seconds`.
    pub(crate) fn negotiation(&self, seconds: u32) {
        self.seconds.store(seconds, Relaxed);
        self.negotiations.fetch_add(1, Release);
        self.count.fetch_add(1, Release);
    }

    /// How many were asked for, and how many seconds there are for the last one.
    pub(crate) fn negotiations(&self) -> (u32, u32) {
        (self.negotiations.load(Acquire), self.seconds.load(Relaxed))
    }

    /// Has the initiator be told of a unit attention condition; whether it will be.
    pub(crate) fn event(&self, lun: Lun, what: Asc) -> bool {
        let mut events = self.events.lock();
        let known = events.len() >= MAX_EVENTS || events.contains(&(lun, what));
        // Without memory it hears of it by the condition alone, too.
        let new = !known && events.push((lun, what), GFP_KERNEL).is_ok();
        drop(events);
        if new {
            self.count.fetch_add(1, Release);
        }
        new
    }

    /// Takes the events that wait.
    pub(crate) fn take_events(&self) -> KVec<(Lun, Asc)> {
        core::mem::take(&mut *self.events.lock())
    }
}
