// SPDX-License-Identifier: GPL-2.0

//! Where a command writes, in one word that others can look at: the regions of the medium that its blocks are in, as a range. Commands that meet
//! no common region write no common block; the reverse does not hold.

/// Blocks of a region, as a binary logarithm.
const SHIFT: u32 = 8;

/// A range of regions: the first in the upper half, the last in the lower one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Regions(u64);

impl Regions {
    /// Nowhere. No range has its first region behind its last one.
    pub const NONE: Self = Self(0xffff_ffff_0000_0000);
    /// Anywhere.
    pub const ALL: Self = Self(0x0000_0000_ffff_ffff);

    /// Those of `blocks` blocks from the address `lba` on.
    pub fn of(lba: u64, blocks: u64) -> Self {
        let Some(more) = blocks.checked_sub(1) else {
            return Self::NONE;
        };
        let region = |lba: u64| u32::try_from(lba.wrapping_shr(SHIFT));
        match (region(lba), region(lba.saturating_add(more))) {
            (Ok(first), Ok(last)) => Self(u64::from(first).wrapping_shl(32) | u64::from(last)),
            _ => Self::ALL,
        }
    }

    /// What [`Self::word`] gave.
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// The word.
    pub const fn word(self) -> u64 {
        self.0
    }

    /// Whether there is none.
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// Whether there is a region that is in both.
    pub fn meets(self, other: Self) -> bool {
        let ends = |r: Self| (r.0.wrapping_shr(32), r.0 & 0xffff_ffff);
        let ((first, last), (from, to)) = (ends(self), ends(other));
        !self.is_none() && !other.is_none() && first <= to && from <= last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_common_block_meets() {
        let edges = [
            0,
            1,
            255,
            256,
            257,
            511,
            512,
            (1 << 40) - 1,
            1 << 40,
            u64::MAX - 1,
            u64::MAX,
        ];
        let lengths = [0, 1, 2, 255, 256, 257, 512, u64::MAX];
        let all = || {
            edges
                .iter()
                .flat_map(|&lba| lengths.iter().map(move |&n| (lba, n)))
        };
        for (lba, n) in all() {
            let one = Regions::of(lba, n);
            assert_eq!(one.is_none(), n == 0);
            assert_eq!(Regions::from_word(one.word()), one);
            assert_eq!(one.meets(Regions::ALL), n != 0);
            assert!(!one.meets(Regions::NONE));
            for (from, m) in all() {
                let other = Regions::of(from, m);
                let last = |lba: u64, n: u64| lba.saturating_add(n.saturating_sub(1));
                let common = n != 0 && m != 0 && lba <= last(from, m) && from <= last(lba, n);
                assert!(!common || one.meets(other), "{lba} {n}, {from} {m}");
                assert_eq!(one.meets(other), other.meets(one));
            }
        }
    }

    #[test]
    fn what_is_far_away_does_not() {
        assert!(!Regions::of(0, 256).meets(Regions::of(256, 256)));
        assert!(!Regions::of(0, 1).meets(Regions::of(1 << 39, 1 << 20)));
        assert!(Regions::of(0, 257).meets(Regions::of(256, 1)));
        assert!(!Regions::NONE.meets(Regions::NONE));
        assert!(!Regions::NONE.meets(Regions::ALL));
    }
}
