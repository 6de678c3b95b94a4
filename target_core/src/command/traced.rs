// SPDX-License-Identifier: GPL-2.0

//! What tracepoints tell of a command.

use super::Command;
use crate::backend::Op;
use kernel::str::CStr;
use lio_glue::trace;

/// The device that it is for, once that is known.
pub(super) fn device(cmd: &Command) -> Option<&CStr> {
    let nexus = cmd.nexus.as_ref()?;
    Some(nexus.lun().device().path())
}

/// What a back end is asked for: the first byte, and how many.
pub(super) fn operation(cmd: &Command) -> (trace::Op, u64, u64) {
    match cmd.op {
        Op::None => (trace::Op::None, 0, 0),
        Op::Read { pos, len } => (trace::Op::Read, pos, len.into()),
        Op::Write { pos, fua } | Op::WriteAtomic { pos, fua } => {
            let op = if fua {
                trace::Op::WriteThrough
            } else {
                trace::Op::Write
            };
            (op, pos, cmd.io_buffer().len() as u64)
        }
        Op::Flush { pos, len } => (trace::Op::Flush, pos, len),
        Op::Unmap { pos, len } => (trace::Op::Unmap, pos, len),
        Op::WriteZeroes { pos, len, .. } => (trace::Op::WriteZeroes, pos, len),
        Op::Status { pos, len } => (trace::Op::Status, pos, len),
    }
}
