// SPDX-License-Identifier: GPL-2.0

//! What the connections of one session have in common on the I/O path: the order of commands, and that of a task management
//! function's response among the responses of other connections. Sessions that may have one connection have none of it.

use crate::session::{event, Shared};
use iscsi_proto::{order::Order, sn::CmdSn};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full, Release},
        new_spinlock, Arc, SpinLock,
    },
};
use lio_glue::thread::Waker;

/// The order of a session's commands.
#[pin_data]
pub(crate) struct Ordered {
    #[pin]
    state: SpinLock<Order<KVec<u16>>>,
    // Task management functions that wait for commands before them.
    watchers: Atomic<u32>,
}

impl Ordered {
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new(first: CmdSn, depth: u32) -> Result<Arc<Self>> {
        let places = usize::try_from(depth.next_power_of_two()).unwrap_or(1);
        let order = Order::new(first, depth, KVec::from_elem(0, places, GFP_KERNEL)?);
        Arc::pin_init(
            pin_init!(Ordered {
                state <- new_spinlock!(order, "iscsi::Ordered"),
                watchers: Atomic::new(0),
            }),
            GFP_KERNEL,
        )
    }

    /// Does something with the order, alone.
    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut Order<KVec<u16>>) -> T) -> T {
        f(&mut self.state.lock())
    }

    /// Somebody wants to know how far the order has come, before he looks.
    pub(crate) fn watch(&self) {
        self.watchers.fetch_add(1, Full);
    }

    pub(crate) fn unwatch(&self) {
        self.watchers.fetch_sub(1, Full);
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.watchers.load(Acquire) > 0
    }
}

/// A response with an order among those of other connections (RFC 7143, 4.2.2.3.3, Response Fence): it waits until what those
/// have sent is acknowledged, and they answer nothing more until it is acknowledged itself.
struct Fence {
    // Connections whose acknowledgement is waited for.
    left: Atomic<u32>,
    lifted: Atomic<u32>,
    waker: Arc<Waker>,
}

/// The fence, for the connection that sends the response. It is lifted when this is dropped.
pub(crate) struct Raised {
    fence: Arc<Fence>,
    session: Arc<Shared>,
}

impl Raised {
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new(session: &Arc<Shared>, waker: &Arc<Waker>) -> Result<Self> {
        let fence = Fence {
            left: Atomic::new(0),
            lifted: Atomic::new(0),
            waker: waker.clone(),
        };
        Ok(Raised {
            fence: Arc::new(fence, GFP_KERNEL)?,
            session: session.clone(),
        })
    }

    /// For another connection.
    pub(crate) fn ticket(&self) -> Ticket {
        self.fence.left.fetch_add(1, Full);
        Ticket {
            fence: self.fence.clone(),
            passed: false,
        }
    }

    /// Whether none is left to be waited for.
    pub(crate) fn is_passed(&self) -> bool {
        self.fence.left.load(Acquire) == 0
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        self.fence.lifted.store(1, Release);
        self.session.wake(event::REPLY);
    }
}

/// What another connection has of a fence.
pub(crate) struct Ticket {
    fence: Arc<Fence>,
    passed: bool,
}

impl Ticket {
    /// The initiator has acknowledged what was sent on the connection; or it has gone.
    pub(crate) fn pass(&mut self) {
        if !core::mem::replace(&mut self.passed, true) && self.fence.left.fetch_sub(1, Full) == 1 {
            self.fence.waker.wake(event::MANAGED);
        }
    }

    /// Whether the connection may answer again.
    pub(crate) fn is_lifted(&self) -> bool {
        self.fence.lifted.load(Acquire) != 0
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.pass();
    }
}
