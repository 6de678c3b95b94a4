// SPDX-License-Identifier: GPL-2.0

//! Primary commands about a unit's parameters, its identity and its buffers.

use super::{bit, byte, hex, written, ALL};
use crate::{
    buffer::{self, Target},
    cdb::{decode, Command, Data, Direction},
    diagnostic,
    identifying::{self, Asked, Kind},
    inquiry::{Port, Protocol},
    lba::BlockSize,
    log::{self, Base, Counters, Known, Page, Request, Reset},
    primary::{ModeSelect, Primary},
    sense::{Asc, Sense},
    task,
    timestamp::{self, Origin, Timestamp},
    vpd,
};
use std::{format, vec::Vec};

fn command(cdb: &str) -> Result<Primary, Sense> {
    match decode(&hex(cdb), &ALL)?.command {
        Command::Primary(primary) => Ok(primary),
        other => panic!("{other:?}"),
    }
}

#[test]
fn cdbs() {
    let select = |ten, revert, save, list_length| {
        Primary::ModeSelect(ModeSelect {
            ten,
            revert,
            save,
            list_length,
        })
    };
    let read = |from, descriptor, allocation| Primary::ReadBuffer {
        from,
        descriptor,
        allocation,
    };
    let data = |offset| Target::Data { offset };
    let counters = |page, default, from| Primary::LogSense {
        request: Request::Counters {
            page,
            default,
            from,
        },
        allocation: 0x0102,
    };
    let (to, from, none) = (Direction::Out, Direction::In, Direction::None);
    for (cdb, expected, direction, length) in [
        ("15 10 00 00 18 00", select(false, false, false, 24), to, 24),
        ("15 02 00 00 00 00", select(false, true, false, 0), none, 0),
        ("15 03 00 00 00 00", select(false, true, true, 0), none, 0),
        ("15 11 00 00 18 00", select(false, false, true, 24), to, 24),
        (
            "55 10 00 00 00 00 00 01 02 00",
            select(true, false, false, 0x102),
            to,
            0x102,
        ),
        (
            "1c 01 00 01 02 00",
            Primary::ReceiveDiagnosticResults { allocation: 0x102 },
            from,
            0x102,
        ),
        (
            "1d 04 00 00 00 00",
            Primary::SendDiagnostic {
                self_test: true,
                list_length: 0,
            },
            none,
            0,
        ),
        (
            "1d 13 00 00 04 00",
            Primary::SendDiagnostic {
                self_test: false,
                list_length: 4,
            },
            to,
            4,
        ),
        (
            "3b 02 00 00 01 02 00 00 10 00",
            Primary::WriteBuffer {
                to: data(0x102),
                list_length: 16,
            },
            to,
            16,
        ),
        (
            "3b 0a 07 00 00 09 00 10 00 00",
            Primary::WriteBuffer {
                to: Target::Echo,
                list_length: 4096,
            },
            to,
            4096,
        ),
        (
            "3c 02 00 01 00 00 00 00 10 00",
            read(data(65536), false, 16),
            from,
            16,
        ),
        (
            "3c 03 00 00 00 00 00 00 04 00",
            read(data(0), true, 4),
            from,
            4,
        ),
        (
            "3c 03 05 00 00 00 00 00 04 00",
            read(Target::Nothing, true, 4),
            from,
            4,
        ),
        (
            "3c 0a 05 00 00 00 ff ff ff 00",
            read(Target::Echo, false, 0xff_ffff),
            from,
            0xff_ffff,
        ),
        (
            "3c 0b 00 00 00 00 00 00 04 00",
            read(Target::Echo, true, 4),
            from,
            4,
        ),
        (
            "4c 02 00 00 00 00 00 00 00 00",
            Primary::LogSelect { reset: Reset::All },
            none,
            0,
        ),
        (
            "4c 00 c3 00 00 00 00 00 00 00",
            Primary::LogSelect {
                reset: Reset::Page(Page::Read),
            },
            none,
            0,
        ),
        (
            "4c 00 43 00 00 00 00 00 00 00",
            Primary::LogSelect {
                reset: Reset::Nothing,
            },
            none,
            0,
        ),
        (
            "4c 00 40 00 00 00 00 10 00 00",
            Primary::LogSelectList { list_length: 4096 },
            to,
            4096,
        ),
        (
            "4d 00 4c 00 00 00 02 01 02 00",
            Primary::LogSense {
                request: Request::Provisioning { from: 2 },
                allocation: 0x102,
            },
            from,
            0x102,
        ),
        (
            "4d 00 42 00 00 00 05 01 02 00",
            counters(Page::Write, false, 5),
            from,
            0x102,
        ),
        (
            "4d 00 c5 00 00 00 00 01 02 00",
            counters(Page::Verify, true, 0),
            from,
            0x102,
        ),
        (
            "4d 00 00 ff 00 00 00 00 08 00",
            Primary::LogSense {
                request: Request::Supported { subpages: true },
                allocation: 8,
            },
            from,
            8,
        ),
        (
            "a3 05 00 00 00 00 00 00 01 02 fe 00",
            Primary::ReportIdentifyingInformation {
                kind: Asked::Supported,
                allocation: 0x102,
            },
            from,
            0x102,
        ),
        (
            "a4 06 00 00 00 00 00 00 01 00 04 00",
            Primary::SetIdentifyingInformation {
                kind: Kind::Text,
                list_length: 256,
            },
            to,
            256,
        ),
        (
            "a3 0d 80 00 00 00 00 00 00 10 00 00",
            Primary::ReportTaskManagementFunctions {
                extended: true,
                allocation: 16,
            },
            from,
            16,
        ),
        (
            "a3 0f 00 00 00 00 00 00 00 0c 00 00",
            Primary::ReportTimestamp { allocation: 12 },
            from,
            12,
        ),
        (
            "a4 0f 00 00 00 00 00 00 00 0c 00 00",
            Primary::SetTimestamp { list_length: 12 },
            to,
            12,
        ),
    ] {
        assert_eq!(command(cdb), Ok(expected), "{cdb}");
        let data = Command::Primary(expected).data(BlockSize::B512);
        assert_eq!(data, Data { direction, length }, "{cdb}");
    }
}

#[test]
fn cdb_refusals() {
    // SP where nothing can be saved.
    let saves_nothing = crate::cdb::Features {
        saves_mode: false,
        ..ALL
    };
    for cdb in ["15 11 00 00 18 00", "55 11 00 00 00 00 00 00 18 00"] {
        assert_eq!(decode(&hex(cdb), &saves_nothing).unwrap_err(), bit(1, 0));
    }
    for (cdb, sense) in [
        // No PF; RTD with a list; a list that is too long.
        ("15 00 00 00 18 00", bit(1, 4)),
        ("15 12 00 00 18 00", byte(4)),
        ("55 10 00 00 00 00 00 10 01 00", byte(7)),
        ("1c 01 40 00 04 00", byte(2)),
        // A self-test with a list, other self-tests, no PF.
        ("1d 14 00 00 04 00", byte(3)),
        ("1d 20 00 00 00 00", bit(1, 7)),
        ("1d a0 00 00 00 00", bit(1, 7)),
        ("1d 00 00 00 04 00", bit(1, 4)),
        // Microcode; header and data; another buffer; beyond its end.
        ("3b 05 00 00 00 00 00 00 10 00", bit(1, 4)),
        ("3b 00 00 00 00 00 00 00 10 00", bit(1, 4)),
        ("3b 02 01 00 00 00 00 00 10 00", byte(2)),
        ("3b 02 00 01 00 01 00 00 10 00", byte(3)),
        ("3b 02 00 00 ff ff 00 00 02 00", byte(6)),
        ("3b 0a 00 00 00 00 00 10 01 00", byte(6)),
        ("3c 1c 00 00 00 00 00 00 10 00", bit(1, 4)),
        ("3c 02 01 00 00 00 00 00 10 00", byte(2)),
        ("3c 02 00 01 00 01 00 00 10 00", byte(3)),
        // SP; an unknown page; a subpage; a list; thresholds.
        ("4c 03 00 00 00 00 00 00 00 00", bit(1, 0)),
        ("4c 02 04 00 00 00 00 00 00 00", bit(2, 5)),
        ("4c 02 02 01 00 00 00 00 00 00", byte(3)),
        ("4c 00 42 00 00 00 00 00 04 00", bit(2, 5)),
        // With a list: a subpage, default values, thresholds, PCR, too long.
        ("4c 00 40 01 00 00 00 00 04 00", byte(3)),
        ("4c 00 c0 00 00 00 00 00 04 00", bit(2, 7)),
        ("4c 00 00 00 00 00 00 00 04 00", bit(2, 7)),
        ("4c 02 40 00 00 00 00 00 04 00", byte(7)),
        ("4c 00 40 00 00 00 00 10 01 00", byte(7)),
        ("4d 00 4c 00 00 00 03 00 ff 00", byte(5)),
        ("4d 00 4c 01 00 00 00 00 ff 00", byte(3)),
        ("4c 00 82 00 00 00 00 00 00 00", bit(2, 7)),
        ("4d 01 42 00 00 00 00 00 ff 00", bit(1, 0)),
        ("4d 00 00 01 00 00 00 00 ff 00", byte(3)),
        ("4d 00 42 00 00 00 07 00 ff 00", byte(5)),
        ("4d 00 00 00 00 00 01 00 ff 00", byte(5)),
        ("4d 00 02 00 00 00 00 00 ff 00", bit(2, 7)),
        ("a3 05 00 00 00 00 00 00 00 20 02 00", bit(10, 7)),
        ("a4 06 00 00 00 00 00 00 00 41 00 00", byte(6)),
        ("a4 06 00 00 00 00 00 00 01 01 04 00", byte(6)),
        ("a4 06 00 00 00 00 00 00 00 00 fe 00", bit(10, 7)),
        ("a4 0f 00 00 00 00 00 01 00 0c 00 00", byte(6)),
    ] {
        assert_eq!(command(cdb), Err(sense), "{cdb}");
    }
}

fn page_of(request: &Request, known: &Known) -> Vec<u8> {
    written(|out| log::write(request, known, out).unwrap())
}

#[test]
fn log_pages() {
    let counters = Counters {
        written: 0x0102_0304_0506,
        write_errors: 7,
        read: 9,
        read_errors: 1,
        verified: 0x11,
        verify_errors: 2,
    };
    let known = Known {
        counters,
        ..Known::default()
    };
    let page = |page, default, from| {
        let request = Request::Counters {
            page,
            default,
            from,
        };
        page_of(&request, &known)
    };
    assert_eq!(
        page(Page::Write, false, 0),
        hex("82 00 00 18 00 05 00 08 00 00 01 02 03 04 05 06 00 06 00 08 00 00 00 00 00 00 00 07")
    );
    assert_eq!(
        page(Page::Read, false, 6),
        hex("83 00 00 0c 00 06 00 08 00 00 00 00 00 00 00 01")
    );
    assert_eq!(
        page(Page::Verify, true, 0),
        hex("85 00 00 18 00 05 00 08 00 00 00 00 00 00 00 00 00 06 00 08 00 00 00 00 00 00 00 00")
    );
    let list = |subpages| page_of(&Request::Supported { subpages }, &known);
    assert_eq!(list(false), hex("00 00 00 08 00 02 03 05 0d 0e 19 2f"));
    assert_eq!(
        list(true),
        [
            hex("40 ff 00 52 00 00 00 ff 02 00 03 00 05 00 0d 00 0d 01 0e 00 19 00"),
            (1..32).flat_map(|group| [0x19, group]).collect(),
            hex("2f 00"),
        ]
        .concat()
    );
}

#[test]
fn log_lists() {
    let known = Known {
        cycles: 0x0102_0304,
        ..Known::default()
    };
    for (cdb, page) in [
        (
            "4d 00 4d 00 00 00 00 00 ff 00",
            "8d 00 00 06 00 00 03 02 00 ff",
        ),
        (
            "4d 00 4d 01 00 00 00 00 ff 00",
            "cd 01 00 0c 00 00 03 08 00 80 80 80 80 80 00 00",
        ),
        (
            "4d 00 4e 00 00 00 04 00 ff 00",
            "8e 00 00 08 00 04 03 04 01 02 03 04",
        ),
        (
            "4d 00 4d ff 00 00 00 00 ff 00",
            "4d ff 00 06 0d 00 0d 01 0d ff",
        ),
        ("4d 00 42 ff 00 00 00 00 ff 00", "42 ff 00 04 02 00 02 ff"),
    ] {
        let Ok(Primary::LogSense { request, .. }) = command(cdb) else {
            panic!("{cdb}");
        };
        assert_eq!(page_of(&request, &known), hex(page), "{cdb}");
    }
    for (cdb, at) in [
        ("4d 00 4d 02 00 00 00 00 ff 00", byte(3)),
        ("4d 00 4e 01 00 00 00 00 ff 00", byte(3)),
        ("4d 00 4d 00 00 00 01 00 ff 00", byte(5)),
        ("4d 00 4e 00 00 00 05 00 ff 00", byte(5)),
        ("4d 00 42 ff 00 00 01 00 ff 00", byte(5)),
        ("4d 00 59 00 00 00 04 00 ff 00", byte(5)),
        ("4d 00 19 00 00 00 00 00 ff 00", bit(2, 7)),
        ("4d 00 5a 00 00 00 00 00 ff 00", bit(2, 5)),
        ("4d 00 5a ff 00 00 00 00 ff 00", bit(2, 5)),
    ] {
        assert_eq!(command(cdb), Err(at), "{cdb}");
    }
    // Nothing of them is reset.
    for cdb in [
        "4c 02 cd 00 00 00 00 00 00 00",
        "4c 02 cd 01 00 00 00 00 00 00",
    ] {
        let nothing = Primary::LogSelect {
            reset: Reset::Nothing,
        };
        assert_eq!(command(cdb), Ok(nothing));
    }
    // The subpages of a page that the unit does not have.
    let request = Request::Subpages { code: 0x0c };
    let mut result = Ok(());
    let bytes = written(|out| result = log::write(&request, &known, out));
    assert_eq!((result, bytes.len()), (Err(bit(2, 5)), 0));
}

#[test]
fn informational_exceptions() {
    let page = |exception| {
        let known = Known {
            exception,
            ..Known::default()
        };
        page_of(&Request::Exceptions, &known)
    };
    assert_eq!(page(None), hex("af 00 00 08 00 00 03 04 00 00 ff 00"));
    assert_eq!(
        page(Some(Asc::FAILURE_PREDICTION_TEST)),
        hex("af 00 00 08 00 00 03 04 5d ff ff 00")
    );
    for control in ["2f", "6f", "af", "ef"] {
        let cdb = format!("4d 00 {control} 00 00 00 00 00 ff 00");
        let expected = Primary::LogSense {
            request: Request::Exceptions,
            allocation: 255,
        };
        assert_eq!(command(&cdb), Ok(expected));
    }
    let refused = command("4d 00 6f 00 00 00 01 00 ff 00");
    assert_eq!(refused, Err(byte(5)));
    assert_eq!(
        command("4c 02 6f 00 00 00 00 00 00 00"),
        Ok(Primary::LogSelect {
            reset: Reset::Nothing
        })
    );
}

#[test]
fn log_resets() {
    let now = Counters {
        written: 10,
        write_errors: 1,
        read: 20,
        read_errors: 2,
        verified: 4,
        verify_errors: 3,
    };
    let none = Counters::default();
    let after = |reset| {
        let mut base = Base::default();
        base.reset(&now, reset);
        base
    };
    assert_eq!(after(Reset::Nothing).shown(&now), now);
    assert_eq!(after(Reset::All).shown(&now), none);
    assert_eq!(
        after(Reset::Page(Page::Write)).shown(&now),
        Counters {
            written: 0,
            write_errors: 0,
            ..now
        }
    );
    assert_eq!(
        after(Reset::Page(Page::Verify)).shown(&now),
        Counters {
            verified: 0,
            verify_errors: 0,
            ..now
        }
    );
    // What was set counts on from there, and stays at the most that there is.
    let mut base = after(Reset::All);
    let full = Counters {
        written: u64::MAX - 1,
        read: 5,
        ..now
    };
    base.set(&now, &full);
    assert_eq!(base.shown(&now), full);
    let later = Counters {
        written: 17,
        read: 21,
        ..now
    };
    assert_eq!(
        base.shown(&later),
        Counters {
            written: u64::MAX,
            read: 6,
            ..now
        }
    );
    base.reset(&later, Reset::Page(Page::Write));
    assert_eq!(base.shown(&later).written, 0);
    assert_eq!(base.shown(&later).read, 6);
}

#[test]
fn log_select_lists() {
    let now = Counters {
        written: 10,
        write_errors: 1,
        read: 20,
        read_errors: 2,
        verified: 4,
        verify_errors: 3,
    };
    let set = |list: &str| log::select(&now, &hex(list));
    let written = "00 05 00 08 00 00 00 00 00 00 01 00";
    let errors = "00 06 00 08 00 00 00 00 00 00 00 09";
    assert_eq!(log::select(&now, &[]), Ok(now));
    assert_eq!(set("02 00 00 00"), Ok(now));
    assert_eq!(
        set(&format!(
            "82 00 00 18 {written} {errors} 05 00 00 0c {errors}"
        )),
        Ok(Counters {
            written: 256,
            write_errors: 9,
            verify_errors: 9,
            ..now
        })
    );
    // What LOG SENSE shows can be sent back.
    let known = Known {
        counters: now,
        ..Known::default()
    };
    let shown = page_of(
        &Request::Counters {
            page: Page::Read,
            default: false,
            from: 0,
        },
        &known,
    );
    assert_eq!(log::select(&now, &shown), Ok(now));
    let wrong = |at| Err(Sense::invalid_parameter_byte(at));
    let wrong_bit = |at, bit| Err(Sense::invalid_parameter_bit(at, bit));
    for (list, expected) in [
        // No such page; a page without counters; a subpage; SPF; pages and parameters out of order.
        ("04 00 00 00", wrong_bit(0, 5)),
        ("2f 00 00 00", wrong_bit(0, 5)),
        ("02 01 00 00", wrong(1)),
        ("42 00 00 00", wrong_bit(0, 6)),
        ("03 00 00 00 02 00 00 00", wrong_bit(4, 5)),
        (&format!("02 00 00 18 {errors} {written}"), wrong(16)),
        (&format!("02 00 00 18 {errors} {errors}"), wrong(16)),
        // No such parameter; a threshold that is met; another length.
        ("02 00 00 0c 00 07 00 08 00 00 00 00 00 00 00 00", wrong(4)),
        (
            "02 00 00 0c 00 05 04 08 00 00 00 00 00 00 00 00",
            wrong_bit(6, 2),
        ),
        ("02 00 00 08 00 05 00 04 00 00 00 00", wrong(7)),
    ] {
        assert_eq!(set(list), expected, "{list}");
    }
    let list = hex(&format!(
        "02 00 00 18 {written} {errors} 05 00 00 0c {errors}"
    ));
    for length in 1..list.len() {
        let cut = log::select(&now, &list[..length]);
        match length {
            28 => assert!(cut.is_ok()),
            _ => assert_eq!(cut, Err(Sense::PARAMETER_LIST_LENGTH), "{length}"),
        }
    }
}

#[test]
fn timestamps() {
    assert_eq!(
        written(|out| timestamp::write(Timestamp(0x0102_0304_0506), Origin::Set, out)),
        hex("00 0a 02 00 01 02 03 04 05 06 00 00")
    );
    assert_eq!(timestamp::parse(&[]), Ok(None));
    assert_eq!(
        timestamp::parse(&hex("00 00 00 00 01 02 03 04 05 06 00 00")),
        Ok(Some(Timestamp(0x0102_0304_0506)))
    );
    for length in 1..12 {
        assert_eq!(
            timestamp::parse(&hex("00 00 00 00 01 02 03 04 05 06 00 00")[..length]),
            Err(Sense::PARAMETER_LIST_LENGTH)
        );
    }
    for at in [0, 1, 2, 3, 10, 11] {
        let mut list = hex("00 00 00 00 01 02 03 04 05 06 00 00");
        list[at] = 1;
        assert_eq!(
            timestamp::parse(&list),
            Err(Sense::invalid_parameter_byte(at as u16))
        );
    }
}

#[test]
fn identifying_information() {
    let report = |kind, kept: &[u8]| written(|out| identifying::write(kind, kept, out));
    assert_eq!(report(Kind::Device, b""), hex("00 00 00 00"));
    assert_eq!(report(Kind::Device, b"ab"), hex("00 00 00 02 61 62"));
    assert_eq!(report(Kind::Text, b"ab"), hex("00 00 00 03 61 62 00"));
    assert_eq!(report(Kind::Text, b""), hex("00 00 00 00"));
    assert_eq!(
        written(identifying::write_supported),
        hex("00 00 00 08 00 00 00 40 04 00 01 00")
    );
    assert_eq!(
        identifying::parse(Kind::Device, b"\0\xff"),
        Ok(&b"\0\xff"[..])
    );
    assert_eq!(identifying::parse(Kind::Text, b""), Ok(&b""[..]));
    assert_eq!(identifying::parse(Kind::Text, b"\0"), Ok(&b""[..]));
    assert_eq!(
        identifying::parse(Kind::Text, "gr\u{fc}n\0".as_bytes()),
        Ok("gr\u{fc}n".as_bytes())
    );
    for (text, at) in [
        (&b"ab"[..], 1),
        (b"a\0b", 1),
        (b"a\xffb\0", 1),
        (b"abc\n\0", 3),
    ] {
        assert_eq!(
            identifying::parse(Kind::Text, text),
            Err(Sense::invalid_parameter_byte(at))
        );
    }
}

#[test]
fn diagnostic_pages() {
    assert_eq!(written(diagnostic::write), hex("00 00 00 01 00"));
    assert_eq!(diagnostic::check(&[]), Ok(()));
    assert_eq!(diagnostic::check(&[0; 4]), Ok(()));
    let wrong = |at| Err(Sense::invalid_parameter_byte(at));
    assert_eq!(diagnostic::check(&hex("40 00 00 00")), wrong(0));
    assert_eq!(diagnostic::check(&hex("00 01 00 00")), wrong(1));
    assert_eq!(diagnostic::check(&hex("00 00 00 01 00")), wrong(2));
    for length in 1..4 {
        assert_eq!(
            diagnostic::check(&[0; 4][..length]),
            Err(Sense::PARAMETER_LIST_LENGTH)
        );
    }
}

#[test]
fn buffer_descriptors() {
    let of = |target| written(|out| buffer::descriptor(target, out));
    assert_eq!(of(Target::Data { offset: 0 }), hex("00 01 00 00"));
    assert_eq!(of(Target::Echo), hex("00 00 10 00"));
    assert_eq!(of(Target::Nothing), hex("00 00 00 00"));
}

#[test]
fn task_management_functions() {
    assert_eq!(
        written(|out| task::write_functions(None, out)),
        hex("da 00 00 00")
    );
    assert_eq!(
        written(|out| task::write_functions(Some(300), out)),
        hex("da 00 00 0c 01 00 00 00 00 00 01 2c 00 00 00 00")
    );
}

#[test]
fn pages_of_policy_and_ports() {
    let port = |relative_id, target| Port {
        protocol: Protocol::Iscsi,
        relative_id,
        group: None,
        target,
        tag: 0x12,
    };
    let ports = [port(1, &b"iqn.a"[..]), port(0x102, b"iqn.bcd")];
    let unit = super::pages::UNIT;
    let unit = crate::inquiry::Unit {
        ports: &ports,
        ..unit
    };
    let page = |code| written(|out| vpd::write(&unit, code, out).unwrap());
    assert_eq!(page(0x87), hex("00 87 00 04 3f ff 00 00"));
    let mut expected = hex("00 88 00 40");
    let names: [&[u8]; 2] = [b"iqn.a,t,0x0012\0\0", b"iqn.bcd,t,0x0012"];
    for (id, name) in [(1u16, names[0]), (0x102, names[1])] {
        let mut padded: Vec<u8> = name.to_vec();
        if padded.last() != Some(&0) {
            padded.extend([0; 4]);
        }
        expected.extend([0, 0]);
        expected.extend(id.to_be_bytes());
        expected.extend([0; 6]);
        expected.extend((padded.len() as u16 + 4).to_be_bytes());
        expected.extend([0x53, 0x98, 0, padded.len() as u8]);
        expected.extend(padded);
    }
    expected[3] = (expected.len() - 4) as u8;
    assert_eq!(page(0x88), expected);
}
