// SPDX-License-Identifier: GPL-2.0

//! Asymmetric logical unit access (SPC-5 5.16): `core/KIND_N/NAME/alua`, and the files of a LUN.
//!
//! There is the default target port group, active/optimized, with all ports that the device is reached through.

use super::{fixed, lun::LunDir, refuse};
use crate::device::Device;
use kernel::{error::code::*, prelude::*, sync::Arc, ThisModule};
use lio_configfs::{attributes, Builder, Dir, Node, Page, Tree, Value};

/// The default group's name.
const DEFAULT: &str = "default_tg_pt_gp";

macro_rules! number {
    ($now:literal) => {
        |_, page| writeln!(page, "{}", $now)
    };
}
macro_rules! keep {
    ($now:literal) => {
        |_, value| fixed(value, $now)
    };
}

attributes! {
    static GROUP: Device = {
        rw "alua_access_state" => number!(0), keep!(0);
        rw "alua_access_status" => |_, page| writeln!(page, "None"), keep!(0);
        rw "alua_access_type" => |_, page| writeln!(page, "Implicit and Explicit"), keep!(3);
        rw "alua_support_active_nonoptimized" => number!(1), keep!(1);
        rw "alua_support_active_optimized" => number!(1), keep!(1);
        rw "alua_support_lba_dependent" => number!(0), keep!(0);
        rw "alua_support_offline" => number!(1), keep!(1);
        rw "alua_support_standby" => number!(1), keep!(1);
        rw "alua_support_transitioning" => number!(1), keep!(1);
        rw "alua_support_unavailable" => number!(1), keep!(1);
        rw "alua_write_metadata" => number!(0), keep!(0);
        rw "implicit_trans_secs" => number!(0), keep!(0);
        ro "members" => show_members;
        rw "nonop_delay_msecs" => number!(100), keep!(100);
        rw "preferred" => number!(0), keep!(0);
        rw "tg_pt_gp_id" => number!(0), keep!(0);
        rw "trans_delay_msecs" => number!(0), keep!(0);
    }

    /// The files of a LUN. Reading them without a device is an error, as the tools expect.
    pub(super) static LUN: LunDir = {
        rw "alua_tg_pt_gp" => |lun, page| {
            lun.linked()?;
            write!(
                page,
                "TG Port Alias: {DEFAULT}\nTG Port Group ID: 0\n\
                 TG Port Primary Access State: Active/Optimized\nTG Port Primary Access Status: None\n\
                 TG Port Secondary Access State: None\nTG Port Secondary Access Status: None\n"
            )
        }, store_group;
        rw "alua_tg_pt_offline" => zero, store_zero;
        rw "alua_tg_pt_status" => zero, store_zero;
        rw "alua_tg_pt_write_md" => zero, store_zero;
    }
}

/// The directory `alua` of a device.
pub(super) fn groups(device: &Arc<Device>, module: &'static ThisModule) -> Builder<'static> {
    Builder::new(module, "alua")
        .dir(Groups)
        .group(Builder::new(module, DEFAULT).attrs(GROUP, device.clone()))
}

struct Groups;

impl Dir for Groups {
    fn mkdir(&self, dir: &Node, name: &str) -> Result<Tree> {
        Err(dir.reject(
            EOPNOTSUPP,
            fmt!("'{name}': groups beside the default one are not implemented"),
        ))
    }
}

fn show_members(dev: &Device, page: &mut Page<'_>) -> Result {
    dev.each_lun(|lun| {
        let target = lun.tpg().target();
        page.write_fmt(fmt!(
            "{}/{}/tpgt_{}/lun_{}\n",
            target.kind().display_name(),
            target.name(),
            lun.tpg().tag(),
            lun.number().0
        ))
    })
}

fn device(lun: &LunDir, value: &Value<'_>) -> Result {
    match lun.linked() {
        Ok(_) => Ok(()),
        Err(e) => Err(value.reject(e, fmt!("no device is linked here"))),
    }
}

// `NULL` asks for the default group, in which the LUN is.
fn store_group(lun: &LunDir, value: &Value<'_>) -> Result {
    device(lun, value)?;
    match value.str()? {
        DEFAULT | "NULL" => Ok(()),
        _ => Err(refuse(value)),
    }
}

fn zero(lun: &LunDir, page: &mut Page<'_>) -> Result {
    lun.linked()?;
    writeln!(page, "0")
}

fn store_zero(lun: &LunDir, value: &Value<'_>) -> Result {
    device(lun, value)?;
    fixed(value, 0)
}
