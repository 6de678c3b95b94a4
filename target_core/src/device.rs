// SPDX-License-Identifier: GPL-2.0

//! Devices: a back end with the attributes, names and statistics of `core/KIND_N/NAME`.

use crate::{
    alua::Alua,
    attrib::Attrib,
    backend::{Backend, Geometry, Kind},
    behind::Behind,
    erase::Eraser,
    flaws::Flaws,
    kept::Kept,
    losses::Losses,
    lun::{Lun, Nexus},
    mode::Mode,
    order::{self, Order},
    pr::Reservations,
    priority::Priorities,
    session::Core,
    shares::Shares,
    stats::LunStats,
    turns::Turns,
};
use kernel::{
    error::code::*,
    new_mutex, new_spinlock,
    prelude::*,
    str::CString,
    sync::{
        atomic::{Acquire, Atomic, Full, Relaxed},
        Arc, Mutex, SetOnce, SpinLock,
    },
    workqueue::Work,
};
use lio_glue::{clock, module::Pin as ModulePin, noio, one_class};
use lio_scsi::{
    block::{orwrite::Generations, Condition},
    cdb::Features,
    lba::{BlockSize, Blocks},
    pi,
    sense::Asc,
};

/// The most that one command transfers, in bytes: what the engine allocates for it at once.
pub const MAX_TRANSFER: u32 = 16 << 20;

/// A directory `core/KIND_N`.
pub struct Hba {
    kind: &'static dyn Kind,
    name: CString,
    index: u32,
    // Last: the kind is the module's.
    _module: ModulePin,
}

impl Hba {
    pub(crate) fn new(
        kind: &'static dyn Kind,
        name: CString,
        module: ModulePin,
    ) -> Result<Arc<Self>> {
        static NEXT: Atomic<u32> = Atomic::new(1);
        Ok(Arc::new(
            Hba {
                kind,
                name,
                index: NEXT.fetch_add(1, Relaxed),
                _module: module,
            },
            GFP_KERNEL,
        )?)
    }

    /// The kind of back end.
    pub fn kind(&self) -> &'static dyn Kind {
        self.kind
    }

    /// The directory's name, `KIND_N`.
    pub fn name(&self) -> &CStr {
        &self.name
    }

    /// The HBA index of the SCSI MIB.
    pub fn index(&self) -> u32 {
        self.index
    }
}

/// Names that an administrator can set: `wwn/`.
#[derive(Default)]
pub struct Names {
    /// `vpd_unit_serial`, at most 254 bytes.
    pub serial: KVec<u8>,
    /// `vendor_id`, at most 8 bytes; empty: `LIO-ORG`.
    pub vendor: KVec<u8>,
    /// `product_id`, at most 16 bytes; empty: the back end's.
    pub product: KVec<u8>,
    /// `revision`, at most 4 bytes; empty: `4.0`.
    pub revision: KVec<u8>,
    /// `company_id`, 24 bits; `None`: 001405h.
    pub company: Option<u32>,
    /// `pd_text_id_info`: SET IDENTIFYING INFORMATION's text, at most 255 bytes.
    pub text_id: KVec<u8>,
    /// SET IDENTIFYING INFORMATION's other information, at most 64 bytes.
    pub device_id: KVec<u8>,
    /// `alias`
    pub alias: KVec<u8>,
    /// `udev_path`
    pub udev_path: KVec<u8>,
}

/// A back end that is closed once, with its device's directory, or with the device that never got one.
struct Used {
    backend: Arc<dyn Backend>,
    closed: Atomic<bool>,
}

impl Used {
    fn close(&self) {
        if !self.closed.xchg(true, Full) {
            self.backend.disable();
        }
    }
}

impl Drop for Used {
    fn drop(&mut self) {
        self.close();
    }
}

/// Who needs the back end to be open.
#[derive(Default)]
struct Users {
    /// The LUNs that are linked.
    luns: KVec<Arc<Lun>>,
    /// LUNs that were, and still have commands. There is room for all that are linked.
    leaving: KVec<Arc<Lun>>,
    /// Who else keeps it open.
    holding: usize,
    /// The device's directory is gone.
    deleted: bool,
}

impl Users {
    fn is_empty(&self) -> bool {
        self.luns.is_empty() && self.leaving.is_empty() && self.holding == 0
    }
}

/// A device.
#[pin_data]
pub struct Device {
    backend: Used,
    name: CString,
    path: CString,
    index: u32,
    attrib: Attrib,
    geometry: SetOnce<Geometry>,
    had_cache: Atomic<bool>,
    // The size that initiators were last told of, in bytes.
    known_size: Atomic<u64>,
    losses: Arc<Losses>,
    #[pin]
    names: Mutex<Names>,
    // Serialises what opens and closes the back end, and what may change while no LUN is linked. No command takes it: who
    // opens a disk waits for commands of that disk, which may be one of ours.
    #[pin]
    setup: Mutex<()>,
    // After `setup`. Commands take it, too.
    #[pin]
    users: Mutex<Users>,
    stats: LunStats,
    resets: Atomic<u32>,
    aborts: Atomic<u32>,
    aborts_missed: Atomic<u32>,
    created: usize,
    shares: Arc<Shares>,
    #[pin]
    turns: Turns,
    #[pin]
    order: Order,
    #[pin]
    pub(crate) order_work: Work<Device>,
    #[pin]
    pub(crate) behind_work: Work<Device, 1>,
    #[pin]
    pub(crate) turns_work: Work<Device, 2>,
    #[pin]
    behind: Behind,
    #[pin]
    alua: Alua,
    // What keeps the unit from being used as usual, as `Condition::pack` has it: 0 is nothing.
    condition: Atomic<u32>,
    #[pin]
    eraser: Eraser,
    // Copies that this unit's commands have begun.
    copies: Atomic<u32>,
    // The next number of a piece of any copy from or to it.
    pieces: Atomic<u64>,
    // How often it was to be erased.
    erased: Atomic<u32>,
    #[pin]
    flaws: Flaws,
    // ORWRITE's; changed in its turn, and by a hard reset.
    #[pin]
    generations: SpinLock<Generations>,
    #[pin]
    mode: Mode,
    #[pin]
    priorities: Priorities,
    #[pin]
    kept: Kept,
    #[pin]
    reservations: Reservations,
    // Last: it holds the module that the back end's code is in.
    hba: Arc<Hba>,
}

impl Device {
    pub(crate) fn new(hba: &Arc<Hba>, name: CString) -> Result<Arc<Self>> {
        static NEXT: Atomic<u32> = Atomic::new(1);
        let backend = hba.kind().create()?;
        let alua = Alua::new()?;
        let path = CString::try_from_fmt(fmt!("core/{}/{}", hba.name(), &*name))?;
        let (work_name, work_class) = one_class!("Device::order_work");
        let (behind_name, behind_class) = one_class!("Device::behind_work");
        let (turns_name, turns_class) = one_class!("Device::turns_work");
        Arc::pin_init(
            try_pin_init!(Device {
                backend: Used {
                    backend,
                    closed: Atomic::new(false),
                },
                name,
                path,
                index: NEXT.fetch_add(1, Relaxed),
                attrib: Attrib::new(),
                geometry: SetOnce::new(),
                had_cache: Atomic::new(false),
                known_size: Atomic::new(0),
                losses: Losses::new()?,
                names <- new_mutex!(Names::default(), "Device::names"),
                setup <- new_mutex!((), "Device::setup"),
                users <- new_mutex!(Users::default(), "Device::users"),
                stats: LunStats::new(),
                resets: Atomic::new(0),
                aborts: Atomic::new(0),
                aborts_missed: Atomic::new(0),
                created: clock::jiffies(),
                shares: Shares::new()?,
                turns <- Turns::new(),
                order <- Order::new(),
                order_work <- Work::new(work_name, work_class),
                behind_work <- Work::new(behind_name, behind_class),
                turns_work <- Work::new(turns_name, turns_class),
                behind <- Behind::new(),
                alua <- alua,
                condition: Atomic::new(0),
                eraser <- Eraser::new(),
                flaws <- Flaws::new(),
                generations <- new_spinlock!(Generations::new(), "Device::generations"),
                copies: Atomic::new(0),
                pieces: Atomic::new(0),
                erased: Atomic::new(0),
                mode <- Mode::new(),
                priorities <- Priorities::new(),
                kept <- Kept::new(),
                reservations <- Reservations::new(),
                hba: hba.clone(),
            }? Error),
            GFP_KERNEL,
        )
    }

    /// The directory above.
    pub fn hba(&self) -> &Arc<Hba> {
        &self.hba
    }

    /// The name of the device's directory.
    pub fn name(&self) -> &CStr {
        &self.name
    }

    /// `core/KIND_N/NAME`, for log messages.
    pub fn path(&self) -> &CStr {
        &self.path
    }

    /// The device index of the SCSI MIB.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// When the device was made, in jiffies.
    pub fn created(&self) -> usize {
        self.created
    }

    /// What stores the blocks.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend.backend
    }

    /// The attributes.
    pub fn attrib(&self) -> &Attrib {
        &self.attrib
    }

    pub(crate) fn alua(&self) -> &Alua {
        &self.alua
    }

    pub(crate) fn order(&self) -> &Order {
        &self.order
    }

    pub(crate) fn behind(&self) -> &Behind {
        &self.behind
    }

    pub(crate) fn eraser(&self) -> &Eraser {
        &self.eraser
    }

    pub(crate) fn flaws(&self) -> &Flaws {
        &self.flaws
    }

    pub(crate) fn generations(&self) -> &SpinLock<Generations> {
        &self.generations
    }

    pub(crate) fn copies(&self) -> &Atomic<u32> {
        &self.copies
    }

    /// How often all blocks were to be erased.
    pub(crate) fn erased(&self) -> &Atomic<u32> {
        &self.erased
    }

    pub(crate) fn pieces(&self) -> &Atomic<u64> {
        &self.pieces
    }

    pub(crate) fn shares(&self) -> &Arc<Shares> {
        &self.shares
    }

    pub(crate) fn turns(&self) -> &Turns {
        &self.turns
    }

    pub(crate) fn priorities(&self) -> &Priorities {
        &self.priorities
    }

    pub(crate) fn mode(&self) -> &Mode {
        &self.mode
    }

    pub(crate) fn kept(&self) -> &Kept {
        &self.kept
    }

    pub(crate) fn reservations(&self) -> &Reservations {
        &self.reservations
    }

    /// The names that an administrator can set.
    pub fn names(&self) -> &Mutex<Names> {
        &self.names
    }

    /// Counters.
    pub fn stats(&self) -> &LunStats {
        &self.stats
    }

    /// What the back end found when the device was enabled; `None` before.
    pub fn geometry(&self) -> Option<&Geometry> {
        self.geometry.as_ref()
    }

    /// Enables the device.
    ///
    /// # Errors
    /// `EEXIST` if it is already; what the back end fails with.
    pub fn enable(self: &Arc<Self>) -> Result {
        let _setup = self.setup.lock();
        if self.geometry.as_ref().is_some() {
            pr_err!("{}: already enabled\n", self.path());
            return Err(EEXIST);
        }
        let geometry = self.backend().enable(self)?;
        if BlockSize::new(geometry.block_size).is_none() {
            // Smaller blocks could not be read or written one by one.
            pr_err!(
                "{}: blocks of {} bytes are not supported\n",
                self.path(),
                geometry.block_size
            );
            return Err(EOPNOTSUPP);
        }
        let asked = self.attrib.block_size();
        self.attrib.adopt(&geometry);
        if asked != 0 && asked != self.attrib.block_size() {
            pr_warn!(
                "{}: block_size is {}: {} is less than the storage's\n",
                self.path(),
                self.attrib.block_size(),
                asked
            );
        }
        self.known_size.store(self.backend().bytes(), Relaxed);
        self.geometry.populate(geometry);
        self.adopt_mode();
        Ok(())
    }

    // Commands take this lock too, under locks of who sends them: nothing that is done with it may wait for one, to get memory
    // or for another reason.
    fn with_users<R>(&self, f: impl FnOnce(&mut Users) -> R) -> R {
        noio::scope(|| f(&mut self.users.lock()))
    }

    /// Closes the back end: the device's directory is gone, and nothing is linked to it any more. If commands are still at
    /// work, it is closed after the last one.
    pub(crate) fn close(&self) {
        // A link that is just being made finds the device deleted, or is undone before this is called.
        let _setup = self.setup.lock();
        let unused = self.with_users(|users| {
            users.deleted = true;
            users.is_empty()
        });
        crate::thresholds::forget(self);
        if unused {
            self.backend.close();
        } else {
            pr_warn!(
                "{}: deleted; it is closed when its last commands are done\n",
                self.path()
            );
        }
    }

    /// Calls `f` while no LUN is linked to the device, nor can be; `None` if one is.
    pub(crate) fn unexported<R>(&self, f: impl FnOnce() -> R) -> Option<R> {
        let _setup = self.setup.lock();
        self.with_users(|users| users.luns.is_empty()).then(f)
    }

    /// The same while there are no commands of LUNs that were linked either, nor anything behind an answer.
    pub(crate) fn unused<R>(&self, f: impl FnOnce() -> R) -> Option<R> {
        let _setup = self.setup.lock();
        self.with_users(|users| users.is_empty()).then(f)
    }

    /// Links a LUN to the device.
    pub(crate) fn add_lun(self: &Arc<Self>, lun: &Arc<Lun>) -> Result {
        let _setup = self.setup.lock();
        if self.geometry.as_ref().is_none() {
            pr_err!("{}: not enabled yet\n", self.path());
            return Err(ENODEV);
        }
        if self.exports() == 0 {
            self.restore_mode();
            self.reservations.look_for_loss(self)?;
        }
        self.with_users(|users| {
            if users.deleted {
                return Err(ENOENT);
            }
            let all = users.luns.len().saturating_add(1);
            users.leaving.reserve(all, GFP_KERNEL)?;
            users.luns.push(lun.clone(), GFP_KERNEL)?;
            Ok(())
        })?;
        self.welcome(lun);
        Ok(())
    }

    /// Unlinks a LUN. The back end stays open for its commands until [`Self::lun_left`], and so long who waits for the commands of the
    /// device finds it.
    pub(crate) fn remove_lun(&self, lun: &Arc<Lun>) {
        if let Ok(engine) = crate::engine() {
            engine.tokens().revoke(lun);
        }
        self.with_users(|users| {
            let place = users.luns.iter().position(|l| Arc::ptr_eq(l, lun));
            if let Some(Ok(lun)) = place.map(|place| users.luns.remove(place)) {
                // There is room for it.
                let _ = users.leaving.push_within_capacity(lun);
            }
        });
        // Whoever sets one now finds the LUN linked before this, or not any more.
        self.with_groups(|_| {
            let before = lun.weight().set(0);
            self.shares.count(before != 0, false);
        });
    }

    /// Keeps the back end open until [`Self::let_go`], as a LUN does that was unlinked and still has commands.
    pub(crate) fn hold(&self) {
        self.with_users(|users| users.holding = users.holding.saturating_add(1))
    }

    /// Ends [`Self::hold`].
    pub(crate) fn let_go(&self) {
        self.end_use(|users| users.holding = users.holding.saturating_sub(1));
    }

    /// Whether the device's directory is gone.
    pub(crate) fn is_deleted(&self) -> bool {
        self.with_users(|users| users.deleted)
    }

    /// A LUN that was unlinked has no commands any more.
    pub(crate) fn lun_left(&self, lun: &Arc<Lun>) {
        self.end_use(|users| users.leaving.retain(|l| !Arc::ptr_eq(l, lun)));
    }

    // The caller has what `end` drops.
    fn end_use(&self, end: impl FnOnce(&mut Users)) {
        let unused = self.with_users(|users| {
            end(users);
            users.deleted && users.is_empty()
        });
        // Nobody can enable a deleted device.
        if unused {
            self.backend.close();
        }
    }

    /// Commands were aborted: those go on, to be answered as such, that wait for others of the device. Process
    /// context.
    pub(crate) fn let_aborted_go(self: &Arc<Self>) {
        if self.order.is_active() {
            order::kick(self);
        }
        self.turns.let_aborted_go();
        self.shares.abort();
        self.backend().let_aborted_go();
    }

    /// Calls `f` for each LUN that is linked to the device.
    pub fn each_lun(&self, mut f: impl FnMut(&Arc<Lun>) -> Result) -> Result {
        self.with_users(|users| users.luns.iter().try_for_each(&mut f))
    }

    /// The same, and for those that were and still have commands: who is to know that nothing is at work any more has to know of these.
    pub(crate) fn each_lun_at_work(&self, mut f: impl FnMut(&Arc<Lun>) -> Result) -> Result {
        self.with_users(|users| {
            users.luns.iter().try_for_each(&mut f)?;
            users.leaving.iter().try_for_each(&mut f)
        })
    }

    /// How many LUNs are linked to the device.
    pub fn exports(&self) -> usize {
        self.with_users(|users| users.luns.len())
    }

    /// Bytes of a logical block.
    pub fn block_size(&self) -> BlockSize {
        BlockSize::new(self.attrib.block_size()).unwrap_or(BlockSize::B512)
    }

    /// Logical blocks of the device now. A change is told to all initiators as a unit attention. Process context.
    pub fn capacity(&self) -> Blocks {
        let bytes = self.backend().bytes();
        if self.known_size.load(Relaxed) != bytes && self.known_size.xchg(bytes, Relaxed) != bytes {
            pr_info!("{}: the size is {} bytes now\n", self.path(), bytes);
            self.attend(Asc::CAPACITY_CHANGED);
        }
        self.block_size().blocks_in(bytes)
    }

    /// Establishes a unit attention on all I_T nexuses.
    pub(crate) fn attend(&self, what: Asc) {
        self.attend_but(what, None);
    }

    /// The same, but for the one with this serial number.
    pub(crate) fn attend_but(&self, what: Asc, except: Option<u64>) {
        // The closure does not fail.
        let _ = self.each_lun(|lun| {
            lun.attend(what, except);
            Ok(())
        });
    }

    /// Calls `f` for each I_T nexus of the device.
    pub(crate) fn each_nexus(&self, mut f: impl FnMut(&Core, &Nexus)) {
        // The closures do not fail.
        let _ = self.each_lun(|lun| {
            lun.tpg().each_session(|session| {
                let seen = session.core().nexuses();
                for (_, nexus) in seen.filter(|(_, n)| Arc::ptr_eq(n.lun(), lun)) {
                    f(session.core(), &nexus);
                }
                Ok(())
            })
        });
    }

    /// What keeps the unit from being used as usual, if anything does.
    pub(crate) fn condition(&self) -> Option<Condition> {
        match self.condition.load(Acquire) {
            0 => None,
            bits => Some(Condition::unpack(bits)),
        }
    }

    /// Has `f` change that; gives what was before.
    pub(crate) fn set_condition(&self, f: impl Fn(&mut Condition)) -> Condition {
        let mut bits = self.condition.load(Relaxed);
        loop {
            let before = Condition::unpack(bits);
            let mut after = before;
            f(&mut after);
            match self.condition.cmpxchg(bits, after.pack(), Full) {
                Ok(_) => return before,
                Err(now) => bits = now,
            }
        }
    }

    /// What was acknowledged and is lost.
    pub(crate) fn losses(&self) -> &Arc<Losses> {
        &self.losses
    }

    /// A flush has told of such data. Any context.
    pub(crate) fn lost(&self) {
        self.losses.add();
    }

    /// Whether nothing can be written.
    pub fn read_only(&self) -> bool {
        self.geometry().is_some_and(|g| g.read_only)
    }

    /// Whether nothing can be written, or may be now (SWP).
    pub(crate) fn write_protected(&self) -> bool {
        self.read_only() || self.mode.write_protect()
    }

    // Whether there is a write cache, or was one that was seen: it may be switched off while initiators set FUA, which they were told is
    // supported.
    fn has_had_cache(&self) -> bool {
        let had = self.had_cache.load(Relaxed);
        if had || !self.backend().write_cache() {
            return had;
        }
        self.had_cache.store(true, Relaxed);
        true
    }

    /// Which commands and bits of them are valid now.
    pub fn features(&self) -> Features {
        let a = &self.attrib;
        let can_unmap = self.backend().can_unmap();
        Features {
            dpo_fua: a.emulate_fua_write() && self.has_had_cache(),
            unmap: a.emulate_tpu() && can_unmap,
            write_same: true,
            write_same_all: a.emulate_write_same_all(),
            write_same_unmap: a.emulate_tpws() && can_unmap,
            compare_and_write: a.emulate_caw(),
            report_opcodes: a.emulate_rsoc(),
            target_port_groups: a.alua_support(),
            // The port's: see `Lun::features`.
            set_target_port_groups: false,
            referrals: false,
            removable: a.removable(),
            sanitize: a.emulate_sanitize(),
            reservations: a.emulate_pr(),
            write_atomic: self.max_atomic() != 0,
            write_long: a.emulate_write_long(),
            protection: self.protection(),
            protectable: a.emulate_sanitize() && self.backend().can_protect(),
            third_party_copy: a.emulate_3pc(),
            saves_mode: self.saves_mode(),
        }
    }

    /// The protection information that is kept beside each block.
    pub fn protection(&self) -> Option<pi::Type> {
        pi::Type::new(self.attrib.pi_prot_type())
    }

    /// What is kept of it is checked when blocks are read: as an administrator has it, and always where the storage does not do so,
    /// which leaves it to us.
    pub(crate) fn checks_protection(&self) -> bool {
        self.attrib.pi_prot_verify() || self.attrib.hw_pi_prot_type() != 0
    }

    /// Has protection information of this type kept from now on, or none. Nobody uses the device meanwhile.
    ///
    /// # Errors
    /// The back end's.
    pub(crate) fn set_protection(&self, to: Option<pi::Type>) -> Result {
        if to.is_some() != self.protection().is_some() {
            let block = self.block_size().bytes();
            self.backend().set_protection(to.map(|_| block))?;
        }
        self.attrib.set_pi_prot_type(to.map_or(0, |of| of as u32));
        self.attrib.set_pi_prot_verify(to.is_some());
        Ok(())
    }

    pub(crate) fn count_reset(&self) {
        self.resets.add(1, Relaxed);
    }

    pub(crate) fn count_abort(&self, found: bool) {
        if found {
            self.aborts.add(1, Relaxed);
        } else {
            self.aborts_missed.add(1, Relaxed);
        }
    }

    /// Resets of the logical unit.
    pub fn resets(&self) -> u32 {
        self.resets.load(Relaxed)
    }

    /// ABORT TASK functions that found their command, and those that did not.
    pub fn aborts(&self) -> (u32, u32) {
        (self.aborts.load(Relaxed), self.aborts_missed.load(Relaxed))
    }
}
