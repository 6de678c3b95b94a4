// SPDX-License-Identifier: GPL-2.0

//! Third-party copy (SPC-4, 6.4 and 6.24 to 6.27).

use super::{Decoded, Raw};
use crate::{
    cdb::Command,
    copy::{list, token, ThirdParty},
    sense::Sense,
};

/// The length at byte 10.
fn length(raw: &Raw) -> u32 {
    let [_, _, _, _, _, _, _, _, _, _, l0, l1, l2, l3, ..] = *raw;
    u32::from_be_bytes([l0, l1, l2, l3])
}

/// The list identifier of one byte.
fn list(raw: &Raw) -> u8 {
    let [_, _, list, ..] = *raw;
    list
}

pub(in crate::opcode) fn extended_copy_lid1(raw: &Raw) -> Decoded {
    Ok(Command::ThirdParty(ThirdParty::ExtendedCopyLid1 {
        list_length: list_length(raw, list::MAX_LIST)?,
    }))
}

pub(in crate::opcode) fn extended_copy_lid4(raw: &Raw) -> Decoded {
    Ok(Command::ThirdParty(ThirdParty::ExtendedCopyLid4 {
        list_length: list_length(raw, list::MAX_LIST_LID4)?,
    }))
}

/// The list identifier of four bytes, at byte 6 where a list is sent.
fn sent_list(raw: &Raw) -> u32 {
    let [_, _, _, _, _, _, l0, l1, l2, l3, ..] = *raw;
    u32::from_be_bytes([l0, l1, l2, l3])
}

/// The same at byte 2, where it is asked for.
fn asked_list(raw: &Raw) -> u32 {
    let [_, _, l0, l1, l2, l3, ..] = *raw;
    u32::from_be_bytes([l0, l1, l2, l3])
}

/// A list that is no longer than it may be.
fn list_length(raw: &Raw, most: u32) -> Result<u32, Sense> {
    let length = length(raw);
    if length > most {
        Err(Sense::PARAMETER_LIST_LENGTH)
    } else {
        Ok(length)
    }
}

pub(in crate::opcode) fn populate_token(raw: &Raw) -> Decoded {
    Ok(Command::ThirdParty(ThirdParty::PopulateToken {
        list: sent_list(raw),
        list_length: list_length(raw, token::MAX_POPULATE_LIST)?,
    }))
}

pub(in crate::opcode) fn write_using_token(raw: &Raw) -> Decoded {
    Ok(Command::ThirdParty(ThirdParty::WriteUsingToken {
        list: sent_list(raw),
        list_length: list_length(raw, token::MAX_WRITE_LIST)?,
    }))
}

pub(in crate::opcode) fn receive_status_lid4(raw: &Raw) -> Decoded {
    Ok(Command::ThirdParty(ThirdParty::ReceiveStatusLid4 {
        list: asked_list(raw),
        allocation: length(raw),
    }))
}

pub(in crate::opcode) fn receive_token_information(raw: &Raw) -> Decoded {
    Ok(Command::ThirdParty(ThirdParty::ReceiveTokenInformation {
        list: asked_list(raw),
        allocation: length(raw),
    }))
}

pub(in crate::opcode) fn receive_status_lid1(raw: &Raw) -> Decoded {
    Ok(Command::ThirdParty(ThirdParty::ReceiveStatusLid1 {
        list: list(raw),
        allocation: length(raw),
    }))
}

pub(in crate::opcode) fn receive_operating_parameters(raw: &Raw) -> Decoded {
    Ok(Command::ThirdParty(
        ThirdParty::ReceiveOperatingParameters {
            allocation: length(raw),
        },
    ))
}

pub(in crate::opcode) fn receive_failure_details(raw: &Raw) -> Decoded {
    Ok(Command::ThirdParty(ThirdParty::ReceiveFailureDetails {
        list: list(raw),
        allocation: length(raw),
    }))
}

pub(in crate::opcode) fn copy_operation_abort(raw: &Raw) -> Decoded {
    Ok(Command::ThirdParty(ThirdParty::Abort {
        list: asked_list(raw),
    }))
}

pub(in crate::opcode) fn receive_data_lid1(raw: &Raw) -> Decoded {
    Ok(Command::ThirdParty(ThirdParty::ReceiveDataLid1 {
        list: list(raw),
        allocation: length(raw),
    }))
}

pub(in crate::opcode) fn receive_data_lid4(raw: &Raw) -> Decoded {
    Ok(Command::ThirdParty(ThirdParty::ReceiveDataLid4 {
        list: asked_list(raw),
        allocation: length(raw),
    }))
}

pub(in crate::opcode) fn report_all_tokens(raw: &Raw) -> Decoded {
    Ok(Command::ThirdParty(ThirdParty::ReportAllTokens {
        allocation: length(raw),
    }))
}
