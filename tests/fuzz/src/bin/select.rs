// SPDX-License-Identifier: GPL-2.0

//! The parameter lists of MODE SELECT, LOG SELECT, SET TIMESTAMP, SET IDENTIFYING INFORMATION and SEND DIAGNOSTIC, against SPC-4 and SBC-3; and
//! what MODE SENSE answers, which MODE SELECT has to take back without a change.
// fuzz: -max_len=512

#![no_main]

use libfuzzer_sys::fuzz_target;
use lio_fuzz::{
    field::{be16, be32, be64},
    written, Input,
};
use lio_scsi::{
    diagnostic,
    groups::Groups,
    identifying::{self, Kind},
    lba::{BlockSize, Blocks},
    log::{self, Counters},
    mode::{self, saved, ErrorPolicy, Extension, Interlock, PageControl, Unit, Values},
    pi::{self, ApplicationTags, Ranges},
    priority::Priority,
    provisioning::{Threshold, Thresholds},
    sense::{Asc, FieldPointer, Key, Sense, Specific},
    timestamp,
};

/// What a list asks for.
#[derive(Debug, PartialEq)]
enum Verdict<T> {
    Take(T),
    Length,
    /// INVALID FIELD IN PARAMETER LIST, at this byte.
    Field(usize),
}

fn verdict<T>(result: Result<T, Sense>) -> Verdict<T> {
    match result {
        Ok(value) => Verdict::Take(value),
        Err(Sense::PARAMETER_LIST_LENGTH) => Verdict::Length,
        Err(Sense {
            key: Key::IllegalRequest,
            asc: Asc::INVALID_FIELD_IN_PARAMETER_LIST,
            specific:
                Specific::Field(FieldPointer {
                    in_cdb: false,
                    byte,
                    ..
                }),
            information: None,
        }) => Verdict::Field(byte.into()),
        Err(sense) => panic!("{sense:?}"),
    }
}

/// A page as the unit has it, and which of its bits can be changed: SPC-4, 7.5.8, 7.5.9, 7.5.11; SBC-3, 6.5.5, 6.5.8.
struct Page {
    code: u8,
    sub: u8,
    now: Vec<u8>,
    mask: Vec<u8>,
}

fn pages(unit: &Unit) -> Vec<Page> {
    let plain = |code, length: usize| Page {
        code,
        sub: 0,
        now: vec![0; length],
        mask: vec![0; length],
    };
    let v = &unit.current;
    let mut caching = plain(0x08, 18);
    caching.now[0] = u8::from(v.write_cache) << 2;
    caching.now[10] = 0x20;
    caching.mask[0] = u8::from(unit.switches_write_cache) << 2;
    let mut control = plain(0x0a, 10);
    control.now[0] = 2 | u8::from(v.descriptor_sense) << 2;
    control.now[1] = u8::from(!unit.restricted_reordering) << 4;
    control.now[1] |= match v.errors {
        ErrorPolicy::Continue => 0,
        ErrorPolicy::AbortAll => 2,
        ErrorPolicy::AbortOwn => 6,
    };
    let interlock = match v.interlock {
        Interlock::Clear => 0,
        Interlock::Keep => 2,
        Interlock::Establish => 3,
    };
    control.now[2] = interlock << 4 | u8::from(v.software_write_protect) << 3;
    control.now[3] = u8::from(v.task_aborted_status) << 6;
    control.now[6..10].copy_from_slice(&[0xff, 0xff, 0, 30]);
    control.mask[..4].copy_from_slice(&[4, 6, 0x38, 0x40]);
    // DPICZ, ATO
    control.now[0] |= u8::from(v.unchecked_if_zero) << 3;
    let fixed = unit.protection == Some(pi::Type::Two);
    control.now[3] |= u8::from(v.application.owned || fixed) << 7;
    control.now[3] |= u8::from(v.application.by_range) << 5;
    if unit.protection.is_some() {
        control.mask[0] |= 8;
        control.mask[3] |= if fixed { 0x20 } else { 0xa0 };
    }
    let mut extension = plain(0x0a, 28);
    extension.sub = 1;
    let e = &v.extension;
    extension.now[0] = u8::from(e.clock) << 2 | u8::from(e.set_first) << 1;
    extension.now[0] |= u8::from(unit.implicit_alua);
    extension.now[1] = e.priority.get();
    extension.now[2] = e.max_sense;
    extension.mask[..3].copy_from_slice(&[6, 0x0f, 0xff]);
    let mut exceptions = plain(0x1c, 10);
    exceptions.now[0] = u8::from(v.exception_test) << 2;
    exceptions.now[1] = if v.report_exceptions { 6 } else { 0 };
    exceptions.mask[..2].copy_from_slice(&[4, 15]);
    // SBC-3, 6.5.8 and 6.5.9
    let mut recovery = plain(0x01, 10);
    recovery.now[5] = u8::from(v.thresholds.report) << 7;
    recovery.mask[5] = u8::from(unit.knows_resources) << 7;
    let mut all = vec![recovery, caching, control, extension];
    if unit.protection.is_some() {
        // SBC-4, 6.5.3. What it says is what it is read as.
        let mut tags = plain(0x0a, 108);
        tags.sub = 2;
        tags.now = written(108, 7, |out| v.application.ranges.write(unit.blocks, out));
        let read = ranges(&tags.now, Some(unit.blocks.0));
        assert_eq!(read, Ok(v.application.ranges));
        tags.mask[12..].fill(0xff);
        for at in [12, 36, 60, 84] {
            tags.mask[at..at + 6].copy_from_slice(&[0x80, 0, 0, 0, 0, 0]);
        }
        all.push(tags);
    }
    // SBC-4, 6.5.7
    let mut groups = plain(0x0a, 12 + 64 * 16);
    groups.sub = 5;
    for group in 0..64 {
        let at = 12 + 16 * group;
        let enabled = group < 32 && v.groups.bits() >> group & 1 != 0;
        groups.now[at] = 0x40 | u8::from(enabled);
        groups.mask[at] = u8::from((1..32).contains(&group));
    }
    all.push(groups);
    all.push(exceptions);
    if unit.knows_resources {
        let mut thresholds = plain(0x1c, 28);
        thresholds.sub = 2;
        for (at, t, arming) in [(12, v.thresholds.available, 0), (20, v.thresholds.used, 1)] {
            thresholds.now[at] = u8::from(t.enabled) << 7 | arming;
            thresholds.now[at + 1] = arming + 1;
            thresholds.now[at + 4..at + 8].copy_from_slice(&t.count.to_be_bytes());
            thresholds.mask[at] = 0x80;
            thresholds.mask[at + 4..at + 8].fill(0xff);
        }
        all.push(thresholds);
    }
    if !unit.may_change {
        all.iter_mut().for_each(|page| page.mask.fill(0));
    }
    all
}

/// Takes a page's values; or the byte that is wrong.
fn take(page: (u8, u8), body: &[u8], values: &mut Values) -> Result<(), usize> {
    match page {
        (0x01, 0) => values.thresholds.report = body[5] & 0x80 != 0,
        (0x1c, 2) => {
            let threshold = |at: usize| Threshold {
                enabled: body[at] & 0x80 != 0,
                count: be32(body, at + 4),
            };
            values.thresholds.available = threshold(12);
            values.thresholds.used = threshold(20);
        }
        (0x08, 0) => values.write_cache = body[0] & 4 != 0,
        (0x0a, 0) => {
            values.errors = match body[1] >> 1 & 3 {
                0 => ErrorPolicy::Continue,
                1 => ErrorPolicy::AbortAll,
                2 => return Err(1),
                _ => ErrorPolicy::AbortOwn,
            };
            values.interlock = match body[2] >> 4 & 3 {
                0 => Interlock::Clear,
                1 => return Err(2),
                2 => Interlock::Keep,
                _ => Interlock::Establish,
            };
            values.descriptor_sense = body[0] & 4 != 0;
            values.unchecked_if_zero = body[0] & 8 != 0;
            values.software_write_protect = body[2] & 8 != 0;
            values.application.owned = body[3] & 0x80 != 0;
            values.application.by_range = body[3] & 0x20 != 0;
            values.task_aborted_status = body[3] & 0x40 != 0;
        }
        (0x1c, 0) => {
            // MRIE; what is reserved beside it is the mask's, which saved text has none of.
            let mrie = body[1] & 0x0f;
            if mrie != 0 && mrie != 6 {
                return Err(1);
            }
            values.exception_test = body[0] & 4 != 0;
            values.report_exceptions = mrie == 6;
        }
        (0x0a, 1) => {
            if body[2] > 52 {
                return Err(2);
            }
            values.extension = Extension {
                clock: body[0] & 4 != 0,
                set_first: body[0] & 2 != 0,
                priority: Priority::new(body[1] % 16),
                max_sense: body[2],
            };
        }
        (0x0a, 2) => values.application.ranges = ranges(body, None)?,
        (0x0a, 5) => {
            let enabled = (1..32).filter(|group| body[12 + 16 * group] & 1 != 0);
            values.groups = Groups::new(enabled.map(|group| 1 << group).sum());
        }
        _ => {}
    }
    Ok(())
}

/// The application tag mode page: ranges in order, without a gap, up to the one that is the last; to the medium's end, where that
/// counts.
fn ranges(body: &[u8], blocks: Option<u64>) -> Result<Ranges, usize> {
    let mut next = 0u128;
    let mut found = vec![];
    for at in [12, 36, 60, 84] {
        let (tag, start, count) = (be16(body, at + 6), be64(body, at + 8), be64(body, at + 16));
        if u128::from(start) != next || start == u64::MAX {
            return Err(at + 8);
        }
        found.push((start, tag as u16));
        next += u128::from(count);
        if body[at] & 0x80 != 0 {
            if let Some(blocks) = blocks {
                // Or to its last block, as SBC-4 has it.
                let ends = [blocks, blocks.saturating_sub(1)].map(u128::from);
                if !ends.contains(&next) || count == 0 && start != 0 {
                    return Err(at + 16);
                }
            }
            let ranges = made(&found);
            for (index, (start, tag)) in found.iter().enumerate() {
                assert_eq!(ranges.tag(*start), *tag);
                let end = found.get(index + 1).map_or(u64::MAX, |next| next.0);
                assert_eq!(ranges.tag(end - 1), *tag);
            }
            return Ok(ranges);
        }
        if count == 0 || next > u128::from(u64::MAX) {
            return Err(at + 16);
        }
    }
    Err(84)
}

/// Of starts and tags, in order.
fn made(ranges: &[(u64, u16)]) -> Ranges {
    let mut body = vec![0; 12];
    for (index, (start, tag)) in ranges.iter().enumerate() {
        let next = ranges.get(index + 1).map(|next| next.0);
        body.extend([if next.is_none() { 0x80 } else { 0 }, 0, 0, 0, 0, 0]);
        body.extend(tag.to_be_bytes());
        body.extend(start.to_be_bytes());
        body.extend((next.unwrap_or(u64::MAX) - start).to_be_bytes());
    }
    Ranges::read(&body).unwrap()
}

fn model(unit: &Unit, ten: bool, list: &[u8]) -> Verdict<Values> {
    let mut values = unit.current;
    if list.is_empty() {
        return Verdict::Take(values);
    }
    let header = if ten { 8 } else { 4 };
    if list.len() < header {
        return Verdict::Length;
    }
    let (medium, specific) = if ten { (2, 3) } else { (1, 2) };
    if ten && list[4] & !1 != 0 {
        return Verdict::Field(4);
    }
    if ten && list[5] != 0 {
        return Verdict::Field(5);
    }
    if list[medium] != 0 {
        return Verdict::Field(medium);
    }
    if list[specific] & 0x6f != 0 {
        return Verdict::Field(specific);
    }
    let long = ten && list[4] == 1;
    let (length_at, length) = if ten {
        (6, be16(list, 6))
    } else {
        (3, usize::from(list[3]))
    };
    if length != 0 && length != if long { 16 } else { 8 } {
        return Verdict::Field(length_at);
    }
    if list.len() < header + length {
        return Verdict::Length;
    }
    if length != 0 {
        let (blocks, most, size_at, size) = if long {
            (be64(list, header), u64::MAX, 12, be32(list, header + 12))
        } else {
            let size = be32(list, header + 4);
            (
                be32(list, header).into(),
                u32::MAX.into(),
                5,
                // The first byte is reserved.
                size,
            )
        };
        if blocks != 0 && blocks != most && blocks != unit.blocks.0 {
            return Verdict::Field(header);
        }
        if size != unit.block_size.bytes() {
            return Verdict::Field(header + size_at);
        }
    }
    let pages = pages(unit);
    let mut at = header + length;
    while at < list.len() {
        let rest = &list[at..];
        if rest.len() < 2 {
            return Verdict::Length;
        }
        let code = rest[0] & 0x3f;
        if !pages.iter().any(|p| p.code == code) {
            return Verdict::Field(at);
        }
        let with_sub = rest[0] & 0x40 != 0;
        let sub = if with_sub { rest[1] } else { 0 };
        let found = pages.iter().find(|p| p.code == code && p.sub == sub);
        // A page in the wrong format is none.
        let Some(page) = found.filter(|p| with_sub == (p.sub != 0)) else {
            return Verdict::Field(at + 1);
        };
        let start = if with_sub {
            if rest.len() < 4 {
                return Verdict::Length;
            }
            if be16(rest, 2) != page.now.len() {
                return Verdict::Field(at + 2);
            }
            4
        } else {
            if usize::from(rest[1]) != page.now.len() {
                return Verdict::Field(at + 1);
            }
            2
        };
        if rest.len() < start + page.now.len() {
            return Verdict::Length;
        }
        let body = &rest[start..start + page.now.len()];
        for (i, new) in body.iter().enumerate() {
            if (new ^ page.now[i]) & !page.mask[i] != 0 {
                return Verdict::Field(at + start + i);
            }
        }
        let owned = values.application.owned;
        if let Err(wrong) = take((code, sub), body, &mut values) {
            return Verdict::Field(at + start + wrong);
        }
        if code == 0x0a && sub == 0 && unit.protection == Some(pi::Type::Two) {
            // ATO is shown as set, whatever it was set to.
            values.application.owned = owned;
        }
        if (code, sub) == (0x0a, 2) {
            if let Err(wrong) = ranges(body, Some(unit.blocks.0)) {
                return Verdict::Field(at + start + wrong);
            }
        }
        at += start + page.now.len();
    }
    Verdict::Take(values)
}

fn extension(input: &mut Input<'_>) -> Extension {
    let bits = input.u8();
    Extension {
        clock: bits & 1 != 0,
        set_first: bits & 2 != 0,
        priority: Priority::new(bits >> 4),
        max_sense: (bits >> 2).min(52),
    }
}

fn unit(input: &mut Input<'_>) -> Unit {
    let bits = input.u16();
    let bit = |n: u32| bits & 1 << n != 0;
    let interlock = [Interlock::Clear, Interlock::Keep, Interlock::Establish][input.below(3)];
    let current = Values {
        write_cache: bit(0),
        descriptor_sense: bit(1),
        errors: [
            ErrorPolicy::Continue,
            ErrorPolicy::AbortAll,
            ErrorPolicy::AbortOwn,
        ][input.below(3)],
        interlock,
        software_write_protect: bit(2),
        task_aborted_status: bit(3),
        report_exceptions: bit(9),
        exception_test: bit(10),
        unchecked_if_zero: bit(12),
        thresholds: Thresholds {
            report: bit(12),
            available: Threshold {
                enabled: bit(13),
                count: input.u32(),
            },
            used: Threshold {
                enabled: bit(14),
                count: input.u32(),
            },
        },
        extension: extension(input),
        application: ApplicationTags {
            owned: input.bool(),
            by_range: input.bool(),
            ranges: Ranges::ZERO,
        },
        groups: Groups::new(input.u32()),
    };
    let blocks = input.number();
    let mut tags = vec![(0, input.u16())];
    for _ in 0..input.below(4) {
        // Behind the one before it, and before the end.
        let start = tags[tags.len() - 1].0 + 1 + u64::from(input.u16());
        if start < blocks {
            tags.push((start, input.u16()));
        }
    }
    let current = Values {
        application: ApplicationTags {
            ranges: made(&tags),
            ..current.application
        },
        ..current
    };
    Unit {
        blocks: Blocks(blocks),
        block_size: [BlockSize::B512, BlockSize::B4096][input.below(2)],
        write_protected: bit(4),
        dpo_fua: bit(5),
        restricted_reordering: bit(6),
        protection: pi::Type::new(u32::from(bits >> 13) & 3),
        implicit_alua: bit(7),
        switches_write_cache: bit(8),
        knows_resources: bit(15),
        may_change: !bit(11),
        current,
        default: Values::default(),
        saved: bit(11).then_some(current),
    }
}

fn mode_select(input: &mut Input<'_>) {
    let unit = unit(input);
    let kind = input.u8();
    let ten = kind & 1 != 0;
    let mut list = Vec::new();
    if kind & 2 != 0 {
        // What MODE SENSE answers, with some bytes changed.
        let request = mode::Request {
            ten,
            long_lba: kind & 4 != 0,
            no_block_descriptors: kind & 8 != 0,
            control: PageControl::Current,
            page: 0x3f,
            subpage: if kind & 16 != 0 { 0xff } else { 0 },
        };
        list = written(1600, 7, |out| {
            mode::write(&unit, &request, out).unwrap();
        });
        assert_eq!(mode::select(&unit, ten, &list), Ok(unit.current));
        while !input.is_empty() {
            let at = input.below(list.len());
            list[at] ^= 1 << input.below(8);
        }
    } else {
        list.extend(input.rest());
    }
    let taken = mode::select(&unit, ten, &list);
    // A block descriptor of a unit with more blocks than it has room for shows the most that it has.
    let expected = model(&unit, ten, &list);
    if let (Verdict::Field(at), Ok(_)) = (&expected, &taken) {
        let header = if ten { 8 } else { 4 };
        assert!(*at == header && unit.blocks.0 > u32::MAX.into());
        return;
    }
    assert_eq!(verdict(taken), expected);
}

/// The counters of pages 02h, 03h and 05h by page and parameter code (SPC-4, 7.3.5, 7.3.16, 7.3.20).
fn counter(page: u8, code: usize, of: &mut Counters) -> Option<&mut u64> {
    Some(match (page, code) {
        (2, 5) => &mut of.written,
        (2, 6) => &mut of.write_errors,
        (3, 5) => &mut of.read,
        (3, 6) => &mut of.read_errors,
        (5, 5) => &mut of.verified,
        (5, 6) => &mut of.verify_errors,
        _ => return None,
    })
}

fn log_model(list: &[u8]) -> Verdict<Counters> {
    let mut counters = Counters::default();
    let (mut at, mut before) = (0, 0);
    while at < list.len() {
        let head = &list[at..];
        if head.len() < 4 {
            return Verdict::Length;
        }
        let page = head[0] & 0x7f;
        if ![2, 3, 5].contains(&page) || page <= before {
            return Verdict::Field(at);
        }
        if head[1] != 0 {
            return Verdict::Field(at + 1);
        }
        before = page;
        let end = at + 4 + be16(head, 2);
        if end > list.len() {
            return Verdict::Length;
        }
        at += 4;
        let mut last = 0;
        while at < end {
            let one = &list[at..end];
            if one.len() < 4 {
                return Verdict::Length;
            }
            let code = be16(one, 0);
            let Some(value) = counter(page, code, &mut counters).filter(|_| code > last) else {
                return Verdict::Field(at);
            };
            last = code;
            if one[2] != 0 {
                return Verdict::Field(at + 2);
            }
            if one[3] != 8 {
                return Verdict::Field(at + 3);
            }
            if one.len() < 12 {
                return Verdict::Length;
            }
            *value = be64(one, 4);
            at += 12;
        }
    }
    Verdict::Take(counters)
}

fn log_select(list: &[u8]) {
    let taken = log::select(&Counters::default(), list);
    assert_eq!(verdict(taken), log_model(list));
}

fn timestamps(list: &[u8]) {
    let expected = match list.len() {
        0 => Verdict::Take(None),
        1..=11 => Verdict::Length,
        _ => match [0, 1, 2, 3, 10, 11].into_iter().find(|at| list[*at] != 0) {
            Some(at) => Verdict::Field(at),
            None => Verdict::Take(Some(be64(list, 2) & 0xffff_ffff_ffff)),
        },
    };
    let taken = timestamp::parse(list).map(|parsed| parsed.map(|t| t.0));
    assert_eq!(verdict(taken), expected);
}

fn texts(list: &[u8]) {
    assert_eq!(identifying::parse(Kind::Device, list), Ok(list));
    match identifying::parse(Kind::Text, list) {
        Ok(text) => {
            assert!(list.is_empty() || list == [text, b"\0"].concat());
            let text = std::str::from_utf8(text).unwrap();
            assert!(!text.contains(|c: char| c.is_ascii_control()));
            let answer = written(600, 7, |out| {
                identifying::write(Kind::Text, text.as_bytes(), out)
            });
            assert_eq!(be16(&answer, 2), answer.len() - 4);
        }
        Err(sense) => {
            let Verdict::Field(at) = verdict(Err::<(), _>(sense)) else {
                panic!("{sense:?}");
            };
            assert!(at < list.len());
            let inside = list.strip_suffix(b"\0").unwrap_or(&[0]);
            let fine = std::str::from_utf8(inside)
                .is_ok_and(|text| !text.contains(|c: char| c.is_ascii_control()));
            assert!(!fine);
        }
    }
}

fn diagnostics(list: &[u8]) {
    let expected = match list {
        [] => Verdict::Take(()),
        [_] => Verdict::Length,
        [0, _] | [0, _, _] => Verdict::Length,
        [0, 0, 0, 0, ..] => Verdict::Take(()),
        [0, 0, ..] => Verdict::Field(2),
        [0, ..] => Verdict::Field(1),
        _ => Verdict::Field(0),
    };
    assert_eq!(verdict(diagnostic::check(list)), expected);
}

/// The bytes that lower-case digits are.
fn unhex(digits: &str) -> Option<Vec<u8>> {
    let fine = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    if digits.len() % 2 != 0 || !digits.chars().all(fine) {
        return None;
    }
    let pairs = (0..digits.len()).step_by(2);
    Some(
        pairs
            .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
            .collect(),
    )
}

/// What a text of saved values says, if it says anything.
fn saved_model(unit: &Unit, text: &[u8]) -> Option<Values> {
    let mut known = pages(unit);
    let mut values = unit.default;
    if text.len() > saved::MAX {
        return None;
    }
    let mut lines = std::str::from_utf8(text)
        .ok()?
        .split('\n')
        .collect::<Vec<_>>();
    // Each line is ended.
    if lines.pop() != Some("") {
        return None;
    }
    for line in lines {
        // As text has lines, they may end in CR LF.
        let line = line.strip_suffix('\r').unwrap_or(line);
        let (name, digits) = line.split_once('=')?;
        let name = name.strip_prefix("page_")?;
        if name.len() != 5 || name.as_bytes()[2] != b'_' {
            return None;
        }
        let (code, sub) = (unhex(&name[..2])?[0], unhex(&name[3..])?[0]);
        let at = known
            .iter()
            .position(|page| (page.code, page.sub) == (code, sub))?;
        let page = known.remove(at);
        let body = unhex(digits).filter(|body| body.len() == page.now.len())?;
        take((code, sub), &body, &mut values).ok()?;
    }
    Some(values)
}

fn saved_values(input: &mut Input<'_>) {
    let unit = unit(input);
    let unit = Unit {
        knows_resources: true,
        protection: unit.protection.or(Some(pi::Type::Three)),
        ..unit
    };
    let mut text = written(saved::MAX, 7, |out| saved::write(&unit, &unit.current, out));
    assert_eq!(saved::read(&text, &unit.default), Ok(unit.current));
    if input.bool() {
        text = input.rest().to_vec();
    } else {
        while !input.is_empty() {
            let at = input.below(text.len());
            match input.below(3) {
                0 => text[at] = input.u8(),
                1 => text.truncate(at),
                // As long as a file that is too long need be.
                _ if text.len() > saved::MAX => text.truncate(at),
                _ => text.extend_from_within(at..),
            }
            if text.is_empty() {
                break;
            }
        }
    }
    let read = saved::read(&text, &unit.default);
    assert_eq!(
        read.ok(),
        saved_model(&unit, &text),
        "{}",
        text.escape_ascii()
    );
}

fuzz_target!(|input: &[u8]| {
    let mut input = Input::new(input);
    match input.u8() {
        0 => timestamps(input.rest()),
        1 => texts(input.rest()),
        2 => diagnostics(input.rest()),
        3 => log_select(input.rest()),
        4 => saved_values(&mut input),
        _ => mode_select(&mut input),
    }
});
