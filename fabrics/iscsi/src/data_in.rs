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
        }
    }
}

impl Iterator for DataIns {
    type Item = Part;

    fn next(&mut self) -> Option<Part> {
        let chunk = self.read.next()?;
        let last = chunk.flags.status();
        let (flags, status, sn, residual) = match last {
            true => (
                self.residual.data_in_flags(chunk.flags),
                self.status,
                self.last,
                self.residual.count(),
            ),
            false => (chunk.flags, 0, self.others, 0),
        };
        let mut bhs = [0; 48];
        DataIn {
            flags,
            status,
            data_len: DataLen::at_most(chunk.length as usize),
            lun: Lun::default(),
            itt: self.itt,
            ttt: Ttt::NONE,
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
