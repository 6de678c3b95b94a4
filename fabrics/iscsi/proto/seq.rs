// SPDX-License-Identifier: GPL-2.0

//! Numbering of commands and statuses in a session of one connection: RFC 7143, 4.2.2.1 and 4.2.2.2.

use crate::error::Error;
use crate::pdu::Numbers;
use crate::sn::{CmdSn, StatSn};

/// What becomes of a request with a command number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is executed.
    Execute,
    /// It is out of the window or came before: silently ignored, with all its data.
    Ignore,
}

/// The window of command numbers that the target takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CmdWindow {
    expected: CmdSn,
    max: CmdSn,
}

impl CmdWindow {
    /// A window of `depth` commands (at least one) that begins with `first`.
    #[must_use]
    pub fn new(first: CmdSn, depth: u32) -> Self {
        CmdWindow {
            expected: first,
            max: first.plus(depth.clamp(1, 0x7fff_ffff).wrapping_sub(1)),
        }
    }

    /// Judges a request and, if it is executed and not immediate, takes its number.
    ///
    /// # Errors
    /// On the one connection of the session nothing can overtake: a number that is ahead means that one was lost,
    /// which error recovery level 0 answers by ending the session.
    pub fn admit(&mut self, cmd_sn: CmdSn, immediate: bool) -> Result<Admission, Error> {
        if immediate {
            return Ok(Admission::Execute);
        }
        if cmd_sn == self.expected && self.open() > 0 {
            self.expected = self.expected.next();
            return Ok(Admission::Execute);
        }
        if self.is_ahead(cmd_sn) {
            return Err(Error::fatal("7.8, 4.2.2.1: a command number was left out"));
        }
        Ok(Admission::Ignore)
    }

    /// Whether a number is taken later: others before it have not come.
    #[must_use]
    pub const fn is_ahead(&self, cmd_sn: CmdSn) -> bool {
        self.expected.before(cmd_sn) && cmd_sn.not_after(self.max)
    }

    /// How many commands the window has room for.
    #[must_use]
    pub const fn open(&self) -> u32 {
        self.max.next().since(self.expected)
    }

    /// A command that had taken a number (not an immediate one) has been answered: room for one more. Not calling
    /// this makes the window smaller by one.
    pub fn release(&mut self) {
        // The window must never span half of the numbers, or before and after lose their meaning.
        if self.open() < 0x7fff_ffff {
            self.max = self.max.next();
        }
    }

    /// The command with this number, which is missing, counts as received and answered (7.11), if it is the next one.
    pub fn plug(&mut self, cmd_sn: CmdSn) {
        if cmd_sn == self.expected && self.open() > 0 {
            self.expected = self.expected.next();
            self.release();
        }
    }

    /// The next command number that is expected.
    #[must_use]
    pub const fn expected(&self) -> CmdSn {
        self.expected
    }

    /// The last command number that is taken.
    #[must_use]
    pub const fn max(&self) -> CmdSn {
        self.max
    }
}

/// The numbering of responses on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatSeq {
    next: StatSn,
    acknowledged: StatSn,
}

impl StatSeq {
    /// The numbering goes on with `next`; all before it is acknowledged.
    #[must_use]
    pub const fn new(next: StatSn) -> Self {
        StatSeq {
            next,
            acknowledged: next,
        }
    }

    /// The number that the next response will have; for an R2T, an unasked NOP-In.
    #[must_use]
    pub const fn next(&self) -> StatSn {
        self.next
    }

    /// Takes the number for a response. They must be sent in the order in which they were taken.
    pub fn take(&mut self) -> StatSn {
        let taken = self.next;
        self.next = taken.next();
        taken
    }

    /// Takes note of the ExpStatSN that came with a request. A number that was acknowledged before, or that was
    /// never sent, changes nothing: false.
    pub fn acknowledge(&mut self, exp_stat_sn: StatSn) -> bool {
        let ahead = exp_stat_sn.since(self.acknowledged);
        if ahead > self.next.since(self.acknowledged) {
            return false;
        }
        self.acknowledged = exp_stat_sn;
        true
    }

    /// Whether the initiator has acknowledged all responses before this number.
    #[must_use]
    pub const fn has_acknowledged(&self, stat_sn: StatSn) -> bool {
        stat_sn.not_after(self.acknowledged)
    }

    /// The number of the first response that the initiator has not acknowledged.
    #[must_use]
    pub const fn acknowledged(&self) -> StatSn {
        self.acknowledged
    }

    /// How many responses the initiator has not acknowledged.
    #[must_use]
    pub const fn unacknowledged(&self) -> u32 {
        self.next.since(self.acknowledged)
    }
}

impl CmdWindow {
    /// The numbers for a response that takes one.
    pub fn numbers(&self, stat: &mut StatSeq) -> Numbers {
        self.with_stat_sn(stat.take())
    }

    /// The numbers for a PDU with this status number.
    #[must_use]
    pub const fn with_stat_sn(&self, stat_sn: StatSn) -> Numbers {
        Numbers {
            stat_sn,
            exp_cmd_sn: self.expected,
            max_cmd_sn: self.max,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_in_order_fill_the_window() {
        let mut window = CmdWindow::new(CmdSn(u32::MAX), 2);
        assert_eq!(window.max(), CmdSn(0));
        assert_eq!(window.admit(CmdSn(u32::MAX), false), Ok(Admission::Execute));
        assert_eq!(window.admit(CmdSn(u32::MAX), false), Ok(Admission::Ignore));
        assert_eq!(window.admit(CmdSn(0), false), Ok(Admission::Execute));
        assert_eq!(window.open(), 0);
        assert_eq!(window.admit(CmdSn(1), false), Ok(Admission::Ignore));
        assert_eq!(window.admit(CmdSn(77), true), Ok(Admission::Execute));
        window.release();
        assert_eq!(window.admit(CmdSn(1), false), Ok(Admission::Execute));
    }

    #[test]
    fn a_gap_ends_the_session() {
        let mut window = CmdWindow::new(CmdSn(1), 8);
        assert!(window.admit(CmdSn(2), false).unwrap_err().close);
        assert_eq!(window.admit(CmdSn(9), false), Ok(Admission::Ignore));
        assert_eq!(window.admit(CmdSn(0), false), Ok(Admission::Ignore));
        assert_eq!(window.expected(), CmdSn(1));
    }

    #[test]
    fn a_gap_is_plugged() {
        let mut window = CmdWindow::new(CmdSn(u32::MAX), 2);
        window.plug(CmdSn(0));
        assert_eq!(window.expected(), CmdSn(u32::MAX));
        window.plug(CmdSn(u32::MAX));
        assert_eq!(
            (window.expected(), window.max(), window.open()),
            (CmdSn(0), CmdSn(1), 2)
        );
        assert_eq!(window.admit(CmdSn(0), false), Ok(Admission::Execute));
    }

    #[test]
    fn the_window_stays_below_half() {
        let mut window = CmdWindow::new(CmdSn(0), u32::MAX);
        assert_eq!(window.open(), 0x7fff_ffff);
        window.release();
        assert_eq!(window.open(), 0x7fff_ffff);
        assert_eq!(CmdWindow::new(CmdSn(0), 0).open(), 1);
    }

    #[test]
    fn statuses() {
        let mut stat = StatSeq::new(StatSn(u32::MAX));
        assert_eq!(stat.take(), StatSn(u32::MAX));
        assert_eq!(stat.take(), StatSn(0));
        assert_eq!(stat.unacknowledged(), 2);
        assert!(!stat.acknowledge(StatSn(2)));
        assert!(stat.acknowledge(StatSn(0)));
        assert_eq!(stat.unacknowledged(), 1);
        assert!(stat.has_acknowledged(StatSn(0)) && !stat.has_acknowledged(StatSn(1)));
        assert!(!stat.acknowledge(StatSn(u32::MAX)));
        assert!(stat.acknowledge(StatSn(1)));
        assert_eq!(stat.next(), StatSn(1));
    }
}
