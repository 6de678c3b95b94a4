// SPDX-License-Identifier: GPL-2.0

//! REPORT TARGET PORT GROUPS (SPC-4, 6.37).

use crate::bytes::Writer;

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

/// The states that a group can take: the bits of byte 1 of its descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Supported(pub u8);

impl Supported {
    /// All but logical block dependent: the stock modules' default.
    pub const DEFAULT: Self = Self(0xcf);
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
