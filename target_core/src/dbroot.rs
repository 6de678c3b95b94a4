// SPDX-License-Identifier: GPL-2.0

//! Files below `dbroot` that are about one device, which its serial number names.

use crate::device::Device;
use kernel::{prelude::*, str::CString};
use lio_glue::replace;

/// A directory of such files.
pub(crate) enum Dir {
    /// `dbroot` itself.
    Root,
    /// The one with this name in it, which is made when there is something to be kept there.
    Below(&'static str),
}

/// Whether `device` can have files: it has a serial number that can be part of a file's name.
pub(crate) fn has_files(device: &Device) -> bool {
    let names = device.names().lock();
    core::str::from_utf8(&names.serial).is_ok_and(is_name)
}

// A file of its own, in that directory.
fn is_name(serial: &str) -> bool {
    !serial.is_empty() && !serial.contains('/')
}

// `KIND_SERIAL`.
fn name(device: &Device, kind: &str) -> Result<CString> {
    let names = device.names().lock();
    let serial = core::str::from_utf8(&names.serial).map_err(|_| EINVAL)?;
    if !is_name(serial) {
        return Err(EINVAL);
    }
    CString::try_from_fmt(fmt!("{kind}_{serial}"))
}

fn path(dir: &Dir) -> Result<CString> {
    let engine = crate::engine()?;
    let root = engine.dbroot().lock();
    let root = core::str::from_utf8(&root).map_err(|_| EINVAL)?;
    match dir {
        Dir::Root => CString::try_from_fmt(fmt!("{root}")),
        Dir::Below(name) => CString::try_from_fmt(fmt!("{root}/{name}")),
    }
}

/// Has the file `KIND_SERIAL` of `device` say `bytes`, durably.
///
/// # Errors
/// `EINVAL` if the device can have none; the file system's.
pub(crate) fn store(device: &Device, dir: &Dir, kind: &str, bytes: &[u8]) -> Result {
    let name = name(device, kind)?;
    let temp = CString::try_from_fmt(fmt!("{}.new", &*name))?;
    let at = path(dir)?;
    match replace::replace(&at, &temp, &name, bytes) {
        Err(e) if e == ENOENT && matches!(dir, Dir::Below(_)) => {
            // Another may have made it since.
            let _ = replace::make_dir(&at);
            replace::replace(&at, &temp, &name, bytes)
        }
        done => done,
    }
}

/// Reads the file `KIND_SERIAL` of `device`: how many bytes it has.
///
/// # Errors
/// `EINVAL` if the device can have none; `EFBIG` if there is not room for all of it; the file system's.
pub(crate) fn read(device: &Device, dir: &Dir, kind: &str, to: &mut [u8]) -> Result<usize> {
    let name = name(device, kind)?;
    let dir = path(dir)?;
    let path = CString::try_from_fmt(fmt!("{}/{}", &*dir, &*name))?;
    replace::read(&path, to)
}
