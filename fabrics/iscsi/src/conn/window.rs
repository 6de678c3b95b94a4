// SPDX-License-Identifier: GPL-2.0

//! The command window of a connection: its own, or that of a session which may have several (RFC 7143, 4.2.2.1).

use crate::{order::Ordered, session::Shared};
use iscsi_proto::{
    error::Error as Wrong,
    pdu::Numbers,
    seq::{Admission, CmdWindow, StatSeq},
    sn::{CmdSn, StatSn},
};
use kernel::sync::Arc;

/// The window.
pub(super) enum Window {
    /// Of the one connection that the session may have: no lock is needed.
    Own(CmdWindow),
    /// Of all connections.
    Shared(Arc<Ordered>),
}

impl Window {
    pub(super) fn new(first: CmdSn, depth: u32, session: Option<&Shared>) -> Self {
        match session.and_then(|s| s.order.clone()) {
            Some(order) => Window::Shared(order),
            None => Window::Own(CmdWindow::new(first, depth)),
        }
    }

    /// See [`CmdWindow::admit`]. Where there may be several connections, what comes here is what
    /// [`Ffp::arrange`](super::ffp::Ffp::arrange) has found to be next.
    pub(super) fn admit(&mut self, cmd_sn: CmdSn, immediate: bool) -> Result<Admission, Wrong> {
        match self {
            Window::Own(w) => w.admit(cmd_sn, immediate),
            Window::Shared(_) => Ok(Admission::Execute),
        }
    }

    /// See [`CmdWindow::is_ahead`]: of the one connection.
    pub(super) fn is_ahead(&self, cmd_sn: CmdSn) -> bool {
        match self {
            Window::Own(w) => w.is_ahead(cmd_sn),
            Window::Shared(_) => false,
        }
    }

    pub(super) fn release(&mut self) {
        match self {
            Window::Own(w) => w.release(),
            Window::Shared(order) => order.with(|o| o.release()),
        }
    }

    /// The next number that is expected, and the last that is taken.
    pub(super) fn bounds(&self) -> (CmdSn, CmdSn) {
        match self {
            Window::Own(w) => (w.expected(), w.max()),
            Window::Shared(order) => order.with(|o| (o.expected(), o.max())),
        }
    }

    pub(super) fn numbers(&self, stat: &mut StatSeq) -> Numbers {
        self.with_stat_sn(stat.take())
    }

    pub(super) fn with_stat_sn(&self, stat_sn: StatSn) -> Numbers {
        match self {
            Window::Own(w) => w.with_stat_sn(stat_sn),
            Window::Shared(order) => order.with(|o| o.with_stat_sn(stat_sn)),
        }
    }
}
