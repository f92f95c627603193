//! The bridge: everything that needs a codec runs here, on its own few threads, never on a worker. Conversions
//! of one track into another ([`Bridge`], asked for by the core through [`Converter`]), the built-in source
//! ([`clip::ClipSession`]) and files that are played ([`mod@file`]).
//!
//! | from | to | when |
//! |---|---|---|
//! | AAC-LC, mono or stereo | Opus, else G.711 | a viewer listens to an RTMP publisher |
//! | Opus, G.711, G.722 | AAC-LC | the room is pushed to an RTMP server |
//! | H.264 with B-frames | H.264 constrained baseline | a viewer watches such a publisher |
//! | VP8, VP9 | H.264 constrained baseline | somebody takes H.264 only |
//! | H.264 | the same in slices that fit packets | a telephone takes packetization-mode 0 only |
//! | nothing | a slate | the program has no picture for a viewer or a telephone ([`slate`]) |
//! | Opus, G.711, G.722, of several | their mix as one of them | a receiver of one track is in a room of several ([`mix`]) |

mod aac;
mod aac_to_opus;
mod asc;
pub mod clip;
pub mod config;
pub mod file;
mod glyphs;
mod h264_reorder;
mod io;
mod jobs;
pub mod mix;
mod pcm;
mod picture_encoder;
mod rate;
mod reencoding;
mod slate;
mod sound_encoder;
mod sound_to_aac;
mod target;
#[cfg(test)]
mod tests;
pub mod vclip;
mod vpx_to_h264;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crate::core::capabilities::{Kind, RtpCodec};
use crate::core::convert::{Converter, Format, Job, MixJob, Mixer, Refusal, SlateJob};
use crate::core::payload::Codec;

use aac_to_opus::AacToOpus;
use h264_reorder::H264Reorder;
use io::{Slot, Threads};
use jobs::{Convert, RunningJob};
use mix::Prompts;
use mix::config::{MixConfig, PhoneAudio};
use slate::RunningSlate;
use sound_to_aac::SoundToAac;
use vpx_to_h264::VpxToH264;

pub use config::BridgeConfig;

/// The converter with its threads.
pub struct Bridge {
    config: BridgeConfig,
    threads: Threads,
    sounds: Arc<AtomicUsize>,
    pictures: Arc<AtomicUsize>,
    mixes: Arc<AtomicUsize>,
    slates: Arc<AtomicUsize>,
    mix_config: Arc<MixConfig>,
    prompts: Prompts,
}

impl Bridge {
    /// Starts the bridge's threads.
    pub fn start(config: BridgeConfig) -> std::io::Result<Bridge> {
        let threads = Threads::start(config.threads)?;
        let (mix_config, prompts) = (Arc::new(config.mix.clone()), io::load_prompts(&config.mix));
        let (sounds, pictures, mixes, slates) = Default::default();
        Ok(Bridge { config, threads, sounds, pictures, mixes, slates, mix_config, prompts })
    }

    fn start_sound(&self, job: Job) -> Result<(), Refusal> {
        let slot = Slot::take(&self.sounds, self.config.audio_transcodes).ok_or_else(|| {
            busy("The server already converts the sound of as many streams as it may; there is no sound for now.")
        })?;
        let convert: Result<Box<dyn Convert>, String> = match Codec::from_mime(&job.to.codec.mime_type) {
            Codec::Aac => SoundToAac::new(&job.from, &self.config).map(|made| Box::new(made) as _),
            _ => AacToOpus::new(&job.from, &job.to, &self.config).map(|made| Box::new(made) as _),
        };
        let convert = convert.map_err(|reason| {
            tracing::info!(conn = %job.conn, "the sound cannot be converted: {reason}");
            unsupported(&job)
        })?;
        tracing::info!(
            conn = %job.conn,
            "somebody listens: the sound is converted from {} to {}",
            name(&job.from.codec),
            name(&job.to.codec)
        );
        let running = RunningJob::new(job, "the conversion of the sound", convert);
        self.threads.run_sound(running, slot).map_err(|error| busy(&error.to_string()))
    }

    fn start_picture(&self, job: Job) -> Result<(), Refusal> {
        let limit = self.config.video_transcodes;
        let reordered = job.from.reordered;
        let other = Codec::from_mime(&job.from.codec.mime_type) != Codec::H264;
        let slot = Slot::take(&self.pictures, limit).ok_or_else(|| {
            let (what, answer) = match (other, reordered) {
                (true, _) => ("is no H.264", BUSY_OTHER),
                (false, true) => ("has B-frames", BUSY_REORDERED),
                (false, false) => ("does not fit packetization-mode 0", BUSY_SINGLE),
            };
            tracing::info!(
                conn = %job.conn,
                "a receiver is refused: the picture {what} and {limit} others are being re-encoded already \
                 (bridge.video_transcodes)"
            );
            busy(answer)
        })?;
        let convert: Result<Box<dyn Convert>, String> = match other {
            true => VpxToH264::new(&job.from, &job.to, &self.config).map(|made| Box::new(made) as _),
            false => H264Reorder::new(&self.config, &job.to).map(|made| Box::new(made) as _),
        };
        let convert = convert.map_err(|reason| {
            tracing::warn!(conn = %job.conn, "the picture cannot be re-encoded: {reason}");
            unsupported(&job)
        })?;
        if other {
            tracing::info!(
                conn = %job.conn,
                "somebody takes H.264 only: the picture is re-encoded from {} while it is watched. To save the \
                 server's time, put h264 first in rooms.video_codecs",
                name(&job.from.codec)
            );
        } else if reordered {
            tracing::info!(
                conn = %job.conn,
                "somebody watches: the picture has B-frames, which browsers cannot show, and is re-encoded without \
                 them while it is watched. To save the server's time and some quality, turn B-frames off in the \
                 encoder: OBS with x264: \"bframes=0\" under x264 options or tune \"zerolatency\"; OBS with a \
                 hardware encoder: B-frames 0; ffmpeg: -bf 0"
            );
        } else {
            tracing::info!(
                conn = %job.conn,
                "a telephone watches that takes packetization-mode 0 only: the picture is re-encoded in slices that \
                 fit packets. Most such telephones take fragments as well (sip.calls.h264_fragments)"
            );
        }
        let running = RunningJob::new(job, "the re-encoding of the picture", convert);
        self.threads.run_picture(running, slot).map_err(|error| busy(&error.to_string()))
    }
}

const BUSY_REORDERED: &str = "This stream has B-frames, which browsers cannot show, and the server is already \
    re-encoding as many streams as it may. Try again later, or ask the publisher to turn B-frames off.";
const BUSY_OTHER: &str = "This stream must be converted to H.264, and the server is already re-encoding as many streams \
    as it may.";
const BUSY_SINGLE: &str = "This stream must be cut for packetization-mode 0, and the server is already re-encoding as \
    many streams as it may.";

fn busy(text: &str) -> Refusal {
    Refusal::Busy(text.to_owned())
}

fn name(codec: &RtpCodec) -> &str {
    codec.mime_type.split_once('/').map_or(codec.mime_type.as_str(), |(_, name)| name)
}

fn unsupported(job: &Job) -> Refusal {
    Refusal::Unsupported { from: job.from.codec.mime_type.clone(), to: job.to.codec.mime_type.clone() }
}

impl Converter for Bridge {
    fn target(&self, from: &Format, accepted: &[RtpCodec]) -> Option<Format> {
        target::target(from, accepted)
    }

    fn start(&self, job: Job) -> Result<(), Refusal> {
        match (job.from.kind, Codec::from_mime(&job.from.codec.mime_type)) {
            (Kind::Audio, Codec::Aac | Codec::Opus | Codec::Pcmu | Codec::Pcma | Codec::G722) => {
                self.start_sound(job)
            }
            (Kind::Video, Codec::H264 | Codec::Vp8 | Codec::Vp9) => self.start_picture(job),
            _ => Err(unsupported(&job)),
        }
    }

    fn slate(&self, accepted: &[RtpCodec]) -> Option<Format> {
        target::slate(accepted)
    }

    fn show_slate(&self, job: SlateJob) -> Result<(), Refusal> {
        let slot = Slot::take(&self.slates, self.config.slates)
            .ok_or_else(|| busy("The server already shows as many slates as it may (bridge.slates)."))?;
        let slate = RunningSlate::new(job, &self.config);
        self.threads.run_slate(slate, slot).map_err(|error| busy(&error.to_string()))
    }
}

impl Mixer for Bridge {
    fn takes(&self, from: &Format) -> bool {
        mix::takes(from)
    }

    fn output(&self, accepted: &[RtpCodec]) -> Option<Format> {
        mix::target(accepted)
    }

    fn passes(&self, codec: &RtpCodec) -> bool {
        self.config.phone_audio == PhoneAudio::Passthrough || !mix::is_telephone(codec)
    }

    fn mix(&self, job: MixJob) -> Result<(), Refusal> {
        let slot = Slot::take(&self.mixes, self.config.mix.rooms).ok_or_else(|| {
            busy("The server already mixes the sound of as many rooms as it may; only one voice is heard for now.")
        })?;
        tracing::info!(room = job.room, "a receiver needs one track of several voices: the room is mixed");
        let running = mix::running(job, self.mix_config.clone(), self.prompts.clone());
        self.threads.run_mix(running, slot).map_err(|error| busy(&error.to_string()))
    }
}
