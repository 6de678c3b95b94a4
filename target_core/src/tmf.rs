// SPDX-License-Identifier: GPL-2.0

//! Task management (SAM-5 7).
//!
//! A function marks the commands that it concerns, each of which its owner then gives up, and waits for them to be
//! gone. What a back end has is waited for; the log says so every 30 s.

use crate::{
    device::Device,
    fabric::Fabric,
    lun::{attend_all, Nexus},
    session::{AnySession, Core, Session},
    Engine,
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Acquire, Full},
        Arc,
    },
};
use lio_glue::noio;
use lio_scsi::{
    lun::Lun as LunNumber,
    sense::Asc,
    task::{Function, Response, Tag},
};

/// How long a wait goes on before the log tells of it.
const PATIENCE_MS: u32 = 30_000;

/// A command that task management may be waiting for is gone. Any context.
pub(crate) fn wake() {
    crate::waiters(|w| w.wake_all());
}

/// Waits until `done`, which some [`wake`] makes true; calls `complain` each time that patience runs out.
pub(crate) fn wait_for(done: impl Fn() -> bool, complain: impl Fn()) {
    loop {
        let ok = crate::waiters(|w| w.wait_until(PATIENCE_MS, &done));
        if ok.unwrap_or(true) {
            return;
        }
        complain();
    }
}

/// Waits until no task management function is at work, of whatever session: it may hold sessions of other fabrics than its
/// own.
pub(crate) fn wait_for_all(engine: &Engine) {
    wait_for(
        || engine.managing().load(Acquire) == 0,
        || pr_warn!("a fabric that is unloaded waits for task management\n"),
    );
}

impl<F: Fabric> Session<F> {
    /// Performs a task management function, and waits for its end: process context, not the thread that this
    /// session's commands need to make progress.
    pub fn manage(self: &Arc<Self>, function: Function, lun: [u8; 8]) -> Response {
        self.core().managing().fetch_add(1, Full);
        let response = self.manage_now(function, lun);
        self.core().managing().fetch_sub(1, Full);
        wake();
        response
    }

    /// Performs a task management function in the background, and hands its response to `done`.
    ///
    /// # Errors
    /// `ENOMEM`: nothing was done, and `done` will not be called.
    pub fn spawn_manage(
        self: &Arc<Self>,
        function: Function,
        lun: [u8; 8],
        done: impl FnOnce(Response) + Send + 'static,
    ) -> Result {
        let session = self.clone();
        self.core().managing().fetch_add(1, Full);
        let spawned = crate::engine().and_then(|engine| {
            engine.management().spawn(move || {
                let response = session.manage_now(function, lun);
                done(response);
                session.core().managing().fetch_sub(1, Full);
                wake();
            })
        });
        if spawned.is_err() {
            self.core().managing().fetch_sub(1, Full);
        }
        spawned
    }

    // The caller wakes those that wait for the function's end.
    fn manage_now(self: &Arc<Self>, function: Function, lun: [u8; 8]) -> Response {
        let Ok(engine) = crate::engine() else {
            return Response::Rejected;
        };
        engine.managing().fetch_add(1, Full);
        // It allocates with locks held that commands may take, and whoever writes to free memory waits for commands.
        let response = noio::scope(|| self.perform(function, lun));
        engine.managing().fetch_sub(1, Full);
        response
    }

    fn perform(self: &Arc<Self>, function: Function, lun: [u8; 8]) -> Response {
        if let Function::TargetWarmReset | Function::TargetColdReset = function {
            return self.reset_target();
        }
        let Some(nexus) = LunNumber::parse(lun).and_then(|n| self.core().nexus(n)) else {
            return Response::NoSuchLun;
        };
        let number = nexus.mapped().number();
        let on_lun = move |l| LunNumber::parse(l) == Some(number);
        match function {
            Function::AbortTask(Tag(tag)) => {
                let found = self.abort_own(&nexus, &|t, l| t == tag && on_lun(l));
                nexus.lun().device().count_abort(found);
                if found {
                    Response::Complete
                } else {
                    Response::NoSuchTask
                }
            }
            Function::AbortTaskSet => {
                self.abort_own(&nexus, &|_, l| on_lun(l));
                Response::Complete
            }
            Function::ClearTaskSet => clear(nexus.lun().device(), self.core()),
            Function::LogicalUnitReset => reset(nexus.lun().device(), self.core()),
            Function::QueryTask(Tag(tag)) => self.query(&|t, l| t == tag && on_lun(l)),
            Function::QueryTaskSet => self.query(&|_, l| on_lun(l)),
            _ => Response::NotSupported,
        }
    }

    // Aborts commands of this session and waits for them; returns whether there were any.
    fn abort_own(self: &Arc<Self>, nexus: &Nexus, select: &dyn Fn(u64, [u8; 8]) -> bool) -> bool {
        if !self.has(select) {
            return false;
        }
        self.abort(false, select);
        wait_for(
            || !self.has_marked(true, select),
            || {
                pr_warn!(
                    "{}: an abort of {} waits for the back end of {}\n",
                    self.core().tpg().path(),
                    self.core().initiator(),
                    nexus.lun().device().path()
                )
            },
        );
        true
    }

    fn query(&self, select: &dyn Fn(u64, [u8; 8]) -> bool) -> Response {
        if self.has(select) {
            Response::Succeeded
        } else {
            Response::Complete
        }
    }

    fn reset_target(self: &Arc<Self>) -> Response {
        for (_, nexus) in self.core().nexuses() {
            match reset(nexus.lun().device(), self.core()) {
                Response::Complete => (),
                other => return other,
            }
        }
        Response::Complete
    }
}

// LOGICAL UNIT RESET: SAM-5 6.3.3. All I_T nexuses hear of it.
fn reset(device: &Arc<Device>, by: &Core) -> Response {
    device.count_reset();
    if abort_all(device, by).is_err() {
        return Response::Rejected;
    }
    attend_all(device, Asc::BUS_DEVICE_RESET, None);
    Response::Complete
}

// CLEAR TASK SET: SAM-5 7.5. The other I_T nexuses that lost commands hear of it, by TASK ABORTED or by a unit attention.
fn clear(device: &Arc<Device>, by: &Core) -> Response {
    if abort_all(device, by).is_err() {
        return Response::Rejected;
    }
    if !device.attrib().emulate_tas() {
        attend_all(device, Asc::COMMANDS_CLEARED, Some(by));
    }
    Response::Complete
}

/// Aborts all commands for `device`, of all sessions, and waits for them. Those of `by` hear nothing; the others are
/// told with TASK ABORTED where the device's TAS says so.
///
/// # Errors
/// `ENOMEM`; nothing was aborted.
pub(crate) fn abort_all(device: &Arc<Device>, by: &Core) -> Result {
    let mut marked = KVec::new();
    let tas = device.attrib().emulate_tas();
    device.each_nexus(|session, nexus| {
        marked.push((session.clone(), nexus.mapped().number()), GFP_KERNEL)?;
        Ok(())
    })?;
    for (session, number) in marked.iter() {
        let tell = tas && !core::ptr::eq(session.core(), by);
        session.abort(tell, &|_, l| LunNumber::parse(l) == Some(*number));
    }
    // Of other sessions, not until their answers are sent: one that does not read must not hold up the others.
    wait_for(
        || {
            !marked.iter().any(|(s, n)| {
                let own = core::ptr::eq(s.core(), by);
                s.has_marked(own, &|_, l| LunNumber::parse(l) == Some(*n))
            })
        },
        || pr_warn!("{}: a reset waits for the back end\n", device.path()),
    );
    Ok(())
}
