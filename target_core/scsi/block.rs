// SPDX-License-Identifier: GPL-2.0

//! Commands of block devices beyond reading and writing (SBC-4, clause 5), and their parameter data.

use crate::{
    bytes::Writer,
    cdb::{Data, Direction, Transfer},
    lba::{BlockSize, Blocks, Extent, Lba},
    sense::{Asc, Key, Sense},
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
    /// ORWRITE (16)
    OrWrite(Transfer),
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
    StartStop(StartStop),
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
            Self::OrWrite(t) => Data::new(Direction::Out, bytes(t.extent.blocks)),
            Self::GetLbaStatus { allocation, .. } | Self::ReadDefectData { allocation, .. } => {
                Data::new(Direction::In, allocation.into())
            }
            Self::PreFetch { .. } | Self::StartStop(_) | Self::PreventRemoval { .. } => Data::NONE,
        }
    }

    /// The blocks that the command addresses in its CDB.
    pub fn extent(&self) -> Option<Extent> {
        match *self {
            Self::WriteAndVerify { extent, .. } | Self::PreFetch { extent, .. } => Some(extent),
            Self::OrWrite(t) => Some(t.extent),
            // The first block is to be there; the scan ends with the medium.
            Self::GetLbaStatus { lba, .. } => Some(Extent {
                lba,
                blocks: Blocks(1),
            }),
            _ => None,
        }
    }

    /// The command changes the medium.
    pub fn writes(&self) -> bool {
        matches!(self, Self::WriteAndVerify { .. } | Self::OrWrite(_))
    }

    /// The most blocks that it may address at once.
    pub(crate) fn most(&self, limits: &BlockLimits) -> u64 {
        match self {
            Self::WriteAndVerify { .. } | Self::OrWrite(_) if limits.max_transfer != 0 => {
                limits.max_transfer.into()
            }
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

/// What keeps a logical unit from being used as usual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// START STOP UNIT stopped it.
    pub stopped: bool,
    /// START STOP UNIT ejected the medium.
    pub ejected: bool,
}

impl Condition {
    /// Whether `command` may be executed.
    ///
    /// # Errors
    /// NOT READY.
    pub fn admit(self, command: &crate::cdb::Command) -> Result<(), Sense> {
        use crate::cdb::Command;
        let capacity = matches!(
            command,
            Command::ReadCapacity10 | Command::ReadCapacity16 { .. }
        );
        let medium = matches!(command, Command::TestUnitReady | Command::Unmap { .. })
            || command.extent().is_some();
        if self.ejected && (medium || capacity) {
            return Err(Sense::new(Key::NotReady, Asc::MEDIUM_NOT_PRESENT));
        }
        if self.stopped && medium {
            return Err(Sense::new(
                Key::NotReady,
                Asc::INITIALIZING_COMMAND_REQUIRED,
            ));
        }
        Ok(())
    }
}
