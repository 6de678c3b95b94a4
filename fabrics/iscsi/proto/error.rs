// SPDX-License-Identifier: GPL-2.0

//! What is wrong with a PDU and what the target does about it: RFC 7143, 7.6 (format errors), 7.8 (protocol
//! errors) and 11.17 (Reject).

/// Why a PDU is rejected: RFC 7143, 11.17.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RejectReason {
    /// The data digest does not fit.
    DataDigest = 0x02,
    /// A SNACK that is not served.
    Snack = 0x03,
    /// The PDU does not fit the state of the connection.
    ProtocolError = 0x04,
    /// An opcode that is not known.
    CommandNotSupported = 0x05,
    /// Too many immediate commands.
    TooManyImmediate = 0x06,
    /// The task is in progress.
    TaskInProgress = 0x07,
    /// A data acknowledgement that does not fit.
    InvalidDataAck = 0x08,
    /// A field that describes a task, a response or a transfer has a wrong value.
    InvalidPduField = 0x09,
    /// No target transfer tag can be made now.
    LongOperation = 0x0a,
    /// A logout is awaited, nothing else is served.
    WaitingForLogout = 0x0c,
}

/// An error in a PDU: what is answered, whether the connection survives, and which clause says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// The reason that the Reject PDU gives.
    pub reason: RejectReason,
    /// The connection is closed after the Reject (error recovery level 0: the session with it).
    pub close: bool,
    /// The clause of RFC 7143, with a few words for the log.
    pub clause: &'static str,
}

impl Error {
    /// The PDU is rejected, the connection goes on.
    pub const fn reject(reason: RejectReason, clause: &'static str) -> Self {
        Error {
            reason,
            close: false,
            clause,
        }
    }

    /// The contents of the header contradict RFC 7143: rejected, and the connection is closed (7.6).
    pub const fn format(clause: &'static str) -> Self {
        Error {
            reason: RejectReason::InvalidPduField,
            close: true,
            clause,
        }
    }

    /// The PDU does not fit what went before, and error recovery level 0 knows no way back: rejected, and the
    /// connection is closed (7.8).
    pub const fn fatal(clause: &'static str) -> Self {
        Error {
            reason: RejectReason::ProtocolError,
            close: true,
            clause,
        }
    }
}
