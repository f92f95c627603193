//! Registering with a provider or PBX (RFC 3261 §10): refreshed in time, tried again with growing pauses.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::sip::config::Transport;
use crate::sip::session::digest::{Account, Answerer};
use crate::sip::session::{ClientTx, Ctx, Destination, TxFailure, random_below, token};
use crate::sip::wire::{Method, NameAddr, Request, Response, Uri};

/// Pauses between failed attempts: the first, and the longest.
const FIRST_PAUSE: u64 = 5;
const LONGEST_PAUSE: u64 = 600;

/// Where a registration is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// To be sent at this time; it stood until then or never did.
    Waiting {
        /// When.
        at: Instant,
    },
    /// A REGISTER is under way.
    Asking {
        /// Its transaction.
        tx: ClientTx,
        /// It takes the registration back.
        leaving: bool,
    },
    /// It stands and is refreshed at this time.
    Standing {
        /// When to refresh.
        refresh: Instant,
        /// When it would end.
        until: Instant,
    },
    /// It was taken back.
    Ended,
}

/// One registration of ours.
#[derive(Debug)]
pub struct Registration {
    user: String,
    domain: String,
    registrar: Uri,
    to: Destination,
    account: Option<Account>,
    answerer: Answerer,
    seconds: u32,
    call_id: String,
    tag: String,
    seq: u32,
    failures: u32,
    contact: Option<Uri>,
    state: Option<State>,
    /// It stands, as far as we know.
    pub standing: bool,
}

impl Registration {
    /// A registration of `user` at `domain`, not yet begun: the registrar, and the way there.
    pub fn new(
        (user, domain): (&str, &str),
        (registrar, to): (Uri, Destination),
        account: Option<Account>,
        seconds: u32,
    ) -> Self {
        Registration {
            user: user.to_owned(),
            domain: domain.to_owned(),
            registrar,
            to,
            account,
            answerer: Answerer::default(),
            seconds,
            call_id: token(),
            tag: token(),
            seq: 0,
            failures: 0,
            contact: None,
            state: None,
            standing: false,
        }
    }

    /// Who we are there: also the user part of our Contact.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// How the registrar is to be spoken with, as its name server says.
    pub fn speak(&mut self, transport: Transport) {
        self.to.transport = transport;
    }

    /// When it wants time.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state? {
            State::Waiting { at } => Some(at),
            State::Standing { refresh, .. } => Some(refresh),
            State::Asking { .. } | State::Ended => None,
        }
    }

    /// Begins, refreshes or tries again.
    pub fn handle_timeout(&mut self, ctx: &mut Ctx<'_>) -> Option<ClientTx> {
        match self.state {
            Some(State::Asking { .. } | State::Ended) => None,
            Some(State::Waiting { at }) if at > ctx.now => None,
            Some(State::Standing { refresh, .. }) if refresh > ctx.now => None,
            _ => Some(self.ask(ctx, self.seconds)),
        }
    }

    /// Takes the registration back.
    pub fn leave(&mut self, ctx: &mut Ctx<'_>) -> Option<ClientTx> {
        let stands = std::mem::take(&mut self.standing);
        let tx = stands.then(|| self.ask(ctx, 0));
        if tx.is_none() {
            self.state = Some(State::Ended);
        }
        tx
    }

    fn ask(&mut self, ctx: &mut Ctx<'_>, seconds: u32) -> ClientTx {
        let contact = ctx.contact(&self.user, self.to.uri.ip(), self.to.transport);
        self.contact = Some(contact.clone());
        self.seq += 1;
        let aor = NameAddr::new(Uri::sip(Some(&self.user), &self.domain, None));
        let mut request = Request::new(Method::Register, self.registrar.to_string());
        let headers = &mut request.headers;
        headers.push("Max-Forwards", "70");
        headers.push("From", aor.clone().with_param("tag", &self.tag).to_string());
        headers.push("To", aor.to_string());
        headers.push("Call-ID", self.call_id.clone());
        headers.push("CSeq", format!("{} REGISTER", self.seq));
        headers
            .push("Contact", NameAddr::new(contact).with_param("expires", &seconds.to_string()).to_string());
        headers.push("Expires", seconds.to_string());
        self.to.routes.iter().for_each(|route| headers.push("Route", route.clone()));
        headers.push("Allow", Method::ALLOW);
        headers.push("Supported", "path, timer, 100rel");
        if let Some(account) = &self.account {
            self.answerer.sign(&mut request, account);
        }
        let tx = ctx.send(request, self.to.clone());
        self.state = Some(State::Asking { tx, leaving: seconds == 0 });
        tx
    }

    /// An answer to a REGISTER of ours; a new transaction, if there must be one.
    pub fn handle_response(
        &mut self,
        ctx: &mut Ctx<'_>,
        trunk: &str,
        response: &Response,
    ) -> Option<ClientTx> {
        let Some(State::Asking { leaving, .. }) = self.state else { return None };
        if response.status < 200 {
            return None;
        }
        match response.status {
            200..300 if leaving => self.state = Some(State::Ended),
            200..300 => self.stands(ctx.now, trunk, response),
            401 | 407 if self.account.is_some() && self.answerer.challenged(response) => {
                return Some(self.ask(ctx, if leaving { 0 } else { self.seconds }));
            }
            423 => {
                let least = response.headers.get("Min-Expires").and_then(|text| text.trim().parse().ok());
                if let Some(least) = least.filter(|least| *least > self.seconds && *least <= 86_400) {
                    self.seconds = least;
                    return Some(self.ask(ctx, least));
                }
                self.fails(ctx.now, trunk, response.status, "the interval is too brief there");
            }
            status => {
                let wrong = matches!(status, 401 | 403 | 407);
                let text =
                    if wrong { "user name or password is not accepted" } else { response.reason.as_str() };
                self.fails(ctx.now, trunk, status, text);
                let after = response.headers.get("Retry-After");
                let after = after.and_then(|text| text.split([' ', ';', '(']).next()?.parse::<u64>().ok());
                if let (Some(State::Waiting { at }), Some(seconds)) = (&mut self.state, after) {
                    *at = (*at).max(ctx.now + Duration::from_secs(seconds.min(3600)));
                }
            }
        }
        None
    }

    fn stands(&mut self, now: Instant, trunk: &str, response: &Response) {
        let contacts = response.headers.all("Contact").filter_map(|text| NameAddr::parse(text).ok());
        let same = |name: &NameAddr| {
            let theirs = name.uri().ok();
            let ours = self.contact.as_ref();
            theirs.zip(ours).is_some_and(|(a, b)| a.user == b.user && a.host == b.host && a.port == b.port)
        };
        let own = contacts.into_iter().find(same);
        let granted = own.and_then(|name| name.param("expires")?.parse().ok());
        let general = response.headers.get("Expires").and_then(|text| text.trim().parse().ok());
        let seconds: u32 = granted.or(general).unwrap_or(self.seconds).clamp(10, 86_400);
        if !self.standing {
            info!(trunk, seconds, "registered");
        }
        self.standing = true;
        self.failures = 0;
        self.answerer.accepted();
        // A little before its end, and a little before half a minute in a short one.
        let early = (seconds / 10).clamp(3, 60);
        let refresh = now + Duration::from_secs(u64::from(seconds - early));
        self.state = Some(State::Standing { refresh, until: now + Duration::from_secs(u64::from(seconds)) });
    }

    /// No answer at all.
    pub fn handle_failure(&mut self, now: Instant, trunk: &str, failure: TxFailure) {
        let text = match failure {
            TxFailure::Timeout => "no answer",
            TxFailure::Transport => "it cannot be reached",
        };
        self.fails(now, trunk, 408, text);
    }

    fn fails(&mut self, now: Instant, trunk: &str, status: u16, text: &str) {
        if matches!(self.state, Some(State::Asking { leaving: true, .. })) {
            self.state = Some(State::Ended);
            return;
        }
        let longest = LONGEST_PAUSE.min(FIRST_PAUSE << self.failures.min(16));
        // Between half and all of it, so that many clients of one server do not return together.
        let pause = Duration::from_millis(longest * 500 + random_below(longest * 500));
        if self.failures == 0 || self.standing {
            warn!(trunk, status, "not registered: {text}; tried again in {} s", pause.as_secs());
        }
        self.failures += 1;
        self.standing = false;
        self.state = Some(State::Waiting { at: now + pause });
    }
}
