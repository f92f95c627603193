//! What a v3 client receives: for every track and data channel of the others a consumer, made by us, held back until
//! the client says that it knows it.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};
use tracing::debug;

use super::super::asks::{Answer, Ask};
use super::super::view::View;
use super::super::{Answered, RequestId};
use super::{Link, Then};
use crate::core::capabilities::ortc::{Capabilities, Numbers};
use crate::core::control::{Consumed, DataConsumed, PeerEvent, TrackInfo};
use crate::core::id::{ConsumerId, DataConsumerId, DataProducerId, ProducerId, TransportId};
use crate::core::peer::Layers;
use crate::rooms::error::Refusal;

/// See the module.
#[derive(Default)]
pub(super) struct Consumers {
    /// Tracks that are consumed, or about to be.
    tracks: HashSet<ProducerId>,
    consumers: HashMap<ConsumerId, Consumer>,
    channels: HashSet<DataProducerId>,
    data_consumers: HashSet<DataConsumerId>,
    /// Counts the media sections a client has for what it receives.
    mids: u32,
}

struct Consumer {
    /// The client has said that it knows it.
    accepted: bool,
    /// The client does not want it now.
    paused: bool,
}

impl Consumers {
    pub fn known(&self, number: u32) -> Result<ConsumerId, Refusal> {
        let id = ConsumerId(number);
        self.consumers.contains_key(&id).then_some(id).ok_or_else(|| Refusal::unknown("consumer", number))
    }

    pub fn known_data(&self, number: u32) -> Result<DataConsumerId, Refusal> {
        let id = DataConsumerId(number);
        let known = self.data_consumers.contains(&id).then_some(id);
        known.ok_or_else(|| Refusal::unknown("data consumer", number))
    }

    /// Asks for a consumer of `track`, unless there is one or the client can have none.
    pub fn consume(
        &mut self,
        link: &mut Link,
        takes: &Capabilities,
        transport: TransportId,
        track: &TrackInfo,
    ) {
        if self.tracks.contains(&track.producer) {
            return;
        }
        let numbers = Numbers {
            ssrc: link.random() as u32 | 1,
            rtx_ssrc: (link.random() as u32 | 1) ^ 0x5555_5554,
            // Sound and picture of one peer are played in step; its screen is another matter.
            cname: match track.app_data.get("source").and_then(Value::as_str) {
                Some("screen") => format!("{}-screen", track.conn),
                _ => track.conn.to_string(),
            },
            mid: Some(self.mids.to_string()),
        };
        let rtp = takes.consumed(track.kind, &track.codec, numbers);
        if rtp.codecs.is_empty() {
            return;
        }
        self.mids = self.mids.wrapping_add(1);
        self.tracks.insert(track.producer);
        let ask = Ask::Consume { transport, track: track.producer, rtp, paused: true };
        link.ask(ask, Then::Consumed(track.producer));
    }

    pub fn consumed(&mut self, link: &mut Link, view: &View, track: ProducerId, answer: Answered) {
        let made = match answer {
            Ok(Answer::Consumed(made)) => made,
            Ok(_) => return,
            Err(refusal) => {
                // The track has gone meanwhile, or cannot be had: a later one may.
                debug!(%refusal, "a track was not consumed");
                return;
            }
        };
        let Some((seen, info)) = view.track_of(track) else { return };
        let id = made.consumer;
        self.consumers.insert(id, Consumer { accepted: false, paused: false });
        let Consumed { kind, rtp, producer_paused, layers, .. } = *made;
        let data = json!({
            "peerId": seen.name,
            "producerId": track.to_string(),
            "id": id.to_string(),
            "kind": kind,
            "rtpParameters": rtp.to_v3(),
            "type": type_of(layers),
            "appData": info.app_data,
            "producerPaused": producer_paused,
        });
        link.request("newConsumer", data, Then::Accepted(id));
    }

    /// The client knows the consumer: media may flow.
    pub fn accepted(&mut self, link: &mut Link, id: ConsumerId, response: Result<Value, Refusal>) {
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        if let Err(refusal) = response {
            debug!(%refusal, "a client did not take a consumer");
            self.consumers.remove(&id);
            return link.ask(Ask::CloseConsumer(id), Then::Nothing);
        }
        consumer.accepted = true;
        if !consumer.paused {
            link.ask(Ask::ResumeConsumer(id), Then::Nothing);
        }
    }

    /// Requests about one consumer.
    pub fn about(
        &mut self,
        link: &mut Link,
        id: RequestId,
        method: &str,
        number: u32,
    ) -> Result<(), Refusal> {
        let consumer = self.known(number)?;
        let Some(entry) = self.consumers.get_mut(&consumer) else { return Ok(()) };
        let (ask, then) = match method {
            "pauseConsumer" => {
                entry.paused = true;
                (Ask::PauseConsumer(consumer), Then::Respond(id))
            }
            "resumeConsumer" => {
                entry.paused = false;
                if !entry.accepted {
                    // It flows once the client has said that it knows it.
                    link.respond(id, Ok(json!({})));
                    return Ok(());
                }
                (Ask::ResumeConsumer(consumer), Then::Respond(id))
            }
            "requestConsumerKeyFrame" => (Ask::RequestKeyframe(consumer), Then::Respond(id)),
            _ => (Ask::ConsumerStats(consumer), Then::Stats(id)),
        };
        link.ask(ask, then);
        Ok(())
    }

    /// A track is gone from the room; its consumer ends by itself.
    pub fn track_gone(&mut self, track: ProducerId) {
        self.tracks.remove(&track);
    }

    /// A data channel is gone from the room; its consumer ends by itself.
    pub fn channel_gone(&mut self, producer: DataProducerId) {
        self.channels.remove(&producer);
    }

    /// Asks for a data consumer, unless there is one.
    pub fn consume_data(&mut self, link: &mut Link, transport: TransportId, producer: DataProducerId) {
        if self.channels.insert(producer) {
            link.ask(Ask::ConsumeData(transport, producer), Then::DataConsumed(producer));
        }
    }

    pub fn data_consumed(
        &mut self,
        link: &mut Link,
        view: &View,
        producer: DataProducerId,
        answer: Answered,
    ) {
        let made = match answer {
            Ok(Answer::DataConsumed(made)) => made,
            Ok(_) => return,
            Err(refusal) => {
                debug!(%refusal, "a data channel was not consumed");
                return;
            }
        };
        let DataConsumed { id, sctp_stream_parameters, label, protocol, app_data, .. } = *made;
        self.data_consumers.insert(id);
        let data = json!({
            // What the server or an application says comes from nobody in the room.
            "peerId": view.owner_of_channel(producer).map(|seen| seen.name.clone()),
            "dataProducerId": producer.to_string(),
            "id": id.to_string(),
            "sctpStreamParameters": sctp_stream_parameters,
            "label": label,
            "protocol": protocol,
            "appData": app_data,
        });
        link.request("newDataConsumer", data, Then::DataAccepted(id));
    }

    pub fn data_accepted(&mut self, link: &mut Link, id: DataConsumerId, response: Result<Value, Refusal>) {
        if let Err(refusal) = response {
            debug!(%refusal, "a client did not take a data consumer");
            if self.data_consumers.remove(&id) {
                link.ask(Ask::CloseDataConsumer(id), Then::Nothing);
            }
        }
    }

    /// What happened to the client's consumers.
    pub fn own_event(&mut self, link: &mut Link, event: PeerEvent) {
        match event {
            PeerEvent::ConsumerClosed { consumer, .. } if self.consumers.remove(&consumer).is_some() => {
                link.notify("consumerClosed", about(consumer));
            }
            PeerEvent::ConsumerPaused { consumer } => link.notify("consumerPaused", about(consumer)),
            PeerEvent::ConsumerResumed { consumer } => link.notify("consumerResumed", about(consumer)),
            PeerEvent::LayersChanged { consumer, layers } => {
                let mut data = about(consumer);
                data["spatialLayer"] = json!(layers.map(|(spatial, _)| spatial));
                data["temporalLayer"] = json!(layers.and_then(|(_, temporal)| temporal));
                link.notify("consumerLayersChanged", data);
            }
            PeerEvent::ConsumerScore { consumer, score } => {
                let mut data = about(consumer);
                data["score"] = score;
                link.notify("consumerScore", data);
            }
            PeerEvent::DataConsumerClosed(consumer) if self.data_consumers.remove(&consumer) => {
                link.notify("dataConsumerClosed", json!({"dataConsumerId": consumer.to_string()}));
            }
            _ => {}
        }
    }
}

fn about(consumer: ConsumerId) -> Value {
    json!({"consumerId": consumer.to_string()})
}

fn type_of(layers: Layers) -> &'static str {
    match layers {
        Layers::Simple => "simple",
        Layers::Simulcast { .. } => "simulcast",
        Layers::Svc { .. } => "svc",
    }
}
