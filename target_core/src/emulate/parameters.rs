// SPDX-License-Identifier: GPL-2.0

//! Commands that answer with parameter data (SPC-5 6, SBC-4 5).

use super::alua;
use crate::{
    admit,
    command::{Command, Direction},
    device::Device,
    lun::Nexus,
    session::Core,
    tpg::Tpg,
};
use kernel::{prelude::*, rbtree::RBTree, sync::Arc};
use lio_scsi::{
    alua::State,
    bytes::Writer,
    capacity::Capacity,
    cdb::Command as Cdb,
    inquiry::{self, Alua, Identity, Port, Unit},
    lun::Lun as LunNumber,
    luns, mode, opcode, pi,
    sense::{Asc, Format, Key, Sense},
    vpd::Provisioning,
};

/// Bytes of parameter data that commands other than REPORT LUNS answer with at most.
const MOST: usize = 4096;
/// The SCSI ports page; ports in it, at most, of which each takes so many bytes at most.
const PORTS_PAGE: u8 = 0x88;
const MOST_PORTS: usize = 192;
const PORT: usize = 12 + 4 + 256;
/// LUNs that a target port group has at most.
const MOST_LUNS: usize = 1 << 16;

/// Answers a command with parameter data.
pub(super) fn answer(session: &Core, cmd: &mut Command, command: &Cdb) -> Result<(), Sense> {
    let nexus = cmd.nexus.clone();
    match (*command, &nexus) {
        (Cdb::ReportLuns { select, allocation }, _) => {
            return report_luns(session, cmd, select, allocation);
        }
        (Cdb::Inquiry { page, allocation }, None) => {
            // No logical unit: only the standard data can say so.
            if page != inquiry::Page::Standard {
                return Err(Sense::invalid_cdb_bit(1, 0));
            }
            return respond(cmd, allocation, |out| {
                inquiry::absent(out);
                Ok(())
            });
        }
        (
            Cdb::RequestSense {
                descriptor,
                allocation,
            },
            _,
        ) => {
            let sense = match &nexus {
                Some(nexus) => {
                    // Without an attention, what can be polled for (SPC-4 5.12.2).
                    let condition = || nexus.lun().device().condition()?.sense();
                    let sense = nexus.take_attention().or_else(condition);
                    let sense = sense.unwrap_or_else(|| state(nexus));
                    cmd.told = admit::tells_of(Some(nexus), &sense);
                    sense
                }
                None => Sense::LUN_NOT_SUPPORTED,
            };
            let format = if descriptor {
                Format::Descriptor
            } else {
                Format::Fixed
            };
            return respond(cmd, allocation, |out| {
                out.put(sense.encode(format).as_slice());
                Ok(())
            });
        }
        _ => (),
    }
    let nexus = nexus.ok_or(Sense::LUN_NOT_SUPPORTED)?;
    let dev = nexus.lun().device();
    match *command {
        Cdb::Inquiry { page, allocation } => with_unit(&nexus, page, |unit| {
            let most = inquiry_most(page);
            respond_up_to(cmd, allocation, most, |out| inquiry::write(unit, page, out))
        }),
        Cdb::ModeSense {
            request,
            allocation,
        } => {
            let unit = mode_unit(&nexus);
            respond(cmd, allocation, |out| mode::write(&unit, &request, out))
        }
        Cdb::ReadCapacity10 => respond(cmd, 8, |out| {
            capacity(dev).write_10(out);
            Ok(())
        }),
        Cdb::ReadCapacity16 { allocation } => respond(cmd, allocation, |out| {
            let capacity = Capacity {
                protection: nexus.protection(),
                ..capacity(dev)
            };
            capacity.write_16(out);
            Ok(())
        }),
        Cdb::ReportSupportedOperationCodes {
            request,
            allocation,
        } => {
            let features = nexus.features(nexus.lun().port());
            respond(cmd, allocation, |out| {
                opcode::report(&request, &features, out)
            })
        }
        Cdb::ReportTargetPortGroups {
            extended,
            allocation,
        } => alua::report_groups(cmd, &nexus, extended, allocation),
        Cdb::SetTargetPortGroups { list_length } => alua::set_groups(cmd, &nexus, list_length),
        Cdb::ReportReferrals {
            lba,
            one_segment,
            allocation,
        } => alua::report_referrals(cmd, &nexus, lba, one_segment, allocation),
        _ => Err(Sense::INVALID_OPERATION_CODE),
    }
}

// What REQUEST SENSE says where no unit attention waits (SPC-5 6.39): why TEST UNIT READY would fail, or an informational exception.
fn state(nexus: &Nexus) -> Sense {
    let device = nexus.lun().device();
    if device.backend().is_gone() {
        return Sense::OFFLINE;
    }
    match device.exception() {
        Some((exception, true)) => Sense::new(Key::NoSense, exception),
        _ => Sense::NO_SENSE,
    }
}

/// Bytes of parameter data that `command` is answered with at most.
pub(super) fn most(command: &Cdb) -> u64 {
    match command {
        Cdb::ReportLuns { .. } => luns::length(MOST_LUNS) as u64,
        Cdb::ReportTargetPortGroups { .. } => alua::MOST_GROUPS as u64,
        Cdb::ReportReferrals { .. } => alua::MOST_REFERRALS as u64,
        Cdb::Inquiry { page, .. } => inquiry_most(*page) as u64,
        _ => MOST as u64,
    }
}

// Bytes of an INQUIRY page: that of all ports has many.
fn inquiry_most(page: inquiry::Page) -> usize {
    match page {
        inquiry::Page::Vpd(PORTS_PAGE) => MOST.saturating_add(MOST_PORTS.saturating_mul(PORT)),
        _ => MOST,
    }
}

// Has `f` write the data, and transfers as much of it as the CDB's allocation length and the initiator allow.
pub(super) fn respond(
    cmd: &mut Command,
    allocation: u32,
    f: impl FnOnce(&mut Writer<'_>) -> Result<(), Sense>,
) -> Result<(), Sense> {
    respond_up_to(cmd, allocation, MOST, f)
}

// The same for long data: what is beyond the allocation length is counted, and not sent.
pub(super) fn respond_counted(
    cmd: &mut Command,
    allocation: u32,
    most: usize,
    f: impl FnOnce(&mut Writer<'_>) -> Result<(), Sense>,
) -> Result<(), Sense> {
    let most = most.min(allocation as usize).max(8);
    let mut page =
        KVVec::from_elem(0u8, most, GFP_KERNEL).map_err(|_| Sense::INSUFFICIENT_RESOURCES)?;
    let mut out = Writer::new(&mut page);
    f(&mut out)?;
    let length = out.len();
    send(cmd, allocation, out.as_slice())?;
    // The data may be longer than what there was room for, which the residual is about as well.
    cmd.set_residual(length.min(allocation as usize) as u64);
    Ok(())
}

// The same with up to `most` bytes of data.
pub(super) fn respond_up_to(
    cmd: &mut Command,
    allocation: u32,
    most: usize,
    f: impl FnOnce(&mut Writer<'_>) -> Result<(), Sense>,
) -> Result<(), Sense> {
    let mut page =
        KVVec::from_elem(0u8, most, GFP_KERNEL).map_err(|_| Sense::INSUFFICIENT_RESOURCES)?;
    let mut out = Writer::new(&mut page);
    f(&mut out)?;
    send(cmd, allocation, out.as_slice())
}

pub(super) fn send(cmd: &mut Command, allocation: u32, bytes: &[u8]) -> Result<(), Sense> {
    let length = bytes.len().min(allocation as usize);
    cmd.set_residual(length as u64);
    if cmd.direction != Direction::Read {
        return Ok(());
    }
    let n = length.min(cmd.expected as usize);
    if !cmd.data.is_borrowed() {
        cmd.data
            .refill(n, false)
            .map_err(|_| Sense::INSUFFICIENT_RESOURCES)?;
    }
    cmd.data.write_at(0, bytes.get(..n).unwrap_or(bytes));
    Ok(())
}

fn report_luns(
    session: &Core,
    cmd: &mut Command,
    select: luns::Select,
    allocation: u32,
) -> Result<(), Sense> {
    // What the attention says is reported with this, for all of the session's logical units. Before they are looked at: of what changes
    // from now on it tells again.
    for (_, nexus) in session.nexuses() {
        nexus.forget(Asc::REPORTED_LUNS_CHANGED);
    }
    let count = session.nexuses().count();
    let mut page = KVVec::from_elem(0u8, luns::length(count.saturating_add(1)), GFP_KERNEL)
        .map_err(|_| Sense::INSUFFICIENT_RESOURCES)?;
    let mut out = Writer::new(&mut page);
    let numbers = session
        .nexuses()
        .take(count)
        .filter_map(|(n, _)| u16::try_from(n).ok().map(LunNumber));
    luns::write(select, numbers, &mut out);
    send(cmd, allocation, out.as_slice())
}

pub(super) fn capacity(dev: &Device) -> Capacity {
    let (physical_exponent, lowest_aligned) = dev.physical();
    Capacity {
        blocks: dev.capacity(),
        block_size: dev.block_size(),
        physical_exponent,
        lowest_aligned,
        provisioning: dev.provisioning(),
        protection: dev.protection(),
    }
}

pub(super) fn mode_unit(nexus: &Nexus) -> mode::Unit {
    let dev = nexus.lun().device();
    let values = dev.mode_values();
    mode::Unit {
        blocks: dev.capacity(),
        block_size: dev.block_size(),
        write_protected: nexus.mapped().write_protect() || dev.read_only(),
        dpo_fua: dev.features().dpo_fua,
        protection: nexus.protection(),
        restricted_reordering: dev.attrib().emulate_rest_reord(),
        implicit_alua: dev.attrib().alua_support() && nexus.lun().port().implicit(),
        may_change: !nexus.mapped().write_protect(),
        switches_write_cache: dev.switches_write_cache(),
        knows_resources: dev.resources().is_some(),
        current: values.current,
        default: values.default,
        saved: dev.saves_mode().then_some(values.kept()),
    }
}

// Calls `f` with all that INQUIRY tells of the logical unit.
fn with_unit(
    nexus: &Arc<Nexus>,
    page: inquiry::Page,
    f: impl FnOnce(&Unit<'_>) -> Result<(), Sense>,
) -> Result<(), Sense> {
    let lun = nexus.lun();
    let dev = lun.device();
    let tpg = lun.tpg();
    let names = dev.names().lock();
    let or = |set: &'_ KVec<u8>, default: &'static str| -> KVec<u8> {
        let mut v = KVec::new();
        let from: &[u8] = if set.is_empty() {
            default.as_bytes()
        } else {
            set
        };
        // Without memory the name is shorter; it never is wrong otherwise.
        let _ = v.extend_from_slice(from, GFP_KERNEL);
        v
    };
    let vendor = or(&names.vendor, "LIO-ORG");
    let product = or(&names.product, dev.hba().kind().product());
    let revision = or(&names.revision, "4.0");
    let mut serial = KVec::new();
    serial
        .extend_from_slice(&names.serial, GFP_KERNEL)
        .map_err(|_| Sense::INSUFFICIENT_RESOURCES)?;
    let company_id = names.company.unwrap_or(0x00_1405);
    drop(names);
    let alua = dev.attrib().alua_support();
    let access = lun.port();
    let lu_group = dev.lu_group().map_or(Some(0), |group| group.id());
    let segments = dev.alua().segments();
    let tpgs = match page {
        inquiry::Page::Vpd(PORTS_PAGE) => {
            ports_of(dev).map_err(|_| Sense::INSUFFICIENT_RESOURCES)?
        }
        _ => KVec::new(),
    };
    let mut ports = KVec::new();
    for tpg in &tpgs {
        ports
            .push(port(tpg), GFP_KERNEL)
            .map_err(|_| Sense::INSUFFICIENT_RESOURCES)?;
    }
    let unit = Unit {
        identity: Identity {
            vendor: &vendor,
            product: &product,
            revision: &revision,
            serial: (!serial.is_empty()).then_some(&*serial),
            company_id,
            lu_group: lu_group.filter(|_| alua),
        },
        port: Port {
            group: alua.then_some(access.group()),
            ..port(tpg)
        },
        ports: &ports,
        alua: Alua {
            implicit: alua && access.implicit(),
            explicit: alua && access.explicit(),
        },
        third_party_copy: dev.attrib().emulate_3pc(),
        block_size: dev.block_size(),
        multi_port: dev.exports() > 1,
        write_cache: dev.backend().write_cache(),
        unavailable: access.state() == Some(State::Unavailable),
        removable: dev.attrib().removable(),
        protect: nexus.protection().is_some() || dev.features().protectable,
        protection_types: match (dev.attrib().hw_pi_prot_type(), dev.protection()) {
            // The port's own.
            (0, None) if nexus.protection() == Some(pi::Type::One) => pi::TYPE_1_ALONE,
            (0, None) if nexus.protection().is_some() => pi::TYPE_3_ALONE,
            (0, _) => pi::ALL_TYPES,
            (1, _) => pi::TYPE_1_ALONE,
            _ => pi::TYPE_3_ALONE,
        },
        protection_checks: dev.checks_protection(),
        block_erase: dev.attrib().emulate_sanitize() && dev.provisioning().is_thin(),
        write_long: dev.attrib().emulate_write_long(),
        non_rotating: dev.attrib().is_nonrot(),
        provisioning: Provisioning {
            threshold_exponent: dev.resources().map_or(0, |_| dev.threshold_exponent()),
            ..dev.provisioning()
        },
        limits: dev.limits(),
        referrals: segments.map(|s| {
            let map = s.map();
            (map.size, map.multiplier)
        }),
    };
    f(&unit)
}

// The groups whose ports lead to the device, each once, in order.
fn ports_of(dev: &Device) -> Result<KVec<Arc<Tpg>>> {
    let mut sorted = RBTree::new();
    dev.each_lun(|lun| {
        let tpg = lun.tpg();
        sorted.try_create_and_insert(tpg.rtpi(), tpg.clone(), GFP_KERNEL)?;
        Ok(())
    })?;
    let mut tpgs = KVec::new();
    for tpg in sorted.values().take(MOST_PORTS) {
        tpgs.push(tpg.clone(), GFP_KERNEL)?;
    }
    Ok(tpgs)
}

fn port(tpg: &Tpg) -> Port<'_> {
    Port {
        protocol: tpg.protocol().identifier(),
        relative_id: tpg.rtpi(),
        group: None,
        target: tpg.target().name().to_bytes(),
        tag: tpg.tag(),
    }
}
