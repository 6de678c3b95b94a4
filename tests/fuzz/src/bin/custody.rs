// SPDX-License-Identifier: GPL-2.0

//! Connections that are lost, and tasks that go on on others (RFC 7143, 7.2.2, 7.5): against a model that writes down what happens,
//! and judges by reading that. And reads that are resumed several times: all bytes that were not acknowledged come, once.
// fuzz: -max_len=192

#![no_main]

use iscsi_proto::{
    custody::{first_unacknowledged, reassign, Custody, Ended, Fate, Place},
    ffp::TmfAnswer,
    negotiate::Parameters,
    transfer::Read,
};
use libfuzzer_sys::fuzz_target;
use lio_fuzz::Input;

#[derive(Clone, Copy, PartialEq)]
enum Event {
    LoggedOut,
    Away,
    Back,
}

fn connections(input: &mut Input<'_>) {
    let parameters = Parameters {
        recovery_level: input.u8() & 3,
        time2wait: u16::from(input.u8()),
        time2retain: u16::from(input.u8()),
        ..Parameters::default()
    };
    let how = match input.below(3) {
        0 => Ended::Lost,
        1 => Ended::ForRecovery,
        _ => Ended::ForGood,
    };
    let mut now = u64::from(input.u32());
    let mut happened: Vec<(u64, Event)> = Vec::new();
    let keeps =
        parameters.recovery_level >= 2 && parameters.time2retain > 0 && how != Ended::ForGood;
    let lost_at = now;
    let custody = Custody::begin(&parameters, how, now);
    assert_eq!(custody.is_some(), keeps);
    let Some(mut custody) = custody else { return };
    if how == Ended::ForRecovery {
        happened.push((now, Event::LoggedOut));
    }
    let span = 1000 * (u64::from(parameters.time2wait) + u64::from(parameters.time2retain));
    while !input.is_empty() {
        now += u64::from(input.u32() & 0x1ffff);
        let count = |e| happened.iter().filter(|(_, what)| *what == e).count();
        match input.below(4) {
            0 => {
                custody.log_out(now);
                happened.push((now, Event::LoggedOut));
            }
            1 => {
                custody.sent_away();
                happened.push((now, Event::Away));
            }
            2 if count(Event::Away) > count(Event::Back) => {
                custody.came_back();
                happened.push((now, Event::Back));
            }
            _ => {}
        }
        let logout = happened.iter().find(|(_, what)| *what == Event::LoggedOut);
        let until = logout.map_or(lost_at, |(at, _)| *at) + span;
        let count = |e| happened.iter().filter(|(_, what)| *what == e).count();
        let away = count(Event::Away) > count(Event::Back);
        assert_eq!(custody.has_away(), away);
        assert_eq!(custody.is_logged_out(), logout.is_some());
        let (tasks, others) = (input.u8() & 1 != 0, input.u8() & 1 != 0);
        let wanted = if now >= until {
            Fate::Expires
        } else if logout.is_some() && others && !tasks && !away {
            Fate::Over
        } else {
            Fate::Stays(until)
        };
        assert_eq!(custody.fate(now, tasks, others), wanted);
        let (level, immediate) = (input.u8() & 3, input.u8() & 1 != 0);
        let place = Place::Kept(custody.is_logged_out());
        let answer = reassign(level, immediate, place);
        let may = level >= 2 && immediate && logout.is_some();
        assert_eq!(answer == TmfAnswer::Complete, may);
    }
}

fn reads(input: &mut Input<'_>) {
    let mut parameters = Parameters {
        max_burst: 512 + input.u32() % 65_536,
        max_xmit: 512 + input.u32() % 65_536,
        ..Parameters::default()
    };
    let total = input.u32() % 1_000_000;
    let mut read = Read::new(total, &parameters, false);
    let mut begin = 0;
    for _ in 0..4 {
        let chunks: Vec<_> = read.collect();
        // What the initiator has is a beginning of what was sent.
        assert_eq!(chunks.first().map_or(total, |c| c.offset), begin);
        let mut end = begin;
        for chunk in &chunks {
            assert_eq!(chunk.offset, end);
            end += chunk.length;
        }
        assert_eq!(end, total);
        let (first, all) = (read.first(), read.pdus_in_all());
        assert_eq!(all - first, chunks.len() as u32);
        let said = input.u32() % (all + 3);
        let goes_on = first_unacknowledged(said, first, all);
        assert!((first..=all).contains(&goes_on));
        assert!(goes_on == said || goes_on == first);
        begin = chunks
            .get((goes_on - first) as usize)
            .map_or(total, |c| c.offset);
        parameters.max_xmit = 512 + input.u32() % 65_536;
        read = read.resumed(goes_on, parameters.max_xmit);
        assert_eq!((read.first(), read.rest()), (goes_on, total - begin));
    }
}

fuzz_target!(|input: &[u8]| {
    let mut input = Input::new(input);
    match input.below(2) {
        0 => connections(&mut input),
        _ => reads(&mut input),
    }
});
