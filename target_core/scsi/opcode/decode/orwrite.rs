// SPDX-License-Identifier: GPL-2.0

//! ORWRITE, and WRITE LONG, which marks a block as unreadable (SBC-4, 5.10, 5.11, 5.50 and 5.51); READ LONG, which reads it all the same.

use super::{block::transfer_32, extent_10, extent_16, transfer, Decoded, Raw};
use crate::{
    block::{
        long::ReadLong,
        orwrite::{Operation, OrWrite, Policy},
        Block,
    },
    cdb::Command,
    lba::Lba,
    sense::Sense,
};

pub(in super::super) fn orwrite_16(raw: &Raw) -> Decoded {
    Ok(Command::Block(Block::OrWrite(OrWrite {
        transfer: transfer(raw, extent_16(raw)),
        expected: 0,
        operation: Operation::Set,
    })))
}

pub(in super::super) fn orwrite_32(raw: &Raw) -> Decoded {
    let [_, _, bmop, policy, ..] = *raw;
    let [.., e0, e1, e2, e3, n0, n1, n2, n3, _, _, _, _] = *raw;
    let operation = match bmop & 0x07 {
        0 => Operation::Set,
        1 => Operation::Clear {
            generation: u32::from_be_bytes([n0, n1, n2, n3]),
            policy: Policy::parse(policy & 0x0f).ok_or(Sense::invalid_cdb_bit(3, 3))?,
        },
        _ => return Err(Sense::invalid_cdb_bit(2, 2)),
    };
    Ok(Command::Block(Block::OrWrite(OrWrite {
        transfer: transfer_32(raw),
        expected: u32::from_be_bytes([e0, e1, e2, e3]),
        operation,
    })))
}

// Only to mark a block: the rest of the command, which wrote a block with its check data, is obsolete. COR_DIS says that nobody tries
// to correct the block, which nobody does in any case.
fn write_long(raw: &Raw, lba: Lba) -> Decoded {
    let [_, flags, ..] = *raw;
    if flags & 0x40 == 0 {
        return Err(Sense::invalid_cdb_bit(1, 6));
    }
    Ok(Command::Block(Block::WriteLong(lba)))
}

pub(in super::super) fn write_long_10(raw: &Raw) -> Decoded {
    write_long(raw, extent_10(raw).lba)
}

pub(in super::super) fn write_long_16(raw: &Raw) -> Decoded {
    write_long(raw, extent_16(raw).lba)
}

pub(in super::super) fn read_long_10(raw: &Raw) -> Decoded {
    let [_, flags, _, _, _, _, _, l0, l1, ..] = *raw;
    Ok(Command::Block(Block::ReadLong(ReadLong {
        lba: extent_10(raw).lba,
        physical: flags & 0x04 != 0,
        correct: flags & 0x02 != 0,
        length: u16::from_be_bytes([l0, l1]),
        length_at: 7,
    })))
}

pub(in super::super) fn read_long_16(raw: &Raw) -> Decoded {
    let [_, _, _, _, _, _, _, _, _, _, _, _, l0, l1, flags, ..] = *raw;
    Ok(Command::Block(Block::ReadLong(ReadLong {
        lba: extent_16(raw).lba,
        physical: flags & 0x02 != 0,
        correct: flags & 0x01 != 0,
        length: u16::from_be_bytes([l0, l1]),
        length_at: 12,
    })))
}
