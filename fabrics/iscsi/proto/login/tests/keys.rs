// SPDX-License-Identifier: GPL-2.0

//! What is answered to which key: RFC 7143, 6.2 and 13.

use super::*;

/// 6.2.2: what is not admissible is rejected, and the default holds. 7.12: where the target cannot live with that, the login
/// fails.
#[test]
fn values_that_cannot_be() {
    let rejected = [
        "TaskReporting= ",
        "InitialR2T=yes ",
        "ImmediateData=? ",
        "ImmediateData= ",
        "MaxBurstLength=511 ",
        "MaxBurstLength=16777216 ",
        "MaxBurstLength=512~1024 ",
        "FirstBurstLength=-1 ",
        "MaxConnections=0 ",
        "MaxOutstandingR2T=65536 ",
        "ErrorRecoveryLevel=3 ",
        "DefaultTime2Wait=3601 ",
        "DefaultTime2Retain=99999999999999999999 ",
        "TaskReporting=FastAbort ",
        "iSCSIProtocolLevel=32 ",
        "RDMAExtensions=1 ",
    ];
    for offer in rejected {
        let mut driver = Driver::new(Answer::Allowed(grant()));
        let (outcome, text) =
            driver.done(leave(OPERATIONAL, FULL), &std::format!("{NAMES}{offer}"));
        let (key, _) = offer.split_once('=').unwrap();
        let want =
            std::format!("TargetPortalGroupTag=1 {key}=Reject MaxRecvDataSegmentLength=65536 ");
        assert_eq!(text, want, "{offer}");
        let unsaid = Parameters {
            max_recv: 65_536,
            ..Parameters::default()
        };
        assert_eq!(outcome.parameters, unsaid, "{offer}");
    }
    let mut strict = grant();
    strict.config.immediate_data = false;
    strict.config.max_burst = 65_536;
    strict.config.time2wait = 5;
    for offer in [
        "ImmediateData=? ",
        "MaxBurstLength=0 ",
        "DefaultTime2Wait=x ",
    ] {
        let mut driver = Driver::new(Answer::Allowed(strict));
        let step = driver.step(leave(OPERATIONAL, FULL), &std::format!("{NAMES}{offer}"));
        assert_eq!(refusal(step), 0x0200, "{offer}");
    }
}

/// 7.4.1
#[test]
fn discovery_has_no_error_recovery() {
    let mut driver = Driver::new(Answer::Allowed(grant()));
    let text = "InitiatorName=iqn.x SessionType=Discovery ErrorRecoveryLevel=2 ";
    let (_, text) = driver.done(leave(OPERATIONAL, FULL), text);
    assert!(text.contains("ErrorRecoveryLevel=0 "), "{text}");
}

#[test]
fn answers_longer_than_a_response() {
    let many: String = (0..400).fold(String::from(NAMES), |text, i| {
        std::format!("{text}X-a{i:03}= ")
    });
    let start = || {
        let mut driver = Driver::new(Answer::Allowed(grant()));
        let (flags, text) = driver.respond(leave(OPERATIONAL, FULL), &many);
        assert_eq!(flags, GO_ON, "C, and the stage goes on");
        assert_eq!(text.len(), TEXT_MAX);
        (driver, text)
    };
    // 11.13.7: to an empty request comes the rest, and the stage ends if that one says so.
    let (mut driver, first) = start();
    let (outcome, rest) = driver.done(leave(OPERATIONAL, FULL), "");
    assert_eq!(outcome.next_stat_sn, StatSn(102));
    let answers = first + &rest;
    let want = (0..400).fold(String::from("TargetPortalGroupTag=1 "), |text, i| {
        std::format!("{text}X-a{i:03}=NotUnderstood ")
    });
    assert_eq!(answers, want + "MaxRecvDataSegmentLength=65536 ");
    let (mut driver, _) = start();
    assert_eq!(driver.respond(OPERATIONAL << 2, "").0, OPERATIONAL << 2);
    assert_eq!(driver.done(leave(OPERATIONAL, FULL), "").1, "");
    // Nothing may be said meanwhile.
    for (flags, text) in [(leave(OPERATIONAL, FULL), "X-b=1 "), (GO_ON, "")] {
        let (mut driver, _) = start();
        assert_eq!(refusal(driver.step(flags, text)), 0x0200, "{text}");
    }
}

#[test]
fn who_says_what_it_is_made_of() {
    let mut driver = Driver::new(Answer::Allowed(grant()));
    driver.respond(
        leave(SECURITY, OPERATIONAL),
        &std::format!("{NAMES}X#NodeArchitecture=OS/v1,CPU/i686 InitiatorAlias=a "),
    );
    assert_eq!(driver.login.query().node_architecture, b"OS/v1,CPU/i686");
    // Another alias may follow (13.7), another architecture may not (13.26).
    let (_, text) = driver.respond(OPERATIONAL << 2, "InitiatorAlias=b ");
    assert_eq!(text, "MaxRecvDataSegmentLength=65536 ");
    assert_eq!(driver.login.query().initiator_alias, b"b");
    assert_eq!(
        refusal(driver.step(OPERATIONAL << 2, "X#NodeArchitecture=OS/v2 ")),
        0x0200
    );
}

/// What boot firmware does: it does not answer offers, and says the same again until it may go on.
#[test]
fn boot_firmware_gets_in_unless_it_is_not_to() {
    const IPXE: &str = "HeaderDigest=None DataDigest=None MaxConnections=1 InitialR2T=Yes ImmediateData=No \
        MaxRecvDataSegmentLength=8192 MaxBurstLength=262144 DefaultTime2Wait=0 DefaultTime2Retain=0 \
        MaxOutstandingR2T=1 DataPDUInOrder=Yes DataSequenceInOrder=Yes ErrorRecoveryLevel=0 ";
    let mut small = grant();
    small.config.first_burst = 8_192;
    let mut driver = Driver::new(Answer::Allowed(small));
    driver.respond(leave(SECURITY, OPERATIONAL), NAMES);
    // 13.14: no word of FirstBurstLength, as there is no first burst.
    let (_, text) = driver.done(leave(OPERATIONAL, FULL), IPXE);
    assert!(!text.contains("FirstBurstLength"), "{text}");

    small.config.max_burst = 65_536;
    let said = IPXE.replace("MaxBurstLength=262144 ", "");
    for (workaround, again) in [(true, &*said), (true, ""), (false, &*said), (false, "")] {
        small.config.keys_workaround = workaround;
        let mut driver = Driver::new(Answer::Allowed(small));
        driver.respond(leave(SECURITY, OPERATIONAL), NAMES);
        let (flags, first) = driver.respond(leave(OPERATIONAL, FULL), &said);
        assert_eq!(flags, OPERATIONAL << 2);
        assert!(first.contains(" MaxBurstLength=65536 "), "{first}");
        if workaround {
            let (outcome, second) = driver.done(leave(OPERATIONAL, FULL), again);
            // The offer is void, and the default holds.
            assert_eq!(outcome.parameters.max_burst, 262_144);
            assert!(first.starts_with(&second), "{second}");
            assert_eq!(second.is_empty(), again.is_empty());
        } else if again.is_empty() {
            assert_eq!(driver.respond(leave(OPERATIONAL, FULL), again).0, flags);
        } else {
            assert_eq!(
                refusal(driver.step(leave(OPERATIONAL, FULL), again)),
                0x0200
            );
        }
    }
    // Other text with the same keys is no repetition.
    let mut driver = Driver::new(Answer::Allowed(small));
    driver.respond(OPERATIONAL << 2, &std::format!("{NAMES}InitialR2T=Yes "));
    assert_eq!(
        refusal(driver.step(OPERATIONAL << 2, "InitialR2T=No ")),
        0x0200
    );
}

/// 13.14: what the target says of FirstBurstLength is not above what it says of MaxBurstLength, nor above what that has come to.
#[test]
fn first_bursts_are_no_longer_than_others() {
    let mut small = grant();
    small.config.max_burst = 32_768;
    small.config.keys_workaround = false;
    let start = |answer| {
        let mut driver = Driver::new(Answer::Allowed(answer));
        driver.respond(leave(SECURITY, OPERATIONAL), NAMES);
        driver
    };
    for offers in [
        "MaxBurstLength=16776192 FirstBurstLength=262144 ",
        "FirstBurstLength=262144 MaxBurstLength=16776192 ",
    ] {
        let (outcome, text) = start(small).done(leave(OPERATIONAL, FULL), offers);
        assert!(text.contains("MaxBurstLength=32768 "), "{text}");
        assert!(text.contains("FirstBurstLength=32768 "), "{text}");
        assert_eq!(outcome.parameters.first_burst, 32_768);
    }
    // What is not offered is offered by the target, and taken as it was offered, whatever else is answered.
    let mut driver = start(small);
    let (_, text) = driver.respond(leave(OPERATIONAL, FULL), "");
    assert!(
        text.ends_with("MaxBurstLength=32768 FirstBurstLength=32768 "),
        "{text}"
    );
    let answers = "MaxBurstLength=16384 FirstBurstLength=32768 ";
    let (outcome, _) = driver.done(leave(OPERATIONAL, FULL), answers);
    assert_eq!(outcome.parameters.first_burst, 16_384);
    let mut driver = start(small);
    driver.respond(leave(OPERATIONAL, FULL), "");
    let above = "MaxBurstLength=32768 FirstBurstLength=32769 ";
    assert_eq!(
        refusal(driver.step(leave(OPERATIONAL, FULL), above)),
        0x0200
    );
    // So it is where the initiator wants less than the default for MaxBurstLength, at once or as its answer.
    let mut driver = start(grant());
    let (_, text) = driver.respond(leave(OPERATIONAL, FULL), "MaxBurstLength=4096 ");
    assert!(text.contains(" FirstBurstLength=4096 "), "{text}");
    small.config.max_burst = 131_072;
    let mut driver = start(small);
    let (_, text) = driver.respond(leave(OPERATIONAL, FULL), "");
    assert!(text.ends_with(" MaxBurstLength=131072 "), "{text}");
    let (_, text) = driver.respond(leave(OPERATIONAL, FULL), "MaxBurstLength=8192 ");
    assert_eq!(text, "FirstBurstLength=8192 ");
    let (outcome, _) = driver.done(leave(OPERATIONAL, FULL), "FirstBurstLength=8192 ");
    assert_eq!(outcome.parameters.first_burst, 8_192);
}

#[test]
fn what_the_table_of_keys_answers() {
    for (offer, answer) in [
        ("HeaderDigest=CRC32C,None ", "HeaderDigest=CRC32C "),
        ("MaxConnections=8 ", "MaxConnections=1 "),
        ("ErrorRecoveryLevel=2 ", "ErrorRecoveryLevel=0 "),
        ("MaxOutstandingR2T=16 ", "MaxOutstandingR2T=1 "),
        ("MaxBurstLength=0x1000 ", "MaxBurstLength=4096 "),
        ("DataPDUInOrder=No ", "DataPDUInOrder=Yes "),
        ("DataSequenceInOrder=No ", "DataSequenceInOrder=Yes "),
        ("InitialR2T=Yes ", "InitialR2T=Yes "),
        ("ImmediateData=No ", "ImmediateData=No "),
        ("DefaultTime2Wait=0 ", "DefaultTime2Wait=2 "),
        ("DefaultTime2Retain=3600 ", "DefaultTime2Retain=20 "),
        ("TaskReporting=FastAbort,RFC3720 ", "TaskReporting=RFC3720 "),
        ("iSCSIProtocolLevel=2 ", "iSCSIProtocolLevel=1 "),
        ("iSCSIProtocolLevel=0 ", "iSCSIProtocolLevel=0 "),
        ("IFMarker=Yes ", "IFMarker=No "),
        ("OFMarker=No ", "OFMarker=No "),
        ("IFMarkInt=1~100 ", "IFMarkInt=Reject "),
        ("OFMarkInt=2048~8192 ", "OFMarkInt=Reject "),
        ("X#NodeArchitecture=linux ", ""),
        ("X-com.example=1 ", "X-com.example=NotUnderstood "),
        ("RDMAExtensions=Yes ", "RDMAExtensions=No "),
        (
            "TargetRecvDataSegmentLength=8192 ",
            "TargetRecvDataSegmentLength=Irrelevant ",
        ),
        ("iSERHelloRequired=Yes MaxAHSLength=0 ", ""),
        (
            "FutureKey=1 X-a= ",
            "FutureKey=NotUnderstood X-a=NotUnderstood ",
        ),
        ("foo=Irrelevant ", ""),
        ("InitiatorAlias=\u{fc} ", ""),
    ] {
        let mut driver = Driver::new(Answer::Allowed(grant()));
        let (_, text) = driver.respond(OPERATIONAL << 2, &std::format!("{NAMES}{offer}"));
        let want = std::format!("TargetPortalGroupTag=1 {answer}MaxRecvDataSegmentLength=65536 ");
        assert_eq!(text, want, "{offer}");
    }
}
