// SPDX-License-Identifier: GPL-2.0

//! Subsystems (directories of /sys/kernel/config), and dependencies on directories.

use super::{node::Root, Directory, Node, Tree};
use crate::sys;
use kernel::{
    bindings,
    error::to_result,
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Relaxed},
        Arc,
    },
    time::{delay::fsleep, Delta},
};

/// A registered subsystem, such as `target`.
///
/// Keep it in the module's data, and register it as the last thing that `init` does. Dropping it unregisters it, and
/// waits until no made directory is in it. When the module is unloaded, there is none, since each pins the module. Its own pin
/// nothing: it waits for these, too, as who makes a link, to be refused, holds one while a path is looked up, for however long. What
/// comes after it in the module's data has to [`settle`](crate::module::settle).
pub struct Subsystem {
    tree: Tree,
    // After that.
    _own: Own,
}

/// How many of its own directories there are.
struct Own(Arc<Atomic<i64>>);

impl Drop for Own {
    fn drop(&mut self) {
        while self.0.load(Acquire) != 0 {
            fsleep(Delta::from_millis(10));
        }
    }
}

impl Subsystem {
    /// Shows a directory with its default groups in /sys/kernel/config.
    ///
    /// # Errors
    /// As [`Tree::new`]; EEXIST if there is a subsystem of that name.
    pub fn register(
        owner: &'static ThisModule,
        name: &str,
        directory: KBox<dyn Directory>,
        children: KVec<Tree>,
    ) -> Result<Self> {
        let tree = Tree::new_root(owner, name, directory, children)?;
        let Some(root) = tree.borrow().root() else {
            return Err(EINVAL);
        };
        let own = Arc::new(Atomic::new(0), GFP_KERNEL)?;
        // SAFETY: nobody else has the tree yet.
        unsafe { tree.borrow().count_by(&own) };
        // SAFETY: the subsystem is initialised, not registered, and lives until it is unregistered by `drop`.
        to_result(unsafe { bindings::configfs_register_subsystem(root.subsys.get()) })?;
        Ok(Subsystem {
            tree,
            _own: Own(own),
        })
    }

    /// Its directory.
    pub fn node(&self) -> Node {
        self.tree.node()
    }
}

impl Drop for Subsystem {
    fn drop(&mut self) {
        let Some(root) = self.tree.borrow().root() else {
            return;
        };
        let subsys = root.subsys.get();
        let mut told = false;
        loop {
            // SAFETY: the subsystem is alive.
            unsafe { sys::lio_configfs_subsystem_lock(subsys) };
            // From now on `make_group` fails, so that the count only goes down.
            root.closing.store(true, Relaxed);
            let made = root.made.load(Relaxed);
            // SAFETY: locked above.
            unsafe { sys::lio_configfs_subsystem_unlock(subsys) };
            if made == 0 {
                break;
            }
            if !told {
                pr_err!(
                    "{}: waiting until its {} directories are removed\n",
                    self.tree.borrow().path(),
                    made
                );
                told = true;
            }
            fsleep(Delta::from_millis(100));
        }
        // SAFETY: it is registered, and has no directories but its own.
        unsafe { bindings::configfs_unregister_subsystem(subsys) };
        // SAFETY: configfs does not use the tree any more.
        unsafe { self.tree.borrow().notify_removed() };
    }
}

/// Keeps a directory from being removed: rmdir gets EBUSY.
///
/// # Invariants
/// The node was made by mkdir, and `configfs_depend_item` has been called for it.
pub struct Dependency(Node);

impl Node {
    /// Keeps the directory, or the made directory that it belongs to, from being removed.
    ///
    /// Takes time in proportion to the number of all directories of the subsystem, under a spin lock: not for each
    /// command, nor for each session. Process context; never called inside of a callback of configfs
    /// (it locks the root of the file system).
    ///
    /// # Errors
    /// ENOENT if it is not shown yet, or is being removed; EINVAL for what cannot be removed by rmdir at all.
    pub fn depend(&self) -> Result<Dependency> {
        let made = self.made().ok_or(EINVAL)?;
        let root: &Root = made.root().ok_or(ENOENT)?;
        // SAFETY: both are alive; configfs looks for the item in the tree before it touches it.
        to_result(unsafe { bindings::configfs_depend_item(root.subsys.get(), made.item()) })?;
        // INVARIANT: as required. The directory is in the tree until this is dropped, and so is the subsystem, which
        // waits for all made directories.
        Ok(Dependency(made.clone()))
    }
}

impl Dependency {
    /// The directory that is kept.
    pub fn node(&self) -> &Node {
        &self.0
    }
}

impl Drop for Dependency {
    fn drop(&mut self) {
        // SAFETY: by the invariant the directory is in the tree, and has a dependent.
        unsafe { bindings::configfs_undepend_item(self.0.item()) };
    }
}
