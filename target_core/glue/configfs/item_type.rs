// SPDX-License-Identifier: GPL-2.0

//! Item types: the attributes of a directory in the form that configfs takes.
//!
//! A type is built when its first directory is made, shared by all directories with the same attributes and module,
//! and freed with the last of them. configfs does not tell `show` and `store` which attribute they are called for,
//! so there is one pair of functions for each index.

use super::{callbacks, AttrDesc, Directory, Node, SHOW_MAX};
use crate::sys;
use core::{cell::UnsafeCell, ptr::NonNull};
use kernel::{bindings, prelude::*};

/// The most attributes that one directory can have.
pub const MAX_ATTRS: usize = 96;

type Show = unsafe extern "C" fn(*mut bindings::config_item, *mut c_char) -> isize;
type Store = unsafe extern "C" fn(*mut bindings::config_item, *const c_char, usize) -> isize;

/// # Safety
/// configfs calls it with an item of a node, in the tree for the duration of the call, and a page.
unsafe extern "C" fn show<const I: usize>(
    item: *mut bindings::config_item,
    page: *mut c_char,
) -> isize {
    // SAFETY: the item is one of ours, since its type is, and is held by configfs.
    let node = unsafe { Node::borrow_item(item) };
    let page = page.cast::<u8>();
    // SAFETY: configfs gives a page that nobody else uses during the call; a file that was written first has one that is not zeroed.
    let page = unsafe {
        page.write_bytes(0, SHOW_MAX);
        core::slice::from_raw_parts_mut(page, SHOW_MAX)
    };
    match node.directory().show(&node, I, page) {
        Ok(len) => len.min(SHOW_MAX) as isize,
        Err(e) => e.to_errno() as isize,
    }
}

/// # Safety
/// configfs calls it with an item of a node, in the tree for the duration of the call, and `len` initialised bytes.
unsafe extern "C" fn store<const I: usize>(
    item: *mut bindings::config_item,
    page: *const c_char,
    len: usize,
) -> isize {
    // SAFETY: as in `show`.
    let node = unsafe { Node::borrow_item(item) };
    // SAFETY: configfs gives `len` bytes that nobody writes during the call.
    let value = unsafe { core::slice::from_raw_parts(page.cast::<u8>(), len) };
    match node.directory().store(&node, I, value) {
        Ok(()) => len as isize,
        Err(e) => e.to_errno() as isize,
    }
}

/// The longest text of a binary attribute, in bytes.
const STREAM_MAX: usize = 16 << 20;

/// # Safety
/// configfs calls it with an item of a node, in the tree for the duration of the call; with a null pointer for the length, and
/// then with memory for what was returned.
unsafe extern "C" fn stream<const I: usize>(
    item: *mut bindings::config_item,
    to: *mut c_void,
    len: usize,
) -> isize {
    // SAFETY: as in `show`.
    let node = unsafe { Node::borrow_item(item) };
    let out = if to.is_null() {
        None
    } else {
        // What there is between the end of the text and the end of the memory is shown, too: the text may be shorter than it was
        // when its length was asked for.
        // SAFETY: configfs gives `len` bytes that nobody else uses during the call; they are initialised first.
        Some(unsafe {
            core::ptr::write_bytes(to.cast::<u8>(), b'\n', len);
            core::slice::from_raw_parts_mut(to.cast::<u8>(), len)
        })
    };
    match node.directory().stream(&node, I, out) {
        Ok(len) => len.min(STREAM_MAX) as isize,
        Err(e) => e.to_errno() as isize,
    }
}

type Stream = unsafe extern "C" fn(*mut bindings::config_item, *mut c_void, usize) -> isize;

macro_rules! table {
    ($f:ident: $($i:literal)*) => { [$($f::<$i>),*] };
}
macro_rules! tables {
    ($($i:tt)*) => {
        static SHOW: [Show; MAX_ATTRS] = table!(show: $($i)*);
        static STORE: [Store; MAX_ATTRS] = table!(store: $($i)*);
        static STREAM: [Stream; MAX_ATTRS] = table!(stream: $($i)*);
    };
}
#[rustfmt::skip]
tables!(
     0  1  2  3  4  5  6  7  8  9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31
    32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63
    64 65 66 67 68 69 70 71 72 73 74 75 76 77 78 79 80 81 82 83 84 85 86 87 88 89 90 91 92 93 94 95
);

struct ItemType {
    // What configfs sees; it points into the vectors, which are never changed once built.
    item_type: bindings::config_item_type,
    descs: KVec<AttrDesc>,
    _attrs: KVec<bindings::configfs_attribute>,
    _pointers: KVec<*mut bindings::configfs_attribute>,
    _streams: KVec<bindings::configfs_bin_attribute>,
    _stream_pointers: KVec<*mut bindings::configfs_bin_attribute>,
    // Nodes of this type; changed under the registry's lock only.
    users: usize,
}

// The pointers that configfs wants: one to each element, and a null pointer; none at all if there are no elements.
fn pointers<T>(of: &mut KVec<T>) -> Result<KVec<*mut T>> {
    let mut all = KVec::new();
    if !of.is_empty() {
        all.reserve(of.len() + 1, GFP_KERNEL)?;
        for x in of.iter_mut() {
            all.push(core::ptr::from_mut(x), GFP_KERNEL)?;
        }
        all.push(core::ptr::null_mut(), GFP_KERNEL)?;
    }
    Ok(all)
}

fn start<T>(of: &mut KVec<*mut T>) -> *mut *mut T {
    if of.is_empty() {
        core::ptr::null_mut()
    } else {
        of.as_mut_ptr()
    }
}

impl ItemType {
    /// Whether it is the type of `directory`. Names are compared by address: equal contents in another module would
    /// not live as long.
    fn is_of(&self, owner: *mut bindings::module, directory: &dyn Directory) -> bool {
        self.item_type.ct_owner == owner
            && self.descs.iter().enumerate().all(|(i, a)| {
                directory.attr(i).is_some_and(|d| {
                    core::ptr::eq(a.name, d.name)
                        && a.mode == d.mode
                        && a.show == d.show
                        && a.store == d.store
                        && a.stream == d.stream
                })
            })
            && directory.attr(self.descs.len()).is_none()
    }

    fn build(owner: *mut bindings::module, directory: &dyn Directory) -> Result<KBox<Self>> {
        let mut descs: KVec<AttrDesc> = KVec::new();
        let (mut attrs, mut streams) = (KVec::new(), KVec::new());
        for i in 0.. {
            let Some(desc) = directory.attr(i) else {
                break;
            };
            let (Some(show_fn), Some(store_fn), Some(stream_fn)) =
                (SHOW.get(i), STORE.get(i), STREAM.get(i))
            else {
                return Err(E2BIG);
            };
            if descs.iter().any(|d| d.name == desc.name) {
                return Err(EEXIST);
            }
            let attr = bindings::configfs_attribute {
                ca_name: desc.name.as_char_ptr(),
                ca_owner: owner,
                ca_mode: desc.mode & 0o777,
                show: desc.show.then_some(*show_fn),
                store: desc.store.then_some(*store_fn),
            };
            if desc.stream {
                streams.push(
                    bindings::configfs_bin_attribute {
                        cb_attr: attr,
                        cb_private: core::ptr::null_mut(),
                        cb_max_size: STREAM_MAX,
                        read: Some(*stream_fn),
                        write: None,
                    },
                    GFP_KERNEL,
                )?;
            } else {
                attrs.push(attr, GFP_KERNEL)?;
            }
            descs.push(desc, GFP_KERNEL)?;
        }
        let mut attr_pointers = pointers(&mut attrs)?;
        let mut stream_pointers = pointers(&mut streams)?;
        let item_type = bindings::config_item_type {
            ct_owner: owner,
            ct_item_ops: callbacks::item_ops(),
            ct_group_ops: callbacks::group_ops(),
            ct_attrs: start(&mut attr_pointers),
            ct_bin_attrs: start(&mut stream_pointers),
        };
        Ok(KBox::new(
            ItemType {
                item_type,
                descs,
                _attrs: attrs,
                _pointers: attr_pointers,
                _streams: streams,
                _stream_pointers: stream_pointers,
                users: 1,
            },
            GFP_KERNEL,
        )?)
    }
}

/// All types that are in use.
struct Registry(UnsafeCell<KVec<NonNull<ItemType>>>);

// SAFETY: the contents are only reached with the lock of `Registry::with` held.
unsafe impl Sync for Registry {}

static TYPES: Registry = Registry(UnsafeCell::new(KVec::new()));

impl Registry {
    fn with<R>(&self, f: impl FnOnce(&mut KVec<NonNull<ItemType>>) -> R) -> R {
        // SAFETY: no preconditions; unlocked below. `f` comes from this file alone and does not call `with` again.
        unsafe { sys::lio_configfs_types_lock() };
        // SAFETY: the lock is held, and every access is made here.
        let ret = f(unsafe { &mut *self.0.get() });
        // SAFETY: locked above.
        unsafe { sys::lio_configfs_types_unlock() };
        ret
    }
}

/// A node's share of an item type.
///
/// # Invariants
/// The type is in [`TYPES`] and counts this user.
pub(super) struct TypeRef(NonNull<ItemType>);

// SAFETY: the type is immutable but for `users`, which is only touched under the registry's lock.
unsafe impl Send for TypeRef {}
// SAFETY: as above.
unsafe impl Sync for TypeRef {}

impl TypeRef {
    /// The type of `directory` in a module, made if there is none yet.
    pub(super) fn get(owner: &'static ThisModule, directory: &dyn Directory) -> Result<Self> {
        let owner = owner.as_ptr();
        TYPES.with(|types| {
            for ty in types.iter() {
                // SAFETY: what is in the registry is alive, and the lock makes the access exclusive as far as
                // `users` goes; configfs only reads the rest.
                if unsafe { ty.as_ref() }.is_of(owner, directory) {
                    // SAFETY: as above.
                    unsafe { (*ty.as_ptr()).users += 1 };
                    // INVARIANT: just counted.
                    return Ok(TypeRef(*ty));
                }
            }
            // In this order: an empty registry that keeps memory would keep it for ever.
            let ty = ItemType::build(owner, directory)?;
            types.reserve(1, GFP_KERNEL)?;
            let ty = NonNull::from(KBox::leak(ty));
            types.push(ty, GFP_KERNEL)?; // Cannot fail: there is room.
                                         // INVARIANT: `users` starts at 1.
            Ok(TypeRef(ty))
        })
    }

    pub(super) fn as_ptr(&self) -> *const bindings::config_item_type {
        // SAFETY: the type is alive as long as `self`; no reference is made.
        unsafe { &raw const (*self.0.as_ptr()).item_type }
    }
}

impl Drop for TypeRef {
    fn drop(&mut self) {
        let dead = TYPES.with(|types| {
            // SAFETY: alive by the invariant, and the lock is held.
            let users = unsafe { &mut (*self.0.as_ptr()).users };
            *users -= 1;
            if *users != 0 {
                return false;
            }
            types.retain(|ty| *ty != self.0);
            if types.is_empty() {
                // A static is not dropped when the module goes: leave it without memory.
                *types = KVec::new();
            }
            true
        });
        if dead {
            // SAFETY: it came from `KBox::leak`, and the registry and all users have let go of it.
            drop(unsafe { KBox::from_raw(self.0.as_ptr()) });
        }
    }
}
