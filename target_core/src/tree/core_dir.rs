// SPDX-License-Identifier: GPL-2.0

//! `core/`, with `core/alua/` and the directories `core/KIND_N/` of the kinds of back ends.

use super::{device, fixed, numbered, Root, MODULE, VERSION};
use crate::{device::Hba, registry};
use kernel::{error::code::*, prelude::*, str::CString, sync::Arc, ThisModule};
use lio_configfs::{attributes, Builder, Dir, Node, Tree};

attributes! {
    static HBA: HbaDir = {
        ro "hba_info" => |dir, page| writeln!(page, "HBA Index: {} plugin: {} version: {VERSION}",
            dir.hba.index(),
            dir.hba.kind().name()
        );
        rw "hba_mode" => |_, page| writeln!(page, "0"), |_, value| fixed(value, 0);
    }

    static DEFAULT_LU_GROUP: Root = {
        rw "lu_gp_id" => |_, page| writeln!(page, "0"), |_, value| fixed(value, 0);
        ro "members" => |root, page| root.each_enabled(|device| {
            page.write_fmt(fmt!("{}/{}\n", device.hba().name(), device.name()))
        });
    }
}

pub(super) fn builder(root: &Arc<Root>) -> Builder<'static> {
    let groups = Builder::new(&MODULE, "lu_gps")
        .dir(LuGroups)
        .group(Builder::new(&MODULE, "default_lu_gp").attrs(DEFAULT_LU_GROUP, root.clone()));
    Builder::new(&MODULE, "core")
        .dir(CoreDir(root.clone()))
        .group(Builder::new(&MODULE, "alua").group(groups))
}

struct LuGroups;

impl Dir for LuGroups {
    fn mkdir(&self, dir: &Node, name: &str) -> Result<Tree> {
        Err(dir.reject(
            EOPNOTSUPP,
            fmt!("'{name}': groups beside the default one are not implemented"),
        ))
    }
}

struct CoreDir(Arc<Root>);

impl Dir for CoreDir {
    fn mkdir(&self, dir: &Node, name: &str) -> Result<Tree> {
        let kind = name
            .rsplit_once('_')
            .filter(|(_, number)| numbered(number, "").is_some());
        let Some((kind, _)) = kind else {
            return Err(dir.reject(
                EINVAL,
                fmt!("'{name}' is not a kind of back end with an underscore and a number"),
            ));
        };
        let (kind, module, pin) = registry::backend(kind)
            .map_err(|_| dir.reject(EINVAL, fmt!("no module brings back ends called '{kind}'")))?;
        let hba = Hba::new(kind, CString::try_from_fmt(fmt!("{name}"))?, pin)?;
        let hba = Arc::new(
            HbaDir {
                hba,
                module,
                root: self.0.clone(),
            },
            GFP_KERNEL,
        )?;
        Builder::new(module, name)
            .attrs(HBA, hba.clone())
            .dir(hba)
            .build()
    }
}

struct HbaDir {
    hba: Arc<Hba>,
    module: &'static ThisModule,
    root: Arc<Root>,
}

impl Dir for HbaDir {
    fn mkdir(&self, _dir: &Node, name: &str) -> Result<Tree> {
        device::build(&self.root, &self.hba, self.module, name)
    }
}
