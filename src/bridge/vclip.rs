//! Reads `.vclip`, the form in which the demo clip and the tests' samples are shipped: packets of a few tracks with
//! their times, no index. `tools/vclip.py` writes it and describes its layout.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::core::capabilities::{Kind, RtpCodec};
use crate::core::payload::h264::{self, NAL_SPS, nal_type, nals};
use serde_json::{Map, Value, json};

const MAGIC: &[u8; 6] = b"VCLIP\x01";

/// What a track holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TrackCodec {
    /// H.264.
    H264,
    /// Opus.
    Opus,
    /// AAC.
    Aac,
}

/// One track of a clip.
#[derive(Clone, Debug)]
pub struct ClipTrack<'a> {
    /// Its codec.
    pub codec: TrackCodec,
    /// RTP clock in Hz.
    pub clock_rate: u32,
    /// Channels of sound.
    pub channels: u8,
    /// AudioSpecificConfig for AAC.
    pub config: &'a [u8],
}

/// One packet of a clip.
#[derive(Clone, Copy, Debug)]
pub struct ClipPacket<'a> {
    /// Index of its track.
    pub track: usize,
    /// Decoding can start here.
    pub keyframe: bool,
    /// Decoding time in microseconds from the clip's start.
    pub dts: i64,
    /// Presentation time in microseconds from the clip's start.
    pub pts: i64,
    /// The coded frame.
    pub data: &'a [u8],
}

/// A whole clip.
#[derive(Clone, Debug)]
pub struct Clip<'a> {
    /// Length of the loop in microseconds; 0 when it does not loop.
    pub period: u32,
    /// Tracks.
    pub tracks: Vec<ClipTrack<'a>>,
    /// Packets by rising decoding time.
    pub packets: Vec<ClipPacket<'a>>,
}

impl<'a> Clip<'a> {
    /// Reads a clip; `None` when it is not one or is cut short.
    pub fn parse(bytes: &'a [u8]) -> Option<Clip<'a>> {
        let mut input = Input(bytes);
        if input.take(MAGIC.len())? != MAGIC {
            return None;
        }
        let period = u32::from_be_bytes(input.array()?);
        let [count] = input.array()?;
        let mut tracks = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            tracks.push(input.track()?);
        }
        let mut packets = Vec::new();
        while !input.0.is_empty() {
            let packet = input.packet()?;
            tracks.get(packet.track)?;
            packets.push(packet);
        }
        Some(Clip { period, tracks, packets })
    }

    /// The first sequence parameter set of a track.
    pub fn sps(&self, track: usize) -> Option<&'a [u8]> {
        let packet = self.packets.iter().find(|packet| packet.track == track && packet.keyframe)?;
        nals(packet.data).find(|nal| nal_type(nal) == NAL_SPS)
    }

    /// The codec of a track as the control protocol names it.
    pub fn rtp_codec(&self, index: usize) -> Option<(Kind, RtpCodec)> {
        let track = self.tracks.get(index)?;
        let (kind, mime, parameters) = match track.codec {
            TrackCodec::H264 => {
                let sps = h264::Sps::parse(self.sps(index)?)?;
                let profile = format!("{:02x}{:02x}{:02x}", sps.profile, sps.constraints, sps.level);
                let parameters = json!({
                    "packetization-mode": 1, "level-asymmetry-allowed": 1, "profile-level-id": profile
                });
                (Kind::Video, "video/H264", parameters)
            }
            TrackCodec::Opus => {
                let stereo = u8::from(track.channels == 2);
                let parameters = json!({ "minptime": 10, "useinbandfec": 1, "sprop-stereo": stereo });
                (Kind::Audio, "audio/opus", parameters)
            }
            TrackCodec::Aac => (Kind::Audio, "audio/mpeg4-generic", json!({})),
        };
        let parameters = match parameters {
            Value::Object(map) => map,
            _ => Map::new(),
        };
        let channels = match track.codec {
            TrackCodec::H264 => None,
            // RFC 7587 §7: always two, whatever is inside.
            TrackCodec::Opus => Some(2),
            TrackCodec::Aac => Some(track.channels),
        };
        let codec = RtpCodec {
            mime_type: mime.to_owned(),
            payload_type: if kind == Kind::Video { 96 } else { 97 },
            clock_rate: track.clock_rate,
            channels,
            parameters,
            rtcp_feedback: Vec::new(),
        };
        Some((kind, codec))
    }
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(length)?;
        self.0 = tail;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn track(&mut self) -> Option<ClipTrack<'a>> {
        let codec = match self.array()? {
            [1] => TrackCodec::H264,
            [2] => TrackCodec::Opus,
            [3] => TrackCodec::Aac,
            _ => return None,
        };
        let clock_rate = u32::from_be_bytes(self.array()?);
        let [channels] = self.array()?;
        let length = u16::from_be_bytes(self.array()?);
        let config = self.take(usize::from(length))?;
        Some(ClipTrack { codec, clock_rate, channels, config })
    }

    fn packet(&mut self) -> Option<ClipPacket<'a>> {
        let [track, flags] = self.array()?;
        let dts = i64::from_be_bytes(self.array()?);
        let pts = i64::from_be_bytes(self.array()?);
        let length = usize::try_from(u32::from_be_bytes(self.array()?)).ok()?;
        let data = self.take(length)?;
        Some(ClipPacket { track: usize::from(track), keyframe: flags & 1 != 0, dts, pts, data })
    }
}
