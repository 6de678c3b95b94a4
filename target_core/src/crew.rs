// SPDX-License-Identifier: GPL-2.0

//! Workers of a device, who do what waits for its storage: before it can begin, because the storage takes no more for now, or until it is
//! done. Whoever received the command goes on with those of other devices, and storage that does not answer keeps no more than so many
//! workers, however many commands there are for it.
//!
//! What waits is in a line that needs no memory, so nothing is lost where there is none; it is bounded by the depth of the sessions. The
//! first worker needs none either; the others are for what it is kept from by the one that it is at.

use crate::backend::{Io, IoError, Line};
use kernel::{
    alloc::flags::__GFP_NOWARN,
    impl_has_work, new_spinlock_irq, new_work,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc, SpinLockIrq,
    },
    workqueue::{Work, WorkItem},
};
use lio_glue::{module, noio, workqueue::Workqueue};

/// See above.
#[pin_data]
pub struct Crew {
    queue: Arc<Workqueue>,
    most: u32,
    patience: usize,
    // A copy of the state's count being other than 0.
    waits: Atomic<bool>,
    #[pin]
    state: SpinLockIrq<State>,
    #[pin]
    first: Work<Crew, 0>,
    #[pin]
    sweep: Work<Crew, 1>,
}

struct State {
    line: Line,
    count: usize,
    // Those who are at work, or are about to be.
    workers: u32,
}

/// Who is to come to work.
enum Call {
    Nobody,
    First,
    Another,
}

impl_has_work! {
    impl HasWork<Self, 0> for Crew { self.first }
    impl HasWork<Self, 1> for Crew { self.sweep }
}

impl Crew {
    /// A crew of at most `most` workers of `queue`; there is another one when more than `patience` operations wait.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(queue: &Arc<Workqueue>, most: u32, patience: usize) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Crew {
                queue: queue.clone(),
                most,
                patience,
                waits: Atomic::new(false),
                state <- new_spinlock_irq!(
                    State { line: Line::new(), count: 0, workers: 0 },
                    "Crew::state"
                ),
                first <- new_work!("Crew::first"),
                sweep <- new_work!("Crew::sweep"),
            }),
            GFP_KERNEL,
        )
    }

    /// Whether operations wait for a worker: others are to wait behind them.
    #[inline]
    pub fn is_behind(&self) -> bool {
        self.waits.load(Relaxed)
    }

    /// Has a worker go on with `io`, by [`Backend::begin`](crate::backend::Backend::begin). Any context.
    pub fn push(self: &Arc<Self>, io: Io) {
        let mut state = self.state.lock();
        // Whoever has marked it looks at the line afterwards, or has done so.
        if io.is_aborted() {
            drop(state);
            return io.complete(Err(IoError::Aborted));
        }
        state.line.push(io);
        state.count = state.count.saturating_add(1);
        self.waits.store(true, Relaxed);
        let call = match state.workers {
            0 => Call::First,
            n if n < self.most && state.count > self.patience => Call::Another,
            _ => Call::Nobody,
        };
        if !matches!(call, Call::Nobody) {
            state.workers = state.workers.saturating_add(1);
        }
        drop(state);
        match call {
            Call::Nobody => (),
            Call::First => self.call_first(),
            Call::Another => self.call_another(),
        }
    }

    /// Operations that wait here end if their commands were aborted. Any context.
    pub fn let_aborted_go(self: &Arc<Self>) {
        // Whoever is between this look and the line finds the mark.
        if self.state.lock().count > 0 {
            // One that is enqueued already has everything before it.
            let _ = self.queue.enqueue::<Arc<Self>, 1>(self.clone());
        }
    }

    // Without any worker it is not at work, and not enqueued.
    fn call_first(self: &Arc<Self>) {
        let _ = self.queue.enqueue::<Arc<Self>, 0>(self.clone());
    }

    // Without memory for another one those that there are do it all.
    fn call_another(self: &Arc<Self>) {
        let another = KBox::pin_init(
            pin_init!(Another {
                work <- new_work!("Crew::another"),
                crew: self.clone(),
            }),
            GFP_NOWAIT | __GFP_NOWARN,
        );
        if let Ok(another) = another {
            return self.queue.enqueue(another);
        }
        let mut state = self.state.lock();
        // The others may have gone meanwhile, and who has come since has called nobody.
        if state.workers == 1 && state.count > 0 {
            drop(state);
            return self.call_first();
        }
        state.workers = state.workers.saturating_sub(1);
    }

    fn next(&self) -> Option<Io> {
        let mut state = self.state.lock();
        let next = state.line.pop();
        match next {
            Some(_) => {
                state.count = state.count.saturating_sub(1);
                self.waits.store(state.count > 0, Relaxed);
            }
            None => state.workers = state.workers.saturating_sub(1),
        }
        next
    }

    fn work(&self) {
        while let Some(io) = self.next() {
            noio::scope(|| io.go_on());
            module::left();
        }
    }

    fn sweep(&self) {
        let mut aborted = {
            let mut state = self.state.lock();
            let mut count = 0usize;
            let aborted = state.line.take_aborted(&mut count);
            state.count = state.count.saturating_sub(count);
            self.waits.store(state.count > 0, Relaxed);
            aborted
        };
        while let Some(io) = aborted.pop() {
            io.complete(Err(IoError::Aborted));
        }
    }
}

impl WorkItem<0> for Crew {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.work();
    }
}

impl WorkItem<1> for Crew {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.sweep();
    }
}

/// One more worker.
#[pin_data]
struct Another {
    #[pin]
    work: Work<Self>,
    crew: Arc<Crew>,
}

impl_has_work! {
    impl HasWork<Self> for Another { self.work }
}

impl WorkItem for Another {
    type Pointer = Pin<KBox<Self>>;

    fn run(this: Pin<KBox<Self>>) {
        this.crew.work();
    }
}
