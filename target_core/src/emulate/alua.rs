// SPDX-License-Identifier: GPL-2.0

//! REPORT and SET TARGET PORT GROUPS (SPC-5 6.36, 6.45), REPORT REFERRALS (SBC-4 5.28).

use super::parameters::send;
use crate::{
    alua::{alone, Asked, Asks, Group, MAX_GROUPS},
    command::Command,
    lun::{Lun, Nexus},
};
use kernel::{prelude::*, sync::Arc};
use lio_policy::alua::{Refusal, MAX_MEMBERS, MAX_SEGMENTS};
use lio_scsi::{
    alua::{self, Change, Changes, Referrals, Report, State},
    bytes::Writer,
    lba::{Blocks, Extent, Lba},
    sense::Sense,
};

/// Bytes that REPORT TARGET PORT GROUPS is answered with at most.
pub(super) const MOST_GROUPS: usize = 8 + MAX_GROUPS * (8 + 255 * 4);
/// Bytes that REPORT REFERRALS is answered with at most.
pub(super) const MOST_REFERRALS: usize = 4 + MAX_SEGMENTS * 20 + MAX_MEMBERS * 4;

// Has `f` write at most `most` bytes, of which as much is sent as was asked for.
fn respond(
    cmd: &mut Command,
    allocation: u32,
    most: usize,
    f: impl FnOnce(&mut Writer<'_>),
) -> Result<(), Sense> {
    // What is beyond the allocation length is counted, and not sent.
    let most = most.min(allocation as usize).max(8);
    let mut page =
        KVVec::from_elem(0u8, most, GFP_KERNEL).map_err(|_| Sense::INSUFFICIENT_RESOURCES)?;
    let mut out = Writer::new(&mut page);
    f(&mut out);
    send(cmd, allocation, out.as_slice())
}

/// All groups that have ports, in the order of the directories.
pub(super) fn report_groups(
    cmd: &mut Command,
    nexus: &Nexus,
    extended: bool,
    allocation: u32,
) -> Result<(), Sense> {
    let lun = nexus.lun();
    let time = extended.then_some(lun.port().transition_time());
    let device = lun.device();
    // The ports first, as nothing is allocated while the groups are written.
    let mut ports: KVVec<(Arc<Group>, u16)> = KVVec::new();
    device
        .each_lun(|lun| Ok(ports.push((lun.group(), lun.tpg().rtpi()), GFP_KERNEL)?))
        .map_err(|_| Sense::INSUFFICIENT_RESOURCES)?;
    respond(cmd, allocation, MOST_GROUPS, |out| {
        let mut report = Report::begin(out, time);
        device.with_groups(|groups| {
            for group in groups.iter() {
                let mine = || {
                    ports
                        .iter()
                        .filter(|(g, _)| Arc::ptr_eq(g, group))
                        .map(|(_, rtpi)| *rtpi)
                };
                let said = group.with(|s| {
                    s.id.map(|id| alua::Group {
                        id,
                        state: s.core.state(),
                        supported: s.core.supported,
                        preferred: s.preferred,
                        status: s.core.status as u8,
                    })
                });
                if let Some(said) = said.filter(|_| mine().next().is_some()) {
                    report.group(&said, mine());
                }
            }
        });
        report.finish();
    })
}

/// The user data segments from the one on that `lba` is in, or that one alone.
pub(super) fn report_referrals(
    cmd: &mut Command,
    nexus: &Nexus,
    lba: Lba,
    one: bool,
    allocation: u32,
) -> Result<(), Sense> {
    let device = nexus.lun().device();
    Extent {
        lba,
        blocks: Blocks(1),
    }
    .check(device.capacity())?;
    let segments = device
        .alua()
        .segments()
        .ok_or(Sense::INVALID_OPERATION_CODE)?;
    respond(cmd, allocation, MOST_REFERRALS, |out| {
        let mut report = Referrals::begin(out);
        for (segment, members) in segments.map().from(lba, one) {
            report.segment(segment.first, segment.last, members);
        }
        report.finish();
    })
}

/// A change that was found possible.
enum Possible {
    Group(Asked),
    Offline(Arc<Lun>),
}

/// All of the changes that the parameter list asks for, or none.
pub(super) fn set_groups(cmd: &mut Command, nexus: &Nexus, length: u32) -> Result<(), Sense> {
    let len = cmd.data.len().min(length as usize);
    let mut list =
        KVVec::from_elem(0u8, len, GFP_KERNEL).map_err(|_| Sense::INSUFFICIENT_RESOURCES)?;
    cmd.data.read_at(0, &mut list);
    let changes = Changes::parse(&list)?;
    let mut possible = KVVec::new();
    // Both with the same lock: of the lists of two initiators that are there at once, one is done as a whole before the other is looked at.
    let done = alone(|| {
        find_all(nexus, &changes, &mut possible).and_then(|()| begin(nexus, &mut possible))
    });
    for change in possible.iter() {
        if let Possible::Group(asked) = change {
            asked.keep();
        }
    }
    done.map_err(|_| Sense::INTERNAL_TARGET_FAILURE)?
}

fn find_all(
    nexus: &Nexus,
    changes: &Changes<'_>,
    possible: &mut KVVec<Possible>,
) -> Result<(), Sense> {
    for (index, change) in changes.iter().enumerate() {
        // Twice the same is one thing: a group that takes its time would be found changing the second time.
        if changes.iter().take(index).any(|before| before == change) {
            continue;
        }
        possible
            .push(find(nexus, index, change)?, GFP_KERNEL)
            .map_err(|_| Sense::INSUFFICIENT_RESOURCES)?;
    }
    Ok(())
}

fn begin(nexus: &Nexus, possible: &mut KVVec<Possible>) -> Result<(), Sense> {
    let device = nexus.lun().device();
    possible.iter_mut().try_for_each(|change| match change {
        // It was possible: an administrator took the group away, or what it may, since then.
        Possible::Group(asked) => asked
            .begin()
            .map_err(|_| Sense::SET_TARGET_PORT_GROUPS_FAILED),
        Possible::Offline(lun) => device
            .set_offline(lun, true, Asks::explicit(nexus))
            .map_err(|_| Sense::INSUFFICIENT_RESOURCES),
    })
}

fn find(nexus: &Nexus, index: usize, change: Change) -> Result<Possible, Sense> {
    let device = nexus.lun().device();
    match change {
        Change::Group { id, state } => {
            let group =
                device.with_groups(|groups| groups.iter().find(|g| g.id() == Some(id)).cloned());
            let group = group.ok_or(alua::wrong_target(index))?;
            let asked = Asked::new(device, &group, state, Asks::explicit(nexus))
                .map_err(|_| Sense::INSUFFICIENT_RESOURCES)?;
            match asked.may() {
                Ok(()) => Ok(Possible::Group(asked)),
                Err(Refusal::NotSupported) => Err(alua::wrong_state(index)),
                Err(Refusal::NotAllowed) => Err(alua::wrong_target(index)),
                Err(Refusal::Changing) => Err(Sense::ALUA_TRANSITION),
            }
        }
        Change::Offline { port } => {
            let mut found = None;
            // The closure does not fail.
            let _ = device.each_lun(|lun| {
                if lun.tpg().rtpi() == port {
                    found = Some(lun.clone());
                }
                Ok(())
            });
            let lun = found.ok_or(alua::wrong_target(index))?;
            if !lun.group().with(|s| s.core.supported.has(State::Offline)) {
                return Err(alua::wrong_state(index));
            }
            Ok(Possible::Offline(lun))
        }
    }
}
