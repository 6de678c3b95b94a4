// SPDX-License-Identifier: GPL-2.0

//! Asymmetric logical unit access: REPORT and SET TARGET PORT GROUPS (SPC-4, 6.37 and 6.45), REPORT REFERRALS (SBC-3, 5.25).

use crate::{
    bytes::Writer,
    lba::Lba,
    sense::{FieldPointer, Sense, Specific},
};

/// ASYMMETRIC ACCESS STATE (SPC-4, table 306). The discriminant is the one on the wire and in configfs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Active/optimized.
    Optimized = 0x0,
    /// Active/non-optimized.
    NonOptimized = 0x1,
    /// Standby.
    Standby = 0x2,
    /// Unavailable.
    Unavailable = 0x3,
    /// Logical block dependent.
    BlockDependent = 0x4,
    /// Offline.
    Offline = 0xe,
    /// Transitioning between states.
    Transition = 0xf,
}

impl State {
    /// The state with this code.
    pub const fn new(code: u8) -> Option<Self> {
        Some(match code {
            0x0 => Self::Optimized,
            0x1 => Self::NonOptimized,
            0x2 => Self::Standby,
            0x3 => Self::Unavailable,
            0x4 => Self::BlockDependent,
            0xe => Self::Offline,
            0xf => Self::Transition,
            _ => return None,
        })
    }
}

/// In which asymmetric access states a command is processed, beside the active ones (SPC-4, 5.15.2.4 and 5.15.2.5). Those that are
/// processed in a state are processed in the states before it, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// In no others. In the logical block dependent state, as the blocks are that it addresses.
    Active,
    /// Standby: what tells of the unit or sets its parameters, and does not touch the medium.
    Standby,
    /// Unavailable: SET TARGET PORT GROUPS, by which an initiator comes out of it.
    Unavailable,
    /// Transitioning: what is processed whatever the state, or tells of it. The stock modules refuse it in the offline state;
    /// here a port that is offline tells that it is.
    Always,
}

/// The states that a group can take: the bits of byte 1 of its descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Supported(pub u8);

impl Supported {
    /// All but logical block dependent: the stock modules' default.
    pub const DEFAULT: Self = Self(0xcf);

    /// The bit of `state`.
    pub const fn bit(state: State) -> u8 {
        match state {
            State::Optimized => 0x01,
            State::NonOptimized => 0x02,
            State::Standby => 0x04,
            State::Unavailable => 0x08,
            State::BlockDependent => 0x10,
            State::Offline => 0x40,
            State::Transition => 0x80,
        }
    }

    /// A group can take `state`.
    pub const fn has(self, state: State) -> bool {
        self.0 & Self::bit(state) != 0
    }

    /// The same, with `state` or without it.
    #[must_use]
    pub const fn with(self, state: State, on: bool) -> Self {
        let bit = Self::bit(state);
        Self(if on { self.0 | bit } else { self.0 & !bit })
    }
}

/// A target port group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// TARGET PORT GROUP
    pub id: u16,
    /// Its state.
    pub state: State,
    /// The states that it can take.
    pub supported: Supported,
    /// It is the preferred one.
    pub preferred: bool,
    /// STATUS CODE: why the state last changed. 0: not known, 1: by SET TARGET PORT GROUPS, 2: implicitly.
    pub status: u8,
}

/// The answer, while it is written: [`Report::begin`], [`Report::group`] for each group, [`Report::finish`].
#[derive(Debug)]
pub struct Report<'w, 'b> {
    out: &'w mut Writer<'b>,
}

impl<'w, 'b> Report<'w, 'b> {
    /// Begins the answer. `transition` is the IMPLICIT TRANSITION TIME in seconds, where the extended header was asked for.
    pub fn begin(out: &'w mut Writer<'b>, transition: Option<u8>) -> Self {
        out.be32(0);
        if let Some(seconds) = transition {
            out.put(&[0x10, seconds, 0, 0]);
        }
        Self { out }
    }

    /// Adds a group with the relative target port identifiers of its ports: 255 at most, the rest is left out.
    pub fn group(&mut self, group: &Group, ports: impl IntoIterator<Item = u16>) {
        self.out
            .u8(if group.preferred { 0x80 } else { 0 } | (group.state as u8));
        self.out.u8(group.supported.0);
        self.out.be16(group.id);
        self.out.put(&[0, group.status, 0]);
        let count_at = self.out.len();
        self.out.u8(0);
        let mut count = 0u8;
        for port in ports.into_iter().take(255) {
            self.out.be16(0);
            self.out.be16(port);
            count = count.saturating_add(1);
        }
        self.out.overwrite(count_at, &[count]);
    }

    /// Sets RETURN DATA LENGTH.
    pub fn finish(self) {
        let length = u32::try_from(self.out.len().saturating_sub(4)).unwrap_or(u32::MAX);
        self.out.overwrite(0, &length.to_be_bytes());
    }
}

/// Bytes before the descriptors of a SET TARGET PORT GROUPS parameter list, and bytes in each.
const HEADER: usize = 4;
/// Target port groups and ports that one SET TARGET PORT GROUPS command may change.
pub const MAX_CHANGES: usize = 1024;
/// The longest parameter list: a CDB that announces more is refused.
pub const MAX_LIST: u32 = 4 + 4 * MAX_CHANGES as u32;

/// One change that SET TARGET PORT GROUPS asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A target port group's primary state.
    Group {
        /// TARGET PORT GROUP
        id: u16,
        /// ASYMMETRIC ACCESS STATE
        state: State,
    },
    /// A target port goes offline, which is a secondary state.
    Offline {
        /// RELATIVE TARGET PORT IDENTIFIER
        port: u16,
    },
}

/// A SET TARGET PORT GROUPS parameter list whose descriptors were checked: it asks for states that there are, and for one each.
#[derive(Clone, Copy, Debug)]
pub struct Changes<'a>(&'a [u8]);

impl<'a> Changes<'a> {
    /// Checks `list`. One of no bytes asks for nothing.
    ///
    /// # Errors
    /// PARAMETER LIST LENGTH ERROR for a list that ends inside of its header or of a descriptor; INVALID FIELD IN PARAMETER LIST,
    /// with a pointer, for states that cannot be asked for, and for two states for one group or port.
    pub fn parse(list: &'a [u8]) -> Result<Self, Sense> {
        if list.is_empty() {
            return Ok(Self(list));
        }
        let body = list.get(HEADER..).ok_or(Sense::PARAMETER_LIST_LENGTH)?;
        if body.len() & 3 != 0 || list.len() > MAX_LIST as usize {
            return Err(Sense::PARAMETER_LIST_LENGTH);
        }
        for (index, raw) in body.chunks_exact(4).enumerate() {
            let change = change(raw).ok_or(wrong_state(index))?;
            // Twice the same is one thing; two states for one group are none.
            let before = body.chunks_exact(4).take(index).filter_map(self::change);
            if before
                .into_iter()
                .any(|held| held != change && held.target() == change.target())
            {
                return Err(wrong_target(index));
            }
        }
        Ok(Self(body))
    }

    /// What is asked for, in the order of the list.
    pub fn iter(&self) -> impl Iterator<Item = Change> + 'a {
        self.0.chunks_exact(4).filter_map(change)
    }
}

impl Change {
    /// Group or port, and which.
    const fn target(&self) -> (bool, u16) {
        match *self {
            Self::Group { id, .. } => (true, id),
            Self::Offline { port } => (false, port),
        }
    }
}

fn change(raw: &[u8]) -> Option<Change> {
    let [state, _, hi, lo] = *raw.first_chunk::<4>()?;
    let number = u16::from_be_bytes([hi, lo]);
    match State::new(state & 0x0f)? {
        State::Offline => Some(Change::Offline { port: number }),
        // A transition is on the way to a state, and not to be asked for.
        State::Transition => None,
        state => Some(Change::Group { id: number, state }),
    }
}

/// INVALID FIELD IN PARAMETER LIST, for the ASYMMETRIC ACCESS STATE of the descriptor `index`.
pub fn wrong_state(index: usize) -> Sense {
    let sense = wrong(index, 0);
    match sense.specific {
        Specific::Field(pointer) => Sense {
            specific: Specific::Field(FieldPointer {
                bit: Some(3),
                ..pointer
            }),
            ..sense
        },
        _ => sense,
    }
}

/// The same for its TARGET PORT GROUP OR TARGET PORT.
pub fn wrong_target(index: usize) -> Sense {
    wrong(index, 2)
}

fn wrong(index: usize, field: usize) -> Sense {
    let offset = index
        .saturating_mul(4)
        .saturating_add(HEADER)
        .saturating_add(field);
    Sense::invalid_parameter_byte(u16::try_from(offset).unwrap_or(u16::MAX))
}

/// What one target port group is for a user data segment (SBC-3, 4.25).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// TARGET PORT GROUP
    pub group: u16,
    /// Its state for the segment.
    pub state: State,
}

/// The answer to REPORT REFERRALS, while it is written: [`Referrals::begin`], [`Referrals::segment`] for each user data segment,
/// [`Referrals::finish`].
#[derive(Debug)]
pub struct Referrals<'w, 'b> {
    out: &'w mut Writer<'b>,
}

impl<'w, 'b> Referrals<'w, 'b> {
    /// Begins the answer.
    pub fn begin(out: &'w mut Writer<'b>) -> Self {
        out.be32(0);
        Self { out }
    }

    /// Adds a segment, from its first block to its last: 255 groups at most, the rest is left out.
    pub fn segment(&mut self, first: Lba, last: Lba, members: &[Member]) {
        let members = members.get(..255).unwrap_or(members);
        self.out.put(&[0, 0, 0]);
        self.out.u8(u8::try_from(members.len()).unwrap_or(u8::MAX));
        self.out.be64(first.0);
        self.out.be64(last.0);
        for member in members {
            self.out.put(&[member.state as u8, 0]);
            self.out.be16(member.group);
        }
    }

    /// Sets the length of what follows.
    pub fn finish(self) {
        let length = u16::try_from(self.out.len().saturating_sub(4)).unwrap_or(u16::MAX);
        self.out.overwrite(2, &length.to_be_bytes());
    }
}
