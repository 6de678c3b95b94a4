// SPDX-License-Identifier: GPL-2.0

//! Discovery sessions that are there, and which of them takes another's place: RFC 7143, 7.4.2.
//!
//! One that names no target is the same as another if its initiator port (name and ISID) and the address are that it came to
//! (7.4.2.1); one that names a target, if the initiator port, the target and the portal group are (7.4.2.2). A normal session ends
//! such a one too; but none of them ends a normal session, for discovery may be open to those who could not log in.

use crate::{
    limits::{Limits, Permit},
    name::Name,
    portal::Portal,
    session::event,
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full, Release},
        new_mutex, Arc, Mutex,
    },
};
use lio_glue::{
    socket::Address,
    thread::{now_ms, Waker},
    wait::WaitQueue,
};

/// How long one waits for another that it takes the place of, in milliseconds: more than that lingers after its logout.
const PATIENCE_MS: u64 = 5_000;

/// What a discovery session is about. (One of them has one, and they are few: a box for the name would cost more than it saves.)
#[allow(clippy::large_enum_variant)]
#[derive(PartialEq)]
pub(crate) enum Place {
    /// All targets, at an address of ours.
    At(Address),
    /// A target, and the tag of the portal group that it came to (0: there is none).
    Of(Name, u16),
}

/// What makes a discovery session another one than others.
#[derive(PartialEq)]
pub(crate) struct Port {
    pub(crate) initiator: Name,
    pub(crate) isid: [u8; 6],
    pub(crate) place: Place,
}

struct Entry {
    port: Port,
    waker: Arc<Waker>,
    replaced: Atomic<u32>,
}

impl Entry {
    fn replace(&self) {
        self.replaced.store(1, Release);
        self.waker.wake(event::STOP);
    }
}

/// All discovery sessions.
#[pin_data]
pub(crate) struct Discoveries {
    limits: Arc<Limits>,
    #[pin]
    list: Mutex<KVec<Arc<Entry>>>,
    // How many have left, ever, and who waits for that.
    departures: Atomic<u32>,
    #[pin]
    left: WaitQueue,
}

/// A discovery session's place; given back when dropped.
pub(crate) struct Discovery {
    all: Arc<Discoveries>,
    own: Arc<Entry>,
    permit: Option<Permit>,
}

impl Discoveries {
    /// None is there.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let limits = Limits::discoveries()?;
        Arc::pin_init(
            pin_init!(Discoveries {
                limits,
                list <- new_mutex!(KVec::new(), "iscsi::Discoveries"),
                departures: Atomic::new(0),
                left <- WaitQueue::new(),
            }),
            GFP_KERNEL,
        )
    }

    /// Lets a discovery session in, after the end of the one whose place it takes.
    ///
    /// # Errors
    /// `EBUSY` and `EAGAIN` as [`Limits::admit`] has them; `ETIMEDOUT`: the other one does not end; `ENOMEM`.
    pub(crate) fn enter(
        self: &Arc<Self>,
        port: Port,
        peer: &Address,
        portal: &Arc<Portal>,
        waker: &Arc<Waker>,
    ) -> Result<Discovery> {
        let own = Entry {
            port,
            waker: waker.clone(),
            replaced: Atomic::new(0),
        };
        let own = Arc::new(own, GFP_KERNEL)?;
        let end = now_ms().saturating_add(PATIENCE_MS);
        loop {
            let seen = self.departures.load(Acquire);
            {
                let mut list = self.list.lock();
                let Some(old) = list.iter().find(|e| e.port == own.port) else {
                    let permit = Some(self.limits.admit(peer, portal, waker)?);
                    let all = self.clone();
                    list.push(own.clone(), GFP_KERNEL)?;
                    return Ok(Discovery { all, own, permit });
                };
                old.replace();
            }
            let left = u32::try_from(end.saturating_sub(now_ms())).unwrap_or(0);
            let changed = || self.departures.load(Acquire) != seen;
            if left == 0 || !self.left.wait_until(left, changed) {
                return Err(ETIMEDOUT);
            }
        }
    }

    /// A normal session of this initiator port with a portal group is there.
    pub(crate) fn replace(&self, initiator: &Name, isid: [u8; 6], target: &Name, tag: u16) {
        for e in self.list.lock().iter() {
            let Port { place, .. } = &e.port;
            if e.port.isid == isid
                && matches!(place, Place::Of(name, t) if name == target && *t == tag)
                && e.port.initiator == *initiator
            {
                e.replace();
            }
        }
    }
}

impl Discovery {
    /// Whether another one takes its place: it is to end.
    pub(crate) fn is_replaced(&self) -> bool {
        self.own.replaced.load(Acquire) != 0
    }

    /// Whether others need its place: it is to end.
    pub(crate) fn is_wanted(&self) -> bool {
        self.permit.as_ref().is_some_and(Permit::is_wanted)
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        // First, so that whoever waits for the end finds the place free.
        drop(self.permit.take());
        self.all.list.lock().retain(|e| !Arc::ptr_eq(e, &self.own));
        self.all.departures.fetch_add(1, Full);
        self.all.left.wake_all();
    }
}
