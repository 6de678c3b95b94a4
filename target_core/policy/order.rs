// SPDX-License-Identifier: GPL-2.0

//! ORDERED commands of a task set (SAM-5, 8.6): which of them there are, and which of them are over.
//!
//! Each ORDERED command has a number. A SIMPLE command has to wait for those ORDERED ones that were there before it. An ORDERED
//! one has to wait for everything that was there before it. HEAD OF QUEUE commands wait for none.

/// How many ORDERED commands a task set holds at once. What is more is answered with TASK SET FULL.
pub const MOST: u64 = 64;

/// What a command has to wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// Nothing.
    #[default]
    Free,
    /// The ORDERED commands with numbers below this one: a SIMPLE command.
    After(u64),
    /// All that was there before it: the ORDERED command with this number.
    Ordered(u64),
}

impl Place {
    /// The command is ORDERED.
    pub const fn is_ordered(self) -> bool {
        matches!(self, Self::Ordered(_))
    }
}

/// The ORDERED commands of one task set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ordered {
    /// How many there were: the next one's number.
    admitted: u64,
    /// Those below are over.
    done: u64,
    /// Bit n: that with the number `done + 1 + n` is over, too.
    over: u64,
}

impl Ordered {
    /// None yet.
    pub const fn new() -> Self {
        Self {
            admitted: 0,
            done: 0,
            over: 0,
        }
    }

    /// How many there were.
    pub const fn admitted(&self) -> u64 {
        self.admitted
    }

    /// Those with numbers below this one are over; the one with this number is the first that is not, if it is there.
    pub const fn done(&self) -> u64 {
        self.done
    }

    /// One more: its number. `None` if there are too many.
    pub fn admit(&mut self) -> Option<u64> {
        let number = self.admitted;
        if number.saturating_sub(self.done) >= MOST {
            return None;
        }
        self.admitted = number.checked_add(1)?;
        Some(number)
    }

    /// One is over: in whatever order, each one once.
    pub fn end(&mut self, number: u64) {
        let Some(ahead) = number.checked_sub(self.done) else {
            return;
        };
        if let Some(bit) = ahead.checked_sub(1) {
            let bit = u32::try_from(bit).unwrap_or(u32::MAX);
            self.over |= 1u64.checked_shl(bit).unwrap_or(0);
            return;
        }
        loop {
            self.done = self.done.saturating_add(1);
            let next_is_over = self.over & 1 != 0;
            self.over >>= 1;
            if !next_is_over {
                return;
            }
        }
    }

    /// The command may begin as far as ORDERED ones are concerned; an ORDERED one when it is the first that is not over.
    pub const fn lets(&self, place: Place) -> bool {
        match place {
            Place::Free => true,
            Place::After(n) => n <= self.done,
            Place::Ordered(n) => n == self.done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn each_waits_for_those_before_it() {
        let mut set = Ordered::new();
        assert!(set.lets(Place::Free) && set.lets(Place::After(0)));
        let first = set.admit().unwrap();
        let between = Place::After(set.admitted());
        let second = set.admit().unwrap();
        let last = Place::After(set.admitted());
        assert!(set.lets(Place::After(0)) && set.lets(Place::Ordered(first)));
        assert!(!set.lets(between) && !set.lets(Place::Ordered(second)) && !set.lets(last));
        set.end(first);
        assert!(set.lets(between) && set.lets(Place::Ordered(second)) && !set.lets(last));
        set.end(second);
        assert!(set.lets(last) && set.lets(Place::Free));
    }

    #[test]
    fn an_aborted_one_is_over_before_its_turn() {
        let mut set = Ordered::new();
        let numbers: Vec<u64> = (0..4).map(|_| set.admit().unwrap()).collect();
        set.end(numbers[2]);
        set.end(numbers[1]);
        assert_eq!(set.done(), 0);
        set.end(numbers[0]);
        assert_eq!(set.done(), 3);
        set.end(numbers[3]);
        assert_eq!(set.done(), 4);
    }

    #[test]
    fn there_are_not_too_many() {
        let mut set = Ordered::new();
        for _ in 0..MOST {
            set.admit().unwrap();
        }
        assert_eq!(set.admit(), None);
        for number in (1..MOST).rev() {
            set.end(number);
        }
        assert_eq!((set.admit(), set.done()), (None, 0));
        set.end(0);
        assert_eq!((set.done(), set.admitted()), (MOST, MOST));
        assert_eq!(set.admit(), Some(MOST));
    }

    /// Against a plain set, in any order.
    #[test]
    fn done_is_the_first_that_is_not_over() {
        let mut seed = 1u64;
        let mut random = move |below: usize| {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (seed >> 33) as usize % below
        };
        let (mut set, mut there) = (Ordered::new(), Vec::new());
        for _ in 0..100_000 {
            if there.is_empty() || random(2) == 0 {
                match set.admit() {
                    Some(number) => there.push(number),
                    None => assert!(set.admitted() - set.done() == MOST),
                }
            } else {
                let at = random(there.len());
                set.end(there.swap_remove(at));
            }
            let first = there.iter().copied().min().unwrap_or(set.admitted());
            assert_eq!(set.done(), first);
        }
    }
}
