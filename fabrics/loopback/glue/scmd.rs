// SPDX-License-Identifier: GPL-2.0

//! A command of the SCSI midlayer.

use super::sys;
use core::ptr::{self, NonNull};
use kernel::{bindings, prelude::*};
use lio_glue::buffer::{Buffer, Lease};
use lio_scsi::pi::Sent;
use target_core::command::Direction;

/// Why a host could not do a command (the midlayer's "host byte").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum HostByte {
    /// There is no such target.
    NoConnect = 0x01,
    /// It failed inside the host.
    Error = 0x07,
    /// A reset took it: the midlayer may send it again.
    Reset = 0x08,
    /// The path was lost: another one is to be tried.
    TransportDisrupted = 0x0e,
}

/// A command that the host owns. Dropped, it fails.
///
/// # Invariants
/// The command is the host's, which counts this as one of its users.
pub(crate) struct Scmd(NonNull<sys::scsi_cmnd>);

// SAFETY: The midlayer gives a command to one owner, whatever thread it is on.
unsafe impl Send for Scmd {}
// SAFETY: `&self` methods only read what the midlayer does not change while the host owns the command.
unsafe impl Sync for Scmd {}

impl Scmd {
    /// Takes over a command.
    ///
    /// # Safety
    /// The midlayer has just handed `sc` to the host, whose one user this becomes.
    pub(super) unsafe fn from_raw(sc: NonNull<sys::scsi_cmnd>) -> Self {
        Scmd(sc)
    }

    /// Gives it back to the midlayer as if it had not been taken, if it is `sc` and has no other user; whether it is.
    pub(super) fn give_back(self, sc: NonNull<sys::scsi_cmnd>) -> bool {
        // SAFETY: By the invariant.
        if self.0 == sc && unsafe { sys::lio_scmd_untake(self.0.as_ptr()) } {
            self.into_raw();
            return true;
        }
        false
    }

    fn into_raw(self) -> *mut sys::scsi_cmnd {
        core::mem::ManuallyDrop::new(self).0.as_ptr()
    }

    /// The number of its target.
    pub(crate) fn target(&self) -> u32 {
        // SAFETY: By the invariant.
        unsafe { sys::lio_scmd_id(self.0.as_ptr()) }
    }

    /// Its LUN, as the midlayer numbers them.
    pub(crate) fn lun(&self) -> u64 {
        // SAFETY: By the invariant.
        unsafe { sys::lio_scmd_lun(self.0.as_ptr()) }
    }

    /// A tag that no other command of this host has.
    pub(crate) fn tag(&self) -> u64 {
        // SAFETY: By the invariant.
        unsafe { sys::lio_scmd_tag(self.0.as_ptr()) }
    }

    /// The CDB.
    pub(crate) fn cdb(&self) -> &[u8] {
        let mut len = 0;
        // SAFETY: By the invariant; the CDB is part of the command, has at least `len` bytes, and does not change.
        unsafe {
            let cdb = sys::lio_scmd_cdb(self.0.as_ptr(), &mut len);
            core::slice::from_raw_parts(cdb, len as usize)
        }
    }

    /// Where its data goes, and where the protection information is that the CDB may ask for.
    pub(crate) fn direction(&self) -> (Direction, Sent) {
        // SAFETY: By the invariant.
        let both = unsafe { sys::lio_scmd_direction(self.0.as_ptr()) };
        let sent = match both & (sys::LIO_SCMD_BESIDE | sys::LIO_SCMD_MADE) {
            sys::LIO_SCMD_BESIDE => Sent::Beside,
            sys::LIO_SCMD_MADE => Sent::Made,
            _ => Sent::Behind,
        };
        match both & (sys::LIO_SCMD_READ | sys::LIO_SCMD_WRITE) {
            sys::LIO_SCMD_READ => (Direction::Read, sent),
            sys::LIO_SCMD_WRITE => (Direction::Write, sent),
            _ => (Direction::None, sent),
        }
    }

    /// Bytes of its data.
    pub(crate) fn bytes(&self) -> u32 {
        // SAFETY: By the invariant.
        unsafe { sys::lio_scmd_bytes(self.0.as_ptr()) }
    }

    /// Its data: the initiator's own memory. The midlayer hears that the command is done when both it and the buffer are
    /// given up, in whatever order.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn data(&mut self) -> Result<Buffer> {
        // SAFETY: By the invariant.
        let sg = unsafe { sys::lio_scmd_sgl(self.0.as_ptr()) };
        // SAFETY: It is the list of the command's data.
        unsafe { self.memory(sg, self.bytes()) }
    }

    /// The memory for its protection information, lent as [`Self::data`] is.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn protection(&mut self) -> Result<Buffer> {
        // SAFETY: By the invariant.
        let sg = unsafe { sys::lio_scmd_prot_sgl(self.0.as_ptr()) };
        // SAFETY: It is the list of the command's protection information.
        unsafe { self.memory(sg, u32::MAX) }
    }

    /// The first `left` bytes of `sg`.
    ///
    /// # Safety
    /// `sg` is one of the command's lists, or null.
    unsafe fn memory(
        &mut self,
        mut sg: *mut bindings::scatterlist,
        mut left: u32,
    ) -> Result<Buffer> {
        let mut buffer = Buffer::new();
        if left == 0 || sg.is_null() {
            return Ok(buffer);
        }
        // SAFETY: The command's memory is valid until it is completed, which the lease puts off.
        unsafe {
            sys::lio_scmd_get(self.0.as_ptr());
            buffer.set_lease(Lease::new(self.0.as_ptr().cast(), release));
        }
        while !sg.is_null() && left > 0 {
            let (mut page, mut off, mut len) = (ptr::null_mut(), 0, 0);
            // SAFETY: `sg` is an entry of the command's list, which ends with a null pointer.
            sg = unsafe { sys::lio_scmd_seg(sg, &mut page, &mut off, &mut len) };
            let len = len.min(left);
            // SAFETY: The entry is memory with a kernel address (there is no other on this machine), valid until the
            // command is completed, which the buffer's lease puts off until the buffer is cleared.
            unsafe { buffer.push_borrowed(page.cast(), off, len) }?;
            left = left.saturating_sub(len);
        }
        Ok(buffer)
    }

    /// Ends it with a SCSI status, with `residual` bytes not transferred.
    pub(crate) fn done(self, status: u8, sense: Option<&[u8]>, residual: u32) {
        // SAFETY: By the invariant; `sense` is valid for its length.
        unsafe {
            if let Some(sense) = sense {
                sys::lio_scmd_sense(self.0.as_ptr(), sense.as_ptr(), sense.len());
            }
            sys::lio_scmd_status(self.0.as_ptr(), status, residual);
        }
        self.put()
    }

    /// Ends it without a SCSI status.
    pub(crate) fn fail(self, why: HostByte) {
        // SAFETY: By the invariant.
        unsafe { sys::lio_scmd_host_byte(self.0.as_ptr(), why as u8) };
        self.put()
    }

    fn put(self) {
        let sc = self.into_raw();
        // SAFETY: By the invariant this was a user of the command, which ends here.
        unsafe { sys::lio_scmd_put(sc) }
    }
}

impl Drop for Scmd {
    fn drop(&mut self) {
        // SAFETY: By the invariant this is a user of the command, which ends here.
        unsafe {
            sys::lio_scmd_host_byte(self.0.as_ptr(), HostByte::Error as u8);
            sys::lio_scmd_put(self.0.as_ptr());
        }
    }
}

/// # Safety
/// `sc` is a command of which this lease is a user.
unsafe fn release(sc: *mut ()) {
    // SAFETY: As above.
    unsafe { sys::lio_scmd_put(sc.cast()) }
}
