// SPDX-License-Identifier: GPL-2.0

//! `core/KIND_N/NAME`: a device.

use super::{alua, attrib, device_stats, pr, wwn, Root};
use crate::{
    alua::DEFAULT_LU_GROUP,
    device::{Device, Hba, Names},
};
use core::fmt::Write;
use kernel::{error::code::*, prelude::*, str::CString, sync::Arc, ThisModule};
use lio_configfs::{attributes, Builder, Dir, Node, Page, Tree, Value};
use lio_policy::alua::{letter, MapError};

/// The longest alias and the longest `udev_path`, in bytes.
const TEXT_MAX: usize = 511;

attributes! {
    static DEVICE: Device = {
        rw "alias" => |dev, page| show_text(dev, page, |names| &names.alias), |dev, value| {
            store_text(dev, value, |names| &mut names.alias)
        };
        wo "control" => control;
        ro "info" => show_info;
        rw "lba_map" => show_segments, store_segments;
        rw "udev_path" => |dev, page| show_text(dev, page, |names| &names.udev_path), |dev, value| {
            store_text(dev, value, |names| &mut names.udev_path)
        };
    }

    static ENABLE: Handle = {
        rw "alua_lu_gp" => |handle, page| show_lu_group(&handle.0, page), store_lu_group;
        rw "enable" => |handle, page| writeln!(page, "{}", u32::from(handle.0.geometry().is_some())), enable;
    }
}

/// A device's own directory has it, and no other directory: what a LUN can be linked to.
pub(super) struct Handle(Arc<Device>);

impl Handle {
    pub(super) fn device(&self) -> &Arc<Device> {
        &self.0
    }
}

pub(super) fn build(
    root: &Arc<Root>,
    hba: &Arc<Hba>,
    module: &'static ThisModule,
    name: &str,
) -> Result<Tree> {
    let device = Device::new(hba, CString::try_from_fmt(fmt!("{name}"))?)?;
    let handle = Arc::new(Handle(device.clone()), GFP_KERNEL)?;
    let entry = Entry {
        root: root.clone(),
        device: device.clone(),
    };
    root.add(&device)?;
    // From here on `entry` takes it back.
    let group = |name| Builder::new(module, name);
    group(name)
        .dir(entry)
        .attrs(DEVICE, device.clone())
        .attrs(ENABLE, handle)
        .group(group("action"))
        .group(alua::groups(&device, module)?)
        .group(group("attrib").attrs(attrib::ATTRIB, device.clone()))
        .group(group("pr").attrs(pr::PR, device.clone()))
        .group(device_stats::builder(&device, module))
        .group(group("wwn").attrs(wwn::WWN, device))
        .build()
}

struct Entry {
    root: Arc<Root>,
    device: Arc<Device>,
}

impl Dir for Entry {
    fn removed(&self, _dir: &Node) {
        self.device.close_groups();
        self.device.leave_lu_group();
        // Nothing is linked to it, so all its commands are done.
        self.device.close();
        self.root.remove(&self.device);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // For a directory that could not be made after all.
        self.root.remove(&self.device);
    }
}

fn show_text(dev: &Device, page: &mut Page<'_>, which: impl FnOnce(&Names) -> &KVec<u8>) -> Result {
    let names = dev.names().lock();
    let text = which(&names);
    if !text.is_empty() {
        page.put(text);
        page.put(b"\n");
    }
    Ok(())
}

fn store_text(
    dev: &Device,
    value: &Value<'_>,
    which: impl FnOnce(&mut Names) -> &mut KVec<u8>,
) -> Result {
    let text = value.str()?;
    if text.is_empty() || text.len() > TEXT_MAX || text.contains('\n') {
        return Err(value.reject(EINVAL, fmt!("one line of 1 to {TEXT_MAX} bytes is wanted")));
    }
    let mut new = KVec::new();
    new.extend_from_slice(text.as_bytes(), GFP_KERNEL)?;
    *which(&mut dev.names().lock()) = new;
    Ok(())
}

fn control(dev: &Device, value: &Value<'_>) -> Result {
    dev.backend().control(value)?;
    if dev.geometry().is_some() {
        // It may have another size now, which initiators hear of at once.
        dev.capacity();
    }
    Ok(())
}

fn enable(handle: &Handle, value: &Value<'_>) -> Result {
    if !value.bool()? {
        return Err(value.reject(
            EINVAL,
            fmt!("a device is disabled by removing its directory"),
        ));
    }
    handle
        .0
        .enable()
        .map_err(|e| value.reject(e, fmt!("the device is not enabled")))
}

fn show_info(dev: &Device, page: &mut Page<'_>) -> Result {
    let status = match dev.exports() {
        0 => "DEACTIVATED",
        _ => "ACTIVATED",
    };
    write!(
        page,
        "Status: {status}  Max Queue Depth: {}  SectorSize: {}  HwMaxSectors: {}\n        ",
        dev.attrib().queue_depth_set(),
        dev.attrib().block_size(),
        dev.attrib().hw_max_sectors()
    )?;
    // A page that is full is no error.
    let _ = dev.backend().info(page as &mut dyn Write);
    Ok(())
}

fn show_lu_group(dev: &Device, page: &mut Page<'_>) -> Result {
    if dev.geometry().is_none() {
        return Ok(());
    }
    match dev.lu_group() {
        Some(group) => page.write_fmt(fmt!(
            "LU Group Alias: {}\nLU Group ID: {}\n",
            group.name(),
            group.id().unwrap_or(0)
        )),
        None => writeln!(page, "LU Group Alias: {DEFAULT_LU_GROUP}\nLU Group ID: 0"),
    }
}

// `NULL` asks for the default group.
fn store_lu_group(handle: &Handle, value: &Value<'_>) -> Result {
    let dev = &handle.0;
    if dev.geometry().is_none() {
        return Err(value.reject(ENODEV, fmt!("the device is not enabled")));
    }
    let name = match value.str()? {
        DEFAULT_LU_GROUP | "NULL" => None,
        name => Some(name),
    };
    dev.join_lu_group(name)
        .map_err(|e| value.reject(e, fmt!("there is no group of this name with an lu_gp_id")))
}

fn show_segments(dev: &Device, page: &mut Page<'_>) -> Result {
    let Some(segments) = dev.alua().segments() else {
        return Ok(());
    };
    let map = segments.map();
    writeln!(page, "{} {}", map.size, map.multiplier)?;
    for (segment, members) in map.segments() {
        write!(page, "{} {}", segment.first.0, segment.last.0)?;
        for member in members {
            write!(page, " {}:{}", member.group, letter(member.state))?;
        }
        writeln!(page)?;
    }
    Ok(())
}

fn store_segments(dev: &Device, value: &Value<'_>) -> Result {
    let text = value.str()?;
    dev.set_segments(text)?.map_err(|e| match e {
        MapError::Line(n) => value.reject(EINVAL, fmt!("line {n} is none of a map")),
        MapError::TooLong => value.reject(EINVAL, fmt!("there are too many segments or groups")),
    })
}
