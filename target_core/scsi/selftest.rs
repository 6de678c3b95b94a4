// SPDX-License-Identifier: GPL-2.0

//! Tests. `pages` holds the answers of the stock modules, byte by byte.

mod block;
mod cdb;
mod copy;
mod groups;
mod hostile;
mod mode;
mod opcode;
mod orwrite;
mod pages;
mod parameters;
mod pi;
mod pr;
mod primary;
mod priority;
mod properties;
mod provisioning;
mod ranges;
mod saved;
mod sense;
mod token;
mod writes;

use crate::{bytes::Writer, cdb::Features, sense::Sense};
use std::{vec, vec::Vec};

/// Bytes of a hex dump.
fn hex(dump: &str) -> Vec<u8> {
    dump.split_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect()
}

/// What `write` writes, with enough room and with every shorter buffer: the full length must stay the same, and what fits
/// must not differ.
fn written(mut write: impl FnMut(&mut Writer<'_>)) -> Vec<u8> {
    let mut buf = vec![0xa5; 4096];
    let mut out = Writer::new(&mut buf);
    write(&mut out);
    let full = out.len();
    assert_eq!(full, out.written());
    buf.truncate(full);
    for room in 0..full.min(300) {
        let mut short = vec![0xa5; room];
        let mut out = Writer::new(&mut short);
        write(&mut out);
        assert_eq!((out.len(), out.written()), (full, room));
        assert_eq!(short, buf[..room]);
    }
    buf
}

/// A unit that can do all that there is.
const ALL: Features = Features {
    dpo_fua: true,
    unmap: true,
    write_same: true,
    write_same_unmap: true,
    compare_and_write: true,
    report_opcodes: true,
    target_port_groups: true,
    set_target_port_groups: true,
    referrals: true,
    removable: true,
    sanitize: true,
    reservations: true,
    write_atomic: true,
    write_long: true,
    protection: None,
    protectable: false,
    third_party_copy: true,
    write_same_all: false,
    saves_mode: true,
};

/// INVALID FIELD IN CDB at a bit.
fn bit(byte: u16, bit: u8) -> Sense {
    Sense::invalid_cdb_bit(byte, bit)
}

/// INVALID FIELD IN CDB at a byte.
fn byte(byte: u16) -> Sense {
    Sense::invalid_cdb_byte(byte)
}
