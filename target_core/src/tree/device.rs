// SPDX-License-Identifier: GPL-2.0

//! `core/KIND_N/NAME`: a device.

use super::{alua, attrib, device_stats, pr, refuse, wwn, Root};
use crate::{
    device::{Device, Hba, Names},
    tree,
};
use core::fmt::Write;
use kernel::{error::code::*, prelude::*, str::CString, sync::Arc, ThisModule};
use lio_configfs::{attributes, Builder, Dir, Node, Page, Tree, Value};

/// The longest alias and the longest `udev_path`, in bytes.
const TEXT_MAX: usize = 511;

attributes! {
    static DEVICE: Device = {
        rw "alias" => |dev, page| show_text(dev, page, |names| &names.alias), |dev, value| {
            store_text(dev, value, |names| &mut names.alias)
        };
        rw "alua_lu_gp" => show_lu_group, store_lu_group;
        wo "control" => control;
        ro "info" => show_info;
        // A map of more than nothing is of the groups in it.
        rw "lba_map" => |_, _| Ok(()), |_, value| {
            if value.str()?.is_empty() { Ok(()) } else { Err(refuse(value)) }
        };
        rw "udev_path" => |dev, page| show_text(dev, page, |names| &names.udev_path), |dev, value| {
            store_text(dev, value, |names| &mut names.udev_path)
        };
    }

    static ENABLE: Handle = {
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
        .group(alua::groups(&device, module))
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
    match dev.geometry() {
        Some(_) => writeln!(page, "LU Group Alias: default_lu_gp\nLU Group ID: 0"),
        None => Ok(()),
    }
}

fn store_lu_group(_: &Device, value: &Value<'_>) -> Result {
    match value.str()? {
        "default_lu_gp" => Ok(()),
        _ => Err(tree::refuse(value)),
    }
}
