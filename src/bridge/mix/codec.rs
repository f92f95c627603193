//! Packets to samples and back: Opus (libopus, which works at the mixer's rate itself), G.711 and G.722 (brought to
//! the mixer's rate by a whole factor); and to AAC, for RTMP servers. Samples are mono.

use audio_codec::g722::{G722Decoder, G722Encoder};
use audio_codec::{Decoder as _, Encoder as _};

use crate::bridge::aac::{self, AacEncoder};
use crate::bridge::mix::config::MixConfig;
use crate::bridge::mix::fir::Fir;
use crate::bridge::sound_encoder::{a_law, mu_law, to_i16};
use crate::core::capabilities::RtpCodec;
use crate::core::payload::Codec;

/// The longest Opus packet (RFC 6716 §2.1.4), in milliseconds.
const MAX_PACKET_MS: u32 = 120;
/// The largest Opus packet asked for.
const MAX_BYTES: usize = 1_275;

/// Samples per second inside a codec.
pub fn native_rate(codec: &RtpCodec) -> u32 {
    match Codec::from_mime(&codec.mime_type) {
        Codec::Opus => {
            // RFC 7587 §6.1: what the far end makes, or can make use of.
            let named =
                ["maxplaybackrate", "sprop-maxcapturerate"].iter().filter_map(|name| codec.parameter(name));
            let rate = named.filter_map(|text| text.parse().ok()).min().unwrap_or(48_000);
            match rate {
                0..=8_000 => 8_000,
                8_001..=16_000 => 16_000,
                _ => 48_000,
            }
        }
        Codec::Aac => aac::RATE,
        Codec::G722 => 16_000,
        _ => 8_000,
    }
}

/// Whether this codec can be decoded and encoded here.
pub fn is_known(codec: Codec) -> bool {
    matches!(codec, Codec::Opus | Codec::Pcmu | Codec::Pcma | Codec::G722)
}

enum Inner {
    Opus(Box<opus::Decoder>),
    Table(&'static [f32; 256]),
    G722(Box<G722Decoder>),
}

/// A decoder of one source.
pub struct Decoder {
    inner: Inner,
    fir: Option<Fir>,
    rate: u32,
    raw: Vec<f32>,
    words: Vec<i16>,
}

impl Decoder {
    /// For `codec`, into samples of `rate`; the text says why not.
    pub fn new(codec: Codec, rate: u32) -> Result<Decoder, String> {
        let inner = match codec {
            Codec::Opus => {
                let made = opus::Decoder::new(rate, opus::Channels::Mono);
                Inner::Opus(Box::new(made.map_err(|error| error.to_string())?))
            }
            Codec::Pcmu => Inner::Table(table(true)),
            Codec::Pcma => Inner::Table(table(false)),
            Codec::G722 => Inner::G722(Box::new(G722Decoder::new())),
            other => return Err(format!("{other:?} is not decoded here")),
        };
        let fir = match &inner {
            Inner::Opus(_) => None,
            Inner::Table(_) => Fir::new(8_000, rate),
            Inner::G722(_) => Fir::new(16_000, rate),
        };
        Ok(Decoder { inner, fir, rate, raw: Vec::new(), words: Vec::new() })
    }

    /// Appends the samples of one payload; answers how many.
    pub fn decode(&mut self, payload: &[u8], output: &mut Vec<f32>) -> Result<usize, opus::Error> {
        let before = output.len();
        match &mut self.inner {
            Inner::Opus(decoder) => {
                let room = before + (self.rate * MAX_PACKET_MS / 1_000) as usize;
                output.resize(room, 0.0);
                let made = decoder.decode_float(payload, &mut output[before..], false);
                output.truncate(before + made.as_ref().copied().unwrap_or(0));
                tame(&mut output[before..]);
                return made;
            }
            Inner::Table(table) => {
                let samples = payload.iter().map(|code| table[usize::from(*code)]);
                match &mut self.fir {
                    None => output.extend(samples),
                    Some(fir) => {
                        self.raw.clear();
                        self.raw.extend(samples);
                        fir.process(&self.raw, output);
                    }
                }
            }
            Inner::G722(decoder) => {
                self.words.resize(payload.len() * 2, 0);
                let made = decoder.decode_into(payload, &mut self.words).unwrap_or(0);
                self.raw.clear();
                // The reference decoder gives 14 bits in 16.
                self.raw.extend(self.words[..made].iter().map(|word| f32::from(*word) / 32_768.0));
                // At 8 kHz the higher band goes again.
                match &mut self.fir {
                    None => output.extend_from_slice(&self.raw),
                    Some(fir) => {
                        self.raw.truncate(made / 2 * 2);
                        fir.process(&self.raw, output);
                    }
                }
            }
        }
        Ok(output.len() - before)
    }

    /// Whether it makes up for losses by itself.
    pub fn conceals(&self) -> bool {
        matches!(self.inner, Inner::Opus(_))
    }

    /// Appends `count` samples in place of a packet that is lost: from the copy in the packet behind it where that
    /// is given and has one, else made up. Answers whether it could.
    pub fn conceal(&mut self, next: Option<&[u8]>, count: usize, output: &mut Vec<f32>) -> bool {
        let Inner::Opus(decoder) = &mut self.inner else { return false };
        // libopus makes up for multiples of 2.5 ms.
        let step = (self.rate / 400) as usize;
        let count = (count / step).max(1) * step;
        let before = output.len();
        output.resize(before + count, 0.0);
        let (payload, fec) = next.map_or((&[][..], false), |next| (next, true));
        let made = decoder.decode_float(payload, &mut output[before..], fec).unwrap_or(0);
        output.truncate(before + made);
        tame(&mut output[before..]);
        made > 0
    }

    /// Forgets what went before.
    pub fn reset(&mut self) {
        match &mut self.inner {
            // Only a null pointer could make it fail.
            Inner::Opus(decoder) => drop(decoder.reset_state()),
            Inner::G722(decoder) => **decoder = G722Decoder::new(),
            Inner::Table(_) => {}
        }
        if let Some(fir) = &mut self.fir {
            fir.reset();
        }
    }
}

/// What libopus makes of a packet that no encoder made can be louder than loud.
fn tame(samples: &mut [f32]) {
    for sample in samples {
        *sample = if sample.is_finite() { sample.clamp(-1.0, 1.0) } else { 0.0 };
    }
}

/// How long a payload lasts, in ticks of its RTP clock, as far as can be told without decoding.
pub fn duration(codec: Codec, payload: &[u8]) -> u64 {
    match codec {
        Codec::Opus => opus::packet::get_nb_samples(payload, 48_000).unwrap_or(960) as u64,
        // RFC 3551 §4.5.2: G.722's clock says 8,000, so one byte a tick too.
        _ => payload.len() as u64,
    }
}

/// What an Opus packet says by itself of the voice in it (RFC 6716 §3.1, §4.2.3: the first bits of a SILK frame are
/// its voice activity); `None` where only decoding tells.
pub fn voice_flag(payload: &[u8]) -> Option<bool> {
    let (&toc, frame) = payload.split_first()?;
    let (config, count) = (toc >> 3, toc & 3);
    let Some(&first) = frame.first().filter(|_| payload.len() > 2) else { return Some(false) };
    let flags = match config {
        // SILK, 10 and 20 ms, 40 ms, 60 ms; hybrid.
        12..=15 => 1,
        0..=11 => [1, 1, 2, 3][usize::from(config % 4)],
        _ => return None,
    };
    (count == 0).then(|| first >> (8 - flags) != 0)
}

/// ITU-T G.711 as tables.
pub fn table(mu: bool) -> &'static [f32; 256] {
    use std::sync::OnceLock;
    static MU: OnceLock<[f32; 256]> = OnceLock::new();
    static A: OnceLock<[f32; 256]> = OnceLock::new();
    match mu {
        true => MU.get_or_init(|| std::array::from_fn(|code| expand_mu(code as u8))),
        false => A.get_or_init(|| std::array::from_fn(|code| expand_a(code as u8))),
    }
}

fn expand_mu(code: u8) -> f32 {
    let code = !code;
    let exponent = (code >> 4) & 7;
    let magnitude = ((i32::from(code & 0x0f) * 2 + 33) << (exponent + 2)) - 132;
    let signed = if code & 0x80 != 0 { -magnitude } else { magnitude };
    signed as f32 / 32_768.0
}

fn expand_a(code: u8) -> f32 {
    let code = code ^ 0x55;
    let (exponent, mantissa) = ((code >> 4) & 7, i32::from(code & 0x0f));
    let magnitude = match exponent {
        0 => (mantissa << 4) + 8,
        _ => ((mantissa << 4) + 264) << (exponent - 1),
    };
    let signed = if code & 0x80 != 0 { magnitude } else { -magnitude };
    signed as f32 / 32_768.0
}

enum Outer {
    Opus(Box<opus::Encoder>),
    Pcmu,
    Pcma,
    G722(Box<G722Encoder>),
    Aac(Box<Aac>),
}

/// AAC, whose frames are not as long as the mixer's.
struct Aac {
    encoder: AacEncoder,
    /// Samples of both channels.
    pairs: Vec<f32>,
    lead: i64,
}

/// An encoder of one mix.
pub struct Encoder {
    outer: Outer,
    fir: Option<Fir>,
    raw: Vec<f32>,
    words: Vec<i16>,
}

impl Encoder {
    /// For `codec`, from samples of `rate`; the text says why not.
    pub fn new(codec: Codec, rate: u32, config: &MixConfig) -> Result<Encoder, String> {
        let (outer, native) = match codec {
            Codec::Opus => {
                let made = opus_encoder(rate, config).map_err(|error| error.to_string())?;
                (Outer::Opus(Box::new(made)), rate)
            }
            Codec::Pcmu => (Outer::Pcmu, 8_000),
            Codec::Pcma => (Outer::Pcma, 8_000),
            Codec::G722 => (Outer::G722(Box::new(G722Encoder::new())), 16_000),
            Codec::Aac => {
                let encoder = AacEncoder::new(config.aac_bitrate);
                (Outer::Aac(Box::new(Aac { encoder, pairs: Vec::new(), lead: 0 })), aac::RATE)
            }
            other => return Err(format!("{other:?} is not encoded here")),
        };
        Ok(Encoder { outer, fir: Fir::new(rate, native), raw: Vec::new(), words: Vec::new() })
    }

    /// Microseconds from the beginning of the last 20 ms to the beginning of what the last packet holds.
    pub fn lead(&self) -> i64 {
        match &self.outer {
            Outer::Aac(aac) => aac.lead,
            _ => 0,
        }
    }

    /// Encodes 20 ms; nothing may come of it yet.
    pub fn encode(&mut self, samples: &[f32]) -> Result<Vec<u8>, opus::Error> {
        let samples = match &mut self.fir {
            None => samples,
            Some(fir) => {
                self.raw.clear();
                fir.process(samples, &mut self.raw);
                &self.raw
            }
        };
        Ok(match &mut self.outer {
            Outer::Opus(encoder) => encoder.encode_vec_float(samples, MAX_BYTES)?,
            Outer::Pcmu => samples.iter().map(|sample| mu_law(to_i16(*sample))).collect(),
            Outer::Pcma => samples.iter().map(|sample| a_law(to_i16(*sample))).collect(),
            Outer::G722(encoder) => {
                self.words.clear();
                self.words.extend(samples.iter().map(|sample| to_i16(*sample)));
                let mut bytes = vec![0; self.words.len() / 2 + 1];
                let made = encoder.encode_into(&self.words, &mut bytes).unwrap_or(0);
                bytes.truncate(made);
                bytes
            }
            Outer::Aac(aac) => aac.encode(samples),
        })
    }

    /// What comes next can be decoded by whoever decoded something else before.
    pub fn restart(&mut self) {
        match &mut self.outer {
            // Only a null pointer could make it fail.
            Outer::Opus(encoder) => drop(encoder.reset_state()),
            Outer::Aac(aac) => aac.encoder.reset(),
            _ => {}
        }
        if let Some(fir) = &mut self.fir {
            fir.reset();
        }
    }
}

impl Aac {
    /// Both channels are the mix; 20 ms are less than a frame, so there is never more than one.
    fn encode(&mut self, samples: &[f32]) -> Vec<u8> {
        self.pairs.clear();
        self.pairs.extend(samples.iter().flat_map(|sample| [*sample, *sample]));
        let before = self.encoder.waiting();
        self.encoder.push(&self.pairs);
        let micros = (before + aac::DELAY) as i64 * 1_000_000 / i64::from(aac::RATE);
        self.lead = -micros;
        self.encoder.pop().unwrap_or_default()
    }
}

fn opus_encoder(rate: u32, config: &MixConfig) -> Result<opus::Encoder, opus::Error> {
    let mut encoder = opus::Encoder::new(rate, opus::Channels::Mono, opus::Application::Voip)?;
    let bitrate = if rate > 16_000 { config.opus_bitrate } else { config.opus_bitrate / 3 * 2 };
    encoder.set_bitrate(opus::Bitrate::Bits(bitrate.clamp(6_000, 510_000) as i32))?;
    encoder.set_complexity(i32::from(config.opus_complexity.min(10)))?;
    encoder.set_inband_fec(config.opus_expected_loss > 0)?;
    encoder.set_packet_loss_perc(i32::from(config.opus_expected_loss.min(100)))?;
    Ok(encoder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::mix::tests::{beside, sine};

    #[test]
    fn g711_expands_as_the_tables_of_the_standard() {
        assert_eq!(
            [0xff, 0x80, 0x00, 0xce].map(|code| (expand_mu(code) * 32_768.0) as i32),
            [0, 32_124, -32_124, 988]
        );
        assert_eq!([0xd5, 0xaa, 0x2a].map(|code| (expand_a(code) * 32_768.0) as i32), [8, 32_256, -32_256]);
    }

    #[test]
    fn opus_says_whether_there_is_a_voice() {
        for rate in [8_000, 16_000] {
            let mut encoder = Encoder::new(Codec::Opus, rate, &MixConfig::default()).expect("an encoder");
            // A voice is a buzz that changes its pitch and rests; the room hisses.
            let (mut seed, mut spoken, mut silent) = (1u32, Vec::new(), Vec::new());
            for tick in 0..200 {
                let talks = tick % 100 >= 50;
                let samples: Vec<f32> = (0..rate / 50)
                    .map(|at| {
                        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        let hiss = ((seed >> 8) as f32 / (1 << 24) as f32 - 0.5) * 0.001;
                        let place = (tick * rate / 50 + at) % (rate / (110 + tick % 10));
                        hiss + if talks && place < 3 { 0.4 } else { 0.0 }
                    })
                    .collect();
                let packet = encoder.encode(&samples).expect("a packet");
                if tick % 50 > 10 {
                    if talks { &mut spoken } else { &mut silent }.extend(voice_flag(&packet));
                }
            }
            let share =
                |flags: &[bool]| flags.iter().filter(|flag| **flag).count() as f32 / flags.len() as f32;
            assert!(spoken.len() > 70 && share(&spoken) > 0.95, "{}", share(&spoken));
            assert!(silent.len() > 70 && share(&silent) < 0.3, "{}", share(&silent));
        }
        assert_eq!(voice_flag(&[0xf8, 0xff, 0xfe, 0x00]), None, "CELT does not tell");
        assert_eq!((voice_flag(&[]), voice_flag(&[0x48])), (None, Some(false)));
    }

    #[test]
    fn every_codec_carries_a_sine_at_every_rate() {
        for codec in [Codec::Opus, Codec::Pcmu, Codec::Pcma, Codec::G722] {
            for (rate, other) in [(8_000, 48_000), (16_000, 8_000), (48_000, 16_000)] {
                let mut encoder = Encoder::new(codec, rate, &MixConfig::default()).expect("an encoder");
                let mut decoder = Decoder::new(codec, other).expect("a decoder");
                let mut output = Vec::new();
                for piece in sine(1_000.0, rate, rate as usize, 0.5).chunks(rate as usize / 50) {
                    let packet = encoder.encode(piece).expect("a packet");
                    let ticks = if codec == Codec::Opus { 960 } else { 160 };
                    assert_eq!(duration(codec, &packet), ticks);
                    assert_eq!(decoder.decode(&packet, &mut output).ok(), Some(other as usize / 50));
                }
                let noise = beside(&output[other as usize / 2..], 1_000.0, other);
                assert!(noise < 0.004, "{codec:?} {rate} to {other}: {noise}");
                let peak =
                    output[other as usize / 2..].iter().fold(0.0f32, |peak, sample| peak.max(sample.abs()));
                assert!((0.4..0.6).contains(&peak), "{codec:?}: {peak}");
            }
        }
    }
}
