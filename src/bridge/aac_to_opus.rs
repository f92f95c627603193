//! AAC-LC, as RTMP brings it, into Opus or G.711: decoded by symphonia, brought to the encoder's rate and frames
//! of 20 ms (`pcm`), encoded. Times stay on the source's media clock; what the Opus encoder looks ahead is
//! taken off, so that sound and picture stay together.

use symphonia::core::audio::{Audio, GenericAudioBufferRef};
use symphonia::core::codecs::audio::well_known::CODEC_ID_AAC;
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::packet::PacketRef;
use symphonia::core::units::{Duration as Ticks, Timestamp};
use symphonia::default::codecs::AacDecoder;

use super::asc::AacConfig;
use super::config::BridgeConfig;
use super::jobs::{Convert, Sink};
use super::pcm::Pcm;
use super::sound_encoder::SoundEncoder;
use crate::core::convert::{DirectIn, DirectOut, Format};
use crate::core::payload::Codec;
use crate::core::session::Frame;
use crate::core::time::MediaTime;

/// Samples of one AAC-LC frame.
const AAC_FRAME: usize = 1_024;
/// So many frames in a row that cannot be decoded end the job.
const MAX_ERRORS: u32 = 100;

/// One conversion of sound.
pub struct AacToOpus {
    decoder: AacDecoder,
    encoder: SoundEncoder,
    pcm: Pcm,
    source_channels: usize,
    channels: usize,
    lookahead: i64,
    samples: Vec<f32>,
    frame: Vec<f32>,
    errors: u32,
}

impl AacToOpus {
    /// A conversion from AAC into the codec of `to`; the text says why it is impossible.
    pub fn new(from: &Format, to: &Format, config: &BridgeConfig) -> Result<AacToOpus, String> {
        let aac = AacConfig::parse(&from.config).map_err(|error| error.to_string())?;
        let decoder = open_decoder(&aac)?;
        let codec = Codec::from_mime(&to.codec.mime_type);
        let channels = if codec == Codec::Opus { usize::from(aac.channels) } else { 1 };
        let mut encoder = SoundEncoder::new(codec, channels, config)
            .ok_or_else(|| format!("no encoder for {}", to.codec.mime_type))?
            .map_err(|error| format!("the Opus encoder cannot be set up: {error}"))?;
        let pcm = Pcm::new(aac.sample_rate, encoder.rate(), channels)?;
        let lookahead = i64::from(encoder.lookahead()) * 1_000_000 / i64::from(encoder.rate());
        Ok(AacToOpus {
            decoder,
            encoder,
            pcm,
            source_channels: usize::from(aac.channels),
            channels,
            lookahead,
            samples: Vec::new(),
            frame: Vec::new(),
            errors: 0,
        })
    }

    /// Decodes one access unit into `samples`; what cannot be decoded becomes silence of the same length.
    fn decode(&mut self, data: &[u8]) -> Result<(), String> {
        self.samples.clear();
        let packet = PacketRef::new(0, Timestamp::ZERO, Ticks::ZERO, data);
        match self.decoder.decode_ref(&packet) {
            Ok(GenericAudioBufferRef::F32(buffer)) if buffer.frames() > 0 => {
                self.errors = 0;
                let left = buffer.plane(0).unwrap_or_default();
                let right = buffer.plane(1).filter(|_| self.source_channels == 2).unwrap_or(left);
                for (left, right) in left.iter().zip(right) {
                    if self.channels == 2 {
                        self.samples.extend([*left, *right]);
                    } else {
                        self.samples.push((left + right) * 0.5);
                    }
                }
            }
            Ok(_) => self.samples.resize(AAC_FRAME * self.channels, 0.0),
            Err(error) => {
                self.errors += 1;
                if self.errors > MAX_ERRORS {
                    return Err(format!("the publisher's AAC cannot be decoded: {error}"));
                }
                self.samples.resize(AAC_FRAME * self.channels, 0.0);
            }
        }
        Ok(())
    }

    fn drain(&mut self, sink: Sink<'_>) -> Result<(), String> {
        while let Some(time) = self.pcm.pop(&mut self.frame) {
            let data = self.encoder.encode(&self.frame).map_err(|error| format!("Opus encoder: {error}"))?;
            let pts = MediaTime::from_micros(time.as_micros() - self.lookahead);
            let frame = Frame { track: 0, pts, dts: pts, keyframe: true, discardable: false, data };
            sink(DirectIn::Frame(frame));
        }
        Ok(())
    }
}

fn open_decoder(aac: &AacConfig) -> Result<AacDecoder, String> {
    let config = aac.low_complexity().ok_or("AAC of this sample rate is not supported")?;
    let mut parameters = AudioCodecParameters::new();
    parameters.for_codec(CODEC_ID_AAC).with_extra_data(config.to_vec().into_boxed_slice());
    AacDecoder::try_new(&parameters, &AudioDecoderOptions::default())
        .map_err(|error| format!("the publisher's AAC cannot be decoded: {error}"))
}

impl Convert for AacToOpus {
    fn push(&mut self, input: DirectOut, sink: Sink<'_>) -> Result<(), String> {
        // Sound begins at the live edge; nothing of an older group is made up for.
        let DirectOut::Frame { frame, catchup: false } = input else { return Ok(()) };
        self.decode(&frame.data)?;
        let mut samples = std::mem::take(&mut self.samples);
        let pushed = self.pcm.push(frame.pts, &mut samples);
        self.samples = samples;
        pushed?;
        self.drain(sink)
    }

    fn resync(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::tests::{audio_format, frame};
    use crate::bridge::vclip::Clip;

    const STEREO_441: &[u8] = include_bytes!("../../tests/data/aac-44100-stereo.vclip");
    const STEREO_48: &[u8] = include_bytes!("../../tests/data/aac-48000-stereo.vclip");
    const MONO_48: &[u8] = include_bytes!("../../tests/data/aac-48000-mono.vclip");

    /// An access unit of a channel pair without a scale factor band (ISO/IEC 14496-3 §4.4.2.1).
    const SILENCE: [u8; 9] = [0x21, 0x00, 0x49, 0x90, 0x02, 0x19, 0x00, 0x23, 0x80];

    fn job(clip: &Clip<'_>, to: &str) -> AacToOpus {
        let from = audio_format("audio/mpeg4-generic", clip.tracks[0].config);
        AacToOpus::new(&from, &audio_format(to, &[]), &BridgeConfig::default()).unwrap()
    }

    /// Frames of the clip as RTMP times them: in whole milliseconds.
    fn source(clip: &Clip<'_>) -> Vec<Frame> {
        clip.packets
            .iter()
            .map(|packet| frame(packet.pts.div_euclid(1000) + 100, packet.data.to_vec()))
            .collect()
    }

    fn run(job: &mut AacToOpus, frames: &[Frame]) -> Vec<Frame> {
        let mut out = Vec::new();
        for frame in frames {
            let input = DirectOut::Frame { frame: frame.clone(), catchup: false };
            let mut sink = |output| match output {
                DirectIn::Frame(frame) => out.push(frame),
                other => panic!("{other:?}"),
            };
            job.push(input, &mut sink).unwrap();
        }
        out
    }

    fn decode(frames: &[Frame], channels: usize) -> Vec<Vec<f32>> {
        let layout = if channels == 2 { opus::Channels::Stereo } else { opus::Channels::Mono };
        let mut decoder = opus::Decoder::new(48_000, layout).unwrap();
        let mut planes = vec![Vec::new(); channels];
        let mut buffer = vec![0.0; 960 * channels];
        for frame in frames {
            let count = decoder.decode_float(&frame.data, &mut buffer, false).unwrap();
            assert_eq!(count, 960);
            for (index, sample) in buffer.iter().enumerate() {
                planes[index % channels].push(*sample);
            }
        }
        planes
    }

    /// The power of `samples` at `frequency` (Goertzel), as a part of their whole power.
    fn part(samples: &[f32], frequency: f32) -> f32 {
        let step = 2.0 * std::f32::consts::PI * frequency / 48_000.0;
        let (mut before, mut last) = (0.0f64, 0.0f64);
        for sample in samples {
            let next = f64::from(*sample) + 2.0 * f64::from(step.cos()) * last - before;
            (before, last) = (last, next);
        }
        let power = last * last + before * before - 2.0 * f64::from(step.cos()) * last * before;
        let whole: f64 = samples.iter().map(|sample| f64::from(sample * sample)).sum();
        (2.0 * power / whole / samples.len() as f64) as f32
    }

    /// The largest part of the power outside the loudest frequency, over pieces of 100 ms: clicks are loud there.
    fn worst(samples: &[f32], frequency: f32) -> f32 {
        samples.chunks_exact(4_800).map(|piece| 1.0 - part(piece, frequency)).fold(0.0, f32::max)
    }

    #[test]
    fn a_sine_stays_a_sine() {
        for (clip, channels) in [(STEREO_441, 2), (STEREO_48, 2), (MONO_48, 1)] {
            let clip = Clip::parse(clip).unwrap();
            let out = run(&mut job(&clip, "audio/opus"), &source(&clip));
            let planes = decode(&out, channels);
            let middle = |plane: &[f32]| plane[9_600..134_400].to_vec();
            for (plane, frequency) in planes.iter().zip([440.0, 880.0]) {
                let noise = worst(&middle(plane), frequency);
                assert!(noise < 0.01, "{noise} beside {frequency} Hz");
            }
            let level: f32 = middle(&planes[0]).iter().fold(0.0, |max, sample| max.max(sample.abs()));
            assert!((0.36..0.46).contains(&level), "{level}");
        }
    }

    #[test]
    fn g711_for_receivers_without_opus() {
        let clip = Clip::parse(STEREO_441).unwrap();
        for mime in ["audio/PCMU", "audio/PCMA"] {
            let out = run(&mut job(&clip, mime), &source(&clip));
            assert!(out.iter().all(|frame| frame.data.len() == 160), "{mime}");
            assert!(out.len() >= 146, "{mime}");
        }
    }

    #[test]
    fn times_follow_each_other_and_stay_with_the_source() {
        for clip in [STEREO_441, STEREO_48] {
            let clip = Clip::parse(clip).unwrap();
            let frames = source(&clip);
            let out = run(&mut job(&clip, "audio/opus"), &frames);
            assert!(out.windows(2).all(|pair| pair[1].pts.micros_since(pair[0].pts) == 20_000));
            let end = out.last().unwrap().pts.micros_since(frames.last().unwrap().pts);
            assert!((-45_000..=20_000).contains(&end), "{end}");
        }
    }

    #[test]
    fn sound_is_where_its_time_says() {
        for clip in [STEREO_441, STEREO_48] {
            let clip = Clip::parse(clip).unwrap();
            let mut frames = source(&clip);
            // The sine begins with frame 60; before it stands what decodes to silence.
            frames[..60].iter_mut().for_each(|frame| frame.data = SILENCE.to_vec());
            let begins = frames[60].pts;
            let out = run(&mut job(&clip, "audio/opus"), &frames);
            let plane = &decode(&out, 2)[0];
            let loud = plane.iter().position(|sample| sample.abs() > 0.2).unwrap() as i64;
            // A decoder gives its first sample at the first packet's time.
            let heard = out[0].pts.as_micros() + loud * 1_000_000 / 48_000;
            let late = heard - begins.as_micros() - 6_500;
            assert!((-12_000..=12_000).contains(&late), "{late}");
        }
    }

    #[test]
    fn a_gap_becomes_silence_and_a_long_one_a_hole() {
        let clip = Clip::parse(STEREO_48).unwrap();
        let mut frames = source(&clip);
        for frame in &mut frames[50..] {
            frame.pts = frame.pts + std::time::Duration::from_millis(500);
        }
        for frame in &mut frames[100..] {
            frame.pts = frame.pts + std::time::Duration::from_millis(5_000);
        }
        let out = run(&mut job(&clip, "audio/opus"), &frames);
        let steps: Vec<i64> = out.windows(2).map(|pair| pair[1].pts.micros_since(pair[0].pts)).collect();
        let holes: Vec<&i64> = steps.iter().filter(|step| **step != 20_000).collect();
        assert!(holes.len() == 1 && (4_900_000..5_100_000).contains(holes[0]), "{holes:?}");
        let plane = &decode(&out, 2)[0];
        let quiet =
            plane.chunks_exact(960).filter(|piece| piece.iter().all(|sample| sample.abs() < 0.01)).count();
        assert!((20..=26).contains(&quiet), "{quiet}");
    }

    #[test]
    fn a_clock_that_drifts_is_followed() {
        let clip = Clip::parse(MONO_48).unwrap();
        let mut frames = Vec::new();
        // Two minutes in which the source's timestamps run 600 ppm faster than its samples: 72 ms in all.
        for index in 0..5_625i64 {
            let data = clip.packets[(index % 60 + 40) as usize].data.to_vec();
            frames.push(frame(index * 1024 * 10_006 / 480_000, data));
        }
        let out = run(&mut job(&clip, "audio/opus"), &frames);
        assert!(out.windows(2).all(|pair| pair[1].pts.micros_since(pair[0].pts) == 20_000));
        let end = out.last().unwrap().pts.micros_since(frames.last().unwrap().pts);
        assert!((-45_000..=20_000).contains(&end), "{end}");
    }

    #[test]
    fn frames_that_cannot_be_decoded_leave_the_rest_in_time() {
        let clip = Clip::parse(STEREO_441).unwrap();
        let mut frames = source(&clip);
        // A coupling channel element, which no AAC-LC encoder sends.
        frames[40].data = vec![0x40; 30];
        let out = run(&mut job(&clip, "audio/opus"), &frames);
        assert!(out.windows(2).all(|pair| pair[1].pts.micros_since(pair[0].pts) == 20_000));
        let mut job = job(&clip, "audio/opus");
        let ended = (0..1_000).find_map(|index| {
            let input = DirectOut::Frame { frame: frame(index * 23, vec![0x40; 30]), catchup: false };
            job.push(input, &mut |_| {}).err()
        });
        assert!(ended.is_some_and(|reason| reason.contains("cannot be decoded")));
    }
}
