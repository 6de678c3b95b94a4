// SPDX-License-Identifier: GPL-2.0

//! `core/KIND_N/NAME/pr`: persistent reservations, of which there are none yet.

use super::refuse;
use crate::device::Device;
use lio_configfs::attributes;

macro_rules! no_holder {
    () => {
        |_, page| write!(page, "No SPC-3 Reservation holder\n")
    };
}

attributes! {
    pub(super) static PR: Device = {
        ro "res_aptpl_active" => |_, page| write!(page, "APTPL Bit Status: Disabled\n");
        // Registrations that were saved cannot be taken up, so they must not be dropped silently.
        rw "res_aptpl_metadata" => |_, page| write!(page, "Ready to process PR APTPL metadata..\n"), |_, value| {
            Err(refuse(value))
        };
        ro "res_holder" => no_holder!();
        ro "res_pr_all_tgt_pts" => no_holder!();
        ro "res_pr_generation" => |_, page| write!(page, "0x00000000\n");
        ro "res_pr_holder_tg_port" => no_holder!();
        ro "res_pr_registered_i_pts" => |_, page| write!(page, "SPC-3 PR Registrations:\nNone\n");
        ro "res_pr_type" => no_holder!();
        ro "res_type" => |_, page| write!(page, "SPC3_PERSISTENT_RESERVATIONS\n");
    }
}
