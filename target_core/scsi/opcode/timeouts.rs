// SPDX-License-Identifier: GPL-2.0

//! Command timeouts descriptors (SPC-4, 6.35.4).

use super::Descriptor;
use crate::bytes::Writer;

/// What takes longer than other commands: the operation code, and the RECOMMENDED COMMAND TIMEOUT in seconds.
static LONG: [(u8, u32); 5] = [
    // FORMAT UNIT and SANITIZE: a day for all of the medium.
    (0x04, 86_400),
    (0x48, 86_400),
    // EXTENDED COPY: as much as one may copy, from a slow disk to a slow disk.
    (0x83, 600),
    // SYNCHRONIZE CACHE: a cache full of writes may have to go to a slow disk.
    (0x35, 60),
    (0x91, 60),
];

/// Writes the descriptor of `row`; zeros say nothing.
pub(super) fn write(row: &Descriptor, out: &mut Writer<'_>) {
    let recommended = LONG.iter().find(|(opcode, _)| *opcode == row.opcode);
    out.be16(10);
    out.be16(0);
    // NOMINAL COMMAND PROCESSING TIMEOUT
    out.be32(0);
    out.be32(recommended.map_or(0, |(_, seconds)| *seconds));
}
