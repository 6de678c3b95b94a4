// SPDX-License-Identifier: GPL-2.0

//! `…/lun_N/statistics`: the SCSI MIB of a target port (RFC 4455).

use super::{device_stats::instance, lun::LunDir, wwn};
use kernel::{prelude::*, sync::Arc, ThisModule};
use lio_configfs::{attributes, Builder};

macro_rules! number {
    ($lun:ident, $value:expr) => {
        |dir, page| {
            let $lun = dir.linked()?;
            writeln!(page, "{}", $value)
        }
    };
}
macro_rules! zero {
    () => {
        |dir, page| {
            dir.linked()?;
            writeln!(page, "0")
        }
    };
}

attributes! {
    static SCSI_PORT: LunDir = {
        ro "busy_count" => number!(lun, lun.stats().full());
        ro "dev" => number!(lun, lun.device().index());
        ro "indx" => number!(lun, lun.tpg().rtpi());
        ro "inst" => number!(lun, instance(lun.device().hba()));
        ro "role" => |dir, page| writeln!(page, "Device{}", dir.linked()?.device().index());
    }

    static SCSI_TGT_PORT: LunDir = {
        ro "dev" => number!(lun, lun.device().index());
        ro "hs_in_cmds" => zero!();
        ro "in_cmds" => number!(lun, lun.stats().commands());
        ro "indx" => number!(lun, lun.tpg().rtpi());
        ro "inst" => number!(lun, instance(lun.device().hba()));
        ro "name" => |dir, page| {
            let lun = dir.linked()?;
            writeln!(page, "{}Port#{}", lun.tpg().target().kind().display_name(), lun.tpg().rtpi())
        };
        ro "port_index" => |dir, page| {
            let lun = dir.linked()?;
            page.write_fmt(fmt!("{}+t+{}\n", lun.tpg().target().name(), lun.tpg().tag()))
        };
        ro "read_mbytes" => number!(lun, lun.stats().read_bytes() >> 20);
        ro "write_mbytes" => number!(lun, lun.stats().written_bytes() >> 20);
    }

    static SCSI_TRANSPORT: LunDir = {
        ro "dev_name" => |dir, page| {
            let lun = dir.linked()?;
            let names = lun.device().names().lock();
            page.write_fmt(fmt!("{}+", lun.tpg().target().name()))?;
            page.put(match &*names.serial {
                [] => wwn::vendor(&names),
                serial => serial,
            });
            page.put(b"\n");
            Ok(())
        };
        ro "device" => |dir, page| {
            writeln!(page, "scsiTransport{}", dir.linked()?.tpg().target().kind().display_name())
        };
        ro "indx" => |dir, page| {
            dir.linked()?;
            writeln!(page, "{}", dir.tpg().target.fabric.index())
        };
        ro "inst" => number!(lun, instance(lun.device().hba()));
        ro "proto_id" => number!(lun, lun.tpg().protocol() as u32);
    }
}

pub(super) fn builder(lun: &Arc<LunDir>, module: &'static ThisModule) -> Builder<'static> {
    let group = |name, table| Builder::new(module, name).attrs(table, lun.clone());
    Builder::new(module, "statistics")
        .group(group("scsi_port", SCSI_PORT))
        .group(group("scsi_tgt_port", SCSI_TGT_PORT))
        .group(group("scsi_transport", SCSI_TRANSPORT))
}
