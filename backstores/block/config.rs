// SPDX-License-Identifier: GPL-2.0

//! The `control` file: `udev_path=PATH,readonly=0|1,exclusive=0|1,force=N`.

use kernel::{
    error::code::*,
    prelude::*,
    str::{parse_int::ParseInt, BStr, CString},
};
use lio_configfs::Value;

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
    /// Takes over the settings in `control`, all of them or none.
    pub(crate) fn parse(&mut self, control: &Value<'_>) -> Result {
        let mut path = None;
        let mut readonly = self.readonly;
        let mut exclusive = self.exclusive;
        for pair in control.str()?.split([',', '\n']).filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match key {
                "udev_path" => path = Some(parse_path(control, value)?),
                "readonly" => readonly = parse_number(control, key, value)? != 0,
                "exclusive" => exclusive = parse_number(control, key, value)? != 0,
                "force" => {
                    // The stock module takes it and does nothing with it either.
                    if parse_number(control, key, value)? != 0 {
                        pr_info!("control: force has no effect\n");
                    }
                }
                _ => return Err(control.reject(EINVAL, fmt!("'{key}' is not known"))),
            }
        }
        if path.is_some() {
            self.path = path;
        }
        self.readonly = readonly;
        self.exclusive = exclusive;
        Ok(())
    }
}

fn parse_path(control: &Value<'_>, value: &str) -> Result<CString> {
    if value.is_empty() {
        return Err(control.reject(EINVAL, fmt!("udev_path is empty")));
    }
    if value.len() > MAX_PATH {
        return Err(control.reject(
            ENAMETOOLONG,
            fmt!("udev_path is longer than {MAX_PATH} bytes"),
        ));
    }
    CString::try_from_fmt(fmt!("{}", value))
}

fn parse_number(control: &Value<'_>, key: &str, value: &str) -> Result<i64> {
    i64::from_str(BStr::from_bytes(value.trim().as_bytes()))
        .map_err(|e| control.reject(e, fmt!("{key}={value} is not a number")))
}
