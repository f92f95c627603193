//! Access units into payloads (RFC 6184 §5.6 to §5.8). A NAL unit that is too large becomes FU-A pieces of one
//! size, the last one possibly smaller: equal packets leave in one segmented send. Small NAL units that
//! follow each other (parameter sets, SEI, small slices) share a STAP-A. For receivers of single NAL unit mode
//! (packetization-mode 0) each NAL unit has a packet of its own; whoever codes for them keeps it small enough.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::{FU_A, NAL_AUD, NAL_FILLER, STAP_A, is_discardable, is_keyframe, nal_type, nals};
use crate::core::payload::FrameFacts;

/// Bytes in front of a piece: FU indicator and FU header.
const FU_HEADERS: usize = 2;

/// Cuts access units; keeps its buffer between frames.
#[derive(Default)]
pub struct Packetizer {
    buffer: Vec<u8>,
    single: bool,
}

/// Hands payloads on one late, so that the last one is known when it goes.
struct Cut<'a, F> {
    sink: &'a mut F,
    facts: FrameFacts,
    first: bool,
}

impl<F: FnMut(&[u8], bool, FrameFacts)> Cut<'_, F> {
    fn emit(&mut self, payload: &[u8], last: bool) {
        let facts = FrameFacts {
            start: self.first,
            end: last,
            keyframe: self.facts.keyframe,
            discardable: self.facts.discardable,
        };
        self.first = false;
        (self.sink)(payload, last, facts);
    }
}

impl Packetizer {
    /// One for packetization-mode 0, or for 1.
    pub fn new(single: bool) -> Packetizer {
        Packetizer { buffer: Vec::new(), single }
    }

    /// Cuts `data` into payloads of at most `max_payload` bytes (at least 64 are taken).
    pub fn packetize(
        &mut self,
        data: &[u8],
        max_payload: usize,
        sink: &mut impl FnMut(&[u8], bool, FrameFacts),
    ) {
        let max_payload = max_payload.max(64);
        let facts = FrameFacts {
            keyframe: is_keyframe(data),
            discardable: is_discardable(data),
            ..FrameFacts::default()
        };
        let mut cut = Cut { sink, facts, first: true };
        let mut units = nals(data).filter(|nal| !matches!(nal_type(nal), NAL_AUD | NAL_FILLER)).peekable();
        while let Some(nal) = units.next() {
            if nal.len() > max_payload {
                let last = units.peek().is_none();
                self.fragment(nal, max_payload, last, &mut cut);
                continue;
            }
            self.begin_aggregate(nal);
            let mut count = 1usize;
            while let Some(next) = units.peek().filter(|_| !self.single) {
                if self.buffer.len().saturating_add(next.len()).saturating_add(2) > max_payload {
                    break;
                }
                self.aggregate(next);
                count = count.saturating_add(1);
                units.next();
            }
            let last = units.peek().is_none();
            cut.emit(if count == 1 { nal } else { &self.buffer }, last);
        }
    }

    fn begin_aggregate(&mut self, nal: &[u8]) {
        self.buffer.clear();
        self.buffer.push(STAP_A);
        self.aggregate(nal);
    }

    fn aggregate(&mut self, nal: &[u8]) {
        let (Some(header), Some(first)) = (self.buffer.first_mut(), nal.first()) else { return };
        let forbidden = (*header | *first) & 0x80;
        let importance = (*header & 0x60).max(*first & 0x60);
        *header = forbidden | importance | STAP_A;
        let Ok(length) = u16::try_from(nal.len()) else { return };
        self.buffer.extend_from_slice(&length.to_be_bytes());
        self.buffer.extend_from_slice(nal);
    }

    fn fragment<F: FnMut(&[u8], bool, FrameFacts)>(
        &mut self,
        nal: &[u8],
        max_payload: usize,
        last_nal: bool,
        cut: &mut Cut<'_, F>,
    ) {
        let Some((&header, body)) = nal.split_first() else { return };
        let room = max_payload.saturating_sub(FU_HEADERS).max(1);
        let pieces = body.len().div_ceil(room).max(1);
        let size = body.len().div_ceil(pieces).max(1);
        let mut rest = body.chunks(size).peekable();
        let mut start = 0x80u8;
        while let Some(piece) = rest.next() {
            let end = rest.peek().is_none();
            self.buffer.clear();
            self.buffer.push((header & 0xe0) | FU_A);
            self.buffer.push(start | (if end { 0x40 } else { 0 }) | (header & 0x1f));
            self.buffer.extend_from_slice(piece);
            cut.emit(&self.buffer, end && last_nal);
            start = 0;
        }
    }
}
