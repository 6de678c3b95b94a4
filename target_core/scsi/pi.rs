// SPDX-License-Identifier: GPL-2.0

//! Protection information (SBC-4, 4.21): eight bytes beside each logical block, and which of them are checked when.
//!
//! The guard's CRC is the caller's to compute. What is here is decided by the CDB's fields and the type of protection alone.

mod ranges;

use crate::{
    lba::BlockSize,
    sense::{Asc, Key, Sense},
};

pub use ranges::{check_end, Ranges, Wrong, LENGTH as RANGES_LENGTH, MOST as MOST_RANGES};

/// Bytes of protection information of one logical block, which is one protection information interval.
pub const TUPLE: usize = 8;

/// The type of protection that a unit is formatted with. The discriminant is the `pi_prot_type` attribute's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Type {
    /// The reference tag is the LBA's.
    One = 1,
    /// The reference tag is counted from what the CDB says.
    Two = 2,
    /// The reference tag is the application client's.
    Three = 3,
}

impl Type {
    /// Of its number; `None` for what is none, 0 above all.
    pub const fn new(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::One),
            2 => Some(Self::Two),
            3 => Some(Self::Three),
            _ => None,
        }
    }

    /// P_TYPE and PROT_EN, as READ CAPACITY (16) has them in its byte 12 (SBC-4, 5.21.2).
    pub const fn capacity_byte(self) -> u8 {
        (self as u8).wrapping_sub(1).wrapping_shl(1) | 0x01
    }

    /// The application tags are the application clients' own, and not modified, whether they want that or not (ATO in the control
    /// mode page).
    ///
    /// Only commands of type 2 tell which are expected. Otherwise what is written without protection information would have the
    /// application tag FFFFh, and would never be checked (SBC-4, table 133), unless the application tag mode page says which.
    pub const fn owns_application_tags(self) -> bool {
        matches!(self, Self::Two)
    }
}

/// Whose application tags are, and what they are to be, as mode pages have it (SPC-4, 7.5.8; SBC-4, 6.5.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ApplicationTags {
    /// They are the application clients' own, whatever the type (ATO).
    pub owned: bool,
    /// The application tag mode page says what they are to be (ATMPE).
    pub by_range: bool,
    /// What it says.
    pub ranges: Ranges,
}

impl ApplicationTags {
    /// As they are by default.
    pub const DEFAULT: Self = Self {
        owned: false,
        by_range: false,
        ranges: Ranges::ZERO,
    };
}

/// The protection information of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// LOGICAL BLOCK GUARD
    pub guard: u16,
    /// LOGICAL BLOCK APPLICATION TAG
    pub application: u16,
    /// LOGICAL BLOCK REFERENCE TAG
    pub reference: u32,
}

impl Tuple {
    /// That of a block which was formatted, or is unmapped.
    pub const DEFAULT: Self = Self {
        guard: 0xffff,
        application: 0xffff,
        reference: 0xffff_ffff,
    };

    /// Of its bytes.
    pub const fn new(bytes: [u8; TUPLE]) -> Self {
        let [g0, g1, a0, a1, r0, r1, r2, r3] = bytes;
        Self {
            guard: u16::from_be_bytes([g0, g1]),
            application: u16::from_be_bytes([a0, a1]),
            reference: u32::from_be_bytes([r0, r1, r2, r3]),
        }
    }

    /// Its bytes.
    pub const fn bytes(self) -> [u8; TUPLE] {
        let [g0, g1] = self.guard.to_be_bytes();
        let [a0, a1] = self.application.to_be_bytes();
        let [r0, r1, r2, r3] = self.reference.to_be_bytes();
        [g0, g1, a0, a1, r0, r1, r2, r3]
    }

    /// No protection information of this block is to be checked (SBC-4, 4.21.3). NO_PI_CHK says so of what is written too.
    const fn is_unchecked(self, of: Type) -> bool {
        self.application == 0xffff
            && match of {
                Type::One | Type::Two => true,
                Type::Three => self.reference == 0xffff_ffff,
            }
    }
}

/// The tags that a CDB of 32 bytes expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tags {
    /// EXPECTED INITIAL LOGICAL BLOCK REFERENCE TAG
    pub reference: u32,
    /// EXPECTED LOGICAL BLOCK APPLICATION TAG
    pub application: u16,
    /// LOGICAL BLOCK APPLICATION TAG MASK
    pub mask: u16,
}

/// Where protection information is that goes with a command's data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sent {
    /// Behind each block, as on a wire.
    #[default]
    Behind,
    /// In memory of its own.
    Beside,
    /// Nowhere: the initiator's side knows of none. Its port makes that of what is written, and drops that of what is read.
    Made,
}

/// What a CDB says of protection information.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// RDPROTECT, WRPROTECT, VRPROTECT or ORPROTECT: 000b to 101b.
    pub code: u8,
    /// The tags, on a unit with type 2.
    pub tags: Option<Tags>,
    /// Where what it asks for is: the port's to say.
    pub sent: Sent,
}

impl Fields {
    /// Protection information comes or goes with the data.
    pub const fn transfers(&self) -> bool {
        self.code != 0 && !matches!(self.sent, Sent::Made)
    }

    /// It does so in memory of its own.
    pub const fn beside(&self) -> bool {
        self.code != 0 && matches!(self.sent, Sent::Beside)
    }

    /// Bytes of a block of `size` in the data.
    pub const fn block(&self, size: BlockSize) -> u32 {
        let behind = self.code != 0 && matches!(self.sent, Sent::Behind);
        size.bytes()
            .wrapping_add(if behind { TUPLE as u32 } else { 0 })
    }
}

/// Which parts of protection information are checked, or compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checks {
    /// The guard.
    pub guard: bool,
    /// The application tag, where it is known what it is to be.
    pub application: bool,
    /// The reference tag, where it is known what it is to be.
    pub reference: bool,
}

impl Checks {
    const NONE: Self = Self::of(false, false);

    const fn of(guard: bool, tags: bool) -> Self {
        Self {
            guard,
            application: tags,
            reference: tags,
        }
    }

    /// Anything is checked.
    pub const fn any(self) -> bool {
        self.guard || self.application || self.reference
    }
}

/// The check that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// The guard.
    Guard,
    /// The application tag.
    Application,
    /// The reference tag.
    Reference,
}

impl Failed {
    /// The sense that tells of it, at the block `lba`: with ABORTED COMMAND for a check, MISCOMPARE for a comparison.
    pub const fn sense(self, key: Key, lba: u64) -> Sense {
        let asc = match self {
            Self::Guard => Asc::GUARD_CHECK_FAILED,
            Self::Application => Asc::APPLICATION_TAG_CHECK_FAILED,
            Self::Reference => Asc::REFERENCE_TAG_CHECK_FAILED,
        };
        Sense::new(key, asc).with_information(lba)
    }
}

/// A command on a unit that is formatted with protection information.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protection {
    /// With which type.
    pub of: Type,
    /// What the CDB says.
    pub fields: Fields,
    /// LOGICAL BLOCK ADDRESS
    pub first: u64,
    /// What is on the medium is checked: GRD_CHK, APP_CHK and REF_CHK (pi_prot_verify).
    pub checks_medium: bool,
    /// But not by commands that transfer no protection information (DPICZ).
    pub unless_zero: bool,
    /// Application tags are the application clients' own (ATO).
    pub owned: bool,
    /// What they are to be, where a mode page says that (ATMPE).
    pub ranges: Option<Ranges>,
}

impl Protection {
    /// The same for the blocks from the `done`th one on of a run that begins at `lba` and expects `tags`, of a command that has several
    /// (SBC-4, 5.55 and 5.56).
    #[must_use]
    pub fn of_run(mut self, lba: u64, tags: Option<Tags>, done: u64) -> Self {
        self.first = lba.wrapping_add(done);
        self.fields.tags = match self.of {
            Type::One | Type::Three => None,
            Type::Two => tags.map(|tags| Tags {
                reference: tags.reference.wrapping_add(low(done)),
                ..tags
            }),
        };
        self
    }

    /// What is checked of blocks that were read: RDPROTECT, VRPROTECT with BYTCHK 00b, and ORPROTECT (SBC-4, tables 67, 79 and 125).
    pub const fn read(&self) -> Checks {
        if !self.checks_medium {
            return Checks::NONE;
        }
        match self.fields.code {
            0b000 if self.unless_zero => Checks::NONE,
            0b000 | 0b001 | 0b101 => Checks::of(true, true),
            0b010 => Checks::of(false, true),
            0b100 => Checks::of(true, false),
            _ => Checks::NONE,
        }
    }

    /// What is checked of blocks that were read to be compared: VRPROTECT with BYTCHK 01b and 11b (SBC-4, table 126).
    pub const fn read_to_compare(&self) -> Checks {
        if self.fields.transfers() {
            Checks::NONE
        } else {
            self.read()
        }
    }

    /// What is checked of blocks that the initiator sent (SBC-4, tables 68, 127 and 133). What may be checked is.
    pub const fn received(&self) -> Checks {
        match self.fields.code {
            _ if !self.fields.transfers() => Checks::NONE,
            0b001 | 0b101 => Checks::of(true, true),
            0b010 => Checks::of(false, true),
            0b100 => Checks::of(true, false),
            _ => Checks::NONE,
        }
    }

    /// What is compared beside the data: VRPROTECT with BYTCHK 01b and 11b (SBC-4, table 128).
    pub const fn compared(&self) -> Checks {
        let reference = match self.of {
            Type::One | Type::Two => true,
            Type::Three => self.owned,
        };
        let application = self.owned;
        match self.fields.code {
            _ if !self.fields.transfers() => Checks::NONE,
            0b001 | 0b011 | 0b100 => Checks {
                guard: true,
                application,
                reference,
            },
            0b010 => Checks {
                guard: false,
                application,
                reference,
            },
            0b101 => Checks {
                guard: true,
                application,
                reference: false,
            },
            _ => Checks::NONE,
        }
    }

    /// The reference tag of the block that comes `index` blocks behind the first one, where it is known (SBC-4, tables 24 and 25).
    fn reference(&self, index: u64) -> Option<u32> {
        let first = match (self.of, self.fields.tags) {
            (Type::One, _) => self.first,
            (Type::Two, Some(tags)) => tags.reference.into(),
            (Type::Two, None) | (Type::Three, _) => return None,
        };
        Some(low(first.wrapping_add(index)))
    }

    /// The application tag of that block, where it is known, and the bits of it that matter: what the CDB expects, or else what the
    /// application tag mode page says.
    fn application(&self, index: u64) -> Option<(u16, u16)> {
        if !self.owned {
            return None;
        }
        match (self.fields.tags, &self.ranges) {
            (Some(tags), _) => Some((tags.application, tags.mask)),
            (None, Some(ranges)) => Some((ranges.tag(self.first.wrapping_add(index)), 0xffff)),
            (None, None) => None,
        }
    }

    /// `checks` find nothing wrong with `tuple`, which belongs to the block `index` blocks behind the first one, whose data has the
    /// CRC `guard`.
    ///
    /// # Errors
    /// The check that fails; of several the guard's first, then the application tag's.
    pub fn check(
        &self,
        checks: Checks,
        index: u64,
        tuple: Tuple,
        guard: u16,
    ) -> Result<(), Failed> {
        if tuple.is_unchecked(self.of) {
            return Ok(());
        }
        if checks.guard && tuple.guard != guard {
            return Err(Failed::Guard);
        }
        if let Some((expected, mask)) = self.application(index) {
            if checks.application && (tuple.application ^ expected) & mask != 0 {
                return Err(Failed::Application);
            }
        }
        match self.reference(index) {
            Some(expected) if checks.reference && expected != tuple.reference => {
                Err(Failed::Reference)
            }
            _ => Ok(()),
        }
    }

    /// What is on the medium beside a block, `medium`, is what the initiator sent, `sent`. Where it sent one block for all of them,
    /// `index` is how far behind the first one this is; otherwise 0.
    ///
    /// # Errors
    /// What differs.
    pub fn compare(&self, index: u64, medium: Tuple, sent: Tuple) -> Result<(), Failed> {
        let checks = self.compared();
        let sent = self.repeated(sent, index);
        if medium.is_unchecked(self.of) {
            return Ok(());
        }
        if checks.guard && medium.guard != sent.guard {
            return Err(Failed::Guard);
        }
        // What is behind the first block matters only to whether there is a mask.
        if let Some((_, mask)) = self.application(index) {
            if checks.application && (medium.application ^ sent.application) & mask != 0 {
                return Err(Failed::Application);
            }
        }
        if checks.reference && medium.reference != sent.reference {
            return Err(Failed::Reference);
        }
        Ok(())
    }

    /// The protection information of a block that was sent without any, `index` blocks behind the first one, and whose data has
    /// the CRC `guard` (SBC-4, table 133, footnotes f to h).
    ///
    /// What a port makes of it has the tags that the CDB expects.
    pub fn generate(&self, index: u64, guard: u16) -> Tuple {
        let made = matches!(self.fields.sent, Sent::Made) && self.fields.code != 0;
        if let (true, Type::Two, Some(tags)) = (made, self.of, self.fields.tags) {
            return Tuple {
                guard,
                application: tags.application & tags.mask,
                reference: tags.reference.wrapping_add(low(index)),
            };
        }
        let reference = match self.of {
            Type::One => low(self.first.wrapping_add(index)),
            Type::Two | Type::Three => 0xffff_ffff,
        };
        let application = match self.ranges {
            _ if !self.owned => 0,
            Some(ranges) => ranges.tag(self.first.wrapping_add(index)),
            None => 0xffff,
        };
        Tuple {
            guard,
            application,
            reference,
        }
    }

    /// The protection information of the block `index` blocks behind the first one, where `sent` was sent for all of them
    /// (SBC-4, 5.52).
    pub fn repeated(&self, sent: Tuple, index: u64) -> Tuple {
        match self.of {
            Type::One | Type::Two => Tuple {
                reference: sent.reference.wrapping_add(low(index)),
                ..sent
            },
            Type::Three => sent,
        }
    }
}

/// The least significant four bytes.
const fn low(number: u64) -> u32 {
    (number & 0xffff_ffff) as u32
}

/// The SPT field of VPD page 86h (SPC-5, 7.8.7): the unit can be formatted with each type.
pub const ALL_TYPES: u8 = 0b111;
/// See [`ALL_TYPES`].
pub const TYPE_1_ALONE: u8 = 0b000;
/// See [`ALL_TYPES`].
pub const TYPE_3_ALONE: u8 = 0b100;
