// SPDX-License-Identifier: GPL-2.0

//! iSCSI wire formats and state machines, RFC 7143.

#![cfg_attr(not(MODULE), no_std)]
#![forbid(unsafe_code)]
