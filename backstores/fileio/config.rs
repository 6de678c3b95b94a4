// SPDX-License-Identifier: GPL-2.0

//! The `control` file: `fd_dev_name=PATH,fd_dev_size=BYTES,fd_buffered_io=1,fd_async_io=1`.

use kernel::{
    error::code::*,
    prelude::*,
    str::{parse_int::ParseInt, BStr, CStr, CString},
};
use lio_configfs::Value;

/// Bytes of a path, as the stock module keeps them: its buffer less the terminating one.
const MAX_PATH: usize = 255;

/// What was written to `control`.
#[derive(Default)]
pub(crate) struct Config {
    /// Path of the file or block device.
    pub(crate) path: Option<CString>,
    /// Bytes of a file.
    pub(crate) size: Option<u64>,
    /// Writes may stay in the page cache until they are flushed.
    pub(crate) buffered: bool,
    /// Past the page cache, several at once.
    pub(crate) direct: bool,
}

impl Config {
    /// Takes over the settings in `control`, all of them or none. Of an enabled device only the size can change.
    pub(crate) fn parse(&mut self, control: &Value<'_>, enabled: bool) -> Result {
        let mut path = None;
        let mut size = self.size;
        let mut buffered = self.buffered;
        let mut direct = self.direct;
        for pair in control.str()?.split([',', '\n']).filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if enabled && key != "fd_dev_size" {
                return Err(control.reject(EBUSY, fmt!("{key} of an enabled device")));
            }
            match key {
                "fd_dev_name" => path = Some(parse_path(control, value)?),
                "fd_dev_size" => size = Some(parse_size(control, value)?),
                "fd_buffered_io" => buffered = parse_one(control, key, value)?,
                "fd_async_io" => direct = parse_one(control, key, value)?,
                _ => return Err(control.reject(EINVAL, fmt!("'{key}' is not known"))),
            }
        }
        if path.is_some() {
            self.path = path;
        }
        self.size = size;
        self.buffered = buffered;
        self.direct = direct;
        Ok(())
    }

    /// The path, or an empty string.
    pub(crate) fn path(&self) -> &CStr {
        self.path.as_deref().unwrap_or(c"")
    }
}

fn parse_path(control: &Value<'_>, value: &str) -> Result<CString> {
    if value.is_empty() {
        return Err(control.reject(EINVAL, fmt!("fd_dev_name is empty")));
    }
    if value.len() > MAX_PATH {
        return Err(control.reject(
            ENAMETOOLONG,
            fmt!("fd_dev_name is longer than {MAX_PATH} bytes"),
        ));
    }
    CString::try_from_fmt(fmt!("{}", value))
}

fn parse_size(control: &Value<'_>, value: &str) -> Result<u64> {
    match u64::from_str(BStr::from_bytes(value.trim().as_bytes())) {
        // The largest file, and the smallest disk.
        Ok(n) if i64::try_from(n).is_ok() && n >= 512 => Ok(n),
        _ => Err(control.reject(
            EINVAL,
            fmt!("fd_dev_size={value} is no size of a disk in bytes"),
        )),
    }
}

fn parse_one(control: &Value<'_>, key: &str, value: &str) -> Result<bool> {
    match i64::from_str(BStr::from_bytes(value.trim().as_bytes())) {
        Ok(1) => Ok(true),
        _ => Err(control.reject(EINVAL, fmt!("{key}={value} is not 1"))),
    }
}
