//! AudioSpecificConfig (ISO/IEC 14496-3 §1.6.2.1): as much as tells what kind of AAC a publisher sends.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// What an AudioSpecificConfig says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AacConfig {
    /// Samples per second of the coded core.
    pub sample_rate: u32,
    /// 1 or 2.
    pub channels: u8,
    /// High-efficiency AAC: only its core can be decoded, without the upper half of the spectrum.
    pub high_efficiency: bool,
}

/// Why a stream cannot be decoded; the text is for the person who runs the encoder.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AacConfigError {
    /// Not an AudioSpecificConfig.
    #[error("the encoder announced no valid AAC configuration")]
    Malformed,
    /// An object type other than AAC-LC.
    #[error("AAC object type {0} is not supported, AAC-LC is")]
    ObjectType(u32),
    /// More than two channels, or a program config element.
    #[error("AAC with {0} is not supported; set the encoder to stereo")]
    Channels(&'static str),
    /// 960 samples in a frame.
    #[error("AAC with frames of 960 samples is not supported")]
    ShortFrames,
}

const RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];
const LOW_COMPLEXITY: u32 = 2;
const SPECTRAL_BAND_REPLICATION: u32 = 5;
const PARAMETRIC_STEREO: u32 = 29;

impl AacConfig {
    /// Reads the configuration of a track.
    pub fn parse(config: &[u8]) -> Result<AacConfig, AacConfigError> {
        let mut bits = Bits { bytes: config, at: 0 };
        let mut object = read_object(&mut bits).ok_or(AacConfigError::Malformed)?;
        let sample_rate = read_rate(&mut bits).ok_or(AacConfigError::Malformed)?;
        let channels = bits.take(4).ok_or(AacConfigError::Malformed)?;
        let high_efficiency = matches!(object, SPECTRAL_BAND_REPLICATION | PARAMETRIC_STEREO);
        if high_efficiency {
            read_rate(&mut bits).ok_or(AacConfigError::Malformed)?;
            object = read_object(&mut bits).ok_or(AacConfigError::Malformed)?;
        }
        if object != LOW_COMPLEXITY {
            return Err(AacConfigError::ObjectType(object));
        }
        if bits.take(1) == Some(1) {
            return Err(AacConfigError::ShortFrames);
        }
        let channels = match channels {
            1 => 1,
            2 => 2,
            0 => return Err(AacConfigError::Channels("a program config element")),
            _ => return Err(AacConfigError::Channels("more than two channels")),
        };
        Ok(AacConfig { sample_rate, channels, high_efficiency })
    }

    /// The configuration of the core alone, as AAC-LC. `None` for a rate that has no index.
    pub fn low_complexity(&self) -> Option<[u8; 2]> {
        let index = RATES.iter().position(|rate| *rate == self.sample_rate)?;
        let fields =
            (LOW_COMPLEXITY << 11) | (u32::try_from(index).ok()? << 7) | (u32::from(self.channels) << 3);
        u16::try_from(fields).ok().map(u16::to_be_bytes)
    }
}

fn read_object(bits: &mut Bits<'_>) -> Option<u32> {
    match bits.take(5)? {
        31 => bits.take(6)?.checked_add(32),
        object => Some(object),
    }
}

fn read_rate(bits: &mut Bits<'_>) -> Option<u32> {
    match bits.take(4)? {
        15 => bits.take(24).filter(|rate| (7_350..=96_000).contains(rate)),
        index => RATES.get(usize::try_from(index).ok()?).copied(),
    }
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: u32) -> Option<u32> {
        let mut value = 0u32;
        for _ in 0..count {
            let byte = *self.bytes.get(self.at.checked_div(8)?)?;
            let shift = 7u32.checked_sub(u32::try_from(self.at & 7).ok()?)?;
            value = value.wrapping_shl(1) | (u32::from(byte).wrapping_shr(shift) & 1);
            self.at = self.at.checked_add(1)?;
        }
        Some(value)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn common_configurations() {
        let stereo = AacConfig::parse(&[0x12, 0x10]).unwrap();
        assert_eq!(stereo, AacConfig { sample_rate: 44_100, channels: 2, high_efficiency: false });
        let mono = AacConfig::parse(&[0x11, 0x88, 0x56, 0xe5, 0x00]).unwrap();
        assert_eq!(mono, AacConfig { sample_rate: 48_000, channels: 1, high_efficiency: false });
        assert_eq!(stereo.low_complexity(), Some([0x12, 0x10]));
    }

    #[test]
    fn high_efficiency_is_reduced_to_its_core() {
        // Object type 5, core 22,050 Hz, stereo, extended to 44,100 Hz, core object type 2.
        let config = AacConfig::parse(&[0x2b, 0x92, 0x08, 0x00]).unwrap();
        assert_eq!(config, AacConfig { sample_rate: 22_050, channels: 2, high_efficiency: true });
        assert_eq!(config.low_complexity(), Some([0x13, 0x90]));
    }

    #[test]
    fn what_is_not_supported_is_said_in_words() {
        assert_eq!(AacConfig::parse(&[]), Err(AacConfigError::Malformed));
        assert_eq!(AacConfig::parse(&[0x0a, 0x10]), Err(AacConfigError::ObjectType(1)));
        let surround = AacConfig::parse(&[0x11, 0xb0]).unwrap_err();
        assert!(surround.to_string().contains("stereo"));
    }
}
