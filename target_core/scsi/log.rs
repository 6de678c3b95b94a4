// SPDX-License-Identifier: GPL-2.0

//! Log pages (SPC-4, 6.6, 6.7 and 7.3): error counters, informational exceptions.
//!
//! A parameter is there only where somebody counts it.

use crate::{
    bytes::Writer,
    sense::{Asc, Sense},
};

/// What is counted, since the device was made or since LOG SELECT reset it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes that were written.
    pub written: u64,
    /// Writes that failed at the medium.
    pub write_errors: u64,
    /// Bytes that were read.
    pub read: u64,
    /// Reads that failed at the medium.
    pub read_errors: u64,
    /// Bytes that were verified.
    pub verified: u64,
    /// Verifications that failed at the medium.
    pub verify_errors: u64,
}

/// A page with counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// Write error counters, 02h.
    Write,
    /// Read error counters, 03h.
    Read,
    /// Verify error counters, 05h.
    Verify,
}

/// What LOG SENSE asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// The supported pages; with subpages (00h/FFh) or without (00h).
    Supported {
        /// With subpages.
        subpages: bool,
    },
    /// Informational exceptions, 2Fh: the one parameter.
    Exceptions,
    /// Counters of a page.
    Counters {
        /// The page.
        page: Page,
        /// Those that they start from, which are zero, instead of the current ones (PC).
        default: bool,
        /// PARAMETER POINTER: the first parameter.
        from: u16,
    },
}

/// What LOG SELECT resets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// Nothing.
    Nothing,
    /// All counters.
    All,
    /// A page's.
    Page(Page),
}

/// PAGE CODE of the informational exceptions.
const EXCEPTIONS: u8 = 0x2f;

/// TOTAL BYTES PROCESSED and TOTAL UNCORRECTED ERRORS (SPC-4, table 323).
const BYTES: u16 = 0x0005;
const UNCORRECTED: u16 = 0x0006;

impl Page {
    const ALL: [Self; 3] = [Self::Write, Self::Read, Self::Verify];

    const fn code(self) -> u8 {
        match self {
            Self::Write => 0x02,
            Self::Read => 0x03,
            Self::Verify => 0x05,
        }
    }

    /// The page with this PAGE CODE.
    pub fn new(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|page| page.code() == code)
    }

    /// What is counted for the page: parameter codes in ascending order.
    fn parameters(self, counters: &Counters) -> [(u16, u64); 2] {
        let (bytes, errors) = match self {
            Self::Write => (counters.written, counters.write_errors),
            Self::Read => (counters.read, counters.read_errors),
            Self::Verify => (counters.verified, counters.verify_errors),
        };
        [(BYTES, bytes), (UNCORRECTED, errors)]
    }
}

impl Counters {
    /// The counters since `base`.
    pub fn since(&self, base: &Self) -> Self {
        Self {
            written: self.written.saturating_sub(base.written),
            write_errors: self.write_errors.saturating_sub(base.write_errors),
            read: self.read.saturating_sub(base.read),
            read_errors: self.read_errors.saturating_sub(base.read_errors),
            verified: self.verified.saturating_sub(base.verified),
            verify_errors: self.verify_errors.saturating_sub(base.verify_errors),
        }
    }

    /// `base`, with what `reset` names taken from these counters: they are zero since then.
    pub fn reset(&self, base: &Self, reset: Reset) -> Self {
        let is = |page| reset == Reset::All || reset == Reset::Page(page);
        let (write, read, verify) = (is(Page::Write), is(Page::Read), is(Page::Verify));
        let pick = |reset: bool, now: u64, before: u64| if reset { now } else { before };
        Self {
            written: pick(write, self.written, base.written),
            write_errors: pick(write, self.write_errors, base.write_errors),
            read: pick(read, self.read, base.read),
            read_errors: pick(read, self.read_errors, base.read_errors),
            verified: pick(verify, self.verified, base.verified),
            verify_errors: pick(verify, self.verify_errors, base.verify_errors),
        }
    }
}

/// Decodes LOG SENSE's PC, PAGE CODE, SUBPAGE CODE and PARAMETER POINTER.
///
/// # Errors
/// INVALID FIELD IN CDB, with a pointer.
pub fn request(control: u8, code: u8, subpage: u8, from: u16) -> Result<Request, Sense> {
    if code == 0 {
        let subpages = match subpage {
            0x00 => false,
            0xff => true,
            _ => return Err(Sense::invalid_cdb_byte(3)),
        };
        // No page has a parameter list here.
        if from != 0 {
            return Err(Sense::invalid_cdb_byte(5));
        }
        return Ok(Request::Supported { subpages });
    }
    let page = Page::new(code);
    if page.is_none() && code != EXCEPTIONS {
        return Err(Sense::invalid_cdb_bit(2, 5));
    }
    if subpage != 0 {
        return Err(Sense::invalid_cdb_byte(3));
    }
    let Some(page) = page else {
        // A list parameter, for which PC says nothing.
        return match from {
            0 => Ok(Request::Exceptions),
            _ => Err(Sense::invalid_cdb_byte(5)),
        };
    };
    // There are cumulative values only, no thresholds.
    let default = match control {
        0b01 => false,
        0b11 => true,
        _ => return Err(Sense::invalid_cdb_bit(2, 7)),
    };
    if from > UNCORRECTED {
        return Err(Sense::invalid_cdb_byte(5));
    }
    Ok(Request::Counters {
        page,
        default,
        from,
    })
}

/// Decodes LOG SELECT's PCR, PC, PAGE CODE and SUBPAGE CODE, for a command without a list (SPC-4, table 139).
///
/// # Errors
/// INVALID FIELD IN CDB, with a pointer.
pub fn reset(all: bool, control: u8, code: u8, subpage: u8) -> Result<Reset, Sense> {
    if subpage != 0 {
        return Err(Sense::invalid_cdb_byte(3));
    }
    let which = match code {
        0 => Reset::All,
        // What it tells goes with the counters.
        EXCEPTIONS => Reset::Nothing,
        _ => Reset::Page(Page::new(code).ok_or(Sense::invalid_cdb_bit(2, 5))?),
    };
    match control {
        _ if all => Ok(which),
        // The cumulative values become the default ones; or stay.
        0b11 => Ok(which),
        0b01 => Ok(Reset::Nothing),
        _ => Err(Sense::invalid_cdb_bit(2, 7)),
    }
}

/// Writes a log page. `exception` is the informational exception that there is, if there is one.
pub fn write(request: &Request, counters: &Counters, exception: Option<Asc>, out: &mut Writer<'_>) {
    let start = out.len();
    match *request {
        Request::Supported { subpages: false } => {
            out.put(&[0, 0, 0, 0, 0]);
            for page in Page::ALL {
                out.u8(page.code());
            }
            out.u8(EXCEPTIONS);
        }
        Request::Supported { subpages: true } => {
            // SPF
            out.put(&[0x40, 0xff, 0, 0]);
            out.put(&[0, 0, 0, 0xff]);
            for code in Page::ALL.map(Page::code).into_iter().chain([EXCEPTIONS]) {
                out.put(&[code, 0]);
            }
        }
        Request::Exceptions => {
            let Asc { code, qualifier } = exception.unwrap_or(Asc::NONE);
            // DS; parameter 0000h, a binary list; no temperature is known (FFh).
            out.put(&[0x80 | EXCEPTIONS, 0, 0, 0]);
            out.put(&[0, 0, 0x03, 4, code, qualifier, 0xff, 0]);
        }
        Request::Counters {
            page,
            default,
            from,
        } => {
            // DS: nothing is saved.
            out.put(&[0x80 | page.code(), 0, 0, 0]);
            let zero = Counters::default();
            let counters = if default { &zero } else { counters };
            for (code, value) in page.parameters(counters) {
                if code >= from {
                    out.be16(code);
                    // A data counter, bounded; eight bytes of it.
                    out.put(&[0, 8]);
                    out.be64(value);
                }
            }
        }
    }
    let length = out.len().saturating_sub(start).saturating_sub(4);
    let length = u16::try_from(length).unwrap_or(u16::MAX);
    out.overwrite(start.saturating_add(2), &length.to_be_bytes());
}
