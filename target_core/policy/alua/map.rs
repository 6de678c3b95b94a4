// SPDX-License-Identifier: GPL-2.0

//! User data segments: which target port group is what for which blocks (SBC-3, 4.25), as the file `lba_map` has it.
//!
//! ```text
//! SIZE MULTIPLIER
//! FIRST LAST GROUP:STATE GROUP:STATE …
//! ```
//!
//! Each further line is a segment, with the same number of groups; a STATE is O, A, S or U, for active/optimized,
//! active/non-optimized, standby and unavailable. With a MULTIPLIER other than zero, a segment is SIZE blocks from FIRST on, and
//! again each SIZE × MULTIPLIER blocks; with zero it is the blocks FIRST to LAST.

use super::Admission;
use lio_scsi::{
    alua::{Member, State},
    lba::{Extent, Lba},
    sense::Sense,
};

/// Segments that a map has at most; a value of configfs has no room for more.
pub const MAX_SEGMENTS: usize = 512;
/// Groups that all its segments name at most.
pub const MAX_MEMBERS: usize = 1024;

/// A segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Its first block.
    pub first: Lba,
    /// Its last block.
    pub last: Lba,
}

/// What is wrong with a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// The line with this number, from 1, is none of a map.
    Line(usize),
    /// There are more segments or groups than there is room for.
    TooLong,
}

/// A map, over storage of its owner's.
#[derive(Clone, Copy, Debug)]
pub struct Map<'a> {
    /// Blocks in a segment (USER DATA SEGMENT SIZE); 0 where segments say it themselves.
    pub size: u32,
    /// Segments until the first comes again (USER DATA SEGMENT MULTIPLIER); 0: never.
    pub multiplier: u32,
    segments: &'a [Segment],
    members: &'a [Member],
}

impl<'a> Map<'a> {
    /// Reads the text of a map into `segments` and `members`. `None` for a text without lines, which asks for no map.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(
        text: &str,
        segments: &'a mut [Segment],
        members: &'a mut [Member],
    ) -> Result<Option<Self>, MapError> {
        let mut lines = text
            .split('\n')
            .enumerate()
            .map(|(at, line)| (at.saturating_add(1), line.trim()))
            .filter(|(_, line)| !line.is_empty());
        let Some((at, head)) = lines.next() else {
            return Ok(None);
        };
        let (size, multiplier) = head
            .split_once(' ')
            .and_then(|(size, multiplier)| Some((number(size)?, number(multiplier.trim_start())?)))
            .ok_or(MapError::Line(at))?;
        let (size, multiplier) = u32::try_from(size)
            .ok()
            .zip(u32::try_from(multiplier).ok())
            .filter(|(size, multiplier)| *size != 0 || *multiplier == 0)
            .ok_or(MapError::Line(at))?;
        let (mut count, mut used, mut width) = (0usize, 0usize, None);
        for (at, line) in lines {
            let wrong = MapError::Line(at);
            let mut words = line.split(' ').filter(|word| !word.is_empty());
            let mut address = || words.next().and_then(number).map(Lba).ok_or(wrong);
            let segment = Segment {
                first: address()?,
                last: address()?,
            };
            let before = segments.get(..count).unwrap_or(&[]);
            if !fits(segment, before, size, multiplier) {
                return Err(wrong);
            }
            *segments.get_mut(count).ok_or(MapError::TooLong)? = segment;
            count = count.saturating_add(1);
            let start = used;
            for word in words {
                let member = member(word).ok_or(wrong)?;
                let here = members.get(start..used).unwrap_or(&[]);
                if here.iter().any(|held| held.group == member.group) {
                    return Err(wrong);
                }
                *members.get_mut(used).ok_or(MapError::TooLong)? = member;
                used = used.saturating_add(1);
            }
            let here = used.saturating_sub(start);
            if here == 0 || here > 255 || *width.get_or_insert(here) != here {
                return Err(wrong);
            }
        }
        if count == 0 {
            // Sizes of nothing.
            return Err(MapError::Line(at));
        }
        Ok(Some(Self {
            size,
            multiplier,
            segments: segments.get(..count).unwrap_or(&[]),
            members: members.get(..used).unwrap_or(&[]),
        }))
    }

    /// A map of what [`Self::parts`] gave.
    pub const fn new(
        size: u32,
        multiplier: u32,
        segments: &'a [Segment],
        members: &'a [Member],
    ) -> Self {
        Self {
            size,
            multiplier,
            segments,
            members,
        }
    }

    /// The segments, and all their groups in one list.
    pub const fn parts(&self) -> (&'a [Segment], &'a [Member]) {
        (self.segments, self.members)
    }

    /// The segments with the groups that each names.
    pub fn segments(&self) -> impl Iterator<Item = (Segment, &'a [Member])> + 'a {
        let width = self
            .members
            .len()
            .checked_div(self.segments.len())
            .unwrap_or(0);
        let members = self.members.chunks(width.max(1));
        self.segments.iter().copied().zip(members)
    }

    /// Blocks after which the segments come again; 0: they do not.
    const fn period(&self) -> u64 {
        (self.size as u64).saturating_mul(self.multiplier as u64)
    }

    /// The number of the segment that `lba` is in, and how many blocks from `lba` on are in it.
    fn find(&self, lba: Lba) -> Option<(usize, u64)> {
        let at = lba.0.checked_rem(self.period()).unwrap_or(lba.0);
        self.segments
            .iter()
            .map(|segment| (segment.first.0, self.end(*segment)))
            .enumerate()
            .find(|(_, (first, end))| (*first..=*end).contains(&at))
            .map(|(index, (_, end))| (index, end.saturating_sub(at).saturating_add(1)))
    }

    /// The last block of `segment`.
    const fn end(&self, segment: Segment) -> u64 {
        end(segment, self.size, self.multiplier)
    }

    /// Decides on a command that addresses `extent` through a port of `group` in the logical block dependent state. A segment that
    /// does not name the group can be accessed, as with the stock modules.
    pub fn check(&self, group: u16, extent: Extent) -> Admission {
        // Once around is all of them.
        let most = match self.period() {
            0 => u64::MAX,
            period => period,
        };
        let (mut at, mut left) = (extent.lba, extent.blocks.0.min(most));
        while left != 0 {
            let Some((index, here)) = self.find(at) else {
                return Admission::Refuse(Sense::ALUA_UNAVAILABLE);
            };
            let members = self.segments().nth(index).map_or(&[][..], |(_, m)| m);
            match members.iter().find(|m| m.group == group).map(|m| m.state) {
                Some(State::Standby) => return Admission::Refuse(Sense::ALUA_STANDBY),
                Some(State::Unavailable) => return Admission::Refuse(Sense::ALUA_UNAVAILABLE),
                _ => (),
            }
            left = left.saturating_sub(here);
            at = match at.0.checked_add(here) {
                Some(next) => Lba(next),
                None if left == 0 => break,
                // Beyond the last address there is no segment.
                None => return Admission::Refuse(Sense::ALUA_UNAVAILABLE),
            };
        }
        Admission::Process
    }

    /// The segments that REPORT REFERRALS tells of: from the one on that `lba` is in, or that alone.
    pub fn from(&self, lba: Lba, one: bool) -> impl Iterator<Item = (Segment, &'a [Member])> + 'a {
        // Blocks of no segment are before the next one.
        let index = self.find(lba).map(|(index, _)| index).or_else(|| {
            self.segments
                .iter()
                .position(|segment| self.multiplier == 0 && segment.first > lba)
        });
        let most = if one { 1 } else { usize::MAX };
        self.segments()
            .skip(index.unwrap_or(self.segments.len()))
            .take(most)
    }
}

const fn end(segment: Segment, size: u32, multiplier: u32) -> u64 {
    if multiplier == 0 {
        segment.last.0
    } else {
        segment
            .first
            .0
            .saturating_add((size as u64).saturating_sub(1))
    }
}

/// `segment` has blocks, which are in none of those before; in order, so that the next one is behind it.
fn fits(segment: Segment, before: &[Segment], size: u32, multiplier: u32) -> bool {
    let end_of = |s: &Segment| end(*s, size, multiplier);
    let period = u64::from(size).saturating_mul(u64::from(multiplier));
    segment.first <= segment.last
        && before.last().is_none_or(|b| end_of(b) < segment.first.0)
        && (period == 0 || end_of(&segment) < period)
}

/// A decimal number.
fn number(word: &str) -> Option<u64> {
    let digits = word.bytes().all(|c| c.is_ascii_digit());
    word.parse().ok().filter(|_| digits)
}

/// `GROUP:STATE`
fn member(word: &str) -> Option<Member> {
    let (group, state) = word.split_once(':')?;
    Some(Member {
        group: u16::try_from(number(group)?).ok()?,
        state: match state {
            "O" => State::Optimized,
            "A" => State::NonOptimized,
            "S" => State::Standby,
            "U" => State::Unavailable,
            _ => return None,
        },
    })
}

/// The letter of a state, as the file has it.
pub const fn letter(state: State) -> char {
    match state {
        State::Optimized => 'O',
        State::NonOptimized => 'A',
        State::Standby => 'S',
        State::Unavailable => 'U',
        _ => '.',
    }
}
