//! The fields of the v2 messages that clients send.

use serde::Deserialize;
use serde_json::Value;

use crate::core::capabilities::ortc::Capabilities;
use crate::core::capabilities::{Kind, RtpParameters};
use crate::core::control::{DtlsParameters, WebRtcOptions};
use crate::core::profile::Profile;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Join {
    pub peer_name: String,
    pub rtp_capabilities: Capabilities,
    #[serde(default)]
    pub spy: bool,
    #[serde(default)]
    pub app_data: Value,
}

#[derive(Clone, Copy, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Direction {
    Send,
    Recv,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CreateTransport {
    pub id: u32,
    pub direction: Direction,
    #[serde(default)]
    pub options: Option<WebRtcOptions>,
    pub dtls_parameters: Option<DtlsParameters>,
    pub plain_rtp_parameters: Option<Value>,
}

/// Whatever is about one entity and says nothing more.
#[derive(Deserialize)]
pub(super) struct Ref {
    pub id: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UpdateTransport {
    pub id: u32,
    pub dtls_parameters: Option<DtlsParameters>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CreateProducer {
    pub id: u32,
    pub kind: Kind,
    pub transport_id: u32,
    pub rtp_parameters: RtpParameters,
    #[serde(default)]
    pub paused: bool,
    #[serde(default)]
    pub app_data: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EnableConsumer {
    pub id: u32,
    pub transport_id: u32,
    #[serde(default)]
    pub paused: bool,
    #[serde(default)]
    pub preferred_profile: Option<Profile>,
}

#[derive(Deserialize)]
pub(super) struct Preference {
    pub id: u32,
    pub profile: Profile,
}

#[derive(Deserialize)]
pub(super) struct Subscribe {
    pub id: u32,
    /// Milliseconds, whatever type of number.
    #[serde(default)]
    pub interval: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DisplayName {
    pub display_name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConsumerProfile {
    pub consumer_id: u32,
    pub profile: Profile,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConsumerRef {
    pub consumer_id: u32,
}
