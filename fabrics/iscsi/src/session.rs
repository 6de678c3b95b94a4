// SPDX-License-Identifier: GPL-2.0

//! What others than a session's own thread know of it.

use crate::{
    acl::{Acl, Attrib},
    group::Group,
    memory::{Floor, Seat},
    name::{Alias, Name},
    stats::Count,
    Iscsi,
};
use iscsi_proto::negotiate::Parameters;
use kernel::{
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full, Relaxed},
        new_mutex, Arc, Mutex, SetOnce,
    },
};
use lio_glue::{
    socket::Address,
    thread::{now_ms, Waker},
};
use target_core::command::ReplyQueue;

/// What wakes a connection's thread, beside its socket.
pub(crate) mod event {
    use lio_glue::thread::Waker;

    /// A command was answered.
    pub(crate) const REPLY: u32 = Waker::FIRST_FREE;
    /// Commands that wait for data were aborted.
    pub(crate) const KICK: u32 = Waker::FIRST_FREE << 1;
    /// A task management function is done.
    pub(crate) const MANAGED: u32 = Waker::FIRST_FREE << 2;
    /// The session is to end.
    pub(crate) const STOP: u32 = Waker::FIRST_FREE << 3;
    /// A login is to end: others need its place.
    pub(crate) const GIVE_WAY: u32 = Waker::FIRST_FREE << 4;
    /// A login is to end: its portal is removed.
    pub(crate) const NO_PORTAL: u32 = Waker::FIRST_FREE << 5;
}

/// Why a session is to end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Another session of the same initiator port takes its place.
    Reinstated = 1,
    /// The portal group was disabled or removed.
    Disabled = 2,
    /// The ACL was made, removed or changed.
    AclChanged = 3,
    /// The target was reset (TARGET COLD RESET).
    Reset = 4,
}

impl Stop {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Stop::Reinstated => "it was reinstated",
            Stop::Disabled => "its portal group was disabled",
            Stop::AclChanged => "its ACL was changed",
            Stop::Reset => "the target was reset",
        }
    }
}

/// Where a session is: the numbers of RFC 7143, 8.2, as the ACL's `info` shows them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    LoggedIn,
    Ending,
}

/// Task management functions of one session that may be at work at the same time.
pub(crate) const MAX_MANAGED: usize = iscsi_proto::ffp::MAX_MANAGED;

/// The end of a task management function.
pub(crate) struct Managed {
    /// The request's initiator task tag.
    pub(crate) itt: u32,
    /// What is answered: RFC 7143, 11.6.1.
    pub(crate) answer: u8,
    /// The request took a number of the window.
    pub(crate) numbered: bool,
    /// It was a cold reset: all sessions of the target end once it is answered.
    pub(crate) ends_sessions: bool,
}

/// A session, as all may see it. The engine's session has one as its private part.
#[pin_data]
pub(crate) struct Shared {
    pub(crate) group: Arc<Group>,
    // Empty in demo mode, until the initiator gets an ACL.
    acl: SetOnce<Arc<Acl>>,
    pub(crate) initiator: Name,
    #[pin]
    pub(crate) alias: Mutex<Alias>,
    pub(crate) isid: [u8; 6],
    pub(crate) tsih: u16,
    pub(crate) cid: u16,
    /// The number by which `info` calls it.
    pub(crate) number: u32,
    /// The other side.
    pub(crate) peer: Address,
    /// Ours.
    pub(crate) local: Address,
    /// When it began, in milliseconds since boot.
    pub(crate) since: u64,
    pub(crate) parameters: Parameters,
    /// Commands that may be in flight.
    pub(crate) depth: u32,

    pub(crate) waker: Arc<Waker>,
    pub(crate) replies: ReplyQueue<Iscsi>,
    // Has room for MAX_MANAGED.
    #[pin]
    managed: Mutex<KVec<Managed>>,
    stop: Atomic<u32>,
    ending: Atomic<u32>,

    /// Copies of the thread's own numbers, for `info`.
    pub(crate) exp_cmd_sn: Atomic<u32>,
    pub(crate) max_cmd_sn: Atomic<u32>,
    pub(crate) stat_sn: Atomic<u32>,
    pub(crate) cmd_pdus: Count,
    pub(crate) rsp_pdus: Count,
    pub(crate) tx_octets: Count,
    pub(crate) rx_octets: Count,
    pub(crate) timeouts: Count,
    pub(crate) digest_errors: Count,
    seat: Seat,
}

/// What a [`Shared`] is made of.
pub(crate) struct Origin {
    pub(crate) group: Arc<Group>,
    pub(crate) acl: Option<Arc<Acl>>,
    pub(crate) initiator: Name,
    pub(crate) alias: Alias,
    pub(crate) isid: [u8; 6],
    pub(crate) cid: u16,
    pub(crate) number: u32,
    pub(crate) peer: Address,
    pub(crate) local: Address,
    pub(crate) parameters: Parameters,
    pub(crate) depth: u32,
    pub(crate) waker: Arc<Waker>,
    pub(crate) seat: Seat,
}

impl Shared {
    pub(crate) fn new(o: Origin) -> Result<Arc<Self>> {
        let managed = KVec::with_capacity(MAX_MANAGED, GFP_KERNEL)?;
        let acl = SetOnce::new();
        if let Some(own) = o.acl {
            acl.populate(own);
        }
        Arc::pin_init(
            pin_init!(Shared {
                group: o.group,
                acl,
                initiator: o.initiator,
                alias <- new_mutex!(o.alias, "iscsi::Shared::alias"),
                isid: o.isid,
                tsih: o.number as u16,
                cid: o.cid,
                number: o.number,
                peer: o.peer,
                local: o.local,
                since: now_ms(),
                parameters: o.parameters,
                depth: o.depth,
                waker: o.waker,
                replies: ReplyQueue::new(),
                managed <- new_mutex!(managed, "iscsi::Shared::managed"),
                stop: Atomic::new(0),
                ending: Atomic::new(0),
                exp_cmd_sn: Atomic::new(0),
                max_cmd_sn: Atomic::new(0),
                stat_sn: Atomic::new(0),
                cmd_pdus: Count::new(),
                rsp_pdus: Count::new(),
                tx_octets: Count::new(),
                rx_octets: Count::new(),
                timeouts: Count::new(),
                digest_errors: Count::new(),
                seat: o.seat,
            }),
            GFP_KERNEL,
        )
    }

    /// What it may hold whatever others do.
    pub(crate) fn floor(&self) -> Floor {
        self.seat.floor
    }

    /// The initiator's ACL; `None` in demo mode.
    pub(crate) fn acl(&self) -> Option<&Arc<Acl>> {
        self.acl.as_ref()
    }

    /// The initiator has an ACL now, unless it had one.
    pub(crate) fn set_acl(&self, acl: &Arc<Acl>) {
        self.acl.populate(acl.clone());
    }

    /// Has the session end. The first reason counts.
    pub(crate) fn stop(&self, why: Stop) {
        let _ = self.stop.cmpxchg(0, why as u32, Full);
        self.waker.wake(event::STOP);
    }

    /// Why the session is to end, if it is.
    pub(crate) fn stopped(&self) -> Option<Stop> {
        match self.stop.load(Acquire) {
            1 => Some(Stop::Reinstated),
            2 => Some(Stop::Disabled),
            3 => Some(Stop::AclChanged),
            4 => Some(Stop::Reset),
            _ => None,
        }
    }

    pub(crate) fn state(&self) -> State {
        if self.ending.load(Relaxed) == 0 {
            State::LoggedIn
        } else {
            State::Ending
        }
    }

    pub(crate) fn set_ending(&self) {
        self.ending.store(1, Relaxed);
    }

    // The timers of an initiator without an ACL.
    fn timers(&self) -> &Attrib {
        static DEFAULT: Attrib = Attrib::new(0);
        self.acl().map_or(&DEFAULT, |acl| &acl.attrib)
    }

    /// After how long a silence the initiator is pinged (0: never), and how long it has to answer; in milliseconds.
    pub(crate) fn nop_timeouts_ms(&self) -> (u64, u64) {
        let t = self.timers();
        let ms = |s: u32| u64::from(s).saturating_mul(1000);
        (
            ms(t.nopin_timeout.get()),
            ms(t.nopin_response_timeout.get()),
        )
    }

    /// How long write data that is due may not come, in milliseconds; and how many times that a command may be made to
    /// wait for its data by that of others.
    ///
    /// At error recovery level 0 nothing is asked for twice (RFC 7143, 7.1.4.1): where an initiator is silent for so long, the
    /// connection ends. The retries count for one that is not: it sends what it was asked for in an order of its own.
    pub(crate) fn data_timeout(&self) -> (u64, u32) {
        let t = self.timers();
        (
            u64::from(t.dataout_timeout.get()).saturating_mul(1000),
            t.dataout_timeout_retries.get(),
        )
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
}
