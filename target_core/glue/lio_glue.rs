// SPDX-License-Identifier: GPL-2.0

//! The engine's glue: the only place of the engine that holds `unsafe`. Its public API is safe.

mod sys;
pub mod module;
