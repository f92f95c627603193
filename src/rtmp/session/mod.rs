//! One RTMP connection as a value, from the handshake to the good-bye.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

use crate::core::session::{Command, Input, Output, Session};
use crate::core::time::Epoch;
use crate::rtmp::{PublishRequest, Reject, RtmpConfig};

pub mod tls;

/// One publisher. Before `publish` it is driven by the main thread, afterwards by a worker.
pub struct RtmpSession {
    out: VecDeque<Output>,
    request: Option<PublishRequest>,
}

impl RtmpSession {
    /// A session for a connection accepted at `now`.
    pub fn new(config: Arc<RtmpConfig>, epoch: Epoch, now: Instant) -> Self {
        let _ = (config, epoch, now);
        RtmpSession { out: VecDeque::new(), request: None }
    }

    /// What the party wants to publish, once it has said so; the session waits for
    /// [`accept`](Self::accept) or [`reject`](Self::reject).
    pub fn take_request(&mut self) -> Option<PublishRequest> {
        self.request.take()
    }

    /// Lets the publisher in. The answer to it waits in the session until the worker drains it.
    pub fn accept(&mut self, now: Instant) {
        let _ = now;
    }

    /// Turns the publisher away and ends the session.
    pub fn reject(&mut self, now: Instant, reject: Reject) {
        let _ = (now, reject);
    }
}

impl Session for RtmpSession {
    fn handle_input(&mut self, _now: Instant, _input: Input<'_>) {}

    fn command(&mut self, _now: Instant, _command: Command) -> Result<Value, String> {
        Ok(Value::Null)
    }

    fn handle_timeout(&mut self, _now: Instant) {}

    fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn dump(&self) -> Value {
        Value::Null
    }
}
