//! The `bridge.mix` section of the configuration.

use std::path::PathBuf;

use serde::Deserialize;

/// What becomes of telephone codecs (G.711, G.722) that a receiver of Opus could take as they are.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum PhoneAudio {
    /// Passed on untouched; every browser has G.711.
    #[default]
    Passthrough,
    /// Turned into Opus.
    Opus,
}

/// Mixes of rooms.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct MixConfig {
    /// Mixed rooms at once. Default 1000.
    pub rooms: usize,
    /// Sources summed at once: the loudest. Default 6.
    pub loudest: usize,
    /// Highest rate a room is mixed at, in Hz: 8000, 16000 or 48000. A lower one is taken where nobody in the room
    /// has more. Default 48000.
    pub max_rate: u32,
    /// Bit rate of Opus at 48 kHz, mono, in bit/s; lower rates take two thirds. Default 36000.
    pub opus_bitrate: u32,
    /// Bit rate of AAC for RTMP servers, in bit/s, 32000 to 320000. Default 96000.
    pub aac_bitrate: u32,
    /// libopus complexity, 0 to 10. Default 5.
    pub opus_complexity: u8,
    /// Packet loss that Opus is protected against by its in-band error correction, in percent. Default 10.
    pub opus_expected_loss: u8,
    /// Least delay of a jitter buffer beyond one packet, in milliseconds. Default 0.
    pub jitter_min_ms: u32,
    /// Largest delay of a jitter buffer, in milliseconds. Default 300.
    pub jitter_max_ms: u32,
    /// Sources as loud as this or louder always take part, in dBFS. Default -50.
    pub voice_dbfs: i32,
    /// How long a source takes part after it fell silent, in milliseconds. Default 1000.
    pub voice_hold_ms: u32,
    /// Level of the noise that fills silence, in dBFS; -100 or less: none. Default -70.
    pub comfort_noise_dbfs: i32,
    /// A folder of prompts as WAV files (16 bit, mono, 8, 16 or 48 kHz); what is missing there is taken from the
    /// built-in English set. Default: none.
    pub prompts: Option<PathBuf>,
    /// Music on hold as a WAV file of the same kind; a soft tone otherwise. Default: none.
    pub hold_music: Option<PathBuf>,
    /// A soft chime when somebody joins or leaves a mixed room. Default false.
    pub chimes: bool,
}

impl Default for MixConfig {
    fn default() -> Self {
        MixConfig {
            rooms: 1_000,
            loudest: 6,
            max_rate: 48_000,
            opus_bitrate: 36_000,
            aac_bitrate: 96_000,
            opus_complexity: 5,
            opus_expected_loss: 10,
            jitter_min_ms: 0,
            jitter_max_ms: 300,
            voice_dbfs: -50,
            voice_hold_ms: 1_000,
            comfort_noise_dbfs: -70,
            prompts: None,
            hold_music: None,
            chimes: false,
        }
    }
}
