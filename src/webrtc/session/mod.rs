//! A WebRTC party as a `Session`: ICE-lite and DTLS, until its keys are handed to the worker.

use std::time::Instant;

use serde_json::Value;

use crate::core::session::{Command, Input, LocalCandidate, Output, Session, SessionFactory};
use crate::core::time::Epoch;
use crate::webrtc::{SessionConfig, WebRtcError};

pub mod certificate;

use certificate::Certificate;

/// Makes WebRTC sessions that share a certificate and settings.
pub struct Factory {}

impl Factory {
    /// A factory for sessions that show `certificate`.
    pub fn new(_config: SessionConfig, _certificate: Certificate) -> Result<Factory, WebRtcError> {
        todo!()
    }
}

impl SessionFactory for Factory {
    fn webrtc(
        &self,
        _now: Instant,
        _epoch: Epoch,
        _options: &Value,
        _candidates: &[LocalCandidate],
    ) -> Result<Box<dyn Session>, String> {
        todo!()
    }

    fn route_key<'a>(&self, _datagram: &'a [u8]) -> Option<&'a str> {
        todo!()
    }
}

/// One remote WebRTC party.
pub struct WebRtcSession {}

impl Session for WebRtcSession {
    fn handle_input(&mut self, _now: Instant, _input: Input<'_>) {
        todo!()
    }

    fn command(&mut self, _now: Instant, _command: Command) -> Result<Value, String> {
        todo!()
    }

    fn handle_timeout(&mut self, _now: Instant) {
        todo!()
    }

    fn poll_output(&mut self) -> Option<Output> {
        todo!()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }

    fn dump(&self) -> Value {
        todo!()
    }
}
