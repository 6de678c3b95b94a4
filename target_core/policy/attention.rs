// SPDX-License-Identifier: GPL-2.0

//! Unit attention conditions (SAM-5, 5.14), and errors of commands that were answered before they failed (SPC-4, 4.5).
//!
//! Each I_T_L nexus has a [`Queue`]. What happens to the unit is put into the queues of all nexuses that are to know; before a
//! command is processed, [`Queue::admit`] says whether it is to be answered with a unit attention instead.

use lio_scsi::{
    cdb::Command,
    mode::Interlock,
    sense::{Asc, Sense, Specific},
};

/// Conditions that a queue can hold. SAM wants one at least.
pub const CAPACITY: usize = 8;

/// The unit attention conditions of one I_T_L nexus, that of the highest precedence first.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    /// The conditions; those that are none are behind the others.
    conditions: [Option<Asc>; CAPACITY],
    /// The error of an earlier command.
    deferred: Option<Sense>,
    /// A condition was dropped for want of room, and that was not reported yet.
    overflowed: bool,
}

/// What is to be done with a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is to be processed.
    Process,
    /// It is to be answered CHECK CONDITION with this sense data, and not processed.
    Report(Sense),
}

/// The precedence of a condition (SAM-5, table 35): smaller is reported first.
const fn precedence(asc: Asc) -> u8 {
    match asc {
        Asc::RESET => 0,
        Asc::POWER_ON | Asc::DEVICE_INTERNAL_RESET => 1,
        Asc::BUS_RESET | Asc::MICROCODE_CHANGED => 2,
        Asc::BUS_DEVICE_RESET => 3,
        Asc::NEXUS_LOSS => 4,
        Asc::COMMANDS_CLEARED_BY_POWER_LOSS => 5,
        _ => 6,
    }
}

impl Queue {
    /// A queue without conditions.
    pub const fn new() -> Self {
        Self {
            conditions: [None; CAPACITY],
            deferred: None,
            overflowed: false,
        }
    }

    /// There is no condition, and no error. The I/O path may keep this in an atomic of its own.
    pub fn is_empty(&self) -> bool {
        matches!(self.conditions, [None, ..]) && self.deferred.is_none()
    }

    /// The first condition is reported before RESERVATION CONFLICT (SAM-5, 5.3.3).
    pub fn outranks_conflict(&self) -> bool {
        self.pending().next().is_some_and(|asc| precedence(asc) < 6)
    }

    /// Conditions that are there, in the order in which they will be reported.
    pub fn pending(&self) -> impl Iterator<Item = Asc> + '_ {
        self.conditions.iter().flatten().copied()
    }

    /// Establishes the condition `asc`. One that is there already is not there twice.
    ///
    /// In a full queue, that of the lowest precedence and the latest among them is lost, which the next report then says
    /// (OVERFLOW, SPC-4, 4.5.2.4.6).
    pub fn establish(&mut self, asc: Asc) {
        if self.pending().any(|held| held == asc) {
            return;
        }
        // Once one has made room, all behind it move on by one place.
        let (mut moving, mut inserted) = (asc, false);
        for slot in &mut self.conditions {
            let Some(held) = slot else {
                *slot = Some(moving);
                return;
            };
            inserted |= precedence(moving) < precedence(*held);
            if inserted {
                core::mem::swap(held, &mut moving);
            }
        }
        self.overflowed = true;
    }

    /// An earlier command has failed with `sense`: told once, after the conditions that are there. Of several, the first is told.
    pub fn defer(&mut self, sense: Sense) {
        let sense = Sense {
            specific: Specific::Deferred,
            information: None,
            ..sense
        };
        self.deferred.get_or_insert(sense);
    }

    /// Clears the condition `asc`, if it is there.
    pub fn clear(&mut self, asc: Asc) {
        let mut kept = [None; CAPACITY];
        let rest = self.pending().filter(|held| *held != asc);
        for (slot, held) in kept.iter_mut().zip(rest) {
            *slot = Some(held);
        }
        self.conditions = kept;
    }

    /// Clears all: the nexus is gone.
    pub fn clear_all(&mut self) {
        *self = Self::new();
    }

    /// Decides on `command` as it enters the enabled task state.
    ///
    /// - INQUIRY neither reports nor clears;
    /// - REPORT LUNS reports nothing, and clears REPORTED LUNS DATA HAS CHANGED, as its answer is what that asks for; the
    ///   nexus's other logical units are the caller's business, through [`Queue::clear`];
    /// - REQUEST SENSE reports in its parameter data, for which the caller asks [`Queue::take`];
    /// - any other is answered with the first condition, which is cleared unless `interlock` keeps it; without one, with the error of
    ///   an earlier command.
    pub fn admit(&mut self, command: &Command, interlock: Interlock) -> Admission {
        match command {
            Command::Inquiry { .. } | Command::RequestSense { .. } => Admission::Process,
            Command::ReportLuns { .. } => {
                self.clear(Asc::REPORTED_LUNS_CHANGED);
                Admission::Process
            }
            _ => {
                let sense = match interlock {
                    Interlock::Clear => self.take_condition(),
                    Interlock::Keep | Interlock::Establish => self.peek(),
                };
                sense
                    .or_else(|| self.deferred.take())
                    .map_or(Admission::Process, Admission::Report)
            }
        }
    }

    /// The same for a CDB that could not be decoded: a unit attention goes before what is wrong with the CDB.
    pub fn admit_undecoded(&mut self, interlock: Interlock) -> Admission {
        self.admit(&Command::TestUnitReady, interlock)
    }

    /// The first condition, which is cleared by this, or the error of an earlier command: the parameter data of REQUEST SENSE.
    pub fn take(&mut self) -> Option<Sense> {
        self.take_condition().or_else(|| self.deferred.take())
    }

    fn take_condition(&mut self) -> Option<Sense> {
        let sense = self.peek()?;
        self.conditions.rotate_left(1);
        let [.., last] = &mut self.conditions;
        *last = None;
        self.overflowed = false;
        Some(sense)
    }

    /// The first condition as sense data.
    fn peek(&self) -> Option<Sense> {
        let sense = Sense::unit_attention(self.pending().next()?);
        let specific = if self.overflowed {
            Specific::UnitAttentionOverflow
        } else {
            Specific::None
        };
        Some(Sense { specific, ..sense })
    }
}

#[cfg(test)]
mod tests;
