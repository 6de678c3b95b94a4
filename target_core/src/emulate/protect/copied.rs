// SPDX-License-Identifier: GPL-2.0

//! Protection information of blocks that a copy reads and writes: as READ and WRITE that transfer none have it checked, and made.

use super::{
    tuples::{check, tuple_at},
    Protected,
};
use crate::{backend::Op, device::Device};
use kernel::prelude::*;
use lio_glue::buffer::Buffer;
use lio_scsi::{
    pi::{Fields, TUPLE},
    sense::Sense,
};

impl Protected {
    /// What goes with `op`, which reads or writes the blocks `data` on `device`; `None` where there is none.
    ///
    /// # Errors
    /// INSUFFICIENT RESOURCES
    pub(crate) fn of_copy(
        device: &Device,
        op: Op,
        data: &Buffer,
    ) -> Result<Option<KBox<Self>>, Sense> {
        let short = |_| Sense::INSUFFICIENT_RESOURCES;
        let (Some(of), Some(pos)) = (device.protection(), position(op)) else {
            return Ok(None);
        };
        let size = device.block_size();
        let rules = device.protection_rules(of, Fields::default(), pos >> size.shift());
        let mut tuples = Buffer::new();
        let blocks = data.len() >> size.shift();
        tuples
            .refill(blocks.saturating_mul(TUPLE), false)
            .map_err(|_| Sense::INSUFFICIENT_RESOURCES)?;
        if matches!(op, Op::Write { .. }) {
            let size = size.bytes() as usize;
            for index in 0..blocks {
                let guard = data.crc_t10dif(index.saturating_mul(size), size);
                let tuple = rules.generate(index as u64, guard);
                tuples.write_at(index.saturating_mul(TUPLE), &tuple.bytes());
            }
        }
        let protected = Protected {
            rules,
            kept: true,
            tuples,
        };
        KBox::new(protected, GFP_KERNEL).map(Some).map_err(short)
    }

    /// The blocks `data` that were read go with it.
    ///
    /// # Errors
    /// The check that fails.
    pub(crate) fn check_copied(&self, device: &Device, data: &Buffer) -> Result<(), Sense> {
        let checks = self.rules.read();
        if !checks.any() {
            return Ok(());
        }
        let size = device.block_size().bytes() as usize;
        for index in 0..self.tuples.len() / TUPLE {
            let tuple = tuple_at(&self.tuples, index.saturating_mul(TUPLE));
            let guard = || data.crc_t10dif(index.saturating_mul(size), size);
            check(&self.rules, checks, index as u64, tuple, guard)?;
        }
        Ok(())
    }
}

fn position(op: Op) -> Option<u64> {
    match op {
        Op::Read { pos, .. } | Op::Write { pos, .. } => Some(pos),
        _ => None,
    }
}
