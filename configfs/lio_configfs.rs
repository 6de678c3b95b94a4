// SPDX-License-Identifier: GPL-2.0

//! configfs.

/// Two.
pub fn two() { let _ = lio_glue::module::request(kernel::c_str!("xxx")); }
