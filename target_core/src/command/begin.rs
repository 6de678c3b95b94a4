// SPDX-License-Identifier: GPL-2.0

//! How a command's execution begins: at once, after a while, when it has its share of the device, or when it comes back from whoever
//! held it.

use super::{go_on, outside, reply, reply_aborted, Command};
use crate::{
    admit,
    backend::Io,
    delay::{Late, Room},
    device::Device,
    emulate::Step,
    fabric::Fabric,
    session::Session,
    shares::Share,
    turns,
};
use kernel::sync::Arc;
use lio_glue::{clock, slot::Token};
use lio_policy::{order::Place, regions::Regions};
use lio_scsi::status::Status;

/// Executes the command, when its limit is over and it is its turn.
pub(super) fn start<F: Fabric>(token: Token<Session<F>>) {
    if token.out.is_none() {
        in_turn(token)
    } else if token.due > clock::now_ns() {
        delayed(token)
    } else {
        outside::enter(token)
    }
}

/// Executes the command, which is in its place, when it is its turn.
pub(super) fn in_turn<F: Fabric>(mut token: Token<Session<F>>) {
    let held = token
        .nexus
        .as_ref()
        .filter(|n| token.place != Place::Free && n.lun().device().order().holds(token.place));
    match held.map(|n| n.lun().device().clone()) {
        Some(device) => {
            put_off(&mut token);
            device.order().hold(token.erase(), &device);
        }
        None => run(token),
    }
}

// Executes the command, which may.
fn run<F: Fabric>(token: Token<Session<F>>) {
    if let Share::Wanted(bytes) = token.share {
        share(token, bytes)
    } else {
        begin_execution(token)
    }
}

/// The command is executed when it comes back.
pub(super) fn put_off<F: Fabric>(token: &mut Token<Session<F>>) {
    token.step = Step::Begin;
    token.io_result = Ok(());
    token.shared().wait();
}

/// Executes a command that was put off: whether it may was asked long ago.
pub(super) fn resume_one<F: Fabric>(mut token: Token<Session<F>>) {
    token.shared().go_on();
    let host = token.host().clone();
    match admit::again(host.core(), &token) {
        Ok(()) if token.out.is_some() => {
            ask_again(&mut token);
            start(token)
        }
        Ok(()) => run(token),
        Err(refused) => {
            refused.answer(&mut token);
            reply(token)
        }
    }
}

/// Has the back end begin an operation that has waited for it. What let the command pass may be otherwise by now, as with one that was put
/// off; but what is done in part is done as a whole. Process context.
pub(super) fn waited<F: Fabric>(mut token: Token<Session<F>>) {
    let Some(nexus) = token.nexus.clone() else {
        return reply_aborted(token);
    };
    if token.shared().is_aborted() {
        return reply_aborted(token);
    }
    let host = token.host().clone();
    let may = if token.begun {
        Ok(())
    } else {
        admit::again(host.core(), &token)
    };
    match may {
        Ok(()) => nexus.lun().device().backend().begin(Io::new(token.erase())),
        Err(refused) => {
            refused.answer(&mut token);
            reply(token)
        }
    }
}

// It was waiting for limits when they became others.
fn ask_again(cmd: &mut Command) {
    let (Some(taken), Some(nexus)) = (cmd.taken.filter(|taken| taken.is_back), &cmd.nexus) else {
        return;
    };
    let (taken, start) = nexus.take(taken.bytes);
    (cmd.taken, cmd.out, cmd.due) = (Some(taken), Some(taken.at), start);
}

fn begin_execution<F: Fabric>(mut token: Token<Session<F>>) {
    let writes = turns::writes(&token);
    if !writes.is_none() && !core::mem::take(&mut token.passes) {
        token.shared().write(writes);
        let holds = |device: &&Arc<Device>| device.turns().holds(writes);
        let device = token.nexus.as_ref().map(|n| n.lun().device());
        if let Some(device) = device.filter(holds).cloned() {
            token.shared().write(Regions::NONE);
            token.shared().look_again();
            put_off(&mut token);
            return device.turns().hold(token.erase());
        }
    }
    let host = token.host().clone();
    token.taken = None;
    crate::emulate::execute(host.core(), &mut token);
    go_on(token);
}

// The command goes on after a while. Without memory to wait it is answered with BUSY: others keep to their limits.
fn delayed<F: Fabric>(mut token: Token<Session<F>>) {
    let Ok(room) = Room::new() else {
        token.set_status(Status::Busy);
        return reply(token);
    };
    put_off(&mut token);
    room.put(token.due, Late::Command(token.erase()));
}

// Executes the command when it has its share.
fn share<F: Fabric>(mut token: Token<Session<F>>, bytes: u64) {
    let Some(nexus) = token.nexus.clone() else {
        return reply_aborted(token);
    };
    let shares = nexus.lun().device().shares();
    match shares.enter(&nexus, bytes) {
        None => {
            token.share = Share::Has;
            begin_execution(token)
        }
        Some(start) => {
            put_off(&mut token);
            shares.wait(start, token.erase())
        }
    }
}

/// The command is over: what it had of the device is another's, and what it had taken of limits if it never began.
pub(super) fn leave(cmd: &mut Command) {
    if let (Some(taken), Some(nexus)) = (cmd.taken.take(), &cmd.nexus) {
        nexus.give_back(taken);
    }
    if core::mem::take(&mut cmd.share) != Share::Has {
        return;
    }
    if let Some(nexus) = &cmd.nexus {
        nexus.lun().device().shares().leave();
    }
}
