//! Settings of the `webrtc` section: which DTLS is spoken, how long a party may take, how large an SDP
//! may be. Ports and addresses are the server's and come to a session as candidates.

use std::time::Duration;

use serde::Deserialize;

/// How WebRTC parties are treated; ports and addresses are not here.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct SessionConfig {
    /// Which DTLS versions are spoken, and which first. Default `prefer-gcm`.
    pub dtls: DtlsPolicy,
    /// Milliseconds from the answer until the first valid connectivity check. Default 15000.
    pub ice_timeout_ms: u64,
    /// Milliseconds from the first valid connectivity check until DTLS is through. Default 15000.
    pub dtls_timeout_ms: u64,
    /// Milliseconds until a DTLS flight is sent again the first time; doubled each time. Default 100.
    pub dtls_retransmit_ms: u64,
    /// How often a DTLS flight is sent again. Default 8.
    pub dtls_retries: usize,
    /// Bytes of the largest DTLS datagram we send. Default 1200.
    pub dtls_mtu: usize,
    /// Milliseconds without a sign of life from the remote party until sending stops (RFC 7675 §5.1).
    /// Default 30000.
    pub consent_timeout_ms: u64,
    /// Milliseconds after that until the session is closed. Default 30000.
    pub lost_timeout_ms: u64,
    /// Packets of media that may go to a new remote address before something authenticated came from
    /// it. Default 50.
    pub probation_packets: u32,
    /// Milliseconds until another new address gets that many; in between one gets none. Default 10000.
    pub probation_interval_ms: u64,
    /// Remote addresses remembered a session. Default 16.
    pub max_paths: usize,
    /// DTLS datagrams kept while the remote fingerprint is not known yet. Default 8.
    pub max_early_datagrams: usize,
    /// Data channels, for transports that are asked to carry them.
    pub sctp: SctpConfig,
    /// Bounds of an SDP offer.
    pub sdp: SdpLimits,
}

impl Default for SessionConfig {
    fn default() -> Self {
        SessionConfig {
            dtls: DtlsPolicy::default(),
            ice_timeout_ms: 15_000,
            dtls_timeout_ms: 15_000,
            dtls_retransmit_ms: 100,
            dtls_retries: 8,
            dtls_mtu: 1_200,
            consent_timeout_ms: 30_000,
            lost_timeout_ms: 30_000,
            probation_packets: 50,
            probation_interval_ms: 10_000,
            max_paths: 16,
            max_early_datagrams: 8,
            sctp: SctpConfig::default(),
            sdp: SdpLimits::default(),
        }
    }
}

impl SessionConfig {
    /// [`Self::ice_timeout_ms`] as a duration.
    pub fn ice_timeout(&self) -> Duration {
        Duration::from_millis(self.ice_timeout_ms)
    }

    /// [`Self::dtls_timeout_ms`] as a duration.
    pub fn dtls_timeout(&self) -> Duration {
        Duration::from_millis(self.dtls_timeout_ms)
    }

    /// [`Self::consent_timeout_ms`] as a duration.
    pub fn consent_timeout(&self) -> Duration {
        Duration::from_millis(self.consent_timeout_ms)
    }

    /// [`Self::probation_interval_ms`] as a duration.
    pub fn probation_interval(&self) -> Duration {
        Duration::from_millis(self.probation_interval_ms)
    }

    /// [`Self::lost_timeout_ms`] as a duration.
    pub fn lost_timeout(&self) -> Duration {
        Duration::from_millis(self.lost_timeout_ms)
    }
}

/// Data channels of one party (RFC 8831).
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct SctpConfig {
    /// Bytes of the largest message, each way. Default 262144.
    pub max_message_bytes: u32,
    /// Streams each way; a channel's id is below. Browsers have no more than 1024. Default 1024.
    pub max_streams: u16,
    /// Channels at once. Default 512.
    pub max_channels: usize,
    /// Bytes that may wait for the party, all channels together. Default 2000000.
    pub send_buffer_bytes: usize,
    /// Bytes of one channel that may wait. Beyond, a reliable channel is closed, and an unreliable one loses
    /// its oldest messages. Default 2000000.
    pub channel_send_buffer_bytes: usize,
    /// Bytes of one channel that are handed to SCTP before the party has acknowledged them; what waits behind
    /// can still be dropped. Default 262144.
    pub in_flight_bytes: usize,
    /// Bytes that may arrive before a message is complete, all channels together. Default 1048576.
    pub receive_buffer_bytes: u32,
    /// Milliseconds that the party is given to begin SCTP before we do. Default 1000.
    pub connect_delay_ms: u64,
    /// How often the first packet of SCTP is sent again. Default 8.
    pub connect_retries: usize,
    /// Milliseconds until something is sent again: at first, at least, at most. Defaults 1000, 400, 10000.
    pub rto_initial_ms: u64,
    /// See [`Self::rto_initial_ms`].
    pub rto_min_ms: u64,
    /// See [`Self::rto_initial_ms`].
    pub rto_max_ms: u64,
}

impl Default for SctpConfig {
    fn default() -> Self {
        SctpConfig {
            max_message_bytes: 262_144,
            max_streams: 1_024,
            max_channels: 512,
            send_buffer_bytes: 2_000_000,
            channel_send_buffer_bytes: 2_000_000,
            in_flight_bytes: 262_144,
            receive_buffer_bytes: 1_048_576,
            connect_delay_ms: 1_000,
            connect_retries: 8,
            rto_initial_ms: 1_000,
            rto_min_ms: 400,
            rto_max_ms: 10_000,
        }
    }
}

impl SctpConfig {
    /// [`Self::connect_delay_ms`] as a duration.
    pub fn connect_delay(&self) -> Duration {
        Duration::from_millis(self.connect_delay_ms)
    }
}

/// Which DTLS versions are spoken.
///
/// Sealing AES-GCM costs a sixth of AES-CM with HMAC-SHA1, and with Chromium GCM is had only from a DTLS
/// 1.2 server: as a 1.3 server the library takes the client's first profile, which in Chromium is AES-CM.
/// Firefox takes GCM either way. As a client the version does not change the profile.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum DtlsPolicy {
    /// As a server 1.2 first and 1.3 with a party that has nothing else; as a client 1.2, which all have.
    #[default]
    PreferGcm,
    /// 1.3 first, 1.2 with a party that has nothing else. As a client it takes no RSA certificates.
    Auto,
    /// Only 1.2.
    #[serde(rename = "1.2")]
    V12,
    /// Only 1.3.
    #[serde(rename = "1.3")]
    V13,
}

/// Bounds of an SDP offer.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct SdpLimits {
    /// Bytes. Default 65536.
    pub max_bytes: usize,
    /// Media sections. Default 32.
    pub max_media: usize,
    /// Attributes, all sections together. Default 2000.
    pub max_attributes: usize,
}

impl Default for SdpLimits {
    fn default() -> Self {
        SdpLimits { max_bytes: 65_536, max_media: 32, max_attributes: 2_000 }
    }
}
