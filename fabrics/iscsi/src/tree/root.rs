// SPDX-License-Identifier: GPL-2.0

//! `target/iscsi/`: `lio_version` and `cpus_allowed_list`.

use crate::target::Global;
use kernel::{prelude::*, str::CString};
use lio_configfs::{attributes, Page, Value};
use lio_glue::thread::CpuList;

/// The version whose files and behaviour these are; tools show it.
pub(crate) const VERSION: &str = "v4.1.0";

attributes! {
    /// Files of `target/iscsi/` itself.
    pub(super) static ROOT: Global = {
        ro "lio_version" => |_, page| writeln!(page, "Datera Inc. iSCSI Target {VERSION}");
        rw "cpus_allowed_list" => show_cpus, store_cpus;
    }
}

fn show_cpus(global: &Global, page: &mut Page<'_>) -> Result {
    let mut text = [0; 1024];
    let n = global.cpus.lock().print(&mut text);
    page.put(text.get(..n).unwrap_or_default());
    page.put(b"\n");
    Ok(())
}

// For all connections: the threads of those that are there move when they have something to do.
fn store_cpus(global: &Global, value: &Value<'_>) -> Result {
    let wrong = |e| value.reject(e, fmt!("a list of CPUs such as 0-3,7 is wanted"));
    let text = value.str()?;
    // What parses it stops at the end of a line, and would not look at the rest.
    if text.contains('\n') {
        return Err(wrong(EINVAL));
    }
    let text = CString::try_from_fmt(fmt!("{}", text))?;
    let cpus = CpuList::parse(&text).map_err(wrong)?;
    if !cpus.any_online() {
        return Err(value.reject(EINVAL, fmt!("none of these CPUs is online")));
    }
    let mut now = global.cpus.lock();
    *now = cpus;
    global
        .cpus_said
        .set(global.cpus_said.get().wrapping_add(1).max(1));
    Ok(())
}
