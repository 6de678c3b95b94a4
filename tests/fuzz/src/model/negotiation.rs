// SPDX-License-Identifier: GPL-2.0

//! What both sides of a login agree on, told from the texts that they exchanged alone (RFC 7143, 6.2 and 13).

use super::{number, pairs};

/// How a key is negotiated, and what its numbers may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// The smaller one of two numbers.
    Min(u64, u64),
    /// The larger one.
    Max(u64, u64),
    /// Yes if one says so.
    Or,
    /// Yes if both say so.
    And,
    /// Each side says its own; there is no answer.
    Declared(u64, u64),
    /// One of a list.
    List,
}

use Rule::*;

/// The operational keys of clause 13, with what holds when nobody says anything.
pub const KEYS: [(&str, Rule, &str); 17] = [
    ("HeaderDigest", List, "None"),
    ("DataDigest", List, "None"),
    ("MaxConnections", Min(1, 65_535), "1"),
    ("InitialR2T", Or, "Yes"),
    ("ImmediateData", And, "Yes"),
    ("MaxRecvDataSegmentLength", Declared(512, 0xff_ffff), "8192"),
    ("MaxBurstLength", Min(512, 0xff_ffff), "262144"),
    ("FirstBurstLength", Min(512, 0xff_ffff), "65536"),
    ("DefaultTime2Wait", Max(0, 3_600), "2"),
    ("DefaultTime2Retain", Min(0, 3_600), "20"),
    ("MaxOutstandingR2T", Min(1, 65_535), "1"),
    ("DataPDUInOrder", Or, "Yes"),
    ("DataSequenceInOrder", Or, "Yes"),
    ("ErrorRecoveryLevel", Min(0, 2), "0"),
    ("TaskReporting", List, "RFC3720"),
    ("iSCSIProtocolLevel", Min(0, 31), "1"),
    ("RDMAExtensions", And, "No"),
];

/// What was said about a key.
#[derive(Clone, Default)]
struct Said {
    /// By the initiator, unasked.
    offered: Option<Vec<u8>>,
    /// By the target, unasked.
    proposed: Option<Vec<u8>>,
    /// What the other side answered.
    agreed: Option<Vec<u8>>,
}

/// A negotiation as somebody sees it who reads along.
pub struct Transcript {
    keys: Vec<Said>,
}

impl Default for Transcript {
    fn default() -> Self {
        Self {
            keys: vec![Said::default(); KEYS.len()],
        }
    }
}

/// The row of a key.
pub fn row(name: &[u8]) -> Option<usize> {
    KEYS.iter().position(|(known, ..)| known.as_bytes() == name)
}

fn yes(value: &[u8]) -> bool {
    match value {
        b"Yes" => true,
        b"No" => false,
        _ => panic!("a boolean {value:?}"),
    }
}

/// Whether a value is one that the key may have.
fn admissible(rule: Rule, default: &str, value: &[u8]) -> bool {
    match rule {
        Min(min, max) | Max(min, max) | Declared(min, max) => {
            number(value).is_some_and(|n| (min..=max).contains(&n))
        }
        Or | And => value == b"Yes" || value == b"No",
        // Of each list this target has the default, and knows no more.
        List => value
            .split(|byte| *byte == b',')
            .any(|one| one == default.as_bytes()),
    }
}

/// Whether `answer` is a right one to `offer` (6.2.1, 6.2.2).
fn check(rule: Rule, offer: &[u8], answer: &[u8]) {
    let both = || (number(offer).unwrap(), number(answer).unwrap());
    match rule {
        Min(min, max) => {
            let (offer, answer) = both();
            assert!(
                (min..=max).contains(&answer) && (min..=max).contains(&offer) && answer <= offer
            );
        }
        Max(min, max) => {
            let (offer, answer) = both();
            assert!(
                (min..=max).contains(&answer) && (min..=max).contains(&offer) && answer >= offer
            );
        }
        Or => assert!(!yes(offer) || yes(answer)),
        And => assert!(yes(offer) || !yes(answer)),
        List => assert!(offer.split(|byte| *byte == b',').any(|one| one == answer)),
        Declared(..) => panic!("an answer to a declaration"),
    }
}

/// The value of each operational key in a text.
fn values(text: &[u8]) -> [Option<&[u8]>; KEYS.len()] {
    let mut values = [None; KEYS.len()];
    for (key, value) in pairs(text) {
        if let Some(i) = row(key) {
            assert_eq!(values[i].replace(value), None, "{} twice", KEYS[i].0);
        }
    }
    values
}

impl Transcript {
    /// The initiator has said `request`, and the target, satisfied, `response`. `again`: the initiator may have said the same
    /// before.
    pub fn exchange(&mut self, request: &[u8], response: &[u8], again: bool) {
        let (said, answers) = (values(request), values(response));
        for (i, (name, rule, default)) in KEYS.iter().enumerate() {
            let key = &mut self.keys[i];
            let mut asked = false;
            let same = again && said[i].is_some() && said[i] == key.offered.as_deref();
            match (said[i], &key.proposed, rule) {
                (None, ..) => {}
                (Some(_), _, Declared(..)) if same => {}
                (Some(_), None, _) if same => {
                    let answer = answers[i].expect("an offer without an answer");
                    asked = true;
                    assert!(key.agreed.as_deref().is_none_or(|agreed| agreed == answer));
                }
                (Some(value), _, Declared(min, max)) => {
                    assert!((*min..=*max).contains(&number(value).unwrap()), "{name}");
                    assert!(key.offered.replace(value.into()).is_none(), "{name} twice");
                }
                (Some(value), Some(proposed), _) => {
                    check(*rule, proposed, value);
                    assert!(key.agreed.replace(value.into()).is_none(), "{name} twice");
                }
                (Some(value), None, _) => {
                    assert!(key.offered.replace(value.into()).is_none(), "{name} twice");
                    let answer = answers[i].expect("an offer without an answer");
                    asked = true;
                    let reserved: [&[u8]; 3] = [b"Irrelevant", b"Reject", b"NotUnderstood"];
                    assert!(
                        !reserved.contains(&value),
                        "6.2: {name}: a reserved value was taken"
                    );
                    if answer == b"Reject" {
                        assert!(
                            !admissible(*rule, default, value),
                            "{name}: what may be is rejected"
                        );
                    } else if answer != b"Irrelevant" {
                        // Else in a discovery session.
                        check(*rule, value, answer);
                        key.agreed = Some(answer.into());
                    }
                }
            }
            if let (Some(value), false) = (answers[i], asked) {
                assert!(key.proposed.replace(value.into()).is_none(), "{name} twice");
            }
        }
    }

    /// The value that was agreed on.
    pub fn value(&self, name: &str) -> Vec<u8> {
        let i = row(name.as_bytes()).unwrap();
        self.keys[i].agreed.clone().unwrap_or(KEYS[i].2.into())
    }

    /// The number that was agreed on.
    pub fn number(&self, name: &str) -> u64 {
        number(&self.value(name)).unwrap()
    }

    /// The number that the initiator said, as an offer or an answer; one that cannot be stands for the default.
    pub fn by_initiator(&self, name: &str) -> Option<u64> {
        let i = row(name.as_bytes()).unwrap();
        let (_, rule, default) = KEYS[i];
        let key = &self.keys[i];
        let said = match key.proposed {
            Some(_) => key.agreed.as_deref(),
            None => key.offered.as_deref(),
        }?;
        match admissible(rule, default, said) {
            true => number(said),
            false => number(default.as_bytes()),
        }
    }

    /// Whether Yes was agreed on.
    pub fn yes(&self, name: &str) -> bool {
        yes(&self.value(name))
    }

    /// What the initiator, or the target, declared.
    pub fn declared(&self, name: &str, by_target: bool) -> u64 {
        let i = row(name.as_bytes()).unwrap();
        let said = if by_target {
            &self.keys[i].proposed
        } else {
            &self.keys[i].offered
        };
        number(said.as_deref().unwrap_or(KEYS[i].2.as_bytes())).unwrap()
    }

    /// What the target proposed and the initiator has not answered.
    pub fn unanswered(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        KEYS.iter()
            .zip(&self.keys)
            .filter_map(|((name, rule, _), said)| match rule {
                Declared(..) => None,
                _ if said.agreed.is_some() => None,
                _ => Some((*name, said.proposed.as_deref()?)),
            })
    }
}
