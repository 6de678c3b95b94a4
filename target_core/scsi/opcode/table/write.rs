// SPDX-License-Identifier: GPL-2.0

//! Rows of commands that write all or nothing, and that write several runs of blocks (SBC-4, 5.48, 5.49, 5.55, 5.56).
//!
//! ATOMIC BOUNDARY is not evaluated: no back end has boundaries.

use crate::pr::Reserved;

use super::{
    super::{Access, Descriptor, Feature, SERVICE_ACTION_OUT_16, VARIABLE},
    decode::block,
    DPO, FUA, PROTECT,
};

/// WRITE ATOMIC (32)
pub(super) const WRITE_ATOMIC_32: Descriptor = Descriptor {
    opcode: VARIABLE,
    service_action: Some(0x000f),
    length: 32,
    name: "WRITE ATOMIC (32)",
    requires: Feature::WriteAtomic,
    access: Access::Active,
    usage: &[
        0x7f, 0, 0, 0, 0, 0, 0x3f, 0xff, 0, 0x0f, 0xf8, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    ],
    optional: &[PROTECT, DPO, FUA],
    ignored: 0x00,
    length_field: 28,
    reservations: Reserved::Writes,
    decode: block::write_atomic_32,
};

/// WRITE SCATTERED (32)
pub(super) const WRITE_SCATTERED_32: Descriptor = Descriptor {
    opcode: VARIABLE,
    service_action: Some(0x0011),
    length: 32,
    name: "WRITE SCATTERED (32)",
    requires: Feature::Always,
    access: Access::Active,
    usage: &[
        0x7f, 0, 0, 0, 0, 0, 0x3f, 0xff, 0, 0x11, 0xf8, 0, 0xff, 0xff, 0, 0, 0xff, 0xff, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff,
    ],
    optional: &[PROTECT, DPO, FUA],
    ignored: 0x00,
    length_field: 28,
    reservations: Reserved::Writes,
    decode: block::write_scattered_32,
};

/// WRITE ATOMIC (16)
pub(super) const WRITE_ATOMIC_16: Descriptor = Descriptor {
    opcode: 0x9c,
    service_action: None,
    length: 16,
    name: "WRITE ATOMIC (16)",
    requires: Feature::WriteAtomic,
    access: Access::Active,
    usage: &[
        0x9c, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0xff, 0xff, 0x3f, 0,
    ],
    optional: &[PROTECT, DPO, FUA],
    ignored: 0x00,
    length_field: 12,
    reservations: Reserved::Writes,
    decode: block::write_atomic_16,
};

/// WRITE SCATTERED (16)
pub(super) const WRITE_SCATTERED_16: Descriptor = Descriptor {
    opcode: SERVICE_ACTION_OUT_16,
    service_action: Some(0x12),
    length: 16,
    name: "WRITE SCATTERED (16)",
    requires: Feature::Always,
    access: Access::Active,
    usage: &[
        0x9f, 0x12, 0xf8, 0, 0xff, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0,
    ],
    optional: &[PROTECT, DPO, FUA],
    ignored: 0x00,
    length_field: 10,
    reservations: Reserved::Writes,
    decode: block::write_scattered_16,
};
