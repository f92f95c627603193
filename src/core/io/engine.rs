//! What a worker's loop drives: the sans-IO worker, or a stand-in that lets the loop be tested alone.
//!
//! The order of one round: control, mail, lanes, sockets, timeout, actions, flush, control out.

use std::time::Instant;

use crate::core::id::StreamId;
use crate::core::mail::Mail;
use crate::core::rtp::batch::SendBatch;
use crate::core::rtp::path::Path;

use crate::core::worker::Worker;
pub use crate::core::worker::{Action, LegSocket, LegSockets, Verdict};

/// A worker as a value; see [`crate::core::io`] for who calls it when.
pub trait Engine {
    /// One request or notification of the control protocol.
    fn handle_control(&mut self, now: Instant, json: &[u8]);
    /// The next answer or event.
    fn poll_control(&mut self) -> Option<Vec<u8>>;
    /// A hand-over from the main thread; its socket, if it had one, is now `stream`.
    fn handle_mail(&mut self, now: Instant, mail: Mail, stream: Option<StreamId>);
    /// One datagram or ICE-TCP frame.
    fn handle_datagram(&mut self, now: Instant, path: Path, data: &mut [u8]) -> Verdict;
    /// One datagram on a leg's socket.
    fn handle_leg(&mut self, now: Instant, path: Path, data: &mut [u8]);
    /// The sockets asked for by [`Action::OpenLeg`], or why there are none.
    fn handle_leg_opened(&mut self, now: Instant, leg: u32, opened: Result<LegSockets, String>);
    /// The socket asked for by [`Action::OpenMirror`], or why there is none.
    fn handle_mirror_opened(&mut self, transport: u32, opened: Result<LegSocket, String>);
    /// Bytes of an adopted stream.
    fn handle_stream(&mut self, now: Instant, stream: StreamId, data: &[u8]);
    /// An adopted stream or ICE-TCP connection is gone: the other end closed it, it broke, or a bound closed it.
    fn handle_stream_closed(&mut self, now: Instant, stream: StreamId);
    /// A lane's wake fired.
    fn handle_lanes(&mut self, now: Instant);
    /// Time has passed.
    fn handle_timeout(&mut self, now: Instant);
    /// When it next wants to know.
    fn poll_timeout(&self) -> Option<Instant>;
    /// The next thing to do.
    fn poll_action(&mut self) -> Option<Action>;
    /// Seals what waits into `batch`; `true`: it filled up, send it and call again.
    fn flush(&mut self, now: Instant, batch: &mut SendBatch) -> bool;
    /// The loop ends after one more flush.
    fn handle_shutdown(&mut self, now: Instant);
}

impl Engine for Worker {
    fn handle_control(&mut self, now: Instant, json: &[u8]) {
        Worker::handle_control(self, now, json);
    }

    fn poll_control(&mut self) -> Option<Vec<u8>> {
        Worker::poll_control(self)
    }

    fn handle_mail(&mut self, now: Instant, mail: Mail, stream: Option<StreamId>) {
        Worker::handle_mail(self, now, mail, stream);
    }

    fn handle_datagram(&mut self, now: Instant, path: Path, data: &mut [u8]) -> Verdict {
        Worker::handle_datagram(self, now, path, data)
    }

    fn handle_leg(&mut self, now: Instant, path: Path, data: &mut [u8]) {
        Worker::handle_leg(self, now, path, data);
    }

    fn handle_leg_opened(&mut self, now: Instant, leg: u32, opened: Result<LegSockets, String>) {
        Worker::handle_leg_opened(self, now, leg, opened);
    }

    fn handle_mirror_opened(&mut self, transport: u32, opened: Result<LegSocket, String>) {
        Worker::handle_mirror_opened(self, transport, opened);
    }

    fn handle_stream(&mut self, now: Instant, stream: StreamId, data: &[u8]) {
        Worker::handle_stream(self, now, stream, data);
    }

    fn handle_stream_closed(&mut self, now: Instant, stream: StreamId) {
        Worker::handle_stream_closed(self, now, stream);
    }

    fn handle_lanes(&mut self, now: Instant) {
        Worker::handle_lanes(self, now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        Worker::handle_timeout(self, now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        Worker::poll_timeout(self)
    }

    fn poll_action(&mut self) -> Option<Action> {
        Worker::poll_action(self)
    }

    fn flush(&mut self, now: Instant, batch: &mut SendBatch) -> bool {
        Worker::flush(self, now, batch)
    }

    fn handle_shutdown(&mut self, now: Instant) {
        Worker::handle_shutdown(self, now);
    }
}
