// SPDX-License-Identifier: GPL-2.0

//! The engine's glue: the only place of the engine that holds `unsafe`. Its public API is safe.

pub mod bdev;
pub mod bio;
pub mod buffer;
pub mod clock;
pub mod configfs;
pub mod crypto;
pub mod defer;
pub mod file;
pub mod gate;
pub mod global;
mod lock_class;
pub mod module;
pub mod noio;
pub mod once_box;
pub mod page_store;
pub mod percpu;
pub mod rcu_box;
pub mod rcu_map;
pub mod replace;
pub mod slot;
pub mod socket;
mod sys;
pub mod system;
pub mod tags;
pub mod thread;
pub mod trace;
pub mod transfer;
pub mod wait;
pub mod workqueue;

const __LOG_PREFIX: &[u8] = b"target_core_mod\0";
