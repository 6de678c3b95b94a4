// SPDX-License-Identifier: GPL-2.0

//! How much write data a session is asked for at the same time: see [`crate::memory`].

use crate::memory::{Account, Budget, Floor, Kind, Pool, ASKED};
use kernel::sync::Arc;

/// What one command counts for, from when its data may come until it is answered.
#[derive(Clone, Copy, Default)]
pub(crate) struct Load {
    // Bytes that may come, and be held.
    bytes: u64,
    // Bytes of memory.
    memory: u64,
    // R2Ts may be sent for it.
    asked: bool,
}

/// The write data of a session, asked for and held.
pub(super) struct Flow {
    account: Account,
    // Bytes that may be asked for at the same time.
    limit: u64,
    bytes: u64,
    asked: usize,
}

impl Flow {
    /// For one of up to `connections` of a session, which hold `pool` together.
    pub(super) fn new(
        budget: &Arc<Budget>,
        floor: Floor,
        pool: Option<Arc<Pool>>,
        connections: u16,
    ) -> Self {
        Flow {
            account: Account::new(budget, Kind::Written, floor, pool),
            limit: ASKED.checked_div(connections.into()).unwrap_or(ASKED),
            bytes: 0,
            asked: 0,
        }
    }

    /// How many bytes may be asked for at the same time.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// A command begins whose initiator sends `bytes` without being asked.
    pub(super) fn begin(&mut self, bytes: u64) -> Load {
        self.bytes = self.bytes.saturating_add(bytes);
        Load {
            bytes,
            ..Load::default()
        }
    }

    /// Whether a command with `load`, which needs `wanted` bytes in all, may be asked for them now.
    pub(super) fn has_room(&self, load: &Load, wanted: u64) -> bool {
        let more = wanted.saturating_sub(load.bytes);
        self.asked == 0
            || (self.bytes.saturating_add(more) <= self.limit && !self.account.is_scarce())
    }

    /// The command is asked for its data.
    pub(super) fn ask(&mut self, load: &mut Load, wanted: u64) {
        let more = wanted.saturating_sub(load.bytes);
        self.bytes = self.bytes.saturating_add(more);
        self.asked = self.asked.saturating_add(1);
        load.bytes = load.bytes.saturating_add(more);
        load.asked = true;
    }

    /// Takes memory for the command, if there is so much; whether there is.
    pub(super) fn take(&mut self, load: &mut Load, bytes: u64) -> bool {
        if !self.account.take(bytes) {
            return false;
        }
        load.memory = load.memory.saturating_add(bytes);
        true
    }

    /// Takes a command over from another connection, which has settled its load.
    pub(super) fn receive(&mut self, load: &Load) -> Load {
        self.account.receive(load.memory);
        Load {
            memory: load.memory,
            ..Load::default()
        }
    }

    /// The command has been answered.
    pub(super) fn settle(&mut self, load: &Load) {
        self.bytes = self.bytes.saturating_sub(load.bytes);
        if load.asked {
            self.asked = self.asked.saturating_sub(1);
        }
        if load.memory > 0 {
            self.account.give(load.memory);
        }
    }
}
