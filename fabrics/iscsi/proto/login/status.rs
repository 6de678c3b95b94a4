// SPDX-License-Identifier: GPL-2.0

//! How a login ends: RFC 7143, 11.13.5.

/// Status class (high byte) and detail (low byte).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Status {
    /// It goes on, or it is done.
    Success = 0x0000,
    /// The target has moved for now; TargetAddress says where.
    MovedTemporarily = 0x0101,
    /// The target has moved for good; TargetAddress says where.
    MovedPermanently = 0x0102,
    /// The initiator did wrong.
    InitiatorError = 0x0200,
    /// The initiator could not prove who it is, or the target has no such method.
    AuthenticationFailure = 0x0201,
    /// The initiator may not log in here.
    AuthorizationFailure = 0x0202,
    /// There is no such target here.
    NotFound = 0x0203,
    /// The target has been removed.
    TargetRemoved = 0x0204,
    /// No version is common.
    UnsupportedVersion = 0x0205,
    /// The session or the target has too many connections.
    TooManyConnections = 0x0206,
    /// A key is missing that must be there.
    MissingParameter = 0x0207,
    /// The connection cannot be made part of that session.
    CantIncludeInSession = 0x0208,
    /// There is no such type of session here.
    SessionTypeNotSupported = 0x0209,
    /// There is no session with that TSIH.
    SessionDoesNotExist = 0x020a,
    /// The request does not belong into a login.
    InvalidDuringLogin = 0x020b,
    /// The target did wrong.
    TargetError = 0x0300,
    /// The target does not serve now.
    ServiceUnavailable = 0x0301,
    /// The target lacks memory or the like.
    OutOfResources = 0x0302,
}

impl Status {
    /// As in a login response.
    #[must_use]
    pub const fn code(self) -> u16 {
        self as u16
    }
}
