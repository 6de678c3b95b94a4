// SPDX-License-Identifier: GPL-2.0

//! How much memory initiators can make us hold.
//!
//! Nothing that an initiator announces costs memory; what it sends does. The bounds:
//!
//! | what | bound |
//! | --- | --- |
//! | connections of sessions, with all that each has whatever it does: [`SEAT`] and [`SLOT`] for each command of its depth, twice its [`Floor`] for data | an eighth of the machine's memory; the login that would exceed it is refused with status 0302 |
//! | write data of all sessions, beyond what their seats hold | another eighth of the machine's memory |
//! | what is read for all sessions and not taken by TCP, beyond what their seats hold | another eighth of the machine's memory |
//! | write data that one session is asked for by R2T and has not been answered for | [`ASKED`]: further commands wait for their R2Ts, in order |
//! | write data that one session has sent and has not been answered for, asked for or not | [`SESSION`] |
//! | what is read for one session and not taken by TCP | [`SESSION`]: further commands wait, in order |
//! | connections of a session | [`crate::params::MAX_CONNECTIONS`], and what was agreed on, status 0206 |
//! | what lost connections leave at error recovery level 2 | their seats, until Time2Wait and Time2Retain are over; of a session, as many as it may have connections, and one: the oldest gives way |
//! | what an initiator at error recovery level 1 has not acknowledged | of each connection 1,024 responses and 4 MiB of their data and of reads, in what is read for all; the oldest response is forgotten for a new one, data that finds no room is not kept |
//! | sessions of one initiator name with one portal group | its `max_sessions_per_initiator`, status 0302 |
//!
//! Where data has come for which there is no room, its command is answered with BUSY (SAM-5 5.3.1) and the data thrown
//! away. While more than half of what all sessions may have is in use, each of them is asked for the data of one command
//! at a time. So a command that waits always waits for one of its own session that can go on: there is no deadlock. Nor do others
//! wait for it: it is outside its task set meanwhile. One whose data took its time, so that others have come behind it, is answered with BUSY
//! instead where there are ORDERED commands.
//!
//! What is read counts from when the command goes to the back end until TCP has the last byte of it: an initiator that asks and
//! does not take is not asked whether it might. With it counts what VERIFY, WRITE SAME and the like work on. While memory is
//! short, a session has one such command at a time, or as many as its [`Floor`] holds; one that has none and finds no room is
//! answered with BUSY. TCP itself holds no more for a socket than `net.ipv4.tcp_wmem` says, in bytes that are
//! sent; there are more than [`crate::tx::SHORT`] of them for each page that it holds for data.

use kernel::{
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc,
    },
};
use lio_glue::system::memory_bytes;

/// Bytes of an idle session without its commands: its thread, its socket's structures, what it receives into.
pub(crate) const SEAT: u64 = 80 << 10;
/// Bytes of each command that a session may have.
pub(crate) const SLOT: u64 = 1 << 10;
/// Bytes of write data, and as many of data that is read, for which a session asks nobody. It is told when it logs in: the
/// more sessions there are, the less each that comes has.
#[derive(Clone, Copy)]
pub(crate) struct Floor(u64);

impl Floor {
    /// Of a session while the seats of all take less than half of what they may.
    const MOST: Floor = Floor(256 << 10);
    /// While they take less than three quarters.
    const LESS: Floor = Floor(64 << 10);
    /// The blocks of a file system, and of a session that has no commands.
    pub(crate) const LEAST: Floor = Floor(16 << 10);
}

/// Bytes of write data that a session is asked for at the same time. Its oldest command goes on in any case, so that
/// this is no bound on the length of a command.
pub(crate) const ASKED: u64 = 32 << 20;
/// Bytes of write data that a session may hold, asked for or not; and bytes that may be read for it.
pub(crate) const SESSION: u64 = 64 << 20;

/// Bytes that a session takes from the module's budget at once: the shared counter is written seldom.
const STEP: u64 = 1 << 20;

/// A number of bytes that may be in use.
pub(crate) struct Pool {
    limit: u64,
    used: Atomic<u64>,
}

impl Pool {
    /// What the connections of one session hold together.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn of_session() -> Result<Arc<Self>> {
        let pool = Pool {
            limit: SESSION,
            used: Atomic::new(0),
        };
        Ok(Arc::new(pool, GFP_KERNEL)?)
    }

    fn take(&self, bytes: u64) -> bool {
        let before = self.used.fetch_add(bytes, Relaxed);
        let fits = before
            .checked_add(bytes)
            .is_some_and(|after| after <= self.limit);
        if !fits {
            self.give(bytes);
        }
        fits
    }

    fn give(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Relaxed);
    }
}

/// The module's memory for initiators.
pub(crate) struct Budget {
    seats: Pool,
    written: Pool,
    read: Pool,
}

/// What an [`Account`] is of.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// Write data.
    Written,
    /// What is read.
    Read,
}

impl Budget {
    /// That of this machine.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let limit = memory_bytes() / 8;
        let pool = || Pool {
            limit,
            used: Atomic::new(0),
        };
        Ok(Arc::new(
            Budget {
                seats: pool(),
                written: pool(),
                read: pool(),
            },
            GFP_KERNEL,
        )?)
    }

    /// Takes the memory of a connection whose session has `depth` commands, if there is so much.
    pub(crate) fn seat(self: &Arc<Self>, depth: u32) -> Option<Seat> {
        let (used, limit) = (self.seats.used.load(Relaxed), self.seats.limit);
        let floor = if used < limit / 2 {
            Floor::MOST
        } else if used < limit / 4 * 3 {
            Floor::LESS
        } else {
            Floor::LEAST
        };
        let bytes = SLOT
            .saturating_mul(depth.into())
            .saturating_add(SEAT)
            .saturating_add(floor.0.saturating_mul(2));
        self.seats.take(bytes).then(|| Seat {
            budget: self.clone(),
            bytes,
            floor,
        })
    }
}

/// The memory of a connection; it goes back when this is dropped.
pub(crate) struct Seat {
    budget: Arc<Budget>,
    bytes: u64,
    pub(crate) floor: Floor,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.budget.seats.give(self.bytes);
    }
}

/// The data of one kind that a connection holds. Its thread alone counts here; what is counted goes back when this is dropped.
pub(crate) struct Account {
    budget: Arc<Budget>,
    // Where the session may have other connections: what all of them hold.
    session: Option<Arc<Pool>>,
    kind: Kind,
    // What it has without taking it.
    floor: u64,
    used: u64,
    // Bytes taken from the module's budget.
    taken: u64,
}

impl Account {
    pub(crate) fn new(
        budget: &Arc<Budget>,
        kind: Kind,
        floor: Floor,
        session: Option<Arc<Pool>>,
    ) -> Self {
        Account {
            budget: budget.clone(),
            session,
            kind,
            floor: floor.0,
            used: 0,
            taken: 0,
        }
    }

    /// One for which no seat has anything.
    pub(crate) fn without_floor(budget: &Arc<Budget>, kind: Kind) -> Self {
        Self::new(budget, kind, Floor(0), None)
    }

    fn pool(&self) -> &Pool {
        match self.kind {
            Kind::Written => &self.budget.written,
            Kind::Read => &self.budget.read,
        }
    }

    /// Whether memory is short, and no more to be used than must be.
    pub(crate) fn is_scarce(&self) -> bool {
        let pool = self.pool();
        pool.used.load(Relaxed) > pool.limit / 2
    }

    /// Whether `bytes` more are what the session has in any case.
    pub(crate) fn is_own(&self, bytes: u64) -> bool {
        self.used.saturating_add(bytes) <= self.floor
    }

    /// Takes `bytes`, if there are so many.
    pub(crate) fn take(&mut self, bytes: u64) -> bool {
        let used = self.used.saturating_add(bytes);
        let lack = used.saturating_sub(self.taken.saturating_add(self.floor));
        if used > SESSION || self.session.as_ref().is_some_and(|s| !s.take(bytes)) {
            return false;
        }
        if lack > 0 && !self.take_more(lack) {
            if let Some(session) = &self.session {
                session.give(bytes);
            }
            return false;
        }
        self.used = used;
        true
    }

    /// Takes over `bytes` that another account has just given back: they are there.
    pub(crate) fn receive(&mut self, bytes: u64) {
        self.used = self.used.saturating_add(bytes);
        let lack = self
            .used
            .saturating_sub(self.taken.saturating_add(self.floor));
        self.pool().used.fetch_add(lack, Relaxed);
        self.taken = self.taken.saturating_add(lack);
        if let Some(session) = &self.session {
            session.used.fetch_add(bytes, Relaxed);
        }
    }

    fn take_more(&mut self, lack: u64) -> bool {
        let steps = lack.next_multiple_of(STEP);
        let got = if self.pool().take(steps) {
            steps
        } else if self.pool().take(lack) {
            lack
        } else {
            return false;
        };
        self.taken = self.taken.saturating_add(got);
        true
    }

    /// Gives `bytes` back.
    pub(crate) fn give(&mut self, bytes: u64) {
        self.used = self.used.saturating_sub(bytes);
        if let Some(session) = &self.session {
            session.give(bytes);
        }
        if self.taken == 0 {
            return;
        }
        // An idle session keeps nothing; a busy one a step, so that it need not take that again with the next command.
        let keep = match self.used {
            n if n <= self.floor => 0,
            n => n.saturating_add(STEP),
        };
        let spare = self.taken.saturating_sub(keep);
        if spare >= STEP || keep == 0 {
            self.pool().give(spare);
            self.taken = self.taken.saturating_sub(spare);
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.pool().give(self.taken);
        if let Some(session) = &self.session {
            session.give(self.used);
        }
    }
}
