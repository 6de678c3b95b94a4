// SPDX-License-Identifier: GPL-2.0

//! SNACK (RFC 7143, 11.16): what the initiator has not got is sent again.

use super::{
    ffp::Ffp,
    receive::Data,
    retained::{Entry, Held, Kept, Sent},
};
use crate::data_in::DataIns;
use iscsi_proto::{
    error::{Error as Wrong, RejectReason},
    pdu::{renew, Head, R2t, ScsiResponse, Snack},
    recovery::{self, Asked, Run, GONE},
    sn::{DataSn, StatSn},
    transfer::{Read, Wanted},
    wire::{Bhs, Itt, Lun, Ttt},
};
use kernel::{prelude::*, sync::Arc};
use lio_glue::buffer::Buffer;

/// Requests for data that TCP does not have yet, which wait until it has.
const MAX_WAITING: usize = 8;
/// Reads that are this long ask to be acknowledged, so that their data need not be kept until their status is.
pub(super) const ACKNOWLEDGED: u32 = 64 << 10;

const NOT_SENT: Wrong = Wrong::reject(
    RejectReason::ProtocolError,
    "11.16: SNACK for what was not sent, or is acknowledged",
);
const LENGTH: Wrong = Wrong::reject(
    RejectReason::ProtocolError,
    "11.16: not an R-Data SNACK, but MaxRecvDataSegmentLength has changed",
);
const WRONG_ACK: Wrong = Wrong::reject(
    RejectReason::InvalidDataAck,
    "11.16: a DataACK that was not asked for",
);

/// What becomes of a request for data.
enum Fate {
    /// These PDUs are sent again.
    Send(Arc<Buffer>, Read, Option<(Lun, Ttt)>),
    /// When it is there.
    Wait,
    /// There is nothing more to be sent.
    Nothing,
}

impl Ffp {
    pub(super) fn snack(&mut self, bhs: &Bhs, head: &Head, pdu: &Snack) -> Result<Data> {
        self.acknowledge(pdu.exp_stat_sn);
        self.serve(bhs, pdu)?;
        Ok(Data::nothing(head))
    }

    fn serve(&mut self, bhs: &Bhs, pdu: &Snack) -> Result {
        let served = match recovery::read(pdu) {
            Ok(Asked::Status(run)) => self.statuses(run)?,
            Ok(Asked::Data { itt, run }) => self.data_again(bhs, itt, run)?,
            Ok(Asked::Acknowledge { ttt, next }) => self.data_acknowledged(ttt, next),
            Ok(Asked::Resegment { itt, tag }) => self.resegment(bhs, itt, tag)?,
            Err(wrong) => Err(wrong),
        };
        match served {
            Ok(()) => Ok(()),
            Err(wrong) => self.reject(bhs, &wrong),
        }
    }

    fn statuses(&mut self, run: Run) -> Result<Result<(), Wrong>> {
        let (acknowledged, next) = (self.stat.acknowledged(), self.stat.next());
        let (skip, count) = match run.within(acknowledged.0, next.0) {
            Ok(found) => found,
            Err(wrong) => return Ok(Err(wrong)),
        };
        let first = acknowledged.plus(skip);
        for n in 0..count {
            let entry = self
                .retained
                .as_deref_mut()
                .and_then(|r| r.get(first.plus(n)));
            if entry.is_none_or(|e| matches!(e.held, Held::Gone)) {
                return Ok(Err(GONE));
            }
        }
        for n in 0..count {
            self.status_again(first.plus(n))?;
        }
        Ok(Ok(()))
    }

    // Sends the response with this number again, if it is kept.
    fn status_again(&mut self, sn: StatSn) -> Result {
        let window = self.window.with_stat_sn(sn);
        let Some(entry) = self.retained.as_deref_mut().and_then(|r| r.get(sn)) else {
            return Ok(());
        };
        renew(&mut entry.bhs, window);
        match &entry.held {
            Held::Text(text) => self.link.tx.push(&entry.bhs, &[text]),
            Held::Buffer(buffer) => self.link.tx.push_shared(&entry.bhs, buffer.clone()),
            Held::Read(_) => self.link.tx.push(&entry.bhs, &[]),
            Held::Gone => Ok(()),
        }
    }

    // The read with this tag, that is answered.
    fn sent_read(&mut self, itt: Itt) -> Option<(StatSn, &mut Bhs, &mut Sent)> {
        match self.retained.as_deref_mut()?.find(itt)? {
            (
                sn,
                Entry {
                    bhs,
                    held: Held::Read(sent),
                },
            ) => Some((sn, bhs, sent)),
            _ => None,
        }
    }

    fn data_again(&mut self, bhs: &Bhs, itt: Itt, run: Run) -> Result<Result<(), Wrong>> {
        let max = self.parameters.max_xmit;
        let fate = match self.sent_read(itt) {
            None => return self.r2ts_again(itt, run),
            Some((_, _, sent)) => match &sent.data {
                Kept::Coming => Ok(Fate::Wait),
                Kept::Gone => Err(GONE),
                Kept::Acknowledged => Err(NOT_SENT),
                Kept::There(_) if sent.read.max_pdu() != max => Err(LENGTH),
                Kept::There(data) => {
                    run.within(0, sent.read.pdus_in_all())
                        .map(|(first, count)| {
                            Fate::Send(
                                data.clone(),
                                sent.read.again(first, count),
                                sent.acknowledge,
                            )
                        })
                }
            },
        };
        match fate {
            Ok(fate) => self.send_again(bhs, itt, fate, None),
            Err(wrong) => Ok(Err(wrong)),
        }
    }

    fn send_again(
        &mut self,
        bhs: &Bhs,
        itt: Itt,
        fate: Fate,
        status: Option<StatSn>,
    ) -> Result<Result<(), Wrong>> {
        match fate {
            Fate::Wait if self.snacks.len() >= MAX_WAITING => return Ok(Err(GONE)),
            Fate::Wait => self.snacks.push(*bhs, GFP_KERNEL)?,
            Fate::Send(data, read, acknowledge) => {
                let sn = self.window.with_stat_sn(StatSn(0));
                let parts = DataIns::without_status(read, itt, sn, acknowledge);
                self.link.tx.push_again(data, parts)?;
            }
            Fate::Nothing => {}
        }
        match status {
            Some(sn) => self.status_again(sn).map(Ok),
            None => Ok(Ok(())),
        }
    }

    /// The data of reads that was sent is kept; who waits for it is served.
    pub(super) fn take_kept(&mut self) -> Result {
        let mut some = false;
        while let Some((sn, data)) = self.link.tx.take_kept() {
            if let Some(retained) = self.retained.as_deref_mut() {
                retained.attach(sn, data);
                some = true;
            }
        }
        if some && !self.snacks.is_empty() {
            for bhs in core::mem::take(&mut self.snacks) {
                self.serve(&bhs, &Snack::read(&bhs))?;
            }
        }
        Ok(())
    }

    // 11.16: the response is to be sent with the tag, and after the data, whatever was sent before.
    fn resegment(&mut self, bhs: &Bhs, itt: Itt, tag: u32) -> Result<Result<(), Wrong>> {
        let max = self.parameters.max_xmit;
        let Some((sn, response, sent)) = self.sent_read(itt) else {
            return Ok(Err(NOT_SENT));
        };
        let fate = match &sent.data {
            Kept::Coming => return self.send_again(bhs, itt, Fate::Wait, None),
            Kept::Gone => return Ok(Err(GONE)),
            Kept::Acknowledged => Fate::Nothing,
            Kept::There(data) => {
                sent.read = sent.read.resegmented(max);
                Fate::Send(data.clone(), sent.read, sent.acknowledge)
            }
        };
        let mut pdu = ScsiResponse::read(response);
        pdu.snack_tag = tag;
        pdu.exp_data_sn = DataSn(sent.read.pdus_in_all());
        pdu.emit(response);
        self.send_again(bhs, itt, fate, Some(sn))
    }

    fn data_acknowledged(&mut self, ttt: Ttt, next: DataSn) -> Result<(), Wrong> {
        let retained = self.retained.as_deref_mut().ok_or(WRONG_ACK)?;
        let sn = recovery::acknowledged(ttt, retained.oldest()).ok_or(WRONG_ACK)?;
        match retained.get(sn) {
            Some(Entry {
                held: Held::Read(sent),
                ..
            }) if next.0 == sent.read.pdus_in_all() => {
                match sent.data {
                    Kept::There(_) => retained.data_acknowledged(sn),
                    // The bytes that it waits for TCP to be rid of are acknowledged already.
                    Kept::Coming | Kept::Acknowledged | Kept::Gone => {}
                }
                Ok(())
            }
            // It may have been acknowledged with its status.
            None => Ok(()),
            Some(_) => Err(WRONG_ACK),
        }
    }

    fn r2ts_again(&mut self, itt: Itt, run: Run) -> Result<Result<(), Wrong>> {
        let Some((index, sent)) = self.writes.asked(itt) else {
            return Ok(Err(NOT_SENT));
        };
        let (first, count) = match run.within(0, sent) {
            Ok(found) => found,
            Err(wrong) => return Ok(Err(wrong)),
        };
        let mut some = false;
        // Of those before, none waits for its data.
        let skip = count.saturating_sub(self.writes.slots());
        for n in skip..count {
            if let Some((lun, r2t)) = self.writes.r2t_again(index, first.saturating_add(n)) {
                self.send_r2t(lun, itt, &r2t)?;
                some = true;
            }
        }
        Ok(if some { Ok(()) } else { Err(NOT_SENT) })
    }

    pub(super) fn send_r2t(&mut self, lun: Lun, itt: Itt, wanted: &Wanted) -> Result {
        let mut bhs = [0; 48];
        R2t {
            lun,
            itt,
            ttt: wanted.ttt,
            sn: self.window.with_stat_sn(self.stat.next()),
            r2t_sn: wanted.r2t_sn,
            offset: wanted.offset,
            length: wanted.length,
        }
        .emit(&mut bhs);
        self.link.tx.push_r2t(&bhs)
    }

    /// Takes note of what the initiator has.
    pub(super) fn acknowledge(&mut self, next: StatSn) {
        if self.stat.acknowledge(next) {
            if let Some(retained) = self.retained.as_deref_mut() {
                retained.acknowledge(next);
            }
        }
    }

    /// Sends a response that has taken a number.
    pub(super) fn respond(&mut self, bhs: &Bhs, data: &[u8]) -> Result {
        let Some(retained) = self.retained.as_deref_mut() else {
            return self.link.send(bhs, data);
        };
        let sn = self.stat.next().before_this();
        if data.len() > crate::tx::MAX_INLINE {
            let buffer = Buffer::alloc(data.len(), false)?;
            buffer.write_at(0, data);
            return self.respond_buffer(bhs, buffer);
        }
        let mut text = KVec::with_capacity(data.len(), GFP_KERNEL)?;
        text.extend_from_slice(data, GFP_KERNEL)?;
        retained.keep(
            sn,
            Entry {
                bhs: *bhs,
                held: Held::Text(text),
            },
        );
        self.link.send(bhs, data)
    }

    /// As [`Self::respond`], with all of a buffer that is not empty.
    pub(super) fn respond_buffer(&mut self, bhs: &Bhs, buffer: Buffer) -> Result {
        let sn = self.stat.next().before_this();
        let Some(retained) = self.retained.as_deref_mut() else {
            let len = buffer.len();
            return self.link.send_buffer(bhs, buffer, len);
        };
        let buffer = Arc::new(buffer, GFP_KERNEL)?;
        retained.keep(
            sn,
            Entry {
                bhs: *bhs,
                held: Held::Buffer(buffer.clone()),
            },
        );
        self.link.tx.push_shared(bhs, buffer)
    }
}
