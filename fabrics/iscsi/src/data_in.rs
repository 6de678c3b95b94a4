// SPDX-License-Identifier: GPL-2.0

//! The Data-In PDUs of a read (RFC 7143, 11.7), made one by one when it is their turn to be sent: what a reply takes
//! while it waits does not depend on how small the pieces are that the initiator wants.

use iscsi_proto::{
    pdu::{DataIn, Numbers},
    transfer::{Read, Residual},
    wire::{Bhs, DataLen, Itt, Lun, Ttt},
};

/// What is the same in all PDUs of one command, and how far they are.
#[derive(Clone)]
pub(crate) struct DataIns {
    read: Read,
    itt: Itt,
    // Those of the last one, whose status is numbered; and of the others.
    last: Numbers,
    others: Numbers,
    status: u8,
    residual: Residual,
    // The last one asks to be acknowledged, with this tag.
    acknowledge: Option<(Lun, Ttt)>,
}

/// One PDU.
pub(crate) struct Part {
    pub(crate) bhs: Bhs,
    /// Its data: `len` bytes at `off` of the command's.
    pub(crate) off: usize,
    pub(crate) len: usize,
    /// It is the last one.
    pub(crate) last: bool,
}

impl DataIns {
    /// `read` has the status go with the last PDU. `last` and `others` are the numbers of the last PDU and of those before it.
    pub(crate) fn new(
        read: Read,
        itt: Itt,
        (last, others): (Numbers, Numbers),
        status: u8,
        residual: Residual,
    ) -> Self {
        DataIns {
            read,
            itt,
            last,
            others,
            status,
            residual,
            acknowledge: None,
        }
    }

    /// Data alone: the status goes in a response of its own. `acknowledge`: see there.
    pub(crate) fn without_status(
        read: Read,
        itt: Itt,
        sn: Numbers,
        acknowledge: Option<(Lun, Ttt)>,
    ) -> Self {
        DataIns {
            acknowledge,
            ..Self::new(read, itt, (sn, sn), 0, Residual::None)
        }
    }
}

impl Iterator for DataIns {
    type Item = Part;

    fn next(&mut self) -> Option<Part> {
        let chunk = self.read.next()?;
        let last = self.read.is_over();
        let (flags, status, sn, residual) = match chunk.flags.status() {
            true => (
                self.residual.data_in_flags(chunk.flags),
                self.status,
                self.last,
                self.residual.count(),
            ),
            false => (chunk.flags, 0, self.others, 0),
        };
        let acknowledge = self.acknowledge.filter(|_| self.read.is_at_end());
        let (lun, ttt) = acknowledge.unwrap_or((Lun::default(), Ttt::NONE));
        let mut bhs = [0; 48];
        DataIn {
            flags: flags.with_acknowledge(acknowledge.is_some()),
            status,
            data_len: DataLen::at_most(chunk.length as usize),
            lun,
            itt: self.itt,
            ttt,
            sn,
            data_sn: chunk.data_sn,
            offset: chunk.offset,
            residual,
        }
        .emit(&mut bhs);
        Some(Part {
            bhs,
            off: chunk.offset as usize,
            len: chunk.length as usize,
            last,
        })
    }
}
