// SPDX-License-Identifier: GPL-2.0

//! MODE SELECT's parameter list.

use super::hex;
use crate::{
    groups::Groups,
    lba::{BlockSize, Blocks},
    mode::{select, ErrorPolicy, Extension, Interlock, Unit, Values},
    pi::ApplicationTags,
    priority::Priority,
    provisioning::{Threshold, Thresholds},
    sense::Sense,
};
use std::format;

const VALUES: Values = Values {
    write_cache: true,
    descriptor_sense: false,
    errors: ErrorPolicy::Continue,
    interlock: Interlock::Clear,
    software_write_protect: false,
    task_aborted_status: true,
    report_exceptions: false,
    exception_test: false,
    unchecked_if_zero: false,
    thresholds: Thresholds::OFF,
    extension: Extension::DEFAULT,
    application: ApplicationTags::DEFAULT,
    groups: Groups::NONE,
};

pub(super) const DISK: Unit = Unit {
    blocks: Blocks(65536),
    block_size: BlockSize::B512,
    write_protected: false,
    dpo_fua: true,
    restricted_reordering: false,
    protection: None,
    implicit_alua: false,
    may_change: true,
    switches_write_cache: true,
    knows_resources: false,
    current: VALUES,
    default: VALUES,
    saved: None,
};

const CACHING: &str = "08 12 00 00 00 00 00 00 00 00 00 00 20 00 00 00 00 00 00 00";

fn six(list: &str) -> Result<Values, Sense> {
    select(&DISK, false, &hex(list))
}

fn ten(list: &str) -> Result<Values, Sense> {
    select(&DISK, true, &hex(list))
}

#[test]
fn values() {
    assert_eq!(six(""), Ok(VALUES));
    assert_eq!(six("00 00 00 00"), Ok(VALUES));
    let off = Values {
        write_cache: false,
        ..VALUES
    };
    assert_eq!(six(&format!("00 00 00 00 {CACHING}")), Ok(off));
    assert_eq!(ten(&format!("00 00 00 00 00 00 00 00 {CACHING}")), Ok(off));
    // What MODE SENSE answers can be sent back: its length, WP, DPOFUA and PS are not looked at.
    assert_eq!(
        six(&format!("17 00 90 00 {}", CACHING.replacen("08", "88", 1))),
        Ok(off)
    );
    // Several pages; the later goes before the earlier.
    assert_eq!(
        six(&format!(
            "00 00 00 00 {CACHING} 0a 0a 06 10 38 00 00 00 ff ff 00 1e 0a 0a 06 10 20 00 00 00 ff ff 00 1e"
        )),
        Ok(Values {
            write_cache: false,
            descriptor_sense: true,
            interlock: Interlock::Keep,
            software_write_protect: false,
            task_aborted_status: false,
            ..VALUES
        })
    );
    assert_eq!(
        six("00 00 00 00 0a 0a 02 10 38 40 00 00 ff ff 00 1e"),
        Ok(Values {
            interlock: Interlock::Establish,
            software_write_protect: true,
            ..VALUES
        })
    );
    for (byte, errors) in [
        ("10", ErrorPolicy::Continue),
        ("12", ErrorPolicy::AbortAll),
        ("16", ErrorPolicy::AbortOwn),
    ] {
        assert_eq!(
            six(&format!(
                "00 00 00 00 0a 0a 02 {byte} 00 40 00 00 ff ff 00 1e"
            )),
            Ok(Values { errors, ..VALUES })
        );
    }
    assert_eq!(
        six("00 00 00 00 1c 0a 04 06 00 00 00 00 00 00 00 00"),
        Ok(Values {
            report_exceptions: true,
            exception_test: true,
            ..VALUES
        })
    );
    // Those of which nothing can be changed.
    for page in [
        "01 0a 00 00 00 00 00 00 00 00 00 00",
        "4a 01 00 1c 06 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00",
    ] {
        assert_eq!(six(&format!("00 00 00 00 {page}")), Ok(VALUES), "{page}");
    }
}

fn extension(first: &str) -> std::string::String {
    format!("00 00 00 00 4a 01 00 1c {first}{}", " 00".repeat(25))
}

#[test]
fn control_extension() {
    for (first, clock, set_first, priority, max_sense) in [
        ("00 00 00", false, false, 0, 0),
        ("04 07 12", true, false, 7, 0x12),
        ("02 0f 34", false, true, 15, 52),
    ] {
        let extension_is = Extension {
            clock,
            set_first,
            priority: Priority::new(priority),
            max_sense,
        };
        let expected = Values {
            extension: extension_is,
            ..VALUES
        };
        assert_eq!(six(&extension(first)), Ok(expected));
        assert_eq!(extension_is.refuses_timestamps(), clock && !set_first);
    }
}

#[test]
fn thresholds() {
    let unit = Unit {
        knows_resources: true,
        ..DISK
    };
    let page = |available: &str, used: &str| {
        hex(&format!(
            "00 00 00 00 5c 02 00 1c {} {available} {used}",
            "00 ".repeat(12)
        ))
    };
    let off = "02 00 00 00 00 00 00";
    let threshold = |enabled, count| Threshold { enabled, count };
    let all = [
        page("80 01 00 00 00 00 01 02", "01 02 00 00 00 00 00 07"),
        hex("01 0a 00 00 00 00 00 80 00 00 00 00"),
    ]
    .concat();
    assert_eq!(
        select(&unit, false, &all),
        Ok(Values {
            thresholds: Thresholds {
                report: true,
                available: threshold(true, 0x102),
                used: threshold(false, 7),
            },
            ..VALUES
        })
    );
    // A hard threshold; another resource; another arming; a reserved byte.
    for (available, used, at, wrong) in [
        ("88 01 00 00 00 00 00 00", format!("01 {off}"), 20, 3),
        ("80 02 00 00 00 00 00 00", format!("01 {off}"), 21, 1),
        ("80 01 00 00 00 00 00 00", format!("80 {off}"), 28, 0),
        ("80 01 01 00 00 00 00 00", format!("01 {off}"), 22, 0),
    ] {
        let list = page(available, &used);
        assert_eq!(select(&unit, false, &list), Err(bit(at, wrong)));
    }
    // Who knows no resources has no such page, and reports nothing.
    let list = page("00 01 00 00 00 00 00 00", &format!("01 {off}"));
    assert_eq!(select(&unit, false, &list), Ok(VALUES));
    assert_eq!(select(&DISK, false, &list), Err(byte(5)));
    assert_eq!(
        six("00 00 00 00 01 0a 00 00 00 00 00 80 00 00 00 00"),
        Err(bit(11, 7))
    );
}

#[test]
fn block_descriptors() {
    for (blocks, fits) in [
        ("00 00 00 00", true),
        ("00 01 00 00", true),
        ("ff ff ff ff", true),
        ("00 00 ff ff", false),
    ] {
        let wrong = |at| if fits { Ok(VALUES) } else { Err(byte(at)) };
        assert_eq!(six(&format!("00 00 00 08 {blocks} 00 00 02 00")), wrong(4));
        assert_eq!(
            ten(&format!("00 00 00 00 00 00 00 08 {blocks} 00 00 02 00")),
            wrong(8)
        );
        let high = if blocks.starts_with("ff") {
            "ff ff ff ff"
        } else {
            "00 00 00 00"
        };
        let long = format!("00 00 00 00 01 00 00 10 {high} {blocks} 00 00 00 00 00 00 02 00");
        assert_eq!(ten(&long), wrong(8));
    }
    assert_eq!(six("00 00 00 08 00 00 00 00 00 00 10 00"), Err(byte(4 + 5)));
    assert_eq!(
        ten("00 00 00 00 01 00 00 10 00 00 00 00 00 00 00 00 00 00 00 00 00 00 10 00"),
        Err(byte(8 + 12))
    );
    assert_eq!(six("00 00 00 10 00 00 00 00 00 00 02 00"), Err(byte(3)));
    assert_eq!(
        ten("00 00 00 00 01 00 00 08 00 00 00 00 00 00 02 00"),
        Err(byte(6))
    );
    let big = Unit {
        blocks: Blocks(1 << 33),
        ..DISK
    };
    for list in ["ff ff ff ff 00 00 02 00", "00 00 00 00 00 00 02 00"] {
        let list = hex(&format!("00 00 00 08 {list}"));
        assert_eq!(select(&big, false, &list), Ok(VALUES));
    }
}

fn byte(at: u16) -> Sense {
    Sense::invalid_parameter_byte(at)
}

fn bit(at: u16, bit: u8) -> Sense {
    Sense::invalid_parameter_bit(at, bit)
}

#[test]
fn refusals() {
    for (list, sense) in [
        ("00 01 00 00".into(), byte(1)),
        ("00 00 60 00".into(), bit(2, 6)),
        // An unknown page, and an unknown subpage.
        ("00 00 00 00 3f 00".into(), bit(4, 5)),
        (
            "00 00 00 00 02 0a 00 00 00 00 00 00 00 00 00 00".into(),
            bit(4, 5),
        ),
        ("00 00 00 00 4a 02 00 1c".into(), byte(5)),
        ("00 00 00 00 48 00 00 12".into(), byte(5)),
        // A wrong length.
        (
            "00 00 00 00 08 0a 00 00 00 00 00 00 00 00 00 00".into(),
            byte(5),
        ),
        ("00 00 00 00 4a 01 00 1b".into(), byte(6)),
        // IC, and a retention priority; TST; a reserved value of UA_INTLCK_CTRL.
        (
            format!("00 00 00 00 {}", CACHING.replacen("00", "84", 1)),
            bit(6, 7),
        ),
        (
            format!("00 00 00 00 {}", CACHING.replacen("00 00", "04 10", 1)),
            bit(7, 4),
        ),
        (
            "00 00 00 00 0a 0a 22 10 00 40 00 00 ff ff 00 1e".into(),
            bit(6, 5),
        ),
        (
            "00 00 00 00 0a 0a 02 10 10 40 00 00 ff ff 00 1e".into(),
            bit(8, 5),
        ),
        // MRIE: there is no other method.
        (
            "00 00 00 00 1c 0a 00 04 00 00 00 00 00 00 00 00".into(),
            bit(7, 3),
        ),
        // A reserved value of QERR.
        (
            "00 00 00 00 0a 0a 02 14 00 40 00 00 ff ff 00 1e".into(),
            bit(7, 2),
        ),
        // IALUAE; beside INITIAL COMMAND PRIORITY; more sense data than there is.
        (extension("07 00 00"), bit(8, 0)),
        (extension("06 10 00"), bit(9, 4)),
        (extension("06 00 35"), bit(10, 7)),
    ] as [(std::string::String, Sense); 17]
    {
        assert_eq!(six(&list), Err(sense), "{list}");
    }
    assert_eq!(ten("00 00 00 00 02 00 00 00"), Err(bit(4, 1)));
    assert_eq!(ten("00 00 00 00 00 01 00 00"), Err(byte(5)));
    assert_eq!(ten("00 00 01 00 00 00 00 00"), Err(byte(2)));
    // Cut off anywhere but between two pages.
    let list = hex(&format!(
        "00 00 00 08 00 00 00 00 00 00 02 00 {CACHING} 0a 0a 06 10 38 00 00 00 ff ff 00 1e"
    ));
    for length in 1..list.len() {
        let cut = select(&DISK, false, &list[..length]);
        match length {
            12 | 32 => assert!(cut.is_ok()),
            _ => assert_eq!(cut, Err(Sense::PARAMETER_LIST_LENGTH), "{length}"),
        }
    }
    let list = hex(&format!("00 00 00 00 {CACHING}"));
    for fixed in [
        Unit {
            switches_write_cache: false,
            ..DISK
        },
        Unit {
            may_change: false,
            ..DISK
        },
    ] {
        assert_eq!(select(&fixed, false, &list), Err(bit(6, 2)));
    }
}
