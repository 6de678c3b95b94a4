// SPDX-License-Identifier: GPL-2.0

//! FORMAT UNIT and SANITIZE: what of a medium is left by them (SBC-4, 4.11, 5.5 and 5.27).

use crate::{bytes::be16, lba::BlockSize, pi, sense::Sense};

/// Bytes of FORMAT UNIT's parameter list: its short and its long header.
const SHORT_HEADER: u32 = 4;
const LONG_HEADER: u32 = 8;
/// Bytes of SANITIZE's overwrite parameter list before the pattern.
const OVERWRITE_HEADER: usize = 4;

/// FORMAT UNIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// There is a parameter list, with the long header or the short one (FMTDATA, LONGLIST).
    pub list: Option<bool>,
    /// FMTPINFO: 00b, 10b or 11b.
    pub protection: u8,
}

/// What FORMAT UNIT is to do, by its CDB and its parameter list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Formatting {
    /// Answer when it has begun (IMMED).
    pub immediate: bool,
    /// The unit has protection information of this type afterwards.
    pub protection: Option<pi::Type>,
}

/// SANITIZE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sanitize {
    /// How.
    pub how: How,
    /// Answer when it has begun (IMMED).
    pub immediate: bool,
    /// What failed may be given up by EXIT FAILURE MODE (AUSE).
    pub unrestricted: bool,
}

/// The service actions of SANITIZE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// OVERWRITE with a parameter list of this length.
    Overwrite(u16),
    /// BLOCK ERASE
    BlockErase,
    /// EXIT FAILURE MODE
    ExitFailureMode,
}

impl Format {
    /// Bytes of the parameter list, without a defect list, which there may not be.
    pub const fn list_length(&self) -> u32 {
        match self.list {
            None => 0,
            Some(false) => SHORT_HEADER,
            Some(true) => LONG_HEADER,
        }
    }

    /// What is to be done by the parameter list, of which there is as much as [`Format::list_length`] at least.
    ///
    /// # Errors
    /// PARAMETER LIST LENGTH ERROR; INVALID FIELD IN PARAMETER LIST for a PROTECTION FIELD USAGE that does not go with FMTPINFO
    /// (SBC-4, table 44), for smaller protection information intervals, for vendor specific bits, for an initialization pattern,
    /// for defects, and for options without FOV.
    pub fn parse(&self, list: &[u8]) -> Result<Formatting, Sense> {
        const USAGE: u8 = 0x07;
        const FOV: u8 = 0x80;
        // DPRY, DCRT, STPF: about defects, of which there are none.
        const OPTIONS: u8 = 0x70;
        const IP: u8 = 0x08;
        const IMMED: u8 = 0x02;
        let Some(long) = self.list else {
            return Ok(Formatting {
                immediate: false,
                protection: None,
            });
        };
        let header = usize::try_from(self.list_length()).unwrap_or(0);
        let list = list.get(..header).ok_or(Sense::PARAMETER_LIST_LENGTH)?;
        let (&[protection, flags], rest) = list
            .split_first_chunk::<2>()
            .ok_or(Sense::PARAMETER_LIST_LENGTH)?;
        if protection & !USAGE != 0 {
            return Err(Sense::invalid_parameter_byte(0));
        }
        let protection = match (self.protection, protection) {
            (0b00, 0b000) => None,
            (0b10, 0b000) => Some(pi::Type::One),
            (0b11, 0b000) => Some(pi::Type::Two),
            (0b11, 0b001) => Some(pi::Type::Three),
            _ => return Err(Sense::invalid_parameter_bit(0, 2)),
        };
        if flags & !(FOV | OPTIONS | IMMED) != 0 || flags & IP != 0 {
            return Err(Sense::invalid_parameter_byte(1));
        }
        if flags & FOV == 0 && flags & OPTIONS != 0 {
            return Err(Sense::invalid_parameter_byte(1));
        }
        // DEFECT LIST LENGTH is the last field of either; in the long one P_I_INFORMATION and PROTECTION INTERVAL EXPONENT precede.
        if let Some(at) = rest.iter().position(|byte| *byte != 0) {
            let field = match (long, at) {
                (false, _) => 2,
                (true, 0) => 2,
                (true, 1) => 3,
                (true, _) => 4,
            };
            return Err(Sense::invalid_parameter_byte(field));
        }
        Ok(Formatting {
            immediate: flags & IMMED != 0,
            protection,
        })
    }
}

/// With what SANITIZE overwrites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overwrite<'a> {
    /// How often.
    pub passes: u8,
    /// Each pass has the complement of the one before.
    pub invert: bool,
    /// What each block is filled with, again and again.
    pub pattern: &'a [u8],
}

impl<'a> Overwrite<'a> {
    /// PARAMETER LIST LENGTH has room for a pattern of no more than a block of `size`.
    ///
    /// # Errors
    /// INVALID FIELD IN CDB.
    pub fn check_length(length: u16, size: BlockSize) -> Result<(), Sense> {
        let least = 5;
        let most = size.bytes().saturating_add(4);
        if length < least || u32::from(length) > most {
            return Err(Sense::invalid_cdb_byte(7));
        }
        Ok(())
    }

    /// Reads the parameter list.
    ///
    /// # Errors
    /// PARAMETER LIST LENGTH ERROR for one that is cut off; INVALID FIELD IN PARAMETER LIST for no passes, a test, or a pattern
    /// of no bytes or of more than a block.
    pub fn parse(list: &'a [u8], size: BlockSize) -> Result<Self, Sense> {
        let (&[flags, reserved], _) = list
            .split_first_chunk::<2>()
            .ok_or(Sense::PARAMETER_LIST_LENGTH)?;
        let length = be16(list, 2).ok_or(Sense::PARAMETER_LIST_LENGTH)?;
        let passes = flags & 0x1f;
        // TEST is vendor specific.
        if passes == 0 || flags & 0x60 != 0 {
            return Err(Sense::invalid_parameter_byte(0));
        }
        if reserved != 0 {
            return Err(Sense::invalid_parameter_byte(1));
        }
        if length == 0 || u32::from(length) > size.bytes() {
            return Err(Sense::invalid_parameter_byte(2));
        }
        let pattern = list
            .get(OVERWRITE_HEADER..)
            .and_then(|list| list.get(..usize::from(length)))
            .ok_or(Sense::PARAMETER_LIST_LENGTH)?;
        Ok(Self {
            passes,
            invert: flags & 0x80 != 0,
            pattern,
        })
    }

    /// Fills `block` as pass number `pass`, from 0, has it.
    pub fn fill(&self, pass: u8, block: &mut [u8]) {
        let mask = if self.invert && pass & 1 != 0 {
            0xff
        } else {
            0
        };
        for piece in block.chunks_mut(self.pattern.len().max(1)) {
            for (to, from) in piece.iter_mut().zip(self.pattern) {
                *to = from ^ mask;
            }
        }
    }
}

/// PROGRESS INDICATION: how much of `all` is done, in 65,536ths (SPC-4, 4.5.2.4.4).
pub fn progress(done: u64, all: u64) -> u16 {
    // Only the highest 48 bits count.
    let shift = 16u32.saturating_sub(all.leading_zeros());
    let done = done.min(all).wrapping_shr(shift).wrapping_shl(16);
    let part = done.checked_div(all.wrapping_shr(shift));
    u16::try_from(part.unwrap_or(0)).unwrap_or(u16::MAX)
}
