// SPDX-License-Identifier: GPL-2.0

//! Reservations on the wire: PERSISTENT RESERVE IN and OUT (SPC-4, 6.15 and 6.16), RESERVE and RELEASE (SPC-2, 7.21 and 7.22).

mod transport_id;

pub use transport_id::{Name, TransportId};

use crate::{
    bytes::{self, Writer},
    sense::Sense,
};

/// The longest parameter list of PERSISTENT RESERVE OUT that is taken: more TransportIDs than there can be registrations.
pub const MAX_LIST: u32 = 0x1_0000;
/// The parameter list without TransportIDs.
const BASIC: usize = 24;

/// TYPE (SPC-4, table 177). The discriminant is the code on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Type {
    /// Writes of others than the holder conflict.
    WriteExclusive = 1,
    /// Reads and writes of others than the holder conflict.
    ExclusiveAccess = 3,
    /// Writes of others than the registered conflict.
    WriteExclusiveRegistrantsOnly = 5,
    /// Reads and writes of others than the registered conflict.
    ExclusiveAccessRegistrantsOnly = 6,
    /// The same as [`Type::WriteExclusiveRegistrantsOnly`], and all that are registered hold the reservation.
    WriteExclusiveAllRegistrants = 7,
    /// The same as [`Type::ExclusiveAccessRegistrantsOnly`], and all that are registered hold the reservation.
    ExclusiveAccessAllRegistrants = 8,
}

impl Type {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::WriteExclusive,
        Self::ExclusiveAccess,
        Self::WriteExclusiveRegistrantsOnly,
        Self::ExclusiveAccessRegistrantsOnly,
        Self::WriteExclusiveAllRegistrants,
        Self::ExclusiveAccessAllRegistrants,
    ];

    /// The type with this code; the others are obsolete or reserved.
    pub fn new(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == code)
    }

    /// All that are registered hold the reservation.
    pub const fn is_all_registrants(self) -> bool {
        matches!(
            self,
            Self::WriteExclusiveAllRegistrants | Self::ExclusiveAccessAllRegistrants
        )
    }

    /// Those that are registered have access as the holder has.
    pub const fn admits_registrants(self) -> bool {
        !matches!(self, Self::WriteExclusive | Self::ExclusiveAccess)
    }

    /// Those without access may read.
    pub const fn is_write_exclusive(self) -> bool {
        matches!(
            self,
            Self::WriteExclusive
                | Self::WriteExclusiveRegistrantsOnly
                | Self::WriteExclusiveAllRegistrants
        )
    }
}

/// What the reservations of others do to a command: a property of each row of the table of commands (SPC-4, table 66;
/// SBC-3, table 13; SPC-2, table 10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// Nothing at all.
    Allowed,
    /// Persistent reservations do nothing; one by RESERVE conflicts.
    Persistently,
    /// A persistent reservation that excludes reading conflicts, one by RESERVE as well.
    Reads,
    /// Each conflicts.
    Writes,
    /// PERSISTENT RESERVE IN and OUT: one by RESERVE conflicts, whoever made it (SPC-2, 5.5.1). What a persistent reservation
    /// does, is decided when the service action is performed.
    Manages,
    /// RESERVE and RELEASE: decided when they are performed.
    Reserves,
}

/// Service actions of PERSISTENT RESERVE IN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum In {
    /// READ KEYS
    ReadKeys,
    /// READ RESERVATION
    ReadReservation,
    /// REPORT CAPABILITIES
    ReportCapabilities,
    /// READ FULL STATUS
    ReadFullStatus,
}

/// Service actions of PERSISTENT RESERVE OUT. The discriminant is the one on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Action {
    /// REGISTER
    Register = 0,
    /// RESERVE
    Reserve = 1,
    /// RELEASE
    Release = 2,
    /// CLEAR
    Clear = 3,
    /// PREEMPT
    Preempt = 4,
    /// PREEMPT AND ABORT
    PreemptAndAbort = 5,
    /// REGISTER AND IGNORE EXISTING KEY
    RegisterAndIgnore = 6,
    /// REGISTER AND MOVE
    RegisterAndMove = 7,
    /// REPLACE LOST RESERVATION
    ReplaceLost = 8,
}

/// The CDB of PERSISTENT RESERVE OUT. Most service actions ignore SCOPE and TYPE, so they are held against the standard
/// when they count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Out {
    /// SERVICE ACTION
    pub action: Action,
    /// SCOPE
    pub scope: u8,
    /// TYPE
    pub kind: u8,
}

impl Out {
    /// The type of a reservation of the logical unit, which is the one scope there is.
    ///
    /// # Errors
    /// INVALID FIELD IN CDB.
    pub fn reservation(&self) -> Result<Type, Sense> {
        if self.scope != 0 {
            return Err(Sense::invalid_cdb_bit(2, 7));
        }
        Type::new(self.kind).ok_or(Sense::invalid_cdb_bit(2, 3))
    }
}

/// The parameter list of PERSISTENT RESERVE OUT (SPC-4, 6.16.3 and 6.16.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters<'a> {
    /// RESERVATION KEY
    pub key: u64,
    /// SERVICE ACTION RESERVATION KEY
    pub action_key: u64,
    /// APTPL
    pub aptpl: bool,
    /// ALL_TG_PT
    pub all_ports: bool,
    /// SPEC_I_PT
    pub specified: bool,
    /// UNREG of REGISTER AND MOVE.
    pub unregister: bool,
    /// RELATIVE TARGET PORT IDENTIFIER of REGISTER AND MOVE.
    pub port: u16,
    /// TransportIDs: those of SPEC_I_PT, or the one of REGISTER AND MOVE.
    ids: &'a [u8],
}

/// Where the TransportIDs begin with SPEC_I_PT.
const SPECIFIED_AT: u16 = 28;
/// Where the TransportID of REGISTER AND MOVE begins.
const MOVED_AT: u16 = 24;

impl<'a> Parameters<'a> {
    /// Reads the list for `action`.
    ///
    /// # Errors
    /// PARAMETER LIST LENGTH ERROR for one that is cut off or too long; INVALID FIELD IN PARAMETER LIST.
    pub fn parse(action: Action, list: &'a [u8]) -> Result<Self, Sense> {
        let short = Sense::PARAMETER_LIST_LENGTH;
        let (basic, rest) = list.split_at_checked(BASIC).ok_or(short)?;
        let field = |at| bytes::be64(basic, at).ok_or(short);
        let [move_flags, ..] = bytes::array::<1>(basic, 17).ok_or(short)?;
        let [flags, ..] = bytes::array::<1>(basic, 20).ok_or(short)?;
        let mut read = Self {
            key: field(0)?,
            action_key: field(8)?,
            aptpl: false,
            all_ports: false,
            specified: false,
            unregister: false,
            port: 0,
            ids: &[],
        };
        match action {
            Action::RegisterAndMove => {
                read.aptpl = move_flags & 0x01 != 0;
                read.unregister = move_flags & 0x02 != 0;
                read.port = bytes::be16(basic, 18).ok_or(short)?;
                let length = bytes::be32(basic, 20).ok_or(short)?;
                read.ids = exactly(rest, length)?;
            }
            Action::Register => {
                read.aptpl = flags & 0x01 != 0;
                read.all_ports = flags & 0x04 != 0;
                read.specified = flags & 0x08 != 0;
                if read.specified {
                    let (length, rest) = rest.split_at_checked(4).ok_or(short)?;
                    read.ids = exactly(rest, bytes::be32(length, 0).ok_or(short)?)?;
                } else if !rest.is_empty() {
                    return Err(short);
                }
            }
            _ => {
                // Valid for registering only, and ignored otherwise, but for SPEC_I_PT (SPC-4, 6.16.3).
                if action == Action::RegisterAndIgnore {
                    read.aptpl = flags & 0x01 != 0;
                    read.all_ports = flags & 0x04 != 0;
                }
                if action == Action::ReplaceLost {
                    read.aptpl = flags & 0x01 != 0;
                    // Not ignored, but invalid here (SPC-4, table 216).
                    if flags & 0x04 != 0 {
                        return Err(Sense::invalid_parameter_byte(20));
                    }
                }
                if flags & 0x08 != 0 {
                    return Err(Sense::invalid_parameter_byte(20));
                }
                if !rest.is_empty() {
                    return Err(short);
                }
            }
        }
        Ok(read)
    }

    /// The initiator ports of SPEC_I_PT. After an error there are no more.
    pub fn initiators(&self) -> impl Iterator<Item = Result<TransportId, Sense>> + 'a {
        let mut rest = if self.specified { self.ids } else { &[] };
        let mut at = SPECIFIED_AT;
        core::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            match TransportId::parse(rest, at) {
                Ok((id, length)) => {
                    rest = rest.get(length..).unwrap_or(&[]);
                    at = at.saturating_add(u16::try_from(length).unwrap_or(u16::MAX));
                    Some(Ok(id))
                }
                Err(sense) => {
                    rest = &[];
                    Some(Err(sense))
                }
            }
        })
    }

    /// The initiator port that REGISTER AND MOVE moves to.
    ///
    /// # Errors
    /// INVALID FIELD IN PARAMETER LIST, if it is not exactly one.
    pub fn destination(&self) -> Result<TransportId, Sense> {
        let (id, length) = TransportId::parse(self.ids, MOVED_AT)?;
        if length != self.ids.len() {
            return Err(Sense::invalid_parameter_byte(20));
        }
        Ok(id)
    }
}

// All of `rest`, which is to be `length` long.
fn exactly(rest: &[u8], length: u32) -> Result<&[u8], Sense> {
    if usize::try_from(length) == Ok(rest.len()) {
        Ok(rest)
    } else {
        Err(Sense::PARAMETER_LIST_LENGTH)
    }
}

// PRGENERATION, and a length of what follows that is not known yet.
fn begin(out: &mut Writer<'_>, generation: u32) {
    out.be32(generation);
    out.be32(0);
}

fn finish(out: &mut Writer<'_>) {
    let length = u32::try_from(out.len().saturating_sub(8)).unwrap_or(u32::MAX);
    out.overwrite(4, &length.to_be_bytes());
}

/// READ KEYS (SPC-4, 6.15.2).
pub fn write_keys(out: &mut Writer<'_>, generation: u32, keys: impl Iterator<Item = u64>) {
    begin(out, generation);
    for key in keys {
        out.be64(key);
    }
    finish(out);
}

/// READ RESERVATION (SPC-4, 6.15.3): the type and the holder's key, which is 0 where all that are registered hold it.
pub fn write_reservation(out: &mut Writer<'_>, generation: u32, held: Option<(Type, u64)>) {
    begin(out, generation);
    if let Some((kind, key)) = held {
        out.be64(key);
        out.be32(0);
        out.u8(0);
        // LU_SCOPE is 0.
        out.u8(kind as u8);
        out.be16(0);
    }
    finish(out);
}

/// REPORT CAPABILITIES (SPC-4, 6.15.4). `active`: APTPL is in force (PTPL_A).
pub fn write_capabilities(out: &mut Writer<'_>, active: bool) {
    const RLR_C: u8 = 0x80;
    const CRH: u8 = 0x10;
    const SIP_C: u8 = 0x08;
    const ATP_C: u8 = 0x04;
    const PTPL_C: u8 = 0x01;
    const TMV: u8 = 0x80;
    // Reading commands of table 66 pass write exclusive reservations, TEST UNIT READY passes all.
    const ALLOW_COMMANDS: u8 = 0x03 << 4;
    out.be16(8);
    out.u8(RLR_C | CRH | SIP_C | ATP_C | PTPL_C);
    out.u8(TMV | ALLOW_COMMANDS | u8::from(active));
    // PERSISTENT RESERVATION TYPE MASK: bit n of the first byte is type n, the second byte goes on.
    let mask = Type::ALL
        .into_iter()
        .fold(0u16, |mask, kind| mask | 1u16.wrapping_shl(kind as u32));
    out.put(&mask.to_le_bytes());
    out.be16(0);
}

/// A registration as READ FULL STATUS tells it.
#[derive(Clone, Copy, Debug)]
pub struct FullStatus<'a> {
    /// RESERVATION KEY
    pub key: u64,
    /// ALL_TG_PT
    pub all_ports: bool,
    /// The reservation that it holds (R_HOLDER, TYPE).
    pub holds: Option<Type>,
    /// RELATIVE TARGET PORT IDENTIFIER
    pub port: u16,
    /// The initiator port.
    pub id: &'a TransportId,
}

/// READ FULL STATUS (SPC-4, 6.15.5), one registration after the other.
#[derive(Debug)]
pub struct FullStatusWriter<'a, 'b>(&'a mut Writer<'b>);

impl<'a, 'b> FullStatusWriter<'a, 'b> {
    /// Begins the parameter data.
    pub fn begin(out: &'a mut Writer<'b>, generation: u32) -> Self {
        begin(out, generation);
        Self(out)
    }

    /// Appends a registration.
    pub fn registration(&mut self, status: &FullStatus<'_>) {
        let out = &mut *self.0;
        out.be64(status.key);
        out.be32(0);
        out.u8((u8::from(status.all_ports) << 1) | u8::from(status.holds.is_some()));
        out.u8(status.holds.map_or(0, |kind| kind as u8));
        out.be32(0);
        out.be16(status.port);
        let length = out.len();
        out.be32(0);
        status.id.write(out);
        let id = out.len().saturating_sub(length).saturating_sub(4);
        let id = u32::try_from(id).unwrap_or(u32::MAX);
        out.overwrite(length, &id.to_be_bytes());
    }

    /// Ends the parameter data.
    pub fn finish(self) {
        finish(self.0);
    }
}
