// SPDX-License-Identifier: GPL-2.0

//! INQUIRY, vital product data, mode pages and capacities of units with any configuration: each answer is within its
//! bound, is cut off at the allocation length and nowhere else, and its own lengths fit, read as an initiator reads them.
// fuzz: -max_len=800

#![no_main]

use libfuzzer_sys::fuzz_target;
use lio_fuzz::{
    field::{be16, be32, be64},
    written, Input,
};
use lio_scsi::{
    bytes::Writer,
    capacity::Capacity,
    groups::Groups,
    inquiry::{self, Alua, Identity, Page, Port, Protocol, Unit},
    lba::{BlockSize, Blocks},
    mode::{self, ErrorPolicy, Extension, Interlock, PageControl},
    pi,
    priority::Priority,
    provisioning::{Threshold, Thresholds},
    sense::Sense,
    vpd::{BlockLimits, Provisioning},
};

/// Standard INQUIRY data has this length; the longest page is that of designators, each of 259 bytes at most.
const STANDARD: usize = 96;
const LONGEST: usize = 4 + 20 + 3 * 8 + 3 * 259;
/// A header of 8 bytes, a descriptor of 16, pages of 12, 20, 12, 32, 112, 1040, 12 and 32 bytes.
const MODE_DATA: usize = 8 + 16 + 12 + 20 + 12 + 32 + 112 + 1040 + 12 + 32;

fn provisioning(input: &mut Input<'_>) -> Provisioning {
    let bits = input.u8();
    Provisioning {
        unmap: bits & 1 != 0,
        write_same: bits & 2 != 0,
        zeroes: bits & 4 != 0,
        threshold_exponent: bits >> 3,
    }
}

fn unit<'a>(input: &mut Input<'a>) -> Unit<'a> {
    const PROTOCOLS: [Protocol; 6] = [
        Protocol::Fcp,
        Protocol::Sbp,
        Protocol::Srp,
        Protocol::Iscsi,
        Protocol::Sas,
        Protocol::Uas,
    ];
    let bits = input.u8();
    let provisioning = provisioning(input);
    Unit {
        identity: Identity {
            vendor: input.text(),
            product: input.text(),
            revision: input.text(),
            serial: (bits & 1 != 0).then(|| input.text()),
            company_id: input.u32(),
            lu_group: (bits & 2 != 0).then(|| input.u16()),
        },
        port: Port {
            protocol: PROTOCOLS[input.below(PROTOCOLS.len())],
            relative_id: input.u16(),
            group: (bits & 4 != 0).then(|| input.u16()),
            target: input.text(),
            tag: input.u16(),
        },
        ports: &[],
        alua: Alua {
            implicit: bits & 8 != 0,
            explicit: bits & 16 != 0,
        },
        third_party_copy: bits & 32 != 0,
        block_size: BlockSize::B4096,
        multi_port: bits & 64 != 0,
        unavailable: bits & 4 != 0,
        removable: bits & 64 != 0,
        protect: bits & 16 != 0,
        protection_types: bits & 7,
        protection_checks: bits & 8 != 0,
        block_erase: bits & 32 != 0,
        write_long: bits & 16 != 0,
        write_cache: bits & 128 != 0,
        non_rotating: input.bool(),
        provisioning,
        limits: BlockLimits {
            max_compare_and_write: input.u8(),
            optimal_granularity: input.u16(),
            max_transfer: input.u32(),
            optimal_transfer: input.u32(),
            max_unmap_blocks: input.u32(),
            max_unmap_descriptors: input.u32(),
            unmap_granularity: input.u32(),
            unmap_alignment: input.u32(),
            max_write_same: input.u64(),
            write_same_all: input.bool(),
            max_atomic: input.u32(),
            atomic_alignment: input.u32(),
            atomic_granularity: input.u32(),
        },
        referrals: None,
    }
}

/// Designators of page 83h (SPC-4, 7.8.6.1): code set, association and type, and what follows.
fn designators(page: &[u8]) -> Vec<(u8, u8, &[u8])> {
    let (mut at, mut all) = (4, vec![]);
    while at < page.len() {
        let end = at + 4 + usize::from(page[at + 3]);
        all.push((page[at], page[at + 1], &page[at + 4..end]));
        at = end;
    }
    assert_eq!(at, page.len(), "the last designator is cut off");
    all
}

fn identification(unit: &Unit<'_>, page: &[u8]) {
    for (first, second, body) in designators(page) {
        let association = second >> 4 & 3;
        // PIV and the protocol go with ports and devices.
        assert_eq!(second & 0x80 != 0, association != 0);
        assert_eq!(
            first >> 4,
            if association == 0 {
                0
            } else {
                unit.port.protocol as u8
            }
        );
        match (association, second & 0x0f, first & 0x0f) {
            (0, 3, 1) => {
                assert_eq!((body.len(), body[0] >> 4), (16, 6));
                let company = u32::from_be_bytes(body[..4].try_into().unwrap()) >> 4 & 0xff_ffff;
                assert_eq!(company, unit.identity.company_id & 0xff_ffff);
            }
            (0, 1, 2) => assert!(body.len() > 8),
            (1, 4, 1) => assert_eq!(be32(body, 0), unit.port.relative_id.into()),
            (1, 5, 1) => assert_eq!(Some(be32(body, 0)), unit.port.group.map(u32::from)),
            (0, 6, 1) => assert_eq!(Some(be32(body, 0)), unit.identity.lu_group.map(u32::from)),
            (1 | 2, 8, 3) => {
                assert!(body.len() % 4 == 0 && body.last() == Some(&0));
                assert!(unit
                    .port
                    .target
                    .starts_with(&body[..body.len().min(unit.port.target.len()).min(200)]));
            }
            other => panic!("a designator {other:?}"),
        }
    }
}

fn inquiry_data(unit: &Unit<'_>, code: Option<u8>, short: usize) {
    let page = code.map_or(Page::Standard, Page::Vpd);
    let mut result = Ok(());
    let bytes = written(LONGEST, short, |out: &mut Writer<'_>| {
        result = inquiry::write(unit, page, out)
    });
    let Some(code) = code else {
        assert_eq!(result, Ok(()));
        assert_eq!(
            (bytes.len(), usize::from(bytes[4]) + 5),
            (STANDARD, STANDARD)
        );
        assert_eq!(bytes[0], if unit.unavailable { 0x20 } else { 0 });
        return;
    };
    let listed = written(64, short, |out| {
        inquiry::write(unit, Page::Vpd(0), out).unwrap()
    });
    let known = listed[4..].contains(&code);
    if result.is_err() {
        assert!(!known, "page {code:x}h is listed, but not there");
        assert_eq!(result, Err(Sense::invalid_cdb_byte(2)));
        assert!(bytes.is_empty());
        return;
    }
    // Those two are not listed where they could not tell the unit from others.
    assert!(known || unit.identity.serial.is_none() && matches!(code, 0x80 | 0x83));
    assert_eq!(
        (bytes[0], bytes[1], be16(&bytes, 2) + 4),
        (if unit.unavailable { 0x20 } else { 0 }, code, bytes.len())
    );
    match code {
        0x83 => identification(unit, &bytes),
        0xb0 => {
            let limits = &unit.limits;
            // WSNZ
            assert_eq!(bytes[4], u8::from(!limits.write_same_all));
            assert_eq!(
                (bytes[5], be32(&bytes, 8)),
                (limits.max_compare_and_write, limits.max_transfer)
            );
            if bytes.len() > 16 {
                assert_eq!(bytes.len(), 64);
                assert_eq!(be32(&bytes, 20), limits.max_unmap_blocks);
                assert_eq!(be32(&bytes, 24), limits.max_unmap_descriptors);
                assert_eq!(be64(&bytes, 36), limits.max_write_same);
                assert_eq!(be32(&bytes, 44), limits.max_atomic);
                assert_eq!(be32(&bytes, 48), limits.atomic_alignment);
                assert_eq!(be32(&bytes, 52), limits.atomic_granularity);
            }
        }
        0xb7 => {
            // No streams, and WRITE SCATTERED's limit alone.
            assert_eq!(bytes.len(), 64);
            assert_eq!(be32(&bytes, 24), unit.limits.max_transfer);
            let rest = [&bytes[4..24], &bytes[28..]].concat();
            assert!(rest.iter().all(|byte| *byte == 0));
        }
        0x86 => {
            // GROUP_SUP
            assert_eq!(bytes[5] & 0x10, 0x10);
            assert_eq!(bytes[6] & 0x08 != 0, unit.write_long);
        }
        _ => {}
    }
}

fn mode_values(input: &mut Input<'_>) -> mode::Values {
    let bits = input.u8();
    mode::Values {
        write_cache: bits & 1 != 0,
        descriptor_sense: bits & 2 != 0,
        errors: [
            ErrorPolicy::Continue,
            ErrorPolicy::AbortAll,
            ErrorPolicy::AbortOwn,
        ][input.below(3)],
        interlock: [Interlock::Clear, Interlock::Keep, Interlock::Establish][input.below(3)],
        software_write_protect: bits & 4 != 0,
        task_aborted_status: bits & 8 != 0,
        report_exceptions: bits & 16 != 0,
        exception_test: bits & 32 != 0,
        unchecked_if_zero: bits & 64 != 0,
        thresholds: Thresholds {
            report: bits & 64 != 0,
            available: Threshold {
                enabled: bits & 128 != 0,
                count: input.u32(),
            },
            used: Threshold {
                enabled: bits & 1 != 0,
                count: input.u32(),
            },
        },
        extension: Extension {
            clock: bits & 1 != 0,
            set_first: bits & 2 != 0,
            priority: Priority::new(bits >> 4),
            max_sense: input.below(53) as u8,
        },
        application: pi::ApplicationTags {
            owned: input.bool(),
            by_range: input.bool(),
            ranges: pi::Ranges::ZERO,
        },
        groups: Groups::new(input.u32()),
    }
}

fn mode_data(input: &mut Input<'_>, short: usize) {
    let bits = input.u8();
    let unit = mode::Unit {
        blocks: Blocks(input.number()),
        block_size: [BlockSize::B512, BlockSize::B4096][input.below(2)],
        write_protected: bits & 1 != 0,
        dpo_fua: bits & 2 != 0,
        restricted_reordering: bits & 4 != 0,
        protection: pi::Type::new(u32::from(input.u8()) & 3),
        implicit_alua: bits & 8 != 0,
        switches_write_cache: bits & 16 != 0,
        knows_resources: input.bool(),
        may_change: bits & 32 != 0,
        current: mode_values(input),
        default: mode_values(input),
        saved: input.bool().then(|| mode_values(input)),
    };
    let request = mode::Request {
        ten: bits & 64 != 0,
        long_lba: bits & 128 != 0,
        no_block_descriptors: input.bool(),
        control: PageControl::new(input.u8()),
        page: input.u8() & 0x3f,
        subpage: input.u8(),
    };
    let mut result = Ok(());
    let bytes = written(MODE_DATA, short, |out| {
        result = mode::write(&unit, &request, out)
    });
    if result.is_err() {
        assert!(bytes.is_empty());
        return;
    }
    // SPC-4, 7.5.5: the header, block descriptors, pages up to the very end.
    let (length, specific, descriptors, header) = if request.ten {
        (be16(&bytes, 0) + 2, bytes[3], be16(&bytes, 6), 8)
    } else {
        (
            usize::from(bytes[0]) + 1,
            bytes[2],
            usize::from(bytes[3]),
            4,
        )
    };
    assert_eq!(length, bytes.len());
    assert_eq!(
        specific & 0x80 != 0,
        unit.write_protected || unit.current.software_write_protect
    );
    let long = request.ten && bytes[4] & 1 != 0;
    assert_eq!(descriptors == 0, request.no_block_descriptors);
    assert_eq!(descriptors % if long { 16 } else { 8 }, 0);
    if descriptors > 0 {
        let size = if long {
            be32(&bytes, header + 12)
        } else {
            be32(&bytes, header + 4)
        };
        assert_eq!(size, unit.block_size.bytes());
    }
    let mut at = header + descriptors;
    let mut pages = vec![];
    // What can be changed (SPC-4, 7.5.8; SBC-3, 6.5.5): WCE; D_SENSE, UA_INTLCK_CTRL and SWP, TAS;
    // TEST, MRIE. SBC-3, 6.5.8 and 6.5.9 add what thresholds are about.
    let wce = if unit.switches_write_cache { 4 } else { 0 };
    let changeable = |code: u8, sub: usize, byte: usize| match (code, sub, byte) {
        _ if !unit.may_change => 0,
        (0x08, 0, 2) => wce,
        (0x0a, 0, 2) if unit.protection.is_some() => 0x0c,
        (0x0a, 0, 2) => 0x04,
        (0x0a, 0, 3) => 0x06,
        (0x0a, 0, 4) => 0x38,
        // TAS, ATMPE, and ATO unless it is fixed; the descriptors of the application tag mode page (SBC-4, 6.5.3).
        (0x0a, 0, 5) => match unit.protection {
            None => 0x40,
            Some(pi::Type::Two) => 0x60,
            Some(_) => 0xe0,
        },
        (0x0a, 2, 16..) => match (byte - 16) % 24 {
            0 => 0x80,
            1..=5 => 0,
            _ => 0xff,
        },
        // TCMOS, SCSIP; MAXIMUM SENSE DATA LENGTH (SPC-4, 7.5.9).
        (0x0a, 1, 4) => 0x06,
        (0x0a, 1, 5) => 0x0f,
        (0x0a, 1, 6) => 0xff,
        // IC_ENABLE of groups 1 to 31 (SBC-4, 6.5.7).
        (0x0a, 5, 32..=512) if byte % 16 == 0 => 0x01,
        (0x1c, 0, 2) => 0x04,
        (0x1c, 0, 3) => 0x0f,
        // LBPERE; ENABLED and THRESHOLD COUNT.
        (0x01, 0, 7) if unit.knows_resources => 0x80,
        (0x1c, 2, 16 | 24) => 0x80,
        (0x1c, 2, 20..=23 | 28..=31) => 0xff,
        _ => 0,
    };
    while at < bytes.len() {
        // PS tells that the page can be saved; SPF tells a subpage.
        assert_eq!(bytes[at] & 0x80 != 0, unit.saved.is_some());
        let code = bytes[at] & 0x3f;
        let (sub, start, length) = if bytes[at] & 0x40 != 0 {
            (usize::from(bytes[at + 1]), 4, be16(&bytes, at + 2))
        } else {
            (0, 2, usize::from(bytes[at + 1]))
        };
        pages.push((code, sub));
        if (code, sub) == (0x0a, 2) {
            assert!(unit.protection.is_some());
            if request.control != PageControl::Changeable {
                // One range of all blocks.
                let one = &bytes[at + 16..at + 40];
                assert_eq!(one[..16], [&[0x80][..], &[0; 15]].concat());
                assert_eq!(be64(one, 16), unit.blocks.0);
                assert!(bytes[at + 40..at + 112].iter().all(|byte| *byte == 0));
            }
        }
        if (code, sub) == (0x0a, 5) {
            // No byte has the length of it, and of what is before it.
            assert!(request.ten && length == 12 + 64 * 16);
            if request.control == PageControl::Current {
                let groups = unit.current.groups.bits();
                for group in 0..64 {
                    let enabled = group < 32 && groups >> group & 1 != 0;
                    assert_eq!(bytes[at + 16 + 16 * group], 0x40 | u8::from(enabled));
                }
            }
        }
        if request.control == PageControl::Changeable {
            for byte in start..start + length {
                assert_eq!(bytes[at + byte], changeable(code, sub, byte));
            }
        }
        at += start + length;
    }
    assert_eq!(at, bytes.len());
    assert!(pages.windows(2).all(|two| two[0] < two[1]));
    for (code, sub) in pages {
        assert!(request.page == 0x3f || code == request.page);
        assert!(request.subpage == 0xff || sub == usize::from(request.subpage));
    }
}

fn capacity(input: &mut Input<'_>, short: usize) {
    let capacity = Capacity {
        blocks: Blocks(input.number()),
        block_size: [BlockSize::B512, BlockSize::B4096][input.below(2)],
        physical_exponent: input.u8(),
        lowest_aligned: input.u16(),
        provisioning: provisioning(input),
        protection: pi::Type::new(u32::from(input.u8()) & 3),
    };
    let last = capacity.blocks.0.saturating_sub(1);
    let ten = written(8, short, |out| capacity.write_10(out));
    assert_eq!(u64::from(be32(&ten, 0)), last.min(0xffff_ffff));
    let sixteen = written(32, short, |out| capacity.write_16(out));
    assert_eq!(sixteen.len(), 32);
    assert_eq!(be64(&sixteen, 0), last);
    // P_TYPE is one less than the type; PROT_EN.
    assert_eq!(
        sixteen[12],
        capacity.protection.map_or(0, |of| (of as u8 - 1) << 1 | 1)
    );
    assert_eq!(
        (be32(&sixteen, 8), be32(&ten, 4)),
        (capacity.block_size.bytes(), capacity.block_size.bytes())
    );
    assert_eq!(
        be16(&sixteen, 14) & 0x3fff,
        usize::from(capacity.lowest_aligned & 0x3fff)
    );
}

fuzz_target!(|input: &[u8]| {
    let mut input = Input::new(input);
    let short = usize::from(input.u16());
    match input.u8() {
        0 => mode_data(&mut input, short),
        1 => capacity(&mut input, short),
        2 => {
            let bytes = written(STANDARD, short, inquiry::absent);
            assert_eq!((bytes[0], bytes.len()), (0x7f, STANDARD));
        }
        kind => {
            let code = (kind & 1 != 0).then(|| input.u8());
            inquiry_data(&unit(&mut input), code, short);
        }
    }
});
