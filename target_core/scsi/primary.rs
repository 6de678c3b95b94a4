// SPDX-License-Identifier: GPL-2.0

//! Primary commands about a unit's parameters, its identity and its buffers (SPC-4, clause 6).

use crate::{
    buffer::Target,
    cdb::{Data, Direction},
    identifying, log, priority,
};

/// A command with its fields. Allocation and parameter list lengths are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Primary {
    /// MODE SELECT (6) and (10)
    ModeSelect(ModeSelect),
    /// RECEIVE DIAGNOSTIC RESULTS, of the one page that there is.
    ReceiveDiagnosticResults {
        /// ALLOCATION LENGTH
        allocation: u16,
    },
    /// SEND DIAGNOSTIC
    SendDiagnostic {
        /// The default self-test is to be done (SELFTEST); there is no list.
        self_test: bool,
        /// PARAMETER LIST LENGTH; zero is no error.
        list_length: u16,
    },
    /// WRITE BUFFER
    WriteBuffer {
        /// To which buffer.
        to: Target,
        /// PARAMETER LIST LENGTH
        list_length: u32,
    },
    /// READ BUFFER (10)
    ReadBuffer {
        /// From which buffer.
        from: Target,
        /// Its descriptor is asked for, not what is in it.
        descriptor: bool,
        /// ALLOCATION LENGTH
        allocation: u32,
    },
    /// LOG SELECT, without a list: the counters of a page become zero.
    LogSelect {
        /// Which page; `None` for all, or for none where nothing is to change.
        reset: log::Reset,
    },
    /// LOG SELECT, with a list: counters get other values.
    LogSelectList {
        /// PARAMETER LIST LENGTH, not zero.
        list_length: u16,
    },
    /// LOG SENSE
    LogSense {
        /// Which parameters.
        request: log::Request,
        /// ALLOCATION LENGTH
        allocation: u16,
    },
    /// REPORT IDENTIFYING INFORMATION
    ReportIdentifyingInformation {
        /// INFORMATION TYPE
        kind: identifying::Asked,
        /// ALLOCATION LENGTH
        allocation: u32,
    },
    /// SET IDENTIFYING INFORMATION
    SetIdentifyingInformation {
        /// INFORMATION TYPE
        kind: identifying::Kind,
        /// PARAMETER LIST LENGTH, no more than that type may have; zero clears it.
        list_length: u16,
    },
    /// REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS
    ReportTaskManagementFunctions {
        /// Timeouts are asked for (REPD).
        extended: bool,
        /// ALLOCATION LENGTH
        allocation: u32,
    },
    /// REPORT PRIORITY
    ReportPriority {
        /// PRIORITY REPORTED
        reported: priority::Reported,
        /// ALLOCATION LENGTH
        allocation: u32,
    },
    /// REPORT TIMESTAMP
    ReportTimestamp {
        /// ALLOCATION LENGTH
        allocation: u32,
    },
    /// SET PRIORITY
    SetPriority {
        /// I_T_L NEXUS TO SET
        which: priority::Which,
        /// PARAMETER LIST LENGTH; zero changes nothing.
        list_length: u16,
    },
    /// SET TIMESTAMP
    SetTimestamp {
        /// PARAMETER LIST LENGTH; zero changes nothing.
        list_length: u16,
    },
}

/// MODE SELECT (SPC-5, 6.15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModeSelect {
    /// The ten-byte CDB, and with it the longer header.
    pub ten: bool,
    /// All values become the defaults (RTD); there is no list.
    pub revert: bool,
    /// The values are saved then, those of all pages (SP).
    pub save: bool,
    /// PARAMETER LIST LENGTH; zero is no error.
    pub list_length: u16,
}

impl Primary {
    /// The command changes what others see: an initiator that may only read may not. A list of MODE SELECT says by itself whether it
    /// changes anything.
    pub fn changes(&self) -> bool {
        match self {
            Self::ModeSelect(select) => select.revert || select.save,
            Self::LogSelect { reset } => *reset != log::Reset::Nothing,
            Self::WriteBuffer { .. }
            | Self::LogSelectList { .. }
            | Self::SetIdentifyingInformation { .. }
            | Self::SetPriority { .. }
            | Self::SetTimestamp { .. } => true,
            _ => false,
        }
    }

    /// The data that the CDB announces.
    pub fn data(&self) -> Data {
        match *self {
            Self::LogSelect { .. } => Data::NONE,
            Self::ModeSelect(ModeSelect { list_length, .. })
            | Self::LogSelectList { list_length }
            | Self::SendDiagnostic { list_length, .. }
            | Self::SetIdentifyingInformation { list_length, .. }
            | Self::SetPriority { list_length, .. }
            | Self::SetTimestamp { list_length } => Data::new(Direction::Out, list_length.into()),
            Self::WriteBuffer { list_length, .. } => Data::new(Direction::Out, list_length.into()),
            Self::ReceiveDiagnosticResults { allocation } | Self::LogSense { allocation, .. } => {
                Data::new(Direction::In, allocation.into())
            }
            Self::ReadBuffer { allocation, .. }
            | Self::ReportIdentifyingInformation { allocation, .. }
            | Self::ReportTaskManagementFunctions { allocation, .. }
            | Self::ReportPriority { allocation, .. }
            | Self::ReportTimestamp { allocation } => Data::new(Direction::In, allocation.into()),
        }
    }
}
