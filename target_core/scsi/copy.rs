// SPDX-License-Identifier: GPL-2.0

//! Third-party copy: EXTENDED COPY and what tells of it (SPC-4, 5.17, 6.4 and 6.24 to 6.27).

pub mod list;
pub mod plan;
pub mod results;
pub mod token;

use crate::cdb::{Data, Direction};

/// A command with its fields. Allocation and parameter list lengths are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThirdParty {
    /// EXTENDED COPY(LID1)
    ExtendedCopyLid1 {
        /// PARAMETER LIST LENGTH; zero is no error.
        list_length: u32,
    },
    /// EXTENDED COPY(LID4)
    ExtendedCopyLid4 {
        /// PARAMETER LIST LENGTH; zero is no error.
        list_length: u32,
    },
    /// POPULATE TOKEN
    PopulateToken {
        /// LIST IDENTIFIER
        list: u32,
        /// PARAMETER LIST LENGTH; zero is no error.
        list_length: u32,
    },
    /// WRITE USING TOKEN
    WriteUsingToken {
        /// LIST IDENTIFIER
        list: u32,
        /// PARAMETER LIST LENGTH; zero is no error.
        list_length: u32,
    },
    /// COPY OPERATION ABORT
    Abort {
        /// LIST IDENTIFIER
        list: u32,
    },
    /// RECEIVE COPY DATA(LID1)
    ReceiveDataLid1 {
        /// LIST IDENTIFIER
        list: u8,
        /// ALLOCATION LENGTH
        allocation: u32,
    },
    /// RECEIVE COPY DATA(LID4)
    ReceiveDataLid4 {
        /// LIST IDENTIFIER
        list: u32,
        /// ALLOCATION LENGTH
        allocation: u32,
    },
    /// REPORT ALL ROD TOKENS
    ReportAllTokens {
        /// ALLOCATION LENGTH
        allocation: u32,
    },
    /// RECEIVE COPY STATUS(LID4)
    ReceiveStatusLid4 {
        /// LIST IDENTIFIER
        list: u32,
        /// ALLOCATION LENGTH
        allocation: u32,
    },
    /// RECEIVE ROD TOKEN INFORMATION
    ReceiveTokenInformation {
        /// LIST IDENTIFIER
        list: u32,
        /// ALLOCATION LENGTH
        allocation: u32,
    },
    /// RECEIVE COPY STATUS(LID1)
    ReceiveStatusLid1 {
        /// LIST IDENTIFIER
        list: u8,
        /// ALLOCATION LENGTH
        allocation: u32,
    },
    /// RECEIVE COPY OPERATING PARAMETERS
    ReceiveOperatingParameters {
        /// ALLOCATION LENGTH
        allocation: u32,
    },
    /// RECEIVE COPY FAILURE DETAILS(LID1)
    ReceiveFailureDetails {
        /// LIST IDENTIFIER
        list: u8,
        /// ALLOCATION LENGTH
        allocation: u32,
    },
}

impl ThirdParty {
    /// The data that the CDB announces.
    pub fn data(&self) -> Data {
        match *self {
            Self::ExtendedCopyLid1 { list_length }
            | Self::ExtendedCopyLid4 { list_length }
            | Self::PopulateToken { list_length, .. }
            | Self::WriteUsingToken { list_length, .. } => {
                Data::new(Direction::Out, list_length.into())
            }
            Self::Abort { .. } => Data::NONE,
            Self::ReceiveStatusLid1 { allocation, .. }
            | Self::ReceiveDataLid1 { allocation, .. }
            | Self::ReceiveDataLid4 { allocation, .. }
            | Self::ReportAllTokens { allocation }
            | Self::ReceiveOperatingParameters { allocation }
            | Self::ReceiveStatusLid4 { allocation, .. }
            | Self::ReceiveTokenInformation { allocation, .. }
            | Self::ReceiveFailureDetails { allocation, .. } => {
                Data::new(Direction::In, allocation.into())
            }
        }
    }
}

impl ThirdParty {
    /// The command changes the medium of its own logical unit; where EXTENDED COPY writes, its list says.
    pub fn writes(&self) -> bool {
        matches!(self, Self::WriteUsingToken { .. })
    }
}

/// CSCD descriptors of one command.
pub const MAX_CSCDS: usize = 16;
/// Segment descriptors of one command.
pub const MAX_SEGMENTS: usize = 64;
/// Bytes of all descriptors of one command: the most of each, in the longest form.
pub const MAX_DESCRIPTORS: usize = MAX_CSCDS * list::CSCD + MAX_SEGMENTS * list::LONGEST_SEGMENT;
/// Bytes that one segment copies.
pub const MAX_SEGMENT_BYTES: u32 = 32 << 20;
/// Copies at work for one logical unit.
pub const MAX_COPIES: u32 = 16;
/// Of these, with a list identifier, for one I_T nexus; as many that have ended are remembered.
pub const MAX_IDENTIFIED: usize = 16;
/// Descriptors that are supported, in ascending order of their type codes.
pub(crate) const DESCRIPTORS: [u8; 3] = [
    list::BLOCK_TO_BLOCK,
    list::BYTES_TO_BYTES,
    list::IDENTIFICATION,
];
