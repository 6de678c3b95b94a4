// SPDX-License-Identifier: GPL-2.0

//! A configfs subsystem, /sys/kernel/config/lio_test, that does one of everything that the crate `lio_configfs` can do;
//! tests/vm/configfs plays with it.

#![deny(unsafe_code)]

use core::sync::atomic::{AtomicI64, Ordering::Relaxed};
use kernel::{
    module::this_module,
    new_mutex,
    prelude::*,
    sync::{Arc, Mutex},
    workqueue,
};
use lio_configfs::{attributes, Builder, Dependency, Dir, Node, Page, Subsystem, Tree};

module! {
    type: Test,
    name: "lio_configfs_test",
    authors: ["The lio-rs authors"],
    description: "Test of the configfs crate",
    license: "GPL",
}

const MODULE: &ThisModule = this_module::<Test>();

/// `Thing`s that have not been dropped.
static THINGS: AtomicI64 = AtomicI64::new(0);

#[pin_data]
struct Shared {
    #[pin]
    events: Mutex<KVec<u8>>,
    #[pin]
    held: Mutex<KVec<Node>>,
    #[pin]
    depended: Mutex<Option<Result<Dependency>>>,
    // The nodes of all things, by which `hold` and `depend` find them.
    #[pin]
    nodes: Mutex<KVec<Node>>,
}

impl Shared {
    fn event(&self, what: &str, node: &Node) {
        let mut events = self.events.lock();
        for s in [what, " ", node.name(), "\n"] {
            let _ = events.extend_from_slice(s.as_bytes(), GFP_KERNEL);
        }
    }

    fn find(&self, name: &str) -> Option<Node> {
        self.nodes.lock().iter().find(|n| n.name() == name).cloned()
    }
}

attributes! {
    /// The subsystem's own files.
    static ROOT: Shared = {
        ro "live" => |_, page| writeln!(page, "{} {}", lio_configfs::live_nodes(), THINGS.load(Relaxed));
        rw "events" => |s, page| { page.put(&s.events.lock()); Ok(()) }, |s, _| { s.events.lock().clear(); Ok(()) };
        wo "hold" => |s, value| {
            let node = s.find(value.str()?).ok_or_else(|| value.reject(ENOENT, fmt!("no such thing")))?;
            Ok(s.held.lock().push(node, GFP_KERNEL)?)
        };
        rw "held" => |s, page| {
            for node in s.held.lock().iter() {
                writeln!(page, "{}", kernel::prelude::fmt!("{}", node.path()))?;
            }
            Ok(())
        }, |s, _| { s.held.lock().clear(); Ok(()) };
    }
    static DEPEND: Shared2 = {
        rw "depend" => |s, page| match &*s.0.depended.lock() {
            None => writeln!(page, "none"),
            Some(Ok(d)) => writeln!(page, "{}", d.node().name()),
            Some(Err(e)) => writeln!(page, "{}", e.to_errno()),
        }, |s, value| {
            s.0.depended.lock().take();
            if let Some(node) = s.0.find(value.str()?) {
                let s = s.0.clone();
                workqueue::system().try_spawn(GFP_KERNEL, move || {
                    let d = node.depend();
                    *s.depended.lock() = Some(d);
                })?;
            }
            Ok(())
        };
    }
    static THING: Thing = {
        rw "blob" => |t, page| { page.put(&t.blob.lock()); Ok(()) }, |t, value| {
            let mut blob = t.blob.lock();
            blob.clear();
            Ok(blob.extend_from_slice(value.bytes(), GFP_KERNEL)?)
        };
        rw "number" => |t, page| writeln!(page, "{}", t.number.load(Relaxed)), |t, value| t.set(value.u32()?.into());
        wo "bool" => |t, value| t.set(value.bool()?.into());
        wo "i32" => |t, value| t.set(value.i32()?.into());
        wo "u64" => |t, value| t.set(i64::try_from(value.u64()?).unwrap_or(-1));
        wo "small" => |t, value| t.set(value.u32_in(1..=10)?.into());
        wo "text" => |t, value| { let s = value.str()?; t.set(s.len() as i64) };
        0o600 "secret" => |_, page| writeln!(page, "NULL"), |_, value| Err(value.reject(EOPNOTSUPP, fmt!("not yet")));
        0o400 "list" => show_list;
        ro "fails" => |_, _| Err(ENODEV);
        wo "slow" => |t, value| {
            t.set(0)?;
            kernel::time::delay::fsleep(kernel::time::Delta::from_millis(value.u32()?.into()));
            t.set(1)
        };
    }
    static OTHER: Other = {
        ro "other" => |o, page| writeln!(page, "{}", o.0);
    }
}

fn show_list(_: &Thing, page: &mut Page<'_>) -> Result {
    for i in 0..1000 {
        writeln!(page, "line {i}")?;
    }
    Ok(())
}

struct Shared2(Arc<Shared>);
struct Other(u32);

#[pin_data]
struct Thing {
    #[pin]
    blob: Mutex<KVec<u8>>,
    number: AtomicI64,
    links: AtomicI64,
    shared: Arc<Shared>,
    _counted: Counted,
}

/// One of [`THINGS`].
struct Counted(());

impl Counted {
    fn new() -> Self {
        THINGS.fetch_add(1, Relaxed);
        Counted(())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        THINGS.fetch_sub(1, Relaxed);
    }
}

impl Thing {
    fn new(shared: Arc<Shared>) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Thing {
                blob <- new_mutex!(KVec::new()),
                number: AtomicI64::new(0),
                links: AtomicI64::new(0),
                shared,
                _counted: Counted::new(),
            }),
            GFP_KERNEL,
        )
    }

    fn set(&self, n: i64) -> Result {
        self.number.store(n, Relaxed);
        Ok(())
    }
}

/// Where things are made.
struct Things(Arc<Shared>);

impl Dir for Things {
    fn mkdir(&self, dir: &Node, name: &str) -> Result<Tree> {
        match name {
            "refused" => return Err(dir.reject(EINVAL, fmt!("'{name}' is refused"))),
            "double" => {
                return Builder::new(MODULE, name)
                    .group(Builder::new(MODULE, "a"))
                    .group(Builder::new(MODULE, "a"))
                    .build()
            }
            "loads" => lio_glue::module::request(c"loop")?,
            _ => {}
        }
        let thing = Thing::new(self.0.clone())?;
        let tree = Builder::new(MODULE, if name == "misnamed" { "else" } else { name })
            .attrs(THING, thing.clone())
            .attrs(OTHER, Arc::new(Other(7), GFP_KERNEL)?)
            .dir(Item(thing.clone()))
            .group(
                Builder::new(MODULE, "sub")
                    .dir(Item(thing.clone()))
                    .group(
                        Builder::new(MODULE, "deep")
                            .attrs(OTHER, Arc::new(Other(8), GFP_KERNEL)?)
                            .dir(Item(thing.clone())),
                    )
                    .group(Builder::new(MODULE, "things").dir(Things(self.0.clone()))),
            )
            .group(Builder::new(MODULE, "links").dir(Links(thing)))
            .build()?;
        self.0.nodes.lock().push(tree.node(), GFP_KERNEL)?;
        Ok(tree)
    }

    fn rmdir(&self, _dir: &Node, child: &Node) {
        self.0.event("rmdir", child);
        self.0.nodes.lock().retain(|n| !n.is(child));
    }
}

/// A thing's own directories.
struct Item(Arc<Thing>);

impl Dir for Item {
    fn removed(&self, dir: &Node) {
        self.0.shared.event("removed", dir);
    }
}

/// Links to other things.
struct Links(Arc<Thing>);

impl Dir for Links {
    fn link(&self, dir: &Node, target: &Node) -> Result {
        let Some(thing) = target.data::<Thing>() else {
            return Err(dir.reject(EINVAL, fmt!("{} is not a thing", target.path())));
        };
        thing.links.fetch_add(1, Relaxed);
        self.0.shared.event("link", target);
        Ok(())
    }

    fn unlink(&self, _dir: &Node, target: &Node) {
        if let Some(thing) = target.data::<Thing>() {
            thing.links.fetch_sub(1, Relaxed);
        }
        self.0.shared.event("unlink", target);
    }
}

struct Test {
    shared: Arc<Shared>,
    subsystem: Option<Subsystem>,
}

impl kernel::Module for Test {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let shared = Arc::pin_init(
            pin_init!(Shared {
                events <- new_mutex!(KVec::new()),
                held <- new_mutex!(KVec::new()),
                depended <- new_mutex!(None),
                nodes <- new_mutex!(KVec::new()),
            }),
            GFP_KERNEL,
        )?;
        let subsystem = Builder::new(MODULE, "lio_test")
            .attrs(ROOT, shared.clone())
            .dir(Things(shared.clone()))
            .group(
                Builder::new(MODULE, "static")
                    .attrs(DEPEND, Arc::new(Shared2(shared.clone()), GFP_KERNEL)?)
                    .group(Builder::new(MODULE, "things").dir(Things(shared.clone()))),
            )
            .group(Builder::new(MODULE, "nolinks").dir(Links(Thing::new(shared.clone())?)))
            .register()?;
        Ok(Test {
            shared,
            subsystem: Some(subsystem),
        })
    }
}

impl Drop for Test {
    fn drop(&mut self) {
        self.subsystem.take();
        self.shared.held.lock().clear();
        self.shared.depended.lock().take();
        pr_info!(
            "left: {} nodes, {} things\n",
            lio_configfs::live_nodes(),
            THINGS.load(Relaxed)
        );
    }
}
