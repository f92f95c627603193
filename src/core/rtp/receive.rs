//! Bookkeeping of one incoming stream: statistics and report blocks (RFC 3550 §6.4, A.3, A.8), loss and its
//! repair (RFC 4585), transport-wide feedback.

use std::time::Duration;

use crate::core::rtp::rtcp::{ReportBlock, SenderInfo};
use crate::core::time::MediaTime;

/// Statistics of one incoming stream.
#[derive(Clone, Debug)]
pub struct ReceiveStats {
    clock_rate: u32,
}

impl ReceiveStats {
    /// For a stream with an RTP clock of `clock_rate` Hz.
    pub fn new(clock_rate: u32) -> Self {
        ReceiveStats { clock_rate }
    }

    /// Counts a packet. `sequence` is extended, `bytes` its payload.
    pub fn packet(&mut self, now: MediaTime, sequence: u64, timestamp: u32, bytes: usize) {
        let _ = (now, sequence, timestamp, bytes, self.clock_rate);
        todo!()
    }

    /// Notes a sender report of the stream.
    pub fn sender_report(&mut self, now: MediaTime, info: &SenderInfo) {
        let _ = (now, info);
        todo!()
    }

    /// Report block for the next RR; starts a new interval for the fraction lost.
    pub fn report(&mut self, now: MediaTime, ssrc: u32) -> ReportBlock {
        let _ = (now, ssrc);
        todo!()
    }

    /// Packets received.
    pub fn packets(&self) -> u64 {
        todo!()
    }

    /// Payload bytes received.
    pub fn bytes(&self) -> u64 {
        todo!()
    }

    /// Packets lost and not repaired.
    pub fn lost(&self) -> i64 {
        todo!()
    }

    /// Interarrival jitter in ticks.
    pub fn jitter(&self) -> u32 {
        todo!()
    }
}

/// Bounds of loss repair.
#[derive(Clone, Copy, Debug)]
pub struct NackLimits {
    /// Missing packets tracked at once; beyond it the stream is given up and a keyframe asked for.
    pub max_missing: usize,
    /// A missing packet older than this is given up.
    pub max_age: Duration,
    /// Requests for one packet.
    pub max_retries: u8,
    /// Wait before the first request, for packets that are only out of order.
    pub reorder: Duration,
}

impl Default for NackLimits {
    fn default() -> Self {
        NackLimits {
            max_missing: 512,
            max_age: Duration::from_secs(1),
            max_retries: 10,
            reorder: Duration::from_millis(5),
        }
    }
}

/// Finds gaps and says when to ask for what.
#[derive(Debug)]
pub struct NackGenerator {
    limits: NackLimits,
}

impl NackGenerator {
    /// One that has seen nothing.
    pub fn new(limits: NackLimits) -> Self {
        NackGenerator { limits }
    }

    /// Notes that a packet arrived (first time, late or retransmitted).
    pub fn received(&mut self, now: MediaTime, sequence: u64) {
        let _ = (now, sequence, self.limits);
        todo!()
    }

    /// Puts the sequence numbers to ask for now into `lost` (which it clears), ascending. Returns `true` when
    /// something was given up since the last call: ask for a keyframe.
    pub fn poll(&mut self, now: MediaTime, round_trip: Duration, lost: &mut Vec<u16>) -> bool {
        let _ = (now, round_trip, lost);
        todo!()
    }

    /// When `poll` may have something; `None` when nothing is missing.
    pub fn next_timeout(&self) -> Option<MediaTime> {
        todo!()
    }
}

/// Refuses what it has seen: needed where SRTP's replay window does not see the packets (RTX, plain RTP).
#[derive(Clone, Debug, Default)]
pub struct DuplicateGuard {
    newest: Option<u64>,
}

impl DuplicateGuard {
    /// Whether `sequence` is new; notes it.
    pub fn accept(&mut self, sequence: u64) -> bool {
        let _ = (sequence, self.newest);
        todo!()
    }
}

/// Records arrivals of transport-wide sequence numbers and writes the feedback for the sender's estimator.
#[derive(Debug)]
pub struct TransportCcRecorder {
    interval: Duration,
}

impl TransportCcRecorder {
    /// Feedback is due every `interval` (50 to 100 ms) while packets come.
    pub fn new(interval: Duration) -> Self {
        TransportCcRecorder { interval }
    }

    /// Notes a packet.
    pub fn received(&mut self, now: MediaTime, sequence: u16) {
        let _ = (now, sequence, self.interval);
        todo!()
    }

    /// When feedback is due; `None` while there is nothing to report.
    pub fn next_timeout(&self) -> Option<MediaTime> {
        todo!()
    }

    /// Appends the feedback that is due at `now` to `out`, one or more RTCP packets; `false` when none is.
    pub fn poll(&mut self, now: MediaTime, sender: u32, media: u32, out: &mut Vec<u8>) -> bool {
        let _ = (now, sender, media, out);
        todo!()
    }
}
