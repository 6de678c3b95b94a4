// SPDX-License-Identifier: GPL-2.0

//! Asymmetric access as SPC-4 has it (5.15.2), in its own numbers: a logical unit with target port groups, ports in them, and
//! nexuses through these.

/// States, by their codes (table 306).
pub const STATES: [u8; 7] = [0x0, 0x1, 0x2, 0x3, 0x4, 0xe, 0xf];

/// Operation code and service action of the commands that a state lets through, beside those of the next list: SPC-4, 5.15.2.4.4;
/// READ CAPACITY, REPORT REFERRALS, REPORT SUPPORTED OPERATION CODES, and what is reported or set of the unit, as "the device server
/// may support other commands".
const STANDBY: [(u8, Option<u8>); 24] = [
    (0x15, None),
    (0x1a, None),
    (0x1c, None),
    (0x1d, None),
    (0x25, None),
    (0x3b, None),
    (0x3c, None),
    (0x4c, None),
    (0x4d, None),
    (0x55, None),
    (0x5a, None),
    (0x5e, None),
    (0x5f, None),
    (0x9b, None),
    (0x9e, Some(0x10)),
    (0x9e, Some(0x13)),
    (0xa3, Some(0x05)),
    (0xa3, Some(0x0c)),
    (0xa3, Some(0x0d)),
    (0xa3, Some(0x0e)),
    (0xa3, Some(0x0f)),
    (0xa4, Some(0x06)),
    (0xa4, Some(0x0e)),
    (0xa4, Some(0x0f)),
];
/// In the unavailable state (5.15.2.4.5).
const UNAVAILABLE: [(u8, Option<u8>); 1] = [(0xa4, Some(0x0a))];
/// In transitions (5.15.2.5), and whenever a port answers at all.
const ALWAYS: [(u8, Option<u8>); 4] =
    [(0x12, None), (0xa0, None), (0x03, None), (0xa3, Some(0x0a))];

/// The sense with which `state` refuses the command, if it does: NOT READY with ASC 04h and this qualifier. `None` also for the
/// logical block dependent state, which asks for the blocks.
pub fn refusal(state: u8, opcode: u8, action: Option<u8>) -> Option<u8> {
    let row = (opcode, action);
    let unavailable = ALWAYS.contains(&row) || UNAVAILABLE.contains(&row);
    let (lets, qualifier) = match state {
        0x2 => (
            unavailable || STANDBY.contains(&row) || STANDBY.contains(&(opcode, None)),
            0x0b,
        ),
        0x3 => (unavailable, 0x0c),
        0xe => (ALWAYS.contains(&row), 0x12),
        0xf => (ALWAYS.contains(&row), 0x0a),
        _ => (true, 0),
    };
    (!lets).then_some(qualifier)
}

/// A target port group.
#[derive(Clone, Debug)]
pub struct Group {
    pub id: u16,
    pub state: u8,
    /// In a transition: whence, and, where that is known, whither.
    whence: u8,
    pub whither: Option<u8>,
    pub status: u8,
    /// Codes of states.
    pub supported: Vec<u8>,
    pub implicit: bool,
    pub explicit: bool,
    /// Transitions take their time.
    pub slow: bool,
}

impl Group {
    pub fn new(id: u16) -> Self {
        Group {
            id,
            state: 0,
            whence: 0,
            whither: None,
            status: 0,
            supported: vec![0x0, 0x1, 0x2, 0x3, 0xe, 0xf],
            implicit: true,
            explicit: true,
            slow: false,
        }
    }
}

/// Why a state is not taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum No {
    State,
    Who,
    Now,
}

/// ASYMMETRIC ACCESS STATE CHANGED, and IMPLICIT ASYMMETRIC ACCESS STATE TRANSITION FAILED.
pub const CHANGED: (u8, u8) = (0x2a, 0x06);
pub const FAILED: (u8, u8) = (0x2a, 0x07);

/// The logical unit.
#[derive(Clone, Debug, Default)]
pub struct Unit {
    pub groups: Vec<Group>,
    /// Of each port: its group, and whether it is offline.
    pub ports: Vec<(usize, bool)>,
    /// Of each nexus: its port, and the conditions that wait.
    pub nexuses: Vec<(usize, Vec<(u8, u8)>)>,
}

impl Unit {
    /// The state in which a nexus finds its port: a secondary one goes before a primary one.
    pub fn seen(&self, nexus: usize) -> u8 {
        let (group, offline) = self.ports[self.nexuses[nexus].0];
        if offline {
            0xe
        } else {
            self.groups[group].state
        }
    }

    /// What is told to all nexuses but the one that asked (5.15.2.8).
    fn tell(&mut self, what: (u8, u8), but: Option<usize>) {
        for (n, (_, waiting)) in self.nexuses.iter_mut().enumerate() {
            if Some(n) != but && !waiting.contains(&what) {
                waiting.push(what);
            }
        }
    }

    /// A state may be asked for: by the nexus that sends SET TARGET PORT GROUPS, or by the administrator.
    pub fn may(&self, group: usize, to: u8, explicit: bool) -> Result<(), No> {
        let g = &self.groups[group];
        if !(if explicit { g.explicit } else { g.implicit }) {
            return Err(No::Who);
        }
        if !g.supported.contains(&to) {
            return Err(No::State);
        }
        if explicit && matches!(to, 0x4 | 0xe | 0xf) {
            return Err(No::State);
        }
        if to == 0x4 && g.explicit {
            return Err(No::Who);
        }
        if g.whither.is_some() || (explicit && g.state == 0xf) {
            return Err(No::Now);
        }
        Ok(())
    }

    /// Asks for a state.
    pub fn change(&mut self, group: usize, to: u8, by: Option<usize>) -> Result<(), No> {
        self.may(group, to, by.is_some())?;
        let g = &mut self.groups[group];
        if g.state == to {
            return Ok(());
        }
        g.status = if by.is_some() { 1 } else { 2 };
        let held = g.state == 0xf;
        if to == 0xf || g.slow {
            if !held {
                g.whence = g.state;
            }
            g.state = 0xf;
            g.whither = (to != 0xf).then_some(to);
            self.tell(CHANGED, by);
            return Ok(());
        }
        let failed = held && g.whence == to;
        g.state = to;
        self.tell(if failed { FAILED } else { CHANGED }, by);
        Ok(())
    }

    /// The time of a group's transition is over. `by`: who had asked for it.
    pub fn complete(&mut self, group: usize, by: Option<usize>) {
        let g = &mut self.groups[group];
        if let Some(to) = g.whither.take() {
            let failed = g.whence == to;
            g.state = to;
            self.tell(if failed { FAILED } else { CHANGED }, by);
        }
    }

    /// A port goes offline or comes back.
    pub fn offline(&mut self, port: usize, offline: bool, by: Option<usize>) {
        self.ports[port].1 = offline;
        self.tell(CHANGED, by);
    }

    /// SET TARGET PORT GROUPS (SPC-4, 6.45): `Err` is sense key, ASC and ASCQ.
    pub fn set(&mut self, nexus: usize, list: &[u8]) -> Result<(), (u8, u8, u8)> {
        const LIST: (u8, u8, u8) = (5, 0x26, 0);
        if list.len() % 4 != 0 {
            return Err((5, 0x1a, 0));
        }
        let wants: Vec<(u8, usize)> = list[4..]
            .chunks(4)
            .map(|d| (d[0] & 0xf, usize::from(d[2]) << 8 | usize::from(d[3])))
            .collect();
        let is_port = |state: u8| state == 0xe;
        // What no list may ask for comes before what this unit cannot do.
        for (n, (state, target)) in wants.iter().enumerate() {
            let twice = wants[..n]
                .iter()
                .any(|(s, t)| t == target && is_port(*s) == is_port(*state) && s != state);
            if !STATES.contains(state) || *state == 0xf || twice {
                return Err(LIST);
            }
        }
        for (state, target) in &wants {
            if is_port(*state) {
                if *target == 0 || *target > self.ports.len() {
                    return Err(LIST);
                }
                continue;
            }
            let group = self
                .groups
                .iter()
                .position(|g| usize::from(g.id) == *target);
            match self.may(group.ok_or(LIST)?, *state, true) {
                Ok(()) => (),
                Err(No::Now) => return Err((2, 0x04, 0x0a)),
                Err(_) => return Err(LIST),
            }
        }
        for (state, target) in wants {
            if is_port(state) {
                self.offline(target - 1, true, Some(nexus));
            } else {
                let group = self.groups.iter().position(|g| usize::from(g.id) == target);
                let _ = self.change(group.unwrap(), state, Some(nexus));
            }
        }
        Ok(())
    }
}

/// A segment of blocks: first, last, and the states of groups in it.
pub type Segment = (u64, u64, Vec<(u16, u8)>);

/// All segments, and how they come again.
pub struct Segments {
    pub size: u64,
    pub multiplier: u64,
    pub list: Vec<Segment>,
}

impl Segments {
    /// Block by block (SBC-3, 4.25), as far as it is affordable.
    pub fn refusal(&self, group: u16, first: u64, blocks: u64) -> Option<u8> {
        (first..first + blocks).find_map(|block| self.block(group, block))
    }

    fn block(&self, group: u16, block: u64) -> Option<u8> {
        let mut found = self.list.iter().filter(|(first, last, _)| {
            if self.multiplier == 0 {
                return (*first..=*last).contains(&block);
            }
            // The segment's start, that start after one round, after two …
            let mut start = *first;
            loop {
                if (start..start + self.size).contains(&block) {
                    return true;
                }
                if start > block {
                    return false;
                }
                start += self.size * self.multiplier;
            }
        });
        let Some((_, _, members)) = found.next() else {
            return Some(0x0c);
        };
        assert!(found.next().is_none(), "segments overlap");
        match members.iter().find(|(id, _)| *id == group).map(|m| m.1) {
            Some(0x2) => Some(0x0b),
            Some(0x3) => Some(0x0c),
            _ => None,
        }
    }
}
