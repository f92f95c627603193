//! What can be set for RTMP, with the bounds that hold against a hostile party.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use serde::Deserialize;

use crate::rtmp::wire::amf0::AmfLimits;

/// The `rtmp` section of the configuration.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct RtmpConfig {
    /// Address and port for plain RTMP. Default `[::]:1935`; `null` turns it off.
    pub listen: Option<SocketAddr>,
    /// Address and port for RTMP over TLS. Default none.
    pub tls_listen: Option<SocketAddr>,
    /// Milliseconds a connection may take for the handshake (TLS included). Default 10000.
    pub handshake_timeout_ms: u64,
    /// Milliseconds a connection may take from the handshake to `publish`. Default 10000.
    pub publish_timeout_ms: u64,
    /// Milliseconds without one byte from a publisher after which it counts as gone. Default 30000.
    pub idle_timeout_ms: u64,
    /// Milliseconds after which a publisher without picture or without sound is told so. Default 5000.
    pub silence_notice_ms: u64,
    /// Connections that have not begun to publish, all together. Default 256.
    pub max_half_open: usize,
    /// Connections that have not begun to publish, of one address (IPv6: one /64). Default 16.
    pub max_half_open_per_address: usize,
    /// Bytes of one message, after its chunks are joined. Default 8388608 (8 MiB).
    pub max_message_bytes: usize,
    /// Bytes of begun messages of all chunk streams of a connection. Default 12582912 (12 MiB).
    pub max_partial_bytes: usize,
    /// Chunk streams of a connection. Default 32.
    pub max_chunk_streams: usize,
    /// Bytes a connection may send before it publishes. Default 65536.
    pub max_bytes_before_publish: usize,
    /// Depth to which objects may stand in one another in a command. Default 8.
    pub max_amf_depth: usize,
    /// Values in one command or data message. Default 1024.
    pub max_amf_values: usize,
    /// Bytes of one string in a command or data message. Default 16384.
    pub max_amf_string_bytes: usize,
    /// A step of the encoder's timestamps, in milliseconds, beyond which they are taken to have
    /// been started anew. Default 10000.
    pub max_timestamp_step_ms: u32,
    /// Bytes after which both sides acknowledge, as we ask it of the encoder. Default 2500000.
    pub window_bytes: u32,
}

impl Default for RtmpConfig {
    fn default() -> Self {
        RtmpConfig {
            listen: Some(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 1935))),
            tls_listen: None,
            handshake_timeout_ms: 10_000,
            publish_timeout_ms: 10_000,
            idle_timeout_ms: 30_000,
            silence_notice_ms: 5_000,
            max_half_open: 256,
            max_half_open_per_address: 16,
            max_message_bytes: 8 << 20,
            max_partial_bytes: 12 << 20,
            max_chunk_streams: 32,
            max_bytes_before_publish: 64 << 10,
            max_amf_depth: 8,
            max_amf_values: 1024,
            max_amf_string_bytes: 16 << 10,
            max_timestamp_step_ms: 10_000,
            window_bytes: 2_500_000,
        }
    }
}

impl RtmpConfig {
    /// `handshake_timeout_ms`.
    pub fn handshake_timeout(&self) -> Duration {
        Duration::from_millis(self.handshake_timeout_ms)
    }

    /// `publish_timeout_ms`.
    pub fn publish_timeout(&self) -> Duration {
        Duration::from_millis(self.publish_timeout_ms)
    }

    /// `idle_timeout_ms`.
    pub fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms)
    }

    /// `max_amf_depth`, `max_amf_values`, `max_amf_string_bytes`.
    pub fn amf_limits(&self) -> AmfLimits {
        AmfLimits {
            depth: self.max_amf_depth,
            values: self.max_amf_values,
            string_bytes: self.max_amf_string_bytes,
        }
    }

    /// `silence_notice_ms`.
    pub fn silence_notice(&self) -> Duration {
        Duration::from_millis(self.silence_notice_ms)
    }
}
