// SPDX-License-Identifier: GPL-2.0

//! Commands of block devices beyond reading and writing (SBC-4, clause 5), and their parameter data.

pub mod erase;
pub mod long;
pub mod orwrite;
pub mod scattered;

use crate::{
    bytes::Writer,
    cdb::{Data, Direction, Transfer},
    lba::{BlockSize, Blocks, Extent, Lba},
    sense::{Asc, Key, Sense, Specific},
    vpd::BlockLimits,
};

/// A command with its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// WRITE AND VERIFY (10), (12), (16), (32)
    WriteAndVerify {
        /// The blocks.
        extent: Extent,
        /// What is read back is compared with what was sent (BYTCHK 01b); otherwise it is only to be readable.
        compare: bool,
        /// Disable page out.
        dpo: bool,
    },
    /// ORWRITE (16), (32)
    OrWrite(orwrite::OrWrite),
    /// WRITE ATOMIC (16), (32): all of it is written, or nothing.
    WriteAtomic(Transfer),
    /// WRITE SCATTERED (16), (32)
    WriteScattered(scattered::Scattered),
    /// WRITE LONG (10), (16): the block is to be unreadable.
    WriteLong(Lba),
    /// READ LONG (10), (16)
    ReadLong(long::ReadLong),
    /// PRE-FETCH (10), (16). No blocks at all means to the end of the medium.
    PreFetch {
        /// The blocks.
        extent: Extent,
        /// Answer before it is done.
        immediate: bool,
    },
    /// GET LBA STATUS (16), (32)
    GetLbaStatus {
        /// STARTING LOGICAL BLOCK ADDRESS
        lba: Lba,
        /// SCAN LENGTH: blocks of which the status is wanted; 0: all.
        scan: u32,
        /// ALLOCATION LENGTH
        allocation: u32,
    },
    /// START STOP UNIT
    StartStop {
        /// What is to be done.
        what: StartStop,
        /// Answer before it is done (IMMED).
        immediate: bool,
    },
    /// PREVENT ALLOW MEDIUM REMOVAL
    PreventRemoval {
        /// The medium is not to be removed by START STOP UNIT.
        prevent: bool,
    },
    /// READ DEFECT DATA (10), (12)
    ReadDefectData {
        /// Which lists, in which form.
        request: DefectRequest,
        /// ALLOCATION LENGTH
        allocation: u32,
    },
    /// FORMAT UNIT
    Format(erase::Format),
    /// SANITIZE
    Sanitize(erase::Sanitize),
}

/// What START STOP UNIT asks for (SBC-4, 5.31).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartStop {
    /// A power condition. The unit has none, so that it is active in each, and all data is accessible.
    PowerCondition,
    /// To become ready, or to stop.
    Power {
        /// START
        start: bool,
        /// What the cache holds need not be written when it stops.
        no_flush: bool,
    },
    /// To load the medium, or to eject it.
    Medium {
        /// START with LOEJ
        load: bool,
        /// What the cache holds need not be written when it is ejected.
        no_flush: bool,
    },
}

/// What READ DEFECT DATA asks for (SBC-4, 5.18 and 5.19).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefectRequest {
    /// The CDB of ten bytes, and with it the shorter header.
    pub ten: bool,
    /// REQ_PLIST and REQ_GLIST, as PLISTV and GLISTV have them, and DEFECT LIST FORMAT.
    pub lists: u8,
}

/// How a run of blocks is provisioned: PROVISIONING STATUS (SBC-4, table 70).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Provisioned {
    /// Mapped, or not known.
    Mapped = 0x0,
    /// Deallocated.
    Deallocated = 0x1,
}

/// Why a list of LBA status descriptors ends: COMPLETION CONDITION (SBC-4, table 68).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Completion {
    /// No more fit ALLOCATION LENGTH.
    Allocation = 1,
    /// SCAN LENGTH is reached.
    Scan = 2,
    /// The end of the medium is reached.
    Capacity = 3,
}

/// Bytes of an LBA status descriptor, and of the header before them.
pub const LBA_STATUS: usize = 16;
/// See [`LBA_STATUS`].
pub const LBA_STATUS_HEADER: usize = 8;

impl Block {
    /// What the CDB announces: see [`crate::cdb::Command::data`].
    pub fn data(&self, size: BlockSize) -> Data {
        let bytes = |blocks: Blocks| blocks.bytes(size).unwrap_or(u64::MAX);
        match *self {
            Self::WriteAndVerify { extent, .. } => Data::new(Direction::Out, bytes(extent.blocks)),
            Self::OrWrite(orwrite::OrWrite { transfer: t, .. }) | Self::WriteAtomic(t) => {
                Data::new(Direction::Out, bytes(t.extent.blocks))
            }
            Self::WriteScattered(s) if s.is_empty() => Data::NONE,
            Self::WriteScattered(s) => Data::new(Direction::Out, bytes(Blocks(s.blocks.into()))),
            Self::GetLbaStatus { allocation, .. } | Self::ReadDefectData { allocation, .. } => {
                Data::new(Direction::In, allocation.into())
            }
            Self::ReadLong(what) => Data::new(Direction::In, what.length.into()),
            Self::Format(format) => Data::new(Direction::Out, format.list_length().into()),
            Self::Sanitize(erase::Sanitize {
                how: erase::How::Overwrite(length),
                ..
            }) => Data::new(Direction::Out, length.into()),
            Self::Sanitize(_) => Data::NONE,
            Self::PreFetch { .. }
            | Self::StartStop { .. }
            | Self::PreventRemoval { .. }
            | Self::WriteLong(_) => Data::NONE,
        }
    }

    /// The blocks that the command addresses in its CDB.
    pub fn extent(&self) -> Option<Extent> {
        match *self {
            Self::WriteAndVerify { extent, .. } | Self::PreFetch { extent, .. } => Some(extent),
            Self::OrWrite(orwrite::OrWrite { transfer: t, .. }) | Self::WriteAtomic(t) => {
                Some(t.extent)
            }
            // The first block is to be there; the scan ends with the medium.
            Self::GetLbaStatus { lba, .. }
            | Self::WriteLong(lba)
            | Self::ReadLong(long::ReadLong { lba, .. }) => Some(Extent {
                lba,
                blocks: Blocks(1),
            }),
            _ => None,
        }
    }

    /// The command changes the medium.
    pub fn writes(&self) -> bool {
        matches!(
            self,
            Self::WriteAndVerify { .. }
                | Self::OrWrite(_)
                | Self::WriteAtomic(_)
                | Self::WriteScattered(_)
                | Self::WriteLong(_)
                | Self::Format(_)
                | Self::Sanitize(erase::Sanitize {
                    how: erase::How::Overwrite(_) | erase::How::BlockErase,
                    ..
                })
        )
    }

    /// Its data is that of blocks on the medium: see [`crate::cdb::Command::transfers`].
    pub fn transfers(&self) -> bool {
        matches!(
            self,
            Self::WriteAndVerify { .. }
                | Self::OrWrite(_)
                | Self::WriteAtomic(_)
                | Self::WriteScattered(_)
        )
    }

    /// It is one that the unit's limits allow, beyond [`Self::most`].
    ///
    /// # Errors
    /// INVALID FIELD IN CDB, with a pointer; `lba_at` is where an address is in the CDB, `length_at` a number of blocks.
    pub(crate) fn check(
        &self,
        limits: &BlockLimits,
        lba_at: u16,
        length_at: u16,
    ) -> Result<(), Sense> {
        match self {
            Self::WriteScattered(scattered) => scattered.check(limits),
            Self::WriteAtomic(t) => {
                let remainder = |n: u64, of: u32| n.checked_rem(of.into()).unwrap_or(0);
                if remainder(t.extent.lba.0, limits.atomic_alignment) != 0 {
                    return Err(Sense::invalid_cdb_byte(lba_at));
                }
                if remainder(t.extent.blocks.0, limits.atomic_granularity) != 0 {
                    return Err(Sense::invalid_cdb_byte(length_at));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The most blocks that it may address at once.
    pub(crate) fn most(&self, limits: &BlockLimits) -> u64 {
        match self {
            Self::WriteAndVerify { .. } | Self::OrWrite(_) if limits.max_transfer != 0 => {
                limits.max_transfer.into()
            }
            Self::WriteAtomic(_) => limits.max_atomic.into(),
            _ => u64::MAX,
        }
    }
}

/// Writes the header of READ DEFECT DATA: the lists are there, and empty.
pub fn write_defects(request: &DefectRequest, out: &mut Writer<'_>) {
    out.u8(0);
    out.u8(request.lists);
    // DEFECT LIST LENGTH; in the longer form after GENERATION CODE.
    out.zeros_to(if request.ten { 4 } else { 8 });
}

/// What a back end says of `bytes` bytes, of which `left` matter, in whole blocks of `size`: a block of which a part is mapped is
/// mapped. Never nothing, unless nothing is left.
pub fn whole_blocks(mapped: bool, bytes: u64, left: u64, size: BlockSize) -> (bool, u64) {
    let block = u64::from(size.bytes());
    let bytes = bytes.min(left);
    if bytes == left {
        return (mapped, left);
    }
    let whole = size.blocks_in(bytes).bytes(size).unwrap_or(0);
    if !mapped && whole != 0 {
        return (false, whole);
    }
    // What is mapped begins in this block, or ends in it.
    let end = if whole == bytes && whole != 0 {
        whole
    } else {
        whole.saturating_add(block)
    };
    (true, end.min(left))
}

/// LBA status parameter data, made descriptor by descriptor (SBC-4, 5.6.2).
#[derive(Debug)]
pub struct LbaStatus<'a, 'b> {
    out: &'a mut Writer<'b>,
}

impl<'a, 'b> LbaStatus<'a, 'b> {
    /// Begins with the header.
    pub fn begin(out: &'a mut Writer<'b>) -> Self {
        out.fill(0, LBA_STATUS_HEADER);
        Self { out }
    }

    /// Appends a descriptor of `extent`, of 32 bits of blocks at most.
    pub fn descriptor(&mut self, extent: Extent, status: Provisioned) {
        self.out.be64(extent.lba.0);
        self.out
            .be32(u32::try_from(extent.blocks.0).unwrap_or(u32::MAX));
        self.out.u8(status as u8);
        self.out.fill(0, 3);
    }

    /// Completes the header.
    pub fn finish(self, completion: Completion) {
        // PARAMETER DATA LENGTH does not count itself.
        let length = u32::try_from(self.out.len().saturating_sub(4)).unwrap_or(u32::MAX);
        self.out.overwrite(0, &length.to_be_bytes());
        self.out.overwrite(7, &[(completion as u8).wrapping_shl(1)]);
    }
}

/// A FORMAT UNIT or SANITIZE that is at work, or that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Erasing {
    /// Neither.
    #[default]
    No,
    /// FORMAT UNIT is at work, so many 65,536ths of it are done.
    Format(u16),
    /// FORMAT UNIT failed; another one may succeed.
    FormatFailed,
    /// SANITIZE is at work.
    Sanitize(u16),
    /// SANITIZE failed; EXIT FAILURE MODE may end that (AUSE).
    SanitizeFailed(bool),
}

/// What keeps a logical unit from being used as usual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// START STOP UNIT stopped it.
    pub stopped: bool,
    /// START STOP UNIT ejected the medium.
    pub ejected: bool,
    /// The medium's data is being destroyed, or was to be.
    pub erasing: Erasing,
    /// What persistent reservations there were is not known any more (SPC-4, 5.13.5.3.2).
    pub lost: bool,
}

impl Condition {
    const STOPPED: u32 = 1;
    const EJECTED: u32 = 2;
    const LOST: u32 = 4;
    const FORMAT: u32 = 1 << 4;
    const FORMAT_FAILED: u32 = 2 << 4;
    const SANITIZE: u32 = 3 << 4;
    const SANITIZE_FAILED: u32 = 4 << 4;
    const ERASING: u32 = 7 << 4;

    /// In one number; 0 is none at all.
    pub const fn pack(self) -> u32 {
        let stopped = if self.stopped { Self::STOPPED } else { 0 };
        let ejected = if self.ejected { Self::EJECTED } else { 0 };
        let lost = if self.lost { Self::LOST } else { 0 };
        let (kind, value) = match self.erasing {
            Erasing::No => (0, 0),
            Erasing::Format(done) => (Self::FORMAT, done),
            Erasing::FormatFailed => (Self::FORMAT_FAILED, 0),
            Erasing::Sanitize(done) => (Self::SANITIZE, done),
            Erasing::SanitizeFailed(exit) => (Self::SANITIZE_FAILED, exit as u16),
        };
        stopped | ejected | lost | kind | ((value as u32) << 16)
    }

    /// Of that number.
    pub const fn unpack(bits: u32) -> Self {
        let value = (bits >> 16) as u16;
        Self {
            stopped: bits & Self::STOPPED != 0,
            ejected: bits & Self::EJECTED != 0,
            lost: bits & Self::LOST != 0,
            erasing: match bits & Self::ERASING {
                Self::FORMAT => Erasing::Format(value),
                Self::FORMAT_FAILED => Erasing::FormatFailed,
                Self::SANITIZE => Erasing::Sanitize(value),
                Self::SANITIZE_FAILED => Erasing::SanitizeFailed(value != 0),
                _ => Erasing::No,
            },
        }
    }

    /// What REQUEST SENSE says of it, and what refused commands are answered with (SBC-4, 4.11.3 and 5.5).
    pub const fn sense(self) -> Option<Sense> {
        match self.erasing {
            Erasing::No => (),
            Erasing::Format(done) => {
                return Some(Sense {
                    specific: Specific::Progress(done),
                    ..Sense::new(Key::NotReady, Asc::FORMAT_IN_PROGRESS)
                })
            }
            Erasing::FormatFailed => {
                return Some(Sense::new(Key::MediumError, Asc::FORMAT_FAILED));
            }
            Erasing::Sanitize(done) => {
                return Some(Sense {
                    specific: Specific::Progress(done),
                    ..Sense::new(Key::NotReady, Asc::SANITIZE_IN_PROGRESS)
                })
            }
            Erasing::SanitizeFailed(_) => {
                return Some(Sense::new(Key::MediumError, Asc::SANITIZE_FAILED));
            }
        }
        if self.ejected {
            return Some(Sense::new(Key::NotReady, Asc::MEDIUM_NOT_PRESENT));
        }
        if self.stopped {
            return Some(Sense::new(
                Key::NotReady,
                Asc::INITIALIZING_COMMAND_REQUIRED,
            ));
        }
        None
    }

    /// Whether `command` may be executed.
    ///
    /// # Errors
    /// NOT READY, or MEDIUM ERROR after what failed; DATA PROTECT while reservations are lost.
    pub fn admit(self, command: &crate::cdb::Command) -> Result<(), Sense> {
        use crate::cdb::Command;
        if self.lost && !is_for_lost_reservations(command) {
            return Err(Sense::RESERVATION_INFORMATION_LOST);
        }
        let capacity = matches!(
            command,
            Command::ReadCapacity10 | Command::ReadCapacity16 { .. }
        );
        let medium = matches!(command, Command::TestUnitReady | Command::Unmap { .. })
            || command.is_checked();
        let again = match (self.erasing, command) {
            (Erasing::No, _) => true,
            // What may end a failure.
            (Erasing::FormatFailed, Command::Block(Block::Format(_) | Block::Sanitize(_)))
            | (Erasing::SanitizeFailed(_), Command::Block(Block::Sanitize(_))) => true,
            (_, Command::Block(_)) => false,
            _ => !medium,
        };
        let refused = match self.erasing {
            Erasing::No if self.ejected => {
                medium
                    || capacity
                    || matches!(
                        command,
                        Command::Block(Block::Format(_) | Block::Sanitize(_))
                    )
            }
            Erasing::No if self.stopped => {
                medium
                    || matches!(
                        command,
                        Command::Block(Block::Format(_) | Block::Sanitize(_))
                    )
            }
            _ => !again,
        };
        match self.sense() {
            Some(sense) if refused => Err(sense),
            _ => Ok(()),
        }
    }
}

// What is processed while reservations are lost (SPC-4, 5.13.5.2 and 5.13.5.3.2).
fn is_for_lost_reservations(command: &crate::cdb::Command) -> bool {
    use crate::{cdb::Command, pr, primary::Primary};
    match command {
        Command::Inquiry { .. }
        | Command::ReportLuns { .. }
        | Command::ReportTargetPortGroups { .. }
        | Command::RequestSense { .. }
        | Command::Block(Block::StartStop {
            what: StartStop::Power { start: true, .. } | StartStop::Medium { load: true, .. },
            ..
        }) => true,
        Command::Primary(primary) => matches!(
            primary,
            Primary::LogSense { .. } | Primary::ReadBuffer { .. } | Primary::WriteBuffer { .. }
        ),
        Command::PersistentReserveOut { out, .. } => out.action == pr::Action::ReplaceLost,
        _ => false,
    }
}
