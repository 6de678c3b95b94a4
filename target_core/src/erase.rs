// SPDX-License-Identifier: GPL-2.0

//! FORMAT UNIT and SANITIZE at work: in the background, whatever becomes of the command, its session and its LUN (SBC-4 4.11).
//!
//! A device has one at most, which its [`Condition`](lio_scsi::block::Condition) tells of. It ends early where the device's
//! directory is removed.

use crate::{
    backend::{IoError, Wipe},
    command::{Command, Shared},
    copy,
    device::Device,
    tmf,
};
use kernel::{
    error::code::ECANCELED,
    new_spinlock,
    prelude::*,
    sync::{atomic::Full, Arc, SpinLock},
};
use lio_glue::{buffer::Buffer, noio, slot::Erased};
use lio_scsi::{
    block::{
        erase::{progress, Overwrite, Sanitize},
        Erasing,
    },
    pi,
    sense::Asc,
};

/// A command that is answered at the end.
type Waiting = Erased<Command, Shared>;

/// Bytes that are overwritten at once, and of which zeroes are made at once.
const PIECE: u64 = 1 << 20;
const ZEROES: u64 = 64 << 20;

/// What is done to all blocks.
pub(crate) struct Job {
    /// SANITIZE; otherwise FORMAT UNIT.
    pub(crate) sanitize: Option<Sanitize>,
    /// FORMAT UNIT: the protection information that the unit has afterwards.
    pub(crate) protection: Option<pi::Type>,
    /// The parameter list of an overwrite; empty: zeroes, and storage is given back.
    pub(crate) list: KVec<u8>,
    /// The command that began it: its I_T_L nexus's serial number, and its tag.
    pub(crate) by: (u64, u64),
}

#[derive(Default)]
struct State {
    /// Jobs that were begun: the number of the last one.
    jobs: u32,
    /// That is at work.
    running: bool,
    /// Whether the last one failed, in the lowest bit, and those before it.
    failed: u64,
    waiting: Option<Waiting>,
}

impl State {
    /// The job with this number is not at work: whether it failed. One that is long ago is not known to have done what it was for.
    fn has_failed(&self, job: u32) -> bool {
        let later = self.jobs.wrapping_sub(job);
        self.failed
            .checked_shr(later)
            .is_none_or(|failed| failed & 1 != 0)
    }
}

/// The command that waits for what is at work.
#[pin_data]
pub(crate) struct Eraser {
    #[pin]
    state: SpinLock<State>,
}

impl Eraser {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Eraser {
            state <- new_spinlock!(State::default(), "Eraser::state"),
        })
    }

    /// Has `cmd` go on when the job with this number, which it began, has ended. That may be now, and another one at work. Process context.
    pub(crate) fn wait(&self, cmd: Waiting, job: u32) {
        let ended = {
            let mut state = self.state.lock();
            if state.running && state.jobs == job {
                state.waiting = Some(cmd);
                None
            } else {
                Some((cmd, state.has_failed(job)))
            }
        };
        if let Some((cmd, failed)) = ended {
            answer(cmd, failed);
        }
    }

    // Answers the command that waits, if it was aborted: the work goes on.
    fn let_aborted_go(&self) {
        let aborted = {
            let mut state = self.state.lock();
            let is_aborted = |cmd: &Waiting| cmd.shared().is_aborted();
            if state.waiting.as_ref().is_some_and(is_aborted) {
                state.waiting.take()
            } else {
                None
            }
        };
        drop(aborted);
    }
}

fn answer(mut cmd: Waiting, failed: bool) {
    cmd.step = crate::emulate::Step::erased(failed);
    cmd.finish();
}

/// Begins `job` on `device`, whose condition says so already; `before`: what it said before. Returns its number.
///
/// # Errors
/// `ENOMEM`; the condition is as it was before then.
pub(crate) fn begin(device: &Arc<Device>, job: Job, before: Erasing) -> Result<u32> {
    let number = {
        let mut state = device.eraser().state.lock();
        state.jobs = state.jobs.wrapping_add(1);
        state.running = true;
        state.failed = state.failed.wrapping_shl(1);
        state.jobs
    };
    // Copies that have begun end with this, however short it is, and tokens stand for nothing.
    device.erased().fetch_add(1, Full);
    if let Ok(engine) = crate::engine() {
        engine.tokens().erased(device);
    }
    device.hold();
    let of = device.clone();
    let begun = crate::engine().and_then(|engine| {
        engine.background().spawn(move || {
            // What it makes dirty may have to be written for memory's sake.
            let done = noio::scope(|| run(&of, &job));
            end(&of, &job, done);
        })
    });
    if begun.is_err() {
        device.eraser().state.lock().running = false;
        device.set_condition(|condition| condition.erasing = before);
        device.let_go();
    }
    begun.map(|()| number)
}

fn end(device: &Arc<Device>, job: &Job, done: Result<(), IoError>) {
    if let Err(e) = done {
        pr_err!(
            "{}: {} failed: {:?}\n",
            device.path(),
            if job.sanitize.is_some() {
                "SANITIZE"
            } else {
                "FORMAT UNIT"
            },
            e
        );
    }
    let after = match (done, job.sanitize) {
        (Ok(()), _) => Erasing::No,
        (Err(_), Some(sanitize)) => Erasing::SanitizeFailed(sanitize.unrestricted),
        (Err(_), None) => Erasing::FormatFailed,
    };
    if done.is_ok() {
        // SBC-4 4.18.2.
        device.flaws().clear(0, u64::MAX);
    }
    let waiting = {
        // The next one, which the condition lets begin, says under this lock that it is running.
        let mut state = device.eraser().state.lock();
        device.set_condition(|condition| condition.erasing = after);
        state.running = false;
        state.failed |= u64::from(done.is_err());
        state.waiting.take()
    };
    if let Some(cmd) = waiting {
        answer(cmd, done.is_err());
    }
    device.let_go();
}

fn run(device: &Device, job: &Job) -> Result<(), IoError> {
    // What was admitted before may still be written, and must not come after this.
    let (nexus, tag) = job.by;
    tmf::settle(
        device,
        tag,
        |of| of.serial() == nexus,
        || {
            device.eraser().let_aborted_go();
            device.is_deleted()
        },
    )
    .map_err(|e| match e {
        ECANCELED => IoError::Gone,
        _ => IoError::Resources,
    })?;
    if !copy::settle(device, || {
        device.eraser().let_aborted_go();
        device.is_deleted()
    }) {
        return Err(IoError::Gone);
    }
    let size = device.block_size();
    let bytes = size
        .blocks_in(device.backend().bytes())
        .bytes(size)
        .unwrap_or(0);
    if job.list.is_empty() {
        each_piece(device, bytes, ZEROES, (0, 1), |pos, len| {
            device.backend().wipe(pos, Wipe::Zeroes(len))
        })?;
        return match job.sanitize {
            None => protect(device, job),
            Some(_) => Ok(()),
        };
    }
    let block = size.bytes() as usize;
    // It was read before.
    let overwrite = Overwrite::parse(&job.list, size).map_err(|_| IoError::Medium)?;
    let mut filled = KVec::from_elem(0u8, block, GFP_KERNEL).map_err(|_| IoError::Resources)?;
    for pass in 0..overwrite.passes {
        overwrite.fill(pass, &mut filled);
        let mut piece: Option<Arc<Buffer>> = None;
        each_piece(
            device,
            bytes,
            PIECE,
            (pass.into(), overwrite.passes.into()),
            |pos, len| {
                let data = match &piece {
                    Some(data) if data.len() as u64 == len => data.clone(),
                    _ => {
                        let data = repeat(&filled, len as usize)?;
                        piece = Some(data.clone());
                        data
                    }
                };
                device.backend().wipe(pos, Wipe::Data(data))
            },
        )?;
    }
    Ok(())
}

// The medium is formatted: it has the protection information that was asked for, FFh in each block (SBC-4 5.4.1).
fn protect(device: &Device, job: &Job) -> Result<(), IoError> {
    let before = device.protection();
    device.set_protection(job.protection)?;
    if job.protection.is_some() {
        device.backend().format_protection()?;
    }
    if before != job.protection {
        device.attend_but(Asc::CAPACITY_CHANGED, Some(job.by.0));
    }
    Ok(())
}

// A buffer of `len` bytes full of `block`.
fn repeat(block: &[u8], len: usize) -> Result<Arc<Buffer>, IoError> {
    let buffer = Buffer::alloc(len, false).map_err(|_| IoError::Resources)?;
    let mut at = 0usize;
    while at < len {
        buffer.write_at(at, block);
        at = at.saturating_add(block.len().max(1));
    }
    Arc::new(buffer, GFP_KERNEL).map_err(|_| IoError::Resources)
}

// Calls `f` with the position and length of each piece of the medium, telling of the progress: the `pass.0`th of `pass.1`.
fn each_piece(
    device: &Device,
    bytes: u64,
    piece: u64,
    pass: (u64, u64),
    mut f: impl FnMut(u64, u64) -> Result<(), IoError>,
) -> Result<(), IoError> {
    let mut pos = 0u64;
    while pos < bytes {
        if device.is_deleted() {
            return Err(IoError::Gone);
        }
        device.eraser().let_aborted_go();
        let len = piece.min(bytes.saturating_sub(pos));
        f(pos, len)?;
        pos = pos.saturating_add(len);
        let before = bytes.saturating_mul(pass.0);
        let done = progress(before.saturating_add(pos), bytes.saturating_mul(pass.1));
        device.set_condition(|condition| match &mut condition.erasing {
            Erasing::Format(progress) | Erasing::Sanitize(progress) => *progress = done,
            _ => (),
        });
    }
    Ok(())
}
