//! A consumer: one track out of a router, towards one receiver, whose source may change under it.
//!
//! It reads its producer's store with a cursor at the moment of sending. What becomes of the packets
//! is the output's business, one file each: `rtp` seals them for a WebRTC receiver, `frames` puts them
//! together for a bridge job, `pipe` carries them to another router.

mod allocation;
mod climb;
mod cursor;
mod frames;
mod history;
mod layers;
mod pictures;
mod pipe;
mod rtp;
mod sequence;
mod timeline;
mod tones;

use serde_json::{Value, json};

use crate::core::capabilities::{Kind, RtpParameters};
use crate::core::id::{ConnId, ConsumerId, TransportId};
use crate::core::producer::{Input, Producer, Stream};
use crate::core::rtp::rtcp::ReportBlock;
use crate::core::time::MediaTime;

pub use allocation::{Ascent, Wish, allocate};
pub use climb::{Climb, ClimbLimits};
pub use cursor::Cursor;
pub use frames::FrameOutput;
use layers::Told;
pub use layers::{Choice, LayerNews, Preference};
pub use pipe::PipeOutput;
pub use rtp::{RtpOutput, Seal, Sink};

/// Bounds and pace of replaying a cached group to somebody who joins.
#[derive(Clone, Copy, Debug)]
pub struct ReplayLimits {
    /// Pace of a replay in bits per second.
    pub bitrate: u64,
    /// Shortest time between two replays to one receiver whose decoder lost its picture.
    pub interval: std::time::Duration,
    /// A picture that has waited for longer for a path that takes no more is left out, and all up to a keyframe.
    pub max_wait: std::time::Duration,
}

/// How a consumer's turn ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Progress {
    /// Nothing is left to send now.
    Drained,
    /// The batch (or lane) is full: send it and come back.
    Full,
    /// Catching up is paced: come back then.
    Paced(MediaTime),
}

/// Where a consumer's packets go; nowhere before `consumer.enable`.
pub enum Output {
    /// Not enabled yet.
    None,
    /// A WebRTC receiver.
    Rtp(Box<RtpOutput>),
    /// A bridge job.
    Frames(FrameOutput),
    /// Another router.
    Pipe(PipeOutput),
}

/// See the module.
pub struct Consumer {
    /// Its id in the control protocol.
    pub id: ConsumerId,
    /// Whose it is.
    pub conn: ConnId,
    /// Sound or picture.
    pub kind: Kind,
    /// Key of its transport within the router, once enabled.
    pub transport: Option<usize>,
    /// Key of its source within the router.
    pub producer: Option<usize>,
    /// Where its packets go.
    pub output: Output,
    /// Made for one producer, with which it ends; a program consumer outlives its sources.
    pub bound: bool,
    /// Its receiver asked for this very track, and is told which layers of it arrive, and how well.
    pub reports: bool,
    /// Paused by its receiver's side.
    pub paused: bool,
    /// What it was enabled with.
    pub parameters: RtpParameters,
    cursor: Cursor,
    /// What its receiver wants at most.
    pub preference: Preference,
    /// How much it counts among the consumers of its transport when they cannot all have what they want: 1 to 255.
    pub priority: u8,
    /// Which of its source's streams it reads.
    stream: usize,
    /// What was chosen for it.
    target: Choice,
    /// When it went up and down.
    pub climb: Climb,
    told: Told,
    replayed: Option<MediaTime>,
    /// It begins with a keyframe made for it where its source can be asked for one, rather than with a group that has
    /// been going on for long: it has a picture to bridge the wait, or its path is narrow.
    pub fresh: bool,
}

/// A group that began no longer ago is as good as a fresh keyframe, in microseconds.
const FRESH: i64 = 500_000;

impl Consumer {
    /// A consumer that is not enabled yet.
    pub fn new(id: ConsumerId, conn: ConnId, kind: Kind) -> Self {
        Consumer {
            id,
            conn,
            kind,
            transport: None,
            producer: None,
            output: Output::None,
            bound: false,
            reports: false,
            paused: false,
            parameters: RtpParameters::default(),
            cursor: Cursor::new(),
            preference: Preference::default(),
            priority: 1,
            stream: 0,
            target: Choice::default(),
            climb: Climb::default(),
            told: Told::default(),
            replayed: None,
            fresh: false,
        }
    }

    /// Gives it another source, or none. What comes next continues the stream.
    pub fn set_producer(&mut self, key: Option<usize>, source: Option<&Producer>) {
        self.fresh |= self.producer.is_some() && key.is_some();
        self.producer = key;
        (self.target, self.climb) = (Choice::default(), Climb::default());
        self.restart(source, true);
    }

    /// The stream of `source` that it reads.
    pub fn stream_of<'s>(&self, source: &'s Producer) -> Option<&'s Stream> {
        source.streams.get(self.stream)
    }

    /// Begins anew at the source: with `replay` from its cached group, else from its next keyframe.
    pub fn restart(&mut self, source: Option<&Producer>, replay: bool) {
        self.stream = self.target.stream;
        let replay = replay && !source.is_some_and(|source| self.waits_for_fresh(source));
        let head = source.and_then(|source| self.stream_of(source)).map_or(0, |stream| stream.store.head());
        self.cursor.restart(head, replay);
        match &mut self.output {
            Output::Rtp(output) => output.restart(),
            Output::Frames(output) => output.restart(),
            Output::Pipe(output) => output.restart(),
            Output::None => {}
        }
    }

    /// Whether a keyframe made for it is better than the cached group of `source`.
    fn waits_for_fresh(&self, source: &Producer) -> bool {
        let asked = matches!(source.input, Input::Rtp(_)) && self.fresh && self.kind == Kind::Video;
        let Some(stream) = self.stream_of(source).filter(|_| asked) else { return false };
        let old = stream.store.keyframe_age().is_some_and(|age| age > FRESH);
        old && !stream.keyframes.is_deaf()
    }

    /// No keyframe is made for it: the cached group will have to do. Answers whether it waited for one.
    pub fn take_cached(&mut self, source: &Producer) -> bool {
        let Some(stream) = self.stream_of(source).filter(|_| self.fresh && self.cursor.is_waiting()) else {
            return false;
        };
        let waits = stream.store.keyframe().is_some_and(|index| !self.cursor.would_take(index));
        if waits {
            self.cursor.restart(stream.store.head(), true);
        }
        waits
    }

    /// Whether packets can flow at all.
    pub fn is_active(&self) -> bool {
        !self.paused && self.producer.is_some() && !matches!(self.output, Output::None)
    }

    /// The stream of its source it needs a keyframe of that nobody has yet, if it does.
    pub fn wants_keyframe(&self, source: &Producer) -> Option<usize> {
        // Whoever reads at the far end of a pipe asks for what it needs.
        if self.kind != Kind::Video
            || source.paused
            || !self.is_active()
            || matches!(self.output, Output::Pipe(_))
        {
            return None;
        }
        if !self.cursor.is_waiting() {
            return self.wants_change(source);
        }
        let keyframe = self.stream_of(source)?.store.keyframe();
        keyframe.is_none_or(|index| !self.cursor.would_take(index)).then_some(self.stream)
    }

    /// Which stream of its source it reads.
    pub fn stream(&self) -> usize {
        self.stream
    }

    /// The receiver's decoder lost its picture of the stream `at` and the source cannot be asked for a keyframe:
    /// replays the cached group, at most once per interval. Answers whether it will.
    pub fn replay(&mut self, source: &Producer, at: usize, now: MediaTime, limits: &ReplayLimits) -> bool {
        let recent =
            self.replayed.is_some_and(|at| now.micros_since(at) < limits.interval.as_micros() as i64);
        let keyframe = source.streams.get(at).and_then(|stream| stream.store.keyframe());
        let piped = matches!(self.output, Output::Pipe(_));
        if recent || keyframe.is_none() || (self.cursor.is_waiting() && !piped) {
            return false;
        }
        match &mut self.output {
            Output::Pipe(output) => {
                output.restart_stream(at);
                self.replayed = Some(now);
            }
            _ => self.restart(Some(source), true),
        }
        true
    }

    /// One turn at a flush of its transport: keys being pressed for the receiver come before the source.
    pub fn take_turn(
        &mut self,
        source: Option<&Producer>,
        now: MediaTime,
        limits: &ReplayLimits,
        sink: &mut Sink<'_>,
    ) -> Progress {
        match (self.advance_tones(source, sink), source) {
            (Some(progress), _) => progress,
            (None, Some(source)) => self.advance(source, now, limits, Some(sink)),
            (None, None) => Progress::Drained,
        }
    }

    /// Sends `bytes` of padding, so that the path is loaded as a better picture would; answers what is missing.
    pub fn pad(&mut self, source: &Producer, bytes: usize, sink: &mut Sink<'_>) -> usize {
        match &mut self.output {
            Output::Rtp(output) if self.kind == Kind::Video => output.pad(source, bytes, sink),
            _ => bytes,
        }
    }

    /// Reads on and sends what may be sent now through `sink` (WebRTC), or into the output's lane.
    pub fn advance(
        &mut self,
        source: &Producer,
        now: MediaTime,
        limits: &ReplayLimits,
        sink: Option<&mut Sink<'_>>,
    ) -> Progress {
        if source.paused {
            return Progress::Drained;
        }
        let mut sink = sink;
        loop {
            let progress = self.read_on(source, now, limits, sink.as_deref_mut());
            if progress == Progress::Full || !self.change_stream(source, now) {
                return progress;
            }
        }
    }

    fn read_on(
        &mut self,
        source: &Producer,
        now: MediaTime,
        limits: &ReplayLimits,
        sink: Option<&mut Sink<'_>>,
    ) -> Progress {
        if !self.is_active() {
            return Progress::Drained;
        }
        if let Output::Pipe(output) = &mut self.output {
            return output.send(source, self.kind == Kind::Video, now);
        }
        let Some(stream) = source.streams.get(self.stream) else { return Progress::Drained };
        if !self.cursor.is_waiting() && self.cursor.at() < stream.store.tail() {
            // The receiver was held up for longer than the history lasts.
            self.restart(Some(source), false);
        }
        if self.cursor.is_waiting() {
            let Some(start) = self.cursor.begin(&stream.store, self.kind == Kind::Video, now) else {
                return Progress::Drained;
            };
            self.replayed = Some(now);
            if let Output::Rtp(output) = &mut self.output
                && !output.sync(source, self.target, &start)
            {
                self.restart(Some(source), true);
                return Progress::Drained;
            }
        }
        match (&mut self.output, sink) {
            (Output::Rtp(output), Some(sink)) => output.send(source, stream, &mut self.cursor, limits, sink),
            (Output::Frames(output), _) => output.send(source, stream, &mut self.cursor, now),
            _ => Progress::Drained,
        }
    }

    /// Nothing may be sent now: sound is left out, pictures wait for their next beginning.
    pub fn hold(&mut self, source: Option<&Producer>) {
        let head = source.and_then(|source| self.stream_of(source)).map_or(0, |stream| stream.store.head());
        if !self.cursor.is_waiting() || self.cursor.at() != head {
            self.restart(source, self.kind == Kind::Video);
        }
    }

    /// New keys protect the stream from now on.
    pub fn rekeyed(&mut self) {
        if let Output::Rtp(output) = &mut self.output {
            output.rekeyed();
        }
    }

    /// A report of the receiver about this stream.
    pub fn receiver_report(&mut self, report: &ReportBlock, now_ntp: u64) {
        if let Output::Rtp(output) = &mut self.output {
            output.receiver_report(report, now_ntp);
        }
    }

    /// Sequence numbers the receiver misses; what the store still has is sent again at the next flush.
    pub fn nack(&mut self, lost: impl Iterator<Item = u16>, source: Option<&Producer>) {
        let Output::Rtp(output) = &mut self.output else { return };
        let count = output.queue_resend(lost);
        if self.cursor.note_loss(count) {
            self.restart(source, false);
        }
    }

    /// `consumer.dump` of the v2 worker channel.
    pub fn dump(&self, source: Option<&Producer>) -> Value {
        let mut dump = json!({
            "consumerId": self.id,
            "kind": self.kind,
            "sourceProducerId": source.map(|source| source.id),
            "paused": self.paused,
            "sourcePaused": source.is_some_and(|source| source.paused),
            "preferredProfile": self.preference.profile,
            "effectiveProfile": self.effective_profile(source),
            "x.priority": self.priority,
            "x.layers": self.layers_dump(source),
        });
        if !matches!(self.output, Output::None) {
            dump["rtpParameters"] = json!(self.parameters);
        }
        if let Output::Rtp(output) = &self.output {
            dump["rtpStream"] = output.dump();
            dump["lossPercentage"] = json!(output.loss_percentage());
        }
        dump
    }

    /// `consumer.getStats`: nothing before enable, else the stream it is fed from, where that comes as RTP and
    /// is sent on, and its own; each with the transport it goes through.
    pub fn stats(
        &self,
        now: MediaTime,
        own: Option<TransportId>,
        source: Option<(&Producer, Option<TransportId>)>,
    ) -> Value {
        let Output::Rtp(output) = &self.output else { return json!([]) };
        let mut outbound = output.stats(self.id.0, self.kind, now);
        outbound["transportId"] = json!(own);
        let flowing = source.filter(|_| self.effective().is_some());
        let inbound = flowing.and_then(|(source, transport)| source.stats_of(self.stream(), transport, now));
        let Some(inbound) = inbound else { return json!([outbound]) };
        outbound["inboundRtpId"] = inbound["id"].clone();
        json!([inbound, outbound])
    }
}
