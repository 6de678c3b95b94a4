// SPDX-License-Identifier: GPL-2.0

//! A connection, from its beginning to its end, on a thread of its own.

mod answer;
mod ask;
mod checked;
mod end;
mod estate;
mod ffp;
mod flow;
mod gap;
mod holding;
mod incoming;
mod link;
mod login;
mod park;
mod parking;
mod reach;
mod reassign;
mod receive;
mod request;
mod retained;
mod snack;
mod task;
mod text;
mod timers;
mod window;
mod work;
mod write;
mod writes;

pub(crate) use estate::Estate;
pub(crate) use flow::Load;

use crate::{limits::Permit, portal::Portal, rx::Rx, target::Global, tx::Tx};
use kernel::{c_str, prelude::*, sync::Arc};
use link::Link;
use lio_glue::{
    noio,
    socket::Incoming,
    thread::{self, Alarm, Waker},
};

/// Gives a connection that came in a thread of its own; or closes it, if there are too many.
pub(crate) fn start(global: &Arc<Global>, portal: &Arc<Portal>, incoming: Incoming) {
    if let Err(e) = try_start(global, portal, incoming) {
        if portal.throttle.allow() {
            pr_warn!(
                "iscsi: portal {}: a connection was turned away: {:?}\n",
                portal.address,
                e
            );
        }
    }
}

fn try_start(global: &Arc<Global>, portal: &Arc<Portal>, incoming: Incoming) -> Result {
    let (peer, local) = (incoming.peer()?, incoming.local()?);
    let waker = Arc::pin_init(Waker::new(), GFP_KERNEL)?;
    let permit = global.logins.admit(&peer, portal, &waker)?;
    let (rx, tx) = (Rx::new()?, Tx::new()?);
    let link = Link {
        global: global.clone(),
        portal: portal.clone(),
        peer,
        local,
        alarm: KBox::pin_init(Alarm::new(waker.clone()), GFP_KERNEL)?,
        sock: incoming.attach(waker.clone()),
        waker,
        rx,
        tx,
        readable: true,
        writable: true,
        cpus_heard: 0,
    };
    let link = KBox::new(link, GFP_KERNEL)?;
    thread::spawn(global.module, c_str!("iscsi_conn"), move || {
        // The initiator may be this machine, and its writes what memory waits for.
        noio::scope(|| run(link, permit));
    })
}

fn run(mut link: KBox<Link>, permit: Permit) {
    let Some(logged_in) = login::run(&mut link) else {
        if permit.is_wanted() {
            KBox::into_inner(link).abort();
        } else {
            link.linger(|| false);
        }
        return;
    };
    drop(permit);
    ffp::run(link, logged_in);
}
