// SPDX-License-Identifier: GPL-2.0

//! Connection recovery, at error recovery level 2: RFC 7143, 7.1.4.4, 7.2.2, 7.5, 11.5, 11.14.
//!
//! The tasks of a connection that is lost, or logged out for recovery, are kept for a time, in which the initiator may have others
//! of the session go on with them, each by a TASK REASSIGN. So is the session, if that was its last connection (6.3.6).

use crate::ffp::TmfAnswer;
use crate::negotiate::Parameters;

#[cfg(test)]
mod tests;

/// How a connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Nobody has logged it out.
    Lost,
    /// It was logged out for recovery, or reinstated (11.14).
    ForRecovery,
    /// What it had ends with it.
    ForGood,
}

/// What becomes of what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays until then, in milliseconds, if nothing happens.
    Stays(u64),
    /// There is nothing more to be kept.
    Over,
    /// Its time is over.
    Expires,
}

/// Where a task is that is to be reassigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// There is none with that tag, or it is no SCSI command: those are not reassigned (11.5.1).
    Nowhere,
    /// With a connection that is there.
    Allegiant,
    /// With one that is not; whether that was logged out for recovery.
    Kept(bool),
    /// With such a one, and some of what is to be sent for it was not kept.
    Incomplete(bool),
}

/// The keeping of one connection's tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Custody {
    logged_out: bool,
    /// Time2Wait and Time2Retain, which begins when that is over; in milliseconds.
    span: u64,
    until: u64,
    /// Commands at work that were reassigned, and are not back.
    away: u32,
}

impl Custody {
    /// A connection ends at `now`, in milliseconds; `None`: its tasks do, too.
    #[must_use]
    pub fn begin(parameters: &Parameters, how: Ended, now: u64) -> Option<Custody> {
        if parameters.recovery_level < 2 || parameters.time2retain == 0 || how == Ended::ForGood {
            return None;
        }
        let wait = u64::from(parameters.time2wait);
        let span = wait
            .saturating_add(parameters.time2retain.into())
            .saturating_mul(1000);
        Some(Custody {
            logged_out: how == Ended::ForRecovery,
            span,
            until: now.saturating_add(span),
            away: 0,
        })
    }

    /// The connection is logged out for recovery, or another takes its number. The time begins anew: what counts is what the
    /// logout response says (7.5.2).
    pub fn log_out(&mut self, now: u64) {
        if !self.logged_out {
            self.logged_out = true;
            self.until = now.saturating_add(self.span);
        }
    }

    /// Whether it was.
    #[must_use]
    pub const fn is_logged_out(&self) -> bool {
        self.logged_out
    }

    /// A command that is at work was reassigned.
    pub fn sent_away(&mut self) {
        self.away = self.away.saturating_add(1);
    }

    /// It has come back, for its new connection.
    pub fn came_back(&mut self) {
        self.away = self.away.saturating_sub(1);
    }

    /// Whether such commands are still at work.
    #[must_use]
    pub const fn has_away(&self) -> bool {
        self.away > 0
    }

    /// What becomes of it. `tasks`: there are some; `others`: the session has a connection.
    #[must_use]
    pub fn fate(&self, now: u64, tasks: bool, others: bool) -> Fate {
        if now >= self.until {
            Fate::Expires
        } else if self.logged_out && others && !tasks && self.away == 0 {
            Fate::Over
        } else {
            Fate::Stays(self.until)
        }
    }
}

/// The answer to a TASK REASSIGN (7.2.2, 11.6.1); with [`TmfAnswer::Complete`], the task goes on when that is sent.
#[must_use]
pub fn reassign(level: u8, immediate: bool, place: Place) -> TmfAnswer {
    match place {
        _ if level < 2 => TmfAnswer::ReassignNotSupported,
        // 11.5.1
        _ if !immediate => TmfAnswer::Rejected,
        Place::Nowhere => TmfAnswer::NoTask,
        Place::Allegiant | Place::Kept(false) | Place::Incomplete(false) => {
            TmfAnswer::TaskAllegiant
        }
        Place::Kept(true) => TmfAnswer::Complete,
        Place::Incomplete(true) => TmfAnswer::Rejected,
    }
}

/// The number of the first Data-In PDU that a reassigned read goes on with, by the ExpDataSN of the request: of `sent` PDUs, the
/// initiator has acknowledged the first `acknowledged` before. A value that it may not have counts for nothing (11.5.6).
#[must_use]
pub const fn first_unacknowledged(exp_data_sn: u32, acknowledged: u32, sent: u32) -> u32 {
    if exp_data_sn > acknowledged && exp_data_sn <= sent {
        exp_data_sn
    } else {
        acknowledged
    }
}
