//! Frames of a stream session or a bridge job, on their way into packets.

use crate::core::capabilities::RtpCodec;
use crate::core::payload::{Codec, Packetizer};
use crate::core::time::MediaTime;

/// Frames to packets.
pub struct FrameInput {
    /// The track's number within its session.
    pub track: u32,
    pub(super) packetizer: Option<Packetizer>,
    pub(super) sequence: u64,
    pub(super) first: Option<MediaTime>,
}

impl FrameInput {
    /// For frames of `track`, coded as `codec`.
    pub fn new(track: u32, codec: &RtpCodec) -> Self {
        FrameInput {
            track,
            packetizer: Packetizer::new(Codec::from_mime(&codec.mime_type), codec.takes_single_units_only()),
            sequence: 1 << 16,
            first: None,
        }
    }
}
