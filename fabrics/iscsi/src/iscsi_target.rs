// SPDX-License-Identifier: GPL-2.0

//! The iSCSI fabric (RFC 7143): targets over TCP.
//!
//! Each connection has one thread, which owns all of the connection's state without a lock: it receives, has the
//! engine run commands, takes their replies from a lock-free list that any context appends to, and sends. The
//! protocol itself is the pure crate `iscsi_proto`.
//!
//! | module | what |
//! | --- | --- |
//! | [`portal`], [`limits`], [`discovery`] | listening sockets, how many connections may come in, and discovery sessions |
//! | [`memory`] | how much memory initiators can make us hold |
//! | [`conn`] | a connection: login, full feature phase, its end |
//! | [`rx`], [`tx`] | bytes in and out, from and to the pages where data lies |
//! | [`target`], [`group`], [`acl`], [`auth`], [`redirect`] | what is configured |
//! | [`session`], [`connection`], [`order`] | who is logged in; what the connections of a session have in common |
//! | [`tree`] | the directories below `target/iscsi` |

#![deny(unsafe_code)]

mod acl;
mod asks;
mod auth;
mod conn;
mod connection;
mod data_in;
mod digest;
mod discovery;
mod group;
mod limits;
mod log;
mod memory;
mod name;
mod order;
mod params;
mod portal;
mod redirect;
mod ring;
mod rx;
mod session;
mod stats;
mod target;
mod tree;
mod tx;

use connection::Connection;
use kernel::{prelude::*, sync::Arc};
use lio_glue::global::{Global, Holder};
use lio_scsi::{lun::Lun, sense::Asc};
use session::{event, Shared};
use target_core::{
    fabric::Fabric,
    registry::{register_fabric, FabricRegistration},
};

type Session = target_core::session::Session<Iscsi>;
type Reply = target_core::command::Reply<Iscsi>;

/// The data path: see [`Fabric`].
pub(crate) struct Iscsi;

/// The fabric's data of one command.
#[derive(Default)]
pub(crate) struct Request {
    /// The command's connection, to which its answer goes (RFC 7143, 4.2.2.2).
    connection: Option<Arc<Connection>>,
    /// Initiator task tag.
    itt: u32,
    /// The logical unit's number, as it came.
    lun: [u8; 8],
    /// The command took a number of the window.
    numbered: bool,
    /// Unsolicited data is still to come, and to be thrown away: the reply waits for that.
    drains: bool,
    /// What it counts for in the session's [`Load`](conn::Load).
    load: conn::Load,
    /// Bytes of memory that it took to be executed.
    memory: u64,
}

impl Fabric for Iscsi {
    const NAME: &'static str = "iscsi";
    type Request = Request;
    type Session = Arc<Shared>;

    fn isid(session: &Self::Session) -> Option<[u8; 6]> {
        Some(session.isid)
    }

    fn reply(mut reply: Reply) {
        // Each command gets its connection before it can be answered.
        let Some(connection) = reply.request_mut().connection.take() else {
            return reply.sent();
        };
        connection.reply(reply);
    }

    fn kick(session: &Session) {
        session.private().wake(event::KICK);
    }

    fn attention(session: &Session, lun: Lun, what: Asc) {
        let shared = session.private();
        if shared.group.attrib.async_scsi.is_on() && shared.asks.event(lun, what) {
            shared.wake(event::ASK);
        }
    }
}

static GLOBAL: Global<target::Global> = Global::new();

module! {
    type: Module,
    name: "iscsi_target_mod",
    authors: ["The lio-rs authors"],
    description: "iSCSI target",
    license: "GPL",
}

struct Module {
    // In this order: what comes later is used by what comes before.
    _registration: FabricRegistration,
    _global: Holder<target::Global>,
}

impl kernel::Module for Module {
    fn init(module: &'static ThisModule) -> Result<Self> {
        let global = GLOBAL.hold(target::Global::new(module)?)?;
        let registration = register_fabric(&tree::KIND, module)?;
        Ok(Module {
            _registration: registration,
            _global: global,
        })
    }
}
