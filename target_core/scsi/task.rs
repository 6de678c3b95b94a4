// SPDX-License-Identifier: GPL-2.0

//! Commands as tasks: tags, task attributes, task management (SAM-5, 4.8, 7 and 8).

use crate::bytes::Writer;

/// The identifier that an initiator gave a command; unique within an I_T nexus while the command lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag(pub u64);

/// In which order a command may run with respect to the others of its task set (SAM-5, 8.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Attribute {
    /// In any order. Untagged commands count as such.
    #[default]
    Simple,
    /// After all before it, before all after it.
    Ordered,
    /// Before all that have not begun.
    HeadOfQueue,
    /// While an auto contingent allegiance is there. We have none (NORMACA is zero), so this is to be refused.
    Aca,
}

/// A task management function (SAM-5, 7.1), apart from its wire code, which each transport has its own of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// Abort the one command that the tag names.
    AbortTask(Tag),
    /// Abort all commands of this I_T nexus on the logical unit.
    AbortTaskSet,
    /// Abort all commands of all I_T nexuses on the logical unit.
    ClearTaskSet,
    /// Clear an auto contingent allegiance.
    ClearAca,
    /// Reset the logical unit.
    LogicalUnitReset,
    /// Reset all logical units of the target; sessions stay.
    TargetWarmReset,
    /// Reset all logical units of the target, and end all its sessions.
    TargetColdReset,
    /// As if the I_T nexus had been lost.
    NexusReset,
    /// Is the command with this tag there?
    QueryTask(Tag),
    /// Is any command of this I_T nexus there?
    QueryTaskSet,
    /// Is there a unit attention or deferred error?
    QueryAsynchronousEvent,
}

impl Function {
    /// The function addresses a logical unit, not the target or the nexus.
    pub const fn is_for_logical_unit(self) -> bool {
        !matches!(
            self,
            Self::TargetWarmReset | Self::TargetColdReset | Self::NexusReset
        )
    }
}

/// How a task management function ended (SAM-5, 7.1, table 39).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response {
    /// FUNCTION COMPLETE. A query found nothing.
    Complete,
    /// FUNCTION SUCCEEDED. A query found something.
    Succeeded,
    /// The tag names no command. iSCSI says so; to SAM it is FUNCTION COMPLETE.
    NoSuchTask,
    /// INCORRECT LOGICAL UNIT NUMBER.
    NoSuchLun,
    /// The function is not supported.
    NotSupported,
    /// FUNCTION REJECTED.
    Rejected,
}

/// Writes REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS' parameter data (SPC-4, 6.38): those that initiators can ask for, whatever the
/// transport. `timeout` is asked for by REPD: how long a function takes at most, in 100 ms.
pub fn write_functions(timeout: Option<u32>, out: &mut Writer<'_>) {
    // ABORT TASK, ABORT TASK SET, CLEAR TASK SET, LOGICAL UNIT RESET, TARGET RESET
    out.put(&[0x80 | 0x40 | 0x10 | 0x08 | 0x02, 0, 0]);
    let Some(timeout) = timeout else {
        out.u8(0);
        return;
    };
    // REPORTED LENGTH; TMFTMOV: the long timeout is of all functions, as none has its bit for the short one.
    out.put(&[12, 0x01, 0, 0, 0]);
    out.be32(timeout);
    out.be32(0);
}
