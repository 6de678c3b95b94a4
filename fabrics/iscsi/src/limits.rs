// SPDX-License-Identifier: GPL-2.0

//! How many connections may be there that have no normal session (RFC 7143, 9.3): a bound on what somebody without a
//! name can make us spend.
//!
//! | what | of one address | of one IPv6 /64 | in all |
//! | --- | --- | --- | --- |
//! | logins in progress ([`Limits::logins`]) | 64 | 192 | 512 |
//! | discovery sessions ([`Limits::discoveries`]) | 16 | 48 | 128 |
//!
//! One address, or one who has all of a /64, takes less than half of the places. Each connection costs up to 110 KiB of
//! our own (a thread with its stack, its socket, texts of 8 and 16 KiB, what it receives into, an answer) and what TCP
//! receives for it (`net.ipv4.tcp_rmem`), so that all logins cost less than 56 MiB; a discovery session may have 1 MiB
//! more, while it lists targets. A login lasts `login_timeout` seconds at most (15, before its portal group is known),
//! and 20 more where it takes the place of a session that has to end first; a discovery session lasts 30 seconds. Normal
//! sessions are bounded by [`crate::memory`].
//!
//! Who has many addresses can take all places. So an eighth of them is kept free: while it is not, the oldest login, or discovery
//! session, gives its place up for each that comes in, if it has lasted a second, which is long for an honest one.

use crate::{portal::Portal, session::event};
use core::net::IpAddr;
use kernel::{
    prelude::*,
    sync::{new_mutex, Arc, Mutex},
};
use lio_glue::{
    socket::Address,
    thread::{now_ms, Waker},
};

/// How long one may last before it gives its place up, and may take to do that, in milliseconds.
const PATIENCE_MS: u64 = 1_000;

/// A connection that is there.
struct Guest {
    id: u64,
    host: Address,
    portal: Arc<Portal>,
    since: u64,
    // How it is asked to go; `None` if it has been.
    waker: Option<Arc<Waker>>,
    // When it was asked to give way.
    asked: Option<u64>,
}

struct Guests {
    // Oldest first.
    list: KVec<Guest>,
    next: u64,
}

/// The connections of one kind.
#[pin_data]
pub(crate) struct Limits {
    per_address: usize,
    per_network: usize,
    in_all: usize,
    // Places that are kept free.
    spare: usize,
    #[pin]
    guests: Mutex<Guests>,
}

/// The right of one connection to be there; given back when dropped.
pub(crate) struct Permit {
    limits: Arc<Limits>,
    id: u64,
}

// Whether both are in the same IPv6 network: who has one address of it has all.
fn same_network(a: &Address, b: &Address) -> bool {
    match (a.to_socket_addr().ip(), b.to_socket_addr().ip()) {
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            Iterator::eq(a.segments().iter().take(4), b.segments().iter().take(4))
        }
        _ => false,
    }
}

impl Limits {
    /// For logins in progress.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn logins() -> Result<Arc<Self>> {
        Self::new(64, 192, 512, 64)
    }

    /// For discovery sessions.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn discoveries() -> Result<Arc<Self>> {
        Self::new(16, 48, 128, 16)
    }

    fn new(
        per_address: usize,
        per_network: usize,
        in_all: usize,
        spare: usize,
    ) -> Result<Arc<Self>> {
        let list = KVec::with_capacity(in_all, GFP_KERNEL)?;
        Arc::pin_init(
            pin_init!(Limits {
                per_address,
                per_network,
                in_all,
                spare,
                guests <- new_mutex!(Guests { list, next: 0 }, "iscsi::Limits"),
            }),
            GFP_KERNEL,
        )
    }

    /// Lets a connection from `host` in. With [`event::GIVE_WAY`] its `waker` is told that others need its place.
    ///
    /// # Errors
    /// `EBUSY` if the host or its network has too many, `EAGAIN` if all together have.
    pub(crate) fn admit(
        self: &Arc<Self>,
        host: &Address,
        portal: &Arc<Portal>,
        waker: &Arc<Waker>,
    ) -> Result<Permit> {
        let mut g = self.guests.lock();
        let count =
            |which: &dyn Fn(&Address) -> bool| g.list.iter().filter(|x| which(&x.host)).count();
        if count(&|other| same_network(other, host)) >= self.per_network
            || count(&|other| other.same_host(host)) >= self.per_address
        {
            return Err(EBUSY);
        }
        let now = now_ms();
        // Those that came all at once have left no room: one gives way to the next that comes, if none does already.
        let full = g.list.len() >= self.in_all;
        let is_leaving =
            |x: &Guest| matches!(x.asked, Some(at) if now.saturating_sub(at) < PATIENCE_MS);
        let leaves = full && g.list.iter().any(is_leaving);
        if g.list.len() >= self.in_all.saturating_sub(self.spare) && !leaves {
            let oldest = g.list.iter_mut().find(|x| x.waker.is_some());
            if let Some(x) = oldest.filter(|x| now.saturating_sub(x.since) >= PATIENCE_MS) {
                if let Some(waker) = x.waker.take() {
                    x.asked = Some(now);
                    waker.wake(event::GIVE_WAY);
                }
            }
        }
        if full {
            return Err(EAGAIN);
        }
        let id = g.next;
        g.next = id.wrapping_add(1);
        // There is room for all that there may be.
        let guest = Guest {
            id,
            host: *host,
            portal: portal.clone(),
            since: now,
            waker: Some(waker.clone()),
            asked: None,
        };
        g.list.push_within_capacity(guest).map_err(|_| EAGAIN)?;
        Ok(Permit {
            limits: self.clone(),
            id,
        })
    }

    /// Has the connections end that came in by `portal`, and are no sessions yet.
    pub(crate) fn end_those_of(&self, portal: &Arc<Portal>) {
        let mut g = self.guests.lock();
        for guest in g.list.iter_mut().filter(|x| Arc::ptr_eq(&x.portal, portal)) {
            if let Some(waker) = guest.waker.take() {
                waker.wake(event::NO_PORTAL);
            }
        }
    }
}

impl Permit {
    /// Whether others need the place.
    pub(crate) fn is_wanted(&self) -> bool {
        let g = self.limits.guests.lock();
        g.list.iter().any(|x| x.id == self.id && x.asked.is_some())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut g = self.limits.guests.lock();
        if let Some(i) = g.list.iter().position(|x| x.id == self.id) {
            // In bounds: the position was found above.
            let _ = g.list.remove(i);
        }
    }
}
