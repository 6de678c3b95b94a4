// SPDX-License-Identifier: GPL-2.0

//! Replies on their way to the context that sends them.

use super::Reply;
use crate::{fabric::Fabric, session::Session};
use lio_glue::buffer::Buffer;

/// Replies that other contexts hand to the one that sends them. Lock-free.
pub struct ReplyQueue<F: Fabric>(lio_glue::slot::Queue<Session<F>>);

impl<F: Fabric> Reply<F> {
    /// The tag that the command has now: see [`Session::retag`].
    pub fn tag_now(&self) -> u64 {
        self.token.shared().tag()
    }

    /// Takes [`Reply::data`] out, for who keeps it longer than the command.
    pub fn take_data(&mut self) -> Buffer {
        core::mem::take(&mut self.token.data)
    }
}

impl<F: Fabric> Default for ReplyQueue<F> {
    fn default() -> Self {
        Self::new()
    }
}

impl<F: Fabric> ReplyQueue<F> {
    /// An empty queue.
    pub const fn new() -> Self {
        ReplyQueue(lio_glue::slot::Queue::new())
    }

    /// Appends a reply, from any context. Returns whether the queue was empty, and its consumer is to be woken.
    pub fn push(&self, reply: Reply<F>) -> bool {
        self.0.push(reply.into_token())
    }

    /// Whether nothing is queued; a snapshot.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes all replies, oldest first.
    pub fn drain(&self) -> impl Iterator<Item = Reply<F>> {
        self.0.drain().map(Reply::from_token)
    }
}
