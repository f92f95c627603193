//! A worker that answers nothing.
use crate::core::id::StreamId;
use crate::core::io::Engine;
use crate::core::io::engine::{Action, Verdict};
use crate::core::mail::Mail;
use crate::core::rtp::batch::SendBatch;
use crate::core::rtp::path::Path;
use std::time::Instant;
pub(super) struct Idle;
impl Engine for Idle {
    fn handle_control(&mut self, _: Instant, _: &[u8]) {}
    fn poll_control(&mut self) -> Option<Vec<u8>> {
        None
    }
    fn handle_mail(&mut self, _: Instant, _: Mail, _: Option<StreamId>) {}
    fn handle_datagram(&mut self, _: Instant, _: Path, _: &mut [u8]) -> Verdict {
        Verdict::Unknown
    }
    fn handle_stream(&mut self, _: Instant, _: StreamId, _: &[u8]) {}
    fn handle_stream_closed(&mut self, _: Instant, _: StreamId) {}
    fn handle_lanes(&mut self, _: Instant) {}
    fn handle_timeout(&mut self, _: Instant) {}
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    fn poll_action(&mut self) -> Option<Action> {
        None
    }
    fn flush(&mut self, _: Instant, _: &mut SendBatch) -> bool {
        false
    }
}
