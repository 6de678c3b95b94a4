// SPDX-License-Identifier: GPL-2.0

//! Third-party copy (SPC-4 6.4 and 6.24 to 6.27): what is asked for, and what is told of it.

use super::{
    blocks,
    parameters::{capacity, respond, respond_counted},
};
use crate::{
    alua,
    command::{Command, Turn},
    copy,
    lun::Nexus,
};
use kernel::prelude::*;
use lio_glue::crypto;
use lio_scsi::{
    bytes::Writer,
    copy::{
        list::List,
        plan::PIECE,
        results::{self, Origin, Outcome, Progress},
        token::{self, Kind, Populate, Ranges, BODY, SECRET},
        ThirdParty,
    },
    sense::{Format, Sense},
};

/// The most bytes of REPORT ALL ROD TOKENS.
const TOKENS: usize = 8 + copy::MOST_TOKENS * BODY;

/// Executes `command`.
pub(super) fn execute(cmd: &mut Command, command: &ThirdParty) -> Result<(), Sense> {
    let nexus = cmd.nexus.clone().ok_or(Sense::LUN_NOT_SUPPORTED)?;
    match *command {
        ThirdParty::ExtendedCopyLid1 { list_length: 0 }
        | ThirdParty::ExtendedCopyLid4 { list_length: 0 } => Ok(()),
        ThirdParty::ExtendedCopyLid1 { list_length } => {
            let list = list(cmd, list_length)?;
            let identifier = List::parse(&list)?.identifier;
            begin(cmd, &list, identifier, Origin::EXTENDED_COPY_LID1)
        }
        ThirdParty::ExtendedCopyLid4 { list_length } => {
            let list = list(cmd, list_length)?;
            let identifier = List::parse_lid4(&list)?.identifier;
            begin(cmd, &list, identifier, Origin::EXTENDED_COPY_LID4)
        }
        ThirdParty::PopulateToken { list_length: 0, .. }
        | ThirdParty::WriteUsingToken { list_length: 0, .. } => Ok(()),
        ThirdParty::PopulateToken { list, list_length } => {
            populate_token(cmd, &nexus, list, list_length)
        }
        ThirdParty::WriteUsingToken { list, list_length } => {
            write_using_token(cmd, &nexus, list, list_length)
        }
        ThirdParty::ReceiveStatusLid4 { list, allocation } => {
            tell(cmd, &nexus, list, allocation, results::status_lid4)
        }
        ThirdParty::ReceiveTokenInformation { list, allocation } => {
            let format = nexus.lun().device().mode().sense_format();
            respond(cmd, allocation, |out| {
                let known = nexus.copies().tell(list, |origin, progress, token| {
                    results::token_information(origin, progress, token, format, out);
                });
                // LIST IDENTIFIER
                known.ok_or(Sense::invalid_cdb_byte(2))
            })
        }
        ThirdParty::Abort { list } => {
            // LIST IDENTIFIER
            let unknown = Sense::invalid_cdb_byte(2);
            nexus.copies().stop(list).then_some(()).ok_or(unknown)?;
            cmd.turn = Turn::Copying(None);
            Ok(())
        }
        ThirdParty::ReceiveDataLid1 { list, allocation } => {
            // It is known, and has ended.
            let known = nexus.copies().tell(list.into(), |_, progress, _| {
                progress.outcome != Outcome::InProgress
            });
            if known != Some(true) {
                return Err(Sense::invalid_cdb_byte(2));
            }
            respond(cmd, allocation, |out| {
                results::data_lid1(out);
                Ok(())
            })
        }
        ThirdParty::ReceiveDataLid4 { list, allocation } => {
            tell(cmd, &nexus, list, allocation, results::data_lid4)
        }
        ThirdParty::ReportAllTokens { allocation } => {
            let engine = crate::engine().map_err(|_| Sense::INTERNAL_TARGET_FAILURE)?;
            let device = nexus.lun().device();
            respond_counted(cmd, allocation, TOKENS, |out| {
                engine.tokens().report(device, out);
                Ok(())
            })
        }
        ThirdParty::ReceiveStatusLid1 { list, allocation } => {
            // LIST IDENTIFIER
            let unknown = Sense::invalid_cdb_byte(2);
            let progress = nexus.copies().status(list.into()).ok_or(unknown)?;
            respond(cmd, allocation, |out| {
                results::status_lid1(&progress, out);
                Ok(())
            })
        }
        ThirdParty::ReceiveOperatingParameters { allocation } => respond(cmd, allocation, |out| {
            results::operating_parameters(out);
            Ok(())
        }),
        ThirdParty::ReceiveFailureDetails { list, allocation } => {
            let sense = nexus.copies().details(list.into());
            let format = nexus.lun().device().mode().sense_format();
            respond(cmd, allocation, |out| {
                results::failure_details(sense.as_ref(), format, out);
                Ok(())
            })
        }
    }
}

/// Bytes of memory that executing `command` takes, beside its parameter list.
pub(super) fn memory(command: &ThirdParty) -> u64 {
    match command {
        ThirdParty::ExtendedCopyLid1 { list_length: 0 }
        | ThirdParty::ExtendedCopyLid4 { list_length: 0 } => 0,
        // What is read and what is written, and the list twice.
        ThirdParty::ExtendedCopyLid1 { list_length }
        | ThirdParty::ExtendedCopyLid4 { list_length }
        | ThirdParty::WriteUsingToken { list_length, .. } => PIECE
            .saturating_mul(2)
            .saturating_add(u64::from(*list_length).saturating_mul(2)),
        ThirdParty::ReportAllTokens { allocation } => {
            u64::from(*allocation).min(TOKENS as u64).saturating_mul(2)
        }
        _ => 4096,
    }
}

// What is known of the copy with the list identifier `id`, as `write` has it.
fn tell(
    cmd: &mut Command,
    nexus: &Nexus,
    id: u32,
    allocation: u32,
    write: fn(&Origin, &Progress, Format, &mut Writer<'_>),
) -> Result<(), Sense> {
    let format = nexus.lun().device().mode().sense_format();
    respond(cmd, allocation, |out| {
        let known = nexus.copies().tell(id, |origin, progress, _| {
            write(origin, progress, format, out);
        });
        // LIST IDENTIFIER
        known.ok_or(Sense::invalid_cdb_byte(2))
    })
}

fn populate_token(
    cmd: &mut Command,
    nexus: &Nexus,
    id: u32,
    list_length: u32,
) -> Result<(), Sense> {
    let short = |_| Sense::INSUFFICIENT_RESOURCES;
    let device = nexus.lun().device();
    let engine = crate::engine().map_err(|_| Sense::INTERNAL_TARGET_FAILURE)?;
    let bytes = list(cmd, list_length)?;
    let list = Populate::parse(&bytes, device.block_size(), device.capacity())?;
    by_segment(nexus, list.ranges)?;
    let mut extents = KVec::new();
    for extent in list.ranges.extents() {
        extents
            .push(extent, GFP_KERNEL)
            .map_err(|_| Sense::INSUFFICIENT_RESOURCES)?;
    }
    let represented = list.ranges.blocks();
    let represented = represented.wrapping_shl(device.block_size().shift());
    let (mut number, mut secret) = ([0; 8], [0; SECRET]);
    crypto::random(&mut number);
    crypto::random(&mut secret);
    let made = token::Made {
        id: u64::from_ne_bytes(number),
        creator: copy::name_of(device),
        bytes: represented,
        capacity: capacity(device),
        target: (
            nexus.lun().tpg().protocol().identifier(),
            nexus.lun().tpg().target().name().to_bytes(),
        ),
        secret: &secret,
    };
    let token = KBox::new(token::make(&made), GFP_KERNEL).map_err(short)?;
    let origin = Origin::populate_token(device.block_size());
    nexus.copies().begin(id, origin)?;
    match engine
        .tokens()
        .keep(nexus, made.id, &token, extents, list.timeout)
    {
        Ok(()) => nexus.copies().made(id, token, represented),
        Err(sense) => {
            nexus.copies().end(id, Outcome::Failed(Some(sense)));
            return Err(sense);
        }
    }
    Ok(())
}

fn write_using_token(
    cmd: &mut Command,
    nexus: &Nexus,
    id: u32,
    list_length: u32,
) -> Result<(), Sense> {
    let engine = crate::engine().map_err(|_| Sense::INTERNAL_TARGET_FAILURE)?;
    let bytes = list(cmd, list_length)?;
    let list = copy::token_list(nexus, &bytes)?;
    let size = nexus.lun().device().block_size();
    by_segment(nexus, list.ranges)?;
    if let Kind::Own(id) = Kind::of(list.token)? {
        let has = engine.tokens().check(id, list.token)?;
        let wanted = list.ranges.blocks().wrapping_shl(size.shift());
        if list.offset.saturating_add(wanted) > has {
            return Err(Sense::invalid_parameter_byte(token::OFFSET_AT));
        }
    }
    begin(cmd, &bytes, Some(id), Origin::write_using_token(size))
}

// The access states of the segments that the ranges are in.
fn by_segment(nexus: &Nexus, ranges: Ranges<'_>) -> Result<(), Sense> {
    let lun = nexus.lun();
    ranges
        .extents()
        .try_for_each(|extent| alua::by_segment(lun, lun.port(), extent))
}

// The parameter list, of which an initiator may have sent less than the CDB says.
fn list(cmd: &Command, list_length: u32) -> Result<KVec<u8>, Sense> {
    // No list is longer than the CDB's decoder lets it be.
    let len = cmd.data.len().min(list_length as usize);
    let mut list =
        KVec::from_elem(0u8, len, GFP_KERNEL).map_err(|_| Sense::INSUFFICIENT_RESOURCES)?;
    cmd.data.read_at(0, &mut list);
    Ok(list)
}

// Has the copy begin that this list asks for. Its identifier is known from now on: who asks for it before a worker has it
// hears that it is in progress.
fn begin(
    cmd: &mut Command,
    list: &[u8],
    identifier: Option<u32>,
    origin: Origin,
) -> Result<(), Sense> {
    // What was checked is kept: the data may be memory that the initiator can change.
    blocks::fill_scratch(cmd, list.len())?;
    if let Some(scratch) = &cmd.scratch {
        scratch.write_at(0, list);
    }
    if let (Some(id), Some(nexus)) = (identifier, &cmd.nexus) {
        nexus.copies().begin(id, origin)?;
    }
    cmd.turn = Turn::Copying(identifier);
    Ok(())
}
