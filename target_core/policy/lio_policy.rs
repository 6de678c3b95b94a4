// SPDX-License-Identifier: GPL-2.0

//! What the engine decides, apart from how it is done: decisions over plain values, with no locks, no memory, no time of
//! their own. The engine asks, applies the answer, and may ask again.
//!
//! | module | what |
//! | --- | --- |
//! | [`alua`] | asymmetric access states: groups, which command is processed when, user data segments |
//! | [`attention`] | unit attention conditions of an I_T_L nexus |
//! | [`flaws`] | blocks that are to be unreadable |
//! | [`latency`] | histograms of how long commands take |
//! | [`pr`] | persistent reservations, and what they leave of access |
//! | [`rate`] | rates that commands are held to |
//! | [`regions`] | where a command writes, in one word |
//! | [`shares`] | whose command is next where a device has more to do than it does at once |
//! | [`mode`] | changes of mode parameters |

#![cfg_attr(not(MODULE), no_std)]
#![forbid(unsafe_code)]
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    clippy::todo,
    clippy::string_slice,
    missing_docs
)]
#![cfg_attr(
    test,
    allow(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

#[cfg(test)]
extern crate std;

pub mod alua;
pub mod attention;
pub mod flaws;
pub mod latency;
pub mod mode;
pub mod order;
pub mod pr;
pub mod rate;
pub mod regions;
pub mod shares;
