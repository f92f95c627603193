//! The v3 room dialect, as mediasoup's demo speaks it and mediasoup-client 3 is used with it: the client asks
//! for transports and sends tracks, the server hands it a consumer for every track of the others.
//!
//! | requests of the client | requests of the server | notifications of the server |
//! | --- | --- | --- |
//! | `getRouterRtpCapabilities`, `join`, `changeDisplayName` | | `newPeer`, `peerClosed`, `peerDisplayNameChanged`, `activeSpeaker` |
//! | `createWebRtcTransport`, `connectWebRtcTransport`, `restartIce` | | `transportClosed` |
//! | `produce`, `closeProducer`, `pauseProducer`, `resumeProducer` | | `producerScore`, `producerClosed`, `producerPaused`, `producerResumed` |
//! | `pauseConsumer`, `resumeConsumer`, `setConsumerPreferredLayers`, `setConsumerPriority`, `requestConsumerKeyFrame` | `newConsumer` | `consumerClosed`, `consumerPaused`, `consumerResumed`, `consumerLayersChanged`, `consumerScore` |
//! | `produceData`, `closeDataProducer` | `newDataConsumer` | `dataProducerClosed`, `dataConsumerClosed` |
//! | `getTransportStats`, `getProducerStats`, `getConsumerStats`, `getDataProducerStats`, `getDataConsumerStats` | | |
//!
//! Beyond the demo: `transportClosed`, `producerClosed`, `producerPaused`, `producerResumed` and
//! `dataProducerClosed` tell of what somebody else did to the client's own things. A client has a place in the room from its
//! first transport on; the others are told of it when it joins.

mod consumers;
mod messages;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tracing::debug;

use super::asks::{Answer, Ask, Entry};
use super::view::{Seen, View};
use super::{Answered, Link as BaseLink, Protocol, RequestId, nothing};
use crate::core::capabilities::ortc::{Capabilities, Rule};
use crate::core::control::{DtlsParameters, PeerEvent, Produce, RoomEvent, WebRtcOptions, WebRtcTransport};
use crate::core::id::{ConnId, ConsumerId, DataConsumerId, DataProducerId, ProducerId, TransportId};
use crate::core::peer::CloseReason;
use crate::core::session::DtlsRole;
use crate::rooms::error::Refusal;
use consumers::Consumers;

/// The longest name for people, in characters.
const MAX_NAME: usize = 64;
/// Requests that may wait for the client's place in the room.
const MAX_WAITING: usize = 16;

type Link = BaseLink<Then>;

/// What to do when the room, or the client, has answered.
#[derive(Debug)]
pub enum Then {
    /// The client has its place, or not.
    Entered,
    /// Nothing, but a refusal is worth a line.
    Nothing,
    /// Respond that it is done.
    Respond(RequestId),
    /// Respond with statistics.
    Stats(RequestId),
    /// The client is announced.
    Joined(RequestId),
    /// A transport stands; whether it is for what the client receives.
    TransportMade(RequestId, bool),
    /// New ICE credentials.
    Restarted(RequestId),
    /// A track stands.
    Produced(RequestId),
    /// A data producer stands.
    DataProduced(RequestId),
    /// A consumer of this track stands.
    Consumed(ProducerId),
    /// The client knows the consumer.
    Accepted(ConsumerId),
    /// A data consumer stands.
    DataConsumed(DataProducerId),
    /// The client knows the data consumer.
    DataAccepted(DataConsumerId),
}

/// See the module.
pub struct V3 {
    peer: String,
    room: Arc<Capabilities>,
    may_publish: bool,
    place: Place,
}

/// Where the client is.
enum Place {
    Outside,
    /// On its way in, and the requests that wait for it.
    Entering(Vec<(RequestId, String, Value)>, View),
    Inside(Box<Inside>),
}

/// A client that has its place in the room.
struct Inside {
    conn: ConnId,
    name: String,
    view: View,
    /// What it takes, once it has joined.
    joined: Option<Joined>,
    /// By which transport it receives.
    receives: Option<TransportId>,
    transports: HashSet<TransportId>,
    producers: HashSet<ProducerId>,
    data_producers: HashSet<DataProducerId>,
    consumers: Consumers,
}

struct Joined {
    takes: Capabilities,
    data: bool,
}

impl V3 {
    /// A client called `peer` of a room that offers `room`.
    pub fn new(peer: String, room: Arc<Capabilities>, may_publish: bool) -> Self {
        V3 { peer, room, may_publish, place: Place::Outside }
    }

    fn inside(&mut self) -> Result<&mut Inside, Refusal> {
        match &mut self.place {
            Place::Inside(inside) => Ok(inside),
            _ => Err(Refusal::new(409, "make a transport first")),
        }
    }

    /// Has a request wait for the client's place in the room.
    fn enter(&mut self, link: &mut Link, id: RequestId, method: &str, data: Value) -> Result<(), Refusal> {
        if let Place::Outside = self.place {
            let name = self.peer.clone();
            let entry =
                Entry { name, display_name: None, app_data: Value::Null, spy: false, announced: false };
            link.ask(Ask::Join(entry), Then::Entered);
            self.place = Place::Entering(Vec::new(), View::default());
        }
        let Place::Entering(waiting, _) = &mut self.place else { return Ok(()) };
        if waiting.len() >= MAX_WAITING {
            return Err(Refusal::new(429, "too many requests before the room has let the client in"));
        }
        waiting.push((id, method.to_owned(), data));
        Ok(())
    }

    fn entered(&mut self, link: &mut Link, answer: Answered) {
        let Place::Entering(waiting, mut view) = std::mem::replace(&mut self.place, Place::Outside) else {
            return;
        };
        match answer {
            Ok(Answer::Joined(conn)) => {
                view.left(conn);
                self.place = Place::Inside(Box::new(Inside::new(conn, self.peer.clone(), view)));
                for (id, method, data) in waiting {
                    self.request(link, id, &method, data);
                }
            }
            other => {
                let refusal = other.err().unwrap_or_else(unexpected);
                for (id, ..) in waiting {
                    link.respond(id, Err(refusal.clone()));
                }
            }
        }
    }

    fn handle(&mut self, link: &mut Link, id: RequestId, method: &str, data: Value) -> Result<(), Refusal> {
        match method {
            "getRouterRtpCapabilities" => {
                link.respond(id, Ok(self.room.to_v3()));
                return Ok(());
            }
            "createWebRtcTransport" | "join" if !matches!(self.place, Place::Inside(_)) => {
                return self.enter(link, id, method, data);
            }
            "join" => {
                let room = self.room.clone();
                return self.inside()?.join(link, id, &room, read(data)?);
            }
            "produce" | "produceData" if !self.may_publish => {
                return Err(Refusal::new(403, "the key or token does not allow sending into this room"));
            }
            "produce" => {
                let room = self.room.clone();
                return self.inside()?.produce(link, id, &room, read(data)?);
            }
            _ => {}
        }
        let inside = self.inside()?;
        match method {
            "createWebRtcTransport" => inside.create_transport(link, id, &read(data)?),
            "connectWebRtcTransport" => inside.connect_transport(link, id, read(data)?),
            "restartIce" => {
                let transport = inside.transport(read::<messages::TransportRef>(data)?.transport_id)?;
                link.ask(Ask::RestartIce(transport), Then::Restarted(id));
                Ok(())
            }
            "changeDisplayName" => {
                let name = display_name(read::<messages::DisplayName>(data)?.display_name)?;
                link.ask(Ask::Rename(Some(name)), Then::Respond(id));
                Ok(())
            }
            "closeProducer" | "pauseProducer" | "resumeProducer" | "getProducerStats" => {
                let number = read::<messages::ProducerRef>(data)?.producer_id;
                inside.about_producer(link, id, method, number)
            }
            "pauseConsumer" | "resumeConsumer" | "requestConsumerKeyFrame" | "getConsumerStats" => {
                let number = read::<messages::ConsumerRef>(data)?.consumer_id;
                inside.consumers.about(link, id, method, number)
            }
            "setConsumerPreferredLayers" => {
                let wanted: messages::Layers = read(data)?;
                let consumer = inside.consumers.known(wanted.consumer_id)?;
                link.ask(
                    Ask::PreferLayers(consumer, wanted.spatial_layer, wanted.temporal_layer),
                    Then::Respond(id),
                );
                Ok(())
            }
            "setConsumerPriority" => {
                let wanted: messages::Priority = read(data)?;
                let consumer = inside.consumers.known(wanted.consumer_id)?;
                link.ask(Ask::SetPriority(consumer, wanted.priority), Then::Respond(id));
                Ok(())
            }
            "produceData" => inside.produce_data(link, id, read(data)?),
            "closeDataProducer" | "getDataProducerStats" => {
                let number = read::<messages::DataProducerRef>(data)?.data_producer_id;
                inside.about_data_producer(link, id, method, number)
            }
            "getDataConsumerStats" => {
                let number = read::<messages::DataConsumerRef>(data)?.data_consumer_id;
                let consumer = inside.consumers.known_data(number)?;
                link.ask(Ask::DataConsumerStats(consumer), Then::Stats(id));
                Ok(())
            }
            "getTransportStats" => {
                let transport = inside.transport(read::<messages::TransportRef>(data)?.transport_id)?;
                link.ask(Ask::TransportStats(transport), Then::Stats(id));
                Ok(())
            }
            _ => Err(Refusal::bad(format!("unknown request method {method:?}"))),
        }
    }
}

impl Protocol for V3 {
    type Then = Then;

    fn request(&mut self, link: &mut Link, id: RequestId, method: &str, data: Value) {
        if let Err(refusal) = self.handle(link, id, method, data) {
            link.respond(id, Err(refusal));
        }
    }

    fn notification(&mut self, _: &mut Link, method: &str, _: Value) {
        debug!(method, "a notification of a client led to nothing: the dialect has none");
    }

    fn answered(&mut self, link: &mut Link, then: Then, answer: Answered) {
        match then {
            Then::Entered => return self.entered(link, answer),
            Then::Nothing => {
                if let Err(refusal) = answer {
                    debug!(%refusal, "the room refused what a client wanted");
                }
                return;
            }
            Then::Respond(request) => return link.respond(request, answer.map(|_| nothing())),
            Then::Stats(request) => {
                return respond(link, request, answer, |answer| match answer {
                    Answer::Value(value) => Some(value),
                    _ => None,
                });
            }
            Then::Restarted(request) => {
                return respond(link, request, answer, |answer| match answer {
                    Answer::Ice(ice) => Some(json!(ice)),
                    _ => None,
                });
            }
            _ => {}
        }
        let Ok(inside) = self.inside() else { return };
        match then {
            Then::Joined(request) => inside.has_joined(link, request, answer),
            Then::TransportMade(request, consuming) => {
                inside.transport_made(link, request, consuming, answer)
            }
            Then::Produced(request) => inside.produced(link, request, answer),
            Then::DataProduced(request) => inside.data_produced(link, request, answer),
            Then::Consumed(track) => inside.consumers.consumed(link, &inside.view, track, answer),
            Then::DataConsumed(producer) => {
                inside.consumers.data_consumed(link, &inside.view, producer, answer)
            }
            _ => {}
        }
    }

    fn responded(&mut self, link: &mut Link, then: Then, response: Result<Value, Refusal>) {
        let Ok(inside) = self.inside() else { return };
        match then {
            Then::Accepted(consumer) => inside.consumers.accepted(link, consumer, response),
            Then::DataAccepted(consumer) => inside.consumers.data_accepted(link, consumer, response),
            _ => {}
        }
    }

    fn room_event(&mut self, link: &mut Link, event: RoomEvent) {
        match &mut self.place {
            Place::Outside => {}
            Place::Entering(_, view) => {
                view.take(event);
            }
            Place::Inside(inside) => inside.room_event(link, event),
        }
    }

    fn own_event(&mut self, link: &mut Link, event: PeerEvent) {
        if let Ok(inside) = self.inside() {
            inside.own_event(link, event);
        }
    }

    fn left(&mut self, link: &mut Link, reason: &CloseReason) {
        if let Place::Entering(waiting, _) = std::mem::replace(&mut self.place, Place::Outside) {
            for (id, ..) in waiting {
                link.respond(id, Err(Refusal::new(410, reason.text.clone())));
            }
        }
    }

    fn timeout(&mut self, _: &mut Link) {}

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn is_inside(&self) -> bool {
        match &self.place {
            Place::Outside => false,
            Place::Entering(..) => true,
            // Whoever has a place and does not join is as good as outside.
            Place::Inside(inside) => inside.joined.is_some(),
        }
    }
}

impl Inside {
    fn new(conn: ConnId, name: String, view: View) -> Self {
        Inside {
            conn,
            name,
            view,
            joined: None,
            receives: None,
            transports: HashSet::new(),
            producers: HashSet::new(),
            data_producers: HashSet::new(),
            consumers: Consumers::default(),
        }
    }

    fn transport(&self, number: u32) -> Result<TransportId, Refusal> {
        let id = TransportId(number);
        self.transports.contains(&id).then_some(id).ok_or_else(|| Refusal::unknown("transport", number))
    }

    fn join(
        &mut self,
        link: &mut Link,
        id: RequestId,
        room: &Capabilities,
        data: messages::Join,
    ) -> Result<(), Refusal> {
        if self.joined.is_some() {
            return Err(Refusal::new(409, "the client has joined already"));
        }
        let theirs = data.rtp_capabilities.unwrap_or_default();
        let takes = room.receivable(&theirs, Rule::Common)?;
        let name = display_name(data.display_name)?;
        self.joined =
            Some(Joined { takes, data: data.sctp_capabilities.is_some_and(|caps| !caps.is_null()) });
        link.ask(Ask::Announce(Some(name), json!({"device": data.device})), Then::Joined(id));
        Ok(())
    }

    fn has_joined(&mut self, link: &mut Link, request: RequestId, answer: Answered) {
        if let Err(refusal) = answer {
            self.joined = None;
            return link.respond(request, Err(refusal));
        }
        let peers: Vec<Value> = self.view.peers().into_iter().map(peer).collect();
        link.respond(request, Ok(json!({ "peers": peers })));
        if self.view.has_speaker() {
            self.tell_speaker(link);
        }
        self.consume_all(link);
    }

    fn create_transport(
        &mut self,
        link: &mut Link,
        id: RequestId,
        data: &messages::CreateTransport,
    ) -> Result<(), Refusal> {
        let enable_sctp = data.sctp_capabilities.as_ref().is_some_and(|caps| !caps.is_null());
        let receives = data.consuming && data.producing == Some(false);
        let options =
            WebRtcOptions { udp: !data.force_tcp, enable_sctp, receives, ..WebRtcOptions::default() };
        link.ask(Ask::CreateTransport(options), Then::TransportMade(id, data.consuming));
        Ok(())
    }

    fn transport_made(&mut self, link: &mut Link, request: RequestId, consuming: bool, answer: Answered) {
        if let Ok(Answer::Transport(made)) = &answer {
            self.transports.insert(made.id);
            if consuming {
                self.receives = Some(made.id);
            }
        }
        respond(link, request, answer, |answer| match answer {
            Answer::Transport(made) => Some(transport(&made)),
            _ => None,
        });
        self.consume_all(link);
    }

    fn connect_transport(
        &mut self,
        link: &mut Link,
        id: RequestId,
        data: messages::ConnectTransport,
    ) -> Result<(), Refusal> {
        let transport = self.transport(data.transport_id)?;
        let DtlsParameters { role, fingerprints } = data.dtls_parameters;
        link.ask(Ask::ConnectTransport(transport, role, fingerprints), Then::Respond(id));
        Ok(())
    }

    fn produce(
        &mut self,
        link: &mut Link,
        id: RequestId,
        room: &Capabilities,
        data: messages::Produce,
    ) -> Result<(), Refusal> {
        self.must_have_joined()?;
        let transport = self.transport(data.transport_id)?;
        let rtp = room.produced(data.kind, data.rtp_parameters)?;
        let track = Produce { kind: data.kind, rtp, paused: data.paused, app_data: data.app_data };
        link.ask(Ask::Produce(transport, track), Then::Produced(id));
        Ok(())
    }

    fn produced(&mut self, link: &mut Link, request: RequestId, answer: Answered) {
        if let Ok(Answer::Producer(id)) = &answer {
            self.producers.insert(*id);
        }
        respond(link, request, answer, made);
    }

    fn produce_data(
        &mut self,
        link: &mut Link,
        id: RequestId,
        data: messages::ProduceData,
    ) -> Result<(), Refusal> {
        self.must_have_joined()?;
        let transport = self.transport(data.transport_id)?;
        let messages::ProduceData { sctp_stream_parameters, label, protocol, app_data, .. } = data;
        let ask =
            Ask::ProduceData { transport, parameters: sctp_stream_parameters, label, protocol, app_data };
        link.ask(ask, Then::DataProduced(id));
        Ok(())
    }

    fn data_produced(&mut self, link: &mut Link, request: RequestId, answer: Answered) {
        if let Ok(Answer::DataProducer(id)) = &answer {
            self.data_producers.insert(*id);
        }
        respond(link, request, answer, made);
    }

    fn about_producer(
        &mut self,
        link: &mut Link,
        id: RequestId,
        method: &str,
        number: u32,
    ) -> Result<(), Refusal> {
        let producer = ProducerId(number);
        if !self.producers.contains(&producer) {
            return Err(Refusal::unknown("producer", number));
        }
        let (ask, then) = match method {
            "pauseProducer" => (Ask::PauseProducer(producer), Then::Respond(id)),
            "resumeProducer" => (Ask::ResumeProducer(producer), Then::Respond(id)),
            "getProducerStats" => (Ask::ProducerStats(producer), Then::Stats(id)),
            _ => {
                self.producers.remove(&producer);
                (Ask::CloseProducer(producer), Then::Respond(id))
            }
        };
        link.ask(ask, then);
        Ok(())
    }

    fn about_data_producer(
        &mut self,
        link: &mut Link,
        id: RequestId,
        method: &str,
        number: u32,
    ) -> Result<(), Refusal> {
        let producer = DataProducerId(number);
        if !self.data_producers.contains(&producer) {
            return Err(Refusal::unknown("data producer", number));
        }
        if method == "getDataProducerStats" {
            link.ask(Ask::DataProducerStats(producer), Then::Stats(id));
        } else {
            self.data_producers.remove(&producer);
            link.ask(Ask::CloseDataProducer(producer), Then::Respond(id));
        }
        Ok(())
    }

    fn must_have_joined(&self) -> Result<(), Refusal> {
        self.joined.as_ref().map(drop).ok_or_else(|| Refusal::new(409, "join the room first"))
    }

    /// Consumes whatever is in the room and not consumed yet.
    fn consume_all(&mut self, link: &mut Link) {
        let (Some(joined), Some(transport)) = (&self.joined, self.receives) else { return };
        for seen in self.view.peers() {
            for track in &seen.tracks {
                self.consumers.consume(link, &joined.takes, transport, track);
            }
            for data in seen.channels.iter().filter(|_| joined.data) {
                self.consumers.consume_data(link, transport, data.id);
            }
        }
    }

    fn room_event(&mut self, link: &mut Link, event: RoomEvent) {
        let told = self.joined.is_some();
        match event {
            RoomEvent::PeerJoined(info) if info.conn == self.conn => {}
            RoomEvent::PeerJoined(info) => {
                if let Some(seen) = self.view.joined(info).filter(|_| told) {
                    link.notify("newPeer", peer(seen));
                }
            }
            RoomEvent::PeerChanged(info) => {
                let changed = self.view.changed(info).filter(|(seen, former)| seen.display_name() != former);
                if let Some((seen, former)) = changed.filter(|_| told) {
                    let data = json!({"peerId": seen.name, "displayName": seen.display_name(), "oldDisplayName": former});
                    link.notify("peerDisplayNameChanged", data);
                }
            }
            RoomEvent::PeerLeft { conn, .. } => {
                if let Some(seen) = self.view.left(conn).filter(|_| told) {
                    link.notify("peerClosed", json!({"peerId": seen.name}));
                }
            }
            speaks @ RoomEvent::ActiveSpeaker(_) => {
                self.view.take(speaks);
                if told {
                    self.tell_speaker(link);
                }
            }
            RoomEvent::Call(call) if told => link.notify("callState", self.view.call(&call, "peerId")),
            other => {
                match &other {
                    RoomEvent::TrackRemoved { producer, .. } => self.consumers.track_gone(*producer),
                    RoomEvent::DataRemoved { data_producer, .. } => {
                        self.consumers.channel_gone(*data_producer)
                    }
                    _ => {}
                }
                self.view.take(other);
                self.consume_all(link);
            }
        }
    }

    fn tell_speaker(&self, link: &mut Link) {
        let name = self.view.speaker((Some(self.conn), &self.name));
        link.notify("activeSpeaker", json!({ "peerId": name }));
    }

    fn own_event(&mut self, link: &mut Link, event: PeerEvent) {
        match event {
            PeerEvent::TransportClosed { transport, reason } => {
                self.transports.remove(&transport);
                if self.receives == Some(transport) {
                    self.receives = None;
                }
                let data = json!({"transportId": transport.to_string(), "reason": reason.text});
                link.notify("transportClosed", data);
            }
            PeerEvent::ProducerClosed { producer, .. } if self.producers.remove(&producer) => {
                link.notify("producerClosed", json!({"producerId": producer.to_string()}));
            }
            PeerEvent::ProducerPaused { producer } => {
                link.notify("producerPaused", json!({"producerId": producer.to_string()}));
            }
            PeerEvent::ProducerResumed { producer } => {
                link.notify("producerResumed", json!({"producerId": producer.to_string()}));
            }
            PeerEvent::Moved { room } => link.notify("moved", json!({"roomId": room})),
            PeerEvent::ProducerScore { producer, score } => {
                let data = json!({"producerId": producer.to_string(), "score": score["scores"]});
                link.notify("producerScore", data);
            }
            PeerEvent::DataProducerClosed(producer) if self.data_producers.remove(&producer) => {
                link.notify("dataProducerClosed", json!({"dataProducerId": producer.to_string()}));
            }
            other => self.consumers.own_event(link, other),
        }
    }
}

/// A peer as clients read it.
fn peer(seen: &Seen) -> Value {
    json!({"id": seen.name, "displayName": seen.display_name(), "device": seen.device()})
}

/// A transport as clients read it, before and after 3.20.
fn transport(made: &WebRtcTransport) -> Value {
    let candidates = made.candidates.iter().map(|candidate| {
        let mut json = json!(candidate);
        json["address"] = json["ip"].clone();
        json
    });
    let candidates: Vec<Value> = candidates.collect();
    // Our role follows the client's.
    let dtls = json!({"role": DtlsRole::Auto, "fingerprints": made.dtls.fingerprints});
    let mut json = Map::new();
    json.insert("id".into(), made.id.to_string().into());
    json.insert("iceParameters".into(), json!(made.ice));
    json.insert("iceCandidates".into(), candidates.into());
    json.insert("dtlsParameters".into(), dtls);
    if let Some(sctp) = &made.sctp {
        json.insert("sctpParameters".into(), json!(sctp));
    }
    json.into()
}

fn display_name(name: String) -> Result<String, Refusal> {
    let length = name.chars().count();
    if length == 0 || length > MAX_NAME || name.chars().any(char::is_control) {
        return Err(Refusal::bad(format!("displayName must have 1 to {MAX_NAME} printable characters")));
    }
    Ok(name)
}

fn respond(
    link: &mut Link,
    request: RequestId,
    answer: Answered,
    read: impl FnOnce(Answer) -> Option<Value>,
) {
    link.respond(request, answer.and_then(|answer| read(answer).ok_or_else(unexpected)));
}

/// The id of what was made.
fn made(answer: Answer) -> Option<Value> {
    match answer {
        Answer::Producer(id) => Some(json!({"id": id.to_string()})),
        Answer::DataProducer(id) => Some(json!({"id": id.to_string()})),
        _ => None,
    }
}

fn unexpected() -> Refusal {
    Refusal::new(500, "the room answered something else")
}

/// The fields of a message.
fn read<T: DeserializeOwned>(data: Value) -> Result<T, Refusal> {
    serde_json::from_value(data).map_err(|error| Refusal::bad(format!("wrong or missing field: {error}")))
}
