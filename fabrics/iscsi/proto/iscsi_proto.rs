// SPDX-License-Identifier: GPL-2.0

//! iSCSI, RFC 7143: wire formats and state machines of a target, without I/O.
//!
//! Everything here takes bytes and events and gives bytes and decisions; sockets, memory, time and SCSI are the
//! driver's. Nothing allocates, panics or trusts what an initiator sends.
//!
//! | module | RFC 7143 | what it is |
//! | --- | --- | --- |
//! | [`pdu`] | 11 | requests parsed, responses emitted |
//! | [`ahs`] | 11.2.2 | additional header segments |
//! | [`digest`] | 7.8, 13.1 | which digests are agreed on, what a wrong one costs |
//! | [`sn`] | 4.2.2 | sequence numbers with serial arithmetic |
//! | [`seq`] | 4.2.2 | the command window and the status numbering of a connection |
//! | [`custody`] | 7.2.2, 7.5 | what is kept of a lost connection, and goes on with another |
//! | [`order`] | 4.2.2.1 | the command window of a session that may have several connections |
//! | [`text`], [`value`] | 6.1 | key=value text |
//! | [`keys`] | 13 | the table of keys |
//! | [`negotiate`] | 6.2 | what is agreed on |
//! | [`login`] | 6.3, 11.12, 11.13 | the login phase |
//! | [`recovery`] | 7.1.4, 11.16 | SNACK |
//! | [`transfer`] | 4.2.5, 11.7, 11.8 | write data, R2T, Data-In, residuals |
//! | [`ffp`] | 11.5, 11.10, 11.14, 11.18 | text, logout, NOP and task management in full feature phase |
//! | [`name`] | 4.2.7 | iSCSI names |
//! | [`networks`], [`json`] | | which addresses initiators may have; their texts in the list of sessions |

#![cfg_attr(not(any(MODULE, test)), no_std)]
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

pub mod ahs;
pub mod custody;
pub mod digest;
pub mod error;
pub mod ffp;
pub mod json;
pub mod keys;
pub mod login;
pub mod name;
pub mod negotiate;
pub mod networks;
pub mod order;
pub mod pdu;
#[cfg(test)]
mod properties;
pub mod recovery;
pub mod seq;
pub mod sn;
#[cfg(test)]
mod test_util;
pub mod text;
pub mod transfer;
pub mod value;
pub mod wire;
