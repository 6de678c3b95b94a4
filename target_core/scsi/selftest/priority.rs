// SPDX-License-Identifier: GPL-2.0

//! REPORT PRIORITY and SET PRIORITY, and the log page of general statistics.

use super::{bit, byte, hex, written, ALL};
use crate::{
    cdb::{decode, Command, Data, Direction},
    inquiry::Protocol,
    lba::BlockSize,
    log::{self, Known, Request, Reset, Statistics},
    pr::{Name, TransportId},
    primary::Primary,
    priority::{parse, Change, Priority, ReportWriter, Reported, Which},
    sense::Sense,
};

fn command(cdb: &str) -> Result<Command, Sense> {
    decode(&hex(cdb), &ALL).map(|decoded| decoded.command)
}

fn port() -> TransportId {
    TransportId {
        protocol: Protocol::Iscsi,
        name: Name::new(b"iqn.x").unwrap(),
        isid: Some([0x80, 1, 2, 3, 4, 5]),
    }
}

// The TransportID of `port`.
const PORT: &str =
    "45 00 00 18 69 71 6e 2e 78 2c 69 2c 30 78 38 30 30 31 30 32 30 33 30 34 30 35 00 00";

#[test]
fn cdbs() {
    for (bits, reported) in [("00", Reported::Own), ("40", Reported::Changed)] {
        let expected = Primary::ReportPriority {
            reported,
            allocation: 0x102,
        };
        let cdb = std::format!("a3 0e {bits} 00 00 00 00 00 01 02 00 00");
        assert_eq!(command(&cdb), Ok(Command::Primary(expected)));
        let data = Command::Primary(expected).data(BlockSize::B512);
        assert_eq!(
            data,
            Data {
                direction: Direction::In,
                length: 0x102
            }
        );
        assert!(!expected.changes());
    }
    for (bits, which) in [("00", Which::Own), ("40", Which::Named), ("80", Which::All)] {
        let expected = Primary::SetPriority {
            which,
            list_length: 36,
        };
        let cdb = std::format!("a4 0e {bits} 00 00 00 00 00 00 24 00 00");
        assert_eq!(command(&cdb), Ok(Command::Primary(expected)));
        let data = Command::Primary(expected).data(BlockSize::B512);
        assert_eq!(
            data,
            Data {
                direction: Direction::Out,
                length: 36
            }
        );
        assert!(expected.changes());
    }
    for (cdb, sense) in [
        ("a3 0e 80 00 00 00 00 00 01 00 00 00", bit(2, 7)),
        ("a3 0e c0 00 00 00 00 00 01 00 00 00", bit(2, 7)),
        ("a3 0e 20 00 00 00 00 00 01 00 00 00", bit(2, 5)),
        ("a4 0e c0 00 00 00 00 00 00 08 00 00", bit(2, 7)),
        ("a4 0e 00 00 00 00 00 00 04 01 00 00", byte(6)),
    ] {
        assert_eq!(command(cdb), Err(sense), "{cdb}");
    }
}

#[test]
fn lists() {
    let list = hex(&std::format!("07 00 12 34 00 00 00 1c {PORT}"));
    let seven = Priority::new(7);
    for (which, expected) in [
        (Which::Own, Change::Own(seven)),
        (Which::All, Change::All),
        (
            Which::Named,
            Change::Named {
                priority: seven,
                port: 0x1234,
                initiator: port(),
            },
        ),
    ] {
        assert_eq!(parse(which, &list), Ok(expected));
        // What follows does not matter.
        let mut longer = list.clone();
        longer.push(1);
        assert_eq!(parse(which, &longer), Ok(expected));
        let least = match which {
            Which::All => 0,
            Which::Own => 1,
            Which::Named => list.len(),
        };
        for length in 0..list.len() {
            let cut = parse(which, list.get(..length).unwrap());
            if length < least {
                assert_eq!(cut, Err(Sense::PARAMETER_LIST_LENGTH), "{length}");
            } else {
                assert_eq!(cut, Ok(expected), "{length}");
            }
        }
    }
    let wrong = |at: usize, with: u8| {
        let mut list = list.clone();
        list[at] = with;
        parse(Which::Named, &list).unwrap_err()
    };
    let parameter = |byte| Sense::invalid_parameter_byte(byte);
    assert_eq!(wrong(0, 0x17), Sense::invalid_parameter_bit(0, 7));
    assert_eq!(wrong(1, 1), parameter(1));
    assert_eq!(wrong(5, 1), parameter(5));
    assert_eq!(wrong(8, 0x85), parameter(8));
    // All ports of an initiator.
    assert_eq!(
        parse(
            Which::Named,
            &hex(&std::format!(
                "07 00 00 01 00 00 00 18 05 00 00 14 69 71 6e 2e 78{}",
                " 00".repeat(15)
            ))
        ),
        Err(parameter(8))
    );
    // An ADDITIONAL LENGTH that is not the TransportID's.
    let mut longer = list.clone();
    longer[7] = 0x20;
    longer.extend([0; 4]);
    assert_eq!(parse(Which::Named, &longer), Err(parameter(6)));
}

#[test]
fn report() {
    assert_eq!(
        written(|out| ReportWriter::begin(out).end()),
        hex("00 00 00 00")
    );
    let report = written(|out| {
        let mut report = ReportWriter::begin(out);
        report.nexus(Priority::new(3), 1, &port());
        report.nexus(Priority::new(0x1f), 0x0203, &port());
        report.end();
    });
    assert_eq!(
        report,
        hex(&std::format!(
            "00 00 00 48 03 00 00 01 00 00 00 1c {PORT} 0f 00 02 03 00 00 00 1c {PORT}"
        ))
    );
}

#[test]
fn initial() {
    let (none, one, two) = (Priority::default(), Priority::new(1), Priority::new(2));
    assert!(none.is_none() && !one.is_none());
    assert_eq!((none.or(two), one.or(two), none.or(none)), (two, one, none));
}

#[test]
fn statistics() {
    let sense = |cdb: &str| match command(cdb) {
        Ok(Command::Primary(Primary::LogSense { request, .. })) => request,
        other => panic!("{other:?}"),
    };
    let counted = Statistics {
        reads: 1,
        writes: 2,
        received: 3,
        transmitted: 4,
        read_time: 5,
        write_time: 6,
        idle_time: 7,
    };
    let page = |request: &Request| {
        written(|out| {
            let known = Known {
                statistics: counted,
                ..Known::default()
            };
            log::write(request, &known, out).unwrap();
        })
    };
    let interval = "00 03 03 08 00 00 00 06 00 00 00 01";
    let zero = "00 00 00 00 00 00 00";
    let access = [1, 2, 3, 4, 5, 6, 0, 0]
        .map(|n| std::format!(" {zero} {n:02x}"))
        .concat();
    assert_eq!(
        page(&sense("4d 00 59 00 00 00 01 00 ff 00")),
        hex(&std::format!(
            "99 00 00 5c 00 01 02 40 {access} 00 02 02 08 {zero} 07 {interval}"
        ))
    );
    let none = page(&sense("4d 00 d9 00 00 00 00 00 ff 00"));
    assert!(
        none.len() == 96
            && none[8..72]
                .iter()
                .chain(&none[76..84])
                .all(|byte| *byte == 0)
    );
    let from = |from: u8| {
        page(&sense(&std::format!(
            "4d 00 59 00 00 00 {from:02x} 00 ff 00"
        )))
    };
    assert_eq!(
        from(2),
        hex(&std::format!(
            "99 00 00 18 00 02 02 08 {zero} 07 {interval}"
        ))
    );
    assert_eq!(from(3), hex(&std::format!("99 00 00 0c {interval}")));
    assert_eq!(
        command("4c 00 d9 00 00 00 00 00 00 00"),
        Ok(Command::Primary(Primary::LogSelect {
            reset: Reset::Statistics
        }))
    );
    assert_eq!(counted.since(&counted), Statistics::default());
    assert_eq!(counted.since(&Statistics::default()), counted);
}
