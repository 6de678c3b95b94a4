// SPDX-License-Identifier: GPL-2.0

//! What waits for commands in the background. It begins and ends in workers, but none of them waits: one looks after all that do. So
//! an initiator whose functions wait, however many they are, keeps those of others from nothing.

use super::{wake, PATIENCE_MS};
use crate::waiters;
use kernel::{
    impl_has_work, new_spinlock, new_work,
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Relaxed, Release},
        Arc, SpinLock,
    },
    workqueue::{Work, WorkItem},
};
use lio_glue::{clock, noio, workqueue::Workqueue};

const PATIENCE_NS: u64 = PATIENCE_MS as u64 * 1_000_000;

/// What is done in the background, with waits in between.
pub(super) trait Job: Send + 'static {
    /// Begins, or goes on after a wait; `in_time`: [`Self::is_over`] held before [`PATIENCE_MS`] were over. Whether it has to wait now. Process
    /// context.
    fn go_on(&mut self, in_time: bool) -> bool;

    /// Whether the wait is over; when that may have changed there is a [`wake`]. Must not sleep.
    fn is_over(&mut self) -> bool;
}

/// A [`Job`], in the work queue or among those that wait.
#[pin_data]
struct Item {
    #[pin]
    work: Work<Item>,
    job: KBox<dyn Job>,
    in_time: bool,
    // When, in nanoseconds, it waits no longer.
    end: u64,
    next: Next,
}

// Those that wait, linked.
type Next = Option<Pin<KBox<Item>>>;

impl_has_work! {
    impl HasWork<Self> for Item { self.work }
}

/// Has `job` done.
///
/// # Errors
/// `ENOMEM`: it is dropped.
pub(super) fn spawn<T: Job>(job: T) -> Result {
    enqueue(KBox::new(job, GFP_KERNEL)?)
}

// Once for all: in generic code, which each fabric's module has for itself, the work would have as many lock classes of one name.
#[inline(never)]
fn enqueue(job: KBox<dyn Job>) -> Result {
    let engine = crate::engine()?;
    let item = KBox::pin_init(
        pin_init!(Item {
            work <- new_work!("tmf::Item::work"),
            job,
            in_time: true,
            end: 0,
            next: None,
        }),
        GFP_KERNEL,
    )?;
    engine.management().enqueue(item);
    Ok(())
}

impl WorkItem for Item {
    type Pointer = Pin<KBox<Self>>;

    fn run(mut this: Pin<KBox<Self>>) {
        let me = this.as_mut().project();
        let in_time = *me.in_time;
        // It allocates with locks held that commands may take, and whoever writes to free memory waits for commands.
        if noio::scope(|| me.job.go_on(in_time)) {
            *me.end = clock::now_ns().saturating_add(PATIENCE_NS);
            // What waits keeps the engine.
            if let Ok(engine) = crate::engine() {
                engine.pending().wait(this, engine.patient());
            }
        }
    }
}

impl Item {
    fn is_over(self: Pin<&mut Self>) -> bool {
        self.project().job.is_over()
    }

    fn next(self: Pin<&mut Self>) -> &mut Next {
        self.project().next
    }

    fn go_on(mut self: Pin<KBox<Self>>, in_time: bool, queue: &Workqueue) {
        *self.as_mut().project().in_time = in_time;
        queue.enqueue(self);
    }
}

/// Those that wait, and who looks after them.
#[pin_data]
pub(crate) struct Pending {
    // Those that have come since they were looked for, the newest first.
    #[pin]
    new: SpinLock<Next>,
    // Whether there are some.
    has_new: Atomic<u32>,
    #[pin]
    work: Work<Pending>,
}

impl_has_work! {
    impl HasWork<Self> for Pending { self.work }
}

impl Pending {
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Pending {
                new <- new_spinlock!(None, "tmf::Pending::new"),
                has_new: Atomic::new(0),
                work <- new_work!("tmf::Pending::work"),
            }),
            GFP_KERNEL,
        )
    }

    fn wait(self: &Arc<Self>, mut item: Pin<KBox<Item>>, queue: &Workqueue) {
        {
            let mut new = self.new.lock();
            *item.as_mut().next() = new.take();
            *new = Some(item);
        }
        self.has_new.store(1, Release);
        // One that is at work finds it, or is at work once more.
        let _ = queue.enqueue(self.clone());
        wake();
    }

    fn look_after(&self, queue: &Workqueue) {
        let mut all: Next = None;
        loop {
            self.has_new.store(0, Relaxed);
            let mut new = self.new.lock().take();
            while let Some(mut item) = new {
                new = core::mem::replace(item.as_mut().next(), all.take());
                all = Some(item);
            }
            let Some(end) = soonest(&mut all) else {
                return;
            };
            let left = end.saturating_sub(clock::now_ns()).div_ceil(1_000_000);
            waiters(|w| {
                w.wait_until(u32::try_from(left).unwrap_or(PATIENCE_MS), || {
                    self.has_new.load(Acquire) != 0 || is_one_over(&mut all)
                })
            });
            let now = clock::now_ns();
            let mut kept: Next = None;
            while let Some(mut item) = all {
                all = item.as_mut().next().take();
                let in_time = item.as_mut().is_over();
                if in_time || item.end <= now {
                    item.go_on(in_time, queue);
                } else {
                    *item.as_mut().next() = kept;
                    kept = Some(item);
                }
            }
            all = kept;
        }
    }
}

fn soonest(all: &mut Next) -> Option<u64> {
    let (mut at, mut soonest) = (all.as_mut(), None);
    while let Some(item) = at {
        let end = item.end;
        soonest = Some(soonest.map_or(end, |s: u64| s.min(end)));
        at = item.as_mut().next().as_mut();
    }
    soonest
}

fn is_one_over(all: &mut Next) -> bool {
    let mut at = all.as_mut();
    while let Some(item) = at {
        if item.as_mut().is_over() {
            return true;
        }
        at = item.as_mut().next().as_mut();
    }
    false
}

impl WorkItem for Pending {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        if let Ok(engine) = crate::engine() {
            this.look_after(engine.management());
        }
    }
}
