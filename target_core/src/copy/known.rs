// SPDX-License-Identifier: GPL-2.0

//! The copies of an I_T_L nexus that have list identifiers, by which RECEIVE COPY STATUS and its like ask for them (SPC-4 5.17.4.3).
//!
//! One that has ended is remembered until it was asked for, until another takes its identifier, or until there are too many.

use crate::lun::Nexus;
use kernel::{
    new_mutex,
    prelude::*,
    sync::{Arc, Mutex},
};
use lio_glue::{noio, once_box::OnceBox};
use lio_scsi::{
    copy::{
        results::{Origin, Outcome, Progress},
        token::Token,
        MAX_IDENTIFIED,
    },
    sense::{Asc, Key, Sense},
};

struct Known {
    id: u32,
    origin: Origin,
    progress: Progress,
    /// The ROD token that was made.
    token: Option<KBox<Token>>,
    /// COPY OPERATION ABORT was for it.
    stop: bool,
    /// Nobody has asked yet how it ended, and why.
    status: bool,
    details: bool,
}

impl Known {
    fn has_ended(&self) -> bool {
        self.progress.outcome != Outcome::InProgress
    }
}

/// A copy at work, and its identifier if it has one; forgotten if it goes away before it has ended.
pub(super) struct Listed {
    nexus: Arc<Nexus>,
    id: Option<u32>,
}

impl Listed {
    pub(super) fn new(nexus: Arc<Nexus>, id: Option<u32>) -> Self {
        Self { nexus, id }
    }

    pub(super) fn identifier(&self) -> Option<u32> {
        self.id
    }

    pub(super) fn end(mut self, outcome: Outcome) {
        if let Some(id) = self.id.take() {
            self.nexus.copies().end(id, outcome);
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.nexus.copies().forget(id);
        }
    }
}

/// These copies, oldest first. There is no memory for them before the first.
pub(crate) struct Copies(OnceBox<Mutex<KVec<Known>>>);

impl Copies {
    pub(crate) const fn new() -> Self {
        Copies(OnceBox::new())
    }

    // Commands hold the lock, which those may wait for that free memory.
    fn with<R>(&self, f: impl FnOnce(&mut KVec<Known>) -> R) -> R {
        match self.0.get() {
            Some(known) => noio::scope(|| f(&mut known.lock())),
            None => f(&mut KVec::new()),
        }
    }

    /// A copy begins.
    ///
    /// # Errors
    /// OPERATION IN PROGRESS if one with the identifier is at work; INSUFFICIENT RESOURCES.
    pub(crate) fn begin(&self, id: u32, origin: Origin) -> Result<(), Sense> {
        let known = new_mutex!(KVec::new(), "Copies::known");
        noio::scope(|| self.0.get_or_init(known).map(|_| ()))
            .map_err(|_| Sense::INSUFFICIENT_RESOURCES)?;
        self.with(|known| {
            if known.iter().any(|k| k.id == id && !k.has_ended()) {
                return Err(Sense::new(Key::IllegalRequest, Asc::OPERATION_IN_PROGRESS));
            }
            known.retain(|k| k.id != id);
            if known.len() >= MAX_IDENTIFIED {
                let oldest = known.iter().position(Known::has_ended);
                let oldest = oldest.ok_or(Sense::INSUFFICIENT_RESOURCES)?;
                known
                    .remove(oldest)
                    .map_err(|_| Sense::INSUFFICIENT_RESOURCES)?;
            }
            let new = Known {
                id,
                origin,
                progress: Progress::BEGUN,
                token: None,
                stop: false,
                status: true,
                details: true,
            };
            known
                .push(new, GFP_KERNEL)
                .map_err(|_| Sense::INSUFFICIENT_RESOURCES)
        })
    }

    // Calls `f` with the copy at work that has the identifier.
    fn at_work(&self, id: u32, f: impl FnOnce(&mut Progress)) {
        self.with(|known| {
            if let Some(k) = known.iter_mut().find(|k| k.id == id && !k.has_ended()) {
                f(&mut k.progress);
            }
        });
    }

    /// So much is done.
    pub(super) fn advance(&self, id: u32, segments: u16, bytes: u64) {
        self.at_work(id, |progress| {
            progress.segments = segments;
            progress.bytes = bytes;
        });
    }

    /// It is to end, if it is at work and not to end already; whether it was.
    pub(crate) fn stop(&self, id: u32) -> bool {
        self.with(|known| {
            let found = known.iter_mut().find(|k| k.id == id && !k.has_ended());
            found.is_some_and(|k| !core::mem::replace(&mut k.stop, true))
        })
    }

    /// It is to end, and has not yet.
    pub(super) fn is_stopped(&self, id: u32) -> bool {
        self.with(|known| known.iter().any(|k| k.id == id && k.stop && !k.has_ended()))
    }

    /// It has ended.
    pub(crate) fn end(&self, id: u32, outcome: Outcome) {
        self.at_work(id, |progress| progress.outcome = outcome);
    }

    /// It never began to copy.
    fn forget(&self, id: u32) {
        self.with(|known| known.retain(|k| k.id != id || k.has_ended()));
    }

    /// It has made a token that stands for so many bytes, and has ended.
    pub(crate) fn made(&self, id: u32, token: KBox<Token>, bytes: u64) {
        self.with(|known| {
            if let Some(k) = known.iter_mut().find(|k| k.id == id && !k.has_ended()) {
                k.token = Some(token);
                k.progress.bytes = bytes;
                k.progress.outcome = Outcome::Good;
            }
        });
    }

    /// Calls `f` with what there is to be told of the copy with the identifier, and with the token that it made. It is remembered
    /// nevertheless.
    pub(crate) fn tell<R>(
        &self,
        id: u32,
        f: impl FnOnce(&Origin, &Progress, Option<&Token>) -> R,
    ) -> Option<R> {
        self.with(|known| {
            let k = known.iter().find(|k| k.id == id)?;
            Some(f(&k.origin, &k.progress, k.token.as_deref()))
        })
    }

    /// How far the copy with the identifier is. One that has ended is told of once.
    pub(crate) fn status(&self, id: u32) -> Option<Progress> {
        self.with(|known| {
            let k = known.iter_mut().find(|k| k.id == id && k.status)?;
            let progress = k.progress;
            k.status = !k.has_ended();
            known.retain(|k| {
                k.status || k.details && matches!(k.progress.outcome, Outcome::Failed(_))
            });
            Some(progress)
        })
    }

    /// Why the copy with the identifier has failed, once; `None`: it has not.
    pub(crate) fn details(&self, id: u32) -> Option<Sense> {
        self.with(|known| {
            let k = known.iter_mut().find(|k| k.id == id && k.details)?;
            let Outcome::Failed(sense) = k.progress.outcome else {
                return None;
            };
            k.details = false;
            known.retain(|k| k.status || k.details);
            sense
        })
    }

    /// Forgets all: the logical unit was reset.
    pub(crate) fn clear(&self) {
        self.with(|known| known.retain(|k| !k.has_ended()));
    }
}
