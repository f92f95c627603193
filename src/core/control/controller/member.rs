//! A controller in a room: the room is a router to it, and behind that router stands a peer like any other, by which
//! what it produces is heard by everybody and what it consumes is converted where need be.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use serde_json::{Value, json};

use crate::core::capabilities::{Kind as Media, RtpParameters};
use crate::core::control::controller::channels::{self, Channelled, OnChannel};
use crate::core::control::controller::code::{Code, Fault};
use crate::core::control::controller::scope::{Entity, Kind, Owner};
use crate::core::control::controller::wire::Ask;
use crate::core::control::controller::worker::id_of;
use crate::core::control::controller::{ControllerId, Rest};
use crate::core::control::events::{RoomEvent, RoomEvents, TrackInfo};
use crate::core::control::handle::{Peer, Produce, answer};
use crate::core::control::peer_events::{PeerEvent, PeerEvents};
use crate::core::control::publish::Pending;
use crate::core::control::rooms::Rooms;
use crate::core::control::state::{Answer, State};
use crate::core::id::{ConnId, ConsumerId, ProducerId, TransportId};
use crate::core::message::{Internal, Method, WebRtcOptions};
use crate::core::peer::CloseReason;
use crate::core::plain::PlainOptions;

/// A consumer that is on no transport yet: nothing of it is on a worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unbound {
    kind: Media,
    /// None: the room's program.
    track: Option<ProducerId>,
    paused: bool,
}

/// A request that waits for a worker's answer to the peer.
pub(in crate::core::control) struct Waiting {
    controller: ControllerId,
    /// The attached router, by the controller's id.
    router: u32,
    request: u32,
    method: Method,
    then: Then,
    pending: Pending,
}

/// What an answer means.
pub(super) enum Then {
    Pass,
    Made(u32),
    Ended(u32),
    Consumed(u32, Value),
}

impl Waiting {
    /// Waits for the answer and hands it on.
    pub async fn finish(self, rooms: Rooms) {
        let Waiting { controller, router, request, method, then, pending } = self;
        let answer = answer(pending).await;
        rooms.step(|state| state.member_answered((controller, request), (method, router), then, answer));
    }
}

/// What a session keeps of a room that its controller is in.
pub(super) struct Attachment {
    pub router: u32,
    conn: ConnId,
    room: RoomEvents,
    peer: PeerEvents,
    closed: Pin<Box<dyn Future<Output = CloseReason> + Send>>,
}

impl Attachment {
    pub fn new(router: u32, peer: Peer, room: RoomEvents) -> Self {
        let (conn, events) = (peer.conn(), peer.events());
        Attachment { router, conn, room, peer: events, closed: Box::pin(async move { peer.closed().await }) }
    }

    /// Tells the controller what happened, one thing at a time; `Ready(false)`: it is over.
    pub fn poll(&mut self, cx: &mut Context<'_>, rooms: &Rooms, id: ControllerId) -> Poll<bool> {
        if let Poll::Ready(reason) = self.closed.as_mut().poll(cx) {
            let data = json!({"code": reason.code, "reason": reason.text});
            rooms.step(|state| state.closed(id, self.router, &data));
            return Poll::Ready(false);
        }
        if let Poll::Ready(Some(event)) = self.peer.poll_next(cx) {
            rooms.step(|state| state.member_event(id, event));
            return Poll::Ready(true);
        }
        match self.room.poll_next(cx) {
            Poll::Ready(Some(event)) => {
                rooms.step(|state| state.attached_event(id, (self.router, self.conn), event));
                Poll::Ready(true)
            }
            Poll::Ready(None) => {
                let reason =
                    CloseReason::new("lagged", "the controller did not read what happened in the room");
                rooms.step(|state| state.close_member(self.conn, reason));
                Poll::Ready(true)
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl State {
    /// A request about a router that is a room.
    pub(super) fn member_asked(
        &mut self,
        id: ControllerId,
        (conn, router): (ConnId, u32),
        method: Method,
        (mut ask, internal): (Ask, Internal),
    ) -> Result<Rest, Fault> {
        ask.data.remove("x.connId");
        let data = Value::Object(std::mem::take(&mut ask.data));
        let name = |kind: Kind| id_of(&ask.internal, kind.key()).unwrap_or_default();
        let transport = TransportId(internal.transport_id.unwrap_or_default());
        let producer = ProducerId(internal.producer_id.unwrap_or_default());
        let (then, pending) = match method {
            Method::RouterClose => {
                self.close_member(conn, CloseReason::left());
                return Ok(Rest::Now(Value::Null));
            }
            Method::RouterCreateWebRtcTransport | Method::RouterCreatePlainRtpTransport => {
                let new = name(Kind::Transport);
                self.own(id)?.scope.check_new(new)?;
                let pending = self.member_transport(conn, method, data)?;
                let made = self.member(conn)?.transports.last().map_or(0, |path| path.id.0);
                self.enter_member(id, new, (Kind::Transport, made), (conn, router, None))?;
                (Then::Made(new), pending)
            }
            Method::RouterCreateProducer => {
                let new = name(Kind::Producer);
                self.own(id)?.scope.check_new(new)?;
                let (made, pending) = self.produce(conn, transport, track(&data)?)?;
                let by = Some(name(Kind::Transport));
                self.enter_member(id, new, (Kind::Producer, made.0), (conn, router, by))?;
                (Then::Made(new), pending)
            }
            Method::RouterCreateConsumer => {
                let new = name(Kind::Consumer);
                self.own(id)?.scope.check_new(new)?;
                let unbound = Unbound {
                    kind: read(&data, "kind")?,
                    track: internal.producer_id.map(ProducerId),
                    paused: false,
                };
                // Stands for it until there is a consumer.
                let made = self.dispatcher.allocate();
                self.enter_member(id, new, (Kind::Consumer, made), (conn, router, None))?;
                self.own(id)?.unbound.insert(new, unbound);
                return Ok(Rest::Now(Value::Null));
            }
            Method::ConsumerEnable => {
                let consumer = name(Kind::Consumer);
                let (answer, pending) = self.enable_unbound(id, (conn, transport), consumer, &data)?;
                let by = name(Kind::Transport);
                self.own(id)?.scope.set_transport(consumer, by);
                (Then::Consumed(consumer, answer), pending)
            }
            Method::TransportClose => {
                (Then::Ended(name(Kind::Transport)), self.close_one_transport(conn, transport)?)
            }
            Method::ProducerClose => {
                self.track_of(conn, producer)?;
                self.drop_track(conn, producer);
                self.closed(id, name(Kind::Producer), &asked_for());
                return Ok(Rest::Now(Value::Null));
            }
            Method::ProducerPause | Method::ProducerResume => {
                let paused = method == Method::ProducerPause;
                (Then::Pass, self.pause_track(conn, producer, |track| track.paused = paused)?)
            }
            Method::ProducerDump | Method::ProducerGetStats | Method::ProducerSetPreferredProfile => {
                let owner = self.track(producer).map_or(conn, |(owner, _)| owner);
                (Then::Pass, self.ask_track(owner, producer, method, data)?)
            }
            Method::TransportDump
            | Method::TransportGetStats
            | Method::TransportSetRemoteDtlsParameters
            | Method::TransportSetRemoteParameters
            | Method::TransportSetMaxBitrate
            | Method::TransportChangeUfragPwd
            | Method::TransportStartMirroring
            | Method::TransportStopMirroring
            | Method::XTransportSetRemoteIce => {
                (Then::Pass, self.ask_transport(conn, transport, method, data)?)
            }
            Method::ConsumerClose
            | Method::ConsumerDump
            | Method::ConsumerGetStats
            | Method::ConsumerPause
            | Method::ConsumerResume
            | Method::ConsumerSetPreferredProfile
            | Method::ConsumerSetEncodingPreferences
            | Method::XConsumerSetPreferredLayers
            | Method::XConsumerSetPriority
            | Method::ConsumerRequestKeyFrame
            | Method::XConsumerSendDtmf => {
                return self.member_consumer(
                    id,
                    (conn, router, name(Kind::Consumer)),
                    method,
                    (ask.id, internal, data),
                );
            }
            _ if method.is_of_data_channels() => {
                let on = OnChannel {
                    conn,
                    router,
                    internal: &internal,
                    name: match method.is_of_data_consumers() {
                        true => name(Kind::DataConsumer),
                        false => name(Kind::DataProducer),
                    },
                    transport: id_of(&ask.internal, Kind::Transport.key()),
                    data,
                };
                match self.member_channel(id, method, on)? {
                    Channelled::Done => return Ok(Rest::Now(Value::Null)),
                    Channelled::Later(then, pending) => (then, pending),
                }
            }
            _ => {
                return Err(Fault::new(
                    Code::NotSupported,
                    "a room does not take that; see the requests of rooms",
                ));
            }
        };
        Ok(Rest::Member(Waiting { controller: id, router, request: ask.id, method, then, pending }))
    }

    fn member_transport(&mut self, conn: ConnId, method: Method, data: Value) -> Result<Pending, Fault> {
        if method == Method::RouterCreatePlainRtpTransport {
            let options: PlainOptions = serde_json::from_value(data).map_err(|error| bad("data", &error))?;
            return Ok(self.create_plain(conn, &options)?);
        }
        let flag = |name: &str, default| data.get(name).and_then(Value::as_bool).unwrap_or(default);
        let options = WebRtcOptions {
            udp: flag("udp", true),
            tcp: flag("tcp", true),
            prefer_tcp: flag("preferTcp", false),
            prefer_udp: flag("preferUdp", false),
            prefer_ipv4: flag("preferIPv4", false),
            prefer_ipv6: flag("preferIPv6", false),
            enable_sctp: flag("enableSctp", false),
            receives: false,
        };
        Ok(self.create_webrtc(conn, options)?)
    }

    /// Requests about a consumer, which may be on no transport yet.
    fn member_consumer(
        &mut self,
        id: ControllerId,
        (conn, router, name): (ConnId, u32, u32),
        method: Method,
        (request, internal, data): (u32, Internal, Value),
    ) -> Result<Rest, Fault> {
        let consumer = ConsumerId(internal.consumer_id.unwrap_or_default());
        if let Some(unbound) = self.own(id)?.unbound.get_mut(&name) {
            match method {
                Method::ConsumerPause => unbound.paused = true,
                Method::ConsumerResume => unbound.paused = false,
                Method::ConsumerClose => self.closed(id, name, &asked_for()),
                _ => return Err(Fault::new(Code::Refused, "the consumer is on no transport yet")),
            }
            return Ok(Rest::Now(Value::Null));
        }
        if method == Method::ConsumerClose {
            self.check_feed(conn, consumer)?;
            self.drop_feed(conn, consumer);
            self.closed(id, name, &asked_for());
            return Ok(Rest::Now(Value::Null));
        }
        let pending = self.ask_feed(conn, consumer, method, data)?;
        Ok(Rest::Member(Waiting { controller: id, router, request, method, then: Then::Pass, pending }))
    }

    /// Puts a consumer on a transport: of the program, or of a track, converted where need be.
    fn enable_unbound(
        &mut self,
        id: ControllerId,
        (conn, transport): (ConnId, TransportId),
        name: u32,
        data: &Value,
    ) -> Result<(Value, Pending), Fault> {
        let rtp: RtpParameters = read(data, "rtpParameters")?;
        let found = self.own(id)?.unbound.get(&name).copied();
        let unbound = found.ok_or_else(|| Fault::new(Code::Refused, "Consumer already enabled"))?;
        let (consumer, answer, pending) = match unbound.track {
            None => {
                let (consumer, pending) = self.consume(conn, transport, unbound.kind, &rtp)?;
                (consumer, json!({}), pending)
            }
            Some(track) => {
                let (consumed, pending) = self.consume_track(conn, transport, track, rtp, unbound.paused)?;
                let answer = json!({
                    "rtpParameters": consumed.rtp,
                    "converted": consumed.converted,
                    "producerPaused": consumed.producer_paused,
                    "layers": consumed.layers,
                });
                (consumed.consumer, answer, pending)
            }
        };
        let controller = self.own(id)?;
        controller.unbound.remove(&name);
        controller.scope.rebind(name, consumer.0);
        Ok((answer, pending))
    }

    pub(super) fn enter_member(
        &mut self,
        id: ControllerId,
        name: u32,
        (kind, ours): (Kind, u32),
        (conn, router, transport): (ConnId, u32, Option<u32>),
    ) -> Result<(), Fault> {
        let worker = self.member(conn)?.worker;
        let owner = Owner::Member(conn);
        self.own(id)?.scope.insert(name, Entity { kind, owner, ours, worker, router, transport });
        Ok(())
    }

    fn member_answered(
        &mut self,
        (id, request): (ControllerId, u32),
        (method, router): (Method, u32),
        then: Then,
        answer: Answer,
    ) {
        let result = match (then, answer) {
            (Then::Consumed(name, _) | Then::Made(name), Err(error)) => {
                self.take_out(id, name);
                Err(error.into())
            }
            (_, Err(error)) => Err(Fault::from(error)),
            (Then::Consumed(_, answer), Ok(_)) => Ok(answer),
            (Then::Ended(name), Ok(data)) => {
                self.closed(id, name, &asked_for());
                Ok(data)
            }
            (Then::Pass | Then::Made(_), Ok(mut data)) => {
                self.translate(id, (method, Some(router)), &mut data);
                Ok(data)
            }
        };
        self.controllers.answer(id, request, &result);
    }

    /// Something happened to the peer behind an attached router.
    fn member_event(&mut self, id: ControllerId, event: PeerEvent) {
        let ended = |reason: &CloseReason| json!({"code": reason.code, "reason": reason.text});
        let (ours, event, data) = match event {
            PeerEvent::Dtmf { transport, digit, duration_ms } => {
                (transport.0, "x.dtmf", json!({"digit": digit, "duration": duration_ms}))
            }
            PeerEvent::MediaStarted { transport } => (transport.0, "x.mediastarted", Value::Null),
            PeerEvent::OneWay { transport, text } => (transport.0, "x.oneway", json!({"text": text})),
            PeerEvent::MediaTimeout { transport } => (transport.0, "x.mediatimeout", Value::Null),
            PeerEvent::KeyframeRequested { transport } => (transport.0, "x.keyframerequest", Value::Null),
            PeerEvent::IceState { transport, state } => {
                (transport.0, "icestatechange", json!({"iceState": state}))
            }
            PeerEvent::DtlsState { transport, state } => {
                (transport.0, "dtlsstatechange", json!({"dtlsState": state}))
            }
            PeerEvent::SctpState { transport, state } => {
                (transport.0, "x.sctpstatechange", json!({"sctpState": state}))
            }
            PeerEvent::TransportClosed { transport, reason } => (transport.0, "close", ended(&reason)),
            PeerEvent::ConsumerClosed { consumer, reason } => (consumer.0, "close", ended(&reason)),
            PeerEvent::ConsumerPaused { consumer } => (consumer.0, "sourcepaused", Value::Null),
            PeerEvent::ConsumerResumed { consumer } => (consumer.0, "sourceresumed", Value::Null),
            PeerEvent::EffectiveProfile { consumer, profile } => {
                (consumer.0, "effectiveprofilechange", json!({"profile": profile}))
            }
            PeerEvent::LayersChanged { consumer, layers } => {
                let layers = layers
                    .map(|(spatial, temporal)| json!({"spatialLayer": spatial, "temporalLayer": temporal}));
                (consumer.0, "x.layerschange", layers.unwrap_or_default())
            }
            PeerEvent::PlayEnded { consumer } => (consumer.0, "x.playend", Value::Null),
            PeerEvent::ConsumerScore { consumer, score } => (consumer.0, "x.score", score),
            PeerEvent::ProducerScore { producer, score } => (producer.0, "x.score", score),
            PeerEvent::ProducerClosed { producer, reason } => (producer.0, "close", ended(&reason)),
            PeerEvent::ProducerPaused { producer } => (producer.0, "x.pausechange", json!({"paused": true})),
            PeerEvent::ProducerResumed { producer } => {
                (producer.0, "x.pausechange", json!({"paused": false}))
            }
            channels => match channels::told(channels) {
                Some(told) => told,
                None => return,
            },
        };
        self.controlled_event(id, ours, event, data);
    }

    /// Something happened in a room that a controller is in: tracks of others can be consumed by ids of its own.
    fn attached_event(&mut self, id: ControllerId, (router, own): (u32, ConnId), event: RoomEvent) {
        match event {
            RoomEvent::TrackAdded(track) if track.conn != own => {
                let Ok(worker) = self.member(own).map(|peer| peer.worker) else { return };
                let Some(controller) = self.controllers.list.get_mut(&id) else { return };
                let name = controller.scope.give();
                let (kind, owner, ours) = (Kind::Producer, Owner::Room(track.conn), track.producer.0);
                controller.scope.insert(name, Entity { kind, owner, ours, worker, router, transport: None });
                self.tell_track(id, (router, name), "trackadded", &track);
            }
            RoomEvent::TrackChanged(track) if track.conn != own => {
                if let Some(name) = self.seen(id, router, track.producer.0) {
                    self.tell_track(id, (router, name), "trackchanged", &track);
                }
            }
            RoomEvent::TrackRemoved { conn, producer } if conn != own => {
                self.unseen(id, router, producer.0, "its peer sends it no more");
            }
            RoomEvent::DataAdded(info) if info.conn != own => self.channel_seen(id, (router, own), &info),
            RoomEvent::DataRemoved { conn, data_producer } if conn != own => {
                self.unseen(id, router, data_producer.0, "its peer closed the data channel");
            }
            _ => {}
        }
    }

    /// By what id a controller knows something of somebody else's in a room that it is in.
    fn seen(&self, id: ControllerId, router: u32, ours: u32) -> Option<u32> {
        self.controllers.list.get(&id)?.scope.seen(router, ours)
    }

    /// Something of somebody else's is gone.
    fn unseen(&mut self, id: ControllerId, router: u32, ours: u32, why: &str) {
        if let Some(name) = self.seen(id, router, ours) {
            self.closed(id, name, &json!({"code": "track_ended", "reason": why}));
        }
    }

    fn tell_track(&mut self, id: ControllerId, (router, name): (u32, u32), event: &str, track: &TrackInfo) {
        let mut data = super::watch::of_track(track);
        data["producerId"] = name.into();
        self.controllers.tell(id, router, event, &data);
    }
}

/// The track that a request describes.
fn track(data: &Value) -> Result<Produce, Fault> {
    let paused = data.get("paused").and_then(Value::as_bool).unwrap_or(false);
    let app_data = data.get("appData").cloned().unwrap_or_default();
    Ok(Produce { kind: read(data, "kind")?, rtp: read(data, "rtpParameters")?, paused, app_data })
}

pub(super) fn asked_for() -> Value {
    json!({"code": "closed", "reason": "closed as it was asked"})
}

/// A field of the data.
pub(super) fn read<T: serde::de::DeserializeOwned>(data: &Value, name: &str) -> Result<T, Fault> {
    T::deserialize(data.get(name).unwrap_or(&Value::Null))
        .map_err(|error| bad(&format!("data.{name}"), &error))
}

fn bad(what: &str, error: &serde_json::Error) -> Fault {
    Fault::new(Code::BadData, format!("{what}: {error}"))
}
