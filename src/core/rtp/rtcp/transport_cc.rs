//! Transport-wide congestion control feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1).
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// Feedback on a run of transport-wide sequence numbers.
#[derive(Clone, Copy, Debug)]
pub struct TransportFeedback<'a> {
    /// Who reports.
    pub sender: u32,
    /// Any stream of the transport.
    pub media: u32,
    /// First sequence number reported on.
    pub base: u16,
    /// How many are reported on.
    pub count: u16,
    /// Reference time in units of 64 ms, 24 bits, signed.
    pub reference: i32,
    /// Counts feedback packets.
    pub number: u8,
    pub(super) body: &'a [u8],
}

/// What became of one packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Arrival {
    /// Transport-wide sequence number.
    pub sequence: u16,
    /// Microseconds on the receiver's clock (since its reference time zero); `None`: lost.
    pub time: Option<i64>,
}

impl<'a> TransportFeedback<'a> {
    /// Each packet reported on, in order. Ends early where the message is malformed.
    pub fn arrivals(&self) -> Arrivals<'a> {
        Arrivals { body: self.body }
    }
}

/// Iterator over [`Arrival`]s.
#[derive(Clone, Debug)]
pub struct Arrivals<'a> {
    body: &'a [u8],
}

impl Iterator for Arrivals<'_> {
    type Item = Arrival;
    fn next(&mut self) -> Option<Arrival> {
        let _ = self.body;
        todo!()
    }
}
