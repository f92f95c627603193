//! The clock of one outgoing stream: maps the timestamps of whatever source feeds a consumer onto one
//! RTP timeline that never jumps back, whichever producers come and go behind it (RFC 3550 §5.1).
//!
//! Live packets keep their distance: `out = in + offset`, the offset chosen so that the timeline runs with
//! the router's media clock. A cached group of pictures is older than the live edge; its frames are laid
//! close together just before it, in order, so that a decoder runs through them and is then live:
//!
//! ```text
//! source   K........................................E L L L      E: newest frame at the join
//! out                                       K......E L L L       cached frames one step apart
//! ```

use crate::core::time::MediaTime;

/// Distance between the compressed timestamps of a cached group, at most: one millisecond.
const STEP_HZ: u32 = 1000;
/// How far a group that has no room may push the timeline ahead: thirty milliseconds.
const LEAD_HZ: u32 = 33;

/// See the module.
#[derive(Clone, Debug)]
pub struct Timeline {
    origin: u32,
    rate: u32,
    offset: u32,
    last: Option<u32>,
    cached: Option<Cached>,
}

/// A cached group that is being replayed.
#[derive(Clone, Copy, Debug)]
struct Cached {
    /// Input timestamp of the newest cached frame; what is newer is live.
    edge: u64,
    /// Output timestamp of the frame being sent.
    at: u32,
    step: u32,
    frame: Option<u64>,
}

impl Timeline {
    /// A timeline that begins at a random `origin`.
    pub fn new(origin: u32) -> Self {
        Timeline { origin, rate: 90_000, offset: 0, last: None, cached: None }
    }

    /// Joins a source of clock `rate` whose extended timestamp `edge` was captured at `time`; `frames`
    /// cached frames up to and including that one will be sent first (0 or 1: none but the edge).
    pub fn sync(&mut self, rate: u32, edge: u64, time: MediaTime, frames: u32) {
        if self.rate != rate {
            // Another clock: distances to what was sent before mean nothing (RFC 7160 §4.1).
            self.last = None;
        }
        self.rate = rate;
        let mut out_edge = time.to_ticks(rate).wrapping_add(self.origin);
        let behind = frames.saturating_sub(1);
        let mut step = (rate / STEP_HZ).max(1);
        if let Some(last) = self.last {
            let room = u32::try_from(ahead(last, out_edge)).unwrap_or(0);
            // A receiver that counts in milliseconds should not see one time twice; but not far ahead of the clock.
            let least = (rate / LEAD_HZ / frames.max(1)).clamp(1, step);
            step = (room / frames.max(1)).clamp(least, step);
            let first = out_edge.wrapping_sub(behind.wrapping_mul(step));
            if ahead(last, first) <= 0 {
                let needed = last.wrapping_add(1).wrapping_sub(first);
                out_edge = out_edge.wrapping_add(needed);
            }
        }
        self.offset = out_edge.wrapping_sub(edge as u32);
        self.cached = (behind > 0).then(|| Cached {
            edge,
            at: out_edge.wrapping_sub(behind.wrapping_mul(step)),
            step,
            frame: None,
        });
    }

    /// The output timestamp of a packet; packets come in the order of their frames, late ones excepted.
    pub fn map(&mut self, timestamp: u64) -> u32 {
        let live = (timestamp as u32).wrapping_add(self.offset);
        let out = match &mut self.cached {
            Some(cached) if timestamp < cached.edge => {
                if cached.frame.is_some_and(|frame| timestamp > frame) {
                    cached.at = cached.at.wrapping_add(cached.step);
                }
                cached.frame = Some(cached.frame.map_or(timestamp, |frame| frame.max(timestamp)));
                cached.at
            }
            cached => {
                *cached = None;
                live
            }
        };
        if self.last.is_none_or(|last| ahead(last, out) > 0) {
            self.last = Some(out);
        }
        out
    }

    /// The output timestamp that input `timestamp` has, or would have, on the live mapping: what sender
    /// reports state beside its capture time.
    pub fn live(&self, timestamp: u64) -> u32 {
        (timestamp as u32).wrapping_add(self.offset)
    }

    /// The output timestamp of the moment `time` where no source says otherwise; `rate` counts when none has
    /// ever been joined. What comes later does not fall behind it.
    pub fn at(&mut self, time: MediaTime, rate: u32) -> u32 {
        if self.last.is_none() {
            self.rate = rate;
        }
        let out = time.to_ticks(self.rate).wrapping_add(self.origin);
        self.note(out)
    }

    /// Takes note of a timestamp that was sent otherwise; answers it, or one just ahead of all before.
    pub fn note(&mut self, out: u32) -> u32 {
        let out = match self.last {
            Some(last) if ahead(last, out) <= 0 => last.wrapping_add(1),
            _ => out,
        };
        self.last = Some(out);
        out
    }

    /// Clock rate of the current source in Hz.
    pub fn rate(&self) -> u32 {
        self.rate
    }
}

/// How far `b` is ahead of `a` on the circle of 32-bit timestamps.
fn ahead(a: u32, b: u32) -> i32 {
    b.wrapping_sub(a) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_packets_keep_their_distance() {
        let mut line = Timeline::new(7);
        line.sync(90_000, 1_000_000, MediaTime::from_millis(2000), 1);
        assert_eq!(line.map(1_000_000), 180_007);
        assert_eq!(line.map(1_003_000), 183_007);
        assert_eq!(line.map(1_000_000), 180_007, "a late packet keeps its own time");
    }

    #[test]
    fn a_cached_group_is_laid_just_before_the_edge() {
        let mut line = Timeline::new(0);
        let frames: Vec<u64> = (0..240).map(|n| 5_000 + n * 3_000).collect();
        line.sync(90_000, frames[239], MediaTime::from_millis(10_000), 240);
        let out: Vec<u32> = frames.iter().flat_map(|&ts| [line.map(ts), line.map(ts)]).collect();
        assert_eq!(out[479], 900_000);
        assert_eq!(out[0], 900_000 - 239 * 90);
        assert!(out.chunks(2).all(|frame| frame[0] == frame[1]));
        assert!(out.chunks(2).collect::<Vec<_>>().windows(2).all(|w| w[0][0] < w[1][0]));
        assert_eq!(line.map(frames[239] + 3_000), 903_000);
    }

    #[test]
    fn a_switch_never_goes_back() {
        let mut line = Timeline::new(0);
        line.sync(90_000, 0, MediaTime::from_millis(1000), 1);
        line.map(0);
        let last = line.map(3_000);
        // The next source's clock is two seconds behind and brings a group of 100.
        line.sync(90_000, 900_000, MediaTime::from_millis(-1000), 100);
        let mut previous = last;
        for n in 0..100u64 {
            let out = line.map(900_000 - (99 - n) * 3_000);
            assert!(ahead(previous, out) > 0, "frame {n}");
            previous = out;
        }
        assert_eq!(line.map(903_000), line.live(903_000));
        assert!(ahead(previous, line.live(903_000)) > 0);
    }

    #[test]
    fn a_switch_with_room_squeezes_the_group_into_it() {
        let mut line = Timeline::new(0);
        line.sync(90_000, 0, MediaTime::from_millis(1000), 1);
        line.map(0);
        line.sync(90_000, 900_000, MediaTime::from_millis(1033), 240);
        let first = line.map(900_000 - 239 * 3_000);
        assert!(ahead(90_000, first) > 0);
        assert_eq!(line.live(900_000), MediaTime::from_millis(1033).to_ticks(90_000));
    }

    #[test]
    fn another_clock_rate_starts_anew() {
        let mut line = Timeline::new(0);
        line.sync(48_000, 0, MediaTime::from_millis(1000), 1);
        line.map(0);
        line.sync(8_000, 0, MediaTime::from_millis(1020), 1);
        assert_eq!(line.map(0), 8_160);
    }
}
