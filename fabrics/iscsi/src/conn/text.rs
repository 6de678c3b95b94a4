// SPDX-License-Identifier: GPL-2.0

//! Text negotiation in full feature phase, SendTargets above all (RFC 7143, 11.10, Appendix C).

use super::{
    ffp::Ffp,
    receive::{Data, To},
};
use crate::{name::Alias, portal::Portal, rx::Rx, target::Target};
use core::net::SocketAddr;
use iscsi_proto::{
    ffp::text::{self, Declared, Exchange, SendTargets, Step},
    pdu::{Head, TextRequest, TextResponse},
    text::{Full, Writer, TEXT_MAX},
    wire::{Bhs, Ttt},
};
use kernel::{alloc::KVVec, prelude::*, sync::atomic::Relaxed};
use lio_glue::buffer::Buffer;

/// The longest reply to SendTargets, in bytes: nine thousand targets of usual names with one portal each.
const MAX_REPLY: usize = 1 << 20;

/// The text of a connection. Its memory is there only while a sequence is.
pub(super) struct Texts {
    exchange: Exchange,
    input: KVec<u8>,
    reply: KVVec<u8>,
}

impl Texts {
    pub(super) fn new() -> Self {
        Texts {
            exchange: Exchange::default(),
            input: KVec::new(),
            reply: KVVec::new(),
        }
    }

    /// Takes up to `len` bytes of text from the stage to `off`; returns how many.
    pub(super) fn take(&mut self, rx: &mut Rx, off: usize, len: usize) -> usize {
        let n = len.min(rx.available());
        let end = off.saturating_add(n);
        let taken = self.input.get_mut(off..end).is_some_and(|to| rx.take(to));
        if taken {
            n
        } else {
            0
        }
    }

    /// Puts text that was received before at `off`.
    pub(super) fn put(&mut self, off: usize, text: &[u8]) {
        let end = off.saturating_add(text.len());
        if let Some(to) = self.input.get_mut(off..end) {
            to.copy_from_slice(text);
        }
    }

    /// Copies the first `len` bytes of `from` to `off`.
    pub(super) fn put_buffer(&mut self, from: &Buffer, off: usize, len: usize) {
        if let Some(to) = self.input.get_mut(off..off.saturating_add(len)) {
            from.read_at(0, to);
        }
    }

    fn forget(&mut self) {
        self.input = KVec::new();
        self.reply = KVVec::new();
    }
}

impl Ffp {
    pub(super) fn text_request(
        &mut self,
        bhs: &Bhs,
        head: &Head,
        pdu: &TextRequest,
    ) -> Result<Data> {
        if !self.numbered(bhs, head, pdu.cmd_sn, pdu.exp_stat_sn)? {
            return Ok(Data::nothing(head));
        }
        if !head.immediate {
            // One at a time: the window opens again at once.
            self.window.release();
        }
        let held = match self.texts.exchange.held(pdu) {
            Ok(held) => held,
            Err(wrong) => {
                self.reject(bhs, &wrong)?;
                return Ok(Data::nothing(head));
            }
        };
        if self.texts.input.is_empty() {
            self.texts.input = KVec::from_elem(0, TEXT_MAX, GFP_KERNEL)?;
        }
        let keep = pdu.data_len.bytes() as usize;
        let text = KBox::new((*pdu, *bhs), GFP_KERNEL)?;
        Ok(Data::new(To::Text(text), head, held, keep))
    }

    /// The text of a request is there.
    pub(super) fn text_complete(&mut self, bhs: &Bhs, pdu: &TextRequest) -> Result {
        if pdu.ttt == Ttt::NONE {
            // 11.10.4: it begins anew.
            self.forget_declared();
        }
        let end = match self.texts.exchange.held(pdu) {
            Ok(held) => held.saturating_add(pdu.data_len.bytes() as usize),
            Err(_) => 0,
        };
        let max = self.parameters.max_xmit;
        let (window, stat) = (&self.window, &mut self.stat);
        let step = self
            .texts
            .exchange
            .request(pdu, max, || window.numbers(stat));
        match step {
            Ok(Step::Complete) => self.answer_text(bhs, end),
            Ok(Step::More(response)) => self.send_text(&response, 0),
            Ok(Step::Send { pdu, offset }) => self.send_text(&pdu, offset),
            Err(wrong) => self.reject_text(bhs, &wrong),
        }
    }

    fn reject_text(&mut self, bhs: &Bhs, wrong: &iscsi_proto::error::Error) -> Result {
        self.texts.exchange.reset();
        self.texts.forget();
        self.forget_declared();
        self.reject(bhs, wrong)
    }

    fn send_text(&mut self, pdu: &TextResponse, offset: usize) -> Result {
        let mut bhs = [0; 48];
        pdu.emit(&mut bhs);
        let end = offset.saturating_add(pdu.data_len.bytes() as usize);
        let reply = core::mem::take(&mut self.texts.reply);
        let sent = self.respond(&bhs, reply.get(offset..end).unwrap_or_default());
        self.texts.reply = reply;
        sent?;
        if pdu.flags.last() {
            self.texts.forget();
        }
        if let Some(declared) = self.texts.exchange.agreed() {
            self.renegotiated(&declared);
            self.agree_declared();
        }
        Ok(())
    }

    fn answer_text(&mut self, bhs: &Bhs, end: usize) -> Result {
        let mut size = TEXT_MAX;
        // The reply's length is known when it is written: a list that finds no room is begun again with more.
        let (total, told) = loop {
            let mut reply = KVVec::from_elem(0u8, size, GFP_KERNEL)?;
            let input = self.texts.input.get(..end).unwrap_or_default();
            let mut out = Writer::new(&mut reply);
            let written = match self.texts.exchange.answer(self.kind, input, &mut out) {
                Ok(Some(which)) => self.send_targets(&which, &mut out),
                Ok(None) => Ok(()),
                Err(wrong) => return self.reject_text(bhs, &wrong),
            };
            let declared = written.and_then(|()| self.declare(&mut out));
            let total = out.len();
            let told = match declared {
                Err(Full) if size < MAX_REPLY => {
                    size = size.saturating_mul(4).min(MAX_REPLY);
                    continue;
                }
                Err(Full) => {
                    if self.link.portal.throttle.allow() {
                        pr_warn!(
                            "iscsi: SendTargets of {}: the list is cut\n",
                            self.initiator
                        );
                    }
                    None
                }
                Ok(told) => told,
            };
            self.texts.reply = reply;
            break (total, told);
        };
        self.has_declared(told);
        let sn = self.window.numbers(&mut self.stat);
        let max = self.parameters.max_xmit;
        match self.texts.exchange.reply(total, max, sn) {
            Step::Send { pdu, offset } => self.send_text(&pdu, offset),
            Step::More(pdu) => self.send_text(&pdu, 0),
            Step::Complete => Ok(()),
        }
    }

    // A text sequence has ended: what the initiator has declared in it holds from now on.
    fn renegotiated(&mut self, declared: &Declared) {
        if let Some(max) = declared.peer_recv {
            self.parameters.max_xmit = max.min(self.own_max_xmit());
            if let Some(own) = &self.own {
                own.max_xmit.store(self.parameters.max_xmit, Relaxed);
            }
        }
        if let (Some(alias), Some(session)) = (declared.initiator_alias(), &self.session) {
            *session.private().alias.lock() = Alias::new(alias).unwrap_or(Alias::EMPTY);
        }
    }

    fn own_max_xmit(&self) -> u32 {
        match &self.session {
            Some(s) => s.private().group.params.lock().config.max_xmit,
            None => iscsi_proto::negotiate::Config::default().max_xmit,
        }
    }

    fn send_targets(&self, which: &SendTargets<'_>, out: &mut Writer<'_>) -> Result<(), Full> {
        let own = self.session.as_ref().map(|s| &s.private().group.target);
        match (which, own) {
            (SendTargets::All, _) => {
                let mut i = 0;
                while let Some(target) = self.link.global.target_at(i) {
                    self.describe(&target, out)?;
                    i = i.saturating_add(1);
                }
                Ok(())
            }
            (SendTargets::Own, Some(target)) => self.describe(target, out),
            (SendTargets::Own, None) => Ok(()),
            (SendTargets::Named(name), Some(target)) if target.name.bytes() == *name => {
                self.describe(target, out)
            }
            (SendTargets::Named(_), Some(_)) => Ok(()),
            (SendTargets::Named(name), None) => match self.link.global.target(name) {
                Some(target) => self.describe(&target, out),
                None => Ok(()),
            },
        }
    }

    // Writes a target's name and the addresses of its groups, if the initiator may see one of them and has a way there.
    fn describe(&self, target: &Target, out: &mut Writer<'_>) -> Result<(), Full> {
        let mut named = false;
        let mut i = 0;
        while let Some(group) = target.group_at(i) {
            i = i.saturating_add(1);
            if !group.is_shown_to(&self.initiator, &self.link.peer) {
                continue;
            }
            for address in group.portals.lock().iter().filter_map(|p| self.way_to(p)) {
                if !named {
                    text::target_name(out, target.name.bytes())?;
                    named = true;
                }
                text::target_address(out, address, group.tag)?;
            }
        }
        Ok(())
    }

    // How the initiator gets to a portal. An address of another namespace means nothing to it, or another machine.
    fn way_to(&self, portal: &Portal) -> Option<SocketAddr> {
        if portal.net != self.link.portal.net {
            return None;
        }
        let local = self.link.local.to_socket_addr();
        text::seen_from(portal.address.to_socket_addr(), local)
    }
}
