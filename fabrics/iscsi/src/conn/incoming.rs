// SPDX-License-Identifier: GPL-2.0

//! A command's data while it comes in: at error recovery level 0, or with what is lost asked for again.

use iscsi_proto::{
    error::Error as Wrong,
    pdu::DataOut,
    sn::DataSn,
    transfer::{recover::Recovering, Fault, Place, Wanted, Write},
};
use kernel::prelude::*;

pub(super) enum Incoming {
    Plain(Write),
    Recovering(KBox<Recovering>),
}

macro_rules! either {
    ($of:expr, $w:ident => $what:expr) => {
        match $of {
            Incoming::Plain($w) => $what,
            Incoming::Recovering($w) => $what,
        }
    };
}

// What both have.
impl Incoming {
    pub(super) fn immediate(&self) -> Place {
        either!(self, w => w.immediate())
    }

    pub(super) fn data_out(&mut self, pdu: &DataOut) -> Result<Place, Wrong> {
        either!(self, w => w.data_out(pdu))
    }

    /// Whether the command has got on by a PDU whose data goes to `place`: one that has no data brings nothing, nor one that came before.
    pub(super) fn gets_on(&self, pdu: &DataOut, place: &Place) -> bool {
        match self {
            Incoming::Recovering(w) if w.fault().is_none() => place.keep > 0,
            // In its turn, or to be thrown away.
            _ => pdu.data_len.bytes() > 0,
        }
    }

    pub(super) fn wants_r2t(&self) -> bool {
        either!(self, w => w.wants_r2t())
    }

    pub(super) fn next_r2t(&mut self) -> Option<Wanted> {
        either!(self, w => w.next_r2t())
    }

    pub(super) fn give_up(&mut self) {
        either!(self, w => w.give_up())
    }

    pub(super) fn complete(&self) -> bool {
        either!(self, w => w.complete())
    }

    pub(super) fn fault(&self) -> Option<Fault> {
        either!(self, w => w.fault())
    }

    pub(super) fn r2ts(&self) -> DataSn {
        either!(self, w => w.r2ts())
    }
}

impl Incoming {
    /// The data that came last has a wrong digest: it is asked for again, or the command fails.
    pub(super) fn spoil(&mut self) {
        match self {
            Incoming::Plain(w) => w.fail(Fault::Digest),
            Incoming::Recovering(w) => w.spoil(),
        }
    }

    /// What has not come is asked for again; false if it cannot be.
    pub(super) fn expire(&mut self) -> bool {
        match self {
            Incoming::Plain(_) => false,
            Incoming::Recovering(w) => {
                w.expire();
                true
            }
        }
    }

    /// See [`Recovering::interrupt`].
    pub(super) fn interrupt(&mut self) {
        if let Incoming::Recovering(w) = self {
            w.interrupt();
        }
    }

    /// See [`Recovering::reassign`]; false where it cannot go on.
    pub(super) fn reassign(&mut self, index: u16) -> bool {
        match self {
            Incoming::Plain(_) => false,
            Incoming::Recovering(w) => {
                w.reassign(index);
                true
            }
        }
    }

    /// See [`Recovering::again`].
    pub(super) fn again(&self, r2t_sn: u32) -> Option<Wanted> {
        match self {
            Incoming::Plain(_) => None,
            Incoming::Recovering(w) => w.again(r2t_sn),
        }
    }
}
