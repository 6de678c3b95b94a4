// SPDX-License-Identifier: GPL-2.0

//! PERSISTENT RESERVE IN and OUT (SPC-4, 6.15 and 6.16), RESERVE and RELEASE (SPC-2, 7.21 and 7.22).

use super::parameters::respond_counted;
use crate::{
    command::Command,
    lun::Nexus,
    pr::{Change, Performed, Refusal},
    session::Core,
};
use kernel::{prelude::*, sync::Arc};
use lio_policy::pr::MAX_REGISTRATIONS;
use lio_scsi::{
    cdb::Command as Cdb,
    pr::{self, In, Name, Out, Parameters},
    sense::Sense,
    status::Status,
};

/// Bytes that are answered at most: READ FULL STATUS, with the longest TransportIDs.
pub(super) const MOST: usize = 8 + MAX_REGISTRATIONS * (24 + 4 + Name::MAX + 20);

/// Answers `command`, if it is one of those here; returns whether it was.
pub(super) fn answer(session: &Core, cmd: &mut Command, command: &Cdb) -> bool {
    let Some(nexus) = cmd.nexus.clone() else {
        return false;
    };
    let reservations = nexus.lun().device().reservations();
    let done = match *command {
        Cdb::PersistentReserveIn { action, allocation } => {
            read(cmd, &nexus, action, allocation).map_err(Refusal::Sense)
        }
        Cdb::PersistentReserveOut { out, list_length } => {
            change(session, cmd, &nexus, out, list_length)
        }
        Cdb::Reserve => match reservations.reserve(session, &nexus) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Refusal::Conflict),
            Err(sense) => Err(Refusal::Sense(sense)),
        },
        Cdb::Release => reservations
            .release(session, &nexus)
            .then_some(())
            .ok_or(Refusal::Conflict),
        _ => return false,
    };
    match done {
        Ok(()) => cmd.set_status(Status::Good),
        Err(Refusal::Conflict) => cmd.set_status(Status::ReservationConflict),
        Err(Refusal::Sense(sense)) => cmd.set_sense(sense),
    }
    true
}

fn read(cmd: &mut Command, nexus: &Nexus, action: In, allocation: u32) -> Result<(), Sense> {
    let device = nexus.lun().device();
    let reservations = device.reservations();
    respond_counted(cmd, allocation, MOST, |out| {
        match action {
            In::ReadKeys => reservations.with_keys(|generation, keys| {
                pr::write_keys(out, generation, keys);
            }),
            In::ReadReservation => {
                let (generation, held) = reservations.reservation();
                pr::write_reservation(out, generation, held);
            }
            In::ReportCapabilities => pr::write_capabilities(out, reservations.aptpl()),
            In::ReadFullStatus => reservations
                .full_status(device, out)
                .map_err(|_| Sense::INSUFFICIENT_RESOURCES)?,
        }
        Ok(())
    })
}

fn change(
    session: &Core,
    cmd: &mut Command,
    nexus: &Arc<Nexus>,
    out: Out,
    list_length: u32,
) -> Result<(), Refusal> {
    let len = cmd.data.len().min(list_length as usize);
    let mut list =
        KVVec::from_elem(0u8, len, GFP_KERNEL).map_err(|_| Sense::INSUFFICIENT_RESOURCES)?;
    cmd.data.read_at(0, &mut list);
    let parameters = Parameters::parse(out.action, &list)?;
    let change = Change {
        session,
        nexus,
        out,
        parameters,
    };
    let Performed(preempted) = nexus.lun().device().reservations().perform(&change)?;
    cmd.preempted = preempted;
    Ok(())
}
