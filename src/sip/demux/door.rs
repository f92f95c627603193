//! The door: who calls or registers, whether that is so, and where the rules send him.

use std::sync::Arc;
use std::time::Instant;

use tracing::info;

use super::{Switchboard, short_token};
use crate::core::control::calls::{CallState, Direction, masked};
use crate::sip::ingress::{Arrival, Caller, Dispatch, LOBBY, Route, dispatch};
use crate::sip::session::call::{Call, CallSettings, warning};
use crate::sip::session::digest::Verdict;
use crate::sip::session::media::Enter;
use crate::sip::session::pin::Pin;
use crate::sip::session::refer::{Replaced, replaced};
use crate::sip::session::{ServerTx, SessionId, Source, token};
use crate::sip::wire::{Method, NameAddr, Request, Response, Uri};

/// Extensions we can be required to support.
const KNOWN: &[&str] = &["timer", "100rel", "replaces", "norefersub", "path", "outbound"];

/// A caller who may come in.
struct Guest {
    settings: Arc<CallSettings>,
    enter: Enter,
    number: String,
    shown: String,
    pin: Option<Pin>,
    replaces: Option<SessionId>,
}

/// Why a request cannot be served, whoever sent it (RFC 3261 §8.2).
pub(super) fn objection(request: &Request) -> Option<Response> {
    let tag = token();
    let uri = Uri::parse(&request.uri);
    match &uri {
        Err(_) => return Some(request.response(416, "", &tag)),
        Ok(uri) if !uri.is_sip() && uri.scheme != "tel" => return Some(request.response(416, "", &tag)),
        // Headers belong into a message, never into its own URI (RFC 3261 §19.1.1).
        Ok(uri) if uri.headers.is_some() => return Some(request.response(400, "headers in the URI", &tag)),
        Ok(_) => {}
    }
    if request.headers.get("Max-Forwards").is_some_and(|text| text.trim().parse() == Ok(0u32))
        && request.method != Method::Options
        && request.method != Method::Bye
    {
        return Some(request.response(483, "", &tag));
    }
    let from = request.headers.get("From").map(NameAddr::parse);
    let to = request.headers.get("To").map(NameAddr::parse);
    if !matches!((from, to), (Some(Ok(_)), Some(Ok(_)))) {
        return Some(request.response(400, "From or To cannot be read", &tag));
    }
    if request.method == Method::Invite && !takes_sdp(request) {
        let mut response = request.response(406, "", &tag);
        response.headers.push("Warning", warning(399, "Accept leaves out application/sdp"));
        return Some(response);
    }
    let unknown: Vec<&str> = request
        .headers
        .all("Require")
        .filter(|option| !KNOWN.iter().any(|known| known.eq_ignore_ascii_case(option)))
        .collect();
    if !unknown.is_empty() && request.method != Method::Ack && request.method != Method::Cancel {
        let mut response = request.response(420, "", &tag);
        response.headers.push("Unsupported", unknown.join(", "));
        return Some(response);
    }
    None
}

/// Whether the sender can be answered with a session description.
fn takes_sdp(request: &Request) -> bool {
    let mut kinds =
        request.headers.all("Accept").map(|kind| kind.split(';').next().unwrap_or_default().trim());
    let takes =
        |kind: &str| ["application/sdp", "application/*", "*/*"].iter().any(|k| k.eq_ignore_ascii_case(kind));
    request.headers.get("Accept").is_none() || kinds.any(takes)
}

/// The answer to a request of which no transaction can be made: of a method or in a form that nobody here knows.
pub fn without_transaction(request: &Request) -> Option<Response> {
    if request.method == Method::Ack {
        return None;
    }
    let mut response = match request.method {
        Method::Other(_) => request.response(405, "", &token()),
        _ => request.response(400, "", &token()),
    };
    response.headers.push("Allow", Method::ALLOW);
    Some(response)
}

impl Switchboard {
    pub(super) fn registers(&mut self, now: Instant, tx: ServerTx, source: Source, request: &Request) {
        if !self.registrar.is_open() {
            self.answer(tx, request.response(405, "no phone may register here", &token()));
            self.blame(source, "a REGISTER where nobody may");
            return;
        }
        let verdict = self.verifier.verify(request, now, |user| self.registrar.ha1(user));
        match verdict {
            Verdict::Right(user) => {
                // A user registers himself and nobody else (RFC 3261 §10.3).
                let to = request.headers.get("To").and_then(|text| NameAddr::parse(text).ok()?.uri().ok());
                if to.and_then(|uri| uri.user) != Some(user.clone()) {
                    self.answer(tx, request.response(403, "", &token()));
                    return;
                }
                let config = self.config.clone();
                let response = self.registrar.register(&user, request, source, now, &config);
                self.answer(tx, response);
            }
            verdict => self.challenge(now, tx, source, request, &verdict),
        }
    }

    fn challenge(
        &mut self,
        now: Instant,
        tx: ServerTx,
        source: Source,
        request: &Request,
        verdict: &Verdict,
    ) {
        let stale = matches!(verdict, Verdict::Ask { stale: true });
        let mut response = request.response(401, "", &token());
        self.verifier.challenge(&mut response, stale, now);
        self.answer(tx, response);
        if *verdict == Verdict::Wrong {
            info!(transport = source.transport.via(), method = %request.method, "a wrong user name or password");
            self.blame(source, "a wrong password");
        }
    }

    /// Who sent a request. None: it was answered with a challenge or a refusal.
    fn identify(&mut self, now: Instant, tx: ServerTx, source: Source, request: &Request) -> Option<Caller> {
        let from_there = self.trunks.iter().position(|trunk| trunk.is_from(source.addr.ip()));
        if let Some(trunk) = from_there.map(|at| &self.trunks[at]).filter(|trunk| trunk.trust_address) {
            return Some(Caller::Trunk(trunk.name.clone()));
        }
        let accounts: Vec<_> = self
            .trunks
            .iter()
            // A trunk with known addresses and a password needs both to be right.
            .filter(|trunk| {
                trunk.peers.is_empty() && trunk.resolved.is_empty() || trunk.is_from(source.addr.ip())
            })
            .filter_map(|trunk| trunk.inbound.clone().map(|(user, ha1)| (user, ha1, trunk.name.clone())))
            .collect();
        let find = |user: &str| accounts.iter().find(|(known, _, _)| known == user);
        let registrar = &self.registrar;
        let look = |user: &str| find(user).map(|(_, ha1, _)| ha1.clone()).or_else(|| registrar.ha1(user));
        let has_credentials = request.headers.get("Authorization").is_some();
        let verdict = self.verifier.verify(request, now, look);
        match verdict {
            Verdict::Right(user) => match find(&user) {
                Some((_, _, trunk)) => return Some(Caller::Trunk(trunk.clone())),
                None => return Some(Caller::Phone(user)),
            },
            Verdict::Ask { .. } | Verdict::Wrong => {}
        }
        let names_user =
            request.headers.get("From").and_then(|text| NameAddr::parse(text).ok()?.uri().ok()?.user);
        let phone = names_user.is_some_and(|user| self.registrar.knows(&user));
        let strangers = self
            .config
            .dispatch
            .iter()
            .any(|rule| rule.from.as_ref().is_some_and(|list| list.iter().any(|name| name == "anyone")));
        if strangers && !has_credentials && !phone {
            return Some(Caller::Anyone);
        }
        if accounts.is_empty() && !self.registrar.is_open() {
            // Nobody could bring a password that we know.
            let text = "calls are taken from known trunks only";
            info!(transport = source.transport.via(), "refused a call: its address belongs to no trunk");
            let mut response = request.response(403, "", &token());
            response.headers.push("Warning", warning(399, text));
            self.answer(tx, response);
            self.blame(source, "a call from an unknown address");
            return None;
        }
        self.challenge(now, tx, source, request, &verdict);
        None
    }

    /// The numbers of a call: whose, and which was dialled.
    fn numbers(&self, caller: &Caller, request: &Request) -> (String, String) {
        let uri_of =
            |name: &str| request.headers.get(name).and_then(|text| NameAddr::parse(text).ok()?.uri().ok());
        // Providers put the number they vouch for into P-Asserted-Identity (RFC 3325); only trunks are believed.
        let asserted = request.headers.all("P-Asserted-Identity").next();
        let asserted = asserted.and_then(|text| NameAddr::parse(text).ok()?.uri().ok());
        let asserted = asserted.filter(|_| matches!(caller, Caller::Trunk(_)));
        let from = asserted.or_else(|| uri_of("From")).map(|uri| uri.number()).unwrap_or_default();
        let dialled = Uri::parse(&request.uri).ok();
        let mut to = dialled.as_ref().map(Uri::number).unwrap_or_default();
        if let Caller::Trunk(name) = caller {
            let trunk = self.trunks.iter().find(|trunk| trunk.name == *name);
            let own =
                trunk.and_then(|trunk| trunk.registration.as_ref()).map(|registration| registration.user());
            // A registrar calls the Contact we gave it; the number that was dialled is in To.
            if own.is_some_and(|own| own == to)
                && let Some(named) = uri_of("To").map(|uri| uri.number()).filter(|named| !named.is_empty())
            {
                to = named;
            }
        }
        (from, to)
    }

    pub(super) fn invited(&mut self, now: Instant, tx: ServerTx, source: Source, request: Request) {
        let refuse = |status, reason: &str, seconds: &str| {
            let mut response = request.response(status, reason, &token());
            response.headers.push("Retry-After", seconds);
            response
        };
        if self.draining {
            let response = refuse(503, "the server is stopping", "30");
            self.answer(tx, response);
            return;
        }
        if self.calls.len() >= self.config.limits.max_calls {
            info!(calls = self.calls.len(), "refused a call: the server has all the calls it may have");
            let response = refuse(503, "all lines are busy", "10");
            self.answer(tx, response);
            return;
        }
        let Some(caller) = self.identify(now, tx, source, &request) else { return };
        let (from, to) = self.numbers(&caller, &request);
        match replaced(&request) {
            Ok(None) => {}
            Ok(Some(which)) => return self.take_place(now, tx, source, request, (caller, from), &which),
            Err(error) => {
                let response = request.response(400, &error.to_string(), &token());
                return self.answer(tx, response);
            }
        }
        let arrival = Arrival { caller: &caller, from: &from, to: &to };
        match dispatch(&self.config, &arrival, &short_token()) {
            Ok(found) => self.let_in(now, tx, source, request, (caller, from), found),
            Err(walk) => {
                info!(from = caller.origin(), "refused a call: {}", walk.join("; "));
                let mut response = request.response(404, "No room has this number", &token());
                response
                    .headers
                    .push("Warning", warning(399, "no dispatch rule of this server matches the call"));
                self.answer(tx, response);
                if caller == Caller::Anyone {
                    self.blame(source, "a call that no rule lets in");
                }
            }
        }
    }

    fn let_in(
        &mut self,
        now: Instant,
        tx: ServerTx,
        source: Source,
        request: Request,
        (caller, number): (Caller, String),
        found: Dispatch,
    ) {
        let (room, pins) = match &found.route {
            Route::Room(room) => (room.clone(), Vec::new()),
            Route::Pin(pins) => (format!("{LOBBY}{}", token()), pins.clone()),
            Route::Refuse(text) => {
                info!(from = caller.origin(), rule = found.rule, "refused a call: {text}");
                let mut response = request.response(603, "", &token());
                response.headers.push("Warning", warning(399, text));
                self.answer(tx, response);
                return;
            }
        };
        let here = |call: &&Call| {
            call.way == Direction::In
                && call.settings.rule == found.rule
                && (!pins.is_empty() || call.enter.room == room)
        };
        let same = self.calls.values().filter(here);
        if same.count() >= found.max_callers {
            info!(rule = found.rule, "refused a call: the rule has all the callers it may have");
            let mut response = request.response(486, "the room has all the callers it may have", &token());
            response.headers.push("Retry-After", "30");
            self.answer(tx, response);
            return;
        }
        let Some(settings) = self.settings_for(&caller, &found.rule) else { return };
        let hide = found.hide_number;
        let enter = self.entrance(&caller, &number, source, room, hide);
        let shown = if hide { masked(&number) } else { number.clone() };
        let guest = Guest { settings, enter, number, shown, pin: Pin::new(pins), replaces: None };
        self.take_in(now, tx, source, request, guest);
    }

    /// An INVITE that is to take the place of a call there is: what the other end of an attended transfer sends (RFC 3891).
    /// It goes into the same room by the other call's right, and so it must come from where that one came from.
    fn take_place(
        &mut self,
        now: Instant,
        tx: ServerTx,
        source: Source,
        request: Request,
        (caller, number): (Caller, String),
        which: &Replaced,
    ) {
        let old = self.dialogs.get(&which.dialog).and_then(|id| self.calls.get(id));
        let refusal = match old {
            None => Some(481),
            Some(old) if old.since.is_none() || old.pin.is_some() => Some(481),
            Some(_) if which.early_only => Some(486),
            Some(old) if old.settings.trunk != caller.origin() || caller == Caller::Anyone => Some(403),
            Some(_) => None,
        };
        let (Some(old), None) = (old, refusal) else {
            info!(from = caller.origin(), "refused a call that was to take another's place");
            self.answer(tx, request.response(refusal.unwrap_or(481), "", &token()));
            return;
        };
        let (replaces, room, rule) = (old.id, old.enter.room.clone(), old.settings.rule.clone());
        let Some(settings) = self.settings_for(&caller, &rule) else { return };
        let enter = Enter { asks: false, ..self.entrance(&caller, &number, source, room, true) };
        let shown = masked(&number);
        let guest = Guest { settings, enter, number, shown, pin: None, replaces: Some(replaces) };
        self.take_in(now, tx, source, request, guest);
    }

    fn take_in(&mut self, now: Instant, tx: ServerTx, source: Source, request: Request, guest: Guest) {
        let Guest { settings, enter, number, shown, pin, replaces } = guest;
        if let Some(trunk) = self.trunks.iter_mut().find(|trunk| trunk.name == settings.trunk) {
            if trunk.calls >= trunk.max_calls {
                info!(trunk = trunk.name, "refused a call: the trunk has all the calls it may have");
                let mut response = request.response(503, "the trunk has all the calls it may have", &token());
                response.headers.push("Retry-After", "10");
                self.answer(tx, response);
                return;
            }
            trunk.calls += 1;
        }
        let (trunk, rule) = (settings.trunk.clone(), settings.rule.clone());
        let mut out = std::collections::VecDeque::new();
        let world = (&self.config, self.addresses.as_ref());
        let mut ctx = Self::ctx(world, (&mut out, &mut self.last_tx), now);
        match Call::take(&mut ctx, tx, source, request, settings, enter) {
            Some(mut call) => {
                (call.shown, call.number, call.pin, call.replaces) = (shown, number, pin, replaces);
                call.lines.push(trunk.clone());
                call.tell(&mut ctx, CallState::Ringing, None, "calls in");
                self.server.insert(tx, call.id);
                info!(call = %call.id, from = trunk, rule, room = call.enter.room, "a call comes in");
                self.note(call, None, out, now);
            }
            None => {
                self.out.extend(out);
                self.free_lines([trunk]);
            }
        }
    }

    /// How a caller's calls are treated.
    fn settings_for(&self, caller: &Caller, rule: &str) -> Option<Arc<CallSettings>> {
        let base = match caller {
            Caller::Trunk(name) => &self.trunks.iter().find(|trunk| trunk.name == *name)?.settings,
            Caller::Phone(_) | Caller::Anyone => &self.phones,
        };
        let mut settings = CallSettings::clone(base);
        settings.rule = rule.to_owned();
        if *caller == Caller::Anyone {
            settings.trunk = "anyone".into();
        }
        Some(Arc::new(settings))
    }

    fn entrance(&self, caller: &Caller, number: &str, source: Source, room: String, hide: bool) -> Enter {
        let shown = match caller {
            Caller::Phone(user) => user.clone(),
            _ if hide => "phone".into(),
            _ => number.to_owned(),
        };
        let shown: String = shown.chars().filter(char::is_ascii_alphanumeric).take(32).collect();
        Enter {
            room,
            name: format!("{}-{}", if shown.is_empty() { "phone" } else { &shown }, short_token()),
            principal: caller.principal(),
            asks: true,
            remote: Some(source.addr),
            media_timeout_ms: u64::from(self.config.calls.media_timeout_s) * 1000,
        }
    }
}
