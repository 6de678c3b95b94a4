// SPDX-License-Identifier: GPL-2.0

//! Application tags by ranges: the application tag mode page, and what follows for checks and what is generated.

use super::{mode::DISK, written};
use crate::{
    mode::{self, select, PageControl, Request, Unit, Values},
    pi::{ApplicationTags, Failed, Fields, Protection, Ranges, Tags, Tuple, Type},
    sense::Sense,
};
use std::{vec, vec::Vec};

/// A descriptor: LAST, tag, first block, blocks.
type Range = (bool, u16, u64, u64);

/// The page behind its header.
fn body(ranges: &[Range]) -> Vec<u8> {
    let mut page = vec![0; 12];
    for (last, tag, start, count) in ranges {
        page.extend([if *last { 0x80 } else { 0 }, 0, 0, 0, 0, 0]);
        page.extend(tag.to_be_bytes());
        page.extend(start.to_be_bytes());
        page.extend(count.to_be_bytes());
    }
    page.resize(12 + 4 * 24, 0);
    page
}

/// A MODE SELECT (6) list with it.
fn list(ranges: &[Range]) -> Vec<u8> {
    [vec![0, 0, 0, 0, 0x4a, 0x02, 0, 108], body(ranges)].concat()
}

fn unit(of: u32) -> Unit {
    Unit {
        protection: Type::new(of),
        saved: Some(DISK.current),
        ..DISK
    }
}

fn sense(unit: &Unit, control: PageControl) -> Vec<u8> {
    let request = Request {
        ten: false,
        long_lba: false,
        no_block_descriptors: true,
        control,
        page: 0x0a,
        subpage: 0x02,
    };
    written(|out| mode::write(unit, &request, out).unwrap())
}

const FOUR: [Range; 4] = [
    (false, 1, 0, 10),
    (false, 0x2345, 10, 1),
    (false, 0xffff, 11, 60000),
    (true, 7, 60011, 65536 - 60011),
];

#[test]
fn the_page() {
    let unit = unit(1);
    // By default, all blocks have the tag 0.
    let header = [115, 0, 0x10, 0, 0xca, 0x02, 0, 108];
    let all = [(true, 0, 0, 65536)];
    assert_eq!(
        sense(&unit, PageControl::Current),
        [header.to_vec(), body(&all)].concat()
    );
    let mask = sense(&unit, PageControl::Changeable);
    assert!(mask[8..20].iter().all(|byte| *byte == 0));
    for one in mask[20..].chunks(24) {
        assert_eq!(one[..6], [0x80, 0, 0, 0, 0, 0]);
        assert_eq!(one[6..], [0xff; 18]);
    }
    let values = select(&unit, false, &list(&FOUR)).unwrap();
    let now = Unit {
        current: values,
        ..unit
    };
    assert_eq!(sense(&now, PageControl::Current)[8..], body(&FOUR));
    let tag = |lba| values.application.ranges.tag(lba);
    let blocks = [0, 9, 10, 11, 60010, 60011, 65535, u64::MAX];
    assert_eq!(
        blocks.map(tag),
        [1, 1, 0x2345, 0xffff, 0xffff, 7, 7, 7],
        "{values:?}"
    );
    // A medium that has grown has the last tag there, and one that has shrunk has no ranges behind its end.
    let grown = Unit {
        blocks: crate::lba::Blocks(1 << 40),
        ..now
    };
    let mut expected = FOUR;
    expected[3].3 = (1 << 40) - 60011;
    assert_eq!(sense(&grown, PageControl::Current)[8..], body(&expected));
    let shrunk = Unit {
        blocks: crate::lba::Blocks(11),
        ..now
    };
    let expected = [(false, 1, 0, 10), (true, 0x2345, 10, 1)];
    assert_eq!(sense(&shrunk, PageControl::Current)[8..], body(&expected));
    // Without protection information there is no such page.
    assert_eq!(
        select(&DISK, false, &list(&FOUR)),
        Err(Sense::invalid_parameter_byte(5))
    );
    // What follows the last descriptor says nothing.
    let stale = [(true, 5, 0, 65536), (true, 9, 3, 3)];
    let taken = select(&unit, false, &list(&stale)).unwrap();
    assert_eq!(taken.application.ranges.tag(4), 5);
    assert_eq!(taken.application.ranges.tag(u64::MAX), 5);
    // To the letter of SBC-4, the end is the last block's address.
    let letter = select(&unit, false, &list(&[(true, 5, 0, 65535)])).unwrap();
    assert_eq!(letter, taken);
}

#[test]
fn what_does_not_go_together() {
    let first = 4 + 4 + 12;
    for (ranges, index, at) in [
        // A gap, an overlap, another order, not from the first block on, no blocks.
        (vec![(false, 1, 0, 10), (true, 2, 11, 65525)], 1, 8),
        (vec![(false, 1, 0, 10), (true, 2, 9, 65527)], 1, 8),
        (vec![(false, 1, 30000, 35536), (true, 2, 0, 30000)], 0, 8),
        (vec![(true, 1, 1, 65535)], 0, 8),
        (vec![(false, 1, 0, 0), (true, 2, 0, 65536)], 0, 16),
        // An end that is not the medium's.
        (vec![(true, 1, 0, 65537)], 0, 16),
        (vec![(true, 1, 0, 65534)], 0, 16),
        (vec![(false, 1, 0, 65536), (true, 2, 65536, 0)], 1, 16),
        (vec![(false, 1, 0, u64::MAX), (true, 2, u64::MAX, 1)], 1, 8),
        (vec![(false, 1, 0, 5), (false, 2, 5, u64::MAX)], 1, 16),
        // None is the last one.
        (
            FOUR.map(|(_, tag, lba, n)| (false, tag, lba, n)).into(),
            3,
            0,
        ),
        (vec![(false, 1, 0, 65535)], 1, 8),
    ] {
        assert_eq!(
            select(&unit(3), false, &list(&ranges)),
            Err(Sense::invalid_parameter_bit(first + index * 24 + at, 7)),
            "{ranges:?}"
        );
    }
    // Reserved bits.
    let mut reserved = list(&[(true, 1, 0, 65536)]);
    reserved[21] = 1;
    assert_eq!(
        select(&unit(1), false, &reserved),
        Err(Sense::invalid_parameter_bit(21, 0))
    );
}

#[test]
fn ato_and_atmpe() {
    let control = |flags: u8| {
        vec![
            0, 0, 0, 0, 0x0a, 10, 2, 0x10, 0, flags, 0, 0, 0xff, 0xff, 0, 30,
        ]
    };
    let application = |owned, by_range| {
        Ok(Values {
            application: ApplicationTags {
                owned,
                by_range,
                ..ApplicationTags::DEFAULT
            },
            ..DISK.current
        })
    };
    for of in [1, 3] {
        let taken = |flags| select(&unit(of), false, &control(flags));
        assert_eq!(taken(0x40), application(false, false));
        assert_eq!(taken(0xe0), application(true, true));
        assert_eq!(taken(0xc0), application(true, false));
        // RWWP is not there.
        assert_eq!(taken(0x50), Err(Sense::invalid_parameter_bit(9, 4)));
    }
    // Of type 2, ATO is one, and stays so.
    let taken = |flags| select(&unit(2), false, &control(flags));
    assert_eq!(taken(0xe0), application(false, true));
    assert_eq!(taken(0x60), Err(Sense::invalid_parameter_bit(9, 7)));
    assert_eq!(
        select(&DISK, false, &control(0xe0)),
        Err(Sense::invalid_parameter_bit(9, 7))
    );
}

#[test]
fn tags_that_are_known() {
    let ranges = Ranges::read(&body(&FOUR)).unwrap();
    let rules = |of, owned, tags| Protection {
        of: Type::new(of).unwrap(),
        fields: Fields {
            code: 1,
            tags,
            ..Fields::default()
        },
        first: 9,
        checks_medium: true,
        unless_zero: false,
        owned,
        ranges: Some(ranges),
    };
    for of in 1..=3 {
        let rules = rules(of, true, None);
        // Blocks 9, 10 and 11.
        for (index, tag) in [(0, 1), (1, 0x2345), (2, 0xffff)] {
            let made = rules.generate(index, 5);
            assert_eq!(made.application, tag);
            for checks in [rules.read(), rules.received()] {
                assert_eq!(rules.check(checks, index, made, 5), Ok(()));
                let other = Tuple {
                    application: 0x2344,
                    ..made
                };
                assert_eq!(
                    rules.check(checks, index, other, 5),
                    Err(Failed::Application)
                );
                // What is never checked.
                assert_eq!(rules.check(checks, index, Tuple::DEFAULT, 5), Ok(()));
            }
        }
        // VERIFY compares all of the tag.
        let made = rules.generate(0, 5);
        let other = Tuple {
            application: 0x8001,
            ..made
        };
        assert_eq!(rules.compare(0, made, other), Err(Failed::Application));
        // A run of blocks elsewhere has the tags of its own.
        assert_eq!(rules.of_run(0, None, 10).generate(0, 5).application, 0x2345);
    }
    // What the CDB expects goes first; the target's own tags are 0 and not looked at.
    let tags = Tags {
        reference: 0,
        application: 0x1200,
        mask: 0xff00,
    };
    let two = rules(2, true, Some(tags));
    let tuple = Tuple {
        guard: 5,
        application: 0x12cd,
        reference: 0,
    };
    assert_eq!(two.check(two.read(), 0, tuple, 5), Ok(()));
    let one = rules(1, false, None);
    assert_eq!(one.generate(1, 5).application, 0);
    let tuple = Tuple {
        reference: 9,
        ..tuple
    };
    assert_eq!(one.check(one.read(), 0, tuple, 5), Ok(()));
    // Owned, and nothing says what they are.
    let unknown = Protection {
        ranges: None,
        ..rules(1, true, None)
    };
    assert_eq!(unknown.generate(0, 5).application, 0xffff);
    assert_eq!(unknown.check(unknown.read(), 0, tuple, 5), Ok(()));
}
