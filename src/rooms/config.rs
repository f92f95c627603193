//! Settings of the rooms' WebSocket door. Every bound of it stands here with its default and unit.

use std::time::Duration;

use serde::Deserialize;

use crate::core::capabilities::room::Dialect;

/// The `room_clients` section of the configuration.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// WebSockets at once; default 10000.
    pub max_connections: usize,
    /// WebSockets of one address (of one /64 with IPv6); default 256. Loopback counts in the total only.
    pub max_connections_per_address: usize,
    /// Size of one message of a client in bytes; default 131072.
    pub max_message_bytes: usize,
    /// Requests of one client that may be under way; default 128.
    pub max_requests: usize,
    /// Messages of one client a second, on the long run; default 100. More are read later, not refused.
    pub messages_per_second: u32,
    /// Messages of one client that may come at once; default 400.
    pub message_burst: u32,
    /// Milliseconds in which a client must have joined, counted from the connection or from leaving; default 60000.
    pub join_timeout_ms: u64,
    /// Milliseconds for a client to answer a request of ours; default 20000.
    pub request_timeout_ms: u64,
    /// Milliseconds for a client to take a message in; default 15000. One that does not read is disconnected.
    pub send_timeout_ms: u64,
    /// Milliseconds between pings; default 20000. A client that is silent for three of them is disconnected.
    pub ping_interval_ms: u64,
    /// Shortest time between two statistics of one kind that a v2 client can subscribe to, in milliseconds;
    /// default 1000.
    pub stats_interval_ms: u64,
    /// Subscriptions to statistics of one client; default 64.
    pub max_stats: usize,
    /// Which RTP header extensions v2 clients are offered; default `safe`.
    pub v2_header_extensions: V2Extensions,
}

/// See [`Config::v2_header_extensions`].
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum V2Extensions {
    /// Those with which Chromium may send sound and picture in any order: audio level, abs-send-time and the
    /// stream id of simulcast layers.
    Safe,
    /// The media id and the rotation of pictures as well: phones that are turned need not encode turned pictures.
    /// A Chromium that sends a picture before sound fails ("RTP extension ID reassignment not supported").
    Full,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            max_connections: 10_000,
            max_connections_per_address: 256,
            max_message_bytes: 128 * 1024,
            max_requests: 128,
            messages_per_second: 100,
            message_burst: 400,
            join_timeout_ms: 60_000,
            request_timeout_ms: 20_000,
            send_timeout_ms: 15_000,
            ping_interval_ms: 20_000,
            stats_interval_ms: 1_000,
            max_stats: 64,
            v2_header_extensions: V2Extensions::Safe,
        }
    }
}

impl Config {
    pub(super) fn join_timeout(&self) -> Duration {
        Duration::from_millis(self.join_timeout_ms)
    }

    pub(super) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }

    pub(super) fn send_timeout(&self) -> Duration {
        Duration::from_millis(self.send_timeout_ms)
    }

    pub(super) fn ping_interval(&self) -> Duration {
        Duration::from_millis(self.ping_interval_ms.max(1))
    }

    /// What v2 clients are offered.
    pub(super) fn v2_dialect(&self) -> Dialect {
        match self.v2_header_extensions {
            V2Extensions::Safe => Dialect::V2Safe,
            V2Extensions::Full => Dialect::V2,
        }
    }
}
