// SPDX-License-Identifier: GPL-2.0

//! Logical units as initiators reach them (SAM-5 4.6).
//!
//! - [`Lun`]: a portal group's LUN, linked to a device. Its gate counts the commands at work; unlinking closes it.
//! - [`MappedLun`]: the same as an ACL shows it to its initiator, under a number of its own, writable or not.
//! - [`Nexus`]: what one session knows of a logical unit: the I_T_L nexus, with its unit attentions.

use crate::{
    alua::{Group, Port, Secondary, SecondaryState, Settings, LIMITED, MEASURED, SEGMENTED},
    command::{Command, Direction},
    copy::Copies,
    device::Device,
    limits::{Limits, Taken},
    mode::interlock,
    session::Core,
    shares::{Flow, Weight},
    special::Special,
    stats::{LunStats, MappedStats},
    tpg::Tpg,
};
use kernel::{
    new_spinlock,
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full, Relaxed, Release},
        Arc, SpinLock,
    },
};
use lio_glue::{
    clock,
    gate::{Gated, Ticket},
    once_box::OnceBox,
};
use lio_policy::{
    attention::{Admission, Queue},
    pr::Access,
};
use lio_scsi::{
    cdb::{Command as Cdb, Decoded, Features},
    lun::Lun as LunNumber,
    mode::Interlock,
    pi,
    priority::Priority,
    sense::{Asc, Sense},
    status::Status,
};

/// What commands at work hold of a LUN.
pub struct Export {
    device: Arc<Device>,
}

impl Export {
    /// The device.
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }
}

/// A LUN of a target portal group, linked to a device.
#[pin_data]
pub struct Lun {
    number: LunNumber,
    tpg: Arc<Tpg>,
    // From the first session that has it on.
    gate: OnceBox<Gated<Export>>,
    device: Arc<Device>,
    pub(crate) stats: LunStats,
    // What commands have to know of the two that follow.
    port: Atomic<u64>,
    #[pin]
    group: SpinLock<Arc<Group>>,
    secondary: OnceBox<Arc<Secondary>>,
    special: Special,
    weight: Weight,
    // How many of this and of those that initiators see have limits, and histograms.
    limited: Atomic<u32>,
    measured: Atomic<u32>,
    // When limits were set: what came before waits no longer.
    released: Atomic<u64>,
}

impl Lun {
    pub(crate) fn new(
        tpg: &Arc<Tpg>,
        number: LunNumber,
        device: &Arc<Device>,
    ) -> Result<Arc<Self>> {
        let group = device.alua().default_group().clone();
        Arc::pin_init(
            try_pin_init!(Lun {
                number,
                tpg: tpg.clone(),
                gate: OnceBox::new(),
                device: device.clone(),
                stats: LunStats::new(),
                port: Atomic::new(0),
                group <- new_spinlock!(group, "Lun::group"),
                secondary: OnceBox::new(),
                special: Special::new(),
                weight: Weight::new(),
                limited: Atomic::new(0),
                measured: Atomic::new(0),
                released: Atomic::new(0),
            }? Error),
            GFP_KERNEL,
        )
    }

    /// What commands have to know of the port's access state. Lock-free.
    #[inline]
    pub(crate) fn port(&self) -> Port {
        Port(self.port.load(Relaxed))
    }

    /// The group is as `settings` say. With the device's groups locked, as what follows.
    pub(crate) fn set_port(&self, settings: &Settings) {
        let mut port = Port::new(settings, self.secondary().offline);
        if self.limited.load(Relaxed) != 0 || self.device.shares().is_on() {
            port.0 |= LIMITED;
        }
        if self.measured.load(Relaxed) != 0 {
            port.0 |= MEASURED;
        }
        if self.device.alua().is_segmented() {
            port.0 |= SEGMENTED;
        }
        self.port.store(port.0, Relaxed);
    }

    /// The limits of all commands that come through this port, and how long they take.
    pub(crate) fn special(&self) -> &Special {
        &self.special
    }

    /// Its share of the device.
    pub(crate) fn weight(&self) -> &Weight {
        &self.weight
    }

    /// Sets limits of this, or of an initiator's view of it.
    ///
    /// # Errors
    /// `ENOMEM`
    pub(crate) fn set_limits(&self, special: &Special, f: impl FnOnce(&Limits)) -> Result {
        let limits = special.make_limits()?;
        self.device.with_groups(|_| {
            let before = limits.is_set();
            f(limits);
            count(&self.limited, before, limits.is_set());
            self.group().with(|s| self.set_port(s));
        });
        self.released.store(clock::now_ns(), Release);
        crate::delay::release(self);
        Ok(())
    }

    /// Whether limits have become others since a command asked them at the time `at`: it has to ask again.
    pub(crate) fn has_released(&self, at: u64) -> bool {
        self.released.load(Acquire) >= at
    }

    /// Sets the weight of this, or of an initiator's view of it; 0 is none.
    ///
    /// # Errors
    /// `ENODEV`: this is not linked any more.
    pub(crate) fn set_shares(&self, of: &Weight, weight: u32) -> Result {
        let device = &self.device;
        device.with_groups(|_| {
            let mut linked = false;
            // The closures do not fail.
            let _ = device.each_lun(|lun| {
                linked |= core::ptr::eq(&**lun, self);
                Ok(())
            });
            if !linked {
                return Err(ENODEV);
            }
            let before = of.set(weight);
            device.shares().count(before != 0, weight != 0);
            // Commands of all ports have to know.
            let _ = device.each_lun(|lun| {
                lun.group().with(|s| lun.set_port(s));
                Ok(())
            });
            Ok(())
        })
    }

    /// Sets whether a histogram of this, or of an initiator's view of it, is kept.
    ///
    /// # Errors
    /// `ENOMEM`
    pub(crate) fn set_measured(&self, special: &Special, on: bool) -> Result {
        let latency = match special.latency() {
            Some(latency) => latency,
            None if !on => return Ok(()),
            None => special.make_latency()?,
        };
        self.device.with_groups(|_| {
            let before = latency.set(on)?;
            if on {
                self.device.kept().idle().begin(clock::now_ns());
            }
            count(&self.measured, before, on);
            self.group().with(|s| self.set_port(s));
            Ok(())
        })
    }

    /// The target port group.
    pub(crate) fn group(&self) -> Arc<Group> {
        self.group.lock().clone()
    }

    pub(crate) fn set_group(&self, group: Arc<Group>) {
        let old = core::mem::replace(&mut *self.group.lock(), group);
        drop(old);
    }

    /// The secondary access state.
    pub(crate) fn secondary(&self) -> SecondaryState {
        self.secondary.get().map(|s| s.get()).unwrap_or_default()
    }

    /// The same, to be changed.
    ///
    /// # Errors
    /// `ENOMEM`
    pub(crate) fn keep_secondary(&self) -> Result<&Arc<Secondary>> {
        match self.secondary.get() {
            Some(secondary) => Ok(secondary),
            None => self.secondary.get_or_init(Secondary::new()?),
        }
    }

    /// Which commands and bits of them are valid through this port, which is [`Self::port`].
    pub(crate) fn features(&self, port: Port) -> Features {
        let features = self.device.features();
        Features {
            set_target_port_groups: features.target_port_groups && port.explicit(),
            referrals: port.is_segmented(),
            ..features
        }
    }

    /// Establishes a unit attention on all I_T nexuses, but for the one with the serial number `except`.
    pub(crate) fn attend(self: &Arc<Self>, what: Asc, except: Option<u64>) {
        // The closure does not fail.
        let _ = self.tpg.each_session(|session| {
            let seen = session.core().nexuses();
            for (_, nexus) in seen.filter(|(_, n)| Arc::ptr_eq(n.lun(), self)) {
                if Some(nexus.serial()) != except {
                    nexus.attend(what);
                    session.tell(nexus.mapped().number(), what);
                }
            }
            Ok(())
        });
    }

    /// The number within the portal group.
    pub fn number(&self) -> LunNumber {
        self.number
    }

    /// The portal group.
    pub fn tpg(&self) -> &Arc<Tpg> {
        &self.tpg
    }

    /// The device.
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// Counters.
    pub fn stats(&self) -> &LunStats {
        &self.stats
    }

    /// Enters, for one command. Lock-free.
    pub(crate) fn enter(&self) -> Option<Ticket<Export>> {
        self.gate.get()?.try_enter()
    }

    // Sessions have it from now on: it takes what commands need. With the group's lists locked, as `close`.
    fn begin(&self) -> Result {
        if self.is_had() {
            return Ok(());
        }
        self.device.stats().begin()?;
        self.stats.begin()?;
        self.gate.get_or_init(Gated::new(Export {
            device: self.device.clone(),
        })?)?;
        Ok(())
    }

    /// Whether a session ever had it.
    pub(crate) fn is_had(&self) -> bool {
        self.gate.get().is_some()
    }

    /// Lets no command in any more. With the group's lists locked.
    pub(crate) fn close(&self) {
        if let Some(gate) = self.gate.get() {
            gate.close();
        }
    }

    /// Whether all commands have left, waiting for a while.
    pub(crate) fn wait_closed(&self, timeout_ms: u32) -> bool {
        self.gate.get().is_none_or(|g| g.wait_closed(timeout_ms))
    }
}

// Counts one that has something now, or had.
fn count(counter: &Atomic<u32>, before: bool, now: bool) {
    match (before, now) {
        (false, true) => counter.add(1, Relaxed),
        (true, false) => {
            counter.fetch_sub(1, Relaxed);
        }
        _ => (),
    }
}

/// A LUN as an initiator sees it.
pub struct MappedLun {
    number: LunNumber,
    lun: Arc<Lun>,
    write_protect: Atomic<bool>,
    // Made by demo mode, or by a fabric without ACLs: no link in the tree stands for it.
    generated: Atomic<bool>,
    // The device's losses of data that this initiator has been told of, by whatever session.
    losses: Atomic<u32>,
    pub(crate) stats: MappedStats,
    special: Special,
    flow: Flow,
}

impl Drop for MappedLun {
    fn drop(&mut self) {
        // Commands find out when the LUN's word is next set.
        count(&self.lun.limited, self.special.is_limited(), false);
        let shares = self.lun.device.shares();
        shares.count(self.weight().get() != 0, false);
        count(&self.lun.measured, self.special.is_measured(), false);
    }
}

impl MappedLun {
    /// For the initiator whose name has this [digest](crate::tpg::digest).
    pub(crate) fn new(
        number: LunNumber,
        lun: &Arc<Lun>,
        write_protect: bool,
        who: u64,
    ) -> Result<Arc<Self>> {
        Self::make(number, lun, write_protect, who, false)
    }

    /// The group's LUN under its own number, as those see it who have no ACL.
    pub(crate) fn generate(lun: &Arc<Lun>, write_protect: bool, who: u64) -> Result<Arc<Self>> {
        Self::make(lun.number(), lun, write_protect, who, true)
    }

    fn make(
        number: LunNumber,
        lun: &Arc<Lun>,
        write_protect: bool,
        who: u64,
        generated: bool,
    ) -> Result<Arc<Self>> {
        Ok(Arc::new(
            MappedLun {
                number,
                lun: lun.clone(),
                write_protect: Atomic::new(write_protect),
                generated: Atomic::new(generated),
                losses: Atomic::new(lun.device.losses().told(who)),
                stats: MappedStats::new(),
                special: Special::new(),
                flow: Flow::new(),
            },
            GFP_KERNEL,
        )?)
    }

    /// The number that the initiator uses.
    pub fn number(&self) -> LunNumber {
        self.number
    }

    /// The portal group's LUN.
    pub fn lun(&self) -> &Arc<Lun> {
        &self.lun
    }

    /// A session has it from now on.
    ///
    /// # Errors
    /// `ENOMEM`
    pub(crate) fn begin(&self) -> Result {
        self.stats.begin()?;
        self.lun.begin()
    }

    /// The limits of this initiator's commands, and how long they take.
    pub(crate) fn special(&self) -> &Special {
        &self.special
    }

    /// Its share of the device.
    pub(crate) fn weight(&self) -> &Weight {
        self.flow.weight()
    }

    /// What it has asked for of the device.
    pub(crate) fn flow(&self) -> &Flow {
        &self.flow
    }

    /// Counters.
    pub fn stats(&self) -> &MappedStats {
        &self.stats
    }

    /// Whether no link in the tree stands for it.
    pub(crate) fn is_generated(&self) -> bool {
        self.generated.load(Relaxed)
    }

    /// A link stands for it from now on.
    pub(crate) fn configure(&self) {
        self.generated.store(false, Relaxed);
    }

    /// The device's losses of data that was acknowledged, if there were any since this initiator was last told so.
    pub(crate) fn untold(&self) -> Option<u32> {
        let now = self.lun.device.losses().count();
        (self.losses.load(Relaxed) != now).then_some(now)
    }

    /// The initiator `who` does not have it any more: the device remembers what it was told.
    pub(crate) fn leave(&self, who: u64) {
        let device = &self.lun.device;
        let cached = device.backend().write_cache() && !self.write_protect();
        let told = self.losses.load(Relaxed);
        device.losses().leave(who, told, cached);
    }

    /// It is told of so many.
    pub(crate) fn tell(&self, losses: u32) {
        self.losses.store(losses, Relaxed);
    }

    /// Whether this initiator may only read.
    pub fn write_protect(&self) -> bool {
        self.write_protect.load(Relaxed)
    }

    /// Sets whether this initiator may only read; commands from now on see it.
    pub fn set_write_protect(&self, on: bool) {
        self.write_protect.store(on, Relaxed);
    }
}

/// Statuses of which the next command is told where UA_INTLCK_CTRL is 11b, and how (SPC-5 7.5.10).
const PREVIOUS: [(Status, Asc); 3] = [
    (Status::Busy, Asc::PREVIOUS_BUSY),
    (Status::TaskSetFull, Asc::PREVIOUS_TASK_SET_FULL),
    (
        Status::ReservationConflict,
        Asc::PREVIOUS_RESERVATION_CONFLICT,
    ),
];

/// A flush behind an answer was asked for, and is under way.
const FLUSH_ASKED: u32 = 1;
const FLUSH_BEGUN: u32 = 2;

/// One session's view of a logical unit.
#[pin_data]
pub struct Nexus {
    mapped: Arc<MappedLun>,
    // No other has had it.
    serial: u64,
    // What the port has of it where the unit has none.
    protection: Option<pi::Type>,
    // PREVENT ALLOW MEDIUM REMOVAL
    prevents_removal: Atomic<bool>,
    // SET PRIORITY; 0 is none.
    priority: Atomic<u32>,
    // Whether there are unit attentions at all: what a command looks at.
    attention: Atomic<u32>,
    // Statuses that are to make one each: they are answered in any context.
    previous: [Atomic<bool>; PREVIOUS.len()],
    #[pin]
    attentions: SpinLock<Queue>,
    // Of a flush that goes on behind the answer: see FLUSH_ASKED.
    flush: Atomic<u32>,
    // What reservations leave to the session, in its lowest byte, and in which epoch that is so.
    access: Atomic<u64>,
    copies: Copies,
}

impl Nexus {
    pub(crate) fn new(mapped: Arc<MappedLun>, protection: Option<pi::Type>) -> Result<Arc<Self>> {
        static NEXT: Atomic<u64> = Atomic::new(1);
        Arc::pin_init(
            pin_init!(Nexus {
                mapped,
                serial: NEXT.fetch_add(1, Relaxed),
                protection,
                prevents_removal: Atomic::new(false),
                priority: Atomic::new(0),
                attention: Atomic::new(0),
                previous: [const { Atomic::new(false) }; PREVIOUS.len()],
                attentions <- new_spinlock!(Queue::new(), "Nexus::attentions"),
                flush: Atomic::new(0),
                access: Atomic::new(0),
                copies: Copies::new(),
            }),
            GFP_KERNEL,
        )
    }

    /// The LUN as this session's initiator sees it.
    pub fn mapped(&self) -> &Arc<MappedLun> {
        &self.mapped
    }

    /// The portal group's LUN.
    pub fn lun(&self) -> &Arc<Lun> {
        &self.mapped.lun
    }

    /// The protection information of the unit as this initiator sees it: what is kept beside each block, or else what the port has
    /// between itself and the initiator.
    pub(crate) fn protection(&self) -> Option<pi::Type> {
        self.lun().device().protection().or(self.protection)
    }

    /// Which commands and bits of them are valid through `port`, which is that of [`Self::lun`].
    pub(crate) fn features(&self, port: Port) -> Features {
        let mut features = self.lun().features(port);
        features.protection = features.protection.or(self.protection);
        features
    }

    /// What tells it from all others.
    pub(crate) fn serial(&self) -> u64 {
        self.serial
    }

    /// Its copies that have list identifiers.
    pub(crate) fn copies(&self) -> &Copies {
        &self.copies
    }

    /// Whether this initiator keeps the medium in.
    pub(crate) fn prevents_removal(&self) -> bool {
        self.prevents_removal.load(Relaxed)
    }

    /// Has it do so, or not.
    pub(crate) fn set_prevents_removal(&self, prevents: bool) {
        self.prevents_removal.store(prevents, Relaxed);
    }

    /// The priority that was set for it, if one was.
    pub(crate) fn priority(&self) -> Priority {
        Priority::new(self.priority.load(Relaxed) as u8)
    }

    /// Sets it.
    pub(crate) fn set_priority(&self, priority: Priority) {
        self.priority.store(priority.get().into(), Relaxed);
    }

    /// What reservations of others leave to `session`, whose nexus this is. Lock-free but once in each epoch. Process context.
    pub(crate) fn access(&self, session: &Core) -> Access {
        let reservations = self.lun().device().reservations();
        let epoch = reservations.epoch();
        if epoch == 0 {
            return Access::ALL;
        }
        let known = self.access.load(Relaxed);
        if known >> 8 == epoch {
            return Access::from_bits(known as u8);
        }
        let (epoch, access) = reservations.access(session, self);
        self.access
            .store((epoch << 8) | u64::from(access.bits()), Relaxed);
        access
    }

    /// Whether the first unit attention comes before RESERVATION CONFLICT (SAM-5, 5.3.3).
    pub(crate) fn outranks_conflict(&self) -> bool {
        self.with_attentions(|queue| queue.outranks_conflict())
            .unwrap_or(false)
    }

    /// A command of `bytes` comes now: what it takes of limits, and when it starts.
    pub(crate) fn take(&self, bytes: u64) -> (Taken, u64) {
        let at = clock::now_ns();
        let start = self.lun().special.take(at, bytes);
        let start = start.max(self.mapped.special.take(at, bytes));
        let taken = Taken {
            at,
            bytes,
            is_back: false,
        };
        (taken, start)
    }

    /// A command that took its turn does not begin. Any context.
    pub(crate) fn give_back(&self, taken: Taken) {
        if !taken.is_back {
            self.lun().special.give_back(taken);
            self.mapped.special.give_back(taken);
        }
    }

    /// Establishes a unit attention. Process context.
    pub(crate) fn attend(&self, what: Asc) {
        let mut queue = self.attentions.lock();
        queue.establish(what);
        self.attention.store(1, Release);
    }

    /// It is to hear of the next flush that begins behind answers, should it fail.
    pub(crate) fn await_flush(&self) {
        self.flush.store(FLUSH_ASKED, Release);
    }

    /// A flush begins.
    pub(crate) fn begin_flush(&self) {
        let _ = self.flush.cmpxchg(FLUSH_ASKED, FLUSH_BEGUN, Full);
    }

    /// It has ended: whether this is to hear of it, and of no later one.
    pub(crate) fn end_flush(&self) -> bool {
        self.flush.cmpxchg(FLUSH_BEGUN, 0, Full).is_ok()
    }

    /// A command that was answered has failed: the next one is told so. Process context.
    pub(crate) fn defer(&self, sense: Sense) {
        let mut queue = self.attentions.lock();
        queue.defer(sense);
        self.attention.store(1, Release);
    }

    /// Whether a unit attention comes before `command`, which is `None` if it could not be decoded.
    pub(crate) fn attention_before(
        &self,
        command: Option<&Cdb>,
        interlock: Interlock,
    ) -> Option<Sense> {
        let admission = self.with_attentions(|queue| match command {
            Some(command) => queue.admit(command, interlock),
            None => queue.admit_undecoded(interlock),
        });
        match admission {
            Some(Admission::Report(sense)) => Some(sense),
            _ => None,
        }
    }

    /// Takes the unit attention that comes first, for REQUEST SENSE.
    pub(crate) fn take_attention(&self) -> Option<Sense> {
        self.with_attentions(Queue::take).flatten()
    }

    /// Forgets a unit attention, because what it says has been reported.
    pub(crate) fn forget(&self, what: Asc) {
        self.with_attentions(|queue| queue.clear(what));
    }

    // Calls `f` with the queue if there is anything in it.
    fn with_attentions<R>(&self, f: impl FnOnce(&mut Queue) -> R) -> Option<R> {
        if self.attention.load(Acquire) == 0 {
            return None;
        }
        let mut queue = self.attentions.lock();
        for (previous, (_, what)) in self.previous.iter().zip(PREVIOUS) {
            if previous.load(Relaxed) && previous.xchg(false, Full) {
                queue.establish(what);
            }
        }
        let result = f(&mut queue);
        if queue.is_empty() {
            // A status that was answered meanwhile is seen, or sets it again after this.
            self.attention.xchg(0, Full);
            if self.previous.iter().any(|p| p.load(Relaxed)) {
                self.attention.store(1, Release);
            }
        }
        Some(result)
    }

    // A command is answered with `status`. Any context.
    fn answered(&self, status: Status) {
        let device = self.lun().device();
        if interlock(device.attrib().emulate_ua_intlck_ctrl()) != Interlock::Establish {
            return;
        }
        for (previous, (which, _)) in self.previous.iter().zip(PREVIOUS) {
            if which == status {
                previous.store(true, Relaxed);
                self.attention.xchg(1, Full);
            }
        }
    }

    // Counts what has nothing to do with the medium's data but is in the statistics, and what was verified.
    #[cold]
    fn count_others(&self, cmd: &Command, read: u64, written: u64) {
        let device = self.lun().device();
        if let Some(decoded) = cmd.decoded.filter(|d| d.command.transfers()) {
            // The protection information behind the blocks.
            let size = device.block_size();
            let block = u64::from(decoded.protect.block(size));
            let tuple = block.saturating_sub(u64::from(size.bytes()));
            let blocks = |bytes: u64| bytes.checked_div(block).unwrap_or(0);
            let of = |bytes: u64| blocks(bytes).saturating_mul(tuple);
            return device.kept().count_bytes(of(read), of(written));
        }
        let verified = match cmd.decoded.as_ref().map(|d| &d.command) {
            Some(Cdb::Verify { extent, .. }) if cmd.status == Status::Good => {
                extent.bytes(device.block_size()).unwrap_or(0)
            }
            _ => 0,
        };
        let kept = device.kept();
        kept.count_bytes(read, written);
        kept.count_others(cmd.direction, verified);
    }

    // Counts a command that belongs to a group, as general statistics count it.
    #[cold]
    fn count_group(&self, decoded: &Decoded, direction: Direction, bytes: u64, ns: u64) {
        let device = self.lun().device();
        if !decoded.command.transfers() || !device.mode().groups().has(decoded.group) {
            return;
        }
        let block = u64::from(decoded.protect.block(device.block_size()));
        let blocks = bytes.checked_div(block).unwrap_or(0);
        let groups = device.kept().groups();
        groups.count(decoded.group, direction, blocks, ns);
    }

    // Counts a command that is about to be answered.
    pub(crate) fn count_reply(&self, cmd: &Command) {
        let bytes = if cmd.status == Status::Good {
            cmd.data.len() as u64
        } else {
            0
        };
        let (read, written) = match cmd.direction {
            Direction::Read => (bytes, 0),
            Direction::Write => (0, bytes),
            Direction::None => (0, 0),
        };
        let mut time = 0;
        if cmd.started != 0 {
            let took = clock::now_ns().saturating_sub(cmd.started);
            time = took;
            self.mapped.special.count(cmd.direction, took);
            self.lun().special.count(cmd.direction, took);
            let now = cmd.started.saturating_add(took);
            self.lun().device.kept().idle().leave(now);
            if cmd.decoded.is_some_and(|d| d.command.transfers()) {
                self.lun().device.stats().count_time(cmd.direction, took);
            }
        }
        let full = cmd.status == Status::TaskSetFull || cmd.status == Status::Busy;
        if full || cmd.status == Status::ReservationConflict {
            self.answered(cmd.status);
        }
        let blocks = |d: &Decoded| d.command.transfers() && !d.protect.transfers();
        if !cmd.decoded.as_ref().is_some_and(blocks) {
            self.count_others(cmd, read, written);
        }
        if let Some(decoded) = cmd.decoded.as_ref().filter(|d| d.group != 0) {
            self.count_group(decoded, cmd.direction, bytes, time);
        }
        self.mapped.stats.count(read, written);
        let (lun, direction) = (self.lun(), cmd.direction);
        lun.stats.count(direction, read, written, full);
        lun.device.stats().count(direction, read, written, full);
    }
}
