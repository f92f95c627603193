//! From audio and video messages to tracks and frames.
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::{Map, Value as Json, json};

use crate::core::capabilities::RtpCodec;
use crate::core::session::{Event, Output};
use crate::core::time::{Epoch, MediaTime};
use crate::rtmp::RtmpConfig;
use crate::rtmp::wire::amf0::{self, AmfLimits, Value};
use crate::rtmp::wire::chunk::Message;
use crate::rtmp::wire::flv::{self, Tag, TagCodec};
use crate::rtmp::wire::{kind, take, take_u8, take_uint};

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
    encoder: Option<String>,
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
            encoder: None,
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

    /// What the encoder calls itself in its metadata.
    pub fn encoder(&self) -> Option<&str> {
        self.encoder.as_deref()
    }

    /// Takes a message, if it is one of media or data.
    pub fn take(&mut self, now: Instant, message: &Message, limits: AmfLimits, sink: &mut Sink) {
        let body = message.payload.as_slice();
        match message.kind {
            kind::AGGREGATE => self.aggregate(now, message.timestamp, body, limits, sink),
            kind::DATA_AMF3 => self.data(body.strip_prefix(&[0]).unwrap_or(body), limits, sink),
            kind => self.tag(now, (kind, message.timestamp), body, limits, sink),
        }
    }

    fn tag(
        &mut self,
        now: Instant,
        (kind, timestamp): (u8, u32),
        body: &[u8],
        limits: AmfLimits,
        sink: &mut Sink,
    ) {
        match kind {
            kind::VIDEO => self.video(now, timestamp, body, sink),
            kind::AUDIO => self.audio(now, timestamp, body, sink),
            kind::DATA_AMF0 => self.data(body, limits, sink),
            _ => {}
        }
    }

    /// Several messages in one; their times count from the first one's (section 7.1.6).
    fn aggregate(&mut self, now: Instant, base: u32, mut body: &[u8], limits: AmfLimits, sink: &mut Sink) {
        let mut first = None;
        while let Some((kind, time, tag)) = take_tag(&mut body) {
            let offset = time.wrapping_sub(*first.get_or_insert(time));
            self.tag(now, (kind, base.wrapping_add(offset)), tag, limits, sink);
        }
    }

    /// Metadata and other data messages: told to the room as they are.
    fn data(&mut self, body: &[u8], limits: AmfLimits, sink: &mut Sink) {
        let values = match amf0::Reader::new(body, limits).all() {
            Ok(values) => values,
            Err(error) => return sink.say("data", format!("a data message was left out: {error}")),
        };
        let mut values = values.as_slice();
        if values.first().and_then(Value::as_str) == Some("@setDataFrame") {
            values = values.get(1..).unwrap_or_default();
        }
        let Some((name, values)) = values.split_first() else { return };
        let Some(name) = name.as_str() else { return };
        if name == "onMetaData" {
            let encoder = values.first().and_then(|value| value.get("encoder")).and_then(Value::as_str);
            self.encoder = encoder.map(|text| text.chars().take(128).collect()).or(self.encoder.take());
        }
        let data: Vec<Json> = values.iter().map(Value::to_json).collect();
        sink.event(Event::Message(json!({ "name": name, "data": data })));
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

/// Takes one FLV tag off an aggregate: type, time, body.
fn take_tag<'a>(data: &mut &'a [u8]) -> Option<(u8, u32, &'a [u8])> {
    let kind = take_u8(data)?;
    let size = take_uint(data, 3)? as usize;
    let low = take_uint(data, 3)? as u32;
    let high = u32::from(take_u8(data)?);
    take(data, 3)?;
    let body = take(data, size)?;
    let _back_pointer = take(data, data.len().min(4));
    Some((kind, (high << 24) | low, body))
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
