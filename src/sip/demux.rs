//! The switchboard: every message finds its call, its registration, or the door, where it is asked who it
//! is and where it wants to go. A value; `io` below it moves bytes, media and time.

mod door;
mod orders;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, info};

use crate::core::control::RoomEvent;
use crate::core::control::calls::{CallEvent, CallInfo, CallState};
use crate::sip::config::{SipConfig, Transport, TrunkConfig};
use crate::sip::session::branch::refuse_answer;
use crate::sip::session::call::{Call, CallSettings, add_abilities};
use crate::sip::session::dialog::{Dialog, DialogId};
use crate::sip::session::digest::Verifier;
use crate::sip::session::media::MediaEvent;
use crate::sip::session::refer::Referral;
use crate::sip::session::registrar::Registrar;
use crate::sip::session::trunk::{Trunk, settings};
use crate::sip::session::{
    Action, Addresses, ClientTx, Ctx, Destination, Incoming, ServerTx, SessionId, Source, TxFailure,
};
use crate::sip::session::{random, token};
use crate::sip::wire::{Method, NameAddr, Request, Response};

pub use door::without_transaction;
pub use orders::Order;

/// How long the first requests to a trunk wait for name servers.
const NAMES: Duration = Duration::from_secs(5);

/// Whose a transaction of ours is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Owner {
    Call(SessionId),
    Register(usize),
    Options(usize),
}

/// What may want time.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
enum Sleeper {
    Call(SessionId),
    Register(usize),
    Options(usize),
}

/// All of SIP above transactions.
pub struct Switchboard {
    config: Arc<SipConfig>,
    addresses: Box<dyn Addresses>,
    out: VecDeque<Action>,
    last_tx: u64,
    calls: HashMap<SessionId, Call>,
    dialogs: HashMap<DialogId, SessionId>,
    branches: HashMap<(String, String), SessionId>,
    server: HashMap<ServerTx, SessionId>,
    client: HashMap<ClientTx, Owner>,
    /// When what waits for name servers begins without them.
    resolved_by: Instant,
    sleepers: BTreeSet<(Instant, Sleeper)>,
    asleep: HashMap<Sleeper, Instant>,
    trunks: Vec<Trunk>,
    phones: Arc<CallSettings>,
    registrar: Registrar,
    verifier: Verifier,
    referrals: Vec<Referral>,
    draining: bool,
}

impl Switchboard {
    /// A switchboard with nobody on the line.
    pub fn new(
        config: Arc<SipConfig>,
        addresses: Box<dyn Addresses>,
        trunks: Vec<Trunk>,
        registrar: Registrar,
        now: Instant,
    ) -> Self {
        let lifetime = Duration::from_secs(config.limits.nonce_s);
        let mut phones = settings(&TrunkConfig::default(), &config, None);
        phones.trunk = "phones".into();
        let mut board = Switchboard {
            verifier: Verifier::new(&config.realm, (&config.digest, config.digest_integrity), lifetime, now),
            config,
            addresses,
            out: VecDeque::new(),
            last_tx: 0,
            calls: HashMap::new(),
            dialogs: HashMap::new(),
            branches: HashMap::new(),
            server: HashMap::new(),
            client: HashMap::new(),
            resolved_by: now + NAMES,
            sleepers: BTreeSet::new(),
            asleep: HashMap::new(),
            trunks,
            phones: Arc::new(phones),
            registrar,
            referrals: Vec::new(),
            draining: false,
        };
        for at in 0..board.trunks.len() {
            let trunk = &board.trunks[at];
            // How it is spoken with is to be known first, if that can be known soon.
            let begin = if trunk.searches().is_empty() { now } else { board.resolved_by };
            let registers = trunk.registration.is_some();
            let asks = trunk.options_every.is_some() && trunk.host.is_some();
            if registers {
                board.sleep(Sleeper::Register(at), Some(begin));
            }
            if asks {
                board.sleep(Sleeper::Options(at), Some(begin));
            }
        }
        board
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.out.pop_front()
    }

    /// When time is wanted next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.sleepers.first().map(|(at, _)| *at)
    }

    /// Takes time in.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, sleeper)) = self.sleepers.first().copied().filter(|(at, _)| *at <= now) {
            debug_assert!(at <= now);
            self.sleep(sleeper, None);
            match sleeper {
                Sleeper::Call(id) => self.with_call(now, id, Call::handle_timeout),
                Sleeper::Register(at) => self.register(now, at),
                Sleeper::Options(at) => self.ask_alive(now, at),
            }
        }
    }

    fn sleep(&mut self, sleeper: Sleeper, until: Option<Instant>) {
        if let Some(old) = self.asleep.remove(&sleeper) {
            self.sleepers.remove(&(old, sleeper));
        }
        if let Some(at) = until {
            self.asleep.insert(sleeper, at);
            self.sleepers.insert((at, sleeper));
        }
    }

    fn ctx<'a>(
        (config, addresses): (&'a Arc<SipConfig>, &'a dyn Addresses),
        (out, last_tx): (&'a mut VecDeque<Action>, &'a mut u64),
        now: Instant,
    ) -> Ctx<'a> {
        Ctx { now, config, addresses, out, last_tx }
    }

    /// Does something to a call and takes note of what that changed.
    fn with_call(&mut self, now: Instant, id: SessionId, step: impl FnOnce(&mut Call, &mut Ctx<'_>)) {
        let Some(mut call) = self.calls.remove(&id) else { return };
        let mut out = VecDeque::new();
        let old = call.dialog().map(|dialog| dialog.id.clone());
        let world = (&self.config, self.addresses.as_ref());
        step(&mut call, &mut Self::ctx(world, (&mut out, &mut self.last_tx), now));
        self.note(call, old, out, now);
    }

    /// Takes note of a call after a step, and of what the step wants done.
    fn note(&mut self, mut call: Call, old: Option<DialogId>, out: VecDeque<Action>, now: Instant) {
        let id = call.id;
        let new = call.dialog().map(|dialog| dialog.id.clone());
        if old != new {
            if let Some(old) = old {
                self.dialogs.remove(&old);
            }
            if let Some(new) = new {
                self.dialogs.insert(new, id);
            }
        }
        for name in call.branch_names() {
            self.branches.insert(name, id);
        }
        if call.since.is_some() && call.lines.len() > 1 {
            // Of several that rang, one has the call.
            let won = call.lines.iter().position(|name| *name == call.settings.trunk).unwrap_or(0);
            let kept = call.lines.swap_remove(won);
            let lost = std::mem::replace(&mut call.lines, vec![kept]);
            self.free_lines(lost);
        }
        let over = call.is_gone();
        let replaced = call.since.and_then(|_| call.replaces.take());
        self.sleep(Sleeper::Call(id), call.poll_timeout().filter(|_| !over));
        if over {
            self.forget(call);
        } else {
            self.calls.insert(id, call);
        }
        for action in out {
            self.pass_on(id, action, now);
        }
        if let Some(replaced) = replaced {
            self.with_call(now, replaced, |call, ctx| call.hang_up(ctx, "another call took its place", None));
        }
    }

    fn forget(&mut self, call: Call) {
        let id = call.id;
        self.free_lines(call.lines);
        self.branches.retain(|_, of| *of != id);
        self.server.retain(|_, of| *of != id);
        self.client.retain(|_, of| *of != Owner::Call(id));
        self.referrals.retain(|referral| referral.by != id);
        debug!(call = %id, calls = self.calls.len(), "forgotten");
    }

    /// Looks at what a call wants done before it goes down.
    fn pass_on(&mut self, id: SessionId, action: Action, now: Instant) {
        match action {
            Action::Send { tx, .. } => {
                self.client.insert(tx, Owner::Call(id));
                self.out.push_back(action);
            }
            Action::Refer { call, tx, request, target } => self.refer(now, call, tx, *request, target),
            Action::Redirect { call, from, contacts } => self.redirect(now, call, &from, &contacts),
            Action::Tell { event: RoomEvent::Call(ref event), .. } => {
                let (call, status) = (event.call, transfer_status(event));
                self.out.push_back(action);
                if let Some(status) = status {
                    self.report_transfer(now, call, status);
                }
            }
            action => self.out.push_back(action),
        }
    }

    /// Tells the party that asked for a call how it goes.
    fn report_transfer(&mut self, now: Instant, call: SessionId, status: u16) {
        let Some(at) = self.referrals.iter().position(|referral| referral.new == call) else { return };
        let by = self.referrals[at].by;
        if status >= 200 {
            self.referrals.swap_remove(at);
        }
        self.with_call(now, by, |call, ctx| call.report_transfer(ctx, status));
    }

    /// Takes something in from below.
    pub fn handle_incoming(&mut self, now: Instant, incoming: Incoming) {
        match incoming {
            Incoming::Request { tx, source, request } => self.request(now, tx, source, request),
            Incoming::Ack { request, .. } => {
                if let Some(id) = self.dialog_of(&request) {
                    self.with_call(now, id, |call, ctx| call.handle_ack(ctx, &request));
                }
            }
            Incoming::Cancel { tx } => {
                if let Some(id) = self.server.get(&tx).copied() {
                    self.with_call(now, id, |call, ctx| call.handle_cancel(ctx, tx));
                }
            }
            Incoming::NoAck { tx } => {
                if let Some(id) = self.server.remove(&tx) {
                    self.with_call(now, id, |call, ctx| call.handle_no_ack(ctx, tx));
                }
            }
            Incoming::Response { tx, source, response } => self.response(now, tx, source, response),
            Incoming::Failed { tx, failure } => self.failed(now, tx, failure),
            Incoming::Late { source, response } => self.late(now, source, &response),
            Incoming::FlowClosed(flow) => self.registrar.flow_closed(flow),
        }
    }

    /// Takes something in from media.
    pub fn handle_media(&mut self, now: Instant, call: SessionId, event: MediaEvent) {
        self.with_call(now, call, |call, ctx| call.handle_media(ctx, event));
    }

    /// Whether a request is one of a call that there is.
    pub fn knows_dialog(&self, request: &Request) -> bool {
        self.dialog_of(request).is_some()
    }

    fn dialog_of(&self, request: &Request) -> Option<SessionId> {
        let headers = &request.headers;
        let id = DialogId {
            call_id: headers.call_id().to_owned(),
            local: headers.tag("To")?,
            remote: headers.tag("From").unwrap_or_default(),
        };
        let early = || self.branches.get(&(id.call_id.clone(), id.local.clone()));
        self.dialogs.get(&id).or_else(early).copied()
    }

    fn request(&mut self, now: Instant, tx: ServerTx, source: Source, request: Request) {
        if let Some(refusal) = door::objection(&request) {
            self.out.push_back(Action::Respond { tx, response: refusal });
            return;
        }
        if request.headers.tag("To").is_some() {
            match self.dialog_of(&request) {
                Some(id) => {
                    if request.method == Method::Invite {
                        self.server.insert(tx, id);
                    }
                    self.with_call(now, id, |call, ctx| call.handle_request(ctx, tx, source, request));
                }
                None => {
                    let response = request.response(481, "", "");
                    self.out.push_back(Action::Respond { tx, response });
                    self.blame(source, "a request within a call that does not exist");
                }
            }
            return;
        }
        match request.method {
            Method::Invite => self.invited(now, tx, source, request),
            Method::Register => self.registers(now, tx, source, &request),
            Method::Options => self.asked_alive(tx, &request),
            Method::Bye | Method::Prack | Method::Update | Method::Notify | Method::Info | Method::Refer => {
                self.answer(tx, request.response(481, "", &token()));
            }
            _ => {
                let mut response = request.response(405, "", &token());
                response.headers.push("Allow", Method::ALLOW);
                self.answer(tx, response);
            }
        }
    }

    fn answer(&mut self, tx: ServerTx, response: Response) {
        self.out.push_back(Action::Respond { tx, response });
    }

    fn blame(&mut self, source: Source, what: &'static str) {
        if !self.trunks.iter().any(|trunk| trunk.is_from(source.addr.ip())) {
            self.out.push_back(Action::Blame { addr: source.addr.ip(), what });
        }
    }

    fn response(&mut self, now: Instant, tx: ClientTx, source: Source, response: Response) {
        let owner = self.client.get(&tx).copied();
        if response.status >= 200 {
            self.client.remove(&tx);
        }
        match owner {
            Some(Owner::Call(id)) => {
                self.with_call(now, id, |call, ctx| call.handle_response(ctx, tx, source, response));
            }
            Some(Owner::Register(at)) => {
                let world = (&self.config, self.addresses.as_ref());
                let mut ctx = Self::ctx(world, (&mut self.out, &mut self.last_tx), now);
                let trunk = &mut self.trunks[at];
                let next = trunk
                    .registration
                    .as_mut()
                    .and_then(|r| r.handle_response(&mut ctx, &trunk.name, &response));
                self.register_noted(at, next);
            }
            Some(Owner::Options(at)) if response.status >= 200 => self.is_alive(at, response.status != 408),
            // Once more, or of another branch of a fork.
            None if (200..300).contains(&response.status)
                && response.headers.cseq().is_some_and(|(_, method)| method == Method::Invite) =>
            {
                self.late(now, source, &response);
            }
            _ => {}
        }
    }

    fn failed(&mut self, now: Instant, tx: ClientTx, failure: TxFailure) {
        match self.client.remove(&tx) {
            Some(Owner::Call(id)) => {
                self.with_call(now, id, |call, ctx| call.handle_failure(ctx, tx, failure));
            }
            Some(Owner::Register(at)) => {
                let trunk = &mut self.trunks[at];
                if let Some(registration) = &mut trunk.registration {
                    registration.handle_failure(now, &trunk.name, failure);
                }
                self.register_noted(at, None);
            }
            Some(Owner::Options(at)) => self.is_alive(at, false),
            None => {}
        }
    }

    /// A 2xx that no transaction waits for: acknowledge it again, or end the call it would begin.
    fn late(&mut self, now: Instant, source: Source, response: &Response) {
        let headers = &response.headers;
        let (Some(local), Some((seq, _))) = (headers.tag("From"), headers.cseq()) else { return };
        let remote = headers.tag("To").unwrap_or_default();
        let id = DialogId { call_id: headers.call_id().to_owned(), local, remote };
        if let Some(call) = self.dialogs.get(&id).and_then(|id| self.calls.get(id)) {
            if let crate::sip::session::call::Phase::Established(call) = &call.phase
                && let Some((ack, to)) = &call.last_ack
                && ack.headers.cseq().is_some_and(|(number, _)| number == seq)
            {
                self.out.push_back(Action::Ack { request: ack.clone(), to: to.clone() });
            }
            return;
        }
        let target = headers.all("Contact").next().and_then(|text| NameAddr::parse(text).ok());
        let Some(target) = target else { return };
        let mut invite = Request::new(Method::Invite, target.uri);
        invite.headers.copy("From", headers);
        invite.headers.copy("Call-ID", headers);
        invite.headers.copy("CSeq", headers);
        let world = (&self.config, self.addresses.as_ref());
        let mut ctx = Self::ctx(world, (&mut self.out, &mut self.last_tx), now);
        let contact = ctx.contact("viaduct", Some(source.addr.ip()), source.transport);
        if let Some(dialog) = Dialog::answered(&invite, response, contact, source) {
            refuse_answer(&mut ctx, dialog, seq);
        }
    }

    // Trunks.

    fn register(&mut self, now: Instant, at: usize) {
        let world = (&self.config, self.addresses.as_ref());
        let mut ctx = Self::ctx(world, (&mut self.out, &mut self.last_tx), now);
        let next = self.trunks[at].registration.as_mut().and_then(|r| r.handle_timeout(&mut ctx));
        self.register_noted(at, next);
    }

    fn register_noted(&mut self, at: usize, tx: Option<ClientTx>) {
        if let Some(tx) = tx {
            self.client.insert(tx, Owner::Register(at));
        }
        let until =
            self.trunks[at].registration.as_ref().and_then(|registration| registration.poll_timeout());
        self.sleep(Sleeper::Register(at), until);
    }

    /// Asks a trunk whether it is there.
    fn ask_alive(&mut self, now: Instant, at: usize) {
        let trunk = &self.trunks[at];
        let (Some(to), Some(every)) = (trunk.destination(), trunk.options_every) else { return };
        let Some(uri) = trunk.uri(None) else { return };
        let mut request = Request::new(Method::Options, uri.to_string());
        let world = (&self.config, self.addresses.as_ref());
        let mut ctx = Self::ctx(world, (&mut self.out, &mut self.last_tx), now);
        let contact = ctx.contact("viaduct", to.uri.ip(), to.transport);
        let headers = &mut request.headers;
        headers.push("Max-Forwards", "70");
        headers.push("From", NameAddr::new(&contact).with_param("tag", &token()).to_string());
        headers.push("To", NameAddr::new(&uri).to_string());
        headers.push("Call-ID", token());
        headers.push("CSeq", "1 OPTIONS");
        to.routes.iter().for_each(|route| headers.push("Route", route.clone()));
        headers.push("Contact", NameAddr::new(contact).to_string());
        headers.push("Accept", "application/sdp");
        let tx = ctx.send(request, to);
        self.client.insert(tx, Owner::Options(at));
        self.sleep(Sleeper::Options(at), Some(now + every));
    }

    fn is_alive(&mut self, at: usize, alive: bool) {
        let trunk = &mut self.trunks[at];
        if trunk.alive != Some(alive) {
            info!(
                trunk = trunk.name,
                "{}",
                if alive { "the trunk answers" } else { "the trunk does not answer" }
            );
        }
        trunk.alive = Some(alive);
    }

    /// What we answer to OPTIONS: our real state (RFC 3261 §11).
    fn asked_alive(&mut self, tx: ServerTx, request: &Request) {
        let full = self.draining || self.calls.len() >= self.config.limits.max_calls;
        let mut response = request.response(if full { 503 } else { 200 }, "", &token());
        if full {
            response.headers.push("Retry-After", "30");
        }
        add_abilities(&mut response.headers);
        response.headers.push("Accept", "application/sdp");
        self.answer(tx, response);
    }

    /// Names to look up: of each trunk, by its place. Where requests to it go comes first.
    pub fn searches(&self) -> Vec<(usize, Vec<Destination>)> {
        let named = self.trunks.iter().enumerate().map(|(at, trunk)| (at, trunk.searches()));
        named.filter(|(_, searches)| !searches.is_empty()).collect()
    }

    /// What a trunk's names came to, and how the first of them is to be spoken with.
    pub fn handle_resolved(
        &mut self,
        now: Instant,
        at: usize,
        (addresses, transport): (Vec<IpAddr>, Option<Transport>),
    ) {
        let Some(trunk) = self.trunks.get_mut(at) else { return };
        trunk.resolve(addresses, transport);
        for sleeper in [Sleeper::Register(at), Sleeper::Options(at)] {
            // What waited for this begins.
            if self.asleep.get(&sleeper) == Some(&self.resolved_by) {
                self.sleep(sleeper, Some(now));
            }
        }
    }

    /// Whether an address is one of a trunk's.
    pub fn is_trunk(&self, address: IpAddr) -> bool {
        self.trunks.iter().any(|trunk| trunk.is_from(address))
    }

    // For those who watch.

    /// Every call.
    pub fn summaries(&self, now: Instant) -> Vec<CallInfo> {
        self.calls.values().map(|call| summary(call, now)).collect()
    }

    /// Registrations and reachability of trunks: name, registered, alive, calls.
    pub fn trunk_states(&self) -> Vec<(String, Option<bool>, Option<bool>, usize)> {
        let state = |trunk: &Trunk| {
            let registered = trunk.registration.as_ref().map(|registration| registration.standing);
            (trunk.name.clone(), registered, trunk.alive, trunk.calls)
        };
        self.trunks.iter().map(state).collect()
    }

    /// Registered users and at how many places each can be reached.
    pub fn phones(&self, now: Instant) -> Vec<(String, usize)> {
        self.registrar.present(now)
    }

    /// How many calls there are.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether there is no call.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }
}

/// What the party that asked for a call is told of its progress.
fn transfer_status(event: &CallEvent) -> Option<u16> {
    match event.state {
        CallState::Ringing | CallState::Early => Some(event.code.unwrap_or(180)),
        CallState::Answered => Some(200),
        CallState::Failed => Some(event.code.unwrap_or(480).max(400)),
        CallState::Ended => Some(487),
        _ => None,
    }
}

fn summary(call: &Call, now: Instant) -> CallInfo {
    CallInfo {
        id: call.id,
        conn: call.conn,
        direction: call.way,
        state: call.state(),
        room: call.enter.room.clone(),
        trunk: call.settings.trunk.clone(),
        number: call.number.clone(),
        codec: call.media.audio_codec().map(str::to_owned),
        seconds: call.since.map_or(0, |since| now.saturating_duration_since(since).as_secs()),
    }
}

/// A short random word for names.
fn short_token() -> String {
    random::<4>().iter().map(|byte| format!("{byte:02x}")).collect()
}
