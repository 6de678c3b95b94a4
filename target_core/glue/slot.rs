// SPDX-License-Identifier: GPL-2.0

//! Preallocated slots, each with exactly one owner at a time.
//!
//! A host (a session) allocates its slots when it starts. Taking a free one gives a [`Token`]: by value, not
//! cloneable, with exclusive access to the slot's data. A token goes from hand to hand:
//! - [`Token::erase`] forgets the host's type, for a back end that serves all of them; [`Erased::finish`]
//!   brings the token back to the host, through [`Host::finished`].
//! - [`Queue`] is a lock-free list of tokens that other contexts, interrupts among them, hand to one consumer.
//!
//! A dropped token frees its slot. An erased one that is dropped finishes, so that none is ever lost.
//! Beside the owner's data a slot has a shared part that anyone who knows the host may look at.

mod list;

pub use list::List;

use crate::tags::Tags;
use core::{
    cell::UnsafeCell,
    marker::PhantomData,
    ops::{Deref, DerefMut},
    ptr::{self, NonNull},
};
use kernel::{
    alloc::{KBox, KVVec},
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full, Relaxed, Release},
        Arc,
    },
};

/// What owns slots.
pub trait Host: Send + Sync + Sized + 'static {
    /// Data of the slot's owner that does not depend on the host's type.
    type Own: Send + Default + 'static;
    /// Data that all may see.
    type Shared: Send + Sync + Default + 'static;
    /// Data of the slot's owner that belongs to the host's type.
    type Request: Send + Default + 'static;

    /// The slots of this host.
    fn slots(&self) -> &Slots<Self>;

    /// An erased token came back. Runs in whatever context [`Erased::finish`] is called in.
    fn finished(token: Token<Self>);

    /// An erased token came back that is to be handed out again ([`Erased::hand_back`]), in that call's context. A host that hands
    /// out none that could come back so takes it for one that is finished.
    fn handed_back(token: Token<Self>, why: Why) {
        let _ = why;
        Self::finished(token);
    }

    /// A token is about to free its slot. Returns whether [`freed`](Self::freed) is to be called once it is free.
    fn freeing(token: &mut Token<Self>) -> bool;

    /// Whether somebody may be waiting for all slots to be free. A slot that is given back is free before this is asked: who makes it
    /// true with a full barrier and then finds the slot taken hears of it by [`freed`](Self::freed).
    fn is_awaited(&self) -> bool {
        false
    }

    /// A slot is free, and [`freeing`](Self::freeing) or [`is_awaited`](Self::is_awaited) asked for this: somebody may be waiting
    /// for it. Any context.
    fn freed(this: &Arc<Self>);
}

/// Why a token comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// What was to be done with it is done.
    Finished,
    /// It has to wait.
    Waits,
    /// It has waited.
    Waited,
}

/// The part of a slot that does not depend on its host's type.
#[repr(C)]
struct Head<O, S> {
    // Used only by the token's owner, while the token is in a queue.
    next: Atomic<usize>,
    // The host's reference (`Arc::into_raw`) while the token is erased or queued.
    host: UnsafeCell<*const ()>,
    finish: unsafe fn(NonNull<Head<O, S>>, Why),
    index: u32,
    shared: S,
    own: UnsafeCell<O>,
}

#[repr(C)]
struct Slot<H: Host> {
    head: Head<H::Own, H::Shared>,
    request: UnsafeCell<H::Request>,
}

/// A host's slots.
pub struct Slots<H: Host> {
    // Each slot is allocated by itself: a slot is larger than a page's fraction worth packing, and a host with
    // hundreds of them must not need contiguous memory.
    slots: KVVec<KBox<Slot<H>>>,
    tags: Tags,
}

// SAFETY: The owners' parts are reached through tokens only, which are unique; they are `Send`. The shared part is
// `Sync`.
unsafe impl<H: Host> Send for Slots<H> {}
// SAFETY: As above.
unsafe impl<H: Host> Sync for Slots<H> {}

impl<H: Host> Slots<H> {
    /// Allocates `depth` slots.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(depth: u32) -> Result<Self> {
        let mut slots = KVVec::with_capacity(depth as usize, GFP_KERNEL)?;
        for index in 0..depth {
            let slot = KBox::new(
                Slot::<H> {
                    head: Head {
                        next: Atomic::new(0),
                        host: UnsafeCell::new(ptr::null()),
                        finish: finish::<H>,
                        index,
                        shared: H::Shared::default(),
                        own: UnsafeCell::new(H::Own::default()),
                    },
                    request: UnsafeCell::new(H::Request::default()),
                },
                GFP_KERNEL,
            )?;
            slots.push(slot, GFP_KERNEL)?;
        }
        Ok(Slots {
            slots,
            tags: Tags::new(depth)?,
        })
    }

    /// Number of slots.
    pub fn depth(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Takes a free slot of `host`; `None` if there is none.
    pub fn take(host: &Arc<H>) -> Option<Token<H>> {
        let slots = host.slots();
        let index = slots.tags.get()?;
        let Some(slot) = slots.slots.get(index as usize) else {
            slots.tags.put(index);
            return None;
        };
        // INVARIANT: The tag allocator gives each index to one holder at a time.
        Some(Token {
            slot: NonNull::from(&**slot),
            host: host.clone(),
        })
    }

    /// The shared part of all slots, in the order of their indices.
    pub fn shared(&self) -> impl Iterator<Item = &H::Shared> {
        self.slots.iter().map(|s| &s.head.shared)
    }

    /// The shared part of slot `index`.
    pub fn shared_of(&self, index: u32) -> Option<&H::Shared> {
        self.slots.get(index as usize).map(|s| &s.head.shared)
    }

    /// Slots that are taken now; a snapshot.
    pub fn busy(&self) -> u32 {
        self.tags.busy()
    }
}

/// The one owner of a slot.
///
/// # Invariants
/// `slot` is a slot of `host`, and no other token for it exists.
pub struct Token<H: Host> {
    slot: NonNull<Slot<H>>,
    host: Arc<H>,
}

// SAFETY: A token is the exclusive owner of data that is `Send`.
unsafe impl<H: Host> Send for Token<H> {}

impl<H: Host> Token<H> {
    fn slot(&self) -> &Slot<H> {
        // SAFETY: By the invariant the slot is the host's, which `self.host` keeps alive.
        unsafe { self.slot.as_ref() }
    }

    /// The slot's index at its host.
    pub fn index(&self) -> u32 {
        self.slot().head.index
    }

    /// The host.
    pub fn host(&self) -> &Arc<H> {
        &self.host
    }

    /// The shared part.
    pub fn shared(&self) -> &H::Shared {
        &self.slot().head.shared
    }

    /// The host type's data.
    pub fn request(&self) -> &H::Request {
        // SAFETY: This is the only token, and it is borrowed.
        unsafe { &*self.slot().request.get() }
    }

    /// The host type's data.
    pub fn request_mut(&mut self) -> &mut H::Request {
        // SAFETY: This is the only token, and it is borrowed exclusively.
        unsafe { &mut *self.slot().request.get() }
    }

    /// Both parts of the owner's data.
    pub fn split_mut(&mut self) -> (&mut H::Own, &mut H::Request) {
        let slot = self.slot();
        // SAFETY: This is the only token, it is borrowed exclusively, and the parts are disjoint.
        unsafe { (&mut *slot.head.own.get(), &mut *slot.request.get()) }
    }

    // The slot, with the host's reference left in it.
    fn into_head(self) -> NonNull<Head<H::Own, H::Shared>> {
        let this = core::mem::ManuallyDrop::new(self);
        let slot = this.slot;
        // SAFETY: `this` is never used again, so that its reference on the host is moved out once.
        let host = unsafe { ptr::read(&this.host) };
        // SAFETY: The only token is the one that is consumed here.
        unsafe { *slot.as_ref().head.host.get() = Arc::into_raw(host).cast() };
        // `head` is the first field of a `repr(C)` struct.
        slot.cast()
    }

    /// # Safety
    /// `head` comes from `into_head` of a `Token<H>`, and is turned back once.
    unsafe fn from_head(head: NonNull<Head<H::Own, H::Shared>>) -> Self {
        // SAFETY: The slot is alive, since the reference in it keeps its host alive.
        let host = unsafe { *head.as_ref().host.get() };
        Token {
            slot: head.cast(),
            // SAFETY: `into_head` left this reference here.
            host: unsafe { Arc::from_raw(host.cast()) },
        }
    }

    /// Forgets the host's type.
    pub fn erase(self) -> Erased<H::Own, H::Shared> {
        // INVARIANT: The token is consumed; `into_head` left the host's reference in the slot.
        Erased {
            head: self.into_head(),
        }
    }
}

impl<H: Host> Deref for Token<H> {
    type Target = H::Own;
    fn deref(&self) -> &H::Own {
        // SAFETY: This is the only token, and it is borrowed.
        unsafe { &*self.slot().head.own.get() }
    }
}

impl<H: Host> DerefMut for Token<H> {
    fn deref_mut(&mut self) -> &mut H::Own {
        // SAFETY: This is the only token, and it is borrowed exclusively.
        unsafe { &mut *self.slot().head.own.get() }
    }
}

impl<H: Host> Drop for Token<H> {
    fn drop(&mut self) {
        let tell = H::freeing(self);
        let index = self.index();
        let slots = self.host.slots();
        // The slot's own: a host that shows others than before loses it, but cannot have it given out twice.
        let slot = slots.slots.get(index as usize);
        if slot.is_some_and(|s| ptr::eq(&**s, self.slot.as_ptr())) {
            slots.tags.put(index);
        }
        // `put` is a full barrier.
        if tell || self.host.is_awaited() {
            H::freed(&self.host);
        }
    }
}

/// # Safety
/// As [`Token::from_head`].
unsafe fn finish<H: Host>(head: NonNull<Head<H::Own, H::Shared>>, why: Why) {
    // SAFETY: As the caller guarantees.
    let token = unsafe { Token::<H>::from_head(head) };
    match why {
        Why::Finished => H::finished(token),
        why => H::handed_back(token, why),
    }
}

/// The one owner of a slot, whose host's type is forgotten.
///
/// # Invariants
/// `head` comes from [`Token::into_head`] of the host type whose `finish` it holds, and no other owner exists.
pub struct Erased<O: 'static, S: 'static> {
    head: NonNull<Head<O, S>>,
}

// SAFETY: An erased token is a token, which is `Send`: `Host` asks for it of all parts.
unsafe impl<O: Send, S: Send + Sync> Send for Erased<O, S> {}
// SAFETY: A shared reference gives `&O` only, see `Deref`.
unsafe impl<O: Sync, S: Send + Sync> Sync for Erased<O, S> {}

impl<O, S> Erased<O, S> {
    /// Hands the slot back to its host: [`Host::finished`].
    pub fn finish(self) {
        drop(self);
    }

    /// Hands the slot back to its host, to be handed out again: [`Host::handed_back`].
    pub fn hand_back(self, why: Why) {
        let head = core::mem::ManuallyDrop::new(self).head;
        // SAFETY: By the invariant `finish` fits the host, and it is called once: `self` is never dropped.
        unsafe { (head.as_ref().finish)(head, why) }
    }

    /// The shared part.
    pub fn shared(&self) -> &S {
        // SAFETY: The slot is alive: the reference in it keeps its host alive.
        unsafe { &self.head.as_ref().shared }
    }
}

impl<O, S> Deref for Erased<O, S> {
    type Target = O;
    fn deref(&self) -> &O {
        // SAFETY: By the invariant this is the only owner, and the slot is alive.
        unsafe { &*self.head.as_ref().own.get() }
    }
}

impl<O, S> DerefMut for Erased<O, S> {
    fn deref_mut(&mut self) -> &mut O {
        // SAFETY: As above, exclusively borrowed.
        unsafe { &mut *self.head.as_ref().own.get() }
    }
}

impl<O, S> Drop for Erased<O, S> {
    fn drop(&mut self) {
        // SAFETY: By the invariant `finish` fits the host, and it is called once: `self` ends here.
        unsafe { (self.head.as_ref().finish)(self.head, Why::Finished) }
    }
}

/// A lock-free list of tokens: pushed from any context, drained by one.
pub struct Queue<H: Host> {
    // Address of the newest token's head, or 0. Each token's `next` is the one pushed before it.
    first: Atomic<usize>,
    _tokens: PhantomData<Token<H>>,
}

// SAFETY: The queue owns tokens, which are `Send`; all operations are atomic.
unsafe impl<H: Host> Send for Queue<H> {}
// SAFETY: As above.
unsafe impl<H: Host> Sync for Queue<H> {}

impl<H: Host> Default for Queue<H> {
    fn default() -> Self {
        Self::new()
    }
}

impl<H: Host> Queue<H> {
    /// An empty queue.
    pub const fn new() -> Self {
        Queue {
            first: Atomic::new(0),
            _tokens: PhantomData,
        }
    }

    /// Appends a token. Returns whether the queue was empty: whoever drains it is to be woken then.
    pub fn push(&self, token: Token<H>) -> bool {
        let head = token.into_head();
        // SAFETY: The slot is alive, and `head` owns it.
        let next = unsafe { &head.as_ref().next };
        let mut old = self.first.load(Relaxed);
        loop {
            next.store(old, Relaxed);
            match self.first.cmpxchg(old, head.as_ptr() as usize, Full) {
                Ok(_) => return old == 0,
                Err(now) => old = now,
            }
        }
    }

    /// Whether nothing is queued; a snapshot.
    pub fn is_empty(&self) -> bool {
        self.first.load(Acquire) == 0
    }

    /// Takes all tokens, oldest first.
    pub fn drain(&self) -> Drain<H> {
        if self.is_empty() {
            return Drain {
                first: 0,
                _tokens: PhantomData,
            };
        }
        // The list is newest first: turn it round.
        let mut at = self.first.xchg(0, Full);
        let mut first = 0;
        while let Some(head) = head_at::<H>(at) {
            // SAFETY: All tokens of the list are owned here since the exchange.
            let next = unsafe { &head.as_ref().next };
            let before = next.load(Relaxed);
            next.store(first, Release);
            first = at;
            at = before;
        }
        Drain {
            first,
            _tokens: PhantomData,
        }
    }
}

fn head_at<H: Host>(addr: usize) -> Option<NonNull<Head<H::Own, H::Shared>>> {
    NonNull::new(ptr::with_exposed_provenance_mut(addr))
}

impl<H: Host> Drop for Queue<H> {
    fn drop(&mut self) {
        drop(self.drain());
    }
}

/// Tokens taken from a queue, oldest first. Those not taken out are dropped with it.
pub struct Drain<H: Host> {
    first: usize,
    _tokens: PhantomData<Token<H>>,
}

impl<H: Host> Iterator for Drain<H> {
    type Item = Token<H>;
    fn next(&mut self) -> Option<Token<H>> {
        let head = head_at::<H>(self.first)?;
        // SAFETY: `Drain` owns the tokens of its list.
        self.first = unsafe { head.as_ref().next.load(Relaxed) };
        // SAFETY: `head` was pushed by `into_head`, and leaves the list here.
        Some(unsafe { Token::from_head(head) })
    }
}

impl<H: Host> Drop for Drain<H> {
    fn drop(&mut self) {
        for token in self.by_ref() {
            drop(token);
        }
    }
}
