// SPDX-License-Identifier: GPL-2.0

//! A connection below its PDUs: the socket, with what was received and what is to be sent.

use super::reach::Reach;
use crate::{
    portal::Portal,
    rx::{Filled, Rx, STAGE},
    session::event,
    target::Global,
    tx::{Tx, MAX_INLINE},
};
use iscsi_proto::wire::Bhs;
use kernel::{prelude::*, sync::Arc};
use lio_glue::{
    buffer::Buffer,
    socket::{Address, Socket},
    thread::{now_ms, Alarm, Waker},
};

/// How long a connection that we close waits for the other side, in milliseconds.
const LINGER_MS: u64 = 2_000;
/// How often it is looked whether the other side has what was sent, in milliseconds.
const LOOK_MS: u32 = 10;

/// A connection.
pub(crate) struct Link {
    pub(crate) global: Arc<Global>,
    pub(crate) portal: Arc<Portal>,
    pub(crate) peer: Address,
    pub(crate) local: Address,
    pub(crate) sock: Socket,
    pub(crate) waker: Arc<Waker>,
    pub(crate) alarm: Pin<KBox<Alarm>>,
    pub(crate) rx: Rx,
    pub(crate) tx: Tx,
    /// There may be bytes to receive.
    pub(crate) readable: bool,
    /// TCP may have room.
    pub(crate) writable: bool,
    /// The state of [`Global::cpus_said`] when the thread chose where it runs.
    pub(crate) cpus_heard: u32,
}

impl Link {
    /// How far the initiator has got.
    pub(super) fn reach(&self) -> Reach {
        let (_, rest) = self.sock.acked();
        let (r2ts, sent) = (self.tx.r2ts_taken, self.tx.taken);
        let got = sent.saturating_sub(rest.into());
        Reach { r2ts, sent, got }
    }

    /// Takes the events in that are there within `ms` milliseconds (`None`: for ever), and returns them.
    pub(crate) fn wait(&mut self, ms: Option<u32>) -> u32 {
        let events = self.alarm.as_mut().wait(ms);
        if self.cpus_heard != self.global.cpus_said.get() {
            self.change_cpus();
        }
        self.readable |= events & Waker::RX != 0;
        self.writable |= events & Waker::TX != 0;
        events
    }

    // Where the CPUs of the list have all gone offline meanwhile, the thread stays where the kernel has put it.
    #[cold]
    fn change_cpus(&mut self) {
        let cpus = self.global.cpus.lock();
        self.cpus_heard = self.global.cpus_said.get();
        let _ = cpus.run_on();
    }

    /// Receives into the stage, up to `limit` bytes there, and, first, into `data`. `Filled::Nothing` without a call
    /// where nothing can be there. `need`: see [`Rx::fill`].
    ///
    /// # Errors
    /// The connection is broken.
    pub(crate) fn fill(
        &mut self,
        data: Option<(&Buffer, usize, usize)>,
        limit: usize,
        need: usize,
    ) -> Result<Filled> {
        if !self.readable {
            return Ok(Filled::Nothing);
        }
        let r = self.rx.fill(&self.sock, data, limit, need);
        self.readable = matches!(r, Ok(Filled::Got(_, true)));
        r
    }

    /// Hands to TCP what it takes.
    ///
    /// # Errors
    /// The connection is broken.
    pub(crate) fn flush(&mut self) -> Result {
        if self.writable && !self.tx.is_empty() {
            self.writable = self.tx.flush(&self.sock)?;
        }
        Ok(())
    }

    /// Queues a PDU with `data`, of any length.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn send(&mut self, bhs: &Bhs, data: &[u8]) -> Result {
        if data.len() <= MAX_INLINE {
            return self.tx.push(bhs, &[data]);
        }
        let buffer = Buffer::alloc(data.len(), false)?;
        buffer.write_at(0, data);
        self.send_buffer(bhs, buffer, data.len())
    }

    /// Queues a PDU with `len` bytes of `data`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn send_buffer(&mut self, bhs: &Bhs, data: Buffer, len: usize) -> Result {
        self.tx.push_buffer(bhs, data, len)
    }

    /// Receives exactly `out.len()` bytes; until `deadline` (in the milliseconds of [`now_ms`]).
    ///
    /// # Errors
    /// `ETIMEDOUT`; `EBUSY` if the place is needed; `ESHUTDOWN` if the portal has gone; `ECONNRESET` if the other side has closed; the socket's.
    pub(crate) fn receive(&mut self, mut out: &mut [u8], deadline: u64) -> Result {
        loop {
            let n = self.rx.available().min(out.len());
            let (now, later) = out.split_at_mut_checked(n).ok_or(EINVAL)?;
            self.rx.take(now);
            if later.is_empty() {
                return Ok(());
            }
            out = later;
            match self.fill(None, STAGE, 1)? {
                Filled::Got(..) => {}
                Filled::End => return Err(ECONNRESET),
                Filled::Nothing => self.wait_until(deadline)?,
            }
        }
    }

    /// Sends all that is queued, until `deadline`.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub(crate) fn flush_all(&mut self, deadline: u64) -> Result {
        loop {
            self.flush()?;
            if self.tx.is_empty() {
                return Ok(());
            }
            self.wait_until(deadline)?;
        }
    }

    /// After the last PDU: waits a moment until the other side has closed too, so that no reset overtakes that PDU. No
    /// longer than until an event comes after which `hurry` says so.
    pub(crate) fn linger(&mut self, hurry: impl Fn() -> bool) {
        let deadline = now_ms().wrapping_add(LINGER_MS);
        if self.flush_all(deadline).is_err() {
            return;
        }
        self.sock.shutdown_send();
        while !hurry() {
            self.rx.skip(usize::MAX);
            match self.fill(None, STAGE, 1) {
                Ok(Filled::Got(..)) if now_ms() < deadline => {}
                Ok(Filled::Nothing) if self.wait_until(deadline).is_ok() => {}
                _ => return,
            }
        }
    }

    /// Sends what is queued, and waits until the other side has it; no longer than so many milliseconds.
    pub(crate) fn deliver(&mut self, ms: u64) {
        let deadline = now_ms().wrapping_add(ms);
        if self.flush_all(deadline).is_ok() {
            // There is no event for that.
            while self.sock.acked().1 > 0 && now_ms() < deadline {
                self.waker.wait(Some(LOOK_MS));
            }
        }
    }

    /// Ends the connection with a reset.
    pub(crate) fn abort(self) {
        self.sock.abort();
    }

    fn wait_until(&mut self, deadline: u64) -> Result {
        let left = deadline.saturating_sub(now_ms());
        if left == 0 {
            return Err(ETIMEDOUT);
        }
        let events = self.wait(Some(u32::try_from(left).unwrap_or(u32::MAX)));
        if events & event::NO_PORTAL != 0 {
            return Err(ESHUTDOWN);
        }
        match events & event::GIVE_WAY {
            0 => Ok(()),
            _ => Err(EBUSY),
        }
    }
}
