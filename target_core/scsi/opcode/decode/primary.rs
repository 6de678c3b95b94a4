// SPDX-License-Identifier: GPL-2.0

//! Primary commands about a unit's parameters, its identity and its buffers (SPC-4, clause 6).

use super::{Decoded, Raw};
use crate::{
    buffer,
    cdb::Command,
    diagnostic,
    identifying::{Asked, Kind},
    log, mode,
    primary::{ModeSelect, Primary},
    priority,
    sense::Sense,
    timestamp,
};

/// PF, RTD and SP (SPC-5, 6.15). `length_at` is the byte of the PARAMETER LIST LENGTH.
fn mode_select(flags: u8, ten: bool, list_length: u16, length_at: u16) -> Decoded {
    let (pages, revert) = (flags & 0x10 != 0, flags & 0x02 != 0);
    // Without PF the pages would be vendor specific.
    if !pages && list_length != 0 {
        return Err(Sense::invalid_cdb_bit(1, 4));
    }
    // With RTD there is no list.
    if revert && list_length != 0 || usize::from(list_length) > mode::MAX_LIST {
        return Err(Sense::invalid_cdb_byte(length_at));
    }
    Ok(Command::Primary(Primary::ModeSelect(ModeSelect {
        ten,
        revert,
        save: flags & 0x01 != 0,
        list_length,
    })))
}

pub(in crate::opcode) fn mode_select_6(raw: &Raw) -> Decoded {
    let [_, flags, _, _, length, ..] = *raw;
    mode_select(flags, false, length.into(), 4)
}

pub(in crate::opcode) fn mode_select_10(raw: &Raw) -> Decoded {
    let [_, flags, _, _, _, _, _, l0, l1, ..] = *raw;
    mode_select(flags, true, u16::from_be_bytes([l0, l1]), 7)
}

pub(in crate::opcode) fn receive_diagnostic_results(raw: &Raw) -> Decoded {
    let [_, flags, page, l0, l1, ..] = *raw;
    // Without PCV, the page is that of the last SEND DIAGNOSTIC: there is no other (SPC-4, 6.20).
    let known = page == diagnostic::SUPPORTED || flags & 0x01 == 0;
    if !known {
        return Err(Sense::invalid_cdb_byte(2));
    }
    Ok(Command::Primary(Primary::ReceiveDiagnosticResults {
        allocation: u16::from_be_bytes([l0, l1]),
    }))
}

/// SPC-4, 6.42. DEVOFFL and UNITOFFL allow what the self-test does not do.
pub(in crate::opcode) fn send_diagnostic(raw: &Raw) -> Decoded {
    let [_, flags, _, l0, l1, ..] = *raw;
    let list_length = u16::from_be_bytes([l0, l1]);
    let self_test = flags & 0x04 != 0;
    // SELF-TEST CODE: there are no other tests than the default one.
    if flags & 0xe0 != 0 {
        return Err(Sense::invalid_cdb_bit(1, 7));
    }
    if self_test && list_length != 0 || usize::from(list_length) > diagnostic::MAX_LIST {
        return Err(Sense::invalid_cdb_byte(3));
    }
    // Without PF the list would be vendor specific.
    if flags & 0x10 == 0 && list_length != 0 {
        return Err(Sense::invalid_cdb_bit(1, 4));
    }
    Ok(Command::Primary(Primary::SendDiagnostic {
        self_test,
        list_length,
    }))
}

pub(in crate::opcode) fn write_buffer(raw: &Raw) -> Decoded {
    let [_, mode, id, o0, o1, o2, l0, l1, l2, ..] = *raw;
    let list_length = u32::from_be_bytes([0, l0, l1, l2]);
    let offset = u32::from_be_bytes([0, o0, o1, o2]);
    Ok(Command::Primary(Primary::WriteBuffer {
        to: buffer::write(mode & 0x1f, id, offset, list_length)?,
        list_length,
    }))
}

pub(in crate::opcode) fn read_buffer(raw: &Raw) -> Decoded {
    let [_, mode, id, o0, o1, o2, l0, l1, l2, ..] = *raw;
    let offset = u32::from_be_bytes([0, o0, o1, o2]);
    let (from, descriptor) = buffer::read(mode & 0x1f, id, offset)?;
    Ok(Command::Primary(Primary::ReadBuffer {
        from,
        descriptor,
        allocation: u32::from_be_bytes([0, l0, l1, l2]),
    }))
}

pub(in crate::opcode) fn log_select(raw: &Raw) -> Decoded {
    let [_, flags, page, subpage, _, _, _, l0, l1, ..] = *raw;
    let list_length = u16::from_be_bytes([l0, l1]);
    let (all, control, code) = (flags & 0x02 != 0, page >> 6, page & 0x3f);
    if list_length != 0 {
        // The list names the pages itself (SPC-4, 6.6). It may have cumulative values: there are no thresholds.
        if code != 0 {
            return Err(Sense::invalid_cdb_bit(2, 5));
        }
        if subpage != 0 {
            return Err(Sense::invalid_cdb_byte(3));
        }
        if control != 0b01 {
            return Err(Sense::invalid_cdb_bit(2, 7));
        }
        if all || usize::from(list_length) > log::MAX_LIST {
            return Err(Sense::invalid_cdb_byte(7));
        }
        return Ok(Command::Primary(Primary::LogSelectList { list_length }));
    }
    let reset = log::reset(all, control, code, subpage)?;
    Ok(Command::Primary(Primary::LogSelect { reset }))
}

pub(in crate::opcode) fn log_sense(raw: &Raw) -> Decoded {
    let [_, _, page, subpage, _, p0, p1, l0, l1, ..] = *raw;
    let from = u16::from_be_bytes([p0, p1]);
    Ok(Command::Primary(Primary::LogSense {
        request: log::request(page >> 6, page & 0x3f, subpage, from)?,
        allocation: u16::from_be_bytes([l0, l1]),
    }))
}

/// The four bytes of the length that the commands behind MAINTENANCE IN and OUT have.
fn length_6(raw: &Raw) -> u32 {
    let [_, _, _, _, _, _, l0, l1, l2, l3, ..] = *raw;
    u32::from_be_bytes([l0, l1, l2, l3])
}

/// The same, as the length of a list of no more than `most` bytes.
fn list_length_6(raw: &Raw, most: usize) -> Result<u16, Sense> {
    u16::try_from(length_6(raw))
        .ok()
        .filter(|length| usize::from(*length) <= most)
        .ok_or(Sense::invalid_cdb_byte(6))
}

pub(in crate::opcode) fn report_identifying_information(raw: &Raw) -> Decoded {
    let [_, _, _, _, _, _, _, _, _, _, kind, ..] = *raw;
    Ok(Command::Primary(Primary::ReportIdentifyingInformation {
        kind: Asked::new(kind >> 1).ok_or(Sense::invalid_cdb_bit(10, 7))?,
        allocation: length_6(raw),
    }))
}

pub(in crate::opcode) fn set_identifying_information(raw: &Raw) -> Decoded {
    let [_, _, _, _, _, _, _, _, _, _, kind, ..] = *raw;
    let kind = Kind::new(kind >> 1).ok_or(Sense::invalid_cdb_bit(10, 7))?;
    Ok(Command::Primary(Primary::SetIdentifyingInformation {
        kind,
        list_length: list_length_6(raw, kind.most().into())?,
    }))
}

pub(in crate::opcode) fn report_task_management_functions(raw: &Raw) -> Decoded {
    let [_, _, flags, ..] = *raw;
    Ok(Command::Primary(Primary::ReportTaskManagementFunctions {
        extended: flags & 0x80 != 0,
        allocation: length_6(raw),
    }))
}

pub(in crate::opcode) fn report_priority(raw: &Raw) -> Decoded {
    let [_, _, reported, ..] = *raw;
    Ok(Command::Primary(Primary::ReportPriority {
        reported: priority::Reported::new(reported >> 6).ok_or(Sense::invalid_cdb_bit(2, 7))?,
        allocation: length_6(raw),
    }))
}

pub(in crate::opcode) fn set_priority(raw: &Raw) -> Decoded {
    let [_, _, which, ..] = *raw;
    Ok(Command::Primary(Primary::SetPriority {
        which: priority::Which::new(which >> 6).ok_or(Sense::invalid_cdb_bit(2, 7))?,
        list_length: list_length_6(raw, priority::MAX_LIST)?,
    }))
}

pub(in crate::opcode) fn report_timestamp(raw: &Raw) -> Decoded {
    Ok(Command::Primary(Primary::ReportTimestamp {
        allocation: length_6(raw),
    }))
}

pub(in crate::opcode) fn set_timestamp(raw: &Raw) -> Decoded {
    Ok(Command::Primary(Primary::SetTimestamp {
        list_length: list_length_6(raw, timestamp::MAX_LIST)?,
    }))
}
