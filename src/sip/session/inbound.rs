//! A call that comes in, from its INVITE to our 200 (RFC 3261 §13.3, RFC 3262 for reliable ringing).

use std::time::Duration;

use tracing::info;

use crate::core::control::calls::Direction;
use crate::sip::session::aside::Asides;
use crate::sip::session::call::{Alarm, Call, CallSettings, Phase, add_abilities, warning};
use crate::sip::session::dialog::Dialog;
use crate::sip::session::established::Established;
use crate::sip::session::media::{Enter, MediaAsk, MediaEvent};
use crate::sip::session::timer::{SessionTimer, TooSmall};
use crate::sip::session::{Ctx, ServerTx, Source, new_session, token};
use crate::sip::wire::sdp::Description;
use crate::sip::wire::{Method, NameAddr, Request, Response};

/// First interval of repetition (RFC 3261 T1) and how long it goes on.
const T1: Duration = Duration::from_millis(500);
const GIVE_UP: Duration = Duration::from_secs(32);

/// An INVITE that waits for its answer.
#[derive(Debug)]
pub struct Inbound {
    /// Its transaction.
    pub tx: ServerTx,
    /// The dialog our answer will make.
    pub dialog: Dialog,
    invite: Request,
    tag: String,
    offer: Option<Description>,
    step: Step,
    timer: Option<SessionTimer>,
    ringing: Option<Reliable>,
}

#[derive(Debug)]
enum Step {
    Opening,
    /// Our offer is in a reliable 183; the answer comes in its PRACK (RFC 3262 §5).
    Offered,
    /// `sdp` is our answer, if the 2xx is to bring one.
    Connecting {
        serial: u32,
        sdp: Option<String>,
    },
}

/// A provisional response that waits for its PRACK.
#[derive(Debug)]
struct Reliable {
    response: Response,
    rseq: u32,
    after: Duration,
    waited: Duration,
}

/// The offer in a message's body, also where it is one part of several.
pub fn description(headers: &crate::sip::wire::Headers, body: &[u8]) -> Result<Option<Description>, u16> {
    let kind = headers.get("Content-Type").unwrap_or("application/sdp");
    let bare = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    match bare.as_str() {
        "application/sdp" => Description::parse(body).map(Some).map_err(|_| 488),
        "multipart/mixed" | "multipart/alternative" => {
            let boundary = crate::sip::wire::value::param(kind, "boundary").ok_or(400u16)?;
            let text = String::from_utf8_lossy(body);
            let mark = format!("--{boundary}");
            let part = text.split(&mark).find(|part| {
                part.lines().take_while(|line| !line.trim().is_empty()).count() < 20
                    && part.to_ascii_lowercase().contains("application/sdp")
            });
            let Some(part) = part else { return Ok(None) };
            let start = part.find("v=0").ok_or(400u16)?;
            let sdp = part.get(start..).unwrap_or_default();
            Description::parse(sdp.as_bytes()).map(Some).map_err(|_| 488)
        }
        _ => Err(415),
    }
}

impl Call {
    /// Takes an INVITE that was let in. None: it was answered with a refusal.
    pub fn take(
        ctx: &mut Ctx<'_>,
        tx: ServerTx,
        source: Source,
        invite: Request,
        settings: std::sync::Arc<CallSettings>,
        enter: Enter,
    ) -> Option<Call> {
        let tag = token();
        let offer = match description(&invite.headers, &invite.body) {
            Ok(offer) => offer,
            Err(status) => {
                let mut response = invite.response(status, "", &tag);
                if status == 415 {
                    response.headers.push("Accept", "application/sdp");
                }
                ctx.respond(tx, response);
                return None;
            }
        };
        let timer = match SessionTimer::answer(&invite.headers, &settings.calls) {
            Ok(timer) => timer,
            Err(TooSmall(min)) => {
                let mut response = invite.response(422, "", &tag);
                response.headers.push("Min-SE", min.to_string());
                ctx.respond(tx, response);
                return None;
            }
        };
        let contact = ctx.contact("viaduct", Some(source.addr.ip()), source.transport);
        let Some(dialog) = Dialog::answering(&invite, &tag, contact, source) else {
            ctx.respond(tx, invite.response(400, "Contact is missing or cannot be read", &tag));
            return None;
        };
        ctx.respond(tx, invite.response(100, "", ""));
        let inbound = Inbound { tx, dialog, invite, tag, offer, step: Step::Opening, timer, ringing: None };
        let mut call = Call::new(new_session(), Direction::In, settings, enter, Phase::Gone);
        call.begin_inbound(ctx, inbound).then_some(call)
    }

    fn begin_inbound(&mut self, ctx: &mut Ctx<'_>, mut inbound: Inbound) -> bool {
        let streams = match &inbound.offer {
            Some(offer) => match self.media.receive_offer(offer) {
                Ok((open, _)) => open,
                Err(refused) => {
                    info!(call = %self.id, trunk = self.settings.trunk, "refused: {}", refused.text);
                    let mut response = inbound.invite.response(488, "", &inbound.tag);
                    response.headers.push("Warning", warning(refused.code, &refused.text));
                    ctx.respond(inbound.tx, response);
                    return false;
                }
            },
            None => {
                let at = inbound.dialog.source().addr.ip().to_canonical();
                self.media.make_offer(at.is_ipv6())
            }
        };
        if inbound.offer.is_some() && inbound.invite.headers.lists("Require", "100rel") {
            self.ring_reliably(ctx, &mut inbound, None);
        }
        self.phase = Phase::Inbound(Box::new(inbound));
        self.enter_room(ctx);
        let serial = self.next_serial();
        ctx.media(self.id, MediaAsk::Open { serial, streams });
        true
    }

    /// Rings so that the caller must say that it heard; `offer` is ours, where the caller made none.
    fn ring_reliably(&mut self, ctx: &mut Ctx<'_>, inbound: &mut Inbound, offer: Option<String>) {
        let rseq = 1;
        let status = if offer.is_some() { 183 } else { 180 };
        let mut response = inbound.invite.response(status, "", &inbound.tag);
        response.headers.push("Contact", NameAddr::new(&inbound.dialog.contact).to_string());
        response.headers.push("Require", "100rel");
        response.headers.push("RSeq", rseq.to_string());
        add_abilities(&mut response.headers);
        response.headers.copy("Record-Route", &inbound.invite.headers);
        if let Some(sdp) = offer {
            response.set_body("application/sdp", sdp);
        }
        ctx.respond(inbound.tx, response.clone());
        inbound.ringing = Some(Reliable { response, rseq, after: T1, waited: Duration::ZERO });
        self.set(Alarm::Provisional, ctx.now + T1);
    }

    pub(super) fn inbound_alarm(&mut self, ctx: &mut Ctx<'_>, alarm: Alarm) {
        let Phase::Inbound(inbound) = &mut self.phase else { return };
        let (Alarm::Provisional, Some(ringing)) = (alarm, &mut inbound.ringing) else { return };
        ringing.waited += ringing.after;
        ringing.after *= 2;
        if ringing.waited >= GIVE_UP {
            self.reject(ctx, 504, "", "ringing was never acknowledged", |_| {});
            return;
        }
        ctx.respond(inbound.tx, ringing.response.clone());
        let next = ctx.now + ringing.after;
        self.set(Alarm::Provisional, next);
    }

    /// A request before our answer: PRACK and UPDATE belong here, BYE may come (RFC 3261 §15).
    pub(super) fn inbound_request(
        &mut self,
        ctx: &mut Ctx<'_>,
        tx: ServerTx,
        source: Source,
        request: Request,
    ) {
        let Phase::Inbound(inbound) = &mut self.phase else { return };
        if !inbound.dialog.accept(&request, source) {
            ctx.respond(tx, request.response(500, "CSeq is not in order", ""));
            return;
        }
        match request.method {
            Method::Prack => {
                let rack = request.headers.get("RAck").unwrap_or_default();
                let number = rack.split_ascii_whitespace().next().and_then(|text| text.parse().ok());
                let awaited = inbound.ringing.as_ref().is_some_and(|ringing| number == Some(ringing.rseq));
                let answers = matches!(inbound.step, Step::Offered);
                if awaited {
                    inbound.ringing = None;
                    self.clear(Alarm::Provisional);
                }
                ctx.respond(tx, request.response(if awaited { 200 } else { 481 }, "", ""));
                if awaited && answers {
                    self.answered_early(ctx, &request);
                }
            }
            Method::Bye => {
                ctx.respond(tx, request.response(200, "", ""));
                self.reject(ctx, 487, "", "the caller gave up", |_| {});
            }
            Method::Options => ctx.respond(tx, request.response(200, "", "")),
            Method::Update | Method::Invite => {
                let mut response = request.response(500, "", "");
                response.headers.push("Retry-After", "2");
                ctx.respond(tx, response);
            }
            _ => {
                let mut response = request.response(405, "", "");
                response.headers.push("Allow", Method::ALLOW);
                ctx.respond(tx, response);
            }
        }
    }

    /// The PRACK of our offer: it brings the answer.
    fn answered_early(&mut self, ctx: &mut Ctx<'_>, prack: &Request) {
        let answer = description(&prack.headers, &prack.body).ok().flatten();
        let agreed = answer.ok_or(None).and_then(|answer| self.media.receive_answer(&answer).map_err(Some));
        match agreed {
            Ok((streams, _)) => {
                let serial = self.next_serial();
                if let Phase::Inbound(inbound) = &mut self.phase {
                    inbound.step = Step::Connecting { serial, sdp: None };
                }
                ctx.media(self.id, MediaAsk::Connect { serial, streams });
            }
            Err(refused) => {
                let text =
                    refused.map_or("the answer to our offer is missing".into(), |refused| refused.text);
                self.reject(ctx, 488, "", &text, |_| {});
            }
        }
    }

    pub(super) fn inbound_media(&mut self, ctx: &mut Ctx<'_>, event: MediaEvent) {
        let Phase::Inbound(inbound) = &mut self.phase else { return };
        match event {
            MediaEvent::Opened { locals, .. } => {
                self.media.opened(locals);
                match &inbound.offer {
                    Some(offer) => {
                        let (sdp, streams) = self.media.answer(offer);
                        self.serial += 1;
                        let serial = self.serial;
                        inbound.step = Step::Connecting { serial, sdp: Some(sdp) };
                        ctx.media(self.id, MediaAsk::Connect { serial, streams });
                    }
                    None => self.offer_inbound(ctx),
                }
            }
            MediaEvent::Connected { serial } => {
                let Step::Connecting { serial: awaited, sdp } = &mut inbound.step else { return };
                if serial == *awaited {
                    let sdp = sdp.take();
                    self.answer_inbound(ctx, sdp);
                }
            }
            MediaEvent::Failed { status, text } => {
                let retry = (status == 503).then_some("10");
                self.reject(ctx, status, "", &text, |response| {
                    if let Some(seconds) = retry {
                        response.headers.push("Retry-After", seconds);
                    }
                });
            }
            _ => {}
        }
    }

    /// Makes our offer to a caller who made none: in a reliable 183 where it asks for that, else in the 200.
    fn offer_inbound(&mut self, ctx: &mut Ctx<'_>) {
        let sdp = self.media.write();
        let phase = std::mem::replace(&mut self.phase, Phase::Gone);
        let Phase::Inbound(mut inbound) = phase else { return };
        if !inbound.invite.headers.lists("Require", "100rel") {
            self.phase = Phase::Inbound(inbound);
            self.answer_inbound(ctx, Some(sdp));
            return;
        }
        self.ring_reliably(ctx, &mut inbound, Some(sdp));
        inbound.step = Step::Offered;
        self.phase = Phase::Inbound(inbound);
    }

    /// Sends the 200; `sdp` is what it is to say of media, unless that was settled before.
    fn answer_inbound(&mut self, ctx: &mut Ctx<'_>, sdp: Option<String>) {
        let phase = std::mem::replace(&mut self.phase, Phase::Gone);
        let Phase::Inbound(inbound) = phase else { return };
        self.clear(Alarm::Provisional);
        let Inbound { tx, dialog, invite, tag, offer, timer, .. } = *inbound;
        let mut response = invite.response(200, "", &tag);
        response.headers.copy("Record-Route", &invite.headers);
        response.headers.push("Contact", NameAddr::new(&dialog.contact).to_string());
        add_abilities(&mut response.headers);
        let mut established = Established::new(dialog, &invite.headers);
        established.unacknowledged = Some(tx);
        established.awaits_answer = offer.is_none() && sdp.is_some();
        if let Some(sdp) = sdp {
            response.set_body("application/sdp", sdp);
        }
        self.since = Some(ctx.now);
        self.phase = Phase::Established(Box::new(established));
        self.use_timer(ctx, timer);
        self.timer_in_response(&invite.headers, &mut response.headers);
        ctx.respond(tx, response);
        self.talks(ctx);
    }

    /// Refuses an INVITE that waits.
    pub(super) fn reject(
        &mut self,
        ctx: &mut Ctx<'_>,
        status: u16,
        reason: &str,
        text: &str,
        more: impl FnOnce(&mut Response),
    ) {
        let phase = std::mem::replace(&mut self.phase, Phase::Gone);
        let Phase::Inbound(inbound) = phase else {
            self.phase = phase;
            return;
        };
        info!(call = %self.id, trunk = self.settings.trunk, status, "not answered: {text}");
        let mut response = inbound.invite.response(status, reason, &inbound.tag);
        if status >= 400 && status != 487 {
            response.headers.push("Warning", warning(399, text));
        }
        more(&mut response);
        ctx.respond(inbound.tx, response);
        self.end(ctx, Asides::default(), text);
    }
}
