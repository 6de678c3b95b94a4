// SPDX-License-Identifier: GPL-2.0

//! What waits on a connection for commands of others, and how much of which command that is. Who brings it does so, and what he brings is
//! found, in [`super::park`].

use super::{
    flow::Load,
    receive::{Data, Input, To},
    writes::Writes,
};
use crate::ring::Ring;
use iscsi_proto::{
    pdu::{DataOut, Request},
    sn::CmdSn,
    wire::{Bhs, Itt},
};
use kernel::prelude::*;
use lio_glue::buffer::Buffer;

/// Bytes that a PDU takes while it waits, beside its data.
pub(super) const ENTRY: u64 = 512;

/// A PDU that waits.
pub(super) struct Parked {
    pub(super) bhs: Bhs,
    pub(super) ahs: KVec<u8>,
    pub(super) request: Request,
    // Its number; `None` for data, which goes after its command.
    pub(super) cmd_sn: Option<CmdSn>,
    pub(super) load: Load,
    pub(super) data: Option<Buffer>,
    // There was no memory for its data.
    pub(super) refused: bool,
    // Its data is not what was sent.
    pub(super) spoiled: bool,
}

impl Parked {
    pub(super) fn buffer(&self) -> Option<&Buffer> {
        self.data.as_ref()
    }

    /// The data, which came for a command that waits, is not what was sent: that is told to the command when its turn comes.
    pub(super) fn spoil(&mut self) {
        self.data = None;
        self.spoiled = true;
    }
}

/// What waits of one command, or of its data.
struct Part {
    itt: Itt,
    // PDUs, and commands among them: a tag may be used again while data of the one before is there.
    pdus: usize,
    commands: usize,
    // Data-Outs of the newest one, the bytes that came for it without being asked for, and whether that was the last of them.
    data: u32,
    octets: u32,
    over: bool,
}

/// What waits on a connection, in the order in which it came: commands come in the order of their numbers, but for those that
/// are sent again at error recovery level 1.
pub(super) struct Parking {
    queue: Ring<KBox<Parked>>,
    // By tag: as many as there are commands, about. The newest one is the last.
    parts: KVec<Part>,
    // The number that was looked for and is not there.
    missing: Option<CmdSn>,
}

impl Parking {
    pub(super) const fn new() -> Self {
        Parking {
            queue: Ring::new(),
            parts: KVec::new(),
            missing: None,
        }
    }

    /// Appends a PDU.
    ///
    /// # Errors
    /// It comes back where there is no memory for it.
    pub(super) fn push(&mut self, parked: KBox<Parked>) -> Result<(), KBox<Parked>> {
        if self.parts.reserve(1, GFP_KERNEL).is_err() {
            return Err(parked);
        }
        let request = parked.request;
        if parked.cmd_sn.is_some() {
            self.missing = None;
        }
        self.queue.push(parked)?;
        let Some(itt) = tag(&request) else {
            return Ok(());
        };
        let place = self.place(itt).unwrap_or_else(|| {
            let _ = self.parts.push_within_capacity(Part::new(itt));
            self.parts.len().saturating_sub(1)
        });
        if let Some(part) = self.parts.get_mut(place) {
            part.note(&request);
        }
        Ok(())
    }

    /// Takes the first one.
    pub(super) fn pop(&mut self) -> Option<KBox<Parked>> {
        let parked = self.queue.pop()?;
        let place = tag(&parked.request).and_then(|itt| self.place(itt));
        if let Some(part) = place.and_then(|i| self.parts.get_mut(i)) {
            part.pdus = part.pdus.saturating_sub(1);
            let is_command = usize::from(parked.cmd_sn.is_some());
            part.commands = part.commands.saturating_sub(is_command);
            if let (0, Some(i)) = (part.pdus, place) {
                let _ = self.parts.remove(i);
            }
        }
        Some(parked)
    }

    /// The first one.
    pub(super) fn first(&self) -> Option<&Parked> {
        Some(self.queue.get(0)?)
    }

    fn place(&self, itt: Itt) -> Option<usize> {
        self.parts.iter().rposition(|part| part.itt == itt)
    }

    /// Nothing that waits was ever received.
    pub(super) fn clear(&mut self, input: &Input, writes: &mut Writes) {
        if let Input::Data(Data {
            to: To::Park(parked),
            ..
        }) = input
        {
            writes.settle(&parked.load);
        }
        while let Some(parked) = self.queue.pop() {
            writes.settle(&parked.load);
        }
        self.parts.clear();
    }

    /// Puts the command with this number first, with its data; false if it is not there.
    pub(super) fn bring_forward(&mut self, sn: CmdSn) -> Result<bool> {
        if self.missing == Some(sn) {
            return Ok(false);
        }
        let mut waiting = (0..self.queue.len()).filter_map(|i| self.queue.get(i));
        let Some(found) = waiting.find(|p| p.cmd_sn == Some(sn)) else {
            self.missing = Some(sn);
            return Ok(false);
        };
        let itt = tag(&found.request);
        self.sort(|p| match p.cmd_sn {
            Some(n) => n == sn,
            None => tag(&p.request) == itt,
        })?;
        Ok(true)
    }

    /// The command with this tag waits no more: what waits of its data goes before all else.
    pub(super) fn bring_data_forward(&mut self, itt: Itt) -> Result {
        if !self.has(itt) {
            return Ok(());
        }
        // What comes behind another command with the tag, which is free again once the first was aborted, is that one's.
        let mut other = false;
        self.sort(|p| {
            let of_it = tag(&p.request) == Some(itt);
            other |= of_it && p.cmd_sn.is_some();
            of_it && !other
        })
    }

    /// Takes those commands with this tag out of which `is_over` holds, and their data; `each` hears of them.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn forget(
        &mut self,
        itt: Itt,
        is_over: impl Fn(CmdSn) -> bool,
        mut each: impl FnMut(&Parked),
    ) -> Result {
        // Data without a command before it is of one that is here no more.
        let mut over = true;
        for _ in 0..self.queue.len() {
            let Some(parked) = self.pop() else {
                break;
            };
            if tag(&parked.request) == Some(itt) {
                over = parked.cmd_sn.map_or(over, &is_over);
                if over {
                    each(&parked);
                    continue;
                }
            }
            self.push(parked).map_err(|_| ENOMEM)?;
        }
        Ok(())
    }

    // Puts those first that `goes_first` chooses.
    #[inline(never)]
    fn sort(&mut self, mut goes_first: impl FnMut(&Parked) -> bool) -> Result {
        let mut sorted = Ring::new();
        let mut others = Ring::new();
        while let Some(p) = self.queue.pop() {
            let to = match goes_first(&p) {
                true => &mut sorted,
                false => &mut others,
            };
            to.push(p).map_err(|_| ENOMEM)?;
        }
        while let Some(p) = others.pop() {
            sorted.push(p).map_err(|_| ENOMEM)?;
        }
        self.queue = sorted;
        Ok(())
    }

    /// Whether a command with this tag waits, or some of its data: what comes for it goes behind that.
    pub(super) fn has(&self, itt: Itt) -> bool {
        self.place(itt).is_some()
    }

    /// Whether a command with this tag waits.
    pub(super) fn has_command(&self, itt: Itt) -> bool {
        let part = self.place(itt).and_then(|i| self.parts.get(i));
        part.is_some_and(|part| part.commands > 0)
    }

    /// Whether data that comes for a command which waits may be for it, as far as that is known before its turn: no more than was agreed on
    /// (13.14), something in each PDU but the last, and nothing after that. Each of them takes [`ENTRY`] bytes whatever it brings, so
    /// that there are no more than those have who take as little at once as may be (13.12), and some.
    pub(super) fn admits(&self, pdu: &DataOut, first_burst: u32) -> bool {
        const LEAST: u32 = 512;
        const MORE: u32 = 16;
        let Some(part) = self.place(pdu.itt).and_then(|i| self.parts.get(i)) else {
            return true;
        };
        let bytes = pdu.data_len.bytes();
        !part.over
            && part.octets.saturating_add(bytes) <= first_burst
            && part.data <= (first_burst / LEAST).saturating_add(MORE)
            && (bytes > 0 || pdu.flags.last())
    }
}

impl Part {
    const fn new(itt: Itt) -> Self {
        Part {
            itt,
            pdus: 0,
            commands: 0,
            data: 0,
            octets: 0,
            over: false,
        }
    }

    // A PDU of it waits now.
    fn note(&mut self, request: &Request) {
        match request {
            Request::ScsiCommand(r) => {
                self.commands = self.commands.saturating_add(1);
                (self.data, self.octets) = (0, r.data_len.bytes());
                self.over = r.flags.last();
            }
            Request::DataOut(r) => {
                self.data = self.data.saturating_add(1);
                self.octets = self.octets.saturating_add(r.data_len.bytes());
                self.over |= r.flags.last();
            }
            _ => return,
        }
        self.pdus = self.pdus.saturating_add(1);
    }
}

/// The tag of a command, or of that whose data it is.
pub(super) fn tag(request: &Request) -> Option<Itt> {
    match request {
        Request::ScsiCommand(r) => Some(r.itt),
        Request::DataOut(r) => Some(r.itt),
        _ => None,
    }
}
