//! WAV files of prompts and music: RIFF, mono, 8, 16 or 48 kHz, 16 bit PCM or G.711.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::bridge::mix::codec::table;

/// A recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Wav {
    /// Samples per second.
    pub rate: u32,
    /// The sound.
    pub samples: Vec<f32>,
}

/// Why a file cannot be played.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WavError {
    /// No RIFF WAVE file, or one that ends early.
    #[error("no complete WAV file")]
    Broken,
    /// Of another kind than those that can be played.
    #[error("only mono WAV files of 8, 16 or 48 kHz in 16 bit PCM or G.711 can be played; this one has {0}")]
    Kind(String),
}

impl Wav {
    /// Reads a file.
    pub fn parse(data: &[u8]) -> Result<Wav, WavError> {
        let rest = data.strip_prefix(b"RIFF").and_then(|rest| rest.get(4..)).ok_or(WavError::Broken)?;
        let mut rest = rest.strip_prefix(b"WAVE").ok_or(WavError::Broken)?;
        let mut format = None;
        while let Some((&[a, b, c, d, l0, l1, l2, l3], after)) = rest.split_first_chunk::<8>() {
            let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
            let (body, next) = match after.split_at_checked(length) {
                Some(parts) => parts,
                // A recorder that was cut off leaves a length that is too large.
                None if [a, b, c, d] == *b"data" => (after, &[][..]),
                None => return Err(WavError::Broken),
            };
            match &[a, b, c, d] {
                b"fmt " => format = Some(Format::parse(body)?),
                b"data" => return format.ok_or(WavError::Broken)?.read(body),
                _ => {}
            }
            rest = next.get(length & 1..).unwrap_or_default();
        }
        Err(WavError::Broken)
    }
}

struct Format {
    tag: u16,
    rate: u32,
}

impl Format {
    fn parse(body: &[u8]) -> Result<Format, WavError> {
        let Some(&[t0, t1, c0, c1, r0, r1, r2, r3, _, _, _, _, _, _, b0, b1]) = body.first_chunk::<16>()
        else {
            return Err(WavError::Broken);
        };
        let (tag, channels) = (u16::from_le_bytes([t0, t1]), u16::from_le_bytes([c0, c1]));
        let (rate, bits) = (u32::from_le_bytes([r0, r1, r2, r3]), u16::from_le_bytes([b0, b1]));
        let known = matches!((tag, bits), (1, 16) | (6, 8) | (7, 8));
        if !known || channels != 1 || !matches!(rate, 8_000 | 16_000 | 48_000) {
            return Err(WavError::Kind(format!("format {tag}, {bits} bit, {channels} channels, {rate} Hz")));
        }
        Ok(Format { tag, rate })
    }

    fn read(&self, body: &[u8]) -> Result<Wav, WavError> {
        let table = table(self.tag == 7);
        let samples = match self.tag {
            1 => body
                .as_chunks::<2>()
                .0
                .iter()
                .map(|pair| f32::from(i16::from_le_bytes(*pair)) / 32_768.0)
                .collect(),
            _ => body.iter().filter_map(|code| table.get(usize::from(*code)).copied()).collect(),
        };
        Ok(Wav { rate: self.rate, samples })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    fn file(tag: u16, channels: u16, rate: u32, bits: u16, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"RIFF\0\0\0\0WAVELIST\x03\0\0\0abc\0fmt \x10\0\0\0".to_vec();
        bytes.extend(tag.to_le_bytes());
        bytes.extend(channels.to_le_bytes());
        bytes.extend(rate.to_le_bytes());
        bytes.extend([0; 6]);
        bytes.extend(bits.to_le_bytes());
        bytes.extend(b"data");
        bytes.extend((data.len() as u32).to_le_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn three_kinds_are_read() {
        let wav = Wav::parse(&file(1, 1, 16_000, 16, &[0, 0x40, 0, 0xc0])).unwrap();
        assert_eq!(wav, Wav { rate: 16_000, samples: vec![0.5, -0.5] });
        assert_eq!(Wav::parse(&file(7, 1, 8_000, 8, &[0xff])).unwrap().samples, [0.0]);
        assert!(Wav::parse(&file(6, 1, 8_000, 8, &[0xd5])).unwrap().samples[0] > 0.0);
    }

    #[test]
    fn what_cannot_be_played_is_named() {
        assert!(
            Wav::parse(&file(1, 2, 44_100, 16, &[]))
                .unwrap_err()
                .to_string()
                .contains("2 channels, 44100 Hz")
        );
        let whole = file(1, 1, 8_000, 16, &[1, 2]);
        for end in 0..whole.len() - 2 {
            let _ = Wav::parse(&whole[..end]);
        }
        assert_eq!(Wav::parse(&whole[..40]), Err(WavError::Broken));
    }
}
