// SPDX-License-Identifier: GPL-2.0

//! `core/KIND_N/NAME/attrib`.

use super::{fixed, fixed_flag};
use crate::{device::Device, mode::interlock};
use kernel::{error::code::*, prelude::*};
use lio_configfs::{attributes, Value};
use lio_scsi::{lba::BlockSize, mode::Values, pi};

macro_rules! show {
    ($name:ident) => {
        |dev, page| writeln!(page, "{}", u32::from(dev.attrib().$name()))
    };
}

// A number or a truth value that may be written at any time.
macro_rules! number {
    ($set:ident) => {
        |dev, value| {
            dev.attrib().$set(value.u32()?);
            Ok(())
        }
    };
}
macro_rules! flag {
    ($set:ident) => {
        |dev, value| {
            dev.attrib().$set(value.bool()?);
            Ok(())
        }
    };
}

// A value behind which nothing is implemented.
macro_rules! fixed {
    ($name:ident) => {
        |dev, value| fixed(value, dev.attrib().$name())
    };
}
macro_rules! fixed_flag {
    ($name:ident) => {
        |dev, value| fixed_flag(value, dev.attrib().$name())
    };
}

attributes! {
    pub(super) static ATTRIB: Device = {
        rw "alua_support" => show!(alua_support), |dev, value| {
            if value.bool()? != dev.attrib().alua_support() {
                return Err(value.reject(ENOSYS, fmt!("the back end has no access states of its own")));
            }
            Ok(())
        };
        // As page B0 has them.
        ro "atomic_alignment" => |dev, page| writeln!(page, "{}", dev.limits().atomic_alignment);
        ro "atomic_granularity" => |dev, page| writeln!(page, "{}", dev.limits().atomic_granularity);
        ro "atomic_max_boundary" => |_, page| writeln!(page, "0");
        ro "atomic_max_len" => |dev, page| writeln!(page, "{}", dev.limits().max_atomic);
        ro "atomic_max_with_boundary" => |_, page| writeln!(page, "0");
        rw "block_size" => show!(block_size), block_size;
        rw "complete_type" => show!(complete_type), fixed!(complete_type);
        rw "emulate_3pc" => show!(emulate_3pc), flag!(set_emulate_3pc);
        rw "emulate_caw" => show!(emulate_caw), flag!(set_emulate_caw);
        rw "emulate_dpo" => show!(emulate_dpo), always;
        rw "emulate_fua_read" => show!(emulate_fua_read), always;
        rw "emulate_fua_write" => show!(emulate_fua_write), flag!(set_emulate_fua_write);
        rw "emulate_model_alias" => show!(emulate_model_alias), model_alias;
        rw "emulate_pr" => show!(emulate_pr), |dev, value| {
            let on = value.bool()?;
            let a = dev.attrib();
            idle(dev, value, a.emulate_pr() == on, || {
                a.set_emulate_pr(on);
                dev.reservations().refresh(dev);
            })
        };
        rw "emulate_rest_reord" => show!(emulate_rest_reord), |dev, value| {
            let on = value.bool()?;
            let a = dev.attrib();
            idle(dev, value, a.emulate_rest_reord() == on, || a.set_emulate_rest_reord(on))
        };
        rw "emulate_rsoc" => show!(emulate_rsoc), flag!(set_emulate_rsoc);
        rw "emulate_sanitize" => show!(emulate_sanitize), flag!(set_emulate_sanitize);
        rw "emulate_tas" => show!(emulate_tas), |dev, value| {
            let on = value.bool()?;
            idle_mode(dev, value, dev.attrib().emulate_tas() == on, |mode| mode.task_aborted_status = on)
        };
        rw "emulate_tpu" => show!(emulate_tpu), |dev, value| {
            let on = value.bool()?;
            thin(dev, value, on)?;
            dev.attrib().set_emulate_tpu(on);
            Ok(())
        };
        rw "emulate_tpws" => show!(emulate_tpws), |dev, value| {
            let on = value.bool()?;
            thin(dev, value, on)?;
            dev.attrib().set_emulate_tpws(on);
            Ok(())
        };
        rw "emulate_ua_intlck_ctrl" => show!(emulate_ua_intlck_ctrl), |dev, value| {
            let to = value.u32_in(0..=2)?;
            let same = dev.attrib().emulate_ua_intlck_ctrl() == to;
            idle_mode(dev, value, same, |mode| mode.interlock = interlock(to))
        };
        rw "emulate_write_cache" => |dev, page| writeln!(page, "{}", u32::from(shown_write_cache(dev))), write_cache;
        rw "emulate_write_long" => show!(emulate_write_long), flag!(set_emulate_write_long);
        rw "emulate_write_same_all" => show!(emulate_write_same_all), flag!(set_emulate_write_same_all);
        rw "enforce_pr_isids" => show!(enforce_pr_isids), |dev, value| {
            let on = value.bool()?;
            let a = dev.attrib();
            idle(dev, value, a.enforce_pr_isids() == on, || a.set_enforce_pr_isids(on))
        };
        rw "force_pr_aptpl" => show!(force_pr_aptpl), |dev, value| {
            let on = value.bool()?;
            let a = dev.attrib();
            idle(dev, value, a.force_pr_aptpl() == on, || a.set_force_pr_aptpl(on))
        };
        ro "hw_block_size" => show!(hw_block_size);
        ro "hw_max_sectors" => show!(hw_max_sectors);
        ro "hw_pi_prot_type" => show!(hw_pi_prot_type);
        ro "hw_queue_depth" => show!(hw_queue_depth);
        rw "is_nonrot" => show!(is_nonrot), flag!(set_is_nonrot);
        rw "max_unmap_block_desc_count" => show!(max_unmap_block_desc_count), number!(set_max_unmap_block_desc_count);
        rw "max_unmap_lba_count" => show!(max_unmap_lba_count), number!(set_max_unmap_lba_count);
        rw "max_write_same_len" => show!(max_write_same_len), number!(set_max_write_same_len);
        rw "optimal_sectors" => show!(optimal_sectors), optimal_sectors;
        rw "pgr_support" => show!(pgr_support), fixed_flag!(pgr_support);
        // Stays readable and writable for tools, and always is 0.
        rw "pi_prot_format" => |_, page| writeln!(page, "0"), protection_format;
        rw "pi_prot_type" => show!(pi_prot_type), protection_type;
        rw "pi_prot_verify" => show!(pi_prot_verify), protection_verify;
        rw "queue_depth" => show!(queue_depth), queue_depth;
        rw "removable" => show!(removable), |dev, value| {
            let on = value.bool()?;
            idle(dev, value, dev.attrib().removable() == on, || dev.attrib().set_removable(on))
        };
        rw "submit_type" => show!(submit_type), fixed!(submit_type);
        rw "unmap_granularity" => show!(unmap_granularity), number!(set_unmap_granularity);
        rw "unmap_granularity_alignment" =>
            show!(unmap_granularity_alignment), number!(set_unmap_granularity_alignment);
        rw "unmap_zeroes_data" => show!(unmap_zeroes_data), |dev, value| {
            let on = value.bool()?;
            let same = dev.attrib().unmap_zeroes_data() == on;
            if !same {
                thin(dev, value, on)?;
            }
            idle(dev, value, same, || dev.attrib().set_unmap_zeroes_data(on))
        };
    }
}

// Has `f` set a value that no initiator may see changing. The value that is in force may be written at any time.
fn idle(dev: &Device, value: &Value<'_>, same: bool, f: impl FnOnce()) -> Result {
    if same {
        return Ok(());
    }
    dev.unexported(f).ok_or_else(|| {
        value.reject(
            EINVAL,
            fmt!("cannot be changed while a LUN is linked to it"),
        )
    })
}

// The same where what is at work, perhaps for a LUN that has gone, may not see it changing: of the blocks themselves.
fn at_rest(dev: &Device, value: &Value<'_>, f: impl FnOnce()) -> Result {
    dev.unused(f).ok_or_else(|| {
        value.reject(
            EINVAL,
            fmt!("cannot be changed while a LUN is linked to it, or something is at work"),
        )
    })
}

// The same of a mode parameter that no back end has a part in.
fn idle_mode(dev: &Device, value: &Value<'_>, same: bool, f: impl Fn(&mut Values)) -> Result {
    let mut result = Ok(());
    idle(dev, value, same, || result = dev.set_mode(f))?;
    result
}

// Values that are deprecated: the bits are accepted in any case, and mean nothing to a device without volatile data.
fn always(dev: &Device, value: &Value<'_>) -> Result {
    if !value.bool()? {
        pr_warn!(
            "{}/attrib: DPO, and FUA on reads, are accepted in any case: 0 has no effect\n",
            dev.path()
        );
    }
    Ok(())
}

fn block_size(dev: &Device, value: &Value<'_>) -> Result {
    let size = value.u32()?;
    if BlockSize::new(size).is_none() {
        return Err(value.reject(EINVAL, fmt!("512, 1024, 2048 or 4096 is wanted")));
    }
    if size < dev.attrib().hw_block_size() {
        return Err(value.reject(
            EINVAL,
            fmt!(
                "less than the storage's {} bytes",
                dev.attrib().hw_block_size()
            ),
        ));
    }
    let same = dev.attrib().block_size() == size;
    if !same && dev.protection().is_some() {
        return Err(value.reject(
            EINVAL,
            fmt!("protection information is kept for blocks of the size that they have"),
        ));
    }
    if same {
        return Ok(());
    }
    at_rest(dev, value, || dev.attrib().set_block_size(size))
}

// Protection information that the storage has of its own is told of as it is, as with the stock modules.
fn protected_by_storage(dev: &Device) -> bool {
    let has = dev.attrib().hw_pi_prot_type() != 0;
    if has {
        pr_warn!(
            "{}/attrib: the protection information is the storage's own, and stays as it is\n",
            dev.path()
        );
    }
    has
}

// What can be done about protection information at all.
fn protectable(dev: &Device, value: &Value<'_>) -> Result {
    if !dev.backend().can_protect() {
        return Err(value.reject(
            ENOSYS,
            fmt!("the back end cannot keep protection information"),
        ));
    }
    if dev.geometry().is_none() {
        return Err(value.reject(ENODEV, fmt!("the device is not enabled")));
    }
    Ok(())
}

fn protection_type(dev: &Device, value: &Value<'_>) -> Result {
    let number = value.u32()?;
    let to = pi::Type::new(number);
    if number > 3 {
        return Err(value.reject(EINVAL, fmt!("0, 1, 2 or 3 is wanted")));
    }
    if protected_by_storage(dev) || to == dev.protection() {
        return Ok(());
    }
    protectable(dev, value)?;
    let mut result = Ok(());
    at_rest(dev, value, || result = dev.set_protection(to))?;
    result.map_err(|e| {
        value.reject(
            e,
            fmt!("the back end cannot keep protection information of this device"),
        )
    })
}

fn protection_format(dev: &Device, value: &Value<'_>) -> Result {
    if !value.bool()? {
        return Ok(());
    }
    protectable(dev, value)?;
    if dev.protection().is_none() {
        return Err(value.reject(ENODEV, fmt!("pi_prot_type is 0")));
    }
    let mut result = Ok(());
    at_rest(dev, value, || {
        result = dev.backend().format_protection();
    })?;
    result.map_err(|e| value.reject(e, fmt!("not all protection information is formatted")))
}

// Without protection information it has no effect, as with the stock modules.
fn protection_verify(dev: &Device, value: &Value<'_>) -> Result {
    let on = value.bool()?;
    if on && dev.protection().is_none() {
        pr_warn!(
            "{}/attrib: pi_prot_type is 0: pi_prot_verify=1 has no effect\n",
            dev.path()
        );
        return Ok(());
    }
    dev.attrib().set_pi_prot_verify(on);
    Ok(())
}

fn optimal_sectors(dev: &Device, value: &Value<'_>) -> Result {
    let to = value.u32()?;
    if to > dev.attrib().hw_max_sectors() {
        return Err(value.reject(
            EINVAL,
            fmt!(
                "more than hw_max_sectors, {}",
                dev.attrib().hw_max_sectors()
            ),
        ));
    }
    let same = dev.attrib().optimal_sectors() == to;
    idle(dev, value, same, || dev.attrib().set_optimal_sectors(to))
}

fn queue_depth(dev: &Device, value: &Value<'_>) -> Result {
    let a = dev.attrib();
    let to = value.u32()?;
    let same = a.queue_depth() == to;
    if !same && (to == 0 || to > a.queue_depth().max(a.hw_queue_depth())) {
        return Err(value.reject(
            EINVAL,
            fmt!("a number from 1 to {} is wanted", a.hw_queue_depth()),
        ));
    }
    idle(dev, value, same, || {
        a.set_queue_depth(to);
        a.set_queue_depth_set(to);
    })
}

// The product becomes the directory's name, or the back end's own again.
fn model_alias(dev: &Device, value: &Value<'_>) -> Result {
    let on = value.bool()?;
    let mut product = KVec::new();
    if on {
        // One byte less than there is room for, as the stock modules have it.
        let name = dev.name().to_bytes();
        product.extend_from_slice(name.get(..15).unwrap_or(name), GFP_KERNEL)?;
    }
    let same = dev.attrib().emulate_model_alias() == on;
    idle(dev, value, same, || {
        dev.names().lock().product = product;
        dev.attrib().set_emulate_model_alias(on);
    })
}

fn shown_write_cache(dev: &Device) -> bool {
    dev.backend().emulates_write_cache() && dev.backend().write_cache()
}

fn write_cache(dev: &Device, value: &Value<'_>) -> Result {
    let on = value.bool()?;
    if !dev.backend().emulates_write_cache() {
        if !on {
            return Ok(());
        }
        return Err(value.reject(
            EINVAL,
            fmt!("the write cache is the storage's own, and told of as it is"),
        ));
    }
    dev.set_mode(|mode| mode.write_cache = on)
        .map_err(|e| value.reject(e, fmt!("the back end cannot do that")))
}

// Thin provisioning can be switched on where the back end can give storage back. If it gave no limits, these are set.
fn thin(dev: &Device, value: &Value<'_>, on: bool) -> Result {
    if !on {
        return Ok(());
    }
    if dev.geometry().is_none() {
        return Err(value.reject(ENODEV, fmt!("the device is not enabled")));
    }
    if !dev.backend().can_unmap() {
        return Err(value.reject(ENOSYS, fmt!("the back end cannot give storage back")));
    }
    let a = dev.attrib();
    if a.max_unmap_block_desc_count() == 0 {
        a.set_max_unmap_block_desc_count(1);
        a.set_unmap_granularity(4096u32.wrapping_shr(dev.block_size().shift()).max(1));
    }
    if a.max_unmap_lba_count() == 0 {
        // 4 GiB of 512 bytes, the most that a 32-bit length in bytes has room for.
        a.set_max_unmap_lba_count(u32::MAX.wrapping_shr(9));
    }
    Ok(())
}
