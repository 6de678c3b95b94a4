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
        let bytes = cmd.memory();
        if bytes == 0 {
            return cmd.execute();
        }
        let fate = match self.works.waiting.is_empty() {
            true => self.works.take(bytes),
            false => Fate::Waits,
        };
        self.decide(cmd, bytes, fate);
    }

    fn decide(&mut self, mut cmd: Cmd<Iscsi, Ready>, bytes: u64, fate: Fate) {
        match fate {
            Fate::Executes => {
                if let Some(request) = cmd.request_mut() {
                    request.memory = bytes;
                }
                cmd.execute();
            }
            Fate::Refused => self.refuse_work(cmd),
            Fate::Waits => {
                if let Err((cmd, _)) = self.works.waiting.push((cmd, bytes)) {
                    self.refuse_work(cmd);
                }
            }
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
                self.decide(cmd, bytes, fate);
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

    /// Gives up the commands that wait and that task management has aborted.
    pub(super) fn give_up_aborted_works(&mut self) {
        for _ in 0..self.works.waiting.len() {
            let Some((cmd, bytes)) = self.works.waiting.pop() else {
                break;
            };
            if cmd.is_aborted() {
                cmd.abort();
            } else if let Err((cmd, _)) = self.works.waiting.push((cmd, bytes)) {
                // There is room: its own.
                self.refuse_work(cmd);
            }
        }
    }
}
