// SPDX-License-Identifier: GPL-2.0

//! The mode pages (SPC-4, 7.5.7 and on; SBC-3, 6.5): what is in them, and what MODE SELECT can change of it.

use super::{ErrorPolicy, Extension, Interlock, Unit, Values};
use crate::{
    bytes::Writer,
    groups::{self, Groups},
    pi,
    priority::Priority,
    provisioning,
    sense::SenseData,
};

/// A mode page, or a subpage of one.
pub(super) struct Page {
    /// PAGE CODE
    pub(super) code: u8,
    /// SUBPAGE CODE; 00h is the page itself.
    pub(super) subpage: u8,
    /// PAGE LENGTH
    pub(super) length: u16,
    /// Writes what follows the page's header, with these values.
    pub(super) values: fn(&Unit, &Values, &mut Writer<'_>),
    /// Writes ones where MODE SELECT can change a bit.
    changeable: fn(&Unit, &mut Writer<'_>),
    /// Takes the values of what follows the page's header.
    pub(super) take: fn(&[u8], &mut Values) -> Result<(), Reserved>,
}

/// A field that has a reserved value: its leftmost bit, and its byte, counted from the page's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reserved {
    pub(super) byte: usize,
    pub(super) bit: u8,
}

impl From<pi::Wrong> for Reserved {
    fn from(wrong: pi::Wrong) -> Self {
        Reserved {
            byte: wrong.at(),
            bit: 7,
        }
    }
}

/// The longest page, without its header.
pub(super) const LONGEST: usize = groups::LENGTH as usize;

impl Page {
    /// The bytes of the header: those of the page_0 format, or of the sub_page format (SPC-4, 7.5.7).
    pub(super) const fn header_length(&self) -> usize {
        if self.subpage == 0 {
            2
        } else {
            4
        }
    }

    /// The unit has the page.
    pub(super) fn is_there(&self, unit: &Unit) -> bool {
        match (self.code, self.subpage) {
            (0x1c, 0x02) => unit.knows_resources,
            (0x0a, 0x02) => unit.protection.is_some(),
            _ => true,
        }
    }

    /// MODE SENSE can tell it: that of six bytes has a byte for all lengths, so that this page has no room beside a header.
    pub(super) fn fits(&self, ten: bool) -> bool {
        ten || self.length <= u8::MAX.into()
    }

    /// What was taken of `page` is for this unit.
    pub(super) fn settle(
        &self,
        unit: &Unit,
        page: &[u8],
        values: &mut Values,
    ) -> Result<(), Reserved> {
        match (self.code, self.subpage) {
            // ATO is shown as set whatever was asked for.
            (0x0a, 0x00) if unit.protection.is_some_and(pi::Type::owns_application_tags) => {
                values.application.owned = unit.current.application.owned;
                Ok(())
            }
            (0x0a, 0x02) => pi::check_end(page, unit.blocks).map_err(Reserved::from),
            _ => Ok(()),
        }
    }

    /// Writes ones where this initiator can change a bit.
    pub(super) fn mask(&self, unit: &Unit, out: &mut Writer<'_>) {
        if unit.may_change {
            (self.changeable)(unit, out);
        } else {
            out.fill(0, self.length.into());
        }
    }

    /// Writes the header, with PS where the page can be saved.
    pub(super) fn header(&self, saveable: bool, out: &mut Writer<'_>) {
        let code = self.code | if saveable { 0x80 } else { 0 };
        if self.subpage == 0 {
            out.put(&[code, u8::try_from(self.length).unwrap_or(u8::MAX)]);
        } else {
            // SPF
            out.put(&[0x40 | code, self.subpage]);
            out.be16(self.length);
        }
    }
}

/// All pages, in ascending order.
pub(super) static PAGES: [Page; 8] = [
    Page {
        code: 0x01,
        subpage: 0,
        length: 10,
        values: |_, values, out| {
            error_recovery(if values.thresholds.report { LBPERE } else { 0 }, out);
        },
        changeable: |unit, out| error_recovery(if unit.knows_resources { LBPERE } else { 0 }, out),
        take: |page, values| {
            values.thresholds.report = page.get(LBPERE_AT).is_some_and(|byte| byte & LBPERE != 0);
            Ok(())
        },
    },
    Page {
        code: 0x08,
        subpage: 0,
        length: 18,
        values: caching,
        changeable: |unit, out| {
            out.u8(if unit.switches_write_cache { WCE } else { 0 });
            out.fill(0, 17);
        },
        take: |page, values| {
            values.write_cache = page.first().is_some_and(|byte| byte & WCE != 0);
            Ok(())
        },
    },
    Page {
        code: 0x0a,
        subpage: 0,
        length: 10,
        values: control,
        changeable: |unit, out| {
            let (checks, tags) = match unit.protection {
                None => (0, 0),
                Some(of) if of.owns_application_tags() => (DPICZ, ATMPE),
                Some(_) => (DPICZ, ATO | ATMPE),
            };
            out.put(&[D_SENSE | checks, QERR, UA_INTLCK_CTRL | SWP, TAS | tags]);
            out.fill(0, 6);
        },
        take: take_control,
    },
    Page {
        code: 0x0a,
        subpage: 0x01,
        length: 28,
        values: control_extension,
        changeable: |_, out| {
            out.put(&[TCMOS | SCSIP, INITIAL_PRIORITY, 0xff]);
            out.fill(0, 25);
        },
        take: take_control_extension,
    },
    Page {
        code: 0x0a,
        subpage: 0x02,
        length: pi::RANGES_LENGTH as u16,
        values: |unit, values, out| values.application.ranges.write(unit.blocks, out),
        changeable: |_, out| pi::Ranges::write_mask(out),
        take: |page, values| {
            values.application.ranges = pi::Ranges::read(page)?;
            Ok(())
        },
    },
    Page {
        code: 0x0a,
        subpage: 0x05,
        length: groups::LENGTH,
        values: |_, values, out| values.groups.write(out),
        changeable: |_, out| Groups::write_mask(out),
        take: |page, values| {
            values.groups = Groups::read(page);
            Ok(())
        },
    },
    Page {
        code: 0x1c,
        subpage: 0,
        length: 10,
        values: informational_exceptions,
        changeable: |_, out| {
            out.put(&[TEST, MRIE]);
            out.fill(0, 8);
        },
        take: take_informational_exceptions,
    },
    Page {
        code: 0x1c,
        subpage: 0x02,
        length: provisioning::MODE_LENGTH as u16,
        values: |_, values, out| provisioning::write_mode(&values.thresholds, out),
        changeable: |_, out| provisioning::write_mode_mask(out),
        take: |page, values| {
            provisioning::take_mode(page, &mut values.thresholds);
            Ok(())
        },
    },
];

/// In byte 7 of the read-write error recovery page: thresholds of logical block provisioning are reported.
const LBPERE: u8 = 0x80;
const LBPERE_AT: usize = 5;

/// Read-write error recovery (SBC-3, 6.5.8).
fn error_recovery(flags: u8, out: &mut Writer<'_>) {
    out.fill(0, LBPERE_AT);
    out.u8(flags);
    out.fill(0, 4);
}

/// In byte 2 of the caching page.
const WCE: u8 = 0x04;

/// Caching (SBC-3, 6.5.5).
fn caching(_: &Unit, values: &Values, out: &mut Writer<'_>) {
    out.u8(if values.write_cache { WCE } else { 0 });
    out.fill(0, 9);
    // DRA: no read ahead
    out.u8(0x20);
    out.fill(0, 7);
}

/// In bytes 2, 2, 3, 4, 4, 5, 5 and 5 of the control page.
const DPICZ: u8 = 0x08;
const D_SENSE: u8 = 0x04;
const QERR: u8 = 0x06;
const UA_INTLCK_CTRL: u8 = 0x30;
const SWP: u8 = 0x08;
const TAS: u8 = 0x40;
const ATO: u8 = 0x80;
const ATMPE: u8 = 0x20;

/// Control (SPC-4, 7.5.8).
fn control(unit: &Unit, values: &Values, out: &mut Writer<'_>) {
    // GLTSD: log parameters are not saved.
    out.u8(0x02
        | if values.descriptor_sense { D_SENSE } else { 0 }
        | if values.unchecked_if_zero { DPICZ } else { 0 });
    // QUEUE ALGORITHM MODIFIER
    let order = if unit.restricted_reordering {
        0x00
    } else {
        0x10
    };
    let errors = match values.errors {
        ErrorPolicy::Continue => 0x00,
        ErrorPolicy::AbortAll => 0x02,
        ErrorPolicy::AbortOwn => 0x06,
    };
    out.u8(order | errors);
    let interlock = match values.interlock {
        Interlock::Clear => 0x00,
        Interlock::Keep => 0x20,
        Interlock::Establish => 0x30,
    };
    out.u8(interlock
        | if values.software_write_protect {
            SWP
        } else {
            0
        });
    let owned = unit.protection.is_some_and(pi::Type::owns_application_tags);
    out.u8(if values.task_aborted_status { TAS } else { 0 }
        | if owned || values.application.owned {
            ATO
        } else {
            0
        }
        | if values.application.by_range {
            ATMPE
        } else {
            0
        });
    out.be16(0);
    // BUSY TIMEOUT PERIOD: unlimited
    out.be16(0xffff);
    // EXTENDED SELF-TEST COMPLETION TIME, in seconds
    out.be16(30);
}

fn take_control(page: &[u8], values: &mut Values) -> Result<(), Reserved> {
    let [sense, errors, attention, tas, ..] = *page else {
        return Ok(());
    };
    values.descriptor_sense = sense & D_SENSE != 0;
    values.unchecked_if_zero = sense & DPICZ != 0;
    values.errors = match errors & QERR {
        0x00 => ErrorPolicy::Continue,
        0x02 => ErrorPolicy::AbortAll,
        0x06 => ErrorPolicy::AbortOwn,
        _ => return Err(Reserved { byte: 1, bit: 2 }),
    };
    values.interlock = match attention & UA_INTLCK_CTRL {
        0x00 => Interlock::Clear,
        0x20 => Interlock::Keep,
        0x30 => Interlock::Establish,
        _ => return Err(Reserved { byte: 2, bit: 5 }),
    };
    values.software_write_protect = attention & SWP != 0;
    values.task_aborted_status = tas & TAS != 0;
    values.application.owned = tas & ATO != 0;
    values.application.by_range = tas & ATMPE != 0;
    Ok(())
}

/// In byte 4 of the control extension page.
const TCMOS: u8 = 0x04;
const SCSIP: u8 = 0x02;
const IALUAE: u8 = 0x01;
/// In byte 5.
const INITIAL_PRIORITY: u8 = 0x0f;

/// Control extension (SPC-4, 7.5.9).
fn control_extension(unit: &Unit, values: &Values, out: &mut Writer<'_>) {
    let extension = &values.extension;
    out.u8(if extension.clock { TCMOS } else { 0 }
        | if extension.set_first { SCSIP } else { 0 }
        | if unit.implicit_alua { IALUAE } else { 0 });
    out.put(&[extension.priority.get(), extension.max_sense]);
    out.fill(0, 25);
}

fn take_control_extension(page: &[u8], values: &mut Values) -> Result<(), Reserved> {
    let [flags, priority, max_sense, ..] = *page else {
        return Ok(());
    };
    // More than page 86h of VPD has as the most.
    if usize::from(max_sense) > SenseData::MAX {
        return Err(Reserved { byte: 2, bit: 7 });
    }
    values.extension = Extension {
        clock: flags & TCMOS != 0,
        set_first: flags & SCSIP != 0,
        priority: Priority::new(priority),
        max_sense,
    };
    Ok(())
}

/// In bytes 2 and 3 of the informational exceptions control page.
const TEST: u8 = 0x04;
const MRIE: u8 = 0x0f;
/// Informational exceptions are reported on request only: by REQUEST SENSE.
const ON_REQUEST: u8 = 0x06;

/// Informational exceptions control (SPC-4, 7.5.11).
fn informational_exceptions(_: &Unit, values: &Values, out: &mut Writer<'_>) {
    out.u8(if values.exception_test { TEST } else { 0 });
    out.u8(if values.report_exceptions {
        ON_REQUEST
    } else {
        0
    });
    // INTERVAL TIMER, REPORT COUNT
    out.fill(0, 8);
}

fn take_informational_exceptions(page: &[u8], values: &mut Values) -> Result<(), Reserved> {
    let [flags, method, ..] = *page else {
        return Ok(());
    };
    values.exception_test = flags & TEST != 0;
    values.report_exceptions = match method & MRIE {
        0 => false,
        ON_REQUEST => true,
        _ => return Err(Reserved { byte: 1, bit: 3 }),
    };
    Ok(())
}
