// SPDX-License-Identifier: GPL-2.0

//! `core/KIND_N/NAME/pr`: persistent reservations, of which there are none yet.

use super::refuse;
use crate::device::Device;
use lio_configfs::attributes;

macro_rules! no_holder {
    () => {
        |_, page| writeln!(page, "No SPC-3 Reservation holder")
    };
}

attributes! {
    pub(super) static PR: Device = {
        ro "res_aptpl_active" => |_, page| writeln!(page, "APTPL Bit Status: Disabled");
        // Registrations that were saved cannot be taken up, so they must not be dropped silently.
        rw "res_aptpl_metadata" => |_, page| writeln!(page, "Ready to process PR APTPL metadata.."), |_, value| {
            Err(refuse(value))
        };
        ro "res_holder" => no_holder!();
        ro "res_pr_all_tgt_pts" => no_holder!();
        ro "res_pr_generation" => |_, page| writeln!(page, "0x00000000");
        ro "res_pr_holder_tg_port" => no_holder!();
        ro "res_pr_registered_i_pts" => |_, page| writeln!(page, "SPC-3 PR Registrations:\nNone");
        ro "res_pr_type" => no_holder!();
        ro "res_type" => |_, page| writeln!(page, "SPC3_PERSISTENT_RESERVATIONS");
    }
}
