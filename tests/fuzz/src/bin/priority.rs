// SPDX-License-Identifier: GPL-2.0

//! SET PRIORITY's list and REPORT PRIORITY's data (SPC-5, 6.34 and 6.44): what a list sets is what is reported.
// fuzz: -max_len=300

#![no_main]

use libfuzzer_sys::fuzz_target;
use lio_fuzz::{
    field::{be16, be32},
    written, Input,
};
use lio_scsi::{
    pr::TransportId,
    priority::{parse, Change, Priority, ReportWriter, Which},
    sense::{Asc, Sense, Specific},
};

#[derive(Debug, PartialEq)]
enum Verdict {
    Length,
    /// The byte that is wrong.
    Field(usize),
    All,
    Own(u8),
    /// With its priority and its port: the TransportID is as long as the list says.
    Named(u8, usize),
}

/// What the list says, but for what is wrong with a TransportID, which the target `pr` is about.
fn model(which: Which, list: &[u8]) -> Verdict {
    if which == Which::All {
        return Verdict::All;
    }
    match list {
        [] => return Verdict::Length,
        [priority, ..] if *priority > 15 => return Verdict::Field(0),
        [priority, ..] if which == Which::Own => return Verdict::Own(*priority),
        [_, ..] if list.len() < 8 => return Verdict::Length,
        _ => {}
    }
    if let Some(at) = [1, 4, 5].into_iter().find(|at| list[*at] != 0) {
        return Verdict::Field(at);
    }
    if list.len() < 8 + be16(list, 6) {
        return Verdict::Length;
    }
    Verdict::Named(list[0], be16(list, 2))
}

fn refusal(sense: Sense) -> Verdict {
    match sense.specific {
        Specific::Field(at) => {
            assert!(!at.in_cdb && sense.asc == Asc::INVALID_FIELD_IN_PARAMETER_LIST);
            Verdict::Field(at.byte.into())
        }
        _ => {
            assert_eq!(sense, Sense::PARAMETER_LIST_LENGTH);
            Verdict::Length
        }
    }
}

fn report(short: usize, nexuses: &[(Priority, u16, TransportId)]) -> Vec<u8> {
    written(4 + nexuses.len() * 300, short, |out| {
        let mut report = ReportWriter::begin(out);
        for (priority, port, id) in nexuses {
            report.nexus(*priority, *port, id);
        }
        report.end();
    })
}

fuzz_target!(|input: &[u8]| {
    let mut input = Input::new(input);
    let (bits, short) = (input.u8(), usize::from(input.u8()));
    let Some(which) = Which::new(bits & 3) else {
        return;
    };
    let list = input.rest();
    let expected = model(which, list);
    let change = match parse(which, list) {
        Err(sense) => {
            let got = refusal(sense);
            match (&expected, &got) {
                // The TransportID, or the length that is not its own.
                (Verdict::Named(..), Verdict::Field(at)) => assert!((6..list.len()).contains(at)),
                (Verdict::Named(..), Verdict::Length) => {}
                _ => assert_eq!(got, expected),
            }
            return;
        }
        Ok(change) => change,
    };
    let (priority, port, initiator) = match change {
        Change::All => return assert_eq!(expected, Verdict::All),
        Change::Own(priority) => return assert_eq!(expected, Verdict::Own(priority.get())),
        Change::Named {
            priority,
            port,
            initiator,
        } => (priority, port, initiator),
    };
    assert_eq!(expected, Verdict::Named(priority.get(), port.into()));
    // A descriptor of the report is such a list.
    let nexuses = [(priority, port, initiator); 3];
    let bytes = report(short, &nexuses[..usize::from(bits >> 2 & 3)]);
    assert_eq!(be32(&bytes, 0) as usize + 4, bytes.len());
    let mut rest = &bytes[4..];
    while !rest.is_empty() {
        let (one, more) = rest.split_at(8 + be16(rest, 6));
        assert_eq!(parse(Which::Named, one), Ok(change));
        rest = more;
    }
});
