// SPDX-License-Identifier: GPL-2.0

//! Target portal groups (RFC 7143, 4.4): what may be logged in to, by whom, and who is.

use crate::{
    acl::{self, Acl},
    auth::Credentials,
    connection::Connection,
    name::Name,
    params::Params,
    portal::Portal,
    redirect::Redirect,
    session::{event, Shared, Stop},
    target::Target,
};
use iscsi_proto::{login::chap::Auth, networks::Networks};
use kernel::{
    prelude::*,
    str::CString,
    sync::{
        atomic::{Acquire, Atomic, Full, Relaxed, Release},
        new_mutex, Arc, Mutex,
    },
};
use lio_glue::{
    socket::{Address, Options},
    thread::now_ms,
    wait::WaitQueue,
};
use target_core::tpg::Tpg;

/// How long is waited for sessions to end, in milliseconds: configfs holds locks meanwhile.
const PATIENCE_MS: u32 = 10_000;

/// Sessions that one initiator name may have with one portal group, if nobody says otherwise.
const PER_INITIATOR: u32 = 64;

/// A number that is read without a lock.
pub(crate) struct Setting(Atomic<u32>);

impl Setting {
    pub(crate) const fn new(v: u32) -> Self {
        Setting(Atomic::new(v))
    }

    pub(crate) fn get(&self) -> u32 {
        self.0.load(Relaxed)
    }

    pub(crate) fn is_on(&self) -> bool {
        self.get() != 0
    }

    pub(crate) fn set(&self, v: u32) {
        self.0.store(v, Relaxed);
    }
}

/// The files of a portal group's `attrib/`.
pub(crate) struct Attrib {
    /// Logins have to authenticate themselves.
    pub(crate) authentication: Setting,
    /// Seconds.
    pub(crate) login_timeout: Setting,
    pub(crate) generate_node_acls: Setting,
    pub(crate) default_cmdsn_depth: Setting,
    /// What new ACLs begin with, and initiators without one have.
    pub(crate) default_erl: Setting,
    pub(crate) cache_dynamic_acls: Setting,
    pub(crate) demo_mode_write_protect: Setting,
    pub(crate) prod_mode_write_protect: Setting,
    pub(crate) demo_mode_discovery: Setting,
    pub(crate) t10_pi: Setting,
    pub(crate) tpg_enabled_sendtargets: Setting,
    pub(crate) login_keys_workaround: Setting,
    /// What the TCP of sessions is told; 0: nothing.
    pub(crate) dscp: Setting,
    pub(crate) tcp_keepalive_time: Setting,
    pub(crate) tcp_keepalive_intvl: Setting,
    pub(crate) tcp_keepalive_probes: Setting,
    pub(crate) tcp_user_timeout: Setting,
    /// Sessions of all initiators; 0: as many as there is memory for.
    pub(crate) max_sessions: Setting,
    pub(crate) max_sessions_per_initiator: Setting,
    /// Asynchronous messages (RFC 7143, 11.9), in seconds: how long initiators that are asked to log out have for it; 0: they are not
    /// asked. The same of a negotiation.
    pub(crate) async_logout: Setting,
    pub(crate) async_negotiation: Setting,
    /// They are told of unit attention conditions.
    pub(crate) async_scsi: Setting,
}

impl Attrib {
    const fn new() -> Self {
        Attrib {
            authentication: Setting::new(1),
            login_timeout: Setting::new(15),
            generate_node_acls: Setting::new(0),
            default_cmdsn_depth: Setting::new(64),
            default_erl: Setting::new(0),
            cache_dynamic_acls: Setting::new(0),
            demo_mode_write_protect: Setting::new(1),
            prod_mode_write_protect: Setting::new(0),
            demo_mode_discovery: Setting::new(1),
            t10_pi: Setting::new(0),
            tpg_enabled_sendtargets: Setting::new(1),
            login_keys_workaround: Setting::new(1),
            dscp: Setting::new(0),
            tcp_keepalive_time: Setting::new(0),
            tcp_keepalive_intvl: Setting::new(0),
            tcp_keepalive_probes: Setting::new(0),
            tcp_user_timeout: Setting::new(0),
            max_sessions: Setting::new(0),
            max_sessions_per_initiator: Setting::new(PER_INITIATOR),
            async_logout: Setting::new(0),
            async_negotiation: Setting::new(0),
            async_scsi: Setting::new(0),
        }
    }

    pub(crate) fn tcp_options(&self) -> Options {
        Options {
            dscp: self.dscp.get(),
            keepalive_time: self.tcp_keepalive_time.get(),
            keepalive_intvl: self.tcp_keepalive_intvl.get(),
            keepalive_probes: self.tcp_keepalive_probes.get(),
            user_timeout: self.tcp_user_timeout.get(),
        }
    }
}

/// A target portal group.
#[pin_data]
pub(crate) struct Group {
    pub(crate) target: Arc<Target>,
    pub(crate) tag: u16,
    pub(crate) core: Arc<Tpg>,
    enabled: Atomic<u32>,
    // Held while it is enabled or disabled: two writers must not do the one half and half of the other.
    #[pin]
    switch: Mutex<()>,
    pub(crate) attrib: Attrib,
    #[pin]
    pub(crate) params: Mutex<Params>,
    #[pin]
    pub(crate) redirect: Redirect,
    /// Where initiators may come from.
    #[pin]
    pub(crate) networks: Mutex<Networks>,
    /// For initiators without an ACL.
    #[pin]
    pub(crate) credentials: Credentials,
    #[pin]
    pub(crate) portals: Mutex<KVec<Arc<Portal>>>,
    #[pin]
    acls: Mutex<KVec<Arc<Acl>>>,
    #[pin]
    sessions: Mutex<KVec<Arc<Shared>>>,
    // How many sessions have left, ever, and who waits for that.
    departures: Atomic<u32>,
    #[pin]
    left: WaitQueue,
}

/// What came of [`Group::enter`].
pub(crate) enum Entered {
    /// The session is in.
    Yes,
    /// The group is disabled.
    Disabled,
    /// The group is not reached through the portal any more.
    NoPortal,
    /// The initiator's ACL is not the one any more with which the session was made.
    AclChanged,
    /// A session of the same initiator port is there, and has to end first (RFC 7143, 6.3.5).
    Replaces(Arc<Shared>),
    /// The initiator port has logged in again meanwhile: that login takes the place, and this one none.
    Overtaken,
    /// The initiator, or all initiators, have as many sessions as they may.
    TooMany,
}

impl Group {
    /// Whether logins of initiators with these credentials have to authenticate themselves, if nothing else is said of them.
    pub(crate) fn auth(&self, credentials: &Credentials) -> Auth {
        let methods = self.params.lock().methods;
        if self.attrib.authentication.is_on() || !methods.none {
            Auth::Required
        } else if methods.chap {
            acl::optional(credentials)
        } else {
            Auth::None
        }
    }

    pub(crate) fn new(target: &Arc<Target>, tag: u16, core: &Arc<Tpg>) -> Result<Arc<Self>> {
        let params = Params::new()?;
        Arc::pin_init(
            pin_init!(Group {
                target: target.clone(),
                tag,
                core: core.clone(),
                enabled: Atomic::new(0),
                switch <- new_mutex!((), "iscsi::Group::switch"),
                attrib: Attrib::new(),
                params <- new_mutex!(params, "iscsi::Group::params"),
                redirect <- Redirect::new(),
                networks <- new_mutex!(Networks::ANY, "iscsi::Group::networks"),
                credentials <- Credentials::new(),
                portals <- new_mutex!(KVec::new(), "iscsi::Group::portals"),
                acls <- new_mutex!(KVec::new(), "iscsi::Group::acls"),
                sessions <- new_mutex!(KVec::new(), "iscsi::Group::sessions"),
                departures: Atomic::new(0),
                left <- WaitQueue::new(),
            }),
            GFP_KERNEL,
        )
    }

    pub(crate) fn is_enabled(&self) -> bool {
        self.enabled.load(Acquire) != 0
    }

    /// Lets logins in.
    ///
    /// # Errors
    /// The engine's.
    pub(crate) fn enable(&self) -> Result {
        let _switch = self.switch.lock();
        self.core.enable()?;
        self.enabled.store(1, Release);
        Ok(())
    }

    /// Lets no login in any more, ends the sessions and waits for them, as [`Self::stop_sessions`] does.
    pub(crate) fn disable(&self) {
        let _switch = self.switch.lock();
        {
            // Under the lock that `enter` holds, so that no session comes in after this.
            let _sessions = self.sessions.lock();
            self.enabled.store(0, Release);
        }
        self.stop_sessions(Stop::Disabled, |_| true);
        self.core.disable();
    }

    /// Ends the sessions that `which` chooses, and waits for them a while: process context, and no thread of a session.
    ///
    /// A session's commands may be with a back end that does not answer. Such a session ends on its own when they come
    /// back; all that it needs until then is its own (it has references on the group and the ACL, and its thread one on
    /// the module), and it takes no command in any more.
    pub(crate) fn stop_sessions(&self, why: Stop, which: impl Fn(&Shared) -> bool) {
        let seconds = self.attrib.async_logout.get();
        self.tell_within(seconds, why, &which);
        // One by one, all initiators' ACLs may be removed: what was waited for before is not again.
        let which = |s: &Shared| which(s) && !s.is_given_up();
        if seconds > 0 && !self.wait_gone(which, seconds.saturating_mul(1000)) {
            for s in self.sessions.lock().iter().filter(|s| which(s)) {
                s.stop(why);
            }
        }
        if self.wait_gone(which, PATIENCE_MS) {
            return;
        }
        for s in self.sessions.lock().iter().filter(|s| which(s)) {
            s.give_up();
            pr_warn!(
                "{}: the session of {} still has commands with the back end: it ends when they come back\n",
                self.core.path(),
                s.initiator
            );
        }
    }

    // Waits until no session that `which` chooses is there, so many milliseconds at most; whether none is.
    fn wait_gone(&self, which: impl Fn(&Shared) -> bool, timeout_ms: u32) -> bool {
        self.wait_until(
            || !self.sessions.lock().iter().any(|s| which(s)),
            timeout_ms,
        )
    }

    // Waits for something that departures bring about.
    fn wait_until(&self, done: impl Fn() -> bool, timeout_ms: u32) -> bool {
        let end = now_ms().saturating_add(timeout_ms.into());
        loop {
            let seen = self.departures.load(Acquire);
            if done() {
                return true;
            }
            let left = u32::try_from(end.saturating_sub(now_ms())).unwrap_or(0);
            let changed = || self.departures.load(Acquire) != seen;
            if left == 0 || !self.left.wait_until(left, changed) {
                return false;
            }
        }
    }

    /// Ends the sessions that `which` chooses, without waiting; those that are to be asked to log out before, after a time.
    pub(crate) fn tell_sessions(&self, why: Stop, which: impl Fn(&Shared) -> bool) {
        self.tell_within(self.attrib.async_logout.get(), why, which);
    }

    fn tell_within(&self, seconds: u32, why: Stop, which: impl Fn(&Shared) -> bool) {
        for s in self.sessions.lock().iter().filter(|s| which(s)) {
            s.ask_to_leave(seconds, why);
        }
    }

    /// Logins of the initiators that `which` chooses are sent elsewhere from now on: their sessions go there, if they are to be asked.
    pub(crate) fn moved(&self, which: impl Fn(&Shared) -> bool) {
        let seconds = self.attrib.async_logout.get();
        if seconds > 0 {
            self.tell_within(seconds, Stop::Moved, which);
        }
    }

    /// What may be negotiated at any time has changed: sessions negotiate it, if they are to be asked.
    pub(crate) fn renegotiate(&self) {
        let seconds = self.attrib.async_negotiation.get();
        if seconds > 0 {
            self.each_session(|s| {
                s.asks.negotiation(seconds);
                s.wake(event::ASK);
            });
        }
    }

    /// Calls `f` with each session.
    pub(crate) fn each_session(&self, mut f: impl FnMut(&Arc<Shared>)) {
        for s in self.sessions.lock().iter() {
            f(s);
        }
    }

    /// Sessions that are logged in.
    pub(crate) fn session_count(&self) -> usize {
        self.sessions.lock().len()
    }

    /// Lets a session in, unless the group is disabled or the initiator port has a session that must end before.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn enter(&self, session: &Arc<Shared>, portal: &Arc<Portal>) -> Result<Entered> {
        let mut sessions = self.sessions.lock();
        if !self.is_enabled() {
            return Ok(Entered::Disabled);
        }
        if !self.has_portal(portal) {
            return Ok(Entered::NoPortal);
        }
        let same = match (self.acl(&session.initiator), session.acl()) {
            (None, None) => true,
            (Some(now), Some(then)) => Arc::ptr_eq(&now, then),
            _ => false,
        };
        if !same {
            return Ok(Entered::AclChanged);
        }
        let mut others: u32 = 0;
        for s in sessions.iter().filter(|s| s.initiator == session.initiator) {
            if s.isid == session.isid {
                if !session.came_after(s.number) || !s.give_way_to(session) {
                    return Ok(Entered::Overtaken);
                }
                // Another login may be waiting for the same, and hears that it does so in vain.
                self.tell_waiting();
                return Ok(Entered::Replaces(s.clone()));
            }
            others = others.saturating_add(1);
        }
        let all = self.attrib.max_sessions.get();
        let full = all != 0 && sessions.len() >= all as usize;
        if full || others >= self.attrib.max_sessions_per_initiator.get() {
            return Ok(Entered::TooMany);
        }
        sessions.push(session.clone(), GFP_KERNEL)?;
        Ok(Entered::Yes)
    }

    /// A session that was let in has ended.
    pub(crate) fn leave(&self, session: &Arc<Shared>) {
        self.sessions.lock().retain(|s| !Arc::ptr_eq(s, session));
        self.tell_waiting();
    }

    /// A connection of a session has left, or a login waits for something in vain.
    pub(crate) fn tell_waiting(&self) {
        self.departures.fetch_add(1, Full);
        self.left.wake_all();
    }

    /// Waits until a connection has left its session; whether it has in so many milliseconds.
    pub(crate) fn wait_connection_left(&self, c: &Connection, timeout_ms: u32) -> bool {
        let there = || c.session.has(|o| core::ptr::eq(o, c));
        self.wait_until(|| !there(), timeout_ms)
    }

    /// Waits until those have gone, whatever they leave, in whose place a connection comes, or until another one comes in its own; whether
    /// that was so in so many milliseconds.
    pub(crate) fn wait_reinstated(&self, c: &Connection, timeout_ms: u32) -> bool {
        let done = || c.closed().is_some() || !c.session.has_predecessor(c);
        self.wait_until(done, timeout_ms)
    }

    /// The session that has this handle, of this initiator port.
    pub(crate) fn session(
        &self,
        initiator: &Name,
        isid: [u8; 6],
        tsih: u16,
    ) -> Option<Arc<Shared>> {
        let same = |s: &Shared| s.tsih == tsih && s.isid == isid && s.initiator == *initiator;
        self.sessions.lock().iter().find(|s| same(s)).cloned()
    }

    /// Waits until `old` has left, or gives way to another session than `new`; whether that was so in so many milliseconds.
    pub(crate) fn wait_left(&self, old: &Shared, new: &Shared, timeout_ms: u32) -> bool {
        self.wait_gone(|s| core::ptr::eq(s, old) && s.gives_way_to(new), timeout_ms)
    }

    /// Whether the group is reached through `portal`.
    pub(crate) fn has_portal(&self, portal: &Arc<Portal>) -> bool {
        let portals = self.portals.lock();
        portals.iter().any(|p| Arc::ptr_eq(p, portal))
    }

    /// The ACL of an initiator.
    pub(crate) fn acl(&self, initiator: &Name) -> Option<Arc<Acl>> {
        self.acls
            .lock()
            .iter()
            .find(|a| a.name == *initiator)
            .cloned()
    }

    /// Takes an ACL in. Sessions that the initiator has by demo mode go on as the ACL's.
    pub(crate) fn add_acl(&self, acl: &Arc<Acl>) -> Result {
        // Under the lock that `enter` holds, so that each session gets it either here or there.
        let sessions = self.sessions.lock();
        self.acls.lock().push(acl.clone(), GFP_KERNEL)?;
        for s in sessions.iter().filter(|s| s.initiator == acl.name) {
            s.set_acl(acl);
        }
        Ok(())
    }

    /// Forgets an ACL and ends its sessions.
    pub(crate) fn remove_acl(&self, acl: &Acl) {
        self.acls.lock().retain(|a| !core::ptr::eq(&**a, acl));
        self.stop_sessions(Stop::AclChanged, |s| {
            s.acl().is_some_and(|a| core::ptr::eq(&**a, acl))
        });
    }

    /// Commands in flight that an initiator without an ACL may have, if demo mode lets it in, or did before and its ACL was
    /// kept.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn demo_depth(&self, initiator: &Name) -> Result<Option<u32>> {
        let name = CString::try_from_fmt(fmt!("{initiator}"))?;
        Ok(match self.core.kept_acl(&name) {
            Some(kept) => Some(kept.depth()),
            None if self.attrib.generate_node_acls.is_on() => {
                Some(self.attrib.default_cmdsn_depth.get())
            }
            None => None,
        })
    }

    /// Whether an initiator may come from `host`.
    pub(crate) fn is_open_to(&self, host: &Address, acl: Option<&Acl>) -> bool {
        let host = host.to_socket_addr().ip();
        self.networks.lock().contain(host) && acl.is_none_or(|a| a.networks.lock().contain(host))
    }

    /// Whether an initiator at `host` may learn of the group by SendTargets (RFC 7143, Appendix C).
    pub(crate) fn is_shown_to(&self, initiator: &Name, host: &Address) -> bool {
        if self.attrib.tpg_enabled_sendtargets.is_on() && !self.is_enabled() {
            return false;
        }
        let acl = self.acl(initiator);
        if !self.is_open_to(host, acl.as_deref()) {
            return false;
        }
        if self.attrib.generate_node_acls.is_on() || self.attrib.demo_mode_discovery.is_on() {
            return true;
        }
        // Whoever may log in may know.
        acl.is_some() || matches!(self.demo_depth(initiator), Ok(Some(_)))
    }

    /// The directory is being removed.
    pub(crate) fn removed(&self) {
        // Another one of this number may be made at once.
        self.target.remove_group(self);
        self.disable();
    }
}
