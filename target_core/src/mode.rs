// SPDX-License-Identifier: GPL-2.0

//! A device's mode parameters, and how they change (SPC-5 5.11): by MODE SELECT, by an administrator, by a reset.
//!
//! TAS and UA_INTLCK_CTRL are kept as the attributes that show them, WCE by the back end. What an administrator sets is the default,
//! which a reset brings back.

use crate::{device::Device, lun::Nexus, thresholds::Watch};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc, Mutex,
    },
};
use lio_policy::mode::{self as policy, Change};
use lio_scsi::{
    mode::{ErrorPolicy, Interlock, Values},
    provisioning::Thresholds,
    sense::{Asc, Format, Sense},
};

/// What a device has of it.
#[pin_data]
pub(crate) struct Mode {
    descriptor_sense: Atomic<bool>,
    errors: Atomic<u32>,
    write_protect: Atomic<bool>,
    report_exceptions: Atomic<bool>,
    exception_test: Atomic<bool>,
    unchecked_if_zero: Atomic<bool>,
    // Held while values change. Commands take it.
    #[pin]
    defaults: Mutex<Values>,
    // After `defaults`.
    #[pin]
    thresholds: Mutex<Thresholds>,
    #[pin]
    watch: Watch,
}

impl Mode {
    pub(crate) fn new() -> impl PinInit<Self> {
        let defaults = Values {
            task_aborted_status: true,
            ..Values::default()
        };
        pin_init!(Mode {
            descriptor_sense: Atomic::new(false),
            errors: Atomic::new(ErrorPolicy::Continue as u32),
            write_protect: Atomic::new(false),
            report_exceptions: Atomic::new(false),
            exception_test: Atomic::new(false),
            unchecked_if_zero: Atomic::new(false),
            defaults <- new_mutex!(defaults, "Mode::defaults"),
            thresholds <- new_mutex!(Thresholds::OFF, "Mode::thresholds"),
            watch <- Watch::new(),
        })
    }

    /// What is told of logical block provisioning.
    pub(crate) fn thresholds(&self) -> Thresholds {
        *self.thresholds.lock()
    }

    pub(crate) fn watch(&self) -> &Watch {
        &self.watch
    }

    /// SWP: no command may write.
    pub(crate) fn write_protect(&self) -> bool {
        self.write_protect.load(Relaxed)
    }

    /// DPICZ: protection information is not checked by commands that transfer none.
    pub(crate) fn unchecked_if_zero(&self) -> bool {
        self.unchecked_if_zero.load(Relaxed)
    }

    /// QERR.
    pub(crate) fn errors(&self) -> ErrorPolicy {
        let errors = self.errors.load(Relaxed);
        if errors == ErrorPolicy::AbortAll as u32 {
            ErrorPolicy::AbortAll
        } else if errors == ErrorPolicy::AbortOwn as u32 {
            ErrorPolicy::AbortOwn
        } else {
            ErrorPolicy::Continue
        }
    }

    /// The format of sense data that goes with a status.
    pub(crate) fn sense_format(&self) -> Format {
        if self.descriptor_sense.load(Relaxed) {
            Format::Descriptor
        } else {
            Format::Fixed
        }
    }
}

impl Device {
    /// Whether MODE SELECT can switch the write cache.
    pub(crate) fn switches_write_cache(&self) -> bool {
        self.backend().emulates_write_cache() && self.backend().switches_write_cache()
    }

    /// The mode parameters in force, and the defaults.
    pub(crate) fn mode_values(&self) -> (Values, Values) {
        let default = self.mode().defaults.lock();
        self.values(&default)
    }

    fn values(&self, default: &Values) -> (Values, Values) {
        let current = Values {
            write_cache: self.backend().write_cache(),
            descriptor_sense: self.mode().descriptor_sense.load(Relaxed),
            errors: self.mode().errors(),
            interlock: interlock(self.attrib().emulate_ua_intlck_ctrl()),
            software_write_protect: self.mode().write_protect(),
            task_aborted_status: self.attrib().emulate_tas(),
            report_exceptions: self.mode().report_exceptions.load(Relaxed),
            exception_test: self.mode().exception_test.load(Relaxed),
            unchecked_if_zero: self.mode().unchecked_if_zero(),
            thresholds: *self.mode().thresholds.lock(),
        };
        // The storage's own cache is as it is.
        let write_cache = match self.switches_write_cache() {
            true => default.write_cache,
            false => current.write_cache,
        };
        let default = Values {
            write_cache,
            ..*default
        };
        (current, default)
    }

    /// The informational exception that there is, and whether REQUEST SENSE tells of it.
    pub(crate) fn exception(&self) -> Option<(Asc, bool)> {
        let (current, _) = self.mode_values();
        let counters = self.log_counters();
        let errors = [
            counters.read_errors,
            counters.write_errors,
            counters.verify_errors,
        ];
        let errors = errors.into_iter().fold(0, u64::saturating_add);
        policy::exception(errors, &current).map(|asc| (asc, current.report_exceptions))
    }

    /// MODE SELECT: has `f` make the new values of those in force and the defaults, and tells the other nexuses than `by`. Returns
    /// whether the write cache is to be flushed then.
    ///
    /// # Errors
    /// Those of `f`; INTERNAL TARGET FAILURE if the back end does not switch its cache.
    pub(crate) fn select_mode(
        &self,
        by: &Arc<Nexus>,
        f: impl FnOnce(&Values, &Values) -> Result<Values, Sense>,
    ) -> Result<bool, Sense> {
        let change = {
            let default = self.mode().defaults.lock();
            let (current, default) = self.values(&default);
            let new = f(&current, &default)?;
            self.apply(&current, &new)
                .map_err(|_| Sense::INTERNAL_TARGET_FAILURE)?
        };
        if change.tell {
            self.attend_but(Asc::MODE_PARAMETERS_CHANGED, Some(by.serial()));
        }
        Ok(change.flush)
    }

    /// An administrator's change, which is of the default too. Initiators hear of it.
    ///
    /// # Errors
    /// What the back end says to its cache being switched.
    pub(crate) fn set_mode(&self, f: impl Fn(&mut Values)) -> Result {
        let change = {
            let mut default = self.mode().defaults.lock();
            let (current, _) = self.values(&default);
            let mut new = current;
            f(&mut new);
            let change = self.apply(&current, &new)?;
            f(&mut default);
            change
        };
        if change.tell {
            self.attend(Asc::MODE_PARAMETERS_CHANGED);
        }
        Ok(())
    }

    /// The back end is open: its write cache is as it is by default.
    pub(crate) fn adopt_mode(&self) {
        self.mode().defaults.lock().write_cache = self.backend().write_cache();
    }

    /// A reset: the defaults are in force.
    pub(crate) fn reset_mode(&self) {
        let default = self.mode().defaults.lock();
        let (current, default) = self.values(&default);
        // A write cache that does not follow stays as it is.
        let _ = self.apply(&current, &policy::reset(&current, &default));
    }

    // `Mode::defaults` is held.
    fn apply(&self, current: &Values, new: &Values) -> Result<Change> {
        let change = Change::new(current, new);
        if let Some(on) = change.write_cache {
            self.backend().set_write_cache(on)?;
        }
        let mode = self.mode();
        mode.descriptor_sense.store(new.descriptor_sense, Relaxed);
        mode.errors.store(new.errors as u32, Relaxed);
        mode.write_protect
            .store(new.software_write_protect, Relaxed);
        mode.report_exceptions.store(new.report_exceptions, Relaxed);
        mode.exception_test.store(new.exception_test, Relaxed);
        mode.unchecked_if_zero.store(new.unchecked_if_zero, Relaxed);
        *mode.thresholds.lock() = new.thresholds;
        self.attrib()
            .set_emulate_ua_intlck_ctrl(match new.interlock {
                Interlock::Clear => 0,
                Interlock::Keep => 1,
                Interlock::Establish => 2,
            });
        self.attrib().set_emulate_tas(new.task_aborted_status);
        Ok(change)
    }
}

/// UA_INTLCK_CTRL as the attribute `emulate_ua_intlck_ctrl` has it.
pub(crate) fn interlock(value: u32) -> Interlock {
    match value {
        1 => Interlock::Keep,
        2 => Interlock::Establish,
        _ => Interlock::Clear,
    }
}
