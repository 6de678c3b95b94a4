// SPDX-License-Identifier: GPL-2.0

//! The loopback fabric: a SCSI host of this machine for each target, without a transport in between.
//!
//! This is the example for new fabrics. What every fabric does is in this folder's two files: here the data path (how a
//! command comes in, how its answer goes out, what task management asks for), in [`port`] the configuration. What is
//! unsafe about the transport, here the SCSI midlayer, is in [`glue`], behind a safe API.
//!
//! A command stays in the context that submitted it: admitted, executed, and answered there too, if the back end
//! does not need to wait. Its data is the initiator's own memory all the way.

#![deny(unsafe_code)]

mod glue;
mod port;

use glue::{
    host::{Bus, Driver},
    scmd::{HostByte, Scmd},
};
use kernel::{prelude::*, sync::Arc};
use lio_glue::rcu_map::RcuMap;
use lio_scsi::{
    lun::Lun as LunNumber,
    pi::{Sent, Type},
    task::{Attribute, Function, Response, Tag},
};
use port::Port;
use target_core::{
    command::{Admitted, Cmd, Received, Reply, Residual, Start},
    fabric::Fabric,
    registry,
    session::Session,
};

module! {
    type: Module,
    name: "tcm_loop",
    authors: ["The lio-rs authors"],
    description: "SCSI target: loopback fabric, a local SCSI host",
    license: "GPL",
}

/// What the module holds while it is loaded; goes in this order.
struct Module {
    _fabric: registry::FabricRegistration,
    _bus: Bus,
}

impl kernel::Module for Module {
    fn init(module: &'static ThisModule) -> Result<Self> {
        let bus = Bus::start()?;
        Ok(Module {
            _fabric: registry::register_fabric(&port::KIND, module)?,
            _bus: bus,
        })
    }
}

/// The fabric's data path.
pub(crate) struct Loopback;

impl Fabric for Loopback {
    const NAME: &'static str = "loopback";
    type Request = Option<Scmd>;
    // What there is between the host and its initiator where a logical unit has none: `fabric_prot_type`.
    type Session = Option<Type>;

    fn protection(session: &Option<Type>) -> Option<Type> {
        *session
    }

    fn reply(mut reply: Reply<Self>) {
        if let Some(cmd) = reply.request_mut().take() {
            if reply.is_aborted() {
                // Whoever waits for the abort knows already; other commands that a reset took are sent again.
                cmd.fail(HostByte::Reset);
            } else {
                let residual = match reply.residual() {
                    Residual::Under(bytes) => bytes,
                    Residual::None | Residual::Over(_) => 0,
                };
                let sense = reply.sense();
                let sense = sense.as_ref().map(|sense| sense.as_slice());
                cmd.done(reply.status() as u8, sense, residual);
            }
        }
        // The command's memory goes back here, and with it the command to the midlayer. In this order, so that task
        // management, which waits for this, can have no command end that is still to be told to the midlayer.
        reply.sent();
    }

    /// The fabric holds no commands: their data is there from the start.
    fn kick(_session: &Session<Self>) {}
}

/// The ports of one SCSI host: its target numbers.
#[pin_data]
pub(crate) struct Ports {
    #[pin]
    ports: RcuMap<Port>,
}

impl Ports {
    fn session(&self, target: u32) -> Result<Arc<Session<Loopback>>, HostByte> {
        self.ports
            .with(target as usize, |port| port.session())
            .unwrap_or(Err(HostByte::NoConnect))
    }

    // `None`: there is nothing that a function could concern.
    fn manage(&self, target: u32, lun: u64, function: Function) -> Option<Response> {
        let port = self.ports.with(target as usize, |port| port.working());
        Some(port??.manage(function, lun_bytes(lun)?))
    }
}

// Lends the command's memory.
fn lend(cmd: &mut Scmd, sent: Sent, to: &mut Cmd<Loopback, Received>) -> Result {
    to.set_data(cmd.data()?);
    match sent {
        Sent::Behind => Ok(()),
        Sent::Beside => to.set_protection(cmd.protection()?),
        Sent::Made => {
            to.make_protection();
            Ok(())
        }
    }
}

/// What the wire would carry of a LUN that the midlayer knows by number.
fn lun_bytes(lun: u64) -> Option<[u8; 8]> {
    Some(LunNumber(u16::try_from(lun).ok()?).to_bytes())
}

impl Driver for Ports {
    fn queue(&self, mut cmd: Scmd) -> Result<(), Scmd> {
        let session = match self.session(cmd.target()) {
            Ok(session) => session,
            Err(why) => {
                cmd.fail(why);
                return Ok(());
            }
        };
        let Some(lun) = lun_bytes(cmd.lun()) else {
            cmd.fail(HostByte::NoConnect);
            return Ok(());
        };
        let (direction, sent) = cmd.direction();
        let started = session.start(&Start {
            tag: cmd.tag(),
            lun,
            cdb: cmd.cdb(),
            attribute: Attribute::Simple,
            direction,
            expected: cmd.bytes(),
        });
        let Some(mut started) = started else {
            // All slots are taken, or the session has just ended: the next try will tell.
            return Err(cmd);
        };
        if lend(&mut cmd, sent, &mut started).is_err() {
            // It is answered, without a command that would hear of it.
            started.abort();
            return Err(cmd);
        }
        if let Some(request) = started.request_mut() {
            *request = Some(cmd);
        }
        match started.admit() {
            Admitted::WantsData(cmd) => cmd.data_arrived().execute(),
            Admitted::Ready(cmd) => cmd.execute(),
            Admitted::Refused => (),
        }
        Ok(())
    }

    fn abort(&self, target: u32, lun: u64, tag: u64) -> bool {
        // No such task: it has been answered.
        matches!(
            self.manage(target, lun, Function::AbortTask(Tag(tag))),
            None | Some(Response::Complete | Response::NoSuchTask)
        )
    }

    fn reset_lun(&self, target: u32, lun: u64) -> bool {
        self.manage(target, lun, Function::LogicalUnitReset) == Some(Response::Complete)
    }

    fn reset_target(&self, target: u32) -> bool {
        self.manage(target, 0, Function::TargetWarmReset) == Some(Response::Complete)
    }
}
