// SPDX-License-Identifier: GPL-2.0

//! Logical unit numbers and their eight bytes (SAM-5, 4.7).

/// The number of a logical unit of one target port, 0 to 65,535 as in configfs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lun(pub u16);

impl Lun {
    /// LUN 0, which answers REPORT LUNS whether or not there is a unit.
    pub const ZERO: Self = Self(0);

    /// The LUN that `wire` addresses.
    ///
    /// - Peripheral device addressing, where what SAM calls the bus identifier counts as the upper byte of the number: the
    ///   stock modules report LUN 256 as `01 00`, and initiators have that in their device names;
    /// - flat space addressing;
    /// - extended flat space addressing with three bytes.
    ///
    /// `None` for what cannot be a unit of ours: other methods, a second level. Such a LUN is to be answered as any other that
    /// does not exist.
    pub const fn parse(wire: [u8; 8]) -> Option<Self> {
        let [b0, b1, b2, b3, b4, b5, b6, b7] = wire;
        if b4 | b5 | b6 | b7 != 0 {
            return None;
        }
        match b0 {
            0x00..=0x3f if b2 | b3 == 0 => Some(Self(u16::from_be_bytes([b0, b1]))),
            0x40..=0x7f if b2 | b3 == 0 => Some(Self(u16::from_be_bytes([b0 & 0x3f, b1]))),
            0xd2 if b1 == 0 => Some(Self(u16::from_be_bytes([b2, b3]))),
            _ => None,
        }
    }

    /// Its eight bytes, which [`Lun::parse`] reads back: the form of the stock modules up to 16,383, extended flat space
    /// addressing above (the stock modules' form would read as another LUN there).
    pub const fn to_bytes(self) -> [u8; 8] {
        let [hi, lo] = self.0.to_be_bytes();
        match hi {
            0..=0x3f => [hi, lo, 0, 0, 0, 0, 0, 0],
            _ => [0xd2, 0, hi, lo, 0, 0, 0, 0],
        }
    }
}
