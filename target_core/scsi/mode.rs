// SPDX-License-Identifier: GPL-2.0

//! Mode parameters (SPC-4, 7.5; SBC-3, 6.5).

mod pages;
pub mod saved;
mod select;

use crate::{
    bytes::Writer,
    groups::Groups,
    lba::{BlockSize, Blocks},
    pi,
    priority::Priority,
    provisioning::Thresholds,
    sense::Sense,
};
use pages::{Page, PAGES};
pub use select::{select, MAX_LIST};

/// Which values of a page are asked for: PC (SPC-4, table 141).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageControl {
    /// Those in force.
    Current,
    /// A mask of those that MODE SELECT can change.
    Changeable,
    /// The defaults.
    Default,
    /// Those that were saved; until then, the defaults.
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

/// What a command that ends with CHECK CONDITION does to others: QERR (SPC-4, table 373).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorPolicy {
    /// They go on.
    #[default]
    Continue,
    /// All others in the task set are aborted.
    AbortAll,
    /// The others of the same I_T nexus are aborted.
    AbortOwn,
}

/// What the control extension page (SPC-4, 7.5.9) can be changed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension {
    /// The target's clock initializes the timestamp (TCMOS).
    pub clock: bool,
    /// What SET TIMESTAMP set goes before the clock (SCSIP).
    pub set_first: bool,
    /// INITIAL COMMAND PRIORITY
    pub priority: Priority,
    /// MAXIMUM SENSE DATA LENGTH; 0 is no limit.
    pub max_sense: u8,
}

impl Extension {
    /// As it is by default.
    pub const DEFAULT: Self = Self {
        clock: true,
        set_first: true,
        priority: Priority::new(0),
        max_sense: 0,
    };

    /// The timestamp is the clock's whatever SET TIMESTAMP may want: it is refused (SPC-4, 6.46).
    pub const fn refuses_timestamps(&self) -> bool {
        self.clock && !self.set_first
    }
}

impl Default for Extension {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The values that MODE SELECT can change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Values {
    /// The write cache is on (WCE).
    pub write_cache: bool,
    /// Sense data is in descriptor format (D_SENSE).
    pub descriptor_sense: bool,
    /// QERR
    pub errors: ErrorPolicy,
    /// UA_INTLCK_CTRL
    pub interlock: Interlock,
    /// The medium takes no writes (SWP).
    pub software_write_protect: bool,
    /// Commands that another nexus aborted answer TASK ABORTED (TAS).
    pub task_aborted_status: bool,
    /// REQUEST SENSE tells of informational exceptions (MRIE is 6h, not 0h).
    pub report_exceptions: bool,
    /// There is an informational exception that is none (TEST).
    pub exception_test: bool,
    /// Protection information is not checked by commands that transfer none (DPICZ).
    pub unchecked_if_zero: bool,
    /// What is told of logical block provisioning.
    pub thresholds: Thresholds,
    /// The control extension page.
    pub extension: Extension,
    /// Application tags of protection information.
    pub application: pi::ApplicationTags,
    /// The groups of which information is collected.
    pub groups: Groups,
}

/// The state of a logical unit that mode parameters show.
#[derive(Clone, Copy, Debug)]
pub struct Unit {
    /// The blocks of the medium.
    pub blocks: Blocks,
    /// The length of one.
    pub block_size: BlockSize,
    /// The unit, or this initiator's way to it, does not take writes, whatever SWP says (WP).
    pub write_protected: bool,
    /// DPO and FUA are accepted (DPOFUA).
    pub dpo_fua: bool,
    /// Commands may not be reordered but as if in order (emulate_rest_reord).
    pub restricted_reordering: bool,
    /// The protection information that there is.
    pub protection: Option<pi::Type>,
    /// Access states change by themselves (IALUAE).
    pub implicit_alua: bool,
    /// This initiator may change something. One that may only read changes nothing that others see.
    pub may_change: bool,
    /// MODE SELECT can switch the write cache.
    pub switches_write_cache: bool,
    /// It is known what blocks are mapped to: the logical block provisioning page is there.
    pub knows_resources: bool,
    /// The values in force.
    pub current: Values,
    /// The default values.
    pub default: Values,
    /// The saved values, or the default ones where none are; `None` where nothing can be saved.
    pub saved: Option<Values>,
}

const ALL_PAGES: u8 = 0x3f;
const ALL_SUBPAGES: u8 = 0xff;

/// Writes the answer of `unit` to a MODE SENSE.
///
/// # Errors
/// SAVING PARAMETERS NOT SUPPORTED where nothing can be saved; INVALID FIELD IN CDB for a page or subpage that there is not.
pub fn write(unit: &Unit, request: &Request, out: &mut Writer<'_>) -> Result<(), Sense> {
    let saved = match (request.control, &unit.saved) {
        (PageControl::Saved, None) => return Err(Sense::SAVING_NOT_SUPPORTED),
        (_, saved) => saved.as_ref().unwrap_or(&unit.default),
    };
    let of_code = |page: &&Page| request.page == ALL_PAGES || page.code == request.page;
    let of_subpage =
        |page: &&Page| request.subpage == ALL_SUBPAGES || page.subpage == request.subpage;
    let there = |page: &&Page| page.is_there(unit) && page.fits(request.ten);
    let pages = || PAGES.iter().filter(there);
    if !pages().any(|page| of_code(&page)) {
        return Err(Sense::invalid_cdb_bit(2, 5));
    }
    // Page 3Fh has the subpages 00h and FFh only (SPC-4, table 151).
    let named = request.page == ALL_PAGES && !matches!(request.subpage, 0 | ALL_SUBPAGES);
    if named || !pages().any(|page| of_code(&page) && of_subpage(&page)) {
        return Err(Sense::invalid_cdb_byte(3));
    }
    header(unit, request, out);
    for page in pages().filter(of_code).filter(of_subpage) {
        page.header(unit.saved.is_some(), out);
        match request.control {
            PageControl::Changeable => page.mask(unit, out),
            PageControl::Default => (page.values)(unit, &unit.default, out),
            PageControl::Saved => (page.values)(unit, saved, out),
            PageControl::Current => (page.values)(unit, &unit.current, out),
        }
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
    // DEVICE-SPECIFIC PARAMETER
    let protected = unit.write_protected || unit.current.software_write_protect;
    let specific = if protected { WP } else { 0 } | if unit.dpo_fua { DPOFUA } else { 0 };
    let blocks = unit.blocks.0;
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

/// Bits of the DEVICE-SPECIFIC PARAMETER (SBC-3, 6.5.1).
const WP: u8 = 0x80;
const DPOFUA: u8 = 0x10;
