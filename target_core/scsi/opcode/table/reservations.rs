// SPDX-License-Identifier: GPL-2.0

//! Rows of PERSISTENT RESERVE IN and OUT (SPC-4, 6.15 and 6.16), RESERVE and RELEASE (SPC-2, 7.21 and 7.22).

use super::{
    super::{Access, Descriptor, Feature},
    decode::pr,
};
use crate::pr::Reserved;

/// RESERVE (6)
pub(super) const RESERVE_6: Descriptor = Descriptor {
    opcode: 0x16,
    service_action: None,
    length: 6,
    name: "RESERVE (6)",
    requires: Feature::Reservations,
    access: Access::Active,
    usage: &[0x16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    optional: &[],
    ignored: 0xe0,
    length_field: 0,
    reservations: Reserved::Reserves,
    decode: pr::reserve,
};

/// RELEASE (6)
pub(super) const RELEASE_6: Descriptor = Descriptor {
    opcode: 0x17,
    service_action: None,
    length: 6,
    name: "RELEASE (6)",
    requires: Feature::Reservations,
    access: Access::Active,
    usage: &[0x17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    optional: &[],
    ignored: 0xe0,
    length_field: 0,
    reservations: Reserved::Reserves,
    decode: pr::release,
};

/// RESERVE (10)
pub(super) const RESERVE_10: Descriptor = Descriptor {
    opcode: 0x56,
    service_action: None,
    length: 10,
    name: "RESERVE (10)",
    requires: Feature::Reservations,
    access: Access::Active,
    usage: &[0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    optional: &[],
    ignored: 0x00,
    length_field: 0,
    reservations: Reserved::Reserves,
    decode: pr::reserve,
};

/// RELEASE (10)
pub(super) const RELEASE_10: Descriptor = Descriptor {
    opcode: 0x57,
    service_action: None,
    length: 10,
    name: "RELEASE (10)",
    requires: Feature::Reservations,
    access: Access::Active,
    usage: &[0x57, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    optional: &[],
    ignored: 0x00,
    length_field: 0,
    reservations: Reserved::Reserves,
    decode: pr::release,
};

/// PERSISTENT RESERVE IN, READ KEYS
pub(super) const PR_IN_READ_KEYS: Descriptor = Descriptor {
    opcode: 0x5e,
    service_action: Some(0x00),
    length: 10,
    name: "PERSISTENT RESERVE IN, READ KEYS",
    requires: Feature::Reservations,
    access: Access::Standby,
    usage: &[0x5e, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0],
    optional: &[],
    ignored: 0x00,
    length_field: 7,
    reservations: Reserved::Manages,
    decode: pr::persistent_reserve_in,
};

/// PERSISTENT RESERVE IN, READ RESERVATION
pub(super) const PR_IN_READ_RESERVATION: Descriptor = Descriptor {
    opcode: 0x5e,
    service_action: Some(0x01),
    length: 10,
    name: "PERSISTENT RESERVE IN, READ RESERVATION",
    requires: Feature::Reservations,
    access: Access::Standby,
    usage: &[0x5e, 0x01, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0],
    optional: &[],
    ignored: 0x00,
    length_field: 7,
    reservations: Reserved::Manages,
    decode: pr::persistent_reserve_in,
};

/// PERSISTENT RESERVE IN, REPORT CAPABILITIES
pub(super) const PR_IN_REPORT_CAPABILITIES: Descriptor = Descriptor {
    opcode: 0x5e,
    service_action: Some(0x02),
    length: 10,
    name: "PERSISTENT RESERVE IN, REPORT CAPABILITIES",
    requires: Feature::Reservations,
    access: Access::Standby,
    usage: &[0x5e, 0x02, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0],
    optional: &[],
    ignored: 0x00,
    length_field: 7,
    reservations: Reserved::Manages,
    decode: pr::persistent_reserve_in,
};

/// PERSISTENT RESERVE IN, READ FULL STATUS
pub(super) const PR_IN_READ_FULL_STATUS: Descriptor = Descriptor {
    opcode: 0x5e,
    service_action: Some(0x03),
    length: 10,
    name: "PERSISTENT RESERVE IN, READ FULL STATUS",
    requires: Feature::Reservations,
    access: Access::Standby,
    usage: &[0x5e, 0x03, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0],
    optional: &[],
    ignored: 0x00,
    length_field: 7,
    reservations: Reserved::Manages,
    decode: pr::persistent_reserve_in,
};

/// PERSISTENT RESERVE OUT, REGISTER
pub(super) const PR_OUT_REGISTER: Descriptor = Descriptor {
    opcode: 0x5f,
    service_action: Some(0x00),
    length: 10,
    name: "PERSISTENT RESERVE OUT, REGISTER",
    requires: Feature::Reservations,
    access: Access::Standby,
    usage: &[
        0x5f, 0, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0,
    ],
    optional: &[],
    ignored: 0x00,
    length_field: 5,
    reservations: Reserved::Manages,
    decode: pr::persistent_reserve_out,
};

/// PERSISTENT RESERVE OUT, RESERVE
pub(super) const PR_OUT_RESERVE: Descriptor = Descriptor {
    opcode: 0x5f,
    service_action: Some(0x01),
    length: 10,
    name: "PERSISTENT RESERVE OUT, RESERVE",
    requires: Feature::Reservations,
    access: Access::Standby,
    usage: &[
        0x5f, 0x01, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0,
    ],
    optional: &[],
    ignored: 0x00,
    length_field: 5,
    reservations: Reserved::Manages,
    decode: pr::persistent_reserve_out,
};

/// PERSISTENT RESERVE OUT, RELEASE
pub(super) const PR_OUT_RELEASE: Descriptor = Descriptor {
    opcode: 0x5f,
    service_action: Some(0x02),
    length: 10,
    name: "PERSISTENT RESERVE OUT, RELEASE",
    requires: Feature::Reservations,
    access: Access::Standby,
    usage: &[
        0x5f, 0x02, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0,
    ],
    optional: &[],
    ignored: 0x00,
    length_field: 5,
    reservations: Reserved::Manages,
    decode: pr::persistent_reserve_out,
};

/// PERSISTENT RESERVE OUT, CLEAR
pub(super) const PR_OUT_CLEAR: Descriptor = Descriptor {
    opcode: 0x5f,
    service_action: Some(0x03),
    length: 10,
    name: "PERSISTENT RESERVE OUT, CLEAR",
    requires: Feature::Reservations,
    access: Access::Standby,
    usage: &[
        0x5f, 0x03, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0,
    ],
    optional: &[],
    ignored: 0x00,
    length_field: 5,
    reservations: Reserved::Manages,
    decode: pr::persistent_reserve_out,
};

/// PERSISTENT RESERVE OUT, PREEMPT
pub(super) const PR_OUT_PREEMPT: Descriptor = Descriptor {
    opcode: 0x5f,
    service_action: Some(0x04),
    length: 10,
    name: "PERSISTENT RESERVE OUT, PREEMPT",
    requires: Feature::Reservations,
    access: Access::Standby,
    usage: &[
        0x5f, 0x04, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0,
    ],
    optional: &[],
    ignored: 0x00,
    length_field: 5,
    reservations: Reserved::Manages,
    decode: pr::persistent_reserve_out,
};

/// PERSISTENT RESERVE OUT, PREEMPT AND ABORT
pub(super) const PR_OUT_PREEMPT_AND_ABORT: Descriptor = Descriptor {
    opcode: 0x5f,
    service_action: Some(0x05),
    length: 10,
    name: "PERSISTENT RESERVE OUT, PREEMPT AND ABORT",
    requires: Feature::Reservations,
    access: Access::Standby,
    usage: &[
        0x5f, 0x05, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0,
    ],
    optional: &[],
    ignored: 0x00,
    length_field: 5,
    reservations: Reserved::Manages,
    decode: pr::persistent_reserve_out,
};

/// PERSISTENT RESERVE OUT, REGISTER AND IGNORE EXISTING KEY
pub(super) const PR_OUT_REGISTER_AND_IGNORE_EXISTING_KEY: Descriptor = Descriptor {
    opcode: 0x5f,
    service_action: Some(0x06),
    length: 10,
    name: "PERSISTENT RESERVE OUT, REGISTER AND IGNORE EXISTING KEY",
    requires: Feature::Reservations,
    access: Access::Standby,
    usage: &[
        0x5f, 0x06, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0,
    ],
    optional: &[],
    ignored: 0x00,
    length_field: 5,
    reservations: Reserved::Manages,
    decode: pr::persistent_reserve_out,
};

/// PERSISTENT RESERVE OUT, REGISTER AND MOVE
pub(super) const PR_OUT_REGISTER_AND_MOVE: Descriptor = Descriptor {
    opcode: 0x5f,
    service_action: Some(0x07),
    length: 10,
    name: "PERSISTENT RESERVE OUT, REGISTER AND MOVE",
    requires: Feature::Reservations,
    access: Access::Standby,
    usage: &[
        0x5f, 0x07, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0,
    ],
    optional: &[],
    ignored: 0x00,
    length_field: 5,
    reservations: Reserved::Manages,
    decode: pr::persistent_reserve_out,
};

/// PERSISTENT RESERVE OUT, REPLACE LOST RESERVATION
pub(super) const PR_OUT_REPLACE_LOST_RESERVATION: Descriptor = Descriptor {
    opcode: 0x5f,
    service_action: Some(0x08),
    length: 10,
    name: "PERSISTENT RESERVE OUT, REPLACE LOST RESERVATION",
    requires: Feature::Reservations,
    access: Access::Standby,
    usage: &[
        0x5f, 0x08, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0,
    ],
    optional: &[],
    ignored: 0x00,
    length_field: 5,
    reservations: Reserved::Manages,
    decode: pr::persistent_reserve_out,
};
