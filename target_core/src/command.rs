// SPDX-License-Identifier: GPL-2.0

//! One command's life (SAM-5 5, 8.6).
//!
//! A command lives in a slot of its session, and has exactly one owner: the fabric while it is a [`Cmd`] or a
//! [`Reply`], the back end while it is an [`Io`](crate::backend::Io). The owner's type says what can be done:
//!
//! ```text
//! session.start(…)     -> Cmd<Received>    the fabric may give memory of its own: set_data
//! cmd.admit()          -> Cmd<WantsData>   the fabric fills data(), then data_arrived()
//!                      -> Cmd<Ready>       execute()
//!                      -> refused          Fabric::reply was called
//! Fabric::reply(Reply) -> reply.sent()     everything goes back
//! ```
//!
//! An abort never takes a command from its owner: it marks the shared part, and the owner finds the mark.

mod begin;
mod condition;
mod handing;
mod outside;
mod queue;
mod reply;
mod shared;
mod traced;

use begin::{resume_one, start};
use handing::Handing;
pub(crate) use outside::Outside;
pub use queue::ReplyQueue;
pub use reply::Reply;
use shared::Decided;
pub use shared::Shared;
pub(crate) use shared::Unit;

use crate::{
    admit,
    backend::{IoError, Op},
    emulate::{Protected, Step},
    fabric::Fabric,
    flaws,
    limits::Taken,
    lun::{Export, Nexus},
    session::Session,
    shares::Share,
    tmf::Preempted,
};
use core::marker::PhantomData;
use kernel::{prelude::*, sync::Arc};
use lio_glue::{
    buffer::Buffer,
    clock,
    gate::Ticket,
    noio,
    slot::{Token, Why},
    trace,
};
use lio_policy::order::Place;
use lio_scsi::{
    cdb::Decoded,
    pi::Sent,
    sense::{Sense, Style},
    status::Status,
    task::Attribute,
};

/// Bytes of a CDB that are kept. No operation code that is served has a longer one.
pub const MAX_CDB: usize = 32;

/// Where a command's data goes, as its initiator declared it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// No data.
    None,
    /// To the initiator.
    Read,
    /// From the initiator.
    Write,
}

/// What a fabric says of a command that it received.
#[derive(Clone, Copy)]
pub struct Start<'a> {
    /// The initiator's tag, by which task management names the command.
    pub tag: u64,
    /// The LUN as it came.
    pub lun: [u8; 8],
    /// The CDB.
    pub cdb: &'a [u8],
    /// The task attribute.
    pub attribute: Attribute,
    /// Where the data goes.
    pub direction: Direction,
    /// Bytes that the initiator expects to be transferred.
    pub expected: u32,
}

/// How a reply's transfer differs from what the initiator expected (SAM-5 5.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Residual {
    /// Not at all.
    #[default]
    None,
    /// So many bytes fewer.
    Under(u32),
    /// So many bytes more would have been transferred.
    Over(u32),
}

impl Default for Command {
    fn default() -> Self {
        Command {
            cdb: [0; MAX_CDB],
            cdb_len: 0,
            attribute: Attribute::Simple,
            direction: Direction::None,
            expected: 0,
            tag: 0,
            lun: [0; 8],
            decoded: None,
            nexus: None,
            ticket: None,
            data: Buffer::new(),
            wanted: 0,
            scratch: None,
            sent: Sent::Behind,
            beside: None,
            protection: None,
            op: Op::None,
            io_result: Err(IoError::Aborted),
            found: (true, 0),
            told: None,
            step: Step::None,
            status: Status::TaskAborted,
            sense: None,
            style: Style::DEFAULT,
            residual: Residual::None,
            aborted: false,
            turn: Turn::No,
            due: 0,
            out: None,
            taken: None,
            share: Share::None,
            started: 0,
            place: Place::Free,
            passes: false,
            begun: false,
            preempted: None,
            clears_flaws: false,
        }
    }
}

/// Whether a command is one of those of which a device runs one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    No,
    /// It asks for its turn, and goes on with its step then.
    Wanted,
    /// It waits for the end of what it began in the background, the device's job with this number.
    Erasing(u32),
    /// It waits for the end of its copy, or of the one it aborts, which has this list identifier if it is its own.
    Copying(Option<u32>),
    /// It waits for its turn or has it; either way it is counted.
    Had,
}

/// A command, as its owner sees it. All of it is the engine's own.
pub struct Command {
    pub(crate) cdb: [u8; MAX_CDB],
    pub(crate) cdb_len: usize,
    pub(crate) attribute: Attribute,
    pub(crate) direction: Direction,
    pub(crate) expected: u32,
    pub(crate) tag: u64,
    pub(crate) lun: [u8; 8],
    pub(crate) decoded: Option<Decoded>,
    pub(crate) nexus: Option<Arc<Nexus>>,
    pub(crate) ticket: Option<Ticket<Export>>,
    /// What is transferred to or from the initiator.
    pub(crate) data: Buffer,
    /// Bytes of write data that `data` is to hold, where the memory is not the fabric's.
    pub(crate) wanted: usize,
    /// What the current operation works on, where that is not `data`.
    pub(crate) scratch: Option<KBox<Buffer>>,
    /// What is to be done about protection information, if that is kept beside the blocks.
    pub(crate) protection: Option<KBox<Protected>>,
    /// Where protection information is that the CDB asks for.
    pub(crate) sent: Sent,
    /// What came beside the data, or goes there.
    pub(crate) beside: Option<KBox<Buffer>>,
    pub(crate) op: Op,
    pub(crate) io_result: Result<(), IoError>,
    /// What the back end found out by [`Op::Status`].
    pub(crate) found: (bool, u64),
    /// Its answer tells of so many losses of the device: see [`MappedLun::untold`](crate::lun::MappedLun::untold).
    pub(crate) told: Option<u32>,
    /// What follows the current operation.
    pub(crate) step: Step,
    pub(crate) status: Status,
    pub(crate) sense: Option<Sense>,
    /// How the sense data looks, once the command is answered.
    pub(crate) style: Style,
    pub(crate) residual: Residual,
    pub(crate) aborted: bool,
    pub(crate) turn: Turn,
    /// When it may be executed, as limits have it, if not at once; nanoseconds.
    pub(crate) due: u64,
    /// When it came, while it is outside its task set (see [`Outside`]).
    pub(crate) out: Option<u64>,
    /// What it has taken of limits, until it begins.
    pub(crate) taken: Option<Taken>,
    /// What it has of the device where LUNs have shares.
    pub(crate) share: Share,
    /// When it came, if somebody wants to know how long it takes.
    pub(crate) started: u64,
    /// What it has to wait for.
    pub(crate) place: Place,
    /// It has waited for who had its turn, and waits for no other (see [`turns`](crate::turns)).
    pub(crate) passes: bool,
    /// A part of it is done.
    pub(crate) begun: bool,
    /// Whose aborted commands are to be gone before this one is answered.
    pub(crate) preempted: Option<Preempted>,
    /// Its operation writes over what is [unreadable](crate::flaws).
    pub(crate) clears_flaws: bool,
}

impl Command {
    pub(crate) fn io_buffer(&self) -> &Buffer {
        self.scratch.as_deref().unwrap_or(&self.data)
    }

    pub(crate) fn io_buffer_mut(&mut self) -> &mut Buffer {
        self.scratch.as_deref_mut().unwrap_or(&mut self.data)
    }

    pub(crate) fn set_status(&mut self, status: Status) {
        self.status = status;
        self.sense = None;
    }

    pub(crate) fn set_sense(&mut self, sense: Sense) {
        self.status = Status::CheckCondition;
        self.sense = Some(sense);
    }

    // Sets the residual from what the command transfers and what was expected.
    pub(crate) fn set_residual(&mut self, bytes: u64) {
        let expected = u64::from(self.expected);
        self.residual = match bytes.checked_sub(expected) {
            Some(0) => Residual::None,
            Some(over) => Residual::Over(u32::try_from(over).unwrap_or(u32::MAX)),
            None => Residual::Under(u32::try_from(expected.saturating_sub(bytes)).unwrap_or(0)),
        };
    }
}

/// A stage of a command that the fabric owns.
pub trait Stage: private::Sealed {}
mod private {
    pub trait Sealed {}
}
/// The command is as it was received.
pub struct Received;
/// The engine waits for the command's write data.
pub struct WantsData;
/// The command can be executed.
pub struct Ready;
impl private::Sealed for Received {}
impl private::Sealed for WantsData {}
impl private::Sealed for Ready {}
impl Stage for Received {}
impl Stage for WantsData {}
impl Stage for Ready {}

/// A command that the fabric owns. Dropped, it is answered with TASK ABORTED.
pub struct Cmd<F: Fabric, S: Stage> {
    // `None` only while a method that consumes the command is at work.
    token: Option<Token<Session<F>>>,
    _stage: PhantomData<S>,
}

/// What became of a command that was to be admitted.
pub enum Admitted<F: Fabric> {
    /// The fabric fetches the write data.
    WantsData(Cmd<F, WantsData>),
    /// The command can be executed now.
    Ready(Cmd<F, Ready>),
    /// The command was refused; [`Fabric::reply`] has been called.
    Refused,
}

impl<F: Fabric, S: Stage> Cmd<F, S> {
    pub(crate) fn new(token: Token<Session<F>>) -> Self {
        Cmd {
            token: Some(token),
            _stage: PhantomData,
        }
    }

    // The token of a command that no method has consumed. A command without one cannot be seen from outside: both
    // methods that take it consume the command.
    fn with<R>(&self, f: impl FnOnce(&Token<Session<F>>) -> R) -> Option<R> {
        self.token.as_ref().map(f)
    }

    /// The fabric's data of this command.
    pub fn request(&self) -> Option<&F::Request> {
        self.token.as_ref().map(|t| t.request())
    }

    /// The fabric's data of this command.
    pub fn request_mut(&mut self) -> Option<&mut F::Request> {
        self.token.as_mut().map(|t| t.request_mut())
    }

    /// The initiator's tag.
    pub fn tag(&self) -> u64 {
        self.with(|t| t.tag).unwrap_or(0)
    }

    /// Whether task management has aborted the command: the fabric that holds it gives it up by [`Self::abort`].
    pub fn is_aborted(&self) -> bool {
        self.with(|t| t.shared().is_aborted()).unwrap_or(true)
    }

    /// Gives the command up: it is answered as aborted, which may mean that nothing is sent.
    pub fn abort(mut self) {
        if let Some(token) = self.token.take() {
            reply_aborted(token);
        }
    }

    /// Ends the command with `sense`, because of what happened in the fabric.
    pub fn fail(mut self, sense: Sense) {
        if let Some(mut token) = self.token.take() {
            token.set_sense(sense);
            reply(token);
        }
    }

    /// Ends the command with `status`, because of what the fabric lacks: BUSY or TASK SET FULL (SAM-5 5.3.1).
    pub fn refuse(mut self, status: Status) {
        if let Some(mut token) = self.token.take() {
            token.set_status(status);
            reply(token);
        }
    }
}

impl<F: Fabric, S: Stage> Drop for Cmd<F, S> {
    fn drop(&mut self) {
        if let Some(token) = self.token.take() {
            pr_warn!(
                "{}: a command was dropped unanswered, tag {:#x}: answered as aborted\n",
                F::NAME,
                token.tag
            );
            reply_aborted(token);
        }
    }
}

impl<F: Fabric> Cmd<F, Received> {
    /// Brings memory for the command's data: the initiator's own.
    pub fn set_data(&mut self, data: Buffer) {
        if let Some(token) = self.token.as_mut() {
            token.data = data;
        }
    }

    /// Protection information, where the CDB asks for it, is in memory of its own: 8 bytes for each block, the initiator's too.
    ///
    /// # Errors
    /// `ENOMEM`: the command is to be given up.
    pub fn set_protection(&mut self, tuples: Buffer) -> Result {
        if let Some(token) = self.token.as_mut() {
            token.beside = Some(KBox::new(tuples, GFP_KERNEL)?);
            token.sent = Sent::Beside;
        }
        Ok(())
    }

    /// The initiator's side knows of no protection information, whatever the CDB asks for, and leaves it to its port: this one.
    pub fn make_protection(&mut self) {
        if let Some(token) = self.token.as_mut() {
            token.sent = Sent::Made;
        }
    }

    /// Has the engine look at the command: LUN, unit attentions, access, arguments and memory.
    pub fn admit(mut self) -> Admitted<F> {
        let Some(mut token) = self.token.take() else {
            return Admitted::Refused;
        };
        let host = token.host().clone();
        let (cmd, _) = token.split_mut();
        match crate::admit::admit(host.core(), cmd) {
            Ok(next) => {
                if !outside::arrive(&mut token) {
                    token.set_status(Status::TaskSetFull);
                    reply(token);
                    return Admitted::Refused;
                }
                trace::admitted::<Command>(&*token, token.wanted, || {
                    traced::device(&token).unwrap_or(c"-")
                });
                match next {
                    crate::admit::Next::Data => Admitted::WantsData(Cmd::new(token)),
                    crate::admit::Next::Execute => Admitted::Ready(Cmd::new(token)),
                }
            }
            Err(refused) => {
                refused.answer(&mut token);
                reply(token);
                Admitted::Refused
            }
        }
    }
}

impl<F: Fabric> Cmd<F, WantsData> {
    /// Bytes of write data that the command needs; 0 where the fabric brought the memory itself.
    pub fn wanted(&self) -> usize {
        self.token.as_ref().map_or(0, |t| t.wanted)
    }

    /// Provides memory for the first `end` bytes of the write data, [`Self::wanted`] at most: before they come, so that
    /// data which never does costs none.
    ///
    /// # Errors
    /// `ENOMEM`: the command is to be [refused](Self::refuse), or memory is asked for again later.
    pub fn provide(&mut self, end: usize) -> Result {
        match self.token.as_mut() {
            Some(t) => {
                let end = end.min(t.wanted);
                t.data.extend_to(end)
            }
            None => Ok(()),
        }
    }

    /// Where the write data goes, as far as there is memory. The fabric discards what does not fit.
    pub fn data(&self) -> &Buffer {
        static NONE: Buffer = Buffer::new();
        self.token.as_ref().map_or(&NONE, |t| &t.data)
    }

    /// All data is there.
    pub fn data_arrived(mut self) -> Cmd<F, Ready> {
        Cmd {
            token: self.token.take(),
            _stage: PhantomData,
        }
    }
}

impl<F: Fabric> Cmd<F, Ready> {
    /// Bytes of memory that executing the command takes, beside its write data, where the fabric brought none: those that are
    /// read above all, held until the answer is sent. Some may be lent by the back end; they are held all the same.
    pub fn memory(&self) -> u64 {
        self.with(|t| crate::emulate::memory(t)).unwrap_or(0)
    }

    /// Executes the command. [`Fabric::reply`] is called before this returns, or later from another context.
    pub fn execute(self) {
        // Data that was asked for takes its time.
        let waited = self.with(|t| t.wanted != 0).unwrap_or(false);
        self.execute_after(waited);
    }

    /// The same for a command that the fabric has had wait: whether it may is asked again.
    pub fn execute_late(self) {
        self.execute_after(true);
    }

    /// The fabric has the command wait for what it lacks, until [`Self::execute_late`]. Others do not wait for it meanwhile.
    ///
    /// # Errors
    /// It may not wait, for commands that are to be executed in order: it is to be [refused](Self::refuse).
    pub fn stand_aside(mut self) -> Result<Self, Self> {
        match self.token.as_mut().is_none_or(outside::stand_aside) {
            true => Ok(self),
            false => Err(self),
        }
    }

    fn execute_after(mut self, waited: bool) {
        let Some(mut token) = self.token.take() else {
            return;
        };
        if token.shared().is_aborted() {
            return reply_aborted(token);
        }
        if token.data.len() < token.wanted {
            // The fabric did not provide for all of it, so not all of it can be there.
            token.set_status(Status::Busy);
            return reply(token);
        }
        if token.out.is_some() {
            token.shared().go_on();
        }
        if waited {
            let host = token.host().clone();
            if let Err(refused) = admit::again(host.core(), &token) {
                refused.answer(&mut token);
                return reply(token);
            }
        }
        start(token)
    }
}

// Hands the command to the back end, or to the fabric if nothing is left to do.
fn go_on<F: Fabric>(mut token: Token<Session<F>>) {
    if let Some(preempted) = token.preempted.take() {
        // What becomes of it if it is dropped.
        token.io_result = Err(IoError::Resources);
        return preempted.wait_for(crate::backend::Io::new(token.erase()));
    }
    match token.op {
        Op::None if token.turn == Turn::Wanted => {
            let Some(nexus) = token.nexus.clone() else {
                return reply_aborted(token);
            };
            token.turn = Turn::Had;
            token.io_result = Ok(());
            let device = nexus.lun().device();
            device.turns().wait(token.erase(), device);
        }
        Op::None => match token.turn {
            Turn::Erasing(job) => {
                let Some(nexus) = token.nexus.clone() else {
                    return reply_aborted(token);
                };
                token.turn = Turn::No;
                token.io_result = Ok(());
                nexus.lun().device().eraser().wait(token.erase(), job);
            }
            Turn::Copying(identifier) => {
                token.turn = Turn::No;
                // It may last for hours, most of which it waits for limits: others have its share meanwhile.
                begin::leave(&mut token);
                crate::copy::begin(token.erase(), identifier);
            }
            _ => reply(token),
        },
        _ => {
            let Some(nexus) = token.nexus.clone() else {
                return reply_aborted(token);
            };
            let device = nexus.lun().device();
            if flaws::look(device, &mut token).is_break() {
                return reply(token);
            }
            trace::submitted::<Command>(&*token, || traced::operation(&token));
            device
                .backend()
                .submit(crate::backend::Io::new(token.erase()));
        }
    }
}

/// A back end is done with its operation. Any context.
pub(crate) fn finished<F: Fabric>(mut token: Token<Session<F>>) {
    // What was put off comes here, too, without having been to a back end.
    if !matches!(token.op, Op::None) {
        trace::completed::<Command>(&*token, token.io_result.is_err());
    }
    if token.io_result.is_err() {
        // Whatever becomes of the command.
        crate::emulate::keep_losses(&token);
    }
    if matches!(token.step, Step::None) && !token.place.is_ordered() && !token.clears_flaws {
        return finish(token);
    }
    // More operations follow, or others' turns. They may sleep, and this may be an interrupt.
    token.begun |= !matches!(token.op, Op::None);
    let host = token.host().clone();
    if host.deferred.push(token) {
        host.defer();
    }
}

/// A back end has not begun its operation: it has to wait, or has waited.
pub(crate) fn handed_back<F: Fabric>(token: Token<Session<F>>, why: Why) {
    if why == Why::Waited {
        return begin::waited(token);
    }
    // Any context, where a reference to a nexus must not be the last one: the command keeps its own meanwhile.
    let crew = match &token.nexus {
        Some(nexus) => nexus.lun().device().backend().crew().cloned(),
        None => None,
    };
    match crew {
        Some(crew) => crew.push(crate::backend::Io::new(token.erase())),
        None => reply_aborted(token),
    }
}

// The last operation is done.
fn finish<F: Fabric>(mut token: Token<Session<F>>) {
    let (cmd, _) = token.split_mut();
    crate::emulate::finish(cmd);
    reply(token);
}

/// Goes on with the commands that [`finished`] put off. Process context.
pub(crate) fn resume<F: Fabric>(session: &Arc<Session<F>>) {
    // Memory for these may be waited for by what they are to write.
    noio::scope(|| resume_all(session))
}

fn resume_all<F: Fabric>(session: &Arc<Session<F>>) {
    for mut token in session.deferred.drain() {
        if token.clears_flaws {
            if let Some(nexus) = token.nexus.clone() {
                flaws::written(nexus.lun().device(), &mut token);
            }
        }
        if token.shared().is_aborted() {
            reply_aborted(token);
            continue;
        }
        match token.step {
            Step::Begin => {
                resume_one(token);
                continue;
            }
            Step::Condition => {
                condition::abort_others(&token);
                answer(token);
                continue;
            }
            Step::None => {
                finish(token);
                continue;
            }
            // It waited for its turn: what let it pass may be otherwise by now.
            _ if token.turn == Turn::Had && !token.begun => {
                if let Err(refused) = admit::again(session.core(), &token) {
                    refused.answer(&mut token);
                    reply(token);
                    continue;
                }
            }
            _ => (),
        }
        let (cmd, _) = token.split_mut();
        crate::emulate::step(cmd);
        go_on(token);
    }
}

fn reply_aborted<F: Fabric>(mut token: Token<Session<F>>) {
    token.set_status(Status::TaskAborted);
    token.residual = Residual::None;
    reply(token);
}

fn reply<F: Fabric>(token: Token<Session<F>>) {
    if let Some(token) = condition::put_off(token) {
        answer(token)
    }
}

fn answer<F: Fabric>(mut token: Token<Session<F>>) {
    let handing = Handing::begin(&token);
    let Decided {
        generation,
        aborted,
        tell,
        watched,
    } = token.shared().decide(handing.is_some());
    token.op = Op::None;
    token.step = Step::None;
    token.scratch = None;
    token.preempted = None;
    token.protection = None;
    token.beside = None;
    if core::mem::replace(&mut token.turn, Turn::No) == Turn::Had {
        if let Some(nexus) = &token.nexus {
            let device = nexus.lun().device();
            device.turns().next(device);
        }
    }
    let ordered = handing::ordered(&mut token);
    outside::leave(&mut token);
    begin::leave(&mut token);
    if aborted {
        // Without `tell` the initiator asked for it, and hears nothing of the command any more (SAM-5 5.6).
        token.aborted = !tell;
        token.set_status(Status::TaskAborted);
    }
    if let Some(nexus) = &token.nexus {
        nexus.count_reply(&token);
        if let Some(losses) = token.told.filter(|_| !aborted) {
            nexus.mapped().tell(losses);
        }
        if token.sense.is_some() {
            token.style = nexus.lun().device().mode().sense_style();
        }
    }
    trace::answered::<Command>(&*token, || {
        let sense = token.sense.map_or(0, |sense| sense.code());
        (token.status as u8, sense, traced::device(&token))
    });
    if token.direction == Direction::Write && !token.data.is_borrowed() {
        // It has been written. The next command finds the memory in the cache.
        token.data.clear();
    }
    // The logical unit has done its part: its removal need not wait for an initiator that does not take the answer, whose data
    // keeps its own pages. In this order: when a LUN's gate is closed and empty, no command holds its nexus any more.
    token.nexus = None;
    token.ticket = None;
    F::reply(Reply::from_token(token));
    // Whoever waited for it is answered behind it. Nothing here may sleep: the fabric's code may be waiting to go.
    let watched = handing.is_some_and(|h| h.end(generation)) || watched;
    if let Some((number, device)) = ordered {
        device.order().end(number, &device);
    }
    if aborted || watched {
        crate::tmf::wake();
    }
}

pub(crate) fn begin<F: Fabric>(token: &mut Token<Session<F>>, start: &Start<'_>) {
    trace::received::<Command>(&**token, || trace::Received {
        tag: start.tag,
        lun: start.lun,
        cdb: start.cdb,
        expected: start.expected,
        initiator: token.host().core().initiator(),
        port: token.host().core().tpg().path(),
    });
    token.shared().begin(start.tag, start.lun);
    let (cmd, _) = token.split_mut();
    let n = start.cdb.len().min(MAX_CDB);
    cmd.cdb = [0; MAX_CDB];
    if let (Some(to), Some(from)) = (cmd.cdb.get_mut(..n), start.cdb.get(..n)) {
        to.copy_from_slice(from);
    }
    cmd.cdb_len = start.cdb.len();
    cmd.attribute = start.attribute;
    cmd.direction = start.direction;
    cmd.expected = match start.direction {
        Direction::None => 0,
        _ => start.expected,
    };
    cmd.tag = start.tag;
    cmd.lun = start.lun;
    cmd.wanted = 0;
    cmd.aborted = false;
    cmd.turn = Turn::No;
    cmd.due = 0;
    cmd.out = None;
    cmd.taken = None;
    cmd.share = Share::None;
    cmd.started = 0;
    cmd.place = Place::Free;
    cmd.passes = false;
    cmd.begun = false;
    cmd.clears_flaws = false;
    cmd.sent = Sent::Behind;
    cmd.io_result = Err(IoError::Aborted);
    cmd.told = None;
    cmd.style = Style::DEFAULT;
    cmd.set_status(Status::TaskAborted);
    cmd.set_residual(0);
}

/// The slot of a command is about to be free; returns whether somebody may be waiting for that.
pub(crate) fn freeing<F: Fabric>(token: &mut Token<Session<F>>) -> bool {
    trace::sent::<Command>(&**token);
    let (cmd, _) = token.split_mut();
    cmd.data.clear();
    cmd.scratch = None;
    cmd.protection = None;
    cmd.beside = None;
    cmd.step = Step::None;
    cmd.decoded = None;
    // As in `reply`, which most commands have passed.
    if let (true, Some(nexus)) = (cmd.started != 0, &cmd.nexus) {
        nexus.lun().device().kept().idle().leave(clock::now_ns());
    }
    cmd.nexus = None;
    cmd.ticket = None;
    token.shared().end()
}
