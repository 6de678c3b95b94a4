// SPDX-License-Identifier: GPL-2.0

//! Sense data in both formats, read back as an initiator reads it (SPC-4, 4.5).
// fuzz: -max_len=32

#![no_main]

use libfuzzer_sys::fuzz_target;
use lio_fuzz::{
    field::{be16, be32, be64},
    Input,
};
use lio_scsi::sense::{
    Asc, CopyFailure, FieldPointer, Format, Key, Sense, SenseData, Side, Specific,
};

const KEYS: [Key; 11] = [
    Key::NoSense,
    Key::RecoveredError,
    Key::NotReady,
    Key::MediumError,
    Key::HardwareError,
    Key::IllegalRequest,
    Key::UnitAttention,
    Key::DataProtect,
    Key::CopyAborted,
    Key::AbortedCommand,
    Key::Miscompare,
];

/// What an initiator learns: key, code, qualifier, INFORMATION if it is valid, SENSE KEY SPECIFIC if it is valid.
#[derive(Debug, PartialEq)]
struct Seen {
    key: u8,
    code: (u8, u8),
    information: Option<u64>,
    ili: bool,
    deferred: bool,
    specific: Option<[u8; 3]>,
    /// The segment of a copy that failed, and which end, with its key, code and qualifier.
    segment: Option<u16>,
    forwarded: Option<(Side, u8, u8, u8)>,
}

/// The status and the sense data in fixed format that begin at byte `at` (SPC-4, 5.17.7.4).
fn forwarded(bytes: &[u8], at: u8, side: Side) -> Option<(Side, u8, u8, u8)> {
    let of = bytes.get(usize::from(at)..).filter(|_| at != 0)?;
    assert_eq!((of[0], of[1], of[8], of.len()), (2, 0x70, 10, 19));
    Some((side, of[3], of[13], of[14]))
}

fn read(bytes: &[u8]) -> Seen {
    match bytes[0] & 0x7f {
        0x70 | 0x71 => {
            assert_eq!(bytes.len(), 8 + usize::from(bytes[7]));
            Seen {
                key: bytes[2] & 0x0f,
                code: (bytes[12], bytes[13]),
                information: (bytes[0] & 0x80 != 0).then(|| be32(bytes, 3).into()),
                ili: bytes[2] & 0x20 != 0,
                deferred: bytes[0] & 1 != 0,
                specific: (bytes[15] & 0x80 != 0).then(|| bytes[15..18].try_into().unwrap()),
                segment: (bytes[2] == 10).then(|| u16::from_be_bytes([bytes[10], bytes[11]])),
                forwarded: forwarded(bytes, bytes[8], Side::Source).or(forwarded(
                    bytes,
                    bytes[9],
                    Side::Destination,
                )),
            }
        }
        0x72 | 0x73 => {
            assert_eq!(bytes.len(), 8 + usize::from(bytes[7]));
            let mut seen = Seen {
                key: bytes[1],
                code: (bytes[2], bytes[3]),
                information: None,
                ili: false,
                deferred: bytes[0] & 1 != 0,
                specific: None,
                segment: None,
                forwarded: None,
            };
            let mut at = 8;
            while at < bytes.len() {
                let end = at + 2 + usize::from(bytes[at + 1]);
                match (bytes[at], end - at) {
                    (0, 12) if bytes[at + 2] == 0x80 => {
                        assert_eq!(seen.information.replace(be64(bytes, at + 4)), None);
                    }
                    (2, 8) if bytes[at + 4] & 0x80 != 0 => {
                        let specific = bytes[at + 4..at + 7].try_into().unwrap();
                        assert_eq!(seen.specific.replace(specific), None);
                    }
                    (5, 4) => {
                        assert_eq!(bytes[at + 2..end], [0, 0x20]);
                        seen.ili = true;
                    }
                    (1, 12) => {
                        let number = be64(bytes, at + 4).try_into().unwrap();
                        assert_eq!(seen.segment.replace(number), None);
                    }
                    (12, 12) => {
                        let side = match bytes[at + 2] {
                            1 => Side::Source,
                            2 => Side::Destination,
                            other => panic!("{other}"),
                        };
                        let of = &bytes[at + 3..end];
                        assert_eq!((of[0], of[1], of[8]), (2, 0x72, 0));
                        seen.forwarded = Some((side, of[2], of[3], of[4]));
                    }
                    _ => panic!("descriptor at {at} of {bytes:x?}"),
                }
                at = end;
            }
            assert_eq!(at, bytes.len());
            seen
        }
        _ => panic!("{bytes:x?}"),
    }
}

fuzz_target!(|input: &[u8]| {
    let mut input = Input::new(input);
    let key = KEYS[input.below(KEYS.len())];
    let asc = Asc {
        code: input.u8(),
        qualifier: input.u8(),
    };
    let information = input.bool().then(|| input.number());
    let specific = match input.below(7) {
        0 => Specific::None,
        1 => Specific::Progress(input.u16()),
        2 => Specific::UnitAttentionOverflow,
        3 => Specific::Copy(CopyFailure {
            segment: input.u16(),
            field: input.bool().then(|| input.u16()),
            cause: input.bool().then(|| {
                let side = [Side::Source, Side::Destination][input.below(2)];
                let asc = Asc {
                    code: input.u8(),
                    qualifier: input.u8(),
                };
                (side, KEYS[input.below(KEYS.len())], asc)
            }),
        }),
        5 => Specific::Deferred,
        4 => Specific::Length(
            FieldPointer {
                in_cdb: true,
                byte: input.u16(),
                bit: None,
            },
            input.number() as i32,
        ),
        _ => Specific::Field(FieldPointer {
            in_cdb: input.bool(),
            byte: input.u16(),
            bit: input.bool().then(|| input.u8()),
        }),
    };
    // It goes with this key alone.
    let key = match specific {
        Specific::Copy(_) => Key::CopyAborted,
        _ => key,
    };
    let sense = Sense {
        key,
        asc,
        specific,
        information,
    };
    for format in [Format::Fixed, Format::Descriptor] {
        let data = sense.encode(format);
        let bytes = data.as_slice();
        assert!(bytes.len() <= SenseData::MAX);
        let seen = read(bytes);
        assert_eq!(
            (seen.key, seen.code),
            (key as u8, (asc.code, asc.qualifier))
        );
        let difference = match specific {
            Specific::Length(_, difference) => Some(difference),
            _ => None,
        };
        assert_eq!(seen.ili, difference.is_some());
        assert_eq!(seen.deferred, specific == Specific::Deferred);
        match (format, difference) {
            (Format::Fixed, Some(d)) => assert_eq!(seen.information, Some(u64::from(d as u32))),
            (Format::Descriptor, Some(d)) => {
                assert_eq!(seen.information.map(|i| i as i64), Some(d.into()));
            }
            // A number that does not fit the fixed format's four bytes is not told at all.
            (Format::Fixed, None) => {
                assert_eq!(seen.information, information.filter(|i| *i <= 0xffff_ffff))
            }
            (Format::Descriptor, None) => assert_eq!(seen.information, information),
        }
        if let Specific::Copy(copy) = specific {
            assert_eq!(seen.segment, Some(copy.segment));
            let cause = copy
                .cause
                .map(|(side, key, asc)| (side, key as u8, asc.code, asc.qualifier));
            assert_eq!(seen.forwarded, cause);
        }
        match (specific, seen.specific) {
            (Specific::None | Specific::Deferred, None) => {}
            (Specific::Copy(copy), seen) => match (copy.field, seen) {
                (None, None) => {}
                (Some(field), Some(bytes)) => {
                    assert_eq!((bytes[0], be16(&bytes, 1)), (0xa0, field.into()));
                }
                (field, seen) => panic!("{field:?} reads as {seen:x?}"),
            },
            (Specific::UnitAttentionOverflow, Some(bytes)) => assert_eq!(bytes, [0x81, 0, 0]),
            (Specific::Progress(done), Some(bytes)) => {
                assert_eq!((bytes[0], be16(&bytes, 1)), (0x80, done.into()));
            }
            (Specific::Field(at) | Specific::Length(at, _), Some(bytes)) => {
                assert_eq!(be16(&bytes, 1), at.byte.into());
                assert_eq!(bytes[0] & 0x40 != 0, at.in_cdb);
                assert_eq!(bytes[0] & 0x08 != 0, at.bit.is_some());
                assert_eq!(bytes[0] & 0x07, at.bit.unwrap_or(0) & 7);
            }
            (_, seen) => panic!("{specific:?} reads as {seen:x?}"),
        }
    }
});
