// SPDX-License-Identifier: GPL-2.0

//! configfs directories as reference-counted nodes (Documentation/filesystems/configfs.rst).
//!
//! This is the unsafe half: it owns every `extern "C"` callback and every reference count. What trees are declared
//! with is the crate `lio_configfs`, which implements [`Directory`] once.
//!
//! A node is a `struct config_group`, the module that it belongs to, and a [`Directory`] that says what it does. Nodes
//! form trees: a [`Tree`] is a directory with its default groups, not visible yet. It is handed to configfs by
//! [`Directory::mkdir`] or [`Subsystem::register`], and taken apart by rmdir or by dropping the [`Subsystem`].
//!
//! # References
//! - configfs and the parent's list of default groups hold a node while it is in the tree; a [`Node`] holds it beyond
//!   that. What it does ([`Directory`], and all data in it) is dropped with the last reference, in process context
//!   with whatever locks the dropping code holds.
//! - What a directory keeps may keep nodes too, but must let go of those below it when they are removed, or neither is
//!   ever freed.
//! - A node holds its parent, so that paths and ancestors stay valid. A parent holds its default groups only until it
//!   is removed, so there is no cycle left then.
//! - A node made by mkdir pins its module until its last reference is gone, longer than configfs does (which lets go at
//!   rmdir). Nodes of the subsystem's own tree pin nothing, or the module could not be unloaded.
//!
//! # Locks that are held when [`Directory`] is called
//! | callback | `su_mutex` | the directory's inode | fragment |
//! | --- | --- | --- | --- |
//! | `mkdir` | yes | yes | |
//! | `rmdir`, `removed` | yes | yes, and the child's | |
//! | `link`, `unlink` | | yes | |
//! | `show`, `store` | | | for reading |
//!
//! `su_mutex` is one per subsystem: all mkdir and rmdir below /sys/kernel/config/target wait for each other. All
//! may sleep, load a module, and wait for I/O to drain. What they run must not make or remove directories of the
//! same subsystem (through user space too: a module that `mkdir` loads may register with the engine, but not
//! mkdir), nor call [`Node::depend`]. The fragment is shared by a made directory and all default groups below it: rmdir waits
//! for running `show` and `store` of all of them, and those that come later find ENOENT. So a store must
//! not wait for something that rmdir of the same directory has to do, nor for user space that reads a file beside it.

mod callbacks;
mod item_type;
mod node;
mod subsystem;

pub use item_type::MAX_ATTRS;
pub use node::{live_nodes, Node, OneLine, Path, Tree};
pub use subsystem::{Dependency, Subsystem};

use core::any::{Any, TypeId};
use kernel::prelude::*;

/// The most that one read of an attribute gives, in bytes (fs/configfs/file.c, `SIMPLE_ATTR_SIZE`).
pub const SHOW_MAX: usize = 4096;

/// The most that configfs hands over of one write, in bytes. It silently cuts a longer write there and gives the rest
/// as the next value, so that a value of this length may be the beginning of one.
pub const STORE_MAX: usize = SHOW_MAX - 1;

/// An attribute of a directory, as configfs has to know it.
#[derive(Clone, Copy)]
pub struct AttrDesc {
    /// File name.
    pub name: &'static CStr,
    /// Permission bits, such as `0o644`.
    pub mode: u16,
    /// Whether it can be read.
    pub show: bool,
    /// Whether it can be written.
    pub store: bool,
    /// Whether it is read by [`Directory::stream`], and may be longer than a page: a binary attribute of configfs.
    pub stream: bool,
}

/// What a directory does. See the [module](self) for the locks held around each call.
pub trait Directory: Send + Sync + 'static {
    /// The attribute with index `i`, `None` after the last. Asked when the directory is made.
    fn attr(&self, i: usize) -> Option<AttrDesc>;

    /// Writes the value of attribute `i` to `page` ([`SHOW_MAX`] bytes) and returns its length.
    ///
    /// # Errors
    /// What the reader gets.
    fn show(&self, node: &Node, i: usize, page: &mut [u8]) -> Result<usize>;

    /// Writes the text of attribute `i` to `out`, as far as there is room, and returns its length; without `out` that is the
    /// room that it would need now.
    ///
    /// # Errors
    /// What the reader gets.
    fn stream(&self, node: &Node, i: usize, out: Option<&mut [u8]>) -> Result<usize>;

    /// Takes `value`, the exact bytes that were written, for attribute `i`.
    ///
    /// # Errors
    /// What the writer gets.
    fn store(&self, node: &Node, i: usize, value: &[u8]) -> Result;

    /// Makes a directory. The tree's own name must be `name`: 1 to 255 bytes, any but `/`.
    ///
    /// # Errors
    /// What mkdir gets.
    fn mkdir(&self, node: &Node, name: &CStr) -> Result<Tree>;

    /// A directory that [`Directory::mkdir`] made is gone. It also comes when the directory could not be shown after all.
    fn rmdir(&self, node: &Node, child: &Node);

    /// The node is gone from the tree: called for its default groups first, then for itself, then
    /// [`Directory::rmdir`] of its parent. No show, store, mkdir, link runs or comes any more.
    fn removed(&self, node: &Node);

    /// A symbolic link to `target` is about to be made in the directory. Its name is not told, and one target may be
    /// linked more than once. `target` may be removed at the same time: then
    /// [`Directory::unlink`] follows at once. Otherwise `target` cannot be removed while the link is there.
    ///
    /// # Errors
    /// What symlink gets.
    fn link(&self, node: &Node, target: &Node) -> Result;

    /// A link that [`Directory::link`] let in is gone, or could not be made.
    fn unlink(&self, node: &Node, target: &Node);

    /// What the directory keeps of the type with this id, if it does.
    fn data(&self, id: TypeId) -> Option<&dyn Any>;

    /// The same, if that is what the directory itself stands for, and not what it is about.
    fn object(&self, id: TypeId) -> Option<&dyn Any>;
}
