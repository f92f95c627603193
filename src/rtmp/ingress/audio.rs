//! The sound: AAC-LC with its AudioSpecificConfig (ISO/IEC 14496-3 §1.6.2.1), and Opus.

use crate::core::capabilities::{Kind, RtpCodec};
use crate::core::session::{Event, Frame, Track};
use crate::core::time::MediaTime;
use crate::rtmp::ingress::{AUDIO_TRACK, Sink, fact};
use crate::rtmp::wire::flv::TagCodec;

/// Sampling frequencies by index.
const FREQUENCIES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];

/// State of the audio track.
#[derive(Default)]
pub struct Audio {
    codec: Option<TagCodec>,
    record: Vec<u8>,
}

impl Audio {
    /// Whether the track was announced.
    pub fn announced(&self) -> bool {
        self.codec.is_some()
    }

    /// Takes a sequence header.
    pub fn configure(&mut self, codec: TagCodec, record: &[u8], sink: &mut Sink) {
        if self.codec == Some(codec) && record == self.record {
            return;
        }
        let (described, config) = match codec {
            TagCodec::Opus => (Some(opus(record.get(9).copied())), Vec::new()),
            _ => (aac(record), record.to_vec()),
        };
        let Some(described) = described else {
            sink.say("audio-config", "the AAC the encoder sends is not AAC-LC or its configuration cannot be read; the sound is left out");
            return;
        };
        record.clone_into(&mut self.record);
        let track = Track { id: AUDIO_TRACK, kind: Kind::Audio, codec: described, config, reordered: false };
        let known = self.codec.replace(codec).is_some();
        sink.event(if known { Event::TrackChanged(track) } else { Event::Track(track) });
    }

    /// Takes a frame.
    pub fn frame(&mut self, codec: TagCodec, time: MediaTime, data: &[u8], sink: &mut Sink) {
        if codec == TagCodec::Opus && self.codec != Some(codec) {
            self.configure(codec, &[], sink);
        }
        if self.codec != Some(codec) {
            sink.say("audio-early", "sound came before its configuration and was left out up to there");
            return;
        }
        if data.is_empty() {
            return;
        }
        sink.event(Event::Frame(Frame {
            track: AUDIO_TRACK,
            pts: time,
            dts: time,
            keyframe: true,
            discardable: false,
            data: data.to_vec(),
        }));
    }
}

fn opus(channels: Option<u8>) -> RtpCodec {
    let mut codec = fact("audio/opus", 111, 48_000, Some(2));
    if channels != Some(1) {
        codec.parameters.insert("stereo".to_owned(), 1.into());
    }
    codec
}

/// AAC-LC, alone or as the core of HE-AAC; the rate and channels are the core's.
fn aac(config: &[u8]) -> Option<RtpCodec> {
    let mut bits = Bits { data: config, at: 0 };
    let mut object = bits.take(5)?;
    let rate = frequency(&mut bits)?;
    let channels = bits.take(4)?;
    if matches!(object, 5 | 29) {
        frequency(&mut bits)?;
        object = bits.take(5)?;
    }
    let channels = match channels {
        0 => 2,
        count @ 1..=6 => count as u8,
        7 => 8,
        _ => return None,
    };
    (object == 2).then(|| {
        let mut codec = fact("audio/mpeg4-generic", 97, rate, Some(channels));
        // RFC 3640 §4.1: what a receiver needs to decode it.
        let hex: String = config.iter().map(|byte| format!("{byte:02x}")).collect();
        codec.parameters.insert("config".to_owned(), hex.into());
        codec
    })
}

fn frequency(bits: &mut Bits<'_>) -> Option<u32> {
    match bits.take(4)? {
        15 => bits.take(24).filter(|rate| (7_350..=96_000).contains(rate)),
        index => FREQUENCIES.get(index as usize).copied(),
    }
}

/// Bits, most significant first.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.data.get(self.at / 8)?;
            value = (value << 1) | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at = self.at.saturating_add(1);
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_of_real_encoders() {
        let read = |bytes: &[u8]| aac(bytes).map(|codec| (codec.clock_rate, codec.channels));
        assert_eq!(read(&[0x11, 0x90]), Some((48_000, Some(2))));
        assert_eq!(read(&[0x12, 0x10, 0x56, 0xe5, 0x00]), Some((44_100, Some(2))));
        assert_eq!(read(&[0x11, 0x88]), Some((48_000, Some(1))));
        // HE-AAC: 24 kHz core, 48 kHz with SBR.
        assert_eq!(read(&[0x2b, 0x11, 0x88, 0x00]), Some((24_000, Some(2))));
        assert_eq!(read(&[0x09, 0x90]), None);
        assert_eq!(read(&[0x11]), None);
    }
}
