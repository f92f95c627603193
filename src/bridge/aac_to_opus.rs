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

    fn lost(&mut self, _sink: Sink<'_>) {}

    fn resync(&mut self) {}
}
