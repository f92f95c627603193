//! What flows in a stream: bit rates, of the whole and up to each layer, and which layers there are. A packet is a
//! few additions; time passes in [`Meter::tick`].

use crate::core::rtp::layers::{Layer, LayerFacts, LayerSet};
use crate::core::time::MediaTime;

/// Between two ticks that count, in microseconds.
const SLOT: i64 = 100_000;
/// Slots a rate is the mean of: two seconds, so that a keyframe does not look like a higher rate.
const SLOTS: usize = 20;

/// Slots after which a rate says something.
const KNOWN: usize = 5;

/// A rate over the last two seconds.
#[derive(Clone, Debug, Default)]
struct Rate {
    counting: u32,
    slots: [u32; SLOTS],
}

impl Rate {
    fn add(&mut self, bytes: usize) {
        self.counting = self.counting.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    fn turn(&mut self, at: usize) {
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = std::mem::take(&mut self.counting);
        }
    }

    fn bitrate(&self, slots: usize) -> u64 {
        let bytes: u64 = self.slots.iter().map(|slot| u64::from(*slot)).sum();
        bytes * 8 * 1_000_000 / (slots.max(1) as u64 * SLOT as u64)
    }
}

/// The layers of one stream.
#[derive(Clone, Debug)]
struct Layers {
    /// Bytes up to each layer, by its index.
    rates: [Rate; LayerSet::SIZE as usize],
    /// Frames of each spatial layer up to each layer.
    frames: [Rate; LayerSet::SIZE as usize],
    counting: LayerSet,
    seen: [LayerSet; SLOTS],
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter {
    all: Rate,
    layers: Option<Box<Layers>>,
    turned: Option<MediaTime>,
    at: usize,
    /// Slots that have been counted, up to all there are.
    filled: usize,
}

impl Meter {
    /// Counts a packet of `bytes`; `start`: the first of its frame.
    pub fn add(&mut self, bytes: usize, start: bool, facts: &LayerFacts) {
        self.all.add(bytes);
        if self.layers.is_none() && facts.is_layered() {
            let layers = Layers {
                rates: Default::default(),
                frames: Default::default(),
                counting: LayerSet::EMPTY,
                seen: [LayerSet::EMPTY; SLOTS],
            };
            self.layers = Some(Box::new(layers));
        }
        if let Some(layers) = &mut self.layers {
            layers.counting.insert(facts.layer);
            for layer in facts.needed.iter() {
                let at = usize::from(layer.index());
                layers.rates[at].add(bytes);
                layers.frames[at].add(usize::from(start && facts.layer.spatial == layer.spatial));
            }
        }
    }

    /// Closes the slots whose time is over.
    pub fn tick(&mut self, now: MediaTime) {
        let turned = *self.turned.get_or_insert(now);
        let due = (now.micros_since(turned) / SLOT).clamp(0, SLOTS as i64);
        for _ in 0..due {
            self.at = (self.at + 1) % SLOTS;
            self.filled = (self.filled + 1).min(SLOTS);
            self.all.turn(self.at);
            if let Some(layers) = &mut self.layers {
                layers.rates.iter_mut().for_each(|rate| rate.turn(self.at));
                layers.frames.iter_mut().for_each(|rate| rate.turn(self.at));
                layers.seen[self.at] = std::mem::take(&mut layers.counting);
            }
        }
        if due > 0 {
            let later = MediaTime(turned.0 + due * SLOT);
            self.turned = Some(if due == SLOTS as i64 { now } else { later });
        }
    }

    /// Whether it has counted for long enough to tell a rate.
    pub fn is_known(&self) -> bool {
        self.filled >= KNOWN
    }

    /// Bits per second of the whole stream.
    pub fn bitrate(&self) -> u64 {
        self.all.bitrate(self.filled)
    }

    /// Bits per second of all up to `layer`.
    pub fn bitrate_to(&self, layer: Layer) -> u64 {
        match &self.layers {
            Some(layers) => layers.rates[usize::from(layer.index())].bitrate(self.filled),
            None => self.bitrate(),
        }
    }

    /// Pictures per second of all up to `layer`, where the stream has layers.
    pub fn frame_rate_to(&self, layer: Layer) -> Option<u64> {
        let layers = self.layers.as_ref()?;
        Some(layers.frames[usize::from(layer.index())].bitrate(self.filled) / 8)
    }

    /// The layers its frames were of lately; none where it has no layers.
    pub fn layers(&self) -> LayerSet {
        let Some(layers) = &self.layers else { return LayerSet::EMPTY };
        LayerSet::of(|layer| layers.counting.has(layer) || layers.seen.iter().any(|seen| seen.has(layer)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_of_a_stream_with_two_frame_rates() {
        let mut meter = Meter::default();
        let facts = |temporal: u8| {
            let needed = LayerSet::of(|target| target.temporal >= temporal);
            LayerFacts { layer: Layer::new(0, temporal), needed, ..LayerFacts::default() }
        };
        meter.tick(MediaTime::from_millis(0));
        for step in 0..100 {
            meter.add(500, true, &facts((step % 2) as u8));
            meter.tick(MediaTime::from_millis(step * 50 + 50));
        }
        assert_eq!((meter.bitrate(), meter.bitrate_to(Layer::new(0, 0))), (80_000, 40_000));
        assert_eq!(meter.bitrate_to(Layer::TOP), 80_000);
        let frames = |temporal| meter.frame_rate_to(Layer::new(0, temporal));
        assert_eq!((frames(0), frames(1)), (Some(10), Some(20)));
        let layers: Vec<_> = meter.layers().iter().collect();
        assert_eq!(layers, [Layer::new(0, 0), Layer::new(0, 1)]);
        meter.tick(MediaTime::from_millis(60_000));
        assert_eq!((meter.bitrate(), meter.layers()), (0, LayerSet::EMPTY));
    }

    #[test]
    fn a_young_stream_has_the_rate_of_its_life() {
        let mut meter = Meter::default();
        meter.tick(MediaTime::from_millis(0));
        for step in 1..=5 {
            meter.add(1250, true, &LayerFacts::default());
            meter.tick(MediaTime::from_millis(step * 100));
        }
        assert_eq!((meter.bitrate(), meter.bitrate_to(Layer::TOP)), (100_000, 100_000));
    }
}
