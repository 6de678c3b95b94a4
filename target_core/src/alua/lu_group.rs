// SPDX-License-Identifier: GPL-2.0

//! Groups of logical units (SPC-5 4.3.4.7): `core/alua/lu_gps`. A target port group that changes its state in one of them changes
//! it in all; not so in the default group, which no device leaves but for another.

use crate::device::Device;
use kernel::{
    error::code::*,
    new_mutex,
    prelude::*,
    str::CString,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc, Mutex,
    },
};

/// The default group's name.
pub(crate) const DEFAULT_LU_GROUP: &str = "default_lu_gp";
/// Groups beside the default one, at most.
pub(crate) const MAX_LU_GROUPS: usize = 4096;

/// A group that has no number yet.
const NO_ID: u32 = u32::MAX;

/// A group of logical units.
#[pin_data]
pub(crate) struct LuGroup {
    name: CString,
    // Set once, with `Engine::lu_groups` locked.
    id: Atomic<u32>,
    // A device leaves its group before it goes.
    #[pin]
    members: Mutex<KVec<Arc<Device>>>,
}

impl LuGroup {
    pub(crate) fn name(&self) -> &CStr {
        &self.name
    }

    /// Its number, once it has one.
    pub(crate) fn id(&self) -> Option<u16> {
        u16::try_from(self.id.load(Relaxed)).ok()
    }

    /// Calls `f` for each member.
    pub(crate) fn each(&self, f: impl FnMut(&Arc<Device>) -> Result) -> Result {
        self.members.lock().iter().try_for_each(f)
    }

    /// The members now.
    pub(super) fn members(&self) -> Result<KVVec<Arc<Device>>> {
        let members = self.members.lock();
        let mut all = KVVec::with_capacity(members.len(), GFP_KERNEL)?;
        for device in members.iter() {
            all.push(device.clone(), GFP_KERNEL)?;
        }
        Ok(all)
    }

    fn take(&self, device: &Device) {
        self.members.lock().retain(|d| !core::ptr::eq(&**d, device));
    }
}

/// The groups that have a directory, beside the default one.
#[derive(Default)]
pub(crate) struct LuGroups {
    list: KVec<Arc<LuGroup>>,
    last: u16,
}

impl LuGroups {
    /// Adds a group.
    ///
    /// # Errors
    /// `ENOSPC` if there are [`MAX_LU_GROUPS`]; `ENOMEM`.
    pub(crate) fn add(&mut self, name: CString) -> Result<Arc<LuGroup>> {
        if self.list.len() >= MAX_LU_GROUPS {
            return Err(ENOSPC);
        }
        let group = Arc::pin_init(
            pin_init!(LuGroup {
                name,
                id: Atomic::new(NO_ID),
                members <- new_mutex!(KVec::new(), "LuGroup::members"),
            }),
            GFP_KERNEL,
        )?;
        self.list.push(group.clone(), GFP_KERNEL)?;
        Ok(group)
    }

    /// Takes a group away; its members are in the default one again.
    pub(crate) fn remove(&mut self, group: &Arc<LuGroup>) {
        self.list.retain(|g| !Arc::ptr_eq(g, group));
        let members = core::mem::take(&mut *group.members.lock());
        for device in members.iter() {
            *device.alua().lu_group.lock() = None;
        }
    }

    /// Gives a group its number, the one after the last that was given where 0 is asked for.
    ///
    /// # Errors
    /// `EINVAL` if it has another one, or the number is another group's.
    pub(crate) fn set_id(&mut self, group: &LuGroup, id: u16) -> Result {
        if let Some(now) = group.id() {
            return if now == id { Ok(()) } else { Err(EINVAL) };
        }
        let taken = |id: u16| id == 0 || self.list.iter().any(|g| g.id() == Some(id));
        let mut new = id;
        if id == 0 {
            // There are fewer groups than numbers.
            new = self.last.wrapping_add(1);
            while taken(new) {
                new = new.wrapping_add(1);
            }
            self.last = new;
        } else if taken(id) {
            return Err(EINVAL);
        }
        group.id.store(new.into(), Relaxed);
        Ok(())
    }

    fn find(&self, name: &str) -> Option<&Arc<LuGroup>> {
        self.list
            .iter()
            .find(|g| g.name().to_bytes() == name.as_bytes() && g.id().is_some())
    }
}

impl Device {
    /// The group of logical units that the device is in; `None`: the default one.
    pub(crate) fn lu_group(&self) -> Option<Arc<LuGroup>> {
        self.alua().lu_group.lock().clone()
    }

    /// Puts the device into the group with this name, `None`: the default one.
    ///
    /// # Errors
    /// `ENODEV` if there is no such group with a number, `ENOMEM`.
    pub(crate) fn join_lu_group(self: &Arc<Self>, name: Option<&str>) -> Result {
        let engine = crate::engine()?;
        // Held throughout: no group goes meanwhile.
        let groups = engine.lu_groups().lock();
        let new = match name {
            Some(name) => Some(groups.find(name).ok_or(ENODEV)?.clone()),
            None => None,
        };
        if let Some(new) = &new {
            let mut members = new.members.lock();
            if members.iter().any(|d| Arc::ptr_eq(d, self)) {
                return Ok(());
            }
            members.push(self.clone(), GFP_KERNEL)?;
        }
        let old = core::mem::replace(&mut *self.alua().lu_group.lock(), new);
        if let Some(old) = old {
            old.take(self);
        }
        Ok(())
    }

    /// The device's directory is gone.
    pub(crate) fn leave_lu_group(&self) {
        let old = self.alua().lu_group.lock().take();
        if let Some(old) = old {
            old.take(self);
        }
    }
}
