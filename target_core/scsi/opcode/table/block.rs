// SPDX-License-Identifier: GPL-2.0

//! Rows of commands of SBC-4, clause 5.

use crate::pr::Reserved;

use super::{
    super::{Descriptor, Feature, VARIABLE},
    decode::{block, orwrite},
    Optional, ANCHOR, DPO, FUA, PROTECT, PROTECT_TAGS, UNMAP,
};

/// FMTPINFO
const FORMAT_PROTECTION: Optional = Optional {
    mask: 0xc0,
    feature: Feature::Protectable,
};

/// START STOP UNIT
pub(super) const START_STOP_UNIT: Descriptor = Descriptor {
    opcode: 0x1b,
    service_action: None,
    length: 6,
    name: "START STOP UNIT",
    requires: Feature::Always,
    access: Access::Active,
    usage: &[0x1b, 0x01, 0, 0x0f, 0xf7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    optional: &[],
    ignored: 0xe0,
    length_field: 0,
    reservations: Reserved::Writes,
    decode: block::start_stop_unit,
};

/// PREVENT ALLOW MEDIUM REMOVAL
pub(super) const PREVENT_ALLOW: Descriptor = Descriptor {
    opcode: 0x1e,
    service_action: None,
    length: 6,
    name: "PREVENT ALLOW MEDIUM REMOVAL",
    requires: Feature::Removable,
    access: Access::Active,
    usage: &[0x1e, 0, 0, 0, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    optional: &[],
    ignored: 0xe0,
    length_field: 0,
    reservations: Reserved::Writes,
    decode: block::prevent_allow,
};

/// WRITE AND VERIFY (10)
pub(super) const WRITE_AND_VERIFY_10: Descriptor = Descriptor {
    opcode: 0x2e,
    service_action: None,
    length: 10,
    name: "WRITE AND VERIFY (10)",
    requires: Feature::Always,
    access: Access::Active,
    usage: &[
        0x2e, 0xf6, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0,
    ],
    optional: &[PROTECT, DPO],
    ignored: 0x01,
    length_field: 7,
    reservations: Reserved::Writes,
    decode: block::write_and_verify_10,
};

/// PRE-FETCH (10)
pub(super) const PRE_FETCH_10: Descriptor = Descriptor {
    opcode: 0x34,
    service_action: None,
    length: 10,
    name: "PRE-FETCH (10)",
    requires: Feature::Always,
    access: Access::Active,
    usage: &[
        0x34, 0x02, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0,
    ],
    optional: &[],
    ignored: 0x01,
    length_field: 0,
    reservations: Reserved::Reads,
    decode: block::pre_fetch_10,
};

/// READ DEFECT DATA (10)
pub(super) const READ_DEFECT_DATA_10: Descriptor = Descriptor {
    opcode: 0x37,
    service_action: None,
    length: 10,
    name: "READ DEFECT DATA (10)",
    requires: Feature::Always,
    access: Access::Active,
    usage: &[0x37, 0, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0],
    optional: &[],
    ignored: 0xe0,
    length_field: 0,
    reservations: Reserved::Reads,
    decode: block::read_defect_data_10,
};
use crate::alua::Access;

/// READ (32)
pub(super) const READ_32: Descriptor = Descriptor {
    opcode: VARIABLE,
    service_action: Some(0x0009),
    length: 32,
    name: "READ (32)",
    requires: Feature::LongForm,
    access: Access::Active,
    usage: &[
        0x7f, 0, 0, 0, 0, 0, 0x3f, 0xff, 0, 0x09, 0xf8, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    ],
    optional: &[PROTECT_TAGS, DPO, FUA],
    ignored: 0x06,
    length_field: 28,
    reservations: Reserved::Reads,
    decode: block::read_32,
};

/// VERIFY (32)
pub(super) const VERIFY_32: Descriptor = Descriptor {
    opcode: VARIABLE,
    service_action: Some(0x000a),
    length: 32,
    name: "VERIFY (32)",
    requires: Feature::LongForm,
    access: Access::Active,
    usage: &[
        0x7f, 0, 0, 0, 0, 0, 0x3f, 0xff, 0, 0x0a, 0xf6, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    ],
    optional: &[PROTECT_TAGS, DPO],
    ignored: 0x00,
    length_field: 28,
    reservations: Reserved::Reads,
    decode: block::verify_32,
};

/// WRITE (32)
pub(super) const WRITE_32: Descriptor = Descriptor {
    opcode: VARIABLE,
    service_action: Some(0x000b),
    length: 32,
    name: "WRITE (32)",
    requires: Feature::LongForm,
    access: Access::Active,
    usage: &[
        0x7f, 0, 0, 0, 0, 0, 0x3f, 0xff, 0, 0x0b, 0xf8, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    ],
    optional: &[PROTECT_TAGS, DPO, FUA],
    ignored: 0x06,
    length_field: 28,
    reservations: Reserved::Writes,
    decode: block::write_32,
};

/// WRITE AND VERIFY (32)
pub(super) const WRITE_AND_VERIFY_32: Descriptor = Descriptor {
    opcode: VARIABLE,
    service_action: Some(0x000c),
    length: 32,
    name: "WRITE AND VERIFY (32)",
    requires: Feature::LongForm,
    access: Access::Active,
    usage: &[
        0x7f, 0, 0, 0, 0, 0, 0x3f, 0xff, 0, 0x0c, 0xf6, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    ],
    optional: &[PROTECT_TAGS, DPO],
    ignored: 0x00,
    length_field: 28,
    reservations: Reserved::Writes,
    decode: block::write_and_verify_32,
};

/// WRITE SAME (32)
pub(super) const WRITE_SAME_32: Descriptor = Descriptor {
    opcode: VARIABLE,
    service_action: Some(0x000d),
    length: 32,
    name: "WRITE SAME (32)",
    requires: Feature::LongForm,
    access: Access::Active,
    usage: &[
        0x7f, 0, 0, 0, 0, 0, 0x3f, 0xff, 0, 0x0d, 0xf9, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    ],
    optional: &[PROTECT_TAGS, ANCHOR, UNMAP],
    ignored: 0x00,
    length_field: 28,
    reservations: Reserved::Writes,
    decode: block::write_same_32,
};

/// GET LBA STATUS (32)
pub(super) const GET_LBA_STATUS_32: Descriptor = Descriptor {
    opcode: VARIABLE,
    service_action: Some(0x0012),
    length: 32,
    name: "GET LBA STATUS (32)",
    requires: Feature::Always,
    access: Access::Active,
    usage: &[
        0x7f, 0, 0, 0, 0, 0, 0, 0xff, 0, 0x12, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff,
    ],
    optional: &[],
    ignored: 0x00,
    length_field: 0,
    reservations: Reserved::Reads,
    decode: block::get_lba_status_32,
};

/// ORWRITE (16)
pub(super) const ORWRITE_16: Descriptor = Descriptor {
    opcode: 0x8b,
    service_action: None,
    length: 16,
    name: "ORWRITE (16)",
    requires: Feature::Always,
    access: Access::Active,
    usage: &[
        0x8b, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0,
    ],
    optional: &[PROTECT, DPO, FUA],
    ignored: 0x02,
    length_field: 10,
    reservations: Reserved::Writes,
    decode: orwrite::orwrite_16,
};

/// WRITE AND VERIFY (16)
pub(super) const WRITE_AND_VERIFY_16: Descriptor = Descriptor {
    opcode: 0x8e,
    service_action: None,
    length: 16,
    name: "WRITE AND VERIFY (16)",
    requires: Feature::Always,
    access: Access::Active,
    usage: &[
        0x8e, 0xf6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0,
    ],
    optional: &[PROTECT, DPO],
    ignored: 0x00,
    length_field: 10,
    reservations: Reserved::Writes,
    decode: block::write_and_verify_16,
};

/// PRE-FETCH (16)
pub(super) const PRE_FETCH_16: Descriptor = Descriptor {
    opcode: 0x90,
    service_action: None,
    length: 16,
    name: "PRE-FETCH (16)",
    requires: Feature::Always,
    access: Access::Active,
    usage: &[
        0x90, 0x02, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0,
    ],
    optional: &[],
    ignored: 0x00,
    length_field: 0,
    reservations: Reserved::Reads,
    decode: block::pre_fetch_16,
};

/// GET LBA STATUS (16)
pub(super) const GET_LBA_STATUS_16: Descriptor = Descriptor {
    opcode: 0x9e,
    service_action: Some(0x12),
    length: 16,
    name: "GET LBA STATUS (16)",
    requires: Feature::Always,
    access: Access::Active,
    usage: &[
        0x9e, 0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0,
    ],
    optional: &[],
    ignored: 0x00,
    length_field: 0,
    reservations: Reserved::Reads,
    decode: block::get_lba_status_16,
};

/// WRITE AND VERIFY (12)
pub(super) const WRITE_AND_VERIFY_12: Descriptor = Descriptor {
    opcode: 0xae,
    service_action: None,
    length: 12,
    name: "WRITE AND VERIFY (12)",
    requires: Feature::Always,
    access: Access::Active,
    usage: &[
        0xae, 0xf6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0, 0, 0, 0, 0,
    ],
    optional: &[PROTECT, DPO],
    ignored: 0x01,
    length_field: 6,
    reservations: Reserved::Writes,
    decode: block::write_and_verify_12,
};

/// VERIFY (12)
pub(super) const VERIFY_12: Descriptor = Descriptor {
    opcode: 0xaf,
    service_action: None,
    length: 12,
    name: "VERIFY (12)",
    requires: Feature::Always,
    access: Access::Active,
    usage: &[
        0xaf, 0xf6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0, 0, 0, 0, 0,
    ],
    optional: &[PROTECT, DPO],
    ignored: 0x01,
    length_field: 6,
    reservations: Reserved::Reads,
    decode: block::verify_12,
};

/// READ DEFECT DATA (12)
pub(super) const READ_DEFECT_DATA_12: Descriptor = Descriptor {
    opcode: 0xb7,
    service_action: None,
    length: 12,
    name: "READ DEFECT DATA (12)",
    requires: Feature::Always,
    access: Access::Active,
    usage: &[
        0xb7, 0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0,
    ],
    optional: &[],
    ignored: 0x00,
    length_field: 0,
    reservations: Reserved::Reads,
    decode: block::read_defect_data_12,
};

/// FORMAT UNIT
pub(super) const FORMAT_UNIT: Descriptor = Descriptor {
    opcode: 0x04,
    service_action: None,
    length: 6,
    name: "FORMAT UNIT",
    requires: Feature::Sanitize,
    access: Access::Active,
    usage: &[0x04, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    optional: &[FORMAT_PROTECTION],
    ignored: 0x00,
    length_field: 0,
    reservations: Reserved::Writes,
    decode: block::format_unit,
};

/// SANITIZE, OVERWRITE
pub(super) const SANITIZE_OVERWRITE: Descriptor = Descriptor {
    opcode: 0x48,
    service_action: Some(0x01),
    length: 10,
    name: "SANITIZE, OVERWRITE",
    requires: Feature::Sanitize,
    access: Access::Active,
    usage: &[0x48, 0xa1, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0],
    optional: &[],
    ignored: 0x00,
    length_field: 0,
    reservations: Reserved::Writes,
    decode: block::sanitize_overwrite,
};

/// SANITIZE, BLOCK ERASE
pub(super) const SANITIZE_BLOCK_ERASE: Descriptor = Descriptor {
    opcode: 0x48,
    service_action: Some(0x02),
    length: 10,
    name: "SANITIZE, BLOCK ERASE",
    requires: Feature::SanitizeErase,
    access: Access::Active,
    usage: &[0x48, 0xa2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    optional: &[],
    ignored: 0x00,
    length_field: 0,
    reservations: Reserved::Writes,
    decode: block::sanitize_block_erase,
};

/// SANITIZE, EXIT FAILURE MODE
pub(super) const SANITIZE_EXIT_FAILURE_MODE: Descriptor = Descriptor {
    opcode: 0x48,
    service_action: Some(0x1f),
    length: 10,
    name: "SANITIZE, EXIT FAILURE MODE",
    requires: Feature::Sanitize,
    access: Access::Active,
    usage: &[0x48, 0xbf, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    optional: &[],
    ignored: 0x00,
    length_field: 0,
    reservations: Reserved::Writes,
    decode: block::sanitize_exit_failure_mode,
};
