//! Protection of what we send.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::suite::{ENCRYPTED, Plain, Suite};
use super::{SrtpError, suite};
use crate::core::rtp::keys::{KeyingMaterial, SrtpProfile};

/// Protects all streams of one transport. The caller keeps each stream's extended sequence number, so
/// there is no state per stream; the SRTCP index is kept here.
pub struct SrtpSender {
    rtp: suite::Suite,
    rtcp: suite::Suite,
    rtcp_index: u32,
}

impl SrtpSender {
    /// Derives the session keys.
    pub fn new(profile: SrtpProfile, keys: &KeyingMaterial) -> Result<Self, SrtpError> {
        Ok(Self::with(Suite::rtp(profile, keys)?, Suite::rtcp(profile, keys)?))
    }

    pub(super) fn with(rtp: Suite, rtcp: Suite) -> Self {
        SrtpSender { rtp, rtcp, rtcp_index: 0 }
    }

    /// Bytes added to each RTP packet.
    pub fn rtp_overhead(&self) -> usize {
        self.rtp.tag_len()
    }

    /// Protects one packet out of place: its header is already at `out[..header_len]`, `payload` is plain and
    /// is not copied before it is encrypted. `index` is roll-over counter and sequence number (48 bits).
    /// Returns the datagram's length.
    #[inline]
    pub fn seal_rtp(
        &mut self,
        out: &mut [u8],
        header_len: usize,
        index: u64,
        ssrc: u32,
        payload: &[u8],
    ) -> Result<usize, SrtpError> {
        self.rtp.seal_rtp(out, header_len, index, ssrc, Plain::Outside(payload))
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
        let payload = len.checked_sub(header_len).ok_or(SrtpError::NoRoom)?;
        self.rtp.seal_rtp(out, header_len, index, ssrc, Plain::Inside(payload))
    }

    /// Protects the compound packet `plain` into `out`; returns the datagram's length.
    pub fn seal_rtcp(&mut self, plain: &[u8], out: &mut [u8]) -> Result<usize, SrtpError> {
        if self.rtcp_index >= ENCRYPTED {
            return Err(SrtpError::Exhausted);
        }
        let len = self.rtcp.seal_rtcp(plain, self.rtcp_index, out)?;
        self.rtcp_index = self.rtcp_index.saturating_add(1);
        Ok(len)
    }

    #[cfg(test)]
    pub(super) fn set_rtcp_index(&mut self, index: u32) {
        self.rtcp_index = index;
    }
}
