// SPDX-License-Identifier: GPL-2.0

//! What an administrator waits for, but not for ever: the end of commands that a back end has.
//!
//! A system call of configfs holds locks while it removes something; some of them keep all other directories from being made
//! and removed. So it waits for a while, and what is not done then goes on without it.

use crate::tmf;
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Release},
        Arc, Mutex,
    },
};
use lio_glue::module::Pin as ModulePin;

/// How long a system call waits.
pub const PATIENCE_MS: u32 = 10_000;

/// Something to be ended.
pub trait Job: Send + Sync + 'static {
    /// Ends it, however long that takes. Called once, in process context.
    fn run(&self);
}

// A job, and the module that its code is in: in this order.
type Pinned = (Arc<dyn Job>, Option<ModulePin>);

#[pin_data]
struct Task {
    // Taken by the one that runs it.
    #[pin]
    job: Mutex<Option<Pinned>>,
    done: Atomic<bool>,
}

impl Task {
    fn run(&self) {
        let Some((job, pin)) = self.job.lock().take() else {
            return;
        };
        job.run();
        drop(job);
        self.done.store(true, Release);
        tmf::wake();
        // Last: the job's code is the module's. This code is not.
        drop(pin);
    }
}

/// Runs `job`, code of `module`, and waits for its end for [`PATIENCE_MS`]. Then it goes on in the background, which the log
/// says of `what`; the module stays for so long. Not called with a lock held that the job takes.
// Not generic, so that all of it is this module's code.
pub fn run(module: &'static ThisModule, what: &CStr, job: Arc<dyn Job>) {
    let pin = ModulePin::get(module);
    // A module that is being unloaded waits for its end.
    let pinned = pin.is_some();
    let in_task = job.clone();
    let task = Arc::pin_init(
        pin_init!(Task {
            job <- new_mutex!(Some((in_task, pin)), "background::Task::job"),
            done: Atomic::new(false),
        }),
        GFP_KERNEL,
    );
    let Ok(task) = task else {
        return job.run();
    };
    // The task's own goes before its pin of the module.
    drop(job);
    let in_background = task.clone();
    let spawned =
        crate::engine().and_then(|engine| engine.background().spawn(move || in_background.run()));
    if spawned.is_err() || !pinned {
        // If it was taken already, this waits below.
        task.run();
    }
    let done = || task.done.load(Acquire);
    if !pinned {
        return tmf::wait_for(done, || pr_warn!("{}: not removed yet\n", what));
    }
    if !tmf::wait_within(PATIENCE_MS, done) {
        pr_warn!(
            "{}: its removal waits for the back end, and goes on in the background\n",
            what
        );
    }
}
