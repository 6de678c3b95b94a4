// SPDX-License-Identifier: GPL-2.0

//! Logical block provisioning: resources, thresholds, log and mode page.

use super::{hex, written};
use crate::{
    lba::{BlockSize, Blocks},
    log::{self, Known, Request},
    provisioning::{exponent, Resources, Space, Threshold, Thresholds, Watch},
    sense::Sense,
};

const MIB: u64 = 1 << 20;

#[test]
fn threshold_sets() {
    for (blocks, size, expected) in [
        (0, BlockSize::B512, 11),
        (1 << 42, BlockSize::B512, 11),
        ((1 << 43) - 1, BlockSize::B512, 11),
        (1 << 43, BlockSize::B512, 12),
        (1 << 39, BlockSize::B4096, 8),
        (u64::MAX, BlockSize::B512, 32),
        (u64::MAX, BlockSize::B4096, 32),
    ] {
        assert_eq!(exponent(Blocks(blocks), size), expected, "{blocks:x}");
        // All of the unit can be counted.
        assert!(blocks >> expected <= u32::MAX.into());
    }
    let sets = |available, used| Space { available, used }.resources(11, BlockSize::B512);
    let resources = |available, used| Resources { available, used };
    assert_eq!(sets(0, 0), resources(0, 0));
    assert_eq!(sets(MIB - 1, 1), resources(0, 1));
    assert_eq!(sets(5 * MIB, 5 * MIB), resources(5, 5));
    assert_eq!(sets(u64::MAX, u64::MAX), resources(u32::MAX, u32::MAX));
    let all = Space {
        available: u64::MAX,
        used: 1,
    };
    for exponent in 0..=u8::MAX {
        assert!(all.resources(exponent, BlockSize::B4096).used == 1);
    }
}

#[test]
fn each_crossing_is_told_once() {
    let thresholds = Thresholds {
        report: true,
        available: Threshold {
            enabled: true,
            count: 3,
        },
        used: Threshold {
            enabled: true,
            count: 10,
        },
    };
    let mut watch = Watch::default();
    for (available, used, told) in [
        (5, 8, false),
        (4, 9, false),
        (3, 9, true),
        (2, 9, false),
        (2, 10, true),
        (2, 11, false),
        (4, 9, false),
        (3, 10, true),
    ] {
        let resources = Resources { available, used };
        let found = watch.look(&thresholds, &resources);
        assert_eq!(found, told, "{available} {used}");
    }
    // Not enabled, or not reported: nothing, and what was reached is told once it is.
    let quiet = Thresholds {
        report: false,
        ..thresholds
    };
    let full = Resources {
        available: 0,
        used: 20,
    };
    assert!(!quiet.any() && thresholds.any() && !Thresholds::OFF.any());
    assert!(!watch.look(&quiet, &full));
    assert!(!watch.look(&Thresholds::OFF, &full));
    assert!(watch.look(&thresholds, &full));
}

#[test]
fn log_page() {
    let known = Known {
        resources: Some(Resources {
            available: 0x102,
            used: 3,
        }),
        ..Known::default()
    };
    let page = |request| written(|out| log::write(&request, &known, out).unwrap());
    assert_eq!(
        page(Request::Provisioning { from: 0 }),
        hex(
            "8c 00 00 18  00 01 03 08 00 00 01 02 02 00 00 00  00 02 03 08 00 00 00 03 01 00 00 00"
        )
    );
    assert_eq!(
        page(Request::Provisioning { from: 2 }),
        hex("8c 00 00 0c  00 02 03 08 00 00 00 03 01 00 00 00")
    );
    assert_eq!(
        page(Request::Supported { subpages: false }),
        hex("00 00 00 09 00 02 03 05 0c 0d 0e 19 2f")
    );
    let none = Known::default();
    let mut result = Ok(());
    let bytes = written(|out| result = log::write(&Request::Provisioning { from: 0 }, &none, out));
    assert_eq!(
        (result, bytes.len()),
        (Err(Sense::invalid_cdb_bit(2, 5)), 0)
    );
}
