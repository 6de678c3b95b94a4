// SPDX-License-Identifier: GPL-2.0

//! How many connections may be there that have no normal session (RFC 7143, 9.3): a bound on what somebody without a
//! name can make us spend.
//!
//! | what | of one address | of one IPv6 /64 | in all |
//! | --- | --- | --- | --- |
//! | logins in progress ([`Limits::logins`]) | 64 | 192 | 512 |
//! | discovery sessions ([`Limits::discoveries`]) | 16 | 48 | 128 |
//!
//! One address, or one who has all of a /64, takes less than half of the places. Each connection costs about 70 KiB of
//! our own (a thread, two texts of 8 KiB, what it receives into) and what TCP receives for it (`net.ipv4.tcp_rmem`), so
//! that all logins cost less than 40 MiB; a discovery session may have 1 MiB more, while it lists targets. A login lasts
//! `login_timeout` seconds at most (15, before its portal group is known), and 20 more where it takes the place of a
//! session that has to end first; a discovery session lasts 30 seconds. Normal sessions are bounded by [`crate::memory`].

use core::net::IpAddr;
use kernel::{
    prelude::*,
    sync::{new_mutex, Arc, Mutex},
};
use lio_glue::socket::Address;

struct Counts {
    // One entry for each address that has a connection.
    hosts: KVec<(Address, u32)>,
    all: u32,
}

/// The connections of one kind.
#[pin_data]
pub(crate) struct Limits {
    per_address: u32,
    per_network: u32,
    in_all: u32,
    #[pin]
    counts: Mutex<Counts>,
}

/// The right of one connection to be there; given back when dropped.
pub(crate) struct Permit {
    limits: Arc<Limits>,
    host: Address,
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
        Self::new(64, 192, 512)
    }

    /// For discovery sessions.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn discoveries() -> Result<Arc<Self>> {
        Self::new(16, 48, 128)
    }

    fn new(per_address: u32, per_network: u32, in_all: u32) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Limits {
                per_address,
                per_network,
                in_all,
                counts <- new_mutex!(Counts { hosts: KVec::new(), all: 0 }, "iscsi::Limits"),
            }),
            GFP_KERNEL,
        )
    }

    /// Lets a connection from `host` in.
    ///
    /// # Errors
    /// `EBUSY` if the host or its network has too many, `EAGAIN` if all together have, `ENOMEM`.
    pub(crate) fn admit(self: &Arc<Self>, host: &Address) -> Result<Permit> {
        let mut c = self.counts.lock();
        if c.all >= self.in_all {
            return Err(EAGAIN);
        }
        let near = c.hosts.iter().filter(|(a, _)| same_network(a, host));
        let network = near.fold(0, |n: u32, (_, of_host)| n.saturating_add(*of_host));
        if network >= self.per_network {
            return Err(EBUSY);
        }
        match c.hosts.iter_mut().find(|(a, _)| a.same_host(host)) {
            Some((_, n)) if *n >= self.per_address => return Err(EBUSY),
            Some((_, n)) => *n = n.saturating_add(1),
            None => c.hosts.push((*host, 1), GFP_KERNEL)?,
        }
        c.all = c.all.saturating_add(1);
        Ok(Permit {
            limits: self.clone(),
            host: *host,
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut c = self.limits.counts.lock();
        c.all = c.all.saturating_sub(1);
        let Some(i) = c.hosts.iter().position(|(a, _)| a.same_host(&self.host)) else {
            return;
        };
        let Some((_, n)) = c.hosts.get_mut(i) else {
            return;
        };
        *n = n.saturating_sub(1);
        if *n == 0 {
            // In bounds: the position was found above.
            let _ = c.hosts.remove(i);
        }
    }
}
