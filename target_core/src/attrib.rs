// SPDX-License-Identifier: GPL-2.0

//! A device's attributes: `core/KIND_N/NAME/attrib`. Read by commands without a lock.

use crate::backend::Geometry;
use kernel::{
    page::PAGE_SIZE,
    sync::atomic::{Atomic, Relaxed},
};

macro_rules! attributes {
    ($(
        $(#[$doc:meta])*
        $name:ident: $type:tt = $default:literal, $set:ident;
    )*) => {
        /// The attributes of a device. Values that a write may not have are refused where the file is; here they are only kept.
        pub struct Attrib {
            $($name: Atomic<u32>,)*
        }

        impl Attrib {
            pub(crate) const fn new() -> Self {
                Attrib { $($name: Atomic::new($default),)* }
            }

            $(
                $(#[$doc])*
                pub fn $name(&self) -> attributes!(@type $type) {
                    attributes!(@get $type, self.$name.load(Relaxed))
                }

                // Where nothing is implemented, nothing is set.
                #[allow(dead_code)]
                pub(crate) fn $set(&self, value: attributes!(@type $type)) {
                    self.$name.store(u32::from(value), Relaxed);
                }
            )*
        }
    };
    (@type bool) => { bool };
    (@type u32) => { u32 };
    (@get bool, $e:expr) => { $e != 0 };
    (@get u32, $e:expr) => { $e };
}

attributes! {
    /// Bytes of a logical block: 512, 1024, 2048 or 4096.
    block_size: u32 = 0, set_block_size;
    /// Sets the INQUIRY product to the device's alias.
    emulate_model_alias: bool = 0, set_emulate_model_alias;
    /// DPO is accepted.
    emulate_dpo: bool = 1, set_emulate_dpo;
    /// FUA is accepted on writes.
    emulate_fua_write: bool = 1, set_emulate_fua_write;
    /// FUA is accepted on reads.
    emulate_fua_read: bool = 1, set_emulate_fua_read;
    /// The device has a volatile write cache.
    emulate_write_cache: bool = 0, set_emulate_write_cache;
    /// UA_INTLCK_CTRL: 0, 1 or 2.
    emulate_ua_intlck_ctrl: u32 = 0, set_emulate_ua_intlck_ctrl;
    /// TAS: commands that another initiator aborted end with TASK ABORTED.
    emulate_tas: bool = 1, set_emulate_tas;
    /// UNMAP.
    emulate_tpu: bool = 0, set_emulate_tpu;
    /// WRITE SAME with the UNMAP bit.
    emulate_tpws: bool = 0, set_emulate_tpws;
    /// COMPARE AND WRITE.
    emulate_caw: bool = 1, set_emulate_caw;
    /// EXTENDED COPY.
    emulate_3pc: bool = 1, set_emulate_3pc;
    /// Persistent reservations.
    emulate_pr: bool = 1, set_emulate_pr;
    /// REPORT SUPPORTED OPERATION CODES.
    emulate_rsoc: bool = 1, set_emulate_rsoc;
    /// QUEUE ALGORITHM MODIFIER: unrestricted reordering.
    emulate_rest_reord: bool = 0, set_emulate_rest_reord;
    /// T10 protection type.
    pi_prot_type: u32 = 0, set_pi_prot_type;
    /// T10 protection of the hardware.
    hw_pi_prot_type: u32 = 0, set_hw_pi_prot_type;
    /// Verify T10 protection.
    pi_prot_verify: bool = 0, set_pi_prot_verify;
    /// Persistent reservations distinguish initiators by ISID.
    enforce_pr_isids: bool = 1, set_enforce_pr_isids;
    /// Registrations persist through power loss.
    force_pr_aptpl: bool = 0, set_force_pr_aptpl;
    /// The medium does not rotate.
    is_nonrot: bool = 0, set_is_nonrot;
    /// Block size of the storage.
    hw_block_size: u32 = 0, set_hw_block_size;
    /// Logical blocks of one transfer.
    hw_max_sectors: u32 = 0, set_hw_max_sectors;
    /// Optimal logical blocks of one transfer.
    optimal_sectors: u32 = 0, set_optimal_sectors;
    /// Commands of the storage.
    hw_queue_depth: u32 = 0, set_hw_queue_depth;
    /// Commands of the device.
    queue_depth: u32 = 0, set_queue_depth;
    /// `queue_depth` as it was written, 0 before: the Max Queue Depth of the `info` file.
    queue_depth_set: u32 = 0, set_queue_depth_set;
    /// The medium can be ejected: RMB.
    removable: bool = 0, set_removable;
    /// SANITIZE: it destroys all data.
    emulate_sanitize: bool = 0, set_emulate_sanitize;
    /// WRITE SAME of no blocks is of all to the end of the medium.
    emulate_write_same_all: bool = 0, set_emulate_write_same_all;
    /// WRITE LONG: it makes blocks unreadable until they are written again.
    emulate_write_long: bool = 0, set_emulate_write_long;
    /// Blocks of one UNMAP.
    max_unmap_lba_count: u32 = 0, set_max_unmap_lba_count;
    /// Descriptors of one UNMAP.
    max_unmap_block_desc_count: u32 = 0, set_max_unmap_block_desc_count;
    /// Blocks: granularity of unmapping.
    unmap_granularity: u32 = 0, set_unmap_granularity;
    /// Blocks: first block that is aligned to the granularity.
    unmap_granularity_alignment: u32 = 0, set_unmap_granularity_alignment;
    /// Unmapped blocks read as zeroes.
    unmap_zeroes_data: bool = 0, set_unmap_zeroes_data;
    /// Blocks of one WRITE SAME.
    max_write_same_len: u32 = 0, set_max_write_same_len;
    /// ALUA is supported.
    alua_support: bool = 1, set_alua_support;
    /// Persistent reservations are supported.
    pgr_support: bool = 1, set_pgr_support;
    /// In which context commands are completed.
    complete_type: u32 = 0, set_complete_type;
    /// In which context commands are submitted.
    submit_type: u32 = 0, set_submit_type;
}

impl Attrib {
    // Takes over what the back end found. A value that was written before stays.
    pub(crate) fn adopt(&self, g: &Geometry) {
        if self.block_size() < g.block_size.min(g.hw_block_size).max(1) {
            self.set_block_size(g.block_size);
        }
        if self.block_size() == g.block_size {
            self.set_pi_prot_type(g.protection);
            self.set_hw_pi_prot_type(g.protection);
        }
        self.set_hw_block_size(g.hw_block_size);
        // Of whole pages, as the stock modules have it: an initiator may lay partitions out by it.
        let page = (PAGE_SIZE as u32).checked_div(g.hw_block_size).unwrap_or(0);
        let rest = g.hw_max_sectors.checked_rem(page.max(1)).unwrap_or(0);
        let sectors = g.hw_max_sectors.saturating_sub(rest);
        self.set_hw_max_sectors(sectors);
        self.set_optimal_sectors(sectors);
        self.set_hw_queue_depth(g.hw_queue_depth);
        self.set_queue_depth(g.hw_queue_depth);
        self.set_max_unmap_lba_count(g.max_unmap_lba_count);
        self.set_max_unmap_block_desc_count(g.max_unmap_block_desc_count);
        self.set_unmap_granularity(g.unmap_granularity);
        self.set_unmap_granularity_alignment(g.unmap_granularity_alignment);
        self.set_unmap_zeroes_data(g.unmap_zeroes_data);
        self.set_max_write_same_len(g.max_write_same_len);
        self.set_is_nonrot(!g.rotational);
    }
}
