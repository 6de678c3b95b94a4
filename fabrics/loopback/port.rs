// SPDX-License-Identifier: GPL-2.0

//! The loopback fabric's configuration: `target/loopback/WWN/tpgt_N`.
//!
//! A target is a SCSI host, a portal group is one of its target numbers, and the one initiator that there is, is named in
//! the group's `nexus` file.

use crate::{
    glue::{host::Host, scmd::HostByte},
    Loopback, Ports,
};
use kernel::{
    new_mutex,
    prelude::*,
    str::CString,
    sync::{
        atomic::{Acquire, Atomic, Full, Relaxed},
        Arc, Mutex,
    }, //
};
use lio_configfs::{attributes, Builder, Value};
use lio_glue::{rcu_box::RcuBox, rcu_map::RcuMap, wait::WaitQueue};
use lio_scsi::pi::Type;
use target_core::{
    fabric::{Contexts, FabricKind, FabricTarget, FabricTpg, Protocol, TpgDir},
    lun::Lun,
    session::Session,
    tpg::{Access, Target, Tpg},
};

/// Target numbers of a host.
const MAX_TAG: u16 = 31;

/// The kinds of names that a target and its initiator can have.
const NAMES: [(&str, Protocol); 3] = [
    ("naa.", Protocol::Sas),
    ("fc.", Protocol::Fcp),
    ("iqn.", Protocol::Iscsi),
];

fn protocol_of(name: &str) -> Option<Protocol> {
    let (_, protocol) = NAMES.iter().find(|(prefix, _)| name.starts_with(prefix))?;
    Some(*protocol)
}

attributes! {
    static ROOT: () = {
        ro "version" => |(), page| writeln!(page, "TCM Loopback Fabric module v2.1-rc2");
    }
    static BASE: Port = {
        rw "nexus" => |port, page| {
            let session = port.session.get().ok_or(ENODEV)?;
            page.put(session.core().initiator().to_bytes());
            page.put(b"\n");
            Ok(())
        }, Port::set_nexus;
        rw "transport_status" => |port, page| {
            writeln!(page, "{}", if port.is_offline() { "offline" } else { "online" })
        }, Port::set_transport_status;
        ro "address" => |port, page| writeln!(page, "{}:0:{}", port.host.number(), port.tpg.tag());
    }
    static ATTRIB: Port = {
        // Of units that have no protection information of their own; the next nexus has it.
        rw "fabric_prot_type" => |port, page| writeln!(page, "{}", port.protection.load(Relaxed)), |port, value| {
            match value.u32()? {
                to @ (0 | 1 | 3) => {
                    port.protection.store(to, Relaxed);
                    Ok(())
                }
                _ => Err(value.reject(EINVAL, fmt!("0, 1 or 3 is wanted: none, or the type"))),
            }
        };
    }
}

/// The fabric, as its module registers it.
pub(crate) static KIND: Kind = Kind;

/// See [`KIND`].
pub(crate) struct Kind;

impl FabricKind for Kind {
    fn name(&self) -> &'static str {
        "loopback"
    }

    fn root<'a>(&self, dir: Builder<'a>) -> Builder<'a> {
        match Arc::new((), GFP_KERNEL) {
            Ok(nothing) => dir.attrs(ROOT, nothing),
            Err(_) => dir,
        }
    }

    fn contexts(&self) -> Contexts {
        Contexts {
            submit: 2,
            direct_submit: false,
            ..Contexts::default()
        }
    }

    fn make_target(&self, target: &Arc<Target>) -> Result<Arc<dyn FabricTarget>> {
        let name = target.name().to_str().map_err(|_| EINVAL)?;
        let Some(protocol) = protocol_of(name) else {
            pr_err!("loopback/{name}: a name starts with naa., fc. or iqn.\n");
            return Err(EINVAL);
        };
        let ports = Arc::pin_init(pin_init!(Ports { ports <- RcuMap::new() }), GFP_KERNEL)?;
        let host = Arc::new(Host::add(ports.clone())?, GFP_KERNEL)?;
        Ok(Arc::new(
            Wwn {
                protocol,
                host,
                ports,
            },
            GFP_KERNEL,
        )?)
    }
}

/// `target/loopback/WWN`.
struct Wwn {
    protocol: Protocol,
    host: Arc<Host<Ports>>,
    ports: Arc<Ports>,
}

impl FabricTarget for Wwn {
    fn make_tpg(&self, tpg: &Arc<Tpg>) -> Result<Arc<dyn FabricTpg>> {
        if tpg.tag() > MAX_TAG {
            pr_err!("{}: a tag is at most {MAX_TAG}\n", tpg.path());
            return Err(EINVAL);
        }
        let port = Arc::pin_init(
            pin_init!(Port {
                tpg: tpg.clone(),
                protocol: self.protocol,
                host: self.host.clone(),
                ports: self.ports.clone(),
                offline: Atomic::new(0),
                protection: Atomic::new(0),
                session <- RcuBox::new(),
                luns <- new_mutex!(KVec::new(), "Port::luns"),
                leaving: Atomic::new(0),
                left <- WaitQueue::new(),
            }),
            GFP_KERNEL,
        )?;
        // Last: nobody but a group that is there takes it back.
        let group = Arc::new(Group(port.clone()), GFP_KERNEL)?;
        self.ports.ports.insert(tpg.tag().into(), port)?;
        Ok(group)
    }
}

/// `tpgt_N`: a target number of the host.
#[pin_data]
pub(crate) struct Port {
    tpg: Arc<Tpg>,
    protocol: Protocol,
    host: Arc<Host<Ports>>,
    ports: Arc<Ports>,
    offline: Atomic<u32>,
    // `fabric_prot_type`
    protection: Atomic<u32>,
    // The one nexus.
    #[pin]
    session: RcuBox<Session<Loopback>>,
    // Held while the nexus comes or goes, or a device comes.
    #[pin]
    luns: Mutex<KVec<u16>>,
    // How many are not linked any more and have devices whose commands are not done. Grows with `luns` held.
    leaving: Atomic<u32>,
    #[pin]
    left: WaitQueue,
}

impl Port {
    /// The session for a command that arrives, or why there is none. Any context.
    pub(crate) fn session(&self) -> Result<Arc<Session<Loopback>>, HostByte> {
        if self.is_offline() {
            return Err(HostByte::TransportDisrupted);
        }
        self.session.get().ok_or(HostByte::Error)
    }

    /// The session for task management: commands that are at work are not lost with the transport. Without one there are none,
    /// since it ends after the devices.
    pub(crate) fn working(&self) -> Option<Arc<Session<Loopback>>> {
        self.session.get()
    }

    fn is_offline(&self) -> bool {
        self.offline.load(Relaxed) != 0
    }

    fn set_transport_status(&self, value: &Value<'_>) -> Result {
        match value.str()? {
            "online" => self.offline.store(0, Relaxed),
            "offline" => {
                self.offline.store(1, Relaxed);
                if let Some(session) = self.session.get() {
                    session.core().nexus_lost();
                }
            }
            _ => return Err(value.reject(EINVAL, fmt!("online or offline is wanted"))),
        }
        Ok(())
    }

    fn set_nexus(&self, value: &Value<'_>) -> Result {
        let name = value.str()?;
        let luns = self.luns.lock();
        if name == "NULL" {
            if self.session.get().is_none() {
                return Err(value.reject(ENODEV, fmt!("there is none")));
            }
            let leaving = self.leaving.load(Acquire) as usize;
            let there = luns.len().saturating_add(leaving);
            if there != 0 {
                return Err(value.reject(EPERM, fmt!("{there} LUNs are linked")));
            }
            self.end_session();
            return Ok(());
        }
        if self.session.get().is_some() {
            return Err(value.reject(EEXIST, fmt!("there is one already")));
        }
        if protocol_of(name) != Some(self.protocol) {
            return Err(value.reject(EINVAL, fmt!("'{name}' is no name like the target's")));
        }
        let name = name.strip_prefix("fc.").unwrap_or(name);
        let session = Session::start_session(
            &self.tpg,
            CString::try_from_fmt(fmt!("{name}"))?,
            Access::All,
            // A command is free for the midlayer a moment before its slot is.
            self.host.depth().saturating_add(64),
            Type::new(self.protection.load(Relaxed)),
        )?;
        if let Err(error) = self.session.publish(session.clone()) {
            session.close();
            return Err(error);
        }
        for lun in luns.iter() {
            self.add_device(*lun);
        }
        Ok(())
    }

    fn end_session(&self) {
        if let Some(session) = self.session.clear() {
            session.close();
        }
    }

    fn add_device(&self, lun: u16) {
        if let Err(error) = self.host.add_lun(self.tpg.tag().into(), lun.into()) {
            pr_err!(
                "{}/lun_{lun}: the SCSI host does not find it: {error:?}\n",
                self.tpg.path()
            );
        }
    }
}

/// The directory of a [`Port`].
struct Group(Arc<Port>);

impl FabricTpg for Group {
    fn protocol(&self) -> Protocol {
        self.0.protocol
    }

    fn files<'a>(&self, which: TpgDir, dir: Builder<'a>) -> Builder<'a> {
        match which {
            TpgDir::Base => dir.attrs(BASE, self.0.clone()),
            TpgDir::Attrib => dir.attrs(ATTRIB, self.0.clone()),
            TpgDir::Auth | TpgDir::Param => dir,
        }
    }

    fn linked(&self, lun: &Arc<Lun>) -> Result {
        let number = lun.number().0;
        let mut luns = self.0.luns.lock();
        luns.push(number, GFP_KERNEL)?;
        if self.0.session.get().is_some() {
            self.0.add_device(number);
        }
        Ok(())
    }

    fn unlinking(&self, lun: &Arc<Lun>) {
        let number = lun.number().0;
        {
            let mut luns = self.0.luns.lock();
            luns.retain(|l| *l != number);
            self.0.leaving.fetch_add(1, Full);
        }
        // Waits for the device's commands, and so not with the lock held.
        self.0
            .host
            .remove_lun(self.0.tpg.tag().into(), number.into());
        self.0.leaving.fetch_sub(1, Full);
        self.0.left.wake_all();
    }

    fn removed(&self) {
        // While there are devices, the midlayer must be able to abort their commands: what it could not abort it takes for its
        // own again, with the memory that the back end still uses.
        self.0
            .left
            .wait_forever(|| self.0.leaving.load(Acquire) == 0);
        self.0.ports.ports.remove(self.0.tpg.tag().into());
        self.0.end_session();
    }
}
