// SPDX-License-Identifier: GPL-2.0

//! Command priorities of I_T_L nexuses (SAM-5 8.7), as initiators set them (SPC-5 6.34 and 6.44): until a reset, whether the
//! initiator has a session or not. They weigh where an administrator has set shares ([`crate::shares`]).

use crate::{device::Device, lun::Nexus, session::Core};
use kernel::{new_mutex, prelude::*, sync::Mutex};
use lio_glue::noio;
use lio_scsi::{
    bytes::Writer,
    pr::{Name, TransportId},
    priority::{Change, Priority, ReportWriter, Reported},
    sense::{Asc, Sense},
};

/// Nexuses of a device that have a priority of their own.
const MOST: usize = 256;

struct Set {
    initiator: TransportId,
    // The relative identifier of the target port.
    port: u16,
    priority: Priority,
}

impl Set {
    fn is_of(&self, initiator: &TransportId, port: u16) -> bool {
        let name = |id: &TransportId| id.name;
        self.port == port
            && self.initiator.isid == initiator.isid
            && name(&self.initiator)
                .as_bytes()
                .eq_ignore_ascii_case(name(initiator).as_bytes())
    }
}

/// Those of a device. Each nexus has a copy of its own.
#[pin_data]
pub(crate) struct Priorities {
    #[pin]
    set: Mutex<KVVec<Set>>,
}

impl Priorities {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Priorities {
            set <- new_mutex!(KVVec::new(), "Priorities::set"),
        })
    }

    // Commands hold the lock, which those may wait for that free memory.
    fn with<R>(&self, f: impl FnOnce(&mut KVVec<Set>) -> R) -> R {
        noio::scope(|| f(&mut self.set.lock()))
    }

    fn get(&self, initiator: &TransportId, port: u16) -> Priority {
        self.with(|set| {
            let found = set.iter().find(|one| one.is_of(initiator, port));
            found.map_or(Priority::default(), |one| one.priority)
        })
    }

    fn put(&self, initiator: TransportId, port: u16, priority: Priority) -> Result {
        self.with(|set| {
            set.retain(|one| !one.is_of(&initiator, port));
            if priority.is_none() {
                return Ok(());
            }
            if set.len() >= MOST {
                return Err(ENOSPC);
            }
            let one = Set {
                initiator,
                port,
                priority,
            };
            Ok(set.push(one, GFP_KERNEL)?)
        })
    }
}

// The initiator port that a session is of.
fn port(session: &Core) -> Result<TransportId, Sense> {
    Ok(TransportId {
        protocol: session.tpg().protocol().identifier(),
        name: Name::new(session.initiator().to_bytes()).ok_or(Sense::INSUFFICIENT_RESOURCES)?,
        isid: session.isid(),
    })
}

impl Device {
    /// INITIAL COMMAND PRIORITY
    pub(crate) fn initial_priority(&self) -> Priority {
        self.mode().extension().priority
    }

    /// REPORT PRIORITY, asked for by `own` of `session`.
    pub(crate) fn report_priorities(
        &self,
        session: &Core,
        own: &Nexus,
        reported: Reported,
        out: &mut Writer<'_>,
    ) -> Result<(), Sense> {
        let initial = self.initial_priority();
        let mut report = ReportWriter::begin(out);
        match reported {
            Reported::Own => {
                let (id, rtpi) = (port(session)?, own.lun().tpg().rtpi());
                report.nexus(self.priorities().get(&id, rtpi).or(initial), rtpi, &id);
            }
            Reported::Changed => self.priorities().with(|set| {
                for one in set.iter().filter(|one| one.priority != initial) {
                    report.nexus(one.priority, one.port, &one.initiator);
                }
            }),
        }
        report.end();
        Ok(())
    }

    /// SET PRIORITY, by `own` of `session`. Those whose priority another sets hear of it.
    ///
    /// # Errors
    /// INVALID FIELD IN PARAMETER LIST for a port that the device has not; INSUFFICIENT RESOURCES.
    pub(crate) fn set_priorities(
        &self,
        session: &Core,
        own: &Nexus,
        change: &Change,
    ) -> Result<(), Sense> {
        let full = |_| Sense::INSUFFICIENT_RESOURCES;
        match *change {
            Change::Own(priority) => {
                let (id, rtpi) = (port(session)?, own.lun().tpg().rtpi());
                self.priorities().put(id, rtpi, priority).map_err(full)?;
                own.set_priority(priority);
            }
            Change::All => {
                self.reset_priorities();
                self.each_nexus(|_, nexus| {
                    if nexus.serial() != own.serial() {
                        nexus.attend(Asc::PRIORITY_CHANGED);
                    }
                });
            }
            Change::Named {
                priority,
                port: rtpi,
                initiator,
            } => {
                let mut is_there = false;
                // The closure does not fail.
                let _ = self.each_lun(|lun| {
                    is_there |= lun.tpg().rtpi() == rtpi;
                    Ok(())
                });
                if !is_there {
                    return Err(Sense::invalid_parameter_byte(2));
                }
                let one = Set {
                    initiator,
                    port: rtpi,
                    priority,
                };
                self.priorities()
                    .put(initiator, rtpi, priority)
                    .map_err(full)?;
                self.each_nexus(|session, nexus| {
                    let at = nexus.lun().tpg().rtpi();
                    if port(session).is_ok_and(|id| one.is_of(&id, at)) {
                        nexus.set_priority(priority);
                        nexus.attend(Asc::PRIORITY_CHANGED);
                    }
                });
            }
        }
        Ok(())
    }

    /// `nexus` of `session` is there: it has the priority that was set for it.
    pub(crate) fn adopt_priority(&self, session: &Core, nexus: &Nexus) {
        if let Ok(id) = port(session) {
            let rtpi = nexus.lun().tpg().rtpi();
            nexus.set_priority(self.priorities().get(&id, rtpi));
        }
    }

    /// INITIAL COMMAND PRIORITY has changed: those that follow it hear of that (SPC-5 7.5.9).
    pub(crate) fn tell_initial_priority(&self) {
        self.each_nexus(|_, nexus| {
            if nexus.priority().is_none() {
                nexus.attend(Asc::PRIORITY_CHANGED);
            }
        });
    }

    /// All priorities are the initial one.
    pub(crate) fn reset_priorities(&self) {
        let old = self.priorities().with(core::mem::take);
        drop(old);
        self.each_nexus(|_, nexus| nexus.set_priority(Priority::default()));
    }
}
