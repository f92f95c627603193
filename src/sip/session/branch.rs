//! One INVITE of a call out and what comes of it (RFC 3261 §13.2.2): its early dialogs, its PRACKs, its end.

use crate::sip::session::call::{CallSettings, add_abilities};
use crate::sip::session::dialog::Dialog;
use crate::sip::session::digest::Answerer;
use crate::sip::session::{Action, ClientTx, Ctx, Destination, Source, token};
use crate::sip::wire::{Method, NameAddr, Request, Response, Uri};

/// Somebody to be called: whom, by which way, as whom, and by which trunk's rules.
#[derive(Clone, Debug)]
pub struct Target {
    /// Request URI.
    pub uri: Uri,
    /// Where the request goes first.
    pub to: Destination,
    /// Who calls.
    pub from: NameAddr,
    /// How the call is treated once it is theirs.
    pub settings: std::sync::Arc<CallSettings>,
    /// It has an IPv6 address.
    pub ipv6: bool,
}

/// One INVITE and what came of it.
#[derive(Debug)]
pub struct Branch {
    /// Its transaction.
    pub tx: ClientTx,
    /// The INVITE.
    pub invite: Request,
    /// Whom it calls.
    pub target: Target,
    /// Answers to challenges.
    pub answerer: Answerer,
    /// Early dialogs with the number of their last reliable response.
    pub early: Vec<(Dialog, u32)>,
    /// PRACKs without an answer.
    pub pracks: Vec<ClientTx>,
    /// Which of the call's offers it made.
    pub offer: usize,
    contact: Uri,
    /// A provisional response came: it can be cancelled.
    heard: bool,
    cancel: Cancel,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Cancel {
    No,
    /// As soon as a provisional response allows it (RFC 3261 §9.1).
    Wanted,
    Sent,
}

/// What all INVITEs of a call out say.
#[derive(Clone, Copy, Debug)]
pub struct Invitation<'a> {
    /// The offer.
    pub sdp: &'a str,
    /// Which of the call's offers that is.
    pub offer: usize,
    /// Seconds of the session timer; 0: none is asked for.
    pub session_expires_s: u32,
    /// `Replaces`.
    pub replaces: Option<&'a str>,
}

impl Branch {
    /// Sends a first INVITE to a target.
    pub fn invite(ctx: &mut Ctx<'_>, target: Target, what: Invitation<'_>) -> Self {
        let contact = ctx.contact("viaduct", target.to.ip(), target.to.transport);
        let uri = Uri { headers: None, ..target.uri.clone() };
        let mut request = Request::new(Method::Invite, uri.to_string());
        let headers = &mut request.headers;
        headers.push("Max-Forwards", "70");
        headers.push("From", target.from.clone().with_param("tag", &token()).to_string());
        let to = Uri { params: Vec::new(), ..uri };
        headers.push("To", NameAddr::new(to).to_string());
        headers.push("Call-ID", token());
        headers.push("CSeq", "1 INVITE");
        headers.push("Contact", NameAddr::new(&contact).to_string());
        add_abilities(headers);
        if what.session_expires_s > 0 {
            headers.push("Session-Expires", what.session_expires_s.to_string());
            headers.push("Min-SE", target.settings.calls.min_se_s.to_string());
        }
        if let Some(replaces) = what.replaces {
            headers.push("Replaces", replaces);
            headers.push("Require", "replaces");
        }
        for route in &target.to.routes {
            headers.push("Route", route.clone());
        }
        request.set_body("application/sdp", what.sdp);
        let tx = ctx.send(request.clone(), target.to.clone());
        Branch {
            tx,
            invite: request,
            target,
            answerer: Answerer::default(),
            early: Vec::new(),
            pracks: Vec::new(),
            offer: what.offer,
            contact,
            heard: false,
            cancel: Cancel::No,
        }
    }

    /// Sends it once more with the next number, changed by `change`.
    pub fn again(&mut self, ctx: &mut Ctx<'_>, change: impl FnOnce(&mut Request, &mut Answerer)) {
        let mut next = self.invite.clone();
        next.headers.set("CSeq", format!("{} INVITE", self.seq() + 1));
        next.headers.remove("Authorization");
        next.headers.remove("Proxy-Authorization");
        change(&mut next, &mut self.answerer);
        self.tx = ctx.send(next.clone(), self.target.to.clone());
        self.invite = next;
        self.heard = false;
    }

    /// Number of its INVITE.
    pub fn seq(&self) -> u32 {
        self.invite.headers.cseq().map_or(1, |(number, _)| number)
    }

    /// It answers with a provisional response.
    pub fn hear(&mut self) {
        self.heard = true;
    }

    /// Nobody wants it any more.
    pub fn is_cancelled(&self) -> bool {
        self.cancel != Cancel::No
    }

    /// Gives it up; `elsewhere`: somebody else answered.
    pub fn cancel(&mut self, ctx: &mut Ctx<'_>, elsewhere: bool) {
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

    /// The dialog that a response of it makes.
    pub fn dialog(&self, response: &Response, source: Source) -> Option<Dialog> {
        Dialog::answered(&self.invite, response, self.contact.clone(), source)
    }

    /// Takes note of the early dialog of a provisional response and acknowledges it where it wants that (RFC 3262).
    /// `None`: it was had before.
    pub fn progress(&mut self, ctx: &mut Ctx<'_>, source: Source, response: &Response) -> Option<Progress> {
        self.heard = true;
        let mut progress = Progress { tag: String::new(), reliable: false };
        let Some(dialog) = self.dialog(response, source) else { return Some(progress) };
        progress.tag.clone_from(&dialog.id.remote);
        let known = self.early.iter().position(|(early, _)| early.id == dialog.id);
        let known = known.unwrap_or_else(|| {
            self.early.push((dialog, 0));
            self.early.len() - 1
        });
        let rseq: Option<u32> = response.headers.get("RSeq").and_then(|text| text.trim().parse().ok());
        let Some(rseq) = rseq.filter(|_| response.headers.lists("Require", "100rel")) else {
            return Some(progress);
        };
        let seq = self.seq();
        let (dialog, last) = self.early.get_mut(known)?;
        if rseq <= *last {
            return None;
        }
        *last = rseq;
        progress.reliable = true;
        let mut prack = dialog.request(Method::Prack);
        prack.headers.push("RAck", format!("{rseq} {seq} INVITE"));
        if let Some(account) = &self.target.settings.account {
            self.answerer.sign(&mut prack, account);
        }
        let to = dialog.destination();
        self.pracks.push(ctx.send(prack, to));
        Some(progress)
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
                if let Some(dialog) = self.dialog(response, source) {
                    refuse_answer(ctx, dialog, self.seq());
                }
                true
            }
            _ => true,
        }
    }
}

/// A provisional response.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Progress {
    /// Of which of the branch's early dialogs.
    pub tag: String,
    /// It arrives for certain, and what it says holds.
    pub reliable: bool,
}

/// Acknowledges an answer that came too late and hangs up at once.
pub fn refuse_answer(ctx: &mut Ctx<'_>, mut dialog: Dialog, seq: u32) -> ClientTx {
    let to = dialog.destination();
    ctx.out.push_back(Action::Ack { request: dialog.ack(seq), to: to.clone() });
    let mut bye = dialog.request(Method::Bye);
    bye.headers.push("Reason", "SIP;cause=200;text=\"Call completed elsewhere\"");
    ctx.send(bye, to)
}
