// SPDX-License-Identifier: GPL-2.0

//! The login phase (RFC 7143, 6.3): the driver of [`iscsi_proto::login`].

use super::{end::give_up, link::Link};
use crate::{
    acl::{self, Acl},
    auth::{self, Credentials},
    connection::{Close, Connection},
    discovery::{self, Discovery, Port},
    group::{Entered, Group},
    name::{Alias, Name},
    redirect,
    session::{Joined, Origin, Shared, Stop},
    stats::LoginFailure,
    target::Target,
    Iscsi,
};
use iscsi_proto::{
    login::{
        chap::{Auth, Verdict},
        Answer, Grant, Login, Outcome, SessionType, Status, Step, REPLY_MAX,
    },
    negotiate::Config,
    pdu::{Head, LoginResponse},
    sn::StatSn,
    text::TEXT_MAX,
    wire::{Bhs, Tsih},
};
use kernel::{fmt, prelude::*, str::CString, sync::Arc};
use lio_glue::thread::now_ms;
use target_core::{session::Session, tpg::Access};

/// How long a login takes at most before its portal group is known, in milliseconds.
const TIMEOUT_MS: u64 = 15_000;
/// How long a login waits for the session that it takes the place of, in milliseconds.
const REINSTATE_MS: u32 = 20_000;
/// Commands that a session may have beyond its window: those marked for immediate delivery.
pub(crate) const IMMEDIATE: u32 = 8;
/// The window of a discovery session.
const DISCOVERY_DEPTH: u32 = 16;

/// What a login has come to.
pub(crate) struct LoggedIn {
    pub(crate) outcome: Outcome,
    pub(crate) initiator: Name,
    /// `None` for discovery.
    pub(crate) session: Option<Arc<Session<Iscsi>>>,
    /// The connection, of such a session.
    pub(crate) own: Option<Arc<Connection>>,
    /// The place of a discovery session.
    pub(crate) discovery: Option<Discovery>,
}

/// Where the initiator wants to.
struct Place {
    target: Arc<Target>,
    group: Arc<Group>,
    acl: Option<Arc<Acl>>,
    depth: u32,
    // The session that the connection is to be added to.
    joins: Option<Arc<Shared>>,
}

/// What came of looking for it.
enum Found {
    Here(Place),
    /// The initiator is to go there.
    Moved(redirect::Place),
}

/// A login in progress.
struct Progress {
    login: KBox<Login>,
    input: KVec<u8>,
    output: KVec<u8>,
    deadline: u64,
    started: u64,
    target: Option<Arc<Target>>,
    place: Option<Place>,
}

/// Runs the login phase; `None` if it failed: the log says why, and the initiator was told, where it could be.
pub(crate) fn run(link: &mut Link) -> Option<LoggedIn> {
    let started = now_ms();
    let mut p = match Progress::new(started) {
        Ok(p) => p,
        Err(e) => {
            complain(link, &Name::EMPTY, fmt!("{e:?}"));
            return None;
        }
    };
    let done = p.steps(link);
    let initiator = p.initiator();
    match done {
        Ok(logged_in) => Some(logged_in),
        Err(why) => {
            if let (Some(target), true) = (&p.target, why.failure.is_some() || p.place.is_some()) {
                let kind = why.failure.unwrap_or(LoginFailure::Other);
                target.stats.login_failed(kind, &initiator, Some(link.peer));
            }
            if let Some(clause) = why.clause {
                complain(link, &initiator, fmt!("{clause}"));
            }
            None
        }
    }
}

fn complain(link: &Link, initiator: &Name, why: fmt::Arguments<'_>) {
    if link.portal.throttle.allow() {
        pr_warn!(
            "iscsi: login of '{}' from {} at {} failed: {}\n",
            initiator,
            link.peer,
            link.local,
            why
        );
    }
}

/// What the initiator gets to hear, and the log.
type Refused = (Status, &'static str);

const MEMORY: Refused = (Status::OutOfResources, "no memory for the session");
const OVERTAKEN: Refused = (
    Status::ServiceUnavailable,
    "6.3.4, 6.3.5: another login has taken its place meanwhile",
);
const NO_PORTAL: Refused = (
    Status::NotFound,
    "the portal was taken from the portal group meanwhile",
);

// Adds a connection to its session (RFC 7143, 6.3.1); one of its number that is there ends first (6.3.4). Where several logins wait for
// that, as those do that their initiator has given up, the newest one has its place.
fn join(own: &Arc<Connection>) -> Result<Arc<Session<Iscsi>>, Refused> {
    const GONE: Refused = (
        Status::SessionDoesNotExist,
        "the session has ended, or is still being made",
    );
    let shared = &own.session;
    let mut joined = shared.join(own);
    if let Joined::NoPlace(old) = &joined {
        old.close(Close::GivesWay);
        if shared.group.wait_connection_left(old, REINSTATE_MS) {
            joined = shared.join(own);
        }
    }
    match joined {
        Joined::Yes(session) => Ok(session),
        Joined::Replaces(old, session) => {
            old.close(Close::Reinstated);
            // It may be a login that waits here.
            shared.group.tell_waiting();
            let ended = shared.group.wait_reinstated(own, REINSTATE_MS);
            if own.closed().is_some() {
                give_up(&session, own);
                return Err(OVERTAKEN);
            }
            if ended {
                return Ok(session);
            }
            give_up(&session, own);
            Err((
                Status::TargetError,
                "6.3.4: the connection to be reinstated does not end",
            ))
        }
        Joined::TooMany | Joined::NoPlace(_) => Err((
            Status::TooManyConnections,
            "13.2: the session has as many connections as were agreed on",
        )),
        Joined::Gone => Err(GONE),
    }
}

/// Why a login failed.
struct Failed {
    /// For the log; a connection that just went away leaves no line.
    clause: Option<&'static str>,
    failure: Option<LoginFailure>,
}

// The tag of a portal group that is reached here.
fn tag_at(link: &Link) -> u16 {
    let mut i = 0;
    while let Some(target) = link.global.target_at(i) {
        if let Some(tag) = tag_of(link, &target) {
            return tag;
        }
        i = i.saturating_add(1);
    }
    1
}

// That of a target's portal group that is reached here.
fn tag_of(link: &Link, target: &Target) -> Option<u16> {
    let here = |g: &Group| g.has_portal(&link.portal) && g.is_enabled();
    target.find_group(here).map(|group| group.tag)
}

impl From<Error> for Failed {
    fn from(e: Error) -> Self {
        Failed {
            clause: if e == ECONNRESET {
                None
            } else if e == ETIMEDOUT {
                Some("it took too long")
            } else if e == EBUSY {
                Some("it took long, and there are too many")
            } else if e == ESHUTDOWN {
                Some("its portal was removed meanwhile")
            } else if e == ENOMEM {
                Some("no memory")
            } else {
                Some("the connection broke")
            },
            failure: None,
        }
    }
}

fn kind_of(status: u16) -> LoginFailure {
    match status {
        0x0201 => LoginFailure::Authenticate,
        0x0202 => LoginFailure::Authorize,
        0x0101 | 0x0102 => LoginFailure::Redirect,
        0x0200 | 0x0205 | 0x0207 | 0x020b => LoginFailure::Negotiate,
        _ => LoginFailure::Other,
    }
}

impl Progress {
    fn new(started: u64) -> Result<Self> {
        Ok(Progress {
            login: KBox::new(Login::new(StatSn(0)), GFP_KERNEL)?,
            input: KVec::from_elem(0, TEXT_MAX, GFP_KERNEL)?,
            output: KVec::from_elem(0, REPLY_MAX, GFP_KERNEL)?,
            deadline: started.wrapping_add(TIMEOUT_MS),
            started,
            target: None,
            place: None,
        })
    }

    fn initiator(&self) -> Name {
        Name::new(self.login.query().initiator_name)
            .unwrap_or(Name::EMPTY)
            .folded()
    }

    fn steps(&mut self, link: &mut Link) -> Result<LoggedIn, Failed> {
        loop {
            let mut bhs = [0; 48];
            link.receive(&mut bhs, self.deadline)?;
            let held = self.receive_text(link, &bhs)?;
            let text = self.input.get(..held).unwrap_or_default();
            let mut step = self.login.request(&bhs, text, &mut self.output);
            if step == Step::LookUp {
                step = self.look_up(link, held)?;
            }
            if step == Step::Prove {
                step = self.prove(link, held)?;
            }
            match step {
                Step::Respond(pdu) => self.send(link, &pdu)?,
                Step::Done(pdu, outcome) => return self.finish(link, pdu, outcome),
                Step::Refuse(pdu, clause) => {
                    return Err(self.refuse(link, &pdu, clause));
                }
                Step::Close(clause) => {
                    return Err(Failed {
                        clause: Some(clause),
                        failure: None,
                    })
                }
                // They are answered above.
                Step::LookUp | Step::Prove => return Err(EIO.into()),
            }
        }
    }

    // Receives the data segment of the request; returns up to where the input is filled then.
    fn receive_text(&mut self, link: &mut Link, bhs: &Bhs) -> Result<usize, Failed> {
        let held = self.login.held();
        let Ok(head) = self.login.check(bhs) else {
            // `request` finds the same, and decides about the answer.
            return Ok(held);
        };
        let Head { data_len, .. } = head;
        let end = held.saturating_add(data_len.bytes() as usize);
        let to = self.input.get_mut(held..end).ok_or(EINVAL)?;
        link.receive(to, self.deadline)?;
        let mut pad = [0; 4];
        let pad = pad
            .get_mut(..data_len.padding() as usize)
            .unwrap_or_default();
        link.receive(pad, self.deadline)?;
        Ok(end)
    }

    fn send(&mut self, link: &mut Link, pdu: &LoginResponse) -> Result {
        let mut pdu = *pdu;
        if pdu.status == Status::Success.code() {
            self.number(&mut pdu);
        }
        let mut bhs = [0; 48];
        pdu.emit(&mut bhs);
        let text = self
            .output
            .get(..pdu.data_len.bytes() as usize)
            .unwrap_or_default();
        link.send(&bhs, text)?;
        link.flush_all(self.deadline)
    }

    // The numbers of commands are those of the session that the connection joins. As long as that is not known, its window is shut.
    fn number(&self, pdu: &mut LoginResponse) {
        let query = self.login.query();
        let is_joining = query.session_type == SessionType::Normal && query.tsih != Tsih(0);
        let joined = self.place.as_ref().map(|place| &place.joins);
        match joined {
            Some(Some(session)) => {
                if let Some(order) = &session.order {
                    pdu.sn = order.with(|o| o.with_stat_sn(pdu.sn.stat_sn));
                }
            }
            Some(None) => {}
            None if is_joining => {
                pdu.sn.max_cmd_sn = pdu.sn.exp_cmd_sn.plus(u32::MAX);
            }
            None => {}
        }
    }

    // Tells the initiator, as far as that goes.
    fn refuse(&mut self, link: &mut Link, pdu: &LoginResponse, clause: &'static str) -> Failed {
        let _ = self.send(link, pdu);
        Failed {
            clause: Some(clause),
            failure: Some(kind_of(pdu.status)),
        }
    }

    fn refuse_with(&mut self, link: &mut Link, status: Status, clause: &'static str) -> Failed {
        let pdu = self.login.refuse(status);
        self.refuse(link, &pdu, clause)
    }

    fn look_up(&mut self, link: &Link, held: usize) -> Result<Step> {
        let mut alias = KVec::new();
        let moved;
        let found = self.find(link);
        let answer = match found {
            Err(status) => Answer::Refused(status),
            Ok(None) => Answer::Allowed(Grant {
                config: Config::default(),
                auth: match link.global.enforce_discovery_auth.is_on() {
                    true => Auth::Required,
                    false => acl::optional(&link.global.discovery),
                },
                algorithms: auth::algorithms(),
                challenge: auth::challenge(),
                portal_group_tag: tag_at(link),
                alias: b"",
                depth: DISCOVERY_DEPTH,
                joins: None,
            }),
            Ok(Some(Found::Moved(place))) => {
                moved = place;
                Answer::Moved {
                    address: &moved.address,
                    permanent: moved.permanent,
                }
            }
            Ok(Some(Found::Here(place))) => {
                let group = &place.group;
                link.sock.set_options(&group.attrib.tcp_options())?;
                let timeout = u64::from(group.attrib.login_timeout.get()).wrapping_mul(1000);
                self.deadline = self.started.wrapping_add(timeout);
                let mut config = {
                    let params = group.params.lock();
                    alias.extend_from_slice(params.alias.to_bytes(), GFP_KERNEL)?;
                    params.config
                };
                let erl = match &place.acl {
                    Some(acl) => acl.attrib.default_erl.get(),
                    None => group.attrib.default_erl.get(),
                };
                config.recovery_level = config.recovery_level.max(u8::try_from(erl).unwrap_or(0));
                config.keys_workaround = group.attrib.login_keys_workaround.is_on();
                let answer = Answer::Allowed(Grant {
                    config,
                    auth: match &place.acl {
                        Some(acl) => acl.auth(),
                        None => group.auth(&group.credentials),
                    },
                    algorithms: auth::algorithms(),
                    challenge: auth::challenge(),
                    portal_group_tag: group.tag,
                    alias: &alias,
                    depth: place.depth,
                    joins: place.joins.as_ref().map(|s| s.parameters),
                });
                self.place = Some(place);
                answer
            }
        };
        let text = self.input.get(..held).unwrap_or_default();
        Ok(self.login.answer(answer, text, &mut self.output))
    }

    // Looks whether the initiator is who it says it is, and says who the target is.
    fn prove(&mut self, link: &Link, held: usize) -> Result<Step> {
        let credentials: &Credentials = match &self.place {
            None => &link.global.discovery,
            Some(Place { acl: Some(acl), .. }) => &acl.credentials,
            Some(place) => &place.group.credentials,
        };
        let proof = self.login.proof().ok_or(EIO)?;
        let checked = credentials.check(&proof)?;
        let verdict = match &checked {
            None => Verdict::Refused,
            Some(own) => Verdict::Accepted {
                own: own.as_ref().map(|own| {
                    (
                        own.name.get(),
                        own.response.get(..own.len).unwrap_or_default(),
                    )
                }),
            },
        };
        let text = self.input.get(..held).unwrap_or_default();
        Ok(self.login.proven(verdict, text, &mut self.output))
    }

    // Finds the portal group and decides whether the initiator may log in there; `None`: discovery.
    fn find(&mut self, link: &Link) -> Result<Option<Found>, Status> {
        let query = self.login.query();
        if query.session_type == SessionType::Discovery {
            return Ok(None);
        }
        let initiator = self.initiator();
        let name = query.target_name.ok_or(Status::MissingParameter)?;
        let target = link.global.target(name).ok_or(Status::NotFound)?;
        self.target = Some(target.clone());
        let here = |g: &Group| g.has_portal(&link.portal);
        let group = target
            .find_group(|g| here(g) && g.is_enabled())
            .ok_or_else(|| match target.find_group(here) {
                Some(_) => Status::ServiceUnavailable,
                None => Status::NotFound,
            })?;
        let acl = group.acl(&initiator);
        if !group.is_open_to(&link.peer, acl.as_deref()) {
            return Err(Status::AuthorizationFailure);
        }
        let depth = match &acl {
            Some(acl) => acl.core.depth(),
            None => group
                .demo_depth(&initiator)
                .map_err(|_| Status::OutOfResources)?
                .ok_or(Status::AuthorizationFailure)?,
        };
        let own = match &acl {
            Some(acl) => acl.redirect.get(),
            None => Ok(None),
        };
        let moved = own.and_then(|own| match own {
            Some(place) => Ok(Some(place)),
            None => group.redirect.get(),
        });
        if let Some(place) = moved.map_err(|_| Status::OutOfResources)? {
            return Ok(Some(Found::Moved(place)));
        }
        let joins = match query.tsih {
            Tsih(0) => None,
            Tsih(tsih) => {
                let session = |g: &Group| g.session(&initiator, query.isid.0, tsih);
                let found = session(&group).ok_or_else(|| {
                    // In this one it may have come in since, and is nothing that anybody knows of.
                    let others = |g: &Group| !core::ptr::eq(g, &*group) && session(g).is_some();
                    match target.find_group(others) {
                        Some(_) => Status::CantIncludeInSession,
                        None => Status::SessionDoesNotExist,
                    }
                });
                Some(found?)
            }
        };
        let depth = joins.as_ref().map_or(depth, |s| s.depth);
        Ok(Some(Found::Here(Place {
            target,
            group,
            acl,
            depth: depth.max(1),
            joins,
        })))
    }

    // The negotiation is over: makes the session.
    fn finish(
        &mut self,
        link: &mut Link,
        mut pdu: LoginResponse,
        outcome: Outcome,
    ) -> Result<LoggedIn, Failed> {
        let initiator = self.initiator();
        let mut discovery = None;
        let entered = match self.place.take() {
            None => {
                match self.enter_discovery(link) {
                    Ok(entered) => discovery = Some(entered),
                    Err((status, clause)) => return Err(self.refuse_with(link, status, clause)),
                }
                None
            }
            Some(place) => {
                let r = self.enter(link, &place, &outcome);
                // The statistics go to this target in any case.
                self.place = Some(place);
                match r {
                    Ok(entered) => Some(entered),
                    Err((status, clause)) => return Err(self.refuse_with(link, status, clause)),
                }
            }
        };
        pdu.tsih = Tsih(match &entered {
            Some((session, _)) => session.private().tsih,
            None => link.global.session_number() as u16,
        });
        if let Err(e) = self.send(link, &pdu) {
            if let Some((session, own)) = entered {
                give_up(&session, &own);
            }
            return Err(e.into());
        }
        let (session, own) = entered.unzip();
        if let Some(place) = &self.place {
            place.target.stats.accepts.inc();
        }
        // RFC 7143, 13.26.2: it is for the log, and for nothing else.
        let architecture = self.login.query().node_architecture;
        if !architecture.is_empty() && link.portal.throttle.allow() {
            pr_info!(
                "iscsi: {} at {} is made of {}\n",
                initiator,
                link.peer,
                core::str::from_utf8(architecture).unwrap_or("?")
            );
        }
        Ok(LoggedIn {
            outcome,
            initiator,
            session,
            own,
            discovery,
        })
    }

    fn enter_discovery(&self, link: &Link) -> Result<Discovery, (Status, &'static str)> {
        let query = self.login.query();
        let place = match query
            .target_name
            .map(|name| (link.global.target(name), name))
        {
            None => discovery::Place::At(link.local),
            Some((target, name)) => discovery::Place::Of(
                Name::new(name).unwrap_or(Name::EMPTY),
                target.map_or(0, |t| tag_of(link, &t).unwrap_or(0)),
            ),
        };
        let port = Port {
            initiator: self.initiator(),
            isid: query.isid.0,
            place,
        };
        let all = &link.global.discoveries;
        all.enter(port, &link.peer, &link.portal, &link.waker)
            .map_err(|e| {
                if e == ETIMEDOUT {
                    let clause = "7.4.2: the discovery session to be reinstated does not end";
                    (Status::TargetError, clause)
                } else {
                    (
                        Status::OutOfResources,
                        "there are too many discovery sessions",
                    )
                }
            })
    }

    // Makes the session, or adds the connection to one.
    fn enter(
        &self,
        link: &Link,
        place: &Place,
        outcome: &Outcome,
    ) -> Result<(Arc<Session<Iscsi>>, Arc<Connection>), Refused> {
        // An answer has left the window when it is queued, its slot goes back when TCP has it. On the one connection of a session the
        // wider window goes behind the answer; where there are others, it may go past a connection that is slow.
        let answered = match outcome.parameters.max_connections {
            2.. if place.joins.is_none() => outcome.depth,
            _ => 0,
        };
        let slots = outcome
            .depth
            .saturating_add(answered)
            .saturating_add(IMMEDIATE);
        let Some(seat) = link.global.memory.seat(slots) else {
            return Err((
                Status::OutOfResources,
                "sessions have all the memory that they may have",
            ));
        };
        let cid = self.login.query().cid.0;
        let connection = |shared: &Arc<Shared>| {
            let ends = (link.peer, link.local);
            let (waker, parameters) = (link.waker.clone(), outcome.parameters);
            Connection::new(shared.clone(), cid, ends, waker, parameters, seat).map_err(|_| MEMORY)
        };
        if let Some(shared) = &place.joins {
            if !place.group.has_portal(&link.portal) {
                return Err(NO_PORTAL);
            }
            let own = connection(shared)?;
            return Ok((join(&own)?, own));
        }
        let session = self.make_session(link, place, outcome, slots)?;
        let shared = session.private();
        let own = connection(shared).and_then(|own| match shared.lead(&own, &session) {
            true => Ok(own),
            false => Err((Status::ServiceUnavailable, "the session ends already")),
        });
        match own {
            Ok(own) => Ok((session, own)),
            Err(why) => {
                session.close();
                shared.group.leave(shared);
                Err(why)
            }
        }
    }

    fn make_session(
        &self,
        link: &Link,
        place: &Place,
        outcome: &Outcome,
        slots: u32,
    ) -> Result<Arc<Session<Iscsi>>, Refused> {
        let query = self.login.query();
        let initiator = self.initiator();
        let shared = Shared::new(Origin {
            group: place.group.clone(),
            acl: place.acl.clone(),
            initiator,
            alias: Alias::new(query.initiator_alias).unwrap_or(Alias::EMPTY),
            isid: query.isid.0,
            number: link.global.session_number(),
            parameters: outcome.parameters,
            depth: outcome.depth,
            first_cmd_sn: outcome.first_cmd_sn,
        })
        .map_err(|_| MEMORY)?;
        loop {
            match place.group.enter(&shared, &link.portal).map_err(|_| MEMORY)? {
                Entered::Yes => {
                    let (all, group) = (&link.global.discoveries, &place.group);
                    all.replace(&initiator, query.isid.0, &place.target.name, group.tag);
                    break;
                }
                Entered::Disabled => {
                    return Err((
                        Status::ServiceUnavailable,
                        "the portal group was disabled meanwhile",
                    ))
                }
                Entered::NoPortal => return Err(NO_PORTAL),
                Entered::AclChanged => {
                    return Err((
                        Status::ServiceUnavailable,
                        "the initiator's ACL was changed meanwhile",
                    ))
                }
                Entered::TooMany => {
                    return Err((
                        Status::OutOfResources,
                        "the initiator has as many sessions with the portal group as it may have, or all have",
                    ))
                }
                Entered::Overtaken => return Err(OVERTAKEN),
                Entered::Replaces(old) => {
                    old.stop(Stop::Reinstated);
                    if !place.group.wait_left(&old, &shared, REINSTATE_MS) {
                        return Err((
                            Status::TargetError,
                            "6.3.5: the session to be reinstated does not end",
                        ));
                    }
                }
            }
        }
        let name = CString::try_from_fmt(fmt!("{initiator}")).map_err(|_| MEMORY);
        let session = name.and_then(|name| {
            Session::start_session(
                &place.group.core,
                name,
                match &place.acl {
                    Some(acl) => Access::Acl(acl.core.clone()),
                    None => Access::Demo {
                        depth: place.depth,
                        read_only: place.group.attrib.demo_mode_write_protect.is_on(),
                    },
                },
                slots,
                shared.clone(),
            )
            .map_err(|_| MEMORY)
        });
        session.inspect_err(|_| place.group.leave(&shared))
    }
}
