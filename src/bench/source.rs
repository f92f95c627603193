//! One publisher's encoder: which packets are due, and what its receivers' requests for keyframes do.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::media::{FRAME_RATE, Piece, frame};
use super::sdp;
use crate::core::rtp::header::{HeaderFields, write_header};
use crate::core::rtp::rtcp::{Compound, Packet};
use crate::core::rtp::srtp::SrtpSender;

/// Between two frames.
pub const FRAME_INTERVAL: Duration = Duration::from_nanos(1_000_000_000 / FRAME_RATE);
/// A paced sender spreads a frame's packets over this, as browsers' pacers do.
const PACED_OVER: Duration = Duration::from_millis(10);
/// Keyframes on request come no closer than this, in frames.
const LEAST_FRAMES: u64 = FRAME_RATE;

/// How sources send.
#[derive(Clone, Copy, Debug)]
pub struct Pattern {
    /// A keyframe each so many frames, if nobody asks for one before.
    pub keyframe_every: u64,
    /// A frame's packets are spread instead of sent at once.
    pub paced: bool,
    /// Requests for keyframes are not heard, as by encoders of files and cameras.
    pub deaf: bool,
}

/// See the module.
pub struct Source {
    ssrc: u32,
    pattern: Pattern,
    /// Frames so far, and since the last keyframe.
    frames: u64,
    since_key: u64,
    wanted: bool,
    sequence: u64,
    next_frame: Instant,
    /// Packets of the newest frame that are not sent yet, and when the next of them is due.
    waiting: VecDeque<Piece>,
    next_piece: Instant,
    gap: Duration,
}

impl Source {
    /// A source that sends as `ssrc`, its first frame at `begin`.
    pub fn new(ssrc: u32, pattern: Pattern, begin: Instant) -> Self {
        Source {
            ssrc,
            pattern,
            frames: 0,
            since_key: pattern.keyframe_every,
            wanted: false,
            sequence: 0,
            next_frame: begin,
            waiting: VecDeque::new(),
            next_piece: begin,
            gap: Duration::ZERO,
        }
    }

    /// When the next packet is due.
    pub fn next_due(&self) -> Instant {
        if self.waiting.is_empty() { self.next_frame } else { self.next_piece }
    }

    /// The datagrams that are due now, to be sent back to back, stamped with `wall` (nanoseconds since 1970).
    pub fn poll(&mut self, now: Instant, wall: u64, sender: &mut SrtpSender) -> anyhow::Result<Vec<Vec<u8>>> {
        if self.waiting.is_empty() && now >= self.next_frame {
            self.begin_frame();
        }
        let mut out = Vec::new();
        while now >= self.next_piece
            && let Some(mut piece) = self.waiting.pop_front()
        {
            self.next_piece += self.gap;
            piece.stamp(wall);
            out.push(self.packet(&piece, sender)?);
        }
        Ok(out)
    }

    fn begin_frame(&mut self) {
        let key =
            self.since_key >= self.pattern.keyframe_every || (self.wanted && self.since_key >= LEAST_FRAMES);
        if key {
            (self.since_key, self.wanted) = (0, false);
        }
        self.waiting = frame(key).into();
        if self.pattern.paced {
            self.gap = PACED_OVER / self.waiting.len() as u32;
        }
        self.next_piece = self.next_frame;
        self.next_frame += FRAME_INTERVAL;
        self.frames += 1;
        self.since_key += 1;
    }

    fn packet(&mut self, piece: &Piece, sender: &mut SrtpSender) -> anyhow::Result<Vec<u8>> {
        let mut out = vec![0; 1500];
        let fields = HeaderFields {
            marker: piece.marker,
            payload_type: sdp::PAYLOAD_TYPE,
            sequence: self.sequence as u16,
            timestamp: (self.frames * 90_000 / FRAME_RATE) as u32,
            ssrc: self.ssrc,
            padding: false,
        };
        let wide = (self.sequence as u16).to_be_bytes();
        let header = write_header(&mut out, &fields, &[(sdp::TRANSPORT_CC_ID, &wide)])?;
        let len = sender.seal_rtp(&mut out, header, self.sequence, self.ssrc, &piece.payload)?;
        out.truncate(len);
        self.sequence += 1;
        Ok(out)
    }

    /// Takes a plain compound of the server.
    pub fn rtcp(&mut self, compound: &[u8]) {
        for packet in Compound::new(compound).flatten() {
            let asks = matches!(packet, Packet::PictureLoss { .. } | Packet::FullIntraRequest(_));
            self.wanted |= asks && !self.pattern.deaf;
        }
    }
}
