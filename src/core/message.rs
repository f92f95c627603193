//! The envelope and the vocabulary of the control protocol: requests, responses and events as JSON, one
//! netstring each, in the shapes of the v2 worker channel. Methods of our own carry the prefix `x.`.

use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::core::capabilities::{Kind, RtpCodec};
use crate::core::id::TransportId;
use crate::core::session::{DtlsRole, Ending, Fingerprint, Track};

macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// Every method a worker understands.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum Method { $($(#[$doc])* $name,)* }

        impl Method {
            /// All of them, in the order of the documentation.
            pub const ALL: &'static [Method] = &[$(Method::$name,)*];

            /// The name on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Method::$name => $text,)* }
            }

            /// The method called `name`.
            pub fn from_name(name: &str) -> Option<Method> {
                match name { $($text => Some(Method::$name),)* _ => None }
            }
        }
    };
}

methods! {
    /// All routers of the worker.
    WorkerDump = "worker.dump";
    /// Log level and tags.
    WorkerUpdateSettings = "worker.updateSettings";
    /// A new router.
    WorkerCreateRouter = "worker.createRouter";
    /// Closes producers, consumers, transports and the router.
    RouterClose = "router.close";
    /// A router's ids and who consumes whom.
    RouterDump = "router.dump";
    /// A WebRTC transport; answers its dump.
    RouterCreateWebRtcTransport = "router.createWebRtcTransport";
    /// A plain RTP transport; answers its dump.
    RouterCreatePlainRtpTransport = "router.createPlainRtpTransport";
    /// A track into the router.
    RouterCreateProducer = "router.createProducer";
    /// A track out of the router, not yet on a transport.
    RouterCreateConsumer = "router.createConsumer";
    /// Switches the `audiolevels` event.
    RouterSetAudioLevelsEvent = "router.setAudioLevelsEvent";
    /// Closes a transport, its producers, and takes its consumers off it.
    TransportClose = "transport.close";
    /// A transport's state.
    TransportDump = "transport.dump";
    /// A transport's statistics.
    TransportGetStats = "transport.getStats";
    /// The remote DTLS role and fingerprints; answers the local role.
    TransportSetRemoteDtlsParameters = "transport.setRemoteDtlsParameters";
    /// The remote address of a plain transport.
    TransportSetRemoteParameters = "transport.setRemoteParameters";
    /// The bound on what the remote may send.
    TransportSetMaxBitrate = "transport.setMaxBitrate";
    /// New local ICE credentials.
    TransportChangeUfragPwd = "transport.changeUfragPwd";
    /// Copies decrypted packets to an address.
    TransportStartMirroring = "transport.startMirroring";
    /// Stops copying.
    TransportStopMirroring = "transport.stopMirroring";
    /// Ends a track and deletes its consumers.
    ProducerClose = "producer.close";
    /// A producer's state.
    ProducerDump = "producer.dump";
    /// A producer's statistics.
    ProducerGetStats = "producer.getStats";
    /// Stops forwarding a track.
    ProducerPause = "producer.pause";
    /// Goes on forwarding a track.
    ProducerResume = "producer.resume";
    /// The highest layer taken from a layered track.
    ProducerSetPreferredProfile = "producer.setPreferredProfile";
    /// Ends a consumer.
    ConsumerClose = "consumer.close";
    /// A consumer's state.
    ConsumerDump = "consumer.dump";
    /// A consumer's statistics.
    ConsumerGetStats = "consumer.getStats";
    /// Puts a consumer on a transport.
    ConsumerEnable = "consumer.enable";
    /// Stops a consumer.
    ConsumerPause = "consumer.pause";
    /// Goes on, with a keyframe.
    ConsumerResume = "consumer.resume";
    /// The layer the receiver wants.
    ConsumerSetPreferredProfile = "consumer.setPreferredProfile";
    /// The layer by numbers, for tests.
    ConsumerSetEncodingPreferences = "consumer.setEncodingPreferences";
    /// Asks the source for a keyframe.
    ConsumerRequestKeyFrame = "consumer.requestKeyFrame";
    /// Ours: fails on purpose, to rehearse what happens when a worker does.
    XWorkerFail = "x.worker.fail";
    /// Ours: the remote ICE credentials.
    XTransportSetRemoteIce = "x.transport.setRemoteIce";
    /// Ours: a transport around a mailed stream session.
    XRouterCreateStreamTransport = "x.router.createStreamTransport";
    /// Ours: a transport around the mailed lanes of a conversion.
    XRouterCreateDirectTransport = "x.router.createDirectTransport";
    /// Ours: a transport around mailed lanes to another router.
    XRouterCreatePipeTransport = "x.router.createPipeTransport";
    /// Ours: plays telephone events into what a consumer sends.
    XConsumerSendDtmf = "x.consumer.sendDtmf";
    /// Ours: the layer the receiver wants, by numbers.
    XConsumerSetPreferredLayers = "x.consumer.setPreferredLayers";
    /// Ours: how much a consumer counts where a path does not take all, 1 to 255.
    XConsumerSetPriority = "x.consumer.setPriority";
    /// Ours: gives a consumer another source, or none.
    XConsumerSetProducer = "x.consumer.setProducer";
    /// Ours: a data channel that the remote party, or a pipe, feeds.
    XTransportProduceData = "x.transport.produceData";
    /// Ours: a data channel to the remote party, or into a pipe; answers its stream.
    XTransportConsumeData = "x.transport.consumeData";
    /// Ours: a data producer fed by `x.dataProducer.send`.
    XRouterProduceData = "x.router.produceData";
    /// Ours: a data consumer whose messages come as events `x.message`.
    XRouterConsumeData = "x.router.consumeData";
    /// Ours: ends a data producer and its consumers.
    XDataProducerClose = "x.dataProducer.close";
    /// Ours: a data producer's state.
    XDataProducerDump = "x.dataProducer.dump";
    /// Ours: a data producer's statistics.
    XDataProducerGetStats = "x.dataProducer.getStats";
    /// Ours: drops what comes from a data producer.
    XDataProducerPause = "x.dataProducer.pause";
    /// Ours: forwards again.
    XDataProducerResume = "x.dataProducer.resume";
    /// Ours: a message into the room.
    XDataProducerSend = "x.dataProducer.send";
    /// Ours: ends a data consumer.
    XDataConsumerClose = "x.dataConsumer.close";
    /// Ours: a data consumer's state.
    XDataConsumerDump = "x.dataConsumer.dump";
    /// Ours: a data consumer's statistics.
    XDataConsumerGetStats = "x.dataConsumer.getStats";
    /// Ours: drops what would go to a data consumer.
    XDataConsumerPause = "x.dataConsumer.pause";
    /// Ours: sends again.
    XDataConsumerResume = "x.dataConsumer.resume";
    /// Ours: a message to this receiver alone; answers the bytes that wait for it.
    XDataConsumerSend = "x.dataConsumer.send";
    /// Ours: asks for the event `x.bufferedamountlow` when no more than so many bytes wait.
    XDataConsumerSetBufferedAmountLowThreshold = "x.dataConsumer.setBufferedAmountLowThreshold";
}

impl Method {
    /// Whether it is about data channels.
    pub fn is_of_data_channels(self) -> bool {
        use Method::*;
        self.is_of_data_consumers()
            || matches!(
                self,
                XTransportProduceData
                    | XRouterProduceData
                    | XDataProducerClose
                    | XDataProducerDump
                    | XDataProducerGetStats
                    | XDataProducerPause
                    | XDataProducerResume
                    | XDataProducerSend
            )
    }

    /// Whether it is about data consumers.
    pub fn is_of_data_consumers(self) -> bool {
        use Method::*;
        matches!(
            self,
            XTransportConsumeData
                | XRouterConsumeData
                | XDataConsumerClose
                | XDataConsumerDump
                | XDataConsumerGetStats
                | XDataConsumerPause
                | XDataConsumerResume
                | XDataConsumerSend
                | XDataConsumerSetBufferedAmountLowThreshold
        )
    }
}

/// The ids a request concerns.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Internal {
    /// Router.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub router_id: Option<u32>,
    /// Transport.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transport_id: Option<u32>,
    /// Producer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub producer_id: Option<u32>,
    /// Consumer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer_id: Option<u32>,
    /// Data producer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_producer_id: Option<u32>,
    /// Data consumer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_consumer_id: Option<u32>,
}

/// A request. `method` is kept as text, so that an unknown one can be refused by name.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Request {
    /// Chosen by the asker, repeated in the answer.
    pub id: u32,
    /// See [`Method`].
    pub method: String,
    /// Whom it concerns; anything but an object counts as an empty one.
    #[serde(default, deserialize_with = "object_or_default")]
    pub internal: Internal,
    /// The rest; anything but an object counts as an empty one.
    #[serde(default, deserialize_with = "object_or_empty")]
    pub data: Value,
}

fn object_or_default<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Internal, D::Error> {
    let value = Value::deserialize(deserializer)?;
    // An id of a wrong type counts as missing: the worker then names it in its refusal.
    let id = |name: &str| value.get(name).and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
    Ok(Internal {
        router_id: id("routerId"),
        transport_id: id("transportId"),
        producer_id: id("producerId"),
        consumer_id: id("consumerId"),
        data_producer_id: id("dataProducerId"),
        data_consumer_id: id("dataConsumerId"),
    })
}

fn object_or_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Ok(if value.is_object() { value } else { Value::Object(Map::new()) })
}

impl Request {
    /// A request of a known method.
    pub fn new(id: u32, method: Method, internal: Internal, data: Value) -> Self {
        Request { id, method: method.as_str().to_owned(), internal, data }
    }

    /// The method, if it is a known one.
    pub fn method(&self) -> Option<Method> {
        Method::from_name(&self.method)
    }

    /// Reads one; `None` for what must be dropped unanswered (no numeric id, no method, no JSON).
    pub fn parse(json: &[u8]) -> Option<Request> {
        serde_json::from_slice(json).ok()
    }

    /// The JSON text.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// The request's id.
    pub id: u32,
    /// The data, or the reason of refusal.
    pub result: Result<Value, String>,
}

/// Something the worker tells unasked.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Notification {
    /// Its data; null when there is none.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub data: Value,
    /// `close`, `icestatechange`, `x.track`, ...
    pub event: String,
    /// Router, transport, producer or consumer.
    pub target_id: u32,
}

impl Response {
    /// Success; `data` is null or an empty object when there is nothing to say.
    pub fn accepted(id: u32, data: Value) -> Self {
        Response { id, result: Ok(data) }
    }

    /// Refusal.
    pub fn rejected(id: u32, reason: impl Into<String>) -> Self {
        Response { id, result: Err(reason.into()) }
    }

    /// The JSON text.
    pub fn to_json(&self) -> Vec<u8> {
        let value = match &self.result {
            Ok(Value::Null) => serde_json::json!({"id": self.id, "accepted": true, "data": {}}),
            Ok(data) => serde_json::json!({"id": self.id, "accepted": true, "data": data}),
            Err(reason) => serde_json::json!({"id": self.id, "rejected": true, "reason": reason}),
        };
        serde_json::to_vec(&value).unwrap_or_default()
    }
}

impl Notification {
    /// An event of `target_id`; `data` may be null.
    pub fn new(target_id: u32, event: &str, data: Value) -> Self {
        Notification { target_id, event: event.to_owned(), data }
    }

    /// The JSON text.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// What a worker sends: an answer or an event.
#[derive(Clone, Debug, PartialEq)]
pub enum FromWorker {
    /// An answer.
    Response(Response),
    /// An event.
    Notification(Notification),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawFromWorker {
    id: Option<u32>,
    target_id: Option<u32>,
    #[serde(default)]
    accepted: bool,
    #[serde(default)]
    rejected: bool,
    #[serde(default)]
    data: Value,
    reason: Option<String>,
    event: Option<String>,
}

impl FromWorker {
    /// Reads one; `None` for what is neither.
    pub fn parse(json: &[u8]) -> Option<FromWorker> {
        let raw: RawFromWorker = serde_json::from_slice(json).ok()?;
        match raw {
            RawFromWorker { id: Some(id), accepted: true, data, .. } => {
                Some(FromWorker::Response(Response { id, result: Ok(data) }))
            }
            RawFromWorker { id: Some(id), rejected: true, reason, .. } => {
                Some(FromWorker::Response(Response { id, result: Err(reason.unwrap_or_default()) }))
            }
            RawFromWorker { target_id: Some(target_id), event: Some(event), data, .. } => {
                Some(FromWorker::Notification(Notification { target_id, event, data }))
            }
            _ => None,
        }
    }
}

/// Data of the events `x.track` and `x.trackchange`: a track of a stream session.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct TrackEvent {
    /// The track's number within the session.
    pub track: u32,
    /// Sound or picture.
    pub kind: Kind,
    /// Its codec.
    pub codec: RtpCodec,
    /// Codec configuration in hexadecimal.
    #[serde(default)]
    pub config: String,
    /// Frames are not in presentation order.
    #[serde(default)]
    pub reordered: bool,
}

impl TrackEvent {
    /// The event's data for a track.
    pub fn new(track: &Track) -> Self {
        TrackEvent {
            track: track.id,
            kind: track.kind,
            codec: track.codec.clone(),
            config: track.config.iter().map(|byte| format!("{byte:02x}")).collect(),
            reordered: track.reordered,
        }
    }

    /// The codec configuration as bytes; empty when it is no hexadecimal.
    pub fn config_bytes(&self) -> Vec<u8> {
        let digits: Option<Vec<u8>> =
            self.config.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
        let pairs = digits.unwrap_or_default();
        pairs.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| (byte << 4) | digit)).collect()
    }
}

/// Data of a transport's event `close`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct CloseEvent {
    /// How.
    pub code: Ending,
    /// Why, for people.
    pub reason: String,
    /// Whether the party said good-bye.
    pub clean: bool,
}

impl CloseEvent {
    /// An end.
    pub fn new(code: Ending, reason: &str) -> Self {
        CloseEvent { code, reason: reason.to_owned(), clean: code.is_clean() }
    }
}

/// ICE credentials of one side.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IceParameters {
    /// `a=ice-ufrag`.
    pub username_fragment: String,
    /// `a=ice-pwd`.
    pub password: String,
    /// Always set on our side.
    #[serde(default)]
    pub ice_lite: bool,
}

/// A host candidate.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IceCandidate {
    /// `udpcandidate` or `tcpcandidate`.
    pub foundation: String,
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// Address.
    pub ip: IpAddr,
    /// Port.
    pub port: u16,
    /// RFC 8445 §5.1.2.
    pub priority: u32,
    /// `host`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `udp` or `tcp`.
    pub protocol: String,
    /// `passive` for TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_type: Option<String>,
}

/// DTLS role and fingerprints of one side.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct DtlsParameters {
    /// Role; `auto` when the other side decides.
    #[serde(default)]
    pub role: DtlsRole,
    /// One for each hash.
    pub fingerprints: Vec<Fingerprint>,
}

/// What a WebRTC transport is made with.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WebRtcOptions {
    /// Offer UDP candidates.
    pub udp: bool,
    /// Offer passive TCP candidates.
    pub tcp: bool,
    /// TCP candidates first, unless UDP ones are preferred.
    pub prefer_tcp: bool,
    /// UDP candidates first.
    pub prefer_udp: bool,
    /// IPv4 candidates first.
    #[serde(rename = "preferIPv4")]
    pub prefer_ipv4: bool,
    /// IPv6 candidates first.
    #[serde(rename = "preferIPv6")]
    pub prefer_ipv6: bool,
    /// Carry data channels.
    pub enable_sctp: bool,
    /// The peer only receives by it, so that it may be on another worker than what the peer sends.
    #[serde(skip)]
    pub receives: bool,
}

impl Default for WebRtcOptions {
    fn default() -> Self {
        WebRtcOptions {
            udp: true,
            tcp: true,
            prefer_tcp: false,
            prefer_udp: false,
            prefer_ipv4: false,
            prefer_ipv6: false,
            enable_sctp: false,
            receives: false,
        }
    }
}

/// SCTP parameters of a transport, in the words of v3 before and after 3.20.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SctpParameters {
    /// Always 5000.
    pub port: u16,
    /// Streams we may send on at first.
    #[serde(rename = "OS")]
    pub os: u16,
    /// Streams we take.
    #[serde(rename = "MIS")]
    pub mis: u16,
    /// Bytes of the largest message we take; the older word for `max_receive_message_size`.
    pub max_message_size: u32,
    /// Bytes of the largest message we send.
    pub max_send_message_size: u32,
    /// Bytes of the largest message we take.
    pub max_receive_message_size: u32,
    /// Data channels (RFC 8831), as opposed to bare SCTP.
    pub is_data_channel: bool,
}

/// What the maker of a WebRTC transport needs of its dump.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WebRtcTransport {
    /// The transport.
    #[serde(rename = "transportId")]
    pub id: TransportId,
    /// Our ICE credentials.
    #[serde(rename = "iceLocalParameters")]
    pub ice: IceParameters,
    /// Our candidates.
    #[serde(rename = "iceLocalCandidates")]
    pub candidates: Vec<IceCandidate>,
    /// Our certificate and role.
    #[serde(rename = "dtlsLocalParameters")]
    pub dtls: DtlsParameters,
    /// Data channels, where they were asked for.
    #[serde(rename = "sctpParameters", default, skip_serializing_if = "Option::is_none")]
    pub sctp: Option<SctpParameters>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_go_both_ways_and_the_frozen_ones_are_34() {
        for &method in Method::ALL {
            assert_eq!(Method::from_name(method.as_str()), Some(method));
        }
        assert_eq!(Method::ALL.iter().filter(|m| !m.as_str().starts_with("x.")).count(), 34);
        assert_eq!(Method::from_name("worker.explode"), None);
    }

    #[test]
    fn ids_and_data_that_are_no_objects_count_as_empty() {
        let request = Request::parse(br#"{"id":7,"method":"worker.dump","internal":3,"data":[1]}"#);
        let expected = Request::new(7, Method::WorkerDump, Internal::default(), json!({}));
        assert_eq!(request, Some(expected));
        let request = Request::parse(br#"{"id":7,"method":"x","internal":{"routerId":-1,"producerId":4}}"#);
        let internal = Internal { producer_id: Some(4), ..Internal::default() };
        assert_eq!(request.map(|request| request.internal), Some(internal));
        assert_eq!(Request::parse(br#"{"id":"7","method":"worker.dump"}"#), None);
        assert_eq!(Request::parse(br#"{"id":7}"#), None);
        assert_eq!(Request::parse(b"{"), None);
    }

    #[test]
    fn answers_and_events_are_told_apart() {
        for response in [Response::accepted(1, json!({"a": 1})), Response::rejected(2, "no")] {
            let read = FromWorker::parse(&response.to_json());
            assert_eq!(read, Some(FromWorker::Response(response)));
        }
        let event = Notification::new(9, "close", Value::Null);
        assert_eq!(event.to_json(), br#"{"event":"close","targetId":9}"#);
        assert_eq!(FromWorker::parse(&event.to_json()), Some(FromWorker::Notification(event)));
        assert_eq!(FromWorker::parse(br#"{"id":1}"#), None);
    }

    #[test]
    fn a_track_goes_through_the_event() {
        let codec =
            json!({"mimeType": "audio/mpeg4-generic", "payloadType": 97, "clockRate": 44100, "channels": 2});
        let track = Track {
            id: 3,
            kind: Kind::Audio,
            codec: serde_json::from_value(codec).expect("a codec"),
            config: vec![0x12, 0x10, 0xff],
            reordered: false,
        };
        let event = TrackEvent::new(&track);
        assert_eq!(event.config, "1210ff");
        assert_eq!(event.config_bytes(), track.config);
        assert_eq!(TrackEvent { config: "1x".into(), ..event }.config_bytes(), Vec::<u8>::new());
    }

    #[test]
    fn reads_a_webrtc_transport() {
        let dump = json!({
            "transportId": 5, "iceRole": "controlled", "iceState": "new", "dtlsState": "new",
            "iceLocalParameters": {"usernameFragment": "u", "password": "p", "iceLite": true},
            "iceLocalCandidates": [{"foundation": "tcpcandidate", "family": "ipv6", "ip": "::1", "port": 8189,
                "priority": 1076558079, "type": "host", "protocol": "tcp", "tcpType": "passive"}],
            "dtlsLocalParameters": {"role": "auto", "fingerprints": [{"algorithm": "sha-256", "value": "AA"}]},
        });
        let transport: WebRtcTransport = serde_json::from_value(dump).expect("a transport");
        assert_eq!(transport.id, TransportId(5));
        assert_eq!(transport.dtls.role, DtlsRole::Auto);
        assert_eq!(transport.candidates[0].tcp_type.as_deref(), Some("passive"));
    }
}
