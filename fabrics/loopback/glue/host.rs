// SPDX-License-Identifier: GPL-2.0

//! SCSI hosts.

use super::{scmd::Scmd, sys};
use core::{marker::PhantomData, ptr::NonNull};
use kernel::{
    error::to_result,
    ffi::c_void,
    prelude::*,
    sync::{Arc, ArcBorrow},
};

/// What answers a host's commands. All of it is called in process context and may sleep, but not for I/O to get memory.
pub(crate) trait Driver: Send + Sync + 'static {
    /// Takes a command.
    ///
    /// # Errors
    /// The command, if it cannot be taken now: the midlayer brings it again.
    fn queue(&self, cmd: Scmd) -> Result<(), Scmd>;

    /// Aborts the command `tag`, and waits for its end; whether that worked.
    fn abort(&self, target: u32, lun: u64, tag: u64) -> bool;

    /// Resets a logical unit, and waits for it; whether that worked.
    fn reset_lun(&self, target: u32, lun: u64) -> bool;

    /// Resets a target, and waits for it; whether that worked.
    fn reset_target(&self, target: u32) -> bool;
}

/// The bus that hosts are on. There is one, made when the module is loaded; dropping it waits for all hosts to be gone.
pub(crate) struct Bus(());

impl Bus {
    /// Makes it.
    ///
    /// # Errors
    /// `EEXIST` if it is there already, `ENOMEM`.
    pub(crate) fn start() -> Result<Self> {
        // SAFETY: The call has no requirements.
        to_result(unsafe { sys::lio_loop_start() })?;
        Ok(Bus(()))
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        // SAFETY: It was started, or there would be no `Bus`.
        unsafe { sys::lio_loop_stop() }
        // Whoever released the last host may not have returned from this module's code yet.
        lio_glue::module::settle();
    }
}

/// A SCSI host. Dropping it removes it with its devices, and waits for their commands.
///
/// # Invariants
/// The pointer is a host of the C side, whose driver is an `Arc<D>`.
pub(crate) struct Host<D: Driver> {
    ptr: NonNull<sys::lio_loop_host>,
    _driver: PhantomData<Arc<D>>,
}

// SAFETY: The C side's functions may be called from any thread.
unsafe impl<D: Driver> Send for Host<D> {}
// SAFETY: As above.
unsafe impl<D: Driver> Sync for Host<D> {}

impl<D: Driver> Host<D> {
    const OPS: sys::lio_loop_ops = sys::lio_loop_ops {
        queue: Some(queue::<D>),
        abort: Some(abort::<D>),
        reset: Some(reset::<D>),
        release: Some(release::<D>),
    };

    /// Adds a host. `driver` is kept until nobody can call it any more.
    ///
    /// # Errors
    /// `ENOMEM`, or what the midlayer fails with.
    pub(crate) fn add(driver: Arc<D>) -> Result<Self> {
        let mut error = 0;
        let driver = Arc::into_raw(driver).cast_mut().cast();
        // SAFETY: The functions fit the driver, and the C side calls `release` once, after the last call of another.
        let ptr = unsafe { sys::lio_loop_host_add(&Self::OPS, driver, &mut error) };
        let Some(ptr) = NonNull::new(ptr) else {
            to_result(error)?;
            return Err(ENODEV);
        };
        // INVARIANT: just made.
        Ok(Host {
            ptr,
            _driver: PhantomData,
        })
    }

    /// The midlayer's number of the host.
    pub(crate) fn number(&self) -> u32 {
        // SAFETY: By the invariant.
        unsafe { sys::lio_loop_host_number(self.ptr.as_ptr()) }
    }

    /// How many commands it may have in flight.
    pub(crate) fn depth(&self) -> u32 {
        // SAFETY: By the invariant.
        unsafe { sys::lio_loop_host_depth(self.ptr.as_ptr()) }
    }

    /// Has the midlayer look for a logical unit, and make its device. Sends commands, and waits for them.
    ///
    /// # Errors
    /// `ENODEV` if there is none; `EINTR` where the caller is killed while another device is being removed.
    pub(crate) fn add_lun(&self, target: u32, lun: u64) -> Result {
        // SAFETY: By the invariant.
        to_result(unsafe { sys::lio_loop_lun_add(self.ptr.as_ptr(), target, lun) })
    }

    /// Removes a logical unit's device, if there is one; its commands are over then, and no more come.
    pub(crate) fn remove_lun(&self, target: u32, lun: u64) {
        // SAFETY: By the invariant.
        unsafe { sys::lio_loop_lun_remove(self.ptr.as_ptr(), target, lun) }
    }
}

impl<D: Driver> Drop for Host<D> {
    fn drop(&mut self) {
        // SAFETY: By the invariant; nobody uses the pointer after this.
        unsafe { sys::lio_loop_host_remove(self.ptr.as_ptr()) }
    }
}

/// # Safety
/// `driver` is that of a host of an `Arc<D>` that is not released yet.
unsafe fn borrow<'a, D: Driver>(driver: *mut c_void) -> ArcBorrow<'a, D> {
    // SAFETY: As above.
    unsafe { ArcBorrow::from_raw(driver.cast_const().cast()) }
}

/// # Safety
/// Only for the C side: `driver` is what `Host::add` gave it, and `sc` is a command that the midlayer just handed to the host.
unsafe extern "C" fn queue<D: Driver>(driver: *mut c_void, sc: *mut sys::scsi_cmnd) -> bool {
    let Some(sc) = NonNull::new(sc) else {
        return true;
    };
    // SAFETY: The C side passes the driver that it was given, and a command that the midlayer just handed to the host.
    match unsafe { borrow::<D>(driver).queue(Scmd::from_raw(sc)) } {
        Ok(()) => true,
        // Another command than this one, or one whose memory is lent, was not refused but fails.
        Err(cmd) => !cmd.give_back(sc),
    }
}

/// # Safety
/// Only for the C side: `driver` is what `Host::add` gave it, and not released yet.
unsafe extern "C" fn abort<D: Driver>(driver: *mut c_void, id: u32, lun: u64, tag: u64) -> bool {
    // SAFETY: The C side passes the driver that it was given.
    unsafe { borrow::<D>(driver) }.abort(id, lun, tag)
}

/// # Safety
/// Only for the C side: `driver` is what `Host::add` gave it, and not released yet.
unsafe extern "C" fn reset<D: Driver>(
    driver: *mut c_void,
    id: u32,
    lun: u64,
    target: bool,
) -> bool {
    // SAFETY: The C side passes the driver that it was given.
    let driver = unsafe { borrow::<D>(driver) };
    if target {
        driver.reset_target(id)
    } else {
        driver.reset_lun(id, lun)
    }
}

/// # Safety
/// Only for the C side: `driver` is what `Host::add` gave it, and used no more.
unsafe extern "C" fn release<D: Driver>(driver: *mut c_void) {
    // SAFETY: It is what `Host::add` made of an `Arc<D>`, and the C side does not use it any more.
    drop(unsafe { Arc::<D>::from_raw(driver.cast_const().cast()) })
}
