// SPDX-License-Identifier: GPL-2.0

//! How many connections may be there that have not logged in to a target (RFC 7143, 9.3): a bound on what somebody
//! without a name can make us spend. Discovery sessions count too, to their end.

use kernel::{
    prelude::*,
    sync::{new_mutex, Arc, Mutex},
};
use lio_glue::socket::Address;

/// Connections of one address.
const PER_ADDRESS: u32 = 64;
/// Connections of all addresses.
const IN_ALL: u32 = 512;

struct Counts {
    // One entry for each address that has a connection.
    hosts: KVec<(Address, u32)>,
    all: u32,
}

/// The connections that have not logged in.
#[pin_data]
pub(crate) struct Limits {
    #[pin]
    counts: Mutex<Counts>,
}

/// The right of one connection to be there; given back when dropped.
pub(crate) struct Permit {
    limits: Arc<Limits>,
    host: Address,
}

impl Limits {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Limits {
            counts <- new_mutex!(Counts { hosts: KVec::new(), all: 0 }, "iscsi::Limits"),
        })
    }

    /// Lets a connection from `host` in.
    ///
    /// # Errors
    /// `EBUSY` if the host has too many, `EAGAIN` if all together have, `ENOMEM`.
    pub(crate) fn admit(self: &Arc<Self>, host: &Address) -> Result<Permit> {
        let mut c = self.counts.lock();
        if c.all >= IN_ALL {
            return Err(EAGAIN);
        }
        match c.hosts.iter_mut().find(|(a, _)| a.same_host(host)) {
            Some((_, n)) if *n >= PER_ADDRESS => return Err(EBUSY),
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
