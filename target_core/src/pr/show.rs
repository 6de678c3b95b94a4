// SPDX-License-Identifier: GPL-2.0

//! What the files of `core/KIND_N/NAME/pr` say, in the stock modules' words.

use super::{Held, Identity, Reservations};
use crate::device::Device;
use core::fmt;
use kernel::prelude::*;
use lio_configfs::Page;
use lio_scsi::pr::Type;

/// What most files say without one.
const NO_HOLDER: &str = "No SPC-3 Reservation holder";

fn name(kind: Type) -> &'static str {
    match kind {
        Type::WriteExclusive => "Write Exclusive Access",
        Type::ExclusiveAccess => "Exclusive Access",
        Type::WriteExclusiveRegistrantsOnly => "Write Exclusive Access, Registrants Only",
        Type::ExclusiveAccessRegistrantsOnly => "Exclusive Access, Registrants Only",
        Type::WriteExclusiveAllRegistrants => "Write Exclusive Access, All Registrants",
        Type::ExclusiveAccessAllRegistrants => "Exclusive Access, All Registrants",
    }
}

struct Isid<'a>(&'a Identity);

impl fmt::Display for Isid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(isid) = self.0.isid() else {
            return Ok(());
        };
        f.write_str(",i,0x")?;
        isid.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Held {
    // The reservation, its holder, and whether that was registered for all ports.
    fn holder(&self) -> Option<(Type, &Identity, bool)> {
        let held = self.reservation?;
        let all = self
            .registrations
            .iter()
            .find(|r| r.nexus == held.holder)?
            .all_ports;
        Some((held.kind, self.identities.get(held.holder)?, all))
    }
}

impl Reservations {
    // Has `f` write of the reservation, if there is one.
    fn of_holder(
        &self,
        page: &mut Page<'_>,
        f: impl FnOnce(&mut Page<'_>, Type, &Identity, bool) -> Result,
    ) -> Result {
        match self.held.lock().holder() {
            Some((kind, identity, all)) => f(page, kind, identity, all),
            None => writeln!(page, "{NO_HOLDER}"),
        }
    }

    /// `res_holder`
    pub(crate) fn show_holder(&self, page: &mut Page<'_>) -> Result {
        {
            let held = self.held.lock();
            if let Some(legacy) = &held.legacy {
                return writeln!(
                    page,
                    "SPC-2 Reservation: {} Initiator: {}",
                    legacy.fabric,
                    legacy.initiator.to_str().unwrap_or("")
                );
            }
        }
        self.of_holder(page, |page, _, i, _| {
            let (fabric, name) = (i.fabric(), i.name());
            writeln!(
                page,
                "SPC-3 Reservation: {fabric} Initiator: {name}{}",
                Isid(i)
            )
        })
    }

    /// `res_pr_all_tgt_pts`
    pub(crate) fn show_all_ports(&self, page: &mut Page<'_>) -> Result {
        self.of_holder(page, |page, _, _, all| {
            let ports = if all {
                "All Target Ports"
            } else {
                "Single Target Port"
            };
            writeln!(page, "SPC-3 Reservation: {ports} registration")
        })
    }

    /// `res_pr_holder_tg_port`
    pub(crate) fn show_port(&self, device: &Device, page: &mut Page<'_>) -> Result {
        let ports = super::identity::ports(device)?;
        self.of_holder(page, |page, _, i, _| {
            let (fabric, target) = (i.fabric(), i.target());
            writeln!(page, "SPC-3 Reservation: {fabric} Target Node Endpoint: {target}")?;
            writeln!(
                page,
                "SPC-3 Reservation: Relative Port Identifier Tag: {} {fabric} Portal Group Tag: {} {fabric} Logical Unit: {}",
                i.rtpi(&ports),
                i.tag(),
                i.target_lun
            )
        })
    }

    /// `res_pr_type`
    pub(crate) fn show_type(&self, page: &mut Page<'_>) -> Result {
        self.of_holder(page, |page, kind, _, _| {
            writeln!(page, "SPC-3 Reservation Type: {}", name(kind))
        })
    }

    /// `res_type`: whether the reservation in force is one by RESERVE.
    pub(crate) fn is_legacy(&self) -> bool {
        self.held.lock().legacy.is_some()
    }

    /// `res_pr_registered_i_pts`: as many as the page has room for.
    pub(crate) fn show_registered(&self, page: &mut Page<'_>) -> Result {
        let held = self.held.lock();
        writeln!(page, "SPC-3 PR Registrations:")?;
        if held.registrations.is_empty() {
            return writeln!(page, "None");
        }
        for r in held.registrations.iter() {
            let Some(i) = held.identities.get(r.nexus) else {
                continue;
            };
            writeln!(
                page,
                "{} Node: {}{} Key: 0x{:016x} PRgen: 0x{:08x}",
                i.fabric(),
                i.name(),
                Isid(i),
                r.key,
                r.generation
            )?;
        }
        Ok(())
    }

    /// `res_pr_generation`
    pub(crate) fn generation(&self) -> u32 {
        self.held.lock().generation
    }
}
