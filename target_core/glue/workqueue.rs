// SPDX-License-Identifier: GPL-2.0

//! Work queues of our own. Those for I/O have a rescuer, so that work is done under memory pressure too.

use crate::{lock_class::one_class, sys};
use core::ptr::NonNull;
use kernel::{
    bindings, impl_has_work,
    prelude::*,
    str::CStr,
    workqueue::{Queue, RawWorkItem, Work, WorkItem},
};

/// A work queue. Dropping it waits for its work, so it must not be dropped by an item of its own.
///
/// # Invariants
/// The pointer is a work queue that this owns.
pub struct Workqueue(NonNull<bindings::workqueue_struct>);

// SAFETY: A work queue may be used from any thread.
unsafe impl Send for Workqueue {}
// SAFETY: As above.
unsafe impl Sync for Workqueue {}

impl Workqueue {
    /// A queue whose items run on any CPU, at most `max_active` at once (0: the kernel's default). May sleep.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn unbound(name: &CStr, max_active: u32) -> Result<Self> {
        Self::make(name, false, true, max_active)
    }

    /// A queue whose items run on the CPU that enqueued them, at most `max_active` at once on each (0: the kernel's
    /// default). May sleep.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn percpu(name: &CStr, max_active: u32) -> Result<Self> {
        Self::make(name, true, true, max_active)
    }

    /// As [`unbound`](Self::unbound), without a rescuer: for what no I/O waits for, and what waits for queues that have
    /// none, as removing a device does. A queue with a rescuer may not wait for those. May sleep.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn without_rescuer(name: &CStr, max_active: u32) -> Result<Self> {
        Self::make(name, false, false, max_active)
    }

    fn make(name: &CStr, percpu: bool, rescuer: bool, max_active: u32) -> Result<Self> {
        // SAFETY: `name` is a C string, which is copied.
        let ptr =
            unsafe { sys::lio_workqueue_alloc(name.as_char_ptr(), percpu, rescuer, max_active) };
        // INVARIANT: just made.
        Ok(Workqueue(NonNull::new(ptr).ok_or(ENOMEM)?))
    }

    /// Enqueues `work`, as [`Queue::enqueue`] does. Any context.
    // The kernel's own `Queue` is not handed out: a delayed item's timer could outlive this queue.
    pub fn enqueue<W, const ID: u64>(&self, work: W) -> W::EnqueueOutput
    where
        W: RawWorkItem<ID> + Send + 'static,
    {
        // SAFETY: By the invariant it is a work queue that lives as long as `self`; dropping it runs what is enqueued.
        unsafe { Queue::from_raw(self.0.as_ptr()) }.enqueue(work)
    }

    /// Has `func` called on the queue. May sleep.
    ///
    /// # Errors
    /// `ENOMEM`; `func` will not be called.
    pub fn spawn<T: FnOnce() + Send + 'static>(&self, func: T) -> Result {
        let (name, class) = one_class!("Workqueue::spawn");
        let closure = KBox::pin_init(
            pin_init!(Closure {
                work <- Work::new(name, class),
                func: Some(func),
            }),
            GFP_KERNEL,
        )?;
        self.enqueue(closure);
        Ok(())
    }

    /// Waits for all that was enqueued before. Sleeps.
    pub fn flush(&self) {
        // SAFETY: By the invariant.
        unsafe { bindings::__flush_workqueue(self.0.as_ptr()) }
    }
}

/// What [`Workqueue::spawn`] enqueues.
#[pin_data]
struct Closure<T> {
    #[pin]
    work: Work<Closure<T>>,
    func: Option<T>,
}

impl_has_work! {
    impl{T} HasWork<Self> for Closure<T> { self.work }
}

impl<T: FnOnce() + Send + 'static> WorkItem for Closure<T> {
    type Pointer = Pin<KBox<Self>>;

    fn run(mut this: Pin<KBox<Self>>) {
        if let Some(func) = this.as_mut().project().func.take() {
            func();
        }
    }
}

impl Drop for Workqueue {
    fn drop(&mut self) {
        // SAFETY: By the invariant; nobody can enqueue any more, and the work that is there is done first.
        unsafe { bindings::destroy_workqueue(self.0.as_ptr()) }
    }
}
