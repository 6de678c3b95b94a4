// SPDX-License-Identifier: GPL-2.0

//! Rows of third-party copy (SPC-4, 6.4 and 6.24 to 6.27).

use crate::{
    alua::Access,
    cdb::Command,
    opcode::{decode::copy as decode, Descriptor, Feature, Raw},
    pr::Reserved,
    sense::Sense,
};

const fn row(
    opcode: u8,
    service_action: u16,
    name: &'static str,
    access: Access,
    reservations: Reserved,
    usage: &'static [u8],
    decode: fn(&Raw) -> Result<Command, Sense>,
) -> Descriptor {
    Descriptor {
        opcode,
        service_action: Some(service_action),
        length: 16,
        name,
        requires: Feature::ThirdPartyCopy,
        access,
        reservations,
        usage,
        optional: &[],
        ignored: 0,
        length_field: 10,
        decode,
    }
}

pub(super) const EXTENDED_COPY_LID1: Descriptor = row(
    0x83,
    0x00,
    "EXTENDED COPY(LID1)",
    Access::Active,
    Reserved::Writes,
    &[
        0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0,
    ],
    decode::extended_copy_lid1,
);
pub(super) const EXTENDED_COPY_LID4: Descriptor = row(
    0x83,
    0x01,
    "EXTENDED COPY(LID4)",
    Access::Active,
    Reserved::Writes,
    &[
        0x83, 0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0,
    ],
    decode::extended_copy_lid4,
);
pub(super) const RECEIVE_COPY_STATUS_LID1: Descriptor = row(
    0x84,
    0x00,
    "RECEIVE COPY STATUS(LID1)",
    Access::Active,
    Reserved::Writes,
    &[
        0x84, 0, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0,
    ],
    decode::receive_status_lid1,
);
pub(super) const RECEIVE_COPY_OPERATING_PARAMETERS: Descriptor = row(
    0x84,
    0x03,
    "RECEIVE COPY OPERATING PARAMETERS",
    Access::Active,
    Reserved::Writes,
    &[
        0x84, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0,
    ],
    decode::receive_operating_parameters,
);
pub(super) const RECEIVE_COPY_FAILURE_DETAILS_LID1: Descriptor = row(
    0x84,
    0x04,
    "RECEIVE COPY FAILURE DETAILS(LID1)",
    Access::Active,
    Reserved::Writes,
    &[
        0x84, 0x04, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0,
    ],
    decode::receive_failure_details,
);
pub(super) const POPULATE_TOKEN: Descriptor = row(
    0x83,
    0x10,
    "POPULATE TOKEN",
    Access::Active,
    Reserved::Reads,
    &[
        0x83, 0x10, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0,
    ],
    decode::populate_token,
);
pub(super) const WRITE_USING_TOKEN: Descriptor = row(
    0x83,
    0x11,
    "WRITE USING TOKEN",
    Access::Active,
    Reserved::Writes,
    &[
        0x83, 0x11, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0,
    ],
    decode::write_using_token,
);
pub(super) const COPY_OPERATION_ABORT: Descriptor = Descriptor {
    length_field: 0,
    ..row(
        0x83,
        0x1c,
        "COPY OPERATION ABORT",
        Access::Active,
        Reserved::Writes,
        &[
            0x83, 0x1c, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ],
        decode::copy_operation_abort,
    )
};
pub(super) const RECEIVE_COPY_DATA_LID1: Descriptor = row(
    0x84,
    0x01,
    "RECEIVE COPY DATA(LID1)",
    Access::Active,
    Reserved::Writes,
    &[
        0x84, 0x01, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0,
    ],
    decode::receive_data_lid1,
);
pub(super) const RECEIVE_COPY_DATA_LID4: Descriptor = row(
    0x84,
    0x06,
    "RECEIVE COPY DATA(LID4)",
    Access::Active,
    Reserved::Writes,
    &[
        0x84, 0x06, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0,
    ],
    decode::receive_data_lid4,
);
pub(super) const REPORT_ALL_ROD_TOKENS: Descriptor = row(
    0x84,
    0x08,
    "REPORT ALL ROD TOKENS",
    Access::Active,
    Reserved::Writes,
    &[
        0x84, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0,
    ],
    decode::report_all_tokens,
);
pub(super) const RECEIVE_COPY_STATUS_LID4: Descriptor = row(
    0x84,
    0x05,
    "RECEIVE COPY STATUS(LID4)",
    Access::Active,
    Reserved::Writes,
    &[
        0x84, 0x05, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0,
    ],
    decode::receive_status_lid4,
);
pub(super) const RECEIVE_ROD_TOKEN_INFORMATION: Descriptor = row(
    0x84,
    0x07,
    "RECEIVE ROD TOKEN INFORMATION",
    Access::Active,
    Reserved::Writes,
    &[
        0x84, 0x07, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0,
    ],
    decode::receive_token_information,
);
