// SPDX-License-Identifier: GPL-2.0

//! Requests whose turn has not come: at error recovery level 1, one that comes before them may have been discarded, and is sent
//! again (RFC 7143, 4.2.2.1, 7.2.1, 7.8).

use super::{
    checked::Whole,
    ffp::{End, Ffp},
    receive::To,
};
use iscsi_proto::{
    ffp::{missing_task, Function, TmfAnswer},
    pdu::{Head, Request, ScsiCommand, TmfRequest},
    seq::Admission,
    sn::CmdSn,
    wire::{Bhs, Field, Lun},
};
use kernel::prelude::*;

/// Bytes of data that such requests may have; what goes beyond is dropped, and sent again when the gap is known.
const MAX_BYTES: usize = 1 << 20;

struct Early {
    cmd_sn: CmdSn,
    bhs: Bhs,
    whole: KBox<Whole>,
}

/// The requests that wait, as many as the window has room for at most.
pub(super) struct Gap {
    early: KVec<Early>,
    // Numbers that count as received and done with.
    plugged: KVec<CmdSn>,
    bytes: usize,
}

impl Gap {
    pub(super) const fn new() -> Self {
        Gap {
            early: KVec::new(),
            plugged: KVec::new(),
            bytes: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.early.is_empty() && self.plugged.is_empty()
    }
}

impl Ffp {
    /// The number of a request whose turn has not come.
    pub(super) fn early(&self, head: &Head, request: &Request) -> Option<CmdSn> {
        let recovers = self.parameters.recovery_level > 0 && !head.immediate;
        let cmd_sn = request.cmd_sn().filter(|_| recovers)?;
        // Where there may be several connections, what they have in common keeps the order.
        self.window.is_ahead(cmd_sn).then_some(cmd_sn)
    }

    /// A request waits for its turn.
    pub(super) fn wait_for_turn(&mut self, cmd_sn: CmdSn, bhs: &Bhs, whole: KBox<Whole>) -> Result {
        let bytes = self.gap.bytes.saturating_add(whole.buffer.len());
        let twice =
            self.gap.early.iter().any(|e| e.cmd_sn == cmd_sn) || self.gap.plugged.contains(&cmd_sn);
        if twice || bytes > MAX_BYTES {
            return Ok(());
        }
        self.gap.early.push(
            Early {
                cmd_sn,
                bhs: *bhs,
                whole,
            },
            GFP_KERNEL,
        )?;
        self.gap.bytes = bytes;
        Ok(())
    }

    /// A task management function ends what comes before it and was not delivered (4.2.2.1, 11.5.1): the task that it names, whether
    /// that is here or has been discarded; or all that wait here, of its logical unit or of all.
    pub(super) fn plug(&mut self, f: Function, pdu: &TmfRequest) -> Result {
        let (expected, max) = self.window.bounds();
        let before = |sn: CmdSn| sn.before(pdu.cmd_sn);
        match f {
            Function::AbortTask => {
                let sn = pdu.ref_cmd_sn;
                if missing_task(pdu, expected, max) == TmfAnswer::Complete {
                    self.plug_number(sn)?;
                }
            }
            Function::TaskReassign => {}
            _ => {
                let is = |e: &Early| {
                    let bhs = &e.bhs;
                    let own = !f.has_lun() || Lun::get(bhs, 8) == pdu.lun;
                    own && before(e.cmd_sn) && Head::of(bhs).opcode == ScsiCommand::OPCODE
                };
                while let Some(sn) = self.gap.early.iter().find(|&e| is(e)).map(|e| e.cmd_sn) {
                    self.plug_number(sn)?;
                }
            }
        }
        Ok(())
    }

    fn plug_number(&mut self, sn: CmdSn) -> Result {
        let gap = &mut self.gap;
        if let Some(i) = gap.early.iter().position(|e| e.cmd_sn == sn) {
            if let Ok(early) = gap.early.remove(i) {
                gap.bytes = gap.bytes.saturating_sub(early.whole.buffer.len());
            }
        }
        if !gap.plugged.contains(&sn) {
            gap.plugged.push(sn, GFP_KERNEL)?;
        }
        Ok(())
    }

    /// Goes on with the requests whose turn has come.
    pub(super) fn close_gap(&mut self) -> Result<(), End> {
        while !self.closing {
            let (expected, max) = self.window.bounds();
            if let Some(i) = self.gap.plugged.iter().position(|sn| *sn == expected) {
                let _ = self.gap.plugged.remove(i);
                if let Ok(Admission::Execute) = self.window.admit(expected, false) {
                    // Nobody answers it.
                    self.window.release();
                }
                continue;
            }
            let turn = |e: &Early| e.cmd_sn == expected && e.cmd_sn.not_after(max);
            let Some(i) = self.gap.early.iter().position(turn) else {
                break;
            };
            let early = self.gap.early.remove(i).map_err(|_| End::Broken(EINVAL))?;
            let len = early.whole.buffer.len();
            self.gap.bytes = self.gap.bytes.saturating_sub(len);
            let to = self.deliver(&early.bhs, &early.whole)?;
            if let To::Write(index) = to {
                // Unsolicited data that followed it went nowhere.
                self.writes.expire(index);
            }
            self.arrived(to)?;
        }
        Ok(())
    }
}
