// SPDX-License-Identifier: GPL-2.0

//! The rows of the table of supported commands, ordered by operation code (SPC-4, clause 6; SBC-3, clause 5).

mod block;
mod primary;
mod write;

use super::{decode, Descriptor, Feature, Optional};
use crate::alua::Access;

/// RDPROTECT, WRPROTECT, VRPROTECT: there is no protection information.
const PROTECT: Optional = Optional {
    mask: super::PROTECT,
    feature: Feature::Never,
    tolerated: false,
};
const DPO: Optional = Optional {
    mask: 0x10,
    feature: Feature::DpoFua,
    tolerated: false,
};
/// VERIFY's DPO: no more than a hint, which the stock modules accept from everyone.
const DPO_HINT: Optional = Optional {
    mask: 0x10,
    feature: Feature::DpoFua,
    tolerated: true,
};
const FUA: Optional = Optional {
    mask: 0x08,
    feature: Feature::DpoFua,
    tolerated: false,
};
/// No block can be anchored (ANC_SUP is zero).
const ANCHOR: Optional = Optional {
    mask: 0x10,
    feature: Feature::Never,
    tolerated: false,
};
const UNMAP_ANCHOR: Optional = Optional {
    mask: 0x01,
    feature: Feature::Never,
    tolerated: false,
};
const UNMAP: Optional = Optional {
    mask: 0x08,
    feature: Feature::WriteSameUnmap,
    tolerated: false,
};

/// All commands, ordered by operation code; those of one operation code by service action.
///
/// What is ignored in byte 1: bits 7 to 5 of SCSI-2's LUN field in CDBs of 6 bytes and some of 10; RELADR, FUA_NV, SYNC_NV, which
/// are obsolete; RARC, a hint. GROUP NUMBER has six bits, as in SBC-4, and is
/// not looked at.
pub static TABLE: [Descriptor; 67] = [
    Descriptor {
        opcode: 0x00,
        service_action: None,
        length: 6,
        name: "TEST UNIT READY",
        requires: Feature::Always,
        access: Access::Active,
        usage: &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        optional: &[],
        ignored: 0xe0,
        length_field: 0,
        decode: decode::test_unit_ready,
    },
    Descriptor {
        opcode: 0x03,
        service_action: None,
        length: 6,
        name: "REQUEST SENSE",
        requires: Feature::Always,
        access: Access::Always,
        usage: &[0x03, 0x01, 0, 0, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        optional: &[],
        ignored: 0xe0,
        length_field: 0,
        decode: decode::request_sense,
    },
    block::FORMAT_UNIT,
    Descriptor {
        opcode: 0x08,
        service_action: None,
        length: 6,
        name: "READ (6)",
        requires: Feature::Always,
        access: Access::Active,
        usage: &[
            0x08, 0x1f, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ],
        optional: &[],
        ignored: 0xe0,
        length_field: 4,
        decode: decode::read_6,
    },
    Descriptor {
        opcode: 0x0a,
        service_action: None,
        length: 6,
        name: "WRITE (6)",
        requires: Feature::Always,
        access: Access::Active,
        usage: &[
            0x0a, 0x1f, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ],
        optional: &[],
        ignored: 0xe0,
        length_field: 4,
        decode: decode::write_6,
    },
    Descriptor {
        opcode: 0x12,
        service_action: None,
        length: 6,
        name: "INQUIRY",
        requires: Feature::Always,
        access: Access::Always,
        usage: &[
            0x12, 0x01, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ],
        optional: &[],
        ignored: 0xe0,
        length_field: 0,
        decode: decode::inquiry,
    },
    primary::MODE_SELECT_6,
    Descriptor {
        opcode: 0x1a,
        service_action: None,
        length: 6,
        name: "MODE SENSE (6)",
        requires: Feature::Always,
        access: Access::Standby,
        usage: &[
            0x1a, 0x08, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ],
        optional: &[],
        ignored: 0xe0,
        length_field: 0,
        decode: decode::mode_sense_6,
    },
    block::START_STOP_UNIT,
    primary::RECEIVE_DIAGNOSTIC_RESULTS,
    primary::SEND_DIAGNOSTIC,
    block::PREVENT_ALLOW,
    Descriptor {
        opcode: 0x25,
        service_action: None,
        length: 10,
        name: "READ CAPACITY (10)",
        requires: Feature::Always,
        access: Access::Standby,
        usage: &[
            0x25, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0x01, 0, 0, 0, 0, 0, 0, 0,
        ],
        optional: &[],
        ignored: 0xe1,
        length_field: 0,
        decode: decode::read_capacity_10,
    },
    Descriptor {
        opcode: 0x28,
        service_action: None,
        length: 10,
        name: "READ (10)",
        requires: Feature::Always,
        access: Access::Active,
        usage: &[
            0x28, 0xf8, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0,
        ],
        optional: &[PROTECT, DPO, FUA],
        ignored: 0x07,
        length_field: 7,
        decode: decode::read_10,
    },
    Descriptor {
        opcode: 0x2a,
        service_action: None,
        length: 10,
        name: "WRITE (10)",
        requires: Feature::Always,
        access: Access::Active,
        usage: &[
            0x2a, 0xf8, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0,
        ],
        optional: &[PROTECT, DPO, FUA],
        ignored: 0x07,
        length_field: 7,
        decode: decode::write_10,
    },
    block::WRITE_AND_VERIFY_10,
    Descriptor {
        opcode: 0x2f,
        service_action: None,
        length: 10,
        name: "VERIFY (10)",
        requires: Feature::Always,
        access: Access::Active,
        usage: &[
            0x2f, 0xf6, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0,
        ],
        optional: &[PROTECT, DPO_HINT],
        ignored: 0x01,
        length_field: 7,
        decode: decode::verify_10,
    },
    block::PRE_FETCH_10,
    Descriptor {
        opcode: 0x35,
        service_action: None,
        length: 10,
        name: "SYNCHRONIZE CACHE (10)",
        requires: Feature::Always,
        access: Access::Active,
        usage: &[
            0x35, 0x02, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0,
        ],
        optional: &[],
        ignored: 0x05,
        length_field: 7,
        decode: decode::synchronize_cache_10,
    },
    block::READ_DEFECT_DATA_10,
    primary::WRITE_BUFFER,
    primary::READ_BUFFER,
    Descriptor {
        opcode: 0x41,
        service_action: None,
        length: 10,
        name: "WRITE SAME (10)",
        requires: Feature::WriteSame,
        access: Access::Active,
        usage: &[
            0x41, 0xf8, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0,
        ],
        optional: &[PROTECT, ANCHOR, UNMAP],
        ignored: 0x00,
        length_field: 7,
        decode: decode::write_same_10,
    },
    Descriptor {
        opcode: 0x42,
        service_action: None,
        length: 10,
        name: "UNMAP",
        requires: Feature::Unmap,
        access: Access::Active,
        usage: &[
            0x42, 0x01, 0, 0, 0, 0, 0x3f, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0,
        ],
        optional: &[UNMAP_ANCHOR],
        ignored: 0x00,
        length_field: 7,
        decode: decode::unmap,
    },
    block::SANITIZE_OVERWRITE,
    block::SANITIZE_BLOCK_ERASE,
    block::SANITIZE_EXIT_FAILURE_MODE,
    primary::LOG_SELECT,
    primary::LOG_SENSE,
    primary::MODE_SELECT_10,
    Descriptor {
        opcode: 0x5a,
        service_action: None,
        length: 10,
        name: "MODE SENSE (10)",
        requires: Feature::Always,
        access: Access::Standby,
        usage: &[
            0x5a, 0x18, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0,
        ],
        optional: &[],
        ignored: 0xe0,
        length_field: 0,
        decode: decode::mode_sense_10,
    },
    block::READ_32,
    block::VERIFY_32,
    block::WRITE_32,
    block::WRITE_AND_VERIFY_32,
    block::WRITE_SAME_32,
    write::WRITE_ATOMIC_32,
    write::WRITE_SCATTERED_32,
    block::GET_LBA_STATUS_32,
    Descriptor {
        opcode: 0x88,
        service_action: None,
        length: 16,
        name: "READ (16)",
        requires: Feature::Always,
        access: Access::Active,
        usage: &[
            0x88, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            0x3f, 0,
        ],
        optional: &[PROTECT, DPO, FUA],
        ignored: 0x07,
        length_field: 10,
        decode: decode::read_16,
    },
    Descriptor {
        opcode: 0x89,
        service_action: None,
        length: 16,
        name: "COMPARE AND WRITE",
        requires: Feature::CompareAndWrite,
        access: Access::Active,
        usage: &[
            0x89, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0xff, 0x3f, 0,
        ],
        optional: &[PROTECT, DPO, FUA],
        ignored: 0x02,
        length_field: 13,
        decode: decode::compare_and_write,
    },
    Descriptor {
        opcode: 0x8a,
        service_action: None,
        length: 16,
        name: "WRITE (16)",
        requires: Feature::Always,
        access: Access::Active,
        usage: &[
            0x8a, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            0x3f, 0,
        ],
        optional: &[PROTECT, DPO, FUA],
        ignored: 0x07,
        length_field: 10,
        decode: decode::write_16,
    },
    block::ORWRITE_16,
    block::WRITE_AND_VERIFY_16,
    Descriptor {
        opcode: 0x8f,
        service_action: None,
        length: 16,
        name: "VERIFY (16)",
        requires: Feature::Always,
        access: Access::Active,
        usage: &[
            0x8f, 0xf6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            0x3f, 0,
        ],
        optional: &[PROTECT, DPO_HINT],
        ignored: 0x01,
        length_field: 10,
        decode: decode::verify_16,
    },
    block::PRE_FETCH_16,
    Descriptor {
        opcode: 0x91,
        service_action: None,
        length: 16,
        name: "SYNCHRONIZE CACHE (16)",
        requires: Feature::Always,
        access: Access::Active,
        usage: &[
            0x91, 0x02, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            0x3f, 0,
        ],
        optional: &[],
        ignored: 0x05,
        length_field: 10,
        decode: decode::synchronize_cache_16,
    },
    Descriptor {
        opcode: 0x93,
        service_action: None,
        length: 16,
        name: "WRITE SAME (16)",
        requires: Feature::WriteSame,
        access: Access::Active,
        usage: &[
            0x93, 0xf9, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            0x3f, 0,
        ],
        optional: &[PROTECT, ANCHOR, UNMAP],
        ignored: 0x00,
        length_field: 10,
        decode: decode::write_same_16,
    },
    write::WRITE_ATOMIC_16,
    Descriptor {
        opcode: 0x9e,
        service_action: Some(0x10),
        length: 16,
        name: "READ CAPACITY (16)",
        requires: Feature::Always,
        access: Access::Standby,
        usage: &[
            0x9e, 0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            0x01, 0,
        ],
        optional: &[],
        ignored: 0x00,
        length_field: 0,
        decode: decode::read_capacity_16,
    },
    block::GET_LBA_STATUS_16,
    Descriptor {
        opcode: 0x9e,
        service_action: Some(0x13),
        length: 16,
        name: "REPORT REFERRALS",
        requires: Feature::Referrals,
        access: Access::Standby,
        usage: &[
            0x9e, 0x13, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            0x01, 0,
        ],
        optional: &[],
        ignored: 0x00,
        length_field: 0,
        decode: decode::alua::report_referrals,
    },
    write::WRITE_SCATTERED_16,
    Descriptor {
        opcode: 0xa0,
        service_action: None,
        length: 12,
        name: "REPORT LUNS",
        requires: Feature::Always,
        access: Access::Always,
        usage: &[
            0xa0, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0,
        ],
        optional: &[],
        ignored: 0x00,
        length_field: 0,
        decode: decode::report_luns,
    },
    primary::REPORT_IDENTIFYING_INFORMATION,
    Descriptor {
        opcode: 0xa3,
        service_action: Some(0x0a),
        length: 12,
        name: "REPORT TARGET PORT GROUPS",
        requires: Feature::TargetPortGroups,
        access: Access::Always,
        usage: &[
            0xa3, 0xea, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0,
        ],
        optional: &[],
        ignored: 0x00,
        length_field: 0,
        decode: decode::alua::report_target_port_groups,
    },
    Descriptor {
        opcode: 0xa3,
        service_action: Some(0x0c),
        length: 12,
        name: "REPORT SUPPORTED OPERATION CODES",
        requires: Feature::ReportOpcodes,
        access: Access::Standby,
        usage: &[
            0xa3, 0x0c, 0x87, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0,
        ],
        optional: &[],
        ignored: 0x00,
        length_field: 0,
        decode: decode::report_supported_operation_codes,
    },
    primary::REPORT_TASK_MANAGEMENT_FUNCTIONS,
    primary::REPORT_TIMESTAMP,
    primary::SET_IDENTIFYING_INFORMATION,
    Descriptor {
        opcode: 0xa4,
        service_action: Some(0x0a),
        length: 12,
        name: "SET TARGET PORT GROUPS",
        requires: Feature::SetTargetPortGroups,
        access: Access::Unavailable,
        usage: &[
            0xa4, 0x0a, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0,
        ],
        optional: &[],
        ignored: 0x00,
        length_field: 6,
        decode: decode::alua::set_target_port_groups,
    },
    primary::SET_TIMESTAMP,
    Descriptor {
        opcode: 0xa8,
        service_action: None,
        length: 12,
        name: "READ (12)",
        requires: Feature::Always,
        access: Access::Active,
        usage: &[
            0xa8, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0, 0, 0, 0, 0,
        ],
        optional: &[PROTECT, DPO, FUA],
        ignored: 0x07,
        length_field: 6,
        decode: decode::read_12,
    },
    Descriptor {
        opcode: 0xaa,
        service_action: None,
        length: 12,
        name: "WRITE (12)",
        requires: Feature::Always,
        access: Access::Active,
        usage: &[
            0xaa, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0, 0, 0, 0, 0,
        ],
        optional: &[PROTECT, DPO, FUA],
        ignored: 0x07,
        length_field: 6,
        decode: decode::write_12,
    },
    block::WRITE_AND_VERIFY_12,
    block::VERIFY_12,
    block::READ_DEFECT_DATA_12,
];

/// For each operation code, its first row and how many rows it has. Made by the compiler, so that an index out of bounds in
/// here is a compile error.
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
pub(super) static INDEX: [(u8, u8); 256] = {
    let mut index = [(0, 0); 256];
    let mut i = 0;
    while i < TABLE.len() {
        let opcode = TABLE[i].opcode as usize;
        if index[opcode].1 == 0 {
            index[opcode].0 = i as u8;
        }
        index[opcode].1 += 1;
        i += 1;
    }
    index
};
