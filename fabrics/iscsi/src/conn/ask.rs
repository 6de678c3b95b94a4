// SPDX-License-Identifier: GPL-2.0

//! Asynchronous messages that ask the initiator for something, or tell it of SCSI events (RFC 7143, 11.9).

use super::ffp::{End, Ffp};
use crate::connection::Connection;
use iscsi_proto::{
    ffp::text,
    pdu::AsyncEvent,
    text::{Full, Writer},
    wire::Lun,
};
use kernel::{prelude::*, sync::atomic::Relaxed};
use lio_scsi::sense::{Format, Key, Sense, SenseData};

/// How many times a negotiation is asked for (11.9.1: again, if the initiator does not begin one).
const TIMES: u32 = 3;

/// What was asked for on a connection.
pub(super) struct Asked {
    // How far it has looked at what the session asks for.
    seen: u32,
    logout: bool,
    negotiations: u32,
    negotiation: Option<Negotiation>,
}

/// A negotiation that the initiator has still to begin, or to end.
struct Negotiation {
    // When it is asked for again; how many times more.
    until: u64,
    left: u32,
    seconds: u16,
    // MaxRecvDataSegmentLength as it was told in the sequence that goes on.
    told: Option<u32>,
    // Another one was asked for since.
    again: bool,
}

impl Asked {
    /// `negotiations`: those that were asked for before; its login has told what they were about.
    pub(super) fn new(negotiations: u32) -> Self {
        Asked {
            seen: 0,
            logout: false,
            negotiations,
            negotiation: None,
        }
    }
}

impl Ffp {
    /// Looks for what the session asks for.
    pub(super) fn heed_asks(&mut self, own: &Connection) -> Result {
        let count = own.session.asks.count();
        // Who waits for a logout goes, or will look again.
        let waits = self.closing || self.leaving.is_some() || self.link.tx.is_full();
        if count == self.asked.seen || waits {
            return Ok(());
        }
        self.asked.seen = count;
        self.ask_all(own)
    }

    #[inline(never)]
    fn ask_all(&mut self, own: &Connection) -> Result {
        let asks = &own.session.asks;
        if let (false, Some((by, _))) = (self.asked.logout, asks.logout_by()) {
            self.asked.logout = true;
            let seconds = by.saturating_sub(self.timers.now()).div_ceil(1000);
            let seconds = u16::try_from(seconds).unwrap_or(u16::MAX);
            self.tell(AsyncEvent::LogoutRequest, (0, 0, seconds))?;
            self.timers.watch(by);
        }
        let (negotiations, seconds) = asks.negotiations();
        if negotiations != self.asked.negotiations {
            self.asked.negotiations = negotiations;
            match &mut self.asked.negotiation {
                Some(n) if n.told.is_some() => n.again = true,
                _ => self.ask_for_negotiation(Negotiation {
                    until: 0,
                    left: TIMES,
                    seconds: u16::try_from(seconds).unwrap_or(u16::MAX),
                    told: None,
                    again: false,
                })?,
            }
        }
        for (lun, what) in asks.take_events() {
            let sense = Sense::new(Key::UnitAttention, what).encode(Format::Fixed);
            let sense = sense.as_slice();
            // 11.9.4, 11.4.7: the length goes before.
            let mut data = [0; 2 + SenseData::MAX];
            let len = u16::try_from(sense.len()).unwrap_or(0).to_be_bytes();
            data.iter_mut()
                .zip(Iterator::chain(len.iter(), sense))
                .for_each(|(to, from)| *to = *from);
            let data = data
                .get(..sense.len().saturating_add(2))
                .unwrap_or_default();
            self.tell_with(AsyncEvent::Scsi, Lun(lun.to_bytes()), (0, 0, 0), data)?;
        }
        Ok(())
    }

    fn ask_for_negotiation(&mut self, mut n: Negotiation) -> Result {
        let ms = u64::from(n.seconds).saturating_mul(1000);
        n.until = self.timers.now().saturating_add(ms);
        n.left = n.left.saturating_sub(1);
        self.timers.watch(n.until);
        self.tell(AsyncEvent::Negotiate, (0, 0, n.seconds))?;
        self.asked.negotiation = Some(n);
        Ok(())
    }

    /// What was asked for and did not come in time.
    pub(super) fn check_asked(&mut self, own: &Connection, now: u64) -> Result<(), End> {
        if let Some((by, why)) = own.session.asks.logout_by() {
            if now >= by {
                // All connections were asked. 11.9.1: then it ends without.
                own.session.stop(why);
            } else {
                self.timers.watch(by);
            }
        }
        if let Some(n) = self.asked.negotiation.take() {
            if n.told.is_some() {
                // It goes on, for as long as the initiator likes.
                self.asked.negotiation = Some(n);
            } else if now < n.until {
                self.timers.watch(n.until);
                self.asked.negotiation = Some(n);
            } else if n.left > 0 && !self.closing {
                self.ask_for_negotiation(n)?;
            } else if self.link.portal.throttle.allow() {
                pr_info!(
                    "iscsi: session of {} at {}: no negotiation, though it was asked for\n",
                    self.initiator,
                    self.link.peer
                );
            }
        }
        Ok(())
    }

    /// In a negotiation that was asked for: writes what the target has to say, once in a sequence (13.7, 13.12). Returns what is to be given
    /// to [`Self::has_declared`] when it goes out.
    pub(super) fn declare(&self, out: &mut Writer<'_>) -> Result<Option<u32>, Full> {
        let (Some(n), Some(session)) = (&self.asked.negotiation, &self.session) else {
            return Ok(None);
        };
        if n.told.is_some() {
            return Ok(None);
        }
        let params = session.private().group.params.lock();
        let max_recv = params.config.declared();
        text::declare(out, max_recv, params.alias.to_bytes())?;
        Ok(Some(max_recv))
    }

    pub(super) fn has_declared(&mut self, told: Option<u32>) {
        if let (Some(n), Some(_)) = (&mut self.asked.negotiation, told) {
            n.told = told;
        }
    }

    /// A text sequence ends: what was told in it holds.
    pub(super) fn agree_declared(&mut self) {
        let Some(n) = self.asked.negotiation.take_if(|n| n.told.is_some()) else {
            return;
        };
        let told = n.told.unwrap_or(0);
        // What is on its way may be as long as before.
        self.parameters.max_recv = self.parameters.max_recv.max(told);
        if n.again {
            self.asked.negotiations = self.asked.negotiations.wrapping_sub(1);
            self.asked.seen = self.asked.seen.wrapping_sub(1);
        }
        if let Some(own) = &self.own {
            own.max_recv.store(told, Relaxed);
        }
    }

    /// A text sequence has been given up: what was told in it does not hold, and is told in the next, which is asked for again.
    pub(super) fn forget_declared(&mut self) {
        if let Some(n) = &mut self.asked.negotiation {
            n.told = None;
            self.timers.watch(n.until);
        }
    }
}
