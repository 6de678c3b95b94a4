// SPDX-License-Identifier: GPL-2.0

//! Rows of commands of SBC-4, clause 5, that address blocks.

use super::{
    super::{Descriptor, Feature, VARIABLE},
    decode::block,
    DPO, FUA, PROTECT,
};
use crate::alua::Access;

/// READ (32)
pub(super) const READ_32: Descriptor = Descriptor {
    opcode: VARIABLE,
    service_action: Some(0x0009),
    length: 32,
    name: "READ (32)",
    requires: Feature::Always,
    access: Access::Active,
    usage: &[
        0x7f, 0, 0, 0, 0, 0, 0x3f, 0xff, 0x00, 0x09, 0xf8, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    ],
    optional: &[PROTECT, DPO, FUA],
    ignored: 0x06,
    length_field: 28,
    decode: block::read_32,
};

/// WRITE (32)
pub(super) const WRITE_32: Descriptor = Descriptor {
    service_action: Some(0x000b),
    name: "WRITE (32)",
    usage: &[
        0x7f, 0, 0, 0, 0, 0, 0x3f, 0xff, 0x00, 0x0b, 0xf8, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    ],
    decode: block::write_32,
    ..READ_32
};
