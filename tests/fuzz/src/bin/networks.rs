// SPDX-License-Identifier: GPL-2.0

//! Lists of networks: who is in them, against a model that goes by single bits; texts of initiators as JSON.
// fuzz: -max_len=200

#![no_main]

use core::net::IpAddr;
use iscsi_proto::{
    json::Quoted,
    networks::{Networks, MAX},
};
use libfuzzer_sys::fuzz_target;
use lio_fuzz::Input;

fn bits(address: IpAddr) -> Vec<bool> {
    let octets = match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        // A host that is called by its IPv4 address.
        IpAddr::V6(a) if a.octets()[..12] == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255] => {
            a.octets()[12..].to_vec()
        }
        IpAddr::V6(a) => a.octets().to_vec(),
    };
    octets
        .iter()
        .flat_map(|byte| (0..8).map(move |i| byte >> (7 - i) & 1 == 1))
        .collect()
}

fn address(input: &mut Input<'_>) -> IpAddr {
    if input.u8() % 2 == 0 {
        let n = [input.u8() % 3, 0, 0, input.u8()];
        return n.into();
    }
    let mut n = [0; 16];
    let start = [0, 0x20, 0xfe][usize::from(input.u8() % 3)];
    (n[0], n[10], n[11]) = (start, input.u8(), input.u8());
    n[15] = input.u8();
    n.into()
}

fn quoted(text: &str) {
    let json = Quoted(text).to_string();
    assert!(!json.contains(char::is_control));
    let mut read = String::new();
    let mut rest = json[1..json.len() - 1].chars();
    while let Some(c) = rest.next() {
        assert_ne!(c, '"');
        read.push(match c {
            '\\' => match rest.next().unwrap() {
                'u' => {
                    let digits: String = rest.by_ref().take(4).collect();
                    char::from_u32(u32::from_str_radix(&digits, 16).unwrap()).unwrap()
                }
                c => c,
            },
            c => c,
        });
    }
    assert_eq!(read, text);
}

fuzz_target!(|input: &[u8]| {
    let mut input = Input::new(input);
    let mut items = vec![];
    for _ in 0..input.u8() % 40 {
        items.push((address(&mut input), usize::from(input.u8())));
    }
    let text: Vec<_> = items.iter().map(|(a, n)| format!("{a}/{n}")).collect();
    let valid = |(a, n): &(IpAddr, usize)| {
        let mapped = matches!(a, IpAddr::V6(_)) && bits(*a).len() == 32;
        !mapped && bits(*a).len() >= *n && !bits(*a)[*n..].contains(&true)
    };
    let list = Networks::parse(&text.join(","));
    let may_be = !items.is_empty() && items.len() <= MAX && items.iter().all(valid);
    assert_eq!(list.is_ok(), may_be, "{text:?}");
    if let Ok(list) = list {
        assert_eq!(Networks::parse(&list.to_string()), Ok(list));
        for _ in 0..8 {
            let host = address(&mut input);
            let inside = items.iter().any(|(a, n)| {
                bits(*a).len() == bits(host).len() && bits(*a)[..*n] == bits(host)[..*n]
            });
            assert_eq!(list.contain(host), inside, "{host} in {text:?}");
        }
    }
    if let Ok(text) = core::str::from_utf8(input.rest()) {
        if let Ok(list) = Networks::parse(text) {
            assert_eq!(Networks::parse(&list.to_string()), Ok(list));
        }
        quoted(text);
    }
});
