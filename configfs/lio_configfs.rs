// SPDX-License-Identifier: GPL-2.0

//! configfs trees, declared where their data is.
//!
//! A directory has attributes ([`attributes!`]) of one or more kinds of data, behaviour ([`Dir`]) if user space can
//! make directories or links in it, and default groups, which come and go with it:
//! ```ignore
//! attributes! {
//!     /// `attrib/` of a target port group.
//!     pub(crate) static ATTRIB: Tpg = {
//!         rw "login_timeout" => |tpg, page| writeln!(page, "{}", tpg.login_timeout()), Tpg::set_login_timeout;
//!         ro "dynamic_sessions" => |tpg, page| writeln!(page, "{}", tpg.sessions());
//!         wo "reset" => |tpg, value| { value.bool()?; tpg.reset() };
//!         0o600 "secret" => show_secret, store_secret;
//!     }
//! }
//!
//! struct Target { /* … */ }
//!
//! impl Dir for Target {
//!     fn mkdir(&self, dir: &Node, name: &str) -> Result<Tree> {
//!         let tpg = self.new_tpg(name).map_err(|e| dir.reject(e, fmt!("'{name}' is no tpgt_N")))?;
//!         Builder::new(MODULE, name)
//!             .attrs(TPG, tpg.clone())
//!             .group(Builder::new(MODULE, "attrib").attrs(ATTRIB, tpg.clone()))
//!             .group(Builder::new(MODULE, "lun").dir(Luns(tpg.clone())))
//!             .data(tpg)
//!             .build()
//!     }
//!
//!     fn rmdir(&self, _dir: &Node, child: &Node) {
//!         if let Some(tpg) = child.data::<Tpg>() {
//!             tpg.stop();
//!         }
//!     }
//! }
//! ```
//! What is locked during which callback, and how long what lives, is said in [`lio_glue::configfs`].

#![deny(unsafe_code)]

mod attr;
mod dir;
mod lines;
mod value;

pub use attr::{Attr, Page};
pub use dir::{Builder, Dir};
pub use lines::Lines;
pub use lio_glue::configfs::{live_nodes, Dependency, Node, Path, Subsystem, Tree, MAX_ATTRS};
pub use value::Value;

const __LOG_PREFIX: &[u8] = b"target_core_mod\0";
