//! RTCP: compound packets read as borrowed values (`read`), written into a buffer (`write`).
//!
//! RFC 3550 §6 (SR, RR, SDES, BYE), RFC 4585 §6 (NACK, PLI), RFC 5104 §4.3.1 (FIR),
//! draft-alvestrand-rmcat-remb-03, draft-holmer-rmcat-transport-wide-cc-extensions-01.

mod feedback;
mod read;
mod transport_cc;
pub mod write;

pub use feedback::{FirEntry, FullIntraRequest, Nack, Remb};
pub use read::{Compound, Goodbye, Packet, ReceiverReport, ReportBlocks, SenderReport, SourceDescription};
pub use transport_cc::{Arrival, Arrivals, TransportFeedback};

#[cfg(test)]
mod tests;

/// Packet types (RFC 3550 §12.1, RFC 4585 §6.1).
mod kind {
    pub(super) const SENDER_REPORT: u8 = 200;
    pub(super) const RECEIVER_REPORT: u8 = 201;
    pub(super) const SOURCE_DESCRIPTION: u8 = 202;
    pub(super) const GOODBYE: u8 = 203;
    pub(super) const TRANSPORT_FEEDBACK: u8 = 205;
    pub(super) const PAYLOAD_FEEDBACK: u8 = 206;
}

/// What is wrong with an RTCP packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RtcpError {
    /// It ends before its length says.
    #[error("RTCP packet cut short")]
    Short,
    /// Its version is not 2.
    #[error("not RTCP version 2")]
    Version,
    /// Its padding is out of bounds.
    #[error("RTCP padding out of bounds")]
    Padding,
    /// Its fields contradict each other.
    #[error("malformed RTCP packet of type {0}")]
    Malformed(u8),
}

impl RtcpError {
    /// Whether any network can be expected to send such a thing: always.
    pub fn is_expected(&self) -> bool {
        true
    }
}

/// What a sender report says of its stream.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SenderInfo {
    /// Wall time as 32.32 fixed-point seconds since 1900.
    pub ntp: u64,
    /// The same moment on the stream's RTP clock.
    pub rtp: u32,
    /// Packets sent so far.
    pub packets: u32,
    /// Payload bytes sent so far.
    pub octets: u32,
}

/// Reception of one source, as reported by a receiver (RFC 3550 §6.4.1).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ReportBlock {
    /// Whose packets.
    pub ssrc: u32,
    /// Fraction lost since the last report, of 256.
    pub fraction_lost: u8,
    /// Packets lost in all; 24 bits, signed.
    pub lost: i32,
    /// Extended highest sequence number received.
    pub highest: u32,
    /// Interarrival jitter in ticks of the stream's clock.
    pub jitter: u32,
    /// Middle 32 bits of the NTP time of the last sender report; 0 without one.
    pub last_sr: u32,
    /// Delay since then in 1/65536 s.
    pub delay_since_last_sr: u32,
}

impl ReportBlock {
    /// Round-trip time in microseconds, by the report's arrival `now_ntp` (full NTP time): RFC 3550 §6.4.1.
    pub fn round_trip(&self, now_ntp: u64) -> Option<u64> {
        if self.last_sr == 0 {
            return None;
        }
        let ticks =
            ((now_ntp >> 16) as u32).wrapping_sub(self.last_sr).wrapping_sub(self.delay_since_last_sr);
        // A clock that ran a little differently gives a small negative number.
        let ticks = if ticks > u32::MAX / 2 { 0 } else { ticks };
        Some((u64::from(ticks) * 1_000_000) >> 16)
    }
}
