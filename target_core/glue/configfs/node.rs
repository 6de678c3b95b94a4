// SPDX-License-Identifier: GPL-2.0

//! Nodes, and trees of them.

use super::{item_type::TypeRef, Directory};
use crate::sys;
use core::{any::TypeId, mem::offset_of, mem::ManuallyDrop, ops::Deref, ptr::NonNull};
use kernel::{
    bindings,
    error::to_result,
    fmt,
    prelude::*,
    str::BStr,
    sync::{
        atomic::{Atomic, Full, Relaxed},
        Arc, SetOnce,
    },
    types::Opaque,
};

/// Nodes that exist, for leak checks.
static LIVE: Atomic<i64> = Atomic::new(0);

/// How many nodes exist at this moment, in all modules.
pub fn live_nodes() -> i64 {
    LIVE.load(Relaxed)
}

/// What a node has besides its group. Dropped in this order.
pub(super) struct Head {
    directory: KBox<dyn Directory>,
    _ty: TypeRef,
    // Set once when the node is put in a tree: the node holds its parent.
    pub(super) parent: SetOnce<Node>,
    pub(super) owner: &'static ThisModule,
    // Whether the node holds a reference to `owner`.
    pinned: Atomic<bool>,
    // Whether it was made by mkdir, so that rmdir can remove it.
    pub(super) made: Atomic<bool>,
    // Whether it is a `Root`.
    root: bool,
    // Of the subsystem's own directories: how many there are still.
    pub(super) own: SetOnce<Arc<Atomic<i64>>>,
}

/// A directory. [`Node`] points to it.
#[repr(C)]
pub(super) struct Inner {
    pub(super) head: Head,
    pub(super) group: Opaque<bindings::config_group>,
}

/// A subsystem's own directory. [`Node`] points to it as to an [`Inner`].
#[repr(C)]
pub(super) struct Root {
    head: Head,
    pub(super) subsys: Opaque<bindings::configfs_subsystem>,
    // Both change only with `su_mutex` held.
    pub(super) closing: Atomic<bool>,
    pub(super) made: Atomic<i64>,
}

// A root can be used as a node: its group is where a node's is.
static_assert!(offset_of!(Inner, group) == offset_of!(Root, subsys));
static_assert!(offset_of!(bindings::configfs_subsystem, su_group) == 0);
static_assert!(offset_of!(bindings::config_group, cg_item) == 0);

impl Root {
    /// # Safety
    /// `subsys` is that of a `Root`, alive for `'a`.
    pub(super) unsafe fn from_subsys<'a>(subsys: *mut bindings::configfs_subsystem) -> &'a Root {
        // SAFETY: the caller's promise; `Opaque` is transparent.
        unsafe { &*subsys.byte_sub(offset_of!(Root, subsys)).cast::<Root>() }
    }
}

/// A reference to a directory and all that belongs to it, in the tree or not.
///
/// # Invariants
/// Points to an [`Inner`] (perhaps that of a [`Root`]) with an initialised group, of which it holds a reference.
pub struct Node(NonNull<Inner>);

// SAFETY: a node is only reached through shared references; its parts are `Sync`, and configfs has locks of its own.
unsafe impl Send for Node {}
// SAFETY: as above.
unsafe impl Sync for Node {}

/// A node that somebody else holds a reference of; see [`Node::borrow_item`].
pub(super) struct Borrowed(ManuallyDrop<Node>);

impl Deref for Borrowed {
    type Target = Node;
    fn deref(&self) -> &Node {
        &self.0
    }
}

impl Node {
    pub(super) fn inner(&self) -> &Inner {
        // SAFETY: alive by the invariant.
        unsafe { self.0.as_ref() }
    }

    pub(super) fn group(&self) -> *mut bindings::config_group {
        self.inner().group.get()
    }

    pub(super) fn item(&self) -> *mut bindings::config_item {
        self.group().cast()
    }

    pub(super) fn directory(&self) -> &dyn Directory {
        &*self.inner().head.directory
    }

    /// # Safety
    /// `item` is a node's; the result is not used after the item's last reference is gone.
    pub(super) unsafe fn borrow_item(item: *mut bindings::config_item) -> Borrowed {
        // SAFETY: every node's item is at this offset in an `Inner`.
        let inner = unsafe { item.byte_sub(offset_of!(Inner, group)).cast::<Inner>() };
        // SAFETY: not null, since it points into an object. INVARIANT: the reference is somebody else's, and not dropped.
        Borrowed(ManuallyDrop::new(Node(unsafe {
            NonNull::new_unchecked(inner)
        })))
    }

    /// The directory's name.
    pub fn name(&self) -> &str {
        // SAFETY: the name is set before the node can be seen, never changed, and freed with the last reference.
        let name = unsafe { CStr::from_char_ptr((*self.item()).ci_name) };
        name.to_str().unwrap_or_default() // It was made from a `str`.
    }

    /// The directory that it is in, or was in if it is removed. `None` for a subsystem, and for what was never shown.
    pub fn parent(&self) -> Option<&Node> {
        self.inner().head.parent.as_ref()
    }

    /// Its path for log messages, such as `target/iscsi`. Bytes that are not printable ASCII are escaped.
    pub fn path(&self) -> Path<'_> {
        Path(self)
    }

    /// Logs one line with the path and the reason, and returns `error`.
    pub fn reject(&self, error: Error, reason: fmt::Arguments<'_>) -> Error {
        let path = self.path();
        pr_err!(
            "{}: {}\n",
            OneLine::object(fmt!("{}", path)),
            OneLine::reason(reason)
        );
        error
    }

    /// What the directory, or the section of its attributes with that type, keeps. `None` if there is no `Arc<T>` there.
    pub fn data<T: ?Sized + 'static>(&self) -> Option<Arc<T>> {
        self.directory()
            .data(TypeId::of::<Arc<T>>())?
            .downcast_ref::<Arc<T>>()
            .cloned()
    }

    /// The object that the directory stands for, if it is a `T`: directories below it do not have it.
    pub fn object<T: 'static>(&self) -> Option<Arc<T>> {
        self.directory()
            .object(TypeId::of::<Arc<T>>())?
            .downcast_ref::<Arc<T>>()
            .cloned()
    }

    /// Whether both are the same directory.
    pub fn is(&self, other: &Node) -> bool {
        self.0 == other.0
    }

    /// The directory made by mkdir that it belongs to, itself perhaps.
    pub(super) fn made(&self) -> Option<&Node> {
        let mut node = self;
        while !node.inner().head.made.load(Relaxed) {
            node = node.parent()?;
        }
        Some(node)
    }

    /// The subsystem that it is under.
    pub(super) fn root(&self) -> Option<&Root> {
        let mut node = self;
        while let Some(parent) = node.parent() {
            node = parent;
        }
        if !node.inner().head.root {
            return None;
        }
        // SAFETY: `root` says that it is a `Root`, and the chain of parents keeps it alive as long as `self`.
        Some(unsafe { node.0.cast::<Root>().as_ref() })
    }

    /// Calls `f` for each default group.
    ///
    /// # Safety
    /// The list of default groups does not change during the call.
    unsafe fn for_each_default(&self, mut f: impl FnMut(&Node) -> Result) -> Result {
        let mut child = core::ptr::null_mut();
        loop {
            // SAFETY: the group is initialised, and `child` is on its list.
            child = unsafe { sys::lio_configfs_next_default(self.group(), child) };
            if child.is_null() {
                return Ok(());
            }
            // SAFETY: default groups are nodes, and the list holds them.
            let child = unsafe { Node::borrow_item(child.cast()) };
            f(&child)?;
        }
    }

    /// Has the node, and all below, counted by `own` until they are freed.
    ///
    /// # Safety
    /// As for [`Node::for_each_default`], all the way down.
    pub(super) unsafe fn count_by(&self, own: &Arc<Atomic<i64>>) {
        if self.inner().head.own.populate(own.clone()) {
            own.fetch_add(1, Full);
        }
        // SAFETY: the caller's promise.
        let _ = unsafe {
            self.for_each_default(|child| {
                child.count_by(own);
                Ok(())
            })
        };
    }

    /// Tells the default groups and then the node itself that they are removed.
    ///
    /// # Safety
    /// As for [`Node::for_each_default`], all the way down.
    pub(super) unsafe fn notify_removed(&self) {
        // SAFETY: the caller's promise.
        let _ = unsafe {
            self.for_each_default(|child| {
                child.notify_removed();
                Ok(())
            })
        };
        self.directory().removed(self);
    }

    /// Has the node, and all below whose module is another one, pin their modules.
    ///
    /// # Safety
    /// As for [`Node::for_each_default`], all the way down.
    pub(super) unsafe fn pin_modules(&self, above: Option<&'static ThisModule>) -> Result {
        let head = &self.inner().head;
        let owner = head.owner;
        // A default group keeps what is above it, and so the pin of that.
        if above.is_none_or(|above| above.as_ptr() != owner.as_ptr()) {
            // SAFETY: `owner` is null or a module, and alive: this runs in it, or in what depends on it.
            if !unsafe { bindings::try_module_get(owner.as_ptr()) } {
                return Err(ENODEV);
            }
            head.pinned.store(true, Relaxed);
        }
        // SAFETY: the caller's promise.
        unsafe { self.for_each_default(|child| child.pin_modules(Some(owner))) }
    }

    /// Lets go of all default groups, which breaks the cycle between them and their parents.
    ///
    /// # Safety
    /// Nobody else uses the lists of default groups, at any depth, now or later.
    pub(super) unsafe fn take_apart(&self) {
        loop {
            // SAFETY: the group is initialised.
            let child = unsafe { sys::lio_configfs_pop_default(self.group()) };
            if child.is_null() {
                return;
            }
            // INVARIANT: the list's reference is ours now.
            // SAFETY: default groups are nodes; `borrow_item` gives the node, whose reference we own.
            let child = ManuallyDrop::into_inner(unsafe { Node::borrow_item(child.cast()) }.0);
            // SAFETY: the caller's promise.
            unsafe { child.take_apart() };
        }
    }

    /// Frees the node: configfs calls it when the last reference is gone.
    ///
    /// # Safety
    /// `item` is a node's, and nobody uses it any more.
    pub(super) unsafe fn release(item: *mut bindings::config_item) {
        // SAFETY: the caller's promise.
        let node = unsafe { Node::borrow_item(item) };
        let head = &node.inner().head;
        let owner = head.pinned.load(Relaxed).then_some(head.owner);
        let own = head.own.as_ref().cloned();
        let inner = node.0 .0;
        if head.root {
            // SAFETY: it was made as a `KBox<Root>`, and is not used any more.
            drop(unsafe { KBox::from_raw(inner.cast::<Root>().as_ptr()) });
        } else {
            // SAFETY: as above, as a `KBox<Inner>`.
            drop(unsafe { KBox::from_raw(inner.as_ptr()) });
        }
        let _ = LIVE.fetch_sub(1, Relaxed);
        if let Some(own) = own {
            own.fetch_sub(1, Full);
        }
        if let Some(owner) = owner {
            // Only now: all that was dropped may be the module's code.
            // SAFETY: the reference was taken by `pin_modules`.
            unsafe { bindings::module_put(owner.as_ptr()) };
        }
    }
}

impl Clone for Node {
    fn clone(&self) -> Self {
        // SAFETY: `self` holds a reference.
        unsafe { bindings::config_item_get(self.item()) };
        // INVARIANT: just taken.
        Node(self.0)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // SAFETY: `self` holds a reference, and gives it up.
        unsafe { bindings::config_item_put(self.item()) };
    }
}

/// Part of a log message that has in it what user space chose: control characters are escaped, and what is too long is cut,
/// so that the message stays one line with an end.
pub struct OneLine<'a>(fmt::Arguments<'a>, usize);

impl<'a> OneLine<'a> {
    /// The object. Together with a reason it fits into a record of the log, which has 1024 bytes.
    pub fn object(path: fmt::Arguments<'a>) -> Self {
        OneLine(path, 640)
    }

    /// The reason.
    pub fn reason(reason: fmt::Arguments<'a>) -> Self {
        OneLine(reason, 256)
    }
}

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Escape<'a, 'b>(&'a mut fmt::Formatter<'b>, usize);

        impl core::fmt::Write for Escape<'_, '_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                for c in text.chars() {
                    let escaped = c.escape_default();
                    let bytes = if c.is_control() {
                        escaped.len()
                    } else {
                        c.len_utf8()
                    };
                    self.1 = match self.1.checked_sub(bytes) {
                        Some(left) => left,
                        None => {
                            self.0.write_str("...")?;
                            // Ends the writing: there is no more.
                            return Err(fmt::Error);
                        }
                    };
                    if c.is_control() {
                        escaped.into_iter().try_for_each(|c| self.0.write_char(c))?;
                    } else {
                        self.0.write_char(c)?;
                    }
                }
                Ok(())
            }
        }

        let _ = core::fmt::write(&mut Escape(f, self.1), self.0);
        Ok(())
    }
}

/// A node's path; see [`Node::path`].
pub struct Path<'a>(&'a Node);

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.0.parent() {
            fmt::Display::fmt(&parent.path(), f)?;
            f.write_str("/")?;
        }
        fmt::Display::fmt(BStr::from_bytes(self.0.name().as_bytes()), f)
    }
}

/// A directory with its default groups that is not in configfs yet, or not any more.
///
/// # Invariants
/// Nobody but the owner of the tree uses the lists of default groups in it.
pub struct Tree(Node);

impl Tree {
    /// A directory of module `owner`, with `children` as its default groups.
    ///
    /// `owner` is the module that depends on all others whose code or data `directory` refers to.
    ///
    /// # Errors
    /// EINVAL for a bad name; ENAMETOOLONG; EEXIST for two entries of one name; E2BIG above [`super::MAX_ATTRS`]
    /// attributes; ENOMEM.
    pub fn new(
        owner: &'static ThisModule,
        name: &str,
        directory: KBox<dyn Directory>,
        children: KVec<Tree>,
    ) -> Result<Self> {
        Self::make(owner, name, directory, children, false)
    }

    pub(super) fn new_root(
        owner: &'static ThisModule,
        name: &str,
        directory: KBox<dyn Directory>,
        children: KVec<Tree>,
    ) -> Result<Self> {
        Self::make(owner, name, directory, children, true)
    }

    fn make(
        owner: &'static ThisModule,
        name: &str,
        directory: KBox<dyn Directory>,
        children: KVec<Tree>,
        root: bool,
    ) -> Result<Self> {
        check_name(name)?;
        for (i, child) in children.iter().enumerate() {
            // Attributes are up to MAX_ATTRS, children a few.
            let name = child.0.name();
            let attrs = (0..).map_while(|i| directory.attr(i));
            if children.iter().take(i).any(|c| c.0.name() == name)
                || attrs
                    .take(super::MAX_ATTRS)
                    .any(|a| a.name.to_bytes() == name.as_bytes())
            {
                return Err(EEXIST);
            }
        }
        let ty = TypeRef::get(owner, &*directory)?;
        let type_ptr = ty.as_ptr();
        let head = Head {
            directory,
            _ty: ty,
            parent: SetOnce::new(),
            owner,
            pinned: Atomic::new(false),
            made: Atomic::new(false),
            root,
            own: SetOnce::new(),
        };
        // In both cases the object is leaked here and freed by `release` when its first reference, the tree's, goes.
        // Until the group is initialised a failure frees it by itself.
        let inner = if root {
            let root = KBox::new(
                Root {
                    head,
                    subsys: Opaque::uninit(),
                    closing: Atomic::new(false),
                    made: Atomic::new(0),
                },
                GFP_KERNEL,
            )?;
            // SAFETY: it is exclusively ours, and the mutex may be initialised before the group.
            unsafe { sys::lio_configfs_subsystem_init(root.subsys.get()) };
            init_group(root.subsys.get().cast(), name, type_ptr)?;
            NonNull::from(KBox::leak(root)).cast::<Inner>()
        } else {
            let inner = KBox::new(
                Inner {
                    head,
                    group: Opaque::uninit(),
                },
                GFP_KERNEL,
            )?;
            init_group(inner.group.get(), name, type_ptr)?;
            NonNull::from(KBox::leak(inner))
        };
        let _ = LIVE.fetch_add(1, Relaxed);
        // INVARIANT: initialised, and it starts with one reference.
        let tree = Tree(Node(inner));
        for child in children {
            let child = child.into_node();
            // A tree is added once, since it is consumed; so this is its first parent.
            child.inner().head.parent.populate(tree.0.clone());
            // The list takes over the reference.
            let child = ManuallyDrop::new(child);
            // SAFETY: both groups are initialised, and the child is on no list.
            unsafe { sys::lio_configfs_add_default(tree.0.group(), child.group()) };
        }
        Ok(tree)
    }

    /// The tree's directory, to be kept.
    pub fn node(&self) -> Node {
        self.0.clone()
    }

    pub(super) fn borrow(&self) -> &Node {
        &self.0
    }

    /// The tree's own reference; its default groups must be let go of by [`Node::take_apart`].
    pub(super) fn into_node(self) -> Node {
        let tree = ManuallyDrop::new(self);
        // SAFETY: `tree` is not used or dropped any more.
        unsafe { core::ptr::read(&tree.0) }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // SAFETY: by the invariant the lists are ours alone.
        unsafe { self.0.take_apart() };
    }
}

/// Initialises a group inside a node that nobody else can see.
fn init_group(
    group: *mut bindings::config_group,
    name: &str,
    ty: *const bindings::config_item_type,
) -> Result {
    let len = c_int::try_from(name.len())?;
    // SAFETY: the callers pass memory for a group that is theirs alone, `name` has `len` bytes, and `ty` lives as long
    // as the node.
    to_result(unsafe { sys::lio_configfs_group_init(group, name.as_ptr().cast(), len, ty) })
}

/// configfs takes any name; the VFS could not look these up.
fn check_name(name: &str) -> Result {
    if name.len() > 255 {
        return Err(ENAMETOOLONG);
    }
    if name.is_empty() || name == "." || name == ".." || name.contains(['\0', '/']) {
        return Err(EINVAL);
    }
    Ok(())
}
