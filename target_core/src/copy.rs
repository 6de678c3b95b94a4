// SPDX-License-Identifier: GPL-2.0

//! Copies between logical units without the initiator (SPC-4 5.17): EXTENDED COPY and WRITE USING TOKEN at work.
//!
//! A worker of its own reads and writes, piece by piece, with the memory of one piece. It owns the command meanwhile, looks
//! before each piece whether that was aborted, and has each end let it in again: as the I_T nexus of the command might
//! read or write there itself at that time. It holds nothing while it waits for a limit, and an end no longer than a piece,
//! so that copies wait neither for each other nor for ORDERED commands.

mod end;
mod known;
mod pieces;
mod pump;
mod tokens;

pub(crate) use known::Copies;
use known::Listed;
use pieces::Writing;
pub(crate) use pieces::{settle, Earlier, EarlierOfAll, Pieces};
pub(crate) use pump::Copier;
pub(crate) use tokens::{Tokens, MOST as MOST_TOKENS};

use crate::{
    backend::IoError,
    command::{Command, Shared},
    device::Device,
    emulate::Step,
    limits::Taken,
    lun::Nexus,
    session::AnySession,
    tmf,
};
pub(crate) use end::name_of;
use end::{End, Place};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Atomic, Full},
        Arc,
    },
};
use lio_glue::{clock, noio, slot::Erased};
use lio_policy::regions::Regions;
use lio_scsi::{
    cdb::Command as Cdb,
    copy::{
        list::List,
        plan::{Fault, Medium, Piece, Range, Whole},
        results::Outcome,
        token::{self, Kind, WriteUsing},
        ThirdParty, MAX_COPIES, MAX_CSCDS,
    },
    lba::BlockSize,
    sense::{Asc, Key, Sense, Side},
};
use pump::Pump;

/// A command that is answered when its copy has ended.
type Waiting = Erased<Command, Shared>;

/// Copies at work in all; each has two buffers of about a mebibyte.
pub(crate) const MOST: u32 = 32;

/// How long a wait goes on before it is looked whether it is over.
const PAUSE_MS: u32 = 20;

/// What keeps others' writes from coming between what a piece does, while it lasts.
#[derive(Default)]
struct Apart {
    _writing: Option<Writing>,
    _turn: Option<pump::Turn>,
}

/// Why a copy ended early.
enum Stop {
    /// With this.
    Sense(Sense),
    /// Its command was aborted, or its session ended.
    Aborted,
    /// Something is short.
    Busy,
}

impl From<Sense> for Stop {
    fn from(sense: Sense) -> Self {
        Stop::Sense(sense)
    }
}

/// Why a range was not copied to its end.
enum Halt {
    Stop(Stop),
    Fault(Fault),
}

impl Halt {
    // What the command is answered with, where `left` bytes of segment `segment` are not copied.
    fn of(self, segment: u16, left: u64, unit: u32) -> Stop {
        match self {
            Halt::Stop(stop) => stop,
            Halt::Fault(fault) => {
                Stop::Sense(fault.sense(segment, left.div_ceil(u64::from(unit.max(1)))))
            }
        }
    }
}

/// One of the copies that there may be at once, of a logical unit and in all.
struct Turn<'a>(&'a Atomic<u32>);

impl<'a> Turn<'a> {
    fn take(count: &'a Atomic<u32>, most: u32) -> Option<Self> {
        let turn = Turn(count);
        let before = count.fetch_add(1, Full);
        // Dropped, it is given back.
        (before < most).then_some(turn)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Full);
    }
}

/// Has `cmd`, whose parameter list is in its scratch buffer and was found to be right, copy, and go on then with its step. With
/// its `identifier` it is among its nexus's copies. Process context.
pub(crate) fn begin(mut cmd: Waiting, identifier: Option<u32>) {
    // What is left of it where there is no memory: BUSY.
    cmd.step = Step::None;
    cmd.io_result = Err(IoError::Resources);
    let Some(nexus) = cmd.nexus.clone() else {
        return;
    };
    // Without memory for a worker it is dropped before the command is, whose end may be that of its session.
    let listed = Listed::new(nexus, identifier);
    if let Ok(engine) = crate::engine() {
        let _ = engine
            .copying()
            .spawn(move || noio::scope(|| perform(listed, cmd)));
    }
}

fn perform(listed: Listed, mut cmd: Waiting) {
    let ended = run(&mut cmd, listed.identifier());
    match &ended {
        Ok(()) => listed.end(Outcome::Good),
        Err(Stop::Sense(sense)) => listed.end(Outcome::Failed(Some(*sense))),
        Err(Stop::Aborted) => listed.end(Outcome::Failed(None)),
        Err(Stop::Busy) => drop(listed),
    }
    match ended {
        Err(Stop::Busy) => (),
        Err(Stop::Aborted) => cmd.io_result = Err(IoError::Aborted),
        ended => {
            cmd.io_result = Ok(());
            cmd.step = Step::Copied(match ended {
                Err(Stop::Sense(sense)) => Err(sense),
                _ => Ok(()),
            });
        }
    }
    // Nothing is held but the command: its session may end when it does, and its fabric be unloaded.
    cmd.finish();
}

fn run(cmd: &mut Waiting, identifier: Option<u32>) -> Result<(), Stop> {
    let engine = crate::engine().map_err(|_| Stop::Busy)?;
    let nexus = cmd.nexus.clone().ok_or(Stop::Aborted)?;
    if let Some(Cdb::ThirdParty(ThirdParty::Abort { list })) = cmd.decoded.map(|d| d.command) {
        return stopped(cmd, &nexus, list);
    }
    let _of_all = Turn::take(engine.copies(), MOST).ok_or(Stop::Busy)?;
    let _of_device = Turn::take(nexus.lun().device().copies(), MAX_COPIES).ok_or(Stop::Busy)?;
    let session = session_of(&nexus).ok_or(Stop::Aborted)?;
    let kept = cmd.scratch.take().ok_or(Stop::Aborted)?;
    let mut bytes = KVec::from_elem(0u8, kept.len(), GFP_KERNEL).map_err(|_| Stop::Busy)?;
    kept.read_at(0, &mut bytes);
    drop(kept);
    let pump = Pump::new().map_err(|_| Stop::Busy)?;
    let work = match cmd.decoded.map(|decoded| decoded.command) {
        Some(Cdb::ThirdParty(ThirdParty::WriteUsingToken { .. })) => {
            Work::Token(token_list(&nexus, &bytes)?)
        }
        Some(Cdb::ThirdParty(ThirdParty::ExtendedCopyLid4 { .. })) => {
            Work::List(List::parse_lid4(&bytes)?)
        }
        _ => Work::List(List::parse(&bytes)?),
    };
    let mut copy = Copy {
        cmd,
        session: &*session,
        nexus: &nexus,
        identifier,
        pump,
        bytes: 0,
    };
    match &work {
        Work::List(list) => copy.segments(list),
        Work::Token(list) => copy.token(list),
    }
}

// COPY OPERATION ABORT: the copy writes nothing any more when this is answered (SPC-4 5.17.4.7).
fn stopped(cmd: &Waiting, nexus: &Nexus, list: u32) -> Result<(), Stop> {
    while nexus.copies().is_stopped(list) {
        if tmf::wait_within(PAUSE_MS, || cmd.shared().is_aborted()) {
            return Err(Stop::Aborted);
        }
    }
    Ok(())
}

// The session that the nexus belongs to, unless it is ending. A command of it is at work, so that it stays for as long.
fn session_of(nexus: &Arc<Nexus>) -> Option<Arc<dyn AnySession>> {
    let number = nexus.mapped().number();
    let mut found = None;
    // The closure does not fail.
    let _ = nexus.lun().tpg().each_session(|session| {
        let own = session.core().nexus(number);
        if own.is_some_and(|own| Arc::ptr_eq(&own, nexus)) {
            found = Some(session.clone());
        }
        Ok(())
    });
    found
}

/// The parameter list of WRITE USING TOKEN. It was found to be right, but for a capacity that may have changed.
pub(crate) fn token_list<'a>(nexus: &Nexus, bytes: &'a [u8]) -> Result<WriteUsing<'a>, Sense> {
    let device = nexus.lun().device();
    WriteUsing::parse(bytes, device.block_size(), device.capacity())
}

/// What is to be copied.
enum Work<'a> {
    List(List<'a>),
    Token(WriteUsing<'a>),
}

/// A copy at work.
struct Copy<'a> {
    cmd: &'a Waiting,
    session: &'a dyn AnySession,
    nexus: &'a Arc<Nexus>,
    identifier: Option<u32>,
    pump: Pump,
    /// Bytes that are written.
    bytes: u64,
}

impl Copy<'_> {
    fn segments(&mut self, list: &List<'_>) -> Result<(), Stop> {
        // What was found of the descriptors.
        let mut ends = [const { None }; MAX_CSCDS];
        for (number, segment) in list.segments().enumerate() {
            let number = u16::try_from(number).unwrap_or(u16::MAX);
            let failed = |fault: Fault| Stop::Sense(fault.sense(number, segment.units()));
            let mut end = |id, side| self.end(list, &mut ends, id, side);
            let from = end(segment.source, Side::Source).map_err(failed)?;
            let to = end(segment.destination, Side::Destination).map_err(failed)?;
            let (source, destination) = self.media(from, to).map_err(failed)?;
            let range = segment.plan(source, destination).map_err(failed)?;
            let unit = segment.unit(source.size, destination.size);
            self.range(
                Place::End(from),
                to,
                &range,
                (source.size, destination.size),
                number,
            )
            .map_err(|(stop, done)| stop.of(number, range.len.saturating_sub(done), unit))?;
            self.tell(number.saturating_add(1));
        }
        Ok(())
    }

    fn media(&self, from: End, to: End) -> Result<(Medium, Medium), Fault> {
        let core = self.session.core();
        let source = from.open(core, Side::Source)?.medium();
        let destination = to.open(core, Side::Destination)?.medium();
        Ok((source, destination))
    }

    // What a token stands for, or zeroes, to this command's own logical unit.
    fn token(&mut self, list: &WriteUsing<'_>) -> Result<(), Stop> {
        let engine = crate::engine().map_err(|_| Stop::Busy)?;
        let kind = Kind::of(list.token)?;
        let _use = match kind {
            Kind::Own(id) => Some(engine.tokens().begin_use(id)?),
            Kind::Zero => None,
        };
        let to = End::of(self.nexus);
        let size = self.nexus.lun().device().block_size();
        let mut rod = list.offset;
        for (number, extent) in list.ranges.extents().enumerate() {
            let number = u16::try_from(number).unwrap_or(u16::MAX);
            let beyond = Stop::Sense(Sense::LBA_OUT_OF_RANGE);
            let place = extent.offset(size).zip(extent.bytes(size)).ok_or(beyond)?;
            let mut done = 0;
            while done < place.1 {
                let (from, source, at) = match kind {
                    Kind::Zero => (Place::Zero, size, (0, place.1)),
                    Kind::Own(id) => {
                        let found = engine.tokens().locate(id, rod)?;
                        // That it is so long was found out before.
                        let (device, pos, left) = found.ok_or(token::UNKNOWN)?;
                        let source = device.block_size();
                        (Place::Token(id), source, (pos, left))
                    }
                };
                let range = token::span(at, place, done).ok_or(token::UNKNOWN)?;
                self.range(from, to, &range, (source, size), number)
                    .map_err(|(stop, copied)| {
                        let left = place.1.saturating_sub(done).saturating_sub(copied);
                        stop.of(number, left, size.bytes())
                    })?;
                done = done.saturating_add(range.len);
                rod = rod.saturating_add(range.len);
            }
            self.tell(number.saturating_add(1));
        }
        if let (true, Kind::Own(id)) = (list.delete, kind) {
            engine.tokens().delete(id);
        }
        Ok(())
    }

    fn tell(&self, segments: u16) {
        if let Some(id) = self.identifier {
            self.nexus.copies().advance(id, segments, self.bytes);
        }
    }

    // Copies it piece by piece, of blocks of these sizes; with an error, how many bytes are copied.
    fn range(
        &mut self,
        from: Place,
        to: End,
        range: &Range,
        (source, destination): (BlockSize, BlockSize),
        number: u16,
    ) -> Result<(), (Halt, u64)> {
        let mut done = 0;
        while let Some(piece) = range.piece(done, source, destination) {
            if self.cmd.shared().is_aborted() {
                return Err((Halt::Stop(Stop::Aborted), done));
            }
            self.check_stopped()
                .and_then(|()| self.wait_for_limits(from, to, piece.len))
                .map_err(|stop| (Halt::Stop(stop), done))?;
            // Until it is done.
            let _apart = self
                .wait_for_turn(to, &piece)
                .map_err(|stop| (Halt::Stop(stop), done))?;
            self.piece(from, to, &piece)
                .map_err(|fault| (Halt::Fault(fault), done))?;
            done = done.saturating_add(piece.len);
            self.bytes = self.bytes.saturating_add(piece.len);
            self.tell(number);
        }
        Ok(())
    }

    // The logical unit that descriptor `id` is about.
    fn end(
        &self,
        list: &List<'_>,
        ends: &mut [Option<End>; MAX_CSCDS],
        id: u16,
        side: Side,
    ) -> Result<End, Fault> {
        if let Some(Some(end)) = ends.get(usize::from(id)) {
            return Ok(*end);
        }
        let end = End::find(self.session.core(), self.nexus, list.cscd(id), side)?;
        if let Some(place) = ends.get_mut(usize::from(id)) {
            *place = Some(end);
        }
        Ok(end)
    }

    // Limits of both ends, as a read and a write have to wait for them; they are asked again when they have become others.
    fn wait_for_limits(&self, from: Place, to: End, bytes: u64) -> Result<(), Stop> {
        let core = self.session.core();
        loop {
            let now = clock::now_ns();
            let taken = Taken {
                at: now,
                bytes,
                is_back: false,
            };
            let due = now
                .max(from.due(core, now, bytes))
                .max(to.due(core, now, bytes));
            let others = || from.has_released(core, now) || to.has_released(core, now);
            let mut ended = Ok(());
            while due > clock::now_ns() && ended.is_ok() && !others() {
                // It is over when this is, aborted or not.
                ended = match tmf::wait_within(PAUSE_MS, || self.cmd.shared().is_aborted()) {
                    true => Err(Stop::Aborted),
                    false => self.check_stopped(),
                };
            }
            if ended.is_ok() && due <= clock::now_ns() {
                return Ok(());
            }
            from.give_back(core, taken);
            to.give_back(core, taken);
            ended?;
        }
    }

    // Says where a piece writes, and waits for the COMPARE AND WRITE or ORWRITE there that has its turn; one that changes blocks in part
    // has a turn itself. It holds neither of its ends meanwhile, and says nothing where the end is
    // not there, as is found out next.
    fn wait_for_turn(&self, to: End, piece: &Piece) -> Result<Apart, Stop> {
        let core = self.session.core();
        let Whole { pos, len } = piece.write;
        let regions = |device: &Arc<Device>| {
            let shift = device.block_size().shift();
            Regions::of(pos >> shift, len >> shift)
        };
        if piece.merges() {
            let Some(device) = to.with_device(core, Arc::clone) else {
                return Ok(Apart::default());
            };
            let turn = self.pump.turn(&device, regions(&device));
            return Ok(Apart {
                _turn: Some(turn.ok_or(Stop::Busy)?),
                ..Apart::default()
            });
        }
        let Some(writing) = to.with_device(core, |d| Writing::new(d, regions(d))) else {
            return Ok(Apart::default());
        };
        let writing = writing.ok_or(Stop::Busy)?;
        while to.with_device(core, |d| writing.has_to_wait(d)) == Some(true) {
            if tmf::wait_within(PAUSE_MS, || self.cmd.shared().is_aborted()) {
                return Err(Stop::Aborted);
            }
            self.check_stopped()?;
        }
        Ok(Apart {
            _writing: Some(writing),
            ..Apart::default()
        })
    }

    // COPY OPERATION ABORT was for it.
    fn check_stopped(&self) -> Result<(), Stop> {
        let stopped = |id| self.nexus.copies().is_stopped(id);
        if self.identifier.is_some_and(stopped) {
            return Err(Sense::new(Key::CopyAborted, Asc::COMMANDS_CLEARED_BY_SERVER).into());
        }
        Ok(())
    }

    // Copies a piece, while both ends are held.
    fn piece(&mut self, from: Place, to: End, piece: &Piece) -> Result<(), Fault> {
        let core = self.session.core();
        let destination = to.open(core, Side::Destination)?;
        destination.check(piece.write, Side::Destination)?;
        let Some(source) = from.open(core)? else {
            return self.pump.zero(destination.device(), piece.write);
        };
        source.check(piece.read, Side::Source)?;
        self.pump.copy(source.device(), destination.device(), piece)
    }
}
