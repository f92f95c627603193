//! Opening of what we receive.

use super::SrtpError;
use crate::core::rtp::keys::{KeyingMaterial, SrtpProfile};

/// Opens all streams of one transport: roll-over counter and replay window per SSRC, at most `max_streams`
/// of them. A stream is remembered only once a packet of it was authentic.
pub struct SrtpReceiver {
    max_streams: usize,
}

impl SrtpReceiver {
    /// Derives the session keys.
    pub fn new(profile: SrtpProfile, keys: &KeyingMaterial, max_streams: usize) -> Result<Self, SrtpError> {
        let _ = (profile, keys, max_streams);
        todo!()
    }

    /// Opens a packet in place: `packet[..len]` is plain RTP afterwards. Returns `len` and the extended
    /// sequence number (roll-over counter above the 16 bits).
    pub fn open_rtp(&mut self, packet: &mut [u8]) -> Result<(usize, u64), SrtpError> {
        let _ = (packet, self.max_streams);
        todo!()
    }

    /// Opens a compound packet in place; returns its plain length.
    pub fn open_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let _ = packet;
        todo!()
    }
}
