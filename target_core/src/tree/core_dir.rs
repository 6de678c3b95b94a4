// SPDX-License-Identifier: GPL-2.0

//! `core/`, with `core/alua/` and the directories `core/KIND_N/` of the kinds of back ends.

use super::{device, fixed, numbered, Root, MODULE, VERSION};
use crate::{
    alua::{LuGroup, DEFAULT_LU_GROUP},
    device::Hba,
    engine, registry,
};
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

    static DEFAULT: Root = {
        rw "lu_gp_id" => |_, page| writeln!(page, "0"), |_, value| match value.u16()? {
            0 => Ok(()),
            _ => Err(value.reject(EINVAL, fmt!("the default group's number is 0"))),
        };
        ro "members" => |root, page| root.each_enabled(|device| match device.lu_group() {
            None => page.write_fmt(fmt!("{}/{}\n", device.hba().name(), device.name())),
            Some(_) => Ok(()),
        });
    }

    static LU_GROUP: LuGroup = {
        rw "lu_gp_id" => |group, page| match group.id() {
            Some(id) => writeln!(page, "{id}"),
            None => Ok(()),
        }, |group, value| {
            let id = value.u16()?;
            engine()?.lu_groups().lock().set_id(group, id)
                .map_err(|e| value.reject(e, fmt!("the group has a number already, or another group has this one")))
        };
        ro "members" => |group, page| group.each(|device| {
            page.write_fmt(fmt!("{}/{}\n", device.hba().name(), device.name()))
        });
    }
}

pub(super) fn builder(root: &Arc<Root>) -> Builder<'static> {
    let groups = Builder::new(&MODULE, "lu_gps")
        .dir(LuGroups)
        .group(Builder::new(&MODULE, DEFAULT_LU_GROUP).attrs(DEFAULT, root.clone()));
    Builder::new(&MODULE, "core")
        .dir(CoreDir(root.clone()))
        .group(Builder::new(&MODULE, "alua").group(groups))
}

struct LuGroups;

impl Dir for LuGroups {
    fn mkdir(&self, dir: &Node, name: &str) -> Result<Tree> {
        let engine = engine()?;
        let group = engine
            .lu_groups()
            .lock()
            .add(CString::try_from_fmt(fmt!("{name}"))?)
            .map_err(|e| dir.reject(e, fmt!("'{name}': there are no more groups")))?;
        let built = Builder::new(&MODULE, name)
            .attrs(LU_GROUP, group.clone())
            .build();
        if built.is_err() {
            engine.lu_groups().lock().remove(&group);
        }
        built
    }

    fn rmdir(&self, _dir: &Node, child: &Node) {
        if let (Some(group), Ok(engine)) = (child.data::<LuGroup>(), engine()) {
            engine.lu_groups().lock().remove(&group);
        }
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
