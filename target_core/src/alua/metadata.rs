// SPDX-License-Identifier: GPL-2.0

//! Access states in files, for tools that set them again after the target was down. The engine writes them, and never reads
//! them; the directories are the administrator's, as with the stock modules:
//!
//! | file below `dbroot` | what |
//! | --- | --- |
//! | `alua/tpgs_SERIAL/GROUP` | a target port group |
//! | `alua/FABRIC/WWN+TAG/lun_N` | a LUN's secondary state |

use kernel::{
    new_mutex,
    prelude::*,
    str::CString,
    sync::{
        atomic::{Atomic, Full, Relaxed},
        Arc, Mutex,
    },
};
use lio_glue::replace;

/// The writing of one file.
#[pin_data]
pub(crate) struct File {
    // It is to be written in the background, and that has not begun.
    pending: Atomic<bool>,
    // One at a time, so that the last to write has the state as it is.
    #[pin]
    writing: Mutex<()>,
}

impl File {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(File {
            pending: Atomic::new(false),
            writing <- new_mutex!((), "alua::metadata::File::writing"),
        })
    }
}

/// What is kept in a file.
pub(crate) trait Saved: Send + Sync + 'static {
    fn file(&self) -> &File;

    /// What the file says now.
    fn text(&self) -> Result<CString>;
}

fn save<T: Saved>(what: &T, path: &CStr) {
    let _writing = what.file().writing.lock();
    let saved = what.text().and_then(|text| write(path, text.to_bytes()));
    if let Err(e) = saved {
        // The change is in force all the same.
        pr_err!("{}: an access state is not kept there: {:?}\n", path, e);
    }
}

// All of it, or what was there before: also after a power loss.
fn write(path: &CStr, bytes: &[u8]) -> Result {
    let path = core::str::from_utf8(path.to_bytes()).map_err(|_| EINVAL)?;
    let (dir, name) = path.rsplit_once('/').ok_or(EINVAL)?;
    // No other writer has it; one that a power loss left is written over after the next start.
    static NEXT: Atomic<u64> = Atomic::new(0);
    let temp = CString::try_from_fmt(fmt!(".{}.new", NEXT.fetch_add(1, Relaxed)))?;
    let (dir, name) = (
        CString::try_from_fmt(fmt!("{dir}"))?,
        CString::try_from_fmt(fmt!("{name}"))?,
    );
    replace::replace(&dir, &temp, &name, bytes)
}

/// Where a file is.
pub(crate) fn path(below: kernel::fmt::Arguments<'_>) -> Result<CString> {
    let engine = crate::engine()?;
    let root = engine.dbroot().lock();
    let root = core::str::from_utf8(&root).map_err(|_| EINVAL)?;
    let path = CString::try_from_fmt(fmt!("{root}/alua/{below}"))?;
    // A serial number may be anything; it shall not lead out of the directory.
    let mut parts = path.to_bytes().split(|b| *b == b'/');
    if parts.any(|part| part == b"..") {
        return Err(EINVAL);
    }
    Ok(path)
}

/// Writes the file. `now`: the caller may wait for the file system, as a command may not: for those it is done in the background.
pub(crate) fn keep<T: Saved>(what: &Arc<T>, path: Result<CString>, now: bool) {
    let path = match path {
        Ok(path) => path,
        Err(e) => return pr_err!("an access state is not kept in a file: {:?}\n", e),
    };
    if now {
        return save(&**what, &path);
    }
    if what.file().pending.xchg(true, Full) {
        // It will say what is so then.
        return;
    }
    let later = what.clone();
    let spawned = crate::engine().and_then(|engine| {
        engine.background().spawn(move || {
            later.file().pending.xchg(false, Full);
            save(&*later, &path);
        })
    });
    if let Err(e) = spawned {
        what.file().pending.xchg(false, Full);
        pr_err!("an access state is not kept in a file: {:?}\n", e);
    }
}
