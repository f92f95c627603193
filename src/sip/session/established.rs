//! A call that both sides talk in: changes of media (RFC 3261 §14, RFC 3311, RFC 6337), session timers
//! (RFC 4028), keys and keyframes by INFO (RFC 6086, RFC 5168), its end.

use std::time::Duration;

use tracing::{debug, info};

use crate::core::control::calls::{CallState, Direction};
use crate::sip::session::aside::Asides;
use crate::sip::session::branch::Branch;
use crate::sip::session::call::{Alarm, Call, Phase, add_abilities, warning};
use crate::sip::session::dialog::Dialog;
use crate::sip::session::inbound::description;
use crate::sip::session::media::{MediaAsk, MediaEvent};
use crate::sip::session::offer::MediaSession;
use crate::sip::session::refer::Transfer;
use crate::sip::session::timer::{SessionTimer, TooSmall, min_se};
use crate::sip::session::{ClientTx, Ctx, Destination, ServerTx, Source, TxFailure, random_below};
use crate::sip::wire::sdp::Description;
use crate::sip::wire::{Headers, Method, NameAddr, Request, Response, value};

/// What only an established call has.
#[derive(Debug)]
pub struct Established {
    /// The dialog.
    pub dialog: Dialog,
    /// The INVITE whose 2xx waits for its ACK.
    pub unacknowledged: Option<ServerTx>,
    /// That 2xx held an offer; the ACK answers it.
    pub awaits_answer: bool,
    /// The ACK of their last 2xx, in case that is repeated.
    pub last_ack: Option<(Request, Destination)>,
    /// Branches of a call out that lost and are not over yet.
    pub losers: Vec<Branch>,
    /// A transfer under way.
    pub transfer: Option<Transfer>,
    /// Requests of ours beside its media: INFO, NOTIFY, REFER.
    pub asides: Asides,
    change: Option<Change>,
    timer: Option<SessionTimer>,
    updates: bool,
    retry: Option<Why>,
}

/// A change of the call's media or timer under way.
#[derive(Debug)]
enum Change {
    Theirs {
        tx: ServerTx,
        request: Request,
        offer: Option<Box<Description>>,
        before: Box<MediaSession>,
        serial: u32,
        sdp: String,
    },
    Ours {
        tx: ClientTx,
        why: Why,
        before: Box<MediaSession>,
        seq: u32,
        method: Method,
    },
}

/// Why we change something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Why {
    /// The session timer.
    Refresh,
    /// Hold or resume.
    Hold,
}

impl Established {
    /// A call just answered; `headers` are the other side's.
    pub fn new(dialog: Dialog, headers: &Headers) -> Self {
        Established {
            dialog,
            unacknowledged: None,
            awaits_answer: false,
            last_ack: None,
            losers: Vec::new(),
            transfer: None,
            asides: Asides::default(),
            change: None,
            timer: None,
            updates: headers.lists("Allow", "UPDATE"),
            retry: None,
        }
    }

    /// Answers what is open when the call ends.
    pub fn abandon(&mut self, ctx: &mut Ctx<'_>) {
        if let Some(Change::Theirs { tx, request, .. }) = self.change.take() {
            ctx.respond(tx, request.response(487, "", ""));
        }
    }
}

impl Call {
    fn live(&mut self) -> Option<&mut Established> {
        match &mut self.phase {
            Phase::Established(call) => Some(call),
            _ => None,
        }
    }

    // Requests.

    pub(super) fn established_request(
        &mut self,
        ctx: &mut Ctx<'_>,
        tx: ServerTx,
        source: Source,
        request: Request,
    ) {
        let Some(call) = self.live() else { return };
        if !call.dialog.accept(&request, source) {
            ctx.respond(tx, request.response(500, "CSeq is not in order", ""));
            return;
        }
        match request.method {
            Method::Invite | Method::Update => self.their_change(ctx, tx, request),
            Method::Bye => self.their_bye(ctx, tx, &request),
            Method::Info => self.info(ctx, tx, &request),
            Method::Refer => self.refer(ctx, tx, request),
            Method::Notify => self.notified(ctx, tx, &request),
            Method::Options => {
                let mut response = request.response(200, "", "");
                add_abilities(&mut response.headers);
                response.headers.push("Accept", "application/sdp");
                ctx.respond(tx, response);
            }
            Method::Prack => ctx.respond(tx, request.response(481, "", "")),
            _ => {
                let mut response = request.response(405, "", "");
                response.headers.push("Allow", Method::ALLOW);
                ctx.respond(tx, response);
            }
        }
    }

    fn their_bye(&mut self, ctx: &mut Ctx<'_>, tx: ServerTx, request: &Request) {
        ctx.respond(tx, request.response(200, "", ""));
        if let Some(call) = self.live() {
            call.abandon(ctx);
        }
        // Why, as far as it says (RFC 3326).
        let said = request.headers.lines("Reason").find_map(|line| value::param(line, "text"));
        let text = match said.filter(|text| !text.is_empty()) {
            Some(said) => format!("the other side hung up: {}", said.chars().take(80).collect::<String>()),
            None => "the other side hung up".to_owned(),
        };
        info!(call = %self.id, trunk = self.settings.trunk, "{text}");
        self.end(ctx, Asides::default(), &text);
    }

    fn their_change(&mut self, ctx: &mut Ctx<'_>, tx: ServerTx, request: Request) {
        let Some(call) = self.live() else { return };
        // One change at a time (RFC 3261 §14.2, RFC 3311 §5.2).
        let busy = match &call.change {
            Some(Change::Ours { .. }) => Some(491),
            Some(Change::Theirs { .. }) => Some(500),
            None if call.unacknowledged.is_some() && request.method == Method::Invite => Some(500),
            None => None,
        };
        if let Some(status) = busy {
            let mut response = request.response(status, "", "");
            if status == 500 {
                response.headers.push("Retry-After", random_below(10).to_string());
            }
            ctx.respond(tx, response);
            return;
        }
        if let Err(TooSmall(min)) = SessionTimer::answer(&request.headers, &self.settings.calls) {
            let mut response = request.response(422, "", "");
            response.headers.push("Min-SE", min.to_string());
            ctx.respond(tx, response);
            return;
        }
        if request.method == Method::Invite {
            ctx.respond(tx, request.response(100, "", ""));
        }
        let before = Box::new(self.media.clone());
        let offer = match description(&request.headers, &request.body) {
            Ok(offer) => offer,
            Err(status) => {
                ctx.respond(tx, request.response(status, "", ""));
                return;
            }
        };
        let Some(offer) = offer else {
            self.bodiless_change(ctx, tx, &request);
            return;
        };
        match self.media.receive_offer(&offer) {
            Err(refused) => {
                self.media = *before;
                let mut response = request.response(488, "", "");
                response.headers.push("Warning", warning(refused.code, &refused.text));
                ctx.respond(tx, response);
            }
            Ok((streams, close)) => {
                for index in close {
                    ctx.media(self.id, MediaAsk::Close { index });
                }
                let serial = self.next_serial();
                let offer = Some(Box::new(offer));
                let change = Change::Theirs { tx, request, offer, before, serial, sdp: String::new() };
                if let Some(call) = self.live() {
                    call.change = Some(change);
                }
                if streams.is_empty() {
                    self.connect_change(ctx);
                } else {
                    ctx.media(self.id, MediaAsk::Open { serial, streams });
                }
            }
        }
    }

    /// An UPDATE without a body refreshes; an INVITE without one asks for our offer.
    fn bodiless_change(&mut self, ctx: &mut Ctx<'_>, tx: ServerTx, request: &Request) {
        if request.method == Method::Update {
            self.finish_change(ctx, tx, request, None);
            return;
        }
        let sdp = self.media.reoffer();
        if let Some(call) = self.live() {
            call.awaits_answer = true;
        }
        self.finish_change(ctx, tx, request, Some(sdp));
    }

    /// Our ends are there: tell them the remote ones.
    fn connect_change(&mut self, ctx: &mut Ctx<'_>) {
        let held = self.media.held_by_remote();
        let next = self.serial + 1;
        let Phase::Established(call) = &mut self.phase else { return };
        let Some(Change::Theirs { offer: Some(offer), sdp, serial, before, .. }) = &mut call.change else {
            return;
        };
        let (text, streams) = self.media.answer(offer);
        *sdp = text;
        *serial = next;
        let changed = before.held_by_remote() != held;
        self.serial = next;
        ctx.media(self.id, MediaAsk::Connect { serial: next, streams });
        if changed {
            info!(call = %self.id, trunk = self.settings.trunk, held, "hold");
            let (state, text) = if held {
                (CallState::Held, "the other side put the call on hold")
            } else {
                (CallState::Resumed, "the other side took the call back")
            };
            self.tell(ctx, state, None, text);
        }
    }

    /// Answers a change of theirs with 200.
    fn finish_change(&mut self, ctx: &mut Ctx<'_>, tx: ServerTx, request: &Request, sdp: Option<String>) {
        let timer = SessionTimer::answer(&request.headers, &self.settings.calls).ok().flatten();
        self.use_timer(ctx, timer);
        let mut response = request.response(200, "", "");
        self.timer_in_response(&request.headers, &mut response.headers);
        let Some(call) = self.live() else { return };
        call.change = None;
        response.headers.copy("Record-Route", &request.headers);
        response.headers.push("Contact", NameAddr::new(&call.dialog.contact).to_string());
        add_abilities(&mut response.headers);
        if let Some(sdp) = sdp {
            response.set_body("application/sdp", sdp);
        }
        if request.method == Method::Invite {
            call.unacknowledged = Some(tx);
        }
        ctx.respond(tx, response);
    }

    /// Their re-INVITE was cancelled before we answered it.
    pub(super) fn cancelled_change(&mut self, ctx: &mut Ctx<'_>, cancelled: ServerTx) {
        let Some(call) = self.live() else { return };
        let ours = matches!(&call.change, Some(Change::Theirs { tx, .. }) if *tx == cancelled);
        if let (true, Some(Change::Theirs { tx, request, before, .. })) = (ours, call.change.take()) {
            ctx.respond(tx, request.response(487, "", ""));
            self.media = *before;
        }
    }

    pub(super) fn established_ack(&mut self, ctx: &mut Ctx<'_>, request: &Request) {
        let Some(call) = self.live() else { return };
        call.unacknowledged = None;
        if !std::mem::take(&mut call.awaits_answer) {
            self.ask_pin(ctx);
            return;
        }
        match description(&request.headers, &request.body) {
            Ok(Some(answer)) => {
                if self.apply_answer(ctx, &answer) {
                    self.ask_pin(ctx);
                }
            }
            _ => self.hang_up(ctx, "the answer to our offer is missing", Some("SIP;cause=488")),
        }
    }

    /// Connects what an answer to our offer says.
    pub(super) fn apply_answer(&mut self, ctx: &mut Ctx<'_>, answer: &Description) -> bool {
        match self.media.receive_answer(answer) {
            Ok((streams, close)) => {
                for index in close {
                    ctx.media(self.id, MediaAsk::Close { index });
                }
                let serial = self.next_serial();
                ctx.media(self.id, MediaAsk::Connect { serial, streams });
                true
            }
            Err(refused) => {
                self.hang_up(ctx, &refused.text, Some("SIP;cause=488;text=\"Not Acceptable Here\""));
                false
            }
        }
    }

    // Media.

    pub(super) fn established_media(&mut self, ctx: &mut Ctx<'_>, event: MediaEvent) {
        match event {
            MediaEvent::Opened { locals, .. } => {
                self.media.opened(locals);
                self.connect_change(ctx);
            }
            MediaEvent::Connected { serial: done } => {
                let Some(call) = self.live() else { return };
                if !matches!(&call.change, Some(Change::Theirs { serial, .. }) if *serial == done) {
                    return;
                }
                if let Some(Change::Theirs { tx, request, sdp, .. }) = call.change.take() {
                    self.finish_change(ctx, tx, &request, Some(sdp));
                }
            }
            MediaEvent::Failed { status, text } => {
                let Some(call) = self.live() else { return };
                match call.change.take() {
                    Some(Change::Theirs { tx, request, before, .. }) => {
                        info!(call = %self.id, status, "a change was refused: {text}");
                        ctx.respond(tx, request.response(status, "", ""));
                        self.media = *before;
                    }
                    other => {
                        call.change = other;
                        self.hang_up(ctx, &text, None);
                    }
                }
            }
            _ => {}
        }
    }

    // Keys and keyframes.

    fn info(&mut self, ctx: &mut Ctx<'_>, tx: ServerTx, request: &Request) {
        let kind = request.headers.get("Content-Type").unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let body = String::from_utf8_lossy(&request.body);
        let key = match kind.as_str() {
            "application/dtmf-relay" => relay(&body),
            "application/dtmf" => body.trim().chars().next().map(|digit| (digit, 160)),
            "application/media_control+xml" => {
                if body.contains("picture_fast_update") {
                    ctx.media(self.id, MediaAsk::Keyframe);
                }
                ctx.respond(tx, request.response(200, "", ""));
                return;
            }
            "" if body.trim().is_empty() => {
                ctx.respond(tx, request.response(200, "", ""));
                return;
            }
            _ => {
                let mut response = request.response(415, "", "");
                response.headers.push(
                    "Accept",
                    "application/dtmf-relay, application/dtmf, application/media_control+xml",
                );
                ctx.respond(tx, response);
                return;
            }
        };
        let key = key.map(|(digit, ms)| (digit.to_ascii_uppercase(), ms));
        match key.filter(|(digit, _)| digit.is_ascii_digit() || "*#ABCD".contains(*digit)) {
            Some((digit, duration_ms)) => {
                ctx.respond(tx, request.response(200, "", ""));
                self.key(ctx, digit, duration_ms);
            }
            None => ctx.respond(tx, request.response(400, "no key is named", "")),
        }
    }

    /// Asks the other side for a keyframe by INFO (RFC 5168), where RTCP cannot.
    pub(super) fn ask_keyframe(&mut self, ctx: &mut Ctx<'_>) {
        let body = "<?xml version=\"1.0\" encoding=\"utf-8\"?><media_control><vc_primitive><to_encoder>\
                    <picture_fast_update/></to_encoder></vc_primitive></media_control>";
        self.send_info(ctx, "application/media_control+xml", body.to_owned());
    }

    /// Sends keys to the other side.
    pub fn send_dtmf(&mut self, ctx: &mut Ctx<'_>, digits: &str) {
        let in_rtp = self.settings.dtmf == crate::sip::config::Dtmf::Rfc4733 && self.media.has_events();
        if in_rtp {
            ctx.media(self.id, MediaAsk::Dtmf { digits: digits.to_owned() });
            return;
        }
        for digit in digits.chars().filter(|c| c.is_ascii_digit() || "*#ABCD".contains(*c)) {
            self.send_info(ctx, "application/dtmf-relay", format!("Signal={digit}\r\nDuration=160\r\n"));
        }
    }

    fn send_info(&mut self, ctx: &mut Ctx<'_>, kind: &str, body: String) {
        let Phase::Established(call) = &mut self.phase else { return };
        let mut request = call.dialog.request(Method::Info);
        request.set_body(kind, body);
        let to = call.dialog.destination();
        call.asides.send(ctx, request, to, (&mut self.answerer, self.settings.account.as_ref()));
    }

    // Changes of ours.

    /// Puts the other side on hold, or takes it back.
    pub fn hold(&mut self, ctx: &mut Ctx<'_>, held: bool) {
        if self.media.is_held() != held && matches!(self.phase, Phase::Established(_)) {
            let before = self.media.clone();
            self.media.set_held(held);
            self.our_change(ctx, Why::Hold, before);
        }
    }

    fn our_change(&mut self, ctx: &mut Ctx<'_>, why: Why, before: MediaSession) {
        let Phase::Established(call) = &mut self.phase else { return };
        if call.change.is_some() || call.unacknowledged.is_some() {
            call.retry = Some(why);
            self.media = before;
            self.set(Alarm::Retry, ctx.now + Duration::from_secs(1));
            return;
        }
        let update = why == Why::Refresh && call.updates;
        let method = if update { Method::Update } else { Method::Invite };
        let mut request = call.dialog.request(method.clone());
        let seq = call.dialog.local_seq;
        add_abilities(&mut request.headers);
        if let Some(timer) = call.timer {
            let asked = SessionTimer { ours: true, ..timer };
            request.headers.push("Session-Expires", asked.in_request());
            request.headers.push("Min-SE", self.settings.calls.min_se_s.to_string());
        }
        if !update {
            let sdp = self.media.reoffer();
            request.set_body("application/sdp", sdp);
        }
        if let Some(account) = &self.settings.account {
            self.answerer.sign(&mut request, account);
        }
        let tx = ctx.send(request, call.dialog.destination());
        call.change = Some(Change::Ours { tx, why, before: Box::new(before), seq, method });
    }

    /// Tries a change once more from where we were before it.
    fn again(&mut self, ctx: &mut Ctx<'_>, why: Why, before: MediaSession) {
        self.media = before.clone();
        if why == Why::Hold {
            self.media.set_held(!before.is_held());
        }
        self.our_change(ctx, why, before);
    }

    pub(super) fn established_response(
        &mut self,
        ctx: &mut Ctx<'_>,
        tx: ClientTx,
        source: Source,
        response: Response,
    ) {
        let Some(call) = self.live() else { return };
        if let Some(at) = call.losers.iter().position(|branch| branch.tx == tx) {
            let gone = call.losers[at].handle_as_loser(ctx, source, &response);
            if gone {
                call.losers.swap_remove(at);
            }
            return;
        }
        if response.status < 200 {
            return;
        }
        if call.asides.has(tx) {
            self.aside_answered(ctx, tx, &response);
            return;
        }
        if matches!(&call.change, Some(Change::Ours { tx: ours, .. }) if *ours == tx)
            && let Some(Change::Ours { why, before, seq, method, .. }) = call.change.take()
        {
            self.change_answered(ctx, (why, *before, seq, method), &response);
        }
    }

    fn aside_answered(&mut self, ctx: &mut Ctx<'_>, tx: ClientTx, response: &Response) {
        let Phase::Established(call) = &mut self.phase else { return };
        let passport = (&mut self.answerer, self.settings.account.as_ref());
        let next = call.asides.answered(ctx, tx, response, Some(&mut call.dialog.local_seq), passport);
        let referred = call.transfer.as_ref().is_some_and(|transfer| transfer.refer_tx() == Some(tx));
        match next {
            Some(next) if referred => {
                call.transfer.iter_mut().for_each(|transfer| transfer.asked_again(next));
            }
            Some(_) => {}
            None if matches!(response.status, 408 | 481) => {
                self.hang_up(ctx, "the other side does not know the call any more", None);
            }
            None if referred => self.refer_answered(ctx, response),
            None => {}
        }
    }

    fn change_answered(
        &mut self,
        ctx: &mut Ctx<'_>,
        (why, before, seq, method): (Why, MediaSession, u32, Method),
        response: &Response,
    ) {
        let asked = self.live().and_then(|call| call.timer).map(|timer| timer.interval);
        match response.status {
            200..300 => {
                let Some(call) = self.live() else { return };
                call.dialog.refresh(&response.headers);
                if method == Method::Invite {
                    let ack = call.dialog.ack(seq);
                    let to = call.dialog.destination();
                    call.last_ack = Some((ack.clone(), to.clone()));
                    ctx.out.push_back(super::Action::Ack { request: ack, to });
                    if let Ok(Some(answer)) = description(&response.headers, &response.body) {
                        self.apply_answer(ctx, &answer);
                    }
                }
                self.answerer.accepted();
                let timer = SessionTimer::accepted(&response.headers, asked);
                self.use_timer(ctx, timer);
            }
            401 | 407 if self.settings.account.is_some() && self.answerer.challenged(response) => {
                self.again(ctx, why, before);
            }
            422 => {
                let least = min_se(&response.headers).unwrap_or(1800);
                if let Some(timer) = self.live().and_then(|call| call.timer.as_mut()) {
                    timer.interval = timer.interval.max(least);
                }
                self.again(ctx, why, before);
            }
            491 => {
                // The owner of the Call-ID waits longer (RFC 3261 §14.1).
                let owner = self.way == Direction::Out;
                let wait = if owner { 2100 + random_below(1900) } else { random_below(2000) };
                self.media = before;
                if let Some(call) = self.live() {
                    call.retry = Some(why);
                }
                self.set(Alarm::Retry, ctx.now + Duration::from_millis(wait));
            }
            408 | 481 => self.hang_up(ctx, "the other side does not know the call any more", None),
            status if method == Method::Update => {
                debug!(call = %self.id, status, "UPDATE is not understood there");
                if let Some(call) = self.live() {
                    call.updates = false;
                }
                self.again(ctx, why, before);
            }
            status => {
                info!(call = %self.id, status, "a change of ours was refused");
                self.media = before;
            }
        }
    }

    pub(super) fn established_failure(&mut self, ctx: &mut Ctx<'_>, tx: ClientTx, failure: TxFailure) {
        let Some(call) = self.live() else { return };
        call.losers.retain(|branch| branch.tx != tx);
        let aside = call.asides.has(tx);
        call.asides.failed(tx);
        let change = matches!(&call.change, Some(Change::Ours { tx: ours, .. }) if *ours == tx);
        if aside || change {
            let text = match failure {
                TxFailure::Timeout => "the other side does not answer any more",
                TxFailure::Transport => "the other side cannot be reached any more",
            };
            self.hang_up(ctx, text, None);
        }
    }

    // Time.

    /// Sets the session timer's alarms anew.
    pub(super) fn use_timer(&mut self, ctx: &mut Ctx<'_>, timer: Option<SessionTimer>) {
        self.clear(Alarm::Refresh);
        self.clear(Alarm::Expired);
        if let Some(timer) = timer {
            if timer.ours {
                self.set(Alarm::Refresh, ctx.now + timer.refresh_after());
            }
            self.set(Alarm::Expired, ctx.now + timer.dead_after());
        }
        if let Some(call) = self.live() {
            call.timer = timer;
        }
    }

    /// `Session-Expires` of a 2xx of ours (RFC 4028 §9).
    pub(super) fn timer_in_response(&mut self, asked: &Headers, headers: &mut Headers) {
        let Some(timer) = self.live().and_then(|call| call.timer) else { return };
        let supported = asked.lists("Supported", "timer") || asked.lists("Require", "timer");
        headers.push("Session-Expires", timer.in_response());
        if !timer.ours && supported {
            headers.push("Require", "timer");
        }
    }

    pub(super) fn established_alarm(&mut self, ctx: &mut Ctx<'_>, alarm: Alarm) {
        match alarm {
            Alarm::Refresh => {
                let before = self.media.clone();
                self.our_change(ctx, Why::Refresh, before);
            }
            Alarm::Expired => {
                let reason = Some("SIP;cause=408;text=\"Session Timer Expired\"");
                self.hang_up(ctx, "nobody refreshed the session", reason);
            }
            Alarm::Retry => {
                let why = self.live().and_then(|call| call.retry.take());
                if let Some(why) = why {
                    let before = self.media.clone();
                    self.again(ctx, why, before);
                }
            }
            Alarm::Transfer => self.transfer_overdue(ctx),
            Alarm::Pin => self.pin_overdue(ctx),
            _ => {}
        }
    }
}

/// `Signal=5` and `Duration=160` on lines of their own.
fn relay(body: &str) -> Option<(char, u32)> {
    let value = |name: &str| {
        let mut pairs = body.lines().filter_map(|line| line.split_once('='));
        pairs.find(|(known, _)| known.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    };
    let signal = value("Signal")?;
    let digit = match signal {
        "10" => '*',
        "11" => '#',
        "12" => 'A',
        "13" => 'B',
        "14" => 'C',
        "15" => 'D',
        other => other.chars().next()?,
    };
    Some((digit, value("Duration").and_then(|text| text.parse().ok()).unwrap_or(160)))
}
