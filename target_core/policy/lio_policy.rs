// SPDX-License-Identifier: GPL-2.0

//! Placeholder.

#![no_std]
/// One.
pub fn one() -> u8 { 1 }
