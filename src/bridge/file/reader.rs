//! A container taken apart (symphonia): which tracks it has, and their frames in the order of the file.

use serde_json::json;
use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::well_known::{CODEC_ID_AAC, CODEC_ID_OPUS};
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::codecs::video::VideoCodecParameters;
use symphonia::core::codecs::video::well_known::CODEC_ID_H264;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader};
use symphonia::core::io::{MediaSource, MediaSourceStream, MediaSourceStreamOptions};
use symphonia::core::meta::MetadataOptions;
use symphonia::core::packet::Packet;
use symphonia::core::units::TimeBase;

use crate::bridge::asc::AacConfig;
use crate::bridge::config::BridgeConfig;
use crate::bridge::file::{FileError, Sample};
use crate::bridge::pcm::Pcm;
use crate::bridge::sound_encoder::SoundEncoder;
use crate::bridge::target::codec;
use crate::core::capabilities::{Kind, RtpCodec};
use crate::core::payload::Codec;
use crate::core::payload::h264::{self, DecoderConfig, Sps};
use crate::core::session::Track;
use crate::core::time::MediaTime;

/// Numbers of the tracks in a session.
const PICTURE: u32 = 1;
const SOUND: u32 = 2;
/// Packets that are looked through for pictures out of order.
const LOOK_AHEAD: usize = 200;
/// Rate of Opus.
const OPUS_RATE: u32 = 48_000;

/// See the module.
pub(super) struct Reader {
    format: Box<dyn FormatReader>,
    picture: Option<Picture>,
    sound: Option<Sound>,
    /// Sound that was made and is not given out yet.
    made: Vec<Sample>,
    /// Microseconds at which the last frame ends.
    end: i64,
}

struct Picture {
    id: u32,
    base: TimeBase,
    config: DecoderConfig,
    track: Track,
}

struct Sound {
    id: u32,
    base: TimeBase,
    track: Track,
    /// Set for samples that are not coded.
    coder: Option<Coder>,
}

/// From samples to Opus.
struct Coder {
    decoder: Box<dyn AudioDecoder>,
    encoder: SoundEncoder,
    pcm: Pcm,
    planes: usize,
    channels: usize,
    all: Vec<f32>,
    samples: Vec<f32>,
    frame: Vec<f32>,
}

impl Reader {
    /// Opens what `source` holds; `extension` of its name helps to guess.
    pub fn open(
        source: Box<dyn MediaSource>,
        extension: Option<&str>,
        config: &BridgeConfig,
    ) -> Result<Reader, FileError> {
        let mut hint = Hint::new();
        if let Some(extension) = extension {
            hint.with_extension(extension);
        }
        let stream = MediaSourceStream::new(source, MediaSourceStreamOptions::default());
        let (options, meta) = (FormatOptions::default(), MetadataOptions::default());
        let format = symphonia::default::get_probe().probe(&hint, stream, options, meta);
        let format = format.map_err(|_| {
            FileError::Unsupported("it is no MP4, Matroska, WebM or WAV file, or a damaged one".to_owned())
        })?;
        let (mut picture, mut sound) = (None, None);
        for track in format.tracks() {
            let Some(base) = track.time_base else { continue };
            match &track.codec_params {
                Some(CodecParameters::Video(video)) if picture.is_none() => {
                    picture = Picture::new(track.id, base, video);
                }
                Some(CodecParameters::Audio(audio)) if sound.is_none() => {
                    sound = Sound::new(track.id, base, audio, config);
                }
                _ => {}
            }
        }
        if picture.is_none() && sound.is_none() {
            let reason = "it has neither H.264 nor AAC-LC, Opus or PCM of one or two channels";
            return Err(FileError::Unsupported(reason.to_owned()));
        }
        Ok(Reader { format, picture, sound, made: Vec::new(), end: 0 })
    }

    /// Looks through the beginning for pictures that are not in the order of presentation. The reader is of no use
    /// afterwards.
    pub fn find_reordered(mut self) -> bool {
        let Some(picture) = &self.picture else { return false };
        let may =
            picture.config.sps.first().and_then(|sps| Sps::parse(sps)).is_none_or(|sps| sps.may_reorder());
        if !may {
            return false;
        }
        for _ in 0..LOOK_AHEAD {
            match self.next() {
                Ok(Some(sample)) if sample.track == PICTURE && h264::has_b_slices(&sample.data) => {
                    return true;
                }
                Ok(Some(_)) => {}
                _ => return false,
            }
        }
        false
    }

    /// What it has.
    pub fn tracks(&self, reordered: bool) -> Vec<Track> {
        let picture = self.picture.as_ref().map(|picture| Track { reordered, ..picture.track.clone() });
        picture.into_iter().chain(self.sound.as_ref().map(|sound| sound.track.clone())).collect()
    }

    /// Microseconds from the beginning to the end of what was read.
    pub fn end(&self) -> i64 {
        self.end
    }

    /// The next frame; none: the file is at its end.
    pub fn next(&mut self) -> Result<Option<Sample>, FileError> {
        loop {
            if !self.made.is_empty() {
                return Ok(Some(self.made.remove(0)));
            }
            let broken = |error: symphonia::core::errors::Error| FileError::Broken(error.to_string());
            let Some(packet) = self.format.next_packet().map_err(broken)? else { return Ok(None) };
            if let Some(picture) = &self.picture
                && packet.track_id == picture.id
            {
                self.end = self.end.max(end(&packet, picture.base));
                match picture.sample(&packet) {
                    Some(sample) => return Ok(Some(sample)),
                    None => continue,
                }
            }
            if let Some(sound) = &mut self.sound
                && packet.track_id == sound.id
            {
                self.end = self.end.max(end(&packet, sound.base));
                sound.samples(packet, &mut self.made)?;
            }
        }
    }
}

fn micros(ticks: i64, base: TimeBase) -> i64 {
    let micros = i128::from(ticks) * i128::from(base.numer.get()) * 1_000_000 / i128::from(base.denom.get());
    i64::try_from(micros).unwrap_or(i64::MAX / 4)
}

fn start(packet: &Packet, base: TimeBase) -> i64 {
    micros(packet.pts.get(), base)
}

fn end(packet: &Packet, base: TimeBase) -> i64 {
    let ticks = packet.pts.get().saturating_add(i64::try_from(packet.dur.get()).unwrap_or(0));
    micros(ticks, base)
}

impl Picture {
    fn new(id: u32, base: TimeBase, video: &VideoCodecParameters) -> Option<Picture> {
        if video.codec != CODEC_ID_H264 {
            return None;
        }
        let config = video.extra_data.iter().find_map(|extra| DecoderConfig::parse(&extra.data))?;
        let codec = codec(
            "video/H264",
            (96, 90_000, None),
            json!({
                "packetization-mode": 1,
                "level-asymmetry-allowed": 1,
                "profile-level-id": config.profile_level_id(),
            }),
        );
        let track = Track { id: PICTURE, kind: Kind::Video, codec, config: Vec::new(), reordered: false };
        Some(Picture { id, base, config, track })
    }

    /// An access unit, with its parameter sets where decoding can start.
    fn sample(&self, packet: &Packet) -> Option<Sample> {
        let mut unit = Vec::with_capacity(packet.data.len() + 128);
        if !self.config.widen(&packet.data, &mut unit) || unit.is_empty() {
            return None;
        }
        let keyframe = h264::is_keyframe(&unit);
        if keyframe {
            let mut whole = Vec::with_capacity(unit.len() + 128);
            self.config.push_sets(&mut whole);
            whole.extend_from_slice(&unit);
            unit = whole;
        }
        Some(Sample { track: PICTURE, time: start(packet, self.base), keyframe, data: unit })
    }
}

impl Sound {
    fn new(id: u32, base: TimeBase, audio: &AudioCodecParameters, config: &BridgeConfig) -> Option<Sound> {
        let channels = audio.channels.as_ref().map_or(2, |channels| channels.count());
        let (codec, record, coder) = match audio.codec {
            CODEC_ID_AAC => {
                let record = audio.extra_data.as_deref()?.to_vec();
                let aac = AacConfig::parse(&record).ok()?;
                let hex: String = record.iter().map(|byte| format!("{byte:02x}")).collect();
                let facts = (97, aac.sample_rate, Some(aac.channels));
                (codec("audio/mpeg4-generic", facts, json!({"config": hex})), record, None)
            }
            CODEC_ID_OPUS => (opus(channels), Vec::new(), None),
            _ => {
                let coder = Coder::new(audio, channels, config)?;
                (opus(coder.channels), Vec::new(), Some(coder))
            }
        };
        let track = Track { id: SOUND, kind: Kind::Audio, codec, config: record, reordered: false };
        Some(Sound { id, base, track, coder })
    }

    fn samples(&mut self, packet: Packet, made: &mut Vec<Sample>) -> Result<(), FileError> {
        let time = start(&packet, self.base);
        match &mut self.coder {
            None => made.push(Sample { track: SOUND, time, keyframe: true, data: packet.data.into_vec() }),
            Some(coder) => coder.encode(time, &packet, made).map_err(FileError::Broken)?,
        }
        Ok(())
    }
}

impl Coder {
    /// For samples of any format and rate, of one or two channels; of more the first two are taken.
    fn new(audio: &AudioCodecParameters, planes: usize, config: &BridgeConfig) -> Option<Coder> {
        let options = AudioDecoderOptions::default();
        let decoder = symphonia::default::get_codecs().make_audio_decoder(audio, &options).ok()?;
        let channels = planes.clamp(1, 2);
        let encoder = SoundEncoder::new(Codec::Opus, channels, config)?.ok()?;
        let pcm = Pcm::new(audio.sample_rate?, OPUS_RATE, channels).ok()?;
        let (all, samples, frame) = Default::default();
        Some(Coder { decoder, encoder, pcm, planes: planes.max(1), channels, all, samples, frame })
    }

    fn encode(&mut self, time: i64, packet: &Packet, made: &mut Vec<Sample>) -> Result<(), String> {
        let decoded = self.decoder.decode(packet).map_err(|error| error.to_string())?;
        decoded.copy_to_vec_interleaved(&mut self.all);
        self.samples.clear();
        let frames = self.all.chunks_exact(self.planes);
        self.samples.extend(frames.flat_map(|frame| &frame[..self.channels]));
        self.pcm.push(MediaTime::from_micros(time), &mut self.samples)?;
        while let Some(at) = self.pcm.pop(&mut self.frame) {
            let data = self.encoder.encode(&self.frame).map_err(|error| format!("Opus encoder: {error}"))?;
            made.push(Sample { track: SOUND, time: at.as_micros(), keyframe: true, data });
        }
        Ok(())
    }
}

fn opus(channels: usize) -> RtpCodec {
    let stereo = u8::from(channels == 2);
    // RFC 7587 §7: always two, whatever is inside.
    codec("audio/opus", (111, OPUS_RATE, Some(2)), json!({"stereo": stereo, "sprop-stereo": stereo}))
}
