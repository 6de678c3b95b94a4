// SPDX-License-Identifier: GPL-2.0

//! Vital product data pages (SPC-4, 7.8; SBC-3, 6.6).

mod copy;
mod identification;

use crate::{
    bytes::Writer,
    inquiry::{peripheral, Identity, Unit},
    sense::Sense,
};

/// Logical block provisioning (SBC-3, 4.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Provisioning {
    /// UNMAP is supported (emulate_tpu).
    pub unmap: bool,
    /// WRITE SAME with UNMAP is supported (emulate_tpws).
    pub write_same: bool,
    /// Unmapped blocks read as zeros (unmap_zeroes_data).
    pub zeroes: bool,
    /// A threshold set is of 2 to this power blocks; 0: there are no thresholds.
    pub threshold_exponent: u8,
}

impl Provisioning {
    /// The unit is thin provisioned.
    pub const fn is_thin(&self) -> bool {
        self.unmap || self.write_same
    }

    /// Unmapped blocks read as zeros (LBPRZ).
    pub const fn reads_zeros(&self) -> bool {
        self.is_thin() && self.zeroes
    }
}

/// What a unit accepts at once, in blocks; as its block limits page reports, and as it is enforced.
///
/// [`crate::cdb::Decoded::check`] and [`crate::unmap::List::parse`] enforce it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockLimits {
    /// MAXIMUM COMPARE AND WRITE LENGTH; 0: the command is not supported.
    pub max_compare_and_write: u8,
    /// OPTIMAL TRANSFER LENGTH GRANULARITY; stock: 1 where the back end knows no better.
    pub optimal_granularity: u16,
    /// MAXIMUM TRANSFER LENGTH; 0: no limit.
    pub max_transfer: u32,
    /// OPTIMAL TRANSFER LENGTH
    pub optimal_transfer: u32,
    /// MAXIMUM UNMAP LBA COUNT: in all block descriptors of a command together.
    pub max_unmap_blocks: u32,
    /// MAXIMUM UNMAP BLOCK DESCRIPTOR COUNT
    pub max_unmap_descriptors: u32,
    /// OPTIMAL UNMAP GRANULARITY
    pub unmap_granularity: u32,
    /// UNMAP GRANULARITY ALIGNMENT, 31 bits
    pub unmap_alignment: u32,
    /// MAXIMUM WRITE SAME LENGTH; 0: no limit.
    pub max_write_same: u64,
    /// WRITE SAME of no blocks is of all to the end of the medium: WSNZ is zero.
    pub write_same_all: bool,
    /// MAXIMUM ATOMIC TRANSFER LENGTH; 0: none. There are no boundaries in an atomic write.
    pub max_atomic: u32,
    /// ATOMIC ALIGNMENT
    pub atomic_alignment: u32,
    /// ATOMIC TRANSFER LENGTH GRANULARITY
    pub atomic_granularity: u32,
}

/// A page's code, and what writes it from byte 4 on.
type Row = (u8, fn(&Unit<'_>, &mut Writer<'_>));

/// All pages, in the order in which page 00h lists them.
static PAGES: [Row; 12] = [
    (0x00, supported),
    (0x80, serial_number),
    (0x83, identification::write),
    (0x86, extended_inquiry),
    (0x87, mode_page_policy),
    (0x88, identification::ports),
    (0x8f, copy::write),
    (0xb0, block_limits),
    (0xb1, characteristics),
    (0xb2, provisioning),
    (0xb3, referrals),
    (0xb7, block_limits_extension),
];

pub use identification::{is_named, naa_designator};

/// Writes the page `code` of `unit`.
///
/// # Errors
/// INVALID FIELD IN CDB, pointing to PAGE CODE, for a page that there is not.
pub(crate) fn write(unit: &Unit<'_>, code: u8, out: &mut Writer<'_>) -> Result<(), Sense> {
    let page = PAGES.iter().find(|(page, _)| *page == code);
    let Some((_, body)) = page.filter(|(code, _)| has(unit, *code)) else {
        return Err(Sense::invalid_cdb_byte(2));
    };
    out.put(&[peripheral(unit), code, 0, 0]);
    body(unit, out);
    let length = u16::try_from(out.len().saturating_sub(4)).unwrap_or(u16::MAX);
    out.overwrite(2, &length.to_be_bytes());
    Ok(())
}

/// The unit has the page.
fn has(unit: &Unit<'_>, code: u8) -> bool {
    code != 0x8f || unit.third_party_copy
}

/// Supported VPD pages (SPC-4, 7.8.14). Without a serial number nothing in pages 80h and 83h tells the unit from others,
/// and they are not listed, so that no initiator takes it for another; the limits still are, since they are enforced.
fn supported(unit: &Unit<'_>, out: &mut Writer<'_>) {
    let identified = unit.identity.serial.is_some();
    for (code, _) in &PAGES {
        if has(unit, *code) && (identified || !matches!(code, 0x80 | 0x83)) {
            out.u8(*code);
        }
    }
}

/// The part of the serial number that fits page 80h.
fn serial<'a>(identity: &Identity<'a>) -> Option<&'a [u8]> {
    let serial = identity.serial?;
    Some(serial.get(..253).unwrap_or(serial))
}

/// Unit serial number (SPC-4, 7.8.15), with a terminator.
fn serial_number(unit: &Unit<'_>, out: &mut Writer<'_>) {
    if let Some(serial) = serial(&unit.identity) {
        out.put(serial);
        out.u8(0);
    }
}

/// Extended INQUIRY data (SPC-4, 7.8.7).
fn extended_inquiry(unit: &Unit<'_>, out: &mut Writer<'_>) {
    // SPT; GRD_CHK, APP_CHK, REF_CHK
    out.u8(if unit.protect {
        ((unit.protection_types & 0x07) << 3) | if unit.protection_checks { 0x07 } else { 0 }
    } else {
        0
    });
    // UASK_SUP, GROUP_SUP, HEADSUP, ORDSUP, SIMPSUP
    out.u8(0x37);
    // WU_SUP; V_SUP: the cache is volatile, where there is one.
    out.u8(if unit.write_long { 0x08 } else { 0 } | u8::from(unit.write_cache));
    // NO_PI_CHK
    out.u8(if unit.protect { 0x20 } else { 0 });
    // R_SUP, RTD_SUP
    out.u8(0x08 | if unit.referrals.is_some() { 0x10 } else { 0 });
    out.zeros_to(64);
}

/// Mode page policy (SPC-4, 7.8.9): all pages and subpages are shared by all I_T nexuses.
fn mode_page_policy(_: &Unit<'_>, out: &mut Writer<'_>) {
    out.put(&[0x3f, 0xff, 0, 0]);
}

/// Block limits (SBC-3, 6.6.3). As short as the stock modules have it, where nothing is thin.
fn block_limits(unit: &Unit<'_>, out: &mut Writer<'_>) {
    let limits = &unit.limits;
    // WSNZ
    out.u8(u8::from(!limits.write_same_all));
    out.u8(limits.max_compare_and_write);
    out.be16(limits.optimal_granularity);
    out.be32(limits.max_transfer);
    out.be32(limits.optimal_transfer);
    if !unit.provisioning.is_thin() && limits.max_atomic == 0 {
        return;
    }
    // MAXIMUM PREFETCH LENGTH
    out.be32(0);
    out.be32(limits.max_unmap_blocks);
    out.be32(limits.max_unmap_descriptors);
    out.be32(limits.unmap_granularity);
    // With UGAVALID
    out.be32(match limits.unmap_alignment {
        0 => 0,
        alignment => alignment | 0x8000_0000,
    });
    out.be64(limits.max_write_same);
    out.be32(limits.max_atomic);
    out.be32(limits.atomic_alignment);
    out.be32(limits.atomic_granularity);
    // The whole page: Linux believes the limits of unmapping only in one of this length.
    out.zeros_to(64);
}

/// Block device characteristics (SBC-3, 6.6.2).
fn characteristics(unit: &Unit<'_>, out: &mut Writer<'_>) {
    // MEDIUM ROTATION RATE: 0001h does not rotate, 0000h does not tell.
    out.be16(u16::from(unit.non_rotating));
    out.zeros_to(7);
    // WABEREQ: after a block erase, reads succeed.
    out.u8(if unit.block_erase { 0x40 } else { 0 });
    out.zeros_to(64);
}

/// Logical block provisioning (SBC-3, 6.6.4).
fn provisioning(unit: &Unit<'_>, out: &mut Writer<'_>) {
    let thin = &unit.provisioning;
    out.u8(thin.threshold_exponent);
    // LBPU; LBPWS, LBPWS10; LBPRZ
    out.u8(if thin.unmap { 0x80 } else { 0 }
        | if thin.write_same { 0x60 } else { 0 }
        | if thin.reads_zeros() { 0x04 } else { 0 });
    // PROVISIONING TYPE: 010b is thin provisioned. The stock modules say 000b, not reported, of each; so does this of a unit without
    // thresholds.
    let known = thin.is_thin() && thin.threshold_exponent != 0;
    out.u8(if known { 0b010 } else { 0 });
    out.u8(0);
}

/// Referrals (SBC-3, 6.6.5): USER DATA SEGMENT SIZE and MULTIPLIER.
fn referrals(unit: &Unit<'_>, out: &mut Writer<'_>) {
    let (size, multiplier) = unit.referrals.unwrap_or((0, 0));
    out.be32(0);
    out.be32(size);
    out.be32(multiplier);
    out.zeros_to(16);
}

/// Block limits extension (SBC-4, 6.6.5). There are no streams; WRITE SCATTERED is limited as a whole alone.
fn block_limits_extension(unit: &Unit<'_>, out: &mut Writer<'_>) {
    out.zeros_to(24);
    // MAXIMUM SCATTERED TRANSFER LENGTH
    out.be32(unit.limits.max_transfer);
    out.zeros_to(64);
}
