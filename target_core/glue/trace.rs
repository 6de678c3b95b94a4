// SPDX-License-Identifier: GPL-2.0

//! Tracepoints of a command's life (`lio_trace.h`): each is a no-op in the instruction stream while nobody listens.
//!
//! A command is named by an address that stays the same for its life. Nothing is read from there.

use crate::sys;
use kernel::{bindings, prelude::*, str::CStr};

/// Whether somebody listens at a tracepoint.
macro_rules! on {
    ($key:ident) => {
        // SAFETY: The key is a tracepoint that lives as long as this module.
        unsafe { kernel::jump_label::static_branch_unlikely!(sys::$key, bindings::tracepoint, key) }
    };
}

/// An operation of a back end.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Op {
    /// Nothing.
    None,
    /// A read.
    Read,
    /// A write.
    Write,
    /// A write that is durable before it is completed.
    WriteThrough,
    /// A flush.
    Flush,
    /// Blocks are given back.
    Unmap,
    /// Zeroes are written.
    WriteZeroes,
    /// It is asked how blocks are provisioned.
    Status,
}

/// A command as its initiator sent it.
#[allow(missing_docs)]
pub struct Received<'a> {
    pub tag: u64,
    pub lun: [u8; 8],
    pub cdb: &'a [u8],
    pub expected: u32,
    pub initiator: &'a CStr,
    pub port: &'a CStr,
}

/// A command was received. `f` tells of it, if somebody listens.
#[inline(always)]
pub fn received<'a, T>(cmd: *const T, f: impl FnOnce() -> Received<'a>) {
    if on!(__tracepoint_lio_received) {
        do_received(cmd.cast(), &f());
    }
}

#[cold]
fn do_received(cmd: *const kernel::ffi::c_void, r: &Received<'_>) {
    // SAFETY: The CDB is of as many bytes as is said; names are C strings. `cmd` is not followed.
    unsafe {
        sys::lio_do_trace_received(
            cmd,
            r.tag,
            u64::from_be_bytes(r.lun),
            r.cdb.as_ptr(),
            r.cdb.len() as u32,
            r.expected,
            r.initiator.as_char_ptr(),
            r.port.as_char_ptr(),
        )
    }
}

/// A command passed all checks of `device`, which wants so many bytes of data first.
#[inline(always)]
pub fn admitted<'a, T>(cmd: *const T, wanted: usize, device: impl FnOnce() -> &'a CStr) {
    if on!(__tracepoint_lio_admitted) {
        // SAFETY: The name is a C string. `cmd` is not followed.
        unsafe {
            sys::lio_do_trace_admitted(cmd.cast(), device().as_char_ptr(), wanted as u64);
        }
    }
}

/// An operation of a command goes to the back end; `f` tells which: where it begins, and its bytes.
#[inline(always)]
pub fn submitted<T>(cmd: *const T, f: impl FnOnce() -> (Op, u64, u64)) {
    if on!(__tracepoint_lio_submitted) {
        let (op, pos, len) = f();
        // SAFETY: The call has no requirements. `cmd` is not followed.
        unsafe { sys::lio_do_trace_submitted(cmd.cast(), op as u32, pos, len) }
    }
}

/// The back end is done with an operation of a command.
#[inline(always)]
pub fn completed<T>(cmd: *const T, failed: bool) {
    if on!(__tracepoint_lio_completed) {
        // SAFETY: The call has no requirements. `cmd` is not followed.
        unsafe { sys::lio_do_trace_completed(cmd.cast(), failed) }
    }
}

/// A command has its status; `f` tells it with sense key and code, and the device, if it has one.
#[inline(always)]
pub fn answered<'a, T>(cmd: *const T, f: impl FnOnce() -> (u8, u32, Option<&'a CStr>)) {
    if on!(__tracepoint_lio_answered) {
        let (status, sense, device) = f();
        let device = device.unwrap_or(c"-");
        // SAFETY: The name is a C string. `cmd` is not followed.
        unsafe {
            sys::lio_do_trace_answered(cmd.cast(), status.into(), sense, device.as_char_ptr());
        }
    }
}

/// A command's answer was handed over, or was none: its memory is another's now.
#[inline(always)]
pub fn sent<T>(cmd: *const T) {
    if on!(__tracepoint_lio_sent) {
        // SAFETY: The call has no requirements. `cmd` is not followed.
        unsafe { sys::lio_do_trace_sent(cmd.cast()) }
    }
}
