// SPDX-License-Identifier: GPL-2.0

//! Blocks with pseudo unrecovered errors (SBC-4, 4.18.2): WRITE LONG makes them, reading finds them, writing clears them.

/// Blocks of one medium that can be marked at a time.
pub const MOST: usize = 256;

/// Those of a medium: the positions of their first bytes.
#[derive(Clone, Debug)]
pub struct Flaws {
    at: [u64; MOST],
    count: usize,
}

impl Default for Flaws {
    fn default() -> Self {
        Self::new()
    }
}

impl Flaws {
    /// None.
    pub const fn new() -> Self {
        Self {
            at: [0; MOST],
            count: 0,
        }
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn all(&self) -> &[u64] {
        self.at.get(..self.count).unwrap_or(&[])
    }

    /// Marks the block at `pos`; whether there was room.
    pub fn mark(&mut self, pos: u64) -> bool {
        if self.all().contains(&pos) {
            return true;
        }
        match self.at.get_mut(self.count) {
            Some(slot) => {
                *slot = pos;
                self.count = self.count.saturating_add(1);
                true
            }
            None => false,
        }
    }

    /// The first in `len` bytes from `pos` on.
    pub fn first(&self, pos: u64, len: u64) -> Option<u64> {
        let inside = |at: &&u64| is_inside(**at, pos, len);
        self.all().iter().filter(inside).min().copied()
    }

    /// `len` bytes from `pos` on are as good as new.
    pub fn clear(&mut self, pos: u64, len: u64) {
        let mut kept = 0;
        for index in 0..self.count {
            let Some(at) = self.at.get(index).copied() else {
                break;
            };
            if !is_inside(at, pos, len) {
                if let Some(slot) = self.at.get_mut(kept) {
                    *slot = at;
                    kept = kept.saturating_add(1);
                }
            }
        }
        self.count = kept;
    }
}

fn is_inside(at: u64, pos: u64, len: u64) -> bool {
    at.checked_sub(pos).is_some_and(|offset| offset < len)
}

#[cfg(test)]
mod tests {
    use super::{Flaws, MOST};

    #[test]
    fn marked_found_and_cleared() {
        let mut flaws = Flaws::new();
        assert!(flaws.mark(1024) && flaws.mark(512) && flaws.mark(1024));
        assert_eq!(flaws.len(), 2);
        assert_eq!(flaws.first(0, u64::MAX), Some(512));
        assert_eq!(
            (flaws.first(0, 512), flaws.first(513, 512)),
            (None, Some(1024))
        );
        assert_eq!(flaws.first(1025, u64::MAX), None);
        flaws.clear(0, 1024);
        assert_eq!(flaws.first(0, u64::MAX), Some(1024));
        flaws.clear(0, u64::MAX);
        assert!(flaws.is_empty());
    }

    #[test]
    fn no_more_than_there_is_room_for() {
        let mut flaws = Flaws::new();
        for n in 0..MOST as u64 {
            assert!(flaws.mark(n * 4096));
        }
        assert!(!flaws.mark(1) && flaws.mark(4096));
        flaws.clear(4096, 1);
        assert!(flaws.mark(1) && !flaws.mark(2));
    }
}
