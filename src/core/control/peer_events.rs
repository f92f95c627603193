//! What a peer's own door is told: its keys, its media, its transports, and what became of what it receives.

use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use serde_json::Value;

use crate::core::control::handle::Peer;
use crate::core::control::queue::{End, Reader, Writer, queue};
use crate::core::control::state::State;
use crate::core::data::{DataMessage, SctpStreamParameters};
use crate::core::id::{ConnId, ConsumerId, DataConsumerId, DataProducerId, ProducerId, TransportId};
use crate::core::peer::CloseReason;
use crate::core::profile::Profile;
use crate::core::room::RoomName;

/// What a peer's media tells its door.
#[derive(Clone, Debug, PartialEq)]
pub enum PeerEvent {
    /// The party pressed a key; said once, when the key is released (or seems to be).
    Dtmf {
        /// On this transport.
        transport: TransportId,
        /// `0`-`9`, `*`, `#`, `A`-`D`.
        digit: char,
        /// How long it was held.
        duration_ms: u32,
    },
    /// Its first media arrived, and we know where to send.
    MediaStarted {
        /// On this transport.
        transport: TransportId,
    },
    /// Media flows in one direction only, or not at all.
    OneWay {
        /// On this transport.
        transport: TransportId,
        /// What is seen, with both addresses, and the likely cause.
        text: String,
    },
    /// No packet came for the configured time although the party should send.
    MediaTimeout {
        /// On this transport.
        transport: TransportId,
    },
    /// Somebody needs a keyframe of the party, and RTCP cannot ask for it.
    KeyframeRequested {
        /// On this transport.
        transport: TransportId,
    },
    /// All that [`Peer::play`] was given has been played to this consumer; it is sent the program again.
    PlayEnded {
        /// Which.
        consumer: ConsumerId,
    },
    /// All that [`Peer::play_to_room`] was given has been played, or broke off.
    PlayedToRoom,
    /// The state of SCTP: `connecting`, `connected`, `failed`, `closed`.
    SctpState {
        /// On this transport.
        transport: TransportId,
        /// As in the protocol.
        state: String,
    },
    /// The party opened a data channel in band (RFC 8832). What it says waits until
    /// [`Peer::produce_data`] names the stream.
    DataChannel {
        /// On this transport.
        transport: TransportId,
        /// Its stream and how it delivers.
        parameters: SctpStreamParameters,
        /// Its name for applications.
        label: String,
        /// The sub-protocol spoken on it.
        protocol: String,
    },
    /// A data producer of the party is gone: it closed the channel, or the transport ended.
    DataProducerClosed(DataProducerId),
    /// A data consumer of the party is gone: what it consumed ended, or the party did not take what was sent.
    DataConsumerClosed(DataConsumerId),
    /// What a data consumer consumes is paused.
    DataConsumerPaused(DataConsumerId),
    /// What a data consumer consumes flows again.
    DataConsumerResumed(DataConsumerId),
    /// A message for a consumer made by [`Peer::consume_direct_data`].
    DataMessage {
        /// The data consumer.
        consumer: DataConsumerId,
        /// The message.
        message: DataMessage,
    },
    /// No more waits for a receiver than [`Peer::set_buffered_amount_low_threshold`] named.
    BufferedAmountLow {
        /// The data consumer.
        consumer: DataConsumerId,
        /// Bytes that wait.
        buffered: u64,
    },
    /// The state of ICE: `connected`, `completed`, `disconnected`, ...
    IceState {
        /// On this transport.
        transport: TransportId,
        /// As in the protocol.
        state: String,
    },
    /// The state of DTLS: `connecting`, `connected`, `failed`, `closed`.
    DtlsState {
        /// On this transport.
        transport: TransportId,
        /// As in the protocol.
        state: String,
    },
    /// A transport ended and the peer stays.
    TransportClosed {
        /// Which.
        transport: TransportId,
        /// Why.
        reason: CloseReason,
    },
    /// A consumer of a track ended without the peer having asked for it.
    ConsumerClosed {
        /// Which.
        consumer: ConsumerId,
        /// Why.
        reason: CloseReason,
    },
    /// The source of a consumer was paused.
    ConsumerPaused {
        /// Which.
        consumer: ConsumerId,
    },
    /// The source of a consumer goes on.
    ConsumerResumed {
        /// Which.
        consumer: ConsumerId,
    },
    /// It was moved to another room.
    Moved {
        /// Which.
        room: RoomName,
    },
    /// Another quality is sent.
    EffectiveProfile {
        /// By this consumer.
        consumer: ConsumerId,
        /// Which.
        profile: Profile,
    },
    /// Other layers are sent, or none.
    LayersChanged {
        /// By this consumer.
        consumer: ConsumerId,
        /// Spatial and temporal.
        layers: Option<(u8, Option<u8>)>,
    },
    /// How well a consumer's stream arrives.
    ConsumerScore {
        /// Which.
        consumer: ConsumerId,
        /// As the worker tells it.
        score: Value,
    },
    /// How well a producer's streams arrive.
    ProducerScore {
        /// Which.
        producer: ProducerId,
        /// As the worker tells it.
        score: Value,
    },
    /// A producer ended without the peer having asked for it.
    ProducerClosed {
        /// Which.
        producer: ProducerId,
        /// Why.
        reason: CloseReason,
    },
    /// Somebody with rights over the room paused a producer.
    ProducerPaused {
        /// Which.
        producer: ProducerId,
    },
    /// Somebody with rights over the room let a producer go on.
    ProducerResumed {
        /// Which.
        producer: ProducerId,
    },
}

/// The events of a peer from the moment of [`Peer::events`] on; `None` once the peer is gone.
pub struct PeerEvents(Reader<PeerEvent>);

impl PeerEvents {
    /// The next event.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<PeerEvent>> {
        self.0.poll_next(cx)
    }

    /// Waits for the next event.
    pub async fn next(&mut self) -> Option<PeerEvent> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Why nothing comes any more.
    pub fn end(&self) -> Option<End> {
        self.0.end()
    }
}

/// Those who listen to a peer.
#[derive(Default)]
pub(super) struct Listeners(Mutex<Vec<Writer<PeerEvent>>>);

impl Listeners {
    fn add(&self, limit: usize) -> PeerEvents {
        let (writer, reader) = queue(Vec::new(), limit);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(Writer::is_read);
        all.push(writer);
        PeerEvents(reader)
    }

    pub fn tell(&self, event: &PeerEvent) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|writer| writer.push(event.clone()));
    }

    /// Nothing comes any more.
    pub fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).drain(..).for_each(|writer| writer.finish());
    }
}

impl State {
    /// Tells a peer's door something.
    pub fn tell_peer(&self, conn: ConnId, event: PeerEvent) {
        if let Some(entry) = self.members.get(&conn) {
            entry.shared.listeners.tell(&event);
        }
    }

    /// Hands an event of a peer's transport to its door; `false` when it is none of those.
    pub fn transport_event(&self, conn: ConnId, transport: TransportId, event: &str, data: &Value) -> bool {
        let state = |name: &str| data.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        match event {
            "icestatechange" => {
                self.tell_peer(conn, PeerEvent::IceState { transport, state: state("iceState") });
            }
            "dtlsstatechange" => {
                let state = state("dtlsState");
                let connected = state == "connected";
                self.tell_peer(conn, PeerEvent::DtlsState { transport, state });
                if connected {
                    // A leg with DTLS around it has no address to be found.
                    self.tell_peer(conn, PeerEvent::MediaStarted { transport });
                }
            }
            _ => return false,
        }
        true
    }

    /// Hands an event of a peer's consumer to its door; `false` when it is none of those.
    pub fn consumer_event(&self, conn: ConnId, consumer: ConsumerId, event: &str, data: Value) -> bool {
        let event = match event {
            "effectiveprofilechange" => match serde_json::from_value(data["profile"].clone()) {
                Ok(profile) => PeerEvent::EffectiveProfile { consumer, profile },
                Err(_) => return false,
            },
            "x.layerschange" => {
                let layer = |name| data[name].as_u64().and_then(|layer| u8::try_from(layer).ok());
                let layers = layer("spatialLayer").map(|spatial| (spatial, layer("temporalLayer")));
                PeerEvent::LayersChanged { consumer, layers }
            }
            "x.score" => PeerEvent::ConsumerScore { consumer, score: data },
            _ => return false,
        };
        self.tell_peer(conn, event);
        true
    }
}

impl Peer {
    /// What its media tells from now on. A listener that does not read is cut off when `rooms.max_waiting_events`
    /// wait for it.
    pub fn events(&self) -> PeerEvents {
        self.rooms().step(|state| {
            let events = self.listeners().add(state.config.max_waiting_events);
            if state.member(self.conn()).is_err() {
                self.listeners().close();
            }
            events
        })
    }
}
