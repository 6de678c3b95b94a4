// SPDX-License-Identifier: GPL-2.0

//! Commands whose execution takes memory, reads above all: see [`crate::memory`].

use super::ffp::Ffp;
use crate::{
    memory::{Account, Budget, Floor, Kind, Pool},
    ring::Ring,
    Iscsi,
};
use kernel::{prelude::*, sync::Arc};
use lio_scsi::status::Status;
use target_core::command::{Cmd, Ready};

/// What became of a command that wants memory.
enum Fate {
    Executes,
    Waits,
    Refused,
}

/// The commands that hold memory, and those that wait for it.
pub(super) struct Works {
    account: Account,
    // Commands that hold some: from when they are executed until TCP has their answers.
    active: usize,
    // Oldest first, with the bytes that they want.
    waiting: Ring<(Cmd<Iscsi, Ready>, u64)>,
}

impl Works {
    pub(super) fn new(budget: &Arc<Budget>, floor: Floor, pool: Option<Arc<Pool>>) -> Self {
        Works {
            account: Account::new(budget, Kind::Read, floor, pool),
            active: 0,
            waiting: Ring::new(),
        }
    }

    // Takes memory for a command, if its turn has come.
    fn take(&mut self, bytes: u64) -> Fate {
        let may = self.active == 0 || self.account.is_own(bytes) || !self.account.is_scarce();
        if may && self.account.take(bytes) {
            self.active = self.active.saturating_add(1);
            return Fate::Executes;
        }
        match self.active {
            // It would wait for others than its own session's.
            0 => Fate::Refused,
            _ => Fate::Waits,
        }
    }

    /// Commands that held `bytes` have been answered.
    pub(super) fn settle(&mut self, commands: usize, bytes: u64) {
        if commands > 0 {
            self.active = self.active.saturating_sub(commands);
            self.account.give(bytes);
        }
    }

    /// Takes a command over that another connection had executed.
    pub(super) fn receive(&mut self, bytes: u64) {
        if bytes > 0 {
            self.active = self.active.saturating_add(1);
            self.account.receive(bytes);
        }
    }

    /// Takes out the command with this tag that waits.
    pub(super) fn take_waiting(&mut self, itt: u32) -> Option<Cmd<Iscsi, Ready>> {
        let mut found = None;
        for _ in 0..self.waiting.len() {
            let Some((cmd, bytes)) = self.waiting.pop() else {
                break;
            };
            if found.is_none() && cmd.request().is_some_and(|r| r.itt == itt) {
                found = Some(cmd);
            } else if let Err((cmd, _)) = self.waiting.push((cmd, bytes)) {
                // There is room: its own.
                cmd.abort();
            }
        }
        found
    }

    /// Whether a command waits that `which` chooses.
    pub(super) fn has_waiting(&self, which: impl Fn(u32) -> bool) -> bool {
        let mut all = (0..self.waiting.len()).filter_map(|i| self.waiting.get(i));
        all.any(|(cmd, _)| cmd.request().is_some_and(|r| which(r.itt)))
    }

    /// Gives up those that wait and that task management has aborted.
    pub(super) fn clear_aborted(&mut self) {
        for _ in 0..self.waiting.len() {
            let Some((cmd, bytes)) = self.waiting.pop() else {
                break;
            };
            if cmd.is_aborted() {
                cmd.abort();
            } else if let Err((cmd, _)) = self.waiting.push((cmd, bytes)) {
                // There is room: its own.
                cmd.abort();
            }
        }
    }

    /// Gives all up that wait.
    pub(super) fn clear(&mut self) {
        while let Some((cmd, _)) = self.waiting.pop() {
            cmd.abort();
        }
    }
}

impl Ffp {
    /// Executes a command, or has it wait until there is memory for what it reads.
    pub(super) fn execute(&mut self, cmd: Cmd<Iscsi, Ready>) {
        self.execute_by(cmd, Cmd::execute);
    }

    /// The same for a command that was ready some time ago: whether it may be executed is asked again.
    pub(super) fn execute_late(&mut self, cmd: Cmd<Iscsi, Ready>) {
        self.execute_by(cmd, Cmd::execute_late);
    }

    fn execute_by(&mut self, cmd: Cmd<Iscsi, Ready>, execute: fn(Cmd<Iscsi, Ready>)) {
        let bytes = cmd.memory();
        if bytes == 0 {
            return execute(cmd);
        }
        let fate = match self.works.waiting.is_empty() {
            true => self.works.take(bytes),
            false => Fate::Waits,
        };
        self.decide(cmd, bytes, fate, execute);
    }

    fn decide(
        &mut self,
        mut cmd: Cmd<Iscsi, Ready>,
        bytes: u64,
        fate: Fate,
        execute: fn(Cmd<Iscsi, Ready>),
    ) {
        match fate {
            Fate::Executes => {
                if let Some(request) = cmd.request_mut() {
                    request.memory = bytes;
                }
                execute(cmd);
            }
            Fate::Refused => self.refuse_work(cmd),
            // Others, who may have been before it or behind it, are not to wait for what this initiator takes.
            Fate::Waits => match cmd.stand_aside() {
                Ok(cmd) => {
                    if let Err((cmd, _)) = self.works.waiting.push((cmd, bytes)) {
                        self.refuse_work(cmd);
                    }
                }
                Err(cmd) => self.refuse_work(cmd),
            },
        }
    }

    /// Takes note of what TCP has taken, and goes on with commands that waited for that.
    pub(super) fn go_on_with_works(&mut self) {
        let (commands, bytes) = self.link.tx.take_sent();
        self.works.settle(commands, bytes);
        while let Some(bytes) = self.works.waiting.get(0).map(|(_, bytes)| *bytes) {
            let fate = self.works.take(bytes);
            if matches!(fate, Fate::Waits) {
                break;
            }
            if let Some((cmd, bytes)) = self.works.waiting.pop() {
                self.decide(cmd, bytes, fate, Cmd::execute_late);
            }
        }
    }

    fn refuse_work(&mut self, cmd: Cmd<Iscsi, Ready>) {
        if self.link.portal.throttle.allow() {
            pr_warn!(
                "iscsi: session of {} at {}: no memory for what a command reads, answered with BUSY\n",
                self.initiator,
                self.link.peer
            );
        }
        cmd.refuse(Status::Busy);
    }
}
