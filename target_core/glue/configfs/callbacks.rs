// SPDX-License-Identifier: GPL-2.0

//! What configfs calls for directories and links; attributes are in `item_type`.

use super::{
    node::{Borrowed, Root},
    Node, Tree,
};
use crate::sys;
use kernel::{bindings, error::from_result, prelude::*, sync::atomic::Relaxed};

struct ItemOps(bindings::configfs_item_operations);
// SAFETY: never written, and holds function pointers only.
unsafe impl Sync for ItemOps {}

struct GroupOps(bindings::configfs_group_operations);
// SAFETY: as above.
unsafe impl Sync for GroupOps {}

/// The operations of all nodes: an item is a node if and only if its type has these.
static ITEM_OPS: ItemOps = ItemOps(bindings::configfs_item_operations {
    release: Some(release),
    allow_link: Some(allow_link),
    drop_link: Some(drop_link),
});

static GROUP_OPS: GroupOps = GroupOps(bindings::configfs_group_operations {
    make_item: None,
    make_group: Some(make_group),
    disconnect_notify: None,
    drop_item: Some(drop_item),
    is_visible: None,
    is_bin_visible: None,
});

pub(super) fn item_ops() -> *const bindings::configfs_item_operations {
    &ITEM_OPS.0
}

pub(super) fn group_ops() -> *const bindings::configfs_group_operations {
    &GROUP_OPS.0
}

/// The node of an item that may be another subsystem's.
///
/// # Safety
/// `item` is alive as long as the result is used.
unsafe fn checked_node(item: *mut bindings::config_item) -> Result<Borrowed> {
    // SAFETY: items and their types are alive together.
    let ops = unsafe { (*item).ci_type.as_ref() }.map(|ty| ty.ct_item_ops);
    if ops != Some(item_ops()) {
        return Err(EINVAL);
    }
    // SAFETY: only nodes have a type with these operations.
    Ok(unsafe { Node::borrow_item(item) })
}

/// # Safety
/// configfs calls it when the last reference to a node is gone.
unsafe extern "C" fn release(item: *mut bindings::config_item) {
    // SAFETY: the caller's promise.
    unsafe { Node::release(item) };
}

/// # Safety
/// configfs calls it for a node's group in the tree, with `su_mutex` and the directory's inode locked.
unsafe extern "C" fn make_group(
    parent: *mut bindings::config_group,
    name: *const c_char,
) -> *mut bindings::config_group {
    // SAFETY: the group is a node's, since its type is, and is held by configfs.
    let dir = unsafe { Node::borrow_item(parent.cast()) };
    // SAFETY: the subsystem of a node in the tree is that of a `Root`, which is alive while the node is in the tree.
    let root = unsafe { Root::from_subsys((*parent).cg_subsys) };
    if root.closing.load(Relaxed) {
        return ENODEV.to_ptr();
    }
    // SAFETY: configfs gives a C string that lives as long as the call.
    let name = unsafe { CStr::from_char_ptr(name) };
    let tree = match dir.directory().mkdir(&dir, name) {
        Ok(tree) => tree,
        Err(e) => return e.to_ptr(),
    };
    match prepare(&dir, &tree, name) {
        Ok(()) => {
            root.made.add(1, Relaxed);
            // configfs has the tree's reference now, and `drop_item` takes it back.
            core::mem::ManuallyDrop::new(tree.into_node()).group()
        }
        Err(e) => {
            // SAFETY: configfs has not seen the tree.
            unsafe { tree.borrow().notify_removed() };
            dir.directory().rmdir(&dir, tree.borrow());
            e.to_ptr()
        }
    }
}

/// Makes a tree ready for being shown in `dir`.
fn prepare(dir: &Node, tree: &Tree, name: &CStr) -> Result {
    let node = tree.borrow();
    if node.name().as_bytes() != name.to_bytes() {
        return Err(EINVAL);
    }
    // SAFETY: nobody else uses the tree's lists yet.
    unsafe { node.pin_modules(None) }?;
    let head = &node.inner().head;
    head.parent.populate(dir.clone());
    head.made.store(true, Relaxed);
    Ok(())
}

/// # Safety
/// configfs calls it once for each group that `make_group` returned, when it has been taken out of the tree, with
/// `su_mutex` locked; the reference that `make_group` gave is the callee's.
unsafe extern "C" fn drop_item(
    parent: *mut bindings::config_group,
    item: *mut bindings::config_item,
) {
    // SAFETY: the group is a node's, since its type is, and is held by configfs.
    let dir = unsafe { Node::borrow_item(parent.cast()) };
    // SAFETY: a child of a node is one, and its first reference is ours.
    let child = unsafe { Node::borrow_item(item) };
    // SAFETY: configfs does not use the default groups of what it has taken out of the tree.
    unsafe { child.notify_removed() };
    dir.directory().rmdir(&dir, &child);
    // SAFETY: as in `make_group`: the parent is still in the tree.
    unsafe { Root::from_subsys((*parent).cg_subsys) }
        .made
        .add(-1, Relaxed);
    // SAFETY: as above.
    unsafe { child.take_apart() };
    // SAFETY: the reference is ours; configfs holds another one for the duration of the call.
    unsafe { bindings::config_item_put(item) };
}

/// # Safety
/// configfs calls it for a node with its inode locked, and with a live item of any subsystem.
unsafe extern "C" fn allow_link(
    src: *mut bindings::config_item,
    target: *mut bindings::config_item,
) -> c_int {
    from_result(|| {
        // SAFETY: `src` is a node, since its type is ours, and is held by configfs.
        let dir = unsafe { Node::borrow_item(src) };
        // configfs unlocks the inode to look up the target, and does not look again when it has locked it.
        // SAFETY: the caller holds the directory's dentry and has its inode locked.
        if unsafe { sys::lio_configfs_dead(src) } {
            return Err(ENOENT);
        }
        // SAFETY: configfs holds the target during the call.
        let target = unsafe { checked_node(target) }
            .map_err(|e| dir.reject(e, fmt!("what is to be linked is no directory of ours")))?;
        // Links pin nothing: they may only be where a made directory pins the module.
        if dir.made().is_none() {
            return Err(dir.reject(EPERM, fmt!("'{}': nothing is linked here", target.path())));
        }
        dir.directory().link(&dir, &target)?;
        Ok(0)
    })
}

/// # Safety
/// configfs calls it for each successful `allow_link`, with both items alive.
unsafe extern "C" fn drop_link(
    src: *mut bindings::config_item,
    target: *mut bindings::config_item,
) {
    // SAFETY: as in `allow_link`.
    let dir = unsafe { Node::borrow_item(src) };
    // SAFETY: as in `allow_link`, which has let in nodes only.
    if let Ok(target) = unsafe { checked_node(target) } {
        dir.directory().unlink(&dir, &target);
    }
}
