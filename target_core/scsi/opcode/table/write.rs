// SPDX-License-Identifier: GPL-2.0

//! Rows of commands that write all or nothing, several runs of blocks, bits, and what cannot be read (SBC-4, 5.11, 5.48 to 5.51, 5.55,
//! 5.56); and of READ LONG, which reads that (SBC-3, 5.19 and 5.20).
//!
//! ATOMIC BOUNDARY is not evaluated: no back end has boundaries.

use crate::pr::Reserved;

use super::{
    super::{Access, Descriptor, Feature, SERVICE_ACTION_OUT_16, VARIABLE},
    decode::{block, orwrite},
    DPO, FUA, PROTECT, PROTECT_TAGS,
};

/// READ LONG (10)
pub(super) const READ_LONG_10: Descriptor = Descriptor {
    opcode: 0x3e,
    service_action: None,
    length: 10,
    name: "READ LONG (10)",
    requires: Feature::WriteLong,
    access: Access::Active,
    usage: &[
        0x3e, 0x06, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0,
    ],
    optional: &[],
    ignored: 0x00,
    length_field: 7,
    reservations: Reserved::Reads,
    decode: orwrite::read_long_10,
};

/// READ LONG (16)
pub(super) const READ_LONG_16: Descriptor = Descriptor {
    opcode: 0x9e,
    service_action: Some(0x11),
    length: 16,
    name: "READ LONG (16)",
    requires: Feature::WriteLong,
    access: Access::Active,
    usage: &[
        0x9e, 0x11, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0xff, 0xff, 0x03, 0,
    ],
    optional: &[],
    ignored: 0x00,
    length_field: 12,
    reservations: Reserved::Reads,
    decode: orwrite::read_long_16,
};

/// WRITE LONG (10)
pub(super) const WRITE_LONG_10: Descriptor = Descriptor {
    opcode: 0x3f,
    service_action: None,
    length: 10,
    name: "WRITE LONG (10)",
    requires: Feature::WriteLong,
    access: Access::Active,
    usage: &[
        0x3f, 0xc0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ],
    optional: &[],
    ignored: 0x00,
    length_field: 0,
    reservations: Reserved::Writes,
    decode: orwrite::write_long_10,
};

/// ORWRITE (32)
pub(super) const ORWRITE_32: Descriptor = Descriptor {
    opcode: VARIABLE,
    service_action: Some(0x000e),
    length: 32,
    name: "ORWRITE (32)",
    requires: Feature::Always,
    access: Access::Active,
    usage: &[
        0x7f, 0, 0x07, 0x0f, 0, 0, 0x3f, 0xff, 0, 0x0e, 0xf8, 0, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    ],
    optional: &[PROTECT, DPO, FUA],
    ignored: 0x00,
    length_field: 28,
    reservations: Reserved::Writes,
    decode: orwrite::orwrite_32,
};

/// WRITE ATOMIC (32)
pub(super) const WRITE_ATOMIC_32: Descriptor = Descriptor {
    opcode: VARIABLE,
    service_action: Some(0x000f),
    length: 32,
    name: "WRITE ATOMIC (32)",
    requires: Feature::WriteAtomicLong,
    access: Access::Active,
    usage: &[
        0x7f, 0, 0, 0, 0, 0, 0x3f, 0xff, 0, 0x0f, 0xf8, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    ],
    optional: &[PROTECT_TAGS, DPO, FUA],
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
    requires: Feature::LongForm,
    access: Access::Active,
    usage: &[
        0x7f, 0, 0, 0, 0, 0, 0x3f, 0xff, 0, 0x11, 0xf8, 0, 0xff, 0xff, 0, 0, 0xff, 0xff, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff,
    ],
    optional: &[PROTECT_TAGS, DPO, FUA],
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

/// WRITE LONG (16)
pub(super) const WRITE_LONG_16: Descriptor = Descriptor {
    opcode: SERVICE_ACTION_OUT_16,
    service_action: Some(0x11),
    length: 16,
    name: "WRITE LONG (16)",
    requires: Feature::WriteLong,
    access: Access::Active,
    usage: &[
        0x9f, 0xd1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0,
    ],
    optional: &[],
    ignored: 0x00,
    length_field: 0,
    reservations: Reserved::Writes,
    decode: orwrite::write_long_16,
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
