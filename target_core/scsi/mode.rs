// SPDX-License-Identifier: GPL-2.0

//! Mode parameters (SPC-4, 7.5; SBC-3, 6.5).

use crate::{
    bytes::Writer,
    lba::{BlockSize, Blocks},
    sense::Sense,
};

/// Which values of a page are asked for: PC (SPC-4, table 141).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageControl {
    /// Those in force.
    Current,
    /// A mask of those that MODE SELECT can change. There are none.
    Changeable,
    /// The defaults.
    Default,
    /// Those that were saved. Nothing can be.
    Saved,
}

impl PageControl {
    /// Of the field's two bits.
    pub const fn new(bits: u8) -> Self {
        match bits & 0b11 {
            0b00 => Self::Current,
            0b01 => Self::Changeable,
            0b10 => Self::Default,
            _ => Self::Saved,
        }
    }
}

/// What a MODE SENSE asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The ten-byte CDB, and with it the longer header.
    pub ten: bool,
    /// A long block descriptor is accepted (LLBAA).
    pub long_lba: bool,
    /// No block descriptor is wanted (DBD).
    pub no_block_descriptors: bool,
    /// Which values.
    pub control: PageControl,
    /// PAGE CODE; 3Fh is all pages.
    pub page: u8,
    /// SUBPAGE CODE; FFh is all subpages.
    pub subpage: u8,
}

/// What happens to unit attentions that were reported: UA_INTLCK_CTRL (SPC-4, table 375).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interlock {
    /// They are cleared, and busy statuses make none.
    #[default]
    Clear,
    /// They stay until REQUEST SENSE; busy statuses make none.
    Keep,
    /// They stay until REQUEST SENSE, and busy statuses make one.
    Establish,
}

/// The state of a logical unit that mode parameters show.
#[derive(Clone, Copy, Debug)]
pub struct Unit {
    /// The blocks of the medium.
    pub blocks: Blocks,
    /// The length of one.
    pub block_size: BlockSize,
    /// The unit, or this initiator's way to it, does not take writes (WP).
    pub write_protected: bool,
    /// DPO and FUA are accepted (DPOFUA).
    pub dpo_fua: bool,
    /// The write cache is on (WCE).
    pub write_cache: bool,
    /// Sense data is in descriptor format (D_SENSE).
    pub descriptor_sense: bool,
    /// Commands may not be reordered but as if in order (emulate_rest_reord).
    pub restricted_reordering: bool,
    /// UA_INTLCK_CTRL
    pub interlock: Interlock,
    /// Commands that another nexus aborted answer TASK ABORTED (TAS).
    pub task_aborted_status: bool,
}

/// A page's code, and what its current values are, which are its defaults too.
type Row = (u8, fn(&Unit, &mut Writer<'_>));

/// All pages, in ascending order. None has subpages.
static PAGES: [Row; 4] = [
    (0x01, error_recovery),
    (0x08, caching),
    (0x0a, control),
    (0x1c, informational_exceptions),
];

const ALL_PAGES: u8 = 0x3f;
const ALL_SUBPAGES: u8 = 0xff;

/// Writes the answer of `unit` to a MODE SENSE.
///
/// # Errors
/// SAVING PARAMETERS NOT SUPPORTED; INVALID FIELD IN CDB for a page or subpage that there is not.
pub fn write(unit: &Unit, request: &Request, out: &mut Writer<'_>) -> Result<(), Sense> {
    if request.control == PageControl::Saved {
        return Err(Sense::SAVING_NOT_SUPPORTED);
    }
    let all = request.page == ALL_PAGES;
    if !all && !PAGES.iter().any(|(code, _)| *code == request.page) {
        return Err(Sense::invalid_cdb_bit(2, 5));
    }
    if request.subpage != 0 && request.subpage != ALL_SUBPAGES {
        return Err(Sense::invalid_cdb_byte(3));
    }
    header(unit, request, out);
    for (code, body) in PAGES
        .iter()
        .filter(|(code, _)| all || *code == request.page)
    {
        page(unit, request.control, *code, *body, out);
    }
    // MODE DATA LENGTH does not count itself.
    if request.ten {
        let length = u16::try_from(out.len().saturating_sub(2)).unwrap_or(u16::MAX);
        out.overwrite(0, &length.to_be_bytes());
    } else {
        let length = u8::try_from(out.len().saturating_sub(1)).unwrap_or(u8::MAX);
        out.overwrite(0, &[length]);
    }
    Ok(())
}

/// The mode parameter header and the block descriptor (SPC-4, 7.5.5; SBC-3, 6.5.2).
fn header(unit: &Unit, request: &Request, out: &mut Writer<'_>) {
    // DEVICE-SPECIFIC PARAMETER: WP, DPOFUA
    let specific =
        if unit.write_protected { 0x80 } else { 0 } | if unit.dpo_fua { 0x10 } else { 0 };
    // As the stock modules have it, NUMBER OF LOGICAL BLOCKS holds the address of the last block.
    let blocks = unit.blocks.0.saturating_sub(1);
    let short = u32::try_from(blocks);
    let long = request.ten && request.long_lba && short.is_err();
    let descriptor: u8 = match (request.no_block_descriptors, long) {
        (true, _) => 0,
        (false, false) => 8,
        (false, true) => 16,
    };
    if request.ten {
        out.put(&[
            0,
            0,
            0,
            specific,
            u8::from(long && descriptor != 0),
            0,
            0,
            descriptor,
        ]);
    } else {
        out.put(&[0, 0, specific, descriptor]);
    }
    match descriptor {
        8 => {
            out.be32(short.unwrap_or(u32::MAX));
            // Three bytes, after one that is reserved.
            out.be32(unit.block_size.bytes());
        }
        16 => {
            out.be64(blocks);
            out.be32(0);
            out.be32(unit.block_size.bytes());
        }
        _ => {}
    }
}

/// A page: its code, its length, and its values, or zeros for those that cannot be changed.
fn page(
    unit: &Unit,
    control: PageControl,
    code: u8,
    body: fn(&Unit, &mut Writer<'_>),
    out: &mut Writer<'_>,
) {
    let mut bytes = [0; 20];
    let mut values = Writer::new(&mut bytes);
    body(unit, &mut values);
    let length = values.len();
    out.u8(code);
    out.u8(u8::try_from(length).unwrap_or(0));
    if control == PageControl::Changeable {
        out.fill(0, length);
    } else {
        out.put(values.as_slice());
    }
}

/// Read-write error recovery (SBC-3, 6.5.8).
fn error_recovery(_: &Unit, out: &mut Writer<'_>) {
    out.fill(0, 10);
}

/// Caching (SBC-3, 6.5.5).
fn caching(unit: &Unit, out: &mut Writer<'_>) {
    // WCE
    out.u8(if unit.write_cache { 0x04 } else { 0 });
    out.fill(0, 9);
    // DRA: no read ahead
    out.u8(0x20);
    out.fill(0, 7);
}

/// Control (SPC-4, 7.5.8).
fn control(unit: &Unit, out: &mut Writer<'_>) {
    // GLTSD, D_SENSE
    out.u8(0x02 | if unit.descriptor_sense { 0x04 } else { 0 });
    // QUEUE ALGORITHM MODIFIER
    out.u8(if unit.restricted_reordering {
        0x00
    } else {
        0x10
    });
    // UA_INTLCK_CTRL
    out.u8(match unit.interlock {
        Interlock::Clear => 0x00,
        Interlock::Keep => 0x20,
        Interlock::Establish => 0x30,
    });
    // TAS
    out.u8(if unit.task_aborted_status { 0x40 } else { 0 });
    out.be16(0);
    // BUSY TIMEOUT PERIOD: unlimited
    out.be16(0xffff);
    // EXTENDED SELF-TEST COMPLETION TIME, in seconds
    out.be16(30);
}

/// Informational exceptions control (SPC-4, 7.5.11).
fn informational_exceptions(_: &Unit, out: &mut Writer<'_>) {
    out.fill(0, 10);
}
