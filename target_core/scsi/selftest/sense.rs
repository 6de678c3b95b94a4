// SPDX-License-Identifier: GPL-2.0

//! Sense data in both formats.

use super::hex;
use crate::{
    sense::{Asc, CopyFailure, Format, Key, Sense, Side, Specific},
    status::Status,
};

#[test]
fn both_formats() {
    let progress = Sense {
        specific: Specific::Progress(0x8000),
        ..Sense::new(Key::NotReady, Asc::BECOMING_READY)
    };
    let overflow = Sense {
        specific: Specific::UnitAttentionOverflow,
        ..Sense::unit_attention(Asc::RESET)
    };
    let table = [
        (
            Sense::NO_SENSE,
            "70 00 00 00 00 00 00 0a 00 00 00 00 00 00 00 00 00 00",
            "72 00 00 00 00 00 00 00",
        ),
        (
            Sense::invalid_cdb_bit(1, 7),
            "70 00 05 00 00 00 00 0a 00 00 00 00 24 00 00 cf 00 01",
            "72 05 24 00 00 00 00 08  02 06 00 00 cf 00 01 00",
        ),
        (
            Sense::invalid_cdb_byte(0x102),
            "70 00 05 00 00 00 00 0a 00 00 00 00 24 00 00 c0 01 02",
            "72 05 24 00 00 00 00 08  02 06 00 00 c0 01 02 00",
        ),
        (
            Sense::invalid_parameter_byte(16),
            "70 00 05 00 00 00 00 0a 00 00 00 00 26 00 00 80 00 10",
            "72 05 26 00 00 00 00 08  02 06 00 00 80 00 10 00",
        ),
        (
            Sense::MISCOMPARE.with_information(0x1234),
            "f0 00 0e 00 00 12 34 0a 00 00 00 00 1d 00 00 00 00 00",
            "72 0e 1d 00 00 00 00 0c  00 0a 80 00 00 00 00 00 00 00 12 34",
        ),
        (
            // An LBA that the fixed format cannot carry.
            Sense::READ_ERROR.with_information(0x1_0000_0000),
            "70 00 03 00 00 00 00 0a 00 00 00 00 11 00 00 00 00 00",
            "72 03 11 00 00 00 00 0c  00 0a 80 00 00 00 00 01 00 00 00 00",
        ),
        (
            progress,
            "70 00 02 00 00 00 00 0a 00 00 00 00 04 01 00 80 80 00",
            "72 02 04 01 00 00 00 08  02 06 00 00 80 80 00 00",
        ),
        (
            overflow,
            "70 00 06 00 00 00 00 0a 00 00 00 00 29 00 00 81 00 00",
            "72 06 29 00 00 00 00 08  02 06 00 00 81 00 00 00",
        ),
        (
            Sense::invalid_cdb_byte(2).with_information(7),
            "f0 00 05 00 00 00 07 0a 00 00 00 00 24 00 00 c0 00 02",
            "72 05 24 00 00 00 00 14  00 0a 80 00 00 00 00 00 00 00 00 07
             02 06 00 00 c0 00 02 00",
        ),
        (
            // The destination of segment 2 says that it is write protected; 5 units are left.
            Sense {
                specific: Specific::Copy(CopyFailure {
                    segment: 2,
                    field: Some(20),
                    cause: Some((Side::Destination, Key::DataProtect, Asc::WRITE_PROTECTED)),
                }),
                ..Sense::new(Key::CopyAborted, Asc::THIRD_PARTY_DEVICE_FAILURE)
            }
            .with_information(5),
            "f0 00 0a 00 00 00 05 1d 00 12 00 02 0d 01 00 a0 00 14
             02 70 00 07 00 00 00 00 0a 00 00 00 00 27 00 00 00 00 00",
            "72 0a 0d 01 00 00 00 2c  00 0a 80 00 00 00 00 00 00 00 00 05
             02 06 00 00 a0 00 14 00  01 0a 00 00 00 00 00 00 00 00 00 02
             0c 0a 02 02 72 07 27 00  00 00 00 00",
        ),
        (
            Sense {
                specific: Specific::Copy(CopyFailure {
                    segment: 0x102,
                    field: None,
                    cause: None,
                }),
                ..Sense::new(Key::CopyAborted, Asc::UNREACHABLE_COPY_TARGET)
            },
            "70 00 0a 00 00 00 00 0a 00 00 01 02 08 04 00 00 00 00",
            "72 0a 08 04 00 00 00 0c  01 0a 00 00 00 00 00 00 00 00 01 02",
        ),
    ];
    for (sense, fixed, descriptor) in table {
        assert_eq!(
            sense.encode(Format::Fixed).as_slice(),
            hex(fixed),
            "{sense:?}"
        );
        assert_eq!(
            sense.encode(Format::Descriptor).as_slice(),
            hex(descriptor),
            "{sense:?}"
        );
    }
}

#[test]
fn status_codes() {
    let codes = [
        (Status::Good, 0x00),
        (Status::CheckCondition, 0x02),
        (Status::ConditionMet, 0x04),
        (Status::Busy, 0x08),
        (Status::ReservationConflict, 0x18),
        (Status::TaskSetFull, 0x28),
        (Status::AcaActive, 0x30),
        (Status::TaskAborted, 0x40),
    ];
    for (status, code) in codes {
        assert_eq!(status.code(), code);
    }
}
