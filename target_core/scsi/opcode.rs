// SPDX-License-Identifier: GPL-2.0

//! The table of supported commands, and what REPORT SUPPORTED OPERATION CODES makes of it (SPC-4, 6.35).
//!
//! One row of [`TABLE`] is all that is needed to support a command's CDB: it says which bits are evaluated, on which of the
//! unit's features they hang, and which function decodes them. What is not evaluated has to be zero.

mod decode;
mod table;
mod timeouts;

use crate::{
    alua::Access,
    bytes::{array, be16, be32, Writer},
    cdb::{Command, Features},
    groups, pi,
    pr::Reserved,
    sense::Sense,
};
pub use table::TABLE;

/// The longest CDB that is in the table.
pub const MAX_CDB: usize = 32;

/// The operation code of CDBs of variable length (SPC-4, 4.2.3): CONTROL is in byte 1, ADDITIONAL CDB LENGTH in byte 7, SERVICE
/// ACTION in bytes 8 and 9, and what other CDBs have in byte 1 is in byte 10.
pub const VARIABLE: u8 = 0x7f;

/// WRITE SCATTERED (16) has its flags in byte 2, as its service action is in byte 1.
const SERVICE_ACTION_OUT_16: u8 = 0x9f;

/// RDPROTECT, WRPROTECT and the like.
const PROTECT: u8 = 0xe0;

/// A CDB, as long as the longest, with zeros behind its own length.
type Raw = [u8; MAX_CDB];

/// A feature of the unit, on which a command or a bit of its CDB hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// Always there.
    Always,
    /// Never there: the bits are known, so that they are refused as the field they are.
    Never,
    /// [`Features::dpo_fua`]
    DpoFua,
    /// [`Features::unmap`]
    Unmap,
    /// [`Features::write_same`] or [`Features::write_same_unmap`]
    WriteSame,
    /// [`Features::write_same_unmap`]
    WriteSameUnmap,
    /// [`Features::compare_and_write`]
    CompareAndWrite,
    /// [`Features::report_opcodes`]
    ReportOpcodes,
    /// [`Features::target_port_groups`]
    TargetPortGroups,
    /// [`Features::set_target_port_groups`]
    SetTargetPortGroups,
    /// [`Features::referrals`]
    Referrals,
    /// [`Features::removable`]
    Removable,
    /// [`Features::sanitize`]
    Sanitize,
    /// [`Features::write_atomic`]
    WriteAtomic,
    /// [`Features::write_long`]
    WriteLong,
    /// [`Features::third_party_copy`]
    ThirdPartyCopy,
    /// [`Features::sanitize`], and blocks can be deallocated.
    SanitizeErase,
    /// [`Features::reservations`]
    Reservations,
    /// [`Features::protection`] of type 1 or 3: protection information is transferred by CDBs without expected tags.
    Protection,
    /// [`Features::protection`] of type 2: it is transferred by CDBs with expected tags.
    ExpectedTags,
    /// [`Features::protection`] is of type 2, or there is none: CDBs with expected tags are processed. SBC-4 (4.21.2.2) would
    /// have them refused without protection information too, where nobody needs that.
    LongForm,
    /// [`Feature::WriteAtomic`] and [`Feature::LongForm`]
    WriteAtomicLong,
    /// [`Features::protectable`]
    Protectable,
    /// [`Features::saves_mode`]
    SavesMode,
}

impl Features {
    /// The unit has `feature`.
    pub const fn has(&self, feature: Feature) -> bool {
        match feature {
            Feature::Always => true,
            Feature::Never => false,
            Feature::DpoFua => self.dpo_fua,
            Feature::Unmap => self.unmap,
            Feature::WriteSame => self.write_same || self.write_same_unmap,
            Feature::WriteSameUnmap => self.write_same_unmap,
            Feature::CompareAndWrite => self.compare_and_write,
            Feature::ReportOpcodes => self.report_opcodes,
            Feature::TargetPortGroups => self.target_port_groups,
            Feature::SetTargetPortGroups => self.set_target_port_groups,
            Feature::Referrals => self.referrals,
            Feature::Removable => self.removable,
            Feature::WriteAtomic => self.write_atomic,
            Feature::WriteLong => self.write_long,
            Feature::Sanitize => self.sanitize,
            Feature::ThirdPartyCopy => self.third_party_copy,
            Feature::SanitizeErase => self.sanitize && (self.unmap || self.write_same_unmap),
            Feature::Reservations => self.reservations,
            Feature::Protection => {
                matches!(self.protection, Some(pi::Type::One | pi::Type::Three))
            }
            Feature::ExpectedTags => matches!(self.protection, Some(pi::Type::Two)),
            Feature::LongForm => matches!(self.protection, None | Some(pi::Type::Two)),
            Feature::WriteAtomicLong => self.write_atomic && self.has(Feature::LongForm),
            Feature::Protectable => self.protectable,
            Feature::SavesMode => self.saves_mode,
        }
    }
}

/// A field in byte 1 of a CDB (10 of one of variable length) that is evaluated only where the unit has a feature.
#[derive(Clone, Copy, Debug)]
pub struct Optional {
    /// Its bits.
    mask: u8,
    /// Its feature.
    feature: Feature,
}

/// A row of the table: one command, or one service action of it.
#[derive(Debug)]
pub struct Descriptor {
    /// OPERATION CODE
    pub opcode: u8,
    /// SERVICE ACTION, where the operation code has them; it is in byte 1, bits 4 to 0, or in bytes 8 and 9.
    pub service_action: Option<u16>,
    /// Bytes in the CDB.
    pub length: u8,
    /// Its name in the standard.
    pub name: &'static str,
    /// Without this feature of the unit the command does not exist.
    requires: Feature,
    /// In which asymmetric access states of the port it is processed.
    pub access: Access,
    /// The bits that are evaluated, with byte 0 the operation code and the service action in its place (SPC-4, 6.35.3): 16 bytes, or
    /// 32 for a longer CDB.
    usage: &'static [u8],
    /// Of byte 1, or 10, what hangs on a feature. It is in `usage` too.
    optional: &'static [Optional],
    /// Bits that may be set and do not matter: obsolete ones, and hints. They count in byte 1, or 10, only.
    ignored: u8,
    /// Where its transfer length, or number of blocks, begins.
    length_field: u8,
    /// What the reservations of others do to it.
    pub reservations: Reserved,
    /// What makes the command of the CDB.
    decode: fn(&Raw) -> Result<Command, Sense>,
}

impl Descriptor {
    /// Runs the row's decoder on `raw`, which [`Descriptor::check_bits`] found to be right.
    pub(crate) fn decode(&self, raw: &Raw) -> Result<Command, Sense> {
        (self.decode)(raw)
    }

    /// The CDB is one of variable length.
    const fn is_variable(&self) -> bool {
        self.opcode == VARIABLE
    }

    /// The command says which tags of protection information it expects. ORWRITE has its generations there.
    const fn expects_tags(&self) -> bool {
        self.is_variable() && !matches!(self.service_action, Some(0x000e))
    }

    /// It does so in bytes 20 to 27. WRITE SCATTERED does in its list.
    const fn has_tags(&self) -> bool {
        self.expects_tags() && !matches!(self.service_action, Some(0x0011))
    }

    /// It may transfer protection information.
    fn has_protection(&self) -> bool {
        self.optional.iter().any(|field| field.mask == PROTECT)
    }

    /// Where the bits are that hang on features.
    const fn flags_at(&self) -> usize {
        match self.opcode {
            VARIABLE => 10,
            SERVICE_ACTION_OUT_16 => 2,
            _ => 1,
        }
    }

    /// GROUP NUMBER of `raw`: 0 in a CDB that has none. It is where SBC-4, clause 5, has it in all CDBs of a length.
    pub(crate) fn group(&self, raw: &Raw) -> u8 {
        let at = match self.length {
            10 | 32 => 6,
            12 => 10,
            16 => 14,
            _ => return 0,
        };
        match (self.usage.get(at), raw.get(at)) {
            (Some(&groups::NUMBER), Some(byte)) => byte & groups::NUMBER,
            _ => 0,
        }
    }

    /// `usage`, as long as the longest CDB.
    fn map(&self) -> Raw {
        let mut map = [0; MAX_CDB];
        for (to, from) in map.chunks_exact_mut(16).zip(self.usage.chunks_exact(16)) {
            to.copy_from_slice(from);
        }
        map
    }

    /// The bits that are evaluated on a unit with `features`: the CDB USAGE DATA.
    pub fn usage(&self, features: &Features) -> [u8; MAX_CDB] {
        let mut usage = self.map();
        for field in self.optional {
            if features.has(field.feature) {
                continue;
            }
            if let Some(flags) = usage.get_mut(self.flags_at()) {
                *flags &= !field.mask;
            }
            // The reference and application tags are those of protection information, and ignored without it (SBC-4, 5.19).
            if let (true, PROTECT, Some(tags)) =
                (self.has_tags(), field.mask, usage.get_mut(20..28))
            {
                tags.fill(0);
            }
        }
        usage
    }

    /// What `raw` says of protection information, on a unit that is formatted with the type `of`.
    ///
    /// # Errors
    /// INVALID COMMAND OPERATION CODE for a CDB without expected tags that wants protection information of type 2 (SBC-4,
    /// 4.21.2.4); INVALID FIELD IN CDB for a reserved value.
    pub(crate) fn protect(&self, raw: &Raw, of: pi::Type) -> Result<pi::Fields, Sense> {
        if !self.has_protection() {
            return Ok(pi::Fields::default());
        }
        let at = self.flags_at();
        let code = raw.get(at).map_or(0, |flags| flags >> 5);
        if code != 0 && of == pi::Type::Two && !self.expects_tags() {
            return Err(Sense::INVALID_OPERATION_CODE);
        }
        if code > 0b101 {
            return Err(Sense::invalid_cdb_bit(u16::try_from(at).unwrap_or(0), 7));
        }
        let tags = self.has_tags().then(|| pi::Tags {
            reference: be32(raw, 20).unwrap_or(0),
            application: be16(raw, 24).unwrap_or(0),
            mask: be16(raw, 26).unwrap_or(0),
        });
        Ok(pi::Fields {
            code,
            tags,
            sent: pi::Sent::Behind,
        })
    }

    /// No bit is set that is not evaluated.
    ///
    /// # Errors
    /// INVALID FIELD IN CDB, with a pointer to the field's leftmost bit.
    pub(crate) fn check_bits(&self, raw: &Raw, features: &Features) -> Result<(), Sense> {
        let at = self.flags_at();
        let flags = raw.get(at).copied().unwrap_or(0);
        for field in self.optional {
            if flags & field.mask == 0 || features.has(field.feature) {
                continue;
            }
            let at = u16::try_from(at).unwrap_or(0);
            return Err(Sense::invalid_cdb_bit(at, leading_bit(field.mask)));
        }
        let mut allowed = self.map();
        let [allowed0, allowed1, _, _, _, _, _, _, action0, action1, ..] = &mut allowed;
        *allowed0 = 0xff;
        // The service action was matched already.
        if self.is_variable() {
            (*action0, *action1) = (0xff, 0xff);
        } else if self.service_action.is_some() {
            *allowed1 |= 0x1f;
        }
        if let Some(flags) = allowed.get_mut(at) {
            *flags |= self.ignored;
        }
        // Of the control byte, the vendor specific bits are nobody's business.
        let control = if self.is_variable() {
            1
        } else {
            usize::from(self.length.saturating_sub(1))
        };
        if let Some(control) = allowed.get_mut(control) {
            *control = 0xc0;
        }
        check_half(array(raw, 0), array(&allowed, 0), 0)?;
        check_half(array(raw, 16), array(&allowed, 16), 16)
    }

    /// Where an address is.
    pub(crate) const fn lba_at(&self) -> u16 {
        if self.is_variable() {
            12
        } else {
            2
        }
    }

    /// Where the transfer length is.
    pub(crate) const fn length_at(&self) -> u16 {
        self.length_field as u16
    }

    /// INVALID FIELD IN CDB, pointing to the transfer length.
    pub(crate) fn invalid_length(&self) -> Sense {
        Sense::invalid_cdb_byte(u16::from(self.length_field))
    }

    /// The service action of a CDB with this byte 1 is this row's.
    fn matches(&self, byte1: u8) -> bool {
        self.service_action
            .is_none_or(|action| action == u16::from(byte1 & 0x1f))
    }
}

/// No bit of these 16 bytes of a CDB, which begin at its byte `first`, is set that is not allowed.
fn check_half(raw: Option<[u8; 16]>, allowed: Option<[u8; 16]>, first: u16) -> Result<(), Sense> {
    // As one number, its first byte the most significant.
    let wrong = raw.map_or(0, u128::from_be_bytes) & !allowed.map_or(0, u128::from_be_bytes);
    if wrong == 0 {
        return Ok(());
    }
    // From the left: bit 0 is bit 7 of the first byte.
    let position = wrong.leading_zeros();
    let byte = u16::try_from(position >> 3).unwrap_or(0);
    let bit = u8::try_from(position & 7).unwrap_or(0) ^ 7;
    Err(Sense::invalid_cdb_bit(first.saturating_add(byte), bit))
}

/// The leftmost bit that is set, 7 to 0.
fn leading_bit(mask: u8) -> u8 {
    u8::try_from(mask.leading_zeros()).unwrap_or(0).min(7) ^ 7
}

/// The rows of `opcode`.
fn rows(opcode: u8) -> &'static [Descriptor] {
    let (first, count) = table::INDEX
        .get(usize::from(opcode))
        .copied()
        .unwrap_or((0, 0));
    let first = usize::from(first);
    let end = first.saturating_add(usize::from(count));
    TABLE.get(first..end).unwrap_or(&[])
}

/// The service actions of `opcode`, in ascending order, on a unit that has its feature.
pub(crate) fn service_actions(opcode: u8) -> impl Iterator<Item = u16> {
    rows(opcode).iter().filter_map(|row| row.service_action)
}

/// The row for `cdb` on a unit with `features`.
///
/// # Errors
/// INVALID COMMAND OPERATION CODE; INVALID FIELD IN CDB for a service action of an operation code that has others.
pub(crate) fn find(cdb: &[u8], features: &Features) -> Result<&'static Descriptor, Sense> {
    let opcode = *cdb.first().ok_or(Sense::INVALID_OPERATION_CODE)?;
    if opcode == VARIABLE {
        return find_variable(cdb, features);
    }
    let byte1 = cdb.get(1).copied().unwrap_or(0);
    let mut known = false;
    for row in rows(opcode).iter().filter(|row| features.has(row.requires)) {
        if row.matches(byte1) {
            return Ok(row);
        }
        known = true;
    }
    if known {
        Err(Sense::invalid_cdb_bit(1, 4))
    } else {
        Err(Sense::INVALID_OPERATION_CODE)
    }
}

/// The row for a CDB of variable length.
fn find_variable(cdb: &[u8], features: &Features) -> Result<&'static Descriptor, Sense> {
    let mut rows = rows(VARIABLE)
        .iter()
        .filter(|row| features.has(row.requires))
        .peekable();
    if rows.peek().is_none() {
        return Err(Sense::INVALID_OPERATION_CODE);
    }
    let cut_off = Sense::invalid_cdb_byte(u16::try_from(cdb.len()).unwrap_or(0));
    let additional = *cdb.get(7).ok_or(cut_off)?;
    let action = be16(cdb, 8).ok_or(cut_off)?;
    let is_action = |row: &Descriptor| row.service_action == Some(action);
    let Some(row) = rows.find(|row| is_action(row)) else {
        // Those with expected tags shall be refused so (SBC-4, 4.21.2.3 and 4.21.2.5).
        let tags = |row: &Descriptor| is_action(row) && row.expects_tags() && row.has_protection();
        let refused = !features.has(Feature::LongForm) && self::rows(VARIABLE).iter().any(tags);
        return Err(if refused {
            Sense::INVALID_OPERATION_CODE
        } else {
            Sense::invalid_cdb_byte(8)
        });
    };
    // ADDITIONAL CDB LENGTH counts what follows it.
    if row.length.checked_sub(8) != Some(additional) {
        return Err(Sense::invalid_cdb_byte(7));
    }
    Ok(row)
}

/// REPORTING OPTIONS (SPC-4, table 289).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reporting {
    /// All commands.
    All,
    /// The command with this operation code, which has no service actions.
    Opcode(u8),
    /// The command with this operation code and service action.
    ServiceAction(u8, u16),
    /// Either; an operation code without service actions wants 0 as its service action.
    Either(u8, u16),
}

/// What REPORT SUPPORTED OPERATION CODES asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Which commands.
    pub reporting: Reporting,
    /// Return command timeouts descriptors (RCTD).
    pub timeouts: bool,
}

/// Writes the answer of a unit with `features` to `request`.
///
/// # Errors
/// INVALID FIELD IN CDB, where the reporting option does not fit the operation code.
pub fn report(request: &Request, features: &Features, out: &mut Writer<'_>) -> Result<(), Sense> {
    let (opcode, action, wants_action) = match request.reporting {
        Reporting::All => {
            report_all(request.timeouts, features, out);
            return Ok(());
        }
        Reporting::Opcode(opcode) => (opcode, None, Some(false)),
        Reporting::ServiceAction(opcode, action) => (opcode, Some(action), Some(true)),
        Reporting::Either(opcode, action) => (opcode, Some(action), None),
    };
    let mut found = None;
    for row in rows(opcode).iter().filter(|row| features.has(row.requires)) {
        if wants_action.is_some_and(|wants| wants != row.service_action.is_some()) {
            // REPORTING OPTIONS is the field that is wrong.
            return Err(Sense::invalid_cdb_bit(2, 2));
        }
        if action.is_none_or(|action| action == row.service_action.unwrap_or(0)) {
            found = Some(row);
            break;
        }
    }
    report_one(found, request.timeouts, features, out);
    Ok(())
}

/// All_commands parameter data (SPC-4, 6.35.2).
fn report_all(timeouts: bool, features: &Features, out: &mut Writer<'_>) {
    out.be32(0);
    for row in TABLE.iter().filter(|row| features.has(row.requires)) {
        out.u8(row.opcode);
        out.u8(0);
        out.be16(row.service_action.unwrap_or(0));
        out.u8(0);
        out.u8(if timeouts { 0x02 } else { 0 } | u8::from(row.service_action.is_some()));
        out.be16(u16::from(row.length));
        if timeouts {
            timeouts::write(row, out);
        }
    }
    let length = u32::try_from(out.len().saturating_sub(4)).unwrap_or(u32::MAX);
    out.overwrite(0, &length.to_be_bytes());
}

/// One_command parameter data (SPC-4, 6.35.3).
fn report_one(row: Option<&Descriptor>, timeouts: bool, features: &Features, out: &mut Writer<'_>) {
    const NOT_SUPPORTED: u8 = 0b001;
    const SUPPORTED: u8 = 0b011;
    out.u8(0);
    let Some(row) = row else {
        out.u8(NOT_SUPPORTED);
        out.be16(0);
        return;
    };
    out.u8(if timeouts { 0x80 } else { 0 } | SUPPORTED);
    out.be16(u16::from(row.length));
    let usage = row.usage(features);
    out.put(usage.get(..usize::from(row.length)).unwrap_or(&usage));
    if timeouts {
        timeouts::write(row, out);
    }
}
