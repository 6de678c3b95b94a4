// SPDX-License-Identifier: GPL-2.0

//! What APTPL keeps: the file `pr/aptpl_SERIAL` below `dbroot`, which the engine writes and tools hand back when they set the
//! device up again, registration by registration, before anything is linked to it.

use super::{identity::Identities, scope, Identity, Reservations};
use crate::{
    dbroot::{self, Dir},
    device::Device,
    tpg::Tpg,
};
use core::fmt::Write;
use kernel::{error::code::*, prelude::*, sync::Arc};
use lio_policy::pr::{is_whole, Kept, Registration, Reservation, State, MAX_REGISTRATIONS, NONE};

/// Where the file is, for messages.
pub(super) const PLACE: &str = "pr/aptpl_SERIAL below dbroot";

/// Text of any length.
pub(super) struct Text(KVVec<u8>);

impl Write for Text {
    fn write_str(&mut self, s: &str) -> core::fmt::Result {
        self.0
            .extend_from_slice(s.as_bytes(), GFP_KERNEL)
            .map_err(|_| core::fmt::Error)
    }
}

impl Text {
    // As the stock modules end it.
    fn end(mut self) -> Result<Self> {
        self.0.push(0, GFP_KERNEL)?;
        Ok(self)
    }
}

/// What the file says without registrations.
pub(super) fn none() -> Result<Text> {
    let mut text = Text(KVVec::new());
    text.write_str(NONE).map_err(|_| ENOMEM)?;
    text.end()
}

/// What the file says.
pub(super) fn text(
    registrations: &[Registration],
    identities: &Identities,
    reservation: Option<Reservation>,
    ports: &[Arc<Tpg>],
) -> Result<Text> {
    if registrations.is_empty() {
        return none();
    }
    let mut text = Text(KVVec::new());
    for (index, registration) in registrations.iter().enumerate() {
        let identity = identities.get(registration.nexus).ok_or(EINVAL)?;
        // One holder also where all that are registered hold it: the one that made it.
        let holds = reservation.filter(|r| r.holder == registration.nexus);
        let kept = Kept {
            fabric: identity.fabric(),
            initiator: identity.name(),
            isid: identity.isid(),
            key: registration.key,
            holds: holds.map(|r| r.kind),
            all_ports: registration.all_ports,
            mapped_lun: identity.mapped_lun,
            target: identity.target(),
            tag: identity.tag(),
            rtpi: identity.rtpi(ports),
            target_lun: identity.target_lun,
        };
        kept.write(index, &mut text).map_err(|_| ENOMEM)?;
    }
    text.end()
}

/// Has the file say `text`, durably.
pub(super) fn store(device: &Device, text: &Text) -> Result {
    dbroot::store(device, &Dir::Below("pr"), "aptpl", &text.0)
}

/// Bytes of the file that most are shorter than; and of any file: names are what is long in it.
const SHORT: usize = 4096;
const LONGEST: usize = MAX_REGISTRATIONS * 1024;

/// Whether there is a file that cannot be read as a whole. An administrator who removes it, or puts it right, is heard.
///
/// # Errors
/// `ENOMEM`.
pub(super) fn is_lost(device: &Device) -> Result<bool> {
    if !dbroot::has_files(device) {
        return Ok(false);
    }
    let mut why = EFBIG;
    for most in [SHORT, LONGEST] {
        let mut file = KVVec::from_elem(0u8, most, GFP_KERNEL)?;
        why = match dbroot::read(device, &Dir::Below("pr"), "aptpl", &mut file) {
            Ok(len) if is_whole(file.get(..len).unwrap_or(&[])) => return Ok(false),
            Ok(_) => EBADMSG,
            // A name that no file can have has none, either.
            Err(e) if e == ENOENT || e == ENOTDIR || e == ENAMETOOLONG => return Ok(false),
            Err(e) if e == ENOMEM => return Err(e),
            Err(e) => e,
        };
        if why != EFBIG {
            break;
        }
    }
    pr_err!(
        "{}: registrations that were kept are lost: {}: {:?}; its commands are refused until REPLACE LOST RESERVATION\n",
        device.path(),
        PLACE,
        why
    );
    Ok(true)
}

impl Reservations {
    /// Takes up a registration that was kept, and its reservation if it held one. Called while no LUN is linked.
    ///
    /// # Errors
    /// `ENOSPC` if there are too many, `EBUSY` if another holds a reservation, `ENOMEM`.
    pub(crate) fn restore(&self, kept: &Kept<'_>) -> Result {
        scope(|| self.restore_now(kept))
    }

    fn restore_now(&self, kept: &Kept<'_>) -> Result {
        let identity = Identity::kept(kept)?;
        let _changing = self.changing.lock();
        let mut held = self.held.lock();
        let held = &mut *held;
        let mut slots = KVVec::from_elem(
            Registration::default(),
            held.registrations.len().saturating_add(1),
            GFP_KERNEL,
        )?;
        for (slot, registration) in slots.iter_mut().zip(held.registrations.iter()) {
            *slot = *registration;
        }
        if slots.len() > MAX_REGISTRATIONS {
            return Err(ENOSPC);
        }
        let len = held.registrations.len();
        let mut identities = held.identities.copy(1)?;
        let nexus = identities.number(identity)?;
        let mut state = State::new(&mut slots, len, held.reservation, held.generation);
        let registration = Registration {
            nexus,
            key: kept.key,
            all_ports: kept.all_ports,
            generation: held.generation,
        };
        if !state.restore(registration) {
            return Err(ENOSPC);
        }
        if let Some(kind) = kept.holds {
            let holder = state.reservation().map(|r| r.holder);
            if holder.is_some_and(|holder| holder != nexus) {
                return Err(EBUSY);
            }
            state.restore_reservation(Reservation {
                holder: nexus,
                kind,
            });
        }
        let (len, reservation) = (state.registrations().len(), state.reservation());
        slots.truncate(len);
        held.registrations = slots;
        held.identities = identities;
        held.reservation = reservation;
        held.aptpl = true;
        self.publish(held, true);
        Ok(())
    }
}
