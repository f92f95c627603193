//! How loud the voices of a router are, told every half second (`audiolevels`): the mean of the levels that
//! each track's packets carry (RFC 6464). They are read out of the stores at the tick, so that a packet costs
//! nothing more when it comes, whatever it came as.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::core::capabilities::Kind;
use crate::core::message::Request;
use crate::core::producer::Producer;
use crate::core::rtp::extension::{ExtensionKind, audio_level};
use crate::core::time::MediaTime;
use crate::core::worker::Worker;
use crate::core::worker::control::field;

/// Between two events, and what each looks back upon.
const INTERVAL: Duration = Duration::from_millis(500);

impl Worker {
    /// `router.setAudioLevelsEvent`. Asked for what is so already, it says so at once and ticks on.
    pub(super) fn set_audio_levels(&mut self, now: Instant, request: &Request) -> Result<Value, String> {
        let key = self.router(request)?;
        let enabled: bool = field(&request.data, "enabled")?;
        let next = self.epoch.media_time(now) + INTERVAL;
        let space = self.spaces.get_mut(key).ok_or("Router does not exist")?;
        match (enabled, space.levels) {
            (true, None) => {
                space.levels = Some(next);
                self.level_ticks.insert((next, key));
            }
            (false, Some(_)) => self.forget_audio_levels(key),
            _ => {}
        }
        Ok(json!({}))
    }

    /// The router at `key` tells no levels any more.
    pub(super) fn forget_audio_levels(&mut self, key: usize) {
        if let Some(due) = self.spaces.get_mut(key).and_then(|space| space.levels.take()) {
            self.level_ticks.remove(&(due, key));
        }
    }

    /// When [`Worker::tell_audio_levels`] has something to tell.
    pub(super) fn next_audio_levels(&self) -> Option<Instant> {
        self.level_ticks.first().map(|(due, _)| self.epoch.instant(*due))
    }

    /// Tells the levels that are due.
    pub(super) fn tell_audio_levels(&mut self, now: MediaTime) {
        while let Some(&(due, key)) = self.level_ticks.first()
            && due <= now
        {
            self.level_ticks.pop_first();
            let Some(space) = self.spaces.get_mut(key) else { continue };
            // A worker that was held up does not make up for the ticks it missed.
            let next = if now < due + INTERVAL { due + INTERVAL } else { now + INTERVAL };
            space.levels = Some(next);
            self.level_ticks.insert((next, key));
            let producers = space.router.producers.iter();
            let mut levels: Vec<_> =
                producers.filter_map(|(_, producer)| Some((producer.id, level(producer, now)?))).collect();
            levels.sort_by_key(|(_, level)| std::cmp::Reverse(*level));
            let id = space.router.id.0;
            self.notify(id, "audiolevels", json!({"entries": levels}));
        }
    }
}

/// The mean level of what came within the interval, in dBov; `None` when no packet said any.
fn level(producer: &Producer, now: MediaTime) -> Option<i8> {
    if producer.kind != Kind::Audio || producer.paused {
        return None;
    }
    let store = &producer.streams.first()?.store;
    let fresh = |index: &u64| {
        let arrival = store.meta(*index).map(|meta| meta.arrival);
        arrival.is_none_or(|arrival| now.micros_since(arrival) < INTERVAL.as_micros() as i64)
    };
    let packets = (store.tail()..store.head()).rev().take_while(fresh);
    let (mut sum, mut count) = (0u32, 0u32);
    for index in packets {
        let element = store.get(index).and_then(|packet| packet.extension(ExtensionKind::AudioLevel));
        if let Some((_, below)) = element.and_then(audio_level) {
            (sum, count) = (sum + u32::from(below), count + 1);
        }
    }
    let mean = (sum + count / 2).checked_div(count)?;
    i8::try_from(mean).ok().map(|mean| -mean)
}
