// SPDX-License-Identifier: GPL-2.0

//! Asymmetric logical unit access (SPC-4, 5.15.2): which command is processed in which access state, how target port groups
//! change theirs, and the map of user data segments (SBC-3, 4.25).

mod map;

use lio_scsi::{
    alua::{Access, State, Supported},
    sense::Sense,
};

pub use map::{letter, Map, MapError, Segment, MAX_MEMBERS, MAX_SEGMENTS};

/// What a port's access state has to say of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is processed.
    Process,
    /// It is processed if the user data segments that it addresses let it: see [`Map::check`].
    BySegment,
    /// It is not processed.
    Refuse(Sense),
}

/// Decides on a command whose row of the table says `access`, through a port in `state` (SPC-4, 5.15.2.4 and 5.15.2.5).
pub const fn admit(state: State, access: Access) -> Admission {
    match (state, access) {
        (State::Optimized | State::NonOptimized, _) | (_, Access::Always) => Admission::Process,
        (State::BlockDependent, Access::Active) => Admission::BySegment,
        (State::BlockDependent, _) => Admission::Process,
        (State::Standby, Access::Standby | Access::Unavailable) => Admission::Process,
        (State::Standby, Access::Active) => Admission::Refuse(Sense::ALUA_STANDBY),
        (State::Unavailable, Access::Unavailable) => Admission::Process,
        (State::Unavailable, _) => Admission::Refuse(Sense::ALUA_UNAVAILABLE),
        (State::Transition, _) => Admission::Refuse(Sense::ALUA_TRANSITION),
        (State::Offline, _) => Admission::Refuse(Sense::OFFLINE),
    }
}

/// Why a state was last changed: STATUS CODE (SPC-4, table 308). The discriminant is the one on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Not known.
    #[default]
    None = 0,
    /// By SET TARGET PORT GROUPS.
    Explicit = 1,
    /// By the target itself: its administrator.
    Implicit = 2,
}

impl Status {
    /// The status with this code.
    pub const fn new(code: u32) -> Option<Self> {
        Some(match code {
            0 => Self::None,
            1 => Self::Explicit,
            2 => Self::Implicit,
            _ => return None,
        })
    }
}

/// Who may change a group's state: TPGS (SPC-4, table 166).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessType {
    /// The administrator.
    pub implicit: bool,
    /// SET TARGET PORT GROUPS.
    pub explicit: bool,
}

/// Who asks for a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The administrator.
    Implicit,
    /// SET TARGET PORT GROUPS.
    Explicit,
}

/// Why a state is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The group does not support it, or nobody can ask for it.
    NotSupported,
    /// The group's access type does not let who asks.
    NotAllowed,
    /// The group is just changing its state.
    Changing,
}

/// What a change came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The group was in that state.
    None,
    /// It is in that state now.
    Done,
    /// It is back in the state that it was about to leave: the implicit transition failed.
    Failed,
    /// It is transitioning, until [`Group::complete`] is called.
    Begun,
    /// It is transitioning, until it is told into which state.
    Held,
}

/// A target port group: its state, and what decides on changes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    state: State,
    /// While it is transitioning: the state that it left.
    left: State,
    /// While it is transitioning, and knows where to.
    goal: Option<State>,
    /// Why the state is what it is.
    pub status: Status,
    /// The states that it can take.
    pub supported: Supported,
    /// Who may change it.
    pub access: AccessType,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            state: State::Optimized,
            left: State::Optimized,
            goal: None,
            status: Status::None,
            supported: Supported::DEFAULT,
            access: AccessType {
                implicit: true,
                explicit: true,
            },
        }
    }
}

impl Group {
    /// The state now.
    pub const fn state(&self) -> State {
        self.state
    }

    /// Whether [`Self::complete`] is to be called.
    pub const fn is_changing(&self) -> bool {
        self.goal.is_some()
    }

    /// `to` may be asked for now.
    ///
    /// # Errors
    /// Why not.
    pub fn may(&self, to: State, by: By) -> Result<(), Refusal> {
        let allowed = match by {
            By::Implicit => self.access.implicit,
            By::Explicit => self.access.explicit,
        };
        if !allowed {
            return Err(Refusal::NotAllowed);
        }
        if !self.supported.has(to) {
            return Err(Refusal::NotSupported);
        }
        match (to, by) {
            // The segments' states are the administrator's; initiators that set groups' states would not know of them.
            (State::BlockDependent, By::Implicit) if self.access.explicit => {
                return Err(Refusal::NotAllowed)
            }
            (State::BlockDependent | State::Transition | State::Offline, By::Explicit) => {
                return Err(Refusal::NotSupported)
            }
            _ => (),
        }
        // An initiator does not end a transition that the administrator has begun.
        if self.is_changing() || (self.state == State::Transition && by == By::Explicit) {
            return Err(Refusal::Changing);
        }
        Ok(())
    }

    /// Asks for the state `to`. `slow`: the group is to be transitioning for a while.
    ///
    /// # Errors
    /// As [`Self::may`]; nothing is changed.
    pub fn change(&mut self, to: State, by: By, slow: bool) -> Result<Change, Refusal> {
        self.may(to, by)?;
        if self.state == to {
            return Ok(Change::None);
        }
        self.status = match by {
            By::Implicit => Status::Implicit,
            By::Explicit => Status::Explicit,
        };
        if to != State::Transition && !slow {
            return Ok(self.arrive(to));
        }
        if self.state != State::Transition {
            self.left = self.state;
        }
        self.state = State::Transition;
        if to == State::Transition {
            return Ok(Change::Held);
        }
        self.goal = Some(to);
        Ok(Change::Begun)
    }

    /// The time of a transition is over.
    pub fn complete(&mut self) -> Change {
        match self.goal.take() {
            Some(to) => self.arrive(to),
            None => Change::None,
        }
    }

    fn arrive(&mut self, to: State) -> Change {
        let failed = self.state == State::Transition && self.left == to;
        self.state = to;
        self.left = to;
        if failed {
            Change::Failed
        } else {
            Change::Done
        }
    }
}

#[cfg(test)]
mod tests;
