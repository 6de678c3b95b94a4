// SPDX-License-Identifier: GPL-2.0

//! CHAP, step by step: RFC 7143, 12.1.3.

use super::*;
use crate::login::chap::Algorithm;

const ALL: Algorithms = Algorithms::NONE
    .with(Algorithm::Md5)
    .with(Algorithm::Sha1)
    .with(Algorithm::Sha256)
    .with(Algorithm::Sha3_256);
const MD5: &str = "0x00112233445566778899aabbccddeeff";

fn chap(auth: Auth, algorithms: Algorithms) -> Driver {
    let mut bytes = [0; 32];
    for (byte, n) in bytes.iter_mut().zip(1..) {
        *byte = n;
    }
    let mut grant = grant();
    grant.auth = auth;
    grant.algorithms = algorithms;
    grant.challenge = Challenge {
        identifier: 200,
        bytes,
    };
    let mut driver = Driver::new(Answer::Allowed(grant));
    driver.judge = |proof| {
        assert_eq!((proof.identifier, proof.algorithm), (200, Algorithm::Md5));
        assert_eq!(
            proof.challenge,
            [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]
        );
        if proof.name == b"joe" && proof.response[..2] == [0x00, 0x11] {
            Verdict::Accepted {
                own: Some((b"target", &[0xab; 16])),
            }
        } else {
            Verdict::Refused
        }
    };
    driver
}

/// Up to the challenge, which is of MD5.
fn challenged(auth: Auth) -> Driver {
    let mut driver = chap(auth, ALL);
    let (flags, text) = driver.respond(0, &std::format!("{NAMES}AuthMethod=CHAP,None "));
    assert_eq!(
        (flags, text.as_str()),
        (0, "TargetPortalGroupTag=1 AuthMethod=CHAP ")
    );
    let (flags, text) = driver.respond(leave(SECURITY, OPERATIONAL), "CHAP_A=9,5 ");
    assert_eq!(flags, 0, "the stage cannot end yet");
    assert_eq!(
        text,
        "CHAP_A=5 CHAP_I=200 CHAP_C=0x0102030405060708090a0b0c0d0e0f10 "
    );
    driver
}

#[test]
fn one_way_and_mutual() {
    for auth in [Auth::Optional, Auth::Required] {
        let proof = std::format!("CHAP_N=joe CHAP_R={MD5} ");
        let mut driver = challenged(auth);
        let (flags, text) = driver.respond(leave(SECURITY, OPERATIONAL), &proof);
        assert_eq!(
            (flags, text.as_str()),
            (leave(SECURITY, OPERATIONAL), ""),
            "one way: the target says nothing of itself"
        );
        let (outcome, _) = driver.done(leave(OPERATIONAL, FULL), "InitialR2T=No ");
        assert_eq!(outcome.session_type, SessionType::Normal);

        let mut driver = challenged(auth);
        driver.judge = |proof| {
            assert_eq!(proof.theirs, Some((7, &[0xfe, 0xdc, 0xba][..])));
            Verdict::Accepted {
                own: Some((b"target", &[0xab; 16])),
            }
        };
        let (flags, text) = driver.respond(0, &std::format!("{proof}CHAP_I=7 CHAP_C=0b/ty6 "));
        let own = "abababababababababababababababab";
        assert_eq!(
            (flags, text),
            (0, std::format!("CHAP_N=target CHAP_R=0x{own} "))
        );
        // The stage may go on after it, without CHAP.
        assert_eq!(
            driver.respond(0, "X-com.example=1 ").1,
            "X-com.example=NotUnderstood "
        );
        let (_, text) = driver.done(leave(SECURITY, FULL), "");
        assert_eq!(text, "");
    }
}

#[test]
fn the_strongest_is_taken() {
    for (have, offer, want) in [
        (ALL, "5,6,7,8", Some((8, 32))),
        (ALL, "7,6,5", Some((7, 32))),
        (ALL, "5,0x6", Some((6, 20))),
        (
            Algorithms::default().with(Algorithm::Md5),
            "8,7,6,5",
            Some((5, 16)),
        ),
        (Algorithms::default().with(Algorithm::Md5), "8,7,6", None),
        (ALL, "0,-5,five,261", None),
    ] {
        let mut driver = chap(Auth::Required, have);
        let _ = driver.respond(0, &std::format!("{NAMES}AuthMethod=CHAP "));
        let step = driver.step(0, &std::format!("CHAP_A={offer} "));
        let Some((number, len)) = want else {
            assert_eq!(refusal(step), 0x0201, "{offer}");
            continue;
        };
        let Step::Respond(pdu) = step else {
            panic!("{step:?}")
        };
        let text = driver.text(&pdu);
        assert!(
            text.starts_with(&std::format!("CHAP_A={number} CHAP_I=200 ")),
            "{text}"
        );
        let challenge = text.split("CHAP_C=0x").nth(1).unwrap().trim_end();
        assert_eq!(challenge.len(), 2 * len);
    }
}

#[test]
fn methods() {
    let none = Algorithms::default();
    for (auth, have, offer, want) in [
        (Auth::None, ALL, "CHAP,None", Some("None")),
        (Auth::None, ALL, "CHAP", None),
        (Auth::Optional, ALL, "CHAP,None", Some("CHAP")),
        (Auth::Optional, ALL, "SRP,None,CHAP", Some("None")),
        (Auth::Optional, none, "CHAP,None", Some("None")),
        (Auth::Required, ALL, "None,CHAP", Some("CHAP")),
        (Auth::Required, ALL, "None", None),
        (Auth::Required, ALL, "chap", None),
    ] {
        let mut driver = chap(auth, have);
        let step = driver.step(0, &std::format!("{NAMES}AuthMethod={offer} "));
        match (want, step) {
            (Some(want), Step::Respond(pdu)) => {
                assert!(driver
                    .text(&pdu)
                    .ends_with(&std::format!("AuthMethod={want} ")));
            }
            (None, step) => assert_eq!(refusal(step), 0x0201, "{offer}"),
            (want, step) => panic!("{want:?} {step:?}"),
        }
    }
}

#[test]
fn nobody_gets_by() {
    let required = || chap(Auth::Required, ALL);
    let names = NAMES;
    for flags in [
        leave(OPERATIONAL, FULL),
        OPERATIONAL << 2,
        leave(SECURITY, OPERATIONAL),
        leave(SECURITY, FULL),
    ] {
        assert_eq!(refusal(required().step(flags, names)), 0x0201, "{flags:#x}");
    }
    // Without AuthMethod in a first request, and in the second.
    let mut driver = required();
    let _ = driver.respond(0, names);
    assert_eq!(
        refusal(driver.step(leave(SECURITY, OPERATIONAL), "")),
        0x0201
    );
    // The stage does not end before its time, and no other can be jumped into.
    let mut driver = required();
    let text = std::format!("{names}AuthMethod=CHAP ");
    assert_eq!(driver.respond(leave(SECURITY, OPERATIONAL), &text).0, 0);
    assert_eq!(driver.respond(leave(SECURITY, FULL), "").0, 0);
    assert_eq!(refusal(driver.step(leave(OPERATIONAL, FULL), "")), 0x0200);
    let mut driver = challenged(Auth::Required);
    assert_eq!(refusal(driver.step(leave(OPERATIONAL, FULL), "")), 0x0200);
    // Nobody changes to None in the middle.
    let mut driver = chap(Auth::Optional, ALL);
    let _ = driver.respond(0, &text);
    assert_eq!(refusal(driver.step(0, "AuthMethod=None ")), 0x0200);
}

#[test]
fn proofs_that_are_none() {
    let long = "a".repeat(256);
    let challenge = "CHAP_C=0x0102030405060708090a0b0c0d0e0f10";
    for (text, status) in [
        ("", 0x0201),
        ("CHAP_N=joe ", 0x0201),
        (&*std::format!("CHAP_R={MD5} "), 0x0201),
        (&*std::format!("CHAP_N=jim CHAP_R={MD5} "), 0x0201),
        (&*std::format!("CHAP_N=joe CHAP_R={MD5}00 "), 0x0201),
        (
            &*std::format!("CHAP_N=joe CHAP_R={} ", MD5.trim_end_matches('f')),
            0x0201,
        ),
        (
            "CHAP_N=joe CHAP_R=0xffffffffffffffffffffffffffffffff ",
            0x0201,
        ),
        (
            "CHAP_N=joe CHAP_R=00112233445566778899aabbccddeeff ",
            0x0201,
        ),
        (
            &*std::format!("CHAP_N=joe CHAP_N=joe CHAP_R={MD5} "),
            0x0200,
        ),
        (&*std::format!("CHAP_N={long} CHAP_R={MD5} "), 0x0200),
        (&*std::format!("CHAP_A=5 CHAP_N=joe CHAP_R={MD5} "), 0x0201),
        (&*std::format!("CHAP_N=joe CHAP_R={MD5} CHAP_I=1 "), 0x0201),
        (
            &*std::format!("CHAP_N=joe CHAP_R={MD5} CHAP_C=0x12 "),
            0x0201,
        ),
        (
            &*std::format!("CHAP_N=joe CHAP_R={MD5} CHAP_I=256 CHAP_C=0x12 "),
            0x0201,
        ),
        (
            &*std::format!("CHAP_N=joe CHAP_R={MD5} CHAP_I=1 CHAP_C=0x "),
            0x0201,
        ),
        // 12.1.3: the target's own challenge, with whatever identifier.
        (
            &*std::format!("CHAP_N=joe CHAP_R={MD5} CHAP_I=200 {challenge} "),
            0x0201,
        ),
        (
            &*std::format!("CHAP_N=joe CHAP_R={MD5} CHAP_I=7 {challenge} "),
            0x0201,
        ),
    ] {
        let mut driver = challenged(Auth::Required);
        let step = driver.step(leave(SECURITY, OPERATIONAL), text);
        assert_eq!(refusal(step), status, "{text}");
    }
    // The longest challenge is taken, one byte more is not.
    for (bytes, taken) in [(1024, true), (1025, false)] {
        let mut driver = challenged(Auth::Required);
        let text = std::format!(
            "CHAP_N=joe CHAP_R={MD5} CHAP_I=1 CHAP_C=0x{} ",
            "5a".repeat(bytes)
        );
        let step = driver.step(leave(SECURITY, OPERATIONAL), &text);
        assert_eq!(matches!(step, Step::Respond(_)), taken, "{bytes}: {step:?}");
    }
    // The target cannot say who it is.
    let mut driver = challenged(Auth::Required);
    driver.judge = |_| Verdict::Accepted { own: None };
    let text = std::format!("CHAP_N=joe CHAP_R={MD5} CHAP_I=1 CHAP_C=0x12 ");
    assert_eq!(refusal(driver.step(0, &text)), 0x0201);
}

#[test]
fn keys_out_of_order() {
    let chap_n = std::format!("CHAP_N=joe CHAP_R={MD5} ");
    let mut driver = chap(Auth::Required, ALL);
    let _ = driver.respond(0, &std::format!("{NAMES}AuthMethod=CHAP "));
    assert_eq!(refusal(driver.step(0, &chap_n)), 0x0201);
    let mut driver = challenged(Auth::Required);
    assert_eq!(refusal(driver.step(0, "CHAP_A=5 ")), 0x0201);
    // Once is enough.
    let mut driver = challenged(Auth::Required);
    let _ = driver.respond(0, &chap_n);
    assert_eq!(refusal(driver.step(0, &chap_n)), 0x0201);
    // Without CHAP its keys mean nothing.
    let mut driver = chap(Auth::Optional, ALL);
    let (_, text) = driver.respond(0, &std::format!("{NAMES}AuthMethod=None CHAP_A=5 "));
    assert!(text.ends_with("AuthMethod=None CHAP_A=NotUnderstood "));
}
