// SPDX-License-Identifier: GPL-2.0

//! Full feature phase, SCSI commands and their data aside: RFC 7143, 11.5, 11.6, 11.14, 11.15, 11.16, 11.18, 11.19;
//! text is in [`text`].

use crate::custody::Ended;
use crate::error::{Error, RejectReason};
use crate::login::SessionType;
use crate::pdu::{LogoutRequest, NopOut, Request, TmfRequest};
use crate::sn::CmdSn;
use crate::wire::{Cid, Itt, Ttt};

pub mod text;

#[cfg(test)]
mod tests;

/// Task management functions: 11.5.1, and those of RFC 7144, which need a protocol level that is not negotiated here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Function {
    /// One task.
    AbortTask = 1,
    /// All tasks of this I_T_L nexus.
    AbortTaskSet = 2,
    /// The ACA condition of this I_T nexus.
    ClearAca = 3,
    /// All tasks of the logical unit, of whichever I_T nexus.
    ClearTaskSet = 4,
    /// The logical unit.
    LogicalUnitReset = 5,
    /// All logical units of the target.
    TargetWarmReset = 6,
    /// As warm, and all sessions end.
    TargetColdReset = 7,
    /// Moves a task to another connection; not at error recovery level 0.
    TaskReassign = 8,
}

impl Function {
    /// `None` for codes that are not known: [`TmfAnswer::NotSupported`].
    #[must_use]
    pub const fn of(request: &TmfRequest) -> Option<Function> {
        Some(match request.function & 0x7f {
            1 => Function::AbortTask,
            2 => Function::AbortTaskSet,
            3 => Function::ClearAca,
            4 => Function::ClearTaskSet,
            5 => Function::LogicalUnitReset,
            6 => Function::TargetWarmReset,
            7 => Function::TargetColdReset,
            8 => Function::TaskReassign,
            _ => return None,
        })
    }

    /// Whether it ends several tasks, so that it and its response have an order with the commands and responses of all
    /// connections: 4.2.3.3.
    #[must_use]
    pub const fn is_multi_task(self) -> bool {
        matches!(
            self,
            Function::AbortTaskSet
                | Function::ClearTaskSet
                | Function::LogicalUnitReset
                | Function::TargetWarmReset
                | Function::TargetColdReset
        )
    }

    /// Whether it is about all logical units, so that it does not wait for commands before it: 4.2.3.3.
    #[must_use]
    pub const fn is_of_target(self) -> bool {
        matches!(self, Function::TargetWarmReset | Function::TargetColdReset)
    }

    /// Whether it is about the logical unit that the request names.
    #[must_use]
    pub const fn has_lun(self) -> bool {
        !matches!(
            self,
            Function::TargetWarmReset | Function::TargetColdReset | Function::TaskReassign
        )
    }
}

/// The response code of a task management function response: 11.6.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TmfAnswer {
    /// Done.
    Complete = 0,
    /// There is no such task. For ABORT TASK see also [`missing_task`].
    NoTask = 1,
    /// There is no such logical unit.
    NoLun = 2,
    /// The task still belongs to another connection.
    TaskAllegiant = 3,
    /// Tasks cannot be reassigned.
    ReassignNotSupported = 4,
    /// The function is not supported.
    NotSupported = 5,
    /// The initiator may not do that.
    AuthorizationFailed = 6,
    /// Rejected.
    Rejected = 255,
}

/// The answer to ABORT TASK when the task is not there: 11.6.1. A command whose number is in the window and before
/// that of the request has been lost, and counts as received and done with.
#[must_use]
pub fn missing_task(request: &TmfRequest, expected: CmdSn, max: CmdSn) -> TmfAnswer {
    let number = request.ref_cmd_sn;
    let ahead = !number.before(expected);
    if ahead && number.not_after(max) && number.before(request.cmd_sn) {
        TmfAnswer::Complete
    } else {
        TmfAnswer::NoTask
    }
}

/// Task management functions that a connection has at work at once.
pub const MAX_MANAGED: usize = 16;

/// The tags of the functions at work.
#[derive(Clone, Copy, Debug, Default)]
pub struct Managing {
    tags: [Option<Itt>; MAX_MANAGED],
}

impl Managing {
    /// One begins; false if there are too many.
    #[must_use]
    pub fn begin(&mut self, itt: Itt) -> bool {
        let free = self.tags.iter_mut().find(|tag| tag.is_none());
        free.is_some_and(|tag| {
            *tag = Some(itt);
            true
        })
    }

    /// One has ended.
    pub fn end(&mut self, itt: Itt) {
        if let Some(tag) = self.tags.iter_mut().find(|tag| **tag == Some(itt)) {
            *tag = None;
        }
    }

    /// Whether the one with this tag is at work.
    #[must_use]
    pub fn has(&self, itt: Itt) -> bool {
        self.tags.contains(&Some(itt))
    }

    /// How many are at work.
    #[must_use]
    pub fn count(&self) -> usize {
        self.tags.iter().flatten().count()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tags.iter().all(Option::is_none)
    }
}

/// What a NOP-Out wants: 11.18.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nop {
    /// A NOP-In with this tag, [`Ttt::NONE`] and the same data, up to what the initiator takes in one PDU. It uses up
    /// a status number.
    pub ping: Option<Itt>,
    /// It answers the target's ping with this tag.
    pub pong: Option<Ttt>,
}

/// What a NOP-Out wants.
#[must_use]
pub fn nop_out(pdu: &NopOut) -> Nop {
    Nop {
        ping: (pdu.itt != Itt::NONE).then_some(pdu.itt),
        pong: (pdu.ttt != Ttt::NONE).then_some(pdu.ttt),
    }
}

/// What a logout request is about: 11.14.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logout {
    /// All connections are closed, and the session with them: this one when the response has been sent, the others before.
    Session,
    /// The connection that the request came on is closed when the response has been sent.
    Own(Ended),
    /// Another connection is closed; the response waits for that.
    Other(Cid, Ended),
    /// Nothing is done: this is answered (11.15.1).
    Refused(u8),
}

/// Judges a logout request on connection `cid` of a session with this error recovery level; `is_there` says whether the session has
/// another connection of a number.
#[must_use]
pub fn logout(
    request: &LogoutRequest,
    cid: Cid,
    level: u8,
    is_there: impl FnOnce(Cid) -> bool,
) -> Logout {
    let how = match request.reason & 0x7f {
        0 => return Logout::Session,
        1 => Ended::ForGood,
        2 if level >= 2 => Ended::ForRecovery,
        // For recovery: only at error recovery level 2.
        _ => return Logout::Refused(2),
    };
    if request.cid == cid {
        Logout::Own(how)
    } else if is_there(request.cid) {
        Logout::Other(request.cid, how)
    } else {
        // CID not found.
        Logout::Refused(1)
    }
}

/// Whether a request may come in full feature phase of this kind of session, at this error recovery level, at all.
///
/// # Errors
/// The Reject.
pub fn admits(session_type: SessionType, level: u8, request: &Request) -> Result<(), Error> {
    match request {
        Request::Login(_) => Err(Error::fatal("6.3: a login request after the login")),
        Request::Snack(_) if level == 0 => Err(Error::reject(
            RejectReason::Snack,
            "11.16: SNACK at error recovery level 0",
        )),
        Request::Text(_) | Request::Logout(_) => Ok(()),
        // 4.3: a discovery session serves text and logout. NOP-Out is let through as well: initiators ping.
        Request::NopOut(_) => Ok(()),
        _ if session_type == SessionType::Normal => Ok(()),
        _ => Err(Error::reject(
            RejectReason::ProtocolError,
            "4.3: not in a discovery session",
        )),
    }
}
