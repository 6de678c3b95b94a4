// SPDX-License-Identifier: GPL-2.0

//! What administrators and initiators do to a logical unit with two target port groups, of one port each, and two nexuses through each
//! port: the model of the fuzz target `access`.
//!
//! A line: what is done, and with what; then the sense (`-`: none, `no`: the administrator is refused), and of both groups state and
//! status, as configfs shows them, then whether the ports are offline.
//!
//!     state GROUP STATE        the administrator sets a state
//!     supports GROUP STATE 0|1 the administrator takes a state from those that are supported, or adds it
//!     offline PORT 0|1         the administrator takes a port away, or brings it back
//!     NAME NEXUS               a command
//!     set NEXUS LIST           SET TARGET PORT GROUPS: STATE:TARGET, …
//!     sense NEXUS              REQUEST SENSE until nothing is left

#[allow(dead_code)]
#[path = "../fuzz/src/model/alua.rs"]
mod model;

use crate::{list, Random};
use model::{refusal, Group, Unit};

const NEXUSES: u64 = 4;
const COMMANDS: [(&str, u8, Option<u8>); 6] = [
    ("tur", 0x00, None),
    ("read", 0x28, None),
    ("inquiry", 0x12, None),
    ("mode", 0x1a, None),
    ("capacity", 0x9e, Some(0x10)),
    ("groups", 0xa3, Some(0x0a)),
];
/// Active/optimized, active/non-optimized, standby, unavailable, and held in a transition.
const STATES: [u8; 5] = [0x0, 0x1, 0x2, 0x3, 0xf];

fn say((key, code, qualifier): (u8, u8, u8)) -> String {
    format!("{key:X}/{code:02x}{qualifier:02x}")
}

/// A command with `opcode` and `action` comes in: what is wrong with it before it is executed.
fn admit(
    unit: &mut Unit,
    nexus: usize,
    opcode: u8,
    action: Option<u8>,
) -> Result<(), (u8, u8, u8)> {
    // INQUIRY, REPORT LUNS and REQUEST SENSE leave unit attentions where they are (SAM-5, 5.14).
    let waiting = &mut unit.nexuses[nexus].1;
    if opcode != 0x12 && !waiting.is_empty() {
        let (code, qualifier) = waiting.remove(0);
        return Err((6, code, qualifier));
    }
    match refusal(unit.seen(nexus), opcode, action) {
        Some(qualifier) => Err((2, 0x04, qualifier)),
        None => Ok(()),
    }
}

/// A target of a SET TARGET PORT GROUPS: one that is there, more often than not.
fn target(random: &mut Random) -> u8 {
    [1, 1, 1, 2, 2, 2, 9][random.below(7) as usize]
}

pub fn sequence(lines: u64, mut random: Random) {
    let mut unit = Unit {
        groups: vec![Group::new(1), Group::new(2)],
        ports: vec![(0, false), (1, false)],
        nexuses: (0..NEXUSES as usize).map(|n| (n % 2, vec![])).collect(),
    };
    for _ in 0..lines {
        let group = random.below(2) as usize;
        let nexus = random.below(NEXUSES) as usize;
        let (done, outcome) = match random.below(20) {
            0..=2 => {
                let state = STATES[random.below(5) as usize];
                let outcome = unit
                    .change(group, state, None)
                    .map_err(|_| "no".to_string());
                (format!("state {} {state}", group + 1), outcome)
            }
            3 => {
                let state = STATES[random.below(4) as usize];
                let on = random.below(3) != 0;
                let supported = &mut unit.groups[group].supported;
                supported.retain(|s| *s != state);
                if on {
                    supported.push(state);
                }
                (
                    format!("supports {} {state} {}", group + 1, u8::from(on)),
                    Ok(()),
                )
            }
            4 => {
                let on = random.below(3) == 0;
                unit.offline(group, on, None);
                (format!("offline {} {}", group + 1, u8::from(on)), Ok(()))
            }
            5..=9 => {
                let (mut wants, mut text) = (vec![0; 4], vec![]);
                for _ in 0..random.below(3) {
                    let state =
                        [0x0, 0x0, 0x1, 0x2, 0x3, 0x4, 0x5, 0xe, 0xf][random.below(9) as usize];
                    let target = target(&mut random);
                    wants.extend([state, 0, 0, target]);
                    text.push(format!("{state}:{target}"));
                }
                let outcome = admit(&mut unit, nexus, 0xa4, Some(0x0a))
                    .and_then(|()| unit.set(nexus, &wants))
                    .map_err(say);
                (format!("set {nexus} {}", list(text.iter())), outcome)
            }
            10 | 11 => {
                let heard: Vec<String> = unit.nexuses[nexus]
                    .1
                    .drain(..)
                    .map(|(c, q)| say((6, c, q)))
                    .collect();
                let outcome = if heard.is_empty() {
                    Ok(())
                } else {
                    Err(list(heard.iter()))
                };
                (format!("sense {nexus}"), outcome)
            }
            _ => {
                let (name, opcode, action) = COMMANDS[random.below(6) as usize];
                let outcome = admit(&mut unit, nexus, opcode, action).map_err(say);
                (format!("{name} {nexus}"), outcome)
            }
        };
        let groups = unit
            .groups
            .iter()
            .map(|g| format!("{}.{}", g.state, g.status));
        let ports = unit.ports.iter().map(|p| u8::from(p.1));
        println!(
            "{done} | {} {} {}",
            outcome.err().unwrap_or_else(|| "-".into()),
            list(groups),
            list(ports)
        );
    }
}
