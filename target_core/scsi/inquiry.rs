// SPDX-License-Identifier: GPL-2.0

//! INQUIRY: the standard data, and what it and the vital product data pages are made of (SPC-4, 6.6).
//!
//! The bytes are those of the stock modules for the same configuration: an initiator knows its disks by them.

use crate::{
    bytes::Writer,
    lba::BlockSize,
    sense::Sense,
    vpd::{self, BlockLimits},
};

/// What an INQUIRY asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// The standard INQUIRY data.
    Standard,
    /// The vital product data page with this code.
    Vpd(u8),
}

/// PROTOCOL IDENTIFIER (SPC-4, table 445). The discriminant is the one on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Protocol {
    /// Fibre Channel.
    Fcp = 0x0,
    /// SBP-3, IEEE 1394.
    Sbp = 0x3,
    /// SRP, RDMA.
    Srp = 0x4,
    /// iSCSI.
    Iscsi = 0x5,
    /// SAS; the loopback and vhost fabrics say so as well by default.
    Sas = 0x6,
    /// USB Attached SCSI.
    Uas = 0x9,
}

impl Protocol {
    /// The VERSION DESCRIPTOR of the transport's standard; 0 where the stock modules know none.
    const fn version_descriptor(self) -> u16 {
        match self {
            Self::Fcp => 0x0a40,
            Self::Sbp => 0x0980,
            Self::Srp => 0x0940,
            Self::Iscsi => 0x0960,
            Self::Sas => 0x0c60,
            Self::Uas => 0,
        }
    }
}

/// Who a logical unit is, whatever the port that it is reached through. Texts are ASCII without a terminator.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// T10 VENDOR IDENTIFICATION; 8 bytes of it are used.
    pub vendor: &'a [u8],
    /// PRODUCT IDENTIFICATION; 16 bytes of it are used.
    pub product: &'a [u8],
    /// PRODUCT REVISION LEVEL; 4 bytes of it are used.
    pub revision: &'a [u8],
    /// The unit serial number, once it was set; at most 253 bytes are used.
    pub serial: Option<&'a [u8]>,
    /// IEEE COMPANY_ID for the NAA designator, 24 bits; stock: 001405h.
    pub company_id: u32,
    /// The identifier of the logical unit group, where the unit is in one.
    pub lu_group: Option<u16>,
}

/// The target port that a command came through.
#[derive(Clone, Copy, Debug)]
pub struct Port<'a> {
    /// The transport.
    pub protocol: Protocol,
    /// RELATIVE TARGET PORT IDENTIFIER
    pub relative_id: u16,
    /// The identifier of the LUN's target port group, where it is in one.
    pub group: Option<u16>,
    /// The target's name: an IQN, or `naa.…`.
    pub target: &'a [u8],
    /// The target portal group tag.
    pub tag: u16,
}

/// Access through several ports: TPGS (SPC-4, table 166).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alua {
    /// The unit changes access states by itself.
    pub implicit: bool,
    /// SET TARGET PORT GROUPS changes them.
    pub explicit: bool,
}

/// All that INQUIRY tells of a logical unit through a port.
#[derive(Clone, Copy, Debug)]
pub struct Unit<'a> {
    /// Who it is.
    pub identity: Identity<'a>,
    /// Through which port.
    pub port: Port<'a>,
    /// All ports that lead to the unit, in ascending order of their relative identifiers; needed by page 88h alone.
    pub ports: &'a [Port<'a>],
    /// The access type of the LUN's target port group.
    pub alua: Alua,
    /// Third-party copy (emulate_3pc).
    pub third_party_copy: bool,
    /// More than one LUN, of any port, leads to the unit.
    pub multi_port: bool,
    /// The write cache is on.
    pub write_cache: bool,
    /// SANITIZE can erase blocks.
    pub block_erase: bool,
    /// WRITE LONG is supported.
    pub write_long: bool,
    /// The port is in the unavailable asymmetric access state.
    pub unavailable: bool,
    /// The medium can be removed.
    pub removable: bool,
    /// It has protection information, or can be formatted with it.
    pub protect: bool,
    /// With which types: SPT.
    pub protection_types: u8,
    /// It is checked when blocks are read: GRD_CHK, APP_CHK and REF_CHK.
    pub protection_checks: bool,
    /// The medium does not rotate (is_nonrot).
    pub non_rotating: bool,
    /// Bytes of a logical block.
    pub block_size: BlockSize,
    /// What is unmapped, and how.
    pub provisioning: vpd::Provisioning,
    /// The block limits page.
    pub limits: BlockLimits,
    /// Size and multiplier of the user data segments, where there are any.
    pub referrals: Option<(u32, u32)>,
}

/// PERIPHERAL QUALIFIER and PERIPHERAL DEVICE TYPE: a direct access block device, which cannot be accessed now through a port in the
/// unavailable state (SPC-4, 5.15.2.4.5 and 6.6.2).
pub(crate) fn peripheral(unit: &Unit<'_>) -> u8 {
    if unit.unavailable {
        0x20
    } else {
        0x00
    }
}

/// Writes the answer of `unit` to an INQUIRY for `page`.
///
/// # Errors
/// INVALID FIELD IN CDB for a page that there is not.
pub fn write(unit: &Unit<'_>, page: Page, out: &mut Writer<'_>) -> Result<(), Sense> {
    match page {
        Page::Standard => {
            standard(unit, out);
            Ok(())
        }
        Page::Vpd(code) => vpd::write(unit, code, out),
    }
}

/// Standard INQUIRY data (SPC-4, 6.6.2): 96 bytes.
fn standard(unit: &Unit<'_>, out: &mut Writer<'_>) {
    out.u8(peripheral(unit));
    // RMB
    out.u8(if unit.removable { 0x80 } else { 0 });
    // VERSION: SPC-4.
    out.u8(0x06);
    // RESPONSE DATA FORMAT
    out.u8(0x02);
    // ADDITIONAL LENGTH
    out.u8(91);
    // SCCS, TPGS, 3PC, PROTECT
    out.u8(0x80
        | if unit.alua.explicit { 0x20 } else { 0 }
        | if unit.alua.implicit { 0x10 } else { 0 }
        | if unit.third_party_copy { 0x08 } else { 0 }
        | u8::from(unit.protect));
    // MULTIP
    out.u8(if unit.multi_port { 0x10 } else { 0 });
    // CMDQUE
    out.u8(0x02);
    out.padded(unit.identity.vendor, 8);
    out.padded(unit.identity.product, 16);
    out.padded(unit.identity.revision, 4);
    out.zeros_to(58);
    // VERSION DESCRIPTORs: SAM-5, the transport, SPC-4, SBC-3.
    out.be16(0x00a0);
    out.be16(unit.port.protocol.version_descriptor());
    out.be16(0x0460);
    out.be16(0x04c0);
    out.zeros_to(96);
}

/// The standard data for a LUN without a logical unit: peripheral qualifier 011b, device type 1Fh (SPC-4, 6.6.2).
pub fn absent(out: &mut Writer<'_>) {
    out.put(&[0x7f, 0, 0x06, 0x02, 91]);
    out.zeros_to(96);
}
