//! Opus, G.711 and G.722 into AAC-LC, for servers that take nothing else over RTMP: decoded, brought to two channels at
//! 48 kHz without gaps, encoded. Times stay on the source's media clock.

use super::aac::{self, AacEncoder};
use super::config::BridgeConfig;
use super::jobs::{Convert, Sink};
use super::mix::codec::Decoder;
use super::pcm::Pcm;
use crate::core::convert::{DirectIn, DirectOut, Format};
use crate::core::payload::Codec;
use crate::core::session::Frame;
use crate::core::time::MediaTime;

/// The longest Opus packet (RFC 6716 §2.1.4), in samples of one channel.
const MAX_OPUS: usize = 5_760;
/// So many frames in a row that cannot be decoded end the job.
const MAX_ERRORS: u32 = 500;
/// Times that are off by more begin anew, in microseconds.
const STEP: i64 = 5_000;

enum Inner {
    /// Both channels, which are alike for a voice.
    Opus(Box<opus::Decoder>),
    /// One channel.
    Telephone(Box<Decoder>),
}

/// One conversion of sound.
pub struct SoundToAac {
    decoder: Inner,
    pcm: Pcm,
    encoder: AacEncoder,
    /// When the first sample that waits in the encoder was.
    next: Option<MediaTime>,
    mono: Vec<f32>,
    samples: Vec<f32>,
    frame: Vec<f32>,
    errors: u32,
}

impl SoundToAac {
    /// A conversion of `from`; the text says why it is impossible.
    pub fn new(from: &Format, config: &BridgeConfig) -> Result<SoundToAac, String> {
        let codec = Codec::from_mime(&from.codec.mime_type);
        let decoder = match codec {
            Codec::Opus => {
                let made = opus::Decoder::new(aac::RATE, opus::Channels::Stereo);
                Inner::Opus(Box::new(made.map_err(|error| error.to_string())?))
            }
            _ => Inner::Telephone(Box::new(Decoder::new(codec, aac::RATE)?)),
        };
        Ok(SoundToAac {
            decoder,
            pcm: Pcm::new(aac::RATE, aac::RATE, 2)?,
            encoder: AacEncoder::new(config.aac_bitrate),
            next: None,
            mono: Vec::new(),
            samples: Vec::new(),
            frame: Vec::new(),
            errors: 0,
        })
    }

    /// Decodes a packet into `samples`; one that cannot be decoded leaves a gap.
    fn decode(&mut self, data: &[u8]) -> Result<(), String> {
        self.samples.clear();
        let made = match &mut self.decoder {
            Inner::Opus(decoder) => {
                self.samples.resize(2 * MAX_OPUS, 0.0);
                let made = decoder.decode_float(data, &mut self.samples, false);
                self.samples.truncate(2 * made.as_ref().copied().unwrap_or(0));
                made
            }
            Inner::Telephone(decoder) => {
                self.mono.clear();
                let made = decoder.decode(data, &mut self.mono);
                self.samples.extend(self.mono.iter().flat_map(|sample| [*sample, *sample]));
                made
            }
        };
        match made {
            Ok(_) => self.errors = 0,
            Err(error) => {
                self.errors += 1;
                if self.errors > MAX_ERRORS {
                    return Err(format!("the sound cannot be decoded: {error}"));
                }
            }
        }
        Ok(())
    }

    fn drain(&mut self, sink: Sink<'_>) {
        let micros = |samples: usize| samples as i64 * 1_000_000 / i64::from(aac::RATE);
        while let Some(time) = self.pcm.pop(&mut self.frame) {
            let waiting = micros(self.encoder.waiting());
            let expected = self.next.map(|next| next.as_micros() + waiting);
            if expected.is_none_or(|expected| (time.as_micros() - expected).abs() > STEP) {
                self.next = Some(MediaTime::from_micros(time.as_micros() - waiting));
            }
            self.encoder.push(&self.frame);
            while let Some(data) = self.encoder.pop() {
                let begin = self.next.map_or(time.as_micros(), MediaTime::as_micros);
                self.next = Some(MediaTime::from_micros(begin + micros(aac::FRAME)));
                let pts = MediaTime::from_micros(begin - micros(aac::DELAY));
                let frame = Frame { track: 0, pts, dts: pts, keyframe: true, discardable: false, data };
                sink(DirectIn::Frame(frame));
            }
        }
    }
}

impl Convert for SoundToAac {
    fn push(&mut self, input: DirectOut, sink: Sink<'_>) -> Result<(), String> {
        // Sound begins at the live edge; nothing of an older group is made up for.
        let DirectOut::Frame { frame, catchup: false } = input else { return Ok(()) };
        self.decode(&frame.data)?;
        if self.samples.is_empty() {
            return Ok(());
        }
        let mut samples = std::mem::take(&mut self.samples);
        let pushed = self.pcm.push(frame.pts, &mut samples);
        self.samples = samples;
        pushed?;
        self.drain(sink);
        Ok(())
    }

    fn resync(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::mix::config::MixConfig;
    use crate::bridge::mix::tests::sine;
    use crate::bridge::tests::{audio_format, frame};

    fn run(mime: &str, codec: Codec, rate: u32, skip: Option<usize>) -> Vec<Frame> {
        let mut job = SoundToAac::new(&audio_format(mime, &[]), &BridgeConfig::default()).expect("a job");
        let mut encoder =
            crate::bridge::mix::codec::Encoder::new(codec, rate, &MixConfig::default()).expect("an encoder");
        let mut out = Vec::new();
        for (at, piece) in sine(440.0, rate, rate as usize * 2, 0.4).chunks(rate as usize / 50).enumerate() {
            let data = encoder.encode(piece).expect("a packet");
            if skip == Some(at) {
                continue;
            }
            let input = DirectOut::Frame { frame: frame(1_000 + at as i64 * 20, data), catchup: false };
            let mut sink = |output| match output {
                DirectIn::Frame(frame) => out.push(frame),
                other => panic!("{other:?}"),
            };
            job.push(input, &mut sink).expect("converted");
        }
        out
    }

    #[test]
    fn frames_follow_each_other_on_the_sources_clock() {
        for (mime, codec, rate) in [
            ("audio/opus", Codec::Opus, 48_000),
            ("audio/PCMU", Codec::Pcmu, 8_000),
            ("audio/G722", Codec::G722, 16_000),
        ] {
            let out = run(mime, codec, rate, None);
            assert!((90..=94).contains(&out.len()), "{mime}: {}", out.len());
            let first = out[0].pts.as_micros();
            assert!((970_000..1_000_000).contains(&first), "{mime}: {first}");
            for pair in out.windows(2) {
                let step = pair[1].pts.micros_since(pair[0].pts);
                assert!((21_000..=21_700).contains(&step), "{mime}: {step}");
            }
        }
    }

    #[test]
    fn a_lost_packet_shifts_nothing() {
        let (whole, torn) =
            (run("audio/opus", Codec::Opus, 48_000, None), run("audio/opus", Codec::Opus, 48_000, Some(50)));
        let last = |frames: &[Frame]| frames.last().map_or(0, |frame| frame.pts.as_micros());
        assert!((last(&whole) - last(&torn)).abs() < 25_000);
    }
}
