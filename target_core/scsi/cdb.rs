// SPDX-License-Identifier: GPL-2.0

//! Command descriptor blocks: decoding, data transfer, limits (SPC-4, 4.2; SBC-3, clause 5).
//!
//! [`decode`] turns a CDB into a [`Command`] once; nobody looks at its bytes again. It checks what the CDB alone and the unit's
//! [`Features`] decide. [`Decoded::check`] then holds the command against the unit's capacity and limits.

use crate::{
    block::{Block, StartStop},
    copy::ThirdParty,
    inquiry,
    lba::BlockSize,
    lba::Blocks,
    lba::{Extent, Lba},
    luns, mode,
    opcode::{self, Descriptor},
    pi, pr,
    primary::Primary,
    sense::Sense,
    vpd::BlockLimits,
};

/// What a logical unit can do, as far as a CDB's validity hangs on it.
///
/// The same values make [`opcode`]'s answer to REPORT SUPPORTED OPERATION CODES.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// DPO and FUA are accepted; MODE SENSE reports DPOFUA. The stock modules tie it to the write cache.
    pub dpo_fua: bool,
    /// UNMAP (emulate_tpu).
    pub unmap: bool,
    /// WRITE SAME that writes.
    pub write_same: bool,
    /// WRITE SAME of no blocks is of all to the end of the medium: WSNZ is zero (emulate_write_same_all).
    pub write_same_all: bool,
    /// WRITE SAME that unmaps (emulate_tpws).
    pub write_same_unmap: bool,
    /// COMPARE AND WRITE (emulate_caw).
    pub compare_and_write: bool,
    /// WRITE ATOMIC: the back end has a way to write all or nothing.
    pub write_atomic: bool,
    /// WRITE LONG and READ LONG (emulate_write_long).
    pub write_long: bool,
    /// REPORT SUPPORTED OPERATION CODES (emulate_rsoc).
    pub report_opcodes: bool,
    /// REPORT TARGET PORT GROUPS.
    pub target_port_groups: bool,
    /// SET TARGET PORT GROUPS: the port's group has explicit access states.
    pub set_target_port_groups: bool,
    /// REPORT REFERRALS: there are user data segments (lba_map).
    pub referrals: bool,
    /// The medium can be ejected, and be kept from that.
    pub removable: bool,
    /// SANITIZE (emulate_sanitize).
    pub sanitize: bool,
    /// Persistent reservations, RESERVE and RELEASE (emulate_pr).
    pub reservations: bool,
    /// The type of protection information that the unit is formatted with (pi_prot_type).
    pub protection: Option<pi::Type>,
    /// The unit can be formatted with protection information, of each type.
    pub protectable: bool,
    /// EXTENDED COPY and its like (emulate_3pc).
    pub third_party_copy: bool,
    /// Mode parameters can be saved.
    pub saves_mode: bool,
}

/// A read or write of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The blocks.
    pub extent: Extent,
    /// Disable page out: the blocks will hardly be used again.
    pub dpo: bool,
    /// Force unit access: from and to the medium, not a cache.
    pub fua: bool,
}

/// With what VERIFY compares the medium (BYTCHK).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// With nothing: the blocks are only to be readable. No data is transferred.
    Nothing,
    /// With as much data, which the initiator sends.
    Data,
    /// Each block with the one block that the initiator sends.
    OneBlock,
}

/// A command with its fields. Allocation and parameter list lengths are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// TEST UNIT READY
    TestUnitReady,
    /// REQUEST SENSE
    RequestSense {
        /// Descriptor format is asked for (DESC).
        descriptor: bool,
        /// ALLOCATION LENGTH
        allocation: u32,
    },
    /// INQUIRY
    Inquiry {
        /// Standard data, or a vital product data page.
        page: inquiry::Page,
        /// ALLOCATION LENGTH
        allocation: u32,
    },
    /// MODE SENSE (6) and (10)
    ModeSense {
        /// Which pages, and in which form.
        request: mode::Request,
        /// ALLOCATION LENGTH
        allocation: u32,
    },
    /// Commands of SPC about a unit's parameters, its identity and its buffers.
    Primary(Primary),
    /// READ CAPACITY (10). It transfers eight bytes; there is no allocation length.
    ReadCapacity10,
    /// READ CAPACITY (16)
    ReadCapacity16 {
        /// ALLOCATION LENGTH
        allocation: u32,
    },
    /// REPORT LUNS
    ReportLuns {
        /// SELECT REPORT
        select: luns::Select,
        /// ALLOCATION LENGTH
        allocation: u32,
    },
    /// REPORT TARGET PORT GROUPS
    ReportTargetPortGroups {
        /// The extended header is asked for.
        extended: bool,
        /// ALLOCATION LENGTH
        allocation: u32,
    },
    /// SET TARGET PORT GROUPS
    SetTargetPortGroups {
        /// PARAMETER LIST LENGTH; zero is no error.
        list_length: u32,
    },
    /// REPORT REFERRALS
    ReportReferrals {
        /// LOGICAL BLOCK ADDRESS: in the first user data segment of the answer.
        lba: Lba,
        /// That segment alone (ONE_SEG).
        one_segment: bool,
        /// ALLOCATION LENGTH
        allocation: u32,
    },
    /// REPORT SUPPORTED OPERATION CODES
    ReportSupportedOperationCodes {
        /// Which commands, and whether with timeouts.
        request: opcode::Request,
        /// ALLOCATION LENGTH
        allocation: u32,
    },
    /// PERSISTENT RESERVE IN
    PersistentReserveIn {
        /// SERVICE ACTION
        action: pr::In,
        /// ALLOCATION LENGTH
        allocation: u32,
    },
    /// PERSISTENT RESERVE OUT
    PersistentReserveOut {
        /// What is to be done.
        out: pr::Out,
        /// PARAMETER LIST LENGTH, [`pr::MAX_LIST`] at most.
        list_length: u32,
    },
    /// RESERVE (6), (10)
    Reserve,
    /// RELEASE (6), (10)
    Release,
    /// READ (6), (10), (12), (16), (32)
    Read(Transfer),
    /// WRITE (6), (10), (12), (16), (32)
    Write(Transfer),
    /// VERIFY (10), (12), (16), (32)
    Verify {
        /// The blocks.
        extent: Extent,
        /// With what.
        compare: Compare,
        /// Disable page out.
        dpo: bool,
    },
    /// SYNCHRONIZE CACHE (10), (16). No blocks at all means to the end of the medium.
    SynchronizeCache {
        /// The blocks.
        extent: Extent,
        /// Answer before it is done.
        immediate: bool,
    },
    /// UNMAP
    Unmap {
        /// PARAMETER LIST LENGTH; zero is no error.
        list_length: u16,
    },
    /// WRITE SAME (10), (16), (32)
    WriteSame {
        /// The blocks. None are all to the end of the medium, until [`Decoded::resolve`].
        extent: Extent,
        /// The blocks may be unmapped if they then read as the data that is sent.
        unmap: bool,
        /// No data is sent: the blocks are to read as zeros (NDOB).
        no_data: bool,
    },
    /// COMPARE AND WRITE
    CompareAndWrite(Transfer),
    /// Commands of block devices beyond reading and writing.
    Block(Block),
    /// Third-party copy.
    ThirdParty(ThirdParty),
}

/// Who sends a command's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// There is none.
    None,
    /// The target: data-in.
    In,
    /// The initiator: data-out.
    Out,
}

/// The data that a command transfers by its CDB, whatever the transport expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data {
    /// Who sends it.
    pub direction: Direction,
    /// Its length in bytes. For parameter data in, the allocation length: the most that may be sent.
    pub length: u64,
}

impl Data {
    pub(crate) const NONE: Self = Self {
        direction: Direction::None,
        length: 0,
    };

    pub(crate) fn new(direction: Direction, length: u64) -> Self {
        if length == 0 {
            Self::NONE
        } else {
            Self { direction, length }
        }
    }
}

/// A decoded CDB: the command, and the row of the table of commands that decoded it.
#[derive(Clone, Copy, Debug)]
pub struct Decoded {
    /// The command.
    pub command: Command,
    /// Its name, length, and where its fields are.
    pub descriptor: &'static Descriptor,
    /// The protection information that the unit has, and what the CDB says of it.
    pub protection: Option<pi::Type>,
    /// See there.
    pub protect: pi::Fields,
    /// GROUP NUMBER, or 0 where the CDB has none.
    pub group: u8,
}

/// Decodes `cdb`, which may be of any length: what follows the command's own length is not looked at, as transports pad
/// CDBs.
///
/// # Errors
/// INVALID COMMAND OPERATION CODE, or INVALID FIELD IN CDB with a field pointer.
pub fn decode(cdb: &[u8], features: &Features) -> Result<Decoded, Sense> {
    let descriptor = opcode::find(cdb, features)?;
    let length = usize::from(descriptor.length);
    let mut raw = [0; opcode::MAX_CDB];
    match (raw.get_mut(..length), cdb.get(..length)) {
        (Some(to), Some(from)) => to.copy_from_slice(from),
        // Cut off: the first byte that is missing is the wrong one.
        _ => {
            return Err(Sense::invalid_cdb_byte(
                u16::try_from(cdb.len()).unwrap_or(0),
            ))
        }
    }
    let protect = match features.protection {
        None => pi::Fields::default(),
        Some(of) => descriptor.protect(&raw, of)?,
    };
    descriptor.check_bits(&raw, features)?;
    let command = descriptor.decode(&raw)?;
    if command.is_write_same_to_end() && !features.write_same_all {
        return Err(descriptor.invalid_length());
    }
    Ok(Decoded {
        command,
        descriptor,
        protection: features.protection,
        protect,
        group: descriptor.group(&raw),
    })
}

impl Command {
    /// What the reservations of others do to it, which is `row` for most of its operation code. Starting the unit and allowing removal
    /// are for everybody (SPC-4, table 66; SBC-3, table 13); beside a reservation by RESERVE, only the latter (SPC-2, table 10).
    pub fn reserved(&self, row: pr::Reserved) -> pr::Reserved {
        match self {
            Self::Block(Block::StartStop {
                what: StartStop::Power { start: true, .. } | StartStop::Medium { load: true, .. },
                ..
            }) => pr::Reserved::Persistently,
            Self::Block(Block::PreventRemoval { prevent: false }) => pr::Reserved::Allowed,
            _ => row,
        }
    }

    /// The data that the CDB announces, on a unit with blocks of `size`.
    ///
    /// A transport compares it with the length that the initiator expects, for residuals.
    pub fn data(&self, size: BlockSize) -> Data {
        // Counts come from 32-bit fields at most, so the product cannot really overflow.
        let bytes = |blocks: Blocks| blocks.bytes(size).unwrap_or(u64::MAX);
        let block = u64::from(size.bytes());
        match *self {
            Self::TestUnitReady | Self::SynchronizeCache { .. } | Self::Reserve | Self::Release => {
                Data::NONE
            }
            Self::RequestSense { allocation, .. }
            | Self::Inquiry { allocation, .. }
            | Self::ModeSense { allocation, .. }
            | Self::ReadCapacity16 { allocation }
            | Self::ReportLuns { allocation, .. }
            | Self::ReportTargetPortGroups { allocation, .. }
            | Self::ReportReferrals { allocation, .. }
            | Self::PersistentReserveIn { allocation, .. }
            | Self::ReportSupportedOperationCodes { allocation, .. } => {
                Data::new(Direction::In, u64::from(allocation))
            }
            Self::PersistentReserveOut { list_length, .. }
            | Self::SetTargetPortGroups { list_length } => {
                Data::new(Direction::Out, u64::from(list_length))
            }
            Self::Primary(command) => command.data(),
            Self::ReadCapacity10 => Data::new(Direction::In, 8),
            Self::Read(t) => Data::new(Direction::In, bytes(t.extent.blocks)),
            Self::Write(t) => Data::new(Direction::Out, bytes(t.extent.blocks)),
            Self::Verify {
                extent, compare, ..
            } => match compare {
                Compare::Nothing => Data::NONE,
                Compare::Data => Data::new(Direction::Out, bytes(extent.blocks)),
                Compare::OneBlock if extent.blocks.is_zero() => Data::NONE,
                Compare::OneBlock => Data::new(Direction::Out, block),
            },
            Self::Unmap { list_length } => Data::new(Direction::Out, u64::from(list_length)),
            Self::WriteSame { no_data: true, .. } => Data::NONE,
            Self::WriteSame { no_data: false, .. } => Data::new(Direction::Out, block),
            // The data to compare with, then the data to write.
            Self::CompareAndWrite(t) => {
                Data::new(Direction::Out, bytes(t.extent.blocks).saturating_mul(2))
            }
            Self::Block(command) => command.data(size),
            Self::ThirdParty(command) => command.data(),
        }
    }

    /// The blocks that the command addresses in its CDB.
    pub fn extent(&self) -> Option<Extent> {
        match *self {
            Self::Read(t) | Self::Write(t) | Self::CompareAndWrite(t) => Some(t.extent),
            Self::Verify { extent, .. }
            | Self::SynchronizeCache { extent, .. }
            | Self::WriteSame { extent, .. } => Some(extent),
            Self::Block(command) => command.extent(),
            _ => None,
        }
    }

    fn is_write_same_to_end(&self) -> bool {
        matches!(self, Self::WriteSame { extent, .. } if extent.blocks.is_zero())
    }

    /// The command's data is that of blocks on the medium, to or from it.
    pub fn transfers(&self) -> bool {
        match self {
            Self::Read(_) | Self::Write(_) | Self::WriteSame { .. } | Self::CompareAndWrite(_) => {
                true
            }
            Self::Block(command) => command.transfers(),
            _ => false,
        }
    }

    /// The command is about blocks: [`Decoded::check`] is to be asked.
    pub fn is_checked(&self) -> bool {
        self.extent().is_some() || matches!(self, Self::Block(Block::WriteScattered(_)))
    }

    /// The command changes the medium, and is to be refused where writing is not allowed.
    pub fn writes(&self) -> bool {
        match self {
            Self::Write(_)
            | Self::Unmap { .. }
            | Self::WriteSame { .. }
            | Self::CompareAndWrite(_) => true,
            Self::Block(command) => command.writes(),
            Self::ThirdParty(command) => command.writes(),
            _ => false,
        }
    }

    /// The command may keep the unit, or paths to it, from other initiators: one that may only read may not.
    pub fn claims(&self) -> bool {
        matches!(
            self,
            Self::PersistentReserveOut { .. } | Self::Reserve | Self::SetTargetPortGroups { .. }
        )
    }

    /// The command is processed for a LUN without a logical unit too (SAM-5, 4.7.4).
    pub fn is_for_absent_unit(&self) -> bool {
        matches!(
            self,
            Self::Inquiry { .. } | Self::ReportLuns { .. } | Self::RequestSense { .. }
        )
    }
}

impl Decoded {
    /// The data that the CDB announces, as [`Command::data`], with protection information behind each block where it is transferred.
    pub fn data(&self, size: BlockSize) -> Data {
        let data = self.command.data(size);
        if !self.protect.transfers() {
            return data;
        }
        // All commands that can say so transfer whole blocks.
        let blocks = size.blocks_in(data.length);
        let length = blocks.0.saturating_mul(self.protect.block(size).into());
        Data { length, ..data }
    }

    /// What is said as `to the end of the medium` is so many blocks, on one of `capacity` blocks.
    pub fn resolve(&mut self, capacity: Blocks) {
        if let Command::WriteSame { extent, .. } = &mut self.command {
            if extent.blocks.is_zero() {
                // One at least, which is out of range then.
                extent.blocks = Blocks(capacity.0.saturating_sub(extent.lba.0).max(1));
            }
        }
    }

    /// The command fits a medium of `capacity` blocks and the unit's limits, those that the block limits page reports.
    ///
    /// # Errors
    /// LOGICAL BLOCK ADDRESS OUT OF RANGE; INVALID FIELD IN CDB with a pointer to the length field.
    pub fn check(&self, capacity: Blocks, limits: &BlockLimits) -> Result<(), Sense> {
        let extent = self.command.extent();
        if let Some(extent) = extent {
            extent.check(capacity)?;
        }
        if let Command::Block(command) = &self.command {
            command.check(
                limits,
                self.descriptor.lba_at(),
                self.descriptor.length_at(),
            )?;
        }
        let Some(extent) = extent else {
            return Ok(());
        };
        let most = match self.command {
            Command::Read(_)
            | Command::Write(_)
            | Command::Verify {
                compare: Compare::Data,
                ..
            } if limits.max_transfer != 0 => u64::from(limits.max_transfer),
            Command::WriteSame { .. } if limits.max_write_same != 0 => limits.max_write_same,
            Command::CompareAndWrite(_) => u64::from(limits.max_compare_and_write),
            Command::Block(command) => command.most(limits),
            _ => u64::MAX,
        };
        if extent.blocks.0 > most {
            return Err(self.descriptor.invalid_length());
        }
        Ok(())
    }
}
