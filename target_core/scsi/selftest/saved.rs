// SPDX-License-Identifier: GPL-2.0

//! Saved mode parameters.

use super::mode::DISK;
use crate::{
    bytes::Writer,
    groups::Groups,
    mode::{
        saved::{read, write, Malformed, MAX},
        ErrorPolicy, Extension, Interlock, Values,
    },
    pi::{ApplicationTags, Ranges},
    priority::Priority,
    provisioning::{Threshold, Thresholds},
};
use std::{format, string::String};

/// 1234h up to block 99, 5678h from there on.
fn two_ranges() -> Ranges {
    let mut page = [0; 108];
    page[18..20].copy_from_slice(&[0x12, 0x34]);
    page[35] = 100;
    page[36] = 0x80;
    page[42..44].copy_from_slice(&[0x56, 0x78]);
    page[51] = 100;
    Ranges::read(&page).unwrap()
}

fn text(values: &Values) -> String {
    let mut bytes = [0; MAX];
    let mut out = Writer::new(&mut bytes);
    write(&DISK, values, &mut out);
    assert!(out.len() <= MAX);
    String::from_utf8(out.as_slice().into()).unwrap()
}

#[test]
fn all_that_can_be_changed_is_kept() {
    let threshold = |enabled, count| Threshold { enabled, count };
    let changed = Values {
        write_cache: true,
        descriptor_sense: true,
        errors: ErrorPolicy::AbortOwn,
        interlock: Interlock::Establish,
        software_write_protect: true,
        task_aborted_status: false,
        report_exceptions: true,
        exception_test: true,
        unchecked_if_zero: true,
        thresholds: Thresholds {
            report: true,
            available: threshold(true, 7),
            used: threshold(false, u32::MAX),
        },
        extension: Extension {
            clock: false,
            set_first: false,
            priority: Priority::new(9),
            max_sense: 18,
        },
        application: ApplicationTags {
            owned: true,
            by_range: true,
            ranges: two_ranges(),
        },
        groups: Groups::new(0x8000_0102),
    };
    for values in [Values::default(), changed] {
        for default in [Values::default(), changed] {
            assert_eq!(read(text(&values).as_bytes(), &default), Ok(values));
        }
    }
    assert_eq!(read(b"", &changed), Ok(changed));
    // What a page does not say is as by default.
    let cached = Values {
        write_cache: true,
        ..Values::default()
    };
    let line = format!("page_08_00=04{}\n", "00".repeat(17));
    assert_eq!(read(line.as_bytes(), &Values::default()), Ok(cached));
}

#[test]
fn nothing_else_is_taken() {
    let caching = format!("page_08_00=04{}\n", "00".repeat(17));
    for (text, line) in [
        (caching.trim_end().into(), 0),
        (format!("{caching}{caching}"), 2),
        (caching.replace("08", "09"), 1),
        (caching.replace("00=", "01="), 1),
        (caching.replace("=04", "=0"), 1),
        (caching.replace("=04", "=0g"), 1),
        (caching.replace("=04", "=+4"), 1),
        (caching.replace("=04", "=0400"), 1),
        (caching.replace("=04", "=0A"), 1),
        (caching.replace('=', " "), 1),
        (format!("{caching}\n"), 2),
        // A reserved value: QERR 10b; more sense data than there is.
        (format!("page_0a_00=0004{}\n", "00".repeat(8)), 1),
        (format!("page_0a_01=0000ff{}\n", "00".repeat(25)), 1),
        // No range is the last one.
        (format!("page_0a_02={}\n", "00".repeat(108)), 1),
        (format!("page_0a_05={}\n", "00".repeat(1035)), 1),
        ("\n".repeat(MAX + 1), 0),
    ] as [(String, usize); 16]
    {
        let taken = read(text.as_bytes(), &Values::default());
        assert_eq!(taken, Err(Malformed(line)), "{text}");
    }
    assert_eq!(read(b"\xff\n", &Values::default()), Err(Malformed(0)));
}
