// SPDX-License-Identifier: GPL-2.0

//! Protection information: each value of the CDB's field, each type and each block is checked, compared, generated and repeated as
//! the model of the standard's tables has it; what was generated passes, and what is said of a block says which.
// fuzz: -max_len=96

#![no_main]

use libfuzzer_sys::fuzz_target;
use lio_fuzz::{
    model::protection::{crc, Command, COMPARED, READ, READ_TO_COMPARE, SENT},
    Input,
};
use lio_scsi::{
    lba::BlockSize,
    pi::{Checks, Failed, Fields, Protection, Ranges, Sent, Tags, Tuple, Type},
    sense::Key,
};

fn row(checks: Checks) -> [bool; 3] {
    [checks.guard, checks.application, checks.reference]
}

fn bytes(input: &mut Input<'_>) -> [u8; 8] {
    // Often such as matter.
    match input.below(4) {
        0 => [0xff; 8],
        1 => {
            let [a, b, c, d] = input.u32().to_be_bytes();
            [a, b, 0xff, 0xff, a, b, c, d]
        }
        _ => input.u64().to_be_bytes(),
    }
}

fuzz_target!(|input: &[u8]| {
    let mut input = Input::new(input);
    let kind = 1 + input.below(3) as u8;
    let code = input.below(6);
    let tags = input
        .bool()
        .then(|| (input.u32(), input.u16(), input.u16()));
    let lba = input.u64();
    let index = u64::from(input.u16());
    let (checks_medium, unless_zero) = (input.bool(), input.bool());
    // A port may have it beside the data, or make it.
    let place = [Sent::Behind, Sent::Beside, Sent::Made][input.below(3)];
    let comes = code != 0 && place != Sent::Made;
    // ATO; with ATMPE, the blocks from `from` on have one tag, those before it another.
    let owned = kind == 2 || input.bool();
    let from = 1 + input.u64() % (u64::MAX - 1);
    let by_range = input.bool().then(|| (input.u16(), input.u16(), from));
    let rules = Protection {
        of: Type::new(kind.into()).unwrap(),
        fields: Fields {
            code: code as u8,
            tags: tags.map(|(reference, application, mask)| Tags {
                reference,
                application,
                mask,
            }),
            sent: place,
        },
        first: lba,
        checks_medium,
        unless_zero,
        owned,
        ranges: by_range.map(|(before, behind, from)| {
            let one = |last: u8, tag: u16, start: u64, count: u64| {
                let (tag, start, count) =
                    (tag.to_be_bytes(), start.to_be_bytes(), count.to_be_bytes());
                [&[last, 0, 0, 0, 0, 0], &tag[..], &start, &count].concat()
            };
            let page = [one(0, before, 0, from), one(0x80, behind, from, 0)].concat();
            Ranges::read(&[&[0; 12], &page[..]].concat()).unwrap()
        }),
    };
    let model = Command {
        kind,
        lba,
        tags,
        owned,
        by_range,
    };

    // Which checks there are.
    let off = [false; 3];
    let read = if !checks_medium || unless_zero && code == 0 {
        off
    } else {
        READ[code]
    };
    // What is compared is not checked: as if nothing came, where nothing does.
    let compares = if comes { READ_TO_COMPARE[code] } else { read };
    assert_eq!(row(rules.read()), read);
    assert_eq!(row(rules.read_to_compare()), compares);
    let received = if comes { SENT[code] } else { off };
    assert_eq!(row(rules.received()), received);
    let mut compared = if comes { COMPARED[code] } else { off };
    compared[1] &= model.ato();
    compared[2] &= kind != 3 || model.ato();
    assert_eq!(row(rules.compared()), compared);
    let with = if comes && place == Sent::Behind { 8 } else { 0 };
    assert_eq!(rules.fields.block(BlockSize::B512), 512 + with);
    assert_eq!(rules.fields.transfers(), comes);
    assert_eq!(rules.fields.beside(), comes && place == Sent::Beside);

    // What they find.
    let mut tuple = bytes(&mut input);
    let mut guard = input.u16();
    if input.bool() {
        // One of the tags is right more often.
        guard = u16::from_be_bytes([tuple[0], tuple[1]]);
    }
    if let (true, Some(reference)) = (input.bool(), model.reference(index)) {
        tuple[4..].copy_from_slice(&reference);
    }
    assert_eq!(Tuple::new(tuple).bytes(), tuple);
    for checks in [rules.read(), rules.read_to_compare(), rules.received()] {
        let wrong = model.wrong(row(checks), index, &tuple, guard);
        let expected = match wrong {
            [true, ..] => Err(Failed::Guard),
            [_, true, _] => Err(Failed::Application),
            [_, _, true] => Err(Failed::Reference),
            _ => Ok(()),
        };
        assert_eq!(
            rules.check(checks, index, Tuple::new(tuple), guard),
            expected
        );
        assert!(checks.any() || expected.is_ok());
    }
    for (failed, qualifier) in [
        (Failed::Guard, 1),
        (Failed::Application, 2),
        (Failed::Reference, 3),
    ] {
        let sense = failed.sense(Key::AbortedCommand, lba);
        assert_eq!((sense.asc.code, sense.asc.qualifier), (0x10, qualifier));
        assert_eq!((sense.key as u8, sense.information), (0xb, Some(lba)));
    }

    // What is sent for a block, or for all blocks, against what is on the medium.
    let sent = bytes(&mut input);
    let mut here = sent;
    if kind != 3 {
        let first = u32::from_be_bytes([sent[4], sent[5], sent[6], sent[7]]);
        here[4..].copy_from_slice(&first.wrapping_add(index as u32).to_be_bytes());
    }
    assert_eq!(rules.repeated(Tuple::new(sent), index).bytes(), here);
    let differs = !model.escapes(&tuple)
        && (compared[0] && tuple[..2] != here[..2]
            || compared[1]
                && model.application(index).is_some_and(|(_, mask)| {
                    let of = |t: &[u8; 8]| u16::from_be_bytes([t[2], t[3]]) & mask;
                    of(&tuple) != of(&here)
                })
            || compared[2] && tuple[4..] != here[4..]);
    let got = rules.compare(index, Tuple::new(tuple), Tuple::new(sent));
    assert_eq!(got.is_err(), differs);

    // A run of blocks that begins elsewhere, from one of its blocks on: as a command of its own from there.
    let (start, done) = (input.u64(), u64::from(input.u16()));
    let run = rules.of_run(start, rules.fields.tags, done);
    let there = Command {
        kind,
        lba: start.wrapping_add(done),
        tags: tags
            .filter(|_| kind == 2)
            .map(|(first, application, mask)| (first.wrapping_add(done as u32), application, mask)),
        owned,
        by_range,
    };
    let checks = run.received();
    assert_eq!(row(checks), received);
    let wrong = there.wrong(row(checks), index, &tuple, guard);
    let got = run.check(checks, index, Tuple::new(tuple), guard);
    assert_eq!(got.is_err(), wrong.contains(&true));
    assert_eq!(run.first, there.lba);

    // Table 133, footnotes f to h: what is generated passes every check of a CDB that knows of no other tags.
    let data = input.rest();
    let made = rules.generate(index, crc(data));
    assert_eq!(made.guard, crc(data));
    if let (true, Sent::Made, 2, Some((first, application, mask))) = (code != 0, place, kind, tags)
    {
        // The port's, with the tags that the CDB expects.
        assert_eq!(made.application, application & mask);
        assert_eq!(made.reference, first.wrapping_add(index as u32));
        assert_eq!(rules.check(rules.read(), index, made, crc(data)), Ok(()));
        return;
    }
    let tag = match model.by_range(index) {
        Some(tag) if model.ato() => tag,
        _ if model.ato() => 0xffff,
        _ => 0,
    };
    assert_eq!(made.application, tag);
    let reference = match kind {
        1 => u32::from_be_bytes(model.reference(index).unwrap()),
        _ => 0xffff_ffff,
    };
    assert_eq!(made.reference, reference);
    // Another tag than the one that is written may be expected, where both are said.
    let plain = Protection {
        fields: Fields {
            tags: None,
            ..rules.fields
        },
        ..rules
    };
    assert_eq!(plain.check(plain.read(), index, made, crc(data)), Ok(()));
});
