// SPDX-License-Identifier: GPL-2.0

//! Task management (SAM-5 7).
//!
//! A function marks the commands that it concerns, each of which its owner then gives up, and waits for them to be
//! gone. What a back end has is waited for, with a bound: a function that cannot end in time is answered with FUNCTION
//! REJECTED, and the commands that it marked end by themselves, later. Nothing is taken from whoever uses it.

use crate::{
    backend::{Io, IoError},
    command::{Shared, Unit},
    copy,
    device::Device,
    fabric::Fabric,
    lun::{Lun, Nexus},
    session::{AnySession, Core, Session},
    Engine,
};
use kernel::{
    c_str,
    error::code::ECANCELED,
    prelude::*,
    rbtree::RBTree,
    sync::{
        atomic::{Acquire, Full},
        Arc,
    },
};
use lio_glue::noio;
use lio_policy::regions::Regions;
use lio_scsi::{
    block::orwrite::Generations,
    lun::Lun as LunNumber,
    sense::Asc,
    task::{Function, Response, Tag},
};

/// How long a wait goes on before the log tells of it, and how long a function is waited for.
const PATIENCE_MS: u32 = 30_000;

/// How long a function takes at most before it is answered, in 100 ms, where initiators do not want to wait longer.
pub(crate) const LONGEST: u32 = PATIENCE_MS / 100;

/// Whether a function may be given up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// After [`PATIENCE_MS`].
    Bounded,
    /// Not before the session's own commands are gone.
    Own,
}

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

impl<F: Fabric> Session<F> {
    /// Performs a task management function: process context, not the thread that this session's commands need to make
    /// progress. Waits until the session's own commands that it concerns are gone, however long that takes: for an
    /// initiator that takes the memory of such commands back when this returns.
    pub fn manage(self: &Arc<Self>, function: Function, lun: [u8; 8]) -> Response {
        self.core().managing().fetch_add(1, Full);
        let response = self.manage_now(function, lun, Patience::Own);
        self.core().managing().fetch_sub(1, Full);
        wake();
        response
    }

    /// Performs a task management function in the background, and hands its response to `done`: FUNCTION REJECTED if
    /// it did not end within 30 s.
    ///
    /// # Errors
    /// `ENOMEM`: nothing was done, and `done` will not be called.
    pub fn spawn_manage(
        self: &Arc<Self>,
        function: Function,
        lun: [u8; 8],
        done: impl FnOnce(Response) + Send + 'static,
    ) -> Result {
        let session = self.clone();
        self.core().managing().fetch_add(1, Full);
        let spawned = crate::engine().and_then(|engine| {
            engine.management().spawn(move || {
                let response = session.manage_now(function, lun, Patience::Bounded);
                done(response);
                session.core().managing().fetch_sub(1, Full);
                wake();
            })
        });
        if spawned.is_err() {
            self.core().managing().fetch_sub(1, Full);
        }
        spawned
    }

    // The caller wakes those that wait for the function's end.
    fn manage_now(
        self: &Arc<Self>,
        function: Function,
        lun: [u8; 8],
        patience: Patience,
    ) -> Response {
        // It allocates with locks held that commands may take, and whoever writes to free memory waits for commands.
        noio::scope(|| self.perform(function, lun, patience))
    }

    fn perform(self: &Arc<Self>, function: Function, lun: [u8; 8], patience: Patience) -> Response {
        if let Function::TargetWarmReset | Function::TargetColdReset = function {
            return self.reset_target(patience);
        }
        let Some(nexus) = LunNumber::parse(lun).and_then(|n| self.core().nexus(n)) else {
            let aborted = match function {
                Function::AbortTask(Tag(tag)) => self.abort_taken(Some(tag), patience),
                _ => None,
            };
            return aborted.unwrap_or(Response::NoSuchLun);
        };
        let (number, serial) = (Some(nexus.mapped().number()), nexus.serial());
        let on_lun = move |unit: Unit| unit.is(number, serial);
        let device = nexus.lun().device();
        match function {
            Function::AbortTask(Tag(tag)) => {
                let select = |t, l| t == tag && on_lun(l);
                let found = self.has(&select);
                device.count_abort(found);
                if found {
                    return self.abort_own(device.path(), &select, patience);
                }
                let aborted = self.abort_taken(Some(tag), patience);
                aborted.unwrap_or(Response::NoSuchTask)
            }
            Function::AbortTaskSet => self.abort_own(device.path(), &|_, l| on_lun(l), patience),
            Function::ClearTaskSet => clear(device, self.core(), patience),
            Function::LogicalUnitReset => {
                reset(core::slice::from_ref(device), self.core(), patience)
            }
            Function::QueryTask(Tag(tag)) => self.query(&|t, l| t == tag && on_lun(l)),
            Function::QueryTaskSet => self.query(&|_, l| on_lun(l)),
            _ => Response::NotSupported,
        }
    }

    // Waits for commands for logical units that were taken away from the session, with this tag or all; `None`: there are none. They
    // have been aborted, but who hears that they are gone may use their tags, and what they transfer to, for others.
    fn abort_taken(self: &Arc<Self>, tag: Option<u64>, patience: Patience) -> Option<Response> {
        let select = |t, unit| matches!(unit, Unit::Taken(_)) && tag.is_none_or(|tag| tag == t);
        self.has(&select)
            .then(|| self.abort_own(c_str!("what it saw before"), &select, patience))
    }

    // Aborts commands of this session and waits for them; `of` is what the log calls their device.
    fn abort_own(
        self: &Arc<Self>,
        of: &CStr,
        select: &dyn Fn(u64, Unit) -> bool,
        patience: Patience,
    ) -> Response {
        self.abort(false, select);
        // Those before it are gone.
        let mut first = 0;
        let mut gone = || match self.next_marked(first, true, select) {
            Some(at) => {
                first = at;
                false
            }
            None => true,
        };
        while !wait_within(PATIENCE_MS, &mut gone) {
            let (port, initiator) = (self.core().tpg().path(), self.core().initiator());
            if patience == Patience::Bounded {
                pr_warn!(
                    "{}: an abort of {} was waiting for the back end of {} for {} s, and is answered as rejected\n",
                    port,
                    initiator,
                    of,
                    PATIENCE_MS / 1000
                );
                return Response::Rejected;
            }
            pr_warn!(
                "{}: an abort of {} waits for the back end of {}\n",
                port,
                initiator,
                of
            );
        }
        Response::Complete
    }

    fn query(&self, select: &dyn Fn(u64, Unit) -> bool) -> Response {
        if self.has(select) {
            Response::Succeeded
        } else {
            Response::Complete
        }
    }

    fn reset_target(self: &Arc<Self>, patience: Patience) -> Response {
        let mut devices: KVVec<Arc<Device>> = KVVec::new();
        for (_, nexus) in self.core().nexuses() {
            if devices
                .push(nexus.lun().device().clone(), GFP_KERNEL)
                .is_err()
            {
                return Response::Rejected;
            }
        }
        let response = reset(&devices, self.core(), patience);
        // The target port's reset is a hard reset (SAM-5 6.3.2), which ends ORWRITE's generations (SBC-4 4.27.3).
        for device in &devices {
            *device.generations().lock() = Generations::new();
        }
        match response {
            Response::Complete => self.abort_taken(None, patience).unwrap_or(response),
            _ => response,
        }
    }
}

// LOGICAL UNIT RESET: SAM-5 6.3.3. All I_T nexuses hear of it. A device may be named several times.
fn reset(devices: &[Arc<Device>], by: &Core, patience: Patience) -> Response {
    let Ok(mut work) = Work::find(devices) else {
        return Response::Rejected;
    };
    // Copies from or to them end with their next piece.
    for device in devices {
        device.count_reset();
    }
    let response = work.abort(devices, by, patience);
    for device in devices {
        device.reset_mode();
        device.watch_thresholds();
        device.reset_priorities();
        device.reservations().reset();
    }
    // Also where something is left: other initiators' commands were aborted.
    work.attend(Asc::BUS_DEVICE_RESET, |_, nexus| {
        // The medium may be removed again (SBC-4 5.17).
        nexus.set_prevents_removal(false);
        nexus.copies().clear();
        true
    });
    response
}

// CLEAR TASK SET: SAM-5 7.5. The other I_T nexuses that lost commands hear of it, by TASK ABORTED or by a unit attention.
// A copy that another logical unit's command has begun is in that one's task set, and goes on; what it has at work here is in
// none, but is waited for as if it were, since nothing that came before may be written after the answer.
fn clear(device: &Arc<Device>, by: &Core, patience: Patience) -> Response {
    let devices = core::slice::from_ref(device);
    let Ok(mut work) = Work::find(devices) else {
        return Response::Rejected;
    };
    let response = work.abort(devices, by, patience);
    for c in work.0.iter().filter(|c| c.lost_unheard) {
        if !core::ptr::eq(c.session.core(), by) {
            c.attend(Asc::COMMANDS_CLEARED);
        }
    }
    response
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
        if core::ptr::eq(c.session.core(), by) {
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

    // Aborts the commands for the devices that it was found for, and waits for them, and for what copies have at work there.
    // Those of `by` hear nothing; the others are told with TASK ABORTED where the device's TAS says so.
    fn abort(&mut self, devices: &[Arc<Device>], by: &Core, patience: Patience) -> Response {
        let is_own = |c: &Concerned| core::ptr::eq(c.session.core(), by);
        for c in self.0.iter_mut() {
            let own = is_own(c);
            // Nobody is there to hear of those of a session that has ended, which are marked already.
            let heard = !own && !c.session.core().is_closed();
            let tell = |d: &Device| heard && d.attrib().emulate_tas();
            c.session.abort(true, &|_, l| c.has(l, tell));
            let lost = c.session.abort(false, &|_, l| c.has(l, |d| !tell(d)));
            c.lost_unheard = lost;
        }
        // Those before this session, and before this slot of it, are gone.
        let mut at = (0, 0);
        let mut gone = |own_only: bool| {
            while let Some(c) = self.0.get(at.0) {
                let own = is_own(c);
                if own || !own_only {
                    if let Some(slot) = c.next_marked(at.1, own) {
                        at.1 = slot;
                        return false;
                    }
                }
                at = (at.0.saturating_add(1), 0);
            }
            true
        };
        let mut pieces = copy::EarlierOfAll::new(devices);
        if wait_within(PATIENCE_MS, || gone(false) && pieces.are_gone()) {
            return Response::Complete;
        }
        let path = devices.first().map_or(c"", |d| d.path());
        if patience == Patience::Bounded {
            pr_warn!(
                "{}: a reset by {} was waiting for the back end for {} s, and is answered as rejected\n",
                path,
                by.initiator(),
                PATIENCE_MS / 1000
            );
            return Response::Rejected;
        }
        wait_for(
            || gone(true),
            || pr_warn!("{}: a reset waits for the back end\n", path),
        );
        Response::Complete
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

/// Commands of I_T nexuses that were preempted (PREEMPT AND ABORT: SPC-4, 5.12.11.4.5), which were aborted. While one exists,
/// no fabric is unloaded.
pub(crate) struct Preempted {
    // Of sessions, for what they see by this number, if they still do, and by this nexus.
    commands: KVVec<(Arc<dyn AnySession>, Option<LunNumber>, u64)>,
    // What copies have at work there, whatever logical unit's command has begun them.
    pieces: copy::Earlier,
    // There was no memory to know of some.
    unknown: bool,
}

impl Preempted {
    /// Of `device`, where what preempts them is in force already.
    pub(crate) fn new(device: &Device) -> Self {
        if let Ok(engine) = crate::engine() {
            engine.managing().fetch_add(1, Full);
        }
        Preempted {
            commands: KVVec::new(),
            pieces: copy::Earlier::new(device),
            unknown: false,
        }
    }

    /// Aborts the commands of a session for one logical unit; `tell`: they are answered with TASK ABORTED.
    pub(crate) fn abort(&mut self, session: &Arc<dyn AnySession>, nexus: &Nexus, tell: bool) {
        let (number, serial) = (Some(nexus.mapped().number()), nexus.serial());
        session.abort(tell, &|_, unit| unit.is(number, serial));
        self.wait_for_those(session, number, serial);
    }

    /// The same of one that was taken away, whose commands are aborted.
    pub(crate) fn find_aborted(&mut self, session: &Arc<dyn AnySession>, nexus: &Nexus) {
        self.wait_for_those(session, None, nexus.serial());
    }

    fn wait_for_those(
        &mut self,
        session: &Arc<dyn AnySession>,
        number: Option<LunNumber>,
        serial: u64,
    ) {
        let those = (session.clone(), number, serial);
        self.unknown |= self.commands.push(those, GFP_KERNEL).is_err();
    }

    fn is_gone(&self) -> bool {
        self.commands.iter().all(|(session, number, serial)| {
            let select = |_, unit: Unit| unit.is(*number, *serial);
            session.next_marked(0, false, &select).is_none()
        }) && self
            .pieces
            .are_gone_of(self.commands.iter().map(|(session, ..)| session.core()))
    }

    /// Has `io` completed when the commands are gone, in the background if they are not gone yet. Like a task management function it
    /// is not waited for longer than [`PATIENCE_MS`]; then it fails, as its initiator counts on nothing being written any more
    /// once it is told GOOD; so it does without memory to wait. What was preempted stays so, and the commands end by themselves, later.
    pub(crate) fn wait_for(self, io: Io) {
        if self.unknown {
            drop(self);
            return io.complete(Err(IoError::Resources));
        }
        if self.is_gone() {
            drop(self);
            return io.complete(Ok(()));
        }
        let spawned = crate::engine().and_then(|engine| {
            engine.management().spawn(move || {
                let gone = wait_within(PATIENCE_MS, || self.is_gone());
                if !gone {
                    pr_warn!(
                        "a preemption was waiting for the back end for {} s, and fails\n",
                        PATIENCE_MS / 1000
                    );
                }
                drop(self);
                io.complete(if gone { Ok(()) } else { Err(IoError::Timeout) });
            })
        });
        if let Err(e) = spawned {
            // Without memory for it, the command failed: it was dropped.
            pr_warn!("a preemption could not wait for commands: {:?}\n", e);
        }
    }
}

impl Drop for Preempted {
    fn drop(&mut self) {
        self.commands.clear();
        if let Ok(engine) = crate::engine() {
            engine.managing().fetch_sub(1, Full);
        }
        wake();
    }
}
