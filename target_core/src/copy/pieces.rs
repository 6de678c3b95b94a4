// SPDX-License-Identifier: GPL-2.0

//! Pieces of copies that are under way, of all devices: who must have nothing written any more that was let in before waits for them; so
//! does a command between whose reading and writing they must not come ([`turns`](crate::turns)), for those that are about to begin, too.
//!
//! A device numbers them. Who waits takes a number too, and those with lesser ones are waited for: copies that go on, as they may, keep
//! nobody waiting for longer than a piece.

use super::MOST;
use crate::{device::Device, session::Core, tmf};
use kernel::{
    new_spinlock,
    prelude::*,
    sync::{
        atomic::{Full, Relaxed},
        Arc, SpinLock,
    },
};
use lio_policy::regions::Regions;

/// A copy has a piece at each of its ends, and says where it writes.
const PLACES: usize = 3 * MOST as usize;

/// A piece at one end, or where one writes that perhaps has not begun. Addresses tell devices and sessions apart.
#[derive(Clone, Copy)]
struct Place {
    /// 0: none.
    device: usize,
    number: u64,
    /// Whose nexus lets it in; 0: nobody's.
    session: usize,
    /// None: of a piece that is under way.
    writes: Regions,
}

impl Place {
    const NONE: Self = Place {
        device: 0,
        number: 0,
        session: 0,
        writes: Regions::NONE,
    };

    // Where it is now. `None`: there are more than there may be.
    fn enter(self, device: &Device) -> Option<Held> {
        let engine = crate::engine().ok()?;
        let mut places = engine.pieces().places.lock();
        let at = places.iter().position(|p| p.device == 0)?;
        // With a full barrier: either the looks at the unit that follow find it changed, or who has changed it takes a greater
        // number afterwards, and sees this when it gets the lock.
        let number = device.pieces().fetch_add(1, Full);
        *places.get_mut(at)? = Place {
            device: address(device),
            number,
            ..self
        };
        Some(Held { at, number })
    }
}

/// A place that is in use.
struct Held {
    at: usize,
    number: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Ok(engine) = crate::engine() {
            if let Some(place) = engine.pieces().places.lock().get_mut(self.at) {
                *place = Place::NONE;
            }
        }
        tmf::wake();
    }
}

/// All of them.
#[pin_data]
pub(crate) struct Pieces {
    #[pin]
    places: SpinLock<[Place; PLACES]>,
}

impl Pieces {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Pieces {
            places <- new_spinlock!([Place::NONE; PLACES], "Pieces::places"),
        })
    }
}

fn address<T>(of: &T) -> usize {
    core::ptr::from_ref(of).addr()
}

/// A piece that is under way, which those see who change a unit's condition.
pub(super) struct Under {
    device: Arc<Device>,
    _held: Held,
}

impl Under {
    /// `None`: there are more than there may be.
    pub(super) fn begin(device: &Arc<Device>, by: Option<&Core>) -> Option<Self> {
        let place = Place {
            session: by.map_or(0, address),
            ..Place::NONE
        };
        Some(Under {
            device: device.clone(),
            _held: place.enter(device)?,
        })
    }

    pub(super) fn device(&self) -> &Arc<Device> {
        &self.device
    }
}

/// Where a piece writes that is under way or about to begin, which who gets a turn after this waits for. It holds nothing of the
/// device.
pub(super) struct Writing {
    held: Held,
    regions: Regions,
}

impl Writing {
    /// `None`: there are more than there may be.
    pub(super) fn new(device: &Device, writes: Regions) -> Option<Self> {
        let place = Place {
            writes,
            ..Place::NONE
        };
        Some(Writing {
            held: place.enter(device)?,
            regions: writes,
        })
    }

    /// Whether it has to wait for who has its turn since before this.
    pub(super) fn has_to_wait(&self, device: &Device) -> bool {
        device.turns().holds_piece(self.regions, self.held.number)
    }
}

/// Pieces at a device that began before this was made.
#[derive(Clone, Copy)]
pub(crate) struct Earlier {
    device: usize,
    number: u64,
}

impl Earlier {
    /// What the device is changed to must be in force. A full barrier. Any context.
    pub(crate) fn new(device: &Device) -> Self {
        Earlier {
            device: address(device),
            number: device.pieces().fetch_add(1, Full),
        }
    }

    /// Whether the piece with this number is one of them.
    pub(crate) fn has(&self, number: u64) -> bool {
        number < self.number
    }

    /// Whether they are over; if not, there is a [`wake`](tmf::wake) when that may have changed.
    pub(crate) fn are_gone(&self) -> bool {
        self.are_gone_where(|p| p.writes.is_none())
    }

    /// The same of those that the nexuses of one of `sessions` let in.
    pub(crate) fn are_gone_of<'a>(&self, sessions: impl Iterator<Item = &'a Core> + Clone) -> bool {
        self.are_gone_where(|p| {
            p.writes.is_none() && sessions.clone().any(|s| address(s) == p.session)
        })
    }

    /// The same of those that write there, or are about to.
    pub(crate) fn write_elsewhere(&self, regions: Regions) -> bool {
        self.are_gone_where(|p| p.writes.meets(regions))
    }

    fn are_gone_where(&self, which: impl Fn(&Place) -> bool) -> bool {
        let Ok(engine) = crate::engine() else {
            return true;
        };
        // A copy is counted before its first piece and until after its last one.
        if engine.copies().load(Relaxed) == 0 {
            return true;
        }
        let is_one = |p: &Place| p.device == self.device && p.number < self.number && which(p);
        let places = engine.pieces().places.lock();
        !places.iter().any(is_one)
    }
}

/// [`Earlier`] of several devices.
pub(crate) struct EarlierOfAll {
    // Those before it are gone.
    first: usize,
    // Of that one.
    earlier: Option<Earlier>,
}

impl EarlierOfAll {
    pub(crate) fn new() -> Self {
        EarlierOfAll {
            first: 0,
            earlier: None,
        }
    }

    /// Whether those of `devices`, always the same, are over that had begun when this was first called, and perhaps some later ones.
    pub(crate) fn are_gone(&mut self, devices: &[Arc<Device>]) -> bool {
        while let Some(device) = devices.get(self.first) {
            if !self
                .earlier
                .get_or_insert_with(|| Earlier::new(device))
                .are_gone()
            {
                return false;
            }
            (self.first, self.earlier) = (self.first.saturating_add(1), None);
        }
        true
    }
}

/// Waits until no piece of a copy is under way that began before `device` was in its condition; `stop` is asked from time to time
/// whether to give up. Whether it did not.
pub(crate) fn settle(device: &Device, stop: impl Fn() -> bool) -> bool {
    const PAUSE_MS: u32 = 10;
    let earlier = Earlier::new(device);
    while !tmf::wait_within(PAUSE_MS, || earlier.are_gone()) {
        if stop() {
            return false;
        }
    }
    true
}
