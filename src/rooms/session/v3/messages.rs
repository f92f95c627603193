//! The fields of the v3 messages that clients send. Ids travel as strings.

use std::num::NonZeroU8;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::core::capabilities::ortc::Capabilities;
use crate::core::capabilities::{Kind, RtpParameters};
use crate::core::control::DtlsParameters;
use crate::core::data::SctpStreamParameters;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Join {
    pub display_name: String,
    #[serde(default)]
    pub device: Value,
    pub rtp_capabilities: Option<Capabilities>,
    pub sctp_capabilities: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
pub(super) struct CreateTransport {
    pub force_tcp: bool,
    pub producing: Option<bool>,
    pub consuming: bool,
    pub sctp_capabilities: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConnectTransport {
    #[serde(deserialize_with = "id")]
    pub transport_id: u32,
    pub dtls_parameters: DtlsParameters,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TransportRef {
    #[serde(deserialize_with = "id")]
    pub transport_id: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Produce {
    #[serde(deserialize_with = "id")]
    pub transport_id: u32,
    pub kind: Kind,
    pub rtp_parameters: RtpParameters,
    #[serde(default)]
    pub paused: bool,
    #[serde(default)]
    pub app_data: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProduceData {
    #[serde(deserialize_with = "id")]
    pub transport_id: u32,
    pub sctp_stream_parameters: SctpStreamParameters,
    #[serde(default)]
    pub label: String,
    #[serde(default)]
    pub protocol: String,
    #[serde(default)]
    pub app_data: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProducerRef {
    #[serde(deserialize_with = "id")]
    pub producer_id: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConsumerRef {
    #[serde(deserialize_with = "id")]
    pub consumer_id: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Layers {
    #[serde(deserialize_with = "id")]
    pub consumer_id: u32,
    pub spatial_layer: u8,
    pub temporal_layer: Option<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Priority {
    #[serde(deserialize_with = "id")]
    pub consumer_id: u32,
    pub priority: NonZeroU8,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DataProducerRef {
    #[serde(deserialize_with = "id")]
    pub data_producer_id: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DataConsumerRef {
    #[serde(deserialize_with = "id")]
    pub data_consumer_id: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DisplayName {
    pub display_name: String,
}

/// An id: a number in a string.
fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let text = String::deserialize(deserializer)?;
    u32::from_str(&text).map_err(|_| serde::de::Error::custom(format!("{text:?} is no id of this server")))
}
