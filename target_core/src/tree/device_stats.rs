// SPDX-License-Identifier: GPL-2.0

//! `core/KIND_N/NAME/statistics`: the SCSI MIB of a device (RFC 4455).

use super::wwn;
use crate::device::{Device, Hba};
use kernel::{error::Result, sync::Arc, ThisModule};
use lio_configfs::{attributes, Builder, Page};
use lio_glue::system;

macro_rules! number {
    ($dev:ident, $value:expr) => {
        |$dev, page| writeln!(page, "{}", $value)
    };
}

attributes! {
    static SCSI_DEV: Device = {
        ro "indx" => number!(dev, dev.index());
        ro "inst" => number!(dev, instance(dev.hba()));
        ro "ports" => number!(dev, dev.exports());
        ro "role" => |_, page| writeln!(page, "Target");
    }

    static SCSI_TGT_DEV: Device = {
        ro "aborts_complete" => number!(dev, dev.aborts().0);
        ro "aborts_no_task" => number!(dev, dev.aborts().1);
        ro "indx" => number!(dev, dev.index());
        ro "inst" => number!(dev, instance(dev.hba()));
        ro "non_access_lus" => number!(dev, u32::from(dev.exports() == 0));
        ro "num_lus" => |_, page| writeln!(page, "1");
        ro "resets" => number!(dev, dev.resets());
        ro "status" => number!(dev, if dev.exports() == 0 { "deactivated" } else { "activated" });
    }

    static SCSI_LU: Device = {
        ro "creation_time" => number!(dev, system::centiseconds(dev.created()));
        ro "dev" => number!(dev, dev.index());
        ro "dev_type" => |_, page| writeln!(page, "0");
        ro "full_stat" => number!(dev, dev.stats().full());
        // High-speed counters are for those that wrap too soon; ours have 64 bits.
        ro "hs_num_cmds" => |_, page| writeln!(page, "0");
        ro "indx" => |_, page| writeln!(page, "1");
        ro "inst" => number!(dev, instance(dev.hba()));
        ro "lu_name" => |dev, page| match &*dev.names().lock().serial {
            [] => writeln!(page, "None"),
            serial => padded(page, serial, 0),
        };
        ro "lun" => |_, page| writeln!(page, "0");
        ro "num_cmds" => number!(dev, dev.stats().commands());
        ro "prod" => |dev, page| padded(page, wwn::product(dev, &dev.names().lock()), 16);
        ro "read_mbytes" => number!(dev, dev.stats().read_bytes() >> 20);
        ro "resets" => number!(dev, dev.resets());
        ro "rev" => |dev, page| padded(page, wwn::revision(dev, &dev.names().lock()), 4);
        ro "state_bit" => |_, page| writeln!(page, "exposed");
        ro "status" => number!(dev, if dev.exports() == 0 { "notavailable" } else { "available" });
        ro "vend" => |dev, page| padded(page, wwn::vendor(&dev.names().lock()), 8);
        ro "write_mbytes" => number!(dev, dev.stats().written_bytes() >> 20);
    }
}

pub(super) fn builder(device: &Arc<Device>, module: &'static ThisModule) -> Builder<'static> {
    let group = |name, table| Builder::new(module, name).attrs(table, device.clone());
    Builder::new(module, "statistics")
        .group(group("scsi_dev", SCSI_DEV))
        .group(group("scsi_lu", SCSI_LU))
        .group(group("scsi_tgt_dev", SCSI_TGT_DEV))
}

/// The SCSI instance (scsiInstIndex). 1 is the engine's own.
pub(super) fn instance(hba: &Hba) -> u32 {
    hba.index().wrapping_add(1)
}

// A field of the INQUIRY data in its full width.
fn padded(page: &mut Page<'_>, text: &[u8], width: usize) -> Result {
    page.put(text);
    for _ in text.len()..width {
        page.put(b" ");
    }
    page.put(b"\n");
    Ok(())
}
