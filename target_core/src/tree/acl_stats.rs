// SPDX-License-Identifier: GPL-2.0

//! `…/acls/NAME/lun_N/statistics`: the SCSI MIB of an initiator (RFC 4455).

use super::acl::MappedDir;
use core::fmt::Write;
use kernel::{error::code::*, prelude::*, sync::Arc, ThisModule};
use lio_configfs::{attributes, Builder, Page};
use lio_glue::system;

// A number about the initiator's LUN; `ENODEV` without one.
macro_rules! number {
    ($dir:ident, $mapped:ident, $value:expr) => {
        |$dir, page| {
            let $mapped = $dir.linked()?;
            let _ = &$mapped;
            writeln!(page, "{}", $value)
        }
    };
}

attributes! {
    static SCSI_AUTH_INTR: MappedDir = {
        ro "att_count" => number!(dir, mapped, 1);
        ro "creation_time" => number!(dir, mapped, system::centiseconds(mapped.stats().created()));
        ro "dev" => number!(dir, mapped, mapped.lun().device().index());
        ro "dev_or_port" => number!(dir, mapped, 1);
        ro "hs_num_cmds" => number!(dir, mapped, 0);
        ro "indx" => number!(dir, mapped, dir.acl().node.index());
        ro "inst" => number!(dir, mapped, dir.acl().tpg.target.fabric.index());
        ro "intr_name" => |dir, page| {
            dir.linked()?;
            page.write_fmt(fmt!("{}\n", dir.acl().node.name()))
        };
        ro "map_indx" => number!(dir, mapped, 0);
        ro "num_cmds" => number!(dir, mapped, mapped.stats().commands());
        ro "port" => number!(dir, mapped, mapped.lun().tpg().tag());
        ro "read_mbytes" => number!(dir, mapped, mapped.stats().read_bytes() >> 20);
        ro "row_status" => number!(dir, mapped, "Ready");
        ro "write_mbytes" => number!(dir, mapped, mapped.stats().written_bytes() >> 20);
    }

    static SCSI_ATT_INTR_PORT: MappedDir = {
        ro "dev" => number!(dir, mapped, mapped.lun().device().index());
        ro "indx" => |dir, page| {
            let index = dir.acl().fabric.attached(&mut Nowhere).ok_or(ENODEV)?;
            writeln!(page, "{index}")
        };
        ro "inst" => number!(dir, mapped, dir.acl().tpg.target.fabric.index());
        ro "port" => number!(dir, mapped, mapped.lun().tpg().tag());
        ro "port_auth_indx" => number!(dir, mapped, dir.acl().node.index());
        ro "port_ident" => show_ident;
    }
}

pub(super) fn builder(mapped: &Arc<MappedDir>, module: &'static ThisModule) -> Builder<'static> {
    let group = |name, table| Builder::new(module, name).attrs(table, mapped.clone());
    Builder::new(module, "statistics")
        .group(group("scsi_att_intr_port", SCSI_ATT_INTR_PORT))
        .group(group("scsi_auth_intr", SCSI_AUTH_INTR))
}

// Takes a text of which only whether there is one matters.
struct Nowhere;

impl Write for Nowhere {
    fn write_str(&mut self, _: &str) -> core::fmt::Result {
        Ok(())
    }
}

fn show_ident(dir: &MappedDir, page: &mut Page<'_>) -> Result {
    let acl = dir.acl();
    page.write_fmt(fmt!("{}+i+", acl.node.name()))?;
    acl.fabric.attached(page as &mut dyn Write).ok_or(ENODEV)?;
    page.put(b"\n");
    Ok(())
}
