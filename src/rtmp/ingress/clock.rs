//! One clock per publisher: 32-bit milliseconds of the encoder become media time.
//!
//! Sound and picture share it, so they stay together for as long as the encoder counts evenly. The
//! anchor is set by the first frame: it is "now". A step beyond a limit means that the encoder began
//! to count anew; the other track may still send times of the old count for a moment, which therefore
//! keeps its anchor until the next step.

use std::time::Duration;

use crate::core::time::MediaTime;

/// An encoder's count from one anchor on.
#[derive(Clone, Copy, Debug)]
struct Count {
    /// The newest timestamp.
    timestamp: u32,
    /// What it is in media time.
    time: MediaTime,
}

impl Count {
    fn step(&self, timestamp: u32) -> i32 {
        timestamp.wrapping_sub(self.timestamp) as i32
    }

    fn at(&self, timestamp: u32) -> MediaTime {
        MediaTime(self.time.0.saturating_add(i64::from(self.step(timestamp)).saturating_mul(1000)))
    }
}

/// The clock.
#[derive(Debug)]
pub struct Clock {
    limit: Duration,
    count: Option<Count>,
    before: Option<Count>,
}

/// A time on the clock.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reading {
    /// The media time.
    pub time: MediaTime,
    /// The encoder stepped by this many milliseconds, and its clock was anchored anew.
    pub stepped: Option<i32>,
}

impl Clock {
    /// A clock that takes steps beyond `limit` for a new count.
    pub fn new(limit: Duration) -> Self {
        Clock { limit, count: None, before: None }
    }

    /// The media time of the message with `timestamp` that came at `now`.
    pub fn read(&mut self, timestamp: u32, now: MediaTime) -> Reading {
        let Some(count) = self.count else {
            self.count = Some(Count { timestamp, time: now });
            return Reading { time: now, stepped: None };
        };
        let time = count.at(timestamp);
        let limit = i64::try_from(self.limit.as_micros()).unwrap_or(i64::MAX);
        let near = |from: MediaTime, to: MediaTime| from.micros_since(to).saturating_abs() <= limit;
        // A pause of the encoder is no step: its clock went on as ours did.
        if near(time, count.time) || (time > count.time && near(time, now)) {
            self.count = Some(Count { timestamp, time });
            return Reading { time, stepped: None };
        }
        if let Some(before) = self.before {
            let time = before.at(timestamp);
            if near(time, before.time) {
                self.before = Some(Count { timestamp, time });
                return Reading { time, stepped: None };
            }
        }
        let time = now.max(MediaTime(count.time.0.saturating_add(1000)));
        self.before = Some(count);
        self.count = Some(Count { timestamp, time });
        Reading { time, stepped: Some(count.step(timestamp)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: i64) -> MediaTime {
        MediaTime::from_millis(millis)
    }

    fn clock() -> Clock {
        Clock::new(Duration::from_secs(10))
    }

    #[test]
    fn the_first_frame_is_now_and_the_count_wraps() {
        let mut clock = clock();
        assert_eq!(clock.read(u32::MAX - 9, ms(5000)).time, ms(5000));
        assert_eq!(clock.read(0, ms(5700)).time, ms(5010));
        assert_eq!(clock.read(u32::MAX - 4, ms(5700)).time, ms(5005));
        assert_eq!(clock.read(23, ms(5800)), Reading { time: ms(5033), stepped: None });
    }

    #[test]
    fn a_restarted_count_is_anchored_once_for_both_tracks() {
        let mut clock = clock();
        clock.read(100_000, ms(0));
        clock.read(101_000, ms(1000));
        let reading = clock.read(0, ms(1040));
        assert_eq!(reading, Reading { time: ms(1040), stepped: Some(-101_000) });
        // Sound that was under way still counts as before.
        assert_eq!(clock.read(101_020, ms(1050)), Reading { time: ms(1020), stepped: None });
        assert_eq!(clock.read(33, ms(1080)), Reading { time: ms(1073), stepped: None });
    }

    #[test]
    fn a_pause_is_no_step() {
        let mut clock = clock();
        clock.read(0, ms(0));
        assert_eq!(clock.read(60_000, ms(60_100)), Reading { time: ms(60_000), stepped: None });
        let reading = clock.read(200_000, ms(60_200));
        assert_eq!(reading, Reading { time: ms(60_200), stepped: Some(140_000) });
    }

    #[test]
    fn media_never_steps_back_on_a_new_anchor() {
        let mut clock = clock();
        clock.read(0, ms(0));
        for second in 1..=60 {
            clock.read(second * 1000, ms(100));
        }
        assert_eq!(clock.read(0, ms(200)).time, ms(60_001));
    }
}
