// SPDX-License-Identifier: GPL-2.0

//! Primary commands about a unit's parameters, its identity and its buffers (SPC-5 6).

use super::{
    blocks,
    parameters::{mode_unit, respond, respond_counted, respond_up_to},
};
use crate::{backend::Op, command::Command, kept::Failed, lun::Nexus, session::Core, tmf};
use kernel::{prelude::*, sync::Arc};
use lio_scsi::{
    buffer::{self, Target},
    cdb::Command as Cdb,
    diagnostic,
    identifying::{self, Asked, Kind},
    lba::Extent,
    log, mode,
    primary::{ModeSelect, Primary},
    priority,
    sense::{Asc, Key, Sense},
    task, timestamp,
};

/// Blocks that the default self-test reads: 64 KiB at least.
const TEST_BLOCKS: u64 = 128;

/// Bytes of REPORT PRIORITY that are sent at most.
const PRIORITIES: usize = 0x1_0000;

/// Executes `command`.
pub(super) fn execute(session: &Core, cmd: &mut Command, command: &Primary) -> Result<(), Sense> {
    let nexus = cmd.nexus.clone().ok_or(Sense::LUN_NOT_SUPPORTED)?;
    let device = nexus.lun().device();
    if command.changes() && nexus.mapped().write_protect() {
        return Err(Sense::WRITE_PROTECTED);
    }
    match *command {
        Primary::ModeSelect(select) => mode_select(cmd, &nexus, &select),
        Primary::ReceiveDiagnosticResults { allocation } => {
            respond(cmd, allocation.into(), |out| {
                diagnostic::write(out);
                Ok(())
            })
        }
        Primary::SendDiagnostic {
            self_test: true, ..
        } => {
            let blocks = device.capacity().0.min(TEST_BLOCKS);
            blocks::verify(cmd, Extent::new(0, blocks), false, false)
        }
        Primary::SendDiagnostic { list_length, .. } => {
            diagnostic::check(&list(cmd, list_length.into())?)
        }
        Primary::WriteBuffer { to, list_length } => {
            let list = list(cmd, list_length as usize)?;
            match to {
                Target::Data { offset } => device
                    .kept()
                    .write_data(offset as usize, &list)
                    .map_err(|_| Sense::INSUFFICIENT_RESOURCES),
                Target::Echo => {
                    device.kept().write_echo(list);
                    Ok(())
                }
                Target::Nothing => Ok(()),
            }
        }
        Primary::ReadBuffer {
            from,
            descriptor: true,
            allocation,
        } => respond(cmd, allocation, |out| {
            buffer::descriptor(from, out);
            Ok(())
        }),
        Primary::ReadBuffer {
            from, allocation, ..
        } => read_buffer(cmd, &nexus, from, allocation),
        Primary::LogSelect { reset } => {
            if reset != log::Reset::Nothing {
                device.reset_log(reset);
                device.attend_but(Asc::LOG_PARAMETERS_CHANGED, Some(nexus.serial()));
            }
            Ok(())
        }
        Primary::LogSelectList { list_length } => {
            let list = list(cmd, list_length.into())?;
            if device.select_log(|counters| log::select(counters, &list))? {
                device.attend_but(Asc::LOG_PARAMETERS_CHANGED, Some(nexus.serial()));
            }
            Ok(())
        }
        Primary::LogSense {
            request,
            allocation,
        } => {
            let known = log::Known {
                counters: device.log_counters(),
                statistics: device.log_statistics(),
                group: match request {
                    log::Request::Group { number, .. } => device.kept().groups().log(number),
                    _ => log::Statistics::default(),
                },
                exception: device.exception().map(|(exception, _)| exception),
                resources: device.resources(),
                cycles: device.kept().cycles(),
            };
            respond(cmd, allocation.into(), |out| {
                log::write(&request, &known, out)
            })
        }
        Primary::ReportIdentifyingInformation { kind, allocation } => {
            respond(cmd, allocation, |out| {
                let names = device.names().lock();
                match kind {
                    Asked::Supported => identifying::write_supported(out),
                    Asked::Kept(kind @ Kind::Device) => {
                        identifying::write(kind, &names.device_id, out)
                    }
                    Asked::Kept(kind @ Kind::Text) => identifying::write(kind, &names.text_id, out),
                }
                Ok(())
            })
        }
        Primary::SetIdentifyingInformation { kind, list_length } => {
            set_identifying(cmd, &nexus, kind, list_length)
        }
        Primary::ReportTaskManagementFunctions {
            extended,
            allocation,
        } => respond(cmd, allocation, |out| {
            task::write_functions(extended.then_some(tmf::LONGEST), out);
            Ok(())
        }),
        Primary::ReportPriority {
            reported,
            allocation,
        } => respond_counted(cmd, allocation, PRIORITIES, |out| {
            device.report_priorities(session, &nexus, reported, out)
        }),
        Primary::SetPriority { which, list_length } => {
            let change = priority::parse(which, &list(cmd, list_length.into())?)?;
            device.set_priorities(session, &nexus, &change)
        }
        Primary::ReportTimestamp { allocation } => {
            let (now, origin) = device.kept().timestamp(&device.mode().extension());
            respond(cmd, allocation, |out| {
                timestamp::write(now, origin, out);
                Ok(())
            })
        }
        // SPC-4, 6.46
        Primary::SetTimestamp { .. } if device.mode().extension().refuses_timestamps() => {
            Err(Sense::new(Key::IllegalRequest, Asc::INVALID_FIELD_IN_CDB))
        }
        Primary::SetTimestamp { list_length } => {
            if let Some(timestamp) = timestamp::parse(&list(cmd, list_length.into())?)? {
                device.kept().set_timestamp(timestamp);
                device.attend_but(Asc::TIMESTAMP_CHANGED, Some(nexus.serial()));
            }
            Ok(())
        }
    }
}

/// Bytes of memory that executing `command` takes, beside its write data.
pub(super) fn memory(command: &Primary) -> u64 {
    match *command {
        // The list, once more.
        Primary::ModeSelect(ModeSelect { list_length, .. })
        | Primary::SetIdentifyingInformation { list_length, .. }
        | Primary::LogSelectList { list_length }
        | Primary::SetPriority { list_length, .. }
        | Primary::SetTimestamp { list_length } => list_length.into(),
        Primary::WriteBuffer { list_length, .. } => list_length.into(),
        Primary::SendDiagnostic {
            self_test: true, ..
        } => TEST_BLOCKS << 12,
        Primary::SendDiagnostic { list_length, .. } => list_length.into(),
        Primary::ReadBuffer { allocation, .. } => u64::from(allocation.min(buffer::DATA)) * 2,
        Primary::ReportPriority { allocation, .. } => {
            u64::from(allocation).min(PRIORITIES as u64) * 2
        }
        _ => 8192,
    }
}

/// What an operation of `cmd` that failed with `sense` is reported as; the log counts it.
pub(super) fn failed(cmd: &Command, op: Op, sense: Sense) -> Sense {
    if sense.key != Key::MediumError {
        return sense;
    }
    let (Some(nexus), Some(decoded)) = (&cmd.nexus, &cmd.decoded) else {
        return sense;
    };
    let kept = nexus.lun().device().kept();
    match (&decoded.command, op) {
        (Cdb::Primary(Primary::SendDiagnostic { .. }), _) => {
            kept.count_error(Failed::Verify);
            // SPC-5 5.15.2
            return Sense::SELF_TEST_FAILED;
        }
        (Cdb::Verify { .. }, _) => kept.count_error(Failed::Verify),
        (_, Op::Read { .. }) => kept.count_error(Failed::Read),
        _ => kept.count_error(Failed::Write),
    }
    sense
}

// The parameter list of `length` bytes.
fn list(cmd: &Command, length: usize) -> Result<KVVec<u8>, Sense> {
    let mut list =
        KVVec::from_elem(0u8, length, GFP_KERNEL).map_err(|_| Sense::INSUFFICIENT_RESOURCES)?;
    // An initiator may have sent less than it announced.
    if cmd.data.read_at(0, &mut list) < length {
        return Err(Sense::PARAMETER_LIST_LENGTH);
    }
    Ok(list)
}

fn mode_select(cmd: &mut Command, nexus: &Arc<Nexus>, select: &ModeSelect) -> Result<(), Sense> {
    let list = list(cmd, select.list_length.into())?;
    let unit = mode_unit(nexus);
    let device = nexus.lun().device();
    let flush = device.select_mode(nexus, &unit, select.save, |unit| {
        if select.revert {
            return Ok(unit.default);
        }
        mode::select(unit, select.ten, &list)
    })?;
    device.watch_thresholds();
    if flush {
        cmd.op = Op::Flush {
            pos: 0,
            len: u64::MAX,
        };
    }
    Ok(())
}

fn read_buffer(
    cmd: &mut Command,
    nexus: &Arc<Nexus>,
    from: Target,
    allocation: u32,
) -> Result<(), Sense> {
    let kept = nexus.lun().device().kept();
    let most = match from {
        Target::Data { offset } => buffer::DATA.saturating_sub(offset),
        Target::Echo => buffer::ECHO,
        Target::Nothing => 0,
    };
    let length = most.min(allocation) as usize;
    let mut bytes =
        KVVec::from_elem(0u8, length, GFP_KERNEL).map_err(|_| Sense::INSUFFICIENT_RESOURCES)?;
    let length = match from {
        Target::Data { offset } => {
            kept.read_data(offset as usize, &mut bytes);
            length
        }
        Target::Echo => kept
            .read_echo(&mut bytes)
            .ok_or(Sense::COMMAND_SEQUENCE_ERROR)?,
        Target::Nothing => 0,
    };
    respond_up_to(cmd, allocation, length, |out| {
        out.put(bytes.get(..length).unwrap_or(&[]));
        Ok(())
    })
}

fn set_identifying(
    cmd: &Command,
    nexus: &Arc<Nexus>,
    kind: Kind,
    list_length: u16,
) -> Result<(), Sense> {
    let list = list(cmd, list_length.into())?;
    let new = identifying::parse(kind, &list)?;
    let mut kept = KVec::new();
    kept.extend_from_slice(new, GFP_KERNEL)
        .map_err(|_| Sense::INSUFFICIENT_RESOURCES)?;
    let device = nexus.lun().device();
    let old = {
        let mut names = device.names().lock();
        let place = match kind {
            Kind::Device => &mut names.device_id,
            Kind::Text => &mut names.text_id,
        };
        core::mem::replace(place, kept)
    };
    if *old != *new {
        device.attend_but(Asc::DEVICE_IDENTIFIER_CHANGED, Some(nexus.serial()));
    }
    Ok(())
}
