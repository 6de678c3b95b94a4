// SPDX-License-Identifier: GPL-2.0

//! What happens when nothing comes: pings (RFC 7143, 11.19), data that is awaited, the end of discovery sessions.

use super::ffp::{End, Ffp};
use iscsi_proto::{
    pdu::NopIn,
    wire::{DataLen, Itt, Lun, Ttt},
};
use kernel::prelude::*;
use lio_glue::thread::now_ms;

/// The index in the transfer tags of pings: no command has it.
const PING_INDEX: u16 = 0xfffd;
/// How long a discovery session may last, whatever it does, in milliseconds.
const DISCOVERY_MS: u64 = 30_000;
/// How long the last responses may take to be sent, in milliseconds.
const CLOSE_MS: u64 = 10_000;
/// When there is nothing to watch, in milliseconds.
const LONG: u64 = 60_000;

/// How often it is looked how far a ping or an R2T has come, in milliseconds.
const LOOK_MS: u64 = 1_000;

/// A ping on its way. It comes after all that was queued before, which a slow initiator takes its time to read.
struct Ping {
    ttt: Ttt,
    // When the initiator last took something that goes before, or the ping.
    since: u64,
    // How far it had got then.
    acked: u32,
    // It has the ping.
    arrived: bool,
}

/// A connection's clock.
pub(super) struct Timers {
    now: u64,
    // When full feature phase began.
    started: u64,
    // When what is received now has come.
    came: u64,
    // When something came last.
    heard: u64,
    // When to look next.
    next: u64,
    // The ping that is not answered yet.
    ping: Option<Ping>,
    rounds: u32,
    // When the connection is closed, whatever is still to be sent.
    close_by: Option<u64>,
    // What the initiator had got of what is sent when that was looked at last, and when it had less.
    got: u64,
    got_less: u64,
    /// There is more to do at once.
    pub(super) busy: bool,
}

impl Timers {
    pub(super) fn new(now: u64) -> Self {
        Timers {
            now,
            started: now,
            came: now,
            heard: now,
            next: now,
            ping: None,
            rounds: 0,
            close_by: None,
            got: 0,
            got_less: now,
            busy: true,
        }
    }

    /// How long to sleep.
    pub(super) fn sleep_ms(&self) -> Option<u32> {
        if self.busy {
            return Some(0);
        }
        let left = self.next.saturating_sub(self.now);
        // At least a tick, lest a timer that is due spins.
        Some(u32::try_from(left).unwrap_or(u32::MAX).max(1))
    }

    /// Takes the time.
    pub(super) fn tick(&mut self) {
        self.now = now_ms();
        self.came = self.now;
    }

    /// What is found now has been there for so long.
    pub(super) fn came_before(&mut self, ms: u32) {
        self.came = self.now.saturating_sub(u64::from(ms));
    }

    /// Whether it is time to look.
    pub(super) fn is_due(&self) -> bool {
        self.now >= self.next
    }

    /// The connection is closing: what is queued has so long to be sent.
    pub(super) fn close_soon(&mut self) {
        if self.close_by.is_none() {
            let at = self.now.saturating_add(CLOSE_MS);
            self.close_by = Some(at);
            self.watch(at);
        }
    }

    /// The time as it was taken last.
    pub(super) fn now(&self) -> u64 {
        self.now
    }

    /// Whether a ping is on its way.
    pub(super) fn is_pinging(&self) -> bool {
        self.ping.is_some()
    }

    /// Something came.
    pub(super) fn heard(&mut self) {
        self.heard = self.heard.max(self.came);
    }

    /// When that was, in milliseconds.
    pub(super) fn last_heard(&self) -> u64 {
        self.heard
    }

    /// The initiator answered a ping.
    pub(super) fn answered(&mut self, ttt: Ttt) {
        if self.ping.as_ref().is_some_and(|p| p.ttt == ttt) {
            self.ping = None;
        }
    }

    /// Has it looked how far the initiator has got.
    pub(super) fn look_soon(&mut self) {
        self.watch(self.now.saturating_add(LOOK_MS));
    }

    /// Has [`Ffp::check_timers`] called at `at`, or before.
    pub(super) fn watch(&mut self, at: u64) {
        self.next = self.next.min(at);
    }
}

impl Ffp {
    pub(super) fn check_timers(&mut self) -> Result<(), End> {
        let own = self.own.clone();
        let now = self.timers.now;
        self.timers.next = now.saturating_add(LONG);
        if let Some(until) = self.timers.close_by {
            if now >= until {
                return Err(End::Lost);
            }
            self.timers.watch(until);
        }
        let Some(shared) = own.as_ref().map(|own| &own.session) else {
            let until = self.timers.started.saturating_add(DISCOVERY_MS);
            if now >= until {
                return Err(End::Stopped("a discovery session lasted too long"));
            }
            self.timers.watch(until);
            return Ok(());
        };
        if let Some(own) = &own {
            self.check_asked(own, now)?;
        }
        let coming = self.input.of_write();
        let (timeout, times) = shared.data_timeout();
        let reach = self.link.reach();
        if reach.got != self.timers.got {
            (self.timers.got, self.timers.got_less) = (reach.got, now);
        }
        let until = self.timers.got_less.saturating_add(timeout);
        if self.writes.wait_for_r2ts(now, (until, timeout), &reach) {
            self.timers.look_soon();
        }
        if self.parameters.recovery_level > 0 {
            while let Some(index) = self.writes.take_overdue(now, timeout, times, coming) {
                self.go_on(index)?;
            }
        }
        match self.writes.earliest_deadline(now, timeout, times) {
            Ok(until) => self.timers.watch(until),
            Err(()) => return Err(End::Timeout("write data that was asked for did not come")),
        }
        match self.writes.earliest_end(now, (timeout, times), reach.got) {
            Ok(until) => self.timers.watch(until),
            Err(_) => {
                let what = "write data that others' commands wait for did not come";
                return Err(End::Timeout(what));
            }
        }
        let (silence, patience) = shared.nop_timeouts_ms();
        if let Some(ping) = &mut self.timers.ping {
            if !ping.arrived {
                let (acked, rest) = self.link.sock.acked();
                if acked != ping.acked {
                    ping.acked = acked;
                    ping.since = now;
                }
                ping.arrived = rest == 0 && self.link.tx.is_empty();
            }
            // Whatever comes shows that the initiator is there; but then it has not answered, which it must.
            let until = ping.since.max(self.timers.heard).saturating_add(patience);
            if now >= until {
                return Err(End::Timeout("a ping was not answered"));
            }
            let look = match ping.arrived {
                true => until,
                false => now.saturating_add(LOOK_MS).min(until),
            };
            self.timers.watch(look);
        } else if silence > 0 {
            let until = self.timers.heard.saturating_add(silence);
            if now >= until {
                self.ping()?;
                self.timers.watch(now.saturating_add(LOOK_MS.min(patience)));
            } else {
                self.timers.watch(until);
            }
        }
        Ok(())
    }

    pub(super) fn ping(&mut self) -> Result {
        self.timers.rounds = self.timers.rounds.wrapping_add(1);
        let ttt = Ttt::new(PING_INDEX, self.timers.rounds);
        let mut bhs = [0; 48];
        NopIn {
            data_len: DataLen::at_most(0),
            lun: Lun::default(),
            itt: Itt::NONE,
            ttt,
            sn: self.window.with_stat_sn(self.stat.next()),
        }
        .emit(&mut bhs);
        self.link.send(&bhs, &[])?;
        self.timers.ping = Some(Ping {
            ttt,
            since: self.timers.now,
            acked: self.link.sock.acked().0,
            arrived: false,
        });
        Ok(())
    }
}
