//! [`Peer`]: what a door holds of the party it let in.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use futures_channel::oneshot;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::core::auth::Principal;
use crate::core::capabilities::{Kind, RtpParameters};
use crate::core::control::error::ControlError;
use crate::core::control::peer_events::Listeners;
use crate::core::control::publish::Pending;
use crate::core::control::rooms::Rooms;
use crate::core::control::state::State;
use crate::core::convert::Sound;
use crate::core::id::{ConnId, ConsumerId, ProducerId, TransportId};
use crate::core::mail::Mail;
use crate::core::message::{DtlsParameters, IceParameters, Method, WebRtcOptions, WebRtcTransport};
use crate::core::peer::CloseReason;
use crate::core::room::RoomName;
use crate::core::session::{DtlsRole, Fingerprint, Session};

/// What stays of a peer after it is gone: its name and how it ended.
pub(super) struct Shared {
    conn: ConnId,
    room: Mutex<RoomName>,
    principal: Principal,
    end: Mutex<End>,
    pub listeners: Listeners,
}

enum End {
    Open(Vec<oneshot::Sender<CloseReason>>),
    Closed(CloseReason),
}

impl Shared {
    pub fn new(conn: ConnId, room: RoomName, principal: Principal) -> Self {
        Shared {
            conn,
            room: Mutex::new(room),
            principal,
            end: Mutex::new(End::Open(Vec::new())),
            listeners: Listeners::default(),
        }
    }

    /// It is in another room from now on.
    pub fn set_room(&self, room: RoomName) {
        *self.room.lock().unwrap_or_else(PoisonError::into_inner) = room;
    }

    /// Tells everybody who waits; only the first reason counts.
    pub fn end(&self, reason: CloseReason) {
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        if let End::Open(waiting) = &mut *end {
            for waiter in waiting.drain(..) {
                drop(waiter.send(reason.clone()));
            }
            *end = End::Closed(reason);
            self.listeners.close();
        }
    }

    fn wait(&self) -> Result<oneshot::Receiver<CloseReason>, CloseReason> {
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *end {
            End::Closed(reason) => Err(reason.clone()),
            End::Open(waiting) => {
                waiting.retain(|waiter| !waiter.is_canceled());
                let (sender, receiver) = oneshot::channel();
                waiting.push(sender);
                Ok(receiver)
            }
        }
    }
}

/// A track that a party sends.
#[derive(Clone, Debug)]
pub struct Produce {
    /// Sound or picture.
    pub kind: Kind,
    /// How it is sent.
    pub rtp: RtpParameters,
    /// It is held back at first.
    pub paused: bool,
    /// The application's own.
    pub app_data: Value,
}

impl Produce {
    /// A track that is forwarded at once.
    pub fn new(kind: Kind, rtp: RtpParameters) -> Self {
        Produce { kind, rtp, paused: false, app_data: Value::Null }
    }
}

/// One member of a room; cheap to clone. Dropping it closes nothing: [`Peer::close`] does.
#[derive(Clone)]
pub struct Peer {
    shared: Arc<Shared>,
    rooms: Rooms,
}

impl Peer {
    pub(super) fn new(shared: Arc<Shared>, rooms: Rooms) -> Self {
        Peer { shared, rooms }
    }

    pub(super) fn rooms(&self) -> &Rooms {
        &self.rooms
    }

    pub(super) fn listeners(&self) -> &Listeners {
        &self.shared.listeners
    }

    /// The connection's id, for log lines, events and API objects.
    pub fn conn(&self) -> ConnId {
        self.shared.conn
    }

    /// The room it is in; it may be moved to another.
    pub fn room(&self) -> RoomName {
        self.shared.room.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Who it is, as far as rights go.
    pub fn principal(&self) -> &Principal {
        &self.shared.principal
    }

    /// Makes a WebRTC transport for it on its room's worker.
    pub async fn create_webrtc_transport(
        &self,
        options: WebRtcOptions,
    ) -> Result<WebRtcTransport, ControlError> {
        let pending = self.rooms.step(|state| state.create_webrtc(self.conn(), options))?;
        read(answer(pending).await?)
    }

    /// Tells the transport the remote's DTLS role and fingerprints, and its ICE credentials where known.
    /// Answers our own role.
    pub async fn connect_webrtc(
        &self,
        transport: TransportId,
        role: DtlsRole,
        fingerprints: Vec<Fingerprint>,
        ice: Option<(String, String)>,
    ) -> Result<DtlsRole, ControlError> {
        let dtls = DtlsParameters { role, fingerprints };
        let (ice, dtls) = self.rooms.step(|state| {
            let mut ask = |method, data| state.ask_transport(self.conn(), transport, method, data);
            let ice = ice.map(|(ufrag, pwd)| {
                let data = json!({"usernameFragment": ufrag, "password": pwd});
                ask(Method::XTransportSetRemoteIce, data)
            });
            let dtls = ask(Method::TransportSetRemoteDtlsParameters, json!(dtls))?;
            Ok((ice.transpose()?, dtls))
        })?;
        if let Some(pending) = ice {
            answer(pending).await?;
        }
        let local = answer(dtls).await?;
        read(local.get("role").cloned().unwrap_or_default())
    }

    /// Gives the transport new ICE credentials.
    pub async fn restart_ice(&self, transport: TransportId) -> Result<IceParameters, ControlError> {
        let method = Method::TransportChangeUfragPwd;
        let ask = |state: &mut State| state.ask_transport(self.conn(), transport, method, json!({}));
        let mut ice: IceParameters = read(answer(self.rooms.step(ask)?).await?)?;
        ice.ice_lite = true;
        Ok(ice)
    }

    /// Tells the transport the remote's ICE credentials, as after an ICE restart.
    pub async fn set_remote_ice(
        &self,
        transport: TransportId,
        ufrag: String,
        pwd: String,
    ) -> Result<(), ControlError> {
        let data = json!({"usernameFragment": ufrag, "password": pwd});
        let method = Method::XTransportSetRemoteIce;
        let pending = self.rooms.step(|state| state.ask_transport(self.conn(), transport, method, data))?;
        answer(pending).await.map(drop)
    }

    /// Makes a track of what the party sends.
    pub async fn produce(&self, transport: TransportId, track: Produce) -> Result<ProducerId, ControlError> {
        let ask = |state: &mut State| state.produce(self.conn(), transport, track);
        let (producer, pending) = self.rooms.step(ask)?;
        answer(pending).await?;
        Ok(producer)
    }

    /// Sends the party the room's program (or the publisher it watches) from now on. `rtp` lists every
    /// codec the party takes, and one encoding with its ssrc.
    pub async fn consume_program(
        &self,
        transport: TransportId,
        kind: Kind,
        rtp: RtpParameters,
    ) -> Result<ConsumerId, ControlError> {
        let ask = |state: &mut State| state.consume(self.conn(), transport, kind, &rtp);
        let (consumer, pending) = self.rooms.step(ask)?;
        answer(pending).await?;
        Ok(consumer)
    }

    /// Hands a stream session to the room's worker. The tracks it announces become producers by themselves.
    pub async fn adopt(
        &self,
        session: Box<dyn Session>,
        socket: Option<OwnedFd>,
    ) -> Result<TransportId, ControlError> {
        let mail = |attach| Mail::Stream { attach, session, socket };
        let (transport, pending) = self.rooms.step(|state| state.adopt(self.conn(), mail))?;
        answer(pending).await?;
        Ok(transport)
    }

    /// Plays `sounds` one after the other to one consumer of sound; a ringback, busy or hold tone goes on while it is
    /// the last. Nothing: stops. The program is heard again when [`Peer::stop_playing`] is called; with `over` it is
    /// heard all the time.
    pub async fn play(
        &self,
        consumer: ConsumerId,
        sounds: Vec<Sound>,
        over: bool,
    ) -> Result<(), ControlError> {
        self.rooms.step(|state| state.play(self.conn(), consumer, sounds, over))
    }

    /// Back to the program.
    pub async fn stop_playing(&self, consumer: ConsumerId) -> Result<(), ControlError> {
        self.play(consumer, Vec::new(), false).await
    }

    /// Plays `sounds` to the room as a track of this peer, which all hear as they hear voices, in place of what it
    /// played before: until they end ([`PeerEvent::PlayedToRoom`](crate::core::control::PeerEvent)) or it leaves.
    /// Nothing: stops. `false`: nothing can be played.
    pub fn play_to_room(&self, sounds: Vec<Sound>) -> bool {
        self.rooms.step(|state| state.play_to_room(self.conn(), sounds))
    }

    /// What the party should be told in words: why a track of the program is not sent to it.
    pub fn notices(&self) -> Vec<String> {
        self.rooms.step(|state| {
            let Ok(peer) = state.member(self.conn()) else { return Vec::new() };
            let refusals = peer.feeds.iter().filter_map(|feed| feed.refusal.as_ref());
            refusals.map(|refused| refused.text.clone()).collect()
        })
    }

    /// Ends it; does nothing when it has ended already.
    pub async fn close(&self, reason: CloseReason) {
        self.rooms.step(|state| state.close_member(self.conn(), reason));
    }

    /// Resolves when the peer is gone, whoever ended it.
    pub async fn closed(&self) -> CloseReason {
        match self.shared.wait() {
            Err(reason) => reason,
            // The sender lives in `shared`, which this handle keeps.
            Ok(receiver) => receiver.await.unwrap_or_else(|_| CloseReason::left()),
        }
    }
}

pub(super) async fn answer(pending: Pending) -> Result<Value, ControlError> {
    pending.await.unwrap_or(Err(ControlError::WorkerLost))
}

pub(super) fn read<T: DeserializeOwned>(value: Value) -> Result<T, ControlError> {
    serde_json::from_value(value).map_err(|error| ControlError::BadAnswer(error.to_string()))
}
