// SPDX-License-Identifier: GPL-2.0

//! What a fabric has of a command that is finished.

use super::{Direction, Residual};
use crate::{fabric::Fabric, session::Session};
use kernel::sync::Arc;
use lio_glue::{buffer::Buffer, slot::Token};
use lio_scsi::{sense::SenseData, status::Status};

/// A finished command, which the fabric owns until it has sent the answer.
pub struct Reply<F: Fabric> {
    pub(super) token: Token<Session<F>>,
}

impl<F: Fabric> Reply<F> {
    /// The status.
    pub fn status(&self) -> Status {
        self.token.status
    }

    /// The sense data, with CHECK CONDITION: as the logical unit's mode pages say.
    pub fn sense(&self) -> Option<SenseData> {
        self.token
            .sense
            .map(|sense| sense.encode_with_status(self.token.style))
    }

    /// The data to send to the initiator: empty unless the command reads and has not failed.
    pub fn data(&self) -> &Buffer {
        &self.token.data
    }

    /// Bytes of [`Self::data`] that go to the initiator.
    pub fn read_len(&self) -> usize {
        if self.token.direction == Direction::Read && self.token.status == Status::Good {
            let expected = self.token.expected as usize;
            match self.token.residual {
                Residual::Under(by) => expected.saturating_sub(by as usize),
                _ => expected,
            }
            .min(self.token.data.len())
        } else {
            0
        }
    }

    /// How the transfer differs from what was expected.
    pub fn residual(&self) -> Residual {
        self.token.residual
    }

    /// Whether the initiator aborted the command: nothing is sent then.
    pub fn is_aborted(&self) -> bool {
        self.token.aborted
    }

    /// Whether task management has aborted the command, too late for its answer: a function of the session's own waits until that
    /// is sent or given up.
    pub fn is_awaited(&self) -> bool {
        self.token.shared().is_aborted()
    }

    /// The initiator's tag.
    pub fn tag(&self) -> u64 {
        self.token.tag
    }

    /// The session.
    pub fn session(&self) -> &Arc<Session<F>> {
        self.token.host()
    }

    /// The fabric's data of this command.
    pub fn request(&self) -> &F::Request {
        self.token.request()
    }

    /// The fabric's data of this command.
    pub fn request_mut(&mut self) -> &mut F::Request {
        self.token.request_mut()
    }

    /// The answer is sent: the command's resources go back.
    pub fn sent(self) {}

    pub(crate) fn into_token(self) -> Token<Session<F>> {
        self.token
    }

    pub(crate) fn from_token(token: Token<Session<F>>) -> Self {
        Reply { token }
    }
}
