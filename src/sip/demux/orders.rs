//! What the server's own side asks for: calls out, transfers, holds, keys, the end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tracing::info;

use super::{Switchboard, short_token};
use crate::core::control::calls::{CallError, Dial};
use crate::sip::egress::{Permit, Wish, permit};
use crate::sip::session::call::{Call, CallSettings};
use crate::sip::session::media::Enter;
use crate::sip::session::outbound::Target;
use crate::sip::session::refer::{ReferTo, Referral};
use crate::sip::session::{Destination, ServerTx, SessionId};
use crate::sip::wire::{NameAddr, Request, Uri};

/// A call out that is wanted.
#[derive(Clone, Debug)]
pub struct Order {
    /// What.
    pub dial: Dial,
    /// Who wants it.
    pub principal: String,
}

impl Switchboard {
    /// Calls somebody into a room.
    pub fn dial(&mut self, now: Instant, order: &Order) -> Result<SessionId, CallError> {
        self.dial_as(now, order, false, None)
    }

    fn dial_as(
        &mut self,
        now: Instant,
        order: &Order,
        transfer: bool,
        replaces: Option<String>,
    ) -> Result<SessionId, CallError> {
        if self.draining || self.calls.len() >= self.config.limits.max_calls {
            return Err(CallError::Unavailable("the server takes no more calls now".into()));
        }
        let dial = &order.dial;
        let [number] = dial.numbers.as_slice() else {
            return Err(CallError::Bad("exactly one number can be called".into()));
        };
        let wish = Wish {
            number,
            principal: &order.principal,
            room: &dial.room,
            trunk: dial.trunk.as_deref(),
            transfer,
        };
        let permit = permit(&self.config, &wish).map_err(|walk| {
            info!(principal = order.principal, "refused a call out: {}", walk.join("; "));
            CallError::Denied(walk.join("; "))
        })?;
        let (targets, from, settings) = match permit.trunk.as_str() {
            "phones" => self.toward_phones(now, (number, dial), &permit)?,
            _ => self.toward_trunk(now, (number, dial), &permit)?,
        };
        let mut settings = CallSettings::clone(&settings);
        settings.rule = permit.rule;
        settings.calls.ring_s = dial.ring_s.unwrap_or(settings.calls.ring_s).clamp(1, 600);
        let remote: Option<SocketAddr> = targets.first().and_then(|target| target.to.addr);
        let enter = Enter {
            room: dial.room.clone(),
            name: format!("phone-{}", short_token()),
            principal: format!("trunk:{}", settings.trunk),
            remote,
            media_timeout_ms: u64::from(settings.calls.media_timeout_s) * 1000,
        };
        let mut out = std::collections::VecDeque::new();
        let world = (&self.config, self.addresses.as_ref());
        let mut ctx = Self::ctx(world, (&mut out, &mut self.last_tx), now);
        let mut call = Call::dial(&mut ctx, targets, from, replaces, Arc::new(settings), enter);
        call.number = number.clone();
        let id = call.id;
        info!(call = %id, trunk = call.settings.trunk, rule = call.settings.rule, room = dial.room, "calls out");
        self.note(call, None, out, now);
        Ok(id)
    }

    fn toward_phones(
        &mut self,
        now: Instant,
        (number, dial): (&str, &Dial),
        permit: &Permit,
    ) -> Result<(Vec<Target>, NameAddr, Arc<CallSettings>), CallError> {
        let user = match Uri::parse(number) {
            Ok(uri) if uri.is_sip() => uri.user.unwrap_or_default(),
            _ => number.to_owned(),
        };
        let targets = self.registrar.targets(&user, now);
        if targets.is_empty() {
            return Err(CallError::NotRegistered);
        }
        let shown = permit.caller_id.clone().or_else(|| dial.caller_id.clone());
        let shown = shown.unwrap_or_else(|| dial.room.clone());
        let from = NameAddr::new(Uri::sip(Some(&shown), &self.config.realm, None)).named(&dial.room);
        Ok((targets, from, self.phones.clone()))
    }

    fn toward_trunk(
        &mut self,
        now: Instant,
        (number, dial): (&str, &Dial),
        permit: &Permit,
    ) -> Result<(Vec<Target>, NameAddr, Arc<CallSettings>), CallError> {
        let unavailable = |text: &str| CallError::Unavailable(text.to_owned());
        let trunk = self.trunks.iter_mut().find(|trunk| trunk.name == permit.trunk);
        let trunk = trunk.ok_or_else(|| unavailable("the rule's trunk is not configured"))?;
        let to = trunk.destination().ok_or_else(|| unavailable("the trunk has no host to call"))?;
        trunk.admit_out(number, now).map_err(unavailable)?;
        trunk.calls += 1;
        let (host, port) = (to.uri.host.clone(), to.uri.port);
        let uri = match Uri::parse(number) {
            // Only to the trunk itself: a URI of somebody else's host would go around the rules.
            Ok(uri) if uri.is_sip() => Uri::sip(uri.user.as_deref(), &host, port),
            _ => Uri::sip(Some(number), &host, port),
        };
        let uri = match trunk.transport.param() {
            Some(name) => uri.with_param("transport", name),
            None => uri,
        };
        let shown =
            permit.caller_id.clone().or_else(|| trunk.caller_id.clone()).or_else(|| dial.caller_id.clone());
        let domain = trunk.domain();
        let from = NameAddr::new(Uri::sip(Some(shown.as_deref().unwrap_or("viaduct")), &domain, None));
        let next = Destination { uri: to.uri, ..to };
        Ok((vec![Target { uri, to: next }], from, trunk.settings.clone()))
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
        let order = Order { dial, principal: call.enter.principal.clone() };
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

    fn known(&self, id: SessionId) -> Result<(), CallError> {
        self.calls.contains_key(&id).then_some(()).ok_or(CallError::Unknown)
    }

    /// Ends a call.
    pub fn hang_up(&mut self, now: Instant, id: SessionId, text: &str) -> Result<(), CallError> {
        self.known(id)?;
        self.with_call(now, id, |call, ctx| call.hang_up(ctx, text, None));
        Ok(())
    }

    /// Puts a call on hold, or takes it back.
    pub fn hold(&mut self, now: Instant, id: SessionId, held: bool) -> Result<(), CallError> {
        self.known(id)?;
        self.with_call(now, id, |call, ctx| call.hold(ctx, held));
        Ok(())
    }

    /// Sends keys.
    pub fn send_dtmf(&mut self, now: Instant, id: SessionId, digits: &str) -> Result<(), CallError> {
        self.known(id)?;
        self.with_call(now, id, |call, ctx| call.send_dtmf(ctx, digits));
        Ok(())
    }

    /// Asks the other side of a call to call somebody else instead, if a rule allows `principal` that.
    pub fn transfer(
        &mut self,
        now: Instant,
        id: SessionId,
        number: &str,
        principal: &str,
    ) -> Result<(), CallError> {
        let Some(call) = self.calls.get(&id) else {
            return Err(CallError::Unknown);
        };
        let wish = Wish { number, principal, room: &call.enter.room, trunk: None, transfer: true };
        let permit = permit(&self.config, &wish).map_err(|walk| CallError::Denied(walk.join("; ")))?;
        let trunk = self.trunks.iter().find(|trunk| trunk.name == permit.trunk);
        let host = trunk.and_then(|trunk| trunk.host.clone());
        let target = match host {
            Some((host, port)) => Uri::sip(Some(number), &host, port),
            None => Uri::sip(Some(number), &self.config.realm, None),
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
            let _ = self.hang_up(now, id, "the server is stopping");
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
