// SPDX-License-Identifier: GPL-2.0

//! Rows of primary commands about a unit's parameters, its identity and its buffers (SPC-4, clause 6).

use crate::{
    alua::Access,
    cdb::Command,
    opcode::{decode::primary as decode, Descriptor, Feature, Optional, Raw},
    pr::Reserved,
    sense::Sense,
};

/// SP of MODE SELECT.
const SAVE_MODE: Optional = Optional {
    mask: 0x01,
    feature: Feature::SavesMode,
};
/// SP of the log pages: nothing of them can be saved.
const SAVE: Optional = Optional {
    mask: 0x01,
    feature: Feature::Never,
};

const fn row(
    opcode: u8,
    service_action: Option<u16>,
    length: u8,
    name: &'static str,
    usage: &'static [u8],
    reservations: Reserved,
    decode: fn(&Raw) -> Result<Command, Sense>,
) -> Descriptor {
    Descriptor {
        opcode,
        service_action,
        length,
        name,
        requires: Feature::Always,
        // None touches the medium, but for the self-test, which SPC-4 wants in that state, too.
        access: Access::Standby,
        usage,
        optional: &[],
        ignored: 0,
        length_field: 0,
        reservations,
        decode,
    }
}

pub(super) const MODE_SELECT_6: Descriptor = Descriptor {
    optional: &[SAVE_MODE],
    ignored: 0xe0,
    ..row(
        0x15,
        None,
        6,
        "MODE SELECT (6)",
        &[0x15, 0x13, 0, 0, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        Reserved::Writes,
        decode::mode_select_6,
    )
};
pub(super) const MODE_SELECT_10: Descriptor = Descriptor {
    optional: &[SAVE_MODE],
    ignored: 0xe0,
    ..row(
        0x55,
        None,
        10,
        "MODE SELECT (10)",
        &[0x55, 0x13, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0],
        Reserved::Writes,
        decode::mode_select_10,
    )
};
pub(super) const RECEIVE_DIAGNOSTIC_RESULTS: Descriptor = row(
    0x1c,
    None,
    6,
    "RECEIVE DIAGNOSTIC RESULTS",
    &[
        0x1c, 0x01, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ],
    Reserved::Reads,
    decode::receive_diagnostic_results,
);
pub(super) const SEND_DIAGNOSTIC: Descriptor = row(
    0x1d,
    None,
    6,
    "SEND DIAGNOSTIC",
    &[0x1d, 0xf7, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    Reserved::Writes,
    decode::send_diagnostic,
);
pub(super) const WRITE_BUFFER: Descriptor = row(
    0x3b,
    None,
    10,
    "WRITE BUFFER",
    &[
        0x3b, 0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0,
    ],
    Reserved::Writes,
    decode::write_buffer,
);
pub(super) const READ_BUFFER: Descriptor = row(
    0x3c,
    None,
    10,
    "READ BUFFER (10)",
    &[
        0x3c, 0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0,
    ],
    Reserved::Reads,
    decode::read_buffer,
);
pub(super) const LOG_SELECT: Descriptor = Descriptor {
    optional: &[SAVE],
    ..row(
        0x4c,
        None,
        10,
        "LOG SELECT",
        &[
            0x4c, 0x03, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0,
        ],
        Reserved::Writes,
        decode::log_select,
    )
};
pub(super) const LOG_SENSE: Descriptor = Descriptor {
    optional: &[SAVE],
    ..row(
        0x4d,
        None,
        10,
        "LOG SENSE",
        &[
            0x4d, 0x01, 0xff, 0xff, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0,
        ],
        Reserved::Persistently,
        decode::log_sense,
    )
};
pub(super) const REPORT_IDENTIFYING_INFORMATION: Descriptor = row(
    0xa3,
    Some(0x05),
    12,
    "REPORT IDENTIFYING INFORMATION",
    &[
        0xa3, 0x05, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 0, 0,
    ],
    Reserved::Persistently,
    decode::report_identifying_information,
);
pub(super) const REPORT_TASK_MANAGEMENT_FUNCTIONS: Descriptor = row(
    0xa3,
    Some(0x0d),
    12,
    "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS",
    &[
        0xa3, 0x0d, 0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0,
    ],
    Reserved::Reads,
    decode::report_task_management_functions,
);
pub(super) const REPORT_PRIORITY: Descriptor = row(
    0xa3,
    Some(0x0e),
    12,
    "REPORT PRIORITY",
    &[
        0xa3, 0x0e, 0xc0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0,
    ],
    Reserved::Persistently,
    decode::report_priority,
);
pub(super) const REPORT_TIMESTAMP: Descriptor = row(
    0xa3,
    Some(0x0f),
    12,
    "REPORT TIMESTAMP",
    &[
        0xa3, 0x0f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0,
    ],
    Reserved::Persistently,
    decode::report_timestamp,
);
pub(super) const SET_IDENTIFYING_INFORMATION: Descriptor = row(
    0xa4,
    Some(0x06),
    12,
    "SET IDENTIFYING INFORMATION",
    &[
        0xa4, 0x06, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 0, 0,
    ],
    Reserved::Writes,
    decode::set_identifying_information,
);
pub(super) const SET_PRIORITY: Descriptor = row(
    0xa4,
    Some(0x0e),
    12,
    "SET PRIORITY",
    &[
        0xa4, 0x0e, 0xc0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0,
    ],
    Reserved::Writes,
    decode::set_priority,
);
pub(super) const SET_TIMESTAMP: Descriptor = row(
    0xa4,
    Some(0x0f),
    12,
    "SET TIMESTAMP",
    &[
        0xa4, 0x0f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0,
    ],
    Reserved::Writes,
    decode::set_timestamp,
);
