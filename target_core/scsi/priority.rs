// SPDX-License-Identifier: GPL-2.0

//! Command priority (SAM-5, 8.7): REPORT PRIORITY and SET PRIORITY (SPC-5, 6.34 and 6.44).

use crate::{
    bytes::{array, be16, Writer},
    inquiry::Protocol,
    pr::TransportId,
    sense::Sense,
};

/// The priority of the commands of an I_T_L nexus: 1h is the highest, Fh the lowest; 0h is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Priority(u8);

impl Priority {
    /// Of a field of four bits; the others are not looked at.
    pub const fn new(bits: u8) -> Self {
        Self(bits & 0x0f)
    }

    /// The field.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// There is none.
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// This one, or `initial` (INITIAL COMMAND PRIORITY) where there is none.
    pub const fn or(self, initial: Self) -> Self {
        if self.is_none() {
            initial
        } else {
            self
        }
    }
}

/// Which nexuses REPORT PRIORITY tells of: PRIORITY REPORTED.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reported {
    /// The one that asks (00b).
    Own,
    /// All whose priority is another than the initial one (01b).
    Changed,
}

impl Reported {
    /// Of the field's two bits.
    pub const fn new(bits: u8) -> Option<Self> {
        match bits {
            0b00 => Some(Self::Own),
            0b01 => Some(Self::Changed),
            _ => None,
        }
    }
}

/// Whose priority SET PRIORITY sets: I_T_L NEXUS TO SET.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// That of the one that asks (00b).
    Own,
    /// That of the one that the list names (01b).
    Named,
    /// All become the initial one (10b); the list is not looked at.
    All,
}

impl Which {
    /// Of the field's two bits.
    pub const fn new(bits: u8) -> Option<Self> {
        match bits {
            0b00 => Some(Self::Own),
            0b01 => Some(Self::Named),
            0b10 => Some(Self::All),
            _ => None,
        }
    }
}

/// What SET PRIORITY is to do. A priority of none stands for the initial one.
// It is made once for a command, and not kept.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The priority of the nexus that asks.
    Own(Priority),
    /// The priority of another.
    Named {
        /// PRIORITY TO SET
        priority: Priority,
        /// RELATIVE TARGET PORT IDENTIFIER
        port: u16,
        /// The initiator port.
        initiator: TransportId,
    },
    /// All are the initial one.
    All,
}

/// The longest list that is accepted; what follows the TransportID is not looked at.
pub const MAX_LIST: usize = 1024;

/// The list without the TransportID.
const HEADER: usize = 8;

/// What the parameter list asks for. Of what is not for `which`, nothing is looked at.
///
/// # Errors
/// PARAMETER LIST LENGTH ERROR for a list that is cut off; INVALID FIELD IN PARAMETER LIST, with a pointer.
pub fn parse(which: Which, list: &[u8]) -> Result<Change, Sense> {
    if which == Which::All {
        return Ok(Change::All);
    }
    let short = Sense::PARAMETER_LIST_LENGTH;
    let [priority] = array::<1>(list, 0).ok_or(short)?;
    if priority & 0xf0 != 0 {
        return Err(Sense::invalid_parameter_bit(0, 7));
    }
    let priority = Priority::new(priority);
    if which == Which::Own {
        return Ok(Change::Own(priority));
    }
    let [_, r1, _, _, r4, r5, ..] = array::<HEADER>(list, 0).ok_or(short)?;
    let reserved = [(1, r1), (4, r4), (5, r5)];
    if let Some((at, _)) = reserved.iter().find(|(_, byte)| *byte != 0) {
        return Err(Sense::invalid_parameter_byte(*at));
    }
    let port = be16(list, 2).ok_or(short)?;
    let length = usize::from(be16(list, 6).ok_or(short)?);
    let name = list
        .get(HEADER..HEADER.saturating_add(length))
        .ok_or(short)?;
    let (initiator, used) = TransportId::parse(name, 8)?;
    // ADDITIONAL LENGTH is that of the TransportID.
    if used != length {
        return Err(Sense::invalid_parameter_byte(6));
    }
    // A port, not all ports of an initiator.
    if initiator.protocol == Protocol::Iscsi && initiator.isid.is_none() {
        return Err(Sense::invalid_parameter_byte(8));
    }
    Ok(Change::Named {
        priority,
        port,
        initiator,
    })
}

/// Writes REPORT PRIORITY's parameter data, one nexus after the other.
#[derive(Debug)]
pub struct ReportWriter<'a, 'b>(&'a mut Writer<'b>);

impl<'a, 'b> ReportWriter<'a, 'b> {
    /// Begins it.
    pub fn begin(out: &'a mut Writer<'b>) -> Self {
        out.be32(0);
        Self(out)
    }

    /// The nexus of `initiator` and the target port with the relative identifier `port`.
    pub fn nexus(&mut self, priority: Priority, port: u16, initiator: &TransportId) {
        let start = self.0.len();
        self.0.u8(priority.get());
        self.0.u8(0);
        self.0.be16(port);
        self.0.be32(0);
        initiator.write(self.0);
        let length = self.0.len().saturating_sub(start).saturating_sub(HEADER);
        let length = u16::try_from(length).unwrap_or(u16::MAX);
        self.0
            .overwrite(start.saturating_add(6), &length.to_be_bytes());
    }

    /// Ends it.
    pub fn end(self) {
        let length = u32::try_from(self.0.len().saturating_sub(4)).unwrap_or(u32::MAX);
        self.0.overwrite(0, &length.to_be_bytes());
    }
}
