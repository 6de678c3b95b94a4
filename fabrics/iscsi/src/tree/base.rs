// SPDX-License-Identifier: GPL-2.0

//! Files of `tpgt_N` itself.

use crate::group::Group;
use kernel::prelude::*;
use lio_configfs::{attributes, Page, Value};

attributes! {
    pub(super) static GROUP: Group = {
        ro "dynamic_sessions" => show_dynamic;
        rw "enable" => |g, page| writeln!(page, "{}", u32::from(g.is_enabled())), store_enable;
    }
}

// Each name with a newline and a NUL, as the stock module writes them.
fn show_dynamic(group: &Group, page: &mut Page<'_>) -> Result {
    group.each_session(|s| {
        if s.acl().is_none() {
            let _ = write!(page, "{}\n\0", s.initiator.str());
        }
    });
    Ok(())
}

fn store_enable(group: &Group, value: &Value<'_>) -> Result {
    let on = value.bool()?;
    match (on, group.is_enabled()) {
        (true, false) => group
            .enable()
            .map_err(|e| value.reject(e, fmt!("the group is not enabled: {e:?}")))?,
        (false, true) => group.disable(),
        (true, true) | (false, false) => {}
    }
    Ok(())
}
