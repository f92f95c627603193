//! PATCH: candidates that come late, and ICE restarts (RFC 9725 §4.3).
//!
//! We are ICE-lite: we answer checks and send none, so a late candidate of the other side tells us
//! nothing that its checks will not. It is read, held to be about this ICE session, and accepted.

use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode};
use tracing::{debug, warn};

use super::doors::{Doors, Member};
use super::error::{Extra, Refusal};
use super::session::{self, Session};
use super::wire::{self, IfMatch};
use super::{Gate, io};
use crate::webrtc::sdp::Fragment;

/// What a PATCH that was accepted comes to.
pub(super) enum Patched {
    /// Candidates taken: 204.
    Trickle,
    /// ICE restarted: 200 with our new credentials.
    Restarted { tag: String, fragment: String },
}

pub(super) async fn patch<D: Doors>(
    gate: Arc<Gate<D>>,
    secret: String,
    session: Session<D::Member>,
    headers: HeaderMap,
    body: Vec<u8>,
) -> Result<Patched, Refusal> {
    if !wire::is_content(&headers, wire::FRAGMENT) {
        let text = format!("this takes {} only", wire::FRAGMENT);
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text).with(Extra::AcceptPatch));
    }
    match IfMatch::of(&headers, &session.tag) {
        IfMatch::Missing if gate.config.require_if_match => {
            let text = "If-Match is needed: the ETag of the session, or * to restart ICE";
            return Err(Refusal::new(StatusCode::PRECONDITION_REQUIRED, text));
        }
        IfMatch::Stale => {
            let text = "the ICE session that If-Match names is not the current one";
            return Err(Refusal::new(StatusCode::PRECONDITION_FAILED, text));
        }
        IfMatch::Missing | IfMatch::Any | IfMatch::Current => {}
    }
    let text = std::str::from_utf8(&body)
        .map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "the fragment is not text"))?;
    let fragment = Fragment::parse(text)?;
    let conn = session.member.conn();
    let current = &session.negotiated.remote_ice;
    // A fragment of candidates names the credentials it belongs to, which is no restart.
    if !fragment.restarts(current) {
        if fragment.ufrag.is_some_and(|ufrag| ufrag != current.0) {
            let text = "the fragment is about an ICE session that is not the current one, \
                        and has no ice-pwd to start another";
            return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, text));
        }
        debug!(%conn, candidates = fragment.candidates.len(), "late candidates");
        return Ok(Patched::Trickle);
    }
    let remote = fragment.ufrag.zip(fragment.pwd).ok_or_else(Refusal::internal)?;
    io::detached(restart(gate, secret, session, remote)).await.ok_or_else(Refusal::internal)?
}

async fn restart<D: Doors>(
    gate: Arc<Gate<D>>,
    secret: String,
    session: Session<D::Member>,
    remote: (String, String),
) -> Result<Patched, Refusal> {
    let claim = |session: &mut Session<_>| !std::mem::replace(&mut session.restarting, true);
    match gate.sessions.update(&secret, claim) {
        None => return Err(Refusal::no_session()),
        Some(false) => {
            return Err(Refusal::new(StatusCode::CONFLICT, "another ICE restart is under way"));
        }
        Some(true) => {}
    }
    let conn = session.member.conn();
    let restarted = session.member.restart_ice(session.transport, remote.clone()).await;
    let update = |session: &mut Session<D::Member>| {
        session.restarting = false;
        let ice = restarted.inspect_err(|error| warn!(%conn, %error, "ICE restart failed"))?;
        session.negotiated.remote_ice = remote;
        session.local.ufrag = ice.username_fragment;
        session.local.pwd = ice.password;
        session.tag = session::new_tag();
        debug!(%conn, "ICE restarted");
        let fragment = session.negotiated.restart_answer(&session.local);
        Ok(Patched::Restarted { tag: session.tag.clone(), fragment })
    };
    gate.sessions.update(&secret, update).unwrap_or_else(|| Err(Refusal::no_session()))
}
