// SPDX-License-Identifier: GPL-2.0

//! Task management (SAM-5 7).
//!
//! A function marks the commands that it concerns, each of which its owner then gives up, and waits for them to be
//! gone. What a back end has is waited for, with a bound: a function that cannot end in time is answered with FUNCTION
//! REJECTED, and the commands that it marked end by themselves, later. Nothing is taken from whoever uses it.

mod functions;
mod pending;
mod preempted;

pub(crate) use pending::Pending;
pub(crate) use preempted::Preempted;

use crate::{
    command::{Shared, Unit},
    device::Device,
    lun::{Lun, Nexus},
    session::{AnySession, Core},
    Engine,
};
use kernel::{
    error::code::ECANCELED,
    prelude::*,
    rbtree::RBTree,
    sync::{
        atomic::{Acquire, Full},
        Arc,
    },
};
use lio_policy::regions::Regions;
use lio_scsi::sense::Asc;

/// How long a wait goes on before the log tells of it, and how long a function is waited for.
const PATIENCE_MS: u32 = 30_000;

/// How long a function takes at most before it is answered, in 100 ms, where initiators do not want to wait longer.
pub(crate) const LONGEST: u32 = PATIENCE_MS / 100;

/// A command that task management may be waiting for is gone. Any context.
pub(crate) fn wake() {
    crate::waiters(|w| w.wake_all());
}

/// Waits until `done`, which some [`wake`] makes true, for so many milliseconds; whether it is.
pub(crate) fn wait_within(ms: u32, done: impl FnMut() -> bool) -> bool {
    crate::waiters(|w| w.wait_until(ms, done)).unwrap_or(true)
}

/// Waits until `done`, which some [`wake`] makes true; calls `complain` each time that patience runs out.
pub(crate) fn wait_for(mut done: impl FnMut() -> bool, complain: impl Fn()) {
    while !wait_within(PATIENCE_MS, &mut done) {
        complain();
    }
}

/// Waits until no task management function holds sessions of other fabrics than its own.
pub(crate) fn wait_for_all(engine: &Engine) {
    wait_for(
        || engine.managing().load(Acquire) == 0,
        || pr_warn!("a fabric that is unloaded waits for task management\n"),
    );
}

/// A command of the session `by`, with the tag `own`, ends with CHECK CONDITION: the others of the task set, or with `own_only` of its
/// I_T nexus, are aborted (QERR). Other I_T nexuses hear of it as of CLEAR TASK SET. Does not wait for them to be gone.
pub(crate) fn abort_others(device: &Device, by: &Core, own: u64, own_only: bool) {
    let Ok(work) = Work::find_one(device) else {
        return pr_warn!("{}: no memory to abort commands (QERR)\n", device.path());
    };
    let tell = device.attrib().emulate_tas();
    for c in work.0.iter() {
        let on_device = |lun| c.has(lun, |_| true);
        if c.is_of(by) {
            c.session
                .abort(false, &|tag, lun| tag != own && on_device(lun));
        } else if !own_only {
            let lost = c.session.abort(tell, &|_, lun| on_device(lun));
            if lost && !tell {
                c.attend(Asc::COMMANDS_CLEARED);
            }
        }
    }
}

/// Waits for the commands for `device` that are at work, as what they were admitted to may still change the medium; not for that with
/// the tag `own` of an I_T nexus of which `is_own` holds, nor for those that wait to begin, perhaps for that one: they look at
/// the device's condition again then. `stop` is asked from time to time whether to give up.
///
/// # Errors
/// `ENOMEM`; `ECANCELED` where it was given up.
pub(crate) fn settle(
    device: &Device,
    own: u64,
    is_own: impl Fn(&Nexus) -> bool,
    stop: impl Fn() -> bool,
) -> Result {
    const PAUSE_MS: u32 = 10;
    let work = Work::find_one(device)?;
    for c in work.0.iter() {
        let own_session = c.nexuses.iter().any(|nexus| is_own(nexus));
        let concerned = |tag, lun| c.has(lun, |_| true) && !(own_session && tag == own);
        let mut left = KVVec::new();
        c.session.at_work(&concerned, &mut left)?;
        while let Some(last) = left.last().copied() {
            if stop() {
                return Err(ECANCELED);
            }
            if wait_within(PAUSE_MS, || !c.session.is_at_work(last)) {
                left.pop();
            }
        }
    }
    Ok(())
}

/// A session that sees what is reset, and how: in the order of its numbers.
struct Concerned {
    session: Arc<dyn AnySession>,
    nexuses: KVVec<Arc<Nexus>>,
    // What it saw until it was taken away, and has commands for still.
    taken: KVVec<Arc<Nexus>>,
    // Commands of it were aborted without an answer.
    lost_unheard: bool,
}

impl Concerned {
    fn is_of(&self, core: &Core) -> bool {
        core::ptr::eq(self.session.core(), core)
    }

    fn attend(&self, what: Asc) {
        for nexus in self.nexuses.iter() {
            nexus.attend(what);
        }
    }

    // Whether a command for `unit` is concerned, on a device of which `which` holds.
    fn has(&self, unit: Unit, which: impl Fn(&Device) -> bool) -> bool {
        let nexus = match unit {
            Unit::Lun(_) => unit.number().and_then(|number| {
                let by_number = |n: &Arc<Nexus>| n.mapped().number().0;
                let place = self
                    .nexuses
                    .binary_search_by_key(&number.0, by_number)
                    .ok()?;
                self.nexuses.get(place)
            }),
            // Before this was found, or since.
            Unit::Taken(serial) => {
                let mut all = Iterator::chain(self.taken.iter(), self.nexuses.iter());
                all.find(|n| n.serial() == serial)
            }
        };
        nexus.is_some_and(|n| which(n.lun().device()))
    }

    // Whether a command at or after slot `first` is concerned and not gone yet: its slot.
    fn next_marked(&self, first: usize, own: bool) -> Option<usize> {
        // Of other sessions, not until their answers are sent: one that does not read must not hold up the others.
        self.session
            .next_marked(first, own, &|_, l| self.has(l, |_| true))
    }
}

/// Sessions, of all fabrics, whose commands a function aborts. While one exists, no fabric is unloaded.
struct Work(KVVec<Concerned>);

impl Work {
    // Finds all that sees one of the devices.
    fn find(devices: &[Arc<Device>]) -> Result<Self> {
        Self::find_of(devices.iter().map(|device| &**device))
    }

    fn find_one(device: &Device) -> Result<Self> {
        Self::find_of(core::iter::once(device))
    }

    fn find_of<'a>(devices: impl Iterator<Item = &'a Device>) -> Result<Self> {
        // By group and LUN, so that each group's sessions are looked through once.
        let key = |lun: &Arc<Lun>| (Arc::as_ptr(lun.tpg()), Arc::as_ptr(lun));
        let mut sorted = RBTree::new();
        for device in devices {
            device.each_lun_at_work(|lun| {
                sorted.try_create_and_insert(key(lun), lun.clone(), GFP_KERNEL)?;
                Ok(())
            })?;
        }
        let mut luns: KVVec<Arc<Lun>> = KVVec::new();
        for lun in sorted.values() {
            luns.push(lun.clone(), GFP_KERNEL)?;
        }
        let engine = crate::engine()?;
        engine.managing().fetch_add(1, Full);
        let mut work = Work(KVVec::new());
        for of_group in luns.chunk_by(|a, b| Arc::ptr_eq(a.tpg(), b.tpg())) {
            let Some(one) = of_group.first() else {
                continue;
            };
            one.tpg().each_session_at_work(|session| {
                let is_one = |nexus: &Nexus| {
                    let place = of_group.binary_search_by_key(&key(nexus.lun()), key);
                    place.is_ok()
                };
                let (mut nexuses, mut taken) = (KVVec::new(), KVVec::new());
                for (_, nexus) in session.core().nexuses() {
                    if is_one(&nexus) {
                        nexuses.push(nexus, GFP_KERNEL)?;
                    }
                }
                session.core().each_taken(|nexus| {
                    if is_one(nexus) {
                        taken.push(nexus.clone(), GFP_KERNEL)?;
                    }
                    Ok(())
                })?;
                if !nexuses.is_empty() || !taken.is_empty() {
                    let one = Concerned {
                        session: session.clone(),
                        nexuses,
                        taken,
                        lost_unheard: false,
                    };
                    work.0.push(one, GFP_KERNEL)?;
                }
                Ok(())
            })?;
        }
        Ok(work)
    }

    /// Aborts the commands for the devices that it was found for. Those of `by` hear nothing; the others are told with TASK ABORTED where
    /// the device's TAS says so.
    fn abort(&mut self, by: &Core) {
        for c in self.0.iter_mut() {
            // Nobody is there to hear of those of a session that has ended, which are marked already.
            let heard = !c.is_of(by) && !c.session.core().is_closed();
            let tell = |d: &Device| heard && d.attrib().emulate_tas();
            c.session.abort(true, &|_, l| c.has(l, tell));
            let lost = c.session.abort(false, &|_, l| c.has(l, |d| !tell(d)));
            c.lost_unheard = lost;
        }
    }

    /// Whether what was aborted is gone: `at`, of the session and the slot, is where those begin that may not be.
    fn is_gone(&self, at: &mut (usize, usize), by: &Core, own_only: bool) -> bool {
        while let Some(c) = self.0.get(at.0) {
            let own = c.is_of(by);
            if own || !own_only {
                if let Some(slot) = c.next_marked(at.1, own) {
                    at.1 = slot;
                    return false;
                }
            }
            *at = (at.0.saturating_add(1), 0);
        }
        true
    }

    // Establishes `what` on the I_T_L nexuses of which `on` holds.
    fn attend(&self, what: Asc, on: impl Fn(&Core, &Nexus) -> bool) {
        for c in self.0.iter() {
            for nexus in c.nexuses.iter().filter(|n| on(c.session.core(), n)) {
                nexus.attend(what);
            }
        }
    }
}

/// What a command waits for.
#[derive(Clone, Copy)]
pub(crate) enum WaitsFor {
    /// What was there before the ORDERED command with this number.
    Ordered(u64),
    /// What writes there.
    Writes(Regions),
}

/// The commands of a device that one waits for.
pub(crate) struct Before {
    work: Work,
    what: WaitsFor,
    // Those before this session, and before this slot of it, are gone. New ones are none of them.
    at: (usize, usize),
}

impl Before {
    pub(crate) fn find(device: &Arc<Device>, what: WaitsFor) -> Result<Self> {
        Ok(Before {
            work: Work::find(core::slice::from_ref(device))?,
            what,
            at: (0, 0),
        })
    }

    /// Whether all are answered. If not, there is a [`wake`] when that may have changed.
    pub(crate) fn are_gone(&mut self) -> bool {
        while let Some(c) = self.work.0.get(self.at.0) {
            let select = |_, l| c.has(l, |_| true);
            let which = |s: &Shared| match self.what {
                WaitsFor::Ordered(number) => s.is_before(number, &select),
                WaitsFor::Writes(regions) => s.is_writing(regions, &select),
            };
            if let Some(slot) = c.session.next(self.at.1, &which) {
                self.at.1 = slot;
                return false;
            }
            self.at = (self.at.0.saturating_add(1), 0);
        }
        true
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // Before others may believe that they are not held.
        self.0.clear();
        if let Ok(engine) = crate::engine() {
            engine.managing().fetch_sub(1, Full);
        }
        wake();
    }
}
