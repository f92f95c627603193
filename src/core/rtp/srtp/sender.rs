//! Protection of what we send.

use super::SrtpError;
use crate::core::rtp::keys::{KeyingMaterial, SrtpProfile};

/// Protects all streams of one transport. The caller keeps each stream's extended sequence number, so
/// there is no state per stream; the SRTCP index is kept here.
pub struct SrtpSender {
    rtcp_index: u32,
}

impl SrtpSender {
    /// Derives the session keys.
    pub fn new(profile: SrtpProfile, keys: &KeyingMaterial) -> Result<Self, SrtpError> {
        let _ = (profile, keys);
        todo!()
    }

    /// Bytes added to each RTP packet.
    pub fn rtp_overhead(&self) -> usize {
        todo!()
    }

    /// Protects one packet out of place: its header is already at `out[..header_len]`, `payload` is plain and
    /// is not copied before it is encrypted. `index` is roll-over counter and sequence number (48 bits).
    /// Returns the datagram's length.
    pub fn seal_rtp(
        &mut self,
        out: &mut [u8],
        header_len: usize,
        index: u64,
        ssrc: u32,
        payload: &[u8],
    ) -> Result<usize, SrtpError> {
        let _ = (out, header_len, index, ssrc, payload);
        todo!()
    }

    /// Protects a packet whose plain payload already stands behind its header in `out` (retransmissions with
    /// their two leading bytes, padded packets): `len` is header and payload.
    pub fn seal_rtp_in_place(
        &mut self,
        out: &mut [u8],
        header_len: usize,
        len: usize,
        index: u64,
        ssrc: u32,
    ) -> Result<usize, SrtpError> {
        let _ = (out, header_len, len, index, ssrc);
        todo!()
    }

    /// Protects the compound packet `plain` into `out`; returns the datagram's length.
    pub fn seal_rtcp(&mut self, plain: &[u8], out: &mut [u8]) -> Result<usize, SrtpError> {
        let _ = (plain, out, self.rtcp_index);
        todo!()
    }
}
