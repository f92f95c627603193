//! From frames to audio and video messages: FLV tags (annex E.4), Opus by "Enhanced RTMP".
//!
//! The picture is H.264 in the order of presentation, so a frame's decoding time is its presentation time. Sound waits
//! a moment for the picture, whose first group may lie in the past. Times count from the first frame and never go
//! back, whatever is behind the frames.
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::{Duration, Instant};

use crate::core::capabilities::RtpCodec;
use crate::core::payload::Codec;
use crate::core::payload::h264::{self, DecoderConfig, Sps};
use crate::core::session::Frame;
use crate::core::time::MediaTime;
use crate::rtmp::wire::amf0::{self, Value};
use crate::rtmp::wire::flv::{self, TagCodec};
use crate::rtmp::wire::kind;

/// For how long sound waits for the first picture.
const PICTURE_WAIT: Duration = Duration::from_secs(2);
/// Where sound without a picture begins, so that a picture that is older can still come.
const HEAD_START: i64 = 10_000_000;

/// A message to be sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tag {
    /// Of which kind.
    pub kind: u8,
    /// Milliseconds.
    pub timestamp: u32,
    /// The body.
    pub payload: Vec<u8>,
}

type Sink<'a> = &'a mut dyn FnMut(Tag);

/// See the module.
pub struct Egress {
    began: Instant,
    base: Option<MediaTime>,
    /// What the other end was told of the picture and of the sound.
    sets: Option<DecoderConfig>,
    sound: Option<(TagCodec, Vec<u8>)>,
    /// Times of the newest tags.
    picture_at: u32,
    sound_at: u32,
    frames: u64,
}

impl Egress {
    /// Nothing has gone out yet.
    pub fn new(now: Instant) -> Self {
        Egress { began: now, base: None, sets: None, sound: None, picture_at: 0, sound_at: 0, frames: 0 }
    }

    /// Frames that went out.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Takes a frame.
    pub fn frame(&mut self, now: Instant, codec: &RtpCodec, frame: &Frame, out: Sink<'_>) {
        match Codec::from_mime(&codec.mime_type) {
            Codec::H264 => self.picture(frame, out),
            Codec::Aac => {
                let config = codec.parameter("config").and_then(|hex| bytes(&hex)).unwrap_or_default();
                self.sound(now, TagCodec::Aac, config, frame, out);
            }
            Codec::Opus => self.sound(now, TagCodec::Opus, opus_head(), frame, out),
            _ => {}
        }
    }

    fn picture(&mut self, frame: &Frame, out: Sink<'_>) {
        if let Some(sets) = sets_of(&frame.data)
            && self.sets.as_ref() != Some(&sets)
        {
            let first = self.sets.is_none();
            let at = self.time(frame.pts, 0).max(self.picture_at);
            if first {
                out(metadata(at, sets.sps.first().and_then(|sps| Sps::parse(sps))));
            }
            out(Tag { kind: kind::VIDEO, timestamp: at, payload: flv::write_video_config(&sets.record()) });
            self.sets = Some(sets);
        } else if self.sets.is_none() {
            // Nothing can be decoded before the parameter sets.
            return;
        }
        let at = self.time(frame.pts, 0).max(self.picture_at);
        self.picture_at = at;
        self.frames = self.frames.saturating_add(1);
        let keyframe = h264::nals(&frame.data).any(|nal| h264::nal_type(nal) == h264::NAL_IDR);
        out(Tag { kind: kind::VIDEO, timestamp: at, payload: flv::write_video(keyframe, &frame.data) });
    }

    fn sound(&mut self, now: Instant, codec: TagCodec, config: Vec<u8>, frame: &Frame, out: Sink<'_>) {
        let waits = self.base.is_none() && now.saturating_duration_since(self.began) < PICTURE_WAIT;
        if waits || config.is_empty() {
            return;
        }
        let at = self.time(frame.pts, HEAD_START).max(self.sound_at);
        self.sound_at = at;
        if self.sound.as_ref().is_none_or(|(known, old)| *known != codec || *old != config) {
            out(Tag { kind: kind::AUDIO, timestamp: at, payload: flv::write_audio_config(codec, &config) });
            self.sound = Some((codec, config));
        }
        self.frames = self.frames.saturating_add(1);
        out(Tag { kind: kind::AUDIO, timestamp: at, payload: flv::write_audio(codec, &frame.data) });
    }

    /// Milliseconds on the other end's clock, which wraps; whoever comes first begins at `head_start`.
    fn time(&mut self, time: MediaTime, head_start: i64) -> u32 {
        let base = *self.base.get_or_insert(MediaTime(time.0.saturating_sub(head_start)));
        (time.micros_since(base).max(0) / 1_000) as u32
    }
}

/// The parameter sets within an access unit, if it has them.
fn sets_of(unit: &[u8]) -> Option<DecoderConfig> {
    let find = |kind| h264::nals(unit).find(|nal| h264::nal_type(nal) == kind);
    DecoderConfig::from_sets(find(h264::NAL_SPS)?, find(h264::NAL_PPS)?)
}

fn metadata(timestamp: u32, sps: Option<Sps>) -> Tag {
    let mut members =
        vec![("encoder".to_owned(), Value::text("viaduct")), ("videocodecid".to_owned(), Value::Number(7.0))];
    if let Some(sps) = sps {
        members.push(("width".to_owned(), Value::Number(f64::from(sps.width))));
        members.push(("height".to_owned(), Value::Number(f64::from(sps.height))));
    }
    let values = [Value::text("@setDataFrame"), Value::text("onMetaData"), Value::Object(members)];
    Tag { kind: kind::DATA_AMF0, timestamp, payload: amf0::write_all(&values) }
}

/// RFC 7845 §5.1: two channels, as RFC 7587 §7 has it whatever is inside; nothing to skip.
fn opus_head() -> Vec<u8> {
    let mut head = b"OpusHead\x01\x02\0\0".to_vec();
    head.extend(48_000u32.to_le_bytes());
    head.extend([0, 0, 0]);
    head
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;
    use crate::core::capabilities::RtpCodec;

    const SPS: &[u8] = &[0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x2f, 0xf9, 0x70, 0x16];
    const PPS: &[u8] = &[0x68, 0xcb, 0x83, 0xcb];

    fn codec(mime: &str, config: Option<&str>) -> RtpCodec {
        let mut parameters = serde_json::Map::new();
        parameters.extend(config.map(|config| ("config".to_owned(), config.into())));
        RtpCodec {
            mime_type: mime.to_owned(),
            payload_type: 96,
            clock_rate: 48_000,
            channels: Some(2),
            parameters,
            rtcp_feedback: Vec::new(),
        }
    }

    fn frame(millis: i64, nals: &[&[u8]]) -> Frame {
        let mut data = Vec::new();
        nals.iter().for_each(|nal| h264::push_nal(&mut data, nal));
        let time = MediaTime::from_millis(millis);
        Frame { track: 1, pts: time, dts: time, keyframe: nals.len() > 1, discardable: false, data }
    }

    struct Lab {
        egress: Egress,
        now: Instant,
    }

    impl Lab {
        fn new() -> Self {
            let now = Instant::now();
            Lab { egress: Egress::new(now), now }
        }

        fn push(&mut self, codec: &RtpCodec, frame: &Frame) -> Vec<Tag> {
            let mut tags = Vec::new();
            self.egress.frame(self.now, codec, frame, &mut |tag| tags.push(tag));
            tags
        }
    }

    #[test]
    fn a_picture_begins_with_its_parameter_sets_and_counts_from_zero() {
        let (mut lab, video) = (Lab::new(), codec("video/H264", None));
        assert_eq!(lab.push(&video, &frame(5_000, &[&[0x41, 1]])), [], "nothing can be decoded yet");
        let tags = lab.push(&video, &frame(6_000, &[SPS, PPS, &[0x65, 1]]));
        let kinds: Vec<_> = tags.iter().map(|tag| (tag.kind, tag.timestamp)).collect();
        assert_eq!(kinds, [(kind::DATA_AMF0, 0), (kind::VIDEO, 0), (kind::VIDEO, 0)]);
        assert!(tags[0].payload.windows(5).any(|bytes| bytes == b"width"));
        let flv::Tag::Config { data, .. } = flv::video(&tags[1].payload).unwrap() else {
            panic!("no config")
        };
        let record = DecoderConfig::parse(data).unwrap();
        assert_eq!((record.sps, record.pps), (vec![SPS.to_vec()], vec![PPS.to_vec()]));
        assert!(matches!(
            flv::video(&tags[2].payload).unwrap(),
            flv::Tag::Frame { keyframe: true, composition: 0, .. }
        ));
        let tags = lab.push(&video, &frame(6_033, &[&[0x41, 1]]));
        assert_eq!((tags.len(), tags[0].timestamp), (1, 33));
        assert!(matches!(flv::video(&tags[0].payload).unwrap(), flv::Tag::Frame { keyframe: false, .. }));
        // The same sets again are not told again; others are.
        assert_eq!(lab.push(&video, &frame(7_000, &[SPS, PPS, &[0x65, 1]])).len(), 1);
        assert_eq!(lab.push(&video, &frame(8_000, &[SPS, &[0x68, 1], &[0x65, 1]])).len(), 2);
    }

    #[test]
    fn times_never_go_back() {
        let (mut lab, video) = (Lab::new(), codec("video/H264", None));
        lab.push(&video, &frame(6_000, &[SPS, PPS, &[0x65, 1]]));
        lab.push(&video, &frame(7_000, &[&[0x41, 1]]));
        assert_eq!(lab.push(&video, &frame(5_000, &[&[0x41, 1]]))[0].timestamp, 1_000);
    }

    #[test]
    fn sound_waits_for_the_picture_but_not_for_ever() {
        let aac = codec("audio/mpeg4-generic", Some("1190"));
        let mut lab = Lab::new();
        assert_eq!(lab.push(&aac, &frame(5_000, &[])), []);
        lab.push(&codec("video/H264", None), &frame(3_000, &[SPS, PPS, &[0x65, 1]]));
        let tags = lab.push(&aac, &frame(5_000, &[]));
        assert_eq!(tags[0], Tag { kind: kind::AUDIO, timestamp: 2_000, payload: vec![0xaf, 0, 0x11, 0x90] });
        assert_eq!(tags[1].payload, [0xaf, 1]);

        let mut lab = Lab::new();
        lab.now += PICTURE_WAIT;
        let tags = lab.push(&codec("audio/opus", None), &frame(5_000, &[&[7]]));
        assert_eq!((tags[0].timestamp, &tags[0].payload[..13]), (10_000, &b"\x90OpusOpusHead"[..]));
        assert_eq!(tags[1].payload[..5], *b"\x91Opus");
        let tags = lab.push(&codec("video/H264", None), &frame(4_000, &[SPS, PPS, &[0x65, 1]]));
        assert_eq!(tags[0].timestamp, 9_000, "what is older can still come");
    }

    #[test]
    fn another_codec_is_told_before_its_first_frame() {
        let mut lab = Lab::new();
        lab.now += PICTURE_WAIT;
        let mut told = |codec: &RtpCodec, millis| lab.push(codec, &frame(millis, &[&[7]])).len();
        assert_eq!(told(&codec("audio/mpeg4-generic", Some("1190")), 0), 2);
        assert_eq!(told(&codec("audio/mpeg4-generic", Some("1190")), 21), 1);
        assert_eq!(told(&codec("audio/mpeg4-generic", Some("1210")), 42), 2);
        assert_eq!(told(&codec("audio/opus", None), 62), 2);
        assert_eq!(
            told(&codec("audio/mpeg4-generic", None), 80),
            0,
            "AAC without its configuration is no use"
        );
    }
}
