// SPDX-License-Identifier: GPL-2.0

//! The loopback fabric's glue: SCSI hosts and their commands, with a safe API.

#![allow(unsafe_code)]

pub(crate) mod host;
pub(crate) mod scmd;
mod sys;
