// SPDX-License-Identifier: GPL-2.0

//! READ BUFFER and WRITE BUFFER (SPC-4, 6.18 and 6.49): a data buffer of the logical unit's, and an echo buffer. Neither has to do
//! with the medium; microcode cannot be downloaded.

use crate::{bytes::Writer, sense::Sense};

/// Bytes of the data buffer, which has BUFFER ID 00h.
pub const DATA: u32 = 65_536;
/// Bytes of the echo buffer.
pub const ECHO: u32 = 4_096;

/// Where data goes or comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The data buffer, from an offset that is not beyond its end; a write ends inside of it.
    Data {
        /// BUFFER OFFSET
        offset: u32,
    },
    /// The echo buffer, which all I_T nexuses share (EBOS is zero).
    Echo,
    /// A buffer that there is not, whose descriptor is all zeros.
    Nothing,
}

/// MODE of the commands.
const MODE_DATA: u8 = 0x02;
const MODE_DESCRIPTOR: u8 = 0x03;
const MODE_ECHO: u8 = 0x0a;
const MODE_ECHO_DESCRIPTOR: u8 = 0x0b;

/// What a READ BUFFER with this MODE, BUFFER ID and BUFFER OFFSET reads; and whether that is a descriptor.
///
/// # Errors
/// INVALID FIELD IN CDB, with a pointer.
pub fn read(mode: u8, id: u8, offset: u32) -> Result<(Target, bool), Sense> {
    match mode {
        MODE_DATA => data(id, offset, 0).map(|target| (target, false)),
        // A buffer that there is not has no descriptor to say so (SPC-4, 6.18.6).
        MODE_DESCRIPTOR if id == 0 => Ok((Target::Data { offset: 0 }, true)),
        MODE_DESCRIPTOR => Ok((Target::Nothing, true)),
        MODE_ECHO => Ok((Target::Echo, false)),
        MODE_ECHO_DESCRIPTOR => Ok((Target::Echo, true)),
        _ => Err(Sense::invalid_cdb_bit(1, 4)),
    }
}

/// Where a WRITE BUFFER with these fields writes.
///
/// # Errors
/// INVALID FIELD IN CDB, with a pointer.
pub fn write(mode: u8, id: u8, offset: u32, length: u32) -> Result<Target, Sense> {
    match mode {
        MODE_DATA => data(id, offset, length),
        MODE_ECHO if length > ECHO => Err(Sense::invalid_cdb_byte(6)),
        MODE_ECHO => Ok(Target::Echo),
        _ => Err(Sense::invalid_cdb_bit(1, 4)),
    }
}

fn data(id: u8, offset: u32, length: u32) -> Result<Target, Sense> {
    if id != 0 {
        return Err(Sense::invalid_cdb_byte(2));
    }
    if offset > DATA {
        return Err(Sense::invalid_cdb_byte(3));
    }
    if length > DATA.saturating_sub(offset) {
        return Err(Sense::invalid_cdb_byte(6));
    }
    Ok(Target::Data { offset })
}

/// Writes the descriptor of `target` (SPC-4, 6.18.6 and 6.18.8).
pub fn descriptor(target: Target, out: &mut Writer<'_>) {
    match target {
        // OFFSET BOUNDARY: any byte, 2 to the power of 0. BUFFER CAPACITY follows in three bytes.
        Target::Data { .. } => out.be32(DATA),
        // EBOS is zero. BUFFER CAPACITY
        Target::Echo => out.be32(ECHO),
        Target::Nothing => out.be32(0),
    }
}
