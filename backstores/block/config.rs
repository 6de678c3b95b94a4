// SPDX-License-Identifier: GPL-2.0

//! The `control` file: `udev_path=PATH,readonly=0|1,exclusive=0|1,force=N`.

use kernel::{
    error::code::*,
    prelude::*,
    str::{parse_int::ParseInt, BStr, CStr, CString},
};

/// Bytes of a path, as the stock module keeps them: its buffer less the terminating one.
const MAX_PATH: usize = 511;

/// What was written to `control`.
pub(crate) struct Config {
    /// Path of the device.
    pub(crate) path: Option<CString>,
    /// Nothing is written.
    pub(crate) readonly: bool,
    /// The device is claimed, so that no file system or other claim uses it meanwhile.
    pub(crate) exclusive: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            path: None,
            readonly: false,
            exclusive: true,
        }
    }
}

impl Config {
    /// Takes over the settings of `text`, all of them or none.
    pub(crate) fn parse(&mut self, text: &str) -> Result {
        let mut path = None;
        let mut readonly = self.readonly;
        let mut exclusive = self.exclusive;
        for pair in text.split([',', '\n']).filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match key {
                "udev_path" => path = Some(parse_path(value)?),
                "readonly" => readonly = parse_number(key, value)? != 0,
                "exclusive" => exclusive = parse_number(key, value)? != 0,
                "force" => {
                    // The stock module takes it and does nothing with it either.
                    if parse_number(key, value)? != 0 {
                        pr_info!("control: force has no effect\n");
                    }
                }
                _ => {
                    pr_err!("control: '{}' is not known\n", key);
                    return Err(EINVAL);
                }
            }
        }
        if path.is_some() {
            self.path = path;
        }
        self.readonly = readonly;
        self.exclusive = exclusive;
        Ok(())
    }

    /// The path, or an empty string.
    pub(crate) fn path(&self) -> &CStr {
        self.path.as_deref().unwrap_or(c"")
    }
}

fn parse_path(value: &str) -> Result<CString> {
    if value.is_empty() {
        pr_err!("control: udev_path is empty\n");
        return Err(EINVAL);
    }
    if value.len() > MAX_PATH {
        pr_err!("control: udev_path is longer than {} bytes\n", MAX_PATH);
        return Err(ENAMETOOLONG);
    }
    CString::try_from_fmt(fmt!("{}", value))
}

fn parse_number(key: &str, value: &str) -> Result<i64> {
    i64::from_str(BStr::from_bytes(value.trim().as_bytes())).inspect_err(|_| {
        pr_err!("control: {}={} is not a number\n", key, value);
    })
}
