//! One call as a state machine. Its [`Phase`] owns what only that phase has: an unanswered INVITE, the
//! branches of a call out, the change under way in an established one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, info};

use crate::core::control::RoomEvent;
use crate::core::control::calls::{CallEvent, CallState, Direction};
use crate::core::convert::Sound;
use crate::core::id::ConnId;
use crate::core::peer::CloseReason;
use crate::sip::config::{CallConfig, Dtmf};
use crate::sip::session::aside::Asides;
use crate::sip::session::dialog::Dialog;
use crate::sip::session::digest::{Account, Answerer};
use crate::sip::session::established::Established;
use crate::sip::session::inbound::Inbound;
use crate::sip::session::media::{Enter, MediaAsk, MediaEvent};
use crate::sip::session::offer::{MediaSession, Policy};
use crate::sip::session::outbound::Outbound;
use crate::sip::session::pin::Pin;
use crate::sip::session::{Action, ClientTx, Ctx, ServerTx, SessionId, Source, TxFailure};
use crate::sip::wire::value::quote;
use crate::sip::wire::{Headers, Method, Request, Response};

/// How long a BYE may take before the call is forgotten anyway.
const ENDING: Duration = Duration::from_secs(33);

/// What a call is told once and keeps.
#[derive(Clone, Debug)]
pub struct CallSettings {
    /// Times and limits.
    pub calls: CallConfig,
    /// What media may be.
    pub policy: Policy,
    /// How tones are sent.
    pub dtmf: Dtmf,
    /// The trunk's name, or `phones`.
    pub trunk: String,
    /// The dispatch or outbound rule's name.
    pub rule: String,
    /// Our account there.
    pub account: Option<Account>,
    /// Follow a 302.
    pub follow_redirects: bool,
}

/// What a call waits for with a deadline.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Alarm {
    /// A call out rings too long.
    Ring,
    /// Any call lasts too long.
    Limit,
    /// The session is to be refreshed.
    Refresh,
    /// Nobody refreshed the session.
    Expired,
    /// A change that met another one is tried again.
    Retry,
    /// A reliable provisional response is repeated (RFC 3262).
    Provisional,
    /// A BYE had no answer.
    Ending,
    /// A transfer's NOTIFY is overdue.
    Transfer,
    /// No PIN was entered.
    Pin,
}

/// Where a call is.
#[derive(Debug)]
pub enum Phase {
    /// They call; not yet answered.
    Inbound(Box<Inbound>),
    /// We call; not yet answered.
    Outbound(Box<Outbound>),
    /// Both talk.
    Established(Box<Established>),
    /// A BYE is under way.
    Ending(Asides),
    /// It can be forgotten.
    Gone,
}

/// One call.
#[derive(Debug)]
pub struct Call {
    /// Its name.
    pub id: SessionId,
    /// Which way.
    pub way: Direction,
    /// What it was told.
    pub settings: Arc<CallSettings>,
    /// Where it goes.
    pub enter: Enter,
    /// The member it is there, once it is one.
    pub conn: Option<ConnId>,
    /// The other side's number, never logged.
    pub number: String,
    /// As much of it as everybody in the room may see.
    pub shown: String,
    /// Trunks on which it takes up a line.
    pub lines: Vec<String>,
    /// What both sides agreed on.
    pub media: MediaSession,
    /// Where it is.
    pub phase: Phase,
    /// Answers to challenges.
    pub answerer: Answerer,
    /// Number of the last ask of media.
    pub serial: u32,
    /// When it was answered.
    pub since: Option<Instant>,
    /// The PIN that is still to be entered.
    pub pin: Option<Pin>,
    /// The call that ends once this one is answered.
    pub replaces: Option<SessionId>,
    /// Deadlines.
    alarms: Vec<(Instant, Alarm)>,
    media_open: bool,
    /// What the room hears when it leaves.
    pub farewell: Option<Sound>,
    told: Option<(CallState, Option<u16>)>,
}

impl Call {
    /// A call in its first phase.
    pub fn new(
        id: SessionId,
        way: Direction,
        settings: Arc<CallSettings>,
        enter: Enter,
        phase: Phase,
    ) -> Self {
        Call {
            id,
            way,
            media: MediaSession::new(settings.policy.clone()),
            settings,
            enter,
            conn: None,
            number: String::new(),
            shown: String::new(),
            lines: Vec::new(),
            phase,
            answerer: Answerer::default(),
            serial: 0,
            since: None,
            pin: None,
            replaces: None,
            alarms: Vec::new(),
            media_open: false,
            farewell: None,
            told: None,
        }
    }

    /// The dialog, once there is one.
    pub fn dialog(&self) -> Option<&Dialog> {
        match &self.phase {
            Phase::Inbound(inbound) => Some(&inbound.dialog),
            Phase::Established(call) => Some(&call.dialog),
            Phase::Outbound(_) | Phase::Ending(_) | Phase::Gone => None,
        }
    }

    /// A call of ours that is not answered yet.
    pub fn outbound(&self) -> Option<&Outbound> {
        match &self.phase {
            Phase::Outbound(outbound) => Some(outbound),
            _ => None,
        }
    }

    /// Whether it can be forgotten.
    pub fn is_gone(&self) -> bool {
        matches!(self.phase, Phase::Gone)
    }

    /// In a word.
    pub fn state(&self) -> &'static str {
        match &self.phase {
            Phase::Inbound(_) | Phase::Outbound(_) => "setup",
            Phase::Established(_) if self.media.held_by_remote() || self.media.is_held() => "held",
            Phase::Established(_) => "active",
            Phase::Ending(_) | Phase::Gone => "ending",
        }
    }

    /// Enters the room and asks for our ends.
    pub fn enter_room(&mut self, ctx: &mut Ctx<'_>) {
        self.media_open = true;
        ctx.media(self.id, MediaAsk::Enter(self.enter.clone()));
        let limit = self.settings.calls.max_s;
        if limit > 0 {
            self.set(Alarm::Limit, ctx.now + Duration::from_secs(u64::from(limit)));
        }
    }

    /// Leaves the room.
    pub fn leave_room(&mut self, ctx: &mut Ctx<'_>, reason: &str) {
        if std::mem::take(&mut self.media_open) {
            let farewell = self.farewell.take();
            ctx.media(self.id, MediaAsk::Leave { reason: reason.to_owned(), farewell });
        }
    }

    /// Sets an alarm, in place of an earlier one of its kind.
    pub fn set(&mut self, alarm: Alarm, at: Instant) {
        self.clear(alarm);
        self.alarms.push((at, alarm));
    }

    /// Clears an alarm.
    pub fn clear(&mut self, alarm: Alarm) {
        self.alarms.retain(|(_, known)| *known != alarm);
    }

    /// The next deadline.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.alarms.iter().map(|(at, _)| *at).min()
    }

    /// Takes time in.
    pub fn handle_timeout(&mut self, ctx: &mut Ctx<'_>) {
        while let Some(at) = self.alarms.iter().position(|(at, _)| *at <= ctx.now) {
            let (_, alarm) = self.alarms.swap_remove(at);
            debug!(call = %self.id, ?alarm, "deadline");
            match (alarm, &self.phase) {
                (Alarm::Ending, _) => self.phase = Phase::Gone,
                (Alarm::Limit, _) => self.hang_up(ctx, "the longest time a call may last is over", None),
                (_, Phase::Inbound(_)) => self.inbound_alarm(ctx, alarm),
                (_, Phase::Outbound(_)) => self.outbound_alarm(ctx, alarm),
                (_, Phase::Established(_)) => self.established_alarm(ctx, alarm),
                (_, Phase::Ending(_) | Phase::Gone) => {}
            }
        }
    }

    /// A request within the dialog, any but ACK and CANCEL.
    pub fn handle_request(&mut self, ctx: &mut Ctx<'_>, tx: ServerTx, source: Source, request: Request) {
        match &mut self.phase {
            Phase::Established(_) => self.established_request(ctx, tx, source, request),
            Phase::Inbound(_) => self.inbound_request(ctx, tx, source, request),
            Phase::Outbound(_) => self.outbound_request(ctx, tx, source, request),
            Phase::Ending(_) if request.method == Method::Bye => {
                ctx.respond(tx, request.response(200, "", ""));
                self.phase = Phase::Gone;
            }
            Phase::Ending(_) | Phase::Gone => ctx.respond(tx, request.response(481, "", "")),
        }
    }

    /// The ACK of a 2xx.
    pub fn handle_ack(&mut self, ctx: &mut Ctx<'_>, request: &Request) {
        if matches!(self.phase, Phase::Established(_)) {
            self.established_ack(ctx, request);
        }
    }

    /// The caller gave up.
    pub fn handle_cancel(&mut self, ctx: &mut Ctx<'_>, tx: ServerTx) {
        match &self.phase {
            Phase::Inbound(inbound) if inbound.tx == tx => {
                self.reject(ctx, 487, "", "the caller gave up", |_| {});
            }
            Phase::Established(_) => self.cancelled_change(ctx, tx),
            _ => {}
        }
    }

    /// No ACK came for a 2xx (RFC 3261 §13.3.1.4).
    pub fn handle_no_ack(&mut self, ctx: &mut Ctx<'_>, tx: ServerTx) {
        let waits = match &self.phase {
            Phase::Established(call) => call.unacknowledged == Some(tx),
            _ => false,
        };
        if waits {
            self.hang_up(ctx, "the answer was never acknowledged", None);
        }
    }

    /// An answer to a request of ours.
    pub fn handle_response(&mut self, ctx: &mut Ctx<'_>, tx: ClientTx, source: Source, response: Response) {
        match &mut self.phase {
            Phase::Outbound(_) => self.outbound_response(ctx, tx, source, response),
            Phase::Established(_) => self.established_response(ctx, tx, source, response),
            Phase::Ending(open) => {
                let passport = (&mut self.answerer, self.settings.account.as_ref());
                open.answered(ctx, tx, &response, None, passport);
                if open.is_empty() {
                    self.phase = Phase::Gone;
                }
            }
            _ => {}
        }
    }

    /// No answer to a request of ours.
    pub fn handle_failure(&mut self, ctx: &mut Ctx<'_>, tx: ClientTx, failure: TxFailure) {
        match &mut self.phase {
            Phase::Outbound(_) => self.outbound_failure(ctx, tx, failure),
            Phase::Established(_) => self.established_failure(ctx, tx, failure),
            Phase::Ending(open) => {
                open.failed(tx);
                if open.is_empty() {
                    self.phase = Phase::Gone;
                }
            }
            _ => {}
        }
    }

    /// Something from media.
    pub fn handle_media(&mut self, ctx: &mut Ctx<'_>, event: MediaEvent) {
        match event {
            MediaEvent::Dtmf { digit, duration_ms } => {
                self.key(ctx, digit, duration_ms);
            }
            MediaEvent::Entered { conn } => {
                self.conn = Some(conn);
                debug!(call = %self.id, %conn, room = self.enter.room, "entered");
            }
            MediaEvent::Moved { room } => self.moved(ctx, room),
            MediaEvent::NotMoved { text } => self.hang_up(ctx, &text, None),
            MediaEvent::Started => debug!(call = %self.id, "media flows"),
            MediaEvent::OneWay { text } => {
                info!(call = %self.id, trunk = self.settings.trunk, "{text}");
            }
            MediaEvent::Timeout if self.media.held_by_remote() => {}
            // Gateways announce early media and send none; how long it may ring is another limit.
            MediaEvent::Timeout if !matches!(self.phase, Phase::Established(_)) => {}
            MediaEvent::Timeout => {
                self.hang_up(ctx, "no media came for too long", Some("SIP;cause=408;text=\"Media Timeout\""));
            }
            MediaEvent::Ended(reason) => {
                self.media_open = false;
                self.hang_up(ctx, &reason.text, Some(&cause(&reason)));
            }
            MediaEvent::KeyframeWanted => self.ask_keyframe(ctx),
            event => match &self.phase {
                Phase::Inbound(_) => self.inbound_media(ctx, event),
                Phase::Outbound(_) => self.outbound_media(ctx, event),
                Phase::Established(_) => self.established_media(ctx, event),
                Phase::Ending(_) | Phase::Gone => {}
            },
        }
    }

    /// Ends the call from our side, wherever it is. The BYE says why (RFC 3326): with `reason`, or that it was
    /// cleared in the ordinary way, for `text`.
    pub fn hang_up(&mut self, ctx: &mut Ctx<'_>, text: &str, reason: Option<&str>) {
        match std::mem::replace(&mut self.phase, Phase::Gone) {
            Phase::Inbound(inbound) => {
                self.phase = Phase::Inbound(inbound);
                self.reject(ctx, 480, "", text, |_| {});
            }
            Phase::Outbound(outbound) if outbound.is_over() => self.phase = Phase::Outbound(outbound),
            Phase::Outbound(outbound) => self.give_up(ctx, *outbound, text),
            Phase::Established(mut call) => {
                info!(call = %self.id, trunk = self.settings.trunk, "hangs up: {text}");
                let mut bye = call.dialog.request(Method::Bye);
                bye.headers.push("Reason", reason.map_or_else(|| ordinary(text), str::to_owned));
                let mut open = Asides::default();
                let to = call.dialog.destination();
                open.send(ctx, bye, to, (&mut self.answerer, self.settings.account.as_ref()));
                call.abandon(ctx);
                self.end(ctx, open, text);
            }
            phase @ (Phase::Ending(_) | Phase::Gone) => self.phase = phase,
        }
    }

    /// The call is over but for the answers to `open`.
    pub fn end(&mut self, ctx: &mut Ctx<'_>, open: Asides, text: &str) {
        self.leave_room(ctx, text);
        self.tell(ctx, CallState::Ended, None, text);
        self.alarms.clear();
        self.phase = if open.is_empty() {
            Phase::Gone
        } else {
            self.set(Alarm::Ending, ctx.now + ENDING);
            Phase::Ending(open)
        };
    }

    /// Both sides talk from now on.
    pub fn talks(&mut self, ctx: &mut Ctx<'_>) {
        let settings = &self.settings;
        let codec = self.media.audio_codec().unwrap_or("none");
        let conn = self.conn.map(tracing::field::display);
        info!(call = %self.id, conn, trunk = settings.trunk, rule = settings.rule, room = self.enter.room, codec, "answered");
        self.tell(ctx, CallState::Answered, Some(200), "answered");
    }

    /// It is in another room. Those who wait there hear of it as if it had just got as far as it is.
    fn moved(&mut self, ctx: &mut Ctx<'_>, room: String) {
        info!(call = %self.id, trunk = self.settings.trunk, from = self.enter.room, room, "moved");
        self.clear(Alarm::Pin);
        let told = self.told;
        let awaited = self.pin.take().is_some();
        if !awaited {
            self.tell(ctx, CallState::Moved, None, "it went to another room");
        }
        self.enter.room = room;
        self.told = None;
        match told {
            Some((state, code)) => self.tell(ctx, state, code, "it came from another room"),
            None if self.since.is_some() => {
                self.tell(ctx, CallState::Answered, Some(200), "it came in by a PIN");
            }
            None => {}
        }
    }

    /// Tells its room where it has got to. A caller who has yet to enter a PIN is no concern of any room's.
    pub fn tell(&mut self, ctx: &mut Ctx<'_>, state: CallState, code: Option<u16>, text: &str) {
        if self.pin.is_some() || self.told == Some((state, code)) {
            return;
        }
        self.told = Some((state, code));
        let event = CallEvent {
            call: self.id,
            conn: self.conn,
            direction: self.way,
            trunk: self.settings.trunk.clone(),
            number: self.shown.clone(),
            state,
            code,
            text: text.to_owned(),
        };
        self.announce(ctx, RoomEvent::Call(event));
    }

    /// Tells its room something.
    pub fn announce(&self, ctx: &mut Ctx<'_>, event: RoomEvent) {
        ctx.out.push_back(Action::Tell { call: self.id, room: self.enter.room.clone(), event });
    }

    /// Number for a new ask of media.
    pub fn next_serial(&mut self) -> u32 {
        self.serial += 1;
        self.serial
    }
}

/// Headers that all our INVITEs, UPDATEs and their answers carry.
pub fn add_abilities(headers: &mut Headers) {
    headers.set("Allow", Method::ALLOW);
    headers.set("Supported", "timer, 100rel, replaces, norefersub");
}

/// `Warning` (RFC 3261 §20.43).
pub fn warning(code: u16, text: &str) -> String {
    format!("{code} viaduct {}", quote(text))
}

/// Why the room let a call go, as a `Reason` header (RFC 3326) says it: by a cause of Q.850, and in words.
fn cause(reason: &CloseReason) -> String {
    // Temporary failure: calling again is worth it.
    if matches!(reason.code, "worker_lost" | "error") {
        because(41, &reason.text)
    } else {
        ordinary(&reason.text)
    }
}

/// The call is cleared in the ordinary way.
fn ordinary(text: &str) -> String {
    because(16, text)
}

fn because(cause: u16, text: &str) -> String {
    format!("Q.850;cause={cause};text={}", quote(text))
}
