//! RTMP over TLS: the TLS connection is driven without a socket, like the session in it, so that both
//! move to the worker as one value.

use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

use crate::core::session::{Command, Input, Output, Session};
use crate::rtmp::{RtmpError, RtmpSession};

/// A TLS connection with an RTMP session inside.
pub struct TlsSession {
    tls: rustls::ServerConnection,
    inner: RtmpSession,
}

impl TlsSession {
    /// Wraps `inner`; the TLS handshake has not begun.
    pub fn new(config: Arc<rustls::ServerConfig>, inner: RtmpSession) -> Result<Self, RtmpError> {
        let tls = rustls::ServerConnection::new(config).map_err(|error| RtmpError::Tls(error.to_string()))?;
        Ok(TlsSession { tls, inner })
    }

    /// The session inside.
    pub fn inner_mut(&mut self) -> &mut RtmpSession {
        &mut self.inner
    }
}

impl Session for TlsSession {
    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        let _ = &self.tls;
        self.inner.handle_input(now, input);
    }

    fn command(&mut self, now: Instant, command: Command) -> Result<Value, String> {
        self.inner.command(now, command)
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.inner.handle_timeout(now);
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.inner.poll_output()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.inner.poll_timeout()
    }

    fn dump(&self) -> Value {
        self.inner.dump()
    }
}
