// SPDX-License-Identifier: GPL-2.0

//! The engine: takes SCSI commands from fabrics, and has back ends do their work.
//!
//! | module | what |
//! | --- | --- |
//! | [`command`], [`session`] | a command's life, and who owns it |
//! | [`lun`], [`tpg`], [`device`] | what an initiator reaches, and through what |
//! | [`fabric`], [`backend`], [`registry`] | what other modules bring |
//! | `admit`, `emulate`, `tmf` | what commands do |
//! | `alua` | asymmetric access: through which ports they may |
//! | `delay` | what is to be done a little later |
//! | `limits`, `latency` | how many commands may come, and how long they take |
//! | `order` | ORDERED commands |
//! | `pr` | reservations: who may do what with a device |
//! | `tree` | the directories under `/sys/kernel/config/target` |

#![deny(unsafe_code)]

mod admit;
mod alua;
pub mod attrib;
pub mod backend;
pub mod background;
mod behind;
mod block_limits;
pub mod command;
mod copy;
pub mod crew;
mod dbroot;
mod delay;
pub mod device;
mod emulate;
mod erase;
pub mod fabric;
mod flaws;
mod groups;
mod idle;
mod kept;
mod latency;
mod limits;
mod losses;
pub mod lun;
mod mode;
mod order;
mod pr;
mod priority;
#[path = "../../backstores/ramdisk/ramdisk.rs"]
mod ramdisk;
pub mod registry;
pub mod session;
pub mod shares;
mod special;
mod stats;
mod thresholds;
mod tmf;
pub mod tpg;
mod tree;
mod turns;

use kernel::{
    c_str,
    error::code::ENODEV,
    new_mutex,
    prelude::*,
    sync::{atomic::Atomic, Arc, Mutex},
};
use lio_configfs::Subsystem;
use lio_glue::{
    buffer::Pool,
    defer::Deferral,
    global::{Global, Holder},
    wait::WaitQueue,
    workqueue::Workqueue,
};

/// What the engine has one of.
#[pin_data]
pub(crate) struct Engine {
    #[pin]
    registry: Mutex<registry::Registry>,
    #[pin]
    waiters: WaitQueue,
    queue: Workqueue,
    // Apart from the other: task management waits for commands, whose next operations come from there.
    management: Workqueue,
    pending: Arc<tmf::Pending>,
    // The worker of `pending`, which sleeps.
    patient: Workqueue,
    // Apart from both: what waits for a back end for so long as it takes.
    background: Workqueue,
    /// Task management functions that hold sessions of any fabric.
    managing: Atomic<u32>,
    #[pin]
    rtpis: Mutex<tpg::Rtpis>,
    #[pin]
    lu_groups: Mutex<alua::LuGroups>,
    // Held by who changes access states.
    #[pin]
    access_states: Mutex<()>,
    // Where files are that outlive the target.
    #[pin]
    dbroot: Mutex<KVec<u8>>,
    delays: Arc<delay::Delays>,
    // The worker of `delays`, which sleeps.
    late: Workqueue,
    // Copies, and their operations.
    copying: Workqueue,
    copier: Arc<copy::Copier>,
    copies: Atomic<u32>,
    #[pin]
    pieces: copy::Pieces,
    #[pin]
    tokens: copy::Tokens,
    // What waits for the commands before an ORDERED one, one item for each device.
    ordering: Workqueue,
    turns: Workqueue,
}

static ENGINE: Global<Engine> = Global::new();

impl Engine {
    fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            try_pin_init!(Engine {
                registry <- new_mutex!(registry::Registry::new(), "Engine::registry"),
                waiters <- WaitQueue::new(),
                queue: Workqueue::unbound(c_str!("lio"), 0)?,
                management: Workqueue::unbound(c_str!("lio_tmf"), 0)?,
                pending: tmf::Pending::new()?,
                patient: Workqueue::unbound(c_str!("lio_tmf_wait"), 1)?,
                background: Workqueue::without_rescuer(c_str!("lio_end"), 0)?,
                managing: Atomic::new(0),
                rtpis <- new_mutex!(tpg::Rtpis::default(), "Engine::rtpis"),
                lu_groups <- new_mutex!(alua::LuGroups::default(), "Engine::lu_groups"),
                access_states <- new_mutex!((), "Engine::access_states"),
                dbroot <- new_mutex!(KVec::new(), "Engine::dbroot"),
                delays: delay::Delays::new()?,
                late: Workqueue::unbound(c_str!("lio_delay"), 0)?,
                copying: Workqueue::without_rescuer(c_str!("lio_copy"), 0)?,
                copier: copy::Copier::new()?,
                copies: Atomic::new(0),
                pieces <- copy::Pieces::new(),
                tokens <- copy::Tokens::new(),
                ordering: Workqueue::unbound(c_str!("lio_order"), 0)?,
                turns: Workqueue::unbound(c_str!("lio_turns"), 0)?,
            }? Error),
            GFP_KERNEL,
        )
    }

    pub(crate) fn registry(&self) -> &Mutex<registry::Registry> {
        &self.registry
    }

    // Taken with nothing else.
    pub(crate) fn rtpis(&self) -> &Mutex<tpg::Rtpis> {
        &self.rtpis
    }

    pub(crate) fn lu_groups(&self) -> &Mutex<alua::LuGroups> {
        &self.lu_groups
    }

    /// Before the locks of devices: see [`alua::alone`].
    pub(crate) fn access_states(&self) -> &Mutex<()> {
        &self.access_states
    }

    /// The directory of files that outlive the target: `dbroot`. Taken with nothing else under it.
    pub(crate) fn dbroot(&self) -> &Mutex<KVec<u8>> {
        &self.dbroot
    }

    pub(crate) fn delays(&self) -> &Arc<delay::Delays> {
        &self.delays
    }

    pub(crate) fn late(&self) -> &Workqueue {
        &self.late
    }

    pub(crate) fn ordering(&self) -> &Workqueue {
        &self.ordering
    }

    /// Work that waits for writes which back ends have. It is not that above, which may wait for who is to have a turn.
    pub(crate) fn turns(&self) -> &Workqueue {
        &self.turns
    }

    pub(crate) fn copying(&self) -> &Workqueue {
        &self.copying
    }

    pub(crate) fn copier(&self) -> &Arc<copy::Copier> {
        &self.copier
    }

    pub(crate) fn tokens(&self) -> &copy::Tokens {
        &self.tokens
    }

    /// Copies at work.
    pub(crate) fn copies(&self) -> &Atomic<u32> {
        &self.copies
    }

    pub(crate) fn pieces(&self) -> &copy::Pieces {
        &self.pieces
    }

    pub(crate) fn queue(&self) -> &Workqueue {
        &self.queue
    }

    pub(crate) fn management(&self) -> &Workqueue {
        &self.management
    }

    pub(crate) fn pending(&self) -> &Arc<tmf::Pending> {
        &self.pending
    }

    pub(crate) fn patient(&self) -> &Workqueue {
        &self.patient
    }

    pub(crate) fn background(&self) -> &Workqueue {
        &self.background
    }

    pub(crate) fn managing(&self) -> &Atomic<u32> {
        &self.managing
    }
}

pub(crate) fn engine() -> Result<Arc<Engine>> {
    ENGINE.get().ok_or(ENODEV)
}

// Calls `f` with the queue of those that wait for commands to end.
pub(crate) fn waiters<R>(f: impl FnOnce(&WaitQueue) -> R) -> Option<R> {
    ENGINE.get().map(|e| f(&e.waiters))
}

module! {
    type: TargetCore,
    name: "target_core_mod",
    authors: ["The lio-rs authors"],
    description: "SCSI target engine",
    license: "GPL",
}

struct TargetCore {
    // In this order: what comes later is used by what comes before.
    _tree: Subsystem,
    _ramdisk: registry::BackendRegistration,
    _engine: Holder<Engine>,
    _deferral: Deferral,
    _pages: Pool,
}

impl kernel::Module for TargetCore {
    fn init(module: &'static ThisModule) -> Result<Self> {
        let pages = Pool::new()?;
        let deferral = Deferral::start()?;
        let engine = ENGINE.hold(Engine::new()?)?;
        let ramdisk = registry::register_backend(&ramdisk::KIND, module)?;
        let tree = tree::register()?;
        Ok(TargetCore {
            _tree: tree,
            _ramdisk: ramdisk,
            _engine: engine,
            _deferral: deferral,
            _pages: pages,
        })
    }
}
