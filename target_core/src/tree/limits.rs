// SPDX-License-Identifier: GPL-2.0

//! `limits/` and `statistics/latency/` of a LUN, and of a LUN as one initiator sees it. The stock modules have neither.

use super::{acl::MappedDir, lun::LunDir};
use crate::{
    latency::Latency,
    limits::{Limits, Which},
    lun::{Lun, MappedLun},
};
use kernel::{prelude::*, sync::Arc, ThisModule};
use lio_configfs::{attributes, Attr, Builder, Page, Value};
use lio_policy::{
    rate::{Rate, MAX_UNITS},
    shares::MOST,
};

/// What has limits and a histogram.
trait Measured: Send + Sync + 'static {
    type Object: Holder;

    fn object(&self) -> Result<Arc<Self::Object>>;
}

/// A LUN, or an initiator's view of one.
trait Holder {
    fn limits(&self) -> &Limits;
    fn latency(&self) -> &Latency;
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
    fn limits(&self) -> &Limits {
        Lun::limits(self)
    }
    fn latency(&self) -> &Latency {
        Lun::latency(self)
    }
    fn lun(&self) -> &Lun {
        self
    }
}

impl Holder for MappedLun {
    fn limits(&self) -> &Limits {
        MappedLun::limits(self)
    }
    fn latency(&self) -> &Latency {
        MappedLun::latency(self)
    }
    fn lun(&self) -> &Lun {
        MappedLun::lun(self)
    }
}

fn show<M: Measured>(
    dir: &M,
    page: &mut Page<'_>,
    which: Which,
    f: impl FnOnce(Rate) -> u64,
) -> Result {
    let object = dir.object()?;
    writeln!(page, "{}", f(object.limits().limit(which).rate()))
}

fn store<M: Measured>(
    dir: &M,
    value: &Value<'_>,
    which: Which,
    f: impl FnOnce(&mut Rate, u64),
) -> Result {
    let number = value.u64()?;
    if number > MAX_UNITS {
        return Err(value.reject(ERANGE, fmt!("a number from 0 to {MAX_UNITS} is wanted")));
    }
    let object = object(dir, value)?;
    object
        .lun()
        .set_limit(object.limits(), which, |rate| f(rate, number));
    Ok(())
}

fn store_shares<M: Measured>(dir: &M, value: &Value<'_>) -> Result {
    let weight = value.u32_in(0..=MOST)?;
    let object = object(dir, value)?;
    object
        .lun()
        .set_shares(object.limits(), weight)
        .map_err(|e| value.reject(e, fmt!("there is no memory for it")))
}

fn object<M: Measured>(dir: &M, value: &Value<'_>) -> Result<Arc<M::Object>> {
    dir.object()
        .map_err(|e| value.reject(e, fmt!("nothing is linked here")))
}

fn show_enable<M: Measured>(dir: &M, page: &mut Page<'_>) -> Result {
    writeln!(page, "{}", u32::from(dir.object()?.latency().is_on()))
}

fn store_enable<M: Measured>(dir: &M, value: &Value<'_>) -> Result {
    let on = value.bool()?;
    let object = object(dir, value)?;
    object
        .lun()
        .set_measured(object.latency(), on)
        .map_err(|e| value.reject(e, fmt!("there is no memory for it")))
}

macro_rules! tables {
    ($limits:ident, $latency:ident, $dir:ty) => {
        attributes! {
            static $limits: $dir = {
                rw "bytes_burst" => |dir, page| show(dir, page, Which::Bytes, |r| r.burst),
                    |dir, value| store(dir, value, Which::Bytes, |r, n| r.burst = n);
                rw "bytes_per_second" => |dir, page| show(dir, page, Which::Bytes, |r| r.per_second),
                    |dir, value| store(dir, value, Which::Bytes, |r, n| r.per_second = n);
                rw "iops" => |dir, page| show(dir, page, Which::Commands, |r| r.per_second),
                    |dir, value| store(dir, value, Which::Commands, |r, n| r.per_second = n);
                rw "iops_burst" => |dir, page| show(dir, page, Which::Commands, |r| r.burst),
                    |dir, value| store(dir, value, Which::Commands, |r, n| r.burst = n);
                rw "shares" => |dir, page| writeln!(page, "{}", dir.object()?.limits().weight().get()), store_shares;
            }

            static $latency: $dir = {
                rw "enable" => show_enable, store_enable;
                ro "histogram" => |dir, page| dir.object()?.latency().show(page);
            }
        }
    };
}

tables!(LUN_LIMITS, LUN_LATENCY, LunDir);
tables!(MAPPED_LIMITS, MAPPED_LATENCY, MappedDir);

fn builder<T: Send + Sync + 'static>(
    name: &'static str,
    table: &'static [Attr<T>],
    dir: &Arc<T>,
    module: &'static ThisModule,
) -> Builder<'static> {
    Builder::new(module, name).attrs(table, dir.clone())
}

pub(super) fn lun(dir: &Arc<LunDir>, module: &'static ThisModule) -> Builder<'static> {
    builder("limits", LUN_LIMITS, dir, module)
}

pub(super) fn lun_latency(dir: &Arc<LunDir>, module: &'static ThisModule) -> Builder<'static> {
    builder("latency", LUN_LATENCY, dir, module)
}

pub(super) fn mapped(dir: &Arc<MappedDir>, module: &'static ThisModule) -> Builder<'static> {
    builder("limits", MAPPED_LIMITS, dir, module)
}

pub(super) fn mapped_latency(
    dir: &Arc<MappedDir>,
    module: &'static ThisModule,
) -> Builder<'static> {
    builder("latency", MAPPED_LATENCY, dir, module)
}
