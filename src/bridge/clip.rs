//! The built-in source: a short clip of H.264 and Opus that is shipped inside the program and plays in a
//! loop, so that there is something to watch before any encoder exists. Driven by time alone.

use std::time::Instant;

use serde_json::Value;

use crate::core::session::{Command, Input, Output, Session};
use crate::core::time::Epoch;

/// The clip as a session with one video track (1) and one audio track (2).
pub struct ClipSession {}

impl ClipSession {
    /// Begins to play at `now`.
    pub fn new(epoch: Epoch, now: Instant) -> ClipSession {
        let _ = (epoch, now);
        todo!()
    }
}

impl Session for ClipSession {
    fn handle_input(&mut self, _now: Instant, _input: Input<'_>) {}

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
