// SPDX-License-Identifier: GPL-2.0

//! Attributes: the files of a directory.

use crate::{dir::Whole, Dir, Lines, Value};
use core::any::Any;
use core::fmt;
use kernel::{prelude::*, sync::Arc};
use lio_glue::configfs::{AttrDesc, Directory, Node, STORE_MAX};

/// A file of a directory that keeps a `T`. See [`attributes!`](crate::attributes).
pub struct Attr<T: ?Sized> {
    name: &'static CStr,
    mode: u16,
    show: Option<fn(&T, &mut Page<'_>) -> Result>,
    store: Option<fn(&T, &Value<'_>) -> Result>,
    list: Option<fn(&T, &mut Lines<'_>) -> Result>,
}

impl<T: ?Sized> Attr<T> {
    /// A file that can be read: 0444.
    pub const fn ro(name: &'static CStr, show: fn(&T, &mut Page<'_>) -> Result) -> Self {
        Self {
            name,
            mode: 0o444,
            show: Some(show),
            store: None,
            list: None,
        }
    }

    /// A file that can be read and written: 0644.
    pub const fn rw(
        name: &'static CStr,
        show: fn(&T, &mut Page<'_>) -> Result,
        store: fn(&T, &Value<'_>) -> Result,
    ) -> Self {
        Self {
            name,
            mode: 0o644,
            show: Some(show),
            store: Some(store),
            list: None,
        }
    }

    /// A file that can be written: 0200.
    pub const fn wo(name: &'static CStr, store: fn(&T, &Value<'_>) -> Result) -> Self {
        Self {
            name,
            mode: 0o200,
            show: None,
            store: Some(store),
            list: None,
        }
    }

    /// A file of any number of lines that can be read: 0444. See [`Lines`].
    pub const fn list(name: &'static CStr, list: fn(&T, &mut Lines<'_>) -> Result) -> Self {
        Self {
            name,
            mode: 0o444,
            show: None,
            store: None,
            list: Some(list),
        }
    }

    /// The same with other permission bits.
    pub const fn mode(self, mode: u16) -> Self {
        Self { mode, ..self }
    }
}

/// Declares a table of attributes: a `static NAME: &[Attr<T>]`.
///
/// Each line is a kind, `ro` (0444), `rw` (0644), `wo` (0200) or the permission bits, the file's name, and the
/// functions: `fn(&T, &mut Page<'_>) -> Result` to show it, `fn(&T, &Value<'_>) -> Result` to store it; closures that
/// capture nothing will do. With permission bits the second function may be left out. `list` (0444) has one function
/// `fn(&T, &mut Lines<'_>) -> Result`.
#[macro_export]
macro_rules! attributes {
    ($($(#[$meta:meta])* $vis:vis static $table:ident: $t:ty = { $($body:tt)* })*) => {
        $($(#[$meta])* $vis static $table: &[$crate::Attr<$t>] = $crate::attributes!(@table [] $($body)*);)*
    };
    (@table [$($done:tt)*]) => { &[$($done)*] };
    (@table [$($done:tt)*] ro $name:literal => $show:expr; $($rest:tt)*) => {
        $crate::attributes!(@table [$($done)* $crate::Attr::ro(::kernel::c_str!($name), $show),] $($rest)*)
    };
    (@table [$($done:tt)*] rw $name:literal => $show:expr, $store:expr; $($rest:tt)*) => {
        $crate::attributes!(@table [$($done)* $crate::Attr::rw(::kernel::c_str!($name), $show, $store),] $($rest)*)
    };
    (@table [$($done:tt)*] wo $name:literal => $store:expr; $($rest:tt)*) => {
        $crate::attributes!(@table [$($done)* $crate::Attr::wo(::kernel::c_str!($name), $store),] $($rest)*)
    };
    (@table [$($done:tt)*] list $name:literal => $list:expr; $($rest:tt)*) => {
        $crate::attributes!(@table [$($done)* $crate::Attr::list(::kernel::c_str!($name), $list),] $($rest)*)
    };
    (@table [$($done:tt)*] $mode:literal $name:literal => $show:expr; $($rest:tt)*) => {
        $crate::attributes!(@table [$($done)* $crate::Attr::ro(::kernel::c_str!($name), $show).mode($mode),] $($rest)*)
    };
    (@table [$($done:tt)*] $mode:literal $name:literal => $show:expr, $store:expr; $($rest:tt)*) => {
        $crate::attributes!(
            @table [$($done)* $crate::Attr::rw(::kernel::c_str!($name), $show, $store).mode($mode),] $($rest)*
        )
    };
}

/// What a reader gets: at most 4096 bytes.
///
/// `writeln!(page, "{}", value)` gives a [`Result`] that a show function can return. What does not fit whole is left
/// out, and so is all that comes after it: a list is cut between two calls of it.
pub struct Page<'a> {
    bytes: &'a mut [u8],
    len: usize,
    full: bool,
}

impl<'a> Page<'a> {
    fn new(bytes: &'a mut [u8]) -> Self {
        Self {
            bytes,
            len: 0,
            full: false,
        }
    }

    /// Appends formatted text, all of it or nothing.
    ///
    /// # Errors
    /// EIO if a value's own formatting fails. A full page is no error.
    pub fn write_fmt(&mut self, args: fmt::Arguments<'_>) -> Result {
        let start = self.len;
        let ret = fmt::write(self, args);
        if self.full {
            self.len = start;
            return Ok(());
        }
        ret.map_err(|_| EIO)
    }

    /// Appends bytes as they are, all of them or nothing.
    pub fn put(&mut self, bytes: &[u8]) {
        let end = self.len.saturating_add(bytes.len());
        match self.bytes.get_mut(self.len..end) {
            Some(to) if !self.full => {
                to.copy_from_slice(bytes);
                self.len = end;
            }
            _ => self.full = true,
        }
    }

    /// Whether something did not fit, so that more need not be tried.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl fmt::Write for Page<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.put(s.as_bytes());
        if self.full {
            Err(fmt::Error)
        } else {
            Ok(())
        }
    }
}

/// Attributes of one kind, with their data.
pub(crate) trait Section: Send + Sync {
    /// How many there are.
    fn len(&self) -> usize;
    /// The one with index `i`.
    fn desc(&self, i: usize) -> Option<AttrDesc>;
    /// Shows the one with index `i`.
    fn show(&self, i: usize, page: &mut [u8]) -> Result<usize>;
    /// Writes the lines of the one with index `i`.
    fn list(&self, i: usize, lines: &mut Lines<'_>) -> Result;
    /// Stores the one with index `i`.
    fn store(&self, node: &Node, i: usize, value: &[u8]) -> Result;
    /// The `Arc` of the data.
    fn data(&self) -> &dyn Any;
    /// What the directory does, if the data knows.
    fn acts(&self) -> Option<&dyn Dir> {
        None
    }
    /// A directory that has this section alone.
    fn alone(self: KBox<Self>) -> Result<KBox<dyn Directory>>;
}

pub(crate) struct Of<T: ?Sized + 'static> {
    pub(crate) table: &'static [Attr<T>],
    pub(crate) data: Arc<T>,
}

impl<T: ?Sized + Send + Sync + 'static> Section for Of<T> {
    fn len(&self) -> usize {
        self.table.len()
    }

    fn desc(&self, i: usize) -> Option<AttrDesc> {
        let a = self.table.get(i)?;
        Some(AttrDesc {
            name: a.name,
            mode: a.mode,
            show: a.show.is_some(),
            store: a.store.is_some(),
            stream: a.list.is_some(),
        })
    }

    fn show(&self, i: usize, page: &mut [u8]) -> Result<usize> {
        let show = self.table.get(i).and_then(|a| a.show).ok_or(EACCES)?;
        let mut page = Page::new(page);
        show(&self.data, &mut page)?;
        Ok(page.len)
    }

    fn list(&self, i: usize, lines: &mut Lines<'_>) -> Result {
        let list = self.table.get(i).and_then(|a| a.list).ok_or(EACCES)?;
        list(&self.data, lines)
    }

    fn store(&self, node: &Node, i: usize, value: &[u8]) -> Result {
        let attr = self.table.get(i).ok_or(EACCES)?;
        let store = attr.store.ok_or(EACCES)?;
        let value = Value::new(value, node, attr.name);
        if value.bytes().len() >= STORE_MAX {
            // It may be cut, and the rest would come as a value of its own.
            return Err(value.reject(
                EFBIG,
                fmt!("a value must be shorter than {STORE_MAX} bytes"),
            ));
        }
        store(&self.data, &value)
    }

    fn data(&self) -> &dyn Any {
        &self.data
    }

    fn alone(self: KBox<Self>) -> Result<KBox<dyn Directory>> {
        Ok(KBox::new(Whole(KBox::into_inner(self)), GFP_KERNEL)?)
    }
}

/// Attributes of the object that the directory stands for.
pub(crate) struct Acting<T: 'static>(pub(crate) Of<T>);

impl<T: Dir + 'static> Section for Acting<T> {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn desc(&self, i: usize) -> Option<AttrDesc> {
        self.0.desc(i)
    }
    fn show(&self, i: usize, page: &mut [u8]) -> Result<usize> {
        self.0.show(i, page)
    }
    fn list(&self, i: usize, lines: &mut Lines<'_>) -> Result {
        self.0.list(i, lines)
    }
    fn store(&self, node: &Node, i: usize, value: &[u8]) -> Result {
        self.0.store(node, i, value)
    }
    fn data(&self) -> &dyn Any {
        &self.0.data
    }
    fn acts(&self) -> Option<&dyn Dir> {
        Some(&self.0.data)
    }
    fn alone(self: KBox<Self>) -> Result<KBox<dyn Directory>> {
        Ok(KBox::new(Whole(KBox::into_inner(self)), GFP_KERNEL)?)
    }
}
