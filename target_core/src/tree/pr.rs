// SPDX-License-Identifier: GPL-2.0

//! `core/KIND_N/NAME/pr`: who has reserved the device.

use crate::device::Device;
use kernel::{error::code::*, prelude::*};
use lio_configfs::{attributes, Page, Value};
use lio_policy::pr::Kept;

/// What a file says with `emulate_pr` switched off.
const DISABLED: &str = "SPC_RESERVATIONS_DISABLED";

fn enabled(dev: &Device) -> bool {
    dev.attrib().emulate_pr()
}

attributes! {
    pub(super) static PR: Device = {
        ro "res_aptpl_active" => aptpl_active;
        rw "res_aptpl_metadata" => show_metadata, store_metadata;
        ro "res_holder" => |dev, page| if enabled(dev) {
            dev.reservations().show_holder(page)
        } else {
            writeln!(page, "{DISABLED}")
        };
        ro "res_pr_all_tgt_pts" => |dev, page| dev.reservations().show_all_ports(page);
        ro "res_pr_generation" => |dev, page| writeln!(page, "0x{:08x}", dev.reservations().generation());
        ro "res_pr_holder_tg_port" => |dev, page| dev.reservations().show_port(dev, page);
        ro "res_pr_registered_i_pts" => |dev, page| dev.reservations().show_registered(page);
        ro "res_pr_type" => |dev, page| dev.reservations().show_type(page);
        ro "res_type" => |dev, page| writeln!(page, "{}", if !enabled(dev) {
            DISABLED
        } else if dev.reservations().is_legacy() {
            "SPC2_RESERVATIONS"
        } else {
            "SPC3_PERSISTENT_RESERVATIONS"
        });
    }
}

fn aptpl_active(dev: &Device, page: &mut Page<'_>) -> Result {
    if !enabled(dev) {
        return Ok(());
    }
    let active = dev.reservations().aptpl();
    let active = if active { "Activated" } else { "Disabled" };
    writeln!(page, "APTPL Bit Status: {active}")
}

fn show_metadata(dev: &Device, page: &mut Page<'_>) -> Result {
    if !enabled(dev) {
        return Ok(());
    }
    writeln!(page, "Ready to process PR APTPL metadata..")
}

// One registration as APTPL kept it.
fn store_metadata(dev: &Device, value: &Value<'_>) -> Result {
    if !enabled(dev) {
        return Err(value.reject(EINVAL, fmt!("emulate_pr is 0")));
    }
    let text = value.str()?;
    let kept = Kept::parse(text).map_err(|what| value.reject(EINVAL, fmt!("{what}")))?;
    let restored = dev.unexported(|| dev.reservations().restore(&kept));
    restored
        .ok_or_else(|| value.reject(EINVAL, fmt!("a LUN is linked to it")))?
        .map_err(|e| value.reject(e, fmt!("the registration cannot be taken up")))
}
