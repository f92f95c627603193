//! Data channels as the core knows them (RFC 8831): messages, how a channel delivers, and the data
//! producers and data consumers of a router. How a message travels (SCTP, a pipe, the control protocol) is
//! not said here.

mod consumer;
mod producer;
mod queue;

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::core::base64;

pub use consumer::{DataConsumer, Outlet};
pub use producer::{DataProducer, Inlet};
pub use queue::{Overflow, SendQueue};

/// What a message's bytes are (RFC 8831 §8).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DataKind {
    /// UTF-8, as far as its sender keeps its word.
    Text,
    /// Any bytes.
    Binary,
}

/// One message of a data channel; may be empty. All its receivers share the bytes.
#[derive(Clone, Eq, PartialEq)]
pub struct DataMessage {
    /// What it is.
    pub kind: DataKind,
    /// Its bytes.
    pub payload: Bytes,
}

impl DataMessage {
    /// A text.
    pub fn text(text: &str) -> Self {
        DataMessage { kind: DataKind::Text, payload: Bytes::copy_from_slice(text.as_bytes()) }
    }

    /// Bytes.
    pub fn binary(bytes: impl Into<Bytes>) -> Self {
        DataMessage { kind: DataKind::Binary, payload: bytes.into() }
    }

    /// As the control protocol carries it: `{"text"}`, or `{"binary"}` in base64. A text that is no UTF-8
    /// goes as bytes.
    pub fn to_json(&self) -> Value {
        match (self.kind, std::str::from_utf8(&self.payload)) {
            (DataKind::Text, Ok(text)) => json!({ "text": text }),
            _ => json!({ "binary": base64::encode(&self.payload) }),
        }
    }

    /// Reads what [`to_json`](Self::to_json) writes, from among other fields.
    pub fn from_json(fields: &Map<String, Value>) -> Result<Self, String> {
        let text = |name: &str| fields.get(name).map(|value| value.as_str().ok_or(name.to_owned()));
        match (text("text").transpose(), text("binary").transpose()) {
            (Ok(Some(text)), Ok(None)) => Ok(DataMessage::text(text)),
            (Ok(None), Ok(Some(binary))) => base64::decode(binary)
                .map(DataMessage::binary)
                .ok_or_else(|| "data.binary is no base64".to_owned()),
            (Err(name), _) | (_, Err(name)) => Err(format!("data.{name} is no string")),
            (Ok(_), Ok(_)) => Err("a message has either data.text or data.binary".to_owned()),
        }
    }
}

impl fmt::Debug for DataMessage {
    /// Says how long it is; what people write to each other is not for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({} bytes)", self.kind, self.payload.len())
    }
}

/// How a channel delivers: on which stream, in order or not, and for how long it tries.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SctpStreamParameters {
    /// The SCTP stream, in both directions.
    pub stream_id: u16,
    /// How it delivers.
    #[serde(flatten)]
    pub delivery: Delivery,
}

/// How messages of a channel are delivered (RFC 8832 §5.1).
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", try_from = "RawDelivery")]
pub struct Delivery {
    /// In the order they were sent.
    pub ordered: bool,
    /// Milliseconds after which a message is given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_packet_life_time: Option<u16>,
    /// Times a message is sent again before it is given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_retransmits: Option<u16>,
}

impl Delivery {
    /// Everything arrives, in order.
    pub const RELIABLE: Delivery =
        Delivery { ordered: true, max_packet_life_time: None, max_retransmits: None };

    /// Whether every message must arrive.
    pub fn is_reliable(&self) -> bool {
        self.max_packet_life_time.is_none() && self.max_retransmits.is_none()
    }
}

/// What the worker asks of a session that carries data channels.
#[derive(Clone, Debug)]
pub enum DataCommand {
    /// What comes on a stream will be taken.
    Take(SctpStreamParameters),
    /// A channel to the party; answers `{"streamId"}`.
    Open {
        /// Its stream, where it is not for the session to choose.
        stream: Option<u16>,
        /// How it delivers.
        delivery: Delivery,
        /// Label and protocol of a channel that the party is to be told of in band (RFC 8832).
        announce: Option<(String, String)>,
    },
    /// A message on an open channel; answers the bytes that wait there, or refuses what is too long.
    Send {
        /// The channel.
        stream: u16,
        /// The message.
        message: DataMessage,
    },
    /// Asks for [`DataEvent::Low`] when at most `threshold` bytes wait.
    SetLow {
        /// The channel.
        stream: u16,
        /// In bytes.
        threshold: usize,
    },
    /// Answers the bytes that wait on a channel.
    Buffered {
        /// The channel.
        stream: u16,
    },
    /// Ends a channel in both directions (RFC 8831 §6.7).
    Close {
        /// The channel.
        stream: u16,
    },
}

/// What a session tells of its data channels.
#[derive(Debug)]
pub enum DataEvent {
    /// The state of SCTP: `connecting`, `connected`, `failed`, `closed`.
    State(&'static str),
    /// The party opened a channel in band (RFC 8832).
    Opened {
        /// Its stream and how it delivers.
        parameters: SctpStreamParameters,
        /// Its name for applications.
        label: String,
        /// The sub-protocol spoken on it.
        protocol: String,
    },
    /// A message on a stream that is taken.
    Message {
        /// The channel.
        stream: u16,
        /// The message.
        message: DataMessage,
    },
    /// At most as much waits as [`DataCommand::SetLow`] said.
    Low {
        /// The channel.
        stream: u16,
    },
    /// A channel is over: the party closed it, or did not take what was sent.
    Closed {
        /// The channel.
        stream: u16,
        /// Why, for people.
        reason: &'static str,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDelivery {
    ordered: Option<bool>,
    max_packet_life_time: Option<u16>,
    max_retransmits: Option<u16>,
}

impl TryFrom<RawDelivery> for Delivery {
    type Error = &'static str;

    /// Without `ordered`, a channel that may lose messages is unordered.
    fn try_from(raw: RawDelivery) -> Result<Self, Self::Error> {
        let RawDelivery { ordered, max_packet_life_time, max_retransmits } = raw;
        if max_packet_life_time.is_some() && max_retransmits.is_some() {
            return Err("either maxPacketLifeTime or maxRetransmits, not both");
        }
        let lossy = max_packet_life_time.is_some() || max_retransmits.is_some();
        Ok(Delivery { ordered: ordered.unwrap_or(!lossy), max_packet_life_time, max_retransmits })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delivery_is_read_as_clients_write_it() {
        let read = |text: &str| serde_json::from_str::<SctpStreamParameters>(text);
        let plain = read(r#"{"streamId":3}"#).expect("parameters");
        assert_eq!(plain, SctpStreamParameters { stream_id: 3, delivery: Delivery::RELIABLE });
        let lossy = read(r#"{"streamId":0,"maxRetransmits":1}"#).expect("parameters");
        assert!(!lossy.delivery.ordered && !lossy.delivery.is_reliable());
        let ordered = read(r#"{"streamId":0,"ordered":true,"maxPacketLifeTime":300}"#).expect("parameters");
        assert!(ordered.delivery.ordered);
        assert_eq!(
            serde_json::to_value(lossy).expect("JSON"),
            json!({"streamId": 0, "ordered": false, "maxRetransmits": 1})
        );
        assert!(read(r#"{"streamId":0,"maxRetransmits":1,"maxPacketLifeTime":1}"#).is_err());
        assert!(read(r#"{"streamId":70000}"#).is_err());
        assert!(read(r#"{"ordered":true}"#).is_err());
    }

    #[test]
    fn messages_go_through_json() {
        for message in
            [DataMessage::text("grüß dich"), DataMessage::text(""), DataMessage::binary(vec![0, 255])]
        {
            let json = message.to_json();
            let fields = json.as_object().expect("an object");
            assert_eq!(DataMessage::from_json(fields), Ok(message));
        }
        let broken = DataMessage { kind: DataKind::Text, payload: vec![0xff].into() };
        assert_eq!(broken.to_json(), json!({"binary": "/w=="}));
        for bad in [json!({}), json!({"text": 3}), json!({"binary": "!"}), json!({"text": "", "binary": ""})]
        {
            assert!(DataMessage::from_json(bad.as_object().expect("an object")).is_err(), "{bad}");
        }
    }
}
