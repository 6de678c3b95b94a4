// SPDX-License-Identifier: GPL-2.0

//! ORWRITE: bits set in a bitmap on the medium, and cleared when its users agree on a new generation (SBC-4, 4.27).

use crate::{
    cdb::Transfer,
    sense::{Asc, Key, Sense},
};

/// ORWRITE (16), (32)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrWrite {
    /// The blocks.
    pub transfer: Transfer,
    /// EXPECTED ORWGENERATION; ORWRITE (16) stands for zero (4.27.2.2).
    pub expected: u32,
    /// What is done to the bits.
    pub operation: Operation,
}

/// BMOP (5.11)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Those that are set in the data are set.
    Set,
    /// Those that are not set in the data are cleared, and another generation begins.
    Clear {
        /// NEW ORWGENERATION
        generation: u32,
        /// PREVIOUS GENERATION PROCESSING
        policy: Policy,
    },
}

/// What becomes of [`Operation::Set`] by somebody who knows another generation: ORWRITE processing policy (table 29).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Policy {
    /// That of the previous generation is performed, others are refused.
    PerformPrevious = 0,
    /// That of the previous generation is discarded, others are refused.
    DiscardPrevious = 2,
    /// All are performed.
    Perform = 3,
    /// All are discarded.
    Discard = 5,
    /// All are refused.
    #[default]
    Refuse = 7,
}

impl Policy {
    /// Of PREVIOUS GENERATION PROCESSING; `None` for what is reserved.
    pub const fn parse(value: u8) -> Option<Self> {
        Some(match value {
            0 => Self::PerformPrevious,
            2 => Self::DiscardPrevious,
            3 => Self::Perform,
            5 => Self::Discard,
            7 => Self::Refuse,
            _ => return None,
        })
    }
}

/// What is done with a command that is in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// What it asks for.
    Perform,
    /// Nothing; it is GOOD.
    Discard,
}

/// A logical unit's ORWgeneration codes. They begin anew after a power on and a hard reset, and outlive a logical unit reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Generations {
    current: u32,
    previous: u32,
    policy: Policy,
}

impl Generations {
    /// Those after a power on.
    pub const fn new() -> Self {
        Self {
            current: 0,
            previous: 0,
            policy: Policy::Refuse,
        }
    }

    /// What is to be done with `command`.
    ///
    /// # Errors
    /// ORWRITE GENERATION DOES NOT MATCH
    pub fn decide(&self, command: &OrWrite) -> Result<Verdict, Sense> {
        let refused = Err(Sense::new(Key::IllegalRequest, Asc::ORWRITE_GENERATION));
        if command.expected == self.current {
            return Ok(Verdict::Perform);
        }
        if command.operation != Operation::Set {
            return refused;
        }
        let previous = command.expected == self.previous;
        match (self.policy, previous) {
            (Policy::Perform, _) | (Policy::PerformPrevious, true) => Ok(Verdict::Perform),
            (Policy::Discard, _) | (Policy::DiscardPrevious, true) => Ok(Verdict::Discard),
            _ => refused,
        }
    }

    /// `command` has been performed.
    pub fn performed(&mut self, command: &OrWrite) {
        if let Operation::Clear { generation, policy } = command.operation {
            *self = Self {
                current: generation,
                previous: self.current,
                policy,
            };
        }
    }
}

impl Operation {
    /// The byte that becomes of `old` on the medium and of `new` in the data.
    pub const fn apply(self, old: u8, new: u8) -> u8 {
        match self {
            Self::Set => old | new,
            Self::Clear { .. } => old & new,
        }
    }
}
