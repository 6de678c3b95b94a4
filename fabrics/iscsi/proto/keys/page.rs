// SPDX-License-Identifier: GPL-2.0

//! `KEYS.md`, made of the table: `KEYS=write cargo test -p iscsi_proto` writes it again.

use super::*;
use std::{env, format, fs, string::String, string::ToString};

const HEAD: &str = "\
# The keys of iSCSI and what this target makes of them

RFC 7143, clause 13, RFC 7144, 7.1, and RFC 7145, 6. This page is made of the table in `keys.rs`, by which keys are read, checked
and answered; what a target offers within the range is its portal group's, `param/`.

- use: IO in any login, LO in the login of a session's first connection, ALL in a login and in full feature phase, FFPO in full
  feature phase only. A key at another time, or by the wrong side, fails the login (status 0200), or the text sequence (Reject).
- stage: of a login; \"any\" is the security stage, too.
- often: how many times one side may say it. Once more fails the login or the text sequence.
- A value that a negotiated key cannot have is answered with Reject: then the default holds, and where the portal group does not
  want that, or the key is about digests, the login fails. One that a declared key cannot have fails the login or the sequence; nothing of it holds (7.12).
- Reject, Irrelevant and NotUnderstood where nothing was asked fail it, too (6.2).
- All other keys are answered with NotUnderstood: in full feature phase those that begin with X, Y or Z and - or # only, others are
  a protocol error there.
- A text is of 8,192 bytes at most, over any number of PDUs, a key of 63, a value of 255.

| key | result | values | default | use | by | stage | for | often | in discovery |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
";

fn numbers(r: Range) -> (String, String) {
    (format!("{} to {}", r.min, r.max), r.default.to_string())
}

fn yes(on: bool) -> String {
    if on { "Yes" } else { "No" }.into()
}

fn row(key: &Key) -> String {
    let boolean = |on| ("Yes or No".into(), yes(on));
    let (result, (values, default)) = match key.kind {
        Kind::Text(form) => (
            "declared",
            (
                match form {
                    Form::Name => "an iSCSI name".into(),
                    Form::Local => "UTF-8 without control characters".into(),
                    Form::OneOf(words) => words.join(" or "),
                    Form::Words => "a list of texts".into(),
                    Form::Address => "address[:port][,tag]".into(),
                    Form::Tag => "0 to 65535".into(),
                    Form::Targets => "All, nothing, a target's name".into(),
                },
                match form {
                    Form::OneOf(words) => words.first().unwrap().to_string(),
                    _ => String::new(),
                },
            ),
        ),
        Kind::Declared(range) => ("declared", numbers(range)),
        Kind::Min(range) => ("the smaller", numbers(range)),
        Kind::Max(range) => ("the larger", numbers(range)),
        Kind::Or(default) => ("Yes if one says so", boolean(default)),
        Kind::And(default) => ("Yes if both say so", boolean(default)),
        Kind::List(known) => (
            "the first that is known",
            (format!("a list; known: {known}"), known.into()),
        ),
        Kind::Digest => (
            "the first that is allowed",
            ("a list; known: CRC32C, None".into(), "None".into()),
        ),
        Kind::Unused(answer) => (
            match answer {
                "No" => "answered with No",
                "Reject" => "answered with Reject",
                _ => "answered with Irrelevant",
            },
            Default::default(),
        ),
        Kind::Unheard => ("not used", Default::default()),
    };
    let usage = match key.usage {
        Use::Login => "IO",
        Use::Leading => "LO",
        Use::All => "ALL",
        Use::FullFeature => "FFPO",
    };
    let sender = match key.sender {
        Sender::Initiator => "initiator",
        Sender::Target => "target",
        Sender::Both => "both",
    };
    let stage = match key.stage {
        In::Security => "security",
        In::Operational => "operational",
        In::Any => "any",
    };
    let scope = match key.scope {
        Scope::Session => "session",
        Scope::Connection => "connection",
    };
    let often = match key.often {
        Often::Login => "once",
        Often::Negotiation => "once in each stage or sequence",
        Often::Any => "any",
    };
    let discovery = if key.discovery { "" } else { "Irrelevant" };
    format!(
        "| {} | {result} | {values} | {default} | {usage} | {sender} | {stage} | {scope} | {often} | {discovery} |\n",
        key.name
    )
}

#[test]
#[cfg_attr(miri, ignore)]
fn the_page_is_the_tables() {
    let page = KEYS
        .iter()
        .fold(HEAD.to_string(), |page, key| page + &row(key));
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/KEYS.md");
    if env::var("KEYS").is_ok_and(|v| v == "write") {
        fs::write(path, &page).unwrap();
    }
    assert!(
        fs::read_to_string(path).is_ok_and(|now| now == page),
        "KEYS.md is not what the table says: KEYS=write cargo test -p iscsi_proto the_page"
    );
}
