// SPDX-License-Identifier: GPL-2.0

//! Flushes, whose completion goes on in a worker.
//!
//! The block layer ends a flush under the lock of its queue's flush machinery, with interrupts off. Whom the command is for
//! may be a disk of this machine (loopback), whose own flush machinery that completes in turn, and so on down a stack of
//! disks: this keeps them from nesting.

use crate::Queues;
use kernel::{
    impl_has_work, new_work,
    prelude::*,
    sync::Arc,
    workqueue::{Work, WorkItem},
};
use lio_glue::{
    bdev::BlockDevice,
    bio::{self, Wait},
    buffer::Buffer,
    noio,
    transfer::Transfer,
};
use target_core::backend::{Io, IoError, Op};

/// An operation that is completed by a worker when its bio has ended.
#[pin_data]
struct Item {
    #[pin]
    work: Work<Self>,
    // What has ended, and how.
    ended: Option<(Later, Result<(), IoError>)>,
}

impl_has_work! {
    impl HasWork<Self> for Item { self.work }
}

impl WorkItem for Item {
    type Pointer = Pin<KBox<Self>>;

    fn run(mut this: Pin<KBox<Self>>) {
        let Some((mut later, result)) = this.as_mut().project().ended.take() else {
            return;
        };
        match (result, later.dev.take()) {
            (Err(e), Some(dev)) => later.look(this, dev, e),
            _ => {
                // The device may be closed by whoever hears of the end.
                drop(this);
                later.io.complete(result);
            }
        }
    }
}

/// An operation on its way through the block layer.
pub(crate) struct Later {
    io: Io,
    // Until it is in the item itself.
    item: Option<Pin<KBox<Item>>>,
    queues: Arc<Queues>,
    // Of a write that ends in a flush.
    dev: Option<BlockDevice>,
    // It has failed so, and is done again without the flush.
    failed: Option<IoError>,
}

impl Later {
    /// `None` without memory: `io` is completed. `dev`: of a write that ends in a flush.
    pub(crate) fn new(queues: &Arc<Queues>, io: Io, dev: Option<BlockDevice>) -> Option<Self> {
        let item = noio::scope(|| {
            KBox::pin_init(
                pin_init!(Item {
                    work <- new_work!("iblock::Later"),
                    ended: None,
                }),
                GFP_KERNEL,
            )
        });
        match item {
            Ok(item) => Some(Later {
                io,
                item: Some(item),
                queues: queues.clone(),
                dev,
                failed: None,
            }),
            Err(_) => {
                io.complete(Err(IoError::Resources));
                None
            }
        }
    }

    // What failed, the write or its flush? The storage does not say; but if it takes the write alone, it was the flush, which has told of
    // all that was written before, and forgets it. Nobody has heard of this write's end: that it is done twice is no news. May sleep.
    fn look(mut self, item: Pin<KBox<Item>>, dev: BlockDevice, e: IoError) {
        self.item = Some(item);
        self.failed = Some(e);
        match self.io.op() {
            Op::Write { pos, .. } => bio::write(dev, pos, false, Wait::Sleep, self),
            Op::WriteAtomic { pos, .. } => bio::write_atomic(dev, pos, false, Wait::Sleep, self),
            _ => self.io.complete(Err(e)),
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

    fn done(mut self, result: Result<usize>) {
        let mut result = crate::device::result(self.io.op(), result);
        if let Some(failed) = self.failed {
            if result.is_ok() {
                self.io.flush_failed();
            }
            result = Err(failed);
        }
        // Others are no errors of what was written, as the engine has it of flushes.
        if !matches!(
            result,
            Err(IoError::Medium | IoError::NoSpace | IoError::ReadOnly)
        ) {
            self.dev = None;
        }
        let queues = self.queues.clone();
        let queue = match self.dev {
            // There it may sleep.
            Some(_) => &queues.slow,
            None => &queues.done,
        };
        if let Some(mut item) = self.item.take() {
            *item.as_mut().project().ended = Some((self, result));
            queue.enqueue(item);
        }
    }

    fn again(self, in_part: bool) {
        self.io.wait(in_part);
    }
}
