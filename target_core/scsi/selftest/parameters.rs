// SPDX-License-Identifier: GPL-2.0

//! LUNs, capacities, REPORT LUNS, target port groups, UNMAP's parameter list, extents.

use super::{hex, written};
use crate::{
    alua::{Group, Report, State, Supported},
    capacity::Capacity,
    lba::{BlockSize, Blocks, Extent, Lba},
    lun::Lun,
    luns::{self, Select},
    sense::{Format, Sense},
    unmap::List,
    vpd::{BlockLimits, Provisioning},
};
use std::{vec, vec::Vec};

#[test]
fn luns_on_the_wire() {
    let table = [
        (0, "00 00 00 00 00 00 00 00"),
        (255, "00 ff 00 00 00 00 00 00"),
        // As the stock modules have them.
        (256, "01 00 00 00 00 00 00 00"),
        (16383, "3f ff 00 00 00 00 00 00"),
        (16384, "d2 00 40 00 00 00 00 00"),
        (65535, "d2 00 ff ff 00 00 00 00"),
    ];
    for (lun, wire) in table {
        assert_eq!(Lun(lun).to_bytes()[..], hex(wire));
    }
    for lun in 0..=u16::MAX {
        assert_eq!(Lun::parse(Lun(lun).to_bytes()), Some(Lun(lun)));
    }
    let parse = |wire| Lun::parse(hex(wire).try_into().unwrap());
    assert_eq!(parse("40 05 00 00 00 00 00 00"), Some(Lun(5)));
    assert_eq!(parse("41 00 00 00 00 00 00 00"), Some(Lun(256)));
    assert_eq!(parse("7f ff 00 00 00 00 00 00"), Some(Lun(16383)));
    for wire in [
        "00 00 00 01 00 00 00 00",
        "00 00 00 00 00 00 00 01",
        "80 00 00 00 00 00 00 00",
        "c1 01 00 00 00 00 00 00",
        "d2 01 00 00 00 00 00 00",
        "e2 00 00 00 00 00 00 00",
        "ff ff ff ff ff ff ff ff",
    ] {
        assert_eq!(parse(wire), None, "{wire}");
    }
}

#[test]
fn report_luns() {
    let list = |select, luns: &[u16]| {
        written(|out| luns::write(select, luns.iter().map(|lun| Lun(*lun)), out))
    };
    let zero = hex("00 00 00 08 00 00 00 00  00 00 00 00 00 00 00 00");
    assert_eq!(list(Select::Units, &[0]), zero);
    assert_eq!(list(Select::All, &[]), zero);
    assert_eq!(list(Select::WellKnown, &[0, 1]), [0; 8]);
    assert_eq!(
        list(Select::All, &[1, 300]),
        hex("00 00 00 10 00 00 00 00  00 01 00 00 00 00 00 00  01 2c 00 00 00 00 00 00")
    );
    assert_eq!(list(Select::Units, &[3; 40]).len(), luns::length(40));
}

#[test]
fn capacities() {
    let disk = Capacity {
        blocks: Blocks(65536),
        block_size: BlockSize::B512,
        physical_exponent: 0,
        lowest_aligned: 0,
        provisioning: Provisioning::default(),
        protection: None,
    };
    let ten = |c: &Capacity| written(|out| c.write_10(out));
    let sixteen = |c: &Capacity| written(|out| c.write_16(out));
    assert_eq!(ten(&disk), hex("00 00 ff ff 00 00 02 00"));
    let mut expected = hex("00 00 00 00 00 00 ff ff  00 00 02 00");
    expected.resize(32, 0);
    assert_eq!(sixteen(&disk), expected);

    for (blocks, last) in [
        (0xffff_ffff, "ff ff ff fe"),
        (1 << 32, "ff ff ff ff"),
        (1 << 40, "ff ff ff ff"),
        (0, "00 00 00 00"),
    ] {
        assert_eq!(
            ten(&Capacity {
                blocks: Blocks(blocks),
                ..disk
            })[..4],
            hex(last)
        );
    }
    let thin = Capacity {
        physical_exponent: 3,
        lowest_aligned: 0x1234,
        block_size: BlockSize::B4096,
        provisioning: Provisioning {
            unmap: true,
            write_same: false,
            zeroes: true,
            threshold_exponent: 0,
        },
        ..disk
    };
    assert_eq!(sixteen(&thin)[8..16], hex("00 00 10 00 00 03 d2 34"));
    let provisioning = Provisioning {
        zeroes: false,
        threshold_exponent: 0,
        ..thin.provisioning
    };
    assert_eq!(
        sixteen(&Capacity {
            provisioning,
            ..thin
        })[14],
        0x92
    );
}

#[test]
fn stock_target_port_groups() {
    let group = Group {
        id: 0,
        state: State::Optimized,
        supported: Supported::DEFAULT,
        preferred: false,
        status: 0,
    };
    let one = |transition| {
        written(|out| {
            let mut report = Report::begin(out, transition);
            report.group(&group, [0]);
            report.finish();
        })
    };
    assert_eq!(
        one(None),
        hex("00 00 00 0c  00 cf 00 00 00 00 00 01  00 00 00 00")
    );
    assert_eq!(
        one(Some(5)),
        hex("00 00 00 10  10 05 00 00  00 cf 00 00 00 00 00 01  00 00 00 00")
    );
    let two = written(|out| {
        let mut report = Report::begin(out, None);
        let standby = Group {
            id: 7,
            state: State::Standby,
            preferred: true,
            status: 2,
            ..group
        };
        report.group(&standby, [1, 0x102]);
        report.group(&group, []);
        report.finish();
    });
    assert_eq!(
        two,
        hex(
            "00 00 00 18  82 cf 00 07 00 02 00 02  00 00 00 01 00 00 01 02
             00 cf 00 00 00 00 00 00"
        )
    );
    let many = written(|out| {
        let mut report = Report::begin(out, None);
        report.group(&group, 0..300);
        report.finish();
    });
    assert_eq!((many.len(), many[11]), (4 + 8 + 255 * 4, 255));
}

const LIMITS: BlockLimits = BlockLimits {
    max_compare_and_write: 0,
    optimal_granularity: 1,
    write_same_all: false,
    max_transfer: 0,
    optimal_transfer: 0,
    max_unmap_blocks: 50,
    max_unmap_descriptors: 3,
    unmap_granularity: 1,
    unmap_alignment: 0,
    max_write_same: 0,
    max_atomic: 0,
    atomic_alignment: 0,
    atomic_granularity: 0,
};

/// A parameter list with these descriptors.
fn list(descriptors: &[(u64, u32)]) -> Vec<u8> {
    let length = descriptors.len() as u16 * 16;
    let mut list = vec![];
    list.extend((length + 6).to_be_bytes());
    list.extend(length.to_be_bytes());
    list.extend([0; 4]);
    for (lba, blocks) in descriptors {
        list.extend(lba.to_be_bytes());
        list.extend(blocks.to_be_bytes());
        list.extend([0; 4]);
    }
    list
}

fn unmap(list: &[u8]) -> Result<Vec<Extent>, Sense> {
    List::parse(list, Blocks(100), &LIMITS).map(|list| list.extents().collect())
}

#[test]
fn unmap_lists() {
    assert_eq!(unmap(&[]), Ok(vec![]));
    assert_eq!(unmap(&list(&[])), Ok(vec![]));
    assert_eq!(
        unmap(&list(&[(0, 49), (99, 1), (100, 0)])),
        Ok(vec![
            Extent::new(0, 49),
            Extent::new(99, 1),
            Extent::new(100, 0)
        ])
    );
    // Cut off inside of the header, and inside of a descriptor.
    for length in 1..8 {
        assert_eq!(
            unmap(&list(&[])[..length]),
            Err(Sense::PARAMETER_LIST_LENGTH)
        );
    }
    assert_eq!(
        unmap(&list(&[(1, 1), (2, 2)])[..39]),
        Ok(vec![Extent::new(1, 1)])
    );
    // A length field that says less or more than there is, or no multiple of a descriptor.
    for (length, expected) in [(0, 0), (15, 0), (16, 1), (31, 1), (32, 2), (0xffff, 2)] {
        let mut list = list(&[(1, 1), (2, 2)]);
        list[2..4].copy_from_slice(&u16::to_be_bytes(length));
        assert_eq!(unmap(&list).unwrap().len(), expected, "{length}");
    }
}

#[test]
fn unmap_refusals() {
    let refused = |descriptors: &[(u64, u32)]| unmap(&list(descriptors)).unwrap_err();
    assert_eq!(refused(&[(0, 1); 4]), Sense::invalid_parameter_byte(2));
    assert_eq!(refused(&[(0, 51)]), Sense::invalid_parameter_byte(16));
    assert_eq!(
        refused(&[(0, 1), (0, u32::MAX)]),
        Sense::invalid_parameter_byte(32)
    );
    // The limit is for all descriptors together.
    assert_eq!(
        refused(&[(0, 30), (30, 20), (50, 1)]),
        Sense::invalid_parameter_byte(48)
    );
    assert_eq!(refused(&[(0, 1), (99, 2)]), Sense::lba_out_of_range(100));
    assert_eq!(refused(&[(101, 0)]), Sense::lba_out_of_range(101));
    assert_eq!(
        refused(&[(u64::MAX, 50)]),
        Sense::lba_out_of_range(u64::MAX)
    );
}

#[test]
fn block_sizes() {
    for bytes in [512, 1024, 2048, 4096] {
        let size = BlockSize::new(bytes).unwrap();
        assert_eq!((size.bytes(), 1 << size.shift()), (bytes, bytes));
        assert_eq!(size.blocks_in(u64::from(bytes) * 3 + 1), Blocks(3));
        assert_eq!(Blocks(3).bytes(size), Some(u64::from(bytes) * 3));
        assert_eq!(Lba(u64::MAX).offset(size), None);
    }
    for bytes in [0, 1, 511, 513, 520, 8192] {
        assert_eq!(BlockSize::new(bytes), None);
    }
}

#[test]
fn overlaps() {
    let a = Extent::new(10, 10);
    for (other, expected) in [
        (Extent::new(0, 10), false),
        (Extent::new(0, 11), true),
        (Extent::new(15, 1), true),
        (Extent::new(15, 0), false),
        (Extent::new(19, 1), true),
        (Extent::new(20, 1), false),
        (Extent::new(0, u64::MAX), true),
    ] {
        assert_eq!(a.overlaps(other), expected);
        assert_eq!(other.overlaps(a), expected);
    }
    assert!(Extent::new(u64::MAX - 1, 5).overlaps(Extent::new(u64::MAX - 1, 1)));
}

#[test]
fn set_target_port_groups() {
    use crate::alua::{wrong_state, wrong_target, Change, Changes, MAX_LIST};
    let changes = |list: &[u8]| Changes::parse(list).map(|c| c.iter().collect::<Vec<_>>());
    assert_eq!(changes(&[]).unwrap(), []);
    assert_eq!(changes(&[0; 4]).unwrap(), []);
    assert_eq!(
        changes(&hex("00 00 00 00 02 00 12 34 0e 00 00 07 f1 00 00 01")).unwrap(),
        [
            Change::Group {
                id: 0x1234,
                state: State::Standby
            },
            Change::Offline { port: 7 },
            // The high bits are reserved, and not looked at.
            Change::Group {
                id: 1,
                state: State::NonOptimized
            },
        ]
    );
    // The same group and port have numbers of their own; the same wish twice is one.
    assert!(changes(&hex("00 00 00 00 01 00 00 07 0e 00 00 07 01 00 00 07")).is_ok());
    let refused = |list| changes(&hex(list)).unwrap_err();
    assert_eq!(refused("00 00 00"), Sense::PARAMETER_LIST_LENGTH);
    assert_eq!(
        refused("00 00 00 00 00 00 00"),
        Sense::PARAMETER_LIST_LENGTH
    );
    assert_eq!(refused("00 00 00 00 05 00 00 01"), wrong_state(0));
    assert_eq!(
        refused("00 00 00 00 00 00 00 01 0f 00 00 01"),
        wrong_state(1)
    );
    assert_eq!(
        refused("00 00 00 00 00 00 00 01 01 00 00 01"),
        wrong_target(1)
    );
    assert!(changes(&vec![0; MAX_LIST as usize + 4]).is_err());
    assert_eq!(
        wrong_state(1).encode(Format::Fixed).as_slice()[15..],
        [0x8b, 0, 8]
    );
    assert_eq!(
        wrong_target(1).encode(Format::Fixed).as_slice()[15..],
        [0x80, 0, 10]
    );
}

#[test]
fn referrals() {
    use crate::alua::{Member, Referrals};
    let member = |group, state| Member { group, state };
    let bytes = written(|out| {
        let mut report = Referrals::begin(out);
        report.segment(
            Lba(0),
            Lba(0x3e7),
            &[member(1, State::Optimized), member(0x102, State::Standby)],
        );
        report.segment(
            Lba(1 << 40),
            Lba(u64::MAX),
            &[member(1, State::Unavailable)],
        );
        report.finish();
    });
    assert_eq!(
        bytes,
        hex("00 00 00 34 00 00 00 02 00 00 00 00 00 00 00 00 00 00 00 00 00 00 03 e7 00 00 00 01 02 00 01 02 00 00 00 01 00 00 01 00 00 00 00 00 ff ff ff ff ff ff ff ff 03 00 00 01")
    );
}
