// SPDX-License-Identifier: GPL-2.0

//! Targets, and what all of them share.

use crate::{
    auth::Credentials,
    discovery::Discoveries,
    group::{Group, Setting},
    limits::Limits,
    memory::Budget,
    name::Name,
    portal::{Portal, Portals},
    stats::TargetStats,
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        new_mutex, Arc, Mutex,
    },
};
use lio_glue::thread::CpuList;

/// What the module has.
#[pin_data]
pub(crate) struct Global {
    pub(crate) module: &'static ThisModule,
    #[pin]
    targets: Mutex<KVec<Arc<Target>>>,
    #[pin]
    pub(crate) portals: Portals,
    pub(crate) logins: Arc<Limits>,
    pub(crate) discoveries: Arc<Discoveries>,
    pub(crate) memory: Arc<Budget>,
    /// For discovery sessions.
    #[pin]
    pub(crate) discovery: Credentials,
    pub(crate) enforce_discovery_auth: Setting,
    /// On which CPUs the connections' threads run, once somebody has said so; see [`Self::cpus_said`].
    #[pin]
    pub(crate) cpus: Mutex<CpuList>,
    /// How often that was said.
    pub(crate) cpus_said: Setting,
    next_target: Atomic<u32>,
    next_session: Atomic<u32>,
}

impl Global {
    pub(crate) fn new(module: &'static ThisModule) -> Result<Arc<Self>> {
        let (logins, discoveries) = (Limits::logins()?, Discoveries::new()?);
        let memory = Budget::new()?;
        let cpus = CpuList::all()?;
        Arc::pin_init(
            pin_init!(Global {
                module,
                targets <- new_mutex!(KVec::new(), "iscsi::targets"),
                portals <- Portals::new(),
                logins,
                discoveries,
                memory,
                discovery <- Credentials::new(),
                enforce_discovery_auth: Setting::new(0),
                cpus <- new_mutex!(cpus, "iscsi::cpus"),
                cpus_said: Setting::new(0),
                next_target: Atomic::new(1),
                next_session: Atomic::new(1),
            }),
            GFP_KERNEL,
        )
    }

    /// Makes a target, which is not [shown](Self::add_target) yet.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new_target(self: &Arc<Self>, name: Name) -> Result<Arc<Target>> {
        Arc::pin_init(
            pin_init!(Target {
                global: self.clone(),
                name,
                index: self.next_target.fetch_add(1, Relaxed),
                groups <- new_mutex!(KVec::new(), "iscsi::Target::groups"),
                stats <- TargetStats::new(),
            }),
            GFP_KERNEL,
        )
    }

    /// Lets initiators find a target, until it is [removed](Self::remove_target).
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn add_target(&self, target: &Arc<Target>) -> Result {
        Ok(self.targets.lock().push(target.clone(), GFP_KERNEL)?)
    }

    pub(crate) fn remove_target(&self, target: &Target) {
        self.targets.lock().retain(|t| !core::ptr::eq(&**t, target));
    }

    /// The target with this name.
    pub(crate) fn target(&self, name: &[u8]) -> Option<Arc<Target>> {
        self.targets
            .lock()
            .iter()
            .find(|t| t.name.bytes() == name)
            .cloned()
    }

    /// The `i`-th target, in the order in which they were made.
    pub(crate) fn target_at(&self, i: usize) -> Option<Arc<Target>> {
        self.targets.lock().get(i).cloned()
    }

    /// A number for a session; it is the session's handle too, so never 0 in its lower 16 bits.
    pub(crate) fn session_number(&self) -> u32 {
        loop {
            let n = self.next_session.fetch_add(1, Relaxed);
            if n & 0xffff != 0 {
                return n;
            }
        }
    }
}

/// A target.
#[pin_data]
pub(crate) struct Target {
    pub(crate) global: Arc<Global>,
    pub(crate) name: Name,
    /// The instance's number in the MIB.
    pub(crate) index: u32,
    #[pin]
    groups: Mutex<KVec<Arc<Group>>>,
    #[pin]
    pub(crate) stats: TargetStats,
}

impl Target {
    pub(crate) fn add_group(&self, group: &Arc<Group>) -> Result {
        Ok(self.groups.lock().push(group.clone(), GFP_KERNEL)?)
    }

    pub(crate) fn remove_group(&self, group: &Group) {
        self.groups.lock().retain(|g| !core::ptr::eq(&**g, group));
    }

    /// The `i`-th group, in the order in which they were made.
    pub(crate) fn group_at(&self, i: usize) -> Option<Arc<Group>> {
        self.groups.lock().get(i).cloned()
    }

    /// Calls `f` with each group.
    pub(crate) fn each_group(&self, f: impl Fn(&Group)) {
        self.groups.lock().iter().for_each(|g| f(g));
    }

    /// The first group that `which` chooses.
    pub(crate) fn find_group(&self, which: impl Fn(&Group) -> bool) -> Option<Arc<Group>> {
        self.groups.lock().iter().find(|g| which(g)).cloned()
    }

    /// Gives a portal to a group. Of a target, a portal is in one group (RFC 7143, 4.4.1).
    ///
    /// # Errors
    /// `EEXIST`: it is in one already; `ENOMEM`.
    pub(crate) fn add_portal(&self, group: &Group, portal: &Arc<Portal>) -> Result {
        let groups = self.groups.lock();
        if groups.iter().any(|g| g.has_portal(portal)) {
            return Err(EEXIST);
        }
        Ok(group.portals.lock().push(portal.clone(), GFP_KERNEL)?)
    }

    /// Portals of all groups.
    pub(crate) fn portal_count(&self) -> usize {
        let groups = self.groups.lock();
        groups
            .iter()
            .fold(0, |n: usize, g| n.saturating_add(g.portals.lock().len()))
    }

    /// Sessions of all groups.
    pub(crate) fn session_count(&self) -> usize {
        let groups = self.groups.lock();
        groups
            .iter()
            .fold(0, |n: usize, g| n.saturating_add(g.session_count()))
    }
}
