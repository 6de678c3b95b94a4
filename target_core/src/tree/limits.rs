// SPDX-License-Identifier: GPL-2.0

//! `limits` and `latency` of a LUN, and of a LUN as one initiator sees it. The stock modules have neither: they are a file each, as
//! directories would take a fifth of all the memory that a LUN has.

use super::{acl::MappedDir, lun::LunDir};
use crate::{
    limits::Which,
    lun::{Lun, MappedLun},
    shares::Weight,
    special::Special,
};
use kernel::{prelude::*, sync::Arc};
use lio_configfs::{Page, Value};
use lio_policy::{
    rate::{Rate, MAX_UNITS},
    shares::MOST,
};

/// What has limits and a histogram.
pub(super) trait Measured: Send + Sync + 'static {
    type Object: Holder;

    fn object(&self) -> Result<Arc<Self::Object>>;
}

/// A LUN, or an initiator's view of one.
pub(super) trait Holder {
    fn special(&self) -> &Special;
    fn weight(&self) -> &Weight;
    fn lun(&self) -> &Lun;
}

impl Measured for LunDir {
    type Object = Lun;
    fn object(&self) -> Result<Arc<Lun>> {
        self.linked()
    }
}

impl Measured for MappedDir {
    type Object = MappedLun;
    fn object(&self) -> Result<Arc<MappedLun>> {
        self.linked()
    }
}

impl Holder for Lun {
    fn special(&self) -> &Special {
        Lun::special(self)
    }
    fn weight(&self) -> &Weight {
        Lun::weight(self)
    }
    fn lun(&self) -> &Lun {
        self
    }
}

impl Holder for MappedLun {
    fn special(&self) -> &Special {
        MappedLun::special(self)
    }
    fn weight(&self) -> &Weight {
        MappedLun::weight(self)
    }
    fn lun(&self) -> &Lun {
        MappedLun::lun(self)
    }
}

fn object<M: Measured>(dir: &M, value: &Value<'_>) -> Result<Arc<M::Object>> {
    dir.object()
        .map_err(|e| value.reject(e, fmt!("nothing is linked here")))
}

const KEYS: [&str; 5] = [
    "iops",
    "iops_burst",
    "bytes_per_second",
    "bytes_burst",
    "shares",
];

/// `KEY=NUMBER` of all, with commas between them.
pub(super) fn show<M: Measured>(dir: &M, page: &mut Page<'_>) -> Result {
    const NONE: Rate = Rate {
        per_second: 0,
        burst: 0,
    };
    let object = dir.object()?;
    let limits = object.special().limits();
    let rate = |which| limits.map_or(NONE, |l| l.limit(which).rate());
    let (commands, bytes) = (rate(Which::Commands), rate(Which::Bytes));
    let numbers = [
        commands.per_second,
        commands.burst,
        bytes.per_second,
        bytes.burst,
        object.weight().get().into(),
    ];
    for (i, (key, number)) in KEYS.iter().zip(numbers).enumerate() {
        let comma = if i == 0 { "" } else { "," };
        page.write_fmt(fmt!("{comma}{key}={number}"))?;
    }
    writeln!(page)
}

/// Some of the same: the others stay as they are. All of them or none.
pub(super) fn store<M: Measured>(dir: &M, value: &Value<'_>) -> Result {
    let mut new = [None; KEYS.len()];
    for pair in value.str()?.split([',', '\n']) {
        let (place, number) = parse(pair, &mut new)
            .ok_or_else(|| value.reject(EINVAL, fmt!("'{pair}' is not KEY=NUMBER")))?;
        *place = Some(number);
    }
    let [iops, iops_burst, bytes, bytes_burst, shares] = new;
    let rates = [iops, iops_burst, bytes, bytes_burst];
    if rates.iter().flatten().any(|n| *n > MAX_UNITS) {
        return Err(value.reject(ERANGE, fmt!("a rate is from 0 to {MAX_UNITS}")));
    }
    if shares.is_some_and(|n| n > MOST.into()) {
        return Err(value.reject(ERANGE, fmt!("shares are from 0 to {MOST}")));
    }
    let object = object(dir, value)?;
    let (lun, special) = (object.lun(), object.special());
    let no_memory = |e| value.reject(e, fmt!("there is no memory for it"));
    if rates.iter().any(Option::is_some) {
        special.make_limits().map_err(no_memory)?;
    }
    if let Some(weight) = shares {
        // Not above MOST.
        lun.set_shares(object.weight(), weight as u32)
            .map_err(|e| value.reject(e, fmt!("nothing is linked here any more")))?;
    }
    if rates.iter().any(Option::is_some) {
        lun.set_limits(special, |limits| {
            let set = |which, per_second: Option<u64>, burst: Option<u64>| {
                if per_second.or(burst).is_some() {
                    let old = limits.limit(which).rate();
                    let rate = Rate {
                        per_second: per_second.unwrap_or(old.per_second),
                        burst: burst.unwrap_or(old.burst),
                    };
                    limits.set(which, rate);
                }
            };
            set(Which::Commands, iops, iops_burst);
            set(Which::Bytes, bytes, bytes_burst);
        })
        .map_err(no_memory)?;
    }
    Ok(())
}

// The place of a pair's key, and the number.
fn parse<'a>(
    pair: &str,
    places: &'a mut [Option<u64>; KEYS.len()],
) -> Option<(&'a mut Option<u64>, u64)> {
    let (key, number) = pair.split_once('=')?;
    let mut places = KEYS.iter().zip(places);
    let (_, place) = places.find(|(k, _)| **k == key.trim())?;
    Some((place, number.trim().parse().ok()?))
}

/// `0`, or `1` and the histogram.
pub(super) fn show_latency<M: Measured>(dir: &M, page: &mut Page<'_>) -> Result {
    let object = dir.object()?;
    match object.special().latency().filter(|l| l.is_on()) {
        None => writeln!(page, "0"),
        Some(latency) => {
            writeln!(page, "1")?;
            latency.show(page)
        }
    }
}

/// Begins a histogram, from nothing, or ends it.
pub(super) fn store_latency<M: Measured>(dir: &M, value: &Value<'_>) -> Result {
    let on = value.bool()?;
    let object = object(dir, value)?;
    object
        .lun()
        .set_measured(object.special(), on)
        .map_err(|e| value.reject(e, fmt!("there is no memory for it")))
}
