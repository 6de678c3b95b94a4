// SPDX-License-Identifier: GPL-2.0

//! Status codes (SAM-5, 5.3.1).

/// How a command ended. The discriminant is the status code on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Completed without error.
    Good = 0x00,
    /// Sense data says what happened.
    CheckCondition = 0x02,
    /// The condition that was asked for is met.
    ConditionMet = 0x04,
    /// No resources now; send it again.
    Busy = 0x08,
    /// Another I_T nexus holds a reservation.
    ReservationConflict = 0x18,
    /// The task set has no room for one more.
    TaskSetFull = 0x28,
    /// An ACA condition exists.
    AcaActive = 0x30,
    /// Aborted by another I_T nexus, and TAS is one.
    TaskAborted = 0x40,
}

impl Status {
    /// The code on the wire.
    pub const fn code(self) -> u8 {
        self as u8
    }
}
