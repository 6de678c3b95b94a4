// SPDX-License-Identifier: GPL-2.0

//! Decoders of commands of SBC-4, clause 5, that address blocks.

use super::{Decoded, Raw, DPO, FUA};
use crate::{
    cdb::{Command, Transfer},
    lba::Extent,
};

/// The fields of a CDB of 32 bytes that addresses blocks.
fn extent_32(raw: &Raw) -> Extent {
    let [_, _, _, _, _, _, _, _, _, _, _, _, a0, a1, a2, a3, a4, a5, a6, a7, .., n0, n1, n2, n3] =
        *raw;
    Extent::new(
        u64::from_be_bytes([a0, a1, a2, a3, a4, a5, a6, a7]),
        u64::from(u32::from_be_bytes([n0, n1, n2, n3])),
    )
}

fn transfer_32(raw: &Raw) -> Transfer {
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
