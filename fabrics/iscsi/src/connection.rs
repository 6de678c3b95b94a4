// SPDX-License-Identifier: GPL-2.0

//! What others than its own thread know of a connection of a normal session.

use crate::{
    conn::Estate,
    memory::{Floor, Seat},
    order::Ticket,
    session::{event, Shared},
    stats::Count,
    Iscsi, Reply,
};
use iscsi_proto::{ffp::MAX_MANAGED, negotiate::Parameters};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full, Relaxed, Release},
        new_mutex, Arc, Mutex,
    },
};
use lio_glue::{
    socket::Address,
    thread::{now_ms, Waker},
};
use target_core::command::ReplyQueue;

/// Lost connections that one connection has still to tell of.
const MAX_LOST: usize = 64;

/// The end of a task management function.
pub(crate) struct Managed {
    /// The request's initiator task tag.
    pub(crate) itt: u32,
    /// What is answered: RFC 7143, 11.6.1.
    pub(crate) answer: u8,
    /// The request took a number of the window.
    pub(crate) numbered: bool,
    /// It ended several tasks.
    pub(crate) multi_task: bool,
    /// It was a cold reset: all sessions of the target end once it is answered.
    pub(crate) ends_sessions: bool,
}

/// What a connection has counted: copies of its thread's own numbers.
#[derive(Clone, Copy, Default)]
pub(crate) struct Totals {
    pub(crate) rsp_pdus: u64,
    pub(crate) tx_octets: u64,
    pub(crate) rx_octets: u64,
}

impl Totals {
    pub(crate) fn plus(&self, o: &Totals) -> Totals {
        Totals {
            rsp_pdus: self.rsp_pdus.wrapping_add(o.rsp_pdus),
            tx_octets: self.tx_octets.wrapping_add(o.tx_octets),
            rx_octets: self.rx_octets.wrapping_add(o.rx_octets),
        }
    }
}

/// Why a connection is to end, and its session not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Close {
    /// A new one of its number takes its place.
    Reinstated = 1,
    /// Another connection has logged it out.
    LoggedOut = 2,
    /// The target was reset (TARGET COLD RESET).
    Reset = 3,
    /// Another connection has logged it out for recovery.
    ForRecovery = 4,
    /// What it has left makes room for that of another.
    GivesWay = 5,
}

impl Close {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Close::Reinstated => "a connection was reinstated",
            Close::LoggedOut => "a connection was logged out by another one",
            Close::Reset => "the target was reset",
            Close::ForRecovery => "a connection was logged out for recovery by another one",
            Close::GivesWay => "what a connection had left makes room",
        }
    }

    /// What the connection has ends with it, whatever the error recovery level.
    pub(crate) fn is_for_good(self) -> bool {
        !matches!(self, Close::Reinstated | Close::ForRecovery)
    }

    fn of(code: u32) -> Option<Self> {
        Some(match code {
            1 => Close::Reinstated,
            2 => Close::LoggedOut,
            3 => Close::Reset,
            4 => Close::ForRecovery,
            5 => Close::GivesWay,
            _ => return None,
        })
    }
}

/// A connection, as all may see it. Its commands have it.
#[pin_data]
pub(crate) struct Connection {
    pub(crate) session: Arc<Shared>,
    pub(crate) cid: u16,
    /// The other side.
    pub(crate) peer: Address,
    /// Ours.
    pub(crate) local: Address,
    /// When it began, in milliseconds since boot.
    pub(crate) since: u64,
    /// Those of its own with those of the session.
    pub(crate) parameters: Parameters,
    pub(crate) waker: Arc<Waker>,
    pub(crate) replies: ReplyQueue<Iscsi>,
    // The thread looks for replies before it sleeps: nobody need wake it for them.
    attending: Atomic<u32>,
    /// Answers to commands of connections that have gone, with which this one goes on.
    pub(crate) adopted: ReplyQueue<Iscsi>,
    // Its place in the session.
    index: Atomic<u32>,
    // Has room for MAX_MANAGED.
    #[pin]
    managed: Mutex<KVec<Managed>>,
    // Functions of other connections that wait for what was answered here.
    #[pin]
    fences: Mutex<KVec<Ticket>>,
    // The numbers of lost connections that the initiator is to be told of.
    #[pin]
    lost: Mutex<KVec<u16>>,
    close: Atomic<u32>,
    leaving: Atomic<u32>,
    // It has gone, and what it has left is kept.
    retained: Atomic<u32>,
    /// What that is. Taken within the lock of the session's connections.
    #[pin]
    pub(crate) estate: Mutex<Option<KBox<Estate>>>,

    /// MaxRecvDataSegmentLength of each side, which may be negotiated again.
    pub(crate) max_recv: Atomic<u32>,
    pub(crate) max_xmit: Atomic<u32>,
    /// Copies of the thread's own numbers, for `info`.
    pub(crate) stat_sn: Atomic<u32>,
    pub(crate) rsp_pdus: Count,
    pub(crate) tx_octets: Count,
    pub(crate) rx_octets: Count,
    seat: Seat,
}

impl Connection {
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new(
        session: Arc<Shared>,
        cid: u16,
        (peer, local): (Address, Address),
        waker: Arc<Waker>,
        parameters: Parameters,
        seat: Seat,
    ) -> Result<Arc<Self>> {
        let managed = KVec::with_capacity(MAX_MANAGED, GFP_KERNEL)?;
        Arc::pin_init(
            pin_init!(Connection {
                session,
                cid,
                peer,
                local,
                since: now_ms(),
                parameters,
                waker,
                replies: ReplyQueue::new(),
                attending: Atomic::new(0),
                adopted: ReplyQueue::new(),
                index: Atomic::new(0),
                managed <- new_mutex!(managed, "iscsi::Connection::managed"),
                fences <- new_mutex!(KVec::new(), "iscsi::Connection::fences"),
                lost <- new_mutex!(KVec::new(), "iscsi::Connection::lost"),
                close: Atomic::new(0),
                leaving: Atomic::new(0),
                retained: Atomic::new(0),
                estate <- new_mutex!(None, "iscsi::Connection::estate"),
                max_recv: Atomic::new(parameters.max_recv),
                max_xmit: Atomic::new(parameters.max_xmit),
                stat_sn: Atomic::new(0),
                rsp_pdus: Count::new(),
                tx_octets: Count::new(),
                rx_octets: Count::new(),
                seat,
            }),
            GFP_KERNEL,
        )
    }

    /// Appends a reply, from any context, and has the thread find it.
    ///
    /// This appends, and then looks whether the thread attends; [`Self::rest`] says that it does not, and then looks whether there
    /// is something. The append and that are full barriers: one of both sees what the other did. Who finds the queue not empty has
    /// one before him for whom this holds, and which the thread takes no earlier than his.
    pub(crate) fn reply(&self, reply: Reply) {
        if self.replies.push(reply) && self.attending.load(Relaxed) == 0 {
            self.waker.wake(event::REPLY);
        }
    }

    /// The thread is awake, and [rests](Self::rest) before it sleeps.
    pub(crate) fn attend(&self) {
        self.attending.store(1, Relaxed);
    }

    /// The thread is about to sleep. Returns whether there are replies, for which it may not have been woken.
    pub(crate) fn rest(&self) -> bool {
        self.attending.xchg(0, Full);
        !self.replies.is_empty()
    }

    /// What it may hold whatever others do.
    pub(crate) fn floor(&self) -> Floor {
        self.seat.floor
    }

    /// Its place in the session: no other connection that is there has it.
    pub(crate) fn index(&self) -> u16 {
        self.index.load(Relaxed) as u16
    }

    pub(crate) fn set_index(&self, index: u16) {
        self.index.store(index.into(), Relaxed);
    }

    /// The engine's tag of a command. Initiator task tags are the session's, so that this is for us: it says whose a command is.
    pub(crate) fn tag(&self, itt: u32) -> u64 {
        (u64::from(self.index()) << 32) | u64::from(itt)
    }

    /// Whether a command of this tag is its own.
    pub(crate) fn owns(&self, tag: u64) -> bool {
        tag >> 32 == u64::from(self.index())
    }

    /// Has the connection end. The first reason counts; but what others might have gone on with may have to end after all.
    pub(crate) fn close(&self, why: Close) {
        let before = self.close.cmpxchg(0, why as u32, Release);
        if let (Err(before), true) = (before, why.is_for_good()) {
            if Close::of(before).is_some_and(|b| !b.is_for_good()) {
                let _ = self.close.cmpxchg(before, why as u32, Release);
            }
        }
        if !why.is_for_good() {
            // It may have gone already, or be about to: see [`Self::leave_behind`].
            self.log_out();
        }
        self.waker.wake(event::STOP);
    }

    /// Why the connection is to end, if it is.
    pub(crate) fn closed(&self) -> Option<Close> {
        Close::of(self.close.load(Acquire))
    }

    /// Whether it has gone, and what it has left is kept.
    pub(crate) fn is_retained(&self) -> bool {
        self.retained.load(Relaxed) != 0 && !self.is_leaving()
    }

    /// Whether it can be used.
    pub(crate) fn is_here(&self) -> bool {
        self.retained.load(Relaxed) == 0 && !self.is_leaving()
    }

    /// The connection has gone, and leaves this.
    pub(crate) fn leave_behind(&self, mut estate: KBox<Estate>) {
        {
            let mut left = self.estate.lock();
            // Who logs it out says so first, and then looks for an estate: one of both finds the other.
            if self.closed().is_some_and(|why| !why.is_for_good()) {
                estate.log_out(now_ms());
            }
            *left = Some(estate);
            self.retained.store(1, Relaxed);
        }
        drop(self.take_fences());
    }

    /// What the connection has left may be taken by others.
    pub(crate) fn log_out(&self) {
        if let Some(estate) = self.estate.lock().as_deref_mut() {
            estate.log_out(now_ms());
        }
        self.waker.wake(event::LEFT);
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Relaxed) != 0
    }

    pub(crate) fn set_leaving(&self) {
        self.leaving.store(1, Relaxed);
    }

    pub(crate) fn totals(&self) -> Totals {
        Totals {
            rsp_pdus: self.rsp_pdus.get(),
            tx_octets: self.tx_octets.get(),
            rx_octets: self.rx_octets.get(),
        }
    }

    /// A task management function is done. At most [`MAX_MANAGED`] are at work.
    pub(crate) fn managed(&self, done: Managed) {
        // There is room, see above; and were there none, the initiator would time out and log in again.
        let _ = self.managed.lock().push_within_capacity(done);
        self.waker.wake(event::MANAGED);
    }

    /// The oldest task management function that is done.
    pub(crate) fn take_managed(&self) -> Option<Managed> {
        self.managed.lock().remove(0).ok()
    }

    /// Keeps `ticket` until all that was answered before is acknowledged, or the connection has gone.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn fence(&self, ticket: Ticket) -> Result {
        let mut fences = self.fences.lock();
        // Whoever goes says so, and takes them out then.
        if self.is_here() {
            fences.push(ticket, GFP_KERNEL)?;
        }
        drop(fences);
        self.waker.wake(event::FENCE);
        Ok(())
    }

    /// Has the initiator be told that a connection was lost.
    pub(crate) fn lost(&self, cid: u16) {
        let mut lost = self.lost.lock();
        // Without memory it finds out by itself; who loses so many faster than we say so need not be told.
        if lost.len() < MAX_LOST {
            let _ = lost.push(cid, GFP_KERNEL);
        }
        drop(lost);
        self.waker.wake(event::LEFT);
    }

    pub(crate) fn take_lost(&self) -> KVec<u16> {
        core::mem::take(&mut *self.lost.lock())
    }

    pub(crate) fn take_fences(&self) -> KVec<Ticket> {
        core::mem::take(&mut *self.fences.lock())
    }
}
