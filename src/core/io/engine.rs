//! What a worker's loop drives: the sans-IO worker, or a stand-in that lets the loop be tested alone.
//!
//! The order of one round: control, mail, lanes, sockets, timeout, actions, flush, control out.

use std::time::Instant;

use crate::core::id::StreamId;
use crate::core::mail::Mail;
use crate::core::rtp::batch::SendBatch;
use crate::core::rtp::path::Path;

/// Whether a datagram was somebody's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It belongs to a session.
    Claimed,
    /// It is nobody's; an ICE-TCP connection whose first frame is nobody's is closed.
    Unknown,
}

/// What the engine asks of the loop.
#[derive(Debug)]
pub enum Action {
    /// Queue bytes for a stream.
    Write {
        /// The stream.
        stream: StreamId,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Deliver what waits and close the stream. This is not reported back by `handle_stream_closed`.
    Close {
        /// The stream.
        stream: StreamId,
    },
    /// End the worker.
    Shutdown,
}

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
}
