//! A call of ours, from its INVITEs to an answer (RFC 3261 §13.2): early media, several numbers at once of which the
//! first to answer wins, redirections where the rules allow them, and giving up in good order.

use std::collections::VecDeque;
use std::time::Duration;

use tracing::{debug, info};

use crate::core::control::calls::{CallState, Direction, Meanwhile};
use crate::core::convert::Sound;
use crate::sip::session::aside::Asides;
use crate::sip::session::branch::{Branch, Invitation, Progress, Target};
use crate::sip::session::call::{Alarm, Call, Phase};
use crate::sip::session::established::Established;
use crate::sip::session::inbound::description;
use crate::sip::session::media::{Enter, MediaAsk, MediaEvent};
use crate::sip::session::offer::MediaSession;
use crate::sip::session::offers::Offers;
use crate::sip::session::timer::{SessionTimer, min_se};
use crate::sip::session::{Action, ClientTx, Ctx, ServerTx, Source, TxFailure, new_session};
use crate::sip::wire::sdp::Description;
use crate::sip::wire::{Method, NameAddr, Request, Response, Uri};

/// Redirections that are followed in one call, and places looked at in each.
const MAX_REDIRECTS: u32 = 3;
const MAX_CONTACTS: usize = 5;
/// How long an abandoned INVITE may stay without an answer.
const ABANDONED: Duration = Duration::from_secs(40);

/// What a call out is asked beside its targets.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// A call that it replaces there.
    pub replaces: Option<String>,
    /// What the room hears meanwhile.
    pub play: Meanwhile,
    /// A party asked for it by REFER.
    pub transfer: bool,
    /// By whose right it is made.
    pub principal: String,
}

/// A call that was asked for and is not answered.
#[derive(Debug)]
pub struct Outbound {
    /// Who is called next, all of a group at once, and with which offer.
    waiting: VecDeque<Vec<(Target, usize)>>,
    branches: Vec<Branch>,
    wanted: Wanted,
    offers: Offers,
    /// Asks for ends of ours that are not open yet.
    opening: usize,
    /// The room knows of it.
    begun: bool,
    asked: u32,
    redirects: u32,
    /// Redirections on which nobody has decided yet.
    undecided: usize,
    early: Option<Early>,
    /// The room hears something meanwhile.
    playing: bool,
    /// We do not want it any more.
    over: bool,
    worst: (u16, String),
}

/// Sound before the answer: whose, and what was agreed on for it.
#[derive(Debug)]
struct Early {
    tx: ClientTx,
    tag: String,
    media: MediaSession,
    /// It came for certain, so the 2xx need not repeat it (RFC 6337 §2.2).
    reliable: bool,
    /// It was changed since by an UPDATE, so what the 2xx repeats is old.
    updated: bool,
    update: Option<Update>,
}

/// An UPDATE that waits for media.
#[derive(Debug)]
struct Update {
    tx: ServerTx,
    request: Request,
    serial: u32,
    sdp: String,
    contact: Uri,
}

impl Outbound {
    /// Whether it is given up already.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// What was asked beside its targets.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// The transactions and dialogs that are open.
    pub fn branches(&self) -> &[Branch] {
        &self.branches
    }

    fn worse(&mut self, status: u16, text: String) {
        if rank(status) >= rank(self.worst.0) {
            self.worst = (status, text);
        }
    }
}

impl Call {
    /// Begins a call of ours to all of `targets` at once.
    pub fn dial(ctx: &mut Ctx<'_>, targets: Vec<Target>, wanted: Wanted, enter: Enter) -> Option<Call> {
        let settings = targets.first()?.settings.clone();
        let ring = Duration::from_secs(u64::from(settings.calls.ring_s));
        let outbound = Outbound {
            waiting: VecDeque::new(),
            branches: Vec::new(),
            wanted,
            offers: Offers::default(),
            opening: 0,
            begun: false,
            asked: settings.calls.session_expires_s,
            redirects: 0,
            undecided: 0,
            early: None,
            playing: false,
            over: false,
            worst: (480, "nobody could be called".into()),
        };
        let phase = Phase::Outbound(Box::new(outbound));
        let mut call = Call::new(new_session(), Direction::Out, settings, enter, phase);
        call.enter_room(ctx);
        call.set(Alarm::Ring, ctx.now + ring);
        call.prepare(ctx, vec![targets]);
        Some(call)
    }

    /// Lets groups of targets wait for their turn and for the ends of ours that their offers need.
    fn prepare(&mut self, ctx: &mut Ctx<'_>, groups: Vec<Vec<Target>>) {
        let Some(outbound) = self.calling() else { return };
        let mut streams = Vec::new();
        for group in groups.into_iter().rev() {
            let mut fitted = Vec::new();
            for target in group {
                match outbound.offers.fit(&target) {
                    Some((offer, open)) => {
                        streams.extend(open);
                        fitted.push((target, offer));
                    }
                    None => {
                        outbound.worse(480, "its parties want more kinds of media than one call has".into())
                    }
                }
            }
            if !fitted.is_empty() {
                outbound.waiting.push_front(fitted);
            }
        }
        if streams.is_empty() {
            self.settle(ctx);
            return;
        }
        outbound.opening += 1;
        let serial = self.next_serial();
        ctx.media(self.id, MediaAsk::Open { serial, streams });
    }

    fn calling(&mut self) -> Option<&mut Outbound> {
        match &mut self.phase {
            Phase::Outbound(outbound) => Some(outbound),
            _ => None,
        }
    }

    pub(super) fn outbound_media(&mut self, ctx: &mut Ctx<'_>, event: MediaEvent) {
        match event {
            MediaEvent::Opened { locals, .. } => {
                let Some(outbound) = self.calling() else { return };
                outbound.offers.opened(&locals);
                outbound.opening = outbound.opening.saturating_sub(1);
                if !std::mem::replace(&mut outbound.begun, true) {
                    self.tell(ctx, CallState::Calling, None, "is being called");
                    self.entertain(ctx, false);
                }
                self.settle(ctx);
            }
            MediaEvent::Connected { serial } => self.early_updated(ctx, serial),
            MediaEvent::Failed { status, text } => {
                if let Phase::Outbound(outbound) = std::mem::replace(&mut self.phase, Phase::Gone) {
                    self.tell(ctx, CallState::Failed, Some(status), &text);
                    self.give_up(ctx, *outbound, &text);
                }
            }
            _ => {}
        }
    }

    /// Plays to the room what it is to hear meanwhile; the ringing tone only once it rings there.
    fn entertain(&mut self, ctx: &mut Ctx<'_>, rings: bool) {
        let id = self.id;
        let Some(outbound) = self.calling().filter(|outbound| !outbound.playing) else { return };
        let sound = match &outbound.wanted.play {
            Meanwhile::Nothing => return,
            Meanwhile::Ringback if !rings => return,
            Meanwhile::Ringback => Sound::Ringback,
            Meanwhile::Hold => Sound::Hold,
            Meanwhile::Prompt(name) => Sound::Prompt(name.clone()),
        };
        outbound.playing = true;
        ctx.media(id, MediaAsk::PlayToRoom { sounds: vec![sound] });
    }

    fn hush(&mut self, ctx: &mut Ctx<'_>) {
        let id = self.id;
        if self.calling().is_some_and(|outbound| std::mem::take(&mut outbound.playing)) {
            ctx.media(id, MediaAsk::PlayToRoom { sounds: Vec::new() });
        }
    }

    /// Calls the next group of targets.
    fn call_next(&mut self, ctx: &mut Ctx<'_>) {
        let Some(outbound) = self.calling() else { return };
        let Some(group) = outbound.waiting.pop_front() else { return };
        for (target, offer) in group {
            let what = Invitation {
                sdp: outbound.offers.sdp(offer),
                offer,
                session_expires_s: outbound.asked,
                replaces: outbound.wanted.replaces.as_deref(),
            };
            let branch = Branch::invite(ctx, target, what);
            outbound.branches.push(branch);
        }
    }

    pub(super) fn outbound_response(
        &mut self,
        ctx: &mut Ctx<'_>,
        tx: ClientTx,
        source: Source,
        response: Response,
    ) {
        let Some(outbound) = self.calling() else { return };
        for branch in &mut outbound.branches {
            branch.pracks.retain(|known| *known != tx || response.status < 200);
        }
        let Some(at) = outbound.branches.iter().position(|branch| branch.tx == tx) else { return };
        if outbound.over || outbound.branches[at].is_cancelled() {
            if outbound.branches[at].handle_as_loser(ctx, source, &response) {
                outbound.branches.swap_remove(at);
                self.settle(ctx);
            }
            return;
        }
        match response.status {
            100 => outbound.branches[at].hear(),
            101..200 => self.progress(ctx, at, source, &response),
            200..300 => self.answered(ctx, at, source, &response),
            _ => self.branch_failed(ctx, at, &response),
        }
    }

    fn progress(&mut self, ctx: &mut Ctx<'_>, at: usize, source: Source, response: &Response) {
        let Some(outbound) = self.calling() else { return };
        let branch = &mut outbound.branches[at];
        let (tx, offer) = (branch.tx, branch.offer);
        let Some(Progress { tag, reliable }) = branch.progress(ctx, source, response) else { return };
        let free = outbound.early.as_ref().is_none_or(|early| early.tx == tx && early.tag == tag);
        let answer = description(&response.headers, &response.body).ok().flatten();
        if let (true, Some(answer)) = (free, answer) {
            self.hear_early(ctx, (tx, offer), (tag, reliable), &answer);
        }
        let early = self.calling().is_some_and(|outbound| outbound.early.is_some());
        debug!(call = %self.id, status = response.status, early, "progress");
        self.entertain(ctx, !early);
        let state = if early { CallState::Early } else { CallState::Ringing };
        self.tell(ctx, state, Some(response.status), &response.reason);
    }

    /// What is agreed on now may be answered otherwise in the end; the offer stays as it was.
    fn hear_early(
        &mut self,
        ctx: &mut Ctx<'_>,
        (tx, offer): (ClientTx, usize),
        (tag, reliable): (String, bool),
        answer: &Description,
    ) {
        let Some(outbound) = self.calling() else { return };
        let Some(mut media) = outbound.offers.media(offer).cloned() else { return };
        // A handshake binds an end to one party for good; another one may answer yet.
        let shared = outbound.branches.iter().filter(|branch| branch.offer == offer).count() > 1;
        if shared && media.shakes_hands() {
            return;
        }
        let Ok((streams, _)) = media.receive_answer(answer) else { return };
        self.hush(ctx);
        let serial = self.next_serial();
        ctx.media(self.id, MediaAsk::Connect { serial, streams });
        let Some(outbound) = self.calling() else { return };
        let (was_reliable, updated) =
            outbound.early.take().map_or((false, false), |early| (early.reliable, early.updated));
        let reliable = reliable || was_reliable;
        // Nothing else plays any more, whatever comes later.
        outbound.wanted.play = Meanwhile::Nothing;
        outbound.early = Some(Early { tx, tag, media, reliable, updated, update: None });
    }

    /// Somebody answered: the first one has the call.
    fn answered(&mut self, ctx: &mut Ctx<'_>, at: usize, source: Source, response: &Response) {
        self.hush(ctx);
        let phase = std::mem::replace(&mut self.phase, Phase::Gone);
        let Phase::Outbound(mut outbound) = phase else { return };
        let mut branch = outbound.branches.swap_remove(at);
        let Some(mut dialog) = branch.dialog(response, source) else {
            // Without a tag or a target there is nobody to talk to.
            outbound.worse(502, "the answer names nobody".into());
            self.phase = Phase::Outbound(outbound);
            self.settle(ctx);
            return;
        };
        let seq = branch.seq();
        for index in outbound.offers.beside(branch.offer) {
            ctx.media(self.id, MediaAsk::Close { index });
        }
        if let Some(media) = outbound.offers.media(branch.offer) {
            self.media = media.clone();
        }
        if let Some((early, _)) = branch.early.iter().find(|(early, _)| early.id == dialog.id) {
            dialog.follow(early);
        }
        let early = outbound.early.take().filter(|early| early.tag == dialog.id.remote);
        let mut established = Established::new(dialog, &response.headers);
        let (ack, to) = (established.dialog.ack(seq), established.dialog.destination());
        established.last_ack = Some((ack.clone(), to.clone()));
        ctx.out.push_back(Action::Ack { request: ack, to });
        for loser in &mut outbound.branches {
            loser.cancel(ctx, true);
        }
        established.losers = outbound.branches;
        branch.answerer.accepted();
        self.answerer = branch.answerer;
        self.settings = branch.target.settings;
        self.since = Some(ctx.now);
        self.clear(Alarm::Ring);
        self.phase = Phase::Established(Box::new(established));
        let asked = (outbound.asked > 0).then_some(outbound.asked);
        self.use_timer(ctx, SessionTimer::accepted(&response.headers, asked));
        let answer = description(&response.headers, &response.body).ok().flatten();
        self.answer_with(ctx, early, answer);
    }

    /// Takes the 2xx's description, or the one agreed on before it.
    fn answer_with(&mut self, ctx: &mut Ctx<'_>, early: Option<Early>, answer: Option<Description>) {
        let agreed = match (early, answer) {
            (Some(early), None) if early.reliable => {
                self.media = early.media;
                true
            }
            (Some(early), Some(_)) if early.updated => {
                self.media = early.media;
                true
            }
            (_, Some(answer)) => self.apply_answer(ctx, &answer),
            (_, None) => {
                self.hang_up(ctx, "the answer says nothing of media", Some("SIP;cause=488"));
                false
            }
        };
        if agreed {
            self.talks(ctx);
        }
    }

    fn branch_failed(&mut self, ctx: &mut Ctx<'_>, at: usize, response: &Response) {
        let Some(outbound) = self.calling() else { return };
        let branch = &mut outbound.branches[at];
        let settings = branch.target.settings.clone();
        match response.status {
            401 | 407 => {
                if let Some(account) = &settings.account
                    && branch.answerer.challenged(response)
                {
                    branch.again(ctx, |invite, answerer| answerer.sign(invite, account));
                    return;
                }
            }
            422 => {
                if let Some(least) = min_se(&response.headers).filter(|least| *least > outbound.asked) {
                    outbound.asked = least;
                    branch.again(ctx, |invite, _| {
                        invite.headers.set("Session-Expires", least.to_string());
                        invite.headers.set("Min-SE", least.to_string());
                    });
                    return;
                }
            }
            300..=399 if settings.follow_redirects && outbound.redirects < MAX_REDIRECTS => {
                let contacts = redirected(response);
                if !contacts.is_empty() {
                    outbound.redirects += 1;
                    outbound.undecided += 1;
                    outbound.branches.swap_remove(at);
                    outbound.worse(response.status, failure_text(response));
                    let from = settings.trunk.clone();
                    ctx.out.push_back(Action::Redirect { call: self.id, from, contacts });
                    return;
                }
            }
            _ => {}
        }
        outbound.branches.swap_remove(at);
        outbound.worse(response.status, failure_text(response));
        if response.status >= 600 {
            outbound.waiting.clear();
            for other in &mut outbound.branches {
                other.cancel(ctx, false);
            }
        }
        self.settle(ctx);
    }

    /// What became of a redirection: who may be called now, or why nobody.
    pub fn redirected(&mut self, ctx: &mut Ctx<'_>, groups: Vec<Vec<Target>>, refusal: Option<String>) {
        let Some(outbound) = self.calling() else { return };
        outbound.undecided = outbound.undecided.saturating_sub(1);
        if outbound.over {
            self.settle(ctx);
            return;
        }
        if let Some(text) = refusal {
            outbound.worse(403, text);
        }
        self.prepare(ctx, groups);
    }

    pub(super) fn outbound_failure(&mut self, ctx: &mut Ctx<'_>, tx: ClientTx, failure: TxFailure) {
        let Some(outbound) = self.calling() else { return };
        let Some(at) = outbound.branches.iter().position(|branch| branch.tx == tx) else { return };
        outbound.branches.swap_remove(at);
        match failure {
            TxFailure::Timeout => outbound.worse(408, "the other side does not answer at all".into()),
            TxFailure::Transport => outbound.worse(503, "the other side cannot be reached".into()),
        }
        self.settle(ctx);
    }

    /// Calls the next group when no branch is left, and ends the call when there is none.
    fn settle(&mut self, ctx: &mut Ctx<'_>) {
        let Some(outbound) = self.calling() else { return };
        if !outbound.branches.is_empty() || outbound.undecided > 0 || outbound.opening > 0 && !outbound.over {
            return;
        }
        if outbound.over {
            self.phase = Phase::Gone;
            return;
        }
        if !outbound.waiting.is_empty() {
            self.call_next(ctx);
            return;
        }
        let (status, text) = outbound.worst.clone();
        info!(call = %self.id, trunk = self.settings.trunk, status, "not answered: {text}");
        self.fail(ctx, status, &text);
        self.end(ctx, Asides::default(), &text);
    }

    /// The room is told, and hears, that nothing came of it.
    fn fail(&mut self, ctx: &mut Ctx<'_>, status: u16, text: &str) {
        self.tell(ctx, CallState::Failed, Some(status), text);
        let silent = self.calling().is_none_or(|outbound| outbound.wanted.play == Meanwhile::Nothing);
        if !silent {
            let busy = matches!(status, 486 | 600 | 603);
            self.farewell = Some(if busy { Sound::Busy } else { Sound::Congestion });
        }
    }

    /// Gives a call up that nobody answered.
    pub(super) fn give_up(&mut self, ctx: &mut Ctx<'_>, mut outbound: Outbound, text: &str) {
        info!(call = %self.id, trunk = self.settings.trunk, "gives up: {text}");
        for branch in &mut outbound.branches {
            branch.cancel(ctx, false);
        }
        outbound.over = true;
        outbound.waiting.clear();
        let open = !outbound.branches.is_empty();
        self.end(ctx, Asides::default(), text);
        if open {
            self.phase = Phase::Outbound(Box::new(outbound));
            self.set(Alarm::Ending, ctx.now + ABANDONED);
        }
    }

    pub(super) fn outbound_alarm(&mut self, ctx: &mut Ctx<'_>, alarm: Alarm) {
        if alarm == Alarm::Ring && matches!(self.phase, Phase::Outbound(_)) {
            let text = "nobody answered in time";
            self.fail(ctx, 408, text);
            if let Phase::Outbound(outbound) = std::mem::replace(&mut self.phase, Phase::Gone) {
                self.give_up(ctx, *outbound, text);
            }
        }
    }

    /// A request in an early dialog.
    pub(super) fn outbound_request(
        &mut self,
        ctx: &mut Ctx<'_>,
        tx: ServerTx,
        source: Source,
        request: Request,
    ) {
        let Some(outbound) = self.calling() else { return };
        let tag = request.headers.tag("From").unwrap_or_default();
        let mut early = outbound.branches.iter_mut().flat_map(|branch| branch.early.iter_mut());
        let known = early
            .find(|(dialog, _)| dialog.id.remote == tag && dialog.id.call_id == request.headers.call_id());
        let Some((dialog, _)) = known else {
            ctx.respond(tx, request.response(481, "", ""));
            return;
        };
        if !dialog.accept(&request, source) {
            ctx.respond(tx, request.response(500, "CSeq is not in order", ""));
            return;
        }
        let contact = dialog.contact.clone();
        match request.method {
            Method::Update if !request.body.is_empty() => self.early_update(ctx, tx, request, contact),
            Method::Options | Method::Info | Method::Notify | Method::Bye | Method::Update => {
                ctx.respond(tx, request.response(200, "", ""));
            }
            _ => {
                let mut response = request.response(405, "", "");
                response.headers.push("Allow", Method::ALLOW);
                ctx.respond(tx, response);
            }
        }
    }

    /// The other side changes what was agreed on before the answer (RFC 3311 §5.2).
    fn early_update(&mut self, ctx: &mut Ctx<'_>, tx: ServerTx, request: Request, contact: Uri) {
        let tag = request.headers.tag("From").unwrap_or_default();
        let offer = description(&request.headers, &request.body).ok().flatten();
        let serial = self.serial + 1;
        let Some(outbound) = self.calling() else { return };
        let early = outbound.early.as_mut().filter(|early| early.tag == tag && early.update.is_none());
        let (Some(early), Some(offer)) = (early, offer) else {
            // A second offer before the first is settled; it will come again.
            let mut response = request.response(500, "", "");
            response.headers.push("Retry-After", "1");
            ctx.respond(tx, response);
            return;
        };
        let before = early.media.clone();
        match early.media.receive_offer(&offer) {
            Ok((open, _)) if open.is_empty() => {
                let (sdp, streams) = early.media.answer(&offer);
                early.update = Some(Update { tx, request, serial, sdp, contact });
                self.serial = serial;
                ctx.media(self.id, MediaAsk::Connect { serial, streams });
            }
            // Another codec or another kind of end would need ends that the final answer knows nothing of.
            _ => {
                early.media = before;
                ctx.respond(tx, request.response(488, "", ""));
            }
        }
    }

    fn early_updated(&mut self, ctx: &mut Ctx<'_>, done: u32) {
        let Some(early) = self.calling().and_then(|outbound| outbound.early.as_mut()) else { return };
        let Some(update) = early.update.take_if(|update| update.serial == done) else { return };
        early.updated = true;
        let mut response = update.request.response(200, "", "");
        response.headers.push("Contact", NameAddr::new(update.contact).to_string());
        response.set_body("application/sdp", update.sdp);
        ctx.respond(update.tx, response);
    }

    /// Call-ID and our tag of each open branch.
    pub fn branch_names(&self) -> Vec<(String, String)> {
        let branches: &[Branch] = match &self.phase {
            Phase::Outbound(outbound) => &outbound.branches,
            Phase::Established(call) => &call.losers,
            _ => &[],
        };
        let name = |branch: &Branch| {
            let headers = &branch.invite.headers;
            (headers.call_id().to_owned(), headers.tag("From").unwrap_or_default())
        };
        branches.iter().map(name).collect()
    }
}

/// Where a 3xx points: groups of places, those it likes best first (RFC 3261 §8.1.3.4).
fn redirected(response: &Response) -> Vec<Vec<Uri>> {
    let contacts = response.headers.all("Contact").filter_map(|text| NameAddr::parse(text).ok());
    let mut rated: Vec<(u32, Uri)> = contacts
        .filter_map(|name| {
            let q: f32 = name.param("q").and_then(|q| q.parse().ok()).unwrap_or(1.0);
            Some(((q.clamp(0.0, 1.0) * 1000.0) as u32, name.uri().ok()?))
        })
        .filter(|(_, uri)| uri.is_sip() || uri.scheme == "tel")
        .take(MAX_CONTACTS)
        .collect();
    rated.sort_by_key(|(q, _)| std::cmp::Reverse(*q));
    let groups = rated.chunk_by(|(a, _), (b, _)| a == b);
    groups.map(|group| group.iter().map(|(_, uri)| uri.clone()).collect()).collect()
}

/// Which of several failures says most (RFC 3261 §16.7, step 6).
fn rank(status: u16) -> u8 {
    match status {
        401 | 407 | 415 | 420 | 484 | 486 | 488 => 5,
        600.. => 6,
        500..600 => 3,
        480 | 487 => 1,
        408 => 2,
        _ => 4,
    }
}

/// A failure in words: what the other side says of it.
fn failure_text(response: &Response) -> String {
    let warning = response.headers.get("Warning").and_then(|text| {
        let quoted = text.split_once('"')?.1;
        quoted.rsplit_once('"').map(|(inside, _)| inside.to_owned())
    });
    let said = match response.status {
        401 | 407 => "our user name or password is not accepted there".to_owned(),
        status if response.reason.is_empty() => crate::sip::wire::message::reason_phrase(status).to_owned(),
        _ => response.reason.clone(),
    };
    match warning {
        Some(warning) => format!("{said}: {warning}"),
        None => said,
    }
}
