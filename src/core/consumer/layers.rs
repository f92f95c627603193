//! Which layer of its source a consumer gets: what its receiver prefers, what was chosen for it, and the change
//! from one stream of a simulcast to another.
//!
//! The stream in use runs until the other has a keyframe whose packets are all there and a picture has just ended,
//! so that the receiver sees no break. Only where the stream in use is dead does an older group do.

use std::time::Duration;

use serde_json::{Value, json};

use crate::core::consumer::cursor::Start;
use crate::core::consumer::{Consumer, Output};
use crate::core::producer::{Producer, Rung, Stream};
use crate::core::profile::Profile;
use crate::core::rtp::layers::Layer;
use crate::core::time::MediaTime;

/// A group younger than this is fit to change over to: so much is sent at once, and shown at once.
const FRESH: Duration = Duration::from_millis(500);
/// So long the change waits for the end of a picture.
const PATIENCE: Duration = Duration::from_millis(100);

/// A receiver whose score is lower loses more than it can do without.
const HEALTHY: u8 = 7;

/// What a receiver wants at most.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Preference {
    /// The highest picture size, by number.
    pub spatial: Option<u8>,
    /// The highest frame rate, by number.
    pub temporal: Option<u8>,
    /// The highest profile; `default` for any.
    pub profile: Profile,
}

impl Preference {
    /// Whether a rung of `source` is within it.
    pub fn allows(&self, source: &Producer, rung: &Rung) -> bool {
        let within = |most: Option<u8>, of: u8| most.is_none_or(|most| of <= most);
        let profile = self.profile == Profile::Default || source.profile(rung.stream) <= self.profile;
        within(self.spatial, rung.spatial) && within(self.temporal, rung.temporal) && profile
    }
}

/// What a consumer reads, or shall read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Choice {
    /// Which stream of its source.
    pub stream: usize,
    /// Up to which layer of that.
    pub layer: Layer,
}

impl Default for Choice {
    fn default() -> Self {
        Choice { stream: 0, layer: Layer::TOP }
    }
}

/// What was told of a consumer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    effective: Option<Choice>,
    profile: Option<Profile>,
    score: Option<(u8, u8)>,
}

/// Something to tell of a consumer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LayerNews {
    /// Another profile of its source reaches the receiver.
    Profile(Profile),
    /// Other layers do: picture size and frame rate by number; none.
    Layers(Option<(u8, u8)>),
    /// Its score, and that of the stream it reads.
    Score(u8, u8),
}

/// The numbers of what a consumer gets: picture size and frame rate.
fn numbers(source: &Producer, choice: Choice) -> (u8, u8) {
    let of_it = |rung: &&Rung| rung.stream == choice.stream && choice.layer.covers(rung.layer);
    let top = source.rungs().iter().rev().find(of_it);
    top.map_or((source.rank(choice.stream), 0), |rung| (rung.spatial, rung.temporal))
}

impl Consumer {
    /// What has become of what it gets since it was asked last.
    pub fn layer_news(&mut self, source: Option<&Producer>, mut tell: impl FnMut(LayerNews)) {
        let effective = source.filter(|_| self.is_active()).and_then(|_| self.effective());
        let profile = self.effective_profile(source);
        if self.told.profile.unwrap_or(Profile::None) != profile {
            tell(LayerNews::Profile(profile));
        }
        if self.told.effective != effective && source.is_none_or(Producer::is_layered) {
            tell(LayerNews::Layers(source.zip(effective).map(|(source, choice)| numbers(source, choice))));
        }
        (self.told.profile, self.told.effective) = (Some(profile), effective);
    }

    /// What it prefers, what was chosen for it and what it gets, for its dump.
    pub(super) fn layers_dump(&self, source: Option<&Producer>) -> Value {
        let named = |choice: Option<Choice>| {
            let (spatial, temporal) = source.zip(choice).map(|(source, choice)| numbers(source, choice))?;
            Some(json!({"spatialLayer": spatial, "temporalLayer": temporal}))
        };
        json!({
            "preferred": {"spatialLayer": self.preference.spatial, "temporalLayer": self.preference.temporal},
            "target": named(Some(self.target)),
            "current": named(self.effective()),
        })
    }

    /// Whether its score, or that of the stream it reads, has changed since it was asked last.
    pub fn score_news(&mut self, source: &Producer) -> Option<LayerNews> {
        let score = (self.score(), source.score(self.stream));
        (self.told.score.replace(score) != Some(score)).then_some(LayerNews::Score(score.0, score.1))
    }

    /// How well the receiver gets its stream, from 0 to 10.
    pub fn score(&self) -> u8 {
        match &self.output {
            Output::Rtp(output) => output.score().value(),
            _ => 10,
        }
    }

    /// The profile that reaches the receiver.
    pub fn effective_profile(&self, source: Option<&Producer>) -> Profile {
        let flowing = source.filter(|_| self.is_active()).zip(self.effective());
        flowing.map_or(Profile::None, |(source, choice)| source.profile(choice.stream))
    }

    /// The rungs of its source it may be put on, the lowest first: those its receiver wants and takes, of streams
    /// that have flowed for a while unless it has nothing yet. There is always one where the source has any.
    pub fn ladder(&self, source: &Producer, settled: impl Fn(usize) -> bool) -> Vec<Rung> {
        let rungs = source.rungs();
        let wanted = match self.preference.profile {
            Profile::Default => Preference { profile: source.preferred, ..self.preference },
            _ => self.preference,
        };
        let most = self.parameters.encodings.first().and_then(|encoding| encoding.max_bitrate);
        let begun = self.effective().is_some();
        let fits = |rung: &&Rung| {
            let known = !begun || rung.stream == self.target.stream || settled(rung.stream);
            let readable = rung.layer.spatial == 0 || rung.layer == Layer::TOP || self.reads_sizes(source);
            known && readable && wanted.allows(source, rung) && most.is_none_or(|most| rung.bitrate <= most)
        };
        let fitting: Vec<Rung> = rungs.iter().filter(fits).copied().collect();
        if fitting.is_empty() { rungs.first().copied().into_iter().collect() } else { fitting }
    }

    fn reads_sizes(&self, source: &Producer) -> bool {
        let Output::Rtp(output) = &self.output else { return true };
        source.formats.iter().all(|format| output.reads_sizes(format.kind))
    }

    /// Where on `rungs` it is by what was chosen for it, and whether that is gone: then it is on the next lower one.
    pub fn place_on(&self, source: &Producer, rungs: &[Rung]) -> (Option<usize>, bool) {
        if self.effective().is_none() {
            return (None, false);
        }
        let within = |rung: &Rung| rung.stream == self.target.stream && self.target.layer.covers(rung.layer);
        if let Some(at) = rungs.iter().rposition(within) {
            return (Some(at), false);
        }
        let rank = source.rank(self.target.stream);
        (Some(rungs.iter().rposition(|rung| source.rank(rung.stream) < rank).unwrap_or(0)), true)
    }

    /// Whether its receiver's reports show no loss that counts.
    pub fn is_healthy(&self) -> bool {
        self.score() >= HEALTHY
    }

    /// What was chosen for it.
    pub fn target(&self) -> Choice {
        self.target
    }

    /// What it gets; nothing while nothing flows.
    pub fn effective(&self) -> Option<Choice> {
        if self.cursor.is_waiting() {
            return None;
        }
        let layer = match &self.output {
            Output::Rtp(output) => output.filter().current(),
            _ => Layer::TOP,
        };
        Some(Choice { stream: self.stream, layer })
    }

    /// Chooses what it shall get of its source. It goes over as soon as it can.
    pub fn choose(&mut self, source: &Producer, choice: Choice, now: MediaTime) {
        self.target = choice;
        if self.cursor.is_waiting() && self.stream != choice.stream {
            // Nothing is being seen yet.
            self.stream = choice.stream;
            self.cursor.reseat(self.stream_of(source).map_or(0, |stream| stream.store.head()));
        }
        let Output::Rtp(output) = &mut self.output else { return };
        if choice.stream == self.stream {
            output.set_target(choice.layer);
        } else if source.rank(choice.stream) < source.rank(self.stream) {
            output.give_way(now);
        } else if output.gives_way() {
            output.set_target(Layer::TOP);
        }
    }

    /// The stream whose keyframe it needs to get what was chosen for it, if it does.
    pub(super) fn wants_change(&self, source: &Producer) -> Option<usize> {
        if self.target.stream == self.stream {
            let stuck = matches!(&self.output, Output::Rtp(output) if output.filter().needs_keyframe());
            return stuck.then_some(self.stream);
        }
        let next = source.streams.get(self.target.stream)?;
        let fresh = next.store.keyframe_age().is_some_and(|age| age < FRESH.as_micros() as i64);
        (!fresh && next.is_flowing()).then_some(self.target.stream)
    }

    /// Goes over to the stream that was chosen, if that can be done now.
    pub(super) fn change_stream(&mut self, source: &Producer, now: MediaTime) -> bool {
        if self.target.stream == self.stream {
            return false;
        }
        let Some(next) = source.streams.get(self.target.stream) else { return false };
        if self.cursor.is_waiting() {
            return false;
        }
        let Some(start) = self.change_at(source, next, now) else { return false };
        if let Output::Rtp(output) = &mut self.output
            && !output.sync(source, self.target, &start)
        {
            return false;
        }
        if let Output::Frames(output) = &mut self.output {
            output.restart();
        }
        self.stream = self.target.stream;
        self.cursor.begin_at(&start, now);
        true
    }

    /// Where reading of the next stream begins, if it may now.
    fn change_at(&self, source: &Producer, next: &Stream, now: MediaTime) -> Option<Start> {
        let key = next.store.keyframe()?;
        let age = now.micros_since(next.store.meta(key)?.arrival);
        let dead = source.streams.get(self.stream).is_none_or(|stream| !stream.is_flowing());
        let between = match &self.output {
            Output::Rtp(output) => output.is_between_pictures(),
            _ => true,
        };
        let fit = dead || (age < FRESH.as_micros() as i64 && (between || age > PATIENCE.as_micros() as i64));
        (fit && next.store.is_frame_whole(key)).then(|| Start::survey(&next.store, key))?
    }
}
