// SPDX-License-Identifier: GPL-2.0

//! What others than the threads of its connections know of a session.

use crate::{
    acl::{Acl, Attrib},
    asks::Asks,
    connection::{Connection, Totals},
    group::Group,
    memory::Pool,
    name::{Alias, Name},
    order::Ordered,
    stats::Count,
    Reply, Session,
};
use iscsi_proto::{custody::Place, negotiate::Parameters, sn::CmdSn, wire::Itt};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full, Relaxed},
        new_mutex, Arc, Mutex, SetOnce,
    },
};

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
    /// The turn of a command has come that waited for those of other connections.
    pub(crate) const TURN: u32 = Waker::FIRST_FREE << 6;
    /// Another connection of the session has gone.
    pub(crate) const LEFT: u32 = Waker::FIRST_FREE << 7;
    /// Another connection waits until what was answered here is acknowledged.
    pub(crate) const FENCE: u32 = Waker::FIRST_FREE << 8;
    /// The initiator is to be asked for something.
    pub(crate) const ASK: u32 = Waker::FIRST_FREE << 9;

    /// All of a connection in full feature phase.
    pub(crate) const ALL: u32 = REPLY | KICK | MANAGED | STOP | TURN | LEFT | FENCE | ASK;
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
    /// The initiator has logged the session out.
    LoggedOut = 5,
    /// Its logins are sent elsewhere.
    Moved = 6,
}

impl Stop {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Stop::Reinstated => "it was reinstated",
            Stop::Disabled => "its portal group was disabled",
            Stop::AclChanged => "its ACL was changed",
            Stop::Reset => "the target was reset",
            Stop::LoggedOut => "it was logged out",
            Stop::Moved => "its logins are redirected",
        }
    }

    /// The initiator does not know of it yet.
    pub(crate) fn is_ours(self) -> bool {
        matches!(
            self,
            Stop::Disabled | Stop::AclChanged | Stop::Reset | Stop::Moved
        )
    }

    /// The initiator may be asked to log out before.
    pub(crate) fn can_wait(self) -> bool {
        matches!(self, Stop::Disabled | Stop::AclChanged | Stop::Moved)
    }

    pub(crate) fn of(code: u32) -> Option<Self> {
        Some(match code {
            1 => Stop::Reinstated,
            2 => Stop::Disabled,
            3 => Stop::AclChanged,
            4 => Stop::Reset,
            5 => Stop::LoggedOut,
            6 => Stop::Moved,
            _ => return None,
        })
    }
}

/// Where a session is: the numbers of RFC 7143, 8.2, as the ACL's `info` shows them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    LoggedIn,
    Ending,
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
    /// The number by which `info` calls it.
    pub(crate) number: u32,
    pub(crate) parameters: Parameters,
    /// Commands that may be in flight.
    pub(crate) depth: u32,
    /// The order of commands, where the session may have several connections.
    pub(crate) order: Option<Arc<Ordered>>,
    /// What all connections together may hold of write data, and of data that is read, where there may be several.
    pub(crate) pools: Option<(Arc<Pool>, Arc<Pool>)>,
    #[pin]
    connections: Mutex<Connections>,
    #[pin]
    pub(crate) asks: Asks,
    stop: Atomic<u32>,
    // The number of the session that waits for its end, the newest one; 0, which none has: nobody does.
    successor: Atomic<u32>,
    ending: Atomic<u32>,
    given_up: Atomic<bool>,

    /// Copies of the threads' own numbers, for `info`.
    pub(crate) exp_cmd_sn: Atomic<u32>,
    pub(crate) max_cmd_sn: Atomic<u32>,
    pub(crate) cmd_pdus: Count,
    pub(crate) timeouts: Count,
    pub(crate) digest_errors: Count,
}

/// The connections of a session.
struct Connections {
    // With those that are leaving, and have commands still.
    list: KVec<Arc<Connection>>,
    // What those counted that have left.
    past: Totals,
    // From when the first connection comes in until the last one begins to leave.
    nexus: Option<Arc<Session>>,
}

// Connections that a session may have. 6.3.4: at error recovery level 2 a second one, in any case.
fn most(p: &Parameters) -> usize {
    match p.recovery_level {
        0 | 1 => usize::from(p.max_connections.max(1)),
        _ => usize::from(p.max_connections.max(2)),
    }
}

// How many places there are for them: one that is reinstated has room for its successor, and for that one's, should its initiator give
// that up; and what they leave has as many, of which the oldest makes room.
fn places(p: &Parameters) -> usize {
    match p.recovery_level {
        0 | 1 => most(p).saturating_add(2),
        _ => most(p).saturating_mul(2).saturating_add(1),
    }
}

/// What came of [`Shared::join`].
pub(crate) enum Joined {
    /// It is in.
    Yes(Arc<Session>),
    /// It is in; another one of its number is there, and has to end (RFC 7143, 6.3.4).
    Replaces(Arc<Connection>, Arc<Session>),
    /// There are as many as were agreed on.
    TooMany,
    /// What this one has left has to make room.
    NoPlace(Arc<Connection>),
    /// The session is ending, or still being made: nobody can know of it yet.
    Gone,
}

/// What a [`Shared`] is made of.
pub(crate) struct Origin {
    pub(crate) group: Arc<Group>,
    pub(crate) acl: Option<Arc<Acl>>,
    pub(crate) initiator: Name,
    pub(crate) alias: Alias,
    pub(crate) isid: [u8; 6],
    pub(crate) number: u32,
    pub(crate) parameters: Parameters,
    pub(crate) depth: u32,
    pub(crate) first_cmd_sn: CmdSn,
}

impl Shared {
    pub(crate) fn new(o: Origin) -> Result<Arc<Self>> {
        let list = KVec::with_capacity(places(&o.parameters), GFP_KERNEL)?;
        let (order, pools) = match (o.parameters.max_connections, o.parameters.recovery_level) {
            (0 | 1, 0 | 1) => (None, None),
            _ => (
                Some(Ordered::new(o.first_cmd_sn, o.depth)?),
                Some((Pool::of_session()?, Pool::of_session()?)),
            ),
        };
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
                number: o.number,
                parameters: o.parameters,
                depth: o.depth,
                order,
                pools,
                connections <- new_mutex!(
                    Connections {
                        list,
                        past: Totals::default(),
                        nexus: None,
                    },
                    "iscsi::Shared::connections"
                ),
                asks <- Asks::new(),
                stop: Atomic::new(0),
                successor: Atomic::new(0),
                ending: Atomic::new(0),
                given_up: Atomic::new(false),
                exp_cmd_sn: Atomic::new(0),
                max_cmd_sn: Atomic::new(0),
                cmd_pdus: Count::new(),
                timeouts: Count::new(),
                digest_errors: Count::new(),
            }),
            GFP_KERNEL,
        )
    }

    /// The initiator's ACL; `None` in demo mode.
    pub(crate) fn acl(&self) -> Option<&Arc<Acl>> {
        self.acl.as_ref()
    }

    /// The initiator has an ACL now, unless it had one.
    pub(crate) fn set_acl(&self, acl: &Arc<Acl>) {
        self.acl.populate(acl.clone());
    }

    /// Has the session end. The first reason counts; whether it is this one.
    pub(crate) fn stop(&self, why: Stop) -> bool {
        let first = self.stop.cmpxchg(0, why as u32, Full).is_ok();
        if !first {
            // A logout takes its time; others have less of it.
            let _ = self.stop.cmpxchg(Stop::LoggedOut as u32, why as u32, Full);
        }
        self.wake(event::STOP);
        first
    }

    /// Whether its initiator logged in after the session with this number had: they are given in that order, and go round.
    pub(crate) fn came_after(&self, number: u32) -> bool {
        0 < self.number.wrapping_sub(number) as i32
    }

    /// `new` waits for its end, unless one does that came after it. Whoever calls this holds the lock of the group's sessions.
    pub(crate) fn give_way_to(&self, new: &Shared) -> bool {
        let before = self.successor.load(Relaxed);
        let newest = before == 0 || before == new.number || new.came_after(before);
        if newest {
            self.successor.store(new.number, Relaxed);
        }
        newest
    }

    /// Whether `new` is who waits for its end.
    pub(crate) fn gives_way_to(&self, new: &Shared) -> bool {
        self.successor.load(Relaxed) == new.number
    }

    /// It was waited for long enough: it ends when its commands come back.
    pub(crate) fn give_up(&self) {
        self.given_up.store(true, Relaxed);
    }

    /// Whether somebody has waited for its end, long enough.
    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.load(Relaxed)
    }

    /// Has the session end within `seconds`, before which its initiator is asked to log out. Without, at once.
    pub(crate) fn ask_to_leave(&self, seconds: u32, why: Stop) {
        if seconds == 0 || !why.can_wait() || !self.has(|c| c.is_here()) {
            self.stop(why);
        } else {
            self.asks.logout(seconds, why);
            self.wake(event::ASK);
        }
    }

    /// Wakes the threads of all connections.
    pub(crate) fn wake(&self, events: u32) {
        self.each(|c| c.waker.wake(events));
    }

    /// Calls `f` with each connection, under a lock.
    pub(crate) fn each(&self, f: impl FnMut(&Arc<Connection>)) {
        self.connections.lock().list.iter().for_each(f);
    }

    /// Whether there is a connection that `which` chooses; those that are leaving among them.
    pub(crate) fn has(&self, which: impl Fn(&Connection) -> bool) -> bool {
        self.connections.lock().list.iter().any(|c| which(c))
    }

    /// Takes in the first connection, with the engine's session; false if the session is to end already. Others, whose initiator
    /// guesses what the session's handle will be, may have come before, and did not get in.
    pub(crate) fn lead(&self, connection: &Arc<Connection>, session: &Arc<Session>) -> bool {
        let mut c = self.connections.lock();
        if self.stopped().is_some() {
            return false;
        }
        connection.set_index(0);
        // There is room: nobody else is there.
        if c.list.push_within_capacity(connection.clone()).is_err() {
            return false;
        }
        c.nexus = Some(session.clone());
        true
    }

    /// Takes one more connection in, which gets its place.
    pub(crate) fn join(&self, connection: &Arc<Connection>) -> Joined {
        let mut c = self.connections.lock();
        let Some(session) = c.nexus.clone().filter(|_| self.stopped().is_none()) else {
            return Joined::Gone;
        };
        let alive = || c.list.iter().filter(|o| o.is_here());
        // The newest one: it may be one that waits itself until it has the place of another.
        let same = alive().filter(|o| o.cid == connection.cid).last().cloned();
        let others = alive().filter(|o| o.cid != connection.cid).count();
        if others >= most(&self.parameters) {
            return Joined::TooMany;
        }
        // Those that leave, and have commands still, keep their places.
        let free = (0..u16::try_from(places(&self.parameters)).unwrap_or(0))
            .find(|i| !c.list.iter().any(|o| o.index() == *i));
        let Some(index) = free else {
            let oldest = c.list.iter().find(|o| o.is_retained());
            return oldest.map_or(Joined::TooMany, |o| Joined::NoPlace(o.clone()));
        };
        // 11.14: an implicit logout for recovery.
        let gone = |o: &&Arc<Connection>| o.is_retained() && o.cid == connection.cid;
        c.list.iter().filter(gone).for_each(|o| o.log_out());
        connection.set_index(index);
        // There is room, since there is a place.
        if c.list.push_within_capacity(connection.clone()).is_err() {
            return Joined::TooMany;
        }
        // What has gone need not be kept for the session's sake any more.
        c.list
            .iter()
            .filter(|o| o.is_retained())
            .for_each(|o| o.waker.wake(event::LEFT));
        match same {
            Some(old) => Joined::Replaces(old, session),
            None => Joined::Yes(session),
        }
    }

    /// Whether there is one of its number that came before it and is to end, whatever it leaves.
    pub(crate) fn has_predecessor(&self, connection: &Connection) -> bool {
        let c = self.connections.lock();
        let before = |o: &&Arc<Connection>| !core::ptr::eq(&***o, connection);
        let ends = |o: &Connection| o.closed().is_some() && !o.is_retained();
        let mut earlier = c.list.iter().take_while(before);
        earlier.any(|o| o.cid == connection.cid && ends(o))
    }

    /// A connection begins to leave; whether it was the last one: then no other can come in any more.
    pub(crate) fn begin_leave(&self, connection: &Connection) -> bool {
        let mut c = self.connections.lock();
        connection.set_leaving();
        drop(connection.take_fences());
        let last = c.list.iter().all(|o| o.is_leaving());
        if last {
            self.ending.store(1, Relaxed);
            let nexus = c.nexus.take();
            drop(c);
            drop(nexus);
        }
        last
    }

    /// A connection has left.
    pub(crate) fn leave(&self, connection: &Connection) {
        {
            let mut c = self.connections.lock();
            c.past = c.past.plus(&connection.totals());
            c.list.retain(|o| !core::ptr::eq(&**o, connection));
        }
        self.wake(event::LEFT);
        self.group.tell_waiting();
    }

    /// What all connections have counted.
    pub(crate) fn totals(&self) -> Totals {
        let c = self.connections.lock();
        c.list.iter().fold(c.past, |sum, o| sum.plus(&o.totals()))
    }

    /// The engine's tag of a command, which may be another connection's; without such a command, what no command has.
    pub(crate) fn tag(&self, itt: u32, own: &Connection) -> u64 {
        let c = self.connections.lock();
        let session = c.nexus.as_ref().filter(|_| c.list.len() > 1);
        let mut tags = c.list.iter().map(|o| o.tag(itt));
        let found = session.and_then(|s| tags.find(|tag| s.has_tag(&|t| t == *tag)));
        found.unwrap_or_else(|| own.tag(itt))
    }

    /// Wakes those who wait until some commands were delivered.
    pub(crate) fn tell_watchers(&self) {
        if self.order.as_ref().is_some_and(|o| o.is_watched()) {
            self.wake(event::TURN);
        }
    }

    /// Has one of the other connections tell the initiator that this one was lost.
    pub(crate) fn tell_lost(&self, connection: &Connection) {
        let c = self.connections.lock();
        if let Some(o) = c.list.iter().find(|o| o.is_here()) {
            o.lost(connection.cid);
        }
    }

    /// A connection has gone, and what it has left is kept.
    pub(crate) fn tell_retained(&self) {
        self.wake(event::LEFT);
        self.group.tell_waiting();
    }

    /// Where the task with this tag is; and with which connection, if that has gone.
    pub(crate) fn whereabouts(
        &self,
        itt: Itt,
        session: &Session,
    ) -> (Place, Option<Arc<Connection>>) {
        let c = self.connections.lock();
        let is_live = |o: &Connection| session.has_tag(&|tag| tag == o.tag(itt.0));
        // First: who has used a tag twice does not get two tasks with it.
        if c.list.iter().any(|o| o.is_here() && is_live(o)) {
            return (Place::Allegiant, None);
        }
        for o in c.list.iter().filter(|o| !o.is_leaving()) {
            if let Some(estate) = o.estate.lock().as_deref_mut() {
                if let Some(place) = estate.place(itt, is_live(o)) {
                    return (place, Some(o.clone()));
                }
            }
        }
        (Place::Nowhere, None)
    }

    /// Gives a reply to the connection that goes on with its command.
    pub(crate) fn hand_on(&self, reply: Reply) {
        let index = reply.tag_now() >> 32;
        let c = self.connections.lock();
        match c.list.iter().find(|o| u64::from(o.index()) == index) {
            Some(o) => {
                o.adopted.push(reply);
                o.waker.wake(event::TURN);
            }
            None => self.forget(reply),
        }
    }

    /// A command ends without an answer.
    pub(crate) fn forget(&self, reply: Reply) {
        if let (true, Some(order)) = (reply.request().numbered, &self.order) {
            order.with(|o| o.release());
        }
        reply.sent();
    }

    /// Tells the connection whose command's turn it is.
    pub(crate) fn wake_next(&self, next: Option<u16>) {
        if let Some(index) = next {
            let c = self.connections.lock();
            if let Some(o) = c.list.iter().find(|o| o.index() == index) {
                o.waker.wake(event::TURN);
            }
        }
    }

    /// Somebody waits for the session to end.
    pub(crate) fn is_hurried(&self) -> bool {
        self.stopped().is_some_and(|why| why != Stop::LoggedOut)
    }

    /// Why the session is to end, if it is.
    pub(crate) fn stopped(&self) -> Option<Stop> {
        Stop::of(self.stop.load(Acquire))
    }

    pub(crate) fn state(&self) -> State {
        if self.ending.load(Relaxed) == 0 {
            State::LoggedIn
        } else {
            State::Ending
        }
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
}
