//! What the server's own side asks for: calls out, holds, keys, transfers, the end. And what the other side of a call
//! asks for that our rules decide: transfers and redirections.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tracing::info;

use super::{Switchboard, short_token};
use crate::core::auth::Principal;
use crate::core::control::calls::{CallError, Dial, masked};
use crate::sip::config::Transport;
use crate::sip::egress::{Permit, Wish, permit};
use crate::sip::session::branch::Target;
use crate::sip::session::call::{Call, CallSettings};
use crate::sip::session::media::Enter;
use crate::sip::session::outbound::Wanted;
use crate::sip::session::refer::{ReferTo, Referral, replaces};
use crate::sip::session::{Destination, ServerTx, SessionId};
use crate::sip::wire::{NameAddr, Request, Uri};

/// Numbers that one call may ring at once.
const MAX_NUMBERS: usize = 10;

/// A call out that is wanted.
#[derive(Clone, Debug)]
pub struct Order {
    /// What.
    pub dial: Dial,
    /// Who wants it.
    pub principal: String,
}

/// Who calls somebody, and from where.
#[derive(Clone, Copy)]
struct Caller<'a> {
    principal: &'a str,
    room: &'a str,
    caller_id: Option<&'a str>,
    transfer: bool,
}

impl Switchboard {
    /// Calls somebody into a room.
    pub fn dial(&mut self, now: Instant, order: &Order) -> Result<SessionId, CallError> {
        self.dial_as(now, order, false, None)
    }

    fn dial_as(
        &mut self,
        now: Instant,
        Order { dial, principal }: &Order,
        transfer: bool,
        replaces: Option<String>,
    ) -> Result<SessionId, CallError> {
        if self.draining || self.calls.len() >= self.config.limits.max_calls {
            return Err(CallError::Unavailable("the server takes no more calls now".into()));
        }
        if dial.numbers.is_empty() || dial.numbers.len() > MAX_NUMBERS {
            return Err(CallError::Bad(format!("from 1 to {MAX_NUMBERS} numbers can be called at once")));
        }
        let caller = Caller { principal, room: &dial.room, caller_id: dial.caller_id.as_deref(), transfer };
        let mut targets = Vec::new();
        let mut lines = Vec::new();
        let mut refusal = None;
        for number in &dial.numbers {
            match self.toward(now, number, dial.trunk.as_deref(), caller) {
                Ok(more) => {
                    lines.extend(more.first().map(|target| target.settings.trunk.clone()));
                    targets.extend(more);
                }
                Err(error) => refusal = Some(error),
            }
        }
        // A number that may not be called takes the others with it only if there are none.
        if let (Some(error), true) = (refusal, targets.is_empty()) {
            return Err(error);
        }
        self.take_lines(&lines);
        if let Some(seconds) = dial.ring_s {
            for target in &mut targets {
                Arc::make_mut(&mut target.settings).calls.ring_s = seconds.clamp(1, 600);
            }
        }
        let wanted = Wanted { replaces, play: dial.play.clone(), transfer, principal: principal.clone() };
        let id = self.begin(now, dial, targets, wanted, &lines);
        id.ok_or_else(|| CallError::Unavailable("there is nobody to call".into()))
    }

    fn begin(
        &mut self,
        now: Instant,
        dial: &Dial,
        targets: Vec<Target>,
        wanted: Wanted,
        lines: &[String],
    ) -> Option<SessionId> {
        let settings = targets.first()?.settings.clone();
        let remote: Option<SocketAddr> = targets.first().and_then(|target| target.to.addr);
        let enter = Enter {
            room: dial.room.clone(),
            name: format!("phone-{}", short_token()),
            principal: Principal::known("trunk", &settings.trunk),
            asks: false,
            remote,
            media_timeout_ms: u64::from(settings.calls.media_timeout_s) * 1000,
        };
        let mut out = VecDeque::new();
        let world = (&self.config, self.addresses.as_ref());
        let mut ctx = Self::ctx(world, (&mut out, &mut self.last_tx), now);
        let branches = targets.len();
        let mut call = Call::dial(&mut ctx, targets, wanted, enter)?;
        call.number = dial.numbers.join(", ");
        call.shown = dial.numbers.iter().map(|number| masked(number)).collect::<Vec<_>>().join(", ");
        call.lines = lines.to_vec();
        let id = call.id;
        info!(call = %id, trunk = settings.trunk, rule = settings.rule, room = dial.room, branches, "calls out");
        self.note(call, None, out, now);
        Some(id)
    }

    /// Everywhere a number can be reached, if the rules allow to call it.
    fn toward(
        &mut self,
        now: Instant,
        number: &str,
        trunk: Option<&str>,
        caller: Caller<'_>,
    ) -> Result<Vec<Target>, CallError> {
        let wish =
            Wish { number, principal: caller.principal, room: caller.room, trunk, transfer: caller.transfer };
        let permit = permit(&self.config, &wish).map_err(|walk| {
            info!(principal = caller.principal, "refused a call out: {}", walk.join("; "));
            CallError::Denied(walk.join("; "))
        })?;
        match permit.trunk.as_str() {
            "phones" => self.toward_phones(now, number, &permit, caller),
            _ => self.toward_trunk(now, number, &permit, caller),
        }
    }

    fn toward_phones(
        &self,
        now: Instant,
        number: &str,
        permit: &Permit,
        caller: Caller<'_>,
    ) -> Result<Vec<Target>, CallError> {
        let user = match Uri::parse(number) {
            Ok(uri) if uri.is_sip() => uri.user.unwrap_or_default(),
            _ => number.to_owned(),
        };
        let places = self.registrar.places(&user, now);
        if places.is_empty() {
            return Err(CallError::NotRegistered);
        }
        let shown = permit.caller_id.as_deref().or(caller.caller_id).unwrap_or(caller.room);
        let from = NameAddr::new(Uri::sip(Some(shown), &self.config.realm, None)).named(caller.room);
        let desk = ruled(&self.phones, permit);
        let browser =
            Arc::new(CallSettings { policy: desk.policy.for_browsers(), ..CallSettings::clone(&desk) });
        let target = |(uri, to): (Uri, Destination)| {
            let of_web = matches!(to.transport, Transport::Ws | Transport::Wss);
            let settings = if of_web { browser.clone() } else { desk.clone() };
            let ipv6 = to.ip().is_some_and(|ip| ip.is_ipv6());
            Target { uri, to, from: from.clone(), settings, ipv6 }
        };
        Ok(places.into_iter().map(target).collect())
    }

    fn toward_trunk(
        &mut self,
        now: Instant,
        number: &str,
        permit: &Permit,
        caller: Caller<'_>,
    ) -> Result<Vec<Target>, CallError> {
        let unavailable = |text: &str| CallError::Unavailable(text.to_owned());
        let trunk = self.trunks.iter_mut().find(|trunk| trunk.name == permit.trunk);
        let trunk = trunk.ok_or_else(|| unavailable("the rule's trunk is not configured"))?;
        let to = trunk.destination().ok_or_else(|| unavailable("the trunk has no host to call"))?;
        trunk.admit_out(number, now).map_err(unavailable)?;
        // Only to the trunk itself: a URI of somebody else's host would go around the rules.
        let uri = match Uri::parse(number) {
            Ok(uri) if uri.is_sip() => trunk.uri(uri.user.as_deref()),
            _ => trunk.uri(Some(&trunk.number_format.write(number))),
        };
        let shown = permit.caller_id.as_deref().or(trunk.caller_id.as_deref()).or(caller.caller_id);
        let shown = trunk.number_format.write(shown.unwrap_or("viaduct"));
        let from = NameAddr::new(Uri::sip(Some(&shown), &trunk.domain(), None));
        let settings = ruled(&trunk.settings, permit);
        let uri = uri.ok_or_else(|| unavailable("the trunk has no host to call"))?;
        let ipv6 = to.ip().or(trunk.resolved.first().copied()).is_some_and(|ip| ip.is_ipv6());
        Ok(vec![Target { uri, to, from, settings, ipv6 }])
    }

    fn take_lines(&mut self, names: &[String]) {
        for name in names {
            if let Some(trunk) = self.trunks.iter_mut().find(|trunk| trunk.name == *name) {
                trunk.calls += 1;
            }
        }
    }

    /// Gives lines of trunks back.
    pub(super) fn free_lines(&mut self, names: impl IntoIterator<Item = String>) {
        for name in names {
            if let Some(trunk) = self.trunks.iter_mut().find(|trunk| trunk.name == name) {
                trunk.calls = trunk.calls.saturating_sub(1);
            }
        }
    }

    /// Decides where a call of ours goes that was told to try elsewhere: each place is asked of the outbound rules as
    /// if it had been dialled. A place at a trunk's own host stays with that trunk; any other is called by the trunk
    /// that the rules give its number.
    pub(super) fn redirect(&mut self, now: Instant, id: SessionId, from: &str, contacts: &[Vec<Uri>]) {
        let Some(call) = self.calls.get(&id) else { return };
        let room = call.enter.room.clone();
        let Some(wanted) = call.outbound().map(|outbound| outbound.wanted().clone()) else { return };
        let caller =
            Caller { principal: &wanted.principal, room: &room, caller_id: None, transfer: wanted.transfer };
        let (mut groups, mut lines, mut refusal) = (Vec::new(), Vec::new(), None);
        for group in contacts {
            let mut targets = Vec::new();
            for uri in group {
                let trunk = self.trunk_at(uri, from);
                match self.toward(now, &uri.number(), trunk.as_deref(), caller) {
                    Ok(more) => {
                        lines.extend(more.first().map(|target| target.settings.trunk.clone()));
                        targets.extend(more);
                    }
                    Err(error) => refusal = Some(format!("redirected to where it may not call: {error}")),
                }
            }
            groups.extend((!targets.is_empty()).then_some(targets));
        }
        self.take_lines(&lines);
        let places: usize = groups.iter().map(Vec::len).sum();
        info!(call = %id, trunk = from, places, "redirected");
        self.with_call(now, id, |call, ctx| {
            call.lines.extend(lines);
            call.redirected(ctx, groups, refusal);
        });
    }

    /// The trunk whose host a URI names; that of `from`, where several do.
    fn trunk_at(&self, uri: &Uri, from: &str) -> Option<String> {
        let at = |name: &str| {
            let trunk = self.trunks.iter().find(|trunk| trunk.name == name)?;
            trunk.is_at(uri).then(|| trunk.name.clone())
        };
        let others = || self.trunks.iter().find(|trunk| trunk.is_at(uri)).map(|trunk| trunk.name.clone());
        let phones = || uri.host.eq_ignore_ascii_case(&self.config.realm).then(|| "phones".to_owned());
        at(from).or_else(others).or_else(phones)
    }

    /// Decides on a transfer that a party asks for.
    pub(super) fn refer(
        &mut self,
        now: Instant,
        id: SessionId,
        tx: ServerTx,
        request: Request,
        target: ReferTo,
    ) {
        let Some(call) = self.calls.get(&id) else { return };
        let dial = Dial::new(&call.enter.room, &target.uri.number());
        let order = Order { dial, principal: call.enter.principal.id().to_owned() };
        match self.dial_as(now, &order, true, target.replaces) {
            Ok(new) => {
                self.referrals.push(Referral { by: id, new });
                self.with_call(now, id, |call, ctx| call.refer_accepted(ctx, tx, &request));
            }
            Err(error) => {
                let status = if matches!(error, CallError::Denied(_)) { 403 } else { 503 };
                info!(call = %id, "a transfer was refused: {error}");
                self.answer(tx, request.response(status, "", ""));
            }
        }
    }

    fn known(&self, id: SessionId) -> Result<&Call, CallError> {
        self.calls.get(&id).ok_or(CallError::Unknown)
    }

    fn talking(&self, id: SessionId) -> Result<&Call, CallError> {
        let call = self.known(id)?;
        let talks = call.since.is_some() && call.dialog().is_some();
        talks.then_some(call).ok_or(CallError::NotNow("the call is not answered, or over"))
    }

    /// Ends a call.
    pub fn hang_up(&mut self, now: Instant, id: SessionId, text: &str) -> Result<(), CallError> {
        self.known(id)?;
        self.with_call(now, id, |call, ctx| call.hang_up(ctx, text, None));
        Ok(())
    }

    /// Puts a call on hold, or takes it back.
    pub fn hold(&mut self, now: Instant, id: SessionId, held: bool) -> Result<(), CallError> {
        self.talking(id)?;
        self.with_call(now, id, |call, ctx| call.hold(ctx, held));
        Ok(())
    }

    /// Sends keys.
    pub fn send_dtmf(&mut self, now: Instant, id: SessionId, digits: &str) -> Result<(), CallError> {
        self.talking(id)?;
        if !digits.chars().all(|c| c.is_ascii_digit() || "*#ABCDabcd,".contains(c)) {
            return Err(CallError::Bad("keys are 0-9, *, #, A-D, and a comma for a pause".into()));
        }
        self.with_call(now, id, |call, ctx| call.send_dtmf(ctx, &digits.to_ascii_uppercase()));
        Ok(())
    }

    /// Asks the other side of a call to call somebody else instead, if a rule allows `principal` that. A number that
    /// is the name of another call of the same room makes the two parties talk to each other (an attended transfer).
    pub fn transfer(
        &mut self,
        now: Instant,
        id: SessionId,
        number: &str,
        principal: &str,
    ) -> Result<(), CallError> {
        let call = self.talking(id)?;
        let other = SessionId::parse(number).filter(|other| *other != id);
        let (number, replaced) = match other {
            Some(other) => {
                let other = self.talking(other)?;
                // Whoever has rights over one room has none over the calls of another.
                if other.enter.room != call.enter.room {
                    return Err(CallError::Unknown);
                }
                let dialog = other.dialog().ok_or(CallError::Unknown)?;
                (dialog.target.number(), Some((dialog.target.clone(), replaces(dialog))))
            }
            None => (number.to_owned(), None),
        };
        let wish = Wish { number: &number, principal, room: &call.enter.room, trunk: None, transfer: true };
        let permit = permit(&self.config, &wish).map_err(|walk| CallError::Denied(walk.join("; ")))?;
        let target = match replaced {
            Some((target, replaces)) => Uri { headers: Some(format!("Replaces={replaces}")), ..target },
            None => {
                let trunk = self.trunks.iter().find(|trunk| trunk.name == permit.trunk);
                let at_trunk = trunk.and_then(|trunk| trunk.uri(Some(&trunk.number_format.write(&number))));
                at_trunk.unwrap_or_else(|| Uri::sip(Some(&number), &self.config.realm, None))
            }
        };
        self.with_call(now, id, |call, ctx| call.transfer_away(ctx, &target));
        Ok(())
    }

    /// Takes no more calls; those that are there go on.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Ends every call and takes registrations back.
    pub fn close(&mut self, now: Instant) {
        self.draining = true;
        let ids: Vec<SessionId> = self.calls.keys().copied().collect();
        for id in ids {
            self.with_call(now, id, |call, ctx| call.hang_up(ctx, "the server is stopping", None));
        }
        for at in 0..self.trunks.len() {
            let world = (&self.config, self.addresses.as_ref());
            let mut ctx = Self::ctx(world, (&mut self.out, &mut self.last_tx), now);
            let tx =
                self.trunks[at].registration.as_mut().and_then(|registration| registration.leave(&mut ctx));
            self.register_noted(at, tx);
        }
    }

    /// Whether anything still waits for an answer.
    pub fn is_quiet(&self) -> bool {
        self.calls.is_empty() && self.client.values().all(|owner| matches!(owner, super::Owner::Options(_)))
    }
}

/// A trunk's settings under the name of the rule that led there.
fn ruled(settings: &Arc<CallSettings>, permit: &Permit) -> Arc<CallSettings> {
    Arc::new(CallSettings { rule: permit.rule.clone(), ..CallSettings::clone(settings) })
}
