//! The `bridge` section of the configuration.

use serde::Deserialize;

use crate::bridge::mix::config::{MixConfig, PhoneAudio};

/// Bounds of the conversions.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct BridgeConfig {
    /// Threads that run codecs; 0: one for every four cores, at least one. Default 0.
    pub threads: usize,
    /// Streams re-encoded at once because a browser cannot show their B-frames, a telephone takes their packets only
    /// whole, or somebody takes H.264 only and they are VP8 or VP9. Beyond it the viewer is told, and a telephone
    /// shown somebody else or a slate. Default 2.
    pub video_transcodes: usize,
    /// The largest picture of VP8 or VP9 that is re-encoded, in pixels. Default 9437184 (4096 x 2304).
    pub video_max_pixels: u64,
    /// Slates shown at once: pictures for rooms that have none to show. Default 100.
    pub slates: usize,
    /// Conversions of sound at once. Default 200.
    pub audio_transcodes: usize,
    /// Bit rate of Opus made from other codecs, stereo, in bit/s; mono takes two thirds. Default 96000.
    pub opus_bitrate: u32,
    /// Bit rate of AAC made for RTMP servers, in bit/s, 32000 to 320000. Default 128000.
    pub aac_bitrate: u32,
    /// libopus complexity, 0 to 10. Default 7.
    pub opus_complexity: u8,
    /// Packet loss that Opus is protected against by its in-band error correction, in percent. Above 0 voices are
    /// coded with less bandwidth. Default 0.
    pub opus_expected_loss: u8,
    /// Lowest bit rate of a re-encoded picture, in bit/s. Default 300000.
    pub video_bitrate_min: u32,
    /// Highest bit rate of a re-encoded picture, in bit/s. Default 6000000.
    pub video_bitrate_max: u32,
    /// Longest distance between keyframes of a re-encoded picture, in milliseconds. Default 2000.
    pub keyframe_interval_ms: u32,
    /// Keyframes made on request are at least this far apart, in milliseconds. Default 500.
    pub keyframe_request_ms: u32,
    /// What receivers that take Opus get of a telephone: `passthrough`, its G.711 or G.722 as it is, or `opus`.
    /// Default passthrough.
    pub phone_audio: PhoneAudio,
    /// Mixes of rooms.
    pub mix: MixConfig,
}

impl Default for BridgeConfig {
    fn default() -> Self {
        BridgeConfig {
            threads: 0,
            video_transcodes: 2,
            video_max_pixels: 4096 * 2304,
            slates: 100,
            audio_transcodes: 200,
            opus_bitrate: 96_000,
            aac_bitrate: 128_000,
            opus_complexity: 7,
            opus_expected_loss: 0,
            video_bitrate_min: 300_000,
            video_bitrate_max: 6_000_000,
            keyframe_interval_ms: 2_000,
            keyframe_request_ms: 500,
            phone_audio: PhoneAudio::default(),
            mix: MixConfig::default(),
        }
    }
}
