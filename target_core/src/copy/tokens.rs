// SPDX-License-Identifier: GPL-2.0

//! The ROD tokens of all logical units (SPC-4 5.17.6): whoever has one may read what it stands for, through any logical unit of this
//! target, as long as the LUN is there that it was made through, and who made it has it.
//!
//! A token lives until it was not used for its inactivity timeout, or a younger one of its I_T_L nexus takes its place. A copy uses it from
//! its beginning to its end, also while that waits for a limit or for others.

use crate::{
    device::Device,
    lun::{Lun, MappedLun, Nexus},
};
use kernel::{error::code::ENOMEM, new_mutex, prelude::*, sync::Arc, sync::Mutex};
use lio_glue::{clock, noio};
use lio_scsi::{
    bytes::Writer,
    copy::token::{self, Token},
    lba::{BlockSize, Extent},
    sense::{Asc, Key, Sense},
};

/// Tokens of one I_T_L nexus, and in all.
const MOST_OF_NEXUS: usize = 64;
pub(crate) const MOST: usize = 1024;
/// Tokens that are gone and of which it is still known why.
const MOST_GONE: usize = 64;

/// What a token stands for.
struct Kept {
    id: u64,
    token: Token,
    device: Arc<Device>,
    // The address of the one that it was made through, which is compared only, and only while that is there.
    lun: usize,
    // The same of what its initiator knows the LUN by. A later one at that address could end the token early.
    mapped: usize,
    by: u64,
    extents: KVec<Extent>,
    size: BlockSize,
    // Nanoseconds.
    timeout: u64,
    expires: u64,
    // Copies at work.
    users: u32,
}

impl Kept {
    fn renew(&mut self) {
        self.expires = clock::now_ns().saturating_add(self.timeout);
    }
}

/// A copy that uses a token.
pub(super) struct Use<'a> {
    tokens: &'a Tokens,
    id: u64,
}

impl Drop for Use<'_> {
    fn drop(&mut self) {
        // It may be gone for another reason.
        let _ = self.tokens.find(self.id, |kept| {
            kept.users = kept.users.saturating_sub(1);
            kept.renew();
        });
    }
}

struct State {
    // In the order in which they were made.
    kept: KVVec<KBox<Kept>>,
    // Why tokens are gone, youngest last.
    gone: KVec<(u64, Sense)>,
}

/// All tokens.
#[pin_data]
pub(crate) struct Tokens {
    #[pin]
    state: Mutex<State>,
}

impl State {
    // Takes out those of which `which` holds, which are gone for this reason. To be dropped without the lock.
    fn take(&mut self, why: Sense, which: impl Fn(&Kept) -> bool) -> KVec<KBox<Kept>> {
        let mut taken = KVec::new();
        let mut at = 0;
        while let Some(kept) = self.kept.get(at) {
            let id = kept.id;
            // One for which there is no memory is taken the next time.
            if which(kept) && taken.reserve(1, GFP_KERNEL).is_ok() {
                if let Ok(kept) = self.kept.remove(at) {
                    let _ = taken.push(kept, GFP_KERNEL);
                }
                if self.gone.len() >= MOST_GONE {
                    let _ = self.gone.remove(0);
                }
                let _ = self.gone.push((id, why), GFP_KERNEL);
            } else {
                at = at.saturating_add(1);
            }
        }
        taken
    }
}

impl Tokens {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Tokens {
            state <- new_mutex!(
                State { kept: KVVec::new(), gone: KVec::new() },
                "Tokens::state"
            ),
        })
    }

    // Commands hold the lock, which those may wait for that free memory.
    fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        noio::scope(|| f(&mut self.state.lock()))
    }

    // Those that were not used in time go.
    fn expire(&self) {
        let now = clock::now_ns();
        let over = |kept: &Kept| kept.users == 0 && kept.expires <= now;
        drop(self.with(|state| state.take(token::EXPIRED, over)));
    }

    /// Keeps `token` for `timeout` seconds, which `nexus` made of these blocks of its logical unit.
    ///
    /// # Errors
    /// INSUFFICIENT RESOURCES TO CREATE ROD TOKEN.
    pub(crate) fn keep(
        &self,
        nexus: &Nexus,
        id: u64,
        token: &Token,
        extents: KVec<Extent>,
        timeout: u32,
    ) -> Result<(), Sense> {
        self.expire();
        let short = Sense::new(Key::IllegalRequest, Asc::INSUFFICIENT_ROD_TOKEN_RESOURCES);
        let device = nexus.lun().device();
        let timeout = u64::from(timeout).saturating_mul(1_000_000_000);
        let kept = Kept {
            id,
            token: *token,
            device: device.clone(),
            lun: Arc::as_ptr(nexus.lun()) as usize,
            mapped: Arc::as_ptr(nexus.mapped()) as usize,
            by: nexus.serial(),
            extents,
            size: device.block_size(),
            timeout,
            expires: clock::now_ns().saturating_add(timeout),
            users: 0,
        };
        let kept = noio::scope(|| KBox::new(kept, GFP_KERNEL)).map_err(|_| short)?;
        let oldest = self.with(|state| {
            let own = |k: &&KBox<Kept>| k.by == nexus.serial();
            let oldest = match state.kept.iter().filter(own).count() < MOST_OF_NEXUS {
                true => None,
                false => state.kept.iter().find(own).map(|k| k.id),
            };
            if state.kept.len() >= MOST && oldest.is_none() {
                return Err(ENOMEM);
            }
            state.kept.push(kept, GFP_KERNEL)?;
            Ok(state.take(token::CANCELLED, |k| Some(k.id) == oldest))
        });
        drop(oldest.map_err(|_: Error| short)?);
        Ok(())
    }

    // Calls `f` with the token that has the identifier.
    fn find<R>(&self, id: u64, f: impl FnOnce(&mut Kept) -> R) -> Result<R, Sense> {
        self.with(|state| {
            if let Some(kept) = state.kept.iter_mut().find(|kept| kept.id == id) {
                return Ok(f(kept));
            }
            let why = state.gone.iter().find(|(gone, _)| *gone == id);
            Err(why.map_or(token::UNKNOWN, |(_, why)| *why))
        })
    }

    /// The bytes that `token` stands for. It is used by this.
    ///
    /// # Errors
    /// TOKEN UNKNOWN, CORRUPT, or why it is gone.
    pub(crate) fn check(&self, id: u64, token: &Token) -> Result<u64, Sense> {
        self.expire();
        self.find(id, |kept| {
            if !token::same(&kept.token, token) {
                return Err(token::CORRUPT);
            }
            kept.renew();
            let blocks = kept
                .extents
                .iter()
                .fold(0u64, |sum, extent| sum.saturating_add(extent.blocks.0));
            Ok(blocks.wrapping_shl(kept.size.shift()))
        })?
    }

    /// Has it used by a copy.
    ///
    /// # Errors
    /// Why it is gone.
    pub(super) fn begin_use(&self, id: u64) -> Result<Use<'_>, Sense> {
        self.find(id, |kept| kept.users = kept.users.saturating_add(1))?;
        Ok(Use { tokens: self, id })
    }

    /// Where byte `from` of it is: the device, the position, how many bytes follow there.
    ///
    /// # Errors
    /// Why it is gone.
    pub(super) fn locate(
        &self,
        id: u64,
        from: u64,
    ) -> Result<Option<(Arc<Device>, u64, u64)>, Sense> {
        self.find(id, |kept| {
            token::locate(kept.extents.iter().copied(), kept.size, from)
                .map(|(pos, left)| (kept.device.clone(), pos, left))
        })
    }

    /// The device that it is about.
    ///
    /// # Errors
    /// Why it is gone.
    pub(super) fn device(&self, id: u64) -> Result<Arc<Device>, Sense> {
        self.find(id, |kept| kept.device.clone())
    }

    /// Writes what REPORT ALL ROD TOKENS tells of those that were made of `device`.
    pub(crate) fn report(&self, device: &Arc<Device>, out: &mut Writer<'_>) {
        self.expire();
        self.with(|state| {
            let own = state.kept.iter().filter(|k| Arc::ptr_eq(&k.device, device));
            token::write_all(own.map(|k| &k.token), out);
        });
    }

    /// It is not needed any more.
    pub(crate) fn delete(&self, id: u64) {
        drop(self.with(|state| state.take(token::DELETED, |kept| kept.id == id)));
    }

    /// What there was is to be erased.
    pub(crate) fn erased(&self, device: &Arc<Device>) {
        let of = |kept: &Kept| Arc::ptr_eq(&kept.device, device);
        drop(self.with(|state| state.take(token::REVOKED, of)));
    }

    /// The LUN goes, and with it what was made through it.
    pub(crate) fn revoke(&self, lun: &Arc<Lun>) {
        let lun = Arc::as_ptr(lun) as usize;
        drop(self.with(|state| state.take(token::REVOKED, |kept| kept.lun == lun)));
    }

    /// The LUN is taken away from an initiator, and with it what that made through it.
    pub(crate) fn revoke_mapped(&self, mapped: &Arc<MappedLun>) {
        let mapped = Arc::as_ptr(mapped) as usize;
        drop(self.with(|state| state.take(token::REVOKED, |kept| kept.mapped == mapped)));
    }
}
