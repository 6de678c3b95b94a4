// SPDX-License-Identifier: GPL-2.0

//! Which addresses initiators may come from: a list of networks as an administrator writes it.
//!
//! `any`, or up to [`MAX`] addresses with a comma between two, each with `/` and the bits that count, if not all do:
//! `192.0.2.7,198.51.100.0/24,2001:db8::/32`.

use core::{fmt, net::IpAddr};

/// The most networks of a list.
pub const MAX: usize = 32;

/// Some of the bits of an address, the first ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    bits: u8,
}

/// What is wrong with a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// An item that is no address, or no network.
    Address,
    /// More bits than the address has.
    Bits,
    /// The address has bits that do not count, so that it is not clear what was meant.
    HostBits,
    /// An IPv4 address in IPv6 clothes: such hosts count as what they are.
    Mapped,
    /// More than [`MAX`].
    TooMany,
}

impl Wrong {
    /// For an administrator.
    #[must_use]
    pub fn why(self) -> &'static str {
        match self {
            Wrong::Address => {
                "any, or a list such as 192.0.2.7,198.51.100.0/24,2001:db8::/32 is wanted"
            }
            Wrong::Bits => "an IPv4 address has 32 bits, an IPv6 address 128",
            Wrong::HostBits => "a network's address has no bits behind those that count",
            Wrong::Mapped => "an IPv4 address is written as such",
            Wrong::TooMany => "a list has at most 32 networks",
        }
    }
}

// An address as a number, and how many bits it has. The bits of an IPv4 address are the first ones.
fn number(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(a) => (u128::from(a.to_bits()) << 96, 32),
        IpAddr::V6(a) => (a.to_bits(), 128),
    }
}

// The bits that count.
fn mask(bits: u8) -> u128 {
    // No shift by all bits: that is none.
    let others = 128_u32.saturating_sub(bits.into());
    u128::MAX.checked_shl(others).unwrap_or(0)
}

impl Network {
    fn parse(text: &str) -> Result<Self, Wrong> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| Wrong::Address)?;
        if matches!(address, IpAddr::V6(a) if a.to_ipv4_mapped().is_some()) {
            return Err(Wrong::Mapped);
        }
        let (value, all) = number(address);
        let bits = match bits {
            None => all,
            Some(digits) if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) => {
                return Err(Wrong::Address)
            }
            Some(digits) => digits.parse().map_err(|_| Wrong::Bits)?,
        };
        if bits > all {
            return Err(Wrong::Bits);
        }
        if value & !mask(bits) != 0 {
            return Err(Wrong::HostBits);
        }
        Ok(Network { address, bits })
    }

    fn contains(&self, host: IpAddr) -> bool {
        let ((own, all), (other, same)) = (number(self.address), number(host));
        all == same && (own ^ other) & mask(self.bits) == 0
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        if self.bits < number(self.address).1 {
            write!(f, "/{}", self.bits)?;
        }
        Ok(())
    }
}

/// A list of networks; an empty one has all addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    // The first ones of the array are there.
    list: [Option<Network>; MAX],
}

impl Networks {
    /// All addresses.
    pub const ANY: Networks = Networks { list: [None; MAX] };

    /// Reads a list.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let mut networks = Self::ANY;
        if text == "any" {
            return Ok(networks);
        }
        let mut room = networks.list.iter_mut();
        for item in text.split(',') {
            let network = Network::parse(item)?;
            *room.next().ok_or(Wrong::TooMany)? = Some(network);
        }
        Ok(networks)
    }

    /// Whether `host` is in one of them. An IPv4 host is one whatever its socket is.
    #[must_use]
    pub fn contain(&self, host: IpAddr) -> bool {
        let host = host.to_canonical();
        let mut networks = self.list.iter().flatten().peekable();
        networks.peek().is_none() || networks.any(|n| n.contains(host))
    }
}

impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for network in self.list.iter().flatten() {
            write!(f, "{between}{network}")?;
            between = ",";
        }
        if between.is_empty() {
            f.write_str("any")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Networks {
        Networks::parse(text).unwrap()
    }

    fn has(text: &str, host: &str) -> bool {
        list(text).contain(host.parse().unwrap())
    }

    #[test]
    fn any_is_all() {
        assert_eq!(list("any"), Networks::ANY);
        assert!(has("any", "192.0.2.1") && has("any", "2001:db8::1"));
        assert_eq!(Networks::ANY.to_string(), "any");
    }

    #[test]
    fn bits_count_from_the_first() {
        assert!(has("192.0.2.7", "192.0.2.7") && !has("192.0.2.7", "192.0.2.6"));
        assert!(has("192.0.2.128/25", "192.0.2.255") && !has("192.0.2.128/25", "192.0.2.127"));
        assert!(has("192.0.2.6/31", "192.0.2.7") && !has("192.0.2.6/31", "192.0.2.8"));
        assert!(has("2001:db8::/32", "2001:db8:ffff::1") && !has("2001:db8::/32", "2001:db9::"));
        assert!(has("fe80::1", "fe80::1") && !has("fe80::1", "fe80::2"));
        assert!(has("10.0.0.0/8,2001:db8::/64", "2001:db8::9"));
        assert!(!has("10.0.0.0/8,2001:db8::/64", "11.0.0.1"));
    }

    #[test]
    fn all_of_one_family() {
        assert!(has("0.0.0.0/0", "203.0.113.9") && !has("0.0.0.0/0", "::1"));
        assert!(has("::/0", "::1") && !has("::/0", "203.0.113.9"));
    }

    #[test]
    fn a_host_in_other_clothes() {
        assert!(has("192.0.2.0/24", "::ffff:192.0.2.9"));
        assert!(!has("::/0", "::ffff:192.0.2.9"));
    }

    #[test]
    fn what_is_no_list() {
        for (text, wrong) in [
            ("", Wrong::Address),
            ("Any", Wrong::Address),
            ("any,192.0.2.1", Wrong::Address),
            ("192.0.2.1,", Wrong::Address),
            ("192.0.2.1, 192.0.2.2", Wrong::Address),
            ("192.0.2", Wrong::Address),
            ("192.0.2.01", Wrong::Address),
            ("192.0.2.1/", Wrong::Address),
            ("192.0.2.1/+8", Wrong::Address),
            ("192.0.2.1/8/8", Wrong::Address),
            ("fe80::1%eth0", Wrong::Address),
            ("[::1]", Wrong::Address),
            ("192.0.2.1/33", Wrong::Bits),
            ("::/129", Wrong::Bits),
            ("::/256", Wrong::Bits),
            ("192.0.2.1/24", Wrong::HostBits),
            ("::1/0", Wrong::HostBits),
            ("::ffff:192.0.2.1", Wrong::Mapped),
        ] {
            assert_eq!(Networks::parse(text), Err(wrong), "{text}");
        }
        let full = ["10.0.0.1"; MAX].join(",");
        assert_eq!(list(&full).to_string(), full);
        assert_eq!(Networks::parse(&(full + ",10.0.0.1")), Err(Wrong::TooMany));
    }
}
