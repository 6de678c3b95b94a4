// SPDX-License-Identifier: GPL-2.0

//! Registrations as text, in the stock modules' format: what APTPL keeps in `pr/aptpl_SERIAL`, and what tools hand back through
//! `res_aptpl_metadata`, one registration at a time, its lines joined by commas.

use core::fmt;
use lio_scsi::pr::{Name, Type};

/// What a file without registrations has.
pub const NONE: &str = "No Registrations or Reservations";

/// A registration, with all that its I_T nexus is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept<'a> {
    /// The fabric's name: `iSCSI`, `loopback`.
    pub fabric: &'a str,
    /// The initiator's name, as ACLs have it.
    pub initiator: &'a str,
    /// What tells the initiator's ports apart.
    pub isid: Option<[u8; 6]>,
    /// The reservation key.
    pub key: u64,
    /// The reservation that it holds.
    pub holds: Option<Type>,
    /// ALL_TG_PT
    pub all_ports: bool,
    /// The initiator's own number for the logical unit.
    pub mapped_lun: u64,
    /// The target's name.
    pub target: &'a str,
    /// The portal group's tag.
    pub tag: u16,
    /// The relative target port identifier.
    pub rtpi: u16,
    /// The portal group's number for the logical unit.
    pub target_lun: u64,
}

impl<'a> Kept<'a> {
    /// Reads the text of one registration. What is not known is passed over.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &'a str) -> Result<Self, &'static str> {
        let (mut fabric, mut initiator, mut target, mut isid) = (None, None, None, None);
        let (mut key, mut holder, mut kind, mut all_ports) = (0, 0, 0, 0);
        let (mut mapped_lun, mut tag, mut rtpi, mut target_lun) = (0, 0, 0, 0);
        for item in text.split([',', '\n']) {
            let Some((name, value)) = item.trim().split_once('=') else {
                continue;
            };
            let name_of = |value: &'a str, most| {
                if value.is_empty() || value.len() > most {
                    Err("a name is empty or too long")
                } else {
                    Ok(Some(value))
                }
            };
            match name {
                "initiator_fabric" | "target_fabric" => fabric = name_of(value, 32)?,
                "initiator_node" => initiator = name_of(value, Name::MAX)?,
                "initiator_sid" => isid = Some(parse_isid(value).ok_or("no initiator_sid")?),
                "sa_res_key" => key = number(value)?,
                "res_holder" => holder = number(value)?,
                "res_type" => kind = number(value)?,
                "res_all_tg_pt" => all_ports = number(value)?,
                "mapped_lun" => mapped_lun = number(value)?,
                "target_node" => target = name_of(value, Name::MAX)?,
                "tpgt" => tag = number(value)?,
                "port_rtpi" => rtpi = number(value)?,
                "target_lun" => target_lun = number(value)?,
                _ => {}
            }
        }
        if key == 0 {
            return Err("sa_res_key is missing");
        }
        let port = |value| u16::try_from(value).map_err(|_| "a number is too large");
        let holds = if holder == 0 {
            None
        } else {
            let kind = u8::try_from(kind).ok().and_then(Type::new);
            Some(kind.ok_or("a holder has no res_type")?)
        };
        Ok(Self {
            fabric: fabric.unwrap_or("iSCSI"),
            initiator: initiator.ok_or("initiator_node is missing")?,
            isid,
            key,
            holds,
            all_ports: all_ports != 0,
            mapped_lun,
            target: target.ok_or("target_node is missing")?,
            tag: port(tag)?,
            rtpi: port(rtpi)?,
            target_lun,
        })
    }

    /// Writes the lines of the `index`th registration of a file.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, index: usize, out: &mut dyn fmt::Write) -> fmt::Result {
        let fabric = self.fabric;
        writeln!(out, "PR_REG_START: {index}")?;
        writeln!(out, "initiator_fabric={fabric}")?;
        writeln!(out, "initiator_node={}", self.initiator)?;
        if let Some(isid) = self.isid {
            out.write_str("initiator_sid=")?;
            for byte in isid {
                write!(out, "{byte:02x}")?;
            }
            out.write_str("\n")?;
        }
        writeln!(out, "sa_res_key={}", self.key)?;
        match self.holds {
            // The stock modules write 08, and take that for a wrong octal number when they read it.
            Some(kind @ Type::ExclusiveAccessAllRegistrants) => {
                writeln!(out, "res_holder=1\nres_type={}\nres_scope=00", kind as u8)?;
            }
            Some(kind) => {
                writeln!(
                    out,
                    "res_holder=1\nres_type={:02x}\nres_scope=00",
                    kind as u8
                )?;
            }
            None => writeln!(out, "res_holder=0")?,
        }
        writeln!(out, "res_all_tg_pt={}", u8::from(self.all_ports))?;
        writeln!(out, "mapped_lun={}", self.mapped_lun)?;
        writeln!(out, "target_fabric={fabric}\ntarget_node={}", self.target)?;
        writeln!(out, "tpgt={}\nport_rtpi={}", self.tag, self.rtpi)?;
        writeln!(out, "target_lun={}\nPR_REG_END: {index}", self.target_lun)
    }
}

/// Whether `file` is all that was written to it: each registration with its end, or [`NONE`], and the NUL that is the last of it. It may
/// have been cut off where it was not replaced as a whole.
pub fn is_whole(file: &[u8]) -> bool {
    let Some(mut rest) = file
        .strip_suffix(&[0])
        .and_then(|text| core::str::from_utf8(text).ok())
    else {
        return false;
    };
    if rest.trim_end() == NONE {
        return true;
    }
    let mut count = 0usize;
    while !rest.is_empty() {
        let Some(after) = registration(rest) else {
            return false;
        };
        rest = after;
        count = count.saturating_add(1);
    }
    count != 0
}

// What follows the first registration of a file.
fn registration(text: &str) -> Option<&str> {
    let (number, rest) = text.strip_prefix("PR_REG_START: ")?.split_once('\n')?;
    let (lines, rest) = rest.split_once("PR_REG_END: ")?;
    let (end, rest) = rest.split_once('\n')?;
    (number == end && Kept::parse(lines).is_ok()).then_some(rest)
}

fn number(text: &str) -> Result<u64, &'static str> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "a number is none")
}

fn parse_isid(text: &str) -> Option<[u8; 6]> {
    if text.len() > 12 || !text.bytes().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    let value = u64::from_str_radix(text, 16).ok()?;
    let [_, _, isid @ ..] = value.to_be_bytes();
    Some(isid)
}
