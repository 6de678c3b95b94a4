// SPDX-License-Identifier: GPL-2.0

//! What the fabric has while ORDERED commands wait for it: replies, until it has them, since what is let go by one is answered behind it; and
//! commands whose data comes in.

use super::{Cmd, Command, WantsData};
use crate::{device::Device, fabric::Fabric, lun::Nexus, session::Session};
use kernel::sync::{rcu, Arc};
use lio_glue::slot::{Host, Token};
use lio_policy::order::Place;

/// A reply that is being handed to its fabric. The command is not ours any more then, and may be another's in the same slot.
pub(super) struct Handing<F: Fabric> {
    // Before the guard: the end of a session waits for it, so this is not the last reference.
    session: Arc<Session<F>>,
    index: u32,
    _guard: rcu::Guard,
}

impl<F: Fabric> Handing<F> {
    /// The command is about to be answered. `None` where there never was an ORDERED one.
    pub(super) fn begin(token: &Token<Session<F>>) -> Option<Self> {
        let nexus = token.nexus.as_ref()?;
        nexus.lun().device().order().is_used().then(|| Handing {
            session: token.host().clone(),
            index: token.index(),
            _guard: rcu::read_lock(),
        })
    }

    /// The fabric has the reply of this use of the slot; whether somebody may be waiting for that.
    pub(super) fn end(self, generation: u32) -> bool {
        let shared = self.session.slots().shared_of(self.index);
        shared.is_some_and(|shared| shared.handed(generation))
    }
}

/// The number of an ORDERED command, and its device: its place is given up when the fabric has the reply.
pub(super) fn ordered(cmd: &mut Command) -> Option<(u64, Arc<Device>)> {
    let Place::Ordered(number) = core::mem::take(&mut cmd.place) else {
        return None;
    };
    Some((number, cmd.nexus.as_ref()?.lun().device().clone()))
}

impl<F: Fabric> Cmd<F, WantsData> {
    /// Whether commands of other I_T nexuses for its logical unit wait for their turn, perhaps for this one's data: ORDERED ones, or some
    /// behind an ORDERED one. A snapshot. Process context.
    pub fn holds_others(&self) -> bool {
        let holds = |nexus: &Arc<Nexus>| nexus.lun().device().order().holds_others(nexus);
        self.with(|t| t.nexus.as_ref().is_some_and(holds))
            .unwrap_or(false)
    }
}
