// SPDX-License-Identifier: GPL-2.0

//! Decoders of commands of SBC-4, clause 5.

use super::{extent_10, extent_16, transfer, Decoded, Raw, DPO, FUA};
use crate::{
    block::{
        erase::{Format, How, Sanitize},
        scattered::Scattered,
        Block, DefectRequest, StartStop,
    },
    cdb::{Command, Transfer},
    lba::{Extent, Lba},
    sense::Sense,
};

/// The fields of a CDB of twelve bytes that addresses blocks.
fn extent_12(raw: &Raw) -> Extent {
    let [_, _, a0, a1, a2, a3, n0, n1, n2, n3, ..] = *raw;
    Extent::new(
        u64::from(u32::from_be_bytes([a0, a1, a2, a3])),
        u64::from(u32::from_be_bytes([n0, n1, n2, n3])),
    )
}

/// The fields of a CDB of 32 bytes that addresses blocks.
fn extent_32(raw: &Raw) -> Extent {
    let [_, _, _, _, _, _, _, _, _, _, _, _, a0, a1, a2, a3, a4, a5, a6, a7, .., n0, n1, n2, n3] =
        *raw;
    Extent::new(
        u64::from_be_bytes([a0, a1, a2, a3, a4, a5, a6, a7]),
        u64::from(u32::from_be_bytes([n0, n1, n2, n3])),
    )
}

/// A CDB of 32 bytes with its flags where shorter ones have them, for what looks at these alone.
fn flags_32(raw: &Raw) -> Raw {
    let [_, _, _, _, _, _, _, _, _, _, flags, ..] = *raw;
    let mut short = *raw;
    let [_, byte1, ..] = &mut short;
    *byte1 = flags;
    short
}

pub(super) fn transfer_32(raw: &Raw) -> Transfer {
    let [_, _, _, _, _, _, _, _, _, _, flags, ..] = *raw;
    Transfer {
        extent: extent_32(raw),
        dpo: flags & DPO != 0,
        fua: flags & FUA != 0,
    }
}

pub(in super::super) fn read_32(raw: &Raw) -> Decoded {
    Ok(Command::Read(transfer_32(raw)))
}

pub(in super::super) fn write_32(raw: &Raw) -> Decoded {
    Ok(Command::Write(transfer_32(raw)))
}

pub(in super::super) fn verify_12(raw: &Raw) -> Decoded {
    super::verify(raw, extent_12(raw), 1)
}

pub(in super::super) fn verify_32(raw: &Raw) -> Decoded {
    super::verify(&flags_32(raw), extent_32(raw), 10)
}

pub(in super::super) fn write_same_32(raw: &Raw) -> Decoded {
    super::write_same(&flags_32(raw), extent_32(raw))
}

// Of BYTCHK's values, 10b and 11b are reserved here (SBC-4, 5.51): all blocks are sent, so no single one stands for them.
fn write_and_verify(flags: u8, extent: Extent, at: u16) -> Decoded {
    let compare = match (flags >> 1) & 0b11 {
        0b00 => false,
        0b01 => true,
        _ => return Err(Sense::invalid_cdb_bit(at, 2)),
    };
    Ok(Command::Block(Block::WriteAndVerify {
        extent,
        compare,
        dpo: flags & DPO != 0,
    }))
}

pub(in super::super) fn write_and_verify_10(raw: &Raw) -> Decoded {
    let [_, flags, ..] = *raw;
    write_and_verify(flags, extent_10(raw), 1)
}

pub(in super::super) fn write_and_verify_12(raw: &Raw) -> Decoded {
    let [_, flags, ..] = *raw;
    write_and_verify(flags, extent_12(raw), 1)
}

pub(in super::super) fn write_and_verify_16(raw: &Raw) -> Decoded {
    let [_, flags, ..] = *raw;
    write_and_verify(flags, extent_16(raw), 1)
}

pub(in super::super) fn write_and_verify_32(raw: &Raw) -> Decoded {
    let [_, _, _, _, _, _, _, _, _, _, flags, ..] = *raw;
    write_and_verify(flags, extent_32(raw), 10)
}

fn pre_fetch(raw: &Raw, extent: Extent) -> Decoded {
    let [_, flags, ..] = *raw;
    Ok(Command::Block(Block::PreFetch {
        extent,
        immediate: flags & 0x02 != 0,
    }))
}

pub(in super::super) fn pre_fetch_10(raw: &Raw) -> Decoded {
    pre_fetch(raw, extent_10(raw))
}

pub(in super::super) fn pre_fetch_16(raw: &Raw) -> Decoded {
    pre_fetch(raw, extent_16(raw))
}

pub(in super::super) fn get_lba_status_16(raw: &Raw) -> Decoded {
    // ALLOCATION LENGTH is where others have the number of blocks. REPORT TYPE is reserved in SBC-3, and 0 is all.
    let Extent { lba, blocks } = extent_16(raw);
    Ok(Command::Block(Block::GetLbaStatus {
        lba,
        scan: 0,
        allocation: u32::try_from(blocks.0).unwrap_or(u32::MAX),
    }))
}

pub(in super::super) fn get_lba_status_32(raw: &Raw) -> Decoded {
    let Extent {
        lba: Lba(lba),
        blocks,
    } = extent_32(raw);
    let [_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, s0, s1, s2, s3, ..] = *raw;
    Ok(Command::Block(Block::GetLbaStatus {
        lba: Lba(lba),
        scan: u32::from_be_bytes([s0, s1, s2, s3]),
        allocation: u32::try_from(blocks.0).unwrap_or(u32::MAX),
    }))
}

pub(in super::super) fn start_stop_unit(raw: &Raw) -> Decoded {
    let [_, immediate, _, modifier, flags, ..] = *raw;
    let (start, loej, no_flush) = (flags & 0x01 != 0, flags & 0x02 != 0, flags & 0x04 != 0);
    let modifier = modifier & 0x0f;
    let what = match (flags >> 4, modifier) {
        (0x0, 0) if loej => StartStop::Medium {
            load: start,
            no_flush,
        },
        (0x0, 0) => StartStop::Power { start, no_flush },
        // ACTIVE, LU_CONTROL have no modifiers, IDLE has three, STANDBY and FORCE_STANDBY_0 two.
        (0x1 | 0x7, 0) | (0x2, 0..=2) | (0xa, 0..=2) | (0x3 | 0xb, 0..=1) => {
            StartStop::PowerCondition
        }
        (0x0 | 0x1 | 0x2 | 0x3 | 0x7 | 0xa | 0xb, _) => return Err(Sense::invalid_cdb_bit(3, 3)),
        _ => return Err(Sense::invalid_cdb_bit(4, 7)),
    };
    Ok(Command::Block(Block::StartStop {
        what,
        immediate: immediate & 0x01 != 0,
    }))
}

pub(in super::super) fn prevent_allow(raw: &Raw) -> Decoded {
    let [_, _, _, _, prevent, ..] = *raw;
    // What is for media changers is obsolete.
    match prevent & 0b11 {
        0b00 => Ok(false),
        0b01 => Ok(true),
        _ => Err(Sense::invalid_cdb_bit(4, 1)),
    }
    .map(|prevent| Command::Block(Block::PreventRemoval { prevent }))
}

fn read_defect_data(lists: u8, at: u16, ten: bool, allocation: u32) -> Decoded {
    // Block, long block, from index, and physical sector format: an empty list is the same in each.
    if !matches!(lists & 0x07, 0b000 | 0b011 | 0b100 | 0b101) {
        return Err(Sense::invalid_cdb_bit(at, 2));
    }
    let request = DefectRequest { ten, lists };
    Ok(Command::Block(Block::ReadDefectData {
        request,
        allocation,
    }))
}

pub(in super::super) fn read_defect_data_10(raw: &Raw) -> Decoded {
    let [_, _, lists, _, _, _, _, l0, l1, ..] = *raw;
    let allocation = u32::from(u16::from_be_bytes([l0, l1]));
    read_defect_data(lists & 0x1f, 2, true, allocation)
}

pub(in super::super) fn read_defect_data_12(raw: &Raw) -> Decoded {
    let [_, lists, _, _, _, _, l0, l1, l2, l3, ..] = *raw;
    let allocation = u32::from_be_bytes([l0, l1, l2, l3]);
    read_defect_data(lists & 0x1f, 1, false, allocation)
}

pub(in super::super) fn format_unit(raw: &Raw) -> Decoded {
    let [_, flags, ..] = *raw;
    let (protection, long, data) = (flags >> 6, flags & 0x20 != 0, flags & 0x10 != 0);
    // 01b is reserved; without a parameter list there is no protection information (SBC-4, 5.4.1).
    if protection == 0b01 || protection != 0 && !data {
        return Err(Sense::invalid_cdb_bit(1, 7));
    }
    if !data && long {
        return Err(Sense::invalid_cdb_bit(1, 5));
    }
    // CMPLST says of a list of defects that it is complete; DEFECT LIST FORMAT, which form it has: there may be none.
    if !matches!(flags & 0x07, 0b000 | 0b011 | 0b100 | 0b101) {
        return Err(Sense::invalid_cdb_bit(1, 2));
    }
    Ok(Command::Block(Block::Format(Format {
        list: data.then_some(long),
        protection,
    })))
}

fn sanitize(raw: &Raw, how: How) -> Decoded {
    let [_, flags, ..] = *raw;
    Ok(Command::Block(Block::Sanitize(Sanitize {
        how,
        immediate: flags & 0x80 != 0,
        unrestricted: flags & 0x20 != 0,
    })))
}

pub(in super::super) fn sanitize_overwrite(raw: &Raw) -> Decoded {
    let [_, _, _, _, _, _, _, l0, l1, ..] = *raw;
    sanitize(raw, How::Overwrite(u16::from_be_bytes([l0, l1])))
}

pub(in super::super) fn sanitize_block_erase(raw: &Raw) -> Decoded {
    sanitize(raw, How::BlockErase)
}

pub(in super::super) fn sanitize_exit_failure_mode(raw: &Raw) -> Decoded {
    sanitize(raw, How::ExitFailureMode)
}

pub(in super::super) fn write_atomic_16(raw: &Raw) -> Decoded {
    let [_, _, a0, a1, a2, a3, a4, a5, a6, a7, _, _, n0, n1, ..] = *raw;
    let extent = Extent::new(
        u64::from_be_bytes([a0, a1, a2, a3, a4, a5, a6, a7]),
        u64::from(u16::from_be_bytes([n0, n1])),
    );
    Ok(Command::Block(Block::WriteAtomic(transfer(raw, extent))))
}

pub(in super::super) fn write_atomic_32(raw: &Raw) -> Decoded {
    Ok(Command::Block(Block::WriteAtomic(transfer_32(raw))))
}

pub(in super::super) fn write_scattered_16(raw: &Raw) -> Decoded {
    let [_, _, flags, _, o0, o1, _, _, r0, r1, n0, n1, n2, n3, ..] = *raw;
    Ok(Command::Block(Block::WriteScattered(Scattered {
        offset: u16::from_be_bytes([o0, o1]),
        ranges: u16::from_be_bytes([r0, r1]),
        blocks: u32::from_be_bytes([n0, n1, n2, n3]),
        dpo: flags & DPO != 0,
        fua: flags & FUA != 0,
        at: [4, 8, 10],
        tags: false,
    })))
}

pub(in super::super) fn write_scattered_32(raw: &Raw) -> Decoded {
    let [_, _, _, _, _, _, _, _, _, _, flags, _, o0, o1, _, _, r0, r1, .., n0, n1, n2, n3] = *raw;
    Ok(Command::Block(Block::WriteScattered(Scattered {
        offset: u16::from_be_bytes([o0, o1]),
        ranges: u16::from_be_bytes([r0, r1]),
        blocks: u32::from_be_bytes([n0, n1, n2, n3]),
        dpo: flags & DPO != 0,
        fua: flags & FUA != 0,
        at: [12, 16, 28],
        tags: true,
    })))
}
