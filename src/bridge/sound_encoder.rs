//! Frames of 20 ms into Opus (libopus), or into G.711 (ITU-T G.711) for receivers that have nothing better.

use super::config::BridgeConfig;
use crate::core::payload::Codec;

/// The largest Opus packet asked for; far above what the configured bit rate makes.
const MAX_PACKET: usize = 1_275;

/// An encoder of interleaved samples.
pub enum SoundEncoder {
    /// Opus at 48 kHz.
    Opus(Box<opus::Encoder>),
    /// G.711 mu-law at 8 kHz, mono.
    Pcmu,
    /// G.711 A-law at 8 kHz, mono.
    Pcma,
}

impl SoundEncoder {
    /// An encoder for `codec` from `channels` channels; `None` where `codec` is not one of the three.
    pub fn new(
        codec: Codec,
        channels: usize,
        config: &BridgeConfig,
    ) -> Option<Result<SoundEncoder, opus::Error>> {
        match codec {
            Codec::Opus => {
                Some(opus_encoder(channels, config).map(|inner| SoundEncoder::Opus(Box::new(inner))))
            }
            Codec::Pcmu => Some(Ok(SoundEncoder::Pcmu)),
            Codec::Pcma => Some(Ok(SoundEncoder::Pcma)),
            _ => None,
        }
    }

    /// Samples per second it takes.
    pub fn rate(&self) -> u32 {
        if matches!(self, SoundEncoder::Opus(_)) { 48_000 } else { 8_000 }
    }

    /// By how many samples what comes out of a decoder is late.
    pub fn lookahead(&mut self) -> u32 {
        match self {
            SoundEncoder::Opus(inner) => inner.get_lookahead().map_or(0, |samples| samples.max(0) as u32),
            _ => 0,
        }
    }

    /// Encodes 20 ms.
    pub fn encode(&mut self, samples: &[f32]) -> Result<Vec<u8>, opus::Error> {
        match self {
            SoundEncoder::Opus(inner) => inner.encode_vec_float(samples, MAX_PACKET),
            SoundEncoder::Pcmu => Ok(samples.iter().map(|sample| mu_law(to_i16(*sample))).collect()),
            SoundEncoder::Pcma => Ok(samples.iter().map(|sample| a_law(to_i16(*sample))).collect()),
        }
    }
}

fn opus_encoder(channels: usize, config: &BridgeConfig) -> Result<opus::Encoder, opus::Error> {
    let stereo = channels == 2;
    let layout = if stereo { opus::Channels::Stereo } else { opus::Channels::Mono };
    let bitrate = if stereo { config.opus_bitrate } else { config.opus_bitrate / 3 * 2 };
    let mut encoder = opus::Encoder::new(48_000, layout, opus::Application::Audio)?;
    encoder.set_bitrate(opus::Bitrate::Bits(bitrate.clamp(6_000, 510_000) as i32))?;
    encoder.set_complexity(i32::from(config.opus_complexity.min(10)))?;
    encoder.set_inband_fec(true)?;
    // Protection costs: told of loss, libopus codes voices in the narrower mode that has it. So none is expected
    // unless the configuration says so.
    encoder.set_packet_loss_perc(i32::from(config.opus_expected_loss.min(100)))?;
    Ok(encoder)
}

pub fn to_i16(sample: f32) -> i16 {
    (sample.clamp(-1.0, 1.0) * 32_767.0) as i16
}

pub fn mu_law(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = (i32::from(sample).abs() + 132).min(32_767);
    let exponent = (magnitude >> 7).ilog2();
    let mantissa = (magnitude >> (exponent + 3)) & 0x0f;
    !(sign | ((exponent as u8) << 4) | mantissa as u8)
}

pub fn a_law(sample: i16) -> u8 {
    let sign = if sample < 0 { 0 } else { 0x80 };
    let magnitude = if sample < 0 { !i32::from(sample) } else { i32::from(sample) } >> 4;
    let coded = if magnitude < 16 {
        magnitude
    } else {
        let exponent = magnitude.ilog2() as i32 - 4;
        ((exponent + 1) << 4) | ((magnitude >> exponent) & 0x0f)
    };
    (coded as u8 | sign) ^ 0x55
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_points_of_both_laws() {
        assert_eq!([mu_law(0), mu_law(32_767), mu_law(-32_768), mu_law(1_000)], [0xff, 0x80, 0x00, 0xce]);
        assert_eq!([a_law(0), a_law(32_767), a_law(-32_768), a_law(1_000)], [0xd5, 0xaa, 0x2a, 0xfa]);
    }
}
