//! From a stream's RTP timestamps to media time, with one clock per publisher, so that what was captured
//! together stays together (RFC 3550 §6.4.1).

use crate::core::rtp::rtcp::SenderInfo;
use crate::core::time::MediaTime;

/// The publisher's wall clock as we know it: shared by the publisher's streams.
#[derive(Clone, Copy, Debug, Default)]
pub struct PublisherClock {
    offset: Option<i64>,
}

/// One stream's clock.
#[derive(Clone, Debug)]
pub struct StreamClock {
    rate: u32,
}

impl StreamClock {
    /// For an RTP clock of `rate` Hz.
    pub fn new(rate: u32) -> Self {
        StreamClock { rate }
    }

    /// Extends `timestamp` and gives its media time. `arrival` anchors the clock before any sender report, and
    /// after a jump of the timestamps.
    pub fn map(
        &mut self,
        publisher: &PublisherClock,
        arrival: MediaTime,
        timestamp: u32,
    ) -> (u64, MediaTime) {
        let _ = (publisher.offset, arrival, timestamp, self.rate);
        todo!()
    }

    /// Takes a sender report of the stream.
    pub fn sender_report(&mut self, publisher: &mut PublisherClock, now: MediaTime, info: &SenderInfo) {
        let _ = (publisher, now, info);
        todo!()
    }
}
