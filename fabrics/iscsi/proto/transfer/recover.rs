// SPDX-License-Identifier: GPL-2.0

//! Write data at error recovery level 1 and above: RFC 7143, 7.1.4.1, 7.8, 7.9, 11.8.
//!
//! A sequence of which something is lost is given up at its first byte that is not here: what follows of it is thrown away, and
//! when it is over, or its time is, a recovery R2T asks for the rest. So there is no hole within a sequence, and no more gaps
//! than R2Ts.

use super::{Fault, Place, Wanted};
use crate::error::{Error, RejectReason};
use crate::negotiate::Parameters;
use crate::pdu::{DataOut, ScsiCommand};
use crate::sn::{DataSn, R2tSn};
use crate::wire::{Lun, Ttt};

#[cfg(test)]
mod tests;

/// R2Ts of a command that wait to be answered at a time, whatever MaxOutstandingR2T is.
pub const OUTSTANDING: usize = 4;

/// A sequence that is coming in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Burst {
    r2t_sn: u32,
    start: u32,
    /// All before it is here.
    next: u32,
    end: u32,
    data_sn: DataSn,
    /// Something is missing at `next`.
    lost: bool,
}

/// A range of bytes that were asked for and have not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Gap {
    start: u32,
    end: u32,
}

/// Where a data PDU belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sequence {
    Unsolicited,
    Burst(usize),
}

/// The data PDU that was taken last: its digest comes after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Taken {
    sequence: Sequence,
    start: u32,
    /// The end of its sequence, if it was the last one of it.
    over: Option<u32>,
}

/// The data of a write command while it comes in, with all that is lost asked for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovering {
    index: u16,
    lun: Lun,
    whole_burst: bool,
    max_burst: u32,
    max_outstanding: usize,
    wanted: u32,
    /// R2Ts have asked for all up to here, or it came without.
    asked: u32,
    /// Unsolicited data was announced.
    announced: bool,
    unsolicited: Option<Burst>,
    bursts: [Option<Burst>; OUTSTANDING],
    gaps: [Option<Gap>; OUTSTANDING],
    sent: u32,
    taken: Option<Taken>,
    fault: Option<Fault>,
}

impl Recovering {
    /// As [`super::Write::new`].
    #[must_use]
    pub fn new(command: &ScsiCommand, parameters: &Parameters, index: u16, wanted: u32) -> Self {
        let immediate = command.data_len.bytes();
        let first_end = parameters.first_burst.min(command.expected_len);
        let announced = !command.flags.last();
        let fault = super::unagreed(command, parameters);
        let outstanding = usize::from(parameters.max_outstanding_r2t.max(1));
        Recovering {
            index,
            lun: command.lun,
            whole_burst: command.expected_len > parameters.first_burst,
            max_burst: parameters.max_burst.max(1),
            max_outstanding: outstanding.min(OUTSTANDING),
            wanted: wanted.min(command.expected_len),
            asked: immediate,
            announced,
            unsolicited: announced.then_some(Burst {
                r2t_sn: 0,
                start: immediate,
                next: immediate,
                end: first_end,
                data_sn: DataSn(0),
                lost: false,
            }),
            bursts: [None; OUTSTANDING],
            gaps: [None; OUTSTANDING],
            sent: 0,
            taken: None,
            fault,
        }
    }

    /// Where the immediate data goes, whose digest has been checked.
    #[must_use]
    pub fn immediate(&self) -> Place {
        Place {
            offset: 0,
            keep: match self.fault {
                Some(_) => 0,
                None => self.asked.min(self.wanted),
            },
        }
    }

    fn burst(&mut self, sequence: Sequence) -> Option<&mut Option<Burst>> {
        match sequence {
            Sequence::Unsolicited => Some(&mut self.unsolicited),
            Sequence::Burst(i) => self.bursts.get_mut(i),
        }
    }

    /// The sequence that a PDU belongs to; `None` if that is over: it comes late, or again.
    fn find(&self, pdu: &DataOut) -> Result<Option<Sequence>, Error> {
        if pdu.ttt == Ttt::NONE {
            return match (self.unsolicited, self.announced) {
                (Some(_), _) => Ok(Some(Sequence::Unsolicited)),
                (None, true) => Ok(None),
                (None, false) => Err(Error::reject(
                    RejectReason::ProtocolError,
                    "11.7.1: unsolicited data that was not announced",
                )),
            };
        }
        let is = |sn: u32| pdu.ttt == Ttt::new(self.index, sn);
        let at = self
            .bursts
            .iter()
            .position(|b| b.is_some_and(|b| is(b.r2t_sn)));
        // The numbers in the tags go round.
        let sent = match self.sent.checked_sub(0x1_0000) {
            None => (pdu.ttt.0 & 0xffff) < self.sent,
            Some(_) => true,
        };
        if at.is_none() && !(pdu.ttt.index() == self.index && sent) || pdu.lun != self.lun {
            return Err(Error::reject(
                RejectReason::InvalidPduField,
                "11.7.4: not the transfer tag of an R2T",
            ));
        }
        Ok(at.map(Sequence::Burst))
    }

    /// Takes a Data-Out PDU of this command: where its data goes. If its digest turns out to be wrong, [`Self::spoil`] follows.
    ///
    /// # Errors
    /// What is answered; the data is thrown away, and nothing changes.
    pub fn data_out(&mut self, pdu: &DataOut) -> Result<Place, Error> {
        const NOTHING: Place = Place { offset: 0, keep: 0 };
        let sequence = self.find(pdu)?;
        let faulty = self.fault.is_some();
        let (wanted, whole) = (self.wanted, self.whole_burst);
        let Some((sequence, place)) = sequence.and_then(|s| Some((s, self.burst(s)?))) else {
            self.taken = None;
            return Ok(NOTHING);
        };
        let Some(mut burst) = *place else {
            return Ok(NOTHING);
        };
        let last = pdu.flags.last();
        let end = pdu.offset.checked_add(pdu.data_len.bytes());
        let end = end.filter(|&end| end <= burst.end);
        if faulty || pdu.data_sn.before(burst.data_sn) {
            // It is drained; or the PDU came before.
            if faulty && last {
                *place = None;
            }
            self.taken = None;
            return Ok(NOTHING);
        }
        let in_turn = pdu.data_sn == burst.data_sn && !burst.lost;
        if in_turn && end.is_some() && pdu.offset != burst.next {
            return Err(Error::reject(
                RejectReason::InvalidPduField,
                "13.18: data out of order",
            ));
        }
        let mut fault = None;
        let mut taken = None;
        let mut keep = 0;
        match end {
            None => fault = Some(Fault::IncorrectAmount),
            Some(end) if in_turn => {
                keep = wanted.min(end).saturating_sub(pdu.offset);
                taken = Some(Taken {
                    sequence,
                    start: burst.next,
                    over: last.then_some(burst.end),
                });
                burst.next = end;
                burst.data_sn = burst.data_sn.next();
                let must = whole || sequence != Sequence::Unsolicited;
                if last && must && end != burst.end {
                    fault = Some(Fault::IncorrectAmount);
                }
            }
            // 7.9: what came between is lost.
            Some(_) => burst.lost = true,
        }
        *place = Some(burst).filter(|_| !last);
        self.taken = taken;
        if last {
            self.over(sequence, burst);
        }
        if let Some(fault) = fault {
            self.fail(fault);
        }
        Ok(Place {
            offset: pdu.offset,
            keep,
        })
    }

    /// The sequence is over: what did not come of it is a gap, or, unsolicited, has not been asked for.
    fn over(&mut self, sequence: Sequence, burst: Burst) {
        match sequence {
            Sequence::Unsolicited => self.asked = burst.next,
            Sequence::Burst(_) => self.gap(burst.next, burst.end),
        }
    }

    fn gap(&mut self, start: u32, end: u32) {
        // There is a place: no R2T is sent for what is new while there is a gap, and each sequence leaves one at most.
        if let (true, Some(place)) = (start < end, self.gaps.iter_mut().find(|g| g.is_none())) {
            *place = Some(Gap { start, end });
        }
    }

    /// The data of the PDU that was taken last is not what was sent (7.8 a).
    pub fn spoil(&mut self) {
        let Some(taken) = self.taken.take() else {
            return;
        };
        match (taken.over, taken.sequence) {
            (Some(_), Sequence::Unsolicited) => self.asked = taken.start,
            (Some(end), Sequence::Burst(_)) => self.gap(taken.start, end),
            (None, sequence) => {
                if let Some(Some(burst)) = self.burst(sequence) {
                    burst.next = taken.start;
                    burst.lost = true;
                }
            }
        }
    }

    /// The PDU that was taken last has not come as a whole: its data, the command's own too, is asked for again.
    pub fn interrupt(&mut self) {
        if self.taken.is_some() {
            self.spoil();
        } else {
            self.unsolicited = None;
            self.asked = 0;
        }
    }

    /// It goes on on another connection (7.2.2), as the command with this index: what was asked for is asked for again, by R2Ts
    /// with the next numbers.
    pub fn reassign(&mut self, index: u16) {
        self.expire();
        self.index = index;
        self.announced = false;
    }

    /// What should have come has not, for too long: all that is outstanding is asked for again.
    pub fn expire(&mut self) {
        self.taken = None;
        if let Some(burst) = self.unsolicited.take() {
            self.over(Sequence::Unsolicited, burst);
        }
        for i in 0..OUTSTANDING {
            if let Some(burst) = self.bursts.get_mut(i).and_then(Option::take) {
                self.over(Sequence::Burst(i), burst);
            }
        }
    }

    fn outstanding(&self) -> usize {
        self.bursts.iter().flatten().count()
    }

    /// Whether [`Self::next_r2t`] would give one.
    #[must_use]
    pub fn wants_r2t(&self) -> bool {
        self.unsolicited.is_none()
            && self.fault.is_none()
            && self.outstanding() < self.max_outstanding
            && (self.asked < self.wanted || self.gaps.iter().any(Option::is_some))
    }

    /// The next R2T, for a gap first. It counts as sent.
    pub fn next_r2t(&mut self) -> Option<Wanted> {
        if !self.wants_r2t() {
            return None;
        }
        let place = self.bursts.iter_mut().find(|b| b.is_none())?;
        let first = self.gaps.iter_mut().filter(|g| g.is_some());
        let gap = first.min_by_key(|g| g.map_or(u32::MAX, |g| g.start));
        let (start, end) = match gap.and_then(Option::take) {
            // No sequence is longer than a burst.
            Some(gap) => (gap.start, gap.end),
            None => {
                let start = self.asked;
                self.asked = start.saturating_add(self.max_burst).min(self.wanted);
                (start, self.asked)
            }
        };
        let burst = Burst {
            r2t_sn: self.sent,
            start,
            next: start,
            end,
            data_sn: DataSn(0),
            lost: false,
        };
        *place = Some(burst);
        self.sent = self.sent.wrapping_add(1);
        Some(self.r2t(&burst))
    }

    const fn r2t(&self, burst: &Burst) -> Wanted {
        Wanted {
            ttt: Ttt::new(self.index, burst.r2t_sn),
            r2t_sn: R2tSn(burst.r2t_sn),
            offset: burst.start,
            length: burst.end.saturating_sub(burst.start),
        }
    }

    /// The R2T with this number once more, if nothing has come for it yet: what has is acknowledged by that (11.16).
    #[must_use]
    pub fn again(&self, r2t_sn: u32) -> Option<Wanted> {
        let mut bursts = self.bursts.iter().flatten();
        let burst = bursts.find(|b| b.r2t_sn == r2t_sn && b.next == b.start && !b.lost)?;
        Some(self.r2t(burst))
    }

    /// As [`super::Write::give_up`].
    pub fn give_up(&mut self) {
        self.fail(Fault::IncorrectAmount);
    }

    /// As [`super::Write::fail`].
    pub fn fail(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
        self.taken = None;
    }

    /// Whether no more data is to come: the command is executed, or, with a fault, answered.
    #[must_use]
    pub fn complete(&self) -> bool {
        let rest = self.asked < self.wanted || self.gaps.iter().any(Option::is_some);
        self.unsolicited.is_none() && self.outstanding() == 0 && (self.fault.is_some() || !rest)
    }

    /// What is wrong with the data.
    #[must_use]
    pub const fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// How many R2Ts were sent: the response's ExpDataSN.
    #[must_use]
    pub const fn r2ts(&self) -> DataSn {
        DataSn(self.sent)
    }
}
