// SPDX-License-Identifier: GPL-2.0

//! A device's mode parameters, and how they change (SPC-5 5.11): by MODE SELECT, by an administrator, by a reset.
//!
//! TAS and UA_INTLCK_CTRL are kept as the attributes that show them, WCE by the back end. What an administrator sets is the default.
//! What an initiator has saved is in the file `mode_SERIAL` below `dbroot`, and goes before the default when the first LUN is linked,
//! as after power on, and after a reset.

use crate::{
    backend::IoError,
    background::PATIENCE_MS,
    dbroot::{self, Dir},
    device::Device,
    lun::Nexus,
    thresholds::Watch,
    tmf,
};
use kernel::{
    error::code::*,
    new_mutex,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc, Mutex, SetOnce,
    },
};
use lio_glue::{noio, rcu_box::RcuBox};
use lio_policy::mode::{self as policy, Change};
use lio_scsi::{
    bytes::Writer,
    groups::Groups,
    mode::{saved, ErrorPolicy, Extension, Interlock, Unit, Values},
    pi::{self, ApplicationTags, Fields, Protection, Ranges},
    priority::Priority,
    provisioning::Thresholds,
    sense::{Asc, Format, Sense, Style},
};

/// The kind of file that values are saved in.
const FILE: &str = "mode";

/// Values that are not in force.
#[derive(Clone, Copy)]
struct Others {
    default: Values,
    saved: Option<Values>,
}

/// All values of a device.
pub(crate) struct All {
    pub(crate) current: Values,
    pub(crate) default: Values,
    saved: Option<Values>,
}

impl All {
    /// Those that a reset brings back: the saved ones, or else the default ones.
    pub(crate) fn kept(&self) -> Values {
        self.saved.unwrap_or(self.default)
    }
}

/// What a device has of it.
#[pin_data]
pub(crate) struct Mode {
    descriptor_sense: Atomic<bool>,
    errors: Atomic<u32>,
    write_protect: Atomic<bool>,
    report_exceptions: Atomic<bool>,
    exception_test: Atomic<bool>,
    unchecked_if_zero: Atomic<bool>,
    // ATO, ATMPE, and the application tag mode page where it was changed.
    own_tags: Atomic<bool>,
    tags_by_range: Atomic<bool>,
    #[pin]
    tag_ranges: RcuBox<Ranges>,
    // IC_ENABLE of each group.
    groups: Atomic<u32>,
    // TCMOS, SCSIP, MAXIMUM SENSE DATA LENGTH.
    clock: Atomic<bool>,
    set_first: Atomic<bool>,
    max_sense: Atomic<u32>,
    // INITIAL COMMAND PRIORITY
    priority: Atomic<u32>,
    // Values can be saved: there is a name for their file.
    saves: Atomic<bool>,
    // Before `others`: one at a time selects, and saves.
    #[pin]
    selecting: Mutex<()>,
    // Held while values change. Commands take it.
    #[pin]
    others: Mutex<Others>,
    // After `others`.
    #[pin]
    thresholds: Mutex<Thresholds>,
    #[pin]
    watch: Watch,
}

impl Mode {
    pub(crate) fn new() -> impl PinInit<Self> {
        let default = Values {
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
            own_tags: Atomic::new(false),
            tags_by_range: Atomic::new(false),
            tag_ranges <- RcuBox::new(),
            groups: Atomic::new(0),
            clock: Atomic::new(true),
            set_first: Atomic::new(true),
            max_sense: Atomic::new(0),
            priority: Atomic::new(0),
            saves: Atomic::new(false),
            selecting <- new_mutex!((), "Mode::selecting"),
            others <- new_mutex!(Others { default, saved: None }, "Mode::others"),
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

    /// ATO, ATMPE, and the application tag mode page.
    pub(crate) fn application_tags(&self) -> ApplicationTags {
        ApplicationTags {
            owned: self.own_tags.load(Relaxed),
            by_range: self.tags_by_range.load(Relaxed),
            ranges: self.tag_ranges(),
        }
    }

    fn tag_ranges(&self) -> Ranges {
        self.tag_ranges.with(|ranges| *ranges).unwrap_or_default()
    }

    /// The groups of which information is collected.
    pub(crate) fn groups(&self) -> Groups {
        Groups::new(self.groups.load(Relaxed))
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

    /// How sense data that goes with a status looks.
    pub(crate) fn sense_style(&self) -> Style {
        Style {
            format: self.sense_format(),
            most: self.extension().max_sense,
        }
    }

    pub(crate) fn sense_format(&self) -> Format {
        if self.descriptor_sense.load(Relaxed) {
            Format::Descriptor
        } else {
            Format::Fixed
        }
    }

    /// The control extension page.
    pub(crate) fn extension(&self) -> Extension {
        Extension {
            clock: self.clock.load(Relaxed),
            set_first: self.set_first.load(Relaxed),
            priority: Priority::new(self.priority.load(Relaxed) as u8),
            max_sense: u8::try_from(self.max_sense.load(Relaxed)).unwrap_or(0),
        }
    }
}

impl Device {
    /// Whether MODE SELECT can switch the write cache.
    pub(crate) fn switches_write_cache(&self) -> bool {
        self.backend().emulates_write_cache() && self.backend().switches_write_cache()
    }

    /// The rules for a command about blocks from `first` on, on this unit with protection information of type `of`.
    pub(crate) fn protection_rules(&self, of: pi::Type, fields: Fields, first: u64) -> Protection {
        let mode = self.mode();
        let owned = of.owns_application_tags() || mode.own_tags.load(Relaxed);
        let by_range = owned && mode.tags_by_range.load(Relaxed);
        Protection {
            of,
            fields,
            first,
            checks_medium: self.checks_protection(),
            unless_zero: mode.unchecked_if_zero(),
            owned,
            ranges: by_range.then(|| mode.tag_ranges()),
        }
    }

    /// Whether MODE SELECT can save values.
    pub(crate) fn saves_mode(&self) -> bool {
        self.mode().saves.load(Relaxed)
    }

    /// The mode parameters.
    pub(crate) fn mode_values(&self) -> All {
        self.values(&self.mode().others.lock())
    }

    // `Mode::others` is held.
    fn values(&self, others: &Others) -> All {
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
            extension: self.mode().extension(),
            application: self.mode().application_tags(),
            groups: self.mode().groups(),
        };
        // The storage's own cache is as it is.
        let with_cache = |of: &Values| Values {
            write_cache: match self.switches_write_cache() {
                true => of.write_cache,
                false => current.write_cache,
            },
            ..*of
        };
        All {
            current,
            default: with_cache(&others.default),
            saved: others.saved.as_ref().map(with_cache),
        }
    }

    /// The informational exception that there is, and whether REQUEST SENSE tells of it.
    pub(crate) fn exception(&self) -> Option<(Asc, bool)> {
        let current = self.mode_values().current;
        let counters = self.log_counters();
        let errors = [
            counters.read_errors,
            counters.write_errors,
            counters.verify_errors,
        ];
        let errors = errors.into_iter().fold(0, u64::saturating_add);
        policy::exception(errors, &current).map(|asc| (asc, current.report_exceptions))
    }

    /// MODE SELECT: has `f` make the new values of `unit`'s, which are those in force and the defaults then, saves them if it is to
    /// (`save`), and tells the other nexuses than `by`. Returns whether the write cache is to be flushed then.
    ///
    /// # Errors
    /// Those of `f`; INTERNAL TARGET FAILURE if the values cannot be saved, or the back end does not switch its cache.
    pub(crate) fn select_mode(
        &self,
        by: &Arc<Nexus>,
        unit: &Unit,
        save: bool,
        f: impl Fn(&Unit) -> Result<Values, Sense>,
    ) -> Result<bool, Sense> {
        let _selecting = self.mode().selecting.lock();
        let (before, new, change) = loop {
            let all = self.mode_values();
            let unit = Unit {
                current: all.current,
                default: all.default,
                ..*unit
            };
            let new = f(&unit)?;
            if save && all.saved != Some(new) {
                self.save_mode(&unit, &new).map_err(|e| {
                    pr_err!(
                        "{}: mode parameters cannot be saved in {}_SERIAL below dbroot: {:?}\n",
                        self.path(),
                        FILE,
                        e
                    );
                    Sense::INTERNAL_TARGET_FAILURE
                })?;
                self.mode().others.lock().saved = Some(new);
            }
            let others = self.mode().others.lock();
            let now = self.values(&others);
            if (now.current, now.default) != (all.current, all.default) {
                // The administrator does not wait for the file: what is new is made of what is in force by now, and saved again.
                continue;
            }
            let change = self
                .apply(&now.current, &new)
                .map_err(|_| Sense::INTERNAL_TARGET_FAILURE)?;
            break (now.current, new, change);
        };
        if change.tell {
            self.attend_but(Asc::MODE_PARAMETERS_CHANGED, Some(by.serial()));
        }
        if before.extension.priority != new.extension.priority {
            self.tell_initial_priority();
        }
        Ok(change.flush)
    }

    fn save_mode(&self, unit: &Unit, values: &Values) -> Result {
        let mut text = KVec::from_elem(0u8, saved::MAX, GFP_KERNEL)?;
        let mut out = Writer::new(&mut text);
        saved::write(unit, values, &mut out);
        // What is written may be for a disk of ours.
        noio::scope(|| dbroot::store(self, &Dir::Root, FILE, out.as_slice()))
    }

    /// The first LUN is about to be linked: what was saved is in force.
    pub(crate) fn restore_mode(self: &Arc<Self>) {
        let saves = dbroot::has_files(self);
        self.mode().saves.store(saves, Relaxed);
        if !saves {
            self.mode().others.lock().saved = None;
            return;
        }
        let saved = self.read_mode().unwrap_or_else(|e| {
            pr_err!(
                "{}: saved mode parameters are left out: {}_SERIAL below dbroot: {:?}\n",
                self.path(),
                FILE,
                e
            );
            None
        });
        {
            let mut others = self.mode().others.lock();
            others.saved = saved;
            if saved.is_some() {
                let all = self.values(&others);
                // A write cache that does not follow stays as it is.
                let _ = self.apply(&all.current, &policy::reset(&all.current, &all.kept()));
            }
        }
        self.watch_thresholds();
    }

    fn read_mode(&self) -> Result<Option<Values>> {
        let mut text = KVec::from_elem(0u8, saved::MAX, GFP_KERNEL)?;
        let read = dbroot::read(self, &Dir::Root, FILE, &mut text);
        let length = match read {
            Err(e) if e == ENOENT => return Ok(None),
            other => other?,
        };
        let default = self.mode().others.lock().default;
        let text = text.get(..length).unwrap_or(&[]);
        match saved::read(text, &default) {
            Ok(values) => Ok(Some(values)),
            Err(saved::Malformed(line)) => {
                pr_err!("{}: {}_SERIAL: line {} is wrong\n", self.path(), FILE, line);
                Err(EINVAL)
            }
        }
    }

    /// An administrator's change, which is of the default too. Initiators hear of it. Waits for the back end for a while.
    ///
    /// # Errors
    /// What the back end says to its cache being switched; `EIO` if what was in it is not on the medium then.
    pub(crate) fn set_mode(&self, f: impl Fn(&mut Values)) -> Result {
        let change = {
            let mut others = self.mode().others.lock();
            let current = self.values(&others).current;
            let mut new = current;
            f(&mut new);
            let change = self.apply(&current, &new)?;
            f(&mut others.default);
            change
        };
        // As with MODE SELECT: nobody flushes a cache that is none any more.
        let flushed = match change.flush && self.geometry().is_some() {
            true => self.flush_for_a_while(),
            false => Ok(()),
        };
        if change.tell {
            self.attend(Asc::MODE_PARAMETERS_CHANGED);
        }
        flushed.map_err(|e| {
            pr_err!(
                "{}: what was in the write cache is not on the medium: {:?}\n",
                self.path(),
                e
            );
            EIO
        })
    }

    // Flushes, and waits for that for a while; then it goes on in the background.
    fn flush_for_a_while(&self) -> Result<(), IoError> {
        let ended = Arc::new(SetOnce::new(), GFP_KERNEL).map_err(|_| IoError::Resources)?;
        let (backend, hba, tell) = (self.backend().clone(), self.hba().clone(), ended.clone());
        let losses = self.losses().clone();
        let flush = move || {
            let result = noio::scope(|| backend.flush());
            if result.is_err() {
                // It was acknowledged: initiators hear of it by their next flush, also where nobody waits here any more.
                losses.add();
            }
            // In this order: the back end's code is the module's that is held there.
            drop(backend);
            drop(hba);
            tell.populate(result);
            tmf::wake();
        };
        crate::engine()
            .and_then(|engine| engine.background().spawn(flush))
            .map_err(|_| IoError::Resources)?;
        if !tmf::wait_within(PATIENCE_MS, || ended.copy().is_some()) {
            return Err(IoError::Timeout);
        }
        ended.copy().unwrap_or(Err(IoError::Aborted))
    }

    /// The back end is open: its write cache is as it is by default.
    pub(crate) fn adopt_mode(&self) {
        self.mode().others.lock().default.write_cache = self.backend().write_cache();
    }

    /// A reset: the saved values are in force, or the defaults.
    pub(crate) fn reset_mode(&self) {
        let others = self.mode().others.lock();
        let all = self.values(&others);
        // A write cache that does not follow stays as it is.
        let _ = self.apply(&all.current, &policy::reset(&all.current, &all.kept()));
    }

    // `Mode::others` is held.
    fn apply(&self, current: &Values, new: &Values) -> Result<Change> {
        let change = Change::new(current, new);
        if current.application.ranges != new.application.ranges {
            let ranges = Arc::new(new.application.ranges, GFP_KERNEL)?;
            self.mode().tag_ranges.publish(ranges)?;
        }
        if new.groups != Groups::NONE {
            self.kept().groups().begin()?;
        }
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
        mode.own_tags.store(new.application.owned, Relaxed);
        mode.tags_by_range.store(new.application.by_range, Relaxed);
        mode.groups.store(new.groups.bits(), Relaxed);
        *mode.thresholds.lock() = new.thresholds;
        mode.clock.store(new.extension.clock, Relaxed);
        mode.set_first.store(new.extension.set_first, Relaxed);
        mode.max_sense
            .store(new.extension.max_sense.into(), Relaxed);
        mode.priority
            .store(new.extension.priority.get().into(), Relaxed);
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
