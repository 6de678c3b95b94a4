// SPDX-License-Identifier: GPL-2.0

//! What an initiator sends: RFC 7143, 11.3, 11.5, 11.7, 11.10, 11.12, 11.14, 11.16, 11.18.

use super::Head;
use crate::error::{Error, RejectReason};
use crate::sn::{CmdSn, DataSn, StatSn};
use crate::wire::{flags, pdu, Bhs, Cid, DataLen, Isid, Itt, Lun, Tsih, Ttt};

pdu! {
    /// NOP-Out: 11.18. A ping, or the answer to the target's.
    NopOut = 0x00, 0x80, {
        /// 11.18.1: 0x80.
        flags: u8 = 1,
        /// Bytes of ping data.
        data_len: DataLen = 5,
        /// The unit that the answered NOP-In named.
        lun: Lun = 8,
        /// [`Itt::NONE`] when no answer is wanted.
        itt: Itt = 16,
        /// [`Ttt::NONE`] unless it answers a NOP-In.
        ttt: Ttt = 20,
        /// Command number.
        cmd_sn: CmdSn = 24,
        /// The next status number that the initiator expects.
        exp_stat_sn: StatSn = 28,
    }
}

impl NopOut {
    pub(super) fn parse(head: &Head, bhs: &Bhs) -> Result<Self, Error> {
        let pdu = Self::read(bhs);
        final_bit(pdu.flags)?;
        if pdu.itt == Itt::NONE && !head.immediate {
            return Err(Error::format(
                "11.18: NOP-Out without a task tag is not immediate",
            ));
        }
        Ok(pdu)
    }
}

flags! {
    /// Byte 1 of a SCSI command: 11.3.1.
    CommandFlags {
        /// No unsolicited Data-Out PDU follows.
        last, with_last = 0x80,
        /// Input is expected.
        read, with_read = 0x40,
        /// Output is expected.
        write, with_write = 0x20,
    }
}

/// Task attribute: 11.3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskAttribute {
    /// Untagged; SAM-5 treats it as simple.
    Untagged,
    /// Simple.
    Simple,
    /// Ordered.
    Ordered,
    /// Head of queue.
    HeadOfQueue,
    /// Auto contingent allegiance.
    Aca,
}

/// Which way data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// No data.
    None,
    /// To the initiator.
    Read,
    /// From the initiator.
    Write,
    /// Both; the length of the read part is in a header segment, see [`crate::ahs`].
    Bidirectional,
}

impl CommandFlags {
    /// `None` for the codes that are reserved.
    #[must_use]
    pub const fn attribute(self) -> Option<TaskAttribute> {
        match self.0 & 7 {
            0 => Some(TaskAttribute::Untagged),
            1 => Some(TaskAttribute::Simple),
            2 => Some(TaskAttribute::Ordered),
            3 => Some(TaskAttribute::HeadOfQueue),
            4 => Some(TaskAttribute::Aca),
            _ => None,
        }
    }
}

pdu! {
    /// SCSI command: 11.3.
    ScsiCommand = 0x01, 0, {
        /// Flags and task attribute.
        flags: CommandFlags = 1,
        /// Bytes of immediate data.
        data_len: DataLen = 5,
        /// Logical unit.
        lun: Lun = 8,
        /// Task tag.
        itt: Itt = 16,
        /// Expected data transfer length, in bytes.
        expected_len: u32 = 20,
        /// Command number.
        cmd_sn: CmdSn = 24,
        /// The next status number that the initiator expects.
        exp_stat_sn: StatSn = 28,
        /// The first 16 bytes of the CDB; the rest of a longer one is in a header segment, see [`crate::ahs`].
        cdb: [u8; 16] = 32,
    }
}

impl ScsiCommand {
    pub(super) fn parse(_head: &Head, bhs: &Bhs) -> Result<Self, Error> {
        let pdu = Self::read(bhs);
        task_tag(pdu.itt)?;
        if pdu.flags.attribute().is_none() {
            return Err(Error::format("11.3.1: reserved task attribute"));
        }
        if !pdu.flags.write() && !pdu.flags.last() {
            return Err(Error::format("11.3.1: W and F both 0"));
        }
        if !pdu.flags.write() && pdu.data_len.bytes() != 0 {
            return Err(Error::format("11.3: immediate data without W"));
        }
        if pdu.flags.write() && pdu.data_len.bytes() > pdu.expected_len {
            return Err(Error::format(
                "11.3.4: more immediate data than the expected transfer length",
            ));
        }
        if !pdu.flags.write() && !pdu.flags.read() && pdu.expected_len != 0 {
            return Err(Error::reject(
                RejectReason::ProtocolError,
                "11.3.4: an expected transfer length without R or W",
            ));
        }
        Ok(pdu)
    }

    /// Which way data goes; with nothing to transfer, none, whatever R and W say (11.3.1).
    #[must_use]
    pub fn direction(&self) -> Direction {
        match (self.flags.read(), self.flags.write()) {
            (true, true) => Direction::Bidirectional,
            _ if self.expected_len == 0 => Direction::None,
            (true, false) => Direction::Read,
            (false, true) => Direction::Write,
            (false, false) => Direction::None,
        }
    }
}

pdu! {
    /// Task management function request: 11.5.
    TmfRequest = 0x02, 0x80, {
        /// F and the function's code.
        function: u8 = 1,
        /// Must be 0.
        data_len: DataLen = 5,
        /// The logical unit it is about.
        lun: Lun = 8,
        /// Task tag of the request itself.
        itt: Itt = 16,
        /// The task it is about, where it is about one.
        referenced_itt: Itt = 20,
        /// Command number.
        cmd_sn: CmdSn = 24,
        /// The next status number that the initiator expects.
        exp_stat_sn: StatSn = 28,
        /// Command number of the task it is about.
        ref_cmd_sn: CmdSn = 32,
        /// For TASK REASSIGN.
        exp_data_sn: DataSn = 36,
    }
}

impl TmfRequest {
    pub(super) fn parse(_head: &Head, bhs: &Bhs) -> Result<Self, Error> {
        let pdu = Self::read(bhs);
        final_bit(pdu.function)?;
        task_tag(pdu.itt)?;
        no_data(pdu.data_len)?;
        Ok(pdu)
    }
}

flags! {
    /// Byte 1 of a text PDU: 11.10.1, 11.10.2.
    TextFlags {
        /// F: nothing more in this sequence from this side.
        last, with_last = 0x80,
        /// C: this text goes on in the next PDU.
        more, with_more = 0x40,
    }
}

pdu! {
    /// Text request: 11.10.
    TextRequest = 0x04, 0, {
        /// Flags.
        flags: TextFlags = 1,
        /// Bytes of text.
        data_len: DataLen = 5,
        /// Belongs to the transfer tag.
        lun: Lun = 8,
        /// Task tag.
        itt: Itt = 16,
        /// [`Ttt::NONE`] in the first of a sequence, else the target's.
        ttt: Ttt = 20,
        /// Command number.
        cmd_sn: CmdSn = 24,
        /// The next status number that the initiator expects.
        exp_stat_sn: StatSn = 28,
    }
}

impl TextRequest {
    pub(super) fn parse(_head: &Head, bhs: &Bhs) -> Result<Self, Error> {
        let pdu = Self::read(bhs);
        task_tag(pdu.itt)?;
        if pdu.flags.last() && pdu.flags.more() {
            return Err(Error::format("11.10.2: F and C both 1"));
        }
        Ok(pdu)
    }
}

pdu! {
    /// SCSI Data-Out: 11.7.
    DataOut = 0x05, 0, {
        /// Only F: the last of its sequence.
        flags: TextFlags = 1,
        /// Bytes of data.
        data_len: DataLen = 5,
        /// As in the R2T that is answered.
        lun: Lun = 8,
        /// The command's tag.
        itt: Itt = 16,
        /// The R2T's, or [`Ttt::NONE`] for unsolicited data.
        ttt: Ttt = 20,
        /// The next status number that the initiator expects.
        exp_stat_sn: StatSn = 28,
        /// Number in the sequence, from 0.
        data_sn: DataSn = 36,
        /// Where in the command's data it belongs, in bytes.
        offset: u32 = 40,
    }
}

impl DataOut {
    pub(super) fn parse(_head: &Head, bhs: &Bhs) -> Result<Self, Error> {
        let pdu = Self::read(bhs);
        task_tag(pdu.itt)?;
        Ok(pdu)
    }
}

pdu! {
    /// Logout request: 11.14.
    LogoutRequest = 0x06, 0x80, {
        /// F and the reason code.
        reason: u8 = 1,
        /// Must be 0.
        data_len: DataLen = 5,
        /// Task tag.
        itt: Itt = 16,
        /// The connection it is about; not for closing the session.
        cid: Cid = 20,
        /// Command number.
        cmd_sn: CmdSn = 24,
        /// The next status number that the initiator expects.
        exp_stat_sn: StatSn = 28,
    }
}

impl LogoutRequest {
    pub(super) fn parse(_head: &Head, bhs: &Bhs) -> Result<Self, Error> {
        let pdu = Self::read(bhs);
        final_bit(pdu.reason)?;
        task_tag(pdu.itt)?;
        no_data(pdu.data_len)?;
        if pdu.reason & 0x7f > 2 {
            return Err(Error::format("11.14.1: reserved logout reason"));
        }
        Ok(pdu)
    }
}

pdu! {
    /// SNACK request: 11.16. At error recovery level 0 each is rejected.
    Snack = 0x10, 0x80, {
        /// F and the kind.
        kind: u8 = 1,
        /// Must be 0.
        data_len: DataLen = 5,
        /// Logical unit.
        lun: Lun = 8,
        /// Task tag.
        itt: Itt = 16,
        /// Transfer tag or SNACK tag.
        ttt: Ttt = 20,
        /// The next status number that the initiator expects.
        exp_stat_sn: StatSn = 28,
        /// First number of the run.
        begin: u32 = 40,
        /// How many there are in the run.
        length: u32 = 44,
    }
}

impl Snack {
    pub(super) fn parse(_head: &Head, bhs: &Bhs) -> Result<Self, Error> {
        let pdu = Self::read(bhs);
        final_bit(pdu.kind)?;
        no_data(pdu.data_len)?;
        Ok(pdu)
    }
}

flags! {
    /// Byte 1 of a login PDU: 11.12.1 to 11.12.3.
    LoginFlags {
        /// T: this side is ready for the next stage.
        transit, with_transit = 0x80,
        /// C: this text goes on in the next PDU.
        more, with_more = 0x40,
    }
}

/// A stage of a connection: 11.12.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// SecurityNegotiation.
    Security = 0,
    /// LoginOperationalNegotiation.
    Operational = 1,
    /// FullFeaturePhase.
    FullFeature = 3,
}

impl Stage {
    const fn of(code: u8) -> Option<Stage> {
        match code & 3 {
            0 => Some(Stage::Security),
            1 => Some(Stage::Operational),
            3 => Some(Stage::FullFeature),
            _ => None,
        }
    }
}

impl LoginFlags {
    /// Current stage; `None` for the reserved code.
    #[must_use]
    pub const fn current(self) -> Option<Stage> {
        Stage::of(self.0 >> 2)
    }

    /// Next stage, which means something only with T; `None` for the reserved code.
    #[must_use]
    pub const fn next(self) -> Option<Stage> {
        Stage::of(self.0)
    }

    /// The same flags with these stages.
    #[must_use]
    pub const fn with_stages(self, current: Stage, next: Stage) -> Self {
        LoginFlags((self.0 & 0xf0) | ((current as u8) << 2) | next as u8)
    }
}

pdu! {
    /// Login request: 11.12. Its contents are judged by [`crate::login`], which answers with a status.
    LoginRequest = 0x03, 0, {
        /// Flags and stages.
        flags: LoginFlags = 1,
        /// Highest version that the initiator speaks.
        version_max: u8 = 2,
        /// Lowest version that the initiator speaks.
        version_min: u8 = 3,
        /// Bytes of text.
        data_len: DataLen = 5,
        /// The initiator's part of the session identifier.
        isid: Isid = 8,
        /// 0 for a new session.
        tsih: Tsih = 14,
        /// Task tag, the same through the whole login.
        itt: Itt = 16,
        /// Connection.
        cid: Cid = 20,
        /// Command number: what the session begins with.
        cmd_sn: CmdSn = 24,
        /// The next status number that the initiator expects.
        exp_stat_sn: StatSn = 28,
    }
}

impl LoginRequest {
    pub(super) fn parse(_head: &Head, bhs: &Bhs) -> Result<Self, Error> {
        Ok(Self::read(bhs))
    }
}

fn final_bit(flags: u8) -> Result<(), Error> {
    if flags & 0x80 == 0 {
        return Err(Error::format("11.2.1: bit F is 0 where it is always 1"));
    }
    Ok(())
}

fn task_tag(itt: Itt) -> Result<(), Error> {
    if itt == Itt::NONE {
        return Err(Error::format("11.2.1.8: the reserved initiator task tag"));
    }
    Ok(())
}

fn no_data(len: DataLen) -> Result<(), Error> {
    if len.bytes() != 0 {
        return Err(Error::format("11.2.1.6: data with a PDU that has none"));
    }
    Ok(())
}
