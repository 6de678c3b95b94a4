// SPDX-License-Identifier: GPL-2.0

//! Network portals (RFC 7143, 4.4): listening sockets, each of which any number of portal groups may use.
//!
//! A portal has a thread that takes connections in and gives each a thread of its own.

use crate::{conn, log::Throttle, target::Global};
use kernel::{
    c_str,
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Release},
        new_mutex, Arc, Mutex,
    },
    time::{delay::fsleep, Delta},
};
use lio_glue::{
    socket::{Address, Listener, NetId},
    thread,
    wait::WaitQueue,
};

/// Connections that TCP keeps for us before it refuses more.
const BACKLOG: i32 = 256;
/// How long is waited for a portal's thread to end, in milliseconds. It does nothing that takes long.
const PATIENCE_MS: u32 = 10_000;

/// The portals there are.
#[pin_data]
pub(crate) struct Portals {
    #[pin]
    list: Mutex<KVec<(Arc<Portal>, usize)>>,
}

/// A listening socket.
#[pin_data]
pub(crate) struct Portal {
    pub(crate) address: Address,
    /// Where the address is one.
    pub(crate) net: NetId,
    // The thread has another reference. The port is free when both are gone.
    #[pin]
    listener: Mutex<Option<Arc<Listener>>>,
    ended: Atomic<u32>,
    #[pin]
    wait: WaitQueue,
    pub(crate) throttle: Throttle,
}

impl Portals {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Portals { list <- new_mutex!(KVec::new(), "iscsi::Portals") })
    }
}

/// Opens the portal at `address` in the network namespace of who asks for it, for one more group.
///
/// # Errors
/// Those of bind(2) and listen(2); `ENOMEM`.
pub(crate) fn open(global: &Arc<Global>, address: &Address) -> Result<Arc<Portal>> {
    let mut list = global.portals.list.lock();
    let net = NetId::current();
    let mut same = list.iter_mut().filter(|(p, _)| p.net == net);
    if let Some((portal, users)) = same.find(|(p, _)| p.address == *address) {
        *users = users.saturating_add(1);
        return Ok(portal.clone());
    }
    list.reserve(1, GFP_KERNEL)?;
    let listener = Arc::new(Listener::bind(address, BACKLOG)?, GFP_KERNEL)?;
    let kept = Some(listener.clone());
    let portal = Arc::pin_init(
        pin_init!(Portal {
            address: *address,
            net,
            listener <- new_mutex!(kept, "iscsi::Portal::listener"),
            ended: Atomic::new(0),
            wait <- WaitQueue::new(),
            throttle: Throttle::new(),
        }),
        GFP_KERNEL,
    )?;
    let (p, g) = (portal.clone(), global.clone());
    thread::spawn(global.module, c_str!("iscsi_np"), move || {
        accept(&p, &g, &listener);
        drop(listener);
        p.ended.store(1, Release);
        p.wait.wake_all();
    })?;
    // There is room.
    list.push((portal.clone(), 1), GFP_KERNEL)?;
    Ok(portal)
}

/// A group does not use the portal any more; the last one closes it. The port is free when this returns, and the logins that
/// came by it have been told to end.
pub(crate) fn close(global: &Arc<Global>, portal: &Arc<Portal>) {
    let mut list = global.portals.list.lock();
    let Some(i) = list.iter().position(|(p, _)| Arc::ptr_eq(p, portal)) else {
        return;
    };
    let Some((_, users)) = list.get_mut(i) else {
        return;
    };
    *users = users.saturating_sub(1);
    if *users > 0 {
        return;
    }
    let _ = list.remove(i);
    // The lock is kept until the port is free: whoever opens the same portal again must find it so.
    if let Some(listener) = portal.listener.lock().take() {
        listener.shutdown();
    }
    let ended = || portal.ended.load(Acquire) != 0;
    if !portal.wait.wait_until(PATIENCE_MS, ended) {
        pr_warn!(
            "iscsi: portal {}: its thread has not ended; the port is free when it does\n",
            portal.address
        );
    }
    // No more come in.
    global.logins.end_those_of(portal);
}

fn accept(portal: &Arc<Portal>, global: &Arc<Global>, listener: &Listener) {
    loop {
        match listener.accept() {
            Ok(incoming) => conn::start(global, portal, incoming),
            // The listener was shut down.
            Err(e) if e == EINVAL => return,
            Err(e) => {
                if portal.throttle.allow() {
                    pr_warn!("iscsi: portal {}: accept failed: {:?}\n", portal.address, e);
                }
                // Memory may be short: do not spin.
                fsleep(Delta::from_millis(100));
            }
        }
    }
}
