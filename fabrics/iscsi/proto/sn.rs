// SPDX-License-Identifier: GPL-2.0

//! Sequence numbers: RFC 7143, 4.2.2, with the serial arithmetic of RFC 1982 over 32 bits.
//!
//! They have no `Ord`: a number that wraps has no order, only a position before or after another one.

macro_rules! serial {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name(pub u32);

        impl $name {
            /// The number that comes `n` later.
            #[must_use]
            pub const fn plus(self, n: u32) -> Self {
                $name(self.0.wrapping_add(n))
            }

            /// The number after this one.
            #[must_use]
            pub const fn next(self) -> Self {
                self.plus(1)
            }

            /// The number before this one.
            #[must_use]
            pub const fn before_this(self) -> Self {
                $name(self.0.wrapping_sub(1))
            }

            /// Whether this one comes before `other`; false for the two that are exactly 2^31 apart.
            #[must_use]
            pub const fn before(self, other: Self) -> bool {
                let distance = other.0.wrapping_sub(self.0);
                distance != 0 && distance < 0x8000_0000
            }

            /// Whether this one comes before `other` or is the same.
            #[must_use]
            pub const fn not_after(self, other: Self) -> bool {
                self.0 == other.0 || self.before(other)
            }

            /// How many steps lead from `earlier` to this one, modulo 2^32.
            #[must_use]
            pub const fn since(self, earlier: Self) -> u32 {
                self.0.wrapping_sub(earlier.0)
            }
        }

        crate::wire::newtype_field!($name, u32);
    )+ };
}

serial! {
    /// Number of a command in its session: 4.2.2.1.
    CmdSn,
    /// Number of a response on its connection: 4.2.2.2.
    StatSn,
    /// Number of a data PDU in its sequence, or of a Data-In PDU in its command: 4.2.2.3.
    DataSn,
    /// Number of an R2T in its command: 4.2.2.3.
    R2tSn,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_arithmetic_wraps() {
        assert!(CmdSn(0xffff_ffff).before(CmdSn(0)));
        assert!(!CmdSn(0).before(CmdSn(0xffff_ffff)));
        assert!(CmdSn(5).not_after(CmdSn(5)));
        assert!(!CmdSn(5).before(CmdSn(5)));
        assert!(!CmdSn(0).before(CmdSn(0x8000_0000)));
        assert!(!CmdSn(0x8000_0000).before(CmdSn(0)));
        assert_eq!(StatSn(u32::MAX).next(), StatSn(0));
        assert_eq!(StatSn(1).since(StatSn(u32::MAX)), 2);
    }
}
