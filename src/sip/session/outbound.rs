//! A call of ours, from its INVITEs to an answer (RFC 3261 §13.2): early media, reliable ringing (RFC 3262),
//! several targets at once of which the first to answer wins, and giving up in good order.

use std::time::Duration;

use tracing::{debug, info};

use crate::core::control::calls::Direction;
use crate::sip::session::call::{Alarm, Call, CallSettings, Phase, add_abilities};
use crate::sip::session::dialog::Dialog;
use crate::sip::session::digest::Answerer;
use crate::sip::session::established::Established;
use crate::sip::session::event::CallEvent;
use crate::sip::session::inbound::description;
use crate::sip::session::media::{Enter, MediaAsk, MediaEvent};
use crate::sip::session::timer::{SessionTimer, min_se};
use crate::sip::session::{
    Action, ClientTx, Ctx, Destination, ServerTx, Source, TxFailure, new_session, token,
};
use crate::sip::wire::{Method, NameAddr, Request, Response, Uri};

/// Redirections that are followed in a row.
const MAX_REDIRECTS: u32 = 3;
/// How long an abandoned INVITE may stay without an answer.
const ABANDONED: Duration = Duration::from_secs(40);

/// Somebody to be called.
#[derive(Clone, Debug)]
pub struct Target {
    /// Request URI.
    pub uri: Uri,
    /// Where the request goes first.
    pub to: Destination,
}

/// A call that was asked for and is not answered.
#[derive(Debug)]
pub struct Outbound {
    targets: Vec<Target>,
    branches: Vec<Branch>,
    from: NameAddr,
    replaces: Option<String>,
    sdp: String,
    asked: u32,
    redirects: u32,
    /// The branch whose early media is heard.
    early: Option<ClientTx>,
    /// We do not want it any more.
    over: bool,
    worst: (u16, String),
}

/// One INVITE and what came of it.
#[derive(Debug)]
pub struct Branch {
    /// Its transaction.
    pub tx: ClientTx,
    invite: Request,
    target: Target,
    contact: Uri,
    answerer: Answerer,
    /// A provisional response came: it can be cancelled.
    heard: bool,
    cancel: Cancel,
    /// Early dialogs with the number of their last reliable response.
    early: Vec<(Dialog, u32)>,
    pracks: Vec<ClientTx>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Cancel {
    No,
    /// As soon as a provisional response allows it (RFC 3261 §9.1).
    Wanted,
    Sent,
}

impl Outbound {
    /// Whether it is given up already.
    pub fn is_over(&self) -> bool {
        self.over
    }
}

impl Branch {
    fn cancel(&mut self, ctx: &mut Ctx<'_>, elsewhere: bool) {
        self.cancel = match self.cancel {
            Cancel::Sent => Cancel::Sent,
            _ if self.heard => {
                let reason = elsewhere.then(|| "SIP;cause=200;text=\"Call completed elsewhere\"".to_owned());
                ctx.out.push_back(Action::Cancel { tx: self.tx, reason });
                Cancel::Sent
            }
            _ => Cancel::Wanted,
        };
    }

    fn seq(&self) -> u32 {
        self.invite.headers.cseq().map_or(1, |(number, _)| number)
    }

    /// A response to a branch that nobody wants any more; `true` when that is the last of it.
    pub fn handle_as_loser(&mut self, ctx: &mut Ctx<'_>, source: Source, response: &Response) -> bool {
        match response.status {
            100..200 => {
                self.heard = true;
                if self.cancel == Cancel::Wanted {
                    self.cancel(ctx, true);
                }
                false
            }
            200..300 => {
                if let Some(dialog) = Dialog::answered(&self.invite, response, self.contact.clone(), source) {
                    refuse_answer(ctx, dialog, self.seq());
                }
                true
            }
            _ => true,
        }
    }
}

/// Acknowledges an answer that came too late and hangs up at once.
pub fn refuse_answer(ctx: &mut Ctx<'_>, mut dialog: Dialog, seq: u32) -> ClientTx {
    let to = dialog.destination();
    ctx.out.push_back(Action::Ack { request: dialog.ack(seq), to: to.clone() });
    let mut bye = dialog.request(Method::Bye);
    bye.headers.push("Reason", "SIP;cause=200;text=\"Call completed elsewhere\"");
    ctx.send(bye, to)
}

impl Call {
    /// Begins a call of ours.
    pub fn dial(
        ctx: &mut Ctx<'_>,
        targets: Vec<Target>,
        from: NameAddr,
        replaces: Option<String>,
        settings: std::sync::Arc<CallSettings>,
        enter: Enter,
    ) -> Call {
        let ring = Duration::from_secs(u64::from(settings.calls.ring_s));
        let outbound = Outbound {
            targets,
            branches: Vec::new(),
            from,
            replaces,
            sdp: String::new(),
            asked: settings.calls.session_expires_s,
            redirects: 0,
            early: None,
            over: false,
            worst: (480, "nobody could be called".into()),
        };
        let phase = Phase::Outbound(Box::new(outbound));
        let mut call = Call::new(new_session(), Direction::Out, settings, enter, phase);
        call.enter_room(ctx);
        call.set(Alarm::Ring, ctx.now + ring);
        let streams = call.media.make_offer();
        let serial = call.next_serial();
        ctx.media(call.id, MediaAsk::Open { serial, streams });
        call
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
                self.media.opened(locals);
                let sdp = self.media.write();
                let Some(outbound) = self.calling() else { return };
                outbound.sdp = sdp;
                for target in std::mem::take(&mut outbound.targets) {
                    self.invite(ctx, target);
                }
                ctx.tell(self.id, CallEvent::Calling);
            }
            MediaEvent::Failed { status, text } => {
                if let Phase::Outbound(outbound) = std::mem::replace(&mut self.phase, Phase::Gone) {
                    ctx.tell(self.id, CallEvent::Failed { status, text: text.clone() });
                    self.give_up(ctx, *outbound, &text);
                }
            }
            _ => {}
        }
    }

    /// Sends a first INVITE to a target.
    fn invite(&mut self, ctx: &mut Ctx<'_>, target: Target) {
        let settings = self.settings.clone();
        let Some(outbound) = self.calling() else { return };
        let remote = target.to.addr.map(|addr| addr.ip()).or(target.to.uri.ip());
        let contact = ctx.contact("viaduct", remote, target.to.transport);
        let mut request =
            Request::new(Method::Invite, Uri { headers: None, ..target.uri.clone() }.to_string());
        let headers = &mut request.headers;
        headers.push("Max-Forwards", "70");
        headers.push("From", outbound.from.clone().with_param("tag", &token()).to_string());
        let mut to = target.uri.clone();
        to.params.clear();
        to.headers = None;
        headers.push("To", NameAddr::new(to).to_string());
        headers.push("Call-ID", token());
        headers.push("CSeq", "1 INVITE");
        headers.push("Contact", NameAddr::new(&contact).to_string());
        add_abilities(headers);
        if outbound.asked > 0 {
            headers.push("Session-Expires", outbound.asked.to_string());
            headers.push("Min-SE", settings.calls.min_se_s.max(90).to_string());
        }
        if let Some(replaces) = &outbound.replaces {
            headers.push("Replaces", replaces.clone());
            headers.push("Require", "replaces");
        }
        request.set_body("application/sdp", outbound.sdp.clone());
        let tx = ctx.send(request.clone(), target.to.clone());
        outbound.branches.push(Branch {
            tx,
            invite: request,
            target,
            contact,
            answerer: Answerer::default(),
            heard: false,
            cancel: Cancel::No,
            early: Vec::new(),
            pracks: Vec::new(),
        });
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
        if outbound.over || outbound.branches[at].cancel != Cancel::No {
            if outbound.branches[at].handle_as_loser(ctx, source, &response) {
                outbound.branches.swap_remove(at);
                self.settle(ctx);
            }
            return;
        }
        match response.status {
            100 => outbound.branches[at].heard = true,
            101..200 => self.progress(ctx, at, source, &response),
            200..300 => self.answered(ctx, at, source, &response),
            _ => self.branch_failed(ctx, at, &response),
        }
    }

    fn progress(&mut self, ctx: &mut Ctx<'_>, at: usize, source: Source, response: &Response) {
        let Some(outbound) = self.calling() else { return };
        let branch = &mut outbound.branches[at];
        branch.heard = true;
        let tx = branch.tx;
        let reliable = response.headers.lists("Require", "100rel");
        let rseq: Option<u32> = response.headers.get("RSeq").and_then(|text| text.trim().parse().ok());
        if let Some(dialog) = Dialog::answered(&branch.invite, response, branch.contact.clone(), source) {
            let known = branch.early.iter().position(|(early, _)| early.id == dialog.id);
            let known = known.unwrap_or_else(|| {
                branch.early.push((dialog, 0));
                branch.early.len() - 1
            });
            if let (true, Some(rseq)) = (reliable, rseq) {
                let seq = branch.seq();
                let (dialog, last) = &mut branch.early[known];
                if rseq <= *last {
                    return;
                }
                *last = rseq;
                let mut prack = dialog.request(Method::Prack);
                prack.headers.push("RAck", format!("{rseq} {seq} INVITE"));
                let to = dialog.destination();
                branch.pracks.push(ctx.send(prack, to));
            }
        }
        let first = outbound.early.is_none() || outbound.early == Some(tx);
        let answer = description(&response.headers, &response.body).ok().flatten();
        let mut early = false;
        if let (true, Some(answer)) = (first, answer) {
            // What is agreed on now may be answered otherwise in the end; the offer stays as it was.
            let mut preview = self.media.clone();
            if let Ok((streams, _)) = preview.receive_answer(&answer) {
                early = true;
                let serial = self.next_serial();
                ctx.media(self.id, MediaAsk::Connect { serial, streams });
                if let Some(outbound) = self.calling() {
                    outbound.early = Some(tx);
                }
            }
        }
        debug!(call = %self.id, status = response.status, early, "progress");
        ctx.tell(self.id, CallEvent::Ringing { status: response.status, early });
    }

    /// Somebody answered: the first one has the call.
    fn answered(&mut self, ctx: &mut Ctx<'_>, at: usize, source: Source, response: &Response) {
        let phase = std::mem::replace(&mut self.phase, Phase::Gone);
        let Phase::Outbound(mut outbound) = phase else { return };
        let mut branch = outbound.branches.swap_remove(at);
        let dialog = Dialog::answered(&branch.invite, response, branch.contact.clone(), source);
        let Some(mut dialog) = dialog else {
            // Without a tag or a target there is nobody to talk to.
            self.phase = Phase::Outbound(outbound);
            self.settle(ctx);
            return;
        };
        let seq = branch.seq();
        if let Some((early, _)) = branch.early.iter().find(|(early, _)| early.id == dialog.id) {
            dialog.local_seq = dialog.local_seq.max(early.local_seq);
        }
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
        self.since = Some(ctx.now);
        self.clear(Alarm::Ring);
        self.phase = Phase::Established(Box::new(established));
        let asked = (outbound.asked > 0).then_some(outbound.asked);
        self.use_timer(ctx, SessionTimer::accepted(&response.headers, asked));
        let answer = description(&response.headers, &response.body).ok().flatten();
        let Some(answer) = answer else {
            self.hang_up(ctx, "the answer says nothing of media", Some("SIP;cause=488"));
            return;
        };
        if self.apply_answer(ctx, &answer) {
            let settings = &self.settings;
            let codec = self.media.audio_codec().unwrap_or("none");
            info!(call = %self.id, trunk = settings.trunk, rule = settings.rule, room = self.enter.room, codec, "answered");
            ctx.tell(self.id, CallEvent::Answered);
        }
    }

    fn branch_failed(&mut self, ctx: &mut Ctx<'_>, at: usize, response: &Response) {
        let settings = self.settings.clone();
        let Some(outbound) = self.calling() else { return };
        let branch = &mut outbound.branches[at];
        match response.status {
            401 | 407 => {
                if let Some(account) = &settings.account
                    && branch.answerer.challenged(response)
                {
                    let mut invite = renumbered(&branch.invite);
                    branch.answerer.sign(&mut invite, account);
                    branch.tx = ctx.send(invite.clone(), branch.target.to.clone());
                    branch.invite = invite;
                    branch.heard = false;
                    return;
                }
            }
            422 => {
                if let Some(least) = min_se(&response.headers).filter(|least| *least > outbound.asked) {
                    outbound.asked = least;
                    let mut invite = renumbered(&branch.invite);
                    invite.headers.set("Session-Expires", least.to_string());
                    invite.headers.set("Min-SE", least.to_string());
                    branch.tx = ctx.send(invite.clone(), branch.target.to.clone());
                    branch.invite = invite;
                    branch.heard = false;
                    return;
                }
            }
            _ => {}
        }
        let branch = outbound.branches.swap_remove(at);
        if (300..400).contains(&response.status)
            && settings.follow_redirects
            && outbound.redirects < MAX_REDIRECTS
        {
            let host = branch.target.to.uri.host.clone();
            let next = redirected(response, &branch.target, &host);
            if !next.is_empty() {
                outbound.redirects += 1;
                for target in next {
                    self.invite(ctx, target);
                }
                return;
            }
        }
        let text = failure_text(response);
        let Some(outbound) = self.calling() else { return };
        if rank(response.status) >= rank(outbound.worst.0) {
            outbound.worst = (response.status, text);
        }
        if response.status >= 600 {
            for other in &mut outbound.branches {
                other.cancel(ctx, false);
            }
        }
        self.settle(ctx);
    }

    pub(super) fn outbound_failure(&mut self, ctx: &mut Ctx<'_>, tx: ClientTx, failure: TxFailure) {
        let Some(outbound) = self.calling() else { return };
        let Some(at) = outbound.branches.iter().position(|branch| branch.tx == tx) else { return };
        outbound.branches.swap_remove(at);
        let (status, text) = match failure {
            TxFailure::Timeout => (408, "the other side does not answer at all"),
            TxFailure::Transport => (503, "the other side cannot be reached"),
        };
        if rank(status) >= rank(outbound.worst.0) {
            outbound.worst = (status, text.into());
        }
        self.settle(ctx);
    }

    /// Ends the call when no branch is left.
    fn settle(&mut self, ctx: &mut Ctx<'_>) {
        let Some(outbound) = self.calling() else { return };
        if !outbound.branches.is_empty() || !outbound.targets.is_empty() {
            return;
        }
        if outbound.over {
            self.phase = Phase::Gone;
            return;
        }
        let (status, text) = outbound.worst.clone();
        info!(call = %self.id, trunk = self.settings.trunk, status, "not answered: {text}");
        ctx.tell(self.id, CallEvent::Failed { status, text: text.clone() });
        self.end(ctx, Vec::new(), &text);
    }

    /// Gives a call up that nobody answered.
    pub(super) fn give_up(&mut self, ctx: &mut Ctx<'_>, mut outbound: Outbound, text: &str) {
        info!(call = %self.id, trunk = self.settings.trunk, "gives up: {text}");
        for branch in &mut outbound.branches {
            branch.cancel(ctx, false);
        }
        outbound.over = true;
        outbound.targets.clear();
        let open = !outbound.branches.is_empty();
        self.end(ctx, Vec::new(), text);
        if open {
            self.phase = Phase::Outbound(Box::new(outbound));
            self.set(Alarm::Ending, ctx.now + ABANDONED);
        }
    }

    pub(super) fn outbound_alarm(&mut self, ctx: &mut Ctx<'_>, alarm: Alarm) {
        if alarm == Alarm::Ring
            && let Phase::Outbound(outbound) = std::mem::replace(&mut self.phase, Phase::Gone)
        {
            let text = "nobody answered in time";
            ctx.tell(self.id, CallEvent::Failed { status: 408, text: text.into() });
            self.give_up(ctx, *outbound, text);
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
        match request.method {
            Method::Options | Method::Info | Method::Notify => ctx.respond(tx, request.response(200, "", "")),
            Method::Update if request.body.is_empty() => ctx.respond(tx, request.response(200, "", "")),
            Method::Update => {
                // A second description before the first is settled; it will come again with the answer.
                let mut response = request.response(500, "", "");
                response.headers.push("Retry-After", "1");
                ctx.respond(tx, response);
            }
            Method::Bye => ctx.respond(tx, request.response(200, "", "")),
            _ => {
                let mut response = request.response(405, "", "");
                response.headers.push("Allow", Method::ALLOW);
                ctx.respond(tx, response);
            }
        }
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

    /// Transactions that belong to it.
    pub fn branch_txs(&self) -> Vec<ClientTx> {
        match &self.phase {
            Phase::Outbound(outbound) => outbound.branches.iter().map(|branch| branch.tx).collect(),
            _ => Vec::new(),
        }
    }
}

/// The same INVITE with the next number, without credentials.
fn renumbered(invite: &Request) -> Request {
    let mut next = invite.clone();
    let seq = invite.headers.cseq().map_or(1, |(number, _)| number);
    next.headers.set("CSeq", format!("{} INVITE", seq + 1));
    next.headers.remove("Authorization");
    next.headers.remove("Proxy-Authorization");
    next
}

/// Where a 3xx points, as far as it is the same host: elsewhere nobody allowed us to call.
fn redirected(response: &Response, old: &Target, host: &str) -> Vec<Target> {
    let contacts = response.headers.all("Contact").filter_map(|text| NameAddr::parse(text).ok()?.uri().ok());
    let same = contacts.filter(|uri| uri.is_sip() && uri.host.eq_ignore_ascii_case(host));
    same.take(4)
        .map(|uri| Target { to: Destination { uri: old.to.uri.clone(), ..old.to.clone() }, uri })
        .collect()
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
