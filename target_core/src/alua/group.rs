// SPDX-License-Identifier: GPL-2.0

//! Target port groups (SPC-5 5.17.2): `core/KIND_N/NAME/alua`, and how they change their states.
//!
//! A change takes no time, or the group's `trans_delay_msecs`, during which it is transitioning. Nobody waits for that: a command
//! or an administrator that asks for another change meanwhile is refused, and a group that goes takes its transition with it.

use super::metadata::{self, File};
use crate::{
    delay::Late,
    device::Device,
    lun::{Lun, Nexus},
};
use kernel::{
    error::code::*,
    new_mutex,
    prelude::*,
    str::CString,
    sync::{Arc, Mutex},
};
use lio_glue::noio;
use lio_policy::alua::{self as policy, By, Change, Refusal, Status};
use lio_scsi::{alua::State, sense::Asc};

/// The default group's name.
pub(crate) const DEFAULT: &str = "default_tg_pt_gp";
/// Groups of a device, at most.
pub(crate) const MAX_GROUPS: usize = 256;

/// What a group is.
pub(crate) struct Settings {
    /// TARGET PORT GROUP; a group without takes no part in anything.
    pub(crate) id: Option<u16>,
    pub(crate) core: policy::Group,
    /// PREF
    pub(crate) preferred: bool,
    pub(crate) nonop_delay_msecs: u16,
    pub(crate) trans_delay_msecs: u16,
    pub(crate) implicit_trans_secs: u8,
    /// The state is kept in a file.
    pub(crate) write_metadata: bool,
    /// The directory is gone.
    gone: bool,
}

/// A target port group of a device. It does not know the device.
#[pin_data]
pub(crate) struct Group {
    name: CString,
    #[pin]
    settings: Mutex<Settings>,
    #[pin]
    file: File,
}

impl Group {
    pub(super) fn new(name: CString, id: Option<u16>) -> Result<Arc<Self>> {
        let settings = Settings {
            id,
            core: policy::Group::default(),
            preferred: false,
            nonop_delay_msecs: 100,
            trans_delay_msecs: 0,
            implicit_trans_secs: 0,
            write_metadata: false,
            gone: false,
        };
        Arc::pin_init(
            pin_init!(Group {
                name,
                settings <- new_mutex!(settings, "Group::settings"),
                file <- File::new(),
            }),
            GFP_KERNEL,
        )
    }

    pub(crate) fn name(&self) -> &CStr {
        &self.name
    }

    /// Calls `f` with the settings. What LUNs have to know of is changed by [`Device::set_group`].
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut Settings) -> R) -> R {
        f(&mut self.settings.lock())
    }

    /// TARGET PORT GROUP
    pub(crate) fn id(&self) -> Option<u16> {
        self.with(|s| s.id)
    }
}

impl metadata::Saved for Group {
    fn file(&self) -> &File {
        &self.file
    }

    fn text(&self) -> Result<CString> {
        let (id, state, status) = self.with(|s| (s.id, s.core.state(), s.core.status));
        CString::try_from_fmt(fmt!(
            "tg_pt_gp_id={}\nalua_access_state=0x{:02x}\nalua_access_status=0x{:02x}\n",
            id.unwrap_or(0),
            state as u8,
            status as u8
        ))
    }
}

/// Who asks for a change.
#[derive(Clone, Copy)]
pub(crate) struct Asks {
    pub(crate) by: By,
    /// The nexus on which SET TARGET PORT GROUPS came, which is not told of what it asked for.
    pub(crate) nexus: Option<u64>,
}

impl Asks {
    /// The administrator.
    pub(crate) const IMPLICIT: Self = Asks {
        by: By::Implicit,
        nexus: None,
    };

    /// The initiator of `nexus`.
    pub(crate) fn explicit(nexus: &Nexus) -> Self {
        Asks {
            by: By::Explicit,
            nexus: Some(nexus.serial()),
        }
    }
}

/// Calls `f`, which looks whether states may be changed and changes them, while nobody else does: who asks for several changes has all of
/// them made before or after those of another. Nothing in it waits for a file.
///
/// # Errors
/// `ENODEV` without an engine.
pub(crate) fn alone<R>(f: impl FnOnce() -> R) -> Result<R> {
    let engine = crate::engine()?;
    // Commands take this lock too.
    Ok(noio::scope(|| {
        let _changing = engine.access_states().lock();
        f()
    }))
}

struct One {
    device: Arc<Device>,
    group: Arc<Group>,
    changed: bool,
}

/// A change of state that is asked for: of a group, and of the same group of the other devices of the group of logical units.
pub(crate) struct Asked {
    to: State,
    asks: Asks,
    own: One,
    others: KVVec<One>,
}

impl Asked {
    /// Finds the groups.
    ///
    /// # Errors
    /// `ENOMEM`
    pub(crate) fn new(
        device: &Arc<Device>,
        group: &Arc<Group>,
        to: State,
        asks: Asks,
    ) -> Result<Self> {
        let one = |device: &Arc<Device>, group| One {
            device: device.clone(),
            group,
            changed: false,
        };
        let members = match device.lu_group() {
            Some(lu_group) => lu_group.members()?,
            None => KVVec::new(),
        };
        let id = group.id();
        let mut others = KVVec::new();
        for other in members.iter().filter(|d| !Arc::ptr_eq(d, device)) {
            let same = other.with_groups(|groups| groups.iter().find(|g| g.id() == id).cloned());
            if let Some(same) = same {
                others.push(one(other, same), GFP_KERNEL)?;
            }
        }
        Ok(Asked {
            to,
            asks,
            own: one(device, group.clone()),
            others,
        })
    }

    /// Whether the group may be changed now. With [`alone`].
    ///
    /// # Errors
    /// Why not: another device's that is just changing could not follow, and the states of both would differ from then on.
    pub(crate) fn may(&self) -> Result<(), Refusal> {
        let may = |one: &One| one.group.with(|s| s.core.may(self.to, self.asks.by));
        may(&self.own)?;
        let mut others = self.others.iter();
        match others.any(|one| may(one) == Err(Refusal::Changing)) {
            true => Err(Refusal::Changing),
            false => Ok(()),
        }
    }

    /// Has the groups change. With [`alone`].
    ///
    /// # Errors
    /// Why the group is not changed; then no other is either.
    pub(crate) fn begin(&mut self) -> Result<(), Refusal> {
        let (to, asks, own) = (self.to, self.asks, &mut self.own);
        own.changed = own.device.change_one(&own.group, to, asks)?;
        // The initiator asked this device's logical unit for it, not the other's.
        let asks = Asks {
            nexus: None,
            ..asks
        };
        for other in self.others.iter_mut() {
            match other.device.change_one(&other.group, to, asks) {
                Ok(changed) => other.changed = changed,
                Err(why) => pr_warn!(
                    "{}/alua/{}: does not follow {}: {:?}\n",
                    other.device.path(),
                    other.group.name(),
                    own.device.path(),
                    why
                ),
            }
        }
        Ok(())
    }

    /// Has the files say what has changed: an administrator waits for them, a command does not. Not with [`alone`].
    pub(crate) fn keep(&self) {
        let patient = self.asks.by == By::Implicit;
        let all = Iterator::chain(core::iter::once(&self.own), self.others.iter());
        for one in all.filter(|one| one.changed) {
            one.device.keep_state(&one.group, patient);
        }
    }
}

impl Device {
    /// Calls `f` with the groups locked: none comes, goes or changes, nor do LUNs change groups.
    // Commands take this lock too, under locks of who sends them: what allocates under it may not wait for one.
    pub(crate) fn with_groups<R>(&self, f: impl FnOnce(&mut KVec<Arc<Group>>) -> R) -> R {
        noio::scope(|| f(&mut self.alua().groups.lock()))
    }

    /// Adds a group.
    ///
    /// # Errors
    /// `ENOSPC` if there are [`MAX_GROUPS`]; `ENOMEM`.
    pub(crate) fn add_group(&self, name: CString) -> Result<Arc<Group>> {
        let group = Group::new(name, None)?;
        self.with_groups(|groups| {
            if groups.len() >= MAX_GROUPS {
                return Err(ENOSPC);
            }
            groups.push(group.clone(), GFP_KERNEL)?;
            Ok(())
        })?;
        Ok(group)
    }

    /// Takes a group away; its ports are in the default one again.
    pub(crate) fn remove_group(&self, group: &Arc<Group>) {
        let default = self.alua().default_group();
        self.with_groups(|groups| {
            groups.retain(|g| !Arc::ptr_eq(g, group));
            group.with(|s| s.gone = true);
            // The closures do not fail.
            let _ = self.each_member(group, |lun| {
                lun.set_group(default.clone());
                default.with(|s| lun.set_port(s));
                lun.attend(Asc::INQUIRY_CHANGED, None);
                Ok(())
            });
        });
        crate::delay::forget_transition(group);
    }

    /// All groups go with the device's directory: no transition keeps the device.
    pub(crate) fn close_groups(&self) {
        self.with_groups(|groups| {
            for group in groups.iter() {
                group.with(|s| s.gone = true);
                crate::delay::forget_transition(group);
            }
        });
    }

    /// Gives a group its number, the lowest that is free where 0 is asked for.
    ///
    /// # Errors
    /// `EINVAL` if it has another one, or the number is another group's.
    pub(crate) fn set_group_id(&self, group: &Group, id: u16) -> Result {
        self.with_groups(|groups| {
            if let Some(now) = group.id() {
                return if now == id { Ok(()) } else { Err(EINVAL) };
            }
            let taken = |id: u16| groups.iter().any(|g| g.id() == Some(id));
            let new = match id {
                0 => (1..=u16::MAX).find(|id| !taken(*id)).ok_or(ENOSPC)?,
                id if taken(id) => return Err(EINVAL),
                id => id,
            };
            group.with(|s| {
                s.id = Some(new);
                let dependent = self.alua().is_segmented();
                s.core.supported = s.core.supported.with(State::BlockDependent, dependent);
            });
            Ok(())
        })
    }

    /// Changes what LUNs have to know of a group.
    pub(crate) fn set_group(&self, group: &Arc<Group>, f: impl FnOnce(&mut Settings)) {
        self.with_groups(|_| {
            group.with(f);
            self.follow(group);
        })
    }

    // Has the LUNs of a group know of its settings. With the groups locked.
    pub(super) fn follow(&self, group: &Arc<Group>) {
        let _ = self.each_member(group, |lun| {
            group.with(|s| lun.set_port(s));
            Ok(())
        });
    }

    /// Calls `f` for each LUN of a group.
    pub(crate) fn each_member(
        &self,
        group: &Arc<Group>,
        mut f: impl FnMut(&Arc<Lun>) -> Result,
    ) -> Result {
        self.each_lun(|lun| {
            if Arc::ptr_eq(&lun.group(), group) {
                f(lun)?;
            }
            Ok(())
        })
    }

    /// A LUN was just linked: it is in the default group.
    pub(crate) fn welcome(&self, lun: &Arc<Lun>) {
        self.with_groups(|_| lun.group().with(|s| lun.set_port(s)));
    }

    /// Puts a LUN into the group with this name, `None`: the default one.
    ///
    /// # Errors
    /// `ENODEV` if there is no such group with a number.
    pub(crate) fn join_group(&self, lun: &Arc<Lun>, name: Option<&str>) -> Result {
        self.with_groups(|groups| {
            let new = match name {
                Some(name) => groups
                    .iter()
                    .find(|g| g.name().to_bytes() == name.as_bytes() && g.id().is_some())
                    .ok_or(ENODEV)?,
                None => self.alua().default_group(),
            };
            if Arc::ptr_eq(new, &lun.group()) {
                return Ok(());
            }
            lun.set_group(new.clone());
            new.with(|s| lun.set_port(s));
            lun.attend(Asc::INQUIRY_CHANGED, None);
            Ok(())
        })
    }

    /// Changes a group's state, and that of the same group of the other devices of the group of logical units, as the administrator asks.
    /// Waits for the files in which they are kept.
    ///
    /// # Errors
    /// `ENOMEM`; why it is not changed: then no other is either.
    pub(crate) fn change_state(
        self: &Arc<Self>,
        group: &Arc<Group>,
        to: State,
    ) -> Result<Result<(), Refusal>> {
        let mut asked = Asked::new(self, group, to, Asks::IMPLICIT)?;
        let done = alone(|| asked.may().and_then(|()| asked.begin()))?;
        asked.keep();
        Ok(done)
    }

    // Whether something is another than before. With `alone`.
    fn change_one(
        self: &Arc<Self>,
        group: &Arc<Group>,
        to: State,
        asks: Asks,
    ) -> Result<bool, Refusal> {
        let (change, delay) = self.with_groups(|_| {
            let changed = group.with(|s| {
                if s.gone {
                    return Err(Refusal::NotAllowed);
                }
                let delay = s.trans_delay_msecs;
                Ok((s.core.change(to, asks.by, delay != 0)?, delay))
            });
            self.follow(group);
            changed
        })?;
        self.tell(change, asks);
        if change == Change::Begun {
            let late = Late::Transition {
                device: self.clone(),
                group: group.clone(),
                asks,
            };
            if let Err(late) = crate::delay::after(delay.into(), late) {
                late.run();
            }
            if group.with(|s| s.gone) {
                crate::delay::forget_transition(group);
            }
        }
        Ok(change != Change::None)
    }

    /// The time of a group's transition is over.
    pub(crate) fn complete_state(self: &Arc<Self>, group: &Arc<Group>, asks: Asks) {
        let change = self.with_groups(|_| {
            let change = group.with(|s| {
                if s.gone {
                    Change::None
                } else {
                    s.core.complete()
                }
            });
            self.follow(group);
            change
        });
        self.tell(change, asks);
        if change != Change::None {
            // In a thread that others wait for.
            self.keep_state(group, false);
        }
    }

    // Initiators hear of a change: all nexuses of the logical unit but the one that asked (SPC-5 5.17.2.8).
    fn tell(&self, change: Change, asks: Asks) {
        let what = match change {
            Change::None => return,
            Change::Failed => Asc::ALUA_TRANSITION_FAILED,
            Change::Done | Change::Begun | Change::Held => Asc::ALUA_STATE_CHANGED,
        };
        self.attend_but(what, asks.nexus);
    }

    // The file hears of a change. `patient`: it may be waited for.
    fn keep_state(&self, group: &Arc<Group>, patient: bool) {
        let (keep, state) = group.with(|s| (s.write_metadata, s.core.state()));
        if keep && state != State::Transition {
            let path = metadata::path(fmt!("{}/{}", Serial(self), group.name()));
            metadata::keep(group, path, patient);
        }
    }

    /// Sets whether a port of the device is offline.
    ///
    /// # Errors
    /// `ENOMEM`
    pub(crate) fn set_offline(&self, lun: &Arc<Lun>, offline: bool, asks: Asks) -> Result {
        let secondary = lun.keep_secondary()?;
        let keep = self.with_groups(|_| {
            let keep = secondary.with(|s| {
                s.offline = offline;
                s.status = match asks.by {
                    By::Implicit => Status::Implicit,
                    By::Explicit => Status::Explicit,
                };
                s.write_metadata
            });
            lun.group().with(|s| lun.set_port(s));
            keep
        });
        self.attend_but(Asc::ALUA_STATE_CHANGED, asks.nexus);
        if keep {
            let target = lun.tpg().target();
            let path = metadata::path(fmt!(
                "{}/{}+{}/lun_{}",
                target.kind().display_name(),
                target.name(),
                lun.tpg().tag(),
                lun.number().0
            ));
            metadata::keep(secondary, path, asks.by == By::Implicit);
        }
        Ok(())
    }
}

/// `tpgs_` and a device's serial number.
struct Serial<'a>(&'a Device);

impl kernel::fmt::Display for Serial<'_> {
    fn fmt(&self, f: &mut kernel::fmt::Formatter<'_>) -> kernel::fmt::Result {
        let names = self.0.names().lock();
        f.write_str("tpgs_")?;
        f.write_str(core::str::from_utf8(&names.serial).unwrap_or(""))
    }
}
