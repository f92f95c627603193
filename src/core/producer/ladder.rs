//! What a track has to offer: which of its streams flow, in which order they stand, and the *rungs* of the ladder
//! of qualities that a receiver can be put on, the lowest first.
//!
//! A stream is there from its first packet on. It is gone when it has been silent for a while in which others of
//! the track went on, and back with its next packet. A stream that its source has stopped because nobody wanted
//! it ([`Stream::wanted`]) is still offered.

use std::time::Duration;

use serde_json::{Value, json};

use crate::core::producer::{Producer, Stream};
use crate::core::profile::Profile;
use crate::core::rtp::layers::{Layer, LayerSet};
use crate::core::time::MediaTime;

/// How a track's streams come and go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FlowLimits {
    /// A stream that was silent for so long while another went on is gone.
    pub silence: Duration,
    /// A stream that nobody wanted for so long may be stopped by its source.
    pub unwanted: Duration,
    /// A stream that is wanted again and does not come for so long is gone.
    pub revival: Duration,
}

/// Frames another stream must have sent meanwhile: one that shows a page once a second is not silent.
const QUIET_FRAMES: u32 = 5;

/// What a source may send above what its streams took that are wanted, in percent.
const WANTED_MARGIN: u64 = 20;

/// Pictures per second below which a larger size is not worth what it takes.
const FLUID: u64 = 6;

/// The score of a stream of which nothing bad is known.
pub(super) const PERFECT: u8 = 10;

/// One step of the ladder.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rung {
    /// Which stream.
    pub stream: usize,
    /// Up to which of its layers.
    pub layer: Layer,
    /// The number of its picture size, as it is told: 0 is the smallest.
    pub spatial: u8,
    /// The number of its frame rate, as it is told.
    pub temporal: u8,
    /// Bits per second.
    pub bitrate: u64,
}

/// What streams are sorted by, where it is known.
type Key<'a> = &'a dyn Fn(&usize) -> Option<u64>;

/// Whether a stream flows.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    /// It can be chosen.
    pub there: bool,
    frames: u32,
    ticked_frames: u32,
    /// Frames that others sent while it was silent.
    missed: u32,
    newest: Option<u64>,
    heard: MediaTime,
    /// Since when it flows without a break.
    pub since: MediaTime,
    wanted: bool,
    /// When it was wanted last.
    wish: MediaTime,
    /// When it was wanted again although it did not flow.
    revived: Option<MediaTime>,
    pub bitrate: u64,
    /// The highest rate it had.
    most: u64,
}

impl Flow {
    pub fn new() -> Self {
        Flow {
            there: false,
            frames: 0,
            ticked_frames: 0,
            missed: 0,
            newest: None,
            heard: MediaTime::default(),
            since: MediaTime::default(),
            wanted: true,
            wish: MediaTime::default(),
            revived: None,
            bitrate: 0,
            most: 0,
        }
    }

    /// A packet came. Answers whether the stream is back, or there for the first time.
    pub fn note(&mut self, timestamp: u64, now: MediaTime) -> bool {
        if self.newest.is_none() {
            self.wish = now;
        }
        if self.newest != Some(timestamp) {
            self.newest = Some(timestamp);
            self.frames = self.frames.wrapping_add(1);
        }
        self.heard = now;
        let back = !self.there;
        if back {
            (self.there, self.since, self.missed, self.revived) = (true, now, 0, None);
        }
        back
    }

    /// Whether it can be chosen: it flows, or its source stopped it because nobody wanted it.
    fn is_offered(&self, now: MediaTime, limits: &FlowLimits) -> bool {
        let reviving =
            self.revived.is_some_and(|at| now.micros_since(at) < limits.revival.as_micros() as i64);
        self.there || (self.newest.is_some() && (!self.wanted || reviving))
    }
}

impl Producer {
    /// Whether it has several streams, or layers within its stream.
    pub fn is_layered(&self) -> bool {
        self.streams.len() > 1 || self.streams.iter().any(Stream::is_layered)
    }

    /// Whether there are pictures of several sizes to choose from.
    pub fn has_sizes(&self) -> bool {
        self.streams.len() > 1 || self.rungs.iter().any(|rung| rung.spatial > 0)
    }

    /// Bits a second of a stream, up to one of its layers.
    pub fn bitrate(&self, stream: usize, layer: Layer) -> u64 {
        self.streams.get(stream).map_or(0, |stream| stream.meter.bitrate_to(layer))
    }

    /// What can be chosen now, the lowest first; empty where nothing has come. Renewed by [`Producer::tick`].
    pub fn rungs(&self) -> &[Rung] {
        &self.rungs
    }

    /// The stream's place among the streams, by the size of their pictures: 0 is the smallest.
    pub fn rank(&self, stream: usize) -> u8 {
        self.order.iter().position(|at| *at == stream).and_then(|rank| u8::try_from(rank).ok()).unwrap_or(0)
    }

    /// The profile of a stream: as its publisher says, else by its place.
    pub fn profile(&self, stream: usize) -> Profile {
        if self.streams.len() == 1 {
            return Profile::Default;
        }
        let declared = self.parameters.encodings.get(stream).and_then(|encoding| encoding.profile);
        declared.unwrap_or_else(|| Profile::of_layer(self.rank(stream), self.order.len() as u8))
    }

    /// How well a stream gets through to us, from 0 to 10; 0 for one that has ceased to flow.
    pub fn score(&self, stream: usize) -> u8 {
        self.streams.get(stream).map_or(0, Stream::score)
    }

    /// The score of each stream.
    pub fn scores(&self) -> Vec<u8> {
        (0..self.streams.len()).map(|at| self.score(at)).collect()
    }

    /// The scores of its streams, where one has changed since this was asked last.
    pub fn score_news(&mut self) -> Option<Value> {
        if self.streams.iter().all(|stream| stream.told == stream.score()) {
            return None;
        }
        self.streams.iter_mut().for_each(|stream| stream.told = stream.score());
        let entry = |(at, stream): (usize, &Stream)| {
            let mut entry = self.encoding_name(at);
            entry["score"] = json!(stream.told);
            entry
        };
        Some(json!({"scores": self.streams.iter().enumerate().map(entry).collect::<Vec<_>>()}))
    }

    /// Bits a second that its streams take which somebody wants, with some room; `None` where all are wanted.
    pub fn wanted_bitrate(&self) -> Option<u64> {
        if self.streams.iter().all(Stream::is_wanted) {
            return None;
        }
        let wanted: u64 =
            self.streams.iter().filter(|stream| stream.is_wanted()).map(|stream| stream.flow.most).sum();
        Some(wanted + wanted * WANTED_MARGIN / 100)
    }

    /// Which of its streams its source should send.
    pub fn wanted(&self) -> Vec<Value> {
        let entry = |(at, stream): (usize, &Stream)| {
            let mut entry = self.encoding_name(at);
            entry["wanted"] = json!(stream.is_wanted());
            entry
        };
        self.streams.iter().enumerate().map(entry).collect()
    }

    fn encoding_name(&self, at: usize) -> Value {
        let mut entry = json!({"encodingIdx": at});
        if let Some(ssrc) = self.streams.get(at).and_then(|stream| stream.reception.as_ref()?.ssrc) {
            entry["ssrc"] = json!(ssrc);
        }
        if let Some(rid) =
            self.parameters.encodings.get(at).and_then(|encoding| encoding.encoding_id.as_ref())
        {
            entry["rid"] = json!(rid);
        }
        entry
    }

    /// Time has passed: looks who still flows and how much. Answers whether a receiver may have to be put on
    /// another rung because a stream came or went.
    pub fn tick(&mut self, now: MediaTime, limits: &FlowLimits) -> bool {
        let frames: Vec<u32> = self.streams.iter_mut().map(|stream| stream.flow.take_frames()).collect();
        let most = frames.iter().copied().max().unwrap_or(0);
        let mut news = std::mem::take(&mut self.news);
        for (stream, frames) in self.streams.iter_mut().zip(frames) {
            stream.meter.tick(now);
            news |= stream.flow.judge(frames, most, now, limits);
            // While nothing comes the rate is the last that was.
            if frames > 0 {
                stream.flow.bitrate = stream.meter.bitrate();
                let known = stream.meter.is_known();
                stream.flow.most = stream.flow.most.max(if known { stream.flow.bitrate } else { 0 });
            }
        }
        if self.is_layered() {
            self.order = self.sorted();
            self.rungs = self.make_rungs(now, limits);
        }
        news
    }

    /// Says for each stream whether somebody wants it. Answers whether what the source should send has changed.
    pub fn set_wanted(
        &mut self,
        wanted: impl Fn(usize) -> bool,
        now: MediaTime,
        limits: &FlowLimits,
    ) -> bool {
        let lowest = self.order.first().copied();
        let mut changed = false;
        for (at, stream) in self.streams.iter_mut().enumerate() {
            // The lowest stays, so that whoever comes next sees something at once.
            let wish = wanted(at) || Some(at) == lowest;
            changed |= stream.flow.wish(wish, now, limits);
        }
        changed
    }

    fn make_rungs(&self, now: MediaTime, limits: &FlowLimits) -> Vec<Rung> {
        let mut rungs = Vec::new();
        for (rank, &at) in self.order.iter().enumerate() {
            let Some(stream) = self.streams.get(at).filter(|stream| stream.flow.is_offered(now, limits))
            else {
                continue;
            };
            // Of a stream that has just come nobody knows what it takes: whoever waits gets the lowest.
            if stream.flow.there && !stream.meter.is_known() && !rungs.is_empty() {
                continue;
            }
            let several = self.streams.len() > 1;
            let layers = stream.meter.layers();
            if layers.is_empty() {
                let (spatial, bitrate) = (rank as u8, stream.flow.bitrate);
                rungs.push(Rung { stream: at, layer: Layer::TOP, spatial, temporal: 0, bitrate });
            }
            for layer in layers.iter() {
                // Of several streams each is one picture size, whatever layers it has within.
                let spatial = if several { rank as u8 } else { layer.spatial };
                let bitrate = stream.meter.bitrate_to(layer);
                let fluid = stream.meter.frame_rate_to(layer).is_none_or(|rate| rate >= FLUID);
                // A small picture that moves is better than a large one that does not.
                if fluid || spatial == 0 || layer.temporal == top(layers, layer.spatial) {
                    rungs.push(Rung { stream: at, layer, spatial, temporal: layer.temporal, bitrate });
                }
            }
        }
        worthwhile(rungs)
    }

    /// The streams in order of quality: by their profiles, else by the size of their pictures, else by what was
    /// declared of them, else as they are listed.
    fn sorted(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.streams.len()).collect();
        let declared = |at: &usize| self.parameters.encodings.get(*at);
        let keys: [Key<'_>; 4] = [
            &|at| Some(declared(at)?.profile? as u64),
            &|at| self.streams.get(*at)?.area(),
            // A picture that is less scaled down is larger.
            &|at| Some(u64::MAX - (declared(at)?.resolution_scale? * 1000.0) as u64),
            &|at| declared(at)?.max_bitrate,
        ];
        for key in keys {
            let values: Vec<_> = order.iter().map(key).collect();
            let known: Vec<_> = values.iter().flatten().collect();
            if known.len() == values.len() && known.iter().any(|value| **value != *known[0]) {
                order.sort_by_key(key);
                return order;
            }
            // Some are known and fall: then the list begins with the largest.
            if known.len() > 1 && known.is_sorted_by(|a, b| a > b) {
                order.reverse();
                return order;
            }
        }
        order
    }
}

/// The highest frame rate of a picture size.
fn top(layers: LayerSet, spatial: u8) -> u8 {
    let of_it = layers.iter().filter(|layer| layer.spatial == spatial);
    of_it.map(|layer| layer.temporal).max().unwrap_or(0)
}

/// Without the low frame rates of a picture that cost no more than the full rate of the next smaller one.
fn worthwhile(rungs: Vec<Rung>) -> Vec<Rung> {
    let smaller = |rung: &Rung| rungs.iter().rev().find(|other| other.spatial < rung.spatial);
    let is_full = |rung: &Rung| {
        rungs.iter().all(|other| other.spatial != rung.spatial || other.temporal <= rung.temporal)
    };
    let pays = |rung: &&Rung| is_full(rung) || smaller(rung).is_none_or(|other| rung.bitrate > other.bitrate);
    rungs.iter().filter(pays).copied().collect()
}

impl Stream {
    /// Whether its frames are of several layers.
    pub fn is_layered(&self) -> bool {
        self.layered
    }

    /// Whether it can be seen by somebody who is put on it now.
    pub fn is_flowing(&self) -> bool {
        self.flow.there
    }

    pub(super) fn score(&self) -> u8 {
        if !self.flow.there && self.flow.newest.is_some() {
            return 0;
        }
        self.reception.as_ref().map_or(PERFECT, |reception| reception.score.value())
    }

    /// Bits a second that flow in it, or last did.
    pub fn bitrate(&self) -> u64 {
        self.flow.bitrate
    }

    /// Since when it flows without a break.
    pub fn flowing_since(&self) -> MediaTime {
        self.flow.since
    }

    /// Whether anybody wants it.
    pub fn is_wanted(&self) -> bool {
        self.flow.wanted
    }

    fn area(&self) -> Option<u64> {
        let (width, height) = self.dimensions?;
        Some(u64::from(width) * u64::from(height))
    }
}

impl Flow {
    fn take_frames(&mut self) -> u32 {
        let since = self.frames.wrapping_sub(self.ticked_frames);
        self.ticked_frames = self.frames;
        since
    }

    /// Judges by the frames it and the busiest of its fellows sent since the last time. Answers whether it is
    /// gone now.
    fn judge(&mut self, frames: u32, most: u32, now: MediaTime, limits: &FlowLimits) -> bool {
        self.missed = if frames > 0 { 0 } else { self.missed.saturating_add(most) };
        let silent = now.micros_since(self.heard) >= limits.silence.as_micros() as i64;
        let gone = self.there && silent && self.missed >= QUIET_FRAMES;
        self.there &= !gone;
        gone
    }

    /// Somebody wants it, or nobody. Answers whether that is news for its source.
    fn wish(&mut self, wanted: bool, now: MediaTime, limits: &FlowLimits) -> bool {
        let idle = now.micros_since(self.wish) >= limits.unwanted.as_micros() as i64;
        let news = match (self.wanted, wanted) {
            (true, false) => idle,
            (false, true) => true,
            _ => false,
        };
        if wanted {
            self.wish = now;
        }
        if news {
            self.wanted = wanted;
            self.revived = (wanted && !self.there).then_some(now);
        }
        news
    }
}
