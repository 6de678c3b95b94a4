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

/// An operation that goes on in a worker when its bio has ended.
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
        match (result, later.flush.take()) {
            (Ok(()), Some((dev, wait))) => {
                later.item = Some(this);
                later.flushes = true;
                noio::scope(|| bio::flush(dev, wait, later));
            }
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
    // It is a write that a flush is to follow.
    flush: Option<(BlockDevice, Wait)>,
    // It is written, and that is under way.
    flushes: bool,
}

impl Later {
    /// `None` without memory: `io` is completed.
    pub(crate) fn new(queues: &Arc<Queues>, io: Io) -> Option<Self> {
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
                flush: None,
                flushes: false,
            }),
            Err(_) => {
                io.complete(Err(IoError::Resources));
                None
            }
        }
    }

    /// The same of a write that a flush of `dev` is to follow.
    pub(crate) fn flushing(
        queues: &Arc<Queues>,
        io: Io,
        dev: BlockDevice,
        wait: Wait,
    ) -> Option<Self> {
        let mut later = Self::new(queues, io)?;
        later.flush = Some((dev, wait));
        Some(later)
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
        let op = match self.flushes {
            true => Op::Flush { pos: 0, len: 0 },
            false => self.io.op(),
        };
        let result = crate::device::result(op, result);
        // Others say nothing of what was written.
        let lost = matches!(
            result,
            Err(IoError::Medium | IoError::NoSpace | IoError::ReadOnly)
        );
        if self.flushes && lost {
            self.io.flush_failed();
        }
        let queues = self.queues.clone();
        let queue = match (&self.flush, result) {
            // It may sleep until the device takes it: no more than this had taken as writes do so.
            (Some((_, Wait::Sleep)), Ok(())) => &queues.slow,
            _ => &queues.done,
        };
        if let Some(mut item) = self.item.take() {
            *item.as_mut().project().ended = Some((self, result));
            queue.enqueue(item);
        }
    }

    fn again(self, in_part: bool) {
        // Then all of it is done again, which nobody was told of yet.
        self.io.wait(in_part || self.flushes);
    }
}
