// SPDX-License-Identifier: GPL-2.0

//! What each function does: it marks commands, waits for them, and goes on.

use super::{
    pending::{self, Job},
    wait_within, wake, Work, PATIENCE_MS,
};
use crate::{
    command::Unit,
    copy,
    device::Device,
    fabric::Fabric,
    session::{AnySession, Session},
};
use kernel::{
    prelude::*,
    sync::{atomic::Full, Arc},
};
use lio_glue::noio;
use lio_scsi::{
    block::orwrite::Generations,
    lun::Lun as LunNumber,
    sense::Asc,
    task::{Function, Response, Tag},
};

/// Commands of a session's own.
#[derive(Clone, Copy)]
enum Which {
    /// For what it sees by this number and nexus; with this tag, or all.
    Seen(LunNumber, u64, Option<u64>),
    /// For logical units that were taken away from it. They have been aborted, but who hears that they are gone may use their tags, and
    /// what they transfer to, for others.
    Taken(Option<u64>),
}

impl Which {
    fn has(self, tag: u64, unit: Unit) -> bool {
        let (of, wanted) = match self {
            Which::Seen(number, serial, wanted) => (unit.is(Some(number), serial), wanted),
            Which::Taken(wanted) => (matches!(unit, Unit::Taken(_)), wanted),
        };
        of && wanted.is_none_or(|wanted| wanted == tag)
    }
}

/// Aborted commands of one's own, which are waited for.
struct Own<F: Fabric> {
    session: Arc<Session<F>>,
    which: Which,
    // Whose they are, for the log.
    device: Option<Arc<Device>>,
    // Those before it are gone.
    first: usize,
}

impl<F: Fabric> Own<F> {
    fn is_over(&mut self) -> bool {
        let which = self.which;
        let select = |tag, unit| which.has(tag, unit);
        match self.session.next_marked(self.first, true, &select) {
            Some(at) => {
                self.first = at;
                false
            }
            None => true,
        }
    }

    fn complain(&self, what: &str) {
        let core = self.session.core();
        let of = self
            .device
            .as_ref()
            .map_or(c"what it saw before", |d| d.path());
        pr_warn!(
            "{}: an abort of {} {} the back end of {}\n",
            core.tpg().path(),
            core.initiator(),
            what,
            of
        );
    }
}

/// A function of logical units.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// CLEAR TASK SET: SAM-5 7.5.
    Clear,
    /// LOGICAL UNIT RESET: SAM-5 6.3.3.
    Reset,
    /// That of all that the session sees, and of its target port.
    TargetReset,
}

/// Aborted commands of logical units, of all sessions, which are waited for, and what copies have at work there.
struct Units<F: Fabric> {
    session: Arc<Session<F>>,
    kind: Kind,
    // It may name some several times.
    devices: KVVec<Arc<Device>>,
    work: Work,
    at: (usize, usize),
    pieces: copy::EarlierOfAll,
}

impl<F: Fabric> Units<F> {
    fn begin(session: &Arc<Session<F>>, kind: Kind, devices: KVVec<Arc<Device>>) -> Step<F> {
        let Ok(mut work) = Work::find(&devices) else {
            return Step::Done(Response::Rejected);
        };
        if kind != Kind::Clear {
            // Copies from or to them end with their next piece.
            devices.iter().for_each(|device| device.count_reset());
        }
        work.abort(session.core());
        Step::Units(Units {
            session: session.clone(),
            kind,
            devices,
            work,
            at: (0, 0),
            pieces: copy::EarlierOfAll::new(),
        })
    }

    fn is_gone(&mut self, own_only: bool) -> bool {
        self.work
            .is_gone(&mut self.at, self.session.core(), own_only)
    }

    fn is_over(&mut self) -> bool {
        self.is_gone(false) && self.pieces.are_gone(&self.devices)
    }

    fn complain(&self, what: &str) {
        let path = self.devices.first().map_or(c"", |d| d.path());
        let by = self.session.core().initiator();
        pr_warn!("{}: a reset by {} {} the back end\n", path, by, what);
    }

    // What is to be done when the commands are gone, or as far as they are.
    fn finish(mut self, response: Response) -> Step<F> {
        match self.kind {
            Kind::Clear => self.clear(),
            Kind::Reset => self.reset(),
            Kind::TargetReset => {
                self.reset();
                // The target port's reset is a hard reset (SAM-5 6.3.2), which ends ORWRITE's generations (SBC-4 4.27.3).
                for device in &self.devices {
                    *device.generations().lock() = Generations::new();
                }
                if response == Response::Complete {
                    let taken = self.session.abort_taken(None);
                    return taken.unwrap_or(Step::Done(response));
                }
            }
        }
        Step::Done(response)
    }

    // The other I_T nexuses that lost commands hear of it, by TASK ABORTED or by a unit attention. A copy that another logical unit's
    // command has begun is in that one's task set, and goes on; what it has at work here is in none, but is waited for as if it were,
    // since nothing that came before may be written after the answer.
    fn clear(&mut self) {
        let by = self.session.core();
        for c in self.work.0.iter().filter(|c| c.lost_unheard) {
            if !c.is_of(by) {
                c.attend(Asc::COMMANDS_CLEARED);
            }
        }
    }

    // All I_T nexuses hear of it, also where something is left: other initiators' commands were aborted.
    fn reset(&mut self) {
        for device in &self.devices {
            device.reset_mode();
            device.watch_thresholds();
            device.reset_priorities();
            device.reservations().reset();
        }
        self.work.attend(Asc::BUS_DEVICE_RESET, |_, nexus| {
            // The medium may be removed again (SBC-4 5.17).
            nexus.set_prevents_removal(false);
            nexus.copies().clear();
            true
        });
    }
}

/// How far a function is.
enum Step<F: Fabric> {
    Done(Response),
    Own(Own<F>),
    Units(Units<F>),
}

impl<F: Fabric> Step<F> {
    fn is_over(&mut self) -> bool {
        match self {
            Step::Done(_) => true,
            Step::Own(own) => own.is_over(),
            Step::Units(units) => units.is_over(),
        }
    }

    // Goes on after a wait. What is not over is given up: it ends by itself, later.
    fn go_on(self, in_time: bool) -> Self {
        let response = match in_time {
            true => Response::Complete,
            false => Response::Rejected,
        };
        let what = "is answered as rejected: for 30 s it was waiting for";
        match self {
            Step::Own(own) => {
                if !in_time {
                    own.complain(what);
                }
                Step::Done(response)
            }
            Step::Units(units) => {
                if !in_time {
                    units.complain(what);
                }
                units.finish(response)
            }
            done => done,
        }
    }

    // Waits until the session's own commands are gone, however long that takes.
    fn wait(&mut self) {
        match self {
            Step::Done(_) => (),
            Step::Own(own) => {
                while !wait_within(PATIENCE_MS, || own.is_over()) {
                    own.complain("waits for");
                }
            }
            Step::Units(units) => {
                if wait_within(PATIENCE_MS, || units.is_over()) {
                    return;
                }
                while !wait_within(PATIENCE_MS, || units.is_gone(true)) {
                    units.complain("waits for");
                }
            }
        }
    }
}

/// A function in the background.
struct Managing<F: Fabric, D> {
    session: Arc<Session<F>>,
    // Until it has begun.
    function: Option<(Function, [u8; 8])>,
    step: Option<Step<F>>,
    done: Option<D>,
}

impl<F: Fabric, D: FnOnce(Response) + Send + 'static> Job for Managing<F, D> {
    fn go_on(&mut self, in_time: bool) -> bool {
        let mut step = match (self.function.take(), self.step.take()) {
            (Some((function, lun)), _) => self.session.begin_function(function, lun),
            (None, Some(step)) => step.go_on(in_time),
            (None, None) => return false,
        };
        loop {
            match step {
                Step::Done(response) => {
                    if let Some(done) = self.done.take() {
                        done(response);
                    }
                    self.session.core().managing().fetch_sub(1, Full);
                    wake();
                    return false;
                }
                mut other => {
                    if !other.is_over() {
                        self.step = Some(other);
                        return true;
                    }
                    step = other.go_on(true);
                }
            }
        }
    }

    fn is_over(&mut self) -> bool {
        self.step.as_mut().is_none_or(|step| step.is_over())
    }
}

impl<F: Fabric> Session<F> {
    /// Performs a task management function: process context, not the thread that this session's commands need to make
    /// progress. Waits until the session's own commands that it concerns are gone, however long that takes: for an
    /// initiator that takes the memory of such commands back when this returns.
    pub fn manage(self: &Arc<Self>, function: Function, lun: [u8; 8]) -> Response {
        self.core().managing().fetch_add(1, Full);
        // It allocates with locks held that commands may take, and whoever writes to free memory waits for commands.
        let response = noio::scope(|| {
            let mut step = self.begin_function(function, lun);
            loop {
                match step {
                    Step::Done(response) => return response,
                    mut other => {
                        other.wait();
                        step = other.go_on(true);
                    }
                }
            }
        });
        self.core().managing().fetch_sub(1, Full);
        wake();
        response
    }

    /// Performs a task management function in the background, and hands its response to `done`: FUNCTION REJECTED if
    /// it did not end within 30 s.
    ///
    /// # Errors
    /// `ENOMEM`: nothing was done, and `done` will not be called.
    pub fn spawn_manage(
        self: &Arc<Self>,
        function: Function,
        lun: [u8; 8],
        done: impl FnOnce(Response) + Send + 'static,
    ) -> Result {
        self.core().managing().fetch_add(1, Full);
        let spawned = pending::spawn(Managing {
            session: self.clone(),
            function: Some((function, lun)),
            step: None,
            done: Some(done),
        });
        if spawned.is_err() {
            self.core().managing().fetch_sub(1, Full);
        }
        spawned
    }

    fn begin_function(self: &Arc<Self>, function: Function, lun: [u8; 8]) -> Step<F> {
        if let Function::TargetWarmReset | Function::TargetColdReset = function {
            return self.reset_target();
        }
        let Some(nexus) = LunNumber::parse(lun).and_then(|n| self.core().nexus(n)) else {
            let aborted = match function {
                Function::AbortTask(Tag(tag)) => self.abort_taken(Some(tag)),
                _ => None,
            };
            return aborted.unwrap_or(Step::Done(Response::NoSuchLun));
        };
        let device = nexus.lun().device();
        let seen = |tag| Which::Seen(nexus.mapped().number(), nexus.serial(), tag);
        match function {
            Function::AbortTask(Tag(tag)) => {
                let which = seen(Some(tag));
                let found = self.has(&|t, unit| which.has(t, unit));
                device.count_abort(found);
                if found {
                    return self.abort_own(Some(device.clone()), which);
                }
                let aborted = self.abort_taken(Some(tag));
                aborted.unwrap_or(Step::Done(Response::NoSuchTask))
            }
            Function::AbortTaskSet => self.abort_own(Some(device.clone()), seen(None)),
            Function::ClearTaskSet => self.of_unit(Kind::Clear, device),
            Function::LogicalUnitReset => self.of_unit(Kind::Reset, device),
            Function::QueryTask(Tag(tag)) => self.query(seen(Some(tag))),
            Function::QueryTaskSet => self.query(seen(None)),
            _ => Step::Done(Response::NotSupported),
        }
    }

    // Aborts commands of this session.
    fn abort_own(self: &Arc<Self>, device: Option<Arc<Device>>, which: Which) -> Step<F> {
        self.abort(false, &|tag, unit| which.has(tag, unit));
        Step::Own(Own {
            session: self.clone(),
            which,
            device,
            first: 0,
        })
    }

    // `None`: there are none, with this tag or at all.
    fn abort_taken(self: &Arc<Self>, tag: Option<u64>) -> Option<Step<F>> {
        let which = Which::Taken(tag);
        self.has(&|t, unit| which.has(t, unit))
            .then(|| self.abort_own(None, which))
    }

    fn query(&self, which: Which) -> Step<F> {
        Step::Done(match self.has(&|tag, unit| which.has(tag, unit)) {
            true => Response::Succeeded,
            false => Response::Complete,
        })
    }

    fn of_unit(self: &Arc<Self>, kind: Kind, device: &Arc<Device>) -> Step<F> {
        let mut devices = KVVec::new();
        match devices.push(device.clone(), GFP_KERNEL) {
            Ok(()) => Units::begin(self, kind, devices),
            Err(_) => Step::Done(Response::Rejected),
        }
    }

    fn reset_target(self: &Arc<Self>) -> Step<F> {
        let mut devices = KVVec::new();
        for (_, nexus) in self.core().nexuses() {
            if devices
                .push(nexus.lun().device().clone(), GFP_KERNEL)
                .is_err()
            {
                return Step::Done(Response::Rejected);
            }
        }
        Units::begin(self, Kind::TargetReset, devices)
    }
}
