// SPDX-License-Identifier: GPL-2.0

//! The ends of a copy: logical units that the I_T nexus of its command sees, and what it may do there.

use super::pieces::Under;
use crate::{
    alua,
    device::Device,
    limits::Taken,
    lun::{Export, Nexus},
    session::Core,
};
use kernel::{
    prelude::*,
    sync::{atomic::Relaxed, Arc},
};
use lio_glue::gate::Ticket;
use lio_policy::alua::{self as policy, Admission};
use lio_scsi::{
    alua::Access,
    cdb::{Command as Cdb, Transfer},
    copy::{
        list::{Cscd, Designator},
        plan::{Fault, Medium, Whole},
    },
    inquiry::Identity,
    lba::Extent,
    lun::Lun as LunNumber,
    pr::Reserved,
    sense::{Asc, Key, Sense, Side},
    vpd::{is_named, naa_designator},
};

/// An end: nothing of it is held.
#[derive(Clone, Copy)]
pub(super) struct End {
    number: LunNumber,
    /// Of the I_T_L nexus.
    serial: u64,
    /// Of the unit when it was found.
    resets: u32,
    erased: u32,
}

/// Where bytes come from.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// A logical unit that the session sees.
    End(End),
    /// What the token with this identifier stands for.
    Token(u64),
    /// Nowhere: they are zeroes.
    Zero,
}

impl Place {
    /// Lets a piece be read; `None`: there is nothing to read from.
    pub(super) fn open(&self, core: &Core) -> Result<Option<Open>, Fault> {
        match self {
            Place::End(end) => end.open(core, Side::Source).map(Some),
            Place::Token(id) => Open::of_token(*id).map(Some),
            Place::Zero => Ok(None),
        }
    }

    /// As [`End::due`]. Who has a token is not who made it, whose limits it was.
    pub(super) fn due(&self, core: &Core, now: u64, bytes: u64) -> u64 {
        match self {
            Place::End(end) => end.due(core, now, bytes),
            Place::Token(_) | Place::Zero => now,
        }
    }

    /// As [`End::has_released`].
    pub(super) fn has_released(&self, core: &Core, at: u64) -> bool {
        matches!(self, Place::End(end) if end.has_released(core, at))
    }

    /// As [`End::give_back`].
    pub(super) fn give_back(&self, core: &Core, taken: Taken) {
        if let Place::End(end) = self {
            end.give_back(core, taken);
        }
    }
}

/// An end that lets a piece in.
pub(super) struct Open {
    // In this order: who finds the LUN's gate closed and empty finds no command of it that holds a nexus.
    nexus: Option<Arc<Nexus>>,
    piece: Under,
    // One of these keeps the back end open.
    _ticket: Option<Ticket<Export>>,
    _held: Option<Held>,
}

/// A back end that is kept open without a LUN.
struct Held(Arc<Device>);

impl Held {
    fn new(device: &Arc<Device>) -> Self {
        device.hold();
        Held(device.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.let_go();
    }
}

// The field of a segment descriptor that names an end.
const fn id_field(side: Side) -> u16 {
    match side {
        Side::Source => 4,
        Side::Destination => 6,
    }
}

fn unreachable(side: Side) -> Fault {
    Fault::of_field(Asc::COPY_TARGET_NOT_REACHABLE, id_field(side))
}

impl End {
    /// Finds the logical unit of a CSCD descriptor among those that the session sees, that of `own` first.
    pub(super) fn find(
        core: &Core,
        own: &Arc<Nexus>,
        cscd: Option<Cscd<'_>>,
        side: Side,
    ) -> Result<Self, Fault> {
        let field = id_field(side);
        let cscd = cscd.ok_or(Fault::of_field(Asc::UNREACHABLE_COPY_TARGET, field))?;
        // SPC-4 6.4.5.1: as one that cannot be reached.
        if cscd.null {
            return Err(unreachable(side));
        }
        let is_it = |nexus: &Arc<Nexus>| is_named_by(nexus.lun().device(), &cscd.designator);
        let nexus = if is_it(own) {
            own.clone()
        } else {
            let mut others = core.nexuses().map(|(_, nexus)| nexus);
            others.find(is_it).ok_or(unreachable(side))?
        };
        let device = nexus.lun().device();
        // Who leaves DISK BLOCK LENGTH zero says nothing of it.
        let length = cscd.block_length;
        if cscd.device_type != 0 || length != 0 && length != device.block_size().bytes() {
            return Err(Fault::of_field(Asc::INCORRECT_COPY_TARGET_TYPE, field));
        }
        Ok(End::of(&nexus))
    }

    /// The logical unit of the command itself.
    pub(super) fn of(nexus: &Nexus) -> Self {
        End {
            number: nexus.mapped().number(),
            serial: nexus.serial(),
            resets: nexus.lun().device().resets(),
            erased: nexus.lun().device().erased().load(Relaxed),
        }
    }

    fn nexus(&self, core: &Core) -> Option<Arc<Nexus>> {
        core.nexus(self.number)
            .filter(|nexus| nexus.serial() == self.serial)
    }

    /// Calls `f` with the device, if the nexus is there.
    pub(super) fn with_device<R>(
        &self,
        core: &Core,
        f: impl FnOnce(&Arc<Device>) -> R,
    ) -> Option<R> {
        self.nexus(core).map(|nexus| f(nexus.lun().device()))
    }

    /// Lets a piece in, if the I_T nexus might read or write there now.
    pub(super) fn open(&self, core: &Core, side: Side) -> Result<Open, Fault> {
        let refuse = |sense| Fault::of_end(side, sense);
        let nexus = self.nexus(core).ok_or(unreachable(side))?;
        let ticket = nexus.lun().enter().ok_or(unreachable(side))?;
        let device = nexus.lun().device();
        let open = Open {
            piece: Under::begin(device, Some(core)).ok_or(refuse(Sense::INSUFFICIENT_RESOURCES))?,
            nexus: Some(nexus.clone()),
            _ticket: Some(ticket),
            _held: None,
        };
        if device.resets() != self.resets {
            // What was under way there has been aborted.
            let reset = Sense::new(Key::UnitAttention, Asc::BUS_DEVICE_RESET);
            return Err(refuse(reset));
        }
        ready(device, side)?;
        if device.erased().load(Relaxed) != self.erased {
            // FORMAT UNIT or SANITIZE came between, and is over already.
            return Err(refuse(Sense::new(Key::AbortedCommand, Asc::NONE)));
        }
        let state = nexus.lun().port().state();
        if let Some(Admission::Refuse(sense)) = state.map(|s| policy::admit(s, Access::Active)) {
            return Err(refuse(sense));
        }
        let writes = side == Side::Destination;
        let reserved = if writes {
            Reserved::Writes
        } else {
            Reserved::Reads
        };
        if !nexus.access(core).allows(reserved) {
            // As one that answers with RESERVATION CONFLICT (SPC-4 5.17.7.4).
            return Err(Fault::of_field(
                Asc::THIRD_PARTY_DEVICE_FAILURE,
                id_field(side),
            ));
        }
        if writes && (nexus.mapped().write_protect() || device.write_protected()) {
            return Err(refuse(Sense::WRITE_PROTECTED));
        }
        Ok(open)
    }

    /// When `bytes` may be read or written there, as limits have it.
    pub(super) fn due(&self, core: &Core, now: u64, bytes: u64) -> u64 {
        let Some(nexus) = self.nexus(core).filter(|n| n.lun().port().is_limited()) else {
            return now;
        };
        let start = nexus.lun().special().take(now, bytes);
        start.max(nexus.mapped().special().take(now, bytes))
    }

    /// Whether limits have become others since the time `at`.
    pub(super) fn has_released(&self, core: &Core, at: u64) -> bool {
        self.nexus(core).is_some_and(|n| n.lun().has_released(at))
    }

    /// What was to be due is not read or written.
    pub(super) fn give_back(&self, core: &Core, taken: Taken) {
        if let Some(nexus) = self.nexus(core) {
            nexus.give_back(taken);
        }
    }
}

// The unit can be used as usual.
fn ready(device: &Device, side: Side) -> Result<(), Fault> {
    let t = Transfer {
        extent: Extent::default(),
        dpo: false,
        fua: false,
    };
    let command = match side {
        Side::Source => Cdb::Read(t),
        Side::Destination => Cdb::Write(t),
    };
    if device.backend().is_gone() {
        return Err(Fault::of_end(side, Sense::OFFLINE));
    }
    let condition = device.condition();
    condition
        .map_or(Ok(()), |condition| condition.admit(&command))
        .map_err(|sense| Fault::of_end(side, sense))
}

impl Open {
    // What a token stands for may be read as long as it is known, whoever has it.
    fn of_token(id: u64) -> Result<Self, Fault> {
        let side = Side::Source;
        let gone = |sense| Fault::of_end(side, sense);
        let engine = crate::engine().map_err(|_| gone(Sense::OFFLINE))?;
        let device = engine.tokens().device(id).map_err(gone)?;
        let held = Held::new(&device);
        if device.is_deleted() {
            return Err(gone(Sense::OFFLINE));
        }
        let open = Open {
            nexus: None,
            piece: Under::begin(&device, None).ok_or(gone(Sense::INSUFFICIENT_RESOURCES))?,
            _ticket: None,
            _held: Some(held),
        };
        ready(&device, side)?;
        Ok(open)
    }

    pub(super) fn device(&self) -> &Arc<Device> {
        self.piece.device()
    }

    /// What there is to be copied from or to.
    pub(super) fn medium(&self) -> Medium {
        let device = self.device();
        Medium {
            size: device.block_size(),
            capacity: device.capacity(),
        }
    }

    /// The blocks are there still, and the access states of their segments let them be used.
    pub(super) fn check(&self, blocks: Whole, side: Side) -> Result<(), Fault> {
        let device = self.device();
        let size = device.block_size();
        let extent = Extent::new(blocks.pos >> size.shift(), blocks.len >> size.shift());
        let by_segment = || match &self.nexus {
            Some(nexus) => alua::by_segment(nexus.lun(), nexus.lun().port(), extent),
            None => Ok(()),
        };
        extent
            .check(device.capacity())
            .and_then(|()| by_segment())
            .map_err(|sense| Fault::of_end(side, sense))
    }
}

// Calls `f` with what page 83h of the device is made of.
fn with_identity<R>(device: &Device, f: impl FnOnce(&Identity<'_>) -> R) -> R {
    let names = device.names().lock();
    fn or<'a>(set: &'a [u8], default: &'a [u8]) -> &'a [u8] {
        if set.is_empty() {
            default
        } else {
            set
        }
    }
    f(&Identity {
        vendor: or(&names.vendor, b"LIO-ORG"),
        product: or(&names.product, device.hba().kind().product().as_bytes()),
        revision: &[],
        serial: (!names.serial.is_empty()).then_some(&*names.serial),
        company_id: names.company.unwrap_or(0x00_1405),
        lu_group: None,
    })
}

fn is_named_by(device: &Device, designator: &Designator<'_>) -> bool {
    with_identity(device, |identity| is_named(identity, designator))
}

/// The NAA designator of the device, if it has one.
pub(crate) fn name_of(device: &Device) -> Option<[u8; 16]> {
    with_identity(device, naa_designator)
}
