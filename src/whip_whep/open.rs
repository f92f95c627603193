//! POST: from an offer to a session and its answer, the same way for publishers and viewers.

use std::net::SocketAddr;
use std::sync::Arc;

use tracing::{debug, info, warn};

use super::doors::{Doors, Member};
use super::error::Refusal;
use super::session::{self, Session};
use super::{Gate, Role, io};
use crate::core::auth::Principal;
use crate::core::control::{IceCandidate, Join, WebRtcTransport};
use crate::core::id;
use crate::core::peer::{CloseReason, PeerKind};
use crate::core::room::RoomName;
use crate::core::session::{DtlsRole, LocalCandidate};
use crate::webrtc::sdp::{LocalTransport, Negotiated, Offer, Policy, negotiate_play, negotiate_publish};

/// A request that passed the door.
pub(super) struct Request {
    pub(super) role: Role,
    pub(super) room: RoomName,
    pub(super) principal: Principal,
    pub(super) remote: Option<SocketAddr>,
    /// `?name=`: the publisher's name in the room.
    pub(super) name: Option<String>,
    /// `?peer=`: the publisher to watch.
    pub(super) watch: Option<String>,
    pub(super) offer: Vec<u8>,
}

/// What the 201 says.
pub(super) struct Opened {
    pub(super) secret: String,
    pub(super) tag: String,
    pub(super) answer: String,
}

/// Closes a member unless it became a session.
struct Guard<M: Member>(Option<M>);

impl<M: Member> Drop for Guard<M> {
    fn drop(&mut self) {
        if let Some(member) = self.0.take() {
            io::spawn(async move {
                member.close(CloseReason::new("error", "the session could not be set up")).await;
            });
        }
    }
}

pub(super) async fn open<D: Doors>(gate: Arc<Gate<D>>, request: Request) -> Result<Opened, Refusal> {
    if gate.sessions.is_full() {
        return Err(Refusal::full("the server has as many sessions as it may have"));
    }
    let (role, room, principal) = (request.role, request.room.clone(), request.principal.clone());
    let negotiated = negotiate(&gate, role, &request.offer)?;
    let member = gate.doors.join(join(request)).await?;
    let conn = member.conn();
    let mut guard = Guard(Some(member.clone()));
    let (transport, local) = connect(&member, &negotiated).await.inspect_err(|refusal| {
        warn!(%conn, %room, reason = %refusal.text, "setting up {role} failed");
    })?;
    for track in &negotiated.tracks {
        let (kind, rtp) = (track.kind, track.rtp.clone());
        let made = match role {
            Role::Publish => member.produce(transport.id, kind, rtp).await.map(drop),
            Role::Play => member.consume(transport.id, kind, rtp).await.map(drop),
        };
        made.inspect_err(|error| warn!(%conn, %room, %error, "a track of {role} was refused"))?;
    }
    let (answer, tag) = (negotiated.answer(&local), session::new_tag());
    let session = Session {
        member: member.clone(),
        room: room.clone(),
        role,
        principal,
        transport: transport.id,
        negotiated,
        local,
        tag: tag.clone(),
        restarting: false,
    };
    let Some(secret) = gate.sessions.insert(session) else {
        return Err(Refusal::full("the server has as many sessions as it may have"));
    };
    guard.0 = None;
    forget_when_closed(gate, member, secret.clone());
    info!(%conn, %room, "{role} session opened");
    Ok(Opened { secret, tag, answer })
}

fn negotiate<D: Doors>(gate: &Gate<D>, role: Role, offer: &[u8]) -> Result<Negotiated, Refusal> {
    let offer = Offer::from_bytes(offer, &gate.limits)?;
    let policy = Policy { video_codecs: gate.doors.video_codecs(), ..Policy::default() };
    let negotiated = match role {
        Role::Publish => negotiate_publish(&offer, &policy)?,
        Role::Play => negotiate_play(&offer, &policy, &mut id::random)?,
    };
    Ok(negotiated)
}

fn join(request: Request) -> Join {
    let Request { role, room, principal, remote, name, watch, .. } = request;
    let publishes = role == Role::Publish;
    let kind = if publishes { PeerKind::Whip } else { PeerKind::Whep };
    Join {
        name: name.filter(|_| publishes),
        remote,
        watch: watch.filter(|_| !publishes),
        publishes,
        ..Join::new(room, kind, principal)
    }
}

async fn connect<M: Member>(
    member: &M,
    negotiated: &Negotiated,
) -> Result<(WebRtcTransport, LocalTransport), Refusal> {
    let transport = member.transport().await?;
    let (dtls, ice) = (negotiated.remote_dtls.clone(), negotiated.remote_ice.clone());
    let role = member.connect(transport.id, dtls, ice).await?;
    let local = local(&transport, role);
    Ok((transport, local))
}

fn local(transport: &WebRtcTransport, role: DtlsRole) -> LocalTransport {
    LocalTransport {
        ufrag: transport.ice.username_fragment.clone(),
        pwd: transport.ice.password.clone(),
        candidates: transport.candidates.iter().map(candidate).collect(),
        fingerprints: transport.dtls.fingerprints.clone(),
        role,
    }
}

fn candidate(candidate: &IceCandidate) -> LocalCandidate {
    LocalCandidate {
        tcp: candidate.protocol == "tcp",
        address: SocketAddr::new(candidate.ip, candidate.port),
    }
}

fn forget_when_closed<D: Doors>(gate: Arc<Gate<D>>, member: D::Member, secret: String) {
    io::spawn(async move {
        let reason = member.closed().await;
        if gate.sessions.remove(&secret) {
            debug!(conn = %member.conn(), %reason, "session forgotten");
        }
    });
}
