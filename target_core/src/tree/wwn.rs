// SPDX-License-Identifier: GPL-2.0

//! `core/KIND_N/NAME/wwn`: what INQUIRY calls the device (SPC-5 6.7).

use crate::device::{Device, Names};
use kernel::{error::code::*, prelude::*};
use lio_configfs::{attributes, Page, Value};
use lio_scsi::sense::Asc;

/// The longest unit serial number, in bytes.
const SERIAL_MAX: usize = 253;

/// The longest text of identifying information, in bytes: with its terminator one more.
const TEXT_ID_MAX: usize = 255;

/// The IEEE's number of the company that the stock modules name (OpenFabrics).
const COMPANY: u32 = 0x00_1405;

attributes! {
    pub(super) static WWN: Device = {
        rw "company_id" =>
            |dev, page| writeln!(page, "{:#08x}", dev.names().lock().company.unwrap_or(COMPANY)), company;
        rw "pd_text_id_info" => |dev, page| show(page, &dev.names().lock().text_id), text_id;
        rw "product_id" => |dev, page| show(page, product(dev, &dev.names().lock())), |dev, value| {
            store(dev, value, 16, |names| &mut names.product)
        };
        rw "revision" => |dev, page| show(page, revision(dev, &dev.names().lock())), |dev, value| {
            store(dev, value, 4, |names| &mut names.revision)
        };
        rw "vendor_id" => |dev, page| show(page, vendor(&dev.names().lock())), |dev, value| {
            store(dev, value, 8, |names| &mut names.vendor)
        };
        // The designators of a device that is passed through; ours are in VPD page 83h.
        ro "vpd_assoc_logical_unit" => |_, _| Ok(());
        ro "vpd_assoc_scsi_target_device" => |_, _| Ok(());
        ro "vpd_assoc_target_port" => |_, _| Ok(());
        ro "vpd_protocol_identifier" => |_, _| Ok(());
        rw "vpd_unit_serial" => |dev, page| {
            page.put(b"T10 VPD Unit Serial Number: ");
            show(page, &dev.names().lock().serial)
        }, serial;
    }
}

fn show(page: &mut Page<'_>, text: &[u8]) -> Result {
    page.put(text);
    page.put(b"\n");
    Ok(())
}

/// The vendor identification.
pub(super) fn vendor(names: &Names) -> &[u8] {
    match &*names.vendor {
        [] => b"LIO-ORG",
        set => set,
    }
}

/// The product identification. Nothing before the device is enabled, if none was written.
pub(super) fn product<'a>(dev: &Device, names: &'a Names) -> &'a [u8] {
    match &*names.product {
        [] if dev.geometry().is_some() => dev.hba().kind().product().as_bytes(),
        set => set,
    }
}

/// The product revision level, as [`product`].
pub(super) fn revision<'a>(dev: &Device, names: &'a Names) -> &'a [u8] {
    match &*names.revision {
        [] if dev.geometry().is_some() => b"4.0",
        set => set,
    }
}

// Sets `which` to the value, unless the device is exported. An empty value stands for the default.
fn set(
    dev: &Device,
    value: &Value<'_>,
    text: &str,
    which: fn(&mut Names) -> &mut KVec<u8>,
) -> Result {
    let mut new = KVec::new();
    new.extend_from_slice(text.as_bytes(), GFP_KERNEL)?;
    if **which(&mut dev.names().lock()) == *new {
        return Ok(());
    }
    dev.unexported(|| *which(&mut dev.names().lock()) = new)
        .ok_or_else(|| exported(value))
}

fn exported(value: &Value<'_>) -> Error {
    value.reject(
        EINVAL,
        fmt!("cannot be changed while a LUN is linked to the device"),
    )
}

// A field of the standard INQUIRY data: printable ASCII (SPC-5 4.3.1).
fn store(
    dev: &Device,
    value: &Value<'_>,
    most: usize,
    which: fn(&mut Names) -> &mut KVec<u8>,
) -> Result {
    let text = value.str()?;
    if text.len() > most {
        return Err(value.reject(EOVERFLOW, fmt!("at most {most} characters are wanted")));
    }
    if !text.bytes().all(|c| (0x20..0x7f).contains(&c)) {
        return Err(value.reject(EINVAL, fmt!("printable ASCII characters are wanted")));
    }
    // What is shown may be written back: a default stays one.
    let shown = {
        let names = dev.names().lock();
        let now = match most {
            8 => vendor(&names),
            16 => product(dev, &names),
            _ => revision(dev, &names),
        };
        now == text.as_bytes()
    };
    if shown {
        return Ok(());
    }
    set(dev, value, text, which)
}

fn serial(dev: &Device, value: &Value<'_>) -> Result {
    let text = value.str()?;
    if text.len() > SERIAL_MAX {
        return Err(value.reject(EOVERFLOW, fmt!("at most {SERIAL_MAX} bytes are wanted")));
    }
    if text.bytes().any(|c| c < 0x20 || c == 0x7f) {
        return Err(value.reject(
            EINVAL,
            fmt!("one line without control characters is wanted"),
        ));
    }
    set(dev, value, text, |names| &mut names.serial)
}

// What REPORT IDENTIFYING INFORMATION answers, and SET IDENTIFYING INFORMATION sets, too (SPC-5 6.33).
fn text_id(dev: &Device, value: &Value<'_>) -> Result {
    let text = value.str()?;
    if text.len() > TEXT_ID_MAX {
        return Err(value.reject(EOVERFLOW, fmt!("at most {TEXT_ID_MAX} bytes are wanted")));
    }
    if text.bytes().any(|c| c.is_ascii_control()) {
        return Err(value.reject(
            EINVAL,
            fmt!("one line without control characters is wanted"),
        ));
    }
    let mut new = KVec::new();
    new.extend_from_slice(text.as_bytes(), GFP_KERNEL)?;
    let old = core::mem::replace(&mut dev.names().lock().text_id, new);
    if *old != *text.as_bytes() {
        dev.attend(Asc::DEVICE_IDENTIFIER_CHANGED);
    }
    Ok(())
}

fn company(dev: &Device, value: &Value<'_>) -> Result {
    let id = value.u32()?;
    if id > 0xff_ffff {
        return Err(value.reject(EOVERFLOW, fmt!("a number of 24 bits is wanted")));
    }
    if dev.names().lock().company.unwrap_or(COMPANY) == id {
        return Ok(());
    }
    dev.unexported(|| dev.names().lock().company = Some(id))
        .ok_or_else(|| exported(value))
}
