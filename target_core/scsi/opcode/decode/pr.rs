// SPDX-License-Identifier: GPL-2.0

//! PERSISTENT RESERVE IN and OUT (SPC-4, 6.15 and 6.16), RESERVE and RELEASE (SPC-2, 7.21 and 7.22).

use super::{Decoded, Raw};
use crate::{
    cdb::Command,
    pr::{Action, In, Out, MAX_LIST},
    sense::Sense,
};

pub(in super::super) fn persistent_reserve_in(raw: &Raw) -> Decoded {
    let [_, action, _, _, _, _, _, l0, l1, ..] = *raw;
    let action = match action & 0x1f {
        0 => In::ReadKeys,
        1 => In::ReadReservation,
        2 => In::ReportCapabilities,
        3 => In::ReadFullStatus,
        _ => return Err(Sense::invalid_cdb_bit(1, 4)),
    };
    Ok(Command::PersistentReserveIn {
        action,
        allocation: u32::from(u16::from_be_bytes([l0, l1])),
    })
}

pub(in super::super) fn persistent_reserve_out(raw: &Raw) -> Decoded {
    let [_, action, scope, _, _, l0, l1, l2, l3, ..] = *raw;
    let action = match action & 0x1f {
        0 => Action::Register,
        1 => Action::Reserve,
        2 => Action::Release,
        3 => Action::Clear,
        4 => Action::Preempt,
        5 => Action::PreemptAndAbort,
        6 => Action::RegisterAndIgnore,
        7 => Action::RegisterAndMove,
        8 => Action::ReplaceLost,
        _ => return Err(Sense::invalid_cdb_bit(1, 4)),
    };
    let list_length = u32::from_be_bytes([l0, l1, l2, l3]);
    if list_length > MAX_LIST {
        return Err(Sense::PARAMETER_LIST_LENGTH);
    }
    let out = Out {
        action,
        scope: scope >> 4,
        kind: scope & 0x0f,
    };
    Ok(Command::PersistentReserveOut { out, list_length })
}

pub(in super::super) fn reserve(_: &Raw) -> Decoded {
    Ok(Command::Reserve)
}

pub(in super::super) fn release(_: &Raw) -> Decoded {
    Ok(Command::Release)
}
