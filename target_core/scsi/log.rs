// SPDX-License-Identifier: GPL-2.0

//! Log pages (SPC-4, 6.6, 6.7 and 7.3; SBC-3, 6.4): error counters, logical block provisioning, temperature, start-stop cycles,
//! statistics in general and of groups, informational exceptions.
//!
//! A parameter is there only where somebody counts it, or where it can say that nobody does.

mod lists;
mod select;
mod statistics;

use crate::{
    bytes::Writer,
    provisioning::{self, Resources},
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

/// What the shown counters start from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Base {
    /// What was counted then.
    from: Counters,
    /// What was shown then.
    shown: Counters,
}

/// All that log pages tell.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// Counters.
    pub counters: Counters,
    /// General statistics.
    pub statistics: Statistics,
    /// Those of the group that is asked for.
    pub group: Statistics,
    /// The informational exception that there is, if there is one.
    pub exception: Option<Asc>,
    /// What blocks are mapped to; `None` where nobody knows.
    pub resources: Option<Resources>,
    /// How often the unit was started after it had been stopped.
    pub cycles: u32,
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
    /// The supported subpages of a page (FFh).
    Subpages {
        /// The page.
        code: u8,
    },
    /// A page with a list.
    List(List),
    /// Logical block provisioning, 0Ch. Not every unit has it.
    Provisioning {
        /// PARAMETER POINTER: the first parameter.
        from: u16,
    },
    /// General statistics and performance, 19h.
    Statistics {
        /// Those that they start from, which are zero, instead of the current ones (PC).
        default: bool,
        /// PARAMETER POINTER: the first parameter.
        from: u16,
    },
    /// Statistics of a group, 19h with its number as the subpage: the one parameter.
    Group {
        /// The group.
        number: u8,
        /// As with [`Request::Statistics`].
        default: bool,
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
    /// General statistics.
    Statistics,
    /// Statistics of a group.
    Group(u8),
}

/// PAGE CODE of the informational exceptions.
const EXCEPTIONS: u8 = 0x2f;

/// PAGE CODE of logical block provisioning.
const PROVISIONING: u8 = 0x0c;

/// TOTAL BYTES PROCESSED and TOTAL UNCORRECTED ERRORS (SPC-4, table 323).
const BYTES: u16 = 0x0005;
const UNCORRECTED: u16 = 0x0006;

pub use lists::List;
pub use select::{select, MAX_LIST};
pub use statistics::Statistics;

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

    /// The counter that the page has as parameter `code`.
    fn counter(self, code: u16, counters: &mut Counters) -> Option<&mut u64> {
        let (bytes, errors) = match self {
            Self::Write => (&mut counters.written, &mut counters.write_errors),
            Self::Read => (&mut counters.read, &mut counters.read_errors),
            Self::Verify => (&mut counters.verified, &mut counters.verify_errors),
        };
        match code {
            BYTES => Some(bytes),
            UNCORRECTED => Some(errors),
            _ => None,
        }
    }
}

impl Counters {
    /// Each counter, by what `f` makes of it and of the same one of `other`, with its page.
    fn zip(&self, other: &Self, f: impl Fn(Page, u64, u64) -> u64) -> Self {
        Self {
            written: f(Page::Write, self.written, other.written),
            write_errors: f(Page::Write, self.write_errors, other.write_errors),
            read: f(Page::Read, self.read, other.read),
            read_errors: f(Page::Read, self.read_errors, other.read_errors),
            verified: f(Page::Verify, self.verified, other.verified),
            verify_errors: f(Page::Verify, self.verify_errors, other.verify_errors),
        }
    }
}

impl Base {
    /// What is shown where `counted` was counted in all. A counter that is full stays so.
    pub fn shown(&self, counted: &Counters) -> Counters {
        counted
            .zip(&self.from, |_, now, then| now.saturating_sub(then))
            .zip(&self.shown, |_, since, then| since.saturating_add(then))
    }

    /// From `counted` on, `shown` is shown.
    pub fn set(&mut self, counted: &Counters, shown: &Counters) {
        *self = Self {
            from: *counted,
            shown: *shown,
        };
    }

    /// From `counted` on, what `reset` names is counted from zero.
    pub fn reset(&mut self, counted: &Counters, reset: Reset) {
        let zero = |page| reset == Reset::All || reset == Reset::Page(page);
        let shown = self.shown(counted);
        let shown = shown.zip(&shown, |page, now, _| if zero(page) { 0 } else { now });
        self.set(counted, &shown);
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
    let lists = List::new(code, 0).is_some();
    let others = [EXCEPTIONS, PROVISIONING, statistics::CODE];
    if page.is_none() && !lists && !others.contains(&code) {
        return Err(Sense::invalid_cdb_bit(2, 5));
    }
    if subpage == 0xff {
        if from != 0 {
            return Err(Sense::invalid_cdb_byte(5));
        }
        return Ok(Request::Subpages { code });
    }
    if let Some(list) = List::new(code, subpage) {
        list.check(from)?;
        return Ok(Request::List(list));
    }
    let group = statistics::group(code, subpage);
    if subpage != 0 && group.is_none() {
        return Err(Sense::invalid_cdb_byte(3));
    }
    // List parameters, for which PC says nothing.
    if code == PROVISIONING {
        return match from {
            0..=provisioning::LAST => Ok(Request::Provisioning { from }),
            _ => Err(Sense::invalid_cdb_byte(5)),
        };
    }
    if code == EXCEPTIONS {
        return match from {
            0 => Ok(Request::Exceptions),
            _ => Err(Sense::invalid_cdb_byte(5)),
        };
    }
    // There are cumulative values only, no thresholds.
    let default = match control {
        0b01 => false,
        0b11 => true,
        _ => return Err(Sense::invalid_cdb_bit(2, 7)),
    };
    let (request, last) = match (page, group) {
        (_, Some(number)) => (Request::Group { number, default }, statistics::ACCESS),
        (Some(page), None) => (
            Request::Counters {
                page,
                default,
                from,
            },
            UNCORRECTED,
        ),
        (None, None) => (Request::Statistics { default, from }, statistics::INTERVAL),
    };
    if from > last {
        return Err(Sense::invalid_cdb_byte(5));
    }
    Ok(request)
}

/// Decodes LOG SELECT's PCR, PC, PAGE CODE and SUBPAGE CODE, for a command without a list (SPC-4, 6.6).
///
/// # Errors
/// INVALID FIELD IN CDB, with a pointer.
pub fn reset(all: bool, control: u8, code: u8, subpage: u8) -> Result<Reset, Sense> {
    let listed = List::new(code, subpage).is_some();
    let group = statistics::group(code, subpage);
    if subpage != 0 && !listed && group.is_none() {
        return Err(Sense::invalid_cdb_byte(3));
    }
    let which = match code {
        _ if group.is_some() => group.map_or(Reset::Nothing, Reset::Group),
        // Lists are not reset.
        _ if listed => Reset::Nothing,
        0 => Reset::All,
        // What they tell goes with the counters, and is as it is.
        EXCEPTIONS | PROVISIONING => Reset::Nothing,
        statistics::CODE => Reset::Statistics,
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

/// Writes a log page.
///
/// # Errors
/// INVALID FIELD IN CDB for a page that the unit does not have.
pub fn write(request: &Request, known: &Known, out: &mut Writer<'_>) -> Result<(), Sense> {
    let start = out.len();
    let provisioning = known.resources.map(|_| (PROVISIONING, 0));
    let pages = || {
        let counters = Page::ALL.map(|page| (page.code(), 0)).into_iter();
        let lists = List::ALL.map(List::code);
        counters
            .chain(provisioning)
            .chain(lists)
            .chain([(statistics::CODE, 0)])
            .chain(statistics::groups().map(|number| (statistics::CODE, number)))
            .chain([(EXCEPTIONS, 0)])
    };
    match *request {
        Request::Supported { subpages: false } => {
            out.put(&[0, 0, 0, 0, 0]);
            for (code, _) in pages().filter(|(_, subpage)| *subpage == 0) {
                out.u8(code);
            }
        }
        Request::Supported { subpages: true } => {
            // SPF
            out.put(&[0x40, 0xff, 0, 0]);
            out.put(&[0, 0, 0, 0xff]);
            for (code, subpage) in pages() {
                out.put(&[code, subpage]);
            }
        }
        Request::Subpages { code } => {
            let mut of = pages().filter(|(page, _)| *page == code).peekable();
            if of.peek().is_none() {
                return Err(Sense::invalid_cdb_bit(2, 5));
            }
            // SPF
            out.put(&[0x40 | code, 0xff, 0, 0]);
            for (code, subpage) in of {
                out.put(&[code, subpage]);
            }
            out.put(&[code, 0xff]);
        }
        Request::List(list) => {
            let (code, subpage) = list.code();
            // DS, SPF
            let format = if subpage == 0 { 0x80 } else { 0xc0 };
            out.put(&[format | code, subpage, 0, 0]);
            list.write(known, out);
        }
        Request::Provisioning { from } => {
            let resources = known.resources.ok_or(Sense::invalid_cdb_bit(2, 5))?;
            // DS
            out.put(&[0x80 | PROVISIONING, 0, 0, 0]);
            provisioning::write_log(&resources, from, out);
        }
        Request::Statistics { default, from } => {
            // DS: nothing is saved.
            out.put(&[0x80 | statistics::CODE, 0, 0, 0]);
            let zero = Statistics::default();
            let shown = if default { &zero } else { &known.statistics };
            shown.write(from, out);
        }
        Request::Group { number, default } => {
            // DS: nothing is saved; SPF.
            out.put(&[0xc0 | statistics::CODE, number, 0, 0]);
            let zero = Statistics::default();
            let shown = if default { &zero } else { &known.group };
            shown.write_group(out);
        }
        Request::Exceptions => {
            let Asc { code, qualifier } = known.exception.unwrap_or(Asc::NONE);
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
            let counters = if default { &zero } else { &known.counters };
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
    Ok(())
}
