// SPDX-License-Identifier: GPL-2.0

//! Asymmetric logical unit access (SPC-5 5.17): `core/KIND_N/NAME/alua`, and the files of a LUN.

use super::{limits, lun::LunDir};
use crate::{
    alua::{Asks, Group, Settings, DEFAULT},
    device::Device,
    lun::Lun,
};
use kernel::{error::code::*, prelude::*, str::CString, sync::Arc, ThisModule};
use lio_configfs::{attributes, Builder, Dir, Node, Page, Tree, Value};
use lio_policy::alua::{AccessType, Refusal, Status};
use lio_scsi::alua::State;

/// The longest times, in milliseconds.
const MAX_NONOP_DELAY: u32 = 10_000;
const MAX_TRANS_DELAY: u32 = 30_000;

/// A group's directory.
pub(super) struct GroupDir {
    device: Arc<Device>,
    group: Arc<Group>,
}

macro_rules! supports {
    ($state:ident) => {
        |dir, page| dir.number(page, |s| s.core.supported.has(State::$state).into())
    };
}
macro_rules! support {
    ($state:ident) => {
        |dir, value| {
            let on = bit(value)?;
            dir.valid(value)?;
            dir.set(|s| s.core.supported = s.core.supported.with(State::$state, on))
        }
    };
}

attributes! {
    static GROUP: GroupDir = {
        rw "alua_access_state" => |dir, page| dir.number(page, |s| s.core.state() as u32), store_state;
        rw "alua_access_status" => |dir, page| writeln!(page, "{}", status_name(dir.group.with(|s| s.core.status))), |dir, value| {
            dir.valid(value)?;
            let status = status(value)?;
            dir.set(|s| s.core.status = status)
        };
        rw "alua_access_type" => show_type, |dir, value| {
            let bits = value.u32_in(0..=3)?;
            dir.set(|s| s.core.access = AccessType { implicit: bits & 1 != 0, explicit: bits & 2 != 0 })
        };
        rw "alua_support_active_nonoptimized" => supports!(NonOptimized), support!(NonOptimized);
        rw "alua_support_active_optimized" => supports!(Optimized), support!(Optimized);
        rw "alua_support_lba_dependent" => supports!(BlockDependent), support!(BlockDependent);
        rw "alua_support_offline" => supports!(Offline), support!(Offline);
        rw "alua_support_standby" => supports!(Standby), support!(Standby);
        rw "alua_support_transitioning" => supports!(Transition), support!(Transition);
        rw "alua_support_unavailable" => supports!(Unavailable), support!(Unavailable);
        rw "alua_write_metadata" => |dir, page| dir.number(page, |s| s.write_metadata.into()), |dir, value| {
            let on = bit(value)?;
            dir.set(|s| s.write_metadata = on)
        };
        rw "implicit_trans_secs" => |dir, page| dir.number(page, |s| s.implicit_trans_secs.into()), |dir, value| {
            let seconds = value.u32_in(0..=u8::MAX.into())? as u8;
            dir.set(|s| s.implicit_trans_secs = seconds)
        };
        ro "members" => show_members;
        rw "nonop_delay_msecs" => |dir, page| dir.number(page, |s| s.nonop_delay_msecs.into()), |dir, value| {
            let ms = value.u32_in(0..=MAX_NONOP_DELAY)? as u16;
            dir.set(|s| s.nonop_delay_msecs = ms)
        };
        rw "preferred" => |dir, page| dir.number(page, |s| s.preferred.into()), |dir, value| {
            let on = bit(value)?;
            dir.set(|s| s.preferred = on)
        };
        rw "tg_pt_gp_id" => |dir, page| match dir.group.id() {
            Some(id) => writeln!(page, "{id}"),
            None => Ok(()),
        }, |dir, value| {
            let id = value.u16()?;
            dir.device.set_group_id(&dir.group, id)
                .map_err(|e| value.reject(e, fmt!("the group has a number already, or another group has this one")))
        };
        rw "trans_delay_msecs" => |dir, page| dir.number(page, |s| s.trans_delay_msecs.into()), |dir, value| {
            let ms = value.u32_in(0..=MAX_TRANS_DELAY)? as u16;
            dir.set(|s| s.trans_delay_msecs = ms)
        };
    }

    /// The files of a LUN. Reading them without a device is an error, as the tools expect.
    pub(super) static LUN: LunDir = {
        rw "alua_tg_pt_gp" => show_group, store_group;
        rw "alua_tg_pt_offline" => |lun, page| {
            writeln!(page, "{}", u32::from(lun.linked()?.secondary().offline))
        }, |dir, value| {
            let lun = linked(dir, value)?;
            let offline = bit(value)?;
            lun.device().set_offline(&lun, offline, Asks::IMPLICIT)
        };
        rw "alua_tg_pt_status" => |lun, page| {
            writeln!(page, "{}", lun.linked()?.secondary().status as u32)
        }, |dir, value| {
            let lun = linked(dir, value)?;
            let status = status(value)?;
            lun.keep_secondary()?.with(|s| s.status = status);
            Ok(())
        };
        rw "alua_tg_pt_write_md" => |lun, page| {
            writeln!(page, "{}", u32::from(lun.linked()?.secondary().write_metadata))
        }, |dir, value| {
            let lun = linked(dir, value)?;
            let on = bit(value)?;
            lun.keep_secondary()?.with(|s| s.write_metadata = on);
            Ok(())
        };
        rw "latency" => limits::show_latency, limits::store_latency;
        rw "limits" => limits::show, limits::store;
    }
}

/// The directory `alua` of a device.
pub(super) fn groups(
    device: &Arc<Device>,
    module: &'static ThisModule,
) -> Result<Builder<'static>> {
    let default = GroupDir {
        device: device.clone(),
        group: device.alua().default_group().clone(),
    };
    let default = Builder::new(module, DEFAULT).attrs(GROUP, Arc::new(default, GFP_KERNEL)?);
    Ok(Builder::new(module, "alua")
        .dir(Groups {
            device: device.clone(),
            module,
        })
        .group(default))
}

struct Groups {
    device: Arc<Device>,
    module: &'static ThisModule,
}

impl Dir for Groups {
    fn mkdir(&self, dir: &Node, name: &str) -> Result<Tree> {
        let group = self
            .device
            .add_group(CString::try_from_fmt(fmt!("{name}"))?)
            .map_err(|e| dir.reject(e, fmt!("'{name}': a device has no more groups")))?;
        let made = Arc::new(
            GroupDir {
                device: self.device.clone(),
                group: group.clone(),
            },
            GFP_KERNEL,
        );
        let built = made
            .map_err(Error::from)
            .and_then(|made| Builder::new(self.module, name).attrs(GROUP, made).build());
        if built.is_err() {
            self.device.remove_group(&group);
        }
        built
    }

    fn rmdir(&self, _dir: &Node, child: &Node) {
        if let Some(made) = child.data::<GroupDir>() {
            self.device.remove_group(&made.group);
        }
    }
}

impl GroupDir {
    fn number(&self, page: &mut Page<'_>, f: impl FnOnce(&Settings) -> u32) -> Result {
        let value = self.group.with(|s| f(s));
        writeln!(page, "{value}")
    }

    fn set(&self, f: impl FnOnce(&mut Settings)) -> Result {
        self.device.set_group(&self.group, f);
        Ok(())
    }

    // The group takes part in something.
    fn valid(&self, value: &Value<'_>) -> Result {
        match self.group.id() {
            Some(_) => Ok(()),
            None => Err(value.reject(EINVAL, fmt!("the group has no tg_pt_gp_id yet"))),
        }
    }
}

// 0 or 1, in digits.
fn bit(value: &Value<'_>) -> Result<bool> {
    Ok(value.u32_in(0..=1)? != 0)
}

fn status(value: &Value<'_>) -> Result<Status> {
    Status::new(value.u32_in(0..=2)?).ok_or(EINVAL)
}

fn status_name(status: Status) -> &'static str {
    match status {
        Status::None => "None",
        Status::Explicit => "Altered by Explicit STPG",
        Status::Implicit => "Altered by Implicit ALUA",
    }
}

fn state_name(state: State) -> &'static str {
    match state {
        State::Optimized => "Active/Optimized",
        State::NonOptimized => "Active/NonOptimized",
        State::Standby => "Standby",
        State::Unavailable => "Unavailable",
        State::BlockDependent => "LBA Dependent",
        State::Offline => "Offline",
        State::Transition => "Transitioning",
    }
}

fn store_state(dir: &GroupDir, value: &Value<'_>) -> Result {
    let state = value.u32()?;
    dir.valid(value)?;
    if dir.device.geometry().is_none() {
        return Err(value.reject(ENODEV, fmt!("the device is not enabled")));
    }
    let state = u8::try_from(state)
        .ok()
        .and_then(State::new)
        .ok_or_else(|| value.reject(EINVAL, fmt!("0 to 4, 14 or 15 is wanted")))?;
    let changed = dir.device.change_state(&dir.group, state)?;
    changed.map_err(|why| match why {
        Refusal::NotSupported => value.reject(
            EINVAL,
            fmt!("the group does not support the state {}", state_name(state)),
        ),
        Refusal::NotAllowed => value.reject(
            EINVAL,
            fmt!(
                "alua_access_type does not allow the administrator the state {}",
                state_name(state)
            ),
        ),
        Refusal::Changing => value.reject(
            EBUSY,
            fmt!("the group, or that of a device of the same LU group, is just changing its state"),
        ),
    })
}

fn show_type(dir: &GroupDir, page: &mut Page<'_>) -> Result {
    let access = dir.group.with(|s| s.core.access);
    let name = match (access.implicit, access.explicit) {
        (true, true) => "Implicit and Explicit",
        (true, false) => "Implicit",
        (false, true) => "Explicit",
        (false, false) => "None",
    };
    writeln!(page, "{name}")
}

fn show_members(dir: &GroupDir, page: &mut Page<'_>) -> Result {
    dir.device.each_member(&dir.group, |lun| {
        let target = lun.tpg().target();
        page.write_fmt(fmt!(
            "{}/{}/tpgt_{}/lun_{}\n",
            target.kind().display_name(),
            target.name(),
            lun.tpg().tag(),
            lun.number().0
        ))
    })
}

fn linked(lun: &LunDir, value: &Value<'_>) -> Result<Arc<Lun>> {
    lun.linked()
        .map_err(|e| value.reject(e, fmt!("no device is linked here")))
}

fn show_group(dir: &LunDir, page: &mut Page<'_>) -> Result {
    let lun = dir.linked()?;
    let group = lun.group();
    let (id, state, status) = group.with(|s| (s.id, s.core.state(), s.core.status));
    let secondary = lun.secondary();
    page.write_fmt(fmt!(
        "TG Port Alias: {}\nTG Port Group ID: {}\n\
         TG Port Primary Access State: {}\nTG Port Primary Access Status: {}\n\
         TG Port Secondary Access State: {}\nTG Port Secondary Access Status: {}\n",
        group.name(),
        id.unwrap_or(0),
        state_name(state),
        status_name(status),
        if secondary.offline { "Offline" } else { "None" },
        status_name(secondary.status)
    ))
}

// `NULL` asks for the default group.
fn store_group(dir: &LunDir, value: &Value<'_>) -> Result {
    let lun = linked(dir, value)?;
    let name = match value.str()? {
        "NULL" => None,
        name => Some(name),
    };
    lun.device().join_group(&lun, name).map_err(|e| {
        value.reject(
            e,
            fmt!("the device has no group of this name with a tg_pt_gp_id"),
        )
    })
}
