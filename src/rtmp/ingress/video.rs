//! The picture: H.264 as RTMP carries it becomes access units with their parameter sets in band, and
//! the order of presentation is watched.

use serde_json::{Map, Value};

use crate::core::capabilities::{Kind, RtpCodec};
use crate::core::payload::h264::{self, DecoderConfig, Sps};
use crate::core::session::{Event, Frame, Track};
use crate::core::time::MediaTime;
use crate::rtmp::ingress::{Sink, VIDEO_TRACK, fact};

/// Keyframes without an IDR picture after which it is said that late viewers have to wait.
const OPEN_GROUPS: u32 = 3;

/// State of the video track.
#[derive(Default)]
pub struct Video {
    record: Vec<u8>,
    config: Option<DecoderConfig>,
    sps: Option<Sps>,
    announced: bool,
    changed: bool,
    reordered: bool,
    /// The decoding time before this one, and the latest presentation time.
    last: Option<MediaTime>,
    latest: Option<MediaTime>,
    open_groups: u32,
}

impl Video {
    /// Whether the track was announced.
    pub fn announced(&self) -> bool {
        self.announced
    }

    /// Takes a sequence header; it holds from the next keyframe on.
    pub fn configure(&mut self, record: &[u8], sink: &mut Sink) {
        if record == self.record {
            return;
        }
        let Some(config) = DecoderConfig::parse(record) else {
            sink.say(
                "video-config",
                "the H.264 configuration the encoder sent cannot be read; the picture is left out",
            );
            return;
        };
        record.clone_into(&mut self.record);
        self.adopt(config);
    }

    fn adopt(&mut self, config: DecoderConfig) {
        self.sps = config.sps.first().and_then(|sps| Sps::parse(sps));
        self.config = Some(config);
        self.changed = true;
    }

    /// Takes a frame.
    pub fn frame(&mut self, dts: MediaTime, composition: i32, flagged: bool, data: &[u8], sink: &mut Sink) {
        let Some(config) = &self.config else {
            sink.say("video-early", "video came before its configuration and was left out up to there");
            return;
        };
        let mut unit = Vec::with_capacity(data.len().saturating_add(128));
        if !config.widen(data, &mut unit) {
            sink.say("video-damaged", "a video frame whose inner lengths do not fit was left out");
            return;
        }
        if unit.is_empty() {
            return;
        }
        let start = h264::nals(&unit).any(|nal| h264::nal_type(nal) == h264::NAL_IDR);
        self.watch_groups(flagged && !start, sink);
        if start {
            unit = self.with_sets(unit);
        }
        let pts = MediaTime(dts.0.saturating_add(i64::from(composition).saturating_mul(1000)));
        if self.last.is_some_and(|last| dts < last) {
            self.latest = None;
        }
        self.last = Some(dts);
        self.watch_order(start, composition, pts, &unit, sink);
        if !self.announced {
            return;
        }
        let discardable = h264::is_discardable(&unit);
        let keyframe = start || h264::is_keyframe(&unit);
        sink.event(Event::Frame(Frame { track: VIDEO_TRACK, pts, dts, keyframe, discardable, data: unit }));
    }

    /// A keyframe with its parameter sets. Sets that came in band replace those of the header.
    fn with_sets(&mut self, unit: Vec<u8>) -> Vec<u8> {
        let find = |kind| h264::nals(&unit).find(|nal| h264::nal_type(nal) == kind);
        let (sps, pps) = (find(h264::NAL_SPS), find(h264::NAL_PPS));
        let Some(config) = &self.config else { return unit };
        if let (Some(sps), Some(pps)) = (sps, pps) {
            let known =
                config.sps.iter().any(|known| known == sps) && config.pps.iter().any(|known| known == pps);
            let length_size = config.length_size;
            if !known && let Some(inband) = DecoderConfig::from_sets(sps, pps) {
                self.adopt(DecoderConfig { length_size, ..inband });
            }
            return unit;
        }
        let mut whole = Vec::with_capacity(unit.len().saturating_add(256));
        config.push_sets(&mut whole);
        whole.extend_from_slice(&unit);
        whole
    }

    fn watch_groups(&mut self, open: bool, sink: &mut Sink) {
        self.open_groups = self.open_groups.saturating_add(u32::from(open));
        if self.open_groups == OPEN_GROUPS {
            sink.say(
                "video-open",
                "the encoder's keyframes are not IDR pictures (open GOP or intra refresh): browsers that join \
                 later cannot start there; turn both off in the encoder (x264: open-gop=0:intra-refresh=0)",
            );
        }
    }

    /// Announces the track at its first keyframe, and what changes later.
    fn watch_order(&mut self, start: bool, composition: i32, pts: MediaTime, unit: &[u8], sink: &mut Sink) {
        let may = self.sps.is_none_or(|sps| sps.may_reorder());
        let was = self.reordered;
        if start && self.changed {
            // With B-frames the first picture waits for those that overtake it; without, it need not.
            self.reordered = may && composition > 0;
            self.latest = None;
        }
        let back = self.latest.is_some_and(|latest| pts < latest);
        self.latest = self.latest.max(Some(pts));
        self.reordered |= back || (may && h264::has_b_slices(unit));
        let told = self.announced && (was != self.reordered || (start && self.changed));
        if start && !self.announced {
            self.announced = true;
            sink.event(Event::Track(self.track()));
        } else if told {
            sink.event(Event::TrackChanged(self.track()));
        }
        self.changed &= !start;
        if self.reordered && self.announced {
            sink.say(
                "b-frames",
                "the encoder sends B-frames, which browsers cannot show as they come: where they cannot be left \
                 out unseen, the picture is encoded anew while somebody watches in a browser. Without B-frames \
                 it is passed on untouched (OBS: max B-frames 0 or bframes=0; ffmpeg: -bf 0)",
            );
        }
    }

    fn track(&self) -> Track {
        let mut parameters = Map::new();
        parameters.insert("packetization-mode".to_owned(), Value::from(1));
        parameters.insert("level-asymmetry-allowed".to_owned(), Value::from(1));
        if let Some(config) = &self.config {
            parameters.insert("profile-level-id".to_owned(), Value::from(config.profile_level_id()));
        }
        Track {
            id: VIDEO_TRACK,
            kind: Kind::Video,
            codec: RtpCodec { parameters, ..fact("video/H264", 96, 90_000, None) },
            config: Vec::new(),
            reordered: self.reordered,
        }
    }
}
