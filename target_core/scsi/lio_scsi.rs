// SPDX-License-Identifier: GPL-2.0

//! SCSI as bytes and values: the wire formats of SAM-5, SPC-4 and SBC-3 that a direct access block device needs.
//!
//! Everything here is pure: no allocation, no I/O, no panic. What comes from an initiator is a `&[u8]` of any length and
//! content; what goes out is written through [`bytes::Writer`], which keeps the allocation length semantic.
//!
//! | module | what |
//! | --- | --- |
//! | [`cdb`] | a CDB, decoded once into [`cdb::Command`]; its data transfer and its limits |
//! | [`opcode`] | the one table of supported commands: it dispatches [`cdb::decode`] and answers RSOC |
//! | [`block`] | commands of block devices beyond reading and writing |
//! | [`sense`], [`status`] | sense data, additional sense codes, status codes |
//! | [`lba`] | logical block addresses, counts, sizes and ranges |
//! | [`lun`], [`task`] | LUNs, tags, task attributes, task management |
//! | [`inquiry`], [`vpd`] | standard INQUIRY data and vital product data pages |
//! | [`mode`], [`capacity`], [`luns`], [`alua`] | parameter data of the other commands |
//! | [`primary`] | the fields of primary commands that are about parameters, identity and buffers |
//! | [`buffer`], [`diagnostic`], [`identifying`], [`log`], [`timestamp`] | their parameter data |
//! | [`pr`] | reservations: parameter data, TransportIDs, what they do to each command |
//! | [`copy`] | third-party copy |
//! | [`groups`] | the grouping function and its mode page |
//! | [`unmap`] | the UNMAP parameter list |

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
pub mod block;
pub mod buffer;
pub mod bytes;
pub mod capacity;
pub mod cdb;
pub mod copy;
pub mod diagnostic;
pub mod groups;
pub mod identifying;
pub mod inquiry;
pub mod lba;
pub mod log;
pub mod lun;
pub mod luns;
pub mod mode;
pub mod opcode;
pub mod pi;
pub mod pr;
pub mod primary;
pub mod priority;
pub mod provisioning;
pub mod sense;
pub mod status;
pub mod task;
pub mod timestamp;
pub mod unmap;
pub mod vpd;

#[cfg(test)]
mod selftest;
