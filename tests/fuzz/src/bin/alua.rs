// SPDX-License-Identifier: GPL-2.0

//! Target port groups as a sequence of operations, reported after each and read back by SPC-4, 6.37: what an initiator
//! learns is what was set. The state machine of access states, once there is one, has its place here.
// fuzz: -max_len=128

#![no_main]

use libfuzzer_sys::fuzz_target;
use lio_fuzz::{
    field::{be16, be32},
    written, Input,
};
use lio_scsi::alua::{Group, Report, State, Supported};

/// The codes of SPC-4, table 306.
const STATES: [(State, u8); 7] = [
    (State::Optimized, 0x0),
    (State::NonOptimized, 0x1),
    (State::Standby, 0x2),
    (State::Unavailable, 0x3),
    (State::BlockDependent, 0x4),
    (State::Offline, 0xe),
    (State::Transition, 0xf),
];

/// A group as an initiator sees it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    preferred: bool,
    state: u8,
    supported: u8,
    id: usize,
    status: u8,
    ports: Vec<u16>,
}

/// The header's transition time, where it is extended, and the groups.
fn read(bytes: &[u8], extended: bool) -> (Option<u8>, Vec<Seen>) {
    assert_eq!(be32(bytes, 0) as usize + 4, bytes.len());
    let (mut at, mut groups) = (4, vec![]);
    let transition = extended.then(|| {
        // FORMAT TYPE 001b
        assert_eq!(bytes[4] >> 4 & 7, 1);
        at = 8;
        bytes[5]
    });
    while at < bytes.len() {
        let count = usize::from(bytes[at + 7]);
        groups.push(Seen {
            preferred: bytes[at] & 0x80 != 0,
            state: bytes[at] & 0x0f,
            supported: bytes[at + 1],
            id: be16(bytes, at + 2),
            status: bytes[at + 5],
            ports: (0..count)
                .map(|i| be16(bytes, at + 8 + i * 4 + 2) as u16)
                .collect(),
        });
        at += 8 + 4 * count;
    }
    assert_eq!(at, bytes.len());
    (transition, groups)
}

fuzz_target!(|input: &[u8]| {
    let mut input = Input::new(input);
    let mut groups: Vec<(Group, Vec<u16>)> = vec![];
    let mut model: Vec<Seen> = vec![];
    while !input.is_empty() {
        let which = usize::from(input.u8()) % groups.len().max(1);
        match input.below(8) {
            0 | 1 if groups.len() < 8 => {
                let id = input.u16();
                let group = Group {
                    id,
                    state: State::Optimized,
                    supported: Supported(0),
                    preferred: false,
                    status: 0,
                };
                groups.push((group, vec![]));
                model.push(Seen {
                    id: id.into(),
                    ..Seen::default()
                });
            }
            _ if groups.is_empty() => continue,
            2 => {
                let (state, code) = STATES[input.below(STATES.len())];
                groups[which].0.state = state;
                model[which].state = code;
            }
            3 => {
                let preferred = input.bool();
                groups[which].0.preferred = preferred;
                model[which].preferred = preferred;
            }
            4 => {
                let supported = input.u8();
                groups[which].0.supported = Supported(supported);
                model[which].supported = supported;
            }
            5 => {
                let status = input.u8();
                groups[which].0.status = status;
                model[which].status = status;
            }
            6 => {
                let first = input.u16();
                // TARGET PORT COUNT is one byte: no more than 255 are told.
                let count = match input.u8() {
                    0xf8.. if groups[which].1.len() < 200 => 250,
                    few => u16::from(few & 7),
                };
                let ports = (0..count).map(|i| first.wrapping_add(i));
                groups[which].1.extend(ports.clone());
                model[which].ports.extend(ports);
            }
            _ => {
                groups.remove(which);
                model.remove(which);
            }
        }
    }
    let extended = groups.len() % 2 == 1;
    let transition = extended.then_some(7);
    let most = 8 + groups
        .iter()
        .map(|(_, ports)| 8 + 4 * ports.len())
        .sum::<usize>();
    let bytes = written(most, usize::from(input.u16()), |out| {
        let mut report = Report::begin(out, transition);
        for (group, ports) in &groups {
            report.group(group, ports.iter().copied());
        }
        report.finish();
    });
    for seen in &mut model {
        seen.ports.truncate(255);
    }
    assert_eq!(read(&bytes, extended), (transition, model));
});
