// SPDX-License-Identifier: GPL-2.0

//! Asymmetric access (SPC-4, 6.37 and 6.45; SBC-3, 5.25).

use super::{Decoded, Raw};
use crate::{alua, cdb::Command, lba::Lba, sense::Sense};

pub(in crate::opcode) fn report_target_port_groups(raw: &Raw) -> Decoded {
    let [_, format, _, _, _, _, l0, l1, l2, l3, ..] = *raw;
    let extended = match format >> 5 {
        0b000 => false,
        0b001 => true,
        _ => return Err(Sense::invalid_cdb_bit(1, 7)),
    };
    Ok(Command::ReportTargetPortGroups {
        extended,
        allocation: u32::from_be_bytes([l0, l1, l2, l3]),
    })
}

pub(in crate::opcode) fn set_target_port_groups(raw: &Raw) -> Decoded {
    let [_, _, _, _, _, _, l0, l1, l2, l3, ..] = *raw;
    let list_length = u32::from_be_bytes([l0, l1, l2, l3]);
    if list_length > alua::MAX_LIST {
        return Err(Sense::invalid_cdb_byte(6));
    }
    Ok(Command::SetTargetPortGroups { list_length })
}

pub(in crate::opcode) fn report_referrals(raw: &Raw) -> Decoded {
    let [_, _, a0, a1, a2, a3, a4, a5, a6, a7, l0, l1, l2, l3, flags, ..] = *raw;
    Ok(Command::ReportReferrals {
        lba: Lba(u64::from_be_bytes([a0, a1, a2, a3, a4, a5, a6, a7])),
        one_segment: flags & 0x01 != 0,
        allocation: u32::from_be_bytes([l0, l1, l2, l3]),
    })
}
