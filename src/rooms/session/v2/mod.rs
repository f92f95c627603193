//! The v2 room protocol, as mediasoup-client 2.4.12 speaks it: one `mediasoup-request` for each request,
//! `mediasoup-notification` for notifications both ways, in which `method` says what it is.
//!
//! | requests | notifications in | notifications out |
//! | --- | --- | --- |
//! | `queryRoom`, `join` | `leave` | `closed`, `newPeer`, `peerClosed` |
//! | `createTransport`, `restartTransport` | `updateTransport`, `closeTransport` | `transportClosed` |
//! | `createProducer` | `pauseProducer`, `resumeProducer`, `closeProducer` | `producerPaused`, `producerResumed`, `producerClosed` |
//! | `enableConsumer` | `pauseConsumer`, `resumeConsumer`, `setConsumerPreferredProfile` | `newConsumer`, `consumerClosed`, `consumerPaused`, `consumerResumed`, `consumerPreferredProfileSet`, `consumerEffectiveProfileChanged` |
//! | | `enable…Stats`, `disable…Stats` of transports, producers and consumers | `transportStats`, `producerStats`, `consumerStats` |
//!
//! Beside them the application messages of the protocol's own example: requests `change-display-name`,
//! `change-consumer-preferred-profile`, `request-consumer-keyframe`; notifications `active-speaker`,
//! `display-name-changed`. Ids of transports and producers are the client's and mean nothing beyond it.
//! `updateProducer`, which 2.5.6 took out, is not known.

mod consumers;
mod messages;
mod producers;
mod stats;
mod transports;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tracing::debug;

use super::asks::{Answer, Ask, Entry};
use super::view::{Seen, View};
use super::{Answered, Link as BaseLink, Protocol, RequestId, nothing};
use crate::core::capabilities::ortc::{Capabilities, Rule};
use crate::core::control::{PeerEvent, RoomEvent, WebRtcTransport};
use crate::core::id::{ConnId, ConsumerId};
use crate::core::peer::CloseReason;
use crate::core::profile::Profile;
use crate::rooms::error::Refusal;
use consumers::Consumer;
use messages::Join;
use producers::Producer;
use stats::{Stats, Subject};
use transports::Transport;

/// The longest name of a peer, in characters.
const MAX_NAME: usize = 64;

type Link = BaseLink<Then>;

/// What to do when the room has answered.
#[derive(Debug)]
pub enum Then {
    /// The client is in the room, or not.
    Joined,
    /// Nothing; a failure is only logged.
    Nothing,
    /// This request has its answer, which says nothing more.
    Respond(RequestId),
    /// A transport stands.
    TransportMade(RequestId, u32),
    /// It knows the client's certificate, which came with the request for it.
    TransportConnected(RequestId, u32, Box<WebRtcTransport>),
    /// It was told the client's certificate.
    TransportUpdated(u32),
    /// It has new credentials.
    TransportRestarted(RequestId),
    /// A track stands.
    Produced(RequestId, u32),
    /// A consumer stands.
    Enabled(RequestId, u32),
    /// Statistics.
    Stats(Subject, u32),
}

/// See the module.
pub struct V2 {
    room: Arc<Capabilities>,
    may_publish: bool,
    inside: Option<Box<Inside>>,
}

/// The client's side of a room, from asking to join until it leaves.
struct Inside {
    /// The request to join, while it is under way.
    joining: Option<RequestId>,
    /// It left before it was in.
    leaving: bool,
    conn: Option<ConnId>,
    name: String,
    /// It may send.
    publishes: bool,
    takes: Capabilities,
    view: View,
    transports: HashMap<u32, Transport>,
    producers: HashMap<u32, Producer>,
    consumers: HashMap<u32, Consumer>,
    /// What flows already by consumers whose answer is still to come.
    early: HashMap<ConsumerId, Profile>,
    stats: Stats,
}

impl V2 {
    /// A client of a room that offers `room`.
    pub fn new(room: Arc<Capabilities>, may_publish: bool) -> Self {
        V2 { room, may_publish, inside: None }
    }

    fn join(&mut self, link: &mut Link, id: RequestId, data: Value) -> Result<(), Refusal> {
        if self.inside.is_some() {
            return Err(Refusal::new(409, "this connection is in the room already"));
        }
        let join: Join = read(data)?;
        check_name(&join.peer_name)?;
        let takes = self.room.receivable(&join.rtp_capabilities, Rule::Subset)?;
        let display_name = join.app_data.get("displayName").and_then(Value::as_str).map(str::to_owned);
        let publishes = self.may_publish && !join.spy;
        let entry = Entry {
            name: join.peer_name.clone(),
            display_name,
            app_data: join.app_data,
            spy: join.spy,
            announced: true,
        };
        self.inside = Some(Box::new(Inside {
            joining: Some(id),
            leaving: false,
            conn: None,
            name: join.peer_name,
            publishes,
            takes,
            view: View::default(),
            transports: HashMap::new(),
            producers: HashMap::new(),
            consumers: HashMap::new(),
            early: HashMap::new(),
            stats: Stats::default(),
        }));
        link.ask(Ask::Join(entry), Then::Joined);
        Ok(())
    }

    fn joined(&mut self, link: &mut Link, answer: Answered) {
        let Some(inside) = &mut self.inside else { return };
        let Some(request) = inside.joining.take() else { return };
        match answer {
            Ok(Answer::Joined(conn)) => {
                inside.conn = Some(conn);
                // It was told of itself before it knew who it is.
                inside.view.left(conn);
                let peers = inside.introduce(link);
                link.respond(request, Ok(json!({"peers": peers})));
                if inside.view.has_speaker() {
                    inside.tell_speaker(link);
                }
                if inside.leaving {
                    self.leave(link);
                }
            }
            Ok(_) => {
                self.inside = None;
                link.respond(request, Err(unexpected()));
            }
            Err(refusal) => {
                self.inside = None;
                link.respond(request, Err(refusal));
            }
        }
    }

    /// The client says good-bye; it may join again.
    fn leave(&mut self, link: &mut Link) {
        match &mut self.inside {
            Some(inside) if inside.joining.is_some() => inside.leaving = true,
            Some(_) => {
                self.inside = None;
                link.ask(Ask::Leave, Then::Nothing);
            }
            None => {}
        }
    }

    fn inside(&mut self) -> Result<&mut Inside, Refusal> {
        let inside = self.inside.as_mut().filter(|inside| inside.joining.is_none());
        inside.map(|inside| &mut **inside).ok_or_else(|| Refusal::new(409, "join a room first"))
    }

    fn mediasoup_request(&mut self, link: &mut Link, id: RequestId, data: Value) -> Result<(), Refusal> {
        let Some(method) = data.get("method").and_then(Value::as_str).map(str::to_owned) else {
            return Err(Refusal::bad("the request has no method"));
        };
        if data.get("notification").is_some_and(|value| value == &Value::Bool(true)) {
            return Err(Refusal::bad("this is a notification, not a request"));
        }
        match method.as_str() {
            "queryRoom" => {
                let capabilities = self.room.to_v2();
                let data = json!({"rtpCapabilities": capabilities, "mandatoryCodecPayloadTypes": []});
                link.respond(id, Ok(data));
                Ok(())
            }
            "join" => self.join(link, id, data),
            "createTransport" => self.inside()?.create_transport(link, id, read(data)?),
            "restartTransport" => self.inside()?.restart_transport(link, id, read(data)?),
            "createProducer" => {
                let room = self.room.clone();
                self.inside()?.create_producer(link, id, &room, read(data)?)
            }
            "enableConsumer" => self.inside()?.enable_consumer(link, id, read(data)?),
            _ => Err(Refusal::bad(format!("unknown request method {method:?}"))),
        }
    }

    fn mediasoup_notification(&mut self, link: &mut Link, data: Value) -> Result<(), Refusal> {
        let Some(method) = data.get("method").and_then(Value::as_str).map(str::to_owned) else {
            return Err(Refusal::bad("the notification has no method"));
        };
        if method == "leave" {
            self.leave(link);
            return Ok(());
        }
        let inside = self.inside()?;
        match method.as_str() {
            "updateTransport" => inside.update_transport(link, read(data)?),
            "closeTransport" => inside.close_transport(link, read(data)?),
            "pauseProducer" => inside.pause_producer(link, read(data)?, true),
            "resumeProducer" => inside.pause_producer(link, read(data)?, false),
            "closeProducer" => inside.close_producer(link, read(data)?),
            "pauseConsumer" => inside.pause_consumer(link, read(data)?, true),
            "resumeConsumer" => inside.pause_consumer(link, read(data)?, false),
            "setConsumerPreferredProfile" => inside.prefer(link, read(data)?).map(drop),
            "enableTransportStats" => inside.subscribe(link, Subject::Transport, read(data)?),
            "enableProducerStats" => inside.subscribe(link, Subject::Producer, read(data)?),
            "enableConsumerStats" => inside.subscribe(link, Subject::Consumer, read(data)?),
            "disableTransportStats" => inside.unsubscribe(Subject::Transport, read(data)?),
            "disableProducerStats" => inside.unsubscribe(Subject::Producer, read(data)?),
            "disableConsumerStats" => inside.unsubscribe(Subject::Consumer, read(data)?),
            _ => Err(Refusal::bad(format!("unknown notification method {method:?}"))),
        }
    }

    /// Requests of the example application.
    fn application_request(
        &mut self,
        link: &mut Link,
        id: RequestId,
        method: &str,
        data: Value,
    ) -> Result<(), Refusal> {
        let inside = self.inside()?;
        match method {
            "change-display-name" => {
                let messages::DisplayName { display_name } = read(data)?;
                link.ask(Ask::Rename(Some(display_name)), Then::Respond(id));
                Ok(())
            }
            "change-consumer-preferred-profile" => {
                let messages::ConsumerProfile { consumer_id, profile } = read(data)?;
                let name = inside.prefer(link, messages::Preference { id: consumer_id, profile })?;
                let data = json!({"id": consumer_id, "peerName": name, "profile": profile});
                notify(link, "consumerPreferredProfileSet", data);
                link.respond(id, Ok(nothing()));
                Ok(())
            }
            "request-consumer-keyframe" => {
                let messages::ConsumerRef { consumer_id } = read(data)?;
                inside.request_keyframe(link, id, consumer_id)
            }
            _ => Err(Refusal::bad(format!("unknown request method {method:?}"))),
        }
    }
}

impl Protocol for V2 {
    type Then = Then;

    fn request(&mut self, link: &mut Link, id: RequestId, method: &str, data: Value) {
        let result = match method {
            "mediasoup-request" => self.mediasoup_request(link, id, data),
            _ => self.application_request(link, id, method, data),
        };
        if let Err(refusal) = result {
            link.respond(id, Err(refusal));
        }
    }

    fn notification(&mut self, link: &mut Link, method: &str, data: Value) {
        let result = match method {
            "mediasoup-notification" => self.mediasoup_notification(link, data),
            _ => Err(Refusal::bad(format!("unknown notification method {method:?}"))),
        };
        if let Err(refusal) = result {
            debug!(%refusal, "a notification of a client led to nothing");
        }
    }

    fn answered(&mut self, link: &mut Link, then: Then, answer: Answered) {
        match then {
            Then::Joined => return self.joined(link, answer),
            Then::Nothing => {
                if let Err(refusal) = answer {
                    debug!(%refusal, "the room refused what a client wanted");
                }
                return;
            }
            Then::Respond(request) => return link.respond(request, answer.map(|_| nothing())),
            _ => {}
        }
        let Ok(inside) = self.inside() else { return };
        match then {
            Then::TransportMade(request, id) => inside.transport_made(link, request, id, answer),
            Then::TransportConnected(request, id, made) => {
                inside.transport_connected(link, request, id, *made, answer);
            }
            Then::TransportUpdated(id) => inside.transport_updated(link, id, answer),
            Then::TransportRestarted(request) => {
                link.respond(request, expect(answer, transports::restarted));
            }
            Then::Produced(request, id) => inside.produced(link, request, id, answer),
            Then::Enabled(request, id) => inside.enabled(link, request, id, answer),
            Then::Stats(subject, id) => inside.stats_came(link, subject, id, answer),
            Then::Joined | Then::Nothing | Then::Respond(_) => {}
        }
    }

    /// We request nothing of v2 clients.
    fn responded(&mut self, _: &mut Link, _: Then, _: Result<Value, Refusal>) {}

    fn room_event(&mut self, link: &mut Link, event: RoomEvent) {
        if let Some(inside) = &mut self.inside {
            inside.room_event(link, event);
        }
    }

    fn own_event(&mut self, link: &mut Link, event: PeerEvent) {
        if let Ok(inside) = self.inside() {
            inside.own_event(link, event);
        }
    }

    fn left(&mut self, link: &mut Link, _reason: &CloseReason) {
        if let Some(inside) = self.inside.take() {
            match inside.joining {
                Some(request) => link.respond(request, Err(Refusal::new(410, "the room was closed"))),
                None => notify(link, "closed", nothing()),
            }
        }
    }

    fn timeout(&mut self, link: &mut Link) {
        if let Ok(inside) = self.inside() {
            inside.ask_stats(link);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.inside.as_ref().and_then(|inside| inside.stats.next())
    }

    fn is_inside(&self) -> bool {
        self.inside.is_some()
    }
}

impl Inside {
    /// Makes consumers for all tracks that are there; answers the `peers` of the response to `join`.
    fn introduce(&mut self, link: &mut Link) -> Vec<Value> {
        let Inside { view, consumers, takes, .. } = self;
        let introduce = |seen: &Seen| {
            let tracks = seen.tracks.iter();
            let made = tracks.map(|track| consumers::announce(consumers, takes, link, track, &seen.name));
            let made: Vec<_> = made.collect();
            json!({"name": seen.name, "appData": app_data(seen), "consumers": made})
        };
        view.peers().into_iter().map(introduce).collect()
    }

    fn room_event(&mut self, link: &mut Link, event: RoomEvent) {
        // What comes before the answer to `join` goes into it.
        let told = self.joining.is_none();
        match event {
            RoomEvent::PeerJoined(info) if Some(info.conn) != self.conn => {
                let shown = self.view.joined(info);
                if let Some(seen) = shown.filter(|_| told) {
                    let data = json!({"name": seen.name, "appData": app_data(seen), "consumers": []});
                    notify(link, "newPeer", data);
                }
            }
            RoomEvent::PeerChanged(info) => {
                let changed = self.view.changed(info).filter(|(seen, former)| seen.display_name() != former);
                if let Some((seen, former)) = changed.filter(|_| told) {
                    let (name, now) = (&seen.name, seen.display_name());
                    let data = json!({"peerName": name, "displayName": now, "oldDisplayName": former});
                    link.notify("display-name-changed", data);
                }
            }
            RoomEvent::PeerLeft { conn, .. } => {
                if let Some(seen) = self.view.left(conn).filter(|_| told) {
                    self.consumers.retain(|_, consumer| consumer.conn != conn);
                    notify(link, "peerClosed", json!({"name": seen.name}));
                }
            }
            RoomEvent::TrackAdded(track) => {
                let (consumers, takes) = (&mut self.consumers, &self.takes);
                let owner = self.view.track(track.clone()).filter(|_| told);
                if let Some(seen) = owner {
                    let data = consumers::announce(consumers, takes, link, &track, &seen.name);
                    notify(link, "newConsumer", data);
                }
            }
            RoomEvent::TrackChanged(track) => {
                let (producer, paused) = (track.producer, track.paused);
                if self.view.track(track).is_some() && told {
                    self.source_paused(link, producer, paused);
                }
            }
            RoomEvent::TrackRemoved { conn, producer } => {
                self.view.track_gone(conn, producer);
                self.track_gone(link, producer);
            }
            RoomEvent::Call(call) if told => link.notify("call-state", self.view.call(&call, "peerName")),
            speaks @ RoomEvent::ActiveSpeaker(_) => {
                self.view.take(speaks);
                if told {
                    self.tell_speaker(link);
                }
            }
            _ => {}
        }
    }

    fn tell_speaker(&self, link: &mut Link) {
        let name = self.view.speaker((self.conn, &self.name));
        link.notify("active-speaker", json!({"peerName": name}));
    }

    fn own_event(&mut self, link: &mut Link, event: PeerEvent) {
        match event {
            PeerEvent::TransportClosed { transport, .. } => self.transport_gone(link, transport),
            PeerEvent::ProducerClosed { producer, .. } => self.producer_gone(link, producer),
            PeerEvent::ProducerPaused { producer } => self.producer_held(link, producer, true),
            PeerEvent::ProducerResumed { producer } => self.producer_held(link, producer, false),
            PeerEvent::ConsumerClosed { consumer, .. } => self.consumer_gone(link, consumer),
            PeerEvent::Moved { room } => link.notify("moved", json!({"roomId": room})),
            PeerEvent::EffectiveProfile { consumer, profile } => {
                self.effective_profile(link, consumer, profile);
            }
            _ => {}
        }
    }
}

fn check_name(name: &str) -> Result<(), Refusal> {
    let length = name.chars().count();
    if length == 0 || length > MAX_NAME || name.chars().any(char::is_control) {
        return Err(Refusal::bad(format!("peerName must have 1 to {MAX_NAME} printable characters")));
    }
    Ok(())
}

/// What the application of a peer said of it, or would have, if the peer is at another door; under its
/// present name for people.
fn app_data(seen: &Seen) -> Value {
    match (&seen.info.app_data, &seen.info.display_name) {
        (Value::Null, _) => json!({"displayName": seen.display_name(), "device": seen.device()}),
        (Value::Object(own), Some(name)) if own.contains_key("displayName") => {
            let mut own = own.clone();
            own.insert("displayName".to_owned(), name.as_str().into());
            Value::Object(own)
        }
        (own, _) => own.clone(),
    }
}

/// A notification of the protocol.
fn notify(link: &mut Link, method: &str, mut data: Value) {
    if let Some(data) = data.as_object_mut() {
        data.insert("method".to_owned(), method.into());
        data.insert("target".to_owned(), "peer".into());
        data.insert("notification".to_owned(), true.into());
    }
    link.notify("mediasoup-notification", data);
}

/// The fields of a message.
fn read<T: DeserializeOwned>(data: Value) -> Result<T, Refusal> {
    serde_json::from_value(data).map_err(|error| Refusal::bad(format!("wrong or missing field: {error}")))
}

/// The answer in the shape of a response.
fn expect(answer: Answered, shape: fn(Answer) -> Option<Value>) -> Result<Value, Refusal> {
    answer.and_then(|answer| shape(answer).ok_or_else(unexpected))
}

fn unexpected() -> Refusal {
    Refusal::new(500, "the room answered something else")
}
