// SPDX-License-Identifier: GPL-2.0

//! Flushes, whose completion goes on in a worker.
//!
//! The block layer ends a flush under the lock of its queue's flush machinery, with interrupts off. Whom the command is for
//! may be a disk of this machine (loopback), whose own flush machinery that completes in turn, and so on down a stack of
//! disks: this keeps them from nesting.

use kernel::{
    impl_has_work, new_work,
    prelude::*,
    sync::Arc,
    workqueue::{Work, WorkItem},
};
use lio_glue::{buffer::Buffer, noio, transfer::Transfer, workqueue::Workqueue};
use target_core::backend::{Io, IoError};

/// An operation that is completed by a worker when its bio has ended.
#[pin_data]
struct Item {
    #[pin]
    work: Work<Self>,
    io: Option<Io>,
    result: Result<(), IoError>,
}

impl_has_work! {
    impl HasWork<Self> for Item { self.work }
}

impl WorkItem for Item {
    type Pointer = Pin<KBox<Self>>;

    fn run(mut this: Pin<KBox<Self>>) {
        let io = this.as_mut().project().io.take();
        let result = this.result;
        drop(this);
        if let Some(io) = io {
            io.complete(result);
        }
    }
}

/// An operation on its way through the block layer.
pub(crate) struct Later {
    io: Io,
    item: Pin<KBox<Item>>,
    queue: Arc<Workqueue>,
}

impl Later {
    /// `None` without memory: `io` is completed.
    pub(crate) fn new(queue: &Arc<Workqueue>, io: Io) -> Option<Self> {
        let item = noio::scope(|| {
            KBox::pin_init(
                pin_init!(Item {
                    work <- new_work!("iblock::Later"),
                    io: None,
                    result: Ok(()),
                }),
                GFP_KERNEL,
            )
        });
        match item {
            Ok(item) => Some(Later {
                io,
                item,
                queue: queue.clone(),
            }),
            Err(_) => {
                io.complete(Err(IoError::Resources));
                None
            }
        }
    }
}

impl Transfer for Later {
    fn buffer(&self) -> &Buffer {
        self.io.data()
    }

    fn protection(&self) -> Option<&Buffer> {
        self.io.protection()
    }

    fn done(self, result: Result<usize>) {
        let Later {
            io,
            mut item,
            queue,
        } = self;
        let to = item.as_mut().project();
        *to.result = crate::device::result(io.op(), result);
        *to.io = Some(io);
        queue.enqueue(item);
    }

    fn again(self, in_part: bool) {
        self.io.wait(in_part);
    }
}
