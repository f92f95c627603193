//! The queue on the way to the receiver, while it stands: how long packets wait in it, and how fast they leave it.
//!
//! What arrives out of a queue that never empties arrives as fast as the path takes it. That tells within a tenth of
//! a second, and exactly, what a path has left that became narrow; the trend of the delay takes longer to be sure.

use crate::core::time::MediaTime;

/// A packet that waits less finds no queue, in microseconds.
const EMPTY: i64 = 10_000;
/// A packet that waits so long stands in one that does not drain by itself at once, in microseconds.
const STANDING: i64 = 30_000;
/// A queue is watched for so long before it says about how fast it drains, in microseconds, ...
const ROUGHLY: i64 = 50_000;
/// ... and before it says so for sure: a moment without radio looks like a slow path, too ...
const LEAST: i64 = 100_000;
/// ... and then anew, so that what is known of it is young.
const MOST: i64 = 300_000;
/// Packets that make a rough reading, and a sure one.
const PACKETS: (u32, u32) = (2, 3);
/// The shortest way is that of the last one or two of these, in microseconds: clocks drift, and routes change.
const EPOCH: i64 = 10_000_000;

/// Packets that arrived one after the other out of a queue.
#[derive(Clone, Copy, Debug)]
struct Run {
    began: i64,
    bytes: u64,
    packets: u32,
}

/// How fast a queue drains.
#[derive(Clone, Copy, Debug)]
pub struct Drained {
    /// Bits per second.
    pub bitrate: f64,
    /// It was watched for long enough.
    pub sure: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Queue {
    /// The shortest way of this epoch and of the one before, and when this one began, by the receiver's clock.
    shortest: Option<(i64, i64, i64)>,
    run: Option<Run>,
    drained: Option<Drained>,
    last: Option<i64>,
    waits: i64,
}

impl Queue {
    /// A packet of `bytes`, sent at `sent`, arrived at `arrived` (microseconds, receiver's clock).
    pub fn arrived(&mut self, sent: MediaTime, arrived: i64, bytes: u16) {
        let waits = self.waited(arrived - sent.as_micros(), arrived);
        let last = self.last.unwrap_or(i64::MIN);
        if arrived < last {
            return;
        }
        (self.last, self.waits) = (Some(arrived), waits);
        if waits < EMPTY {
            (self.run, self.drained) = (None, None);
            return;
        }
        // The queue began to work on it when the one before had left, and not before it was there.
        let run = self.run.get_or_insert(Run { began: last.max(arrived - waits), bytes: 0, packets: 0 });
        run.bytes += u64::from(bytes);
        run.packets += 1;
        let lasted = arrived - run.began;
        let sure = lasted >= LEAST && run.packets >= PACKETS.1;
        let known = self.drained.is_some_and(|drained| drained.sure);
        if sure || (!known && lasted >= ROUGHLY && run.packets >= PACKETS.0) {
            self.drained = Some(Drained { bitrate: run.bytes as f64 * 8e6 / lasted as f64, sure });
        }
        if sure && lasted >= MOST {
            self.run = Some(Run { began: arrived, bytes: 0, packets: 0 });
        }
    }

    /// What leaves the queue, while it stands.
    pub fn drained(&self) -> Option<Drained> {
        self.drained.filter(|_| self.waits >= STANDING)
    }

    /// Whether there was none to speak of for the newest packet.
    pub fn is_short(&self) -> bool {
        self.waits < STANDING
    }

    /// How long the newest packet waited, in microseconds.
    pub fn waits(&self) -> i64 {
        self.waits
    }

    /// By how much a way is longer than the shortest.
    fn waited(&mut self, way: i64, arrived: i64) -> i64 {
        let (mut now, mut before, mut began) = self.shortest.unwrap_or((way, way, arrived));
        if arrived - began > EPOCH {
            (before, now, began) = (now, way, arrived);
        }
        now = now.min(way);
        self.shortest = Some((now, before, began));
        way - now.min(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of four packets of 1,000 bytes at 30 a second over a path of `capacity`; what is read after each packet.
    fn frames(queue: &mut Queue, from: i64, count: i64, capacity: f64) -> Vec<(i64, Option<Drained>)> {
        let mut free = 0;
        let mut readings = Vec::new();
        for packet in 0..count * 4 {
            let sent = from + packet / 4 * 33_333;
            free = free.max(sent) + (8e9 / capacity) as i64;
            queue.arrived(MediaTime::from_micros(sent), free + 7_000_000, 1000);
            readings.push((free - from, queue.drained().filter(|drained| drained.sure)));
        }
        readings
    }

    #[test]
    fn a_path_that_became_narrow_is_known_within_a_few_frames() {
        let mut queue = Queue::default();
        assert!(frames(&mut queue, 0, 60, 20e6).iter().all(|(_, drained)| drained.is_none()));
        for capacity in [150e3, 500e3, 800e3] {
            let mut queue = Queue::default();
            frames(&mut queue, 0, 60, 20e6);
            let readings = frames(&mut queue, 2_000_000, 30, capacity);
            let (at, first) = *readings.iter().find(|(_, drained)| drained.is_some()).expect("a reading");
            assert!(at < 300_000, "after {at} us at {capacity}");
            let first = first.unwrap().bitrate;
            assert!((0.9..1.1).contains(&(first / capacity)), "{first} of {capacity}");
        }
    }

    #[test]
    fn a_keyframe_that_takes_long_is_no_standing_queue_once_it_is_through() {
        let mut queue = Queue::default();
        frames(&mut queue, 0, 60, 2e6);
        assert!(queue.drained().is_none());
        let mut free = 0;
        for _ in 0..24 {
            free += 4_000;
            queue.arrived(MediaTime::from_millis(2_000), 2_000_000 + free + 7_000_000, 1000);
        }
        frames(&mut queue, 2_133_333, 10, 2e6);
        assert!(queue.drained().is_none());
    }

    #[test]
    fn a_longer_way_is_the_shortest_after_a_while() {
        let mut queue = Queue::default();
        for milli in 0..30_000 {
            let way = if milli < 1_000 { 10_000 } else { 60_000 };
            queue.arrived(MediaTime::from_millis(milli), milli * 1000 + way, 100);
        }
        assert_eq!(queue.waits(), 0);
    }
}
