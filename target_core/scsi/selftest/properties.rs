// SPDX-License-Identifier: GPL-2.0

//! What holds for all values: a CDB and a parameter list that an initiator writes read as they were meant and would be
//! written the same again; sense data reads as it was; no answer is longer than its bound. The direction that the
//! product does not have is here. `tests/fuzz` goes on where this ends.

mod cdb;

use super::{hostile::Random, written, ALL};
use crate::{
    bytes::{array, be16, be32, be64},
    capacity::Capacity,
    groups::Groups,
    inquiry::{self, Alua, Identity, Page, Port, Protocol, Unit},
    lba::{BlockSize, Blocks, Extent},
    lun::Lun,
    luns::{self, Select},
    mode::{self, ErrorPolicy, Extension, Interlock, PageControl},
    opcode::{self, Reporting},
    pi,
    priority::Priority,
    provisioning::{Threshold, Thresholds},
    sense::{Asc, FieldPointer, Format, Key, Sense, SenseData, Specific},
    unmap::{self, List},
    vpd::{BlockLimits, Provisioning},
};
use std::{vec, vec::Vec};

const ROUNDS: u32 = if cfg!(miri) { 50 } else { 20_000 };

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn bool(&mut self) -> bool {
        (self.next() >> 32) & 1 != 0
    }

    /// Of any size.
    fn number(&mut self) -> u64 {
        self.next() >> self.below(64)
    }

    fn text(&mut self) -> Vec<u8> {
        let mut text = vec![0; self.below(300) as usize];
        self.fill(&mut text);
        text
    }
}

fn thresholds(random: &mut Random) -> Thresholds {
    let mut one = || Threshold {
        enabled: random.bool(),
        count: random.next() as u32,
    };
    let (available, used) = (one(), one());
    Thresholds {
        report: random.bool(),
        available,
        used,
    }
}

fn mode_values(random: &mut Random) -> mode::Values {
    mode::Values {
        write_cache: random.bool(),
        descriptor_sense: random.bool(),
        errors: [
            ErrorPolicy::Continue,
            ErrorPolicy::AbortAll,
            ErrorPolicy::AbortOwn,
        ][random.below(3) as usize],
        interlock: [Interlock::Clear, Interlock::Keep, Interlock::Establish]
            [random.below(3) as usize],
        software_write_protect: random.bool(),
        task_aborted_status: random.bool(),
        report_exceptions: random.bool(),
        exception_test: random.bool(),
        unchecked_if_zero: random.bool(),
        thresholds: thresholds(random),
        extension: Extension {
            clock: random.bool(),
            set_first: random.bool(),
            priority: Priority::new(random.below(16) as u8),
            max_sense: random.below(53) as u8,
        },
        application: pi::ApplicationTags {
            owned: random.bool(),
            by_range: random.bool(),
            ranges: pi::Ranges::ZERO,
        },
        groups: Groups::new(random.next() as u32),
    }
}

#[test]
fn unmap_parameter_lists() {
    let mut random = Random(12);
    let limits = BlockLimits {
        max_unmap_blocks: u32::MAX,
        max_unmap_descriptors: u32::MAX,
        ..BlockLimits::default()
    };
    let emit = |extents: &[Extent]| {
        let length = (extents.len() * unmap::DESCRIPTOR) as u16;
        let mut list = Vec::from((length + 6).to_be_bytes());
        list.extend(length.to_be_bytes());
        list.extend([0; 4]);
        for extent in extents {
            list.extend(extent.lba.0.to_be_bytes());
            list.extend((extent.blocks.0 as u32).to_be_bytes());
            list.extend([0; 4]);
        }
        list
    };
    for _ in 0..ROUNDS / 10 {
        let extents: Vec<_> = (0..random.below(60))
            .map(|_| Extent::new(random.number() >> 1, random.below(1 << 20)))
            .collect();
        let list = emit(&extents);
        let parsed = List::parse(&list, Blocks(u64::MAX), &limits).unwrap();
        let read: Vec<_> = parsed.extents().collect();
        assert_eq!(read, extents);
        assert_eq!(emit(&read), list);
    }
}

/// Sense data of either format as an initiator reads it (SPC-4, 4.5), but for the key, which is a number to it.
fn read_sense(bytes: &[u8]) -> (u8, Asc, Option<u64>, Option<[u8; 3]>) {
    let asc = |at: usize| Asc {
        code: bytes[at],
        qualifier: bytes[at + 1],
    };
    if bytes[0] & 0x7f == 0x70 {
        let information = be32(bytes, 3).filter(|_| bytes[0] & 0x80 != 0);
        let specific = array(bytes, 15).filter(|specific: &[u8; 3]| specific[0] & 0x80 != 0);
        assert_eq!(bytes.len(), 8 + usize::from(bytes[7]));
        return (bytes[2], asc(12), information.map(u64::from), specific);
    }
    assert_eq!((bytes[0], bytes.len()), (0x72, 8 + usize::from(bytes[7])));
    let (mut information, mut specific) = (None, None);
    let mut rest = &bytes[8..];
    while !rest.is_empty() {
        let (descriptor, after) = rest.split_at(2 + usize::from(rest[1]));
        match descriptor[0] {
            0 => information = be64(descriptor, 4),
            2 => specific = array(descriptor, 4),
            other => panic!("descriptor {other}"),
        }
        rest = after;
    }
    (bytes[1], asc(2), information, specific)
}

#[test]
fn sense_data() {
    let mut random = Random(13);
    for _ in 0..ROUNDS {
        let (byte, bit) = (random.next() as u16, random.below(8) as u8);
        let with_bit = random.bool();
        let [hi, lo] = byte.to_be_bytes();
        let (specific, expected) = match random.below(4) {
            0 => (Specific::None, None),
            1 => (Specific::Progress(byte), Some([0x80, hi, lo])),
            2 => (Specific::UnitAttentionOverflow, Some([0x81, 0, 0])),
            _ => {
                let in_cdb = random.bool();
                let pointer = FieldPointer {
                    in_cdb,
                    byte,
                    bit: with_bit.then_some(bit),
                };
                let first =
                    0x80 | if in_cdb { 0x40 } else { 0 } | if with_bit { 0x08 | bit } else { 0 };
                (Specific::Field(pointer), Some([first, hi, lo]))
            }
        };
        let information = random.bool().then(|| random.number());
        let asc = Asc {
            code: random.next() as u8,
            qualifier: random.next() as u8,
        };
        let key = [
            Key::NoSense,
            Key::IllegalRequest,
            Key::UnitAttention,
            Key::Miscompare,
        ][random.below(4) as usize];
        let sense = Sense {
            key,
            asc,
            specific,
            information,
        };
        for format in [Format::Fixed, Format::Descriptor] {
            let data = sense.encode(format);
            assert!(data.as_slice().len() <= SenseData::MAX);
            let told = match format {
                Format::Fixed => information.filter(|i| *i <= u64::from(u32::MAX)),
                Format::Descriptor => information,
            };
            assert_eq!(
                read_sense(data.as_slice()),
                (key as u8, asc, told, expected)
            );
        }
    }
}

#[test]
fn lists_of_luns() {
    let mut random = Random(14);
    for _ in 0..ROUNDS / 200 {
        let list: Vec<_> = (0..1 + random.below(60))
            .map(|_| Lun(random.next() as u16))
            .collect();
        let bytes = written(|out| luns::write(Select::Units, list.iter().copied(), out));
        assert_eq!(bytes.len(), luns::length(list.len()));
        assert_eq!(be32(&bytes, 0), Some(bytes.len() as u32 - 8));
        let read: Vec<_> = bytes[8..]
            .chunks(8)
            .map(|wire| Lun::parse(wire.try_into().unwrap()).unwrap())
            .collect();
        assert_eq!(read, list);
    }
}

/// No answer is longer than this, whatever the unit is called and whatever its attributes: page 83h with its designators
/// of 255 bytes at most.
const LONGEST: usize = 4 + 20 + 3 * 8 + 3 * 259;

#[test]
fn answers_are_bounded() {
    let mut random = Random(15);
    let mut longest = 0;
    for round in 0..ROUNDS / 100 {
        let texts: Vec<_> = (0..5).map(|_| random.text()).collect();
        let thin = Provisioning {
            unmap: random.bool(),
            write_same: random.bool(),
            zeroes: random.bool(),
            threshold_exponent: 0,
        };
        let unit = Unit {
            ports: &[],
            identity: Identity {
                vendor: &texts[0],
                product: &texts[1],
                revision: &texts[2],
                serial: random.bool().then_some(&texts[3]),
                company_id: random.next() as u32,
                lu_group: random.bool().then_some(round as u16),
            },
            port: Port {
                protocol: [Protocol::Iscsi, Protocol::Sas, Protocol::Fcp][random.below(3) as usize],
                relative_id: random.next() as u16,
                group: random.bool().then_some(round as u16),
                target: &texts[4],
                tag: random.next() as u16,
            },
            alua: Alua::default(),
            third_party_copy: random.bool(),
            block_size: BlockSize::B512,
            multi_port: random.bool(),
            write_cache: random.bool(),
            unavailable: random.bool(),
            removable: random.bool(),
            protect: random.bool(),
            protection_types: random.next() as u8 & 7,
            protection_checks: random.bool(),
            block_erase: random.bool(),
            write_long: random.bool(),
            non_rotating: random.bool(),
            provisioning: thin,
            limits: BlockLimits {
                max_unmap_blocks: random.next() as u32,
                ..BlockLimits::default()
            },
            referrals: None,
        };
        for page in [Page::Standard].into_iter().chain((0..=255).map(Page::Vpd)) {
            // Which shortens the buffer to each length; of pages that there are not, there are many.
            let mut there =
                inquiry::write(&unit, page, &mut crate::bytes::Writer::new(&mut [])).is_ok();
            let bytes = if there {
                written(|out| there = inquiry::write(&unit, page, out).is_ok())
            } else {
                vec![]
            };
            assert!(bytes.len() <= LONGEST, "{page:?}: {}", bytes.len());
            if let (Page::Vpd(_), true) = (page, there) {
                assert_eq!(be16(&bytes, 2), Some(bytes.len() as u16 - 4));
            }
            longest = longest.max(bytes.len());
        }
        let disk = Capacity {
            blocks: Blocks(random.number()),
            block_size: BlockSize::B512,
            physical_exponent: random.next() as u8,
            lowest_aligned: random.next() as u16,
            provisioning: thin,
            protection: pi::Type::new(random.below(4) as u32),
        };
        assert_eq!(written(|out| disk.write_10(out)).len(), 8);
        assert_eq!(written(|out| disk.write_16(out)).len(), 32);
        let disk = mode::Unit {
            blocks: disk.blocks,
            block_size: disk.block_size,
            write_protected: random.bool(),
            dpo_fua: random.bool(),
            restricted_reordering: random.bool(),
            protection: disk.protection,
            implicit_alua: random.bool(),
            may_change: random.bool(),
            switches_write_cache: random.bool(),
            knows_resources: random.bool(),
            current: mode_values(&mut random),
            default: mode_values(&mut random),
            saved: random.bool().then(|| mode_values(&mut random)),
        };
        let ten = random.bool();
        let request = mode::Request {
            ten,
            long_lba: random.bool(),
            no_block_descriptors: random.bool(),
            control: PageControl::new(random.next() as u8),
            page: random.next() as u8 & 0x3f,
            subpage: if random.bool() { 0 } else { 0xff },
        };
        let mut there = false;
        let bytes = written(|out| there = mode::write(&disk, &request, out).is_ok());
        assert!(bytes.len() <= 8 + 16 + 56 + 32 + 32 + 112 + if ten { 1040 } else { 0 });
        if there {
            let length = if ten {
                usize::from(be16(&bytes, 0).unwrap()) + 2
            } else {
                usize::from(bytes[0]) + 1
            };
            assert_eq!(length, bytes.len());
        }
        let request = opcode::Request {
            reporting: Reporting::All,
            timeouts: random.bool(),
        };
        let bytes = written(|out| opcode::report(&request, &ALL, out).unwrap());
        assert_eq!(
            bytes.len(),
            4 + opcode::TABLE.len() * if request.timeouts { 20 } else { 8 }
        );
    }
    assert!(longest > 800, "{longest}");
}
