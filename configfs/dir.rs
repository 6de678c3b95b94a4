// SPDX-License-Identifier: GPL-2.0

//! Directories: what they do, and how they are put together.

use crate::{
    attr::{Acting, Attr, Of, Section},
    Lines,
};
use core::any::{Any, TypeId};
use kernel::{prelude::*, sync::Arc};
use lio_glue::configfs::{AttrDesc, Directory, Node, Subsystem, Tree};

/// What a directory does when user space makes or removes something in it. By default it refuses (EPERM).
///
/// `dir` is the directory itself. See [`lio_glue::configfs`] for the locks held, and what may be done under them.
pub trait Dir: Send + Sync {
    /// mkdir: makes the directory `name`, 1 to 255 bytes of UTF-8, any but `/` and NUL; it is not taken.
    /// The tree must have that name. What is recorded for it in `self` is taken back by [`Dir::rmdir`], which comes
    /// once for each success, also if the directory cannot be shown in the end.
    ///
    /// # Errors
    /// What user space gets; say the reason with [`Node::reject`].
    fn mkdir(&self, dir: &Node, name: &str) -> Result<Tree> {
        nothing_is_made(dir, name)
    }

    /// The directory `child`, from [`Dir::mkdir`], has been removed. That cannot be refused: see [`Node::depend`].
    fn rmdir(&self, dir: &Node, child: &Node) {
        let _ = (dir, child);
    }

    /// The directory itself has been removed: comes for default groups first, and then for what they are in.
    fn removed(&self, dir: &Node) {
        let _ = dir;
    }

    /// symlink: `target` is linked here; its name is not known. The same target may be linked again: refuse it if that makes no
    /// sense, as [`Dir::unlink`] could not tell the links apart.
    ///
    /// While the link is there `target` cannot be removed. But it may just be going away during the call: then its `removed` has
    /// come or comes, and [`Dir::unlink`] follows.
    ///
    /// # Errors
    /// What user space gets.
    fn link(&self, dir: &Node, target: &Node) -> Result {
        nothing_is_linked(dir, target)
    }

    /// A link that [`Dir::link`] let in has been removed, or could not be made.
    fn unlink(&self, dir: &Node, target: &Node) {
        let _ = (dir, target);
    }
}

fn nothing_is_made(dir: &Node, name: &str) -> Result<Tree> {
    Err(dir.reject(EPERM, fmt!("'{name}': no directory is made here")))
}

fn nothing_is_linked(dir: &Node, target: &Node) -> Result {
    Err(dir.reject(EPERM, fmt!("'{}': nothing is linked here", target.path())))
}

impl<D: Dir + ?Sized> Dir for Arc<D> {
    fn mkdir(&self, dir: &Node, name: &str) -> Result<Tree> {
        (**self).mkdir(dir, name)
    }
    fn rmdir(&self, dir: &Node, child: &Node) {
        (**self).rmdir(dir, child)
    }
    fn removed(&self, dir: &Node) {
        (**self).removed(dir)
    }
    fn link(&self, dir: &Node, target: &Node) -> Result {
        (**self).link(dir, target)
    }
    fn unlink(&self, dir: &Node, target: &Node) {
        (**self).unlink(dir, target)
    }
}

/// What a directory is made of.
pub(crate) trait Parts: Send + Sync + 'static {
    /// The section that attribute `i` is in, and its index there.
    fn find(&self, i: usize) -> Option<(&dyn Section, usize)>;
    /// What it does.
    fn dir(&self) -> Option<&dyn Dir>;
    /// The data of that type.
    fn data(&self, id: TypeId) -> Option<&dyn Any>;
    /// The same, if it is the object that the directory stands for.
    fn object(&self, id: TypeId) -> Option<&dyn Any>;
}

fn of_type(data: &dyn Any, id: TypeId) -> Option<&dyn Any> {
    (data.type_id() == id).then_some(data)
}

/// Nothing at all.
struct Bare;

impl Parts for Bare {
    fn find(&self, _: usize) -> Option<(&dyn Section, usize)> {
        None
    }
    fn dir(&self) -> Option<&dyn Dir> {
        None
    }
    fn data(&self, _: TypeId) -> Option<&dyn Any> {
        None
    }
    fn object(&self, _: TypeId) -> Option<&dyn Any> {
        None
    }
}

/// One section, as most have: there are many directories, and this has no memory but the section's.
impl<S: Section + 'static> Parts for S {
    fn find(&self, i: usize) -> Option<(&dyn Section, usize)> {
        Some((self, i))
    }
    fn dir(&self) -> Option<&dyn Dir> {
        self.acts()
    }
    fn data(&self, id: TypeId) -> Option<&dyn Any> {
        of_type(Section::data(self), id)
    }
    fn object(&self, id: TypeId) -> Option<&dyn Any> {
        self.acts()?;
        of_type(Section::data(self), id)
    }
}

/// Anything.
struct Content {
    sections: KVec<KBox<dyn Section>>,
    dir: Option<KBox<dyn Dir>>,
}

impl Parts for Content {
    fn find(&self, mut i: usize) -> Option<(&dyn Section, usize)> {
        for section in &self.sections {
            match i.checked_sub(section.len()) {
                Some(rest) => i = rest,
                None => return Some((&**section, i)),
            }
        }
        None
    }

    fn dir(&self) -> Option<&dyn Dir> {
        match &self.dir {
            Some(dir) => Some(&**dir),
            None => self.sections.iter().find_map(|s| s.acts()),
        }
    }

    fn data(&self, id: TypeId) -> Option<&dyn Any> {
        self.sections.iter().find_map(|s| of_type(s.data(), id))
    }

    fn object(&self, id: TypeId) -> Option<&dyn Any> {
        let mut objects = self.sections.iter().filter(|s| s.acts().is_some());
        objects.find_map(|s| of_type(s.data(), id))
    }
}

impl Content {
    fn directory(mut self) -> Result<KBox<dyn Directory>> {
        if self.dir.is_none() && self.sections.len() <= 1 {
            return match self.sections.pop() {
                Some(section) => section.alone(),
                None => Ok(KBox::new(Whole(Bare), GFP_KERNEL)?),
            };
        }
        Ok(KBox::new(Whole(self), GFP_KERNEL)?)
    }
}

/// A directory of these parts.
pub(crate) struct Whole<P>(pub(crate) P);

impl<P: Parts> Directory for Whole<P> {
    fn attr(&self, i: usize) -> Option<AttrDesc> {
        let (section, i) = self.0.find(i)?;
        section.desc(i)
    }

    fn show(&self, _node: &Node, i: usize, page: &mut [u8]) -> Result<usize> {
        let (section, i) = self.0.find(i).ok_or(EIO)?;
        section.show(i, page)
    }

    fn stream(&self, _node: &Node, i: usize, out: Option<&mut [u8]>) -> Result<usize> {
        let (section, i) = self.0.find(i).ok_or(EIO)?;
        let mut lines = Lines::new(out);
        section.list(i, &mut lines)?;
        Ok(lines.len())
    }

    fn store(&self, node: &Node, i: usize, value: &[u8]) -> Result {
        let (section, i) = self.0.find(i).ok_or(EIO)?;
        section.store(node, i, value)
    }

    fn mkdir(&self, node: &Node, name: &CStr) -> Result<Tree> {
        let Ok(utf8) = name.to_str() else {
            return Err(node.reject(EINVAL, fmt!("'{name}' is not UTF-8")));
        };
        match self.0.dir() {
            Some(dir) => dir.mkdir(node, utf8),
            None => nothing_is_made(node, utf8),
        }
    }

    fn rmdir(&self, node: &Node, child: &Node) {
        if let Some(dir) = self.0.dir() {
            dir.rmdir(node, child);
        }
    }

    fn removed(&self, node: &Node) {
        if let Some(dir) = self.0.dir() {
            dir.removed(node);
        }
    }

    fn link(&self, node: &Node, target: &Node) -> Result {
        match self.0.dir() {
            Some(dir) => dir.link(node, target),
            None => nothing_is_linked(node, target),
        }
    }

    fn unlink(&self, node: &Node, target: &Node) {
        if let Some(dir) = self.0.dir() {
            dir.unlink(node, target);
        }
    }

    fn data(&self, id: TypeId) -> Option<&dyn Any> {
        self.0.data(id)
    }

    fn object(&self, id: TypeId) -> Option<&dyn Any> {
        self.0.object(id)
    }
}

/// Puts a directory together. What goes wrong on the way comes out of [`Builder::build`] or [`Builder::register`].
#[must_use]
pub struct Builder<'a> {
    owner: &'static ThisModule,
    name: &'a str,
    content: Content,
    children: KVec<Tree>,
    error: Option<Error>,
}

impl<'a> Builder<'a> {
    /// A directory without attributes in which nothing can be made.
    ///
    /// `owner` is pinned as long as a made directory exists. Of several modules whose code and data are in the
    /// directory it is the one that depends on the others: the fabric's or back end's, not the engine's.
    pub fn new(owner: &'static ThisModule, name: &'a str) -> Self {
        Self {
            owner,
            name,
            content: Content {
                sections: KVec::new(),
                dir: None,
            },
            children: KVec::new(),
            error: None,
        }
    }

    fn attempt(mut self, f: impl FnOnce(&mut Self) -> Result) -> Self {
        if self.error.is_none() {
            self.error = f(&mut self).err();
        }
        self
    }

    /// Adds the files of `table`, which are about `data`. May be called for several tables; [`Node::data`] finds the data
    /// of each, the first one of a type.
    pub fn attrs<T>(self, table: &'static [Attr<T>], data: Arc<T>) -> Self
    where
        T: ?Sized + Send + Sync + 'static,
    {
        self.attempt(|b| {
            let section = KBox::new(Of { table, data }, GFP_KERNEL)?;
            Ok(b.content
                .sections
                .push(section as KBox<dyn Section>, GFP_KERNEL)?)
        })
    }

    /// The directory stands for `object`: the files of `table` are about it, it does what there is to do, and
    /// [`Node::object`] finds it. This is smaller than [`Builder::attrs`] with [`Builder::dir`].
    pub fn object<T: Dir + 'static>(self, table: &'static [Attr<T>], object: Arc<T>) -> Self {
        self.attempt(|b| {
            let of = Of {
                table,
                data: object,
            };
            let section = KBox::new(Acting(of), GFP_KERNEL)?;
            Ok(b.content
                .sections
                .push(section as KBox<dyn Section>, GFP_KERNEL)?)
        })
    }

    /// Keeps `data` with the directory, for [`Node::data`].
    pub fn data<T: ?Sized + Send + Sync + 'static>(self, data: Arc<T>) -> Self {
        self.attrs(&[], data)
    }

    /// What the directory does.
    pub fn dir<D: Dir + 'static>(self, dir: D) -> Self {
        self.attempt(|b| {
            b.content.dir = Some(KBox::new(dir, GFP_KERNEL)? as KBox<dyn Dir>);
            Ok(())
        })
    }

    /// Adds a default group.
    pub fn group(self, child: Builder<'_>) -> Self {
        self.attempt(|b| Ok(b.children.push(child.build()?, GFP_KERNEL)?))
    }

    /// Adds default groups, any number of them; an [`Option`] will do.
    pub fn groups<'b>(mut self, children: impl IntoIterator<Item = Builder<'b>>) -> Self {
        for child in children {
            self = self.group(child);
        }
        self
    }

    /// Adds a default group that has been built already, by a fabric for instance.
    pub fn tree(self, child: Tree) -> Self {
        self.attempt(|b| Ok(b.children.push(child, GFP_KERNEL)?))
    }

    /// Makes the directory, for [`Dir::mkdir`] to return. [`Tree::node`] gives a reference to keep.
    ///
    /// # Errors
    /// As [`Tree::new`].
    pub fn build(self) -> Result<Tree> {
        match self.error {
            Some(e) => Err(e),
            None => Tree::new(
                self.owner,
                self.name,
                self.content.directory()?,
                self.children,
            ),
        }
    }

    /// Shows the directory as /sys/kernel/config/NAME.
    ///
    /// # Errors
    /// As [`Subsystem::register`].
    pub fn register(self) -> Result<Subsystem> {
        match self.error {
            Some(e) => Err(e),
            None => Subsystem::register(
                self.owner,
                self.name,
                self.content.directory()?,
                self.children,
            ),
        }
    }
}
