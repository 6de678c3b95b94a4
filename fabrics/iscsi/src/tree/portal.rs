// SPDX-License-Identifier: GPL-2.0

//! `np/ADDRESS:PORT`.

use crate::{
    group::Group,
    portal::{self, Portal},
};
use kernel::{prelude::*, str::CString, sync::Arc};
use lio_configfs::{attributes, Builder, Dir, Node, Value};
use lio_glue::socket::Address;

/// The directory of a portal, in one group.
pub(super) struct Np {
    group: Arc<Group>,
    portal: Arc<Portal>,
}

attributes! {
    static FILES: Np = {
        rw "iser" => |_, page| writeln!(page, "0"), |_, value| refuse(value, "iSER");
        rw "cxgbit" => |_, page| writeln!(page, "0"), |_, value| refuse(value, "offload to cxgbit adapters");
    }
}

fn refuse(value: &Value<'_>, what: &str) -> Result {
    if value.bool()? {
        return Err(value.reject(EOPNOTSUPP, fmt!("{what} is not implemented yet")));
    }
    Ok(())
}

// `a.b.c.d:port`, or `[ipv6]:port`.
fn parse(name: &str) -> Result<Address> {
    let (ip, port) = match name.strip_prefix('[') {
        Some(rest) => rest.split_once("]:"),
        None => name.split_once(':').filter(|(_, port)| !port.contains(':')),
    }
    .ok_or(EINVAL)?;
    if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err(EINVAL);
    }
    let ip = CString::try_from_fmt(fmt!("{ip}"))?;
    let port = CString::try_from_fmt(fmt!("{port}"))?;
    Address::parse(&ip, &port)
}

/// Makes the directory, and the portal.
pub(super) fn make<'a>(group: &Arc<Group>, name: &str, dir: Builder<'a>) -> Result<Builder<'a>> {
    let complain = |e: Error, why: &str| {
        pr_err!("{}/np/{}: {}\n", group.core.path(), name, why);
        e
    };
    let address = parse(name)
        .map_err(|e| complain(e, "no portal: ADDRESS:PORT or [ADDRESS]:PORT is wanted"))?;
    if address.port() == 0 {
        return Err(complain(EINVAL, "port 0 is no port"));
    }
    let global = &group.target.global;
    let portal = portal::open(global, &address)
        .map_err(|e| complain(e, "cannot listen there (is the port in use?)"))?;
    if let Err(e) = group.target.add_portal(group, &portal) {
        portal::close(global, &portal);
        return Err(match e {
            e if e == EEXIST => complain(e, "a group of the target has this portal already"),
            e => e,
        });
    }
    // From here on, its end closes the portal, also where there is no memory for it.
    let np = Arc::new(
        Np {
            group: group.clone(),
            portal,
        },
        GFP_KERNEL,
    )?;
    Ok(dir.attrs(FILES, np.clone()).dir(np))
}

impl Dir for Np {
    // No login comes through it any more; sessions that did stay.
    fn removed(&self, _dir: &Node) {
        self.close();
    }
}

impl Np {
    fn close(&self) {
        let had = {
            let mut portals = self.group.portals.lock();
            let before = portals.len();
            portals.retain(|p| !Arc::ptr_eq(p, &self.portal));
            before != portals.len()
        };
        if had {
            portal::close(&self.group.target.global, &self.portal);
        }
    }
}

// The directory was never shown: it is as if it had been removed.
impl Drop for Np {
    fn drop(&mut self) {
        self.close();
    }
}
