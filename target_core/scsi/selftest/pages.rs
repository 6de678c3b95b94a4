// SPDX-License-Identifier: GPL-2.0

//! INQUIRY, VPD and mode pages against what the stock modules (7.3.4) answer: a fileio disk of 32 MiB with default
//! attributes and the serial number below, on loopback target naa.5001405000000001, portal group 1.

use super::{hex, written};
use crate::{
    bytes::Writer,
    groups::Groups,
    inquiry::{self, Alua, Identity, Page, Port, Protocol, Unit},
    lba::{BlockSize, Blocks},
    mode::{self, ErrorPolicy, Extension, Interlock, PageControl, Request, Values},
    pi,
    provisioning::Thresholds,
    sense::Sense,
    vpd::{BlockLimits, Provisioning},
};
use std::{vec, vec::Vec};

pub(super) const UNIT: Unit<'_> = Unit {
    ports: &[],
    identity: Identity {
        vendor: b"LIO-ORG",
        product: b"FILEIO",
        revision: b"4.0",
        serial: Some(b"11111111-2222-3333-4444-555555555555"),
        company_id: 0x001405,
        lu_group: Some(0),
    },
    port: Port {
        protocol: Protocol::Sas,
        relative_id: 0,
        group: Some(0),
        target: b"naa.5001405000000001",
        tag: 1,
    },
    alua: Alua {
        implicit: true,
        explicit: true,
    },
    third_party_copy: true,
    block_size: BlockSize::B512,
    multi_port: false,
    unavailable: false,
    write_cache: false,
    removable: false,
    protect: false,
    protection_types: 0,
    protection_checks: false,
    block_erase: false,
    write_long: false,
    non_rotating: false,
    provisioning: Provisioning {
        unmap: false,
        write_same: false,
        zeroes: false,
        threshold_exponent: 0,
    },
    limits: BlockLimits {
        max_compare_and_write: 1,
        optimal_granularity: 1,
        write_same_all: false,
        max_transfer: 16384,
        optimal_transfer: 16384,
        max_unmap_blocks: 8192,
        max_unmap_descriptors: 1,
        unmap_granularity: 1,
        unmap_alignment: 0,
        max_write_same: 4096,
        max_atomic: 0,
        atomic_alignment: 0,
        atomic_granularity: 0,
    },
    referrals: None,
};

fn vpd(unit: &Unit<'_>, code: u8) -> Vec<u8> {
    written(|out| inquiry::write(unit, Page::Vpd(code), out).unwrap())
}

#[test]
fn stock_vpd_pages() {
    let vectors = [
        // Of ours, 87h and 88h more, UASK_SUP and RTD_SUP: what the stock modules do not have.
        (0x00, "00 00 00 0c 00 80 83 86  87 88 8f b0 b1 b2 b3 b7"),
        (
            0x80,
            "00 80 00 25 31 31 31 31  31 31 31 31 2d 32 32 32
             32 2d 33 33 33 33 2d 34  34 34 34 2d 35 35 35 35
             35 35 35 35 35 35 35 35  00",
        ),
        (
            0x83,
            "00 83 00 a4 01 03 00 10  60 01 40 51 11 11 11 12
             22 23 33 34 44 45 55 55  02 01 00 34 4c 49 4f 2d
             4f 52 47 20 46 49 4c 45  49 4f 3a 31 31 31 31 31
             31 31 31 2d 32 32 32 32  2d 33 33 33 33 2d 34 34
             34 34 2d 35 35 35 35 35  35 35 35 35 35 35 35 00
             61 94 00 04 00 00 00 00  61 95 00 04 00 00 00 00
             01 06 00 04 00 00 00 00  63 98 00 20 6e 61 61 2e
             35 30 30 31 34 30 35 30  30 30 30 30 30 30 30 31
             2c 74 2c 30 78 30 30 30  31 00 00 00 63 a8 00 18
             6e 61 61 2e 35 30 30 31  34 30 35 30 30 30 30 30
             30 30 30 31 00 00 00 00",
        ),
        (
            0x86,
            "00 86 00 3c 00 37 00 00  08 00 00 00 00 00 00 00
             00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
             00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
             00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00",
        ),
        (0xb0, "00 b0 00 0c 01 01 00 01  00 00 40 00 00 00 40 00"),
        (
            0xb1,
            "00 b1 00 3c 00 00 00 00  00 00 00 00 00 00 00 00
             00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
             00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
             00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00",
        ),
        (0xb2, "00 b2 00 04 00 00 00 00"),
        (0xb3, "00 b3 00 0c 00 00 00 00  00 00 00 00 00 00 00 00"),
        (
            0xb7,
            "00 b7 00 3c 00 00 00 00  00 00 00 00 00 00 00 00
             00 00 00 00 00 00 00 00  00 00 40 00 00 00 00 00
             00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
             00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00",
        ),
    ];
    for (code, expected) in vectors {
        assert_eq!(vpd(&UNIT, code), hex(expected), "page {code:02x}");
    }
}

#[test]
fn stock_standard_inquiry() {
    let expected = hex("00 00 06 02 5b b8 00 02  4c 49 4f 2d 4f 52 47 20
         46 49 4c 45 49 4f 20 20  20 20 20 20 20 20 20 20
         34 2e 30 20 00 00 00 00  00 00 00 00 00 00 00 00
         00 00 00 00 00 00 00 00  00 00 00 a0 0c 60 04 60
         04 c0 00 00 00 00 00 00  00 00 00 00 00 00 00 00
         00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00");
    assert_eq!(
        written(|out| inquiry::write(&UNIT, Page::Standard, out).unwrap()),
        expected
    );
}

#[test]
fn thin_provisioning_pages() {
    // From the field layouts of SBC-3, 6.6.3 and 6.6.4, whole: the stock modules' page B0 ends at 28h, where Linux does
    // not find the limits of unmapping.
    let thin = Provisioning {
        unmap: true,
        write_same: true,
        zeroes: true,
        threshold_exponent: 0,
    };
    let limits = BlockLimits {
        unmap_alignment: 8,
        ..UNIT.limits
    };
    let unit = Unit {
        provisioning: thin,
        limits,
        ..UNIT
    };
    assert_eq!(
        vpd(&unit, 0xb0),
        hex("00 b0 00 3c 01 01 00 01  00 00 40 00 00 00 40 00
             00 00 00 00 00 00 20 00  00 00 00 01 00 00 00 01
             80 00 00 08 00 00 00 00  00 00 10 00 00 00 00 00
             00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00")
    );
    assert_eq!(vpd(&unit, 0xb2), hex("00 b2 00 04 00 e4 00 00"));
    for (thin, expected) in [
        (
            Provisioning {
                unmap: true,
                write_same: false,
                zeroes: false,
                threshold_exponent: 0,
            },
            0x80,
        ),
        (
            Provisioning {
                unmap: false,
                write_same: true,
                zeroes: false,
                threshold_exponent: 0,
            },
            0x60,
        ),
        (
            Provisioning {
                unmap: false,
                write_same: false,
                zeroes: true,
                threshold_exponent: 0,
            },
            0x00,
        ),
        (
            Provisioning {
                unmap: true,
                write_same: false,
                zeroes: true,
                threshold_exponent: 0,
            },
            0x84,
        ),
    ] {
        assert_eq!(
            vpd(
                &Unit {
                    provisioning: thin,
                    ..UNIT
                },
                0xb2
            )[5],
            expected
        );
    }
}

#[test]
fn flags_of_the_unit() {
    let unit = Unit {
        write_cache: true,
        non_rotating: true,
        multi_port: true,
        third_party_copy: false,
        alua: Alua {
            implicit: true,
            explicit: false,
        },
        ..UNIT
    };
    assert_eq!(vpd(&unit, 0x86)[6], 0x01);
    let marks = Unit {
        write_long: true,
        ..unit
    };
    assert_eq!(vpd(&marks, 0x86)[6], 0x09);
    assert_eq!(vpd(&unit, 0xb1)[4..6], [0, 1]);
    let standard = written(|out| inquiry::write(&unit, Page::Standard, out).unwrap());
    assert_eq!(standard[5..7], [0x90, 0x10]);
}

#[test]
fn without_serial_number() {
    let unit = Unit {
        identity: Identity {
            serial: None,
            ..UNIT.identity
        },
        ..UNIT
    };
    // Nothing that identifies it is listed; the limits are.
    assert_eq!(
        vpd(&unit, 0x00),
        [0, 0, 0, 10, 0x00, 0x86, 0x87, 0x88, 0x8f, 0xb0, 0xb1, 0xb2, 0xb3, 0xb7]
    );
    assert_eq!(vpd(&unit, 0x80), [0, 0x80, 0, 0]);
    // No NAA designator, and the vendor alone.
    assert_eq!(
        vpd(&unit, 0x83)[4..21],
        *b"\x02\x01\x00\x09LIO-ORG \x00\x61\x94\x00\x04"
    );
}

#[test]
fn without_groups() {
    let unit = Unit {
        identity: Identity {
            lu_group: None,
            ..UNIT.identity
        },
        port: Port {
            group: None,
            ..UNIT.port
        },
        ..UNIT
    };
    assert_eq!(vpd(&unit, 0x83).len(), 4 + 0xa4 - 16);
}

fn naa(serial: &[u8], company_id: u32) -> Vec<u8> {
    let identity = Identity {
        serial: Some(serial),
        company_id,
        ..UNIT.identity
    };
    vpd(&Unit { identity, ..UNIT }, 0x83)[8..24].to_vec()
}

#[test]
fn naa_designator_takes_the_hexadecimal_digits() {
    let wwn = "60 01 40 5a bc de f0 12  34 56 78 9a bc de f0 12";
    assert_eq!(naa(b"abcdef0123456789abcdef012", 0x1405), hex(wwn));
    // Only the first 25 digits count, and case does not.
    assert_eq!(
        naa(b"ABCDEF01-2345-6789-abcd-ef0123456789", 0x1405),
        hex(wwn)
    );
    assert_eq!(
        naa(b"xyz", 0x1405),
        hex("60 01 40 50 00 00 00 00 00 00 00 00 00 00 00 00")
    );
    assert_eq!(
        naa(b"1g2", 0x1405),
        hex("60 01 40 51 20 00 00 00 00 00 00 00 00 00 00 00")
    );
    assert_eq!(
        naa(b"", 0xabcdef),
        hex("6a bc de f0 00 00 00 00 00 00 00 00 00 00 00 00")
    );
}

/// Walks page 83h and gives (type, association, length) of each designator.
fn designators(page: &[u8]) -> Vec<(u8, u8, usize)> {
    assert_eq!(
        usize::from(u16::from_be_bytes([page[2], page[3]])),
        page.len() - 4
    );
    let (mut at, mut found) = (4, vec![]);
    while at < page.len() {
        let length = usize::from(page[at + 3]);
        found.push((page[at + 1] & 0xf, (page[at + 1] >> 4) & 3, length));
        at += 4 + length;
    }
    assert_eq!(at, page.len());
    found
}

#[test]
fn long_names_stay_within_their_length_fields() {
    let serial = [b'1'; 254];
    let target = [b'i'; 300];
    let unit = Unit {
        identity: Identity {
            product: b"SIXTEEN BYTES LNG AND MORE",
            serial: Some(&serial),
            ..UNIT.identity
        },
        port: Port {
            target: &target,
            protocol: Protocol::Iscsi,
            ..UNIT.port
        },
        ..UNIT
    };
    let page = vpd(&unit, 0x83);
    assert_eq!(
        designators(&page),
        [
            (3, 0, 16),
            (1, 0, 255),
            (4, 1, 4),
            (5, 1, 4),
            (6, 0, 4),
            (8, 1, 252),
            (8, 2, 252)
        ]
    );
    // The port's name still ends with the portal group tag.
    let port_name = &page[page.len() - 252 - 4 - 252..page.len() - 256];
    assert!(port_name.ends_with(b",t,0x0001\0"));
    assert_eq!(vpd(&unit, 0x80).len(), 4 + 254);
    // And a name of the longest IQN is whole.
    let target = [b'q'; 223];
    let page = vpd(
        &Unit {
            port: Port {
                target: &target,
                ..unit.port
            },
            ..unit
        },
        0x83,
    );
    assert_eq!(designators(&page)[5..], [(8, 1, 236), (8, 2, 224)]);
}

#[test]
fn third_party_copy_page() {
    let on = Unit {
        third_party_copy: true,
        ..UNIT
    };
    assert_eq!(
        vpd(&on, 0x8f),
        [
            hex("00 8f 01 48
                 00 00 00 20  00 00 00 00 00 00 00 40  00 00 02 58 00 00 00 3c
                 00 00 00 00  00 08 00 00 00 00 00 00  00 02 00 00
                 00 01 00 14  11 83 05 00 01 10 11 1c  84 08 00 01 03 04 05 06  07 08 00 00
                 00 04 00 1c  00 00 00 00 00 10 00 40  00 00 0a 00
                 00 00 00 00  00 00 00 00 00 00 00 00  00 00 00 00
                 00 08 00 04  03 02 0a e4
                 00 0c 00 04  00 00 00 00
                 01 06 00 2c  00 00 00 00 00 00 00 00  00 00 00 00
                 00 00 00 00  00 00 02 58 00 00 02 58"),
            [0; 20].to_vec(),
            hex("01 08 00 84  00 00 00 80 00 01 00 00  03 00 ff ff"),
            [0; 56].to_vec(),
            hex("ff ff 00 01  02 00 00 00"),
            [0; 56].to_vec(),
            hex("80 01 00 20  00 00 00 10 00 00 00 10  02 00 00 00"),
            [0; 20].to_vec(),
        ]
        .concat()
    );
    let off = Unit {
        third_party_copy: false,
        ..UNIT
    };
    assert!(!vpd(&off, 0x00).contains(&0x8f));
    let mut out = Writer::new(&mut []);
    assert!(inquiry::write(&off, Page::Vpd(0x8f), &mut out).is_err());
}

#[test]
fn other_vpd_pages_are_refused() {
    let known = [
        0x00, 0x80, 0x83, 0x86, 0x87, 0x88, 0x8f, 0xb0, 0xb1, 0xb2, 0xb3, 0xb7,
    ];
    for code in (0..=0xff).filter(|code| !known.contains(code)) {
        let mut buf = [0; 8];
        let mut out = Writer::new(&mut buf);
        let refused = inquiry::write(&UNIT, Page::Vpd(code), &mut out);
        assert_eq!(refused, Err(Sense::invalid_cdb_byte(2)));
        assert!(out.is_empty());
    }
}

#[test]
fn unit_that_cannot_be_accessed() {
    let unit = Unit {
        unavailable: true,
        ..UNIT
    };
    let standard = written(|out| inquiry::write(&unit, Page::Standard, out).unwrap());
    assert_eq!((standard[0], standard.len()), (0x20, 96));
    assert_eq!(vpd(&unit, 0x83)[..2], [0x20, 0x83]);
    assert_eq!(vpd(&unit, 0x83)[2..], vpd(&UNIT, 0x83)[2..]);
}

#[test]
fn absent_unit() {
    let data = written(inquiry::absent);
    assert_eq!((data.len(), &data[..5]), (96, &[0x7f, 0, 6, 2, 91][..]));
}

const MODE: mode::Unit = mode::Unit {
    blocks: Blocks(65536),
    block_size: BlockSize::B512,
    write_protected: false,
    dpo_fua: false,
    restricted_reordering: false,
    protection: None,
    implicit_alua: true,
    may_change: true,
    switches_write_cache: true,
    knows_resources: false,
    current: DEFAULTS,
    default: DEFAULTS,
    saved: None,
};

const DEFAULTS: Values = Values {
    write_cache: false,
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
    application: pi::ApplicationTags::DEFAULT,
    groups: Groups::NONE,
};

const ALL_PAGES: Request = Request {
    ten: true,
    long_lba: false,
    no_block_descriptors: false,
    control: PageControl::Current,
    page: 0x3f,
    subpage: 0,
};

fn mode_data(unit: &mode::Unit, request: &Request) -> Vec<u8> {
    written(|out| mode::write(unit, request, out).unwrap())
}

const STOCK_PAGES: &str = "01 0a 00 00 00 00 00 00  00 00 00 00
    08 12 00 00 00 00 00 00  00 00 00 00 20 00 00 00  00 00 00 00
    0a 0a 02 10 00 40 00 00  ff ff 00 1e
    1c 0a 00 00 00 00 00 00  00 00 00 00";

#[test]
fn stock_mode_pages() {
    // NUMBER OF LOGICAL BLOCKS is that; the stock modules have the address of the last one there.
    let header = hex("00 46 00 00 00 00 00 08  00 01 00 00 00 00 02 00");
    let mut expected = header;
    expected.extend(hex(STOCK_PAGES));
    assert_eq!(mode_data(&MODE, &ALL_PAGES), expected);
    // With all subpages there is the control extension, too, and the page of groups. The stock modules' has no TCMOS.
    let subpages = mode_data(
        &MODE,
        &Request {
            subpage: 0xff,
            ..ALL_PAGES
        },
    );
    let control = 16 + 12 + 20 + 12;
    assert_eq!(subpages[..2], (0x46u16 + 32 + 1040).to_be_bytes());
    assert_eq!(subpages[2..control], expected[2..control]);
    assert_eq!(subpages[control..][..6], hex("4a 01 00 1c 07 00"));
    assert_eq!(subpages[control + 32..][..4], hex("4a 05 04 0c"));
    assert_eq!(subpages[control + 32 + 1040..], expected[control..]);
    assert_eq!(
        mode_data(
            &MODE,
            &Request {
                control: PageControl::Default,
                ..ALL_PAGES
            }
        ),
        expected
    );

    let mut expected = hex("43 00 00 08  00 01 00 00 00 00 02 00");
    expected.extend(hex(STOCK_PAGES));
    assert_eq!(
        mode_data(
            &MODE,
            &Request {
                ten: false,
                ..ALL_PAGES
            }
        ),
        expected
    );

    let request = Request {
        ten: false,
        no_block_descriptors: true,
        page: 0x08,
        ..ALL_PAGES
    };
    assert_eq!(
        mode_data(&MODE, &request),
        hex("17 00 00 00  08 12 00 00 00 00 00 00  00 00 00 00 20 00 00 00  00 00 00 00")
    );
}

#[test]
fn changeable_mode_values() {
    let request = Request {
        control: PageControl::Changeable,
        page: 0x0a,
        ..ALL_PAGES
    };
    assert_eq!(
        mode_data(&MODE, &request),
        hex("00 1a 00 00 00 00 00 08  00 01 00 00 00 00 02 00
             0a 0a 04 06 38 40 00 00  00 00 00 00")
    );
    let caching = Request {
        page: 0x08,
        ..request
    };
    assert_eq!(mode_data(&MODE, &caching)[16..20], hex("08 12 04 00"));
    for fixed in [
        mode::Unit {
            switches_write_cache: false,
            ..MODE
        },
        mode::Unit {
            may_change: false,
            ..MODE
        },
    ] {
        assert!(mode_data(&fixed, &caching)[18..].iter().all(|b| *b == 0));
    }
    let all = Request {
        page: 0x3f,
        subpage: 0xff,
        ..request
    };
    let bits: u32 = mode_data(&MODE, &all)[16..]
        .iter()
        .map(|b| b.count_ones())
        .sum();
    let headers: u32 = hex("01 0a 08 12 0a 0a 4a 01 00 1c 4a 05 04 0c 1c 0a")
        .iter()
        .map(|b| b.count_ones())
        .sum();
    assert_eq!(
        bits - headers,
        1 + (1 + 2 + 2 + 1 + 1) + (2 + 4 + 8) + 31 + (1 + 4)
    );
}

#[test]
fn mode_flags() {
    let unit = mode::Unit {
        write_protected: true,
        dpo_fua: true,
        restricted_reordering: true,
        current: Values {
            write_cache: true,
            descriptor_sense: true,
            interlock: Interlock::Keep,
            software_write_protect: false,
            task_aborted_status: false,
            ..DEFAULTS
        },
        ..MODE
    };
    let data = mode_data(
        &unit,
        &Request {
            no_block_descriptors: true,
            ..ALL_PAGES
        },
    );
    assert_eq!(data[..8], [0, 62, 0, 0x90, 0, 0, 0, 0]);
    // Caching and control.
    assert_eq!(data[8 + 12..][..3], [0x08, 0x12, 0x04]);
    assert_eq!(
        data[8 + 12 + 20..][..6],
        [0x0a, 0x0a, 0x06, 0x00, 0x20, 0x00]
    );
    // The defaults are others than the current values then.
    let default = Request {
        control: PageControl::Default,
        no_block_descriptors: true,
        ..ALL_PAGES
    };
    assert_eq!(mode_data(&unit, &default)[8 + 12 + 2], 0);
    assert_eq!(mode_data(&unit, &default)[8 + 12 + 20 + 2], 0x02);
    let unit = mode::Unit {
        current: Values {
            interlock: Interlock::Establish,
            software_write_protect: true,
            ..DEFAULTS
        },
        ..MODE
    };
    let data = mode_data(
        &unit,
        &Request {
            page: 0x0a,
            ..ALL_PAGES
        },
    );
    // SWP is told as WP, too.
    assert_eq!((data[3], data[16 + 4]), (0x80, 0x38));
}

#[test]
fn long_block_descriptor_where_it_is_needed_and_accepted() {
    let big = mode::Unit {
        blocks: Blocks(0x1_0000_0001),
        block_size: BlockSize::B4096,
        ..MODE
    };
    let request = Request {
        page: 0x01,
        ..ALL_PAGES
    };
    let long = Request {
        long_lba: true,
        ..request
    };
    assert_eq!(
        mode_data(&big, &long)[..24],
        hex("00 22 00 00 01 00 00 10  00 00 00 01 00 00 00 01  00 00 00 00 00 00 10 00")
    );
    let short = "00 1a 00 00 00 00 00 08  ff ff ff ff 00 00 10 00";
    assert_eq!(mode_data(&big, &request)[..16], hex(short));
    assert_eq!(mode_data(&MODE, &long), mode_data(&MODE, &request));
    let none = Request {
        no_block_descriptors: true,
        ..long
    };
    assert_eq!(mode_data(&big, &none)[..8], [0, 18, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn mode_refusals() {
    let mut buf = [0; 8];
    let mut refused = |request: Request| {
        let mut out = Writer::new(&mut buf);
        let sense = mode::write(&MODE, &request, &mut out).unwrap_err();
        assert!(out.is_empty());
        sense
    };
    let saved = Request {
        control: PageControl::Saved,
        ..ALL_PAGES
    };
    assert_eq!(refused(saved), Sense::SAVING_NOT_SUPPORTED);
    // Where they can be saved, PS says so in each page.
    let saves = mode::Unit {
        saved: Some(Values {
            software_write_protect: true,
            ..DEFAULTS
        }),
        ..MODE
    };
    let page = |control| {
        let data = mode_data(
            &saves,
            &Request {
                control,
                page: 0x0a,
                subpage: 0xff,
                ..ALL_PAGES
            },
        );
        assert_eq!((data[16], data[16 + 12]), (0x8a, 0xca));
        data[16 + 4]
    };
    assert_eq!(page(PageControl::Saved), 0x08);
    assert_eq!(page(PageControl::Default), 0);
    assert_eq!(page(PageControl::Current), 0);
    assert_eq!(
        refused(Request {
            subpage: 1,
            ..ALL_PAGES
        }),
        Sense::invalid_cdb_byte(3)
    );
    for page in (0..0x3f).filter(|page| ![0x01, 0x08, 0x0a, 0x1c].contains(page)) {
        assert_eq!(
            refused(Request { page, ..ALL_PAGES }),
            Sense::invalid_cdb_bit(2, 5)
        );
    }
    for (page, subpage) in [(0x01, 0x01), (0x08, 0x01), (0x0a, 0x02), (0x1c, 0x01)] {
        let request = Request {
            page,
            subpage,
            ..ALL_PAGES
        };
        assert_eq!(refused(request), Sense::invalid_cdb_byte(3));
    }
}
