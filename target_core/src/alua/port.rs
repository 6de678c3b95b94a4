// SPDX-License-Identifier: GPL-2.0

//! What a LUN keeps of its target port group, and its own secondary state.

use super::{metadata::File, Settings};
use kernel::{
    new_mutex,
    prelude::*,
    str::CString,
    sync::{Arc, Mutex},
};
use lio_policy::alua::Status;
use lio_scsi::alua::State;

/// A port's group, as far as its commands need it, in one word.
#[derive(Clone, Copy)]
pub(crate) struct Port(pub(crate) u64);

const OFFLINE: u64 = 1 << 4;
/// The LUN, or one of those that initiators see it as, has limits.
pub(crate) const LIMITED: u64 = 1 << 5;
/// The same with histograms.
pub(crate) const MEASURED: u64 = 1 << 6;
/// The device has user data segments.
pub(crate) const SEGMENTED: u64 = 1 << 7;
const SPECIAL: u64 = 0x7f;
const IMPLICIT: u64 = 1 << 8;
const EXPLICIT: u64 = 1 << 9;
const GROUP: u32 = 16;
const DELAY: u32 = 32;
const SECONDS: u32 = 48;

impl Port {
    pub(crate) fn new(group: &Settings, offline: bool) -> Self {
        let access = group.core.access;
        let flag = |on, bit| if on { bit } else { 0 };
        Port(
            group.core.state() as u64
                | flag(offline, OFFLINE)
                | flag(access.implicit, IMPLICIT)
                | flag(access.explicit, EXPLICIT)
                | u64::from(group.id.unwrap_or(0)) << GROUP
                | u64::from(group.nonop_delay_msecs) << DELAY
                | u64::from(group.implicit_trans_secs) << SECONDS,
        )
    }

    /// Whether there is anything to look at: the state is not active/optimized, or what follows.
    #[inline]
    pub(crate) fn is_special(self) -> bool {
        self.0 & SPECIAL != 0
    }

    /// Whether commands may have to wait for limits.
    pub(crate) fn is_limited(self) -> bool {
        self.0 & LIMITED != 0
    }

    /// Whether somebody wants to know how long commands take.
    pub(crate) fn is_measured(self) -> bool {
        self.0 & MEASURED != 0
    }

    /// The state in which commands find the port.
    pub(crate) fn state(self) -> Option<State> {
        if self.0 & OFFLINE != 0 {
            return Some(State::Offline);
        }
        State::new(self.0 as u8 & 0xf)
    }

    /// TARGET PORT GROUP
    pub(crate) fn group(self) -> u16 {
        (self.0 >> GROUP) as u16
    }

    /// How long commands are delayed in the active/non-optimized state, in milliseconds.
    pub(crate) fn delay(self) -> u32 {
        u32::from((self.0 >> DELAY) as u16)
    }

    /// IMPLICIT TRANSITION TIME, in seconds.
    pub(crate) fn transition_time(self) -> u8 {
        (self.0 >> SECONDS) as u8
    }

    /// There are user data segments.
    pub(crate) fn is_segmented(self) -> bool {
        self.0 & SEGMENTED != 0
    }

    /// The administrator changes states.
    pub(crate) fn implicit(self) -> bool {
        self.0 & IMPLICIT != 0
    }

    /// SET TARGET PORT GROUPS does.
    pub(crate) fn explicit(self) -> bool {
        self.0 & EXPLICIT != 0
    }
}

/// A port's secondary state (SPC-5 5.17.2.7): online or offline.
#[pin_data]
pub(crate) struct Secondary {
    #[pin]
    state: Mutex<SecondaryState>,
    #[pin]
    file: File,
}

#[derive(Clone, Copy, Default)]
pub(crate) struct SecondaryState {
    pub(crate) offline: bool,
    pub(crate) status: Status,
    /// It is kept in a file: `alua_tg_pt_write_md`.
    pub(crate) write_metadata: bool,
}

impl Secondary {
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Secondary {
                state <- new_mutex!(SecondaryState::default(), "Secondary::state"),
                file <- File::new(),
            }),
            GFP_KERNEL,
        )
    }

    pub(crate) fn get(&self) -> SecondaryState {
        *self.state.lock()
    }

    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut SecondaryState) -> R) -> R {
        f(&mut self.state.lock())
    }
}

impl super::metadata::Saved for Secondary {
    fn file(&self) -> &File {
        &self.file
    }

    fn text(&self) -> Result<CString> {
        let state = self.get();
        CString::try_from_fmt(fmt!(
            "alua_tg_pt_offline={}\nalua_tg_pt_status=0x{:02x}\n",
            u32::from(state.offline),
            state.status as u32
        ))
    }
}
