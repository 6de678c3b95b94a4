// SPDX-License-Identifier: GPL-2.0

//! Data of a command: RFC 7143, 4.2.5.2, 11.3.4, 11.4.5, 11.7 and 11.8, with data in order and error recovery level 0.

use crate::error::{Error, RejectReason};
use crate::negotiate::Parameters;
use crate::pdu::{DataInFlags, DataOut, ResponseFlags, ScsiCommand};
use crate::sn::{DataSn, R2tSn};
use crate::wire::{Lun, Ttt};

pub mod recover;
#[cfg(test)]
mod tests;

/// What is wrong with the data of a command: it ends with CHECK CONDITION, ABORTED COMMAND (11.4.7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Data that was not agreed on came without an R2T.
    UnexpectedUnsolicited,
    /// More or less data than was asked for or agreed on.
    IncorrectAmount,
    /// A data digest did not fit (7.8 b).
    Digest,
}

impl Fault {
    /// Additional sense code and qualifier.
    #[must_use]
    pub const fn sense(self) -> (u8, u8) {
        match self {
            Fault::UnexpectedUnsolicited => (0x0c, 0x0c),
            Fault::IncorrectAmount => (0x0c, 0x0d),
            Fault::Digest => (0x47, 0x05),
        }
    }
}

/// What is wrong with the unasked data that a command has or announces.
fn unagreed(command: &ScsiCommand, parameters: &Parameters) -> Option<Fault> {
    let immediate = command.data_len.bytes();
    let first_end = parameters.first_burst.min(command.expected_len);
    let unsolicited = !command.flags.last();
    if (immediate > 0 && !parameters.immediate_data) || (unsolicited && parameters.initial_r2t) {
        Some(Fault::UnexpectedUnsolicited)
    } else if immediate > first_end || (unsolicited && immediate == first_end) {
        Some(Fault::IncorrectAmount)
    } else {
        None
    }
}

/// What an R2T asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The tag that the data PDUs carry.
    pub ttt: Ttt,
    /// Its number.
    pub r2t_sn: R2tSn,
    /// First byte.
    pub offset: u32,
    /// Bytes.
    pub length: u32,
}

/// Where the data of a PDU goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// First byte in the command's data.
    pub offset: u32,
    /// How many of the PDU's bytes go there; the rest of them is thrown away.
    pub keep: u32,
}

/// The data of a write command while it comes in.
///
/// All sequences are in order, R2Ts are answered in the order in which they were sent (13.18, 13.19), so that what
/// is here is always one piece from the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    /// The driver's index of the command, for [`Ttt::new`].
    index: u16,
    lun: Lun,
    /// Unsolicited data may not go beyond this; and if `whole_burst`, it must not end before it.
    first_end: u32,
    whole_burst: bool,
    max_burst: u32,
    max_outstanding: u16,
    /// Bytes that the command needs; there may come more without being asked for.
    wanted: u32,
    /// Bytes that are here.
    received: u32,
    /// R2Ts ask for all up to here.
    asked: u32,
    /// End of the sequence that is coming in.
    sequence_end: u32,
    data_sn: DataSn,
    /// Unsolicited PDUs follow.
    unsolicited: bool,
    /// R2Ts sent; and those whose data is here.
    sent: u32,
    served: u32,
    fault: Option<Fault>,
}

impl Write {
    /// Begins with a write command and its immediate data, `command.data_len` bytes that belong to offset 0.
    ///
    /// `wanted` is how many bytes the command needs, as far as SCSI is concerned; not more than the expected transfer
    /// length is asked for. `index` is below 0xfffe and not that of another command of the connection.
    #[must_use]
    pub fn new(command: &ScsiCommand, parameters: &Parameters, index: u16, wanted: u32) -> Self {
        let immediate = command.data_len.bytes();
        let first_end = parameters.first_burst.min(command.expected_len);
        let unsolicited = !command.flags.last();
        let fault = unagreed(command, parameters);
        Write {
            index,
            lun: command.lun,
            first_end,
            whole_burst: command.expected_len > parameters.first_burst,
            max_burst: parameters.max_burst.max(1),
            max_outstanding: parameters.max_outstanding_r2t.max(1),
            wanted: wanted.min(command.expected_len),
            received: immediate,
            asked: immediate,
            sequence_end: first_end,
            data_sn: DataSn(0),
            unsolicited,
            sent: 0,
            served: 0,
            fault,
        }
    }

    /// Where the immediate data goes.
    #[must_use]
    pub fn immediate(&self) -> Place {
        Place {
            offset: 0,
            keep: match self.fault {
                Some(_) => 0,
                None => self.received.min(self.wanted),
            },
        }
    }

    /// Takes a Data-Out PDU of this command: where its data goes.
    ///
    /// With a [`Write::fault`], the data is thrown away.
    ///
    /// # Errors
    /// What is answered; the data is thrown away.
    pub fn data_out(&mut self, pdu: &DataOut) -> Result<Place, Error> {
        if self.unsolicited {
            if pdu.ttt != Ttt::NONE {
                return Err(Error::reject(
                    RejectReason::InvalidPduField,
                    "11.7.4: a transfer tag where none was given",
                ));
            }
        } else {
            self.check_tag(pdu)?;
        }
        if self.fault.is_some() {
            // Drain: 11.4 wants the sequences that are on their way to be over before the response.
            self.end_sequence(pdu.flags.last());
            return Ok(self.nothing());
        }
        if pdu.data_sn != self.data_sn {
            return Err(Error::fatal("7.9: a data PDU was left out"));
        }
        if pdu.offset != self.received {
            return Err(Error::fatal("13.18, 13.19: data out of order"));
        }
        let end = self.received.checked_add(pdu.data_len.bytes());
        match end.filter(|&end| end <= self.sequence_end) {
            None => {
                self.fault = Some(Fault::IncorrectAmount);
                self.end_sequence(pdu.flags.last());
                Ok(self.nothing())
            }
            Some(end) => {
                let place = Place {
                    offset: self.received,
                    keep: self.wanted.min(end).saturating_sub(self.received),
                };
                self.received = end;
                self.data_sn = self.data_sn.next();
                let must = !self.unsolicited || self.whole_burst;
                if pdu.flags.last() && must && end != self.sequence_end {
                    self.fault = Some(Fault::IncorrectAmount);
                }
                self.end_sequence(pdu.flags.last());
                Ok(place)
            }
        }
    }

    fn check_tag(&self, pdu: &DataOut) -> Result<(), Error> {
        if pdu.ttt == Ttt::NONE {
            return Err(Error::reject(
                RejectReason::ProtocolError,
                "11.7.1: unsolicited data after the last of it",
            ));
        }
        if self.served == self.sent || pdu.ttt.index() != self.index || pdu.lun != self.lun {
            return Err(Error::reject(
                RejectReason::InvalidPduField,
                "11.7.4: not the transfer tag of an R2T",
            ));
        }
        if pdu.ttt != Ttt::new(self.index, self.served) {
            return Err(Error::fatal("13.19: an R2T is not answered in its turn"));
        }
        Ok(())
    }

    const fn nothing(&self) -> Place {
        Place {
            offset: self.received,
            keep: 0,
        }
    }

    fn end_sequence(&mut self, last: bool) {
        if !last {
            return;
        }
        if self.unsolicited {
            self.unsolicited = false;
            self.asked = self.received;
        } else {
            self.served = self.served.wrapping_add(1);
        }
        self.data_sn = DataSn(0);
        self.sequence_end = self.burst_end(self.received);
    }

    /// Where a burst ends that begins at `start`.
    fn burst_end(&self, start: u32) -> u32 {
        start.saturating_add(self.max_burst).min(self.wanted)
    }

    /// Whether [`Self::next_r2t`] would give one.
    #[must_use]
    pub fn wants_r2t(&self) -> bool {
        !self.unsolicited
            && self.fault.is_none()
            && self.asked < self.wanted
            && self.sent.wrapping_sub(self.served) < u32::from(self.max_outstanding)
    }

    /// The next R2T, if there is something to ask for and not too much is asked for already. It counts as sent.
    pub fn next_r2t(&mut self) -> Option<Wanted> {
        if !self.wants_r2t() {
            return None;
        }
        let outstanding = self.sent.wrapping_sub(self.served);
        let offset = self.asked;
        let end = self.burst_end(offset);
        let r2t = Wanted {
            ttt: Ttt::new(self.index, self.sent),
            r2t_sn: R2tSn(self.sent),
            offset,
            length: end.saturating_sub(offset),
        };
        if outstanding == 0 {
            self.sequence_end = end;
        }
        self.asked = end;
        self.sent = self.sent.wrapping_add(1);
        Some(r2t)
    }

    /// Nothing more is asked for, and what still comes is thrown away: the command will be answered without being
    /// executed (it was aborted, or has failed).
    pub fn give_up(&mut self) {
        self.fail(Fault::IncorrectAmount);
    }

    /// Nothing more is asked for, and what came and comes is not used: the command is answered with `fault`, unless there is
    /// one already.
    pub fn fail(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    /// Whether no more data is to come: the command is executed, or, with a fault, answered.
    #[must_use]
    pub const fn complete(&self) -> bool {
        !self.unsolicited
            && self.sent == self.served
            && (self.fault.is_some() || self.received >= self.wanted)
    }

    /// What is wrong with the data.
    #[must_use]
    pub const fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Bytes that are here, from offset 0.
    #[must_use]
    pub fn received(&self) -> u32 {
        self.received.min(self.wanted)
    }

    /// How many R2Ts were sent: the response's ExpDataSN.
    #[must_use]
    pub const fn r2ts(&self) -> DataSn {
        DataSn(self.sent)
    }
}

/// A Data-In PDU to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// First byte in the command's data.
    pub offset: u32,
    /// Bytes.
    pub length: u32,
    /// Its number.
    pub data_sn: DataSn,
    /// F, and S if the status goes with it.
    pub flags: DataInFlags,
}

/// The data of a read command while it goes out: split by what the initiator takes in one PDU and by MaxBurstLength.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    total: u32,
    sent: u32,
    burst_end: u32,
    max_burst: u32,
    max_pdu: u32,
    data_sn: DataSn,
    status: bool,
    /// PDUs that are to be made at most.
    left: u32,
    /// Where the PDU with the number `base_sn` begins; those before it were as long as they were.
    base: u32,
    base_sn: u32,
}

impl Read {
    /// `total` bytes are sent: what SCSI has, and not more than the expected transfer length. With `status`, the last
    /// PDU carries the status (11.7.3), which is only for commands that end with GOOD status; else, or if there is no
    /// data, a SCSI response follows.
    #[must_use]
    pub fn new(total: u32, parameters: &Parameters, status: bool) -> Self {
        let max_burst = parameters.max_burst.max(1);
        Read {
            total,
            sent: 0,
            burst_end: max_burst.min(total),
            max_burst,
            max_pdu: parameters.max_xmit.max(1),
            data_sn: DataSn(0),
            status,
            left: u32::MAX,
            base: 0,
            base_sn: 0,
        }
    }

    /// Whether there is no further PDU.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.sent >= self.total || self.left == 0
    }

    /// Whether the PDU that was made last is the last one of all.
    #[must_use]
    pub const fn is_at_end(&self) -> bool {
        self.sent >= self.total
    }

    /// How many PDUs there are of it in all.
    #[must_use]
    pub fn pdus_in_all(&self) -> u32 {
        let of = |bytes: u32| bytes.div_ceil(self.max_pdu);
        let (first_end, first) = self.first_burst();
        let more = self.total.saturating_sub(first_end);
        let bursts = more.checked_div(self.max_burst).unwrap_or(0);
        let rest = more.checked_rem(self.max_burst).unwrap_or(0);
        bursts
            .saturating_mul(of(self.max_burst))
            .saturating_add(of(rest))
            .saturating_add(first)
            .saturating_add(self.base_sn)
    }

    /// Where the burst ends that `base` is in, and of how many PDUs it is from there on.
    fn first_burst(&self) -> (u32, u32) {
        let within = self.base.checked_rem(self.max_burst).unwrap_or(0);
        let rest = self.max_burst.saturating_sub(within);
        let end = self.base.saturating_add(rest).min(self.total);
        let pdus = end.saturating_sub(self.base).div_ceil(self.max_pdu);
        (end, pdus)
    }

    /// The same PDUs once more (11.16): those from number `first` on, `count` of them at most.
    #[must_use]
    pub fn again(&self, first: u32, count: u32) -> Read {
        let first = first.max(self.base_sn);
        let ahead = first.saturating_sub(self.base_sn);
        let (first_end, pdus) = self.first_burst();
        let (start, burst_end, within) = match ahead.checked_sub(pdus) {
            None => (self.base, first_end, ahead),
            Some(ahead) => {
                let per_burst = self.max_burst.div_ceil(self.max_pdu).max(1);
                let burst = ahead.checked_div(per_burst).unwrap_or(0);
                let start = first_end.saturating_add(burst.saturating_mul(self.max_burst));
                let end = start.saturating_add(self.max_burst);
                (start, end, ahead.checked_rem(per_burst).unwrap_or(0))
            }
        };
        let sent = start.saturating_add(within.saturating_mul(self.max_pdu));
        Read {
            sent: sent.min(self.total),
            burst_end: burst_end.min(self.total),
            data_sn: DataSn(first),
            left: count,
            ..*self
        }
    }

    /// The same data in PDUs of `max_pdu` bytes at most, from the beginning.
    #[must_use]
    pub fn resegmented(&self, max_pdu: u32) -> Read {
        Read {
            max_pdu: max_pdu.max(1),
            ..*self
        }
        .again(0, u32::MAX)
    }

    /// On another connection (7.2.2): the PDUs from number `first` on, of `max_pdu` bytes at most. Those before are not asked for
    /// any more.
    #[must_use]
    pub fn resumed(&self, first: u32, max_pdu: u32) -> Read {
        let rest = self.again(first, u32::MAX);
        Read {
            max_pdu: max_pdu.max(1),
            base: rest.sent,
            base_sn: rest.data_sn.0,
            ..rest
        }
    }

    /// Bytes that may still be asked for.
    #[must_use]
    pub const fn rest(&self) -> u32 {
        self.total.saturating_sub(self.base)
    }

    /// The number of the first PDU that may still be asked for.
    #[must_use]
    pub const fn first(&self) -> u32 {
        self.base_sn
    }

    /// How long a PDU may be.
    #[must_use]
    pub const fn max_pdu(&self) -> u32 {
        self.max_pdu
    }

    /// How many Data-In PDUs were made: the response's ExpDataSN.
    #[must_use]
    pub const fn pdus(&self) -> DataSn {
        self.data_sn
    }
}

impl Iterator for Read {
    type Item = Chunk;

    fn next(&mut self) -> Option<Chunk> {
        if self.is_over() {
            return None;
        }
        let offset = self.sent;
        let end = offset.saturating_add(self.max_pdu).min(self.burst_end);
        let all = end == self.total;
        let chunk = Chunk {
            offset,
            length: end.saturating_sub(offset),
            data_sn: self.data_sn,
            flags: DataInFlags::default()
                .with_last(end == self.burst_end)
                .with_status(all && self.status),
        };
        if end == self.burst_end {
            self.burst_end = end.saturating_add(self.max_burst).min(self.total);
        }
        self.sent = end;
        self.data_sn = self.data_sn.next();
        self.left = self.left.saturating_sub(1);
        Some(chunk)
    }
}

/// How the data of a command differs from what the initiator expected: 11.4.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residual {
    /// Not at all.
    None,
    /// So many bytes more would have been there.
    Overflow(u32),
    /// So many bytes of those expected were not transferred.
    Underflow(u32),
}

impl Residual {
    /// `expected` is the expected transfer length; `actual` is how many bytes the command as SCSI understands it
    /// transfers. Both in bytes.
    #[must_use]
    pub fn of(expected: u32, actual: u64) -> Residual {
        let expected64 = u64::from(expected);
        if actual > expected64 {
            let more = actual.saturating_sub(expected64);
            Residual::Overflow(u32::try_from(more).unwrap_or(u32::MAX))
        } else {
            match u32::try_from(expected64.saturating_sub(actual)) {
                Ok(0) | Err(_) => Residual::None,
                Ok(less) => Residual::Underflow(less),
            }
        }
    }

    /// The residual count.
    #[must_use]
    pub const fn count(self) -> u32 {
        match self {
            Residual::None => 0,
            Residual::Overflow(n) | Residual::Underflow(n) => n,
        }
    }

    /// The flags of a SCSI response.
    #[must_use]
    pub fn response_flags(self) -> ResponseFlags {
        ResponseFlags::default()
            .with_overflow(matches!(self, Residual::Overflow(_)))
            .with_underflow(matches!(self, Residual::Underflow(_)))
    }

    /// Those of a Data-In PDU that carries the status.
    #[must_use]
    pub fn data_in_flags(self, flags: DataInFlags) -> DataInFlags {
        flags
            .with_overflow(matches!(self, Residual::Overflow(_)))
            .with_underflow(matches!(self, Residual::Underflow(_)))
    }
}
