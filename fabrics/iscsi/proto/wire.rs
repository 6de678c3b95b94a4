// SPDX-License-Identifier: GPL-2.0

//! The basic header segment and what its fields are made of: RFC 7143, 11.2.1.

/// A basic header segment.
pub type Bhs = [u8; 48];

/// Bytes of a basic header segment.
pub const BHS_LEN: usize = 48;

/// The reserved task tag: no task, or no answer wanted.
pub const NO_TAG: u32 = 0xffff_ffff;

/// A field of a basic header segment at a fixed place, big-endian.
pub trait Field: Copy {
    /// Reads the field from its place.
    fn get(bhs: &Bhs, at: usize) -> Self;
    /// Writes the field to its place.
    fn put(self, bhs: &mut Bhs, at: usize);
}

impl<const N: usize> Field for [u8; N] {
    fn get(bhs: &Bhs, at: usize) -> Self {
        bhs.get(at..)
            .and_then(|rest| rest.first_chunk::<N>())
            .copied()
            .unwrap_or([0; N])
    }

    fn put(self, bhs: &mut Bhs, at: usize) {
        if let Some(place) = bhs
            .get_mut(at..)
            .and_then(|rest| rest.first_chunk_mut::<N>())
        {
            *place = self;
        }
    }
}

macro_rules! integer_fields {
    ($($int:ty),+) => { $(
        impl Field for $int {
            fn get(bhs: &Bhs, at: usize) -> Self {
                <$int>::from_be_bytes(Field::get(bhs, at))
            }
            fn put(self, bhs: &mut Bhs, at: usize) {
                self.to_be_bytes().put(bhs, at);
            }
        }
    )+ };
}
integer_fields!(u8, u16, u32);

macro_rules! newtype_field {
    ($name:ident, $inner:ty) => {
        impl $crate::wire::Field for $name {
            fn get(bhs: &$crate::wire::Bhs, at: usize) -> Self {
                $name(<$inner as $crate::wire::Field>::get(bhs, at))
            }
            fn put(self, bhs: &mut $crate::wire::Bhs, at: usize) {
                $crate::wire::Field::put(self.0, bhs, at);
            }
        }
    };
}
pub(crate) use newtype_field;

/// Initiator task tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Itt(pub u32);
newtype_field!(Itt, u32);

impl Itt {
    /// No task: a PDU that is no answer and wants none.
    pub const NONE: Itt = Itt(NO_TAG);
}

/// Target transfer tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ttt(pub u32);
newtype_field!(Ttt, u32);

impl Ttt {
    /// No transfer: unsolicited data, or a new text sequence.
    pub const NONE: Ttt = Ttt(NO_TAG);

    /// The tag for round `round` (an R2T's number) of the command that the driver knows as `index`; the lower 16
    /// bits are the round, so that it never equals [`Ttt::NONE`] as long as `index` is below 0xffff (0xfffe is that of
    /// text).
    #[must_use]
    pub const fn new(index: u16, round: u32) -> Ttt {
        let [high, low] = index.to_be_bytes();
        let [_, _, r1, r0] = round.to_be_bytes();
        Ttt(u32::from_be_bytes([high, low, r1, r0]))
    }

    /// The driver's index of the command, see [`Ttt::new`].
    #[must_use]
    pub const fn index(self) -> u16 {
        let [high, low, _, _] = self.0.to_be_bytes();
        u16::from_be_bytes([high, low])
    }
}

/// A logical unit number as it is on the wire: SAM, 8 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lun(pub [u8; 8]);
newtype_field!(Lun, [u8; 8]);

/// Initiator part of the session identifier: RFC 7143, 11.12.5.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Isid(pub [u8; 6]);
newtype_field!(Isid, [u8; 6]);

/// Target session identifying handle; 0 in the request for a new session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tsih(pub u16);
newtype_field!(Tsih, u16);

/// Connection identifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cid(pub u16);
newtype_field!(Cid, u16);

/// Length of a data segment in bytes, without padding: 24 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DataLen(u32);

impl DataLen {
    /// The largest length that fits the field.
    pub const MAX: u32 = 0x00ff_ffff;

    /// `None` if it does not fit the field.
    #[must_use]
    pub const fn new(bytes: u32) -> Option<Self> {
        if bytes <= Self::MAX {
            Some(DataLen(bytes))
        } else {
            None
        }
    }

    /// The largest that fits the field and is not above `bytes`.
    #[must_use]
    pub fn at_most(bytes: usize) -> Self {
        DataLen(u32::try_from(bytes).map_or(Self::MAX, |b| b.min(Self::MAX)))
    }

    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        self.0
    }

    /// How many bytes of padding follow the data segment on the wire: 0 to 3.
    #[must_use]
    pub const fn padding(self) -> u32 {
        pad(self.0)
    }

    /// In bytes, with the padding.
    #[must_use]
    pub const fn padded(self) -> u32 {
        self.0.saturating_add(pad(self.0))
    }
}

impl Field for DataLen {
    fn get(bhs: &Bhs, at: usize) -> Self {
        let [a, b, c]: [u8; 3] = Field::get(bhs, at);
        DataLen(u32::from_be_bytes([0, a, b, c]))
    }

    fn put(self, bhs: &mut Bhs, at: usize) {
        let [_, a, b, c] = self.0.to_be_bytes();
        [a, b, c].put(bhs, at);
    }
}

/// Bytes that fill `len` up to a multiple of four: RFC 7143, 11.1.
#[must_use]
pub const fn pad(len: u32) -> u32 {
    len.wrapping_neg() & 3
}

/// Declares a PDU: its opcode, the bits of byte 1 that are always set, and each field with the byte it begins at.
macro_rules! pdu {
    ($(#[$doc:meta])* $name:ident = $opcode:expr, $first:expr, {
        $($(#[$field_doc:meta])* $field:ident: $type:ty = $at:expr),+ $(,)?
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)+
        }

        impl $name {
            /// The opcode.
            pub const OPCODE: u8 = $opcode;

            /// Reads the fields; nothing is checked.
            #[must_use]
            pub fn read(bhs: &$crate::wire::Bhs) -> Self {
                $name { $($field: <$type as $crate::wire::Field>::get(bhs, $at),)+ }
            }

            /// Writes the whole header; what has no field is zero.
            pub fn emit(&self, bhs: &mut $crate::wire::Bhs) {
                *bhs = [0; $crate::wire::BHS_LEN];
                $crate::wire::Field::put(Self::OPCODE, bhs, 0);
                $($crate::wire::Field::put(self.$field, bhs, $at);)+
                let first: u8 = $crate::wire::Field::get(bhs, 1);
                $crate::wire::Field::put(first | $first, bhs, 1);
            }
        }
    };
}
pub(crate) use pdu;

/// Declares the flags of byte 1 as a newtype over it with a reader and a setter for each bit.
macro_rules! flags {
    ($(#[$doc:meta])* $name:ident { $($(#[$flag_doc:meta])* $flag:ident, $with:ident = $bit:expr),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name(pub u8);
        $crate::wire::newtype_field!($name, u8);

        impl $name {
            $(
                $(#[$flag_doc])*
                #[must_use]
                pub const fn $flag(self) -> bool {
                    self.0 & $bit != 0
                }

                /// The same flags, with this one set if `on` is.
                #[must_use]
                pub const fn $with(self, on: bool) -> Self {
                    if on { $name(self.0 | $bit) } else { $name(self.0 & !$bit) }
                }
            )+
        }
    };
}
pub(crate) use flags;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding() {
        for (len, want) in [
            (0, 0),
            (1, 3),
            (2, 2),
            (3, 1),
            (4, 0),
            (5, 3),
            (DataLen::MAX, 1),
        ] {
            assert_eq!(pad(len), want);
        }
        assert_eq!(DataLen::new(DataLen::MAX).unwrap().padded(), 0x0100_0000);
        assert_eq!(DataLen::new(0x0100_0000), None);
        assert_eq!(DataLen::at_most(usize::MAX).bytes(), DataLen::MAX);
    }

    #[test]
    fn transfer_tags() {
        assert_eq!(Ttt::new(0x1234, 0x5_6789), Ttt(0x1234_6789));
        assert_eq!(Ttt::new(0x1234, 7).index(), 0x1234);
    }

    #[test]
    fn a_field_out_of_the_header_is_zero_and_goes_nowhere() {
        let mut bhs = [0xff; 48];
        assert_eq!(u32::get(&bhs, 46), 0);
        1u32.put(&mut bhs, 46);
        0u8.put(&mut bhs, usize::MAX);
        assert_eq!(bhs, [0xff; 48]);
    }
}
