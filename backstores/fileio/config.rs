// SPDX-License-Identifier: GPL-2.0

//! The `control` file: `fd_dev_name=PATH,fd_dev_size=BYTES,fd_buffered_io=1,fd_async_io=1`.

use kernel::{
    error::code::*,
    prelude::*,
    str::{parse_int::ParseInt, BStr, CStr, CString},
};

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
    /// Takes over the settings of `text`, all of them or none. Of an enabled device only the size can change.
    pub(crate) fn parse(&mut self, text: &str, enabled: bool) -> Result {
        let mut path = None;
        let mut size = self.size;
        let mut buffered = self.buffered;
        let mut direct = self.direct;
        for pair in text.split([',', '\n']).filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if enabled && key != "fd_dev_size" {
                pr_err!("{}: control: {} of an enabled device\n", self.path(), key);
                return Err(EBUSY);
            }
            match key {
                "fd_dev_name" => path = Some(parse_path(value)?),
                "fd_dev_size" => size = Some(parse_size(value)?),
                "fd_buffered_io" => buffered = parse_one(key, value)?,
                "fd_async_io" => direct = parse_one(key, value)?,
                _ => {
                    pr_err!("control: '{}' is not known\n", key);
                    return Err(EINVAL);
                }
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

fn parse_path(value: &str) -> Result<CString> {
    if value.is_empty() {
        pr_err!("control: fd_dev_name is empty\n");
        return Err(EINVAL);
    }
    if value.len() > MAX_PATH {
        pr_err!("control: fd_dev_name is longer than {} bytes\n", MAX_PATH);
        return Err(ENAMETOOLONG);
    }
    CString::try_from_fmt(fmt!("{}", value))
}

fn parse_size(value: &str) -> Result<u64> {
    match u64::from_str(BStr::from_bytes(value.trim().as_bytes())) {
        // The largest file, and the smallest disk.
        Ok(n) if i64::try_from(n).is_ok() && n >= 512 => Ok(n),
        _ => {
            pr_err!(
                "control: fd_dev_size={} is no size of a disk in bytes\n",
                value
            );
            Err(EINVAL)
        }
    }
}

fn parse_one(key: &str, value: &str) -> Result<bool> {
    match i64::from_str(BStr::from_bytes(value.trim().as_bytes())) {
        Ok(1) => Ok(true),
        _ => {
            pr_err!("control: {}={} is not 1\n", key, value);
            Err(EINVAL)
        }
    }
}
