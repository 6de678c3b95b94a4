// SPDX-License-Identifier: GPL-2.0

//! QERR: what becomes of other commands where one ends with CHECK CONDITION (SPC-5 7.5.10).

use super::Command;
use crate::{emulate::Step, fabric::Fabric, session::Session, tmf};
use lio_glue::slot::Token;
use lio_scsi::mode::ErrorPolicy;

fn policy(cmd: &Command) -> ErrorPolicy {
    cmd.nexus.as_ref().map_or(ErrorPolicy::Continue, |nexus| {
        nexus.lun().device().mode().errors()
    })
}

/// Where others are to be aborted before the command is answered, it goes on in process context; otherwise it comes back.
#[inline]
pub(super) fn put_off<F: Fabric>(token: Token<Session<F>>) -> Option<Token<Session<F>>> {
    if token.sense.is_none() {
        return Some(token);
    }
    put_off_failed(token)
}

fn put_off_failed<F: Fabric>(mut token: Token<Session<F>>) -> Option<Token<Session<F>>> {
    if policy(&token) == ErrorPolicy::Continue {
        return Some(token);
    }
    token.step = Step::Condition;
    let host = token.host().clone();
    if host.deferred.push(token) {
        host.defer();
    }
    None
}

/// Aborts them. Process context.
pub(super) fn abort_others<F: Fabric>(token: &Token<Session<F>>) {
    if let Some(nexus) = &token.nexus {
        let own_only = policy(token) == ErrorPolicy::AbortOwn;
        tmf::abort_others(
            nexus.lun().device(),
            token.host().core(),
            token.tag,
            own_only,
        );
    }
}
