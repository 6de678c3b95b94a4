// SPDX-License-Identifier: GPL-2.0

//! Where logins are sent instead (RFC 7143, 11.13.5 and 13.8): `attrib/login_redirect` of portal groups and ACLs.

use iscsi_proto::keys::address;
use kernel::{
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Release},
        new_mutex, Mutex,
    },
};

const PERMANENTLY: &str = ",permanent";

/// A place, if there is one.
#[pin_data]
pub(crate) struct Redirect {
    // Whether there is one: what most logins need to know.
    is_set: Atomic<u32>,
    #[pin]
    place: Mutex<Place>,
}

/// `host[:port]`, and whether the target has moved there for good.
#[derive(Default)]
pub(crate) struct Place {
    pub(crate) address: KVec<u8>,
    pub(crate) permanent: bool,
}

impl Redirect {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Redirect {
            is_set: Atomic::new(0),
            place <- new_mutex!(Place::default(), "iscsi::Redirect::place"),
        })
    }

    /// A copy of the place.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn get(&self) -> Result<Option<Place>> {
        if self.is_set.load(Acquire) == 0 {
            return Ok(None);
        }
        let place = self.place.lock();
        if place.address.is_empty() {
            return Ok(None);
        }
        let mut address = KVec::new();
        address.extend_from_slice(&place.address, GFP_KERNEL)?;
        Ok(Some(Place {
            address,
            permanent: place.permanent,
        }))
    }

    /// Shows it as it was written.
    pub(crate) fn show(&self, put: impl FnOnce(&[u8], &str)) {
        let place = self.place.lock();
        put(
            &place.address,
            if place.permanent { PERMANENTLY } else { "" },
        );
    }

    /// Sets it to `host[:port]` or `host[:port],permanent`, or to nothing. For the logins that come from now on.
    ///
    /// # Errors
    /// `EINVAL`, `ENOMEM`.
    pub(crate) fn set(&self, text: &str) -> Result {
        let (address, permanent) = match text.strip_suffix(PERMANENTLY) {
            Some(address) => (address, true),
            None => (text, false),
        };
        let mut new = Place {
            address: KVec::new(),
            permanent,
        };
        if !text.is_empty() {
            if !self::address(address.as_bytes()) {
                return Err(EINVAL);
            }
            new.address
                .extend_from_slice(address.as_bytes(), GFP_KERNEL)?;
        }
        let mut place = self.place.lock();
        self.is_set
            .store(u32::from(!new.address.is_empty()), Release);
        *place = new;
        Ok(())
    }
}
