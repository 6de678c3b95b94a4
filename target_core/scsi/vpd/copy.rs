// SPDX-License-Identifier: GPL-2.0

//! The third-party copy page, 8Fh (SPC-4, 7.8.17): which copies there are, and how much of each.

use crate::{
    bytes::Writer,
    copy::{
        results::{bound16, bound32, GRANULARITY},
        token, DESCRIPTORS, MAX_COPIES, MAX_CSCDS, MAX_DESCRIPTORS, MAX_IDENTIFIED, MAX_SEGMENTS,
        MAX_SEGMENT_BYTES,
    },
    inquiry::Unit,
    opcode,
};

/// EXTENDED COPY and its like, and RECEIVE COPY RESULTS and its like.
const OPCODES: [u8; 2] = [0x83, 0x84];

/// Writes the descriptors.
pub(super) fn write(unit: &Unit<'_>, out: &mut Writer<'_>) {
    let blocks = |bytes: u64| unit.block_size.blocks_in(bytes).0;
    descriptor(out, 0x0000, |out| {
        out.fill(0, 6);
        out.be16(bound16(token::MAX_RANGES));
        out.be32(token::MAX_TIMEOUT);
        out.be32(token::DEFAULT_TIMEOUT);
        out.be64(blocks(token::MAX_BYTES));
        out.be64(blocks(token::OPTIMAL_BYTES));
    });
    descriptor(out, 0x0001, supported_commands);
    descriptor(out, 0x0004, |out| {
        out.be32(0);
        out.be16(bound16(MAX_CSCDS));
        out.be16(bound16(MAX_SEGMENTS));
        out.be32(bound32(MAX_DESCRIPTORS));
        // MAXIMUM INLINE DATA LENGTH
        out.be32(0);
        out.fill(0, 12);
    });
    descriptor(out, 0x0008, |out| {
        out.u8(u8::try_from(DESCRIPTORS.len()).unwrap_or(0));
        out.put(&DESCRIPTORS);
    });
    // Supported CSCD descriptor IDs: none beside those of the list.
    descriptor(out, 0x000c, |out| out.be16(0));
    descriptor(out, 0x0106, token_features);
    descriptor(out, 0x0108, |out| {
        out.be16(0);
        let list = out.len();
        out.be16(0);
        // By POPULATE TOKEN (TOKEN_OUT), and by WRITE USING TOKEN (TOKEN_IN); this is the one that is preferred.
        for (kind, flags, preference) in [
            (token::ACCESS_UPON_REFERENCE, 0x03, 0xffff),
            (token::BLOCK_ZERO, 0x02, 0),
        ] {
            let start = out.len();
            out.be32(kind);
            out.u8(flags);
            out.u8(0);
            out.be16(preference);
            out.zeros_to(start.saturating_add(64));
        }
        let length = out.len().saturating_sub(list).saturating_sub(2);
        out.overwrite(list, &bound16(length).to_be_bytes());
    });
    descriptor(out, 0x8001, |out| {
        out.be32(MAX_COPIES);
        out.be32(bound32(MAX_IDENTIFIED));
        out.be32(MAX_SEGMENT_BYTES);
        out.u8(GRANULARITY);
        out.fill(0, 19);
    });
}

/// ROD token features: tokens are used at this target alone, and live as long as they are used in time.
fn token_features(out: &mut Writer<'_>) {
    out.fill(0, 12);
    // MINIMUM and MAXIMUM TOKEN LIFETIME, MAXIMUM TOKEN INACTIVITY TIMEOUT
    out.be32(0);
    out.be32(token::MAX_TIMEOUT);
    out.be32(token::MAX_TIMEOUT);
    out.fill(0, 18);
    // ROD DEVICE TYPE SPECIFIC FEATURES DESCRIPTORS LENGTH
    out.be16(0);
}

/// What the table of commands has, so that nothing else is told.
fn supported_commands(out: &mut Writer<'_>) {
    let list = out.len();
    out.u8(0);
    for code in OPCODES {
        out.u8(code);
        let count = out.len();
        out.u8(0);
        for action in opcode::service_actions(code) {
            out.u8(u8::try_from(action).unwrap_or(0));
        }
        let actions = out.len().saturating_sub(count).saturating_sub(1);
        out.overwrite(count, &[u8::try_from(actions).unwrap_or(0)]);
    }
    let length = out.len().saturating_sub(list).saturating_sub(1);
    out.overwrite(list, &[u8::try_from(length).unwrap_or(0)]);
}

/// A third-party copy descriptor: its type, its length, which is a multiple of four, and what `body` writes.
fn descriptor(out: &mut Writer<'_>, kind: u16, body: impl FnOnce(&mut Writer<'_>)) {
    out.be16(kind);
    let length = out.len();
    out.be16(0);
    body(out);
    let used = out.len().saturating_sub(length).saturating_sub(2);
    out.fill(0, used.wrapping_neg() & 3);
    let used = out.len().saturating_sub(length).saturating_sub(2);
    out.overwrite(length, &bound16(used).to_be_bytes());
}
