// SPDX-License-Identifier: GPL-2.0

//! Protection information as SBC-4's tables have it, row by row, and a CRC bit by bit.

/// A row of a table: whether the guard, the application tag and the reference tag are looked at.
type Row = [bool; 3];
const NO: bool = false;
const YES: bool = true;

/// Tables 67, 79 and 125: RDPROTECT, VRPROTECT and ORPROTECT, what was read. GRD_CHK, APP_CHK and REF_CHK are one.
pub const READ: [Row; 6] = [
    [YES, YES, YES],
    [YES, YES, YES],
    [NO, YES, YES],
    [NO, NO, NO],
    [YES, NO, NO],
    [YES, YES, YES],
];

/// Table 126: what was read to be compared.
pub const READ_TO_COMPARE: [Row; 6] = [
    [YES, YES, YES],
    [NO, NO, NO],
    [NO, NO, NO],
    [NO, NO, NO],
    [NO, NO, NO],
    [NO, NO, NO],
];

/// Tables 68, 127 and 133: what was sent. "May" and "dependent on RWWP" are yes.
pub const SENT: [Row; 6] = [
    [NO, NO, NO],
    [YES, YES, YES],
    [NO, YES, YES],
    [NO, NO, NO],
    [YES, NO, NO],
    [YES, YES, YES],
];

/// Table 128: what is compared, with ATO set to one and a type other than 3.
pub const COMPARED: [Row; 6] = [
    [NO, NO, NO],
    [YES, YES, YES],
    [NO, YES, YES],
    [YES, YES, YES],
    [YES, YES, YES],
    [YES, YES, NO],
];

/// A command's view of it. `kind` is 1 to 3.
pub struct Command {
    /// The type of protection.
    pub kind: u8,
    /// LOGICAL BLOCK ADDRESS
    pub lba: u64,
    /// Initial reference tag, application tag and its mask: of a CDB of 32 bytes.
    pub tags: Option<(u32, u16, u16)>,
    /// ATO
    pub owned: bool,
    /// The application tag mode page, with ATMPE: the tag of the blocks before an address, of those from there on, the address.
    pub by_range: Option<(u16, u16, u64)>,
}

impl Command {
    /// Nothing of it is checked (4.21.3).
    pub fn escapes(&self, tuple: &[u8; 8]) -> bool {
        tuple[2..4] == [0xff; 2] && (self.kind != 3 || tuple[4..] == [0xff; 4])
    }

    /// ATO, as it is set.
    pub fn ato(&self) -> bool {
        self.owned
    }

    /// What the application tag mode page says of a block.
    pub fn by_range(&self, index: u64) -> Option<u16> {
        let (before, behind, from) = self.by_range?;
        let lba = self.lba.wrapping_add(index);
        Some(if lba < from { before } else { behind })
    }

    /// The application tag that is known, and its mask (4.21.3): with ATO, what the CDB expects, else the mode page's.
    pub fn application(&self, index: u64) -> Option<(u16, u16)> {
        match self.tags {
            _ if !self.ato() => None,
            Some((_, expected, mask)) => Some((expected, mask)),
            None => Some((self.by_range(index)?, 0xffff)),
        }
    }

    /// Tables 24 and 25; `None`: not known.
    pub fn reference(&self, index: u64) -> Option<[u8; 4]> {
        let first = match (self.kind, self.tags) {
            (1, _) => self.lba % (1 << 32),
            (2, Some((first, _, _))) => first.into(),
            _ => return None,
        };
        let all = (u128::from(first) + u128::from(index)) % (1 << 32);
        Some((all as u32).to_be_bytes())
    }

    /// What of a row's checks finds `tuple` wrong: guard, application tag, reference tag.
    pub fn wrong(&self, row: Row, index: u64, tuple: &[u8; 8], guard: u16) -> Row {
        if self.escapes(tuple) {
            return [NO; 3];
        }
        let application = u16::from_be_bytes([tuple[2], tuple[3]]);
        let bad_application = self
            .application(index)
            .is_some_and(|(expected, mask)| application & mask != expected & mask);
        let bad_reference = self
            .reference(index)
            .is_some_and(|expected| tuple[4..] != expected);
        [
            row[0] && tuple[..2] != guard.to_be_bytes(),
            row[1] && bad_application,
            row[2] && bad_reference,
        ]
    }
}

/// 4.21.4: the remainder by 18BB7h.
pub fn crc(data: &[u8]) -> u16 {
    let mut rest = 0u32;
    for byte in data.iter().chain(&[0, 0]) {
        for bit in (0..8).rev() {
            rest = rest << 1 | u32::from(byte >> bit & 1);
            if rest & 0x1_0000 != 0 {
                rest ^= 0x1_8bb7;
            }
        }
    }
    rest as u16
}
