//! RTP payload formats: what a payload says about the frame it carries ([`inspect`]), coded frames into
//! payloads ([`Packetizer`]) and payloads into coded frames ([`Depacketizer`]).
//!
//! Pure functions over bytes; no codec library. One file per format, its RFC named there. Nothing here
//! panics or grows without bound on bytes from a network.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::core::rtp::layers::LayerFacts;

pub mod av1;
pub mod bits;
pub mod h264;
pub mod h265;
mod joined;
pub mod opus;
pub mod vp8;
pub mod vp9;

/// The codecs whose payloads are understood, or at least known by name.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Codec {
    /// H.264 (RFC 6184).
    H264,
    /// H.265 (RFC 7798).
    H265,
    /// VP8 (RFC 7741).
    Vp8,
    /// VP9 (RFC 9628).
    Vp9,
    /// AV1 (AOM RTP payload specification 1.0).
    Av1,
    /// Opus (RFC 7587).
    Opus,
    /// G.711 mu-law.
    Pcmu,
    /// G.711 A-law.
    Pcma,
    /// G.722.
    G722,
    /// AAC (RFC 3640), as RTMP brings it.
    Aac,
    /// Anything else: forwarded without a look inside.
    Other,
}

impl Codec {
    /// The codec of a mime type such as `video/H264`, compared without case.
    pub fn from_mime(mime: &str) -> Codec {
        let name = mime.split_once('/').map_or(mime, |(_, name)| name);
        const NAMES: [(&str, Codec); 11] = [
            ("h264", Codec::H264),
            ("h265", Codec::H265),
            ("vp8", Codec::Vp8),
            ("vp9", Codec::Vp9),
            ("av1", Codec::Av1),
            ("opus", Codec::Opus),
            ("pcmu", Codec::Pcmu),
            ("pcma", Codec::Pcma),
            ("g722", Codec::G722),
            ("mpeg4-generic", Codec::Aac),
            ("mp4a-latm", Codec::Aac),
        ];
        NAMES
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map_or(Codec::Other, |(_, codec)| *codec)
    }

    /// Whether it carries pictures. `Other` is not known to.
    pub fn is_video(self) -> bool {
        matches!(self, Codec::H264 | Codec::H265 | Codec::Vp8 | Codec::Vp9 | Codec::Av1)
    }
}

/// What one RTP payload tells about its frame. For sound every packet is a whole frame.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FrameFacts {
    /// The first payload of a frame, as far as the payload shows it: parameter sets and the first slice behind
    /// them both do (H.264, H.265), every payload that begins with a fresh OBU does (AV1). A change of the RTP
    /// timestamp is the sure sign.
    pub start: bool,
    /// The last payload of a frame (the RTP marker, for video).
    pub end: bool,
    /// The payload belongs to a keyframe, and shows it: true at least on the payload where a receiver may
    /// begin, not on every further one.
    pub keyframe: bool,
    /// No other frame refers to this one. Never set for sound.
    pub discardable: bool,
}

/// What the payload of one RTP packet tells about its frame; `marker` is the packet's marker bit.
pub fn inspect(codec: Codec, payload: &[u8], marker: bool) -> FrameFacts {
    match codec {
        Codec::H264 => h264::inspect(payload, marker),
        Codec::H265 => h265::inspect(payload, marker),
        Codec::Vp8 => vp8::inspect(payload, marker),
        Codec::Vp9 => vp9::inspect(payload, marker),
        Codec::Av1 => av1::inspect(payload, marker),
        Codec::Other => FrameFacts { end: marker, ..FrameFacts::default() },
        _ => WHOLE,
    }
}

/// What a payload means to receivers of each layer, as far as the payload itself shows it; `facts` are those of
/// [`inspect`].
pub fn layers(codec: Codec, payload: &[u8], facts: &FrameFacts) -> LayerFacts {
    match codec {
        Codec::Vp8 => vp8::layers(payload, facts.keyframe),
        Codec::Vp9 => vp9::layers(payload),
        _ => LayerFacts::plain(facts.keyframe),
    }
}

/// Width and height of the picture, where a payload tells them.
pub fn dimensions(codec: Codec, payload: &[u8]) -> Option<(u16, u16)> {
    match codec {
        Codec::Vp8 => vp8::dimensions(payload),
        Codec::Vp9 => vp9::dimensions(payload),
        Codec::H264 => h264::dimensions(payload),
        _ => None,
    }
}

/// The picture id and TL0PICIDX of a payload, where its codec has them.
pub fn numbers(codec: Codec, payload: &[u8]) -> Option<(Option<u16>, Option<u8>)> {
    match codec {
        Codec::Vp8 => vp8::numbers(payload),
        Codec::Vp9 => vp9::numbers(payload),
        _ => None,
    }
}

/// Adds `picture` to a payload's picture id and `tl0` to its TL0PICIDX, as far as they are there.
pub fn renumber_payload(codec: Codec, payload: &mut [u8], picture: u16, tl0: u8) {
    match codec {
        Codec::Vp8 => vp8::renumber(payload, picture, tl0),
        Codec::Vp9 => vp9::renumber(payload, picture, tl0),
        _ => {}
    }
}

/// A picture id of 15 bits, or of 7, at a place in a payload.
fn picture_id(payload: &[u8], place: Option<(usize, bool)>) -> Option<u16> {
    let (at, long) = place?;
    let high = *payload.get(at)?;
    if !long {
        return Some(u16::from(high));
    }
    let low = *payload.get(at.checked_add(1)?)?;
    Some(u16::from_be_bytes([high & 0x7f, low]))
}

/// The picture id and the TL0PICIDX at these places, as far as they are there.
fn numbers_at(
    payload: &[u8],
    picture: Option<(usize, bool)>,
    tl0: Option<usize>,
) -> (Option<u16>, Option<u8>) {
    (picture_id(payload, picture), tl0.and_then(|at| payload.get(at)).copied())
}

/// Adds to the picture id and the TL0PICIDX at these places; each keeps its width.
fn renumber(
    payload: &mut [u8],
    (picture, add): (Option<(usize, bool)>, u16),
    (tl0, add_tl0): (Option<usize>, u8),
) {
    let id = picture_id(payload, picture).map(|id| id.wrapping_add(add));
    if let (Some((at, long)), Some(id)) = (picture, id) {
        let [high, low] = id.to_be_bytes();
        match long {
            true => {
                let room = payload.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<2>());
                if let Some(room) = room {
                    *room = [high | 0x80, low];
                }
            }
            false => {
                if let Some(byte) = payload.get_mut(at) {
                    *byte = low & 0x7f;
                }
            }
        }
    }
    if let Some(byte) = tl0.and_then(|at| payload.get_mut(at)) {
        *byte = byte.wrapping_add(add_tl0);
    }
}

/// A packet of sound is a frame on its own, and a receiver may begin at any.
const WHOLE: FrameFacts = FrameFacts { start: true, end: true, keyframe: true, discardable: false };

/// A whole frame put together from payloads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AccessUnit<'a> {
    /// The RTP timestamp of its packets.
    pub timestamp: u32,
    /// H.264: NAL units, each behind its length in four bytes, big-endian. VP8, VP9: the picture. Opus and other
    /// sound: the packet.
    pub data: &'a [u8],
    /// Decoding can start here.
    pub keyframe: bool,
    /// No other frame refers to it.
    pub discardable: bool,
    /// Packets are missing between the unit given before this one and this one.
    pub gap: bool,
}

/// Cuts frames into RTP payloads. One per stream; buffers are reused.
pub enum Packetizer {
    /// H.264.
    H264(h264::Packetizer),
    /// One frame is one payload (Opus, G.711, G.722).
    Whole,
}

impl Packetizer {
    /// A packetizer for `codec`, or `None` where frames of it are not packetized here. `single`: H.264 of
    /// packetization-mode 0.
    pub fn new(codec: Codec, single: bool) -> Option<Packetizer> {
        match codec {
            Codec::H264 => Some(Packetizer::H264(h264::Packetizer::new(single))),
            Codec::Opus | Codec::Pcmu | Codec::Pcma | Codec::G722 => Some(Packetizer::Whole),
            _ => None,
        }
    }

    /// Cuts the frame `data` (form as in [`AccessUnit::data`]) into payloads of at most `max_payload` bytes, in
    /// order: `sink(payload, marker, facts)`. A frame of no usable content makes no payload.
    pub fn packetize(
        &mut self,
        data: &[u8],
        max_payload: usize,
        sink: &mut impl FnMut(&[u8], bool, FrameFacts),
    ) {
        match self {
            Packetizer::H264(inner) => inner.packetize(data, max_payload, sink),
            Packetizer::Whole if data.is_empty() || data.len() > max_payload => {}
            Packetizer::Whole => sink(data, false, WHOLE),
        }
    }
}

/// Puts RTP payloads together into frames. Give it each packet once, in order of sequence numbers.
pub enum Depacketizer {
    /// H.264: single NAL units, STAP-A, FU-A.
    H264(h264::Depacketizer),
    /// VP8, VP9: payloads one behind the other.
    Joined(joined::Depacketizer),
    /// One payload is one frame.
    Whole {
        /// The sequence number expected next.
        next: Option<u16>,
    },
}

impl Depacketizer {
    /// A depacketizer for `codec`, or `None` where frames of it are not put together here.
    pub fn new(codec: Codec) -> Option<Depacketizer> {
        match codec {
            Codec::H264 => Some(Depacketizer::H264(h264::Depacketizer::default())),
            Codec::Opus | Codec::Pcmu | Codec::Pcma | Codec::G722 => Some(Depacketizer::Whole { next: None }),
            codec => joined::Depacketizer::new(codec).map(Depacketizer::Joined),
        }
    }

    /// Takes one packet. Whole frames go to `sink`: none, one, or two (when a frame's last packet was lost and
    /// this packet is a frame of its own). Frames with missing packets are left out.
    pub fn push(
        &mut self,
        sequence: u16,
        timestamp: u32,
        marker: bool,
        payload: &[u8],
        sink: &mut impl FnMut(AccessUnit<'_>),
    ) {
        match self {
            Depacketizer::H264(inner) => inner.push(sequence, timestamp, marker, payload, sink),
            Depacketizer::Joined(inner) => inner.push(sequence, timestamp, marker, payload, sink),
            Depacketizer::Whole { next } => {
                let gap = next.is_some_and(|next| next != sequence);
                *next = Some(sequence.wrapping_add(1));
                if !payload.is_empty() {
                    sink(AccessUnit { timestamp, data: payload, keyframe: true, discardable: false, gap });
                }
            }
        }
    }
}
