// SPDX-License-Identifier: GPL-2.0

//! PREEMPT AND ABORT waits for what it has aborted.

use super::{
    pending::{self, Job},
    wake, PATIENCE_MS,
};
use crate::{
    backend::{Io, IoError},
    command::Unit,
    copy,
    device::Device,
    lun::Nexus,
    session::AnySession,
};
use kernel::{
    prelude::*,
    sync::{atomic::Full, Arc},
};
use lio_scsi::lun::Lun as LunNumber;

/// Commands of I_T nexuses that were preempted (PREEMPT AND ABORT: SPC-4, 5.12.11.4.5), which were aborted. While one exists,
/// no fabric is unloaded.
pub(crate) struct Preempted {
    // Of sessions, for what they see by this number, if they still do, and by this nexus.
    commands: KVVec<(Arc<dyn AnySession>, Option<LunNumber>, u64)>,
    // What copies have at work there, whatever logical unit's command has begun them.
    pieces: copy::Earlier,
    // There was no memory to know of some.
    unknown: bool,
}

impl Preempted {
    /// Of `device`, where what preempts them is in force already.
    pub(crate) fn new(device: &Device) -> Self {
        if let Ok(engine) = crate::engine() {
            engine.managing().fetch_add(1, Full);
        }
        Preempted {
            commands: KVVec::new(),
            pieces: copy::Earlier::new(device),
            unknown: false,
        }
    }

    /// Aborts the commands of a session for one logical unit; `tell`: they are answered with TASK ABORTED.
    pub(crate) fn abort(&mut self, session: &Arc<dyn AnySession>, nexus: &Nexus, tell: bool) {
        let (number, serial) = (Some(nexus.mapped().number()), nexus.serial());
        session.abort(tell, &|_, unit| unit.is(number, serial));
        self.wait_for_those(session, number, serial);
    }

    /// The same of one that was taken away, whose commands are aborted.
    pub(crate) fn find_aborted(&mut self, session: &Arc<dyn AnySession>, nexus: &Nexus) {
        self.wait_for_those(session, None, nexus.serial());
    }

    fn wait_for_those(
        &mut self,
        session: &Arc<dyn AnySession>,
        number: Option<LunNumber>,
        serial: u64,
    ) {
        let those = (session.clone(), number, serial);
        self.unknown |= self.commands.push(those, GFP_KERNEL).is_err();
    }

    fn is_gone(&self) -> bool {
        self.commands.iter().all(|(session, number, serial)| {
            let select = |_, unit: Unit| unit.is(*number, *serial);
            session.next_marked(0, false, &select).is_none()
        }) && self
            .pieces
            .are_gone_of(self.commands.iter().map(|(session, ..)| session.core()))
    }

    /// Has `io` completed when the commands are gone, in the background if they are not gone yet. Like a task management function it
    /// is not waited for longer than [`PATIENCE_MS`]; then it fails, as its initiator counts on nothing being written any more
    /// once it is told GOOD; so it does without memory to wait. What was preempted stays so, and the commands end by themselves, later.
    pub(crate) fn wait_for(self, io: Io) {
        if self.unknown {
            drop(self);
            return io.complete(Err(IoError::Resources));
        }
        if self.is_gone() {
            drop(self);
            return io.complete(Ok(()));
        }
        let spawned = pending::spawn(Preempting {
            begun: false,
            of: Some((self, io)),
        });
        if let Err(e) = spawned {
            // Without memory for it, the command failed: it was dropped.
            pr_warn!("a preemption could not wait for commands: {:?}\n", e);
        }
    }
}

/// A command that waits for what it has preempted.
struct Preempting {
    begun: bool,
    of: Option<(Preempted, Io)>,
}

impl Job for Preempting {
    fn go_on(&mut self, in_time: bool) -> bool {
        if !core::mem::replace(&mut self.begun, true) && !self.is_over() {
            return true;
        }
        if let Some((preempted, io)) = self.of.take() {
            drop(preempted);
            if !in_time {
                pr_warn!(
                    "a preemption was waiting for the back end for {} s, and fails\n",
                    PATIENCE_MS / 1000
                );
            }
            io.complete(if in_time {
                Ok(())
            } else {
                Err(IoError::Timeout)
            });
        }
        false
    }

    fn is_over(&mut self) -> bool {
        self.of.as_ref().is_none_or(|(p, _)| p.is_gone())
    }
}

impl Drop for Preempted {
    fn drop(&mut self) {
        self.commands.clear();
        if let Ok(engine) = crate::engine() {
            engine.managing().fetch_sub(1, Full);
        }
        wake();
    }
}
