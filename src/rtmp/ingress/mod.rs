//! From audio and video messages to tracks and frames.
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::Map;

use crate::core::capabilities::RtpCodec;
use crate::core::session::{Event, Output};
use crate::core::time::{Epoch, MediaTime};
use crate::rtmp::RtmpConfig;
use crate::rtmp::wire::flv::{self, Tag, TagCodec};

mod audio;
mod clock;
mod video;

use audio::Audio;
use clock::Clock;
use video::Video;

/// The number of the video track in each session.
pub const VIDEO_TRACK: u32 = 0;
/// The number of the audio track in each session.
pub const AUDIO_TRACK: u32 = 1;
/// Between two notices about steps of the encoder's clock.
const STEP_NOTICE_EVERY: Duration = Duration::from_secs(60);

/// Where events go. What it says, it says once.
#[derive(Default)]
pub struct Sink {
    /// What waits for the worker.
    pub out: VecDeque<Output>,
    said: Vec<&'static str>,
}

impl Sink {
    /// Adds an event.
    pub fn event(&mut self, event: Event) {
        self.out.push_back(Output::Event(event));
    }

    /// Tells a person, unless something was said under `key` before.
    pub fn say(&mut self, key: &'static str, text: impl Into<String>) {
        if !self.said.contains(&key) {
            self.said.push(key);
            self.event(Event::Notice(text.into()));
        }
    }
}

/// A codec without parameters or feedback.
fn fact(mime: &str, payload_type: u8, clock_rate: u32, channels: Option<u8>) -> RtpCodec {
    RtpCodec {
        mime_type: mime.to_owned(),
        payload_type,
        clock_rate,
        channels,
        parameters: Map::new(),
        rtcp_feedback: Vec::new(),
    }
}

/// A publisher's media.
pub struct Ingress {
    clock: Clock,
    video: Video,
    audio: Audio,
    epoch: Epoch,
    step_said: Option<Instant>,
    /// When it is looked whether picture and sound came.
    silence_at: Option<Instant>,
    silence: Duration,
}

impl Ingress {
    /// Media of a publisher let in at `now`.
    pub fn new(config: &RtmpConfig, epoch: Epoch, now: Instant) -> Self {
        Ingress {
            clock: Clock::new(Duration::from_millis(u64::from(config.max_timestamp_step_ms))),
            video: Video::default(),
            audio: Audio::default(),
            epoch,
            step_said: None,
            silence_at: now.checked_add(config.silence_notice()),
            silence: config.silence_notice(),
        }
    }

    /// When [`Ingress::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.silence_at
    }

    /// Says what is missing, once.
    pub fn handle_timeout(&mut self, now: Instant, sink: &mut Sink) {
        if self.silence_at.is_none_or(|at| now < at) {
            return;
        }
        self.silence_at = None;
        let missing = match (self.video.announced(), self.audio.announced()) {
            (true, true) => return,
            (false, true) => "no picture",
            (true, false) => "no sound",
            (false, false) => "neither picture nor sound",
        };
        let seconds = self.silence.as_secs_f32();
        sink.say(
            "silence",
            format!("{missing} that can be used came within {seconds} seconds of publishing"),
        );
    }

    /// Takes a video message.
    pub fn video(&mut self, now: Instant, timestamp: u32, body: &[u8], sink: &mut Sink) {
        match flv::video(body) {
            Ok(Tag::Config { codec: TagCodec::H264, data }) => self.video.configure(data, sink),
            Ok(Tag::Frame { codec: TagCodec::H264, keyframe, composition, data }) => {
                let dts = self.read_clock(now, timestamp, sink);
                self.video.frame(dts, composition, keyframe, data, sink);
            }
            Ok(Tag::Config { codec, .. } | Tag::Frame { codec, .. }) => {
                say_codec("video-codec", codec, "H.264", "picture", sink);
            }
            Ok(Tag::Nothing) => {}
            Err(error) => sink.say("video-bad", format!("a video message was left out: {error}")),
        }
    }

    /// Takes an audio message.
    pub fn audio(&mut self, now: Instant, timestamp: u32, body: &[u8], sink: &mut Sink) {
        match flv::audio(body) {
            Ok(Tag::Config { codec: codec @ (TagCodec::Aac | TagCodec::Opus), data }) => {
                self.audio.configure(codec, data, sink);
            }
            Ok(Tag::Frame { codec: codec @ (TagCodec::Aac | TagCodec::Opus), data, .. }) => {
                let time = self.read_clock(now, timestamp, sink);
                self.audio.frame(codec, time, data, sink);
            }
            Ok(Tag::Config { codec, .. } | Tag::Frame { codec, .. }) => {
                say_codec("audio-codec", codec, "AAC-LC or Opus", "sound", sink);
            }
            Ok(Tag::Nothing) => {}
            Err(error) => sink.say("audio-bad", format!("an audio message was left out: {error}")),
        }
    }

    fn read_clock(&mut self, now: Instant, timestamp: u32, sink: &mut Sink) -> MediaTime {
        let reading = self.clock.read(timestamp, self.epoch.media_time(now));
        if let Some(step) = reading.stepped {
            let due =
                self.step_said.is_none_or(|said| now.saturating_duration_since(said) >= STEP_NOTICE_EVERY);
            if due {
                self.step_said = Some(now);
                let seconds = f64::from(step) / 1000.0;
                sink.event(Event::Notice(format!(
                    "the encoder's clock stepped by {seconds} seconds; picture and sound go on from now"
                )));
            }
        }
        reading.time
    }
}

fn say_codec(key: &'static str, codec: TagCodec, wanted: &str, what: &str, sink: &mut Sink) {
    let name = match codec {
        TagCodec::H264 => "H.264",
        TagCodec::Aac => "AAC",
        TagCodec::Opus => "Opus",
        TagCodec::Other(name) => name,
    };
    sink.say(key, format!("the encoder sends {name}, which is not taken over RTMP: the {what} is left out; set it to {wanted}"));
}
