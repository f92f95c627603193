//! Opening of what we receive.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::SrtpError;
use super::suite::{ENCRYPTED, Suite, rtcp_ssrc};
use crate::core::rtp::header::header_length;
use crate::core::rtp::keys::{KeyingMaterial, SrtpProfile};
use crate::core::rtp::window::SequenceWindow;

/// Opens all streams of one transport: roll-over counter and replay window per SSRC, at most `max_streams`
/// of them. A stream is remembered only once a packet of it was authentic.
pub struct SrtpReceiver {
    rtp: Suite,
    rtcp: Suite,
    max_streams: usize,
    rtp_streams: Vec<Stream>,
    rtcp_streams: Vec<Stream>,
}

struct Stream {
    ssrc: u32,
    window: SequenceWindow,
}

impl SrtpReceiver {
    /// Derives the session keys.
    pub fn new(profile: SrtpProfile, keys: &KeyingMaterial, max_streams: usize) -> Result<Self, SrtpError> {
        Ok(Self::with(Suite::rtp(profile, keys)?, Suite::rtcp(profile, keys)?, max_streams))
    }

    pub(super) fn with(rtp: Suite, rtcp: Suite, max_streams: usize) -> Self {
        SrtpReceiver { rtp, rtcp, max_streams, rtp_streams: Vec::new(), rtcp_streams: Vec::new() }
    }

    /// Opens a packet in place: `packet[..len]` is plain RTP afterwards. Returns `len` and the extended
    /// sequence number (roll-over counter above the 16 bits). After an error the bytes mean nothing.
    pub fn open_rtp(&mut self, packet: &mut [u8]) -> Result<(usize, u64), SrtpError> {
        let header_len = header_length(packet).map_err(|_| SrtpError::Malformed)?;
        let fixed = packet.first_chunk::<12>().ok_or(SrtpError::Malformed)?;
        let [_, _, s0, s1, _, _, _, _, c0, c1, c2, c3] = *fixed;
        let sequence = u16::from_be_bytes([s0, s1]);
        let ssrc = u32::from_be_bytes([c0, c1, c2, c3]);
        let place = self.rtp_streams.iter().position(|stream| stream.ssrc == ssrc);
        let stream = place.and_then(|place| self.rtp_streams.get_mut(place));
        let index = match &stream {
            Some(stream) => nearest(stream.window.newest(), sequence).ok_or(SrtpError::Replay)?,
            None => u64::from(sequence),
        };
        match stream {
            Some(stream) => {
                if !stream.window.is_new(index) {
                    return Err(SrtpError::Replay);
                }
                let len = self.rtp.open_rtp(packet, header_len, index, ssrc)?;
                stream.window.note(index);
                Ok((len, index))
            }
            None => {
                if self.rtp_streams.len() >= self.max_streams {
                    return Err(SrtpError::TooManyStreams);
                }
                let len = self.rtp.open_rtp(packet, header_len, index, ssrc)?;
                self.rtp_streams.push(Stream { ssrc, window: SequenceWindow::starting_at(index) });
                Ok((len, index))
            }
        }
    }

    /// Opens a compound packet in place; returns its plain length. After an error the bytes mean nothing.
    pub fn open_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let ssrc = rtcp_ssrc(packet)?;
        let word = self.rtcp.rtcp_word(packet)?;
        if word & ENCRYPTED == 0 {
            return Err(SrtpError::Malformed);
        }
        let index = u64::from(word & !ENCRYPTED);
        let stream = self.rtcp_streams.iter_mut().find(|stream| stream.ssrc == ssrc);
        match stream {
            Some(stream) => {
                if !stream.window.is_new(index) {
                    return Err(SrtpError::Replay);
                }
                let len = self.rtcp.open_rtcp(packet, word, ssrc)?;
                stream.window.note(index);
                Ok(len)
            }
            None => {
                if self.rtcp_streams.len() >= self.max_streams {
                    return Err(SrtpError::TooManyStreams);
                }
                let len = self.rtcp.open_rtcp(packet, word, ssrc)?;
                self.rtcp_streams.push(Stream { ssrc, window: SequenceWindow::starting_at(index) });
                Ok(len)
            }
        }
    }

    /// Forgets a stream that ended, so that another may take its place.
    pub fn forget(&mut self, ssrc: u32) {
        self.rtp_streams.retain(|stream| stream.ssrc != ssrc);
    }
}

/// The index nearest to `newest` whose low 16 bits are `sequence` (RFC 3711 §3.3.1); `None` below zero or
/// beyond 48 bits.
fn nearest(newest: u64, sequence: u16) -> Option<u64> {
    let step = sequence.wrapping_sub(newest as u16) as i16;
    newest.checked_add_signed(i64::from(step)).filter(|index| *index < 1 << 48)
}
