//! Settings of the HTTP listener. Every bound of it stands here with its default and unit.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

/// The `http` section of the configuration.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Addresses to listen on; default `[::]:8889`, which takes IPv4 too where the system allows.
    pub listen: Vec<SocketAddr>,
    /// Certificate and key files; default none (plain HTTP).
    pub tls: Option<TlsFiles>,
    /// Origins of other sites' pages that may open WebSockets here, such as `https://app.example`; `*`: any. The
    /// server's own pages may. Default none.
    pub origins: Vec<String>,
    /// Open connections in all; default 4096.
    pub max_connections: usize,
    /// Open connections of one address (of one /64 with IPv6); default 256.
    pub max_connections_per_address: usize,
    /// Size of a request's head in bytes, at least 8192; default 16384.
    pub max_header_bytes: usize,
    /// Header lines in a request; default 64.
    pub max_headers: usize,
    /// Size of a request's body in bytes; default 65536.
    pub max_body_bytes: usize,
    /// Milliseconds for a request's head to arrive whole, counted from the end of the request before,
    /// so that it also bounds how long an idle connection is kept; default 30000.
    pub header_timeout_ms: u64,
    /// Milliseconds for a TLS handshake, or for the first byte of a connection; default 10000.
    pub handshake_timeout_ms: u64,
    /// Milliseconds for a request's body to arrive and its answer to be made; default 20000.
    pub request_timeout_ms: u64,
    /// Milliseconds in which a connection that is being read or written must move a byte; default 60000.
    pub idle_timeout_ms: u64,
    /// Milliseconds that requests under way get when the server stops; default 2000.
    pub drain_timeout_ms: u64,
    /// Milliseconds for which the answer to a POST with an `Idempotency-Key` is kept; default 600000.
    pub idempotency_ttl_ms: u64,
    /// Such answers at most; default 10000.
    pub max_idempotency_keys: usize,
    /// Milliseconds without a request at `/api/control` and without a reader of its events after which a key's controller
    /// counts as gone, and what it made ends or lingers as it asked; default 60000.
    pub control_idle_ms: u64,
    /// Events kept for each such controller, for those who read them late; default 1024.
    pub max_control_events: usize,
    /// Milliseconds between looks at the certificate files; default 5000.
    pub tls_reload_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: vec![SocketAddr::from(([0u16; 8], 8889))],
            tls: None,
            origins: Vec::new(),
            max_connections: 4096,
            max_connections_per_address: 256,
            max_header_bytes: 16 * 1024,
            max_headers: 64,
            max_body_bytes: 64 * 1024,
            header_timeout_ms: 30_000,
            handshake_timeout_ms: 10_000,
            request_timeout_ms: 20_000,
            idle_timeout_ms: 60_000,
            drain_timeout_ms: 2_000,
            idempotency_ttl_ms: 600_000,
            max_idempotency_keys: 10_000,
            control_idle_ms: 60_000,
            max_control_events: 1_024,
            tls_reload_ms: 5_000,
        }
    }
}

impl Config {
    pub(super) fn header_timeout(&self) -> Duration {
        Duration::from_millis(self.header_timeout_ms)
    }

    pub(super) fn handshake_timeout(&self) -> Duration {
        Duration::from_millis(self.handshake_timeout_ms)
    }

    pub(super) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }

    pub(super) fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms)
    }

    pub(super) fn drain_timeout(&self) -> Duration {
        Duration::from_millis(self.drain_timeout_ms)
    }

    pub(super) fn tls_reload(&self) -> Duration {
        Duration::from_millis(self.tls_reload_ms.max(100))
    }
}

/// Where the certificate of the HTTPS listener lies (`http.tls`).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// PEM file with the certificate and its chain.
    pub certificate: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}
