// SPDX-License-Identifier: GPL-2.0

//! The command numbers of a session that may have several connections: RFC 7143, 4.2.2.1.
//!
//! Commands are delivered in the order of their numbers, whichever connection brings them. One whose turn has not come waits
//! with its connection, which is told when it has. ExpCmdSN goes on when a command is delivered, so that one which waits is
//! not acknowledged: if its connection is lost, it was never received, and the initiator may send it again by another one.

use crate::pdu::Numbers;
use crate::sn::{CmdSn, StatSn};
use core::ops::DerefMut;

#[cfg(test)]
mod tests;

/// What becomes of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is delivered now; then [`Order::delivered`] is called, whatever came of it.
    Deliver,
    /// It waits: others come before it.
    Wait,
    /// It is out of the window, came before, or has been given up: silently ignored, with its data.
    Ignore,
}

/// Nobody waits with this number.
const FREE: u16 = 0;
/// It counts as delivered.
const PLUGGED: u16 = u16::MAX;

/// The window of command numbers, and who waits with which of them.
#[derive(Clone, Debug)]
pub struct Order<S> {
    expected: CmdSn,
    max: CmdSn,
    /// The command with the number `expected` is being delivered.
    delivering: bool,
    /// By the lower bits of a number: [`FREE`], [`PLUGGED`], or the connection that waits, plus one.
    places: S,
    mask: u32,
}

impl<S: DerefMut<Target = [u16]>> Order<S> {
    /// A window of `depth` commands (at least one) that begins with `first`. There are `places` for as many; of them a power of
    /// two is used, which bounds the depth.
    #[must_use]
    pub fn new(first: CmdSn, depth: u32, mut places: S) -> Self {
        places.iter_mut().for_each(|p| *p = FREE);
        let len = u32::try_from(places.len()).unwrap_or(u32::MAX).min(1 << 30);
        let mask = match len.checked_ilog2() {
            Some(bits) => 1u32.wrapping_shl(bits).wrapping_sub(1),
            None => 0,
        };
        let depth = depth.clamp(1, mask.saturating_add(1));
        Order {
            expected: first,
            max: first.plus(depth.wrapping_sub(1)),
            delivering: false,
            places,
            mask,
        }
    }

    fn place(&self, sn: CmdSn) -> u16 {
        let at = sn.0 & self.mask;
        self.places.get(at as usize).copied().unwrap_or(FREE)
    }

    fn put(&mut self, sn: CmdSn, what: u16) {
        let at = sn.0 & self.mask;
        if let Some(place) = self.places.get_mut(at as usize) {
            *place = what;
        }
    }

    fn is_in_window(&self, sn: CmdSn) -> bool {
        sn.since(self.expected) < self.open()
    }

    /// A command comes in on `connection`, which is below 0xfffe.
    pub fn arrive(&mut self, sn: CmdSn, connection: u16) -> Turn {
        if !self.is_in_window(sn) || self.place(sn) != FREE {
            return Turn::Ignore;
        }
        if sn != self.expected {
            self.put(sn, connection.saturating_add(1));
            return Turn::Wait;
        }
        if self.delivering {
            return Turn::Ignore;
        }
        self.delivering = true;
        Turn::Deliver
    }

    /// Whether the turn of a command has come that waits with `connection`.
    pub fn turn(&mut self, sn: CmdSn, connection: u16) -> Turn {
        if !self.is_in_window(sn) || self.place(sn) != connection.saturating_add(1) {
            return Turn::Ignore;
        }
        if sn != self.expected {
            return Turn::Wait;
        }
        if self.delivering {
            // It does not wait any more. The place is that of the number which has just come in behind it.
            return Turn::Ignore;
        }
        self.put(sn, FREE);
        self.delivering = true;
        Turn::Deliver
    }

    /// The command whose turn it was is delivered.
    pub fn delivered(&mut self) {
        if self.delivering {
            self.delivering = false;
            self.expected = self.expected.next();
            self.skip();
        }
    }

    fn skip(&mut self) {
        while self.open() > 0 && self.place(self.expected) == PLUGGED {
            self.put(self.expected, FREE);
            self.expected = self.expected.next();
            // Nobody answers it.
            self.release();
        }
    }

    /// The connection whose command's turn it is.
    #[must_use]
    pub fn next(&self) -> Option<u16> {
        match self.place(self.expected) {
            _ if self.delivering || self.open() == 0 => None,
            FREE | PLUGGED => None,
            n => n.checked_sub(1),
        }
    }

    /// A command that was not delivered counts as received and done with (11.5.1, ABORT TASK); false if it is not one that
    /// still could be.
    pub fn plug(&mut self, sn: CmdSn) -> bool {
        if !self.is_in_window(sn) || (sn == self.expected && self.delivering) {
            return false;
        }
        self.put(sn, PLUGGED);
        if !self.delivering {
            self.skip();
        }
        true
    }

    /// So do all before `sn` (4.2.3.3, resets of the target).
    pub fn plug_before(&mut self, sn: CmdSn) {
        let (mut n, max) = (self.expected, self.max);
        while n.before(sn) && n.not_after(max) {
            self.plug(n);
            n = n.next();
        }
    }

    /// Whether all commands before `sn` were delivered.
    #[must_use]
    pub fn reached(&self, sn: CmdSn) -> bool {
        !self.expected.before(sn)
    }

    /// A connection has gone: what waits with it was never received.
    pub fn leave(&mut self, connection: u16) {
        let own = connection.saturating_add(1);
        for place in self.places.iter_mut().filter(|p| **p == own) {
            *place = FREE;
        }
    }

    /// How many commands the window has room for.
    #[must_use]
    pub const fn open(&self) -> u32 {
        self.max.next().since(self.expected)
    }

    /// A command that had taken a number has been answered: room for one more. It may be the one that is being delivered, whose place
    /// is free again.
    pub fn release(&mut self) {
        if self.open() <= self.mask.saturating_add(self.delivering.into()) {
            self.max = self.max.next();
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
