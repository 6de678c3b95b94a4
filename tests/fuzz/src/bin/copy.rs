// SPDX-License-Identifier: GPL-2.0

//! The parameter list of EXTENDED COPY, read as SPC-4, 6.4 lays it out or refused; and copies made piece by piece, as its segments
//! ask for, beside the same copies made at once.
// fuzz: -max_len=512

#![no_main]

use libfuzzer_sys::fuzz_target;
use lio_fuzz::{
    field::{be16, be32, be64},
    Input,
};
use lio_scsi::{
    copy::{
        list::{Amount, List, Segment},
        plan::{Medium, PIECE},
        MAX_CSCDS, MAX_DESCRIPTORS, MAX_SEGMENTS, MAX_SEGMENT_BYTES,
    },
    lba::{BlockSize, Blocks},
    sense::{Asc, Key, Sense, Specific},
};

/// Source and destination, whether blocks of the destination are counted, how much, where from, where to, offsets.
type Read = (u16, u16, Option<bool>, u32, u64, u64, u16, u16);

/// What the list says; `None`: it is not to be accepted.
fn model(list: &[u8], long: bool) -> Option<(Option<u32>, usize, Vec<Read>)> {
    let start = if long { 48 } else { 16 };
    let header = list.get(..start)?;
    let (id, cscds, segments, inline) = if long {
        let fixed = (header[0], be16(header, 2), header[15] & 2, header[16]);
        if fixed != (1, 32, 0, 255) {
            return None;
        }
        let lengths = (be16(header, 42), be16(header, 44), be16(header, 46));
        (be32(header, 20), lengths.0, lengths.1, lengths.2)
    } else {
        let lengths = (be16(header, 2), be32(header, 8), be32(header, 12));
        let id = header[0].into();
        (id, lengths.0, lengths.1 as usize, lengths.2 as usize)
    };
    let identifier = match header[1] >> 3 & 3 {
        0 | 2 => Some(id),
        3 if id == 0 => None,
        _ => return None,
    };
    if cscds + segments > MAX_DESCRIPTORS || inline != 0 {
        return None;
    }
    let end = start + cscds + segments;
    if list.len() < end || cscds % 32 != 0 || cscds / 32 > MAX_CSCDS {
        return None;
    }
    for cscd in list[start..start + cscds].chunks(32) {
        if cscd[0] != 0xe4 || cscd[7] > 20 || cscd[28] & 4 != 0 {
            return None;
        }
    }
    let (mut at, mut read) = (start + cscds, vec![]);
    while at < end {
        let length = match list[at] {
            0x02 => 28,
            0x0a => 32,
            _ => return None,
        };
        if at + length > end || be16(list, at + 2) + 4 != length || read.len() == MAX_SEGMENTS {
            return None;
        }
        let descriptor = &list[at..at + length];
        let ends = (be16(descriptor, 4) as u16, be16(descriptor, 6) as u16);
        let (from, to) = (be64(descriptor, 12), be64(descriptor, 20));
        read.push(match length {
            28 => {
                let destination = descriptor[1] & 2 != 0;
                let count = be16(descriptor, 10) as u32;
                (ends.0, ends.1, Some(destination), count, from, to, 0, 0)
            }
            _ => {
                let offsets = (be16(descriptor, 28) as u16, be16(descriptor, 30) as u16);
                let count = be32(descriptor, 8);
                (ends.0, ends.1, None, count, from, to, offsets.0, offsets.1)
            }
        });
        at += length;
    }
    Some((identifier, cscds / 32, read))
}

fn read(segment: &Segment) -> Read {
    let (what, count, from, to) = match segment.amount {
        Amount::SourceBlocks(n) => (Some(false), n.into(), 0, 0),
        Amount::DestinationBlocks(n) => (Some(true), n.into(), 0, 0),
        Amount::Bytes { count, from, to } => (None, count, from, to),
    };
    let ends = (segment.source, segment.destination);
    (
        ends.0,
        ends.1,
        what,
        count,
        segment.from,
        segment.to,
        from,
        to,
    )
}

fn refused(sense: Sense, list: &[u8]) {
    assert_eq!(sense.key, Key::IllegalRequest);
    match sense.specific {
        Specific::Field(at) => {
            assert_eq!(sense.asc, Asc::INVALID_FIELD_IN_PARAMETER_LIST);
            assert!(!at.in_cdb && usize::from(at.byte) < list.len());
        }
        Specific::None => assert_ne!(sense.asc, Asc::INVALID_FIELD_IN_PARAMETER_LIST),
        other => panic!("{other:?}"),
    }
}

fn parse(list: &[u8], long: bool) {
    let (got, start) = if long {
        (List::parse_lid4(list), 48)
    } else {
        (List::parse(list), 16)
    };
    match (got, model(list, long)) {
        (Ok(parsed), Some((identifier, cscds, segments))) => {
            assert_eq!(parsed.identifier, identifier);
            assert!(parsed.segments().map(|s| read(&s)).eq(segments));
            for id in 0..=cscds as u16 + 1 {
                let cscd = parsed.cscd(id);
                assert_eq!(cscd.is_some(), usize::from(id) < cscds);
                if let Some(cscd) = cscd {
                    let at = start + usize::from(id) * 32;
                    let length = usize::from(list[at + 7]);
                    assert_eq!(cscd.designator.bytes, &list[at + 8..at + 8 + length]);
                    assert_eq!(cscd.block_length, be32(list, at + 28) & 0xff_ffff);
                    assert_eq!(cscd.null, list[at + 1] & 0x20 != 0);
                }
            }
        }
        (Err(sense), None) => refused(sense, list),
        (parsed, model) => panic!("{parsed:?}, expected {model:?}"),
    }
}

/// The copy of a segment whose bytes are written down: each byte of the destination is written once, from its place.
fn copy(input: &mut Input<'_>) {
    let medium = |input: &mut Input<'_>| {
        let size = [512, 1024, 2048, 4096][input.below(4)];
        Medium {
            size: BlockSize::new(size).unwrap(),
            capacity: Blocks(input.number()),
        }
    };
    let (source, destination) = (medium(input), medium(input));
    let segment = Segment {
        source: 0,
        destination: 0,
        amount: match input.below(3) {
            0 => Amount::SourceBlocks(input.u16()),
            1 => Amount::DestinationBlocks(input.u16()),
            _ => Amount::Bytes {
                count: input.number32(),
                from: input.u16(),
                to: input.u16(),
            },
        },
        from: input.number(),
        to: input.number(),
    };
    let (ss, ds) = (
        u128::from(source.size.bytes()),
        u128::from(destination.size.bytes()),
    );
    let (len, from, to, exact) = match segment.amount {
        Amount::SourceBlocks(n) => (u128::from(n) * ss, 0, 0, true),
        Amount::DestinationBlocks(n) => (u128::from(n) * ds, 0, 0, true),
        Amount::Bytes { count, from, to } => (count.into(), from.into(), to.into(), false),
    };
    let fits = from < ss
        && to < ds
        && len <= MAX_SEGMENT_BYTES.into()
        && !(exact && (len % ss != 0 || len % ds != 0));
    let (first, last) = (
        u128::from(segment.from) * ss + from,
        u128::from(segment.to) * ds + to,
    );
    let there = first + len <= u128::from(source.capacity.0) * ss
        && last + len <= u128::from(destination.capacity.0) * ds;
    let range = match segment.plan(source, destination) {
        Ok(range) => range,
        Err(fault) => {
            // A medium that has more bytes than 64 bits can tell of is none that there is.
            let huge = |m: Medium| m.capacity.bytes(m.size).is_none();
            assert!(!fits || !there || huge(source) || huge(destination));
            assert!(fault.field.is_some_and(|field| field < 32));
            assert_eq!(fault.asc == Asc::NONE, fits);
            return;
        }
    };
    assert!(fits && there);
    assert_eq!(
        (
            u128::from(range.from),
            u128::from(range.to),
            u128::from(range.len)
        ),
        (first, last, len)
    );
    let mut done = 0;
    while let Some(piece) = range.piece(done, source.size, destination.size) {
        assert!(piece.len > 0 && piece.write.len <= PIECE + 4096 && piece.read.len <= PIECE + 8192);
        assert_eq!(piece.read.pos + piece.skip, range.from + done);
        assert_eq!(piece.write.pos + piece.offset, range.to + done);
        assert!(piece.skip + piece.len <= piece.read.len);
        assert!(piece.offset + piece.len <= piece.write.len);
        for (whole, size) in [(piece.read, source.size), (piece.write, destination.size)] {
            let size = u64::from(size.bytes());
            assert_eq!((whole.pos % size, whole.len % size), (0, 0));
        }
        // No block that holds none of it.
        assert!(piece.skip < source.size.bytes().into());
        assert!(piece.read.len - piece.skip - piece.len < source.size.bytes().into());
        assert!(piece.offset < destination.size.bytes().into());
        assert!(piece.write.len - piece.offset - piece.len < destination.size.bytes().into());
        assert_eq!(
            piece.merges(),
            piece.offset != 0 || piece.len != piece.write.len
        );
        assert_eq!(
            piece.is_whole(),
            !piece.merges() && piece.skip == 0 && piece.read.len == piece.write.len
        );
        // Only the ends keep a part of a block.
        assert!(piece.offset == 0 || done == 0);
        done += piece.len;
        assert!(done == range.len || (range.to + done) % u64::from(destination.size.bytes()) == 0);
    }
    assert_eq!(done, range.len);
    let unit = u64::from(segment.unit(source.size, destination.size));
    assert_eq!(segment.units() * unit, range.len);
}

fuzz_target!(|input: &[u8]| {
    let mut input = Input::new(input);
    match input.below(4) {
        0 => parse(input.rest(), false),
        2 => parse(input.rest(), true),
        _ => copy(&mut input),
    }
});
