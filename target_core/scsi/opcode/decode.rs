// SPDX-License-Identifier: GPL-2.0

//! The decoders of the table's rows (SPC-4, clause 6; SBC-3, clause 5).
//!
//! A decoder sees CDBs of its own row only, whose bits were checked; it refuses values that are reserved.

pub(super) mod alua;
pub(super) mod block;
pub(super) mod copy;
pub(super) mod orwrite;
pub(super) mod pr;
pub(super) mod primary;

use super::{Raw, Reporting, Request};
use crate::{
    cdb::{Command, Compare, Transfer},
    inquiry::Page,
    lba::Extent,
    luns::Select,
    mode::{self, PageControl},
    sense::Sense,
};

type Decoded = Result<Command, Sense>;

const DPO: u8 = 0x10;
const FUA: u8 = 0x08;

pub(super) fn test_unit_ready(_: &Raw) -> Decoded {
    Ok(Command::TestUnitReady)
}

pub(super) fn request_sense(raw: &Raw) -> Decoded {
    let [_, flags, _, _, length, ..] = *raw;
    Ok(Command::RequestSense {
        descriptor: flags & 0x01 != 0,
        allocation: u32::from(length),
    })
}

pub(super) fn inquiry(raw: &Raw) -> Decoded {
    let [_, flags, page, l0, l1, ..] = *raw;
    let page = match (flags & 0x01 != 0, page) {
        (true, page) => Page::Vpd(page),
        (false, 0) => Page::Standard,
        // A page of the standard data there is not.
        (false, _) => return Err(Sense::invalid_cdb_byte(2)),
    };
    Ok(Command::Inquiry {
        page,
        allocation: u32::from(u16::from_be_bytes([l0, l1])),
    })
}

fn mode_request(flags: u8, page: u8, subpage: u8, ten: bool) -> mode::Request {
    mode::Request {
        ten,
        long_lba: ten && flags & 0x10 != 0,
        no_block_descriptors: flags & 0x08 != 0,
        control: PageControl::new(page >> 6),
        page: page & 0x3f,
        subpage,
    }
}

pub(super) fn mode_sense_6(raw: &Raw) -> Decoded {
    let [_, flags, page, subpage, length, ..] = *raw;
    let request = mode_request(flags, page, subpage, false);
    Ok(Command::ModeSense {
        request,
        allocation: u32::from(length),
    })
}

pub(super) fn mode_sense_10(raw: &Raw) -> Decoded {
    let [_, flags, page, subpage, _, _, _, l0, l1, ..] = *raw;
    let request = mode_request(flags, page, subpage, true);
    Ok(Command::ModeSense {
        request,
        allocation: u32::from(u16::from_be_bytes([l0, l1])),
    })
}

pub(super) fn read_capacity_10(raw: &Raw) -> Decoded {
    let [_, _, a0, a1, a2, a3, _, _, flags, ..] = *raw;
    // LOGICAL BLOCK ADDRESS and PMI are obsolete since SBC-3; before, an address wanted PMI, and tests still look for it.
    if flags & 0x01 == 0 && u32::from_be_bytes([a0, a1, a2, a3]) != 0 {
        return Err(Sense::invalid_cdb_byte(2));
    }
    Ok(Command::ReadCapacity10)
}

pub(super) fn read_capacity_16(raw: &Raw) -> Decoded {
    let [_, _, _, _, _, _, _, _, _, _, l0, l1, l2, l3, ..] = *raw;
    Ok(Command::ReadCapacity16 {
        allocation: u32::from_be_bytes([l0, l1, l2, l3]),
    })
}

pub(super) fn report_luns(raw: &Raw) -> Decoded {
    let [_, _, select, _, _, _, l0, l1, l2, l3, ..] = *raw;
    let select = Select::new(select).ok_or(Sense::invalid_cdb_byte(2))?;
    Ok(Command::ReportLuns {
        select,
        allocation: u32::from_be_bytes([l0, l1, l2, l3]),
    })
}

pub(super) fn report_supported_operation_codes(raw: &Raw) -> Decoded {
    let [_, _, options, opcode, a0, a1, l0, l1, l2, l3, ..] = *raw;
    let action = u16::from_be_bytes([a0, a1]);
    let reporting = match options & 0x07 {
        0b000 => Reporting::All,
        0b001 => Reporting::Opcode(opcode),
        0b010 => Reporting::ServiceAction(opcode, action),
        0b011 => Reporting::Either(opcode, action),
        _ => return Err(Sense::invalid_cdb_bit(2, 2)),
    };
    Ok(Command::ReportSupportedOperationCodes {
        request: Request {
            reporting,
            timeouts: options & 0x80 != 0,
        },
        allocation: u32::from_be_bytes([l0, l1, l2, l3]),
    })
}

/// The fields of a ten-byte CDB that addresses blocks.
fn extent_10(raw: &Raw) -> Extent {
    let [_, _, a0, a1, a2, a3, _, n0, n1, ..] = *raw;
    Extent::new(
        u64::from(u32::from_be_bytes([a0, a1, a2, a3])),
        u64::from(u16::from_be_bytes([n0, n1])),
    )
}

/// The fields of a sixteen-byte CDB that addresses blocks.
fn extent_16(raw: &Raw) -> Extent {
    let [_, _, a0, a1, a2, a3, a4, a5, a6, a7, n0, n1, n2, n3, ..] = *raw;
    Extent::new(
        u64::from_be_bytes([a0, a1, a2, a3, a4, a5, a6, a7]),
        u64::from(u32::from_be_bytes([n0, n1, n2, n3])),
    )
}

fn transfer_6(raw: &Raw) -> Transfer {
    let [_, a0, a1, a2, blocks, ..] = *raw;
    // Zero means 256 in this one (SBC-3, 5.7).
    let blocks = if blocks == 0 { 256 } else { u64::from(blocks) };
    let lba = u64::from(u32::from_be_bytes([0, a0 & 0x1f, a1, a2]));
    Transfer {
        extent: Extent::new(lba, blocks),
        dpo: false,
        fua: false,
    }
}

fn transfer(raw: &Raw, extent: Extent) -> Transfer {
    let [_, flags, ..] = *raw;
    Transfer {
        extent,
        dpo: flags & DPO != 0,
        fua: flags & FUA != 0,
    }
}

fn transfer_12(raw: &Raw) -> Transfer {
    let [_, _, a0, a1, a2, a3, n0, n1, n2, n3, ..] = *raw;
    let extent = Extent::new(
        u64::from(u32::from_be_bytes([a0, a1, a2, a3])),
        u64::from(u32::from_be_bytes([n0, n1, n2, n3])),
    );
    transfer(raw, extent)
}

pub(super) fn read_6(raw: &Raw) -> Decoded {
    Ok(Command::Read(transfer_6(raw)))
}

pub(super) fn read_10(raw: &Raw) -> Decoded {
    Ok(Command::Read(transfer(raw, extent_10(raw))))
}

pub(super) fn read_12(raw: &Raw) -> Decoded {
    Ok(Command::Read(transfer_12(raw)))
}

pub(super) fn read_16(raw: &Raw) -> Decoded {
    Ok(Command::Read(transfer(raw, extent_16(raw))))
}

pub(super) fn write_6(raw: &Raw) -> Decoded {
    Ok(Command::Write(transfer_6(raw)))
}

pub(super) fn write_10(raw: &Raw) -> Decoded {
    Ok(Command::Write(transfer(raw, extent_10(raw))))
}

pub(super) fn write_12(raw: &Raw) -> Decoded {
    Ok(Command::Write(transfer_12(raw)))
}

pub(super) fn write_16(raw: &Raw) -> Decoded {
    Ok(Command::Write(transfer(raw, extent_16(raw))))
}

// `at` is the byte of the flags, for who looks for what is wrong.
fn verify(raw: &Raw, extent: Extent, at: u16) -> Decoded {
    let [_, flags, ..] = *raw;
    let compare = match (flags >> 1) & 0b11 {
        0b00 => Compare::Nothing,
        0b01 => Compare::Data,
        0b11 => Compare::OneBlock,
        _ => return Err(Sense::invalid_cdb_bit(at, 2)),
    };
    Ok(Command::Verify {
        extent,
        compare,
        dpo: flags & DPO != 0,
    })
}

pub(super) fn verify_10(raw: &Raw) -> Decoded {
    verify(raw, extent_10(raw), 1)
}

pub(super) fn verify_16(raw: &Raw) -> Decoded {
    verify(raw, extent_16(raw), 1)
}

fn synchronize_cache(raw: &Raw, extent: Extent) -> Decoded {
    let [_, flags, ..] = *raw;
    Ok(Command::SynchronizeCache {
        extent,
        immediate: flags & 0x02 != 0,
    })
}

pub(super) fn synchronize_cache_10(raw: &Raw) -> Decoded {
    synchronize_cache(raw, extent_10(raw))
}

pub(super) fn synchronize_cache_16(raw: &Raw) -> Decoded {
    synchronize_cache(raw, extent_16(raw))
}

pub(super) fn unmap(raw: &Raw) -> Decoded {
    let [_, _, _, _, _, _, _, l0, l1, ..] = *raw;
    Ok(Command::Unmap {
        list_length: u16::from_be_bytes([l0, l1]),
    })
}

fn write_same(raw: &Raw, extent: Extent) -> Decoded {
    let [_, flags, ..] = *raw;
    Ok(Command::WriteSame {
        extent,
        unmap: flags & 0x08 != 0,
        no_data: flags & 0x01 != 0,
    })
}

pub(super) fn write_same_10(raw: &Raw) -> Decoded {
    write_same(raw, extent_10(raw))
}

pub(super) fn write_same_16(raw: &Raw) -> Decoded {
    write_same(raw, extent_16(raw))
}

pub(super) fn compare_and_write(raw: &Raw) -> Decoded {
    let [_, _, a0, a1, a2, a3, a4, a5, a6, a7, _, _, _, blocks, ..] = *raw;
    let lba = u64::from_be_bytes([a0, a1, a2, a3, a4, a5, a6, a7]);
    Ok(Command::CompareAndWrite(transfer(
        raw,
        Extent::new(lba, u64::from(blocks)),
    )))
}
