//! Transfers (RFC 3515, RFC 3892, RFC 4488): asking the other side to call somebody else, and being asked.
//!
//! A party in a room that asks for a transfer gets its target called into the same room; when that
//! answers, the party is told so and usually leaves. An attended transfer names the call it replaces.

use std::time::Duration;

use tracing::info;

use crate::core::control::calls::CallState;
use crate::sip::error::WireError;
use crate::sip::session::call::{Alarm, Call, Phase};
use crate::sip::session::dialog::{Dialog, DialogId};
use crate::sip::session::{Action, ClientTx, Ctx, ServerTx, SessionId};
use crate::sip::wire::message::reason_phrase;
use crate::sip::wire::{Method, NameAddr, Request, Response, Uri, value};

/// How long a transfer may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// A transfer under way.
#[derive(Debug)]
pub enum Transfer {
    /// We asked; the other side reports.
    Asked {
        /// The REFER, until it is answered.
        tx: Option<ClientTx>,
        /// Its number, which names the subscription.
        seq: u32,
    },
    /// They asked; we report.
    Doing {
        /// `Event` with its id.
        event: String,
        /// Reports are wanted.
        report: bool,
    },
}

impl Transfer {
    /// The REFER was sent once more.
    pub fn asked_again(&mut self, next: ClientTx) {
        if let Transfer::Asked { tx, .. } = self {
            *tx = Some(next);
        }
    }

    /// The open REFER of ours.
    pub fn refer_tx(&self) -> Option<ClientTx> {
        match self {
            Transfer::Asked { tx, .. } => *tx,
            Transfer::Doing { .. } => None,
        }
    }
}

/// What a REFER wants called.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReferTo {
    /// Whom.
    pub uri: Uri,
    /// `Replaces` of an attended transfer.
    pub replaces: Option<String>,
}

/// Reads `Refer-To`.
pub fn refer_to(request: &Request) -> Option<ReferTo> {
    let mut lines = request.headers.lines("Refer-To");
    let (line, None) = (lines.next()?, lines.next()) else { return None };
    let mut uri = NameAddr::parse(line).ok()?.uri().ok()?;
    let headers = uri.headers.take().unwrap_or_default();
    let mut pairs = headers.split('&').filter_map(|pair| pair.split_once('='));
    let replaces =
        pairs.find(|(name, _)| name.eq_ignore_ascii_case("Replaces")).map(|(_, value)| undo_percent(value));
    let method = uri.param("method").is_none_or(|method| method.eq_ignore_ascii_case("INVITE"));
    (method && (uri.is_sip() || uri.scheme == "tel")).then_some(ReferTo { uri, replaces })
}

/// What stands in a URI for the call that a dialog is (RFC 3891), as its other side sees it.
pub fn replaces(dialog: &Dialog) -> String {
    let DialogId { call_id, local, remote } = &dialog.id;
    escape(&format!("{call_id};to-tag={remote};from-tag={local}"))
}

/// The call that an INVITE is to take the place of (RFC 3891 §3).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Replaced {
    /// Its dialog, as we know it.
    pub dialog: DialogId,
    /// Only if it is not answered yet.
    pub early_only: bool,
}

/// Reads `Replaces`; an error where it cannot be read or stands there twice.
pub fn replaced(request: &Request) -> Result<Option<Replaced>, WireError> {
    const FAULT: WireError = WireError::Missing("Replaces");
    let mut lines = request.headers.lines("Replaces");
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err(FAULT);
    }
    let call_id = line.split(';').next().unwrap_or_default().trim().to_owned();
    let (local, remote) = (value::param(line, "to-tag"), value::param(line, "from-tag"));
    let (Some(local), Some(remote)) = (local, remote) else { return Err(FAULT) };
    let early_only = line.split(';').any(|part| part.trim().eq_ignore_ascii_case("early-only"));
    Ok(Some(Replaced { dialog: DialogId { call_id, local, remote }, early_only }))
}

fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte);
    text.bytes().fold(String::new(), |mut out, byte| {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

fn undo_percent(text: &str) -> String {
    Uri::parse(&format!("tel:{text}")).ok().and_then(|uri| uri.user).unwrap_or_default()
}

impl Call {
    /// A REFER came: the switchboard decides and answers through [`Call::refer_accepted`] or directly.
    pub(super) fn refer(&mut self, ctx: &mut Ctx<'_>, tx: ServerTx, request: Request) {
        let Phase::Established(call) = &mut self.phase else { return };
        let answer = |status| request.response(status, "", "");
        if matches!(call.transfer, Some(Transfer::Doing { .. })) {
            ctx.respond(tx, answer(491));
            return;
        }
        let Some(target) = refer_to(&request) else {
            ctx.respond(tx, request.response(400, "Refer-To is missing or cannot be read", ""));
            return;
        };
        self.tell(ctx, CallState::Transfer, Some(100), "the other side asks for somebody else to be called");
        ctx.out.push_back(Action::Refer { call: self.id, tx, request: Box::new(request), target });
    }

    /// The transfer is allowed: 202 and a first report.
    pub fn refer_accepted(&mut self, ctx: &mut Ctx<'_>, tx: ServerTx, request: &Request) {
        let Phase::Established(call) = &mut self.phase else { return };
        let quiet =
            request.headers.get("Refer-Sub").is_some_and(|text| text.trim().eq_ignore_ascii_case("false"));
        let seq = request.headers.cseq().map_or(0, |(number, _)| number);
        call.transfer = Some(Transfer::Doing { event: format!("refer;id={seq}"), report: !quiet });
        let mut response = request.response(if quiet { 200 } else { 202 }, "", "");
        response.headers.push("Contact", NameAddr::new(&call.dialog.contact).to_string());
        if quiet {
            response.headers.push("Refer-Sub", "false");
        }
        ctx.respond(tx, response);
        self.set(Alarm::Transfer, ctx.now + PATIENCE);
        self.report_transfer(ctx, 100);
    }

    /// Tells the party that asked how its transfer goes.
    pub fn report_transfer(&mut self, ctx: &mut Ctx<'_>, status: u16) {
        let Phase::Established(call) = &mut self.phase else { return };
        let Some(Transfer::Doing { event, report }) = &call.transfer else { return };
        let over = status >= 200;
        if *report {
            let state = if over { "terminated;reason=noresource" } else { "active;expires=120" };
            let event = event.clone();
            let mut notify = call.dialog.request(Method::Notify);
            notify.headers.push("Event", event);
            notify.headers.push("Subscription-State", state);
            let line = format!("SIP/2.0 {status} {}\r\n", reason_phrase(status));
            notify.set_body("message/sipfrag;version=2.0", line);
            let to = call.dialog.destination();
            call.asides.send(ctx, notify, to, (&mut self.answerer, self.settings.account.as_ref()));
        }
        if over {
            call.transfer = None;
            self.clear(Alarm::Transfer);
        }
    }

    /// Asks the other side to call `target` instead of us.
    pub fn transfer_away(&mut self, ctx: &mut Ctx<'_>, target: &Uri) {
        let Phase::Established(call) = &mut self.phase else { return };
        let mut refer = call.dialog.request(Method::Refer);
        let seq = call.dialog.local_seq;
        refer.headers.push("Refer-To", NameAddr::new(target).to_string());
        refer.headers.push("Referred-By", call.dialog.local_party().to_string());
        let passport = (&mut self.answerer, self.settings.account.as_ref());
        let tx = call.asides.send(ctx, refer, call.dialog.destination(), passport);
        call.transfer = Some(Transfer::Asked { tx: Some(tx), seq });
        self.set(Alarm::Transfer, ctx.now + PATIENCE);
    }

    pub(super) fn refer_answered(&mut self, ctx: &mut Ctx<'_>, response: &Response) {
        let Phase::Established(call) = &mut self.phase else { return };
        if let Some(Transfer::Asked { tx, .. }) = &mut call.transfer {
            *tx = None;
        }
        if response.status >= 300 {
            call.transfer = None;
            self.clear(Alarm::Transfer);
            info!(call = %self.id, status = response.status, "the other side does not take the transfer");
            self.tell(
                ctx,
                CallState::Transfer,
                Some(response.status),
                "the other side does not take the transfer",
            );
        }
    }

    /// A NOTIFY: how a transfer that we asked for goes on.
    pub(super) fn notified(&mut self, ctx: &mut Ctx<'_>, tx: ServerTx, request: &Request) {
        let event = request.headers.get("Event").unwrap_or_default().to_ascii_lowercase();
        let Phase::Established(call) = &mut self.phase else { return };
        let ours = match &call.transfer {
            Some(Transfer::Asked { seq, .. }) => {
                let id = value::param(&event, "id");
                event.starts_with("refer") && id.is_none_or(|id| id == seq.to_string())
            }
            _ => false,
        };
        if !ours {
            let known = event.starts_with("refer");
            ctx.respond(tx, request.response(if known { 481 } else { 489 }, "", ""));
            return;
        }
        ctx.respond(tx, request.response(200, "", ""));
        let body = String::from_utf8_lossy(&request.body);
        let status: Option<u16> = body.strip_prefix("SIP/2.0 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let state = request.headers.get("Subscription-State").unwrap_or_default().to_ascii_lowercase();
        let status = status.or(state.starts_with("terminated").then_some(500));
        let Some(status) = status else { return };
        if status >= 200 {
            call.transfer = None;
            self.clear(Alarm::Transfer);
        }
        self.tell(ctx, CallState::Transfer, Some(status), reason_phrase(status));
        if (200..300).contains(&status) {
            self.hang_up(ctx, "it was transferred", None);
        }
    }

    pub(super) fn transfer_overdue(&mut self, ctx: &mut Ctx<'_>) {
        self.report_transfer(ctx, 408);
        if let Phase::Established(call) = &mut self.phase {
            call.transfer = None;
        }
        self.tell(ctx, CallState::Transfer, Some(408), "the transfer took too long");
    }
}

/// A transfer whose outcome the party that asked for it waits for: its call, and the new one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Referral {
    /// Who asked.
    pub by: SessionId,
    /// The new call.
    pub new: SessionId,
}
