// SPDX-License-Identifier: GPL-2.0

//! The engine.
use kernel::prelude::*;

module! {
    type: Engine,
    name: "target_core_mod",
    authors: ["The lio-rs authors"],
    description: "SCSI target engine",
    license: "GPL",
}

struct Engine;
impl kernel::Module for Engine {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        
        pr_info!("loaded, with {} commands\n", lio_scsi::opcode::TABLE.len());
        Ok(Engine)
    }
}
