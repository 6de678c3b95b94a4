// SPDX-License-Identifier: GPL-2.0

//! Sessions: I_T nexuses, with the commands that are in flight on them (SAM-5 4.7).

use crate::{
    command::{self, Cmd, Command, Outside, Received, Shared, Start, Unit},
    fabric::Fabric,
    lun::{MappedLun, Nexus},
    tpg::{Access, NodeAcl, Tpg},
};
use kernel::{
    impl_has_work,
    prelude::*,
    str::CString,
    sync::{
        atomic::{Acquire, Atomic, Full, Relaxed},
        Arc, Mutex, SetOnce,
    },
    workqueue::{Work, WorkItem},
};
use lio_glue::{
    one_class,
    rcu_map::RcuMap,
    slot::{Host, Queue, Slots, Token, Why},
    wait::wait_for_readers,
};
use lio_scsi::{lun::Lun as LunNumber, pi, sense::Asc};

/// What a session sees no more.
#[derive(Default)]
struct Taken {
    // Nexuses of which commands are alive. There is room for all that the session has.
    nexuses: KVVec<Arc<Nexus>>,
    // How many it has.
    mapped: usize,
}

/// The part of a session that does not depend on its fabric.
#[pin_data]
pub struct Core {
    // No other session has or had it.
    id: u64,
    initiator: CString,
    isid: Option<[u8; 6]>,
    tpg: Arc<Tpg>,
    // Of units that keep none.
    protection: Option<pi::Type>,
    // Set when the group takes the session in.
    acl: SetOnce<Arc<NodeAcl>>,
    #[pin]
    luns: RcuMap<Nexus>,
    // After the group's lists, and before the map's lock.
    #[pin]
    taken: Mutex<Taken>,
    // How many those are.
    left: Atomic<u32>,
    closed: Atomic<u32>,
    /// Task management functions at work.
    managing: Atomic<u32>,
    // Commands that wait for limits.
    #[pin]
    outside: Outside,
}

impl Core {
    /// The initiator port's name.
    pub fn initiator(&self) -> &CStr {
        &self.initiator
    }

    /// A number that no other session has or had.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// What tells the initiator's ports apart, where the fabric has that.
    pub fn isid(&self) -> Option<[u8; 6]> {
        self.isid
    }

    /// The target portal group.
    pub fn tpg(&self) -> &Arc<Tpg> {
        &self.tpg
    }

    /// The ACL, which demo mode may have made; sessions of fabrics without ACLs have none.
    pub fn acl(&self) -> Option<&Arc<NodeAcl>> {
        self.acl.as_ref()
    }

    pub(crate) fn set_acl(&self, acl: Arc<NodeAcl>) {
        self.acl.populate(acl);
    }

    /// The logical unit that this initiator knows as `lun`.
    pub(crate) fn nexus(&self, lun: LunNumber) -> Option<Arc<Nexus>> {
        self.luns.get(usize::from(lun.0))
    }

    /// All logical units, in order of their numbers.
    pub(crate) fn nexuses(&self) -> impl Iterator<Item = (usize, Arc<Nexus>)> + '_ {
        self.luns.iter()
    }

    /// Establishes I_T NEXUS LOSS OCCURRED on all logical units that the session sees.
    pub fn nexus_lost(&self) {
        for (_, nexus) in self.nexuses() {
            nexus.attend(Asc::NEXUS_LOSS);
        }
        self.release();
    }

    // Ends the session's reservations by RESERVE. Process context, without locks.
    fn release(&self) {
        for (_, nexus) in self.nexuses() {
            nexus.lun().device().reservations().nexus_lost(self.id);
        }
    }

    /// Lets the session see a logical unit.
    pub(crate) fn map(&self, mapped: &Arc<MappedLun>) -> Result {
        mapped.begin()?;
        let nexus = Nexus::new(mapped.clone(), self.protection)?;
        mapped.lun().device().adopt_priority(self, &nexus);
        let mut taken = self.taken.lock();
        let all = taken.mapped.saturating_add(1);
        taken.nexuses.reserve(all, GFP_KERNEL)?;
        self.luns.insert(usize::from(mapped.number().0), nexus)?;
        taken.mapped = all;
        Ok(())
    }

    // Takes a logical unit away, if it is there, and has `mark` mark its commands; whether it was there. If that has marked some, the nexus
    // is kept until they are gone.
    fn take_away(&self, nexus: &Arc<Nexus>, mark: impl FnOnce() -> bool) -> bool {
        let mut taken = self.taken.lock();
        let number = usize::from(nexus.mapped().number().0);
        if !self.luns.remove_this(number, nexus) {
            return false;
        }
        taken.mapped = taken.mapped.saturating_sub(1);
        // A full barrier: a command that has still found the nexus is alive, and found. Before the marks: who ends the last one sees
        // this.
        self.left.fetch_add(1, Full);
        if mark() {
            // There is room for it.
            let _ = taken.nexuses.push_within_capacity(nexus.clone());
        } else {
            self.left.fetch_sub(1, Relaxed);
        }
        true
    }

    /// Calls `f` with the nexus of each logical unit that was taken away and has commands still.
    pub(crate) fn each_taken(&self, f: impl FnMut(&Arc<Nexus>) -> Result) -> Result {
        self.taken.lock().nexuses.iter().try_for_each(f)
    }

    /// Forgets one of those of which `which` holds, and gives it, to be dropped without locks.
    pub(crate) fn forget_taken(&self, which: impl Fn(&Arc<Nexus>) -> bool) -> Option<Arc<Nexus>> {
        let mut taken = self.taken.lock();
        let place = taken.nexuses.iter().position(which)?;
        let nexus = taken.nexuses.remove(place).ok()?;
        self.left.fetch_sub(1, Relaxed);
        Some(nexus)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Acquire) != 0
    }

    pub(crate) fn managing(&self) -> &Atomic<u32> {
        &self.managing
    }

    pub(crate) fn outside(&self) -> &Outside {
        &self.outside
    }
}

/// A session of fabric `F`.
#[pin_data]
pub struct Session<F: Fabric> {
    #[pin]
    core: Core,
    slots: Slots<Session<F>>,
    /// Commands whose next operation waits for process context.
    pub(crate) deferred: Queue<Session<F>>,
    #[pin]
    work: Work<Session<F>>,
    private: F::Session,
}

impl_has_work! {
    impl{F: Fabric} HasWork<Self> for Session<F> { self.work }
}

impl<F: Fabric> WorkItem for Session<F> {
    type Pointer = Arc<Self>;
    fn run(this: Arc<Self>) {
        command::resume(&this);
        this.forget_ended();
    }
}

impl<F: Fabric> Host for Session<F> {
    type Own = Command;
    type Shared = Shared;
    type Request = F::Request;

    fn slots(&self) -> &Slots<Self> {
        &self.slots
    }

    fn finished(token: Token<Self>) {
        command::finished(token);
    }

    fn handed_back(token: Token<Self>, why: Why) {
        command::handed_back(token, why);
    }

    fn freeing(token: &mut Token<Self>) -> bool {
        command::freeing(token)
    }

    fn is_awaited(&self) -> bool {
        self.core.is_closed()
    }

    fn freed(this: &Arc<Self>) {
        // After the slot is back: the end of a session waits for the slots, not for the marks alone.
        crate::tmf::wake();
        if this.core.left.load(Relaxed) != 0 {
            // What it was for may be forgotten.
            this.defer();
        }
    }
}

impl<F: Fabric> Session<F> {
    /// Starts a session of `initiator` with `tpg`, which may have `depth` commands in flight, and sees the logical units
    /// that `access` says.
    ///
    /// # Errors
    /// `ENOMEM`; `ESHUTDOWN` if the group is going away.
    pub fn start_session(
        tpg: &Arc<Tpg>,
        initiator: CString,
        access: Access,
        depth: u32,
        private: F::Session,
    ) -> Result<Arc<Self>> {
        static NEXT: Atomic<u64> = Atomic::new(1);
        let slots = Slots::new(depth.max(1))?;
        let isid = F::isid(&private);
        let protection = F::protection(&private);
        let (name, class) = one_class!("Session::work");
        let (taken_name, taken_class) = one_class!("Core::taken");
        let session = Arc::pin_init(
            pin_init!(Session {
                core <- pin_init!(Core {
                    id: NEXT.fetch_add(1, Relaxed),
                    initiator,
                    isid,
                    protection,
                    tpg: tpg.clone(),
                    acl: SetOnce::new(),
                    luns <- RcuMap::new(),
                    taken <- Mutex::new(Taken::default(), taken_name, taken_class),
                    left: Atomic::new(0),
                    closed: Atomic::new(0),
                    managing: Atomic::new(0),
                    outside <- Outside::new(),
                }),
                slots,
                deferred: Queue::new(),
                work <- Work::new(name, class),
                private,
            }),
            GFP_KERNEL,
        )?;
        tpg.add_session(session.clone(), access)?;
        Ok(session)
    }

    /// The part that does not depend on the fabric.
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// The fabric's data.
    pub fn private(&self) -> &F::Session {
        &self.private
    }

    /// How many commands may be in flight.
    pub fn depth(&self) -> u32 {
        self.slots.depth()
    }

    /// How many are; a snapshot.
    pub fn in_flight(&self) -> u32 {
        self.slots.busy()
    }

    /// Takes a command in. `None`: all commands that the session may have are in flight, or it is closed; the
    /// fabric answers TASK SET FULL or BUSY itself, since there is no command that could.
    pub fn start(self: &Arc<Self>, start: &Start<'_>) -> Option<Cmd<F, Received>> {
        let mut token = Slots::take(self)?;
        command::begin(&mut token, start);
        if self.core.is_closed() {
            // Nothing was admitted, so nothing is to be answered. Whoever ends the session may have seen the slot taken, and
            // not the command in it.
            drop(token);
            crate::tmf::wake();
            return None;
        }
        Some(Cmd::new(token))
    }

    /// Ends the session, without waiting: no command is taken in any more, and those in flight are aborted. The fabric
    /// gives up what it holds, and goes on taking replies.
    pub fn begin_close(self: &Arc<Self>) {
        if self.core.closed.xchg(1, Full) == 0 {
            self.core.tpg.remove_session(&self.core);
            self.core.release();
        }
        AnySession::abort(&**self, false, &|_, _| true);
        F::kick(self);
    }

    /// Aborts the commands whose tags `which` chooses, without an answer, as when a part of the fabric's session has gone. The
    /// fabric gives up what it holds of them, and goes on taking replies. The initiator hears of it by the unit attention
    /// condition `told` of each logical unit that had some. Process context.
    pub fn abort_tags(self: &Arc<Self>, told: Asc, which: &dyn Fn(u64) -> bool) {
        for (number, nexus) in self.core.nexuses() {
            let its = |unit: Unit| unit.number().is_some_and(|l| usize::from(l.0) == number);
            if self.has(&|tag, unit| which(tag) && its(unit)) {
                nexus.attend(told);
            }
        }
        AnySession::abort(&**self, false, &|tag, _| which(tag));
    }

    /// Has task management find the command with the tag `old` by `new`; whether there is one. No command has `new`, and none is
    /// given `old` again while this one is in flight. Any context.
    pub fn retag(&self, old: u64, new: u64) -> bool {
        self.slots.shared().any(|s| s.retag(old, new))
    }

    /// Whether a command is in flight whose tag `which` chooses. Any context.
    pub fn has_tag(&self, which: &dyn Fn(u64) -> bool) -> bool {
        self.has(&|tag, _| which(tag))
    }

    /// Whether no command and no task management function is at work any more.
    pub fn is_drained(&self) -> bool {
        // The number of slots may be too small while others are taken and given back; a command that is alive is not missed.
        self.slots.busy() == 0 && !self.has(&|_, _| true) && self.core.managing.load(Relaxed) == 0
    }

    /// Ends the session and waits for all of its commands. Must not be called by a thread that replies wait for; such a
    /// one calls [`Self::begin_close`], goes on until [`Self::is_drained`], and calls this then.
    pub fn close(self: &Arc<Self>) {
        self.begin_close();
        crate::tmf::wait_for(
            || self.is_drained(),
            || {
                pr_warn!(
                    "{}/{}: {} commands of the session of {} are still with the back end\n",
                    F::NAME,
                    self.core.tpg.path(),
                    self.slots.busy(),
                    self.core.initiator()
                );
            },
        );
        self.core.tpg.forget_session(&self.core);
        // A RESERVE that was at work.
        self.core.release();
        // The last owner of a command may still be about to drop its reference, in an interrupt.
        wait_for_readers();
        self.forget_ended();
    }

    // Forgets what was taken away and has no commands any more. Process context: it may be the last to have it.
    fn forget_ended(&self) {
        if self.core.left.load(Relaxed) == 0 {
            return;
        }
        let has = |serial| self.has(&|_, unit| unit.is(None, serial));
        while let Some(nexus) = self.core.forget_taken(|nexus| !has(nexus.serial())) {
            drop(nexus);
        }
    }

    pub(crate) fn defer(self: &Arc<Self>) {
        if let Ok(engine) = crate::engine() {
            // A work item that is queued already sees this command too.
            let _ = engine.queue().enqueue(self.clone());
        }
    }
}

/// What task management needs of a session, whatever its fabric.
pub(crate) trait AnySession: Send + Sync {
    /// The part that does not depend on the fabric.
    fn core(&self) -> &Core;

    /// Has the fabric tell the initiator of a unit attention condition that was established. Process context.
    fn tell(&self, lun: LunNumber, what: Asc);

    /// Marks all commands that `select(tag, unit)` chooses as aborted, and tells the fabric; `tell`: they are answered
    /// with TASK ABORTED. Whether there were any. Process context.
    fn abort(&self, tell: bool, select: &dyn Fn(u64, Unit) -> bool) -> bool;

    /// Takes a logical unit away, if it is there; whether it was. Its commands are marked as aborted, to be answered with TASK ABORTED:
    /// [`Self::let_aborted_go`] is to follow, for the device as well. With the group's lists locked.
    fn take_away(&self, nexus: &Arc<Nexus>) -> bool;

    /// Tells the fabric that commands were marked, and whoever else may have them. Process context.
    fn let_aborted_go(&self);

    /// Whether a command that `select` chooses is still in flight. Any context.
    fn has(&self, select: &dyn Fn(u64, Unit) -> bool) -> bool;

    /// Appends the commands that `select` chooses and that are at work, by slot and use of the slot.
    fn at_work(&self, select: &dyn Fn(u64, Unit) -> bool, out: &mut KVVec<(usize, u32)>) -> Result;

    /// Whether such a command still is. Any context.
    fn is_at_work(&self, command: (usize, u32)) -> bool;

    /// The first slot at or after `from` with a marked command that `select` chooses and that is still in flight; `unsent`:
    /// or was answered, and that is not sent yet. Any context.
    fn next_marked(
        &self,
        from: usize,
        unsent: bool,
        select: &dyn Fn(u64, Unit) -> bool,
    ) -> Option<usize>;

    /// The first slot at or after `from` with a command that `which` chooses. Any context.
    fn next(&self, from: usize, which: &dyn Fn(&Shared) -> bool) -> Option<usize>;
}

impl<F: Fabric> AnySession for Session<F> {
    fn core(&self) -> &Core {
        &self.core
    }

    fn tell(&self, lun: LunNumber, what: Asc) {
        F::attention(self, lun, what);
    }

    fn abort(&self, tell: bool, select: &dyn Fn(u64, Unit) -> bool) -> bool {
        // All of them, so that none escapes because another was found.
        let all = self.slots.shared();
        let any = all.filter(|s| s.abort(tell, select)).count() > 0;
        if any {
            self.let_aborted_go();
        }
        any
    }

    fn take_away(&self, nexus: &Arc<Nexus>) -> bool {
        self.core.take_away(nexus, || {
            let all = self.slots.shared();
            all.filter(|s| s.take_away(nexus)).count() > 0
        })
    }

    fn let_aborted_go(&self) {
        F::kick(self);
        crate::delay::kick();
        self.core.outside.let_aborted_go();
        // Who takes a logical unit away from the session does this for the unit's device.
        for (_, nexus) in self.core.nexuses() {
            nexus.lun().device().let_aborted_go();
        }
    }

    fn has(&self, select: &dyn Fn(u64, Unit) -> bool) -> bool {
        self.slots.shared().any(|s| s.is_live(select))
    }

    fn at_work(&self, select: &dyn Fn(u64, Unit) -> bool, out: &mut KVVec<(usize, u32)>) -> Result {
        for (slot, shared) in self.slots.shared().enumerate() {
            if let Some(generation) = shared.at_work(select) {
                out.push((slot, generation), GFP_KERNEL)?;
            }
        }
        Ok(())
    }

    fn is_at_work(&self, (slot, generation): (usize, u32)) -> bool {
        let shared = u32::try_from(slot)
            .ok()
            .and_then(|slot| self.slots.shared_of(slot));
        shared.and_then(|s| s.at_work(&|_, _| true)) == Some(generation)
    }

    fn next_marked(
        &self,
        from: usize,
        unsent: bool,
        select: &dyn Fn(u64, Unit) -> bool,
    ) -> Option<usize> {
        let mut rest = self.slots.shared().enumerate().skip(from);
        rest.find(|(_, s)| s.is_marked(unsent, select))
            .map(|(at, _)| at)
    }

    fn next(&self, from: usize, which: &dyn Fn(&Shared) -> bool) -> Option<usize> {
        let mut rest = self.slots.shared().enumerate().skip(from);
        rest.find(|(_, s)| which(s)).map(|(at, _)| at)
    }
}
